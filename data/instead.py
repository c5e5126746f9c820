"""What lies where a file should be: a web page, a pointer, a file that is still in a cloud, a copy under a name of its own."""

import re
from collections.abc import Iterable
from pathlib import Path

HEAD = 4400  # bytes that tell what a file is
_SPREADSHEET = "export the table as CSV"
_UNPACK = "unpack it"
_AGAIN = "download the file again"
_KINDS = (  # how it begins, what it is, what to do; "": what the reader of the wanted kind advises
    (rb"version https://git-lfs", "a pointer of Git LFS", "`git lfs pull` fetches the file"),
    (rb"/annex/objects/|(\.\./)*\.git/annex/objects/", "a pointer of git-annex", "`datalad get` or `git annex get` fetches it"),
    (rb'\{"": ?"WARNING!|\{"url": ?"https://docs\.google', "a link to a document of Google Drive", "download what it leads to"),
    (rb"\[InternetShortcut\]|L\0\0\0\x01\x14\x02\0", "a shortcut of Windows", "copy the file that it leads to"),
    (rb"(<\?xml[^>]*>\s*)?<Error>", "an error message of a server", _AGAIN),
    (rb'\{\s*"(message|error|errors|detail|status|statusCode)"\s*:', "an error message of a server", _AGAIN),
    (
        rb"([45]\d\d[:\s]+)?(page )?(not found|access denied|accessdenied|forbidden|unauthorized|bad gateway|too many requests"
        rb"|service unavailable|gateway time-?out|internal server error)\b",
        "an error message of a server",
        _AGAIN,
    ),
    (rb"<\?xml", "an XML file", ""),
    (rb"<stata_dta>", "a Stata table", _SPREADSHEET),
    (rb"<[!a-z]", "a web page, of a login or an error", _AGAIN),
    (rb'\{\s*"(cells|nbformat|metadata"\s*:\s*\{\s*"(kernelspec|language_info|colab))"', "a Jupyter notebook", ""),
    (rb"bplist", "a property list of macOS", "copy the file itself"),
    (rb"\0\x05\x16\x07", "macOS' double of a file (its name begins with ._)", "copy the file itself"),
    (rb"Salted__|-----BEGIN PGP", "an encrypted file", "decrypt it"),
    (rb"PK\x03\x04", "a zip archive, as an Excel workbook (.xlsx) is one", f"{_UNPACK}, or {_SPREADSHEET}"),
    (rb"\xd0\xcf\x11\xe0", "a file of Microsoft Office, as an Excel workbook (.xls) is one", _SPREADSHEET),
    (rb"7z\xbc\xaf|Rar!|.{257}ustar", "an archive", _UNPACK),
    (rb"\x1f\x8b", "compressed by gzip", _UNPACK),
    (rb"\xfd7zXZ|BZh\d1AY|\x28\xb5\x2f\xfd", "compressed by xz, bzip2 or Zstandard", _UNPACK),
    (rb"%PDF|\{\\rtf", "a PDF or RTF document", ""),
    (rb"PAR1", "a Parquet table", _SPREADSHEET),
    (rb"ARROW1", "an Arrow (Feather) table", _SPREADSHEET),
    (rb"\$FL[23]", "an SPSS table", _SPREADSHEET),
    (rb"SQLite format 3", "an SQLite database", _SPREADSHEET),
    (rb"RD[XA][23]\n", "an R workspace", _SPREADSHEET),
    (rb"\x89HDF\r\n", "an HDF5 file, as MATLAB 7.3, MINC and Keras write them", ""),
    (rb"MATLAB 5\.0", "a MATLAB file", ""),
    (rb"\x93NUMPY", "a NumPy array", ""),
    (rb"\x80[\x02-\x05]", "a Python pickle", ""),
    (rb"ObjectType|NDims", "a MetaImage (.mha)", ""),
    (rb"NRRD\d", "an NRRD file", ""),
    (rb"CDF[\x01\x02]", "a MINC file", ""),
    (rb".{128}DICM", "a DICOM file", ""),
    (rb".{344}n[+i]1\0", "a NIfTI file", ""),
    (rb"\x89PNG", "a PNG picture under another name", ""),
    (rb"\xff\xd8(?=.{,4000}Adobe)", "a JPEG picture under another name (by Adobe, perhaps with the four colours of print)", ""),
    (rb"\xff\xd8\xff", "a JPEG picture under another name", ""),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture under another name", ""),
    (rb"GIF8", "a GIF picture under another name", ""),
    (rb"BM.{4}\0{4}", "a BMP picture under another name", ""),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "a TIFF picture under another name", ""),
    (rb"RIFF.{4}WEBP", "a WebP picture under another name", ""),
    (rb".{4}ftyp(hei|mif|avif)", "an HEIF picture, as telephones take them", ""),
    (rb"\0+$", "zeros where its header should be, as in a copy that was not finished", "copy or download it again"),
)
_KINDS = tuple((re.compile(start, re.IGNORECASE | re.DOTALL), what, todo) for start, what, todo in _KINDS)
_CLOUD = re.compile(r"\.(?P<name>.+)\.icloud")
_COPY = re.compile(
    r"(?P<base>.+?)(?: ?\(\d+\)| ?[-–] ?cop(?:y|ie)(?: ?\(?\d+\)?)?| cop(?:y|ie)(?: \d+)?| ?[-–] ?kopie(?: ?\(?\d+\)?)?"
    r"|-(?:DESKTOP|LAPTOP)-\w+(?:-\d+)?| \([^()]*conflict[^()]*\)|\.sync-conflict-[\w-]+|_conflict[-\w]*)",
    re.IGNORECASE,
)
_COPY_BEFORE = re.compile(r"(?:copy of|kopie von|copie de) (?P<base>.+)", re.IGNORECASE)


def what_it_is(content: bytes) -> tuple[str, str]:
    """What a file is by its first bytes, and what to do to get the wanted one from it; "" and "" for what is not known.

    The second is "" alone where it depends on what was wanted.
    """
    head = content[:HEAD]
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, what, todo in _KINDS:
        if start.match(head) or start.match(text):
            return what, todo
    return "", ""


def described(content: bytes, convert: str, again: str) -> str:
    """What a file is that is not the wanted one, and what to do: "a PDF or RTF document. Convert it to PNG."

    Parameters
    ----------
    content : bytes
    convert, again : str
        Advice for what is known and holds data of another kind, and for what is not known.
    """
    what, todo = what_it_is(content)
    advice = todo or (convert if what else again)
    what = what or (f"something that begins with {content[:8]!r}" if content else "empty (0 bytes)")
    return f"{what}. {advice[0].upper()}{advice[1:]}."


def text_instead(content: bytes) -> str:
    """What a file is that should be a table, a list or an index, and what to do about it; "" where nothing speaks against it."""
    what, todo = what_it_is(content)
    wanted = "text file" if re.search(rb"[\0-\x08\x0e-\x1f]", content[:400]) else "table, list or index"
    return what and f"not a {wanted}, but {what}: {todo or 'export the table as CSV, or download the file again'}"


def dangling(path: Path) -> str:
    """What to do about a link to a file that is not there, as git-annex and DataLad leave it; "" for anything else."""
    if not path.is_symlink() or path.exists():
        return ""
    advice = "`datalad get` or `git annex get` fetches it" if "annex" in str(path.readlink()) else "copy the file itself"
    return f", there is but a link to it: {advice}."


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
