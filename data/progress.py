"""One progress bar for everything that takes a while."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(iterable: Iterable | None = None, description: str = "", **options: Any) -> tqdm:
    """A tqdm bar: on standard output in a notebook, since Jupyter shows standard error in red, on standard error elsewhere.

    Parameters
    ----------
    iterable : iterable, optional
        What is gone through. Without it, give ``total=`` and call ``update()``.
    description : str
        Stands before the bar.
    **options
        Whatever else `tqdm.tqdm` takes: ``total``, ``unit``, ``initial``, ``disable``, ``leave``.
    """
    notebook = type(sys.stdout).__module__.startswith("ipykernel")
    stream = sys.stdout if notebook else sys.stderr
    return tqdm(iterable, desc=description or None, file=stream, **options)
