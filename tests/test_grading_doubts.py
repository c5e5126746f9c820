"""What lies in a class folder beside notebooks: files that a cloud keeps, copies that computers make, lists that are none."""

import os

import pytest
from test_grading_choice import work
from test_grading_submissions import NOTEBOOK, found, zip_of
from test_instead import PAGE, POINTER

from grading.choice import OLDER, choose
from grading.inside.notebook import NotebookError, read_cells
from grading.platforms import without_endings
from grading.roster import read_roster
from grading.submissions import find_submissions


def folder_of(tmp_path, files):
    """A class folder; each file is a minute newer than the one before."""
    for number, (name, data) in enumerate(files.items()):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1_790_000_000 + 60 * number,) * 2)
    return {one.student: one for one in find_submissions(tmp_path / "in")}


def test_a_file_that_a_cloud_keeps_is_its_students(tmp_path):
    one = folder_of(tmp_path, {".ada.ipynb.icloud": b"bplist00", "bob/.02.ipynb.icloud": b"bplist00", "eve.ipynb": NOTEBOOK})
    assert set(one) == {"ada", "bob", "eve"} and not one["ada"].files and not one["bob"].files
    assert "ada.ipynb was still in iCloud" in one["ada"].problem and "02.ipynb was still in iCloud" in one["bob"].problem
    zipped = found(tmp_path, {".ada.ipynb.icloud": b"bplist00", "eve.ipynb": NOTEBOOK})
    assert "still in iCloud" in zipped["ada"].problem


@pytest.mark.parametrize(
    "copy",
    ["ada (1)", "ada(1)", "ada - Kopie", "ada \u2013 Copy", "Copy of ada", "Kopie von ada", "ada-DESKTOP-4F2AB", "ada-LAPTOP-X1"]
    + ["ada (Bob's conflicted copy 2026-11-20)", "ada.sync-conflict-20261120-101010-ABC"],
)
def test_copies_that_computers_make_are_their_students(tmp_path, copy):
    one = folder_of(tmp_path, {"ada.ipynb": work(1), f"{copy}.ipynb": work(2), "bob.ipynb": work(3)})
    assert set(one) == {"ada", "bob"} and len(one["ada"].files) == 2
    choice = choose(one["ada"], 2)
    assert choice.file[1] == work(2) and f"graded: {copy}.ipynb" in choice.note


def test_a_copy_alone_is_a_student(tmp_path):
    assert set(folder_of(tmp_path, {"Copy of ada.ipynb": work(1), "bob.ipynb": work(3)})) == {"Copy of ada", "bob"}


@pytest.mark.parametrize("newest", ["ada.ipynb", "ada (1).ipynb", "ada (1) (1).ipynb"])
def test_a_plain_folders_newest_is_graded_and_that_is_said(tmp_path, newest):
    files = {name: work(n) for n, name in enumerate(["ada.ipynb", "ada (1).ipynb", "ada (1) (1).ipynb"], 1)}
    one = folder_of(tmp_path, {name: data for name, data in files.items() if name != newest} | {newest: files[newest]})
    choice = choose(one["ada"], 2)
    assert set(one) == {"ada"} and choice.file == (newest, files[newest])
    assert f"3 notebooks; graded: {newest}" in choice.note
    assert all(f"{name} ({OLDER})" in choice.note for name in files if name != newest)


def test_whose_name_looks_like_a_copys_takes_nobodys_place(tmp_path):
    """A folder `ada (1)` may be another Ada's, what the class list knows is somebody's, and a copy inside of Eve's is Eve's."""
    folders = {
        "ada/02.ipynb": work(1),
        "ada (1)/02.ipynb": work(2),
        "eve/ada (2).ipynb": work(3),
        "eve.zip": zip_of({"ada (3).ipynb": work(4)}),
    }
    one = folder_of(tmp_path, folders)
    assert {name: len(of.files) for name, of in one.items()} == {"ada": 1, "ada (1)": 1, "eve": 2}
    files = {"bob.ipynb": work(1), "bob (1).ipynb": work(2), "bob (2).ipynb": work(3)}
    folder_of(tmp_path / "files", files)
    listed = {of.student: of for of in find_submissions(tmp_path / "files" / "in", known={"bob", "bob (2)"})}
    assert {name: len(of.files) for name, of in listed.items()} == {"bob": 2, "bob (2)": 1}


@pytest.mark.parametrize("name", ["ada_1", "ada_final", "adam"])
def test_names_that_are_no_copies(tmp_path, name):
    assert set(folder_of(tmp_path, {"ada.ipynb": work(1), f"{name}.ipynb": work(2)})) == {"ada", name}


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("ada.ipynb.bak", "ada"),
        ("ada.ipynb~", "ada"),
        ("ada.ipynb (1).json", "ada (1)"),
        ("ada.ipynb (1)", "ada (1)"),
        ("a.b", "a.b"),
    ],
)
def test_what_programs_put_behind_a_notebooks_name(name, student):
    assert without_endings(name) == student


def test_a_backup_is_older_than_what_it_backs_up(tmp_path):
    """Unpacked together they have one time."""
    one = found(tmp_path, {"ada.ipynb.bak": work(5), "ada.ipynb": work(1), "bob.ipynb": work(2)})
    assert set(one) == {"ada", "bob"} and choose(one["ada"], 2).file[1] == work(1)


def test_google_numbers_its_copies(tmp_path):
    files = {"Ada - 02.ipynb": 1, "Bo Li - 02.ipynb": 2, "Bo Li - 02 (1).ipynb": 3, "Eve - Copy of 02.ipynb": 4}
    one = found(tmp_path, {name: work(right) for name, right in files.items()})
    assert set(one) == {"Ada", "Bo Li", "Eve"} and one["Eve"].platform == "Google Classroom"
    assert choose(one["Bo Li"], 2).file[1] == work(3)


def test_a_time_is_no_title(tmp_path):
    """Names that end with a time are not Google's: whose they are must not depend on who handed in at one second."""
    names = [f"{who} - 2026-11-2{day}T10-00-00" for who, day in (("Ada", 0), ("Ada", 1), ("Bo", 0))]
    one = found(tmp_path, {f"{name}/02.ipynb": work(1) for name in names})
    assert set(one) == set(names) and {submission.platform for submission in one.values()} == {""}


def test_two_files_of_one_minute_are_not_called_old_and_new(tmp_path):
    top = "Ada_101_assignsubmission_file_"
    one = found(
        tmp_path, {f"{top}/02.ipynb": work(1), f"{top}/02-old.ipynb": work(2), "Bo_102_assignsubmission_file_/a.ipynb": work(3)}
    )
    assert "not graded: 02-old.ipynb (as new: look which is meant)" in choose(one["101"], 2).note


def test_what_a_notebook_is_instead():
    for content, words in ((PAGE, "a web page"), (POINTER, "a pointer of Git LFS")):
        with pytest.raises(NotebookError, match=words):
            read_cells(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PAGE, "a web page, of a login"),
        (POINTER, "a pointer of Git LFS"),
        (b"id,name\n1,Ada\n,Bo\n", "row 3: Bo has no id"),
        (b"id,id,name\n1,2,Ada\n", "two columns id"),
    ],
    ids=["page", "pointer", "no id", "two ids"],
)
def test_lists_that_are_none(tmp_path, content, words):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_roster(tmp_path / "list.csv")


def test_rows_of_a_gradebook_that_are_nobody(tmp_path):
    """Canvas adds the possible points and a student of its own; spreadsheets add blank rows."""
    (tmp_path / "list.csv").write_text('Student,ID,Points\n    Points Possible,,10\n"Lovelace, Ada",12,\n"Student, Test",99,\n,,\n')
    assert [person.student for person in read_roster(tmp_path / "list.csv").people] == ["12"]


def test_archives_in_archives_stay_with_their_student(tmp_path):
    one = folder_of(tmp_path, {"ada.zip": zip_of({"../../bob.ipynb": work(1)}), "bob.ipynb": work(2)})
    assert choose(one["ada"], 2).file[1] == work(1) and choose(one["bob"], 2).file[1] == work(2)


def test_a_class_downloaded_again_is_one_class(tmp_path):
    """Two of the platform's zips in a folder; in a folder of students' zips none speaks for the class."""
    form, later = "{}_assignsubmission_file_/02.ipynb", (2026, 11, 21, 12, 0, 0)
    again = {form.format("Ada_101"): work(3), form.format("Cy_103"): work(4)}
    zips = {
        "HW2.zip": zip_of({form.format("Ada_101"): work(1), form.format("Bo_102"): work(2)}),
        "HW2 (1).zip": zip_of(again, later),
    }
    one = folder_of(tmp_path, zips)
    assert set(one) == {"101", "102", "103"} and choose(one["101"], 2).file[1] == work(3) and one["102"].platform == "Moodle"
    one = folder_of(tmp_path, {"ada.zip": zip_of({"02.ipynb": work(1)})})
    assert set(one) == {"HW2", "HW2 (1)", "ada"}
