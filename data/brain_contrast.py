"""From tissue to four MR sequences: relaxation, partial volume, and what scanners add."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from data.brain_anatomy import Brain, smooth_noise
from data.brain_tumour import Tumour

SEQUENCES = ("FLAIR", "T1w", "T1gd", "T2w")


@dataclass(frozen=True)
class Tissue:
    """Relaxation at 3 T: T1 and T2 in ms, proton density relative to water."""

    t1: float
    t2: float
    density: float


# Sources: data/README.md, section Brain.
TISSUES = {
    "wm": Tissue(900, 70, 0.70),
    "gm": Tissue(1400, 92, 0.82),
    "csf": Tissue(4200, 1500, 1.00),
    "edema": Tissue(1550, 140, 0.88),
    "solid": Tissue(1650, 125, 0.86),
    "necrosis": Tissue(2300, 260, 0.94),
    "blood": Tissue(700, 80, 0.85),  # subacute: methaemoglobin shortens T1
    "vein": Tissue(1650, 60, 0.85),
}
RELAXIVITY = 4.5  # 1/(s mM), gadolinium chelates at 3 T (Rohrer et al., Invest. Radiol. 2005)
RIM_CONCENTRATION = 0.45  # mM in a typical enhancing rim some minutes after 0.1 mmol/kg
VEIN_CONCENTRATION = 0.8  # mM


def spin_echo(tissue: Tissue, tr: float, te: float, gadolinium: float = 0.0) -> float:
    """Signal of a spin echo: ``PD (1 - exp(-TR/T1)) exp(-TE/T2)``; times in ms, gadolinium in mM shortens T1."""
    rate = 1 / tissue.t1 + RELAXIVITY * gadolinium / 1000
    return tissue.density * (1 - np.exp(-tr * rate)) * np.exp(-te / tissue.t2)


def inversion_recovery(tissue: Tissue, tr: float, te: float, ti: float, gadolinium: float = 0.0) -> float:
    """Magnitude of an inversion recovery spin echo: ``PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2)``."""
    rate = 1 / tissue.t1 + RELAXIVITY * gadolinium / 1000
    return tissue.density * abs(1 - 2 * np.exp(-ti * rate) + np.exp(-tr * rate)) * np.exp(-te / tissue.t2)


def scan(rng: np.random.Generator, brain: Brain, tumour: Tumour) -> np.ndarray:
    """The four sequences of one examination.

    Returns
    -------
    ndarray, int16
        ``grid.shape + (4,)``, 0 outside the brain and at least 1 inside.
    """
    amounts = _amounts(brain, tumour)
    tissues = {
        name: Tissue(t.t1 * rng.normal(1, 0.04), t.t2 * rng.normal(1, 0.05), t.density * rng.normal(1, 0.01))
        for name, t in TISSUES.items()
    }
    grid = brain.grid
    texture = 0.02 * smooth_noise(rng, grid.axes(), 9) + 0.02 * smooth_noise(rng, grid.axes(), 3)
    images = np.zeros((*grid.shape, 4), np.int16)
    for channel, name in enumerate(SEQUENCES):
        image = _sequence(rng, name, tissues, amounts)
        image = image * (1 + texture)
        image = _acquire(rng, image, brain)
        level = np.exp(rng.normal(np.log(350), 0.4))
        image *= level / image[brain.mask].mean()
        images[..., channel] = np.clip(np.round(image), 1, 32767) * brain.mask
    return images


def _amounts(brain: Brain, tumour: Tumour) -> dict[str, np.ndarray]:
    """Fraction of each tissue in each voxel; they sum to 1."""
    rest = 1 - tumour.solid - tumour.necrosis
    np.clip(rest, 0, 1, out=rest)
    edema = rest * tumour.edema * (1 - brain.csf)
    healthy = rest - edema
    total = np.maximum(brain.wm + brain.gm + brain.csf, 1e-6)
    amounts = {name: healthy * getattr(brain, name) / total for name in ("wm", "gm", "csf")}
    amounts |= {"edema": edema, "solid": tumour.solid, "necrosis": tumour.necrosis}
    for name, extra in (("blood", tumour.blood), ("vein", 0.8 * np.clip(brain.vein, 0, 1))):
        for other in amounts:
            amounts[other] = amounts[other] * (1 - extra)
        amounts[name] = extra
    amounts["contrast"] = tumour.contrast
    return amounts


def _sequence(rng: np.random.Generator, name: str, tissues: dict[str, Tissue], amounts: dict[str, np.ndarray]) -> np.ndarray:
    """Noise-free image of one sequence: each voxel is the sum of its tissues' signals."""
    if name == "FLAIR":
        tr, te = rng.uniform(8500, 10500), rng.uniform(100, 140)
        ti = (0.27 * tr) * rng.normal(0.97, 0.01)
        signal = lambda tissue, gadolinium=0.0: inversion_recovery(tissue, tr, te, ti, gadolinium)  # noqa: E731
    elif name == "T2w":
        tr, te = rng.uniform(3500, 6000), rng.uniform(85, 110)
        signal = lambda tissue, gadolinium=0.0: spin_echo(tissue, tr, te, gadolinium)  # noqa: E731
    else:
        tr, te = rng.uniform(500, 800), rng.uniform(8, 14)
        signal = lambda tissue, gadolinium=0.0: spin_echo(tissue, tr, te, gadolinium)  # noqa: E731
    gadolinium = name == "T1gd"
    image = np.zeros_like(amounts["wm"])
    for tissue, amount in amounts.items():
        if tissue != "contrast":
            image += np.float32(signal(tissues[tissue], VEIN_CONCENTRATION * gadolinium * (tissue == "vein"))) * amount
    if gadolinium:
        dose = RIM_CONCENTRATION * rng.uniform(0.6, 1.6)
        gain = signal(tissues["solid"], dose) - signal(tissues["solid"])
        image += np.float32(gain) * amounts["contrast"]
    return image


def _acquire(rng: np.random.Generator, image: np.ndarray, brain: Brain) -> np.ndarray:
    """Coil shading, thick slices, noise and ghosts."""
    grid = brain.grid
    image = image * np.exp(rng.uniform(0.03, 0.12) * smooth_noise(rng, grid.axes(), 70)) * brain.mask
    reference = image[brain.mask].mean()
    if rng.random() < 0.6:
        image = thick_slices(image, rng.choice([2, 2, 2, 0]), rng.uniform(2, 6) / grid.spacing)
    if rng.random() < 0.15:
        axis = rng.choice([0, 1])
        image = image + rng.uniform(0.02, 0.06) * np.roll(image, image.shape[axis] // 2, axis)
    sigma = reference * rng.uniform(0.02, 0.05)
    real, imaginary = (rng.standard_normal(grid.shape, dtype=np.float32) for _ in range(2))
    image = np.hypot(image + sigma * real, sigma * imaginary)
    return ndimage.gaussian_filter(image, rng.uniform(0.4, 0.7) / grid.spacing).astype(np.float32)


def thick_slices(image: np.ndarray, axis: int, thickness: float) -> np.ndarray:
    """What remains after slices of `thickness` voxels along `axis` were acquired and interpolated back."""
    if thickness <= 1:
        return image
    n = image.shape[axis]
    centres = np.arange(thickness / 2, n + thickness / 2, thickness)
    edges = np.arange(n + 1)
    low, high = centres - thickness / 2, centres + thickness / 2
    cover = np.clip(np.minimum(edges[1:], high[:, None]) - np.maximum(edges[:-1], low[:, None]), 0, 1)
    cover /= np.maximum(cover.sum(1, keepdims=True), 1e-9)
    back = np.maximum(0, 1 - np.abs((np.arange(n) + 0.5)[:, None] - centres) / thickness)
    back /= back.sum(1, keepdims=True)
    operator = (back @ cover).astype(np.float32)
    return np.moveaxis(np.tensordot(operator, image, axes=(1, axis)), 0, axis)
