"""The trainers' optimizer computes what Keras's AdamW does, and has its variables."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
from models.adamw import AdamW  # noqa: E402

SCHEDULE = keras.optimizers.schedules.CosineDecay(1e-3, 12, warmup_target=0.05, warmup_steps=3)


def trained(kind, **settings):
    """A model with its optimizer, and the losses of eight steps."""
    keras.utils.clear_session()  # names begin anew
    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5, "tanh"), keras.layers.BatchNormalization(), keras.layers.Dense(2)]
    )
    model.compile(kind(**settings), "mse", jit_compile=False)
    rng = np.random.default_rng(0)
    losses = [model.train_on_batch(rng.normal(size=(16, 6)), rng.normal(size=(16, 2))) for _ in range(8)]
    return model, losses


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 0.05},
        {"learning_rate": SCHEDULE, "weight_decay": 0.3, "clipnorm": 0.5, "use_ema": True, "ema_momentum": 0.7},
        {"learning_rate": 0.05, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.01},
        {"learning_rate": 0.05, "amsgrad": True},
    ],
)
def test_it_is_keras_adamw(settings):
    (ours, our_losses), (theirs, their_losses) = (trained(kind, **settings) for kind in (AdamW, keras.optimizers.AdamW))
    assert np.ptp(their_losses) > 0.01
    np.testing.assert_allclose(our_losses, their_losses, rtol=1e-5)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)
    for mine, other in zip(ours.optimizer.variables, theirs.optimizer.variables, strict=True):
        assert mine.name == other.name
        np.testing.assert_allclose(np.asarray(mine), np.asarray(other), rtol=1e-4, atol=1e-6)


def test_checkpoints_of_keras_adamw_are_its_own(tmp_path):
    file = tmp_path / "checkpoint.weights.h5"
    theirs, _ = trained(keras.optimizers.AdamW, learning_rate=0.05)
    theirs.save_weights(file)
    ours, _ = trained(AdamW, learning_rate=0.01)
    ours.load_weights(file)
    for mine, other in zip(ours.optimizer.variables, theirs.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(other))
