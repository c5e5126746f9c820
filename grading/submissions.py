"""Finds the submissions, one for each student, in what a learning platform or an instructor collected.

A folder, an archive from a platform, or an nbgrader course. `archives` opens the files, `platforms` reads whose they are. Every
file that was handed in ends in a submission: as a notebook, or with the reason why it cannot be graded.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import yaml

from . import platforms
from .archives import Entry, in_archive, in_file, in_folder
from .platforms import Owner, owner, plain, platform_of, read_time, without_endings

# What instructors and platforms put beside the submissions; named when it is left out.
BESIDE = re.compile(
    r"^(readme[^/]*|licen[cs]e[^/]*|index\.html?|[^/]*\.(csv|xlsx?|db|sqlite)|expected\.json|seed\.txt|submission_metadata\.yml|nbgrader_config\.py)$",
    re.IGNORECASE,
)
COPY = re.compile(  # what browsers, Jupyter, systems and clouds call a second file of one name, before the ending
    r"^(?P<base>.+?)( ?\((?P<one>\d+)\)|-Copy(?P<two>\d+)| [-\u2013] (Copy|Kopie|Copie)( \((?P<three>\d+)\))?"
    r"| copy( (?P<four>\d+))?|-(DESKTOP|LAPTOP)-\w+| \([^()]*conflict[^()]*\)|\.sync-conflict-[\w-]+)$"
)
COPY_BEFORE = re.compile(r"^(Copy of|Kopie von|Copie de) (?P<base>.+)$")
HOMEWORK = "home ?work|assignment|notebook|untitled|exercise|submission|solution|abgabe"
NOBODY = re.compile(  # what lessons and versions are called: what is left of a name is a person's
    rf"(hw|{HOMEWORK}|lesson|week|lab|task|aufgabe|blatt|übung"
    r"|devoir|tarea|final|draft|old|new|backup|version|v(?=\d))(s|e?n)?[\W_]*\d*|(?<!\d)0?\d(?!\d)|[\W_]+"
    r"|chest_xray_classification|diagnostic_model_evaluation|brain_tumor_segmentation",
    re.IGNORECASE,
)
GENERIC = re.compile(rf"^\d\d[_ -]|hw(?![^\W\d_])|{HOMEWORK}", re.IGNORECASE)


def without_copy(name: str) -> str:
    """`ada (1)` and `ada-Copy1` → `ada`."""
    match = COPY.match(name)
    return match["base"] if match else name


@dataclass
class Submission:
    """What one student handed in."""

    student: str  # id, as the platform has it
    name: str = ""
    files: list[tuple[str, bytes]] = field(default_factory=list)  # notebooks: (where it was, content), the newest last
    time: datetime | None = None  # of the newest
    late: bool = False  # says the platform, of the newest
    problem: str = ""  # why there is nothing to grade, or what else was there
    platform: str = ""  # "Moodle", "Canvas", … where the names of the files say so
    times: dict[str, datetime | None] = field(default_factory=dict)  # of each file
    late_files: set[str] = field(default_factory=set)  # the files of which the platform says that they are late
    attempts: dict[str, int] = field(
        default_factory=dict
    )  # file → number of the attempt, from 1, where the platform tells them apart

    def take(self, other: "Submission") -> None:
        """Add what the same student handed in under another name."""
        self.times |= other.times
        self.late_files |= other.late_files
        self.attempts |= other.attempts
        self.files = sorted([*self.files, *other.files], key=lambda file: _comparable(self.times.get(file[0])))
        self.problem = "; ".join(filter(None, [self.problem, other.problem]))
        self.settle()

    def settle(self) -> None:
        """Take time and lateness from the newest file."""
        if self.files:
            newest = self.files[-1][0]
            self.time, self.late = self.times.get(newest), newest in self.late_files


@dataclass
class _Found:
    """A student's entries while they are collected."""

    owner: Owner
    entries: list[tuple[Entry, datetime | None, bool, int]] = field(default_factory=list)  # with time, late, order
    folder: bool = False  # a folder of that name: two people's who are called alike, say


def find_submissions(path: Path, known: Collection[str] = (), notes: list[str] | None = None) -> list[Submission]:
    """All submissions in a folder or archive, one per student, sorted by student.

    Parameters
    ----------
    path : Path
    known : collection of str, optional
        Ids and names on the class list: what is called like one of them is a student's.
    notes : list of str, optional
        What was left out or taken for something is added here.

    Raises
    ------
    FileNotFoundError
        When the path does not exist or holds no notebook at all.
    """
    path, notes = Path(path), [] if notes is None else notes
    known = {plain(one).casefold() for one in known}
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    entries, course = _read(path)
    if not any(entry.notebook is not None or entry.broken for entry in entries):
        raise FileNotFoundError(f"{path} holds no notebook (.ipynb) and no zip with one.")
    folders = 0 if course else _wrapper(path, entries, known, notes)
    cut = [(entry.where.split("/")[folders:], entry) for entry in entries]
    cut = [(parts, entry) for parts, entry in cut if parts]
    cut = cut if course else _without_lessons(cut, known, notes)
    meaningful = [parts for parts, entry in cut if (entry.notebook is not None or entry.broken)]
    tops = {parts[0] for parts in meaningful} if meaningful else {parts[0] for parts, _ in cut}
    sakai = any(len(parts) > 2 and parts[1] == platforms.SAKAI_FILES for parts, _ in cut)
    platform = "" if course else "Sakai" if sakai else platform_of(tops)
    found = _by_student(cut, platform, course, known, notes)
    if not platform:
        _join_copies(found, known)
    submissions = [one for key in found for one in _submissions(found[key], platform)]
    for one in submissions if course else ():
        one.platform = "nbgrader"
    return sorted(submissions, key=lambda one: one.student)


def _read(path: Path) -> tuple[list[Entry], bool]:
    """The entries, and whether they are those of an nbgrader course (student/assignment/files)."""
    if path.is_dir():
        if (path / "submitted").is_dir():
            return list(in_folder(path / "submitted")), True
        entries = list(in_folder(path))
        files = [file for file in path.rglob("*") if file.is_file() and not BESIDE.match(file.name) and file.name[:1] != "."]
        if files and all(file.suffix.lower() in (".zip", ".tgz", ".gz", ".tar") for file in files):
            # a folder with nothing but what the platform has made, perhaps downloaded again later
            wheres = [plain(file.relative_to(path).as_posix()) for file in files]
            own = all(_is_platforms_own(entries, where) for where in wheres)
            if own or len(files) == 1:
                inside = [entry for file in files for entry in in_archive(file)]
                if own or len({entry.where.split("/")[0] for entry in inside if entry.notebook is not None or entry.broken}) > 3:
                    return inside, False
        stamps = [entry.where for entry in entries if re.fullmatch(r"[^/]+/[^/]+/timestamp\.txt", entry.where)]
        students = {entry.where.split("/")[0] for entry in entries if entry.notebook is not None}
        return entries, path.name == "submitted" or 2 * len({where.split("/")[0] for where in stamps}) > len(students)
    if path.suffix.lower() in (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz") and not path.name.lower().endswith(".ipynb.gz"):
        entries = list(in_archive(path))
        marks = [re.match(r"(?:[^/]+/)?submitted/", entry.where) for entry in entries if entry.notebook is not None]
        if marks and all(marks):
            inside = [(entry, re.match(r"(?:[^/]+/)?submitted/", entry.where)) for entry in entries]
            return [_moved(entry, match.end()) for entry, match in inside if match], True
        return entries, False
    return list(in_file(path)), False


def _is_platforms_own(entries: list[Entry], archive: str) -> bool:
    """Whether what lies at the top of an archive in the folder, or one below, is named by a platform."""
    inside = [
        entry.where.removeprefix(f"{archive}/") for entry in entries if entry.where.startswith(f"{archive}/") and not entry.junk
    ]
    tops = {part for where in inside for part in where.split("/")[:2]}
    return any(p.search(top) for top in tops for p in (platforms.MOODLE, platforms.BLACKBOARD, platforms.BRIGHTSPACE))


def _moved(entry: Entry, start: int) -> Entry:
    return Entry(entry.where[start:], entry.notebook, entry.problem, entry.time, entry.text, entry.junk, entry.broken)


def _wrapper(path: Path, entries: list[Entry], known: set[str], notes: list[str]) -> int:
    """How many leading folders all share: what was put around everything. A folder that is a student's is none."""
    wheres = [entry.where for entry in entries if entry.notebook is not None or entry.broken]
    alone = wheres[0] if len(wheres) == 1 else ""
    if alone:
        wheres = [entry.where for entry in entries if not entry.junk and not BESIDE.match(entry.where)]
    split = [where.split("/")[:-1] for where in wheres]
    count = 0
    while len(wheres) > 1 and all(len(parts) > count and parts[count] == split[0][count] for parts in split):
        folder = split[0][count]
        patterns = (platforms.MOODLE, platforms.BRIGHTSPACE, platforms.SAKAI, platforms.GRADESCOPE, platforms.EXCHANGE)
        if any(pattern.search(folder) for pattern in patterns) or (alone and alone.count("/") == count + 1):
            break
        below = {where.split("/")[count + 1] for where in wheres}
        if _is_one_student(path, folder, below, [parts[count + 1 :] for parts in split], known):
            notes.append(
                f"All notebooks lie in the folder {folder}, taken for one student's. If it is the class, name that folder: "
                f"python -m grading {path / folder}"
            )
            break
        count += 1
    return count


def _is_one_student(path: Path, folder: str, tops: set[str], deeper: list[list[str]], known: set[str]) -> bool:
    """Whether the folder around everything is a student's, and not the class's."""
    if plain(folder).casefold() in known:
        return True
    names = {plain(without_endings(top)).casefold() for top in tops}
    if names & known or platform_of(tops) or plain(folder).casefold() in (path.stem.casefold(), path.name.casefold()):
        return False
    if without_endings(folder) != folder:  # an archive is a student's, if it does not hold a whole class
        return len(tops) <= 5
    if any(deeper):  # folders below: a copy of the course is a student's, folders of students are a class
        return bool({"student", "lessons", "grading"} & tops)
    bases = {without_copy(name) for name in names}
    alike = len(bases) == 1 or any(re.match(r"\d\d[_ -]", base) for base in bases) or all(GENERIC.search(base) for base in bases)
    return alike or (path.is_dir() and len(tops) <= 3 and not _is_lesson(folder))


def _is_lesson(folder: str) -> bool:
    """Whether a folder is called as a lesson, not as a person: `hw2`, `Week 3`. A number may be an id, and Blatt a name."""
    return (
        not NOBODY.sub("", folder)
        and bool(re.search(r"[^\W\d_]", folder))
        and bool(re.search(rf"\d|{GENERIC.pattern}", folder, re.I))
    )


def _without_lessons(cut: list[tuple[list[str], Entry]], known: set[str], notes: list[str]) -> list[tuple[list[str], Entry]]:
    """Students' paths without the lessons' folders that they lie in: `hw1/ada.ipynb` and `hw2/ada/02.ipynb` are ada's."""
    below: dict[str, set[str]] = defaultdict(set)
    for parts, entry in cut:
        if len(parts) > 1 and (entry.notebook is not None or entry.broken):
            below[parts[0]].add(plain(without_endings(parts[1])))
    lessons = [top for top in below if _is_lesson(top) and plain(top).casefold() not in known and not platform_of(below)]
    lessons = [top for top in lessons if 2 * sum(bool(NOBODY.sub("", name)) for name in below[top]) > len(below[top])]
    if lessons:
        notes.append(f"Taken for lessons' folders, with one student's in each file or folder in them: {', '.join(lessons[:10])}")
    return [(parts[1:] if parts[0] in lessons and len(parts) > 1 else parts, entry) for parts, entry in cut]


def _by_student(
    cut: list[tuple[list[str], Entry]], platform: str, course: bool, known: set[str], notes: list[str]
) -> dict[str, _Found]:
    """Student's key → what is there of them."""
    receipts, stamps, metadata = {}, {}, {}
    for parts, entry in cut:
        where = "/".join(parts)
        if platform == "Blackboard" and len(parts) == 1 and entry.text and (match := platforms.BLACKBOARD.match(parts[0])):
            said = platforms.RECEIPT.search(entry.text)
            prefix = parts[0][: match.end("time")]
            if match["last"] == ".txt" and said and re.search(rf"_{re.escape(said['id'])}_attempt_[\d-]+$", prefix):
                receipts[prefix] = (said["id"], said["name"])
        elif parts[-1] == "timestamp.txt" and len(parts) == (3 if course else 2) and (course or platform in ("Sakai", "nbgrader")):
            stamps[tuple(parts[:-1])] = read_time(entry.text)
        elif where == "submission_metadata.yml" and platform == "Gradescope":
            metadata = _gradescope(entry.text)
    if platform == "Blackboard":
        receipts = platforms.blackboard_owners({parts[0] for parts, _ in cut}, known) | receipts
    title = platforms.google_title({parts[0] for parts, _ in cut}) if platform == "Google Classroom" else ""
    found: dict[str, _Found] = {}
    left_out = set()
    for parts, entry in cut:
        top, alone = parts[0], len(parts) == 1
        if (alone and entry.junk) or (alone and BESIDE.match(top) and entry.notebook is None and not _is_platforms(top, platform)):
            left_out |= set() if entry.junk else {top}
            continue
        if platform == "Sakai" and len(parts) > 2 and parts[1] != platforms.SAKAI_FILES:
            continue  # the instructor's
        owners = metadata.get(top) or [owner(top, platform, receipts, title)]
        for one in owners:
            key = one.student.lower()  # not casefold: Weiß and Weiss are two
            mine = found.setdefault(key, _Found(one))
            mine.folder |= not alone and without_endings(top) == top
            if tuple(parts[:2]) in stamps or tuple(parts[:1]) in stamps:
                time = stamps.get(tuple(parts[:2]), stamps.get(tuple(parts[:1])))
            elif course or platform in ("Canvas", "Sakai", "nbgrader"):
                time = one.time  # the time of the file is that of the copy
            else:
                time = one.time or entry.time
            mine.entries.append((entry, time, one.late, one.order))
    if left_out:
        notes.append(f"Left out, as no submissions: {', '.join(sorted(left_out)[:10])}{' …' if len(left_out) > 10 else ''}")
    return found


def _is_platforms(top: str, platform: str) -> bool:
    pattern = {
        "Moodle": platforms.MOODLE,
        "Canvas": platforms.CANVAS,
        "Blackboard": platforms.BLACKBOARD,
        "Brightspace": platforms.BRIGHTSPACE,
    }
    return platform in pattern and bool(pattern[platform].search(top))


def _gradescope(text: str) -> dict[str, list[Owner]]:
    """Folder → whose it is: each of a group."""
    try:
        content = yaml.safe_load(text) or {}
        found: dict[str, list[Owner]] = {}
        for folder, facts in content.items():
            time = facts.get(":created_at")
            for person in facts.get(":submitters") or []:
                student = str(person.get(":sid") or person.get(":email") or person.get(":name") or folder)
                made = Owner(
                    plain(student), plain(str(person.get(":name") or "")), time=time if isinstance(time, datetime) else None
                )
                found.setdefault(folder, []).append(made)
        return found
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, RecursionError):
        return {}


def _join_copies(found: dict[str, _Found], known: set[str]) -> None:
    """`ada (1).ipynb` is ada's, beside `ada.ipynb` or alone: a browser numbers what is downloaded again.

    Not where the name says nobody, not a folder, and not what the class list has as somebody's. Several without an `ada` are
    several people: Windows numbers files that are renamed together.
    """
    copies = {key: COPY.match(one.owner.student) or COPY_BEFORE.match(one.owner.student) for key, one in found.items()}
    alike = Counter(match["base"].lower() for match in copies.values() if match)
    for key in sorted(found, key=len, reverse=True):  # ada (1) (1) before ada (1)
        if found[key].folder or key in known:
            continue
        match = copies[key]
        base = match["base"].lower() if match else ""
        if match and (base in found or base in known or alike[base] == 1) and not GENERIC.search(base):
            found.setdefault(base, _Found(Owner(match["base"])))
            numbers = match.groupdict()
            number = next((int(numbers[name]) for name in ("one", "two", "three", "four") if numbers.get(name)), 1)
            found[base].entries += [(entry, time, late, number) for entry, time, late, _ in found[key].entries]
            del found[key]


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def _comparable(time: datetime | None) -> float:
    try:
        return time.timestamp() if time else 0.0
    except (OverflowError, OSError, ValueError):
        return 0.0


def _submissions(found: _Found, platform: str) -> list[Submission]:
    """A student's submission: notebooks from the oldest to the newest by what the platform says, and what else there was."""
    mine = Submission(found.owner.student, found.owner.name, platform=platform)
    if found.owner.problem:
        mine.problem = found.owner.problem
        return [mine]
    entries = sorted(
        found.entries,
        key=lambda item: (_comparable(item[1]), item[3], -platforms.lies_deep(item[0].where), _natural(item[0].where)),
    )
    attempts: dict[datetime | None, int] = defaultdict(lambda: len(attempts) + 1)
    for entry, time, late, _ in entries:
        if entry.notebook is None:
            continue
        if platform in ("Blackboard", "Brightspace", "nbgrader"):
            mine.attempts[entry.where] = attempts[time]
        mine.files.append((entry.where, entry.notebook))
        mine.times[entry.where] = time
        mine.late_files |= {entry.where} if late else set()
    others = [(entry, time, late) for entry, time, late, _ in entries if entry.notebook is None and not entry.junk]
    if mine.files:
        mine.settle()
        mine.problem = _reasons([entry for entry, *_ in others if entry.broken])
    else:
        mine.time, mine.late = next(((time, late) for _, time, late in reversed(others) if time or late), (None, False))
        files = [entry for entry, *_ in others if not entry.text]
        mine.problem = _reasons(files) or (
            "No file was handed in." if others else "It holds only automatic copies of a computer's, no notebook (.ipynb)."
        )
    return [mine]


def _reasons(entries: list[Entry]) -> str:
    reasons = list(dict.fromkeys(entry.problem for entry in entries))
    return "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more files" if len(reasons) > 5 else "")
