"""The class list in whatever form it comes, lateness in one time zone, and what a folder of results remembers."""

import json
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

import public_tests
from grading import __main__ as command
from grading import checks, marks
from grading.course import assignment
from grading.deadline import is_late, read_deadline, rule
from grading.last_run import recall, remember
from grading.roster import join, match, read_roster
from grading.submissions import Submission

ROOT = Path(__file__).parents[1]
ROWS = "Nachname;Vorname;id\nMüller;Jürgen;007\nLovelace;Ada;42\n"


# ---- the class list ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        ROWS.encode("cp1252"),
        ROWS.encode("utf-8-sig"),
        ROWS.encode("utf-16"),
        ROWS.encode("utf-16-le"),
        f"sep=;\n{ROWS}".encode("cp1252"),
        f"sep=;\r\n{ROWS}".replace("\n", "\r\n").encode("utf-16"),
        ROWS.replace(";", "\t").encode(),
        ROWS.replace(";", ",").replace("\n", "\r").encode(),
        ROWS.replace(";", "|").encode(),
        ("Kurs: Diagnostik, Gruppe 1\nStand: heute\n\n" + ROWS).encode(),
        ROWS.replace("\n", ";;;\n").encode(),
        ROWS.replace("007", '="007"').encode(),
    ],
)
def test_a_class_list_in_any_form(tmp_path, data):
    (tmp_path / "roster.csv").write_bytes(data)
    roster = read_roster(tmp_path / "roster.csv")
    assert [(one.student, one.name) for one in roster.people] == [("007", "Jürgen Müller"), ("42", "Ada Lovelace")]
    assert match(roster, {"007": "", "42": ""}).keys() == {"007", "42"}


@pytest.mark.parametrize(
    "text, words",
    [
        ("id,name\n1,a\n1,b\n", "1 twice"),
        ("id,name\nAda,a\nada,b\n", "ada twice"),
        ("id,name\n1.23457E+11,a\n", "row 2.*shortened by a spreadsheet.*column id as text"),
        ('id;name\n"1,23457e+11";a\n', "format the column id as text"),
        ("id,name\n1E+11,a\n", "format the column id as text"),
        ("id,username\nx,y\nada,1.2E11\n", "row 3.*format the column username as text"),
        ("id,name\n#####,a\n", "format the column id as text"),
        ("id\n", "no rows"),
        ("colour\nred\n", "no column of ids"),
        ("PK\x03\x04", "Save it as CSV"),
    ],
)
def test_a_class_list_that_cannot_be_read_says_why(tmp_path, text, words):
    (tmp_path / "roster.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_roster(tmp_path / "roster.csv")


def roster_of(tmp_path, text: str):
    (tmp_path / "roster.csv").write_text(text, encoding="utf-8")
    return read_roster(tmp_path / "roster.csv")


def test_ids_that_a_spreadsheet_changed(tmp_path):
    roster = roster_of(tmp_path, "id,name\n7,Ada\n12345.0,Bob\n012,Cy\n12,Di\n")
    found = match(roster, {"0000007": "", "00012345": "", "0012": "", "012": "", "12": ""})
    assert {student: person.name for student, person in found.items()} == {
        "0000007": "Ada",
        "00012345": "Bob",
        "012": "Cy",
        "12": "Di",
    }


@pytest.mark.parametrize("listed", ["1,234,567", "1.234.567", "1 234 567", "1'234'567", "1,234,567.00", "1.234.567,00"])
def test_ids_with_separators_of_thousands(tmp_path, listed):
    roster = roster_of(tmp_path, f'id,name\n"{listed}",Ada\n"12,345",Bob\n"7,000",Cy\n1e5,Di\n')
    found = match(roster, {"1234567": "", "12345": "", "7000": "", "7": "", "1e5": ""})
    assert {student: person.name for student, person in found.items()} == {"1234567": "Ada", "12345": "Bob", "1e5": "Di"}, (
        "7,000 may be 7"
    )


NAMES = ["Jürgen", "Jörg", "María", "Muñoz", "Zoë", "Álvaro", "Östlund", "Åsa", "Élodie", "François", "Weiß", "Nicolò", "MÜLLER"]


@pytest.mark.parametrize("name", [*NAMES, "O’Brien"])
def test_a_list_of_an_old_mac_is_refused_and_not_misspelled(tmp_path, name):
    (tmp_path / "list.csv").write_bytes(f"id,name\n1,{name}\n".encode("mac-roman"))
    with pytest.raises(ValueError, match="Save it as CSV UTF-8"):
        read_roster(tmp_path / "list.csv")


@pytest.mark.parametrize("name", [*NAMES, "O’Brien", "JOSÉ da Silva", "Dušan, Étienne", "Anne\u00a0Lê"])
def test_a_list_of_windows_is_read(tmp_path, name):
    (tmp_path / "list.csv").write_bytes(f"id;name\n1;{name}\n".encode("cp1252", "replace"))
    assert read_roster(tmp_path / "list.csv").people[0].row["name"] == name


@pytest.mark.parametrize(
    "header, given",
    [
        ("ID,Vollständiger Name,E-Mail-Adresse,Status", "Teilnehmer/in 17"),
        ("ID,Vollständiger Name,E-Mail-Adresse,Status", "Teilnehmer/in17"),
        ("Identifiant,Nom complet,Adresse de courriel,Statut", "Participant 17"),
        ("Identificador,Nombre completo,E-mail,Estado", "Participante 17"),
        ("Student\u00a0ID,Full\u00a0name,Email,Status", "17"),
    ],
)
def test_a_class_list_in_another_language_or_with_other_blanks(tmp_path, header, given):
    roster = roster_of(tmp_path, f"{header}\n{given},Ada Lovelace,ada@x.org,-\n")
    assert roster.people[0].name == "Ada Lovelace" and match(roster, {"17": ""}).keys() == {"17"}
    assert match(roster, {"ada@x.org": ""}).keys() == {"ada@x.org"}


def test_who_could_be_two_is_nobody_and_repositories_are_their_owners(tmp_path):
    roster = roster_of(tmp_path, "identifier,github_username,email\nx1,ada-l,both@x.org\nx2,eve,both@x.org\n")
    found = match(roster, {"both@x.org": "", "homework-2-ada-l": "", "X2": ""})
    assert {student: person.student for student, person in found.items()} == {"homework-2-ada-l": "x1", "X2": "x2"}
    roster = roster_of(tmp_path, 'id,name\n1,"Lovelace, Ada"\n2,Emmy Noether\n')
    assert match(roster, {"Ada Lovelace": "", "noether": "Emmy  Noether"}).keys() == {"Ada Lovelace", "noether"}


def test_one_person_on_the_list_is_one_submission(tmp_path):
    roster = roster_of(tmp_path, "id,email\nada,ada@x.org\nbob,bob@x.org\n")
    early, late = datetime(2026, 11, 1), datetime(2026, 11, 2)
    one = Submission("ada", files=[("ada.ipynb", b"1")], time=late, times={"ada.ipynb": late})
    two = Submission("ada@x.org", files=[("ada@x.org.ipynb", b"2")], time=early, times={"ada@x.org.ipynb": early})
    joined = join(roster, [one, two, Submission("bob"), Submission("eve")])
    assert [(s.student, len(s.files)) for s in joined] == [("ada", 2), ("bob", 0), ("eve", 0)]
    assert joined[0].files[-1] == ("ada.ipynb", b"1") and joined[0].time == late


# ---- lateness ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_times_are_compared_in_one_zone(in_berlin):
    for text in ("2026-11-30T23:59", "2026-11-30T23:59+01:00", "2026-11-30T22:59Z", "2026-11-30 23:59 Europe/Berlin"):
        deadline = read_deadline(text)
        assert is_late(datetime(2026, 11, 30, 23, 30, tzinfo=UTC), deadline), "22:59 in UTC is the end"
        assert not is_late(datetime(2026, 11, 30, 22, 30, tzinfo=UTC), deadline)
    assert not is_late(datetime(2026, 11, 30, 23, 30), read_deadline("2026-11-30T23:59-05:00")), (
        "a platform's clock is the deadline's"
    )
    assert is_late(datetime(2026, 12, 1, 0, 0), read_deadline("2026-11-30T23:59-05:00")) and not is_late(None, deadline)
    assert "2026-11-30 23:59 (UTC-05:00)" in rule(read_deadline("2026-11-30T23:59-05:00"))
    for text, words in {"2026-11-30": "a day without a time", "tomorrow": "no time", "2026-13-01T10:00": "no time"}.items():
        with pytest.raises(ValueError, match=words):
            read_deadline(text)


def test_lateness_is_that_of_the_file_that_is_graded():
    homework, zone = assignment(2), timezone(timedelta(hours=1))
    times = {"old": datetime(2026, 11, 20, 10), "new": datetime(2026, 11, 22, 10, tzinfo=zone)}
    one = Submission("ada", files=[("old", b""), ("new", b"")], time=times["new"], times=times)
    for file, late in {"old": "", "new": "late"}.items():
        result = {"status": "graded", "exercises": {}, "note": "", "file": file}
        (row,) = marks.rows_of(homework, [one], {"ada": result}, None, read_deadline("2026-11-21T12:00+00:00"))
        assert row["late"] == late
    assert row["submitted"] == "2026-11-22 09:00", "in the deadline's zone"
    (row,) = marks.rows_of(
        homework, [Submission("ada", files=[("new", b"")])], {"ada": result}, None, read_deadline("2026-11-21T12:00Z")
    )
    assert not row["late"] and "not whether it is late" in row["note"]


# ---- what a folder of results remembers -------------------------------------------------------------------------------

NOT_GIVEN = dict.fromkeys(("notebook", "roster", "deadline", "cpu", "memory", "all_or_nothing"))


def test_options_are_remembered_and_said(tmp_path):
    said = []
    given = NOT_GIVEN | {"roster": "/r.csv", "deadline": "2026-11-30T23:59", "all_or_nothing": True}
    assert recall(tmp_path, tmp_path / "in", given) == given
    remember(tmp_path, tmp_path / "in", given)
    assert recall(tmp_path, tmp_path / "in", NOT_GIVEN, said.append) == given
    assert len(said) == 3 and any("--deadline 2026-11-30T23:59" in line for line in said)
    assert recall(tmp_path, tmp_path / "in", NOT_GIVEN | {"deadline": "none"}, said.append)["deadline"] is None
    assert recall(tmp_path, tmp_path / "in", NOT_GIVEN | {"roster": "/s.csv"}, said.append)["roster"] == "/s.csv"


def test_one_folder_of_results_belongs_to_one_folder_of_submissions(tmp_path):
    remember(tmp_path / "out", tmp_path / "in", NOT_GIVEN)
    with pytest.raises(ValueError, match="holds the results of .*in.*--out"):
        recall(tmp_path / "out", tmp_path / "other" / "in", NOT_GIVEN)


def test_what_cannot_be_written_is_said_in_a_sentence(tmp_path, capsys, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": "def get_ppv(y): pass"}]}))
    full = OSError(28, os.strerror(28), str(tmp_path / "out" / "run.json"))

    def fails(*_):
        raise full

    monkeypatch.setattr(command, "remember", fails)
    assert command.main([str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--notebook", "2"]) == 2
    said = capsys.readouterr().err
    assert "the disk is full" in said and "the same command resumes" in said and "Traceback" not in said
    (tmp_path / "file").write_text("")
    monkeypatch.undo()
    assert command.main([str(tmp_path / "in"), "--out", str(tmp_path / "file" / "out"), "--notebook", "2"]) == 2
    assert "cannot be read or written: Not a directory" in capsys.readouterr().err
    assert command.main([str(tmp_path / "in"), "--deadline", "2026-11-30", "--out", str(tmp_path / "out")]) == 2
    assert "a day without a time" in capsys.readouterr().err, "said before anybody is graded"


# ---- what the class report counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer, proven, about",
    [("return float(np.sum((pred > th) & (y == 1)))", True, "at the threshold"), ("return -7.0", False, "")],
)
def test_a_slip_is_proven_only_where_it_gives_just_that_value(answer, proven, about):
    space = {}
    exec(f"import numpy as np\ndef true_positives(y, pred, th=0.5):\n    {answer}", space)

    class Here(checks.Remote):
        def ask(self, args, options):
            return space["true_positives"](*args, **options), args

    run = checks.Run()
    with pytest.raises(AssertionError):
        public_tests.true_positives_test(Here(None, 0, run), check=checks.Forwarded)
    assert bool(run.proven) == proven and run.about
    hidden = checks.Run()
    public_tests.true_positives_test(Here(None, 0, hidden), seed=1, check=checks.Counted)
    assert not about or about in hidden.wrong_about


def test_make_clean_leaves_marks_and_submissions(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = [
        "build/grades/hw/seed.txt",
        "build/nbgrader-course/submitted/ada/n.ipynb",
        "grades/hw/grades.csv",
        "build/old/gradebook.db",
    ]
    gone = ["build/executed/01.ipynb", "build/class/a.ipynb"]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    done = subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.count("kept") == 3, done.stderr
    assert all((tmp_path / name).exists() for name in kept) and not any((tmp_path / name).exists() for name in gone)
