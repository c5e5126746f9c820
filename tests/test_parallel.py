"""Several devices and processes train one model: the loss curve and the weights of a single process, from real runs."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from parallel_run import QUICK_XLA

from data.errors import DataError
from models import parallel
from models.parallel import Team, start

pytest.importorskip("jax")
RUN = Path(__file__).with_name("parallel_run.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three scans of 18×18×18 voxels."""
    folder = tmp_path_factory.mktemp("scans")
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir()
    for number in range(3):
        rng = np.random.default_rng(number)
        radius = np.linalg.norm(np.indices((18, 18, 18)) - 8.5, axis=0)
        label = np.select([radius < 2, radius < 4, radius < 6], [2, 3, 1], 0).astype(np.uint8)
        bright = 300.0 + 200.0 * label[..., None] + rng.normal(0, 20, (18, 18, 18, 4))
        nib.save(
            nib.Nifti1Image(((radius < 8.5)[..., None] * bright).astype(np.int16), np.eye(4)), folder / f"imagesTr/C{number}.nii.gz"
        )
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / f"labelsTr/C{number}.nii.gz")
    return folder


def launch(folder: Path, out: Path, processes: int, process: int, coordinator: str, devices: int) -> subprocess.Popen:
    """One process of a training on JAX with `devices` devices of its own."""
    own = {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICK_XLA}",
    }
    command = [sys.executable, RUN, folder, out, coordinator, str(processes), str(process)]
    return subprocess.Popen(command, env=os.environ | own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """What was printed at the end, by name of the run; their folders. All run at once: starting is most of their time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {  # processes, this process, coordinator, devices
        "single": (1, 0, "", 1),
        "two devices": (1, 0, "", 2),
        "first of two": (2, 0, coordinator, 1),
        "second of two": (2, 1, coordinator, 1),
    }
    outs = {name: tmp_path_factory.mktemp(name.replace(" ", "_")) / "run" for name in settings}
    started = {name: launch(folder, outs[name], *setting) for name, setting in settings.items()}
    printed = {}
    try:
        for name, process in started.items():
            text, errors = process.communicate(timeout=600)
            assert process.returncode == 0, f"{name}: {errors[-3000:]}"
            printed[name] = json.loads(text.splitlines()[-1]) | {"text": text, "errors": errors}
    finally:
        for process in started.values():
            process.kill()
    return printed, outs


def test_devices_and_processes_are_those_asked_for(runs):
    found = {name: (run["process"], run["devices"]) for name, run in runs[0].items()}
    assert found == {"single": (0, 1), "two devices": (0, 2), "first of two": (0, 2), "second of two": (1, 2)}


@pytest.mark.parametrize("name", ["two devices", "first of two", "second of two"])
def test_batch_normalisation_sees_the_whole_batch(runs, name):
    single = runs[0]["single"]["losses"]
    assert np.ptp(single) > 0.01
    np.testing.assert_allclose(runs[0][name]["losses"], single, rtol=1e-5)


@pytest.mark.parametrize("name", ["two devices", "first of two"])
def test_the_trainer_follows_the_curve_of_a_single_process(runs, name):
    single, several = (pd.read_csv(runs[1][run] / "log.csv") for run in ("single", name))
    assert several["epoch"].tolist() == [1, 2, 3] and single["loss"].nunique() == 3
    np.testing.assert_allclose(several["loss"], single["loss"], rtol=1e-3)


@pytest.mark.parametrize("name", ["two devices", "first of two"])
def test_the_trained_weights_are_those_of_a_single_process(runs, name):
    from models.brain.network import unet3d
    from models.weights import load_weights

    weights = {}
    for run in ("single", name):
        model = unet3d(filters=(4, 8))
        load_weights(model, runs[1][run] / "unet3d_brain.weights.h5")
        weights[run] = model.get_weights()
    for ours, theirs in zip(weights[name], weights["single"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-3)


def test_only_the_first_process_writes(runs):
    printed, outs = runs
    assert {"log.csv", "config.json", "checkpoint-00003.weights.h5", "evaluation.csv"} <= {
        file.name for file in outs["first of two"].iterdir()
    }
    assert not outs["second of two"].exists() or not list(outs["second of two"].iterdir())
    assert "weights:" in printed["first of two"]["text"] and "weights:" not in printed["second of two"]["text"]
    assert "training" in printed["first of two"]["errors"] and "training:" not in printed["second of two"]["errors"]


def test_shares_of_all_processes_are_the_batch_in_order():
    rows = [row for process in range(4) for row in Team(process, 4, 8).rows(16)]
    assert rows == list(range(16))
    assert Team().rows(7) == range(7)


@pytest.mark.parametrize(("batch", "near"), [(12, "8 or 16"), (3, "Take 8")])
def test_a_batch_that_cannot_be_spread(batch, near):
    with pytest.raises(DataError, match=f"batch of {batch} .*8 devices.*{near}"):
        Team(0, 2, 8).rows(batch)


@pytest.mark.skipif(keras.config.backend() == "jax", reason="the tests run on JAX")
@pytest.mark.parametrize("asked", [{"devices": 2}, {"processes": 2, "process": 0, "coordinator": "x:1"}])
def test_other_backends_say_what_to_do(asked):
    assert start() == Team() and start(devices=1) == Team()
    with pytest.raises(DataError, match="KERAS_BACKEND=jax"):
        start(**asked)


@pytest.mark.parametrize(
    ("asked", "environment", "message"),
    [
        ({"processes": 2, "coordinator": "x:1"}, {}, "--process is missing"),
        ({"processes": 2, "process": 2, "coordinator": "x:1"}, {}, "--process is 2; with 2 processes it must be 0 to 1"),
        ({"processes": 2, "process": 0}, {}, "--coordinator is missing"),
        ({}, {"KERAS_DISTRIBUTION_NUM_PROCESSES": "2", "KERAS_DISTRIBUTION_PROCESS_ID": "one"}, "PROCESS_ID is 'one'"),
        ({"processes": 0, "process": 0}, {}, "--processes is 0"),
        ({"devices": 5}, {}, "--devices is 5, but JAX sees 1: cpu:0"),
    ],
)
def test_wrong_arguments_are_named(asked, environment, message, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0"])
    for name in parallel.VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match=message):
        start(**asked)


def test_arguments_are_taken_from_the_environment(monkeypatch):
    given = []
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0"])
    monkeypatch.setattr(keras.distribution, "initialize", lambda *arguments: given.append(arguments))
    for name, value in zip(parallel.VARIABLES.values(), ("host:9911", "4", "3"), strict=True):
        monkeypatch.setenv(name, value)
    team = start()
    assert given == [("host:9911", 4, 3)] and (team.process, team.processes, team.leads) == (3, 4, False)
