"""The bank of answers: what students write, right and wrong, to judge the checks by.

`reference` has the model solutions. The other modules register answers with the two decorators below, each under the
exercise that it answers; `collect()` imports them and gives `(RIGHT, WRONG)`, exercise → {name of the answer: function}.
"""

import importlib
from collections import defaultdict
from collections.abc import Callable

RIGHT: dict[str, dict[str, Callable]] = defaultdict(dict)
WRONG: dict[str, dict[str, Callable]] = defaultdict(dict)
SLIPS: dict[tuple[str, str], str] = {}  # (exercise, wrong answer) → what a true hint says: a regular expression


def _register(bank: dict[str, dict[str, Callable]], exercise: str, name: str | None) -> Callable[[Callable], Callable]:
    def register(function: Callable) -> Callable:
        key = name or function.__name__
        assert key not in bank[exercise], f"two answers to {exercise} are called {key}"
        bank[exercise][key] = function
        return function

    return register


def right(exercise: str, name: str | None = None) -> Callable[[Callable], Callable]:
    """A right answer that differs from the reference: another library, another type, another way."""
    return _register(RIGHT, exercise, name)


def wrong(exercise: str, name: str | None = None, slip: str | None = None) -> Callable[[Callable], Callable]:
    """A wrong answer that a student could well hand in. `slip`: what a hint that names the mistake says."""

    def register(function: Callable) -> Callable:
        if slip is not None:
            SLIPS[exercise, name or function.__name__] = slip
        return _register(WRONG, exercise, name)(function)

    return register


def _typical() -> None:
    """The synthetic class's answers, which are bodies for the lessons' stubs, belong to the same bank."""
    import keras
    import numpy as np
    import tensorflow as tf

    from grading import typical_answers
    from grading.course import assignment
    from grading.synthetic_class import body
    from public_tests import EXERCISES

    for bank, known in ((RIGHT, typical_answers.RIGHT), (WRONG, typical_answers.WRONG)):
        for exercise, texts in known.items():
            stubs = [
                source for source in assignment(EXERCISES[exercise]).skeleton if source.lstrip().startswith(f"def {exercise}(")
            ]
            for number, text in enumerate(texts if stubs else []):
                space = {"np": np, "keras": keras, "tf": tf}
                exec(compile(body(exercise, text, stubs[0]), f"{exercise}-typical-{number}", "exec"), space)
                _register(bank, exercise, f"typical_{number}")(space[exercise])


def collect() -> tuple[dict[str, dict[str, Callable]], dict[str, dict[str, Callable]]]:
    """All answers: (right, wrong)."""
    for notebook in ("notebook_01", "notebook_02", "notebook_03", "beginners", "blind_trial"):
        importlib.import_module(f"{__name__}.{notebook}")
    if "typical_0" not in RIGHT["get_ppv"]:
        _typical()
    return RIGHT, WRONG
