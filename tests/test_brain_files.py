"""Brain scans in files as people have them: other shapes, types, headers and names; the right voxels or the right sentence."""

import gzip
import json
import shutil
import warnings

import nibabel as nib
import numpy as np
import pytest
from test_brats import EYE, only
from test_decathlon import IMAGE, LABEL, SHAPE, a_scan, brats, cut, decathlon, write

from data.decathlon import brain_box, read_brain
from data.errors import DataError

# -- index and labels ---------------------------------------------------------------------------------------------------


def test_other_meanings_in_the_index(tmp_path):
    folder = decathlon(tmp_path, cases=1)
    index = json.loads((folder / "dataset.json").read_text())
    index["labels"] = {"0": "background", "1": "necrosis", "2": "edema", "3": "enhancing"}
    (folder / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="dataset.json: labels .*but the course reads 1 edema"):
        read_brain(folder)


def reindex(folder, **changes):
    """Change entries of ``dataset.json``."""
    index = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(index | changes))
    return folder


def test_labels_by_name(tmp_path):
    labels = {"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}
    np.testing.assert_array_equal(only(reindex(decathlon(tmp_path, cases=1), labels=labels))[1], a_scan()[1])
    with pytest.raises(DataError, match="but the course reads 1 edema"):
        read_brain(reindex(tmp_path, labels={"background": 0, "necrosis": 1, "edema": 2, "enhancing tumour": 3}))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"modality": {"0": "T1w", "1": "T1gd", "2": "T2w", "3": "FLAIR"}}, "sequences .*in this order"),
        ({"training": []}, "no usable brain scan.*ID_seg .BraTS..$"),
        ({"modality": ["FLAIR", "T1w", "T1gd", "T2w"]}, "not a Decathlon index"),
        ({"training": ["./imagesTr/BRATS_001.nii.gz"]}, "not a Decathlon index"),
        ({"training": [{"image": ["a_flair.nii.gz", "a_t1.nii.gz"], "label": "a_seg.nii.gz"}]}, "not a Decathlon index"),
    ],
)
def test_other_indices(tmp_path, changes, words):
    with pytest.raises(DataError, match=words):
        read_brain(reindex(decathlon(tmp_path), **changes))


def test_sequences_by_other_names(tmp_path):
    folder = reindex(decathlon(tmp_path, cases=1), modality={"0": "flair", "1": "T1", "2": "T1ce", "3": "T2"})
    np.testing.assert_array_equal(only(folder)[0], a_scan()[0])


def test_index_of_windows(tmp_path):
    training = [{"image": r".\\imagesTr\\BRATS_001.nii.gz", "label": r"labelsTr\\BRATS_001.nii.gz"}]
    folder = reindex(decathlon(tmp_path), training=training)
    with pytest.warns(UserWarning, match="does not list 1 files of imagesTr, first BRATS_002.nii.gz. They are left out"):
        assert [case.name for case in read_brain(folder)] == ["BRATS_001"]


def test_a_mask_of_the_whole_tumour_is_said(tmp_path):
    folder = decathlon(tmp_path, cases=1)
    write(folder / LABEL, (a_scan()[1] > 0).astype(np.uint8))
    assert "the only label is 1, edema. If this mask marks the whole tumour, it is not one of the Decathlon" in only(folder)[2]


def test_nnunet_layout(tmp_path):
    for channel in range(4):
        write(tmp_path / f"imagesTr/BRATS_001_000{channel}.nii.gz", a_scan()[0][..., channel])
    write(tmp_path / "labelsTr/BRATS_001.nii.gz", a_scan()[1])
    with pytest.raises(DataError, match="nnU-Net's layout"):
        read_brain(tmp_path)


@pytest.mark.parametrize("noise", [1e-7, -1e-7, 1e-4])
def test_labels_that_are_nearly_whole(tmp_path, noise):
    folder = decathlon(tmp_path, cases=1)
    write(folder / LABEL, (a_scan()[1] * (1 + noise)).astype(np.float64))
    np.testing.assert_array_equal(only(folder)[1], a_scan()[1])


@pytest.mark.parametrize(
    "value, words", [(1.5, "no labels, such as 1.5.*interpolation"), (np.nan, "no labels, such as nan"), (-1, "label value -1")]
)
def test_values_that_are_no_labels(tmp_path, value, words):
    folder = decathlon(tmp_path, cases=1)
    label = a_scan()[1].astype(np.float32)
    label[0, 0, 0] = value
    write(folder / LABEL, label)
    with pytest.raises(DataError, match=words):
        read_brain(folder)[0].label()


def test_an_empty_mask_is_said(tmp_path):
    folder = decathlon(tmp_path, cases=1)
    write(folder / LABEL, np.zeros(SHAPE, np.uint8))
    assert "nothing is marked" in only(folder)[2]


# -- files --------------------------------------------------------------------------------------------------------------

PLAIN = "Brats18_X_1"


def plain_nii(folder):
    for path in list(folder.rglob("*.nii.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()


def gzip_named_nii(folder):
    for path in list(folder.rglob("*.nii.gz")):
        path.rename(path.with_suffix(""))


def plain_named_gz(folder):
    for path in folder.rglob("*.nii.gz"):
        path.write_bytes(gzip.decompress(path.read_bytes()))


def capitals(folder):
    for path in list(folder.rglob("*.nii.gz")):
        path.rename(path.with_name(path.name.upper()))


def folders_named_like_files(folder):
    plain_nii(folder)
    for number, path in enumerate(list(folder.rglob("*.nii"))):
        content = path.read_bytes()
        path.unlink()
        path.mkdir()
        (path / f"{number:08d}_brain_{path.stem.split('_')[-1]}.nii").write_bytes(content)


def trailing_axis(folder):
    for path in folder.rglob("*.nii.gz"):
        scan = nib.load(path)
        write(path, np.asanyarray(scan.dataobj)[..., None], scan.affine)


def trailing_axis_of_the_mask(folder):
    path = next(folder.rglob("*_seg.nii.gz"))
    scan = nib.load(path)
    write(path, np.asanyarray(scan.dataobj)[..., None, None], scan.affine)


def flipped_mask(folder):
    path = next(folder.rglob("*_seg.nii.gz"))
    nib.save(nib.as_closest_canonical(nib.load(path)), path)


def permuted_mask(folder):
    path = next(folder.rglob("*_seg.nii.gz"))
    scan = nib.load(path)
    turn = nib.orientations.ornt_transform(nib.io_orientation(scan.affine), nib.orientations.axcodes2ornt("SAR"))
    nib.save(scan.as_reoriented(turn), path)


def pairs_of_files(folder):
    for path in list(folder.rglob("*.nii.gz")):
        scan = nib.load(path)
        nib.save(nib.Nifti1Pair(np.asanyarray(scan.dataobj), scan.affine), path.with_name(path.name.replace(".nii.gz", ".img")))
        path.unlink()


def nifti_2(folder):
    for path in folder.rglob("*.nii.gz"):
        scan = nib.load(path)
        nib.save(nib.Nifti2Image(np.asanyarray(scan.dataobj), scan.affine), path)


def mask_called_segm(folder):
    path = next(folder.rglob("*_seg.nii.gz"))
    path.rename(path.with_name("W39_1998.09.19_Segm.nii.gz"))


def packed_and_unpacked(folder):
    path = next(folder.rglob("*_flair.nii.gz"))
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))


def scaled_mask(folder):
    """Floats saved with the header of a mask of 8 bits: nibabel then stores 0 to 255 and a slope, which gives 1.0039 for 1."""
    path = next(folder.rglob("*_seg.nii.gz"))
    scan = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(scan.dataobj).astype(np.float32), scan.affine, scan.header), path)
    assert nib.load(path).header["scl_slope"] != 1


def in_each_type(dtype, byte_order="<"):
    def change(folder):
        for path in folder.rglob("*.nii.gz"):
            scan = nib.load(path)
            header = nib.Nifti1Header(endianness=byte_order)
            header.set_data_dtype(np.dtype(dtype).newbyteorder(byte_order))
            nib.save(nib.Nifti1Image(np.asanyarray(scan.dataobj).astype(dtype), scan.affine, header, dtype=dtype), path)
            assert nib.load(path).header.endianness == byte_order

    change.__name__ = f"{dtype}{byte_order}"
    return change


def oblique(folder):
    turn = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, 0.1, -0.15))
    for path in folder.rglob("*.nii.gz"):
        scan = nib.load(path)
        write(path, np.asanyarray(scan.dataobj), turn @ scan.affine)


def flair_called_t2_flair(folder):
    for path in folder.rglob("*_flair.nii.gz"):
        path.rename(path.with_name(path.name.replace("_flair", "_T2_FLAIR")))


def left_by_a_mac(folder):
    (folder / ".DS_Store").write_bytes(b"Mac OS X")
    for path in list(folder.rglob("*.nii.gz")):
        path.with_name("._" + path.name).write_bytes(b"Mac OS X")
        (folder / "__MACOSX").mkdir(exist_ok=True)
        shutil.copy(path, folder / "__MACOSX" / path.name)


SHAPES = [plain_nii, gzip_named_nii, plain_named_gz, capitals, folders_named_like_files, trailing_axis, trailing_axis_of_the_mask]
SHAPES += [flipped_mask, permuted_mask, pairs_of_files, nifti_2, mask_called_segm, packed_and_unpacked, scaled_mask, left_by_a_mac]
SHAPES += [in_each_type(dtype) for dtype in ("int64", "float64", "uint16", "float32")] + [
    in_each_type("int16", ">"),
    in_each_type("float32", ">"),
]
SHAPES += [oblique, flair_called_t2_flair]  # fmt: skip


@pytest.mark.parametrize("change", SHAPES, ids=lambda change: change.__name__)
def test_one_case_in_many_shapes(tmp_path, change):
    folder = brats(tmp_path)
    before = read_brain(folder)[0]
    change(folder)
    image, label, said = only(folder)
    np.testing.assert_array_equal(image, a_scan()[0])
    np.testing.assert_array_equal(label, a_scan()[1])
    assert image.dtype.isnative and label.dtype == np.uint8
    assert ("because it is the only other file there" in said) == (change is mask_called_segm) and (said == "") == (
        change is not mask_called_segm
    )
    if change not in (mask_called_segm, oblique):
        np.testing.assert_allclose(read_brain(folder)[0].affine, before.affine)


def test_one_4d_file_with_an_axis_too_many(tmp_path):
    folder = decathlon(tmp_path, cases=1)
    write(folder / IMAGE, a_scan()[0][:, :, :, None])
    np.testing.assert_array_equal(only(folder)[0], a_scan()[0])


def spoil(name, change):
    """A folder of one case whose file `name` is changed by `change(path)`."""
    return lambda folder: change(next(folder.rglob(f"*{name}*")))


def affine_of(path, affine, sform=1, qform=0, other=None):
    scan = nib.load(path)
    changed = nib.Nifti1Image(np.asanyarray(scan.dataobj), affine)
    changed.set_sform(affine, sform)
    changed.set_qform(affine if other is None else other, qform)
    nib.save(changed, path)


def no_number(path):
    scan = nib.load(path)
    header = scan.header.copy()
    header["srow_x"][0] = np.nan
    nib.save(nib.Nifti1Image(np.asanyarray(scan.dataobj), None, header), path)


def keep_other(path, change):
    path.with_name(path.name.replace("_flair", "_t2f")).write_bytes(path.read_bytes())
    change(path)


WRONG = {
    "several volumes": (spoil("_t2.", lambda path: write(path, np.ones((*SHAPE, 3), np.int16), nib.load(path).affine)), r"_t2.nii.gz: 3 volumes .*each of the four sequences is one volume"),
    "mask one-hot": (spoil("_seg", lambda path: write(path, np.ones((*SHAPE, 3), np.uint8), nib.load(path).affine)), "a mask has one label a voxel"),
    "mask elsewhere": (spoil("_seg", lambda path: affine_of(path, np.diag([-1.0, -1, 1, 1]))), "_seg.nii.gz: its affine differs.*copy the affine"),
    "mask by half a voxel": (spoil("_seg", lambda path: affine_of(path, nib.load(path).affine + np.array([[0, 0, 0, 0.5]] + [[0] * 4] * 3))), "its affine differs"),
    "two places": (spoil("_t1.", lambda path: affine_of(path, nib.load(path).affine, qform=1, other=EYE)), "says twice where the voxels lie.*LPS by the sform, RAS by the qform"),
    "affine of nan": (spoil("_t1.", lambda path: no_number(path)), "its affine maps no volume"),
    "colours": (spoil("_t1.", lambda path: write(path, np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), nib.load(path).affine)), "not one number each"),
    "complex": (spoil("_t1.", lambda path: write(path, np.ones(SHAPE, np.complex64), nib.load(path).affine)), "not one number each"),
    "empty": (spoil("_t1.", lambda path: path.write_bytes(b"")), r"_t1.nii.gz: an empty file \(0 bytes\)"),
    "MetaImage": (spoil("_t1.", lambda path: path.write_bytes(b"ObjectType = Image\nNDims = 3\n")), "not a NIfTI file, but a MetaImage"),
    "web page": (spoil("_t1.", lambda path: path.write_bytes(b"<!DOCTYPE html><html>404" + b" " * 400)), "not a NIfTI file, but a web page"),
    "empty folder": (spoil("_t1.", lambda path: (path.unlink(), path.mkdir())), "a folder with the name of a file"),
    "one number everywhere": (spoil("_t1.", lambda path: write(path, np.full(SHAPE, 7, np.int16), nib.load(path).affine)), "T1w is 7 everywhere"),
    "two files of a sequence": (spoil("_flair", lambda path: keep_other(path, lambda p: write(p, a_scan(5)[0][..., 0], nib.load(p).affine))), "_flair.nii.gz and .*_t2f.nii.gz, and they differ"),
    "one slice": (spoil("_t1.", lambda path: write(path, np.ones((*SHAPE[:2], 1), np.int16), nib.load(path).affine)), r"_t1.nii.gz: one slice \(shape \(6, 5, 1\)\)"),
    "no voxels": (spoil("_t1.", lambda path: write(path, np.ones((0, *SHAPE[1:]), np.int16), nib.load(path).affine)), r"no voxels \(shape \(0, 5, 4\)\)"),
    "a picture": (spoil("_t1.", lambda path: write(path, np.ones(SHAPE[:2], np.int16), EYE)), "2 axes, but a scan has three"),
    "one sequence twice": (spoil("_t1ce", lambda path: path.write_bytes(path.with_name(path.name.replace("t1ce", "t1")).read_bytes())), "_t1ce.nii.gz: the same as .*_t1.nii.gz, to the last bit"),
    "nan outside": (spoil("_t1.", lambda path: write(path, np.where(np.arange(4) < 1, np.nan, np.ones(SHAPE, np.float32)), nib.load(path).affine)), "T1w holds 30 values that are NaN"),
    "no T1 and no T2": (lambda folder: [next(folder.rglob(f"*{name}")).unlink() for name in ("_t1.nii.gz", "_t2.nii.gz")], "has no T1w and no T2w"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_refused_with_file_and_remedy(tmp_path, name):
    change, words = WRONG[name]
    folder = brats(tmp_path)
    change(folder)
    with pytest.raises(DataError, match=words):
        read_brain(folder, strict=True)[0].image()


@pytest.mark.parametrize("shape, words", [((4, 6, 5, 7), "7 sequences, but 4 are needed"), ((*SHAPE, 5), "5 sequences"), (SHAPE, "1 sequences")])  # fmt: skip
def test_channels_that_are_not_four(tmp_path, shape, words):
    folder = decathlon(tmp_path, cases=1)
    write(folder / IMAGE, np.ones(shape, np.int16))
    with pytest.raises(DataError, match=words):
        read_brain(folder, strict=True)


def test_headers_that_do_not_say_where(tmp_path):
    folder = decathlon(tmp_path, cases=1)
    for file in (IMAGE, LABEL):
        scan = nib.load(folder / file)
        scan.set_sform(None, 0)
        scan.set_qform(None, 0)
        nib.save(scan, folder / file)
    image, label, said = only(folder)
    assert "1 of 1 scans, first BRATS_001, do not say in their headers where the voxels lie" in said
    np.testing.assert_array_equal(image[::-1], a_scan()[0])  # as nibabel guesses: the first voxel lies at the right
    np.testing.assert_array_equal(label[::-1], a_scan()[1])


def test_voxels_of_two_millimetres(tmp_path):
    folder = decathlon(tmp_path, cases=1)
    for file in (IMAGE, LABEL):
        write(folder / file, np.asanyarray(nib.load(folder / file).dataobj), np.diag([2.0, 2, 3, 1]))
    assert "first BRATS_001, have voxels of 2 × 2 × 3 mm" in only(folder)[2]


@pytest.mark.parametrize(
    "name, words",
    [
        ("case.mha", "holds .mha files, such as case.mha: convert"),
        ("scan.dcm", ".dcm files"),
        ("Task01/imagesTr/BRATS_1.nii.gz", "There is one in .*Task01: name that folder"),
    ],
)
def test_what_the_folder_holds_instead(tmp_path, name, words):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=words):
        read_brain(tmp_path)


def test_bytes_behind_the_end_of_gzip(tmp_path):
    folder = decathlon(tmp_path, cases=1)
    (folder / IMAGE).write_bytes((folder / IMAGE).read_bytes() + b"\0" * 20)
    np.testing.assert_array_equal(only(folder)[0], a_scan()[0])
    (folder / IMAGE).write_bytes((folder / IMAGE).read_bytes() + b"garbage")
    with pytest.raises(DataError, match="cannot be decompressed to its end"):
        read_brain(folder, strict=True)


def test_truncated_gzip_named_nii(tmp_path):
    folder = brats(tmp_path)
    gzip_named_nii(folder)
    cut(folder, next(folder.rglob("*_t1.nii")).relative_to(folder), 0.6)
    with pytest.raises(DataError, match="_t1.nii: .*cut off"):
        read_brain(folder, strict=True)


@pytest.mark.parametrize("unit, size", [("meter", 1e-3), ("micron", 1e3), ("mm", 1), ("unknown", 1)])
def test_unit_of_length(tmp_path, unit, size):
    folder = decathlon(tmp_path, cases=1)
    for file in (IMAGE, LABEL):
        scan = nib.Nifti1Image(np.asanyarray(nib.load(folder / file).dataobj), np.diag([size, size, size, 1]))
        scan.header.set_xyzt_units(unit)
        nib.save(scan, folder / file)
    assert read_brain(folder)[0].spacing == pytest.approx((1, 1, 1))


# -- background ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background, dtype", [(-0.42, np.float32), (-1, np.int16), (3, np.int16)])
def test_background_other_than_zero(tmp_path, background, dtype):
    """The brain box is that of the brain, and intensities keep their distances."""
    image = np.full((12, 11, 10, 4), background, dtype)
    image[3:9, 3:8, 3:7] = a_scan()[0].astype(dtype)
    label = np.zeros((12, 11, 10), np.uint8)
    label[3:9, 3:8, 3:7] = a_scan()[1]
    write(tmp_path / "imagesTr/A.nii.gz", image)
    write(tmp_path / "labelsTr/A.nii.gz", label)
    found, _, said = only(tmp_path)
    assert f"background is not 0 (FLAIR {background:g}" in said
    assert brain_box(found) == (slice(3, 9), slice(3, 8), slice(3, 7))
    np.testing.assert_allclose(found[3:9, 3:8, 3:7], a_scan()[0] - np.float32(background), rtol=1e-6)


def test_a_volume_without_background_is_said(tmp_path):
    rng = np.random.default_rng(0)
    write(tmp_path / "imagesTr/A.nii.gz", rng.normal(size=(30, 30, 30, 4)).astype(np.float32))
    write(tmp_path / "labelsTr/A.nii.gz", np.eye(30, dtype=np.uint8)[None].repeat(30, 0))
    assert "hardly any voxel is 0" in only(tmp_path)[2]


def test_a_part_of_a_download_is_said_once(tmp_path):
    folder = decathlon(tmp_path, cases=2)
    entries = json.loads((folder / "dataset.json").read_text())["training"]
    more = [{"image": f"./imagesTr/BRATS_{n:03d}.nii.gz", "label": f"./labelsTr/BRATS_{n:03d}.nii.gz"} for n in range(300, 480)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(read_brain(reindex(folder, training=entries + more))) == 2
    said = [str(warning.message) for warning in caught if "dataset.json" in str(warning.message)]
    assert len(said) == 1 and "lists 180 cases of which neither scan nor mask is here, first ./imagesTr/BRATS_300.nii.gz" in said[0]
