"""Makes the prediction tables that notebook 02 works on (``data/predictions``), from simulated X-rays.

    python -m models.chest.prediction_tables

The network of ``models/`` keeps all its layers but the last; that one is trained with the class-weighted loss of notebook
01 on the report-derived labels of a cohort of its own. So the outputs have what notebook 02 is about: a good order of X-rays, bad
probabilities, a training set that flatters.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from data import nih
from data.chest_simulator.cohort import chest_cohort
from data.prediction_tables import ABOUT, PredictionTable, write_predictions
from models.chest.films import predict_films
from models.chest.network import CHEST_SIZE, densenet121
from models.metrics import auroc
from models.terminal import training_progress

COHORT_SEED = 2002  # neither the embedded cohort's nor that of the pre-training


def weighted_loss(frequencies: np.ndarray):
    """Binary cross-entropy in which positives and negatives of each class weigh the same (notebook 01, section 1.5)."""
    positive, negative = (keras.ops.convert_to_tensor(f, "float32") for f in (frequencies, 1 - frequencies))

    def loss(y, p):
        terms = negative * y * keras.ops.log(p + 1e-7) + positive * (1 - y) * keras.ops.log(1 - p + 1e-7)
        return -keras.ops.sum(keras.ops.mean(terms, axis=0))

    return loss


def predict(films: int, epochs: int, seed: int = 0) -> dict[str, PredictionTable]:
    """Simulate `films` X-rays, train the last layer, and return the tables "train", "valid" and "test"."""
    keras.utils.set_random_seed(seed)
    chest = nih.read_chest_folder(chest_cohort(films=films, seed=COHORT_SEED))
    pixels, table = nih.load_films(chest, CHEST_SIZE)
    findings = list(nih.FINDINGS)
    mined = table[findings].to_numpy()
    manual = chest.manual.set_index("Image Index")

    is_test = (table["split"] == "test").to_numpy()
    train_val = np.flatnonzero(~is_test)
    halves = GroupShuffleSplit(1, test_size=0.5, random_state=seed).split(train_val, groups=table["Patient ID"][train_val])
    train, valid = (train_val[rows] for rows in next(halves))

    network = densenet121(weights="course")
    mean, sd = pixels[train].mean(), pixels[train].std()
    backbone = keras.Model(network.input, network.get_layer("features").output)
    features = predict_films(backbone, pixels, mean, sd, what="features")
    head = keras.Sequential([keras.Input((features.shape[1],)), keras.layers.Dense(len(findings), activation="sigmoid")])
    head.layers[0].set_weights(network.get_layer("logits").get_weights())
    head.compile(keras.optimizers.Adam(1e-3), weighted_loss(mined[train].mean(axis=0)))
    head.fit(features[train], mined[train].astype(np.float32), epochs=epochs, verbose=0, callbacks=[training_progress()])
    p = head.predict(features, verbose=0).astype(float).round(5)

    def rows_of(rows: np.ndarray, y: np.ndarray, of_reports: np.ndarray | None = None) -> PredictionTable:
        about = table.loc[rows, list(ABOUT)].reset_index(drop=True).astype({"Patient ID": str})
        return PredictionTable(about, y, p[rows], of_reports)

    test = np.flatnonzero(is_test)
    return {
        "train": rows_of(train, mined[train]),
        "valid": rows_of(valid, mined[valid]),
        "test": rows_of(test, manual.loc[table["Image Index"][test], findings].to_numpy(), mined[test]),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m models.chest.prediction_tables", description=__doc__.split("\n")[0])
    parser.add_argument("--films", type=int, default=3220, help="X-rays to simulate, 420 of them for the test set")
    parser.add_argument("--epochs", type=int, default=20, help="of training the last layer")
    parser.add_argument("--out", type=Path, default=Path("data/predictions"))
    options = parser.parse_args()
    tables = predict(options.films, options.epochs)
    write_predictions(options.out, tables, simulated=True)
    for name, part in tables.items():
        scores = [auroc(part.y[:, k], part.p[:, k]) for k in range(len(nih.FINDINGS))]
        print(f"{name:>5}: {len(part):,} X-rays, mean AUROC {np.nanmean(scores):.3f}")


if __name__ == "__main__":
    main()
