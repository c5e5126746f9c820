"""The training script: two steps on miniature scans, exact resumption, and errors before work is lost."""

import errno
import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from data.errors import DataError

pytest.importorskip("keras")
import util  # noqa: E402
from models import train_brain  # noqa: E402
from models.train_brain import Config, Packed, augment, cut_patch, make_batch, train  # noqa: E402

SMALL = {"steps": 4, "batch": 1, "patch": 16, "filters": (4, 8), "report": 2, "validation": 1}


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


def weights_of(path):
    model = util.unet3d(filters=SMALL["filters"])
    util.load_weights(model, path)
    return model.get_weights()


def test_a_run_leaves_weights_log_config_and_evaluation(whole):
    config, weights = whole
    out = weights.parent
    assert all(np.isfinite(weight).all() for weight in weights_of(weights))
    log = pd.read_csv(out / "log.csv")
    assert log["step"].tolist() == [2, 4] and log["loss"].between(0, 10).all()
    saved = json.loads((out / "config.json").read_text())
    assert saved["seed"] == config.seed and saved["filters"] == [4, 8] and saved["backend"]
    table = pd.read_csv(out / "evaluation.csv")
    assert len(table) == 1 and table["Dice WT"].between(0, 1).all()


def test_a_killed_run_goes_on_exactly(whole, folder, tmp_path, monkeypatch):
    config = Config((str(folder),), str(tmp_path), **SMALL)
    real = train_brain.make_batch

    def killed(scans, config, step):
        if step >= 3:
            raise KeyboardInterrupt
        return real(scans, config, step)

    monkeypatch.setattr(train_brain, "make_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    assert (tmp_path / "checkpoint.weights.h5").exists() and not (tmp_path / "unet3d_brain.weights.h5").exists()
    with (tmp_path / "log.csv").open("a") as log:
        log.write("3,9.9,9.9\n")  # logged after the checkpoint, before the kill
    resumed = train(config)
    for ours, theirs in zip(weights_of(resumed), weights_of(whole[1])):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-4)
    columns = ["step", "loss"]
    ours, theirs = (pd.read_csv(path.parent / "log.csv")[columns] for path in (resumed, whole[1]))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3)


def test_fine_tuning_starts_from_given_weights(whole, folder, tmp_path):
    tuned = train_brain.build(Config((), "", **SMALL | {"start": str(whole[1])}))
    for ours, theirs in zip(tuned.get_weights(), weights_of(whole[1])):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(DataError, match="another architecture"):
        train_brain.build(Config((), "", **SMALL | {"start": str(whole[1]), "filters": (4, 8, 16)}))


def test_cases_of_the_same_name_in_two_folders_stay_apart(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    label = nib.load(folder / "labelsTr/C0.nii.gz")
    nib.save(nib.Nifti1Image(np.asanyarray(label.dataobj)[::-1] // 2, label.affine), other / "labelsTr/C0.nii.gz")
    config = Config((str(folder), str(other)), str(tmp_path / "run"), **SMALL | {"steps": 1})
    train(config)
    labels = [np.load(tmp_path / f"run/packed/{number}/C0.label.npy") for number in (0, 1)]
    assert (labels[0] != labels[1]).any()


def test_another_configuration_does_not_go_on_with_a_run(whole, folder):
    other = Config((str(folder),), whole[0].out, **SMALL | {"batch": 2})
    with pytest.raises(DataError, match="config.json: .*another batch.*--out"):
        train(other)


def test_a_checkpoint_cut_off_is_named(folder, tmp_path):
    config = Config((str(folder),), str(tmp_path), **SMALL)
    train(config)
    file = tmp_path / "checkpoint.weights.h5"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(DataError, match="checkpoint.weights.h5: cut off.*Delete"):
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
    with pytest.raises(DataError, match="checkpoint.weights.h5: the disk is full"):
        train(config)
    monkeypatch.undo()
    assert train(config).exists()  # goes on from step 2


def test_a_broken_scan_stops_before_training(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "scans")
    file = tmp_path / "scans/imagesTr/C1.nii.gz"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(DataError, match="C1.nii.gz.*cut off"):
        train(Config((str(tmp_path / "scans"),), str(tmp_path / "run"), **SMALL))
    assert not list((tmp_path / "run").glob("checkpoint*"))


def test_too_few_cases(folder, tmp_path):
    with pytest.raises(DataError, match="3 cases, but 3 are kept out"):
        train(Config((str(folder),), str(tmp_path), **SMALL | {"validation": 3}))


def a_packed_scan(shape=(30, 26, 22)):
    label = np.zeros(shape, np.uint8)
    label[3:6, 20:24, 10:14] = 1
    image = np.ones((*shape, 4), np.float16) * (np.arange(shape[0])[:, None, None, None] > 2)
    return Packed("x", image, label, [np.argwhere(label == 1)])


def test_patches_lie_inside_and_hold_the_tumour():
    scan, rng = a_packed_scan(), np.random.default_rng(0)
    for _ in range(50):
        image, label = cut_patch(scan, 16, 1.0, rng)
        assert image.shape == (16, 16, 16, 4) and label.shape == (16, 16, 16) and label.any()
    shares = [cut_patch(scan, 16, 0.0, rng)[1].any() for _ in range(200)]
    assert 0.05 < np.mean(shares) < 0.95


def test_augmentation_keeps_shape_outside_and_classes():
    scan, rng = a_packed_scan(), np.random.default_rng(0)
    for _ in range(30):
        image, label = cut_patch(scan, 16, 1.0, rng)
        before = image.copy()
        new_image, new_label = augment(image, label, rng)
        np.testing.assert_array_equal(image, before)
        assert new_image.shape == image.shape and new_image.dtype == np.float32 and np.isfinite(new_image).all()
        assert new_label.dtype == np.uint8 and set(np.unique(new_label)) <= {0, 1}


def test_batches_depend_on_seed_and_step_only():
    scans, config = [a_packed_scan()], Config((), "", patch=16, batch=2)
    first, again = make_batch(scans, config, 5), make_batch(scans, config, 5)
    np.testing.assert_array_equal(first[0], again[0])
    assert first[0].shape == (2, 16, 16, 16, 4) and first[1].shape == (2, 16, 16, 16, 3)
    assert (make_batch(scans, config, 6)[0] != first[0]).any()


def test_command_line(monkeypatch):
    given = []
    monkeypatch.setattr(train_brain, "train", given.append)
    train_brain.main(["--data", "A", "--data", "B", "--out", "R", "--steps", "9", "--filters", "4", "8", "--rate", "0.1"])
    assert given == [Config(("A", "B"), "R", steps=9, filters=(4, 8), rate=0.1)]
