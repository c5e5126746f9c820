"""Scores a chest network on any folder in the NIH format: AUROC per finding with 95 % intervals by patient.

    python -m models.chest.evaluate FOLDER                              # the shipped weights, X-rays of the test list
    python -m models.chest.evaluate FOLDER --weights RUN/densenet121_chest.weights.h5 --split train_val --out table.csv

Two tables: against the report-derived labels (all X-rays of the split), and against a manual reading (the X-rays that
have one). Patients whom the network was trained on (``trained_on.txt`` beside the weights) are left out and counted.
The X-rays are standardised with mean and standard deviation of the folder's train_val X-rays, as in notebook 01; where it
has none, with those of the network's card.
"""

import argparse
import warnings
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from sklearn.metrics import log_loss

from data import nih
from data.errors import DataError
from data.storage import atomic_file
from models.chest import known_patients, network_card
from models.chest.films import open_store, pixel_statistics, predict_films
from models.chest.network import CHEST_SIZE, CHEST_WEIGHTS, densenet121
from models.metrics import (
    auroc_intervals,
    binned_calibration_error,
    bootstrap_auroc,
    clip_probabilities,
    percentile_interval,
    resample_patients,
)
from models.terminal import one_sentence
from models.weights import PATIENTS_FILE, load_weights, read_patients

MANUAL, MINED = "manual reading", "report-derived labels"
LEAST = 5  # positives, and negatives, that a finding needs to count in the mean, as in notebook 01


def folder_statistics(folder: Path, size: int, cache: Path) -> tuple[float, float]:
    """Mean and standard deviation of the pixels of a folder's train_val X-rays; the network card's where there are none."""
    try:
        return pixel_statistics(open_store(folder, size, cache, split="train_val"))
    except DataError:
        return network_card().pixels


def predict_folder(
    model: keras.Model,
    folder: Path | str,
    *,
    split: str = "test",
    size: int = CHEST_SIZE,
    cache: Path = Path("build/films"),
    leave_out: frozenset[str] = frozenset(),
) -> tuple[nih.ChestFolder, pd.DataFrame, np.ndarray]:
    """Probabilities (films, 14) of a model for the X-rays of a split, with the folder and the row of each X-ray.

    Parameters
    ----------
    leave_out : frozenset of str
        Patients of the archive, see `models.chest.known_patients`; in a simulated folder nobody is left out.

    Raises
    ------
    DataError
        When the folder cannot be read, or has no X-ray of the split, or none of another patient.
    """
    store = open_store(folder, size, cache, split=split)
    mean, sd = folder_statistics(Path(folder), size, cache)
    kept = ~(store.table["Patient ID"].astype(str).isin(leave_out).to_numpy() & store.real)
    if not kept.any():
        raise DataError(f"{folder}: the network was trained on all patients of the split {split!r}. Evaluate it on others.")
    pred = predict_films(model, store.films[np.flatnonzero(kept)], mean, sd, what=f"X-rays of {store.name}")
    return store.chest, store.table[kept].reset_index(drop=True), pred


def score(
    chest: nih.ChestFolder, table: pd.DataFrame, pred: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> dict[str, pd.DataFrame]:
    """AUROC tables of predictions against each kind of label that the folder has.

    Parameters
    ----------
    chest : ChestFolder
    table : DataFrame
        Row of each X-ray.
    pred : ndarray, (films, 14)
    resamples : int
        Bootstrap samples of patients.
    seed : int

    Returns
    -------
    dict of str to DataFrame
        `MINED` and, where radiologists have read some X-rays, `MANUAL`. Rows: the findings and "mean"; columns: positive,
        AUROC, low, high. The mean is over the findings with at least `LEAST` positives and negatives.
    """
    findings = list(nih.FINDINGS)
    readings = {MINED: (np.arange(len(table)), table[findings].to_numpy())}
    manual = chest.manual.drop_duplicates("Image Index").set_index("Image Index")
    rows = np.flatnonzero(table["Image Index"].isin(manual.index))
    if len(rows):
        readings[MANUAL] = (rows, manual.loc[table["Image Index"].iloc[rows], findings].to_numpy())
    tables = {}
    for name, (rows, y) in readings.items():
        rng = np.random.default_rng(seed)
        patients = table["Patient ID"].to_numpy()[rows]
        result = auroc_intervals(y, pred[rows], patients, findings, rng, resamples)
        rng = np.random.default_rng(seed)  # the same patients are drawn for the mean
        samples = bootstrap_auroc(y, pred[rows], *resample_patients(patients, resamples, rng))
        counted = (y.sum(axis=0) >= LEAST) & ((1 - y).sum(axis=0) >= LEAST)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
            low, high = percentile_interval(np.nanmean(samples[:, counted], axis=1))
            result.loc["mean"] = [result["AUROC"].to_numpy()[counted].mean() if counted.any() else np.nan, low, high]
        result.insert(0, "positive", [*y.sum(axis=0), len(rows)])
        tables[name] = result
    return tables


def calibration_error(table: pd.DataFrame, pred: np.ndarray, bins: int = 10) -> pd.Series:
    """How far the outputs are from probabilities, against the report-derived labels; means over the findings.

    Returns
    -------
    Series
        Log loss and, beside it, that of saying the prevalence to every X-ray; mean output and mean label (calibration in
        the large); expected calibration error over `bins` bins of equal width.
    """
    y = table[list(nih.FINDINGS)].to_numpy()
    mixed = [k for k in range(y.shape[1]) if 0 < y[:, k].sum() < len(y)]
    ours = np.mean([log_loss(y[:, k], clip_probabilities(pred[:, k].astype(float))) for k in mixed])
    prevalence = np.mean([log_loss(y[:, k], np.full(len(y), y[:, k].mean())) for k in mixed])
    return pd.Series(
        {
            "log loss": ours,
            "log loss of the prevalence": prevalence,
            "mean output": pred[:, mixed].mean(),
            "mean label": y[:, mixed].mean(),
            "expected calibration error": binned_calibration_error(y[:, mixed], pred[:, mixed], bins).mean(),
        }
    )


def as_markdown(tables: dict[str, pd.DataFrame]) -> str:
    """The tables side by side, as a model card shows them."""
    names = list(tables)
    lines = ["| finding | " + " | ".join(f"{name}: positive | AUROC (95 % interval)" for name in names) + " |"]
    lines.append("| --- |" + " ---: | --- |" * len(names))
    for finding in tables[names[0]].index:
        cells = []
        for name in names:
            row = tables[name].loc[finding]
            count = f"{row['positive']:.0f}" if finding != "mean" else f"of {row['positive']:.0f} X-rays"
            area = f"{row['AUROC']:.3f} ({row['low']:.2f} to {row['high']:.2f})" if np.isfinite(row["AUROC"]) else "–"
            cells += [count, area]
        lines.append(f"| {finding.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None, network=densenet121) -> dict[str, pd.DataFrame]:
    """Command line; returns the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m models.chest.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder in the NIH ChestX-ray14 format")
    parser.add_argument("--weights", default=CHEST_WEIGHTS, help="a weights file; default: the shipped one")
    parser.add_argument("--split", choices=("test", "train_val"), default="test")
    parser.add_argument("--size", type=int, default=CHEST_SIZE, help="side of the X-rays in pixels")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap samples of patients")
    parser.add_argument("--cache", type=Path, default=Path("build/films"), help="folder for decoded X-rays")
    parser.add_argument("--all-patients", action="store_true", help="score those the network was trained on, too")
    parser.add_argument("--out", type=Path, help="CSV file for the tables")
    options = parser.parse_args(arguments)
    shipped = options.weights == CHEST_WEIGHTS
    weights = CHEST_WEIGHTS if shipped else Path(options.weights).resolve()
    known = known_patients() if shipped else read_patients(weights.with_name(PATIENTS_FILE))
    with one_sentence():
        store = open_store(options.folder, options.size, options.cache, split=options.split)  # a wrong folder is told at once
        model = network(options.size, weights=None)
        load_weights(model, weights)
        leave_out = frozenset() if options.all_patients else known
        chest, table, pred = predict_folder(
            model, options.folder, split=options.split, size=options.size, cache=options.cache, leave_out=leave_out
        )
    left_out = store.table["Patient ID"].nunique() - table["Patient ID"].nunique()
    tables = score(chest, table, pred, resamples=options.resamples)
    print(
        f"{options.weights} on {len(table):,} X-rays of {table['Patient ID'].nunique():,} patients ({chest.source}, split "
        f"{options.split}); {left_out:,} patients of its training are left out\n\n{as_markdown(tables)}\n"
    )
    print(calibration_error(table, pred).round(4).to_string())
    if options.out:
        with atomic_file(options.out) as temporary:
            pd.concat(tables, names=["labels", "finding"]).to_csv(temporary, float_format="%.4f")
    return tables


if __name__ == "__main__":
    main()
