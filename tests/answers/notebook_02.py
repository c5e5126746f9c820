"""Answers to the exercises of notebook 02, right and wrong."""

import itertools
import math
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pandas as pd
import tensorflow as tf
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from . import reference, right, wrong

# ---- the four counts and what is made of them -----------------------------------------------------------------------

FORMULAS = {
    "true_positives": lambda tp, tn, fp, fn: tp,
    "true_negatives": lambda tp, tn, fp, fn: tn,
    "false_positives": lambda tp, tn, fp, fn: fp,
    "false_negatives": lambda tp, tn, fp, fn: fn,
    "get_accuracy": lambda tp, tn, fp, fn: (tp + tn) / (tp + tn + fp + fn),
    "get_sensitivity": lambda tp, tn, fp, fn: tp / (tp + fn),
    "get_specificity": lambda tp, tn, fp, fn: tn / (tn + fp),
    "get_ppv": lambda tp, tn, fp, fn: tp / (tp + fp),
    "get_npv": lambda tp, tn, fp, fn: tn / (tn + fn),
}
OPPOSITE = {  # what is easily taken for it
    "true_positives": "false_positives",
    "true_negatives": "false_negatives",
    "false_positives": "false_negatives",
    "false_negatives": "false_positives",
    "get_accuracy": "get_sensitivity",
    "get_sensitivity": "get_ppv",
    "get_specificity": "get_npv",
    "get_ppv": "get_sensitivity",
    "get_npv": "get_specificity",
}
COUNTS = [name for name in FORMULAS if not name.startswith("get_")]
RATES = [name for name in FORMULAS if name.startswith("get_")]


def _counts(y, said, number=np.int64):
    """TP, TN, FP, FN as NumPy integers: 0/0 of them is nan, with a warning."""
    y = np.asarray(y) == 1
    return tuple(number(np.sum(part)) for part in (y & said, ~y & ~said, ~y & said, y & ~said))


def _by_loop(formula, undefined=math.nan):
    def answer(y, pred, th=0.5):
        tp = tn = fp = fn = 0
        for truth, score in zip(y, pred):
            if score >= th:
                tp, fp = (tp + 1, fp) if truth == 1 else (tp, fp + 1)
            else:
                fn, tn = (fn + 1, tn) if truth == 1 else (fn, tn + 1)
        try:
            return formula(tp, tn, fp, fn)
        except ZeroDivisionError:
            return undefined

    return answer


def _by_loop_with(formula, positive):
    """Case by case with another comparison; nan where it is asked for."""

    def answer(y, pred, th=0.5):
        said = np.array([positive(score, th) for score in pred], bool)
        return formula(*_counts(y, said))

    return answer


def _by_numpy(formula, positive=lambda pred, th: pred >= th, number=np.int64):
    def answer(y, pred, th=0.5):
        return formula(*_counts(y, positive(pred, th), number))

    return answer


def _by_confusion_matrix(formula):
    def answer(y, pred, th=0.5):
        tn, fp, fn, tp = confusion_matrix(y, pred >= th, labels=[0, 1]).ravel()
        return formula(tp, tn, fp, fn)

    return answer


def _by_pandas(formula):
    def answer(y, pred, th=0.5):
        table = pd.DataFrame({"y": y == 1, "said": pred >= th}).value_counts()
        return formula(*(np.float64(table.get(key, 0)) for key in ((True, True), (False, False), (False, True), (True, False))))

    return answer


def _by_tensorflow(formula):
    def answer(y, pred, th=0.5):
        y, said = tf.constant(y == 1), tf.constant(pred >= th)
        parts = (y & said, ~y & ~said, ~y & said, y & ~said)
        return formula(*(tf.reduce_sum(tf.cast(part, tf.float32)) for part in parts))

    return answer


def _by_fractions(formula):
    def answer(y, pred, th=0.5):
        counts = (Fraction(int(part)) for part in _counts(y, pred >= th))
        try:
            return formula(*counts)
        except ZeroDivisionError:
            return float("nan")

    return answer


for name, formula in FORMULAS.items():
    opposite = FORMULAS[OPPOSITE[name]]
    right(name, "python_loop")(_by_loop(formula))
    right(name, "confusion_matrix")(_by_confusion_matrix(formula))
    right(name, "pandas")(_by_pandas(formula))
    right(name, "tensorflow_scalar")(_by_tensorflow(formula))
    right(name, "fraction")(_by_fractions(formula))
    right(name, "zero_dimensional_array")(lambda y, pred, th=0.5, f=formula: np.array(f(*_counts(y, pred >= th))))
    right(name, "bits_of_integers")(
        lambda y, pred, th=0.5, f=formula: f(
            *(np.sum(a & b) for s in [(pred >= th).astype(int)] for a, b in [(y, s), (1 - y, 1 - s), (1 - y, s), (y, 1 - s)])
        )
    )
    right(name, "float32")(lambda y, pred, th=0.5, f=formula: np.float32(f(*_counts(y, pred >= th))))

    wrong(name, "greater_than")(_by_numpy(formula, lambda pred, th: pred > th))
    wrong(name, "threshold_ignored")(_by_numpy(formula, lambda pred, th: pred >= 0.5))
    wrong(name, "threshold_ignored_and_greater")(_by_numpy(formula, lambda pred, th: pred > 0.5))
    wrong(name, "almost_at_the_threshold")(_by_numpy(formula, lambda pred, th: pred >= th - 1e-3))
    wrong(name, "rounds")(_by_numpy(formula, lambda pred, th: np.round(pred) == 1))
    wrong(name, "below_the_threshold")(_by_numpy(formula, lambda pred, th: pred < th))
    wrong(name, "below_or_at_the_threshold")(_by_numpy(formula, lambda pred, th: pred <= th))
    # (of the accuracy this is a right answer: it does not change when the classes are swapped)
    (right if name == "get_accuracy" else wrong)(name, "swapped_classes")(
        lambda y, pred, th=0.5, f=formula: f(*_counts(1 - y, pred < th))
    )
    wrong(name, "opposite")(_by_numpy(opposite))
    wrong(name, "constant")(lambda y, pred, th=0.5: 0.5)
    wrong(name, "zero")(lambda y, pred, th=0.5: 0)
    wrong(name, "nothing_returned")(lambda y, pred, th=0.5: None)
    wrong(name, "prints")(lambda y, pred, th=0.5, f=formula: print(f(*_counts(y, pred >= th)), end=""))
    wrong(name, "text")(lambda y, pred, th=0.5, f=formula: str(f(*_counts(y, pred >= th))))
    wrong(name, "one_element_array")(lambda y, pred, th=0.5, f=formula: np.array([f(*_counts(y, pred >= th))]))
    wrong(name, "default_threshold_0")(lambda y, pred, th=0.0, f=formula: f(*_counts(y, pred >= th)))
    wrong(name, "first_half_only")(lambda y, pred, th=0.5, f=formula: f(*_counts(y[:50], pred[:50] >= th)))
    wrong(name, "argument_renamed")(lambda y, pred, threshold=0.5, f=formula: f(*_counts(y, pred >= threshold)))
    wrong(name, "threshold_is_a_quantile")(_by_numpy(formula, lambda pred, th: pred >= np.quantile(pred, th)))

    def overwrites_pred(y, pred, th=0.5, f=formula):
        pred[pred >= th] = 1
        pred[pred < th] = 0
        return f(*_counts(y, pred == 1))

    def overwrites_y(y, pred, th=0.5, f=formula):
        result = f(*_counts(y, pred >= th))
        y *= pred >= th
        return result

    wrong(name, "overwrites_pred")(overwrites_pred)
    wrong(name, "overwrites_y")(overwrites_y)

# One slip at a time in each of the nine functions: another metric, another comparison, another default threshold.
TITLES = {
    "true_positives": "the number of true positives",
    "true_negatives": "the number of true negatives",
    "false_positives": "the number of false positives",
    "false_negatives": "the number of false negatives",
    "get_accuracy": "the accuracy",
    "get_sensitivity": "the sensitivity",
    "get_specificity": "the specificity",
    "get_ppv": "the PPV",
    "get_npv": "the NPV",
    "false_positive_rate": "the false positive rate",
    "false_negative_rate": "the false negative rate",
    "false_discovery_rate": "the false discovery rate",
    "share_of_wrong_answers": "the share of wrong answers",
}
OTHERS = FORMULAS | {
    "false_positive_rate": lambda tp, tn, fp, fn: fp / (fp + tn),
    "false_negative_rate": lambda tp, tn, fp, fn: fn / (fn + tp),
    "false_discovery_rate": lambda tp, tn, fp, fn: fp / (fp + tp),
    "share_of_wrong_answers": lambda tp, tn, fp, fn: (fp + fn) / (tp + tn + fp + fn),
}
COMPARISONS = {
    "": (lambda pred, th: pred >= th, ""),
    "_and_greater": (lambda pred, th: pred > th, ".*`>` is in place"),
    "_and_fixed": (lambda pred, th: pred >= 0.5, ".*fixed at 0.5"),
}
for name, formula in FORMULAS.items():
    for other, theirs in OTHERS.items():
        if other != name:
            for how, (positive, said) in COMPARISONS.items():
                wrong(name, f"takes_{other}{how}", slip=f"this is {TITLES[other]}{said}")(_by_numpy(theirs, positive))
    for default in (0.0, 0.4, 0.45, 0.6, 1.0):
        wrong(name, f"default_{default}", slip=rf"default threshold is {default:g} here")(
            lambda y, pred, th=default, f=formula: f(*_counts(y, pred >= th))
        )
    wrong(name, "just_greater", slip="`>` in place")(_by_loop_with(formula, lambda score, th: score > th))
    wrong(name, "just_fixed", slip="fixed at 0.5 here")(_by_loop_with(formula, lambda score, th: score >= 0.5))
    wrong(name, "just_fixed_and_greater", slip="fixed at 0.5, and `>`")(_by_loop_with(formula, lambda score, th: score > 0.5))
    wrong(name, "just_smaller", slip="`pred < th`|`>`|this is")(_by_loop_with(formula, lambda score, th: score < th))
    right(name, "logical_functions")(
        lambda y, pred, th=0.5, f=formula: f(
            *(
                np.float64(np.logical_and(truth, said).sum())
                for truth, said in [(y == 1, pred >= th), (y != 1, pred < th), (y != 1, pred >= th), (y == 1, pred < th)]
            )
        )
    )
    right(name, "bincount")(
        lambda y, pred, th=0.5, f=formula: f(
            *np.bincount(2 * np.asarray(y).astype(int) + (np.asarray(pred) >= th), minlength=4)[[3, 0, 1, 2]]
        )
    )
    right(name, "sets_of_rows")(
        lambda y, pred, th=0.5, f=formula: (
            lambda sick, called, everybody: f(
                *map(np.float64, (len(sick & called), len(everybody - sick - called), len(called - sick), len(sick - called)))
            )
        )(set(np.flatnonzero(y == 1)), set(np.flatnonzero(pred >= th)), set(range(len(y))))
    )
    right(name, "dot_products")(
        lambda y, pred, th=0.5, f=formula: (lambda t, s: f(*map(np.float64, (t @ s, (1 - t) @ (1 - s), (1 - t) @ s, t @ (1 - s)))))(
            np.asarray(y, float), (pred >= th).astype(float)
        )
    )
    right(name, "comprehensions")(
        lambda y, pred, th=0.5, f=formula: f(
            *(
                np.float64(len([1 for truth, score in zip(y, pred) if (truth == 1) == sick and (score >= th) == called]))
                for sick, called in [(True, True), (False, False), (False, True), (True, False)]
            )
        )
    )
    right(name, "signed_threshold")(lambda y, pred, th=0.5, f=formula: f(*_counts(y, np.sign(np.asarray(pred) - th) >= 0)))
    right(name, "where_of_labels")(
        lambda y, pred, th=0.5, f=formula: f(*_counts(np.where(y > 0.5, 1, 0), np.where(pred >= th, True, False)))
    )

for name in COUNTS:
    formula = FORMULAS[name]
    wrong(name, "share")(lambda y, pred, th=0.5, f=formula: f(*_counts(y, pred >= th)) / len(y))
    wrong(name, "mask")(lambda y, pred, th=0.5: (pred >= th) & (y == 1))
    wrong(name, "positions")(lambda y, pred, th=0.5: np.flatnonzero((pred >= th) & (y == 1)))
    wrong(name, "all_called")(lambda y, pred, th=0.5, f=formula: np.sum(pred >= th))
    wrong(name, "all_agreeing")(lambda y, pred, th=0.5: np.sum((pred >= th) == y))
    wrong(name, "matrix_without_labels")(  # fails as soon as one class is missing
        lambda y, pred, th=0.5, f=formula: f(*np.take(confusion_matrix(y, pred >= th).ravel(), [3, 0, 1, 2]))
    )

right("true_positives", "float_product")(lambda y, pred, th=0.5: float(np.dot(y, pred >= th)))
right("true_positives", "list_comprehension")(lambda y, pred, th=0.5: len([1 for a, b in zip(y, pred) if a and b >= th]))
right("true_negatives", "rest")(lambda y, pred, th=0.5: len(y) - np.count_nonzero((y == 1) | (pred >= th)))
right("false_positives", "difference")(lambda y, pred, th=0.5: np.sum(pred >= th) - np.sum(pred[y == 1] >= th))
right("false_negatives", "complement")(lambda y, pred, th=0.5: np.sum(y) - np.sum(y * (pred >= th)))
wrong("true_positives", "and_of_python")(lambda y, pred, th=0.5: sum(1 for a, b in zip(y, pred) if a == 1 and b > 0.5))
wrong("true_positives", "precedence")(lambda y, pred, th=0.5: np.sum(pred >= th & (y == 1).astype(int).sum()))

for name in RATES:
    formula = FORMULAS[name]
    wrong(name, "percentage")(lambda y, pred, th=0.5, f=formula: 100 * f(*_counts(y, pred >= th)))
    wrong(name, "rounded_to_2_digits")(lambda y, pred, th=0.5, f=formula: np.round(f(*_counts(y, pred >= th)), 2))
    wrong(name, "complement")(lambda y, pred, th=0.5, f=formula: 1 - f(*_counts(y, pred >= th)))
    wrong(name, "small_constant")(  # never nan
        lambda y, pred, th=0.5, f=formula: f(*(part + 1e-7 for part in _counts(y, pred >= th)))
    )
    wrong(name, "auc")(lambda y, pred, th=0.5: roc_auc_score(y, pred))
    wrong(name, "f1")(lambda y, pred, th=0.5: f1_score(y, pred >= th))
    wrong(name, "balanced_accuracy")(lambda y, pred, th=0.5: balanced_accuracy_score(y, pred >= th))
    if name != "get_accuracy":
        wrong(name, "zero_when_undefined")(_by_loop(formula, 0.0))
        wrong(name, "one_when_undefined")(_by_loop(formula, 1.0))
        wrong(name, "none_when_undefined")(_by_loop(formula, None))
        wrong(name, "zero_division_error")(_by_numpy(formula, number=int))
        wrong(name, "nan_when_the_rate_is_zero")(lambda y, pred, th=0.5, f=formula: f(*_counts(y, pred >= th)) or float("nan"))
        wrong(name, "text_when_undefined")(_by_loop(formula, "undefined"))
    for other in RATES:
        if other not in (name, OPPOSITE[name]):
            wrong(name, f"is_{other}")(_by_numpy(FORMULAS[other]))

right("get_accuracy", "sklearn")(lambda y, pred, th=0.5: accuracy_score(y, pred >= th))
right("get_accuracy", "mean_of_agreement")(lambda y, pred, th=0.5: np.mean((pred >= th) == (y == 1)))
right("get_accuracy", "distance")(lambda y, pred, th=0.5: 1 - np.abs(y - (pred >= th)).mean())
right("get_accuracy", "by_prevalence")(  # sensitivity · prevalence + specificity · (1 − prevalence)
    lambda y, pred, th=0.5: np.nansum([np.mean((pred >= th) & (y == 1)), np.mean((pred < th) & (y == 0))]) if len(y) else np.nan
)
right("get_sensitivity", "sklearn")(lambda y, pred, th=0.5: recall_score(y, pred >= th, zero_division=np.nan))
right("get_sensitivity", "mean_of_the_sick")(lambda y, pred, th=0.5: np.mean(pred[y == 1] >= th))
right("get_specificity", "sklearn")(lambda y, pred, th=0.5: recall_score(y, pred >= th, pos_label=0, zero_division=np.nan))
right("get_specificity", "mean_of_the_healthy")(lambda y, pred, th=0.5: (pred[y == 0] < th).mean())
right("get_ppv", "sklearn")(lambda y, pred, th=0.5: precision_score(y, pred >= th, zero_division=np.nan))
right("get_ppv", "mean_of_the_called")(lambda y, pred, th=0.5: np.mean(y[pred >= th]))
right("get_npv", "sklearn")(lambda y, pred, th=0.5: precision_score(y, pred >= th, pos_label=0, zero_division=np.nan))
right("get_npv", "mean_of_the_not_called")(lambda y, pred, th=0.5: 1 - np.mean(y[pred < th]))
wrong("get_sensitivity", "sklearn_without_nan")(lambda y, pred, th=0.5: recall_score(y, pred >= th))
wrong("get_specificity", "sklearn_without_nan")(lambda y, pred, th=0.5: recall_score(y, pred >= th, pos_label=0))
wrong("get_ppv", "sklearn_without_nan")(lambda y, pred, th=0.5: precision_score(y, pred >= th))
wrong("get_npv", "sklearn_without_nan")(lambda y, pred, th=0.5: precision_score(y, pred >= th, pos_label=0))
wrong("get_accuracy", "calls_helpers_without_threshold")(
    lambda y, pred, th=0.5: (reference.true_positives(y, pred) + reference.true_negatives(y, pred)) / len(y)
)
wrong("get_ppv", "calls_helpers_without_threshold")(
    lambda y, pred, th=0.5: reference.true_positives(y, pred) / np.int64(np.sum(pred >= th))
)
wrong("get_ppv", "from_prevalence_only")(lambda y, pred, th=0.5: np.mean(y))
wrong("get_accuracy", "compares_scores")(lambda y, pred, th=0.5: np.mean(pred == y))
wrong("get_sensitivity", "over_all_patients")(lambda y, pred, th=0.5: np.mean((pred >= th) & (y == 1)))
wrong("get_specificity", "over_all_patients")(lambda y, pred, th=0.5: np.mean((pred < th) & (y == 0)))
wrong("get_npv", "over_all_patients")(lambda y, pred, th=0.5: np.mean((pred < th) & (y == 0)))

# ---- get_prevalence -------------------------------------------------------------------------------------------------

for name, answer in {
    "sum_by_size": lambda y: y.sum() / y.size,
    "python_loop": lambda y: sum(1 for value in y if value == 1) / len(y) if len(y) else math.nan,
    "pandas": lambda y: pd.Series(y).mean(),
    "counter": lambda y: Counter(np.asarray(y).astype(int).tolist())[1] / len(y) if len(y) else math.nan,
    "tensorflow": lambda y: tf.reduce_mean(tf.cast(y, tf.float32)),
    "count_nonzero": lambda y: np.float32(np.count_nonzero(y) / max(len(y), 1)) if len(y) else np.nan,
    "fraction": lambda y: Fraction(int(np.sum(y)), len(y)) if len(y) else math.nan,
    "scipy": lambda y: stats.describe(y).mean,
}.items():
    right("get_prevalence", name)(answer)


def _prevalence_overwrites(y):
    share = np.mean(y)
    y[:] = 1
    return share


def _prevalence_sorts(y):
    y.sort()
    return np.mean(y)


for name, answer in {
    "healthy_share": lambda y: np.mean(y == 0),
    "count": lambda y: np.sum(y),
    "odds": lambda y: np.sum(y) / np.sum(y == 0),
    "percentage": lambda y: 100 * np.mean(y),
    "rounded": lambda y: round(float(np.mean(y)), 2),
    "rounded_3": lambda y: round(float(np.mean(y)), 3),
    "constant": lambda y: 0.3,
    "median": lambda y: np.median(y),
    "integer_division": lambda y: np.sum(y) // len(y),
    "unbiased_habit": lambda y: np.sum(y) / (len(y) - 1),
    "none": lambda y: None,
    "variance": lambda y: np.var(y),
    "any": lambda y: np.any(y),
    "one_element_array": lambda y: np.mean(y, keepdims=True),
    "zero_is_undefined": lambda y: np.mean(y) or np.nan,
    "empty_is_zero": lambda y: np.sum(y) / max(len(y), 1),
    "overwrites": _prevalence_overwrites,
    "sorts": _prevalence_sorts,
}.items():
    wrong("get_prevalence", name)(answer)

# ---- bootstrap_patients ---------------------------------------------------------------------------------------------


@right("bootstrap_patients")
def by_dictionary(patient_ids, rng):
    rows = {}
    for row, patient in enumerate(patient_ids):
        rows.setdefault(patient, []).append(row)
    patients = list(rows)
    return [row for k in rng.integers(len(patients), size=len(patients)) for row in rows[patients[k]]]


@right("bootstrap_patients")
def by_pandas_groups(patient_ids, rng):
    groups = list(pd.Series(range(len(patient_ids))).groupby(np.asarray(patient_ids)))
    drawn = rng.choice(len(groups), len(groups))
    return np.concatenate([groups[k][1].to_numpy() for k in drawn])


@right("bootstrap_patients")
def by_counts_and_repeat(patient_ids, rng):
    patients, whose = np.unique(patient_ids, return_inverse=True)
    times = rng.multinomial(len(patients), np.full(len(patients), 1 / len(patients)))
    return np.repeat(np.arange(len(patient_ids)), times[whose])


@right("bootstrap_patients")
def by_sorting(patient_ids, rng):
    _, whose, films = np.unique(patient_ids, return_inverse=True, return_counts=True)
    order, ends = np.argsort(whose, kind="stable"), np.cumsum(films)
    drawn = rng.integers(0, len(films), len(films))
    return np.concatenate([order[ends[k] - films[k] : ends[k]] for k in drawn]).astype(np.int32)


@right("bootstrap_patients")
def by_uniform_numbers(patient_ids, rng):
    patients = sorted(set(patient_ids.tolist()))
    drawn = [patients[int(rng.random() * len(patients))] for _ in patients]
    return np.array([row for patient in drawn for row in range(len(patient_ids)) if patient_ids[row] == patient])


@right("bootstrap_patients")
def by_pandas_sample(patient_ids, rng):
    return _rows_of(patient_ids, pd.Series(np.unique(patient_ids)).sample(frac=1, replace=True, random_state=rng))


@right("bootstrap_patients")
def as_a_tensor(patient_ids, rng):
    return tf.constant(reference.bootstrap_patients(patient_ids, rng))


@right("bootstrap_patients")
def by_a_child_generator(patient_ids, rng):
    return reference.bootstrap_patients(patient_ids, rng.spawn(1)[0])


@right("bootstrap_patients")
def by_a_child_seed(patient_ids, rng):
    return reference.bootstrap_patients(patient_ids, np.random.default_rng(rng.integers(2**63)))


def _rows_of(patient_ids, drawn):
    return np.concatenate([np.flatnonzero(patient_ids == patient) for patient in drawn])


@wrong("bootstrap_patients")
def rows_drawn(patient_ids, rng):
    return rng.choice(len(patient_ids), len(patient_ids))


@wrong("bootstrap_patients")
def weighted_by_films(patient_ids, rng):
    return _rows_of(patient_ids, rng.choice(patient_ids, len(np.unique(patient_ids))))


@wrong("bootstrap_patients")
def as_many_draws_as_rows(patient_ids, rng):
    return _rows_of(patient_ids, rng.choice(np.unique(patient_ids), len(patient_ids)))


@wrong("bootstrap_patients")
def without_replacement(patient_ids, rng):
    patients = np.unique(patient_ids)
    return _rows_of(patient_ids, rng.choice(patients, len(patients), replace=False))


@wrong("bootstrap_patients")
def rounded_positions(patient_ids, rng):
    patients = np.unique(patient_ids)  # the first and the last come half as often
    return _rows_of(patient_ids, patients[np.round(rng.random(len(patients)) * (len(patients) - 1)).astype(int)])


@wrong("bootstrap_patients")
def rows_resampled_within_patients(patient_ids, rng):
    patients = np.unique(patient_ids)
    rows = [np.flatnonzero(patient_ids == p) for p in rng.choice(patients, len(patients))]
    return np.concatenate([rng.choice(part, len(part)) for part in rows])


@wrong("bootstrap_patients")
def permuted(patient_ids, rng):
    return rng.permutation(len(patient_ids))


@wrong("bootstrap_patients")
def loses_repeats(patient_ids, rng):
    patients = np.unique(patient_ids)
    return np.flatnonzero(np.isin(patient_ids, rng.choice(patients, len(patients))))


@wrong("bootstrap_patients")
def loses_repeats_by_unique(patient_ids, rng):
    patients = np.unique(patient_ids)
    return _rows_of(patient_ids, np.unique(rng.choice(patients, len(patients))))


@wrong("bootstrap_patients")
def boolean_mask(patient_ids, rng):
    patients = np.unique(patient_ids)
    return np.isin(patient_ids, rng.choice(patients, len(patients)))


@wrong("bootstrap_patients")
def patients_not_rows(patient_ids, rng):
    patients = np.unique(patient_ids)
    return rng.choice(patients, len(patients))


@wrong("bootstrap_patients")
def positions_of_patients(patient_ids, rng):
    n = len(np.unique(patient_ids))
    return rng.choice(n, n)


@wrong("bootstrap_patients")
def first_row_only(patient_ids, rng):
    patients, first = np.unique(patient_ids, return_index=True)
    return first[rng.integers(0, len(patients), len(patients))]


@wrong("bootstrap_patients")
def one_random_row_each(patient_ids, rng):
    patients = np.unique(patient_ids)
    return np.array([rng.choice(np.flatnonzero(patient_ids == p)) for p in rng.choice(patients, len(patients))])


@wrong("bootstrap_patients")
def same_patient_again_and_again(patient_ids, rng):
    patients = np.unique(patient_ids)
    return _rows_of(patient_ids, [rng.choice(patients)] * len(patients))


@wrong("bootstrap_patients")
def global_choice(patient_ids, rng):
    patients = np.unique(patient_ids)
    return _rows_of(patient_ids, np.random.choice(patients, len(patients)))


@wrong("bootstrap_patients")
def global_seed(patient_ids, rng):
    np.random.seed(int(rng.integers(2**31)))
    patients = np.unique(patient_ids)
    return _rows_of(patient_ids, np.random.choice(patients, len(patients)))


@wrong("bootstrap_patients")
def own_generator(patient_ids, rng):
    return reference.bootstrap_patients(patient_ids, np.random.default_rng())


@wrong("bootstrap_patients")
def fixed_seed(patient_ids, rng):
    return reference.bootstrap_patients(patient_ids, np.random.default_rng(42))


@wrong("bootstrap_patients")
def python_random(patient_ids, rng):
    patients = list(np.unique(patient_ids))
    return _rows_of(patient_ids, random.choices(patients, k=len(patients)))


@wrong("bootstrap_patients")
def copies_the_generator(patient_ids, rng):
    import copy

    return reference.bootstrap_patients(patient_ids, copy.deepcopy(rng))


@wrong("bootstrap_patients")
def last_patient_missing(patient_ids, rng):
    patients = np.unique(patient_ids)
    return _rows_of(patient_ids, patients[rng.integers(0, max(len(patients) - 1, 1), len(patients))])


@wrong("bootstrap_patients")
def one_draw_too_few(patient_ids, rng):
    patients = np.unique(patient_ids)
    return _rows_of(patient_ids, rng.choice(patients, max(len(patients) - 1, 1)))


@wrong("bootstrap_patients")
def half_of_the_patients(patient_ids, rng):
    patients = np.unique(patient_ids)
    return _rows_of(patient_ids, rng.choice(patients, max(len(patients) // 2, 1)))


@wrong("bootstrap_patients")
def assumes_sorted_ids(patient_ids, rng):
    _, films = np.unique(patient_ids, return_counts=True)
    ends = np.cumsum(films)
    drawn = rng.integers(0, len(films), len(films))
    return np.concatenate([np.arange(ends[k] - films[k], ends[k]) for k in drawn])


@wrong("bootstrap_patients")
def list_of_arrays(patient_ids, rng):
    patients = np.unique(patient_ids)
    return [np.flatnonzero(patient_ids == p).tolist() for p in rng.choice(patients, len(patients))]


@wrong("bootstrap_patients")
def shuffles_the_ids(patient_ids, rng):
    rows = reference.bootstrap_patients(patient_ids, rng)
    rng.shuffle(patient_ids)
    return rows


@wrong("bootstrap_patients")
def ids_of_the_rows(patient_ids, rng):
    return patient_ids[reference.bootstrap_patients(patient_ids, rng)]


@wrong("bootstrap_patients")
def floats(patient_ids, rng):
    return reference.bootstrap_patients(patient_ids, rng).astype(float)


@wrong("bootstrap_patients")
def cut_to_the_number_of_rows(patient_ids, rng):
    rows = reference.bootstrap_patients(patient_ids, rng)
    return np.resize(rows, len(patient_ids))


@wrong("bootstrap_patients")
def numbers_only(patient_ids, rng):
    patients = np.unique(patient_ids)
    return _rows_of(patient_ids, rng.integers(patients.min(), patients.max() + 1, len(patients)))


@wrong("bootstrap_patients")
def everything(patient_ids, rng):
    return np.arange(len(patient_ids))


@wrong("bootstrap_patients")
def poisson_bootstrap(patient_ids, rng):
    patients, whose = np.unique(patient_ids, return_inverse=True)
    return np.repeat(np.arange(len(patient_ids)), rng.poisson(1, len(patients))[whose])


# ---- expected_calibration_error -------------------------------------------------------------------------------------


@right("expected_calibration_error")
def by_digitize(y, pred, n_bins=10):
    if len(y) == 0:
        return np.nan
    edges = np.linspace(0, 1, n_bins + 1)
    which = np.digitize(pred, edges[1:-1])
    return sum(np.mean(which == k) * abs(y[which == k].mean() - pred[which == k].mean()) for k in set(which.tolist()))


@right("expected_calibration_error")
def by_right_closed_bins(y, pred, n_bins=10):
    if len(y) == 0:
        return np.nan
    error = 0.0
    for k in range(n_bins):
        low, high = k / n_bins, (k + 1) / n_bins
        inside = (pred > low) & (pred <= high) if k else (pred <= high)
        if inside.sum() > 0:
            error += inside.sum() / len(y) * np.abs(np.mean(y[inside]) - np.mean(pred[inside]))
    return float(error)


@right("expected_calibration_error")
def by_histograms(y, pred, n_bins=10):
    count = np.histogram(pred, n_bins, (0, 1))[0]
    said = np.histogram(pred, n_bins, (0, 1), weights=pred)[0]
    true = np.histogram(pred, n_bins, (0, 1), weights=y)[0]
    return np.abs(true - said).sum() / count.sum()


@right("expected_calibration_error")
def by_scikit_learn(y, pred, n_bins=10):
    share, mean = calibration_curve(y, pred, n_bins=n_bins)
    count = np.histogram(pred, np.linspace(0, 1, n_bins + 1))[0]
    return np.average(np.abs(share - mean), weights=count[count > 0])


@right("expected_calibration_error")
def by_pandas_cut(y, pred, n_bins=10):
    bins = pd.cut(pred, np.linspace(0, 1, n_bins + 1), include_lowest=True)
    table = pd.DataFrame({"y": y, "p": pred}).groupby(bins, observed=True).agg(["mean", "size"])
    return ((table[("y", "mean")] - table[("p", "mean")]).abs() * table[("y", "size")]).sum() / len(y)


@right("expected_calibration_error")
def by_scipy(y, pred, n_bins=10):
    gap, _, _ = stats.binned_statistic(pred, y - pred, "sum", n_bins, (0, 1))
    return np.nansum(np.abs(gap)) / len(y)


@right("expected_calibration_error")
def by_plain_python(y, pred, n_bins=10):
    bins = [[] for _ in range(n_bins)]
    for truth, score in zip(y.tolist(), pred.tolist()):
        bins[min(int(score * n_bins), n_bins - 1)].append((truth, score))
    return sum(abs(sum(t for t, _ in b) - sum(s for _, s in b)) for b in bins) / len(y) if len(y) else math.nan


def _ece(
    weight=lambda count, n: count / n, gap=lambda y, p, low, high: abs(y.mean() - p.mean()), select=None, edges=None, finish=float
):
    """A family of answers: other weights, other gaps, other bins."""
    select = select or (lambda p, low, high: (p >= low) & ((p < high) | (high >= 1)))
    edges = edges or (lambda p, n_bins: np.linspace(0, 1, n_bins + 1))

    def answer(y, pred, n_bins=10):
        total, limits = 0.0, edges(pred, n_bins)
        for low, high in itertools.pairwise(limits):
            inside = select(pred, low, high)
            if inside.any():
                total += weight(inside.sum(), len(y)) * gap(y[inside], pred[inside], low, high)
        return finish(total)

    return answer


for name, answer in {
    "mean_of_occupied_bins": lambda y, p, n_bins=10: np.mean(np.abs(np.subtract(*calibration_curve(y, p, n_bins=n_bins)))),
    "sum_of_gaps": _ece(weight=lambda count, n: 1),
    "mean_of_all_bins": lambda y, p, n_bins=10: _ece(weight=lambda count, n: 1)(y, p, n_bins) / n_bins,
    "largest_gap": lambda y, p, n_bins=10: np.max(np.abs(np.subtract(*calibration_curve(y, p, n_bins=n_bins)))),
    "signed": _ece(gap=lambda y, p, low, high: y.mean() - p.mean()),
    "absolute_at_the_end": _ece(gap=lambda y, p, low, high: y.mean() - p.mean(), finish=abs),
    "squared": _ece(gap=lambda y, p, low, high: (y.mean() - p.mean()) ** 2),
    "root_mean_square": _ece(gap=lambda y, p, low, high: (y.mean() - p.mean()) ** 2, finish=np.sqrt),
    "middle_of_the_bin": _ece(gap=lambda y, p, low, high: abs(y.mean() - (low + high) / 2)),
    "upper_edge": _ece(gap=lambda y, p, low, high: abs(y.mean() - high)),
    "fixed_bins": lambda y, p, n_bins=10: _ece()(y, p, 10),
    "quantile_bins": _ece(edges=lambda p, n_bins: np.quantile(p, np.linspace(0, 1, n_bins + 1))),
    "bins_from_minimum_to_maximum": _ece(edges=lambda p, n_bins: np.linspace(p.min(), p.max() + 1e-12, n_bins + 1)),
    "one_is_lost": _ece(select=lambda p, low, high: (p >= low) & (p < high)),
    "zero_is_lost": _ece(select=lambda p, low, high: (p > low) & (p <= high)),
    "one_bin_too_few": _ece(edges=lambda p, n_bins: np.linspace(0, 1, max(n_bins, 2))),
    "one_has_its_own_bin": lambda y, p, n_bins=10: (
        lambda b: sum(np.mean(b == k) * abs(y[b == k].mean() - p[b == k].mean()) for k in np.unique(b))
    )(np.floor(p * n_bins)),
    "overlapping_bins": _ece(select=lambda p, low, high: (p >= low - 0.02) & (p <= high)),
    "confidence": lambda y, p, n_bins=10: _ece()(((p >= 0.5) == y).astype(float), np.maximum(p, 1 - p), n_bins),
    "brier": lambda y, p, n_bins=10: np.mean((p - y) ** 2),
    "mean_absolute_error": lambda y, p, n_bins=10: np.mean(np.abs(p - y)),
    "calibration_in_the_large": lambda y, p, n_bins=10: abs(np.mean(y) - np.mean(p)),
    "no_division_by_n": _ece(weight=lambda count, n: count),
    "percentage": _ece(finish=lambda total: 100 * total),
    "accuracy_of_the_bin": _ece(gap=lambda y, p, low, high: abs(((p >= 0.5) == y).mean() - p.mean())),
    "empty_bins_are_nan": lambda y, p, n_bins=10: sum(
        np.mean(inside) * abs(np.mean(y[inside]) - np.mean(p[inside]))
        for k in range(n_bins)
        for inside in [np.minimum((p * n_bins).astype(int), n_bins - 1) == k]
    ),
    "zero": lambda y, p, n_bins=10: 0.0,
    "median": _ece(gap=lambda y, p, low, high: abs(y.mean() - np.median(p))),
    "index_error_at_one": lambda y, p, n_bins=10: (
        np.abs(np.arange(n_bins)[(p * n_bins).astype(int)][:, None] == np.arange(n_bins)).T.astype(float).dot(y - p).sum() / len(y)
    ),
    "per_bin_array": lambda y, p, n_bins=10: np.abs(np.subtract(*calibration_curve(y, p, n_bins=n_bins))),
    "sorts_in_place": lambda y, p, n_bins=10: (p.sort(), _ece()(y, p, n_bins))[1],
    "rounded": _ece(finish=lambda total: round(float(total), 2)),
    "percent_bins_by_rounding": lambda y, p, n_bins=10: (
        lambda b: sum(np.mean(b == k) * abs(y[b == k].mean() - p[b == k].mean()) for k in np.unique(b))
    )(np.round(p * n_bins)),
}.items():
    wrong("expected_calibration_error", name)(answer)

# ---- net_benefit ----------------------------------------------------------------------------------------------------


def _benefit(formula, positive=lambda pred, th: pred >= th):
    def net_benefit(y, pred, th):
        tp, tn, fp, fn = _counts(y, positive(pred, th), float)
        with np.errstate(all="ignore"):
            return formula(np.float64(tp), np.float64(fp), np.float64(fn), np.float64(tn), np.float64(len(y)), np.float64(th))

    return net_benefit


def _odds(th):
    return th / (1 - th)


@right("net_benefit")
def benefit_by_numpy(y, pred, th):
    y, alarm = np.asarray(y), np.asarray(pred) >= th
    if y.size == 0:
        return np.nan
    false = np.mean(alarm & (y == 0))
    return np.mean(alarm & (y == 1)) - (0.0 if false == 0 else false * np.float64(th) / np.float64(1 - th))


@right("net_benefit")
def benefit_by_loop(y, pred, th):
    tp = fp = 0
    for truth, score in zip(y, pred):
        if score >= th:
            tp, fp = tp + (truth == 1), fp + (truth == 0)
    if len(y) == 0:
        return math.nan
    if th == 1:
        return -math.inf if fp else float(tp / len(y))
    return (tp - fp * th / (1 - th)) / len(y)


@right("net_benefit")
def benefit_as_a_tensor(y, pred, th):
    return tf.constant(reference.net_benefit(y, pred, th))


@right("net_benefit")
def benefit_by_helpers(y, pred, th):
    try:
        weight = th / (1 - th)
    except ZeroDivisionError:
        weight = np.inf
    if len(y) == 0:
        return float("nan")
    harm = reference.false_positives(y, pred, th) / len(y)
    return reference.true_positives(y, pred, th) / len(y) - (harm * weight if harm else 0)


for name, (answer, slip) in {
    "greater": (_benefit(lambda tp, fp, fn, tn, n, th: (tp - fp * _odds(th)) / n, lambda p, th: p > th), "`>` in place"),
    "unweighted": (_benefit(lambda tp, fp, fn, tn, n, th: (tp - fp) / n), "not weighted"),
    "weight_th": (_benefit(lambda tp, fp, fn, tn, n, th: (tp - fp * th) / n), "not th"),
    "weight_upside_down": (_benefit(lambda tp, fp, fn, tn, n, th: (tp - fp * (1 - th) / th) / n), "upside down"),
    "weight_1_minus_th": (_benefit(lambda tp, fp, fn, tn, n, th: (tp - fp * (1 - th)) / n), "not 1 − th"),
    "added": (_benefit(lambda tp, fp, fn, tn, n, th: (tp + fp * _odds(th)) / n), "not added"),
    "counts": (_benefit(lambda tp, fp, fn, tn, n, th: tp - fp * _odds(th)), "divide by n"),
    "half_divided": (_benefit(lambda tp, fp, fn, tn, n, th: tp / n - fp * _odds(th)), "not divided by n"),
    "rates": (_benefit(lambda tp, fp, fn, tn, n, th: tp / (tp + fn) - fp / (fp + tn) * _odds(th)), "rates"),
    "by_alarms": (_benefit(lambda tp, fp, fn, tn, n, th: (tp - fp * _odds(th)) / (tp + fp)), "number of alarms"),
    "missed": (_benefit(lambda tp, fp, fn, tn, n, th: (tp - fn * _odds(th)) / n), "missed"),
    "benefit_only": (_benefit(lambda tp, fp, fn, tn, n, th: tp / n), "are missing"),
    "fixed_threshold": (lambda y, pred, th: reference.net_benefit(y, pred, 0.5), "fixed at 0.5"),
    "fixed_threshold_in_the_counts": (
        _benefit(lambda tp, fp, fn, tn, n, th: (tp - fp * _odds(th)) / n, lambda p, th: p >= 0.5),
        "fixed at 0.5 in",
    ),
    "treat_all": (lambda y, pred, th: np.mean(y) - np.mean(1 - y) * np.float64(th) / (1 - th), "everybody"),
    "sign": (_benefit(lambda tp, fp, fn, tn, n, th: (fp * _odds(th) - tp) / n), "signs"),
    "zero_division": (
        lambda y, pred, th: (np.sum(y[pred >= th]) - np.sum(y[pred >= th] == 0) * th / (1 - float(th))) / len(y),
        None,
    ),
    "nan_at_one": (_benefit(lambda tp, fp, fn, tn, n, th: (tp - fp * _odds(th)) / n if th < 1 else np.nan), None),
    "zero_at_one": (_benefit(lambda tp, fp, fn, tn, n, th: (tp - fp * _odds(th)) / n if th < 1 else 0.0), None),
    "at_one_tp_only": (_benefit(lambda tp, fp, fn, tn, n, th: (tp - fp * _odds(th)) / n if th < 1 else tp / n), None),
    "clipped_at_zero": (_benefit(lambda tp, fp, fn, tn, n, th: max(0.0, (tp - fp * _odds(min(th, 0.999))) / n)), None),
    "nobody_is_zero": (lambda y, pred, th: reference.net_benefit(y, pred, th) if len(y) else 0.0, "nan"),
    "constant": (lambda y, pred, th: 0.1, None),
    "nothing": (lambda y, pred, th: None, "return"),
    "below": (_benefit(lambda tp, fp, fn, tn, n, th: (tp - fp * _odds(th)) / n, lambda p, th: p < th), None),
}.items():
    wrong("net_benefit", f"benefit_{name}", slip=slip)(answer)

# ---- positives_needed -----------------------------------------------------------------------------------------------


def _needed(finish=math.ceil, z=lambda c: stats.norm.ppf((1 + c) / 2), variance=lambda s: s * (1 - s), width=lambda h: h, power=2):
    def positives_needed(sensitivity, half_width, confidence=0.95):
        return max(1, finish((z(confidence) ** power) * variance(sensitivity) / width(half_width) ** 2))

    return positives_needed


@right("positives_needed")
def needed_by_isf(sensitivity, half_width, confidence=0.95):
    z = stats.norm.isf((1 - confidence) / 2)
    return int(max(np.ceil(sensitivity * (1 - sensitivity) * (z / half_width) ** 2), 1))


@right("positives_needed")
def needed_by_search(sensitivity, half_width, confidence=0.95):
    z = stats.norm.ppf(0.5 + confidence / 2)
    return next(n for n in itertools.count(1) if z * np.sqrt(sensitivity * (1 - sensitivity) / n) <= half_width)


@right("positives_needed")
def needed_as_a_float(sensitivity, half_width, confidence=0.95):
    z = stats.norm.interval(confidence)[1]
    return np.maximum(np.ceil(z * z * (sensitivity - sensitivity**2) / half_width**2), 1)


@right("positives_needed")
def needed_by_chi_square(sensitivity, half_width, confidence=0.95):
    return max(1, math.ceil(stats.chi2.ppf(confidence, 1) * sensitivity * (1 - sensitivity) / half_width**2))


for name, (answer, slip) in {
    "floor": (_needed(math.floor), "rounded down"),
    "int": (_needed(int), "rounded down"),
    "nearest": (_needed(round), "nearest"),
    "not_rounded": (_needed(float), "not rounded|whole number"),
    "one_more": (lambda s, h, confidence=0.95: int(_needed(math.floor)(s, h, confidence)) + 2, "one patient too many"),
    "one_sided": (_needed(z=stats.norm.ppf), "one-sided"),
    "fixed_z": (_needed(z=lambda c: 1.959964), "fixed at 1.96"),
    "z_two": (_needed(z=lambda c: 2.0), None),
    "halves_the_width": (_needed(width=lambda h: h / 2), "halve"),
    "whole_width": (_needed(width=lambda h: 2 * h), "whole width"),
    "variance_s": (_needed(variance=lambda s: s), "not s"),
    "worst_case": (_needed(variance=lambda s: 0.25), "worst case"),
    "z_not_squared": (_needed(power=1), "z is not squared"),
    "no_z": (_needed(z=lambda c: 1.0), "z is missing"),
    "width_not_squared": (_needed(width=lambda h: np.sqrt(h)), "half_width is not squared"),
    "zero_patients": (
        lambda s, h, confidence=0.95: math.ceil(stats.norm.ppf((1 + confidence) / 2) ** 2 * s * (1 - s) / h**2),
        "at least one",
    ),
    "root_of_the_variance": (_needed(variance=lambda s: math.sqrt(s * (1 - s))), "root"),
    "percent": (_needed(z=lambda c: stats.norm.ppf((1 + c / 100) / 2)), None),
    "constant": (lambda s, h, confidence=0.95: 100, None),
    "nothing": (lambda s, h, confidence=0.95: None, "return"),
    "other_default": (
        lambda sensitivity, half_width, confidence=0.9: reference.positives_needed(sensitivity, half_width, confidence),
        "0.95",
    ),
    "returns_the_width": (lambda s, h, confidence=0.95: 1.96 * np.sqrt(s * (1 - s) / 100), None),
}.items():
    wrong("positives_needed", f"needed_{name}", slip=slip)(answer)
