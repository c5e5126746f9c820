"""The embedded brain cohort: format, determinism, and what happens when its making is disturbed.

The cases are simulated on a coarse grid (``spacing``), which runs the same code in a fraction of the time; one test makes
a case at full size.
"""

import errno
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import data.brain_simulator.cohort as module
from data.brain_simulator.cohort import brain_cohort, simulate_case
from data.decathlon import read_brain
from data.errors import DataError

ROOT = Path(__file__).resolve().parent.parent
QUICK = {"spacing": 4, "progress": False}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return brain_cohort(tmp_path_factory.mktemp("brain") / "cohort", cases=4, seed=5, jobs=1, **QUICK)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_files_are_those_of_the_decathlon(cohort):
    table = json.loads((cohort / "dataset.json").read_text(encoding="utf-8"))
    assert "SIMULATED" in table["description"]
    assert list(table["modality"].values()) == ["FLAIR", "T1w", "t1gd", "T2w"]
    assert list(table["labels"]) == ["0", "1", "2", "3"]
    assert table["numTraining"] == len(table["training"]) == 4
    for pair in table["training"]:
        image, label = nib.load(cohort / pair["image"]), nib.load(cohort / pair["label"])
        assert image.get_data_dtype() == np.int16 and label.get_data_dtype() == np.uint8
        assert image.shape == (*label.shape, 4)
        assert np.array_equal(image.affine, label.affine)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert nib.aff2axcodes(image.affine) == tuple("LPS") and image.affine[1, 3] == 4 * (label.shape[1] - 1), "as BraTS"
        scan, mask = np.asarray(image.dataobj), np.asarray(label.dataobj)
        assert set(np.unique(mask)) <= {0, 1, 2, 3}
        assert scan.min() == 0 and (scan[mask > 0] > 0).all()
    facts = json.loads((cohort / "SIMULATED.json").read_text(encoding="utf-8"))
    assert facts["simulated"] is True and facts["cases"] == 4 and facts["seed"] == 5
    assert not list(cohort.rglob(".*"))


def test_reader_turns_the_files_to_what_was_simulated(cohort):
    images, labels = simulate_case(5, 2, 4)
    case = read_brain(cohort)[1]
    assert np.array_equal(case.image(), images) and np.array_equal(case.label(), labels)


def test_a_case_at_full_size_has_the_decathlons_grid():
    images, labels = simulate_case(5, 1)
    assert images.shape == (240, 240, 155, 4) and images.dtype == np.int16
    assert labels.shape == (240, 240, 155) and labels.dtype == np.uint8
    assert not images[labels.shape[0] // 2, 0].any()
    brain = (images[..., 1:] > 0).all(-1)
    assert np.array_equal(brain, (images[..., 1:] > 0).any(-1)), "FLAIR may cover a part only; the others are whole"
    assert 1150 < brain.sum() / 1000 < 1900, "ml"
    assert brain[labels > 0].all()
    assert 15 < np.count_nonzero(labels) / 1000 < 230, "ml"


def test_most_tumours_have_all_three_classes():
    parts = [np.unique(simulate_case(11, n, 4)[1]) for n in range(1, 7)]
    assert sum(len(p) == 4 for p in parts) >= 4


def test_bytes_do_not_depend_on_the_number_of_processes(cohort, tmp_path):
    several = brain_cohort(tmp_path / "several", cases=4, seed=5, jobs=2, **QUICK)
    assert contents(several) == contents(cohort)


def test_patients_do_not_depend_on_how_many_there_are_but_on_the_seed(cohort, tmp_path):
    few = brain_cohort(tmp_path / "few", cases=1, seed=5, jobs=1, **QUICK)
    other = brain_cohort(tmp_path / "other", cases=1, seed=6, jobs=1, **QUICK)
    name = "imagesTr/BRATS_001.nii.gz"
    assert (few / name).read_bytes() == (cohort / name).read_bytes()
    assert (other / name).read_bytes() != (cohort / name).read_bytes()


def test_found_again_without_work(cohort, monkeypatch):
    monkeypatch.setattr(module, "write_case", lambda *_: pytest.fail("simulated again"))
    assert brain_cohort(cohort, cases=4, seed=5, **QUICK) == cohort


def test_lies_in_the_cache_of_the_course_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    folder = brain_cohort(cases=1, seed=5, jobs=1, **QUICK)
    assert folder.parent == tmp_path and f"v{module.VERSION}" in folder.name


def test_goes_on_where_it_was_interrupted(cohort, tmp_path, monkeypatch):
    final = tmp_path / "cohort"
    write, written = module.write_case, []

    def stop_after_two(folder, seed, number, spacing):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(number)
        write(folder, seed, number, spacing)

    monkeypatch.setattr(module, "write_case", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        brain_cohort(final, cases=4, seed=5, jobs=1, **QUICK)
    assert not final.exists()

    def count(folder, seed, number, spacing):
        written.append(number)
        write(folder, seed, number, spacing)

    monkeypatch.setattr(module, "write_case", count)
    brain_cohort(final, cases=4, seed=5, jobs=1, **QUICK)
    assert written == [1, 2, 3, 4]
    assert contents(final) == contents(cohort)


def test_full_disk_names_the_folder_and_leaves_no_cohort(tmp_path, monkeypatch):
    def full(image, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(nib, "save", full)
        with pytest.raises(DataError, match="disk is full"):
            brain_cohort(tmp_path / "cohort", cases=1, seed=5, jobs=1, **QUICK)
    assert not (tmp_path / "cohort").exists()
    assert not list(tmp_path.rglob("*.nii.gz")), "half a file stayed"
    brain_cohort(tmp_path / "cohort", cases=1, seed=5, jobs=1, **QUICK)


def test_fewer_than_one_case_is_refused(tmp_path):
    with pytest.raises(DataError, match="at least one"):
        brain_cohort(tmp_path / "none", cases=0, **QUICK)


def test_import_is_light():
    code = "import sys, data.brain_simulator.cohort; print({'scipy', 'nibabel', 'nilearn', 'keras'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_command_line_makes_a_cohort_and_reports_errors(tmp_path, capsys):
    out = tmp_path / "cohort"
    assert module.main(["--cases", "1", "--seed", "5", "--spacing", "4", "--jobs", "1", "--out", str(out)]) == 0
    assert (out / "SIMULATED.json").exists()
    assert module.main(["--cases", "3", "--seed", "5", "--spacing", "4", "--out", str(out)]) == 1
    assert "DataError" in capsys.readouterr().err


def test_two_cohorts_can_be_compared(cohort, tmp_path, capsys):
    from data.brain_simulator import compare as brain_compare

    assert brain_compare.main([str(cohort), str(cohort), "--sheet", str(tmp_path / "sheet.png"), "--rows", "1"]) == 0
    told = capsys.readouterr().out
    assert told.count("4 cases") == 2 and "white matter" in told and "sphericity" in told
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    assert brain_compare.main([str(tmp_path / "nothing")]) == 1
    assert "DataError" in capsys.readouterr().err


def test_cohort_has_no_distance_to_itself_and_some_to_another(cohort):
    from data.brain_simulator import compare as brain_compare
    from data.decathlon import read_brain

    own = brain_compare.measure(list(read_brain(cohort)))
    table = brain_compare.distances(own, own)
    assert (table[["FLAIR", "T1w", "T1gd", "T2w"]].to_numpy() == 0).all()
    assert (table.loc["brain", ["FLAIR halves", "T2w halves"]] > 0).all()
    flat = np.zeros((1, 4, len(brain_compare.BINS) - 1))
    left, right = flat.copy(), flat.copy()
    left[..., 3], right[..., 40] = 1, 1
    assert np.array_equal(brain_compare.histogram_distance(left, right), np.ones(4)), "disjoint"


def test_shapes_of_known_bodies():
    from data.brain_simulator.compare import shape_of

    x, y, z = np.ogrid[-30:31, -30:31, -30:31]
    ball = shape_of(x**2 + y**2 + z**2 <= 25**2, (1.0, 1.0, 1.0))
    assert ball["parts"] == 1
    assert ball["sphericity"] == pytest.approx(1, abs=0.03)
    assert ball["extent"] == pytest.approx(np.pi / 6 * (25 / 25.5) ** 3, abs=0.01), "its box is 51 voxels wide"
    long = shape_of((x / 25.0) ** 2 + (y / 6.0) ** 2 + (z / 6.0) ** 2 <= 1, (1.0, 1.0, 1.0))
    assert long["sphericity"] < 0.9
    two = (x**2 + y**2 + z**2 <= 36) | ((x - 20) ** 2 + y**2 + z**2 <= 25)
    assert shape_of(two, (1.0, 1.0, 1.0))["parts"] == 2
    assert np.isnan(shape_of(np.zeros((4, 4, 4), bool), (1.0, 1.0, 1.0))["extent"])
