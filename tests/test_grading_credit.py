"""Marks are earned, and a slip costs once: trivial answers get nothing, dependants of a wrong function are judged with a right one."""

import json
import sys

import numpy as np
import pytest
from answers import collect, reference
from answers.trivial import trivial
from test_grading_checks import Local, yardstick

from grading import checks
from grading.course import assignment
from grading.grade import Grader, Settings
from public_tests import EXERCISES

SEED = 4711
RIGHT_BY_CHANCE = {("get_prevalence", "mean")}  # that is what is asked for


@pytest.mark.parametrize("exercise", EXERCISES)
def test_trivial_answers_get_nothing(exercise):
    measure = yardstick(exercise)
    for name, make in trivial(exercise).items():
        if (exercise, name) in RIGHT_BY_CHANCE:
            continue
        run = checks.run_check(exercise, Local(make()), SEED)
        share = measure.share(run)
        assert not run.right and checks.credit(share, run.right) == 0, (name, share, run.wrong_about)


@pytest.mark.parametrize("exercise", ["get_accuracy", "check_for_leakage", "positives_needed", "get_regions", "standardize"])
@pytest.mark.parametrize("after", [1, 5, 8])
def test_to_stop_with_not_implemented_in_later_cases_earns_nothing(exercise, after):
    calls = []

    def stops(*args, **options):
        calls.append(1)
        if len(calls) > after:
            raise NotImplementedError
        return getattr(reference, exercise)(*args, **options)

    run = checks.run_check(exercise, Local(stops), SEED)
    assert not run.right and checks.credit(yardstick(exercise).share(run), run.right) <= 0.5


def test_who_counts_the_calls_learns_nothing():
    answers: list[bool] = []

    def listens(df1, df2, patient_col):
        answers.append(reference.check_for_leakage(df1, df2, patient_col))
        return answers[-1]

    checks.run_check("check_for_leakage", Local(listens), SEED)
    replay = iter(answers)
    run = checks.run_check("check_for_leakage", Local(lambda *args: next(replay)), SEED + 1)
    assert checks.credit(yardstick("check_for_leakage").share(run), run.right) == 0
    assert 0.2 < np.mean(answers) < 0.8 and answers != sorted(answers)


ONE_SLIP = """import numpy as np
def true_positives(y, pred, th=0.5):
    return np.sum((pred >= th) & (y == 1))
def true_negatives(y, pred, th=0.5):
    return np.sum((pred < th) & (y == 0))
def false_positives(y, pred, th=0.5):
    return np.sum((pred < th) & (y == 1))
def false_negatives(y, pred, th=0.5):
    return np.sum((pred >= th) & (y == 0))
def get_sensitivity(y, pred, th=0.5):
    tp, fn = true_positives(y, pred, th), false_negatives(y, pred, th)
    return tp / (tp + fn) if tp + fn else np.nan
def get_specificity(y, pred, th=0.5):
    tn, fp = true_negatives(y, pred, th), false_positives(y, pred, th)
    return tn / (tn + fp) if tn + fp else np.nan
def get_ppv(y, pred, th=0.5):
    tp, fp = true_positives(y, pred, th), false_positives(y, pred, th)
    return tp / (tp + fp) if tp + fp else np.nan
def get_npv(y, pred, th=0.5):
    tn, fn = true_negatives(y, pred, th), false_negatives(y, pred, th)
    return fn / (tn + fn) if tn + fn else np.nan
def expected_calibration_error(y, pred, n_bins=10):
    if len(y) == 0:
        return np.nan
    bins = np.ceil(pred * n_bins).astype(int) - 1
    return sum(np.mean(bins == b) * abs(y[bins == b].mean() - pred[bins == b].mean()) for b in range(n_bins) if (bins == b).any())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
def test_one_slip_costs_once():
    grader = Grader(Settings(2, SEED, "auto"))
    try:
        result = grader.grade(json.dumps({"cells": [{"cell_type": "code", "source": ONE_SLIP}]}).encode())["exercises"]
    finally:
        grader.close()
    outcomes = {name: one["outcome"] for name, one in result.items() if one["outcome"] != "not found"}
    rights = {"true_positives", "true_negatives", "get_sensitivity", "get_specificity", "get_ppv"}
    assert {name for name, outcome in outcomes.items() if outcome == "right"} == rights
    assert "Judged with a right false_positives" in result["get_ppv"]["message"]
    assert result["get_npv"]["points"] < result["get_npv"]["max"], "its own slip still costs"
    ece = result["expected_calibration_error"]
    assert 0.3 * ece["max"] <= ece["points"] <= 0.7 * ece["max"], "p = 0 is left out: more than a tenth, less than all"
    assert set(outcomes) <= set(assignment(2).exercises)


def test_grad_cam_without_a_guard_against_nothing_loses_that_case_only():
    """0/0 where nothing speaks for the class: three quarters of the points are kept at least, and not all."""

    def unguarded(model, image, class_index, layer_name):
        heat = reference.grad_cam(model, image, class_index, layer_name)
        return heat if heat.max() > 0 else np.full_like(heat, np.nan)

    for answer in (unguarded, collect()[1]["grad_cam"]["cam_divides_by_zero"]):
        run = checks.run_check("grad_cam", Local(answer), SEED)
        assert run.wrong_about == ["nothing speaks for the class"]
        assert 0.75 <= checks.credit(yardstick("grad_cam").share(run), run.right) <= 0.9
