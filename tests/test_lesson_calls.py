"""What a check accepts runs in the cells that follow: the lessons' own calls, with each right answer of the bank."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from answers import collect

from models.brain import network as brain_network
from models.chest.films import standardize_films
from public_tests import _cam_model
from tools.lesson import lesson_paths, read_cells

RIGHT, _ = collect()
RNG = np.random.default_rng(1)
FOUND, EXPERT = RNG.integers(0, 4, (2, 6, 5, 4))
ONE_HOT = (RNG.integers(0, 4, (2, 2, 6, 5, 4, 1)) == [1, 2, 3]).astype(np.float32)
# A line of a lesson as it stands there → the names that it needs.
CALLS: dict[str, dict[str, dict[str, Any]]] = {
    "compute_class_freqs": {
        "freq_pos, freq_neg = map(np.asarray, compute_class_freqs(labels[train.index]))": {
            "labels": RNG.integers(0, 2, (30, 4)),
            "train": type("Table", (), {"index": np.arange(20)}),
        },
        "pos_weights, neg_weights = freq_neg, freq_pos": {},
    },
    "grad_cam": {
        'return np.asarray(grad_cam(model, standardize_films(films[[case["row"]]], mean, sd)[0], case["class"], layer))': {
            "model": _cam_model((16, 12, 1), np.random.default_rng(1))[0],
            "standardize_films": standardize_films,
            "films": RNG.integers(0, 256, (3, 16, 12)).astype(np.uint8),
            "case": {"row": 1, "class": 2},
            "mean": 100.0,
            "sd": 50.0,
            "layer": "late",
        }
    },
    "single_class_dice_coefficient": {
        "return float(single_class_dice_coefficient(np.float32(truth), np.float32(found)))": {
            "truth": EXPERT > 0,
            "found": FOUND > 0,
        }
    },
    "soft_dice_loss": {
        "return ops.cast(soft_dice_loss(y_true, y_pred, axis=(0, 1, 2, 3)), cross_entropy.dtype) + cross_entropy": {
            "y_true": keras.ops.convert_to_tensor(ONE_HOT[0]),
            "y_pred": keras.ops.convert_to_tensor(ONE_HOT[1] * 0.8 + 0.1),
            "cross_entropy": keras.ops.convert_to_tensor(np.float32(0.5)),
        }
    },
}


def lesson_lines() -> set[str]:
    return {line.strip() for path in lesson_paths() for cell in read_cells(path).cells for line in cell.source.split("\n")}


@pytest.mark.parametrize("exercise", CALLS)
def test_every_accepted_answer_runs_in_the_lessons_calls(exercise):
    known = lesson_lines()
    for line in CALLS[exercise]:
        assert line in known, f"the lessons do not call it like this any more: {line}"
    for name, answer in RIGHT[exercise].items():
        space: dict[str, Any] = {"np": np, "keras": keras, "ops": keras.ops, exercise: answer}
        for line, needed in CALLS[exercise].items():
            space |= needed
            exec(line.replace("return ", "value = ", 1), space)
        assert all(np.isfinite(np.asarray(space[k])).all() for k in ("freq_pos", "dice", "value") if k in space), name


def toy_loss(get_weighted_loss: Callable) -> float:
    """The toy cell of lesson 01: four X-rays, one class."""
    y = np.array([[1.0], [0.0], [0.0], [0.0]], dtype="float32")
    loss = get_weighted_loss(np.ones(1), np.ones(1))
    return float(loss(keras.ops.convert_to_tensor(y), keras.ops.convert_to_tensor(np.full((4, 1), 0.9, "float32"))))


def test_every_accepted_loss_runs_in_the_toy_cell():
    known = "\n".join(lesson_lines())
    assert 'dtype="float32")' in known and 'np.full((4, 1), p, "float32")' in known
    values = {name: toy_loss(answer) for name, answer in RIGHT["get_weighted_loss"].items()}
    assert np.allclose(list(values.values()), next(iter(values.values())), atol=1e-5), values


def test_every_accepted_step_builds_the_small_network():
    source = next(cell.source for path in lesson_paths() for cell in read_cells(path).cells if "def small_unet" in cell.source)
    functions = source[: source.index("for skips in")]
    image = RNG.normal(size=(1, 16, 16, 16, 4)).astype(np.float32)
    for name, answer in RIGHT["up_step"].items():
        space: dict[str, Any] = {"np": np, "keras": keras, "brain_network": brain_network, "up_step": answer}
        exec(functions, space)
        networks = [space["small_unet"](16, skips, (2, 3, 4)) for skips in (True, False)]
        assert networks[0].count_params() == networks[1].count_params(), name
        for network in networks:
            found = np.asarray(network(image))
            assert found.shape == (1, 16, 16, 16, 3) and np.isfinite(found).all(), name
