"""Reader and writer of prediction tables: the labels of films and what a model said about them.

The format is described in ``data/predictions/README.md``: a folder with ``train.csv`` (optional), ``valid.csv`` and
``test.csv``, or with one CSV file that is then split at random.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data.errors import DataError
from data.nih import FINDINGS
from data.storage import atomic_file

ABOUT = ("Image Index", "Patient ID", "Patient Age", "Patient Gender", "View Position")


@dataclass(frozen=True)
class PredictionTable:
    """Films of one split.

    Attributes
    ----------
    about : DataFrame, n rows
        Those of the columns `ABOUT` that the file has; "Patient ID" (str) always.
    y : array of int, shape (n, 14)
        Labels, 0 or 1, in the order of `FINDINGS`.
    p : array of float64, shape (n, 14)
        Predicted probabilities.
    mined : array of int, shape (n, 14), or None
        Text-mined labels, where `y` is a manual reading and the file has both.
    """

    about: pd.DataFrame
    y: np.ndarray
    p: np.ndarray
    mined: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def patients(self) -> np.ndarray:
        """Patient of each film, shape (n,)."""
        return self.about["Patient ID"].to_numpy()

    def take(self, rows: np.ndarray) -> "PredictionTable":
        """The films of `rows` (indices or booleans)."""
        mined = None if self.mined is None else self.mined[rows]
        return PredictionTable(self.about[rows] if rows.dtype == bool else self.about.iloc[rows], self.y[rows], self.p[rows], mined)


@dataclass(frozen=True)
class Predictions:
    """Prediction tables of one model: `train` (or None), `valid`, `test`; where they are from; what a reader must know."""

    train: PredictionTable | None
    valid: PredictionTable
    test: PredictionTable
    source: str
    notes: tuple[str, ...]


def read_predictions(folder: str | Path | None = None, seed: int = 0) -> Predictions:
    """Read a folder of prediction tables.

    Parameters
    ----------
    folder : path, optional
        Folder in the format of ``data/predictions/README.md``; None means that folder itself (simulated patients).
    seed : int
        Of the random split, where the folder holds one table only.

    Raises
    ------
    DataError
        When a file is missing, empty or unreadable, a column is missing, a label is not 0 or 1, a probability is
        missing or outside [0, 1], a film is listed twice, or a patient is in two of the tables.
    """
    folder = Path(folder) if folder is not None else Path(__file__).parent / "predictions"
    if not folder.is_dir():
        raise DataError(
            f"{folder}: there is no such folder. DATA_DIR must name a folder with valid.csv and test.csv, or with one CSV."
        )
    files = sorted(path for path in folder.glob("*.csv") if not path.name.startswith("."))
    notes: list[str] = []
    if {"valid.csv", "test.csv"} <= {path.name for path in files}:
        tables = {
            name: read_table(folder / f"{name}.csv", notes)
            for name in ("train", "valid", "test")
            if (folder / f"{name}.csv").exists()
        }
        _refuse_shared_patients(folder, tables)
    elif len(files) == 1 and files[0].stem not in ("train", "valid", "test"):
        tables = _split_in_half(read_table(files[0], notes), seed)
        notes.append(
            f"{files[0].name} is one table: its patients were split at random (seed {seed}) into a validation and a test half."
        )
    else:
        found = ", ".join(path.name for path in files) or "no CSV file"
        raise DataError(
            f"{folder}: holds {found}. Needed are valid.csv and test.csv (and train.csv, if any), or exactly one other CSV."
        )
    for name, table in tables.items():
        for kind, empty in (("positive", table.y.sum(axis=0) == 0), ("negative", table.y.min(axis=0, initial=1) == 1)):
            if empty.any():
                these = ", ".join(np.array(FINDINGS)[empty])
                notes.append(f"{name}: no {kind} film of {these}; rates that need one are nan.")
    source = "simulated" if (folder / "SIMULATED.json").exists() else f"real patients: {folder.resolve().name}"
    return Predictions(tables.get("train"), tables["valid"], tables["test"], source, tuple(dict.fromkeys(notes)))


def write_predictions(folder: str | Path, tables: dict[str, PredictionTable], simulated: bool) -> Path:
    """Write tables, by split name, in the format that `read_predictions` reads; probabilities get five decimals."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SIMULATED.json").unlink(missing_ok=True)
    if simulated:
        with atomic_file(folder / "SIMULATED.json") as path:
            path.write_text(json.dumps({"simulated": True, "what": "predictions of a model for simulated films"}) + "\n")
    for name, table in tables.items():
        blocks = [table.about[[column for column in ABOUT if column in table.about]].reset_index(drop=True)]
        blocks += [pd.DataFrame(np.asarray(table.y).astype(int), columns=list(FINDINGS))]
        blocks += [pd.DataFrame(np.asarray(table.p, dtype=float), columns=[f"{f}_pred" for f in FINDINGS]).round(5)]
        if table.mined is not None:
            blocks += [pd.DataFrame(np.asarray(table.mined).astype(int), columns=[f"{f}_mined" for f in FINDINGS])]
        with atomic_file(folder / f"{name}.csv") as path:
            pd.concat(blocks, axis=1).to_csv(path, index=False)
    return folder


def read_table(path: Path, notes: list[str] | None = None) -> PredictionTable:
    """Read and check one CSV file; what a reader of the results must know is appended to `notes`."""
    notes = [] if notes is None else notes
    try:
        frame = pd.read_csv(path, dtype={"Patient ID": str, "Image Index": str})
    except pd.errors.EmptyDataError:
        frame = pd.DataFrame()
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is not a readable CSV file ({error}). Write it again.") from error
    if frame.empty:
        raise DataError(f"{path}: the file is empty. Write the predictions again, for example with notebook 01.")
    _need_columns(path, frame)

    y = _checked(path, frame, FINDINGS, "a label", lambda values: np.isin(values, (0, 1)), "must be 0 or 1").astype(int)
    p = _checked(
        path,
        frame,
        [f"{f}_pred" for f in FINDINGS],
        "a probability",
        lambda v: (v >= 0) & (v <= 1),
        "must lie between 0 and 1 (are these logits? then apply the sigmoid first)",
    )
    mined_columns = [f"{f}_mined" for f in FINDINGS]
    mined = None
    if any(column in frame for column in mined_columns):
        missing = [column for column in mined_columns if column not in frame]
        if missing:
            raise DataError(f"{path}: column {missing[0]} is missing. Text-mined labels are given for all 14 findings or for none.")
        mined = _checked(path, frame, mined_columns, "a label", lambda values: np.isin(values, (0, 1)), "must be 0 or 1").astype(
            int
        )

    about = frame[[column for column in ABOUT if column in frame]].copy()
    if "Image Index" in about and about["Image Index"].duplicated().any():
        twice = about.loc[about["Image Index"].duplicated(), "Image Index"].iloc[0]
        raise DataError(f"{path}: film {twice} is listed twice. Keep one row per film.")
    if "Patient ID" not in about:
        about["Patient ID"] = [f"row {row}" for row in range(len(about))]
        notes.append(
            f"{path.name} has no column Patient ID: every film counts as a patient of its own, so intervals may be too narrow."
        )
    elif about["Patient ID"].isna().any():
        raise DataError(
            f"{path}: Patient ID is missing in line {_line(about['Patient ID'].isna())}. Without it films cannot be kept together."
        )
    absent = [column for column in ABOUT[2:] if column not in about]
    if absent:
        notes.append(f"{path.name} has no column {', '.join(absent)}: what needs it is left out.")
    return PredictionTable(about, y, p, mined)


def _need_columns(path: Path, frame: pd.DataFrame) -> None:
    for finding in FINDINGS:
        for column, other in ((finding, f"{finding}_pred"), (f"{finding}_pred", finding)):
            if column not in frame:
                why = f"although {other} is there" if other in frame else f"and so is {other}"
                raise DataError(
                    f"{path}: column {column} is missing, {why}. Each of the 14 findings needs a label F and a probability F_pred."
                )


def _checked(path, frame, columns, what, allowed, rule) -> np.ndarray:
    values = frame[list(columns)].apply(pd.to_numeric, errors="coerce")
    for bad, text in ((values.isna(), "is missing or is not a number"), (~allowed(values.to_numpy(dtype=float)), rule)):
        bad = np.asarray(bad)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            found = frame[columns[column]].iloc[row]
            raise DataError(
                f"{path}: {what} {text}: {columns[column]} in line {row + 2} is {found!s}. Correct it or remove the row."
            )
    return values.to_numpy(dtype=float)


def _line(bad: pd.Series) -> int:
    return int(np.flatnonzero(bad)[0]) + 2  # counted as an editor does, after the header


def _refuse_shared_patients(folder: Path, tables: dict[str, PredictionTable]) -> None:
    known = {name: set(table.patients) for name, table in tables.items() if not table.patients[0].startswith("row ")}
    names = list(known)
    for first, second in ((a, b) for k, a in enumerate(names) for b in names[k + 1 :]):
        shared = known[first] & known[second]
        if shared:
            raise DataError(
                f"{folder}: patient {sorted(shared)[0]} is in {first}.csv and in {second}.csv ({len(shared)} patients in both). "
                "Results would be too good. Split by patient and write the tables again."
            )


def _split_in_half(table: PredictionTable, seed: int) -> dict[str, PredictionTable]:
    patients = np.unique(table.patients)
    chosen = np.random.default_rng(seed).permutation(patients)[: len(patients) // 2]
    in_valid = np.isin(table.patients, chosen)
    return {"valid": table.take(in_valid), "test": table.take(~in_valid)}
