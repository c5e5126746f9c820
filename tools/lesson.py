"""Reads a lesson (jupytext percent script) and makes of it the two notebooks' cells, before anything is executed.

What a lesson may say in a cell's header, beyond jupytext's own format:

=====================================  =================================================================
``# %% tags=["setup"]``                the cell that finds the course: lessons/setup.py, the same in all
``# %% tags=["parameters"]``           the cell that papermill (and ``make run``) may override
``# %% tags=["example"]``              its figure stays in the student version: what a right answer draws
``# %% picture=[0, 0, 0.5, 1]``       this part of its figure stands for the notebook in the README
``# %% exercise="name"``               a function to write; its answer between the solution marks
``# %% check="name" points=5``         the check of that function, right after it
=====================================  =================================================================
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # where a lesson is read: jupytext and nbgrader take two seconds to import, in each process that grades
    from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
# The only place that names the public repository: badges, set-up cells, README and CITATION.cff are written from it.
REPOSITORY = "ai-for-medical-diagnosis/ai-for-medical-diagnosis"
BRANCH = "main"
SETUP = ROOT / "lessons" / "setup.py"

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE_INFO = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python", "pygments_lexer": "ipython3"}
STUB = "# Write your code here in place of the next line.\nraise NotImplementedError"
EXAMPLE = "<details><summary>What a right answer draws</summary>\n\n![{alt}](attachment:right_answer)\n\n</details>"
CAPTION = re.compile(r"\*Figures? [^*]+\*.*", re.DOTALL)
SOLUTION = re.compile(r"^[ \t]*### BEGIN SOLUTION[^\n]*\n(.*?)^[ \t]*### END SOLUTION", re.DOTALL | re.MULTILINE)


class LessonError(ValueError):
    """A lesson that breaks the conventions of its format. The message names the lesson, the cell and the remedy."""


@dataclass(frozen=True)
class Exercise:
    """A function that students write, with the points of its check and the indices of both cells."""

    name: str
    points: float
    cell: int
    check_cell: int


def lesson_paths(root: Path = ROOT) -> list[Path]:
    """All lessons in reading order."""
    return sorted((root / "lessons").glob("[0-9][0-9]_*.py"))


def lesson_sha256(path: Path) -> str:
    """Hash of a lesson's source; stored in both notebooks, so that a test sees when they are out of date."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_cells(path: Path) -> NotebookNode:
    """A lesson as jupytext reads it: nothing added, nothing executed."""
    import jupytext

    return jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")


def find_exercises(nb: NotebookNode, name: str = "lesson") -> list[Exercise]:
    """The exercises of a lesson, in order.

    Raises
    ------
    LessonError
        When an exercise has no solution marks, no check after it, a check without points, or a name used twice.
    """
    checks = {cell.metadata.check: index for index, cell in enumerate(nb.cells) if "check" in cell.metadata}
    exercises: list[Exercise] = []
    for index, cell in enumerate(nb.cells):
        if "exercise" not in cell.metadata:
            if SOLUTION.search(cell.source):
                raise LessonError(f'{name}: cell {index} has a solution, but its header does not say exercise="…".')
            continue
        function = cell.metadata.exercise
        if not SOLUTION.search(cell.source):
            raise LessonError(f"{name}: exercise {function} has no ### BEGIN SOLUTION … ### END SOLUTION.")
        if function in [exercise.name for exercise in exercises]:
            raise LessonError(f"{name}: there are two exercises named {function}.")
        check = checks.pop(function, -1)
        if check <= index:
            raise LessonError(f'{name}: exercise {function} has no cell with check="{function}" after it.')
        if "points" not in nb.cells[check].metadata:
            raise LessonError(f"{name}: the check of {function} does not say points=….")
        exercises.append(Exercise(function, nb.cells[check].metadata.points, index, check))
    if checks:
        raise LessonError(f"{name}: there are checks without an exercise: {', '.join(checks)}.")
    return exercises


def solution_lines(nb: NotebookNode) -> list[str]:
    """Lines that are in solutions and nowhere else in the lesson, stripped: none may be seen by a student."""
    inside, outside = [], []
    for cell in nb.cells:
        inside += [line.strip() for body in SOLUTION.findall(cell.source) for line in body.splitlines()]
        outside.append(SOLUTION.sub("", cell.source))
    rest = "\n".join(outside)
    return [line for line in dict.fromkeys(inside) if len(line) >= 12 and line not in rest]


def notebook_title(nb: NotebookNode) -> str:
    """The first heading, without the number sign."""
    return nb.cells[0].source.splitlines()[0].lstrip("# ").strip()


def section_of(nb: NotebookNode, index: int) -> str:
    """The nearest heading of level 2 at or before cell `index` (the title, where there is none)."""
    for cell in reversed(nb.cells[: index + 1]):
        headings = re.findall(r"^##\s+(.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []
        if headings:
            return headings[-1].strip()
    return notebook_title(nb)


def caption_of(nb: NotebookNode, index: int) -> str:
    """The caption under cell `index` as plain text, for those who do not see its figure; empty where there is none."""
    below = nb.cells[index + 1] if index + 1 < len(nb.cells) else None
    if below is None or below.cell_type != "markdown" or not CAPTION.match(below.source):
        return ""
    paragraph = " ".join(below.source.split("\n\n")[0].split())
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", paragraph).replace("*", "").replace("`", "")


def setup_source() -> str:
    """The cell that finds the course, with the address of the repository in it."""
    return SETUP.read_text(encoding="utf-8").replace("REPOSITORY", REPOSITORY).rstrip()


def badges(path: str) -> str:
    """The line under the title: three ways to open the notebook `path` (relative to the root) without installing."""
    blob = f"{REPOSITORY}/blob/{BRANCH}/{path}"
    return " ".join(
        f"[![{label}]({image})]({link})"
        for label, image, link in [
            (
                "Open in Colab",
                "https://colab.research.google.com/assets/colab-badge.svg",
                f"https://colab.research.google.com/github/{blob}",
            ),
            (
                "Open in Binder",
                "https://mybinder.org/badge_logo.svg",
                f"https://mybinder.org/v2/gh/{REPOSITORY}/{BRANCH}?urlpath=lab%2Ftree%2F{path.replace('/', '%2F')}",
            ),
            (
                "View in nbviewer",
                "https://raw.githubusercontent.com/jupyter/design/master/logos/Badges/nbviewer_badge.svg",
                f"https://nbviewer.org/github/{blob}",
            ),
        ]
    )


def cell_id(lesson: str, position: int, kind: str = "cell") -> str:
    """Id of a cell that is the same after every rebuild, and in both notebooks."""
    return hashlib.sha256(f"{lesson}/{position}/{kind}".encode()).hexdigest()[:12]


def make_notebook(path: Path, *, student: bool = False, figures: dict[str, tuple[str, str]] | None = None) -> NotebookNode:
    """Make the solved or the student notebook of a lesson, not executed.

    Parameters
    ----------
    path : Path
        The lesson.
    student : bool
        Take the solutions out (by nbgrader's ClearSolutions).
    figures : dict of str to (mime type, base64), optional
        Figures (PNG, base64) by the id of the cell that draws them. Those of cells tagged ``example`` are shown after
        the cell in the student version.

    Returns
    -------
    NotebookNode
        nbformat 4.5, valid for nbgrader's schema 3.

    Raises
    ------
    LessonError
        When the lesson breaks a convention.
    """
    from nbformat import NotebookNode
    from nbgrader.nbgraderformat import SCHEMA_VERSION, MetadataValidator
    from nbgrader.preprocessors import ClearOutput, ClearSolutions

    nb = read_cells(path)
    exercises = find_exercises(nb, path.name)
    folder = "student/" if student else ""
    for position, cell in enumerate(nb.cells):
        cell.id = cell_id(path.stem, position)
        tags = cell.metadata.get("tags")
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
        if "setup" in (tags or []):
            cell.source = setup_source()
            cell.metadata.jupyter = NotebookNode(source_hidden=True)  # a student has no need to read it
    for exercise in exercises:
        common = {"schema_version": SCHEMA_VERSION, "task": False}
        nb.cells[exercise.cell].metadata["nbgrader"] = NotebookNode(
            common, grade=False, solution=True, locked=False, grade_id=exercise.name
        )
        nb.cells[exercise.check_cell].metadata["nbgrader"] = NotebookNode(
            common, grade=True, solution=False, locked=True, grade_id=f"{exercise.name}_test", points=exercise.points
        )
    title, _, rest = nb.cells[0].source.partition("\n")
    if nb.cells[0].cell_type != "markdown" or not title.startswith("# "):
        raise LessonError(f"{path.name}: the first cell must be markdown and begin with the title (# …).")
    nb.cells[0].source = f"{title}\n\n{badges(f'{folder}{path.stem}.ipynb')}\n\n{rest.lstrip()}".rstrip()
    nb.metadata = NotebookNode(
        kernelspec=KERNELSPEC,
        language_info=LANGUAGE_INFO,
        course={
            "lesson": f"lessons/{path.name}",
            "lesson_sha256": lesson_sha256(path),
            "version": "student" if student else "solved",
            "exercises": [{"name": exercise.name, "points": exercise.points} for exercise in exercises],
        },
    )
    nb.nbformat, nb.nbformat_minor = 4, 5
    if student:
        nb, _ = ClearSolutions(code_stub={"python": STUB}).preprocess(nb, {})
        nb, _ = ClearOutput().preprocess(nb, {})
        nb.cells = list(_with_examples(nb, path.stem, figures or {}))
    MetadataValidator().validate_nb(nb)
    return nb


def _with_examples(nb: NotebookNode, lesson: str, figures: dict[str, tuple[str, str]]):
    """The cells, and after each one tagged ``example`` its figure, folded, since a right answer draws the same."""
    from nbformat import NotebookNode

    for position, cell in enumerate(nb.cells):
        yield cell
        if "example" in cell.metadata.get("tags", []) and cell.id in figures:
            mime, data = figures[cell.id]
            yield NotebookNode(
                cell_type="markdown",
                id=cell_id(lesson, position, "example"),
                metadata=NotebookNode(tags=["example-figure"]),
                attachments=NotebookNode({"right_answer": {mime: data}}),
                source=EXAMPLE.format(alt=re.sub(r"[][]", "", caption_of(nb, position)) or "What a right answer draws"),
            )
