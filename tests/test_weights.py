"""Weights: saved in 16 bits, loaded with a checksum, refused when cut off or of another architecture."""

import hashlib

import numpy as np
import pytest

from data.errors import DataError
from models import weights

keras = pytest.importorskip("keras")


def network(inputs: int = 4, units: tuple[int, ...] = (3, 2)):
    layers = [keras.Input((inputs,)), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5, seed=1)]
    return keras.Sequential([*layers, *(keras.layers.Dense(unit) for unit in units)])


@pytest.fixture
def saved(tmp_path):
    """A trained network (its optimizer has a state) and the file with its weights."""
    model = network()
    model.compile("adam", "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)
    path = tmp_path / "net.weights.h5"
    weights.save_weights_float16(model, path)
    return model, path


def test_weights_survive_the_round_trip(saved):
    model, path = saved
    other = network()
    weights.load_weights(other, path)
    for before, after in zip(model.get_weights(), other.get_weights()):
        assert after.dtype == before.dtype
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-6)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_16_bits_halve_the_file(tmp_path):
    model = network(400, (300,))
    weights.save_weights_float16(model, tmp_path / "half.weights.h5")
    assert (tmp_path / "half.weights.h5").stat().st_size < 1.2 * 2 * model.count_params()


def test_fewer_bits_make_the_file_smaller_and_round_no_further(tmp_path):
    model, sizes = network(400, (300,)), []
    for bits, error in ((11, 2**-11), (8, 2**-8)):
        file = tmp_path / f"{bits}.weights.h5"
        weights.save_weights_float16(model, file, bits)
        sizes.append(file.stat().st_size)
        other = network(400, (300,))
        weights.load_weights(other, file)
        for weight, now in zip(model.get_weights(), other.get_weights()):
            np.testing.assert_allclose(now, weight, rtol=1.01 * error, atol=1e-7)
    assert sizes[1] < 0.9 * sizes[0]


def test_8_bits_quarter_the_file_and_keep_each_channel_to_its_scale(tmp_path):
    keras.utils.set_random_seed(0)
    model = network(400, (300, 2))
    kernel = model.layers[-2].get_weights()[0] * np.logspace(-4, 1, 300)  # channels of very different size
    kernel[:, 7] = 0
    model.layers[-2].set_weights([kernel, np.linspace(-1, 1, 300)])
    file = tmp_path / "eight.weights.h5"
    weights.save_weights_int8(model, file)
    assert file.stat().st_size < 1.3 * kernel.size
    other = network(400, (300, 2))
    weights.load_weights(other, file)
    now = other.layers[-2].get_weights()[0]
    assert now.dtype == np.float32
    assert (np.abs(now - kernel) <= np.abs(kernel).max(axis=0) / 254 * 1.001).all() and not now[:, 7].any()
    for before, after in zip(model.get_weights(), other.get_weights(), strict=True):
        if before.size < 1000:
            np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-6)
    with pytest.raises(DataError, match="another architecture"):
        weights.load_weights(network(400, (299, 2)), file)
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(DataError, match="cut off"):
        weights.load_weights(other, file)


@pytest.mark.parametrize(
    "other", [network(5), network(4, (3,)), network(4, (3, 2, 2)), network(4, (2, 3))], ids=["wider", "prefix", "longer", "swapped"]
)
def test_weights_of_another_architecture(saved, other):
    before = other.get_weights()
    with pytest.raises(DataError, match="net.weights.h5.*another architecture.*Build"):
        weights.load_weights(other, saved[1])
    for weight, now in zip(before, other.get_weights()):
        np.testing.assert_array_equal(weight, now)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_file_cut_off(saved, share):
    model, path = saved
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match="net.weights.h5.*cut off"):
        weights.load_weights(model, path)


def test_missing_file(saved, tmp_path):
    with pytest.raises(DataError, match="none.weights.h5.*missing"):
        weights.load_weights(saved[0], tmp_path / "none.weights.h5")


def test_shipped_weights_need_their_checksum(saved, monkeypatch):
    model, path = saved
    monkeypatch.setattr(weights, "MODELS", path.parent)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "checksums.txt").write_text(f"{digest}  {path.name}\n")
    weights.load_weights(model, path.name)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="altered"):
        weights.load_weights(model, path.name)
    (path.parent / "checksums.txt").write_text("")
    with pytest.raises(DataError, match="not listed"):
        weights.load_weights(model, path.name)


def test_weights_that_16_bits_cannot_hold(tmp_path):
    model = network()
    model.set_weights([np.full_like(weight, 1e6) for weight in model.get_weights()])
    with pytest.raises(DataError, match="16 bits"):
        weights.save_weights_float16(model, tmp_path / "big.weights.h5")
    assert not (tmp_path / "big.weights.h5").exists()


def test_every_shipped_file_is_listed_and_whole():
    lines = [line.split() for line in (weights.MODELS / "checksums.txt").read_text().splitlines() if line.strip()]
    assert {name for _, name in lines} == {file.name for file in weights.MODELS.glob("*.weights.h5")}
    for digest, name in lines:
        assert hashlib.sha256((weights.MODELS / name).read_bytes()).hexdigest() == digest
