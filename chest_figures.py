"""Figures of chest X-rays for notebook 01. The lessons call them by `util`."""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import ConnectionPatch
from sklearn.metrics import roc_curve

from data.nih import FINDINGS
from models.metrics import binned_calibration_error, wilson_interval

NAMES = [finding.replace("_", " ") for finding in FINDINGS]


def plot_numbers(film: np.ndarray, row: int, column: int, side: int = 12) -> plt.Figure:
    """An X-ray (left) and a square of it, enlarged, with the grey level of each pixel (right).

    Parameters
    ----------
    film : ndarray of uint8, (height, width)
    row, column : int
        Upper left corner of the square.
    side : int
        Pixels of the square.
    """
    fig, (whole, part) = plt.subplots(1, 2, figsize=(9.5, 4.4), width_ratios=[1, 1.1])
    whole.imshow(film, vmin=0, vmax=255)
    corner = (column - 0.5, row - 0.5)
    whole.add_patch(plt.Rectangle(corner, side, side, fill=False, color="#E69F00", lw=1.6))
    square = film[row : row + side, column : column + side]
    part.imshow(square, vmin=0, vmax=255)
    for (i, j), grey in np.ndenumerate(square):
        part.text(j, i, int(grey), ha="center", va="center", fontsize=8, color="white" if grey < 128 else "black")
    for y in (0, 1):
        ends = {"xyA": (column + side - 0.5, row - 0.5 + y * side), "xyB": (-0.5, -0.5 + y * side)}
        fig.add_artist(ConnectionPatch(coordsA=whole.transData, coordsB=part.transData, color="#E69F00", lw=1, **ends))
    for ax, title in [(whole, f"{film.shape[0]} × {film.shape[1]} pixels"), (part, f"{side} × {side} of them, as numbers")]:
        ax.set_title(title)
        ax.axis("off")
    return fig


def plot_prevalence(counts: pd.DataFrame, shares: pd.DataFrame, films: pd.Series) -> plt.Figure:
    """X-rays with each finding (left) and their share (right), a column of the tables and an entry of `films` for each split."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2), sharey=True)
    counts.plot.barh(ax=left, width=0.8, legend=False)
    left.set_xlabel("X-rays")
    (100 * shares).plot.barh(ax=right, width=0.8)
    right.set_xlabel("prevalence in the split, % (report-derived labels)")
    right.legend([f"{name}: {films[name]:,} X-rays" for name in shares.columns], loc="lower right")
    left.set_yticks(range(len(counts)), [name.replace("_", " ") for name in counts.index])
    left.set_ylabel("")
    return fig


def plot_cooccurrence(conditional: np.ndarray) -> plt.Figure:
    """Of the X-rays with the row's finding, the share that also carry the column's: (findings, findings), nan for a dash."""
    fig, ax = plt.subplots(figsize=(8.4, 6.4))
    shown = np.where(np.eye(len(NAMES), dtype=bool), np.nan, 100 * np.asarray(conditional))
    image = ax.imshow(shown, cmap=plt.get_cmap("Blues", 16), aspect="auto", vmin=0)  # few colours: a small file
    for (i, j), value in np.ndenumerate(shown):
        if np.isfinite(value):
            dark = value > 0.6 * np.nanmax(shown)
            ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=8, color="white" if dark else "black")
    ax.set_xticks(range(len(NAMES)), NAMES, rotation=90)
    ax.set_yticks(range(len(NAMES)), NAMES)
    ax.set(xlabel="… also carry", ylabel="X-rays with …")
    fig.colorbar(image, label="% of the row's X-rays")
    return fig


def plot_people(table: pd.DataFrame, abnormal: np.ndarray) -> plt.Figure:
    """Age and sex; share of X-rays with any finding, by view and sex; X-rays of a patient.

    Parameters
    ----------
    table : DataFrame
        With the columns of `data.nih.TABLE_COLUMNS`.
    abnormal : array of bool, (X-rays,)
        Whether an X-ray carries any finding.
    """
    fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.2), width_ratios=[1.3, 1, 1.3])
    sexes = sorted(table["Patient Gender"].unique())
    if table["Patient Age"].notna().any():  # ChestMNIST does not tell it
        ages = [table.loc[table["Patient Gender"] == sex, "Patient Age"].dropna() for sex in sexes]
        axes[0].hist(ages, bins=range(0, max(101, int(table["Patient Age"].max()) + 6), 5), stacked=True, label=sexes)
        axes[0].legend()
    axes[0].set(xlabel="age, years", ylabel="X-rays")
    share = pd.Series(abnormal).groupby([table["View Position"].to_numpy(), table["Patient Gender"].to_numpy()]).mean().unstack()
    share.plot.bar(ax=axes[1], width=0.8, rot=0)
    axes[1].set(xlabel="view", ylabel="share with any finding", ylim=(0, 1))
    axes[1].legend(fontsize=8, ncols=2, loc="upper center")
    sizes = table.groupby("Patient ID").size()
    axes[2].hist(sizes, bins=np.arange(0.5, min(sizes.max(), 20) + 1.5), color="C2")
    axes[2].set(xlabel="X-rays of one patient", ylabel="patients", yscale="log")
    return fig


def plot_views(films: np.ndarray, views: pd.Series) -> plt.Figure:
    """The mean X-ray of each view and the distribution of grey levels.

    Parameters
    ----------
    films : ndarray of uint8, (X-rays, height, width)
    views : Series of str, (X-rays,)
        "PA", "AP" or "unknown".
    """
    fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.3), width_ratios=[1, 1, 2])
    axes[1].axis("off")
    for ax, view in zip(axes[:2], sorted(views.unique(), key=["PA", "AP", "unknown"].index)):
        of_view = films[(views == view).to_numpy()]
        ax.imshow(of_view.mean(axis=0), vmin=0, vmax=255)
        ax.set_title(f"mean of {len(of_view):,} {view} X-rays")
        ax.axis("off")
        axes[2].hist(of_view.ravel()[::50], bins=np.arange(0, 257, 4), histtype="step", density=True, label=view)
    axes[2].set(xlabel="grey level", ylabel="share of pixels", yticks=[])
    axes[2].legend(title="view")
    return fig


def plot_loss_shares(panels: dict[str, tuple[np.ndarray, np.ndarray]]) -> plt.Figure:
    """What positives and negatives contribute to the loss of each finding: title → two arrays (findings,)."""
    fig, axes = plt.subplots(1, len(panels), figsize=(10.5, 4), sharey=True)
    places = np.arange(len(NAMES))
    for ax, (title, (positive, negative)) in zip(axes, panels.items(), strict=True):
        share = 100 * positive / np.maximum(positive + negative, 1e-12)
        ax.barh(places, share, color="C1", label="positives")
        ax.barh(places, np.where(positive + negative > 0, 100 - share, 0), left=share, color="C0", alpha=0.6, label="negatives")
        ax.axvline(50, color="k", lw=0.8, ls=":")
        ax.set(title=title, xlabel="share of the finding's loss, %")
    axes[0].set_yticks(places, NAMES)
    axes[0].invert_yaxis()
    axes[-1].legend(loc="lower right", frameon=True)
    return fig


def plot_reliability_row(y: np.ndarray, panels: dict[str, np.ndarray], bins: int = 10) -> plt.Figure:
    """Reliability diagrams side by side, all findings together: title → probabilities (X-rays, findings).

    The size of a point is the number of answers in its bin.
    """
    fig, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3.5), sharey=True)
    for ax, (title, pred) in zip(axes, panels.items(), strict=True):
        ax.plot([0, 1], [0, 1], ":", color="#999999", lw=1)
        cell = np.minimum((pred.ravel() * bins).astype(int), bins - 1)
        answers, said, seen = (np.bincount(cell, weights) for weights in (None, pred.ravel(), y.ravel()))
        some = answers > 0
        ax.plot(said[some] / answers[some], seen[some] / answers[some], "-", color="C0", lw=1.5)
        sizes = 6 + 200 * np.sqrt(answers[some] / answers.sum())
        ax.scatter(said[some] / answers[some], seen[some] / answers[some], s=sizes, color="C0", alpha=0.7)
        ax.set(title=title, xlabel="what the model said", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axes[0].set_ylabel("share with the finding")
    return fig


def plot_layers(film: np.ndarray, maps: dict[str, np.ndarray]) -> plt.Figure:
    """An X-ray and one map of each layer (title → (height, width)), dark where it is low."""
    fig, axes = plt.subplots(1, 1 + len(maps), figsize=(10.5, 2.9))
    axes[0].imshow(film, vmin=0, vmax=255)
    axes[0].set_title("the X-ray", fontsize=9)
    for ax, (title, picture) in zip(axes[1:], maps.items(), strict=True):
        ax.imshow(picture, cmap="viridis", interpolation="nearest")
        ax.set_title(title, fontsize=9)
    for ax in axes:
        ax.axis("off")
    return fig


def plot_transfer(scores: pd.DataFrame, points: dict[str, dict[int, float]], reference: dict[str, float]) -> plt.Figure:
    """AUROC against the number of training X-rays.

    Parameters
    ----------
    scores : DataFrame
        One row per draw: "features" (what the linear model works on), "X-rays" (training X-rays asked for), "AUROC".
    points : dict of str to dict
        Legend label → training X-rays → AUROC.
    reference : dict of str to float
        Legend label → AUROC of something that none of these X-rays trained: a dashed line.
    """
    fig, ax = plt.subplots(figsize=(9, 4.3))
    for name, colour, marker in zip(scores["features"].unique(), ["#777777", "C4", "C0"], "sDo", strict=False):
        of_kind = scores[scores["features"] == name].groupby("X-rays")["AUROC"]
        middle = of_kind.mean()
        ax.fill_between(middle.index, of_kind.min(), of_kind.max(), color=colour, alpha=0.18, lw=0)
        ax.plot(middle.index, middle, marker=marker, color=colour, ms=5, label=name)
    for (name, of_size), colour, marker in zip(points.items(), ["C1", "C3"], ["*", "^"], strict=False):
        ax.plot(of_size.keys(), of_size.values(), marker, color=colour, ms=11, label=name)
    for name, value in reference.items():
        ax.axhline(value, color="black", lw=1, ls="--", label=name)
    ax.axhline(0.5, color="#999999", lw=1, ls=":")
    ax.set_xscale("log")
    ticks = sorted(scores["X-rays"].unique())
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set(xlabel="training X-rays", ylabel="mean AUROC, validation")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return fig


def plot_two_hospitals(areas: dict[str, pd.DataFrame], answers: dict[str, tuple[np.ndarray, np.ndarray]]) -> plt.Figure:
    """AUROC of each finding at two places with intervals (left) and reliability of several sets of answers (right).

    Parameters
    ----------
    areas : dict of str to DataFrame
        Place → table of `models.metrics.auroc_intervals`.
    answers : dict of str to (y, pred)
        Label → arrays (X-rays, findings).
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4), width_ratios=[1.3, 1])
    for (place, table), offset, colour in zip(areas.items(), (-0.15, 0.15), ("C0", "C1"), strict=True):
        at = np.arange(len(table)) + offset
        left.hlines(at, table["low"], table["high"], color=colour, lw=2)
        left.plot(table["AUROC"], at, "o", color=colour, ms=5, label=place)
    left.set_yticks(range(len(table)), [name.replace("_", " ") for name in table.index])
    left.set(ylim=(len(table) - 0.5, -0.5), xlabel="AUROC")
    left.axvline(0.5, color="#999999", lw=1, ls=":")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(areas))
    right.plot([0, 1], [0, 1], ":", color="#999999", lw=1)
    for (label, (y, pred)), colour, style in zip(answers.items(), ("C0", "C1", "C1"), ("o-", "o-", "o--"), strict=True):
        in_order = np.argsort(pred.ravel())
        parts = np.array_split(in_order, 10)  # as many answers in each
        said, seen = ([values.ravel()[part].mean() for part in parts] for values in (pred, y))
        right.plot(said, seen, style, color=colour, ms=4, label=label, mfc="white" if style == "o--" else colour)
    most = 1.05 * max(np.max(line.get_data()) for line in right.lines[1:])
    right.set(xlim=(0, most), ylim=(0, most), xlabel="what the model said", ylabel="share with the finding")
    right.legend()
    return fig


def calibration_scores(y: np.ndarray, pred: np.ndarray, bins: int = 10) -> dict[str, float]:
    """Expected calibration error (equal bins of [0, 1]) and Brier score of arrays (X-rays, findings), mean over the findings."""
    return {"ECE": float(binned_calibration_error(y, pred, bins).mean()), "Brier": float(np.mean((y - pred) ** 2))}


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


def plot_reading(y, pred, threshold: float, played, answers) -> plt.Figure:
    """A reader's answers to some X-rays: as a point on the network's ROC curve (left) and one by one (right).

    Parameters
    ----------
    y, pred : arrays of shape (n,)
        Truth and the network's output for all X-rays, which give the curve.
    threshold : float
        From which output on the network says yes.
    played : array of int, shape (k,)
        The X-rays that were read.
    answers : array of bool, shape (k,)
    """
    y, pred, answers = np.asarray(y) == 1, np.asarray(pred), np.asarray(answers, bool)
    truth, network = y[played], pred[played] >= threshold
    fig, (curve, strip) = plt.subplots(1, 2, figsize=(10.5, 3.9), width_ratios=[1, 1.5])
    if 0 < y.sum() < y.size:
        false_alarms, hits, _ = roc_curve(y, pred)
        curve.plot(false_alarms, hits, color="#555555", label=f"network, {y.size:,} X-rays")
        curve.plot((pred >= threshold)[~y].mean(), (pred >= threshold)[y].mean(), "s", color="C0", label="network at its threshold")
    found, alarms = (answers & truth).sum(), (answers & ~truth).sum()
    ill, well = truth.sum(), (~truth).sum()
    if ill and well:
        x, height = alarms / well, found / ill
        for low, high, draw in [(*wilson_interval(alarms, well), curve.hlines), (*wilson_interval(found, ill), curve.vlines)]:
            draw(height if draw == curve.hlines else x, low, high, color="C1", lw=2)
        curve.plot(x, height, "o", color="C1", ms=8, label=f"reader, {truth.size} X-rays")
        curve.set_title(f"reader: sensitivity {height:.2f}, specificity {1 - x:.2f}")
    curve.plot([0, 1], [0, 1], ":", color="#999999")
    curve.set(xlabel="1 − specificity", ylabel="sensitivity", aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    curve.legend(loc="best", fontsize=8)  # a bad reader's point may be in any corner

    names = []
    for row, (name, said) in enumerate([("truth", truth), ("reader", answers), ("network", network)]):
        names.append(name if row == 0 else f"{name}, {(said == truth).sum()} right")
        for place, yes in enumerate(said):
            marker, colour = ("o", "#333333") if yes == truth[place] else ("s", "#C00000")
            strip.plot(place + 1, row, marker, ms=10, mec=colour, mew=1.5, mfc=colour if yes else "white")
    strip.set(xlim=(0.3, truth.size + 0.7), ylim=(2.6, -0.6), xticks=range(1, truth.size + 1))
    strip.set_yticks(range(3), names)
    strip.set_title("full: yes, hollow: no, red square: wrong")
    strip.tick_params(length=0)
    strip.spines[:].set_visible(False)
    return fig
