"""The marks as tables: `grades.csv`, and the columns that learning platforms import.

No cell can become a formula in a spreadsheet: names and notes come from students.
"""

import csv
import io
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from .batch import safe_name, write_text
from .course import Assignment
from .deadline import in_zone, is_late
from .roster import Person, Roster, match
from .texts import SYMBOL, visible

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "|", "%")
BOM = "\ufeff"  # spreadsheets take a file without it for the encoding of the country


def rows_of(
    assignment: Assignment,
    submissions: list,
    results: dict[str, dict[str, Any]],
    roster: Roster | None = None,
    deadline: datetime | None = None,
) -> list[dict[str, Any]]:
    """One row for each student: everybody who handed in, and everybody on the class list who did not.

    Returns
    -------
    list of dict
        Keys as the columns of `grades.csv`, sorted by student; besides, `key` (id of the submission, "" where there is none) and
        `person` (row of the class list or None).
    """
    known = {submission.student: submission for submission in submissions}
    people = match(roster, {student: one.name for student, one in known.items()}) if roster else {}
    everybody: list[tuple[str, Person | None]] = [(student, people.get(student)) for student in known]
    if roster:
        present = {person.student for person in people.values()}
        everybody += [("", person) for person in roster.people if person.student not in present]
    rows = [
        _row(assignment, known.get(key), results.get(key), person, roster, deadline) | {"key": key, "person": person}
        for key, person in everybody
    ]
    return sorted(rows, key=lambda row: str(row["student"]))


def _row(
    assignment: Assignment,
    submission: Any,
    result: dict[str, Any] | None,
    person: Person | None,
    roster: Roster | None,
    deadline: datetime | None,
) -> dict[str, Any]:
    exercises = (result or {}).get("exercises") or {}
    points = {name: exercises.get(name, {}).get("points", 0.0) for name in assignment.exercises}
    most = sum(assignment.points.values())
    graded = (result or {}).get("file", "")
    time = submission.times.get(graded, submission.time) if submission else None
    says_late = bool(submission and (graded in submission.late_files if graded in submission.times else submission.late))
    late = says_late or is_late(time, deadline)
    status = result["status"] if result else "missing"
    note = (result or {}).get("note", "")
    if deadline and graded and time is None and not says_late and submission and submission.platform != "Canvas":
        note = f"When it was handed in is not known, and so not whether it is late. {note}".strip()
    if roster and submission and person is None:
        note = f"Not on the class list, or with the id of one and the name of another. {note}".strip()
    student = submission.student if submission else person.student
    return {
        "student": person.student if person else student,
        "name": (person and person.name) or (submission.name if submission else ""),
        "status": status,
        "late": "late" if late else "",
        "missing": "" if result else "missing",
        "submitted": f"{in_zone(time, deadline and deadline.tzinfo):%Y-%m-%d %H:%M}" if time else "",
        **points,
        "total": round(sum(points.values()), 2),
        "max": most,
        "percent": round(100 * sum(points.values()) / most, 1),
        "outcomes": " ".join(SYMBOL[exercises[name]["outcome"]] if name in exercises else "?" for name in assignment.exercises),
        "note": visible(note).replace("\n", " "),
        "feedback": f"feedback/{safe_name(submission.student)}.html" if result else "",
    }


def cell(value: Any) -> Any:
    """A table's cell that no spreadsheet takes for a formula; numbers stay numbers."""
    if not isinstance(value, str) or value == "-":
        return value
    value = visible(value).replace("\n", " ")
    return f"'{value}" if value.lstrip().startswith(FORMULA) else value


def table(columns: list[str], rows: Iterable[dict[str, Any]]) -> str:
    """CSV text. Texts that come from students must have gone through `cell`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _safe(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: cell(value) for key, value in row.items()} for row in rows]


def write_grades(folder: Path, assignment: Assignment, rows: list[dict[str, Any]], roster: Roster | None = None) -> list[str]:
    """Write `grades.csv`, and `grades_moodle.csv`, `grades_canvas.csv`, `grades_blackboard.csv`; returns their names.

    The columns are those that the importers look for: Moodle's offline grading worksheet (`Identifier`, `Grade` and
    `Last modified (grade)` must be there), Canvas's gradebook (`Student`, `ID`, …, `Section`, then assignments; a row of possible
    points), Blackboard's grade centre (`Username`, then columns). Where the class list is such a table, the marks are filled
    into it, with all its other columns.
    """
    columns = [
        "student",
        "name",
        "status",
        "late",
        "missing",
        "submitted",
        *assignment.exercises,
        "total",
        "max",
        "percent",
        "outcomes",
        "note",
        "feedback",
    ]
    write_text(folder / "grades.csv", BOM + table(columns, _safe(rows)))
    filled = [{**row, "filled": {**(row["person"].row if row["person"] else {})}} for row in rows]
    kind = _platform_of(roster)
    most = sum(assignment.points.values())
    write_text(folder / "grades_moodle.csv", _moodle(filled, roster if kind == "moodle" else None, most))
    write_text(folder / "grades_canvas.csv", _canvas(assignment.name, filled, roster if kind == "canvas" else None, most))
    write_text(
        folder / "grades_blackboard.csv", _blackboard(assignment.name, filled, roster if kind == "blackboard" else None, most)
    )
    return ["grades.csv", "grades_moodle.csv", "grades_canvas.csv", "grades_blackboard.csv"]


def _platform_of(roster: Roster | None) -> str:
    """Whose table the class list is."""
    columns = set(roster.columns if roster else ())
    if {"Identifier", "Grade", "Last modified (grade)"} <= columns:
        return "moodle"
    if {"Student", "ID", "Section"} <= columns:
        return "canvas"
    return "blackboard" if "Username" in columns and columns & {"Last Name", "First Name"} else ""


def _moodle(rows: list[dict[str, Any]], roster: Roster | None, most: float) -> str:
    columns = (
        list(roster.columns)
        if roster
        else [
            "Identifier",
            "Full name",
            "Email address",
            "Status",
            "Grade",
            "Maximum Grade",
            "Grade can be changed",
            "Last modified (submission)",
            "Last modified (grade)",
            "Feedback comments",
        ]
    )
    out = []
    for row in rows:
        number = str(row["key"] or row["student"])
        own = {
            "Identifier": f"Participant {number}" if number.isdigit() else number,
            "Full name": row["name"],
            "Status": row["status"],
            "Maximum Grade": most,
            "Grade can be changed": "Yes",
            "Last modified (submission)": row["submitted"] or "-",
        }
        comment = (
            {"Feedback comments": f"{row['total']:g} of {most:g} points: {row['outcomes']}"}
            if "Feedback comments" in columns
            else {}
        )
        # "-" where a date should be: Moodle takes it for "not graded yet" and does not refuse the row as out of date
        out.append(
            _safe([own | {k: v for k, v in row["filled"].items() if k in columns}])[0]
            | {"Last modified (grade)": "-"}
            | comment
            | {"Grade": row["total"]}
        )
    return table(columns, out)


def _canvas(title: str, rows: list[dict[str, Any]], roster: Roster | None, most: float) -> str:
    columns = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    known = [name for name in (roster.columns if roster else []) if name.strip().lower().startswith(title.lower())]
    column = known[0] if known else title  # with its number, as Canvas exports it: "Homework (4711)"
    out = [{"Student": "    Points Possible", column: most}]
    for row in rows:
        own = {"Student": row["name"] or row["student"], "ID": row["key"] or row["student"]}
        out.append(_safe([own | {k: v for k, v in row["filled"].items() if k in columns}])[0] | {column: row["total"]})
    return table([*columns, column], out)


def _blackboard(title: str, rows: list[dict[str, Any]], roster: Roster | None, most: float) -> str:
    columns = ["Last Name", "First Name", "Username", "Student ID"]
    known = [name for name in (roster.columns if roster else []) if name.strip().lower().startswith(title.lower())]
    column = known[0] if known else f"{title} [Total Pts: {most:g} Score]"
    out = []
    for row in rows:
        first, _, last = row["name"].rpartition(" ")
        own = {"Last Name": last, "First Name": first, "Username": row["key"] or row["student"]}
        out.append(_safe([own | {k: v for k, v in row["filled"].items() if k in columns}])[0] | {column: row["total"]})
    return table([*columns, column], out)
