"""Grading: the functions are found wherever they stand, whatever else is in the notebook."""

import json
import time

import pytest

from grading.course import assignment
from grading.inside import notebook
from grading.inside.notebook import NotebookError, find_answers, plain_python, read_cells

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


@pytest.mark.parametrize(
    "data", [b"", b"   \n", b"{", b"<html>", b"[]", b"3", b"{}", b'{"cells": 3}', b"\xff\xfe\x00", b"[" * 100_000, b"\x80" * 50]
)
def test_what_is_no_notebook_is_said_in_words(data):
    with pytest.raises(NotebookError, match="[a-z]{3}"):
        read_cells(data)


NB = json.dumps({"cells": [{"cell_type": "code", "source": "def get_ppv(y): return 7"}]}, indent=1)
MERGED = "def get_ppv(y):\n    z = 1\n<<<<<<< HEAD\n{}    return z\n{}=======\n    return 2\n>>>>>>> theirs\n\ndef get_npv(y):\n    return 7"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("at", [0, 2, 5])
def test_a_file_with_gits_markers_of_a_merge_is_called_so(at, end):
    lines = NB.split("\n")
    text = [*lines[:at], "<<<<<<< HEAD", *lines[at:], "=======", *lines[at:], ">>>>>>> 1a2b"]
    with pytest.raises(NotebookError, match="git's markers of a merge.*keep one of the two"):
        read_cells(end.join(text).encode())
    assert not notebook.half_merged(NB.replace("7", "7  # <<<<<<< ======= >>>>>>>").encode())


@pytest.mark.parametrize(("blank", "base"), [("", ""), ("\n", ""), ("", "||||||| base\n    return 3\n")])
def test_a_cell_with_gits_markers_of_a_merge_is_called_so(blank, base):
    """Not half of the function is graded, and what stands outside of the merge is found."""
    cell = MERGED.format(blank, base)
    answers = found(cell)
    assert answers["get_ppv"].found == "broken" and "cell 1 holds git's markers of a merge" in answers["get_ppv"].note
    assert run(answers["get_npv"])["get_npv"](0) == 7
    for source in (cell, cell.splitlines(keepends=True)):
        assert notebook.half_merged(json.dumps({"cells": [{"cell_type": "code", "source": source}]}).encode())


def test_a_heading_in_a_broken_function_is_no_merge():
    assert "git" not in found('def get_ppv(y):\n    """\nTitle\n=======\n    text"""\n    return (')["get_ppv"].note


@pytest.mark.parametrize("line", ["%run other.py", "%run ./lib/other.py -x 1", "%run -i 'other.ipynb'", "%run other"])
def test_what_a_script_that_is_run_may_bind_is_missed(line):
    answer = found(line, "def get_ppv(y):\n    return helper(y)")["get_ppv"]
    assert ("cell 1", 1, "from other import *") in answer.code


@pytest.mark.parametrize(
    "cells", [[1, None, "x"], [{"cell_type": "code"}], [{"cell_type": "code", "source": 5}, {"source": [1, 2]}]]
)
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


@pytest.mark.parametrize(
    "source",
    [
        "a = 1\n" * 8_000,
        "\n" * 400_000 + "%magic\nx = (",
        "%magic\n" * 40_000,
        "print 'x'\n" * 8_000,
        "from x import *\n" * 5_000,
        "x = " + "(" * 100_000,
        "x = " + "-" * 100_000 + "1",
        "def get_ppv(y):\n" + "".join(" " * i + "if y:\n" for i in range(1, 200)),
        "".join(f"def get_pp{i}(y): return 1\n" for i in range(4_000)),
        "x = x + 1\n" * 4_000 + "def get_ppv(y): return x",
    ],
    ids=["assignments", "lines", "magics", "prints", "stars", "brackets", "minus", "indents", "names", "chain"],
)
def test_code_made_to_be_slow_is_read_in_seconds(source):
    start = time.process_time()
    found(source)
    assert time.process_time() - start < 4


def test_more_cells_than_anybody_writes(monkeypatch):
    """The full attack, ten million cells, is 60 MB of JSON; here the limit is lower."""
    many = b'{"cells": [' + b"{}," * 300_000 + b'{"cell_type": "code", "source": "def get_ppv(y):\\n    return 7"}]}'
    assert find_answers(read_cells(many), NAMES)["get_ppv"].found == "not found", "cells after the limit do not count"
    monkeypatch.setattr(notebook, "MAX_BYTES", 1 << 19)
    with pytest.raises(NotebookError, match="clear the outputs"):
        read_cells(many)


def test_halves_of_characters_and_control_characters_are_taken_out():
    source = "def get_ppv(y):\n    return '\ud800 \x00 \x1b ü 漢'"
    (cell,) = read_cells(json.dumps({"cells": [{"cell_type": "code", "source": source}]}).encode())
    assert cell.encode() and "ü 漢" in cell and not set("\x00\x1b\ud800") & set(cell)


def test_arguments_hide_names_of_the_notebook():
    answer = found(
        "y = read_everything()\nmodel = train(y)", "def get_ppv(y, model=None):\n    p = y\n    return p", "p = model.predict()"
    )["get_ppv"]
    assert [source.split("(")[0] for _, _, source in answer.code] == ["def get_ppv"]


def test_a_name_that_is_made_in_steps_comes_with_all_of_them():
    answer = found("w = 14", "w = w / 2", "def get_ppv(y):\n    return w", "get_ppv = print_time(get_ppv)")["get_ppv"]
    assert run(answer)["get_ppv"](0) == 7 and len(answer.code) == 3 and not answer.helpers


def test_helpers_are_named_but_not_imports():
    answer = found("import math\ndef half(x):\n    return math.floor(x / 2)", "def get_ppv(y):\n    return half(15)")["get_ppv"]
    assert run(answer)["get_ppv"](0) == 7 and answer.helpers == ["def half(x):\n    return math.floor(x / 2)"]
