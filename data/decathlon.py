"""Reader of brain scans in two public folder formats, brought into one.

* Medical Segmentation Decathlon, Task01_BrainTumour (Antonelli et al., Nature Communications 2022): ``dataset.json``,
  ``imagesTr/BRATS_001.nii.gz`` (x, y, z, 4), ``labelsTr/BRATS_001.nii.gz`` (x, y, z).
* BraTS, all releases (`data.brats`): per patient one file a sequence, and one with the mask.

Both come out the same: axes to the patient's right, front and top (RAS), four channels, labels 0 to 3.
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np

from data import brats, decathlon_index
from data.brats import MAYBE_MASK
from data.decathlon_index import CHANNELS
from data.errors import DataError
from data.instead import dangling, say_in_cloud
from data.nifti import Nifti, open_nifti, stem
from data.storage import existing_folder

LABELS = ("background", "edema", "non-enhancing tumour", "enhancing tumour")
CLASS_COLOURS = ("#F0E442", "#0072B2", "#D55E00")  # of the labels 1 to 3 in pictures; the colour-blind can tell them apart too

_NO_PLACE = "do not say in their headers where the voxels lie: which side is left is a guess."
_NOT_1_MM = "have voxels of {} mm. The course's network has learned from 1 mm: resample them, or expect worse masks."
_NO_NIFTI = (".mha", ".mhd", ".nrrd", ".mgz", ".mgh", ".mnc", ".dcm", ".h5", ".npy", ".npz", ".zip", ".tar", ".tgz", ".bz2", ".xz")
_NO_NIFTI += (".zst", ".7z", ".rar")
_ROUNDING = 0.01  # of a label that was stored as a float, or in 8 bits with a slope


@dataclass(frozen=True)
class BrainCase:
    """One patient's scan: what its headers say, and the voxels when they are asked for.

    Attributes
    ----------
    name : str
        Such as ``BRATS_001`` or ``Brats18_2013_2_1``.
    image_files : tuple of Path
        One file with four channels, or four files with one, in the order of `CHANNELS`.
    label_file : Path or None
    shape : tuple of int
        Voxels along x (to the right), y (to the front) and z (to the top).
    affine : numpy.ndarray of float, shape (4, 4)
        Takes voxel indices of `image` and `label` to millimetres in the scanner's space.
    convention : data.brats.Convention
        Which labels the mask holds, and what they mean.
    known_as : str
        Name of the same scan in an earlier release, where the folder's ``name_mapping.csv`` tells it, or in the same folder; else
        `name`.
    """

    name: str
    image_files: tuple[Path, ...]
    label_file: Path | None
    shape: tuple[int, int, int]
    affine: np.ndarray = field(repr=False, compare=False)
    convention: brats.Convention = field(repr=False, compare=False)
    known_as: str = field(repr=False, compare=False)

    @property
    def patient(self) -> str:
        """Whose scan it is: the same for all scans of a patient, whatever the year, the time point and the spelling of `name`."""
        return brats.patient_of(self.known_as)

    def is_among(self, names: Iterable[str]) -> bool | None:
        """Whether the patient is among those of other cases' names; None where their names cannot be compared with this one."""
        return brats.is_among(self.known_as, names)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of a voxel along x, y and z in millimetres."""
        return tuple(float(size) for size in nib.affines.voxel_sizes(self.affine))

    @property
    def header(self) -> nib.Nifti1Header:
        """NIfTI header of the scan's (first) file, as it is on disk."""
        return open_nifti(self.image_files[0]).header

    def image(self) -> np.ndarray:
        """Read the four sequences.

        Returns
        -------
        numpy.ndarray of int16 or float32, shape (x, y, z, 4)
            Channels as in `CHANNELS`; intensities as stored, which have no unit. Where a sequence has a background other than 0,
            that
            value is subtracted, and a warning says so: all that follows finds the brain by what is not 0.

        Raises
        ------
        DataError
            When a file cannot be decompressed, holds NaN or infinity, has an empty channel, or one twice.
        """
        parts = [open_nifti(file).voxels() for file in self.image_files]
        image = parts[0] if len(parts) == 1 else np.stack(parts, axis=-1)
        for channel, name in enumerate(CHANNELS):
            file = self.image_files[channel if len(parts) > 1 else 0]
            values = parts[channel] if len(parts) > 1 else image[..., channel]
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                count = int((~np.isfinite(values)).sum())
                raise DataError(f"{file}: {name} holds {count:,} values that are NaN or infinite. Export the scan again.")
            if values.min() == values.max():
                raise DataError(
                    f"{file}: {name} is {_word(values.flat[0])} everywhere. Export the scan again, or take the case out."
                )
        _refuse_equal_channels(image, self)
        return _without_background(image, self)

    def label(self) -> np.ndarray:
        """Read the expert's mask.

        Returns
        -------
        numpy.ndarray of uint8, shape (x, y, z)
            Indices of `LABELS`. A warning says so where nothing is marked, or where a label of the release has no place among
            these.

        Raises
        ------
        DataError
            When the file cannot be decompressed or holds a value that its format does not know.
        """
        if self.label_file is None:
            raise DataError(f"{self.image_files[0]}: {self.name} has no mask. Add it, or take the case out.")
        stored = open_nifti(self.label_file).voxels()
        values, known = np.unique(stored), self.convention.values
        between = (
            values[np.isnan(values) | (np.abs(values - np.rint(values)) > _ROUNDING)] if values.dtype.kind == "f" else values[:0]
        )
        if between.size:
            cause = (
                "Was the mask resampled with interpolation? Resample the original one with nearest neighbours."
                if between[-1] > 1
                else "Are they probabilities? Save the likeliest label of each voxel."
                if between[0] > 0
                else "Export the mask again."
            )
            raise DataError(f"{self.label_file}: {between.size} values are no labels, such as {between[0]:g}. {cause}")
        found = {round(value) for value in values.tolist()}
        unknown = sorted(found - set(known))
        if unknown:
            hints = " ".join(self.convention.hints[value] for value in unknown if value in self.convention.hints)
            raise DataError(
                f"{self.label_file}: label value {', '.join(map(str, unknown))}, but {self.convention.name} knows "
                f"{', '.join(map(str, known))}. "
                f"{hints + ' ' if hints else ''}Map the labels, or name the files as their format does."
            )
        for value, note in self.convention.notes.items():
            if value in found:
                doubtful = value == 4 and 3 not in found
                doubt = " There is no 3, the enhancing tumour: are these labels as until 2021, where it is 4?" if doubtful else ""
                warnings.warn(f"{self.label_file}: {note}{doubt}", stacklevel=2)
        if found - {0} == {1}:
            warnings.warn(
                f"{self.label_file}: the only label is 1, {LABELS[known[1]]}. If this mask marks the whole tumour, it is not one "
                f"of {self.convention.name}.",
                stacklevel=2,
            )
        if found == {0}:
            warnings.warn(f"{self.label_file}: nothing is marked in this mask.", stacklevel=2)
        lookup = np.zeros(max(known) + 1, np.uint8)
        lookup[list(known)] = list(known.values())
        return lookup[(np.rint(stored) if stored.dtype.kind == "f" else stored).astype(np.uint8)]


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

    def draw(self, count: int, rng: np.random.Generator) -> list[BrainCase]:
        """Up to `count` cases at random: one scan of each patient before the second one of any."""
        order = [self.cases[number] for number in rng.permutation(len(self.cases))]
        turns: Counter[str] = Counter()
        turn = {}
        for case in order:
            turn[case.name] = turns[case.patient]
            turns[case.patient] += 1
        return sorted(order, key=lambda case: turn[case.name])[:count]


def read_brain(folder: str | Path, *, strict: bool = False, edition: int | None = None, masks: bool = True) -> BrainCohort:
    """Open a folder of brain scans in the Decathlon or the BraTS format.

    Headers are read and compared now, voxels only by `BrainCase.image` and `BrainCase.label`.

    Parameters
    ----------
    folder : str or Path
        With ``imagesTr`` in it (Decathlon), or with folders of ``*_flair.nii.gz`` and the rest, at any depth (BraTS).
    edition : int, optional
        Year of the BraTS release, where names do not tell what the labels mean (`data.brats.convention_of`).
    strict : bool
        Whether a broken case is an error. Otherwise it is left out with a warning and listed in `BrainCohort.broken`.
    masks : bool
        Whether every case needs an expert's mask; those without one can be segmented, but not scored or trained on.

    Returns
    -------
    BrainCohort
        Cases sorted by name.

    Raises
    ------
    DataError
        When the folder is missing or has no usable case; with `strict`, when any case is broken.
    """
    folder = existing_folder(folder, "Set DATA_DIR to a folder of brain scans, or to None.")
    for place, _, names in os.walk(folder):
        if away := say_in_cloud(Path(place), names):
            warnings.warn(away, stacklevel=2)
    simulated = (folder / "SIMULATED.json").exists()
    source = "simulated" if simulated else f"real patients: {folder.resolve().name}"
    decathlon = (folder / "imagesTr").is_dir() or (folder / "dataset.json").exists()
    listed = list(decathlon_index.list_cases(folder) if decathlon else brats.list_cases(folder, edition))
    old_names = {} if decathlon else brats.aliases(folder)
    cases, broken, seen, nowhere = [], [], {}, []
    for entry in listed:
        try:
            case, content, placed = _open_case(entry, old_names.get(entry.name, entry.name), masks)
            if double := next((other for other in cases if other.name == case.name), None):
                raise DataError(
                    f"{case.image_files[0]}: a second case of this name; the first is {double.image_files[0]}. Take one out."
                )
            first = seen.setdefault(content, case)
            if first is not case:
                warnings.warn(
                    f"{case.image_files[0]}: the same scan as {first.name}. Both count as one patient; take one out.", stacklevel=2
                )
                case = replace(case, known_as=first.known_as)
            cases.append(case)
            nowhere += [] if placed else [case]
        except DataError as error:
            if strict:
                raise
            warnings.warn(f"{entry.name} is left out. {error}", stacklevel=2)
            broken.append(str(error))
        else:
            if entry.note:
                warnings.warn(entry.note, stacklevel=2)
    if not cases:
        reasons = f" Left out: {' '.join(broken[:3])}" if broken else _instead(folder)
        raise DataError(
            f"{folder}: no usable brain scan. Wanted is imagesTr/ and labelsTr/ (Decathlon) or folders with files such as "
            f"ID_flair.nii.gz, ID_t1, ID_t1ce, ID_t2, ID_seg (BraTS).{reasons}"
        )
    for wrong, sentence in (
        (nowhere, _NO_PLACE),
        ([case for case in cases if not np.allclose(case.spacing, 1, atol=0.1)], _NOT_1_MM),
    ):
        if wrong:
            size = " × ".join(f"{size:.3g}" for size in wrong[0].spacing)
            warnings.warn(
                f"{folder}: {len(wrong)} of {len(cases)} scans, first {wrong[0].name}, {sentence.format(size)}", stacklevel=2
            )
    if two := brats.cannot_be_compared(case.known_as for case in cases):
        warnings.warn(
            f"{folder}: {two[0]} and {two[1]} are of releases that name patients differently, so one patient may be there under "
            "two names, "
            "and a split by patient cannot see it.",
            stacklevel=2,
        )
    return BrainCohort(folder, cases, broken, source)


def _open_case(entry: brats.Listed, known_as: str, masks: bool) -> tuple[BrainCase, object, bool]:
    """Read the headers of a case and compare them; the case, what identifies its content, whether headers say where voxels lie."""
    name, files, label_file = entry.name, entry.images, entry.label
    if entry.problem:
        raise DataError(entry.problem)
    missing = [channel for channel, file in zip(CHANNELS, files) if file is None]
    if missing:
        place = next(file for file in (*files, label_file) if file is not None).parent
        raise DataError(f"{place}: {name} has no {' and no '.join(missing)}. All four sequences are needed; add the file.")
    if label_file is not None and not label_file.exists() and not masks:
        label_file = None
    if masks and (label_file is None or not label_file.exists()):
        if label_file is not None and (what := dangling(label_file)):
            raise DataError(f"{label_file}: the mask is missing{what}")
        wanted, place = label_file or f"{files[0].parent}/{name}_seg.nii.gz", files[0].parent
        near = [path.name for path in sorted(place.glob("*")) if path.name.startswith(name) and MAYBE_MASK.search(path.name)]
        hint = f" There is {' and '.join(near)}: call the expert's mask {name}_seg." if near else ""
        raise DataError(f"{wanted}: the mask is missing. Only cases with an expert's mask can be used; add it.{hint}")
    scans, mask = [open_nifti(file) for file in files], label_file and open_nifti(label_file)
    first = scans[0]
    if len(scans) == 1 and first.shape[3:] != (len(CHANNELS),):
        found = first.shape[3] if len(first.shape) > 3 else 1
        raise DataError(
            f"{files[0]}: {found} sequences, but {len(CHANNELS)} are needed: {', '.join(CHANNELS)}, on the fourth axis."
        )
    for scan in filter(None, (*(scans if len(scans) > 1 else ()), mask)):
        if len(scan.shape) > 3:
            what = "a mask has one label a voxel" if scan is mask else "each of the four sequences is one volume"
            raise DataError(f"{scan.file}: {scan.shape[3]} volumes (shape {scan.shape}), but {what}. Export the one that is meant.")
        _compare(scan, first)
    content = tuple(scan.fingerprint for scan in scans)
    if len(set(content)) < len(content):
        one = next(k for k, part in enumerate(content) if part in content[:k])
        raise DataError(
            f"{files[one]}: the same as {files[content.index(content[one])].name}, to the last bit. A sequence cannot replace "
            "another: get the right one, or take the case out."
        )
    if mask and (same := next((scan for scan in scans if scan.fingerprint == mask.fingerprint), None)):
        raise DataError(f"{mask.file}: the mask is the same file as {same.file.name}. Get both again, or take the case out.")
    case = BrainCase(name, tuple(files), label_file, first.shape[:3], first.affine, entry.convention, known_as)
    return case, content, all(scan.placed for scan in scans)


def _compare(scan: Nifti, first: Nifti) -> None:
    """Two files are of one grid, once their axes run the same way."""
    if scan.shape != first.shape[:3]:
        raise DataError(
            f"{scan.file}: shape {scan.shape}, but {first.file.name} has {first.shape[:3]}. They are not of the same "
            "scan, or one was resampled; resample it to the other's grid."
        )
    if not np.allclose(scan.affine, first.affine, atol=1e-2):  # mm; other programs round to two or three decimals
        raise DataError(
            f"{scan.file}: its affine differs from that of {first.file.name}, so it lies elsewhere in the head. Resample one "
            "to the other's grid; if the voxels are the same, copy the affine of the other."
        )


def _instead(folder: Path) -> str:
    """What the folder holds that may be meant."""
    if folder.name in ("imagesTr", "labelsTr"):
        return f" Name the folder above, {folder.parent}."
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and path.name == "imagesTr" and path.parent != folder:
            return f" There is one in {path.parent}: name that folder."
        if path.suffix.lower() in _NO_NIFTI:
            return f" It holds {path.suffix} files, such as {path.name}: convert them to NIfTI, or unpack them."
    for path in sorted(folder.rglob("*.nii*")):
        if (stem(path) or "").lower() in brats.PARTS:
            return f" It holds {path.name} without a patient's name before it: call it {path.parent.name}_{path.name}, and so on."
    return ""


def _word(value: float) -> str:
    return "zero" if value == 0 else f"{value:g}"


def _refuse_equal_channels(image: np.ndarray, case: BrainCase) -> None:
    """One sequence under the names of two, whatever their headers say."""
    for one, other in combinations(range(len(CHANNELS)), 2):
        if all((image[place][..., one] == image[place][..., other]).all() for place in (image.shape[0] // 2, slice(None))):
            raise DataError(
                f"{case.image_files[other if len(case.image_files) > 1 else 0]}: {CHANNELS[other]} is the same as {CHANNELS[one]}, "
                "voxel by voxel. A sequence cannot replace another: get the right one, or take the case out."
            )


def _without_background(image: np.ndarray, case: BrainCase) -> np.ndarray:
    """The image with 0 outside of the brain: standardising programs leave the background at one value that is not 0.

    That value is the one in all eight corners of the volume and in a tenth of it or more.
    """
    corners = image[np.ix_((0, -1), (0, -1), (0, -1))].reshape(8, -1)
    level = np.zeros(image.shape[-1], image.dtype)
    for channel, value in enumerate(corners[0]):
        if value != 0 and (corners[:, channel] == value).all() and (image[..., channel] == value).mean() >= 0.1:
            level[channel] = value
    if level.any():
        listed = ", ".join(f"{name} {value:g}" for name, value in zip(CHANNELS, level) if value != 0)
        warnings.warn(f"{case.image_files[0]}: the background is not 0 ({listed}); it was subtracted, so that it is.", stacklevel=3)
        return image.astype(np.float32) - level.astype(np.float32)
    if image[..., 0].size > 10_000 and (image != 0).any(axis=-1).mean() > 0.97:
        warnings.warn(
            f"{case.image_files[0]}: hardly any voxel is 0, so that the whole volume counts as brain. Is the skull still there, "
            "or noise around it?",
            stacklevel=3,
        )
    return image


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
