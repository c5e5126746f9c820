"""Masks beside scans, on the scan's own grid, whatever way its axes run; and without an expert's mask."""

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("keras")
from data.decathlon import read_brain
from models.brain import predict

SHAPE = (20, 18, 16)


def write_patient(folder, name, affine, order=(0, 1, 2), flips=()):
    """A patient in the BraTS layout without a mask; the FLAIR is brightest in one corner of the brain."""
    (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    inside = np.zeros(SHAPE, bool)
    inside[2:-2, 2:-2, 2:-2] = True
    for part in ("flair", "t1", "t1ce", "t2"):
        values = (inside * rng.integers(90, 110, SHAPE)).astype(np.int16)
        if part == "flair":
            values[3:7, 4:8, 5:9] = 900
        stored = np.flip(values.transpose(order), flips)
        nib.save(nib.Nifti1Image(stored, affine), folder / name / f"{name}_{part}.nii.gz")


class BrightFlair:
    """Stands for a network: edema where the standardised FLAIR is high."""

    output_shape = (None, None, None, None, 3)

    def predict_on_batch(self, batch):
        found = np.zeros((*batch.shape[:-1], 3), np.float32)
        found[..., 0] = batch[..., 0] > 2
        return found


@pytest.fixture
def straight():
    """Axes to the right, front and top."""
    return np.diag([1.0, 1, 1, 1])


def test_the_mask_lies_on_the_scan_whatever_way_its_axes_run(tmp_path, straight, monkeypatch, capsys):
    write_patient(tmp_path, "Brats18_A_1", straight)
    turned = np.array([[0, -1, 0, 17], [-1, 0, 0, 19], [0, 0, 1, 0], [0, 0, 0, 1.0]])  # stored as y, x, z, both from the far end
    write_patient(tmp_path, "Brats18_B_1", turned, order=(1, 0, 2), flips=(0, 1))
    monkeypatch.setattr(predict, "unet3d", BrightFlair)
    monkeypatch.setattr(predict, "load_weights", lambda model, name: None)
    predict.main([str(tmp_path)])
    for name in ("Brats18_A_1", "Brats18_B_1"):
        mask = nib.load(tmp_path / name / f"{name}_predicted.nii.gz")
        scan = nib.load(tmp_path / name / f"{name}_flair.nii.gz")
        np.testing.assert_allclose(mask.affine, scan.affine)
        np.testing.assert_array_equal(np.asanyarray(mask.dataobj) == 1, np.asanyarray(scan.dataobj) == 900)
    printed = capsys.readouterr().out
    assert "edema 0.1 ml" in printed and "Not a medical device" in printed
    assert len(read_brain(tmp_path, masks=False)) == 2  # the masks are not taken for scans


def test_a_folder_without_scans_is_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match="no usable brain scan"):
        predict.main([str(tmp_path)])
