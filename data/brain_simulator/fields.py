"""Smooth random fields, blurs and look-ups on the grids of the brain simulator: what takes most of its time."""

import cv2
import numpy as np
from scipy import sparse


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
        whole = [np.floor(p) for p in places]
        part = [p - w for p, w in zip(places, whole, strict=True)]
        whole = [w.astype(np.int32) for w in whole]
        n = places.shape[1]
        index, weight = np.empty((n, 8), np.int32), np.empty((n, 8), np.float32)
        for corner in range(8):
            step = [corner >> 2 & 1, corner >> 1 & 1, corner & 1]
            at, share = np.zeros(n, np.int32), np.ones(n, np.float32)
            for axis in range(3):
                along = whole[axis] + step[axis]
                share *= part[axis] if step[axis] else 1 - part[axis]
                share *= (along >= 0) & (along < shape[axis])
                at *= shape[axis]
                at += np.clip(along, 0, shape[axis] - 1)
            index[:, corner], weight[:, corner] = at, share
        self._matrix = sparse.csr_array(
            (weight.ravel(), index.ravel(), np.arange(0, 8 * n + 1, 8, dtype=np.int32)), shape=(n, int(np.prod(shape)))
        )

    def look(self, volume: np.ndarray) -> np.ndarray:
        """Values (points,) of a volume."""
        return self._matrix @ volume.ravel()
