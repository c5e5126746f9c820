"""Finds the submissions: in a folder, a zip from a learning platform, zips inside of zips, or an nbgrader course.

Names inside of zips are never used as paths, only read for the student's name, so no member can be written anywhere.
What is unpacked is counted while it is unpacked: a zip bomb ends as one student's problem.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

MAX_FILE = 64 << 20  # bytes of one notebook, unpacked
MAX_TOTAL = 4 << 30  # bytes of all that comes out of one class zip
MAX_STUDENT = 256 << 20  # bytes of all that comes out of one student's zip
MAX_MEMBERS = 20_000
MAX_DEPTH = 3
IGNORED = re.compile(r"(^|/)(__MACOSX|\.ipynb_checkpoints|\.git|\.venv)(/|$)|(^|/)\._")
CANVAS = re.compile(r"^(?P<name>[^_]+?)_(?P<late>LATE_)?(?P<id>\d+)_\d+_")
MOODLE = re.compile(r"^(?P<name>.+?)_(?P<id>\d+)_assignsubmission_")
BLACKBOARD = re.compile(r"^.+?_(?P<id>[^_]+)_attempt_(?P<time>\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)")


class UnpackError(ValueError):
    """A zip that cannot be unpacked; the message is for the student and the instructor."""


@dataclass
class Submission:
    """What one student handed in."""

    student: str  # id, as the platform has it
    name: str = ""
    files: list[tuple[str, bytes]] = field(default_factory=list)  # notebooks: (where it was, content)
    time: datetime | None = None
    late: bool = False  # says the platform
    problem: str = ""  # why there is nothing to grade


@dataclass
class _Budget:
    bytes: int
    members: int = MAX_MEMBERS


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget) -> bytes:
    """A member's bytes; what a header claims about its size is not believed."""
    most = min(MAX_FILE if info.filename.lower().endswith(".ipynb") else MAX_STUDENT, budget.bytes)
    try:
        with archive.open(info) as file:
            data = file.read(most + 1)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError, ValueError) as error:
        raise UnpackError(f"{PurePosixPath(info.filename).name} cannot be unpacked ({error}); is it encrypted or cut off?") from None
    except Exception as error:  # zlib.error and the like
        raise UnpackError(f"{PurePosixPath(info.filename).name} cannot be unpacked ({type(error).__name__})") from None
    if len(data) > most:
        raise UnpackError(f"{PurePosixPath(info.filename).name} unpacks to more than {most >> 20} MB")
    budget.bytes -= len(data)
    return data


def _members(data: bytes | Path, budget: _Budget, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, bytes | UnpackError, datetime | None]]:
    """All notebooks in a zip, and in the zips in it: (path, content or what is wrong, time)."""
    try:
        archive = zipfile.ZipFile(data if isinstance(data, Path) else io.BytesIO(data))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        yield prefix or "zip", UnpackError("the file is no zip, or it is damaged"), None
        return
    with archive:
        for info in archive.infolist():
            name = info.filename.replace("\\", "/")
            parts = [part for part in name.split("/") if part not in ("", ".", "..")]
            where = "/".join([*([prefix] if prefix else []), *parts])
            if info.is_dir() or IGNORED.search(name) or not name.lower().endswith((".ipynb", ".zip")):
                continue
            budget.members -= 1
            if budget.members < 0:
                yield where, UnpackError(f"more than {MAX_MEMBERS} files"), None
                return
            try:
                time = datetime(*info.date_time) if info.date_time[0] > 1980 else None
            except ValueError:
                time = None
            inner_zip = name.lower().endswith(".zip")
            try:
                content = _read(archive, info, budget)
                if inner_zip and depth + 1 >= MAX_DEPTH:
                    raise UnpackError("zips inside of zips inside of zips")
            except UnpackError as error:
                yield where, error, time
                continue
            if inner_zip:
                inner = _Budget(min(MAX_STUDENT, budget.bytes), 500)
                before = inner.bytes
                for found, inside, its_time in _members(content, inner, where, depth + 1):
                    yield found, inside, its_time or time
                budget.bytes -= before - inner.bytes
            else:
                yield where, content, time


def _files(path: Path) -> Iterator[tuple[str, bytes | UnpackError, datetime | None]]:
    """All notebooks in a folder, zips in it unpacked. Links are not followed."""
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.is_symlink() or not file.is_file() or IGNORED.search(name) or file.suffix.lower() not in (".ipynb", ".zip"):
            continue
        time = datetime.fromtimestamp(file.stat().st_mtime)
        if file.suffix.lower() == ".zip":
            for where, content, inner in _members(file, _Budget(MAX_TOTAL), name):
                yield where, content, inner or time
        elif file.stat().st_size > MAX_FILE:
            yield name, UnpackError(f"the notebook has {file.stat().st_size >> 20} MB"), time
        else:
            yield name, file.read_bytes(), time


def _student(path: str, folders: int) -> tuple[str, str, bool, datetime | None]:
    """Id, name, late mark and time from where a notebook was found; `folders` are common to all."""
    parts = path.split("/")[folders:]
    for part in parts[:-1] or parts:
        if match := MOODLE.match(part):
            return match["id"], match["name"], False, None
    for part in parts:
        if match := BLACKBOARD.match(part):
            return match["id"], "", False, datetime.strptime(match["time"], "%Y-%m-%d-%H-%M-%S")
        if match := CANVAS.match(part):
            return match["id"], match["name"], bool(match["late"]), None
    if "submitted" in path.split("/")[:-1]:
        rest = path.split("/")[path.split("/").index("submitted") + 1 :]
        return rest[0], "", False, None
    return re.sub(r"\.(ipynb|zip)$", "", parts[0], flags=re.IGNORECASE), "", False, None


def _common_folders(paths: list[str]) -> int:
    """How many leading folders all paths share (the folder that a platform put around everything)."""
    split = [path.split("/")[:-1] for path in paths]
    count = 0
    while len(paths) > 1 and all(len(parts) > count and parts[count] == split[0][count] for parts in split):
        count += 1
    return count


def find_submissions(path: Path) -> list[Submission]:
    """All submissions in a folder or zip, one per student, sorted by student.

    Raises
    ------
    FileNotFoundError
        When the path does not exist or holds no notebook at all.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if path.is_dir() and (path / "submitted").is_dir():
        path = path / "submitted"  # an nbgrader course
    if path.is_dir():
        found = list(_files(path))
    elif path.suffix.lower() == ".ipynb":
        found = [(path.name, path.read_bytes(), datetime.fromtimestamp(path.stat().st_mtime))]
    else:
        found = list(_members(path, _Budget(MAX_TOTAL)))
    if not found:
        raise FileNotFoundError(f"{path} holds no notebook (.ipynb) and no zip with one.")
    folders = _common_folders([where for where, _, _ in found])
    by_student: dict[str, Submission] = {}
    for where, content, time in found:
        student, name, late, stamp = _student(where, folders)
        one = by_student.setdefault(student, Submission(student, name))
        one.late |= late
        when = stamp or time
        if when and (one.time is None or when > one.time):
            one.time = when
        if isinstance(content, UnpackError):
            one.problem = str(content)
        else:
            one.files.append((where, content))
    return [by_student[student] for student in sorted(by_student)]
