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
# Moodle, "Download all submissions": a folder "Ada Lovelace_12345_assignsubmission_file" (older versions: with _ at the end),
# or, "in folders" switched off, the same words before each file's own name; 12345 is the participant of the grading worksheet.
MOODLE = re.compile(r"^(?P<name>.+?)_(?P<id>\d+)_assignsubmission_")
# Canvas, "Download submissions": flat, "lovelaceada_LATE_123_456_file.ipynb"; 123 is the user's id, 456 the attachment's.
CANVAS = re.compile(r"^(?P<name>[^_]+)_(?P<late>LATE_)?(?P<id>\d+)_(?P<file>\d+)_.")
# Blackboard, "Assignment file download": flat, "Homework 2_alovelace_attempt_2026-11-20-13-05-59_file.ipynb".
BLACKBOARD = re.compile(r"^.*_(?P<id>[^_]+)_attempt_(?P<time>\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)(?P<last>_.*)?")


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
    platform: str = ""  # "Moodle", "Canvas", "Blackboard" where the names of the files say so


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
        raise UnpackError(
            f"{PurePosixPath(info.filename).name} cannot be unpacked ({error}); is it encrypted or cut off?"
        ) from None
    except Exception as error:  # zlib.error and the like
        raise UnpackError(f"{PurePosixPath(info.filename).name} cannot be unpacked ({type(error).__name__})") from None
    if len(data) > most:
        raise UnpackError(f"{PurePosixPath(info.filename).name} unpacks to more than {most >> 20} MB")
    budget.bytes -= len(data)
    return data


Found = tuple[str, bytes | UnpackError | None, datetime | None]
"""Where a file was, its content (or what is wrong with it; None: another kind of file), when it was handed in."""


def _members(data: bytes | Path, budget: _Budget, prefix: str = "", depth: int = 0) -> Iterator[Found]:
    """All files in a zip, and in the zips in it."""
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
            if info.is_dir() or IGNORED.search(name):
                continue
            if not name.lower().endswith((".ipynb", ".zip")):
                yield where, None, None
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
                    yield found, inside, time or its_time  # a student chooses what an inner zip says
                budget.bytes -= before - inner.bytes
            else:
                yield where, content, time


def _files(path: Path) -> Iterator[Found]:
    """All files in a folder, zips in it unpacked. Links are not followed."""
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.is_symlink() or not file.is_file() or IGNORED.search(name):
            continue
        time = datetime.fromtimestamp(file.stat().st_mtime)
        if file.suffix.lower() not in (".ipynb", ".zip"):
            yield name, None, time
            continue
        if file.suffix.lower() == ".zip":
            for where, content, _ in _members(file, _Budget(MAX_STUDENT, 500), name, 1):
                yield where, content, time  # what a student's zip says of times is the student's choice
        elif file.stat().st_size > MAX_FILE:
            yield name, UnpackError(f"the notebook has {file.stat().st_size >> 20} MB"), time
        else:
            yield name, file.read_bytes(), time


def _platform(tops: set[str]) -> str:
    """Which learning platform named what lies at the top: folders or files. What is inside of a student's zip has no say.

    Canvas's names are only believed when all of them fit together: `hw_2_1_x.ipynb` from everybody must not become one student 2.
    """
    if 2 * sum(bool(MOODLE.match(top)) for top in tops) > len(tops):
        return "Moodle"
    if 2 * sum(bool(BLACKBOARD.match(top)) for top in tops) > len(tops):
        return "Blackboard"
    matches = [CANVAS.match(top) for top in tops]
    if not (matches and all(matches)):
        return ""
    names = {(match["id"], match["name"]) for match in matches}
    one_name_each = len(names) == len({student for student, _ in names})
    return "Canvas" if one_name_each and len({match["file"] for match in matches}) == len(matches) else ""


def _student(top: str, platform: str) -> tuple[str, str, bool, datetime | None]:
    """Id, name, late mark and time from the name at the top."""
    match = {"Moodle": MOODLE, "Canvas": CANVAS, "Blackboard": BLACKBOARD}[platform].match(top) if platform else None
    if match is None:
        return re.sub(r"\.(ipynb|zip)$", "", top, flags=re.IGNORECASE), "", False, None
    facts = match.groupdict()
    try:
        time = datetime.strptime(facts["time"], "%Y-%m-%d-%H-%M-%S") if facts.get("time") else None
    except ValueError:
        time = None
    return facts["id"], facts.get("name") or "", bool(facts.get("late")), time


def _common_folders(paths: list[str]) -> int:
    """How many leading folders all paths share: what was put around everything. A folder that is a student's is none."""
    split = [path.split("/")[:-1] for path in paths]
    count = 0
    while len(paths) > 1 and all(len(parts) > count and parts[count] == split[0][count] for parts in split):
        if MOODLE.match(split[0][count]):
            break
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
    nbgrader = path.is_dir() and (path / "submitted").is_dir()  # a course directory: submitted/<student>/<assignment>/
    if nbgrader:
        path = path / "submitted"
    elif path.is_dir():
        files = [file for file in path.rglob("*") if file.suffix.lower() in (".ipynb", ".zip")]
        if len(files) == 1 and files[0].suffix.lower() == ".zip":
            path = files[0]  # a folder with nothing but the platform's zip
    if path.is_dir():
        found = list(_files(path))
    elif path.suffix.lower() == ".ipynb":
        found = [(path.name, path.read_bytes(), datetime.fromtimestamp(path.stat().st_mtime))]
    else:
        found = list(_members(path, _Budget(MAX_TOTAL)))
    notebooks = [where for where, content, _ in found if content is not None]
    if not notebooks:
        raise FileNotFoundError(f"{path} holds no notebook (.ipynb) and no zip with one.")
    folders = 0 if nbgrader else _common_folders(notebooks)
    platform = "" if nbgrader else _platform({where.split("/")[folders] for where in notebooks})
    by_student: dict[str, Submission] = {}
    for where, content, time in found:
        parts = where.split("/")[folders:]
        if content is None and len(parts) < (1 if platform else 2):
            continue  # a file that lies beside the submissions
        student, name, late, stamp = _student(parts[0], platform)
        one = by_student.setdefault(student, Submission(student, name, platform=platform))
        if content is None:
            one.problem = one.problem or f"{parts[-1][:80]} is no notebook (.ipynb)"
            continue
        one.late |= late
        when = stamp or time
        if when and (one.time is None or when > one.time):
            one.time = when
        if isinstance(content, UnpackError):
            one.problem = str(content)
        else:
            one.files.append((where, content))
    for one in by_student.values():
        if one.files and one.problem.endswith("is no notebook (.ipynb)"):
            one.problem = ""  # a picture or a table beside the notebook
    return [by_student[student] for student in sorted(by_student)]
