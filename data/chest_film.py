"""One simulated film: the body of `chest_anatomy` put before the detector of `chest_projection`, with its findings."""

from copy import deepcopy
from dataclasses import dataclass

import cv2
import numpy as np

from data import chest_anatomy as anatomy
from data import chest_projection as physics
from data.chest_projection import MU_BONE, MU_FAT, MU_LUNG, MU_MARROW, MU_SOFT


SEVERAL_PLACES = ("Nodule", "Effusion", "Infiltration")  # one box for each place


@dataclass
class Setup:
    """How a patient was placed and exposed for one film."""

    view: str  # "PA" or "AP"
    field: tuple[float, float]  # width and height of the film, mm; both become `size` pixels, as in NIH's files
    inspiration: float  # 1 full
    rotation: float  # about the vertical axis, radians
    tilt: float  # in the film plane, radians
    offset: tuple[float, float]  # of the film's middle and top from the patient's midline and lung tops, mm
    arms: float  # outward angle of the arms, radians
    exposure: physics.Exposure
    border: tuple[float, float, float, float]  # collimated strips left, top, right, bottom, as shares of the film
    marker: tuple[str, float, float, float, float]  # text, x and y (shares of the film), height, angle
    text: list[tuple[str, float, float]]
    leads: int
    tube: bool
    catheter: bool
    pixels: tuple[int, int]  # size of the "original" film
    spacing: float
    seed: int


def sample_setup(rng: np.random.Generator, view: str) -> Setup:
    """Draw the circumstances of one film; AP films are portable films of sick people in bed."""
    portable = view == "AP"
    pixels, spacing = [((2992, 2991), 0.143), ((2500, 2048), 0.168), ((2048, 2500), 0.168), ((3056, 2544), 0.139)][
        rng.choice(4, p=[0.58, 0.27, 0.05, 0.10] if not portable else [0.15, 0.65, 0.12, 0.08])]
    width, height = (max(p * spacing, 370) for p in pixels)
    exposure = physics.Exposure(
        photons=float(np.exp(rng.normal(np.log(4000 if not portable else 1500), 0.5))) * 30,
        scatter=float(rng.uniform(0.20, 0.50) if not portable else rng.uniform(0.5, 1.2)),
        scatter_width=float(rng.uniform(35, 60)),
        compression=float(rng.uniform(0.15, 0.60)), low=float(rng.uniform(0.0, 0.03)), high=float(rng.uniform(0.985, 1.0)),
        contrast=float(np.clip(rng.normal(3.6 if not portable else 3.2, 0.9), 1.5, 6.0)),
        brightness=float(np.clip(rng.normal(0.425, 0.065), 0.28, 0.62)),
        sharpening=float(rng.uniform(0.05, 0.6)), fog=float(min(abs(rng.normal(0, 0.06)), 0.2)), blur=float(rng.uniform(0.45, 0.8) if not portable else rng.uniform(0.6, 1.2)),
    )
    border = [0.0] * 4
    if rng.random() < (0.35 if not portable else 0.3):
        for edge in range(4):
            if rng.random() < 0.45:
                border[edge] = float(abs(rng.normal(0, 0.022)) + 0.006)
    mark = "L" if rng.random() < (0.75 if not portable else 0.55) else "R"
    left_side = mark == "R"
    text = []
    if portable and rng.random() < 0.55:
        corner = (float(rng.uniform(0.66, 0.80)), float(rng.uniform(0.05, 0.14)))
        words = [["PORTABLE"], ["PORTABLE", "AP"], ["AP", "SUPINE"], ["PORTABLE", "ERECT"], ["AP"]][rng.integers(5)]
        text = [(word, corner[0], corner[1] + 0.055 * k) for k, word in enumerate(words)]
    return Setup(
        view=view, field=(width, height),
        inspiration=float(np.clip(rng.normal(0.97 if not portable else 0.83, 0.04 if not portable else 0.07), 0.62, 1.05)),
        rotation=float(rng.normal(0, 0.03 if not portable else 0.08)),
        tilt=float(rng.normal(0, 0.012 if not portable else 0.045)),
        offset=(float(rng.normal(0, 6 if not portable else 14)), float(rng.normal(-52 if not portable else -70, 13))),
        arms=float(rng.normal(0.46, 0.12) if not portable else rng.normal(0.18, 0.07)),
        exposure=exposure, border=tuple(border),
        marker=(mark, float(rng.uniform(0.04, 0.10) if left_side else rng.uniform(0.88, 0.94)),
                float(rng.uniform(0.05, 0.16) if rng.random() < 0.8 else rng.uniform(0.2, 0.5)),
                float(rng.uniform(0.028, 0.045)), float(rng.normal(0, 0.25))),
        text=text, leads=int(rng.integers(2, 6)) if portable and rng.random() < 0.6 else 0,
        tube=bool(portable and rng.random() < 0.22), catheter=bool(rng.random() < (0.28 if portable else 0.03)),
        pixels=pixels, spacing=spacing, seed=int(rng.integers(2**31)),
    )


class Scene:
    """What lies in the beam, ray by ray: arrays (n, n) float32 in mm, in the frame of the upright patient.

    Findings read `x`, `y`, `lungs`, `dome` and add to `fluid` (tissue or liquid in place of lung), `gas` (lung replaced
    by air), `solid` (soft bodies that displace lung), `void` (gas in soft tissue), `vessel_share` and `line`.
    """

    def __init__(self, body: anatomy.Body, setup: Setup, size: int):
        self.body, self.setup, self.size = body, setup, size
        portable = setup.view == "AP"
        self.pixel = max(setup.field) / size
        n = int(np.ceil(size * 1.10))
        plate = body.depth + 45 if not portable else -body.depth - 60
        margin = (n * self.pixel - np.array(setup.field)) / 2
        self.canvas = physics.Canvas(n, self.pixel, setup.offset[0] - setup.field[0] / 2 - margin[0],
                                     setup.offset[1] - margin[1], 1830.0 if not portable else 1150.0, plate,
                                     0.5 * body.height, setup.rotation)
        self.n = n
        self.height = body.height * setup.inspiration
        self.x, self.y = self.canvas.at(0.0)
        self.rng = np.random.default_rng(setup.seed)
        self.fluid, self.gas, self.solid, self.void, self.line = (np.zeros((n, n), np.float32) for _ in range(5))
        self.vessel_share = np.ones((n, n), np.float32)
        self._chest()

    # Anatomy ---------------------------------------------------------------------------------------------------------

    def _chest(self) -> None:
        body = self.body
        x, y = self.x, self.y
        u = np.clip(y / self.height, -0.02, 1.4)
        outside = (y < 0) | (y / self.height > 1.4)
        depth = np.where(outside, 0, body.depth * anatomy.DEPTH(u)).astype(np.float32)
        lateral = (body.width * anatomy.LATERAL(u)).astype(np.float32)
        medial = (body.width * anatomy.MEDIAL(u)).astype(np.float32)
        # Mediastinum: wider at the top by the great vessels; it leaves lung in front of it.
        half = body.mediastinum * (1 + 0.30 * np.exp(-((u - 0.08) / 0.14) ** 2) - 0.10 * np.exp(-((u - 0.50) / 0.10) ** 2))
        phase = 0.7 * (body.seed % 9)
        half = half * (1 + 0.10 * np.sin(9 * u + phase))
        middle = 4 * np.sin(6 * u + 2 * phase) + body.shift * np.exp(-((u - 0.55) / 0.45) ** 2) - 3 * np.exp(-((u - 0.25) / 0.2) ** 2)
        chord = physics.loft(x, (middle - half).astype(np.float32), (middle + half).astype(np.float32), depth)
        chord = cv2.GaussianBlur(chord, (0, 0), 4.5 / self.pixel)  # great vessels and fat have no common straight edge
        mediastinum = ((-1.05 + 0.2 * np.exp(-((u - 0.7) / 0.2) ** 2)).astype(np.float32) * chord, (0.22 + 0.25 * np.exp(-((u - 0.10) / 0.15) ** 2)).astype(np.float32) * chord)
        self.heart_chord = self._heart()
        heart = (np.float32(26) - self.heart_chord / 2, np.float32(26) + self.heart_chord / 2)
        self.lungs, self.cavity, self.dome_top, self.lateral = {}, {}, {}, lateral
        self.wall_distance = {}
        for side in (-1, 1):
            edges = (medial, lateral) if side > 0 else (-lateral, -medial)
            half_chord = physics.loft(x, *edges, depth)
            half_chord = np.where(side * (x - middle) > 0, half_chord, 0)
            lung = (-half_chord, half_chord)
            dome = self._dome(side)
            length = 2 * half_chord
            cut = [heart, mediastinum, dome]
            taken = sum(physics.overlap(lung, c) for c in cut)
            taken = taken - physics.overlap(lung, heart, mediastinum) - physics.overlap(lung, heart, dome)
            taken = taken - physics.overlap(lung, mediastinum, dome) + physics.overlap(lung, heart, mediastinum, dome)
            self.cavity[side] = length - physics.overlap(lung, dome)
            self.lungs[side] = np.maximum(length - taken, 0)
            self.wall_distance[side] = lateral - side * x
        self.lung = self.lungs[-1] + self.lungs[1]

    def _dome(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Interval of z under a hemidiaphragm: below a paraboloid, highest a little before the middle."""
        body = self.body
        top = self.height - body.raise_dome[side] + (body.left_drop if side > 0 else 0)
        self.dome_top[side] = top
        centre = side * 0.47 * body.width
        wide, deep = 0.56 * body.width, 1.05 * body.depth
        inner = np.where(side * (self.x - centre) < 0, 0.30, 1.0).astype(np.float32)
        q = (self.y - np.float32(top)) / np.float32(body.dome) - inner * ((self.x - centre) / np.float32(wide)) ** 2
        half = np.float32(deep) * np.sqrt(np.maximum(q, 0)) * 1.25
        return np.float32(12) - half, np.float32(16) + half * 1.6

    def _heart(self) -> np.ndarray:
        """Chord through ventricles, right atrium and pulmonary trunk; sets `heart_box` (x0, y0, x1, y1) in the patient."""
        body = self.body
        x, y = self.canvas.at(26.0)
        width = 2 * body.width * body.heart_ratio
        usual = min(width, 0.94 * body.width)  # the pulmonary trunk does not grow with the heart
        reach = 0.44 * width
        angle = body.heart_angle
        long = reach / np.sqrt(np.cos(angle) ** 2 + 0.67 * np.sin(angle) ** 2)
        short = 0.82 * long * body.heart_tall
        tall = np.sqrt((long * np.sin(angle)) ** 2 + (short * np.cos(angle)) ** 2)
        floor = self.height + min(body.left_drop, 20) - body.raise_dome[1] * 0.4 + 26
        cy = floor - tall
        cx = body.shift + 0.70 * width - reach
        parts = [
            ((cx, cy), (long, short, 0.45 * width), angle),
            ((body.shift - 0.30 * width + 0.27 * width, cy - 0.01 * width), (0.27 * width, 0.40 * width, 0.40 * width), 0.10),
            ((body.shift + 0.16 * width, cy - 0.34 * usual), (0.215 * usual, 0.36 * usual, 0.32 * usual), -0.22),
        ]
        chord = np.zeros((self.n, self.n), np.float32)
        for centre, axes, turn in parts:
            np.maximum(chord, physics.ellipsoid(x, y, centre, axes, turn), out=chord)
        self.heart_box = (body.shift - 0.30 * width, cy - tall * 0.9, body.shift + 0.70 * width, floor)
        self.heart_centre, self.heart_width = (cx, cy), width
        return cv2.GaussianBlur(chord, (0, 0), 1.5 / self.pixel)

    def _great_vessels(self) -> np.ndarray:
        body, h = self.body, self.height
        t = np.linspace(0, 1, 50)[None]
        r, reach, s = body.aorta, body.aorta_reach, body.shift * 0.7
        turn = np.pi * t
        arch = np.stack([s + (reach - 2 - 14) / 2 - (reach - 2 + 10) / 2 * np.cos(turn) * 1.0, 0.31 * h - 0.085 * h * np.sin(turn)
                         - 0 * t, 25 - 60 * t], -1)
        ascend = np.stack([s - 16 + 4 * t, (0.60 - 0.29 * t) * h, 30 - 5 * t], -1)
        down = np.stack([s * (1 - t) + (reach - 2) * (1 - t) + 8 * t - 4 * np.sin(np.pi * t), (0.31 + 0.9 * t) * h, -35 - 15 * t], -1)
        cava = np.stack([s - 21 - 9 * np.sin(np.pi * t * 0.9), (0.02 + 0.53 * t) * h, 15 + 0 * t], -1)
        left = np.stack([s + 16 + 8 * np.sin(np.pi * t * 0.7), (0.22 - 0.25 * t) * h, -5 - 10 * t], -1)
        total = np.maximum(physics.tubes(self.canvas, arch, r), physics.tubes(self.canvas, ascend, r * 1.1))
        total = np.maximum(total, physics.tubes(self.canvas, down, r * 0.9))
        thin = np.maximum(physics.tubes(self.canvas, cava, 10.5), physics.tubes(self.canvas, left, 6.5))
        return np.maximum(total, thin)

    def _airways(self) -> np.ndarray:
        body, h = self.body, self.height
        t = np.linspace(0, 1, 40)[None]
        r = (8.6 if body.sex == "M" else 7.2) * body.height / 245
        carina = np.array([2 + body.shift * 0.8, 0.335 * h, -20.0])
        top = np.array([0.0, -75.0, 12.0])
        trachea = top + (carina - top) * t[..., None]
        trachea[..., 0] += -4 * np.sin(np.pi * t) + body.shift * 0.3 * np.sin(np.pi * t)
        right = carina + np.stack([-32 * t, 24 * t + 6 * t**2, 0 * t], -1)
        left = carina + np.stack([44 * t, 22 * t + 4 * t**2, 0 * t], -1)
        out = physics.tubes(self.canvas, trachea, r)
        return np.maximum(out, np.maximum(physics.tubes(self.canvas, right, r * 0.72), physics.tubes(self.canvas, left, r * 0.62)))

    def _vessels(self) -> np.ndarray:
        """Chord length of the pulmonary vessels, of the body's own tree, scaled with the breath."""
        body = self.body
        rng = np.random.default_rng(body.seed + 1)
        total = np.zeros((self.n, self.n), np.float32)
        trees = [anatomy.vessel_tree(body, side, rng) for side in (-1, 1)]
        for level in range(len(trees[0])):
            points = np.concatenate([tree[level][0] for tree in trees])
            radii = np.concatenate([tree[level][1] for tree in trees]) * body.vessel_size
            points = points * [1.0, self.height / body.height, 1.0]
            upper = np.where(points[:, :1, 1] < 0.42 * self.height, body.upper_vessels, 1.0)[:, 0]
            typical = float(np.median(radii))
            weights = np.clip((radii * upper / typical) ** 2, 0.2, 4)
            total += physics.tubes(self.canvas, points, typical, weights)
        for side in (-1, 1):  # the interlobar and the left pulmonary artery
            root = anatomy.hilum(body, side) * [1, self.height / body.height, 1]
            t = np.linspace(0, 1, 30)[None]
            artery = root + np.stack([side * (2 + 13 * t - 5 * t**2), -12 + 62 * t, 0 * t], -1) - [side * 6, 0, 0]
            knob = root + np.stack([side * (-8 + 20 * t), -4 - 12 * np.sin(np.pi * t * 0.8) + (0 if side < 0 else -6), 0 * t], -1)
            taper = np.linspace(1.5, 0.35, 29)[None]
            total += physics.tubes(self.canvas, artery, 5.2 * body.vessel_size, taper) * 0.8
            total += physics.tubes(self.canvas, knob, 6.0 * body.vessel_size, taper) * 0.7
        return total

    def _spine(self) -> np.ndarray:
        """Attenuation of the vertebral column above that of soft tissue."""
        body, h = self.body, self.height
        x, y = self.canvas.at(-58.0)
        spacing = body.height / 9.5
        y = y + (body.height - h) * 0.0
        bend = body.scoliosis * np.sin(np.pi * (y / body.height + 0.2) / 1.3)
        half = (13.5 + 5.5 * np.clip(y / body.height, -0.2, 1.4)) * (1.0 if body.sex == "M" else 0.9)
        q = (x - bend).astype(np.float32) / half.astype(np.float32)
        phase = (y / spacing + 0.55) % 1.0
        to_disc = np.minimum(phase, 1 - phase) * spacing  # mm from the middle of the disc
        bony = np.clip((to_disc - 2.2) / 1.2, 0, 1)
        waist = 1 - 0.10 * np.sin(np.pi * phase)
        side = np.maximum(1 - np.abs(q / waist) ** 3, 0) ** (1 / 3)
        plate = np.exp(-(((to_disc - 3.2) / 1.1) ** 2))
        bone = side * (16 * bony * (MU_MARROW * 1.06 - MU_SOFT) + 30 * plate * 0.07 * (MU_BONE - MU_SOFT))
        rim = np.exp(-(((np.abs(q) - 0.93) / 0.07) ** 2)) * bony * 0.5
        up = (phase - 0.40) * spacing
        for s in (-1, 1):
            ring = np.sqrt(((x - bend - s * half * 0.62) / 3.6) ** 2 + (up / 5.2) ** 2)
            rim = rim + 1.0 * np.exp(-(((ring - 1) / 0.35) ** 2))
        process = np.clip(1 - np.abs(x - bend) / 2.6, 0, 1) * np.clip(1 - np.abs(phase - 0.72) / 0.22, 0, 1)
        transverse = np.clip(1 - (up / 4.5) ** 2, 0, 1) * np.clip((half * 1.75 - np.abs(x - bend)) / 6, 0, 1)
        bone = bone + (rim * 2.2 + process * 6.0 + transverse * 1.6) * (MU_BONE - MU_SOFT) * 0.6
        return bone.astype(np.float32) * np.float32(body.bone)

    def _skeleton(self) -> np.ndarray:
        body, canvas, setup = self.body, self.canvas, self.setup
        rib = anatomy.ribs(body) * [1, 1, 1]
        rib[..., 1] += (self.height - body.height) * 0.12
        t = np.linspace(0, 1, rib.shape[1] - 1)[None]
        ends = np.clip((1 - t) / 0.06, 0, 1) * (1 - 0.5 * np.exp(-(((t - 0.56) / 0.14) ** 2))) * np.ones((len(rib), 1))
        a, b = 3.6 * body.rib_size, 6.3 * body.rib_size
        outer = physics.tubes(canvas, rib, a, ends, b)
        inner = physics.tubes(canvas, rib, a - 1.0, ends, b - 1.3)
        bone = (outer - inner) * (MU_BONE - MU_SOFT) * 1.2 + inner * (MU_MARROW - MU_SOFT) * 1.2
        clavicle = anatomy.clavicles(body, -6 if setup.view == "PA" else 10)
        outer, inner = physics.tubes(canvas, clavicle, 6.4), physics.tubes(canvas, clavicle, 4.6)
        bone += (outer - inner) * (MU_BONE - MU_SOFT) * 1.5 + inner * (MU_MARROW - MU_SOFT)
        bone += self._shoulder_girdle()
        # Manubrium and sternum: only hinted at on a frontal film.
        x, y = canvas.at(60.0)
        plate = np.clip((24 - np.abs(x)) / 4, 0, 1) * np.clip((0.26 * body.height - np.abs(y - 0.26 * body.height)) / 6, 0, 1)
        bone += plate * 1.2 * (MU_BONE - MU_SOFT)
        return bone * np.float32(body.bone)

    def _shoulder_girdle(self) -> np.ndarray:
        body, canvas, setup = self.body, self.canvas, self.setup
        portable = setup.view == "AP"
        h, w = body.height, body.width
        bone = np.zeros((self.n, self.n), np.float32)
        t = np.linspace(0, 1, 30)[None]
        joint = body.shoulder * 0.80
        for side in (-1, 1):
            pull = -30 if portable else 8
            corner = np.array([[w * 0.72 + pull, -0.03 * h], [joint - 16, 0.03 * h], [joint - 12, 0.15 * h],
                               [w * 1.03 + pull * 0.7 + 10, 0.36 * h], [w * 0.98 + pull, 0.60 * h], [w * 0.84 + pull, 0.40 * h],
                               [w * 0.74 + pull, 0.14 * h]])
            corner = np.concatenate([corner, corner[:1]])
            # Chaikin's rule rounds the outline.
            for _ in range(3):
                a, b = corner[:-1], corner[1:]
                corner = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 2)
                corner = np.concatenate([corner, corner[:1]])
            corner = cv2.resize(corner, (2, 500), interpolation=cv2.INTER_LINEAR)  # short steps for `splat`
            outline = np.column_stack([side * corner[:, 0], corner[:, 1], np.full(len(corner), -70.0)])
            column, row = canvas.project(outline)
            mask = np.zeros((self.n, self.n), np.uint8)
            cv2.fillPoly(mask, [np.round(np.column_stack([column, row]) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
            bone += cv2.GaussianBlur(mask, (0, 0), 1.0).astype(np.float32) * np.float32(4.0 / 255 * (MU_BONE - MU_SOFT))
            rim = physics.tubes(canvas, outline[None], 1.7)
            ridge = np.stack([side * (w * 0.76 + pull + (joint + 4 - w * 0.76 - pull) * t), 0.11 * h - 0.12 * h * t, -80 + 30 * t], -1)
            rim = rim * 0.8 + physics.tubes(canvas, ridge, 4.5) * 0.45
            bone += rim * np.float32((MU_BONE - MU_SOFT) * 1.0)
            # Humerus: a head and a hollow shaft along the arm.
            start = np.array([side * (joint + 6), 0.07 * h, -30.0])
            end = start + np.array([side * np.sin(setup.arms) * 300, np.cos(setup.arms) * 300, 20.0])
            shaft = start + (end - start) * np.linspace(0, 1, 200)[None, :, None]
            outer, inner = physics.tubes(canvas, shaft, 11.0), physics.tubes(canvas, shaft, 6.8)
            bone += (outer - inner) * (MU_BONE - MU_SOFT) * 0.8 + inner * (MU_MARROW - MU_SOFT) * 0.5
            x, y = canvas.at(-30.0)
            head = physics.ellipsoid(x, y, (start[0], start[1]), (22, 23, 20))
            bone += head * np.float32(MU_MARROW * 1.04 - MU_SOFT)
        return bone

    def _soft(self) -> np.ndarray:
        """Attenuation of the body if it had no lungs, bones or gas."""
        body, setup = self.body, self.setup
        x, y = self.x, self.y
        h, w = body.height, body.width
        chest = w + body.wall
        slope = body.shoulder_slope
        top = 0.02 * h - slope * 60
        heights = np.array([-260, -75, -52, -30, top + 30, top + 60, 0.22 * h, 0.42 * h, 0.65 * h, h, 1.3 * h, 1.9 * h])
        widths = np.array([body.neck, body.neck, body.neck * 1.10, body.neck * 1.5, body.shoulder * 0.72, body.shoulder * 0.90,
                           max(chest * 1.08, body.shoulder * 0.84), chest * 1.05, chest, chest * 0.985, chest * 0.95, chest * 0.98])
        heights = np.maximum.accumulate(heights + np.arange(12) * 1e-3)
        heights[4:6] = np.maximum(heights[4:6], [heights[3] + 12, heights[3] + 34])
        heights = np.maximum.accumulate(heights + np.arange(12) * 1e-2)
        half = anatomy.PchipInterpolator(heights, widths, extrapolate=True)(y).astype(np.float32)
        deep = anatomy.PchipInterpolator([-260, -60, -10, 0.15 * h, 0.4 * h, h, 1.9 * h],
                                         [78, 74, 70, 0.58 * body.depth + 32, 0.92 * body.depth + 24, body.depth + 26, body.depth + 30]
                                         )(y).astype(np.float32)
        fat = np.float32(body.fat)
        chord = physics.loft(x, -half, half, deep, 2.6)
        inside = physics.loft(x, -(half - fat), half - fat, deep - fat * 0.5, 2.6)
        # Shoulders are thinner from front to back than the chest.
        thin = np.clip((np.abs(x) - 0.62 * body.shoulder) / (0.5 * body.shoulder), 0, 1) * np.clip((0.55 * h - y) / (0.2 * h), 0, 1)
        chord, inside = chord * (1 - 0.12 * thin), inside * (1 - 0.12 * thin)
        for side in (-1, 1):
            start = np.array([side * (body.shoulder * 0.83), 0.07 * h])
            direction = np.array([side * np.sin(setup.arms), np.cos(setup.arms)])
            along = np.clip((x - start[0]) * direction[0] + (y - start[1]) * direction[1], 0, 400)
            dx, dy = x - start[0] - along * direction[0], y - start[1] - along * direction[1]
            radius = np.float32(body.shoulder * 0.20 + body.fat * 1.2) + 0.05 * along
            square = dx * dx + dy * dy
            arm = np.sqrt(np.maximum(radius**2 - square, 0))
            inner = np.sqrt(np.maximum((radius - fat * 0.7) ** 2 - square, 0))
            chord, inside = np.maximum(chord, arm), np.maximum(inside, inner)
        soft = 2 * ((chord - np.minimum(inside, chord)) * MU_FAT + np.minimum(inside, chord) * MU_SOFT)
        if body.breast:
            for side in (-1, 1):
                r = body.breast * (1 + 0.05 * side * (body.seed % 3 - 1))
                centre = (side * (0.60 * w + 0.10 * r), h * (0.84 + body.breast_drop))
                bx, by = self.canvas.at(body.depth)
                # Tissue hangs: a sharp lower fold, no upper edge.
                hang = np.where(by > centre[1], 0.60, 1.7).astype(np.float32)
                breast = physics.ellipsoid(bx, centre[1] + (by - centre[1]) / hang, centre, (r * 1.12, r, r * 0.29))
                fade = np.clip(0.5 + (by - centre[1] + 0.4 * r) / (1.6 * r), 0, 1) * np.minimum(breast / (0.6 * r), 1) ** 0.6
                soft = soft + breast * fade * np.float32(0.6 * MU_FAT + 0.4 * MU_SOFT)
        return soft.astype(np.float32)

    def _belly(self) -> np.ndarray:
        """Gas in stomach and bowel, mm."""
        body = self.body
        rng = np.random.default_rng(self.setup.seed + 5)
        x, y = self.x, self.y
        gas = np.zeros((self.n, self.n), np.float32)
        top = self.dome_top[1]
        if body.bubble:
            r = body.bubble * rng.uniform(0.6, 1.25)
            centre = (0.46 * body.width + rng.normal(0, 8), top + 12 + r * 0.75)
            bubble = physics.ellipsoid(x, y, centre, (r * 1.25, r * 0.85, r * 0.8), 0.2)
            level = centre[1] + r * rng.uniform(0.0, 0.6)
            gas += bubble * (np.clip((level - y) / 1.5, 0, 1) if self.setup.view == "PA" else 0.6)
        loops = np.zeros_like(gas)
        for _ in range(int(rng.integers(0, 7))):
            centre = (rng.uniform(-0.2, 0.95) * body.width, top + rng.uniform(45, 110))
            loops += physics.ellipsoid(x, y, centre, (rng.uniform(8, 26), rng.uniform(7, 16), rng.uniform(5, 14)), rng.normal(0, 0.6))
        loops *= np.clip(0.6 + 0.7 * physics.fractal(rng, self.n, 22 / self.pixel, 3), 0, 1.4)
        return gas + cv2.GaussianBlur(loops, (0, 0), 1.6 / self.pixel)

    # Assembly --------------------------------------------------------------------------------------------------------

    def attenuation(self) -> np.ndarray:
        """Line integral of the attenuation coefficient, (n, n) float32, of everything in the scene."""
        body = self.body
        mu_lung = MU_LUNG * body.lung_density
        total = self._soft()
        lung = self.lung
        texture = 1 + 0.05 * physics.fractal(self.rng, self.n, 14 / self.pixel, 4, 0.8)
        total -= (MU_SOFT - mu_lung * texture) * lung
        vessels = self._vessels() * self.vessel_share
        displaced = np.minimum(self._great_vessels() + self.solid, lung)
        rest = np.maximum(lung - displaced, 0)
        opacity = np.minimum(self.fluid + np.minimum(vessels, 0.7 * rest), 0.96 * rest)
        total += (displaced + opacity) * np.float32(MU_SOFT - mu_lung)
        total -= np.minimum(self.gas, rest - opacity) * np.float32(mu_lung)
        total += self.line
        soft_left = np.maximum(total, 0)
        total -= np.minimum((self._airways() * 1.1 + self._belly() + self.void) * np.float32(MU_SOFT), 0.75 * soft_left)
        bone = self._skeleton() + self._spine()
        total += bone * np.minimum(soft_left / 0.6, 1)
        total += physics.fractal(self.rng, self.n, 45 / self.pixel, 5, 0.6) * 0.016 * soft_left
        return np.maximum(total, 0)

    def to_film(self) -> np.ndarray:
        """Affine map (2, 3) from film pixels to pixels of the canvas: the crop, its aspect and the tilt."""
        setup, size = self.setup, self.size
        cosine, sine = np.cos(setup.tilt), np.sin(setup.tilt)
        scale = np.array(setup.field) / size / self.pixel
        linear = np.array([[cosine, -sine], [sine, cosine]]) * scale
        offset = np.array([self.n / 2, self.n / 2]) - 0.5 - linear @ np.array([(size - 1) / 2] * 2)
        return np.column_stack([linear, offset])

    def boxes_on_film(self, weight: np.ndarray, several: bool) -> list[tuple[float, float, float, float]]:
        """Boxes (x, y, w, h) in film pixels around the pixels where `weight` (n, n) is at least 6 % of its peak.

        One around all of them, or, for findings that come in `several` places, one around each place. Empty when
        nothing of the finding is on the film.
        """
        on_film = cv2.warpAffine(weight, self.to_film(), (self.size, self.size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        peak = float(on_film.max())
        if peak <= 1e-6:
            return []
        mask = (on_film > 0.06 * peak).astype(np.uint8)
        joined = cv2.dilate(mask, np.ones((max(3, self.size // 24),) * 2, np.uint8)) if several else mask
        count, places = cv2.connectedComponents(joined) if several else (2, mask.astype(np.int32))
        boxes = []
        for place in range(1, count):
            here = (mask > 0) & (places == place)
            rows, columns = np.flatnonzero(here.any(1)), np.flatnonzero(here.any(0))
            boxes.append((float(columns[0]), float(rows[0]), float(columns[-1] - columns[0] + 1), float(rows[-1] - rows[0] + 1)))
        return boxes


def _burn_in(image: np.ndarray, setup: Setup, rng: np.random.Generator) -> None:
    """Lead letters and typed text, in place."""
    size = image.shape[0]
    mark, mx, my, tall, angle = setup.marker
    patch = np.zeros((96, 96), np.uint8)
    boxed = rng.random() < 0.15
    cv2.putText(patch, mark, (28, 68), cv2.FONT_HERSHEY_SIMPLEX, 1.9, 255, int(rng.integers(6, 10)), cv2.LINE_AA)
    if boxed:
        cv2.circle(patch, (46, 47), 40, 255, 4, cv2.LINE_AA)
    elif rng.random() < 0.5:
        letters = "".join(rng.choice(list("ABCDGJKMRST"), 2))
        cv2.putText(patch, letters, (26, 92), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 200, 2, cv2.LINE_AA)
    scale = 46 / (tall * size)
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    x, y = mx * size, my * size
    matrix = np.array([[cosine, -sine, 46 - cosine * x + sine * y], [sine, cosine, 47 - sine * x - cosine * y]])
    blurred = cv2.GaussianBlur(patch, (0, 0), max(0.1, 0.45 * scale)).astype(np.float32)
    letter = cv2.warpAffine(blurred, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) / 255
    image += letter * (np.float32(rng.uniform(215, 250)) - image).clip(0)
    for word, tx, ty in setup.text:
        height = 0.018 * size
        layer = np.zeros((4 * 40, 4 * 200), np.uint8)
        cv2.putText(layer, word, (10, 110), cv2.FONT_HERSHEY_SIMPLEX, 3.2, 255, 9, cv2.LINE_AA)
        shrink = height / 70
        layer = cv2.resize(layer, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        top, left = int(ty * size), int(tx * size)
        high, wide = min(layer.shape[0], size - top), min(layer.shape[1], size - left)
        part = image[top : top + high, left : left + wide]
        part += layer[:high, :wide] * (235 - part).clip(0)


def _devices(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Attenuation of leads, tube and catheter."""
    setup, body, h = scene.setup, scene.body, scene.height
    out = np.zeros((scene.n, scene.n), np.float32)
    t = np.linspace(0, 1, 160)
    for _ in range(setup.leads):
        side = rng.choice([-1, 1])
        pad = np.array([side * rng.uniform(0.25, 1.0) * body.width, rng.uniform(0.05, 0.95) * h, body.depth + 10])
        far = np.array([pad[0] + rng.normal(0, 90), pad[1] + rng.choice([-1, 1]) * rng.uniform(120, 260), body.depth + 20])
        sway = rng.normal(0, 30, 2)
        wire = pad + (far - pad) * t[:, None] + np.column_stack([sway[0] * np.sin(np.pi * t) + sway[1] * np.sin(2 * np.pi * t), 0 * t, 0 * t])
        out += physics.tubes(scene.canvas, wire[None], 0.75) * 0.24
        x, y = scene.canvas.at(float(pad[2]))
        out += physics.ellipsoid(x, y, pad[:2], (4.2, 4.2, 1.6)) * 0.30
        out += physics.ellipsoid(x, y, pad[:2], (10, 10, 1.5)) * 0.05
    if setup.tube:
        end = np.array([2 + body.shift * 0.7, rng.uniform(0.12, 0.28) * h, -10])
        start = np.array([rng.normal(0, 5), -90.0, 20])
        line = (start + (end - start) * t[:, None])[None]
        out += (physics.tubes(scene.canvas, line, 4.6) - physics.tubes(scene.canvas, line, 3.6)) * 0.09
        out += physics.tubes(scene.canvas, line + [2.6, 0, 0], 0.6) * 0.3
    if setup.catheter:
        side = rng.choice([-1, 1], p=[0.75, 0.25])
        if rng.random() < 0.5:  # from the neck
            start = np.array([side * rng.uniform(25, 45), -70.0, 10])
            bend = np.array([side * 24, 0.08 * h, 10])
        else:  # from under the collar bone
            start = np.array([side * rng.uniform(90, 140), rng.uniform(0.1, 0.35) * h, 40])
            bend = np.array([side * 45, -0.01 * h, 10])
        end = np.array([-24.0 + body.shift, rng.uniform(0.36, 0.58) * h, 10])
        s = t[:, None]
        line = ((1 - s) ** 2 * start + 2 * s * (1 - s) * (2 * bend - 0.5 * start - 0.5 * end) + s**2 * end)[None]
        out += physics.tubes(scene.canvas, line, 1.0) * 0.12
    return out


def simulate_film(body: anatomy.Body, setup: Setup, findings: dict[str, float], finding_seed: int, size: int = 256
                  ) -> tuple[np.ndarray, dict[str, list[tuple[float, float, float, float]]]]:
    """Expose one film.

    Parameters
    ----------
    body, setup
        The person and the circumstances; not changed.
    findings : dict of str to float
        NIH name of each finding to its severity, 0 (subtle) to 1 (obvious).
    finding_seed : int
        Where in the body findings lie; the same for all films of a patient, so that findings persist.
    size : int
        Pixels per side.

    Returns
    -------
    image : (size, size) uint8
    boxes : dict of finding to a list of (x, y, w, h) in pixels of the film
    """
    scene, weights = compose(body, setup, findings, finding_seed, size)
    rng = np.random.default_rng(setup.seed + 11)
    attenuation = scene.attenuation() + _devices(scene, rng)
    on_film = cv2.warpAffine(attenuation, scene.to_film(), (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                             borderMode=cv2.BORDER_REPLICATE)
    pixel = max(setup.field) / size
    signal = physics.detect(on_film, setup.exposure, pixel, rng)
    image = physics.develop(signal, setup.exposure, pixel)
    for edge, share in enumerate(setup.border):
        width = int(round(share * size))
        if width:
            dark = np.float32(rng.uniform(2, 14)) if rng.random() < 0.88 else np.float32(rng.uniform(215, 245))
            if edge == 0:
                image[:, :width] = dark
            elif edge == 1:
                image[:width] = dark
            elif edge == 2:
                image[:, -width:] = dark
            else:
                image[-width:] = dark
    _burn_in(image, setup, rng)
    boxes = {name: scene.boxes_on_film(weight, name in SEVERAL_PLACES) for name, weight in weights.items()}
    return np.clip(np.round(image), 0, 255).astype(np.uint8), boxes


def compose(body: anatomy.Body, setup: Setup, findings: dict[str, float], finding_seed: int, size: int
            ) -> tuple[Scene, dict[str, np.ndarray]]:
    """The scene with all findings drawn, and for each finding the weight map that its box encloses."""
    from data import chest_findings as signs

    body = deepcopy(body)
    generators = {name: np.random.default_rng([finding_seed, k]) for k, name in enumerate(signs.FINDINGS)}
    plans = {name: signs.prepare(name, body, setup, severity, generators[name]) for name, severity in findings.items()}
    scene = Scene(body, setup, size)
    return scene, {name: signs.draw(name, scene, plans[name], severity, generators[name]) for name, severity in findings.items()}
