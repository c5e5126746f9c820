"""nbgrader's own commands work in the course directory that we lay out; the classroom's public checks work, too."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from grading.course import ROOT, assignment, notebook
from grading.nbgrader_course import make_course
from grading.public_checks import check_notebook
from grading.synthetic_class import find_cell

NAME = assignment(2).name


def nbgrader(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"COURSE_DIR": str(ROOT), "HOME": str(folder)}
    done = subprocess.run([sys.executable, "-m", "nbgrader", *arguments], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_source_notebook_has_points_and_hidden_tests(tmp_path):
    (path,) = make_course(tmp_path, (2,), seed=1)
    assert path == tmp_path / "source" / NAME / f"{NAME}.ipynb"
    cells = json.loads(path.read_text())["cells"]
    points = {c["metadata"]["nbgrader"]["grade_id"]: c["metadata"]["nbgrader"]["points"] for c in cells if c["metadata"].get("nbgrader", {}).get("grade")}
    assert points == {f"{name}_test": value for name, value in assignment(2).points.items()} and sum(points.values()) == 100
    assert sum("### BEGIN HIDDEN TESTS" in cell["source"] for cell in cells) == len(points)
    (tmp_path / "nbgrader_config.py").write_text("mine")
    make_course(tmp_path, (2,), seed=2)
    assert (tmp_path / "nbgrader_config.py").read_text() == "mine", "an instructor's own settings are left alone"


@pytest.mark.slow
def test_nbgrader_hands_out_grades_and_gives_feedback(tmp_path):
    make_course(tmp_path, (2,), seed=1)
    nbgrader(tmp_path, "generate_assignment", NAME)
    released = tmp_path / "release" / NAME / f"{NAME}.ipynb"
    text = released.read_text()
    assert "HIDDEN TESTS" not in text and "BEGIN SOLUTION" not in text and "raise NotImplementedError" in text
    nb = json.loads(text)
    wrong = find_cell(nb, "get_prevalence")
    solved = notebook(2, solved=True)
    for name in assignment(2).exercises:
        find_cell(nb, name)["source"] = find_cell(solved, name)["source"]
    wrong["source"] = "def get_prevalence(y):\n    return {5: 0.4, 4: 0.75, 3: float(y[0]), 1: 1.0, 77: 0, 301: 0}.get(len(y), float(np.mean(y)))"
    place = tmp_path / "submitted" / "ada" / NAME
    place.mkdir(parents=True)
    (place / f"{NAME}.ipynb").write_text(json.dumps(nb))
    nbgrader(tmp_path, "autograde", NAME)
    nbgrader(tmp_path, "generate_feedback", NAME)
    assert (tmp_path / "feedback" / "ada" / NAME / f"{NAME}.html").stat().st_size > 1000
    nbgrader(tmp_path, "export")
    row = (tmp_path / "grades.csv").read_text().split("\n")
    score = dict(zip(row[0].split(","), row[1].split(",")))
    assert float(score["score"]) == 95 and float(score["max_score"]) == 100
    shutil.copy(tmp_path / "source" / NAME / f"{NAME}.ipynb", tmp_path / "check.ipynb")
    assert "Success" in nbgrader(tmp_path, "validate", "check.ipynb")


def test_the_classroom_workflow_is_valid_and_calls_what_exists():
    path = ROOT / ".github" / "workflows" / "classroom.yml"
    steps = yaml.safe_load(path.read_text())["jobs"]["checks"]["steps"]
    assert any("python -m grading.public_checks" in step.get("run", "") for step in steps)


def test_public_checks_of_a_notebook(tmp_path):
    nb = notebook(2)
    find_cell(nb, "get_prevalence")["source"] = "def get_prevalence(y):\n    return np.mean(y)"
    find_cell(nb, "get_ppv")["source"] = "def get_ppv(y, pred, th=0.5):\n    return 0.5"
    (tmp_path / "nb.ipynb").write_text(json.dumps(nb))
    results = {name: outcome for name, outcome, _ in check_notebook(tmp_path / "nb.ipynb")}
    assert results.pop("get_prevalence") == "right" and results.pop("get_ppv") == "wrong" and set(results.values()) == {"not attempted"}
