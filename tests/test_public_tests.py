"""The checks of the exercises are judged by a bank of answers: all right ones pass, no wrong one does."""

import re
import subprocess
import sys
import time

import numpy as np
import pytest
from answers import SLIPS, collect, reference
from IPython.core.interactiveshell import InteractiveShell

import public_tests
from public_tests import EXERCISES, POINTS
from tools.lesson import find_exercises, lesson_paths, read_cells

RIGHT, WRONG = collect()


def check_of(exercise: str):
    return getattr(public_tests, f"{exercise}_test")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_reference_is_accepted(exercise, capsys):
    assert check_of(exercise)(getattr(reference, exercise)) is None
    out = capsys.readouterr().out
    assert re.fullmatch(rf"\033\[1;32m✓\033\[39m {exercise}: all \d+ checks passed \(\d+ points\)\033\[0m\n", out), (
        "one green line, nothing else"
    )


@pytest.mark.parametrize("exercise", EXERCISES)
def test_right_answers_are_accepted(exercise):
    for name, answer in RIGHT[exercise].items():
        try:
            check_of(exercise)(answer)
        except AssertionError as error:
            raise AssertionError(f"{name} is right: {error}") from error


@pytest.mark.parametrize("exercise", EXERCISES)
def test_wrong_answers_are_rejected(exercise):
    for name, answer in WRONG[exercise].items():
        with pytest.raises(AssertionError) as caught:
            check_of(exercise)(answer)
            pytest.fail(f"{name} is wrong, and was accepted")
        message = str(caught.value)
        assert message.startswith(f"{exercise}: "), name
        for part in ("input:", "expected:", "got:", "hint:"):
            assert re.search(rf"^  {part} +\S", message, flags=re.MULTILINE), f"{name}: no {part} in\n{message}"
        assert len(message) < 2500, f"{name}: a message must stay readable"


def test_the_bank_is_large(measured):
    right, wrong = (sum(map(len, bank.values())) for bank in (RIGHT, WRONG))
    measured.append(f"Answers to judge the checks by: {right} right, {wrong} wrong.")
    assert right >= 300 and wrong >= 1000


def hint_of(exercise: str, answer) -> str:
    with pytest.raises(AssertionError) as caught:
        check_of(exercise)(answer)
    return str(caught.value).partition("hint:")[2].strip()


def test_hints_name_the_slip(measured):
    """Where the slip of a wrong answer is known, the hint says it."""
    wrong = [key for key, slip in SLIPS.items() if not re.search(slip, hint_of(key[0], WRONG[key[0]][key[1]]))]
    measured.append(f"Hints name the slip of {len(SLIPS) - len(wrong)} of {len(SLIPS)} wrong answers whose slip is known.")
    assert len(wrong) <= 0.02 * len(SLIPS), wrong


def test_points_are_those_of_the_lessons():
    assert list(POINTS) == list(EXERCISES)
    for path in lesson_paths():
        for exercise in find_exercises(read_cells(path), path.name):
            assert POINTS[exercise.name] == exercise.points, f"{path.name} and public_tests.POINTS differ: {exercise.name}"


@pytest.mark.parametrize(
    "body, lines, said",
    [
        ("raise NotImplementedError", 1, "not written yet"),
        ("return np.sum(pred > th)", 5, "hint:"),
        ("return np.mean(y[pred >= th & y == 1])", 6, "brackets around each comparison"),
        ("return helper(y)\ndef helper(y):\n    return y.shape[3]", 6, "line 4 of helper: return y.shape[3]"),
        ("return np.float(np.mean(y))", 6, "where:    line 2 of get_ppv"),
    ],
)
def test_a_notebook_shows_a_few_lines(body, lines, said, capsys):
    shell = InteractiveShell()
    shell.run_cell("import numpy as np, public_tests")
    shell.run_cell(f"def get_ppv(y, pred, th=0.5):\n    {body}")
    capsys.readouterr()
    result = shell.run_cell("public_tests.get_ppv_test(get_ppv)")
    shown = [line for line in re.sub(r"\033\[[0-9;]*m", "", capsys.readouterr().out).split("\n") if line.strip()]
    assert isinstance(result.error_in_exec, (AssertionError, NotImplementedError))
    assert len(shown) == lines and said in "\n".join(shown) and "public_tests.py" not in "\n".join(shown), shown


def test_summary_says_what_is_done(capsys):
    check_of("get_prevalence")(reference.get_prevalence)
    with pytest.raises(AssertionError):
        check_of("get_ppv")(lambda y, pred, th=0.5: 0.5)
    capsys.readouterr()
    public_tests.summary()
    out = capsys.readouterr().out
    assert re.search(rf"get_prevalence +{POINTS['get_prevalence']} of +{POINTS['get_prevalence']}  ✓", out)
    assert re.search(rf"get_ppv +0 of +{POINTS['get_ppv']}  ✗ not right yet", out) and "all together" in out


@pytest.mark.parametrize(
    "body, advice",
    [
        ("return np.mean(y[pred >= th and y == 1])", "with brackets around each comparison"),
        ("return np.float(np.mean(y))", "np.float"),
        ("return K.sum(y)", "keras.ops"),
        ("return np.product(y)", "np.prod"),
        ("x = None\n    return x", "a `None` still in place of your code"),
    ],
)
def test_errors_that_many_make_have_their_own_hint(body, advice):
    space: dict = {}
    exec(f"import numpy as np\ndef get_ppv(y, pred, th=0.5):\n    {body}", space)
    assert advice in hint_of("get_ppv", space["get_ppv"])


def test_a_search_that_never_counts_its_tries_ends():
    def forgets_to_count(
        image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
    ):
        rng = np.random.default_rng() if rng is None else rng
        tries = 0
        while tries < max_tries:
            x, y, z = (rng.integers(0, full - part + 1) for full, part in zip(label.shape, (output_x, output_y, output_z)))
            part = label[x : x + output_x, y : y + output_y, z : z + output_z]
            if np.mean(part == 0) < background_threshold:
                cut = image[x : x + output_x, y : y + output_y, z : z + output_z]
                return cut, (part[..., None] == np.arange(1, num_classes)).astype(float)

    assert "count the tries" in hint_of("get_sub_volume", forgets_to_count)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_bank_is_large_enough(exercise):
    assert len(WRONG[exercise]) >= 10 and len(RIGHT[exercise]) >= 3


def test_exercises_are_those_of_the_design():
    """The design's table, in its order."""
    expected = {
        1: "check_for_leakage repair_leakage compute_class_freqs get_weighted_loss grad_cam",
        2: "true_positives true_negatives false_positives false_negatives get_accuracy get_prevalence get_sensitivity "
        "get_specificity get_ppv get_npv bootstrap_patients positives_needed expected_calibration_error net_benefit",
        3: "get_sub_volume standardize up_step single_class_dice_coefficient dice_coefficient soft_dice_loss "
        "compute_class_sens_spec get_regions lesion_recall",
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
        AssertionError, match=r"(?s)input: +get_accuracy\(y=\[.*expected: 0\.75\n.*got: +0\.666667\n.*`>` in place of `>=`"
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
