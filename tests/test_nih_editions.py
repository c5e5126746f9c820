"""NIH folders as people have them: other editions, programs in between, columns in other spellings; the right value or the right sentence."""

import warnings

import cv2
import numpy as np
import pandas as pd
import pytest
from test_nih import HEADER, folder  # noqa: F401  the fixture

from data import nih
from data.errors import DataError

FIRST = "00000001_000.png"


def said(folder) -> str:
    """All that the reader warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nih.read_chest_folder(folder)
    return "\n".join(str(warning.message) for warning in caught)


def edit(folder, change, name=nih.TABLE_FILE):
    path = folder / name
    before = path.read_text()
    changed = change(before)
    assert changed != before
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())


# -- the folder ---------------------------------------------------------------------------------------------------------


def kaggle(folder):
    for number, path in enumerate(sorted((folder / "images").iterdir())):
        part = folder / f"images_{number % 2 + 1:03d}" / "images"
        part.mkdir(parents=True, exist_ok=True)
        path.rename(part / path.name)
    (folder / "images").rmdir()
    (folder / nih.TABLE_FILE).rename(folder / "Data_Entry_2017.csv")


def resized(folder):
    (folder / "images").rename(folder / "inner")
    (folder / "images-224").mkdir()
    (folder / "inner").rename(folder / "images-224" / "images-224")


def capitals(folder):
    for path in list((folder / "images").iterdir()):
        path.rename(path.with_suffix(".PNG"))


def paths_in_table(folder):
    edit(folder, lambda text: text.replace("\n0000", "\nimages\\0000"))


def paths_in_lists(folder):
    for name in nih.SPLIT_FILES.values():
        edit(folder, lambda text: "".join(f"./images_001/images/{line},\r\n" for line in text.split()), name)


def lists_in_utf16(folder):
    for name in nih.SPLIT_FILES.values():
        edit(folder, lambda text: text.replace("\n", "\r\n").encode("utf-16"), name)


def lists_of_windows(folder):
    for name in nih.SPLIT_FILES.values():
        edit(folder, lambda text: "\r\n".join(rf'"C:\My X-rays\images\{line}"' for line in text.split()), name)


def lists_of_python(folder):
    for name in nih.SPLIT_FILES.values():
        edit(folder, lambda text: str(text.split()), name)


def lists_with_labels(folder):
    for name in nih.SPLIT_FILES.values():
        edit(folder, lambda text: "".join(f"{line} 0 1 0\n" for line in text.split()), name)


def lists_named_nih(folder):
    for name in nih.SPLIT_FILES.values():
        (folder / name).rename(folder / name.replace(".txt", "_NIH.txt"))


def left_by_a_mac(folder):
    (folder / "images" / "._00000001_000.png").write_bytes(b"Mac OS X")
    (folder / "images" / ".DS_Store").write_bytes(b"Mac OS X")
    (folder / ".DS_Store").write_bytes(b"Mac OS X")


def the_same_film_twice(folder):
    (folder / "images_001").mkdir()
    (folder / "images_001" / FIRST).write_bytes((folder / "images" / FIRST).read_bytes())


def table_of_text(change):
    return lambda place: edit(place, change)


TABLES = {
    "BOM": lambda text: "\ufeff" + text,
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 without BOM": lambda text: text.encode("utf-16-le"),
    "semicolons": lambda text: text.replace(",", ";"),
    "sep=": lambda text: "sep=;\r\n" + text.replace(",", ";"),
    "tabs": lambda text: text.replace(",", "\t"),
    "title above": lambda text: "NIH Chest X-rays\n\n" + text,
    "header quoted": lambda text: text.replace("OriginalImage[Width,Height]", '"OriginalImage[Width,Height]"'),
    "trailing commas": lambda text: text.replace("\n", ",\n"),
    "rows end in a comma": lambda text: text.replace("0.171\n", "0.171,\n"),
    "row numbers": lambda text: "\n".join(f"{'' if k == 0 else k - 1},{line}" for k, line in enumerate(text.splitlines())),
    "pandas' row numbers": lambda text: "\n".join(
        f"{k - 1 if k else 'Unnamed: 0'},{line}" for k, line in enumerate(text.splitlines())
    ),
    "Python's lists": lambda text: text.replace("Cardiomegaly|Effusion", "\"['Cardiomegaly', 'Effusion']\""),
    "Excel's text": lambda text: text.replace(",0,1,50", ',0,="00000001",50'),
    "spaces": lambda text: text.replace(",50,F,PA,", ", 50 years , f , PA ,"),
    "R's row numbers": lambda text: "\n".join(line if k == 0 else f"{k},{line}" for k, line in enumerate(text.splitlines())),
    "R's names": lambda text: text.replace("Image Index", "Image.Index").replace("Patient ID", "Patient.ID"),
    "lower case": lambda text: text.replace("Patient Gender", "patient_gender").replace("View Position", "view_position"),
    "a column twice": lambda text: "\n".join(
        f"{line},{'Patient ID' if k == 0 else line.split(',')[3]}" for k, line in enumerate(text.splitlines())
    ),
    "ages of 2017": lambda text: text.replace(",50,", ",050Y,"),
    "words": lambda text: text.replace(",F,PA,", ",Female,POSTERO-ANTERIOR,"),
    "1.0": lambda text: text.replace(",0,1,50", ",0,1.0,50").replace(",0,2,50", ",0,00000002,50"),
    "quoted newline": lambda text: text.replace("Image Index,", '"Image\nIndex",'),
    "other separators of findings": lambda text: text.replace("Cardiomegaly|Effusion", '"effusion, CARDIOMEGALY"'),
    "Pleural Thickening": lambda text: text.replace("Pleural_Thickening", "Pleural Thickening"),
}
SAME = {
    **{f.__name__: f for f in (kaggle, resized, capitals, paths_in_table, paths_in_lists, lists_in_utf16, lists_named_nih)},
    **{f.__name__: f for f in (lists_of_windows, lists_of_python, lists_with_labels)},
    **{f.__name__: f for f in (left_by_a_mac, the_same_film_twice)},
    **{name: table_of_text(change) for name, change in TABLES.items()},
}


@pytest.mark.parametrize("name", SAME)
def test_one_folder_in_many_shapes(folder, name):
    before = nih.read_chest_folder(folder)
    films, _ = nih.load_films(before, 16, progress=False)
    SAME[name](folder)
    assert said(folder) == ""
    after = nih.read_chest_folder(folder)
    pd.testing.assert_frame_equal(after.table.drop(columns="Finding Labels"), before.table.drop(columns="Finding Labels"))
    pd.testing.assert_frame_equal(after.boxes, before.boxes)
    pd.testing.assert_frame_equal(after.manual, before.manual)
    np.testing.assert_array_equal(nih.load_films(after, 16, progress=False)[0], films)


def test_two_editions_of_the_table(folder):
    (folder / "Data_Entry_2017.csv").write_text((folder / nih.TABLE_FILE).read_text().replace(",50,", ",411,"))
    assert f"the corrected edition is used, {nih.TABLE_FILE}" in said(folder)
    assert nih.read_chest_folder(folder).table["Patient Age"].tolist() == [50] * 6


def test_one_name_two_films(folder):
    the_same_film_twice(folder)
    cv2.imwrite(str(folder / "images_001" / FIRST), np.eye(8, dtype=np.uint8) * 255)
    with pytest.raises(DataError, match="images_001/00000001_000.png: another X-ray than .*images/00000001_000.png"):
        nih.read_chest_folder(folder)


def test_the_folder_above(folder):
    with pytest.raises(DataError, match="is in .*: name that folder"):
        nih.read_chest_folder(folder.parent)


def test_x_rays_that_are_not_png(folder):
    for path in list((folder / "images").iterdir()):
        path.rename(path.with_suffix(".jpg"))
    with pytest.raises(DataError, match="no PNG file in the folder.*It holds 00000001_000.jpg: convert"):
        nih.read_chest_folder(folder)


def test_table_of_kaggles_sample(folder):
    (folder / nih.TABLE_FILE).rename(folder / "sample_labels.csv")
    with pytest.raises(DataError, match="the file is missing.*If sample_labels.csv is the archive's table"):
        nih.read_chest_folder(folder)


# -- columns ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "sentence", "column", "value"),
    [
        (
            ",1,50,F",
            ",1,411,F",
            r"Patient Age is '411' in line 2, no age .*: it counts as unknown \(2 rows\)",
            "Patient Age",
            np.nan,
        ),
        (",1,50,F", ",1,60-70,F", "Patient Age is '60-70' in line 2", "Patient Age", np.nan),
        (",F,PA", ",1,PA", "Patient Gender is '1' in line 2, neither F nor M", "Patient Gender", "unknown"),
        (",F,PA", ",F,Frontal", "View Position is 'Frontal' in line 2, neither PA nor AP", "View Position", "unknown"),
    ],
)
def test_what_a_cell_does_not_say(folder, old, new, sentence, column, value):
    edit(folder, lambda text: text.replace(old, new))
    with pytest.warns(UserWarning, match=sentence):
        found = nih.read_chest_folder(folder).table[column].iloc[0]
    assert found is value or found == value or (np.isnan(value) and np.isnan(found))


def test_a_table_that_was_not_exported(folder):
    (folder / nih.TABLE_FILE).rename(folder / "Data_Entry_2017.xlsx")
    with pytest.raises(DataError, match="Data_Entry_2017.xlsx is not read here: unpack it, or export the table as CSV"):
        nih.read_chest_folder(folder)


def test_a_file_in_place_of_the_folder(folder):
    with pytest.raises(DataError, match="train_val_list.txt: a file, but a folder is needed. Name the folder that it is in"):
        nih.read_chest_folder(folder / "train_val_list.txt")


def test_months_are_not_years(folder):
    edit(folder, lambda text: text.replace(",1,50,F", ",1,006M,F"))
    assert nih.read_chest_folder(folder).table["Patient Age"].tolist() == [0.5, 0.5, 50, 50, 50, 50]


def test_lateral_views_are_left_out(folder):
    edit(folder, lambda text: text.replace(",2,50,F,PA", ",2,50,F,Lateral"))
    with pytest.warns(UserWarning, match=r"1 X-ray is left out: 00000002_000.png is a lateral view \(line 4\)"):
        assert len(nih.read_chest_folder(folder).table) == 5


def test_rows_and_headers_that_are_repeated(folder):
    edit(folder, lambda text: text + HEADER + text.splitlines()[1] + "\n")
    notes = said(folder)
    assert "the header is repeated in line 8" in notes and "1 rows are there twice, the first in line 9" in notes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(nih.read_chest_folder(folder).table) == 6


def test_a_column_sorted_without_the_others(folder):
    edit(folder, lambda text: text.replace("00000002_000.png,Hernia,0,2", "00000002_000.png,Hernia,0,3"))
    assert "1 row names another patient than their X-ray, first 00000002_000.png and patient 3 in line 4" in said(folder)


def test_no_xray_of_a_list_is_here(folder):
    assert "split is empty" not in said(folder)
    edit(folder, lambda text: "00009999_000.png\n", "test_list.txt")
    assert "no X-ray of test_list.txt is here, so the test split is empty" in said(folder)


def test_names_with_blanks_and_of_converted_dicom_files(folder):
    before = nih.read_chest_folder(folder).table
    for name in (nih.TABLE_FILE, "train_val_list.txt"):
        edit(folder, lambda text: text.replace(FIRST, "first x-ray 000.dcm"), name)
    (folder / "images" / FIRST).rename(folder / "images" / "first x-ray 000.dcm.png")
    after = nih.read_chest_folder(folder)
    assert after.table["split"].tolist() == before["split"].tolist()
    assert after.film_path("first x-ray 000.dcm").name == "first x-ray 000.dcm.png"


def test_images_of_one_name_in_several_folders(folder):
    edit(folder, lambda text: text.replace("00000002_000.png", "b/x.png").replace("00000003_000.png", "c/x.png"))
    with pytest.raises(DataError, match=r"b/x.png \(line 4\) and c/x.png \(line 5\) are called alike.*a file name of its own"):
        nih.read_chest_folder(folder)


def test_what_lies_in_the_place_of_the_xrays(folder):
    for path in (folder / "images").iterdir():
        path.unlink()
    (folder / "images" / ".DS_Store").touch()
    with pytest.raises(DataError, match="Put the X-rays there.$"):
        nih.read_chest_folder(folder)
    (folder / "images" / "images_001.tar.gz").touch()
    with pytest.raises(DataError, match="It holds images_001.tar.gz: unpack it there"):
        nih.read_chest_folder(folder)


def test_patient_in_both_lists(folder):
    edit(folder, lambda text: text + "00000001_001.png\n", "test_list.txt")
    edit(folder, lambda text: text.replace("00000001_001.png\n", ""), "train_val_list.txt")
    assert "1 patients are in both split lists, first 1" in said(folder)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (nih.TABLE_FILE, lambda text: text.replace("No Finding", "No Finding|Mass", 1), "line 3, 'Finding Labels': .*that nothing was found and that something was"),
        (nih.TABLE_FILE, lambda text: text.replace("Hernia", "Hernia?"), "line 4, 'Finding Labels': 'Hernia.' is uncertain"),
        (nih.TABLE_FILE, lambda text: text.replace("Hernia", "Hernia (-)"), "line 4, 'Finding Labels': 'Hernia .-.' has a sign that may mean"),
        (nih.TABLE_FILE, lambda text: text.replace("Hernia", "!Hernia"), "'!Hernia' has a sign"),
        (nih.TABLE_FILE, lambda text: text.replace("Hernia", "Hernia -"), "'Hernia -' has a sign"),
        (nih.TABLE_FILE, lambda text: text.replace("Hernia", '"Hernia'), "line 4: a quotation mark opens a cell that runs over the lines below it"),
        (nih.TABLE_FILE, lambda text: text[: text.rindex(",")] + ',"2', r"line \d+: a quotation mark opens a cell"),
        (nih.TABLE_FILE, lambda text: text.replace(",0,2,50", ',0,"12,345",50'), "Patient ID is '12,345' in line 4: a number that a spreadsheet has rewritten"),
        (nih.TABLE_FILE, lambda text: text.replace(",0,2,50", ",0,unknown,50"), "line 4 is a row without .* Patient ID is empty or unknown"),
        (nih.TABLE_FILE, lambda text: "Path,Sex,Age,Frontal/Lateral,AP/PA,Mass\na/patient00001/study1/view1_frontal.jpg,Male,68,Frontal,AP,1\n", "no column 'Image Index'.*These are columns of CheXpert"),
        (nih.TABLE_FILE, lambda text: text.replace("Hernia", "Lung Opacity"), "line 4, 'Finding Labels': unknown finding 'Lung Opacity'"),
        (nih.TABLE_FILE, lambda text: text.replace(",50,F,PA,2500", ",50,5,F,PA,2500", 1), "line 2 has 12 fields, but the header names 11.*decimal comma"),
        (nih.TABLE_FILE, lambda text: text + "00000005_000.png,Ma", "line 8 has 2 fields, the header names 11. Is the file cut off"),
        (nih.TABLE_FILE, lambda text: text.replace("Follow-up #", "Patient ID"), r"two columns are called 'Patient ID', and they differ \(line 2\)"),
        (nih.TABLE_FILE, lambda text: b"PK\x03\x04\x00\x00", "not a text file"),
        ("test_list.txt", lambda text: text + FIRST, r"1 X-rays are in both split lists, first 00000001_000.png \(line 1 of train_val_list.txt and line 3 of test_list.txt\)"),
        ("test_list.txt", lambda text: "\n", "test_list.txt: the file is empty"),
        (nih.BOX_FILE, lambda text: text.replace("256,512", "1500,512"), "line 2 ends at 1628, outside of the archive's 1024 × 1024.*OriginalImage"),
        (nih.BOX_FILE, lambda text: text.replace("256,512,128,64", "256,512,-128,64"), "line 2 is no box"),
        (nih.BOX_FILE, lambda text: text.replace("256,512,128,64", "384,576,-128,-64"), "line 2 is no box"),
        (nih.BOX_FILE, lambda text: text.replace("256,512,128,64", "-256,512,128,64"), "line 2 is no box"),
        (nih.BOX_FILE, lambda text: text.replace("256,512,128,64", "256,512,384,576"), "If w and h are the right and lower ends, subtract x and y"),
        (nih.BOX_FILE, lambda text: text.replace("256,512,128,64", '"1,000",512,20,64'), "line 2 is 1,000, 512, 20, 64: are there commas between thousands"),
        (nih.BOX_FILE, lambda text: text.replace("256,512,128,64", "256,512,wide,64"), "line 2 is no box"),
        (nih.BOX_FILE, lambda text: text.replace("Infiltrate", "Tumour"), "unknown finding 'Tumour' in line 2"),
        (nih.BOX_FILE, lambda text: text.replace("Bbox [x,y,w,h]", "x1,y1,x2,y2"), r"a box is x, y, w, h \(left, top, width, height\).*'x1', 'y1'"),
        (nih.MANUAL_FILE, lambda text: text + text.splitlines()[1], "00000004_001.png is there again in line 3.*majority"),
    ],
)  # fmt: skip
def test_refused_with_line_and_remedy(folder, file, change, words):
    edit(folder, change, file)
    with pytest.raises(DataError, match=words):
        nih.read_chest_folder(folder)


# -- boxes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        'Image Index,Finding Label,"Bbox [x,y,w,h]"\n{0},Infiltrate,"[256, 512, 128, 64]"\n',
        "Image Index,Finding Label,Bbox\n{0},Infiltration,256 512 128 64\n".replace("Bbox", "bbox_x_y_w_h"),
        "Image Index,Finding Label,x,y,w,h\n{0},Infiltrate,256,512,128,64\nImage Index,Finding Label,x,y,w,h\n",
        "h;w;y;x;Finding Label;Image Index\n64,0;128,0;512,0;256,0;Infiltrate;{0}\n",
        "Image Index,Finding Label,x,y,w,h\n{0},Infiltrate,0.25,0.5,0.125,0.0625\n",
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\nimages/{0},Infiltrate,256,512,128,64,,,\n{0},Infiltrate,256,512,128,64\n",
    ],
)
def test_boxes_in_other_spellings(folder, text):
    (folder / nih.BOX_FILE).write_text(text.format(FIRST))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        boxes = nih.read_chest_folder(folder).boxes
    assert boxes.values.tolist() == [[FIRST, "Infiltration", 0.25, 0.5, 0.125, 0.0625]]
    assert any("fractions" in str(warning.message) for warning in caught) == ("0.25" in text)


@pytest.mark.parametrize(
    "boxes, words",
    [
        ("100,100,200,250\n300,200,400,300", "If w and h are the right and lower ends, subtract x and y"),
        ("25,50,12.5,6.25\n30,10,20,40", "no box ends beyond 56.25 of the archive's 1024 pixels. If boxes are given in per cent"),
        ("64,128,32,16", "no box ends beyond 144 .*in pixels of X-rays of 256, multiply them by 1024 / 256"),
    ],
)
def test_boxes_in_other_units_are_said(folder, boxes, words):
    cv2.imwrite(str(folder / "images" / FIRST), np.arange(256 * 256).reshape(256, 256).astype(np.uint8))
    (folder / nih.BOX_FILE).write_text(
        "Image Index,Finding Label,x,y,w,h\n" + "".join(f"{FIRST},Mass,{box}\n" for box in boxes.split())
    )
    with pytest.warns(UserWarning, match=words):
        nih.read_chest_folder(folder)


def test_box_on_a_film_that_is_not_square(folder):
    cv2.imwrite(str(folder / "images" / FIRST), np.arange(64 * 32, dtype=np.uint8).reshape(64, 32))
    with pytest.warns(UserWarning, match="00000001_000.png has 32 × 64 pixels: the boxes of 1 such X-rays are left out"):
        assert len(nih.read_chest_folder(folder).boxes) == 0


def test_a_film_that_is_not_square_is_letterboxed_and_said(folder):
    narrow = np.full((4, 2), 100, np.uint8)
    narrow[0, 0] = 50
    for name in ("00000002_000.png", "00000003_000.png"):
        cv2.imwrite(str(folder / "images" / name), narrow)
    with pytest.warns(
        UserWarning, match=r"2 X-rays are not square \(first: .*00000002_000.png has 2 × 4 pixels\); they are filled up with black"
    ):
        films, table = nih.load_films(nih.read_chest_folder(folder), 4, progress=False)
    assert films[table["Image Index"].tolist().index("00000002_000.png")].tolist() == [[0, 50, 100, 0], *[[0, 100, 100, 0]] * 3]
    with pytest.warns(UserWarning, match="images: X-rays that are not square are filled up"):
        assert nih.read_film(folder / "images" / "00000002_000.png", 4).tolist() == films[2].tolist()
