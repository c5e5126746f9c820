"""Makes the outputs of a trained chest network mean probabilities: one slope and 14 intercepts of its logits.

    python -m models.chest.calibrate FOLDER … --weights RUN/densenet121_chest.weights.h5 --folds 10 --fold 0 --out NEW.weights.h5

Fitted on the patients of the first folder that ``models.chest.train --folds 10 --fold 0`` held out of training. Prevalences are
learned there too, so it should be a stretch of an archive, not a sample that was filled up with ill patients. Name all real
folders of the training: its patients were cut into parts across them.
A slope common to all findings is temperature scaling (Guo et al., ICML 2017); the intercepts are Platt's (1999). Both go
into the weights of the layer ``logits``, so that nothing has to be carried beside the network. They change no AUROC. Where a
run's ``card.json`` lies beside the weights, a card with the prevalences of the first folder is written beside the new ones.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from data.errors import DataError
from models.chest import CARD_FILE, network_card
from models.chest.calibration import fit_calibration
from models.chest.films import open_sources, predict_films
from models.chest.network import CHEST_SIZE, densenet121
from models.chest.train import Config, prevalence_of
from models.terminal import one_sentence
from models.weights import load_weights, save_weights_float16


def apply_calibration(model: keras.Model, slope: float, intercepts: np.ndarray) -> None:
    """Put slope and intercepts into the layer ``logits``."""
    layer = model.get_layer("logits")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * np.float32(slope), bias * np.float32(slope) + intercepts.astype(np.float32)])


def calibrate(model: keras.Model, films: np.ndarray, labels: np.ndarray, mean: float, sd: float) -> tuple[float, np.ndarray]:
    """Calibrate a network on X-rays that it was not trained on.

    Parameters
    ----------
    model : keras.Model
        With a layer ``logits``; changed in place.
    films : ndarray of uint8, (films, size, size)
    labels : ndarray of 0/1, (films, findings)
    mean, sd : float
        Pixel statistics that the X-rays are standardised with.

    Returns
    -------
    slope, intercepts
        What was applied.
    """
    scores = keras.Model(model.input, model.get_layer("logits").output)
    slope, intercepts = fit_calibration(predict_films(scores, films, mean, sd, what="calibration"), labels)
    apply_calibration(model, slope, intercepts)
    return slope, intercepts


def main(arguments: list[str] | None = None, network=densenet121) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.chest.calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="in the NIH ChestX-ray14 format; the first is fitted on")
    parser.add_argument("--weights", type=Path, required=True, help="weights to calibrate")
    parser.add_argument("--out", type=Path, required=True, help="file for the calibrated weights")
    parser.add_argument("--folds", type=int, default=Config.folds, help="as in training")
    parser.add_argument("--fold", type=int, default=Config.fold, help="as in training")
    parser.add_argument("--size", type=int, default=CHEST_SIZE, help="side of the X-rays in pixels")
    parser.add_argument("--cache", default=Config.cache, help="folder for decoded X-rays")
    given = parser.parse_args(arguments)
    config = Config(tuple(given.folders), size=given.size, folds=given.folds, fold=given.fold, cache=given.cache, allow_absent=True)
    with one_sentence():
        training, validation = open_sources(config)
        held_out = [source for source in validation if source.store is training[0].store]
        if not held_out:
            raise DataError(f"--fold {given.fold}: no patient is held out. Name the fold that training held out.")
        model = network(given.size, weights=None)
        load_weights(model, given.weights.resolve())
        store, rows = held_out[0].store, held_out[0].rows
        slope, intercepts = calibrate(model, store.films[rows], store.labels[rows], held_out[0].mean, held_out[0].sd)
        save_weights_float16(model, given.out)
        card = given.weights.with_name(CARD_FILE)
        if card.exists():
            replace(network_card(card), prevalence=prevalence_of(training[:1])).write(given.out.with_name(CARD_FILE))
    print(f"{len(rows)} X-rays; slope {slope:.3f}, intercepts {' '.join(f'{value:+.2f}' for value in intercepts)}")


if __name__ == "__main__":
    main()
