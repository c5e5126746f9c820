"""Suspicious similarity between submissions: what two students share and hardly anybody else has.

A student's functions are turned into tokens in which names, texts and comments do not count, and these into runs of
`SHINGLE` tokens. What was handed out and what many students write alike (there are few ways to count true positives) is
left out; of the rest, the share that two submissions have in common is compared. This is a reason to look, never a proof.
"""

import ast
import hashlib
from collections import Counter
from itertools import combinations

SHINGLE = 8  # tokens
COMMON = 0.1  # a run that more than this share of the class has is common
RARE_NEEDED = 12  # fewer rare runs than this say nothing
SUSPICIOUS = 0.6


def tokens(source: str) -> list[str]:
    """A program as the kinds of its syntax nodes in order; names by first use, numbers as they are, texts not at all."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    result: list[str] = []
    names: dict[str, int] = {}

    def visit(node: ast.AST) -> None:
        match node:
            case ast.Name(id=name) | ast.arg(arg=name):
                result.append(f"{type(node).__name__}{names.setdefault(name, len(names))}")
            case ast.Attribute(attr=name):
                result.append(f".{name}")
            case ast.Constant(value=value):
                result.append("text" if isinstance(value, str) else repr(value)[:20])
            case ast.expr_context():
                return
            case _:
                result.append(type(node).__name__)
        for child in ast.iter_child_nodes(node):
            visit(child)

    try:
        visit(tree)
    except RecursionError:
        pass
    return result


def shingles(sources: dict[str, str]) -> list[str]:
    """Short digests of all runs of tokens in a student's functions."""
    found = set()
    for source in sources.values():
        run = tokens(source)
        found |= {hashlib.blake2b(" ".join(run[i : i + SHINGLE]).encode(), digest_size=6).hexdigest() for i in range(max(0, len(run) - SHINGLE + 1))}
    return sorted(found)


def suspicious_pairs(by_student: dict[str, list[str]], handed_out: list[str]) -> list[tuple[str, str, float, int]]:
    """Pairs with much in common that is rare in this class: (one, other, share, number of rare runs in common)."""
    given = set(handed_out)
    runs = {student: set(digests) - given for student, digests in by_student.items()}
    counts = Counter(digest for digests in runs.values() for digest in digests)
    most = max(3, COMMON * len(runs))
    rare = {student: {d for d in digests if counts[d] <= most} for student, digests in runs.items()}
    where: dict[str, list[str]] = {}
    for student, digests in rare.items():
        for digest in digests:
            where.setdefault(digest, []).append(student)
    together = Counter(pair for students in where.values() for pair in combinations(sorted(students), 2))
    found = []
    for (one, other), common in together.items():
        share = common / len(rare[one] | rare[other])
        if common >= RARE_NEEDED and share >= SUSPICIOUS:
            found.append((one, other, round(share, 3), common))
    return sorted(found, key=lambda pair: (-pair[2], pair))
