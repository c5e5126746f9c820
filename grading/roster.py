"""The class list: who should have handed in, and the columns in which a learning platform wants the marks back.

Any CSV with a column of ids will do. Best is the table that the platform itself gives out: Moodle's grading worksheet
(`Identifier` is "Participant 12345"), Canvas's exported gradebook, Blackboard's downloaded grade centre; the marks are then
filled into a copy of it (`marks`), so that it can be uploaded as it is.
"""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

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
    "email",
    "email address",
    "e-mail",
    "student",
    "matriculation number",
    "matrikelnummer",
)
NAME_COLUMNS = ("full name", "name", "student name", "student")
FIRST_COLUMNS, LAST_COLUMNS = ("first name", "first_name", "firstname"), ("last name", "last_name", "surname", "lastname")


@dataclass
class Person:
    """One row of the class list."""

    student: str  # the id that counts
    name: str = ""
    ids: frozenset[str] = frozenset()  # all ids in the row, in lower case
    row: dict[str, str] = field(default_factory=dict)  # the row as it stands in the file


@dataclass
class Roster:
    """The class list, and the file that it came from."""

    people: list[Person]
    columns: list[str]
    rows: list[dict[str, str]]  # all rows, those without a student too (Canvas has one with the possible points)


def _plain(identifier: str) -> str:
    """An id in lower case; of Moodle's "Participant 12345" the number, which is what its zip has."""
    match = re.fullmatch(r"[^\W\d]+\s+(\d+)", identifier.strip())
    return (match[1] if match else identifier).strip().lower()


def read_roster(path: Path) -> Roster:
    """Read a class list.

    Raises
    ------
    FileNotFoundError
    ValueError
        When the file has no rows, no column of ids, or an id twice. The message says what to do.
    """
    data = Path(path).read_bytes()
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    rows = [{key: value or "" for key, value in row.items() if isinstance(key, str)} for row in reader]
    if not rows:
        raise ValueError(f"{path} has no rows. A class list is a CSV with a line of column names and one row for each student.")
    columns = list(reader.fieldnames or [])
    by_name = {(name or "").strip().lower(): name for name in columns}
    id_columns = [by_name[name] for name in ID_COLUMNS if name in by_name]
    if not id_columns:
        raise ValueError(f"{path} has no column of ids, only {', '.join(map(str, columns))}. Call the one that holds them `id`.")

    def value(row: dict[str, str], names: tuple[str, ...]) -> str:
        return next((row[by_name[name]].strip() for name in names if name in by_name and row[by_name[name]].strip()), "")

    people = []
    for row in rows:
        student = row[id_columns[0]].strip()
        if not student:
            continue  # Canvas: the row of possible points
        name = value(row, NAME_COLUMNS) or f"{value(row, FIRST_COLUMNS)} {value(row, LAST_COLUMNS)}".strip()
        ids = frozenset(_plain(row[column]) for column in id_columns if row[column].strip())
        people.append(Person(student, name, ids, row))
    twice = [student for student, count in Counter(person.student for person in people).items() if count > 1]
    if twice:
        raise ValueError(f"{path} has {twice[0]} twice in its column {id_columns[0]}.")
    return Roster(people, columns, rows)


def match(roster: Roster, students: dict[str, str]) -> dict[str, Person]:
    """Student (id of the submission) → person on the class list, by id; by name only where one name is one person in both.

    Parameters
    ----------
    roster : Roster
    students : dict of str to str
        Id of the submission → name that the platform gave, or "".
    """
    by_id: dict[str, Person] = {}
    for person in reversed(roster.people):
        by_id |= dict.fromkeys(person.ids, person)
        by_id[_plain(person.student)] = person
    found = {student: by_id[_plain(student)] for student in students if _plain(student) in by_id}
    taken = {person.student for person in found.values()}
    once = Counter(person.name.lower() for person in roster.people if person.name)
    here = Counter(name.lower() for name in students.values() if name)
    names = {
        person.name.lower(): person for person in roster.people if person.student not in taken and once[person.name.lower()] == 1
    }
    for student, name in students.items():
        if student not in found and name and here[name.lower()] == 1 and name.lower() in names:
            found[student] = names[name.lower()]
    return found
