"""From tissue to four MR sequences: relaxation, partial volume, and what scanners add."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
from scipy import fft

from data.brain_simulator.anatomy import Brain
from data.brain_simulator.fields import gaussian, smooth_noise
from data.brain_simulator.tumour import Tumour

SEQUENCES = ("FLAIR", "T1w", "T1gd", "T2w")


@dataclass(frozen=True)
class Tissue:
    """Relaxation at 3 T: T1 and T2 in ms, proton density relative to water."""

    t1: float
    t2: float
    density: float


# Sources: README.md in this folder.
TISSUES = {
    "wm": Tissue(880, 72, 0.70),
    "gm": Tissue(1500, 92, 0.80),
    "csf": Tissue(4200, 1500, 1.00),
    "deep": Tissue(1200, 66, 0.77),  # grey matter of nuclei and brain stem: iron shortens T2
    "edema": Tissue(1590, 138, 0.87),
    "solid": Tissue(1770, 135, 0.86),
    "necrosis": Tissue(2600, 255, 0.93),
    "blood": Tissue(700, 80, 0.85),  # subacute: methaemoglobin shortens T1
    "vessel": Tissue(1650, 70, 0.80),
    "fat": Tissue(370, 110, 0.90),  # remains of scalp and orbit where the skull was not stripped well
}
LESIONS = ("edema", "solid", "necrosis")  # these differ much more between patients than healthy tissue does
RELAXIVITY = 4.5  # 1/(s mM), gadolinium chelates at 3 T (Rohrer et al., Invest. Radiol. 2005)
RIM_CONCENTRATION = 0.11  # mM in a typical enhancing rim some minutes after 0.1 mmol/kg
VESSEL_CONCENTRATION = 1.0  # mM
FLOW_VOID = 0.3  # what is left of the spin echo of flowing blood


def spin_echo(tissue: Tissue, tr: float, te: float, gadolinium: float = 0.0) -> float:
    """Signal of a spin echo: ``PD (1 - exp(-TR/T1)) exp(-TE/T2)``; times in ms, gadolinium in mM shortens T1."""
    rate = 1 / tissue.t1 + RELAXIVITY * gadolinium / 1000
    return tissue.density * (1 - np.exp(-tr * rate)) * np.exp(-te / tissue.t2)


def inversion_recovery(tissue: Tissue, tr: float, te: float, ti: float, gadolinium: float = 0.0) -> float:
    """Magnitude of an inversion recovery spin echo: ``PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2)``."""
    rate = 1 / tissue.t1 + RELAXIVITY * gadolinium / 1000
    return tissue.density * abs(1 - 2 * np.exp(-ti * rate) + np.exp(-tr * rate)) * np.exp(-te / tissue.t2)


def gradient_echo(tissue: Tissue, tr: float, te: float, flip: float, gadolinium: float = 0.0) -> float:
    """Spoiled gradient echo (Ernst): ``PD sin(a) (1 - E) / (1 - E cos(a)) exp(-TE/T2)``, E = exp(-TR/T1); a in radians."""
    e = np.exp(-tr * (1 / tissue.t1 + RELAXIVITY * gadolinium / 1000))
    return tissue.density * np.sin(flip) * (1 - e) / (1 - e * np.cos(flip)) * np.exp(-te / tissue.t2)


def scan(rng: np.random.Generator, brain: Brain, tumour: Tumour) -> np.ndarray:
    """The four sequences of one examination.

    Returns
    -------
    ndarray, int16
        ``grid.shape + (4,)``, 0 outside the brain and at least 1 inside.
    """
    grid, at = brain.grid, np.flatnonzero(brain.mask)

    def inside(volume: np.ndarray) -> np.ndarray:
        """Values of the brain's voxels: a third of the grid."""
        return volume.reshape(-1)[at]

    def noise(knot_distance: float) -> np.ndarray:
        return inside(smooth_noise(rng, grid.axes(), knot_distance))

    caps = inside(gaussian(brain.ventricle, 2.5 / grid.spacing))
    brain_in, tumour_in = (
        replace(whole, **{f.name: inside(value) for f in fields(whole) if isinstance(value := getattr(whole, f.name), np.ndarray)})
        for whole in (brain, tumour)
    )
    amounts = _amounts(rng, brain_in, tumour_in, caps, noise)
    tissues = {}
    for name, t in TISSUES.items():
        spread = 0.16 if name in LESIONS else 0.05
        of_t1, of_t2 = spread * np.clip(rng.standard_normal(2), -1.2, 1.2)  # bounded: no edema that is dark on FLAIR
        tissues[name] = Tissue(t.t1 * np.exp(0.6 * of_t1), t.t2 * np.exp(of_t2), t.density * rng.normal(1, 0.01))
    texture = 0.025 * noise(9) + 0.02 * noise(3)
    lesion = tumour_in.edema + 2 * (tumour_in.solid + tumour_in.necrosis)
    texture += lesion * (0.04 * noise(6) + 0.03 * noise(2.5))
    # The stripped edge holds some bone and air without signal.
    texture = (1 + texture) * (1 - brain_in.rim * np.clip(0.35 + 0.5 * noise(7), 0, 0.95))
    images = np.zeros((*grid.shape, 4), np.int16)
    for channel, name in enumerate(SEQUENCES):
        signal = _protocol(rng, name)
        image = np.zeros(grid.shape, np.float32)
        image.reshape(-1)[at] = _sequence(rng, name, signal, tissues, amounts) * texture
        three_dimensional = signal.func is gradient_echo
        image = _acquire(rng, image, brain, thick=not three_dimensional and rng.random() < 0.8)
        level = np.exp(rng.normal(np.log(350), 0.4))
        image = inside(image)
        image *= np.float32(level / image.mean())
        images.reshape(-1, 4)[at, channel] = np.clip(np.round(image), 1, 32767)
    return images


def cut_slab(rng: np.random.Generator, images: np.ndarray, labels: np.ndarray) -> None:
    """Take away, in place, what a FLAIR that covers a part of the brain only has not seen, and the labels there.

    The border is a tilted plane that leaves at least nine tenths of the tumour and half of the brain's length.
    """
    normal = np.array([rng.normal(0, 0.06), rng.choice([-1.0, 1.0]), rng.normal(0, 0.2)])
    if rng.random() < 0.5:
        normal = normal[[0, 2, 1]]
    seen = np.argwhere(images[..., 0] > 0)
    along = seen @ normal
    border = max(np.quantile(np.argwhere(labels > 0) @ normal, rng.uniform(0.9, 1.0)), np.quantile(along, rng.uniform(0.55, 0.9)))
    lost = tuple(seen[along > border].T)
    images[(*lost, 0)] = 0
    labels[lost] = 0


def _amounts(
    rng: np.random.Generator, brain: Brain, tumour: Tumour, caps: np.ndarray, noise: Callable[[float], np.ndarray]
) -> dict[str, np.ndarray]:
    """Fraction of each tissue in each voxel (they sum to 1), and the concentration of contrast agent in the tumour.

    All arrays hold the brain's voxels only; `caps` is the blurred ventricle, `noise` draws from `smooth_noise`.
    """
    fluid = brain.csf * (1 - 0.6 * tumour.edema)  # swelling closes the sulci
    rest = np.clip(1 - tumour.solid - tumour.necrosis, 0, 1)
    # Ageing white matter: caps around the ventricles and scattered spots, bright on FLAIR, no part of the tumour.
    caps = 2.2 * caps * rng.uniform(0, 0.8)
    spots = np.clip(noise(4.5) - rng.uniform(2.0, 3.0), 0, 0.8)
    old = np.clip(caps + spots, 0, 0.7) * brain.wm
    edema = rest * np.maximum(tumour.edema, old) * (1 - fluid)
    healthy = (rest - edema) / np.maximum(brain.wm + brain.gm + fluid, 1e-6)
    amounts = {"wm": healthy * brain.wm, "gm": healthy * brain.gm * (1 - brain.deep), "csf": healthy * fluid}
    amounts |= {"deep": healthy * brain.gm * brain.deep, "edema": edema, "solid": tumour.solid, "necrosis": tumour.necrosis}
    # Vessels: sinuses, small ones in the sulci, the plexus in the ventricles.
    plexus = np.clip(noise(4.5) - 1.3, 0, 1) * brain.ventricle
    dura = np.clip(noise(18) - rng.uniform(0.4, 2.0), 0, 0.8) * brain.rim
    vessel = np.clip(rng.uniform(0.3, 0.9) * brain.vein + brain.artery + dura + 0.7 * plexus, 0, 0.9) * rest
    fat = np.clip(noise(9) - rng.uniform(1.2, 3.0), 0, 0.8) * brain.rim
    for name, extra in (("blood", tumour.blood), ("vessel", vessel), ("fat", fat)):
        for other in amounts:
            amounts[other] *= 1 - extra
        amounts[name] = extra
    amounts["contrast"] = tumour.contrast
    return amounts


def _protocol(rng: np.random.Generator, name: str) -> Callable[..., float]:
    """Draw the timing (ms) of one sequence; returns the signal as a function of tissue and gadolinium (mM)."""
    if name == "FLAIR":
        tr = rng.uniform(8500, 10500)
        ti = 0.27 * tr * rng.normal(0.97, 0.012)  # near the zero of cerebrospinal fluid
        return partial(inversion_recovery, tr=tr, te=rng.uniform(100, 140), ti=ti)
    if name == "T2w":
        return partial(spin_echo, tr=rng.uniform(2800, 5000), te=rng.uniform(75, 105))
    if rng.random() < 0.35:
        return partial(gradient_echo, tr=rng.uniform(10, 25), te=rng.uniform(3, 5), flip=np.radians(rng.uniform(18, 30)))
    return partial(spin_echo, tr=rng.uniform(450, 750), te=rng.uniform(8, 14))


def _sequence(
    rng: np.random.Generator, name: str, signal: Callable[..., float], tissues: dict[str, Tissue], amounts: dict[str, np.ndarray]
) -> np.ndarray:
    """Noise-free image of one sequence: each voxel is the sum of its tissues' signals."""
    after_injection = name == "T1gd"
    flows = signal.func is not gradient_echo  # between the pulses of a spin echo, blood leaves the slice
    image = np.zeros_like(amounts["wm"])
    for tissue, amount in amounts.items():
        if tissue != "contrast":
            gadolinium = VESSEL_CONCENTRATION * (after_injection and tissue == "vessel")
            strength = signal(tissues[tissue], gadolinium=gadolinium)
            if tissue == "vessel" and flows and not after_injection:
                strength *= FLOW_VOID
            image += np.float32(strength) * amount
    if after_injection:
        dose = RIM_CONCENTRATION * np.exp(rng.normal(0, 0.35))
        gain = signal(tissues["solid"], gadolinium=dose) - signal(tissues["solid"])
        image += np.float32(gain) * amounts["contrast"]
    return image


def _acquire(rng: np.random.Generator, image: np.ndarray, brain: Brain, *, thick: bool) -> np.ndarray:
    """Coil shading, thick slices, noise and ghosts for an `image` that is 0 outside the brain."""
    grid = brain.grid
    image *= np.exp(rng.uniform(0.04, 0.14) * smooth_noise(rng, grid.axes(), 70))
    reference = float(image.sum(dtype=np.float64)) / np.count_nonzero(brain.mask)
    if rng.random() < 0.12:
        axis = rng.choice([0, 1])
        image = image + rng.uniform(0.02, 0.06) * np.roll(image, image.shape[axis] // 2, axis)
    if rng.random() < 0.25:
        image = motion(image, int(rng.choice([0, 1])), rng.normal(0, 1.0, 6) / grid.spacing, rng.uniform(0.15, 0.9, 5))
    if rng.random() < 0.25:  # registered a voxel beside the others
        image = np.roll(image, rng.choice([-1, 1]), rng.choice(3))
    image = rician(rng, image, reference * np.exp(rng.uniform(np.log(0.03), np.log(0.10))))
    if thick:
        axis, most = [(2, 6.5), (0, 4.5), (1, 4.5)][rng.choice(3, p=[0.84, 0.08, 0.08])]  # mostly axial
        image = thick_slices(image, axis, rng.uniform(1.5, most) / grid.spacing)
    return gaussian(image, rng.uniform(0.4, 0.7) / grid.spacing)


def rician(rng: np.random.Generator, image: np.ndarray, sigma: float) -> np.ndarray:
    """Magnitude of the signal `image` with Gaussian noise of standard deviation `sigma` in both quadrature channels.

    Its mean square is ``image**2 + 2 sigma**2``; without signal it follows Rayleigh's law, with much it is nearly Gaussian
    (Gudbjartsson, Patz, Magn Reson Med 1995).
    """
    real, imaginary = (rng.standard_normal(image.shape, dtype=np.float32) for _ in range(2))
    real *= np.float32(sigma)
    real += image
    imaginary *= np.float32(sigma)
    return np.sqrt(np.add(np.square(real, out=real), np.square(imaginary, out=imaginary), out=real), out=real)


def motion(image: np.ndarray, axis: int, shifts: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Magnitude of a scan during which the head jumped along `axis`, the direction of phase encoding.

    Lines of k-space are acquired one after the other; a head that lies ``shifts[i]`` voxels aside multiplies the lines of
    that time with a linear phase. `times` (one fewer than `shifts`, shares of the acquisition) are when it jumps. The
    middle of k-space is taken as the reference, so the object stays in its place. Phases change no magnitudes in k-space, so
    the sum of squares is kept (Parseval).
    """
    n = image.shape[axis]
    frequency = np.fft.fftfreq(n)
    when = (np.fft.fftshift(np.arange(n)) + 0.5) / n  # the line of frequency 0 is acquired in the middle
    shift = np.asarray(shifts)[np.searchsorted(np.sort(times), when)]
    shift = shift - shift[0]
    phase = np.exp(-2j * np.pi * frequency * shift).astype(np.complex64)
    phase = phase.reshape([n if a == axis else 1 for a in range(image.ndim)])
    return np.abs(fft.ifft(fft.fft(image.astype(np.float32), axis=axis) * phase, axis=axis)).astype(np.float32)


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
