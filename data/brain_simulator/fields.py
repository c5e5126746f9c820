"""Smooth random fields, blurs and look-ups on the grids of the brain simulator: what takes most of its time."""

from functools import lru_cache

import cv2
import numpy as np
from scipy import sparse


@lru_cache(maxsize=256)
def spline_weights(length: int, step: float, knot_distance: float) -> np.ndarray:
    """Weights (length, knots) of cubic B-splines on knots `knot_distance` mm apart every `step` mm; rows of unit length.

    With rows of unit length a field made from standard normal knots has standard deviation 1 everywhere.
    """
    x = np.arange(length, dtype=np.float32) * np.float32(step) / knot_distance
    knots = np.arange(int(np.ceil(x[-1])) + 4) - 1.5
    d = np.abs(x[:, None] - knots[None, :])
    w = np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.where(d < 2, (2 - d) ** 3 / 6, 0.0))
    return (w / np.linalg.norm(w, axis=1, keepdims=True)).astype(np.float32)


def smooth_noise(rng: np.random.Generator, axes: list[np.ndarray], knot_distance: float) -> np.ndarray:
    """Gaussian noise of mean 0 and standard deviation 1 that varies over about `knot_distance` mm; float32."""
    weights = [spline_weights(len(a), float(a[1] - a[0]), float(knot_distance)) for a in axes]
    field = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    for w in weights:  # contract the first axis, append the fine one: after three turns the order is right again
        field = np.tensordot(field, w, axes=(0, 1))
    return np.ascontiguousarray(field)


def gaussian(volume: np.ndarray, sigma: float) -> np.ndarray:
    """What `scipy.ndimage.gaussian_filter` gives for a float32 volume, several times faster: OpenCV's row and column filters."""
    if sigma < 1e-3:
        return volume
    volume = np.ascontiguousarray(volume, np.float32)
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    one = np.ones(1, np.float32)
    nx, ny, nz = volume.shape
    out = cv2.sepFilter2D(volume.reshape(nx, ny * nz), -1, one, kernel, borderType=cv2.BORDER_REFLECT).reshape(volume.shape)
    for layer in out:
        layer[...] = cv2.sepFilter2D(layer, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT)
    return out


class Points:
    """Places in a volume at which several maps are looked up by trilinear interpolation; 0 outside.

    Parameters
    ----------
    places : ndarray, float32, (3, points)
        In voxels of the volume.
    shape : three int
        Of the volume.
    """

    def __init__(self, places: np.ndarray, shape: tuple[int, ...]):
        near = [self._neighbours(p, n) for p, n in zip(places, shape, strict=True)]
        index, weight = np.empty((places.shape[1], 8), np.int32), np.empty((places.shape[1], 8), np.float32)
        for corner in range(8):
            if corner % 2 == 0:
                (row, row_share), (column, column_share) = near[0][corner >> 2], near[1][corner >> 1 & 1]
                row, row_share = (row * shape[1] + column) * shape[2], row_share * column_share
            layer, layer_share = near[2][corner & 1]
            np.add(row, layer, out=index[:, corner])
            np.multiply(row_share, layer_share, out=weight[:, corner])
        self._set(index, weight, int(np.prod(shape)))

    def _set(self, index: np.ndarray, weight: np.ndarray, voxels: int) -> None:
        n = len(index)
        ends = np.arange(0, 8 * n + 1, 8, dtype=np.int32)
        self._matrix = sparse.csr_array((weight.ravel(), index.ravel(), ends), shape=(n, voxels))

    @staticmethod
    def _neighbours(place: np.ndarray, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """The two voxels around each place along one axis of `n`, and their shares: 0 outside."""
        whole = np.floor(place)
        part = place - whole
        whole = whole.astype(np.int32)
        both = []
        for along, share in ((whole, 1 - part), (whole + 1, part)):
            share *= (along >= 0) & (along < n)
            both.append((np.clip(along, 0, n - 1), share))
        return both

    def only(self, kept: np.ndarray) -> "Points":
        """Those of the places for which `kept` is true."""
        chosen = object.__new__(Points)
        index, weight = (whole.reshape(-1, 8)[kept] for whole in (self._matrix.indices, self._matrix.data))
        chosen._set(index, weight, self._matrix.shape[1])
        return chosen

    def look(self, volume: np.ndarray) -> np.ndarray:
        """Values (points,) of a volume."""
        return self._matrix @ volume.ravel()


def around(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    """The smallest box that holds all of `mask` (bool) and `margin` voxels around it, as slices; empty for an empty mask."""
    box = []
    for axis in range(mask.ndim):
        seen = np.flatnonzero(mask.any(tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(seen[0] - margin, 0), seen[-1] + 1 + margin) if len(seen) else slice(0, 0))
    return tuple(box)
