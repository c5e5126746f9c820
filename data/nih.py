"""Reads a folder in the format of NIH ChestX-ray14 (Wang et al., CVPR 2017), simulated or real, in any of its editions.

``Data_Entry_2017*.csv``, ``train_val_list.txt``, ``test_list.txt`` and the X-rays must be there: PNG files in ``images/``, in
the folders
``images_001/images`` to ``images_012/images`` of Kaggle, or in any folder whose name begins so. ``BBox_List_2017.csv`` and
``radiologist_labels.csv`` (a manual reading of some X-rays) may be.
"""

import filecmp
import hashlib
import os
import re
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from data.errors import DataError
from data.instead import say_in_cloud
from data.nih_tables import (  # noqa: F401  what a folder holds, by name, is part of this reader's interface
    BOX_COLUMNS,
    BOX_FILE,
    BOX_REFERENCE_SIZE,
    FINDINGS,
    MANUAL_FILE,
    SIMULATED_FILE,
    SPLIT_FILES,
    TABLE_COLUMNS,
    TABLE_FILE,
    find_table,
    optional_file,
    read_boxes,
    read_labels,
    read_manual,
    read_splits,
    warn,
    warn_left_out,
    warn_of_none,
)
from data.patient_columns import film_key
from data.png import fit_square, looks_inverted, read_png
from data.progress import progress_bar
from data.storage import existing_folder

_LETTERBOX = "are filled up with black at both ends of the shorter side; nothing is stretched or cut away."

_INVERTED = "look inverted, bone black and air white, and are taken so. If they are, save them with 255 − grey level."


@dataclass(frozen=True)
class ChestFolder:
    """The tables of one folder of chest X-rays.

    Attributes
    ----------
    folder : Path
    table : DataFrame
        One row an X-ray: the columns of `TABLE_COLUMNS`, ``split`` ("train_val" or "test") and one 0/1 column for each of
        `FINDINGS`, derived from the report. ``Patient Age`` is in years, nan where unknown.
    boxes : DataFrame
        ``Image Index``, ``Finding`` and ``x, y, w, h`` as fractions of the X-ray (x to the right, y down).
    manual : DataFrame
        ``Image Index`` and one 0/1 column a finding, read by radiologists, for the X-rays that they have read.
    source : str
        "simulated", or "real patients: <name of the folder>"; belongs on every figure and table.
    files : mapping of str to Path
        Where each ``Image Index`` is; see `film_path`.
    """

    folder: Path
    table: pd.DataFrame
    boxes: pd.DataFrame
    manual: pd.DataFrame
    source: str
    files: Mapping[str, Path] = field(default_factory=dict, repr=False)

    def film_path(self, name: str) -> Path:
        """The file of an X-ray."""
        return self.files.get(name, self.folder / "images" / name)

    def with_table(self, table: pd.DataFrame) -> "ChestFolder":
        """The same folder with only the X-rays of `table`."""
        films = set(table["Image Index"])
        return replace(
            self,
            table=table.reset_index(drop=True),
            boxes=self.boxes[self.boxes["Image Index"].isin(films)].reset_index(drop=True),
            manual=self.manual[self.manual["Image Index"].isin(films)].reset_index(drop=True),
        )


def read_chest_folder(folder: Path | str) -> ChestFolder:
    """Read the tables of a folder in the NIH format; the X-rays themselves are read by `load_films`.

    X-rays without a row, rows without an X-ray, lateral views, values that say nothing and boxes that do not fit are named in a
    warning.

    Raises
    ------
    DataError
        When a file or a needed column is missing, a table contradicts itself or the split lists, or no X-ray is left.
    """
    folder = existing_folder(folder, "Name a folder in the NIH ChestX-ray14 format.")
    if away := say_in_cloud(folder, (path.name for path in folder.iterdir())):
        raise DataError(f"{away} Download all of the folder, or copy it to this disk.")
    table_path = find_table(folder)
    table = read_labels(table_path)
    table, files = _keep_films_on_disk(table, table_path, folder)
    table["split"] = read_splits(folder, table["Image Index"])
    in_no_list = table["split"].isna()
    if in_no_list.any():
        warn_left_out(folder, table.loc[in_no_list, "Image Index"], "is in neither split list")
        table = table[~in_no_list].reset_index(drop=True)
    if table.empty:
        raise DataError(
            f"{folder}: no X-ray is in the table, in a split list and in images/. Check that the files belong together."
        )
    patients = table.groupby("split")["Patient ID"].agg(set)
    shared = set.intersection(*patients) if len(patients) == 2 else set()
    if shared:
        warn(
            f"{folder}: {len(shared)} patients are in both split lists, first {min(shared)}: scores on the test list will be "
            "too good."
        )
    paths = [optional_file(folder, name) for name in (BOX_FILE, MANUAL_FILE)]
    boxes, manual = read_boxes(paths[0], files), read_manual(paths[1], files)
    for path, rows in zip(paths, (boxes, manual)):
        warn_of_none(path, rows["Image Index"], table["Image Index"])
    return ChestFolder(
        folder=folder,
        table=table,
        boxes=boxes,
        manual=manual,
        source="simulated" if (folder / SIMULATED_FILE).exists() else f"real patients: {folder.resolve().name}",
        files=files,
    ).with_table(table)


def take_patients(chest: ChestFolder, films: int, seed: int = 0) -> ChestFolder:
    """Keep about `films` X-rays of each split, always all X-rays of a patient, drawn by patient.

    In the test split the X-rays that radiologists have read come first.
    """
    rng = np.random.default_rng(seed)
    kept = []
    for split, part in chest.table.groupby("split"):
        sizes = part.groupby("Patient ID").size()
        order = pd.Series(rng.random(len(sizes)), index=sizes.index)
        if split == "test":
            read = part.loc[part["Image Index"].isin(set(chest.manual["Image Index"])), "Patient ID"]
            order = order + ~order.index.isin(set(read))
        sizes = sizes.loc[order.sort_values().index]
        patients = sizes.index[sizes.cumsum() - sizes < films]
        kept.append(part[part["Patient ID"].isin(set(patients))])
    return chest.with_table(pd.concat(kept))


def read_film(path: Path | str, size: int) -> np.ndarray:
    """Read one X-ray and bring it to `size` × `size` pixels by area averaging.

    One that is not square is filled up with black at both ends of the shorter side (`data.png.fit_square`), and a warning says so.

    Returns
    -------
    ndarray of uint8, (size, size)
        0 black (most dose) to 255 white.

    Raises
    ------
    DataError
        When the file is missing or no whole 8-bit grey PNG (`data.png.read_png`).
    """
    film = read_png(Path(path))
    if film.shape[0] != film.shape[1]:
        # no name of the X-ray: of many alike, Python then shows one
        warnings.warn(f"{Path(path).parent}: X-rays that are not square {_LETTERBOX}", stacklevel=2)
    film = fit_square(film, size)
    if looks_inverted(film):
        warnings.warn(f"{Path(path).parent}: X-rays that {_INVERTED}", stacklevel=2)
    return film


def load_films(
    chest: ChestFolder, size: int, table: pd.DataFrame | None = None, *, skip_broken: bool = True, progress: bool = True
) -> tuple[np.ndarray, pd.DataFrame]:
    """Read all X-rays of a table into memory.

    Parameters
    ----------
    chest : ChestFolder
        Where the X-rays are.
    size : int
        Side of an X-ray in pixels; `size`² bytes of memory are needed for each.
    table : DataFrame, optional
        Rows to read; all of `chest.table` by default.
    skip_broken : bool
        Name the X-rays that cannot be read in a warning and leave them out; otherwise the first one raises.

    Returns
    -------
    films : ndarray of uint8, (films, size, size)
    table : DataFrame
        The row of each X-ray, in the same order, numbered from 0.

    Raises
    ------
    DataError
        When an X-ray is broken and `skip_broken` is false, or when none could be read.
    """
    table = chest.table if table is None else table
    films = np.zeros((len(table), size, size), np.uint8)
    problems: dict[int, str] = {}
    not_square: dict[int, str] = {}
    inverted: dict[int, Path] = {}
    prints: dict[int, bytes] = {}

    def read(row: int, name: str) -> None:
        path = chest.film_path(name)
        try:
            film = read_png(path)
        except DataError as error:
            if not skip_broken:
                raise
            problems[row] = str(error)
            return
        if film.shape[0] != film.shape[1]:
            not_square[row] = f"{path} has {film.shape[1]} × {film.shape[0]} pixels"
        films[row] = fit_square(film, size)
        prints[row] = hashlib.blake2b(film.data, digest_size=12).digest()
        if looks_inverted(films[row]):
            inverted[row] = path

    with ThreadPoolExecutor() as pool:
        names = list(table["Image Index"])
        bar = progress_bar(total=len(names), description="reading X-rays", unit="image", disable=not progress)
        for _ in pool.map(read, range(len(names)), names):
            bar.update()
        bar.close()
    if not_square:
        first = not_square[min(not_square)]
        warnings.warn(f"{len(not_square)} X-rays are not square (first: {first}); they {_LETTERBOX}", stacklevel=2)
    if inverted:
        warnings.warn(f"{len(inverted)} X-rays (first: {inverted[min(inverted)]}) {_INVERTED}", stacklevel=2)
    _say_same_picture(table, prints)
    whole = readable(problems, len(table))
    return (films if whole.all() else films[whole]), table[whole].reset_index(drop=True)


def _say_same_picture(table: pd.DataFrame, prints: Mapping[int, bytes]) -> None:
    """One picture under two patients: whoever splits by patient cannot see it."""
    first: dict[bytes, int] = {}
    patients, names = list(table.get("Patient ID", [])), list(table["Image Index"])
    same = [(first.setdefault(prints[row], row), row) for row in sorted(prints) if patients]
    same = [(one, other) for one, other in same if patients[one] != patients[other]]
    if same:
        one, other = same[0]
        count = "1 X-ray is" if len(same) == 1 else f"{len(same):,} X-rays are"
        warnings.warn(
            f"{count} the same picture as one of another patient, first {names[other]} (patient {patients[other]}) and "
            f"{names[one]} (patient {patients[one]}): a split by patient cannot see that. Take one of each out of the table.",
            stacklevel=3,
        )


def readable(problems: Mapping[int, str], total: int) -> np.ndarray:
    """Which of `total` X-rays could be read, bool (total,): all but the keys of `problems`, whose first five a warning names.

    Raises
    ------
    DataError
        When none could be read.
    """
    listed = [problems[row] for row in sorted(problems)]
    if problems and len(problems) == total:
        raise DataError(f"None of the {total:,} X-rays could be read. The first: {listed[0]}")
    if problems:
        count = "1 broken X-ray is" if len(listed) == 1 else f"{len(listed):,} broken X-rays are"
        warnings.warn("\n".join([f"{count} left out:", *listed[:5]]), stacklevel=3)
    return ~np.isin(np.arange(total), list(problems))


def _films_on_disk(folder: Path) -> dict[str, Path]:
    """The PNG files by `film_key`."""
    found: dict[str, Path] = {}
    for top in sorted(path for path in folder.iterdir() if path.is_dir() and path.name.lower().startswith("images")):
        for place, folders, names in os.walk(top, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
            if away := say_in_cloud(Path(place), names):
                warn(f"{away} Left out.")
            for name in sorted(names):
                if not name.lower().endswith(".png") or name.startswith("."):
                    continue
                path = Path(place, name)
                first = found.setdefault(film_key(name), path)
                if first is not path and not filecmp.cmp(first, path, shallow=False):
                    raise DataError(f"{path}: another X-ray than {first}, under one name. Keep one of them in the folder.")
    return found


def _keep_films_on_disk(table: pd.DataFrame, path: Path, folder: Path) -> tuple[pd.DataFrame, dict[str, Path]]:
    on_disk = _films_on_disk(folder)
    if not on_disk:
        if not any(part.is_dir() and part.name.lower().startswith("images") for part in folder.iterdir()):
            raise DataError(
                f"{folder / 'images'}: the folder of X-rays is missing (images, or images_001 to images_012). Put the PNG files "
                "there; unpack what is packed."
            )
        there = [path.name for path in sorted(folder.glob("images*/**/*.*")) if path.is_file()]
        other = next((name for name in there if not name.startswith(".") and name.lower() != "thumbs.db"), None)
        packed = other and re.search(r"\.(zip|tgz|tar|gz|7z|rar)$", other, re.IGNORECASE)
        advice = "unpack it there." if packed else "convert the X-rays to 8-bit grey PNG."
        holds = f" It holds {other}: {advice}" if other else ""
        raise DataError(f"{folder / 'images'}: no PNG file in the folder. Put the X-rays there.{holds}")
    keys = table["Image Index"].map(film_key)
    named = dict(zip(keys, table["Image Index"].map(lambda name: re.split(r"[/\\]", name)[-1])))
    table = table.assign(**{"Image Index": list(named.values())})
    warn_left_out(folder, sorted(named[key] for key in named.keys() - on_disk.keys()), f"is in {path.name} but not in images/")
    warn_left_out(
        folder, sorted(on_disk[key].name for key in on_disk.keys() - named.keys()), f"is in images/ but not in {path.name}"
    )
    files = {name: on_disk[key] for key, name in named.items() if key in on_disk}
    return table[keys.isin(on_disk.keys())].reset_index(drop=True), files
