"""The body of a simulated patient as a few numbers and curves. Lengths in mm; see `chest_projection` for the axes.

x = 0 is the midline, y = 0 the top of the lungs, z = 0 the middle of the chest.

Sources of the dimensions: lung height and thoracic width on PA films (Bellemare et al., Am J Respir Crit Care Med 2003); heart width
over thoracic width about 0.45, at most 0.5 in health (Danzer 1919); right hemidiaphragm 1-2 cm higher than the left,
hilar and vessel calibres (Felson, Chest Roentgenology, 1973).
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import PchipInterpolator

# Outline of a lung in units of (height, largest half width): height, lateral edge, medial edge of its cross-section
# (below the apex the two lungs and what lies between them fill one ellipse), and half depth.
_HEIGHT = [-0.02, 0.0, 0.02, 0.05, 0.10, 0.20, 0.35, 0.50, 0.70, 0.90, 1.10, 1.40]
_LATERAL = [0.40, 0.40, 0.49, 0.560, 0.645, 0.765, 0.885, 0.955, 1.00, 1.01, 1.00, 0.97]
_MEDIAL = [0.40, 0.40, 0.31, 0.25, 0.17, 0.02, -0.32, -0.62, -0.70, -0.72, -0.72, -0.70]
_DEPTH = [0.00, 0.00, 0.26, 0.39, 0.52, 0.68, 0.85, 0.96, 1.00, 1.00, 1.00, 1.00]
LATERAL = PchipInterpolator(_HEIGHT, _LATERAL)
MEDIAL = PchipInterpolator(_HEIGHT, _MEDIAL)
DEPTH = PchipInterpolator(_HEIGHT, _DEPTH)
# The rib cage follows the lung but closes above it.
RIB_CAGE = PchipInterpolator([-0.20, -0.10, 0.0, 0.10, 0.20, 0.35, 0.50, 0.70, 0.90, 1.10, 1.40],
                             [0.20, 0.30, 0.50, 0.67, 0.79, 0.90, 0.97, 1.02, 1.03, 1.02, 0.99])


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
    heart_angle: float
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
    mediastinum: float
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
    heavy = np.clip(rng.normal(0.0, 1.0), -1.8, 2.6)  # body mass, in standard deviations
    growth = 1.0 if age >= 16 else 0.62 + 0.38 * age / 16
    size = stature * growth
    old = np.clip((age - 30) / 50, 0, 1.2)
    return Body(
        sex=sex, age=age,
        height=size * rng.normal(260 if male else 240, 12),
        width=size * rng.normal(149 if male else 136, 6),
        depth=size * rng.normal(86 if male else 76, 5) * (1 + 0.05 * heavy + 0.06 * old),
        wall=max(16, (33 if male else 29) + 9 * heavy + rng.normal(0, 2)) * growth,
        fat=max(4, 10 + 6 * heavy + (3 if not male else 0)) * growth,
        left_drop=rng.normal(13, 6), dome=rng.normal(44, 5),
        heart_ratio=float(np.clip(rng.normal(0.450 + 0.02 * old + 0.006 * heavy, 0.020), 0.39, 0.49)),
        heart_angle=np.deg2rad(np.clip(rng.normal(40 - 4 * heavy, 7), 20, 58)), heart_tall=rng.normal(1.0, 0.06),
        aorta=size * (11.5 + 3.0 * old + rng.normal(0, 1)), aorta_reach=size * (25 + 9 * old + rng.normal(0, 3)),
        scoliosis=rng.normal(0, 4 + 3 * old),
        shoulder=size * (rng.normal(222 if male else 198, 9) + 5 * heavy), shoulder_slope=rng.normal(0.42, 0.07),
        neck=size * (rng.normal(62 if male else 53, 4) + 3 * heavy),
        breast=0.0 if male or age < 13 else float(np.clip(rng.normal(58 + 9 * heavy, 10), 34, 92)),
        breast_drop=rng.normal(0.0, 0.05) + 0.05 * old,
        rib_size=size * rng.normal(1.0, 0.08), rib_slope=rng.normal(1.0, 0.12) * (1 + 0.1 * old),
        clavicle_tilt=rng.normal(0.10, 0.08),
        bubble=0.0 if rng.random() < 0.25 else float(np.clip(rng.normal(27, 9), 10, 48)),
        bone=(1.05 - 0.25 * old if not male else 1.08 - 0.14 * old) * rng.normal(1, 0.06),
        mediastinum=size * (19.5 + 2.5 * heavy + 3 * old + rng.normal(0, 1.5)),
        seed=int(rng.integers(2**31)),
    )


def ribs(body: Body) -> list[np.ndarray]:
    """Center lines (24, 200, 3) of the ribs: round the back, down and forward to the cartilage."""
    rng = np.random.default_rng(body.seed)
    lines = []
    spacing = body.height / 9.5
    for side in (-1, 1):
        for number in range(12):
            reach = 0.80 if number < 10 else (0.60, 0.45)[number - 10]
            angle = np.linspace(0.10, np.pi * reach * (1 - 0.012 * number), 200)
            start = (number - 0.55) * spacing + rng.normal(0, 1.2)
            fall = body.rib_slope * body.height * (0.22 + 0.023 * min(number, 8))
            y = start + fall * (1 - np.cos(angle)) / 2 - 5 * np.sin(np.clip(angle * 2.2, 0, np.pi))
            cage = body.width * RIB_CAGE(np.clip(y / body.height, -0.2, 1.4))
            x = side * (13 * np.cos(angle / 2) + (cage + 2 - 4) * np.sin(angle) ** 0.92)
            z = -body.depth * DEPTH(np.clip(y / body.height + 0.08, 0.02, 1.4)) * 1.06 * np.cos(angle) - 6
            lines.append(np.stack([x, y, z], -1))
    return np.stack(lines)


def clavicles(body: Body, lift: float) -> np.ndarray:
    """Center lines (2, 160, 3); `lift` raises the outer ends, mm (arms up or down)."""
    t = np.linspace(0, 1, 160)
    lines = []
    for side in (-1, 1):
        inner = 17.0
        outer = body.shoulder * 0.78
        x = side * (inner + (outer - inner) * t)
        y = (0.115 * body.height - (body.clavicle_tilt * outer + lift) * t - 7 * np.sin(2 * np.pi * t)
             * (1 if t[1] > 0 else 0) * 0.8 - 8 * np.sin(np.pi * t))
        z = 52 - 62 * t + 10 * np.sin(2 * np.pi * t)
        lines.append(np.stack([x, y, z], -1))
    return np.stack(lines)


def hilum(body: Body, side: int) -> np.ndarray:
    """Position (3,) of the root of the lung; side -1 is the patient's right."""
    return np.array([side * (body.mediastinum + (9 if side < 0 else 11)) + body.shift,
                     body.height * (0.445 if side < 0 else 0.405), -5.0])


def vessel_tree(body: Body, side: int, rng: np.random.Generator, steps: int = 14) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pulmonary vessels of one lung, generation by generation.

    Returns
    -------
    list of (points (branches, steps, 3), radii (branches,)); each branch splits into two, which are thinner by
    2^(-1/3) (Murray's law) and shorter.
    """
    root = hilum(body, side)
    count = 15
    # Directions fan out from straight up over the side to straight down: most vessels go to the bases.
    fan = np.linspace(-1.38, 1.5, count) + rng.normal(0, 0.10, count)
    start = root + np.stack([rng.normal(0, 4, count), np.sin(fan) * 13 + rng.normal(0, 4, count),
                             rng.normal(0, 10, count)], -1)
    depth = rng.normal(0, 0.5, count)
    direction = np.stack([side * np.cos(fan), np.sin(fan), depth], -1)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    up = np.clip(-np.sin(fan), 0, 1)
    radius = (3.1 + 0.9 * np.clip(np.sin(fan), 0, 1) - 0.5 * up) * rng.uniform(0.8, 1.15, count)
    edge = np.where(np.abs(np.sin(fan)) > 0.6, 0.42 * body.height, body.width - body.mediastinum)
    length = edge * rng.uniform(0.20, 0.32, count)
    t = np.linspace(0, 1, steps)[None, :, None]
    tree = []
    for _ in range(6):
        bend = rng.normal(0, 0.22, start.shape)
        bend[:, 1] += 0.10 * np.sign(direction[:, 1])
        points = start[:, None] + (direction[:, None] * t + bend[:, None] * t**2 / 2) * length[:, None, None]
        points[..., 2] = np.clip(points[..., 2], -0.9 * body.depth, 0.9 * body.depth)
        tree.append((points, radius))
        heading = direction + bend
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        turn = rng.normal(0.42, 0.15, len(start))
        across = np.cross(heading, rng.normal(size=heading.shape) * [0.35, 0.35, 1.0])
        across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
        share = rng.uniform(0.35, 0.65, len(start))
        first = heading * np.cos(turn * share)[:, None] + across * np.sin(turn * share)[:, None]
        second = heading * np.cos(turn * (1 - share))[:, None] - across * np.sin(turn * (1 - share) * 1.6)[:, None]
        start = np.repeat(points[:, -1], 2, 0)
        direction = np.stack([first, second], 1).reshape(-1, 3)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        radius = np.repeat(radius, 2) * 0.72 * rng.uniform(0.8, 1.12, 2 * len(radius))
        length = np.repeat(length, 2) * 0.80 * rng.uniform(0.7, 1.2, 2 * len(length))
    return tree
