"""What the grader needs to know of the course: exercises, points, the stubs that were handed out, and right answers.

All of it is read from the lessons; none of it goes into the sandbox but the lesson's own answer, once, as a self-test.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jupytext

from public_tests import EXERCISES

ROOT = Path(__file__).resolve().parents[1]
SOLUTION = re.compile(r"^([ \t]*)### BEGIN SOLUTION[^\n]*\n(.*?)^[ \t]*### END SOLUTION[^\n]*$", re.DOTALL | re.MULTILINE)


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


@cache
def assignment(number: int, root: Path = ROOT) -> Assignment:
    """Read a lesson.

    Raises
    ------
    FileNotFoundError
        When there is no lesson with this number.
    """
    paths = sorted((root / "lessons").glob(f"{number:02d}_*.py"))
    if not paths:
        raise FileNotFoundError(f"There is no lesson {number:02d} in {root / 'lessons'}.")
    cells = jupytext.reads(paths[0].read_text(encoding="utf-8"), fmt="py:percent").cells
    points = {cell.metadata["check"]: float(cell.metadata["points"]) for cell in cells if "check" in cell.metadata}
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    skeleton = tuple(SOLUTION.sub(r"\1raise NotImplementedError", source) for source in code)
    missing = [name for name, lesson in EXERCISES.items() if lesson == number and name not in points]
    if missing:
        raise ValueError(f"{paths[0].name}: no check with points for {', '.join(missing)}.")
    return Assignment(number, paths[0].stem, points, tuple(code), skeleton)


SETTINGS = {"schema_version": 3, "task": False}


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
    path = next(iter(sorted((root / "lessons").glob(f"{number:02d}_*.py"))))
    cells = []
    for position, cell in enumerate(jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent").cells):
        source, metadata = cell.source, {}
        if cell.metadata.get("tags"):
            metadata["tags"] = cell.metadata["tags"]
        if "exercise" in cell.metadata:
            metadata["nbgrader"] = SETTINGS | {
                "grade": False,
                "solution": True,
                "locked": False,
                "grade_id": cell.metadata["exercise"],
            }
            source = source if solved else SOLUTION.sub(r"\1raise NotImplementedError", source)
        elif "check" in cell.metadata:
            name = cell.metadata["check"]
            metadata["nbgrader"] = SETTINGS | {
                "grade": True,
                "solution": False,
                "locked": True,
                "grade_id": f"{name}_test",
                "points": cell.metadata["points"],
            }
            if hidden_tests:
                source += f"\n### BEGIN HIDDEN TESTS\n{hidden_tests[name]}\n### END HIDDEN TESTS"
        kind = {"execution_count": None, "outputs": []} if cell.cell_type == "code" else {}
        cells.append({"cell_type": cell.cell_type, "id": f"cell{position:04d}", "metadata": metadata, "source": source, **kind})
    metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return json.loads(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
