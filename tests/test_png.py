"""One X-ray from a file: what is read right, and what a picture that is none is said to be."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from data.errors import DataError
from data.png import looks_inverted, read_png


def png(pixels) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def indexed(palette) -> bytes:
    rows = b"".join(b"\0" + bytes(row) for row in GREY)
    parts = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 3, 0, 0, 0)),
        chunk(b"PLTE", bytes(palette)),
        chunk(b"IDAT", zlib.compress(rows)),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def grey_of(bits: int) -> bytes:
    rows = b"".join(b"\0" + bytes([0b10100101] * bits) for _ in range(8))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def interlaced() -> bytes:
    """`GREY` by the seven passes of Adam7."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(b"\0" + bytes(row) for y, x, down, right in passes for row in GREY[y::down, x::right])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def with_exif(orientation: int) -> bytes:
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HH", orientation, 0) + b"\0\0\0\0"
    content = png(GREY)
    return content[:33] + chunk(b"eXIf", exif) + content[33:]


def with_raw_profile(orientation: int) -> bytes:
    """As older programs keep a JPEG's EXIF data in a PNG: in hexadecimal digits, as a text."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HH", orientation, 0) + b"\0\0\0\0"
    text = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
    content = png(GREY)
    return content[:33] + chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)) + content[33:]


@pytest.mark.parametrize(
    "content",
    [
        png(GREY) + b"\r\n",
        png(GREY) + b"\0" * 512 + b"IEND",
        png(np.dstack([GREY] * 3)),
        png(np.dstack([GREY] * 3 + [np.full_like(GREY, 255)])),
        indexed([level for level in range(64) for _ in range(3)]),
        with_exif(1),
        with_raw_profile(1),
        interlaced(),
    ],
    ids=["newline behind", "zeros behind", "three channels", "RGBA", "palette", "upright", "upright by a text", "interlaced"],
)
def test_whole_pictures(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_array_equal(read_png(tmp_path / "a.png"), GREY)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a PNG file, but empty .*Get the X-ray again"),
        (png(GREY)[:-8], r"cut off: \d+ bytes without its last chunk"),
        (png(GREY)[:-20] + b"IEND\xaeB`\x82", "cut off|cannot be decoded"),
        (cv2.imencode(".jpg", GREY)[1].tobytes(), "not a PNG file, but a JPEG picture under another name. Convert"),
        (b"\xff\xd8\xff\xee\0\x0eAdobe\0d", "JPEG picture under another name .by Adobe"),
        (b"\0" * 128 + b"DICM", "a DICOM file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"\x1f\x8b\x08\0", "compressed by gzip"),
        (indexed([level for level in range(64) for _ in range(2)] + [0] * 64), "a colour picture"),
        (png(np.dstack([GREY] * 3 + [GREY])), "partly transparent"),
        (png(np.zeros((8, 8), np.uint8)), "every pixel has the grey level 0"),
        (grey_of(1), "one bit a pixel, so only black and white"),
        (cv2.imencode(".png", np.arange(64, dtype=np.uint16).reshape(8, 8))[1].tobytes(), "16 bits a pixel"),
        (with_exif(6), "turned or mirrored before it is shown .orientation 6"),
        (with_raw_profile(6), "turned or mirrored before it is shown .orientation 6"),
    ],
)
def test_refused_pictures(tmp_path, content, words):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=f"a.png: .*{words}"):
        read_png(tmp_path / "a.png")


def test_a_folder_named_like_a_film(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(DataError, match="a.png: cannot be read"):
        read_png(tmp_path / "a.png")


def test_an_inverted_picture_is_noticed():
    """Air and lungs black, the middle of the chest white; and the same inverted."""
    chest = np.full((128, 128), 120, np.uint8)
    chest[:20], chest[40:90, 22:46], chest[40:90, 82:106] = 10, 60, 60
    chest[:, 56:72] = 200
    chest[:, :6] = chest[:, -6:] = 10
    assert not looks_inverted(chest) and looks_inverted(255 - chest) and not looks_inverted(255 - chest[:8, :8])
