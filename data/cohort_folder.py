"""A folder of simulated cases: found by what it says it is, made as a whole, resumed after a stop, drawn by several processes."""

import ctypes
import gc
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from data.errors import DataError
from data.storage import actionable_disk_errors, atomic_file, partial_folder, remove_folder

IDENTITY_FILE = "SIMULATED.json"
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)


def read_identity(folder: Path) -> dict[str, Any] | None:
    """What `folder` says it is; None when it says nothing readable."""
    try:
        return json.loads((folder / IDENTITY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def find_or_make(final: Path, identity: dict[str, Any], fill: Callable[[Path], None]) -> Path:
    """Find the cohort of this `identity` in `final`, or make it.

    Parameters
    ----------
    final : Path
        Where the cohort is to be. It appears only when it is complete; until then there is ``<final>.partial``.
    identity : dict
        All that the files depend on. It is written to ``SIMULATED.json``.
    fill : callable
        Writes what is still missing in the partial folder, each file by `data.storage.atomic_file`.

    Raises
    ------
    DataError
        When `final` holds something else, the disk is full or cannot be written.
    """
    if read_identity(final) == identity:
        return final
    with actionable_disk_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        # One process at a time; others wait. The lock is the system's, so it ends with a process that is killed.
        lock = FileLock(final.parent / f".{final.name}.lock").acquire()
    with lock:
        if read_identity(final) == identity:
            return final
        if final.exists():
            if not final.is_dir() or any(final.iterdir()):
                raise DataError(
                    f"{final}: holds something other than the cohort that was asked for ({_told(identity)}). "
                    "Delete it or name another folder."
                )
            final.rmdir()
        partial = final.with_name(final.name + ".partial")
        if partial.exists() and read_identity(partial) != identity:
            remove_folder(partial)
        with partial_folder(final) as partial:
            with atomic_file(partial / IDENTITY_FILE) as path:
                path.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")
            _sweep(partial)
            try:
                fill(partial)
            finally:
                _sweep(partial)  # also what a worker was writing when the error of another ended it
    return final


def _told(identity: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in identity.items() if key not in ("simulated", "what", "generator"))


def _sweep(partial: Path) -> None:
    """Delete the temporary files that a killed run has left (see `data.storage.atomic_file`)."""
    for leftover in partial.rglob(".*"):
        leftover.unlink(missing_ok=True)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for linear algebra and OpenCV: several processes share the cores, and sums in another order round differently."""
    import cv2
    from threadpoolctl import threadpool_limits

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(threads)


def _begin_work() -> None:
    """Set up a worker process: memory that is kept for the next array, and an end within a second of its parent's.

    Both simulators make thousands of short-lived arrays; the GNU allocator hands each back to the system, which clears it
    for the next one: a fifth of their time. None of the arrays lies in a cycle of references, so the collector of those has
    little to do. joblib's own workers would idle on when the process that started them is killed.
    On Windows, where a process does not see its parent end, they end after five minutes without work.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library
        c_library = ctypes.CDLL(None)
        for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            c_library.mallopt(option, 2**31 - 1)
    gc.set_threshold(100_000)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def draw_all(draw: Callable[[Any], int], tasks: Iterable[Any], jobs: int, bar: tqdm) -> None:
    """Call ``draw(task)`` for every task, in this process or in `jobs` others; the bar advances by what it returns.

    The processes are those of joblib's loky: they start from a notebook cell, from a script without a main guard and on
    every system alike, each with one thread, and end with this call, also when it is interrupted or killed.

    Parameters
    ----------
    draw : callable
        Importable, or a `functools.partial` of such a function.
    """
    tasks = list(tasks)
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        for task in tasks:
            bar.update(draw(task))
        return
    from joblib import Parallel, delayed, parallel_config  # takes a moment, and is needed only here
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        with parallel_config("loky", inner_max_num_threads=1, initializer=_begin_work):
            pool = Parallel(jobs, batch_size=1, pre_dispatch=2 * jobs, return_as="generator_unordered")
            for drawn in pool(delayed(draw)(task) for task in tasks):
                bar.update(drawn)
    except TerminatedWorkerError as error:
        raise DataError(
            "A process that simulates was ended from outside, most likely because memory was short. "
            "Run again to resume; when it happens again, use one process (jobs=1)."
        ) from error
    finally:
        get_reusable_executor(reuse=True).shutdown(wait=True)  # gives their memory back
