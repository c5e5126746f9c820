"""The tables and lists of NIH ChestX-ray14, in the spellings of its editions and of the programs that they went through."""

import re
import warnings
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np
import pandas as pd

from data.errors import DataError
from data.findings import FINDINGS
from data.instead import dangling
from data.patient_columns import COLUMN_NAMES, film_key, patient_in_name, patient_of, said_twice, understand
from data.png import png_size
from data.tables import YES_OR_NO, key_of, numbers, read_table, read_text

TABLE_FILE = "Data_Entry_2017_v2020.csv"
BOX_FILE = "BBox_List_2017.csv"
MANUAL_FILE = "radiologist_labels.csv"
SPLIT_FILES = {"train_val": "train_val_list.txt", "test": "test_list.txt"}
SIMULATED_FILE = "SIMULATED.json"

TABLE_COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position")
BOX_COLUMNS = ("Image Index", "Finding", "x", "y", "w", "h")
BOX_REFERENCE_SIZE = 1024
"""The boxes of the archive are given in pixels of its 1024 × 1024 X-rays."""

FINDING_NAMES = {key_of(name): name for name in FINDINGS} | {
    "infiltrate": "Infiltration",  # so the archive's own box list
    "infiltrates": "Infiltration",
    "pleuralthickening": "Pleural_Thickening",
    "pleuralthickenings": "Pleural_Thickening",
    "pleural": "Pleural_Thickening",  # so MedMNIST
    "pleuraleffusion": "Effusion",
    "nofinding": "No Finding",
    "nofindings": "No Finding",
}
"""Spellings of the findings, as `data.tables.key_of` makes them."""

_PLAIN_NAME = re.compile(r"[\s'\"\[(•*]*\w+([\s.-]*\w+)*[\s'\"\])*.]*")  # no sign before or behind; a list's brackets may be


def labels_of(text: str) -> list[str]:
    """Findings of a cell such as ``Mass|Pleural Thickening`` in the archive's spelling; nothing for ``No Finding``.

    Raises
    ------
    ValueError
        When a finding is unknown, uncertain or negated, or "No Finding" is beside one.
    """
    if "?" in text:
        raise ValueError(f"{text!r} is uncertain. Decide whether it is a finding, or take the row out")
    if key_of(text) in ("nodulemass", "massnodule") and "/" in text:
        raise ValueError(f"{text!r} may be one class (a nodule or a mass, as in VinDr-CXR) or both. Write Nodule|Mass for both")
    names = [part.strip() for part in re.split(r"[|;,/]", text) if part.strip()]
    unknown = [name for name in names if key_of(name) not in FINDING_NAMES]
    if unknown:
        raise ValueError(f"unknown finding {unknown[0]!r}. The 14 names are {', '.join(FINDINGS)}, and 'No Finding'")
    signed = [name for name in names if not _PLAIN_NAME.fullmatch(name)]
    if signed:
        raise ValueError(f"{signed[0]!r} has a sign that may mean that it is absent. Write only what was found, without signs")
    found = {FINDING_NAMES[key_of(name)] for name in names}
    if "No Finding" in found and len(found) > 1:
        raise ValueError(f"{text!r} says that nothing was found and that something was. Decide which")
    return sorted(found - {"No Finding"}, key=FINDINGS.index)


def warn(text: str) -> None:
    """Say something about the data, as a warning of whoever called the reader."""
    warnings.warn(text, stacklevel=4)


def warn_left_out(folder: Path, names: Sequence[str], what: str) -> None:
    """Say how many X-rays are left out, if any, which is the first, and why."""
    names = list(names)
    if names:
        count = "1 X-ray is" if len(names) == 1 else f"{len(names):,} X-rays are"
        warn(f"{folder}: {count} left out: {names[0]} {what}")


def beside(folder: Path, name: str) -> Path:
    """A file of this name, whatever the case of its letters."""
    if (folder / name).exists():
        return folder / name
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() == name.lower()), folder / name)


def optional_file(folder: Path, name: str) -> Path:
    """A file that may be there, also as a browser or an edition calls it: ``BBox_List_2017 (1).csv``; what is not read is said."""
    path, start = beside(folder, name), re.split(r"[_.]20|\.", name)[0].lower()
    if what := dangling(path):
        raise DataError(f"{path}: the file is missing{what}")
    others = [] if path.exists() else sorted(other for other in folder.iterdir() if other.name.lower().startswith(start))
    tables = [other for other in others if other.suffix.lower() in (".csv", ".tsv", ".txt")]
    if len(tables) == 1:
        return tables[0]
    if others:
        warn(f"{folder}: {' and '.join(other.name for other in others)} not read. Wanted is one table, {name}.")
    return path


def warn_of_none(path: Path, films: pd.Series, known: pd.Series) -> None:
    """Say that nothing of a table is about any X-ray that is read."""
    if len(films) and not films.isin(set(known)).any():
        warn(f"{path}: no row is about an X-ray that is read here; the first names {films.iloc[0]}. The table is not used.")


def find_table(folder: Path) -> Path:
    """The label table: that of 2020 where there are two, because it corrects that of 2017."""
    found = sorted(path for path in folder.iterdir() if re.fullmatch(r"data_entry_2017.*\.csv", path.name, re.IGNORECASE))
    exact = [path for path in found if path.name.lower() == TABLE_FILE.lower()] or found
    if not found:
        nested = next(
            (path for place in ("*/", "*/*/") for path in sorted(folder.glob(f"{place}[Dd]ata_[Ee]ntry_2017*.csv"))), None
        )
        others = [path.name for path in sorted(folder.glob("*.csv")) if path.name not in (BOX_FILE, MANUAL_FILE)]
        packed = [path.name for path in sorted(folder.iterdir()) if re.search(r"\.(xlsx?|ods|csv\.gz|zip|npz)$", path.name, re.I)]
        hint = f" It is in {nested.parent}: name that folder." if nested else " A folder in the NIH format needs it."
        if others and not nested:
            hint += f" If {others[0]} is the archive's table, or a part of it, give it that name."
        elif packed and not nested:
            npz = packed[0].lower().endswith(".npz")
            hint += f" {packed[0]} is not read here: " + (
                "`python -m data.download chestmnist` makes a folder of it." if npz else "unpack it, or export the table as CSV."
            )
        raise DataError(f"{folder / TABLE_FILE}: the file is missing (or Data_Entry_2017.csv of the older edition).{hint}")
    if len(exact) > 1:
        raise DataError(f"{folder}: holds {' and '.join(path.name for path in exact)}. Keep the table that belongs to the X-rays.")
    if len(found) > 1:
        warn(f"{folder}: of {', '.join(path.name for path in found)} the corrected edition is used, {exact[0].name}.")
    return exact[0]


def read_labels(path: Path) -> pd.DataFrame:
    """One row an X-ray: `TABLE_COLUMNS`, understood, and one 0/1 column for each of `FINDINGS`; lateral views are left out."""
    table = read_table(path, TABLE_COLUMNS, names=COLUMN_NAMES)[list(TABLE_COLUMNS)]
    for column in ("Image Index", "Finding Labels", "Patient ID"):
        empty = table[column].map(patient_of) == ""
        if empty.any():
            raise DataError(
                f"{path}: line {_line(empty)} is a row without a label or a patient: its {column} is empty or unknown. "
                "Use the file as the archive publishes it."
            )
    same = table.duplicated()
    if same.any():
        warn(f"{path}: {same.sum():,} rows are there twice, the first in line {_line(same)}; each was read once.")
        table = table[~same]
    keys = table["Image Index"].map(film_key)
    twice = keys.duplicated()
    if twice.any():
        raise DataError(f"{path}: {said_twice(table['Image Index'], twice)}")
    labels = np.zeros((len(table), len(FINDINGS)), np.int8)
    place, distinct = pd.factorize(table["Finding Labels"])
    columns = []
    for number, text in enumerate(distinct):
        try:
            columns.append([FINDINGS.index(name) for name in labels_of(text)])
        except ValueError as error:
            raise DataError(f"{path}: line {table.index[int((place == number).argmax())]}, 'Finding Labels': {error}.") from None
    for row, number in enumerate(place):
        labels[row, columns[number]] = 1
    table = understand(table, path, warn)
    lateral = table["View Position"] == "lateral"
    if lateral.any():
        names = table["Image Index"][lateral]
        warn_left_out(path.parent, names, f"is a lateral view (line {_line(lateral)}); the course is about frontal ones")
    if table["Patient ID"].str.fullmatch(r"\d{1,18}").all():
        table["Patient ID"] = table["Patient ID"].astype("int64")
    table = pd.concat([table, pd.DataFrame(labels, table.index, list(FINDINGS))], axis=1)
    return table[~lateral].reset_index(drop=True)


def _line(rows: pd.Series) -> int:
    """Line in the file of the first row that is marked."""
    return int(rows.index[int(rows.to_numpy().argmax())])


def read_splits(folder: Path, films: pd.Series) -> pd.Series:
    """The split of each X-ray, "train_val" or "test", by the two lists; NA where it is in neither."""
    keys, listed = films.map(film_key), {}
    known = set(keys)
    for name, file in SPLIT_FILES.items():
        path = beside(folder, file)
        if not path.exists():
            others = sorted(folder.glob(f"{Path(file).stem}*.txt"))  # the archive has also called them train_val_list_NIH.txt
            if len(others) != 1:
                raise DataError(f"{path}: the split list is missing. The archive publishes it beside the films.")
            path = others[0]
        words = _words(read_text(path), known)
        listed[name] = {film_key(word): number for number, word in words}
        if not listed[name].keys() & known and not any(patient_in_name(word) for _, word in words):
            number, word = (words or [(1, "")])[0]
            raise DataError(
                f"{path}: names none of the X-rays; line {number} begins with {word[:60]!r}. Wanted is the file name of an X-ray "
                "on each line, as in the table."
            )
    for name, part in listed.items():
        if len(films) and not part.keys() & known:
            warn(f"{folder}: no X-ray of {SPLIT_FILES[name]} is here, so the {name} split is empty.")
    both = [film for film, key in zip(films, keys) if all(key in part for part in listed.values())]
    if both:
        lines = " and ".join(f"line {listed[name][film_key(both[0])]} of {file}" for name, file in SPLIT_FILES.items())
        raise DataError(
            f"{folder}: {len(both)} X-rays are in both split lists, first {both[0]} ({lines}). An X-ray that trains cannot test: "
            "delete it from one of them."
        )
    split = pd.Series(pd.NA, index=films.index, dtype="string")
    for name, part in listed.items():
        split = split.mask(keys.isin(part.keys()), name)
    return split


def _words(text: str, keys: Set[str]) -> list[tuple[int, str]]:
    """Entries of a list with the line each is in: one a line, or separated by spaces, commas or semicolons, if no name has some."""
    words = (
        (number, word.strip("\"'[]"))
        for number, line in enumerate(text.splitlines(), 1)
        for word in ([line] if film_key(line) in keys else re.split(r"[\s,;]+", line))
    )
    return [(number, word) for number, word in words if word]


def read_boxes(path: Path, files: Mapping[str, Path]) -> pd.DataFrame:
    """Boxes as fractions of the X-ray; none where there is no file. `files` holds the X-rays that are on disk."""
    if not path.exists():
        return pd.DataFrame(columns=list(BOX_COLUMNS))
    names = COLUMN_NAMES | {
        "findinglabel": "Finding Label",
        "bboxx": "x",
        "bboxy": "y",
        "width": "w",
        "height": "h",
        "bboxxywh": "box",
    }
    boxes = read_table(path, ("Image Index", "Finding Label"), ("x", "y", "w", "h", "box"), names)
    sides = boxes.get(["x", "y", "w", "h"]) if {"x", "y", "w", "h"} <= set(boxes) else None
    if sides is None:
        if "box" not in boxes:
            raise DataError(
                f"{path}: a box is x, y, w, h (left, top, width, height), or all four in one column 'Bbox [x,y,w,h]'; the table "
                f"has {', '.join(map(repr, boxes.columns))}."
            )
        packed = boxes["box"].str.strip("[]() ").str.split(r"[\s,;|]+", regex=True)
        wrong = packed.map(len) != 4
        if wrong.any():
            raise DataError(
                f"{path}: the box in line {_line(wrong)} is {boxes['box'][wrong].iloc[0]!r}, not four numbers x, y, w, h."
            )
        sides = pd.DataFrame(packed.to_list(), boxes.index, ["x", "y", "w", "h"])
    grouped = sides.map(re.compile(r"\d{1,3}(,\d{3})+").fullmatch).notna()
    if grouped.any(axis=None):
        line = _line(grouped.any(axis=1))
        raise DataError(
            f"{path}: the box in line {line} is {', '.join(sides.loc[line])}: are there commas between thousands? Remove them."
        )
    sides = pd.DataFrame(numbers(sides), boxes.index, ["x", "y", "w", "h"])
    bad = ~(np.isfinite(sides).all(axis=1) & (sides["w"] > 0) & (sides["h"] > 0) & (sides["x"] >= -1) & (sides["y"] >= -1))
    if bad.any():
        raise DataError(
            f"{path}: the box in line {_line(bad)} is no box: x, y, w, h are {', '.join(map(str, sides[bad].iloc[0]))}."
        )
    ends = pd.concat([sides["x"] + sides["w"], sides["y"] + sides["h"]], axis=1).max(axis=1)
    outside = ends > BOX_REFERENCE_SIZE + 1
    if outside.any():
        raise DataError(
            f"{path}: the box in line {_line(outside)} ends at {ends[outside].iloc[0]:g}, outside of the archive's 1024 × 1024 "
            "pixels, in which boxes are given. If they are in pixels of the original, multiply x and w by 1024 / width and y and h "
            "by 1024 / height (columns OriginalImage of the table). If w and h are the right and lower ends, subtract x and y."
        )
    unit = BOX_REFERENCE_SIZE
    if len(sides) > 1 and ((sides["w"] > sides["x"]) & (sides["h"] > sides["y"])).all():
        warn(
            f"{path}: every box is wider than its distance from the left and higher than that from the top. If w and h are the "
            "right and lower ends, subtract x and y."
        )
    if len(ends) and ends.max() <= 1.001:
        unit = 1
        warn(f"{path}: no box ends beyond 1, so they were read as fractions of the X-ray, not as pixels.")
    findings = boxes["Finding Label"].map(lambda name: FINDING_NAMES.get(key_of(name), ""))
    unknown = findings == ""
    if unknown.any():
        raise DataError(f"{path}: unknown finding {boxes['Finding Label'][unknown].iloc[0]!r} in line {_line(unknown)}.")
    by_key = {film_key(name): name for name in files}
    films = boxes["Image Index"].map(lambda name: by_key.get(film_key(name), name))
    result = pd.concat([films, findings.rename("Finding"), sides / unit], axis=1).drop_duplicates()
    sizes = {name: png_size(files[name]) for name in set(result["Image Index"]) & files.keys()}
    stretched = sorted(name for name, size in sizes.items() if size and size[0] != size[1])
    if stretched:
        width, height = sizes[stretched[0]]
        warn(
            f"{path}: boxes are in pixels of the archive's square X-rays, but {stretched[0]} has {width} × {height} pixels: the "
            f"boxes of {len(stretched)} such X-rays are left out."
        )
        result = result[~result["Image Index"].isin(stretched)]
    widest = max((size[0] for size in sizes.values() if size), default=0)
    if unit > 1 and len(ends) and (limit := next((end for end in (100, widest) if ends.max() <= end < unit), None)):
        unit_name = "per cent" if limit == 100 else f"pixels of X-rays of {widest}"
        warn(
            f"{path}: no box ends beyond {ends.max():g} of the archive's 1024 pixels. If boxes are given in {unit_name}, multiply "
            f"them by 1024 / {limit}."
        )
    return result.reset_index(drop=True)


def read_manual(path: Path, files: Mapping[str, Path]) -> pd.DataFrame:
    """The radiologists' majority reading, 0/1; none where there is no file."""
    if not path.exists():
        return pd.DataFrame(columns=["Image Index", *FINDINGS])
    names = {name: FINDING_NAMES[name] for name in FINDING_NAMES if FINDING_NAMES[name] in FINDINGS}
    manual = read_table(path, ("Image Index", *FINDINGS), names=COLUMN_NAMES | names)
    answers = numbers(manual[list(FINDINGS)], YES_OR_NO)
    wrong = ~np.isin(answers, (0, 1))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        found = manual[FINDINGS[column]].iloc[row]
        raise DataError(
            f"{path}: an answer other than YES or NO: {FINDINGS[column]} in line {manual.index[row]} is {found!r}. Use the file "
            "as published."
        )
    keys = manual["Image Index"].map(film_key)
    if keys.duplicated().any():
        again = keys.duplicated()
        raise DataError(
            f"{path}: {manual['Image Index'][again].iloc[0]} is there again in line {_line(again)}. Wanted is one row an X-ray: "
            "the majority, where several readers have answered."
        )
    by_key = {film_key(name): name for name in files}
    films = [by_key.get(key, name) for key, name in zip(keys, manual["Image Index"])]
    return pd.DataFrame({"Image Index": films} | dict(zip(FINDINGS, answers.astype("int8").T)))
