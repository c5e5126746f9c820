"""Lines and smooth curves, without the time that SciPy takes to be imported and to check what it is given."""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=64)
def ramp(start: float, stop: float, n: int) -> np.ndarray:
    """`numpy.linspace`, made once; not to be changed."""
    line = np.linspace(start, stop, n)
    line.setflags(write=False)
    return line


class Curve:
    """Monotone cubic interpolation (Fritsch and Butland 1984): bit for bit SciPy's `PchipInterpolator`.

    Parameters
    ----------
    x : (knots,) increasing, at least three
    y : (knots,) or (knots, columns)
    """

    def __init__(self, x: np.ndarray, y: np.ndarray):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        h = x[1:] - x[:-1]
        if y.ndim == 2:
            h = h[:, None]
        slope = (y[1:] - y[:-1]) / h
        before, after = slope[:-1], slope[1:]
        same_way = before * after > 0
        w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
        mean = (w1 / np.where(same_way, before, 1) + w2 / np.where(same_way, after, 1)) / (w1 + w2)
        tangent = np.zeros_like(y)
        tangent[1:-1] = np.where(same_way, 1 / np.where(same_way, mean, 1), 0)
        tangent[0] = self._end(h[0], h[1], slope[0], slope[1])
        tangent[-1] = self._end(h[-1], h[-2], slope[-1], slope[-2])
        bend = (tangent[:-1] + tangent[1:] - 2 * slope) / h
        self._inner, self._left = x[1:-1], x[:-1]
        self._coefficients = np.stack([bend / h, (slope - tangent[:-1]) / h - bend, tangent[:-1], y[:-1]])

    @staticmethod
    def _end(h0: np.ndarray, h1: np.ndarray, m0: np.ndarray, m1: np.ndarray) -> np.ndarray:
        """Tangent at an end: that of a parabola through three knots, kept monotone."""
        tangent = ((2 * h0 + h1) * m0 - h0 * m1) / (h0 + h1)
        steep = (np.sign(m0) != np.sign(m1)) & (np.abs(tangent) > 3 * np.abs(m0))
        return np.where(np.sign(tangent) != np.sign(m0), 0, np.where(steep, 3 * m0, tangent))

    def __call__(self, x: np.ndarray | float) -> np.ndarray:
        """Values at `x`, float64; beyond the ends the outermost cubics go on."""
        x = np.asarray(x, np.float64)
        piece = self._inner.searchsorted(x, "right")
        third, second, first, value = self._coefficients.take(piece, axis=1)
        s = x - self._left[piece]
        if self._coefficients.ndim == 3:
            s = s[..., None]
        power = s * s
        value = value + first * s + second * power
        return value + third * (power * s)
