"""Reader of brain scans in two public folder formats, brought into one.

* Medical Segmentation Decathlon, Task01_BrainTumour (Antonelli et al., Nature Communications 2022): ``dataset.json``,
  ``imagesTr/BRATS_001.nii.gz`` (x, y, z, 4), ``labelsTr/BRATS_001.nii.gz`` (x, y, z).
* BraTS (Menze et al., IEEE TMI 2015): per patient ``ID_flair.nii.gz``, ``ID_t1``, ``ID_t1ce``, ``ID_t2`` and ``ID_seg``;
  since 2023 ``ID-t2f``, ``ID-t1n``, ``ID-t1c``, ``ID-t2w`` and ``ID-seg``.

Both come out the same: axes to the patient's right, front and top (RAS), four channels, labels 0 to 3.
"""

import gzip
import json
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from data.errors import DataError

CHANNELS = ("FLAIR", "T1w", "T1gd", "T2w")
LABELS = ("background", "edema", "non-enhancing tumour", "enhancing tumour")

BRATS_NAME = re.compile(r"(?P<case>.+)[_-](?P<part>flair|t2f|t1ce|t1gd|t1c|t1n|t1|t2w|t2|seg)\.nii(\.gz)?", re.IGNORECASE)
BRATS_PARTS = {"flair": 0, "t2f": 0, "t1": 1, "t1n": 1, "t1ce": 2, "t1c": 2, "t1gd": 2, "t2": 3, "t2w": 3, "seg": "seg"}
# necrotic and non-enhancing 1, edema 2, enhancing 4 (3 since 2023) -> the Decathlon's order
BRATS_LABELS = {0: 0, 1: 2, 2: 1, 3: 3, 4: 3}
DECATHLON_LABELS = {0: 0, 1: 1, 2: 2, 3: 3}


@dataclass(frozen=True)
class BrainCase:
    """One patient's scan: what its headers say, and the voxels when they are asked for.

    Attributes
    ----------
    name : str
        Such as ``BRATS_001`` or ``Brats18_2013_2_1``.
    image_files : tuple of Path
        One file with four channels, or four files with one, in the order of `CHANNELS`.
    label_file : Path
    shape : tuple of int
        Voxels along x (to the right), y (to the front) and z (to the top).
    affine : numpy.ndarray of float, shape (4, 4)
        Takes voxel indices of `image` and `label` to millimetres in the scanner's space.
    label_values : dict of int to int
        Label in the file to label of the course (an index of `LABELS`).
    """

    name: str
    image_files: tuple[Path, ...]
    label_file: Path
    shape: tuple[int, int, int]
    affine: np.ndarray = field(repr=False, compare=False)
    label_values: dict[int, int] = field(repr=False, compare=False)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of a voxel along x, y and z in millimetres."""
        return tuple(float(size) for size in nib.affines.voxel_sizes(self.affine))

    @property
    def header(self) -> nib.Nifti1Header:
        """NIfTI header of the scan's (first) file, as it is on disk."""
        with _readable(self.image_files[0]):
            return nib.load(self.image_files[0]).header

    def image(self) -> np.ndarray:
        """Read the four sequences.

        Returns
        -------
        numpy.ndarray of int16 or float32, shape (x, y, z, 4)
            Channels as in `CHANNELS`; intensities as stored, which have no unit.

        Raises
        ------
        DataError
            When a file cannot be decompressed, holds NaN or infinity, or has an empty channel.
        """
        parts = [_voxels(file) for file in self.image_files]
        image = parts[0] if len(parts) == 1 else np.stack(parts, axis=-1)
        for channel, name in enumerate(CHANNELS):
            file = self.image_files[channel if len(parts) > 1 else 0]
            values = image[..., channel]
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                count = int((~np.isfinite(values)).sum())
                raise DataError(f"{file}: {name} holds {count:,} values that are NaN or infinite. Export the scan again.")
            if not values.any():
                raise DataError(f"{file}: {name} is zero everywhere. Export the scan again, or take the case out.")
        return image

    def label(self) -> np.ndarray:
        """Read the expert's mask.

        Returns
        -------
        numpy.ndarray of uint8, shape (x, y, z)
            Indices of `LABELS`.

        Raises
        ------
        DataError
            When the file cannot be decompressed or holds a value that its format does not know.
        """
        stored = _voxels(self.label_file)
        found = set(np.unique(stored).tolist())
        unknown = sorted(found - set(self.label_values), key=str)
        if unknown:
            listed = ", ".join(f"{value:g}" for value in unknown)
            known = ", ".join(map(str, self.label_values))
            hint = " 4 is BraTS' enhancing tumour, 3 in the Decathlon." if unknown == [4] else ""
            raise DataError(
                f"{self.label_file}: label value {listed}, but this folder's format knows {known}.{hint} Map the labels, "
                "or name the files as their format does."
            )
        lookup = np.zeros(max(self.label_values) + 1, np.uint8)
        lookup[list(self.label_values)] = list(self.label_values.values())
        return lookup[stored.astype(np.uint8)]


@dataclass(frozen=True)
class BrainCohort(Sequence):
    """The scans of one folder: a sequence of `BrainCase`, with where they are from.

    Attributes
    ----------
    folder : Path
    cases : list of BrainCase
    broken : list of str
        What was wrong with each case that was left out.
    source : str
        What figures and tables say: "simulated" or "real patients: <folder name>".
    """

    folder: Path
    cases: list[BrainCase] = field(repr=False)
    broken: list[str] = field(repr=False)
    source: str

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index):
        return self.cases[index]


def read_brain(folder: str | Path, *, strict: bool = False) -> BrainCohort:
    """Open a folder of brain scans in the Decathlon or the BraTS format.

    Headers are read and compared now, voxels only by `BrainCase.image` and `BrainCase.label`.

    Parameters
    ----------
    folder : str or Path
        With ``imagesTr`` in it (Decathlon), or with folders of ``*_flair.nii.gz`` and the rest, at any depth (BraTS).
    strict : bool
        Whether a broken case is an error. Otherwise it is left out with a warning and listed in `BrainCohort.broken`.

    Returns
    -------
    BrainCohort
        Cases sorted by name.

    Raises
    ------
    DataError
        When the folder is missing or has no usable case; with `strict`, when any case is broken.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Set DATA_DIR to a folder of brain scans, or to None.")
    simulated = (folder / "SIMULATED.json").exists()
    source = "simulated" if simulated else f"real patients: {folder.resolve().name}"
    decathlon = (folder / "imagesTr").is_dir() or (folder / "dataset.json").exists()
    listed = _list_decathlon(folder) if decathlon else _list_brats(folder)
    values = DECATHLON_LABELS if decathlon else BRATS_LABELS
    cases, broken = [], []
    for name, files, label_file in listed:
        try:
            cases.append(_open_case(name, files, label_file, values))
        except DataError as error:
            if strict:
                raise
            warnings.warn(f"{name} is left out. {error}", stacklevel=2)
            broken.append(str(error))
    if not cases:
        reasons = f" Left out: {' '.join(broken[:3])}" if broken else ""
        raise DataError(
            f"{folder}: no usable brain scan. Wanted is imagesTr/ and labelsTr/ (Decathlon) or folders with files such as "
            f"ID_flair.nii.gz, ID_t1, ID_t1ce, ID_t2, ID_seg (BraTS).{reasons}"
        )
    return BrainCohort(folder, cases, broken, source)


Listed = Iterator[tuple[str, tuple[Path | None, ...], Path | None]]


def _list_decathlon(folder: Path) -> Listed:
    """Name, image file and label file of each training case that ``dataset.json`` lists, or of each file without it."""
    index = folder / "dataset.json"
    if index.exists():
        try:
            description = json.loads(index.read_text())
            channels = [name for _, name in sorted(description["modality"].items(), key=lambda item: int(item[0]))]
            pairs = sorted((entry["image"], entry["label"]) for entry in description["training"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{index}: not a Decathlon index ({type(error).__name__}: {error}). It needs 'modality' and 'training'; "
                "download the task again, or delete this file to read imagesTr/ as it is."
            ) from error
        if [name.lower() for name in channels] != [name.lower() for name in CHANNELS]:
            raise DataError(f"{index}: sequences {channels}, but the course needs {list(CHANNELS)} in this order.")
    else:
        files = sorted((folder / "imagesTr").glob("[!.]*.nii*"))  # archives made on a Mac hold hidden doubles, ._BRATS…
        pairs = [(f"imagesTr/{file.name}", f"labelsTr/{file.name}") for file in files]
    for image, label in pairs:
        yield Path(image).name.split(".nii")[0], (folder / image,), folder / label


def _list_brats(folder: Path) -> Listed:
    """Name, four image files (None where missing) and label file (or None) of each patient's folder."""
    patients: dict[tuple[Path, str], dict[int | str, Path]] = {}
    for file in sorted(folder.rglob("[!.]*.nii*")):
        match = BRATS_NAME.fullmatch(file.name)
        if match:
            patient = patients.setdefault((file.parent, match["case"]), {})
            patient[BRATS_PARTS[match["part"].lower()]] = file
    for (_, name), parts in sorted(patients.items(), key=lambda item: item[0][1]):
        yield name, tuple(parts.get(channel) for channel in range(len(CHANNELS))), parts.get("seg")


def _open_case(name: str, files: tuple[Path | None, ...], label_file: Path | None, values: dict[int, int]) -> BrainCase:
    """Read the headers of a case and compare them."""
    missing = [channel for channel, file in zip(CHANNELS, files) if file is None]
    if missing:
        place = next(file for file in (*files, label_file) if file is not None).parent
        raise DataError(f"{place}: {name} has no {' and no '.join(missing)}. All four sequences are needed; add the file.")
    if label_file is None or not label_file.exists():
        wanted = label_file or f"{files[0].parent}/{name}_seg.nii.gz"
        raise DataError(f"{wanted}: the mask is missing. Only cases with an expert's mask can be used; add it.")
    headers = [_whole_header(file) for file in files]
    shape, affine = headers[0].get_data_shape()[:3], headers[0].get_best_affine()
    channels = headers[0].get_data_shape()[3:] if len(files) == 1 else (len(files),)
    if channels != (len(CHANNELS),):
        found = channels[0] if channels else 1
        raise DataError(f"{files[0]}: {found} sequences, but {len(CHANNELS)} are needed: {', '.join(CHANNELS)}.")
    for file, header in [*zip(files[1:], headers[1:]), (label_file, _whole_header(label_file))]:
        if header.get_data_shape() != shape:
            raise DataError(
                f"{file}: shape {header.get_data_shape()}, but {files[0].name} has {shape}. They are not of the same "
                "scan, or one was resampled; resample it to the other's grid."
            )
        if not np.allclose(header.get_best_affine(), affine, atol=1e-3):
            raise DataError(
                f"{file}: its affine differs from that of {files[0].name}, so it lies elsewhere in the head. Resample one "
                "to the other's grid."
            )
    turn = io_orientation(affine)
    if np.isnan(turn).any():
        raise DataError(f"{files[0]}: its affine maps no volume to the head (it is singular). Export the scan again.")
    return BrainCase(
        name,
        tuple(files),
        label_file,
        tuple(int(shape[axis]) for axis in np.argsort(turn[:, 0])),
        affine @ inv_ornt_aff(turn, shape),
        values,
    )


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn what nibabel and gzip raise for a damaged file into a `DataError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{file}: the file is missing. Copy it there, or take the case out.") from error
    except (ImageFileError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cut off or not a NIfTI file ({error}). Copy or download it again.") from error


def _whole_header(file: Path) -> nib.Nifti1Header:
    """Header of a NIfTI file that is as long as its header says."""
    with _readable(file):
        image = nib.load(file)
        header = image.header
        wanted = int(image.dataobj.offset) + int(np.prod(header.get_data_shape())) * header.get_data_dtype().itemsize
        if file.suffix == ".gz":
            with file.open("rb") as stream:
                stream.seek(-4, 2)
                length = int.from_bytes(stream.read(4), "little")  # gzip ends with the length of what it holds
            if length != wanted % 2**32:  # cut off, or written in several parts: only reading on can tell
                with gzip.open(file) as stream:
                    length = sum(len(block) for block in iter(lambda: stream.read(2**24), b""))
        else:
            length = file.stat().st_size
    if length < wanted:
        raise DataError(f"{file}: cut off ({length:,} of {wanted:,} bytes). Copy or download it again.")
    return header


def _voxels(file: Path) -> np.ndarray:
    """Voxels of a NIfTI file, axes turned to RAS; floats as float32."""
    with _readable(file):
        image = nib.load(file)
        voxels = np.asanyarray(image.dataobj)
    voxels = apply_orientation(voxels, io_orientation(image.affine))
    return np.ascontiguousarray(voxels, dtype=np.float32 if voxels.dtype.kind == "f" else None)


def brain_box(image: np.ndarray, margin: int = 0) -> tuple[slice, slice, slice]:
    """Smallest box around all voxels that are non-zero in any channel of an (x, y, z, channels) image.

    Raises
    ------
    DataError
        When there is no such voxel.
    """
    brain = (image != 0).any(axis=-1)
    box = []
    for axis in range(3):
        inside = np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis})))
        if not len(inside):
            raise DataError("This scan is zero everywhere; there is no brain to find. Look at the file it was read from.")
        box.append(slice(max(int(inside[0]) - margin, 0), int(inside[-1]) + 1 + margin))
    return tuple(box)


def standardize_scan(image: np.ndarray) -> np.ndarray:
    """Bring each channel to mean 0 and standard deviation 1 over the brain, as the shipped network was trained on.

    Parameters
    ----------
    image : numpy.ndarray, shape (x, y, z, channels)
        The brain is where any channel is not 0.

    Returns
    -------
    numpy.ndarray of float32, same shape, 0 outside the brain
    """
    brain = (image != 0).any(axis=-1)
    values = image[brain].astype(np.float32)
    spread = values.std(axis=0)
    result = np.zeros(image.shape, np.float32)
    result[brain] = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return result
