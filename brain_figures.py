"""Figures of brain scans for notebook 03: slices, masks, planes, an animation. The lessons call them by `util`."""

import io
import math

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import PIL.ImageDraw
from IPython.display import Image
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.patches import Patch
from scipy import ndimage

from data.decathlon import brain_box

BRAIN_CLASSES = ("edema", "non-enhancing tumour", "enhancing tumour")
BRAIN_REGIONS = ("whole tumour (WT)", "tumour core (TC)", "enhancing tumour (ET)")
CLASS_COLOURS = ("#F0E442", "#0072B2", "#D55E00")  # of the three classes; the colour-blind can tell them apart too


def largest_slice(mask: np.ndarray) -> tuple[int, int, int]:
    """Voxel at which to cut a mask: the sagittal, coronal and axial slice that hold most of it; the middle if empty."""
    if not mask.any():
        return tuple(size // 2 for size in mask.shape)
    return tuple(int(mask.sum(axis=tuple({0, 1, 2} - {axis})).argmax()) for axis in range(3))


def paint_slice(
    axis: plt.Axes,
    volume: np.ndarray,
    label: np.ndarray | None = None,
    plane: str = "axial",
    at: int | None = None,
    *,
    colours: tuple[str, ...] = CLASS_COLOURS,
    letters: bool = True,
) -> None:
    """Draw one slice as radiologists look at it: from the patient's feet, front or side, the patient's right on the left.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    volume : numpy.ndarray, shape (x, y, z)
        Axes to the right, the front and the top.
    label : numpy.ndarray of int, shape (x, y, z), optional
        Painted on top where it is not 0.
    plane : str
        "axial", "coronal" or "sagittal".
    at : int, optional
        Index of the slice; by default the middle.
    colours : tuple of str
        Of the labels 1, 2, …
    letters : bool
        Whether to write at the edges which side is which (R right, L left, A front, P back).
    """
    number = ("sagittal", "coronal", "axial").index(plane)
    at = volume.shape[number] // 2 if at is None else at
    positive = volume[volume > 0] if volume.min() >= 0 else volume[volume != 0]
    dark, white = (0, np.percentile(positive, 99.7)) if volume.min() >= 0 else np.percentile(positive, [1, 99.7])
    shown = np.take(volume, at, number).T
    greys = plt.get_cmap("gray", 40)  # more than the eye needs would only make the notebook larger
    axis.imshow(shown, origin="lower", vmin=dark, vmax=white, cmap=greys, interpolation="bilinear", interpolation_stage="data")
    if label is not None:
        painted = np.ma.masked_equal(np.take(label, at, number).T, 0)
        colour_map = ListedColormap(colours)
        axis.imshow(painted, cmap=colour_map, vmin=1, vmax=len(colours), alpha=0.6, origin="lower", interpolation="nearest")
    axis.invert_xaxis()
    if letters:
        for place, letter, side in zip((0.02, 0.98), "AP" if plane == "sagittal" else "RL", ("left", "right")):
            axis.text(place, 0.5, letter, color="#dddddd", fontsize=8, transform=axis.transAxes, ha=side, va="center")
    axis.set_axis_off()


def colour_legend(fig: plt.Figure, names: tuple[str, ...] = BRAIN_CLASSES, colours: tuple[str, ...] = CLASS_COLOURS) -> None:
    """Say above a figure what the painted colours mean."""
    patches = [Patch(color=colour, label=name) for name, colour in zip(names, colours)]
    fig.legend(handles=patches, loc="outside upper right", ncols=len(names), fontsize=9)


def label_colours() -> ListedColormap:
    """Colour map of the labels 1 to 3, for pictures that others draw, such as nilearn."""
    return ListedColormap(CLASS_COLOURS)


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


def show_planes(
    volumes: dict[str, np.ndarray], label: np.ndarray | None = None, at: tuple[int, int, int] | None = None
) -> plt.Figure:
    """Axial, coronal and sagittal slice of each volume, one row per volume, with the label on top where there is one.

    Parameters
    ----------
    volumes : dict of str to numpy.ndarray, shape (x, y, z)
        Title to volume, axes to the right, the front and the top; zero outside the brain.
    label : numpy.ndarray of int, shape (x, y, z), optional
    at : tuple of int, optional
        Voxel through which to cut; by default where the label (or the brain) is largest.

    Returns
    -------
    matplotlib.figure.Figure
    """
    first = next(iter(volumes.values()))
    box = brain_box(first[..., None], margin=2)
    at = at or largest_slice((first if label is None else label) > 0)
    at = [place - part.start for place, part in zip(at, box)]
    fig, axes = plt.subplots(len(volumes), 3, figsize=(8.6, 3.1 * len(volumes)), squeeze=False)
    for row, (name, volume) in zip(axes, volumes.items()):
        for axis, plane, cut in zip(row, ("axial", "coronal", "sagittal"), at[::-1]):
            paint_slice(axis, volume[box], None if label is None else label[box], plane, cut)
            axis.set_title(f"{name}, {plane}" if plane == "axial" else plane)
    if label is not None:
        colour_legend(fig)
    return fig


def animate_slices(
    volume: np.ndarray, label: np.ndarray | None, source: str, *, frames: int = 20, scale: float = 1.6, greys: int = 28
) -> Image:
    """An animation of the axial slices from bottom to top, without the label on the left and with it on the right.

    Parameters
    ----------
    volume : numpy.ndarray, shape (x, y, z)
        Zero outside the brain.
    label : numpy.ndarray of int, shape (x, y, z)
    source : str
        Written into every frame.
    frames : int
        Number of slices, equally spaced over the brain.
    scale : float
        Pixels of the page per voxel.
    greys : int
        Shades of grey (at most 64); fewer make a smaller notebook.

    Returns
    -------
    IPython.display.Image
        An animated PNG, which browsers, Jupyter and GitHub play.
    """
    box = brain_box(volume[..., None], margin=2)
    volume, label = volume[box].astype(np.float32), label[box]
    white = np.percentile(volume[volume > 0], 99.5)
    shade = (np.clip(ndimage.gaussian_filter(volume, (0.7, 0.7, 0)) / white, 0, 1) * (greys - 1)).astype(np.uint8)
    ramp = np.linspace(0, 255, greys)[:, None] * np.ones(3)
    tints = [ramp, *(0.45 * ramp + 0.55 * 255 * np.array(to_rgb(colour)) for colour in CLASS_COLOURS)]
    palette = np.concatenate(tints).round().astype(np.uint8)  # every grey plain, then tinted by each class
    pictures = []
    for at in np.linspace(0, volume.shape[2] - 1, frames + 4)[2:-2].round().astype(int):
        plain, painted = shade[:, :, at], shade[:, :, at] + greys * label[:, :, at]
        indices = np.concatenate([side[::-1, ::-1].T for side in (plain, painted)], axis=1)  # patient's right on the left
        picture = PIL.Image.fromarray(indices).convert("P")
        picture.putpalette(palette.tobytes())
        draw = PIL.ImageDraw.Draw(picture)
        draw.text((3, 2), f"slice {at + box[2].start}", fill=greys - 1)
        draw.text((3, indices.shape[0] - 12), source, fill=greys - 1)
        pictures.append(picture)
    file = io.BytesIO()
    pictures[0].save(file, "PNG", save_all=True, append_images=pictures[1:], duration=160, loop=0, optimize=True)
    return Image(file.getvalue(), format="png", width=round(scale * pictures[0].width))
