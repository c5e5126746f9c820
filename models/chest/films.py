"""Films of a folder in the NIH format as training takes them: decoded and made small once, then mapped from disk.

The whole archive (112,120 films of 1024 × 1024 pixels) fits neither the memory nor, as PNG files, the time of a training
step. At 128 pixels it is 1.8 GB, which the operating system keeps in memory as far as there is room.
"""

import hashlib
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from data import nih
from data.errors import DataError
from data.storage import actionable_disk_errors, atomic_file

CHUNK = 512  # films that are decoded between two writes


@dataclass(frozen=True)
class FilmStore:
    """The films of one split of one folder.

    Attributes
    ----------
    chest : ChestFolder
        Where they are from.
    films : ndarray of uint8, (films, size, size)
        Mapped from disk, not in memory.
    table : DataFrame
        The row of each film, numbered from 0.
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


def open_store(
    folder: Path | str, size: int, cache: Path, *, split: str = "train_val", labels: str = "", progress: bool = True
) -> FilmStore:
    """Read the tables of a folder and decode its films, unless an earlier run has.

    Parameters
    ----------
    folder : path
        In the NIH format.
    size : int
        Side of the films in pixels.
    cache : Path
        Folder for the decoded films, `size`² bytes each; it can be deleted at any time.
    split : str
        "train_val" or "test".
    labels : str
        Name of a CSV file with ``Image Index`` and the 14 findings as 0/1, used where the folder has it in place of the
        labels mined from reports (such as the ``truth.csv`` of simulated cohorts).
    progress : bool

    Raises
    ------
    DataError
        When a table is missing or wrong, no film can be read, or the disk is full.
    """
    chest = nih.read_chest_folder(folder)
    table = chest.table[chest.table["split"] == split].reset_index(drop=True)
    if table.empty:
        raise DataError(f"{folder}: no film of the split {split!r}. Check {nih.SPLIT_FILES[split]}.")
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
        raise DataError(f"{path}: film {first} has no row, or a label other than 0 and 1. Complete the file.")
    return targets


def _decoded(chest: nih.ChestFolder, names: list[str], size: int, cache: Path, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Memory map of the films `names`, and which of them could be read."""
    paths = [chest.film_path(name) for name in names]
    stamps = [(path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in paths]
    digest = hashlib.sha256(json.dumps([size, stamps]).encode()).hexdigest()[:16]  # other films, another file
    final = cache / f"{chest.folder.resolve().name}-{size}-{digest}.films"
    broken_file = final.with_suffix(".broken.json")
    if not (final.exists() and broken_file.exists() and final.stat().st_size == len(names) * size * size):
        with actionable_disk_errors(final):
            cache.mkdir(parents=True, exist_ok=True)
            _decode(paths, size, final, broken_file, progress)
    broken = {int(row): message for row, message in json.loads(broken_file.read_text()).items()}
    if len(broken) == len(names):
        raise DataError(f"None of the {len(names)} films could be read. The first: {broken[0]}")
    if broken:
        listed = "\n".join([broken[row] for row in sorted(broken)][:5])
        warnings.warn(f"{chest.folder}: {len(broken)} broken films are left out:\n{listed}", stacklevel=3)
    films = np.memmap(final, np.uint8, "r", shape=(len(names), size, size))
    return films, np.array([row not in broken for row in range(len(names))])


def _decode(paths: list[Path], size: int, final: Path, broken_file: Path, progress: bool) -> None:
    """Write all films one after the other; a run that was stopped goes on behind its last complete chunk.

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
        bar = tqdm(total=len(paths), initial=done, desc="decoding films", unit="film", disable=not progress)
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


def augment_film(film: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """One film as another exposure of the same patient might look: turned, shifted, scaled, darker, harder or softer.

    No mirroring: the heart is on the left, and a mirrored film shows another disease (dextrocardia).

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
    """Batches of standardised films and their labels for `keras.Model.fit`.

    Parameters
    ----------
    films : ndarray of uint8, (films, size, size)
    labels : ndarray, (films, classes)
    mean, sd : float
        Mean and standard deviation of the pixels of the *training* films.
    batch_size : int
    augment : bool
        Mix the films anew in every epoch and pass each through `augment_film`; otherwise order and pixels stay.
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
        """Batch `index`: films (batch, size, size, 1) float32 and labels (batch, classes) float32."""
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        batch = self.films[rows]
        if self.augment:
            rng = np.random.default_rng([self.seed, self.epoch, index])
            batch = np.stack([augment_film(film, rng) for film in batch])
        return standardize_films(batch, self.mean, self.sd), self.labels[rows]

    def on_epoch_end(self) -> None:
        """Mix the films for the next epoch."""
        self.epoch += 1
        self._mix()


def predict_films(
    model: keras.Model, films: np.ndarray, mean: float, sd: float, *, batch_size: int = 64, what: str = "predicting"
) -> np.ndarray:
    """Output of a model, (films, …), for films of uint8 (films, size, size), with a progress bar named `what`."""
    outputs = []
    for start in tqdm(range(0, len(films), batch_size), desc=what, unit="batch"):
        rows = np.arange(start, start + batch_size) % len(films)  # always full: another shape would compile anew
        outputs.append(np.asarray(model.predict_on_batch(standardize_films(films[rows], mean, sd))))
    return np.concatenate(outputs)[: len(films)] if outputs else np.zeros((0, *model.output_shape[1:]), np.float32)


def standardize_films(films: np.ndarray, mean: float, sd: float) -> np.ndarray:
    """Films (films, size, size) of uint8 as the network takes them: (films, size, size, 1) float32, (pixel − mean) / sd."""
    return (films[..., np.newaxis].astype(np.float32) - np.float32(mean)) / np.float32(sd)
