"""Helpers that the three notebooks share: figures, chest X-rays, evaluation, brain scans.

The lessons import this file; it imports only `data`. What is taught is written in the notebooks themselves, what is only
needed is here.
"""

import html
import io
import math

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import PIL.ImageDraw
from IPython import get_ipython
from IPython.display import Image, display
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.patches import Patch
from matplotlib_inline.backend_inline import set_matplotlib_formats
from scipy import ndimage
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from data.decathlon import brain_box
from data.nih import FINDINGS
from data.progress import progress_bar as progress  # noqa: F401  the lessons call it util.progress
from models.metrics import (  # noqa: F401  the lessons call them util.…
    auroc,
    auroc_intervals,
    bootstrap_auroc,
    bootstrap_metric,
    clip_probabilities,
    fit_temperature,
    hausdorff95,
    percentile_interval,
    resample_patients,
    volume_ml,
)

# ---------------------------------------------------------------------------------------------------------------------
# FIGURES AND TABLES
# ---------------------------------------------------------------------------------------------------------------------

HEADLINE_MIME = "application/vnd.course.headline+json"


def use_course_style() -> None:
    """Set the look of all figures: quiet axes, readable type, a colour-blind-safe palette (Okabe and Ito, 2008)."""
    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
    plt.rcParams.update(
        {
            "figure.dpi": 80,
            "savefig.dpi": 80,
            "figure.figsize": (8, 4),
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.prop_cycle": plt.cycler(color=colours),
            "legend.frameon": False,
            "image.cmap": "gray",
        }
    )
    if get_ipython():
        set_matplotlib_formats("retina")  # two pixels a point: sharp on today's screens, and the same size on the page


def readable(name: object) -> str:
    """A finding as it is written in text: ``Pleural_Thickening`` of the archive's tables becomes Pleural Thickening."""
    text = str(name)
    for finding in FINDINGS:
        text = text.replace(finding, finding.replace("_", " "))
    return text


def sign_figure(fig: plt.Figure, source: str) -> None:
    """Write where the data of a figure are from ("simulated", "real patients: …") into its lower right corner."""
    fig.supxlabel(source, x=0.995, ha="right", fontsize=8, color="#666666", style="italic")
    plt.show()


def show_table(frame: pd.DataFrame, caption: str, source: str, precision: int = 3, *, small: bool = False) -> None:
    """Show a table with its caption, the source of its data and numbers of equal precision; what is not defined is a dash.

    The table needs no style sheet of its own, since GitHub strips it; colours are those of the reader's theme.

    Parameters
    ----------
    frame : DataFrame
    caption, source : str
        The source goes in brackets behind the caption.
    precision : int
        Decimals of floats.
    small : bool
        Small type, for a table of many columns.
    """

    def text(value: object) -> str:
        if isinstance(value, str):
            return readable(value)
        if pd.api.types.is_scalar(value) and pd.isna(value):
            return "–"
        return f"{value:.{precision}f}" if isinstance(value, float | np.floating) else str(value)

    styler = frame.style.format(lambda value: html.escape(text(value))).set_caption(html.escape(f"{caption} ({source})"))
    for axis in ("index", "columns"):
        styler = styler.format_index(lambda value: html.escape(text(value)), axis=axis)
    table = styler.to_html(exclude_styles=True)
    for plain, dressed in [
        ("<table>", '<table style="font-size: 11px">' if small else "<table>"),
        ("<caption>", '<caption align="left" style="caption-side: top; text-align: left"><i>'),
        ("</caption>", "</i></caption>"),
    ]:
        table = table.replace(plain, dressed, 1)
    display({"text/html": table, "text/plain": f"{caption} ({source})\n{frame.astype(object).map(text).to_string()}"}, raw=True)


def headline(numbers: dict[str, float], source: str) -> None:
    """Print the numbers that a notebook comes down to and leave them where the course's tools find them.

    Parameters
    ----------
    numbers : dict of str to float
        Name, as a reader should see it, to value.
    source : str
        Where the data are from.
    """
    numbers = {name: float(value) for name, value in numbers.items()}
    text = "\n".join(f"{name}: {value:.3f}" for name, value in numbers.items()) + f"\n({source})"
    display({"text/plain": text, HEADLINE_MIME: {"source": source, "numbers": numbers}}, raw=True)


# ---------------------------------------------------------------------------------------------------------------------
# CHEST X-RAYS (notebook 01)
# ---------------------------------------------------------------------------------------------------------------------


def show_films(films, titles, source: str, *, columns: int = 5, boxes=None, heat_maps=None, width: float = 10.5) -> None:
    """Show X-rays in a grid, with findings' boxes and heat maps on them where there are any.

    Parameters
    ----------
    films : sequence of ndarray of uint8, (height, width)
    titles : sequence of str
    source : str
        Where the X-rays are from.
    columns : int
    boxes : sequence of DataFrame, optional
        One per X-ray: rows with ``x, y, w, h`` as fractions of the image.
    heat_maps : sequence of ndarray (height, width) in [0, 1], optional
        Drawn transparent where they are low.
    width : float
        Width of the figure in inches.
    """
    rows = -(-len(films) // columns)
    side = width / columns
    fig, axes = plt.subplots(rows, columns, figsize=(width, rows * (side + 0.25)), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for number, (ax, film, title) in enumerate(zip(axes.flat, films, titles)):
        whole = (0, 1, 1, 0)  # left, right, bottom, top: X-rays and heat maps of any size lie on each other
        ax.imshow(film, cmap="gray", vmin=0, vmax=255, extent=whole)
        if heat_maps is not None:
            heat = heat_maps[number]
            ax.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.6 * heat, extent=whole)
        if boxes is not None:
            for box in boxes[number].itertuples():
                ax.add_patch(plt.Rectangle((box.x, box.y), box.w, box.h, fill=False, color="#56B4E9", lw=1.6))
        ax.set_title(title, fontsize=9)
    sign_figure(fig, source)


def points_into_box(heat_map: np.ndarray, boxes: pd.DataFrame) -> bool:
    """Whether the highest point of a heat map lies in one of the boxes: the pointing game (Zhang et al., IJCV 2018).

    Parameters
    ----------
    heat_map : ndarray, (height, width)
    boxes : DataFrame
        ``x, y, w, h`` as fractions of the image.
    """
    height, width = heat_map.shape
    row, column = np.unravel_index(np.argmax(heat_map), heat_map.shape)
    x, y = (column + 0.5) / width, (row + 0.5) / height
    inside = boxes["x"].le(x) & boxes["y"].le(y) & (boxes["x"] + boxes["w"]).ge(x) & (boxes["y"] + boxes["h"]).ge(y)
    return bool(inside.any() and heat_map.max() > 0)


def stamp_marker(films: np.ndarray, letter: str = "E") -> np.ndarray:
    """X-rays with a bright lead letter in the upper left corner, as a department marks all of its images.

    Parameters
    ----------
    films : ndarray of uint8, (films, height, width)
    letter : str

    Returns
    -------
    ndarray of uint8
        A copy.
    """
    films = films.copy()
    size = films.shape[1]
    for film in films:
        corner = (int(0.05 * size), int(0.17 * size))
        cv2.putText(film, letter, corner, cv2.FONT_HERSHEY_SIMPLEX, size / 220, 255, max(1, size // 64), cv2.LINE_AA)
    return films


# ---------------------------------------------------------------------------------------------------------------------
# EVALUATION (notebook 02)
# ---------------------------------------------------------------------------------------------------------------------

# Which of (y, pred, threshold) each column of the performance table is a function of, in the order of the columns.
METRIC_ARGUMENTS = {
    "TP": 3,
    "TN": 3,
    "FP": 3,
    "FN": 3,
    "Accuracy": 3,
    "Prevalence": 1,
    "Sensitivity": 3,
    "Specificity": 3,
    "PPV": 3,
    "NPV": 3,
    "AUC": 2,
    "F1": 3,
}


def performance_table(y, pred, findings, metrics=None, thresholds=None) -> pd.DataFrame:
    """Table of the performance of a model: one row per finding, one column per metric.

    Parameters
    ----------
    y : array of 0/1, shape (n, findings)
        Labels.
    pred : array of float, shape (n, findings)
        Predicted probabilities.
    findings : sequence of str
    metrics : dict of str to callable, optional
        The metrics that are written already, by the names in `METRIC_ARGUMENTS`. A name that is missing, and a
        function that raises `NotImplementedError`, gives nan (shown as –).
    thresholds : float or array of shape (findings,), optional
        From which probability on an X-ray is called positive. None computes with 0.5 and leaves the column empty; where it
        is nan (none could be chosen), so is all that depends on it.

    Returns
    -------
    DataFrame
        Index `findings`; columns the twelve metrics and the threshold.
    """
    metrics = metrics or {}
    unknown = sorted(set(metrics) - set(METRIC_ARGUMENTS))
    if unknown:
        raise ValueError(f"The performance table has no column {', '.join(unknown)}; it has {', '.join(METRIC_ARGUMENTS)}.")
    y, pred = np.asarray(y), np.asarray(pred)
    cuts = np.broadcast_to(0.5 if thresholds is None else thresholds, len(findings))
    table = pd.DataFrame(np.nan, index=pd.Index(findings), columns=[*METRIC_ARGUMENTS, "Threshold"], dtype=object)
    for column, finding in enumerate(findings):
        for name, metric in metrics.items():
            arguments = (y[:, column], pred[:, column], cuts[column])[: METRIC_ARGUMENTS[name]]
            try:
                value = metric(*arguments) if len(arguments) < 3 or np.isfinite(cuts[column]) else np.nan
            except NotImplementedError:
                continue
            table.loc[finding, name] = int(value) if name in ("TP", "TN", "FP", "FN") and np.isfinite(value) else float(value)
        if thresholds is not None:
            table.loc[finding, "Threshold"] = float(cuts[column])
    return table


def show_performance_table(table: pd.DataFrame, caption: str, source: str) -> None:
    """Show a table of `performance_table`: thirteen columns in small type."""
    show_table(table, caption, source, small=True)


def plot_curve_grid(kind: str, y, pred, findings, points=None) -> plt.Figure:
    """One small ROC or precision–recall curve per finding, five in a row.

    Parameters
    ----------
    kind : {"roc", "pr"}
    y, pred : arrays of shape (n, findings)
    findings : sequence of str
    points : array of shape (findings,), optional
        Thresholds whose place on the curve is marked.
    """
    y, pred = np.asarray(y), np.asarray(pred)
    rows = -(-len(findings) // 5)
    fig, axes = plt.subplots(rows, 5, figsize=(11, 2.3 * rows), sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat[len(findings) :]:
        ax.axis("off")
    for k, (ax, finding) in enumerate(zip(axes.flat, findings, strict=False)):
        truth, score = y[:, k], pred[:, k]
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        if not 0 < truth.sum() < truth.size:
            ax.set_title(f"{readable(finding)}\none class only", fontsize=9)
            continue
        if kind == "roc":
            x, height, cuts = roc_curve(truth, score)
            ax.plot([0, 1], [0, 1], ":", color="#999999", lw=1)
            value = f"AUROC {auroc(truth, score):.2f}"
        else:
            height, x, cuts = precision_recall_curve(truth, score)
            ax.axhline(truth.mean(), ls=":", color="#999999", lw=1)
            value = f"AP {average_precision_score(truth, score):.2f}"
        ax.plot(x, height, color="C0", lw=1.5, drawstyle="default" if kind == "roc" else "steps-post")
        ax.set_title(f"{readable(finding)}\n{value}", fontsize=9)
        if points is not None and np.isfinite(points[k]):
            # scikit-learn lists ROC thresholds downwards, precision–recall thresholds upwards
            at = np.flatnonzero(cuts >= points[k])[-1] if kind == "roc" else np.searchsorted(cuts, points[k])
            ax.plot(x[at], height[at], "o", color="C1", ms=5)
    fig.supylabel("sensitivity" if kind == "roc" else "precision (PPV)", fontsize=10)
    for ax in axes[-1]:
        ax.set_xlabel("1 − specificity" if kind == "roc" else "recall (sensitivity)", fontsize=9)
    return fig


def plot_reliability(axes, y, pred, label: str = "", colour: str = "C0", n_bins: int = 10) -> None:
    """Draw a reliability diagram: observed frequency against mean prediction per bin (above), X-rays per bin (below).

    Parameters
    ----------
    axes : pair of Axes
        For the curve and for the counts, sharing their x axis.
    y, pred : arrays of shape (n,)
    label, colour, n_bins : str, str, int
        The bins of [0, 1] have equal width.
    """
    curve, bars = axes
    observed, predicted = calibration_curve(y, pred, n_bins=n_bins)
    counts, edges = np.histogram(pred, bins=n_bins, range=(0, 1))
    curve.plot([0, 1], [0, 1], ":", color="#999999", lw=1)
    curve.plot(predicted, observed, "o-", color=colour, ms=4, lw=1.5, label=label)
    curve.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    bars.stairs(counts, edges, fill=True, color=colour, alpha=0.35)
    bars.stairs(counts, edges, color=colour)
    bars.set(yscale="log", ylim=(0.7, 2 * len(np.asarray(pred))))


def plot_intervals(ax, tables: dict[str, pd.DataFrame], value: str = "AUROC") -> None:
    """Draw points with their intervals, one row per index entry; several tables side by side in several colours.

    Parameters
    ----------
    ax : Axes
    tables : dict of str to DataFrame
        Legend label to a table with the columns `value`, low and high; all with the same index.
    value : str
        The column of the points and the name of the x axis.
    """
    index = next(iter(tables.values())).index
    offsets = np.linspace(-0.17, 0.17, len(tables)) if len(tables) > 1 else [0]
    for (label, table), offset, colour in zip(tables.items(), offsets, ["C0", "C1", "C2", "C3"], strict=False):
        places = np.arange(len(index)) + offset
        ax.hlines(places, table["low"], table["high"], color=colour, lw=2)
        ax.plot(table[value], places, "o", color=colour, ms=5, label=label)
    ax.set_yticks(range(len(index)), [readable(name) for name in index])
    ax.set(ylim=(len(index) - 0.5, -0.5), xlabel=value)
    ax.grid(axis="x", color="#eeeeee")
    if len(tables) > 1:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.1), ncols=len(tables))


# ---------------------------------------------------------------------------------------------------------------------
# BRAIN SCANS (notebook 03)
# ---------------------------------------------------------------------------------------------------------------------

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
