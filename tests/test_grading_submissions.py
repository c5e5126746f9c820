"""Submissions are found in what learning platforms hand out, and nothing in them can hurt."""

import io
import os
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


def test_names_that_only_look_like_canvas_are_not_taken_for_it(tmp_path):
    one = found(tmp_path, {"hw_2_1_ada.ipynb": NOTEBOOK, "hw_2_1_bob.ipynb": NOTEBOOK})
    assert set(one) == {"hw_2_1_ada", "hw_2_1_bob"}


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
