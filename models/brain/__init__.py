"""The brain tumour network: architecture, patches, training, evaluation, prediction."""

from pathlib import Path

from models.weights import PATIENTS_FILE, read_patients


def known_patients() -> frozenset[str]:
    """Names of the real patients that the shipped network was trained on, such as ``Brats18_2013_2_1``."""
    return read_patients(Path(__file__).with_name(PATIENTS_FILE))
