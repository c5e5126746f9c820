"""A cohort whose cases are text files: all that `data.cohort_folder` does, without the time that a simulator takes."""

import os
import time
from functools import partial
from pathlib import Path

from tqdm import tqdm

from data.cohort_folder import draw_all, find_or_make
from data.storage import atomic_file

CASES = 12


def make(final: Path, jobs: int = 1, nap: float = 0.0, seed: int = 1, trouble: str = "") -> Path:
    """Make `CASES` cases; each takes `nap` seconds, half of them with half a file on disk."""
    return find_or_make(Path(final), {"simulated": True, "seed": seed}, partial(_fill, jobs, nap, seed, trouble))


def _fill(jobs: int, nap: float, seed: int, trouble: str, folder: Path) -> None:
    missing = [n for n in range(CASES) if not (folder / f"{n:02d}.txt").exists()]
    with tqdm(total=CASES, initial=CASES - len(missing), desc="writing cases") as bar:
        draw_all(partial(draw, folder, nap, seed, trouble), missing, jobs, bar)


def draw(folder: Path, nap: float, seed: int, trouble: str, number: int) -> int:
    with (folder / "drawn.log").open("a") as log:
        log.write(f"{number} {os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\n")
    if trouble == "end" and number == 3:
        os._exit(9)
    if trouble == "bug" and number == 3:
        raise ZeroDivisionError("a mistake in a simulator")
    with atomic_file(folder / f"{number:02d}.txt") as path:
        path.write_text(f"first half of {number}, seed {seed}\n")
        if trouble == "disk" and number == 3:
            raise OSError(28, "No space left on device")
        time.sleep(nap)
        with path.open("a") as file:
            file.write("second half\n")
    return 1
