"""The body of a simulated patient as a few numbers and curves. Lengths in mm; see `chest_projection` for the axes.

x = 0 is the midline, y = 0 the top of the lungs, z = 0 the middle of the chest.

Dimensions: lung height and thoracic width on PA films (Bellemare et al., Am J Respir Crit Care Med 2003); heart width
over thoracic width about 0.45, at most 0.5 in health (Danzer 1919); right hemidiaphragm 1-2 cm higher than the left,
hilar and vessel calibres (Felson, Chest Roentgenology, 1973).
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from data.chest_simulator.curves import Curve, ramp

# Outline of a lung in units of (height, largest half width): height, lateral edge, medial edge of its cross-section
# (below the apex the two lungs and what lies between them fill one ellipse), and half depth.
_HEIGHT = [-0.02, 0.0, 0.02, 0.05, 0.10, 0.20, 0.35, 0.50, 0.70, 0.90, 1.10, 1.40]
_LATERAL = [0.42, 0.42, 0.52, 0.590, 0.680, 0.800, 0.905, 0.965, 1.00, 1.01, 1.00, 0.97]
_MEDIAL = [0.42, 0.42, 0.31, 0.25, 0.17, 0.02, -0.32, -0.62, -0.70, -0.72, -0.72, -0.70]
_DEPTH = [0.00, 0.00, 0.26, 0.39, 0.52, 0.68, 0.85, 0.96, 1.00, 1.00, 1.00, 1.00]
LATERAL = Curve(_HEIGHT, _LATERAL)
MEDIAL = Curve(_HEIGHT, _MEDIAL)
DEPTH = Curve(_HEIGHT, _DEPTH)
# The rib cage follows the lung but closes above it.
RIB_CAGE = Curve(
    [-0.20, -0.10, 0.0, 0.10, 0.20, 0.35, 0.50, 0.70, 0.90, 1.10, 1.40],
    [0.20, 0.30, 0.50, 0.67, 0.79, 0.90, 0.97, 1.02, 1.03, 1.02, 0.99],
)


@dataclass
class Body:
    """One person. All of it is drawn once per patient; findings and breathing change copies of it."""

    sex: str
    age: float
    height: float  # of the right lung at full inspiration
    width: float  # largest inner half width of the chest
    depth: float  # inner half depth
    wall: float  # soft tissue outside the ribs, at the side
    fat: float
    left_drop: float  # the left hemidiaphragm lies lower by this
    dome: float  # height of a hemidiaphragm above its edge
    heart_ratio: float  # cardiothoracic ratio
    heart_angle: float  # 0 lying to 1 upright
    heart_tall: float
    aorta: float  # radius
    aorta_reach: float  # how far the arch bulges to the left
    scoliosis: float
    shoulder: float  # half width of the shoulders
    shoulder_slope: float
    neck: float
    breast: float  # radius, 0 for none
    breast_drop: float
    rib_size: float
    rib_slope: float
    clavicle_tilt: float
    bubble: float  # radius of the air in the stomach, 0 for none
    bone: float  # mineral density relative to a young adult
    mediastinum: float  # half width above the heart
    flare: float  # how much the chest widens downwards
    seed: int
    # What findings change:
    shift: float = 0.0  # of the mediastinum, mm to the patient's left
    raise_dome: dict[int, float] = field(default_factory=lambda: {-1: 0.0, 1: 0.0})
    lung_density: float = 1.0
    vessel_size: float = 1.0
    upper_vessels: float = 1.0


def sample_body(rng: np.random.Generator, sex: str, age: float) -> Body:
    """Draw a person of the given sex ("M", "F") and age (years)."""
    male = sex == "M"
    stature = rng.normal(1.0, 0.045)
    # Body mass, in standard deviations. Plain numbers all: one of NumPy's would turn the maps made with it into float64.
    heavy = float(np.clip(rng.normal(0.25, 1.1), -1.8, 3.2))
    growth = 1.0 if age >= 16 else 0.62 + 0.38 * age / 16
    size = stature * growth
    old = float(np.clip((age - 30) / 50, 0, 1.2))
    return Body(
        sex=sex,
        age=age,
        height=size * rng.normal(246 if male else 226, 13),
        width=size * rng.normal(149 if male else 136, 6),
        depth=size * rng.normal(86 if male else 76, 5) * (1 + 0.05 * heavy + 0.06 * old),
        wall=max(18, (38 if male else 33) + 11 * heavy + rng.normal(0, 3)) * growth,
        fat=max(4, 10 + 6 * heavy + (3 if not male else 0)) * growth,
        left_drop=rng.normal(13, 6) - (0 if rng.random() > 0.05 else rng.uniform(15, 45)),
        dome=rng.normal(44, 5),
        heart_ratio=float(np.clip(rng.normal(0.450 + 0.02 * old + 0.006 * heavy, 0.020), 0.39, 0.49)),
        heart_angle=float(np.clip(rng.normal(0.5 - 0.12 * heavy, 0.22), 0, 1)),
        heart_tall=rng.normal(1.0, 0.08),
        aorta=size * (11.5 + 3.0 * old + rng.normal(0, 1)),
        aorta_reach=size * (25 + 12 * old + rng.normal(0, 3.5)),
        scoliosis=(4 + 3 * old) * float(np.clip(rng.standard_t(3), -3.5, 3.5)),
        shoulder=size * (rng.normal(222 if male else 198, 9) + 5 * heavy),
        shoulder_slope=rng.normal(0.42, 0.07),
        neck=size * (rng.normal(62 if male else 53, 4) + 3 * heavy),
        breast=0.0 if male or age < 13 else float(np.clip(rng.normal(66 + 13 * heavy, 13), 34, 115)),
        breast_drop=rng.normal(0.0, 0.05) + 0.05 * old,
        rib_size=size * rng.normal(1.0, 0.08),
        rib_slope=rng.normal(1.0, 0.12) * (1 + 0.1 * old),
        clavicle_tilt=rng.normal(0.16, 0.08),
        bubble=0.0 if rng.random() < 0.25 else float(np.clip(rng.normal(27, 9), 10, 48)),
        bone=(1.05 - 0.25 * old if not male else 1.08 - 0.14 * old) * rng.normal(1, 0.06),
        mediastinum=size * (24 + 2.5 * heavy + 3 * old + rng.normal(0, 2.0)),
        flare=rng.normal(0.0, 0.05),
        seed=int(rng.integers(2**31)),
    )


def lateral(body: Body, u: np.ndarray) -> np.ndarray:
    """Half width of the lungs, mm, at the heights u (0 apex, 1 top of the right hemidiaphragm)."""
    return body.width * LATERAL(u) * (1 + body.flare * (np.clip(u, 0, 1.2) - 0.7))


def borders(body: Body, breath: float) -> tuple[Curve, Curve]:
    """Outline of heart and great vessels: distance of the right and the left border from the midline over the height.

    From above, right: neck vessels, superior vena cava, right atrium, inferior vena cava; left: subclavian artery, aortic
    arch, the window under it, pulmonary trunk, atrial appendage, left ventricle (Felson 1973). `breath` is the lung
    height over that of a full breath: a heart lies wider on a high diaphragm.
    """
    rng = np.random.default_rng(body.seed + 3)
    m = body.mediastinum
    heart = 2 * body.width * body.heart_ratio * (1 + 0.10 * (1 - min(breath, 1)))
    right = max(heart * np.clip(rng.normal(0.265, 0.03), 0.18, 0.35), 1.08 * m)  # the vessels above are no wider
    left = heart - right
    upright = body.heart_angle
    big = np.clip((body.heart_ratio - 0.47) / 0.2, 0, 1)  # a large heart is also higher and rounder
    lift = float(np.clip(0.04 * big + 0.03 * (body.heart_tall - 1) / 0.08, -0.05, 0.06))
    bumps = 1 + rng.normal(0, 0.045, 24)
    knob = float(np.clip(body.aorta_reach + 7, 1.10 * m, 1.50 * m))
    trunk = max(m * 1.32 * bumps[0], 0.40 * left)
    left_knots = [
        (-0.6, 0.80 * m),
        (-0.05, 1.0 * m * bumps[1]),
        (0.08, 1.02 * m * bumps[2]),
        (0.17, 1.10 * m * bumps[3]),  # subclavian artery
        (0.195, 0.5 * (1.05 * m + knob)),
        (0.265, knob),
        (0.325, 0.5 * (knob + 1.22 * m)),  # aortic arch
        (0.365, min(1.2 * m * bumps[4], 0.97 * knob)),  # the window under it
        (0.41, trunk),
        (0.48 - lift, max(trunk * 1.03, (0.42 + 0.10 * big) * left)),  # pulmonary trunk, appendage
        (0.60 - lift, (0.61 + 0.06 * (1 - upright) + 0.08 * big) * left * bumps[5]),  # left ventricle from here on
        (0.74 - lift, (0.80 + 0.05 * (1 - upright) + 0.03 * big) * left * bumps[6] ** 0.4),
        (0.88, (0.94 + 0.03 * (1 - upright)) * left),
        (0.99, left),
        (1.10, 0.96 * left),
        (1.4, 0.6 * left),
    ]
    right_knots = [
        (-0.6, 0.80 * m),
        (-0.05, 1.0 * m * bumps[7]),
        (0.08, 1.03 * m * bumps[8] + 1),
        (0.22, 0.93 * m * bumps[9] + 2),
        (0.33, 1.0 * m * bumps[10] + 2),  # superior vena cava
        (0.45, max(0.72 * right, 1.03 * m) * bumps[11]),
        (0.60 - lift, 0.86 * right * bumps[12]),  # right atrium
        (0.74 - lift / 2, right),
        (0.86, 0.98 * right),
        (0.96, 0.90 * right * bumps[13]),
        (1.08, 0.84 * right),
        (1.4, 0.6 * right),  # inferior vena cava
    ]
    return tuple(Curve(*np.transpose(knots)) for knots in (right_knots, left_knots))


def heart_ratio(body: Body, breath: float) -> float:
    """Cardiothoracic ratio of the body itself: widest right and left extent of the heart over the inner chest width."""
    u = np.linspace(0.45, 1.0, 200)
    right, left = borders(body, breath)
    return float((right(u).max() + left(u).max()) / (2 * lateral(body, np.linspace(0.3, 1.1, 200)).max()))


def ribs(body: Body) -> np.ndarray:
    """Center lines (24, 300, 3) of the ribs: round the back, down and forward to the cartilage.

    A rib leaves the spine slightly upwards, falls over its lateral arch and ends several centimetres lower; the fall
    grows from the first to the eighth.
    """
    rng = np.random.default_rng(body.seed)
    draws = rng.standard_normal((12, 8))  # for each pair: common height, slope; for each side: height, slope, width
    number = np.arange(12)[:, None]
    side = np.array([-1, 1])
    own, tilt, wide = draws[:, 2::3], draws[:, 3::3], draws[:, 4::3]  # (12, 2)
    start = (number - 0.62) * (body.height / 9.3) + 1.6 * draws[:, :1] + own
    steep = body.rib_slope * (1 + 0.05 * draws[:, 1:2])
    fall = steep * body.height * (0.20 + 0.030 * np.minimum(number, 7)) * (1 + 0.03 * tilt)
    fallen, rise, behind, out, ahead = _rib_course()
    y = start[..., None] + fall[..., None] * fallen / 2 - rise
    u = y / body.height
    cage = body.width * RIB_CAGE(np.clip(u, -0.2, 1.4)) * (1 + body.flare * (np.clip(u, 0, 1.2) - 0.7))
    x = side[:, None] * (behind + (cage - 7 + 0.8 * wide[..., None]) * out)
    z = -body.depth * DEPTH(np.clip(u + 0.08, 0.02, 1.4)) * 1.06 * ahead - 6
    return np.stack([x, y, z]).reshape(3, 24, 300).transpose(1, 2, 0)


@lru_cache(maxsize=1)
def _rib_course() -> tuple[np.ndarray, ...]:
    """What the angle round the chest, which all people share, makes of each pair of ribs: arrays (12, 1, 300)."""
    number = np.arange(12)
    reach = np.select([number < 10, number == 10], [0.82, 0.60], 0.42)
    angle = np.stack([np.linspace(0.10, end, 300) for end in np.pi * reach * (1 - 0.010 * number)])[:, None]
    lift = (5 + 0.4 * number)[:, None, None] * np.sin(np.clip(angle * 2.0, 0, np.pi))
    return 1 - np.cos(angle**1.05), lift, 12 * np.cos(angle / 2), np.sin(angle) ** 0.85, np.cos(angle)


def clavicles(body: Body, lift: float) -> np.ndarray:
    """Center lines (2, 100, 3) from the sternal end; `lift` raises the outer ends, mm (arms up or down)."""
    rng = np.random.default_rng(body.seed + 7)
    t = ramp(0, 1, 100)
    bow = rng.normal(9, 2.5)
    lines = []
    for side in (-1, 1):
        inner, outer = 13.0, body.shoulder * 0.76
        x = side * (inner + (outer - inner) * t)
        rise = (body.clavicle_tilt + rng.normal(0, 0.02)) * outer + lift
        y = 0.125 * body.height - rise * t - bow * 0.25 * np.sin(np.pi * t) - bow * 0.45 * np.sin(2 * np.pi * t)
        z = 52 - 62 * t + 10 * np.sin(2 * np.pi * t)
        lines.append(np.stack([x, y, z], -1))
    return np.stack(lines)


def hilum(body: Body, side: int) -> np.ndarray:
    """Position (3,) of the root of the lung; side -1 is the patient's right, the lower one."""
    return np.array(
        [side * (body.mediastinum + (15 if side < 0 else 17)) + body.shift, body.height * (0.46 if side < 0 else 0.42), -5.0]
    )


def vessel_tree(body: Body, side: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pulmonary vessels of one lung, generation by generation.

    Returns
    -------
    list of (points (branches, steps, 3), radii (branches, steps - 1)), mm
        Each branch tapers and splits into two; their radii follow Murray's law, r^3 = a^3 + b^3, with random shares.
    """
    root = hilum(body, side)
    count = 14
    # Directions fan out from straight up over the side to straight down: most vessels go to the bases.
    fan = np.linspace(-1.35, 1.5, count) + rng.normal(0, 0.13, count)
    # They leave the interlobar artery one after the other and not from one point.
    start = root + np.stack(
        [side * rng.normal(3, 4, count), np.sin(fan) * 24 + rng.normal(4, 6, count), rng.normal(0, 10, count)], -1
    )
    depth = rng.normal(0, 0.55, count)
    direction = _unit(np.stack([side * np.cos(fan), np.sin(fan), depth], -1))
    up = np.clip(-np.sin(fan), 0, 1)
    radius = (3.5 + 0.9 * np.clip(np.sin(fan), 0, 1) - 0.7 * up) * rng.uniform(0.75, 1.15, count)
    edge = np.where(np.abs(np.sin(fan)) > 0.6, 0.42 * body.height, body.width - body.mediastinum)
    length = edge * rng.uniform(0.12, 0.27, count)
    tree = []
    for steps in (22, 18, 15, 12, 10, 9):  # about 1.5 mm each
        t = ramp(0, 1, steps)
        taper = ramp(1.05, 0.85, steps - 1)
        bend = rng.normal(0, 0.34, start.shape)
        bend[:, 1] += 0.12 * np.sign(direction[:, 1])
        wave = rng.normal(0, 0.035, start.shape).T[..., None] * np.sin(2 * np.pi * t)
        # Coordinates first: three long rows are much faster than many short ones.
        points = start.T[..., None] + (direction.T[..., None] * t + bend.T[..., None] * t**2 / 2 + wave) * length[:, None]
        points[2] = np.clip(points[2], -0.9 * body.depth, 0.9 * body.depth)
        points = points.transpose(1, 2, 0)
        tree.append((points, radius[:, None] * taper))
        heading = _unit(direction + bend)
        turn = rng.normal(0.55, 0.2, len(start))
        across = _cross(heading, rng.normal(size=heading.shape) * [0.35, 0.35, 1.0])
        across /= _length(across) + 1e-9
        flow = rng.uniform(0.25, 0.75, len(start))  # share of the flow that the first daughter takes, r^3
        angle = turn * (1 - flow)  # the thicker daughter turns less
        first = heading * np.cos(angle)[:, None] + across * np.sin(angle)[:, None]
        angle = 1.4 * turn * flow
        second = heading * np.cos(angle)[:, None] - across * np.sin(angle)[:, None]
        start = np.repeat(points[:, -1], 2, 0)
        direction = _unit(np.stack([first, second], 1).reshape(-1, 3))
        radius = (0.93 * radius[:, None] * np.stack([flow, 1 - flow], 1) ** (1 / 3)).ravel()
        length = np.repeat(length, 2) * 0.83 * rng.uniform(0.6, 1.3, 2 * len(length))
    return tree


_latest_trees: dict[tuple, tuple] = {}  # one patient's


def vessel_trees(body: Body) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.random.Generator]:
    """Pulmonary vessels of both lungs, and the generator that drew them; most X-rays of a patient share them."""
    rng = np.random.default_rng(body.seed + 1)
    key = (body.seed, body.height, body.width, body.depth, body.mediastinum, body.shift)  # all that they depend on
    branches, state = _latest_trees.get(key, (None, None))
    if branches is None:
        branches = [generation for side in (-1, 1) for generation in vessel_tree(body, side, rng)]
        _latest_trees.clear()
        _latest_trees[key] = branches, rng.bit_generator.state
    else:
        rng.bit_generator.state = state
    return branches, rng


def _length(vectors: np.ndarray) -> np.ndarray:
    """Lengths (n, 1) of (n, 3)."""
    return np.sqrt((vectors * vectors).sum(1, keepdims=True))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / _length(vectors)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`numpy.cross` of (n, 3), in a fifth of its time."""
    ahead, behind = [1, 2, 0], [2, 0, 1]
    return a[:, ahead] * b[:, behind] - a[:, behind] * b[:, ahead]
