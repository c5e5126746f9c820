"""Makes the outputs of a trained chest network mean probabilities: one slope and 14 intercepts of its logits.

A slope common to all findings is temperature scaling (Guo et al., ICML 2017); the intercepts are Platt's (1999). Both go
into the weights of the layer ``logits``, so that nothing has to be carried beside the network. They change no AUROC.
"""

import keras
import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from models.chest_network import predict_films

PRIOR_SD = 2.0  # of an intercept: keeps it finite when the validation films show a finding always or never


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


def apply_calibration(model: keras.Model, slope: float, intercepts: np.ndarray) -> None:
    """Put slope and intercepts into the layer ``logits``."""
    layer = model.get_layer("logits")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * np.float32(slope), bias * np.float32(slope) + intercepts.astype(np.float32)])


def calibrate(model: keras.Model, parts: list[tuple[np.ndarray, np.ndarray, float, float]]) -> tuple[float, np.ndarray]:
    """Calibrate a network on films that it was not trained on.

    Parameters
    ----------
    model : keras.Model
        With a layer ``logits``; changed in place.
    parts : list of (films, labels, mean, sd)
        Films of uint8 (films, size, size), labels of 0/1, and the pixel statistics they are standardised with.

    Returns
    -------
    slope, intercepts
        What was applied.
    """
    scores = keras.Model(model.input, model.get_layer("logits").output)
    logits = np.concatenate([predict_films(scores, films, mean, sd, what="calibration") for films, _, mean, sd in parts])
    slope, intercepts = fit_calibration(logits, np.concatenate([labels for _, labels, _, _ in parts]))
    apply_calibration(model, slope, intercepts)
    return slope, intercepts
