"""Fixtures that several tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with ``nih/``, ``brats/`` and ``predictions/``; tests that ask for it are skipped where REAL_DATA names none."""
    folder = os.environ.get("REAL_DATA")
    if not folder:
        pytest.skip("REAL_DATA names no folder of real patients")
    return Path(folder).resolve()
