"""The embedded chest cohort: simulated X-rays in the folder format of NIH ChestX-ray14.

``python -m data.chest_simulator.cohort --films 1500 --seed 14 --size 256 --out FOLDER`` writes one; `chest_cohort` makes or finds
the one that the lessons use. Files: ``data/README.md``; how they are made: ``README.md`` in this folder.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from data.chest_simulator.site import SITES, find_site
from data.cohort_folder import cores, draw_all, find_or_make, one_thread, read_identity
from data.errors import DataError
from data.progress import progress_bar
from data.storage import atomic_file, cache_dir, remove_folder

if TYPE_CHECKING:
    import numpy as np

VERSION = 6  # raised whenever the X-rays or tables of a seed change
SEED = 14
WHAT = "chest X-rays, NIH ChestX-ray14 format"
BATCH = 8  # X-rays that a process is handed at a time


def chest_cohort(
    folder: str | Path | None = None,
    *,
    films: int = 1500,
    seed: int = SEED,
    size: int = 256,
    site: str = "A",
    progress: bool = True,
    jobs: int | None = None,
) -> Path:
    """Find the simulated chest cohort or make it.

    Parameters
    ----------
    folder : path, optional
        Where it is to be; by default a folder of `data.storage.cache_dir` that is named after the other arguments.
    films, seed, size : int
        Number of X-rays, seed of all randomness, pixels per side. With the same site they give the same bytes.
    site : str
        Hospital, "A" or "B" (see `data.chest_simulator.site`). B has other patients, another X-ray unit and other habits;
        80 % of its X-rays are the test set, the rest is for calibrating there.
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
            f"a cohort of {films} X-rays of {size} pixels by {jobs} processes cannot be made: "
            "it needs at least 1 film, 32 pixels and 1 process."
        )
    identity = {
        "simulated": True,
        "what": WHAT,
        "version": VERSION,
        "seed": seed,
        "films": films,
        "size": size,
        "site": find_site(site).name,
    }
    named = f"chest-{films}-{size}-{seed}" + (f"-{site}" if site != "A" else "")
    final = Path(folder) if folder is not None else cache_dir() / f"{named}-v{VERSION}"

    def fill(unfinished: Path) -> None:
        (unfinished / "images").mkdir(exist_ok=True)
        (unfinished / "boxes").mkdir(exist_ok=True)
        from data.chest_simulator.patients import plan_cohort

        plan = plan_cohort(films, seed, site)
        _draw_all(unfinished, plan, partial(_draw_films, unfinished, seed, size, site), jobs, progress)
        _write_tables(unfinished, plan, size)
        remove_folder(unfinished / "boxes")

    return find_or_make(final, identity, fill)


# ---------------------------------------------------------------------------------------------------------------------
# X-rays
# ---------------------------------------------------------------------------------------------------------------------


def _draw_all(unfinished: Path, plan: list, draw: Callable[[list], int], jobs: int, progress: bool) -> None:
    """Draw the X-rays that are not there yet."""
    drawn = {p.name for p in (unfinished / "images").glob("[0-9]*.png")}
    drawn &= {p.stem for p in (unfinished / "boxes").glob("[0-9]*.json")}
    missing = [film for film in plan if film.name not in drawn]
    jobs = min(jobs, max(1, len(missing) // 8))  # a process needs about a second to start
    batches = [missing[i : i + BATCH] for i in range(0, len(missing), BATCH)]
    with progress_bar(
        total=len(plan), initial=len(drawn), description="simulating chest X-rays", unit="image", disable=not progress
    ) as bar:
        draw_all(draw, batches, jobs, bar)


def _draw_films(unfinished: Path, seed: int, size: int, site: str, films: list) -> int:
    """Draw these X-rays; returns how many."""
    import cv2

    from data.chest_simulator.film import simulate_film

    with one_thread():
        for film in films:
            body, setup, place = person_and_setup(film, seed, site)
            image, boxes = simulate_film(body, setup, film.severity, place, size)
            facts = {"boxes": boxes, "pixels": setup.pixels, "spacing": setup.spacing}
            with atomic_file(unfinished / "boxes" / f"{film.name}.json") as path:
                path.write_text(json.dumps(facts), encoding="utf-8")
            with atomic_file(unfinished / "images" / film.name) as path:
                path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return len(films)


def person_and_setup(film, seed: int, site: str = "A") -> tuple:
    """Body, X-ray set-up and seed of the findings' places of a `data.chest_simulator.patients.Film`.

    The body depends on the seed and the patient only, so that follow-up X-rays show the same person.
    """
    import numpy as np

    from data.chest_simulator.anatomy import sample_body
    from data.chest_simulator.film import sample_setup

    hospital = find_site(site)
    rng = np.random.default_rng([seed, film.patient, *hospital.code])
    body = sample_body(rng, film.sex, film.first_age)
    place = int(rng.integers(2**31))
    setup = sample_setup(np.random.default_rng([seed, film.patient, film.follow_up, *hospital.code]), film.view)
    return body, hospital.adapt(setup), place


def simulate_twins(
    folder: str | Path, name: str, finding: str, severity: float | None = None
) -> tuple["np.ndarray", "np.ndarray", list[tuple[float, float, float, float]]]:
    """An X-ray of a simulated cohort with and without one finding; patient, exposure, noise and window are the same.

    The difference of the two images is the true map of the finding: what a heat map of a network should point at.

    Parameters
    ----------
    folder : path
        A folder that `chest_cohort` made.
    name : str
        Its "Image Index". The image of this file is one of the two that are returned.
    finding : str
        One of `data.nih.FINDINGS`. It must truly be there (``truth.csv``), unless a severity is given.
    severity : float, optional
        0 (subtle) to 1 (obvious): add the finding to an X-ray that does not show it.

    Returns
    -------
    with_finding, without_finding : ndarray of uint8, (size, size)
    boxes : list of (x, y, w, h) in pixels
        Around the finding's places.

    Raises
    ------
    DataError
        When the folder is no simulated chest cohort of this version, or the X-ray or finding is not there.
    """
    from data.chest_simulator import film as one
    from data.findings import FINDINGS

    known = read_identity(Path(folder)) or {}
    if known.get("what") != WHAT or known.get("version") != VERSION:
        raise DataError(f"{folder}: not a chest cohort of this simulator (version {VERSION}); only simulated patients have twins.")
    shot = _planned(known["films"], known["seed"], known["site"]).get(name)
    if shot is None:
        raise DataError(f"{folder}: there is no X-ray {name}. Take a name from the column 'Image Index'.")
    if finding not in FINDINGS or (finding in shot.severity) == (severity is not None):
        there = ", ".join(shot.severity) or "no finding"
        raise DataError(f"{name} shows {there}; {finding} cannot be {'taken away' if severity is None else 'added'}.")
    body, setup, place = person_and_setup(shot, known["seed"], known["site"])
    with one_thread():
        return one.simulate_twins(body, setup, shot.severity, place, finding, severity, known["size"])


@lru_cache(maxsize=2)
def _planned(films: int, seed: int, site: str) -> dict:
    """The `data.chest_simulator.patients.Film` of each name, planned once for all twins of a cohort."""
    from data.chest_simulator.patients import plan_cohort

    return {film.name: film for film in plan_cohort(films, seed, site)}


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------

ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def _write_tables(unfinished: Path, plan: list, size: int) -> None:
    """NIH's tables and lists, the manual labels of the test X-rays and the truth of all."""
    from data.findings import FINDINGS

    entries, boxes, truth, reading, lists = [], [], [], [], {True: [], False: []}
    for film in plan:
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
    parser.add_argument("--site", choices=sorted(SITES), default="A", help="hospital")
    parser.add_argument("--out", type=Path, help="folder that is made; default: the cache of the course")
    parser.add_argument("--jobs", type=int, help="processes (default: one for each core, at most 4)")
    options = parser.parse_args()
    try:
        folder = vars(options).pop("out")
        print(chest_cohort(folder, **vars(options)))
    except DataError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
