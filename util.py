"""Helpers that the three notebooks share: figures, tables, chest X-rays, evaluation.

What is taught is written in the notebooks themselves, what is only needed is here. Figures are in `chest_figures`,
`heat_maps`, `brain_figures`, `brain_charts` and `sliders`, numbers in `models.metrics`; the lessons call all of them by this
module.
"""

import html

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython import get_ipython
from IPython.display import display
from matplotlib_inline.backend_inline import set_matplotlib_formats
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from brain_charts import draw_unet, plot_agreement, plot_intensities, plot_learning, plot_losses  # noqa: F401
from brain_figures import (  # noqa: F401  the lessons call them util.…
    BRAIN_CLASSES,
    BRAIN_REGIONS,
    CLASS_COLOURS,
    ERRORS,
    animate_slices,
    colour_legend,
    label_colours,
    largest_slice,
    paint_slice,
    scroll_slices,
    show_axes_of_file,
    show_errors,
    show_learning,
    show_masks,
    show_planes,
    show_sequences,
    show_toys,
)
from chest_figures import (  # noqa: F401  the lessons call them util.…
    calibration_scores,
    plot_cooccurrence,
    plot_layers,
    plot_loss_shares,
    plot_numbers,
    plot_people,
    plot_prevalence,
    plot_reading,
    plot_reliability_row,
    plot_transfer,
    plot_two_hospitals,
    plot_views,
    stamp_marker,
)
from data.nih import FINDINGS
from data.progress import progress_bar as progress  # noqa: F401  the lessons call it util.progress
from heat_maps import (  # noqa: F401  the lessons call them util.…
    by_cells,
    mean_table,
    plot_pointing,
    plot_rank_agreement,
    pointing_game,
    response_table,
    show_evidence,
    touched_cells,
)
from models.metrics import (  # noqa: F401  the lessons call them util.…
    auroc,
    auroc_intervals,
    bootstrap_auroc,
    bootstrap_metric,
    clip_probabilities,
    fit_temperature,
    hausdorff95,
    lesion_dice,
    percentile_interval,
    resample_patients,
    surface_dice,
    volume_ml,
    youden_threshold,
)
from sliders import mark, play  # noqa: F401  the lessons call them util.…

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
    defined = {name: value for name, value in numbers.items() if np.isfinite(value)}  # JSON knows no nan
    display({"text/plain": text, HEADLINE_MIME: {"source": source, "numbers": defined}}, raw=True)


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


def plot_columns(table: pd.DataFrame, columns: list[str]) -> plt.Figure:
    """Draw columns of the performance table side by side, a dot per finding; what is not defined is left out."""
    fig, axes = plt.subplots(1, len(columns), figsize=(10.5, 3.6), sharey=True)
    for ax, column in zip(axes, columns, strict=True):
        values = pd.to_numeric(table[column], errors="coerce")
        ax.plot(values, range(len(table)), "o", color="C0")
        ax.set(title=column, ylim=(len(table) - 0.5, -0.5))
        ax.grid(axis="y", color="#eeeeee")
        ax.set_axisbelow(True)
    axes[0].set_yticks(range(len(table)), [readable(name) for name in table.index], fontsize=9)
    return fig


def plot_thousand(sensitivity: float, specificity: float, prevalence: float, y, pred) -> plt.Figure:
    """What 1,000 people meet (left, a square each) and where the test lies on the ROC curve of `y` and `pred` (right)."""
    if np.isnan([sensitivity, specificity]).any():
        fig, ax = plt.subplots(figsize=(9.5, 0.8))
        ax.text(0, 0.5, "Nobody here has the finding, or everybody: its sensitivity or specificity is unknown.", va="center")
        ax.axis("off")
        return fig
    ill = round(1000 * prevalence)
    found, alarms = round(ill * sensitivity), round((1000 - ill) * (1 - specificity))
    counts = {"ill, alarm": found, "ill, missed": ill - found, "healthy, false alarm": alarms}
    counts["healthy, left in peace"] = 1000 - sum(counts.values())
    fig, (people, curve) = plt.subplots(1, 2, figsize=(9.5, 3.9), width_ratios=[1.6, 1])
    start = 0
    for (name, count), colour in zip(counts.items(), ["C0", "black", "C1", "#d9d9d9"], strict=True):
        place = np.arange(start, start + count)
        people.plot(place // 25, -(place % 25), "s", color=colour, ms=4, label=f"{name}: {count}")
        start += count
    people.set(xticks=[], yticks=[], xlim=(-1, 40), ylim=(-25, 1))
    people.spines[["left", "bottom"]].set_visible(False)
    worth = f"PPV {found / (found + alarms):.0%}" if found + alarms else "PPV undefined"
    people.set_title(f"{found + alarms} alarms: {worth}")
    people.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, fontsize=9, markerscale=1.5)
    false_alarms, hits, _ = roc_curve(y, pred)
    curve.plot(false_alarms, hits, color="#555555")
    curve.plot(1 - specificity, sensitivity, "o", color="C1", ms=9)
    curve.plot([0, 1], [0, 1], ":", color="#999999")
    curve.set(xlabel="1 − specificity", ylabel="sensitivity", aspect="equal")
    curve.set_title(f"sensitivity {sensitivity:.2f}, specificity {specificity:.2f}")
    return fig


def plot_coverage(trials: dict[str, tuple], shown: int = 100) -> plt.Figure:
    """Draw stacked intervals of the first `shown` studies; those that miss the truth in red, with a cross.

    `trials` maps a title to intervals (2, studies), whether each holds the truth (studies,), and the truth.
    """
    fig, axes = plt.subplots(1, len(trials), figsize=(10.5, 4.2), sharey=True)
    for ax, (name, (interval, hit, truth)) in zip(axes, trials.items(), strict=True):
        low, high, hit = interval[0, :shown], interval[1, :shown], hit[:shown]
        places = np.arange(len(hit))
        ax.hlines(places, low, high, color=np.where(hit, "#9ab8cc", "#C00000"), lw=np.where(hit, 1.2, 2))
        ax.plot(high[~hit] + 0.01, places[~hit], "x", color="#C00000", ms=4)
        ax.axvline(truth, color="black", ls=":")
        ax.set(title=f"{name}\n{(~hit).sum()} of {len(hit)} miss", xlabel="AUROC", yticks=[], ylim=(-1, len(hit)))
        ax.title.set_fontsize(10)
    return fig
