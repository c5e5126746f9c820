"""The network of notebook 01, its batches, and the helpers around them."""

import keras
import numpy as np
import pandas as pd
import pytest

import sliders
import util
from data.errors import DataError
from data.nih import FINDINGS
from models import metrics
from models.chest import known_patients, network_card
from models.chest import network as chest_network
from models.chest.films import FilmBatches, augment_film, predict_films, standardize_films
from models.chest.network import densenet121


@pytest.fixture(scope="module")
def films():
    return np.random.default_rng(0).integers(0, 256, (10, 32, 32)).astype(np.uint8)


@pytest.fixture(scope="module")
def untrained():
    """Building it takes seconds; its weights are of no interest."""
    return densenet121(32, classes=3, weights=None)


@pytest.fixture(scope="module")
def shipped():
    return densenet121(weights="course")


def test_densenet_has_the_layers_that_the_lessons_name(untrained):
    model = untrained
    assert model.input_shape == (None, 32, 32, 1) and model.output_shape == (None, 3)
    logits = keras.Model(model.input, model.get_layer("logits").output)
    x = np.random.default_rng(1).normal(size=(2, 32, 32, 1)).astype(np.float32)
    np.testing.assert_allclose(model(x), 1 / (1 + np.exp(-np.asarray(logits(x)))), rtol=1e-5)
    assert model.get_layer("conv4_block24_concat").output.shape[-1] == 1024


def test_normalisation_computes_what_keras_computes():
    """Outputs, gradients and moving statistics, in training, frozen, and for prediction."""
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(2)
    x, target = (rng.normal(1, 3, (4, 6, 5, 7)).astype(np.float32) for _ in range(2))
    for trainable, training in ((True, True), (False, True), (True, False)):
        seen = []
        for kind in (keras.layers.BatchNormalization, chest_network.BatchNormalization):
            layer = kind(epsilon=1.001e-5, momentum=0.9, trainable=trainable)
            layer.build(x.shape)
            layer.set_weights([np.random.default_rng(k).uniform(0.5, 2, 7) for k in range(4)])
            with tf.GradientTape() as tape:
                inputs = tf.constant(x)
                tape.watch([inputs, *(weight.value for weight in layer.trainable_variables)])
                output = layer(inputs, training=training)
                loss = tf.reduce_sum(output * target)
            slopes = tape.gradient(loss, [inputs, *(weight.value for weight in layer.trainable_variables)])
            seen.append([output, *slopes, *layer.get_weights()])
        assert len(seen[0]) == len(seen[1]) == (8 if trainable else 6)
        for keras_own, ours in zip(*seen, strict=True):
            np.testing.assert_allclose(ours, keras_own, rtol=2e-4, atol=2e-4)
        moved = np.abs(seen[1][-1] - np.random.default_rng(3).uniform(0.5, 2, 7)).max()
        assert (moved > 0.1) == (trainable and training)


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_dense_block_trains_as_with_keras_own_layers(eagerly):
    pytest.importorskip("tensorflow")
    rng = np.random.default_rng(5)
    x, y = rng.normal(1, 3, (6, 8, 8, 2)).astype(np.float32), rng.random((6, 1)).astype(np.float32)
    trained = []
    for kinds in (keras.layers, chest_network):
        keras.utils.set_random_seed(1)
        maps = image = keras.Input(x.shape[1:])
        for _ in range(3):
            new = keras.layers.Activation("relu")(kinds.BatchNormalization(momentum=0.5)(maps))
            maps = kinds.Concatenate()([maps, keras.layers.Conv2D(3, 3, padding="same", use_bias=False)(new)])
        answer = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(kinds.BatchNormalization(momentum=0.5)(maps)))
        model = keras.Model(image, answer)
        model.compile(keras.optimizers.SGD(0.05), "mse", run_eagerly=eagerly, jit_compile=False)
        before = model.get_weights()
        losses = [model.train_on_batch(x, y) for _ in range(4)]
        trained.append([losses, *model.get_weights()])
        assert all(np.abs(now - then).max() > 1e-4 for now, then in zip(trained[-1][1:], before, strict=True))
    for ours, theirs in zip(*trained, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_normalisation_in_16_bits_keeps_statistics_in_32():
    pytest.importorskip("tensorflow")
    x = np.random.default_rng(2).normal(1, 3, (4, 6, 5, 7)).astype(np.float32)
    for training in (True, False):
        seen = []
        for kind, policy in ((keras.layers.BatchNormalization, "float32"), (chest_network.BatchNormalization, "mixed_bfloat16")):
            layer = kind(epsilon=1.001e-5, momentum=0.9, dtype=policy)
            layer.build(x.shape)
            layer.set_weights([np.random.default_rng(k).uniform(0.5, 2, 7) for k in range(4)])
            output = layer(x, training=training)
            assert output.dtype.name == ("float32" if policy == "float32" else "bfloat16")
            seen.append([keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")), *layer.get_weights()])
        np.testing.assert_allclose(seen[1][0], seen[0][0], rtol=2**-7, atol=0.06)  # a step of bfloat16
        for ours, theirs in zip(seen[1][1:], seen[0][1:], strict=True):
            assert ours.dtype == np.float32
            np.testing.assert_allclose(ours, theirs, rtol=3e-3)


def test_every_normalisation_of_densenet_is_ours_and_is_stored_as_keras_stores_its_own(tmp_path, untrained):
    model = untrained
    kinds = {type(layer) for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    assert kinds == {chest_network.BatchNormalization}
    plain = keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(32, 32, 3))
    ours = keras.Model(model.input, model.get_layer("relu").output)
    plain.save_weights(tmp_path / "plain.weights.h5")
    ours.load_weights(tmp_path / "plain.weights.h5")
    for here, there in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("training", [False, True])
def test_densenet_computes_what_keras_own_does_on_three_equal_channels(training):
    """Although it convolves one channel, and each transition convolves after the pooling: features, and slopes of all weights."""
    tf = pytest.importorskip("tensorflow")
    keras.utils.set_random_seed(4)
    rng = np.random.default_rng(4)
    x = rng.normal(size=(4, 64, 64, 1))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")  # 121 layers make much of rounding
    try:
        plain = keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(64, 64, 3))
        model = densenet121(64, weights=None)
    finally:
        keras.config.set_dtype_policy(before)
    ours = keras.Model(model.input, model.get_layer("relu").output)
    given = [rng.uniform(0.5, 1.5, w.shape) if w.ndim == 1 else w for w in plain.get_weights()]
    seen = []
    for network, films in ((ours, x), (plain, np.repeat(x, 3, axis=-1))):
        network.set_weights(given)
        with tf.GradientTape() as tape:
            output = network(films, training=training)
            loss = tf.reduce_mean(output * np.random.default_rng(6).normal(size=output.shape))
        slopes = tape.gradient(loss, [weight.value for weight in network.trainable_variables])
        seen.append([output, *slopes, *network.get_weights()])
    assert seen[0][0].dtype == "float64" and np.abs(seen[0][0]).max() > 1e-3
    for here, there in zip(*seen, strict=True):
        assert np.linalg.norm(here - there) <= 1e-6 * np.linalg.norm(there) + 1e-13  # some slopes are 0 but for rounding


def test_transitions_pool_before_they_convolve_and_the_network_takes_one_channel(untrained):
    names = [layer.name for layer in untrained.layers]
    for number in (2, 3, 4):
        at = names.index(f"pool{number}_relu")
        assert names[at : at + 3] == [f"pool{number}_relu", f"pool{number}_pool", f"pool{number}_conv"]
        assert untrained.get_layer(f"pool{number}_conv").output.shape[1] == 32 // 2 ** (number + 1)
    first = untrained.get_layer("conv1_conv")
    assert first.input.shape[-1] == 1 and first.kernel.shape == (7, 7, 3, 64)


def test_course_weights_serve_any_number_of_classes(shipped):
    all_findings = shipped
    two = densenet121(32, classes=2, weights="course")
    for layer in ("conv1_conv", "conv5_block16_2_conv", "bn"):
        for ours, theirs in zip(two.get_layer(layer).get_weights(), all_findings.get_layer(layer).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert np.abs(all_findings.get_layer("conv1_conv").get_weights()[0]).max() > 0


def test_imagenet_without_a_network_is_one_clear_sentence(monkeypatch):
    def no_network(**options):
        assert options["weights"] == "imagenet"
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.applications, "DenseNet121", no_network)
    with pytest.raises(DataError, match="ImageNet weights could not be downloaded. .*weights='course'.*URL fetch"):
        densenet121(32, weights="imagenet")


@pytest.mark.parametrize("weights", ["course", "imagenet", None])
def test_channels_first_is_named_and_not_called_a_failed_download(weights):
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(DataError, match="image_data_format 'channels_first'.*keras.json"):
            densenet121(32, weights=weights)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_another_error_than_a_download_is_passed_on(monkeypatch):
    def broken(**options):
        raise MemoryError("16 GiB")

    monkeypatch.setattr(keras.applications, "DenseNet121", broken)
    with pytest.raises(MemoryError):
        densenet121(32, weights="course")
    with pytest.raises(DataError, match="could not be loaded.*MemoryError: 16 GiB"):
        densenet121(32, weights="imagenet")


def test_unknown_weights():
    with pytest.raises(ValueError, match="'course', 'imagenet' or None"):
        densenet121(32, weights="chexnet")


def test_the_number_of_classes_in_place_of_the_size():
    with pytest.raises(ValueError, match="size is 14;.*at least 32 pixels"):
        densenet121(14)


def test_standardised_training_films_have_mean_0_and_sd_1(films):
    z = standardize_films(films, films.mean(), films.std())
    assert z.shape == (10, 32, 32, 1) and z.dtype == np.float32
    assert abs(z.mean()) < 1e-5 and abs(z.std() - 1) < 1e-5


def test_batches_without_augmentation_keep_order_and_pixels(films):
    labels = np.arange(20).reshape(10, 2)
    batches = FilmBatches(films, labels, 0.0, 1.0, batch_size=4)
    x = np.concatenate([batches[k][0] for k in range(len(batches))])
    y = np.concatenate([batches[k][1] for k in range(len(batches))])
    assert len(batches) == 3
    np.testing.assert_array_equal(x[..., 0], films)
    np.testing.assert_array_equal(y, labels)


def test_augmented_batches_repeat_by_seed_and_differ_by_epoch(films):
    labels = np.arange(10)[:, np.newaxis]

    def epoch(batches):
        return [batches[k] for k in range(len(batches))]

    first, second = (FilmBatches(films, labels, 0.0, 1.0, batch_size=4, augment=True, seed=3) for _ in range(2))
    for (x, y), (x2, y2) in zip(epoch(first), epoch(second), strict=True):
        np.testing.assert_array_equal(x, x2)
        np.testing.assert_array_equal(y, y2)
    order = np.concatenate([y for _, y in epoch(first)])[:, 0]
    first.on_epoch_end()
    next_order = np.concatenate([y for _, y in epoch(first)])[:, 0]
    assert sorted(order) == sorted(next_order) == list(range(10))
    assert (order != next_order).any()


def test_augmentation_never_mirrors():
    """A film that is bright on its right side stays so, whatever the draw."""
    film = np.zeros((64, 64), np.uint8)
    film[:, 40:] = 200
    before = film.copy()
    rng = np.random.default_rng(0)
    for _ in range(100):
        other = augment_film(film, rng)
        assert other.dtype == np.uint8 and other.shape == film.shape
        assert other[:, 48:].mean() > other[:, :16].mean()
    np.testing.assert_array_equal(film, before)


def test_strength_of_augmentation(films):
    changes = []
    for strength in (0, 1, 2):
        rngs = [np.random.default_rng(seed) for seed in range(10)]
        changes.append(np.mean([np.abs(augment_film(films[0], rng, strength).astype(float) - films[0]) for rng in rngs]))
    assert changes[0] <= 1 < changes[1] < changes[2]  # 0: rounding only


def test_prediction_covers_the_last_part_batch(films):
    model = keras.Sequential([keras.Input((32, 32, 1)), keras.layers.GlobalAveragePooling2D()])
    pred = predict_films(model, films, 10.0, 2.0, batch_size=4)
    np.testing.assert_allclose(pred[:, 0], (films.mean(axis=(1, 2)) - 10) / 2, rtol=1e-5)
    assert predict_films(model, films[:0], 10.0, 2.0).shape == (0, 1)


def test_cells_that_a_box_touches():
    box = pd.DataFrame({"x": [0.5], "y": [0.0], "w": [0.3], "h": [0.5]})  # all of column 2, a fifth of column 3
    expected = np.zeros((4, 4), bool)
    expected[:2, 2] = True
    np.testing.assert_array_equal(util.touched_cells(box, (4, 4)), expected)
    small = pd.DataFrame({"x": [0.80, 0.99], "y": [0.10, 0.99], "w": [0.01, 0.01], "h": [0.01, 0.01]})
    np.testing.assert_array_equal(np.argwhere(util.touched_cells(small, (4, 4))), [[0, 3], [3, 3]])  # their middles count


def test_means_of_cells():
    images = np.zeros((1, 4, 8))
    images[0, 2:, 4:] = 6.0
    images[0, 0, 0] = 8.0
    np.testing.assert_allclose(util.by_cells(images, (2, 2)), [[[1, 0], [0, 6]]])


def test_pointing_game():
    cells = np.full((4, 2, 2), -1.0)  # before the ReLU: an empty map points too
    cells[0, 0, 1], cells[1, 1, 0], cells[2, 1, 1], cells[3, 0, 0] = 1, 2, 3, -0.5
    truth = np.zeros((4, 2, 2))
    truth[0, 0, 1], truth[1, 0, 1], truth[2, 1, 1], truth[3, 0, 0] = 1, 1, 1, 1
    game = util.pointing_game(cells, truth, ["Mass", "Mass", "Nodule", "Mass"], {"transposed": cells.transpose(0, 2, 1)})
    np.testing.assert_array_equal(game["its map"], [1, 0, 1, 1])
    np.testing.assert_array_equal(game["transposed"], [0, 1, 1, 1])
    np.testing.assert_array_equal(game["any cell"], [0.25] * 4)
    np.testing.assert_array_equal(game["map of another X-ray with the finding"], [0, 0.5, np.nan, 0])


def test_response_to_a_twin():
    with_it, twin, hits = np.array([0.9, 0.5, 0.2]), np.array([0.1, 0.6, 0.1]), np.array([1.0, 0.0, 1.0])
    table = util.response_table(["Mass", "Mass", "Nodule"], with_it, twin, hits)
    np.testing.assert_allclose(table.loc["Mass"].astype(float), [2, 0.7, 0.35, 0.5, 0.5])
    np.testing.assert_allclose(table.loc["Nodule"].astype(float), [1, 0.2, 0.1, 1, 1])


def test_mean_with_interval_is_by_patient():
    rng = np.random.default_rng(0)
    once = rng.random(40) < 0.5
    copies = np.repeat(once, 5).astype(float)
    by_patient = util.mean_table({"a": copies}, np.repeat(np.arange(40), 5), np.random.default_rng(1)).loc["a"]
    by_film = util.mean_table({"a": copies}, np.arange(200), np.random.default_rng(1)).loc["a"]
    assert by_patient["mean"] == by_film["mean"] == once.mean()
    assert by_patient["high"] - by_patient["low"] > 1.7 * (by_film["high"] - by_film["low"])
    holes = util.mean_table({"a": np.array([1.0, np.nan, 0.0]), "b": np.full(3, np.nan)}, [1, 2, 3], np.random.default_rng(1))
    assert holes.loc["a", "mean"] == 0.5 and holes.loc["b"].isna().all()


def test_agreement_counts_empty_maps_apart():
    cells = np.random.default_rng(0).random((5, 4, 4))
    half = cells.copy()
    half[:2] = 0
    fig = util.plot_rank_agreement(cells, {"same": cells**2, "empty": np.zeros_like(cells), "half": half})
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert labels == ["same\n(0 of 5 empty)", "empty\n(5 of 5 empty)", "half\n(2 of 5 empty)"]
    np.testing.assert_allclose(fig.axes[0].lines[0].get_xdata(), 1.0)


def test_a_person_marks_by_buttons_and_without_one_the_given_answers_are_scored(monkeypatch):
    seen, shown = [], []
    sliders.mark(3, "Which?", [True, False, True], seen.append)
    assert seen == [[True, False, True]] and not shown
    monkeypatch.setattr(sliders, "is_still", lambda: False)
    monkeypatch.setattr(sliders, "display", shown.append)
    sliders.mark(12, "Which?", [True] * 12, seen.append)
    _, first, second, done, _ = shown[0].children
    first.children[2].value = second.children[1].value = True
    assert len(seen) == 1, "nothing is scored before the button"
    done.click()
    assert np.flatnonzero(seen[1]).tolist() == [2, 11]


def test_reader_is_a_point_with_wilson_intervals():
    y, pred = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 1]), np.linspace(1, 0, 10)
    fig = util.plot_reading(y, pred, 0.5, np.arange(8), np.array([1, 1, 1, 0, 1, 0, 0, 0]))
    assert "reader: sensitivity 0.75, specificity 0.75" in fig.axes[0].get_title(loc="left") + fig.axes[0].get_title()
    low, high = metrics.wilson_interval(3, 4)
    assert (round(low, 3), round(high, 3)) == (0.301, 0.954)
    assert [label.get_text() for label in fig.axes[1].get_yticklabels()] == ["truth", "reader, 6 right", "network, 7 right"]


def test_youdens_threshold_is_one_of_the_outputs():
    assert util.youden_threshold([0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9]) in (0.5, 0.9)
    assert np.isnan(util.youden_threshold([1, 1], [0.1, 0.2]))


def test_marker_is_in_the_corner_only(films):
    before = films.copy()
    stamped = util.stamp_marker(films)
    np.testing.assert_array_equal(films, before)
    changed = (stamped != films).any(axis=0)
    assert changed.any() and not changed[:, 16:].any() and not changed[16:].any()


def test_shipped_weights_fit_the_shipped_size(shipped):
    assert shipped.input_shape[1] == chest_network.CHEST_SIZE


def test_the_shipped_network_says_whom_it_knows_and_what_is_usual():
    card = network_card()
    assert tuple(card.prevalence) == FINDINGS and all(0 < share < 0.5 for share in card.prevalence.values())
    assert card.size == chest_network.CHEST_SIZE and 100 < card.pixels[0] < 160 and 40 < card.pixels[1] < 90
    known = known_patients()
    assert len(known) > 500 and all(patient.isdigit() and not patient.startswith("0") for patient in known)
