"""Grading: the functions are found wherever they stand; zips and broken files end as one student's problem."""

import io
import json
import zipfile

import pytest

from grading import notebook, similarity, submissions
from grading.course import assignment
from grading.notebook import NotebookError, find_answers, plain_python, read_cells

NAMES = ["get_ppv", "get_npv"]


def found(*cells: str, names: list[str] = NAMES) -> dict:
    return find_answers(list(cells), names)


def run(answer: notebook.Answer) -> dict:
    space: dict = {}
    for cell, line, source in answer.code:
        exec(compile("\n" * (line - 1) + source, cell, "exec"), space)
    return space


@pytest.mark.parametrize(
    "cells",
    [
        ["def get_ppv(y):\n    return 7"],
        ["x = 1\ndef get_ppv(y):\n    return 7\nplt.plot(x)\nmodel.fit(x)"],
        ["%%time\n%matplotlib inline\n!pip install x\ndef get_ppv(y):\n    return 7"],
        ["def get_ppv(y):\n    return 1", "def get_ppv(y):\n    return 7"],
        ["def get_ppv(y):\n    return 7", 'def get_ppv(y):\n    """Doc."""\n    raise NotImplementedError'],
        ["def get_ppv(y):\n    return 7", "def get_ppv(y:\n    return 8"],
        ['print "Python 2"\ndef get_ppv(y):\n    return 7\nprint "more"'],
        ["get_ppv = lambda y: 7"],
        ["def mine(y):\n    return 7", "get_ppv = mine"],
        ["import math as m\nSEVEN = m.floor(7.5)\ndef helper(): return SEVEN", "def get_ppv(y):\n    return helper()"],
        ["if True:\n    def get_ppv(y):\n        return 7"],
        ["from functools import lru_cache\n@lru_cache\ndef get_ppv(y):\n    return 7"],
        ["class Helper:\n    value = 7\ndef get_ppv(y):\n    return Helper.value"],
        ["def get_ppv(y):\n\treturn 7\nx = [1,\n"],
        ["def get_ppv(y):\n    text = '''\nnot a def\n'''\n    return 7"],
        ["%load_ext x\nfiles = !ls\ndef get_ppv(y):\n    return 7\nget_ppv?"],
    ],
)
def test_a_function_is_found_wherever_it_stands(cells):
    answer = found(*cells)["get_ppv"]
    assert answer.found == "found"
    assert run(answer)["get_ppv"](1) == 7


def test_the_six_ways_to_have_no_answer():
    answers = found("def get_ppv(y):\n    '''Doc.'''\n    raise NotImplementedError", "def my_get_npv(y):\n    return 1")
    assert answers["get_ppv"].found == "not attempted"
    assert answers["get_npv"].found == "not found" and "my_get_npv" in answers["get_npv"].note
    broken = found("def get_ppv(y):\n    print 'hello'\n    return 1")["get_ppv"]
    assert broken.found == "broken" and "Python 2" in broken.note
    assert found("")["get_ppv"].found == "not found"


def test_what_only_trains_or_plots_is_not_taken_along():
    answer = found("model = train()\nimport numpy as np", "y = load()\ndef get_ppv(z):\n    return np.mean(z)")["get_ppv"]
    assert [source for _, _, source in answer.code] == ["import numpy as np", "def get_ppv(z):\n    return np.mean(z)"]


def test_lines_are_those_of_the_cell():
    answer = found("", "\n\nx = 1\ndef get_ppv(y):\n    return 1 / 0")["get_ppv"]
    assert answer.code[0][:2] == ("cell 2", 4)


def test_other_languages_are_not_python():
    assert plain_python("%%bash\nrm -rf /") == "" and plain_python("%%html\n<p>") == ""


@pytest.mark.parametrize("data", [b"", b"   \n", b"{", b"<html>", b"[]", b"3", b"{}", b'{"cells": 3}', b"\xff\xfe\x00", b"[" * 100_000, b"\x80" * 50])
def test_what_is_no_notebook_is_said_in_words(data):
    with pytest.raises(NotebookError, match="[a-z]{3}"):
        read_cells(data)


@pytest.mark.parametrize("cells", [[1, None, "x"], [{"cell_type": "code"}], [{"cell_type": "code", "source": 5}, {"source": [1, 2]}]])
def test_odd_cells_do_no_harm(cells):
    assert find_answers(read_cells(json.dumps({"cells": cells}).encode()), NAMES)["get_ppv"].found == "not found"


def test_old_notebooks_and_windows_line_ends():
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["def get_ppv(y):\r\n", "    return 7\r\n"]}]}], "nbformat": 3}
    answer = find_answers(read_cells(b"\xef\xbb\xbf" + json.dumps(old).encode()), NAMES)["get_ppv"]
    assert run(answer)["get_ppv"](0) == 7


def test_the_lessons_answers_are_found_and_their_stubs_are_not_attempted():
    homework = assignment(2)
    assert {a.found for a in find_answers(list(homework.solution), homework.exercises).values()} == {"found"}
    assert {a.found for a in find_answers(list(homework.skeleton), homework.exercises).values()} == {"not attempted"}


# ---- submissions ------------------------------------------------------------------------------------------------------


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def collect(tmp_path, files: dict[str, bytes]) -> dict[str, submissions.Submission]:
    (tmp_path / "class.zip").write_bytes(zipped(files))
    return {s.student: s for s in submissions.find_submissions(tmp_path / "class.zip")}


def test_names_of_platforms(tmp_path):
    got = collect(tmp_path, {
        "Ada Byron_123_assignsubmission_file_/work.ipynb": b"{}", "lovelacebob_LATE_77_88_02-1.ipynb": b"{}",
        "Homework_eve_attempt_2026-11-20-10-11-12_nb.ipynb": b"{}", "plain.ipynb": b"{}", "submitted/hal/02/02.ipynb": b"{}"})  # fmt: skip
    assert set(got) == {"123", "77", "eve", "plain", "hal"}
    assert got["123"].name == "Ada Byron" and got["77"].late and got["eve"].time.hour == 10


def test_zips_inside_of_zips_and_rubbish(tmp_path):
    inner = zipped({"deep/02.ipynb": b"{}", "__MACOSX/._02.ipynb": b"x", ".ipynb_checkpoints/02.ipynb": b"x", "data.csv": b"x"})
    got = collect(tmp_path, {"ann.zip": inner, "bob.ipynb": b"{}", "cut.zip": inner[:60]})
    assert got["ann"].files == [("ann.zip/deep/02.ipynb", b"{}")]
    assert got["bob"].files and not got["cut"].files and "damaged" in got["cut"].problem


def test_a_path_cannot_lead_out(tmp_path):
    before = set(tmp_path.parent.rglob("*"))
    got = collect(tmp_path, {"ann.zip": zipped({"../../../../escaped.ipynb": b"{}", "C:\\x.ipynb": b"{}"}), "../../bob.ipynb": b"{}"})
    assert set(got) == {"ann", "bob"} and len(got["ann"].files) == 2
    assert set(tmp_path.parent.rglob("*")) - before <= {tmp_path, tmp_path / "class.zip"}


def test_a_bomb_is_one_students_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "MAX_FILE", 1 << 20)
    got = collect(tmp_path, {"bomb.zip": zipped({"a.ipynb": bytes(8 << 20)}), "bob.ipynb": b"{}"})
    assert "unpacks to more" in got["bomb"].problem and not got["bomb"].files and got["bob"].files


def test_zips_nested_too_deep_are_refused(tmp_path):
    data = zipped({"x.ipynb": b"{}"})
    for _ in range(5):
        data = zipped({"inner.zip": data})
    assert "zips inside" in collect(tmp_path, {"ann.zip": data, "bob.ipynb": b"{}"})["ann"].problem


# ---- similarity -------------------------------------------------------------------------------------------------------


def test_copies_are_seen_through_other_names_and_comments():
    own = "def f(y, p):\n    a = [v * 3 + 2 for v in y if v > 0.25]\n    b = sum(a) / (len(p) + 7)\n    while b > 9:\n        b -= 0.5\n    return b * 4 - 1"
    copy = (
        "def f(labels, said):\n    '''Mine.'''\n    q = [w * 3 + 2 for w in labels if w > 0.25]  # my idea\n    r = sum(q) / (len(said) + 7)\n    while r > 9:\n        r -= 0.5\n    return r * 4 - 1"
    )
    usual = "def f(y, p):\n    return ((p >= 0.5) & (y == 1)).sum() / max(1, (y == 1).sum())"
    by_student = {"ann": similarity.shingles({"f": own}), "bob": similarity.shingles({"f": copy})}
    by_student |= {f"s{i}": similarity.shingles({"f": usual}) for i in range(40)}
    pairs = similarity.suspicious_pairs(by_student, [])
    assert [(a, b) for a, b, *_ in pairs] == [("ann", "bob")]
    assert similarity.suspicious_pairs(by_student, similarity.shingles({"f": own})) == []
