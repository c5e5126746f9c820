"""Reads the text tables that other programs write: any encoding, separator and line ending, every cell as text, lines numbered.

Excel, R and pandas, Kaggle and the archives themselves write the same table in many ways. What can be told apart is read right;
the rest is refused with file and line. What a cell means is for the reader of the format to say.
"""

import codecs
import csv
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.errors import DataError
from data.instead import dangling, text_instead

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "<na>"})
_HEADER_SEARCH = 20  # lines above the header: a title, "sep=;", the export's date
_ARCHIVES = {  # columns that the first of these has, as `key_of` makes them
    "CheXpert": {"path", "frontallateral", "appa"},
    "PadChest": {"imagedir", "studyid"},
    "MIMIC-CXR": {"studyid"},
    "VinDr-CXR": {"classname"},
    "RSNA's pneumonia challenge": {"patientid", "target"},
}
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f]")


def key_of(name: str) -> str:
    """What is left of a column's name when spelling does not count: ``Patient.ID``, ``patient_id`` and ``Patient ID`` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read_text(path: Path) -> str:
    """Text of a file in UTF-8, UTF-16 or, where it is neither, Windows' code page 1252.

    Raises
    ------
    DataError
        When the file is missing, empty, no text, or a text of another kind (`data.instead`).
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: the file is missing{dangling(path) or '. Copy it there.'}") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, where a text file should be. Is the file in it? Move it up.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Copy it to where you may read it.") from error
    if not content.strip(b"\0 \r\n\t"):
        raise DataError(f"{path}: the file is empty: not a readable CSV table or list. Get the file again.")
    if what := text_instead(content):
        raise DataError(f"{path}: {what}.")
    head = np.frombuffer(content[:400], np.uint8)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    elif len(head) > 3 and not head[1::2].any():
        encodings = ["utf-16-le"]
    elif len(head) > 3 and not head[::2].any():
        encodings = ["utf-16-be"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not _NO_TEXT.search(text):
            return text
    raise DataError(
        f"{path}: not a text file, so not a readable CSV table or list. Get the file again, or export it as CSV (UTF-8)."
    )


def read_table(
    path: Path, required: Sequence[str], known: Sequence[str] = (), names: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a table with a header as text.

    Parameters
    ----------
    path : Path
    required : sequence of str
        Columns that must be there, under the names that they will have.
    known : sequence of str
        Columns that may be there.
    names : mapping of str to str, optional
        Other names of columns, as `key_of` makes them, to those of `required` and `known`.

    Returns
    -------
    DataFrame of str
        Indexed by the line in the file. Missing cells are ``""``. Columns that are neither required nor known keep their names.

    Raises
    ------
    DataError
        When the file is no table, a required column is missing, two columns of one name differ, or a row has more or fewer
        fields than the header names.
    """
    text = read_text(path)
    wanted = {key_of(name): name for name in (*required, *known)} | dict(names or {})
    separator, header, rows = _best_reading(path, text, wanted)
    header = _fit_header(path, header, rows, separator, wanted)
    columns = [wanted.get(key_of(name), name.strip()) for name in header]
    missing = [name for name in required if name not in columns]
    if missing:
        raise DataError(
            f"{path}: the table has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, columns))[:300]}. "
            f"{other_archive(header)}Use the file as it is published, or name the column so."
        )
    cells, lines, repeated = [], [], []
    needed = [index for index, name in enumerate(columns) if name in wanted.values()]
    shortest = max(needed, default=0) + 1
    keys = [key_of(name) for name in header]
    for line, row in rows:
        if key_of(row[0]) == keys[0] and [key_of(cell) for cell in row[: len(header)]] == keys:
            repeated.append(line)  # two exports, one behind the other
            continue
        if len(row) < shortest:
            raise DataError(
                f"{path}: line {line} has {len(row)} fields, the header names {len(header)}. Is the file cut off? Get it again."
            )
        cells.append([_clean(cell) for cell in row[: len(header)]] + [""] * (len(header) - len(row)))
        lines.append(line)
    if repeated:
        warnings.warn(f"{path}: the header is repeated in line {repeated[0]}; it was not read as a row.", stacklevel=3)
    frame = pd.DataFrame(cells, index=pd.Index(lines, name="line"), columns=range(len(header)), dtype="str")
    return _without_doubles(path, frame, columns, wanted)


def other_archive(columns: Sequence[str]) -> str:
    """A sentence that names the archive whose table has such columns; "" where none is known."""
    keys = {key_of(name) for name in columns}
    known = next((name for name, its_own in _ARCHIVES.items() if its_own <= keys), None)
    return f"These are columns of {known}, which has other labels and other X-rays than NIH ChestX-ray14. " if known else ""


YES_OR_NO = dict.fromkeys(("yes", "y", "true", "wahr", "vrai", "vero", "verdadero", "verdadeiro"), 1) | dict.fromkeys(
    ("no", "n", "false", "falsch", "faux", "falso"), 0
)
"""Answers in words, as `numbers` takes them; spreadsheets write their truth values in the language of the system."""


def numbers(frame: pd.DataFrame, words: Mapping[str, float] | None = None) -> np.ndarray:
    """Cells as float64, with a comma or a point before the decimals and ``%`` for hundredths; nan where a cell is not a number.

    Parameters
    ----------
    frame : DataFrame of str
    words : mapping of str to float, optional
        Words, in lower case, that stand for numbers.
    """

    def number(text: str) -> float:
        value, share = (text[:-1].rstrip(), 0.01) if text.endswith("%") else (text, 1)
        if "." not in value:
            value = value.replace(",", ".", 1)
        try:
            return float(value.replace("_", "?")) * share  # Python would read 0_5 as 5
        except ValueError:
            return (words or {}).get(value.lower(), np.nan)

    place, distinct = pd.factorize(frame.to_numpy(dtype=object).ravel())
    return np.array([number(text) for text in distinct], float)[place].reshape(frame.shape)


def _clean(cell: str) -> str:
    """A cell without what Excel and R put around it; ``""`` for every way to say that nothing is known."""
    cell = cell.strip().strip("\x1a\ufeff").strip()
    if cell.startswith("=") and cell.endswith('"'):
        cell = cell[1:].strip('"')
    cell = cell.lstrip("'").strip()
    return "" if cell.lower() in MISSING else cell


def _best_reading(path: Path, text: str, wanted: Mapping[str, str]) -> tuple[str, list[str], list[tuple[int, list[str]]]]:
    """Separator, header and numbered rows: the separator and the line in which most of the wanted columns are found."""
    best: tuple[int, str, list, int] | None = None
    for separator in (",", ";", "\t", "|"):
        try:
            rows = _rows(text, separator)
        except csv.Error as error:
            raise DataError(f"{path}: not a readable CSV table ({error}). Get the file again.") from error
        for place, (_, row) in enumerate(rows[:_HEADER_SEARCH]):
            found = len({wanted[key_of(cell)] for cell in row if key_of(cell) in wanted})
            if best is None or found > best[0]:
                best = (found, separator, rows, place)
    if best is None:
        raise DataError(f"{path}: the file is empty: not a readable CSV table. Get the file again.")
    _, separator, rows, place = best
    _refuse_open_quotes(path, text, separator, rows, len(rows[place][1]))
    return separator, rows[place][1], rows[place + 1 :]


def _refuse_open_quotes(path: Path, text: str, separator: str, rows: list[tuple[int, list[str]]], width: int) -> None:
    """A quotation mark that stands alone takes all rows up to the next one, or the end, into its cell."""
    if '"' not in text:
        return
    swallowed = [line for line, row in rows for cell in row if _looks_like_rows(cell, separator, width)]
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True):
            pass
    except csv.Error as error:
        swallowed += [rows[-1][0]] if "unexpected end" in str(error) else []
    if swallowed:
        raise DataError(
            f"{path}: line {swallowed[0]}: a quotation mark opens a cell that runs over the lines below it. Delete the mark, or "
            "write it twice within a quoted cell."
        )


def _looks_like_rows(cell: str, separator: str, width: int) -> bool:
    """Whether a cell of several lines holds one with as many fields as the table."""
    return width > 2 and any(line.count(separator) >= width - 1 for line in cell.splitlines()[1:])


def _rows(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """All rows that are not blank, with the line in which each begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    rows, end = [], 0
    for row in reader:
        if any(cell.strip(" \t\x1a\ufeff") for cell in row):
            rows.append((end + 1, row))
        end = reader.line_num
    return rows


def _fit_header(path: Path, header: list[str], rows: list, separator: str, wanted: Mapping[str, str]) -> list[str]:
    """The header with one name for each field of the rows.

    A name such as ``Bbox [x,y,w,h]`` may stand for several fields, R leaves out the name of the row numbers, and some programs
    end rows, or the header, with a separator.
    """
    while header and not header[-1].strip():
        header = header[:-1]
    width = max((len(_stripped(row)) for _, row in rows), default=0)
    if width <= len(header):
        return header
    spread = [part for name in header for part in (name.split(",") if "[" in name else [name])]
    if len(spread) >= width:
        return spread
    if width == len(header) + 1 and all(len(row) == width for _, row in rows):
        first = [row[0].strip() for _, row in rows]
        if len(rows) > 1 and first in ([str(k + start) for k in range(len(rows))] for start in (0, 1)):
            return ["row", *header]
    line = next(line for line, row in rows if len(_stripped(row)) == width)
    comma = " A decimal comma in a table that is separated by commas?" if separator == "," else ""
    raise DataError(
        f"{path}: line {line} has {width} fields, but the header names {len(header)}, so that it cannot be said which value "
        f"belongs to which column.{comma} Name every column, or export the table with another separator."
    )


def _stripped(row: list[str]) -> list[str]:
    end = len(row)
    while end and not row[end - 1].strip():
        end -= 1
    return row[:end]


def _without_doubles(path: Path, frame: pd.DataFrame, columns: list[str], wanted: Mapping[str, str]) -> pd.DataFrame:
    """Named columns; of two with one name, if they hold the same, the first."""
    kept: dict[str, int] = {}
    for place, name in enumerate(columns):
        if name in kept and name in wanted.values():
            differ = (frame[kept[name]] != frame[place]).to_numpy()
            if differ.any():
                line = frame.index[int(differ.argmax())]
                raise DataError(
                    f"{path}: two columns are called {name!r}, and they differ (line {line}). Keep the one that is meant."
                )
        elif name not in kept:
            kept[name] = place
    return frame[list(kept.values())].set_axis(list(kept), axis=1)
