"""The embedded chest cohort: simulated X-rays in the folder format of NIH ChestX-ray14.

``python -m data.chest_simulator.cohort --films 1500 --seed 14 --size 256 --out FOLDER`` writes one; `chest_cohort` makes or finds
the one that the lessons use. Files: ``data/README.md``; how they are made: ``README.md`` in this folder.
"""

import argparse
import csv
import io
import json
import sys
from functools import partial
from pathlib import Path

from data.cohort_folder import cores, draw_all, find_or_make
from data.errors import DataError
from data.progress import progress_bar
from data.storage import atomic_file, cache_dir, remove_folder

VERSION = 5  # raised whenever the X-rays or tables of a seed change
SEED = 14
BATCH = 4  # X-rays that a process is handed at a time


def chest_cohort(
    folder: str | Path | None = None,
    *,
    films: int = 1500,
    seed: int = SEED,
    size: int = 256,
    progress: bool = True,
    jobs: int | None = None,
) -> Path:
    """Find the simulated chest cohort or make it.

    Parameters
    ----------
    folder : path, optional
        Where it is to be; by default a folder of `data.storage.cache_dir` that is named after the other arguments.
    films, seed, size : int
        Number of X-rays, seed of all randomness, pixels per side. The same three give the same bytes.
    progress : bool
        Show a progress bar.
    jobs : int, optional
        Processes that draw X-rays at the same time, by default one for each core, at most four; no influence on the result.

    Returns
    -------
    pathlib.Path
        A folder with ``images/``, NIH's tables and lists, ``radiologist_labels.csv``, ``truth.csv``, ``SIMULATED.json``.

    Raises
    ------
    DataError
        When the disk is full or not writable, when `folder` holds something else, or when an argument makes no sense.
    """
    jobs = min(cores(), 4) if jobs is None else jobs
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

    def fill(unfinished: Path) -> None:
        (unfinished / "images").mkdir(exist_ok=True)
        (unfinished / "boxes").mkdir(exist_ok=True)
        _draw_all(unfinished, films, seed, size, jobs, progress)
        _write_tables(unfinished, films, seed, size)
        remove_folder(unfinished / "boxes")

    return find_or_make(final, identity, fill, indent=1)


# ---------------------------------------------------------------------------------------------------------------------
# X-rays
# ---------------------------------------------------------------------------------------------------------------------


def _draw_all(unfinished: Path, films: int, seed: int, size: int, jobs: int, progress: bool) -> None:
    """Draw the X-rays that are not there yet."""
    from data.chest_simulator.patients import plan_cohort

    drawn = {p.name for p in (unfinished / "images").glob("[0-9]*.png")}
    drawn &= {p.stem for p in (unfinished / "boxes").glob("[0-9]*.json")}
    missing = [film for film in plan_cohort(films, seed) if film.name not in drawn]
    jobs = min(jobs, max(1, len(missing) // 8))  # a process needs about a second to start
    batches = [missing[i : i + BATCH] for i in range(0, len(missing), BATCH)]
    with progress_bar(
        total=films, initial=len(drawn), description="simulating chest X-rays", unit="image", disable=not progress
    ) as bar:
        draw_all(partial(_draw_films, unfinished, seed, size), batches, jobs, bar)


def _draw_films(unfinished: Path, seed: int, size: int, films: list) -> int:
    """Draw these X-rays; returns how many."""
    import cv2

    from data.chest_simulator.film import simulate_film

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for film in films:
            body, setup, place = person_and_setup(film, seed)
            image, boxes = simulate_film(body, setup, film.severity, place, size)
            facts = {"boxes": boxes, "pixels": setup.pixels, "spacing": setup.spacing}
            with atomic_file(unfinished / "boxes" / f"{film.name}.json") as path:
                path.write_text(json.dumps(facts), encoding="utf-8")
            with atomic_file(unfinished / "images" / film.name) as path:
                path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    finally:
        cv2.setNumThreads(threads)
    return len(films)


def person_and_setup(film, seed: int) -> tuple:
    """Body, X-ray set-up and seed of the findings' places of a `data.chest_simulator.patients.Film`.

    The body depends on the seed and the patient only, so that follow-up X-rays show the same person.
    """
    import numpy as np

    from data.chest_simulator.anatomy import sample_body
    from data.chest_simulator.film import sample_setup

    rng = np.random.default_rng(np.random.SeedSequence([seed, film.patient]))
    body = sample_body(rng, film.sex, film.first_age)
    place = int(rng.integers(2**31))
    setup = sample_setup(np.random.default_rng(np.random.SeedSequence([seed, film.patient, film.follow_up])), film.view)
    return body, setup, place


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------

ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def _write_tables(unfinished: Path, films: int, seed: int, size: int) -> None:
    """NIH's tables and lists, the manual labels of the test X-rays and the truth of all."""
    from data.chest_simulator.patients import plan_cohort
    from data.nih import FINDINGS

    entries, boxes, truth, reading, lists = [], [], [], [], {True: [], False: []}
    for film in plan_cohort(films, seed):
        facts = json.loads((unfinished / "boxes" / f"{film.name}.json").read_text(encoding="utf-8"))
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
    _write(unfinished / "Data_Entry_2017_v2020.csv", ENTRY_HEADER, entries)
    _write(unfinished / "BBox_List_2017.csv", BOX_HEADER, boxes)
    _write(unfinished / "truth.csv", ",".join(["Image Index", *FINDINGS]), truth)
    _write(unfinished / "radiologist_labels.csv", ",".join(["Image ID", "Patient ID", "Abnormal", *spaced, "Other"]), reading)
    for test, name in ((False, "train_val_list.txt"), (True, "test_list.txt")):
        with atomic_file(unfinished / name) as path:
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
    parser.add_argument("--jobs", type=int, help="processes (default: one for each core, at most 4)")
    options = parser.parse_args()
    try:
        print(chest_cohort(options.out, films=options.films, seed=options.seed, size=options.size, jobs=options.jobs))
    except DataError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
