"""Train the 3D U-Net of notebook 03 on any folder of brain scans in the Decathlon or the BraTS format.

    python -m models.train_brain --data FOLDER --out RUN            # start, or go on where the last run of RUN stopped
    python -m models.train_brain --data FOLDER --data MORE --out RUN --steps 20000 --patch 96
    python -m models.train_brain --data FOLDER --out RUN --start models/unet3d_brain.weights.h5 --rate 5e-4   # fine-tune

RUN holds ``config.json``, ``log.csv`` (one line per report), ``checkpoint.weights.h5`` (weights and optimizer, replaced
only when complete), ``packed/`` (the scans, cropped and standardised) and in the end ``unet3d_brain.weights.h5`` and
``evaluation.csv``. Every batch depends on the seed and its step alone, so a run that was killed goes on exactly.
Works on every backend of Keras 3 (``KERAS_BACKEND=jax`` on accelerators).
"""

import argparse
import csv
import json
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

import util
from data.decathlon import read_brain
from data.errors import DataError
from data.storage import actionable_disk_errors, atomic_file
from models.brain_network import FILTERS, deeply_supervised, dice_cross_entropy, label_map, predict_scan, unet3d
from models.brain_patches import Packed, batches, pack


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
    validation: int = 0
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
        util.load_weights(model, Path(config.start).resolve())
    rate = keras.optimizers.schedules.CosineDecay(
        config.rate / 20, config.steps, alpha=0.01, warmup_target=config.rate, warmup_steps=max(1, config.steps // 30)
    )
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=config.decay, clipnorm=1.0, use_ema=True, ema_momentum=config.average
    )
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


def keep_out(config: Config, names: list[str]) -> list[bool]:
    """Which cases are not trained on: those named, or as many as wanted, drawn by the seed."""
    unknown = set(config.keep_out) - set(names)
    if unknown:
        raise DataError(f"--keep_out {', '.join(sorted(unknown))}: no such case. There are {', '.join(names)}.")
    drawn = np.random.default_rng(config.seed).permutation(len(names))[: config.validation]
    chosen = [name in config.keep_out or number in drawn for number, name in enumerate(names)]
    if all(chosen):
        raise DataError(
            f"{', '.join(config.data)}: {len(names)} case(s), of which {sum(chosen)} are kept out, so none is left to "
            "train on. Add some, or keep fewer out."
        )
    return chosen


def evaluate(model: keras.Model, scans: list[Packed], tile: int = 96) -> pd.DataFrame:
    """Dice and HD95 (mm, voxels taken as 1 mm) of whole tumour, core and enhancing tumour for whole scans."""
    rows = []
    side = 2 ** (1 + sum(isinstance(layer, keras.layers.MaxPooling3D) for layer in model.layers))
    for scan in scans:
        tiles = tuple(min(tile, -(-size // side) * side) for size in scan.label.shape)
        found = label_map(predict_scan(model, np.asarray(scan.image, np.float32), tiles))
        row = {"case": scan.name}
        for region, least in (("WT", (1, 2, 3)), ("TC", (2, 3)), ("ET", (3,))):
            ours, theirs = np.isin(found, least), np.isin(scan.label, least)
            both = ours.sum() + theirs.sum()
            row[f"Dice {region}"] = 2 * (ours & theirs).sum() / both if both else np.nan
            row[f"HD95 {region}"] = util.hausdorff95(ours, theirs)
        rows.append(row)
    return pd.DataFrame(rows)


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
        free = {"out", "workers", "backend", "keras", "report"}
        changed = [key for key in now if key not in free and before.get(key) != now[key]]
        if changed:
            raise DataError(f"{file}: this run was started with another {', '.join(changed)}. Give a new --out.")
    with atomic_file(file) as temporary:
        temporary.write_text(text)
    return out


def _resume(model: keras.Model, checkpoint: Path, log: Path) -> int:
    """Load a checkpoint if there is one, forget what was logged after it, and say how many steps are done."""
    if not checkpoint.exists():
        log.unlink(missing_ok=True)
        return 0
    try:
        model.load_weights(checkpoint)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{checkpoint}: cut off or of another network ({error}). Delete it to start anew.") from error
    done = int(model.optimizer.iterations)
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)
        with atomic_file(log) as temporary:
            temporary.write_text("".join(lines[:1] + [line for line in lines[1:] if int(line.split(",")[0]) <= done]))
    print(f"going on after step {done}")
    return done


def train(config: Config) -> Path:
    """Train, or go on with, one run.

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
    out = _start(config)
    folders = [Folder.parse(text) for text in config.data]
    cases = [(number, case) for number, folder in enumerate(folders) for case in read_brain(folder.path, strict=True)]
    chosen = keep_out(config, [case.name for _, case in cases])
    packed = Path(config.packed or out / "packed")
    scans = [
        pack(case, packed / folders[number].path.resolve().name / str(number), config.patch)
        for number, case in tqdm(cases, desc="packing scans")
    ]
    kept_out = [scan for scan, out_of_it in zip(scans, chosen) if out_of_it]
    shares = shares_of(folders, [number for (number, _), out_of_it in zip(cases, chosen) if not out_of_it])
    scans = [scan for scan, out_of_it in zip(scans, chosen) if not out_of_it]
    print(f"{len(scans)} scans to train on; kept out: {', '.join(scan.name for scan in kept_out) or 'none'}")
    model, trained = build(config)
    checkpoint, log = out / "checkpoint.weights.h5", out / "log.csv"
    done = _resume(trained, checkpoint, log)
    losses, since = [], time.perf_counter()
    bar = tqdm(total=config.steps, initial=done, desc="training", unit="step", mininterval=5)
    for step, (images, labels) in enumerate(batches(scans, shares, config, done, range(config.batch)), start=done + 1):
        losses.append(float(trained.train_on_batch(images, labels)[0]))
        bar.update()
        if step % config.report and step != config.steps:
            continue
        loss, pace = float(np.mean(losses)), (time.perf_counter() - since) / len(losses)
        if not np.isfinite(loss):
            raise DataError(f"{checkpoint}: the loss is {loss} at step {step}. Go on from here with a lower --rate.")
        with atomic_file(checkpoint) as temporary:
            trained.save_weights(temporary)
        with actionable_disk_errors(log), log.open("a", newline="") as file:
            if not file.tell():
                csv.writer(file).writerow(["step", "loss", "seconds_per_step"])
            csv.writer(file).writerow([step, f"{loss:.5f}", f"{pace:.3f}"])
        bar.set_postfix(loss=f"{loss:.3f}")
        losses, since = [], time.perf_counter()
    bar.close()
    trained.optimizer.finalize_variable_values(trained.trainable_variables)  # the moving average, after the checkpoint
    weights = out / "unet3d_brain.weights.h5"
    util.save_weights_float16(model, weights)
    if kept_out:
        table = evaluate(model, kept_out)
        with atomic_file(out / "evaluation.csv") as temporary:
            table.to_csv(temporary, index=False)
        print(table.round(3).to_string(index=False))
    print(f"weights: {weights}")
    return weights


def main(arguments: list[str] | None = None) -> None:
    """Command line: one option per field of `Config`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, help="folder of scans; may be given several times")
    parser.add_argument("--out", required=True, help="folder of the run")
    for item in fields(Config)[2:]:
        many = {"nargs": "+", "type": int if item.default else str} if isinstance(item.default, tuple) else {"type": type(item.default)}
        parser.add_argument(f"--{item.name}", default=item.default, help=f"default {item.default}", **many)
    given = vars(parser.parse_args(arguments))
    train(Config(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}))


if __name__ == "__main__":
    main()
