"""What lies in a folder in place of a file, or beside it: pages, pointers, files that a cloud keeps, copies, other spellings."""

import gzip
import unicodedata
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image
from test_nih import folder, replace_in  # noqa: F401  the folder of six X-rays
from test_predictions import make_table

from data import nih
from data.errors import DataError
from data.instead import in_cloud, original_of, what_it_is
from data.nifti import open_nifti
from data.patient_columns import film_key, patient_of
from data.png import read_png
from data.prediction_tables import read_predictions, write_predictions

PAGE = b"\n<!DOCTYPE html><html><title>Login</title></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
INSTEAD = [(PAGE, "but a web page"), (POINTER, "but a pointer of Git LFS: `git lfs pull`"), (b"PAR1\x15", "Parquet")]
INSTEAD += [
    (b"../.git/annex/objects/x/y.csv", "git-annex: `datalad get`"),
    (b'{"message": "Not Found"}', "error message of a server"),
]
INSTEAD += [(b"404: Not Found", "error message of a server"), (b"<?xml version='1.0'?><Error><Code>", "error message of a server")]
INSTEAD += [(b'{"cells": []}', "a Jupyter notebook"), (b"\xff\xd8\xff\xe0", "a JPEG picture"), (b"MATLAB 5.0 MAT-file", "MATLAB")]
INSTEAD += [(b"PK\x03\x04xl", "xlsx"), (b"\xd0\xcf\x11\xe0", "xls"), (b"\0\5\x16\7", "macOS' double"), (b"\x1f\x8b\x08", "gzip")]


def said_by(call, *arguments, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call(*arguments, **options)
    return result, " ".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize("name", [nih.TABLE_FILE, nih.BOX_FILE, nih.MANUAL_FILE, "train_val_list.txt", "test_list.txt"])
def test_what_is_no_table_or_list_is_named(folder, name):
    for content, words in INSTEAD:
        (folder / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: not .*{words}"):
            nih.read_chest_folder(folder)


@pytest.mark.parametrize("name", ["00000001_000.png", nih.TABLE_FILE, nih.BOX_FILE, "test_list.txt"])
def test_links_that_lead_nowhere(folder, name):
    """As git-annex and DataLad leave them where the content was not fetched."""
    path = next(folder.rglob(name))
    path.unlink()
    path.symlink_to("../.git/annex/objects/aa/bb/MD5E-s9/MD5E-s9")
    with pytest.raises(DataError, match=f"{name}: .*, there is but a link to it: `datalad get`"):
        read_png(path) if path.suffix == ".png" else nih.read_chest_folder(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"/annex/objects/MD5E-s9", "a pointer of git-annex. `datalad get`"),
        (b"\0" * 5000, "zeros where its header should be"),
        (b"\0" * 128 + b"DICM", "a DICOM file"),
        (b"NRRD0005\n", "an NRRD file. Export the scan as NIfTI"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 400, "an HDF5 file"),
        (b"7z\xbc\xaf\x27\x1c" + b"\0" * 400, "an archive. Unpack it"),
        (b'{"detail": "Authentication credentials were not provided."}', "an error message of a server. Download the file again"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_is_no_scan_is_named(tmp_path, content, words, pack):
    file = tmp_path / "x.nii.gz"
    file.write_bytes(pack(content))
    with pytest.raises(DataError, match=f"x.nii.gz: not a NIfTI file, but {words}"):
        open_nifti(file)


@pytest.mark.parametrize(
    "table",
    [
        b"BMI,Age\n21,3",
        b"Image Index,Finding\n",
        b"404,1\n",
        b"name\nMATLAB\n",
        b'{"name": "BRATS", "metadata": {}}',
        b"forbiddenlake,1\n",
    ]
    + [b"00000001_000.png\n", b"NDC,MM\n", b"Notes,not found\n", b"error,message\n", b"\xef\xbb\xbfid;x\n"],
)
def test_tables_are_nothing_else(table):
    assert what_it_is(table) == ("", "")


def test_what_is_no_prediction_table_is_named(tmp_path):
    for content, words in INSTEAD:
        (tmp_path / "one.csv").write_bytes(content)
        with pytest.raises(DataError, match=f"one.csv: not .*{words}"):
            read_predictions(tmp_path)


def test_a_list_of_something_else_is_refused(folder):
    (folder / "test_list.txt").write_text("4\n")
    with pytest.raises(DataError, match="test_list.txt: names none of the X-rays; line 1 begins with '4'"):
        nih.read_chest_folder(folder)


def test_files_that_a_cloud_keeps(folder):
    assert in_cloud([".x.csv.icloud", "y.csv", ".icloud"]) == ["x.csv"]
    film = folder / "images" / "00000001_000.png"
    film.rename(film.with_name(".00000001_000.png.icloud"))
    chest, said = said_by(nih.read_chest_folder, folder)
    assert len(chest.table) == 5 and "images/00000001_000.png is still in iCloud" in said
    (folder / nih.BOX_FILE).rename(folder / f".{nih.BOX_FILE}.icloud")
    with pytest.raises(DataError, match=f"{nih.BOX_FILE} is still in iCloud and not on this disk"):
        nih.read_chest_folder(folder)


def test_letters_in_one_piece_and_in_two(folder):
    """macOS writes ü as u and two dots; the tables have it in one piece."""
    for film in (folder / "images").iterdir():
        film.rename(film.with_name("Mu\u0308ller" + film.name))
    for name in (nih.TABLE_FILE, "train_val_list.txt", "test_list.txt", nih.BOX_FILE, nih.MANUAL_FILE):
        replace_in(folder / name, "0000000", "M\u00fcller0000000")
    chest, said = said_by(nih.read_chest_folder, folder)
    assert len(chest.table) == 6 and len(chest.boxes) == 1 and not said
    assert nih.load_films(chest, 16, progress=False)[0].shape == (6, 16, 16)
    for one in (film_key, patient_of):
        assert one("M\u00fcller") == one(unicodedata.normalize("NFD", "M\u00fcller"))


def test_an_animation_is_no_xray(tmp_path):
    pictures = [Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) + level) for level in (0, 99)]
    pictures[0].save(tmp_path / "a.png", save_all=True, append_images=pictures[1:])
    with pytest.raises(DataError, match="a.png: an animation of several pictures"):
        read_png(tmp_path / "a.png")


def test_one_picture_of_two_patients_is_said(folder):
    images = folder / "images"
    chest = nih.read_chest_folder(folder)
    (images / "00000001_001.png").write_bytes((images / "00000001_000.png").read_bytes())
    assert not said_by(nih.load_films, chest, 16, progress=False)[1], "two of one patient may be alike"
    film = cv2.imread(str(images / "00000001_000.png"), cv2.IMREAD_UNCHANGED)
    (images / "00000004_000.png").write_bytes(cv2.imencode(".png", np.dstack([film] * 3))[1].tobytes())
    (films, _), said = said_by(nih.load_films, chest, 16, progress=False)
    assert (
        len(films) == 6 and "1 X-ray is the same picture as one of another patient, first 00000004_000.png (patient 4) and" in said
    )


@pytest.mark.parametrize(
    "patient", ["1-Jan", "02-Jan-2021", "Mar-05", "3/5/2021", "01.01.2021", "2021-01-02 00:00:00", "#REF!", "#NAME?"]
)
def test_patients_that_a_spreadsheet_made_dates_of(tmp_path, patient):
    table = make_table(4)
    table.about["Patient ID"] = [patient, patient, "2", "2"]
    write_predictions(tmp_path, {"one": table}, simulated=False)
    with pytest.raises(DataError, match=r"Patient ID is '.*' in line 2: a number that a spreadsheet has rewritten"):
        read_predictions(tmp_path)


def test_patients_that_only_look_a_little_like_dates(tmp_path):
    table = make_table(20)
    table.about["Patient ID"] = ["1-2", "ABC-05", "P-2021-01-02", "3/5", "19-may-b"] * 4
    write_predictions(tmp_path, {"one": table}, simulated=False)
    found = read_predictions(tmp_path)
    assert len(set(found.valid.patients) | set(found.test.patients)) == 5


@pytest.mark.parametrize(
    "copy",
    [
        "{} (1)",
        "{}(2)",
        "{} - Copy",
        "{} - Copy (2)",
        "{} copy",
        "{} copy 3",
        "{}-Copy1",
        "{} - Kopie",
        "Copy of {}",
        "Kopie von {}",
    ]
    + ["{} \u2013 Copy", "{}-DESKTOP-4F2AB1", "{} (Ada's conflicted copy 2026-11-20)", "{}.sync-conflict-20261120-101010-ABC"],
)
def test_copies_that_computers_make(copy):
    assert original_of(copy.format("ada_t1")) == "ada_t1" and original_of("ada_t1") is None


@pytest.mark.parametrize("name", ["ada_1", "ada_final", "photocopy", "ada 2", "copy", "laptop-ada"])
def test_names_that_are_no_copies(name):
    assert original_of(name) is None


# -- prediction tables --------------------------------------------------------------------------------------------------


@pytest.fixture
def predictions(tmp_path):
    return write_predictions(tmp_path, {"valid": make_table(20), "test": make_table(20, 100, 1)}, simulated=False)


@pytest.mark.parametrize("name", ["test (1).csv", "test-DESKTOP-4F2.csv", "val.csv"])
def test_tables_that_are_not_read_are_said(predictions, name):
    (predictions / name).write_bytes((predictions / "test.csv").read_bytes())
    assert any(note.startswith(f"not read, because of their names: {name}.") for note in read_predictions(predictions).notes)


def test_two_tables_of_one_name(predictions):
    (predictions / "Test.csv").write_bytes((predictions / "valid.csv").read_bytes())
    if len(list(predictions.glob("*.csv"))) < 3:
        pytest.skip("this disk does not tell capitals apart")
    with pytest.raises(DataError, match=r"holds Test.csv and test.csv. Keep the one that is meant"):
        read_predictions(predictions)


@pytest.mark.parametrize(
    ("name", "words"), [(".valid.csv.icloud", "valid.csv is still in iCloud"), ("valid.xlsx", r"holds test.csv \(and valid.xlsx\)")]
)
def test_a_table_that_is_there_in_another_way(predictions, name, words):
    (predictions / "valid.csv").rename(predictions / name)
    with pytest.raises(DataError, match=words):
        read_predictions(predictions)


def test_labels_and_probabilities_swapped(predictions):
    path = predictions / "test.csv"
    names = [name[:-5] if name.endswith("_pred") else f"{name}_pred" if name in nih.FINDINGS else name for name in columns_of(path)]
    path.write_text("\n".join([",".join(names), *path.read_text().splitlines()[1:]]))
    with pytest.raises(DataError, match="test.csv: all F_pred are 0 or 1, and the labels F lie between: were the two swapped"):
        read_predictions(predictions)


def columns_of(path):
    return path.read_text().splitlines()[0].split(",")


def test_the_probabilities_of_one_finding_under_two(predictions):
    table = make_table(20, 100, 1)
    table.p[:, 4] = table.p[:, 5]
    write_predictions(predictions, {"test": table}, simulated=False)
    assert any("Nodule_pred is the same as Mass_pred in every row" in note for note in read_predictions(predictions).notes)


# -- tables of which nothing is used ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["BBox_List_2017 (1).csv", "bbox_list_2017.csv", "BBox_List_2017_v2.csv"])
def test_boxes_under_another_name(folder, name):
    (folder / nih.BOX_FILE).rename(folder / name)
    chest, said = said_by(nih.read_chest_folder, folder)
    assert len(chest.boxes) == 1 and not said


@pytest.mark.parametrize("name", [nih.BOX_FILE, nih.MANUAL_FILE])
def test_a_table_that_cannot_be_used_is_said(folder, name):
    content = (folder / name).read_text()
    (folder / name).write_text(content.replace("0000000", "0000900"))
    assert (
        f"{name}: no row is about an X-ray that is read here; the first names 0000900" in said_by(nih.read_chest_folder, folder)[1]
    )
    (folder / name).rename(folder / f"{name[:-4]}.xlsx")
    assert f"{name[:-4]}.xlsx not read. Wanted is one table, {name}" in said_by(nih.read_chest_folder, folder)[1]
