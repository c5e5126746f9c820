"""The course's two networks in PyTorch: the layers as published, with the weights of the Keras models."""

import numpy as np
import torch
from torch import nn


class DenseNet121(nn.Module):
    """`models.chest.network.densenet121`: DenseNet121 (Huang et al., CVPR 2017) with one sigmoid a finding.

    Takes (batch, 1, size, size) and gives (batch, classes) logits.
    """

    def __init__(self, classes: int = 14):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), _norm(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
        channels, blocks = 64, []
        for layers in (6, 12, 24, 16):
            block = nn.ModuleList(_DenseLayer(channels + 32 * number) for number in range(layers))
            channels += 32 * layers
            last = layers == 16
            down = [] if last else [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            blocks.append(nn.ModuleDict({"dense": block, "down": nn.Sequential(_norm(channels), nn.ReLU(inplace=True), *down)}))
            channels = channels if last else channels // 2
        self.blocks = nn.ModuleList(blocks)
        self.logits = nn.Linear(channels, classes)

    def forward(self, film: torch.Tensor) -> torch.Tensor:
        x = self.stem(torch.cat([film, film, film], 1))
        for block in self.blocks:
            for layer in block["dense"]:
                x = torch.cat([x, layer(x)], 1)
            x = block["down"](x)
        return self.logits(x.mean((2, 3)))


class _DenseLayer(nn.Sequential):
    """32 more channels."""

    def __init__(self, channels: int):
        super().__init__(
            _norm(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, 128, 1, bias=False),
            _norm(128),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, 32, 3, padding=1, bias=False),
        )


def _norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with Keras' numbers; PyTorch's momentum is 1 − Keras'."""
    return nn.BatchNorm2d(channels, eps=1.001e-5, momentum=0.01)


class UNet3d(nn.Module):
    """`models.brain.network.unet3d`: (batch, channels, x, y, z) to (batch, classes + 1, x, y, z) logits, background first."""

    def __init__(self, channels: int = 4, classes: int = 3, filters: tuple[int, ...] = (16, 32, 64, 128)):
        super().__init__()
        self.fold = nn.Conv3d(channels, filters[0], 2, 2)
        pairs = zip((filters[0], *filters[:-1]), filters)
        self.down = nn.ModuleList(_two_convolutions(before, after) for before, after in pairs)
        self.pool = nn.MaxPool3d(2)
        pairs = zip(filters[:0:-1], filters[-2::-1])
        self.up = nn.ModuleList(
            nn.ModuleList([nn.ConvTranspose3d(coarse, fine, 2, 2), _two_convolutions(2 * fine, fine)]) for coarse, fine in pairs
        )
        self.logits = nn.ConvTranspose3d(filters[0], classes + 1, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, skipped = self.fold(x), []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skipped.append(x)
        for (rise, block), skip in zip(self.up, skipped[-2::-1]):
            x = block(torch.cat([skip, rise(x)], 1))
        return self.logits(x)


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    layers = []
    for channels in (before, after):
        layers += [
            nn.Conv3d(channels, after, 3, padding=1, bias=False),
            nn.InstanceNorm3d(after, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


def copy_weights(network: nn.Module, arrays: list[np.ndarray]) -> None:
    """Give a network the weights of its Keras twin.

    Parameters
    ----------
    network : torch.nn.Module
    arrays : list of numpy.ndarray
        ``model.get_weights()`` of the Keras model, layer by layer: kernel, bias; scale, offset, mean, variance.

    Raises
    ------
    ValueError
        When the networks are not the same.
    """
    arrays = list(arrays)
    for layer in network.modules():
        names = [name for name in ("weight", "bias", "running_mean", "running_var") if getattr(layer, name, None) is not None]
        for name in names:
            target, array = getattr(layer, name), torch.from_numpy(arrays.pop(0))
            if array.ndim > 1:  # Keras: space, then in and out (transposed convolution: out and in); PyTorch: space last
                array = array.permute(*range(array.ndim - 1, array.ndim - 3, -1), *range(array.ndim - 2))
            if array.shape != target.shape:
                raise ValueError(f"{type(layer).__name__}.{name} is {tuple(target.shape)}, Keras' is {tuple(array.shape)}.")
            target.data.copy_(array)
    if arrays:
        raise ValueError(f"{len(arrays)} arrays of the Keras model have no place in {type(network).__name__}.")
