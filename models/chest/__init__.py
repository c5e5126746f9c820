"""The chest network: architecture, X-rays, training, calibration, evaluation, prediction."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from data.storage import atomic_file
from models.weights import PATIENTS_FILE, read_patients

CARD_FILE = "card.json"


@dataclass(frozen=True)
class NetworkCard:
    """What a user of the shipped weights needs beside them, from ``card.json``.

    Attributes
    ----------
    size : int
        Side of an X-ray in pixels, as the network was trained.
    pixels : tuple of float
        Mean and standard deviation of the grey levels (0 to 255) of the training X-rays, which standardise a single X-ray.
    prevalence : dict of str to float
        Share of the X-rays that are labelled with each finding, among the real training X-rays of the folder that the outputs are
        calibrated to: what is usual.
    """

    size: int
    pixels: tuple[float, float]
    prevalence: dict[str, float]

    def write(self, file: Path) -> None:
        """Write the card as JSON, as training does beside its weights."""
        with atomic_file(file) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")


def network_card(file: Path = Path(__file__).with_name(CARD_FILE)) -> NetworkCard:
    """The card of the shipped weights, or of those that `file` lies beside."""
    card = json.loads(file.read_text())
    return NetworkCard(card["size"], tuple(card["pixels"]), card["prevalence"])


def known_patients() -> frozenset[str]:
    """The patients of ChestX-ray14 that the shipped network was trained on, as text: ``"13"``.

    No figure about real X-rays may be measured on them; the archive's official test list holds some.
    """
    return read_patients(Path(__file__).with_name(PATIENTS_FILE))
