"""What lies where a file should be: a web page, a pointer, a file that is still in a cloud, a copy under a name of its own."""

import re
from collections.abc import Iterable
from pathlib import Path

_TEXTS = (  # first bytes of texts that are no table, list or index; what it is, and what to do
    (b"version https://git-lfs", "a pointer of Git LFS: `git lfs pull` fetches the file"),
    (b"<!doctype html", "a web page, of a login or an error: download the file again"),
    (b"<html", "a web page, of a login or an error: download the file again"),
    (b"<?xml", "an XML file: export the table as CSV, or download the file again"),
    (b"PAR1", "a Parquet table: export it as CSV"),
    (b"%PDF", "a PDF: export the table as CSV"),
)
_BINARIES = (
    (b"PK\x03\x04", "a zip archive, as an Excel workbook (.xlsx) is one: unpack it, or export the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls): export the table as CSV"),
    (b"\x1f\x8b", "compressed by gzip: unpack it"),
    (b"\0\5\x16\7", "macOS' double of a file (its name begins with ._): copy the file itself"),
    (b"bplist", "a property list of macOS: copy the file itself"),
)
_CLOUD = re.compile(r"\.(?P<name>.+)\.icloud")
_COPY = re.compile(
    r"(?P<base>.+?)(?: ?\(\d+\)| ?[-–] ?cop(?:y|ie)(?: ?\(?\d+\)?)?| cop(?:y|ie)(?: \d+)?| ?[-–] ?kopie(?: ?\(?\d+\)?)?"
    r"|-(?:DESKTOP|LAPTOP)-\w+(?:-\d+)?| \([^()]*conflict[^()]*\)|\.sync-conflict-[\w-]+|_conflict[-\w]*)",
    re.IGNORECASE,
)
_COPY_BEFORE = re.compile(r"(?:copy of|kopie von|copie de) (?P<base>.+)", re.IGNORECASE)


def text_instead(content: bytes) -> str:
    """What a file is that should be a table, a list or an index, and what to do about it; "" where nothing speaks against it."""
    head = content[:400].lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, what in _TEXTS:
        if head[: len(start)].lower() == start.lower():
            return f"not a table, list or index, but {what}"
    return next((f"not a text file, but {what}" for start, what in _BINARIES if content.startswith(start)), "")


def in_cloud(names: Iterable[str]) -> list[str]:
    """Files that a folder of these names lacks, because iCloud has left a placeholder: `.x.csv.icloud` stands for x.csv."""
    return sorted(match["name"] for name in names if (match := _CLOUD.fullmatch(name)))


def say_in_cloud(folder: Path, names: Iterable[str]) -> str:
    """A sentence about such files; "" where there are none."""
    away = in_cloud(names)
    more = f" and {len(away) - 1:,} more files are" if len(away) > 1 else " is"
    return f"{folder / away[0]}{more} still in iCloud and not on this disk (Finder: Download Now)." if away else ""


def original_of(name: str) -> str | None:
    """`x` for the name (without suffix) of a copy that a computer made: ``x (1)``, ``x - Copy``, ``x-DESKTOP-4F2``; else None."""
    match = _COPY.fullmatch(name) or _COPY_BEFORE.fullmatch(name)
    return match["base"] if match else None
