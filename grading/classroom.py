"""Lays out a template repository for GitHub Classroom: `python -m grading.classroom FOLDER --notebook 2`.

The student notebook, what it imports, and a workflow that runs the public checks on every push. Nothing in it holds an answer:
not the lessons, not the solved notebooks, and of the grader only what finds functions and calls the public checks.
"""

import argparse
import shutil
import sys
from pathlib import Path

from .course import ROOT, assignment

FILES = (
    "util.py",
    "public_tests.py",
    "requirements.txt",
    "LICENSE",
    ".github/workflows/classroom.yml",
    "grading/__init__.py",
    "grading/notebook.py",
    "grading/public_checks.py",
)
FOLDERS = ("data", "models")
LEFT_OUT = shutil.ignore_patterns(
    "cache", "__pycache__", "*.partial", "train_*.py", "predict_*.py"
)  # training has losses like those to write


def make_template(folder: Path, number: int, root: Path = ROOT) -> Path:
    """Write the template; returns its notebook.

    Raises
    ------
    FileExistsError
        When the folder is not empty: somebody's work is never written over.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty. Name a new folder.")
    name = f"{assignment(number).name}.ipynb"
    for file in FILES:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / file, folder / file)
    for part in FOLDERS:
        shutil.copytree(root / part, folder / part, ignore=LEFT_OUT)
    shutil.copy(root / "student" / name, folder / name)
    return folder / name


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m grading.classroom", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--notebook", type=int, choices=(1, 2, 3), required=True)
    options = parser.parse_args()
    try:
        print(make_template(options.folder, options.notebook))
    except FileExistsError as error:
        print(error, file=sys.stderr)
        return 2
    print(
        f"Next: make {options.folder} a repository on GitHub, mark it as a template and choose it in GitHub Classroom's assignment."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
