"""What lies in the beam on one film: lungs, heart, vessels, airways and soft tissue of a `chest_anatomy.Body`."""

import cv2
import numpy as np

from data.chest_simulator import anatomy
from data.chest_simulator import projection as physics
from data.chest_simulator.curves import Curve, ramp
from data.chest_simulator.projection import MU_FAT, MU_LUNG, MU_SOFT
from data.chest_simulator.skeleton import skeleton

Map = np.ndarray


class Scene:
    """What lies in the beam, ray by ray: arrays (n, n) float32 in mm, in the frame of the upright patient.

    Findings read `x`, `y`, `lungs`, `dome_top` and add to `fluid` (tissue or liquid in place of lung), `gas` (lung replaced
    by air), `solid` (soft bodies that displace lung), `void` (gas in soft tissue), `vessel_share` and `line`.
    """

    def __init__(self, body: anatomy.Body, setup, size: int):
        self.body, self.setup, self.size = body, setup, size
        portable = setup.view == "AP"
        self.pixel = max(setup.field) / size
        n = 2 * int(np.ceil(size * 0.55))
        plate = body.depth + 45 if not portable else -body.depth - 60
        margin = (n * self.pixel - np.array(setup.field)) / 2
        self.canvas = physics.Canvas(
            n,
            self.pixel,
            setup.offset[0] - setup.field[0] / 2 - float(margin[0]),
            setup.offset[1] - float(margin[1]),
            1830.0 if not portable else 1150.0,
            plate,
            0.5 * body.height,
            setup.rotation,
        )
        self.n = n
        self.breath = setup.inspiration
        self.height = body.height * setup.inspiration
        self.x, self.y = self.canvas.at(0.0)
        self.rng = np.random.default_rng(setup.seed)
        self.fluid, self.gas, self.solid, self.void, self.line = (np.zeros((n, n), np.float32) for _ in range(5))
        self.vessel_share = np.ones((n, n), np.float32)
        self.tube_side = 0  # where a finding wants a chest tube
        self.borders = anatomy.borders(body, self.breath)
        self._chest()

    def _chest(self) -> None:
        """Lungs: the chest cavity without heart, mediastinum and what is under the diaphragm."""
        body, x, y = self.body, self.x, self.y
        u = np.clip(y / self.height, -0.02, 1.4)
        outside = (y < 0) | (y / self.height > 1.4)
        depth = np.where(outside, 0, body.depth * anatomy.DEPTH(u)).astype(np.float32)
        lateral = anatomy.lateral(body, u).astype(np.float32)
        medial = (body.width * anatomy.MEDIAL(u)).astype(np.float32)
        core = self._core(depth)
        # Behind the heart spine, oesophagus and aorta keep the lungs apart.
        beside_spine = 1 - np.float32(0.85) * np.exp(-(((x - 3) / np.float32(19)) ** 4))
        self.lungs, self.cavity, self.wall_distance = {}, {}, {}
        self.dome_top = {side: self.height - body.raise_dome[side] + (body.left_drop if side > 0 else 0) for side in (-1, 1)}
        for side in (-1, 1):
            edges = (medial, lateral) if side > 0 else (-lateral, -medial)
            half_chord = physics.loft(x, *edges, depth)
            half_chord = np.where(side * (x - self.middle) > 0, half_chord, 0)
            lung = (-half_chord, half_chord)
            dome = self._dome(side)
            under = physics.overlap(lung, dome)
            self.cavity[side] = 2 * half_chord - under
            free = self.cavity[side] - physics.overlap(lung, core) + physics.overlap(lung, core, dome)
            self.lungs[side] = np.maximum(free, 0) * beside_spine
            self.wall_distance[side] = lateral - side * x
        self.lung = self.lungs[-1] + self.lungs[1]

    def _dome(self, side: int) -> tuple[Map, Map]:
        """Interval of z under a hemidiaphragm: below a paraboloid, highest a little before the middle, often scalloped."""
        body = self.body
        rng = np.random.default_rng([body.seed, 5, side + 1])
        # Under the heart the two halves are one sheet.
        own = np.clip(0.5 + side * (self.x - self.middle) / 56, 0, 1).astype(np.float32)
        top = self.dome_top[side] * own + self.dome_top[-side] * (1 - own)
        across = (side * self.x) / np.float32(body.width)
        peak = rng.normal(0.46, 0.05)
        inner = np.where(across < peak, rng.uniform(0.0, 0.35), 1.0).astype(np.float32)
        scallops = np.float32(abs(rng.normal(0, 0.05)))
        wave = scallops * np.cos(np.float32(rng.uniform(9, 16)) * across + np.float32(rng.uniform(0, 6)))
        # Only the rows that a dome can reach; above them the interval is the short one between the two numbers below.
        first = int(np.searchsorted(self.y[:, 0], min(self.dome_top.values()) - 1.1 * scallops * body.dome))
        limit = 1 - own[first:] * np.float32(0.6) + np.where(across > 0.4, np.float32(10), np.float32(0))
        q = np.minimum(inner * ((across - np.float32(peak)) / np.float32(0.56)) ** 2, limit) + wave
        half = np.zeros_like(own)
        half[first:] = np.sqrt(np.maximum((self.y[first:] - top[first:]) / np.float32(body.dome) - q, 0))
        half *= np.float32(1.05 * body.depth * 1.25)
        return np.float32(12) - half, np.float32(16) + half * np.float32(1.6)

    def _core(self, depth: Map) -> tuple[Map, Map]:
        """Interval of z that heart and mediastinum fill; sets `heart_chord`."""
        body = self.body
        x, y = self.canvas.at(18.0)
        u = y / self.height
        right, left = self.borders
        shift = body.shift * np.exp(-(((u - 0.6) / 0.5) ** 2))
        beat = 1 + 0.02 * np.sin(self.setup.seed % 7)  # systole and diastole
        left_edge = (shift - right(np.clip(u, -0.6, 1.4))).astype(np.float32)
        right_edge = (shift + left(np.clip(u, -0.6, 1.4)) * beat).astype(np.float32)
        heart = np.clip((u - 0.38) / 0.16, 0, 1)  # 0 above, 1 at the level of the heart
        upper = 0.86 * depth
        width = 2 * body.width * body.heart_ratio
        lower = np.float32(0.42 * min(width, 1.1 * body.width) + 0.06 * width)
        thick = (upper * (1 - heart) + np.minimum(lower, np.maximum(0.95 * depth, 30)) * heart).astype(np.float32)
        centre = (-6 * (1 - heart) + 0.26 * body.depth * heart).astype(np.float32)
        half = physics.loft(x, left_edge, right_edge, thick)
        half = cv2.GaussianBlur(half, (0, 0), max(1.2 / self.pixel, 0.3))  # the beating of the heart
        self.middle = cv2.GaussianBlur(((left_edge + right_edge) / 4).astype(np.float32), (0, 0), 0.1, sigmaY=20 / self.pixel)
        apex = min(self.height + body.left_drop - body.raise_dome[1], self.height * 1.15) + 18
        rows = (u > 0.44) & (y < apex)
        self.heart_chord = np.where(rows, 2 * half, 0)
        return centre - half, centre + half

    # Vessels and airways ---------------------------------------------------------------------------------------------

    def _great_vessels(self) -> Map:
        """What shows behind the heart and beside the spine: arch and descending aorta, azygos vein, cava."""
        body, h = self.body, self.height
        t = ramp(0, 1, 60)[None]
        r, reach, s = body.aorta, body.aorta_reach, body.shift * 0.7
        arch = np.stack([s + reach + 4 - r + (-reach - 8) * t**2, 0.265 * h - 0.02 * h * np.sin(np.pi * t), -25 + 50 * t], -1)
        down = np.stack(
            [s * (1 - t) + (reach + 4 - r) * (1 - t) + 6 * t - 4 * np.sin(np.pi * t), (0.265 + 0.95 * t) * h, -38 - 12 * t], -1
        )
        azygos = np.stack([s - body.mediastinum - 1 + 4 * t, (0.345 + 0.01 * t) * h, -20 + 25 * t], -1)
        total = np.maximum(physics.tubes(self.canvas, arch, r), physics.tubes(self.canvas, down, r * 0.9))
        return np.maximum(total, physics.tubes(self.canvas, azygos, 5.0))

    def _airways(self) -> Map:
        body, h = self.body, self.height
        t = ramp(0, 1, 40)[None]
        r = (8.3 if body.sex == "M" else 7.0) * body.height / 245
        carina = np.array([3 + body.shift * 0.8, 0.345 * h, -20.0])
        top = np.array([0.0, -75.0, 12.0])
        trachea = top + (carina - top) * t[..., None]
        trachea[..., 0] += -4 * np.sin(np.pi * t) + body.shift * 0.3 * np.sin(np.pi * t)
        right = carina + np.stack([-34 * t, 26 * t + 8 * t**2, 0 * t], -1)
        left = carina + np.stack([46 * t, 24 * t + 4 * t**2, 0 * t], -1)
        fade = ramp(1, 0.2, 39)[None]
        branches = physics.tubes(self.canvas, right, r * 0.70, fade)
        physics.tubes(self.canvas, left, r * 0.6, fade, onto=branches)
        return np.maximum(physics.tubes(self.canvas, trachea, r) * 0.85, branches * 0.55)

    def _vessels(self) -> Map:
        """Chord length of the pulmonary vessels, of the body's own tree, scaled with the breath."""
        body = self.body
        trees, rng = anatomy.vessel_trees(body)
        branches = []
        for points, radii in trees:
            points = points * [1.0, self.breath, 1.0]
            upper = points[:, :1, 1] < 0.42 * self.height
            branches.append((points, radii * body.vessel_size * np.where(upper, body.upper_vessels, 1.0)))
        total = physics.tube_tree(self.canvas, branches)
        for side in (-1, 1):  # the interlobar artery and the pulmonary artery or upper vein over it
            root = anatomy.hilum(body, side) * [1, self.breath, 1]
            t = ramp(0, 1, 30)[None]
            size = body.vessel_size * rng.uniform(0.9, 1.15)
            artery = root + np.stack([side * (-4 + 15 * t - 4 * t**2), -16 + 70 * t, 0 * t], -1)
            knob = root + np.stack([side * (-10 + 26 * t), -2 - 14 * np.sin(np.pi * t * 0.8) + (0 if side < 0 else -6), 0 * t], -1)
            physics.tubes(self.canvas, artery, 7.0 * size, ramp(1.2, 0.12, 29)[None], onto=total)
            for _ in range(3):  # lymph nodes and vessels seen end on
                at = root[:2] + [side * rng.normal(4, 7), rng.normal(8, 14)]
                axes = (rng.uniform(4, 9), rng.uniform(4, 9), rng.uniform(4, 9) * size)
                physics.ellipsoid(self.x, self.y, at, axes, onto=total)
            physics.tubes(self.canvas, knob, 7.5 * size, ramp(1.3, 0.2, 29)[None], onto=total)
        return total

    # Soft tissue -----------------------------------------------------------------------------------------------------

    def _soft(self) -> Map:
        """Attenuation of the body if it had no lungs, bones or gas; on a grid of half the resolution, it has no fine detail."""
        body, setup = self.body, self.setup
        coarse = physics.Canvas(**(vars(self.canvas) | {"n": self.n // 2, "pixel": self.pixel * 2}))
        x, y = coarse.at(0.0)
        h, w, fat = self.height, body.width, np.float32(body.fat)
        rng = np.random.default_rng(body.seed + 21)
        neck, shoulder = body.neck, body.shoulder
        fold = physics.fractal(rng, 16, 5, 2)[0].astype(np.float32)  # no outline is smooth
        chest = w * (1 + body.flare * 0.3) + body.wall
        hip = chest * (0.96 + 0.06 * np.clip(body.fat / 20, 0, 1.2))
        torso = Curve(
            [-300, -70, -40, 0.0, 0.15 * h + 5, 0.42 * h + 8, 0.7 * h + 10, 1.05 * h + 12, 1.35 * h + 20, 2.2 * h + 40],
            [neck * 0.95, neck, neck * 1.2, 0.62 * chest, 0.86 * chest, chest, chest * 1.01, chest * 0.985, hip * 0.97, hip],
        )(y)
        torso = torso + fat * 0.12 * Curve(ramp(-100, 600, 16), fold)(np.clip(y, -100, 600))
        slope = body.shoulder_slope * 60
        girdle = Curve(
            [-300, -62 - slope, -44 - slope * 0.6, -28 - slope * 0.3, -12, 25, 0.25 * h + 20, 0.48 * h + 30],
            [0, neck, neck * 1.25, 0.60 * shoulder, 0.86 * shoulder, shoulder, shoulder * 0.98, chest * 0.9],
        )(np.clip(y, -300, 0.48 * h + 30))
        deep = Curve(
            [-300, -60, -10, 0.15 * h, 0.4 * h, h, 2.2 * h],
            [84, 76, 68, 0.58 * body.depth + 32, 0.92 * body.depth + 24, body.depth + 26, body.depth + 30],
        )(y)
        torso, girdle, deep = (a.astype(np.float32) for a in (torso, girdle, deep))
        flat = np.float32(56 + body.fat * 0.8)
        chord = np.maximum(
            physics.loft(x, -torso, torso, deep, 4.0) * 0.75 + physics.loft(x, -torso, torso, deep) * 0.25,
            physics.loft(x, -girdle, girdle, flat * np.clip((0.48 * h + 30 - y) / 40, 0, 1), 4.0),
        )
        arm = np.zeros_like(chord)
        for side in (-1, 1):
            start = np.array([side * shoulder * 0.80, 0.07 * h])
            angle = setup.arms * (1 + 0.15 * side * np.sin(setup.seed % 11))
            direction = np.array([side * np.sin(angle), np.cos(angle)])
            along = np.clip((x - start[0]) * direction[0] + (y - start[1]) * direction[1], 0, 400)
            dx, dy = x - start[0] - along * direction[0], y - start[1] - along * direction[1]
            radius = np.float32(42 + body.fat * 1.2)
            side_chord = np.sqrt(np.maximum(radius * radius - dx * dx - dy * dy, 0)) * np.clip(along / 70 + 0.2, 0, 1)
            arm = np.maximum(arm, side_chord)
        # Where an arm lies beside the chest the ray passes part of both; muscles run from one to the other.
        chord = np.sqrt(np.hypot(chord * chord, arm * arm))
        skin = np.minimum(chord, fat * 1.3)  # fat under the skin, at front and back
        soft = 2 * (skin * np.float32(MU_FAT) + (chord - skin) * np.float32(MU_SOFT))
        if body.breast:
            soft = soft + self._breasts(coarse)
        soft = cv2.GaussianBlur(np.ascontiguousarray(soft, np.float32), (0, 0), 0.7)
        return cv2.resize(soft, (self.n, self.n), interpolation=cv2.INTER_LINEAR)

    def _breasts(self, canvas: physics.Canvas) -> Map:
        """They hang: a lower fold that is sharp, no upper edge; on AP films, lying, they fall to the side."""
        body = self.body
        x, y = canvas.at(body.depth)
        total = np.zeros((canvas.n, canvas.n), np.float32)
        portable = self.setup.view == "AP"
        for side in (-1, 1):
            r = body.breast * (1 + 0.06 * side * (body.seed % 3 - 1))
            centre = (
                side * ((0.60 if not portable else 0.72) * body.width + 0.10 * r),
                body.height * (0.83 + body.breast_drop + 0.03 * side * ((body.seed // 3) % 3 - 1)) - (0 if not portable else 10),
            )
            hang = np.where(y > centre[1], 0.70, 1.8).astype(np.float32)
            breast = physics.ellipsoid(
                x, centre[1] + (y - centre[1]) / hang, centre, (r * 1.15, r, r * (0.46 if not portable else 0.32))
            )
            fade = np.clip(0.5 + (y - centre[1] + 0.5 * r) / (1.8 * r), 0, 1)
            total += breast * fade * np.float32(0.5 * (MU_FAT + MU_SOFT))
            if body.seed % 5 == 0:
                physics.ellipsoid(x, y, (centre[0], centre[1] + 0.35 * r), (4.5, 4.0, 3.5), onto=total, factor=MU_SOFT)
        return total

    def _belly(self) -> Map:
        """Gas in stomach and bowel, mm, under the diaphragm."""
        body = self.body
        rng = np.random.default_rng(self.setup.seed + 5)
        x, y = self.x, self.y
        gas = np.zeros((self.n, self.n), np.float32)
        top = self.dome_top[1]
        rough = physics.fractal(rng, self.n, 26 / self.pixel, 4, 0.6)
        if body.bubble:
            r = body.bubble * rng.uniform(0.45, 1.4)
            centre = ((0.40 + 0.1 * rng.random()) * body.width + rng.normal(0, 8), top + 8 + r * rng.uniform(0.6, 1.0))
            bent = y + np.float32(3.0) * rough
            bubble = physics.ellipsoid(x, bent, centre, (r * rng.uniform(0.9, 1.5), r * 0.8, r * 0.55), rng.normal(0.15, 0.15))
            bubble = bubble * np.clip((y - top - 3 - body.dome * ((x - 0.46 * body.width) / (0.56 * body.width)) ** 2) / 4, 0, 1)
            level = centre[1] + r * rng.uniform(-0.2, 0.8)
            under_level = np.clip((level - y) / 2.5, 0, 1) if self.setup.view == "PA" else np.float32(0.55)
            gas += bubble * under_level * np.clip(0.75 + 0.25 * rough, 0.2, 1)
        loops = np.zeros_like(gas)
        for _ in range(int(rng.integers(0, 7))):
            centre = (rng.uniform(-0.3, 0.95) * body.width, top + rng.uniform(35, 120))
            axes = (rng.uniform(8, 26), rng.uniform(7, 18), rng.uniform(5, 16))
            physics.ellipsoid(x, y, centre, axes, rng.normal(0, 0.8), onto=loops)
        loops *= np.clip(0.5 + 0.9 * rough, 0, 1.5)
        return gas + cv2.GaussianBlur(loops, (0, 0), max(1.6 / self.pixel, 0.3))

    def _incidental(self) -> Map:
        """What is no finding and may look like one: skin folds, fat at the heart, scars, old calcified spots."""
        body, x, y, h, w = self.body, self.x, self.y, self.height, self.body.width
        rng, shot = np.random.default_rng([body.seed, 51]), np.random.default_rng([self.setup.seed, 52])
        out = np.zeros((self.n, self.n), np.float32)
        for side in (-1, 1):  # fat beside the apex of the heart
            size = max(0.0, rng.normal(14, 12) + 0.6 * body.fat)
            right, left = self.borders
            edge = side * float((left if side > 0 else right)(0.97)) + body.shift
            fat = np.exp(-np.clip(side * (x - edge), 0, None) / np.float32(5 + size * 0.5))
            fat = fat * np.exp(-np.clip(self.dome_top[side] + 6 - y, 0, None) / np.float32(4 + size * 0.5))
            out += np.minimum(fat * np.float32(50), self.lungs[side] * np.float32(0.8)) * np.float32(MU_FAT - MU_LUNG)
        for _ in range(int(rng.poisson(0.5 if body.age > 35 else 0.1))):  # calcified granulomas
            at = (rng.choice([-1, 1]) * w * rng.uniform(0.25, 0.85), h * rng.uniform(0.15, 0.9))
            physics.ellipsoid(x, y, at, (rng.uniform(1.5, 3.5), rng.uniform(1.5, 3.5), 2.5), onto=out, factor=0.05)
        for _ in range(int(rng.poisson(0.4))):  # scars
            start = np.array([rng.choice([-1, 1]) * w * rng.uniform(0.3, 0.85), h * rng.uniform(0.2, 0.95), 0])
            line = np.linspace(start, start + [rng.normal(0, 20), rng.normal(0, 10), 0], 30)
            physics.tubes(self.canvas, line[None], 0.8, onto=out, factor=0.02)
        if self.setup.view == "AP" and shot.random() < 0.35:  # a fold of skin: an edge without a line, vessels run on beyond
            side = shot.choice([-1, 1])
            edge = side * x - w * np.float32(shot.uniform(0.35, 0.8)) - (y - 0.4 * h) * np.float32(shot.normal(0, 0.25))
            fold = np.exp(np.clip(edge, None, 0) / np.float32(shot.uniform(12, 30))) * (edge < 0)
            fold = fold * np.clip((y - h * np.float32(shot.uniform(-0.2, 0.3))) / 40, 0, 1)
            fold = fold * np.clip((h * np.float32(shot.uniform(0.7, 1.4)) - y) / 40, 0, 1)
            out += cv2.GaussianBlur(fold, (0, 0), max(0.8 / self.pixel, 0.3)) * np.float32(shot.uniform(2, 9) * MU_SOFT)
        return out

    # Assembly --------------------------------------------------------------------------------------------------------

    def attenuation(self) -> Map:
        """Line integral of the attenuation coefficient, (n, n) float32, of everything in the scene."""
        body = self.body
        mu_lung = MU_LUNG * body.lung_density
        total = self._soft()
        lung = self.lung
        grain = physics.fractal(self.rng, self.n, 26 / self.pixel, 4, 0.65)
        # Vessels and airways too small to draw one by one; the lung is denser below and behind, where blood collects.
        haze = self.rng.uniform(0.1, 0.3) if self.setup.view == "PA" else self.rng.uniform(0.15, 0.75)
        texture = 1 + np.float32(0.06) * grain + np.float32(haze) * np.clip(self.y / self.height - 0.35, -0.35, 0.7)
        total -= (np.float32(MU_SOFT) - np.float32(mu_lung) * texture) * lung
        vessels = self._vessels() * self.vessel_share * (1 - 0.5 * np.clip(self.heart_chord / 40, 0, 1))
        displaced = np.minimum(self._great_vessels() + self.solid, lung)
        rest = np.maximum(lung - displaced, 0)
        opacity = np.minimum(self.fluid + np.minimum(vessels, 0.5 * rest), 0.96 * rest)
        total += (displaced + opacity) * np.float32(MU_SOFT - mu_lung)
        total -= np.minimum(self.gas, rest - opacity) * np.float32(mu_lung)
        total += self.line
        total += self._incidental()
        soft_left = np.maximum(total, 0)
        total -= np.minimum((self._airways() + self._belly() + self.void) * np.float32(MU_SOFT), 0.75 * soft_left)
        total += skeleton(self) * np.minimum(soft_left / 0.6, 1)
        total += physics.fractal(self.rng, self.n, 60 / self.pixel, 5, 0.65) * np.float32(0.018) * soft_left
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
        largest = max(w * h for _, _, w, h in boxes)
        return [box for box in boxes if box[2] * box[3] > 0.03 * largest]  # no slivers beside the spine
