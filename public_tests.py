"""The checks under the exercises: one `<function>_test(target)` for each function that a student writes.

A check calls the student's function on small cases that can be worked out by hand, then on random ones against an
independent calculation, then on the awkward ones (a rate over nothing, a value exactly at the threshold, an image that
is not a cube). All is well: it prints one green line. Otherwise it raises `AssertionError` and shows the input, what
was expected, what came back and, where the answer is a well-known slip, which one. A function that is not written yet
raises `NotImplementedError`, and so does its check; any other error inside the function is reported with its input.

A check judges what a function returns, not how. It cannot prove a function right, and it does not look at style, speed
or comments. What else it does not look at stands in its docstring.
"""

import copy
import re
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from statistics import NormalDist
from typing import Any, NoReturn

import numpy as np
import pandas as pd

# Every exercise and the notebook it belongs to, in the order of the notebooks.
EXERCISES: dict[str, int] = {
    "check_for_leakage": 1,
    "repair_leakage": 1,
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
    "positives_needed": 2,
    "expected_calibration_error": 2,
    "net_benefit": 2,
    "get_sub_volume": 3,
    "standardize": 3,
    "up_step": 3,
    "single_class_dice_coefficient": 3,
    "dice_coefficient": 3,
    "soft_dice_loss": 3,
    "compute_class_sens_spec": 3,
    "get_regions": 3,
    "lesion_recall": 3,
}

# Points of each exercise; the headers of the lessons' cells say the same.
POINTS: dict[str, int] = {
    "check_for_leakage": 12,
    "repair_leakage": 8,
    "compute_class_freqs": 10,
    "get_weighted_loss": 30,
    "grad_cam": 40,
    "true_positives": 4,
    "true_negatives": 4,
    "false_positives": 4,
    "false_negatives": 4,
    "get_accuracy": 6,
    "get_prevalence": 4,
    "get_sensitivity": 7,
    "get_specificity": 7,
    "get_ppv": 7,
    "get_npv": 7,
    "bootstrap_patients": 18,
    "positives_needed": 6,
    "expected_calibration_error": 12,
    "net_benefit": 10,
    "get_sub_volume": 16,
    "standardize": 12,
    "up_step": 10,
    "single_class_dice_coefficient": 8,
    "dice_coefficient": 12,
    "soft_dice_loss": 12,
    "compute_class_sens_spec": 12,
    "get_regions": 8,
    "lesion_recall": 10,
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
    return np.array(np.asarray(value), subok=False)


def _show(value: Any) -> str:
    """A value in few words: small arrays whole, large ones by shape and type."""
    if isinstance(value, pd.DataFrame):
        return (
            f"DataFrame({value.to_dict('list')}, index={list(value.index)})"
            if value.size <= 60
            else f"DataFrame of {len(value)} rows"
        )
    if isinstance(value, (tuple, list)):
        inside = ", ".join(_show(part) for part in value[:8]) + (", …" if len(value) > 8 else "")
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    if isinstance(value, np.ndarray) or (hasattr(value, "shape") and hasattr(value, "dtype")):
        try:
            array = _plain(value)
        except Exception:
            return f"<{type(value).__name__}>"
        if array.size > 40:
            return f"<{array.dtype} array of shape {array.shape}>"
        return " ".join(np.array2string(array, separator=", ", precision=5, max_line_width=10_000).split())
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (type(None), bool, int)):
        return str(value)
    return repr(value[:200]) if isinstance(value, str) else f"<{type(value).__name__}>"


def _same(left: Any, right: Any) -> bool:
    """Whether an argument is still what it was before the call."""
    if isinstance(left, pd.DataFrame):
        return left.equals(right)
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def _close(got: Any, expected: Any, tolerance: float) -> bool:
    """Equal up to rounding, nan equal to nan; tuples part by part."""
    if isinstance(expected, tuple):
        return len(got) == len(expected) and all(_close(g, e, tolerance) for g, e in zip(got, expected))
    got, expected = np.asarray(got), np.asarray(expected)
    return got.shape == expected.shape and np.allclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


class CheckFailed(AssertionError):
    """What a check says. In a notebook it is shown without the lines of this file."""

    def _render_traceback_(self) -> list[str]:
        lines = str(self).split("\n")
        if self.__cause__ is not None:
            lines += _own_lines(self.__cause__)
        return lines


class NotWritten(NotImplementedError):
    """The exercise is as it was handed out."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def _own_lines(error: BaseException) -> list[str]:
    """The line of the student's own code in which an error arose, without those of libraries."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [n for n, frame in enumerate(frames) if frame.filename == __file__]
    own = [
        f
        for f in frames[inside[-1] + 1 if inside else 0 :]
        if not re.search(r"site-packages|dist-packages|[/\\]lib[/\\]python", f.filename)
    ]
    return [f"  where:    line {frame.lineno} of {frame.name}: {frame.line}" for frame in own[-1:]]


# Well-known errors: what the text of the error says → what to do.
_ERRORS = {
    r"bitwise_(and|or)|unsupported operand type\(s\) for [&|]|(and|or)_' not supported|cannot perform 'r?(and|or)_'": (
        "put brackets around each comparison: `(pred >= th) & (y == 1)`; without them Python computes `th & y` first"
    ),
    r"truth value of an array|truth value of a (Series|DataFrame)": (
        "`and`, `or`, `not` and chained comparisons do not work on arrays: use &, | and ~, with brackets around each comparison"
    ),
    r"no attribute 'gradients'": "`gradients` is gone since TensorFlow 2: `with tf.GradientTape() as tape`, then `tape.gradient`",
    r"'numpy' has no attribute '(float|int|bool|object|str)'": "np.float, np.int and np.bool are gone: write float, int, bool",
    r"has no attribute 'float_'": "np.float_ is gone since NumPy 2: write np.float64",
    r"has no attribute 'product'": "np.product is gone: np.prod",
    r"has no attribute '(trapz|in1d|alltrue|sometrue|cumproduct|row_stack)'": (
        "this function is gone since NumPy 2: np.trapezoid, np.isin, np.all, np.any, np.cumprod, np.vstack are the present names"
    ),
    r"(tensorflow|keras\.backend).* has no attribute 'log'": "tf.log is gone since TensorFlow 2: keras.ops.log (or tf.math.log)",
    r"(tensorflow|keras).* has no attribute '(to_float|to_int32)'": "this function is gone: keras.ops.cast(x, 'float32')",
    r"tensorflow.* has no attribute '(Session|placeholder|get_default_graph|global_variables_initializer)'": (
        "sessions and placeholders are gone since TensorFlow 2: call the model, it computes at once"
    ),
    r"keras\.(api\.)?(_?v2\.)?.*backend.* has no attribute": "keras.backend (K) is gone in Keras 3: keras.ops has it",
    r"'(K|backend)' is not defined": "keras.backend (K) is gone in Keras 3: keras.ops has its functions",
    r"'tf' is not defined": "import it: `import tensorflow as tf`",
    r"output size would be zero or negative": (
        'the map is too small for a convolution without a border: keep the size, `padding="same"`'
    ),
    r"is out of bounds for axis|index \d+ is out of bounds|slice index .* out of bounds|Invalid reduction dimension": (
        "an index or an axis is beyond the end: is a number fixed in your code, or one too large? Take it from the argument"
    ),
    r"is incompatible with the layer: expected shape=\(None": (
        "the model takes a batch: give it a first axis, `image[np.newaxis]`"
    ),
    r"matching shapes except for the concatenation": (
        "the tensors that are joined differ in size: enlarge x by 2 along all three axes first, to the size of `skip`"
    ),
    r"'(DataFrame|Series)' object has no attribute '(append|ix|iteritems|as_matrix)'": (
        "this method is gone since pandas 2: pd.concat for append, .loc or .iloc for ix, .items, .to_numpy"
    ),
}


def _advice(error: BaseException) -> str:
    """What to do about an error that many make."""
    return next((advice for pattern, advice in _ERRORS.items() if re.search(pattern, str(error))), "")


def _alike(got: Any, expected: pd.DataFrame) -> bool:
    """The same rows under the same labels, in the same order; the types of the columns do not matter."""
    return (
        isinstance(got, pd.DataFrame)
        and list(got.columns) == list(expected.columns)
        and list(got.index) == list(expected.index)
        and _values(got) == _values(expected)
    )


def _values(table: pd.DataFrame) -> dict[str, list]:
    """The columns as lists, with None for what is missing: nan is not equal to itself."""
    return table.astype(object).where(table.notna(), None).to_dict("list")


@dataclass(frozen=True)
class Case:
    """One input of a check: what it is about, the arguments, what is expected, and what to say when it is not that."""

    key: str
    args: tuple
    expected: Any
    hint: str
    options: dict[str, Any] = field(default_factory=dict)
    error: str = ""  # in place of the usual hint when the function raises
    named: bool = True  # whether a well-known slip may be named here (not where nan is expected: that is the point then)


class Check:
    """One check in progress: calls the student's function, reads what it returns, compares, and counts what passed.

    A subclass may carry the calls somewhere else (`apply`, `gradient`, `random_state`) or go on after a mistake (`case`,
    `require`, `match`, `done`). The autograder does both.

    Parameters
    ----------
    name : str
        The exercise.
    target : callable
        The student's function.
    arguments : sequence of str
        Names of its positional arguments, for the messages.
    tolerance : float
        Relative and absolute, in `match`.
    seed : int, optional
        Draws other random cases, and more of them (`rounds`). Without it they are the public ones, always the same.
    """

    def __init__(
        self, name: str, target: Any, arguments: Sequence[str], *, tolerance: float = 1e-6, seed: int | None = None
    ) -> None:
        self.name, self.target, self.arguments, self.tolerance, self.seed = name, target, arguments, tolerance, seed
        self.passed, self.given = 0, f"{name}_test({_show(target)})"  # the input to show: text, or what makes it
        _PASSED.pop(name, None)
        _PASSED[name] = False
        if not callable(target):
            self.fail(f"the function {name} itself", target, f"write {name}_test({name}), without calling it")

    @property
    def rounds(self) -> int:
        """How often the random cases are drawn."""
        return 1 if self.seed is None else 4

    def rng(self, number: int) -> np.random.Generator:
        """The generator of this number; with a seed, of this number and the seed."""
        return np.random.default_rng(number if self.seed is None else [self.seed, number])

    def shuffle(self, cases: list) -> list:
        """The cases, with a seed in random order: a function that counts its calls learns nothing."""
        return cases if self.seed is None else [cases[k] for k in self.rng(0).permutation(len(cases))]

    def message(self, expected: Any, got: Any, hint: str) -> str:
        expected, got = (part if isinstance(part, str) else _show(part) for part in (expected, got))
        given = self.given if isinstance(self.given, str) else self.given()
        return (
            f"{self.name}: something is not right yet ({self.passed} checks passed before this one)\n"
            f"  input:    {given}\n  expected: {expected}\n  got:      {got}\n  hint:     {hint}"
        )

    def fail(self, expected: Any, got: Any, hint: str) -> NoReturn:
        """What came back cannot be judged any further: this case ends."""
        raise CheckFailed(self.message(expected, got, hint))

    def case(self, key: str) -> AbstractContextManager:
        """What belongs to one case. `key` names what the case is about ("exactly at the threshold")."""
        return nullcontext()

    def require(self, key: str, condition: Any, expected: Any, got: Any, hint: str) -> None:
        """One requirement; `key` names it."""
        if not bool(condition):
            self.fail(expected, got, hint)
        self.passed += 1

    def match(self, key: str, got: Any, expected: Any, hint: str, slips: Callable[[], list[str]] = list) -> None:
        """Compare with what was expected. `slips` names the mistakes that explain the difference: two at most are told."""
        if not self.close(got, expected):
            found = slips()
            self.fail(expected, got, "; or: ".join(found) if 0 < len(found) <= 2 else hint)
        self.passed += 1

    def close(self, got: Any, expected: Any) -> bool:
        """Equal up to the tolerance, nan equal to nan; tuples and tables part by part."""
        if isinstance(expected, pd.DataFrame):
            return _alike(got, expected)
        return _close(got, expected, self.tolerance)

    def apply(self, function: Callable, args: list, options: dict[str, Any]) -> tuple[Any, list]:
        """What the function returns, and the arguments as it left them."""
        return function(*args, **options), args

    def call(self, *args: Any, function: Callable | None = None, hint: str = "", **options: Any) -> Any:
        """What the function returns; its errors and its changes to the arguments are reported."""
        names = self.arguments if function is None else ["y_true", "y_pred"]
        handed = [copy.deepcopy(a) if isinstance(a, (np.ndarray, pd.DataFrame)) else a for a in args]
        called = self.name if function is None else f"the function that {self.name} returned"
        self.given = lambda: f"{called}({', '.join(f'{k}={_show(v)}' for k, v in [*zip(names, args), *options.items()])})"
        try:
            with warnings.catch_warnings():  # 0/0 in NumPy warns; the value is judged, the warning is not
                warnings.simplefilter("ignore")
                got, after = self.apply(function or self.target, handed, options)
        except NotImplementedError as error:
            todo = (
                f"{called} is not written yet: put your code in place of `raise NotImplementedError`, run that cell, then this one"
            )
            raise NotWritten(f"{todo}. {error}".removesuffix(". ")) from error
        except (Exception, SystemExit) as error:
            if isinstance(error, TypeError) and "argument" in str(error):
                hint = hint or "keep the names and the order of the arguments as the exercise gives them"
            text = self.message(
                "a value, not an error",
                f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"[:300],
                _advice(error) or hint or "read the error, and the line of your code that it names",
            )
            raise CheckFailed(text) from error
        for name, was, now in zip(names, args, after):
            if was is not now and not _same(was, now):
                self.fail(
                    f"`{name}` as it was before the call",
                    f"{name}={_show(now)}",
                    f"your function changed its argument `{name}`: work on a copy of it",
                )
        return got

    def random_state(self) -> Any:
        """The state of NumPy's global generator, which a student's function leaves alone."""
        return str(np.random.get_state())

    def gradient(self, function: Callable, at: np.ndarray) -> Any:
        """Gradient of a scalar function of one tensor; None where there is none, NotImplemented on other backends."""
        import keras

        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            point = tf.constant(at)
            with tf.GradientTape() as tape:
                tape.watch(point)
                value = function(point)
            gradient = tape.gradient(value, point) if tf.is_tensor(value) else None
            return None if gradient is None else _plain(gradient)
        if keras.config.backend() == "jax":
            import jax

            return _plain(jax.grad(function)(at))
        return NotImplemented

    def array(self, value: Any, shape: tuple[int, ...] | None, what: str = "an array") -> np.ndarray:
        """The value as an array of real numbers of this shape, or a message that says what it is instead."""
        wanted = what if shape is None else "a single number" if shape == () else f"{what} of shape {shape}"
        if value is None:
            self.fail(wanted, None, "your function returned None: is a `return` missing, or a `None` still in place of your code?")
        if callable(value):
            self.fail(wanted, value, "this is a function or a layer, not its result: call it, for example `layer(x)`")
        try:
            array = _plain(value)
            if array.dtype == object:  # for example a Fraction
                array = np.array([float(part) for part in array.ravel()]).reshape(array.shape)
        except Exception as error:
            hint = f"this is a {type(value).__name__}, not {wanted}"
            if not isinstance(value, (set, frozenset, dict)):
                hint = f"this cannot be read as numbers: {error}"
            raise CheckFailed(self.message(wanted, value, hint)) from error
        if array.dtype.kind not in "buif":
            self.fail(wanted, value, f"real numbers are needed, not values of type {array.dtype}")
        if shape is not None and array.shape != shape:
            hint = "" if shape else "; over which axes do you sum or average?"
            if shape == () and array.size == 1:
                hint = ": return the number itself, without an array or list around it"
            elif shape == () and array.dtype == bool:
                hint = ": this says True or False for each one; what is asked for is one number"
            self.fail(wanted, f"{_show(value)}, shape {array.shape}", f"the shape is {array.shape}, not {shape}{hint}")
        return array

    def frame(self, value: Any, what: str) -> pd.DataFrame:
        """The value as a table, or a message that says what it is instead."""
        if value is None:
            hint = "your function returned None: is a `return` missing? (With inplace=True pandas returns None)"
            self.fail(what, None, hint)
        if not isinstance(value, pd.DataFrame):
            self.fail(what, value, "return a DataFrame: rows of the table, with all its columns")
        return value

    def pair(self, value: Any, first: str, second: str) -> tuple[Any, Any]:
        """The value as a tuple of two."""
        if value is None:
            self.fail(
                f"({first}, {second})",
                None,
                "your function returned None: is a `return` missing, or a `None` still in place of your code?",
            )
        if isinstance(value, (dict, set, str)) or not hasattr(value, "__len__") or len(value) != 2:
            self.fail(f"two values, ({first}, {second})", value, f"write `return {first}, {second}`")
        return value[0], value[1]

    def judge(
        self,
        cases: list[Case],
        mistakes: Mistakes,
        read: Callable[[Any], Any] | None = None,
        ask: Callable[[Case], Any] | None = None,
    ) -> None:
        """All cases: call (`ask`), read what comes back (unless told otherwise, a single number), compare."""
        read = read or (lambda value: float(self.array(value, ())))
        ask = ask or (lambda case: read(self.call(*case.args, hint=case.error, **case.options)))
        for case in self.shuffle(cases):
            with self.case(case.key):
                got = ask(case)
                self.match(case.key, got, case.expected, case.hint, partial(self.slips, case, got, cases, mistakes, ask))

    def slips(self, case: Case, got: Any, cases: list[Case], mistakes: Mistakes, ask: Callable[[Case], Any]) -> list[str]:
        """The mistakes that explain what came back here and in all other cases: a number alone is soon hit by chance."""
        if not case.named:
            return []
        shown, found = self.given, self.explain(got, case.expected, _evaluate(mistakes, *case.args, **case.options))
        for other in cases:
            if not found:
                break
            if other is case or not other.named:
                continue
            try:
                answer = ask(other)
            except Exception:
                continue
            values = _evaluate({slip: mistakes[slip] for slip in found}, *other.args, **other.options)
            found = [slip for slip in found if slip not in values or self.close(answer, values[slip])]
        self.given = shown
        return found

    def explain(self, got: Any, expected: Any, values: dict[str, Any]) -> list[str]:
        """The mistakes whose values came back."""
        return [slip for slip, value in values.items() if self.close(got, value) and not self.close(value, expected)]

    def done(self) -> None:
        """All is well: say so."""
        _PASSED[self.name] = True
        points = f" ({POINTS[self.name]} points)" if POINTS.get(self.name) else ""
        # only the tick is green: in Jupyter's dark theme green text would have a contrast of 3 : 1
        print(f"\033[1;32m✓\033[39m {self.name}: all {self.passed} checks passed{points}\033[0m")


_PASSED: dict[str, bool] = {}  # checks that ran in this session: whether the last run was passed


def summary(notebook: int | None = None) -> None:
    """Print a row for each exercise of a notebook and the points so far (of the public checks, not the mark).

    Parameters
    ----------
    notebook : int, optional
        1, 2 or 3; without it the notebook whose checks ran last.
    """
    if notebook is None:
        if not _PASSED:
            print("No check has run yet: run the cells above, from the first one on.")
            return
        notebook = EXERCISES[list(_PASSED)[-1]]
    names = [name for name, number in EXERCISES.items() if number == notebook]
    for name in names:
        got = POINTS[name] if _PASSED.get(name) else 0
        state = {True: "✓", False: "✗ not right yet", None: "– not checked yet"}[_PASSED.get(name)]
        print(f"{name:<32}{got:>4} of {POINTS[name]:>3}  {state}")
    print(f"{'all together':<32}{sum(POINTS[n] for n in names if _PASSED.get(n)):>4} of {sum(POINTS[n] for n in names):>3}")


def _evaluate(mistakes: Mistakes, *args: Any, **options: Any) -> dict[str, Any]:
    """What each known mistake would have answered (those that cannot be computed here are left out)."""
    values = {}
    for slip, formula in mistakes.items():
        try:
            with np.errstate(all="ignore"):
                values[slip] = formula(*args, **options)
        except Exception:
            continue
    return values


def _reproduces(check: Check, draw: Callable[[np.random.Generator], Any], seeds: int = 8) -> None:
    """A random function takes its randomness from the generator it is given, and from nowhere else."""
    with check.case("randomness from rng"):
        before = check.random_state()
        first, second = ([draw(check.rng(number)) for number in range(seeds)] for _ in range(2))
        after = check.random_state()
        rng = check.rng(0)
        check.require(
            "randomness from rng",
            first == second,
            "the same result for two generators with the same seed",
            "different results",
            "draw with the generator `rng` that you were given, not with a new one and not with np.random",
        )
        check.require(
            "randomness from rng",
            len(set(first)) > 1,
            "different results for generators with different seeds",
            "always the same one",
            "draw with `rng`; a fixed seed inside the function makes all samples equal",
        )
        check.require(
            "randomness from rng",
            len({draw(rng) for _ in range(seeds)}) > 1,
            "another draw at each call with the same generator",
            "the same draw again and again",
            "draw with `rng` itself, so that it moves on",
        )
        check.require(
            "randomness from rng",
            before == after,
            "np.random left alone",
            "the global random state was changed",
            "use the methods of `rng`, never np.random.seed, np.random.choice or np.random.randint",
        )


# ---------------------------------------------------------------------------------------------------------------------
# NOTEBOOK 01: chest X-ray classification
# ---------------------------------------------------------------------------------------------------------------------


def check_for_leakage_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `check_for_leakage(df1, df2, patient_col)`.

    Not checked: tables without the column, missing patient numbers, speed on large tables.
    """
    check = check("check_for_leakage", target, ["df1", "df2", "patient_col"], seed=seed)

    def frame(ids: list, column: str = "PatientId", index: list | None = None) -> pd.DataFrame:
        images = [f"{i:03d}.png" for i in range(len(ids))]  # the same names in each table: only patients count
        return pd.DataFrame({"Image": images, column: ids}, index=index)

    column = "use the column that `patient_col` names"
    row_numbers = "compare the column, not the row numbers (`x in series` looks at the index)"
    cases = [
        ("patients", frame([0, 1, 2]), frame([2, 3, 4]), "PatientId", True, "patient 2 is in both tables"),
        (
            "patients",
            frame([0, 1, 2]),
            frame([3, 4, 5]),
            "PatientId",
            False,
            "no patient is in both tables (image names do not count)",
        ),
        ("patients", frame([1, 2, 3, 4]), frame([9, 8, 7, 1]), "PatientId", True, "the shared patient stands in other rows"),
        (
            "patients",
            frame([5, 5, 6]),
            frame([7, 7, 8]),
            "PatientId",
            False,
            "several X-rays of a patient in one table are no leak",
        ),
        ("patients", frame([5, 5, 6, 6]), frame([5, 5, 6]), "PatientId", True, "both patients are in both tables"),
        ("patients", frame([1, 2]), frame([3, 4, 5, 6, 2]), "PatientId", True, "the tables need not be equally long"),
        (
            "patients",
            frame([3, 8]),
            frame([3, 9]).assign(Image=["x.png", "y.png"]),
            "PatientId",
            True,
            "patient 3 is in both tables, with different X-rays",
        ),
        ("row labels", frame([10, 11, 12]), frame([0, 1, 2]), "PatientId", False, row_numbers),
        ("row labels", frame([10, 11, 12]), frame([12, 20, 30]), "PatientId", True, row_numbers),
        (
            "row labels",
            frame([1, 2], index=[7, 8]),
            frame([2, 1], index=[30, 40]),
            "PatientId",
            True,
            "the row labels do not matter",
        ),
        ("text", frame(["a1", "b2"]), frame(["c3", "a1"]), "PatientId", True, "patient numbers may be text"),
        ("text", frame(["1", "2"]), frame(["12", "21"]), "PatientId", False, "no patient is in both tables: 1 is not 12"),
        ("column", frame([1, 2], "case"), frame([2, 5], "case"), "case", True, column),
        ("column", frame([1, 2], "case"), frame([4, 5], "case"), "case", False, column),
        ("column", frame([1, 2], "Patient ID"), frame([2, 5], "Patient ID"), "Patient ID", True, column),
        ("patients", frame([0, 1]), frame([0, 5]), "PatientId", True, "patient 0 is in both tables: 0 is a number like any other"),
        ("patients", frame([1, 2]), frame([1, 2]).iloc[:0], "PatientId", False, "an empty table shares no patient"),
    ]
    both = frame([1, 2, 3]).assign(Study=[100, 200, 300]), frame([4, 5, 6]).assign(Study=[300, 400, 500])
    cases += [("column", *both, "PatientId", False, column), ("column", *both, "Study", True, column)]
    rng = check.rng(1)
    sets = "compare the sets of patients"
    for _ in range(check.rounds):
        for limit in (30, 90, 3000):
            left, right = rng.integers(0, limit, 12).tolist(), rng.integers(0, limit, 9).tolist()
            cases.append(("patients", frame(left), frame(right), "PatientId", bool(set(left) & set(right)), sets))
        for key in ("patients", "row labels", "text", "column") * 2:
            numbers, shared = rng.permutation(500) + 1, bool(rng.random() < 0.5)
            left, right = rng.choice(numbers[:10], 8), rng.choice(numbers[10:20], 7)
            if shared:
                right[rng.integers(7)] = left[rng.integers(8)]
            if key == "text":
                left, right = left.astype(str), right.astype(str)
            name = str(rng.choice(["Subject ID", "case", "pid"])) if key == "column" else "PatientId"
            rows = [rng.permutation(600)[: len(ids)].tolist() if key == "row labels" else None for ids in (left, right)]
            tables = [frame(ids.tolist(), name, index) for ids, index in zip((left, right), rows)]
            cases.append((key, *tables, name, shared, column if key == "column" else sets))

    def said(shared: Callable[[list, list], bool]) -> Callable[[pd.DataFrame, pd.DataFrame, str], bool]:
        """A mistake in the comparison of the two columns."""
        return lambda df1, df2, c: bool(shared(df1[c].tolist(), df2[c].tolist()))

    def rows(df: pd.DataFrame) -> set:
        return set(df.itertuples(index=False, name=None))

    mistakes: Mistakes = {
        "this is the opposite: True means that a patient is in both tables": said(lambda a, b: not set(a) & set(b)),
        "only the first patient was looked at: is there a `return False` inside of the loop?": said(
            lambda a, b: a[:1] and a[0] in b
        ),
        "several X-rays of a patient in one table are no leak": said(lambda a, b: len({*a, *b}) < len(a + b)),
        "the rows were compared one by one: a patient may stand in any row of the other table": said(
            lambda a, b: any(one == other for one, other in zip(a, b))
        ),
        "the columns were compared as a whole: one patient in both is enough": said(lambda a, b: a == b),
        "one patient in both is enough, not all of them": said(lambda a, b: set(a) <= set(b)),
        "one patient in both is enough, not all of the second table": said(lambda a, b: set(b) <= set(a)),
        "the smallest and the largest numbers were compared: those between need not be in both tables": said(
            lambda a, b: bool(a and b) and max(a) >= min(b) and max(b) >= min(a)
        ),
        "the sorted numbers were compared place by place: a shared patient may stand at another place": said(
            lambda a, b: any(one == other for one, other in zip(sorted({*a}), sorted({*b})))
        ),
        "two patients in both were asked for: one is enough": said(lambda a, b: len({*a} & {*b}) > 1),
        "this is True for all tables: are their columns compared in place of the patients (`set(df)` has the names)?": said(
            lambda a, b: True
        ),
        "numbers that are part of others were found: compare whole ones": said(
            lambda a, b: any(str(one) in str(other) for one in a for other in b)
        ),
        "whole rows were compared: only the column `patient_col` counts": lambda df1, df2, c: bool(rows(df1) & rows(df2)),
        "this looks at the row numbers: compare the columns (`x in series` looks at the index)": lambda df1, df2, c: bool(
            set(df1[c]) & set(df2.index)
        ),
        "the row labels were compared: compare the column `patient_col`": lambda df1, df2, c: bool(set(df1.index) & set(df2.index)),
    }

    def read(value: Any) -> bool:
        other = isinstance(value, (str, set, frozenset, dict, pd.DataFrame))
        answer = value if other else check.array(value, None, "True or False")
        if other or answer.shape != () or answer.dtype != bool:
            hint = "return one bool, True or False: not the shared patients, not their number, not one value per row, not a text"
            check.fail("True or False", value, hint)
        return bool(answer)

    check.judge(
        [
            Case(key, (*tables, name), expected, hint, {}, column if key == "column" else "")
            for key, df1, df2, name, expected, hint in cases
            for tables in ((df1, df2), (df2, df1))
        ],
        mistakes,
        read,
    )
    check.done()


def repair_leakage_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `repair_leakage(train, valid, patient_col)`.

    Not checked: tables without the column, missing patient numbers, the types of the columns.
    """
    check = check("repair_leakage", target, ["train", "valid", "patient_col"], seed=seed)

    def table(ids: list, column: str = "PatientId", index: list | None = None) -> pd.DataFrame:
        images = [f"{i:03d}.png" for i in range(len(ids))]
        return pd.DataFrame({"Image": images, column: ids, "View": ["PA"] * len(ids)}, index=index)

    def kept(train: pd.DataFrame, valid: pd.DataFrame, column: str) -> pd.DataFrame:
        return train[~train[column].isin(valid[column])]

    def first_row_only(train: pd.DataFrame, valid: pd.DataFrame, column: str) -> pd.DataFrame:
        shared = train[column].isin(valid[column])
        return train[~(shared & ~train[column].duplicated())]

    mistakes: Mistakes = {
        "nothing was removed: leave out the rows of `train` whose patient is in `valid`": lambda t, v, c: t,
        "these are the rows whose patient is in `valid`: keep the others": lambda t, v, c: t[t[c].isin(v[c])],
        "these are rows of `valid`: clean `train`, `valid` stays as it is": lambda t, v, c: v[~v[c].isin(t[c])],
        "this is the whole table `valid`: return rows of `train`": lambda t, v, c: v,
        "the index was renumbered: keep the row labels of `train` (no reset_index, no merge)": lambda t, v, c: kept(
            t, v, c
        ).reset_index(drop=True),
        "only the last patient of `valid` is gone: take each away from what remains, not from `train` again": lambda t, v, c: t[
            t[c] != v[c].unique()[-1]
        ],
        "several rows of one patient became one: keep all rows of a patient": lambda t, v, c: kept(t, v, c).drop_duplicates(c),
        "only the first row of each shared patient was removed: all of them must go": first_row_only,
        "rows were removed by row label: compare the column `patient_col`": lambda t, v, c: t[~t.index.isin(v.index)],
        "the rows of `train` and `valid` were joined: return rows of `train` only": lambda t, v, c: pd.concat([kept(t, v, c), v]),
        "rows with a missing value in another column are gone: keep them (no dropna)": lambda t, v, c: kept(t, v, c).dropna(),
        "rows that are equal became one: keep all of them (no drop_duplicates)": lambda t, v, c: kept(t, v, c).drop_duplicates(),
        "a missing value was filled: leave all values as they are": lambda t, v, c: kept(t, v, c).fillna({"Age": 0}),
    }
    ages = table([1, 2, 2, 3, 4]).assign(Age=[np.nan, 50.0, np.nan, 61.0, np.nan]), table([2, 5]).assign(Age=[np.nan, 40.0])
    tables_of = [
        ("patients", table([0, 1, 2, 3]), table([2, 5]), "PatientId", "patient 2 is in both tables"),
        ("patients", table([4, 4, 1, 4, 7]), table([4, 9]), "PatientId", "all rows of patient 4 must go"),
        ("patients", table([3, 1, 1, 2]), table([8, 9]), "PatientId", "no patient is in both: nothing is removed"),
        ("patients", table([1, 2, 2]), table([2, 1]), "PatientId", "all patients are in both: an empty table remains"),
        ("row labels", table([5, 1, 2], index=[7, 3, 9]), table([1], index=[9]), "PatientId", "keep index and order"),
        ("row labels", table([10, 11, 12]), table([0, 1, 12]), "PatientId", "compare the column, not the row numbers"),
        ("column", table([1, 2, 3], "case"), table([2, 5], "case"), "case", "use the column that `patient_col` names"),
        ("text", table(["1", "12", "2"]), table(["2", "21"]), "PatientId", "compare whole numbers, not parts of them"),
        ("patients", table([3, 3, 1, 2]).assign(Image="a.png"), table([1]), "PatientId", "rows that are equal stay, each of them"),
        ("missing values", *ages, "PatientId", "an unknown age is no reason to leave a row out"),
    ]
    rng = check.rng(21)
    for key in ("patients", "row labels", "column", "text") * (2 * check.rounds):
        numbers = rng.permutation(400) + 1
        train, valid = rng.choice(numbers[:9], int(rng.integers(5, 14))), rng.choice(numbers[6:14], 6)
        name = str(rng.choice(["Subject ID", "case", "pid"])) if key == "column" else "PatientId"
        if key == "text":
            train, valid = train.astype(str), valid.astype(str)
        rows = [rng.permutation(600)[: len(ids)].tolist() if key == "row labels" else None for ids in (train, valid)]
        tables = [table(ids.tolist(), name, index) for ids, index in zip((train, valid), rows)]
        if key == "column":  # the other column would answer something else
            tables = [frame.assign(PatientId=rng.integers(0, 4, len(frame))) for frame in tables]
        tables_of.append((key, *tables, name, "keep the rows of `train` whose patient is not in `valid`, in their order"))

    def read(value: Any) -> pd.DataFrame:
        got = check.frame(value, "a DataFrame: the rows of `train` that remain")
        added = [str(name) for name in got.columns if name not in set(columns)]
        if not added and len(got.columns) < 3:
            check.fail("the columns of `train`", f"columns {', '.join(map(str, got.columns))}", "keep all columns of `train`")
        if added:
            hint = "keep the columns of `train`, and add none" + (
                "; reset_index makes a column of the index" if "index" in added else ""
            )
            check.fail("the columns of `train`", f"columns {', '.join(map(str, got.columns))}", hint)
        return got

    def ask(case: Case) -> pd.DataFrame:
        got, right = read(check.call(*case.args, hint=case.error)), case.expected
        same = len(got) == len(right) and set(got.index) == set(right.index) and list(got.columns) == list(right.columns)
        if same and not _alike(got, right) and _alike(got.loc[right.index], right):
            hint = "the order of the rows has changed: keep the order of `train` (no sort_values, sort_index or merge)"
            check.fail(right, got, hint)
        if len(got) == len(case.args[0]) and got.isna().all(axis=1).any():
            check.fail(right, got, "rows are blank now, they are still there: `train[…]` in place of `train.where(…)`")
        return got

    columns = ["Image", "View", "Age", "PatientId", *{name for *_, name, _ in tables_of}]
    error = "is it a column that is not there? Use the column that `patient_col` names"
    cases = [
        Case(key, (t, v, name), kept(t, v, name), hint, {}, error if key == "column" else "") for key, t, v, name, hint in tables_of
    ]
    check.judge(cases, mistakes, ask=ask)
    check.done()


def compute_class_freqs_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `compute_class_freqs(labels)`.

    Not checked: labels other than 0 and 1, tables without rows.
    """
    check = check("compute_class_freqs", target, ["labels"], seed=seed)
    rng, rows = check.rng(2), "divide by the number of patients (rows)"
    cases = [
        np.array([[1, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1], [1, 0, 1]]),
        np.array([[1, 0], [1, 0], [1, 0]]),
        np.array([[1, 0, 1, 1, 0]]),
        np.array([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]),
        (rng.random((37, 14)) < rng.random(14)).astype(int),
        (rng.random((4, 9)) < 0.3).astype(np.int64),
        (rng.random((211, 1)) < 0.2).astype(np.float32),
        (rng.random((700, 3)) < [0.9, 0.5, 0.1]).astype(int),  # more than 255 positives: no sum in uint8
    ]
    for kind in ("int64", "float32", "float64") * check.rounds:
        cases.append((rng.random(rng.integers(2, 40, 2)) < rng.uniform(0.1, 0.6)).astype(kind))
    mistakes: Mistakes = {
        "positive and negative frequencies are swapped": lambda a: (1 - a.mean(0), a.mean(0)),
        f"these are counts: {rows}": lambda a: (a.sum(0), (1 - a).sum(0)),
        "you averaged over the classes: average over the patients (axis=0)": lambda a: (a.mean(1), 1 - a.mean(1)),
        "this is one number for all classes: average over the patients only (axis=0)": lambda a: (a.mean(), 1 - a.mean()),
        f"you divided by the number of classes: {rows}": lambda a: (a.sum(0) / a.shape[1], (1 - a).sum(0) / a.shape[1]),
        f"you divided by the number of all labels: {rows}": lambda a: (a.sum(0) / a.size, (1 - a).sum(0) / a.size),
        f"these are shares of all positives: {rows}": lambda a: (a.sum(0) / a.sum(), (1 - a).sum(0) / (1 - a).sum()),
        "these are the odds: " + rows: lambda a: (a.sum(0) / (1 - a).sum(0), (1 - a).sum(0) / a.sum(0)),
        "the second one should be the negative frequencies": lambda a: (a.mean(0), a.mean(0)),
        "these are rounded: return the values themselves": lambda a: (a.mean(0).round(2), (1 - a.mean(0)).round(2)),
        "`//` leaves whole numbers only: divide with `/`": lambda a: (a.sum(0) // len(a), 1 - a.sum(0) // len(a)),
        "`//` leaves whole numbers only: divide both counts with `/`": lambda a: (a.sum(0) // len(a), (1 - a).sum(0) // len(a)),
        "the second ones are minus the first ones: subtract these from 1": lambda a: (a.mean(0), -a.mean(0)),
        "the last X-ray is left out": lambda a: (a[:-1].sum(0) / len(a), 1 - a[:-1].sum(0) / len(a)),
        "you divided by n − 1: divide by the number of patients": lambda a: (a.sum(0) / (len(a) - 1), 1 - a.sum(0) / (len(a) - 1)),
        "the sums are above 255 and begin again at 0: do not add up in uint8": lambda a: (
            a.sum(0) % 256 / len(a),
            1 - a.sum(0) % 256 / len(a),
        ),
        "the negative frequencies are 1 − the positive ones, not the other way round": lambda a: (a.mean(0), a.mean(0) - 1),
        f"the second ones are counts: {rows}": lambda a: (a.mean(0), (1 - a).sum(0)),
        f"the first ones are counts: {rows}": lambda a: (a.sum(0), 1 - a.mean(0)),
        "these are percentages: return fractions": lambda a: (100 * a.mean(0), 100 - 100 * a.mean(0)),
        "you divided by n − 1: divide by the number of patients, n": lambda a: (
            a.sum(0) / (len(a) - 1),
            (1 - a).sum(0) / (len(a) - 1),
        ),
    }

    def read(value: Any) -> tuple[np.ndarray, ...]:
        parts = check.pair(value, "positive_frequencies", "negative_frequencies")
        return tuple(check.array(part, None, "one frequency for each class") for part in parts)

    def ask(case: Case) -> tuple[np.ndarray, ...]:
        got, classes = read(check.call(*case.args)), case.args[0].shape[1]
        for part in got:
            if part.shape == (1, classes) or (part.shape == (1,) and classes > 1):
                why = "only the first class is there: is the `return` inside of the loop?" if part.shape == (1,) else ""
                why = why or "there is an axis too many: no keepdims, no list around the array"
                check.fail(f"two arrays of shape ({classes},)", f"{_show(got)}, shape {part.shape}", why)
        return got

    hint = "two arrays, one value per class: the share of ones, and the share of zeros, in each column"
    check.judge(
        [
            Case(
                "floats" if labels.dtype.kind == "f" else "integers",
                (labels,),
                (labels.mean(0, dtype=float), 1 - labels.mean(0, dtype=float)),
                hint,
            )
            for labels in cases
        ],
        {slip: lambda labels, wrong=wrong: wrong(labels.astype(float)) for slip, wrong in mistakes.items()},
        ask=ask,
    )
    check.done()


def _loss_terms(y: np.ndarray, p: np.ndarray, pos: Any, neg: Any, eps: float, out: float | None = None) -> np.ndarray:
    """The terms of the weighted loss, (n, classes), in double precision; `out`: epsilon of the second logarithm."""
    with np.errstate(all="ignore"):
        return -(pos * y * np.log(p + eps) + neg * (1 - y) * np.log(1 - p + (eps if out is None else out)))


def get_weighted_loss_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `get_weighted_loss(pos_weights, neg_weights, epsilon)` by calling the loss that it returns.

    Not checked: an error for labels that are integers (Keras hands a loss floats), the loss inside `model.fit`.
    """
    import keras

    check = check("get_weighted_loss", target, ["pos_weights", "neg_weights"], tolerance=2e-4, seed=seed)

    def make(pos: np.ndarray, neg: np.ndarray, **options: float) -> Callable:
        loss = check.call(pos, neg, **options)
        if not callable(loss):
            check.fail(
                "a function weighted_loss(y_true, y_pred)",
                loss,
                "get_weighted_loss returns the inner function itself: end with `return weighted_loss`, without calling it",
            )
        return loss

    cases = []

    def judge(key: str, y: Any, p: Any, pos: Any, neg: Any, hint: str, **options: float) -> None:
        y, p, pos, neg = (np.asarray(a, dtype=float) for a in (y, p, pos, neg))
        expected = _loss_terms(y, p, pos, neg, options.get("epsilon", 1e-7)).mean(0).sum()
        cases.append(Case(key, (y, p, pos, neg), expected, hint, options))

    def ask(case: Case) -> float:
        y, p, pos, neg = case.args
        loss = make(pos, neg, **case.options)
        made = check.given
        tensors = [keras.ops.convert_to_tensor(a.astype("float32")) for a in (y, p)]
        got = check.call(*tensors, function=loss)
        called = check.given
        check.given = lambda: f"{called()}, made by {made()}"
        if check.array(got, None).size > 1:
            check.fail(
                "a single number",
                got,
                "this is one value per class or per X-ray: take the mean over the batch, then the sum over the classes",
            )
        value = float(check.array(got, ()))
        again = float(check.array(check.call(*tensors, function=loss), ()))
        hint = "the second call gives another value than the first: start the sum at 0 inside of weighted_loss"
        check.match("second call", again, value, hint)
        check.given = lambda: f"{called()}, made by {made()}"
        return value

    def value(
        reduce: Callable = lambda terms: terms.mean(0).sum(), change: Callable = lambda y, p, pos, neg, eps: (y, p, pos, neg, eps)
    ):
        """A wrong loss: other arguments of `_loss_terms`, or another reduction of the terms."""
        return lambda y, p, pos, neg, epsilon=1e-7: reduce(_loss_terms(*change(y, p, pos, neg, epsilon)))

    def changed(change: Callable) -> Callable:
        return value(change=change)

    mistakes: Mistakes = {
        "epsilon is fixed at 1e-7: use the argument": changed(lambda y, p, pos, neg, eps: (y, p, pos, neg, 1e-7)),
        "epsilon is fixed at 1e-8: use the argument, 1e-7 unless told otherwise": changed(
            lambda y, p, pos, neg, eps: (y, p, pos, neg, 1e-8)
        ),
        "epsilon is not used: log(p + ε) and log(1 − p + ε)": changed(lambda y, p, pos, neg, eps: (y, p, pos, neg, 0.0)),
        "the default of epsilon is 1e-8 here: it should be 1e-7": changed(
            lambda y, p, pos, neg, eps: (y, p, pos, neg, 1e-8 if eps == 1e-7 else eps)
        ),
        "the default of epsilon is not 1e-7 (1e-3?)": changed(
            lambda y, p, pos, neg, eps: (y, p, pos, neg, 1e-3 if eps == 1e-7 else eps)
        ),
        "the positive and the negative weights are swapped": changed(lambda y, p, pos, neg, eps: (y, p, neg, pos, eps)),
        "y_true and y_pred are swapped": changed(lambda y, p, pos, neg, eps: (p, y, pos, neg, eps)),
        "the weights are not used": changed(lambda y, p, pos, neg, eps: (y, p, 1.0, 1.0, eps)),
        "the weights of the first class are used for all classes": changed(lambda y, p, pos, neg, eps: (y, p, pos[0], neg[0], eps)),
        "the weights are averaged: each class has its own": changed(
            lambda y, p, pos, neg, eps: (y, p, pos.mean(), neg.mean(), eps)
        ),
        "the term of the negatives, w⁻ (1−y) log(1−p+ε), is missing": changed(
            lambda y, p, pos, neg, eps: (y, p, pos, 0 * neg, eps)
        ),
        "the term of the positives, w⁺ y log(p+ε), is missing": changed(lambda y, p, pos, neg, eps: (y, p, 0 * pos, neg, eps)),
        "the sign between the two terms is wrong: both are added, then negated": changed(
            lambda y, p, pos, neg, eps: (y, p, pos, -neg, eps)
        ),
        "epsilon is missing in the second logarithm: log(1 − p + ε)": changed(
            lambda y, p, pos, neg, eps: (y, p, pos, neg, eps, 0.0)
        ),
        "epsilon has the wrong sign in the second logarithm: log(1 − p + ε)": changed(
            lambda y, p, pos, neg, eps: (y, p, pos, neg, eps, -eps)
        ),
        "epsilon clips the probability here: the formula adds it, log(p + ε) and log(1 − p + ε)": changed(
            lambda y, p, pos, neg, eps: (y, np.clip(p, eps, 1 - eps), pos, neg, 0.0)
        ),
        "epsilon belongs into the logarithm: log(p + ε), not log(p) + ε": lambda y, p, pos, neg, epsilon=1e-7: (
            -(pos * y * (np.log(p) + epsilon) + neg * (1 - y) * (np.log(1 - p) + epsilon)).mean(0).sum()
        ),
        "the second term counts the negatives: w⁻ (1 − y), not w⁻ y": lambda y, p, pos, neg, epsilon=1e-7: (
            -(pos * y * np.log(p + epsilon) + neg * y * np.log(1 - p + epsilon)).mean(0).sum()
        ),
        "the second logarithm is that of 1 − p + ε": lambda y, p, pos, neg, epsilon=1e-7: (
            -(pos * y * np.log(p + epsilon) + neg * (1 - y) * np.log(p + epsilon)).mean(0).sum()
        ),
        "rows are taken for classes: class i is the column y_true[:, i]": lambda y, p, pos, neg, epsilon=1e-7: sum(
            _loss_terms(y[i], p[i], pos[i], neg[i], epsilon).mean() for i in range(len(pos))
        ),
        "the positives and the negatives are averaged each by themselves: divide both sums by the whole batch": (
            lambda y, p, pos, neg, epsilon=1e-7: (
                np.where(y == 1, _loss_terms(y, p, pos, neg, epsilon), 0).sum(0) / (y.sum(0) + epsilon)
                + np.where(y == 0, _loss_terms(y, p, pos, neg, epsilon), 0).sum(0) / ((1 - y).sum(0) + epsilon)
            ).sum()
        ),
        "the last class is left out: the loop runs over all classes": value(lambda terms: terms.mean(0)[:-1].sum()),
        "the first class is left out: the loop runs over all classes": value(lambda terms: terms.mean(0)[1:].sum()),
        "this is the mean over batch and classes: sum over the classes": value(np.mean),
        "this is the sum over batch and classes: take the mean over the batch": value(np.sum),
        "this is the mean over the classes of the sum over the batch: the other way round": value(
            lambda terms: terms.sum(0).mean()
        ),
        "the sign is wrong: the loss is minus the weighted log likelihood": value(lambda terms: -terms.mean(0).sum()),
        "the last class only: add up the classes (`loss +=`)": value(lambda terms: terms.mean(0)[-1]),
        "the first class only: is the `return` inside the loop?": value(lambda terms: terms.mean(0)[0]),
        "the logarithm is the natural one, not that of base 10": value(lambda terms: terms.mean(0).sum() / np.log(10)),
        "the logarithm is the natural one, not that of base 2": value(lambda terms: terms.mean(0).sum() / np.log(2)),
    }

    hint = "sum over the classes of the mean over the batch of −(w⁺ y log(p+ε) + w⁻ (1−y) log(1−p+ε))"
    judge(
        "value", [[1, 0], [1, 1], [0, 0], [1, 0]], [[0.7, 0.2], [0.5, 0.9], [0.3, 0.1], [0.8, 0.6]], [0.25, 0.75], [0.6, 0.1], hint
    )
    judge("epsilon", [[1, 0, 0]], [[0.6, 0.6, 0.2]], [1, 2, 3], [4, 5, 6], hint, epsilon=1.0)
    judge(
        "p = 0",
        [[1, 1], [0, 1]],
        [[0.0, 0.5], [0.3, 0.9]],
        [0.5, 0.3],
        [0.5, 0.7],
        "p = 0: epsilon, 1e-7 unless told otherwise, keeps the logarithm finite",
    )
    judge(
        "p = 1",
        [[0, 0], [1, 0]],
        [[0.4, 1.0], [0.4, 0.2]],
        [0.5, 0.3],
        [0.5, 0.7],
        "p = 1: epsilon stands in both logarithms",
        epsilon=0.01,
    )
    rng = check.rng(3)
    sizes = [(5, 3, {}), (16, 14, {"epsilon": 0.1}), (3, 5, {"epsilon": 1e-3}), (7, 1, {})]
    for n, classes, options in sizes if check.seed is None else [*sizes, *sizes]:
        y, p = (rng.random((n, classes)) < 0.4).astype(float), rng.uniform(0.02, 0.98, (n, classes))
        key = "epsilon" if options else "value"
        judge(key, y, p, rng.uniform(0.1, 3, classes), rng.uniform(0.1, 3, classes), hint, **options)
    for edge in (0.0, 1.0) if check.seed is not None else ():
        y, p = (rng.random((6, 3)) < 0.5).astype(float), rng.uniform(0.1, 0.9, (6, 3))
        p[rng.integers(6), :] = edge
        options = {"epsilon": float(rng.uniform(0.01, 0.1))} if edge else {}
        judge(f"p = {edge:.0f}", y, p, rng.uniform(0.1, 3, 3), rng.uniform(0.1, 3, 3), hint, **options)
    check.judge(cases, mistakes, ask=ask)

    y, p = (rng.random((6, 4)) < 0.5).astype("float32"), rng.uniform(0.1, 0.9, (6, 4)).astype("float32")
    pos, neg = rng.uniform(0.1, 0.9, 4), rng.uniform(0.1, 0.9, 4)
    with check.case("integer labels"):
        loss, expected = make(pos, neg, epsilon=0.05), _loss_terms(y, p, pos, neg, 0.05).mean(0).sum()
        try:  # labels that are integers: some right answers refuse them; none may round the weights to 0
            got = check.call(y.astype(int), keras.ops.convert_to_tensor(p), function=loss)
        except AssertionError:
            got = expected
        hint = "the labels are integers here: do not cast the weights to their type"
        check.match("integer labels", float(check.array(got, ())), expected, hint)

    # The loss must have a gradient, otherwise no network can learn from it.
    advice = "the loss has no (or a wrong) gradient: compute it with keras.ops, not with NumPy or Python floats"
    with check.case("gradient"):
        loss = make(pos, neg, epsilon=0.05)
        gradient = check.gradient(lambda tensor: check.call(keras.ops.convert_to_tensor(y), tensor, function=loss), p)
        if gradient is not NotImplemented:
            wanted = "a gradient of the loss with respect to y_pred"
            check.require("gradient", gradient is not None, wanted, gradient, advice)
            check.match("gradient", gradient, -(pos * y / (p + 0.05) - neg * (1 - y) / (1 - p + 0.05)) / len(y), advice)
    check.done()


def _cam_model(
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    classes: int = 3,
    *,
    flat: bool = False,
    pool: int = 1,
    bias: float = 0.0,
    sign: float | None = None,
) -> tuple[Any, Callable]:
    """A tiny network with known weights, and a function that gives its class activation maps in closed form.

    `early` (1×1 convolution, full size) → average pooling → `late` (1×1 convolution, ReLU) → average or flatten →
    `logits` → `probabilities`: the gradient of a logit is a product of weights where the ReLU is open.
    """
    import keras

    rows, columns, channels = shape[0] // pool, shape[1] // pool, shape[2]
    inputs = keras.Input(shape)
    early = keras.layers.Conv2D(4, 1, use_bias=False, name="early")(inputs)
    pooled = keras.layers.AveragePooling2D(pool, name="smaller")(early)
    late = keras.layers.Conv2D(5, 1, use_bias=False, activation="relu", name="late")(pooled)
    features = keras.layers.Flatten()(late) if flat else keras.layers.GlobalAveragePooling2D()(late)
    logits = keras.layers.Dense(classes, name="logits")(keras.layers.Dropout(0.5)(features))
    model = keras.Model(inputs, keras.layers.Activation("sigmoid", name="probabilities")(logits))

    first, second = rng.normal(size=(channels, 4)), rng.normal(size=(4, 5))
    last = rng.normal(size=((rows * columns * 5 if flat else 5), classes))
    if sign is not None:  # positive activations, all of which speak for (or against) each class
        first, second, last = np.abs(first), np.abs(second), sign * np.abs(last)
    model.set_weights([first[None, None], second[None, None], last, np.full(classes, bias)])

    def closed_form(image: np.ndarray, index: int, layer: str, how: str = "mean") -> np.ndarray:
        """The map before ReLU and scaling: activations times the gradient of the logit, or (pool 1) a wrong variant of it.

        `how`: "mean" of the gradient over the places, "places" one by one, "channels" (mean over them), "positive" means only.
        """
        a = image.astype(float) @ first
        b = np.maximum(a.reshape(rows, pool, columns, pool, 4).mean(axis=(1, 3)) @ second, 0)
        gradient = np.broadcast_to(last[:, index].reshape(-1, 5), (rows * columns, 5)).reshape(rows, columns, 5)
        if layer == "early":
            gradient = ((b > 0) * gradient) @ second.T
        weight = gradient.mean(axis=-1, keepdims=True) if how == "channels" else gradient
        weight = gradient.mean(axis=(0, 1)) if how in ("mean", "positive") else weight
        return ((b if layer == "late" else a) * (np.maximum(weight, 0) if how == "positive" else weight)).sum(axis=-1)

    return model, closed_form


def grad_cam_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `grad_cam(model, image, class_index, layer_name)` on tiny networks whose map is known in closed form.

    Not checked: which interpolation enlarges the map (only that peak and shape are in place), images in batches.
    """
    check = check("grad_cam", target, ["model", "image", "class_index", "layer_name"], tolerance=0.02, seed=seed)

    def scaled(raw: np.ndarray) -> np.ndarray:
        raw = np.maximum(raw, 0)
        return raw / raw.max() if raw.max() > 0 else raw

    def heat_map(key: str, model: Any, image: np.ndarray, index: int, layer: str) -> np.ndarray:
        """Call, and judge what every heat map must be: of the image's size, in [0, 1], the model as it was."""
        before, size = _plain(model(image[None])), image.shape[:2]
        got = check.call(model, image, index, layer)
        check.given = f"grad_cam(model, image of shape {image.shape}, class_index={index}, layer_name={layer!r})"
        shape = check.array(got, None, f"a heat map of shape {size}").shape
        if len(shape) == 2 and shape != size:
            swapped = "height and width are swapped (cv2.resize wants (width, height))"
            check.fail(
                f"a heat map of shape {size}",
                f"shape {shape}",
                swapped if shape == size[::-1] else "enlarge the map from the layer's size to the image's size",
            )
        heat = check.array(got, size, "a heat map").astype(float)
        check.require(
            key,
            np.isfinite(heat).all(),
            "finite values",
            "nan or inf",
            "divide by the maximum only where it is above 0 (and take the logit: a saturated sigmoid has gradient 0)",
        )
        hint = "ReLU first, then divide by the maximum"
        if heat.min() >= 0 and 254 <= heat.max() <= 255.01:
            hint = "these are grey levels up to 255: divide by the maximum, and no more"
        elif heat.min() >= 0:
            hint = "divide by the maximum of what ReLU leaves (was the absolute value taken in its place?)"
        check.require(
            key,
            heat.min() >= -1e-4 and heat.max() <= 1 + 1e-4,
            "values between 0 and 1",
            f"values between {heat.min():.3g} and {heat.max():.3g}",
            hint,
        )
        check.require(
            "model left alone",
            np.allclose(before, _plain(model(image[None])), atol=1e-5),
            "the model as it was",
            "its output has changed",
            "do not change the model; build a second one on its layers",
        )
        return heat

    def judge(key: str, built: tuple, image: np.ndarray, index: int, layer: str, hint: str) -> None:
        model, closed_form = built
        with check.case(key):
            heat, raw = heat_map(key, model, image, index, layer), closed_form(image, index, layer)
            check.match(key, heat, scaled(raw), hint, lambda: slips(heat, scaled(raw), mistakes(built, image, index, layer, heat)))

    def slips(heat: np.ndarray, right: np.ndarray, values: dict[str, np.ndarray]) -> list[str]:
        """The mistakes that explain the map: of several (the maps of a tiny network are alike) those that do so exactly."""
        found = check.explain(heat, right, values)
        return [slip for slip in found if np.abs(heat - values[slip]).max() < 2e-3] or found

    def mistakes(built: tuple, image: np.ndarray, index: int, layer: str, heat: np.ndarray) -> dict[str, np.ndarray]:
        model, closed_form = built
        raw, another = closed_form(image, index, layer), "late" if layer == "early" else "early"
        classes = range(model.output_shape[-1])
        found = {
            "all zeros: a saturated sigmoid has gradient 0; take the output of the layer `logits`": np.zeros_like(raw),
            "ReLU is missing: the map was shifted to [0, 1] by its minimum": (raw - raw.min()) / max(np.ptp(raw), 1e-12),
            "the absolute value was taken: evidence against the finding counts as evidence for it": scaled(np.abs(raw)),
            "the map is inside out: the sign of the gradient is wrong": scaled(-raw),
            "the map is divided by its largest absolute value: ReLU first": np.maximum(raw, 0) / np.abs(raw).max(),
            "ReLU belongs to the sum of the maps, not to their weights": scaled(closed_form(image, index, layer, "positive")),
            "the gradient is averaged over the channels: average over height and width, one weight per channel": scaled(
                closed_form(image, index, layer, "channels")
            ),
            "the scores of all classes are added up: take that of class_index": scaled(
                sum(closed_form(image, i, layer) for i in classes)
            ),
            "this is the map of another layer: use layer_name": scaled(closed_form(image, index, another)),
            "this is gradient × activation, place by place: first average the gradient of each channel over height and width, "
            "then multiply the channel's activations by that one weight": scaled(closed_form(image, index, layer, "places")),
        }
        found |= {
            f"this is the map of class {i}: use class_index": scaled(closed_form(image, i, layer)) for i in classes if i != index
        }
        if heat.max() > 0 and np.allclose(heat / heat.max(), scaled(raw), atol=0.02):  # right but for its scale
            found = {slip: value for slip, value in found.items() if "largest absolute value" in slip and check.close(heat, value)}
            return found or {"the map is not divided by its maximum": heat}
        return found

    hint = (
        "ReLU of the sum over channels of activation × weight; the weight of a channel is the gradient of the logit "
        "with respect to the activations of `layer_name`, averaged over height and width"
    )
    rng = check.rng(4)
    image, narrow = (rng.normal(size=shape).astype("float32") for shape in ((8, 12, 2), (9, 6, 1)))
    # first: only here gradient × activation, place by place, is not the map of the other layer, too
    judge("gradient that differs from place to place", _cam_model(image.shape, check.rng(12), flat=True), image, 1, "early", hint)
    built = _cam_model(image.shape, check.rng(10))
    for index, layer in ((0, "early"), (2, "late"), (1, "early"), (1, "late")):
        judge(f"{layer} layer", built, image, index, layer, hint)
    judge("early layer", _cam_model(narrow.shape, check.rng(11), classes=14), narrow, 9, "early", hint)
    for bias, layer in ((60.0, "early"), (-60.0, "late")):
        built = _cam_model(image.shape, check.rng(13), bias=bias)
        judge("saturated sigmoid", built, image, 1, layer, "the gradient of the logit, not of the sigmoid")
    built = _cam_model(image.shape, check.rng(14), sign=1.0)
    judge(
        "even map",
        built,
        np.ones(image.shape, "float32"),
        0,
        "early",
        "an even map is 1 everywhere: divide by the maximum, subtract no minimum",
    )
    for bias in (0.0, 20.0):
        key = "nothing speaks for the class"
        with check.case(key):
            model, _ = _cam_model(image.shape, check.rng(14), sign=-1.0, bias=bias)
            heat = heat_map(key, model, np.abs(image) + 0.1, 1, "early")
            check.require(
                key,
                heat.max() < 1e-3,
                "0 everywhere: nothing in this image speaks for the class",
                f"values up to {heat.max():.3g}",
                "ReLU, then divide by the maximum only where it is above 0",
            )

    # A layer at a quarter of the size: judge place and shape, leave the kind of interpolation free.
    for shape, centre, index in [((24, 40, 2), (6, 30), 0), ((48, 28, 1), (36, 8), 2)]:
        y, x = np.mgrid[: shape[0], : shape[1]]
        blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * 6.0**2))
        image = (blob[..., None] * np.ones(shape[2])).astype("float32")
        for number in range(20, 60):  # the first network for which the blob speaks for the class in both layers
            model, closed_form = _cam_model(shape, check.rng(number), pool=4)
            if all(closed_form(image, index, layer).max() > 0.2 for layer in ("early", "late")):
                break
        expected = scaled(closed_form(image, index, "late"))
        for layer in ("late", "smaller", "early"):
            key = f"enlarged from layer {layer}"
            with check.case(key):
                heat = heat_map(key, model, image, index, layer)
                coarse = heat.reshape(shape[0] // 4, 4, shape[1] // 4, 4).mean(axis=(1, 3))
                peak = tuple(int(a) for a in np.unravel_index(heat.argmax(), heat.shape))
                check.require(key, heat.max() > 0.8, "a maximum near 1", f"{heat.max():.3g}", "divide by the maximum")
                check.require(
                    key,
                    np.hypot(peak[0] - centre[0], peak[1] - centre[1]) < 7,
                    f"the peak near (row, column) {centre}",
                    f"the peak at {peak}",
                    "the size is right, the place is not: are height and width swapped?",
                )
                alike = np.corrcoef(coarse.ravel(), expected.ravel())[0, 1]
                check.require(
                    key,
                    alike > 0.9,
                    "the map of the layer, enlarged (correlation above 0.9)",
                    f"correlation {alike:.2f}",
                    "enlarge by interpolation, not by padding or repeating",
                )
    check.done()


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
_OTHER_RATES: dict[str, Callable[[int, int, int, int], float]] = {  # no exercises, but easily taken for them
    "the false positive rate": lambda tp, tn, fp, fn: _ratio(fp, fp + tn),
    "the false negative rate": lambda tp, tn, fp, fn: _ratio(fn, fn + tp),
    "the false discovery rate": lambda tp, tn, fp, fn: _ratio(fp, fp + tp),
    "the share of wrong answers": lambda tp, tn, fp, fn: _ratio(fp + fn, tp + tn + fp + fn),
    "the prevalence": lambda tp, tn, fp, fn: _ratio(tp + fn, tp + tn + fp + fn),
    "TP divided by all patients": lambda tp, tn, fp, fn: _ratio(tp, tp + tn + fp + fn),
    "TN divided by all patients": lambda tp, tn, fp, fn: _ratio(tn, tp + tn + fp + fn),
    "TP + TN/n, which lacks brackets": lambda tp, tn, fp, fn: tp + _ratio(tn, tp + tn + fp + fn),
}
_WITHOUT_BRACKETS: dict[str, tuple[str, Callable[[int, int, int, int], float]]] = {  # a / a + b
    "get_sensitivity": ("TP / TP + FN", lambda tp, tn, fp, fn: _ratio(tp, tp) + fn),
    "get_specificity": ("TN / TN + FP", lambda tp, tn, fp, fn: _ratio(tn, tn) + fp),
    "get_ppv": ("TP / TP + FP", lambda tp, tn, fp, fn: _ratio(tp, tp) + fp),
    "get_npv": ("TN / TN + FN", lambda tp, tn, fp, fn: _ratio(tn, tn) + fn),
}


def _metric_mistakes(name: str) -> Mistakes:
    """What students compute in place of this metric."""
    title, formula = _METRICS[name]

    def slip(function: Callable, positive: Callable = np.greater_equal, finish: Callable = float) -> Callable:
        return lambda y, pred, th=0.5: finish(function(*_counts(y, positive(pred, th))))

    fixed = "the threshold is fixed at 0.5 here: use the argument `th`"
    mistakes: Mistakes = {
        "this is what you get with `>` in place of `>=`, or `<=` in place of `<`": slip(formula, np.greater),
        fixed: slip(formula, lambda pred, th: pred >= 0.5),
        "the threshold is fixed at 0.5, and `>` is in place of `>=`": slip(formula, lambda pred, th: pred > 0.5),
        "positive is `pred >= th`; here it is `pred <= th`": slip(formula, np.less_equal),
        "positive is `pred >= th`; here it is `pred < th`": slip(formula, np.less),
        "the predictions are rounded here: compare them with `th`": slip(formula, lambda pred, th: np.round(pred) == 1),
    }
    for text, function in [*(_METRICS[other] for other in _METRICS if other != name), *_OTHER_RATES.items()]:
        mistakes[f"this is {text}, not {title}"] = slip(function)
        mistakes[f"this is {text}, not {title}, and `>` is in place of `>=`"] = slip(function, np.greater)
        mistakes[f"this is {text}, not {title}, and the threshold is fixed at 0.5"] = slip(function, lambda pred, th: pred >= 0.5)
    for th in (0.0, 0.4, 0.45, 0.6, 1.0):
        mistakes[f"the default threshold is {th:g} here: it should be 0.5"] = lambda y, pred, th=th: formula(
            *_counts(y, pred >= th)
        )
    if name.startswith("get_"):
        mistakes["this is a percentage: return the fraction"] = slip(formula, finish=lambda value: 100 * value)
        mistakes["this is rounded: return the value itself"] = slip(formula, finish=lambda value: round(value, 2))
        if name in _WITHOUT_BRACKETS:
            text, function = _WITHOUT_BRACKETS[name]
            mistakes[f"Python divides first in `{text}`: put the sum into brackets"] = slip(function)
    else:
        mistakes["this is a share: return the number"] = lambda y, pred, th=0.5: slip(formula)(y, pred, th) / len(y)
        mistakes["this is the number of all who were called positive"] = slip(lambda tp, tn, fp, fn: tp + fp)
        mistakes["this is the number of all who were called negative"] = slip(lambda tp, tn, fp, fn: tn + fn)
        mistakes["this is the number of all who are sick: compare `pred` with `th`, too"] = slip(lambda tp, tn, fp, fn: tp + fn)
        mistakes["this is the number of all who are healthy: compare `pred` with `th`, too"] = slip(lambda tp, tn, fp, fn: tn + fp)
        mistakes["this is the number called positive minus the number of the sick: look at each patient"] = slip(
            lambda tp, tn, fp, fn: fp - fn
        )
        mistakes["this is the number of all right answers"] = slip(lambda tp, tn, fp, fn: tp + tn)
    return mistakes


def _metric_check(name: str, undefined: str = "") -> Callable[..., None]:
    """The check of a function (y, pred, th=0.5). `undefined`: what is missing when its value is nan."""
    title, formula = _METRICS[name]

    # Twelve X-rays for which the usual slips give different numbers, at 0.5 and at 0.7.
    y = np.array([0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 0, 1])
    pred = np.array([0.7, 0.5, 0.6, 0.2, 0.1, 0.4, 0.7, 0.5, 0.5, 0.1, 0.2, 0.7])

    def check_metric(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
        check = check(name, target, ["y", "pred"], seed=seed)
        rng, cases, mistakes = check.rng(5), [], _metric_mistakes(name)

        def add(
            key: str,
            truth: np.ndarray,
            score: np.ndarray,
            hint: str = f"positive means `pred >= th`; return {title}",
            **options: float,
        ) -> None:
            expected = formula(*_counts(truth, score >= options.get("th", 0.5)))
            if not len(truth):
                key, hint = "nobody", f"without any patient: {'0' if expected == 0 else 'the value is undefined, return np.nan'}"
            elif np.isnan(expected):
                key, hint = "undefined", f"the value is undefined (nothing {undefined}): return np.nan"
            error = hint if key in ("undefined", "nobody", "one class or one answer") else ""
            cases.append(Case(key, (truth, score), float(expected), hint, options, error, not np.isnan(expected)))

        add("default threshold", y, pred)
        add("other thresholds", y, pred, th=0.7)
        add(
            "default threshold",
            y,
            np.where(pred >= 0.5, pred, 0.49),
            f"0.49 is below the threshold, 0.5 unless told otherwise; return {title}",
        )
        for th in (0.25, 0.3, 0.95, 0.05):
            add("other thresholds", y, pred, th=th)
        add("at the threshold", y[5:7], np.array([1.0, 0.0]), th=1.0)
        add("at the threshold", y[5:7], np.array([0.0, 0.2]), th=0.0)
        for n, th in [(60, 0.5), (200, 0.2), (97, 0.8), (150, 0.65)] * check.rounds:
            truth = (rng.random(n) < 0.3).astype(int)
            score = np.round(np.clip(rng.normal(0.4 + 0.2 * truth, 0.25), 0, 1), 2)
            score[:4], score[4:7], truth[:7] = th, th - 1e-4, [0, 1, 0, 1, 0, 1, 0]  # at the threshold, and below
            add("at the threshold", truth, score, th=th)
        for number in range(4 * check.rounds):  # none exactly at the threshold
            truth = (rng.random(int(rng.integers(9, 120))) < rng.uniform(0.2, 0.7)).astype(int)
            score = np.clip(rng.normal(0.35 + 0.3 * truth, 0.25), 0.001, 0.999)
            if number % 2:
                add("other thresholds", truth, score, th=float(rng.uniform(0.15, 0.85)))
            else:
                score[:2], truth[:2] = rng.uniform(0.42, 0.4999, 2), [0, 1]  # no other default threshold fits
                add("default threshold", truth, score)
        missing = f"one class or one answer is missing here; {title} is defined all the same"
        mixed = np.array([0.8, 0.2, 0.9, 0.1])
        for truth in (np.ones(4, int), np.zeros(4, int), y[4:8]):
            for score in (mixed, np.full(4, 0.8), np.full(4, 0.2)):
                add("one class or one answer", truth, score, missing)
        for _ in range(2 * (check.rounds - 1)):
            n, one = int(rng.integers(3, 20)), int(rng.integers(2))
            some, scores = rng.integers(0, 2, n), rng.uniform(0.01, 0.99, n)
            some[0] = 1 - some[-1]
            for truth in (np.full(n, one), some):
                for score in (scores, scores / 2.1, 1 - scores / 2.1):
                    add("one class or one answer", truth, score, missing)
        check.judge(cases, mistakes)
        add("nobody", np.zeros(0), np.zeros(0))
        _check_empty(check, cases[-1].args, cases[-1].expected, cases[-1].hint, name == "get_accuracy")
        check.done()

    check_metric.__name__ = check_metric.__qualname__ = f"{name}_test"
    check_metric.__doc__ = (
        f"Check `{name}(y, pred, th)`.\n\n    Not checked: labels other than 0 and 1, predictions that "
        f"are nan, {'a library that refuses' if name == 'get_accuracy' else 'an error for'} an empty table."
    )
    return check_metric


def _check_empty(
    check: Check,
    args: tuple,
    expected: Any = np.nan,
    hint: str = "of no patients at all the value is undefined: return np.nan",
    named: bool = True,
) -> None:
    """What a function answers for no patients at all. An error is let pass: some libraries refuse an empty table.

    But not a division by zero where the exercise names the answer (`named`).
    """
    with check.case("nobody"):
        try:
            got = check.call(*args, hint=hint)
        except AssertionError as error:
            if named and isinstance(error.__cause__, ZeroDivisionError):
                raise
            return
        check.match("nobody", float(check.array(got, ())), expected, hint)


true_positives_test = _metric_check("true_positives")
true_negatives_test = _metric_check("true_negatives")
false_positives_test = _metric_check("false_positives")
false_negatives_test = _metric_check("false_negatives")
get_accuracy_test = _metric_check("get_accuracy")


def get_prevalence_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `get_prevalence(y)`. Not checked: labels other than 0 and 1, a library that refuses an empty table."""
    check = check("get_prevalence", target, ["y"], seed=seed)
    rng = check.rng(6)
    mistakes: Mistakes = {
        "this is the share of the healthy: count the ones": lambda y: np.mean(y == 0),
        "this is the number of the sick: divide by the number of patients": np.sum,
        "these are the odds: divide by all patients, not by the healthy": lambda y: np.sum(y) / np.sum(y == 0),
        "this is a percentage: return the fraction": lambda y: 100 * np.mean(y),
        "this is rounded: return the value itself": lambda y: np.round(np.mean(y), 2),
        "`//` leaves whole numbers only: divide with `/`": lambda y: np.sum(y) // len(y),
    }
    cases = [np.array(y) for y in ([1, 0, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0], [1, 1, 1], [1])]
    cases += [(rng.random(n) < share).astype(int) for n, share in [(77, 0.1), (301, 0.8)] * check.rounds]
    cases += [np.full(int(rng.integers(2, 30)), number % 2) for number in range(2 * (check.rounds - 1))]
    check.judge(
        [
            Case(
                "one class" if len(set(y.tolist())) == 1 else "both classes",
                (y,),
                np.count_nonzero(y) / len(y),
                "the share of patients with y = 1",
            )
            for y in cases
        ],
        mistakes,
    )
    _check_empty(check, (np.zeros(0),))
    check.done()


get_sensitivity_test = _metric_check("get_sensitivity", "is truly positive")
get_specificity_test = _metric_check("get_specificity", "is truly negative")
get_ppv_test = _metric_check("get_ppv", "was called positive")
get_npv_test = _metric_check("get_npv", "was called negative")


def bootstrap_patients_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `bootstrap_patients(patient_ids, rng)` by the properties of many samples.

    Not checked: the order of the rows, speed, tables without patients.
    """
    check = check("bootstrap_patients", target, ["patient_ids", "rng"], seed=seed)

    def draw(ids: np.ndarray, whose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One sample: how often each patient was drawn, in the order of np.unique. `whose`: the number of each row's patient."""
        only = "there is one patient only, who is drawn: is the range of the draw empty? rng.integers(0, n) never gives n"
        rows = check.array(check.call(ids, rng, hint="" if whose.max() else only), None, "row indices")
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            check.fail(
                "a one-dimensional array of row indices (integers)",
                f"{_show(rows)}, type {rows.dtype}",
                "return the positions of the rows, for example the "
                "np.flatnonzero(patient_ids == patient) of each draw, joined by np.concatenate",
            )
        if rows.size and (rows.min() < 0 or rows.max() >= len(ids)):
            check.fail(f"row indices from 0 to {len(ids) - 1}", rows, "return positions of rows, not patient numbers")
        times = np.bincount(rows.astype(int), minlength=len(ids))
        patients = whose.max() + 1
        drawn = np.zeros(patients, int)
        np.maximum.at(drawn, whose, times)
        if not (times == drawn[whose]).all():  # then nothing else about the draws means anything
            check.fail(
                "each row of a patient equally often: patients are drawn, with all their rows",
                rows,
                "draw patients, not rows, and take every row of each draw, wherever it stands"
                if len(set(times[times > 0])) > 1 or len(rows) == len(ids)
                else "take every row of each draw, and no other patient's: they need not be next to each other",
            )
        check.require("all rows of each draw", True, "", "", "")
        hint = "draw as many patients as there are patients, with replacement"
        if not rows.size:
            hint = "no row at all: draw from the patients, np.unique(patient_ids); are their positions taken for their numbers?"
        elif drawn.sum() == 1 and patients > 2:
            hint = "only one draw is there: add up all draws, and `return` after the loop"
        elif drawn.max() <= 1 and drawn.sum() < patients:
            hint = "too few draws, or repeats are lost (np.isin, np.unique, sets): a patient drawn twice gives its rows twice"
        elif drawn.sum() == len(ids):
            hint = "there are as many draws as rows: draw as many as there are patients"
        check.require(
            "as many draws as patients",
            drawn.sum() == patients,
            f"{patients} draws, as many as there are patients",
            f"{drawn.sum()} draws",
            hint,
        )
        return drawn

    mixed = np.array([30, 10, 20, 10, 30, 50, 10, 40, 50, 50, 60, 50, 50, 60, 50, 60, 50, 60, 60, 50])
    named = np.array([f"a{number}" for number in mixed])
    for ids in (np.array([5, 6, 7, 8]), np.array([0, 0, 3]), mixed, mixed.astype(str), named, np.array([4, 4, 4])):
        whose = np.unique(ids, return_inverse=True)[1]
        for number in range(5):
            with check.case("all rows of each draw"):
                draw(ids, whose, check.rng(number))
    _reproduces(check, lambda rng: tuple(_plain(check.call(mixed, rng)).ravel().tolist()))

    # Many samples: each patient comes once on average, whatever the number of X-rays, and as a binomial count varies.
    rng, samples = check.rng(7), 400
    uneven = rng.permutation(np.repeat(np.arange(100, 108), [1, 1, 1, 2, 3, 5, 9, 20]))
    for ids in (mixed, mixed.astype(str), uneven):
        _, whose, films = np.unique(ids, return_inverse=True, return_counts=True)
        with check.case("each patient once on average"):
            drawn = np.array([draw(ids, whose, rng) for _ in range(samples)])
            mean, spread = drawn.mean(0), drawn.var(0)
            even = 1 - 1 / len(films)  # variance of a binomial count with n trials of probability 1/n
            check.given = f"bootstrap_patients(patient_ids={_show(ids)}, rng), {samples} samples"
            got = f"variance {np.round(spread, 2).tolist()}"
            hint = "is every patient in the draw?"
            if spread.max() <= 0.5 * even:
                hint = "draw with replacement: some patients twice or more, some not at all"
            elif mean.std() and np.corrcoef(mean, films)[0, 1] > 0.9:
                hint = "patients with many rows come too often: draw from the unique patients, not from the column"
            elif spread.max() >= 1.6 * even:  # one patient for all places in the sample
                hint = "make a new draw for each place in the sample"
            if spread.min() <= 0.5 * even:  # then the mean says nothing: all patients, each once, have it too
                check.fail(f"counts with variance {even:.2f} (with replacement)", got, hint)
            if spread.max() >= 1.6 * even:
                check.fail(f"counts with variance {even:.2f} (independent draws)", got, hint)
            check.require("with replacement", True, "", "", "")
            check.require(
                "each patient once on average",
                np.abs(mean - 1).max() < 5.5 * np.sqrt(even / samples),
                "each patient drawn once on average",
                f"patients with {films.tolist()} rows drawn {mean.round(2).tolist()} times on average",
                hint,
            )
            ones, expected = np.mean(drawn == 1), even ** (len(films) - 1)
            if abs(ones - expected) > 0.1:
                check.fail(
                    f"{expected:.0%} of the patients exactly once in a sample (independent draws)",
                    f"{ones:.0%} of the patients once in a sample",
                    "make each draw from all patients, whatever was drawn before",
                )
            check.require(
                "independent draws", spread.max() < 1.6 * even, f"counts with variance {even:.2f} (independent draws)", got, hint
            )
    check.done()


def _calibration_error(
    y: np.ndarray,
    pred: np.ndarray,
    n_bins: int = 10,
    *,
    middle: bool = False,
    gap: Callable = np.abs,
    centre: Callable = np.mean,
    mean: Callable = lambda gaps, share, n_bins: (gaps * share).sum(),
) -> float:
    """Expected calibration error by bins [k/n, (k+1)/n), the last one closed, and its usual wrong variants."""
    bins = np.minimum((pred * n_bins).astype(int), n_bins - 1)
    inside = [bins == k for k in np.unique(bins)]
    said = [(bins[i][0] + 0.5) / n_bins if middle else centre(pred[i]) for i in inside]
    gaps = gap(np.array([y[i].mean() for i in inside]) - said)
    return float(mean(gaps, np.array([i.mean() for i in inside]), n_bins))


def expected_calibration_error_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `expected_calibration_error(y, pred, n_bins)`.

    Not checked: to which bin an inner edge such as 0.3 belongs, a library that refuses an empty table.
    """
    check = check("expected_calibration_error", target, ["y", "pred"], tolerance=1e-5, seed=seed)
    rng = check.rng(8)

    def variant(finish: Callable = float, **options: Any) -> Callable:
        return lambda y, pred, n_bins=10: finish(_calibration_error(y, pred, n_bins, **options))

    def without(value: float) -> Callable:
        def formula(y: np.ndarray, pred: np.ndarray, n_bins: int = 10) -> float:
            kept = pred != value
            return np.mean(kept) * _calibration_error(y[kept], pred[kept], n_bins)

        return formula

    def quantile_bins(y: np.ndarray, pred: np.ndarray, n_bins: int = 10) -> float:
        parts = [part for part in np.array_split(np.argsort(pred, kind="stable"), n_bins) if len(part)]
        return sum(len(part) * abs(y[part].mean() - pred[part].mean()) for part in parts) / len(y)

    def data_bins(y: np.ndarray, pred: np.ndarray, n_bins: int = 10) -> float:
        which = pd.cut(pred, n_bins, labels=False)
        return sum(np.mean(which == k) * abs(y[which == k].mean() - pred[which == k].mean()) for k in np.unique(which))

    def without_skipping(y: np.ndarray, pred: np.ndarray, n_bins: int = 10) -> float:
        filled = len(np.unique(np.minimum((pred * n_bins).astype(int), n_bins - 1)))
        return _calibration_error(y, pred, n_bins) if filled == n_bins else float("nan")

    def last_left_out(y: np.ndarray, pred: np.ndarray, n_bins: int) -> float:
        kept = (pred * n_bins).astype(int) < n_bins - 1
        return np.mean(kept) * _calibration_error(y[kept], pred[kept], n_bins) if kept.any() else 0.0

    weight = "weight each bin by its count"
    mistakes: Mistakes = {
        f"this is the mean over the bins: {weight}": variant(mean=lambda gaps, share, n_bins: gaps.mean()),
        f"this is the mean over all bins, empty ones too: {weight}": variant(mean=lambda gaps, share, n_bins: gaps.sum() / n_bins),
        f"this is the largest gap: take the mean, and {weight}": variant(mean=lambda gaps, share, n_bins: gaps.max()),
        f"this is the sum of the gaps: {weight}": variant(mean=lambda gaps, share, n_bins: gaps.sum()),
        "the gaps cancel: take the absolute value in each bin": variant(gap=np.positive),
        "the gaps cancel: take the absolute value in each bin, not at the end": variant(abs, gap=np.positive),
        "the gaps are squared: take the absolute value": variant(gap=np.square),
        "the gaps are squared: take the absolute value (this is the root mean square)": variant(np.sqrt, gap=np.square),
        "the bins span the predictions only (pd.cut, np.histogram without a range): they should span [0, 1]": data_bins,
        "compare with the mean prediction in the bin, not with its middle": variant(middle=True),
        "the number of bins is fixed at 10 here: use n_bins": lambda y, pred, n_bins=10: _calibration_error(y, pred, 10),
        "these are bins of equal count; they should be of equal width": quantile_bins,
        "this is the error of the confidence max(p, 1 − p); compare p with the share of positives": lambda y, pred, n_bins=10: (
            _calibration_error(((pred >= 0.5) == y).astype(float), np.maximum(pred, 1 - pred), n_bins)
        ),
        "predictions of exactly 1 are left out: the last bin includes 1": without(1.0),
        "predictions of exactly 0 are left out: the first bin includes 0": without(0.0),
        "the last bin is left out": lambda y, pred, n_bins=10: last_left_out(y, pred, n_bins),
        "only the first bin with predictions is counted: is the `return` inside of the loop?": variant(
            mean=lambda gaps, share, n_bins: gaps[0] * share[0]
        ),
        "a bin without predictions has no mean, and its nan spoils the sum: skip it": without_skipping,
        "this takes the median of the predictions in a bin: take the mean": variant(centre=np.median),
        "this is the accuracy in the bin: compare the mean prediction with the share of positives": lambda y, pred, n_bins=10: (
            _calibration_error(((pred >= 0.5) == y).astype(float), pred, n_bins)
        ),
        "these are numbers of patients: divide by n": lambda y, pred, n_bins=10: len(y) * _calibration_error(y, pred, n_bins),
        "this is the Brier score": lambda y, pred, n_bins=10: np.mean((y - pred) ** 2),
        "this is |y − p| of single patients: compare the means in each bin": lambda y, pred, n_bins=10: np.abs(y - pred).mean(),
    }
    cases: list[tuple] = [
        ("bins", [0, 0, 1, 1, 1], [0.12, 0.18, 0.14, 0.91, 0.93], {}, "two bins: 3/5 · |1/3 − 0.147| + 2/5 · |1 − 0.92|"),
        ("bins", [0, 1, 1, 0], [0.23, 0.27, 0.63, 0.67], {}, "both bins are half right: |0.5 − mean prediction| in each"),
        ("n_bins", [1, 0, 1, 1], [0.96, 0.55, 0.97, 0.52], {"n_bins": 2}, "with two bins, all four are in the second"),
        ("n_bins", [1, 0, 1, 0], [0.1, 0.2, 0.9, 0.6], {"n_bins": 1}, "with one bin: |prevalence − mean prediction|"),
        ("p = 1", [0, 0, 1], [1.0, 1.0, 0.95], {}, "the last bin includes 1"),
        ("p = 1", [0, 1, 1], [1.0, 0.999, 0.9995], {"n_bins": 6}, "the last bin includes 1; are its edges sums of 1/n_bins?"),
        ("p = 1", [0, 1, 1], [1.0, 0.999, 0.9995], {"n_bins": 49}, "the last bin includes 1; are its edges sums of 1/n_bins?"),
        ("p = 0", [1, 1, 0], [0.0, 0.0, 0.05], {}, "the first bin includes 0"),
        ("p = 0", [1, 0, 1, 0], [1.0, 0.0, 1.0, 0.0], {}, "perfectly calibrated: 0"),
    ]
    mean = "sum over bins of count / n · |share of positives − mean prediction|"
    for n, n_bins in [(400, 10), (300, 5), (250, 15), (60, 25), (500, 3), (300, 10)] * check.rounds:
        y = (rng.random(n) < 0.35).astype(int)
        pred = np.clip(rng.beta(1 + 2 * y, 3 - y), 0.001, 0.98)
        pred[np.abs(pred * n_bins - np.round(pred * n_bins)) < 1e-3] += 0.01 / n_bins  # none near an edge between bins
        cases.append(("bins" if n_bins == 10 else "n_bins", y, pred, {} if n_bins == 10 else {"n_bins": n_bins}, mean))
    for edge, hint in [(0.0, "the first bin includes 0"), (1.0, "the last bin includes 1")] * (check.rounds - 1):
        n, few = int(rng.integers(8, 30)), int(rng.integers(2, 5))
        y, pred = rng.integers(0, 2, n), rng.uniform(0.02, 0.98, n)
        pred[np.abs(pred * 10 - np.round(pred * 10)) < 1e-3] += 0.001
        pred[:few], y[:few] = edge, 1 - edge  # the worst predictions of all
        cases.append((f"p = {edge:.0f}", y, pred, {}, hint))
    error = "is it a bin without predictions? Skip it. Is it p = 1? It belongs to the last bin"
    check.judge(
        [
            Case(key, (np.array(y), np.array(p)), _calibration_error(np.array(y), np.array(p), **options), hint, options, error)
            for key, y, p, options, hint in cases
        ],
        mistakes,
    )
    _check_empty(check, (np.zeros(0), np.zeros(0)))
    check.done()


def _net_benefit(y: np.ndarray, pred: np.ndarray, th: float, weight: Callable = lambda th: th / (1 - th)) -> float:
    """TP/n − FP/n · weight, as the design has it at the ends."""
    if not len(y):
        return float("nan")
    tp, _, fp, _ = _counts(y, pred >= th)
    if th >= 1:
        return float("-inf") if fp else tp / len(y)
    return tp / len(y) - fp / len(y) * weight(th)


def net_benefit_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `net_benefit(y, pred, th)`.

    Not checked: thresholds outside of [0, 1], labels other than 0 and 1, a library that refuses an empty table.
    """
    check = check("net_benefit", target, ["y", "pred", "th"], seed=seed)
    rng = check.rng(22)

    def of(formula: Callable, positive: Callable = np.greater_equal) -> Callable:
        def value(y: np.ndarray, pred: np.ndarray, th: float) -> float:
            return float(formula(*_counts(y, positive(pred, th)), len(y), th))

        return value

    mistakes: Mistakes = {
        "this is what you get with `>` in place of `>=`": of(
            lambda tp, tn, fp, fn, n, th: (tp - fp * th / (1 - th)) / n, np.greater
        ),
        "the false alarms are not weighted: multiply them by th / (1 − th)": of(lambda tp, tn, fp, fn, n, th: (tp - fp) / n),
        "the weight of a false alarm is th / (1 − th), not th": of(lambda tp, tn, fp, fn, n, th: (tp - fp * th) / n),
        "the weight is upside down: th / (1 − th)": of(lambda tp, tn, fp, fn, n, th: (tp - fp * (1 - th) / th) / n),
        "the weight is th / (1 − th), not 1 − th": of(lambda tp, tn, fp, fn, n, th: (tp - fp * (1 - th)) / n),
        "false alarms are subtracted, not added": of(lambda tp, tn, fp, fn, n, th: (tp + fp * th / (1 - th)) / n),
        "these are numbers of patients: divide by n": of(lambda tp, tn, fp, fn, n, th: tp - fp * th / (1 - th)),
        "the false alarms are not divided by n": of(lambda tp, tn, fp, fn, n, th: tp / n - fp * th / (1 - th)),
        "these are rates (sensitivity and 1 − specificity): divide both counts by n": of(
            lambda tp, tn, fp, fn, n, th: _ratio(tp, tp + fn) - _ratio(fp, fp + tn) * th / (1 - th)
        ),
        "both counts are divided by the number of alarms: divide by n": of(
            lambda tp, tn, fp, fn, n, th: _ratio(tp - fp * th / (1 - th), tp + fp)
        ),
        "the missed patients are subtracted here: subtract the false alarms": of(
            lambda tp, tn, fp, fn, n, th: (tp - fn * th / (1 - th)) / n
        ),
        "the net benefit may be negative: do not cut it off at 0": of(
            lambda tp, tn, fp, fn, n, th: max(0, (tp - fp * th / (1 - th)) / n)
        ),
        "the false alarms are missing, or weigh nothing (`th / 1 - th` is 0: brackets): subtract FP/n · th/(1 − th)": of(
            lambda tp, tn, fp, fn, n, th: tp / n
        ),
        "the threshold is fixed at 0.5 here: use the argument `th` in `pred >= th` and in the weight": lambda y, pred, th: (
            _net_benefit(y, pred, 0.5)
        ),
        "the threshold is fixed at 0.5 in `pred >= th`: use the argument": lambda y, pred, th: of(
            lambda tp, tn, fp, fn, n, _: (tp - fp * th / (1 - th)) / n
        )(y, pred, 0.5),
        "this is the net benefit of alarming everybody: count only `pred >= th`": lambda y, pred, th: (
            np.mean(y) - np.mean(1 - y) * th / (1 - th)
        ),
        "Python computes `th / 1 - th` from the left: put 1 − th into brackets": of(
            lambda tp, tn, fp, fn, n, th: tp / n - fp / n * th / 1 - th
        ),
        "the true negatives are in place of the false alarms": of(lambda tp, tn, fp, fn, n, th: (tp - tn * th / (1 - th)) / n),
        "this is the difference to alarming everybody: return the net benefit itself": lambda y, pred, th: (
            _net_benefit(y, pred, th) - _net_benefit(y, np.ones(len(y)), th)
        ),
        "the signs are swapped: benefit is TP/n, harm is FP/n · th/(1 − th)": of(
            lambda tp, tn, fp, fn, n, th: (fp * th / (1 - th) - tp) / n
        ),
    }
    y = np.array([1, 0, 1, 0, 0, 1, 0, 0, 1, 0])
    pred = np.array([0.9, 0.8, 0.5, 0.5, 0.2, 0.1, 0.7, 0.25, 0.75, 0.05])
    rule = "TP/n − FP/n · th/(1 − th), positive means `pred >= th`"
    cases: list[tuple] = [
        ("thresholds", y, pred, 0.6, "n = 10, two of 4 sick called, two false alarms: 2/10 − 2/10 · 0.6/0.4"),
        ("at the threshold", y, pred, 0.5, rule),
        ("at the threshold", y, pred, 0.25, rule),
        ("thresholds", y, pred, 0.15, rule),
        ("ends", y, pred, 0.0, "at th = 0 false alarms cost nothing: TP/n"),
        ("ends", y, np.append(pred[:-1], 1.0), 1.0, "th = 1 with a false alarm: minus infinity"),
        ("ends", y, np.append(1.0, pred[1:]), 1.0, "th = 1 without a false alarm: TP/n"),
        ("ends", y, pred, 1.0, "th = 1 and nobody alarmed: 0"),
    ]
    for _ in range(4 * check.rounds):
        n, th = int(rng.integers(8, 90)), float(rng.uniform(0.05, 0.9))
        truth = (rng.random(n) < rng.uniform(0.2, 0.6)).astype(int)
        score = np.clip(rng.normal(0.35 + 0.3 * truth, 0.25), 0.001, 0.999)
        cases.append(("thresholds", truth, score, th, rule))
        edge = score.copy()
        edge[:3], truth = th, np.append([1, 0, 0], truth[3:])
        cases.append(("at the threshold", truth, edge, th, rule))
        cases.append(("ends", truth, np.append(score[:-1], 1.0), 1.0, "th = 1: −∞ if anybody is alarmed falsely, else TP/n"))
        cases.append(("ends", truth, score, 0.0, "at th = 0 false alarms cost nothing: TP/n"))
    error = "is it th = 1? Then th / (1 − th) is a division by zero: −∞ if anybody is alarmed falsely, else TP/n"
    check.judge(
        [
            Case(key, (truth, score, th), _net_benefit(truth, score, th), hint, {}, error if th == 1 else "", th < 1)
            for key, truth, score, th, hint in cases
        ],
        mistakes,
    )
    _check_empty(check, (np.zeros(0), np.zeros(0), 0.3))
    check.done()


def _positives_needed(s: float, half_width: float, confidence: float = 0.95, quantile: Callable | None = None) -> float:
    """Sample size before rounding: (z / half_width)² s (1 − s), z of a normal distribution without SciPy."""
    z = NormalDist().inv_cdf((1 + confidence) / 2) if quantile is None else quantile(confidence)
    return z**2 * s * (1 - s) / half_width**2


def positives_needed_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `positives_needed(sensitivity, half_width, confidence)`.

    Not checked: sensitivities outside of [0, 1], half widths of 0, whether the result is an int or a float without fraction.
    """
    check = check("positives_needed", target, ["sensitivity", "half_width", "confidence"], seed=seed)
    rng, normal = check.rng(23), NormalDist()

    def size(finish: Callable = np.ceil, **options: Any) -> Callable:
        return lambda s, h, confidence=0.95: max(1, finish(_positives_needed(s, h, confidence, **options)))

    mistakes: Mistakes = {
        "this is rounded down: too few patients; round up": size(np.floor),
        "this is rounded to the nearest number, which may be too few: round up": size(np.round),
        "not rounded: the number of patients is a whole number; round up": size(float),
        "one patient too many: round up, and add nothing": lambda s, h, c=0.95: np.floor(_positives_needed(s, h, c)) + 2,
        "z is one-sided here: for 95 % the quantile is that of 0.975": size(quantile=normal.inv_cdf),
        "z is rounded to 2: take the quantile, 1.96 for 95 %": size(quantile=lambda confidence: 2.0),
        "this is the distribution function: the quantile is its inverse, norm.ppf": size(quantile=normal.cdf),
        "this is the distribution function at (1 + confidence)/2: the quantile is its inverse, norm.ppf": size(
            quantile=lambda confidence: normal.cdf((1 + confidence) / 2)
        ),
        "z is fixed at 1.96: use `confidence`": size(quantile=lambda confidence: 1.959964),
        "the default of `confidence` is 0.9 here: it should be 0.95": lambda s, h, confidence=0.9: size()(s, h, confidence),
        "the default of `confidence` is 0.99 here: it should be 0.95": lambda s, h, confidence=0.99: size()(s, h, confidence),
        "half_width is half of the interval: do not halve it again": lambda s, h, c=0.95: np.ceil(_positives_needed(s, h / 2, c)),
        "half_width is half of the interval, not its whole width": lambda s, h, c=0.95: np.ceil(_positives_needed(s, 2 * h, c)),
        "the variance of a proportion is s (1 − s), not s": lambda s, h, c=0.95: np.ceil(_positives_needed(s, h, c) / (1 - s)),
        "this is for s = 0.5, the worst case: use the sensitivity given": lambda s, h, c=0.95: np.ceil(
            _positives_needed(0.5, h, c)
        ),
        "z is not squared: n = z² s (1 − s) / half_width²": lambda s, h, c=0.95: np.ceil(
            _positives_needed(s, h, c) / normal.inv_cdf((1 + c) / 2)
        ),
        "z is the quantile of 1 − confidence / 2 here: take that of (1 + confidence) / 2": size(
            quantile=lambda confidence: normal.inv_cdf(1 - confidence / 2)
        ),
        "nothing is squared: n = z² s (1 − s) / half_width²": lambda s, h, c=0.95: np.ceil(
            _positives_needed(s, h, c) / normal.inv_cdf((1 + c) / 2) * h
        ),
        "this is √n: n = z² s (1 − s) / half_width²": lambda s, h, c=0.95: np.ceil(np.sqrt(_positives_needed(s, h, c))),
        "z is missing: n = z² s (1 − s) / half_width²": size(quantile=lambda confidence: 1.0),
        "half_width is not squared: n = z² s (1 − s) / half_width²": lambda s, h, c=0.95: np.ceil(_positives_needed(s, h, c) * h),
        "s (1 − s) stands under the root once too often: n = z² s (1 − s) / half_width²": lambda s, h, c=0.95: np.ceil(
            _positives_needed(s, h, c) * np.sqrt(s * (1 - s)) / (s * (1 - s))
        ),
    }
    rule = "the smallest n with z · √(s (1 − s) / n) ≤ half_width: round z² s (1 − s) / half_width² up"
    cases: list[tuple] = [
        ("sizes", 0.8, 0.05, {}, "z = 1.96: 1.96² · 0.8 · 0.2 / 0.05² = 245.9, so 246"),
        ("sizes", 0.5, 0.1, {}, "z = 1.96: 1.96² · 0.25 / 0.01 = 96.04, so 97"),
        ("sizes", 0.9, 0.005, {}, "z = 1.96: 1.96² · 0.9 · 0.1 / 0.005² is above 13829, so 13830; a search must not give up"),
        ("confidence", 0.8, 0.05, {"confidence": 0.99}, rule),
        ("confidence", 0.9, 0.04, {"confidence": 0.8}, rule),
        ("at least one", 1.0, 0.05, {}, "the formula gives 0 here, and at least one patient is needed: 1"),
        ("at least one", 0.0, 0.1, {}, "the formula gives 0 here, and at least one patient is needed: 1"),
        ("at least one", 0.6, 0.99, {}, "a very wide interval: at least one patient is needed"),
    ]
    while len(cases) < 8 + 8 * check.rounds:
        s, h, confidence = (float(rng.uniform(*ends)) for ends in ((0.3, 0.97), (0.02, 0.2), (0.7, 0.99)))
        options = {"confidence": confidence} if len(cases) % 2 else {}
        if 0.1 < _positives_needed(s, h, **options) % 1 < 0.9:  # never so close to a whole number that rounding of z decides
            cases.append(("confidence" if options else "sizes", s, h, options, rule))
    cases += [("at least one", float(s), float(rng.uniform(0.02, 0.2)), {}, rule) for s in (0, 1) * (check.rounds - 1)]
    check.judge(
        [
            Case(key, (s, h), max(1, int(np.ceil(_positives_needed(s, h, **options)))), hint, options, named=key != "at least one")
            for key, s, h, options, hint in cases
        ],
        mistakes,
    )
    check.done()


# ---------------------------------------------------------------------------------------------------------------------
# NOTEBOOK 03: brain tumour segmentation
# ---------------------------------------------------------------------------------------------------------------------


class _Patient(np.random.Generator):
    """A generator that gives so many draws and no more: a loop that never counts its tries comes to an end."""

    left = 100_000

    def __getattribute__(self, name: str) -> Any:
        if name in ("integers", "random", "choice", "uniform", "permutation", "spawn"):
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("the search for a patch does not end")
        return super().__getattribute__(name)


def get_sub_volume_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `get_sub_volume(image, label, …)` on small scans in which every voxel has its own value.

    Not checked: outputs larger than the scan, labels above num_classes − 1.
    """
    check = check("get_sub_volume", target, ["image", "label"], seed=seed)
    rng = check.rng(9)

    def scan(label: np.ndarray, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """An image whose voxels count up, so that a patch tells where it was cut, and its label map."""
        image = np.arange(label.size, dtype="float32").reshape(*label.shape, 1) + 0.25 * np.arange(channels)
        return image.astype("float32"), label.astype("uint8")

    def cut(image: np.ndarray, label: np.ndarray, size: tuple[int, ...], *, bare: bool = False, **options: Any) -> Any:
        """One call: where the patch was cut, None for None. Shape, contents and one-hot code are judged here."""
        sizes = {} if bare else dict(zip(("output_x", "output_y", "output_z"), size))
        hint = (
            (
                "is the range of the start empty? `rng.integers(0, n)` never draws n: a scan as large as the output has "
                "one start, 0, so n is size − output + 1"
            )
            if label.shape == size
            else ""
        )
        if options.get("max_tries", 1000) <= 20 and "rng" in options:
            options["rng"] = _Patient(options["rng"].bit_generator)
            options["rng"].left, hint = 10_000, "count the tries: after max_tries draws without success, return None"
        got = check.call(image, label, hint=hint, **sizes, **options)
        if got is None:
            return None
        if isinstance(got, (tuple, list)) and all(part is None or np.size(part) == 0 for part in got):
            check.fail("None", got, "return None itself, not a pair of None or of empty arrays: `return None`")
        x, y = check.pair(got, "X", "y")
        classes = options.get("num_classes", 4)
        if np.shape(x) == (*size, classes - 1) != np.shape(y) == image[tuple(slice(n) for n in size)].shape:
            check.fail("(X, y): the patch of the image, then its label", got, "X and y are swapped: `return X, y`")
        if np.shape(y) == size:
            check.fail(
                f"y of shape {(*size, classes - 1)}", f"shape {size}", "this is the label itself: one-hot, a channel per class"
            )
        if np.shape(y) == (*size, classes) and np.allclose(np.sum(np.asarray(y, float), -1), 1):
            check.fail(f"y of shape {(*size, classes - 1)}", f"shape {np.shape(y)}", "leave out the background: y[..., 1:]")
        for part, name, last in ((x, "X", image.shape[-1]), (y, "y", classes - 1)):
            wanted = (*size, last)
            if np.shape(part) == (last, *size) != wanted:
                hint = "the channels come first here; they are the last axis: (x, y, z, channels)"
                check.fail(f"{name} of shape {wanted}", f"shape {np.shape(part)}", hint)
            if np.shape(part)[:-1] == size and np.shape(part)[-1] != last and name == "y":
                hint = "one channel for each class from 1 to num_classes − 1: is the number of classes fixed? Use num_classes"
                check.fail(f"y of shape {wanted}", f"shape {np.shape(part)}", hint)
        x = check.array(x, (*size, image.shape[-1]), "X").astype(float)
        y = check.array(y, (*size, classes - 1), "y").astype(float)
        start = np.unravel_index(int(abs(np.nan_to_num(x[0, 0, 0, 0]))) % label.size, label.shape)
        window = tuple(slice(a, a + b) for a, b in zip(start, size))
        check.require(
            "X",
            np.array_equal(x, image[window]),
            "X: one block of the image, all channels, values unchanged",
            x,
            "X = image[start_x : start_x + output_x, …] with the three starts of this draw",
        )
        expected = np.stack([label[window] == k for k in range(1, classes)], axis=-1)
        hint = "is y cut at the same place as X?"
        if np.array_equal(y, np.stack([label[window] == k for k in range(classes - 1)], axis=-1)):
            hint = "the last class is missing and the background is there: y[..., 1:], not y[..., :-1]"
        check.require(
            "y",
            np.array_equal(y, expected),
            "y: one channel for each class 1, 2, …: 1 where the label is this class, 0 elsewhere",
            y,
            hint,
        )
        return tuple(int(a) for a in start)

    none = (
        "return None when no draw has a background share below background_threshold; the share is that of the zeros in the label "
        "(not in the image)"
    )
    for size, channels, classes in [((3, 2, 4), 2, 4), ((2, 3, 2), 1, 3), ((4, 1, 3), 4, 2), ((2, 2, 2), 3, 6)]:
        labels = rng.integers(0, classes, size)  # the scan is as large as the output: one position
        labels[0, 0, :2] = [0, 1]
        for kind in ("int64", "uint8", "int16"):
            with check.case("whole scan"):
                image, label = scan(labels, channels)
                got = cut(image, label.astype(kind), size, num_classes=classes, background_threshold=1.0)
                expected = "the whole scan: one position fits, and it has tumour in it"
                hint = (
                    "your function returned None: is a `None` still in place of your code? A patch is taken when its share of "
                    "background is below background_threshold"
                )
                check.require("whole scan", got is not None, expected, None, hint)

    with check.case("no tumour"):
        got = cut(*scan(np.zeros((4, 4, 4))), (2, 2, 2), max_tries=20, rng=check.rng(2))
        check.require("no tumour", got is None, "None: there is no tumour", "a patch", none)
    half, quarter = np.zeros((2, 4, 2), int), np.zeros((2, 4, 2), int)
    half[0], quarter[0], quarter[1, :2] = [[1, 2], [3, 1], [2, 2], [1, 3]], 2, 3
    for labels, share in [(half, 0.5), (quarter, 0.25)]:
        for threshold in (share - 0.1, share, share + 0.1):
            key = "share of background at the threshold" if threshold == share else "share of background"
            with check.case(key):
                options = {"background_threshold": threshold, "max_tries": 3, "rng": check.rng(1)}
                got = cut(*scan(labels, 2), half.shape, **options)
                check.require(
                    key,
                    (got is not None) == (share < threshold),
                    "a patch" if share < threshold else "None",
                    "None" if got is None else "a patch",
                    f"the share of background is {share}; it must be strictly below the threshold"
                    if threshold == share
                    else f"the share of background is {share}, background_threshold is {threshold}: use the argument, and the "
                    "share of zeros in the label (not in the image)",
                )

    for shape, size in [((5, 3, 6), (3, 1, 5)), ((3, 6, 4), (3, 2, 4)), ((2, 2, 7), (1, 2, 3))]:
        with check.case("every position"):
            image, label = scan(rng.integers(1, 4, shape), 2)
            steps, generator = [a - b + 1 for a, b in zip(shape, size)], check.rng(10)
            draws = [cut(image, label, size, rng=generator) for _ in range(16 * int(np.prod(steps)))]
            starts = set(draws)
            check.given = f"get_sub_volume(image of shape {(*shape, 2)}, label all tumour, output {size}), drawn many times"
            check.require("every position", None not in starts, "a patch at every call", None, "there is tumour everywhere")
            for axis, name in enumerate("xyz"):
                seen, every = sorted({start[axis] for start in starts}), list(range(steps[axis]))
                check.require(
                    "every position",
                    seen == every,
                    f"starts along {name}: {every}",
                    f"starts along {name}: {seen}",
                    "every position that fits can be drawn; is the last one excluded? (rng.integers(0, n) never gives n)",
                )
            for axis, name in enumerate("xyz"):
                often, share = np.bincount([start[axis] for start in draws], minlength=steps[axis]), 1 / steps[axis]
                check.require(
                    "equally likely starts",
                    np.abs(often - len(draws) * share).max() <= 5 * np.sqrt(len(draws) * share * (1 - share)),
                    f"starts along {name} about equally often",
                    f"{often.tolist()} times",
                    "draw each start from 0 to size − output; one that is clamped to the border (or rounded) comes too often",
                )
            check.require(
                "independent starts",
                len(starts) == np.prod(steps),
                f"{np.prod(steps)} positions",
                len(starts),
                "draw the three starts independently",
            )

    # (Never a patch of 1 voxel along z: keras.utils.to_categorical drops a last axis of 1.)
    lonely, row = np.zeros((6, 5, 4)), np.zeros((5, 1, 2))
    lonely[5, 4, 3], row[2], generator = 2, 1, check.rng(11)
    for _ in range(20):
        with check.case("draw again"):
            got = cut(*scan(lonely), (1, 1, 2), background_threshold=0.9, max_tries=2000, rng=generator)
            check.require(
                "draw again",
                got == (5, 4, 2),
                "the patch with the tumour in it: (5, 4, 2)",
                got,
                "draw again until the share of background is below the threshold, up to max_tries times",
            )
    image, label = scan(row)
    for tries, calls in [(1, 500), (3, 600)]:
        with check.case("max_tries"):
            patches = [cut(image, label, (1, 1, 2), max_tries=tries, rng=generator) for _ in range(calls)]
            found, expected = np.mean([patch is not None for patch in patches]), 1 - 0.8**tries
            check.require(
                "max_tries",
                abs(found - expected) < 0.095,
                f"a patch in about {expected:.0%} of {calls} calls (tumour at 1 of 5 positions)",
                f"in {found:.0%}",
                "draw at most max_tries times, each time a new position",
            )
    # 1,000 tries unless told otherwise: a patch that one draw in 300 finds is nearly always found.
    with check.case("default of max_tries"):
        lonely = scan((np.arange(600).reshape(300, 1, 2) == 0) * 1)
        found = sum(cut(*lonely, (1, 1, 2), background_threshold=0.9, rng=generator) is not None for _ in range(12))
        check.require(
            "default of max_tries",
            found >= 7,
            "a patch in nearly all of 12 calls (tumour at 1 of 300 positions)",
            f"in {found}",
            "max_tries is 1000 unless told otherwise, and each try is a new draw",
        )
    ones = scan(np.ones((6, 6, 6)))
    with check.case("without rng"):
        starts = {cut(*ones, (1, 1, 2)) for _ in range(8)}
        hint = "without rng, draw from np.random.default_rng(), with no seed"
        check.require("without rng", len(starts) > 1, "another patch at each call without rng", "always the same one", hint)
    _reproduces(check, lambda generator: cut(*ones, (2, 2, 2), rng=generator))

    for share in (0.94, 0.96):  # unless told otherwise: 160×160×16, four classes, threshold 0.95
        with check.case("defaults"):
            label = (np.arange(160 * 160 * 16) >= share * 160 * 160 * 16).reshape(160, 160, 16)
            image = np.arange(label.size, dtype=float).reshape(*label.shape, 1)
            got = cut(image, 3 * label.astype("uint8"), label.shape, bare=True, max_tries=1, rng=check.rng(3))
            check.require(
                "defaults",
                (got is not None) == (share < 0.95),
                "a patch" if share < 0.95 else "None",
                "None" if got is None else "a patch",
                f"the share of background is {share}; the threshold is 0.95 unless told otherwise",
            )
    check.done()


def _standardized(
    image: np.ndarray,
    inside: np.ndarray,
    axes: tuple = (0, 1, 2),
    power: int = 1,
    centre: float = 1.0,
    among: np.ndarray | None = None,
) -> np.ndarray:
    """z-score by the voxels `inside` ((x, y, z) or of the image's shape), 0 outside; the other arguments make mistakes.

    `among`: the voxels of the statistics, where they are others.
    """
    inside = np.broadcast_to(inside if inside.ndim == image.ndim else inside[..., None], image.shape)
    where = inside if among is None else np.broadcast_to(among[..., None], image.shape)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mean, sd = (f(image.astype(float), axis=axes, where=where, keepdims=True) for f in (np.mean, np.std))
        return np.where(inside & (sd > 0), (image - centre * mean) / sd**power, 0)


def _in_brain(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The voxels of the brain, (voxels, channels), changed; 0 outside."""
    inside, result = (image != 0).any(-1), np.zeros(image.shape)
    result[inside] = change(image[inside].astype(float))
    return result


def standardize_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `standardize(image)` on small scans with background, of several channels.

    Not checked: the type of the result (float32 or float64), whether sd divides by n or n − 1, nan in the image.
    """
    check = check("standardize", target, ["image"], tolerance=2e-3, seed=seed)
    rng = check.rng(12)

    def brain(image: np.ndarray) -> np.ndarray:
        return (image != 0).any(axis=-1)

    rule = "a voxel belongs to the brain when any channel is not 0"
    mistakes: Mistakes = {
        "these are statistics of the whole volume: take those of the brain": lambda i: _standardized(i, np.ones(i.shape[:3], bool)),
        "these are statistics of the whole volume, with 0 outside: take those of the brain": lambda i: (
            _standardized(i, np.ones(i.shape[:3], bool)) * brain(i)[..., None]
        ),
        "this is standardised slice by slice (z): one mean and sd per channel": lambda i: _standardized(i, brain(i), (0, 1)),
        "this is standardised slice by slice (z), with the background: one mean and sd per channel, of the brain": lambda i: (
            _standardized(i, np.ones(i.shape[:3], bool), (0, 1))
        ),
        "this is scaled by the smallest and the largest value: (value − mean) / sd": lambda i: _in_brain(
            i, lambda v: (v - v.min(0)) / np.where(np.ptp(v, axis=0) > 0, np.ptp(v, axis=0), np.inf)
        ),
        "the median is subtracted: take the mean": lambda i: _in_brain(
            i, lambda v: (v - np.median(v, axis=0)) / np.where(np.ptp(v, axis=0) > 0, v.std(0), np.inf)
        ),
        "only the first channel is standardised: each channel, one after the other": lambda i: np.concatenate(
            [_standardized(i, brain(i))[..., :1], i[..., 1:]], axis=-1
        ),
        "one mean and sd for all channels: each channel has its own": lambda i: _standardized(i, brain(i), (0, 1, 2, 3)),
        f"{rule}: this channel may be 0 there": lambda i: _standardized(i, i != 0),
        f"{rule}, not only when all are": lambda i: _standardized(i, (i != 0).all(-1)),
        f"{rule}: negative values count too": lambda i: _standardized(i, (i > 0).any(-1)),
        f"{rule}: their sum may be 0": lambda i: _standardized(i, i.sum(-1) != 0),
        f"{rule}, not only the first one": lambda i: _standardized(i, i[..., 0] != 0),
        "the voxels where all channels are 0 stay 0 (here they became another value)": lambda i: _standardized(
            i, np.ones(i.shape[:3], bool), among=brain(i)
        ),
        f"{rule}: a value of 0 there is standardised like the others": lambda i: _standardized(i, i != 0, among=brain(i)),
        "Python divides first in `value - mean / sd`: put the difference into brackets": lambda i: _in_brain(
            i, lambda v: np.where(v.std(0) > 0, v - v.mean(0) / np.maximum(v.std(0), 1e-12), 0)
        ),
        "only the first channel is standardised: is the `return` inside of the loop?": lambda i: (
            _standardized(i, brain(i)) * (np.arange(i.shape[-1]) == 0)
        ),
        "the mean is not subtracted: (value − mean) / sd": lambda i: _standardized(i, brain(i), centre=0.0),
        "divide by the standard deviation, too": lambda i: _standardized(i, brain(i), power=0),
        "divide by the standard deviation, not by the variance": lambda i: _standardized(i, brain(i), power=2),
    }

    cases = []

    def judge(key: str, image: np.ndarray, hint: str) -> None:
        cases.append(Case(key, (image.copy(),), _standardized(image, brain(image)), hint))

    def ask(case: Case) -> np.ndarray:
        (image,) = case.args
        inside, got = brain(image), check.array(check.call(image), image.shape, "an image").astype(float)
        check.require(
            case.key,
            np.isfinite(got).all(),
            "finite values",
            f"{np.sum(~np.isfinite(got))} values are nan or inf",
            "a channel that is constant in the brain, or no brain at all: do not divide by 0, return 0",
        )
        n = max(int(inside.sum()), 2)
        sample = _close(got, case.expected * np.sqrt((n - 1) / n), 2e-3)  # sd with n − 1 is right as well
        return case.expected if sample else got

    def head(shape: tuple[int, int, int], channels: int) -> np.ndarray:
        """An ellipsoid with structure from slice to slice, another level in each channel, 0 outside."""
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
        values = 100 + 60 * z[..., None] + rng.normal(0, 15, (*shape, channels)) * (1 + np.arange(channels))
        return np.where((x**2 + y**2 + 0.7 * z**2 < 0.9)[..., None], np.maximum(values, 1) * (1 + 2 * np.arange(channels)), 0)

    hint = "in each channel: (value − mean) / sd over the voxels where any channel is not 0; 0 elsewhere"
    tiny, pair = np.zeros((1, 2, 3, 1)), np.zeros((2, 2, 2, 2))
    tiny[0, :, 0, 0], pair[0, 0, :, 0], pair[0, 1, :, 0], pair[0, :, :, 1] = [1, 3], 2, 6, [[0, 10], [0, 10]]
    judge("values", tiny, "the brain is the two voxels 1 and 3: mean 2, sd 1, so −1 and 1; 0 elsewhere")
    judge("values", pair, "four voxels are brain; in the second channel two of them are 0, and count")
    judge("values", head((14, 10, 7), 4), hint)
    for kind, channels in [("int16", 2), ("float32", 1), ("uint16", 3)]:
        why = f"the image is of type {kind}: compute in floats and return floats"
        judge("types", head((8, 11, 13), channels).astype(kind), why)
    part, signed, flat = head((12, 9, 8), 3), head((10, 9, 8), 2) / 100, head((8, 7, 9), 4)
    part[3:6, 3:6, 3:5, 1], part[5:8, 2:4, 2:6, 0] = 0, 0
    judge("a channel that is 0 in places", part, "a channel may be 0 inside the brain: these voxels still count")
    hole = head((9, 8, 7), 2)
    hole[4, 4, 3] = 0
    judge("values", hole, "a voxel where all channels are 0 stays 0, also in the middle of the brain")
    small, bright = head((9, 8, 10), 2) / 3000, head((10, 9, 8), 2)
    bright[5, 4, 4] *= 40
    judge("values", small, "small values are no constant ones: divide by the standard deviation itself, with next to nothing added")
    judge("values", bright, "one voxel is far brighter than the others: its value is not cut off")
    for values, why in [
        ([-1.5, -0.5], "values may be negative"),
        ([-1.5, 1.5], "the channels may cancel: do not ask for their sum"),
    ]:
        signed[4:6, 3:6, 2:6] = values
        judge("negative values", signed, why)
    judge("no background", head((9, 7, 8), 2)[2:-2, 2:-2, 2:-2], "a patch without background")
    flat[..., 2], flat[..., 3] = 7 * brain(flat), 0
    judge("constant channel", flat, "a channel that is constant in the brain becomes 0")
    judge("constant channel", (3 * (flat != 0)).astype("int16"), "constant channels become 0")
    judge("no brain", np.zeros((3, 4, 2, 2)), "without any brain everything stays 0")
    check.judge(cases, mistakes, ask=ask)
    check.done()


def up_step_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `up_step(x, skip, filters)` by its result: shape, use of both inputs, how far one voxel reaches, mean and spread.

    Not checked: whether x is enlarged by a layer that learns, which activation it is.
    """
    import keras

    check = check("up_step", target, ["x", "skip", "filters"], seed=seed)
    rng = check.rng(24)

    def tensor(*shape: int, scale: float = 1.0) -> Any:
        return keras.ops.convert_to_tensor((scale * rng.normal(size=shape)).astype("float32"))

    def step(x: np.ndarray, skip: np.ndarray, filters: int) -> np.ndarray:
        inputs = (keras.ops.convert_to_tensor(part.astype("float32")) for part in (x, skip))
        return check.array(check.call(*inputs, filters), (*skip.shape[:4], filters), "a tensor").astype(float)

    def own_weights() -> float:
        """The share of what a voxel of x changes that the 8 voxels of `skip` in its place cannot: 0 if both are added."""
        x, skip = (np.repeat(rng.normal(size=(1, n, n, n, 1)), 10, axis=0) for n in (4, 8))
        x[9, 1, 2, 1] += 0.005
        for sample, corner in enumerate(np.ndindex(2, 2, 2), 1):
            skip[sample, *np.add([2, 4, 2], corner)] += 0.005
        got = step(x, skip, 1).reshape(10, -1)  # one filter: of several, a sum can keep x and skip apart
        *by_skip, by_x = got[1:] - got[0]
        rest = by_x - np.transpose(by_skip) @ np.linalg.lstsq(np.transpose(by_skip), by_x)[0]
        return float(np.linalg.norm(rest) / np.linalg.norm(by_x)) if by_x.any() else 1.0

    def other_order(filters: int) -> float:
        """How much the order of the values in one half of the map depends on the level of the other half, 0 to 2.

        It depends on it by an instance normalisation before an activation whose voxels a convolution mixes, and by nothing else.
        """
        x, skip = np.zeros((9, 12, 6, 6, 2)), np.zeros((9, 24, 12, 12, 4))
        x[:, :6], skip[:, :12] = rng.normal(size=(6, 6, 6, 2)), rng.normal(size=(12, 12, 12, 4))
        for channel in range(4):
            skip[1 + channel, 12:, ..., channel], skip[5 + channel, 12:, ..., channel] = 3, -3
        lowest = 1.0
        for first, *others in np.moveaxis(step(x, skip, filters)[:, 2:10, 2:-2, 2:-2].reshape(9, -1, filters), -1, 0):
            for other in others:  # compared where the last activation is neither 0 nor at its top: there it keeps the order
                seen = np.all([(part > 1e-3) & (part < part.max() - 1e-3) for part in (first, other)], axis=0)
                if seen.sum() > 20:
                    lowest = min(lowest, np.corrcoef(*(part[seen].argsort().argsort() for part in (first, other)))[0, 1])
        return 1 - float(lowest)

    sizes = [(1, (2, 3, 4), 3, 2, 7), (2, (3, 1, 2), 4, 6, 2)]
    sizes += [
        (1, tuple(int(n) for n in rng.integers(1, 4, 3)), *(int(n) for n in rng.integers(1, 7, 3))) for _ in range(check.rounds - 1)
    ]
    for batch, size, channels, skipped, filters in sizes:
        double = tuple(2 * n for n in size)
        x, skip = tensor(batch, *size, channels), tensor(batch, *double, skipped)
        with check.case("shape"):
            got = check.array(check.call(x, skip, filters), None, "a tensor")
            wanted = (batch, *double, filters)
            if got.shape == wanted and not np.ptp(got, axis=(1, 2, 3)).any():
                hint = "convolve the joined tensor: the result is a map, not one number for all voxels"
                check.fail("values that vary from voxel to voxel", "one value", hint)
            hint = f"the result has `filters` channels ({filters}) and the size of `skip`"
            if got.shape[:-1] == (batch, *size):
                hint = "x is not enlarged: twice the size along the three axes, to fit `skip`"
            elif got.shape[-1:] == (channels + skipped,):
                hint = "this is the joined tensor itself: convolve it with `filters` filters"
            elif got.shape[1:2] == (filters,) and got.ndim == 5:
                hint = "the channels are the last axis"
            check.require("shape", got.shape == wanted, f"shape {wanted}", f"shape {got.shape}", hint)
            check.require("finite", np.isfinite(got).all(), "finite values", "nan or inf", "are all layers given finite inputs?")
        for key, inputs in [("use of x", (x * np.nan, skip)), ("use of skip", (x, skip * np.nan))]:
            with check.case(key):
                got, name = check.array(check.call(*inputs, filters), None, "a tensor"), key.split()[-1]
                check.require(
                    key,
                    np.isnan(got).any(),
                    f"a result that depends on `{name}` (here `{name}` is nan everywhere)",
                    "the same as without it",
                    f"`{name}` is not used: enlarge x, join it with skip by keras.layers.Concatenate, convolve both",
                )
        with check.case("normalisation"):
            large = check.call(tensor(batch, *size, channels, scale=1e3), tensor(batch, *double, skipped, scale=1e3), filters)
            large = check.array(large, None, "a tensor")
            top = float(np.abs(large).max())
            check.require(
                "normalisation",
                top < 30 and np.ptp(large) > 0,
                "values of about 1, also for inputs of about 1,000",
                f"values up to {top:.3g}",
                "after each convolution, normalise: keras.layers.GroupNormalization(groups=-1)",
            )
    for _ in range(check.rounds):
        # One voxel of `skip` differs from the others: what it changes is as wide as the convolutions together.
        at, spot = rng.integers(7, 9, 3), np.zeros((1, 16, 16, 16, 2), "float32")
        spot[0, *at] = 100
        with check.case("two convolutions"):
            inputs = (np.zeros((1, 8, 8, 8, 3), "float32"), spot)
            got = check.array(check.call(*map(keras.ops.convert_to_tensor, inputs), 6), (1, 16, 16, 16, 6), "a tensor")
            inner = got[0, 3:-3, 3:-3, 3:-3].astype(float)  # the border has zeros beside it
            change = np.abs(inner - np.median(inner, axis=(0, 1, 2))).max(axis=-1)
            changed = np.argwhere(change > 1e-3 * change.max())
            reach = tuple(int(n) for n in np.ptp(changed, axis=0) + 1) if len(changed) else (0, 0, 0)
            hint = "two convolutions, each 3×3×3, one after the other"
            if len(set(reach)) > 1:
                hint = "a kernel is 3 along all three axes of space, and the map is not moved or cut"
            elif reach == (3, 3, 3):
                hint = "only one convolution of 3×3×3: two, one after the other (a smaller kernel, a `return` inside of the loop?)"
            elif reach[0] > 5:
                hint = "there are more than two convolutions, or their kernels are larger than 3 or dilated"
            elif reach[0] == 1:
                hint = 'the kernels are 1×1×1: 3×3×3, `keras.layers.Conv3D(filters, 3, padding="same")`'
            wanted = "a voxel of `skip` that changes 5 × 5 × 5 voxels of the result (two convolutions of 3×3×3)"
            check.require("two convolutions", reach == (5, 5, 5), wanted, f"{' × '.join(map(str, reach))} voxels", hint)
        # One voxel of `x` differs from the others: what it changes lies around the block that it becomes.
        at, spot = rng.permutation([4, 5, 7]), np.zeros((1, 12, 12, 12, 2))
        spot[0, *at] = 100
        with check.case("enlarged in place"):
            inner = step(spot, np.zeros((1, 24, 24, 24, 3)), 6)[0, 3:-3, 3:-3, 3:-3]
            change = np.abs(inner - np.median(inner, axis=(0, 1, 2))).max(axis=-1)
            changed = np.argwhere(change > 1e-3 * change.max()) + 3
            low, high = (tuple(int(n) for n in end(axis=0)) if len(changed) else (0, 0, 0) for end in (changed.min, changed.max))
            middle, wide = np.add(low, high) / 2, np.subtract(high, low)
            start = tuple(int(2 * n) for n in at)
            check.require(
                "enlarged in place",
                len(changed) and np.abs(middle - start - 0.5).max() <= 1 and wide.max() < 12,
                f"voxel {tuple(map(int, at))} of `x` changes the result around the 2×2×2 voxels from {start} on",
                f"it changes voxels from {low} to {high}",
                "each voxel of x becomes the 2×2×2 voxels in its own place: "
                "keras.layers.Conv3DTranspose(filters, 2, strides=2) or UpSampling3D(2)",
            )
        with check.case("joined, not added"):
            check.require(
                "joined, not added",
                any(own_weights() > 0.25 for _ in range(3)),
                "x and skip with weights of their own in the first convolution of 3×3×3",
                "the same weights for both",
                "x and skip were added, or mixed voxel by voxel by a 1×1×1 kernel, before a larger kernel saw them: "
                "keras.layers.Concatenate(), then 3×3×3 twice",
            )
        with check.case("instance normalisation, then activation"):
            x, skip = tensor(1, 5, 5, 5, 3, scale=10.0), tensor(1, 10, 10, 10, 4, scale=10.0)
            got = check.array(check.call(x, skip, 8), (1, 10, 10, 10, 8), "a tensor").reshape(-1, 8).astype(float)
            mean, sd = got.mean(axis=0), got.std(axis=0)
            check.require(
                "instance normalisation, then activation",
                np.abs(mean).max() > 1e-3 or np.abs(sd - 1).max() > 0.02,
                "the values of an activation",
                "mean 0 and standard deviation 1 in each channel: the values of a normalisation",
                "the last step is an activation: is it missing, or does it stand before the normalisation?",
            )
            check.require(
                "instance normalisation, then activation",
                mean.std() < 0.1 * got.std(),
                "channels of about the same mean: each is normalised by itself",
                f"means {mean.round(2).tolist()}",
                "after each convolution, before the activation, normalise each channel by itself: GroupNormalization(groups=-1)",
            )
        with check.case("each sample by itself"):
            sizes = np.array([1, 50], "float32").reshape(2, 1, 1, 1, 1)
            x, skip = (size * tensor(2, *3 * (side,), 4) for size, side in ((sizes, 5), (sizes, 10)))
            sd = check.array(check.call(x, skip, 8), (2, 10, 10, 10, 8), "a tensor").astype(float).std(axis=(1, 2, 3, 4))
            check.require(
                "each sample by itself",
                sd.min() > 0.5 * sd.max(),
                "about the same spread in both samples, of which the second has inputs 50 times as large",
                f"standard deviations {sd.round(3).tolist()}",
                "normalise each channel of each sample by itself, not across the batch: keras.layers.GroupNormalization(groups=-1)",
            )
        with check.case("an activation between the convolutions"):
            # Without one, inputs of the other sign only change the sign of what the last activation is given (tanh: of the result).
            parts = rng.normal(size=(1, 5, 5, 5, 3)), rng.normal(size=(1, 10, 10, 10, 4))
            inputs = (keras.ops.convert_to_tensor(np.concatenate([part, -part]).astype("float32")) for part in parts)
            got = check.call(*inputs, 8)
            there, mirrored = check.array(got, (2, 10, 10, 10, 8), "a tensor").astype(float)
            check.require(
                "an activation between the convolutions",
                np.mean(there * mirrored > 1e-6) > 0.01 or np.allclose(there, -mirrored, atol=1e-3),
                "a result that is not one of a single activation at the end",
                "the same as without an activation after the first convolution",
                "after each convolution: normalise, then an activation, such as keras.layers.LeakyReLU(0.01)",
            )
        for key, filters, wanted, hint in [
            (
                "normalisation between the convolutions",
                8,
                "values that depend on the mean of the first convolution's result",
                "after the first convolution, before its activation, each channel of each sample is normalised over all its "
                "voxels, too: keras.layers.GroupNormalization(groups=-1)",
            ),
            (
                "two kernels of 3",
                1,
                "values that depend on the neighbours in the first convolution's result",
                "the second convolution sees one voxel of the first one's result, not its neighbours: both kernels are 3×3×3",
            ),
        ]:
            with check.case(key):
                check.require(key, any(other_order(filters) > 1e-4 for _ in range(3)), wanted, "values that do not", hint)
    check.done()


def _dice(
    t: Any,
    p: Any,
    axis: tuple | None,
    epsilon: float,
    power: int = 1,
    top: float = 2.0,
    above: float = 1.0,
    below: float = 1.0,
    overlap: float = 0.0,
) -> np.ndarray:
    """Dice without the mean; power 2: squared denominators. The other arguments make the usual wrong variants."""
    t, p = np.asarray(t, dtype=float), np.asarray(p, dtype=float)
    both = (t * p).sum(axis)
    with np.errstate(all="ignore"):
        return (top * both + above * epsilon) / ((t**power + p**power).sum(axis) + below * epsilon - overlap * both)


def _dice_test(
    check: Check, axis: tuple[int, ...], power: int, finish: Callable, cases: list[tuple], more: dict[str, Callable]
) -> None:
    """Check a Dice function, finish(Dice), on (key, y_true, y_pred, options, hint). `more`: hint → another way to finish."""
    import keras

    def formula(finish: Callable = finish, **changes: Any) -> Callable:
        def value(t: Any, p: Any, axis: tuple = axis, epsilon: float = 1e-5) -> float:
            return finish(_dice(t, p, **{"axis": axis, "epsilon": epsilon, "power": power, **changes}))

        return value

    squares = "Σt² + Σp²" if power == 2 else "Σt + Σp"
    mistakes: Mistakes = {slip: formula(other) for slip, other in more.items()} | {
        "the axes are fixed: use the argument `axis`": formula(axis=axis),
        "the sums run over everything: sum over `axis` only, then take the mean of what is left": formula(axis=None),
        "epsilon is not used, or it is fixed at 1e-5: use the argument": formula(epsilon=1e-5),
        "epsilon is not used: add it above and below": formula(epsilon=0.0),
        **{
            f"the default of epsilon is {default:g} here: it should be 1e-5": (
                lambda t, p, default=default, **options: formula()(t, p, **{"epsilon": default, **options})
            )
            for default in (1e-8, 1e-7, 1e-6, 1e-4, 1.0)
        },
        f"the denominator should be {squares} + ε": formula(power=3 - power),
        "the factor 2 in the numerator is missing": formula(top=1.0),
        "epsilon is missing in the numerator": formula(above=0.0),
        "epsilon is missing in the denominator": formula(below=0.0),
        "epsilon is doubled in the numerator: 2Σtp + ε": formula(above=2.0),
        "epsilon is doubled in the denominator": formula(below=2.0),
        "this is the Jaccard index (intersection over union)": formula(top=1.0, overlap=1.0),
        "the numerator lacks brackets: (2Σtp + ε) / (…)": lambda t, p, axis=axis, epsilon=1e-5: finish(
            2 * (t * p).sum(axis) + epsilon / ((t**power + p**power).sum(axis) + epsilon)
        ),
        **(
            {
                "y_true is not squared: Σt² + Σp²": lambda t, p, axis=axis, epsilon=1e-5: finish(
                    (2 * (t * p).sum(axis) + epsilon) / ((t + p**2).sum(axis) + epsilon)
                ),
                "y_pred is not squared: Σt² + Σp²": lambda t, p, axis=axis, epsilon=1e-5: finish(
                    (2 * (t * p).sum(axis) + epsilon) / ((t**2 + p).sum(axis) + epsilon)
                ),
            }
            if power == 2
            else {}
        ),
        "the denominator lacks brackets: (…) / (… + ε)": lambda t, p, axis=axis, epsilon=1e-5: finish(
            (2 * (t * p).sum(axis) + epsilon) / (t**power + p**power).sum(axis) + epsilon
        ),
        "epsilon is added to the quotient: add it above and below": lambda t, p, axis=axis, epsilon=1e-5: finish(
            2 * (t * p).sum(axis) / (t**power + p**power).sum(axis) + epsilon
        ),
        "these are means over the voxels: add them up": lambda t, p, axis=axis, epsilon=1e-5: finish(
            (2 * (t * p).mean(axis) + epsilon) / ((t**power + p**power).mean(axis) + epsilon)
        ),
        f"the denominator lacks y_pred: {squares} + ε": lambda t, p, axis=axis, epsilon=1e-5: finish(
            (2 * (t * p).sum(axis) + epsilon) / ((t**power).sum(axis) + epsilon)
        ),
        f"the denominator has y_true twice: {squares} + ε": lambda t, p, axis=axis, epsilon=1e-5: finish(
            (2 * (t * p).sum(axis) + epsilon) / (2 * (t**power).sum(axis) + epsilon)
        ),
        "the product of the sums is above: take the sum of the products, Σtp": lambda t, p, axis=axis, epsilon=1e-5: finish(
            (2 * t.sum(axis) * p.sum(axis) + epsilon) / ((t**power + p**power).sum(axis) + epsilon)
        ),
        "the products are squared above: 2Σtp + ε": lambda t, p, axis=axis, epsilon=1e-5: finish(
            (2 * ((t * p) ** 2).sum(axis) + epsilon) / ((t**power + p**power).sum(axis) + epsilon)
        ),
        "the whole denominator is squared: add up the squares": lambda t, p, axis=axis, epsilon=1e-5: finish(
            (2 * (t * p).sum(axis) + epsilon) / ((t + p).sum(axis) ** 2 + epsilon)
        ),
        "the sums are squared: add up the squares": lambda t, p, axis=axis, epsilon=1e-5: finish(
            (2 * (t * p).sum(axis) + epsilon) / (t.sum(axis) ** 2 + p.sum(axis) ** 2 + epsilon)
        ),
        **(
            {
                "divide for each class, then take the mean: this divides the means": lambda t, p, axis=axis, epsilon=1e-5: finish(
                    (2 * (t * p).sum(axis) + epsilon).mean() / ((t**power + p**power).sum(axis) + epsilon).mean()
                )
            }
            if len(axis) == 3 and axis != (0, 1, 2)
            else {}
        ),
        "the prediction is thresholded at 0.5: use the probabilities themselves": lambda t, p, **options: formula()(
            t, np.asarray(p) > 0.5, **options
        ),
    }
    all_cases = []
    for key, y_true, y_pred, options, hint in cases:
        tensors = tuple(keras.ops.convert_to_tensor(np.asarray(a, "float32")) for a in (y_true, y_pred))
        hint = hint or f"(2Σtp + ε) / ({squares} + ε), sums over `axis`"
        error = "are the axes fixed, or their number? Use the argument `axis`" if "axis" in options else ""
        all_cases.append(Case(key, tensors, formula()(y_true, y_pred, **options), hint, options, error))
    check.judge(
        all_cases, {slip: lambda t, p, wrong=wrong, **o: wrong(_plain(t), _plain(p), **o) for slip, wrong in mistakes.items()}
    )
    if check.name.endswith("loss"):
        (truth, _), at = tensors, np.asarray(y_pred, "float32")
        advice = "a loss needs its gradient: use keras.ops throughout"
        with check.case("gradient"):
            gradient = check.gradient(lambda p: check.call(truth, p), at)
            if gradient is not NotImplemented:
                wanted = "a gradient of the loss with respect to y_pred"
                check.require("gradient", gradient is not None, wanted, gradient, advice)
                step = 1e-4 * np.sign(gradient).astype(float)
                slope = (formula()(y_true, at + step) - formula()(y_true, at - step)) / 2
                right = abs((gradient * step).sum() - slope) <= 0.02 * abs(slope)
                check.require("gradient", right, "the gradient of the formula", gradient, advice)


def single_class_dice_coefficient_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `single_class_dice_coefficient(y_true, y_pred, axis, epsilon)`.

    Not checked: integer tensors, the type of the result (a float is as good as a tensor), axes that leave something.
    """
    import keras

    check = check("single_class_dice_coefficient", target, ["y_true", "y_pred"], tolerance=2e-5, seed=seed)
    rng, t, p = check.rng(13), np.array([[1, 0], [1, 1]]), np.array([[1, 1], [0, 1]])
    none = np.zeros((2, 3, 1))
    cases: list[tuple] = [
        ("epsilon", t[..., None], p[..., None], {"epsilon": 1.0}, "two voxels agree, of 3 and 3: (2·2 + 1) / (3 + 3 + 1)"),
        ("masks", t[..., None], p[..., None], {}, "two voxels agree, of 3 and 3: 2·2 / (3 + 3); epsilon, 1e-5, changes little"),
        ("axis", np.stack([t, p, t], -1)[..., None, :], np.stack([p, p, t], -1)[..., None, :], {"axis": (0, 1, 2, 3)}, "four axes"),
        ("empty", none, none, {}, "nothing to find and nothing found: ε / ε = 1"),
        ("empty", none, none + 1, {"epsilon": 0.5}, "nothing to find and 6 voxels found: ε / (6 + ε)"),
        ("empty", none, none + 1e-3, {}, "nothing to find, 0.001 found in each voxel; epsilon is 1e-5 unless told otherwise"),
        ("empty", none, none + 1e-6, {}, "nothing to find, next to nothing found; epsilon is 1e-5 unless told otherwise"),
    ]
    for _ in range(check.rounds):
        a, b, c = ((rng.random((2, *shape)) < 0.4).astype(float) for shape in ((3, 4, 5), (7, 2, 3), (1, 5, 6, 1)))
        soft = rng.random((2, 5, 2, 4))
        cases += [
            ("epsilon", *a, {"epsilon": 0.1}, ""),
            ("masks", *b, {"axis": (0, 1, 2)}, ""),
            ("axis", *c, {"axis": (0, 1, 2, 3), "epsilon": 0.3}, "axis has four entries here"),
            ("probabilities", (soft[0] < 0.4) * 1.0, soft[1], {}, "predictions may be probabilities"),
            ("soft labels", *soft, {"epsilon": 0.2}, "labels may be soft"),
            ("empty", none, rng.random((2, 3, 1)) * 1e-2, {}, "nothing to find; epsilon is 1e-5 unless told otherwise"),
        ]
    _dice_test(
        check,
        (0, 1, 2),
        1,
        lambda dice: dice,
        cases,
        {"this is 1 − Dice: the coefficient is wanted, not the loss": lambda dice: 1 - dice},
    )
    with check.case("axis that leaves something"):
        shape = (3, 4, 5)
        masks = [keras.ops.convert_to_tensor((rng.random(shape) < 0.4).astype("float32")) for _ in range(2)]
        each = _dice(*masks, (1, 2), 0.5)
        try:  # (a float() around the result cannot hold three values: let pass)
            got = check.array(check.call(*masks, axis=(1, 2), epsilon=0.5), None)
        except AssertionError:
            got = each
        hint = "`axis` is not used: with axis=(1, 2) each of the three slices has a Dice of its own"
        check.match("axis that leaves something", got, each if got.size > 1 else each.mean(), hint)
    check.done()


def _several_classes(check: Check, rng: np.random.Generator) -> list[tuple]:
    """Cases for the Dice functions of several classes: (key, y_true, y_pred, options, hint)."""
    none = np.zeros((2, 2, 3, 1, 2))
    t, p = (np.moveaxis(np.reshape(a, (2, 2, 2, 1)), 0, -1)[None] for a in ([1, 0, 1, 1, 0, 0, 0, 1], [1, 1, 0, 1, 0, 0, 0, 0]))

    whole, half = np.zeros((1, 2, 2, 1, 2)), np.zeros((1, 2, 2, 1, 2))
    whole[..., 0], half[:, 0, :, :, 0] = 1, 1

    def mask(*shape: int) -> np.ndarray:
        return (rng.random(shape) < 0.4).astype(float)

    cases: list[tuple] = [
        ("epsilon", t, p, {"epsilon": 1.0}, "two classes: (2·2 + 1) / (3 + 3 + 1) and (0 + 1) / (1 + 0 + 1), then the mean"),
        ("masks", t, p, {}, "two classes: 4/6 and 0/1, then the mean"),
        ("empty", none, none, {}, "nothing to find and nothing found: ε / ε = 1"),
        ("empty", whole, half, {}, "the second class is empty in both, and counts as 1: the mean of 2/3 and 1"),
        ("empty", none, none + 1e-3, {}, "nothing to find, 0.001 found in each voxel; epsilon is 1e-5 unless told otherwise"),
        ("empty", none, none + 1e-6, {}, "nothing to find, next to nothing found; epsilon is 1e-5 unless told otherwise"),
    ]
    for _ in range(check.rounds):
        cases += [
            ("axis", mask(2, 4, 3, 2, 3), mask(2, 4, 3, 2, 3), {"axis": (2, 3), "epsilon": 0.1}, "each slice along x by itself"),
            ("masks", mask(2, 3, 5, 2, 3), mask(2, 3, 5, 2, 3), {}, "a batch of 2 with 3 classes: the mean of the six"),
            ("axis", mask(3, 2, 4, 5, 2), mask(3, 2, 4, 5, 2), {"axis": (0, 1, 2, 3), "epsilon": 0.5}, "the batch is summed, too"),
            ("probabilities", mask(1, 4, 3, 6, 3), rng.random((1, 4, 3, 6, 3)), {}, "predictions are probabilities"),
            (
                "epsilon",
                mask(2, 5, 3, 2, 4) * [1, 0.2, 0, 1],
                rng.random((2, 5, 3, 2, 4)),
                {"epsilon": 2.0},
                "soft labels, large ε",
            ),
            ("empty", none, rng.random(none.shape) * 1e-2, {}, "nothing to find; epsilon is 1e-5 unless told otherwise"),
            ("probabilities", mask(2, 3, 2, 4, 3), rng.uniform(0.1, 0.9, (2, 3, 2, 4, 3)), {}, "predictions are probabilities"),
        ]
    return cases


def dice_coefficient_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `dice_coefficient(y_true, y_pred, axis, epsilon)`.

    Not checked: integer tensors, the type of the result (a float is as good as a tensor), use inside `model.fit`.
    """
    check = check("dice_coefficient", target, ["y_true", "y_pred"], tolerance=2e-5, seed=seed)
    _dice_test(
        check,
        (1, 2, 3),
        1,
        np.mean,
        _several_classes(check, check.rng(14)),
        {
            "this is 1 − Dice: the coefficient is wanted, not the loss": lambda dice: 1 - np.mean(dice),
            "this is the sum over the classes: take the mean": np.sum,
            "this is the first class only: take the mean of all": lambda dice: np.mean(dice[..., 0]),
        },
    )
    check.done()


def soft_dice_loss_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `soft_dice_loss(y_true, y_pred, axis, epsilon)`: its value and its gradient.

    Not checked: integer tensors, the loss inside `model.fit`.
    """
    check = check("soft_dice_loss", target, ["y_true", "y_pred"], tolerance=2e-5, seed=seed)
    _dice_test(
        check,
        (1, 2, 3),
        2,
        lambda dice: 1 - np.mean(dice),
        _several_classes(check, check.rng(15)),
        {
            "this is the coefficient: the loss is 1 − its mean": np.mean,
            "the loss is 1 − the coefficient, not minus the coefficient": lambda dice: -np.mean(dice),
            "this is 1 − the sum over the classes: take the mean": lambda dice: 1 - np.sum(dice),
            "these are the losses of all samples and classes added up: 1 − the mean": lambda dice: np.sum(1 - dice),
            "this is the first class only: take the mean of all": lambda dice: 1 - np.mean(dice[..., 0]),
        },
    )
    check.done()


def compute_class_sens_spec_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `compute_class_sens_spec(pred, label, class_num)` on binary arrays with the classes last.

    Not checked: probabilities (threshold them first), classes that are not in the array.
    """
    check = check("compute_class_sens_spec", target, ["pred", "label", "class_num"], seed=seed)
    rng = check.rng(16)
    names = ("sensitivity", "specificity", "ppv", "npv", "accuracy")
    sensitivity, specificity, ppv, npv, accuracy = (_METRICS[f"get_{name}"][1] for name in names)

    def rates(first: Callable, second: Callable, part: Callable = lambda a, k: a[..., k], undefined: float = np.nan) -> Callable:
        def formula(pred: np.ndarray, label: np.ndarray, k: int) -> tuple[float, ...]:
            counts = _counts(part(label, k), part(pred, k) == 1)
            return tuple(float(np.nan_to_num(rate(*counts), nan=undefined)) for rate in (first, second))

        return formula

    right = rates(sensitivity, specificity)
    mistakes: Mistakes = {
        "an undefined rate is nan, not 0": rates(sensitivity, specificity, undefined=0.0),
        "an undefined rate is nan, not 1": rates(sensitivity, specificity, undefined=1.0),
        "sensitivity and specificity are swapped": rates(specificity, sensitivity),
        "these are PPV and NPV (or pred and label are swapped)": rates(ppv, npv),
        "the first is the PPV: sensitivity is TP/(TP+FN)": rates(ppv, specificity),
        "the second is the NPV: specificity is TN/(TN+FP)": rates(sensitivity, npv),
        "this is class 0: use class_num": rates(sensitivity, specificity, lambda a, k: a[..., 0]),
        "this is the last class: use class_num": rates(sensitivity, specificity, lambda a, k: a[..., -1]),
        "the second is the false positive rate: specificity is TN/(TN+FP)": rates(
            sensitivity, _OTHER_RATES["the false positive rate"]
        ),
        "the first is the false negative rate: sensitivity is TP/(TP+FN)": rates(
            _OTHER_RATES["the false negative rate"], specificity
        ),
        "these are percentages: return fractions": lambda pred, label, k: tuple(100 * rate for rate in right(pred, label, k)),
        "all classes are counted together: use class_num": rates(sensitivity, specificity, lambda a, k: a),
        "the classes are the last axis: pred[..., class_num]": rates(sensitivity, specificity, lambda a, k: a[k]),
        "class_num counts from 0": rates(sensitivity, specificity, lambda a, k: a[..., k - 1]),
        "class_num counts from 0: this is the next class": rates(
            sensitivity, specificity, lambda a, k: a[..., (k + 1) % a.shape[-1]]
        ),
        "this is argmax: each class has a channel of its own, pred[..., class_num]": rates(
            sensitivity, specificity, lambda a, k: (a.argmax(-1) == k).astype(int)
        ),
        "the second is the accuracy: specificity is TN/(TN+FP)": rates(sensitivity, accuracy),
        "the first is the accuracy: sensitivity is TP/(TP+FN)": rates(accuracy, specificity),
    }
    label = np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 1], [0, 1], [0, 0], [0, 0]])
    pred = np.array([[1, 0], [1, 1], [0, 1], [1, 1], [0, 0], [0, 0], [0, 0], [0, 0]])
    usual = "TP/(TP+FN) and TN/(TN+FP), counted over the voxels of the class"
    cases = [
        ("axes", pred.reshape(shape), label.reshape(shape), k, usual)
        for shape, k in [((2, 2, 2, 2), 0), ((2, 4, 1, 2), 1), ((8, 2), 1)]
    ]
    for shape, kind in [
        ((3, 4, 5, 3), int),
        ((6, 5, 4), int),
        ((4, 4, 4, 4), int),
        ((2, 3, 4, 5, 4), float),
        ((30, 3), "float32"),
        ((3, 4, 5, 2), "uint8"),
        ((9, 4, 2), bool),
    ]:
        truth = rng.random(shape) < 0.3
        answer = np.where(rng.random(shape) < 0.25, ~truth, truth)
        hint = f"{usual} (type {np.dtype(kind)})"
        key = "scan" if len(shape) == 4 else "axes"
        cases += [(key, answer.astype(kind), truth.astype(kind), k, hint) for k in range(shape[-1])]
    some = rng.integers(0, 2, (3, 2, 4))
    for value, what in enumerate(["no voxel is of this class: the sensitivity", "all voxels are of this class: the specificity"]):
        for answer in (some, np.zeros_like(some), np.ones_like(some)):
            stack = [np.stack([some, part, some], axis=-1) for part in (answer, np.full_like(some, value))]
            cases.append(("undefined", *stack, 1, f"in the label {what} is undefined, np.nan; the other rate is not"))

    def read(value: Any) -> tuple[float, ...]:
        return tuple(float(check.array(part, ())) for part in check.pair(value, "sensitivity", "specificity"))

    check.judge(
        [Case(key, (pred, label, k), right(pred, label, k), hint, {}, hint) for key, pred, label, k, hint in cases], mistakes, read
    )
    check.done()


def lesion_recall_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `lesion_recall(pred, label)` on binary masks (x, y, z).

    Not checked: probabilities (threshold them first), masks of several classes.
    """
    from scipy import ndimage

    check = check("lesion_recall", target, ["pred", "label"], seed=seed)
    rng = check.rng(25)

    def share(of: np.ndarray, by: np.ndarray, structure: Any = None, enough: Callable = np.any, finish: Callable = _ratio) -> float:
        pieces, n = ndimage.label(of > 0, structure)
        return finish(sum(bool(enough(by[pieces == k] > 0)) for k in range(1, n + 1)), n)

    def of_numbers(pred: np.ndarray, label: np.ndarray, first: int) -> float:
        pieces, n = ndimage.label(label > 0)
        return _ratio(sum(bool((pred[pieces == k] > 0).any()) for k in range(first, n)), n)

    def by_slices(pred: np.ndarray, label: np.ndarray) -> float:
        numbers = [(share(label[..., z], pred[..., z], finish=lambda k, n: [k, n])) for z in range(label.shape[-1])]
        return _ratio(*np.sum(numbers, axis=0))

    def diagonal(pred: np.ndarray, label: np.ndarray) -> float:
        return share(label, pred, np.ones((3,) * label.ndim))

    mistakes: Mistakes = {
        "these are voxels: count pieces (scipy.ndimage.label), each once": lambda p, t: _ratio(
            np.sum((p > 0) & (t > 0)), np.sum(t > 0)
        ),
        "this is the share of pieces of `pred` that hit something: number the pieces of `label`": lambda p, t: share(p, t),
        "pieces that touch only at an edge or a corner are two pieces: the default structure of scipy.ndimage.label": diagonal,
        "this is a number of pieces: divide by the number of pieces in `label`": lambda p, t: share(t, p, finish=lambda k, n: k),
        "a piece counts when one voxel is found, not only when all are": lambda p, t: share(t, p, enough=np.all),
        "a piece counts when one voxel is found, not only when half are": lambda p, t: share(
            t, p, enough=lambda found: found.mean() >= 0.5
        ),
        "a piece counts when one voxel is found, not only when more than half are": lambda p, t: share(
            t, p, enough=lambda found: found.mean() > 0.5
        ),
        "only the first piece is looked at: is the `return` inside of the loop?": lambda p, t: (
            float((p[ndimage.label(t > 0)[0] == 1] > 0).any()) / ndimage.label(t > 0)[1]
        ),
        "each slice is numbered by itself: pieces go through the slices": by_slices,
        "`pieces[pred]` takes the zeros and ones for row numbers: `pieces[pred > 0]`": lambda p, t: _ratio(
            np.count_nonzero(np.unique(ndimage.label(t)[0][p])), ndimage.label(t)[1]
        ),
        "this is a percentage: return the fraction": lambda p, t: 100 * share(t, p),
        "this is 1 as soon as anything is found: count piece by piece": lambda p, t: share(t, p, finish=lambda k, n: float(k > 0)),
        "this is the share of pieces that are missed: 1 minus it": lambda p, t: 1 - share(t, p),
        "this is the number of pieces in `pred` divided by that in `label`: which pieces are found?": lambda p, t: _ratio(
            ndimage.label(p)[1], ndimage.label(t)[1]
        ),
        "the background counts as a piece here: pieces are numbered from 1": lambda p, t: share(
            t, p, finish=lambda k, n: (k + bool(((p > 0) & (t == 0)).any())) / (n + 1)
        ),
        "there is one piece too many in the denominator: ndimage.label gives the number of pieces": lambda p, t: share(
            t, p, finish=lambda k, n: k / (n + 1)
        ),
        "pieces are numbered from 1 to n: `range(n)` takes the background and leaves out the last": lambda p, t: of_numbers(
            p, t, 0
        ),
        "the last piece is left out: they are numbered from 1 to n, `range(1, n + 1)`": lambda p, t: of_numbers(p, t, 1),
        "the background, 0, counts as a piece that is found: leave it out": lambda p, t: share(
            t, p, finish=lambda k, n: _ratio(k + bool(((p > 0) & (t == 0)).any()), n)
        ),
        "these are the pieces of the overlap: which pieces of `label` are found?": lambda p, t: _ratio(
            ndimage.label((p > 0) & (t > 0))[1], ndimage.label(t)[1]
        ),
        "this is the Dice coefficient: count pieces": lambda p, t: 2 * np.sum((p > 0) & (t > 0)) / (np.sum(p > 0) + np.sum(t > 0)),
    }
    label = np.array([[1, 1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1], [0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 0]])
    pred = np.array([[0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]])
    pred, label = pred[..., None], label[..., None]
    whole, angle, corner = np.ones((2, 2, 2), int), np.zeros((3, 3, 1), int), np.zeros((3, 3, 1), int)
    angle[0], angle[:, 0], corner[2, 2] = 1, 1, 1
    rule = "number the pieces of `label` (scipy.ndimage.label) and count those that share a voxel with `pred`"
    cases: list[tuple] = [
        ("pieces", pred, label, "four pieces (the corner at the bottom is one of its own), two of them found: 2/4"),
        ("pieces", label, label, "everything is found: 1"),
        ("nothing found", 0 * label, label, "nothing is found: 0"),
        ("nothing found", corner, angle, "`pred` is in the box around the piece, but shares no voxel with it: 0"),
        ("pieces", whole, whole, "one piece that fills the mask, so that there is no background, and it is found: 1"),
        ("no piece", pred, 0 * label, "there is no piece in `label`: return np.nan"),
        ("no piece", 0 * label, 0 * label, "there is no piece in `label`: return np.nan"),
    ]
    for number in range(6 * check.rounds):
        shape = (7, 6, 5) if number % 2 else (4, 5, 3)
        truth = ndimage.binary_dilation(rng.random(shape) < 0.04, iterations=number % 2) | (rng.random(shape) < 0.03)
        truth.flat[rng.integers(truth.size)] = True
        answer = rng.random(shape) < rng.uniform(0.05, 0.3)
        kind = ("int64", "uint8", "bool", "float32")[number % 4]
        key = "pieces of a scan" if share(truth, answer) else "nothing found"
        cases.append((key, answer.astype(kind), truth.astype(kind), f"{rule} (type {kind})"))
    for _ in range(check.rounds - 1):
        shape = tuple(int(n) for n in rng.integers(2, 5, 3))
        one = np.zeros(shape, int)
        one.flat[rng.integers(one.size)] = 1
        cases.append(("no piece", rng.integers(0, 2, shape), np.zeros(shape, int), "there is no piece in `label`: return np.nan"))
        cases.append(("nothing found", 1 - one, one, "nothing is found: 0"))
        corner, part = np.zeros((4, 4, 4), int), np.zeros((4, 4, 4), int)  # two pieces that touch at a corner, one found
        at = int(rng.integers(0, 3))
        corner[at, at, at], corner[at + 1, at + 1, at + 1], part[at, at, at] = 1, 1, 1
        cases.append(("pieces", part, corner, "two pieces that touch at a corner only"))
    check.judge(
        [
            Case(key, (answer, truth), share(truth, answer), hint, {}, "" if truth.any() else hint, bool(truth.any()))
            for key, answer, truth, hint in cases
        ],
        mistakes,
    )
    check.done()


def get_regions_test(target: Callable, *, seed: int | None = None, check: type[Check] = Check) -> None:
    """Check `get_regions(label)` on integer maps of one to five axes.

    Not checked: labels other than 0, 1, 2, 3, maps of floats.
    """
    check = check("get_regions", target, ["label"], seed=seed)
    rng = check.rng(17)
    regions = {
        "these are the single classes 1, 2, 3: the regions contain one another": ([1], [2], [3]),
        "another order is wanted: whole tumour, core, enhancing": ([3], [2, 3], [1, 2, 3]),
        "another order is wanted: the whole tumour first": ([2, 3], [1, 2, 3], [3]),
        "another order is wanted: the enhancing tumour last": ([1, 2, 3], [3], [2, 3]),
        "the core is 2 and 3, without the edema 1": ([1, 2, 3], [1, 3], [3]),
        "the core is 2 and 3, not 1 and 2": ([1, 2, 3], [1, 2], [3]),
        "the core contains the enhancing tumour: 2 and 3": ([1, 2, 3], [2], [3]),
        "the enhancing tumour is 3, not 2": ([1, 2, 3], [2, 3], [2]),
        "the whole tumour has the enhancing part, 3, as well": ([1, 2], [2, 3], [3]),
        "the whole tumour has the edema, 1, as well": ([2, 3], [2, 3], [3]),
        "the whole tumour is 1, 2 and 3, not only the edema": ([1], [2, 3], [3]),
        "the background, 0, belongs to no region": ([0, 1, 2, 3], [2, 3], [3]),
        "the core contains the non-enhancing tumour, too: 2 and 3": ([1, 2, 3], [3], [3]),
        "this is inside out: True is where the tumour is": ([0], [0, 1], [0, 1, 2]),
        "BraTS codes the enhancing tumour as 4; here it is 3": ([1, 2, 3], [2, 3], [4]),
        "in the code of BraTS the core is 1 and 4; here it is 2 and 3": ([1, 2, 3], [1, 4], [4]),
        "this is the code of BraTS (1, 2, 4); here it is 1, 2, 3, with 1 the edema": ([1, 2, 4], [1, 4], [4]),
    }
    mistakes: Mistakes = {
        slip: lambda label, groups=groups: np.stack([np.isin(label, group) for group in groups], axis=-1)
        for slip, groups in regions.items()
    } | {"the regions are the last axis: np.stack(…, axis=-1)": lambda label: np.stack([label > 0, label > 1, label > 2])}
    cases = [
        np.array([0, 1, 2, 3]),
        np.array([[3, 0, 1], [2, 1, 1]], dtype="uint8"),
        np.array([[[0, 3], [2, 2]]], dtype="int16"),
        np.zeros((2, 3, 4), "uint8"),
        np.full((3, 2), 1),
        np.full((2, 2), 3),
    ]
    cases += [
        rng.integers(0, 4, shape).astype(kind)
        for shape, kind in [((5, 4, 3), "uint8"), ((3, 6, 2, 4), "int32"), ((1, 2, 3, 2, 3), "int64"), ((3, 3, 3), "int8")]
    ]
    for kind in ("uint8", "int16", "int64") * check.rounds:
        cases.append(rng.integers(0, 4, rng.integers(1, 6, rng.integers(1, 5))).astype(kind))

    def read(value: Any) -> np.ndarray:
        got = check.array(value, None, "an array")
        if got.dtype != bool and got.dtype.kind in "iuf" and np.isin(got, (0, 1)).all():
            check.fail("type bool", f"type {got.dtype}", "compare (==, >=, np.isin) or convert with astype(bool)")
        return got

    hint = "whole tumour 1∪2∪3, tumour core 2∪3, enhancing tumour 3, of type bool, on the last axis: np.stack(…, axis=-1)"
    check.judge(
        [
            Case("scan" if label.ndim == 3 else "other axes", (label,), np.stack([label > 0, label > 1, label > 2], axis=-1), hint)
            for label in cases
        ],
        mistakes,
        read,
    )
    check.done()
