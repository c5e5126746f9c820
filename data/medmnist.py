"""Turns ChestMNIST (MedMNIST+) into a folder in the NIH ChestX-ray14 format, one X-ray at a time.

The ``.npz`` is a zip of ``.npy`` arrays; the one of 224 pixels holds 5.6 GB. It is read as a stream, so that the memory
needed does not depend on how many X-rays there are.

What the file does not say: names of X-rays, patients, age, sex, view. Each X-ray is therefore numbered, and its number
stands where the NIH table has the patient's: with this folder, "patients" are X-rays.
"""

import csv
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from data.errors import DataError
from data.nih import FINDINGS, SPLIT_FILES, TABLE_FILE
from data.progress import progress_bar
from data.storage import atomic_file, remove_folder

SPLITS = ("train", "val", "test")
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
NOTE = """\
About this folder: it was made from {name} by the course's data.medmnist.

* X-rays are numbered in the order of the file: chestmnist_<split>_<number>.png. NIH's own names are not in it.
* PATIENTS ARE NOT KNOWN. The file holds no patient numbers. "Patient ID" in the table is the X-ray's number, different for
  each X-ray. MedMNIST says that its split keeps the X-rays of a patient together; this folder cannot show it. What the
  course computes by patient (leakage, the bootstrap) is by X-ray here: intervals come out too narrow.
* Age, sex and view are not known either: "Patient Age" is empty, "Patient Gender" and "View Position" say "unknown".
* train and val of MedMNIST are in train_val_list.txt, test is in test_list.txt. These are not the lists of NIH, whose test
  set has 25,596 films.
* Labels are NIH's report-derived ones, as MedMNIST gives them ("pleural" is Pleural_Thickening). There are no boxes.
"""


def convert(npz: Path, folder: Path, *, progress: bool = True) -> int:
    """Write the X-rays and tables of a ChestMNIST file into a folder.

    Parameters
    ----------
    npz : Path
        ``chestmnist*.npz`` with ``train_images`` (films, size, size) uint8, ``train_labels`` (films, 14), and the same of
        val and test; deflated or stored.
    folder : Path
        X-rays that are there already are kept: an interrupted call resumes.
    progress : bool
        Show a bar.

    Returns
    -------
    int
        Number of X-rays.

    Raises
    ------
    DataError
        When the file is damaged (the zip's checksums are compared) or is not a ChestMNIST file.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    number = 0
    try:
        with (
            zipfile.ZipFile(npz) as archive,
            atomic_file(folder / TABLE_FILE) as path,
            path.open("w", newline="", encoding="utf-8") as text,
        ):
            text.write(HEADER + "\n")
            table = csv.writer(text, lineterminator="\n")
            labels = {split: _labels(archive, npz, split) for split in SPLITS}
            with progress_bar(
                total=sum(map(len, labels.values())), description=npz.name, unit="image", disable=not progress
            ) as bar:
                for split in SPLITS:
                    for place, film in enumerate(_films(archive, npz, split, len(labels[split]))):
                        number += 1
                        name = _name(split, place)
                        _write_film(folder / "images" / name, film)
                        found = [finding for finding, present in zip(FINDINGS, labels[split][place]) if present]
                        side = film.shape[0]
                        table.writerow(
                            [name, "|".join(found) or "No Finding", 0, number, "", "unknown", "unknown", side, side, "", ""]
                        )
                        bar.update()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        remove_folder(folder / "images")  # a zip's checksum comes after its content: no X-ray of this file can be trusted
        raise DataError(f"{npz}: damaged or cut off ({error}). Move it away and run again to download it anew.") from error
    for name, splits in (("train_val", ("train", "val")), ("test", ("test",))):
        with atomic_file(folder / SPLIT_FILES[name]) as path, path.open("w", encoding="utf-8", newline="\n") as text:
            for split in splits:
                text.writelines(f"{_name(split, place)}\n" for place in range(len(labels[split])))
    return number


def bytes_needed(films: int, size: int) -> int:
    """Disk that the X-rays take: an X-ray's PNG holds about as many bytes as pixels, in blocks of 4 KiB."""
    return films * -(-(size * size) // 4096) * 4096


def _name(split: str, place: int) -> str:
    """Name of an X-ray: its split and its place in it, from 0."""
    return f"chestmnist_{split}_{place:05d}.png"


def _write_film(path: Path, film: np.ndarray) -> None:
    if not path.exists():
        with atomic_file(path) as temporary:
            _, png = cv2.imencode(".png", film)
            temporary.write_bytes(png.tobytes())


def _open(archive: zipfile.ZipFile, npz: Path, name: str) -> tuple[BinaryIO, tuple[int, ...], np.dtype]:
    """Stream of an array's elements, its shape and type."""
    try:
        stream = archive.open(f"{name}.npy")
    except KeyError:
        raise DataError(f"{npz}: no array {name!r} in it. Use the ChestMNIST file as MedMNIST publishes it.") from None
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, dtype = read(stream)
    except (ValueError, struct.error) as error:
        raise DataError(f"{npz}: {name} is not an array ({error}). Use the ChestMNIST file as MedMNIST publishes it.") from error
    if by_column or dtype.hasobject:
        raise DataError(f"{npz}: {name} is stored in an unexpected order or type. Use the file as MedMNIST publishes it.")
    return stream, shape, dtype


def _labels(archive: zipfile.ZipFile, npz: Path, split: str) -> np.ndarray:
    """All labels of a split: 14 bytes or so an X-ray."""
    stream, shape, dtype = _open(archive, npz, f"{split}_labels")
    if len(shape) != 2 or shape[1] != len(FINDINGS):
        raise DataError(
            f"{npz}: {split}_labels has shape {shape}, but ChestMNIST has {len(FINDINGS)} findings. Is it another MedMNIST set?"
        )
    with stream:
        content = stream.read()
    if len(content) != shape[0] * shape[1] * dtype.itemsize:
        raise EOFError(f"{split}_labels has {len(content):,} bytes, but its header says shape {shape}")
    labels = np.frombuffer(content, dtype).reshape(shape)
    if not np.isin(labels, (0, 1)).all():
        raise DataError(
            f"{npz}: {split}_labels holds {np.setdiff1d(labels, (0, 1))[0]}, but a label is 0 or 1. Is it another MedMNIST set?"
        )
    return labels


def _films(archive: zipfile.ZipFile, npz: Path, split: str, count: int) -> Iterator[np.ndarray]:
    """The X-rays of a split, one after the other; at the end the zip's checksum of them has been compared."""
    stream, shape, dtype = _open(archive, npz, f"{split}_images")
    if len(shape) != 3 or shape[1] != shape[2] or dtype != np.uint8 or shape[0] != count:
        raise DataError(
            f"{npz}: {split}_images has shape {shape} and type {dtype}, but {count:,} square grey X-rays of uint8 were expected. "
            "Is it another MedMNIST set?"
        )
    with stream:
        for number in range(count):
            content = stream.read(shape[1] * shape[2])
            if len(content) < shape[1] * shape[2]:
                raise EOFError(f"{split}_images ends in X-ray {number:,} of {count:,}")
            yield np.frombuffer(content, np.uint8).reshape(shape[1:])
        if stream.read(1):
            raise DataError(f"{npz}: {split}_images is longer than its header says. Move it away and run again.")
