"""How near the simulated scans come to real ones: intensities per tissue, histograms, tumour volumes and a picture.

``python -m data.brain_compare SIMULATED REAL`` prints the tables; with ``--sheet FILE.png`` it also draws both cohorts one
above the other. Both folders may be in any format that `data.decathlon` reads. Keep a sheet with real patients private.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from data.decathlon import CHANNELS, BrainCase, read_brain
from data.errors import DataError

LESION = {1: "edema", 2: "non-enhancing", 3: "enhancing"}
BINS = np.arange(-4, 6.01, 0.1)  # standard deviations


def standardised(case: BrainCase) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scan with mean 0 and standard deviation 1 inside the brain (x, y, z, 4), label (x, y, z), and brain mask."""
    image, label = case.image().astype(np.float32), case.label()
    brain = (image > 0).all(-1)
    inside = image[brain]
    return (image - inside.mean(0)) / inside.std(0), label, brain


def healthy_tissue(scan: np.ndarray, label: np.ndarray, brain: np.ndarray) -> dict[str, np.ndarray]:
    """Median of white matter, grey matter and fluid (4 channels each), found without registration.

    Three Gaussians are fitted to FLAIR, T1w and T2w away from the tumour and the edge; fluid is the darkest on T1w and
    brightest on T2w, white matter the opposite. In scans of low contrast the grey matter of this rough method is mixed.
    """
    from sklearn.mixture import GaussianMixture

    free = ndimage.binary_erosion(brain, iterations=3) & ~ndimage.binary_dilation(label > 0, iterations=4)
    voxels = scan[free][::17]
    features = voxels[:, [0, 1, 3]]
    order = features[:, 1] - features[:, 2]
    guess = np.digitize(order, np.percentile(order, [15, 55]))
    means = np.array([features[guess == k].mean(0) for k in range(3)])
    mixture = GaussianMixture(3, means_init=means, reg_covar=1e-3, max_iter=60).fit(features)
    rank = np.argsort(mixture.means_[:, 1] - mixture.means_[:, 2])
    sure = mixture.predict_proba(features) > 0.8
    return {
        name: np.median(voxels[sure[:, k]], axis=0) if sure[:, k].any() else np.full(4, np.nan)
        for name, k in zip(("fluid", "grey matter", "white matter"), rank, strict=True)
    }


def measure(cases: list[BrainCase]) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Measure every case.

    Returns
    -------
    intensities : DataFrame
        One row per case and tissue: the median of each sequence in standard deviations of the brain.
    volumes : DataFrame
        One row per case: ml of each class.
    histograms : ndarray, (cases, 4, bins)
        Share of the brain's voxels in each of `BINS`.
    """
    rows, volumes, histograms = [], [], []
    for case in cases:
        scan, label, brain = standardised(case)
        ml = float(np.prod(case.spacing)) / 1000
        medians = healthy_tissue(scan, label, brain)
        medians |= {n: np.median(scan[(label == v) & brain], axis=0) for v, n in LESION.items() if (label == v).sum() > 20}
        rows += [{"case": case.name, "tissue": t, **dict(zip(CHANNELS, m, strict=True))} for t, m in medians.items()]
        volumes.append({"case": case.name, "brain": brain.sum() * ml} | {n: (label == v).sum() * ml for v, n in LESION.items()})
        inside = np.clip(scan[brain], BINS[0], BINS[-1] - 1e-3)
        histograms.append([np.histogram(inside[:, c], BINS)[0] / len(inside) for c in range(4)])
    return pd.DataFrame(rows), pd.DataFrame(volumes), np.array(histograms)


def histogram_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Total variation distance (0 equal, 1 disjoint) of the mean histograms of two cohorts, one value per sequence."""
    return 0.5 * np.abs(one.mean(0) - other.mean(0)).sum(-1)


def sheet(cases: list[BrainCase], titles: list[str]):
    """Axial slice through the largest part of each tumour: four sequences and the label; returns a matplotlib figure."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    figure, grid = plt.subplots(len(cases), 5, figsize=(8, 1.95 * len(cases)), squeeze=False, layout="compressed")
    colours = ListedColormap(["#00000000", "#56B4E9", "#E69F00", "#D55E00"])
    for axis, name in zip(grid[0], [*CHANNELS, "label on FLAIR"], strict=True):
        axis.set_title(name, fontsize=8)
    for row, case, title in zip(grid, cases, titles, strict=True):
        image, label = case.image(), case.label()
        z = int(np.argmax((label > 0).sum((0, 1))))
        for channel, axis in enumerate(row):
            part = image[..., channel % 4]
            top = np.percentile(part[part > 0], 99.5)
            axis.imshow(part[35:205, 12:228, z].T, cmap="gray", vmin=0, vmax=top, origin="lower")
            axis.set_axis_off()
        row[4].imshow(label[35:205, 12:228, z].T, cmap=colours, vmin=0, vmax=3, alpha=0.6, origin="lower", interpolation="none")
        row[0].text(0, 0, title, transform=row[0].transAxes, fontsize=6, color="0.4", va="top")
    return figure


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m data.brain_compare", description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="one cohort, or two to compare")
    parser.add_argument("--sheet", type=Path, help="also draw this picture")
    parser.add_argument("--rows", type=int, default=6, help="patients of each cohort in the picture")
    options = parser.parse_args(arguments)
    try:
        cohorts = [list(read_brain(folder)) for folder in options.folders]
        pd.set_option("display.width", 160)
        found = []
        for folder, cases in zip(options.folders, cohorts, strict=True):
            intensities, volumes, histograms = measure(cases)
            found.append(histograms)
            by_tissue = intensities.drop(columns="case").groupby("tissue", sort=False)
            print(f"\n{folder}: {len(cases)} cases\nMedian intensity in standard deviations of the brain: mean over cases")
            print(by_tissue.mean().round(2).to_string())
            print("... and its standard deviation between cases")
            print(by_tissue.std().round(2).to_string())
            print("Volumes in ml")
            print(volumes.drop(columns="case").describe().loc[["min", "25%", "50%", "75%", "max"]].round(1).to_string())
        if len(found) == 2:
            print("\nTotal variation distance of the intensity histograms,", " ".join(CHANNELS))
            print("between the cohorts      ", histogram_distance(*found).round(3))
            print("halves of the second one ", histogram_distance(found[1][::2], found[1][1::2]).round(3))
        if options.sheet:
            some = [case for cases in cohorts for case in cases[: options.rows]]
            titles = [f"{f.name} {c.name}" for f, cases in zip(options.folders, cohorts, strict=True) for c in cases[: options.rows]]
            figure = sheet(some, titles)
            figure.savefig(options.sheet, dpi=110)
    except DataError as error:
        print(f"DataError: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
