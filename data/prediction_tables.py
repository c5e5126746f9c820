"""Reader and writer of prediction tables: the labels of X-rays and what a model said about them.

The format is described in ``data/predictions/README.md``: a folder with ``train.csv`` (optional), ``valid.csv`` and
``test.csv``, or with one CSV file that is then split at random.
"""

import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from data.errors import DataError
from data.instead import say_in_cloud
from data.nih_tables import FINDING_NAMES, FINDINGS
from data.patient_columns import COLUMN_NAMES, film_key, patient_in_name, said_twice, understand
from data.storage import atomic_file, existing_folder
from data.tables import YES_OR_NO, key_of, numbers, other_archive
from data.tables import read_table as read_text_table

ABOUT = ("Image Index", "Patient ID", "Patient Age", "Patient Gender", "View Position")


@dataclass(frozen=True)
class PredictionTable:
    """X-rays of one split.

    Attributes
    ----------
    about : DataFrame, n rows
        Those of the columns `ABOUT` that the file has; "Patient ID" (str) always.
    y : array of int, shape (n, 14)
        Labels, 0 or 1, in the order of `FINDINGS`.
    p : array of float64, shape (n, 14)
        Predicted probabilities.
    mined : array of int, shape (n, 14), or None
        Report-derived labels, where `y` is a manual reading and the file has both.
    """

    about: pd.DataFrame
    y: np.ndarray
    p: np.ndarray
    mined: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def patients(self) -> np.ndarray:
        """Patient of each X-ray, shape (n,)."""
        return self.about["Patient ID"].to_numpy()

    def take(self, rows: np.ndarray) -> "PredictionTable":
        """The X-rays of `rows` (indices or booleans)."""
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
        missing or outside [0, 1], an X-ray is listed twice, or a patient is in two of the tables.
    """
    folder = existing_folder(
        Path(__file__).parent / "predictions" if folder is None else folder,
        "DATA_DIR must name a folder with valid.csv and test.csv, or with one CSV.",
    )
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv" and not path.name.startswith("."))
    named = {path.name.lower(): path for path in files}
    if len(named) < len(files):
        one, other = next((path, named[path.name.lower()]) for path in files if path is not named[path.name.lower()])
        raise DataError(f"{folder}: holds {one.name} and {other.name}. Keep the one that is meant.")
    if away := say_in_cloud(folder, (path.name for path in folder.iterdir())):
        raise DataError(f"{away} Download all of the folder, or copy it to this disk.")
    notes: list[str] = []
    if {"valid.csv", "test.csv"} <= named.keys():
        if unread := [path.name for path in files if path.stem.lower() not in ("train", "valid", "test")]:
            notes.append(f"not read, because of their names: {', '.join(unread)}. Is one of them meant? Put it in its place.")
        tables = {name: read_table(named[f"{name}.csv"], notes) for name in ("train", "valid", "test") if f"{name}.csv" in named}
        _refuse_shared(folder, tables, notes)
    elif len(files) == 1 and files[0].stem.lower() not in ("train", "valid", "test"):
        tables = _split_in_half(read_table(files[0], notes), seed, files[0])
        notes.append(
            f"{files[0].name} is one table: its patients were split at random (seed {seed}) into a validation and a test half."
        )
    else:
        others = ", ".join(p.name for p in sorted(folder.iterdir()) if p.name[:1] != "." and (p not in files or not files))
        found = ", ".join(path.name for path in files) or "no CSV file"
        found += f" ({'and' if files else 'but'} {others[:200]})" if others else ""
        raise DataError(
            f"{folder}: holds {found}. Needed are valid.csv and test.csv (and train.csv, if any), or exactly one other CSV."
        )
    for name, table in tables.items():
        if len(np.unique(table.patients)) == 1:
            notes.append(f"{name}: all X-rays are of one patient, so that no interval over patients can be given (nan).")
        for kind, empty in (("positive", table.y.sum(axis=0) == 0), ("negative", table.y.min(axis=0, initial=1) == 1)):
            if empty.any():
                these = ", ".join(np.array(FINDINGS)[empty])
                notes.append(f"{name}: no {kind} X-ray of {these}; rates that need one are nan.")
    source = "simulated" if (folder / "SIMULATED.json").exists() else f"real patients: {folder.resolve().name}"
    return Predictions(tables.get("train"), tables["valid"], tables["test"], source, tuple(dict.fromkeys(notes)))


def write_predictions(folder: str | Path, tables: dict[str, PredictionTable], simulated: bool) -> Path:
    """Write tables, by split name, in the format that `read_predictions` reads; probabilities get five decimals."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SIMULATED.json").unlink(missing_ok=True)
    if simulated:
        with atomic_file(folder / "SIMULATED.json") as path:
            path.write_text(json.dumps({"simulated": True, "what": "predictions of a model for simulated X-rays"}) + "\n")
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
    names = COLUMN_NAMES | {
        key + end: FINDING_NAMES[key] + under
        for key in FINDING_NAMES
        if FINDING_NAMES[key] in FINDINGS
        for end, under in _ENDINGS.items()
    }
    frame = read_text_table(path, (), (*ABOUT, *(f"{f}{end}" for f in FINDINGS for end in _ENDINGS.values())), names)
    if frame.empty:
        raise DataError(f"{path}: not one row under the header. Write the predictions again, for example with notebook 01.")
    _need_columns(path, frame)

    swapped = [numbers(frame[[f"{f}{end}" for f in FINDINGS]]) for end in ("_pred", "")]
    if np.isin(swapped[0], (0, 1)).all() and ((swapped[1] > 0) & (swapped[1] < 1)).any():
        raise DataError(
            f"{path}: all F_pred are 0 or 1, and the labels F lie between: were the two swapped? F is the label, F_pred the "
            "probability."
        )
    y = _labels(path, frame, FINDINGS)
    p = _probabilities(path, frame, notes)
    notes += _doubts(path, frame, y, p)
    mined_columns = [f"{f}_mined" for f in FINDINGS]
    mined = None
    if any(column in frame for column in mined_columns):
        missing = [column for column in mined_columns if column not in frame]
        if missing:
            raise DataError(
                f"{path}: column {missing[0]} is missing. Report-derived labels are given for all 14 findings or for none."
            )
        mined = _labels(path, frame, mined_columns)

    about = understand(frame[[column for column in ABOUT if column in frame]], path, notes.append)
    if "Image Index" in about:
        empty = about["Image Index"] == ""
        twice = about["Image Index"].map(film_key).duplicated() & ~empty
        if twice.any():
            raise DataError(f"{path}: {said_twice(about['Image Index'], twice)}")
    elif frame.duplicated().any():
        line = frame.index[int(frame.duplicated().to_numpy().argmax())]
        notes.append(
            f"{path.name}: {frame.duplicated().sum():,} rows repeat another one, first line {line}; all were kept. Copies of "
            "one X-ray?"
        )
    if "Patient ID" not in about:
        inside = about["Image Index"].map(patient_in_name) if "Image Index" in about else pd.Series([None])
        if inside.notna().all():
            about["Patient ID"] = inside
            notes.append(f"{path.name} has no column Patient ID: patients were taken from the names of the X-rays.")
        else:
            about["Patient ID"] = [f"row {row}" for row in range(len(about))]
            notes.append(
                f"{path.name} has no column Patient ID: every X-ray counts as a patient of its own, so intervals may be too narrow."
            )
    elif (about["Patient ID"] == "").any():
        line = about.index[int((about["Patient ID"] == "").to_numpy().argmax())]
        raise DataError(f"{path}: Patient ID is missing in line {line}. Without it X-rays cannot be kept together.")
    absent = [column for column in ABOUT[2:] if column not in about]
    if absent:
        notes.append(f"{path.name} has no column {', '.join(absent)}: what needs it is left out.")
    about.index = pd.RangeIndex(len(about))
    return PredictionTable(about, y, p, mined)


_ENDINGS = {"": "", "pred": "_pred", "mined": "_mined"}
_ROUNDING = 1e-6  # a probability of 32 bits may be so far outside of [0, 1]


def _need_columns(path: Path, frame: pd.DataFrame) -> None:
    for finding in FINDINGS:
        for column, other in ((finding, f"{finding}_pred"), (f"{finding}_pred", finding)):
            if column not in frame:
                why = f"although {other} is there" if other in frame else f"and so is {other}"
                raise DataError(
                    f"{path}: column {column} is missing, {why}. {other_archive(frame.columns)}Each of the 14 findings needs its "
                    f"label F and its probability F_pred; the table has {', '.join(map(str, frame.columns))[:200]}."
                )


def _refuse(path: Path, frame: pd.DataFrame, columns, bad: np.ndarray, what: str, text: str) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0]
        found = frame[columns[column]].iloc[row] or "empty"
        raise DataError(
            f"{path}: {what} {text}: {columns[column]} in line {frame.index[row]} is {found}. Correct it or remove the row."
        )


def _labels(path: Path, frame: pd.DataFrame, columns) -> np.ndarray:
    values = numbers(frame[list(columns)], YES_OR_NO)
    _refuse(path, frame, columns, np.isnan(values), "a label", "is missing or is not a number")
    text = "must be 0 or 1"
    if (values == -1).any() and np.isin(values, (-1, 0, 1)).all():
        text += (
            f" ({(values == -1).sum():,} labels are −1, CheXpert's sign for uncertain: decide whether that is 0, 1, or a row to "
            "leave out)"
        )
    _refuse(path, frame, columns, ~np.isin(values, (0, 1)), "a label", text)
    return values.astype(int)


def _probabilities(path: Path, frame: pd.DataFrame, notes: list[str]) -> np.ndarray:
    columns = [f"{f}_pred" for f in FINDINGS]
    values = numbers(frame[columns])
    _refuse(path, frame, columns, np.isnan(values), "a probability", "is missing or is not a number")
    outside = (values < -_ROUNDING) | (values > 1 + _ROUNDING)
    if outside.any():
        low, high = values.min(), values.max()
        cause = f"{outside.sum():,} of {outside.size:,} do not; they reach from {low:g} to {high:g}"
        if low < 0 and np.isfinite(values).all() and (values < 0).mean() > 0.01:
            cause += ". Logits? Then apply the sigmoid first"
        elif low >= 0 and 2 < high <= 100:
            cause += ". Per cent? Then divide by 100"
        _refuse(path, frame, columns, outside, "a probability", f"must lie between 0 and 1 ({cause})")
    rounded = (values < 0) | (values > 1)
    if rounded.any():
        notes.append(
            f"{path.name}: {rounded.sum():,} probabilities lie outside of [0, 1] by rounding (up to {values.max():.8g}); they "
            "were clipped."
        )
    return values.clip(0, 1)


def _doubts(path: Path, frame: pd.DataFrame, y: np.ndarray, p: np.ndarray) -> list[str]:
    """What a table may hold in place of probabilities of the labels beside them."""
    notes = []
    unused = [name for name in frame if key_of(str(name)).endswith("pred") and str(name).removesuffix("_pred") not in FINDINGS]
    if unused:
        notes.append(f"{path.name}: {', '.join(map(str, unused))} is not one of the 14 findings, and is not used.")
    if len(p) > 1 and np.isin(p, (0, 1)).all():
        notes.append(
            f"{path.name}: all predictions are 0 or 1: decisions, not probabilities. Curves and calibration need the latter."
        )
    else:
        for name, value, same in zip(FINDINGS, p[0], (p == p[0]).all(axis=0)):
            if same and len(p) > 1:
                notes.append(f"{path.name}: {name}_pred is {value:g} in every row, so that it tells nobody apart.")
        for one, other in combinations(range(len(FINDINGS)), 2):
            if len(p) > 9 and (p[:, one] == p[:, other]).all() and (p[:, one] != p[0, one]).any():
                notes.append(
                    f"{path.name}: {FINDINGS[other]}_pred is the same as {FINDINGS[one]}_pred in every row. Was a column copied?"
                )
    varied = [k for k in range(len(FINDINGS)) if 5 <= y[:, k].sum() <= len(y) - 5]
    if len(y) >= 100 and len(varied) >= 3 and (mean := np.mean([roc_auc_score(y[:, k], p[:, k]) for k in varied])) < 0.55:
        cause = "Is the sign reversed" if mean < 0.4 else "Are the rows of labels and predictions in one order"
        notes.append(f"{path.name}: the mean AUROC is {mean:.2f}, no better than chance. {cause}?")
    return notes


def _refuse_shared(folder: Path, tables: dict[str, PredictionTable], notes: list[str]) -> None:
    """No X-ray and no patient may be in two tables."""
    names = list(tables)
    for first, second in ((a, b) for k, a in enumerate(names) for b in names[k + 1 :]):
        one, two = tables[first], tables[second]
        if "Image Index" in one.about and "Image Index" in two.about:
            keys = [table.about["Image Index"].map(film_key) for table in (one, two)]
            shared = keys[0][(keys[0] != "") & keys[0].isin(set(keys[1]))]
            if len(shared):
                rows = [int((key == shared.iloc[0]).to_numpy().argmax()) + 1 for key in keys]
                raise DataError(
                    f"{folder}: X-ray {one.about['Image Index'].iloc[rows[0] - 1]} is in {first}.csv (row {rows[0]}) and in "
                    f"{second}.csv "
                    f"(row {rows[1]}); {len(shared)} X-rays are in both. Results would be too good. Split by patient and write "
                    "the tables again."
                )
        else:
            rows = [[tuple(row) for row in np.hstack([table.y, table.p]).tolist()] for table in (one, two)]
            same = set(rows[0]) & set(rows[1])
            if same and len(set(rows[1])) > len(two) / 2:  # predictions differ from row to row, so that equal ones are no accident
                notes.append(
                    f"{len(same):,} rows of {second}.csv have labels and predictions of {first}.csv to the last digit. The same "
                    "X-rays?"
                )
        shared = {patient.casefold() for patient in one.patients} & {patient.casefold() for patient in two.patients}
        shared = {patient for patient in shared if not patient.startswith("row ")}
        if shared:
            raise DataError(
                f"{folder}: patient {sorted(shared)[0]} is in {first}.csv and in {second}.csv ({len(shared)} patients in both). "
                "Results would be too good. Split by patient and write the tables again."
            )


def _split_in_half(table: PredictionTable, seed: int, path: Path) -> dict[str, PredictionTable]:
    patients = np.unique(table.patients)
    if len(patients) < 2:
        raise DataError(
            f"{path}: one table of one patient cannot be split into validation and test patients. Give valid.csv and test.csv, "
            "or more patients."
        )
    chosen = np.random.default_rng(seed).permutation(patients)[: len(patients) // 2]
    in_valid = np.isin(table.patients, chosen)
    return {"valid": table.take(in_valid), "test": table.take(~in_valid)}
