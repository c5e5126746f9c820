"""Patches as training takes them: cut, augmented, prepared in order by threads."""

import os
import sys

import numpy as np
import pytest

pytest.importorskip("keras")
from test_train_brain import folder  # noqa: F401  the fixture

from data import decathlon
from data.decathlon import read_brain
from models.brain import patches as brain_patches
from models.brain.network import deeply_supervised, unet3d
from models.brain.patches import Packed, augment, batches, cut_patch, make_batch
from models.brain.train import Config


def a_packed_scan(shape=(30, 26, 22)):
    label = np.zeros(shape, np.uint8)
    label[3:6, 20:24, 10:14] = 1
    image = np.full((4, *shape), 1000, np.int16) * (np.arange(shape[0])[:, None, None] > 2)
    return Packed("x", image, label, [np.argwhere(label == 1)])


def test_patches_lie_inside_and_hold_the_tumour():
    scan, rng = a_packed_scan(), np.random.default_rng(0)
    for _ in range(50):
        image, label = cut_patch(scan, 16, 1.0, rng)
        assert image.shape == (4, 16, 16, 16) and label.shape == (16, 16, 16) and label.any()
    shares = [cut_patch(scan, 16, 0.0, rng)[1].any() for _ in range(200)]
    assert 0.05 < np.mean(shares) < 0.95


def test_packed_voxels_are_those_of_the_scan_to_a_thousandth(folder, tmp_path):
    case = next(iter(read_brain(folder)))
    image, _label = cut_patch(brain_patches.pack(case, tmp_path, 20), 20, 0.0, np.random.default_rng(0))
    box = decathlon.brain_box(case.image())
    sizes = [side.stop - side.start for side in box]
    expected = np.zeros((4, 20, 20, 20), np.float32)
    expected[:, : sizes[0], : sizes[1], : sizes[2]] = np.moveaxis(decathlon.standardize_scan(case.image()[box]), -1, 0)
    np.testing.assert_allclose(image * brain_patches.UNIT, expected, atol=0.00051)


def test_augmentation_keeps_shape_outside_and_classes():
    scan, rng = a_packed_scan(), np.random.default_rng(0)
    for _ in range(30):
        image, label = cut_patch(scan, 16, 1.0, rng)
        before = image.copy(), label.copy()
        new_image, new_label = augment(image, label, rng)
        np.testing.assert_array_equal(image, before[0])
        np.testing.assert_array_equal(label, before[1])
        assert new_image.shape == (16, 16, 16, 4) and new_image.dtype == np.float32 and np.isfinite(new_image).all()
        assert new_label.dtype == np.uint8 and set(np.unique(new_label)) <= {0, 1}


def test_augmentation_moves_image_and_label_together():
    label = np.zeros((16, 20, 24), np.uint8)  # no two sides alike, and the tumour away from every middle
    label[2:8, 4:10, 13:21] = 1
    image = np.repeat(np.where(label, 5000, 1000).astype(np.int16)[None], 4, axis=0)
    image[:, 12:] = 0
    rng, seen = np.random.default_rng(0), []
    for _ in range(60):
        new_image, new_label = augment(image, label, rng)
        assert new_image.shape == (*label.shape, 4) and new_label.shape == label.shape
        tumour, brain = new_label == 1, new_image.any(axis=-1) & (new_label == 0)
        for values in np.moveaxis(new_image, -1, 0):
            if values.any() and tumour.any():
                seen.append(values[tumour].mean() - values[brain].mean())
        seen_outside = (~new_image.any(axis=-1)).mean()
        assert 0.1 < seen_outside < 0.6
    assert len(seen) > 200 and np.min(seen) > 1 and np.median(seen) > 2.5


def test_batches_depend_on_seed_step_and_row_only():
    scans, config, shares = [a_packed_scan()], Config((), "", size=16, batch_size=4, filters=(4, 6, 8, 8)), np.ones(1)
    first, again = (make_batch(scans, shares, config, 5, range(4)) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    assert first[0].shape == (4, 16, 16, 16, 4)
    assert [truth.shape for truth in first[1]] == [(4, side, side, side, 3) for side in (16, 4, 2)]
    second_half = make_batch(scans, shares, config, 5, range(2, 4))  # as another process would prepare its share
    np.testing.assert_array_equal(second_half[0], first[0][2:])
    assert (make_batch(scans, shares, config, 6, range(4))[0] != first[0]).any()


def test_batches_come_in_order_whatever_the_number_of_threads():
    scans, shares = [a_packed_scan()], np.ones(1)
    for workers, start, steps in ((1, 0, 5), (3, 2, 6), (4, 0, 2), (2, 3, 3)):
        config = Config((), "", size=16, batch_size=1, epochs=1, steps=steps, workers=workers)
        got = [images for images, _ in batches(scans, shares, config, start, range(1))]
        wanted = [make_batch(scans, shares, config, step, range(1))[0] for step in range(start, steps)]
        assert len(got) == len(wanted) == steps - start
        np.testing.assert_array_equal(np.array(got), np.array(wanted))


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_the_thread_that_prepares_gives_way_and_the_others_do_not(monkeypatch):
    seen = []
    monkeypatch.setattr(brain_patches, "make_batch", lambda *_: seen.append(os.nice(0)) or ([], []))
    own = os.nice(0)
    list(batches([], np.ones(0), Config((), "", epochs=1, steps=3), 0, range(2)))
    assert seen == [min(own + 10, 19)] * 3 and os.nice(0) == own


def test_coarse_truths_fit_the_answers_of_the_supervised_network():
    config = Config((), "", size=16, batch_size=2, filters=(4, 6, 8))
    images, truths = make_batch([a_packed_scan()], np.ones(1), config, 0, range(2))
    answers = deeply_supervised(unet3d(filters=config.filters))(images)
    assert [truth.shape for truth in truths] == [tuple(answer.shape) for answer in answers]
