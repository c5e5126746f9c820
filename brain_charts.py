"""Charts of notebook 03: the shape of the network, intensities, losses, learning, volumes. The lessons call them by `util`."""

import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from data.decathlon import LABELS


def draw_unet(filters: tuple[int, ...], side: int = 64) -> plt.Figure:
    """The shape of the 3D U-Net: a block for each level, as high as the volume and as wide as it has channels (log scales).

    Parameters
    ----------
    filters : tuple of int
        Channels of each level, from the finest, which has half the resolution of the scan, to the coarsest.
    side : int
        Side of the patch in voxels.
    """
    fig, axis = plt.subplots(figsize=(9, 3.6))
    channels = [4, *filters]  # level 0 is the patch itself, with its four sequences
    levels = list(range(len(channels)))
    place, down = 0.0, {}
    for step, level in enumerate(levels + levels[-2::-1]):
        height, width = 2.2 * math.log2(side / 2**level) - 4, 0.28 * math.log2(channels[level])
        bottom = -2.0 * level - height / 2
        colour = "#999999" if level == 0 else "#0072B2"
        axis.add_patch(plt.Rectangle((place, bottom), width, height, color=colour, alpha=0.35 + 0.12 * level))
        axis.text(place + width / 2, bottom - 0.25, f"{side >> level}³ × {channels[level]}", ha="center", va="top", fontsize=9)
        if step < len(channels):
            down[level] = place + width
        elif level:
            axis.annotate(
                "",
                (place - 0.1, -2.0 * level + height / 3),
                (down[level] + 0.1, -2.0 * level + height / 3),
                arrowprops={"arrowstyle": "->", "color": "#D55E00", "linestyle": "--"},
            )
        place += width + 0.75
    axis.set(xlim=(-0.9, place + 0.3), ylim=(-10.3, 5))
    axis.text(-0.15, 0, "4 sequences", rotation=90, ha="right", va="center", fontsize=9)
    axis.text(place - 0.65, 0, "4 probabilities", rotation=90, ha="left", va="center", fontsize=9)
    axis.set_axis_off()
    return fig


def plot_intensities(scans: dict[str, np.ndarray], limits: tuple[float, float] | None, what: str) -> plt.Figure:
    """Histograms of FLAIR and T1gd over the voxels of the brain, a line a patient.

    Parameters
    ----------
    scans : dict of str to numpy.ndarray, shape (x, y, z, 4)
        0 outside the brain.
    limits : tuple of float, optional
        Of the horizontal axis; by default each patient's own, from 0 to nearly the brightest.
    what : str
        What the horizontal axis shows.
    """
    fig, axes = plt.subplots(1, 2, figsize=(8, 2.6))
    for (name, image), style in zip(scans.items(), ("-", "--", "-.", ":") * len(scans)):
        inside = image[image.any(axis=-1)]
        for axis, values in zip(axes, (inside[:, 0], inside[:, 2])):
            span = limits or (0, np.percentile(values, 99.8))
            axis.hist(values, bins=60, range=span, histtype="step", density=True, label=name, linestyle=style)
    for axis, name in zip(axes, ("FLAIR", "T1gd")):
        axis.set(title=f"{name}, voxels of the brain", xlabel=what, ylabel="share of voxels", yticks=[])
    axes[0].legend(fontsize=8)
    return fig


def plot_agreement(volumes: pd.DataFrame) -> plt.Figure:
    """Bland–Altman plot of volumes: difference against mean, a panel a region; patients without the structure are hollow.

    Parameters
    ----------
    volumes : pandas.DataFrame
        Columns "network, ml" and "expert, ml"; the index has the level "structure".
    """
    names = list(dict.fromkeys(volumes.index.get_level_values("structure")))
    fig, axes = plt.subplots(1, len(names), figsize=(9.6, 2.9))
    for axis, name in zip(axes, names):
        part = volumes.xs(name, level="structure")
        difference, there = part["network, ml"] - part["expert, ml"], part["expert, ml"] > 0
        mean = (part["network, ml"] + part["expert, ml"]) / 2
        axis.plot(mean[there], difference[there], "o", label="has it")
        axis.plot(mean[~there], difference[~there], "o", mfc="none", color="#D55E00", ms=9, label="expert drew none")
        middle, spread = difference.mean(), 1.96 * difference.std()
        axis.axhline(0, color="#999999", lw=1)
        axis.axhline(middle, color="#0072B2", lw=1)
        for border in (middle - spread, middle + spread) if len(part) > 1 else ():
            axis.axhline(border, color="#0072B2", lw=1, ls="--")
        axis.set(title=f"{name}, n = {len(part)}", xlabel="mean of both, ml", xlim=(-0.05 * max(mean.max(), 1), None))
    axes[0].set_ylabel("network − expert, ml")
    fig.legend(*axes[-1].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=9)
    return fig


def plot_losses(losses: dict[str, Callable[[np.ndarray, np.ndarray], float]]) -> plt.Figure:
    """How losses of (truth, found), both (x, y, z, classes), change: a small structure is found; voxels are wrong, ever surer.

    The truth has a class of 1,000 voxels and one of 27.
    """
    truth = np.zeros((24, 24, 24, 2), np.float32)
    truth[2:12, 2:12, 2:12, 0] = truth[15:18, 15:18, 15:18, 1] = 1
    good = np.where(truth == 1, 0.9, 0.02).astype(np.float32)
    small, wrong = np.zeros_like(truth, bool), np.zeros_like(truth, bool)
    small[15:18, 15:18, 15:18, 1] = wrong[20:24, :4, :4, 0] = True
    sureness = np.linspace(0.02, 0.999, 60, dtype=np.float32)
    fig, axes = plt.subplots(1, 2, figsize=(8, 2.6))
    titles = ("the small structure is found", "64 false voxels, ever surer")
    for axis, changed, title in zip(axes, (small, wrong), titles):
        for (name, loss), style in zip(losses.items(), ("-", "--")):
            values = np.array([loss(truth, np.where(changed, p, good)) for p in sureness])
            axis.plot(sureness, values / values[0], style, label=name)
        axis.set(title=title, xlabel="p of these voxels", ylabel="loss, start = 1", ylim=(0, None))
    axes[0].legend()
    return fig


def plot_learning(learned: dict[str, tuple[list[float], dict[int, list[float]]]]) -> plt.Figure:
    """Training loss, averaged over ten steps, and validation Dice of each class by step, a line a network.

    Parameters
    ----------
    learned : dict of str to (losses, dice)
        Name of a network to the loss of each step, and to the Dice of each class by step.
    """
    fig, axes = plt.subplots(1, 4, figsize=(9.6, 2.6))
    for (name, (losses, dice)), style in zip(learned.items(), ("o-", "s--")):
        ten = min(10, len(losses))
        smooth = np.convolve(losses, np.ones(ten) / ten, "valid")
        axes[0].plot(np.arange(len(smooth)) + ten, smooth, style[1:], label=name)
        for axis, values in zip(axes[1:], zip(*dice.values())):
            axis.plot(list(dice), values, style, ms=4)
    axes[0].set(title="training loss", xlabel="step", ylim=(0, None))
    axes[0].legend(fontsize=8)
    for axis, name in zip(axes[1:], LABELS[1:]):
        axis.set(title=name, xlabel="step", ylim=(0, 1))
    axes[1].set_ylabel("validation Dice")
    return fig
