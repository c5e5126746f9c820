"""The embedded chest cohort: simulated films in the folder format of NIH ChestX-ray14.

``python -m data.chest_simulator.cohort --films 1500 --seed 14 --size 256 --out FOLDER`` writes one; `chest_cohort` makes or finds
the one that the lessons use. The files and what is simulated how are described in ``data/README.md``.
"""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from data.errors import DataError
from data.storage import atomic_file, cache_dir, partial_folder, remove_folder

VERSION = 5  # raised whenever the films or tables of a seed change
SEED = 14
_COURSE = Path(__file__).resolve().parents[2]


def chest_cohort(
    folder: str | Path | None = None, *, films: int = 1500, seed: int = SEED, size: int = 256, progress: bool = True, jobs: int = 2
) -> Path:
    """Find the simulated chest cohort or make it.

    Parameters
    ----------
    folder : path, optional
        Where it is to be; by default a folder of `data.storage.cache_dir` that is named after the other arguments.
    films, seed, size : int
        Number of films, seed of all randomness, pixels per side. The same three give the same bytes.
    progress : bool
        Show a progress bar.
    jobs : int
        Processes that draw films at the same time; no influence on the result.

    Returns
    -------
    pathlib.Path
        A folder with ``images/``, NIH's tables and lists, ``radiologist_labels.csv``, ``truth.csv``, ``SIMULATED.json``.

    Raises
    ------
    DataError
        When the disk is full or not writable, when `folder` holds something else, or when an argument makes no sense.
    """
    if films < 1 or size < 32 or jobs < 1:
        raise DataError(
            f"a cohort of {films} films of {size} pixels by {jobs} processes cannot be made: "
            "it needs at least 1 film, 32 pixels and 1 process."
        )
    identity = {
        "simulated": True,
        "what": "chest films, NIH ChestX-ray14 format",
        "version": VERSION,
        "seed": seed,
        "films": films,
        "size": size,
    }
    final = Path(folder) if folder is not None else cache_dir() / f"chest-{films}-{size}-{seed}-v{VERSION}"
    if final.exists():
        if _identity(final) == identity:
            return final
        if not final.is_dir() or any(final.iterdir()):
            raise DataError(
                f"{final} exists and is not the cohort that was asked for (films={films}, size={size}, "
                f"seed={seed}, version {VERSION}). Delete it or name another folder."
            )
        final.rmdir()
    partial = final.with_name(final.name + ".partial")
    if partial.exists() and _identity(partial) != identity:
        remove_folder(partial)
    with partial_folder(final) as partial:
        with atomic_file(partial / "SIMULATED.json") as path:
            path.write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
        (partial / "images").mkdir(exist_ok=True)
        (partial / "boxes").mkdir(exist_ok=True)
        _sweep(partial)
        _draw_all(partial, films, seed, size, jobs, progress)
        _write_tables(partial, films, seed, size)
        _sweep(partial)
        remove_folder(partial / "boxes")
    return final


def _sweep(partial: Path) -> None:
    """Delete the temporary files that a killed run has left (see `data.storage.atomic_file`)."""
    for folder in (partial, partial / "images", partial / "boxes"):
        for leftover in folder.glob(".*"):
            leftover.unlink(missing_ok=True)


def _identity(folder: Path) -> dict | None:
    """What a folder says it is; None when it says nothing readable."""
    try:
        return json.loads((folder / "SIMULATED.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Films
# ---------------------------------------------------------------------------------------------------------------------


def _draw_all(partial: Path, films: int, seed: int, size: int, jobs: int, progress: bool) -> None:
    """Draw the films that are not there yet, in this process or in `jobs` others."""
    done = len(
        {p.name for p in (partial / "images").glob("[0-9]*.png")} & {p.stem for p in (partial / "boxes").glob("[0-9]*.json")}
    )
    jobs = min(jobs, max(1, (films - done) // 8))
    with tqdm(total=films, initial=done, desc="simulating chest films", unit="film", disable=not progress) as bar:
        if jobs == 1:
            _draw_share(partial, films, seed, size, 0, 1, bar.update)
        else:
            _draw_in_workers(partial, films, seed, size, jobs, bar.update)


def _draw_share(partial: Path, films: int, seed: int, size: int, first: int, step: int, report: Callable[[int], object]) -> None:
    """Draw the films of every `step`-th patient from `first` on, skipping what is there."""
    import cv2

    from data.chest_simulator.film import simulate_film
    from data.chest_simulator.patients import plan_cohort

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for film in plan_cohort(films, seed):
            target = partial / "images" / film.name
            notes = partial / "boxes" / f"{film.name}.json"
            if film.patient % step != first or (target.exists() and notes.exists()):
                continue
            body, setup, place = person_and_setup(film, seed)
            image, boxes = simulate_film(body, setup, film.severity, place, size)
            facts = {"boxes": boxes, "pixels": setup.pixels, "spacing": setup.spacing}
            with atomic_file(notes) as path:
                path.write_text(json.dumps(facts), encoding="utf-8")
            with atomic_file(target) as path:
                path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
            report(1)
    finally:
        cv2.setNumThreads(threads)


def person_and_setup(film, seed: int) -> tuple:
    """Body, film set-up and seed of the findings' places of a `data.chest_simulator.patients.Film`.

    The body depends on the seed and the patient only, so that follow-up films show the same person.
    """
    import numpy as np

    from data.chest_simulator.anatomy import sample_body
    from data.chest_simulator.film import sample_setup

    rng = np.random.default_rng(np.random.SeedSequence([seed, film.patient]))
    body = sample_body(rng, film.sex, film.first_age)
    place = int(rng.integers(2**31))
    setup = sample_setup(np.random.default_rng(np.random.SeedSequence([seed, film.patient, film.follow_up])), film.view)
    return body, setup, place


def _draw_in_workers(partial: Path, films: int, seed: int, size: int, jobs: int, report: Callable[[int], object]) -> None:
    """Let `jobs` fresh Python processes draw; each prints one line per film.

    Processes of our own and not multiprocessing: they start from a notebook, from a script without a main guard and on
    every operating system alike, and never run the caller's code again.
    """
    paths = [str(_COURSE), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    command = [
        sys.executable,
        "-m",
        "data.chest_simulator.cohort",
        "--films",
        str(films),
        "--seed",
        str(seed),
        "--size",
        str(size),
        "--out",
        str(partial.resolve()),
    ]
    workers = [
        subprocess.Popen(
            [*command, "--worker", str(k), str(jobs)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        for k in range(jobs)
    ]
    errors = [""] * jobs

    def listen(k: int) -> None:
        errors[k] = workers[k].stderr.read()

    listeners = [threading.Thread(target=listen, args=(k,), daemon=True) for k in range(jobs)]
    with _stopped_at_the_end(workers):
        for listener in listeners:
            listener.start()
        readers = [threading.Thread(target=lambda w=w: [report(1) for _ in w.stdout], daemon=True) for w in workers]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        for worker, listener, k in zip(workers, listeners, range(jobs), strict=True):
            worker.wait()
            listener.join()
            if worker.returncode:
                last = errors[k].strip().splitlines()[-1:] or ["no message"]
                raise DataError(last[0].removeprefix("data.errors.DataError: "))


@contextmanager
def _stopped_at_the_end(workers: list[subprocess.Popen]) -> Iterator[None]:
    """End all workers when the block ends, in whatever way."""
    try:
        yield
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in workers:
            worker.wait()
            worker.stdout.close()
            worker.stderr.close()


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------

ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def _write_tables(partial: Path, films: int, seed: int, size: int) -> None:
    """NIH's tables and lists, the manual labels of the test films and the truth of all."""
    from data.chest_simulator.findings import FINDINGS
    from data.chest_simulator.patients import plan_cohort

    entries, boxes, truth, reading, lists = [], [], [], [], {True: [], False: []}
    for film in plan_cohort(films, seed):
        facts = json.loads((partial / "boxes" / f"{film.name}.json").read_text(encoding="utf-8"))
        (width, height), spacing = facts["pixels"], facts["spacing"]
        entries.append(
            [
                film.name,
                "|".join(film.labels) or "No Finding",
                film.follow_up,
                film.patient,
                film.age,
                film.sex,
                film.view,
                width,
                height,
                spacing,
                spacing,
            ]
        )
        for name in FINDINGS:
            label = "Infiltrate" if name == "Infiltration" else name  # as NIH's list has it
            for box in facts["boxes"].get(name, []):
                boxes.append([film.name, label, *(round(value * 1024 / size, 3) for value in box)])
        truth.append([film.name, *(int(name in film.severity) for name in FINDINGS)])
        lists[film.test].append(film.name)
        if film.test:
            answers = ["YES" if name in film.severity else "NO" for name in FINDINGS]
            reading.append([film.name, film.patient, "YES" if film.severity else "NO", *answers, "NO"])
    spaced = [name.replace("_", " ") for name in FINDINGS]
    _write(partial / "Data_Entry_2017_v2020.csv", ENTRY_HEADER, entries)
    _write(partial / "BBox_List_2017.csv", BOX_HEADER, boxes)
    _write(partial / "truth.csv", ",".join(["Image Index", *FINDINGS]), truth)
    _write(partial / "radiologist_labels.csv", ",".join(["Image ID", "Patient ID", "Abnormal", *spaced, "Other"]), reading)
    for test, name in ((False, "train_val_list.txt"), (True, "test_list.txt")):
        with atomic_file(partial / name) as path:
            path.write_text("".join(f"{film}\n" for film in lists[test]), encoding="utf-8", newline="\n")


def _write(path: Path, header: str, rows: list[list]) -> None:
    """Write a table with its header line as given, which may have names that no writer would produce."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with atomic_file(path) as temporary:
        temporary.write_text(f"{header}\n{text.getvalue()}", encoding="utf-8", newline="\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m data.chest_simulator.cohort", description="Simulate a chest X-ray cohort.")
    parser.add_argument("--films", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--size", type=int, default=256, help="pixels per side")
    parser.add_argument("--out", type=Path, help="folder that is made; default: the cache of the course")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.worker:
            _draw_share(options.out, options.films, options.seed, options.size, *options.worker, lambda _: print(flush=True))
        else:
            print(chest_cohort(options.out, films=options.films, seed=options.seed, size=options.size, jobs=options.jobs))
    except DataError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
