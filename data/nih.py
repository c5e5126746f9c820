"""Reads a folder in the format of NIH ChestX-ray14 (Wang et al., CVPR 2017), simulated or real.

``images/*.png``, ``Data_Entry_2017_v2020.csv``, ``train_val_list.txt`` and ``test_list.txt`` must be there;
``BBox_List_2017.csv`` and ``radiologist_labels.csv`` (a manual reading of some films) may be.
"""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from data.errors import DataError

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""The 14 findings in the order of the archive's paper."""

TABLE_FILE = "Data_Entry_2017_v2020.csv"
BOX_FILE = "BBox_List_2017.csv"
MANUAL_FILE = "radiologist_labels.csv"
SPLIT_FILES = {"train_val": "train_val_list.txt", "test": "test_list.txt"}
SIMULATED_FILE = "SIMULATED.json"

TABLE_COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position")
BOX_COLUMNS = ("Image Index", "Finding", "x", "y", "w", "h")
BOX_REFERENCE_SIZE = 1024
"""The boxes of the archive are given in pixels of its 1024 × 1024 films."""

_OTHER_NAMES = {"Patient Sex": "Patient Gender"}  # what a newer edition of the table calls the column
_BOX_NAMES = {"Infiltrate": "Infiltration"}  # the one finding that the archive's box list calls otherwise
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class ChestFolder:
    """The tables of one folder of chest films.

    Attributes
    ----------
    folder : Path
        Where the films are.
    table : DataFrame
        One row a film: the columns of `TABLE_COLUMNS`, ``split`` ("train_val" or "test") and one 0/1 column for each of
        `FINDINGS`, mined from the report's text.
    boxes : DataFrame
        ``Image Index``, ``Finding`` and ``x, y, w, h`` as fractions of the film (x to the right, y down).
    manual : DataFrame
        ``Image Index`` and one 0/1 column a finding, read by radiologists, for the films that they have read.
    source : str
        "simulated", or "real patients: <name of the folder>"; belongs on every figure and table.
    """

    folder: Path
    table: pd.DataFrame
    boxes: pd.DataFrame
    manual: pd.DataFrame
    source: str

    def with_table(self, table: pd.DataFrame) -> "ChestFolder":
        """The same folder with only the films of `table`."""
        films = set(table["Image Index"])
        return replace(
            self,
            table=table.reset_index(drop=True),
            boxes=self.boxes[self.boxes["Image Index"].isin(films)].reset_index(drop=True),
            manual=self.manual[self.manual["Image Index"].isin(films)].reset_index(drop=True),
        )


def read_chest_folder(folder: Path | str) -> ChestFolder:
    """Read the tables of a folder in the NIH format; the films themselves are read by `load_films`.

    Films without a row, and rows without a film, are named in a warning and left out.

    Raises
    ------
    DataError
        When a file or a needed column is missing, or no film is left.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. Name a folder in the NIH ChestX-ray14 format.")
    table = _read_table(folder / TABLE_FILE)
    table = _keep_films_on_disk(table, folder)
    table["split"] = _read_splits(folder, table["Image Index"])
    in_no_list = table["split"].isna()
    if in_no_list.any():
        _warn_left_out(folder, table.loc[in_no_list, "Image Index"], "is in neither split list")
        table = table[~in_no_list].reset_index(drop=True)
    if table.empty:
        raise DataError(f"{folder}: no film is in the table, in a split list and in images/. Check that the files belong together.")
    source = "simulated" if (folder / SIMULATED_FILE).exists() else f"real patients: {folder.resolve().name}"
    films = set(table["Image Index"])
    boxes = _read_boxes(folder / BOX_FILE)
    manual = _read_manual(folder / MANUAL_FILE)
    return ChestFolder(
        folder=folder,
        table=table,
        boxes=boxes[boxes["Image Index"].isin(films)].reset_index(drop=True),
        manual=manual[manual["Image Index"].isin(films)].reset_index(drop=True),
        source=source,
    )


def take_patients(chest: ChestFolder, films: int, seed: int = 0) -> ChestFolder:
    """Keep about `films` films of each split, always all films of a patient, drawn by patient.

    In the test split the films that radiologists have read come first.
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
    """Read one film and bring it to `size` × `size` pixels by area averaging.

    Returns
    -------
    ndarray of uint8, (size, size)
        0 black (most dose) to 255 white.

    Raises
    ------
    DataError
        When the file is missing, cut off, no 8-bit PNG, or coloured.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: the film is not on disk. Get it again, or take its row out of {TABLE_FILE}.") from None
    if not content.startswith(b"\x89PNG"):
        raise DataError(f"{path}: not a PNG file. Convert the film to 8-bit grey PNG.")
    if not content.endswith(_PNG_END):
        raise DataError(f"{path}: the PNG is cut off ({len(content):,} bytes). Copy or download it again.")
    film = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if film is None:
        raise DataError(f"{path}: the PNG is damaged and cannot be decoded. Copy or download it again.")
    if film.dtype != np.uint8:
        raise DataError(
            f"{path}: the PNG has 16 bits a pixel, and nothing says which of its grey levels are black and white. "
            "Convert it to 8 bits with the window you want."
        )
    if film.ndim == 3:  # some hundred films of the archive are grey pictures stored as RGBA
        colours = film[..., :3]
        if (colours != colours[..., :1]).any():
            raise DataError(f"{path}: a colour picture, not a film. Convert it to 8-bit grey, or leave it out.")
        film = colours[..., 0]
    if film.shape != (size, size):
        film = cv2.resize(film, (size, size), interpolation=cv2.INTER_AREA)
    return film


def load_films(
    chest: ChestFolder, size: int, table: pd.DataFrame | None = None, *, skip_broken: bool = True, progress: bool = True
) -> tuple[np.ndarray, pd.DataFrame]:
    """Read all films of a table into memory.

    Parameters
    ----------
    chest : ChestFolder
        Where the films are.
    size : int
        Side of a film in pixels; `size`² bytes of memory are needed a film.
    table : DataFrame, optional
        Rows to read; all of `chest.table` by default.
    skip_broken : bool
        Name the films that cannot be read in a warning and leave them out; otherwise the first one raises.

    Returns
    -------
    films : ndarray of uint8, (films, size, size)
    table : DataFrame
        The row of each film, in the same order, numbered from 0.

    Raises
    ------
    DataError
        When a film is broken and `skip_broken` is false, or when no film could be read.
    """
    table = chest.table if table is None else table
    films = np.zeros((len(table), size, size), np.uint8)
    problems: dict[int, str] = {}

    def read(row: int, name: str) -> None:
        try:
            films[row] = read_film(chest.folder / "images" / name, size)
        except DataError as error:
            if not skip_broken:
                raise
            problems[row] = str(error)

    with ThreadPoolExecutor() as pool:
        names = list(table["Image Index"])
        bar = tqdm(total=len(names), desc="reading films", unit="film", disable=not progress)
        for _ in pool.map(read, range(len(names)), names):
            bar.update()
        bar.close()
    if problems:
        if len(problems) == len(table):
            raise DataError(f"None of the {len(table)} films could be read. The first: {next(iter(problems.values()))}")
        listed = "\n".join(problems[row] for row in sorted(problems)[:5])
        warnings.warn(f"{len(problems)} broken films are left out:\n{listed}", stacklevel=2)
    whole = np.array([row not in problems for row in range(len(table))], bool)
    return (films if whole.all() else films[whole]), table[whole].reset_index(drop=True)


def _read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file that must hold `columns`."""
    if not path.exists():
        raise DataError(f"{path}: the file is missing. A folder in the NIH format needs it.")
    try:
        # index_col: some published versions end their rows, but not the header, with a comma
        frame = pd.read_csv(path, index_col=False).rename(columns=_OTHER_NAMES)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable CSV table ({error}). Get the file again.") from error
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: the table has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, frame.columns))}. "
            "Use the file as the archive publishes it."
        )
    return frame


def _read_table(path: Path) -> pd.DataFrame:
    table = _read_csv(path, TABLE_COLUMNS)[list(TABLE_COLUMNS)]
    twice = table["Image Index"].duplicated()
    if twice.any():
        raise DataError(f"{path}: film {table.loc[twice, 'Image Index'].iloc[0]} has two rows. Keep one of them.")
    empty = table[list(TABLE_COLUMNS)].isna().any()
    if empty["Finding Labels"] or empty["Patient ID"]:
        raise DataError(f"{path}: a row without a label or a patient. Use the file as the archive publishes it.")
    labels = table["Finding Labels"].str.get_dummies("|")
    unknown = sorted(set(labels.columns) - set(FINDINGS) - {"No Finding"})
    if unknown:
        raise DataError(f"{path}: unknown finding {unknown[0]!r} in 'Finding Labels'. The 14 names are {', '.join(FINDINGS)}.")
    labels = labels.reindex(columns=list(FINDINGS), fill_value=0).astype("int8")
    return pd.concat([table, labels], axis=1)


def _keep_films_on_disk(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    if not (folder / "images").is_dir():
        raise DataError(f"{folder / 'images'}: the folder of films is missing. Put the PNG files there.")
    on_disk = {path.name for path in (folder / "images").glob("*.png")}
    if not on_disk:
        raise DataError(f"{folder / 'images'}: no PNG file in the folder. Put the films there.")
    named = set(table["Image Index"])
    _warn_left_out(folder, sorted(named - on_disk), f"is in {TABLE_FILE} but not in images/")
    _warn_left_out(folder, sorted(on_disk - named), f"is in images/ but not in {TABLE_FILE}")
    return table[table["Image Index"].isin(on_disk)].reset_index(drop=True)


def _warn_left_out(folder: Path, names: Sequence[str], what: str) -> None:
    names = list(names)
    if names:
        count = "1 film is" if len(names) == 1 else f"{len(names):,} films are"
        warnings.warn(f"{folder}: {count} left out: {names[0]} {what}", stacklevel=4)


def _read_splits(folder: Path, films: pd.Series) -> pd.Series:
    split = pd.Series(pd.NA, index=films.index, dtype="string")
    for name, file in SPLIT_FILES.items():
        path = folder / file
        if not path.exists():
            raise DataError(f"{path}: the split list is missing. The archive publishes it beside the films.")
        split = split.mask(films.isin(set(path.read_text().split())), name)
    return split


def _read_boxes(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=list(BOX_COLUMNS))
    # The archive's header splits "Bbox [x,y,w,h]" at its commas, so that columns are taken by position.
    boxes = _read_csv(path, ("Image Index", "Finding Label")).iloc[:, :6].set_axis(list(BOX_COLUMNS), axis=1)
    boxes["Finding"] = boxes["Finding"].replace(_BOX_NAMES)
    boxes[["x", "y", "w", "h"]] = boxes[["x", "y", "w", "h"]].astype(float) / BOX_REFERENCE_SIZE
    return boxes


def _read_manual(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=["Image Index", *FINDINGS])
    columns = {name.replace("_", " "): name for name in FINDINGS}
    manual = _read_csv(path, ("Image ID", *columns)).rename(columns={"Image ID": "Image Index", **columns})
    answers = manual[list(FINDINGS)]
    if not answers.isin(["YES", "NO"]).all(axis=None):
        raise DataError(f"{path}: an answer other than YES or NO. Use the file as it is published.")
    return pd.concat([manual[["Image Index"]], (answers == "YES").astype("int8")], axis=1)
