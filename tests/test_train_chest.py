"""Training of the chest network: exact resumption, mixed folders, bad input, full disk, scores; with a tiny network."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from data import nih
from data.errors import DataError

keras = pytest.importorskip("keras")
import util  # noqa: E402
from models import run, weights  # noqa: E402
from models.chest import calibrate as chest_calibration  # noqa: E402
from models.chest import evaluate as evaluate_chest  # noqa: E402
from models.chest import network_card  # noqa: E402
from models.chest.films import MixedBatches, batch_shares, open_sources  # noqa: E402
from models.chest.network import CHEST_WEIGHTS  # noqa: E402
from models.chest.train import Config, build, train  # noqa: E402

SIZE = 32


def tiny(size=SIZE, classes=14, weights=None):
    """A network with the course network's layer names and 500 weights."""
    film = keras.Input((size, size, 1))
    maps = keras.layers.Conv2D(8, 5, strides=4, use_bias=False, name="conv")(film)  # batch norm undoes a bias
    maps = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(maps))
    features = keras.layers.GlobalAveragePooling2D(name="features")(maps)
    logits = keras.layers.Dense(classes, name="logits")(features)
    return keras.Model(film, keras.layers.Activation("sigmoid", name="probabilities")(logits), name="tiny")


def make_folder(folder, patients=30, shade=0):
    """Two films a patient; the brightness of a film says which of the 14 findings it has."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(shade)
    rows, names = [], {"train_val": [], "test": []}
    for patient in range(patients):
        for number in range(2):
            name = f"{patient:08}_{number:03}.png"
            finding = (patient + number) % 15
            film = np.clip(rng.normal(60 + 8 * finding + shade, 20, (40, 40)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / "images" / name), film)
            label = nih.FINDINGS[finding] if finding < 14 else "No Finding"
            rows.append([name, label, patient, 50, "F", "PA"])
            names["test" if patient % 5 == 4 else "train_val"].append(name)
    pd.DataFrame(rows, columns=list(nih.TABLE_COLUMNS)).to_csv(folder / nih.TABLE_FILE, index=False)
    for split, file in nih.SPLIT_FILES.items():
        (folder / file).write_text("\n".join(names[split]))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("films") / "real")


def settings(folder, place):
    return Config(
        (str(folder),),
        out=str(place / "run"),
        cache=str(place / "films"),
        size=SIZE,
        epochs=4,
        steps=6,
        batch_size=8,
        folds=4,
        average=0.8,
        smoothing=0.05,
        mixup=0.2,
        learning_rate=0.01,
        workers=2,
    )


@pytest.fixture
def config(folder, tmp_path):
    return settings(folder, tmp_path)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The configuration of a run from start to end; nobody changes its folder."""
    config = settings(folder, tmp_path_factory.mktemp("whole"))
    train(config, network=tiny)
    return config


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of that run, to change."""
    shutil.copytree(whole.out, tmp_path / "finished")
    return dataclasses.replace(whole, out=str(tmp_path / "finished"))


def arguments(config):
    """The command line of a configuration."""
    words = list(config.folders)
    for field in dataclasses.fields(config)[1:]:
        value = getattr(config, field.name)
        if value not in ("", (), False):
            words += [f"--{field.name.replace('_', '-')}", *([] if value is True else map(str, np.atleast_1d(value)))]
    return words


def in_a_process(config, root, *, slow=0.0, backend="tensorflow"):
    """The command line in another process, with the tiny network, `slow` seconds longer a film."""
    code = (
        f"import sys, time; sys.path[:0] = [{str(root)!r}, {str(Path(__file__).parent)!r}]; import test_train_chest as t\n"
        "film = t.MixedBatches.film\n"
        f"t.MixedBatches.film = lambda *a: (time.sleep({slow}), film(*a))[1]\n"
        f"from models.chest.train import main; main({arguments(config)!r}, network=t.tiny)"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def log_of(config):
    return pd.read_csv(Path(config.out) / "log.csv").drop(columns="films_per_second")


def weights_of(config):
    model = tiny()
    weights.load_weights(model, Path(config.out) / CHEST_WEIGHTS)
    return model.get_weights()


def run_on(config, root, backend):
    """A run from where it is to its end; here if the tests run on that backend, else in a process of its own."""
    if backend == keras.config.backend():
        train(config, network=tiny)
    else:
        process = in_a_process(config, root, backend=backend)
        output = process.communicate(timeout=300)[0]
        assert process.returncode == 0, output


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_killed_in_the_middle_and_resumed_is_the_same_run(config, whole, tmp_path, root, backend):
    pytest.importorskip(backend)
    if backend == keras.config.backend():
        config = whole
    else:
        run_on(config, root, backend)
    killed = dataclasses.replace(config, out=str(tmp_path / "killed"))
    process = in_a_process(killed, root, slow=0.02, backend=backend)
    second = Path(killed.out) / "checkpoint-00002.weights.h5"
    until = time.monotonic() + 300
    while not second.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.2)  # in the middle of the third epoch
    process.kill()
    output = process.communicate()[0]
    assert process.returncode == -9, output
    assert not (Path(killed.out) / CHEST_WEIGHTS).exists()
    done = len(log_of(killed))
    assert 2 <= done < config.epochs

    run_on(killed, root, backend)
    assert log_of(killed)["epoch"].tolist() == [1, 2, 3, 4]
    assert json.loads((Path(killed.out) / "config.json").read_text())["backend"] == backend
    pd.testing.assert_frame_equal(log_of(killed), log_of(config), rtol=1e-4)
    for ours, theirs in zip(weights_of(killed), weights_of(config), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_finished_run_is_not_trained_again(whole, finished):
    train(finished, network=tiny)
    assert len(log_of(finished)) == finished.epochs
    for ours, theirs in zip(weights_of(finished), weights_of(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_a_run_that_is_stopped_early_resumes(config, whole, tmp_path):
    early = dataclasses.replace(config, out=str(tmp_path / "early"), stop_after=2)
    train(early, network=tiny)
    assert log_of(early)["epoch"].tolist() == [1, 2] and (Path(early.out) / CHEST_WEIGHTS).exists()
    train(dataclasses.replace(early, stop_after=0), network=tiny)
    pd.testing.assert_frame_equal(log_of(early), log_of(whole), rtol=1e-4)


def test_it_learns_and_leaves_log_config_and_two_checkpoints(config, tmp_path):
    config = dataclasses.replace(config, epochs=8, steps=12, mixup=0.0, learning_rate=0.05)
    train(config, network=tiny)
    log = log_of(config)
    assert log["loss"].iloc[-1] < log["loss"].iloc[0] and log["auroc_real"].iloc[-1] > 0.7
    assert [path.name[:16] for path in run.checkpoints(Path(config.out))] == ["checkpoint-00007", "checkpoint-00008"]
    saved = json.loads((Path(config.out) / "config.json").read_text())
    assert saved["learning_rate"] == 0.05 and saved["seed"] == 0 and saved["backend"] == keras.config.backend()


def test_16_bits_are_trained_and_validated(config):
    train(dataclasses.replace(config, precision="mixed_bfloat16", epochs=1, steps=1), network=tiny)
    assert np.isfinite(log_of(config)["auroc_real"]).all() and keras.config.dtype_policy().name == "float32"


def test_jax_computes_what_tensorflow_does(config, root, tmp_path):
    pytest.importorskip("jax")
    keras.utils.set_random_seed(3)
    weights.save_weights_float16(tiny(), tmp_path / "start.weights.h5")
    config = dataclasses.replace(config, init=str(tmp_path / "start.weights.h5"), epochs=2)
    process = in_a_process(config, root, backend="jax")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert json.loads((Path(config.out) / "config.json").read_text())["backend"] == "jax"
    again = dataclasses.replace(config, out=f"{config.out}-tensorflow")
    train(again, network=tiny)
    np.testing.assert_allclose(log_of(config)["loss"], log_of(again)["loss"], rtol=1e-3)
    for ours, theirs in zip(weights_of(config), weights_of(again), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-3)


def test_two_folders_in_one_batch(config, folder, tmp_path):
    simulated = make_folder(tmp_path / "simulated", shade=40)
    (simulated / nih.SIMULATED_FILE).write_text("{}")
    config = dataclasses.replace(config, folders=(str(folder), str(simulated)), shares=(3.0, 1.0), epochs=1)
    training, _validation = open_sources(config, progress=False)
    assert batch_shares(training, config.shares, 8) == [6, 2]
    assert abs(training[1].mean - training[0].mean) > 20  # each is standardised by its own films
    films, _ = MixedBatches(training, [6, 2], dataclasses.replace(config, mixup=0.0), range(8))[0]
    assert abs(films[:6].mean() - films[6:].mean()) < 1
    train(config, network=tiny)
    assert {"auroc_real", "auroc_simulated"} <= set(log_of(config).columns)
    with pytest.raises(DataError, match="one number above 0 for each of the 2 folders"):
        batch_shares(training, (1.0,), 8)


def copied(folder, target, keep):
    """A copy of a folder with the rows of its table that `keep` holds for."""
    (target / "images").mkdir(parents=True)
    table = pd.read_csv(folder / nih.TABLE_FILE)
    table = table[keep(table)]
    table.to_csv(target / nih.TABLE_FILE, index=False)
    for name in table["Image Index"]:
        (target / "images" / name).write_bytes((folder / "images" / name).read_bytes())
    for file in nih.SPLIT_FILES.values():
        (target / file).write_text((folder / file).read_text())
    return target


def test_a_run_says_whom_it_was_trained_on_and_what_standardises_a_single_film(config, folder, tmp_path):
    simulated = make_folder(tmp_path / "simulated", shade=40)
    (simulated / nih.SIMULATED_FILE).write_text("{}")
    config = dataclasses.replace(config, folders=(str(folder), str(simulated)), epochs=1, steps=1)
    real = open_sources(config, progress=False)[0][0]
    train(config, network=tiny)
    assert weights.read_patients(Path(config.out) / "trained_on.txt") == {str(patient) for patient in real.patients}
    card = json.loads((Path(config.out) / "card.json").read_text())
    np.testing.assert_allclose(card["pixels"], [real.mean, real.sd], atol=1e-3)
    assert card["prevalence"]["Mass"] == pytest.approx(real.store.labels[real.rows, nih.FINDINGS.index("Mass")].mean(), abs=1e-5)


def test_one_patient(config, folder, tmp_path):
    alone = copied(folder, tmp_path / "alone", lambda table: table["Patient ID"] == 1)
    with pytest.raises(DataError, match="alone: all X-rays are of one patient.*--fold -1"):
        train(dataclasses.replace(config, folders=(str(alone),)), network=tiny)
    assert not Path(config.out).exists()


def test_a_finding_without_positives(config, folder, tmp_path):
    without = copied(folder, tmp_path / "without", lambda table: table["Finding Labels"] != "Hernia")
    config = dataclasses.replace(config, folders=(str(without),), epochs=1)
    with pytest.raises(DataError, match="No training X-ray is positive for Hernia.*--allow-absent"):
        train(config, network=tiny)
    train(dataclasses.replace(config, allow_absent=True), network=tiny)
    assert np.isfinite(log_of(config)["auroc_without"]).all()


def test_loss_that_is_no_number_leaves_the_last_checkpoint(config, monkeypatch):
    film = MixedBatches.film

    def broken(self, step, row):
        pixels, labels = film(self, step, row)
        return (pixels * np.nan if step == 2 * config.steps + 1 else pixels), labels

    monkeypatch.setattr(MixedBatches, "film", broken)
    with pytest.raises(DataError, match="loss became nan in epoch 3.*lower --learning-rate"):
        train(config, network=tiny)
    assert run.checkpoints(Path(config.out))[-1].name == "checkpoint-00002.weights.h5"
    monkeypatch.undo()
    train(config, network=tiny)
    assert len(log_of(config)) == config.epochs and np.isfinite(log_of(config)["loss"]).all()


def test_full_disk_while_saving_leaves_the_last_checkpoint(config, monkeypatch):
    save = keras.Model.save_weights

    def full(model, path, **options):
        if "00003" in str(path):
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(model, path, **options)

    monkeypatch.setattr(keras.Model, "save_weights", full)
    with pytest.raises(DataError, match="checkpoint-00003.*disk is full.*name a folder on another disk"):
        train(config, network=tiny)
    left = sorted(path.name for path in Path(config.out).iterdir() if "checkpoint" in path.name)
    assert left == ["checkpoint-00001.weights.h5", "checkpoint-00002.weights.h5"]
    monkeypatch.undo()
    train(config, network=tiny)
    assert len(log_of(config)) == config.epochs


def test_a_checkpoint_cut_off_is_named_and_the_one_before_serves(whole, finished):
    config = finished
    newest = run.checkpoints(Path(config.out))[-1]
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"{newest.name}: the checkpoint is cut off.*checkpoint-00003"):
        train(config, network=tiny)
    newest.unlink()
    train(config, network=tiny)
    pd.testing.assert_frame_equal(log_of(config), log_of(whole), rtol=1e-4)


def wider(size=SIZE, classes=14, weights=None):
    film = keras.Input((size, size, 1))
    features = keras.layers.GlobalAveragePooling2D(name="features")(keras.layers.Conv2D(9, 5, name="conv")(film))
    logits = keras.layers.Dense(classes, name="logits")(features)
    return keras.Model(film, keras.layers.Activation("sigmoid")(logits), name="wider")


def test_checkpoint_and_weights_of_another_network(finished):
    config = finished
    with pytest.raises(DataError, match="checkpoint-00004.*another network.*--out"):
        train(config, network=wider)
    with pytest.raises(DataError, match="another architecture"):
        build(dataclasses.replace(config, init=str(Path(config.out) / CHEST_WEIGHTS)), network=wider)
    assert len(run.checkpoints(Path(config.out))) == 2


def test_another_configuration_in_the_same_folder(finished):
    config = finished
    with pytest.raises(DataError, match="started with learning_rate 0.01, now 0.02.*--out"):
        train(dataclasses.replace(config, learning_rate=0.02), network=tiny)


def test_calibration_of_a_file(whole, folder, tmp_path, capsys):
    config = whole
    out = tmp_path / "calibrated.weights.h5"
    command = ["--weights", str(Path(config.out) / CHEST_WEIGHTS), "--out", str(out), "--size", str(SIZE), str(folder)]
    chest_calibration.main([*command, "--cache", config.cache, "--folds", "4"], network=tiny)
    model = tiny()
    weights.load_weights(model, out)
    for ours, theirs in zip(model.get_weights()[:-2], weights_of(config)[:-2], strict=True):
        np.testing.assert_array_equal(ours, theirs)  # only the last layer is another one
    assert f"{open_sources(config, progress=False)[1][0].rows.size} X-rays; slope" in capsys.readouterr().out
    other = make_folder(tmp_path / "other", patients=90, shade=4)  # shares patients, is not fitted on, and moves the parts
    chest_calibration.main([*command, str(other), "--cache", config.cache, "--folds", "4"], network=tiny)
    both = dataclasses.replace(config, folders=(str(folder), str(other)))
    training, held_out = open_sources(both, progress=False)
    assert f"{held_out[0].rows.size} X-rays; slope" in capsys.readouterr().out
    before, card = network_card(Path(config.out) / "card.json"), network_card(tmp_path / "card.json")
    assert (card.size, card.pixels) == (before.size, before.pixels)
    mass = training[0].store.labels[training[0].rows][:, nih.FINDINGS.index("Mass")].mean()
    assert card.prevalence["Mass"] == pytest.approx(mass, abs=1e-5)
    with pytest.raises(SystemExit, match="no patient is held out"):
        chest_calibration.main([*command, "--cache", config.cache, "--fold", "-1"], network=tiny)


def test_evaluation_table(finished, folder, tmp_path, capsys):
    config = finished
    csv = tmp_path / "table.csv"
    file = Path(config.out) / CHEST_WEIGHTS
    tables = evaluate_chest.main(
        [str(folder), "--weights", str(file), "--size", str(SIZE), "--cache", config.cache, "--out", str(csv)], network=tiny
    )
    mined = tables[evaluate_chest.MINED]
    assert list(mined.index) == [*nih.FINDINGS, "mean"] and list(tables) == [evaluate_chest.MINED]
    model = tiny()
    weights.load_weights(model, file)
    chest, table, pred = evaluate_chest.predict_folder(model, folder, size=SIZE, cache=Path(config.cache))
    assert set(table["split"]) == {"test"} and len(table) == 12
    y = table[list(nih.FINDINGS)].to_numpy()
    for k, finding in enumerate(nih.FINDINGS):
        np.testing.assert_equal(mined.loc[finding, "AUROC"], util.auroc(y[:, k], pred[:, k]))
    assert np.isnan(mined.loc["mean", "AUROC"])  # no finding has five positives
    pred = np.random.default_rng(0).random(pred.shape)
    often = table.assign(Mass=np.arange(12) % 2, Nodule=(np.arange(12) < 7).astype(int))
    mean = evaluate_chest.score(chest, often, pred)[evaluate_chest.MINED].loc["mean"]
    of_two = [util.auroc(often[finding], pred[:, nih.FINDINGS.index(finding)]) for finding in ("Mass", "Nodule")]
    assert mean["AUROC"] == pytest.approx(np.mean(of_two)) and mean["low"] < mean["AUROC"] < mean["high"]
    assert "| mean | of 12 X-rays |" in capsys.readouterr().out and csv.exists()


def test_evaluation_leaves_out_whom_the_network_was_trained_on(finished, folder, capsys):
    config = finished
    file = Path(config.out) / CHEST_WEIGHTS
    weights.write_patients(file.with_name("trained_on.txt"), [4, 9])
    command = [str(folder), "--weights", str(file), "--size", str(SIZE), "--cache", config.cache]
    evaluate_chest.main(command, network=tiny)
    assert (
        "on 8 X-rays of 4 patients" in (printed := capsys.readouterr().out) and "2 patients of its training are left out" in printed
    )
    evaluate_chest.main([*command, "--all-patients"], network=tiny)
    assert "on 12 X-rays of 6 patients" in capsys.readouterr().out
    weights.write_patients(file.with_name("trained_on.txt"), range(30))
    with pytest.raises(SystemExit, match="trained on all patients of the split 'test'"):
        evaluate_chest.main(command, network=tiny)
