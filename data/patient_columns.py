"""What tables say about a patient and an X-ray, in the spellings of archives and programs: who, age, sex, view."""

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from data.errors import DataError

UNKNOWN = "unknown"
OLDEST = 120  # years: what is above is no age (the 2017 edition of the NIH table has 411)

COLUMN_NAMES = {
    **dict.fromkeys(("imageid", "image", "imagename", "imagefile", "filename"), "Image Index"),
    **dict.fromkeys(("patientnumber", "subjectid"), "Patient ID"),
    **dict.fromkeys(("age", "patientageyears", "ageyears"), "Patient Age"),
    **dict.fromkeys(("patientsex", "sex", "gender"), "Patient Gender"),
    **dict.fromkeys(("view", "projection"), "View Position"),
}
"""Other names of columns, as `data.tables.key_of` makes them."""

_UNITS = {"y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}
_AGE = re.compile(r"(\d+(?:[.,]\d+)?)\s*(y|m|w|d|years?|yrs?|yo|months?|mos?|weeks?|days?)?\.?(?: old)?", re.IGNORECASE)
_SEX = {"f": "F", "female": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}
_BLANK = frozenset({"", "unknown", "unk", "u", "o", "other", "x", "-", "?"})
_NOBODY = frozenset({"unknown", "unk", "anonymous", "anon", "-", "?"})
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_REWRITTEN = re.compile(  # what spreadsheets make of ids: 12345 as 1.23E+04 or 12,345, 2-1 as 02-Jan or 2021-01-02, =A1 as #REF!
    r"\d[.,]?\d*e[+-]\d+|\d{1,3}(?:[.,]\d{3})+|#(?:ref!|name\?|value!|div/0!|num!|null!|#+)"
    rf"|\d{{1,2}}-{_MONTH}(?:-\d{{2,4}})?|{_MONTH}-\d{{2,4}}|\d{{1,2}}([./])\d{{1,2}}\1\d{{2,4}}"
    r"|(?:19|20)\d\d-[01]\d-[0-3]\d(?:[ T]\d\d:\d\d(?::\d\d)?)?",
    re.IGNORECASE,
)
_NIH_NAME = re.compile(r"(\d{8})_\d{3}")


def patient_of(value: object) -> str:
    """The patient that a table names: ``13``, ``13.0`` and ``00000013`` are one, and their name is ``13``; "" for nobody."""
    text = unicodedata.normalize("NFC", str(value)).strip()
    if text.lower() in _NOBODY:
        return ""
    number = re.fullmatch(r"(\d+)(?:[.,]0{1,2})?", text)
    return str(int(number[1])) if number else text


def film_key(name: str) -> str:
    """What identifies an X-ray, however its file is written: ``images/00000013_005.PNG`` is ``00000013_005``."""
    name = unicodedata.normalize("NFC", str(name)).strip().replace("\\", "/").rstrip("/").rpartition("/")[2]  # macOS: ü in two
    return re.sub(r"(\.(png|jpe?g|dcm))+$", "", name, flags=re.IGNORECASE).lower()


def said_twice(films: pd.Series, twice: pd.Series) -> str:
    """What to say of X-rays, indexed by their lines, where one is there a second time: `twice` marks the second ones."""
    line = twice.index[int(twice.to_numpy().argmax())]
    name, keys = films[line], films.map(film_key)
    first = films.index[int((keys == keys[line]).to_numpy().argmax())]
    if films[first].lower() == name.lower():
        return f"X-ray {name} has two rows (lines {first} and {line}). Keep one of them."
    return (
        f"{films[first]} (line {first}) and {name} (line {line}) are called alike: of a path only the last part counts, without "
        "its ending. Give each X-ray a file name of its own, or keep one of the two if they are the same."
    )


def patient_in_name(film: str) -> str | None:
    """The patient in an X-ray's name as the NIH writes it, ``00000013_005.png``; None in another one."""
    match = _NIH_NAME.fullmatch(film_key(film))
    return patient_of(match[1]) if match else None


def age_in_years(text: str) -> float:
    """Age in years of ``58``, ``058Y``, ``60 years``, ``005M``, ``010D``; nan of a blank cell.

    Raises
    ------
    ValueError
        When it is no age, or none that people reach.
    """
    if text.lower() in _BLANK:
        return np.nan
    match = _AGE.fullmatch(text.strip())
    if not match:
        raise ValueError(text)
    years = float(match[1].replace(",", ".")) * _UNITS[(match[2] or "y")[0].lower()]
    if years > OLDEST:
        raise ValueError(text)
    return years


def sex_of(text: str) -> str:
    """``F``, ``M`` or ``unknown``; ValueError where the word does not say (0 and 1 are given to either)."""
    if text.lower() in _BLANK:
        return UNKNOWN
    if text.lower() not in _SEX:
        raise ValueError(text)
    return _SEX[text.lower()]


def view_of(text: str) -> str:
    """``PA``, ``AP``, ``lateral`` or ``unknown``; ValueError where the word does not say (``Frontal`` is either PA or AP)."""
    if text.lower() in _BLANK:
        return UNKNOWN
    words = re.sub(r"[^a-z]", "", text.lower())
    if words in ("pa", "paview", "posteroanterior", "posterioranterior", "papa", "paerect", "chestpa"):
        return "PA"
    if words in (
        "ap",
        "apview",
        "anteroposterior",
        "anteriorposterior",
        "apsupine",
        "aperect",
        "apportable",
        "apaxial",
        "aphorizontal",
        "chestap",
    ):
        return "AP"
    if words.startswith(("lat", "leftlat", "rightlat")) or words in ("ll", "rl", "l"):
        return "lateral"
    raise ValueError(text)


_COLUMNS: dict[str, tuple[Callable, object, str]] = {
    "Patient Age": (age_in_years, np.nan, "no age in years between 0 and 120: it counts as unknown"),
    "Patient Gender": (sex_of, UNKNOWN, "neither F nor M (Female, Male): it counts as unknown"),
    "View Position": (view_of, UNKNOWN, "neither PA nor AP: it counts as unknown"),
}


def understand(frame: pd.DataFrame, path: Path, say: Callable[[str], None]) -> pd.DataFrame:
    """Turn the columns of text into ages (float or int), sexes and views, and patients into one spelling.

    Parameters
    ----------
    frame : DataFrame of str
        As `data.tables.read_table` gives it, with or without each of the columns.
    path : Path
        Of the file, for messages.
    say : function
        Gets one sentence a column for values that could not be understood, with the first one's line.

    Raises
    ------
    DataError
        When a spreadsheet has rewritten the patients' numbers or names.
    """
    frame = frame.copy()
    if "Patient ID" in frame:
        frame["Patient ID"] = _patients(frame, path, say)
    for column, (read, unknown, sentence) in _COLUMNS.items():
        if column not in frame:
            continue
        meaning, wrong = {}, []
        for text in frame[column].unique():
            try:
                meaning[text] = read(text)
            except ValueError:
                meaning[text] = unknown
                wrong.append(text)
        bad = frame[column].isin(wrong)
        if bad.any():
            first = frame[column][bad].iloc[0]
            rows = "1 row" if bad.sum() == 1 else f"{bad.sum():,} rows"
            say(f"{path}: {column} is {first!r} in line {_line(bad)}, {sentence} ({rows}).")
        frame[column] = frame[column].map(meaning)
    if "Patient Age" in frame:
        age = frame["Patient Age"].astype(float)
        if age.notna().sum() >= 10 and age.max() < 2:
            say(f"{path}: nobody is two years old, the oldest is {age.max():.3g}. Infants, or ages divided by 100?")
        whole = age.notna().all() and (age % 1 == 0).all()
        frame["Patient Age"] = age.astype("int64") if whole else age
    return frame


def _patients(frame: pd.DataFrame, path: Path, say: Callable[[str], None]) -> pd.Series:
    """Patients in one spelling; what casts doubt on them is said."""
    rewritten = frame["Patient ID"].map(lambda text: bool(_REWRITTEN.fullmatch(text))).astype(bool)
    if rewritten.any():
        raise DataError(
            f"{path}: Patient ID is {frame['Patient ID'][rewritten].iloc[0]!r} in line {_line(rewritten)}: a number that a "
            "spreadsheet has rewritten (shortened, as a date, or as an error), so that patients cannot be told apart. Format the "
            "column as text and export again."
        )
    patients = frame["Patient ID"].map(patient_of)
    folded = patients.str.casefold()
    if folded.nunique() < patients.nunique():
        spellings = patients.groupby(folded).unique()
        one, other, *_ = next(names for names in spellings if len(names) > 1)
        say(f"{path}: patients {one} and {other} differ in capitals only, and count as one.")
        patients = folded
    if "Image Index" in frame:
        inside = frame["Image Index"].map(patient_in_name)
        other = inside.notna() & (inside != patients)
        if other.any():
            rows = "1 row names" if other.sum() == 1 else f"{other.sum():,} rows name"
            say(
                f"{path}: {rows} another patient than their X-ray, first {frame['Image Index'][other].iloc[0]} and patient "
                f"{patients[other].iloc[0]} in line {_line(other)}. Was a column sorted without the others?"
            )
    return patients


def _line(rows: pd.Series) -> int:
    """Line in the file of the first row that is marked."""
    return rows.index[int(rows.to_numpy().argmax())]
