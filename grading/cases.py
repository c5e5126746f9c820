"""More hidden cases for the exercises whose public check has few random ones: drawn anew from the instructor's seed.

Each entry of EXTRA draws inputs and compares with the independent formulas that `public_tests` itself uses.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

MORE = 12  # cases of each exercise


def _metric(name: str) -> Callable:
    def cases(check_class: type, checks: ModuleType, target: Callable, rng: np.random.Generator) -> None:
        check, formula = check_class(name, target, ["y", "pred"]), checks._METRICS[name][1]
        for number in range(MORE):
            n = int(rng.integers(5, 120))
            y = (rng.random(n) < rng.uniform(0.15, 0.7)).astype(int)
            pred = np.clip(rng.normal(0.35 + 0.3 * y, 0.25), 0, 1)
            options = {} if number % 3 == 0 else {"th": round(rng.uniform(0.15, 0.85), 2)}
            if number % 4 == 1:  # several exactly at the threshold
                pred[rng.integers(0, n, 3)] = options.get("th", 0.5)
            if number == 10:
                y[:] = rng.integers(0, 2)
            if number == 11:
                pred = pred * 0.1 + 0.9 * rng.integers(0, 2)
            check.number((y, pred), formula(*checks._counts(y, pred >= options.get("th", 0.5))), "", {}, **options)

    return cases


def _prevalence(check_class: type, checks: ModuleType, target: Callable, rng: np.random.Generator) -> None:
    check = check_class("get_prevalence", target, ["y"])
    for _ in range(MORE):
        y = (rng.random(int(rng.integers(3, 90))) < rng.uniform(0.1, 0.9)).astype(int)
        check.number((y,), np.count_nonzero(y) / len(y), "", {})


def _calibration(check_class: type, checks: ModuleType, target: Callable, rng: np.random.Generator) -> None:
    check = check_class("expected_calibration_error", target, ["y", "pred"], tolerance=1e-5)
    for number in range(MORE):
        n, n_bins = int(rng.integers(20, 400)), 10 if number % 3 == 0 else int(rng.integers(1, 24))
        y = (rng.random(n) < rng.uniform(0.2, 0.6)).astype(int)
        pred = rng.beta(1 + y, 2 - y * 0.8)
        pred[np.abs(pred * n_bins - np.round(pred * n_bins)) < 1e-3] = 0.37 / n_bins  # none near an edge between bins
        if number % 4 == 1:
            pred[:2] = [0.0, 1.0]
        options = {} if n_bins == 10 else {"n_bins": n_bins}
        check.number((y, pred), checks._calibration_error(y, pred, n_bins), "", {}, **options)


def _leakage(check_class: type, checks: ModuleType, target: Callable, rng: np.random.Generator) -> None:
    check = check_class("check_for_leakage", target, ["df1", "df2", "patient_col"])
    for number in range(2 * MORE):
        column = str(rng.choice(["PatientId", "case", "Subject ID"]))
        every = rng.permutation(500)[:20] + 1
        left, right = rng.choice(every[:10], 8), rng.choice(every[10:], 7)
        if number % 2:
            right[rng.integers(7)] = left[rng.integers(8)]
        tables = [
            pd.DataFrame(
                {"Image": [f"{i}.png" for i in range(len(ids))], column: ids.astype(str) if number % 3 == 0 else ids},
                index=rng.permutation(40)[: len(ids)],
            )
            for ids in (left, right)
        ]
        try:
            answer = check.array(check.call(*tables, column), None, "True or False")
        except AssertionError:
            check.missed()
            continue
        check.require(answer.shape == () and answer.dtype == bool and bool(answer) == bool(number % 2), "", "", "")


def _frequencies(check_class: type, checks: ModuleType, target: Callable, rng: np.random.Generator) -> None:
    check = check_class("compute_class_freqs", target, ["labels"])
    for _ in range(MORE):
        labels = (rng.random(rng.integers(2, 40, 2)) < rng.uniform(0.1, 0.6)).astype(rng.choice(["int64", "float32", "float64"]))
        positive = labels.astype(float).mean(axis=0)
        try:
            parts = check.pair(check.call(labels), "positive_frequencies", "negative_frequencies")
            got = tuple(check.array(part, None, "one frequency for each class") for part in parts)
        except AssertionError:
            check.missed()
            continue
        check.match(got, (positive, 1 - positive), "")


def _regions(check_class: type, checks: ModuleType, target: Callable, rng: np.random.Generator) -> None:
    check = check_class("get_regions", target, ["label"])
    for _ in range(MORE):
        label = rng.integers(0, 4, rng.integers(1, 6, rng.integers(1, 5))).astype(rng.choice(["uint8", "int16", "int64"]))
        try:
            got = check.array(check.call(label), (*label.shape, 3))
        except AssertionError:
            check.missed()
            continue
        expected = np.stack([label > 0, label > 1, label > 2], axis=-1)
        check.require(got.dtype == bool and np.array_equal(got, expected), "", "", "")


EXTRA: dict[str, Callable[..., Any]] = {
    **{
        name: _metric(name)
        for name in (
            "true_positives",
            "true_negatives",
            "false_positives",
            "false_negatives",
            "get_accuracy",
            "get_sensitivity",
            "get_specificity",
            "get_ppv",
            "get_npv",
        )
    },
    "get_prevalence": _prevalence,
    "expected_calibration_error": _calibration,
    "check_for_leakage": _leakage,
    "compute_class_freqs": _frequencies,
    "get_regions": _regions,
}
