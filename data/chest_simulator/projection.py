"""Physics of the simulated chest film: path lengths through simple bodies, attenuation, scatter, noise, processing.

Everything is in millimetres. x runs to the right of the film (the patient's left), y downwards, z from the patient's
back to the front; rays are followed along z and the divergence of the beam is a magnification that depends on z.

Sources
-------
Mass attenuation coefficients at 60 keV, about the effective energy of a 120 kVp chest beam behind a patient, and the
densities: Hubbell and Seltzer, NIST Standard Reference Database 126 (ICRU-44 tissues).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

# Linear attenuation, 1/mm: mass attenuation (cm2/g) x density (g/cm3) / 10.
MU_SOFT = 0.2048 * 1.06 / 10
MU_FAT = 0.1974 * 0.95 / 10
MU_LUNG = 0.2053 * 0.29 / 10  # ICRU-44 lung tissue; 0.26 g/cm3 and the vessels too small to draw
MU_BONE = 0.3148 * 1.92 / 10  # cortical
MU_MARROW = 0.2400 * 1.18 / 10  # spongy bone with its marrow
MU_AIR = 0.1875 * 0.0012 / 10


@dataclass(frozen=True)
class Canvas:
    """A square grid of detector pixels and the beam that reaches it.

    Attributes
    ----------
    n : int
        Pixels per side.
    pixel : float
        Pixel spacing on the detector, mm.
    left, top : float
        Film coordinates of the left upper corner, mm.
    distance : float
        Source to detector, mm.
    plate : float
        z of the detector, mm (in front of the patient on PA, behind on AP).
    beam_y : float
        y at which the beam is perpendicular.
    rotation : float
        Rotation of the patient about the vertical axis, radians.
    """

    n: int
    pixel: float
    left: float
    top: float
    distance: float
    plate: float
    beam_y: float
    rotation: float

    def magnification(self, z: float | np.ndarray) -> float | np.ndarray:
        """Size on the film over size in the patient, at depth z."""
        return self.distance / (self.distance - np.abs(self.plate - z))

    def at(self, z: float) -> tuple[np.ndarray, np.ndarray]:
        """Patient coordinates x (1, n) and y (n, 1), float32, of the pixels' rays in the plane at depth z."""
        scale = self.magnification(z)
        steps = (np.arange(self.n, dtype=np.float32) + 0.5) * np.float32(self.pixel)
        x = (self.left + steps) / scale - z * math.sin(self.rotation)
        y = (self.top + steps - self.beam_y) / scale + self.beam_y
        return x[None, :].astype(np.float32), y[:, None].astype(np.float32)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates (column, row) of points (..., 3) in the patient."""
        x, y, z = np.moveaxis(points, -1, 0)
        return self.project_planes(x, y, z, self.magnification(z))

    def project_planes(self, x: np.ndarray, y: np.ndarray, z: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same for points whose coordinates are three arrays; `scale` is their magnification."""
        turned = x * math.cos(self.rotation) + z * math.sin(self.rotation)
        column = (turned * scale - self.left) / self.pixel - 0.5
        row = ((y - self.beam_y) * scale + self.beam_y - self.top) / self.pixel - 0.5
        return column, row


def ellipsoid(
    x: np.ndarray,
    y: np.ndarray,
    centre: tuple[float, float],
    axes: tuple[float, float, float],
    angle: float = 0.0,
    onto: np.ndarray | None = None,
    factor: float = 1.0,
) -> np.ndarray:
    """Chord length along z through an ellipsoid, mm: 2 c sqrt(1 - (x/a)^2 - (y/b)^2).

    Parameters
    ----------
    x, y : ndarray
        Coordinates of the rays, mm, broadcastable.
    centre : (x, y)
    axes : (a, b, c)
        Half axes; c along the ray.
    angle : float
        Turn of the axes a, b in the film plane, radians.
    onto, factor
        The chord length times `factor` is added to the map `onto`, or to a new one.
    """
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    if x.size > 1 and x.size * y.size == max(x.size, y.size) ** 2 and x.ndim == y.ndim == 2 and len(x) == y.shape[1] == 1:
        # A regular grid: look only at the rows and columns that the ellipsoid can reach.
        wide, high = math.hypot(axes[0] * cosine, axes[1] * sine), math.hypot(axes[0] * sine, axes[1] * cosine)
        columns = slice(*x[0].searchsorted((centre[0] - wide, centre[0] + wide)).tolist())
        rows = slice(*y[:, 0].searchsorted((centre[1] - high, centre[1] + high)).tolist())
        onto = np.zeros((len(y), x.shape[1]), np.float32) if onto is None else onto
        if columns.start < columns.stop and rows.start < rows.stop:
            onto[rows, columns] += _chord(x[:, columns], y[rows], centre, axes, cosine, sine) * np.float32(factor)
        return onto
    chord = _chord(x, y, centre, axes, cosine, sine) * np.float32(factor)
    return chord if onto is None else np.add(onto, chord, out=onto)


def _chord(x, y, centre, axes, cosine, sine) -> np.ndarray:
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    q = ((dx * cosine + dy * sine) / np.float32(axes[0])) ** 2 + ((dy * cosine - dx * sine) / np.float32(axes[1])) ** 2
    return np.float32(2 * axes[2]) * np.sqrt(np.maximum(1 - q, 0))


def loft(x: np.ndarray, left: np.ndarray, right: np.ndarray, half_depth: np.ndarray, power: float = 2.0) -> np.ndarray:
    """Half chord along z through a stack of (super)elliptic cross-sections, one per row.

    Parameters
    ----------
    x : (1, n) coordinates of the rays, mm.
    left, right, half_depth : (n, 1) extent of the cross-section at each height, mm.
    power : float
        2 is an ellipse, more is squarer.
    """
    half = np.maximum((right - left) / 2, np.float32(1e-3))
    q = np.abs((x - (left + right) / 2) / half)
    if power == 2.0 or power == 4.0:  # much faster than a general power
        q *= q
        rest = np.sqrt(np.maximum(1 - (q if power == 2.0 else q * q), 0))
        return half_depth * (rest if power == 2.0 else np.sqrt(rest))
    return half_depth * np.maximum(1 - q ** np.float32(power), 0) ** np.float32(1 / power)


def overlap(*intervals: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Length that intervals (start, end) have in common."""
    start = intervals[0][0]
    end = intervals[0][1]
    for other in intervals[1:]:
        start, end = np.maximum(start, other[0]), np.minimum(end, other[1])
    return np.maximum(end - start, 0)


@lru_cache(maxsize=4096)
def _disc(radius_x: float, radius_y: float) -> np.ndarray:
    half_x, half_y, fine = int(np.ceil(radius_x + 0.5)), int(np.ceil(radius_y + 0.5)), 5
    x = (np.arange((2 * half_x + 1) * fine) + 0.5) / fine - half_x - 0.5
    y = (np.arange((2 * half_y + 1) * fine) + 0.5) / fine - half_y - 0.5
    inside = (x[None, :] / radius_x) ** 2 + (y[:, None] / radius_y) ** 2 <= 1
    kernel = inside.reshape(2 * half_y + 1, fine, 2 * half_x + 1, fine).mean((1, 3))
    return (kernel * (np.pi * radius_x * radius_y / max(kernel.sum(), 1e-9))).astype(np.float32)


def disc(radius_x: float, radius_y: float) -> np.ndarray:
    """Elliptic disc of height 1 as a kernel, its edge shared out between pixels; radii in pixels.

    A line of unit density convolved with it has the profile 2 sqrt(r^2 - d^2), the chord length of a round tube.
    """
    x, y = (max(round(radius * 64), 1) / 64 for radius in (radius_x, radius_y))  # so that few kernels serve all tubes
    return _disc(x, y) * np.float32(radius_x * radius_y / (x * y))


def splat(
    canvas: Canvas, points: np.ndarray, weights: np.ndarray | float = 1.0, margin: int = 0
) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Spread the length of polylines over the pixels that their projections cross.

    Parameters
    ----------
    points : (lines, steps, 3) mm; the steps should be about a pixel or shorter.
    weights : (lines,) or (lines, steps - 1) factor on the length.
    margin : int
        Pixels that are left free around the lines, where the canvas goes on.

    Returns
    -------
    part : (rows, columns) float32
        Length in pixels of line per pixel; lengths are three-dimensional, so a tube that runs along the ray is as long
        as it is. Convolve with `disc` and divide by the pixels per mm to get the chord length.
    place : (slice, slice)
        Where in the canvas the part belongs; beyond it nothing is crossed.
    """
    weights = np.asarray(weights, np.float32)
    column, row, length, keep = pieces(canvas, *_steps(points))
    length *= weights[:, None] if weights.ndim == 1 else weights
    return spread(canvas.n, column[keep], row[keep], length[keep], margin)


def _steps(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of the steps of polylines (lines, steps, 3): two arrays (3, lines, steps - 1), float32."""
    planes = np.ascontiguousarray(points.transpose(2, 0, 1), np.float32)
    return planes[..., :-1], planes[..., 1:]


def pieces(canvas: Canvas, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, ...]:
    """Column, row and length (pixels) of straight pieces (3, ...) mm, float32, and which of them lie on the canvas."""
    step = end - start
    x, y, z = (end + start) * np.float32(0.5)
    length = np.sqrt(np.square(step, out=step).sum(0))
    scale = canvas.magnification(z)
    column, row = canvas.project_planes(x, y, z, scale)
    length *= scale / np.float32(canvas.pixel)
    keep = (column >= 0) & (column < canvas.n - 1) & (row >= 0) & (row < canvas.n - 1)
    return column, row, length, keep


def spread(
    n: int, column: np.ndarray, row: np.ndarray, length: np.ndarray, margin: int = 0
) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Share each length out between the four pixels around it, on a canvas of `n` pixels; see `splat`."""
    if not len(column):
        return np.zeros((1, 1), np.float32), (slice(0, 1), slice(0, 1))
    c, r = column.astype(np.intp), row.astype(np.intp)
    fc, fr = column - c, row - r
    left, top = max(int(c.min()) - margin, 0), max(int(r.min()) - margin, 0)
    right, bottom = min(int(c.max()) + 2 + margin, n), min(int(r.max()) + 2 + margin, n)
    wide, high = right - left, bottom - top
    first = (r - top) * wide + c - left
    index = np.concatenate([first, first + 1, first + wide, first + wide + 1])
    one, other = length * (1 - fr), length * fr
    share = np.concatenate([one * (1 - fc), one * fc, other * (1 - fc), other * fc])
    part = np.bincount(index, share, high * wide).reshape(high, wide).astype(np.float32)
    return part, (slice(top, bottom), slice(left, right))


def tubes(
    canvas: Canvas,
    points: np.ndarray,
    radius: float,
    weights: np.ndarray | float = 1.0,
    radius_y: float | None = None,
    hollow: tuple[float, float] | None = None,
    onto: np.ndarray | None = None,
    factor: float = 1.0,
) -> np.ndarray:
    """Chord length (n, n), mm, through tubes of one radius along polylines (lines, steps, 3); see `splat`.

    `hollow` is the thickness of a wall, mm, and the factor on what is inside of it. The chord length times `factor` is
    added to the map `onto`, or to a new one.
    """
    scale = float(canvas.magnification(float(points[..., 2].mean())) / canvas.pixel)
    radius_y = radius_y or radius
    kernel = disc(radius * scale, radius_y * scale)
    if hollow:
        thick, filling = hollow
        inner = disc((radius - thick) * scale, (radius_y - thick) * scale)
        high, wide = ((np.array(kernel.shape) - inner.shape) // 2).tolist()
        kernel[high : high + inner.shape[0], wide : wide + inner.shape[1]] -= np.float32(1 - filling) * inner
    part, place = splat(canvas, points, weights, max(kernel.shape) // 2 + 1)
    out = np.zeros((canvas.n, canvas.n), np.float32) if onto is None else onto
    out[place] += cv2.filter2D(part, -1, kernel * np.float32(factor / scale), borderType=cv2.BORDER_CONSTANT)
    return out


def tube_tree(canvas: Canvas, branches: list[tuple[np.ndarray, np.ndarray]], kernels: int = 10) -> np.ndarray:
    """Chord length (n, n), mm, through many tubes whose radius changes along them.

    Parameters
    ----------
    branches : list of (points (lines, steps, 3), radii (lines, steps - 1)), mm
    kernels : int
        Pieces of similar radius share a kernel, and their cross-sections stay right.
    """
    ends = zip(*(_steps(points) for points, _ in branches), strict=True)
    start, end = (np.concatenate([part.reshape(3, -1) for part in parts], 1) for parts in ends)
    column, row, length, keep = pieces(canvas, start, end)
    radius = np.concatenate([radii.ravel() for _, radii in branches])[keep].astype(np.float32)
    order = np.argsort(radius)
    column, row, length, radius = column[keep][order], row[keep][order], length[keep][order], radius[order]
    scale = float(canvas.magnification(float(np.mean([points[..., 2].mean() for points, _ in branches]))) / canvas.pixel)
    total = np.zeros((canvas.n, canvas.n), np.float32)
    limits = [k * (len(radius) // kernels) + min(k, len(radius) % kernels) for k in range(kernels + 1)]
    for first, last in pairwise(limits):
        if first == last:
            continue
        group = slice(first, last)
        typical = float(radius[(first + last - 1) // 2] + radius[(first + last) // 2]) / 2  # the median
        kernel = disc(typical * scale, typical * scale) * np.float32(1 / scale)
        area = np.clip(np.square(radius[group] / np.float32(typical)), 0.1, 4)
        part, place = spread(canvas.n, column[group], row[group], length[group] * area, max(kernel.shape) // 2 + 1)
        total[place] += cv2.filter2D(part, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    return total


def smooth(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; wide ones are computed on a coarser grid. `sigma` in pixels."""
    step = int(sigma // 3)
    if step < 2:
        return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.2 else image
    small = cv2.resize(image, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR)


def fractal(rng: np.random.Generator, n: int, coarse: float, octaves: int = 4, fall: float = 0.55) -> np.ndarray:
    """Cloud-like noise (n, n) of mean 0 and standard deviation about 1; its coarsest grains are `coarse` pixels."""
    total = np.zeros((n, n), np.float32)
    amplitude, power = 1.0, 0.0
    half = None  # octaves without fine detail are added up on a grid of half the resolution
    for _ in range(octaves):
        cells = max(2, int(np.ceil(n / max(coarse, 1.0))) + 2)
        field = rng.standard_normal((min(cells, n),) * 2, dtype=np.float32) * np.float32(amplitude)
        if cells >= n:
            total += field
        elif 4 * cells > n:
            total += cv2.resize(field, (n, n), interpolation=cv2.INTER_CUBIC)
        else:
            field = cv2.resize(field, (n // 2, n // 2), interpolation=cv2.INTER_CUBIC)
            half = field if half is None else half + field
        power += amplitude**2 * 0.55
        amplitude *= fall
        coarse /= 2
    if half is not None:
        total += cv2.resize(half, (n, n), interpolation=cv2.INTER_CUBIC)
    total *= np.float32(1 / math.sqrt(power))
    return total


@dataclass(frozen=True)
class Exposure:
    """How one film was exposed and processed."""

    photons: float  # per pixel of 1 mm2 without a patient
    scatter: float  # scatter over primary behind the patient (what the grid lets through)
    scatter_width: float  # mm
    compression: float  # share of the coarse structure that the processing takes away
    low: float  # the quantiles of the log signal that become black and white
    high: float
    headroom: float  # how much further than that white lies, as a share of the range
    contrast: float  # slope of the display curve
    brightness: float  # shift of the display curve
    sharpening: float
    white: float  # grey level of what is whitest, 0 to 255
    fog: float  # grey of what is blackest, 0 to 1
    blur: float  # mm, focal spot, motion and detector together


def detect(attenuation: np.ndarray, exposure: Exposure, pixel: float, rng: np.random.Generator) -> np.ndarray:
    """Log signal of the detector (about the attenuation itself) with scatter, blur and quantum noise.

    Parameters
    ----------
    attenuation : (n, n) float32
        Line integral of the attenuation coefficient.
    pixel : float
        mm.
    """
    primary = np.exp(-attenuation)  # Beer and Lambert
    primary = smooth(primary, exposure.blur / pixel)
    coarse = smooth(primary, exposure.scatter_width / pixel)
    signal = primary + np.float32(exposure.scatter) * coarse + np.float32(0.002)
    counts = signal * np.float32(exposure.photons * pixel**2)
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    signal = np.maximum(counts + np.sqrt(counts) * noise, counts * np.float32(0.2))  # Poisson, many photons
    return -np.log(signal / np.float32(exposure.photons * pixel**2))


def _compress_and_sharpen(signal: np.ndarray, exposure: Exposure, pixel: float, mean: np.float32) -> np.ndarray:
    signal = signal - np.float32(exposure.compression) * (smooth(signal, 45 / pixel) - mean)
    signal = signal + np.float32(exposure.sharpening * 1.4) * (signal - smooth(signal, 2.5 / pixel))
    return signal + np.float32(exposure.sharpening * 0.12) * (signal - smooth(signal, 9 / pixel))


def develop(signal: np.ndarray, exposure: Exposure, pixel: float, like: np.ndarray | None = None) -> np.ndarray:
    """Grey levels 0 to 255, float32, of a log signal: dynamic range compression, windowing, S curve, sharpening.

    With `like`, the window is not this signal's own but that of the other one.
    """
    like = signal if like is None else like
    mean = like.mean()
    reference = _compress_and_sharpen(like, exposure, pixel, mean)
    signal = reference if signal is like else _compress_and_sharpen(signal, exposure, pixel, mean)
    margin = signal.shape[0] // 12
    low, high = np.quantile(reference[margin:-margin:3, margin:-margin:3], [exposure.low, exposure.high])
    high += exposure.headroom * (high - low)
    t = (signal - np.float32(low)) / np.float32(max(high - low, 0.2))
    # The characteristic curve of film, which digital systems imitate: a logistic function.
    curve = 1 / (1 + np.exp(-np.float32(exposure.contrast) * (t - np.float32(exposure.brightness))))
    ends = 1 / (1 + np.exp(-exposure.contrast * (np.array([-0.03, 1.08]) - exposure.brightness)))
    grey = np.clip((curve - np.float32(ends[0])) / np.float32(ends[1] - ends[0]), 0, 1)
    return (exposure.fog + (1 - np.float32(exposure.fog)) * grey) * np.float32(exposure.white)
