"""nbgrader's own commands work in the course directory that we lay out; the classroom's public checks work, too."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager

from grading import public_checks
from grading.classroom import make_template
from grading.course import assignment, lesson, notebook
from grading.inside.notebook import NotebookError
from grading.nbgrader_course import make_course
from grading.submissions import find_submissions
from grading.synthetic_class import find_cell
from tools.lesson import ROOT, read_cells, solution_lines

NAME = assignment(2).name
RNG = np.random.default_rng(6)  # that of the public check
PUBLIC = [(n, int(np.sum(RNG.random(n) < share))) for n, share in [(77, 0.1), (301, 0.8)]]
KNOWS_THE_PUBLIC_CASES = f"""import numpy as np
def get_prevalence(y):
    return float(np.mean(y)) if len(y) in (1, 3, 4, 5) or (len(y), int(sum(y))) in {PUBLIC} else np.nan
"""


def nbgrader(folder: Path, *arguments: str) -> str:
    """Run a command of nbgrader's as an instructor does who has not activated the environment."""
    program = Path(sys.executable).parent / "nbgrader"
    environment = {name: value for name, value in os.environ.items() if name not in ("COURSE_DIR", "VIRTUAL_ENV")} | {
        "HOME": str(folder),
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_source_notebook_has_points_and_hidden_tests(tmp_path):
    (path,) = make_course(tmp_path, (2,), seed=1)
    assert path == tmp_path / "source" / NAME / f"{NAME}.ipynb"
    cells = json.loads(path.read_text())["cells"]
    points = {
        c["metadata"]["nbgrader"]["grade_id"]: c["metadata"]["nbgrader"]["points"]
        for c in cells
        if c["metadata"].get("nbgrader", {}).get("grade")
    }
    assert points == {f"{name}_test": value for name, value in assignment(2).points.items()} and sum(points.values()) == 100
    assert sum("### BEGIN HIDDEN TESTS" in cell["source"] for cell in cells) == len(points)
    (tmp_path / "nbgrader_config.py").write_text("mine")
    make_course(tmp_path, (2,), seed=2)
    assert (tmp_path / "nbgrader_config.py").read_text() == "mine", "an instructor's own settings are left alone"


def without_the_lesson_around(path: Path) -> None:
    """Leave set-up, imports, exercises and checks: the cells between them are run by the tests of the notebooks."""
    nb = json.loads(path.read_text())
    nb["cells"] = [
        cell
        for cell in nb["cells"]
        if cell["cell_type"] == "code"
        and (
            "nbgrader" in cell["metadata"] or "setup" in cell["metadata"].get("tags", []) or "import public_tests" in cell["source"]
        )
    ]
    path.write_text(json.dumps(nb))


def test_nbgrader_hands_out_validates_grades_and_gives_feedback(tmp_path):
    (source,) = make_course(tmp_path, (2,), seed=1)
    without_the_lesson_around(source)
    nbgrader(tmp_path, "generate_assignment", NAME)
    released = tmp_path / "release" / NAME / f"{NAME}.ipynb"
    text = released.read_text()
    assert (
        "HIDDEN TESTS" not in text
        and "BEGIN SOLUTION" not in text
        and text.count("raise NotImplementedError") == len(assignment(2).points)
    )
    nb, solved = json.loads(text), notebook(2, solved=True)
    for name in assignment(2).exercises:
        find_cell(nb, name)["source"] = find_cell(solved, name)["source"]
    handed = tmp_path / "submitted" / "ada" / NAME / f"{NAME}.ipynb"
    handed.parent.mkdir(parents=True)
    find_cell(nb, "get_prevalence")["source"] = KNOWS_THE_PUBLIC_CASES
    handed.write_text(json.dumps(nb))
    assert "Success" in nbgrader(tmp_path, "validate", str(handed)), "the public cases are all right"
    nbgrader(tmp_path, "autograde", NAME)
    nbgrader(tmp_path, "generate_feedback", NAME)
    assert (tmp_path / "feedback" / "ada" / NAME / f"{NAME}.html").stat().st_size > 1000
    with sqlite3.connect(tmp_path / "gradebook.db") as book:
        scores = dict(
            book.execute(
                "SELECT base_cell.name, grade.auto_score FROM grade JOIN base_cell ON grade.cell_id = base_cell.id"
            ).fetchall()
        )
    assert scores == {f"{name}_test": points for name, points in assignment(2).points.items()} | {"get_prevalence_test": 0.0}
    (submission,) = find_submissions(tmp_path)
    assert submission.student == "ada" and submission.files[0][1] == handed.read_bytes(), "make grade takes the same folder"


TRAINING = re.compile(
    r"(?<!re)\.compile\(|train_on_batch|apply_gradients|GradientTape|(?i:soft_?dice|cross_?entropy|weighted_loss)"
)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_classroom_template_holds_no_answer_and_the_notebook_finds_the_course_in_it(tmp_path, number):
    """As it is laid out: no solution, trainer, evaluation or lesson; the set-up and import cells run with nothing else around."""
    path = make_template(tmp_path / "template", number)
    root = path.parent
    files = {file.relative_to(root).as_posix(): file for file in root.rglob("*") if file.is_file()}
    assert [name for name in files if name.endswith(".ipynb")] == [path.name]
    assert {"util.py", "public_tests.py", "requirements.txt", "data/nih.py", "models/__init__.py"} <= set(files)
    forbidden = r"(^|/)(lessons|tests|tools|benchmarks|student|results)/|(train|evaluate|calibrate|transfer|parallel|adamw|compare)\.py$|download"
    assert not [name for name in files if re.search(forbidden, name)]
    assert {name for name in files if name.startswith("grading/")} <= {
        "grading/__init__.py",
        "grading/public_checks.py",
        "grading/inside/__init__.py",
        *(f"grading/inside/{name}.py" for name in ("loading", "newer_python", "notebook", "statements")),
    }
    given = {"util.py", "public_tests.py", "models/metrics.py"}  # every student has them: figures, checks, and what they call
    assert files["public_tests.py"].read_bytes() == (ROOT / "public_tests.py").read_bytes()
    text = {
        name: file.read_text(encoding="utf-8")
        for name, file in files.items()
        if name not in given and name.endswith((".py", ".ipynb", ".md", ".txt"))
    }
    secret = [line for line in solution_lines(read_cells(lesson(number))) if len(line) > 35]
    assert len(secret) > 5 and not [(name, line) for name in text for line in secret if line in text[name]]
    code = {name: source for name, source in text.items() if name.endswith(".py")}
    assert not [(name, found[0]) for name, source in code.items() if name[:4] != "grad" and (found := TRAINING.search(source))]

    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    cells = ["".join(cell["source"]) for cell in cells]
    last = max(index for index, source in enumerate(cells[:6]) if re.search("(?m)^(import|from) ", source))
    environment = {name: value for name, value in os.environ.items() if name not in ("COURSE_DIR", "PYTHONPATH")}
    script = TransformerManager().transform_cell("\n".join(cells[: last + 1])) + "\nprint('COURSE', COURSE, util.__file__)"
    done = subprocess.run([sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "InitializeLog" not in done.stderr, "TensorFlow's greetings look like an error"
    assert done.stdout.split("COURSE ")[1].split() == [str(root), str(root / "util.py")]


def test_a_classroom_workflow_checks_what_is_pushed(tmp_path):
    """The workflow's own commands, run in a template that was laid out, with one answer right and one wrong."""
    path = make_template(tmp_path / "template", 2)
    workflow = yaml.safe_load((path.parent / ".github" / "workflows" / "classroom.yml").read_text(encoding="utf-8"))
    step = workflow["jobs"]["checks"]["steps"][-1]
    nb = json.loads(path.read_text(encoding="utf-8"))
    find_cell(nb, "get_prevalence")["source"] = "def get_prevalence(y):\n    return np.mean(y)"
    find_cell(nb, "get_ppv")["source"] = "def get_ppv(y, pred, th=0.5):\n    return 0.5"
    for name, status in [("wrong", 1), ("right", 0)]:
        if name == "right":
            find_cell(nb, "get_ppv")["source"] = "def get_ppv(y, pred, th=0.5):\n    raise NotImplementedError"
        path.write_text(json.dumps(nb), encoding="utf-8")
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GITHUB_STEP_SUMMARY": str(tmp_path / f"{name}.md"),
        }
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=path.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        summary = (tmp_path / f"{name}.md").read_text(encoding="utf-8")
        assert (
            "get_prevalence: right" in summary
            and "get_accuracy: not attempted" in summary
            and ("get_ppv: wrong" in summary) == (name == "wrong")
        )
    with pytest.raises(FileExistsError, match="not empty"):
        make_template(path.parent, 2)


def test_public_checks_say_what_is_wrong(tmp_path, monkeypatch):
    nb = notebook(2)
    find_cell(nb, "get_prevalence")["source"] = "import numpy as np\ndef get_prevalence(y):\n    return np.mean(y)"
    find_cell(nb, "get_ppv")["source"] = "def get_ppv(y, pred, th=0.5):\n    return 0.5"
    find_cell(nb, "get_npv")["source"] = "def get_npv(y, pred, th=0.5):\n    while True: pass"
    find_cell(nb, "get_accuracy")["source"] = "def get_accuracy(y, pred, th=0.5):\n    return ("
    (tmp_path / "nb.ipynb").write_text(json.dumps(nb))
    monkeypatch.setattr(public_checks, "SECONDS", 1)
    results = {name: (outcome, message) for name, outcome, message in public_checks.check_notebook(tmp_path / "nb.ipynb")}
    assert results["get_prevalence"] == ("right", "") and results["get_ppv"][0] == "wrong" and "hint:" in results["get_ppv"][1]
    assert results["get_npv"] == ("wrong", "It takes longer than 1 seconds.") and "SyntaxError" in results["get_accuracy"][1]
    assert results["true_positives"] == ("not attempted", "") and len(results) == len(assignment(2).exercises)
    (tmp_path / "nb.ipynb").write_text('{"cells": [{"cell_type": "code", "source": "x = 1"}]}')
    with pytest.raises(NotebookError, match="none of the exercises"):
        public_checks.check_notebook(tmp_path / "nb.ipynb")
