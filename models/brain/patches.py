"""What feeds the training of the 3D U-Net: packed scans, patches with tumour, augmentation, batches prepared ahead."""

import functools
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data.decathlon import BrainCase, brain_box, standardize_scan
from data.errors import DataError
from data.storage import actionable_disk_errors, atomic_file

CLASSES = 3
CODES = np.arange(1, CLASSES + 1, dtype=np.uint8)
UNIT = np.float32(1e-3)  # of packed voxels. NumPy makes 32-bit floats of 16-bit integers ten times faster than of 16-bit floats


@dataclass(frozen=True)
class Packed:
    """A scan as training needs it, left on disk until a patch is cut from it.

    Attributes
    ----------
    name : str
    image : numpy.memmap of int16, shape (4, x, y, z)
        Cropped to the brain, standardised, in thousandths (`UNIT`), 0 outside; at most 32.767 standard deviations.
    label : numpy.memmap of uint8, shape (x, y, z)
    places : list of numpy.ndarray of int, shape (n, 3)
        Some voxels of each class that is there.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    places: list[np.ndarray]


def pack(case: BrainCase, folder: Path, least: int) -> Packed:
    """Read, check, crop and standardise a scan once; later runs find it in `folder`.

    Parameters
    ----------
    case : BrainCase
    folder : Path
    least : int
        The scan is padded with zeros to at least this many voxels a side.

    Raises
    ------
    DataError
        When the scan is broken, holds a value that is not finite, or the disk is full.
    """
    image_file, label_file = folder / f"{case.name}.image.int16.npy", folder / f"{case.name}.label.npy"
    if not (image_file.exists() and label_file.exists()):
        with actionable_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        image, label = case.image(), case.label()
        box = brain_box(image)
        image, label = standardize_scan(image[box]), label[box]
        padding = [(0, max(0, least - size)) for size in label.shape]
        channels = np.clip(np.rint(np.moveaxis(image, -1, 0) / UNIT), -32767, 32767).astype(np.int16)
        for file, voxels in ((image_file, np.pad(channels, [(0, 0), *padding])), (label_file, np.pad(label, padding))):
            with atomic_file(file) as temporary:
                np.save(temporary, voxels)
    image, label = np.load(image_file, mmap_mode="r"), np.load(label_file, mmap_mode="r")
    if min(label.shape) < least:
        raise DataError(f"{image_file}: packed for smaller patches. Delete the folder {folder} and start again.")
    places = []
    for number in range(1, CLASSES + 1):
        voxels = np.argwhere(label == number)
        if len(voxels):
            places.append(voxels[:: max(1, len(voxels) // 2000)])
    return Packed(f"{folder.name}/{case.name}", image, label, places)


def enhances_little(scan: Packed) -> bool:
    """Whether less than a fifth of the tumour core enhances, as in most low-grade tumours; False where there is no core."""
    non_enhancing, enhancing = np.bincount(scan.label.ravel(), minlength=CLASSES + 1)[2:]
    return bool(enhancing < 0.2 * (non_enhancing + enhancing))


def cut_patch(scan: Packed, side: int, foreground: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cut a cube; with probability `foreground` it holds a voxel of a class drawn with equal chances.

    Returns
    -------
    image : numpy.ndarray of int16, shape (4, side, side, side)
        In thousandths, see `Packed`.
    label : numpy.ndarray of uint8, shape (side, side, side)
        Both are views of the scan.
    """
    room = np.array(scan.label.shape) - side
    corner = rng.integers(0, room + 1)
    if scan.places and rng.random() < foreground:
        voxel = rng.choice(scan.places[rng.integers(len(scan.places))])
        corner = np.clip(voxel - rng.integers(side // 6, side - side // 6, 3), 0, room)
    here = tuple(slice(start, start + side) for start in corner)
    return np.asarray(scan.image)[:, *here], np.asarray(scan.label)[here]


def augment(
    image: np.ndarray, label: np.ndarray, rng: np.random.Generator, out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Change a patch as another patient, scanner or day would: pose and size, contrast, shading, sharpness, noise.

    Every pass over a patch that is saved here is time that the network has: each sequence is changed while it is in the
    processor's cache, in place, by OpenCV where that is faster than NumPy.

    Parameters
    ----------
    image : numpy.ndarray of int16, shape (4, x, y, z)
        In thousandths, see `Packed`.
    label : numpy.ndarray of uint8, shape (x, y, z)
    rng : numpy.random.Generator
    out : numpy.ndarray of float32, shape (x, y, z, 4)
        Where to put the image, such as its place in a batch; contiguous. Default: a new array.

    Returns
    -------
    image : numpy.ndarray of float32, shape (x, y, z, 4)
        Standardised; the outside of the brain stays 0.
    label : numpy.ndarray of uint8, shape (x, y, z)
        A new array.
    """
    if rng.random() < 0.35:
        image, label = _turn(image, label, rng)
    flips = tuple(axis for axis in range(3) if rng.random() < 0.5)
    inside = np.flip(functools.reduce(np.logical_or, image), flips).astype(np.float32, order="C")
    missing = rng.integers(len(image)) if rng.random() < 0.05 else -1  # a sequence that came out badly
    channels = []
    for number, whole_numbers in enumerate(image):  # each sequence is taken on its own, so each changes on its own
        gain = UNIT * np.float32(rng.uniform(0.75, 1.3))  # first, because all that follows up to the shift keeps to scale
        values = np.multiply(np.flip(whole_numbers, flips), gain, order="C")
        if rng.random() < 0.15:  # softer: along the first axis as one wide picture, then plane by plane
            sigma = rng.uniform(0.4, 1.1)
            cv2.GaussianBlur(_flat(values), (1, 7), 1, dst=_flat(values), sigmaY=sigma)
            for plane in values:
                cv2.GaussianBlur(plane, (7, 7), sigma, dst=plane)
        if rng.random() < 0.35:  # another contrast curve
            low, high = map(np.float32, cv2.minMaxLoc(_flat(values))[:2])
            height = high - low + np.float32(1e-6)
            values -= low
            values /= height
            cv2.pow(values, np.exp(rng.uniform(-0.45, 0.45)), dst=values)
            values *= height
            values += low
        if rng.random() < 0.3:  # shading by the coil
            values *= _shading(values.shape, rng.uniform(0.05, 0.2), rng)
        values += np.float32(rng.normal(0, 0.2))
        if rng.random() < 0.25:
            start = rng.integers(values.size + 1)
            noise = _noise(values.size)[start : start + values.size].reshape(_flat(values).shape)
            cv2.scaleAdd(noise, rng.uniform(0.02, 0.2), _flat(values), dst=_flat(values))
        values *= inside if number != missing else 0
        channels.append(_flat(values))
    if out is None:
        out = np.empty((*label.shape, len(image)), np.float32)
    cv2.merge(channels, dst=_flat(out))
    return out, np.array(np.flip(label, flips), order="C")


def _flat(voxels: np.ndarray) -> np.ndarray:
    """A contiguous patch as OpenCV takes it: its planes beside each other as one picture, without copying."""
    return voxels.reshape(len(voxels), -1, *voxels.shape[3:])


@functools.cache
def _noise(size: int) -> np.ndarray:
    """Twice as many normal numbers (float32) as a patch has voxels, to begin anywhere in: none are drawn for each patch."""
    return np.random.default_rng(0).standard_normal(2 * size, np.float32)


def _shading(shape: tuple[int, int, int], height: float, rng: np.random.Generator) -> np.ndarray:
    """A field around 1 that changes slowly over a patch: sum of one in the plane and one along the first axis, float32."""
    plane = cv2.resize(1 + rng.normal(0, height, (3, 3)).astype(np.float32), shape[2:0:-1], interpolation=cv2.INTER_CUBIC)
    depth = np.interp(np.linspace(0, 2, shape[0]), range(3), rng.normal(0, height, 3)).astype(np.float32)
    return plane[None] + depth[:, None, None]


def _turn(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """Turn by up to 30 degrees about one axis, and scale and stretch by up to 25 % in the plane across it.

    Returns the sequences as a list of float32 arrays, still in thousandths.

    Plane by plane with OpenCV: twenty times faster than in three dimensions, so that the network never waits.
    """
    axis = rng.integers(3)
    label = np.ascontiguousarray(np.moveaxis(label, axis, 0))
    height, width = label.shape[1:]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rng.uniform(-30, 30), rng.uniform(0.8, 1.25))
    matrix[0] *= rng.uniform(0.9, 1.1)
    # four sequences at once and as floats: OpenCV turns single ones, and integers, three times as slowly
    together = np.empty((*label.shape, len(image)), np.float32)
    for number, channel in enumerate(image):
        together[..., number] = np.moveaxis(channel, axis, 0)
    turned = np.empty_like(together)
    for before, after in zip(together, turned):
        cv2.warpAffine(before, matrix, (width, height), dst=after)
    channels = [channel.reshape(label.shape) for channel in cv2.split(_flat(turned))]
    label = np.stack([cv2.warpAffine(plane, matrix, (width, height), flags=cv2.INTER_NEAREST) for plane in label])
    return [np.moveaxis(channel, 0, axis) for channel in channels], np.moveaxis(label, 0, axis)


def make_batch(
    scans: Sequence[Packed], shares: np.ndarray, config, step: int, rows: Sequence[int]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The rows of a step's batch; the same whenever, and by whatever process, they are asked for.

    Parameters
    ----------
    scans : sequence of Packed
    shares : numpy.ndarray of float, shape (scans,)
        Probability of each scan to be drawn.
    config : models.brain.train.Config
        `seed`, `size`, `filters` and `foreground` are read.
    step : int
    rows : sequence of int
        Which rows of the global batch.

    Returns
    -------
    images : numpy.ndarray of float32, shape (rows, side, side, side, 4)
    truths : list of numpy.ndarray of uint8
        One-hot labels (rows, side / n, side / n, side / n, 3) for n = 1, 4, 8 … as `deeply_supervised` answers.
    """
    images = np.empty((len(rows), *(config.size,) * 3, len(scans[0].image)), np.float32)
    labels = np.empty(images.shape[:-1], np.uint8)
    for row, image, label in zip(rows, images, labels):
        rng = np.random.default_rng([config.seed, step, row])
        scan = scans[rng.choice(len(scans), p=shares)]
        label[:] = augment(*cut_patch(scan, config.size, config.foreground, rng), rng, out=image)[1]
    steps = [1, *(2 ** (level + 1) for level in range(1, len(config.filters) - 1))]
    coarse = [labels[:, n // 2 :: n, n // 2 :: n, n // 2 :: n] for n in steps]
    return images, [_one_hot(label) for label in coarse]


def _one_hot(labels: np.ndarray) -> np.ndarray:
    """uint8 labels (…) as uint8 (…, 3)."""
    flat = labels.reshape(1, -1)
    return cv2.merge([(flat == code).view(np.uint8) for code in CODES]).reshape(*labels.shape, CLASSES)


def give_way() -> None:
    """Let the network's threads go before this one, which then works while they wait for each other. Linux only.

    By ten levels and not more: even where other programs want all cores, it then has about a tenth of one, by the kernel's weights.
    """
    if sys.platform == "linux":  # where a thread has a priority of its own
        os.nice(10)


def batches(scans, shares, config, start: int, rows: Sequence[int]) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Batches of the steps from `start` on (see `make_batch`), prepared ahead by threads while the network computes."""
    with ThreadPoolExecutor(config.workers, initializer=give_way) as pool:

        def submit(step: int):
            return pool.submit(make_batch, scans, shares, config, step, rows)

        last = config.total_steps
        ahead = [submit(step) for step in range(start, min(start + 2 * config.workers, last))]
        for step in range(start + len(ahead), last + len(ahead)):
            batch = ahead.pop(0).result()
            if step < last:
                ahead.append(submit(step))
            yield batch
