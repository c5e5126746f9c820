"""A class that hands in everything as people do, graded by the command: each student gets the mark deserved, or a reason."""

import csv
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from test_grading_choice import OWN
from test_grading_submissions import tar_of, zip_of

from grading.course import assignment, notebook
from grading.synthetic_class import body, find_cell
from grading.typical_answers import RIGHT
from grading.walls import works

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
ROOT = Path(__file__).parents[1]
KIND = "bubblewrap" if works("bubblewrap") else "process"
POINTS = list(assignment(2).points.values())


def work(right: int, number: int = 2) -> bytes:
    """A notebook with so many right answers, the others as handed out."""
    nb = notebook(number)
    for name in assignment(number).exercises[:right]:
        cell = find_cell(nb, name)
        cell["source"] = body(name, RIGHT[name][0], cell["source"])
    return json.dumps(nb).encode()


# What a notebook allows above a function, and what the function then finds there: each is right where its notebook passes.
ALLOWED = [
    ("N = 5\nN += 1", "assert N == 6"),
    ("positives = []\nfor i in range(3):\n    positives.append(i)", "assert positives == [0, 1, 2]"),
    ("d = {}\nd.update(a=1)", "assert d == {'a': 1}"),
    ("for ONE in [1]:\n    pass", "assert ONE == 1"),
    ("print(W := 7)", "assert W == 7"),
    ("import io\nwith io.StringIO('7') as w:\n    SEVEN = w.read()", "assert SEVEN == '7' and w.closed"),
    ("display(1)", "display(2)"),
    ("get_ipython().run_line_magic('matplotlib', 'inline')", "get_ipython()"),
    ("import util", "assert util.plt"),
    ("from __future__ import annotations", "x: Nowhere = 1"),
    ("new = {'a': 1}", 'assert f"{new["a"]}" == "1"'),
    ("films = load(DATA)\nM = 7", "assert M == 7"),
]


def work_that_uses_the_notebook() -> bytes:
    """Right answers, each with one of the ways above."""
    nb = notebook(2)
    for name, (above, inside) in zip(assignment(2).exercises, ALLOWED):
        cell = find_cell(nb, name)
        text = f"{inside}\n{RIGHT[name][0]}"
        cell["source"] = f"{above}\n{body(name, text, cell['source'])}"
    return json.dumps(nb).encode()


COURSE = {f"course/{name}": data for name, data in OWN.items()} | {"course/util.py": b"", "course/README.md": b""}
CLASS = {  # file → content, status, number of right answers
    "bob.ipynb.json": (work(2), "graded", 2),
    "eve.ipynb.txt": (work(1), "graded", 1),
    "ida.tar.gz": (tar_of({"ida/02.ipynb": work(3)}), "graded", 3),
    "kim.zip": (zip_of(COURSE | {"course/student/02.ipynb": work(2)}), "graded", 2),
    "0000007.ipynb": (work(4), "graded", 4),
    "nil.zip": (zip_of(COURSE), "graded", 0),
    "mia.ipynb": (work_that_uses_the_notebook(), "graded", len(ALLOWED)),
    "lee.ipynb": (OWN["02.ipynb"], "lesson's own", 0),
    "ann.ipynb": (work(1, 1), "wrong notebook", 0),
    "tim.ipynb": (work(5)[:5000], "unreadable", 0),
    "max.rar": (b"Rar!\x1a\x07\x00", "unreadable", 0),
    "pia.pdf": (b"%PDF-1.7", "unreadable", 0),
}
LATE = {"eve", "0000007"}


def test_each_gets_the_mark_deserved_and_the_summary_counts_them(tmp_path):
    (tmp_path / "in" / "uwe").mkdir(parents=True)
    for name, (data, *_) in CLASS.items():
        path = tmp_path / "in" / name
        path.write_bytes(data)
        day = datetime(2026, 11, 22 if name.split(".")[0] in LATE else 19).timestamp()
        os.utime(path, (day, day))
    students = [*(name.split(".")[0] for name in CLASS), "uwe", "zoé"]
    roster = "sep=;\nMatrikelnummer;name\n" + "".join(f"{one.lstrip('0')};{one}\n" for one in students)
    (tmp_path / "roster.csv").write_bytes(roster.encode("cp1252"))
    command = [
        sys.executable,
        "-m",
        "grading",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
        "--sandbox",
        KIND,
        "--jobs",
        "2",
    ]
    with_both = [*command, "--roster", str(tmp_path / "roster.csv"), "--deadline", "2026-11-20T23:59+01:00"]
    done = subprocess.run(with_both, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = tmp_path / "out" / "grades.csv"
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert set(rows) == {one.lstrip("0") for one in students}
    for name, (_, status, right) in CLASS.items():
        row = rows[name.split(".")[0].lstrip("0")]
        assert (row["status"], float(row["total"])) == (status, sum(POINTS[:right])), (name, row)
        assert bool(row["late"]) == (name.split(".")[0] in LATE), name
    assert rows["uwe"]["status"] == "unreadable" and "empty" in rows["uwe"]["note"] and rows["zoé"]["status"] == "missing"
    assert (
        "RAR" in rows["max"]["note"]
        and "solved" in rows["kim"]["note"]
        and "graded: course/student/02.ipynb" in rows["kim"]["note"]
    )
    assert "14 students: 7 graded, 4 unreadable, 1 wrong notebook, 1 missing, 1 lesson's own; 2 late" in done.stdout
    assert "(UTC+01:00)" in done.stdout

    before = table.read_bytes()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and table.read_bytes() == before, "the class list and the deadline are remembered"
    assert "As in the last run: --roster" in again.stderr and "0 graded" in again.stdout and "13 finished before" in again.stdout
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.ipynb").write_bytes(work(1))
    command[3] = str(tmp_path / "other")
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "holds the results of" in refused.stderr and table.read_bytes() == before


def test_of_several_attempts_the_newest_by_the_platforms_name_is_graded_and_decides_what_is_late(tmp_path):
    """Blackboard's names; the times in the zip are those of a copy, and say the opposite."""
    attempts = {
        "ada_attempt_2026-11-19-10-00-00_w.ipynb": work(5),
        "ada_attempt_2026-11-20-10-00-00_w.ipynb": work(2),
        "bob_attempt_2026-11-19-10-00-00_w.ipynb": work(1),
        "bob_attempt_2026-11-21-10-00-00_w.ipynb": work(3),
        "eve_attempt_2026-11-21-09-00-00_x_ada_attempt_2026-11-01-10-00-00_w.ipynb": work(4),
        "kim_attempt_2026-11-20-10-00-00_course.zip": zip_of(COURSE | {"course/student/02.ipynb": work(1)}),
    }
    (tmp_path / "class.zip").write_bytes(
        zip_of({f"Homework 2_{name}": data for name, data in attempts.items()}, (2026, 12, 1, 0, 0, 0))
    )
    command = [sys.executable, "-m", "grading", str(tmp_path / "class.zip"), "--out", str(tmp_path / "out"), "--sandbox", KIND]
    done = subprocess.run(
        [*command, "--deadline", "2026-11-20T23:59", "--jobs", "1"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["student"]: (float(row["total"]), row["late"]) for row in csv.DictReader(file)}
    marks = {"ada": (2, ""), "bob": (3, "late"), "eve": (4, "late"), "kim": (1, "")}
    assert rows == {student: (sum(POINTS[:right]), late) for student, (right, late) in marks.items()}
