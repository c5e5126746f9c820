"""Calibrating and scoring the chest network, and what it carries over from simulated to real X-rays; with a tiny network."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from data import nih

pytest.importorskip("keras")
import keras
from test_train_chest import SIZE, folder, make_folder, tiny  # noqa: F401  fixtures

from models import transfer
from models.chest import evaluate as evaluate_chest
from models.chest.calibrate import apply_calibration, calibrate
from models.chest.calibration import fit_calibration
from models.chest.films import open_store


def test_calibration_finds_slope_and_intercepts():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 2))
    labels = rng.random(logits.shape) < 1 / (1 + np.exp(-(0.4 * logits + [0.5, -1.0])))
    slope, intercepts = fit_calibration(logits, labels)
    assert abs(slope - 0.4) < 0.02
    np.testing.assert_allclose(intercepts, [0.5, -1.0], atol=0.06)
    slope, intercepts = fit_calibration(logits[:50], np.zeros((50, 2)))  # never positive: finite all the same
    assert np.isfinite([slope, *intercepts]).all()


def test_calibration_goes_into_the_network_and_keeps_the_order(folder, tmp_path):
    model = tiny()
    store = open_store(folder, SIZE, tmp_path, progress=False)
    scores = keras.Model(model.input, model.get_layer("logits").output)
    x = np.random.default_rng(0).normal(size=(5, SIZE, SIZE, 1)).astype(np.float32)
    before = np.asarray(scores(x))
    apply_calibration(model, 2.0, np.arange(14))
    np.testing.assert_allclose(np.asarray(scores(x)), 2 * before + np.arange(14), rtol=1e-4, atol=1e-4)
    apply_calibration(model, 0.5, -np.arange(14) / 2)  # back to where it was
    calibrate(model, store.films, store.labels, 100.0, 30.0)
    pred = np.asarray(model((np.asarray(store.films, np.float32)[..., None] - 100) / 30))
    np.testing.assert_allclose(pred.mean(axis=0), store.labels.mean(axis=0), atol=0.03)


def test_calibration_error_by_hand():
    y, p = np.zeros((4, 14)), np.zeros((4, 14))
    y[:, 0], p[:, 0] = [0, 1, 1, 0], [0.15, 0.15, 0.95, 0.95]
    errors = evaluate_chest.calibration_error(pd.DataFrame(y, columns=list(nih.FINDINGS)), p)
    assert errors["expected calibration error"] == pytest.approx((2 * (0.5 - 0.15) + 2 * (0.95 - 0.5)) / 4)
    assert errors["mean output"] == pytest.approx(0.55) and errors["mean label"] == 0.5


def test_evaluation_of_a_manual_reading(folder):
    chest = nih.read_chest_folder(folder)
    table = chest.table.reset_index(drop=True)
    manual = table[["Image Index", *nih.FINDINGS]].iloc[::2].assign(Mass=1 - table["Mass"])  # they disagree on one finding
    pred = table[list(nih.FINDINGS)].to_numpy() * 0.8 + 0.1
    tables = evaluate_chest.score(dataclasses.replace(chest, manual=manual), table, pred, resamples=50)
    assert tables[evaluate_chest.MINED].loc["Mass", "AUROC"] == 1 and tables[evaluate_chest.MANUAL].loc["Mass", "AUROC"] == 0
    assert tables[evaluate_chest.MANUAL].loc["mean", "positive"] == len(manual)


def test_evaluation_without_a_folder():
    with pytest.raises(SystemExit, match="there is no such folder"):
        evaluate_chest.main(["nowhere", "--size", str(SIZE)], network=lambda size, weights: tiny())


def test_transfer_trains_on_simulated_films_and_tests_on_all_others(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "chest_cohort", lambda **asked: make_folder(tmp_path / f"simulated-{asked['seed']}", shade=5))
    trained = transfer.train_on_simulated_films(tmp_path / "run", 60, 2, SIZE, network=tiny)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["folders"] == [str(tmp_path / f"simulated-{transfer.CHEST_SEED}")] and config["labels"] == "truth.csv"
    tables = transfer.chest_transfer(folder, trained, size=SIZE, cache=tmp_path / "cache", network=tiny)
    mined = tables[evaluate_chest.MINED]
    assert mined.loc["mean", "positive"] == 60  # films of both splits
    assert mined["AUROC"].iloc[:14].mean() > 0.5 and set(transfer.AIMS) < set(mined.index)


def test_transfer_without_a_folder(capsys):
    with pytest.raises(SystemExit):
        transfer.main([])
    assert "--chest FOLDER" in capsys.readouterr().err
