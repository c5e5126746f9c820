"""Who is filmed, how often, with what: the table behind the simulated chest cohort, without any picture.

Sources: counts of findings, X-rays, patients, sex and view of ChestX-ray14 (Wang et al., CVPR 2017, and the table
published with it); co-occurrence after the matrix of that paper; errors of report-derived labels of the order that
Oakden-Rayner (Academic Radiology 2020) and Nabulsi et al. (Scientific Reports 2021) report when radiologists look again.
"""

from dataclasses import dataclass

import numpy as np

from data.chest_simulator.site import Site, find_site
from data.findings import FINDINGS

# X-rays with each finding out of 112,120 in ChestX-ray14.
NIH_COUNTS = dict(
    zip(FINDINGS, (11559, 2776, 13317, 19894, 5782, 6331, 1431, 5302, 4667, 2303, 2516, 1686, 3385, 227), strict=True)
)
NIH_FILMS = 112_120
MALE_SHARE = 0.565
FLOOR = 0.02  # share of X-rays that every finding has at least
TEST_FILMS = 420
TEST_POSITIVES = 12

# Correlation of the normal variables behind two findings (a Gaussian copula); what is not named has 0.04.
_TOGETHER = {
    ("Atelectasis", "Effusion"): 0.42,
    ("Atelectasis", "Infiltration"): 0.16,
    ("Atelectasis", "Consolidation"): 0.24,
    ("Atelectasis", "Pneumothorax"): 0.12,
    ("Atelectasis", "Cardiomegaly"): 0.10,
    ("Effusion", "Infiltration"): 0.20,
    ("Effusion", "Consolidation"): 0.30,
    ("Effusion", "Cardiomegaly"): 0.38,
    ("Effusion", "Edema"): 0.28,
    ("Effusion", "Mass"): 0.20,
    ("Effusion", "Pleural_Thickening"): 0.24,
    ("Effusion", "Pneumothorax"): 0.18,
    ("Infiltration", "Edema"): 0.38,
    ("Infiltration", "Pneumonia"): 0.34,
    ("Infiltration", "Consolidation"): 0.12,
    ("Infiltration", "Nodule"): 0.10,
    ("Pneumonia", "Edema"): 0.38,
    ("Pneumonia", "Consolidation"): 0.14,
    ("Cardiomegaly", "Edema"): 0.30,
    ("Mass", "Nodule"): 0.26,
    ("Mass", "Consolidation"): 0.20,
    ("Emphysema", "Pneumothorax"): 0.42,
    ("Fibrosis", "Pleural_Thickening"): 0.26,
    ("Consolidation", "Edema"): 0.12,
    ("Mass", "Pleural_Thickening"): 0.18,
    ("Emphysema", "Fibrosis"): 0.08,
    ("Hernia", "Atelectasis"): 0.08,
}
# Correlation of each finding with the X-ray being a portable one.
_PORTABLE = dict(
    zip(FINDINGS, (0.16, 0.06, 0.18, 0.26, -0.05, -0.12, 0.24, 0.02, 0.28, 0.66, -0.08, -0.26, -0.10, -0.20), strict=True)
)
# Share of the variance that belongs to the patient and not to the single X-ray: how much a finding persists.
_PERSISTENCE = np.array([0.55, 0.88, 0.65, 0.45, 0.85, 0.85, 0.45, 0.70, 0.50, 0.50, 0.94, 0.94, 0.88, 0.97, 0.60])
# Report-derived labels: sensitivity, positive predictive value.
LABEL_QUALITY = dict(
    zip(
        FINDINGS,
        (
            (0.66, 0.62),
            (0.82, 0.88),
            (0.82, 0.85),
            (0.60, 0.55),
            (0.78, 0.80),
            (0.72, 0.76),
            (0.60, 0.52),
            (0.84, 0.86),
            (0.68, 0.70),
            (0.76, 0.76),
            (0.82, 0.86),
            (0.72, 0.74),
            (0.66, 0.70),
            (0.92, 0.94),
        ),
        strict=True,
    )
)


@dataclass(frozen=True)
class Film:
    """One row of the cohort's table."""

    patient: int
    follow_up: int
    age: int
    first_age: int  # on the patient's first X-ray
    sex: str
    view: str
    severity: dict[str, float]  # of the findings that are truly there
    labels: tuple[str, ...]  # what the text miner reports
    test: bool

    @property
    def name(self) -> str:
        return f"{self.patient:08d}_{self.follow_up:03d}.png"


def _correlation() -> np.ndarray:
    """Correlation (15, 15) of the findings and, last, of the portable view; made positive definite."""
    matrix = np.full((15, 15), 0.04)
    for (one, other), value in _TOGETHER.items():
        i, j = FINDINGS.index(one), FINDINGS.index(other)
        matrix[i, j] = matrix[j, i] = value
    matrix[14, :14] = matrix[:14, 14] = list(_PORTABLE.values())
    np.fill_diagonal(matrix, 1.0)
    values, vectors = np.linalg.eigh(matrix)
    matrix = vectors * np.maximum(values, 0.02) @ vectors.T
    scale = np.sqrt(np.diag(matrix))
    return matrix / np.outer(scale, scale)


_CORRELATION = _correlation()
_ROOT = np.linalg.cholesky(_CORRELATION)


def _shares(site: Site) -> np.ndarray:
    """Share (15,) of the X-rays with each finding and, last, of the AP view."""
    return np.array([*(NIH_COUNTS[name] / NIH_FILMS * site.more.get(name, 1.0) for name in FINDINGS), site.ap_share])


def _films_of_patient(rng: np.random.Generator, most: int) -> int:
    """X-rays per patient: 57 % have one, the mean is about 3.6 and the longest series has 184, as in ChestX-ray14."""
    if rng.random() < 0.52:
        return 1
    return int(min(1 + np.ceil(np.exp(rng.normal(1.05, 1.05))), most))


def _patient(rng: np.random.Generator, shares: np.ndarray, forced: int | None, most: int) -> tuple[dict, list[dict]]:
    """A patient and the X-rays: view, true findings with severity, and labels with their errors."""
    from scipy.special import ndtri  # takes a moment to import, and only who plans a cohort needs it

    limit = -ndtri(shares)  # exceeded by that share of a standard normal variable
    kin = _ROOT @ rng.standard_normal(15)
    keep = np.sqrt(_PERSISTENCE)
    if forced is not None:  # move this finding over its limit, and all that goes with it accordingly
        wanted = (limit[forced] + 0.25 + abs(rng.normal(0, 0.35))) / keep[forced]
        kin = kin + _CORRELATION[:, forced] * max(0.0, wanted - kin[forced])
    base = rng.beta(2.2, 1.2, 14)
    count = _films_of_patient(rng, most)
    age = rng.normal(46.5, 16.5) + 4 * (kin[1] > 1) + 6 * (kin[11] > 1.5) + 9 * (kin[13] > 1.8)
    age = int(np.clip(round(age), 5, 92))
    films = []
    for _ in range(count):
        state = keep * kin + np.sqrt(1 - _PERSISTENCE) * (_ROOT @ rng.standard_normal(15))
        present = state > limit
        spread = np.clip(base + rng.normal(0, 0.14, 14), 0.02, 0.98)
        severity = {name: round(float(spread[k]), 4) for k, name in enumerate(FINDINGS) if present[k]}
        luck = rng.random(14)
        labels = []
        for k, name in enumerate(FINDINGS):
            sensitivity, precision = LABEL_QUALITY[name]
            share = max(shares[k], FLOOR)
            false_alarm = share * sensitivity * (1 - precision) / precision / (1 - share)
            if luck[k] < (sensitivity if present[k] else false_alarm):
                labels.append(name)
        films.append({"view": "AP" if present[14] else "PA", "severity": severity, "labels": tuple(labels), "age": age})
        age += int(rng.random() < 0.35)
    return {"sex": "M" if rng.random() < MALE_SHARE else "F"}, films


def _group(rng: np.random.Generator, shares: np.ndarray, films: int, quota: int, most: int) -> list[tuple[dict, list[dict]]]:
    """Patients with `films` X-rays together, of which at least `quota` show each finding (if that is possible)."""
    patients, counts, total = [], np.zeros(14, int), 0
    while total < films:
        lacking = np.flatnonzero(counts < quota)
        scarce = len(lacking) and (counts < quota) @ (quota - counts) > 0.45 * (films - total)
        forced = None
        if len(lacking) and (scarce or rng.random() < 0.6):
            forced = int(lacking[np.argmin(counts[lacking] + 0.01 * rng.random(len(lacking)))])
        person, shots = _patient(rng, shares, forced, min(most, 4) if forced is not None else most)
        shots = shots[: films - total]
        total += len(shots)
        for shot in shots:
            counts += np.isin(FINDINGS, list(shot["severity"]))
        patients.append((person, shots))
    return patients


def plan_cohort(films: int, seed: int, site: str = "A") -> list[Film]:
    """The table of a cohort: who, when, which view, which findings, which labels, which split.

    Parameters
    ----------
    films : int
        All X-rays; 28 % of them, at most 420, are the test set. Of hospital B it is 80 %.
    seed : int
    site : str
        Hospital, see `data.chest_simulator.site`.

    Returns
    -------
    list of Film, ordered by patient and follow-up; test and training patients are different people.
    """
    hospital = find_site(site)
    shares = _shares(hospital)
    rng = np.random.default_rng([seed, 14, *hospital.code])
    test_films = min(TEST_FILMS, round(hospital.test_share * films))
    test_quota = int(np.ceil((TEST_POSITIVES + 1.5) * test_films / TEST_FILMS))
    groups = [(patient, True) for patient in _group(rng, shares, test_films, test_quota, 3)]
    rest = films - test_films
    groups += [(patient, False) for patient in _group(rng, shares, rest, int(np.ceil(1.05 * FLOOR * rest)), 184)]
    order = rng.permutation(len(groups))
    table = []
    for number, index in enumerate(order, start=1):
        (person, shots), test = groups[index]
        for follow_up, shot in enumerate(shots):
            table.append(
                Film(
                    number,
                    follow_up,
                    shot["age"],
                    shots[0]["age"],
                    person["sex"],
                    shot["view"],
                    shot["severity"],
                    shot["labels"],
                    test,
                )
            )
    return table
