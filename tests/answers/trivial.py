"""Answers that understand nothing of the exercise: no mark may be earned by one of them.

`trivial(exercise)` gives them as {name: function maker}; each call of a maker gives a fresh function (some count their calls).
"""

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd

CONSTANTS = [0, 1, 2, 10, 100, 0.0, 0.5, -1.0, np.nan, np.inf, True, False, None, "", (0, 0), (0.5, 0.5), (np.nan, np.nan), (1, 1)]


def _counter(values: list) -> Callable:
    """Makes functions that answer by turns."""

    def make() -> Callable:
        turns = itertools.cycle(values)
        return lambda *args, **options: next(turns)

    return make


def _plain(function: Callable) -> Callable:
    return lambda: function


def _image(*args):
    """The first argument that is an array, or the second where the first is none (a model)."""
    return next(np.asarray(value) for value in args if isinstance(value, (np.ndarray, pd.DataFrame)) or hasattr(value, "numpy"))


def _scaled(heat):
    return heat / heat.max() if heat.max() > 0 else heat


ANY = {
    "first_argument": lambda *args, **options: args[0],
    "last_argument": lambda *args, **options: args[-1],
    "zeros": lambda *args, **options: np.zeros_like(_image(*args)),
    "ones": lambda *args, **options: np.ones_like(_image(*args)),
    "halves": lambda *args, **options: np.full(_image(*args).shape, 0.5),
    "arange": lambda *args, **options: np.arange(len(_image(*args))),
    "mean": lambda *args, **options: float(np.mean(_image(*args))),
    "sum": lambda *args, **options: float(np.sum(_image(*args))),
    "length": lambda *args, **options: len(_image(*args)),
    "any": lambda *args, **options: bool(np.any(_image(*args))),
    "copy": lambda *args, **options: _image(*args).copy(),
    "as_floats": lambda *args, **options: _image(*args).astype(float),
}
COUNTED = {
    "sick": lambda y, pred, th=0.5: int(np.sum(y == 1)),
    "healthy": lambda y, pred, th=0.5: int(np.sum(y == 0)),
    "called": lambda y, pred, th=0.5: int(np.sum(pred >= th)),
    "not_called": lambda y, pred, th=0.5: int(np.sum(pred < th)),
    "prevalence": lambda y, pred, th=0.5: float(np.mean(y)),
    "share_of_the_healthy": lambda y, pred, th=0.5: float(np.mean(y == 0)),
    "share_called": lambda y, pred, th=0.5: float(np.mean(pred >= th)),
    "one_or_nan": lambda y, pred, th=0.5: 1.0 if len(set(y.tolist())) > 1 else np.nan,
}
OVERLAPS = {
    "agreement": lambda t, p, **options: 1 - float(np.mean(np.abs(np.asarray(t) - np.asarray(p)))),
    "disagreement": lambda t, p, **options: float(np.mean(np.abs(np.asarray(t) - np.asarray(p)))),
    "overlap": lambda t, p, **options: float(np.sum(np.asarray(t) * np.asarray(p))),
    "mean_square": lambda t, p, **options: float(np.mean((np.asarray(t) - np.asarray(p)) ** 2)),
}
OF = {
    "check_for_leakage": {
        "first_patients": lambda df1, df2, c: bool(len(df1) and len(df2) and df1[c].iloc[0] == df2[c].iloc[0]),
        "longer": lambda df1, df2, c: len(df1) > len(df2),
    },
    "repair_leakage": {
        "nothing_removed": lambda train, valid, c: train.copy(),
        "empty": lambda train, valid, c: train.iloc[:0],
        "valid": lambda train, valid, c: valid.copy(),
        "first_half": lambda train, valid, c: train.iloc[: len(train) // 2],
    },
    "compute_class_freqs": {
        "half_and_half": lambda labels: (np.full(labels.shape[1], 0.5), np.full(labels.shape[1], 0.5)),
        "zeros_and_ones": lambda labels: (np.zeros(labels.shape[1]), np.ones(labels.shape[1])),
    },
    "get_weighted_loss": {
        "zero": lambda pos, neg, epsilon=1e-7: lambda y, p: 0.0 * p[0, 0],
        "mean_prediction": lambda pos, neg, epsilon=1e-7: lambda y, p: p[0, 0],
        "constant": lambda pos, neg, epsilon=1e-7: lambda y, p: 0.5,
        "prediction": lambda pos, neg, epsilon=1e-7: lambda y, p: p,
        "truth": lambda pos, neg, epsilon=1e-7: lambda y, p: y,
        "mean_of_all_predictions": lambda pos, neg, epsilon=1e-7: lambda y, p: float(np.mean(np.asarray(p))),
        "mean_error": lambda pos, neg, epsilon=1e-7: lambda y, p: float(np.mean(np.abs(np.asarray(y) - np.asarray(p)))),
    },
    "grad_cam": {
        "zero_map": lambda model, image, *rest: np.zeros(image.shape[:2]),
        "one_map": lambda model, image, *rest: np.ones(image.shape[:2]),
        "absolute_image": lambda model, image, *rest: _scaled(np.abs(image).mean(-1)),
        "bright_image": lambda model, image, *rest: _scaled(np.maximum(image, 0).mean(-1)),
        "dark_image": lambda model, image, *rest: _scaled(np.maximum(-image, 0).mean(-1)),
        "centre": lambda model, image, *rest: np.outer(np.hanning(image.shape[0]), np.hanning(image.shape[1])),
    },
    "bootstrap_patients": {
        "rows": lambda ids, rng: rng.integers(0, len(ids), len(ids)),
        "each_patient_once": lambda ids, rng: rng.permutation(len(ids)),
        "one_patient": lambda ids, rng: np.tile(np.flatnonzero(ids == rng.choice(np.unique(ids))), len(np.unique(ids))),
        "first_patient": lambda ids, rng: np.tile(np.flatnonzero(ids == ids[0]), len(np.unique(ids))),
        "random_half": lambda ids, rng: np.flatnonzero(rng.random(len(ids)) < 0.5),
    },
    **dict.fromkeys(("true_positives", "true_negatives", "false_positives", "false_negatives"), COUNTED),
    **dict.fromkeys(("get_sensitivity", "get_specificity", "get_ppv", "get_npv"), COUNTED),
    "get_accuracy": {"compares": lambda y, pred, th=0.5: float(np.mean(y == pred))},
    "up_step": {
        "zeros_of_its_shape": lambda x, skip, filters: np.zeros((*skip.shape[:-1], filters)),
        "one_number_of_both": lambda x, skip, filters: np.full(
            (*skip.shape[:-1], filters), np.tanh(np.mean(np.asarray(x)) + np.mean(np.asarray(skip)))
        ),
    },
    **dict.fromkeys(("single_class_dice_coefficient", "dice_coefficient", "soft_dice_loss"), OVERLAPS),
    "expected_calibration_error": {
        "brier": lambda y, pred, n_bins=10: float(np.mean((y - pred) ** 2)),
        "overall": lambda y, pred, n_bins=10: abs(float(np.mean(y)) - float(np.mean(pred))),
    },
    "net_benefit": {"prevalence": lambda y, pred, th: float(np.mean(y))},
    "positives_needed": {"inverse": lambda s, h, confidence=0.95: int(1 / h**2)},
    "get_sub_volume": {
        "none": lambda *args, **options: None,
        "corner": lambda image, label, output_x=160, output_y=160, output_z=16, num_classes=4, **options: (
            image[:output_x, :output_y, :output_z],
            (label[:output_x, :output_y, :output_z, None] == np.arange(1, num_classes)).astype(float),
        ),
    },
    "standardize": {
        "zero": lambda image: np.zeros(image.shape),
        "mask": lambda image: (image != 0).astype(float),
        "whole_image": lambda image: (image - image.mean()) / max(float(image.std()), 1e-9),
        "largest_to_one": lambda image: image / max(float(np.abs(image).max()), 1e-9),
    },
    "compute_class_sens_spec": {
        "agreement": lambda pred, label, k: (float(np.mean(pred == label)), float(np.mean(pred == label))),
        "perfect": lambda pred, label, k: (1.0, 1.0),
    },
    "lesion_recall": {
        "one_or_nan": lambda pred, label: 1.0 if np.any(label) else np.nan,
        "half_or_nan": lambda pred, label: 0.5 if np.any(label) else np.nan,
        "found_anything": lambda pred, label: float(np.any(np.asarray(pred) * np.asarray(label))),
    },
    "get_regions": {
        "nothing": lambda label: np.zeros((*label.shape, 3), bool),
        "everywhere": lambda label: np.ones((*label.shape, 3), bool),
        "tumour": lambda label: np.stack([label > 0] * 3, -1),
    },
}


def trivial(exercise: str) -> dict[str, Callable[[], Callable]]:
    """The trivial answers to an exercise: name → maker of a function."""
    found = {f"constant {value!r}": _plain(lambda *args, value=value, **options: value) for value in CONSTANTS}
    found |= {
        f"turns of {values}": _counter(values)
        for values in ([True, False], [False, True], [True, True, False, False], [0, 1], [0.0, 0.5, 1.0])
    }
    return found | {name: _plain(function) for name, function in {**ANY, **OF.get(exercise, {})}.items()}
