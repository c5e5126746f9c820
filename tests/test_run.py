"""The grammar that both trainers share: options, and what they import."""

import subprocess
import sys
from dataclasses import fields

import pytest

pytest.importorskip("keras")
from models.brain import train as train_brain
from models.chest import train as train_chest
from models.run import RunConfig
from models.weights import read_names, read_patients, write_patients


@pytest.mark.parametrize("trainer", [train_brain, train_chest], ids=["brain", "chest"])
def test_both_trainers_have_the_shared_options(trainer, capsys):
    shared = [item.name for item in fields(RunConfig)]
    assert [item.name for item in fields(trainer.Config)][: len(shared)] == shared
    with pytest.raises(SystemExit):
        trainer.main(["--help"])
    text = capsys.readouterr().out
    for name in shared[1:]:
        assert f"--{name.replace('_', '-')} " in text


@pytest.mark.parametrize("trainer", [train_brain, train_chest], ids=["brain", "chest"])
def test_a_users_mistake_is_one_sentence(trainer, tmp_path):
    with pytest.raises(SystemExit, match="there is no such folder|no such folder"):
        trainer.main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")])


def test_trainers_import_no_plotting(root):
    """Both work where nothing that draws is installed; Keras itself imports such packages if it finds them."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('matplotlib', 'IPython', 'util')))\n"  # importing one of these fails
        "import models.brain.train, models.chest.train"
    )
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_names_and_files_of_names(tmp_path):
    (tmp_path / "list.txt").write_text("# the official list\nB\n\n C \n")
    assert read_names(["A", str(tmp_path / "list.txt")]) == ({"A", "B", "C"}, {"A"})
    write_patients(tmp_path / "trained_on.txt", [3, 11, "P2"])
    assert (tmp_path / "trained_on.txt").read_text() == "11\n3\nP2\n"
    assert read_patients(tmp_path / "trained_on.txt") == {"3", "11", "P2"} and read_patients(tmp_path / "none.txt") == frozenset()
