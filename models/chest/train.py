"""Trains the DenseNet121 of notebook 01 on any folders in the NIH format, from a laptop to several machines.

    python -m models.chest.train FOLDER --out RUN                       # start, or go on where the last run of RUN stopped
    python -m models.chest.train SIMULATED REAL --shares 1 1 --labels truth.csv --init course --out RUN
    KERAS_BACKEND=jax python -m models.chest.train ChestX-ray14 --batch-size 256 --out RUN

RUN holds ``config.json``, ``log.csv`` (one row an epoch), the last two checkpoints (weights, optimizer, log; each is
complete or not there) and in the end ``densenet121_chest.weights.h5``. Every film of every step depends on the seed, the
step and its place in the batch alone, so a run that was killed goes on exactly, and so does one on other devices.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from data.errors import DataError
from data.nih import FINDINGS
from data.storage import actionable_disk_errors, atomic_file
from models import parallel
from models.chest.films import FilmStore, augment_film, open_store, predict_films, standardize_films
from models.chest.network import CHEST_SIZE, CHEST_WEIGHTS, densenet121
from models.metrics import auroc
from models.run import training_progress
from models.weights import load_weights, save_weights_float16


@dataclass(frozen=True)
class Config:
    """All that a run depends on; printed at its start and saved beside its results. Help texts are in `HELP`."""

    folders: tuple[str, ...]
    out: str = "build/train_chest"
    shares: tuple[float, ...] = ()
    labels: str = ""
    init: str = ""
    size: int = CHEST_SIZE
    epochs: int = 6
    steps: int = 0
    stop_after: int = 0
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    smoothing: float = 0.0
    mixup: float = 0.0
    augmentation: float = 1.0
    average: float = 0.0
    folds: int = 20
    fold: int = 0
    allow_absent: bool = False
    precision: str = "float32"
    seed: int = 0
    cache: str = "build/films"
    workers: int = 2


HELP = {
    "folders": "folders in the NIH ChestX-ray14 format; their train_val films are used",
    "out": "folder of the run",
    "shares": "how much of each batch comes from each folder, such as 1 1; default: by their number of films",
    "labels": "CSV with better labels, used in the folders that have it, such as truth.csv of a simulated cohort",
    "init": "'course', 'imagenet', or a weights file to start from; default: random weights",
    "size": "side of the films in pixels",
    "steps": "steps an epoch (a row of the log, a checkpoint); default: as many as there are films for",
    "stop_after": "end after this epoch all the same, as if the schedule were over (a later call can go on); 0: at its end",
    "smoothing": "share of each label that is moved towards 0.5 (labels mined from text are partly wrong)",
    "mixup": "alpha of mixup (Zhang et al., ICLR 2018); 0: off",
    "augmentation": "strength of `augment_film`",
    "average": "momentum of a running average of the weights, which is validated and saved; 0: off",
    "folds": "the patients are cut into so many parts",
    "fold": "the part that is kept out for validation; -1: none",
    "allow_absent": "go on when a finding has no positive film",
    "precision": "float32, or mixed_bfloat16 on accelerators",
    "cache": "folder for decoded films",
    "workers": "threads that prepare batches",
}
FREE = {"out", "cache", "workers", "allow_absent", "stop_after"}  # may differ when a run goes on


@dataclass(frozen=True)
class Source:
    """The training or the validation films of one folder, with the statistics of its training films."""

    store: FilmStore
    rows: np.ndarray
    mean: float
    sd: float


def split_patients(store: FilmStore, fold: int, folds: int) -> np.ndarray:
    """Which films are kept out for validation: all films of every `folds`-th patient of a shuffled list.

    The list is the same whatever a run's seed, so that all stages of a training keep the same patients out.

    Returns
    -------
    ndarray of bool, (films,)

    Raises
    ------
    DataError
        When a part would have no patient.
    """
    patients = store.table["Patient ID"].unique()
    if fold < 0:
        return np.zeros(len(store.table), bool)
    if len(patients) < 2:
        raise DataError(
            f"{store.chest.folder}: all films are of one patient. Training and validation need different patients: "
            "add films of others, or train on all with --fold -1."
        )
    order = np.random.default_rng(0).permutation(np.sort(patients))
    kept_out = order[fold % folds :: folds] if folds < len(order) else order[[fold % len(order)]]
    return store.table["Patient ID"].isin(set(kept_out)).to_numpy()


def open_sources(config: Config, progress: bool = True) -> tuple[list[Source], list[Source]]:
    """Training films and validation films (none with ``fold`` −1) of every folder.

    Raises
    ------
    DataError
        When a folder cannot be used, or no training film has a finding and ``allow_absent`` is not set.
    """
    training, validation = [], []
    for folder in config.folders:
        store = open_store(folder, config.size, Path(config.cache), labels=config.labels, progress=progress)
        kept_out = split_patients(store, config.fold, config.folds)
        rows = np.flatnonzero(~kept_out)
        sample = store.films[np.sort(np.random.default_rng(0).permutation(rows)[:20_000])]  # enough for two decimals
        mean, sd = float(sample.mean(dtype=np.float64)), float(sample.std(dtype=np.float64))
        if not sd > 0:
            raise DataError(f"{folder}: every pixel of every film is {mean:.0f}. Check how the films were converted.")
        training.append(Source(store, rows, mean, sd))
        if kept_out.any():
            validation.append(Source(store, np.flatnonzero(kept_out), mean, sd))
    positives = sum(source.store.labels[source.rows].sum(axis=0) for source in training)
    absent = [finding for finding, count in zip(FINDINGS, positives, strict=True) if not count]
    if absent and not config.allow_absent:
        raise DataError(
            f"No training film is positive for {', '.join(absent)}, so the network would only learn to deny it. Add films "
            "that show it, or go on all the same with --allow-absent."
        )
    return training, validation


def batch_shares(sources: list[Source], shares: tuple[float, ...], batch: int) -> list[int]:
    """Films of a batch from each folder; they add up to `batch`, and no folder is left out.

    Raises
    ------
    DataError
        When there are not as many shares as folders, or more folders than films in a batch.
    """
    shares = shares or tuple(len(source.rows) for source in sources)
    if len(shares) != len(sources) or min(shares) <= 0 or len(sources) > batch:
        raise DataError(f"--shares {' '.join(map(str, shares))}: give one number above 0 for each of the {len(sources)} folders.")
    counts = [max(1, math.floor(batch * share / sum(shares))) for share in shares]
    counts[int(np.argmax(counts))] += batch - sum(counts)
    return counts


class MixedBatches(keras.utils.PyDataset):
    """Endless batches of augmented films from several folders; batch `index` is that of step ``first + index``.

    Parameters
    ----------
    sources : list of Source
    counts : list of int
        Films of a batch from each source.
    config : Config
    rows : range
        Rows of the batch that this process prepares.
    first : int
        Steps that have been done already.
    """

    num_batches = None  # endless: threads prepare the next epoch's first batches while the network is validated

    def __init__(self, sources: list[Source], counts: list[int], config: Config, rows: range, first: int = 0):
        super().__init__(workers=config.workers, max_queue_size=8)
        self.sources, self.counts, self.config, self.rows, self.first = sources, counts, config, rows, first
        self.places = [(k, j) for k, count in enumerate(counts) for j in range(count)]  # row → source, place in it
        self._pass = lru_cache(maxsize=4 * len(sources))(self._shuffled)

    def _shuffled(self, source: int, number: int) -> np.ndarray:
        """The rows of a source in the order of its pass `number`."""
        return np.random.default_rng([self.config.seed, source, number, 1]).permutation(self.sources[source].rows)

    def film(self, step: int, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Film (size, size, 1) and labels (14,) at a place of a step's batch; each film comes once in every pass."""
        source, place = self.places[row]
        drawn = step * self.counts[source] + place
        store, rows = self.sources[source].store, self.sources[source].rows
        at = self._pass(source, drawn // len(rows))[drawn % len(rows)]
        rng = np.random.default_rng([self.config.seed, step, row, 2])
        film = augment_film(np.asarray(store.films[at]), rng, self.config.augmentation)
        return standardize_films(film, self.sources[source].mean, self.sources[source].sd), store.labels[at]

    def _mate(self, row: int) -> int:
        """The next row of the same source (after its last the first): two sources differ in their greys."""
        source, place = self.places[row]
        return row + 1 if place + 1 < self.counts[source] else row - place

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index`: films (batch, size, size, 1) float32 and labels (batch, 14) float32."""
        step = self.first + index
        films, labels = map(np.stack, zip(*(self.film(step, row) for row in self.rows), strict=True))
        if self.config.mixup:
            rng = np.random.default_rng([self.config.seed, step, 3])
            own = rng.beta(self.config.mixup, self.config.mixup, len(self.places)).astype(np.float32)
            own = np.maximum(own, 1 - own)[list(self.rows)]
            mates, mate_labels = map(np.stack, zip(*(self.film(step, self._mate(row)) for row in self.rows), strict=True))
            films = own[:, None, None, None] * films + (1 - own[:, None, None, None]) * mates
            labels = own[:, None] * labels + (1 - own[:, None]) * mate_labels
        return films, labels


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
    model = network(config.size, weights=named)
    if config.init and not named:
        load_weights(model, Path(config.init).resolve())
    steps = config.epochs * config.steps
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 50, steps, warmup_target=config.learning_rate, warmup_steps=max(1, steps // 20), alpha=0.01
    )
    average = {"use_ema": True, "ema_momentum": config.average} if config.average else {}
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, **average)
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
    """Mean AUROC of each folder's validation films over the findings that some of them have and some have not."""
    scores = {}
    for source in validation:
        films, labels = source.store.films[source.rows], source.store.labels[source.rows]
        pred = predict_films(model, films, source.mean, source.sd, what=f"validation {source.store.name}")
        areas = [auroc(labels[:, k], pred[:, k]) for k in range(labels.shape[1])]
        scores[f"auroc_{source.store.name}"] = float(np.nanmean(areas)) if not np.isnan(areas).all() else math.nan
    return scores


class Keeper(keras.callbacks.Callback):
    """After each epoch: scores, a checkpoint that holds the log so far, and ``log.csv``. Stops when the loss is no number."""

    def __init__(self, config: Config, validation: list[Source], log: list[dict], team: parallel.Team):
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
        seconds = time.perf_counter() - self.since
        out, loss = Path(self.config.out), float(logs["loss"])
        if not math.isfinite(loss):
            raise DataError(
                f"{out}: the loss became {loss} in epoch {epoch + 1}. The checkpoint of the epoch before is intact; start a "
                "new run from it (--init) with a lower --learning-rate."
            )
        films = self.config.steps * self.config.batch_size
        row = {"epoch": epoch + 1, "loss": loss, "films_per_second": films / seconds}
        if self.swap:
            self.swap.on_test_begin()
        row |= validation_scores(self.model, self.validation)
        if self.swap:
            self.swap.on_test_end()
        self.log.append(row)
        with self.team.alone():
            if self.team.leads:
                save_checkpoint(self.model, out, self.log)
                with atomic_file(out / "log.csv") as temporary:
                    pd.DataFrame(self.log).to_csv(temporary, index=False)
        logs.update({name: value for name, value in row.items() if name not in ("epoch", "loss")})


def checkpoints(out: Path) -> list[Path]:
    """Checkpoints of a run, the newest last."""
    return sorted(out.glob("checkpoint-*.weights.h5"))


def _shapes(model: keras.Model) -> str:
    """Shapes of all that a checkpoint holds. Keras itself passes over what fits nowhere."""
    return json.dumps([list(variable.shape) for variable in (*model.variables, *model.optimizer.variables)])


def save_checkpoint(model: keras.Model, out: Path, log: list[dict]) -> None:
    """Save weights, optimizer and log in one file, complete or not at all, and keep the one before."""
    import h5py

    with atomic_file(out / f"checkpoint-{len(log):05}.weights.h5") as temporary:
        model.save_weights(temporary)
        with h5py.File(temporary, "a") as file:
            file["log"], file["shapes"] = json.dumps(log), _shapes(model)
    for old in checkpoints(out)[:-2]:
        old.unlink()


def resume(model: keras.Model, out: Path) -> list[dict]:
    """Load the newest checkpoint, if there is one.

    Returns
    -------
    list of dict
        The log so far; one entry an epoch that is done.

    Raises
    ------
    DataError
        When it is cut off or belongs to another network.
    """
    import h5py

    found = checkpoints(out)
    if not found:
        return []
    before = f"; the run then goes on from {found[-2].name}" if len(found) > 1 else "; the run then starts anew"
    try:
        with h5py.File(found[-1]) as file:
            log = json.loads(file["log"][()])
            if file["shapes"][()].decode() != _shapes(model):
                raise ValueError("its weights have other shapes")
        model.load_weights(found[-1])
    except OSError as error:
        raise DataError(f"{found[-1]}: the checkpoint is cut off or damaged. Delete it{before}.") from error
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{found[-1]}: the checkpoint is of another network ({error}). Choose another --out, or delete it{before}."
        ) from error
    return log


def _start(config: Config, team: parallel.Team) -> None:
    """Make the run's folder, print and save its configuration; refuse to go on with another one."""
    file = Path(config.out) / "config.json"
    settings = json.loads(json.dumps(asdict(config)))
    if file.exists():
        before = json.loads(file.read_text())
        changed = [
            f"{key} {before.get(key)!r}, now {value!r}"
            for key, value in settings.items()
            if key not in FREE and before.get(key) != value
        ]
        if changed:
            raise DataError(f"{file}: this run was started with {'; '.join(changed)}. Choose another --out.")
    if not team.leads:
        return
    text = json.dumps(settings | {"backend": keras.config.backend(), "keras": keras.__version__}, indent=1)
    print(text)
    with actionable_disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as temporary:
        temporary.write_text(text)


def train(config: Config, team: parallel.Team = parallel.Team(), network=densenet121) -> keras.Model:
    """Train, or go on with, one run.

    Parameters
    ----------
    config : Config
    team : parallel.Team
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
        the loss is no number any more. The last complete checkpoint stays.
    """
    keras.config.set_dtype_policy(config.precision)
    with team.leader_first():  # the others find the films decoded
        training, validation = open_sources(config, progress=team.leads)
    counts = batch_shares(training, config.shares, config.batch_size)
    if not config.steps:
        films = sum(len(source.rows) for source in training)
        config = Config(**{**asdict(config), "steps": max(1, films // config.batch_size)})
    _start(config, team)
    if team.leads:
        for source, count in zip(training, counts, strict=True):
            print(
                f"{source.store.name}: {len(source.rows):,} films to train on ({source.store.chest.source}), {count} of "
                f"each {config.batch_size}; pixels {source.mean:.1f} ± {source.sd:.1f}"
            )
    model = build(config, network)
    log = resume(model, Path(config.out))
    batches = MixedBatches(training, counts, config, team.rows(config.batch_size), first=len(log) * config.steps)
    if log and team.leads:
        print(f"going on after epoch {len(log)}")
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
    model.optimizer.finalize_variable_values(model.trainable_variables)  # takes the averaged weights, where there are any
    with team.alone():
        if team.leads:
            save_weights_float16(model, Path(config.out) / CHEST_WEIGHTS)
    return model


def main(arguments: list[str] | None = None, network=densenet121) -> None:
    """Command line: one option per field of `Config`, and those of `parallel`."""
    parser = argparse.ArgumentParser(
        prog="python -m models.chest.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", help=HELP["folders"])
    for field in fields(Config)[1:]:
        option, text = f"--{field.name.replace('_', '-')}", HELP.get(field.name, "")
        if isinstance(field.default, bool):
            parser.add_argument(option, action="store_true", help=text)
        elif isinstance(field.default, tuple):
            parser.add_argument(option, type=float, nargs="+", default=(), help=text)
        else:
            text = f"{text} (default: {field.default!r})"
            parser.add_argument(option, type=type(field.default), default=field.default, help=text)
    parallel.add_options(parser)
    given = vars(parser.parse_args(arguments))
    team = parallel.start(*(given.pop(name) for name in ("devices", "coordinator", "processes", "process")))
    config = Config(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
    try:
        train(config, team, network)
    except DataError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
