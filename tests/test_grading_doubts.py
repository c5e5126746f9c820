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


def test_who_is_called_like_homework_has_copies(tmp_path):
    assert set(folder_of(tmp_path, {"hwang.ipynb": work(1), "hwang (1).ipynb": work(2)})) == {"hwang"}


@pytest.mark.parametrize("copy", ["Copy of ada", "ada (1)", "ada (3)", "ada-Copy1", "ada - Kopie"])
def test_a_copy_alone_is_its_students(tmp_path, copy):
    assert set(folder_of(tmp_path, {f"{copy}.ipynb": work(1), "bob.ipynb": work(3)})) == {"ada", "bob"}


def test_numbered_files_without_a_first_are_several_people(tmp_path):
    """Windows renames files together to `week (1)`, `week (2)`; where the class list has the name they are one person's."""
    files = {
        "kim (1).ipynb": work(1),
        "kim (2).ipynb": work(2),
        "hw (1).ipynb": work(3),
        "Weiß (1).ipynb": work(3),
        "weiss.ipynb": work(4),
    }
    assert set(folder_of(tmp_path, files)) == {"kim (1)", "kim (2)", "hw (1)", "Weiß", "weiss"}
    listed = {of.student.lower(): len(of.files) for of in find_submissions(tmp_path / "in", known={"Kim"})}
    assert listed == {"kim": 2, "hw (1)": 1, "weiß": 1, "weiss": 1}


@pytest.mark.parametrize(
    "folder", ["hw2", "HW 2", "Homework_02", "week3", "Abgaben", "02_diagnostic_model_evaluation", "submissions hw2"]
)
@pytest.mark.parametrize("form", ["{}.ipynb", "{}_hw2.ipynb", "{}/02.ipynb", "{}.zip"])
def test_a_lessons_folder_is_nobody(tmp_path, folder, form):
    """Alone, and beside another: whose it is says what lies in it."""
    here = {
        f"{folder}/{form.format(who)}": zip_of({"n.ipynb": work(1)}) if "zip" in form else work(1) for who in ("ada", "hwang", "17")
    }
    people = {name.removeprefix(f"{folder}/").removesuffix("/02.ipynb").split(".")[0] for name in here}
    assert set(folder_of(tmp_path / "alone", here)) == people
    one = folder_of(tmp_path / "both", {**here, f"hw1/{form.format('ada')}": here[f"{folder}/{form.format('ada')}"]})
    assert set(one) == people and len(one[min(people - {"17", "17_hw2"})].files) == 2
    (tmp_path / "one").mkdir()
    assert len(folder_of(tmp_path / "one", dict(list(here.items())[:1]))) == 1


def test_folders_that_are_peoples_stay_theirs(tmp_path):
    """A name, an id, one that the class list has, what holds one person's versions, an archive."""
    folders = {
        f"{who}/{name}.ipynb": work(1)
        for who in ("hwang", "12345", "labelle", "ada hw2", "Blatt", "3-2")
        for name in ("mine", "test")
    }
    folders |= {"hw2/hw2_v1.ipynb": work(1), "hw2/homework final.ipynb": work(2), "hw3.zip": zip_of({"mine.ipynb": work(1)})}
    folders |= {"lab1/mine.ipynb": work(1), "lab1/test.ipynb": work(2)}
    assert {"hwang", "12345", "labelle", "ada hw2", "Blatt", "3-2", "hw2", "hw3", "mine", "test"} == set(
        folder_of(tmp_path, folders)
    )
    assert "lab1" in {of.student for of in find_submissions(tmp_path / "in", known={"Lab1"})}


@pytest.mark.parametrize(
    ("names", "doubt"),
    [
        (("ada", "bob"), True),
        (("ada_hw2", "bob_hw2"), True),
        (("ada", "ada (1)"), False),
        (("work", "work_old"), False),
        (("hw2_v1", "ada final"), False),
    ],
)
def test_a_folder_with_the_files_of_two_people_is_doubted(tmp_path, names, doubt):
    one = folder_of(
        tmp_path, {**{f"monday/{name}.ipynb": work(n) for n, name in enumerate(names, 1)}, "tuesday/eve.ipynb": work(3)}
    )
    note = choose(one["monday"], 2).note
    assert "2 notebooks; graded" in note and ("perhaps another student's" in note) == doubt


def test_that_folders_were_taken_for_lessons_is_said(tmp_path):
    folder_of(tmp_path, {"hw1/ada.ipynb": work(1), "hw2/bob.ipynb": work(1)})
    notes = []
    find_submissions(tmp_path / "in", notes=notes)
    assert any("lessons' folders" in note and "hw1, hw2" in note for note in notes)


@pytest.mark.parametrize(
    ("known", "people"),
    [((), {"a_lovelace", "b_lovelace", "x_1_y"}), (("s_a_lovelace", "lovelace"), {"s_a_lovelace", "lovelace", "x_1_y"})],
)
def test_blackboards_names_without_receipts(tmp_path, known, people):
    """What all names begin with is the title, unless the class list knows better."""
    names = [f"HW_2_s_{who}_attempt_2026-11-20-13-05-59_b_attempt.ipynb" for who in ("a_lovelace", "b_lovelace", "x_1_y")]
    found(tmp_path, dict.fromkeys(names, NOTEBOOK))
    assert {of.student for of in find_submissions(tmp_path / "class.zip", known=known)} == people


def test_blackboards_only_student_is_who_the_class_list_has(tmp_path):
    name = "HW_2_a_lovelace_attempt_2026-11-20-13-05-59"
    assert set(found(tmp_path, {f"{name}_w.ipynb": NOTEBOOK})) == {"lovelace"}
    assert [of.student for of in find_submissions(tmp_path / "class.zip", known={"A_Lovelace"})] == ["a_lovelace"]
    assert set(found(tmp_path, {f"{name}_w.ipynb": NOTEBOOK, f"{name}.txt": b"Name: Ada (2_a_lovelace)"})) == {"2_a_lovelace"}


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
