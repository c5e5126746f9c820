"""The reader of NIH-format folders: what it reads, and what it says about input that is wrong."""

import warnings

import cv2
import numpy as np
import pandas as pd
import pytest

from data import nih
from data.errors import DataError

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
)


@pytest.fixture
def folder(tmp_path):
    """Six films of four patients; two of them in the test split, one read by radiologists."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = [
        ("00000001_000.png", "Cardiomegaly|Effusion", 1),
        ("00000001_001.png", "No Finding", 1),
        ("00000002_000.png", "Hernia", 2),
        ("00000003_000.png", "Pleural_Thickening", 3),
        ("00000004_000.png", "No Finding", 4),
        ("00000004_001.png", "Mass", 4),
    ]
    table = HEADER
    for name, labels, patient in rows:
        cv2.imwrite(str(tmp_path / "images" / name), rng.integers(0, 256, (64, 64)).astype(np.uint8))
        table += f"{name},{labels},0,{patient},50,F,PA,2500,2048,0.171,0.171\n"
    (tmp_path / nih.TABLE_FILE).write_text(table)
    (tmp_path / "train_val_list.txt").write_text("\n".join(name for name, _, patient in rows if patient < 4))
    (tmp_path / "test_list.txt").write_text("\n".join(name for name, _, patient in rows if patient == 4) + "\n")
    (tmp_path / nih.BOX_FILE).write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000001_000.png,Infiltrate,256,512,128,64,,,\n"
    )
    findings = ",".join(name.replace("_", " ") for name in nih.FINDINGS)
    answers = ",".join("YES" if name == "Mass" else "NO" for name in nih.FINDINGS)
    (tmp_path / nih.MANUAL_FILE).write_text(f"Image ID,Patient ID,Abnormal,{findings},Other\n00000004_001.png,4,YES,{answers},NO\n")
    return tmp_path


def replace_in(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_reads_tables(folder):
    chest = nih.read_chest_folder(folder)
    assert chest.table["split"].tolist() == ["train_val"] * 4 + ["test"] * 2
    assert chest.table[list(nih.FINDINGS)].sum().to_dict() == {
        name: int(name in ("Cardiomegaly", "Effusion", "Hernia", "Pleural_Thickening", "Mass")) for name in nih.FINDINGS
    }
    box = chest.boxes.iloc[0]
    assert (box["Finding"], box["x"], box["y"], box["w"], box["h"]) == ("Infiltration", 0.25, 0.5, 0.125, 0.0625)
    assert chest.manual["Image Index"].tolist() == ["00000004_001.png"]
    assert chest.manual.loc[0, "Mass"] == 1 and chest.manual[list(nih.FINDINGS)].sum(axis=1).iloc[0] == 1
    assert chest.source == f"real patients: {folder.name}"


def test_newer_edition_of_the_table(folder):
    """It says "Patient Sex", and its rows end with a comma that the header lacks."""
    before = nih.read_chest_folder(folder).table
    path = folder / nih.TABLE_FILE
    header, *rows = path.read_text().replace("Patient Gender", "Patient Sex").splitlines()
    path.write_text("\n".join([header, *(f"{row}," for row in rows)]) + "\n")
    pd.testing.assert_frame_equal(nih.read_chest_folder(folder).table, before)


def test_simulated_folder_says_so(folder):
    (folder / nih.SIMULATED_FILE).write_text("{}")
    assert nih.read_chest_folder(folder).source == "simulated"


def test_optional_files_may_be_missing(folder):
    (folder / nih.BOX_FILE).unlink()
    (folder / nih.MANUAL_FILE).unlink()
    chest = nih.read_chest_folder(folder)
    assert len(chest.boxes) == len(chest.manual) == 0
    assert list(chest.boxes.columns) == list(nih.BOX_COLUMNS)


def test_loads_films_by_area_averaging(folder):
    chest = nih.read_chest_folder(folder)
    films, table = nih.load_films(chest, 16, progress=False)
    original = cv2.imread(str(folder / "images" / table.loc[2, "Image Index"]), cv2.IMREAD_UNCHANGED)
    blocks = original.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    assert films.dtype == np.uint8 and films.shape == (6, 16, 16)
    assert np.abs(films[2] - blocks).max() <= 0.5 + 1e-9


def test_grey_film_stored_as_rgba_is_read(folder):
    path = folder / "images" / "00000002_000.png"
    grey = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), np.dstack([grey, grey, grey, np.full_like(grey, 255)]))
    np.testing.assert_array_equal(nih.read_film(path, 64), grey)


def break_truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def break_damaged(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def break_16_bit(path):
    cv2.imwrite(str(path), np.full((64, 64), 3000, np.uint16))


def break_colour(path):
    cv2.imwrite(str(path), np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8))


def break_no_png(path):
    path.write_bytes(b"<html>404 Not Found</html>")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (break_truncated, "cut off"),
        (break_damaged, "damaged"),
        (break_16_bit, "16 bits"),
        (break_colour, "colour"),
        (break_no_png, "not a PNG"),
        (lambda path: path.unlink(), "not on disk"),
    ],
)
def test_broken_film_is_named_and_left_out(folder, damage, words):
    chest = nih.read_chest_folder(folder)
    path = folder / "images" / "00000002_000.png"
    damage(path)
    with pytest.raises(DataError, match=f"00000002_000.png: .*{words}"):
        nih.read_film(path, 32)
    with pytest.raises(DataError, match=words):
        nih.load_films(chest, 32, skip_broken=False, progress=False)
    with pytest.warns(UserWarning, match=f"1 broken X-ray is left out:\n.*00000002_000.png.*{words}"):
        films, table = nih.load_films(chest, 32, progress=False)
    assert len(films) == len(table) == 5
    assert "00000002_000.png" not in set(table["Image Index"])
    assert (films.reshape(5, -1).max(axis=1) > 0).all()  # never silently zero


def test_all_films_broken_is_an_error(folder):
    chest = nih.read_chest_folder(folder)
    for path in (folder / "images").iterdir():
        break_truncated(path)
    with pytest.raises(DataError, match="None of the 6 X-rays could be read.*cut off"):
        nih.load_films(chest, 32, progress=False)


def test_row_without_film_and_film_without_row(folder):
    (folder / "images" / "00000002_000.png").rename(folder / "images" / "99999999_000.png")
    with pytest.warns(UserWarning) as caught:
        chest = nih.read_chest_folder(folder)
    messages = [str(warning.message) for warning in caught]
    assert any("1 X-ray is left out: 00000002_000.png is in Data_Entry" in text for text in messages)
    assert any("1 X-ray is left out: 99999999_000.png is in images/ but not" in text for text in messages)
    assert len(chest.table) == 5


def test_film_in_no_split_list_is_left_out(folder):
    replace_in(folder / "test_list.txt", "00000004_001.png", "")
    with pytest.warns(UserWarning, match="00000004_001.png is in neither split list"):
        assert len(nih.read_chest_folder(folder).table) == 5


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (nih.TABLE_FILE, "Patient ID", "patient", "no column 'Patient ID'; it has 'Image Index'"),
        (nih.TABLE_FILE, "Hernia", "Hernias", "unknown finding 'Hernias'"),
        (nih.TABLE_FILE, "00000003_000.png", "00000002_000.png", "00000002_000.png has two rows"),
        (nih.TABLE_FILE, ",No Finding,0,1", ",,0,1", "without a label or a patient"),
        (nih.BOX_FILE, "Finding Label", "Label", "no column 'Finding Label'"),
        (nih.MANUAL_FILE, "Mass", "Masses", "no column 'Mass'"),
        (nih.MANUAL_FILE, "YES,NO,NO", "YES,maybe,NO", "other than YES or NO"),
    ],
)
def test_wrong_tables(folder, file, old, new, words):
    replace_in(folder / file, old, new)
    with pytest.raises(DataError, match=words) as caught:
        nih.read_chest_folder(folder)
    assert file in str(caught.value)


@pytest.mark.parametrize("name", ["images", nih.TABLE_FILE, "train_val_list.txt", "test_list.txt"])
def test_missing_part_is_named(folder, name):
    (folder / name).rename(folder / "elsewhere")
    with pytest.raises(DataError, match=f"{name}: .*missing"):
        nih.read_chest_folder(folder)


def test_missing_folder_and_empty_table(folder, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        nih.read_chest_folder(tmp_path / "nowhere")
    (folder / nih.TABLE_FILE).write_text("")
    with pytest.raises(DataError, match="not a readable CSV"):
        nih.read_chest_folder(folder)


def test_take_patients_keeps_whole_patients(folder):
    chest = nih.read_chest_folder(folder)
    taken = nih.take_patients(chest, 2, seed=1)
    counts = chest.table.groupby("Patient ID").size()
    for patient, films in taken.table.groupby("Patient ID").size().items():
        assert films == counts[patient]
    assert set(taken.table["split"]) == {"train_val", "test"}
    assert set(taken.boxes["Image Index"]) <= set(taken.table["Image Index"])


def test_real_films(real_data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chest = nih.read_chest_folder(real_data / "nih")
    assert len(chest.table) > 0 and len(chest.manual) > 0 and len(chest.boxes) > 0
    patients = chest.table.groupby("split")["Patient ID"].unique()
    assert not set(patients["train_val"]) & set(patients["test"])
    some = chest.table.iloc[:20]
    films, table = nih.load_films(chest, 64, some, skip_broken=False, progress=False)
    assert len(table) == 20 and films.std(axis=(1, 2)).min() > 1
