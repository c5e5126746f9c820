"""Brain folders in which one thing stands for another: a copy, a mask for a scan, a header for voxels, a file still in a cloud."""

import gzip
import json
import struct

import numpy as np
import pytest
from test_brats import OLD, only, release
from test_decathlon import SHAPE, a_scan, decathlon, write
from test_instead import PAGE, POINTER, said_by

from data.brats import aliases
from data.decathlon import read_brain
from data.errors import DataError

NAME = "BraTS2021_00006"
EYE = np.eye(4)


@pytest.fixture
def case(tmp_path):
    """One case of BraTS 2021; the folder of its files."""
    return release(tmp_path, NAME, [0, 2, 1, 4], OLD) / NAME


def file(case, part):
    return case / f"{NAME}{part}.nii.gz"


def reindex(folder, change):
    """Change the index of a Decathlon folder."""
    index = json.loads((folder / "dataset.json").read_text())
    index["training"] = change(index["training"])
    (folder / "dataset.json").write_text(json.dumps(index))
    return folder


def test_a_mask_in_place_of_a_sequence_and_the_reverse(case):
    flair = file(case, "_flair").read_bytes()
    for content in (file(case, "_seg").read_bytes(), flair):
        file(case, "_flair").write_bytes(content)
        file(case, "_seg").write_bytes(content)
        with pytest.raises(DataError, match="_seg.nii.gz: the mask is the same file as BraTS2021_00006_flair.nii.gz"):
            read_brain(case)


def test_one_sequence_twice_under_another_header(tmp_path, case):
    """The same voxels, and not the same file; or two channels of one file."""
    write(file(case, "_t1ce"), a_scan()[0][..., 1].astype(np.float32), EYE)
    with pytest.raises(DataError, match="_t1ce.nii.gz: T1gd is the same as T1w, voxel by voxel"):
        read_brain(case)[0].image()
    image = a_scan()[0]
    image[..., 3] = image[..., 0]
    folder = decathlon(tmp_path / "d", cases=1)
    write(folder / "imagesTr" / "BRATS_001.nii.gz", image)
    with pytest.raises(DataError, match="BRATS_001.nii.gz: T2w is the same as FLAIR"):
        read_brain(folder)[0].image()


def test_a_header_is_not_read_as_voxels(case):
    content = bytearray(gzip.decompress(file(case, "_t1").read_bytes()))
    content[108:112] = struct.pack("<f", 0)
    file(case, "_t1").write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(DataError, match="_t1.nii.gz: its header says that the voxels begin at byte 0"):
        read_brain(case, strict=True)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.random.default_rng(0).random(SHAPE, np.float32) * 0.9 + 0.05, "Are they probabilities"),
        (np.where(a_scan()[1] > 1, 1.5, 0).astype(np.float32), "resampled with interpolation"),
        (np.where(a_scan()[1] > 1, np.nan, 0).astype(np.float32), "such as nan. Export the mask again"),
    ],
    ids=["probabilities", "interpolated", "nan"],
)
def test_what_a_mask_holds_in_place_of_labels(case, value, words):
    write(file(case, "_seg"), value, EYE)
    with pytest.raises(DataError, match=words):
        read_brain(case)[0].label()


def test_each_case_gets_its_own_mask(tmp_path):
    def swap(entries):
        return [{"image": one["image"], "label": other["label"]} for one, other in zip(entries, entries[::-1])]

    with pytest.raises(DataError, match="dataset.json: gives BRATS_001 the mask of BRATS_002. Give each case its own"):
        read_brain(reindex(decathlon(tmp_path), swap))


@pytest.mark.parametrize(
    "entry", ["./imagesTr/BRATS_001.nii.gz", {"image": "./imagesTr/BRATS_001.nii.gz"}, {"image": [], "label": ""}]
)
def test_entries_that_are_no_pairs(tmp_path, entry):
    with pytest.raises(DataError, match="not a Decathlon index: an entry of 'training' is .*not an image with its label"):
        read_brain(reindex(decathlon(tmp_path), lambda entries: [entry]))


def test_an_index_that_is_something_else_or_in_utf_16(tmp_path):
    index = decathlon(tmp_path, cases=1) / "dataset.json"
    text = index.read_text()
    for content, words in ((PAGE, "a web page"), (POINTER, "git lfs pull")):
        index.write_bytes(content)
        with pytest.raises(DataError, match=f"dataset.json: not .*{words}.*delete this one"):
            read_brain(tmp_path)
    index.write_bytes(text.encode("utf-16"))
    np.testing.assert_array_equal(read_brain(tmp_path)[0].label(), a_scan()[1])


@pytest.mark.parametrize("part", ["_seg", "_t1"])
def test_scans_that_are_links_to_nothing(case, part):
    """As git-annex and DataLad leave them where the content was not fetched."""
    scan = file(case, part)
    scan.unlink()
    scan.symlink_to("../.git/annex/objects/aa/bb/MD5E-s9/MD5E-s9")
    with pytest.warns(UserWarning, match="is missing, there is but a link to it: `datalad get`"), pytest.raises(DataError):
        read_brain(case)


def test_scans_that_a_cloud_keeps(tmp_path, case):
    file(case, "_t1").rename(case / f".{NAME}_t1.nii.gz.icloud")
    with (
        pytest.warns(UserWarning, match="BraTS2021_00006_t1.nii.gz is still in iCloud"),
        pytest.raises(DataError, match="has no T1w"),
    ):
        read_brain(case)
    folder = decathlon(tmp_path / "d")
    (folder / "dataset.json").unlink()
    for part in ("imagesTr", "labelsTr"):
        (folder / part / "BRATS_001.nii.gz").rename(folder / part / ".BRATS_001.nii.gz.icloud")
    cohort, said = said_by(read_brain, folder)
    assert [one.name for one in cohort] == ["BRATS_002"] and "imagesTr/BRATS_001.nii.gz is still in iCloud" in said


@pytest.mark.parametrize("part", ["_t1 (1)", "_t1-DESKTOP-4F2", "_seg - Copy", "_seg_manual", "_GlistrBoost"])
def test_copies_and_other_masks_beside_a_case_are_named(case, part):
    write(file(case, part), a_scan()[0][..., 1] + 1, EYE)
    image, label, said = only(case)
    np.testing.assert_array_equal(image, a_scan()[0])
    np.testing.assert_array_equal(label, a_scan()[1])
    assert f"not read, because of their names: {NAME}{part}.nii.gz" in said


@pytest.mark.parametrize("part", ["_predicted", "_t1_bias", "_brainmask", "_ADC", "-t1n-voided"])
def test_other_files_beside_a_case_are_nobodys_business(case, part):
    write(file(case, part), a_scan()[0][..., 1] + 1, EYE)
    assert only(case)[2] == ""


def test_links_that_lead_back(case):
    (case / "again").symlink_to(case.parent)
    assert only(case.parent)[2] == ""


def test_letters_in_one_piece_and_in_two(case):
    for number, path in enumerate(sorted(case.glob("*.nii.gz"))):
        path.rename(case / path.name.replace(NAME, ("M\u00fcller", "Mu\u0308ller")[number % 2]))
    image, label, said = only(case)
    np.testing.assert_array_equal(image, a_scan()[0])
    np.testing.assert_array_equal(label, a_scan()[1])
    assert said == ""


@pytest.mark.parametrize("suffix", [".mgz", ".nii.bz2", ".nii.xz", ".mnc", ".h5", ".rar"])
def test_formats_that_are_named(tmp_path, suffix):
    (tmp_path / f"x_flair{suffix}").write_bytes(b"x")
    with pytest.raises(DataError, match=rf"It holds \{suffix[suffix.rindex('.') :]} files, such as x_flair{suffix}"):
        read_brain(tmp_path)


def test_files_without_a_name_of_the_patient(tmp_path):
    write(tmp_path / "P1" / "flair.nii.gz", a_scan()[0][..., 0])
    with pytest.raises(DataError, match="It holds flair.nii.gz without a patient's name before it: call it P1_flair.nii.gz"):
        read_brain(tmp_path)


def test_a_mask_that_could_be_meant_is_named(case):
    file(case, "_seg").rename(file(case, "_segm"))
    write(file(case, "_automated_approx_segm"), a_scan()[1], EYE)
    words = f"the mask is missing.*There is {NAME}_automated_approx_segm.nii.gz and {NAME}_segm.nii.gz: call the expert's mask {NAME}_seg"
    with pytest.raises(DataError, match=words):
        read_brain(case, strict=True)


def test_the_folder_above_is_named(tmp_path):
    with pytest.raises(DataError, match=f"Name the folder above, {decathlon(tmp_path)}"):
        read_brain(tmp_path / "imagesTr")


def test_name_mapping_that_excel_wrote_or_that_is_none(tmp_path):
    path = tmp_path / "name_mapping.csv"
    path.write_bytes(
        "BraTS_2019_subject_ID;BraTS_2020_subject_ID\r\nBraTS19_CBICA_AAB_1;BraTS20_Training_001\r\nNA;B\r\n".encode("utf-16")
    )
    assert aliases(tmp_path) == {"BraTS20_Training_001": "BraTS19_CBICA_AAB_1"}
    path.write_bytes(PAGE)
    found, said = said_by(aliases, tmp_path)
    assert found == {} and "name_mapping.csv: not a table, list or index, but a web page" in said
