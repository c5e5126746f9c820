"""The other side of `benchmarks.compare`: the same networks in PyTorch, whole scans by MONAI's sliding window."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference

from benchmarks import inputs
from benchmarks.serve import serve, use_cores
from benchmarks.torch_networks import DenseNet121, UNet3d, copy_weights

FORMATS = {"chest": torch.channels_last, "brain": torch.channels_last_3d, "scan": torch.channels_last_3d}


def dice_cross_entropy(logits: torch.Tensor, y_true: torch.Tensor, epsilon: float = 1e-5) -> torch.Tensor:
    """`models.brain.network.dice_cross_entropy` of logits with the background first."""
    probabilities = torch.softmax(logits, 1)
    y_pred, axes = probabilities[:, 1:], (0, 2, 3, 4)
    dice = (2 * (y_true * y_pred).sum(axes) + epsilon) / ((y_true**2).sum(axes) + (y_pred**2).sum(axes) + epsilon)
    truth = torch.cat([1 - y_true.sum(1, keepdim=True), y_true], 1)
    return 1 - dice.mean() - (truth * probabilities.clip(1e-6, 1).log()).sum(1).mean()


def prepare(
    name: str, *, cores: int, batch: int, side: int, tile: int, weights: str, channels_last: bool
) -> Callable[[], np.ndarray | None]:
    """A job of `inputs.JOBS`, in PyTorch's own memory format or with channels last; weights are read from a file."""
    use_cores(cores)
    torch.set_num_threads(cores)
    what, task = name.split(" ")[:2]
    network = DenseNet121() if what == "chest" else UNet3d()
    with np.load(weights) as arrays:
        copy_weights(network, [arrays[key] for key in sorted(arrays)])
    layout = FORMATS[what] if channels_last else torch.contiguous_format
    network.to(memory_format=layout)

    def tensor(array: np.ndarray) -> torch.Tensor:
        moved = torch.from_numpy(np.moveaxis(array, -1, 1))
        return moved.contiguous(memory_format=layout)

    def probabilities(x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(network(x)) if what == "chest" else torch.softmax(network(x), 1)[:, 1:]

    if task == "train":
        x, y = inputs.chest_batch(batch, side) if what == "chest" else inputs.brain_batch(batch, side)
        x, y = tensor(x), torch.from_numpy(y) if what == "chest" else tensor(y)
        loss_of = torch.nn.BCEWithLogitsLoss() if what == "chest" else dice_cross_entropy
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-4)

        def train() -> None:
            optimizer.zero_grad()
            loss_of(network(x), y).backward()
            if what == "brain":
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

        return train

    network.eval()
    if what == "scan":
        x = tensor(inputs.scan(tile, task == "whole")[None])
        # MONAI's own are not divided by their maximum before the least weight of 0.001 is applied: answers differ by 0.001
        tile_weights = torch.from_numpy(np.load(Path(weights).with_name("tile.npy")))

        def predict() -> torch.Tensor:
            found = sliding_window_inference(x, (tile,) * 3, 1, probabilities, 0.5, "gaussian", roi_weight_map=tile_weights)
            return found[0].movedim(0, -1)

    else:
        x = tensor(inputs.chest_batch(batch, side)[0] if what == "chest" else inputs.brain_batch(batch, side)[0])

        def predict() -> torch.Tensor:
            return probabilities(x) if what == "chest" else probabilities(x).movedim(1, -1)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return predict().numpy()

    return run


if __name__ == "__main__":
    serve(prepare)
