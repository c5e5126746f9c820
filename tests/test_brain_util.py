"""What notebook 03 leans on: the U-Net, the sliding window, HD95, volumes and pictures."""

import io
import math

import matplotlib
import numpy as np
import PIL.Image
import pytest

matplotlib.use("Agg")
import util
from data.errors import DataError

keras = pytest.importorskip("keras")
import models.brain  # noqa: E402
from data import decathlon  # noqa: E402
from models.brain import network as brain_network  # noqa: E402
from models.brain import predict as brain_predict  # noqa: E402


def one_hot(label):
    return (label[..., None] == np.arange(1, 4)).astype(np.float32)


def test_unet_gives_probabilities_for_boxes_of_any_divisible_size():
    model = brain_network.unet3d(filters=(4, 8, 16))
    for shape in ((16, 16, 16), (8, 24, 40)):
        out = np.asarray(model(np.random.default_rng(0).normal(size=(2, *shape, 4)).astype(np.float32)))
        assert out.shape == (2, *shape, 3)
        assert (out > 0).all() and (out.sum(-1) < 1).all()


def test_unet_normalises_each_sample_and_channel_alone():
    """A sample's output does not depend on what else is in the batch, nor on the scale of what the network sees."""
    model = brain_network.unet3d(filters=(4, 8))
    one, two = np.random.default_rng(1).normal(size=(2, 1, 8, 8, 8, 4)).astype(np.float32)
    alone = np.asarray(model(one))
    together = np.asarray(model(np.concatenate([one, 5 * two])))[:1]
    np.testing.assert_allclose(alone, together, atol=1e-4)
    np.testing.assert_allclose(alone, np.asarray(model(3 * one)), atol=1e-3)


def test_instance_normalisation_is_keras_group_normalisation_with_a_group_a_channel():
    x = np.random.default_rng(0).normal(3, 2, (2, 5, 6, 7, 3)).astype(np.float32)
    ours, theirs = brain_network.InstanceNormalization(), keras.layers.GroupNormalization(groups=-1, epsilon=1e-5)
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.gamma.assign([0.5, 1, 2])
        layer.beta.assign([1, 0, -1])
    np.testing.assert_allclose(np.asarray(ours(x)), np.asarray(theirs(x)), atol=1e-4)
    constant = np.asarray(ours(np.full((1, 4, 4, 4, 3), 7, np.float32)))
    np.testing.assert_allclose(constant[0, 0, 0, 0], [1, 0, -1], atol=1e-3)


def test_foreground_softmax_is_softmax_without_background_and_so_is_its_gradient():
    from keras import ops

    logits = np.random.default_rng(0).normal(0, 4, (2, 3, 4, 5, 4)).astype(np.float32)
    logits[0, 0, 0, 0], logits[0, 0, 0, 1] = [-200, 1, 2, 3], [200, 1, 2, 3]  # surely tumour, surely none
    layer = brain_network.ForegroundSoftmax()
    expected = np.exp(logits.astype(float) - logits.max(-1, keepdims=True))
    expected = (expected / expected.sum(-1, keepdims=True))[..., 1:]
    found = np.asarray(layer(logits))
    certain = np.abs(logits[..., 1:] - logits[..., :1]).max(-1) > 60  # there it only must be sure and sum to 1
    np.testing.assert_allclose(found[~certain], expected[~certain], atol=1e-6)
    np.testing.assert_allclose(found[certain].sum(-1), [1, 0], atol=1e-6)
    assert layer.compute_output_shape(logits.shape) == found.shape == (2, 3, 4, 5, 3)
    if keras.config.backend() != "tensorflow":
        return
    import tensorflow as tf

    weights = np.random.default_rng(1).normal(size=found.shape).astype(np.float32)
    gradients = []
    for answer in (layer, lambda x: ops.softmax(x)[..., 1:]):
        with tf.GradientTape() as tape:
            x = tf.Variable(logits)
            value = tf.reduce_sum(answer(x) * weights)
        gradients.append(np.asarray(tape.gradient(value, x)))
    np.testing.assert_allclose(gradients[0][~certain], gradients[1][~certain], atol=1e-6)
    assert np.isfinite(gradients[0]).all()


def test_end_of_the_unet_is_keras_transposed_convolution_and_softmax():
    """What is computed before the voxels lie in space is what Keras computes after, of the same weights."""
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6)).astype(np.float32)
    ours, theirs = (kind(4, 2, strides=2) for kind in (brain_network.Conv3DTranspose, keras.layers.Conv3DTranspose))
    unfold, softmax = brain_network.Unfold(), brain_network.ForegroundSoftmax(voxels=8)
    theirs.build(x.shape)
    theirs.bias.assign([1, 0, -1, 2])
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    expected = np.asarray(theirs(x))
    np.testing.assert_allclose(np.asarray(unfold(ours(x))), expected, atol=1e-5)
    expected = np.asarray(brain_network.ForegroundSoftmax()(expected))
    np.testing.assert_allclose(np.asarray(unfold(softmax(ours(x)))), expected, atol=1e-6)
    shape = x.shape
    for layer in (ours, softmax, unfold):
        shape = layer.compute_output_shape(shape)
        assert type(layer).from_config(layer.get_config()).compute_output_shape((1, 16, 16, 16, 64))
    assert shape == expected.shape
    assert unfold.compute_output_shape((None, None, 2, None, 24)) == (None, None, 4, None, 3)


@pytest.mark.parametrize("loss", brain_network.LOSSES.values(), ids=brain_network.LOSSES)
def test_losses_are_the_same_whether_eight_voxels_make_a_row_or_one(loss):
    rng = np.random.default_rng(2)
    truth = one_hot(rng.integers(0, 4, (2, 4, 2, 8)))
    found = rng.dirichlet(np.ones(4), (2, 4, 2, 8))[..., 1:].astype(np.float32)
    turned = [np.moveaxis(image, 3, 1) for image in (truth, found)]  # now the last axis has two voxels
    assert float(loss(truth, found)) == pytest.approx(float(loss(*turned)), rel=1e-5)


def test_supervised_network_shares_its_layers_and_answers_at_coarser_levels():
    model = brain_network.unet3d(filters=(4, 6, 8, 10))
    trained = brain_network.deeply_supervised(model)
    image = np.random.default_rng(0).normal(size=(1, 16, 16, 32, 4)).astype(np.float32)
    answers = trained(image)
    assert [tuple(answer.shape[1:4]) for answer in answers] == [(16, 16, 32), (4, 4, 8), (2, 2, 4)]
    np.testing.assert_array_equal(np.asarray(answers[0]), np.asarray(model(image)))
    before = np.asarray(model(image))
    trained.compile(keras.optimizers.Adam(0.01), loss=[brain_network.dice_cross_entropy] * 3, run_eagerly=True)  # one step only
    trained.train_on_batch(image, [np.zeros(answer.shape, np.float32) for answer in answers])
    assert (np.asarray(model(image)) != before).any()


def test_unet_is_small():
    assert 0.5e6 < brain_network.unet3d().count_params() < 2e6


def test_loss_by_hand():
    label = np.array([0, 1, 2, 3, 3, 0, 0, 0]).reshape(1, 2, 2, 2)
    truth, found = one_hot(label), np.full((1, 2, 2, 2, 3), 0.2, np.float32)
    dice = [2 * 0.2 * n / (n + 8 * 0.04) for n in (1, 1, 2)]
    entropy = -(4 * math.log(0.4) + 4 * math.log(0.2)) / 8
    assert float(brain_network.dice_cross_entropy(truth, found)) == pytest.approx(1 - np.mean(dice) + entropy, rel=1e-4)
    assert float(brain_network.dice_cross_entropy(truth, truth)) == pytest.approx(0, abs=1e-4)
    assert np.isfinite(float(brain_network.dice_cross_entropy(truth, 1 - truth)))


def test_region_loss_by_hand_and_indifferent_to_classes_within_a_region():
    rng = np.random.default_rng(1)
    truth = one_hot(rng.integers(0, 4, (2, 4, 6, 5)))
    found = rng.dirichlet(np.ones(4), (2, 4, 6, 5))[..., 1:].astype(np.float32)
    dice, entropy = [], []
    for classes in ([0, 1, 2], [1, 2], [2]):  # whole tumour, core, enhancing
        t, p = truth[..., classes].sum(-1), found[..., classes].sum(-1)
        dice.append(2 * (t * p).sum() / (t.sum() + (p**2).sum()))
        entropy.append(-np.where(t == 1, np.log(p), np.log(1 - p)).mean())
    loss = brain_network.LOSSES["regions"]
    assert float(loss(truth, found)) == pytest.approx(1 - np.mean(dice) + np.mean(entropy), rel=1e-4)
    assert float(loss(truth, truth)) == pytest.approx(0, abs=1e-4)
    wrong = one_hot(np.full((1, 4, 4, 4), 1)), one_hot(np.full((1, 4, 4, 4), 2)), one_hot(np.full((1, 4, 4, 4), 3))
    assert float(loss(wrong[1], wrong[2])) < 0.9 * float(loss(wrong[0], wrong[2]))  # a core at least against no core at all
    assert np.isfinite(float(loss(truth, 1 - truth)))


def test_brain_box():
    image = np.zeros((9, 8, 7, 2))
    image[2, 3, 4, 0] = image[5, 3, 6, 1] = -1
    assert decathlon.brain_box(image) == (slice(2, 6), slice(3, 4), slice(4, 7))
    assert decathlon.brain_box(image, margin=3)[1:] == (slice(0, 7), slice(1, 10))
    with pytest.raises(DataError, match="zero everywhere"):
        decathlon.brain_box(np.zeros((2, 2, 2, 1)))


def test_standardize_scan():
    rng = np.random.default_rng(0)
    image = np.zeros((6, 5, 4, 3), np.int16)
    image[1:5, 1:4, 1:3] = rng.integers(-50, 900, (4, 3, 2, 3))
    image[1, 1, 1] = [0, 7, 0]  # a brain voxel that is 0 in some channels counts as brain
    image[..., 2][image[..., 0] != 0] = 5  # nearly constant
    before = image.copy()
    result = decathlon.standardize_scan(image)
    brain = image.any(-1)
    np.testing.assert_array_equal(image, before)
    assert result.dtype == np.float32 and not result[~brain].any()
    np.testing.assert_allclose(result[brain].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(result[brain].std(0), 1, atol=1e-4)


def test_constant_channel_is_zero_not_nan():
    assert not decathlon.standardize_scan(np.full((3, 3, 3, 1), 7)).any()


class Identity:
    """Stands for a network: its class probabilities are its first three channels; it notes the shapes it was given."""

    output_shape = (None, None, None, None, 3)

    def __init__(self):
        self.shapes = []

    def predict_on_batch(self, batch):
        self.shapes.append(batch.shape)
        return batch[..., :3]


@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize("tile, overlap", [((8, 8, 8), 0.5), ((16, 8, 4), 0.25), ((32, 32, 32), 0.5), ((8, 8, 8), 0)])
def test_sliding_window_puts_every_voxel_where_it_was(gaussian, tile, overlap):
    rng = np.random.default_rng(0)
    image = np.zeros((25, 21, 18, 4), np.float32)
    image[2:23, 1:20, 3:16] = rng.uniform(0.1, 0.3, (21, 19, 13, 4))
    before = image.copy()
    model = Identity()
    found = brain_predict.predict_scan(model, image, tile, overlap, gaussian)
    np.testing.assert_allclose(found, image[..., :3], atol=1e-6)
    np.testing.assert_array_equal(image, before)
    assert set(model.shapes) == {(1, *tile, 4)}


def test_mirrored_windows_are_turned_back_and_averaged():
    """A network that answers with the place along x, whatever it sees: mirrored and averaged, it answers with the middle."""

    class Place(Identity):
        def predict_on_batch(self, batch):
            self.shapes.append(batch.shape)
            place = np.arange(batch.shape[1], dtype=np.float32)[None, :, None, None, None]
            return np.broadcast_to(place, (*batch.shape[:-1], 3))

    image = np.ones((8, 8, 8, 4), np.float32)
    plain, turned = (brain_predict.predict_scan(Place(), image, (8,) * 3, mirror=axes) for axes in ((), (0,)))
    np.testing.assert_allclose(plain[:, 0, 0, 0], np.arange(8), atol=1e-5)
    np.testing.assert_allclose(turned, 3.5, atol=1e-5)
    model, image = Identity(), np.random.default_rng(0).uniform(0.1, 0.3, (9, 8, 7, 4)).astype(np.float32)
    found = brain_predict.predict_scan(model, image, (8,) * 3, mirror=(0, 1, 2))
    np.testing.assert_allclose(found, image[..., :3], atol=1e-6)
    assert len(model.shapes) == 8 * 2


def test_gaussian_weights_trust_the_middle_of_a_tile():
    """A network that is wrong at the border of its tiles: the weights suppress that."""

    class WrongAtTheBorder(Identity):
        def predict_on_batch(self, batch):
            out = np.zeros((*batch.shape[:-1], 3))
            out[:, 3:-3, 3:-3, 3:-3] = 1
            return out

    image = np.ones((48, 48, 48, 4), np.float32)
    middle = (slice(12, 36),) * 3
    weighted, plain = (brain_predict.predict_scan(WrongAtTheBorder(), image, (16,) * 3, 0.5, g)[middle] for g in (True, False))
    assert weighted.min() > 0.6 > plain.min()


def test_gaussian_weights():
    weights = brain_predict.gaussian_weights((8, 12, 16))
    assert weights.shape == (8, 12, 16) and weights.max() == 1 and weights.min() > 0
    np.testing.assert_allclose(weights, weights[::-1, ::-1, ::-1])
    assert weights[4, 6, 8] > weights[0, 6, 8] > weights[0, 0, 0]


def test_tiles_cover_and_overlap():
    corners = brain_predict.tile_corners((100, 64, 30), (64, 64, 64), 0.5)
    assert corners == [(0, 0, 0), (18, 0, 0), (36, 0, 0)]
    starts = [x for x, *_ in brain_predict.tile_corners((333, 1, 1), (64, 1, 1), 0.25)]
    assert starts[0] == 0 and starts[-1] == 333 - 64 and max(np.diff(starts)) <= 48


def test_label_map():
    probabilities = np.array([[0.2, 0.2, 0.2], [0.5, 0.1, 0.1], [0.1, 0.3, 0.4], [0, 0, 0], [0.3, 0.45, 0.0]])
    label = brain_predict.label_map(probabilities)
    assert label.tolist() == [0, 1, 3, 0, 2] and label.dtype == np.uint8


def test_clean_keeps_the_largest_piece_and_no_speck_of_enhancement():
    label = np.zeros((20, 20, 20), np.uint8)
    label[2:10, 2:10, 2:10], label[4:6, 4:6, 4:6] = 1, 3  # 8 voxels of enhancing tumour inside
    label[15:18, 15:18, 15:18] = 2
    before = label.copy()
    cleaned = brain_predict.clean(label)
    np.testing.assert_array_equal(label, before)
    assert cleaned.dtype == np.uint8 and not cleaned[12:].any()
    assert (cleaned[4:6, 4:6, 4:6] == 2).all() and (cleaned == 1).sum() == 8**3 - 8
    assert (brain_predict.clean(label, one_piece=False)[15:18, 15:18, 15:18] == 2).all()
    assert (brain_predict.clean(label, spacing=(3, 3, 3))[4:6, 4:6, 4:6] == 3).all()  # 0.2 ml
    assert not brain_predict.clean(np.zeros((3, 3, 3), np.uint8)).any()
    assert (brain_predict.clean(label, least_enhancing_ml=0.008)[4:6, 4:6, 4:6] == 3).all()
    assert not (brain_predict.clean(label, least_enhancing_ml=0.0081) == 3).any()


def brute_force_hd95(a, b, spacing):
    from scipy.spatial.distance import cdist

    def surface(mask):
        padded = np.pad(mask, 1)
        inside = np.ones_like(mask)
        for axis in range(3):
            for shift in (-1, 1):
                inside &= np.roll(padded, shift, axis)[1:-1, 1:-1, 1:-1]
        return np.argwhere(mask & ~inside) * spacing

    distances = cdist(surface(a), surface(b))
    return max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))


@pytest.mark.parametrize("seed", range(5))
def test_hd95_agrees_with_brute_force(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 14, 11, 9)) ** 4 > 0.5
    a[:3] = b[:, 8:] = False
    spacing = rng.uniform(0.5, 3, 3)
    assert util.hausdorff95(a, b, spacing) == pytest.approx(brute_force_hd95(a, b, spacing))


def test_hd95_of_shifted_boxes_is_in_millimetres():
    a, b = np.zeros((2, 30, 30, 30), bool)
    a[5:10, 5:10, 5:10] = b[5:10, 5:10, 12:17] = True
    assert util.hausdorff95(a, b) == 7
    assert util.hausdorff95(a, b, (1, 1, 2.5)) == 17.5
    assert util.hausdorff95(a, a) == 0
    assert math.isnan(util.hausdorff95(a, np.zeros_like(a))) and math.isnan(util.hausdorff95(np.zeros_like(a), a))


def test_volume_in_millilitres():
    mask = np.zeros((20, 20, 20), bool)
    mask[:10, :10, :10] = True
    assert util.volume_ml(mask) == 1
    assert util.volume_ml(mask, (1, 1, 5)) == 5


def test_largest_slice():
    mask = np.zeros((6, 7, 8), bool)
    mask[2, 3:5, 4:6] = mask[4, 3, 5] = True
    assert util.largest_slice(mask) == (2, 3, 5)
    assert util.largest_slice(np.zeros((6, 7, 8), bool)) == (3, 3, 4)


@pytest.fixture
def painted():
    volume, label = np.zeros((30, 34, 26), np.int16), np.zeros((30, 34, 26), np.uint8)
    volume[3:27, 3:31, 3:23] = np.random.default_rng(0).integers(50, 200, (24, 28, 20))
    label[5:9, 20:26, 10:16] = 3
    return volume, label


def test_pictures_show_the_patients_right_on_the_left(painted):
    """The tumour at small x is on the patient's left: it must be drawn on the right half."""
    volume, label = painted
    fig = util.show_planes({"FLAIR": volume}, label)
    axis = fig.axes[0]
    assert axis.xaxis_inverted() and axis.texts[0].get_text() == "R"
    fig.canvas.draw()
    painted_columns = np.flatnonzero((axis.images[1].get_array() == 3).any(axis=0))
    where = axis.transData.transform([(column, 0) for column in painted_columns])[:, 0].mean()
    assert where > axis.get_window_extent().x0 + axis.get_window_extent().width / 2
    matplotlib.pyplot.close(fig)


def test_animation_plays_and_is_small(painted):
    volume, label = painted
    animation = util.animate_slices(volume, label, "simulated", frames=6)
    film = PIL.Image.open(io.BytesIO(animation.data))
    assert film.n_frames == 6 and len(animation.data) < 50_000
    bundle = animation._repr_png_()
    assert bundle is not None
    film.seek(3)
    colours = np.asarray(film.convert("RGB")).astype(int)
    half = colours.shape[1] // 2
    tinted = np.ptp(colours, axis=-1) > 30
    assert tinted[:, half:].any() and not tinted[:, :half].any()
    assert tinted[:, half + half // 2 :].sum() > tinted[:, half : half + half // 2].sum()  # on the patient's left


def balls(*places, shape=(40, 40, 40)):
    """Mask of balls: (centre, radius) each."""
    grid = np.indices(shape)
    return np.any([sum((axis - c) ** 2 for axis, c in zip(grid, centre)) <= radius**2 for centre, radius in places], axis=0)


def test_the_hausdorff_distance_sees_an_island_and_its_95th_percentile_does_not():
    truth = balls(((12, 20, 20), 10))
    island = truth | balls(((36, 20, 20), 2))
    assert util.hausdorff95(island, truth) == 0
    assert util.hausdorff95(island, truth, percentile=100) == 38 - 22
    assert util.hausdorff95(island, truth, (2, 1, 1), percentile=100) == 2 * (38 - 22)


def test_surface_dice_forgives_what_is_within_the_tolerance():
    truth = balls(((20, 20, 20), 8))
    moved = np.roll(truth, 2, axis=0)
    assert util.surface_dice(truth, truth) == util.surface_dice(moved, truth, tolerance=2) == 1
    assert 0 < util.surface_dice(moved, truth, tolerance=1) < 1
    assert util.surface_dice(moved, truth, (2, 1, 1), tolerance=2) < 1
    assert util.surface_dice(balls(((20, 20, 20), 2)), truth, tolerance=2) == 0
    nothing = np.zeros_like(truth)
    assert util.surface_dice(nothing, truth) == 0 and math.isnan(util.surface_dice(truth, nothing))


def test_lesion_dice_counts_each_piece_alike():
    large, small, false = ((12, 20, 20), 9), ((34, 20, 20), 2), ((34, 34, 34), 3)
    truth = balls(large, small)
    assert util.lesion_dice(truth, truth) == 1
    assert util.lesion_dice(balls(large), truth) == 0.5
    assert util.lesion_dice(balls(large, small, false), truth) == pytest.approx(2 / 3)
    assert util.lesion_dice(np.zeros_like(truth), truth) == 0
    assert math.isnan(util.lesion_dice(truth, np.zeros_like(truth)))
    halves = truth.copy()
    halves[12] = False  # two pieces of the prediction touch one lesion: they are scored together
    first, whole = np.count_nonzero(balls(large)), np.count_nonzero(balls(large)[12])
    assert util.lesion_dice(halves, truth) == pytest.approx((2 * (first - whole) / (2 * first - whole) + 1) / 2)


def test_kinds_of_errors_are_told_apart_by_form(painted):
    volume, label = painted
    errors = np.zeros_like(label)
    errors[5:9, 8:12, 10:16], errors[12:16, 8:12, 10:16], errors[20:24, 8:12, 10:16] = 1, 2, 3
    fig = util.show_errors(np.stack([volume] * 4, axis=-1), label, label, errors, 12)
    axis = fig.axes[-1]
    filled = axis.images[-1].get_array()
    assert set(np.unique(filled.compressed())) == {1}
    outline, hatched = axis.collections
    assert not outline.get_fill() if hasattr(outline, "get_fill") else outline.filled is False
    assert hatched.filled and hatched.hatches == ["//////"]
    assert [text.get_text() for text in fig.legends[0].get_texts()][1::2] == [
        "missed",
        "false alarm (outline)",
        "wrong class (hatched)",
    ]
    matplotlib.pyplot.close(fig)


def test_enhancing_tumour_has_a_line_around_it(painted):
    """To the colour-blind its colour on bright tissue is that of edema on dark tissue."""
    volume, label = painted
    assert all(len(axis.collections) == 1 for axis in util.show_planes({"FLAIR": volume}, label).axes)
    fig = util.show_planes({"FLAIR": volume}, np.where(label == 3, 1, 0))
    assert not any(axis.collections for axis in fig.axes)
    matplotlib.pyplot.close("all")


def test_the_scroller_is_a_film_where_nobody_can_scroll(painted, monkeypatch):
    volume, label = painted
    image = np.stack([volume] * 4, axis=-1)
    assert util.scroll_slices(image, label, "simulated")._repr_png_() is not None

    asked = {}
    monkeypatch.setattr("brain_figures.is_still", lambda: False)
    monkeypatch.setattr("brain_figures.play", lambda draw, **choices: asked.update(choices, draw=draw))
    assert util.scroll_slices(image, label, "simulated") is None
    assert asked["sequence"] == list(decathlon.CHANNELS) and asked["edema"] is bool and asked["slice"] == (1, 24)
    asked["draw"](slice=8, sequence="T1gd", edema=False, enhancing=False)
    matplotlib.pyplot.close("all")


def test_controls_fit_what_they_turn(monkeypatch):
    import ipywidgets

    import sliders

    shown, drawn = [], []

    def draw(number=2, share=0.5, name="b", ticked=True):
        drawn.append((number, share, name, ticked))

    sliders.play(draw, number=(0, 9), share=(0, 1), name=["a", "b"], ticked=bool)
    assert drawn == [(2, 0.5, "b", True)], "without Jupyter: once, as it is"
    monkeypatch.setattr(sliders, "is_still", lambda: False)
    monkeypatch.setattr(sliders, "display", shown.append)
    sliders.play(draw, number=(0, 9), share=(0, 1), name=["a", "b"], ticked=bool)
    number, share, name, boxes, _ = shown[0].children
    kinds = [type(control) for control in (number, share, name, boxes.children[0])]
    assert kinds == [ipywidgets.IntSlider, ipywidgets.FloatSlider, ipywidgets.ToggleButtons, ipywidgets.Checkbox]
    assert (number.min, number.max, number.value, name.options, boxes.children[0].value) == (0, 9, 2, ("a", "b"), True)
    number.value = 7
    assert drawn[-1] == (7, 0.5, "b", True)


def scan_of(name):
    return decathlon.BrainCase(name, (), None, (1, 1, 1), np.eye(4), None, name)


def test_no_patient_is_on_two_sides_and_those_the_network_knows_are_tested_last():
    known = sorted(models.brain.known_patients())[:3]
    new = ["Brats18_CBICA_XXA_1", "Brats18_CBICA_XXB_1", "Brats18_CBICA_XXB_2", "Brats18_CBICA_XXC_1"]
    training, validation, test, warning = models.brain.split_by_patient([scan_of(n) for n in known + new], 2, 1, simulated=False)
    assert [scan.name for scan in test] == ["Brats18_CBICA_XXA_1", "Brats18_CBICA_XXB_1"] and not warning
    assert len(validation) == 1 and {scan.name for scan in training} == set(known)
    *_, test, warning = models.brain.split_by_patient([scan_of(n) for n in known], 1, 1, simulated=False)
    assert test and "too good" in warning
    assert not models.brain.split_by_patient([scan_of(n) for n in known], 1, 1, simulated=True)[-1]
    assert (
        "names patients differently"
        in models.brain.split_by_patient([scan_of(f"BraTS20_Training_00{k}") for k in range(1, 4)], 1, 1, simulated=False)[-1]
    )
    with pytest.raises(DataError, match="2 patients are too few"):
        models.brain.split_by_patient([scan_of(n) for n in new[1:]], 1, 1, simulated=False)
