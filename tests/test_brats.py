"""Brain folders as people have them: releases with other labels, files in other shapes, patients under other names."""

import gzip
import json
import shutil
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from test_decathlon import IMAGE, LABEL, NEW_NAMES, SHAPE, a_scan, brats, cut, decathlon, write

from data.brats import cannot_be_compared, convention_of, is_among, patient_of
from data.decathlon import brain_box, read_brain
from data.download import command
from data.errors import DataError

EYE = np.eye(4)


def release(folder: Path, case: str, codes, parts=NEW_NAMES, seed=0, suffix=".nii.gz", affine=EYE) -> Path:
    """One case of a release; `codes` are its numbers for the course's labels 0, 1, 2 and 3."""
    image, label = a_scan(seed)
    for channel, part in enumerate(parts):
        voxels = image[..., channel] if channel < 4 else np.array(codes, np.uint8)[label]
        write(folder / case / f"{case}{part}{suffix}", voxels, affine)
    return folder


def only(folder, **options):
    """The one case of a folder, and all that was said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        [case] = read_brain(folder, **options)
        label = case.label()
        image = case.image()
    return image, label, " ".join(str(warning.message) for warning in caught)


# -- labels -------------------------------------------------------------------------------------------------------------

OLD = ("_flair", "_t1", "_t1ce", "_t2", "_seg")


@pytest.mark.parametrize(
    ("case", "codes", "parts", "options"),
    [
        ("Brats17_TCIA_105_1", [0, 2, 1, 4], OLD, {}),
        ("BraTS20_Training_001", [0, 2, 1, 4], OLD, {}),
        ("BraTS2021_00006", [0, 2, 1, 4], OLD, {}),
        ("FeTS2022_00006", [0, 2, 1, 4], OLD, {}),
        ("TCGA-02-0006_1996.08.23", [0, 2, 1, 4], ("_flair", "_t1", "_t1Gd", "_t2", "_GlistrBoost_ManuallyCorrected"), {}),
        ("BraTS-GLI-00005-000", [0, 2, 1, 3], NEW_NAMES, {}),
        ("BraTS-GLI-00005-000", [0, 2, 1, 3], OLD, {}),  # the name decides, not the files' endings
        ("BraTS-MEN-00004-000", [0, 2, 1, 3], NEW_NAMES, {}),
        ("BraTS-SSA-00002-000", [0, 2, 1, 3], NEW_NAMES, {}),
        ("BraTS-MET-00002-000", [0, 2, 1, 3], NEW_NAMES, {}),
        ("BraTS-GoAT-00001", [0, 2, 1, 3], NEW_NAMES, {}),
        ("BraTS-PED-00001-000", [0, 4, 2, 1], NEW_NAMES, {}),  # a 4 tells the release
        ("BraTS-PED-00001-000", [0, 2, 1, 3], NEW_NAMES, {"edition": 2023}),
        ("BraTS-PED-00001-000", [0, 4, 2, 1], NEW_NAMES, {"edition": 2025}),
    ],
)
def test_labels_of_each_release(tmp_path, case, codes, parts, options):
    image, label, said = only(release(tmp_path, case, codes, parts), **options)
    np.testing.assert_array_equal(image, a_scan()[0])
    np.testing.assert_array_equal(label, a_scan()[1])
    assert said == "" or ("labels of 2024" in said and codes[1] == 4 and not options)


def stored(folder, case, values):
    """Replace the mask."""
    write(folder / case / f"{case}-seg.nii.gz", values, EYE)


@pytest.mark.parametrize("case", ["BraTS-GLI-02405-100", "BraTS-MET-00002-001"])
def test_resection_cavity_is_no_enhancing_tumour(tmp_path, case):
    release(tmp_path, case, [0, 2, 1, 3])
    stored(tmp_path, case, np.where(a_scan()[1] == 0, 4, [0, 2, 1, 3][3] * (a_scan()[1] == 3)).astype(np.uint8))
    _, label, said = only(tmp_path)
    np.testing.assert_array_equal(label == 3, a_scan()[1] == 3)
    assert set(np.unique(label)) == {0, 3} and "Label 4 is the resection cavity" in said and "background" in said


def test_cyst_of_the_paediatric_release(tmp_path):
    release(tmp_path, "BraTS-PED-00001-000", [0, 4, 3, 1])
    _, label, said = only(tmp_path)
    np.testing.assert_array_equal(label, a_scan()[1])
    assert "cystic component" in said


@pytest.mark.parametrize(
    ("case", "codes", "words"),
    [
        ("BraTS-PED-00001-000", [0, 2, 1, 3], "differ between releases.*edition=2023"),
        ("BraTS-MEN-RT-0001-1", [0, 1, 1, 1], "MEN-RT has one sequence"),
        ("UCSF-PDGM-0004", [0, 2, 1, 4], "UCSF-PDGM .*is not read"),
    ],
)
def test_names_that_do_not_tell(tmp_path, case, codes, words):
    with pytest.raises(DataError, match=words):
        read_brain(release(tmp_path, case, codes), strict=True)


@pytest.mark.parametrize(
    ("case", "codes", "parts", "words"),
    [
        (
            "BraTS-SSA-00002-000",
            [0, 2, 1, 4],
            NEW_NAMES,
            "label value 4, but BraTS-SSA knows 0, 1, 2, 3. 4 is BraTS' enhancing tumour until 2021",
        ),
        (
            "Brats18_X_1",
            [0, 2, 1, 3],
            OLD,
            "label value 3, but BraTS 2017 to 2021 knows 0, 1, 2, 4. 3 is the non-enhancing tumour in BraTS 2012",
        ),
        ("BraTS-GLI-00001-000", [0, 2, 1, 5], NEW_NAMES, "label value 5"),
    ],
)
def test_labels_that_a_release_does_not_know(tmp_path, case, codes, parts, words):
    with pytest.raises(DataError, match=words):
        read_brain(release(tmp_path, case, codes, parts))[0].label()


def test_brats_names_in_a_decathlon_folder_without_labels(tmp_path):
    write(tmp_path / "imagesTr/BraTS2021_00006.nii.gz", a_scan()[0])
    write(tmp_path / "labelsTr/BraTS2021_00006.nii.gz", a_scan()[1])
    assert "no dataset.json says what the labels mean" in only(tmp_path)[2]


def test_the_command_knows_the_edition(tmp_path, capsys):
    folder = release(tmp_path, "BraTS-PED-00001-000", [0, 2, 1, 3])
    with pytest.warns(UserWarning, match="differ between releases"):
        assert command.main(["brats", "--from", str(folder), "--quiet"]) == 1
    assert "--edition" in capsys.readouterr().err
    assert command.main(["brats", "--from", str(folder), "--quiet", "--edition", "2023"]) == 0


def test_other_meanings_in_the_index(tmp_path):
    folder = decathlon(tmp_path, cases=1)
    index = json.loads((folder / "dataset.json").read_text())
    index["labels"] = {"0": "background", "1": "necrosis", "2": "edema", "3": "enhancing"}
    (folder / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="dataset.json: labels .*but the course reads 1 edema"):
        read_brain(folder)


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


def left_by_a_mac(folder):
    for path in list(folder.rglob("*.nii.gz")):
        path.with_name("._" + path.name).write_bytes(b"Mac OS X")
        (folder / "__MACOSX").mkdir(exist_ok=True)
        shutil.copy(path, folder / "__MACOSX" / path.name)


SHAPES = [plain_nii, gzip_named_nii, plain_named_gz, capitals, folders_named_like_files, trailing_axis, trailing_axis_of_the_mask]
SHAPES += [flipped_mask, permuted_mask, pairs_of_files, nifti_2, mask_called_segm, packed_and_unpacked, scaled_mask, left_by_a_mac]


@pytest.mark.parametrize("change", SHAPES, ids=lambda change: change.__name__)
def test_one_case_in_many_shapes(tmp_path, change):
    folder = brats(tmp_path)
    before = read_brain(folder)[0]
    change(folder)
    image, label, said = only(folder)
    np.testing.assert_array_equal(image, a_scan()[0])
    np.testing.assert_array_equal(label, a_scan()[1])
    assert ("because it is the only other file there" in said) == (change is mask_called_segm) and (said == "") == (
        change is not mask_called_segm
    )
    np.testing.assert_allclose(read_brain(folder)[0].affine, before.affine) if change is not mask_called_segm else None


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
    "no T1 and no T2": (lambda folder: [next(folder.rglob(f"*{name}")).unlink() for name in ("_t1.nii.gz", "_t2.nii.gz")], "has no T1w and no T2w"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_refused_with_file_and_remedy(tmp_path, name):
    change, words = WRONG[name]
    folder = brats(tmp_path)
    change(folder)
    with pytest.raises(DataError, match=words):
        read_brain(folder, strict=True)[0].image()


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


# -- patients -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["Brats18_CBICA_ABM_1", "BRATS19_CBICA_ABM_1", "Brats17_CBICA_ABM_1", "brats18_cbica_abm_2"],
        ["Brats17_TCIA_105_1", "Brats18_TCIA08_105_1", "BraTS19_TCIA08_105_1"],
        ["Brats17_2013_2_1", "Brats18_2013_2_1", "BraTS19_2013_2_2"],
        ["BraTS-GLI-00005-000", "BraTS-GLI-00005-001", "BraTS2021_00005", "BraTS-GLI-00005-101"],
        ["BraTS20_Training_001", "BRATS20_training_001"],
        ["BraTS-GoAT-00005", "brats-goat-00005"],
        ["TCGA-02-0006_1996.08.23", "TCGA-02-0006_1997.01.01"],
        ["UPENN-GBM-00001_11", "UPENN-GBM-00001_21"],
    ],
)
def test_one_patient_under_many_names(names):
    assert len({patient_of(name) for name in names}) == 1


def test_different_patients():
    names = [
        "Brats18_CBICA_ABM_1",
        "Brats18_CBICA_ABN_1",
        "Brats18_2013_2_1",
        "Brats18_TCIA02_2_1",
        "BraTS-GLI-00002-000",
        "BraTS-MEN-00002-000",
    ]
    names += [
        "BraTS20_Training_002",
        "BraTS20_Validation_002",
        "BRATS_002",
        "case 2",
        "FeTS2022_00002",
        "Brats18_X_1",
        "Brats18_X_2",
        "BraTS19_TMC_00002_1",
    ]
    assert len({patient_of(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("BRATS19_CBICA_ABM_1", True),
        ("Brats18_CBICA_AVG_1", False),
        ("BraTS-PED-00001-000", False),
        ("BraTS20_Training_001", None),
        ("BraTS2021_00006", None),
        ("BraTS-GLI-00006-000", None),
        ("BRATS_001", None),
        ("patient 7", None),
    ],
)
def test_whom_the_network_knows(name, known):
    assert is_among(name, ["Brats18_CBICA_ABM_1", "Brats18_2013_2_1"]) is known


def test_releases_that_cannot_be_compared(tmp_path):
    assert cannot_be_compared(["Brats18_CBICA_ABM_1", "Brats17_TCIA_105_1"]) is None
    release(tmp_path, "Brats18_CBICA_ABM_1", [0, 2, 1, 4], OLD)
    release(tmp_path, "BraTS-GLI-00005-000", [0, 2, 1, 3], seed=1)
    with pytest.warns(
        UserWarning, match="BraTS-GLI-00005-000 and Brats18_CBICA_ABM_1 are of releases that name patients differently"
    ):
        cohort = read_brain(tmp_path)
    for case, seed in zip(cohort, (1, 0)):  # each by its own labels
        np.testing.assert_array_equal(case.label(), a_scan(seed)[1])


def test_name_mapping_of_the_challenge(tmp_path):
    release(tmp_path, "BraTS20_Training_001", [0, 2, 1, 4], OLD)
    (tmp_path / "name_mapping.csv").write_text(
        "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID,BraTS_2020_subject_ID\n"
        "HGG,Brats17_CBICA_ABM_1,Brats18_CBICA_ABM_1,NA,BraTS19_CBICA_ABM_1,BraTS20_Training_001\n"
    )
    case = read_brain(tmp_path)[0]
    assert case.patient == patient_of("Brats18_CBICA_ABM_1") and case.is_among(["Brats18_CBICA_ABM_1"]) is True


@pytest.mark.parametrize(
    "name, words",
    [("HGG/Brats18_X_1", "a second case of this name"), ("BraTS20_Training_007", "the same scan as BraTS20_Training_007")],
)
def test_a_case_copied_twice(tmp_path, name, words):
    folder = brats(tmp_path)
    target = folder / "copy" / name
    target.mkdir(parents=True)
    for path in (folder / "HGG" / "Brats18_X_1").iterdir():  # packed anew, so that the files differ
        content = gzip.compress(gzip.decompress(path.read_bytes()), 1)
        (target / path.name.replace("Brats18_X_1", Path(name).name)).write_bytes(content)
    with pytest.warns(UserWarning, match=words):
        cohort = read_brain(folder)
    assert len({case.patient for case in cohort}) == 1 and len({case.name for case in cohort}) == len(cohort)
    if name.startswith("HGG"):
        with pytest.raises(DataError, match=words):
            read_brain(folder, strict=True)


def test_scans_of_one_patient_are_drawn_last(tmp_path):
    for number in range(3):
        for time in range(2):
            release(tmp_path, f"BraTS-GLI-0000{number}-00{time}", [0, 2, 1, 3], seed=2 * number + time)
    cohort = read_brain(tmp_path)
    assert len(cohort) == 6 and len({case.patient for case in cohort}) == 3
    assert len({case.patient for case in cohort.draw(3, np.random.default_rng(0))}) == 3
    assert len(cohort.draw(12, np.random.default_rng(0))) == 6


def test_conventions_name_themselves():
    assert convention_of("Brats18_X_1").values == {0: 0, 1: 2, 2: 1, 4: 3}
    assert convention_of("BraTS-GLI-00001-000").values[4] == 0
