"""Trains the DenseNet121 of notebook 01 on any folders in the NIH format, from a laptop to several machines.

    python -m models.chest.train FOLDER --out RUN                       # start, or resume the run in RUN
    python -m models.chest.train SIMULATED REAL --shares 1 1 --labels truth.csv --init course --out RUN
    KERAS_BACKEND=jax python -m models.chest.train ChestX-ray14 --batch-size 256 --out RUN

RUN is described in `models.run`; the weights in it are ``densenet121_chest.weights.h5``. Every X-ray of every step depends
on the seed, the step and its place in the batch alone, so a run that was killed resumes exactly, and so does one on other
devices.
"""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from data.nih import FINDINGS
from models import run
from models.chest import CARD_FILE, NetworkCard
from models.chest.films import MixedBatches, Source, batch_shares, open_sources, predict_films
from models.chest.network import CHEST_SIZE, CHEST_WEIGHTS, densenet121
from models.metrics import auroc
from models.parallel import Team
from models.run import RunConfig, option
from models.terminal import one_sentence, training_progress
from models.weights import PATIENTS_FILE, load_weights, save_weights_float16, write_patients


@dataclass(frozen=True)
class Config(RunConfig):
    """All that a run depends on."""

    out: str = option("build/train_chest", "folder of the run")
    labels: str = option("", "CSV with better labels, used in the folders that have it, such as truth.csv of a simulated cohort")
    init: str = option("", "'course', 'imagenet', or a weights file to start from; default: random weights")
    size: int = option(CHEST_SIZE, "side of the X-rays in pixels")
    epochs: int = option(6, "length of the schedule; an epoch is a row of the log and a checkpoint")
    steps: int = option(0, "steps an epoch; 0: as many as there are X-rays for")
    batch_size: int = option(32, "X-rays of a step, of all devices together")
    learning_rate: float = option(1e-3, "highest rate of the cosine schedule")
    smoothing: float = option(0.0, "share of each label that is moved towards 0.5 (report-derived labels are partly wrong)")
    mixup: float = option(0.0, "alpha of mixup (Zhang et al., ICLR 2018); 0: off")
    augmentation: float = option(1.0, "strength of `augment_film`")
    folds: int = option(20, "the patients are cut into so many parts")
    fold: int = option(0, "the part that is held out for validation; -1: none")
    allow_absent: bool = option(False, "train although a finding has no positive X-ray")
    cache: str = option("build/films", "folder for decoded X-rays")
    workers: int = option(2, "threads that prepare batches")

    FREE = RunConfig.FREE | {"allow_absent"}


def build(config: Config, network=densenet121) -> keras.Model:
    """The network, compiled; starts from ``init``, else the seed decides.

    Parameters
    ----------
    config : Config
    network : function
        ``network(size, weights=…)`` gives a model with a layer ``logits`` that ends in probabilities.
    """
    keras.utils.set_random_seed(config.seed)
    named = config.init if config.init in ("course", "imagenet") else None
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        model = network(config.size, weights=named)
    finally:
        keras.config.set_dtype_policy(before)
    if config.init and not named:
        load_weights(model, Path(config.init).resolve())
    optimizer = run.adamw(config)
    # With TensorFlow on a CPU, XLA takes minutes to compile this network and gains too little to pay for them.
    compiled = "auto" if keras.config.backend() == "jax" else False
    loss = keras.losses.BinaryCrossentropy(label_smoothing=config.smoothing)
    model.compile(optimizer, loss, jit_compile=compiled)
    optimizer.build(model.trainable_variables)  # so that a checkpoint's state has where to go
    # What is not built yet, Keras builds in `fit` with the first batch, and on JAX an endless data set has then lost it.
    nothing = np.zeros((1, *model.output_shape[1:]), np.float32)
    model.compute_loss(y=keras.ops.convert_to_tensor(nothing), y_pred=keras.ops.convert_to_tensor(nothing))
    return model


def validation_scores(model: keras.Model, validation: list[Source]) -> dict[str, float]:
    """Mean AUROC of each folder's validation X-rays over the findings that some of them have and some have not."""
    scores = {}
    for source in validation:
        films, labels = source.store.films[source.rows], source.store.labels[source.rows]
        pred = predict_films(model, films, source.mean, source.sd, what=f"validation {source.store.name}")
        areas = [auroc(labels[:, k], pred[:, k]) for k in range(labels.shape[1])]
        scores[f"auroc_{source.store.name}"] = float(np.nanmean(areas)) if not np.isnan(areas).all() else math.nan
    return scores


class Keeper(keras.callbacks.Callback):
    """After each epoch: validation scores, a checkpoint and ``log.csv``; ends the run when the loss is not a number."""

    def __init__(self, config: Config, validation: list[Source], log: list[dict], team: Team):
        super().__init__()
        self.config, self.validation, self.log, self.team = config, validation, log, team
        self.swap = keras.callbacks.SwapEMAWeights() if config.average else None

    def set_model(self, model: keras.Model) -> None:
        """Called by Keras."""
        super().set_model(model)
        if self.swap:
            self.swap.set_model(model)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Called by Keras."""
        self.since = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Called by Keras; the epochs count from 0."""
        pace = self.config.steps * self.config.batch_size / (time.perf_counter() - self.since)
        row = {"epoch": epoch + 1, "loss": float(logs["loss"]), "films_per_second": pace}
        if math.isfinite(row["loss"]):
            if self.swap:
                self.swap.on_test_begin()
            row |= validation_scores(self.model, self.validation)
            if self.swap:
                self.swap.on_test_end()
        self.log.append(row)
        run.record(self.model, Path(self.config.out), self.log, self.team)
        logs.update({name: value for name, value in row.items() if name not in ("epoch", "loss")})


def card_of(training: list[Source], size: int) -> NetworkCard:
    """Pixel statistics and prevalences of the real training X-rays; of all, where none are real."""
    sources = [source for source in training if source.store.real] or training
    counts = np.array([len(source.rows) for source in sources])
    means, sds = (np.array([getattr(source, name) for source in sources]) for name in ("mean", "sd"))
    mean = np.average(means, weights=counts)
    sd = np.sqrt(np.average(sds**2 + (means - mean) ** 2, weights=counts))
    return NetworkCard(size, (round(float(mean), 3), round(float(sd), 3)), prevalence_of(sources))


def prevalence_of(sources: list[Source]) -> dict[str, float]:
    """Share of the X-rays with each finding."""
    shares = np.concatenate([source.store.labels[source.rows] for source in sources]).mean(axis=0)
    return {finding: round(float(share), 5) for finding, share in zip(FINDINGS, shares, strict=True)}


def train(config: Config, team: Team = Team(), network=densenet121) -> keras.Model:
    """Start or resume one run.

    Parameters
    ----------
    config : Config
    team : Team
        The processes that train together.
    network : function
        Builds the model, see `build`.

    Returns
    -------
    keras.Model
        Its weights are saved in 16 bits as ``densenet121_chest.weights.h5`` in the folder ``out``.

    Raises
    ------
    DataError
        When folders or settings cannot be used (before anything is trained), the disk is full, a checkpoint is damaged, or
        the loss is not a number any more. The last complete checkpoint stays.
    """
    with team.leader_first():  # the others find the X-rays decoded
        training, validation = open_sources(config, progress=team.leads)
    counts = batch_shares(training, config.shares, config.batch_size)
    if not config.steps:
        config = replace(config, steps=max(1, sum(len(source.rows) for source in training) // config.batch_size))
    out = run.start(config, team)
    if team.leads:
        for source, count in zip(training, counts, strict=True):
            print(
                f"{source.store.name}: {len(source.rows):,} X-rays to train on ({source.store.chest.source}), {count} of "
                f"each {config.batch_size}; pixels {source.mean:.1f} ± {source.sd:.1f}"
            )
        real = {patient for source in training if source.store.real for patient in source.patients}
        write_patients(out / PATIENTS_FILE, real)
        card_of(training, config.size).write(out / CARD_FILE)
    model = build(config, network)
    log = run.resume(model, out)
    batches = MixedBatches(training, counts, config, team.rows(config.batch_size), first=len(log) * config.steps)
    if log and team.leads:
        print(f"resuming after epoch {len(log)}")
    last = min(config.stop_after or config.epochs, config.epochs)
    if len(log) < last:
        keeper = Keeper(config, validation, log, team)
        model.fit(
            batches,
            epochs=last,
            initial_epoch=len(log),
            steps_per_epoch=config.steps,
            shuffle=False,
            verbose=0,
            callbacks=[keeper, *([training_progress()] if team.leads else [])],
        )
    run.take_average(model)
    with team.alone():
        if team.leads:
            save_weights_float16(model, out / CHEST_WEIGHTS)
    return model


def main(arguments: list[str] | None = None, network=densenet121) -> None:
    """Command line: one option for each field of `Config`, and those of `models.parallel`."""
    with one_sentence():
        folders = "folders in the NIH ChestX-ray14 format; their train_val X-rays are used"
        config, team = run.parse(Config, arguments, prog="python -m models.chest.train", description=__doc__, folders=folders)
        train(config, team, network)


if __name__ == "__main__":
    main()
