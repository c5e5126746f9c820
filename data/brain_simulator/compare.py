"""How near the simulated scans come to real ones: intensities, histograms, detail, volumes and shapes of tumours, a picture.

``python -m data.brain_simulator.compare SIMULATED REAL`` prints the tables; ``--sheet FILE.png`` also draws both cohorts one
above the other. Both folders may be in any format that `data.decathlon` reads. Keep a sheet with real patients private.
"""

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from data.decathlon import CHANNELS, CLASS_COLOURS, BrainCase, read_brain
from data.errors import DataError

HEALTHY = ("fluid", "grey matter", "white matter")
DETAIL = (1, 2, 4, 8)  # mm: blurs between which detail is measured (on voxels of 1 mm)
LESION = {1: "edema", 2: "non-enhancing", 3: "enhancing"}
BINS = np.arange(-4, 6.01, 0.1)  # standard deviations


def standardised(case: BrainCase) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scan with mean 0 and standard deviation 1 inside the brain (x, y, z, 4), label (x, y, z), and brain mask."""
    image, label = case.image().astype(np.float32), case.label()
    brain = (image > 0).all(-1)
    inside = image[brain]
    return (image - inside.mean(0)) / inside.std(0), label, brain


def healthy_tissue(scan: np.ndarray, label: np.ndarray, brain: np.ndarray) -> dict[str, np.ndarray]:
    """Sample of the voxels (n, 4) of fluid, grey matter and white matter, found without registration.

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
    return {name: voxels[sure[:, k]] for name, k in zip(HEALTHY, rank, strict=True)}


def shape_of(mask: np.ndarray, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Parts of a mask, and the sphericity and extent of the largest one.

    Returns
    -------
    dict
        ``parts``: connected parts (by faces) of at least 0.05 ml. ``sphericity``: surface of the ball of the same volume over
        the surface of the part, estimated as two thirds of its outer voxel faces (right for a surface that looks in all
        directions; a digital ball has about 1). ``extent``: share of the bounding box that is filled (a ball: pi/6). Empty
        masks: no parts, and nan.
    """
    labels, n = ndimage.label(mask)
    if n == 0:
        return {"parts": 0, "sphericity": np.nan, "extent": np.nan}
    voxel = float(np.prod(spacing))
    sizes = np.bincount(labels.ravel())[1:]
    largest = int(sizes.argmax())
    part = labels[ndimage.find_objects(labels)[largest]] == largest + 1
    padded = np.pad(part, 1)
    surface = sum(np.count_nonzero(np.diff(padded, axis=a)) * voxel / spacing[a] for a in range(3)) * 2 / 3
    ball = np.pi ** (1 / 3) * (6 * part.sum() * voxel) ** (2 / 3)
    return {"parts": int((sizes * voxel >= 50).sum()), "sphericity": ball / surface, "extent": float(part.mean())}


def detail(scan: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Standard deviation (`DETAIL` bands, 4 sequences) of what lies between two Gaussian blurs within axial slices.

    A radial power spectrum in three octaves that does not see the edge of the brain: only voxels are counted whose
    surroundings lie inside (nan when there are none, as on the coarse voxels of a quick test). `scan` is in standard deviations.
    """
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    scan, brain = scan[box], brain[box]
    inner = ndimage.binary_erosion(brain, np.ones((3, 3, 1), bool), iterations=DETAIL[-1] * 2)
    found = np.full((len(DETAIL) - 1, 4), np.nan)
    if not inner.any():
        return found
    for channel in range(4):
        filled = np.where(brain, scan[..., channel], 0)
        blurred = [ndimage.gaussian_filter(filled, (sigma, sigma, 0), truncate=2)[inner] for sigma in DETAIL]
        found[:, channel] = [(fine - coarse).std() for fine, coarse in itertools.pairwise(blurred)]
    return found


def histogram(voxels: np.ndarray) -> np.ndarray:
    """Share of the `voxels` (n, 4) in each of `BINS`, per sequence: (4, bins); nan without voxels."""
    if not len(voxels):
        return np.full((4, len(BINS) - 1), np.nan)
    inside = np.clip(voxels, BINS[0], BINS[-1] - 1e-3)
    return np.array([np.histogram(inside[:, c], BINS)[0] / len(inside) for c in range(4)])


@dataclass
class Measures:
    """What was measured in one cohort.

    ``intensities``: a row per case and tissue, the median of each sequence in standard deviations of the brain.
    ``volumes``: a row per case, ml of each class. ``shapes``: a row per case and region. ``details``: (cases, bands, 4).
    ``histograms``: per tissue, (cases, 4, bins), nan where a case lacks it.
    """

    intensities: pd.DataFrame
    volumes: pd.DataFrame
    shapes: pd.DataFrame
    details: np.ndarray
    histograms: dict[str, np.ndarray]


def measure(cases: list[BrainCase]) -> Measures:
    """Measure every case; see `Measures`."""
    rows, volumes, shapes, details = [], [], [], []
    histograms: dict[str, list[np.ndarray]] = {name: [] for name in ("brain", *HEALTHY, *LESION.values())}
    for case in cases:
        scan, label, brain = standardised(case)
        ml = float(np.prod(case.spacing)) / 1000
        voxels = healthy_tissue(scan, label, brain) | {n: scan[(label == v) & brain] for v, n in LESION.items()}
        rows += [
            {"case": case.name, "tissue": t, **dict(zip(CHANNELS, np.median(x, axis=0), strict=True))}
            for t, x in voxels.items()
            if len(x) > 20
        ]
        for name, part in (voxels | {"brain": scan[brain]}).items():
            histograms[name].append(histogram(part if len(part) > 20 else part[:0]))
        volumes.append({"case": case.name, "brain": brain.sum() * ml} | {n: (label == v).sum() * ml for v, n in LESION.items()})
        regions = {"whole tumour": label > 0, "tumour core": label >= 2, "enhancing tumour": label == 3}
        shapes += [{"case": case.name, "region": n} | shape_of(mask, case.spacing) for n, mask in regions.items()]
        details.append(detail(scan, brain))
    return Measures(
        pd.DataFrame(rows),
        pd.DataFrame(volumes),
        pd.DataFrame(shapes),
        np.array(details),
        {name: np.array(found) for name, found in histograms.items()},
    )


def histogram_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Total variation distance (0 equal, 1 disjoint) of the mean histograms of two cohorts, one value per sequence.

    Cases that lack the tissue (nan) are left out; nan when a cohort has none left.
    """
    one, other = (h[~np.isnan(h).any((1, 2))] for h in (one, other))
    if not len(one) or not len(other):
        return np.full(4, np.nan)
    return 0.5 * np.abs(one.mean(0) - other.mean(0)).sum(-1)


def distances(one: Measures, other: Measures) -> pd.DataFrame:
    """`histogram_distance` per tissue: between two cohorts, and (mean of 20 random splits) between halves of the second."""
    rng = np.random.default_rng(0)
    splits = [rng.permutation(len(other.volumes)) for _ in range(20)]
    rows = {}
    for name, theirs in other.histograms.items():
        between = histogram_distance(one.histograms[name], theirs)
        halves = np.mean([histogram_distance(theirs[s[::2]], theirs[s[1::2]]) for s in splits], axis=0)
        rows[name] = dict(zip(CHANNELS, between, strict=True)) | {f"{c} halves": h for c, h in zip(CHANNELS, halves, strict=True)}
    return pd.DataFrame(rows).T


def sheet(cases: list[BrainCase], titles: list[str]):
    """Axial slice through the largest part of each tumour: four sequences and the label; returns a matplotlib figure."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    figure, grid = plt.subplots(len(cases), 5, figsize=(8, 1.95 * len(cases)), squeeze=False, layout="compressed")
    colours = ListedColormap(["#00000000", *CLASS_COLOURS])
    for axis, name in zip(grid[0], [*CHANNELS, "label on FLAIR"], strict=True):
        axis.set_title(name, fontsize=8)
    for row, case, title in zip(grid, cases, titles, strict=True):
        image, label = case.image(), case.label()
        z = int(np.argmax((label > 0).sum((0, 1))))
        for channel, axis in enumerate(row):
            part = image[..., channel % 4]
            top = np.percentile(part[part > 0], 99.5)
            axis.imshow(part[35:205, 12:228, z].T, cmap="gray", vmin=0, vmax=top, origin="lower")
            axis.invert_xaxis()  # the patient's right on the left, as in the notebooks
            axis.set_axis_off()
        row[4].imshow(label[35:205, 12:228, z].T, cmap=colours, vmin=0, vmax=3, alpha=0.6, origin="lower", interpolation="none")
        row[0].text(0, 0, title, transform=row[0].transAxes, fontsize=6, color="0.4", va="top")
    return figure


def report(title: str, measures: Measures) -> None:
    """Print the tables of one cohort."""
    by_tissue = measures.intensities.drop(columns="case").groupby("tissue", sort=False)
    print(f"\n{title}: {len(measures.volumes)} cases\nMedian intensity in standard deviations of the brain: mean over cases")
    print(by_tissue.mean().round(2).to_string())
    print("... and its standard deviation between cases")
    print(by_tissue.std().round(2).to_string())
    print("Volumes in ml")
    print(measures.volumes.drop(columns="case").describe().loc[["min", "25%", "50%", "75%", "max"]].round(1).to_string())
    print("Shapes: median over cases")
    print(measures.shapes.drop(columns="case").groupby("region", sort=False).median().round(2).to_string())
    print("Detail within slices, in standard deviations of the brain: median over cases")
    bands = [f"{low} to {high} mm" for low, high in itertools.pairwise(DETAIL)]
    print(pd.DataFrame(np.median(measures.details, axis=0), bands, CHANNELS).round(3).to_string())


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m data.brain_simulator.compare", description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="one cohort, or two to compare")
    parser.add_argument("--sheet", type=Path, help="also draw this picture")
    parser.add_argument("--rows", type=int, default=6, help="patients of each cohort in the picture")
    options = parser.parse_args(arguments)
    try:
        cohorts = [list(read_brain(folder)) for folder in options.folders]
        pd.set_option("display.width", 160)
        found = []
        for folder, cases in zip(options.folders, cohorts, strict=True):
            found.append(measure(cases))
            report(str(folder), found[-1])
        if len(found) == 2:
            print(
                "\nTotal variation distance of the intensity histograms: first cohort to second, halves of the second to each other"
            )
            print(distances(*found).round(2).to_string())
        if options.sheet:
            some = [case for cases in cohorts for case in cases[: options.rows]]
            titles = [
                f"{f.name} {c.name}" for f, cases in zip(options.folders, cohorts, strict=True) for c in cases[: options.rows]
            ]
            figure = sheet(some, titles)
            figure.savefig(options.sheet, dpi=110)
    except DataError as error:
        print(f"DataError: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
