"""Gyri and sulci of one simulated patient: drawn anew for each, not copied from the template.

The template is a mean of 152 people, so it knows the large fissures, and next to nothing about smaller sulci. Sulci are
therefore drawn as sheets that stand on the brain's surface: a random function is looked up at the *foot* of each voxel (its
nearest point of the surface), so it hardly changes with depth, and where it is zero there is a sulcus. Zero sets of smooth
Gaussian noise form a labyrinth of bands of similar width, as gyri do. Cortex is what lies within its thickness of
a sulcus or of the surface; white matter is the rest.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from data.brain_simulator.fields import around, gaussian

NOISE_STEP = 2  # mm between the samples of the random functions on the surface
FOLIA = 4.5  # mm between the fissures of the cerebellum


@dataclass(frozen=True)
class Surface:
    """Where the surface of the brain is, on the template's grid (mm, float32)."""

    depth: np.ndarray  # distance to the surface
    foot: np.ndarray  # (3, ...) from a voxel to its nearest point of the surface
    small_brain: np.ndarray  # 1 in the cerebellum, 0 in the cerebrum, between them at the border
    stem: np.ndarray  # 1 in the brain stem


def template_surface(mask: np.ndarray, tissue: np.ndarray, ventricle: np.ndarray, origin: tuple[int, int, int]) -> Surface:
    """Depth below the surface in a template whose voxel `origin` has the MNI coordinates 0, 0, 0.

    The surface is the border of the brain and the walls of the fissures that all people share: between the hemispheres, at
    the insula, above the cerebellum. The last one and the falx are put in by hand as planes (mm of MNI space).
    """
    i, j, k = np.ogrid[: mask.shape[0], : mask.shape[1], : mask.shape[2]]
    x, y, z = np.abs(i - origin[0]), j - origin[1], k - origin[2]
    tentorium = -3 - 0.5 * x - 0.3 * np.maximum(0, -45 - y)
    small_brain = (y < -36) & (z < tentorium)
    stem = (x < 18) & (y > -45) & (y < -6) & (z < -12)
    beyond_callosum = ((y + 6) / 44) ** 2 + (z / 33) ** 2 > 1
    falx = (x < 1) & beyond_callosum & (z > np.where(y > 0, -26, -4)) & ~small_brain
    inside = mask & (tissue > 0.5) | ventricle
    depth = np.zeros(mask.shape, np.float32)
    foot = np.zeros((3, *mask.shape), np.float32)
    for part in (inside & ~small_brain & ~falx, inside & small_brain):
        box = around(part, 1)  # only there: the transform of the whole grid takes thrice as long
        nearest = ndimage.distance_transform_edt(part[box], return_distances=False, return_indices=True)
        for axis, n in enumerate(part[box].shape):  # 0 outside the part: each voxel there is its own nearest
            nearest[axis] -= np.arange(n, dtype=np.int32).reshape([n if a == axis else 1 for a in range(3)])
            foot[axis][box] += nearest[axis]
        depth[box] += np.sqrt(np.square(nearest, out=nearest).sum(0, dtype=np.int32).astype(np.float32))
    for axis in range(3):
        foot[axis] = gaussian(foot[axis], 1.5)
    return Surface(gaussian(depth, 0.6), foot, gaussian(small_brain, 1.0), gaussian(stem, 1.0))


def steepness(field: np.ndarray, spacing: float) -> np.ndarray:
    """Length of the gradient of `field` per mm, kept above 0.3 of its mean in the brain so that it can be divided by."""
    total = np.zeros_like(field)
    for axis in range(3):  # central differences, at the border one-sided ones
        along, square = np.moveaxis(field, axis, 0), np.moveaxis(total, axis, 0)
        step = along[2:] - along[:-2]
        step *= np.float32(0.5 / spacing)
        square[1:-1] += np.square(step, out=step)
        for edge, next_to_it in ((0, 1), (-1, -2)):
            square[edge] += ((along[edge] - along[next_to_it]) / np.float32(spacing)) ** 2
    length = np.sqrt(total, out=total)
    least = 0.3 * float(length.sum(dtype=np.float64)) / np.count_nonzero(length)
    return np.maximum(length, np.float32(least), out=length)


def sheet_distance(field: np.ndarray, spacing: float) -> np.ndarray:
    """Distance (mm) to the nearest zero of `field`, to first order: ``|f| / |grad f|``."""
    return np.abs(field) / steepness(field, spacing)


def cortex(distance: np.ndarray, gap: np.ndarray | float, thickness: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Fractions of fluid and white matter at a `distance` (mm) from the nearest sulcus or surface.

    Fluid fills the first `gap` mm, cortex the next `thickness`; borders are as blurred as a voxel of 1 mm makes them.
    """
    return np.clip(gap - distance + 0.5, 0, 1), np.clip(distance - gap - thickness + 0.5, 0, 1)


def folia_angle(points: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Arc (mm at the surface of the cerebellum, whose MNI zero is at `origin`) about the left-right axis through the fastigium."""
    return 32 * np.arctan2(points[2] - origin[2] + 32, points[1] - origin[1] + 44)
