"""Executes the notebooks: whole on the simulated cohorts, as students open them, from other folders, on real patients.

These tests take minutes; without them: ``pytest -m "not slow"``.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from course import LESSONS

import public_tests
from tools import results
from tools.execution import Run, kernel_environment
from tools.lesson import ROOT, find_exercises, read_cells, setup_source
from tools.run_notebooks import DATA_FOLDERS, run_lesson

BUDGET = {"01": 240, "02": 60, "03": 240}  # seconds on two cores, cohorts not yet generated
MEMORY = 4096  # MiB
HEADLINES = {"01": {"mean AUROC": 0.80}, "02": {}, "03": {"whole-tumour Dice": 0.80}}  # at least

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem[:2])


@pytest.fixture
def run_shown(capfd, measured):
    """`run_lesson` with its progress on the terminal if it runs alone, and a line about it at the end of the tests."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ

    def run(lesson: Path, target: Path, label: str, **options) -> Run:
        with capfd.disabled():
            if alone:
                print(f"\n{lesson.stem}, {label}", flush=True)
            result = run_lesson(lesson, target, show=alone, **options)
        measured.append(
            f"{lesson.stem[:2]} {label}: {results.duration(result.seconds)} ({result.processor_seconds:.0f} s of processors), "
            + f"{result.peak_mib / 1024:.1f} GiB"
            + "".join(f", {k} {results.number(v)}" for h in result.headlines for k, v in h["numbers"].items())
        )
        return result

    return run


def first_check(lesson: Path) -> int:
    """Index of the first check cell, where a blank notebook must stop."""
    return find_exercises(read_cells(lesson))[0].check_cell


def elsewhere(folder: Path) -> dict[str, str]:
    """Copy into `folder` what an instructor hands out; the environment of a kernel that finds the course from there."""
    for name in ("util.py", "public_tests.py"):
        shutil.copy(ROOT / name, folder)
    own = {} if Path(sys.prefix).parent == ROOT else {"COURSE_DIR": str(ROOT)}
    return kernel_environment(**own)


@each_lesson
def test_blank_notebook_stops_at_the_first_exercise(lesson, tmp_path, run_shown):
    run = run_shown(
        lesson, tmp_path / "x.ipynb", "blank, in student/", student=True, parameters={"QUICK": True}, cwd=ROOT / "student"
    )
    assert run.error_name == public_tests.NotWritten.__name__, run.failure
    assert run.failed_cell == first_check(lesson) + 1, run.failure  # one more: the injected parameters


@each_lesson
def test_blank_notebook_runs_from_a_folder_elsewhere(lesson, tmp_path, run_shown):
    env = elsewhere(tmp_path)
    run = run_shown(
        lesson, tmp_path / "x.ipynb", "blank, elsewhere", student=True, parameters={"QUICK": True}, cwd=tmp_path, env=env
    )
    assert run.error_name == public_tests.NotWritten.__name__, run.failure


def test_solved_notebook_runs_elsewhere_on_one_patient_without_the_finding(tmp_path, run_shown):
    """Of what most of notebook 02 needs, nothing is known here: it says so and runs to its end."""
    for name in ("valid.csv", "test.csv"):
        frame = pd.read_csv(ROOT / "data" / "predictions" / name, dtype=str)
        well = frame[frame.groupby("Patient ID")["Effusion"].transform("max") == "0"]["Patient ID"]
        (tmp_path / "one").mkdir(exist_ok=True)
        frame[frame["Patient ID"] == well.mode()[0]].to_csv(tmp_path / "one" / name, index=False)
    lesson = next(lesson for lesson in LESSONS if lesson.stem.startswith("02"))
    parameters = {"DATA_DIR": str(tmp_path / "one"), "QUICK": True}
    run = run_shown(
        lesson, tmp_path / "x.ipynb", "solved, elsewhere, one patient", parameters=parameters, cwd=tmp_path, env=elsewhere(tmp_path)
    )
    assert not run.failure, run.failure


def test_a_course_that_is_nowhere_is_said_in_words(tmp_path):
    """Neither the folder nor COURSE_DIR nor the environment's parent is the course: the first cell says what to do."""
    source = setup_source()
    code = source.replace("Path(sys.prefix).parent", f"Path({str(tmp_path)!r})")
    lines = [line for line in code.splitlines() if not line.strip().startswith("!")]
    env = {key: value for key, value in kernel_environment().items() if key not in ("COURSE_DIR", "PYTHONPATH")}
    command = [sys.executable, "-c", "\n".join(lines)]
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert "COURSE_DIR" in ran.stderr and "Traceback" not in ran.stderr


@pytest.mark.real
@each_lesson
def test_notebook_runs_on_real_patients(lesson, tmp_path, run_shown, real_data):
    folder = real_data / DATA_FOLDERS[lesson.stem[:2]]
    parameters = {"DATA_DIR": str(folder), "QUICK": True}
    run = run_shown(lesson, tmp_path / "x.ipynb", "real, quick", parameters=parameters, cwd=tmp_path, env=elsewhere(tmp_path))
    assert not run.failure, run.failure
    assert run.headlines and not run.headlines[-1]["source"].startswith(results.SIMULATED)
    assert run.peak_mib < MEMORY


@each_lesson
def test_whole_notebook_on_the_simulated_cohort(lesson, run_shown):
    number = lesson.stem[:2]
    run = run_shown(lesson, ROOT / "build" / "tests" / f"{lesson.stem}.ipynb", "whole, simulated")
    assert not run.failure, run.failure
    assert run.headlines[-1]["source"].startswith(results.SIMULATED)
    numbers = {name: value for headline in run.headlines for name, value in headline["numbers"].items()}
    for name, least in HEADLINES[number].items():
        assert numbers[name] >= least
    assert run.peak_mib < MEMORY
    # not by the clock: other tests run beside this one, and processor time is what two cores have in the budget at most
    assert 0 < run.processor_seconds < 2 * BUDGET[number], f"{run.processor_seconds:.0f} s of two processors"
