"""Submissions are found in what learning platforms hand out, and nothing in them can hurt."""

import gzip
import io
import os
import shutil
import tarfile
import zipfile
from datetime import datetime

import pytest

from grading import archives
from grading.submissions import find_submissions

NOTEBOOK = b'{"cells": [], "nbformat": 4}'


def zip_of(files: dict[str, bytes], when=(2026, 11, 20, 12, 0, 0)) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, when), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def found(tmp_path, files: dict[str, bytes]) -> dict:
    path = tmp_path / "class.zip"
    path.write_bytes(zip_of(files))
    return {one.student: one for one in find_submissions(path)}


@pytest.mark.parametrize(
    "form",
    [
        "{}_assignsubmission_file_/work.ipynb",
        "{}_assignsubmission_file/work.ipynb",
        "{}_assignsubmission_file_work.ipynb",
        "CS101-Homework 2-77/{}_assignsubmission_file_/my folder/work.ipynb",
    ],
)
def test_moodle(tmp_path, form):
    people = {"101": "Ada Lovelace", "102": "Søren_Kierke 3gaard", "103": "عمر الخيام", "104": "Ada Lovelace"}
    one = found(tmp_path, {form.format(f"{name}_{number}"): NOTEBOOK for number, name in people.items()})
    assert {number: submission.name for number, submission in one.items()} == people
    assert all(submission.platform == "Moodle" and submission.time == datetime(2026, 11, 20, 12) for submission in one.values())


def test_canvas(tmp_path):
    one = found(
        tmp_path,
        {
            "lovelaceada_12_9001_hw.ipynb": NOTEBOOK,
            "hopper_LATE_34_9002_hw-1.ipynb": NOTEBOOK,
            "hopper_LATE_34_9003_hw.ipynb": NOTEBOOK,
            "noether_56_9004_hw.docx": b"x",
        },
    )
    assert set(one) == {"12", "34", "56"} and not one["12"].late and one["34"].late and len(one["34"].files) == 2
    assert one["12"].name == "lovelaceada" and one["12"].platform == "Canvas"
    assert one["56"].problem == "noether_56_9004_hw.docx is no notebook (.ipynb)" and not one["56"].files


def test_a_notebook_that_was_mailed_and_put_beside_those_of_canvas(tmp_path):
    names = ["lovelaceada_5012_9001_hw.ipynb", "hopper_LATE_5034_9002_hw.ipynb", "noether_5056_9003_hw-1.ipynb", "eve.ipynb"]
    one = found(tmp_path, dict.fromkeys(names, NOTEBOOK))
    assert set(one) == {"5012", "5034", "5056", "eve"} and one["5034"].late


def test_two_who_differ_in_a_sharp_s_are_two(tmp_path):
    assert set(found(tmp_path, {"weiß.ipynb": NOTEBOOK, "weiss.ipynb": NOTEBOOK})) == {"weiß", "weiss"}


def test_names_that_only_look_like_canvas_are_not_taken_for_it(tmp_path):
    one = found(tmp_path, {"hw_2_1_ada.ipynb": NOTEBOOK, "hw_2_1_bob.ipynb": NOTEBOOK})
    assert set(one) == {"hw_2_1_ada", "hw_2_1_bob"}


def test_short_numbers_beside_a_name_without_any_are_not_those_of_canvas(tmp_path):
    one = found(tmp_path, {"ada_1_1_x.ipynb": NOTEBOOK, "bob_2_2_x.ipynb": NOTEBOOK, "eve.ipynb": NOTEBOOK})
    assert set(one) == {"ada_1_1_x", "bob_2_2_x", "eve"}


def test_blackboard(tmp_path):
    first, second = "Homework 2_a_b_alovelace_attempt_2026-11-20-13-05-59", "Homework 2_a_b_x12_attempt_2026-13-99-00-00-00"
    one = found(
        tmp_path,
        {
            f"{first}.txt": b"Name: Ada",
            f"{first}_work_attempt_1.ipynb": NOTEBOOK,
            f"{second}.txt": b"",
            f"{second}_a.zip": zip_of({"n.ipynb": NOTEBOOK}),
        },
    )
    assert set(one) == {"alovelace", "x12"} and one["alovelace"].time == datetime(2026, 11, 20, 13, 5, 59)
    assert len(one["x12"].files) == len(one["alovelace"].files) == 1 and not one["alovelace"].problem


def test_a_folder_of_folders_zips_and_files(tmp_path):
    for name, data in {
        "ada/a.ipynb": NOTEBOOK,
        "ada/picture.png": b"x",
        "bob.ipynb": NOTEBOOK,
        "eve.zip": zip_of({"in/er.zip": zip_of({"x.ipynb": NOTEBOOK})}),
        "max/notes.docx": b"x",
        "readme.txt": b"x",
        "ada/.ipynb_checkpoints/a.ipynb": b"x",
        "zoe.zip": zip_of({"essay.pdf": b"x"}),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    os.symlink("/etc/passwd", tmp_path / "link.ipynb")
    one = {submission.student: submission for submission in find_submissions(tmp_path)}
    assert {student: len(submission.files) for student, submission in one.items()} == {
        "ada": 1,
        "bob": 1,
        "eve": 1,
        "max": 0,
        "zoe": 0,
        "link": 0,
    }
    assert one["link"].problem == "link.ipynb is a link, and links are not followed"
    assert not one["ada"].problem and "no notebook" in one["max"].problem and "no notebook" in one["zoe"].problem


def test_a_folder_with_nothing_but_the_platforms_zip(tmp_path):
    (tmp_path / "x.zip").write_bytes(
        zip_of({"Ada_1_assignsubmission_file_/w.ipynb": NOTEBOOK, "Bob_2_assignsubmission_file_/w.ipynb": NOTEBOOK})
    )
    assert [one.student for one in find_submissions(tmp_path)] == ["1", "2"]


def test_an_nbgrader_course(tmp_path):
    for student in ("ada",):
        place = tmp_path / "submitted" / student / "02_diagnostic_model_evaluation"
        place.mkdir(parents=True)
        (place / "02_diagnostic_model_evaluation.ipynb").write_bytes(NOTEBOOK)
        (place / "timestamp.txt").write_text("2026-11-25 10:00:00 UTC")
    (one,) = find_submissions(tmp_path)
    assert one.student == "ada" and len(one.files) == 1 and not one.problem


def test_a_students_zip_cannot_speak_for_somebody_else_or_turn_back_the_clock(tmp_path):
    (tmp_path / "ada.ipynb").write_bytes(NOTEBOOK)
    names = ["ada.ipynb", "Ada_1_assignsubmission_file_/a.ipynb", "../ada.ipynb", "/ada/a.ipynb", "..\\ada\\b.ipynb"]
    (tmp_path / "eve.zip").write_bytes(zip_of(dict.fromkeys(names, NOTEBOOK), (1999, 1, 1, 0, 0, 0)))
    one = {submission.student: submission for submission in find_submissions(tmp_path)}
    assert set(one) == {"ada", "eve"} and len(one["ada"].files) == 1 and len(one["eve"].files) == len(names)
    assert one["eve"].time.year > 2000


def test_nothing_is_written_and_bombs_end_as_one_students_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE", 1 << 20)
    monkeypatch.setattr(archives, "MAX_STUDENT", 4 << 20)
    nested = zip_of({"a.ipynb": NOTEBOOK})
    for _ in range(6):
        nested = zip_of({"z.zip": nested})
    damaged = zip_of({"a.ipynb": NOTEBOOK * 100})
    place = tmp_path / "in"
    place.mkdir()
    for name, data in {
        "bomb.zip": zip_of({"a.ipynb": bytes(3 << 20)}),
        "wide.zip": zip_of({f"{i}.ipynb": bytes(1 << 20) for i in range(9)}),
        "deep.zip": nested,
        "cut.zip": damaged[:-30],
        "bad.zip": damaged.replace(b"\x78", b"\x00")[:60] + damaged[60:],
        "text.zip": b"PK no",
        "good.ipynb": NOTEBOOK,
        "many.zip": zip_of({f"{i}.ipynb": b"{}" for i in range(600)}),
        "../outside": b"",
    }.items():
        (place / name).write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    one = {submission.student: submission for submission in find_submissions(place)}
    assert sorted(tmp_path.rglob("*")) == before
    assert set(one) == {"bomb", "wide", "deep", "cut", "bad", "text", "good", "many"}
    assert all(one[name].problem for name in ("bomb", "wide", "deep", "cut", "text", "many")) and not one["good"].problem
    assert not one["bomb"].files and sum(len(data) for _, data in one["wide"].files) <= 4 << 20 and len(one["many"].files) <= 500


def test_nothing_to_grade_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_submissions(tmp_path / "nowhere")
    (tmp_path / "essay.docx").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="no notebook"):
        find_submissions(tmp_path)


# ---- every file handed in ends in a row -------------------------------------------------------------------------------


def tar_of(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def locked_zip() -> bytes:
    """A zip whose member says that it is encrypted."""
    data = bytearray(zip_of({"w.ipynb": NOTEBOOK}))
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + place] |= 1
    return bytes(data)


def link_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("w.ipynb")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


GRADED = {
    "bob.ipynb.json": NOTEBOOK,
    "eve.ipynb.txt": NOTEBOOK,
    "kim.json": NOTEBOOK,
    "lee": b"\n " + NOTEBOOK,
    "bom.txt": b"\xef\xbb\xbf" + NOTEBOOK,
    "wide.txt": NOTEBOOK.decode().encode("utf-16"),
    "max.tar.gz": tar_of({"work/n.ipynb": NOTEBOOK}),
    "ida.tgz": tar_of({"n.ipynb.json": NOTEBOOK}),
    "ann.tar": tar_of({"n.ipynb": NOTEBOOK}, "w"),
    "tim.tar.xz": tar_of({"n.ipynb": NOTEBOOK}, "w:xz"),
    "gus.tar.bz2": tar_of({"n.ipynb": NOTEBOOK}, "w:bz2"),
    "ray.ipynb.gz": gzip.compress(NOTEBOOK),
    "sam.ipynb": zip_of({"n.ipynb": NOTEBOOK}),
    "uwe.zip": zip_of(
        {"__MACOSX/._n.ipynb": b"x", ".DS_Store": b"x", ".ipynb_checkpoints/n-checkpoint.ipynb": b"x", "n.ipynb": NOTEBOOK}
    ),
    "v3.ipynb": b'{"worksheets": [{"cells": []}], "nbformat": 3}',
    "two.zip": zip_of({"a.tgz": tar_of({"n.ipynb": NOTEBOOK})}),
}
REASON = {
    "x.rar": (b"Rar!\x1a\x07\x00", "RAR"),
    "y.7z": (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    "rar.zip": (b"Rar!\x1a\x07\x00", "RAR"),
    "pdf.pdf": (b"%PDF-1.7", "PDF"),
    "page.html": (b"<!doctype html>", "web page"),
    "script.py": (b"def get_ppv(y): pass", "Python script"),
    "essay.docx": (zip_of({"word/document.xml": b"x"}), "no notebook"),
    "data.json": (b'{"a": 1}', "no notebook"),
    "cloud.gdoc": (b'{"url": "x"}', "no notebook"),
    "picture.png": (b"\x89PNG", "no notebook"),
    "nothing.zip": (zip_of({}), "empty"),
    "locked.zip": (locked_zip(), "password"),
    "linked.zip": (link_zip(), "link"),
    "cut.tar.gz": (tar_of({"n.ipynb": NOTEBOOK})[:40], "cut off"),
    "bomb.tar.gz": (gzip.compress(bytes(3 << 20)), "more than"),
    "junk.zip": (zip_of({".ipynb_checkpoints/n.ipynb": NOTEBOOK}), "automatic copies"),
    "folder.zip": (zip_of({"essay.pdf": b"%PDF", "x.rar": b"Rar!"}), "PDF"),
    "blank": (b"", "no notebook"),
}


def test_every_file_handed_in_ends_in_one_row(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_STUDENT", 2 << 20)
    for name, data in {**GRADED, **{name: data for name, (data, _) in REASON.items()}, "empty.ipynb": b""}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "vera" / "work").mkdir(parents=True)  # an empty folder
    (tmp_path / "otto" / ".ipynb_checkpoints").mkdir(parents=True)
    (tmp_path / "otto" / ".ipynb_checkpoints" / "n.ipynb").write_bytes(NOTEBOOK)
    (tmp_path / "dead.ipynb").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / os.fsdecode(b"\xe9ve.ipynb")).write_bytes(NOTEBOOK)  # a name that is not UTF-8
    one = {submission.student: submission for submission in find_submissions(tmp_path)}
    expected = {name.split(".")[0] for name in [*GRADED, *REASON, "empty", "vera", "otto", "dead", "pipe", "\udce9ve"]}
    assert set(one) == expected
    for name in [*GRADED, "empty", "\udce9ve"]:
        assert len(one[name.split(".")[0]].files) == 1, name
    for name, (_, words) in REASON.items():
        submission = one[name.split(".")[0]]
        assert not submission.files and words in submission.problem, (name, submission.problem)
    for student, words in {"vera": "empty", "otto": "automatic copies", "dead": "link", "pipe": "no ordinary file"}.items():
        assert not one[student].files and words in one[student].problem


def test_names_in_zips_are_the_same_on_every_system(tmp_path):
    """macOS takes umlauts apart and does not say that a name is UTF-8; old PCs write their own letters."""
    names = {"é in one": "Zoé", "apart": "Zoe\u0301"}
    for name in names.values():
        assert set(found(tmp_path, {f"{name}.ipynb": NOTEBOOK, "b.ipynb": NOTEBOOK})) == {"Zoé", "b"}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for raw in ("Jürgen.ipynb".encode(), "Müller.ipynb".encode("cp437"), b"ada.ipynb"):
            info = zipfile.ZipInfo("?" * len(raw))
            archive.writestr(info, NOTEBOOK)
    data = out.getvalue()
    for raw in ("Jürgen.ipynb".encode(), "Müller.ipynb".encode("cp437"), b"ada.ipynb"):
        data = data.replace(b"?" * len(raw), raw, 2)
    (tmp_path / "old.zip").write_bytes(data)
    assert {one.student for one in find_submissions(tmp_path / "old.zip")} == {"Jürgen", "Müller", "ada"}


# ---- whose it is ------------------------------------------------------------------------------------------------------


def test_blackboards_own_words_come_first(tmp_path):
    """Eve's file is called like one of Ada's, with an early time: it is Eve's, and its time is that of Blackboard."""
    one = found(
        tmp_path,
        {
            "Homework 2_eve_attempt_2026-11-21-13-05-59_x_ada_attempt_2026-11-01-10-00-00_w.ipynb": NOTEBOOK,
            "Homework 2_eve_attempt_2026-11-21-13-05-59.txt": b"Name: Eve (eve)\nAssignment: Homework 2",
            "Homework 2_ada_attempt_2026-11-20-13-05-59_w.ipynb": NOTEBOOK,
            "Homework 2_ada_attempt_2026-11-20-13-05-59.txt": b"Name: Ada Lovelace (ada)",
            "Homework 2_b_c_attempt_2026-11-20-13-05-59.txt": b"Name: Bo (b_c)\nThere are no student files",
        },
    )
    assert set(one) == {"eve", "ada", "b_c"} and len(one["ada"].files) == len(one["eve"].files) == 1
    assert one["eve"].time == datetime(2026, 11, 21, 13, 5, 59) and one["ada"].name == "Ada Lovelace"
    assert one["b_c"].problem == "No file was handed in."


def test_a_moodle_name_that_fits_two_is_graded_under_neither(tmp_path):
    one = found(
        tmp_path,
        {
            "Ada_101_assignsubmission_file_/w.ipynb": NOTEBOOK,
            "Bob_103_assignsubmission_file_/w.ipynb": NOTEBOOK,
            "Bob_103_assignsubmission_onlinetext/onlinetext.html": b"<p>see file</p>",
            "Cy_104_assignsubmission_onlinetext_/onlinetext.html": b"<p>def</p>",
            "Eve_101_assignsubmission_file_102_assignsubmission_file_/w.ipynb": NOTEBOOK,
        },
    )
    assert set(one) == {"101", "103", "104", "Eve_101_assignsubmission_file_102_assignsubmission_file_"}
    flagged = one["Eve_101_assignsubmission_file_102_assignsubmission_file_"]
    assert not flagged.files and "101" in flagged.problem and "102" in flagged.problem and "neither" in flagged.problem
    assert len(one["101"].files) == len(one["103"].files) == 1 and "web page" in one["104"].problem


def test_what_other_platforms_hand_out(tmp_path):
    one = found(
        tmp_path,
        {
            "123-77 - Ada Lovelace - Nov 19, 2026 105 PM/old.ipynb": NOTEBOOK,
            "123-77 - Ada Lovelace - Nov 20, 2026 1142 AM/a.ipynb": NOTEBOOK,
            "456-77 - Eve - Nov 1, 2026 100 PM - Nov 21, 2026 100 AM/b.ipynb": NOTEBOOK,
            "index.html": b"x",
        },
    )
    assert set(one) == {"123", "456"} and one["123"].platform == "Brightspace" and one["123"].name == "Ada Lovelace"
    assert one["123"].time == datetime(2026, 11, 20, 11, 42) and one["123"].files[-1][0].endswith("a.ipynb")
    assert one["456"].time == datetime(2026, 11, 21, 1, 0), "a name with a time in it cannot turn back the clock"
    sakai = "Homework 2/Lovelace, Ada(alovelace)"
    one = found(
        tmp_path,
        {
            f"{sakai}/timestamp.txt": b"20261120130559000",
            f"{sakai}/Submission attachment(s)/w.ipynb": NOTEBOOK,
            f"{sakai}/Feedback Attachment(s)/solved.ipynb": NOTEBOOK,
            "Homework 2/Noether, Emmy(enoether)/Submission attachment(s)/w.ipynb": NOTEBOOK,
            "Homework 2/grades.csv": b"x",
        },
    )
    assert set(one) == {"alovelace", "enoether"} and one["alovelace"].time == datetime(2026, 11, 20, 13, 5, 59)
    assert len(one["alovelace"].files) == 1
    metadata = b"submission_9:\n  :submitters:\n  - :name: Ada\n    :sid: '007'\n  - :name: Bob\n    :sid: '8'\n  :created_at: 2026-11-20 12:00:00 Z\n"
    one = found(
        tmp_path,
        {
            "x_export/submission_metadata.yml": metadata,
            "x_export/submission_9/w.ipynb": NOTEBOOK,
            "x_export/submission_10/w.ipynb": NOTEBOOK,
        },
    )
    assert set(one) == {"007", "8", "10"} - {"10"} | {"submission_10"} and one["8"].files == one["007"].files
    one = found(
        tmp_path, {f"{name} - Homework 2.ipynb": NOTEBOOK for name in ("Ada Lovelace", "Emmy Noether", "Copy of Grace Hopper")}
    )
    assert set(one) == {"Ada Lovelace", "Emmy Noether", "Grace Hopper"}
    one = found(
        tmp_path,
        {
            "ada+02_x+2026-11-19 10:00:00 UTC+ab12/w.ipynb": NOTEBOOK,
            "ada+02_x+2026-11-20 10:00:00 UTC+cd34/w.ipynb": NOTEBOOK,
            "bob+02_x+2026-11-20 10:00:00.123 UTC/w.ipynb": NOTEBOOK,
        },
    )
    assert set(one) == {"ada", "bob"} and "cd34" in one["ada"].files[-1][0] and one["ada"].time.utcoffset().seconds == 0


def test_nbgraders_timestamp_decides_not_the_copys(tmp_path):
    for student, stamp in {"ada": "2026-11-20 10:00:00.5 UTC", "bob": "2026-11-25 10:00:00 UTC", "eve": ""}.items():
        place = tmp_path / "submitted" / student / "02_x"
        place.mkdir(parents=True)
        (place / "02.ipynb").write_bytes(NOTEBOOK)
        (place / "deep").mkdir()
        (place / "deep" / "timestamp.txt").write_text("1999-01-01 00:00:00 UTC")
        if stamp:
            (place / "timestamp.txt").write_text(stamp)
    for path in (tmp_path, tmp_path / "submitted"):
        one = {submission.student: submission for submission in find_submissions(path)}
        assert (one["ada"].time.day, one["bob"].time.day, one["eve"].time) == (20, 25, None)
    shutil.make_archive(str(tmp_path / "course"), "zip", tmp_path, "submitted")
    one = {submission.student: submission for submission in find_submissions(tmp_path / "course.zip")}
    assert one["bob"].time.day == 25 and set(one) == {"ada", "bob", "eve"}


def test_one_students_files_are_one_student(tmp_path):
    for name in ("ada/one.ipynb", "ada/two.ipynb"):
        (tmp_path / "one" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "one" / name).write_bytes(NOTEBOOK)
    notes = []
    (one,) = find_submissions(tmp_path / "one", notes=notes)
    assert one.student == "ada" and len(one.files) == 2 and "one student's" in notes[0]
    assert {s.student for s in find_submissions(tmp_path / "one" / "ada")} == {"one", "two"}, "named itself, it is the class"
    for name in ("alone/ada/n.ipynb", "alone/ada/images/x.png", "two/class/ada/n.ipynb", "two/class/bob/essay.docx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(NOTEBOOK if name.endswith("ipynb") else b"x")
    assert [s.student for s in find_submissions(tmp_path / "alone")] == ["ada"]
    assert [s.student for s in find_submissions(tmp_path / "two")] == ["ada", "bob"]
    (tmp_path / "zipped").mkdir()
    (tmp_path / "zipped" / "ada.zip").write_bytes(zip_of({"a.ipynb": NOTEBOOK, "b.ipynb": NOTEBOOK}))
    assert [s.student for s in find_submissions(tmp_path / "zipped")] == ["ada"]
    flat = [
        "Ada.ipynb",
        "ada (1).ipynb",
        "ADA.zip",
        "bob.ipynb",
        "bob-Copy1.ipynb",
        "hw.ipynb",
        "hw (1).ipynb",
        "Zoé.ipynb",
        "Zoe\u0301.pdf",
    ]
    (tmp_path / "flat").mkdir()
    for name in flat:
        (tmp_path / "flat" / name).write_bytes(zip_of({"n.ipynb": NOTEBOOK}) if name.endswith("zip") else NOTEBOOK)
    one = {s.student.casefold(): len(s.files) for s in find_submissions(tmp_path / "flat")}
    assert one == {"ada": 3, "bob": 2, "hw": 1, "hw (1)": 1, "zoé": 2}, "what is called like homework may be anybody's"
    assert set(found(tmp_path, {f"class/{name}.ipynb": NOTEBOOK for name in ("ada", "bob", "eve")})) == {"ada", "bob", "eve"}
