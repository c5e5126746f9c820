"""The course's side of `benchmarks.compare`: the networks as the trainers and the notebooks run them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import inputs
from benchmarks.serve import serve, use_cores


def prepare(name: str, *, cores: int, batch: int, side: int, tile: int, weights: str) -> Callable[[], np.ndarray | None]:
    """A job of `inputs.JOBS`; the network's weights go to the file `weights`, from which its twin takes them.

    The weights of a tile's voxels go to ``tile.npy`` beside it.
    """
    use_cores(cores)
    import keras

    from models.adamw import AdamW
    from models.brain.network import dice_cross_entropy, unet3d
    from models.brain.predict import gaussian_weights, predict_scan
    from models.chest.network import densenet121

    keras.utils.set_random_seed(0)
    what, task = name.split()
    if what == "chest":
        model = densenet121(side, weights=None)
        # as in models/chest/train.py: XLA gains too little on a CPU to pay for minutes of compiling
        compiled = "auto" if keras.config.backend() == "jax" else False
        model.compile(AdamW(1e-3, weight_decay=1e-4), "binary_crossentropy", jit_compile=compiled)
    else:
        model = unet3d()
        model.compile(AdamW(1e-3, weight_decay=1e-4, clipnorm=1.0), dice_cross_entropy)
    arrays = [array for layer in model.layers for array in layer.get_weights()]
    np.savez(weights, **{f"{number:05}": array for number, array in enumerate(arrays)})
    if what == "scan":
        np.save(Path(weights).with_name("tile.npy"), gaussian_weights((tile,) * 3))
        scan = inputs.scan(tile, task == "whole")
        return lambda: predict_scan(model, scan, (tile,) * 3, 0.5)
    x, y = inputs.chest_batch(batch, side) if what == "chest" else inputs.brain_batch(batch, side)
    if task == "predict":
        return lambda: np.asarray(model.predict_on_batch(x))
    return lambda: model.train_on_batch(x, y)


if __name__ == "__main__":
    serve(prepare)
