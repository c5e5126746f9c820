"""Grading hostile code: every attack gets the mark that it deserves, and the neighbour's result stays what it was."""

import json
import linecache
import os
import re
import sys
import warnings
from pathlib import Path

import pytest
from attacks import CRASHES, FORGERIES, SECRETS, STUCK

from grading import walls
from grading.grade import Grader, Settings
from grading.inside import confine, worker

ASKED = os.environ.get("SANDBOX", "")  # one kind only: SANDBOX=process python -m pytest tests/test_grading_attacks.py
KIND = ASKED or ("bubblewrap" if walls.works("bubblewrap") else "process")
KINDS = [KIND] if ASKED else list(dict.fromkeys([KIND, "process"]))
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
HONEST = "def get_prevalence(y):\n    return np.mean(y) if len(y) else np.nan"
NEIGHBOUR = [HONEST, "def true_positives(y, pred, th=0.5):\n    return np.sum((pred > th) & (y == 1))"]  # one right, one partly


def nb(*cells: str) -> bytes:
    return json.dumps({"cells": [{"cell_type": "code", "source": source} for source in cells]}).encode()


@pytest.fixture(scope="module")
def graders():
    """One for each kind of sandbox, started when it is first asked for, so that all attacks meet the same template process."""
    made: dict[str, Grader] = {}

    def grader(kind: str) -> Grader:
        if kind not in made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made[kind] = Grader(Settings(2, 4711, kind, cpu=2))
            made[kind].before = seen(made[kind].grade(nb(*NEIGHBOUR)))
        return made[kind]

    yield grader
    for one in made.values():
        check_neighbour(one)
        assert one.sandbox.started <= 2 and one.sandbox.warm
        one.close()


@pytest.fixture
def grader(graders, request):
    return graders(request.param)


def seen(result: dict) -> dict:
    """A result without its times."""
    return {key: value for key, value in result.items() if key != "seconds"}


def needs_hidden_files(grader: Grader) -> None:
    """Without bubblewrap files are hidden by Landlock."""
    if grader.sandbox.kind == "process" and confine.landlock() < 1:
        pytest.skip("this kernel has no Landlock: an ordinary process can read files, as the warning says")


def check_neighbour(grader: Grader) -> None:
    after = seen(grader.grade(nb(*NEIGHBOUR)))
    assert after == grader.before and after["exercises"]["get_prevalence"]["outcome"] == "right"
    assert 0 < after["exercises"]["true_positives"]["points"] < 5


ATTACKS = STUCK | CRASHES | FORGERIES | SECRETS


CASES = [(KIND, attack) for attack in ATTACKS]
if len(KINDS) > 1:  # what depends on the kind of sandbox is tried without bubblewrap, too
    CASES += [("process", attack) for attack in ["infinite loop", *CRASHES, *SECRETS]]
every_kind = pytest.mark.parametrize("grader", KINDS, indirect=True)
best_kind = pytest.mark.parametrize("grader", [KIND], indirect=True)


GROUPS = [CASES[start : start + 8] for start in range(0, len(CASES), 8)]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: f"{group[0][0]}-{group[0][1]}…")
def test_an_attack_gets_what_it_deserves_and_harms_nobody(group, graders):
    """Attacks of a group meet the same grader one after the other, then the neighbour is graded."""
    failures = []
    for kind, attack in group:
        grader, (code, outcomes) = graders(kind), ATTACKS[attack]
        if attack in SECRETS and kind == "process" and confine.landlock() < 1:
            continue  # this kernel cannot hide files from an ordinary process, as the warning says
        source = f"import numpy as np\ndef get_accuracy(y, pred, th=0.5):\n    {code}\n    return 0.123"
        result = grader.grade(nb(source))["exercises"]["get_accuracy"]
        text = json.dumps(result).encode().decode()
        allowed = ["not attempted"] if outcomes == "not attempted" else outcomes.split()
        if result["outcome"] not in allowed or result["points"] != 0 or "\ud800" in result["message"] or "\x1b" in text:
            failures.append((kind, attack, result["outcome"], result["points"], result["message"]))
    for kind in dict(group):
        check_neighbour(graders(kind))
    assert not failures


def test_a_thousand_frames_are_described_in_no_time(monkeypatch):
    """Of a RecursionError: nobody looks for the lines of its frames on the disk, in the student's processor time."""
    monkeypatch.setattr(linecache, "getlines", lambda *_: pytest.fail("the disk was asked"))
    space: dict = {}
    exec(compile("def f(n):\n    return f(n)", "cell 1", "exec"), space)
    with pytest.raises(RecursionError) as caught:
        space["f"](1)
    assert worker.describe(caught.value) == {"error": "RecursionError", "text": str(caught.value), "lines": [["cell 1", 2]] * 4}


@best_kind
def test_a_submission_that_sleeps_everywhere_does_not_hold_the_worker_for_long(grader, monkeypatch):
    """After two timeouts the other exercises get a fifth of the time; the next submission has all of it again."""
    names, walls_of, real = list(grader.assignment.exercises), [], grader.sandbox.session
    monkeypatch.setattr(grader.sandbox, "session", lambda limits: walls_of.append(limits.wall) or real(limits))
    sleeps = [f"def {name}(*args, **options):\n    __import__('time').sleep(1000)" for name in names]
    exercises = grader.grade(nb(*sleeps))["exercises"]
    assert {result["outcome"] for result in exercises.values()} == {"timeout"}
    whole = grader.settings.limits.wall
    _, *functions = walls_of  # a session waits for so many seconds and then once or twice more if the machine is overloaded
    assert (
        functions[0] == whole and functions.count(whole) == 2 and functions.count(2.0) == len(names) - 2 and min(functions) == 2.0
    )
    check_neighbour(grader)


@best_kind
def test_a_submission_that_sleeps_not_quite_to_the_limit_does_not_hold_the_worker_for_long(grader, monkeypatch):
    names, walls_of, real = list(grader.assignment.exercises)[:4], [], grader.sandbox.session
    monkeypatch.setattr(grader.sandbox, "session", lambda limits: walls_of.append(limits.wall) or real(limits))
    whole = grader.settings.limits.wall
    nap = f"    if not naps:\n        naps.append(__import__('time').sleep({0.6 * whole}))\n    return 0.123"  # in the first call only
    sleeps = [f"naps = []\ndef {name}(*args, **options):\n{nap}" for name in names]
    exercises = grader.grade(nb(*sleeps))["exercises"]
    assert [exercises[name]["outcome"] for name in names] == ["wrong", "wrong", "timeout", "timeout"]
    assert walls_of[1] == whole and walls_of[-1] == 2.0
    check_neighbour(grader)


PROBES = {
    "solutions": str(walls.ROOT / "lessons"),
    "solved notebooks": str(next(walls.ROOT.glob("02_*.ipynb"))),
    "oracle": str(walls.ROOT / "public_tests.py"),
    "answers": str(Path(__file__).parent / "answers"),
    "this file": __file__,
    "grader": str(walls.ROOT / "grading" / "checks.py"),
    "home": str(Path.home()),
    "passwords": "/etc/passwd",
    "root": "/",
    "parent folder": "..",
    "processes": "/proc/1/environ",
    "maps": "/proc/self/maps",
    "var": "/var",
}


@every_kind
def test_nothing_of_the_instructor_can_be_read(grader, tmp_path):
    """Neither the course, nor the folder of results with seed and marks, nor other submissions."""
    needs_hidden_files(grader)
    (tmp_path / "seed.txt").write_text("4711")
    places = [*PROBES.values(), str(tmp_path / "seed.txt"), str(tmp_path)]
    look = f"""import os
def get_prevalence(y):
    for place in {places!r}:
        if place in ('/', {str(Path.home())!r}, '..'):
            try: names = os.listdir(place)
            except OSError: continue
            if any(name in ('lessons', 'etc', '.ssh', 'results', 'seed.txt') and name != 'etc' for name in names): return -1.0
            continue
        try:
            os.listdir(place) if os.path.isdir(place) else open(place, 'rb').read(1)
        except OSError: continue
        raise RuntimeError(place)
    return float(np.mean(y)) if len(y) else np.nan"""
    result = grader.grade(nb(look))["exercises"]["get_prevalence"]
    assert result["outcome"] == "right", result["message"]


@every_kind
def test_nothing_can_be_written_but_an_own_empty_folder(grader):
    needs_hidden_files(grader)
    places = [
        "/",
        "/usr",
        "/etc",
        "/inside",
        "/dev",
        "/venv",
        sys.prefix,
        sys.base_prefix,
        "/proc",
        "/home",
        "/tmp/..",
        str(walls.INSIDE),
    ]
    writes = f"""import os
def get_prevalence(y):
    if os.listdir('.'): return -1.0
    for place in {places!r}:
        try: open(place + '/x', 'w')
        except OSError: continue
        raise RuntimeError(place)
    return float(np.mean(y)) if len(y) else np.nan"""
    leaves = """import os
def get_accuracy(y, pred, th=0.5):
    open('left', 'w').write('x')
    os.makedirs('folder/inside', exist_ok=True)
    try: open('/dev/shm/left', 'w').write('x')
    except OSError: pass
    return float(np.mean((pred >= th) == y)) if len(y) else np.nan"""
    for _ in range(2):
        exercises = grader.grade(nb(leaves, writes))["exercises"]
        assert exercises["get_prevalence"]["outcome"] == "right", exercises["get_prevalence"]["message"]
        assert exercises["get_accuracy"]["outcome"] == "right", exercises["get_accuracy"]["message"]
    assert not os.path.exists("/dev/shm/left")


@every_kind
def test_a_file_of_the_instructor_stays_what_it_is(grader, tmp_path):
    """Time decides lateness: not only contents, but times, rights, names and links of a neighbour's file are safe."""
    needs_hidden_files(grader)
    file = tmp_path / "neighbour.ipynb"
    file.write_text("work")
    os.utime(file, (1e9, 1e9))
    tmp_path.chmod(0o777)
    file.chmod(0o666)
    acts = [
        "os.rename(p, p + '1')",
        "os.link(p, 'here')",
        "os.unlink(p)",
        "os.truncate(p, 0)",
        "os.chmod(p, 0)",
        "os.utime(p, (0, 0))",
    ]
    acts += ["os.chown(p, -1, -1)", "os.setxattr(p, 'user.x', b'1')", "os.symlink(p, p + '2')", "os.mkdir(p + '3')", "os.rmdir(q)"]
    acts += [
        "os.rename(q, q + '1')",
        "os.replace('here.txt', p)",
        "open(p, 'a')",
        "os.mkfifo(p + '4')",
        "os.removexattr(p, 'user.x')",
    ]
    code = f"import os\ndef get_prevalence(y):\n    p, q = {str(file)!r}, {str(tmp_path)!r}\n    open('here.txt', 'w').close()\n"
    for act in acts:
        code += f"    try: {act}\n    except OSError: pass\n    else: raise RuntimeError({act!r})\n"
    result = grader.grade(nb(code + "    return float(np.mean(y)) if len(y) else np.nan"))["exercises"]["get_prevalence"]
    assert result["outcome"] == "right", result["message"]
    assert os.listdir(tmp_path) == [file.name] and file.read_text() == "work"
    assert file.stat().st_mtime == 1e9 and file.stat().st_nlink == 1 and file.stat().st_mode & 0o777 == 0o666


@best_kind
def test_what_a_module_does_when_it_is_defined_counts_as_well(grader):
    """Decorators, defaults and metaclasses run before the first call."""
    evil = "import os\ndef now(f):\n    os._exit(0)\n@now\ndef get_accuracy(y, pred, th=0.5):\n    return 1.0"
    loop = "def get_npv(y, pred, th=[0 for _ in iter(int, 1)]):\n    return 1.0"
    exercises = grader.grade(nb(evil, loop))["exercises"]
    assert exercises["get_accuracy"]["outcome"] == "error" and exercises["get_npv"]["outcome"] in ("timeout", "error")
    check_neighbour(grader)


@best_kind
def test_answers_remembered_by_their_input_get_nothing(grader):
    """The public cases by heart, in the ways that students have tried: by length, by a hash, by a counter."""
    by_length = "def get_accuracy(y, pred, th=0.5):\n    return {4: 0.5, 10: 0.6, 60: 0.55}.get(len(y), 0.5)"
    by_hash = "import hashlib\nKNOWN = {'0': 0.5}\ndef get_npv(y, pred, th=0.5):\n    return KNOWN.get(hashlib.md5(y.tobytes()).hexdigest()[:1], 1.0)"
    counter = "calls = []\ndef get_ppv(y, pred, th=0.5):\n    calls.append(1)\n    return [0.5, 0.6, 0.7][len(calls) % 3]"
    exercises = grader.grade(nb(by_length, by_hash, counter))["exercises"]
    assert [exercises[name]["points"] for name in ("get_accuracy", "get_npv", "get_ppv")] == [0, 0, 0]


@best_kind
def test_an_answer_cannot_make_the_grader_allocate(grader):
    """Row numbers of 10^11 would be counted in an array of as many entries."""
    rows = "def bootstrap_patients(patient_ids, rng):\n    return np.array([10 ** 11] * len(patient_ids))"
    result = grader.grade(nb(rows))["exercises"]["bootstrap_patients"]
    assert result["outcome"] in ("wrong", "error") and result["points"] <= 0.3 * result["max"]
    check_neighbour(grader)


@best_kind
def test_feedback_never_shows_a_hidden_case(grader):
    public = "(5, 4, 3, 1, 77, 301, 0)"
    tells = f"def get_prevalence(y):\n    raise ValueError('LEAK ' + repr(y.tolist()) if len(y) not in {public} else 'public')"
    text = json.dumps(grader.grade(nb(tells))["exercises"]["get_prevalence"] | {"code": ""})
    assert "LEAK" not in text and "public" in text
    hidden_only = f"def get_prevalence(y):\n    if len(y) not in {public}: raise ValueError('LEAK ' + repr(y.tolist()))\n    return float(np.mean(y)) if len(y) else np.nan"
    exercise = grader.grade(nb(hidden_only))["exercises"]["get_prevalence"]
    assert exercise["outcome"] == "wrong" and "other inputs" in exercise["message"]
    assert "LEAK" not in exercise["message"] + exercise["hint"] + exercise["group"]


@best_kind
def test_errors_name_the_students_line(grader):
    exercise = grader.grade(nb("", "import numpy as np\n\ndef get_prevalence(y):\n    z = 1\n    return undefined_name"))[
        "exercises"
    ]["get_prevalence"]
    assert exercise["outcome"] == "error" and "NameError" in exercise["message"] and "cell 2 line 5" in exercise["message"]


@every_kind
def test_feedback_never_shows_a_hidden_case_by_a_name_a_line_or_a_broken_answer(grader):
    """What a student's code chooses is never printed: the name of a class of errors, lines, keys and texts of forged answers."""
    if_hidden = "if len(y) not in (5, 4, 3, 1, 77, 301, 0):"
    told = "'LEAK' + ''.join(map(str, map(int, y)))[:40]"
    forged = [
        f"raise type({told}, (Exception,), {{}})('x')",
        f"raise type({told}, (ValueError,), {{}})('x')",
        *(
            f"import json, os, struct; m = json.dumps({answer}).encode(); os.write(101, struct.pack('<II', len(m), 0) + m)"
            for answer in (
                f"{{'error': {told}, 'text': {told}, 'lines': [[{told}, 1]]}}",
                f"{{'error': 'ValueError', 'text': '', 'lines': [['cell 1', {told}]]}}",
                f"{{'value': [{told}], 'gradient': ['none'], 'changed': {{}}, 'global_random': 0}}",
                f"{{'value': ['float', {told}], 'gradient': ['none'], 'changed': {{{told}: 1}}, 'global_random': 0}}",
                f"{{{told}: 1}}",
            )
        ),
    ]
    for code in forged:
        source = f"def get_prevalence(y):\n    {if_hidden}\n        {code}\n    return float(np.mean(y)) if len(y) else np.nan"
        exercise = grader.grade(nb(source))["exercises"]["get_prevalence"]
        assert exercise["outcome"] in ("wrong", "error"), exercise
        assert "LEAK" not in json.dumps(exercise | {"code": ""}), code


# In a notebook with a right answer: what reading it may cost, or break.
UNREADABLE = {
    "long sum": "x = " + "+".join(["1"] * 5_000),
    "branches": "if 0: pass\n" + "elif 0: pass\n" * 1_500,
    "nested lambdas": "x = " + "lambda: " * 900 + "0",
    "nested lists": "x = " + "[" * 5_000 + "]" * 5_000,
    "huge number": "x = 0x" + "f" * 6_000 + "\ny = " + "9" * 6_000,
    "magics": "%a\n" * 1_000,
    "magics between": "%a\nx = 1\n" * 1_000,
    "null bytes": "x = '\0'\n\0",
    "halves of characters": "x = '\ud800'",
    "open bracket": "x = (\n" + "y = 1\n" * 500,
    "names": "".join(f"a{i} = a{i - 1} if a{i - 1} else a{i - 2}\n" for i in range(2, 2_000)),
    "comparisons": "x = " + "<".join(["1"] * 5_000),
    "texts": "x = " + "'a' " * 50_000,
    "decorators": "@print\n" * 3_000 + "def f(): pass",
    "continued magics": "%a \\\n" * 2_000 + "\nx = (",
    "continued lines": "x = 1 \\\n" + "\\\n" * 20_000,
    "help": "a?\n" * 2_000,
    "blocks": "".join(" " * i + "if 1:\n" for i in range(150)) + " " * 150 + "pass",
    "letters that grow": "x\ufdfa = '" + "\ufdfa" * 10_000 + "'",
    "blanks": " " * 30_000 + "x y (",
    "patterns": "match 1:\n" + "    case 1: pass\n" * 3_000,
    "functions": "".join(f"def f{i}():\n    global g{i}\n    g{i} = f{i - 1}()\n" for i in range(1, 500)),
}


@every_kind
def test_what_is_hard_to_read_costs_nobody_else(grader):
    for what, cell in UNREADABLE.items():
        result = grader.grade(nb(cell, HONEST))
        assert result["exercises"]["get_prevalence"]["outcome"] == "right", (what, result["note"])
    for data in (
        b'{"cells": [' + b"{}," * 1_000_000 + b"{}]}",
        b'{"cells": ' + b"[" * 900_000,
        b"9" * 900_000,
        b"\xff\xfe" + b"x" * 999,
    ):
        result = grader.grade(data)
        assert result["status"] == "unreadable" and result["note"], data[:20]
    check_neighbour(grader)


# Right answers that need what a notebook has and a script has not; {name} is one of the counts.
ALLOWED = {
    "display": ("display(1)", "display(y)"),
    "the shell": ("get_ipython().run_line_magic('matplotlib', 'inline')", "get_ipython()"),
    "the course": ("import util\nfrom data.nih import FINDINGS", "assert len(FINDINGS) == 14 and util.plt"),
    "a picture": ("import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()", "plt.title('x')"),
    "a file of its own": ("%%writefile mine.py\nseven = 7", "import mine; assert mine.seven == 7"),
    "a new f-string": ("d = {'a': 1}", 'assert f"{d["a"]}" == \'1\''),
    "await": ("async def f():\n    return 7\nN = await f()", "assert N == 7"),
    "a counter": ("N = 0\nfor i in range(7):\n    N += 1", "assert N == 7"),
    "a progress bar": ("from tqdm import tqdm", "list(tqdm(range(3)))"),
    "a library": ("from sklearn.metrics import confusion_matrix", "assert confusion_matrix([0, 1], [0, 1])[0, 0] == 1"),
    "lines that fail": ("films = load(DATA)\nN = 7", "assert N == 7"),
}


@every_kind
def test_what_a_notebook_allows_is_right_here(grader):
    right = {"true_positives": (1, True), "true_negatives": (0, False), "false_positives": (0, True), "false_negatives": (1, False)}
    for group in (list(ALLOWED.items())[:4], list(ALLOWED.items())[4:8], list(ALLOWED.items())[8:]):
        cells = []
        for (above, inside), (name, (label, positive)) in zip([ways for _, ways in group], right.items()):
            body = f"return int(np.sum((np.asarray(y) == {label}) & ((np.asarray(pred) >= th) == {positive})))"
            cells += [above, f"def {name}(y, pred, th=0.5):\n    {inside}\n    {body}"]
        exercises = grader.grade(nb("import numpy as np", *cells))["exercises"]
        for (way, _), name in zip(group, right):
            assert exercises[name]["outcome"] == "right", (way, exercises[name]["message"])


@best_kind
def test_a_line_that_was_left_out_is_said(grader):
    """The notebook may have passed its check: the grader does not call it wrong, and asks for a look."""
    result = grader.grade(
        nb("films = load(DATA)", HONEST.replace("np.nan", "np.nan * films.max()").replace("np.mean(y)", "films[y]"))
    )
    exercise = result["exercises"]["get_prevalence"]
    assert exercise["outcome"] == "error" and "left out: cell 1 line 1, `films = load(DATA)` (NameError" in exercise["message"]
    assert "get_prevalence" in result["note"] and "by hand" in result["note"]
    assert "not handed in" not in result["note"]


@best_kind
@pytest.mark.parametrize(
    "cells",
    [
        ("import myhelpers", HONEST.replace("np.mean(y)", "myhelpers.share(y)")),
        ("from lib.myhelpers import share", HONEST.replace("np.mean(y)", "share(y)")),
        ("%run myhelpers.py", HONEST.replace("np.mean(y)", "share(y)")),
        (HONEST.replace("return", "import myhelpers\n    return"),),
        ("exec(open('myhelpers.py').read())", HONEST.replace("np.mean(y)", "share(y)")),
    ],
    ids=["import", "from", "run", "inside", "open"],
)
def test_a_file_that_was_not_handed_in_is_named_as_the_cause(grader, cells):
    note = grader.grade(nb(*cells))["note"]
    assert re.search(r"There is no (myhelpers|lib|myhelpers\.py) here", note) and "not handed in" in note


@best_kind
def test_a_merge_that_was_not_finished_is_in_the_row(grader):
    """Also where one of the two versions can be graded."""
    result = grader.grade(nb(f"<<<<<<< HEAD\n{HONEST.replace('y)', 'y) + 1')}\n=======\n{HONEST}\n>>>>>>> theirs"))
    assert result["exercises"]["get_prevalence"]["outcome"] == "right" and "git's markers of a merge" in result["note"]
