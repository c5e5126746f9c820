"""Lays out a template repository for GitHub Classroom: `python -m grading.classroom FOLDER --notebook 2`.

The student notebook, the modules that it imports and no others, and a workflow that runs the public checks on every push.
Nothing in it holds an answer: no lesson, no solved notebook, no trainer or evaluation, and of the grader only what finds
functions and calls the public checks.
"""

import argparse
import ast
import shutil
import sys
from pathlib import Path

from .course import ROOT, assignment, notebook
from .handed_out import ANSWERS, DATA, withheld
from .inside.notebook import plain_python

FILES = ("requirements.txt", "LICENSE", "models/checksums.txt", "data/README.md")
WORKFLOW = Path(__file__).parent / "templates" / "classroom.yml"
STARTED = (  # modules that are started, not imported
    "grading.public_checks",
    "public_tests",
    "data.nih",  # by this file the notebook's first cell knows the course's folder
)
# In modules that a notebook needs: what only trainers use.
UNUSED = {
    "models/brain/network.py": {
        "_in_rows",
        "_times_matrix",
        "_dice",
        "_cross_entropy",
        "dice_cross_entropy",
        "region_loss",
        "LOSSES",
        "deeply_supervised",
    },
    "data/decathlon.py": {"standardize_scan"},
}
CALLED = {"resample_patients"}  # by the notebook itself, after its exercise


def _file_of(module: str, root: Path) -> Path | None:
    path = root.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imported_files(sources: list[str], root: Path = ROOT) -> set[Path]:
    """The course's own modules that these programs import, directly or not, as files."""
    found: set[Path] = set()
    todo: list[tuple[str, str]] = [(source, "") for source in sources]  # and the package that it is in
    while todo:
        source, package = todo.pop()
        names: set[str] = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = package if node.level else ""
                base = ".".join(part for part in (base, node.module or "") if part)
                names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        names |= {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 1)}
        for file in sorted(file for name in names if (file := _file_of(name, root))):
            if file not in found:
                found.add(file)
                todo.append((file.read_text(encoding="utf-8"), ".".join(file.parent.relative_to(root).parts)))
    return found


def without(source: str, names: set[str]) -> str:
    """A module without these functions and constants."""
    lines = source.split("\n")
    for node in reversed(ast.parse(source).body):
        named = (
            {node.name}
            if isinstance(node, ast.FunctionDef)
            else {t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)}
        )
        if named & names:
            del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines)


def make_template(folder: Path, number: int, root: Path = ROOT) -> Path:
    """Write the template; returns its notebook.

    Raises
    ------
    FileExistsError
        When the folder is not empty: somebody's work is never written over.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty. Name a new folder.")
    name, exercises = f"{assignment(number, root).name}.ipynb", assignment(number, root).exercises
    code = [plain_python(cell["source"]) for cell in notebook(number, root=root)["cells"] if cell["cell_type"] == "code"]
    for file in imported_files([*code, *(f"import {module}" for module in STARTED)], root):
        target = folder / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        place = file.relative_to(root).as_posix()
        answers = ANSWERS.get(place, {})
        answers = {function: exercise for function, exercise in answers.items() if exercise in exercises and function not in CALLED}
        source = withheld(without(file.read_text(encoding="utf-8"), UNUSED.get(place, set())), answers)
        target.write_text(source, encoding="utf-8")
    for file in [*(root / file for file in FILES), *(file for pattern in DATA for file in root.glob(pattern))]:
        target = folder / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    workflow = folder / ".github" / "workflows" / WORKFLOW.name
    workflow.parent.mkdir(parents=True)
    shutil.copyfile(WORKFLOW, workflow)
    shutil.copyfile(root / "student" / name, folder / name)
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
