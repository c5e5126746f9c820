"""Measures what a network that has seen only simulated patients is worth on real ones.

    python -m models.transfer --chest FOLDER --brain FOLDER                     # simulate, train, test: hours
    python -m models.transfer --chest FOLDER --chest-weights SIM.weights.h5     # test weights trained on simulated X-rays
    python -m models.transfer --chest FOLDER --films 20000 --epochs 8 --out build/transfer

Nothing of the real folders is used for training, so all of their patients are tested on: every X-ray of both splits
(AUROC per finding, 95 % interval by patient), every scan (Dice and HD95 of WT, TC and ET). The networks are trained by
`models.chest.train` and `models.brain.train`, whose logs and checkpoints lie in the folder ``--out``.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from data.brain_simulator.cohort import brain_cohort
from data.chest_simulator.cohort import chest_cohort
from data.errors import DataError
from models.chest import evaluate as evaluate_chest
from models.chest import train as train_chest
from models.chest.network import CHEST_SIZE, CHEST_WEIGHTS, densenet121
from models.terminal import one_sentence
from models.weights import load_weights

CHEST_SEED, BRAIN_SEED = 1001, 3001  # of simulated patients that no notebook tests on
AIMS = {"Effusion": 0.65, "Cardiomegaly": 0.65, "Pneumothorax": 0.65}  # AUROC on real X-rays


def train_on_simulated_films(out: Path, films: int, epochs: int, size: int, network=densenet121) -> Path:
    """Weights of a network trained from random ones on simulated X-rays with their true labels."""
    cohort = chest_cohort(films=films, seed=CHEST_SEED, size=size)
    config = train_chest.Config(
        (str(cohort),),
        out=str(out),
        labels="truth.csv",
        epochs=epochs,
        size=size,
        average=0.99,
        allow_absent=True,
        cache=str(out / "films"),
    )
    train_chest.train(config, network=network)
    return out / CHEST_WEIGHTS


def chest_transfer(
    folder: Path, weights: Path, *, size: int = CHEST_SIZE, cache: Path, network=densenet121
) -> dict[str, pd.DataFrame]:
    """AUROC tables, as of `evaluate_chest.score`, of all X-rays of a folder; standardised by their own mean and sd.

    Raises
    ------
    DataError
        When the weights belong to another network, or the folder cannot be read.
    """
    model = network(size, weights=None)
    load_weights(model, weights)
    parts = []
    for split in ("train_val", "test"):
        try:
            parts.append(evaluate_chest.predict_folder(model, folder, split=split, size=size, cache=cache))
        except DataError as error:
            if "no X-ray of the split" not in str(error):
                raise
    chest, table = parts[0][0], pd.concat([part[1] for part in parts], ignore_index=True)
    return evaluate_chest.score(chest, table, np.concatenate([part[2] for part in parts]))


def report_chest(options: argparse.Namespace) -> None:
    """Train on simulated X-rays if no weights are given, test on the real ones, print the table."""
    weights = options.chest_weights
    if weights is None:
        weights = train_on_simulated_films(options.out / "chest", options.films, options.epochs, options.size)
    tables = chest_transfer(options.chest, Path(weights).resolve(), size=options.size, cache=options.out / "films")
    print(f"\nTrained on simulated X-rays only ({weights}), tested on {options.chest}:\n\n{evaluate_chest.as_markdown(tables)}\n")
    mined = tables[evaluate_chest.MINED]["AUROC"]
    for finding, aim in AIMS.items():
        print(f"{finding}: {mined[finding]:.3f} (aim {aim}: {'reached' if mined[finding] >= aim else 'not reached'})")


def report_brain(options: argparse.Namespace) -> None:
    """Train on simulated scans if no weights are given, test on the real ones; `evaluate_brain` prints the table."""
    from models.brain import evaluate as evaluate_brain  # here: the chest part works without them
    from models.brain import train as train_brain  # here: the chest part works without them

    weights = options.brain_weights
    if weights is None:
        cohort = brain_cohort(cases=options.cases, seed=BRAIN_SEED)
        run = options.out / "brain"
        train_brain.main([str(cohort), "--out", str(run), "--epochs", str(-(-options.steps // 100))])
        weights = run / evaluate_brain.BRAIN_WEIGHTS
    print(f"\nTrained on simulated scans only ({weights}), tested on {options.brain}:\n")
    evaluate_brain.main([str(options.brain), "--weights", str(Path(weights).resolve())])


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.transfer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chest", type=Path, help="real X-rays: folder in the NIH ChestX-ray14 format")
    parser.add_argument("--brain", type=Path, help="real scans: folder in the Decathlon or the BraTS format")
    parser.add_argument("--chest-weights", type=Path, help="weights trained on simulated X-rays; default: train some")
    parser.add_argument("--brain-weights", type=Path, help="weights trained on simulated scans; default: train some")
    parser.add_argument("--films", type=int, default=20_000, help="simulated X-rays to train on (default: 20000)")
    parser.add_argument("--epochs", type=int, default=8, help="on these (default: 8)")
    parser.add_argument("--size", type=int, default=CHEST_SIZE, help=f"side of the X-rays in pixels (default: {CHEST_SIZE})")
    parser.add_argument("--cases", type=int, default=52, help="simulated brain cases to train on (default: 52)")
    parser.add_argument("--steps", type=int, default=3000, help="training steps on these (default: 3000)")
    parser.add_argument("--out", type=Path, default=Path("build/transfer"), help="where runs and decoded X-rays go")
    options = parser.parse_args(arguments)
    if not options.chest and not options.brain:
        parser.error("name a folder of real patients: --chest FOLDER, --brain FOLDER, or both")
    with one_sentence():
        if options.chest:
            report_chest(options)
        if options.brain:
            report_brain(options)


if __name__ == "__main__":
    main()
