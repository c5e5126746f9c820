"""Grading the exercises that compute with TensorFlow: one import for all, a fork for each, and nothing goes from one to the next."""

import json
import sys
import warnings

import pytest

from grading import walls
from grading.course import assignment
from grading.grade import Grader, Settings
from grading.synthetic_class import body
from grading.typical_answers import WRONG

KIND = "bubblewrap" if walls.works("bubblewrap") else "process"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")


def nb(*cells: str) -> bytes:
    return json.dumps({"cells": [{"cell_type": "code", "source": source} for source in cells]}).encode()


@pytest.fixture(scope="module")
def graders():
    """Graders of notebooks 01 and 03. Both share one warm template: their sandboxes are the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = Grader(Settings(1, 4711, KIND))
        second = Grader(Settings(3, 4711, KIND), shared=first.sandbox)
    yield {1: first, 3: second}
    first.close()


@pytest.mark.parametrize("number", [1, 3])
def test_the_lessons_answers_get_all_points_from_one_warm_template(number, graders, measured):
    grader = graders[number]
    assert grader.sandbox.warm and grader.sandbox.started == 1
    result = grader.grade(nb(*assignment(number).solution))
    assert {name: e["outcome"] for name, e in result["exercises"].items()} == dict.fromkeys(
        assignment(number).exercises, "right"
    ), result
    assert result["total"] == 100
    measured.append(
        f"Notebook {number:02d}, a right submission: graded in {result['seconds']:.1f} s ({KIND}; import of TensorFlow, once: "
        f"{grader.sandbox.import_seconds:.1f} s)"
    )


POISON = """import keras, tensorflow as tf, numpy as np
def dice_coefficient(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    keras.ops.mean = keras.ops.sum = tf.reduce_mean = tf.reduce_sum = np.mean = lambda *a, **k: tf.constant(1.0)
    tf.config.run_functions_eagerly(True); keras.config.set_floatx("float16"); keras.config.set_epsilon(1.0)
    import threading, time; threading.Thread(target=time.sleep, args=(100,)).start()
    return keras.ops.mean(y_true)"""


def test_what_one_does_to_keras_the_next_does_not_see(graders):
    grader = graders[3]
    poisoned = grader.grade(nb(POISON))["exercises"]["dice_coefficient"]
    assert poisoned["outcome"] == "wrong" and poisoned["points"] <= 0.2 * poisoned["max"]
    neighbour = grader.grade(nb(*assignment(3).solution))["exercises"]
    assert neighbour["dice_coefficient"]["outcome"] == neighbour["soft_dice_loss"]["outcome"] == "right"
    assert grader.sandbox.started == 1


@pytest.mark.parametrize("number, name", [(1, "get_weighted_loss"), (1, "grad_cam"), (3, "soft_dice_loss"), (3, "standardize")])
def test_a_usual_mistake_is_wrong_and_explained(number, name, graders):
    code = list(assignment(number).skeleton)
    stub = next(source for source in code if source.lstrip().startswith(f"def {name}("))
    imports = next(source for source in code if "import numpy as np" in source)
    result = graders[number].grade(nb(imports, body(name, WRONG[name][0], stub)))["exercises"][name]
    assert result["outcome"] in ("wrong", "error") and result["points"] < result["max"] and result["message"], result


def test_a_loss_without_a_gradient_is_not_right(graders):
    code = """import numpy as np
def get_weighted_loss(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        y, p = np.asarray(y_true, float), np.asarray(y_pred, float)
        return -(pos_weights * y * np.log(p + epsilon) + neg_weights * (1 - y) * np.log(1 - p + epsilon)).mean(0).sum()
    return weighted_loss"""
    result = graders[1].grade(nb(code))["exercises"]["get_weighted_loss"]
    assert (
        result["outcome"] == "wrong" and 0 < result["points"] < result["max"] and "gradient" in result["message"] + result["hint"]
    )
