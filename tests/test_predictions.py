"""Prediction tables: what is written comes back, and every kind of bad table is refused with a message to act on."""

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from data.prediction_tables import FINDINGS, PredictionTable, read_predictions, read_table, write_predictions


def make_table(n=40, first_patient=0, seed=0, mined=False) -> PredictionTable:
    rng = np.random.default_rng(seed)
    about = pd.DataFrame(
        {
            "Image Index": [f"{first_patient + k // 2:08d}_{k % 2:03d}.png" for k in range(n)],
            "Patient ID": [str(first_patient + k // 2) for k in range(n)],
            "Patient Age": rng.integers(20, 90, n),
            "Patient Gender": rng.choice(["F", "M"], n),
            "View Position": rng.choice(["PA", "AP"], n),
        }
    )
    y = rng.integers(0, 2, (n, 14))
    y[:2] = [[0] * 14, [1] * 14]
    return PredictionTable(about, y, rng.random((n, 14)).round(5), rng.integers(0, 2, (n, 14)) if mined else None)


@pytest.fixture
def folder(tmp_path):
    tables = {"train": make_table(), "valid": make_table(30, 100, 1), "test": make_table(20, 200, 2, mined=True)}
    return write_predictions(tmp_path / "tables", tables, simulated=True)


def edit(path, change) -> None:
    frame = pd.read_csv(path)
    changed = change(frame)
    (frame if changed is None else changed).to_csv(path, index=False)


def test_what_is_written_comes_back(folder):
    found = read_predictions(folder)
    expected = make_table(20, 200, 2, mined=True)
    assert found.source == "simulated" and found.notes == ()
    assert (len(found.train), len(found.valid), len(found.test)) == (40, 30, 20)
    np.testing.assert_array_equal(found.test.y, expected.y)
    np.testing.assert_array_equal(found.test.mined, expected.mined)
    np.testing.assert_allclose(found.test.p, expected.p)
    assert found.valid.mined is None
    assert list(found.test.patients) == list(expected.patients)
    assert found.test.y.dtype.kind == "i" and found.test.p.dtype == np.float64


def test_writing_real_patients_over_simulated_ones_is_not_called_simulated(folder):
    write_predictions(folder, {"valid": make_table(30, 100, 1)}, simulated=False)
    assert read_predictions(folder).source == "real patients: tables"


def test_columns_may_come_in_any_order(folder):
    before = read_predictions(folder).test
    edit(folder / "test.csv", lambda frame: frame[frame.columns[::-1]])
    np.testing.assert_array_equal(read_predictions(folder).test.y, before.y)


def test_train_is_optional(folder):
    (folder / "train.csv").unlink()
    assert read_predictions(folder).train is None


def test_take_keeps_rows_together():
    table = make_table(mined=True)
    for rows in (np.array([5, 3, 3]), np.arange(40) % 3 == 0):
        part = table.take(rows)
        assert list(part.about["Image Index"]) == list(table.about["Image Index"].to_numpy()[rows])
        np.testing.assert_array_equal(part.y, table.y[rows])
        np.testing.assert_array_equal(part.mined, table.mined[rows])


class TestOneTable:
    @pytest.fixture
    def bare(self, tmp_path):
        table = make_table(101)
        blocks = [pd.DataFrame(table.y, columns=list(FINDINGS)), pd.DataFrame(table.p, columns=[f"{f}_pred" for f in FINDINGS])]
        pd.concat(blocks, axis=1).to_csv(tmp_path / "some_model.csv", index=False)
        return tmp_path

    def test_is_split_in_halves_that_share_nothing(self, bare):
        found = read_predictions(bare)
        assert (found.train, len(found.valid), len(found.test)) == (None, 50, 51)
        assert not set(found.valid.patients) & set(found.test.patients)

    def test_the_split_is_random_and_seeded(self, bare):
        again, other = read_predictions(bare), read_predictions(bare, seed=1)
        assert list(read_predictions(bare).test.patients) == list(again.test.patients)
        assert list(again.test.patients) != list(other.test.patients)

    def test_says_what_is_missing(self, bare):
        notes = " ".join(read_predictions(bare).notes)
        assert "every film counts as a patient of its own" in notes
        assert "Patient Age, Patient Gender, View Position" in notes and "split at random" in notes

    def test_films_of_a_patient_stay_together(self, bare):
        edit(bare / "some_model.csv", lambda frame: frame.assign(**{"Patient ID": np.arange(len(frame)) // 3}))
        found = read_predictions(bare)
        assert not set(found.valid.patients) & set(found.test.patients)
        assert len(found.valid) + len(found.test) == 101


def refused(folder, *words) -> None:
    with pytest.raises(DataError) as error:
        read_predictions(folder)
    for word in words:
        assert word in str(error.value), str(error.value)


def test_a_folder_that_is_not_there(tmp_path):
    refused(tmp_path / "nothing", "nothing", "no such folder")


def test_a_folder_without_tables(tmp_path):
    refused(tmp_path, "no CSV file", "valid.csv and test.csv")


def test_a_folder_without_validation(folder):
    (folder / "valid.csv").unlink()
    refused(folder, "valid.csv")


def test_train_alone_is_not_taken_for_a_table_to_split(folder):
    (folder / "valid.csv").unlink()
    (folder / "test.csv").unlink()
    refused(folder, "Needed are valid.csv and test.csv")


@pytest.mark.parametrize("text", ["", "Image Index,Hernia,Hernia_pred\n"])
def test_an_empty_file(folder, text):
    (folder / "test.csv").write_text(text)
    refused(folder, "test.csv", "empty")


def test_a_file_that_is_no_table(folder):
    (folder / "test.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    refused(folder, "test.csv")


@pytest.mark.parametrize(
    ("dropped", "words"),
    [
        (["Mass_pred"], ["column Mass_pred is missing", "although Mass is there"]),
        (["Mass"], ["column Mass is missing", "although Mass_pred is there"]),
        (["Hernia", "Hernia_pred"], ["column Hernia is missing", "and so is Hernia_pred"]),
        (["Edema_mined"], ["column Edema_mined is missing"]),
    ],
)
def test_a_missing_column(folder, dropped, words):
    edit(folder / "test.csv", lambda frame: frame.drop(columns=dropped))
    refused(folder, "test.csv", *words)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("Nodule_pred", 1.2, ["Nodule_pred in line 5 is 1.2", "between 0 and 1"]),
        ("Nodule_pred", -0.1, ["between 0 and 1"]),
        ("Nodule_pred", np.inf, ["between 0 and 1"]),
        ("Nodule_pred", np.nan, ["Nodule_pred in line 5", "missing"]),
        ("Nodule_pred", "high", ["Nodule_pred in line 5 is high", "not a number"]),
        ("Nodule", 2, ["Nodule in line 5 is 2", "0 or 1"]),
        ("Nodule", 0.5, ["0 or 1"]),
        ("Nodule", -1, ["0 or 1"]),
        ("Nodule", np.nan, ["Nodule in line 5", "missing"]),
        ("Nodule_mined", 3, ["Nodule_mined in line 5", "0 or 1"]),
        ("Patient ID", np.nan, ["Patient ID is missing in line 5"]),
    ],
)
def test_a_bad_value(folder, column, value, words):
    def change(frame):
        frame[column] = frame[column].astype(object)
        frame.loc[3, column] = value

    edit(folder / "test.csv", change)
    refused(folder, "test.csv", *words)


def test_a_film_listed_twice(folder):
    def change(frame):
        frame.loc[3, "Image Index"] = frame.loc[2, "Image Index"]

    edit(folder / "test.csv", change)
    refused(folder, "listed twice")


def test_a_patient_in_two_splits(folder):
    def change(frame):
        frame.loc[3, "Patient ID"] = 100  # of valid

    edit(folder / "test.csv", change)
    refused(folder, "patient 100", "valid.csv and in test.csv", "Split by patient")


def test_a_finding_without_positives_is_a_note_not_an_error(folder):
    edit(folder / "test.csv", lambda frame: frame.assign(Hernia=0))
    found = read_predictions(folder)
    assert found.notes == ("test: no positive film of Hernia; rates that need one are nan.",)


def test_reading_one_file_alone(folder):
    assert len(read_table(folder / "valid.csv")) == 30
