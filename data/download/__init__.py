"""Real archives: what there is, fetching, checking, laying out in the two folder formats."""
