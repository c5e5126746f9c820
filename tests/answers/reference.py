"""A model solution for each exercise: what the lessons may take over, and what every check must accept."""

import math

import keras
import numpy as np
import pandas as pd
from keras import ops
from scipy import ndimage
from scipy.stats import norm

# ---- notebook 01 ----------------------------------------------------------------------------------------------------


def check_for_leakage(df1: pd.DataFrame, df2: pd.DataFrame, patient_col: str) -> bool:
    return bool(df1[patient_col].isin(df2[patient_col]).any())


def repair_leakage(train: pd.DataFrame, valid: pd.DataFrame, patient_col: str) -> pd.DataFrame:
    return train[~train[patient_col].isin(valid[patient_col])]


def compute_class_freqs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positive_frequencies = labels.mean(axis=0)
    negative_frequencies = 1 - positive_frequencies
    return positive_frequencies, negative_frequencies


def get_weighted_loss(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        y_true = ops.cast(y_true, y_pred.dtype)
        positive = ops.cast(pos_weights, y_pred.dtype) * y_true * ops.log(y_pred + epsilon)
        negative = ops.cast(neg_weights, y_pred.dtype) * (1 - y_true) * ops.log(1 - y_pred + epsilon)
        return -ops.sum(ops.mean(positive + negative, axis=0))

    return weighted_loss


def grad_cam(model, image, class_index, layer_name):
    import tensorflow as tf

    layer, logits = model.get_layer(layer_name), model.get_layer("logits")
    both = keras.Model(model.input, [layer.output, logits.output])
    with tf.GradientTape() as tape:
        activations, scores = both(image[np.newaxis])
        score = scores[0, class_index]
    gradient = tape.gradient(score, activations)
    weights = ops.mean(gradient, axis=(0, 1, 2))
    heat_map = ops.relu(ops.sum(activations[0] * weights, axis=-1))
    heat_map = ops.image.resize(heat_map[..., None], image.shape[:2], interpolation="bilinear")[..., 0]
    heat_map = ops.convert_to_numpy(heat_map)
    highest = heat_map.max()
    return heat_map / highest if highest > 0 else heat_map


# ---- notebook 02 ----------------------------------------------------------------------------------------------------


def true_positives(y, pred, th=0.5):
    return np.sum((pred >= th) & (y == 1))


def true_negatives(y, pred, th=0.5):
    return np.sum((pred < th) & (y == 0))


def false_positives(y, pred, th=0.5):
    return np.sum((pred >= th) & (y == 0))


def false_negatives(y, pred, th=0.5):
    return np.sum((pred < th) & (y == 1))


def get_accuracy(y, pred, th=0.5):
    return np.mean((pred >= th) == y)


def get_prevalence(y):
    return np.mean(y)


def get_sensitivity(y, pred, th=0.5):
    sick = np.sum(y == 1)
    return true_positives(y, pred, th) / sick if sick else np.nan


def get_specificity(y, pred, th=0.5):
    healthy = np.sum(y == 0)
    return true_negatives(y, pred, th) / healthy if healthy else np.nan


def get_ppv(y, pred, th=0.5):
    called_positive = np.sum(pred >= th)
    return true_positives(y, pred, th) / called_positive if called_positive else np.nan


def get_npv(y, pred, th=0.5):
    called_negative = np.sum(pred < th)
    return true_negatives(y, pred, th) / called_negative if called_negative else np.nan


def bootstrap_patients(patient_ids, rng):
    patients = np.unique(patient_ids)
    drawn = rng.choice(patients, size=len(patients), replace=True)
    return np.concatenate([np.flatnonzero(patient_ids == patient) for patient in drawn])


def expected_calibration_error(y, pred, n_bins=10):
    if len(y) == 0:
        return np.nan
    bins = np.minimum((pred * n_bins).astype(int), n_bins - 1)  # a prediction of exactly 1 belongs to the last bin
    error = 0.0
    for k in range(n_bins):
        inside = bins == k
        if inside.any():
            error += inside.mean() * abs(y[inside].mean() - pred[inside].mean())
    return error


def net_benefit(y, pred, th):
    if len(y) == 0:
        return np.nan
    tp, fp = true_positives(y, pred, th), false_positives(y, pred, th)
    if th == 1:
        return -np.inf if fp else tp / len(y)
    return tp / len(y) - fp / len(y) * th / (1 - th)


def positives_needed(sensitivity, half_width, confidence=0.95):
    z = norm.ppf((1 + confidence) / 2)
    return max(1, math.ceil(z**2 * sensitivity * (1 - sensitivity) / half_width**2))


# ---- notebook 03 ----------------------------------------------------------------------------------------------------


def get_sub_volume(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    rng = np.random.default_rng() if rng is None else rng
    size = np.array([output_x, output_y, output_z])
    for _ in range(max_tries):
        start = rng.integers(0, np.array(label.shape) - size, endpoint=True)
        window = tuple(slice(a, a + n) for a, n in zip(start, size))
        classes = label[window]
        if np.mean(classes == 0) < background_threshold:
            one_hot = classes[..., np.newaxis] == np.arange(1, num_classes)
            return image[window].copy(), one_hot.astype(np.float32)
    return None


def standardize(image):
    brain = (image != 0).any(axis=-1)
    standardized = np.zeros(image.shape, dtype=np.float32)
    if not brain.any():
        return standardized
    values = image[brain].astype(np.float64)  # (voxels, channels)
    centred = values - values.mean(axis=0)
    varies = (values != values[0]).any(axis=0)  # the sd of equal numbers is not always exactly 0
    standardized[brain] = np.divide(centred, values.std(axis=0), out=np.zeros_like(centred), where=varies)
    return standardized


def up_step(x, skip, filters):
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    x = keras.layers.Concatenate()([skip, x])
    for _ in range(2):
        x = keras.layers.Conv3D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.GroupNormalization(groups=-1)(x)
        x = keras.layers.LeakyReLU(0.01)(x)
    return x


def single_class_dice_coefficient(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    overlap = ops.sum(y_true * y_pred, axis=axis)
    return (2 * overlap + epsilon) / (ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis) + epsilon)


def dice_coefficient(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    overlap = ops.sum(y_true * y_pred, axis=axis)
    return ops.mean((2 * overlap + epsilon) / (ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis) + epsilon))


def soft_dice_loss(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    overlap = ops.sum(y_true * y_pred, axis=axis)
    squares = ops.sum(ops.square(y_true), axis=axis) + ops.sum(ops.square(y_pred), axis=axis)
    return 1 - ops.mean((2 * overlap + epsilon) / (squares + epsilon))


def compute_class_sens_spec(pred, label, class_num):
    said, true = pred[..., class_num] == 1, label[..., class_num] == 1
    sick, healthy = np.sum(true), np.sum(~true)
    sensitivity = np.sum(said & true) / sick if sick else np.nan
    specificity = np.sum(~said & ~true) / healthy if healthy else np.nan
    return sensitivity, specificity


def lesion_recall(pred, label):
    pieces, n = ndimage.label(label)
    found = np.setdiff1d(pieces[pred > 0], 0)
    return len(found) / n if n else np.nan


def get_regions(label):
    return np.stack([label > 0, label >= 2, label == 3], axis=-1)
