"""The brain tumour network: architecture, patches, training, evaluation, prediction."""

import json
from dataclasses import dataclass
from pathlib import Path

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
