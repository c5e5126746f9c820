"""Finds the exercise functions in a submitted notebook, wherever they stand, without running it.

Cells may be missing, doubled, re-ordered, merged, of the wrong type, full of magics and shell commands; one that is no
Python any more does not hide the others. Of each exercise the last definition counts that compiles and is more than the
stub that was handed out. With it come, in the order of the notebook, all statements that bind or change a name that it
needs, as far as they stand before its check: what the function finds there is what it finds in the notebook.

Reading takes time and memory that a notebook may be made to use up: the grader reads in the sandbox (`worker`).
"""

import ast
import difflib
import json
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from . import newer_python
from .statements import BUILTINS, BY_TEXT, ERRORS, Statement, parse, statements_of

CELL_MAGICS = {"time", "timeit", "capture", "prun"}  # their cells are Python; other %%magics are another language
MAX_BYTES = 32 << 20
MAX_PARTS = 2_000_000  # values in the file: a list of small ones takes fifty times as much memory as it takes space
MAX_CELLS = 5000
MAX_CODE = 500_000  # characters of code in one notebook; the lessons have 40,000
MAX_MAGICS = 100  # places where a cell's magics are found one by one; after that all lines that look like one are taken
MARKER = r"(?:<{7}|[|]{7}|={7}|>{7})"
MERGE = "git's markers of a merge that was not finished (<<<<<<<, =======, >>>>>>>): keep one of the two versions and take them out"


class NotebookError(ValueError):
    """A submission that is no notebook. The message says what it is instead, in words for the student."""


@dataclass
class Answer:
    """What a notebook has for one exercise."""

    found: str = "not found"  # or "not attempted", "broken", "found"
    code: list[tuple[str, int, str]] = field(default_factory=list)  # (cell, line, source) of all that it needs, in order
    own: str = ""  # source of the function itself
    helpers: list[str] = field(default_factory=list)  # sources of the other functions and classes that it names, no exercises
    note: str = ""
    cell: int = -1


def plain_text(text: str) -> str:
    """Text that can be written to any file: no halves of characters, no control characters but tab and line end."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text.encode("utf-8", "replace").decode())


def check_size(data: bytes) -> None:
    """NotebookError for a file that would take very much memory: a tenth of a gigabyte is what the largest others take."""
    if len(data) > MAX_BYTES or sum(map(data.count, (b",", b"[", b"{"))) > MAX_PARTS:
        raise NotebookError(f"The file is too large ({len(data) / 1e6:.0f} MB): clear the outputs and hand it in again.")


def half_merged(data: bytes) -> bool:
    """Whether git's markers of a merge are at the beginning of lines, of the file or of a cell in it."""
    data = data.replace(b"\0", b"")
    return all(
        7 * mark in data and re.search(rb'(?:^|[\n"]|\\n)' + 7 * mark + rb'(?=[ \r\n"]|\\[rn]|$)', data)
        for mark in (b"<", b"=", b">")
    )


def read_cells(data: bytes) -> list[str]:
    """The code cells of a notebook file.

    Raises
    ------
    NotebookError
        When the file is empty, too large, no JSON, or no notebook.
    """
    if not data.strip():
        raise NotebookError("The file is empty.")
    check_size(data)
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")
        content = json.loads(text, strict=False)
    except (ValueError, RecursionError, UnicodeError) as error:
        if half_merged(data):
            raise NotebookError(f"The file is no notebook any more, it holds {MERGE}.") from None
        pointer = data.startswith(b"version https://git-lfs")
        what = "a web page" if data.lstrip()[:1] == b"<" else "a pointer of Git LFS in its place" if pointer else "broken"
        raise NotebookError(f"The file is no notebook, it is {what}: {str(error)[:120]}") from None
    try:
        return _sources(content)
    except NotebookError:
        raise
    except (AttributeError, TypeError, ValueError, RecursionError):
        raise NotebookError("The file is JSON, but no notebook: its cells are none.") from None


def _sources(content: Any) -> list[str]:
    """The sources of the code cells; "" for the others. A file can claim anything about its cells."""
    if not isinstance(content, dict):
        raise NotebookError("The file is JSON, but no notebook.")
    cells: list[Any] = content.get("cells") if isinstance(content.get("cells"), list) else []
    for sheet in content.get("worksheets") or [] if isinstance(content.get("worksheets"), list) else []:  # nbformat 3
        cells = cells + (sheet.get("cells") or [] if isinstance(sheet, dict) else [])
    if not cells:
        raise NotebookError("The notebook has no cells.")
    sources = []
    for cell in cells[:MAX_CELLS]:
        source = cell.get("source", cell.get("input", "")) if isinstance(cell, dict) else ""
        source = "".join(map(str, source)) if isinstance(source, list) else str(source)
        kind = cell.get("cell_type") if isinstance(cell, dict) else None
        # A code cell that was turned into text by accident still counts when it is a definition.
        if kind == "code" or (kind in ("raw", "markdown") and re.match(r"\s*(def|class|import|from|@)\s?\w", source)):
            sources.append(plain_text(source.replace("\r\n", "\n").replace("\r", "\n")))
        else:
            sources.append("")  # cells keep their numbers
    if sum(map(len, sources)) > MAX_CODE:
        raise NotebookError(f"The notebook holds more than {MAX_CODE // 1000},000 characters of code.")
    return sources


# ---- from cells to statements -----------------------------------------------------------------------------------------

_MAGIC = re.compile(
    r"(?P<indent>[ \t]*)(?P<names>[\w, \t]+=[ \t]*)?(?P<mark>[%!])(?P<text>.*)|(?P<help>[ \t]*\?{0,2}[\w.]+\?{0,2}[ \t]*)"
)
RUN = re.compile(r"run[ \t]+(?:-\w+[ \t]+)*[\"']?(?:[^\s\"']*[/\\])?([^\W\d]\w*)(?:\.(?:py|ipynb))?[\"']?(?:\s|$)")


def _without_magic(line: str) -> str | None:
    """A line of IPython as Python; None when it is none."""
    found = _MAGIC.fullmatch(line)
    if not found or (found["help"] and "?" not in line):
        return None
    if found["help"]:
        return re.match(r"[ \t]*", line)[0] + "pass"
    if found["names"]:
        return f"{found['indent']}{found['names']}[]"
    timed = re.match(r"%?time[ \t]+(?!-)(\S.*)", found["text"]) if found["mark"] == "%" else None
    if found["mark"] == "%" and re.match(r"pylab\b", found["text"]):
        return f"{found['indent']}from pylab import *"
    if found["mark"] == "%" and (script := RUN.match(found["text"])):  # where the file is missing, that is said
        return f"{found['indent']}from {script[1]} import *"
    return found["indent"] + (timed[1] if timed else "pass")


def python_of(source: str) -> tuple[str, str, ast.Module | None, Exception | None]:
    """A cell as Python that can be read here, what has to be run before it, its tree, and the error where there is none.

    Lines keep their numbers. Nothing is executed.
    """
    head = re.match(r"\s*%%(\w+)[ \t]*([^\n]*)(\n|$)", source)
    if head:
        rest = "\n" * source[: head.end()].count("\n") + source[head.end() :]
        module = re.fullmatch(r"(?:-\w+\s+)*([\w.-]+\.py)\s*", head[2]) if head[1] in ("writefile", "file") else None
        if module:
            source = f"{module[1].removesuffix('.py')} = open({module[1]!r}, 'w').write({source[head.end() :]!r})"
        elif head[1] in CELL_MAGICS:
            source = rest
        else:
            return "", "", None, None
    if first := re.match(r"(?:[ \t]*\n)*([ \t]+)\S", source):  # IPython takes away the indentation of the first line
        source = re.sub(rf"(?m)^{first[1]}", "", source)
    if source.lstrip().startswith(">>> "):
        source = re.sub(r"(?m)^(>>> |\.\.\. ?)", "", source)
    lines, before, translated = source.split("\n"), "", False
    for attempt in range(MAX_MAGICS + 1):
        try:
            text = "\n".join(lines)
            return text, before, parse(text), None
        except ERRORS as error:
            number = (getattr(error, "lineno", None) or 1) - 1
            start = number
            while number < len(lines) and (plain := _without_magic(lines[number])) is not None:
                while lines[number].endswith("\\") and number + 1 < len(lines):
                    lines[number], number = plain, number + 1
                    plain = ""
                lines[number], number = plain, number + 1
            if number > start and attempt < MAX_MAGICS:
                continue
            if attempt == MAX_MAGICS:
                lines = [line if (plain := _without_magic(line)) is None else plain for line in lines]
            elif translated or not isinstance(error, SyntaxError):
                return "\n".join(lines), before, None, error
            else:
                translated = True
                text, before = newer_python.translate("\n".join(lines))
                lines = text.split("\n")
    text = "\n".join(lines)
    return text, before, None, None


def plain_python(source: str) -> str:
    """A cell's source without magics and shell commands; lines keep their numbers. Nothing is executed."""
    return python_of(source)[0]


def _statements(source: str, cell: int) -> tuple[list[Statement], dict[str, str]]:
    """The statements of one cell, and name → error of the definitions in it that are no Python."""
    text, before, tree, _ = python_of(source)
    first = statements_of(parse(before), before, cell) if before else []
    if tree is not None:
        return first + statements_of(tree, text, cell), {}
    found, broken = _salvage(text, cell)
    return first + found, broken


def _salvage(source: str, cell: int) -> tuple[list[Statement], dict[str, str]]:
    """Of a cell that is no Python as a whole: every block of it that is."""
    if re.search(r"(?m)^<{7}", source):  # a merge inside of a function belongs to it
        source = re.sub(rf"(?m)^({MARKER}.*\n(?:[ \t]*\n)*[ \t]+\S)", r" \1", source)
    found, broken, lines = [], {}, source.split("\n")
    starts = [
        i
        for i, line in enumerate(lines)
        if line[:1].strip() and not line.startswith(("#", ")", "]", "}", "else", "elif", "except", "finally"))
    ]
    for start, end in zip(starts, [*starts[1:], len(lines)]):
        block = "\n".join(lines[start:end]).rstrip()
        text, before, tree, error = python_of(block)
        if tree is not None:
            found += statements_of(parse(before), before, cell, start) if before else []
            found += statements_of(tree, text, cell, start)
            continue
        name = re.match(r"(?:async\s+)?def\s+(\w+)", block)
        if name and error is not None:
            line = start + (getattr(error, "lineno", 1) or 1)
            note = f"{type(error).__name__}: {getattr(error, 'msg', None) or error} (cell {cell + 1}, line {line})"
            if re.search(r"(?m)^[ \t]*print[ \t]+[\"'\w]", block):
                note += ". This is Python 2; write print(…) with brackets"
            if re.search(rf"(?m)^ {MARKER}", block):
                note = f"cell {cell + 1} holds {MERGE}"
            broken[name[1]] = note
    return found, broken


# ---- from statements to answers ---------------------------------------------------------------------------------------


class Slices:
    """Which statements of a notebook a function needs.

    A name means what the statements before say: the last one that is sure to bind it, and what may bind or change it after
    that. Names inside of a function mean what they mean when it is called: at its check, or, where a statement calls it, there.
    """

    def __init__(self, statements: list[Statement], given: list[Statement], exercises: set[str]) -> None:
        self.statements, self.exercises = statements, exercises
        for at, statement in enumerate(statements):
            statement.at = at
        for at, statement in enumerate(given):
            statement.at = at - len(given)
        everything = [*given, *statements]
        bound = [(name, one) for one in everything for name in one.binds]
        self.modules = {name for one in everything for name in one.modules} - {
            name for name, one in bound if name not in one.modules and one.sure
        }
        loose = {name for name, one in bound if name not in {*one.functions, *one.constants} - one.named | one.constants}
        self.fixed = self.modules | BUILTINS | ({name for name, _ in bound} - loose)  # nothing that changes under another name
        effects = self._effects(everything)
        group = self._groups(everything)
        self.dynamic = [one for one in statements if one.now & BY_TEXT or "builtins" in one.changes]  # may bind any name
        self.binding: dict[str, list[Statement]] = {}
        self.events: dict[str, list[Statement]] = {}
        self.given: dict[str, list[Statement]] = {}
        members: dict[str, set[str]] = {}
        for name in group:
            members.setdefault(self._find(group, name), set()).add(name)
        for one in given:
            for name in one.binds:
                self.given.setdefault(name, []).append(one)
        inside = {name: one.later - exercises - self.fixed for one in everything for name in one.functions.keys() - exercises}
        for one in statements:
            changed = self._resolved(one.changes)
            changed |= {other for name in changed & inside.keys() for other in inside[name]}  # give().append(1)
            for name in one.now - one.binds:
                changed |= effects.get(name, set())
            changed |= {other for name in changed & group.keys() for other in members[self._find(group, name)]}
            for name in one.binds:
                self.binding.setdefault(name, []).append(one)
            for name in one.binds | changed | (one.deleted & BUILTINS):
                self.events.setdefault(name, []).append(one)

    def _resolved(self, changes: set[str]) -> set[str]:
        """The names that are changed, now that it is known which ones are modules: their functions leave arguments alone."""
        found = set()
        for change in changes:
            owner, dot, _ = change.partition(".")
            function, bracket, argument = change.partition("(")
            if bracket:
                found |= {argument} - self.fixed if function not in self.modules else set()
            elif not dot or owner not in self.modules:
                found.add(owner)
        return found - BUILTINS

    def _effects(self, statements: list[Statement]) -> dict[str, set[str]]:
        """Of each function or object: the names of the notebook that using it may change."""
        own: dict[str, set[str]] = {}
        users: dict[str, set[str]] = {}
        for one in statements:
            late = self._resolved(one.later_changes) & (one.later | one.later_changes)
            for name in one.binds - self.exercises - one.modules:
                own.setdefault(name, set()).update(late)
                for used in one.later if name in one.functions else one.later | one.now:
                    users.setdefault(used, set()).add(name)
        queue = [name for name, effects in own.items() if effects]
        while queue:
            name = queue.pop()
            for user in users.get(name, ()):
                if not own[name] <= own.setdefault(user, set()):
                    own[user] |= own[name]
                    queue.append(user)
        return {name: effects for name, effects in own.items() if effects}

    def _groups(self, statements: list[Statement]) -> dict[str, str]:
        """Names that may be, or hold, the same object, as a forest: a change of one is a change of all."""
        parent: dict[str, str] = {}
        for one in statements:
            for together in one.alike:
                first, *others = sorted(together - self.fixed) or [""]
                for name in others:
                    parent[self._find(parent, name)] = self._find(parent, first)
        return parent

    @staticmethod
    def _find(parent: dict[str, str], name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    def _reaching(self, name: str, at: int, chosen: dict[str, Statement]) -> list[Statement]:
        """The statements that say what a name means at a place."""
        if name in chosen:  # and what wraps it before its check
            first, end = chosen[name], min(at, self._check(name, chosen[name]) or 0)
            return [first] + [one for one in self.events.get(name, ()) if first.at < one.at < end and not one.functions]
        found = []
        for one in reversed(self.events.get(name, ())):
            if one.at < at:
                if name in one.deleted and name not in one.binds:
                    break
                found.append(one)
                if one.sure and name in one.binds:
                    break
        if not any(name in one.binds for one in found):  # used above its definition: cells were run in another order
            found += [one for one in self.binding.get(name, ()) if one.at >= at and name not in BUILTINS]
        return found or self.given.get(name, []) or ([] if name in BUILTINS else self.dynamic)

    def _check(self, exercise: str, definition: Statement) -> int | None:
        """Where the first check of an exercise after its definition stands."""
        return next((one.at for one in self.statements if exercise in one.checks and one.at > definition.at), None)

    def of(self, exercise: str, chosen: dict[str, Statement]) -> list[Statement]:
        """What an exercise's function needs, in the order of the notebook."""
        wanted = {id(one): one for one in self.statements if one.always}
        seen: set[tuple[str, int]] = set()
        queue = [(used, one.at) for one in wanted.values() for used in one.now]
        queue += [(exercise, self._check(exercise, chosen[exercise]) or len(self.statements))]
        while queue:
            name, at = queue.pop()
            if (name, at) in seen:
                continue
            seen.add((name, at))
            for one in self._reaching(name, at, chosen):
                wanted[id(one)] = one
                queue += [(used, max(one.at, 0)) for used in one.now]
                queue += [(used, at) for used in one.later]
        return sorted(wanted.values(), key=lambda one: one.at)


@lru_cache(maxsize=4)
def handed_out(given: tuple[str, ...]) -> dict[str, list[Statement]]:
    """The statements of each cell of the notebook as it was handed out: the same for a whole class, so read once."""
    return {source: _statements(source, -1)[0] for source in given}


def find_answers(cells: list[str], exercises: list[str], given: list[str] = ()) -> dict[str, Answer]:
    """For each exercise, what the notebook has for it.

    Parameters
    ----------
    cells : list of str
        The notebook's code cells.
    exercises : list of str
    given : list of str
        Code cells of the notebook as it was handed out: imports, functions and constants of theirs that this one lost.
    """
    statements: list[Statement] = []
    broken: dict[str, str] = {}
    known = handed_out(tuple(given))
    for number, source in enumerate(cells):
        if source in known:  # the student did not touch it
            statements += [replace(one, cell=number) for one in known[source]]
        elif source.strip():
            found, errors = _statements(source, number)
            statements += found
            broken.update(errors)
    lost = [
        one
        for source in given
        for one in known[source]
        if (one.functions or one.modules or one.constants) and not one.binds & set(exercises)
    ]
    slices = Slices(statements, lost, set(exercises))
    chosen = {name: one for name in exercises if (one := _definition(name, slices.binding.get(name, [])))}
    answers = {}
    for name in exercises:
        piece = chosen.get(name)
        answers[name] = answer = Answer()
        stub = piece is not None and piece.functions.get(name, ("", False))[1]
        if piece is None or (stub and name in broken):
            if name in broken:
                answer.found, answer.note = "broken", broken[name]
            else:
                functions = sorted({n for one in statements for n in one.functions if len(n) < 60} - set(exercises))[:300]
                alike = difflib.get_close_matches(name, functions, 1, 0.6) or [
                    f for f in functions if len(f) > 3 and (f in name or name.removeprefix("get_") in f)
                ]
                answer.note = f"Is it your function `{alike[0]}`? The name must be `{name}`." if alike else ""
            continue
        answer.cell, answer.own = piece.cell, piece.functions.get(name, (piece.source, False))[0]
        answer.found = "not attempted" if stub else "found"
        needed = slices.of(name, chosen)
        answer.code = [(f"cell {one.cell + 1}" if one.at >= 0 else "as handed out", one.line, one.source) for one in needed]
        answer.helpers = [one.source for one in needed if one.functions and not one.binds & set(exercises)]
    return answers


def _definition(name: str, binding: list[Statement]) -> Statement | None:
    """The statement that defines an exercise: the last function, else the last other name for one, else the last value."""
    written = [one for one in binding if not one.functions.get(name, ("", False))[1]]
    for kind in (
        [one for one in written if name in one.functions or name in one.named],
        [one for one in written if name not in one.now],
        binding,
    ):
        if kind:
            return kind[-1]
    return None
