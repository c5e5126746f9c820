"""The healthy brain of one simulated patient: the MNI152 template, deformed, as fractions of three tissues.

Everything lives on the grid of the BraTS atlas space (240 x 240 x 155 voxels of 1 mm, first axis to the patient's right,
second to the front, third to the top), cropped to the `Grid` in which a brain can lie.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy import ndimage

from data.brain_simulator.cortex import FOLIA, NOISE_STEP, Surface, cortex, folia_angle, sheet_distance, template_surface
from data.brain_simulator.fields import Points, around, gaussian, smooth_noise

SHAPE = (240, 240, 155)  # voxels of the Decathlon's Task01
CROP = ((42, 199), (14, 209), (0, 152))  # mm: a box around every brain of that space, with room for larger ones

# Voxel of the grid -> voxel of the MNI152 template (1 mm). A rigid turn and three scales, fitted once so that the
# template matches the mean T1w scan of the SRI24 space in which BraTS is distributed (correlation 0.99).
CENTRE = np.array([120.0, 110.0, 77.0])
TEMPLATE_CENTRE = np.array([97.6, 119.2, 82.2])
TEMPLATE_SCALE = np.array([1.070, 1.052, 1.141])
TEMPLATE_PITCH = -0.2315  # radians about the left-right axis
TEMPLATE_ORIGIN = (98, 134, 72)  # voxel at the anterior commissure: 0, 0, 0 of MNI space
CENTRE_OF_BRAIN, HALF_AXES = (120, 110, 72), (72, 90, 76)  # mm of the grid: an ellipsoid about the size of the brain


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


@dataclass(frozen=True)
class Template:
    """Maps on the part of the MNI152 grid that holds the brain, float32; all but ``t1`` and ``surface`` in [0, 1]."""

    corner: np.ndarray  # voxel of the whole grid (197, 233, 189) at which the maps begin
    t1: np.ndarray  # sharpened T1w
    mask: np.ndarray
    near: np.ndarray  # bool: in the mask or beside it
    ventricle: np.ndarray
    nuclei: np.ndarray  # where the template's own grey matter is used: deep nuclei, not cortex
    vein: np.ndarray  # sagittal sinus, torcula, straight sinus
    artery: np.ndarray  # the large arteries of the base
    surface: Surface


# Courses of the large vessels in mm of MNI space (right side; those with x near 0 lie in the middle).
ARTERIES = (
    [(14, 0, -38), (13, 2, -26), (14, 4, -16), (26, 4, -18), (36, 6, -12), (42, 2, -4), (42, -10, 2), (44, -26, 10)],
    [(14, 4, -16), (3, 14, -14), (2, 28, -8), (2, 40, 6), (2, 36, 24), (2, 12, 40), (2, -12, 44)],
    [(0, -28, -46), (0, -24, -32), (0, -22, -20), (12, -20, -18), (20, -32, -12), (18, -52, -4), (12, -76, 4)],
)
VEINS = ([(1, 0, 16), (1, -20, 14), (1, -40, 6), (1, -50, 4), (0, -62, -4), (0, -86, -14)],)


def _tubes(shape: tuple[int, ...], origin: tuple[int, ...], courses: tuple, radius: float) -> np.ndarray:
    """Both sides of the `courses` as soft tubes of `radius` mm; 0, 0, 0 of MNI space is the voxel `origin`."""
    from scipy.interpolate import make_interp_spline

    line = np.zeros(shape, bool)
    for course in courses:
        knots = np.array(course, float)
        along = np.linspace(0, 1, 40 * len(knots))
        fine = make_interp_spline(np.linspace(0, 1, len(knots)), knots, k=3)(along)
        for side in (1, -1):
            place = np.round(fine * (side, 1, 1)).astype(int) + origin
            line[tuple(place[(place >= 0).all(1) & (place < shape).all(1)].T)] = True
    box = around(line, 3)
    tubes = np.zeros(shape, np.float32)
    tubes[box] = np.clip(radius + 0.5 - ndimage.distance_transform_edt(~line[box]), 0, 1)
    return tubes


@lru_cache(maxsize=1)
def template() -> Template:
    """What all patients share.

    Source: ICBM 152 nonlinear symmetric template (Fonov et al., NeuroImage 2011), as shipped with nilearn.
    """
    t1 = _mni152("t1")
    inside = t1 > 0.2  # nilearn's own brain mask, without reading the file once more
    # The template is a mean of 152 people, so its edges are washed out: unsharp masking brings them back.
    sharp = t1 + 1.0 * (t1 - gaussian(t1, 1.6)) + 0.25 * (t1 - gaussian(t1, 4.0))
    wide = around(inside, 4 + 8)  # 4 voxels around the brain are kept, 8 more are what the other blurs reach
    corner = np.array([s.start for s in wide])
    inner = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(around(inside, 4), wide, strict=True))

    def cut(part: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(part[(..., *inner)], dtype=np.float32)

    sharp, inside, tissue = sharp[wide], inside[wide], (_mni152("gm") + _mni152("wm"))[wide]
    steps = ndimage.distance_transform_cdt(inside, metric="taxicab")  # from the surface
    ventricle = (tissue < 0.6) & (steps > 18)
    # Superior sagittal sinus and torcula: the midline rim of the mask, top and back.
    x, y, z = (a + start for a, start in zip(np.ogrid[tuple(slice(n) for n in inside.shape)], corner, strict=True))
    rim = inside & (steps <= 4)
    vein = rim & (np.abs(x - 98) < 4) & ((z > 105) | (y < 60)) & (z > 50)
    ellipsoid = np.sqrt(((x - 98) / 36) ** 2 + ((y - 128) / 40) ** 2 + ((z - 75) / 26) ** 2)
    origin = tuple((TEMPLATE_ORIGIN - corner).tolist())
    mask = cut(gaussian(inside, 1.0))
    surface = template_surface(inside, tissue, ventricle, origin)
    return Template(
        corner=(corner + [s.start for s in inner]).astype(np.float32),
        t1=cut(sharp),
        mask=mask,
        near=ndimage.maximum_filter(mask, 3) > 0.05,
        ventricle=cut(gaussian(ventricle, 0.7)),
        nuclei=cut(np.clip((1 - ellipsoid) / 0.12, 0, 1)),
        vein=cut(np.maximum(gaussian(vein, 0.8), _tubes(inside.shape, origin, VEINS, 1.0))),
        artery=cut(_tubes(inside.shape, origin, ARTERIES, 1.0)),
        surface=Surface(cut(surface.depth), cut(surface.foot), cut(surface.small_brain), cut(surface.stem)),
    )


def _mni152(tissue: str) -> np.ndarray:
    """The template "t1", "gm" or "wm" of 1 mm, float32, scaled to at most 1: what nilearn.datasets.load_mni152_template gives.

    Importing nilearn takes longer than drawing half a brain, so its file is read directly.
    """
    import nibabel as nib

    (package,) = find_spec("nilearn").submodule_search_locations
    image = nib.load(Path(package) / "datasets" / "data" / f"mni_icbm152_{tissue}_tal_nlin_sym_09a_converted.nii.gz")
    values = np.asarray(image.dataobj).astype(np.float32)
    return values / values.max()


@dataclass
class Brain:
    """Tissue of one patient on a `Grid`, all arrays float32 of ``grid.shape``.

    ``wm``, ``gm`` and ``csf`` are fractions that sum to 1 inside ``mask`` (bool); ``deep`` (how much of the grey matter is
    deep nuclei), ``ventricle``, ``vein``, ``artery`` and ``rim`` (the outermost millimetres, where dura may remain) are in [0, 1].
    """

    grid: Grid
    mask: np.ndarray
    wm: np.ndarray
    gm: np.ndarray
    csf: np.ndarray
    deep: np.ndarray
    ventricle: np.ndarray
    vein: np.ndarray
    artery: np.ndarray
    rim: np.ndarray


@lru_cache(maxsize=2)
def distance_from_centre(grid: Grid) -> np.ndarray:
    """0 in the middle of the brain, 1 on an ellipsoid about the size of the brain; float32, not to be changed."""
    place = np.meshgrid(*grid.axes(), indexing="ij", sparse=True)
    return np.sqrt(sum(((a - c) / h) ** 2 for a, c, h in zip(place, CENTRE_OF_BRAIN, HALF_AXES, strict=True))).astype(np.float32)


def displacement(rng: np.random.Generator, grid: Grid) -> list[np.ndarray]:
    """How far (mm, along each axis) a patient's anatomy lies from the template's: coarse to fine, smooth and invertible.

    The skull keeps the outline smooth and the falx keeps the middle straight, so the fine displacements fade towards the
    surface and sideways ones towards the middle. Amplitudes stay below a quarter of the knot distance: the map does not fold.
    """
    axes = grid.axes()
    inner = np.clip((1 - distance_from_centre(grid)) / 0.3, 0.1, 1)
    sideways = (0.3 + 0.7 * np.clip(np.abs(axes[0] - 120) / 30, 0, 1))[:, None, None].astype(np.float32)
    parts = []
    for axis in range(3):
        field = rng.uniform(1.6, 2.6) * smooth_noise(rng, axes, 22)
        field += rng.uniform(0.7, 1.2) * smooth_noise(rng, axes, 11)
        field *= inner
        field += rng.uniform(1.6, 3.0) * smooth_noise(rng, axes, 60)
        if axis == 0:
            field *= sideways
        parts.append(field)
    return parts


def grow_brain(rng: np.random.Generator, grid: Grid, push: list[np.ndarray] | None = None) -> Brain:
    """Draw a patient's brain.

    Parameters
    ----------
    rng : numpy.random.Generator
    grid : Grid
    push : list of three float32 arrays of ``grid.shape``, optional
        Mass effect of a tumour: displacement of the tissue in mm along each axis (see `data.brain_simulator.tumour`).

    Returns
    -------
    Brain
    """
    source = template()
    warp = displacement(rng, grid)
    size = 1 + rng.normal(0, 0.014, 3)
    pitch = TEMPLATE_PITCH + rng.normal(0, 0.02)
    yaw, roll = rng.normal(0, 0.015, 2)
    mirrored = rng.random() < 0.5
    atrophy = rng.uniform(0.0, 1.0)

    axes = np.meshgrid(*grid.axes(), indexing="ij", sparse=True)
    offset = [a - np.float32(c) - w for a, c, w in zip(axes, CENTRE, warp, strict=True)]
    if push is not None:
        for part, pushed in zip(offset, push, strict=True):
            part -= pushed
    if mirrored:
        offset[0] = -offset[0]
    turn = (_rotation(pitch, yaw, roll) * (TEMPLATE_SCALE / size)).astype(np.float32)
    points = (turn @ np.stack(offset).reshape(3, -1)).reshape(3, *grid.shape)
    points += TEMPLATE_CENTRE.astype(np.float32)[:, None, None, None]
    # Ventricles widen with age: the middle of the brain is sampled nearer to its centre.
    far = ((points[i] - c) * np.float32(1 / reach) for i, (c, reach) in enumerate([(98, 18), (118, 50), (84, 26)]))
    wide = 1 - 0.22 * atrophy * np.exp(-sum(f * f for f in far))
    points[0] = 98 + (points[0] - 98) * wide
    points[2] = 84 + (points[2] - 84) * wide

    del warp, offset, wide  # some 130 MB
    points -= source.corner[:, None, None, None]
    points = points.reshape(3, -1)
    # First the voxels whose nearest voxel of the template is in the mask or beside it, then of these the ones inside.
    nearest = [np.clip(np.rint(p), 0, n - 1).astype(np.int32) for p, n in zip(points, source.mask.shape, strict=True)]
    inside = np.flatnonzero(source.near[*nearest])
    places = Points(points[:, inside], source.mask.shape)
    found = places.look(source.mask)
    kept = found > 0.05
    inside, places = inside[kept], places.only(kept)
    points = points[:, inside]

    def full(values: np.ndarray) -> np.ndarray:
        """Values of the voxels inside, as a volume that is 0 elsewhere."""
        out = np.zeros(grid.shape, values.dtype)
        out.reshape(-1)[inside] = values
        return out

    def noise(knot_distance: float) -> np.ndarray:
        return smooth_noise(rng, grid.axes(), knot_distance).reshape(-1)[inside]

    t1, ventricle, nuclei, vein, artery = map(places.look, (source.t1, source.ventricle, source.nuclei, source.vein, source.artery))
    whole = source.surface
    foot = np.stack([places.look(part) for part in whole.foot])
    surface = Surface(places.look(whole.depth), foot, *map(places.look, (whole.small_brain, whole.stem)))
    # Skull stripping cuts at a depth that differs from scan to scan and place to place; some scans end above the neck.
    ragged = 0.06 * noise(5) + rng.uniform(0.02, 0.1) * noise(2.5)
    depth = found[kept] - rng.uniform(0.45, 0.75) - np.clip(ragged, -0.2, 0.2)
    mask = _largest_part(full(depth > 0) & (axes[2] > rng.choice([-1, rng.uniform(0, 14)])))
    rim = np.clip(1 - depth / 0.3, 0, 1) * mask.reshape(-1)[inside]

    csf_t = np.clip((0.60 - t1) / 0.30, 0, 1)
    wm_t = np.clip((t1 - 0.72) / 0.14, 0, 1)
    fluid, white, veinlets = _fold(rng, grid, points, inside, surface, atrophy)
    own = np.maximum(
        nuclei, np.maximum(surface.stem, 0.6 * surface.small_brain)
    )  # here the template's tissue is shown, elsewhere the folds
    folded = 1 - np.maximum(nuclei, surface.stem)
    fluid, white = fluid * folded, 1 - (1 - white) * folded
    csf = np.maximum(np.maximum(fluid, np.clip(1.3 * ventricle - 0.15, 0, 1)), own * csf_t)
    wm = white * (1 - own * (1 - wm_t)) * (1 - csf)
    return Brain(
        grid,
        mask,
        full(wm),
        full(1 - csf - wm),
        full(csf),
        deep=full(np.maximum(nuclei, surface.stem)),
        ventricle=full(ventricle),
        vein=full(np.maximum(vein, 0.8 * veinlets)),
        artery=full(artery),
        rim=full(rim),
    )


def _fold(
    rng: np.random.Generator, grid: Grid, points: np.ndarray, inside: np.ndarray, surface: Surface, atrophy: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fluid, white matter and veins in the sulci of a patient.

    Parameters
    ----------
    points : (3, n)
        Where in the template the patient's voxels lie.
    inside : (n,)
        Which voxels of the grid these are.
    surface : Surface
        The template's, looked up at the points.
    """
    source = template()
    origin = (TEMPLATE_ORIGIN - source.corner).astype(np.float32)
    depth, foot = surface.depth, points + surface.foot
    apart = foot.copy()  # the two walls of the falx are one surface, but have sulci of their own
    apart[0] += np.where(points[0] < origin[0], 0, 20).astype(np.float32)
    samples = [np.arange(0, n + 20 + NOISE_STEP, NOISE_STEP, dtype=np.float32) for n in source.mask.shape]
    on_samples = Points(apart / np.float32(NOISE_STEP), tuple(map(len, samples)))

    def on_surface(knot_distance: float) -> np.ndarray:
        return on_samples.look(smooth_noise(rng, samples, knot_distance))

    def noise(knot_distance: float) -> np.ndarray:
        return smooth_noise(rng, grid.axes(), knot_distance).reshape(-1)[inside]

    def to_zero(values: np.ndarray, more: np.ndarray | None = None) -> np.ndarray:
        """Distance to where the function with these values, or with `more` on the whole grid added, is zero."""
        field = np.zeros(grid.shape, np.float32)
        field.reshape(-1)[inside] = values
        if more is not None:
            field += more
        return sheet_distance(field, grid.spacing).reshape(-1)[inside]

    pattern = on_surface(rng.uniform(6.3, 7.5)) + 0.35 * on_surface(4.5)
    sulcus = to_zero(pattern, 0.3 * smooth_noise(rng, grid.axes(), 10))  # sulci bend on their way down
    reach = rng.uniform(11, 15) + 4 * noise(22)  # mm: how deep the sulci are
    sulcus = np.hypot(sulcus, np.maximum(depth - np.maximum(reach, 7), 0))
    gap = -0.1 + 0.7 * atrophy + 0.25 * noise(30)
    thickness = 2.0 + 0.25 * noise(40)
    fluid, white = cortex(np.minimum(sulcus, depth), np.clip(gap, -0.3, 1.2), thickness)
    # The cerebellum's folds are thin parallel leaves, its cortex thinner.
    angle = folia_angle(foot, origin)
    folia = np.sin(2 * np.pi / FOLIA * (angle + 2.0 * on_surface(10) + 0.8 * on_surface(4)))
    leaf = np.hypot(to_zero(folia), np.maximum(depth - 9, 0))
    leaf_fluid, leaf_white = cortex(np.minimum(leaf, depth), np.clip(gap, -0.2, 0.5) - 0.2, 1.5)
    # Veins and arteries run in the sulci: lines in which a second function is zero too.
    line = np.hypot(np.minimum(sulcus, depth), to_zero(on_surface(11)))
    seen = np.clip(noise(20) - rng.uniform(-0.3, 1.0), 0, 1)
    small_brain = surface.small_brain
    veinlets = np.clip(rng.uniform(0.9, 1.5) - line, 0, 1) * seen * (small_brain < 0.5)
    return fluid + (leaf_fluid - fluid) * small_brain, white + (leaf_white - white) * small_brain, veinlets


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
