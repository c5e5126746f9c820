"""The brain tumour network: architecture, patches, training, evaluation, prediction."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import DataError
from models.weights import PATIENTS_FILE, read_patients


@dataclass(frozen=True)
class NetworkCard:
    """What was chosen for the shipped weights by cross-validation, from ``card.json``.

    Attributes
    ----------
    least_enhancing_ml : float
        Less enhancing tumour than this in a scan is called non-enhancing.
    mirror : tuple of int
        Axes along which a scan is also shown mirrored, see `models.brain.predict.predict_scan`.
    """

    least_enhancing_ml: float
    mirror: tuple[int, ...]


def network_card() -> NetworkCard:
    """The card of the shipped weights."""
    card = json.loads(Path(__file__).with_name("card.json").read_text())
    return NetworkCard(card["least_enhancing_ml"], tuple(card["mirror"]))


def known_patients() -> frozenset[str]:
    """Names of the real patients that the shipped network was trained on, such as ``Brats18_2013_2_1``."""
    return read_patients(Path(__file__).with_name(PATIENTS_FILE))


def split_by_patient(scans: Sequence, tests: int, validations: int, *, simulated: bool) -> tuple[list, list, list, str]:
    """Split scans so that no patient is on two sides; those whom the shipped network knows are tested last.

    Parameters
    ----------
    scans : sequence of data.decathlon.BrainCase
    tests, validations : int
        Patients of the test and of the validation set.
    simulated : bool
        Whether the shipped network cannot have met them.

    Returns
    -------
    training, validation, test : list of BrainCase
        One scan of each test patient; all scans of the others.
    warning : str
        What must be said of results on the test patients; empty when they are new to the shipped network.

    Raises
    ------
    DataError
        When there are too few patients.
    """
    trained_on = known_patients()
    known = {scan.name: not simulated and scan.is_among(trained_on) for scan in scans}
    scans_of: dict[str, list] = {}  # a patient may have several
    for scan in sorted(scans, key=lambda scan: [False, None, True].index(known[scan.name])):
        scans_of.setdefault(scan.patient, []).append(scan)
    if len(scans_of) <= tests + validations:
        raise DataError(f"{len(scans_of)} patients are too few: at least {tests + validations + 1} are needed.")
    unseen = [person for person, own in scans_of.items() if not known[own[0].name]]
    test_people = (unseen or list(scans_of))[:tests]
    test = [scans_of[person][0] for person in test_people]
    warning = ""
    if not unseen:
        warning = "ATTENTION: the shipped network was trained on all of these patients, so its results below are too good."
    elif any(known[scan.name] is None for scan in test):
        warning = (
            "ATTENTION: this release names patients differently, so the shipped network may have been trained on the test patients."
        )
    others = [person for person in scans_of if person not in test_people]
    validation, training = (
        [scan for person in part for scan in scans_of[person]] for part in (others[:validations], others[validations:])
    )
    return training, validation, test, warning
