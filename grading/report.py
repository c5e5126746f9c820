"""Writes what people read: marks (`marks`), feedback for each student (`feedback`), the class report (`class_report`)."""

from datetime import datetime
from pathlib import Path
from typing import Any

from .batch import safe_name, write_text
from .class_report import class_report
from .course import Assignment
from .feedback import feedback_html, feedback_markdown
from .grade import OUTCOMES
from .marks import rows_of, write_grades
from .roster import Roster


def write_all(
    folder: Path,
    assignment: Assignment,
    submissions: list,
    results: dict[str, dict[str, Any]],
    facts: dict[str, Any],
    roster: Roster | None = None,
    deadline: datetime | None = None,
) -> dict[str, Any]:
    """All files of a class.

    Parameters
    ----------
    folder : Path
        Where `grades*.csv`, `report.html`, `report.json` and `feedback/` go.
    assignment : Assignment
    submissions : list of Submission
    results : dict
        Student → result (`grade.Grader.grade`).
    facts : dict
        What `batch.grade_class` says of the run.
    roster : Roster, optional
        The class list; who is on it and handed in nothing gets a row.
    deadline : datetime, optional
        What came later is marked late.

    Returns
    -------
    dict
        What is in `report.json`.
    """
    rows = rows_of(assignment, submissions, results, roster, deadline)
    write_grades(folder, assignment, rows, roster)
    for row in rows:
        result = results.get(row["key"])
        if result is not None and result.get("exercises"):
            place = folder / "feedback" / safe_name(row["key"])
            write_text(place.with_name(f"{place.name}.html"), feedback_html(assignment, row, result))
            write_text(place.with_name(f"{place.name}.md"), feedback_markdown(assignment, row, result))
    return class_report(folder, assignment, rows, results, facts, OUTCOMES)
