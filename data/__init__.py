"""Where the images come from: simulators of both cohorts and readers of the public folder formats."""
