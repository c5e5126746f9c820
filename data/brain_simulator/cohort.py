"""The embedded brain cohort: simulated gliomas in the format of the Medical Segmentation Decathlon, Task01.

``brain_cohort()`` makes it on first use. Each case depends on the seed and its own number only, so the files are the same
byte for byte whatever the number of processes, and a run that was stopped is resumed.

Command line: ``python -m data.brain_simulator.cohort --cases 12 --seed 7 --out FOLDER``.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

from data.cohort_folder import cores, draw_all, find_or_make, one_thread
from data.errors import DataError
from data.progress import progress_bar
from data.storage import atomic_file, cache_dir

VERSION = 5  # goes up whenever the same seed gives other voxels
SEED = 2018


def brain_cohort(
    folder: str | Path | None = None,
    *,
    cases: int = 12,
    seed: int = SEED,
    progress: bool = True,
    jobs: int | None = None,
    spacing: int = 1,
) -> Path:
    """Make the simulated brain cohort, or find the one that an earlier call made.

    Parameters
    ----------
    folder : path, optional
        Where it should be. Without it: ``brain-<cases>-<seed>-v<version>`` in the cache of the course.
    cases : int
        Number of patients.
    seed : int
        Patient n is the same for every number of `cases`.
    progress : bool
        Show a progress bar.
    jobs : int, optional
        Processes; by default one for each core, at most four. 1 works inside this process.
    spacing : int
        Edge of a voxel in mm. 1 is the Decathlon's; more is for quick tests.

    Returns
    -------
    Path
        Folder with ``dataset.json``, ``imagesTr``, ``labelsTr`` and ``SIMULATED.json``.

    Raises
    ------
    DataError
        When the disk is full, the folder cannot be written or holds something else, or `cases` is below 1.
    """
    if cases < 1:
        raise DataError(f"cases={cases}: a cohort has at least one case.")
    jobs = min(cores(), 4) if jobs is None else jobs
    name = f"brain-{cases}-{seed}-v{VERSION}" + (f"-{spacing}mm" if spacing != 1 else "")
    final = Path(folder).resolve() if folder is not None else cache_dir() / name
    facts = {
        "simulated": True,
        "what": "Simulated MR scans of glioma: no patient is in this folder. See data/README.md.",
        "generator": "data.brain_simulator.cohort",
        "version": VERSION,
        "cases": cases,
        "seed": seed,
        "spacing_mm": spacing,
    }
    return find_or_make(final, facts, lambda unfinished: _fill(unfinished, facts, progress, jobs))


def _fill(unfinished: Path, facts: dict, progress: bool, jobs: int) -> None:
    for sub in ("imagesTr", "labelsTr"):
        (unfinished / sub).mkdir(exist_ok=True)
    names = [f"BRATS_{n:03d}.nii.gz" for n in range(1, facts["cases"] + 1)]
    _write_json(
        unfinished / "dataset.json",
        {
            "name": "BRATS",
            "description": "SIMULATED gliomas for teaching, in the format of the Medical Segmentation Decathlon, Task01",
            "reference": "AI for Medical Diagnosis, data/README.md",
            "licence": "CC BY 4.0",
            "release": f"{facts['version']}.0",
            "tensorImageSize": "4D",
            "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
            "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
            "numTraining": len(names),
            "numTest": 0,
            "training": [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names],
            "test": [],
        },
    )
    missing = [n for n in range(1, facts["cases"] + 1) if not (unfinished / "labelsTr" / names[n - 1]).exists()]
    done = facts["cases"] - len(missing)
    with progress_bar(
        total=facts["cases"], initial=done, description="simulating brain scans", unit="scan", disable=not progress
    ) as bar:
        draw_all(partial(_draw_case, unfinished, facts["seed"], facts["spacing_mm"]), missing, jobs, bar)


def _draw_case(unfinished: Path, seed: int, spacing: int, number: int) -> int:
    write_case(unfinished, seed, number, spacing)
    return 1


def simulate_case(seed: int, number: int, spacing: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Simulate patient `number` of the cohort `seed`.

    Returns
    -------
    images : ndarray, int16, (240, 240, 155, 4)
        FLAIR, T1w, T1gd, T2w; 0 outside the brain. A coarser `spacing` (mm) gives a smaller grid.
    labels : ndarray, uint8, (240, 240, 155)
        0 background, 1 edema, 2 non-enhancing tumour, 3 enhancing tumour.
    """
    from data.brain_simulator.anatomy import Grid, grow_brain
    from data.brain_simulator.contrast import cut_slab, scan
    from data.brain_simulator.tumour import draw_plan, draw_seed, grow_tumour, mass_effect

    grid = Grid(spacing)
    rng = np.random.default_rng([seed, number])
    with one_thread():
        plan = draw_plan(rng, draw_seed(rng))
        brain = grow_brain(rng, grid, mass_effect(rng, grid, plan))
        tumour = grow_tumour(rng, brain, plan)
        scans, marks = scan(rng, brain, tumour), tumour.labels
        if rng.random() < 0.05:
            cut_slab(rng, scans, marks)
    images = np.zeros((*grid.full_shape, 4), np.int16)
    labels = np.zeros(grid.full_shape, np.uint8)
    images[grid.crop], labels[grid.crop] = scans, marks
    return images, labels


def write_case(folder: Path, seed: int, number: int, spacing: int = 1) -> None:
    """Simulate one case and write its two files; the label comes last, so a label on disk means a finished case.

    The files are stored as those of BraTS: the first axis to the patient's left, the second to the back (LPS), and the
    origin of the millimetres in a corner of the grid.
    """
    import nibabel as nib

    images, labels = simulate_case(seed, number, spacing)
    for sub, array in (("imagesTr", images), ("labelsTr", labels)):
        affine = np.diag([-spacing, -spacing, spacing, 1.0])
        affine[1, 3] = (array.shape[1] - 1) * spacing
        image = nib.Nifti1Image(array[::-1, ::-1], affine)
        image.header.set_xyzt_units("mm", "sec")
        with atomic_file(folder / sub / f"BRATS_{number:03d}.nii.gz") as path:
            nib.save(image, path)  # nibabel writes no time stamp into the gzip header


def _write_json(path: Path, content: dict) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Command line of the module; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m data.brain_simulator.cohort", description="Simulate the brain cohort.")
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, help="folder to make (default: the cache of the course)")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--spacing", type=int, default=1, help="voxel edge in mm (default 1)")
    options = parser.parse_args(arguments)
    try:
        print(brain_cohort(options.out, cases=options.cases, seed=options.seed, jobs=options.jobs, spacing=options.spacing))
    except DataError as error:
        print(f"DataError: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
