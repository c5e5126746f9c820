"""Which of a student's notebooks is graded: the newest, the student's own, of the lesson that was asked for."""

import json

from test_grading_submissions import NOTEBOOK, found, zip_of

from grading.choice import Kind, asked, choose, kind_of
from grading.course import assignment, notebook
from grading.submissions import find_submissions
from grading.synthetic_class import find_cell


def work(right: int, number: int = 2) -> bytes:
    """A student's notebook with so many answers."""
    nb = notebook(number)
    for name in assignment(number).exercises[:right]:
        cell = find_cell(nb, name)
        cell["source"] = cell["source"].replace("raise NotImplementedError", "return 0  # an answer")
    return json.dumps(nb).encode()


OWN = {
    f"{'student/' * student}0{n}.ipynb": json.dumps(notebook(n, solved=not student)).encode()
    for n in (1, 2, 3)
    for student in (0, 1)
}


def test_kinds_of_notebooks():
    states = {name: kind_of(data) for name, data in OWN.items()}
    assert states == {
        f"{'student/' * student}0{n}.ipynb": Kind("handed out" if student else "solved", n) for n in (1, 2, 3) for student in (0, 1)
    }
    assert kind_of(work(1)) == Kind("own", 2) and kind_of(b"{") == Kind("unreadable") and kind_of(NOTEBOOK) == Kind("unreadable")
    assert kind_of(b'{"cells": [{"cell_type": "code", "source": "x = 1"}]}') == Kind("another")


def graded_of(tmp_path, files, number=2):
    return {student: choose(one, number) for student, one in found(tmp_path, files).items()}


def test_a_copy_of_the_course_is_graded_by_the_students_own_notebook(tmp_path):
    mine = work(2)
    course = zip_of({**{f"course/{name}": data for name, data in OWN.items()}, "course/student/02.ipynb": mine})
    one = graded_of(tmp_path, {"ada.zip": course, "bob.zip": zip_of(OWN), "eve.ipynb": OWN["02.ipynb"], "kim.ipynb": work(3)})
    assert one["ada"].file[1] == mine and "solved" in one["ada"].note
    assert one["bob"].file == ("bob.zip/student/02.ipynb", OWN["student/02.ipynb"])
    assert one["eve"].file is None and "own solved notebook" in one["eve"].note and one["kim"].note == ""
    assert asked(find_submissions(tmp_path / "class.zip")) == 2


def test_the_newest_attempt_counts_not_the_one_with_more_answers(tmp_path):
    prefix, times = "HW_ada_attempt_2026-11-", ["19-10-00-00", "20-09-00-00", "20-10-00-00"]
    attempts = dict(zip(times, [work(1), work(9), work(2)]))
    one = graded_of(tmp_path, {f"{prefix}{time}_w.ipynb": attempts[time] for time in (times[1], times[2], times[0])})
    assert one["ada"].file[1] == attempts[times[2]] and "3 notebooks; graded" in one["ada"].note
    one = graded_of(tmp_path, {f"{prefix}{times[0]}_w.ipynb": work(5), f"{prefix}{times[1]}_w.ipynb": b"{cut"})
    assert one["ada"].file[1] == b"{cut", "the newest is unreadable, and that is what is said"
    one = graded_of(tmp_path, {f"{prefix}{times[0]}_w.ipynb": work(5), f"{prefix}{times[1]}_w.ipynb": OWN["02.ipynb"]})
    assert one["ada"].file[1] == work(5), "the lesson's own is never graded"
    canvas = {"lovelace_12_9001_hw.ipynb": work(7), "lovelace_12_9003_hw-1.ipynb": work(1), "hopper_13_9002_hw.ipynb": work(2)}
    assert graded_of(tmp_path, canvas)["12"].file[1] == work(1)
    one = graded_of(tmp_path, {"ada/01.ipynb": work(1, 1), "ada/02.ipynb": work(2), "bob/02.ipynb": work(1)})
    assert one["ada"].file[1] == work(2) and "notebook 1" in one["ada"].note
