"""Whose file it is: what learning platforms write into the names of what they hand out.

A platform's own words decide, never what a student can type. Where a student's part could be read as the platform's, the
name is flagged and nobody is graded under it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from os.path import commonprefix
from pathlib import PurePosixPath
from zoneinfo import ZoneInfo

# Moodle, "Download all submissions": a folder "Ada Lovelace_12345_assignsubmission_file" (older versions: with _ at the end),
# or, "in folders" switched off, the same words before each file's own name; 12345 is the participant of the grading worksheet.
MOODLE = re.compile(r"_(?P<id>\d+)_assignsubmission_")
# Canvas, "Download submissions": flat, "lovelaceada_LATE_123_456_file.ipynb"; 123 is the user's id, 456 the attachment's.
CANVAS = re.compile(r"^(?P<name>[^_]+)_(?P<late>(?i:LATE)_)?(?P<id>\d+)_(?P<file>\d+)_.")
# Blackboard, "Assignment file download": flat, "Homework 2_alovelace_attempt_2026-11-20-13-05-59_file.ipynb", and for each
# attempt a text without the last part. The first match is Blackboard's; whatever follows it is the name of the student's file.
BLACKBOARD = re.compile(r"^.*?_(?P<id>[^_]+)_attempt_(?P<time>\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)(?P<last>_.*|\.txt$|$)", re.DOTALL)
RECEIPT = re.compile(r"^Name:\s*(?P<name>.*?)\s*\((?P<id>[^()]+)\)\s*$", re.MULTILINE)
# Brightspace: "123456-7890 - Ada Lovelace - Nov 20, 2026 105 PM", a folder, or before " - " and each file's own name.
BRIGHTSPACE = re.compile(r"^(?P<id>\d+)-\d+ - (?P<name>.+?) - (?=[^-]*\d{4})(?P<rest>.*)$", re.DOTALL)
BRIGHTSPACE_TIME = re.compile(r"(?:^| - )(?P<date>[^-]*\d{4}|\d{4}-\d\d-\d\d),? (?P<clock>\d{3,4})(?: (?P<half>[AP]M))?(?= - |$)")
# Sakai: a folder "Lovelace, Ada(alovelace)" with the files in "Submission attachment(s)" and a "timestamp.txt" beside it.
SAKAI = re.compile(r"^(?P<name>[^()]+)\((?P<id>[^()]+)\)$")
SAKAI_FILES = "Submission attachment(s)"
# Gradescope: a folder "submission_98765" for each, and submission_metadata.yml that says whose they are.
GRADESCOPE = re.compile(r"^submission_(?P<id>\d+)$")
# nbgrader's exchange: "ada+homework+2026-11-20 12:00:00 UTC", later versions with "+" and random letters at the end.
EXCHANGE = re.compile(r"^(?P<id>[^+]+)\+[^+]+\+(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^+]*)(\+.*)?$")

ENDINGS = re.compile(
    r"\.(ipynb|json|txt|zip|tar|tgz|tbz2?|txz|gz|bz2|xz|7z|rar|py|html?|pdf|docx?|odt|rtf|md|pages|png|jpe?g|xlsx?|gdoc|url|webloc|lnk|part|download)$",
    re.IGNORECASE,
)
# What editors and downloads put behind a notebook's name: "ada.ipynb.bak", "ada.ipynb~", "ada.ipynb (1)".
BACKUP = re.compile(r"^(?P<base>.+)\.ipynb(?P<number> \(\d+\))?(?P<old>~|\.[A-Za-z]{1,8})?$", re.IGNORECASE)
COPIED = re.compile(
    r"^(?:Copy of )?(?P<title>.+?)(?: \((?P<number>\d+)\))?$", re.DOTALL
)  # Google's second and later copies of one file


@dataclass(frozen=True)
class Owner:
    """Whose a file is, as its name says."""

    student: str
    name: str = ""
    late: bool = False
    time: datetime | None = None
    order: int = 0  # among files of one time: the platform's number of the file
    problem: str = ""  # why the name decides nothing


def plain(text: str) -> str:
    """A name as it is compared: umlauts in one piece (macOS takes them apart), no blanks around."""
    return unicodedata.normalize("NFC", text).strip()


def without_endings(name: str) -> str:
    """`bob.ipynb.json` → `bob`, `x.tar.gz` → `x`, `bob.ipynb (1).json` → `bob (1)`, `bob.ipynb.bak` → `bob`."""
    while (shorter := ENDINGS.sub("", name)) != name and shorter:
        name = shorter
    match = BACKUP.match(name)
    return f"{match['base']}{match['number'] or ''}" if match else name


def read_time(text: str) -> datetime | None:
    """nbgrader's "2026-11-25 10:00:00[.123456] UTC" or Sakai's "20261125100000000"; None where it is neither."""
    text = text.strip()
    sakai = re.fullmatch(r"(\d{14})\d{0,3}", text)
    if sakai:
        return _time(sakai[1], "%Y%m%d%H%M%S")
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)[ T](\d\d[:-]\d\d[:-]\d\d)(?:\.\d+)?\s*([A-Za-z_/]+|[+-]\d\d:?\d\d)?", text)
    if not match:
        return None
    found = _time(f"{match[1]} {match[2].replace('-', ':')}", "%Y-%m-%d %H:%M:%S")
    zone = match[3]
    if found is None or not zone:
        return found
    if zone in ("UTC", "GMT", "Z"):
        return found.replace(tzinfo=UTC)
    if zone[0] in "+-":
        return datetime.strptime(f"{found:%Y-%m-%d %H:%M:%S} {zone}", "%Y-%m-%d %H:%M:%S %z")
    try:
        return found.replace(tzinfo=ZoneInfo(zone))
    except (OSError, ValueError):
        return None


def _time(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)
    except ValueError:
        return None


def platform_of(tops: Iterable[str]) -> str:
    """Which platform named what lies at the top, folders or files; "" for none. What is inside of a student's zip has no say.

    Canvas's names are only believed when they fit together: `hw_2_1_x.ipynb` from everybody must not become one student 2.
    """
    tops = set(tops)
    for platform, pattern in {
        "Moodle": MOODLE,
        "Blackboard": BLACKBOARD,
        "Brightspace": BRIGHTSPACE,
        "Gradescope": GRADESCOPE,
        "nbgrader": EXCHANGE,
    }.items():
        if 2 * sum(bool(pattern.search(top)) for top in tops) > len(tops):
            return platform
    matches = [match for match in map(CANVAS.match, tops) if match]
    mailed = len(tops) - len(matches)  # and put beside Canvas's, whose numbers are long
    long = all(len(match["id"]) > 2 and len(match["file"]) > 3 for match in matches)
    if matches and (not mailed or (long and mailed < len(matches))):
        names = {(match["id"], match["name"]) for match in matches}
        one_name_each = len(names) == len({student for student, _ in names})
        if one_name_each and len({match["file"] for match in matches}) == len(matches):
            return "Canvas"
    return "Google Classroom" if google_title(tops) else ""


def blackboard_owners(tops: Iterable[str], known: set[str]) -> dict[str, tuple[str, str]]:
    """Where receipts are missing: names up to the time → (id, ""). `HW_2_a_b_attempt_…` is b's, a_b's or 2_a_b's.

    What all names begin with is the title, unless the class list knows better.
    """
    heads = {match[0][: match.end("time")]: top[: match.end("id")] for top in tops if (match := BLACKBOARD.match(top))}
    begin = commonprefix(list(heads.values()))  # noqa: RUF071 (letters are meant, not folders)
    title = begin.rpartition("_")[0] if len(set(heads.values())) > 1 else ""
    found = {}
    for prefix, head in heads.items():
        rest = head[len(title) + 1 :] if title else head.rpartition("_")[2]
        parts = head.split("_")
        fits = [one for i in range(1, len(parts)) if plain(one := "_".join(parts[i:])).casefold() in known]
        found[prefix] = (rest if rest in fits or not fits else fits[0], "")
    return found


def google_title(tops: Iterable[str]) -> str:
    """What all file names have in common beside " - ": Google Classroom calls a copy "Ada Lovelace - homework"; "" if nothing."""
    halves = [half for top in tops for half in set(_halves(top))]
    if any(re.match(r"\d{4}-\d\d-\d\d", half) for half in halves):
        return ""  # times behind the names, as others write them: no title
    title, count = Counter(halves).most_common(1)[0] if halves else ("", 0)
    return title if count > 1 and 2 * count > len(set(tops)) else ""


def _halves(top: str) -> list[str]:
    stem = without_endings(top)
    first, last = stem.partition(" - "), stem.rpartition(" - ")
    return [COPIED.match(half)["title"] for half in (first[0], first[2], last[0], last[2]) if " - " in stem and half]


def owner(top: str, platform: str, receipts: dict[str, tuple[str, str]] | None = None, title: str = "") -> Owner:
    """Whose a file is, from the name at the top.

    Parameters
    ----------
    top : str
        Name of the folder or file at the top.
    platform : str
        From `platform_of`.
    receipts : dict of str to (id, name), optional
        What Blackboard's texts say, by the part of the name that they share with the files of the attempt.
    title : str, optional
        What Google Classroom's names have in common.
    """
    named = None
    if platform == "Moodle":
        ids = [match["id"] for match in MOODLE.finditer(top)]
        if len(set(ids)) > 1:
            return Owner(
                plain(without_endings(top)),
                problem=f"The name fits participants {ids[0]} and {ids[-1]}, and a student may have chosen a part of it. "
                "Graded under neither: look in Moodle whose it is, rename it, and grade again",
            )
        if ids and top[: MOODLE.search(top).start()]:
            named = Owner(ids[0], plain(top[: MOODLE.search(top).start()]))
    elif platform == "Canvas" and (match := CANVAS.match(top)):
        named = Owner(match["id"], plain(match["name"]), bool(match["late"]), order=int(match["file"]))
    elif platform == "Blackboard" and (match := BLACKBOARD.match(top)):
        student, name = (receipts or {}).get(top[: match.end("time")], (match["id"], ""))
        named = Owner(plain(student), plain(name), time=_time(match["time"], "%Y-%m-%d-%H-%M-%S"))
    elif platform == "Brightspace" and (match := BRIGHTSPACE.match(top)):
        times = [time for found in BRIGHTSPACE_TIME.finditer(f" - {match['rest']}") if (time := _brightspace_time(found))]
        named = Owner(match["id"], plain(match["name"]), time=max(times, default=None))
    elif platform == "nbgrader" and (match := EXCHANGE.match(top)):
        named = Owner(plain(match["id"]), time=read_time(match["time"]))
    elif platform == "Sakai" and (match := SAKAI.match(top)):
        named = Owner(plain(match["id"]), plain(match["name"]))
    elif platform == "Google Classroom" and title in _halves(top):
        stem, number = without_endings(top), 0
        for (name, _, half), behind in ((stem.rpartition(" - "), True), (stem.partition(" - "), False)):
            name, half = (name, half) if behind else (half, name)
            if COPIED.match(half)["title"] == title:
                number = int(COPIED.match(half)["number"] or 0)
                break
        name = name.removeprefix("Copy of ")
        named = Owner(plain(name), plain(name), order=number)
    old = BACKUP.match(top)
    return named or Owner(
        plain(without_endings(top)) or plain(top), order=-1 if old and old["old"] and not ENDINGS.search(top) else 0
    )


def _brightspace_time(found: re.Match[str]) -> datetime | None:
    clock = found["clock"].zfill(4)
    half, hour = found["half"], "%I" if found["half"] else "%H"
    date = found["date"].replace(",", "").strip()
    for form in ("%b %d %Y", "%B %d %Y", "%d %b %Y", "%d %B %Y", "%Y-%m-%d"):
        if time := _time(f"{date} {clock} {half or ''}".strip(), f"{form} {hour}%M{' %p' if half else ''}"):
            return time
    return None


def own_name(where: str, platform: str) -> str:
    """What the student called a file: without the folder or the words that the platform put before it."""
    top, _, inside = where.partition("/")
    if inside:
        return inside
    if platform == "Blackboard" and (match := BLACKBOARD.match(top)):
        return f"{match['last'].strip('_')} (attempt of {match['time']})"
    if platform == "Canvas" and (match := CANVAS.match(top)):
        return top[match.end() - 1 :]
    return top


def lies_deep(where: str) -> int:
    """How many folders a file lies below the top: what lies higher was meant to be seen first."""
    return len(PurePosixPath(where).parts)
