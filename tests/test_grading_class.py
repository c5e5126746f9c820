"""The synthetic class deserves what it says: its answers are judged by the public checks, its files read back."""

import json

import pytest

import public_tests
from grading.course import assignment, notebook
from grading.inside.notebook import NotebookError, find_answers, read_cells
from grading.submissions import find_submissions
from grading.synthetic_class import KINDS, LAYOUTS, body, find_cell, make_class
from grading.typical_answers import RIGHT, UNUSUAL, WRONG

NUMBER = public_tests.EXERCISES


def function(name: str, text: str):
    """The stub of the lesson with this body, compiled with the notebook's imports."""
    import keras
    import numpy as np
    import tensorflow as tf

    space = {"np": np, "keras": keras, "tf": tf}
    exec(compile(body(name, text, find_cell(notebook(NUMBER[name]), name)["source"]), name, "exec"), space)
    return space[name]


@pytest.mark.parametrize("name", [name for name in NUMBER if name in assignment(NUMBER[name]).exercises])
def test_typical_answers_are_right_and_wrong_as_they_say(name):
    check = getattr(public_tests, f"{name}_test")
    for text in [*RIGHT[name], *([UNUSUAL[name]] if name in UNUSUAL else [])]:
        check(function(name, text))
    for text in WRONG[name]:
        with pytest.raises(AssertionError):
            check(function(name, text))


@pytest.mark.parametrize("number, layout", [(2, layout) for layout in LAYOUTS] + [(1, "folder"), (3, "moodle")])
def test_every_submission_is_read_back(tmp_path, number, layout):
    expected = make_class(tmp_path / "in", len(KINDS) + 6, seed=3, number=number, layout=layout)
    assert {one["kind"] for one in expected.values()} == set(KINDS) and json.loads(
        (tmp_path / "in" / "expected.json").read_text(encoding="utf-8")
    ) == expected
    found = {one.student: one for one in find_submissions(tmp_path / "in" if layout == "folder" else tmp_path / "in" / "class.zip")}
    assert set(found) == {student for student, one in expected.items() if one["status"] != "missing"}
    for student, submission in found.items():
        deserved = expected[student]
        if layout == "canvas":
            assert submission.late == deserved["late"]
        try:
            cells = read_cells(submission.files[0][1]) if submission.files else []
        except NotebookError:
            cells = []
        assert bool(cells) == (deserved["status"] != "unreadable"), deserved["kind"]
        states = {name: answer.found for name, answer in find_answers(cells, assignment(number).exercises).items()} if cells else {}
        for name, outcome in deserved["exercises"].items() if states else ():
            assert (states[name] == "not found") == (outcome == "not found"), (deserved["kind"], name)
    assert not (tmp_path / "escaped.ipynb").exists()


def test_the_same_seed_makes_the_same_class(tmp_path):
    for place in ("a", "b"):
        make_class(tmp_path / place, 30, seed=8)
    first, second = (sorted((tmp_path / place).iterdir()) for place in ("a", "b"))
    assert [path.name for path in first] == [path.name for path in second] and all(
        a.read_bytes() == b.read_bytes() for a, b in zip(first, second)
    )
