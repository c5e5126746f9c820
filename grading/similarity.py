"""Suspicious similarity between submissions: what a few students share and hardly anybody else has.

Each function becomes a row of tokens: names that the student chose, comments, docstrings, type hints, texts and layout do not
count, so renaming and reformatting change nothing. Every run of RUN tokens is a piece. Pieces do not count that were handed
out (stub, hints), that the lesson's own answer has, or that many of the class write alike: there are few ways to count true
positives. What is left is compared. This is a reason to look at two notebooks, never a proof.

Overlapping runs of tokens are the usual measure for copied programs (Schleimer, Wilkerson, Aiken: Winnowing, SIGMOD 2003).
"""

import ast
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

RUN = 9  # tokens in one piece
COMMON = 0.02  # pieces that more than this share of the class has (or more than FEW students) are everybody's
FEW = 3
ENOUGH = 45  # fewer rare pieces in common than this say nothing: a short function can only be written in so many ways
SHARE = 0.6  # of the rare pieces of the one who has fewer
ALIKE_TO_SOLUTION = 0.9


@dataclass(frozen=True)
class Pair:
    """Two students whose answers are alike: share of rare pieces in common, their number, and the exercises with most of them."""

    one: str
    other: str
    share: float
    common: int
    exercises: tuple[str, ...]


def tokens(source: str) -> list[tuple[str, int]]:
    """A program as syntax nodes in order, each with its line; names of the student's own as "name:…" ([] if it is no Python)."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    own |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    found: list[tuple[str, int]] = []
    todo: list[tuple[ast.AST, int]] = [(tree, 1)]  # a stack, for programs nested deeper than Python's own
    while todo:
        node, line = todo.pop()
        line = getattr(node, "lineno", line)
        match node:
            case ast.expr_context() | ast.arguments() | ast.Expr(value=ast.Constant()):
                continue  # docstrings and texts that stand alone, too
            case ast.Name(id=name):
                found.append((f"name:{name}" if name in own else name, line))
            case ast.Attribute(attr=name):
                found.append((f".{name}", line))
            case ast.keyword(arg=name):
                found.append((f"{name}=", line))
            case ast.Constant(value=value):
                found.append(("text" if isinstance(value, (str, bytes)) else repr(value)[:20], line))
            case _:
                found.append((type(node).__name__, line))
        children = list(ast.iter_child_nodes(node))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            children = node.body
        elif isinstance(node, ast.AnnAssign):
            children = [part for part in (node.target, node.value) if part]
        todo += [(child, line) for child in reversed(children)]
    return found


@lru_cache(maxsize=50_000)
def pieces(source: str) -> dict[str, tuple[int, int]]:
    """Digest of each run of tokens → its first and last line. Own names count only by where else in the run they stand."""
    row, found = tokens(source), {}
    for start in range(max(0, len(row) - RUN + 1)):
        run, names = row[start : start + RUN], {}
        text = " ".join(str(names.setdefault(token, len(names))) if token.startswith("name:") else token for token, _ in run)
        lines = [line for _, line in run]
        found.setdefault(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest(), (min(lines), max(lines)))
    return found


def of_text(text: str) -> set[str]:
    """Pieces of the code in a lesson's text: between backticks, and in fenced blocks."""
    blocks = re.findall(r"```(?:python)?\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
    return {digest for block in blocks for digest in pieces(block)}


def rare_pieces(answers: dict[str, dict[str, str]], given: Iterable[str]) -> dict[str, dict[str, set[str]]]:
    """Student → exercise → pieces that were not handed out and that few of the class have.

    Parameters
    ----------
    answers : dict
        Student → exercise → source of the function.
    given : iterable of str
        Digests that everybody may have: stubs, hints, the lesson's own answer.
    """
    given = set(given)
    mine = {student: {name: set(pieces(source)) - given for name, source in own.items()} for student, own in answers.items()}
    counts = Counter(digest for own in mine.values() for digest in set().union(*own.values()))
    most = max(FEW, COMMON * len(mine))
    return {
        student: {name: {digest for digest in found if counts[digest] <= most} for name, found in own.items()}
        for student, own in mine.items()
    }


def suspicious_pairs(answers: dict[str, dict[str, str]], given: Iterable[str]) -> list[Pair]:
    """Pairs of students who share much that is rare in this class, most alike first. Parameters as in `rare_pieces`."""
    rare = rare_pieces(answers, given)
    everything = {student: set().union(*own.values()) for student, own in rare.items()}
    owners: dict[str, list[str]] = defaultdict(list)
    for student in sorted(everything):
        for digest in everything[student]:
            owners[digest].append(student)
    together = Counter(pair for students in owners.values() for pair in combinations(students, 2))
    found = []
    for (one, other), common in together.items():
        share = common / min(len(everything[one]), len(everything[other]))
        if common >= ENOUGH and share >= SHARE:
            by_exercise = {name: len(rare[one][name] & rare[other].get(name, set())) for name in rare[one]}
            names = [name for name, count in sorted(by_exercise.items(), key=lambda item: -item[1]) if count >= RUN]
            found.append(Pair(one, other, round(share, 3), common, tuple(names)))
    return sorted(found, key=lambda pair: (-pair.share, -pair.common, pair.one, pair.other))


def groups(pairs: list[Pair]) -> list[list[str]]:
    """Students who hang together by pairs, largest group first."""
    parent: dict[str, str] = {}

    def root(student: str) -> str:
        while parent.setdefault(student, student) != student:
            student = parent[student]
        return student

    for pair in pairs:
        parent[root(pair.other)] = root(pair.one)
    found: dict[str, list[str]] = defaultdict(list)
    for student in parent:
        found[root(student)].append(student)
    return sorted((sorted(group) for group in found.values()), key=lambda group: (-len(group), group))


def common_lines(one: str, other: str, given: Iterable[str] = ()) -> tuple[set[int], set[int]]:
    """Line numbers (from 1) of two functions that their common pieces cover, for showing them side by side."""
    first, second = pieces(one), pieces(other)
    both = (set(first) & set(second)) - set(given)

    def lines(of: dict[str, tuple[int, int]]) -> set[int]:
        return {line for digest in both for line in range(of[digest][0], of[digest][1] + 1)}

    return lines(first), lines(second)


def like_the_solution(answers: dict[str, dict[str, str]], solution: dict[str, str], stubs: dict[str, str]) -> dict[str, list[str]]:
    """Student → exercises whose answer is the lesson's own, names and layout aside.

    Only exercises whose answer is long enough to say something (at least ENOUGH pieces that the stub does not have).
    """
    long = {name: set(pieces(source)) - set(pieces(stubs.get(name, ""))) for name, source in solution.items()}
    long = {name: wanted for name, wanted in long.items() if len(wanted) >= ENOUGH}
    found = {
        student: [
            name for name, wanted in long.items() if len(wanted & set(pieces(own.get(name, "")))) >= ALIKE_TO_SOLUTION * len(wanted)
        ]
        for student, own in answers.items()
    }
    return {student: names for student, names in found.items() if names}
