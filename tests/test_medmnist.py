"""ChestMNIST into a folder in the NIH format: whole, interrupted, damaged, or another MedMNIST set."""

import io
import tracemalloc
import zipfile

import cv2
import numpy as np
import pytest

from data import medmnist, nih
from data.errors import DataError


def npz_of(films=30, size=28, seed=0, compressed=True):
    rng = np.random.default_rng(seed)
    counts = {"train": films * 7 // 10, "val": films // 10, "test": films - films * 7 // 10 - films // 10}
    arrays = {}
    for split, count in counts.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, size, size), np.uint8)
        arrays[f"{split}_labels"] = (rng.random((count, 14)) < 0.1).astype(np.uint8)
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue(), arrays


def test_chestmnist_names_the_findings_in_the_order_of_the_reader():
    """MedMNIST's list: atelectasis, cardiomegaly, effusion, …, fibrosis, pleural, hernia."""
    published = (
        "atelectasis cardiomegaly effusion infiltration mass nodule pneumonia pneumothorax consolidation edema emphysema fibrosis"
    )
    assert [name.lower() for name in nih.FINDINGS] == [*published.split(), "pleural_thickening", "hernia"]


def test_conversion_needs_no_memory_for_the_films(tmp_path, monkeypatch, measured):
    """A file of 60 MB of films; the peak is far below it, and the same as for a quarter of them."""
    monkeypatch.setattr(medmnist, "_write_film", lambda path, film: None)  # writing PNG is not what is measured
    peaks = {}
    for films in (300, 1200):
        npz = tmp_path / f"{films}.npz"
        labels = np.zeros((films, 14), np.uint8)
        with zipfile.ZipFile(npz, "w", zipfile.ZIP_DEFLATED) as archive:
            for split, count in (("train", films), ("val", 1), ("test", 1)):
                for kind, array in (("labels", labels[:count]), ("images", np.broadcast_to(np.uint8(0), (count, 224, 224)))):
                    buffer = io.BytesIO()
                    np.save(buffer, array)
                    archive.writestr(f"{split}_{kind}.npy", buffer.getvalue())
            del buffer
        tracemalloc.start()
        assert medmnist.convert(npz, tmp_path / str(films), progress=False) == films + 2
        peaks[films] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[1200] < 4e6 and peaks[1200] < peaks[300] + 1.5e6
    measured.append(f"ChestMNIST to NIH format: {1200 * 224**2 / 1e6:.0f} MB of films, {peaks[1200] / 1e6:.1f} MB of memory")


def test_interrupted_conversion_goes_on(tmp_path):
    content, arrays = npz_of()
    (tmp_path / "c.npz").write_bytes(content)
    folder = tmp_path / "out"
    (folder / "images").mkdir(parents=True)
    kept = folder / "images" / "chestmnist_train_00000.png"
    cv2.imwrite(str(kept), arrays["train_images"][0])
    before = kept.stat().st_mtime_ns
    assert medmnist.convert(tmp_path / "c.npz", folder, progress=False) == 30
    assert kept.stat().st_mtime_ns == before and len(list((folder / "images").iterdir())) == 30


@pytest.mark.parametrize("place", [0.3, 0.6])
def test_damaged_npz(tmp_path, place):
    content = bytearray(npz_of(compressed=False)[0])
    content[int(len(content) * place)] ^= 0xFF
    (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(DataError, match="c.npz: damaged or cut off.*Move it away"):
        medmnist.convert(tmp_path / "c.npz", tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "images").exists() and not (tmp_path / "out" / nih.TABLE_FILE).exists()


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({}, "no array 'train_labels'"),
        ({"train_labels": np.zeros((3, 1), np.uint8)}, "14 findings. Is it another MedMNIST set"),
        (
            {f"{s}_labels": np.zeros((3, 14), np.uint8) for s in medmnist.SPLITS}
            | {"train_images": np.zeros((3, 28, 28, 3), np.uint8)},
            "square grey X-rays",
        ),
        (
            {f"{s}_labels": np.zeros((3, 14), np.uint8) for s in medmnist.SPLITS}
            | {"train_images": np.zeros((3, 28, 28), np.float32)},
            "type float32, but 3 square grey X-rays of uint8",
        ),
        (
            {f"{s}_labels": np.zeros((3, 14), np.uint8) for s in medmnist.SPLITS}
            | {"train_images": np.zeros((4, 28, 28), np.uint8)},
            "but 3 square grey X-rays",
        ),
        ({"train_labels": np.full((3, 14), 0.5)}, "train_labels holds 0.5, but a label is 0 or 1"),
        ({"train_labels": np.full((3, 14), 1, object)}, "not an array|unexpected order or type"),
    ],
)
def test_another_npz(tmp_path, arrays, words):
    np.savez(tmp_path / "c.npz", **arrays)
    with pytest.raises(DataError, match=words):
        medmnist.convert(tmp_path / "c.npz", tmp_path / "out", progress=False)
    (tmp_path / "c.npz").write_bytes(b"<html>")
    with pytest.raises(DataError, match="damaged or cut off"):
        medmnist.convert(tmp_path / "c.npz", tmp_path / "out", progress=False)


def test_npz_that_was_cut(tmp_path):
    content = npz_of()[0]
    for end in (len(content) // 3, len(content) - 30):
        (tmp_path / "c.npz").write_bytes(content[:end])
        with pytest.raises(DataError, match="c.npz: damaged or cut off.*Move it away"):
            medmnist.convert(tmp_path / "c.npz", tmp_path / "out", progress=False)
    arrays = {"train_labels": np.zeros((3, 14), np.uint8)}
    buffer = io.BytesIO()
    np.save(buffer, arrays["train_labels"])
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:  # a whole zip around an array that is not
        archive.writestr("train_labels.npy", buffer.getvalue()[:-5])
    with pytest.raises(DataError, match="damaged or cut off .train_labels has 37 bytes"):
        medmnist.convert(tmp_path / "c.npz", tmp_path / "out", progress=False)
