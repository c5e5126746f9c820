"""The reader of brain scans: two formats, one result, and a clear word about every broken file."""

import gzip
import json
import os
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data.decathlon import CHANNELS, read_brain
from data.errors import DataError

SHAPE = (6, 5, 4)


def a_scan(seed=0, dtype=np.int16):
    """Image (6, 5, 4, 4) and label (6, 5, 4) with all four values, as the Decathlon has them."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, SHAPE).astype(np.uint8)
    label.flat[:4] = [0, 1, 2, 3]
    return rng.integers(1, 1000, (*SHAPE, 4)).astype(dtype), label


def write(path: Path, voxels, affine=np.eye(4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)


def decathlon(folder: Path, cases=2, suffix=".nii.gz") -> Path:
    names = [f"BRATS_{number:03d}{suffix}" for number in range(1, cases + 1)]
    for seed, name in enumerate(names):
        image, label = a_scan(seed)
        write(folder / "imagesTr" / name, image)
        write(folder / "labelsTr" / name, label)
    training = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    (folder / "dataset.json").write_text(json.dumps({"modality": modality, "training": training}))
    return folder


def brats(folder: Path, parts=("_flair", "_t1", "_t1ce", "_t2", "_seg"), enhancing=4, cases=1) -> Path:
    """The scan of the Decathlon folder as BraTS stores it: two axes flipped, other labels, one file per sequence."""
    affine = np.array([[-1, 0, 0, SHAPE[0] - 1], [0, -1, 0, SHAPE[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    to_brats = np.array([0, 2, 1, enhancing], np.uint8)
    for seed in range(cases):
        image, label = a_scan(seed)
        name = f"Brats18_X_{seed + 1}"
        for channel, part in enumerate(parts):
            voxels = image[::-1, ::-1, :, channel] if channel < 4 else to_brats[label][::-1, ::-1]
            write(folder / "HGG" / name / f"{name}{part}.nii.gz", voxels, affine)
    return folder


def test_decathlon_folder(tmp_path):
    cohort = read_brain(decathlon(tmp_path))
    assert [case.name for case in cohort] == ["BRATS_001", "BRATS_002"] and not cohort.broken
    for seed, case in enumerate(cohort):
        image, label = a_scan(seed)
        np.testing.assert_array_equal(case.image(), image)
        np.testing.assert_array_equal(case.label(), label)
        assert case.shape == SHAPE and case.spacing == (1, 1, 1) and case.image().dtype == np.int16
        assert case.header.get_data_shape() == (*SHAPE, 4)


NEW_NAMES = ("-t2f", "-t1n", "-t1c", "-t2w", "-seg")


@pytest.mark.parametrize("made", [{}, {"parts": NEW_NAMES, "enhancing": 3}], ids=["2018", "2023"])
def test_both_formats_agree(tmp_path, made):
    ours = read_brain(brats(tmp_path / "b", **made))[0]
    theirs = read_brain(decathlon(tmp_path / "d"))[0]
    np.testing.assert_array_equal(ours.image(), theirs.image())
    np.testing.assert_array_equal(ours.label(), theirs.label())
    np.testing.assert_allclose(ours.affine, theirs.affine)


def test_affine_follows_the_turned_axes(tmp_path):
    """A voxel that is bright in the file lies at the same millimetres after reading, for axes in any order."""
    affine = np.array([[0, 0, -2.0, 30], [3.0, 0, 0, -7], [0, -1.5, 0, 11], [0, 0, 0, 1]])
    image, label = a_scan()
    write(tmp_path / "imagesTr/A.nii.gz", image, affine)
    write(tmp_path / "labelsTr/A.nii.gz", label, affine)
    case = read_brain(tmp_path)[0]
    assert case.shape == case.label().shape == (4, 6, 5) and case.spacing == (2.0, 3.0, 1.5)
    before = np.argwhere(label == 3) @ affine[:3, :3].T + affine[:3, 3]
    after = np.argwhere(case.label() == 3) @ case.affine[:3, :3].T + case.affine[:3, 3]
    assert sorted(map(tuple, before)) == sorted(map(tuple, after))
    assert (np.diag(case.affine) > 0).all()


def test_source(tmp_path):
    folder = decathlon(tmp_path / "ward7")
    assert read_brain(folder).source == "real patients: ward7"
    (folder / "SIMULATED.json").write_text("{}")
    assert read_brain(folder).source == "simulated"


def test_without_an_index_the_files_themselves_are_listed(tmp_path):
    folder = decathlon(tmp_path, suffix=".nii")
    (folder / "dataset.json").unlink()
    (folder / "imagesTr/._BRATS_001.nii").write_bytes(b"left by a Mac")
    assert [case.name for case in read_brain(folder)] == ["BRATS_001", "BRATS_002"]


def test_intensities_with_a_scale_come_as_float32(tmp_path):
    folder = decathlon(tmp_path, cases=1)
    scan = nib.Nifti1Image(a_scan()[0].astype(np.float64) / 7, np.eye(4))
    scan.header.set_data_dtype(np.int16)
    nib.save(scan, folder / "imagesTr/BRATS_001.nii.gz")
    image = read_brain(folder)[0].image()
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, a_scan()[0] / 7, atol=0.01)


def test_a_file_zipped_in_several_parts_is_whole(tmp_path):
    folder = decathlon(tmp_path, cases=1)
    path = folder / "imagesTr/BRATS_001.nii.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    np.testing.assert_array_equal(read_brain(folder)[0].image(), a_scan()[0])


# What can be wrong: how a good folder is broken, and what the message must say.

IMAGE, LABEL = "imagesTr/BRATS_001.nii.gz", "labelsTr/BRATS_001.nii.gz"


def cut(folder, file, share):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: int(share * len(content))])


BROKEN = {
    "cut off half-way": (lambda folder: cut(folder, IMAGE, 0.5), IMAGE, "cut off"),
    "cut off near the end": (lambda folder: cut(folder, IMAGE, 0.98), IMAGE, "cut off"),
    "header cut off": (lambda folder: cut(folder, IMAGE, 0.02), IMAGE, "cut off"),
    "empty file": (lambda folder: cut(folder, LABEL, 0), LABEL, "cut off"),
    "not a NIfTI": (lambda folder: (folder / IMAGE).write_bytes(gzip.compress(b"a" * 999)), IMAGE, "not a NIfTI"),
    "three sequences": (lambda folder: write(folder / IMAGE, a_scan()[0][..., :3]), IMAGE, "3 sequences.*FLAIR, T1w, T1gd"),
    "one sequence": (lambda folder: write(folder / IMAGE, a_scan()[0][..., 0]), IMAGE, "1 sequences"),
    "other shape": (lambda folder: write(folder / LABEL, a_scan()[1][1:]), LABEL, r"\(5, 5, 4\).*\(6, 5, 4\).*[Rr]esample"),
    "other affine": (lambda folder: write(folder / LABEL, a_scan()[1], np.diag([1, 1, 2, 1])), LABEL, "affine.*[Rr]esample"),
    "missing mask": (lambda folder: (folder / LABEL).unlink(), LABEL, "mask is missing.*add"),
    "missing scan": (lambda folder: (folder / IMAGE).unlink(), IMAGE, "missing.*Copy"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_headers_are_named_and_left_out(tmp_path, name):
    spoil, file, message = BROKEN[name]
    folder = decathlon(tmp_path)
    spoil(folder)
    with pytest.warns(UserWarning, match=f"BRATS_001 is left out.*{file}.*{message}"):
        cohort = read_brain(folder)
    assert [case.name for case in cohort] == ["BRATS_002"] and len(cohort.broken) == 1
    with pytest.raises(DataError, match=f"{file}.*{message}"):
        read_brain(folder, strict=True)


def test_uncompressed_file_cut_off(tmp_path):
    folder = decathlon(tmp_path, suffix=".nii")
    cut(folder, "imagesTr/BRATS_001.nii", 0.7)
    with pytest.raises(DataError, match="BRATS_001.nii: cut off .* of .* bytes"):
        read_brain(folder, strict=True)


def test_damage_that_only_reading_finds(tmp_path):
    folder = decathlon(tmp_path)
    content = bytearray((folder / IMAGE).read_bytes())
    content[len(content) // 2] ^= 255
    (folder / IMAGE).write_bytes(content)
    case = read_brain(folder)[0]
    with pytest.raises(DataError, match=f"{IMAGE}.*cut off or not"):
        case.image()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_in_an_image(tmp_path, value):
    folder = decathlon(tmp_path)
    image = a_scan(dtype=np.float32)[0]
    image[1, 2, 3, 2] = value
    write(folder / IMAGE, image)
    with pytest.raises(DataError, match=f"{IMAGE}: T1gd holds 1 values that are NaN"):
        read_brain(folder)[0].image()


def test_an_empty_sequence(tmp_path):
    folder = brats(tmp_path)
    write(next(folder.rglob("*_t2.nii.gz")), np.zeros(SHAPE, np.int16), nib.load(next(folder.rglob("*_t1.nii.gz"))).affine)
    with pytest.raises(DataError, match="_t2.nii.gz: T2w is zero everywhere"):
        read_brain(folder)[0].image()


def test_brats_labels_in_a_decathlon_folder(tmp_path):
    folder = decathlon(tmp_path)
    label = a_scan()[1]
    write(folder / LABEL, np.where(label == 3, 4, label).astype(np.uint8))
    with pytest.raises(DataError, match=f"{LABEL}: label value 4.*BraTS.*Map"):
        read_brain(folder)[0].label()


def test_unknown_brats_label(tmp_path):
    folder = brats(tmp_path, enhancing=7)
    with pytest.raises(DataError, match="_seg.nii.gz: label value 7"):
        read_brain(folder)[0].label()


@pytest.mark.parametrize("part, message", [("_t1ce", "has no T1gd"), ("_seg", "_seg.nii.gz: the mask is missing")])
def test_brats_patient_without_a_file(tmp_path, part, message):
    folder = brats(tmp_path, cases=2)
    next(folder.rglob(f"Brats18_X_1{part}.nii.gz")).unlink()
    with pytest.warns(UserWarning, match=f"Brats18_X_1.*{message}"):
        assert [case.name for case in read_brain(folder)] == ["Brats18_X_2"]


def test_sequences_of_different_shape(tmp_path):
    folder = brats(tmp_path)
    file = next(folder.rglob("*_t2.nii.gz"))
    write(file, np.ones((6, 5, 3), np.int16), nib.load(file).affine)
    with pytest.raises(DataError, match=r"_t2.nii.gz: shape \(6, 5, 3\)"):
        read_brain(folder, strict=True)


def test_folders_without_scans(tmp_path):
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        read_brain(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no usable brain scan.*imagesTr"):
        read_brain(tmp_path)
    folder = decathlon(tmp_path, cases=1)
    cut(folder, IMAGE, 0.5)
    with pytest.warns(UserWarning), pytest.raises(DataError, match="no usable brain scan.*Left out.*cut off"):
        read_brain(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"modality": {"0": "CT"}}'])
def test_index_that_is_none(tmp_path, text):
    folder = decathlon(tmp_path)
    (folder / "dataset.json").write_text(text)
    with pytest.raises(DataError, match="dataset.json: not a Decathlon index.*download"):
        read_brain(folder)


def test_index_of_another_task(tmp_path):
    folder = decathlon(tmp_path)
    (folder / "dataset.json").write_text('{"modality": {"0": "CT"}, "training": []}')
    with pytest.raises(DataError, match="dataset.json: sequences.*CT.*FLAIR"):
        read_brain(folder)


@pytest.mark.skipif("REAL_DATA" not in os.environ, reason="REAL_DATA names no folder of real scans")
def test_real_patients():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cohort = read_brain(Path(os.environ["REAL_DATA"]) / "brats")
    assert len(cohort) == 12 and cohort.source == "real patients: brats"
    case = cohort[0]
    image, label = case.image(), case.label()
    assert image.shape == (240, 240, 155, len(CHANNELS)) and label.shape == image.shape[:3]
    assert set(np.unique(label)) == {0, 1, 2, 3}
    # edema is bright in FLAIR, the enhancing tumour in T1gd: channels and labels are where they should be
    brain = image.any(-1) & (label == 0)
    assert np.median(image[label == 1, 0]) > 1.2 * np.median(image[brain, 0])
    assert np.median(image[label == 3, 2]) > 1.2 * np.median(image[brain, 2])
    # in RAS the first axis runs to the patient's right and the brain lies where the affine says
    assert nib.aff2axcodes(case.affine) == ("R", "A", "S")
