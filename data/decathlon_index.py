"""What the ``dataset.json`` of a Decathlon folder says, or without it the files themselves: cases, sequences, labels."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

from data import brats
from data.errors import DataError
from data.instead import text_instead
from data.nifti import stem

CHANNELS = ("FLAIR", "T1w", "T1gd", "T2w")

DECATHLON = brats.Convention(
    {0: 0, 1: 1, 2: 2, 3: 3}, "the Decathlon", hints={4: "4 is BraTS' enhancing tumour until 2021; in the Decathlon it is 3."}
)


def list_cases(folder: Path) -> Iterator[brats.Listed]:
    """Each training case that ``dataset.json`` lists, or each file without it."""
    files = sorted(path for path in (folder / "imagesTr").glob("*") if stem(path) is not None)
    bases = [stem(path)[:-5] for path in files if stem(path).endswith("_0001")]
    if any(list((folder / "labelsTr").glob(f"{base}.nii*")) for base in bases):
        raise DataError(
            f"{folder}: nnU-Net's layout (one file a sequence: CASE_0000.nii.gz, CASE_0001 …), which leaves order and labels to "
            "each data set. Name the folder that it was converted from, or join FLAIR, T1w, T1gd and T2w in this order into one "
            "file CASE.nii.gz."
        )
    index = folder / "dataset.json"
    if index.exists():
        content = index.read_bytes()
        if what := text_instead(content):
            raise DataError(f"{index}: {what}, or delete this one to read imagesTr/ as it is.")
        try:
            description = json.loads(content)
            channels = [name for _, name in sorted(description["modality"].items(), key=lambda item: int(item[0]))]
            pairs = sorted(_pair(index, entry) for entry in list(description["training"]))
            labels = {str(key): str(value) for key, value in dict(description.get("labels") or {}).items()}
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{index}: not a Decathlon index ({type(error).__name__}: {error}). It needs 'modality' and 'training'; "
                "download the task again, or delete this file to read imagesTr/, or folders in BraTS' format, as they are."
            ) from error
        if [brats.PARTS.get(str(name).lower()) for name in channels] != [0, 1, 2, 3]:
            raise DataError(f"{index}: sequences {channels}, but the course needs {list(CHANNELS)} in this order.")
        if all(value.isdigit() for value in labels.values()):  # nnU-Net writes names to numbers
            labels = {number: name for name, number in labels.items()}
        meant = {number: labels.get(number, "").lower() for number in "123"}
        if labels and not ("edema" in meant["1"] and meant["2"].startswith(("non", "necro")) and meant["3"].startswith("enhanc")):
            raise DataError(
                f"{index}: labels {labels}, but the course reads 1 edema, 2 non-enhancing tumour, 3 enhancing tumour. Map the "
                "masks, or correct this file if they are so."
            )
        listed = {stem(Path(image)) for image, _ in pairs}
        if more := [path.name for path in files if stem(path) not in listed]:
            warnings.warn(
                f"{index}: does not list {len(more)} files of imagesTr, first {more[0]}. They are left out.", stacklevel=4
            )
        absent = [pair for pair in pairs if not any(_as_on_disk(folder / part).exists() for part in pair)]
        if 0 < len(absent) < len(pairs):
            warnings.warn(
                f"{index}: lists {len(absent)} cases of which neither scan nor mask is here, first {absent[0][0]}. They are left "
                "out.",
                stacklevel=4,
            )
            pairs = [pair for pair in pairs if pair not in absent]
    else:
        pairs = [(f"imagesTr/{file.name}", f"labelsTr/{file.name}") for file in files]
        labels = {}
    other = [stem(Path(image)) or image for image, _ in pairs if not (stem(Path(image)) or "").upper().startswith("BRATS_")]
    if not labels and any(brats.patient_of(name) != name.lower() for name in other):
        warnings.warn(
            f"{folder}: scans named as in BraTS ({other[0]}), and no dataset.json says what the labels mean. They are read as "
            "the Decathlon's: 1 edema, 2 non-enhancing tumour, 3 enhancing tumour.",
            stacklevel=4,
        )
    cases = {stem(Path(image)) for image, _ in pairs}
    for image, label in pairs:
        file, mask = (_as_on_disk(folder / part) for part in (image, label))
        name, other, problem = stem(Path(image)) or Path(image).name, stem(Path(label)), None
        if other != name and other in cases:
            problem = f"{index}: gives {name} the mask of {other}. Give each case its own."
        yield brats.Listed(name, (file,), mask, DECATHLON, problem)


def _pair(index: Path, entry: object) -> tuple[str, str]:
    """Image and mask of one entry of the list "training"."""
    pair = tuple(entry.get(part) for part in ("image", "label")) if isinstance(entry, dict) else ()
    if len(pair) < 2 or not all(isinstance(part, str) for part in pair):
        raise DataError(
            f"{index}: not a Decathlon index: an entry of 'training' is {str(entry)[:80]}, not an image with its label, such as "
            '{"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}. Correct it, or delete this file to '
            "read imagesTr/ and labelsTr/ as they are."
        )
    return pair[0].replace("\\", "/"), pair[1].replace("\\", "/")


def _as_on_disk(file: Path) -> Path:
    """The file that an index lists, or the same one packed, or unpacked."""
    called = stem(file)
    if file.exists() or called is None or not file.parent.is_dir():
        return file
    return next((path for path in sorted(file.parent.glob(f"{called}.*")) if stem(path) == called), file)
