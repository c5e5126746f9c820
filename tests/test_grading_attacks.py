"""Grading hostile code: every attack gets the mark that it deserves, and the neighbour's result stays what it was."""

import json
import os
import sys
import time
import warnings
from pathlib import Path

import pytest

from grading import walls
from grading.grade import Grader, Settings
from grading.inside import confine

KIND = "bubblewrap" if walls.works("bubblewrap") else "process"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
HONEST = "def get_prevalence(y):\n    return np.mean(y) if len(y) else np.nan"
NEIGHBOUR = [HONEST, "def true_positives(y, pred, th=0.5):\n    return np.sum((pred > th) & (y == 1))"]  # one right, one partly
FORGED = json.dumps({"value": ["float", (1.0).hex()], "gradient": ["none"], "changed": {}, "global_random": False})


def nb(*cells: str) -> bytes:
    return json.dumps({"cells": [{"cell_type": "code", "source": source} for source in cells]}).encode()


@pytest.fixture(scope="module")
def grader(request):
    """One for the module, so that all attacks meet the same template process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Grader(Settings(2, 4711, request.param, cpu=2))
    made.before = seen(made.grade(nb(*NEIGHBOUR)))
    yield made
    assert made.sandbox.started <= 2 and made.sandbox.warm
    made.close()


def seen(result: dict) -> dict:
    """A result without its times."""
    return {key: value for key, value in result.items() if key != "seconds"}


def needs_hidden_files(grader: Grader) -> None:
    """Without bubblewrap files are hidden by Landlock."""
    if grader.sandbox.kind == "process" and confine.libc().syscall(444, None, 0, 1) < 1:
        pytest.skip("this kernel has no Landlock: an ordinary process can read files, as the warning says")


def check_neighbour(grader: Grader) -> None:
    after = seen(grader.grade(nb(*NEIGHBOUR)))
    assert after == grader.before and after["exercises"]["get_prevalence"]["outcome"] == "right"
    assert 0 < after["exercises"]["true_positives"]["points"] < 5


# What get_accuracy does before it answers 0.123 (which is wrong), and the outcomes that it may get.
STUCK = {
    "infinite loop": ("while True: pass", "timeout"),
    "sleep": ("import time; time.sleep(1000)", "timeout"),
    "signals ignored": (
        "import signal\n    for s in range(1, 30):\n        try: signal.signal(s, signal.SIG_IGN)\n        except (OSError, ValueError): pass\n    while True: pass",
        "timeout",
    ),
    "alarms": (
        "import signal; signal.signal(signal.SIGXCPU, lambda *a: None); signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)\n    while True: pass",
        "timeout error",
    ),
    "lazy answer": ("return type('Lazy', (), {'__array__': lambda s, *a, **k: [None for _ in iter(int, 1)]})()", "timeout error"),
    "loop in bytecode that catches all": (
        "while True:\n        try:\n            while True: pass\n        except BaseException: pass",
        "timeout",
    ),
    "thread left behind": (
        "import threading\n    def spin():\n        while True: pass\n    threading.Thread(target=spin, daemon=True).start()",
        "wrong timeout",
    ),
    "endless generator": ("return list(iter(int, 1))", "error timeout"),
}
CRASHES = {
    "recursion": ("return get_accuracy(y, pred, th)", "error"),
    "deep recursion": ("import sys; sys.setrecursionlimit(10**8); return get_accuracy(y, pred, th)", "error timeout"),
    "fork bomb": ("import os\n    while True: os.fork()", "error timeout"),
    "thread bomb": (
        "import threading, time\n    while True: threading.Thread(target=time.sleep, args=(100,), daemon=True).start()",
        "error timeout",
    ),
    "50 GiB": ("np.ones(50 << 27)", "error"),
    "50 GiB of zeros": ("bytearray(50 << 30)", "error"),
    "os._exit": ("import os; os._exit(0)", "error"),
    "sys.exit": ("import sys; sys.exit(0)", "error"),
    "segmentation fault": ("import ctypes; ctypes.string_at(0)", "error"),
    "abort": ("import os; os.abort()", "error"),
    "kill the parent": ("import os, signal; os.kill(os.getppid(), signal.SIGKILL)", "error"),
    "kill all": ("import os, signal; os.kill(-1, signal.SIGKILL)", "error"),
    "kill by ctypes": (
        "import ctypes, os\n    libc = ctypes.CDLL(None)\n    assert [libc.kill(pid, 9) for pid in (os.getppid(), -1, 1, 2)] == [-1] * 4\n    raise OSError",
        "error",
    ),
    "ptrace": (
        "import ctypes, os\n    libc = ctypes.CDLL(None)\n    libc.prctl(4, 1, 0, 0, 0)\n    assert libc.ptrace(16, os.getppid(), 0, 0) == -1\n    raise OSError",
        "error",
    ),
    "pidfd": ("import os; os.pidfd_open(os.getppid())", "error"),
    "more time": ("import resource; resource.setrlimit(resource.RLIMIT_CPU, (999, 999)); raise ZeroDivisionError", "error"),
    "socket": ("import socket; socket.create_connection(('1.1.1.1', 53), 2)", "error"),
    "unix socket": ("import socket; socket.socket(socket.AF_UNIX)", "error"),
    "program": ("import subprocess; subprocess.run(['ls'], check=True)", "error"),
    "close all files": ("import os; os.closerange(0, 1000)", "error"),
    "file flood": ("f = open('x', 'wb')\n    while True: f.write(bytes(1 << 20))", "error"),
    "claims success": ("raise AssertionError('all checks passed')", "error"),
    "exception without a text": ("raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})", "error"),
    "exception with half a character": ("raise ValueError('\\ud800 \\x00 \\x1b[2J')", "error"),
    "claims not to be written": ("raise NotImplementedError", "not attempted"),
    "no import": ("import builtins; builtins.__import__ = None", "error wrong"),
    "modules gone": ("import sys; sys.modules.clear()", "error wrong"),
}
FORGERIES = {
    "forged messages": (
        f"import os, struct\n    m = {FORGED!r}.encode()\n    m = struct.pack('<II', len(m), 0) + m\n    for fd in range(200):\n        try: os.write(fd, m * 500)\n        except OSError: pass",
        "wrong error",
    ),
    "forged garbage": (
        "import os\n    for fd in range(200):\n        try: os.write(fd, os.urandom(4000))\n        except OSError: pass",
        "error wrong",
    ),
    "forged tree": (
        "import os, struct\n    m = b'{\"value\": ' + b'[\"tuple\",' * 90000 + b'1' + b']' * 90000 + b'}'\n    os.write(101, struct.pack('<II', len(m), 0) + m)",
        "error",
    ),
    "forged changes": (
        'import os, struct\n    m = b\'{"value": ["none"], "gradient": ["none"], "global_random": 0, "changed": {"99": ["none"]}}\'\n    os.write(101, struct.pack(\'<II\', len(m), 0) + m)',
        "error",
    ),
    "printed results": (
        'import sys\n    for out in (sys.stdout, sys.stderr): print(\'{"outcome": "right", "points": 8.0}\\nAll checks passed\', file=out)',
        "wrong",
    ),
    "flood": (
        "import os\n    try:\n        while True: os.write(101, bytes(1 << 20))\n    except OSError: pass",
        "error timeout wrong",
    ),
    "10 GiB of output": (
        "import os, sys\n    for i in range(10240): os.write(1, bytes(1 << 20)); os.write(2, bytes(1 << 10))",
        "wrong timeout",
    ),
    "always equal": (
        "return type('A', (), {'__eq__': lambda s, o: True, '__array__': lambda s, *a, **k: np.zeros(3), '__float__': lambda s: 1.0})()",
        "wrong",
    ),
    "equal array": (
        "return np.zeros(()).view(type('B', (np.ndarray,), {'__eq__': lambda s, o: np.True_, '__float__': lambda s: 1.0}))",
        "wrong",
    ),
    "float in disguise": ("return type('F', (float,), {'__eq__': lambda s, o: True, '__sub__': lambda s, o: 0.0})(0.123)", "wrong"),
    "array of objects": ("return np.array(type('O', (), {'__eq__': lambda s, o: True})(), dtype=object)", "wrong"),
    "nan with a payload": ("return np.array([0x7ff8dead0000beef], 'uint64').view('float64')[0]", "wrong"),
    "masked array": ("return np.ma.masked_all(())", "wrong error"),
    "record": ("return np.zeros((), [('a', 'f8')])", "wrong"),
    "huge array": ("return np.zeros(1 << 27, 'int8')", "wrong error"),
    "array of nothing": ("return np.zeros((0, 1 << 40))", "wrong error"),
    "nested list": ("x = []\n    for _ in range(100000): x = [x]\n    return x", "wrong error"),
    "list in itself": ("x = []; x.append(x); return x", "wrong"),
    "wide list": ("x = 1.0\n    for _ in range(12): x = [x] * 8\n    return x", "wrong error timeout"),
    "generator": ("return (v for v in y)", "wrong"),
    "huge number": ("return 10 ** 100000", "wrong"),
    "returns a function": ("return lambda *a: 1.0", "wrong"),
    "patched numpy": (
        "np.allclose = np.array_equal = np.isclose = lambda *a, **k: True; np.asarray = np.array = lambda *a, **k: 1.0",
        "wrong error",
    ),
    "patched json": (f"import json; json.dumps = lambda *a, **k: {FORGED!r}", "wrong error"),
    "patched reporter": ("import sys; sys.modules['inside.wire'].encode = lambda *a, **k: ['float', (1.0).hex()]", "wrong"),
    "patched worker": (
        "import sys, gc\n    for e in gc.get_objects():\n        if type(e).__name__ == 'Exercise': type(e).call = lambda *a: ({'value': ['float', (1.0).hex()], 'gradient': ['none'], 'changed': {}, 'global_random': False}, [])",
        "wrong",
    ),
    "changed inputs": ("y[:] = 1; pred[:] = 1; return 1.0", "wrong"),
    "trace": ("import sys; sys.settrace(lambda f, e, a: f.f_locals.update(value=1.0))", "wrong"),
    "at exit": ("import atexit, time; atexit.register(time.sleep, 1000)", "wrong"),
    "many files": ("for i in range(3000):\n        try: open(str(i), 'w').close()\n        except OSError: break", "wrong timeout"),
}
SECRETS = {
    "memory": (
        "import gc\n    found = [o for o in gc.get_objects() if isinstance(o, dict) and {'expected', 'oracle', 'EXERCISES', '_METRICS', 'solution'} & set(map(str, o))]\n    return float(len(found) + 2)",
        "wrong",
    ),
    "call stack": (
        "import sys\n    f = sys._getframe()\n    while f:\n        assert not {'expected', 'formula', 'oracle', 'seed', 'mistakes'} & set(f.f_locals)\n        f = f.f_back",
        "wrong",
    ),
    "course modules": (
        "import importlib, sys\n    for name in ('public_tests', 'grading', 'lessons', 'tests', 'answers', 'course'):\n        try: importlib.import_module(name)\n        except ImportError: continue\n        if getattr(sys.modules[name], '__file__', None): return float('inf')",
        "wrong",
    ),
    "environment": (
        "import os\n    assert not {k for k in os.environ if 'SEED' in k or 'TOKEN' in k or 'PYTEST' in k or 'COURSE' in k or 'USER' in k}",
        "wrong",
    ),
    "command lines": (
        "import os\n    for place in ('/proc/self/environ', '/proc/1/environ', '/proc/1/cmdline', '/proc/self/mem', '/proc/self/maps', f'/proc/{os.getppid()}/mem'):\n        try: open(place, 'rb').read(1)\n        except OSError: continue\n        raise RuntimeError(place)",
        "wrong",
    ),
}
ATTACKS = STUCK | CRASHES | FORGERIES | SECRETS


CASES = [(KIND, attack) for attack in ATTACKS]
if KIND != "process":  # what depends on the kind of sandbox is tried without bubblewrap, too
    CASES += [("process", attack) for attack in ["infinite loop", *CRASHES, *SECRETS]]
every_kind = pytest.mark.parametrize("grader", dict.fromkeys([KIND, "process"]), indirect=True)
best_kind = pytest.mark.parametrize("grader", [KIND], indirect=True)


@pytest.mark.parametrize("grader, attack", CASES, indirect=["grader"])
def test_an_attack_gets_what_it_deserves_and_harms_nobody(attack, grader):
    if attack in SECRETS:
        needs_hidden_files(grader)
    code, outcomes = ATTACKS[attack]
    source = f"import numpy as np\ndef get_accuracy(y, pred, th=0.5):\n    {code}\n    return 0.123"
    result = grader.grade(nb(source))["exercises"]["get_accuracy"]
    assert result["outcome"] in (["not attempted"] if outcomes == "not attempted" else outcomes.split()), result
    assert result["points"] == 0, result
    json.dumps(result).encode()
    assert "\ud800" not in result["message"] and "\x1b" not in result["message"]
    check_neighbour(grader)


@best_kind
def test_a_submission_that_sleeps_everywhere_does_not_hold_the_worker_for_long(grader):
    """After two timeouts the other exercises get a fifth of the time; the next submission has all of it again."""
    names = list(grader.assignment.exercises)
    sleeps = [f"import time\ndef {name}(*args, **options):\n    time.sleep(1000)" for name in names]
    start = time.perf_counter()
    exercises = grader.grade(nb(*sleeps))["exercises"]
    seconds = time.perf_counter() - start
    assert {result["outcome"] for result in exercises.values()} == {"timeout"}
    limits = grader.settings.limits
    assert seconds < 2 * 1.5 * limits.wall + 1.5 * 2.0 * (len(names) - 2), seconds
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
