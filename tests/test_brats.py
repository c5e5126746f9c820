"""Brain folders as people have them: releases with other labels, files in other shapes, patients under other names."""

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
from test_decathlon import NEW_NAMES, a_scan, brats, write

from data.brats import cannot_be_compared, convention_of, is_among, patient_of
from data.decathlon import read_brain
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
    assert "until 2021" not in said
    stored(tmp_path, case, np.where(a_scan()[1] == 3, 4, a_scan()[1] > 0).astype(np.uint8))
    assert "There is no 3, the enhancing tumour: are these labels as until 2021" in only(tmp_path)[2]


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
