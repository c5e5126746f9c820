"""Scores of whole scans: by hand, by bootstrap, and on a folder from the command line."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from data.errors import DataError

pytest.importorskip("keras")
from models.brain import evaluate as evaluate_brain
from models.brain.network import unet3d


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two scans of 24×22×20 voxels whose FLAIR says what the label is."""
    folder = tmp_path_factory.mktemp("scans")
    (folder / "imagesTr").mkdir()
    (folder / "labelsTr").mkdir()
    for number in range(2):
        rng = np.random.default_rng(number)
        radius = np.linalg.norm(np.indices((24, 22, 20)) - [[[[12 - 2 * number]]], [[[11]]], [[[10]]]], axis=0)
        label = np.select([radius < 3, radius < 4, radius < 6], [3, 2, 1], 0).astype(np.uint8)
        image = ((radius < 9)[..., None] * (300 + rng.normal(0, 20, (24, 22, 20, 4)))).astype(np.int16)
        image[..., 0] += 500 * label.astype(np.int16)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"imagesTr/C{number}.nii.gz")
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / f"labelsTr/C{number}.nii.gz")
    return folder


def test_scores_by_hand():
    expert, found = np.zeros((2, 20, 20, 20), np.uint8)
    expert[2:6, 2:6, 2:6], expert[3:5, 3:5, 3:5] = 1, 3
    found[2:6, 2:6, 5:9], found[3:5, 3:5, 3:5] = 1, 2
    row = evaluate_brain.score(found, expert, (1, 1, 2))
    assert list(row) == evaluate_brain.COLUMNS
    overlap = 4 * 4 + 8  # one layer of the cube, and the core
    assert row["Dice WT"] == pytest.approx(2 * overlap / (64 + 64 + 8))
    assert row["Dice TC"] == 1 and row["HD95 TC"] == 0
    assert row["Dice ET"] == 0 and np.isnan(row["HD95 ET"])
    nothing = evaluate_brain.score(np.zeros_like(expert), np.zeros_like(expert))
    assert all(np.isnan(value) for value in nothing.values())


def test_intervals_hold_the_mean_and_count_the_patients():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"Dice WT": rng.uniform(0.6, 0.9, 200), "Dice ET": [np.nan] * 199 + [0.5]})
    summary = evaluate_brain.summarize(table)
    row = summary.loc["Dice WT"]
    half = 1.96 * table["Dice WT"].std(ddof=0) / np.sqrt(200)
    assert row["mean"] == pytest.approx(table["Dice WT"].mean()) and row["patients"] == 200
    assert row["low"] == pytest.approx(row["mean"] - half, abs=half / 5)
    assert row["high"] == pytest.approx(row["mean"] + half, abs=half / 5)
    one = summary.loc["Dice ET"]
    assert one["mean"] == 0.5 and one["patients"] == 1 and np.isnan(one["low"])
    pd.testing.assert_frame_equal(summary, evaluate_brain.summarize(table))


class Threshold:
    """Stands for a network: reads the label off the standardised FLAIR of the scans above."""

    output_shape = (None, None, None, None, 3)

    def predict_on_batch(self, batch):
        flair = batch[..., 0]
        levels = [(flair > 0.3) & (flair < 1.9), (flair >= 1.9) & (flair < 3.2), flair >= 3.2]
        return np.stack(levels, axis=-1).astype(np.float32)


def test_a_folder_is_segmented_case_by_case(folder):
    cases = evaluate_brain.choose(folder)
    table = evaluate_brain.evaluate(Threshold(), cases, mirror=(0,))
    assert table.index.tolist() == ["C0", "C1"] and list(table) == evaluate_brain.COLUMNS
    assert (table["Dice WT"] > 0.95).all() and (table["HD95 WT"] <= 2).all()


def test_too_little_enhancement_is_called_non_enhancing(folder):
    case = evaluate_brain.choose(folder)[:1]
    little, none = (evaluate_brain.evaluate(Threshold(), case, (), least_enhancing_ml=least).iloc[0] for least in (0, 1))
    assert little["Dice ET"] > 0.8 and none["Dice ET"] == 0 and none["Dice TC"] == little["Dice TC"]


def test_whom_the_network_has_seen_is_left_out_unless_named(folder, tmp_path, capsys):
    assert [case.name for case in evaluate_brain.choose(folder, known=frozenset({"C0"}))] == ["C1"]
    assert "1 scans of patients of the network's training are left out" in capsys.readouterr().out
    assert [case.name for case in evaluate_brain.choose(folder, ["C0"], frozenset({"C0"}))] == ["C0"]
    with pytest.raises(DataError, match="trained on all of these patients"):
        evaluate_brain.choose(folder, known=frozenset({"C0", "C1"}))


def test_command_line(folder, tmp_path, capsys):
    weights = tmp_path / "w.weights.h5"
    unet3d(filters=(2, 4)).save_weights(weights)
    options = ["--weights", str(weights), "--filters", "2", "4", "--cases", "C1", "--out", str(tmp_path / "t.csv")]
    options += ["--mirror", "--least-enhancing", "0.01"]
    summary = evaluate_brain.main([str(folder), *options])
    assert pd.read_csv(tmp_path / "t.csv")["case"].tolist() == ["C1"] and list(summary.index) == evaluate_brain.COLUMNS
    assert "Dice WT" in capsys.readouterr().out


def test_errors_say_what_to_do(folder, tmp_path):
    with pytest.raises(DataError, match="no case C7. There are C0, C1"):
        evaluate_brain.choose(folder, ["C7"])
    unet3d(filters=(2, 4)).save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(SystemExit, match="another architecture"):
        evaluate_brain.main([str(folder), "--weights", str(tmp_path / "w.weights.h5"), "--filters", "2", "6"])
