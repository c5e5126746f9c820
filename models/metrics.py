"""Numbers that say how good a model is: AUROC with intervals by patient, temperature, surface distance, volume."""

import math
import warnings

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_matrix
from scipy.special import expit, logit
from scipy.stats import binomtest
from sklearn.metrics import log_loss, roc_auc_score, roc_curve

from data.decathlon import brain_box


def auroc(y, pred) -> float:
    """Area under the ROC curve by scikit-learn; nan when the labels hold one class only."""
    y = np.asarray(y)
    return float(roc_auc_score(y, pred)) if 0 < y.sum() < y.size else float("nan")


def binned_calibration_error(y: np.ndarray, pred: np.ndarray, bins: int = 10) -> np.ndarray:
    """Expected calibration error (Naeini et al., AAAI 2015) of each column of arrays (rows, columns): equal bins of [0, 1]."""
    cell = np.minimum((pred * bins).astype(int), bins - 1)
    gaps = [np.abs(np.bincount(cell[:, k], y[:, k] - pred[:, k], minlength=bins)).sum() for k in range(y.shape[1])]
    return np.array(gaps) / len(y)


def wilson_interval(hits: int, tries: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, JASA 1927); nan of nothing."""
    if tries == 0:
        return np.nan, np.nan
    interval = binomtest(int(hits), int(tries)).proportion_ci(method="wilson")
    return interval.low, interval.high


def youden_threshold(y, pred) -> float:
    """The threshold at which sensitivity + specificity is largest; nan where only one class is there."""
    if not 0 < np.sum(y) < np.size(y):
        return np.nan
    false_alarms, hits, cuts = roc_curve(y, pred)
    return float(cuts[1:][np.argmax((hits - false_alarms)[1:])])


def resample_patients(patient_ids, n_resamples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw bootstrap samples of patients.

    Parameters
    ----------
    patient_ids : array of shape (rows,)
    n_resamples : int
    rng : numpy.random.Generator

    Returns
    -------
    patient : array of int, shape (rows,)
        Which patient, 0 … patients−1, each row belongs to.
    counts : array of float32, shape (patients, n_resamples)
        How often each resample drew each patient. Each column sums to the number of patients.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993; for clustered data Field and Welsh, JRSS B 2007.
    """
    names, patient = np.unique(np.asarray(patient_ids), return_inverse=True)
    counts = np.empty((n_resamples, names.size), dtype=np.float32)
    for row in counts:
        row[:] = np.bincount(rng.integers(names.size, size=names.size), minlength=names.size)
    return patient, np.ascontiguousarray(counts.T)


def bootstrap_auroc(y, pred, patient, counts) -> np.ndarray:
    """AUROC of every finding in every bootstrap sample, without a loop over the samples.

    A bootstrap sample is a weight per X-ray: how often its patient was drawn. The AUROC is the weighted Mann–Whitney
    statistic

        AUROC = Σ_{i positive} w_i (Σ_{j negative, s_j < s_i} w_j + ½ Σ_{j negative, s_j = s_i} w_j) / (W⁺ W⁻).

    The distinct scores of the positives cut the axis into 2G+1 pieces (G points, and what lies below, between and
    above them). A sparse matrix adds up the negative weights of each piece for all samples at once; their running sum
    is the bracket. This gives what the loop over `sklearn.metrics.roc_auc_score` gives, ties included.

    Parameters
    ----------
    y : array of 0/1, shape (rows, findings)
    pred : array of float, shape (rows, findings)
    patient : array of int, shape (rows,)
    counts : array of float32, shape (patients, resamples)
        Both from `resample_patients`.

    Returns
    -------
    array of float64, shape (resamples, findings)
        nan where a sample holds one class only, and everywhere when there is one patient: what others would give is then unknown.

    References
    ----------
    Hanley and McNeil, Radiology 1982 (AUROC as the Mann–Whitney statistic).
    """
    y, pred = np.asarray(y).astype(bool), np.asarray(pred)
    areas = np.full((counts.shape[1], y.shape[1]), np.nan)
    if len(counts) < 2:
        return areas

    def summed_weights(piece: np.ndarray, rows: np.ndarray, pieces: int) -> np.ndarray:
        ones = np.ones(piece.size, dtype=np.float32)
        return csr_matrix((ones, (piece, patient[rows])), shape=(pieces, counts.shape[0])) @ counts

    for column in range(y.shape[1]):
        positive, score = y[:, column], pred[:, column]
        knots = np.unique(score[positive])
        if knots.size == 0 or positive.all():
            continue
        # 2k between knots k−1 and k, 2k+1 on knot k
        piece = np.searchsorted(knots, score, "left") + np.searchsorted(knots, score, "right")
        negatives = summed_weights(piece[~positive], ~positive, 2 * knots.size + 1)
        positives = summed_weights(piece[positive] // 2, positive, knots.size)
        below = np.cumsum(negatives, axis=0, dtype=np.float64)
        won = np.einsum("kr,kr->r", positives, (below[:-1:2] + below[1::2]) / 2)
        pairs = positives.sum(axis=0, dtype=np.float64) * below[-1]
        np.divide(won, pairs, out=areas[:, column], where=pairs > 0)
    return areas


def percentile_interval(samples, axis: int = 0, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the bootstrap percentile interval; 95 % are the percentiles 2.5 and 97.5, nan left out."""
    tail = 100 * (1 - level) / 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)  # a finding without positives: nan is the answer
        low, high = np.nanpercentile(samples, [tail, 100 - tail], axis=axis)
    return low, high


def auroc_intervals(y, pred, patient_ids, findings, rng, n_resamples: int = 1000) -> pd.DataFrame:
    """AUROC of each finding with its 95 % interval: columns AUROC, low, high; index `findings`."""
    samples = bootstrap_auroc(y, pred, *resample_patients(patient_ids, n_resamples, rng))
    low, high = percentile_interval(samples)
    points = [auroc(np.asarray(y)[:, k], np.asarray(pred)[:, k]) for k in range(len(findings))]
    return pd.DataFrame({"AUROC": points, "low": low, "high": high}, index=pd.Index(findings))


def bootstrap_metric(metric, patient_ids, rng, *arrays, n_resamples: int = 1000) -> np.ndarray:
    """Any metric in bootstrap samples of patients: `metric(*arrays)` of the drawn rows, shape (n_resamples,).

    The plain loop. It serves every metric; `bootstrap_auroc` is the fast way for the one that is slow. nan when there is one
    patient.
    """
    patient, counts = resample_patients(patient_ids, n_resamples, rng)
    if len(counts) < 2:
        return np.full(n_resamples, np.nan)
    rows = [np.repeat(np.arange(patient.size), counts[patient, k].astype(int)) for k in range(n_resamples)]
    return np.array([metric(*(array[drawn] for array in arrays)) for drawn in rows], dtype=float)


def fit_temperature(y, pred) -> float:
    """Temperature T that makes sigmoid(logit(pred) / T) fit the labels best (smallest log loss).

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    logits = logit(clip_probabilities(pred))
    fit = minimize_scalar(lambda t: log_loss(y, expit(logits / np.exp(t)), labels=[0, 1]), bounds=(-4, 4), method="bounded")
    return float(np.exp(fit.x))


def clip_probabilities(pred, epsilon: float = 1e-6) -> np.ndarray:
    """Probabilities kept away from 0 and 1, so that their log-odds are finite."""
    return np.clip(np.asarray(pred, dtype=np.float64), epsilon, 1 - epsilon)


def surface_distances(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1)
) -> tuple[np.ndarray, np.ndarray]:
    """Distance in mm of every voxel of one surface from the other surface: prediction to truth, and truth to prediction.

    Parameters
    ----------
    prediction, truth : numpy.ndarray of bool, shape (x, y, z)
        Not empty. Surfaces are voxels with a face on the outside.
    spacing : tuple of float
        Size of a voxel in mm.
    """
    box = brain_box(np.stack([prediction, truth], axis=-1))  # far faster on the part where there is anything
    masks = [np.pad(mask[box], 1) for mask in (prediction, truth)]
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    distances = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    return distances[1][surfaces[0]], distances[0][surfaces[1]]


def hausdorff95(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1), *, percentile: float = 95
) -> float:
    """How far apart two surfaces are: 95 % of either lie within this distance of the other.

    Parameters
    ----------
    prediction, truth : numpy.ndarray of bool, shape (x, y, z)
    spacing : tuple of float
        Size of a voxel in mm.
    percentile : float
        100 gives the Hausdorff distance itself, which a single voxel decides.

    Returns
    -------
    float
        Millimetres; the larger of the two directed percentiles. NaN when a mask is empty: there is no surface.

    Notes
    -----
    Huttenlocher et al., IEEE PAMI 1993; as MONAI computes it.
    """
    prediction, truth = np.asarray(prediction, bool), np.asarray(truth, bool)
    if not prediction.any() or not truth.any():
        return math.nan
    return float(max(np.percentile(part, percentile) for part in surface_distances(prediction, truth, spacing)))


def surface_dice(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1), tolerance: float = 2.0
) -> float:
    """Share of both surfaces that lies within `tolerance` mm of the other one (Nikolov et al., J Med Internet Res 2021).

    Surfaces are counted in voxels. 0 when only the prediction is empty, NaN when the truth is.
    """
    prediction, truth = np.asarray(prediction, bool), np.asarray(truth, bool)
    if not truth.any():
        return math.nan
    if not prediction.any():
        return 0.0
    return float(np.mean(np.concatenate(surface_distances(prediction, truth, spacing)) <= tolerance))


def lesion_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Lesion-wise Dice: mean over the pieces of the truth and the false pieces of the prediction, so that each piece counts alike.

    A piece of the truth is compared with all pieces of the prediction that touch it; a piece that touches none, on either side,
    scores 0. NaN when the truth is empty. (As in BraTS since 2023, without its dilation and smallest size; pieces by faces.)
    """
    true, lesions = ndimage.label(np.asarray(truth, bool))
    found, pieces = ndimage.label(np.asarray(prediction, bool))
    if not lesions:
        return math.nan
    scores = []
    for number in range(1, lesions + 1):
        lesion = true == number
        touching = np.isin(found, np.setdiff1d(np.unique(found[lesion]), 0))
        scores.append(2 * np.count_nonzero(touching & lesion) / (np.count_nonzero(touching) + np.count_nonzero(lesion)))
    false = pieces - len(np.setdiff1d(np.unique(found[true > 0]), 0))
    return float(sum(scores) / (lesions + false))


def volume_ml(mask: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1)) -> float:
    """Volume of a mask in millilitres (cm³), for voxels of `spacing` mm."""
    return float(np.count_nonzero(mask) * np.prod(spacing) / 1000)
