"""Figures of brain scans for notebook 03: slices, masks, planes, errors, an animation. The lessons call them by `util`."""

import io

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import PIL.ImageDraw
from IPython.display import Image
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from scipy import ndimage

from data.decathlon import CHANNELS, CLASS_COLOURS, LABELS, brain_box
from sliders import is_still, play

BRAIN_CLASSES = LABELS[1:]
BRAIN_REGIONS = ("whole tumour (WT)", "tumour core (TC)", "enhancing tumour (ET)")
ERRORS = ("missed", "false alarm", "wrong class")  # painted, outlined, hatched: told apart without any colour
CASING = [withStroke(linewidth=3, foreground="black")]  # a white line is seen on every grey


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
        enhancing = (painted == BRAIN_CLASSES.index("enhancing tumour") + 1).filled(False)
        if enhancing.any():  # to the colour-blind it is edema in a brighter place: a line tells them apart
            axis.contour(enhancing, levels=[0.5], colors="black", linewidths=0.6)
    axis.invert_xaxis()
    if letters:
        for place, letter, side in zip((0.02, 0.98), "AP" if plane == "sagittal" else "RL", ("left", "right")):
            axis.text(place, 0.5, letter, color="#dddddd", fontsize=8, transform=axis.transAxes, ha=side, va="center")
    axis.set_axis_off()


def colour_legend(fig: plt.Figure, names: tuple[str, ...] = BRAIN_CLASSES, colours: tuple[str, ...] = CLASS_COLOURS) -> None:
    """Say above a figure what the painted colours mean."""
    fig.legend(handles=colour_patches(names, colours), loc="outside upper right", ncols=len(names), fontsize=9)


def colour_patches(names: tuple[str, ...] = BRAIN_CLASSES, colours: tuple[str, ...] = CLASS_COLOURS) -> list[Patch]:
    """What stands for each class in a legend; enhancing tumour has a line around it, as in the pictures."""
    edges = ["black" if name == "enhancing tumour" else colour for name, colour in zip(names, colours)]
    return [Patch(facecolor=colour, edgecolor=edge, label=name) for name, colour, edge in zip(names, colours, edges)]


def paint_errors(axis: plt.Axes, volume: np.ndarray, errors: np.ndarray, at: int) -> None:
    """Draw an axial slice with errors by kind: 1 missed (filled), 2 false alarm (outlined), 3 wrong class (hatched).

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    volume, errors : numpy.ndarray, shape (x, y, z)
    at : int
        Index of the slice.
    """
    paint_slice(axis, volume, np.where(errors == 1, 1, 0), at=at, colours=("#56B4E9",))
    alarms, confused = ((errors[:, :, at] == number).T.astype(float) for number in (2, 3))
    if alarms.any():
        axis.contour(alarms, levels=[0.5], colors="white", linewidths=1.2).set_path_effects(CASING)
    if confused.any():
        axis.contourf(confused, levels=[0.5, 1.5], colors="none", hatches=["//////"]).set(edgecolor="#E69F00", linewidth=0)


def error_legend(fig: plt.Figure) -> None:
    """Say above a figure what the colours of the classes and the marks of the errors mean, in two lines."""
    classes = colour_patches()
    marks = [
        Patch(facecolor="#56B4E9", label=ERRORS[0]),
        plt.Line2D([], [], color="white", linewidth=1.2, path_effects=CASING, label=f"{ERRORS[1]} (outline)"),
        Patch(facecolor="#555555", edgecolor="#E69F00", hatch="//////", linewidth=0, label=f"{ERRORS[2]} (hatched)"),
    ]
    both = [patch for pair in zip(classes, marks) for patch in pair]  # columns are filled from top to bottom
    fig.legend(handles=both, loc="outside upper right", ncols=3, fontsize=9)


def show_errors(image: np.ndarray, expert: np.ndarray, found: np.ndarray, errors: np.ndarray, at: int) -> plt.Figure:
    """The tumour's part of an axial slice (x, y, z, 4): FLAIR, T1gd, the expert's mask, the network's, and where they differ."""
    marked = (expert > 0) | (found > 0) | (errors > 0)
    box = (*brain_box(marked[:, :, at : at + 1, None], margin=14)[:2], slice(None))
    fig, axes = plt.subplots(1, 5, figsize=(8.6, 2.7))
    for axis, (name, mask) in zip(axes, {"FLAIR": None, "T1gd": None, "expert": expert, "network": found}.items()):
        paint_slice(axis, image[box][..., CHANNELS.index(name) if mask is None else 0], None if mask is None else mask[box], at=at)
        axis.set_title(name)
    paint_errors(axes[-1], image[box][..., 0], errors[box], at)
    axes[-1].set_title("errors")
    error_legend(fig)
    return fig


def label_colours() -> ListedColormap:
    """Colour map of the labels 1 to 3, for pictures that others draw, such as nilearn."""
    return ListedColormap(CLASS_COLOURS)


def show_sequences(image: np.ndarray, label: np.ndarray, at: int, name: str, *, letters: bool = True) -> plt.Figure:
    """One axial slice in the four sequences, and with the label on FLAIR.

    Parameters
    ----------
    image : numpy.ndarray, shape (x, y, z, 4)
    label : numpy.ndarray of int, shape (x, y, z)
    at : int
        Index of the slice.
    name : str
        Title of the picture with the label.
    letters : bool
        Whether to write which side is which.
    """
    fig, axes = plt.subplots(1, 5, figsize=(9.4, 2.8) if letters else (7.6, 2.2))
    for axis, title, channel in zip(axes, [*CHANNELS, name], [0, 1, 2, 3, 0]):
        paint_slice(axis, image[..., channel], label if title == name else None, at=at, letters=letters)
        axis.set_title(title)
    colour_legend(fig)
    return fig


def show_axes_of_file(stored: tuple[np.ndarray, np.ndarray], read: tuple[np.ndarray, np.ndarray], codes: str) -> plt.Figure:
    """The same slice drawn twice as if the array's axes ran right, front, top: as a file stores it, and after reading.

    Parameters
    ----------
    stored, read : (image, label), numpy.ndarray, shape (x, y, z)
        One sequence.
    codes : str
        Directions of the file's axes, such as LPS.
    """
    fig, axes = plt.subplots(1, 2, figsize=(4.8, 2.8))
    titles = (f"in the file: {codes}" + ("" if codes == "RAS" else " (wrong letters)"), "after reading: RAS")
    for axis, (volume, label), title in zip(axes, (stored, read), titles):
        box = brain_box(volume[..., None], margin=2)
        paint_slice(axis, volume[box], label[box], at=largest_slice(label > 0)[2] - box[2].start)
        axis.set_title(title, fontsize=10)
    return fig


def show_learning(volume: np.ndarray, expert: np.ndarray, seen: dict[str, dict[int, np.ndarray]]) -> plt.Figure:
    """What networks say about one slice after so many steps, a row each, and the expert's mask.

    Parameters
    ----------
    volume : numpy.ndarray, shape (x, y, z)
    expert : numpy.ndarray of int, shape (x, y, z)
    seen : dict of str to dict of int to numpy.ndarray of int, shape (x, y, z)
        Name of a network to its label maps by step.
    """
    at = largest_slice(expert > 0)[2]
    first, steps = next(iter(seen)), len(next(iter(seen.values())))
    fig, axes = plt.subplots(len(seen), steps + 2, figsize=(9.4, 1.55 * len(seen) + 0.5), squeeze=False)
    for row, (name, masks) in zip(axes, seen.items()):
        for axis, mask, title in zip(row, [None, *masks.values(), expert], ["FLAIR", *(f"step {k}" for k in masks), "expert"]):
            if name == first or title.startswith("step"):  # what goes in and what is wanted: once is enough
                paint_slice(axis, volume, mask, at=at, letters=False)
                axis.set_title(title, fontsize=10)
            axis.set_axis_off()
        row[0].text(-0.08, 0.5, name, rotation=90, transform=row[0].transAxes, ha="right", va="center")
    colour_legend(fig)
    return fig


def show_toys(toys: dict[str, tuple[np.ndarray, np.ndarray]]) -> plt.Figure:
    """The middle slice of pairs (prediction, truth) of masks (x, y, z): the truth filled, the prediction as a line."""
    fig, axes = plt.subplots(1, len(toys), figsize=(10.5, 2.1))
    for axis, (name, (found, truth)) in zip(axes, toys.items()):
        middle = truth.shape[2] // 2
        axis.imshow(np.where(truth[:, :, middle].T, 0.72, 1), vmin=0, vmax=1, origin="lower")
        axis.contour(found[:, :, middle].T.astype(float), levels=[0.5], colors="#D55E00", linewidths=1.6)
        axis.set_title(name, fontsize=10)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(True)
    handles = [Patch(color="#b8b8b8", label="truth"), plt.Line2D([], [], color="#D55E00", label="prediction")]
    fig.legend(handles=handles, loc="outside upper right", ncols=2, fontsize=9)
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


def show_masks(volume: np.ndarray, masks: dict[str, np.ndarray], at: int) -> plt.Figure:
    """One axial slice of a scan (x, y, z) without a mask and under several, by their names."""
    fig, axes = plt.subplots(1, len(masks) + 1, figsize=(2.2 * (len(masks) + 1), 2.9))
    for axis, (name, mask) in zip(axes, ({"FLAIR": None} | masks).items()):
        paint_slice(axis, volume, mask, at=at)
        axis.set_title(name)
    colour_legend(fig)
    return fig


def animate_slices(
    volume: np.ndarray, label: np.ndarray | None, source: str, *, frames: int = 12, scale: float = 1.6, greys: int = 20
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


def scroll_slices(image: np.ndarray, label: np.ndarray, source: str) -> Image | None:
    """Scroll through a scan in Jupyter, with a choice of sequence and classes; elsewhere the film of `animate_slices`.

    Parameters
    ----------
    image : numpy.ndarray, shape (x, y, z, 4)
    label : numpy.ndarray of int, shape (x, y, z)
    source : str
    """
    if is_still():
        return animate_slices(image[..., 0], label, source)
    box = brain_box(image, margin=2)
    image, label = image[box], label[box]
    bottom = box[2].start  # slices are numbered as in the scan
    start, top = bottom + largest_slice(label > 0)[2], bottom + image.shape[2] - 1

    def draw(slice=start, sequence="FLAIR", edema=True, non_enhancing=True, enhancing=True):
        fig, axes = plt.subplots(1, 2, figsize=(8.6, 4.6))
        shown = np.where(np.isin(label, np.flatnonzero([False, edema, non_enhancing, enhancing])), label, 0)
        for axis, mask in zip(axes, (None, shown)):
            paint_slice(axis, image[..., CHANNELS.index(sequence)], mask, at=slice - bottom)
        axes[0].set_title(f"{sequence}, slice {slice}")
        colour_legend(fig)
        fig.supxlabel(source, x=0.995, ha="right", fontsize=8, color="#666666", style="italic")
        plt.show()

    play(draw, slice=(bottom, top), sequence=list(CHANNELS), edema=bool, non_enhancing=bool, enhancing=bool)
    return None
