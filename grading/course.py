"""What the grader needs to know of the course: exercises, points, the stubs that were handed out, and right answers.

`tools.lesson` reads the lessons; nothing of them goes into the sandbox but the lesson's own answer, once, as a self-test.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from public_tests import EXERCISES
from tools.lesson import ROOT, find_exercises, lesson_paths, make_notebook, read_cells


@dataclass(frozen=True)
class Assignment:
    """One notebook as homework."""

    number: int
    name: str  # for example 02_diagnostic_model_evaluation
    points: dict[str, float]  # exercise → points, in the order of the notebook
    solution: tuple[str, ...]  # code cells of the solved lesson
    skeleton: tuple[str, ...]  # code cells as students get them

    @property
    def exercises(self) -> list[str]:
        return list(self.points)

    @property
    def tensorflow(self) -> bool:
        """Whether its exercises compute with Keras."""
        return self.number != 2


READ: dict[tuple[int, Path], Assignment] = {}  # also what another process has read and handed over


def lesson(number: int, root: Path = ROOT) -> Path:
    """The script of a lesson.

    Raises
    ------
    FileNotFoundError
        When there is no lesson with this number.
    """
    for path in lesson_paths(root):
        if path.name.startswith(f"{number:02d}_"):
            return path
    raise FileNotFoundError(f"There is no lesson {number:02d} in {root / 'lessons'}.")


def assignment(number: int, root: Path = ROOT) -> Assignment:
    """Read a lesson, once. Raises FileNotFoundError, or LessonError where it breaks a convention."""
    if (number, root) not in READ:
        READ[number, root] = _read(number, root)
    return READ[number, root]


def _read(number: int, root: Path) -> Assignment:
    path = lesson(number, root)
    points = {exercise.name: float(exercise.points) for exercise in find_exercises(read_cells(path), path.name)}
    missing = [name for name, of in EXERCISES.items() if of == number and name not in points]
    if missing:
        raise ValueError(f"{path.name}: no check with points for {', '.join(missing)}.")
    solution, skeleton = (
        tuple(cell.source for cell in make_notebook(path, student=student).cells if cell.cell_type == "code")
        for student in (False, True)
    )
    return Assignment(number, path.stem, points, solution, skeleton)


def notebook(number: int, *, solved: bool = False, hidden_tests: dict[str, str] | None = None, root: Path = ROOT) -> dict[str, Any]:
    """A lesson as a notebook (nbformat 4.5) with nbgrader's metadata, not executed.

    Parameters
    ----------
    number : int
    solved : bool
        Leave the solutions in, between nbgrader's marks; otherwise the stubs that students get.
    hidden_tests : dict of str to str, optional
        Exercise → code to put between nbgrader's marks for hidden tests, after the public check.
    """
    made = json.loads(_text(number, solved, root))
    for cell in made["cells"]:
        of = cell["metadata"].get("nbgrader", {})
        if hidden_tests and of.get("grade"):
            tests = hidden_tests[of["grade_id"].removesuffix("_test")]
            cell["source"] += f"\n### BEGIN HIDDEN TESTS\n{tests}\n### END HIDDEN TESTS"
    return made


@cache
def _text(number: int, solved: bool, root: Path) -> str:
    """A lesson as a notebook file."""
    return json.dumps(make_notebook(lesson(number, root), student=not solved))
