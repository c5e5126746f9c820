"""What one student gets back, as a page and as Markdown: own code, what the public check said, a hint.

Never a hidden case, an expected value of one, or a solution: all of it is made from the public check (`grade`).
"""

import re
from typing import Any

from .course import Assignment
from .pages import page, title_of
from .texts import SYMBOL, visible


def feedback_html(assignment: Assignment, row: dict[str, Any], result: dict[str, Any]) -> str:
    """A student's feedback as a page without scripts."""
    return page(
        "feedback.html", assignment={"title": title_of(assignment.name)}, row=row | {"name": visible(row["name"])}, result=result
    )


def block(text: str, language: str = "") -> str:
    """A code block that nothing in the text can close."""
    text = visible(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def inline(text: str) -> str:
    """A text within a line of Markdown: no markup, no HTML."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~&$:@=^\"'])", r"\\\1", visible(text).replace("\n", " "))


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
    for name, e in result["exercises"].items():
        if e["outcome"] in ("right", "not attempted"):
            continue  # the table says it
        lines += ["", f"## `{name}`: {e['outcome']}, {e['points']:g} of {e['max']:g} points", "", block(e["message"])]
        if e["hint"]:
            lines += ["", f"**Hint:** {inline(e['hint'])}"]
        if e["code"]:
            lines += ["", f"Your code (cell {e['cell']}):", "", block(e["code"], "python")]
        if e.get("helpers"):
            lines += ["", "and what it calls:", "", block(e["helpers"], "python")]
    return "\n".join(lines) + "\n"
