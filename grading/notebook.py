"""Finds the exercise functions in a submitted notebook, wherever they stand, without running it.

Cells may be missing, doubled, re-ordered, merged, of the wrong type, full of magics and shell commands; one that is no
Python any more does not hide the others. Of each exercise the last definition counts that compiles and is more than the
stub that was handed out. With it come the imports, helpers, classes and constants that it names, and what these name.
"""

import ast
import difflib
import json
import re
import symtable
import textwrap
import warnings
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

CELL_MAGICS = {"time", "timeit", "capture", "prun"}  # their cells are Python; other %%magics are another language
MAX_BYTES = 60 << 20
MAX_CELLS = 5000
MAX_CODE = 500_000  # characters of code in one notebook; the lessons have 40,000
MAX_MAGIC = 20_000  # characters of a cell with magics that IPython is asked about: its time grows with the square


class NotebookError(ValueError):
    """A submission that is no notebook. The message says what it is instead, in words for the student."""


@dataclass(frozen=True)
class Piece:
    """One top-level statement: where it stands, what it binds and which names it uses."""

    cell: int
    line: int
    source: str
    binds: frozenset[str]
    function: bool = False
    stub: bool = False  # nothing but docstring, pass, …, or NotImplementedError

    @cached_property
    def uses(self) -> frozenset[str]:
        """The names that it takes from outside: not its arguments, nor what it binds inside of a function."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                table = symtable.symtable(self.source, "cell", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return frozenset()
        names = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
        scopes = list(table.get_children())
        while scopes:
            scope = scopes.pop()
            names |= {symbol.get_name() for symbol in scope.get_symbols() if symbol.is_global()}
            scopes += scope.get_children()
        return frozenset(names)


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


def read_cells(data: bytes) -> list[str]:
    """The code cells of a notebook file.

    Raises
    ------
    NotebookError
        When the file is empty, too large, no JSON, or no notebook.
    """
    if not data.strip():
        raise NotebookError("The file is empty.")
    if len(data) > MAX_BYTES:
        raise NotebookError(f"The file has {len(data) >> 20} MB: clear the outputs and hand it in again.")
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")
        content = json.loads(text, strict=False)
    except (ValueError, RecursionError, UnicodeError) as error:
        what = "a web page" if data.lstrip()[:1] == b"<" else "broken"
        raise NotebookError(f"The file is no notebook, it is {what}: {str(error)[:120]}") from None
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
        raise NotebookError("The notebook holds more than 2 MB of code.")
    return sources


@cache
def _transformer() -> Any:
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager()


def plain_python(source: str) -> str:
    """A cell's source without magics and shell commands; lines keep their numbers. Nothing is executed."""
    head = re.match(r"\s*%%(\w+)[^\n]*(\n|$)", source)
    if head:
        if head[1] not in CELL_MAGICS:
            return ""
        source = "\n" * source[: head.end()].count("\n") + source[head.end() :]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
        return source
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    try:
        if len(source) > MAX_MAGIC:
            raise ValueError
        return _transformer().transform_cell(source)
    except Exception:  # an indentation that it cannot cope with: the definitions may still be found one by one
        return re.sub(r"(?m)^([ \t]*)[%!].*$", r"\1pass", source)


def _parse(source: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_stub(node: ast.AST) -> bool:
    """Whether a function does nothing: a docstring, `pass`, `...`, or what was handed out."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return False
    for statement in node.body:
        match statement:
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                continue
            case ast.Raise(exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))):
                return True
            case _:
                return False
    return True


def _bound(node: ast.stmt) -> frozenset[str] | None:
    """The names that a statement binds when it is one worth taking along; None otherwise."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return frozenset({name})
        case ast.Import(names=names):
            return frozenset((alias.asname or alias.name).split(".")[0] for alias in names)
        case ast.ImportFrom(names=names):
            return frozenset(alias.asname or alias.name for alias in names)
        case ast.Assign(targets=targets):
            return frozenset(part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)) or None
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            return frozenset({name})
    return None


def _statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """Top-level statements, and the definitions inside of if, try, with and for."""
    found = []
    for node in body:
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
            inner = [part for name in ("body", "orelse", "finalbody") for part in getattr(node, name, [])]
            inner += [part for handler in getattr(node, "handlers", []) for part in handler.body]
            found += _statements(inner)
        else:
            found.append(node)
    return found


def _source(lines: list[str], node: ast.stmt) -> tuple[int, str]:
    """First line number and text of a statement, with its decorators, not indented."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    if getattr(node, "decorator_list", None) or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        text = "\n".join(lines[first - 1 : node.end_lineno])
        text = textwrap.dedent(text) if _parse(textwrap.dedent(text)) else ast.unparse(node)
    else:
        text = ast.unparse(node)
    return first, text


def _pieces_of(source: str, cell: int) -> tuple[list[Piece], list[tuple[str, str]]]:
    """The pieces of one cell, and (name, error) of the definitions in it that are no Python."""
    source = plain_python(source)
    tree = _parse(source)
    if tree is None:
        return _salvage(source, cell)
    lines = source.split("\n")
    return [piece for node in _statements(tree.body) if (piece := _piece(lines, node, cell, 0))], []


def _salvage(source: str, cell: int) -> tuple[list[Piece], list[tuple[str, str]]]:
    """Of a cell that is no Python as a whole: every block of it that is."""
    pieces, broken = [], []
    lines = source.split("\n")
    starts = [
        i
        for i, line in enumerate(lines)
        if line[:1].strip() and not line.startswith(("#", ")", "]", "}", "else", "elif", "except", "finally"))
    ]
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else len(lines)
        block = "\n".join(lines[start:end]).rstrip()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(block)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            name = re.match(r"(?:async\s+)?def\s+(\w+)", block)
            if name:
                line = start + (getattr(error, "lineno", 1) or 1)
                text = f"{type(error).__name__}: {getattr(error, 'msg', None) or error} (cell {cell + 1}, line {line})"
                if re.search(r"(?m)^[ \t]*print[ \t]+[\"'\w]", block):
                    text += ". This is Python 2; write print(…) with brackets"
                broken.append((name[1], text))
            continue
        pieces += [piece for node in _statements(tree.body) if (piece := _piece(lines[start:end], node, cell, start))]
    return pieces, broken


def _piece(lines: list[str], node: ast.stmt, cell: int, offset: int) -> Piece | None:
    """The piece of a statement of these lines, the first of which has `offset` lines of the cell before it."""
    binds = _bound(node)
    if binds is None:
        return None
    line, text = _source(lines, node)
    function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or isinstance(getattr(node, "value", None), ast.Lambda)
    return Piece(cell, offset + line, text, binds, function, _is_stub(node))


def find_answers(cells: list[str], exercises: list[str]) -> dict[str, Answer]:
    """For each exercise, what the notebook has for it."""
    pieces: list[Piece] = []
    broken: dict[str, str] = {}
    for number, source in enumerate(cells):
        if source.strip():
            found, errors = _pieces_of(source, number)
            pieces += found
            broken.update(errors)
    chosen: dict[str, Piece] = {}  # the definition of each name that counts
    before: dict[int, list[Piece]] = {}  # of w = w / 2: the statements that made w before
    for piece in pieces:
        for name in piece.binds:
            if name in exercises and name in chosen and piece.stub and not chosen[name].stub:
                continue  # a stub that stands again further down
            if name in chosen and not piece.function and name in piece.uses:
                if name in exercises:
                    continue  # get_ppv = wrap(get_ppv): it stays what it was
                before.setdefault(id(piece), []).append(chosen[name])
            chosen[name] = piece
    answers = {}
    for name in exercises:
        piece = chosen.get(name)
        answers[name] = answer = Answer()
        if piece is None or (piece.stub and name in broken):
            if name in broken:
                answer.found, answer.note = "broken", broken[name]
            else:
                functions = sorted({n for p in pieces if p.function for n in p.binds if len(n) < 60} - set(exercises))[:300]
                alike = difflib.get_close_matches(name, functions, 1, 0.6) or [
                    f for f in functions if len(f) > 3 and (f in name or name.removeprefix("get_") in f)
                ]
                answer.note = f"Is it your function `{alike[0]}`? The name must be `{name}`." if alike else ""
            continue
        answer.cell, answer.own = piece.cell, piece.source
        answer.found = "not attempted" if piece.stub else "found"
        needed = _needed(piece, pieces, chosen, before, set(exercises))
        answer.code = [(f"cell {p.cell + 1}", p.line, p.source) for p in needed]
        answer.helpers = [
            p.source for p in needed if re.match(r"(async )?(def|class) |@", p.source) and not p.binds & set(exercises)
        ]
    return answers


def _needed(
    piece: Piece, pieces: list[Piece], chosen: dict[str, Piece], before: dict[int, list[Piece]], exercises: set[str]
) -> list[Piece]:
    """A piece and all that it names, directly or not, in the order of the notebook."""
    wanted, queue = {id(piece): piece}, [piece]
    while queue:
        one = queue.pop()
        others = [chosen[name] for name in one.uses if name in chosen and not (chosen[name].stub and name not in exercises)]
        for other in others + before.get(id(one), []):
            if id(other) not in wanted:
                wanted[id(other)] = other
                queue.append(other)
    return [p for p in pieces if id(p) in wanted or "*" in p.binds]
