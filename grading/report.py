"""Writes what people read: marks as CSV, feedback for each student, the class report.

All text that came from a student is escaped. Feedback shows a student's own code, what the public check said, and a hint;
never a hidden case, an expected value of one, or a solution.
"""

import base64
import csv
import html
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

from . import similarity
from .batch import safe_name, write_text
from .course import Assignment
from .grade import OUTCOMES

SYMBOL = {"right": "✓", "wrong": "✗", "error": "!", "timeout": "⧗", "not attempted": "–", "not found": "?"}
COLOUR = {"right": "#2a7f3e", "wrong": "#b8860b", "error": "#b03030", "timeout": "#7a3fa0", "not attempted": "#9a9a9a", "not found": "#c8c8c8"}
MEANING = {
    "right": "all checks passed, the hidden ones too", "wrong": "it runs, but not every answer is right",
    "error": "it stops with an error", "timeout": "it does not end in time",
    "not attempted": "the function is as it was handed out", "not found": "there is no function of this name",
}  # fmt: skip
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
pre{background:#f6f6f4;padding:.8rem;overflow:auto;border-radius:4px;font-size:14px;white-space:pre-wrap}h2{margin-top:2rem}
.n{text-align:right;font-variant-numeric:tabular-nums}.s{color:#555;font-size:.9rem}img{max-width:100%}"""


def rows_of(assignment: Assignment, submissions: list, results: dict[str, dict], roster: list[dict] | None, deadline: Any) -> list[dict[str, Any]]:
    """One row per student: everybody who handed in, and everybody on the roster who did not."""
    rows = []
    known = {submission.student: submission for submission in submissions}
    people = {}
    for person in roster or []:
        lowered = {value.lower() for value in person.values() if value}
        match = next((s for s in known.values() if s.student.lower() in lowered or (s.name and s.name.lower() in lowered)), None)
        people[match.student if match else person["student"]] = person
    for student in sorted({*known, *people}):
        submission, result, person = known.get(student), results.get(student), people.get(student, {})
        exercises = (result or {}).get("exercises") or {}
        late = bool(submission and (submission.late or (deadline and submission.time and submission.time > deadline)))
        row = {
            "student": person.get("student", student), "name": person.get("name") or (submission.name if submission else ""),
            "status": result["status"] if result else "missing", "late": "late" if late else "", "missing": "" if result else "missing",
            "submitted": submission.time.isoformat(sep=" ", timespec="minutes") if submission and submission.time else "",
        }  # fmt: skip
        if roster is not None and submission and student not in people:
            row["status"] += ", not on the roster"
        for name in assignment.exercises:
            row[name] = exercises.get(name, {}).get("points", 0.0)
        row["total"] = round(sum(row[name] for name in assignment.exercises), 2)
        row["max"] = sum(assignment.points.values())
        row["percent"] = round(100 * row["total"] / row["max"], 1)
        row["outcomes"] = " ".join(SYMBOL[exercises[name]["outcome"]] if name in exercises else "?" for name in assignment.exercises)
        row["note"] = (result or {}).get("note", "")
        row["feedback"] = f"feedback/{safe_name(student)}.html" if result else ""
        rows.append(row)
    return rows


def _cell(value: Any) -> Any:
    """A table cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value != "-" else value


def _csv(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["student"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def write_grades(folder: Path, assignment: Assignment, rows: list[dict[str, Any]]) -> None:
    """`grades.csv`, and the same marks in the columns that Moodle and Canvas import."""
    write_text(folder / "grades.csv", _csv(rows))
    moodle = [{"Identifier": f"Participant {r['student']}" if str(r["student"]).isdigit() else r["student"], "Full name": r["name"], "ID number": r["student"],
               "Grade": r["total"], "Maximum Grade": r["max"], "Feedback comments": r["outcomes"]} for r in rows]  # fmt: skip
    canvas = [{"Student": r["name"], "ID": r["student"], "SIS User ID": "", "SIS Login ID": "", "Section": "", assignment.name: r["total"]} for r in rows]
    points = {"Student": "    Points Possible", "ID": "", "SIS User ID": "", "SIS Login ID": "", "Section": "", assignment.name: sum(assignment.points.values())}
    write_text(folder / "grades_moodle.csv", _csv(moodle))
    write_text(folder / "grades_canvas.csv", _csv([points, *canvas]))


def feedback_markdown(assignment: Assignment, row: dict[str, Any], result: dict[str, Any]) -> str:
    """A student's feedback as Markdown."""

    def block(text: str) -> str:
        fence = "```"
        while fence in text:
            fence += "`"
        return f"{fence}\n{text}\n{fence}"

    lines = [f"# {assignment.name}: {row['total']:g} of {row['max']:g} points", ""]
    lines += [f"Student: `{str(row['student']).replace('`', '')}`{' (late)' if row['late'] else ''}", ""]
    if result.get("note"):
        lines += [block(result["note"]), ""]
    lines += ["| exercise | result | points |", "| --- | --- | ---: |"]
    lines += [f"| `{name}` | {e['outcome']} | {e['points']:g} of {e['max']:g} |" for name, e in result["exercises"].items()]
    for name, e in result["exercises"].items():
        if e["outcome"] != "right":
            lines += ["", f"## {name}: {e['outcome']}", "", block(e["message"])]
            lines += ["", "Hint:", "", block(e["hint"])] if e["hint"] else []
            lines += ["", f"Your code (cell {e['cell']}):", "", block(e["code"])] if e["code"] else []
    return "\n".join(lines) + "\n"


def feedback_html(assignment: Assignment, row: dict[str, Any], result: dict[str, Any]) -> str:
    """A student's feedback as a page without scripts."""
    e_ = html.escape
    body = [f"<h1>{e_(assignment.name)}</h1><p><b>{row['total']:g}</b> of {row['max']:g} points · {e_(str(row['student']))} {e_(row['name'])} {e_(row['late'])}</p>"]
    if result.get("note"):
        body.append(f"<p>{e_(result['note'])}</p>")
    body.append("<table><tr><th>exercise</th><th>result</th><th class=n>points</th></tr>")
    for name, e in result["exercises"].items():
        body.append(f'<tr><td><code>{e_(name)}</code></td><td style="color:{COLOUR[e["outcome"]]}">{SYMBOL[e["outcome"]]} {e["outcome"]}</td>'
                    f"<td class=n>{e['points']:g} of {e['max']:g}</td></tr>")  # fmt: skip
    body.append("</table>")
    for name, e in result["exercises"].items():
        if e["outcome"] == "right":
            continue
        body.append(f"<h2>{e_(name)}: {e['outcome']}</h2><p class=s>{MEANING[e['outcome']]}</p><pre>{e_(e['message'])}</pre>")
        if e["hint"]:
            body.append(f"<p><b>Hint:</b> {e_(e['hint'])}</p>")
        if e["code"]:
            body.append(f"<p class=s>Your code (cell {e['cell']}):</p><pre>{e_(e['code'])}</pre>")
    return _page(f"{assignment.name}: feedback", "\n".join(body))


def _page(title: str, body: str) -> str:
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
            f"<title>{html.escape(title)}</title><style>{STYLE}</style><body>{body}</body></html>\n")  # fmt: skip


def picture(assignment: Assignment, results: dict[str, dict]) -> bytes:
    """Outcomes per exercise as bars, and the marks of the class as a histogram: PNG."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    import numpy as np

    names, readable = assignment.exercises, [r for r in results.values() if r.get("exercises")]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 0.42 * len(names) + 2), width_ratios=[2, 1], layout="constrained")
    start = np.zeros(len(names))
    for outcome in OUTCOMES:
        share = np.array([100 * sum(r["exercises"][n]["outcome"] == outcome for r in readable) / max(1, len(readable)) for n in names])
        left.barh(names, share, left=start, color=COLOUR[outcome], label=outcome, height=0.75)
        for i, value in enumerate(share):
            if value >= 6:
                left.text(start[i] + value / 2, i, f"{value:.0f}", ha="center", va="center", color="black" if outcome == "not found" else "white", size=9)
        start += share
    left.invert_yaxis()
    left.set(xlim=(0, 100), xlabel=f"% of {len(readable)} submissions")
    left.spines[["top", "right", "left"]].set_visible(False)
    left.tick_params(axis="y", length=0)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=len(OUTCOMES), frameon=False)
    most = sum(assignment.points.values())
    right.hist([100 * r["total"] / most for r in readable], bins=np.linspace(0, 100, 21), color="#4477aa", edgecolor="white")
    right.set(xlabel="points (% of all)", ylabel="submissions", xlim=(0, 100))
    right.spines[["top", "right"]].set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    plt.close(figure)
    return out.getvalue()


def class_report(folder: Path, assignment: Assignment, rows: list[dict], results: dict[str, dict], stubs: dict[str, str], facts: dict) -> dict[str, Any]:
    """Write `report.html`, `report.png` and `report.json`; returns what is in the last."""
    e_ = html.escape
    readable = {student: r for student, r in results.items() if r.get("exercises")}
    pairs = similarity.suspicious_pairs({s: r.get("shingles", []) for s, r in readable.items()}, similarity.shingles(stubs))
    wrong = {name: Counter(r["exercises"][name]["group"] for r in readable.values()
                           if r["exercises"][name]["outcome"] in ("wrong", "error", "timeout")).most_common(8)
             for name in assignment.exercises}  # fmt: skip
    summary = {
        "assignment": assignment.name, "students": len(rows), "statuses": dict(Counter(row["status"] for row in rows)), "facts": facts,
        "exercises": {name: dict(Counter(r["exercises"][name]["outcome"] for r in readable.values())) for name in assignment.exercises},
        "mistakes": wrong, "similar": pairs,
    }  # fmt: skip
    png = picture(assignment, readable)
    (folder / "report.png").write_bytes(png)
    write_text(folder / "report.json", json.dumps(summary, indent=1))
    marks = sorted(row["percent"] for row in rows if not row["missing"])
    middle = f", the median has {marks[len(marks) // 2]:g} %" if marks else ""
    body = [f"<h1>{e_(assignment.name)}</h1><p>{len(rows)} students{middle}. "
            f"{', '.join(f'{count} {e_(status)}' for status, count in summary['statuses'].items())}. "
            f"Graded in {facts.get('seconds', 0):.0f} s ({facts.get('run', 0)} run, {facts.get('resumed', 0)} finished before), sandbox: {e_(str(facts.get('sandbox')))}.</p>",
            f'<img alt="Outcomes of each exercise, and the marks of the class" src="data:image/png;base64,{base64.b64encode(png).decode()}">',
            "<h2>The most frequent mistakes</h2><table><tr><th>exercise</th><th class=n>students</th><th>what the check said</th></tr>"]  # fmt: skip
    for name, groups in wrong.items():
        for number, (group, count) in enumerate(groups[:4]):
            body.append(f"<tr><td>{f'<code>{e_(name)}</code>' if not number else ''}</td><td class=n>{count}</td><td>{e_(group or 'no message')}</td></tr>")
    body.append("</table><h2>Alike</h2><p class=s>Pairs whose functions share most of what is rare in this class (names, comments and the code that "
                "was handed out do not count). A reason to look at both, never a proof.</p>")  # fmt: skip
    if pairs:
        body.append("<table><tr><th>one</th><th>other</th><th class=n>share</th><th class=n>rare pieces in common</th></tr>")
        body += [f"<tr><td>{e_(a)}</td><td>{e_(b)}</td><td class=n>{100 * share:.0f} %</td><td class=n>{n}</td></tr>" for a, b, share, n in pairs[:100]]
        body.append("</table>")
    else:
        body.append("<p>None.</p>")
    body.append("<h2>Students</h2><table><tr><th>student</th><th>status</th><th class=n>points</th><th>exercises</th><th>note</th></tr>")
    for row in rows:
        link = f'<a href="{e_(row["feedback"])}">{e_(str(row["student"]))}</a>' if row["feedback"] else e_(str(row["student"]))
        body.append(f"<tr><td>{link} {e_(row['name'])}</td><td>{e_(' '.join([row['status'], row['late']]))}</td><td class=n>{row['total']:g}</td>"
                    f"<td>{row['outcomes']}</td><td>{e_(row['note'][:200])}</td></tr>")  # fmt: skip
    legend = ", ".join(f"{SYMBOL[outcome]} {outcome}" for outcome in OUTCOMES)
    body.append(f"</table><p class=s>{legend}</p>")
    write_text(folder / "report.html", _page(f"{assignment.name}: class report", "\n".join(body)))
    return summary


def write_all(folder: Path, assignment: Assignment, submissions: list, results: dict[str, dict], facts: dict, stubs: dict[str, str],
              roster: list[dict] | None = None, deadline: Any = None) -> dict[str, Any]:  # fmt: skip
    """All files of a class; returns the summary."""
    rows = rows_of(assignment, submissions, results, roster, deadline)
    write_grades(folder, assignment, rows)
    by_file = {row["feedback"]: row for row in rows}
    for student, result in results.items():
        row = by_file.get(f"feedback/{safe_name(student)}.html")
        if row is not None:
            write_text(folder / "feedback" / f"{safe_name(student)}.html", feedback_html(assignment, row, result))
            write_text(folder / "feedback" / f"{safe_name(student)}.md", feedback_markdown(assignment, row, result))
    return class_report(folder, assignment, rows, results, stubs, facts)
