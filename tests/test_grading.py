"""Grading whole submissions in the sandbox: a class, hostile code, reports, resuming."""

import csv
import json
import os
import shutil
import stat
import subprocess
import sys
import warnings
from datetime import datetime
from pathlib import Path

import pytest

from grading import batch, report, sandbox
from grading.benchmark import disagreements
from grading.course import assignment
from grading.grade import Grader, Settings, guess_number
from grading.sandbox import Limits, Sandbox, SandboxEnded
from grading.submissions import find_submissions
from grading.synthetic_class import make_class

KIND = "bubblewrap" if sandbox.works("bubblewrap") else "process"
needs_bubblewrap = pytest.mark.skipif(KIND != "bubblewrap", reason="bubblewrap does not work here (sudo apt install bubblewrap)")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
HONEST = "def get_prevalence(y):\n    return np.mean(y) if len(y) else np.nan"


def nb(*cells: str) -> bytes:
    return json.dumps({"cells": [{"cell_type": "code", "source": source} for source in cells]}).encode()


@pytest.fixture(scope="module")
def grader():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Grader(Settings(2, 4711, KIND, cpu=2))
    yield made
    made.close()


# ---- hostile code -----------------------------------------------------------------------------------------------------

RIGHT = "return float(np.mean(y)) if len(y) else np.nan"
ATTACKS = {  # what it does before it answers 0.123 (wrong), and the outcomes it may get
    "infinite loop": ("while True: pass", {"timeout"}),
    "sleep": ("import time; time.sleep(1000)", {"timeout"}),
    "recursion": ("return get_accuracy(y, pred, th)", {"error"}),
    "endless recursion": ("import sys; sys.setrecursionlimit(10**8); return get_accuracy(y, pred, th)", {"error", "timeout"}),
    "fork bomb": ("import os\n    while True: os.fork()", {"error", "timeout"}),
    "thread bomb": ("import threading, time\n    while True: threading.Thread(target=time.sleep, args=(100,), daemon=True).start()", {"error", "timeout"}),
    "50 GiB": ("np.ones(50 << 27)", {"error"}),
    "50 GiB of zeros": ("bytearray(50 << 30)", {"error"}),
    "os._exit": ("import os; os._exit(0)", {"error"}),
    "sys.exit": ("import sys; sys.exit(0)", {"error"}),
    "segmentation fault": ("import ctypes; ctypes.string_at(0)", {"error"}),
    "abort": ("import os; os.abort()", {"error"}),
    "kill the parent": ("import os, signal; os.kill(os.getppid(), signal.SIGKILL)", {"error"}),
    "kill all": ("import os, signal; os.kill(-1, signal.SIGKILL)", {"error"}),
    "socket": ("import socket; socket.create_connection(('1.1.1.1', 53), 2)", {"error"}),
    "unix socket": ("import socket; socket.socket(socket.AF_UNIX)", {"error"}),
    "program": ("import subprocess; subprocess.run(['ls'], check=True)", {"error"}),
    "close all files": ("import os; os.closerange(0, 1000)", {"error"}),
    "forged messages": ("import os\n    for fd in range(200):\n        try: os.write(fd, b'\\x02\\0\\0\\0\\0\\0\\0\\0{}' * 100)\n        except OSError: pass", {"error", "wrong"}),
    "forged garbage": ("import os\n    for fd in range(200):\n        try: os.write(fd, os.urandom(4000))\n        except OSError: pass", {"error", "wrong"}),
    "flood": ("import os\n    for fd in range(100, 102):\n        try:\n            while True: os.write(fd, bytes(1 << 20))\n        except OSError: pass", {"error", "timeout", "wrong"}),
    "always equal": ("return type('A', (), {'__eq__': lambda s, o: True, '__array__': lambda s, *a, **k: np.zeros(3), '__float__': lambda s: 1.0})()", {"wrong"}),
    "equal array": ("return np.zeros(()).view(type('B', (np.ndarray,), {'__eq__': lambda s, o: np.True_, '__float__': lambda s: 1.0}))", {"wrong"}),
    "float in disguise": ("return type('F', (float,), {'__eq__': lambda s, o: True, '__sub__': lambda s, o: 0.0})(0.123)", {"wrong"}),
    "huge array": ("return np.zeros(1 << 27, 'int8')", {"wrong", "error"}),
    "nested list": ("x = []\n    for _ in range(100000): x = [x]\n    return x", {"wrong", "error"}),
    "patched numpy": ("np.allclose = np.array_equal = np.isclose = lambda *a, **k: True; np.float64.__eq__ = 1", {"wrong", "error"}),
    "patched json": ("import json; json.dumps = lambda *a, **k: '{\"value\": [\"float\", \"0x1p-1\"]}'", {"wrong", "error"}),
    "patched wire": ("import sys; sys.modules['wire'].encode = lambda *a, **k: ['float', (1.0).hex()]", {"wrong"}),
    "raised on purpose": ("raise AssertionError('all checks passed')", {"error"}),
    "claims not to be written": ("raise NotImplementedError", {"not attempted"}),
    "interrupt": ("raise KeyboardInterrupt", {"error", "wrong"}),
    "thread left behind": ("import threading\n    def spin():\n        while True: pass\n    threading.Thread(target=spin, daemon=True).start()", {"wrong", "timeout"}),
    "at exit": ("import atexit, time; atexit.register(time.sleep, 1000)", {"wrong"}),
    "signal handlers": ("import signal\n    for s in range(1, 30):\n        try: signal.signal(s, signal.SIG_IGN)\n        except (OSError, ValueError): pass\n    while True: pass", {"timeout"}),
    "changed inputs": ("y[:] = 1; pred[:] = 1; return 1.0", {"wrong"}),
    "file flood": ("f = open('/tmp/x', 'wb')\n    while True: f.write(bytes(1 << 20))", {"error"}),
    "many files": ("for i in range(100000): open(f'/tmp/{i}', 'w').close()", {"error"}),
    "output": ("for i in range(3000): print('x' * 100_000)\n    import os\n    for i in range(100): os.write(1, bytes(1 << 20))", {"wrong", "timeout"}),
    "memory of the worker": ("import gc\n    found = [o for o in gc.get_objects() if isinstance(o, dict) and ('expected' in o or 'RIGHT' in o)]\n    return float(bool(found)) * 9", {"wrong"}),
    "call stack": ("import sys\n    f = sys._getframe()\n    while f:\n        for v in f.f_locals: assert v not in ('expected', 'formula', 'oracle')\n        f = f.f_back", {"wrong"}),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_gets_what_it_deserves_and_harms_nobody(attack, grader):
    code, outcomes = ATTACKS[attack]
    if KIND == "process" and attack in ("file flood", "many files"):
        pytest.skip("without bubblewrap the disk is not shut off")
    source = f"import numpy as np\ndef get_accuracy(y, pred, th=0.5):\n    {code}\n    return 0.123"
    result = grader.grade(nb(source, HONEST))
    accuracy, honest = result["exercises"]["get_accuracy"], result["exercises"]["get_prevalence"]
    assert accuracy["outcome"] in outcomes and accuracy["points"] <= 0.3 * accuracy["max"], accuracy
    assert (honest["outcome"], honest["points"]) == ("right", honest["max"]), honest


READS = {
    "solutions": "/lessons", "public tests": "/public_tests.py", "this file": str(Path(__file__)), "home": str(Path.home() / ".ssh"), "passwords": "/etc/passwd",
    "parent folder": "..", "processes": "/proc/1/environ", "own process": "/proc/self/maps", "parents": "/proc/2", "the course": str(Path(__file__).parents[1] / "lessons"),
}  # fmt: skip


@needs_bubblewrap
@pytest.mark.parametrize("what", READS)
def test_nothing_of_the_instructor_can_be_read(what, grader):
    place = READS[what]
    seen = f"import os\ndef get_prevalence(y):\n    ok = os.path.exists({place!r}) and {place!r} != '..' or 'lessons' in os.listdir('..')\n    return -1.0 if ok else float(np.mean(y)) if len(y) else np.nan"
    assert grader.grade(nb(seen))["exercises"]["get_prevalence"]["outcome"] == "right"


@needs_bubblewrap
def test_nothing_can_be_written_but_an_own_empty_folder(grader):
    places = ["/", "/usr", "/etc", "/inside", "/dev", sys.prefix, sys.base_prefix, "/proc", "/home"]
    writes = ("import os\ndef get_prevalence(y):\n    if os.listdir('/tmp') or os.listdir('/dev/shm'): return -1.0\n"
              f"    for place in {places}:\n        try:\n            open(place + '/x', 'w')\n            return -2.0\n        except OSError: pass\n"
              "    return float(np.mean(y)) if len(y) else np.nan")  # fmt: skip
    leaves = "def get_accuracy(y, pred, th=0.5):\n    open('/tmp/left', 'w').write('x'); open('/dev/shm/left', 'w').write('x')\n    return float(np.mean((pred >= th) == y)) if len(y) else np.nan"
    for _ in range(2):
        exercises = grader.grade(nb(leaves, writes))["exercises"]
        assert exercises["get_accuracy"]["outcome"] == exercises["get_prevalence"]["outcome"] == "right"


def test_patches_do_not_outlive_their_submission(grader):
    poison = "import numpy as np, builtins\ndef get_prevalence(y):\n    np.mean = lambda *a, **k: 7.0; builtins.len = lambda x: 0; np.sum = None\n    return 3.0"
    assert grader.grade(nb(poison))["exercises"]["get_prevalence"]["points"] == 0
    assert grader.grade(nb(HONEST))["exercises"]["get_prevalence"]["outcome"] == "right"


def test_feedback_never_shows_a_hidden_case(grader):
    tells = "def get_prevalence(y):\n    raise ValueError('LEAK ' + repr(y.tolist()) if len(y) not in (5, 4, 3, 1, 77, 301, 0) else 'public')"
    text = json.dumps(grader.grade(nb(tells))["exercises"]["get_prevalence"] | {"code": ""})
    assert "LEAK" not in text and "public" in text
    hidden_only = "def get_prevalence(y):\n    if len(y) not in (5, 4, 3, 1, 77, 301, 0): raise ValueError('LEAK ' + repr(y.tolist()))\n    return float(np.mean(y)) if len(y) else np.nan"
    exercise = grader.grade(nb(hidden_only))["exercises"]["get_prevalence"]
    assert exercise["outcome"] == "wrong" and "other inputs" in exercise["message"] and "LEAK" not in exercise["message"] + exercise["hint"] + exercise["group"]


def test_errors_name_the_students_line(grader):
    exercise = grader.grade(nb("", "import numpy as np\n\ndef get_prevalence(y):\n    z = 1\n    return undefined_name"))["exercises"]["get_prevalence"]
    assert exercise["outcome"] == "error" and "NameError" in exercise["message"] and "cell 2 line 5" in exercise["message"]


# ---- other kinds of sandbox -------------------------------------------------------------------------------------------

TRICKS = {"fork": "__import__('os').fork()", "socket": "__import__('socket').socket()", "kill": "__import__('os').kill(1, 0)"}


@pytest.mark.parametrize("kind", ["process", "docker", pytest.param("bubblewrap", marks=needs_bubblewrap)])
def test_a_fresh_process_for_each_exercise(kind, tmp_path, monkeypatch):
    """The ways that need no template. Docker is played by a script that runs the worker as the container would."""
    if kind == "docker":
        shim = tmp_path / "docker"
        shim.write_text(f"#!{sys.executable}\nimport os, sys\nassert '--network' in sys.argv and '--read-only' in sys.argv\n"
                        f"os.execv({sys.executable!r}, [{sys.executable!r}, {str(sandbox.INSIDE / 'worker.py')!r}, 'once', '0', '1'])\n")  # fmt: skip
        shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        sandbox.works.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        box = Sandbox(kind, warm=False)
    code = "def f(n):\n" + "".join(f"    if n == {i}: return {trick}\n" for i, trick in enumerate(TRICKS.values())) + "    if n == 9:\n        while True: pass\n    return n"
    with box, box.session(Limits(cpu=1, wall=60)) as session:
        assert session.ask({"exercise": "f", "tensorflow": False, "code": [["cell 1", 1, code]]})[0]["ready"]
        for number in range(len(TRICKS)):
            assert session.ask({"function": 0, "args": [["int", str(number)]], "options": {}})[0]["error"] == "PermissionError"
        assert session.ask({"function": 0, "args": [["int", "5"]], "options": {}})[0]["value"] == ["int", "5"]
        with pytest.raises(SandboxEnded) as ended:
            session.ask({"function": 0, "args": [["int", "9"]], "options": {}})
        assert ended.value.how == "timeout"
    sandbox.works.cache_clear()


def test_without_bubblewrap_a_warning_is_given():
    with pytest.warns(UserWarning, match="No sandbox"):
        assert sandbox.choose("process") == "process"


# ---- a class ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    kinds = {kind: 1 for kind in ("solution", "right", "mixed", "half done", "windows", "python 2", "reordered", "doubled", "merged", "raw", "magics", "renamed",
                                  "untouched", "broken", "empty", "other notebook", "zipped", "zip in zip", "bomb", "traversal", "exit")} | {"copied": 2, "mixed": 5, "right": 3}  # fmt: skip
    expected = make_class(folder / "in", 28, seed=5, kinds=kinds)
    submissions = find_submissions(folder / "in")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results, facts = batch.grade_class(submissions, folder / "out", Settings(2, -1, KIND, cpu=3), jobs=2)
    stubs = {}
    roster = [{"student": s.student, "name": f"=Name {s.student}"} for s in submissions] + [{"student": "absent", "name": "Nobody <b>"}]
    summary = report.write_all(folder / "out", assignment(2), submissions, results, facts, stubs, roster, datetime(2000, 1, 1))
    return folder, expected, submissions, results, facts, summary


def test_everybody_gets_the_mark_that_is_deserved(graded):
    _, expected, _, results, _, _ = graded
    assert not disagreements(expected, results)


def test_every_submission_ends_in_a_row(graded):
    folder, expected, *_ = graded
    with (folder / "out" / "grades.csv").open() as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert set(rows) == {*expected, "absent"} and rows["absent"]["missing"] == "missing" and float(rows["absent"]["total"]) == 0
    assert all(row["late"] == "late" for name, row in rows.items() if name != "absent")
    assert all(row["name"][0] in "'N" for row in rows.values()), "no cell that a spreadsheet takes for a formula"
    for name in ("grades_moodle.csv", "grades_canvas.csv", "report.html", "report.png"):
        assert (folder / "out" / name).stat().st_size > 500


def test_feedback_for_everybody_escaped_and_without_solutions(graded):
    folder, expected, _, results, *_ = graded
    solution = [line.strip() for source in assignment(2).solution for line in source.split("\n") if "by_patient[" in line or "np.bincount(patient)" in line]
    for student, deserved in expected.items():
        page = (folder / "out" / "feedback" / f"{student}.html").read_text()
        text = (folder / "out" / "feedback" / f"{student}.md").read_text()
        assert "<script" not in page and f"{results[student]['total']:g}" in page and "points" in text
        if deserved["kind"] not in ("solution",):
            assert not [line for line in solution if line in page]
    name = next(s for s, deserved in expected.items() if deserved["kind"] == "mixed" and "wrong" in deserved["exercises"].values())
    assert "hint" in (folder / "out" / "feedback" / f"{name}.html").read_text().lower()


def test_code_in_feedback_is_escaped():
    exercise = {"outcome": "wrong", "points": 0.0, "max": 5.0, "message": "<script>a</script>", "hint": "<b>", "code": "</pre><script>x</script>", "cell": 1}
    row = {"total": 0.0, "max": 5.0, "student": "<i>", "name": "<u>", "late": ""}
    page = report.feedback_html(assignment(2), row, {"note": "<img src=x>", "exercises": {"get_ppv": exercise}})
    assert not any(tag in page for tag in ("<script", "<i>", "<u>", "<img", "</pre><"))


def test_the_report_groups_mistakes_and_shows_copies(graded):
    folder, expected, _, _, _, summary = graded
    copies = sorted(s for s, deserved in expected.items() if deserved["kind"] == "copied")
    assert [list(pair[:2]) for pair in summary["similar"]] == [copies]
    assert any(count and group for groups in summary["mistakes"].values() for group, count in groups)


def test_a_run_goes_on_where_it_was(graded):
    folder, _, submissions, results, facts, _ = graded
    assert facts["run"] == len(submissions)
    out = folder / "again"
    shutil.copytree(folder / "out", out)
    lost = submissions[3].student
    (out / "results" / f"{lost}.json").unlink()
    (out / "results" / f"{submissions[4].student}.json").write_text("{cut of")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        second, facts = batch.grade_class(submissions, out, Settings(2, -1, KIND, cpu=3), jobs=1)
    assert facts["run"] == 2 and {s: r["total"] for s, r in second.items()} == {s: r["total"] for s, r in results.items()}


def test_the_notebook_is_recognised(graded):
    folder, *_ = graded
    assert guess_number([path.read_bytes() for path in (folder / "in").glob("*.ipynb")]) == 2


def test_file_names_cannot_lead_out():
    for student in ("../../etc/passwd", "a/b", "..", "", "x" * 300, "a\0b"):
        name = batch.safe_name(student)
        assert "/" not in name and "\0" not in name and name not in ("", "..") and len(name) < 120
    assert batch.safe_name("a/b") != batch.safe_name("a_b")


def test_the_command_line_says_what_is_wrong(tmp_path):
    for argument, words in [("nothing-here", "does not exist"), (str(tmp_path), "no notebook")]:
        done = subprocess.run([sys.executable, "-m", "grading", argument], capture_output=True, text=True, cwd=Path(__file__).parents[1])
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
