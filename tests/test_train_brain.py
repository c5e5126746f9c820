"""The training script: two steps on miniature scans, exact resumption, and errors before work is lost."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from data.errors import DataError

pytest.importorskip("keras")
from parallel_run import QUICK_XLA

from data.brats import patient_of
from data.decathlon import BrainCohort
from models import run, weights
from models.brain import patches as brain_patches
from models.brain import train as train_brain
from models.brain.network import unet3d
from models.brain.patches import Packed, make_batch
from models.brain.train import Config, held_out, scan_shares, train

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"epochs": 2, "steps": 2, "batch_size": 1, "size": 16, "filters": (4, 6, 8), "folds": 3, "fold": 0, "average": 0.8}


@pytest.fixture(scope="module", autouse=True)
def step_by_step():
    """Without graphs, which take longer to make than so short a training; runs in processes of their own make them."""
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
        yield
        tf.config.run_functions_eagerly(False)
    else:
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three scans of 20×20×20 voxels with a brain, and in it a tumour of three classes."""
    folder = tmp_path_factory.mktemp("scans")
    (folder / "imagesTr").mkdir()
    (folder / "labelsTr").mkdir()
    for number in range(3):
        rng = np.random.default_rng(number)
        radius = np.linalg.norm(np.indices((20, 20, 20)) - 9.5, axis=0)
        label = np.select([radius < 2, radius < 4, radius < 6], [2, 3, 1], 0).astype(np.uint8)
        bright = 300.0 + 200.0 * label[..., None] + rng.normal(0, 20, (20, 20, 20, 4))
        image = ((radius < 9)[..., None] * bright).astype(np.int16)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"imagesTr/C{number}.nii.gz")
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / f"labelsTr/C{number}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run from start to end."""
    config = Config((str(folder),), str(tmp_path_factory.mktemp("run")), **SMALL)
    return config, train(config)


def weights_of(path, filters=SMALL["filters"]):
    model = unet3d(filters=filters)
    weights.load_weights(model, path)
    return model.get_weights()


def test_a_run_leaves_weights_log_config_and_evaluation(whole):
    config, weights = whole
    out = weights.parent
    assert all(np.isfinite(weight).all() for weight in weights_of(weights))
    log = pd.read_csv(out / "log.csv")
    assert log["epoch"].tolist() == [1, 2] and log["loss"].between(0, 10).all()
    saved = json.loads((out / "config.json").read_text())
    assert saved["seed"] == config.seed and saved["filters"] == [4, 6, 8] and saved["backend"]
    table = pd.read_csv(out / "evaluation.csv")
    assert len(table) == 1 and table["Dice WT"].between(0, 1).all()


def test_a_killed_run_goes_on_exactly(whole, folder, tmp_path, monkeypatch):
    config = Config((str(folder),), str(tmp_path), **SMALL)
    real = brain_patches.make_batch

    def killed(scans, shares, config, step, rows):
        if step >= 3:
            raise KeyboardInterrupt
        return real(scans, shares, config, step, rows)

    monkeypatch.setattr(brain_patches, "make_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    assert (tmp_path / "checkpoint-00001.weights.h5").exists() and not (tmp_path / "unet3d_brain.weights.h5").exists()
    resumed = train(config)
    for ours, theirs in zip(weights_of(resumed), weights_of(whole[1])):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-4)
    columns = ["epoch", "loss", "rate"]
    ours, theirs = (pd.read_csv(path.parent / "log.csv")[columns] for path in (resumed, whole[1]))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3)


def test_fine_tuning_starts_from_given_weights(whole, folder, tmp_path):
    tuned, _ = train_brain.build(Config((), "", **SMALL | {"init": str(whole[1])}))
    for ours, theirs in zip(tuned.get_weights(), weights_of(whole[1])):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(DataError, match="another architecture"):
        train_brain.build(Config((), "", **SMALL | {"init": str(whole[1]), "filters": (4, 8)}))


def test_cases_of_the_same_name_in_two_folders_stay_apart(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    label = nib.load(folder / "labelsTr/C0.nii.gz")
    nib.save(nib.Nifti1Image(np.asanyarray(label.dataobj)[::-1] // 2, label.affine), other / "labelsTr/C0.nii.gz")
    config = Config((str(folder), str(other)), str(tmp_path / "run"), **SMALL | {"epochs": 1, "steps": 1, "fold": -1})
    train(config)
    first, second = (tmp_path / "run/packed").glob("*/C0.label.npy")
    assert (np.load(first) != np.load(second)).any()


def test_another_configuration_does_not_go_on_with_a_run(whole, folder):
    other = Config((str(folder),), whole[0].out, **SMALL | {"batch_size": 2})
    with pytest.raises(DataError, match="config.json: .*started with batch_size 1, now 2.*--out"):
        train(other)


def test_a_checkpoint_cut_off_is_named(folder, tmp_path):
    config = Config((str(folder),), str(tmp_path), **SMALL)
    train(config)
    file = tmp_path / "checkpoint-00002.weights.h5"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(DataError, match="checkpoint-00002.weights.h5: the checkpoint is cut off.*Delete it.*checkpoint-00001"):
        train(config)


def test_a_full_disk_keeps_the_last_checkpoint(folder, tmp_path, monkeypatch):
    config = Config((str(folder),), str(tmp_path), **SMALL)
    from keras import Model

    real, count = Model.save_weights, []

    def save(model, path, **more):
        count.append(path)
        if len(count) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(model, path, **more)

    monkeypatch.setattr(Model, "save_weights", save)
    with pytest.raises(DataError, match="checkpoint-00002.weights.h5: the disk is full"):
        train(config)
    monkeypatch.undo()
    assert train(config).exists()  # resumes at step 2


def test_a_broken_scan_stops_before_training(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "scans")
    file = tmp_path / "scans/imagesTr/C1.nii.gz"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(DataError, match="C1.nii.gz.*cut off"):
        train(Config((str(tmp_path / "scans"),), str(tmp_path / "run"), **SMALL))
    assert not list((tmp_path / "run").glob("checkpoint*"))


def test_too_few_cases(folder, tmp_path):
    with pytest.raises(DataError, match="all 3 patient.* are held out.*none is left.*Add some"):
        train(Config((str(folder),), str(tmp_path), **SMALL | {"fold": -1, "keep_out": ("C0", "C1", "C2")}))
    with pytest.raises(DataError, match="--folds 4 --fold 0: there are 3 patient.*at most as many parts"):
        train(Config((str(folder),), str(tmp_path), **SMALL | {"folds": 4}))
    with pytest.raises(DataError, match="--folds 3 --fold 3: .*--fold from 0 to 2"):
        train(Config((str(folder),), str(tmp_path), **SMALL | {"fold": 3}))


def test_folders_are_mixed_by_their_shares():
    three_and_one = [0, 0, 0, 1]
    np.testing.assert_allclose(scan_shares(["A", "B"], (0.2, 0.6), three_and_one), [1 / 12, 1 / 12, 1 / 12, 0.75])
    np.testing.assert_allclose(scan_shares(["A", "B"], (), three_and_one), 0.25)
    for shares in ((0.2,), (0, 1)):
        with pytest.raises(DataError, match="one number above 0 for each of the 2 folders"):
            scan_shares(["A", "B"], shares, three_and_one)
    with pytest.raises(DataError, match="B: no scan is left"):
        scan_shares(["A", "B"], (), [0, 0])


def test_loss_of_regions_trains_and_another_name_is_refused(folder, tmp_path):
    train(Config((str(folder),), str(tmp_path), **SMALL | {"epochs": 1, "loss": "regions", "fold": -1}))
    by_classes = Config((str(folder),), str(tmp_path / "classes"), **SMALL | {"epochs": 1, "fold": -1})
    train(by_classes)
    ours, theirs = (pd.read_csv(path / "log.csv")["loss"].item() for path in (tmp_path, tmp_path / "classes"))
    assert 0 < ours < 10 and ours != theirs
    with pytest.raises(DataError, match="--loss dice: give one of classes, regions"):
        train_brain.build(Config((), "", **SMALL | {"loss": "dice"}))


def test_tumours_that_hardly_enhance_are_drawn_more_often(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "scans")
    label = nib.load(folder / "labelsTr/C1.nii.gz")
    voxels = np.asanyarray(label.dataobj).copy()
    voxels[voxels == 3] = 2
    nib.save(nib.Nifti1Image(voxels, label.affine), tmp_path / "scans/labelsTr/C1.nii.gz")
    seen, real = [], train_brain.batches
    monkeypatch.setattr(train_brain, "batches", lambda scans, shares, *more: seen.append(shares) or real(scans, shares, *more))
    more = {"epochs": 1, "steps": 1, "fold": -1, "low_grade": 3.0}
    train(Config((f"{tmp_path}/scans",), f"{tmp_path}/run", **SMALL | more))
    np.testing.assert_allclose(seen[0], [0.2, 0.6, 0.2])


def test_named_cases_are_kept_out(folder, tmp_path, capsys):
    train(Config((str(folder),), str(tmp_path), **SMALL | {"epochs": 1, "steps": 1, "fold": -1, "keep_out": ("C0", "C2")}))
    assert "1 scans to train on; held out: C0, C2" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "evaluation.csv")["case"].tolist() == ["C0", "C2"]
    assert not list((tmp_path / "packed").glob("*/C0*"))
    assert weights.read_patients(tmp_path / "trained_on.txt") == {"C1"}
    with pytest.raises(DataError, match="C9: no such case. There are C0, C1, C2"):
        train(Config((str(folder),), str(tmp_path / "other"), **SMALL | {"keep_out": ("C9",)}))


def cohort(source, *names):
    """A folder of which only the names of its cases are asked for."""
    return BrainCohort(Path(source), [SimpleNamespace(name=name, patient=patient_of(name)) for name in names], [], source)


def test_parts_cover_the_real_patients_once_and_never_those_of_the_test():
    cohorts = [
        cohort("real patients: A", "C3", "C0", "C2"),
        cohort("real patients: B", "C4", "C1", "C0"),
        cohort("simulated", "C0", "C2"),
    ]
    parts = []
    for fold in range(2):
        absent, tested = held_out(Config(("A", "B", "S"), "", keep_out=("C2",), folds=2, fold=fold), cohorts)
        part = tested[0] | tested[1]
        assert absent == [tested[0] | {"c2"}, tested[1], set()] and tested[2] == set()  # who was simulated is nobody else
        assert ("c0" in tested[0]) == ("c0" in tested[1])  # a patient in two folders
        parts.append(sorted(part))
    assert parts == [["c0", "c3"], ["c1", "c4"]]
    named = [{"c2"}, set(), set()]
    assert held_out(Config(("A", "B", "S"), "", keep_out=("C2",)), cohorts) == (named, named)
    nobody = [set(), set(), set()]
    assert held_out(Config(("A", "B", "S"), ""), cohorts) == (nobody, nobody)


def test_of_simulated_folders_alone_the_first_is_cut():
    cohorts = [cohort("simulated", "C0", "C1"), cohort("simulated", "C0", "C2")]
    absent, tested = held_out(Config(("S", "T"), "", keep_out=("C2",), folds=2, fold=0), cohorts)
    assert tested == [{"c0"}, set()] and absent == [{"c0"}, {"c2"}]


def test_a_patient_under_two_names_is_held_out_under_both():
    cohorts = [
        cohort("real patients: A", "Brats18_CBICA_ABM_1", "Brats18_CBICA_ALU_1"),
        cohort("real patients: B", "BRATS19_CBICA_ABM_1"),
    ]
    absent, _ = held_out(Config(("A", "B"), "", keep_out=("Brats17_CBICA_ABM_1",)), cohorts)
    assert absent == [{"cbica abm"}, {"cbica abm"}]


def test_a_run_of_one_part_is_tested_on_that_part(folder, tmp_path, capsys):
    train(Config((str(folder),), str(tmp_path), **SMALL | {"epochs": 1, "steps": 1, "folds": 2, "fold": 1, "keep_out": ("C1",)}))
    assert "1 scans to train on; held out: C1, C2" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "evaluation.csv")["case"].tolist() == ["C2"]


def test_a_folder_with_one_patient(folder, tmp_path):
    for kind in ("imagesTr", "labelsTr"):
        (tmp_path / "one" / kind).mkdir(parents=True)
        shutil.copy(folder / kind / "C0.nii.gz", tmp_path / "one" / kind)
    assert train(Config((f"{tmp_path}/one",), f"{tmp_path}/run", **SMALL | {"epochs": 1, "steps": 1, "fold": -1})).exists()
    with pytest.raises(DataError, match="1 patient.*none is left to train on"):
        train(Config((f"{tmp_path}/one",), f"{tmp_path}/other", **SMALL | {"folds": 1}))


def test_a_value_that_is_no_number_stops_before_training(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "scans")
    file = tmp_path / "scans/imagesTr/C1.nii.gz"
    image = np.asanyarray(nib.load(file).dataobj).astype(np.float32)
    image[9, 9, 9, 1] = np.nan
    nib.save(nib.Nifti1Image(image, np.eye(4)), file)
    with pytest.raises(DataError, match="C1.nii.gz: T1w holds 1 values that are NaN"):
        train(Config((f"{tmp_path}/scans",), f"{tmp_path}/run", **SMALL | {"fold": -1}))
    assert not list((tmp_path / "run").glob("checkpoint*"))


def test_weights_of_another_network_are_no_checkpoint(whole, folder, tmp_path):
    config = Config((str(folder),), str(tmp_path), **SMALL)
    train(config)
    checkpoint = tmp_path / "checkpoint-00002.weights.h5"
    unet3d(filters=(4, 6)).save_weights(checkpoint)
    before = checkpoint.read_bytes()
    with pytest.raises(DataError, match="checkpoint-00002.weights.h5: the checkpoint is of another network"):
        train(config)
    assert checkpoint.read_bytes() == before


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(folder, tmp_path, monkeypatch):
    real = brain_patches.make_batch

    def broken(scans, shares, config, step, rows):
        images, truths = real(scans, shares, config, step, rows)
        return (images * np.nan if step == 3 else images), truths

    monkeypatch.setattr(brain_patches, "make_batch", broken)
    config = Config((str(folder),), str(tmp_path), **SMALL)
    with pytest.raises(DataError, match="the loss became nan in epoch 2.*lower --learning-rate"):
        train(config)
    monkeypatch.undo()
    assert pd.read_csv(tmp_path / "log.csv")["epoch"].tolist() == [1]
    assert train(config).exists()  # resumes at step 2


def test_the_average_of_the_weights_is_what_is_saved(folder, tmp_path):
    """After two steps with momentum m: the average of w1 and w2 is m w1 + (1 - m) w2, as Keras starts it at w1."""
    config = Config((str(folder),), f"{tmp_path}/a", **SMALL | {"epochs": 2, "steps": 1, "fold": -1, "average": 0.6})
    seen = []
    real = run.take_average

    def noted(trained):
        seen.append([np.array(weight) for weight in trained.get_weights()])
        real(trained)
        seen.append(trained.get_weights())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "take_average", noted)
        train(config)
    _one, trained = train_brain.build(config)
    images, truths = make_batch_of(config, tmp_path / "a")
    trained.train_on_batch(images, truths)
    first = trained.get_weights()
    for last, average, start in zip(seen[0], seen[1], first):
        np.testing.assert_allclose(average, 0.6 * start + 0.4 * last, atol=2e-4)
    assert any(not np.allclose(last, average, atol=1e-6) for last, average in zip(seen[0], seen[1]))


def make_batch_of(config, out):
    """The first batch of a run of one folder, from what the run has packed."""
    folder = next((out / "packed").iterdir())
    scans = []
    for file in sorted(folder.glob("*.image.int16.npy")):
        label = np.load(str(file).replace("image.int16", "label"))
        places = [voxels[:: max(1, len(voxels) // 2000)] for voxels in (np.argwhere(label == n) for n in (1, 2, 3))]
        scans.append(Packed(file.name, np.load(file), label, places))
    return make_batch(scans, np.full(len(scans), 1 / len(scans)), config, 0, range(config.batch_size))


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_kill_minus_nine_in_the_middle_and_the_same_curve(folder, tmp_path, backend):
    """A process of its own, killed when its first checkpoint is there; the next one resumes to the curve of a whole run."""
    pytest.importorskip(backend)
    small = SMALL | {"filters": (4, 8)}
    options = [word for key, value in small.items() for word in (f"--{key.replace('_', '-')}", *map(str, np.atleast_1d(value)))]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": backend,
        "CUDA_VISIBLE_DEVICES": "",
        "XLA_FLAGS": QUICK_XLA,
    }

    def start(out):
        command = [sys.executable, "-m", "models.brain.train", str(folder), "--out", str(tmp_path / out), *options]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    killed, whole = start("killed"), start("whole")
    try:
        while not (tmp_path / "killed/checkpoint-00001.weights.h5").exists():
            assert killed.poll() is None, killed.communicate()[0]
            time.sleep(0.02)
        killed.kill()
        killed.communicate()
        assert killed.returncode == -9 and not (tmp_path / "killed/unet3d_brain.weights.h5").exists()
        again = start("killed")
        for process in (whole, again):
            output = process.communicate(timeout=300)[0]
            assert process.returncode == 0, output
        assert "resuming after epoch" in output
    finally:
        for process in (killed, whole):
            process.kill()
    columns = ["epoch", "loss", "rate"]
    ours, theirs = (pd.read_csv(tmp_path / out / "log.csv")[columns] for out in ("killed", "whole"))
    assert theirs["epoch"].tolist() == [1, 2]
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3)
    for ours, theirs in zip(
        *(weights_of(tmp_path / out / "unet3d_brain.weights.h5", small["filters"]) for out in ("killed", "whole"))
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-4)


def test_command_line(monkeypatch):
    given = []
    monkeypatch.setattr(train_brain, "train", lambda config, team: given.append(config))
    options = ["--steps", "9", "--filters", "4", "8", "--learning-rate", "0.1", "--shares", "1", "2", "--keep-out", "C1"]
    train_brain.main(["A", "B", "--out", "R", *options])
    assert given == [Config(("A", "B"), "R", (1.0, 2.0), steps=9, filters=(4, 8), learning_rate=0.1, keep_out=("C1",))]
