"""The class at a glance: `report.html` for the instructor, and the same as data in `report.json`."""

import difflib
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from . import similarity
from .batch import write_text
from .course import Assignment, notebook
from .inside.notebook import find_answers
from .pages import page, title_of
from .texts import visible

BINS = 20  # of the histogram of marks
SHOWN = 40  # groups of students who are alike that are shown with their code
MISTAKES = 5  # of each exercise


def shares(assignment: Assignment, results: dict[str, dict[str, Any]], outcomes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Exercise → outcome → number of submissions."""
    counts = {name: Counter(r["exercises"][name]["outcome"] for r in results.values()) for name in assignment.exercises}
    return {name: {outcome: count[outcome] for outcome in outcomes} for name, count in counts.items()}


def mistakes(assignment: Assignment, results: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Exercise → the most frequent ways to be wrong: what the check said, how many students, who, and one student's code."""
    found = {}
    for name in assignment.exercises:
        who: dict[tuple[str, str], list[str]] = defaultdict(list)
        for student, result in results.items():
            e = result["exercises"][name]
            if e["outcome"] in ("wrong", "error", "timeout"):
                who[e["outcome"], e["group"] or e["hint"] or "no message"].append(student)
        frequent = sorted(who.items(), key=lambda item: (-len(item[1]), item[0]))[:MISTAKES]
        found[name] = [
            {
                "outcome": outcome,
                "said": visible(said),
                "students": sorted(students),
                "count": len(students),
                "code": visible(_typical([results[s]["exercises"][name]["code"] for s in students])),
            }
            for (outcome, said), students in frequent
        ]
    return {name: groups for name, groups in found.items() if groups}


def _typical(codes: list[str]) -> str:
    """The most frequent of these functions, the docstring left out."""
    shorter = [_without_docstring(code) for code in codes]
    return Counter(shorter).most_common(1)[0][0] if shorter else ""


def _without_docstring(code: str) -> str:
    head, quotes, rest = code.partition('"""')
    if quotes and head.rstrip().endswith(":") and '"""' in rest:
        return f"{head.rstrip()}\n{rest.split(quotes, 1)[1].lstrip(chr(10))}"
    return code


def handed_out(assignment: Assignment) -> tuple[set[str], dict[str, str], dict[str, str]]:
    """Pieces of code that everybody may have (stubs, hints, the lesson's own answers), the stubs, and those answers."""
    stubs = {name: answer.own for name, answer in find_answers(list(assignment.skeleton), assignment.exercises).items()}
    solution = {name: answer.own for name, answer in find_answers(list(assignment.solution), assignment.exercises).items()}
    given = set().union(*(similarity.pieces(source) for source in [*stubs.values(), *solution.values()]))
    texts = [cell["source"] for cell in notebook(assignment.number)["cells"] if cell["cell_type"] == "markdown"]
    return given.union(*map(similarity.of_text, texts)), stubs, solution


def alike(assignment: Assignment, results: dict[str, dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Groups of students whose answers are alike, with code side by side; and whose answers are the lesson's own."""
    answers = {student: {name: _whole(e) for name, e in r["exercises"].items() if e["code"]} for student, r in results.items()}
    given, stubs, solution = handed_out(assignment)
    pairs = similarity.suspicious_pairs(answers, given)
    groups = []
    for students in similarity.groups(pairs):
        inside = [pair for pair in pairs if pair.one in students and pair.other in students]
        best = inside[0]
        code = (
            [_beside(name, answers[best.one][name], answers[best.other][name], given) for name in best.exercises[:4]]
            if len(groups) < SHOWN
            else []
        )
        groups.append(
            {
                "students": students,
                "share": best.share,
                "common": best.common,
                "pairs": [vars(pair) for pair in inside],
                "one": best.one,
                "other": best.other,
                "exercises": list(best.exercises),
                "code": code,
            }
        )
    return groups, similarity.like_the_solution(answers, solution, stubs)


def _whole(exercise: dict[str, Any]) -> str:
    """A function, and after it the student's own functions that it calls."""
    return "\n\n".join(part for part in (exercise["code"], exercise.get("helpers", "")) if part)


def _beside(name: str, one: str, other: str, given: set[str]) -> dict[str, Any]:
    """Two functions, line by line, with a mark at the lines that are alike (or the same text)."""
    marks = similarity.common_lines(one, other, given)
    texts = [one.split("\n"), other.split("\n")]
    skip = [_docstring_lines(code) for code in (one, other)]
    equal = difflib.SequenceMatcher(None, *texts).get_matching_blocks()  # autojunk: a line written a thousand times says nothing
    same = [{block[side] + i + 1 for block in equal for i in range(block.size)} & (marks[side] or set()) for side in (0, 1)]
    return {
        "name": name,
        "sides": [
            [
                {"text": visible(line) or " ", "same": number in marks[side] or number in same[side]}
                for number, line in enumerate(lines, 1)
                if number not in skip[side]
            ]
            for side, lines in enumerate(texts)
        ],
    }


def _docstring_lines(code: str) -> set[int]:
    shorter = _without_docstring(code)
    if shorter == code:
        return set()
    start = code[: code.index('"""')].count("\n") + 1
    return set(range(start, start + code.count("\n") - shorter.count("\n")))


def class_report(
    folder: Path,
    assignment: Assignment,
    rows: list[dict[str, Any]],
    results: dict[str, dict[str, Any]],
    facts: dict[str, Any],
    outcomes: tuple[str, ...],
) -> dict[str, Any]:
    """Write `report.html` and `report.json`; returns what is in the second."""
    readable = {student: r for student, r in sorted(results.items()) if r.get("exercises")}
    groups, like_solution = alike(assignment, readable)
    by_key = {row["key"]: row for row in rows if row["key"]}
    percent = sorted(row["percent"] for row in rows if not row["missing"])
    counts = Counter(min(int(value * BINS / 100), BINS - 1) for value in percent)
    summary = {
        "assignment": assignment.name,
        "students": len(rows),
        "statuses": dict(Counter(row["status"] for row in rows)),
        "late": sum(bool(row["late"]) for row in rows),
        "median percent": _median(percent),
        "facts": facts,
        "exercises": shares(assignment, readable, outcomes),
        "mistakes": mistakes(assignment, readable),
        "alike": groups,
        "like the lesson's own answer": like_solution,
    }
    write_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    html = page(
        "class.html",
        title=title_of(assignment.name),
        assignment=assignment,
        rows=rows,
        by_key=by_key,
        results=readable,
        summary=summary,
        histogram=[counts[place] for place in range(BINS)],
        outcomes=outcomes,
    )
    write_text(folder / "report.html", html)
    return summary


def _median(values: list[float]) -> float | None:
    middle = len(values) // 2
    return None if not values else values[middle] if len(values) % 2 else round((values[middle - 1] + values[middle]) / 2, 1)
