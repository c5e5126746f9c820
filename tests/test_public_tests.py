"""The checks of the exercises are judged by a bank of answers: all right ones pass, no wrong one does."""

import re
import subprocess
import sys
import time

import pytest
from answers import collect, reference

import public_tests
from public_tests import EXERCISES

RIGHT, WRONG = collect()


def check_of(exercise: str):
    return getattr(public_tests, f"{exercise}_test")


def answers(bank: dict) -> list:
    return [pytest.param(exercise, answer, id=f"{exercise}-{name}") for exercise in bank for name, answer in bank[exercise].items()]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_reference_is_accepted(exercise, capsys):
    assert check_of(exercise)(getattr(reference, exercise)) is None
    out = capsys.readouterr().out
    assert re.fullmatch(rf"\033\[92m✓ {exercise}: all \d+ checks passed\033\[0m\n", out), "one green line, nothing else"


@pytest.mark.parametrize("exercise, answer", answers(RIGHT))
def test_right_answer_is_accepted(exercise, answer):
    check_of(exercise)(answer)


@pytest.mark.parametrize("exercise, answer", answers(WRONG))
def test_wrong_answer_is_rejected(exercise, answer):
    with pytest.raises(AssertionError) as caught:
        check_of(exercise)(answer)
    message = str(caught.value)
    assert message.startswith(f"{exercise}: ")
    for part in ("input:", "expected:", "got:", "hint:"):
        assert re.search(rf"^  {part} +\S", message, flags=re.MULTILINE), f"no {part} in\n{message}"
    assert len(message) < 2500, "a message must stay readable"


@pytest.mark.parametrize("exercise", EXERCISES)
def test_bank_is_large_enough(exercise):
    assert len(WRONG[exercise]) >= 5 and len(RIGHT[exercise]) >= 3


def test_exercises_are_those_of_the_design():
    """The design's table, in its order."""
    expected = {
        1: "check_for_leakage repair_leakage compute_class_freqs get_weighted_loss grad_cam",
        2: "true_positives true_negatives false_positives false_negatives get_accuracy get_prevalence get_sensitivity "
        "get_specificity get_ppv get_npv bootstrap_patients expected_calibration_error net_benefit positives_needed",
        3: "get_sub_volume standardize up_step single_class_dice_coefficient dice_coefficient soft_dice_loss "
        "compute_class_sens_spec lesion_recall get_regions",
    }
    assert list(EXERCISES.items()) == [(name, number) for number, names in expected.items() for name in names.split()]
    checks = {name.removesuffix("_test") for name in vars(public_tests) if name.endswith("_test") and name[0] != "_"}
    assert checks == set(EXERCISES)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_docstring_says_what_is_not_checked(exercise):
    check = check_of(exercise)
    assert check.__name__ == f"{exercise}_test" and f"`{exercise}(" in check.__doc__ and "Not checked:" in check.__doc__


@pytest.mark.parametrize("exercise", EXERCISES)
def test_unwritten_function_stays_not_implemented(exercise):
    def not_written(*args, **options):
        raise NotImplementedError("write me")

    with pytest.raises(NotImplementedError, match="write me"):
        check_of(exercise)(not_written)


def test_unwritten_inner_function_stays_not_implemented():
    def get_weighted_loss(pos_weights, neg_weights, epsilon=1e-7):
        def weighted_loss(y_true, y_pred):
            raise NotImplementedError

        return weighted_loss

    with pytest.raises(NotImplementedError):
        public_tests.get_weighted_loss_test(get_weighted_loss)


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize(
    "error", [KeyError("lungs"), SystemExit(3), RecursionError("too deep")], ids=lambda error: type(error).__name__
)
def test_error_in_the_function_is_reported_with_its_input(exercise, error):
    def broken(*args, **options):
        raise error

    with pytest.raises(AssertionError) as caught:
        check_of(exercise)(broken)
    assert f"got:      {type(error).__name__}: {error}" in str(caught.value) and f"input:    {exercise}(" in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize(
    "value",
    [None, "text", [], {}, {1}, object(), lambda: 1, [[1], [2, 3]], 1j, float("nan"), True, print],
    ids=lambda value: re.sub(" at 0x.*", ">", repr(value)),
)
def test_odd_results_are_rejected_in_words(exercise, value):
    with pytest.raises(AssertionError) as caught:
        check_of(exercise)(lambda *args, **options: value)
    assert "hint:" in str(caught.value) and len(str(caught.value)) < 2500


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("target", [None, 3, "get_accuracy", [1, 2]], ids=repr)
def test_something_else_than_a_function(exercise, target):
    with pytest.raises(AssertionError, match="the function"):
        check_of(exercise)(target)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_object_that_claims_to_equal_everything_is_rejected(exercise):
    class Yes:
        def __eq__(self, other):
            return True

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return self

        def __call__(self, *args, **options):
            return self

    with pytest.raises(AssertionError):
        check_of(exercise)(lambda *args, **options: Yes())


def test_message_names_the_mistake():
    def above_the_threshold(y, pred, th=0.5):
        return float(((pred > th) == y).mean())

    with pytest.raises(
        AssertionError, match=r"(?s)input: +get_accuracy\(y=\[.*expected: 0\.5\n.*got: +0\.25\n.*`>` in place of `>=`"
    ):
        public_tests.get_accuracy_test(above_the_threshold)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_answers_that_change_their_arguments_do_not_harm_the_next_run(exercise):
    def spoils(*args, **options):
        for value in args:
            if hasattr(value, "fill"):
                value.fill(1)
            elif hasattr(value, "columns"):
                value.drop(value.index, inplace=True)

    with pytest.raises(AssertionError):
        check_of(exercise)(spoils)
    check_of(exercise)(getattr(reference, exercise))


def test_notebook_02_needs_no_tensorflow():
    """Its checks start fast: neither importing them nor running them imports TensorFlow or Keras."""
    code = (
        "import sys, numpy as np, public_tests\n"
        "public_tests.get_prevalence_test(lambda y: np.mean(y))\n"
        "assert not {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=public_tests.__file__.rpartition("/")[0])


def test_all_checks_together_are_fast(measured):
    start = time.process_time()
    for exercise in EXERCISES:
        check_of(exercise)(getattr(reference, exercise))
    seconds = time.process_time() - start
    measured.append(f"The checks of all {len(EXERCISES)} exercises take {seconds:.1f} s of one core.")
    assert seconds < 10
