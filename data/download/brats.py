"""Checks BraTS folders that a person has, and converts them into the Decathlon's format when asked to.

Converting is not needed: `data.decathlon.read_brain` reads BraTS folders in place.
"""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from tqdm.auto import tqdm

from data.decathlon import CHANNELS, LABELS, BrainCohort, read_brain
from data.errors import DataError
from data.nifti import stem
from data.storage import atomic_file


def verify(folder: Path, *, edition: int | None = None, progress: bool = True) -> tuple[BrainCohort, list[str]]:
    """Read every image and mask of a folder; `edition` as in `data.decathlon.read_brain`.

    Returns
    -------
    cohort : BrainCohort
    problems : list of str
        One sentence for each case that cannot be used: file, what is wrong, what to do.

    Raises
    ------
    DataError
        When the folder holds no scan at all.
    """
    cohort = read_brain(folder, edition=edition)
    problems = list(cohort.broken)
    for case in tqdm(cohort, desc="checking", unit="case", disable=not progress):
        try:
            case.image()
            case.label()
        except DataError as error:
            problems.append(str(error))
    return cohort, problems


def convert(source: Path, folder: Path, *, edition: int | None = None, progress: bool = True) -> int:
    """Write the cases of a BraTS folder in the Decathlon's format, one at a time; an interrupted call resumes.

    Parameters
    ----------
    source : Path
        Any folder that `data.decathlon.read_brain` reads, `edition` given if it needs it. Every case must be usable.
    folder : Path
        Gets ``imagesTr/NAME.nii.gz`` (x, y, z, 4), ``labelsTr/NAME.nii.gz`` (0 to 3) and ``dataset.json``.

    Returns
    -------
    int
        Number of cases.

    Raises
    ------
    DataError
        When a case is broken.
    """
    cohort = read_brain(source, strict=True, edition=edition)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for case in tqdm(cohort, desc="converting", unit="case", disable=not progress):
        for part, voxels in (("imagesTr", case.image), ("labelsTr", case.label)):
            target = folder / part / f"{case.name}.nii.gz"
            if target.exists():
                continue
            scan = nib.Nifti1Image(voxels(), case.affine)
            scan.header.set_xyzt_units("mm")
            with atomic_file(target) as temporary:
                nib.save(scan, temporary)
    names = [f"{case.name}.nii.gz" for case in cohort]
    index = {
        "name": "BRATS",
        "description": f"Converted from the BraTS folder {source.resolve().name!r} by the course's data.download.brats",
        "tensorImageSize": "4D",
        "modality": {str(number): name for number, name in enumerate(CHANNELS)},
        "labels": {str(number): name for number, name in enumerate(LABELS)},
        "numTraining": len(names),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
        "test": [],
    }
    with atomic_file(folder / "dataset.json") as path:
        path.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    written = {case.name: case for case in read_brain(folder, strict=True)}
    for theirs in cohort:
        ours = written[theirs.name]
        if not np.array_equal(ours.label(), theirs.label()):
            raise DataError(f"{ours.label_file}: not what {theirs.label_file} holds. Delete it and run again.")
    return len(names)


def bytes_needed(source: Path) -> int:
    """Disk for the converted scans: about what the originals take."""
    return sum(path.stat().st_size for path in source.rglob("[!.]*") if path.is_file() and stem(path) is not None)
