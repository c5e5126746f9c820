"""The 14 findings of ChestX-ray14 as signs on a film.

Each finding has two steps. `prepare` changes the person (volume loss, a bigger heart, a flatter diaphragm) and chooses
side, place and size; `draw` adds opacity or air to the scene and returns the map that the finding's box encloses.
The signs are those of Hansell et al., "Fleischner Society: Glossary of Terms for Thoracic Imaging", Radiology 2008, and
Felson, Chest Roentgenology, 1973.
"""

from typing import Any

import cv2
import numpy as np

from data.chest_simulator import anatomy
from data.chest_simulator import projection as physics
from data.chest_simulator.curves import ramp

Plan = dict[str, Any]


def prepare(name: str, body: anatomy.Body, setup, severity: float, rng: np.random.Generator) -> Plan:
    """Choose where and how a finding lies and change `body` accordingly, in place.

    Parameters
    ----------
    name : str
        One of `data.nih.FINDINGS`.
    severity : float
        0 (subtle) to 1 (obvious).
    rng : numpy.random.Generator
        The finding's own, so that follow-up films show it in the same place.
    """
    side = int(rng.choice([-1, 1]))
    plan: Plan = {"side": side, "a": rng.random(8).tolist(), "g": rng.standard_normal(8).tolist(), "seed": int(rng.integers(2**31))}
    a = plan["a"]
    if name == "Atelectasis":
        plan["kind"] = "plate" if a[0] < 0.5 else "lobe"
        loss = (0.35 if plan["kind"] == "plate" else 1.0) * (0.5 + severity)
        body.raise_dome[side] += 18 * loss
        body.shift += side * 11 * loss
    elif name == "Cardiomegaly":
        body.heart_ratio = max(body.heart_ratio, 0.525 + 0.15 * severity)
        body.heart_angle *= 0.7
    elif name == "Effusion":
        if a[0] < (0.25 if setup.view == "PA" else 0.4) and severity > 0.2:
            plan["both"] = True
        body.shift -= side * max(0.0, severity - 0.7) * 30
    elif name == "Edema":
        body.upper_vessels *= 1.3 + 0.4 * severity
        body.vessel_size *= 1.1 + 0.15 * severity
        body.heart_ratio = max(body.heart_ratio, 0.46 + 0.08 * a[1])
    elif name == "Emphysema":
        body.height *= 1.04 + 0.12 * severity
        body.dome *= 0.85 - 0.5 * severity
        body.heart_ratio *= 0.92 - 0.12 * severity
        body.lung_density *= 0.92 - 0.36 * severity
        body.vessel_size *= 0.90 - 0.12 * severity
        body.depth *= 1.05 + 0.06 * severity
    elif name == "Fibrosis":
        body.height *= 0.95 - 0.10 * severity
        body.raise_dome[-1] += 5 + 8 * severity
        body.raise_dome[1] += 5 + 8 * severity
    elif name == "Pneumothorax":
        body.shift -= side * max(0.0, severity - 0.75) * 50
        plan["deep"] = a[0] < 0.35
        if plan["deep"]:
            body.raise_dome[side] -= 14 * severity
    return plan


def draw(name: str, scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a finding that `prepare` planned into the scene; returns the map (n, n) that its box encloses."""
    return _DRAW[name](scene, plan, severity, rng)


# ---------------------------------------------------------------------------------------------------------------------
# Shapes
# ---------------------------------------------------------------------------------------------------------------------


def _step(value: np.ndarray, soft: float) -> np.ndarray:
    """0 below, 1 above zero, over about `soft` mm on either side."""
    return (1 / (1 + np.exp(np.clip(-value / np.float32(soft), -30, 30)))).astype(np.float32)


def _blob(
    scene,
    centre: tuple[float, float],
    axes: tuple[float, float],
    power: float = 2.0,
    ragged: float = 0.0,
    rng: np.random.Generator | None = None,
    grain: float = 30.0,
) -> np.ndarray:
    """A soft ellipse, 1 in the middle; `ragged` shakes its edge by noise of grain size `grain` mm."""
    q = np.sqrt(
        ((scene.x - np.float32(centre[0])) / np.float32(axes[0])) ** 2
        + ((scene.y - np.float32(centre[1])) / np.float32(axes[1])) ** 2
    )
    if ragged:
        q = q + np.float32(ragged) * physics.fractal(rng, scene.n, grain / scene.pixel, 4)
    return np.exp(-(np.maximum(q, 0) ** np.float32(power))).astype(np.float32)


def _noise(scene, rng: np.random.Generator, grain: float, octaves: int = 4) -> np.ndarray:
    return physics.fractal(rng, scene.n, grain / scene.pixel, octaves, 0.6)


def _add(scene, thickness: np.ndarray) -> np.ndarray:
    """Replace lung by tissue, at most what lung there is; returns what was added, mm."""
    before = np.minimum(scene.fluid, scene.lung)
    scene.fluid += thickness
    return np.minimum(scene.fluid, scene.lung) - before


def _lobe(scene, side: int, which: str, soft: float = 3.0) -> np.ndarray:
    """A lobe's share of the rays, 0 to 1: upper (down to the minor fissure), middle, lower."""
    h, w = scene.height, scene.body.width
    lateral = side * scene.x / w
    inside = (scene.lungs[side] > 0).astype(np.float32)
    bent = 0.012 * h * np.sin(np.float32(4) * lateral + np.float32(scene.body.seed % 6))  # no fissure is straight
    if which == "upper":
        return inside * _step((0.47 - 0.06 * lateral) * h + bent - scene.y, soft)
    if which == "middle":
        return inside * _step(scene.y - 0.47 * h - bent, soft) * _step((0.72 - lateral) * 0.6 * w, 12.0) * 0.75
    return inside * _step(scene.y - (0.50 + 0.10 * (1 - lateral)) * h, 10.0) * np.float32(0.9)


def _bronchogram(scene, side: int, seed: int, region: np.ndarray) -> np.ndarray:
    """Air-filled bronchi, mm, that show within consolidated lung."""
    rng = np.random.default_rng(seed)
    air = np.zeros((scene.n, scene.n), np.float32)
    for level, (points, _) in enumerate(anatomy.vessel_tree(scene.body, side, rng)[:4]):
        points = points * [1, scene.height / scene.body.height, 1]
        physics.tubes(scene.canvas, points, (2.6, 2.0, 1.5, 1.1)[level], onto=air)
    return air * region


# ---------------------------------------------------------------------------------------------------------------------
# Findings
# ---------------------------------------------------------------------------------------------------------------------


def _atelectasis(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    side, a, g, h, w = plan["side"], plan["a"], plan["g"], scene.height, scene.body.width
    if plan["kind"] == "plate":
        total = np.zeros((scene.n, scene.n), np.float32)
        for k in range(1 + int(a[1] * 2.5)):
            middle = np.array(
                [side * w * (0.42 + 0.22 * (a[2 + k] - 0.5)), scene.dome_top[side] - 14 - 22 * k - 14 * a[3 + k], 0.0]
            )
            reach, angle = 26 + 30 * a[4] + 8 * severity, 0.30 * g[k] + 0.1 * side
            t = ramp(-1, 1, 80)
            line = middle + np.column_stack(
                [reach * t * np.cos(angle), reach * t * np.sin(angle) + 4 * g[k + 2] * (1 - t**2), 0 * t]
            )
            radius, ends = 1.3 + 1.6 * severity * a[6], np.sqrt(1 - t[1:] ** 2)[None]
            physics.tubes(scene.canvas, line[None], radius, ends, onto=total, factor=3.5 + 4 * severity)
        haze = _blob(scene, (side * w * 0.45, scene.dome_top[side] + 2), (0.42 * w, 26)) * (10 + 16 * severity)
        return _add(scene, (total + haze) * (scene.lungs[side] > 0))
    upper = a[1] < 0.3
    if upper:
        region = _lobe(scene, side, "upper", 2.5) * _step(0.36 * h + 0.10 * h * (1 - side * scene.x / w) - scene.y, 4.0)
    else:  # a lower lobe folds to a wedge behind the heart, its edge falling from the hilum to the diaphragm
        edge = w * (0.30 + 0.10 * a[2]) + 0.42 * (scene.y - 0.55 * h)
        region = _step(edge - side * scene.x, 4.0) * _step(scene.y - 0.52 * h, 9.0) * (scene.lungs[side] > 0)
    cloud = 1 + 0.2 * _noise(scene, rng, 30)
    return _add(scene, region * cloud * (0.28 + 0.45 * severity) * scene.lungs[side] + region * 8)


def _cardiomegaly(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    return (scene.heart_chord > 3).astype(np.float32)


def _effusion(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    total = np.zeros((scene.n, scene.n), np.float32)
    a, w = plan["a"], scene.body.width
    sides = (-1, 1) if plan.get("both") else (plan["side"],)
    for k, side in enumerate(sides):
        amount = severity if k == 0 or not plan.get("both") else severity * (0.5 + 0.5 * a[1])
        top = scene.dome_top[side]
        level = top + scene.body.dome * 0.62 - (15 + 100 * amount**2)
        lung = scene.lungs[side]
        if scene.setup.view == "AP" and a[2] < 0.45:  # supine: the fluid lies behind the lung, a veil
            veil = _step(scene.y - (level - 30), 32.0)
            total += veil * (0.10 + 0.38 * amount) * lung + _step(scene.y - level - 12, 8.0) * 0.35 * lung
            continue
        lateral = np.clip(side * scene.x / w, 0, 1.05)
        # The meniscus climbs along the wall because the film looks through more fluid there.
        climb = (30 + 26 * amount) * (np.clip((lateral - 0.45) / 0.55, 0, 1) ** 2.2) + 8 * np.clip(1 - lateral / 0.35, 0, 1) ** 2
        depth = _step(scene.y - (level - climb + 14), 4.5)
        wall = _step(scene.y - (level - climb * 1.6 - 6), 9.0) * np.exp(-np.clip(scene.wall_distance[side], 0, None) / 9) * 0.5
        total += np.maximum(depth * 0.93, wall) * lung
    return _add(scene, total)


def _infiltration(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    a, h, w = plan["a"], scene.height, scene.body.width
    total = np.zeros((scene.n, scene.n), np.float32)
    cloud = np.clip(0.9 + 0.32 * _noise(scene, rng, 26), 0, None)
    sides = (-1, 1) if a[0] < 0.4 else (plan["side"],)
    for k, side in enumerate(sides):
        for j in range(2):
            centre = (side * w * (0.36 + 0.34 * a[1 + j]), h * (0.40 + 0.48 * a[(3 + j + 2 * k) % 8]))
            total += _blob(scene, centre, (w * (0.24 + 0.18 * a[5]), h * (0.14 + 0.10 * a[6])), 1.8) * (scene.lungs[side] > 0)
    return _add(scene, np.minimum(total, 1.2) * cloud * (6 + 23 * severity))


def _mass(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    return _ball(scene, plan, rng, (31 + 44 * severity**1.3) / 2, 0.12, 1.25)


def _nodule(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    count = 1 if plan["a"][0] < 0.65 else 2 + int(3 * plan["a"][1])
    total = np.zeros((scene.n, scene.n), np.float32)
    for k in range(count):
        turned = dict(plan, **{key: plan[key][-k:] + plan[key][:-k] for key in "ag"})
        if k:
            turned["side"] = plan["side"] if plan["a"][k] < 0.5 else -plan["side"]
        total += _ball(scene, turned, rng, (15 + 15 * severity) / 2 * (1 if k == 0 else 0.8), 0.05, 1.25)
    return total


def _ball(scene, plan: Plan, rng: np.random.Generator, radius: float, lobes: float, deep: float) -> np.ndarray:
    """A solid body of about the given radius in a lung, with a lobulated edge; `deep` times as deep as wide."""
    a, g, side = plan["a"], plan["g"], plan["side"]
    h, w = scene.height, scene.body.width
    tall = 0.14 + 0.66 * a[2]
    reach = w * float(anatomy.LATERAL(tall)) - radius * 0.8
    centre = (side * (reach * (0.42 + 0.52 * a[3])), h * tall)
    x, y = scene.x - np.float32(centre[0]), scene.y - np.float32(centre[1])
    angle = np.arctan2(y, x)
    edge = 1 + lobes * (np.sin(2 * angle + 6 * a[4]) + 0.7 * np.sin(3 * angle + 6 * a[5]) + 0.4 * np.sin(5 * angle + 6 * a[6]))
    q = ((x / (1 + 0.15 * g[0] * 0.7)) ** 2 + y**2) / (np.float32(radius) * edge) ** 2
    chord = (2 * deep * radius * np.sqrt(np.maximum(1 - q, 0))).astype(np.float32)
    chord = cv2.GaussianBlur(chord, (0, 0), (1.2 + 1.6 * a[7]) / scene.pixel)
    added = np.minimum(chord, np.maximum(scene.lung - scene.solid, 0))
    scene.solid += added
    return added if added.max() > 1 else chord


def _pneumonia(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    a, h, w, side = plan["a"], scene.height, scene.body.width, plan["side"]
    which = ("upper", "middle", "lower")[0 if a[0] < 0.25 else 1 if a[0] < 0.45 else 2]
    lobe = _lobe(scene, side, which, 2.5 if a[4] < 0.25 else 22.0)  # most stop short of the fissure
    centre = {"upper": (0.45, 0.28), "middle": (0.36, 0.60), "lower": (0.48, 0.78)}[which]
    area = _blob(scene, (side * w * (centre[0] + 0.12 * (a[1] - 0.5)), h * centre[1]), (w * (0.34 + 0.12 * a[2]), h * 0.19), 2.6)
    patches = _step(_noise(scene, rng, 22) + 0.5 + 0.5 * severity, 0.7)
    return _add(scene, lobe * area * (0.25 + 0.75 * patches) * (18 + 42 * severity))


def _consolidation(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    a, h, w, side = plan["a"], scene.height, scene.body.width, plan["side"]
    which = ("upper", "middle", "lower")[0 if a[0] < 0.3 else 1 if a[0] < 0.5 else 2]
    lobe = _lobe(scene, side, which, 2.0 if a[4] < 0.45 else 14.0)
    centre = {"upper": (0.50, 0.26), "middle": (0.34, 0.60), "lower": (0.50, 0.80)}[which]
    area = _blob(
        scene,
        (side * w * centre[0], h * centre[1]),
        (w * (0.30 + 0.3 * severity * a[5]), h * (0.16 + 0.16 * severity * a[6])),
        2.6,
        0.2,
        rng,
        45,
    )
    region = lobe * area
    thickness = region * (0.26 + 0.46 * severity) * scene.lungs[side] * (1 + 0.10 * _noise(scene, rng, 24))
    air = _bronchogram(scene, side, plan["seed"], region) * (0.3 + 0.8 * a[7])
    scene.vessel_share *= 1 - 0.9 * region
    return _add(scene, np.maximum(thickness - air, 0))


def _pneumothorax(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    side, a, h, w = plan["side"], plan["a"], scene.height, scene.body.width
    lung = scene.lungs[side]
    scene.tube_side = side
    gap = 9 + 62 * severity**1.25
    u = scene.y / h
    # The lung falls away from the wall, most at the top.
    away = gap * (1.15 - 0.75 * np.clip(u, 0, 1)) * np.clip((1.12 - u) / 0.25, 0, 1)
    apex = 0.9 * gap + 6
    lower = np.clip((scene.y - apex) / h, -0.02, 1.4)
    edge = w * anatomy.LATERAL(lower).astype(np.float32) - away * 0.85
    edge = edge - 60 * np.clip((apex - scene.y) / 12, 0, 1)
    inside = (edge - side * scene.x).astype(np.float32)
    free = _step(-inside, 0.7) * (lung > 0)
    # Its own chord where the lung ends: a rounded edge, then the pleural line that is seen tangentially.
    rounded = np.sqrt(np.clip(inside / 45, 0, 1))
    line = np.exp(-((inside / 1.1) ** 2)) * (lung > 8)
    lost = lung * (free * 0.95 + (1 - free) * (1 - rounded) * 0.55)
    scene.gas += lost
    scene.vessel_share *= np.clip(1 - 1.2 * free, 0, 1)
    scene.line += (line * (0.05 + 0.03 * a[4])).astype(np.float32)
    scene.fluid += (1 - free) * (lung > 0) * (4 + 22 * severity**2) * rounded
    return free * (lung > 4)


def _edema(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    a, h, w = plan["a"], scene.height, scene.body.width
    cloud = np.clip(1 + 0.22 * _noise(scene, rng, 18), 0, None)
    haze = np.zeros((scene.n, scene.n), np.float32)
    lines = np.zeros((scene.n, scene.n), np.float32)
    for side in (-1, 1):
        share = 1.0 if a[0] < 0.7 or side == plan["side"] else 0.6
        haze += (
            share
            * _blob(scene, (side * 0.36 * w, 0.50 * h), (w * (0.34 + 0.12 * a[2]), h * (0.30 + 0.08 * a[3])), 2.4)
            * (scene.lungs[side] > 0)
        )
        haze += 0.25 * share * (scene.lungs[side] > 0) * _step(scene.y - 0.45 * h, 40)
        count = int(5 + 9 * severity)  # septal lines reach the pleura at the bases
        y0 = h * rng.uniform(0.62, 0.95, count)
        start = np.stack([side * (w * anatomy.LATERAL(y0 / h) - 2), y0, np.zeros(count)], -1)
        end = start - np.stack([side * rng.uniform(10, 22, count), rng.normal(0, 2.5, count), np.zeros(count)], -1)
        t = ramp(0, 1, 30)[None, :, None]
        physics.tubes(scene.canvas, start[:, None] + (end - start)[:, None] * t, 0.6, onto=lines, factor=5)
    return _add(scene, haze * cloud * (5 + 32 * severity) + lines * (0.6 + severity))


def _emphysema(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    a, h, w = plan["a"], scene.height, scene.body.width
    for k in range(int(4 * severity * a[0] + 1)):  # bullae in the upper lungs
        side = 1 if a[k + 1] < 0.5 else -1
        r = 14 + 22 * a[k + 2]
        centre = (side * w * (0.45 + 0.25 * a[k + 3]), h * (0.14 + 0.25 * a[k + 2]))
        bulla = physics.ellipsoid(scene.x, scene.y, centre, (r, r * 1.1, r)) * (scene.lungs[side] > 0)
        scene.gas += bulla * 1.2
        scene.vessel_share *= 1 - 0.8 * np.clip(bulla / r, 0, 1)
    shown = (scene.lung > 12).astype(np.float32)
    if scene.setup.view == "AP" and a[7] < 0.4:  # air under the skin: reports, and so NIH's labels, call it emphysema too
        side = 1 if a[6] < 0.5 else -1
        outside = np.clip(-scene.wall_distance[side] / 8, 0, 1) * np.clip((75 + scene.wall_distance[side]) / 20, 0, 1)
        streaks = (
            np.clip(_noise(scene, rng, 16, 3) - 0.3, 0, 1.5)
            * outside
            * _step(0.75 * h - scene.y, 25)
            * _step(scene.y + 0.2 * h, 20)
        )
        scene.void += streaks * (8 + 14 * severity)
        shown = np.maximum(shown, (streaks > 0.2).astype(np.float32))
    return shown


def _fibrosis(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    h, w = scene.height, scene.body.width
    total = np.zeros((scene.n, scene.n), np.float32)
    # Thickened septa that cross: the ridges of noise, coarse and fine ones over one another.
    net = sum(np.exp(-((_noise(scene, rng, grain, 3) / 0.28) ** 2)) for grain in (11, 7))
    patchy = np.clip(0.9 + 0.5 * _noise(scene, rng, 60, 2), 0.1, 2)
    for side in (-1, 1):
        less = 1.0 if plan["a"][0] < 0.6 or side == plan["side"] else 0.55
        reach = (0.20 + 0.25 * severity) * h * (0.7 + 0.6 * plan["a"][1])
        basal = np.exp(-(np.clip((scene.dome_top[side] + 10 - scene.y) / np.float32(reach), 0, None) ** 1.5))
        outer = 0.35 + 0.65 * np.clip(side * scene.x / w, 0, 1) ** 1.5
        total += less * basal * outer * patchy * (net * (4 + 9 * severity) + 3 + 8 * severity) * (scene.lungs[side] > 0)
    return _add(scene, total)


def _pleural_thickening(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    side, a, h = plan["side"], plan["a"], scene.height
    apical = a[0] < 0.45
    lung = scene.lungs[side]
    wave = 1 + 0.22 * _noise(scene, rng, 45, 2)
    thick = (6 + 13 * severity) * wave
    if apical:
        along = _step(0.20 * h + 0.1 * h * severity - scene.y, 7.0)
        distance = np.minimum(scene.wall_distance[side], scene.y * 0.9 + 2)
        thick = thick * 1.25
    else:
        low, high = h * (0.35 + 0.2 * a[1]), h * (0.75 + 0.25 * a[2])
        along = _step(scene.y - low, 9.0) * _step(high - scene.y, 9.0)
        distance = scene.wall_distance[side]
    band = _step(thick - distance, 2.0) * along * (lung > 0)
    return _add(scene, (band * (16 + 34 * severity) * np.clip(lung / 40, 0, 1)).astype(np.float32))


def _hernia(scene, plan: Plan, severity: float, rng: np.random.Generator) -> np.ndarray:
    a, g, h = plan["a"], plan["g"], scene.height
    r = 29 + 25 * severity
    centre = (8 + 10 * g[0] + scene.body.shift, h + 8 - (0.55 + 0.25 * a[2]) * r)
    wobble = 1 + 0.06 * _noise(scene, rng, 40, 2)
    ball = physics.ellipsoid(centre[0] + (scene.x - centre[0]) * wobble, scene.y, centre, (r * 1.15, r * 0.9, r * 0.8))
    ball = cv2.GaussianBlur(ball, (0, 0), 2.0 / scene.pixel)
    scene.solid += ball * np.float32(0.55 + 0.3 * severity)
    level = centre[1] + r * (0.5 * (a[0] - 0.5))
    gas = physics.ellipsoid(scene.x, scene.y, centre, (r * 0.95, r * 0.74, r * 0.6)) * (0.45 + 0.5 * severity)
    if a[1] < 0.75 and scene.setup.view == "PA":
        gas = gas * np.clip((level - scene.y) / 1.8 + 0.5, 0, 1)  # upright: an air-fluid level
    elif a[1] > 0.9:
        gas = gas * 0.15
    scene.void += cv2.GaussianBlur(gas, (0, 0), 0.8 / scene.pixel)
    return ball


_DRAW = {
    "Atelectasis": _atelectasis,
    "Cardiomegaly": _cardiomegaly,
    "Effusion": _effusion,
    "Infiltration": _infiltration,
    "Mass": _mass,
    "Nodule": _nodule,
    "Pneumonia": _pneumonia,
    "Pneumothorax": _pneumothorax,
    "Consolidation": _consolidation,
    "Edema": _edema,
    "Emphysema": _emphysema,
    "Fibrosis": _fibrosis,
    "Pleural_Thickening": _pleural_thickening,
    "Hernia": _hernia,
}
