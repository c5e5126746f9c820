"""Grading: no function of the course is an answer to an exercise. Where one would be, it raises in a graded session and says why."""

import importlib
import inspect
import json
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf
from answers import reference

import data
import models
import public_tests
from grading import walls
from grading.classroom import make_template
from grading.grade import Grader, Settings
from grading.handed_out import ANSWERS, MODULES, ROOT, copy_course
from models.chest import predict
from public_tests import EXERCISES

KIND = "bubblewrap" if walls.works("bubblewrap") else "process"
# What a student could write in place of an answer; with the course as it is all of them pass the check.
BORROWED = {
    "expected_calibration_error": [
        "from models.metrics import binned_calibration_error\n"
        "def expected_calibration_error(y, pred, n_bins=10):\n"
        "    pred = np.asarray(pred)\n"
        "    pred = np.where((pred > 0) & (pred * n_bins == np.floor(pred * n_bins)), pred - 1e-9, pred)\n"
        "    return float(binned_calibration_error(np.asarray(y)[:, None], pred[:, None], n_bins)[0]) if len(y) else np.nan",
        "import util\n"
        "def expected_calibration_error(y, pred, n_bins=10):\n"
        "    y, pred = (np.asarray(part)[:, None] for part in (y, pred))\n"
        "    return util.calibration_scores(y, pred, n_bins)['ECE'] if len(y) else np.nan",
    ],
    "bootstrap_patients": [
        "import util\n"
        "def bootstrap_patients(patient_ids, rng):\n"
        "    patient, counts = util.resample_patients(patient_ids, 1, rng)\n"
        "    return np.repeat(np.arange(len(patient)), counts[patient, 0].astype(int))",
        "import util\n"
        "def bootstrap_patients(patient_ids, rng):\n"
        "    drawn, rows = [], np.arange(len(patient_ids))\n"
        "    util.bootstrap_metric(lambda part: drawn.append(part) or 0, patient_ids, rng, rows, n_resamples=1)\n"
        "    return drawn[0] if drawn else rows",
    ],
    "standardize": ["import data.decathlon\ndef standardize(image):\n    return data.decathlon.standardize_scan(image)"],
    "grad_cam": [
        "from models.chest import predict\n"
        "def grad_cam(model, image, class_index, layer_name):\n"
        "    predict.LAYER, predict.FINDINGS = layer_name, list(range(100))\n"
        "    predict.cv2 = type('', (), {'INTER_LINEAR': 1, 'resize': lambda heat, size, **o: __import__('cv2').resize(heat, size[::-1])})\n"
        "    return predict.heat_map(model, np.asarray(image), class_index)"
    ],
}


def functions() -> Iterator[tuple[str, Callable]]:
    """The course's functions, by file and name, that return something and draw, simulate, train and download nothing."""
    names = [name.removesuffix(".py") for name in MODULES]
    names += [
        module.name for package in (data, models) for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    no_answer = ("simulator", "download", "storage", "cohort_folder", "parallel", "run", "train", "transfer", "calibrate")
    for name in names:
        if not any(part in no_answer for part in name.replace(".", "_").split("_")) and "cohort_folder" not in name:
            module = importlib.import_module(name)
            for function in list(vars(module).values()):
                if inspect.isfunction(function) and function.__module__ == name and function.__name__ != "main":
                    returns = str(function.__annotations__.get("return", ""))
                    if not any(kind in returns for kind in ("None", "Figure", "Image")):
                        yield f"{name.replace('.', '/')}.py", function


def takes(function: Callable, count: int) -> bool:
    """Whether it can be called with so many arguments in place."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True


def test_no_function_of_the_course_answers_an_exercise_but_those_that_are_withheld():
    found = []
    for exercise in EXERCISES:
        parameters = inspect.signature(getattr(reference, exercise)).parameters.values()
        count = sum(one.default is one.empty for one in parameters)
        for file, function in functions():
            if takes(function, count):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        getattr(public_tests, f"{exercise}_test")(function)
                    except (Exception, SystemExit):
                        continue
                found.append((file, function.__name__, exercise))
    assert ("data/decathlon.py", "standardize_scan", "standardize") in found
    assert not [one for one in found if ANSWERS.get(one[0], {}).get(one[1]) != one[2]]


@pytest.fixture(scope="module")
def graders() -> Iterator[dict[int, Grader]]:
    """One for each notebook; all share a warm template."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = Grader(Settings(1, 4711, KIND, cpu=20))
    yield {1: first} | {number: Grader(Settings(number, 4711, KIND, cpu=20), shared=first.sandbox) for number in (2, 3)}
    first.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
@pytest.mark.parametrize("exercise, source", [(name, source) for name, sources in BORROWED.items() for source in sources])
def test_a_borrowed_answer_passes_with_the_whole_course_and_is_named_where_it_is_graded(exercise, source, graders, monkeypatch):
    for name, value in list(vars(predict).items()):
        monkeypatch.setattr(predict, name, value)  # put back afterwards
    space = {"np": np, "keras": keras, "tf": tf}
    exec(source, space)
    getattr(public_tests, f"{exercise}_test")(space[exercise])

    notebook = {"cells": [{"cell_type": "code", "source": f"import numpy as np\n{source}"}]}
    result = graders[EXERCISES[exercise]].grade(json.dumps(notebook).encode())["exercises"][exercise]
    assert result["outcome"] == "error" and result["points"] == 0
    assert f"of the course answers the exercise {exercise}: write your own" in result["message"]


def test_the_copy_holds_modules_and_data_and_nothing_else(tmp_path):
    """Not the instructor's downloads, caches, lessons or checks."""
    copy_course(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert {"util.py", "data/nih.py", "data/predictions/test.csv", "models/densenet121_chest.weights.h5"} <= set(names)
    assert not [name for name in names if not name.endswith((".py", ".csv", ".json", ".txt", ".h5", ".md"))]
    for file, answers in ANSWERS.items():
        code, whole = (compile((root / file).read_text(encoding="utf-8"), file, "exec").co_names for root in (tmp_path, ROOT))
        assert set(answers) <= set(code) and set(code) <= set(whole), "every name of the module is still there"


def test_a_classroom_template_withholds_what_its_notebook_does_not_call(tmp_path):
    make_template(tmp_path / "two", 2)
    text = (tmp_path / "two" / "models" / "metrics.py").read_text(encoding="utf-8")
    assert "binned_calibration_error of the course answers the exercise expected_calibration_error" in text
    assert "resample_patients of the course" not in text, "the notebook needs it after the exercise"
