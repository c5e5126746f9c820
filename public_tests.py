"""The checks under the exercises: one `<function>_test(target)` for each function that a student writes.

A check calls the student's function on small cases that can be worked out by hand, then on random ones against an
independent calculation, then on the awkward ones (a rate over nothing, a value exactly at the threshold, an image that
is not a cube). All is well: it prints one green line. Otherwise it raises `AssertionError` and shows the input, what
was expected, what came back and, where the answer is a well-known slip, which one. A function that is not written yet
raises `NotImplementedError`, and so does its check; any other error inside the function is reported with the input
that caused it.

A check judges what a function returns, not how. It cannot prove a function right, and it does not look at style, speed
or comments. What else it does not look at stands in its docstring.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

# Every exercise and the notebook it belongs to, in the order of the notebooks. (`grading` reads this too.)
EXERCISES: dict[str, int] = {
    "check_for_leakage": 1,
    "compute_class_freqs": 1,
    "get_weighted_loss": 1,
    "grad_cam": 1,
    "true_positives": 2,
    "true_negatives": 2,
    "false_positives": 2,
    "false_negatives": 2,
    "get_accuracy": 2,
    "get_prevalence": 2,
    "get_sensitivity": 2,
    "get_specificity": 2,
    "get_ppv": 2,
    "get_npv": 2,
    "bootstrap_patients": 2,
    "expected_calibration_error": 2,
    "get_sub_volume": 3,
    "standardize": 3,
    "single_class_dice_coefficient": 3,
    "dice_coefficient": 3,
    "soft_dice_loss": 3,
    "compute_class_sens_spec": 3,
    "get_regions": 3,
}

# ---------------------------------------------------------------------------------------------------------------------
# HELPERS: call the student's function, read what it returns, say what is wrong
# ---------------------------------------------------------------------------------------------------------------------

Mistakes = dict[str, Callable[..., Any]]
"""Hint → the wrong formula that it describes, called with the same arguments as the student's function."""


def _plain(value: Any) -> np.ndarray:
    """Any array, tensor, number or list as a NumPy array of its own (a copy, never a subclass)."""
    if hasattr(value, "detach"):  # a PyTorch tensor
        value = value.detach().cpu()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array(np.asarray(value), subok=False)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, (np.ndarray, np.generic))


def _show(value: Any) -> str:
    """A value in few words: small arrays whole, large ones by shape and type."""
    if isinstance(value, pd.DataFrame):
        columns = {name: list(value[name]) for name in value.columns}
        return f"DataFrame({columns})" if value.size <= 40 else f"DataFrame of {len(value)} rows"
    if isinstance(value, (tuple, list)):
        inside = ", ".join(_show(part) for part in value[:8]) + (", …" if len(value) > 8 else "")
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    if isinstance(value, np.ndarray) or _is_tensor(value):
        try:
            array = _plain(value)
        except Exception:
            return f"<{type(value).__name__}>"
        if array.size <= 40:
            text = np.array2string(array, separator=", ", precision=5, max_line_width=10_000, threshold=50)
            return " ".join(text.split())
        return f"<{array.dtype} array of shape {array.shape}>"
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.6g}"
    if isinstance(value, np.random.Generator):
        return "<random generator>"
    if isinstance(value, (type(None), bool, int, str, np.generic)):
        return str(value) if not isinstance(value, str) else repr(value[:200])
    return f"<{type(value).__name__}>"


def _same(left: Any, right: Any) -> bool:
    """Whether an argument is still what it was before the call."""
    if isinstance(left, (pd.DataFrame, pd.Series)):
        return type(left) is type(right) and left.equals(right)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    return left == right


def _close(got: Any, expected: Any, rtol: float, atol: float) -> bool:
    """Equal up to rounding, nan equal to nan; tuples part by part."""
    if isinstance(expected, tuple):
        return len(got) == len(expected) and all(_close(g, e, rtol, atol) for g, e in zip(got, expected))
    got, expected = np.asarray(got), np.asarray(expected)
    return got.shape == expected.shape and bool(np.allclose(got, expected, rtol=rtol, atol=atol, equal_nan=True))


class _Check:
    """One check in progress: calls the function, remembers the last input, counts what passed."""

    def __init__(self, name: str, target: Any, arguments: Sequence[str], tolerance: float = 1e-6) -> None:
        self.name, self.arguments, self.tolerance = name, list(arguments), tolerance
        self.target, self.passed, self.given = target, 0, ""
        if not callable(target):
            raise AssertionError(f"{name}_test expects the function {name} itself, but got {_show(target)}.")

    def call(self, *args: Any, function: Callable | None = None, hint: str = "", **options: Any) -> Any:
        """What the function returns; its errors and its changes to the arguments are reported."""
        names = self.arguments if function is None else ["y_true", "y_pred"]
        shown = [f"{name}={_show(value)}" for name, value in [*zip(names, args), *options.items()]]
        self.given = f"{self.name if function is None else 'the function it returned'}({', '.join(shown)})"
        before = [copy.deepcopy(a) if isinstance(a, (np.ndarray, pd.DataFrame, list)) else None for a in args]
        try:
            with warnings.catch_warnings():  # 0/0 in NumPy warns; the value is judged, the warning is not
                warnings.simplefilter("ignore")
                got = (function or self.target)(*args, **options)
        except NotImplementedError:  # not written yet
            raise
        except (Exception, SystemExit) as error:
            expected = "a value, not an error"
            hint = hint or "read the last lines of the error above: they name the line of your code that failed"
            raise AssertionError(self.message(expected, f"{type(error).__name__}: {error}", hint)) from error
        for name, was, now in zip(names, before, args):
            if was is not None and not _same(was, now):
                self.fail(f"`{name}` as it was before the call", f"{name}={_show(now)}",
                          f"your function changed its argument `{name}`; work on a copy of it")  # fmt: skip
        return got

    def message(self, expected: Any, got: Any, hint: str) -> str:
        expected, got = (part if isinstance(part, str) else _show(part) for part in (expected, got))
        return (
            f"{self.name}: something is not right yet ({self.passed} checks passed before this one)\n"
            f"  input:    {self.given}\n  expected: {expected}\n  got:      {got}\n  hint:     {hint}"
        )

    def fail(self, expected: Any, got: Any, hint: str) -> None:
        raise AssertionError(self.message(expected, got, hint))

    def require(self, condition: Any, expected: Any, got: Any, hint: str) -> None:
        if not bool(condition):
            self.fail(expected, got, hint)
        self.passed += 1

    def array(self, value: Any, shape: tuple[int, ...] | None, what: str = "an array") -> np.ndarray:
        """The value as an array of real numbers of this shape, or a message that says what it is instead."""
        wanted = what if shape is None else ("a single number" if shape == () else f"{what} of shape {shape}")
        if value is None:
            self.fail(wanted, None, "your function returned None: is there a `return` at its end?")
        if callable(value) and not hasattr(value, "shape"):
            self.fail(wanted, value, "your function returned a function: call it, and return what it gives")
        try:
            array = _plain(value)
            if array.dtype == object:  # for example a Fraction
                array = np.array([float(part) for part in array.ravel()]).reshape(array.shape)
        except Exception as error:
            raise AssertionError(self.message(wanted, value, f"this cannot be read as numbers ({error})")) from error
        if array.dtype.kind not in "buif":
            self.fail(wanted, value, f"real numbers are needed, not values of type {array.dtype}")
        if shape is not None and array.shape != shape:
            hint = f"the result has shape {array.shape} and not {shape}"
            hint += ": over which axes do you sum or average?" if shape == () else ""
            self.fail(wanted, f"{_show(value)} (shape {array.shape})", hint)
        return array

    def pair(self, value: Any, first: str, second: str) -> tuple[Any, Any]:
        """The value as a tuple of two."""
        if value is None:
            self.fail(f"({first}, {second})", None, "your function returned None: is there a `return` at its end?")
        if isinstance(value, (dict, set, str)) or not hasattr(value, "__len__") or len(value) != 2:
            self.fail(f"two values, ({first}, {second})", value, f"write `return {first}, {second}`")
        return value[0], value[1]

    def match(self, got: Any, expected: Any, hint: str, wrong: dict[str, Any] | None = None) -> None:
        """Compare with what was expected; when it differs, look for the mistake that gives just this value."""
        rtol, atol = self.tolerance, self.tolerance
        if not _close(got, expected, rtol, atol):
            for slip, value in (wrong or {}).items():
                if not _close(value, expected, rtol, atol) and _close(got, value, rtol, atol):
                    self.fail(expected, got, slip)
            self.fail(expected, got, hint)
        self.passed += 1

    def number(self, args: tuple, expected: float, hint: str, mistakes: Mistakes | None = None, error: str = "",
               **options: Any) -> None:  # fmt: skip
        """Call, read a single number, compare."""
        got = self.array(self.call(*args, hint=error, **options), ())
        self.match(float(got), float(expected), hint, _evaluate(mistakes, *args, **options))

    def done(self) -> None:
        print(f"\033[92m✓ {self.name}: all {self.passed} checks passed\033[0m")


def _evaluate(mistakes: Mistakes | None, *args: Any, **options: Any) -> dict[str, Any]:
    """What each known mistake would have answered (those that cannot be computed here are left out)."""
    values = {}
    for slip, formula in (mistakes or {}).items():
        try:
            with np.errstate(all="ignore"):
                values[slip] = formula(*args, **options)
        except Exception:
            continue
    return values


def _reproduces(check: _Check, draw: Callable[[np.random.Generator], Any], seeds: int = 8) -> None:
    """A random function takes its randomness from the generator it is given, and from nowhere else."""
    before = np.random.get_state()[1].copy(), np.random.get_state()[2]
    first = [draw(np.random.default_rng(seed)) for seed in range(seeds)]
    second = [draw(np.random.default_rng(seed)) for seed in range(seeds)]
    after = np.random.get_state()[1], np.random.get_state()[2]
    check.require(first == second, "the same result for two generators with the same seed", "different results",
                  "draw with the generator `rng` that you were given, not with a new one or with np.random")  # fmt: skip
    check.require(len(set(first)) > 1, "different results for generators with different seeds", "always the same one",
                  "draw with `rng`; a fixed seed inside the function makes all samples equal")  # fmt: skip
    rng = np.random.default_rng(0)
    check.require(len({draw(rng) for _ in range(seeds)}) > 1, "another draw at each call with the same generator",
                  "the same draw again and again", "draw with `rng` itself, so that it moves on")  # fmt: skip
    check.require(np.array_equal(before[0], after[0]) and before[1] == after[1], "np.random left alone",
                  "the global random state was changed", "use the methods of `rng`, never np.random.seed, "
                  "np.random.choice or np.random.randint")  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# NOTEBOOK 01: chest X-ray classification
# ---------------------------------------------------------------------------------------------------------------------


def check_for_leakage_test(target: Callable) -> None:
    """Check `check_for_leakage(df1, df2, patient_col)`.

    Not checked: tables without the column, missing patient numbers, speed on large tables.
    """
    check = _Check("check_for_leakage", target, ["df1", "df2", "patient_col"])

    def frame(ids: list, column: str = "PatientId", index: list | None = None) -> pd.DataFrame:
        images = [f"{i:03d}.png" for i in range(len(ids))]  # the same names in each table: only patients count
        return pd.DataFrame({"Image": images, column: ids}, index=index)

    cases = [
        (frame([0, 1, 2]), frame([2, 3, 4]), "PatientId", True, "patient 2 is in both tables"),
        (frame([0, 1, 2]), frame([3, 4, 5]), "PatientId", False, "no patient is in both tables"),
        (frame([1, 2, 3, 4]), frame([9, 8, 7, 1]), "PatientId", True, "the shared patient stands in other rows"),
        (frame([1, 2, 3]), frame([4, 2, 6]), "PatientId", True, "one shared patient is enough"),
        (frame([5, 5, 6]), frame([7, 7, 8]), "PatientId", False,
         "a patient with several films in one and the same table is no leak"),
        (frame([5, 5, 6, 6]), frame([5, 5, 6]), "PatientId", True, "both patients are in both tables"),
        (frame([1, 2]), frame([3, 4, 5, 6, 2]), "PatientId", True, "the tables need not be equally long"),
        (frame([10, 11, 12]), frame([0, 1, 2]), "PatientId", False,
         "the row numbers of one table are patient numbers of the other: compare the column, not the index "
         "(`x in series` looks at the index)"),
        (frame([10, 11, 12]), frame([12, 20, 30]), "PatientId", True,
         "the shared patient is not among the row numbers: compare the column, not the index"),
        (frame([1, 2], index=[7, 8]), frame([2, 1], index=[30, 40]), "PatientId", True, "the row labels do not matter"),
        (frame(["a1", "b2"]), frame(["c3", "a1"]), "PatientId", True, "patient numbers may be text"),
        (frame(["1", "2"]), frame(["12", "21"]), "PatientId", False, "compare whole numbers, not parts of them"),
        (frame([1, 2], "case"), frame([2, 5], "case"), "case", True, "use the column that `patient_col` names"),
        (frame([1, 2], "case"), frame([4, 5], "case"), "case", False, "use the column that `patient_col` names"),
        (frame([1, 2]), frame([]), "PatientId", False, "an empty table shares no patient"),
    ]  # fmt: skip
    both = frame([1, 2, 3]).assign(Study=[100, 200, 300]), frame([4, 5, 6]).assign(Study=[300, 400, 500])
    cases += [(*both, "PatientId", False, "only the column `patient_col` counts, here it is PatientId"),
              (*both, "Study", True, "only the column `patient_col` counts, here it is Study")]  # fmt: skip
    rng = np.random.default_rng(1)
    for limit in (30, 90, 3000):
        left, right = rng.integers(0, limit, 12), rng.integers(0, limit, 9)
        shared = bool(set(left.tolist()) & set(right.tolist()))
        cases.append((frame(left.tolist()), frame(right.tolist()), "PatientId", shared, "compare the sets of patients"))
    for df1, df2, column, expected, hint in cases:
        for pair in ((df1, df2), (df2, df1)):
            got = check.call(*pair, column)
            if got is None:
                check.fail(expected, None, "your function returned None: is there a `return` on every path?")
            try:
                array = _plain(got)
            except Exception:
                array = np.array("?")
            check.require(array.shape == () and array.dtype == bool, "True or False", got, "return one bool: True or "
                          "False, not the shared patients, their number or one value per row")  # fmt: skip
            check.require(bool(array) == expected, expected, bool(array), hint)
    check.done()


def compute_class_freqs_test(target: Callable) -> None:
    """Check `compute_class_freqs(labels)`.

    Not checked: labels other than 0 and 1, tables without rows.
    """
    check = _Check("compute_class_freqs", target, ["labels"])
    rng = np.random.default_rng(2)
    cases = [
        np.array([[1, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1], [1, 0, 1]]),
        np.array([[1, 0], [1, 0], [1, 0]]),
        np.array([[1, 0, 1, 1, 0]]),
        np.array([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]),
        (rng.random((37, 14)) < rng.random(14)).astype(int),
        (rng.random((4, 9)) < 0.3).astype(np.int64),
        (rng.random((211, 1)) < 0.2).astype(np.float32),
    ]
    mistakes: Mistakes = {
        "positive and negative frequencies are swapped": lambda a: (1 - a.mean(0), a.mean(0)),
        "these are counts: divide by the number of patients (rows)": lambda a: (a.sum(0), (1 - a).sum(0)),
        "you averaged over the classes of each patient: average over the patients (axis=0)":
            lambda a: (a.mean(1), 1 - a.mean(1)),
        "you divided by the number of classes: divide by the number of patients (rows)":
            lambda a: (a.sum(0) / a.shape[1], (1 - a).sum(0) / a.shape[1]),
        "you divided by the number of all labels: divide by the number of patients (rows)":
            lambda a: (a.sum(0) / a.size, (1 - a).sum(0) / a.size),
        "each class is a share of all positive labels here: divide by the number of patients (rows)":
            lambda a: (a.sum(0) / a.sum(), (1 - a).sum(0) / (1 - a).sum()),
    }  # fmt: skip
    for labels in cases:
        parts = check.pair(check.call(labels), "positive_frequencies", "negative_frequencies")
        shape = (labels.shape[1],)
        got = tuple(part if part is None else _plain(part) for part in parts)
        wrong = _evaluate(mistakes, labels.astype(float))
        positive = labels.astype(float).mean(axis=0)
        if any(_close(got, value, 1e-6, 1e-6) for value in wrong.values()):
            check.match(got, (positive, 1 - positive), "", wrong)  # name the mistake before complaining of the shape
        got = tuple(check.array(part, shape, "one frequency for each class, an array") for part in parts)
        check.match(got, (positive, 1 - positive), "the share of ones, and of zeros, in each column", wrong)
    check.done()


def _weighted_loss(y: np.ndarray, p: np.ndarray, pos: np.ndarray, neg: np.ndarray, eps: float) -> np.ndarray:
    """The terms of the weighted loss, (n, classes), in double precision."""
    with np.errstate(all="ignore"):
        return -(pos * y * np.log(p + eps) + neg * (1 - y) * np.log(1 - p + eps))


def get_weighted_loss_test(target: Callable) -> None:
    """Check `get_weighted_loss(pos_weights, neg_weights, epsilon)` by calling the loss that it returns.

    Not checked: labels that are integer *tensors* (Keras hands a loss floats), the loss inside `model.fit`.
    """
    import keras

    check = _Check("get_weighted_loss", target, ["pos_weights", "neg_weights"], tolerance=2e-4)

    def judge(y: Any, p: Any, pos: Any, neg: Any, hint: str, *, strict: bool = True, **options: float) -> None:
        y_, p_, pos, neg = (np.asarray(a, dtype=float) for a in (y, p, pos, neg))
        eps = options.get("epsilon", 1e-7)
        terms = _weighted_loss(y_, p_, pos, neg, eps)
        loss = check.call(pos, neg, **options)
        if not callable(loss):
            check.fail("a function weighted_loss(y_true, y_pred)", loss, "get_weighted_loss returns the inner function "
                       "itself: `return weighted_loss`, without calling it")  # fmt: skip
        made = f", made by {check.given}"
        y_true = keras.ops.convert_to_tensor(np.asarray(y, "float32")) if strict else np.asarray(y)
        y_pred = keras.ops.convert_to_tensor(p_.astype("float32"))
        try:
            got = check.call(y_true, y_pred, function=loss)
        except AssertionError:
            if strict:
                raise
            return
        check.given += made
        one = np.ones_like(pos)
        with np.errstate(all="ignore"):
            wrong = {
                "this is the mean over batch and classes: sum over the classes": terms.mean(),
                "this is the sum over batch and classes: take the mean over the batch": terms.sum(),
                "the sign is wrong: the loss is minus the weighted log likelihood": -terms.mean(0).sum(),
                "the positive and the negative weights are swapped": _weighted_loss(y_, p_, neg, pos, eps).mean(0).sum(),
                "epsilon is not used": _weighted_loss(y_, p_, pos, neg, 0).mean(0).sum(),
                "epsilon is fixed at 1e-7 here: use the argument": _weighted_loss(y_, p_, pos, neg, 1e-7).mean(0).sum(),
                "the weights are not used": _weighted_loss(y_, p_, one, one, eps).mean(0).sum(),
                "the weights of the first class are used for all classes":
                    _weighted_loss(y_, p_, pos[0] * one, neg[0] * one, eps).mean(0).sum(),
                "the weights are averaged: each class has its own":
                    _weighted_loss(y_, p_, pos.mean() * one, neg.mean() * one, eps).mean(0).sum(),
                "the term of the negatives, w⁻ (1−y) log(1−p+ε), is missing":
                    _weighted_loss(y_, p_, pos, 0 * one, eps).mean(0).sum(),
                "the term of the positives, w⁺ y log(p+ε), is missing":
                    _weighted_loss(y_, p_, 0 * one, neg, eps).mean(0).sum(),
                "epsilon clips the probability here: the formula adds it, log(p + ε) and log(1 − p + ε)":
                    _weighted_loss(y_, np.clip(p_, eps, 1 - eps), pos, neg, 0).mean(0).sum(),
                "epsilon is subtracted in the second term: log(1 − p + ε)":
                    -(pos * y_ * np.log(p_ + eps) + neg * (1 - y_) * np.log(1 - p_ - eps)).mean(0).sum(),
                "epsilon is outside of the logarithm: log(p + ε), not log(p) + ε":
                    -(pos * y_ * (np.log(p_) + eps) + neg * (1 - y_) * (np.log(1 - p_) + eps)).mean(0).sum(),
                "the last class only: add up the classes (`loss +=`)": terms.mean(0)[-1],
                "the first class only: is the `return` inside the loop?": terms.mean(0)[0],
            }  # fmt: skip
        values = check.array(got, None)
        if values.size > 1 and values.shape != ():
            check.fail("a single number", got, "one value per class or per film came back: the loss is the sum over the "
                       "classes of the mean over the batch, one number")  # fmt: skip
        value = float(check.array(got, ()))
        check.match(value, float(terms.mean(0).sum()), hint, wrong)
        again = check.array(check.call(y_true, y_pred, function=loss), ())
        check.match(float(again), value, "the second call gives another value than the first: start the sum at 0 inside of "
                    "weighted_loss")  # fmt: skip

    hint = "sum over the classes of the mean over the batch of −(w⁺ y log(p+ε) + w⁻ (1−y) log(1−p+ε))"
    judge([[1, 0], [1, 1], [0, 0], [1, 0]], [[0.7, 0.2], [0.5, 0.9], [0.3, 0.1], [0.8, 0.6]], [0.25, 0.75], [0.6, 0.1],
          hint)  # fmt: skip
    judge([[1.0, 0.0, 0.0]], [[0.6, 0.6, 0.2]], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0], hint, epsilon=1.0)
    judge([[1.0, 1.0], [0.0, 1.0]], [[0.0, 0.5], [0.3, 0.9]], [0.5, 0.3], [0.5, 0.7],
          "p = 0: epsilon (1e-7 unless told otherwise) keeps the logarithm finite")  # fmt: skip
    judge([[0, 0], [1, 0]], [[0.4, 1.0], [0.4, 0.2]], [0.5, 0.3], [0.5, 0.7], "p = 1: epsilon stands in both logarithms",
          epsilon=0.01)  # fmt: skip
    rng = np.random.default_rng(3)
    for n, classes, options in [(5, 3, {}), (16, 14, {"epsilon": 0.1}), (3, 5, {"epsilon": 1e-3}), (7, 1, {})]:
        y, p = (rng.random((n, classes)) < 0.4).astype(float), rng.uniform(0.02, 0.98, (n, classes))
        judge(y, p, rng.uniform(0.1, 3, classes), rng.uniform(0.1, 3, classes), hint, **options)
    y, p = (rng.random((6, 4)) < 0.4).astype(int), rng.uniform(0.1, 0.9, (6, 4))
    judge(y, p, rng.uniform(0.1, 0.9, 4), rng.uniform(0.1, 0.9, 4), "the labels are integers here: weights below 1 "
          "become 0 when they are cast to the type of y_true", strict=False)  # fmt: skip

    # The loss must have a gradient, otherwise no network can learn from it.
    y, p = (rng.random((6, 4)) < 0.5).astype("float32"), rng.uniform(0.1, 0.9, (6, 4)).astype("float32")
    pos, neg = rng.uniform(0.1, 2, 4), rng.uniform(0.1, 2, 4)
    loss = check.call(pos, neg, epsilon=0.05)
    gradient = _gradient(lambda tensor: check.call(keras.ops.convert_to_tensor(y), tensor, function=loss), p)
    expected = -(pos * y / (p + 0.05) - neg * (1 - y) / (1 - p + 0.05)) / len(y)
    no_gradient = "the loss has no gradient: compute it with keras.ops, not with NumPy or Python floats"
    if gradient is not NotImplemented:
        if gradient is None:
            check.fail("a gradient of the loss with respect to y_pred", None, no_gradient)
        check.match(gradient, expected, "the value of the loss is right, its gradient is not: use keras.ops throughout")
    check.done()


def _gradient(function: Callable, at: np.ndarray) -> Any:
    """Gradient of a scalar function of one tensor; None where there is none, NotImplemented on other backends."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        point = tf.constant(at)
        with tf.GradientTape() as tape:
            tape.watch(point)
            value = function(point)
        if not tf.is_tensor(value):
            return None
        gradient = tape.gradient(value, point)
        return None if gradient is None else _plain(gradient)
    if keras.backend.backend() == "jax":
        import jax

        return _plain(jax.grad(function)(at))
    return NotImplemented


def _cam_model(shape: tuple[int, int, int], seed: int, classes: int = 3, *, flat: bool = False, pool: int = 1,
               gain: float = 1.0, bias: Sequence[float] | None = None, sign: float | None = None) -> tuple:  # fmt: skip
    """A tiny network with known weights, and a function that gives its class activation maps in closed form.

    `early` (1×1 convolution, full size) → average pooling → `late` (1×1 convolution, ReLU) → average or flatten →
    `logits` → `probabilities`: the gradient of a logit is a product of weights where the ReLU is open.
    """
    import keras

    rng = np.random.default_rng(seed)
    height, width, channels = shape
    rows, columns = height // pool, width // pool
    inputs = keras.Input(shape)
    early = keras.layers.Conv2D(4, 1, use_bias=False, name="early")(inputs)
    pooled = keras.layers.AveragePooling2D(pool, name="smaller")(early)
    late = keras.layers.Conv2D(5, 1, use_bias=False, activation="relu", name="late")(pooled)
    features = keras.layers.Flatten()(late) if flat else keras.layers.GlobalAveragePooling2D()(late)
    features = keras.layers.Dropout(0.5)(features)
    logits = keras.layers.Dense(classes, name="logits")(features)
    model = keras.Model(inputs, keras.layers.Activation("sigmoid", name="probabilities")(logits))

    first, second = rng.normal(size=(channels, 4)), rng.normal(size=(4, 5))
    last = gain * rng.normal(size=((rows * columns * 5 if flat else 5), classes))
    if sign is not None:  # positive activations, and all classes speak for (or against) them
        first, second, last = np.abs(first), np.abs(second), sign * np.abs(last)
    offsets = np.zeros(classes) if bias is None else np.asarray(bias)
    model.set_weights([first[None, None], second[None, None], last, offsets])

    def closed_form(image: np.ndarray, index: int, layer: str) -> np.ndarray:
        """The map before ReLU and scaling: activations times the mean gradient of the logit."""
        a = image @ first
        b = np.maximum(a.reshape(rows, pool, columns, pool, 4).mean(axis=(1, 3)) @ second, 0)
        gradient = np.broadcast_to(last[:, index].reshape(-1, 5), (rows * columns, 5))
        if layer == "late":
            return b @ gradient.mean(axis=0)
        return a @ (second @ ((b.reshape(-1, 5) > 0) * gradient).mean(axis=0))

    return model, closed_form


def _scaled(raw: np.ndarray) -> np.ndarray:
    raw = np.maximum(raw, 0)
    return raw / raw.max() if raw.max() > 0 else raw


def grad_cam_test(target: Callable) -> None:
    """Check `grad_cam(model, image, class_index, layer_name)` on tiny networks whose map is known in closed form.

    Not checked: which interpolation enlarges the map (only that peak and shape are in place), images in batches.
    """
    check = _Check("grad_cam", target, ["model", "image", "class_index", "layer_name"], tolerance=0.02)
    rng = np.random.default_rng(4)

    def heat_map(model: Any, image: np.ndarray, index: int, layer: str) -> np.ndarray:
        before = _plain(model(image[None]))
        weights = [w.copy() for w in model.get_weights()]
        got = check.call(model, image, index, layer)
        check.given = (f"grad_cam(model, image of shape {image.shape}, class_index={index}, layer_name={layer!r}); "
                       f"logits before the sigmoid up to {np.abs(_logits(model, image)).max():.0f}")  # fmt: skip
        size = image.shape[:2]
        if got is not None and np.ndim(_plain(got)) == 2 and np.shape(_plain(got)) != size:
            shape = np.shape(_plain(got))
            hint = ("height and width are swapped (cv2.resize wants (width, height))" if shape == size[::-1]
                    else "enlarge the map from the size of the layer to the size of the image")  # fmt: skip
            check.fail(f"a heat map of shape {size}", f"an array of shape {shape}", hint)
        heat = check.array(got, size, "a heat map").astype(float)
        check.require(np.isfinite(heat).all(), "finite values", "nan or inf", "divide by the maximum only where it is "
                      "above 0; a saturated sigmoid has gradient 0, a logit has not")  # fmt: skip
        check.require(heat.min() >= -1e-4 and heat.max() <= 1 + 1e-4, "values between 0 and 1", f"values between "
                      f"{heat.min():.3g} and {heat.max():.3g}", "ReLU first, then divide by the maximum")  # fmt: skip
        unchanged = all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights()))
        check.require(unchanged and np.allclose(before, _plain(model(image[None]))), "the model as it was", "its output "
                      "has changed", "do not change the model; build a second one on its layers")  # fmt: skip
        return heat

    def judge(built: tuple, image: np.ndarray, index: int, hint: str, layer: str = "early") -> None:
        model, closed_form = built
        raw = closed_form(image.astype(float), index, layer)
        expected, heat = _scaled(raw), heat_map(model, image, index, layer)
        span = np.ptp(raw) if np.ptp(raw) > 0 else 1
        another = "late" if layer == "early" else "early"
        others = [i for i in range(model.output_shape[-1]) if i != index]
        wrong = {
            "all zeros: the gradient of the sigmoid vanishes where it is saturated; take the output of the layer "
            "`logits`": np.zeros_like(raw),
            "ReLU is missing: the map was shifted to [0, 1] by its minimum": (raw - raw.min()) / span,
            "the absolute value was taken: evidence against the finding counts as evidence for it":
                np.abs(raw) / max(np.abs(raw).max(), 1e-12),
            "the map is upside down: the sign of the gradient is wrong": _scaled(-raw),
            "the map is right but not divided by its maximum": np.maximum(raw, 0),
        }  # fmt: skip
        wrong |= {f"this is the map of class {i}: use class_index": _scaled(closed_form(image, i, layer))
                  for i in others}  # fmt: skip
        wrong |= {"this is the map of another layer: use layer_name": _scaled(closed_form(image, index, another))}
        check.match(heat, expected, hint, wrong)

    hint = ("ReLU of the sum over channels of activation × mean gradient of the logit; the activations of the layer "
            "`layer_name`, the gradient averaged over height and width")  # fmt: skip
    image = rng.normal(size=(8, 12, 2)).astype("float32")
    plain = _cam_model(image.shape, seed=10)
    for index, layer in ((0, "early"), (2, "late"), (1, "early"), (1, "late")):
        judge(plain, image, index, hint, layer)
    wide = rng.normal(size=(9, 6, 1)).astype("float32")
    judge(_cam_model(wide.shape, seed=11, classes=14), wide, 9, hint)
    judge(_cam_model(image.shape, seed=12, flat=True), image, 1, "the weight of a channel is the gradient averaged over "
          "all positions, not the gradient at each position")  # fmt: skip
    for bias, layer in (([60, 60, 60], "early"), ([-60, -60, -60], "late")):
        judge(_cam_model(image.shape, seed=13, bias=bias), image, 1, "the gradient of the logit, not of the sigmoid", layer)

    positive = np.abs(image) + 0.1
    for bias in (None, [20, 20, 20]):
        model, _ = _cam_model(image.shape, seed=14, sign=-1.0, bias=bias)
        heat = heat_map(model, positive, 1, "early")
        check.require(np.abs(heat).max() < 1e-3, "0 everywhere: nothing in this image speaks for the class",
                      f"values up to {heat.max():.3g}", "ReLU, then divide by the maximum only if it is above 0; do not "
                      "stretch the map by its minimum")  # fmt: skip
    constant = _cam_model(image.shape, seed=14, sign=1.0)
    judge(constant, np.ones(image.shape, "float32"), 0, "an even map is 1 everywhere")

    # A layer at a quarter of the size: judge place and shape, leave the kind of interpolation free.
    for shape, centre, index in [((24, 40, 2), (6, 30), 0), ((48, 28, 1), (36, 8), 2)]:
        y, x = np.mgrid[: shape[0], : shape[1]]
        blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * 6.0**2))
        image = (blob[..., None] * np.ones(shape[2])).astype("float32")
        for seed in range(20, 60):  # a network for which the blob speaks for the class in both layers
            model, closed_form = _cam_model(shape, seed, pool=4)
            if all(closed_form(image, index, layer).max() > 0.2 for layer in ("early", "late")):
                break
        expected = _scaled(closed_form(image.astype(float), index, "late"))
        for layer in ("late", "smaller", "early"):
            heat = heat_map(model, image, index, layer)
            coarse = heat.reshape(shape[0] // 4, 4, shape[1] // 4, 4).mean(axis=(1, 3))
            peak = np.unravel_index(heat.argmax(), heat.shape)
            off = np.hypot(peak[0] - centre[0], peak[1] - centre[1])
            check.require(heat.max() > 0.8, "a maximum near 1", f"{heat.max():.3g}", "divide by the maximum")
            check.require(off < 7, f"the peak near (row, column) {centre}", f"the peak at {tuple(map(int, peak))}",
                          "the map has the right size but not the right place: are height and width swapped?")  # fmt: skip
            alike = np.corrcoef(coarse.ravel(), expected.ravel())[0, 1]
            check.require(alike > 0.9, "a map like the one of the layer, enlarged (correlation above 0.9)",
                          f"correlation {alike:.2f}", "enlarge by interpolation, not by padding or repeating")  # fmt: skip
    check.done()


def _logits(model: Any, image: np.ndarray) -> np.ndarray:
    import keras

    return _plain(keras.Model(model.input, model.get_layer("logits").output)(image[None]))


# ---------------------------------------------------------------------------------------------------------------------
# NOTEBOOK 02: evaluation of diagnostic models
# ---------------------------------------------------------------------------------------------------------------------


def _counts(y: np.ndarray, said: np.ndarray) -> tuple[int, int, int, int]:
    """TP, TN, FP, FN of the truth and of what the model said (True: positive)."""
    sick = np.asarray(y) == 1
    return tuple(int(np.count_nonzero(both)) for both in (sick & said, ~sick & ~said, ~sick & said, sick & ~said))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


_METRICS: dict[str, tuple[str, Callable[[int, int, int, int], float]]] = {
    "true_positives": ("the number of true positives", lambda tp, tn, fp, fn: tp),
    "true_negatives": ("the number of true negatives", lambda tp, tn, fp, fn: tn),
    "false_positives": ("the number of false positives", lambda tp, tn, fp, fn: fp),
    "false_negatives": ("the number of false negatives", lambda tp, tn, fp, fn: fn),
    "get_accuracy": ("the accuracy", lambda tp, tn, fp, fn: _ratio(tp + tn, tp + tn + fp + fn)),
    "get_sensitivity": ("the sensitivity, TP/(TP+FN)", lambda tp, tn, fp, fn: _ratio(tp, tp + fn)),
    "get_specificity": ("the specificity, TN/(TN+FP)", lambda tp, tn, fp, fn: _ratio(tn, tn + fp)),
    "get_ppv": ("the PPV, TP/(TP+FP)", lambda tp, tn, fp, fn: _ratio(tp, tp + fp)),
    "get_npv": ("the NPV, TN/(TN+FN)", lambda tp, tn, fp, fn: _ratio(tn, tn + fn)),
}
_OTHER_RATES: dict[str, Callable[[int, int, int, int], float]] = {
    "the false positive rate": lambda tp, tn, fp, fn: _ratio(fp, fp + tn),
    "the false negative rate": lambda tp, tn, fp, fn: _ratio(fn, fn + tp),
    "the false discovery rate": lambda tp, tn, fp, fn: _ratio(fp, fp + tp),
    "the false omission rate": lambda tp, tn, fp, fn: _ratio(fn, fn + tn),
    "the share of wrong answers": lambda tp, tn, fp, fn: _ratio(fp + fn, tp + tn + fp + fn),
    "the prevalence": lambda tp, tn, fp, fn: _ratio(tp + fn, tp + tn + fp + fn),
    "the share called positive": lambda tp, tn, fp, fn: _ratio(tp + fp, tp + tn + fp + fn),
    "the F1 score": lambda tp, tn, fp, fn: _ratio(2 * tp, 2 * tp + fp + fn),
    "the balanced accuracy": lambda tp, tn, fp, fn: (_ratio(tp, tp + fn) + _ratio(tn, tn + fp)) / 2,
}


def _metric_test(name: str, target: Callable, undefined: str = "") -> None:
    """Check a function (y, pred, th=0.5) of the four counts. `undefined`: which column must be empty to make it nan."""
    check = _Check(name, target, ["y", "pred"])
    title, formula = _METRICS[name]

    def slip(function: Callable, positive: Callable) -> Callable:
        return lambda y, pred, th=0.5: function(*_counts(y, positive(pred, th)))

    mistakes: Mistakes = {
        "this is what you get with `>` in place of `>=`": slip(formula, lambda pred, th: pred > th),
        "the threshold is fixed at 0.5 here: use the argument `th`": slip(formula, lambda pred, th: pred >= 0.5),
        "the threshold is fixed at 0.5, and `>` is in place of `>=`": slip(formula, lambda pred, th: pred > 0.5),
        "positive is `pred >= th`; here it is `pred <= th`": slip(formula, lambda pred, th: pred <= th),
        "positive is `pred >= th`; here it is `pred < th`": slip(formula, lambda pred, th: pred < th),
    }
    others = {text: other for key, (text, other) in _METRICS.items() if key != name} | _OTHER_RATES
    for text, other in others.items():
        mistakes[f"this is {text}, not {title}"] = slip(other, lambda pred, th: pred >= th)
        mistakes[f"this is {text}, not {title}, and `>` is in place of `>=`"] = slip(other, lambda pred, th: pred > th)
    if name.startswith("get_"):
        mistakes["this is a percentage: return the fraction"] = lambda *a, **k: 100 * slip(formula, np.greater_equal)(*a, **k)
        mistakes["this is rounded: return the value itself"] = lambda *a, **k: round(slip(formula, np.greater_equal)(*a, **k), 2)
    else:
        mistakes["this is a share: return the number of patients"] = lambda y, pred, th=0.5: slip(formula, np.greater_equal)(
            y, pred, th) / len(y)  # fmt: skip

    y = np.array([1, 1, 1, 0, 0, 0, 0, 1, 0, 0])
    pred = np.array([0.9, 0.5, 0.3, 0.7, 0.8, 0.5, 0.1, 0.6, 0.2, 0.4])
    cases: list[tuple] = [(y[:4], pred[:4], {}), (y, pred, {})]
    cases += [(y, pred, {"th": th}) for th in (0.7, 0.25, 0.3, 0.95, 0.05)]
    cases += [(np.array([1, 0]), np.array([1.0, 0.0]), {"th": 1.0}), (np.array([1, 0]), np.array([0.0, 0.2]), {"th": 0.0})]
    rng = np.random.default_rng(5)
    for n, th, kind in [(60, 0.5, int), (200, 0.2, int), (97, 0.8, float), (150, 0.65, int)]:
        truth = (rng.random(n) < 0.3).astype(kind)
        score = np.round(np.clip(rng.normal(0.4 + 0.2 * truth, 0.25), 0, 1), 2)
        score[:4], truth[:4] = th, [0, 1, 0, 1]  # several exactly at the threshold
        cases.append((truth, score, {"th": th}))
    for truth, score, options in cases:
        hint = f"positive means `pred >= th`; count the patients that make up {title}"
        check.number((truth, score), formula(*_counts(truth, score >= options.get("th", 0.5))), hint, mistakes, **options)

    ones, zeros = np.ones(4, int), np.zeros(4, int)
    high, low, mixed = np.full(4, 0.8), np.full(4, 0.2), np.array([0.8, 0.2, 0.9, 0.1])
    for truth, score in [(ones, mixed), (zeros, mixed), (y[:4], high), (y[:4], low), (zeros, low), (ones, high),
                         (zeros, high), (ones, low)]:  # fmt: skip
        expected = formula(*_counts(truth, score >= 0.5))
        hint = f"here the rate is undefined (nothing {undefined}): return np.nan" if np.isnan(expected) else (
            f"only one class, or only one answer, is present here; {title} is defined all the same")  # fmt: skip
        check.number((truth, score), expected, hint, mistakes, error=hint)
    if name == "get_accuracy":
        _empty(check, (np.zeros(0), np.zeros(0)))
    check.done()


def _empty(check: _Check, args: tuple) -> None:
    """Of no patients at all the value is nan. (An error is let pass here: some libraries refuse an empty table.)"""
    try:
        got = check.call(*args)
    except AssertionError:
        return
    check.match(float(check.array(got, ())), np.nan, "of no patients at all the value is undefined: return np.nan")


def true_positives_test(target: Callable) -> None:
    """Check `true_positives(y, pred, th)`. Not checked: labels other than 0 and 1, predictions that are nan."""
    _metric_test("true_positives", target)


def true_negatives_test(target: Callable) -> None:
    """Check `true_negatives(y, pred, th)`. Not checked: labels other than 0 and 1, predictions that are nan."""
    _metric_test("true_negatives", target)


def false_positives_test(target: Callable) -> None:
    """Check `false_positives(y, pred, th)`. Not checked: labels other than 0 and 1, predictions that are nan."""
    _metric_test("false_positives", target)


def false_negatives_test(target: Callable) -> None:
    """Check `false_negatives(y, pred, th)`. Not checked: labels other than 0 and 1, predictions that are nan."""
    _metric_test("false_negatives", target)


def get_accuracy_test(target: Callable) -> None:
    """Check `get_accuracy(y, pred, th)`. Not checked: an error for an empty table, predictions that are nan."""
    _metric_test("get_accuracy", target)


def get_prevalence_test(target: Callable) -> None:
    """Check `get_prevalence(y)`. Not checked: an error for an empty table, labels other than 0 and 1."""
    check = _Check("get_prevalence", target, ["y"])
    mistakes: Mistakes = {
        "this is the share of the healthy: count the ones": lambda y: np.mean(y == 0),
        "this is the number of the sick: divide by the number of patients": lambda y: np.sum(y),
        "these are the odds: divide by all patients, not by the healthy": lambda y: np.sum(y) / np.sum(1 - y),
        "this is a percentage: return the fraction": lambda y: 100 * np.mean(y),
        "this is rounded: return the value itself": lambda y: np.round(np.mean(y), 2),
    }
    rng = np.random.default_rng(6)
    cases = [np.array([1, 0, 0, 1, 0]), np.array([1, 1, 1, 0]), np.zeros(3, int), np.ones(3, int), np.array([1]),
             np.array([0.0, 1.0, 0.0]), *((rng.random(n) < share).astype(int) for n, share in [(77, 0.1), (301, 0.8)])]  # fmt: skip
    for y in cases:
        check.number((y,), np.count_nonzero(y) / len(y), "the share of patients with y = 1", mistakes)
    _empty(check, (np.zeros(0),))
    check.done()


def get_sensitivity_test(target: Callable) -> None:
    """Check `get_sensitivity(y, pred, th)`. Not checked: labels other than 0 and 1, predictions that are nan."""
    _metric_test("get_sensitivity", target, "is truly positive")


def get_specificity_test(target: Callable) -> None:
    """Check `get_specificity(y, pred, th)`. Not checked: labels other than 0 and 1, predictions that are nan."""
    _metric_test("get_specificity", target, "is truly negative")


def get_ppv_test(target: Callable) -> None:
    """Check `get_ppv(y, pred, th)`. Not checked: labels other than 0 and 1, predictions that are nan."""
    _metric_test("get_ppv", target, "was called positive")


def get_npv_test(target: Callable) -> None:
    """Check `get_npv(y, pred, th)`. Not checked: labels other than 0 and 1, predictions that are nan."""
    _metric_test("get_npv", target, "was called negative")


def bootstrap_patients_test(target: Callable) -> None:
    """Check `bootstrap_patients(patient_ids, rng)` by the properties of many samples.

    Not checked: the order of the rows, speed, tables without patients.
    """
    check = _Check("bootstrap_patients", target, ["patient_ids", "rng"])

    def draw(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One sample: how often each patient was drawn (in the order of np.unique). All its rows must be there."""
        rows = check.array(check.call(ids, rng), None, "row indices")
        check.require(rows.ndim == 1, "a one-dimensional array of row indices", rows, "np.concatenate the rows of the draws")
        check.require(rows.dtype.kind in "iu", "row indices (integers)", f"values of type {rows.dtype}: {_show(rows)}",
                      "return the positions of the rows, for example of np.flatnonzero(patient_ids == patient)")  # fmt: skip
        inside = rows.size == 0 or (rows.min() >= 0 and rows.max() < len(ids))
        check.require(inside, f"row indices from 0 to {len(ids) - 1}", rows, "return positions of rows, not patient numbers")
        times = np.bincount(rows.astype(int), minlength=len(ids))
        patients, whose = np.unique(ids, return_inverse=True)
        drawn = np.array([times[whose == k].max() for k in range(len(patients))])
        shown = f"rows {_show(rows)}"
        check.require((times == drawn[whose]).all(), "all rows of a patient equally often: patients are drawn, with all "
                      "their rows", shown, "draw patients, not rows, and take every row of each draw")  # fmt: skip
        hint = "draw as many patients as there are patients, with replacement"
        if drawn.max(initial=0) <= 1 and drawn.sum() < len(patients):
            hint = "a patient drawn twice must contribute its rows twice: np.isin and np.unique lose the repeats"
        elif drawn.sum() == len(ids):
            hint = "there are as many draws as rows: draw as many as there are patients"
        check.require(drawn.sum() == len(patients), f"{len(patients)} draws, as many as there are patients",
                      f"{drawn.sum()} draws; {shown}", hint)  # fmt: skip
        return drawn

    small = np.array([7, 7, 3])
    interleaved = np.array([30, 10, 20, 10, 30, 50, 10, 40, 50, 50, 60, 50, 50, 60, 50, 60, 50, 60, 60, 50])
    for ids in (np.array([5, 6, 7, 8]), small, interleaved, interleaved.astype(str), np.array([4, 4, 4])):
        for seed in range(5):
            draw(ids, np.random.default_rng(seed))
    _reproduces(check, lambda rng: tuple(np.sort(_plain(check.call(interleaved, rng))).tolist()))

    # Many samples: each patient comes once on average, whatever the number of films, and as a binomial count varies.
    rng, samples = np.random.default_rng(7), 600
    for ids in (interleaved, interleaved.astype(str), rng.permutation(np.repeat(np.arange(100, 108), [1, 1, 1, 2, 3, 5, 9, 20]))):
        drawn = np.array([draw(ids, rng) for _ in range(samples)])
        patients, films = np.unique(ids, return_counts=True)
        mean, spread, n = drawn.mean(0), drawn.var(0), len(patients)
        check.given = f"bootstrap_patients(patient_ids={_show(ids)}, rng), {samples} samples"
        shown = f"patients with {films.tolist()} rows were drawn {np.round(mean, 2).tolist()} times on average"
        hint = "is every patient in the draw?"
        if np.corrcoef(mean, films)[0, 1] > 0.9:
            hint = "patients with many rows come too often: draw from the unique patients, not from the column"
        check.require(np.abs(mean - 1).max() < 5.5 * np.sqrt((1 - 1 / n) / samples), "each patient once on average", shown, hint)
        even = 1 - 1 / n  # variance of a binomial count with n trials of probability 1/n
        got = f"variance {np.round(spread, 2).tolist()}"
        check.require(spread.min() > 0.5 * even, f"counts with variance {even:.2f} (with replacement)", got,
                      "draw with replacement: some patients twice or more, some not at all")  # fmt: skip
        check.require(spread.max() < 1.6 * even, f"counts with variance {even:.2f} (independent draws)", got,
                      "make a new draw for each place in the sample")  # fmt: skip
    check.done()


def _calibration_error(y: np.ndarray, pred: np.ndarray, n_bins: int = 10, *, weighting: str = "count",
                       middle: bool = False, part: Callable = np.abs) -> float:  # fmt: skip
    """Expected calibration error by bins [k/n, (k+1)/n), the last one closed, and its usual wrong variants."""
    bins = np.minimum((np.asarray(pred) * n_bins).astype(int), n_bins - 1)
    gaps, sizes = [], []
    for k in np.unique(bins):
        inside = bins == k
        said = (k + 0.5) / n_bins if middle else pred[inside].mean()
        gaps.append(y[inside].mean() - said)
        sizes.append(inside.sum())
    gaps, sizes = part(np.array(gaps)), np.array(sizes)
    if weighting == "count":
        return float((gaps * sizes).sum() / sizes.sum())
    return float({"bins": gaps.mean(), "all bins": gaps.sum() / n_bins, "max": gaps.max(), "sum": gaps.sum()}[weighting])


def expected_calibration_error_test(target: Callable) -> None:
    """Check `expected_calibration_error(y, pred, n_bins)`.

    Not checked: to which bin an inner edge such as 0.3 belongs, an empty table.
    """
    check = _Check("expected_calibration_error", target, ["y", "pred"], tolerance=1e-5)

    def variant(**options: Any) -> Callable:
        return lambda y, pred, n_bins=10: _calibration_error(y, pred, n_bins, **options)

    def quantile_bins(y: np.ndarray, pred: np.ndarray, n_bins: int = 10) -> float:
        parts = np.array_split(np.argsort(pred, kind="stable"), n_bins)
        return sum(len(i) * abs(y[i].mean() - pred[i].mean()) for i in parts if len(i)) / len(y)

    def confidence(y: np.ndarray, pred: np.ndarray, n_bins: int = 10) -> float:
        return _calibration_error(((pred >= 0.5) == y).astype(float), np.maximum(pred, 1 - pred), n_bins)

    def without(value: float, keep: bool) -> Callable:
        def formula(y: np.ndarray, pred: np.ndarray, n_bins: int = 10) -> float:
            inside = pred != value
            share = 1.0 if keep else inside.mean()
            return share * _calibration_error(y[inside], pred[inside], n_bins)

        return formula

    mistakes: Mistakes = {
        "this is the mean over the bins: weight each bin by its count": variant(weighting="bins"),
        "this is the mean over all bins, empty ones too: weight each bin by its count": variant(weighting="all bins"),
        "this is the largest gap: take the mean, weighted by bin count": variant(weighting="max"),
        "this is the sum of the gaps: weight each bin by its count": variant(weighting="sum"),
        "the gaps cancel: take the absolute value in each bin": variant(part=lambda gaps: gaps),
        "the gaps cancel: take the absolute value in each bin, not at the end": lambda *a, **k: abs(variant(part=lambda g: g)(*a, **k)),
        "the gaps are squared: take the absolute value": variant(part=np.square),
        "the gaps are squared (root mean square): take the absolute value": lambda *a, **k: np.sqrt(variant(part=np.square)(*a, **k)),
        "compare with the mean prediction in the bin, not with its middle": variant(middle=True),
        "the number of bins is fixed at 10 here: use n_bins": lambda y, pred, n_bins=10: _calibration_error(y, pred, 10),
        "these are bins of equal count; they should be of equal width": quantile_bins,
        "this is the error of the confidence max(p, 1 − p); compare p with the share of positives": confidence,
        "predictions of exactly 1 are left out: the last bin includes 1": without(1.0, False),
        "predictions of exactly 1 are left out, and not counted: the last bin includes 1": without(1.0, True),
        "predictions of exactly 0 are left out: the first bin includes 0": without(0.0, False),
        "predictions of exactly 0 are left out, and not counted: the first bin includes 0": without(0.0, True),
        "this is the Brier score": lambda y, pred, n_bins=10: np.mean((y - pred) ** 2),
        "this is the mean |y − p| of single patients: compare the means in each bin": lambda y, pred, n_bins=10: np.abs(y - pred).mean(),
    }  # fmt: skip
    rng = np.random.default_rng(8)
    cases: list[tuple] = [
        (np.array([0, 0, 1, 1, 1]), np.array([0.12, 0.18, 0.14, 0.91, 0.93]), {}, "two bins: 3/5 · |1/3 − 0.147| + 2/5 · |1 − 0.92|"),
        (np.array([0, 1, 1, 0]), np.array([0.23, 0.27, 0.63, 0.67]), {}, "both bins are half right: |0.5 − mean prediction| in each"),
        (np.array([1, 0, 1, 1]), np.array([0.96, 0.55, 0.97, 0.52]), {"n_bins": 2}, "with two bins, all four are in the second"),
        (np.array([1, 0, 1, 0]), np.array([0.1, 0.2, 0.9, 0.6]), {"n_bins": 1}, "with one bin: |prevalence − mean prediction|"),
        (np.array([0, 0, 1]), np.array([1.0, 1.0, 0.95]), {}, "the last bin includes 1"),
        (np.array([1, 1, 0]), np.array([0.0, 0.0, 0.05]), {}, "the first bin includes 0"),
        (np.array([1, 0, 1, 0]), np.array([1.0, 0.0, 1.0, 0.0]), {}, "perfectly calibrated: 0"),
    ]  # fmt: skip
    for n, n_bins in [(400, 10), (300, 5), (250, 15), (60, 25), (500, 3)]:
        y = (rng.random(n) < 0.35).astype(int)
        pred = np.clip(rng.beta(1 + 2 * y, 3 - y), 1e-6, 1 - 1e-6)
        edge = np.abs(pred * n_bins - np.round(pred * n_bins)) < 1e-3
        pred[edge] += 0.01 / n_bins  # no prediction near an inner edge: both conventions give the same
        cases.append((y, pred, {"n_bins": n_bins}, "sum over bins of (count / n) · |share of positives − mean prediction|"))
    for y, pred, options, hint in cases:
        check.number((y, pred), _calibration_error(y, pred, **options), hint, mistakes,
                     error="a bin without predictions contributes nothing: skip it", **options)  # fmt: skip
    check.done()


# ---------------------------------------------------------------------------------------------------------------------
# NOTEBOOK 03: brain tumour segmentation
# ---------------------------------------------------------------------------------------------------------------------


def get_sub_volume_test(target: Callable) -> None:
    """Check `get_sub_volume(image, label, …)` on small scans in which every voxel has its own value.

    Not checked: that all positions are equally likely, outputs larger than the scan, labels above num_classes − 1.
    """
    check = _Check("get_sub_volume", target, ["image", "label"])

    def scan(shape: tuple[int, ...], channels: int, label: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
        """An image whose voxels count up, so that a patch tells where it was cut, and a label map."""
        image = np.arange(np.prod(shape), dtype="float32")[:, None] + 0.25 * np.arange(channels)
        labels = np.array(np.broadcast_to(label, shape)).astype("uint8")
        return image.reshape(*shape, channels).astype("float32"), labels

    def cut(image: np.ndarray, label: np.ndarray, size: tuple[int, ...], *, bare: bool = False, **options: Any) -> Any:
        """One call: where the patch was cut, None for None. Shape, contents and one-hot code are judged here."""
        sizes = {} if bare else dict(zip(("output_x", "output_y", "output_z"), size))
        hint = ("is the range of the start empty? With `rng.integers(0, n)` n is not drawn: a scan as large as the output "
                "has the one start 0, so n is size − output + 1")  # fmt: skip
        got = check.call(image, label, hint=hint if image.shape[:3] == size else "", **sizes, **options)
        if got is None:
            return None
        x, y = check.pair(got, "X", "y")
        classes, channels = options.get("num_classes", 4), image.shape[-1]
        x = check.array(x, (*size, channels), "X").astype(float)
        if np.shape(y) == (*size, classes):
            check.fail(f"y of shape {(*size, classes - 1)}", f"shape {np.shape(y)}", "leave out the background: y[..., 1:]")
        y = check.array(y, (*size, classes - 1), "y").astype(float)
        start = np.unravel_index(int(round(x[0, 0, 0, 0])) % label.size, label.shape)
        window = tuple(slice(a, a + b) for a, b in zip(start, size))
        check.require(np.array_equal(x, image[window]), "X: one block cut out of the image, all channels, values unchanged",
                      f"a block that starts with {_show(x[0, 0, 0])} and is not in the image", "X = image[start_x : start_x "
                      "+ output_x, …] with the starts of this draw")  # fmt: skip
        expected = np.stack([label[window] == k for k in range(1, classes)], axis=-1)
        hint = "one channel for each class 1, 2, …, 1 where the label is this class and 0 elsewhere, no background channel"
        if np.array_equal(y, np.stack([label[window] == k for k in range(classes - 1)], axis=-1)):
            hint = "the last class is missing and the background is there: y[..., 1:], not y[..., :-1]"
        elif y.sum() != expected.sum() or not np.isin(y, (0, 1)).all():
            pass
        else:
            hint += "; is y cut at the same place as X?"
        check.require(np.array_equal(y, expected), "y: the one-hot code of the label at the place of X", y, hint)
        return tuple(int(a) for a in start)

    rng = np.random.default_rng(9)
    none_hint = "return None when no draw has a background share below background_threshold"

    # The scan is as large as the output: one position only.
    shape = (3, 2, 4)
    image, label = scan(shape, 2, rng.integers(0, 4, shape))
    label[0, 0, :4] = [0, 1, 2, 3]
    check.require(cut(image, label, shape, rng=np.random.default_rng(0)), "the whole scan: it is as large as the output", None,
                  "one position fits, and it has tumour in it")  # fmt: skip
    for size, channels, classes in [((2, 3, 2), 1, 3), ((4, 1, 3), 4, 2), ((2, 2, 2), 3, 6)]:
        labels = rng.integers(0, classes, size)
        labels[0, 0, 0] = 1
        for kind in ("int64", "uint8", "int16"):
            image, label = scan(size, channels, labels)
            got = cut(image, label.astype(kind), size, num_classes=classes, background_threshold=1.0)
            check.require(got is not None, "the whole scan", None, none_hint)

    # Background share: strictly below the threshold.
    half = np.zeros((2, 4, 2), int)
    half[0] = [[1, 2], [3, 1], [2, 2], [1, 3]]
    quarter = half.copy()
    quarter[1, :2] = 3
    for labels, share in [(half, 0.5), (quarter, 0.25), (np.where(half == 0, 2, 0) * (half == 0), 0.5)]:
        image, label = scan(half.shape, 2, labels)
        for threshold in (share - 0.1, share, share + 0.1):
            got = cut(image, label, half.shape, background_threshold=threshold, max_tries=3, rng=np.random.default_rng(1))
            hint = f"the share of background is {share}; a patch is taken when it is strictly below the threshold"
            check.require((got is not None) == (share < threshold), "a patch" if share < threshold else "None",
                          "None" if got is None else "a patch", hint)  # fmt: skip
    image, label = scan((4, 4, 4), 1, 0)
    got = cut(image, label, (2, 2, 2), max_tries=20)
    check.require(got is None, "None: there is no tumour in this scan", got, none_hint)

    # Every position that fits is drawn, the last ones too.
    for shape, size in [((5, 3, 6), (3, 1, 5)), ((3, 6, 4), (3, 2, 4)), ((2, 2, 7), (1, 2, 3))]:
        image, label = scan(shape, 2, rng.integers(1, 4, shape))
        steps = [a - b + 1 for a, b in zip(shape, size)]
        generator = np.random.default_rng(10)
        starts = {cut(image, label, size, rng=generator) for _ in range(25 * int(np.prod(steps)))}
        check.given = f"get_sub_volume(image of shape {(*shape, 2)}, label all tumour, output {size}), drawn many times"
        check.require(None not in starts, "a patch at every call", None, "there is tumour everywhere")
        for axis, name in enumerate("xyz"):
            seen = sorted({start[axis] for start in starts})
            hint = "every position that fits can be drawn; is the end of the range excluded? (rng.integers(0, n) never gives n)"
            check.require(seen == list(range(steps[axis])), f"starts along {name}: {list(range(steps[axis]))}",
                          f"starts along {name}: {seen}", hint)  # fmt: skip
        check.require(len(starts) == np.prod(steps), f"{np.prod(steps)} different positions", f"{len(starts)}",
                      "draw the three starts independently")  # fmt: skip

    # Only patches with enough tumour are taken, and it is tried max_tries times.
    lonely = np.zeros((6, 5, 4), int)
    lonely[5, 4, 3] = 2
    image, label = scan(lonely.shape, 1, lonely)
    generator = np.random.default_rng(11)
    for _ in range(20):
        got = cut(image, label, (1, 1, 2), background_threshold=0.9, max_tries=2000, rng=generator)
        check.require(got == (5, 4, 2), "the patch with the tumour in it: (5, 4, 2)", got, "draw again until the share of "
                      "background is below the threshold, up to max_tries times")  # fmt: skip
    row = np.zeros((5, 1, 2), int)  # (never one voxel along z: keras.utils.to_categorical drops a last axis of 1)
    row[2] = 1
    image, label = scan(row.shape, 1, row)
    for tries, calls in [(1, 500), (3, 300)]:
        found = np.mean([cut(image, label, (1, 1, 2), max_tries=tries, rng=generator) is not None for _ in range(calls)])
        expected = 1 - 0.8**tries
        check.given = f"get_sub_volume on a scan of 5×1×2 with tumour at one x, output (1, 1, 2), max_tries={tries}"
        check.require(abs(found - expected) < 0.095, f"a patch in about {expected:.0%} of {calls} calls", f"in {found:.0%}",
                      "draw at most max_tries times, each time a new position")  # fmt: skip

    image, label = scan((6, 6, 6), 1, rng.integers(1, 4, (6, 6, 6)))
    _reproduces(check, lambda generator: cut(image, label, (2, 2, 2), rng=generator))

    # What it does when nothing is said: 160×160×16, four classes, threshold 0.95.
    for share in (0.94, 0.96):
        flat = np.zeros(160 * 160 * 16, "uint8")
        flat[: int(round((1 - share) * flat.size))] = 3
        image, label = scan((160, 160, 16), 1, flat.reshape(160, 160, 16))
        image = image.astype("float64")
        got = cut(image, label, (160, 160, 16), bare=True, max_tries=1)
        check.require((got is not None) == (share < 0.95), "a patch" if share < 0.95 else "None", "None" if got is None
                      else "a patch", f"the share of background is {share}, the threshold 0.95 unless told otherwise")  # fmt: skip
    check.done()


def _standardized(image: np.ndarray, inside: np.ndarray, axes: tuple | None = None) -> np.ndarray:
    """z-score by the voxels `inside` ((x, y, z) or all axes), per channel or per channel and slice; 0 outside."""
    image = image.astype(float)
    inside = np.broadcast_to(inside if inside.ndim == image.ndim else inside[..., None], image.shape)
    values = np.ma.masked_array(image, ~inside)
    mean, sd = values.mean(axis=axes or (0, 1, 2), keepdims=True), values.std(axis=axes or (0, 1, 2), keepdims=True)
    with np.errstate(all="ignore"):
        return np.where(inside, np.nan_to_num((image - mean.data) / sd.data, posinf=0, neginf=0), 0)


def standardize_test(target: Callable) -> None:
    """Check `standardize(image)` on small scans with background, of several channels.

    Not checked: the type of the result (float32 or float64), whether sd divides by n or n − 1, nan in the image.
    """
    check = _Check("standardize", target, ["image"], tolerance=2e-3)
    mistakes: Mistakes = {
        "these are statistics of the whole volume: take those of the brain (voxels where any channel is not 0)":
            lambda i: _standardized(i, np.ones(i.shape[:3], bool)),
        "the whole volume was standardised, then set to 0 outside: the statistics must come from the brain":
            lambda i: _standardized(i, np.ones(i.shape[:3], bool)) * (i != 0).any(-1)[..., None],
        "this is standardised slice by slice (z): take one mean and sd per channel":
            lambda i: _standardized(i, (i != 0).any(-1), (0, 1)),
        "one mean and sd for all channels: each channel has its own":
            lambda i: _standardized(i, (i != 0).any(-1), (0, 1, 2, 3)),
        "a voxel belongs to the brain when any channel is not 0: this channel may be 0 there":
            lambda i: _standardized(i, i != 0),
        "a voxel belongs to the brain when any channel is not 0, not only when all are":
            lambda i: _standardized(i, (i != 0).all(-1)),
        "a voxel belongs to the brain when any channel is not 0: negative values count too":
            lambda i: _standardized(i, (i > 0).any(-1)),
        "the sum of the channels can be 0 inside the brain: ask for any channel that is not 0":
            lambda i: _standardized(i, i.sum(-1) != 0),
        "the first channel alone does not tell where the brain is": lambda i: _standardized(i, i[..., 0] != 0),
        "the voxels outside of the brain must be 0":
            lambda i: np.stack([(c - c[m].mean()) / c[m].std() for m in [(i != 0).any(-1)] for c in np.moveaxis(i.astype(float), -1, 0)], -1),
        "the mean is 0, but divide by the standard deviation, too":
            lambda i: (i - i[(i != 0).any(-1)].mean(0)) * (i != 0).any(-1)[..., None],
        "divide by the standard deviation, not by the variance":
            lambda i: _standardized(i, (i != 0).any(-1)) / i[(i != 0).any(-1)].std(0),
    }  # fmt: skip

    def judge(image: np.ndarray, hint: str) -> None:
        brain = (image != 0).any(axis=-1)
        got = check.array(check.call(image), image.shape, "an image").astype(float)
        check.require(np.isfinite(got).all(), "finite values", f"{np.count_nonzero(~np.isfinite(got))} values are nan or inf",
                      "a channel that is constant in the brain has sd 0: do not divide by it, set it to 0")  # fmt: skip
        expected = _standardized(image, brain)
        n = max(int(brain.sum()), 2)
        if not _close(got, expected * np.sqrt((n - 1) / n), 2e-3, 2e-3):  # sd with n − 1 is right as well
            check.match(got, expected, hint, _evaluate(mistakes, image))
        else:
            check.passed += 1

    hint = "in each channel: (value − mean) / sd over the voxels where any channel is not 0; 0 elsewhere"
    tiny = np.zeros((1, 2, 3, 1))
    tiny[0, :, 0, 0] = [1.0, 3.0]
    judge(tiny, "the brain is the two voxels 1 and 3: mean 2, sd 1, so −1 and 1; 0 elsewhere")
    pair = np.zeros((2, 2, 2, 2))
    pair[0, 0, :, 0], pair[0, 1, :, 0], pair[0, :, :, 1] = 2.0, 6.0, [[0.0, 10.0], [0.0, 10.0]]
    judge(pair, "four voxels are brain; in the second channel two of them are 0 and count")
    rng = np.random.default_rng(12)

    def head(shape: tuple[int, int, int], channels: int) -> np.ndarray:
        """An ellipsoid with structure from slice to slice, another level in each channel, 0 outside."""
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
        inside = x**2 + y**2 + 0.7 * z**2 < 0.9
        values = 100 + 60 * z[..., None] + rng.normal(0, 15, (*shape, channels)) * (1 + np.arange(channels))
        return np.where(inside[..., None], np.maximum(values, 1) * (1 + 2 * np.arange(channels)), 0)

    judge(head((14, 10, 7), 4), hint)
    judge(head((8, 11, 13), 2).astype("int16"), "the image has integers: compute in floats (astype) and return floats")
    judge(head((9, 12, 6), 1).astype("float32"), hint)
    judge(head((9, 8, 7), 3).astype("uint16"), "the image has unsigned integers: compute in floats")
    part = head((12, 9, 8), 3)
    part[3:6, 3:6, 3:5, 1] = 0  # one channel is 0 inside the brain
    part[5:8, 2:4, 2:6, 0] = 0
    judge(part, "a channel may be 0 inside the brain: these voxels still count")
    signed = head((10, 9, 8), 2) / 100
    signed[4:6, 3:6, 2:6] = [-1.5, -0.5]
    judge(signed, "values may be negative")
    signed[4:6, 3:6, 2:6] = [-1.5, 1.5]
    judge(signed, "the channels may cancel: ask for any channel that is not 0, not for their sum")
    judge(head((9, 7, 8), 2)[2:-2, 2:-2, 2:-2], "a patch without background")
    flat = head((8, 7, 9), 4)
    flat[..., 2] = np.where((flat != 0).any(-1), 7.0, 0.0)
    flat[..., 3] = 0
    judge(flat, "a channel that is constant in the brain becomes 0")
    judge(np.zeros((3, 4, 2, 2)), "without any brain everything stays 0")
    judge(np.where(flat != 0, 3, 0).astype("int16"), "constant channels become 0")
    check.done()


def _dice(t: np.ndarray, p: np.ndarray, axis: tuple | None, epsilon: float, *, power: int = 1, top: float = 2.0,
          above: float = 1.0, below: float = 1.0) -> np.ndarray:  # fmt: skip
    """Dice without the mean; power 2: squared denominators. The other arguments make the usual wrong variants."""
    t, p = np.asarray(t, dtype=float), np.asarray(p, dtype=float)
    with np.errstate(all="ignore"):
        return (top * (t * p).sum(axis) + above * epsilon) / ((t**power).sum(axis) + (p**power).sum(axis) + below * epsilon)


def _dice_test(name: str, target: Callable, formula: Callable, cases: list[tuple], mistakes: Mistakes, hint: str, *,
               train: bool = False) -> None:  # fmt: skip
    """Check one of the Dice functions on (y_true, y_pred, options, hint) cases, given as Keras tensors."""
    import keras

    check = _Check(name, target, ["y_true", "y_pred"], tolerance=2e-5)
    for y_true, y_pred, options, note in cases:
        tensors = [keras.ops.convert_to_tensor(np.asarray(a, "float32")) for a in (y_true, y_pred)]
        got = check.array(check.call(*tensors, **options), ())
        check.match(float(got), float(formula(y_true, y_pred, **options)), note or hint,
                    _evaluate(mistakes, y_true, y_pred, **options))  # fmt: skip
    if train:
        y_true, y_pred = (np.asarray(a, "float32") for a in cases[-1][:2])
        truth = keras.ops.convert_to_tensor(y_true)
        gradient = _gradient(lambda p: check.call(truth, p), y_pred)
        if gradient is not NotImplemented:
            advice = "compute the loss with keras.ops throughout, not with NumPy or Python floats"
            check.require(gradient is not None, "a gradient of the loss with respect to y_pred", gradient, advice)
            step = 1e-4 * np.sign(gradient).astype(float)
            slope = (formula(y_true, y_pred + step) - formula(y_true, y_pred - step)) / 2
            check.require(abs((gradient * step).sum() - slope) <= 0.02 * abs(slope), "the gradient of the formula",
                          "another gradient", advice)  # fmt: skip
    check.done()


def _dice_mistakes(power: int, axis: tuple, finish: Callable) -> Mistakes:
    """Known slips of Dice as functions of (y_true, y_pred, axis, epsilon)."""

    def slip(**options: Any) -> Callable:
        return lambda t, p, axis=axis, epsilon=1e-5: finish(_dice(t, p, axis, epsilon, **{"power": power, **options}))

    def fixed(epsilon_: float | None = None, axis_: Any = "given") -> Callable:
        return lambda t, p, axis=axis, epsilon=1e-5: finish(
            _dice(t, p, axis if axis_ == "given" else axis_, epsilon if epsilon_ is None else epsilon_, power=power))  # fmt: skip

    def jaccard(t: Any, p: Any, axis: tuple = axis, epsilon: float = 1e-5) -> float:
        both, each = (np.multiply(t, p)).sum(axis), (np.asarray(t) ** power).sum(axis) + (np.asarray(p) ** power).sum(axis)
        return finish((both + epsilon) / (each - both + epsilon))

    other = "the denominator has squares, Σt²+Σp²" if power == 2 else "no squares in the denominator, Σt+Σp"
    return {
        "the axes are fixed: use the argument `axis`": fixed(axis_=axis),
        "the sums run over everything: sum over `axis` only, then take the mean of what is left": fixed(axis_=None),
        "epsilon is fixed at 1e-5 here: use the argument": fixed(epsilon_=1e-5),
        "epsilon is not used": fixed(epsilon_=0.0),
        other: slip(power=3 - power),
        "the factor 2 in the numerator is missing": slip(top=1.0),
        "epsilon is missing in the numerator": slip(above=0.0),
        "epsilon is missing in the denominator": slip(below=0.0),
        "epsilon is doubled in the numerator: 2Σtp + ε": slip(above=2.0),
        "epsilon is doubled in the denominator": slip(below=2.0),
        "this is the Jaccard index (intersection over union)": jaccard,
        "the prediction is thresholded at 0.5: use the probabilities themselves":
            lambda t, p, axis=axis, epsilon=1e-5: finish(_dice(t, np.asarray(p) > 0.5, axis, epsilon, power=power)),
    }  # fmt: skip


def single_class_dice_coefficient_test(target: Callable) -> None:
    """Check `single_class_dice_coefficient(y_true, y_pred, axis, epsilon)`.

    Not checked: integer tensors, the type of the result (a float is as good as a tensor), axes that leave something.
    """
    rng = np.random.default_rng(13)
    cube = lambda *shape: (rng.random(shape) < 0.4).astype(float)  # noqa: E731
    hand_t, hand_p = np.array([[1, 0], [1, 1]]), np.array([[1, 1], [0, 1]])
    cases = [
        (hand_t[..., None], hand_p[..., None], {"epsilon": 1.0}, "two voxels agree of 3 and 3: (2·2 + 1) / (3 + 3 + 1)"),
        (hand_t[..., None], hand_p[..., None], {}, "two voxels agree of 3 and 3: 2·2 / (3 + 3), and 1e-5 changes little"),
        (hand_t, hand_p, {"axis": (0, 1)}, "a two-dimensional image with axis=(0, 1)"),
        (np.zeros((2, 3, 2)), np.zeros((2, 3, 2)), {}, "nothing to find and nothing found: ε / ε = 1"),
        (np.zeros((2, 3, 1)), np.ones((2, 3, 1)), {"epsilon": 0.5}, "nothing to find and 6 voxels found: ε / (6 + ε)"),
        (cube(3, 4, 5), cube(3, 4, 5), {"epsilon": 0.1}, ""),
        (cube(7, 2, 3), cube(7, 2, 3), {"axis": (0, 1, 2)}, ""),
        (cube(1, 5, 6, 1), cube(1, 5, 6, 1), {"axis": (0, 1, 2, 3), "epsilon": 0.3}, "axis has four entries here"),
        (cube(5, 2, 4), rng.random((5, 2, 4)), {}, "predictions may be probabilities"),
        (rng.random((3, 4, 2)), rng.random((3, 4, 2)), {"epsilon": 0.2}, "labels may be soft"),
    ]
    formula = lambda t, p, axis=(0, 1, 2), epsilon=1e-5: _dice(t, p, axis, epsilon)  # noqa: E731
    mistakes = _dice_mistakes(1, (0, 1, 2), lambda value: value)
    hint = "(2Σtp + ε) / (Σt + Σp + ε), all sums over `axis`"
    mistakes |= {"this is 1 − Dice: the coefficient is wanted, not the loss": lambda *a, **k: 1 - formula(*a, **k)}
    _dice_test("single_class_dice_coefficient", target, formula, cases, mistakes, hint)


def _several_classes(rng: np.random.Generator) -> list[tuple]:
    """Cases for the Dice functions of several classes: (y_true, y_pred, options, hint)."""
    truth = lambda *shape: (rng.random(shape) < 0.4).astype(float)  # noqa: E731
    t = np.array([[1, 0, 1, 1], [0, 0, 0, 1]]).reshape(1, 2, 2, 2)
    p = np.array([[1, 1, 0, 1], [0, 0, 0, 0]]).reshape(1, 2, 2, 2)
    t, p = t.reshape(2, 2, 2, 1), p.reshape(2, 2, 2, 1)  # two classes of four voxels, classes first
    return [
        (t, p, {"epsilon": 1.0}, "two classes, class first: Dice (4 + 1) / (6 + 1) and (0 + 1) / (1 + 1), then their mean"),
        (t, p, {}, "two classes, class first: Dice 4/6 and 0/1, then their mean"),
        (np.zeros((2, 2, 3, 1, 2)), np.zeros((2, 2, 3, 1, 2)), {}, "nothing to find and nothing found: ε / ε = 1"),
        (truth(4, 3, 2, 3), truth(4, 3, 2, 3), {"axis": (0, 1, 2), "epsilon": 0.1}, "channels last, axis=(0, 1, 2)"),
        (truth(2, 3, 5, 2, 3), truth(2, 3, 5, 2, 3), {}, ""),
        (truth(3, 2, 4, 5, 2), truth(3, 2, 4, 5, 2), {"axis": (0, 1, 2, 3), "epsilon": 0.5}, "the batch is summed, too"),
        (truth(1, 4, 3, 6, 3), rng.random((1, 4, 3, 6, 3)), {}, "predictions are probabilities"),
        (truth(2, 5, 3, 2, 4) * [1, 0.2, 0, 1], rng.random((2, 5, 3, 2, 4)), {"epsilon": 2.0}, "soft labels, large ε"),
        (truth(2, 3, 2, 4, 3), rng.uniform(0.1, 0.9, (2, 3, 2, 4, 3)), {}, "predictions are probabilities"),
    ]


def dice_coefficient_test(target: Callable) -> None:
    """Check `dice_coefficient(y_true, y_pred, axis, epsilon)`.

    Not checked: integer tensors, the type of the result (a float is as good as a tensor), use inside `model.fit`.
    """
    formula = lambda t, p, axis=(1, 2, 3), epsilon=1e-5: _dice(t, p, axis, epsilon).mean()  # noqa: E731
    mistakes = _dice_mistakes(1, (1, 2, 3), np.mean)
    mistakes |= {"this is 1 − Dice: the coefficient is wanted, not the loss": lambda *a, **k: 1 - formula(*a, **k),
                 "this is the sum over the classes: take the mean":
                 lambda t, p, axis=(1, 2, 3), epsilon=1e-5: _dice(t, p, axis, epsilon).sum()}  # fmt: skip
    hint = "the mean, over what the axes leave, of (2Σtp + ε) / (Σt + Σp + ε)"
    _dice_test("dice_coefficient", target, formula, _several_classes(np.random.default_rng(14)), mistakes, hint)


def soft_dice_loss_test(target: Callable) -> None:
    """Check `soft_dice_loss(y_true, y_pred, axis, epsilon)`: its value and its gradient.

    Not checked: integer tensors, the loss inside `model.fit`.
    """
    formula = lambda t, p, axis=(1, 2, 3), epsilon=1e-5: 1 - _dice(t, p, axis, epsilon, power=2).mean()  # noqa: E731
    mistakes = _dice_mistakes(2, (1, 2, 3), lambda value: 1 - np.mean(value))
    mistakes |= {"this is the coefficient: the loss is 1 − its mean": lambda *a, **k: 1 - formula(*a, **k),
                 "the loss is 1 − the coefficient, not minus the coefficient": lambda *a, **k: formula(*a, **k) - 1,
                 "the sums are squared: square first, then sum": lambda t, p, axis=(1, 2, 3), epsilon=1e-5: 1 - np.mean(
                     (2 * np.multiply(t, p).sum(axis) + epsilon)
                     / (np.sum(t, axis) ** 2 + np.sum(p, axis) ** 2 + epsilon))}  # fmt: skip
    hint = "1 − the mean, over what the axes leave, of (2Σtp + ε) / (Σt² + Σp² + ε)"
    _dice_test("soft_dice_loss", target, formula, _several_classes(np.random.default_rng(15)), mistakes, hint, train=True)


def compute_class_sens_spec_test(target: Callable) -> None:
    """Check `compute_class_sens_spec(pred, label, class_num)` on binary arrays with the classes last.

    Not checked: probabilities (threshold them first), classes that are not in the array.
    """
    check = _Check("compute_class_sens_spec", target, ["pred", "label", "class_num"])

    def rates(pred: np.ndarray, label: np.ndarray) -> tuple[float, ...]:
        counts = _counts(label, np.asarray(pred) == 1)
        return tuple(float(_METRICS[name][1](*counts)) for name in ("get_sensitivity", "get_specificity"))

    def both(first: Callable, second: Callable) -> Callable:
        def formula(pred: np.ndarray, label: np.ndarray, k: int) -> tuple[float, float]:
            counts = _counts(label[..., k], pred[..., k] == 1)
            return float(first(*counts)), float(second(*counts))

        return formula

    metric = {name: function for name, (_, function) in _METRICS.items()}
    mistakes: Mistakes = {
        "sensitivity and specificity are swapped": both(metric["get_specificity"], metric["get_sensitivity"]),
        "these are PPV and NPV (or pred and label are swapped)": both(metric["get_ppv"], metric["get_npv"]),
        "the first is the PPV: sensitivity is TP/(TP+FN)": both(metric["get_ppv"], metric["get_specificity"]),
        "the second is the NPV: specificity is TN/(TN+FP)": both(metric["get_sensitivity"], metric["get_npv"]),
        "this is class 0: use class_num": lambda p, t, k: rates(p[..., 0], t[..., 0]),
        "all classes are counted together: use class_num": lambda p, t, k: rates(p, t),
        "the classes are the last axis: pred[..., class_num]": lambda p, t, k: rates(p[k], t[k]),
        "class_num counts from 0": lambda p, t, k: rates(p[..., k - 1], t[..., k - 1]),
        "an undefined rate is nan, not 0": lambda p, t, k: tuple(np.nan_to_num(rates(p[..., k], t[..., k])).tolist()),
        "an undefined rate is nan, not 1": lambda p, t, k: tuple(np.nan_to_num(rates(p[..., k], t[..., k]), nan=1.0).tolist()),
    }  # fmt: skip
    rng = np.random.default_rng(16)
    label = np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 1], [0, 1], [0, 0], [0, 0]])
    pred = np.array([[1, 0], [1, 1], [0, 1], [1, 1], [0, 0], [0, 0], [0, 0], [0, 0]])
    cases = [(pred.reshape(2, 2, 2, 2), label.reshape(2, 2, 2, 2), 0, int), (pred.reshape(2, 4, 1, 2), label.reshape(2, 4, 1, 2), 1, int),
             (pred, label, 1, float)]  # fmt: skip
    for shape, kind in [((3, 4, 5, 3), int), ((6, 5, 4), int), ((2, 3, 4, 5, 4), float), ((4, 4, 4, 4), int), ((30, 3), np.float32)]:
        truth = rng.random(shape) < 0.3
        answer = np.where(rng.random(shape) < 0.25, ~truth, truth)
        cases += [(answer, truth, k, kind) for k in range(shape[-1])]
    for answer, truth, k, kind in cases:
        _sens_spec_case(check, answer.astype(kind), truth.astype(kind), k, rates, mistakes, "")
    some = rng.integers(0, 2, (3, 2, 4))
    for value in (0, 1):
        for answer in (some, np.zeros_like(some), np.ones_like(some)):
            stack = [np.stack([some, part, some], -1) for part in (answer, np.full_like(some, value))]
            what = "no voxel of this class: the sensitivity" if value == 0 else "only voxels of this class: the specificity"
            _sens_spec_case(check, *stack, 1, rates, mistakes, f"the label has {what} is undefined, np.nan")
    check.done()


def _sens_spec_case(check: _Check, pred: np.ndarray, label: np.ndarray, k: int, rates: Callable, mistakes: Mistakes,
                    hint: str) -> None:  # fmt: skip
    parts = check.pair(check.call(pred, label, k, hint=hint), "sensitivity", "specificity")
    got = tuple(float(check.array(part, ())) for part in parts)
    hint = hint or "TP/(TP+FN) and TN/(TN+FP), counted over the voxels of the class"
    check.match(got, rates(pred[..., k], label[..., k]), hint, _evaluate(mistakes, pred, label, k))


def get_regions_test(target: Callable) -> None:
    """Check `get_regions(label)` on integer maps of one to five axes.

    Not checked: labels other than 0, 1, 2, 3, maps of floats.
    """
    check = _Check("get_regions", target, ["label"])

    def stack(*groups: tuple[int, ...]) -> Callable:
        return lambda label: np.stack([np.isin(label, group) for group in groups], axis=-1)

    whole, core, enhancing = (1, 2, 3), (2, 3), (3,)
    mistakes: Mistakes = {
        "these are the single classes 1, 2, 3: the regions contain one another": stack((1,), (2,), (3,)),
        "the regions are in another order: whole tumour, core, enhancing": stack(enhancing, core, whole),
        "the regions are in another order: whole tumour first, then the core": stack(core, whole, enhancing),
        "the regions are in another order: the enhancing tumour is the last one": stack(whole, enhancing, core),
        "the core is 2 and 3, without the edema 1": stack(whole, (1, 3), enhancing),
        "the core is 2 and 3, not 1 and 2": stack(whole, (1, 2), enhancing),
        "the core contains the enhancing tumour: 2 and 3": stack(whole, (2,), enhancing),
        "the enhancing tumour is 3, not 2": stack(whole, core, (2,)),
        "the whole tumour has all of 1, 2, 3": stack((1, 2), core, enhancing),
        "the whole tumour has the edema, 1, as well": stack(core, core, enhancing),
        "the whole tumour is 1, 2 and 3, not only the edema": stack((1,), core, enhancing),
        "the background is inside out: regions are where the tumour is": lambda label: ~stack(whole, core, enhancing)(label),
        "BraTS codes the enhancing tumour as 4; here it is 3": stack(whole, core, (4,)),
        "BraTS codes the enhancing tumour as 4, the core as 1 and 4; here they are 3, and 2 and 3":
            stack((1, 2, 4), (1, 4), (4,)),
    }  # fmt: skip
    rng = np.random.default_rng(17)
    cases = [np.array([0, 1, 2, 3]), np.array([[3, 0, 1], [2, 1, 1]], dtype="uint8"), np.array([[[0, 3], [2, 2]]], dtype="int16")]
    cases += [rng.integers(0, 4, shape).astype(kind) for shape, kind in
              [((5, 4, 3), "uint8"), ((3, 6, 2, 4), "int32"), ((1, 2, 3, 2, 3), "int64"), ((3, 3, 3), "int8")]]  # fmt: skip
    cases += [np.zeros((2, 3, 4), "uint8"), np.full((3, 2), 1), np.full((2, 2), 3)]
    for label in cases:
        raw = check.call(label)
        plain = None if raw is None else np.shape(_plain(raw))
        if plain == (3, *label.shape) and plain != (*label.shape, 3):
            check.fail(f"an array of shape {(*label.shape, 3)}", f"shape {plain}", "the regions are the last axis: np.stack(…, axis=-1)")
        got = check.array(raw, (*label.shape, 3), "an array")
        expected = stack(whole, core, enhancing)(label)
        check.match(got, expected, "whole tumour 1∪2∪3, tumour core 2∪3, enhancing tumour 3, on the last axis", _evaluate(mistakes, label))
        check.require(got.dtype == bool, "values of type bool", f"values of type {got.dtype}", "compare (==, >=, np.isin), or "
                      "convert with astype(bool)")  # fmt: skip
    check.done()
