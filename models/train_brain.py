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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy import ndimage
from tqdm import tqdm

import util
from data.decathlon import BrainCase, read_brain
from data.errors import DataError
from data.storage import actionable_disk_errors, atomic_file

CLASSES = 3


@dataclass(frozen=True)
class Config:
    """All that a run depends on; printed at its start and saved beside its results."""

    data: tuple[str, ...]
    out: str
    steps: int = 3000
    batch: int = 2
    patch: int = 64
    filters: tuple[int, ...] = (8, 16, 32, 64, 128)
    rate: float = 2e-3
    foreground: float = 0.67
    validation: int = 3
    report: int = 100
    seed: int = 7
    workers: int = 1
    start: str = ""


@dataclass(frozen=True)
class Packed:
    """A scan as training needs it, left on disk until a patch is cut from it.

    Attributes
    ----------
    name : str
    image : numpy.memmap of float16, shape (x, y, z, 4)
        Cropped to the brain, standardised, 0 outside.
    label : numpy.memmap of uint8, shape (x, y, z)
    places : list of numpy.ndarray of int, shape (n, 3)
        Some voxels of each class that is there.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    places: list[np.ndarray]


def pack(case: BrainCase, folder: Path, least: int) -> Packed:
    """Read, check, crop and standardise a scan once; later runs find it in `folder`.

    Parameters
    ----------
    case : BrainCase
    folder : Path
    least : int
        The scan is padded with zeros to at least this many voxels a side.
    """
    image_file, label_file = folder / f"{case.name}.image.npy", folder / f"{case.name}.label.npy"
    if not (image_file.exists() and label_file.exists()):
        with actionable_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        image, label = case.image(), case.label()
        box = util.brain_box(image)
        image, label = util.standardize_scan(image[box]), label[box]
        padding = [(0, max(0, least - size)) for size in label.shape]
        for file, voxels in ((image_file, np.pad(image.astype(np.float16), [*padding, (0, 0)])),
                             (label_file, np.pad(label, padding))):  # fmt: skip
            with atomic_file(file) as temporary:
                np.save(temporary, voxels)
    image, label = np.load(image_file, mmap_mode="r"), np.load(label_file, mmap_mode="r")
    if min(label.shape) < least:
        raise DataError(f"{image_file}: packed for smaller patches. Delete the folder {folder} and start again.")
    places = []
    for number in range(1, CLASSES + 1):
        voxels = np.argwhere(label == number)
        if len(voxels):
            places.append(voxels[:: max(1, len(voxels) // 2000)])
    return Packed(f"{folder.name}/{case.name}", image, label, places)


def cut_patch(scan: Packed, side: int, foreground: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cut a cube; with probability `foreground` it holds a voxel of a class drawn with equal chances.

    Returns
    -------
    image : numpy.ndarray of float32, shape (side, side, side, 4)
    label : numpy.ndarray of uint8, shape (side, side, side)
    """
    room = np.array(scan.label.shape) - side
    corner = rng.integers(0, room + 1)
    if scan.places and rng.random() < foreground:
        voxel = rng.choice(scan.places[rng.integers(len(scan.places))])
        corner = np.clip(voxel - rng.integers(side // 6, side - side // 6, 3), 0, room)
    here = tuple(slice(start, start + side) for start in corner)
    return scan.image[here].astype(np.float32), np.asarray(scan.label[here])


def augment(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Change a patch as another patient, scanner or day would: pose and size, contrast, shading, sharpness, noise.

    Same shapes and dtypes as given; the outside of the brain stays 0.
    """
    if rng.random() < 0.3:  # turn by up to 20 degrees about each axis and scale by up to 25 %
        image, label = _turn(image, label, rng)
    for axis in range(3):
        if rng.random() < (0.5 if axis == 0 else 0.15):  # left and right are alike, top and bottom hardly
            image, label = np.flip(image, axis), np.flip(label, axis)
    brain = (image != 0).any(axis=-1)
    image = image.copy()
    for channel in range(image.shape[-1]):
        values = image[..., channel]
        if rng.random() < 0.15:
            values = ndimage.gaussian_filter(values, rng.uniform(0.4, 1.0))
        if rng.random() < 0.3:  # another contrast curve
            low, high = values.min(), values.max() + 1e-6
            values = ((values - low) / (high - low)) ** rng.uniform(0.65, 1.5) * (high - low) + low
        if rng.random() < 0.3:  # shading by the coil
            field = ndimage.zoom(rng.normal(0, 0.15, (3, 3, 3)), np.array(values.shape) / 3, order=1)
            values = values * (1 + field.astype(np.float32))
        values = values * rng.uniform(0.8, 1.25) + rng.normal(0, 0.15)
        if rng.random() < 0.3:
            values = values + rng.normal(0, rng.uniform(0.02, 0.2), values.shape)
        image[..., channel] = values
    if rng.random() < 0.05:  # a sequence that came out badly
        image[..., rng.integers(image.shape[-1])] = 0
    image[~brain] = 0
    return image.astype(np.float32), np.ascontiguousarray(label)


def _turn(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rotate and scale about the middle of a patch."""
    matrix = np.eye(3) / rng.uniform(0.8, 1.25)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = np.deg2rad(rng.uniform(-20, 20))
        turn = np.eye(3)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    middle = (np.array(label.shape) - 1) / 2
    shift = middle - matrix @ middle
    turned = [ndimage.affine_transform(image[..., c], matrix, shift, order=1) for c in range(image.shape[-1])]
    return np.stack(turned, axis=-1), ndimage.affine_transform(label, matrix, shift, order=0)


def make_batch(scans: list[Packed], config: Config, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (batch, side, side, side, 4) and one-hot labels (…, 3) of a step; the same whenever it is asked for."""
    rng = np.random.default_rng([config.seed, step])
    pairs = []
    for _ in range(config.batch):
        scan = scans[rng.integers(len(scans))]
        pairs.append(augment(*cut_patch(scan, config.patch, config.foreground, rng), rng))
    images, labels = map(np.stack, zip(*pairs))
    return images, (labels[..., None] == np.arange(1, CLASSES + 1)).astype(np.float32)


def batches(scans: list[Packed], config: Config, start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of the steps from `start` on, prepared ahead by threads while the network computes."""
    with ThreadPoolExecutor(config.workers) as pool:
        ahead = [pool.submit(make_batch, scans, config, start + number) for number in range(2 * config.workers)]
        for step in range(start + len(ahead), config.steps + len(ahead)):
            yield ahead.pop(0).result()
            ahead.append(pool.submit(make_batch, scans, config, min(step, config.steps)))


def build(config: Config) -> keras.Model:
    """The network with its loss and optimizer; starts from weights if told so, else the seed decides."""
    keras.utils.set_random_seed(config.seed)
    model = util.unet3d(filters=config.filters)
    rate = keras.optimizers.schedules.CosineDecay(
        config.rate / 20, config.steps, alpha=0.01, warmup_target=config.rate, warmup_steps=max(1, config.steps // 30)
    )
    if config.start:
        util.load_weights(model, Path(config.start).resolve())
    model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=1.0), loss=util.dice_cross_entropy)
    model.optimizer.build(model.trainable_variables)
    return model


def evaluate(model: keras.Model, scans: list[Packed], tile: int = 96) -> pd.DataFrame:
    """Dice and HD95 (mm, voxels taken as 1 mm) of whole tumour, core and enhancing tumour for whole scans."""
    rows = []
    side = 2 ** (len([layer for layer in model.layers if layer.name.startswith("max_pooling")]))
    for scan in scans:
        tiles = tuple(min(tile, -(-size // side) * side) for size in scan.label.shape)
        found = util.label_map(util.predict_scan(model, np.asarray(scan.image, np.float32), tiles))
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
    cases = [(number, case) for number, folder in enumerate(config.data) for case in read_brain(folder, strict=True)]
    if len(cases) <= config.validation:
        raise DataError(f"{config.data}: {len(cases)} cases, but {config.validation} are kept out for validation. Add some.")
    scans = [pack(case, out / "packed" / str(number), config.patch) for number, case in tqdm(cases, desc="packing scans")]
    order = np.random.default_rng(config.seed).permutation(len(scans))
    kept_out = [scans[number] for number in order[: config.validation]]
    scans = [scans[number] for number in order[config.validation :]]
    print(f"{len(scans)} scans to train on; kept out: {', '.join(scan.name for scan in kept_out) or 'none'}")
    model = build(config)
    checkpoint, log = out / "checkpoint.weights.h5", out / "log.csv"
    done = _resume(model, checkpoint, log)
    losses, since = [], time.perf_counter()
    bar = tqdm(total=config.steps, initial=done, desc="training", unit="step", mininterval=5)
    for step, (images, labels) in enumerate(batches(scans, config, done), start=done + 1):
        losses.append(float(model.train_on_batch(images, labels)))
        bar.update()
        if step % config.report and step != config.steps:
            continue
        loss, pace = float(np.mean(losses)), (time.perf_counter() - since) / len(losses)
        if not np.isfinite(loss):
            raise DataError(f"{checkpoint}: the loss is {loss} at step {step}. Go on from here with a lower --rate.")
        with atomic_file(checkpoint) as temporary:
            model.save_weights(temporary)
        with actionable_disk_errors(log), log.open("a", newline="") as file:
            if not file.tell():
                csv.writer(file).writerow(["step", "loss", "seconds_per_step"])
            csv.writer(file).writerow([step, f"{loss:.5f}", f"{pace:.3f}"])
        bar.set_postfix(loss=f"{loss:.3f}")
        losses, since = [], time.perf_counter()
    bar.close()
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
        many = {"nargs": "+", "type": int} if isinstance(item.default, tuple) else {"type": type(item.default)}
        parser.add_argument(f"--{item.name}", default=item.default, help=f"default {item.default}", **many)
    given = vars(parser.parse_args(arguments))
    train(Config(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}))


if __name__ == "__main__":
    main()
