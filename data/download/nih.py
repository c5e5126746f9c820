"""Lays out the archives of NIH ChestX-ray14 (``images_001.tar.gz`` … and its tables) as the folder that `data.nih` reads."""

import csv
import re
import tarfile
import zlib
from pathlib import Path

from tqdm.auto import tqdm

from data.errors import DataError
from data.nih_tables import BOX_FILE, SPLIT_FILES, TABLE_COLUMNS, TABLE_FILE
from data.png import png_end
from data.storage import atomic_file

_FILM = re.compile(r"(?:.*/)?(\d{8}_\d{3}\.png)")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_RENAMED = {"Patient Sex": "Patient Gender"}  # the table's header has had both names under one file name


def unpack(archive: Path, folder: Path, *, progress: bool = True) -> int:
    """Unpack the X-rays of one ``images_0NN.tar.gz`` into ``folder/images``; done once; an interrupted call resumes.

    Returns
    -------
    int
        X-rays in the archive.

    Raises
    ------
    DataError
        When the archive is damaged or an X-ray in it is not a whole PNG.
    """
    done = folder / f".unpacked-{archive.name}.txt"
    if done.exists():
        return int(done.read_text())
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    count = 0
    try:
        with (
            archive.open("rb") as raw,
            tqdm.wrapattr(
                raw, "read", total=archive.stat().st_size, desc=f"unpacking {archive.name}", disable=not progress
            ) as stream,
            tarfile.open(fileobj=stream, mode="r|gz") as tar,
        ):
            for member in tar:
                match = _FILM.fullmatch(member.name)
                if not match or not member.isreg():
                    continue  # folders, macOS' ._ doubles; only plain names of X-rays leave the archive
                count += 1
                target = images / match[1]
                if target.exists() and target.stat().st_size == member.size:
                    continue
                content = tar.extractfile(member).read()
                if not (content.startswith(_PNG_START) and png_end(content) is not None):
                    raise DataError(f"{archive}: {member.name} in it is not a whole PNG. Move the archive away and run again.")
                with atomic_file(target) as temporary:
                    temporary.write_bytes(content)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise DataError(f"{archive}: damaged or cut off ({error}). Move it away and run again to download it anew.") from error
    if not count:
        raise DataError(f"{archive}: no X-ray in it (expected names such as images/00000001_000.png). Move it away and run again.")
    done.write_text(str(count))
    return count


def write_tables(source: Path, folder: Path) -> int:
    """Copy table, boxes and split lists from `source`, with the rows of those X-rays that are in ``folder/images``.

    All 12 archives unpacked, the rows are those of the published files; some unpacked, the folder is consistent too.

    Returns
    -------
    int
        X-rays that are on disk and in the table.

    Raises
    ------
    DataError
        When the table is not NIH's, or no row of it has an X-ray.
    """
    films = {path.name for path in (folder / "images").glob("*.png")}
    try:
        with (source / TABLE_FILE).open(newline="", encoding="utf-8-sig") as text:
            header, *rows = csv.reader(text)
    except (ValueError, csv.Error) as error:  # empty, or no text at all
        raise DataError(f"{source / TABLE_FILE}: not a table ({error}). Move it away and run again.") from error
    header = [_RENAMED.get(name, name) for name in header]
    missing = [name for name in TABLE_COLUMNS if name not in header]
    if missing or header[0] != "Image Index":
        raise DataError(
            f"{source / TABLE_FILE}: not NIH's label table "
            f"(it has the columns {', '.join(header)[:200]}, but no {', '.join(missing)}). Move "
            "it away and run again."
        )
    width = max(index for index, name in enumerate(header, 1) if name)  # published with and without a comma at the end
    rows = [row[:width] for row in rows if row and row[0] in films]
    if not rows:
        raise DataError(f"{folder}: none of the X-rays is in {TABLE_FILE}. Do archives and table belong together?")
    with atomic_file(folder / TABLE_FILE) as path, path.open("w", newline="", encoding="utf-8") as text:
        text.write(",".join(header[:width]) + "\n")  # "OriginalImage[Width,Height]" is two columns: written unquoted, as published
        csv.writer(text, lineterminator="\n").writerows(rows)
    for name in SPLIT_FILES.values():
        listed = (source / name).read_text(encoding="utf-8-sig").split()
        with atomic_file(folder / name) as path:
            path.write_text("".join(f"{film}\n" for film in listed if film in films), encoding="utf-8")
    if (source / BOX_FILE).exists():
        first, *boxes = (source / BOX_FILE).read_text(encoding="utf-8-sig").splitlines()
        with atomic_file(folder / BOX_FILE) as path:
            path.write_text(
                "".join(f"{line}\n" for line in [first, *boxes] if line == first or line.split(",")[0] in films), "utf-8"
            )
    return len(rows)


def bytes_needed(packed: int) -> int:
    """Disk that X-rays of `packed` bytes of archives take: PNG does not compress further, blocks of 4 KiB are rounded up."""
    return int(packed * 1.02)
