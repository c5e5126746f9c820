"""Trains the DenseNet121 of notebook 01 on any folder in the NIH format.

    python -m models.train_chest FOLDER --labels truth.csv --size 128 --epochs 6 --out build/train_chest

Runs in stages if wished (a coarse one first, ``--size 64``, then ``--init`` with its weights). Everything goes into
``--out``: ``config.json``, ``log.csv`` (one row an epoch), ``checkpoint/`` (from which the same command goes on after an
interruption) and ``weights.weights.h5``.
"""

import argparse
import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from data import nih
from models.chest_network import CHEST_SIZE, FilmBatches, densenet121, predict_films
from util import load_weights, save_weights_float16, training_progress


def read_training_set(folder: Path, size: int, labels: str | None, valid_share: float, seed: int) -> dict[str, np.ndarray]:
    """Films and labels of the train_val split, a share of its patients set apart for validation.

    Parameters
    ----------
    folder : Path
        In the NIH format.
    size : int
        Side of the films in pixels.
    labels : str or None
        Name of a CSV file in the folder with ``Image Index`` and the 14 findings as 0/1; None for the table's own labels.
    valid_share : float
        Share of the patients, 0 to 1.
    seed : int
    """
    chest = nih.read_chest_folder(folder)
    table = chest.table[chest.table["split"] == "train_val"]
    films, table = nih.load_films(chest, size, table)
    findings = list(nih.FINDINGS)
    targets = table[findings]
    if labels is not None:
        targets = pd.read_csv(folder / labels, index_col="Image Index").loc[table["Image Index"], findings]
    patients = table["Patient ID"].unique()
    if len(patients) < 2:
        raise SystemExit(f"{folder}: one patient only. Training and validation need different patients.")
    valid_patients = np.random.default_rng(seed).permutation(patients)[: max(1, round(valid_share * len(patients)))]
    valid = table["Patient ID"].isin(valid_patients).to_numpy()
    targets = targets.to_numpy(np.float32)
    return {"x": films[~valid], "y": targets[~valid], "x_valid": films[valid], "y_valid": targets[valid]}


class Score(keras.callbacks.Callback):
    """Adds the mean AUROC of the validation films to the log of each epoch."""

    def __init__(self, films: np.ndarray, labels: np.ndarray, mean: float, sd: float):
        super().__init__()
        self.films, self.labels, self.mean, self.sd = films, labels, mean, sd

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        pred = predict_films(self.model, self.films, self.mean, self.sd, what="validation")
        scored = [c for c in range(self.labels.shape[1]) if 0 < self.labels[:, c].sum() < len(self.labels)]
        logs["valid_auroc"] = float(np.mean([roc_auc_score(self.labels[:, c], pred[:, c]) for c in scored]))


def train(config: argparse.Namespace) -> keras.Model:
    """Train by `config` (see ``--help``) and leave the weights in its folder ``out``."""
    config.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: str(value) for name, value in vars(config).items()}, indent=2)
    print(text)
    (config.out / "config.json").write_text(text)
    keras.utils.set_random_seed(config.seed)

    films = read_training_set(config.folder, config.size, config.labels, config.valid_share, config.seed)
    mean, sd = float(films["x"].mean()), float(films["x"].std())
    print(f"{len(films['x']):,} films to train on, {len(films['x_valid']):,} to validate; pixels {mean:.1f} ± {sd:.1f}")

    model = densenet121(config.size, weights="imagenet" if config.init == "imagenet" else None)
    if config.init not in (None, "imagenet"):
        load_weights(model, Path(config.init).resolve())
    batches = FilmBatches(films["x"], films["y"], mean, sd, batch_size=config.batch_size, augment=True, seed=config.seed)
    steps = config.epochs * len(batches)
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 50, steps, warmup_target=config.learning_rate, warmup_steps=steps // 20, alpha=0.01
    )
    # With TensorFlow on a CPU, XLA takes minutes to compile this network and gains too little to pay for them.
    compiled = "auto" if keras.config.backend() == "jax" else False
    model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4), keras.losses.BinaryCrossentropy(), jit_compile=compiled)
    model.fit(
        batches,
        epochs=config.epochs,
        verbose=0,
        callbacks=[
            training_progress(),
            Score(films["x_valid"], films["y_valid"], mean, sd),
            keras.callbacks.CSVLogger(config.out / "log.csv", append=True),
            keras.callbacks.BackupAndRestore(config.out / "checkpoint", delete_checkpoint=False),
        ],
    )
    save_weights_float16(model, config.out / "weights.weights.h5")
    return model


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m models.train_chest", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder in the NIH ChestX-ray14 format")
    parser.add_argument("--out", type=Path, default=Path("build/train_chest"), help="where log, checkpoint and weights go")
    parser.add_argument("--labels", help="CSV in the folder with better labels, such as truth.csv of a simulated cohort")
    parser.add_argument("--init", help="'imagenet', or a weights file to start from")
    parser.add_argument("--size", type=int, default=CHEST_SIZE, help="side of the films in pixels")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--valid-share", type=float, default=0.05, help="share of the patients kept for validation")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
