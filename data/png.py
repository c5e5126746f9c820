"""Reads one chest X-ray from a PNG file, or says what the file is instead."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data.errors import DataError
from data.instead import dangling, described

_PNG = b"\x89PNG\r\n\x1a\n"
_WITH_EXIF = (b"eXIf", b"zTXt", b"tEXt", b"iTXt")  # the last three from older programs


def png_end(content: bytes) -> int | None:
    """Where a PNG ends (behind its IEND chunk), None where it ends before that; what stands behind is not the picture."""
    end = None
    for kind, _, end in _chunks(content):
        if kind == b"IEND":
            return end
    return None


def png_size(path: Path) -> tuple[int, int] | None:
    """Width and height that the PNG's header names; None when there is none."""
    try:
        with path.open("rb") as file:
            head = file.read(24)
    except OSError:
        return None
    return struct.unpack(">II", head[16:24]) if head.startswith(_PNG) and len(head) == 24 else None


def read_png(path: Path) -> np.ndarray:
    """Grey levels of a PNG as they are stored.

    Returns
    -------
    ndarray of uint8, (height, width)
        0 black (most dose) to 255 white.

    Raises
    ------
    DataError
        When the file is missing, cut off, no 8-bit PNG, coloured, of one grey level, partly transparent, animated, or to be turned.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        what = dangling(path) or ". Get it again, or take its row out of the table."
        raise DataError(f"{path}: the X-ray is not on disk{what}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Get it again, or take its row out of the table.") from error
    if not content.startswith(_PNG[:4]):
        what = described(content, convert="convert the X-ray to 8-bit grey PNG", again="get the X-ray again")
        raise DataError(f"{path}: not a PNG file, but {what}")
    end = png_end(content)
    if any(kind == b"acTL" for kind, *_ in _chunks(content)):
        raise DataError(
            f"{path}: an animation of several pictures (APNG), and nothing says which is the X-ray. Save that one alone."
        )
    if end is None:
        raise DataError(
            f"{path}: the PNG is cut off: {len(content):,} bytes without its last chunk (IEND). Copy or download it again."
        )
    if (turned := _orientation(content)) not in (0, 1):
        raise DataError(
            f"{path}: its EXIF data say that it is to be turned or mirrored before it is shown (orientation {turned}). Save it "
            "upright."
        )
    if content[24] == 1:
        raise DataError(
            f"{path}: the PNG has one bit a pixel, so only black and white. Export the X-ray again with 256 grey levels."
        )
    film = cv2.imdecode(np.frombuffer(content[:end], np.uint8), cv2.IMREAD_UNCHANGED)
    if film is None:
        raise DataError(
            f"{path}: the PNG has all its chunks, but cannot be decoded: damaged on the way? Copy or download it again."
        )
    if film.dtype != np.uint8:
        raise DataError(
            f"{path}: the PNG has 16 bits a pixel, and nothing says which of its grey levels are black and white. "
            "Convert it to 8 bits with the window you want."
        )
    if film.ndim == 3:  # some hundred X-rays of the archive are grey pictures stored as RGBA
        colours = film[..., :3]
        if (colours != colours[..., :1]).any():
            raise DataError(f"{path}: a colour picture, not an X-ray. Convert it to 8-bit grey, or leave it out.")
        if film.shape[2] == 4 and (film[..., 3] != 255).any():
            raise DataError(
                f"{path}: partly transparent, so that its grey levels depend on what lies behind. Save it without alpha."
            )
        film = colours[..., 0]
    if film.min() == film.max():
        raise DataError(
            f"{path}: every pixel has the grey level {film.min()}: nothing is on it. Export the X-ray again, or leave it out."
        )
    return np.ascontiguousarray(film)


def fit_square(film: np.ndarray, size: int) -> np.ndarray:
    """Bring an X-ray to `size` × `size` pixels by area averaging; a shorter side is filled up with black, on both ends alike.

    Nothing is cut away and nothing is stretched: the width of a heart is judged against the width of the chest.
    """
    height, width = film.shape
    side = max(height, width)
    if height != width:
        top, left = (side - height) // 2, (side - width) // 2
        film = cv2.copyMakeBorder(film, top, side - height - top, left, side - width - left, cv2.BORDER_CONSTANT, value=0)
    return film if side == size else cv2.resize(film, (size, size), interpolation=cv2.INTER_AREA)


def looks_inverted(film: np.ndarray) -> bool:
    """Whether an X-ray (size, size) seems to show bone black and air white, as DICOM's MONOCHROME1 does when nobody turns it.

    The middle of the chest is then darker than the lungs, the air above the shoulders and the border, each by 10 grey levels.
    That holds for none of 1,762 X-rays of ChestX-ray14, and inverted for all but 0.6 % of them.
    """
    if len(film) < 64:
        return False
    small = cv2.resize(film, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
    middle = small[20:52, 28:36].mean() + 10
    lungs, air = small[20:44, [*range(12, 22), *range(42, 52)]], small[:8, [*range(5), *range(59, 64)]]
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    return all(middle < part.mean() for part in (lungs, air, border))


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Kind and data of each whole chunk, and where it ends."""
    place = len(_PNG)
    while place + 12 <= len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        if place + 12 + length > len(content):
            return
        yield kind, content[place + 8 : place + 8 + length] if kind in _WITH_EXIF else b"", place + 12 + length
        place += 12 + length


def _orientation(content: bytes) -> int:
    if not any(kind == b"eXIf" or data.startswith(b"Raw profile type exif") for kind, data, _ in _chunks(content)):
        return 0  # Pillow would decode the picture to find that out
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return int(picture.getexif().get(0x0112, 0))
    except Exception:  # Pillow raises what it likes for a damaged block, which then says nothing
        return 0
