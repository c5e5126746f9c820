"""A glioma in a simulated brain: reaction-diffusion growth, mass effect, and the labels that an expert would draw.

Growth follows the Fisher-Kolmogorov equation ``du/dt = div(D grad u) + rho u (1 - u)`` of the cell density u, with a
diffusivity D that is several times larger in white than in grey matter and zero in CSF (Swanson et al., Cell Prolif. 2000).
A front far from its origin travels with the speed ``2 sqrt(D rho)``, so the time at which it arrives measures how far,
along paths that cells can take, a place lies from the seed. Volumes, rim and borders are drawn from that map.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from data.brain_simulator.anatomy import Brain, Grid, distance_from_centre
from data.brain_simulator.fields import around, gaussian, smooth_noise

EDEMA, CORE, ENHANCING = 1, 2, 3  # the Decathlon's labels; CORE is necrosis and non-enhancing tumour

WHITE_DIFFUSIVITY = 0.12  # mm^2/day, within the range fitted to high-grade glioma (Harpold et al., JNEN 2007)
GREY_RATIO = 5.0  # D white / D grey (Swanson et al. 2000)
PROLIFERATION = 0.03  # 1/day (Harpold et al. 2007)


def front_speed(diffusivity: float, proliferation: float) -> float:
    """Speed (mm/day) of a Fisher-Kolmogorov front: ``2 sqrt(D rho)``."""
    return 2 * np.sqrt(diffusivity * proliferation)


def arrival_time(
    density: np.ndarray,
    diffusivity: np.ndarray,
    proliferation: float,
    spacing: float,
    volume: float,
    *,
    level: float = 0.5,
    max_steps: int = 600,
) -> np.ndarray:
    """Grow `density` until more than `volume` mm^3 lie above `level`; when did each voxel pass it?

    Explicit Euler steps of the finite-volume scheme, without flux through the border of the array or between voxels of
    which one has no diffusivity.

    Parameters
    ----------
    density : ndarray, float32
        Cell density at time 0 in [0, 1]. Not changed.
    diffusivity : ndarray, float32
        D in mm^2/day, same shape.
    proliferation : float
        rho in 1/day.
    spacing : float
        Edge of a voxel in mm.
    volume : float
        Where to stop, mm^3 above `level`.

    Returns
    -------
    ndarray, float32
        Days; ``inf`` where the front did not arrive.
    """
    arrived = np.where(density >= level, 0.0, np.inf).astype(np.float32)
    box = around(diffusivity > 0, 0)  # beyond it nothing moves
    inner = np.ascontiguousarray(arrived[box])
    u, diffusivity = density[box].astype(np.float32), diffusivity[box]
    step = 0.9 * spacing**2 / (2 * u.ndim * float(diffusivity.max()) + spacing**2 * proliferation)
    faces = []
    for axis in range(u.ndim):
        low, high = _halves(diffusivity, axis)
        faces.append(np.where(low * high > 0, 2 * low * high / np.maximum(low + high, 1e-9), 0) * (step / spacing**2))
    can_grow = (diffusivity > 0).astype(np.float32) * np.float32(proliferation * step)
    faces = [face.astype(np.float32) for face in faces]
    voxels = volume / spacing**u.ndim - np.count_nonzero(arrived == 0) + np.count_nonzero(inner == 0)
    new, flows, waiting = np.empty_like(u), [np.empty_like(face) for face in faces], u < level
    for n in range(max_steps):
        np.subtract(1, u, out=new)
        new *= u
        new *= can_grow
        new += u
        for axis, (face, flow) in enumerate(zip(faces, flows, strict=True)):
            low, high = _halves(u, axis)
            np.subtract(high, low, out=flow)
            flow *= face
            to_low, to_high = _halves(new, axis)
            to_low += flow
            to_high -= flow
        passed = (new >= level) & waiting
        inner[passed] = step * (n + (level - u[passed]) / np.maximum(new[passed] - u[passed], 1e-9))
        waiting ^= passed
        u, new = new, u
        if n % 8 == 7 and np.count_nonzero(np.isfinite(inner)) > voxels:
            break
    arrived[box] = inner
    return arrived


def _halves(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Views of all but the last and all but the first layer along `axis`: the two sides of each inner face."""
    low = [slice(None)] * array.ndim
    high = [slice(None)] * array.ndim
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return array[tuple(low)], array[tuple(high)]


@dataclass
class Plan:
    """What one tumour is to be, drawn before it grows. Volumes in ml, lengths in mm, positions in mm of the grid."""

    seed: np.ndarray
    whole: float
    core: float
    enhancing: float
    low_grade: bool
    lobes: int  # bodies of which the core consists
    ring: float  # 1: necrotic centre in an enhancing ring; 0: enhancement in patches
    swelling: float  # share of the core (and a quarter of that of the edema) that is new volume and pushes
    cyst: float
    blood: float


def draw_plan(rng: np.random.Generator, seed: np.ndarray) -> Plan:
    """Draw the kind of tumour. Ranges follow the 285 training cases of BraTS 2018 (Bakas et al. 2018) roughly."""
    low_grade = rng.random() < 0.2
    whole = float(np.clip(np.exp(rng.normal(np.log(82), 0.70)), 20, 250))
    if low_grade:
        core = whole * rng.uniform(0.35, 0.7)
        enhancing = core * rng.choice([0.0, rng.uniform(0.005, 0.04)])
        ring = 0.0
    else:
        core = whole * rng.beta(1.8, 2.2)
        enhancing = core * np.clip(rng.beta(2.6, 2.0), 0.2, 0.92)
        ring = rng.choice([1.0, 0.7, 0.35], p=[0.5, 0.3, 0.2])
    core = float(np.clip(core, min(2.0, whole), 150))
    return Plan(
        seed=seed,
        whole=whole,
        core=core,
        enhancing=float(min(enhancing, 75)),
        low_grade=low_grade,
        lobes=int(rng.choice([1, 2, 3, 4, 5], p=[0.25, 0.25, 0.2, 0.15, 0.15])),
        ring=float(ring),
        swelling=rng.uniform(0.3, 0.9),
        cyst=float(rng.random() < 0.15) * rng.uniform(0.5, 1),
        blood=float(rng.random() < 0.15) * rng.uniform(0.3, 1),
    )


def draw_seed(rng: np.random.Generator) -> np.ndarray:
    """Where the tumour starts, mm of the grid: supratentorial white matter, either hemisphere."""
    side = rng.choice([-1, 1])
    if rng.random() < 0.3:  # temporal lobe
        return np.array([120 + side * rng.uniform(30, 50), rng.uniform(90, 140), rng.uniform(44, 64)])
    return np.array([120 + side * rng.uniform(14, 48), rng.uniform(58, 165), rng.uniform(62, 112)])


def mass_effect(rng: np.random.Generator, grid: Grid, plan: Plan) -> list[np.ndarray]:
    """Displacement (mm, along each axis) of the tissue around a growing tumour.

    A source of the new volume in an incompressible medium moves tissue at distance r by V / (4 pi r^2); inside, the
    displacement grows linearly. Tissue also yields, so the displacement falls off over 60 mm from the tumour's edge.
    """
    grown = 1000 * plan.swelling * (plan.core + 0.25 * (plan.whole - plan.core))
    stretch = np.exp(rng.normal(0, 0.15, 3))
    place = np.meshgrid(*grid.axes(), indexing="ij", sparse=True)
    offset = [(a - np.float32(s)) / np.float32(f) for a, s, f in zip(place, plan.seed, stretch, strict=True)]
    r = np.sqrt(sum(o * o for o in offset))
    radius = (3000 * (plan.core + 0.3 * (plan.whole - plan.core)) / (4 * np.pi)) ** (1 / 3)
    beyond = np.maximum(r, np.float32(max(radius, 1)))
    size = np.float32(grown / (4 * np.pi)) / (beyond * beyond * beyond)
    size[r < radius] = grown / (4 * np.pi * radius**3)
    size *= np.exp(-np.square(np.maximum(r - np.float32(radius), 0) / 60))
    # The skull does not give: no displacement at the surface of an ellipsoid of the brain's size.
    size *= np.clip((1 - distance_from_centre(grid)) / 0.3, 0, 1)
    return [size * o for o in offset]


@dataclass
class Tumour:
    """Labels (uint8) and what they are made of; maps are float32 in [0, 1] on the brain's grid."""

    labels: np.ndarray
    edema: np.ndarray  # severity of infiltration and vasogenic edema
    solid: np.ndarray  # non-enhancing or enhancing tumour tissue
    necrosis: np.ndarray
    contrast: np.ndarray  # concentration of gadolinium, 1 is a typical rim
    blood: np.ndarray


def grow_tumour(rng: np.random.Generator, brain: Brain, plan: Plan) -> Tumour:
    """Let the planned tumour grow in `brain` and draw its labels."""
    grid = brain.grid
    fine = grid.axes()
    step = max(2, grid.spacing)
    spread = 1.5 * (3000 * plan.whole / (4 * np.pi)) ** (1 / 3) + 30
    box = tuple(
        slice(max(0, int((s - spread - a[0]) // grid.spacing)), min(len(a), int((s + spread - a[0]) // grid.spacing) + 1))
        for s, a in zip(plan.seed, fine, strict=True)
    )
    axes = [a[b] for a, b in zip(fine, box, strict=True)]
    wm, gm, csf = brain.wm[box], brain.gm[box], brain.csf[box]
    passable = brain.mask[box] & (brain.ventricle[box] < 0.4)

    every = tuple(slice(None, None, step // grid.spacing) for _ in range(3))
    coarse_axes = [a[:: step // grid.spacing] for a in axes]
    # A front does not cross cerebrospinal fluid, but the walls of a sulcus touch: a small diffusivity stands for that.
    diffusivity = WHITE_DIFFUSIVITY * (wm + gm / GREY_RATIO + 0.03 * csf)[every] * passable[every]
    diffusivity *= np.exp(0.4 * smooth_noise(rng, coarse_axes, 16))
    density = np.zeros_like(diffusivity)
    coarse = np.meshgrid(*coarse_axes, indexing="ij", sparse=True)

    def distance2(place: np.ndarray) -> np.ndarray:
        return sum((a - p) ** 2 for a, p in zip(coarse, place, strict=True))

    nearest = np.unravel_index(np.where(wm[every] * passable[every] > 0.5, distance2(plan.seed), np.inf).argmin(), density.shape)
    seed = np.array([a[i] for a, i in zip(coarse_axes, nearest, strict=True)])
    seeds = [seed]
    if not plan.low_grade and rng.random() < 0.3:  # a second focus: later, so smaller
        seeds.append(seed + rng.normal(0, 18, 3))
    for n, place in enumerate(seeds):
        size = step if n == 0 else step * rng.uniform(0.3, 0.8)
        density += np.exp(-distance2(place) / (2 * size**2))
    density = np.minimum(density, 1) * (diffusivity > 0)
    when = arrival_time(density, diffusivity, PROLIFERATION, step, 1400 * plan.whole)
    speed = front_speed(WHITE_DIFFUSIVITY, PROLIFERATION)
    latest = float(when[np.isfinite(when)].max(initial=0.0))
    away = speed * np.where(np.isfinite(when), when, latest + 40)
    away = ndimage.zoom(
        away, [m / n for m, n in zip(passable.shape, away.shape, strict=True)], order=1, grid_mode=True, mode="nearest"
    )
    away = gaussian(away, 1.0 / grid.spacing)

    # Pressure and chemistry know no tracts: part of the spread is simply distance.
    stretch = np.exp(rng.normal(0, 0.2, 3))
    straight = np.full(passable.shape, np.inf, np.float32)
    for n, place in enumerate(seeds):
        offsets = zip(np.meshgrid(*axes, indexing="ij", sparse=True), place, stretch, strict=True)
        later = 0 if n == 0 else rng.uniform(3, 12)
        straight = np.minimum(straight, later + np.sqrt(sum(((a - p) / f) ** 2 for a, p, f in offsets)).astype(np.float32))
    radius = (3000 * plan.core / (4 * np.pi)) ** (1 / 3)
    bodies = np.full(passable.shape, np.inf, np.float32)
    for n in range(plan.lobes):
        place = seed if n == 0 else seed + 0.6 * radius * rng.standard_normal(3)
        offsets = zip(np.meshgrid(*axes, indexing="ij", sparse=True), place, np.exp(rng.normal(0, 0.2, 3)), strict=True)
        later = 0 if n == 0 else rng.uniform(0, 0.4) * radius
        bodies = np.minimum(bodies, later + np.sqrt(sum(((a - p) / f) ** 2 for a, p, f in offsets)).astype(np.float32))
    core_score = 0.4 * gaussian(away, 2.0 / grid.spacing) + 0.6 * np.minimum(bodies, straight)
    core_score += (1.2 + 0.2 * radius) * smooth_noise(rng, axes, 1.1 * radius + 8) + 1.2 * smooth_noise(rng, axes, 8)
    core_score += rng.uniform(0.3, 1.0) * smooth_noise(rng, axes, 4)
    core, _ = _smallest(core_score, passable, 1000 * plan.core / grid.spacing**3)
    core = _keep_large(core, 0.02)

    tract = rng.uniform(0.55, 0.9)  # how far edema follows the fibres
    edge = tract * away + (1 - tract) * straight - rng.uniform(5, 15) * (wm - 0.5)
    edge += 2.6 * smooth_noise(rng, axes, 16) + 1.0 * smooth_noise(rng, axes, 5)
    edge[core] = -np.inf
    inside, border = _smallest(edge, (passable & (csf < 0.6)) | core, 1000 * plan.whole / grid.spacing**3)
    inside = _keep_large(inside, 0.02)
    edge[core] = border - 20

    depth = np.zeros(core.shape, np.float32)
    part = around(core, 1)
    depth[part] = ndimage.distance_transform_edt(core[part], sampling=grid.spacing)
    rim = plan.ring * depth * np.exp(0.6 * smooth_noise(rng, axes, 14))
    rim += (1.2 + 4.0 * (1 - plan.ring)) * smooth_noise(rng, axes, 7) + 1.8 * smooth_noise(rng, axes, 22)
    rim += rng.uniform(0.6, 1.6) * smooth_noise(rng, axes, 3.0)
    enhancing, _rim_border = _smallest(rim, core, 1000 * plan.enhancing / grid.spacing**3)

    labels = np.where(enhancing, ENHANCING, np.where(core, CORE, np.where(inside, EDEMA, 0))).astype(np.uint8)
    soft = 0.8 / grid.spacing
    core_map = gaussian(core.astype(np.float32), soft)
    enhancing_map = gaussian(enhancing.astype(np.float32), 0.7 / grid.spacing)
    fade = np.clip(0.65 + (border - edge) / rng.uniform(4, 10), 0, 1)
    edema = gaussian(inside.astype(np.float32), soft) * fade * (0.7 + 0.3 * wm)
    if plan.low_grade:
        dead = 0.25 * np.clip(0.5 + 0.5 * smooth_noise(rng, axes, 15), 0, 1)
    else:
        dead = np.clip(plan.ring * (0.7 + 0.1 * (depth - 3)) + 0.25 * smooth_noise(rng, axes, 12), 0, 1)
    dead = np.maximum(dead, plan.cyst * (depth > 4)) * np.clip(core_map - enhancing_map, 0, 1)
    contrast = enhancing_map * np.clip(1 + 0.3 * smooth_noise(rng, axes, 6) + 0.3 * smooth_noise(rng, axes, 2.5), 0.25, 2.0)
    blood = plan.blood * np.clip(smooth_noise(rng, axes, 9) - 0.9, 0, 1) * core_map

    def full(part: np.ndarray) -> np.ndarray:
        out = np.zeros(grid.shape, part.dtype)
        out[box] = part
        return out

    return Tumour(full(labels), *(full(p.astype(np.float32)) for p in (edema, core_map * (1 - dead), dead, contrast, blood)))


def _smallest(score: np.ndarray, where: np.ndarray, voxels: float) -> tuple[np.ndarray, float]:
    """The `voxels` voxels of lowest `score` inside `where`, and the score at their border."""
    values = score[where]
    n = int(min(round(voxels), values.size))
    if n == 0:
        return np.zeros_like(where), -np.inf
    border = float(np.partition(values, n - 1)[n - 1])
    return where & (score <= border), border


def _keep_large(mask: np.ndarray, share: float) -> np.ndarray:
    """Without the parts that are smaller than `share` of the whole."""
    labels, n = ndimage.label(mask)
    if n <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= share * sizes.sum())[labels]
