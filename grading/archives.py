"""Opens what was handed in: folders, zips, tars, archives inside of archives; every file in them becomes one entry.

Names inside of archives are never used as paths, only read for the student's name, so no member can be written anywhere.
What is unpacked is counted while it is unpacked: a zip bomb ends as one student's problem.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

MAX_FILE = 32 << 20  # bytes of one notebook, unpacked
MAX_TOTAL = 4 << 30  # bytes of all that comes out of one class archive
MAX_STUDENT = 256 << 20  # bytes of all that comes out of one student's archive
MAX_NOTEBOOKS = 20_000  # in a class archive
MAX_OF_STUDENT = 500  # notebooks in one student's archive
MAX_FILES = 200_000  # in a class archive
MAX_FILES_OF_STUDENT = 20_000  # of any kind, in one student's archive and all that is in it
MAX_DEPTH = 3
MAX_TEXT = 100_000  # bytes of a text that a platform puts beside the files
JUNK = re.compile(
    r"(^|/)(__MACOSX|\.ipynb_checkpoints|\.git|\.venv|\.virtual_documents|__pycache__|node_modules|\.Trash[^/]*)(/|$)"
    r"|(^|/)(\._[^/]*|\.DS_Store|\.gitignore|\.gitattributes|\.gitkeep|\.localized|Thumbs\.db|ehthumbs\.db|desktop\.ini|~\$[^/]*|\.~lock\.[^/]*|Icon\r)$",
    re.IGNORECASE,
)
OFFICE = (
    ".docx",
    ".xlsx",
    ".pptx",
    ".odt",
    ".ods",
    ".odp",
    ".jar",
    ".epub",
    ".pages",
    ".numbers",
    ".key",
    ".npz",
    ".keras",
    ".whl",
)
TEXTS = re.compile(r"(^|/)(timestamp\.txt|submission_metadata\.yml)$|_attempt_[\d-]+\.txt$")
CLOUD = re.compile(r"\.(?P<name>.+)\.icloud")
WHAT = {  # first bytes → what a file is that cannot be opened here
    b"Rar!": "a RAR archive, which cannot be unpacked here; hand in the notebook itself, or a .zip",
    b"7z\xbc\xaf": "a 7-Zip archive, which cannot be unpacked here; hand in the notebook itself, or a .zip",
    b"%PDF": "a PDF, perhaps of the notebook; hand in the notebook itself",
}
BY_ENDING = {
    ".html": "a web page, perhaps of the notebook; hand in the notebook itself (.ipynb)",
    ".htm": "a web page, perhaps of the notebook; hand in the notebook itself (.ipynb)",
    ".py": "a Python script; hand in the notebook itself",
    ".md": "a text; hand in the notebook itself",
    ".url": "a link to a file elsewhere; hand in the notebook itself",
    ".webloc": "a link to a file elsewhere; hand in the notebook itself",
    ".lnk": "a link to a file elsewhere; hand in the notebook itself",
    ".gdoc": "a link to a file elsewhere; hand in the notebook itself",
}


class UnpackError(ValueError):
    """A file that cannot be opened; the message is for the student and the instructor."""


@dataclass(frozen=True)
class Entry:
    """One file that was found."""

    where: str  # path in the folder or archive, archives in it as folders
    notebook: bytes | None = None
    problem: str = ""  # why it is no notebook that can be graded
    time: datetime | None = None
    text: str = ""  # of a text that a platform puts there
    junk: bool = False  # what computers put beside people's files
    broken: bool = False  # it should have been a notebook or an archive


@dataclass
class Budget:
    """What may still be unpacked."""

    bytes: int
    notebooks: int = MAX_NOTEBOOKS
    files: int = MAX_FILES

    def of_student(self) -> "Budget":
        """What one student's archive may take of it."""
        return Budget(min(MAX_STUDENT, self.bytes), MAX_OF_STUDENT, min(MAX_FILES_OF_STUDENT, self.files))

    def count(self, files: int = 1) -> None:
        """UnpackError when there are more files than anybody hands in."""
        self.files -= files
        if self.files < 0:
            raise UnpackError("more files than anybody hands in")


Reader = Callable[[int], bytes]
"""Reads the first bytes of a file, as many as are asked for."""


def _text(data: bytes) -> str:
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")


def _is_notebook(data: bytes) -> bool:
    """Whether a JSON text is a notebook, whatever the file is called."""
    head = data[:4096].replace(b"\0", b"") + data[-4096:].replace(b"\0", b"")
    return any(key in head or key in data for key in (b'"cells"', b'"nbformat"', b'"worksheets"')) or (
        b"\0" in data[:100] and any(key in data.replace(b"\0", b"") for key in (b'"cells"', b'"nbformat"', b'"worksheets"'))
    )


def _entries(where: str, read: Reader, time: datetime | None, budget: Budget, depth: int) -> Iterator[Entry]:
    """What a file is, by its first bytes rather than by its name: one entry, or all that is in an archive."""
    name = PurePosixPath(where).name
    if cloud := CLOUD.fullmatch(name):
        problem = f"{cloud['name'][:80]} was still in iCloud when this folder was copied: only its placeholder is here. Download it"
        yield Entry(f"{where.removesuffix(name)}{cloud['name']}", problem=problem, time=time, broken=True)
        return
    lower = name.lower()
    try:
        head = read(512)
        packed = head[:2] == b"\x1f\x8b" or head[:3] == b"BZh" or head[:6] == b"\xfd7zXZ\0"
        is_zip = head[:4] in (b"PK\x03\x04", b"PK\x05\x06") and not lower.endswith(OFFICE)
        if what := next((text for magic, text in WHAT.items() if head.startswith(magic)), ""):
            yield Entry(where, problem=f"{name[:80]} is no notebook (.ipynb): it is {what}", time=time, broken=True)
        elif is_zip or packed or lower.endswith((".zip", ".tar")) or head[257:262] == b"ustar":
            budget.notebooks -= 1
            if budget.notebooks < 0:
                raise UnpackError(f"more than {MAX_NOTEBOOKS} files")
            if depth + 1 > MAX_DEPTH:
                raise UnpackError("zips inside of zips inside of zips")
            data = _whole(read, min(MAX_STUDENT, budget.bytes), name)
            budget.bytes -= len(data)
            inner = budget.of_student()
            before, files = inner.bytes, inner.files
            inside = _zip if is_zip or (lower.endswith(".zip") and not packed and head[257:262] != b"ustar") else _tar
            for entry in inside(data, inner, where, depth + 1):  # a student chooses what the archive says of times
                yield Entry(entry.where, entry.notebook, entry.problem, time, entry.text, entry.junk, entry.broken)
            budget.bytes -= before - inner.bytes
            if depth:  # a class is not charged for what one student's archive holds
                budget.count(files - inner.files)
        elif lower.endswith(".ipynb") or _text(head).lstrip()[:1] == "{":
            most = min(MAX_FILE, budget.bytes)
            data = _whole(read, most, name)
            budget.bytes -= len(data)
            if not lower.endswith(".ipynb") and not _is_notebook(data):
                yield Entry(where, problem=f"{name[:80]} is no notebook (.ipynb)", time=time)
                return
            budget.notebooks -= 1
            if budget.notebooks < 0:
                raise UnpackError("more notebooks than anybody hands in")
            yield Entry(where, data, time=time)
        else:
            text = _text(read(MAX_TEXT)) if TEXTS.search(where) else ""
            what = BY_ENDING.get(PurePosixPath(lower).suffix, "")
            yield Entry(
                where, problem=f"{name[:80]} is no notebook (.ipynb)" + (f": it is {what}" if what else ""), time=time, text=text
            )
    except UnpackError as error:
        yield Entry(where, problem=str(error), time=time, broken=True)
        if budget.files < 0 or budget.notebooks < 0:
            raise
    except (OSError, GeneratorExit):
        raise
    except Exception as error:  # a file made to be stumbled over is one student's problem
        yield Entry(
            where, problem=f"{name[:80]} cannot be unpacked ({type(error).__name__}); is it damaged?", time=time, broken=True
        )


def _whole(read: Reader, most: int, name: str) -> bytes:
    data = read(most + 1)
    if len(data) > most:
        raise UnpackError(f"{name[:80]} has more than {most >> 20} MB: clear the outputs and hand it in again")
    return data


def _names(names: str) -> list[str]:
    """The parts of a name in an archive, without what could lead out of it."""
    name = unicodedata.normalize("NFC", names.replace("\\", "/"))
    return [part for part in name.split("/") if part not in ("", ".", "..")]


def _member_name(info: zipfile.ZipInfo) -> str:
    """A member's name; macOS writes UTF-8 without saying so, which is then taken for the letters of old PCs."""
    if not info.flag_bits & 0x800:
        try:
            return info.filename.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return info.filename


def _zip(data: bytes | Path, budget: Budget, prefix: str = "", depth: int = 0) -> Iterator[Entry]:
    """All files in a zip, and in the archives in it."""
    shown = PurePosixPath(prefix).name[:80] or "the zip"
    if isinstance(data, bytes) and data.count(b"PK\x01\x02") > budget.files:  # each takes memory as soon as the zip is opened
        yield Entry(prefix or "zip", problem=f"{shown} holds more files than anybody hands in", broken=True)
        return
    try:
        archive = zipfile.ZipFile(data if isinstance(data, Path) else io.BytesIO(data))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        yield Entry(prefix or "zip", problem=f"{shown} is no zip, or it is damaged", broken=True)
        return
    with archive:
        infos = [info for info in archive.infolist() if info.filename]  # zipfile stumbles over an empty name
        if not infos:
            yield Entry(f"{prefix}/(nothing)" if prefix else "(nothing)", problem=f"{shown} is empty", broken=True)
        folders = {"/".join(_names(_member_name(info))) for info in infos if info.is_dir()}
        full = {"/".join(_names(_member_name(info))).rpartition("/")[0] for info in infos if not info.is_dir()}
        full |= {name.rpartition("/")[0] for name in folders}
        for name in sorted(folders - _with_all_above(full)):
            if name and not JUNK.search(name):
                where = "/".join(part for part in (prefix, name, "(nothing)") if part)
                yield Entry(where, problem="the folder is empty")
        for info in infos:
            parts = _names(_member_name(info))
            where = "/".join([*([prefix] if prefix else []), *parts])
            if info.is_dir() or not parts:
                continue
            try:
                budget.count()
            except UnpackError as error:
                yield Entry(where, problem=f"{shown}: {error}", broken=True)
                return
            if JUNK.search("/".join(parts)):
                yield Entry(where, junk=True)
                continue
            try:
                time = datetime(*info.date_time) if info.date_time[0] > 1980 else None
            except ValueError:
                time = None
            if stat.S_ISLNK(info.external_attr >> 16):
                yield Entry(where, problem=f"{parts[-1][:80]} is a link, and links are not followed", time=time)
                continue
            try:
                yield from _entries(where, _of_zip(archive, info), time, budget, depth)
            except UnpackError:
                return


def _with_all_above(folders: set[str]) -> set[str]:
    """The folders, and all that they lie in."""
    found: set[str] = set()
    for folder in folders:
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _of_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Reader:
    """Reads a member; what a header claims about its size is not believed."""
    name = PurePosixPath(info.filename).name[:80]

    def read(most: int) -> bytes:
        if info.flag_bits & 1:
            raise UnpackError(f"{name} cannot be unpacked: it is protected with a password")
        try:
            with archive.open(info) as file:
                return file.read(most)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError, ValueError, zlib.error) as error:
            raise UnpackError(f"{name} cannot be unpacked ({error}); is it encrypted or cut off?") from None
        except Exception as error:
            raise UnpackError(f"{name} cannot be unpacked ({type(error).__name__})") from None

    return read


def _tar(data: bytes, budget: Budget, prefix: str = "", depth: int = 0) -> Iterator[Entry]:
    """All files in a tar, compressed or not; or the one file in a .gz, .bz2 or .xz."""
    name = PurePosixPath(prefix).name[:80] or "the archive"
    for magic, opener in {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}.items():
        if data.startswith(magic):
            try:
                with opener(io.BytesIO(data)) as file:
                    data = file.read(budget.bytes + 1)
            except (OSError, EOFError, ValueError, MemoryError, zlib.error, lzma.LZMAError) as error:
                yield Entry(prefix or name, problem=f"{name} cannot be unpacked ({error}); is it cut off?", broken=True)
                return
            if len(data) > budget.bytes:
                yield Entry(prefix or name, problem=f"{name} unpacks to more than {budget.bytes >> 20} MB", broken=True)
                return
            if data[257:262] != b"ustar":  # a single file
                inner = re.sub(r"\.(gz|bz2|xz)$", "", prefix, flags=re.IGNORECASE)
                yield from _entries(inner or "notebook.ipynb", lambda most, data=data: data[:most], None, budget, depth)
                return
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                budget.count()
                parts = _names(member.name)
                where = "/".join([*([prefix] if prefix else []), *parts])
                if not parts or member.isdir():
                    continue
                if JUNK.search("/".join(parts)):
                    yield Entry(where, junk=True)
                elif member.issym() or member.islnk():
                    yield Entry(where, problem=f"{parts[-1][:80]} is a link, and links are not followed")
                elif not member.isfile():
                    yield Entry(where, problem=f"{parts[-1][:80]} is no ordinary file")
                else:
                    time = datetime.fromtimestamp(member.mtime).astimezone() if 0 < member.mtime < 2**33 else None
                    yield from _entries(where, _of_tar(archive, member), time, budget, depth)
    except UnpackError as error:
        if budget.files < 0:
            yield Entry(prefix or name, problem=f"{name}: {error}", broken=True)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        yield Entry(prefix or name, problem=f"{name} is no archive, or it is damaged ({error})", broken=True)


def _of_tar(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Reader:
    def read(most: int) -> bytes:
        file = archive.extractfile(member)
        return file.read(most) if file else b""

    return read


def in_archive(path: Path) -> Iterator[Entry]:
    """All files in a class archive, a zip or a tar."""
    with path.open("rb") as file:
        head = file.read(4)
    budget = Budget(MAX_TOTAL)
    if head in (b"PK\x03\x04", b"PK\x05\x06") or path.suffix.lower() == ".zip":
        yield from _zip(path, budget)
    else:
        yield from _tar(path.read_bytes(), budget)


def in_file(path: Path) -> Iterator[Entry]:
    """What one file is, by itself."""
    yield from _entries(
        path.name,
        _of_disk(path),
        datetime.fromtimestamp(path.stat().st_mtime).astimezone(),
        Budget(MAX_STUDENT, files=MAX_FILES_OF_STUDENT),
        0,
    )


def in_folder(folder: Path) -> Iterator[Entry]:
    """All files in a folder, archives in it unpacked, empty folders too. Links are not followed."""
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        if prefix and not folders and not files:
            yield Entry(f"{prefix}(nothing)", problem="the folder is empty")
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        junk = [name for name in folders if JUNK.search(f"{prefix}{name}")]
        folders[:] = sorted(set(folders) - set(links) - set(junk))
        for name in junk:
            yield Entry(f"{prefix}{name}", junk=True)
        for name in sorted([*files, *links]):
            path, where = Path(place) / name, unicodedata.normalize("NFC", f"{prefix}{name}")
            if JUNK.search(where):
                yield Entry(where, junk=True)
                continue
            try:
                facts = path.lstat()
                if stat.S_ISLNK(facts.st_mode):
                    yield Entry(where, problem=f"{name[:80]} is a link, and links are not followed")
                elif not stat.S_ISREG(facts.st_mode):
                    yield Entry(where, problem=f"{name[:80]} is no ordinary file")
                else:
                    yield from _entries(
                        where,
                        _of_disk(path),
                        datetime.fromtimestamp(facts.st_mtime).astimezone(),
                        Budget(MAX_STUDENT, MAX_OF_STUDENT, MAX_FILES_OF_STUDENT),
                        0,
                    )
            except UnpackError:
                pass  # said in an entry of its own
            except OSError as error:
                yield Entry(where, problem=f"{name[:80]} cannot be read ({error.strerror})", broken=True)


def _of_disk(path: Path) -> Reader:
    def read(most: int) -> bytes:
        with path.open("rb") as file:
            return file.read(most)

    return read
