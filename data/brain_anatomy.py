"""The healthy brain of one simulated patient: the MNI152 template, deformed, as fractions of three tissues.

Everything lives on the grid of the BraTS atlas space (240 x 240 x 155 voxels of 1 mm, first axis to the patient's right,
second to the front, third to the top), cropped to the `Grid` in which a brain can lie.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

SHAPE = (240, 240, 155)  # voxels of the Decathlon's Task01
CROP = ((42, 199), (14, 209), (0, 152))  # mm: a box around every brain of that space, with room for larger ones

# Voxel of the grid -> voxel of the MNI152 template (1 mm). A rigid turn and three scales, fitted once so that the
# template matches the mean T1w scan of the SRI24 space in which BraTS is distributed (correlation 0.99).
CENTRE = np.array([120.0, 110.0, 77.0])
TEMPLATE_CENTRE = np.array([97.6, 119.2, 82.2])
TEMPLATE_SCALE = np.array([1.070, 1.052, 1.141])
TEMPLATE_PITCH = -0.2315  # radians about the left-right axis


@dataclass(frozen=True)
class Grid:
    """Cropped grid at `spacing` mm. ``crop`` are slices into the full grid of `full_shape` voxels."""

    spacing: int = 1

    @property
    def full_shape(self) -> tuple[int, ...]:
        return tuple(n // self.spacing for n in SHAPE)

    @property
    def crop(self) -> tuple[slice, ...]:
        return tuple(slice(a // self.spacing, b // self.spacing) for a, b in CROP)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(s.stop - s.start for s in self.crop)

    def axes(self) -> list[np.ndarray]:
        """Position of the voxel centres along each axis in mm (= voxels of the 1 mm grid), float32."""
        s = self.spacing
        return [np.arange(c.start, c.stop, dtype=np.float32) * s + (s - 1) / 2 for c in self.crop]


def spline_weights(positions: np.ndarray, knot_distance: float) -> np.ndarray:
    """Weights (positions, knots) of cubic B-splines on knots `knot_distance` mm apart, each row of unit length.

    With rows of unit length a field made from standard normal knots has standard deviation 1 everywhere.
    """
    x = (positions - positions[0]) / knot_distance
    knots = np.arange(int(np.ceil(x[-1])) + 4) - 1.5
    d = np.abs(x[:, None] - knots[None, :])
    w = np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.where(d < 2, (2 - d) ** 3 / 6, 0.0))
    return (w / np.linalg.norm(w, axis=1, keepdims=True)).astype(np.float32)


def smooth_noise(rng: np.random.Generator, axes: list[np.ndarray], knot_distance: float) -> np.ndarray:
    """Gaussian noise of mean 0 and standard deviation 1 that varies over about `knot_distance` mm; float32."""
    weights = [spline_weights(a, knot_distance) for a in axes]
    field = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    for w in weights:  # contract the first axis, append the fine one: after three turns the order is right again
        field = np.tensordot(field, w, axes=(0, 1))
    return np.ascontiguousarray(field)


@lru_cache(maxsize=1)
def template() -> dict[str, np.ndarray]:
    """Maps on the MNI152 grid (197, 233, 189), float32: ``t1`` (sharpened T1w), ``mask``, ``ventricle`` and ``vein``.

    Source: ICBM 152 nonlinear symmetric template (Fonov et al., NeuroImage 2011), as shipped with nilearn.
    """
    from nilearn import datasets  # slow to import: only workers need it

    def load(function) -> np.ndarray:
        return np.asarray(function(resolution=1).dataobj, dtype=np.float32)

    t1, inside = load(datasets.load_mni152_template), load(datasets.load_mni152_brain_mask)
    tissue = load(datasets.load_mni152_gm_template) + load(datasets.load_mni152_wm_template)
    # The template is a mean of 152 people, so its sulci are washed out: unsharp masking brings them back.
    sharp = t1 + 1.4 * (t1 - ndimage.gaussian_filter(t1, 1.6)) + 0.25 * (t1 - ndimage.gaussian_filter(t1, 4.0))
    deep = ndimage.binary_erosion(inside > 0, iterations=18)
    ventricle = ndimage.gaussian_filter(((tissue < 0.6) & deep).astype(np.float32), 0.7)
    # Superior sagittal sinus and torcula: the midline rim of the mask, top and back.
    x, y, z = np.ogrid[: t1.shape[0], : t1.shape[1], : t1.shape[2]]
    rim = (inside > 0) & ~ndimage.binary_erosion(inside > 0, iterations=4)
    vein = rim & (np.abs(x - 98) < 4) & ((z > 105) | (y < 60)) & (z > 50)
    return {
        "t1": sharp,
        "mask": ndimage.gaussian_filter(inside, 1.0),
        "ventricle": ventricle,
        "vein": ndimage.gaussian_filter(vein.astype(np.float32), 0.8),
    }


@dataclass
class Brain:
    """Tissue of one patient on a `Grid`, all arrays float32 of ``grid.shape``.

    ``wm``, ``gm`` and ``csf`` are fractions that sum to 1 inside ``mask`` (bool); ``ventricle``, ``vein`` and
    ``rim`` (the outermost millimetres, where dura may remain) are in [0, 1].
    """

    grid: Grid
    mask: np.ndarray
    wm: np.ndarray
    gm: np.ndarray
    csf: np.ndarray
    ventricle: np.ndarray
    vein: np.ndarray
    rim: np.ndarray


def displacement(rng: np.random.Generator, grid: Grid) -> list[np.ndarray]:
    """How far (mm, along each axis) a patient's anatomy lies from the template's: coarse to fine, smooth and invertible.

    Amplitudes stay below a quarter of the knot distance, so the map does not fold.
    """
    axes = grid.axes()
    parts = []
    for _ in range(3):
        field = rng.uniform(2.0, 3.6) * smooth_noise(rng, axes, 50)
        field += rng.uniform(1.6, 2.6) * smooth_noise(rng, axes, 22)
        field += rng.uniform(0.7, 1.2) * smooth_noise(rng, axes, 11)
        parts.append(field)
    return parts


def grow_brain(rng: np.random.Generator, grid: Grid, push: list[np.ndarray] | None = None) -> Brain:
    """Draw a patient's brain.

    Parameters
    ----------
    rng : numpy.random.Generator
    grid : Grid
    push : list of three float32 arrays of ``grid.shape``, optional
        Mass effect of a tumour: displacement of the tissue in mm along each axis (see `data.brain_tumour`).

    Returns
    -------
    Brain
    """
    source = template()
    warp = displacement(rng, grid)
    size = 1 + rng.normal(0, 0.012, 3)
    pitch = TEMPLATE_PITCH + rng.normal(0, 0.02)
    yaw, roll = rng.normal(0, 0.015, 2)
    mirrored = rng.random() < 0.5
    atrophy = rng.uniform(0.0, 1.0)

    axes = np.meshgrid(*grid.axes(), indexing="ij", sparse=True)
    offset = [a - c - w for a, c, w in zip(axes, CENTRE, warp, strict=True)]
    if push is not None:
        offset = [o - p for o, p in zip(offset, push, strict=True)]
    if mirrored:
        offset[0] = -offset[0]
    offset = [o * np.float32(f / s) for o, f, s in zip(offset, TEMPLATE_SCALE, size, strict=True)]
    turn = _rotation(pitch, yaw, roll)
    points = np.stack(
        [sum(np.float32(turn[i, j]) * offset[j] for j in range(3)) + np.float32(TEMPLATE_CENTRE[i]) for i in range(3)]
    )
    # Ventricles widen with age: the middle of the brain is sampled nearer to its centre.
    wide = 1 - 0.22 * atrophy * np.exp(
        -((points[0] - 98) ** 2 / 18**2 + (points[1] - 118) ** 2 / 50**2 + (points[2] - 84) ** 2 / 26**2)
    )
    points[0] = 98 + (points[0] - 98) * wide
    points[2] = 84 + (points[2] - 84) * wide
    t1, mask, ventricle, vein = (
        ndimage.map_coordinates(source[name], points, order=1, output=np.float32)
        for name in ("t1", "mask", "ventricle", "vein")
    )
    # Skull stripping cuts at a depth that differs from scan to scan and place to place; some scans end above the neck.
    depth = mask - rng.uniform(0.45, 0.75) - 0.06 * smooth_noise(rng, grid.axes(), 5)
    mask = _largest_part((depth > 0) & (axes[2] > rng.choice([-1, rng.uniform(0, 14)])))
    rim = np.clip(1 - depth / 0.3, 0, 1) * mask
    grey_level = 0.60 + 0.07 * atrophy  # older brains: wider sulci, thinner cortex
    csf = np.clip((grey_level - t1) / 0.30, 0, 1)
    csf = np.maximum(csf, np.clip(1.3 * ventricle - 0.15, 0, 1))
    wm = np.clip((t1 - 0.72) / 0.14, 0, 1) * (1 - csf)
    return Brain(grid, mask, wm, 1 - csf - wm, csf, ventricle, vein, rim)


def _rotation(pitch: float, yaw: float, roll: float) -> np.ndarray:
    c, s = np.cos(pitch), np.sin(pitch)
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    c, s = np.cos(yaw), np.sin(yaw)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    c, s = np.cos(roll), np.sin(roll)
    about_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return about_x @ about_y @ about_z


def _largest_part(mask: np.ndarray) -> np.ndarray:
    labels, n = ndimage.label(mask)
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1 if n > 1 else mask
