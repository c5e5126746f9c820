"""Grading a class: every mark is the one deserved, a run that was killed resumes, a cluster gives the same, other kinds of sandbox."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_grading_choice import work

from grading import __main__ as command
from grading import batch, walls
from grading.benchmark import disagreements
from grading.grade import Settings
from grading.sandbox import Limits, Sandbox, SandboxEnded
from grading.submissions import Submission, find_submissions
from grading.synthetic_class import make_class

KIND = "bubblewrap" if walls.works("bubblewrap") else "process"
needs_bubblewrap = pytest.mark.skipif(KIND != "bubblewrap", reason="bubblewrap does not work here (sudo apt install bubblewrap)")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
ROOT = Path(__file__).parents[1]
SETTINGS = Settings(2, -1, KIND, cpu=5)
MARKS = ("status", "total", "exercises")


def marks(results: dict[str, dict]) -> dict:
    """What must be the same however a class is graded."""
    return {student: {key: result[key] for key in MARKS} for student, result in results.items()}


# ---- other kinds of sandbox -------------------------------------------------------------------------------------------

TRICKS = {"fork": "__import__('os').fork()", "socket": "__import__('socket').socket()", "kill": "__import__('os').kill(1, 0)"}


@pytest.mark.parametrize("kind", ["process", "docker", pytest.param("bubblewrap", marks=needs_bubblewrap)])
def test_a_fresh_process_for_each_exercise(kind, tmp_path, monkeypatch):
    """The ways that need no template. Docker is played by a script that runs the worker as the container would."""
    if kind == "docker":
        shim = tmp_path / "docker"
        shim.write_text(
            f"#!{sys.executable}\nimport os, sys\nassert '--network' in sys.argv and '--read-only' in sys.argv\n"
            f"os.execv({sys.executable!r}, [{sys.executable!r}, {str(walls.INSIDE / 'worker.py')!r}, 'once', '0', '1'])\n"
        )
        shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        walls.works.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        box = Sandbox(kind, warm=False)
    code = (
        "def f(n):\n"
        + "".join(f"    if n == {i}: return {trick}\n" for i, trick in enumerate(TRICKS.values()))
        + "    if n == 9:\n        while True: pass\n    return n"
    )
    with box, box.session(Limits(cpu=1, wall=60)) as session:
        assert session.ask({"exercise": "f", "tensorflow": False, "code": [["cell 1", 1, code]]})[0]["ready"]
        for number in range(len(TRICKS)):
            assert session.ask({"function": 0, "args": [["int", str(number)]], "options": {}})[0]["error"] == "PermissionError"
        assert session.ask({"function": 0, "args": [["int", "5"]], "options": {}})[0]["value"] == ["int", "5"]
        with pytest.raises(SandboxEnded) as ended:
            session.ask({"function": 0, "args": [["int", "9"]], "options": {}})
        assert ended.value.how == "timeout"
    walls.works.cache_clear()


def test_an_ordinary_process_is_taken_only_when_it_is_asked_for(monkeypatch):
    """And then it says what it does not protect."""
    monkeypatch.setattr(walls, "works", lambda kind: kind == "process")
    with pytest.raises(walls.SandboxBroken, match="apt install bubblewrap.*--sandbox docker.*--sandbox process"):
        walls.choose()
    with pytest.warns(UserWarning, match="No bubblewrap.*your files.*apt install"):
        Sandbox("process")
    assert "change all files" in walls.unprotected(landlock=False)


def test_a_kind_that_is_not_there_is_said():
    with pytest.raises(walls.SandboxBroken, match="podman does not work on this machine"):
        assert not shutil.which("podman"), "skip this on a machine with podman"
        walls.choose("podman")


@needs_bubblewrap
def test_the_course_may_lie_anywhere(monkeypatch):
    """What is mounted later covers what was mounted before; Python in a virtual environment gets a place of its own."""
    command = walls.bubblewrap_command(["-c", "import os, numpy; print(sorted(set(os.listdir('/')) - {'lib32'}))"])
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert seen.returncode == 0, seen.stderr
    assert not {"home", "var", "opt", "work"} & set(eval(seen.stdout)) or Path(sys.base_prefix).parts[1] in seen.stdout


def test_the_course_results_and_submissions_are_hidden_even_inside_of_what_python_needs(tmp_path, monkeypatch):
    """A course under /usr/lib, results in the environment, a class's zip beside a library."""
    library = tmp_path / "lib"
    secrets = [library / "course" / "lessons" / "02.py", library / "x" / "out" / "seed.txt", library / "x" / "class.zip"]
    seen = [library / "x" / "module.py", library / "y" / "z.so"]
    for file in (*secrets, *seen):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret")
    (library / "link").symlink_to(library / "course")
    monkeypatch.setattr(walls, "LIBRARIES", (*walls.LIBRARIES, str(library)))
    monkeypatch.setattr(walls, "ALWAYS_HIDDEN", (*walls.ALWAYS_HIDDEN, library / "course"))
    walls.visible.cache_clear()
    hidden = (str(secrets[1].parent), str(secrets[2]))
    places = [place.resolve() for place, _ in walls.visible(hidden)]
    assert not [file for file in secrets if any(file.is_relative_to(place) for place in places)]
    assert all(any(file.is_relative_to(place) for place in places) for file in seen)
    if KIND == "bubblewrap":
        code = f"import os; print([os.path.exists(p) for p in {[*map(str, secrets), *map(str, seen)]!r}])"
        done = subprocess.run(walls.bubblewrap_command(["-c", code], hidden), capture_output=True, text=True, timeout=120)
        assert done.stdout.strip() == "[False, False, False, True, True]", done.stderr
    walls.visible.cache_clear()


def test_nothing_of_the_course_but_what_notebooks_import_is_visible():
    places = [place.resolve() for place, _ in walls.visible(())]
    for name in ("lessons", "public_tests.py", "tests", "student", "grading/checks.py", "02_diagnostic_model_evaluation.ipynb"):
        assert not [place for place in places if (walls.ROOT / name).resolve().is_relative_to(place)], name


# ---- a class ----------------------------------------------------------------------------------------------------------

KINDS = {
    "solution": 1,
    "right": 2,
    "mixed": 3,
    "half done": 1,
    "windows": 1,
    "python 2": 1,
    "reordered": 1,
    "doubled": 1,
    "merged": 1,
    "raw": 1,
    "extra cells": 1,
    "renamed": 1,
    "untouched": 1,
    "broken": 1,
    "empty": 1,
    "other notebook": 1,
    "zip in zip": 1,
    "bomb": 1,
    "traversal": 1,
    "exit": 1,
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    expected = make_class(folder / "in", sum(KINDS.values()), seed=5, kinds=KINDS)
    submissions = find_submissions(folder / "in")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results, facts = batch.grade_class(submissions, folder / "out", SETTINGS, jobs=2)
    return folder, expected, submissions, results, facts


def test_everybody_gets_the_mark_that_is_deserved(graded):
    _, expected, submissions, results, facts = graded
    assert not disagreements(expected, results)
    assert facts["run"] == len(submissions) == len(results) and facts["warm"]


def test_what_is_lost_or_cut_off_is_graded_again_and_nothing_else(graded):
    folder, _, submissions, results, _ = graded
    out = folder / "again"
    shutil.copytree(folder / "out", out)
    (out / "results" / f"{batch.safe_name(submissions[3].student)}.json").unlink()
    (out / "results" / f"{batch.safe_name(submissions[4].student)}.json").write_text("{cut of")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        second, facts = batch.grade_class(submissions, out, SETTINGS, jobs=1)
    assert facts["run"] == 2 and marks(second) == marks(results)


def dies(submission, settings, yardsticks):
    """In place of batch.grade_one, in a process of its own: ends it for one student."""
    if submission.student == "killer":
        time.sleep(0.2)  # until the others are in work, too
        os.kill(os.getpid(), signal.SIGKILL)
    return {"status": "graded", "note": "", "exercises": {}, "total": 0.0, "seconds": 0.0}


def test_a_submission_that_ends_the_grader_takes_nobody_along(monkeypatch):
    monkeypatch.setattr(batch, "grade_one", dies)
    todo = [Submission(name) for name in ("a", "b", "killer", "c", "d")]
    results = {one.student: result["status"] for one, result in batch._locally(todo, SETTINGS, {}, 2)}
    assert results == {"a": "graded", "b": "graded", "killer": "grader failed", "c": "graded", "d": "graded"}


def test_the_seed_cannot_be_guessed(tmp_path):
    assert batch.settings_of(tmp_path, SETTINGS).seed > 1 << 80


def test_a_run_that_was_killed_goes_on_where_it_was(graded):
    """kill -9 in the middle: nothing is left running, finished submissions are not run twice, the marks are the same."""
    folder, _, _, results, _ = graded
    out = folder / "killed"
    out.mkdir()
    shutil.copy(folder / "out" / "seed.txt", out)
    command = [
        sys.executable,
        "-m",
        "grading",
        str(folder / "in"),
        "--out",
        str(out),
        "--cpu",
        "5",
        "--jobs",
        "2",
        "--sandbox",
        KIND,
        "--notebook",
        "2",
    ]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(list((out / "results").glob("*.json"))) < 4:
        assert first.poll() is None and time.monotonic() < deadline, "it ended, or did nothing, before it could be killed"
        time.sleep(0.02)
    family = _descendants(first.pid)
    first.send_signal(signal.SIGKILL)
    first.wait()
    finished = {path.name: path.stat().st_mtime_ns for path in (out / "results").glob("*.json")}
    while any(_alive(pid) for pid in family):
        assert time.monotonic() < deadline, "processes were left behind"
        time.sleep(0.05)
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr[-2000:]
    files = {path.name: path for path in (out / "results").glob("*.json")}
    kept = [name for name, stamp in finished.items() if files[name].stat().st_mtime_ns == stamp]
    assert len(finished) - len(kept) == 0 and len(kept) >= 4, "a finished submission was run twice"
    assert f"{len(files) - len(kept)} graded" in second.stdout and f"{len(kept)} finished before" in second.stdout
    again = {result["student"]: result for result in (json.loads(path.read_text()) for path in files.values())}
    assert marks(again) == marks(results)


def _descendants(pid: int) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, parent = int(path.parent.name), int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == pid:
            found |= {number} | _descendants(number)
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextlib.contextmanager
def dask(*command: str) -> Iterator[subprocess.Popen]:
    """A part of a Dask cluster, started as the README says."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *command, "--no-dashboard"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "."},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_dask_scheduler_that_dies_costs_no_mark_and_the_same_command_resumes(graded, tmp_path, capsys):
    """What was finished before is kept; the whole class has the marks that it gets without a cluster."""
    folder, _, submissions, results, _ = graded
    few, out = submissions[::4], tmp_path / "out"
    for place in (tmp_path / "in", out):
        place.mkdir()
    shutil.copy(folder / "out" / "seed.txt", out)
    for one in few:
        (path,) = (path for path in (folder / "in").iterdir() if path.name.split(".")[0] == one.student)
        shutil.copy2(path, tmp_path / "in")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    scheduler, worker = ["scheduler", "--host", address], ["worker", address, "--no-nanny", "--nthreads", "2"]
    arguments = [
        str(tmp_path / "in"),
        "--out",
        str(out),
        "--cpu",
        "5",
        "--sandbox",
        KIND,
        "--notebook",
        "2",
        "--scheduler",
        address,
    ]

    def finished() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (out / "results").glob("*.json")}

    def kill_when_one_is_done() -> None:
        while not finished():
            time.sleep(0.02)
        first.kill()

    with dask(*scheduler) as first, dask(*worker):
        killer = threading.Thread(target=kill_when_one_is_done, daemon=True)
        killer.start()
        assert command.main(arguments) == 2
    before, said = finished(), capsys.readouterr().err
    assert 1 <= len(before) < len(few) and "What is graded is kept; then the same command resumes." in said, said
    assert f"The Dask scheduler at {address} ended" in said and "Traceback" not in said, said
    with dask(*scheduler), dask(*worker):
        assert command.main(arguments) == 0
    after = finished()
    assert before.items() <= after.items(), "a finished submission was run twice"
    got = {result["student"]: result for result in (json.loads((out / "results" / name).read_text()) for name in after)}
    assert marks(got) == {one.student: marks(results)[one.student] for one in few}
    assert f"{len(before)} finished before" in capsys.readouterr().out


def test_a_grader_that_dies_costs_one_row(graded, monkeypatch):
    """A defect of the grader itself: the others are graded all the same, and the row says what to do."""
    folder, _, submissions, results, _ = graded
    chosen = [s for s in submissions if results[s.student]["status"] == "graded" and len(s.files) == 1][:3]
    bad, real = chosen[1], batch.Grader.grade

    def fails(self, data):
        if data == bad.files[0][1]:
            raise RuntimeError("a defect")
        return real(self, data)

    monkeypatch.setattr(batch.Grader, "grade", fails)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got, _ = batch.grade_class(chosen, folder / "defect", SETTINGS, jobs=1)
    assert [got[s.student]["status"] for s in chosen] == ["graded", "grader failed", "graded"]
    assert "by hand" in got[bad.student]["note"] and "a defect" in got[bad.student]["note"]


def test_file_names_cannot_lead_out(tmp_path):
    for student in ("../../etc/passwd", "a/b", "..", "", "x" * 300, "a\0b", "\ud800", "Жанна 漢字", "con\n"):
        name = batch.safe_name(student)
        assert "/" not in name and "\0" not in name and name not in ("", "..") and len(name) < 120
        batch.write_text(tmp_path / f"{name}.json", student)
    assert batch.safe_name("a/b") != batch.safe_name("a_b")


def test_the_command_line_says_what_is_wrong(tmp_path):
    done = subprocess.run([sys.executable, "-m", "grading", str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "no notebook" in done.stderr and "Traceback" not in done.stderr


FULL = """mount -t tmpfs -o size=32k tmpfs "$2" && "$1" -m grading "$3" --out "$2/out" --sandbox "$4" --jobs 2
echo "ended with $?"; ls "$2/out/results"
mount -o remount,size=64m "$2" && "$1" -m grading "$3" --out "$2/out" --sandbox "$4" --jobs 2; echo "ended with $?"
"""


def test_after_a_full_disk_the_same_command_resumes(tmp_path):
    """Results go to a small file system in memory: the first run fills it, then it is made larger."""
    own_mounts = ["unshare", "--user", "--map-root-user", "--mount"]
    (tmp_path / "mounted").mkdir()
    attempt = ["mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "mounted")]
    if subprocess.run([*own_mounts, *attempt], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a file system of their own")
    (tmp_path / "class").mkdir()
    for number in range(6):
        (tmp_path / "class" / f"student{number}.ipynb").write_bytes(work(2))
    script = ["sh", "-c", FULL, "sh", sys.executable, str(tmp_path / "mounted"), str(tmp_path / "class"), KIND]
    run = subprocess.run([*own_mounts, *script], cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert "the disk is full. What is graded is kept. Make room; then the same command resumes." in run.stderr
    assert "ended with 2" in run.stdout and run.stdout.rstrip().endswith("ended with 0"), run.stdout + run.stderr
    done = re.findall(r"student\d\.json", run.stdout)
    assert 0 < len(done) < 6 and f"{6 - len(done)} graded" in run.stdout and f"{len(done)} finished before" in run.stdout
    assert "6 students: 6 graded, 0 unreadable" in run.stdout and "Traceback" not in run.stderr
