"""Prediction tables: what is written comes back, and every kind of bad table is refused with a message to act on."""

import re

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from data.prediction_tables import FINDINGS, PredictionTable, read_predictions, read_table, write_predictions
from models import metrics


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
        assert "every X-ray counts as a patient of its own" in notes
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


@pytest.mark.parametrize("text, words", [("", "the file is empty"), ("Image Index,Hernia\n", "not one row under the header")])
def test_an_empty_file(folder, text, words):
    (folder / "test.csv").write_text(text)
    refused(folder, "test.csv", words)


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
    refused(folder, "has two rows")

    def nest(frame):
        frame.loc[2:3, "Image Index"] = ["p1/image.png", "p2/image.png"]

    edit(folder / "test.csv", nest)
    refused(folder, "p1/image.png", "p2/image.png", "called alike")


def test_a_patient_in_two_splits(folder):
    def change(frame):
        frame.loc[3, "Patient ID"] = 100  # of valid

    edit(folder / "test.csv", change)
    refused(folder, "patient 100", "valid.csv and in test.csv", "Split by patient")


def test_a_finding_without_positives_is_a_note_not_an_error(folder):
    edit(folder / "test.csv", lambda frame: frame.assign(Hernia=0))
    found = read_predictions(folder)
    assert found.notes == ("test: no positive X-ray of Hernia; rates that need one are nan.",)


def test_reading_one_file_alone(folder):
    assert len(read_table(folder / "valid.csv")) == 30


# -- tables of other tools: the right value, a note, or the right sentence ----------------------------------------------


def text_of(folder, change) -> None:
    path = folder / "test.csv"
    before = path.read_text()
    changed = change(before)
    assert changed != before
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())


def labels_as(no, yes):
    """The same table with the labels in words."""

    def words(line):
        return ",".join({"0": no, "1": yes}[cell] if 5 <= n < 19 else cell for n, cell in enumerate(line.split(",")))

    return lambda text: "\n".join(words(line) if k else line for k, line in enumerate(text.splitlines()))


def german(text):
    return text.replace(",", ";").replace(".", ",").replace(",png", ".png")


SAME = {
    "semicolons and decimal commas": german,
    "sep=": lambda text: "sep=;\n" + german(text),
    "tabs": lambda text: text.replace(",", "\t"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "BOM and CRLF": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    "trailing commas": lambda text: text.replace("\n", ",\n"),
    "rows end in a comma": lambda text: "\n".join(line + "," * (k > 0) for k, line in enumerate(text.splitlines())),
    "pandas' index": lambda text: "\n".join(f"{'' if k == 0 else k - 1},{line}" for k, line in enumerate(text.splitlines())),
    "R's row names": lambda text: "\n".join(line if k == 0 else f'"{k}",{line}' for k, line in enumerate(text.splitlines())),
    "R's names": lambda text: text.replace("Patient ID", "Patient.ID").replace("Image Index", "Image.Index"),
    "Pleural Thickening": lambda text: text.replace("Pleural_Thickening", "Pleural Thickening"),
    "patients 00000200": lambda text: text.replace(".png,2", ".png,000002"),
    "patients 200.0": lambda text: "\n".join(",".join(cell + ".0" * (k > 0 and n == 1) for n, cell in enumerate(line.split(","))) for k, line in enumerate(text.splitlines())),
    "labels 1.0": lambda text: "\n".join(",".join(cell + ".0" * (k > 0 and 5 <= n < 19) for n, cell in enumerate(line.split(","))) for k, line in enumerate(text.splitlines())),
    "labels True": labels_as("False", "TRUE"),
    "labels of a German spreadsheet": labels_as("FALSCH", "WAHR"),
    "decimal commas in quotes": lambda text: "\n".join(",".join(f'"{cell.replace(".", ",")}"' if k > 0 and 19 <= n < 33 else cell for n, cell in enumerate(line.split(","))) for k, line in enumerate(text.splitlines())),
    "a column twice": lambda text: "\n".join(f"{line},{line.split(',')[5]}" for line in text.splitlines()),
    "sexes in words": lambda text: text.replace(",F,", ",Female,").replace(",M,", ",male,"),
    "ages of DICOM": lambda text: "\n".join(",".join(f"0{cell}Y" if k > 0 and n == 2 else cell for n, cell in enumerate(line.split(","))) for k, line in enumerate(text.splitlines())),
    "file in capitals": None,
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_one_table_in_many_shapes(folder, name):
    before = read_predictions(folder).test
    if SAME[name]:
        text_of(folder, SAME[name])
    else:
        (folder / "test.csv").rename(folder / "Test.CSV")
    found = read_predictions(folder)
    assert found.notes == ()
    pd.testing.assert_frame_equal(found.test.about, before.about)
    for array in ("y", "p", "mined"):
        np.testing.assert_array_equal(getattr(found.test, array), getattr(before, array))


@pytest.mark.parametrize("value, note", [("1.0000001", "up to 1.0000001"), ("-1e-9", "by rounding"), ("100%", None)])
def test_rounding_is_clipped_and_said(folder, value, note):
    before = read_predictions(folder).test.p

    def change(frame):
        frame["Nodule_pred"] = frame["Nodule_pred"].astype(object)
        frame.loc[3, "Nodule_pred"] = value

    edit(folder / "test.csv", change)
    found = read_predictions(folder)
    assert found.test.p[3, FINDINGS.index("Nodule")] == (0 if value.startswith("-") else 1)
    assert (found.test.p != before).sum() == 1
    assert [note in text and "clipped" in text for text in found.notes] == [True] * (note is not None)


PRED = [f"{f}_pred" for f in FINDINGS]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: frame.assign(**{c: frame[c] * 100 for c in PRED}), ["Per cent? Then divide by 100", "they reach from"]),
        (lambda frame: frame.assign(**{c: np.log(frame[c] / (1 - frame[c])) for c in PRED}), ["Logits? Then apply the sigmoid first"]),
        (lambda frame: frame.assign(Mass=frame["Mass"].replace(0, -1)), ["are −1, CheXpert's sign for uncertain", "Mass in line"]),
        (lambda frame: frame.assign(Mass_pred=frame["Mass_pred"] * 100), ["Per cent? Then divide by 100", "Mass_pred in line"]),
        (lambda frame: frame.assign(Mass_pred="0_5"), ["Mass_pred in line 2 is 0_5", "not a number"]),
        (lambda frame: frame.assign(Mass_pred=[*frame["Mass_pred"][:-1], np.nan]), ["Mass_pred in line 21 is empty"]),
        (lambda frame: frame.assign(**{"Patient ID": "1.23E+04"}), ["Patient ID is '1.23E+04' in line 2", "spreadsheet has rewritten"]),
        (lambda frame: frame[["Image Index", "Mass_pred"]].assign(subject_id=1, study_id=1), ["columns of MIMIC-CXR"]),
        (lambda frame: frame.assign(Mass_pred="yes"), ["Mass_pred in line 2 is yes", "not a number"]),
        (lambda frame: frame.assign(**{"Patient.ID": 1}), ["two columns are called 'Patient ID', and they differ (line 2)"]),
    ],
)  # fmt: skip
def test_what_was_seen_then_the_likely_cause(folder, change, words):
    edit(folder / "test.csv", change)
    refused(folder, "test.csv", *words)


def shuffled(frame):
    many = pd.concat([frame] * 10, ignore_index=True)
    many["Image Index"] = [f"{900 + k:08d}_000.png" for k in range(len(many))]
    many["Patient ID"] = range(900, 900 + len(many))
    many[PRED] = np.random.default_rng(0).random((len(many), 14))
    return many


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda frame: frame.assign(**{c: (frame[c] > 0.5) * 1 for c in PRED}), "all predictions are 0 or 1: decisions, not probabilities"),
        (lambda frame: frame.assign(Mass_pred=0.5), "test.csv: Mass_pred is 0.5 in every row"),
        (lambda frame: frame.assign(**{"Lung Opacity_pred": 0.5}), "test.csv: Lung Opacity_pred is not one of the 14 findings, and is not used"),
        (lambda frame: frame.assign(**{"Patient ID": frame["Patient ID"][::-1].to_numpy()}), "rows name another patient than their X-ray"),
        (lambda frame: frame.assign(**{"Patient ID": [f"{'Pp'[k % 2]}{k // 2}" for k in range(20)], "Image Index": range(20)}), "patients P0 and p0 differ in capitals only"),
        (shuffled, "no better than chance. Are the rows of labels and predictions in one order?"),
        (lambda frame: shuffled(frame).assign(**{f"{f}_pred": 1 - shuffled(frame)[f] * 0.5 for f in FINDINGS}), "the mean AUROC is 0.00.*Is the sign reversed?"),
    ],
)  # fmt: skip
def test_what_a_table_may_hold_instead(folder, change, note):
    edit(folder / "test.csv", change)
    assert any(re.search(re.escape(note).replace(r"\.\*", ".*"), text) for text in read_predictions(folder).notes)


def test_one_value_too_large_is_not_called_logits(folder):
    edit(folder / "test.csv", lambda frame: frame.assign(Mass_pred=np.where(frame.index == 3, 1.2, frame["Mass_pred"])))
    with pytest.raises(DataError) as error:
        read_predictions(folder)
    assert "ogit" not in str(error.value) and "Per cent" not in str(error.value) and "1 of 280 do not" in str(error.value)


def test_decimal_commas_between_commas(folder):
    text_of(folder, lambda text: text.splitlines()[0] + "\n" + text.split("\n", 1)[1].replace("0.", "0,"))
    refused(folder, "test.csv", "fields, but the header names", "decimal comma")


def test_a_patient_is_one_however_written(folder):
    edit(folder / "test.csv", lambda frame: frame.assign(**{"Patient ID": ["00000100", *frame["Patient ID"][1:]]}))
    refused(folder, "patient 100", "valid.csv and in test.csv")


def test_a_patient_is_one_in_capitals_too(folder):
    for name, patient in (("valid", "Pat-1"), ("test", "PAT-1")):
        edit(
            folder / f"{name}.csv",
            lambda frame, patient=patient: frame.assign(**{"Patient ID": [patient, *frame["Patient ID"][1:]]}),
        )
    refused(folder, "patient pat-1", "valid.csv and in test.csv")


def test_a_file_in_place_of_the_folder(folder):
    refused(folder / "test.csv", "a file, but a folder is needed", "Name the folder that it is in")


def test_the_same_film_in_two_tables_without_patients(folder):
    for name in ("valid", "test", "train"):
        edit(
            folder / f"{name}.csv",
            lambda frame, name=name: frame.drop(columns="Patient ID").assign(
                **{"Image Index": [f"film_{name}_{k}.png" for k in range(len(frame))]}
            ),
        )
    assert "every X-ray counts as a patient of its own" in " ".join(read_predictions(folder).notes)
    edit(folder / "test.csv", lambda frame: frame.assign(**{"Image Index": ["images/film_valid_2.PNG", *frame["Image Index"][1:]]}))
    refused(folder, "film_valid_2.png is in valid.csv (row 3) and in test.csv (row 1)", "1 X-rays are in both")


def test_patients_from_the_archives_names(folder):
    for name in ("valid", "test", "train"):
        edit(folder / f"{name}.csv", lambda frame: frame.drop(columns="Patient ID"))
    found = read_predictions(folder)
    assert list(found.test.patients) == list(make_table(20, 200, 2).patients)
    assert "patients were taken from the names" in " ".join(found.notes)
    edit(folder / "test.csv", lambda frame: frame.assign(**{"Image Index": ["00000100_007.png", *frame["Image Index"][1:]]}))
    refused(folder, "patient 100 is in valid.csv and in test.csv")


def test_the_same_table_twice_without_any_names(folder):
    (folder / "train.csv").unlink()
    edit(folder / "valid.csv", lambda frame: frame.drop(columns=["Patient ID", "Image Index"]))
    (folder / "test.csv").write_bytes((folder / "valid.csv").read_bytes())
    assert any("30 rows of test.csv have labels and predictions of valid.csv" in note for note in read_predictions(folder).notes)


def test_rows_that_repeat_without_names(folder):
    edit(folder / "test.csv", lambda frame: pd.concat([frame, frame[:2]]).drop(columns=["Patient ID", "Image Index"]))
    assert any("2 rows repeat another one, first line 22" in note for note in read_predictions(folder).notes)


def test_one_patient(folder, tmp_path):
    edit(folder / "test.csv", lambda frame: frame.assign(**{"Patient ID": 200}))
    found = read_predictions(folder)
    assert any(note.startswith("test: all X-rays are of one patient") for note in found.notes)
    intervals = metrics.auroc_intervals(found.test.y, found.test.p, found.test.patients, FINDINGS, np.random.default_rng(0), 20)
    assert intervals["AUROC"].notna().all() and intervals[["low", "high"]].isna().all(axis=None)
    assert np.isnan(
        metrics.bootstrap_metric(lambda y: y.mean(), found.test.patients, np.random.default_rng(0), found.test.y, n_resamples=5)
    ).all()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "model.csv").write_bytes((folder / "test.csv").read_bytes())
    refused(tmp_path / "one", "model.csv: one table of one patient cannot be split")


def test_an_age_that_is_none_is_a_note(folder):
    edit(folder / "test.csv", lambda frame: frame.assign(**{"Patient Age": np.where(frame.index == 0, 411, frame["Patient Age"])}))
    found = read_predictions(folder)
    assert np.isnan(found.test.about["Patient Age"][0]) and "Patient Age is '411' in line 2" in found.notes[0]
