"""What is on a film besides the patient: lines, leads and implants; lead letters, typed text and collimated edges."""

import cv2
import numpy as np

from data.chest_simulator import projection as physics
from data.chest_simulator.curves import Curve, ramp


def _curve(*points) -> np.ndarray:
    """A smooth line (420, 3) through points (x, y, z)."""
    points = np.array(points, float)
    way = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    return Curve(way / way[-1], points)(ramp(0, 1, 420))


def _lead(out: np.ndarray, scene, rng: np.random.Generator, side: int) -> None:
    """Electrode, wire and perhaps a clip of an electrocardiogram."""
    body, canvas, h, w = scene.body, scene.canvas, scene.height, scene.body.width
    pad = np.array([side * rng.uniform(0.25, 1.1) * w, rng.uniform(-0.05, 1.0) * h, body.depth + 10])
    far = np.array([pad[0] + rng.normal(0, 90), pad[1] + rng.choice([-1, 1]) * rng.uniform(120, 300), body.depth + 20])
    bow = (pad + far) / 2 + [rng.normal(0, 45), rng.normal(0, 25), 0]
    wire = _curve(pad, bow, far)
    physics.tubes(canvas, wire[None], rng.uniform(0.6, 1.0), onto=out, factor=rng.uniform(0.12, 0.3))
    x, y = canvas.at(float(pad[2]))
    snap, gel = physics.ellipsoid(x, y, pad[:2], (4.2, 4.2, 1.6)), physics.ellipsoid(x, y, pad[:2], (11, 11, 1.5))
    out += snap * np.float32(0.30) + gel * np.float32(0.05)
    if rng.random() < 0.5:  # the clip
        clip = np.array([pad, pad + [rng.normal(0, 8), rng.normal(0, 14), 0]])
        physics.tubes(canvas, clip[None], 2.6, onto=out, factor=0.12)


def _tubing(out: np.ndarray, scene, rng: np.random.Generator, side: int) -> None:
    """Oxygen hoses and cables that lie over the patient."""
    canvas, h, w = scene.canvas, scene.height, scene.body.width
    x0 = rng.uniform(-1.2, 1.2) * w
    line = _curve(
        (x0, -160, 100),
        (x0 + rng.normal(0, 50), rng.uniform(0, 0.4) * h, 100),
        (x0 + rng.normal(0, 110), rng.uniform(0.6, 1) * h, 100),
        (x0 + rng.normal(0, 160), 480, 100),
    )
    physics.tubes(canvas, line[None], rng.uniform(1.5, 4), hollow=(0.9, 0.0), onto=out, factor=0.045)


def _endotracheal(out: np.ndarray, scene, rng: np.random.Generator, side: int) -> None:
    """Breathing tube with its radiopaque line, its tip above the carina, now and then too low."""
    canvas, h, shift = scene.canvas, scene.height, scene.body.shift
    end = (2 + shift * 0.7, rng.uniform(0.10, 0.30) * h, -10)
    line = _curve((rng.normal(0, 8), -120, 30), (rng.normal(0, 3), -40, 10), end)
    physics.tubes(canvas, line[None], 4.6, hollow=(0.9, 0.0), onto=out, factor=0.08)
    physics.tubes(canvas, (line + [2.6, 0, 0])[None], 0.6, onto=out, factor=0.3)


def _gastric(out: np.ndarray, scene, rng: np.random.Generator, side: int) -> None:
    """Tube through the oesophagus into the stomach."""
    canvas, h, shift = scene.canvas, scene.height, scene.body.shift
    line = _curve(
        (rng.normal(0, 6), -120, 20),
        (1, 0.1 * h, -25),
        (4 + shift, 0.5 * h, -30),
        (10 + shift, 0.95 * h, -20),
        (30 + 20 * rng.random(), scene.dome_top[1] + 60, 0),
        (70, scene.dome_top[1] + 90 * rng.random() + 40, 10),
    )
    physics.tubes(canvas, line[None], 2.4, hollow=(0.8, 0.0), onto=out, factor=0.07)
    physics.tubes(canvas, line[None], 0.6, onto=out, factor=0.15)


def _catheter(out: np.ndarray, scene, rng: np.random.Generator, side: int) -> None:
    """Central venous catheter from the neck, from under the collar bone or from the arm; sometimes with a port."""
    body, canvas, h, w, shift = scene.body, scene.canvas, scene.height, scene.body.width, scene.body.shift
    end = (-22.0 + shift, rng.uniform(0.30, 0.62) * h, 10)
    if rng.random() < 0.5:  # from the neck
        line = _curve((side * rng.uniform(30, 50), -75, 15), (side * 27, 0.02 * h, 10), (side * 14 - 8, 0.15 * h, 10), end)
    elif rng.random() < 0.5:  # from under the collar bone
        line = _curve(
            (side * rng.uniform(90, 140), rng.uniform(0.1, 0.3) * h, 40), (side * 70, 0.04 * h, 30), (side * 22, 0.11 * h, 10), end
        )
    else:  # from the arm
        line = _curve(
            (side * w * 1.5, 0.35 * h, 0), (side * w * 1.2, 0.13 * h, 0), (side * 60, 0.05 * h, 10), (side * 20, 0.12 * h, 10), end
        )
    physics.tubes(canvas, line[None], rng.uniform(0.8, 1.3), onto=out, factor=rng.uniform(0.08, 0.16))
    if rng.random() < 0.2:  # with a port under the skin
        x, y = canvas.at(body.depth)
        port = physics.ellipsoid(x, y, (side * 0.55 * w, 0.3 * h), (12, 12, 5))
        out += np.float32(0.05) * port + np.float32(0.25) * np.exp(-(((port - 5) / 2) ** 2)) * (port > 0)


def _chest_tube(out: np.ndarray, scene, rng: np.random.Generator, side: int) -> None:
    """Drain between the ribs, on the side that a finding asks for."""
    canvas, h, w = scene.canvas, scene.height, scene.body.width
    side = scene.tube_side or side
    top = rng.uniform(0.08, 0.6) * h
    line = _curve(
        (side * w * 1.25, rng.uniform(0.6, 1.0) * h, 0),
        (side * w * 0.95, rng.uniform(0.5, 0.8) * h, 0),
        (side * w * 0.72, 0.4 * h + 0.3 * top, 0),
        (side * w * rng.uniform(0.25, 0.6), top, 10),
    )
    physics.tubes(canvas, line[None], 4.5, hollow=(1.2, 0.0), onto=out, factor=0.05)
    physics.tubes(canvas, line[None], 0.8, onto=out, factor=0.25)


def _pacemaker(out: np.ndarray, scene, rng: np.random.Generator, side: int) -> None:
    """Generator under the collar bone with leads to atrium and ventricle."""
    body, canvas, h, w, shift = scene.body, scene.canvas, scene.height, scene.body.width, scene.body.shift
    side = 1 if rng.random() < 0.8 else -1
    x, y = canvas.at(body.depth)
    turn = rng.normal(0.3, 0.4)
    dx, dy = x - side * 0.66 * w, y - 0.22 * h
    q = (
        np.abs((dx * np.cos(turn) + dy * np.sin(turn)) / 21) ** 4
        + np.abs((dy * np.cos(turn) - dx * np.sin(turn)) / rng.uniform(14, 19)) ** 4
    )
    inside = q < 1
    out += (inside * (1.1 + 0.5 * np.sin(dx * 0.5) * (q < 0.6)) + 0.9 * (inside & (q > 0.7))).astype(np.float32)
    for depth in (0.62, 0.92):
        line = _curve(
            (side * 0.66 * w, 0.22 * h, 40),
            (side * 60, 0.06 * h, 20),
            (side * 18, 0.12 * h, 10),
            (-22 + shift, 0.4 * h, 10),
            (-14 + shift, 0.72 * h, 15),
            ((20 if depth > 0.7 else -24) + shift, depth * h, 20),
        )
        physics.tubes(canvas, line[None], 0.9, onto=out, factor=0.35)


def _wires(out: np.ndarray, scene, rng: np.random.Generator, side: int) -> None:
    """Of a sternotomy, often with clips of bypass vessels."""
    canvas, h, shift = scene.canvas, scene.height, scene.body.shift
    for k in range(int(rng.integers(4, 7))):
        t = ramp(0, 2 * np.pi, 60)
        cx, cy = rng.normal(0, 2), (0.22 + 0.11 * k) * h
        turn = np.column_stack(
            [
                cx + rng.uniform(4, 7) * np.cos(t),
                cy + rng.uniform(1.5, 3.5) * np.sin(t) + 0.2 * rng.normal(0, 4) * np.cos(t),
                np.full(60, 60),
            ]
        )
        physics.tubes(canvas, turn[None], 0.7, onto=out, factor=0.5)
    for _ in range(int(rng.integers(0, 6))):
        at = np.array([20 + 40 * rng.random() + shift, rng.uniform(0.35, 0.75) * h, 40])
        end = at + [rng.normal(0, 4), rng.normal(0, 4), 0]
        physics.tubes(canvas, np.stack([at, end])[None], 0.7, onto=out, factor=0.5)


def _button(out: np.ndarray, scene, rng: np.random.Generator, side: int) -> None:
    """Snaps, coins, jewellery."""
    body, canvas, h, w = scene.body, scene.canvas, scene.height, scene.body.width
    x, y = canvas.at(body.depth + 15)
    at = (rng.uniform(-1.1, 1.1) * w, rng.uniform(-0.2, 1.1) * h)
    out += physics.ellipsoid(x, y, at, (rng.uniform(3, 9), rng.uniform(3, 9), 1.5), rng.uniform(0, 3)) * np.float32(
        rng.uniform(0.05, 0.3)
    )


_DRAW = {
    "lead": _lead,
    "tubing": _tubing,
    "endotracheal": _endotracheal,
    "gastric": _gastric,
    "catheter": _catheter,
    "chest tube": _chest_tube,
    "pacemaker": _pacemaker,
    "wires": _wires,
    "button": _button,
}


def devices(scene, rng: np.random.Generator) -> np.ndarray:
    """Attenuation of what `data.chest_simulator.film.Setup.devices` names, (n, n) float32."""
    out = np.zeros((scene.n, scene.n), np.float32)
    for name in scene.setup.devices:
        _DRAW[name](out, scene, rng, int(rng.choice([-1, 1])))
    return out


def burn_in(image: np.ndarray, setup, rng: np.random.Generator) -> None:
    """Collimated edges, lead letters and typed text, in place."""
    size = image.shape[0]
    for edge, share in enumerate(setup.border):
        width = round(share * size)
        if width:
            dark = np.float32(rng.uniform(0, 12)) if rng.random() < 0.88 else np.float32(rng.uniform(215, 250))
            lean = rng.normal(0, 0.025) if rng.random() < 0.25 else 0.0  # a cassette that lay askew
            reach = width + lean * (np.arange(size) - size / 2)
            lines = image if edge in (1, 3) else image.T
            lines = lines if edge < 2 else lines[::-1]
            lines[np.arange(size)[:, None] < reach[None]] = dark
    mark, mx, my, tall, angle = setup.marker
    _letter(image, mark, mx * size, my * size, tall, angle, rng)
    for word, tx, ty in setup.text:
        height = rng.uniform(0.014, 0.02) * size
        layer = np.zeros((4 * 40, 4 * 200), np.uint8)
        cv2.putText(layer, word, (10, 110), cv2.FONT_HERSHEY_SIMPLEX, 3.2, 255, 9, cv2.LINE_AA)
        if word == "^":  # an arrow that points up
            layer[:] = 0
            cv2.arrowedLine(layer, (90, 150), (90, 10), 255, 12, cv2.LINE_AA, tipLength=0.5)
        shrink = height / 70
        layer = cv2.resize(layer, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        top, left = int(ty * size), int(tx * size)
        high, wide = min(layer.shape[0], size - top), min(layer.shape[1], size - left)
        part = image[top : top + high, left : left + wide]
        part += layer[:high, :wide] * (235 - part).clip(0)


def _letter(image: np.ndarray, mark: str, x: float, y: float, tall: float, angle: float, rng: np.random.Generator) -> None:
    size = image.shape[0]
    patch = np.zeros((96, 96), np.uint8)
    kind = rng.random()
    if kind < 0.12:  # a dark letter on a bright disc
        cv2.circle(patch, (46, 47), 42, 255, -1, cv2.LINE_AA)
        cv2.putText(patch, mark, (30, 64), cv2.FONT_HERSHEY_SIMPLEX, 1.6, 0, 7, cv2.LINE_AA)
    else:
        cv2.putText(patch, mark, (28, 68), cv2.FONT_HERSHEY_SIMPLEX, 1.9, 255, int(rng.integers(5, 10)), cv2.LINE_AA)
        if kind < 0.3:
            cv2.circle(patch, (46, 47), 40, 255, 4, cv2.LINE_AA)
        elif kind < 0.65:
            letters = "".join(rng.choice(list("ABCDGJKMRST"), 2))
            cv2.putText(patch, letters, (26, 92), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 200, 2, cv2.LINE_AA)
    scale = 46 / (tall * size)
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    matrix = np.array([[cosine, -sine, 46 - cosine * x + sine * y], [sine, cosine, 47 - sine * x - cosine * y]])
    blurred = cv2.GaussianBlur(patch, (0, 0), max(0.1, 0.45 * scale)).astype(np.float32)
    letter = cv2.warpAffine(blurred, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) / 255
    image += letter * (np.float32(rng.uniform(190, 255)) - image).clip(0)
