"""Scores a chest network on any folder in the NIH format: AUROC per finding with 95 % intervals by patient.

    python -m models.chest.evaluate FOLDER                              # the shipped weights, films of the test list
    python -m models.chest.evaluate FOLDER --weights RUN/densenet121_chest.weights.h5 --split train_val --csv table.csv

Two tables: against the labels mined from reports (all films of the split), and against a manual reading (the films that
have one). The films are standardised with mean and standard deviation of the folder's train_val films, as in notebook 01.
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
from models.chest.films import open_store, predict_films
from models.chest.network import CHEST_SIZE, CHEST_WEIGHTS, densenet121
from models.metrics import auroc_intervals, bootstrap_auroc, clip_probabilities, percentile_interval, resample_patients
from models.weights import load_weights

MANUAL, MINED = "manual reading", "mined labels"
LEAST = 5  # positives, and negatives, that a finding needs to count in the mean, as in notebook 01


def pixel_statistics(folder: Path, size: int, cache: Path, split: str) -> tuple[float, float]:
    """Mean and standard deviation of the pixels of the train_val films; of the split's own when there are none."""
    try:
        films = open_store(folder, size, cache, split="train_val").films
    except DataError:
        films = open_store(folder, size, cache, split=split).films
    sample = films[np.sort(np.random.default_rng(0).permutation(len(films))[:20_000])]
    return float(sample.mean(dtype=np.float64)), float(sample.std(dtype=np.float64))


def predict_folder(
    model: keras.Model, folder: Path | str, *, split: str = "test", size: int = CHEST_SIZE, cache: Path = Path("build/films")
) -> tuple[nih.ChestFolder, pd.DataFrame, np.ndarray]:
    """Probabilities (films, 14) of a model for the films of a split, with the folder and the row of each film.

    Raises
    ------
    DataError
        When the folder cannot be read or has no film of the split.
    """
    store = open_store(folder, size, cache, split=split)
    mean, sd = pixel_statistics(Path(folder), size, cache, split)
    pred = predict_films(model, store.films, mean, sd, what=f"films of {store.name}")
    return store.chest, store.table, pred


def score(
    chest: nih.ChestFolder, table: pd.DataFrame, pred: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> dict[str, pd.DataFrame]:
    """AUROC tables of predictions against each kind of label that the folder has.

    Parameters
    ----------
    chest : ChestFolder
    table : DataFrame
        Row of each film.
    pred : ndarray, (films, 14)
    resamples : int
        Bootstrap samples of patients.
    seed : int

    Returns
    -------
    dict of str to DataFrame
        `MINED` and, where radiologists have read some films, `MANUAL`. Rows: the findings and "mean"; columns: positive,
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


def calibration_error(table: pd.DataFrame, pred: np.ndarray) -> pd.Series:
    """Log loss against the mined labels and, beside it, that of saying the prevalence to every film; means over findings."""
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
            count = f"{row['positive']:.0f}" if finding != "mean" else f"of {row['positive']:.0f} films"
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
    parser.add_argument("--size", type=int, default=CHEST_SIZE, help="side of the films in pixels")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap samples of patients")
    parser.add_argument("--cache", type=Path, default=Path("build/films"), help="folder for decoded films")
    parser.add_argument("--csv", type=Path, help="file to write the tables to, too")
    options = parser.parse_args(arguments)
    try:
        open_store(options.folder, options.size, options.cache, split=options.split)  # a wrong folder is told at once
        model = network(options.size, weights=None)
        shipped = options.weights == CHEST_WEIGHTS
        load_weights(model, options.weights if shipped else Path(options.weights).resolve())
        chest, table, pred = predict_folder(model, options.folder, split=options.split, size=options.size, cache=options.cache)
    except DataError as error:
        raise SystemExit(str(error)) from None
    tables = score(chest, table, pred, resamples=options.resamples)
    print(
        f"{options.weights} on {len(table):,} films of {table['Patient ID'].nunique():,} patients "
        f"({chest.source}, split {options.split})\n\n{as_markdown(tables)}\n"
    )
    print(calibration_error(table, pred).round(4).to_string())
    if options.csv:
        pd.concat(tables, names=["labels", "finding"]).to_csv(options.csv)
    return tables


if __name__ == "__main__":
    main()
