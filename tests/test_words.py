"""Words of tables: ages, sexes, views, patients, names of X-rays, findings."""

import re

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from data.nih_tables import labels_of
from data.patient_columns import age_in_years, film_key, patient_of, sex_of, understand, view_of
from data.tables import numbers, other_archive


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("58", 58),
        ("058Y", 58),
        ("58.0", 58),
        ("60 years", 60),
        ("005M", 5 / 12),
        ("010D", 10 / 365.25),
        ("3 months", 0.25),
        ("8W", 56 / 365.25),
        ("0", 0),
        ("58,5", 58.5),
        ("58 years", 58),
        ("5M", 5 / 12),
        (" 058y ", 58),
    ],
)
def test_ages(text, years):
    assert age_in_years(text) == pytest.approx(years)


@pytest.mark.parametrize("text", ["411", "-3", "60-70", ">89", "old", "1850Y", "1957", "05. Aug", "Y58"])
def test_no_ages(text):
    with pytest.raises(ValueError):
        age_in_years(text)


@pytest.mark.parametrize(
    "read, text, meaning",
    [
        (sex_of, "Female", "F"),
        (sex_of, "m", "M"),
        (sex_of, "", "unknown"),
        (sex_of, "O", "unknown"),
        (view_of, "pa", "PA"),
        (view_of, "AP Supine", "AP"),
        (view_of, "Lateral", "lateral"),
        (view_of, "LL", "lateral"),
        (view_of, "PA ", "PA"),
        (view_of, "postero-anterior", "PA"),
        (view_of, "AP_horizontal", "AP"),
        (view_of, "UNK", "unknown"),
    ],
)
def test_words(read, text, meaning):
    assert read(text) == meaning


@pytest.mark.parametrize("text", ["13", "13.0", "13,0", "00000013", " 13 ", 13, 13.0])
def test_one_patient(text):
    assert patient_of(text) == "13"


def test_names_of_films():
    assert {
        film_key(name) for name in ("00000013_005.png", "images/00000013_005.PNG", r"C:\x\00000013_005.png", "00000013_005")
    } == {"00000013_005"}


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("No Finding", []),
        ("no findings", []),
        ("Nodule;Mass", ["Mass", "Nodule"]),
        ("Mass | pleural thickening", ["Mass", "Pleural_Thickening"]),
        ("Infiltrate", ["Infiltration"]),
        ("Pleural Effusion/Edema", ["Effusion", "Edema"]),
    ],
)
def test_findings(text, findings):
    assert labels_of(text) == findings


@pytest.mark.parametrize("text", ["Effusion?", "?Mass", "Nodule/Mass", "no Effusion", "Effusion:1", "Normal"])
def test_no_findings(text):
    with pytest.raises(ValueError):
        labels_of(text)


@pytest.mark.parametrize("text, value", [("0,414", 0.414), ("41.4%", 0.414), ("1,5E-05", 1.5e-5), (".5", 0.5), ("0_5", np.nan), ("0.5*", np.nan), ("−0.1", np.nan)])  # fmt: skip
def test_numbers(text, value):
    np.testing.assert_allclose(numbers(pd.DataFrame([[text]])), [[value]])


def patients(*names, **columns):
    """The patients of a table with these, and what is said about them."""
    said = []
    frame = pd.DataFrame({"Patient ID": names} | columns, index=range(2, 2 + len(names)), dtype="str")
    return understand(frame, "a.csv", said.append), "".join(said)


@pytest.mark.parametrize("text", ["1.23E+04", "1,23E+04", "12,345", "1.000", "1,000"])
def test_patients_that_a_spreadsheet_has_rewritten(text):
    with pytest.raises(
        DataError, match=f"a.csv: Patient ID is '{re.escape(text)}' in line 3: a number that a spreadsheet has rewritten"
    ):
        patients("13", text)


def test_patients_that_differ_in_capitals():
    frame, said = patients("P1", "p1", "P2")
    assert frame["Patient ID"].tolist() == ["p1", "p1", "p2"] and "patients P1 and p1 differ in capitals only" in said


def test_ages_divided_by_100():
    assert "nobody is two years old, the oldest is 0.58" in patients(*"abcdefghij", **{"Patient Age": ["0.58"] * 10})[1]
    assert patients(*"abcdefghij", **{"Patient Age": ["58"] * 10})[1] == ""


@pytest.mark.parametrize(
    "columns, archive",
    [
        ("Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding", "CheXpert"),
        ("image_id,class_name,class_id,rad_id,x_min", "VinDr-CXR"),
        (",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,Labels", "PadChest"),
        ("subject_id,study_id,Atelectasis", "MIMIC-CXR"),
        ("patientId,x,y,width,height,Target", "RSNA"),
    ],
)
def test_tables_of_other_archives(columns, archive):
    assert f"columns of {archive}" in other_archive(columns.split(","))
    assert other_archive(["Image Index", "Finding Labels", "Patient ID"]) == ""
