"""Train the 3D U-Net of notebook 03 on any folder of brain scans in the Decathlon or the BraTS format.

    python -m models.brain.train --data FOLDER --out RUN            # start, or go on where the last run of RUN stopped
    python -m models.brain.train --data FOLDER --data MORE --out RUN --steps 20000 --patch 96
    python -m models.brain.train --data FOLDER --out RUN --start models/unet3d_brain.weights.h5 --rate 5e-4   # fine-tune

RUN holds ``config.json``, ``log.csv`` (one line per report), ``checkpoint.weights.h5`` (weights and optimizer, replaced
only when complete), ``packed/`` (the scans, cropped and standardised) and in the end ``unet3d_brain.weights.h5`` and
``evaluation.csv``. Every batch depends on the seed and its step alone, so a run that was killed goes on exactly.
Works on every backend of Keras 3 (``KERAS_BACKEND=jax`` on accelerators).
"""

import argparse
import csv
import json
import time
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from data.decathlon import read_brain
from data.errors import DataError
from data.storage import actionable_disk_errors, atomic_file
from models import parallel
from models.brain.evaluate import evaluate, summarize
from models.brain.network import FILTERS, deeply_supervised, dice_cross_entropy, unet3d
from models.brain.patches import batches, pack
from models.parallel import Team
from models.weights import load_weights, save_weights_float16


@dataclass(frozen=True)
class Config:
    """All that a run depends on; printed at its start and saved beside its results."""

    data: tuple[str, ...]
    out: str
    steps: int = 3000
    batch: int = 2
    patch: int = 64
    filters: tuple[int, ...] = FILTERS
    rate: float = 2e-3
    decay: float = 1e-4
    average: float = 0.998
    precision: str = "float32"
    foreground: float = 0.67
    packed: str = ""
    keep_out: tuple[str, ...] = ()
    folds: int = 0
    fold: int = 0
    report: int = 100
    seed: int = 7
    workers: int = 1
    start: str = ""


def build(config: Config) -> tuple[keras.Model, keras.Model]:
    """The network, and the same one with the outputs, loss and optimizer of training.

    It starts from weights if told so, else the seed decides.
    """
    keras.utils.set_random_seed(config.seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        model = unet3d(filters=config.filters)
        trained = deeply_supervised(model)
    finally:
        keras.config.set_dtype_policy(before)
    if config.start:
        load_weights(model, Path(config.start).resolve())
    rate = keras.optimizers.schedules.CosineDecay(
        config.rate / 20, config.steps, alpha=0.01, warmup_target=config.rate, warmup_steps=max(1, config.steps // 30)
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.decay, clipnorm=1.0, use_ema=True, ema_momentum=config.average)
    weights = [0.5**level for level in range(len(trained.outputs))]  # the coarser, the less
    loss_weights = [weight / sum(weights) for weight in weights]
    trained.compile(optimizer, loss=[dice_cross_entropy] * len(weights), loss_weights=loss_weights)
    optimizer.build(trained.trainable_variables)
    return model, trained


@dataclass(frozen=True)
class Folder:
    """A folder of scans and the share of the patches that come from it (nan: by its number of scans)."""

    path: Path
    share: float = float("nan")

    @property
    def key(self) -> str:
        """A name for the folder that no other folder has, such as ``scans-1f2e3d4c``."""
        path = self.path.resolve()
        return f"{path.name}-{zlib.crc32(str(path).encode()):08x}"

    @classmethod
    def parse(cls, text: str) -> "Folder":
        """Read ``FOLDER`` or ``FOLDER=SHARE``."""
        path, sign, share = text.rpartition("=")
        if not sign or Path(text).exists():
            return cls(Path(text))
        try:
            return cls(Path(path), float(share))
        except ValueError as error:
            raise DataError(f"--data {text}: after = stands a number, such as {path}=0.5.") from error


def shares_of(folders: list[Folder], folder_of: list[int]) -> np.ndarray:
    """Probability of each scan to be drawn, of the number of the folder each is in: within a folder all are alike."""
    given = np.array([folder.share for folder in folders])
    counts = np.bincount(folder_of, minlength=len(folders))
    if np.isnan(given).any() and not np.isnan(given).all():
        raise DataError("--data: give every folder a share (FOLDER=0.5), or none.")
    if (given <= 0).any():
        raise DataError(f"--data: the shares are {given.tolist()}; each must be above 0.")
    wanted = np.where(np.isnan(given), counts, given)
    if not counts.all():
        raise DataError(f"--data {folders[int(counts.argmin())].path}: no scan is left to train on. Add some, or leave it away.")
    each = (wanted / counts)[folder_of]
    return each / each.sum()


def keep_out(config: Config, names: list[list[str]]) -> tuple[list[set[str]], list[set[str]]]:
    """Who is not trained on, and whom the run is tested on in the end.

    Parameters
    ----------
    config : Config
        `keep_out` names the patients of a test, who are never trained on. With `folds` the first folder's other patients
        are cut into so many parts (of the list by name every `folds`-th), and part `fold` is kept out as well: that is
        cross-validation, one run a part.
    names : list of list of str
        Of each folder.

    Returns
    -------
    list of set of str
        Names of those who are not trained on, by folder; two folders may use a name for two patients.
    list of set of str
        Those the run is tested on, by folder: the part, or without parts those named.

    Raises
    ------
    DataError
        When nobody is left to train on, a name is unknown, or there is no such part.
    """
    unknown = set(config.keep_out) - {name for folder in names for name in folder}
    if unknown:
        known = ", ".join(name for folder in names for name in folder)
        raise DataError(f"--keep_out {', '.join(sorted(unknown))}: no such case. There are {known}.")
    others = sorted(set(names[0]) - set(config.keep_out))
    if config.folds and not 0 <= config.fold < config.folds <= len(others):
        raise DataError(
            f"--folds {config.folds} --fold {config.fold}: {config.data[0]} has {len(others)} case(s) to cut into parts. Give "
            f"at most as many parts, and --fold from 0 to {config.folds - 1}."
        )
    absent = [set(config.keep_out) & set(folder) for folder in names]
    tested = absent
    if config.folds:
        part = set(others[config.fold :: config.folds])
        absent, tested = [absent[0] | part, *absent[1:]], [part, *(set() for _ in names[1:])]
    if all(kept >= set(folder) for kept, folder in zip(absent, names)):
        raise DataError(
            f"{', '.join(config.data)}: all {sum(map(len, absent))} case(s) are kept out, so none is left to train on. Add some, "
            "or keep fewer out."
        )
    return absent, tested


def _start(config: Config) -> Path:
    """Make the run's folder, print and save its configuration; refuse to go on with another one."""
    out = Path(config.out)
    with actionable_disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(config) | {"backend": keras.config.backend(), "keras": keras.__version__}, indent=1)
    print(text)
    file = out / "config.json"
    if file.exists():
        before, now = json.loads(file.read_text()), json.loads(text)
        free = {"out", "workers", "backend", "keras", "report", "packed"}
        changed = [key for key in now if key not in free and before.get(key) != now[key]]
        if changed:
            raise DataError(f"{file}: this run was started with another {', '.join(changed)}. Give a new --out.")
    with atomic_file(file) as temporary:
        temporary.write_text(text)
    return out


def _resume(model: keras.Model, checkpoint: Path) -> int:
    """Load a checkpoint if there is one, and say how many steps are done."""
    if not checkpoint.exists():
        return 0
    try:
        model.load_weights(checkpoint)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{checkpoint}: cut off or of another network ({error}). Delete it to start anew.") from error
    return int(model.optimizer.iterations)


def _forget_after(log: Path, done: int) -> None:
    """Take out of a log what was written after the checkpoint that training goes on from."""
    if log.exists():
        header, *lines = log.read_text().splitlines(keepends=True)
        with atomic_file(log) as temporary:
            temporary.write_text("".join([header, *(line for line in lines if int(line.split(",")[0]) <= done)]))


def _write_log(log: Path, row: dict[str, str]) -> None:
    """Append a line to a CSV file."""
    with actionable_disk_errors(log), log.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if not file.tell():
            writer.writeheader()
        writer.writerow(row)


def _average(trained: keras.Model) -> None:
    """Replace the weights by their moving average; training cannot go on from it."""
    if keras.config.backend() == "jax":
        trained.jax_state_sync()
    trained.optimizer.finalize_variable_values(trained.trainable_variables)


def train(config: Config, team: Team = Team()) -> Path:
    """Train, or go on with, one run.

    Parameters
    ----------
    config : Config
    team : Team
        The processes that train together, see `models.parallel`; process 0 writes.

    Returns
    -------
    Path
        The weights in 16 bits.

    Raises
    ------
    DataError
        When a scan is broken (before anything is trained), the disk is full, the run's folder is another run's, or the
        loss is no number any more. The last complete checkpoint stays.
    """
    out, rows = Path(config.out), team.rows(config.batch)
    folders = [Folder.parse(text) for text in config.data]
    found = [list(read_brain(folder.path, strict=True)) for folder in folders]
    absent, tested = keep_out(config, [[case.name for case in cases] for cases in found])
    tested = [case for cases, names in zip(found, tested) for case in cases if case.name in names]
    cases = [(number, case) for number, cases in enumerate(found) for case in cases if case.name not in absent[number]]
    shares = shares_of(folders, [number for number, _ in cases])
    with team.leader_first():
        if team.leads:
            _start(config)
        packed = Path(config.packed or out / "packed")
        bar = tqdm(cases, desc="packing scans", disable=not team.leads)
        scans = [pack(case, packed / folders[number].key, config.patch) for number, case in bar]
    model, trained = build(config)
    checkpoint, log = out / "checkpoint.weights.h5", out / "log.csv"
    done = _resume(trained, checkpoint)
    if team.leads:
        _forget_after(log, done)
        print(f"{len(scans)} scans to train on; kept out: {', '.join(sorted(set().union(*absent))) or 'none'}")
        print(f"going on after step {done}" if done else f"{model.count_params():,} parameters", flush=True)
    losses, since = [], time.perf_counter()
    bar = tqdm(total=config.steps, initial=done, desc="training", unit="step", mininterval=5, disable=not team.leads)
    for step, (images, truths) in enumerate(batches(scans, shares, config, done, rows), start=done + 1):
        losses.append(float(trained.train_on_batch(images, truths, return_dict=True)["loss"]))
        bar.update()
        if step % config.report and step != config.steps:
            continue
        loss, pace = float(np.mean(losses)), (time.perf_counter() - since) / len(losses)
        if not np.isfinite(loss):
            raise DataError(f"{checkpoint}: the loss is {loss} at step {step}. Go on from here with a lower --rate.")
        with team.alone():
            if team.leads:  # the log first: a line too many is taken out when the run goes on, a missing one never comes back
                rate = float(trained.optimizer.learning_rate)
                _write_log(log, {"step": step, "loss": f"{loss:.5f}", "rate": f"{rate:.3g}", "seconds_per_step": f"{pace:.3f}"})
                with atomic_file(checkpoint) as temporary:
                    trained.save_weights(temporary)
        bar.set_postfix(loss=f"{loss:.3f}")
        losses, since = [], time.perf_counter()
    bar.close()
    _average(trained)
    weights = out / "unet3d_brain.weights.h5"
    with team.alone():
        if team.leads:
            save_weights_float16(model, weights, bits=8 if config.precision == "mixed_bfloat16" else 11)
    if tested:
        table = evaluate(model, tested)
        if team.leads:
            with atomic_file(out / "evaluation.csv") as temporary:
                table.to_csv(temporary)
            print(table.round(3).to_string(), summarize(table).round(3).to_string(), sep="\n\n")
    if team.leads:
        print(f"weights: {weights}")
    return weights


def main(arguments: list[str] | None = None) -> None:
    """Command line: one option per field of `Config`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, help="folder of scans; may be given several times")
    parser.add_argument("--out", required=True, help="folder of the run")
    for item in fields(Config)[2:]:
        many = (
            {"nargs": "+", "type": int if item.default else str}
            if isinstance(item.default, tuple)
            else {"type": type(item.default)}
        )
        parser.add_argument(f"--{item.name}", default=item.default, help=f"default {item.default}", **many)
    parallel.add_options(parser)
    given = vars(parser.parse_args(arguments))
    team = parallel.start(**{key: given.pop(key) for key in ("devices", "coordinator", "processes", "process")})
    train(Config(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}), team)


if __name__ == "__main__":
    main()
