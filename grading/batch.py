"""Grades a class: all cores (or a Dask cluster), resumable, with progress, and a row for everybody."""

import hashlib
import json
import os
import re
import secrets
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from datetime import datetime
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import public_tests

from . import checks, course
from .choice import choose
from .grade import Grader, Settings
from .inside import confine
from .sandbox import SandboxBroken, SandboxEnded
from .submissions import Submission

_grader: Grader | None = None  # one for each process that grades
_lock = threading.Lock()
DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}  # no names of files on Windows


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8", errors="replace")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def settings_of(folder: Path, settings: Settings) -> Settings:
    """Settings with the seed of this output folder: drawn once, so that a run that resumes asks the same questions."""
    path = folder / "seed.txt"
    if settings.seed < 0:
        if not path.exists():
            write_text(path, f"{secrets.randbits(128)}\n")
        return replace(settings, seed=int(path.read_text()))
    return settings


@cache
def _version() -> bytes:
    """Digest of all code that a result depends on."""
    here = Path(__file__).parent
    sources = [
        Path(public_tests.__file__),
        *(here / name for name in ("checks.py", "grade.py", "sandbox.py", "walls.py", "handed_out.py", "choice.py")),
        *sorted((here / "inside").glob("*.py")),
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).digest()


def fingerprint(submission: Submission, settings: Settings) -> str:
    """What a result depends on: when it is unchanged, a finished submission is not run again."""
    digest = hashlib.sha256(_version() + json.dumps(asdict(replace(settings, hidden=())), sort_keys=True).encode())
    digest.update(json.dumps([submission.problem, submission.attempts, [name for name, _ in submission.files]]).encode())
    for _, content in submission.files:
        digest.update(content)
    return digest.hexdigest()


def _failed(note: str, exercises: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result where the grader, not the student, is to blame."""
    return {"status": "grader failed", "note": note[:2000], "exercises": exercises or {}, "total": 0.0, "seconds": 0.0}


def _begin(settings: Settings, yardsticks: dict[str, checks.Yardstick]) -> None:
    """Make this process's grader, once."""
    global _grader
    if _grader is None or _grader.settings != settings:
        close_grader()
        _grader = Grader(settings, yardsticks)


def grade_one(submission: Submission, settings: Settings, yardsticks: dict[str, checks.Yardstick]) -> dict[str, Any]:
    """Grade what one student handed in. Every submission gets a result, whatever happens."""
    with _lock:  # a Dask worker may have several threads; the sandbox does one exercise at a time
        _begin(settings, yardsticks)
        try:
            choice = choose(submission, settings.number)
            if choice.file is None:
                status = "lesson's own" if submission.files else "unreadable"
                return {
                    "status": status,
                    "note": choice.note,
                    "exercises": _grader.nothing(choice.note),
                    "total": 0.0,
                    "seconds": 0.0,
                }
            where, content = choice.file
            result = _grader.grade(content) | {"file": where}
            result["note"] = f"{choice.note} {result['note']}".strip()
            return result
        except (
            Exception,
            SandboxBroken,
            SandboxEnded,
        ) as error:  # a defect of the grader, or a sandbox that broke twice: one row, not the end
            note = f"The grader failed here, please grade by hand: {type(error).__name__}: {error}"
            return _failed(note, _grader.nothing(note[:300]) if _grader else None)


def _locally(todo: list[Submission], settings: Settings, yardsticks: dict, jobs: int) -> Iterator[tuple[Submission, dict]]:
    """Results as they come, from `jobs` processes. When one dies, those that were in work are tried again, each alone."""
    if jobs == 1:
        for submission in todo:
            yield submission, grade_one(submission, settings, yardsticks)
        return
    queue = list(reversed(todo))
    while queue:
        running: dict[Any, Submission] = {}
        broken = []
        with _processes(jobs) as pool:
            while queue or running:
                while queue and len(running) < 2 * jobs and not broken:
                    submission = queue.pop()
                    try:
                        running[pool.submit(grade_one, submission, settings, yardsticks)] = submission
                    except BrokenProcessPool:
                        broken.append(submission)
                for future in wait(list(running), return_when=FIRST_COMPLETED).done:
                    submission = running.pop(future)
                    try:
                        yield submission, future.result()
                    except BrokenProcessPool:
                        broken.append(submission)
                if broken and not running:
                    break
        for submission in broken:
            yield submission, _alone(submission, settings, yardsticks)


def _alone(submission: Submission, settings: Settings, yardsticks: dict) -> dict[str, Any]:
    """The result of a submission in a process of its own: if that dies as well, no other one was to blame."""
    with _processes(1) as pool:
        try:
            return pool.submit(grade_one, submission, settings, yardsticks).result()
        except BrokenProcessPool:
            return _failed("The grader's process died here, please grade by hand.")


def _processes(jobs: int) -> ProcessPoolExecutor:
    """Grading processes. They get the lessons that this one has read: reading them takes two seconds."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start, initargs=(dict(course.READ),))


def _start(read: dict) -> None:
    """In a grading process: leave Ctrl-C to the main one, and end with it, however it ends."""
    course.READ.update(read)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # what is to be said of the sandbox was said by the main process
    if sys.platform == "linux":
        confine.end_with_parent()


def close_grader() -> None:
    """End this process's sandbox."""
    global _grader
    if _grader is not None:
        _grader.close()
        _grader = None


class ClusterLost(RuntimeError):
    """The Dask cluster cannot be reached, or ended in the middle."""


def _on_dask(todo: list[Submission], settings: Settings, yardsticks: dict, scheduler: str) -> Iterator[tuple[Submission, dict]]:
    """Results as they come from a Dask cluster. Its workers need the course, its environment, and bubblewrap.

    Raises
    ------
    ClusterLost
        When the scheduler is not there, or dies. What it has finished is kept.
    """
    from concurrent.futures import CancelledError

    from distributed import Client, as_completed

    try:
        client = Client(scheduler, timeout="20s")
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterLost(f"There is no Dask scheduler at {scheduler} ({error}). Start it as the README says.") from None
    with client:
        futures = {
            client.submit(grade_one, submission, settings, yardsticks, pure=False, retries=2): submission for submission in todo
        }
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except (CancelledError, OSError) as error:
                raise ClusterLost(
                    f"The Dask scheduler at {scheduler} ended, or cannot be reached any more ({type(error).__name__}). "
                    "Start it again as the README says."
                ) from None
            except Exception as error:
                yield (
                    futures[future],
                    _failed(
                        "The cluster failed, please start again. Were scheduler and workers started in the course's folder, "
                        f"with PYTHONPATH=. before the command? {type(error).__name__}: {error}"
                    ),
                )
        client.run(close_grader)


def grade_class(
    submissions: list[Submission],
    folder: Path,
    settings: Settings,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[Iterable, int], Iterable] | None = None,
    again: bool = False,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Grade everybody who is not graded yet.

    Parameters
    ----------
    submissions : list of Submission
    folder : Path
        Where results go: one JSON file per student, written when the student is done.
    settings : Settings
        A seed below 0 means: the one of the folder.
    jobs : int, optional
        Processes; all cores when None.
    scheduler : str, optional
        Address of a Dask scheduler, in place of processes here.
    progress : callable, optional
        Wraps (iterable, total).
    again : bool
        Grade everybody, finished or not.

    Returns
    -------
    results, facts
        Result by student; how many were run, how many were finished before, seconds.
    """
    start = time.perf_counter()
    settings = replace(settings_of(folder, settings), hidden=(*settings.hidden, str(folder.resolve())))
    results: dict[str, dict[str, Any]] = {}
    todo = []
    for submission in submissions:
        path = _result_path(folder, submission.student)
        mark = fingerprint(submission, settings)
        if path.exists() and not again:
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                if stored.get("fingerprint") == mark and stored.get("status") != "grader failed":
                    results[submission.student] = stored
                    continue
            except (ValueError, OSError):
                pass
        todo.append(submission)
    facts: dict[str, Any] = {"run": len(todo), "resumed": len(results), "sandbox": settings.sandbox, "seconds": 0.0}
    if todo:
        first = Grader(settings)  # the self-test: nobody is graded by a grader that fails the lesson's own answers
        yardsticks, facts["sandbox"] = first.yardsticks, first.sandbox.kind
        facts["warm"], running = first.sandbox.warm, replace(settings, sandbox=first.sandbox.kind, warm=first.sandbox.warm)
        facts["self_test_seconds"] = round(time.perf_counter() - start, 2)
        jobs = min(jobs or os.cpu_count() or 1, len(todo))
        if jobs == 1 and not scheduler:
            global _grader
            _grader, first.settings = first, running
        else:
            first.close()
        stream = _on_dask(todo, running, yardsticks, scheduler) if scheduler else _locally(todo, running, yardsticks, jobs)
        for submission, result in progress(stream, len(todo)) if progress else stream:
            result["fingerprint"] = fingerprint(submission, settings)
            result["student"] = submission.student
            result["graded"] = datetime.now().isoformat(timespec="seconds")
            write_text(_result_path(folder, submission.student), json.dumps(result, indent=1))
            results[submission.student] = result
        close_grader()
    facts["seconds"] = round(time.perf_counter() - start, 2)
    return results, facts


def safe_name(student: str) -> str:
    """A student's id as a file name: nothing in it can lead out of the folder, and two ids never share one.

    Only what every file system keeps apart stays as it is: small letters and digits. Any other id, and one that looks like what
    this function makes, gets a digest of all its characters.
    """
    made = re.search(r"-[0-9a-f]{16}$", student)
    if re.fullmatch(r"[a-z0-9][a-z0-9_@.-]{0,46}[a-z0-9]|[a-z0-9]", student) and not made and student not in DEVICES:
        return student
    plain = "".join(c if c.isalnum() or c in "-_@." else "_" for c in student).strip(".")[:48]
    return f"{plain or 'student'}-{hashlib.sha256(student.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _result_path(folder: Path, student: str) -> Path:
    return folder / "results" / f"{safe_name(student)}.json"
