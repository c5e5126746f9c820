"""Dice and HD95 of a 3D U-Net on any folder of brain scans in the Decathlon or the BraTS format.

    python -m models.brain.evaluate FOLDER                                  # the shipped weights
    python -m models.brain.evaluate FOLDER --weights RUN/unet3d_brain.weights.h5 --mirror 0 1 --out table.csv
    python -m models.brain.evaluate FOLDER --cases Brats18_CBICA_AVG_1 Brats18_TCIA02_606_1

One line a patient as each is done, then the mean over the patients with its 95 % bootstrap interval, by patient. Whom the
network was trained on (``trained_on.txt`` beside the weights) is left out and counted, unless ``--cases`` names them.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from data.decathlon import BrainCase, read_brain
from data.errors import DataError
from data.storage import atomic_file
from models.brain import known_patients
from models.brain.network import BRAIN_WEIGHTS, FILTERS, unet3d
from models.brain.predict import MIRROR_HELP, segment
from models.metrics import hausdorff95
from models.terminal import one_sentence
from models.weights import PATIENTS_FILE, load_weights, read_patients

REGIONS = {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)}  # whole tumour, tumour core, enhancing tumour
COLUMNS = [f"{metric} {region}" for metric in ("Dice", "HD95") for region in REGIONS]


def score(found: np.ndarray, expert: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1)) -> dict[str, float]:
    """Dice, and HD95 in mm, of the three nested regions of two label maps (x, y, z).

    Returns
    -------
    dict of str to float
        ``Dice WT`` … ``HD95 ET``. Dice is nan where a region is empty in both maps, HD95 where it is empty in one.
    """
    row = {}
    for region, classes in REGIONS.items():
        ours, theirs = np.isin(found, classes), np.isin(expert, classes)
        both = ours.sum() + theirs.sum()
        row[f"Dice {region}"] = 2 * (ours & theirs).sum() / both if both else np.nan
        row[f"HD95 {region}"] = hausdorff95(ours, theirs, spacing)
    return {column: float(row[column]) for column in COLUMNS}


def evaluate(
    model: keras.Model,
    cases: Iterable[BrainCase],
    mirror: tuple[int, ...] | None = None,
    one_piece: bool = True,
    least_enhancing_ml: float | None = None,
) -> pd.DataFrame:
    """Table with a row for each patient.

    Parameters
    ----------
    model : keras.Model
        From `unet3d`.
    cases : iterable of BrainCase
    mirror, one_piece, least_enhancing_ml
        Of `models.brain.predict.segment`.

    Returns
    -------
    pandas.DataFrame
        Index: name of the case. Columns: Dice and HD95 (mm) of WT, TC and ET.
    """
    rows = {}
    for case in tqdm(list(cases), desc="segmenting", unit="scan"):
        rows[case.name] = score(segment(model, case, mirror, one_piece, least_enhancing_ml), case.label(), case.spacing)
        tqdm.write(f"{case.name}: " + ", ".join(f"{name} {value:.3g}" for name, value in rows[case.name].items()))
    return pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS).rename_axis("case")


def summarize(table: pd.DataFrame, seed: int = 0, resamples: int = 2000) -> pd.DataFrame:
    """Mean over the patients, and its 95 % interval by the percentile bootstrap of patients (Efron, 1979).

    Parameters
    ----------
    table : pandas.DataFrame
        From `evaluate`.
    seed, resamples : int

    Returns
    -------
    pandas.DataFrame
        A row for each column of `table`: mean, low, high, and of how many patients (nan is left out). Of a single
        patient there is no interval: nan.
    """
    rows = {}
    for column in table:
        values = table[column].dropna().to_numpy()
        low, high = np.nan, np.nan
        if len(values) > 1:
            rng = np.random.default_rng(seed)
            result = stats.bootstrap((values,), np.mean, n_resamples=resamples, method="percentile", rng=rng)
            low, high = result.confidence_interval
        rows[column] = [values.mean() if len(values) else np.nan, low, high, len(values)]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high", "patients"])


def choose(folder: str | Path, names: Iterable[str] = (), known: frozenset[str] = frozenset()) -> list[BrainCase]:
    """The cases of a folder that are named; without names, those whose patient is not among the `known`.

    Raises
    ------
    DataError
        When the folder cannot be read, a name is not in it, or all of its patients are known.
    """
    cohort, names = read_brain(folder), list(names)
    unknown = sorted(set(names) - {case.name for case in cohort})
    if unknown:
        raise DataError(f"{folder}: no case {', '.join(unknown)}. There are {', '.join(case.name for case in cohort)}.")
    if names:
        return [case for case in cohort if case.name in names]
    cases = [case for case in cohort if cohort.source == "simulated" or not case.is_among(known)]
    if not cases:
        raise DataError(f"{folder}: the network was trained on all of these patients. Take others, or name them (--cases).")
    if cohort.source != "simulated" and any(case.is_among(known) is None for case in cases):
        print("ATTENTION: some names cannot be compared with those of the network's training; it may have seen these patients.")
    if len(cases) < len(cohort):
        print(f"{len(cohort) - len(cases)} scans of patients of the network's training are left out")
    return cases


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Command line; returns the table of `summarize`."""
    parser = argparse.ArgumentParser(
        prog="python -m models.brain.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="scans in the Decathlon or BraTS format")
    parser.add_argument("--weights", default=BRAIN_WEIGHTS, help="file to load; default: the shipped one")
    parser.add_argument("--filters", type=int, nargs="+", default=FILTERS, help="as the weights were trained with")
    parser.add_argument("--mirror", type=int, nargs="*", choices=(0, 1, 2), help=MIRROR_HELP)
    text = "less enhancing tumour than so many ml is called non-enhancing; default: as in models/brain/card.json"
    parser.add_argument("--least-enhancing", type=float, help=text)
    parser.add_argument("--cases", nargs="*", default=[], help="cases to take; default: all that the network has not seen")
    parser.add_argument("--all-pieces", action="store_true", help="keep all pieces, not only the largest")
    parser.add_argument("--out", type=Path, help="CSV file for the table of all patients")
    given = parser.parse_args(arguments)
    shipped = given.weights == BRAIN_WEIGHTS
    weights = BRAIN_WEIGHTS if shipped else Path(given.weights).resolve()
    known = known_patients() if shipped else read_patients(weights.with_name(PATIENTS_FILE))
    with one_sentence():
        cases = choose(given.folder, given.cases, known)
        model = unet3d(filters=tuple(given.filters))
        load_weights(model, weights)
    table = evaluate(model, cases, given.mirror, not given.all_pieces, given.least_enhancing)
    if given.out:
        with atomic_file(given.out) as temporary:
            table.to_csv(temporary, float_format="%.4f")
    summary = summarize(table)
    print(table.round(3).to_string(), summary.round(3).to_string(), sep="\n\n")
    return summary


if __name__ == "__main__":
    main()
