"""Heat maps of notebook 01: their cells, scores and figures. The lessons call them by `util`."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from models.metrics import percentile_interval, resample_patients


def by_cells(images: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Mean of each cell, (n, rows, columns), of a grid that is laid over images (n, height, width)."""
    rows, columns = grid
    n, height, width = images.shape
    return images.reshape(n, rows, height // rows, columns, width // columns).mean(axis=(2, 4))


def touched_cells(boxes: pd.DataFrame, grid: tuple[int, int], least: float = 0.25) -> np.ndarray:
    """Cells, bool (rows, columns), in which a box has its middle or of which the boxes cover `least` or more.

    `boxes` has the columns ``x, y, w, h`` as fractions of the image.
    """
    rows, columns = grid
    row, column = np.mgrid[:rows, :columns]
    touched = np.zeros(grid, bool)
    for box in boxes.itertuples():
        wide = np.minimum(box.x + box.w, (column + 1) / columns) - np.maximum(box.x, column / columns)
        high = np.minimum(box.y + box.h, (row + 1) / rows) - np.maximum(box.y, row / rows)
        touched |= np.maximum(wide, 0) * np.maximum(high, 0) * rows * columns >= least
        middle = min(int((box.y + box.h / 2) * rows), rows - 1), min(int((box.x + box.w / 2) * columns), columns - 1)
        touched[middle] = True
    return touched


def pointing_game(cells: np.ndarray, aims: np.ndarray, findings, others: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What lies in each map's highest cell, and baselines: the pointing game (Zhang et al., IJCV 2018) on the map's own grid.

    Parameters
    ----------
    cells : ndarray (n, rows, columns)
        Maps, as the layer gives them.
    aims : ndarray (n, rows, columns)
        What to find there: whether a box touches a cell, or the share of the true map in it.
    findings : sequence of str, (n,)
        The finding that each map is about.
    others : dict of str to ndarray (n, rows, columns)
        More maps of the same cases, by name.

    Returns
    -------
    dict of str to ndarray (n,)
        nan for another X-ray's map where no other shows the finding.
    """
    aims, findings, cases = np.reshape(aims, (len(cells), -1)).astype(float), np.asarray(findings), np.arange(len(cells))
    highest = {name: maps.reshape(len(cells), -1).argmax(axis=1) for name, maps in {"its map": cells, **others}.items()}
    game = {name: aims[cases, cell] for name, cell in highest.items()}
    another = np.full(len(cells), np.nan)
    for case in cases:
        rest = (findings == findings[case]) & (cases != case)
        if rest.any():
            another[case] = aims[case, highest["its map"][rest]].mean()
    return game | {"map of another X-ray with the finding": another, "any cell": aims.mean(axis=1)}


def plot_pointing(tables: dict[str, pd.DataFrame]) -> plt.Figure:
    """Means with their intervals: one panel a table of `mean_table`, one row an entry of its index."""
    fig, axes = plt.subplots(1, len(tables), figsize=(10.5, 2.5), sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes[0], tables.items(), strict=True):
        ax.hlines(range(len(table)), table["low"], table["high"], color="C0", lw=2)
        ax.plot(table["mean"], range(len(table)), "o", color="C0")
        ax.set_yticks(range(len(table)), table.index)
        ax.set(xlabel=name, xlim=(0, None), ylim=(len(table) - 0.5, -0.5))
        ax.grid(axis="x", color="#eeeeee")
    return fig


def response_table(findings, with_it: np.ndarray, without_it: np.ndarray, hits: np.ndarray) -> pd.DataFrame:
    """What a network makes of taking a finding away: one row a finding, from its outputs (n,) for X-rays and their twins."""
    pairs = pd.DataFrame({"output": with_it, "output of the twin": without_it, "hits": hits})
    pairs.insert(0, "pairs", 1)
    pairs.insert(3, "the output falls in", with_it > without_it)
    how = {"pairs": "sum", "output": "median", "output of the twin": "median", "the output falls in": "mean", "hits": "mean"}
    return pairs.groupby(np.asarray(findings)).agg(how).rename(columns={"hits": "the map hits the box in"})


def mean_table(columns: dict[str, np.ndarray], patients, rng: np.random.Generator, n_resamples: int = 1000) -> pd.DataFrame:
    """Mean of each of some columns (n,) with its 95 % interval, by patient; values that are nan do not count."""
    patient, counts = resample_patients(patients, n_resamples, rng)
    rows = {}
    for name, values in columns.items():
        there = np.isfinite(values)
        weights = counts[patient[there]]
        with np.errstate(invalid="ignore"):
            low, high = percentile_interval(values[there] @ weights / weights.sum(axis=0))
        rows[name] = {"mean": values[there].mean() if there.any() else np.nan, "low": low, "high": high}
    return pd.DataFrame(rows).T


def show_evidence(rows: list[dict], width: float = 10.5) -> plt.Figure:
    """A grid of X-rays and maps: one row a case, one column a kind of picture.

    Parameters
    ----------
    rows : list of dict of str to ndarray or pair
        Title to what is drawn: an X-ray (height, width) of uint8; a difference of X-rays, signed; or a pair of an X-ray and a
        heat map of any grid, whose highest value becomes the brightest and whose cells stay cells. The key ``""`` is the text at
        the left.
    width : float
        Of the figure in inches.
    """
    titles = [title for title in rows[0] if title]
    side = width / len(titles)
    fig, axes = plt.subplots(len(rows), len(titles), figsize=(width, len(rows) * side + 0.4), squeeze=False)
    whole = (0, 1, 1, 0)  # left, right, bottom, top: pictures of any size lie on each other
    for line, (row, panels) in enumerate(zip(axes, rows, strict=True)):
        row[0].set_ylabel(panels.get("", ""), fontsize=9)
        for ax, title in zip(row, titles, strict=True):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            drawn = panels[title]
            if isinstance(drawn, tuple):
                film, heat = drawn
                heat = np.maximum(heat, 0) / max(heat.max(), 1e-12)
                ax.imshow(film, vmin=0, vmax=255, extent=whole)
                ax.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.65 * heat, extent=whole, interpolation="nearest")
            elif drawn.dtype == np.uint8:
                ax.imshow(drawn, vmin=0, vmax=255, extent=whole)
            else:
                limit = max(np.abs(drawn).max(), 1e-12)
                ax.imshow(drawn, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=whole)
            if line == 0:
                ax.set_title(title, fontsize=9)
    return fig


def plot_rank_agreement(cells: np.ndarray, variants: dict[str, np.ndarray]) -> plt.Figure:
    """Rank correlation of heat maps with those of other networks: a dot for each X-ray, a bar at the median.

    Parameters
    ----------
    cells : ndarray (n, rows, columns)
        Of the trained network.
    variants : dict of str to ndarray (n, rows, columns)
        Of other networks; maps that are empty after the ReLU in one of the two are counted in the label and not drawn.
    """
    fig, ax = plt.subplots(figsize=(8, 0.7 * len(variants) + 0.9))
    cells, variants = np.maximum(cells, 0), {name: np.maximum(maps, 0) for name, maps in variants.items()}
    names, jitter = [], np.random.default_rng(0).uniform(-0.18, 0.18, len(cells))
    for place, (name, maps) in enumerate(variants.items()):
        filled = (cells.max(axis=(1, 2)) > 0) & (maps.max(axis=(1, 2)) > 0)
        agreement = np.array([spearmanr(one.ravel(), two.ravel()).statistic for one, two in zip(cells[filled], maps[filled])])
        ax.plot(agreement, place + jitter[filled], "o", color="C0", alpha=0.6)
        if filled.any():
            ax.vlines(np.median(agreement), place - 0.35, place + 0.35, color="C1", lw=3)
        names.append(f"{name}\n({(~filled).sum()} of {len(cells)} empty)")
    ax.axvline(0, color="k", lw=0.8, ls=":")
    ax.axvline(1, color="k", lw=0.8, ls=":")
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(-1.05, 1.05), ylim=(len(names) - 0.5, -0.5), xlabel="rank correlation with the trained network's map")
    return fig
