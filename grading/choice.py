"""Which of a student's notebooks is graded: the newest by the platform's word, of the lesson asked for, the student's own.

Never the one with more answers, and never the lesson's own: who hands in a copy of the whole course hands in the solved
notebooks too. Nothing is run or parsed here: definitions are found by their first line.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from public_tests import EXERCISES
from tools.lesson import lesson_paths, make_notebook

from .inside.notebook import NotebookError, read_cells
from .platforms import own_name, without_endings
from .submissions import NOBODY, Submission, without_copy

LARGE = 4 << 20  # bytes: a notebook with so many pictures in it has no vote in what the class handed in
OLDER = "not the newest"
OF_ANOTHER = "not the newest; by its name perhaps another student's"
DEFINITION = re.compile(r"^[ \t]*(?:async[ \t]+)?(?:def[ \t]+(\w+)|(\w+)[ \t]*=[^=])", re.MULTILINE)


@dataclass(frozen=True)
class Kind:
    """What a notebook file is."""

    state: str  # "own", "handed out", "solved", "unreadable", "another" (no exercise of the course)
    number: int = 0  # of the lesson whose exercises it has


@dataclass(frozen=True)
class Choice:
    """The file to grade (None: none of them), and what is to be said of it."""

    file: tuple[str, bytes] | None
    note: str = ""


def _lines(source: str) -> tuple[str, ...]:
    return tuple(line.rstrip() for line in source.replace("\r", "\n").split("\n") if line.strip())


@cache
def _lessons_own() -> dict[str, dict[str, tuple[str, ...]]]:
    """ "solved" or "handed out" → exercise → lines of its cell."""
    found: dict[str, dict[str, tuple[str, ...]]] = {"solved": {}, "handed out": {}}
    for path in lesson_paths():
        for state, of in found.items():
            for cell in make_notebook(path, student=state == "handed out").cells:
                if cell.metadata.get("nbgrader", {}).get("solution"):
                    of[cell.metadata.nbgrader.grade_id] = _lines(cell.source)
    return found


def kind_of(data: bytes) -> Kind:
    """What a notebook file is, by the cells that define exercises. Never raises for what is in it."""
    try:
        cells = read_cells(data)
    except NotebookError:
        return Kind("unreadable")
    cells_of: dict[str, list[tuple[str, ...]]] = {}
    for source in cells:
        names = {match[1] or match[2] for match in DEFINITION.finditer(source)} & set(EXERCISES)
        lines = _lines(source) if names else ()
        for name in names:
            cells_of.setdefault(name, []).append(lines)
    if not cells_of:
        return Kind("another")
    (number, _), *_ = Counter(EXERCISES[name] for name in cells_of).most_common(1)
    for state, own in _lessons_own().items():
        if all(cell == own.get(name) for name, sources in cells_of.items() for cell in sources):
            return Kind(state, number)
    return Kind("own", number)


def asked(submissions: Iterable[Submission], most: int = 60) -> int | None:
    """The lesson that most of the class handed in; None when none can be told. A copy of the course's own notebooks has no vote."""
    votes: Counter[int] = Counter()
    fallback: Counter[int] = Counter()
    for submission in list(submissions)[:most]:
        kinds = [kind_of(content) for _, content in submission.files[-6:] if len(content) <= LARGE]
        votes.update({kind.number for kind in kinds if kind.state == "own"})
        fallback.update({kind.number for kind in kinds if kind.number})
    votes = votes or fallback
    return votes.most_common(1)[0][0] if votes else None


def choose(submission: Submission, number: int) -> Choice:
    """The notebook of a submission that is graded.

    Parameters
    ----------
    submission : Submission
        Its files are in order: the newest by the platform's word is the last.
    number : {1, 2, 3}
        The lesson that was asked for.
    """
    files = submission.files
    if not files:
        return Choice(None, submission.problem or "There is no notebook in it.")
    if len(files) == 1 and b"BEGIN SOLUTION" not in files[0][1].replace(b"\0", b""):  # the usual case: nothing to choose
        return Choice(files[0], f"{submission.problem}." if submission.problem else "")
    kinds = [kind_of(content) for _, content in files]
    chosen = _newest(files, kinds, submission.attempts, number)
    if chosen is None:
        return Choice(None, "This is the lesson's own solved notebook, not a student's work. It is not graded.")
    where, content = files[chosen]
    notes = []
    time = submission.times.get(where) if submission.platform == "Moodle" else None  # elsewhere numbers or names tell the order

    def not_chosen(one: str) -> str:
        if time and submission.times.get(one) == time:
            return "as new: look which is meant"
        return OF_ANOTHER if not submission.platform and _two_people(one, where) else OLDER

    others = [
        (own_name(one, submission.platform), kind, not_chosen(one)) for (one, other), kind in zip(files, kinds) if other != content
    ]
    if others:
        notes.append(f"{len(others) + 1} notebooks; graded: {own_name(where, submission.platform)}")
        words = {
            "solved": "the lesson's own, solved",
            "handed out": "as handed out",
            "unreadable": "unreadable",
            "another": "no exercises",
        }
        left = [
            f"{name} ({words.get(kind.state) or ('notebook ' + str(kind.number) if kind.number != number else age)})"
            for name, kind, age in others
        ]
        notes.append(f"not graded: {', '.join(left[:4])}" + (f" and {len(left) - 4} more" if len(left) > 4 else ""))
    if submission.problem:
        notes.append(submission.problem)
    return Choice((where, content), ". ".join(notes) + "." if notes else "")


def _two_people(one: str, other: str) -> bool:
    """Whether two files of a folder are called as two people are: `monday/ada.ipynb` and `monday/bob_hw2.ipynb`."""
    folders, names = zip(*(where.rpartition("/")[::2] for where in (one, other)))
    called = {NOBODY.sub("", without_copy(without_endings(name))).casefold() for name in names}
    return folders[0] == folders[1] != "" and len(called) == 2 and "" not in called


def _newest(files: list[tuple[str, bytes]], kinds: list[Kind], attempts: dict[str, int], number: int) -> int | None:
    """Place of the file to grade: of the newest attempt that holds work of the student's own; within it, the newest file."""
    order = sorted({attempts.get(where, 0) for where, _ in files}, reverse=True)
    for attempt in order:
        mine = [i for i, (where, _) in enumerate(files) if attempts.get(where, 0) == attempt]
        for state in ("own", "unreadable"):
            fit = [i for i in mine if kinds[i].state == state and kinds[i].number in (number, 0)]
            if fit:
                return fit[-1]
    for state in ("own", "handed out", "another"):
        fit = [i for i, kind in enumerate(kinds) if kind.state == state]
        if fit:
            return max(fit, key=lambda i: (kinds[i].number == number, i))
    return None
