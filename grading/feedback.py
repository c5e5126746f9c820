"""What one student gets back, as a page and as Markdown: own code, what the public check said, a hint.

Never a hidden case, an expected value of one, or a solution: all of it is made from the public check (`grade`).
"""

import re
from dataclasses import dataclass
from typing import Any

from .course import Assignment
from .pages import page, title_of
from .texts import SYMBOL, spans, visible


@dataclass
class Box:
    """Exercises with the same mistake: it is told once."""

    outcome: str
    names: list[str]
    exercises: list[dict[str, Any]]

    @property
    def items(self) -> list[tuple[str, dict[str, Any]]]:
        return list(zip(self.names, self.exercises))

    @property
    def points(self) -> float:
        return sum(e["points"] for e in self.exercises)

    @property
    def max(self) -> float:
        return sum(e["max"] for e in self.exercises)


def boxes(result: dict[str, Any]) -> list[Box]:
    """What is to be told of a result: one box for each mistake, in the order of the notebook; what is right is left out."""
    found: dict[tuple[str, str], Box] = {}
    for name, e in result["exercises"].items():
        if e["outcome"] in ("right", "not attempted"):
            continue  # the table says it
        said = e["hint"] or re.sub(rf"\b{re.escape(name)}\b", "it", e["message"])
        box = found.setdefault((e["outcome"], said), Box(e["outcome"], [], []))
        box.names.append(name)
        box.exercises.append(e)
    return list(found.values())


def feedback_html(assignment: Assignment, row: dict[str, Any], result: dict[str, Any]) -> str:
    """A student's feedback as a page without scripts."""
    return page(
        "feedback.html",
        assignment={"title": title_of(assignment.name)},
        row=row | {"name": visible(row["name"])},
        result=result,
        boxes=boxes(result),
    )


def block(text: str, language: str = "") -> str:
    """A code block that nothing in the text can close."""
    text = visible(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def inline(text: str) -> str:
    """A text within a line of Markdown: what stands between backticks is code, nothing else is markup or HTML."""
    out = []
    for code, piece in spans(visible(text).replace("\n", " ")):
        if code:
            longest = max((len(run) for run in re.findall("`+", piece)), default=0)
            ticks = "`" * (longest + 1)
            out.append(f"{ticks} {piece} {ticks}" if longest else f"`{piece}`")
        else:
            out.append(re.sub(r"([\\`*\[\]<>#|~&$]|(?<!\w)_|_(?!\w))", r"\\\1", piece))
    return "".join(out)


def feedback_markdown(assignment: Assignment, row: dict[str, Any], result: dict[str, Any]) -> str:
    """A student's feedback as Markdown."""
    who = " ".join(inline(str(part)) for part in (row["name"], f"({row['student']})" if row["name"] else row["student"]) if part)
    lines = [
        f"# {title_of(assignment.name)}: {row['total']:g} of {row['max']:g} points",
        "",
        f"{who}{' · late' if row['late'] else ''}",
        "",
    ]
    if result.get("note"):
        lines += [block(result["note"]), ""]
    lines += ["| exercise | result | points |", "| --- | --- | ---: |"]
    lines += [
        f"| `{name}` | {SYMBOL[e['outcome']]} {e['outcome']} | {e['points']:g} of {e['max']:g} |"
        for name, e in result["exercises"].items()
    ]
    for box in boxes(result):
        names, e = ", ".join(f"`{name}`" for name in box.names), box.exercises[0]
        lines += ["", f"## {names}: {box.outcome}, {box.points:g} of {box.max:g} points", "", block(e["message"])]
        if e["hint"]:
            lines += ["", f"**Hint:** {inline(e['hint'])}"]
        for name, other in box.items:
            if other["code"]:
                lines += ["", f"Your code of `{name}` (cell {other['cell']}):", "", block(other["code"], "python")]
            if other.get("helpers"):
                lines += ["", "and what it calls:", "", block(other["helpers"], "python")]
    return "\n".join(lines) + "\n"
