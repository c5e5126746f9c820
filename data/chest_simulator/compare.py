"""How near the simulated chest X-rays come to real ones: grey levels, spectrum, local contrast, heart size, findings.

``python -m data.chest_simulator.compare SIMULATED REAL`` prints the figures; ``--sheet FILE.png`` draws 15 X-rays of each side by
side; ``--train 3000`` trains a small network on the simulated training X-rays and reports its AUROC per finding on the
simulated test X-rays and on the real ones; ``--predictions FILE.csv`` reports the AUROC of predictions that exist. Both
folders are in the NIH format. Keep a sheet with real patients private. ``python -m data.chest_simulator.compare SIMULATED
--sheet FILE.png`` draws the data card's picture: simulated X-rays only, one per finding.

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

SIZE = 256  # pixels; all X-rays are compared at this size
LOCAL = 9  # pixels; side of the square whose standard deviation is the local contrast


def grey_levels(films: np.ndarray) -> np.ndarray:
    """Share of pixels in each of 32 grey levels, (films, 32), of uint8 X-rays (films, n, n)."""
    return np.array([np.bincount(film.ravel() >> 3, minlength=32) / film.size for film in films])


def spectra(films: np.ndarray) -> np.ndarray:
    """Radial power spectrum of each X-ray, (films, n // 2 - 1): log10 of the mean power at 1, 2, ... cycles per X-ray side.

    A Hann window keeps the X-ray's edges out; power is per unit of grey-level variance times pixels, so that contrast
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
    """Distance of two cohorts in each measure, from the mean over their X-rays.

    Total variation distance of the grey-level histograms (0 equal, 1 disjoint), root mean square difference of the log10
    spectra (0.3 is a factor of two in power) and of the deciles of local contrast (grey levels).
    """
    levels = 0.5 * np.abs(one["grey levels"].mean(0) - other["grey levels"].mean(0)).sum()
    rest = {name: np.sqrt(np.mean((one[name].mean(0) - other[name].mean(0)) ** 2)) for name in ("spectrum", "local contrast")}
    return {"grey levels": float(levels)} | {name: float(value) for name, value in rest.items()}


def appearance(films: np.ndarray) -> dict[str, np.ndarray]:
    """All three measures of uint8 X-rays (films, n, n)."""
    return {"grey levels": grey_levels(films), "spectrum": spectra(films), "local contrast": local_contrast(films)}


def halves(patients: np.ndarray, seed: int) -> np.ndarray:
    """A random half of the patients: bool (films,), so that no patient is on both sides."""
    names = np.unique(patients)
    return np.isin(patients, np.random.default_rng(seed).permutation(names)[: len(names) // 2])


def compare(simulated: np.ndarray, real: np.ndarray, patients: np.ndarray, repeats: int = 20) -> pd.DataFrame:
    """Distances of simulated and real X-rays, and of two halves of the real ones by patient (mean over `repeats` splits).

    The simulated side is a random half as well, so that both distances are between samples of like size.
    """
    one, other = appearance(simulated), appearance(real)
    measured = {"simulated to real": [], "real to real": []}
    for seed in range(repeats):
        half = halves(patients, seed)
        first, second = ({k: v[part] for k, v in other.items()} for part in (half, ~half))
        drawn = np.random.default_rng(seed).permutation(len(simulated))[: max(1, min(len(simulated), int(half.sum())))]
        measured["simulated to real"].append(distances({k: v[drawn] for k, v in one.items()}, first))
        measured["real to real"].append(distances(first, second))
    table = pd.DataFrame({name: pd.DataFrame(rows).mean() for name, rows in measured.items()})
    return table.assign(ratio=table["simulated to real"] / table["real to real"])


# ---------------------------------------------------------------------------------------------------------------------
# Heart size
# ---------------------------------------------------------------------------------------------------------------------


def true_heart_ratios(seed: int, films: int, names: list[str], site: str = "A") -> np.ndarray:
    """Cardiothoracic ratio of simulated X-rays from their geometry: widths of heart and inner chest as projected."""
    from data.chest_simulator.cohort import person_and_setup
    from data.chest_simulator.film import compose
    from data.chest_simulator.patients import plan_cohort

    plan = {film.name: film for film in plan_cohort(films, seed, site)}
    ratios = []
    for name in names:
        body, setup, place = person_and_setup(plan[name], seed, site)
        scene, _ = compose(body, setup, plan[name].severity, place, 160)
        heart = np.flatnonzero((scene.heart_chord > 3).any(0))
        chest = np.flatnonzero((scene.cavity[-1] + scene.cavity[1] > 3).any(0))
        ratios.append(np.ptp(heart) / np.ptp(chest))
    return np.array(ratios)


def heart_features(films: np.ndarray) -> np.ndarray:
    """X-rays (films, n, n) as vectors (films, 4096): 64 x 64 pixels with local contrast made equal, mean 0, variance 1."""
    equal = cv2.createCLAHE(2.0, (4, 4))
    small = [cv2.resize(film, (64, 64), interpolation=cv2.INTER_AREA) for film in films]
    even = np.array([cv2.GaussianBlur(equal.apply(film).astype(np.float32), (0, 0), 1.0).ravel() for film in small])
    return (even - even.mean(1, keepdims=True)) / (even.std(1, keepdims=True) + 1e-3)


def estimate_heart_ratios(
    films: np.ndarray, ratios: np.ndarray, patients: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cardiothoracic ratio of X-rays without known geometry, learned from X-rays with it.

    Support vector regression on 80 principal components, fitted to simulated X-rays only.

    Returns
    -------
    estimate of `films`, each by a fit that has not seen its patient (five folds), and of `others`.
    """
    from sklearn.decomposition import PCA
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    model = make_pipeline(
        PCA(min(80, len(films) // 3), random_state=0), StandardScaler(with_std=False), SVR(C=0.2, epsilon=0.01, gamma="scale")
    )
    features = heart_features(films)
    held_out = cross_val_predict(model, features, ratios, groups=patients, cv=GroupKFold(5))
    return held_out, model.fit(features, ratios).predict(heart_features(others))


# ---------------------------------------------------------------------------------------------------------------------
# Findings
# ---------------------------------------------------------------------------------------------------------------------


def truth(chest: ChestFolder, table: pd.DataFrame) -> np.ndarray:
    """Labels (films, 14) of `table`: the true ones where the folder has ``truth.csv`` (simulated), else the report-derived ones."""
    path = chest.folder / "truth.csv"
    if not path.exists():
        return table[list(FINDINGS)].to_numpy(np.float32)
    return pd.read_csv(path).set_index("Image Index").loc[table["Image Index"], list(FINDINGS)].to_numpy(np.float32)


def auroc(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """AUROC of each finding, (14,); nan where only one kind of X-ray is there."""
    from sklearn.metrics import roc_auc_score

    return np.array([roc_auc_score(y, p) if 0 < y.sum() < len(y) else np.nan for y, p in zip(labels.T, predictions.T, strict=True)])


def train_small_network(films: np.ndarray, labels: np.ndarray, epochs: int = 16, seed: int = 0):
    """Train a network of four convolutions on uint8 X-rays (films, n, n) and labels (films, 14).

    Returns
    -------
    function from uint8 X-rays (films, n, n) to probabilities (films, 14)
    """
    from models import ENGINE  # noqa: F401  settings of TensorFlow, before it is imported

    import keras  # isort: skip
    from keras import layers  # isort: skip

    def even(films: np.ndarray) -> np.ndarray:  # exposure must not matter
        films = films.astype(np.float32)
        return ((films - films.mean((1, 2), keepdims=True)) / (films.std((1, 2), keepdims=True) + 1))[..., None]

    keras.utils.set_random_seed(seed)
    entry = layers.Input((*films.shape[1:], 1))
    x = layers.RandomTranslation(0.06, 0.06)(layers.RandomFlip("horizontal")(entry))
    for filters in (24, 48, 96, 128):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPool2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    model = keras.Model(entry, layers.Dense(len(FINDINGS), activation="sigmoid")(layers.Dropout(0.3)(x)))
    steps = epochs * int(np.ceil(len(films) / 32))
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-3), "binary_crossentropy")
    model.fit(even(films), labels, batch_size=32, epochs=epochs, verbose=0)
    return lambda others: model.predict(even(others), verbose=0)


def train_and_test(simulated: ChestFolder, real: ChestFolder, films: int, size: int) -> pd.DataFrame:
    """AUROC per finding of a small network: trained on simulated training X-rays, tested on simulated and on real ones."""
    split = simulated.table["split"]
    part, table = load_films(simulated, size, simulated.table[split == "train_val"].head(films), progress=False)
    predict = train_small_network(part, truth(simulated, table))
    columns = {}
    for name, chest, rows in (("simulated test", simulated, simulated.table[split == "test"]), ("real", real, real.table)):
        part, table = load_films(chest, size, rows, progress=False)
        labels = truth(chest, table)
        columns[name] = auroc(labels, predict(part))
        columns[f"positive ({name})"] = labels.sum(0).astype(int)
    return pd.DataFrame(columns, index=list(FINDINGS))


def given_predictions(path: Path) -> pd.DataFrame:
    """AUROC per finding of a table with a column of truth ``F`` and of predictions ``F_pred`` for each finding F."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}).") from None
    missing = [c for name in FINDINGS for c in (name, f"{name}_pred") if c not in table]
    if missing:
        raise DataError(f"{path}: no column {missing[0]}. A column F and a column F_pred are needed for each finding F.")
    labels, predictions = (table[[f"{n}{end}" for n in FINDINGS]].to_numpy(float) for end in ("", "_pred"))
    return pd.DataFrame({path.name: auroc(labels, predictions)}, index=list(FINDINGS))


# ---------------------------------------------------------------------------------------------------------------------


def sheet(simulated: np.ndarray, real: np.ndarray, rows: int = 5, columns: int = 3) -> np.ndarray:
    """Picture of rows x columns X-rays of each cohort, simulated left, real right of a white bar."""

    def block(films: np.ndarray) -> np.ndarray:
        return np.vstack([np.hstack(list(films[r * columns : (r + 1) * columns])) for r in range(rows)])

    bar = np.full((rows * simulated.shape[1], 12), 255, np.uint8)
    return np.hstack([block(simulated), bar, block(real)])


def finding_sheet(chest: ChestFolder, columns: int = 5, size: int = 216) -> np.ndarray:
    """Picture of test X-rays with their true findings beneath: one without, then one with each finding and few others."""
    table = chest.table[chest.table["split"] == "test"].reset_index(drop=True)
    present = truth(chest, table) > 0
    tiles, used = [], set()
    for name in (None, *FINDINGS):
        fits = present[:, FINDINGS.index(name)] if name else ~present.any(1)
        rows = [k for k in np.argsort(present.sum(1), kind="stable") if fits[k] and table["Patient ID"][k] not in used]
        if not rows:
            raise DataError(f"{chest.folder}: no test X-ray of another patient with {name or 'no finding'}. Make a larger cohort.")
        used.add(table["Patient ID"][rows[0]])
        film = load_films(chest, size, table.loc[rows[:1]], progress=False)[0][0]
        words = [f for f, here in zip(FINDINGS, present[rows[0]], strict=True) if here] or ["no finding"]
        tile = np.full((size + 16, size + 4), 255, np.uint8)
        tile[:size, 2:-2] = film
        text = f"{table['View Position'][rows[0]]}: {', '.join(words).replace('_', ' ')}"
        cv2.putText(tile, text, (3, size + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.33, 60, 1, cv2.LINE_AA)
        tiles.append(tile)
    return np.vstack([np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)])


def _write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a PNG, or raise a `DataError` that says what to do."""
    try:
        written = cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    except cv2.error:  # an ending that it does not know
        written = False
    if not written:
        raise DataError(f"{path}: the picture could not be written. Name a .png file in a folder that exists.")


def _some(chest: ChestFolder, films: int, seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Up to `films` X-rays of a folder at `SIZE`, drawn at random."""
    rows = chest.table.sample(min(films, len(chest.table)), random_state=seed)
    return load_films(chest, SIZE, rows, progress=False)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m data.chest_simulator.compare", description=__doc__.splitlines()[0])
    parser.add_argument("simulated", type=Path)
    parser.add_argument("real", type=Path, nargs="?", help="without it only the picture of the simulated X-rays is drawn")
    parser.add_argument("--films", type=int, default=1500, help="X-rays of each cohort whose look is compared")
    parser.add_argument("--sheet", type=Path, help="also draw 15 X-rays of each cohort side by side")
    parser.add_argument("--train", type=int, metavar="FILMS", help="also train a small network on so many simulated X-rays")
    parser.add_argument("--size", type=int, default=80, help="pixels per side for that network")
    parser.add_argument("--predictions", type=Path, help="also report the AUROC of these predictions")
    options = parser.parse_args(arguments)
    try:
        simulated = read_chest_folder(options.simulated)
        if simulated.source != "simulated":
            raise DataError(f"{options.simulated}: has no {SIMULATED_FILE}. Name the simulated folder first.")
        if options.real is None:
            if options.sheet is None:
                raise DataError("Name a folder of real X-rays to compare with, or --sheet FILE.png for a picture.")
            _write_picture(options.sheet, finding_sheet(simulated))
            return 0
        real = read_chest_folder(options.real)
        one, table = _some(simulated, options.films, 0)
        other, others = _some(real, options.films, 0)
        print(f"{len(one)} simulated X-rays and {len(other)} of {real.source}, at {SIZE} pixels")
        for view in ("PA", "AP", None):
            here, there = ((t["View Position"] == view).to_numpy() if view else np.ones(len(t), bool) for t in (table, others))
            if min(here.sum(), others["Patient ID"][there].nunique()) < 4:
                continue
            print(f"\nDistances, {view or 'both views'} ({here.sum()} simulated, {there.sum()} real X-rays)")
            print(compare(one[here], other[there], others["Patient ID"][there].to_numpy()).round(3).to_string())
        _report_hearts(simulated, one, table, other, others)
        if options.train:
            print(f"\nAUROC of a small network trained on {options.train} simulated X-rays of {options.size} pixels")
            result = train_and_test(simulated, real, options.train, options.size)
            print(result.round(3).to_string())
            print("mean", result[["simulated test", "real"]].mean().round(3).to_dict())
        if options.predictions:
            print("\nAUROC of the given predictions")
            print(given_predictions(options.predictions).round(3).to_string())
        if options.sheet:
            if min(len(one), len(other)) < 15:
                raise DataError("A sheet needs 15 X-rays of each cohort.")
            _write_picture(options.sheet, sheet(one[:15], other[:15]))
    except DataError as error:
        print(f"DataError: {error}", file=sys.stderr)
        return 1
    return 0


def _report_hearts(simulated: ChestFolder, one: np.ndarray, table: pd.DataFrame, other: np.ndarray, others: pd.DataFrame) -> None:
    """Print the distribution of the cardiothoracic ratio on PA X-rays, from geometry and estimated."""
    identity = json.loads((simulated.folder / SIMULATED_FILE).read_text(encoding="utf-8"))
    here, there = ((t["View Position"] == "PA").to_numpy() for t in (table, others))
    if here.sum() < 20 or not there.any():
        return
    rows, films = table[here].head(600), one[here][:600]
    ratios = true_heart_ratios(identity["seed"], identity["films"], list(rows["Image Index"]), identity.get("site", "A"))
    held_out, estimate = estimate_heart_ratios(films, ratios, rows["Patient ID"].to_numpy(), other[there])
    large = truth(simulated, rows)[:, FINDINGS.index("Cardiomegaly")] > 0
    labelled = others["Cardiomegaly"].to_numpy()[there] > 0
    points = [5, 25, 50, 75, 95]
    columns = {
        "simulated, geometry": ratios,
        "without cardiomegaly": ratios[~large],
        "with": ratios[large],
        "simulated, estimated": held_out,
        "real, estimated": estimate,
        "real without the label": estimate[~labelled],
        "real with it": estimate[labelled],
    }
    print(f"\nCardiothoracic ratio of PA X-rays ({len(films)} simulated, {there.sum()} real), percentiles")
    shown = {name: np.percentile(values, points) for name, values in columns.items() if len(values)}
    print(pd.DataFrame(shown, index=points).T.round(3).to_string())
    print(
        f"Error of the estimate on simulated patients it was not fitted to: mean absolute {np.abs(held_out - ratios).mean():.3f}, "
        f"correlation with the truth {np.corrcoef(held_out, ratios)[0, 1]:.2f}"
    )
    if 0 < labelled.sum() < len(labelled):
        print(
            f"AUROC of the estimate for the label Cardiomegaly on real X-rays: {auroc(labelled[:, None], estimate[:, None])[0]:.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())
