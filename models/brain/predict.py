"""From a scan to a label map: sliding window, most probable class, postprocessing.

    python -m models.brain.predict FOLDER        # a mask beside each scan of the folder, which needs no expert's mask

This is teaching material and not a medical device: no decision about a patient may rest on it.
"""

import argparse
import itertools
import math
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from scipy import ndimage

from data import decathlon
from data.decathlon import LABELS, BrainCase, brain_box, read_brain
from data.nifti import load
from data.progress import progress_bar
from data.storage import atomic_file
from models.brain import network_card
from models.brain.network import BRAIN_WEIGHTS, unet3d
from models.metrics import volume_ml
from models.terminal import one_sentence
from models.weights import load_weights

MIRROR_HELP = "axes to show each scan mirrored along, too; each doubles the time; default: those of models/brain/card.json"
NOTICE = "Not a medical device: no decision about a patient may rest on these masks."
SUFFIX = "_predicted.nii.gz"  # of the masks that are written


def gaussian_weights(tile: tuple[int, int, int], width: float = 0.125) -> np.ndarray:
    """Weight of each voxel of a tile: 1 in the middle, small at the border, where the network sees half the surroundings.

    Parameters
    ----------
    tile : tuple of int
    width : float
        Standard deviation as a share of the tile's side (nnU-Net's 1/8).

    Returns
    -------
    numpy.ndarray of float32, shape `tile`, never 0
    """
    axes = [np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (width * size)) ** 2) for size in tile]
    weights = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    return np.maximum(weights / weights.max(), 1e-3).astype(np.float32)


def tile_corners(shape: tuple[int, int, int], tile: tuple[int, int, int], overlap: float) -> list[tuple[int, int, int]]:
    """Lowest corners of equally spaced tiles that cover a box and share at least `overlap` with their neighbours."""
    axes = []
    for size, side in zip(shape, tile):
        steps = math.ceil(max(size - side, 0) / max(side * (1 - overlap), 1))
        axes.append(np.linspace(0, max(size - side, 0), steps + 1).round().astype(int).tolist())
    return list(itertools.product(*axes))


def predict_scan(
    model,
    image: np.ndarray,
    tile: tuple[int, int, int] = (96, 96, 96),
    overlap: float = 0.5,
    gaussian: bool = True,
    progress: bool = False,
    mirror: tuple[int, ...] = (),
) -> np.ndarray:
    """Segment a whole scan by a sliding window over the box of the brain.

    Parameters
    ----------
    model : keras.Model
        Such as `unet3d`'s.
    image : numpy.ndarray of float32, shape (x, y, z, channels)
        Standardised; 0 outside the brain.
    tile : tuple of int
        Box the network is given at a time; what its levels divide. Larger is faster per voxel and needs more memory.
    overlap : float
        Least share of a tile's side that neighbours have in common.
    gaussian : bool
        Whether the middle of a tile counts more than its border (nnU-Net), or all voxels the same.
    progress : bool
    mirror : tuple of int
        Axes of space along which each tile is also shown mirrored, alone and together; the answers are averaged. Each
        axis doubles the time.

    Returns
    -------
    numpy.ndarray of float32, shape (x, y, z, classes)
        Probabilities; 0 outside the brain.
    """
    box = brain_box(image)
    brain = image[box].astype(np.float32)
    inside = brain.any(axis=-1, keepdims=True)
    size = brain.shape[:3]
    brain = np.pad(brain, [*((0, max(side - length, 0)) for side, length in zip(tile, size)), (0, 0)])
    weights = (gaussian_weights(tile) if gaussian else np.ones(tile, np.float32))[..., None]
    total = np.zeros((*brain.shape[:3], model.output_shape[-1]), np.float32)
    weight = np.zeros((*brain.shape[:3], 1), np.float32)
    flips = [axes for number in range(len(mirror) + 1) for axes in itertools.combinations(mirror, number)]
    for corner in progress_bar(tile_corners(size, tile, overlap), description="tiles", unit="tile", disable=not progress):
        here = tuple(slice(start, start + side) for start, side in zip(corner, tile))
        for axes in flips:
            answer = np.asarray(model.predict_on_batch(np.flip(brain[here], axes)[None]))[0]
            total[here] += weights * np.flip(answer, axes) / len(flips)
        weight[here] += weights
    found = np.zeros((*image.shape[:3], total.shape[-1]), np.float32)
    found[box] = (total / np.maximum(weight, 1e-6))[tuple(map(slice, size))] * inside
    return found


def label_map(probabilities: np.ndarray) -> np.ndarray:
    """Most probable class of each voxel (uint8; 0 is background) of probabilities without background (…, classes)."""
    background = 1 - probabilities.sum(axis=-1)
    likeliest = probabilities.argmax(axis=-1)
    highest = np.take_along_axis(probabilities, likeliest[..., None], -1)[..., 0]
    return np.where(highest > background, likeliest + 1, 0).astype(np.uint8)


def clean(
    label: np.ndarray,
    one_piece: bool = True,
    spacing: tuple[float, float, float] = (1, 1, 1),
    least_enhancing_ml: float | None = None,
) -> np.ndarray:
    """Take out of a label map what is hardly ever a tumour.

    Parameters
    ----------
    label : numpy.ndarray of uint8, shape (x, y, z)
    one_piece : bool
        Whether to keep only the largest connected piece of the whole tumour: gliomas mostly grow in one piece.
    spacing : tuple of float
        Size of a voxel in mm.
    least_enhancing_ml : float, optional
        Less enhancing tumour than this becomes non-enhancing tumour. Default: what was chosen for the shipped weights.

    Returns
    -------
    numpy.ndarray of uint8, shape (x, y, z)
    """
    least = network_card().least_enhancing_ml if least_enhancing_ml is None else least_enhancing_ml
    label = label.copy()
    if one_piece:
        pieces, count = ndimage.label(label > 0)
        if count > 1:
            label[pieces != np.bincount(pieces.ravel())[1:].argmax() + 1] = 0
    if volume_ml(label == 3, spacing) < least:
        label[label == 3] = 2
    return label


def segment(
    model, case: BrainCase, mirror: tuple[int, ...] | None = None, one_piece: bool = True, least_enhancing_ml: float | None = None
) -> np.ndarray:
    """Label map (x, y, z) of a patient: standardise, slide the window, take the likeliest class, clean.

    `mirror` is that of `predict_scan`, the rest that of `clean`; None is what was chosen for the shipped weights.
    """
    mirror = network_card().mirror if mirror is None else mirror
    label = label_map(predict_scan(model, decathlon.standardize_scan(case.image()), mirror=mirror))
    return clean(label, one_piece, case.spacing, least_enhancing_ml)


def write_mask(case: BrainCase, label: np.ndarray) -> Path:
    """Write a label map as NIfTI beside the scan (of the Decathlon: beside its folder), on the scan's own grid; returns the file.

    Parameters
    ----------
    case : BrainCase
    label : numpy.ndarray of uint8, shape (x, y, z)
        Axes to the patient's right, front and top, as `BrainCase.image` has them; values are indices of `LABELS`.
    """
    scan = load(case.image_files[0])
    as_stored = ornt_transform(io_orientation(np.eye(4)), io_orientation(scan.affine))
    mask = nib.Nifti1Image(np.ascontiguousarray(apply_orientation(label, as_stored), np.uint8), scan.affine)
    mask.header.set_xyzt_units(*scan.header.get_xyzt_units())
    file = case.image_files[0].with_name(case.name + SUFFIX)
    if len(case.image_files) == 1:  # the Decathlon's folder of images may hold nothing else
        file = file.parent.with_name("predicted") / file.name
        file.parent.mkdir(exist_ok=True)
    with atomic_file(file) as temporary:
        nib.save(mask, temporary)
    return file


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.brain.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="scans in the BraTS or the Decathlon format, with or without masks")
    parser.add_argument("--mirror", type=int, nargs="*", choices=(0, 1, 2), help=MIRROR_HELP)
    given = parser.parse_args(arguments)
    with one_sentence():
        cohort = read_brain(given.folder, masks=False)
        model = unet3d()
        load_weights(model, BRAIN_WEIGHTS)
        for case in cohort:
            label = segment(model, case, given.mirror)
            volumes = ", ".join(f"{name} {volume_ml(label == n, case.spacing):.1f} ml" for n, name in enumerate(LABELS) if n)
            print(f"{write_mask(case, label)}: {volumes}")
    print(f"In the masks: {', '.join(f'{number} {name}' for number, name in enumerate(LABELS))}.\n{NOTICE}")


if __name__ == "__main__":
    main()
