"""The bones of a simulated chest film: attenuation above that of the soft tissue whose place they take."""

import cv2
import numpy as np

from data.chest_simulator import anatomy
from data.chest_simulator import projection as physics
from data.chest_simulator.curves import ramp
from data.chest_simulator.projection import MU_BONE, MU_MARROW, MU_SOFT

CORTEX, MARROW = MU_BONE - MU_SOFT, MU_MARROW - MU_SOFT


def skeleton(scene) -> np.ndarray:
    """All bones of a `data.chest_simulator.scene.Scene`, (n, n) float32, dimensionless (line integral of attenuation)."""
    body = scene.body
    bone = _ribs(scene)
    _clavicles(scene, bone)
    _spine(scene, bone)
    for side in (-1, 1):
        _shoulder(scene, side, bone)
    if scene.setup.view == "AP" and scene.setup.offset[1] < -78:
        bone += _jaw(scene)
    return bone * np.float32(body.bone)


def _ribs(scene) -> np.ndarray:
    body, canvas = scene.body, scene.canvas
    rib = anatomy.ribs(body)
    rib[..., 1] += (scene.height - body.height) * (
        0.10 + 0.12 * np.clip(rib[..., 2] / body.depth + 0.5, 0, 1)
    )  # they sink in front
    t = np.linspace(0, 1, rib.shape[1] - 1)[None]
    rng = np.random.default_rng(body.seed + 17)
    # Flat in front, where the cartilage begins; each rib is a little different.
    along = 1 - 0.45 * np.clip((t - 0.35) / 0.4, 0, 1) - 0.3 * np.exp(-(((t - 0.56) / 0.10) ** 2))
    ends = np.clip((1 - t) / 0.08, 0, 1) * along * rng.uniform(0.85, 1.15, (len(rib), 1))
    ends = ends * (1 + 0.10 * np.sin(9 * t + rng.uniform(0, 6, (len(rib), 1))))
    a, b = 3.0 * body.rib_size, 6.2 * body.rib_size
    bone = physics.tubes(canvas, rib, a, ends, b, hollow=(0.9, MARROW / CORTEX), factor=1.1 * CORTEX)
    # Cortex runs along the ray at the two edges; the lower one has a thin ridge below the groove.
    thin = np.clip(ends, 0, 1) * (0.6 + 0.4 * np.sin(13 * t + rng.uniform(0, 6, (len(rib), 1))))
    physics.tubes(canvas, rib + [0, b - 0.6, 0], 0.7, thin, onto=bone, factor=1.7 * CORTEX)
    physics.tubes(canvas, rib - [0, b - 0.8, 0], 0.8, thin, onto=bone, factor=1.2 * CORTEX)
    old = np.clip((body.age - 35) / 40, 0, 1)
    if old > 0.1 and body.seed % 3:  # calcified cartilage of the first ribs, in patches
        t = ramp(0, 1, 40)[:, None]
        for k in (*range(2 if body.seed % 2 else 14),):
            end = rib[k, -1]
            goal = np.array([np.sign(end[0]) * 18.0, end[1] - 2 - 6 * max(k // 2 - 2, 0), 62.0])
            line = end + (goal - end) * t * (0.5 if k < 2 else 0.8)
            patchy = np.clip(rng.normal(0.1, 0.5, 39), 0, 1) * old
            physics.tubes(canvas, line[None], 5.5 * body.rib_size, patchy[None], onto=bone, factor=0.5 * MARROW)
    return bone


def _clavicles(scene, bone: np.ndarray) -> None:
    body = scene.body
    line = anatomy.clavicles(body, 4 if scene.setup.view == "PA" else 14)
    t = np.linspace(0, 1, line.shape[1] - 1)
    flare = (1 + 0.7 * np.exp(-((t / 0.10) ** 2)) + 0.35 * np.exp(-(((t - 1) / 0.15) ** 2)))[None]
    size = 6.8 * (1.0 if body.sex == "M" else 0.86)
    hollow = (1.5, 1.2 * MARROW / CORTEX)
    physics.tubes(scene.canvas, line, size, flare * [[1.0], [0.95]], hollow=hollow, onto=bone, factor=1.35 * CORTEX)


def _spine(scene, out: np.ndarray) -> None:
    """Vertebral bodies with their end plates, pedicles, spinous and transverse processes."""
    body = scene.body
    x, y = scene.canvas.at(-58.0)
    spacing = body.height / 9.3
    bend = body.scoliosis * np.sin(np.pi * (y / body.height + 0.2) / 1.3)
    half = (12.0 + 6.5 * np.clip(y / body.height, -0.2, 1.4)) * (1.0 if body.sex == "M" else 0.9)
    middle = np.abs(x).argmin()
    reach = int(90 / scene.pixel)
    part = slice(max(middle - reach, 0), min(middle + reach, scene.n))
    x = x[:, part] - bend.astype(np.float32)
    q = x / half.astype(np.float32)
    phase = ((y / spacing + 0.55) % 1.0).astype(np.float32)
    to_disc = np.minimum(phase, 1 - phase) * np.float32(spacing)  # mm from the middle of the disc
    bony = np.clip((to_disc - 2.2) / 1.5, 0, 1)
    waist = 1 - 0.10 * np.sin(np.pi * phase)
    soft_edge = np.clip((1.0 - np.abs(q / waist)) / 0.3, 0, 1)
    plate = np.exp(-(((to_disc - 3.2) / 1.1) ** 2))
    bone = soft_edge * (np.float32(16 * MARROW) * bony + np.float32(1.4 * CORTEX) * plate)
    rim = np.exp(-(((np.abs(q) - 0.93) / 0.07) ** 2)) * bony * 0.35
    up = (phase - 0.40) * np.float32(spacing)
    for s in (-1, 1):
        ring = np.sqrt(((x - s * half.astype(np.float32) * 0.62) / 3.6) ** 2 + (up / 5.2) ** 2)
        rim = rim + 0.8 * np.exp(-(((ring - 1) / 0.35) ** 2))
    process = np.clip(1 - np.abs(x) / 3.0, 0, 1) * np.clip(1 - np.abs(phase - 0.74) / 0.2, 0, 1)
    transverse = np.clip(1 - (up / 4.5) ** 2, 0, 1) * np.clip((half.astype(np.float32) * 1.8 - np.abs(x)) / 8, 0, 1)
    out[:, part] += bone + (rim * 2.0 + process * 5.0 + transverse * 1.4) * np.float32(CORTEX * 0.6)
    # Manubrium and sternum: only hinted at on a frontal film.
    sx, sy = scene.canvas.at(60.0)
    plate = np.clip((22 + 8 * np.exp(-(((sy - 0.14 * body.height) / 16) ** 2)) - np.abs(sx)) / 6, 0, 1)
    tall = np.clip((0.26 * body.height - np.abs(sy - 0.36 * body.height)) / 8, 0, 1) * np.float32(0.8 * CORTEX)
    seen, across = tall[:, 0] > 0, plate.any(0)
    out[np.ix_(seen, across)] += plate[np.ix_(seen, across)] * tall[seen]


def _polygon(scene, corners: np.ndarray, z: float, rounds: int = 3) -> tuple[np.ndarray, tuple[slice, slice], np.ndarray]:
    """A rounded polygon: its inside as a map, 0 to 1, where that belongs, and its outline as a line (steps, 3)."""
    points = np.concatenate([corners, corners[:1]])
    for _ in range(rounds):  # Chaikin's rule
        a, b = points[:-1], points[1:]
        points = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 2)
        points = np.concatenate([points, points[:1]])
    points = cv2.resize(points, (2, 360), interpolation=cv2.INTER_LINEAR)  # short steps for `splat`
    outline = np.column_stack([points, np.full(len(points), z)])
    column, row = scene.canvas.project(outline)
    mask = np.zeros((scene.n, scene.n), np.uint8)
    cv2.fillPoly(mask, [np.round(np.column_stack([column, row]) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    place = tuple(slice(max(int(a.min()) - 2, 0), max(int(a.max()) + 4, 0)) for a in (row, column))
    return mask[place].astype(np.float32) * np.float32(1 / 255), place, outline


def _shoulder(scene, side: int, bone: np.ndarray) -> None:
    """Scapula with its spine, acromion and coracoid, and the humerus; outside the lungs on PA films, in them on AP films."""
    body, canvas, setup = scene.body, scene.canvas, scene.setup
    rng = np.random.default_rng([body.seed, 31, side + 1])
    turn = np.random.default_rng([setup.seed, 32, side + 1])
    portable = setup.view == "AP"
    h, w = body.height, body.width
    joint = body.shoulder * 0.78
    pull = turn.normal(-34, 10) if portable else turn.normal(16, 12)  # shoulders rolled forward draw the blades outwards
    tall = rng.normal(1, 0.07)
    # Upper angle, along the upper border to the neck of the glenoid, lateral border, lower angle, medial border.
    blade = np.array(
        [
            [w * 0.66 + pull, -0.02 * h],
            [joint - 32, 0.035 * h],
            [joint - 17, 0.045 * h],
            [joint - 15, 0.15 * h],
            [joint - 30, 0.20 * h],
            [w * 0.98 + pull * 0.85, 0.42 * h],
            [w * 0.90 + pull, 0.62 * h * tall],
            [w * 0.80 + pull, 0.54 * h * tall],
            [w * 0.68 + pull, 0.20 * h],
        ]
    ) * [side, 1]
    inside, place, outline = _polygon(scene, blade, -70.0)
    bone[place] += inside * np.float32(2.8 * CORTEX)
    border = np.full(359, 0.2)
    border[150:235] = 0.75  # the lateral border is thick
    physics.tubes(canvas, outline[None], 1.9, border[None], onto=bone, factor=1.8 * CORTEX)
    t = ramp(0, 1, 60)[:, None]
    ridge = np.array([side * (w * 0.70 + pull), 0.11 * h, -82]) + t * [side * (joint + 6 - w * 0.70 - pull), -0.13 * h, 45]
    ridge[:, 1:2] += 8 * np.sin(np.pi * t)
    thick = ramp(0.3, 1.2, 59)[None]
    physics.tubes(canvas, ridge[None], 4.2, thick, 5.0, hollow=(1.2, 0.4), onto=bone, factor=0.9 * CORTEX)
    x, y = canvas.at(-20.0)
    physics.ellipsoid(x, y, (side * (joint - 26), 0.045 * h), (9, 6.5, 7), 0.5 * side, onto=bone, factor=2.5 * MARROW)
    # Humerus: a head and a hollow shaft along the arm.
    angle = setup.arms * (1 + 0.15 * side * np.sin(setup.seed % 11))
    start = np.array([side * (joint + 5), 0.085 * h, -20.0])
    way = np.array([side * np.sin(angle), np.cos(angle), 0.05])
    shaft = start + way * ramp(4, 300, 180)[:, None] + [side * 4, 0, 0]
    thin = np.clip(ramp(0.1, 12, 179), 0, 1) * (1 + 0.4 * np.exp(-ramp(0, 8, 179)))
    hollow = (3.4, 0.6 * MARROW / CORTEX)
    physics.tubes(canvas, shaft[None], 10.5, thin[None], hollow=hollow, onto=bone, factor=1.2 * CORTEX)
    near = np.ix_(np.abs(y[:, 0] - start[1]) < 25, np.abs(x[0] - start[0]) < 25)
    head = physics.ellipsoid(x[:, near[1][0]], y[near[0][:, 0]], (start[0], start[1]), (22, 23, 20))
    bone[near] += head * np.float32(1.3 * MARROW) + np.exp(-(((head - 9) / 6) ** 2)) * np.float32(1.4 * CORTEX) * (head > 0)


def _jaw(scene) -> np.ndarray:
    """The chin that a film of a lying patient often has at its upper edge."""
    rng = np.random.default_rng(scene.setup.seed + 41)
    x, y = scene.canvas.at(40.0)
    centre, level = rng.normal(0, 14), -90 + rng.normal(0, 14)
    t = ramp(-1, 1, 120)
    arch = np.column_stack([centre + 52 * t, level + 30 - 58 * t**2, 40 - 60 * t**2])
    bone = physics.tubes(scene.canvas, arch[None], 8.0, 1.0, 13.0, hollow=(2.2, 0.5), factor=0.5 * CORTEX)
    return bone + physics.ellipsoid(x, y, (centre, level - 30), (56, 62, 60)) * np.float32(0.9 * MU_SOFT)
