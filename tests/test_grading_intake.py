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


COURSE = {f"course/{name}": data for name, data in OWN.items()} | {"course/util.py": b"", "course/README.md": b""}
CLASS = {  # file → content, status, number of right answers
    "bob.ipynb.json": (work(2), "graded", 2),
    "eve.ipynb.txt": (work(1), "graded", 1),
    "ida.tar.gz": (tar_of({"ida/02.ipynb": work(3)}), "graded", 3),
    "kim.zip": (zip_of(COURSE | {"course/student/02.ipynb": work(2)}), "graded", 2),
    "0000007.ipynb": (work(4), "graded", 4),
    "nil.zip": (zip_of(COURSE), "graded", 0),
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
    assert "13 students: 6 graded, 4 unreadable, 1 wrong notebook, 1 missing, 1 lesson's own; 2 late" in done.stdout
    assert "(UTC+01:00)" in done.stdout

    before = table.read_bytes()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and table.read_bytes() == before, "the class list and the deadline are remembered"
    assert "As in the last run: --roster" in again.stderr and "0 graded" in again.stdout and "12 finished before" in again.stdout
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.ipynb").write_bytes(work(1))
    command[3] = str(tmp_path / "other")
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "holds the results of" in refused.stderr and table.read_bytes() == before
