"""What both embedded cohorts rely on: nothing half-made is used, nothing is made twice, no process is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import text_cohort

from data.cohort_folder import read_identity
from data.errors import DataError

TESTS = Path(__file__).resolve().parent
# Without a main guard, as a notebook cell has none; what it prints shows that no worker runs it again.
SCRIPT = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
print("started", flush=True)
import text_cohort
print(text_cohort.make({final!r}, jobs=2, nap={nap}).name)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != "drawn.log"}


def drawn(folder: Path) -> list[int]:
    return sorted(int(line.split()[0]) for line in (folder / "drawn.log").read_text().splitlines())


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return text_cohort.make(tmp_path_factory.mktemp("cohort") / "made")


@pytest.fixture
def call(tmp_path):
    """Starts the script, in a session of its own so that its workers can be counted; ends what is left of it."""
    running = []

    def start(nap: float) -> subprocess.Popen:
        script = tmp_path / "cell.py"
        script.write_text(SCRIPT.format(tests=str(TESTS), root=str(TESTS.parent), final=str(tmp_path / "made"), nap=nap))
        running.append(
            subprocess.Popen(
                [sys.executable, str(script)],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        )
        return running[-1]

    yield start
    for process in running:
        if members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def members(group: int) -> list[int]:
    """Living processes of a session."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,sess=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, session, state in rows if int(session) == group and not state.startswith("Z")]


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_same_files_from_one_and_several_processes_and_a_script_without_main_guard(made, call, tmp_path):
    process = call(0.05)
    out, told = process.communicate(timeout=120)
    assert out.split() == ["started", "made"], told
    assert "writing cases: 100%" in told
    assert contents(tmp_path / "made") == contents(made)
    log = [line.split() for line in (tmp_path / "made" / "drawn.log").read_text().splitlines()]
    assert len({pid for _, pid, _ in log}) == 2 and str(process.pid) not in {pid for _, pid, _ in log}
    assert {threads for *_, threads in log} == {"1"}
    wait_for(lambda: not members(process.pid), 20)


def test_found_again_without_work(made):
    before = drawn(made)
    assert text_cohort.make(made) == made and drawn(made) == before


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("how", ["SIGINT", "SIGINT to all", "SIGTERM", "SIGKILL"])
def test_a_stopped_run_leaves_no_process_and_no_half_file_and_is_resumed(made, call, tmp_path, how):
    final, unfinished = tmp_path / "made", tmp_path / "made.partial"
    process = call(0.3)
    wait_for(lambda: len(list(unfinished.glob("[0-9]*.txt"))) >= 2)
    (os.killpg if how == "SIGINT to all" else os.kill)(process.pid, getattr(signal, how.split()[0]))
    process.wait(20)
    wait_for(lambda: not members(process.pid), 20)
    assert not final.exists()
    kept = {p.name: p.stat().st_mtime_ns for p in unfinished.glob("[0-9]*.txt")}
    assert 2 <= len(kept) < text_cohort.CASES
    assert {name: (unfinished / name).read_bytes() for name in kept}.items() <= contents(made).items(), "half a file"
    text_cohort.make(final)
    assert contents(final) == contents(made)
    assert {name: (final / name).stat().st_mtime_ns for name in kept} == kept, "drawn again"


def test_two_calls_at_once_share_one_cohort(made, call, tmp_path):
    first, second = call(0.1), call(0.1)
    told = [process.communicate(timeout=120) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], told
    assert contents(tmp_path / "made") == contents(made)
    assert drawn(tmp_path / "made") == list(range(text_cohort.CASES)), "each case once"


def test_half_files_of_a_killed_run_are_swept(made, tmp_path):
    unfinished = tmp_path / "made.partial"
    unfinished.mkdir()
    (unfinished / "SIMULATED.json").write_bytes((made / "SIMULATED.json").read_bytes())
    (unfinished / ".4711.03.txt").write_text("first half")
    assert contents(text_cohort.make(tmp_path / "made")) == contents(made)


@pytest.mark.parametrize("identity", ['{"simulated": true, "seed": 2}', "{", None])
def test_leftovers_of_another_cohort_are_not_mixed_in(made, tmp_path, identity):
    unfinished = tmp_path / "made.partial"
    unfinished.mkdir()
    if identity:
        (unfinished / "SIMULATED.json").write_text(identity)
    (unfinished / "03.txt").write_text("of another cohort")
    assert contents(text_cohort.make(tmp_path / "made")) == contents(made)


def test_a_folder_with_other_things_is_refused(made, tmp_path):
    with pytest.raises(DataError, match=r"made: holds something other.*seed=2.*Delete it or name another folder"):
        text_cohort.make(made, seed=2)
    (tmp_path / "thesis.txt").write_text("important")
    for taken in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(DataError, match="something other"):
            text_cohort.make(taken)
    assert (tmp_path / "thesis.txt").read_text() == "important"
    (tmp_path / "empty").mkdir()
    assert contents(text_cohort.make(tmp_path / "empty")) == contents(made)


@pytest.mark.parametrize("jobs", [1, 2])
def test_full_disk_says_what_to_do_and_leaves_no_cohort(tmp_path, monkeypatch, jobs):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    for folder, advice in ((tmp_path, "name a folder on another disk"), (tmp_path / "cache", "set COURSE_CACHE")):
        with pytest.raises(DataError, match=f"disk is full.*run again to resume, or {advice}"):
            text_cohort.make(folder / "made", jobs, trouble="disk")
        assert not (folder / "made").exists() and not list(folder.rglob(".*.txt"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_mistake_in_a_simulator_is_shown_as_it_is(tmp_path, jobs):
    with pytest.raises(ZeroDivisionError, match="a mistake in a simulator"):
        text_cohort.make(tmp_path / "made", jobs, trouble="bug")


def test_ended_worker_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"ended from outside.*memory.*jobs=1"):
        text_cohort.make(tmp_path / "made", 2, trouble="end")
    assert not (tmp_path / "made").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_write_protected_parent(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(DataError, match="cannot be written"):
            text_cohort.make(tmp_path / "made")
    finally:
        tmp_path.chmod(0o700)


def test_identity_of_what_is_no_cohort(tmp_path):
    assert read_identity(tmp_path / "nothing") is None
