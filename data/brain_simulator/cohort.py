"""The embedded brain cohort: simulated gliomas in the format of the Medical Segmentation Decathlon, Task01.

``brain_cohort()`` makes it on first use. Each case depends on the seed and its own number only, so the files are the same
byte for byte whatever the number of processes, and a run that was stopped goes on where it ended.

Command line: ``python -m data.brain_simulator.cohort --cases 12 --seed 7 --out FOLDER``.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.errors import DataError
from data.storage import atomic_file, cache_dir, partial_folder, remove_folder

VERSION = 4  # goes up whenever the same seed gives other voxels
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
    if _is_complete(final, facts):
        return final
    if final.exists() and any(final.iterdir()):
        raise DataError(f"{final}: holds something other than this cohort. Name an empty folder, or delete this one.")
    if final.exists():
        final.rmdir()
    try:
        with partial_folder(final) as partial:
            _fill(partial, facts, progress, jobs)
    except (OSError, DataError):
        if _is_complete(final, facts):  # another process was faster
            return final
        raise
    return final


def _is_complete(folder: Path, facts: dict) -> bool:
    """Is this very cohort in `folder`? It appears only by being renamed, so the file of facts is enough."""
    try:
        return json.loads((folder / "SIMULATED.json").read_text(encoding="utf-8")) == facts
    except (OSError, ValueError):
        return False


def _fill(partial: Path, facts: dict, progress: bool, jobs: int | None) -> None:
    if not _is_complete(partial, facts):  # leftovers of another cohort
        remove_folder(partial)
    for sub in ("imagesTr", "labelsTr"):
        (partial / sub).mkdir(parents=True, exist_ok=True)
    _write_json(partial / "SIMULATED.json", facts)
    names = [f"BRATS_{n:03d}.nii.gz" for n in range(1, facts["cases"] + 1)]
    _write_json(
        partial / "dataset.json",
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
    missing = [n for n in range(1, facts["cases"] + 1) if not (partial / "labelsTr" / names[n - 1]).exists()]
    bar = tqdm(
        total=facts["cases"],
        initial=facts["cases"] - len(missing),
        desc="simulating brain scans",
        unit="scan",
        disable=not progress,
    )
    jobs = max(1, min(jobs or min(os.cpu_count() or 1, 4), len(missing) or 1))
    with bar:
        if jobs == 1:
            for n in missing:
                write_case(partial, facts["seed"], n, facts["spacing_mm"])
                bar.update()
        else:
            _run_workers(partial, facts, [missing[i::jobs] for i in range(jobs)], bar.update)
    for half in partial.rglob(".*.nii.gz"):  # what a killed process was writing
        half.unlink(missing_ok=True)


def _run_workers(partial: Path, facts: dict, shares: list[list[int]], done) -> None:
    """One Python process per share of the cases.

    Own processes in place of `multiprocessing`: they work from a notebook cell and from a script without a main guard,
    on every system.
    """
    root = Path(__file__).resolve().parents[2]
    environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "data.brain_simulator.cohort", "--worker", "--seed", str(facts["seed"])]
    command += ["--spacing", str(facts["spacing_mm"]), "--out", str(partial), "--numbers"]
    workers = [
        subprocess.Popen(
            [*command, ",".join(map(str, share))],
            cwd=root,
            env=environment,
            text=True,
            encoding="utf-8",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        for share in shares
        if share
    ]
    complaints: dict[int, str] = {}

    def listen(number: int, worker: subprocess.Popen) -> None:
        for _ in worker.stdout:
            done()

    def complain(number: int, worker: subprocess.Popen) -> None:
        complaints[number] = worker.stderr.read()

    threads = [threading.Thread(target=job, args=(i, w), daemon=True) for i, w in enumerate(workers) for job in (listen, complain)]
    try:
        for thread in threads:
            thread.start()
        for worker in workers:
            worker.wait()
        for thread in threads:
            thread.join()
    finally:  # an interrupt must not leave workers behind
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
    for i, worker in enumerate(workers):
        if worker.returncode != 0:
            lines = complaints.get(i, "").strip().splitlines() or ["no message"]
            raise DataError(
                lines[-1].removeprefix("DataError: ")
                if lines[-1].startswith("DataError: ")
                else f"{partial}: a process that simulates scans ended with code {worker.returncode} ({lines[-1]}). "
                "Run again to go on where it stopped; when memory is short, call brain_cohort(jobs=1)."
            )


def simulate_case(seed: int, number: int, spacing: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Simulate patient `number` of the cohort `seed`.

    Returns
    -------
    images : ndarray, int16, (240, 240, 155, 4)
        FLAIR, T1w, T1gd, T2w; 0 outside the brain. A coarser `spacing` (mm) gives a smaller grid.
    labels : ndarray, uint8, (240, 240, 155)
        0 background, 1 edema, 2 non-enhancing tumour, 3 enhancing tumour.
    """
    from threadpoolctl import threadpool_limits

    from data.brain_simulator.anatomy import Grid, grow_brain
    from data.brain_simulator.contrast import cut_slab, scan
    from data.brain_simulator.tumour import draw_plan, draw_seed, grow_tumour, mass_effect

    grid = Grid(spacing)
    rng = np.random.default_rng([seed, number])
    with threadpool_limits(1):  # sums in another order would round differently
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
    """Simulate one case and write its two files; the label comes last, so a label on disk means a finished case."""
    import nibabel as nib

    affine = np.diag([spacing, spacing, spacing, 1.0])
    images, labels = simulate_case(seed, number, spacing)
    for sub, array in (("imagesTr", images), ("labelsTr", labels)):
        image = nib.Nifti1Image(array, affine)
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
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--numbers", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        if options.worker:
            for number in map(int, options.numbers.split(",")):
                write_case(options.out, options.seed, number, options.spacing)
                print(number, flush=True)
        else:
            print(brain_cohort(options.out, cases=options.cases, seed=options.seed, jobs=options.jobs, spacing=options.spacing))
    except DataError as error:
        print(f"DataError: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
