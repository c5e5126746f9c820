"""The checks of the exercises are judged by a bank of answers: all right ones pass, no wrong one does."""

import re
import subprocess
import sys

import pytest

import public_tests
from answers import collect, reference
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
