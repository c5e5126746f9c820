"""Grading: the hidden cases are as strict as the public check, for every answer in the bank; messages cross as plain data."""

import json
import struct

import numpy as np
import pandas as pd
import pytest
from answers import collect, reference

from grading import checks
from grading.grade import _group
from grading.inside import wire
from grading.inside.worker import Exercise, describe
from public_tests import EXERCISES

RIGHT, WRONG = collect()
SEED = 4711
SLOW = {
    "bootstrap_patients",
    "get_weighted_loss",
    "grad_cam",
    "single_class_dice_coefficient",
    "dice_coefficient",
    "soft_dice_loss",
    "get_sub_volume",
    "up_step",
}


class Local:
    """A session without a sandbox: the worker's own code in this process, and all data through the wire's format."""

    def __init__(self, function) -> None:
        self.exercise = Exercise(-1, -1, 60)
        self.exercise.functions.append(function)

    def ask(self, tree, buffers=()):
        state = np.random.get_state()  # the sandbox has a global state of its own
        try:
            reply, out = self.exercise.call(json.loads(json.dumps(tree)), [bytearray(b) for b in buffers])
        except (Exception, SystemExit) as error:
            reply, out = describe(error), []
        np.random.set_state(state)
        return json.loads(json.dumps(reply)), [bytearray(b) for b in out]


def some(bank: dict, most: int) -> list:
    """A spread of the answers (test_public_tests has all): some 40 of the quick exercises, few of those that take a second each."""
    return [
        pytest.param(exercise, answer, id=f"{exercise}-{name}")
        for exercise in bank
        for name, answer in list(bank[exercise].items())[:: max(1, len(bank[exercise]) // (most if exercise in SLOW else 40))]
    ]


YARDSTICKS: dict[str, checks.Yardstick] = {}


def yardstick(exercise: str) -> checks.Yardstick:
    if exercise not in YARDSTICKS:
        runs = [checks.run_check(exercise, Local(getattr(reference, exercise)), seed) for seed in (SEED, None)]
        assert runs[0].right and runs[1].right, [(run.message, run.hint) for run in runs]
        YARDSTICKS[exercise] = checks.yardstick(*runs)
    return YARDSTICKS[exercise]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_reference_gets_all_points(exercise):
    fresh = yardstick(exercise).fresh
    assert sum(map(len, fresh.values())) >= 8 and len(fresh) >= 2, fresh


@pytest.mark.parametrize("exercise, answer", some(RIGHT, 1))
def test_right_answers_get_all_points(exercise, answer):
    run = checks.run_check(exercise, Local(answer), SEED)
    assert run.right, (run.message, run.hint, run.raised)


@pytest.mark.parametrize("exercise, answer", some(WRONG, 2))
def test_wrong_answers_do_not(exercise, answer):
    run = checks.run_check(exercise, Local(answer), SEED)
    assert not run.right
    assert checks.credit(yardstick(exercise).share(run), run.right) <= 0.9


def test_another_seed_asks_other_cases():
    runs = [checks.run_check("get_accuracy", Local(reference.get_accuracy), seed) for seed in (1, 2, 1)]
    first, second, again = (set(run.cases) for run in runs)
    assert first == again and len(first - second) >= 15


def test_a_seed_of_128_bits_draws_cases():
    a, b = (checks.run_check("get_prevalence", Local(reference.get_prevalence), (1 << 127) + k) for k in (0, 1))
    assert a.right and b.right and set(a.cases) != set(b.cases)


def test_hard_coded_public_cases_get_nothing():
    table: dict[bytes, float] = {}

    def remember(y, pred, th=0.5):
        return table.setdefault(y.tobytes() + pred.tobytes() + bytes(str(th), "ascii"), reference.get_ppv(y, pred, th))

    def look_up(y, pred, th=0.5):
        return table.get(y.tobytes() + pred.tobytes() + bytes(str(th), "ascii"), 0.25)

    assert checks.run_check("get_ppv", Local(remember), None).right
    assert checks.run_check("get_ppv", Local(look_up), None).right, "the public check is passed"
    run = checks.run_check("get_ppv", Local(look_up), SEED)
    assert checks.credit(yardstick("get_ppv").share(run), run.right) == 0


def test_partial_credit_grows_with_the_cases_that_are_right():
    def points(function):
        run = checks.run_check("get_sensitivity", Local(function), SEED)
        return checks.credit(yardstick("get_sensitivity").share(run), run.right)

    half = points(lambda y, pred, th=0.5: np.sum((pred > th) & (y == 1)) / np.sum(y == 1) if y.any() else np.nan)
    assert 0.2 < half < 1 and points(reference.get_sensitivity) == 1 and points(lambda y, pred, th=0.5: 0.5) == 0


@pytest.mark.parametrize(
    "exercise, change",
    [
        ("standardize", lambda image: np.add(image, 1, out=image, casting="unsafe")),
        ("check_for_leakage", lambda df1, df2, patient_col: df1.drop(columns=patient_col, inplace=True)),
        ("bootstrap_patients", lambda ids, rng: np.random.set_state(np.random.MT19937(1).state)),
    ],
)
def test_changes_to_arguments_and_to_the_global_state_are_seen(exercise, change):
    def function(*args):
        answer = getattr(reference, exercise)(*args)
        change(*args)
        return answer

    assert not checks.run_check(exercise, Local(function), SEED).right


def test_the_credit_curve():
    assert [checks.credit(share, False) for share in (0, 0.5, 0.75, 1)] == [0, 0, 0.5, 0.9] and checks.credit(1, True) == 1


# ---- the wire ---------------------------------------------------------------------------------------------------------


class Everything(np.ndarray):
    def __eq__(self, other):
        return True

    def __reduce__(self):
        raise AssertionError("pickled")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        -(10**40),
        2.5,
        float("nan"),
        "text",
        (1, [2.0, None]),
        np.float32(1.5),
        np.arange(6).reshape(2, 3),
        np.array(["a", "bc"]),
        np.zeros((0, 3)),
        np.asfortranarray(np.eye(3)),
        np.array(True),
    ],
    ids=repr,
)
def test_plain_values_travel(value):
    out: list[bytes] = []
    got = wire.decode(json.loads(json.dumps(wire.encode(value, out))), [bytearray(b) for b in out])
    assert isinstance(value, tuple) or np.shape(got) == np.shape(value)
    assert repr(got) == repr(value) if not isinstance(value, np.ndarray) else np.array_equal(got, value)


def test_subclasses_lose_their_tricks():
    out: list[bytes] = []
    got = wire.decode(wire.encode(np.arange(3).view(Everything), out), [bytearray(b) for b in out])
    assert type(got) is np.ndarray and not np.array_equal(got, [1, 1, 1])


class Liar:
    def __array__(self, *args, **options):
        raise SystemExit

    def __len__(self):
        return 10**12


def test_objects_do_not_travel():
    assert isinstance(wire.decode(wire.encode(object(), []), []), wire.Unknown)
    assert wire.decode(["other", "a<script>"], []).type_name == "ascript"


@pytest.mark.parametrize(
    "node",
    [
        None,
        3,
        [],
        ["?"],
        ["bool", 1],
        ["int", "9" * 1000],
        ["int", 3],
        ["float", "x"],
        ["array"],
        ["array", "O", [1], 0],
        ["array", "<f8", [2], 0],
        ["array", "<f8", [-1], 0],
        ["array", "<f8", [1], 7],
        ["array", "V8", [1], 0],
        ["array", "<f8", "x", 0],
        ["array", "<f8", [1 << 60], 0],
        ["function", 0],
        ["tuple", ["list", ["list", ["list", ["list", ["list", ["list", ["list", ["none"]]]]]]]]],
        {"t": 1},
        ["str", 5],
    ],
    ids=repr,
)
def test_nonsense_is_refused(node):
    with pytest.raises(wire.WireError):
        wire.decode(node, [bytearray(8)])


@pytest.mark.parametrize(
    "head",
    [
        struct.pack("<II", 1 << 31, 0),
        struct.pack("<II", 2, 1 << 30),
        struct.pack("<IIQ", 2, 1, 1 << 60),
        struct.pack("<II", 3, 0) + b"{{{",
    ],
)
def test_messages_that_are_too_long_are_refused_unread(head, tmp_path):
    path = tmp_path / "message"
    path.write_bytes(head)
    with path.open("rb") as file, pytest.raises(wire.WireError):
        wire.receive(file.fileno())


def test_tables_and_generators_travel():
    frame = pd.DataFrame({"id": [3, 1], "name": ["x", "y"]}, index=[7, 9])
    out: list[bytes] = []
    assert wire.frame_of(wire.frame_node(frame, out), [bytearray(b) for b in out]).equals(frame)
    rng = np.random.default_rng(3)
    rng.random()
    assert wire.rng_of(wire.rng_state(rng)).random() == rng.random()
    with pytest.raises(wire.WireError):
        wire.rng_of(["rng", "x", "1", 0, 0])


def test_alike_messages_are_one_group():
    assert _group("get_ppv: expected 0.5, got 0.25") == _group("get_ppv: expected 0.125, got 3")
