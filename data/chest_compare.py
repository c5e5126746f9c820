"""How near the simulated chest films come to real ones: grey levels, spectrum, local contrast, heart size, findings.

``python -m data.chest_compare SIMULATED REAL`` prints the figures; ``--sheet FILE.png`` draws 15 films of each cohort side by
side; ``--train 3000`` trains a small network on the simulated training films and reports its AUROC per finding on the
simulated test films and on the real ones; ``--predictions FILE.csv`` reports the AUROC of predictions that exist. Both
folders are in the NIH format. Keep a sheet with real patients private.

A distance between two cohorts means little alone, so each is given beside the distance between two halves of the
real one, split by patient.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from data.errors import DataError
from data.nih import FINDINGS, SIMULATED_FILE, ChestFolder, load_films, read_chest_folder

SIZE = 256  # pixels; all films are compared at this size
LOCAL = 9  # pixels; side of the square whose standard deviation is the local contrast


def grey_levels(films: np.ndarray) -> np.ndarray:
    """Share of pixels in each of 32 grey levels, (films, 32), of uint8 films (films, n, n)."""
    return np.array([np.bincount(film.ravel() >> 3, minlength=32) / film.size for film in films])


def spectra(films: np.ndarray) -> np.ndarray:
    """Radial power spectrum of each film, (films, n // 2 - 1): log10 of the mean power at 1, 2, ... cycles per film side.

    A Hann window keeps the film's edges out; power is per unit of grey-level variance times pixels, so that contrast
    and sharpness both count.
    """
    n = films.shape[1]
    window = np.outer(np.hanning(n), np.hanning(n))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(n, 1 / n), np.fft.fftfreq(n, 1 / n))).round().astype(int).ravel()
    out = []
    for film in films:
        power = np.abs(np.fft.fft2((film - film.mean()) * window)) ** 2
        mean = np.bincount(frequency, power.ravel())[: n // 2] / np.bincount(frequency)[: n // 2]
        out.append(np.log10(mean[1:] + 1e-6))
    return np.array(out)


def local_contrast(films: np.ndarray) -> np.ndarray:
    """Deciles 10 to 90 % of the standard deviation in squares of `LOCAL` pixels, grey levels, (films, 9)."""
    out = []
    for film in films:
        film = film.astype(np.float32)
        mean = cv2.blur(film, (LOCAL, LOCAL))
        deviation = np.sqrt(np.maximum(cv2.blur(film * film, (LOCAL, LOCAL)) - mean * mean, 0))
        out.append(np.percentile(deviation, np.arange(10, 91, 10)))
    return np.array(out)


def distances(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, float]:
    """Distance of two cohorts in each measure, from the mean over their films.

    Total variation distance of the grey-level histograms (0 equal, 1 disjoint), root mean square difference of the log10
    spectra (0.3 is a factor of two in power) and of the deciles of local contrast (grey levels).
    """
    levels = 0.5 * np.abs(one["grey levels"].mean(0) - other["grey levels"].mean(0)).sum()
    rest = {name: np.sqrt(np.mean((one[name].mean(0) - other[name].mean(0)) ** 2)) for name in ("spectrum", "local contrast")}
    return {"grey levels": float(levels)} | {name: float(value) for name, value in rest.items()}


def appearance(films: np.ndarray) -> dict[str, np.ndarray]:
    """All three measures of uint8 films (films, n, n)."""
    return {"grey levels": grey_levels(films), "spectrum": spectra(films), "local contrast": local_contrast(films)}


def halves(patients: np.ndarray, seed: int) -> np.ndarray:
    """A random half of the patients: bool (films,), so that no patient is on both sides."""
    names = np.unique(patients)
    return np.isin(patients, np.random.default_rng(seed).permutation(names)[: len(names) // 2])


def compare(simulated: np.ndarray, real: np.ndarray, patients: np.ndarray, repeats: int = 20) -> pd.DataFrame:
    """Distances of simulated and real films, and of two halves of the real ones by patient (mean over `repeats` splits).

    The simulated side is a random half as well, so that both distances are between samples of like size.
    """
    one, other = appearance(simulated), appearance(real)
    rows = []
    for seed in range(repeats):
        half = halves(patients, seed)
        first, second = ({k: v[part] for k, v in other.items()} for part in (half, ~half))
        drawn = np.random.default_rng(seed).permutation(len(simulated))[: max(1, min(len(simulated), int(half.sum())))]
        rows.append({("simulated to real", k): v for k, v in distances({k: v[drawn] for k, v in one.items()}, first).items()}
                    | {("real to real", k): v for k, v in distances(first, second).items()})  # fmt: skip
    table = pd.DataFrame(rows).mean().unstack(0)[["simulated to real", "real to real"]]
    return table.reindex(["grey levels", "spectrum", "local contrast"]).assign(ratio=lambda t: t.iloc[:, 0] / t.iloc[:, 1])


# ---------------------------------------------------------------------------------------------------------------------
# Heart size
# ---------------------------------------------------------------------------------------------------------------------


def true_heart_ratios(seed: int, films: int, names: list[str]) -> np.ndarray:
    """Cardiothoracic ratio of simulated films from their geometry: widths of heart and inner chest as projected."""
    from data.chest_cohort import person_and_setup
    from data.chest_film import compose
    from data.chest_patients import plan_cohort

    plan = {film.name: film for film in plan_cohort(films, seed)}
    ratios = []
    for name in names:
        body, setup, place = person_and_setup(plan[name], seed)
        scene, _ = compose(body, setup, plan[name].severity, place, 160)
        heart = np.flatnonzero((scene.heart_chord > 3).any(0))
        chest = np.flatnonzero((scene.cavity[-1] + scene.cavity[1] > 3).any(0))
        ratios.append(np.ptp(heart) / np.ptp(chest))
    return np.array(ratios)


def estimated_heart_ratio(film: np.ndarray) -> float:
    """Cardiothoracic ratio of a film (n, n) from its grey levels, nan where lungs are not found.

    In the rows above each hemidiaphragm the lung is the darkest column of its side; heart and chest wall begin where
    the film brightens most from there inwards and outwards. Rough: its error on simulated films is printed with it.
    """
    film = cv2.GaussianBlur(cv2.resize(film, (128, 128), interpolation=cv2.INTER_AREA).astype(np.float32), (0, 0), 1.6)
    profile = film[40:80].mean(0)
    edges = {}
    for side, part in ((-1, slice(16, 56)), (1, slice(72, 112))):
        lung = part.start + int(profile[part].argmin())
        column = film[:, max(lung - 3, 0) : lung + 4].mean(1)
        floor = 58 + int(np.diff(column)[58:118].argmax())  # the lung ends where the film brightens most downwards
        inner, outer = [], []
        for row in range(max(floor - 26, 40), floor - 3, 2):
            line = film[row - 1 : row + 2].mean(0)
            steps = np.diff(line) * side
            inwards = steps[min(lung, 64) : max(lung, 64)]
            outwards = steps[lung : lung + 42] if side > 0 else steps[max(lung - 42, 0) : lung]
            if len(inwards) < 4 or len(outwards) < 4:
                continue
            inner.append(abs(min(lung, 64) + int(inwards.argmin()) - 63.5))
            outer.append(abs((lung if side > 0 else max(lung - 42, 0)) + int(outwards.argmax()) - 63.5))
        if len(inner) < 3:
            return float("nan")
        edges[side] = np.percentile(inner, 80), np.percentile(outer, 80)
    return float((edges[-1][0] + edges[1][0]) / (edges[-1][1] + edges[1][1]))
