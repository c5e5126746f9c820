"""`make lab`: students work on copies."""

import json
import subprocess

import pytest

from tools import lab
from tools.lesson import ROOT


def test_copies_are_made_once_and_never_overwritten(tmp_path):
    (tmp_path / "student").mkdir()
    for name in ("01.ipynb", "02.ipynb"):
        (tmp_path / "student" / name).write_text("blank")
    work = tmp_path / "work"
    assert lab.copy_notebooks(tmp_path / "student", work) == [work / "01.ipynb", work / "02.ipynb"]
    (work / "01.ipynb").write_text("my answers")
    (work / "02.ipynb").unlink()
    assert lab.copy_notebooks(tmp_path / "student", work) == [work / "02.ipynb"]
    assert (work / "01.ipynb").read_text() == "my answers"


def test_git_ignores_the_copies():
    run = subprocess.run(["git", "check-ignore", "work/01_x.ipynb"], cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode == 128:
        pytest.skip("not a git clone")
    assert run.stdout == "work/01_x.ipynb\n"


@pytest.mark.parametrize(
    "options, user, refused", [([], 0, True), (["--allow-root"], 0, False), ([], 1000, False), ([], None, False)]
)
def test_root_is_told_what_to_do(options, user, refused):
    assert ("OPTIONS=--allow-root" in lab.refusal(options, user)) is refused


def test_students_meet_no_menu_of_nbgrader(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/elsewhere")
    paths = lab.environment(tmp_path)["JUPYTER_CONFIG_PATH"].split(":")
    assert paths == [str(tmp_path), "/elsewhere"]
    assert json.loads((tmp_path / "labconfig" / "page_config.json").read_text())["disabledExtensions"]["@jupyter/nbgrader"] is True
