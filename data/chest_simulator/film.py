"""One simulated X-ray: the body of `anatomy`, placed and exposed, with its findings."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from data.chest_simulator import anatomy
from data.chest_simulator import projection as physics
from data.chest_simulator.devices import burn_in, devices
from data.chest_simulator.scene import Scene
from data.findings import FINDINGS

DRAINED = {"Pneumothorax": 0.3, "Effusion": 0.08}  # share of the X-rays with a chest tube
SEVERAL_PLACES = ("Nodule", "Effusion", "Infiltration")  # one box for each place


@dataclass
class Setup:
    """How a patient was placed and exposed for one X-ray."""

    view: str  # "PA" or "AP"
    field: tuple[float, float]  # width and height of the X-ray, mm; both become `size` pixels, as in NIH's files
    inspiration: float  # 1 full
    rotation: float  # about the vertical axis, radians
    tilt: float  # in the plane of the image, radians
    offset: tuple[float, float]  # of the X-ray's middle and top from the patient's midline and lung tops, mm
    arms: float  # outward angle of the arms, radians
    exposure: physics.Exposure
    border: tuple[float, float, float, float]  # collimated strips left, top, right, bottom, as shares of the X-ray
    marker: tuple[str, float, float, float, float]  # text, x and y (shares of the X-ray), height, angle
    text: list[tuple[str, float, float]]
    devices: tuple[str, ...]  # see `data.chest_simulator.devices`
    pixels: tuple[int, int]  # size of the "original" X-ray
    spacing: float
    seed: int


def sample_setup(rng: np.random.Generator, view: str) -> Setup:
    """Draw the circumstances of one X-ray; AP X-rays are portable ones of sick people in bed."""
    portable = view == "AP"
    pixels, spacing = [((2992, 2991), 0.143), ((2500, 2048), 0.168), ((2048, 2500), 0.168), ((3056, 2544), 0.139)][
        rng.choice(4, p=[0.62, 0.16, 0.16, 0.06] if not portable else [0.01, 0.85, 0.05, 0.09])
    ]
    zoom = rng.uniform(0.88, 1.06) if not portable else rng.uniform(0.94, 1.14)
    width, height = (max(p * spacing, 340) * zoom for p in pixels)
    border = [0.0] * 4
    if rng.random() < 0.27:
        for edge in range(4):
            if rng.random() < 0.45:
                border[edge] = float(abs(rng.normal(0, 0.022)) + 0.006)
    mark = "L" if rng.random() < (0.75 if not portable else 0.55) else "R"
    left_side = mark == "R"
    text = []
    if portable and rng.random() < 0.55:
        corner = (float(rng.uniform(0.66, 0.80) if rng.random() < 0.5 else rng.uniform(0.02, 0.12)), float(rng.uniform(0.03, 0.14)))
        words = (["PORTABLE"], ["PORTABLE", "AP"], ["AP", "SUPINE"], ["PORTABLE", "ERECT"], ["AP"], ["^", "PORTABLE"], ["AP", "^"])[
            rng.integers(7)
        ]
        text = [(word, corner[0], corner[1] + 0.055 * k) for k, word in enumerate(words)]
    return Setup(
        view=view,
        field=(width, height),
        inspiration=float(np.clip(rng.normal(0.95 if not portable else 0.80, 0.06 if not portable else 0.09), 0.55, 1.05)),
        rotation=float(rng.normal(0, 0.035 if not portable else 0.09)),
        tilt=float(rng.normal(0, 0.016 if not portable else 0.045)),
        offset=(
            float(rng.normal(0, 7 if not portable else 14)),
            float(rng.normal(-50, 16) if not portable else rng.normal(-80, 24)),
        ),
        arms=float(np.clip(rng.normal(0.50, 0.28) if not portable else rng.normal(0.22, 0.14), 0.03, 1.3)),
        exposure=sample_exposure(rng, portable),
        border=tuple(border),
        marker=(
            mark,
            float(rng.uniform(0.04, 0.10) if left_side else rng.uniform(0.88, 0.95)),
            float(rng.uniform(0.03, 0.16) if rng.random() < 0.75 else rng.uniform(0.2, 0.6)),
            float(rng.uniform(0.024, 0.045)),
            float(rng.normal(0, 0.3)),
        ),
        text=text,
        devices=sample_devices(rng, portable),
        pixels=pixels,
        spacing=spacing,
        seed=int(rng.integers(2**31)),
    )


def sample_exposure(rng: np.random.Generator, portable: bool) -> physics.Exposure:
    """Draw exposure and processing; ranges set by comparing grey levels and spectra with public X-rays."""
    return physics.Exposure(
        photons=float(np.exp(rng.normal(np.log(8000 if not portable else 2500), 0.6))) * 30,
        scatter=float(rng.uniform(0.30, 0.80) if not portable else rng.uniform(0.5, 1.3)),
        scatter_width=float(rng.uniform(35, 60)),
        compression=float(rng.uniform(0.10, 0.60) if not portable else rng.uniform(0.05, 0.45)),
        low=float(rng.uniform(0.0, 0.03)),
        high=float(rng.uniform(0.96, 1.0)),
        headroom=float(rng.uniform(0.02, 0.30)),
        contrast=float(np.clip(rng.normal(3.0 if not portable else 2.6, 0.9), 1.2, 6.0)),
        brightness=float(np.clip(rng.normal(0.13 if not portable else 0.25, 0.10), -0.10, 0.55)),
        sharpening=float(rng.uniform(0.05, 0.8)),
        white=float(rng.uniform(243, 255) if rng.random() < (0.78 if not portable else 0.85) else rng.uniform(140, 245)),
        fog=float(min(abs(rng.normal(0, 0.05)), 0.2)),
        blur=float(rng.uniform(0.35, 0.7) if not portable else rng.uniform(0.35, 1.0)),
    )


def sample_devices(rng: np.random.Generator, portable: bool) -> tuple[str, ...]:
    """Draw lines, leads and implants; most are on portable X-rays."""
    share = {
        "endotracheal": 0.20,
        "gastric": 0.20,
        "catheter": 0.35,
        "tubing": 0.30,
        "pacemaker": 0.04,
        "wires": 0.12,
        "button": 0.15,
    }
    if not portable:
        share = {"catheter": 0.10, "pacemaker": 0.025, "wires": 0.06, "button": 0.10, "gastric": 0.01}
    names = [name for name, chance in share.items() if rng.random() < chance]
    leads = int(rng.integers(2, 7)) if portable and rng.random() < 0.6 else 0
    return tuple(names + ["tubing"] * (leads > 4) + ["lead"] * leads)


def simulate_film(
    body: anatomy.Body, setup: Setup, findings: dict[str, float], finding_seed: int, size: int = 256
) -> tuple[np.ndarray, dict[str, list[tuple[float, float, float, float]]]]:
    """Expose one X-ray.

    Parameters
    ----------
    body, setup
        The person and the circumstances; not changed.
    findings : dict of str to float
        NIH name of each finding to its severity, 0 (subtle) to 1 (obvious).
    finding_seed : int
        Where in the body findings lie; the same for all X-rays of a patient, so that findings persist.
    size : int
        Pixels per side.

    Returns
    -------
    image : (size, size) uint8
    boxes : dict of finding to a list of (x, y, w, h) in pixels of the film
    """
    setup = _drained(setup, findings)
    scene, weights = compose(body, setup, findings, finding_seed, size)
    signal, rng = _expose(scene)
    boxes = {name: scene.boxes_on_film(weight, name in SEVERAL_PLACES) for name, weight in weights.items()}
    return _finish(scene, signal, rng), boxes


def simulate_twins(
    body: anatomy.Body,
    setup: Setup,
    findings: dict[str, float],
    finding_seed: int,
    finding: str,
    severity: float | None = None,
    size: int = 256,
) -> tuple[np.ndarray, np.ndarray, list[tuple[float, float, float, float]]]:
    """The same person, exposure, noise and window with and without one finding: their difference is what it looks like.

    All that the finding does to the body is in the difference, such as a heart that is pushed aside. A chest tube is not:
    it stays.

    Parameters
    ----------
    body, setup, findings, finding_seed, size
        As for `simulate_film`, whose image is one of the two.
    finding : str
        The one of `findings` to take away, or, with a `severity` (0 to 1), the one to add.

    Returns
    -------
    with_finding, without_finding : (size, size) uint8
    boxes : list of (x, y, w, h) in pixels
    """
    setup = _drained(setup, findings)
    scene, weights = compose(body, setup, findings if severity is None else findings | {finding: severity}, finding_seed, size)
    bare, _ = compose(body, setup, {name: s for name, s in findings.items() if name != finding}, finding_seed, size)
    scene.tube_side = bare.tube_side = scene.tube_side or bare.tube_side
    (signal, rng), (bare_signal, bare_rng) = _expose(scene), _expose(bare)
    window = signal if severity is None else bare_signal  # of the X-ray that the cohort has
    images = _finish(scene, signal, rng, window), _finish(bare, bare_signal, bare_rng, window)
    return *images, scene.boxes_on_film(weights[finding], finding in SEVERAL_PLACES)


def _drained(setup: Setup, findings: dict[str, float]) -> Setup:
    """With a chest tube, where a finding has led to one."""
    share = max((DRAINED.get(name, 0) for name in findings), default=0)
    placed = np.random.default_rng([setup.seed, 9]).random() < share
    return replace(setup, devices=(*setup.devices, "chest tube")) if placed else setup


def _expose(scene: Scene) -> tuple[np.ndarray, np.random.Generator]:
    """Log signal (size, size) of the detector, and the generator as it is after the noise."""
    setup, size = scene.setup, scene.size
    rng = np.random.default_rng(setup.seed + 11)
    attenuation = scene.attenuation() + devices(scene, rng)
    on_film = cv2.warpAffine(
        attenuation, scene.to_film(), (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return physics.detect(on_film, setup.exposure, scene.pixel, rng), rng


def _finish(scene: Scene, signal: np.ndarray, rng: np.random.Generator, window: np.ndarray | None = None) -> np.ndarray:
    """Grey levels (size, size) uint8 with marks; `window` is the signal by whose range black and white are set."""
    image = physics.develop(signal, scene.setup.exposure, scene.pixel, window)
    burn_in(image, scene.setup, rng)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def compose(
    body: anatomy.Body, setup: Setup, findings: dict[str, float], finding_seed: int, size: int
) -> tuple[Scene, dict[str, np.ndarray]]:
    """The scene with all findings drawn, and for each finding the weight map that its box encloses."""
    from data.chest_simulator import findings as signs

    body = replace(body, raise_dome=dict(body.raise_dome))
    generators = {name: np.random.default_rng([finding_seed, FINDINGS.index(name)]) for name in findings}
    plans = {name: signs.prepare(name, body, setup, severity, generators[name]) for name, severity in findings.items()}
    scene = Scene(body, setup, size)
    return scene, {name: signs.draw(name, scene, plans[name], severity, generators[name]) for name, severity in findings.items()}
