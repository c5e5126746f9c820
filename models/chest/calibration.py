"""The fit behind calibration: one slope and 14 intercepts that make logits of the chest network mean probabilities."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

PRIOR_SD = 2.0  # of an intercept: keeps it finite when the validation X-rays show a finding always or never


def fit_calibration(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Slope a and intercepts b for which sigmoid(a · logit + b) fits the labels best.

    Parameters
    ----------
    logits : ndarray, (films, findings)
    labels : ndarray of 0/1, (films, findings)

    Returns
    -------
    slope : float
        Above 0.
    intercepts : ndarray, (findings,)
        With a normal prior around 0 of standard deviation `PRIOR_SD`.
    """
    logits, labels = np.asarray(logits, float), np.asarray(labels, float)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, intercepts = np.exp(parameters[0]), parameters[1:]
        z = slope * logits + intercepts
        value = np.logaddexp(0, z).sum() - (labels * z).sum() + (intercepts**2).sum() / (2 * PRIOR_SD**2)
        residual = expit(z) - labels
        gradient = np.r_[(residual * logits).sum() * slope, residual.sum(axis=0) + intercepts / PRIOR_SD**2]
        return value / len(labels), gradient / len(labels)

    bounds = [(np.log(0.05), np.log(20))] + [(None, None)] * logits.shape[1]
    fit = minimize(loss, np.zeros(1 + logits.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds)
    return float(np.exp(fit.x[0])), fit.x[1:]
