"""The class list: who should have handed in, and the columns in which a learning platform wants the marks back.

Any CSV with a column of ids will do. Best is the table that the platform itself gives out: Moodle's grading worksheet
(`Identifier` is "Participant 12345"), Canvas's exported gradebook, Blackboard's downloaded grade centre; the marks are then
filled into a copy of it (`marks`), so that it can be uploaded as it is.
"""

import csv
import io
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .submissions import Submission

ID_COLUMNS = (
    "identifier",
    "student_id",
    "id",
    "student id",
    "id number",
    "sis user id",
    "username",
    "user name",
    "sis login id",
    "login",
    "user",
    "sid",
    "orgdefinedid",
    "github_username",
    "email",
    "email address",
    "e-mail",
    "student",
    "matriculation number",
    "matrikelnummer",
    "matrikel",
    "identifiant",
    "identificador",
    "e-mail-adresse",
    "adresse de courriel",
)
NAME_COLUMNS = (
    "full name",
    "name",
    "student name",
    "student",
    "display id",
    "vollständiger name",
    "nom complet",
    "nombre completo",
)
FIRST_COLUMNS = ("first name", "first_name", "firstname", "vorname", "prénom", "nombre")
LAST_COLUMNS = ("last name", "last_name", "surname", "lastname", "nachname", "nom", "apellidos")
TITLE_ROWS = 10  # above the line of column names


@dataclass
class Person:
    """One row of the class list."""

    student: str  # the id that counts
    name: str = ""
    ids: frozenset[str] = frozenset()  # all ids in the row, in lower case
    row: dict[str, str] = field(default_factory=dict)  # the row as it is in the file


@dataclass
class Roster:
    """The class list, and the file that it came from."""

    people: list[Person]
    columns: list[str]
    rows: list[dict[str, str]]  # all rows, those without a student too (Canvas has one with the possible points)

    @property
    def known(self) -> set[str]:
        """All ids and names."""
        return {name for person in self.people for name in (*person.ids, person.name) if name}


def _plain(identifier: str) -> str:
    """An id in lower case: of Moodle's "Participant 12345" or "Teilnehmer/in 12345" the number, of ="0123" what is quoted."""
    identifier = unicodedata.normalize("NFC", identifier).strip()
    quoted = re.fullmatch(r"=?\"(.*)\"|'(.*)", identifier)
    if quoted:
        identifier = quoted[1] or quoted[2] or ""
    match = re.fullmatch(r"(?:[^\W\d]+\s+|[^\W\d]+/[^\W\d]+\s*)(\d+)", identifier)
    return (match[1] if match else identifier.removeprefix("#")).strip().lower()


def _number(identifier: str) -> str:
    """An id of digits without what spreadsheets take from it or add to it: leading zeros, a ".0", 1,234,567; "" for other ids."""
    if re.fullmatch(r"\d{1,3}[.,]000", identifier):
        return ""  # 12,000 may be either
    if grouped := re.fullmatch(r"(\d{1,3}([.,'’\s])\d{3}(?:\2\d{3})*)(?:(?!\2)[.,]0+)?", identifier):
        identifier = re.sub(r"\D", "", grouped[1])
    match = re.fullmatch(r"0*(\d+)(?:[.,]0+)?", identifier)
    return match[1] if match else ""


def _name(name: str) -> str:
    """A name as it is compared: "Lovelace, Ada" is Ada Lovelace."""
    last, comma, first = name.partition(",")
    return " ".join(f"{first} {last}".split() if comma else name.split()).lower()  # not casefold: Weiß is not Weiss


def _column(name: str) -> str:
    """The name of a column as it is compared: blanks of all kinds are one, case does not count."""
    return " ".join(name.split()).casefold()


def _decoded(path: Path, data: bytes) -> str:
    """The text of a file, in the encodings that spreadsheets write."""
    if data[:4] == b"PK\x03\x04" or data[:4] == b"\xd0\xcf\x11\xe0":
        raise ValueError(f"{path} is a spreadsheet file. Save it as CSV (UTF-8) and name that file.")
    if data.lstrip(b"\xef\xbb\xbf \r\n").lower().startswith((b"<!doctype", b"<html", b"version https://git-lfs")):
        what = "a pointer of Git LFS" if b"git-lfs" in data[:60] else "a web page, of a login or an error"
        raise ValueError(f"{path} is {what}, and not the list. Download it again.")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    zeros = data[:2000].count(b"\0")
    if zeros > len(data[:2000]) // 4:  # UTF-16 without its mark
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text, mac = data.decode("cp1252", errors="replace"), data.decode("mac-roman")
    misread = _misread(text)
    if "\ufffd" in text or ((misread or re.search(rb"[\x80-\x9f]", data)) and misread >= _misread(mac)):
        raise ValueError(f"{path} is in an encoding that cannot be told; an old Excel's? Save it as CSV UTF-8 and name that file.")
    return text


def _misread(text: str) -> int:
    """How many letters and signs stand where no name has them: "JŸrgen", "Mu–oz", "çlvaro". What is not ASCII is looked at."""
    count = 0
    for before, one, after, then in zip(f" {text}", text, f"{text[1:]} ", f"{text[2:]}  "):
        if one < "\x80" or one.isspace():
            continue
        if one.isupper():
            count += before.isalpha() and (before.islower() or after.islower() or (after.isalpha() and then.islower()))
        elif one.isalpha():
            count += after.isupper() or (after.isalpha() and not before.isalpha() and one not in "éüöäàè")
        else:
            count += after.islower() or one == "\ufffd" or (before.isalpha() and one not in "’”…–—»")
    return count


def _table(text: str) -> list[list[str]]:
    """The rows of a CSV, whatever separates its columns; a `sep=` line says so itself."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n")
    said = re.match(r'"?sep=(.)"?[^\n]*\n', text, re.IGNORECASE)
    if said:
        text, separators = text[said.end() :], said[1]
    else:
        separators = ",;\t|"
    best: list[list[str]] = []
    score = (-1, -1)
    for separator in separators:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(cell.strip() for cell in row)]
        known = max((len(_known_columns(row)) for row in rows[:TITLE_ROWS]), default=0)
        columns = max((len(row) for row in rows[:TITLE_ROWS]), default=0)
        if (known, columns) > score:
            best, score = rows, (known, columns)
    return best


def _known_columns(row: list[str]) -> set[str]:
    return {_column(cell) for cell in row} & {*ID_COLUMNS, *NAME_COLUMNS, *FIRST_COLUMNS, *LAST_COLUMNS}


def read_roster(path: Path) -> Roster:
    """Read a class list.

    Raises
    ------
    FileNotFoundError
    ValueError
        When the file has no rows, no column of ids, or an id twice. The message says what to do.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no class list {path}.")
    table = _table(_decoded(path, path.read_bytes()))
    head = next((i for i, row in enumerate(table[:TITLE_ROWS]) if {_column(c) for c in row} & set(ID_COLUMNS)), 0)
    if len(table) <= head + 1:
        raise ValueError(f"{path} has no rows. A class list is a CSV with a line of column names and one row for each student.")
    columns = table[head]
    rows = [dict(zip(columns, [*row, *[""] * len(columns)])) for row in table[head + 1 :]]
    by_name = {_column(name): name for name in reversed(columns)}
    id_columns = [by_name[name] for name in ID_COLUMNS if name in by_name]
    if not id_columns:
        raise ValueError(f"{path} has no column of ids, only {', '.join(columns)}. Call the one that holds them `id`.")

    double = [name for name, count in Counter(map(_column, columns)).items() if count > 1 and name in ID_COLUMNS]
    if double:
        raise ValueError(f"{path} has two columns {by_name[double[0]]}. Keep the one that holds the ids.")

    def value(row: dict[str, str], names: tuple[str, ...]) -> str:
        return next((row[by_name[name]].strip() for name in names if name in by_name and row[by_name[name]].strip()), "")

    people = []
    for number, row in enumerate(rows, head + 2):
        student = row[id_columns[0]].strip()
        name = value(row, NAME_COLUMNS) or f"{value(row, FIRST_COLUMNS)} {value(row, LAST_COLUMNS)}".strip()
        if {student.casefold(), name.casefold()} & {"points possible", "student, test"} or not (student or name):
            continue  # Canvas: the row of possible points
        if not student:
            raise ValueError(f"{path}, row {number}: {name} has no {id_columns[0]}. Add it, or take the row out.")
        for column in id_columns:
            if re.fullmatch(r"[=\"']*(\d([.,]\d+)?E\+\d+|\d[.,]\d+E\d+|#{3,})\"?", row[column].strip(), re.IGNORECASE):
                raise ValueError(
                    f"{path}, row {number}: the id {row[column].strip()} was shortened by a spreadsheet, digits are lost. Export "
                    f"the list again, format the column {column} as text, and only then save it."
                )
        ids = frozenset(_plain(row[column]) for column in id_columns if row[column].strip())
        people.append(Person(re.fullmatch(r'=?"?(.*?)"?', student)[1], name, ids, row))
    if not people:
        raise ValueError(f"{path} has no rows with an id in its column {id_columns[0]}.")
    twice = [student for student, count in Counter(_plain(person.student) for person in people).items() if count > 1]
    if twice:
        raise ValueError(f"{path} has {twice[0]} twice in its column {id_columns[0]}. Leave one of the rows.")
    return Roster(people, columns, rows)


def match(roster: Roster, students: dict[str, str]) -> dict[str, Person]:
    """Student (id of the submission) → person on the class list; what could be two people is nobody.

    An id that is one person's beside a name that is another's is neither's.
    By the id that counts, then by the other ids in a row, then by ids that lost their leading zeros in a spreadsheet, then by
    GitHub's names of repositories (homework-ada is ada's), and by name only where one name is one person in both.

    Parameters
    ----------
    roster : Roster
    students : dict of str to str
        Id of the submission → name that the platform gave, or "".
    """
    found: dict[str, Person] = {}
    first = [{_plain(person.student): [person] for person in roster.people}, defaultdict(list), defaultdict(list)]
    for person in roster.people:
        for one in person.ids:
            first[1][one].append(person)
            if _number(one) and person not in first[2][_number(one)]:
                first[2][_number(one)].append(person)
    for table in first[:2]:
        for student in students:
            fit = table.get(_plain(student), []) if student not in found else []
            if len(fit) == 1:
                found[student] = fit[0]
    taken = {person.student for person in found.values()}
    for student in (one for one in students if one not in found):
        fit = first[2].get(_number(_plain(student)), [])
        if len(fit) == 1 and fit[0].student not in taken:
            found[student] = fit[0]
    once = Counter(_name(person.name) for person in roster.people if person.name)
    namesake = {_name(p.name): p for p in roster.people if p.name and once[_name(p.name)] == 1}
    doubtful = {  # the id is one's, the name another's: of another platform's numbers, or a name that was borrowed
        student for student, p in found.items() if p.name and namesake.get(_name(students[student] or p.name), p) is not p
    }
    taken = {person.student for person in found.values()}
    found = {student: person for student, person in found.items() if student not in doubtful}
    free = [person for person in roster.people if person.student not in taken]
    found |= _repositories([one for one in students if one not in found and one not in doubtful], free)
    taken |= {person.student for person in found.values()}
    names = {name: person for name, person in namesake.items() if person.student not in taken}
    called = {student: _name(name or student) for student, name in students.items() if student not in found}
    here = Counter(called.values())
    for student, name in called.items():
        if here[name] == 1 and name in names and student not in doubtful:
            found[student] = names[name]
    return found


def _repositories(students: list[str], people: list[Person]) -> dict[str, Person]:
    """GitHub's names of repositories: homework-ada is ada's, and homework-eve-ada is not, for homework- is what all begin with."""
    fits = [
        (student, _plain(student).removesuffix(f"-{one}"), person)
        for student in students
        for person in people
        for one in person.ids
        if not one.isdigit() and _plain(student).endswith(f"-{one}")
    ]
    found: dict[str, list[tuple[str, Person]]] = defaultdict(list)
    if fits:
        (most, count), *others = Counter(before for _, before, _ in fits).most_common(2)
        if not others or others[0][1] < count:
            for student, before, person in fits:
                if before == most and person not in [one for _, one in found[student]]:
                    found[student].append((student, person))
    return {student: fit[0][1] for student, fit in found.items() if len(fit) == 1}


def join(roster: Roster, submissions: Iterable[Submission]) -> list[Submission]:
    """One submission for each person: `ada.ipynb` and `ada@x.org.zip` are one where the class list says that both are Ada's."""
    submissions = list(submissions)
    people = match(roster, {one.student: one.name for one in submissions})
    kept: dict[str, Submission] = {}
    for one in submissions:
        person = people.get(one.student)
        key = f"on the list: {person.student}" if person else f"not on it: {one.student}"
        if key in kept:
            kept[key].take(one)
        else:
            kept[key] = one
    return list(kept.values())
