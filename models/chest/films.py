"""X-rays as training takes them: decoded and made small once, then mapped from disk; augmentation, batches, prediction.

The whole archive (112,120 X-rays of 1024 × 1024 pixels) fits neither the memory nor, as PNG files, the time of a training
step. At 128 pixels it is 1.8 GB, which the operating system keeps in memory as far as there is room.
"""

import hashlib
import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd

from data import nih
from data.errors import DataError
from data.nih import FINDINGS
from data.progress import progress_bar
from data.storage import actionable_disk_errors, atomic_file
from models.weights import read_names

CHUNK = 512  # X-rays that are decoded between two writes


@dataclass(frozen=True)
class FilmStore:
    """The X-rays of one split of one folder.

    Attributes
    ----------
    chest : ChestFolder
        Where they are from.
    films : ndarray of uint8, (films, size, size)
        Mapped from disk, not in memory.
    table : DataFrame
        The row of each X-ray, numbered from 0.
    labels : ndarray of float32, (films, 14)
        0 or 1, in the order of `nih.FINDINGS`.
    """

    chest: nih.ChestFolder
    films: np.ndarray
    table: pd.DataFrame
    labels: np.ndarray

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.chest.folder.resolve().name

    @property
    def real(self) -> bool:
        """Whether these are X-rays of people."""
        return self.chest.source != "simulated"


def open_store(
    folder: Path | str, size: int, cache: Path, *, split: str = "train_val", labels: str = "", progress: bool = True
) -> FilmStore:
    """Read the tables of a folder and decode its X-rays, unless an earlier run has.

    Parameters
    ----------
    folder : path
        In the NIH format.
    size : int
        Side of the X-rays in pixels.
    cache : Path
        Folder for the decoded X-rays, `size`² bytes each; it can be deleted at any time.
    split : str
        "train_val" or "test".
    labels : str
        Name of a CSV file with ``Image Index`` and the 14 findings as 0/1, used where the folder has it in place of the
        report-derived labels (such as the ``truth.csv`` of simulated cohorts).
    progress : bool

    Raises
    ------
    DataError
        When a table is missing or wrong, no X-ray can be read, or the disk is full.
    """
    chest = nih.read_chest_folder(folder)
    table = chest.table[chest.table["split"] == split].reset_index(drop=True)
    if table.empty:
        raise DataError(f"{folder}: no X-ray of the split {split!r}. Check {nih.SPLIT_FILES[split]}.")
    films, whole = _decoded(chest, list(table["Image Index"]), size, cache, progress)
    rows = np.flatnonzero(whole)
    table = table.iloc[rows].reset_index(drop=True)
    findings = list(nih.FINDINGS)
    targets = table[findings]
    if labels and (chest.folder / labels).exists():
        targets = _better_labels(chest.folder / labels, table["Image Index"])
    return FilmStore(chest, films if len(rows) == len(films) else films[rows], table, targets.to_numpy(np.float32))


def _better_labels(path: Path, names: pd.Series) -> pd.DataFrame:
    """Rows of a CSV file with labels, in the order of `names`."""
    frame = pd.read_csv(path)
    missing = [column for column in ("Image Index", *nih.FINDINGS) if column not in frame.columns]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}. It needs 'Image Index' and the 14 findings.")
    targets = frame.set_index("Image Index")[list(nih.FINDINGS)].reindex(names)
    wrong = ~targets.isin([0, 1]).all(axis=1)
    if wrong.any():
        first = names[wrong.to_numpy()].iloc[0]
        raise DataError(f"{path}: X-ray {first} has no row, or a label other than 0 and 1. Complete the file.")
    return targets


def _decoded(chest: nih.ChestFolder, names: list[str], size: int, cache: Path, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Memory map of the X-rays `names`, and which of them could be read."""
    paths = [chest.film_path(name) for name in names]
    stamps = [(path.name, *_stamp(path)) for path in paths]
    digest = hashlib.sha256(json.dumps([size, stamps]).encode()).hexdigest()[:16]  # other X-rays, another file
    final = cache / f"{chest.folder.resolve().name}-{size}-{digest}.films"
    broken_file = final.with_suffix(".broken.json")
    if not (final.exists() and broken_file.exists() and final.stat().st_size == len(names) * size * size):
        with actionable_disk_errors(final):
            cache.mkdir(parents=True, exist_ok=True)
            _decode(paths, size, final, broken_file, progress)
    broken = {int(row): message for row, message in json.loads(broken_file.read_text()).items()}
    whole = nih.readable(broken, len(names))
    return np.memmap(final, np.uint8, "r", shape=(len(names), size, size)), whole


def _stamp(path: Path) -> tuple[int, int]:
    """Length and time of a file: another file, another stamp; one that cannot be reached is broken, and `_decode` says how."""
    try:
        return (stat := path.stat()).st_size, stat.st_mtime_ns
    except OSError:
        return 0, 0


def _decode(paths: list[Path], size: int, final: Path, broken_file: Path, progress: bool) -> None:
    """Write all X-rays one after the other; a run that was stopped resumes behind its last complete chunk.

    Written, not mapped: a full disk is then an error that can be caught, while a map would end the process.
    """
    partial, notes = final.with_suffix(".partial"), final.with_suffix(".notes")
    done = partial.stat().st_size // (size * size) // CHUNK * CHUNK if partial.exists() else 0
    broken = {}
    if done and notes.exists():
        broken = {row: message for row, message in map(json.loads, notes.read_text().splitlines()) if row < done}

    def read(row: int) -> np.ndarray:
        try:
            return nih.read_film(paths[row], size)
        except DataError as error:
            broken[row] = str(error)
            return np.zeros((size, size), np.uint8)

    with partial.open("ab") as file, ThreadPoolExecutor() as pool:
        file.truncate(done * size * size)
        bar = progress_bar(total=len(paths), initial=done, description="decoding X-rays", unit="image", disable=not progress)
        for start in range(done, len(paths), CHUNK):
            rows = range(start, min(start + CHUNK, len(paths)))
            pixels = list(pool.map(read, rows))
            with atomic_file(notes) as temporary:
                temporary.write_text("".join(json.dumps([row, broken[row]]) + "\n" for row in sorted(broken)))
            file.write(np.stack(pixels).tobytes())
            file.flush()
            bar.update(len(rows))
        bar.close()
    with atomic_file(broken_file) as temporary:
        temporary.write_text(json.dumps(broken))
    partial.rename(final)
    notes.unlink(missing_ok=True)


def pixel_statistics(store: FilmStore, rows: np.ndarray | None = None) -> tuple[float, float]:
    """Mean and standard deviation of the grey levels of some (default: all) X-rays; 20,000 are enough for two decimals."""
    rows = np.arange(len(store.films)) if rows is None else rows
    sample = store.films[np.sort(np.random.default_rng(0).permutation(rows)[:20_000])]
    return float(sample.mean(dtype=np.float64)), float(sample.std(dtype=np.float64))


def augment_film(film: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """One X-ray as another exposure of the same patient might look: turned, shifted, scaled, darker, harder or softer.

    No mirroring: the heart is on the left, and a mirrored X-ray shows another disease (dextrocardia).

    Parameters
    ----------
    film : ndarray of uint8, (height, width)
    rng : numpy.random.Generator
    strength : float
        Factor on all changes: 0 none, 1 as in notebook 01.

    Returns
    -------
    ndarray of uint8, (height, width)
    """
    height, width = film.shape
    angle, scale = strength * rng.uniform(-6, 6), 1 + strength * (rng.uniform(0.92, 1.08) - 1)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    turn[:, 2] += strength * rng.uniform(-0.05, 0.05, 2) * (width, height)
    film = cv2.warpAffine(film, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    grey = np.linspace(0, 1, 256) ** np.exp(strength * rng.uniform(-0.3, 0.3))  # gamma: softer or harder beam
    contrast = 1 + strength * (rng.uniform(0.8, 1.15) - 1)
    grey = (grey - 0.5) * contrast + 0.5 + strength * rng.uniform(-0.08, 0.08)
    return cv2.LUT(film, (255 * grey.clip(0, 1)).astype(np.uint8))


class FilmBatches(keras.utils.PyDataset):
    """Batches of standardised X-rays and their labels for `keras.Model.fit`.

    Parameters
    ----------
    films : ndarray of uint8, (films, size, size)
    labels : ndarray, (films, classes)
    mean, sd : float
        Mean and standard deviation of the pixels of the *training* X-rays.
    batch_size : int
    augment : bool
        Shuffle the X-rays anew in every epoch and pass each through `augment_film`; otherwise order and pixels stay.
    seed : int
        Equal seeds give equal batches.
    """

    def __init__(self, films, labels, mean: float, sd: float, *, batch_size: int = 32, augment: bool = False, seed: int = 0):
        super().__init__()
        self.films, self.labels = films, np.asarray(labels, np.float32)
        self.mean, self.sd = mean, sd
        self.batch_size, self.augment, self.seed = batch_size, augment, seed
        self.epoch = 0
        self._mix()

    def _mix(self) -> None:
        rng = np.random.default_rng([self.seed, self.epoch])
        self.order = rng.permutation(len(self.films)) if self.augment else np.arange(len(self.films))

    def __len__(self) -> int:
        return -(-len(self.films) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index`: X-rays (batch, size, size, 1) float32 and labels (batch, classes) float32."""
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        batch = self.films[rows]
        if self.augment:
            rng = np.random.default_rng([self.seed, self.epoch, index])
            batch = np.stack([augment_film(film, rng) for film in batch])
        return standardize_films(batch, self.mean, self.sd), self.labels[rows]

    def on_epoch_end(self) -> None:
        """Shuffle the X-rays for the next epoch."""
        self.epoch += 1
        self._mix()


def predict_films(
    model: keras.Model, films: np.ndarray, mean: float, sd: float, *, batch_size: int = 64, what: str = "predicting"
) -> np.ndarray:
    """Output of a model, (films, …), for X-rays of uint8 (films, size, size), with a progress bar named `what`."""
    outputs = []
    for start in progress_bar(range(0, len(films), batch_size), description=what, unit="batch"):
        rows = np.arange(start, start + batch_size) % len(films)  # always full: another shape would compile anew
        outputs.append(np.asarray(model.predict_on_batch(standardize_films(films[rows], mean, sd)), np.float32))
    return np.concatenate(outputs)[: len(films)] if outputs else np.zeros((0, *model.output_shape[1:]), np.float32)


def standardize_films(films: np.ndarray, mean: float, sd: float) -> np.ndarray:
    """X-rays (films, size, size) of uint8 as the network takes them: (films, size, size, 1) float32, (pixel − mean) / sd."""
    return (films[..., np.newaxis].astype(np.float32) - np.float32(mean)) / np.float32(sd)


@dataclass(frozen=True)
class Source:
    """The training or the validation X-rays of one folder, with the statistics of its training X-rays."""

    store: FilmStore
    rows: np.ndarray
    mean: float
    sd: float

    @property
    def patients(self) -> set:
        """Whose X-rays they are."""
        return set(self.store.table["Patient ID"].iloc[self.rows])


def split_patients(stores: list[FilmStore], fold: int, folds: int) -> list[np.ndarray]:
    """Which X-rays of each folder are held out for validation: all those of every `folds`-th patient of a shuffled list.

    The list is the same whatever a run's seed, so that all stages of a training hold the same patients out. Real folders
    share one list: a patient who is in two of them is held out of both. A simulated cohort numbers its own patients.

    Returns
    -------
    list of ndarray of bool, (films,)

    Raises
    ------
    DataError
        When a part would have no patient.
    """
    if fold < 0:
        return [np.zeros(len(store.table), bool) for store in stores]
    masks = {}
    groups = [[store for store in stores if store.real], *([store] for store in stores if not store.real)]
    for group in filter(None, groups):
        patients = {patient for store in group for patient in store.table["Patient ID"]}
        if len(patients) < 2:
            raise DataError(
                f"{group[0].chest.folder}: all X-rays are of one patient. Training and validation need different patients: "
                "add X-rays of others, or train on all with --fold -1."
            )
        by_number = sorted(patients, key=lambda patient: (len(str(patient)), str(patient)))  # whether numbers or text
        order = [by_number[place] for place in np.random.default_rng(0).permutation(len(patients))]
        held_out = set(order[fold % folds :: folds] if folds < len(order) else [order[fold % len(order)]])
        masks |= {id(store): store.table["Patient ID"].isin(held_out).to_numpy() for store in group}
    return [masks[id(store)] for store in stores]


def kept_out(stores: list[FilmStore], words: tuple[str, ...]) -> list[np.ndarray]:
    """Which X-rays of each folder are of patients that ``--keep-out`` names; bool, (films,).

    Raises
    ------
    DataError
        When a patient that was named, and not listed in a file, is in no folder.
    """
    names, single = read_names(words)
    masks = [store.table["Patient ID"].astype(str).isin(names).to_numpy() for store in stores]
    found = {str(patient) for store, mask in zip(stores, masks, strict=True) for patient in store.table["Patient ID"][mask]}
    if single - found:
        raise DataError(f"--keep-out {' '.join(sorted(single - found))}: no such patient, and no such file. Give Patient IDs.")
    return masks


def open_sources(config, progress: bool = True) -> tuple[list[Source], list[Source]]:
    """Training X-rays and validation X-rays (none with ``fold`` −1) of every folder.

    Raises
    ------
    DataError
        When a folder cannot be used, or no training X-ray has a finding and ``allow_absent`` is not set.
    """
    training, validation = [], []
    stores = [
        open_store(folder, config.size, Path(config.cache), labels=config.labels, progress=progress) for folder in config.folders
    ]
    absent = kept_out(stores, config.keep_out)
    for store, never, part in zip(stores, absent, split_patients(stores, config.fold, config.folds), strict=True):
        rows, held_out = np.flatnonzero(~part & ~never), np.flatnonzero(part & ~never)
        if not len(rows):
            raise DataError(f"{store.chest.folder}: every patient is held out, so nobody is left to train on. Hold fewer out.")
        mean, sd = pixel_statistics(store, rows)
        if not sd > 0:
            raise DataError(f"{store.chest.folder}: every pixel of every X-ray is {mean:.0f}. Check how they were converted.")
        training.append(Source(store, rows, mean, sd))
        if len(held_out):
            validation.append(Source(store, held_out, mean, sd))
    positives = sum(source.store.labels[source.rows].sum(axis=0) for source in training)
    absent = [finding for finding, count in zip(FINDINGS, positives, strict=True) if not count]
    if absent and not config.allow_absent:
        raise DataError(
            f"No training X-ray is positive for {', '.join(absent)}, so the network would only learn to deny it. Add X-rays "
            "that show it, or go on all the same with --allow-absent."
        )
    return training, validation


def batch_shares(sources: list[Source], shares: tuple[float, ...], batch: int) -> list[int]:
    """X-rays of a batch from each folder; they add up to `batch`, and no folder is left out.

    Raises
    ------
    DataError
        When there are not as many shares as folders, or more folders than X-rays in a batch.
    """
    shares = shares or tuple(len(source.rows) for source in sources)
    if len(shares) != len(sources) or min(shares) <= 0 or len(sources) > batch:
        raise DataError(f"--shares {' '.join(map(str, shares))}: give one number above 0 for each of the {len(sources)} folders.")
    counts = [max(1, math.floor(batch * share / sum(shares))) for share in shares]
    counts[int(np.argmax(counts))] += batch - sum(counts)
    return counts


class MixedBatches(keras.utils.PyDataset):
    """Endless batches of augmented X-rays from several folders; batch `index` is that of step ``first + index``.

    Parameters
    ----------
    sources : list of Source
    counts : list of int
        X-rays of a batch from each source.
    config : models.chest.train.Config
    rows : range
        Rows of the batch that this process prepares.
    first : int
        Steps that have been done already.
    """

    num_batches = None  # endless: threads prepare the next epoch's first batches while the network is validated

    def __init__(self, sources: list[Source], counts: list[int], config, rows: range, first: int = 0):
        super().__init__(workers=config.workers, max_queue_size=8)
        self.sources, self.counts, self.config, self.rows, self.first = sources, counts, config, rows, first
        self.places = [(k, j) for k, count in enumerate(counts) for j in range(count)]  # row → source, place in it
        self._pass = lru_cache(maxsize=4 * len(sources))(self._shuffled)

    def _shuffled(self, source: int, number: int) -> np.ndarray:
        """The rows of a source in the order of its pass `number`."""
        return np.random.default_rng([self.config.seed, source, number, 1]).permutation(self.sources[source].rows)

    def film(self, step: int, row: int) -> tuple[np.ndarray, np.ndarray]:
        """X-ray (size, size, 1) and labels (14,) at a place of a step's batch; each comes once in every pass."""
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
        """Batch `index`: X-rays (batch, size, size, 1) float32 and labels (batch, 14) float32."""
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
