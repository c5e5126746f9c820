"""Answers of a blind trial, written from the exercises' text alone: those of which a check or its hint was wrong."""

import math

import keras
import numpy as np
import tensorflow as tf
from scipy import ndimage
from scipy.stats import norm

from . import right, wrong


@wrong("get_accuracy", slip="return np.nan")
def blind_accuracy_division_by_zero(y, pred, th=0.5):
    hits = 0
    for truth, score in zip(y, pred):
        if (score >= th) == truth:
            hits += 1
    return hits / len(y)


@right("dice_coefficient")
def blind_dice_class_by_class(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    per_class = []
    for c in range(y_true.shape[-1]):
        t, p = y_true[..., c], y_pred[..., c]
        i = keras.ops.sum(t * p, axis=axis)
        per_class.append((2 * i + epsilon) / (keras.ops.sum(t, axis=axis) + keras.ops.sum(p, axis=axis) + epsilon))
    return keras.ops.mean(keras.ops.stack(per_class))


@right("soft_dice_loss")
def blind_soft_class_by_class(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    per_class = []
    for c in range(y_true.shape[-1]):
        t, p = y_true[..., c], y_pred[..., c]
        i = keras.ops.sum(t * p, axis=axis)
        per_class.append((2 * i + epsilon) / (keras.ops.sum(t**2, axis=axis) + keras.ops.sum(p**2, axis=axis) + epsilon))
    return 1 - keras.ops.mean(keras.ops.stack(per_class))


@right("lesion_recall")
def blind_recall_flood_fill(pred, label):
    # flood fill without scipy
    todo = {tuple(map(int, v)) for v in np.argwhere(label)}
    total = hit = 0
    while todo:
        stack = [todo.pop()]
        touched = False
        while stack:
            x, y, z = stack.pop()
            if pred[x, y, z]:
                touched = True
            for d in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
                v = (x + d[0], y + d[1], z + d[2])
                if v in todo:
                    todo.remove(v)
                    stack.append(v)
        total += 1
        hit += touched
    return hit / total if total else math.nan


@wrong("check_for_leakage", slip="one is enough")
def blind_leak_two_needed(df1, df2, patient_col):
    both = set(df1[patient_col]) & set(df2[patient_col])
    return len(both) > 1


@wrong("check_for_leakage", slip="return one bool")
def blind_leak_set_of_both(df1, df2, patient_col):
    return set(df1[patient_col]).intersection(set(df2[patient_col]))


@wrong("check_for_leakage", slip="True for all tables")
def blind_leak_column_names(df1, df2, patient_col):
    return len(set(df1) & set(df2)) > 0


@wrong("check_for_leakage", slip="smallest and the largest")
def blind_leak_ranges(df1, df2, patient_col):
    a, b = df1[patient_col], df2[patient_col]
    return bool(a.max() >= b.min() and b.max() >= a.min())


@wrong("check_for_leakage", slip="place by place")
def blind_leak_sorted_zip(df1, df2, patient_col):
    u1, u2 = sorted(df1[patient_col].unique()), sorted(df2[patient_col].unique())
    for i in range(min(len(u1), len(u2))):
        if u1[i] == u2[i]:
            return True
    return False


@wrong("repair_leakage", slip="order of the rows")
def blind_repair_sorted_first(train, valid, patient_col):
    t = train.sort_values(patient_col)
    return t[~t[patient_col].isin(valid[patient_col])]


@wrong("repair_leakage", slip="blank now")
def blind_repair_blank_rows(train, valid, patient_col):
    return train.where(~train[patient_col].isin(valid[patient_col]))


@wrong("repair_leakage", slip="last patient")
def blind_repair_starts_again(train, valid, patient_col):
    out = train
    for p in valid[patient_col].unique():
        out = train[train[patient_col] != p]
    return out


@wrong("compute_class_freqs", slip="`//`")
def blind_freqs_both_integer(labels):
    n = len(labels)
    return labels.sum(axis=0) // n, (n - labels.sum(axis=0)) // n


@wrong("compute_class_freqs", slip="axis too many")
def blind_freqs_keepdims(labels):
    p = labels.mean(axis=0, keepdims=True)
    return p, 1 - p


@wrong("compute_class_freqs", slip="inside of the loop")
def blind_freqs_return_in_loop(labels):
    pos, neg = [], []
    for c in range(labels.shape[1]):
        pos.append(labels[:, c].mean())
        neg.append(1 - pos[-1])
        return np.array(pos), np.array(neg)


@wrong("compute_class_freqs", slip="n − 1")
def blind_freqs_n_minus_one(labels):
    n = labels.shape[0] - 1
    pos = labels.sum(axis=0) / n
    return pos, 1 - pos


@wrong("compute_class_freqs", slip="minus the first")
def blind_freqs_minus_positive(labels):
    positive_frequencies = labels.mean(axis=0)
    negative_frequencies = -positive_frequencies
    return positive_frequencies, negative_frequencies


@wrong("compute_class_freqs", slip="uint8")
def blind_freqs_uint8_sums(labels):
    p = labels.astype(np.uint8).sum(axis=0, dtype=np.uint8) / len(labels)
    return p, 1 - p


@wrong("compute_class_freqs", slip="last X-ray")
def blind_freqs_last_row(labels):
    pos = np.zeros(labels.shape[1])
    for i in range(labels.shape[0] - 1):
        pos += labels[i]
    pos /= labels.shape[0]
    return pos, 1 - pos


@wrong("get_weighted_loss", slip="rows are taken for classes")
def blind_loss_rows_for_classes(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        loss = 0.0
        y_true = keras.ops.cast(y_true, y_pred.dtype)
        for i in range(len(pos_weights)):
            loss -= keras.ops.mean(
                pos_weights[i] * y_true[i] * keras.ops.log(y_pred[i] + epsilon)
                + neg_weights[i] * (1 - y_true[i]) * keras.ops.log(1 - y_pred[i] + epsilon)
            )
        return loss

    return weighted_loss


@wrong("get_weighted_loss", slip="averaged each by themselves")
def blind_loss_two_means(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        y = keras.ops.cast(y_true, y_pred.dtype)
        a = keras.ops.sum(pos_weights * y * keras.ops.log(y_pred + epsilon), axis=0) / (keras.ops.sum(y, axis=0) + epsilon)
        b = keras.ops.sum(neg_weights * (1 - y) * keras.ops.log(1 - y_pred + epsilon), axis=0) / (
            keras.ops.sum(1 - y, axis=0) + epsilon
        )
        return -keras.ops.sum(a + b)

    return weighted_loss


@wrong("grad_cam", slip="not to their weights")
def blind_cam_relu_on_weights(model, image, class_index, layer_name):
    grad_model = keras.Model(model.input, [model.get_layer(layer_name).output, model.get_layer("logits").output])
    with tf.GradientTape() as tape:
        maps, out = grad_model(image[np.newaxis])
        score = out[:, class_index]
    g = tape.gradient(score, maps)[0]
    cam = tf.nn.relu(tf.reduce_sum(maps[0] * tf.nn.relu(tf.reduce_mean(g, axis=(0, 1))), axis=-1))
    cam = tf.image.resize(cam[..., None], image.shape[:2])[..., 0].numpy()
    return cam / cam.max() if cam.max() > 0 else cam


@wrong("grad_cam", slip="scores of all classes")
def blind_cam_all_scores(model, image, class_index, layer_name):
    grad_model = keras.Model(model.input, [model.get_layer(layer_name).output, model.get_layer("logits").output])
    with tf.GradientTape() as tape:
        maps, out = grad_model(image[np.newaxis])

        score = out
    g = tape.gradient(score, maps)[0]
    cam = tf.nn.relu(tf.reduce_sum(maps[0] * tf.reduce_mean(g, axis=(0, 1)), axis=-1))
    cam = tf.image.resize(cam[..., None], image.shape[:2])[..., 0].numpy()
    return cam / cam.max() if cam.max() > 0 else cam


@wrong("grad_cam", slip="np.newaxis")
def blind_cam_no_batch(model, image, class_index, layer_name):
    grad_model = keras.Model(model.input, [model.get_layer(layer_name).output, model.get_layer("logits").output])
    with tf.GradientTape() as tape:
        maps, out = grad_model(image)
        score = out[:, class_index]
    g = tape.gradient(score, maps)[0]
    cam = tf.nn.relu(tf.reduce_sum(maps[0] * tf.reduce_mean(g, axis=(0, 1)), axis=-1))
    cam = tf.image.resize(cam[..., None], image.shape[:2])[..., 0].numpy()
    return cam / cam.max() if cam.max() > 0 else cam


@wrong("grad_cam", slip="not divided by its maximum")
def blind_cam_not_divided(model, image, class_index, layer_name):
    grad_model = keras.Model(model.input, [model.get_layer(layer_name).output, model.get_layer("logits").output])
    with tf.GradientTape() as tape:
        maps, out = grad_model(image[np.newaxis])
        score = out[:, class_index]
    g = tape.gradient(score, maps)[0]
    cam = tf.nn.relu(tf.reduce_sum(maps[0] * tf.reduce_mean(g, axis=(0, 1)), axis=-1))
    return tf.image.resize(cam[..., None], image.shape[:2])[..., 0].numpy()


@wrong("grad_cam", slip="averaged over the channels")
def blind_cam_mean_over_channels_signed(model, image, class_index, layer_name):
    grad_model = keras.Model(model.input, [model.get_layer(layer_name).output, model.get_layer("logits").output])
    with tf.GradientTape() as tape:
        maps, out = grad_model(image[np.newaxis])
        score = out[:, class_index]
    g = tape.gradient(score, maps)[0]
    cam = tf.nn.relu(tf.reduce_sum(maps[0] * tf.reduce_mean(g, axis=-1, keepdims=True), axis=-1))
    cam = tf.image.resize(cam[..., None], image.shape[:2])[..., 0].numpy()
    return cam / cam.max() if cam.max() > 0 else cam


@wrong("get_prevalence", slip="return np.nan")
def blind_prevalence_division_by_zero(y):
    return sum(y) / len(y)


@wrong("bootstrap_patients", slip="positions taken")
def blind_boot_positions_for_numbers(patient_ids, rng):
    n = len(np.unique(patient_ids))
    drawn = rng.integers(0, n, n)
    return np.concatenate([np.flatnonzero(patient_ids == p) for p in drawn])


@wrong("bootstrap_patients", slip="never gives n")
def blind_boot_last_never_drawn(patient_ids, rng):
    patients = np.unique(patient_ids)
    idx = rng.integers(0, len(patients) - 1, len(patients))
    return np.concatenate([np.flatnonzero(patient_ids == patients[k]) for k in idx])


@wrong("bootstrap_patients", slip="after the loop")
def blind_boot_return_in_loop(patient_ids, rng):
    patients = np.unique(patient_ids)
    rows = []
    for p in rng.choice(patients, size=len(patients)):
        rows.extend(np.flatnonzero(patient_ids == p))
        return np.array(rows)


@wrong("positives_needed", slip="nothing is squared")
def blind_needed_no_square(sensitivity, half_width, confidence=0.95):
    z = norm.ppf((1 + confidence) / 2)
    return max(1, int(np.ceil(z * sensitivity * (1 - sensitivity) / half_width)))


@wrong("positives_needed")
def blind_needed_search_ends_early(sensitivity, half_width, confidence=0.95):
    z = norm.ppf((1 + confidence) / 2)
    for n in range(1, 1001):
        if z * np.sqrt(sensitivity * (1 - sensitivity) / n) <= half_width:
            return n


@wrong("positives_needed", slip="quantile of 1 − confidence / 2")
def blind_needed_z_of_half(sensitivity, half_width, confidence=0.95):
    z = norm.ppf(1 - confidence / 2)
    return max(1, int(np.ceil(z**2 * sensitivity * (1 - sensitivity) / half_width**2)))


@wrong("positives_needed", slip="at least one")
def blind_needed_starts_at_two(sensitivity, half_width, confidence=0.95):
    z = norm.ppf((1 + confidence) / 2)
    n = 2
    while z * np.sqrt(sensitivity * (1 - sensitivity) / n) > half_width:
        n += 1
    return n


@wrong("positives_needed", slip="√n")
def blind_needed_root_of_n(sensitivity, half_width, confidence=0.95):
    z = norm.ppf((1 + confidence) / 2)
    n = z * np.sqrt(sensitivity * (1 - sensitivity)) / half_width
    return max(1, int(np.ceil(n)))


@wrong("expected_calibration_error", slip="return np.nan")
def blind_ece_division_by_zero(y, pred, n_bins=10):
    b = np.minimum((pred * n_bins).astype(int), n_bins - 1)
    ece = 0
    for k in range(n_bins):
        m = b == k
        if m.any():
            ece += m.sum() * abs(y[m].mean() - pred[m].mean())
    return ece / len(y)


@wrong("expected_calibration_error", slip="last bin is left out")
def blind_ece_last_bin(y, pred, n_bins=10):
    if len(y) == 0:
        return np.nan
    b = np.minimum((pred * n_bins).astype(int), n_bins - 1)
    return sum((b == k).mean() * abs(y[b == k].mean() - pred[b == k].mean()) for k in range(n_bins - 1) if (b == k).any())


@wrong("expected_calibration_error", slip="inside of the loop")
def blind_ece_return_in_loop_after_first(y, pred, n_bins=10):
    if len(y) == 0:
        return np.nan
    b = np.minimum((pred * n_bins).astype(int), n_bins - 1)
    ece = 0
    for k in range(n_bins):
        if not (b == k).any():
            continue
        ece += (b == k).mean() * abs(y[b == k].mean() - pred[b == k].mean())
        return ece


@wrong("net_benefit", slip="brackets")
def blind_benefit_no_brackets(y, pred, th):
    n = len(y)
    if n == 0:
        return np.nan
    tp, fp = np.sum((y == 1) & (pred >= th)), np.sum((y == 0) & (pred >= th))
    if th == 1:
        return -np.inf if fp else tp / n
    return tp / n - fp / n * (th / 1 - th)


@wrong("net_benefit", slip="may be negative")
def blind_benefit_cut_at_zero(y, pred, th):
    n = len(y)
    if n == 0:
        return np.nan
    tp, fp = np.sum((y == 1) & (pred >= th)), np.sum((y == 0) & (pred >= th))
    if th == 1:
        return -np.inf if fp else tp / n
    return max(0, tp / n - fp / n * th / (1 - th))


@wrong("get_sub_volume", slip="return None")
def blind_patch_last_patch_anyway(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    rng = np.random.default_rng() if rng is None else rng
    orig_x, orig_y, orig_z = label.shape
    tries = 0
    while tries < max_tries:
        start_x = rng.integers(0, orig_x - output_x + 1)
        start_y = rng.integers(0, orig_y - output_y + 1)
        start_z = rng.integers(0, orig_z - output_z + 1)
        y = label[start_x : start_x + output_x, start_y : start_y + output_y, start_z : start_z + output_z]
        bgrd_ratio = np.mean(y == 0)
        tries += 1
        if bgrd_ratio < background_threshold:
            X = np.copy(image[start_x : start_x + output_x, start_y : start_y + output_y, start_z : start_z + output_z])
            y = (y[..., np.newaxis] == np.arange(1, num_classes)).astype(np.float32)
            return X, y
    return image[start_x : start_x + output_x, start_y : start_y + output_y, start_z : start_z + output_z], (
        y[..., np.newaxis] == np.arange(1, num_classes)
    ).astype(np.float32)


@wrong("standardize", slip="brackets")
def blind_z_no_brackets(image):
    inside = (image != 0).any(axis=-1)
    out = np.zeros(image.shape, dtype=float)
    for c in range(image.shape[-1]):
        v = image[..., c][inside]
        if v.size == 0:
            continue
        s = v.std()
        if s > 0:
            out[..., c][inside] = v - v.mean() / s
    return out


@wrong("standardize", slip="inside of the loop")
def blind_z_return_in_loop(image):
    inside = (image != 0).any(axis=-1)
    out = np.zeros(image.shape, dtype=float)
    for c in range(image.shape[-1]):
        v = image[..., c][inside]
        if v.size == 0:
            continue
        s = v.std()
        if s > 0:
            out[..., c][inside] = (v - v.mean()) / s
        return out


@wrong("standardize", slip="0 there is standardised")
def blind_z_zeros_stay(image):
    inside = (image != 0).any(axis=-1)
    v = image[inside].astype(float)
    out = image.astype(float).copy()
    if len(v):
        s = v.std(axis=0)
        s[s == 0] = 1
        out = (out - v.mean(axis=0)) / s
    out[image == 0] = 0
    return out


@wrong("up_step", slip="padding")
def blind_up_no_padding(x, skip, filters):
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    x = keras.layers.Concatenate()([x, skip])
    for _ in range(2):
        x = keras.layers.Conv3D(filters, 3)(x)
        x = keras.layers.GroupNormalization(groups=-1)(x)
        x = keras.layers.Activation("relu")(x)
    return x


@wrong("up_step", slip="one convolution")
def blind_up_one_convolution(x, skip, filters):
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    x = keras.layers.Concatenate()([x, skip])
    for _ in range(1):
        x = keras.layers.Conv3D(filters, 3, padding="same")(x)
        x = keras.layers.GroupNormalization(groups=-1)(x)
        x = keras.layers.Activation("relu")(x)
    return x


@wrong("up_step", slip="more than two")
def blind_up_three_convolutions(x, skip, filters):
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    x = keras.layers.Concatenate()([x, skip])
    for _ in range(3):
        x = keras.layers.Conv3D(filters, 3, padding="same")(x)
        x = keras.layers.GroupNormalization(groups=-1)(x)
        x = keras.layers.Activation("relu")(x)
    return x


@wrong("up_step", slip="each channel by itself")
def blind_up_layer_normalisation(x, skip, filters):
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    x = keras.layers.Concatenate()([x, skip])
    for _ in range(2):
        x = keras.layers.Conv3D(filters, 3, padding="same")(x)
        x = keras.layers.LayerNormalization()(x)
        x = keras.layers.Activation("relu")(x)
    return x


@wrong("up_step", slip="each channel by itself")
def blind_up_one_group(x, skip, filters):
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    x = keras.layers.Concatenate()([x, skip])
    for _ in range(2):
        x = keras.layers.Conv3D(filters, 3, padding="same")(x)
        x = keras.layers.GroupNormalization(groups=1)(x)
        x = keras.layers.Activation("relu")(x)
    return x


@wrong("up_step", slip="last step is an activation")
def blind_up_no_activation(x, skip, filters):
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    x = keras.layers.Concatenate()([x, skip])
    for _ in range(2):
        x = keras.layers.Conv3D(filters, 3, padding="same")(x)
        x = keras.layers.GroupNormalization(groups=-1)(x)
    return x


@wrong("up_step", slip="before the normalisation")
def blind_up_activation_first(x, skip, filters):
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    x = keras.layers.Concatenate()([x, skip])
    for _ in range(2):
        x = keras.layers.Conv3D(filters, 3, padding="same")(x)
        x = keras.layers.Activation("relu")(x)
        x = keras.layers.GroupNormalization(groups=-1)(x)
    return x


@wrong("up_step", slip="1×1×1")
def blind_up_kernel_of_one(x, skip, filters):
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    x = keras.layers.Concatenate()([x, skip])
    for _ in range(2):
        x = keras.layers.Conv3D(filters, 1, padding="same")(x)
        x = keras.layers.GroupNormalization(groups=-1)(x)
        x = keras.layers.Activation("relu")(x)
    return x


@wrong("up_step", slip="along all three axes")
def blind_up_flat_kernel(x, skip, filters):
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    x = keras.layers.Concatenate()([x, skip])
    for _ in range(2):
        x = keras.layers.Conv3D(filters, (3, 3, 1), padding="same")(x)
        x = keras.layers.GroupNormalization(groups=-1)(x)
        x = keras.layers.Activation("relu")(x)
    return x


@wrong("up_step", slip="inside of the loop")
def blind_up_return_in_loop(x, skip, filters):
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    x = keras.layers.Concatenate()([x, skip])
    for _ in range(2):
        x = keras.layers.Conv3D(filters, 3, padding="same")(x)
        x = keras.layers.GroupNormalization(groups=-1)(x)
        x = keras.layers.Activation("relu")(x)
        return x


@wrong("up_step", slip="one convolution")
def blind_up_second_from_the_start(x, skip, filters):
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    x = keras.layers.Concatenate()([x, skip])
    y = keras.layers.Conv3D(filters, 3, padding="same")(x)
    y = keras.layers.GroupNormalization(groups=-1)(y)
    y = keras.layers.Activation("relu")(y)
    y = keras.layers.Conv3D(filters, 3, padding="same")(x)
    y = keras.layers.GroupNormalization(groups=-1)(y)
    y = keras.layers.Activation("relu")(y)
    return y


@wrong("single_class_dice_coefficient", slip="added to the quotient")
def blind_one_dice_epsilon_on_quotient(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    inter = keras.ops.sum(y_true * y_pred, axis=axis)
    total = keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_pred, axis=axis)
    return 2 * inter / total + epsilon


@wrong("single_class_dice_coefficient", slip="lacks brackets")
def blind_one_dice_no_brackets(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    inter = keras.ops.sum(y_true * y_pred, axis=axis)
    total = keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_pred, axis=axis)
    return (2 * inter + epsilon) / total + epsilon


@wrong("single_class_dice_coefficient", slip="means over the voxels")
def blind_one_dice_means(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    inter = keras.ops.mean(y_true * y_pred, axis=axis)
    total = keras.ops.mean(y_true, axis=axis) + keras.ops.mean(y_pred, axis=axis)
    return (2 * inter + epsilon) / (total + epsilon)


@wrong("single_class_dice_coefficient", slip="lacks y_pred")
def blind_one_dice_no_prediction_below(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    inter = keras.ops.sum(y_true * y_pred, axis=axis)
    total = keras.ops.sum(y_true, axis=axis)
    return (2 * inter + epsilon) / (total + epsilon)


@wrong("single_class_dice_coefficient", slip="y_true twice")
def blind_one_dice_truth_twice(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    inter = keras.ops.sum(y_true * y_pred, axis=axis)
    total = keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_true, axis=axis)
    return (2 * inter + epsilon) / (total + epsilon)


@wrong("single_class_dice_coefficient", slip="product of the sums")
def blind_one_dice_product_of_sums(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    inter = keras.ops.sum(y_true, axis=axis) * keras.ops.sum(y_pred, axis=axis)
    total = keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_pred, axis=axis)
    return (2 * inter + epsilon) / (total + epsilon)


@wrong("dice_coefficient", slip="first class only")
def blind_dice_first_class(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    inter = keras.ops.sum(y_true * y_pred, axis=axis)
    total = keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_pred, axis=axis)
    return keras.ops.mean(((2 * inter + epsilon) / (total + epsilon))[..., 0])


@wrong("soft_dice_loss", slip="products are squared")
def blind_soft_products_squared(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    inter = keras.ops.sum((y_true * y_pred) ** 2, axis=axis)
    total = keras.ops.sum(y_true**2, axis=axis) + keras.ops.sum(y_pred**2, axis=axis)
    return 1 - keras.ops.mean((2 * inter + epsilon) / (total + epsilon))


@wrong("soft_dice_loss", slip="added up")
def blind_soft_losses_added_up(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    inter = keras.ops.sum(y_true * y_pred, axis=axis)
    total = keras.ops.sum(y_true**2, axis=axis) + keras.ops.sum(y_pred**2, axis=axis)
    return keras.ops.sum(1 - (2 * inter + epsilon) / (total + epsilon))


@wrong("soft_dice_loss", slip="whole denominator is squared")
def blind_soft_denominator_squared(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    inter = keras.ops.sum(y_true * y_pred, axis=axis)
    total = keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_pred, axis=axis)
    return 1 - keras.ops.mean((2 * inter + epsilon) / (total**2 + epsilon))


@wrong("compute_class_sens_spec", slip="last class")
def blind_rates_last_class(pred, label, class_num):
    p = pred[..., -1] == 1
    t = label[..., -1] == 1
    tp = np.sum(p & t)
    tn = np.sum(~p & ~t)
    fp = np.sum(p & ~t)
    fn = np.sum(~p & t)
    sensitivity = tp / (tp + fn) if tp + fn > 0 else np.nan
    specificity = tn / (tn + fp) if tn + fp > 0 else np.nan
    return sensitivity, specificity


@wrong("compute_class_sens_spec", slip="percentages")
def blind_rates_percent_of_both(pred, label, class_num):
    p = pred[..., class_num] == 1
    t = label[..., class_num] == 1
    tp = np.sum(p & t)
    tn = np.sum(~p & ~t)
    fp = np.sum(p & ~t)
    fn = np.sum(~p & t)
    sensitivity = 100 * tp / (tp + fn) if tp + fn > 0 else np.nan
    specificity = 100 * tn / (tn + fp) if tn + fp > 0 else np.nan
    return sensitivity, specificity


@wrong("compute_class_sens_spec", slip="false positive rate")
def blind_rates_false_positive_rate(pred, label, class_num):
    p = pred[..., class_num] == 1
    t = label[..., class_num] == 1
    tp = np.sum(p & t)
    tn = np.sum(~p & ~t)
    fp = np.sum(p & ~t)
    fn = np.sum(~p & t)
    sensitivity = tp / (tp + fn) if tp + fn > 0 else np.nan
    specificity = fp / (tn + fp) if tn + fp > 0 else np.nan
    return sensitivity, specificity


@wrong("get_regions", slip="background")
def blind_regions_background_too(label):
    wt = label >= 0
    tc = label >= 2
    et = label == 3
    return np.stack([wt, tc, et], axis=-1)


@wrong("get_regions", slip="non-enhancing")
def blind_regions_core_above_two(label):
    wt = label > 0
    tc = label > 2
    et = label == 3
    return np.stack([wt, tc, et], axis=-1)


@wrong("lesion_recall", slip="edge or a corner")
def blind_recall_corners_in_3d(pred, label):
    pieces, count = ndimage.label(label, structure=np.ones((3, 3, 3)))
    if count == 0:
        return np.nan
    found = np.unique(pieces[pred > 0])
    return np.sum(found > 0) / count


@wrong("lesion_recall", slip="more than half")
def blind_recall_more_than_half(pred, label):
    pieces, count = ndimage.label(label)
    if count == 0:
        return np.nan
    return sum(pred[pieces == k].mean() > 0.5 for k in range(1, count + 1)) / count


@wrong("lesion_recall", slip="first piece")
def blind_recall_first_piece(pred, label):
    pieces, count = ndimage.label(label)
    if count == 0:
        return np.nan
    found = 0
    for k in range(1, count + 1):
        if pred[pieces == k].any():
            found += 1
        return found / count


@wrong("lesion_recall", slip="row numbers")
def blind_recall_integer_index(pred, label):
    pieces, count = ndimage.label(label)
    if count == 0:
        return np.nan
    found = np.unique(pieces[pred])
    return np.sum(found > 0) / count


@wrong("lesion_recall", slip="each slice")
def blind_recall_by_slices(pred, label):
    found = total = 0
    for z in range(label.shape[2]):
        pieces, count = ndimage.label(label[:, :, z])
        total += count
        found += sum(pred[:, :, z][pieces == k].any() for k in range(1, count + 1))
    return found / total if total else np.nan


@wrong("check_for_leakage", slip="a number like any other")
def blind_leakage_patient_0_is_false(df1, df2, patient_col):
    return any(set(df1[patient_col]) & set(df2[patient_col]))


@wrong("bootstrap_patients")
def blind_bootstrap_numbers_only(patient_ids, rng):
    ids = np.asarray(patient_ids).astype(int)
    patients = np.unique(ids)
    return np.concatenate([np.flatnonzero(ids == drawn) for drawn in rng.choice(patients, len(patients))])


@wrong("expected_calibration_error", slip="last bin includes 1")
def blind_calibration_edges_added_up(y, pred, n_bins=10):
    total = 0.0
    for low in np.arange(0, 1, 1 / n_bins):
        inside = (pred >= low) & ((pred < low + 1 / n_bins) | (low + 1 / n_bins >= 1))
        if inside.any():
            total += inside.mean() * abs(y[inside].mean() - pred[inside].mean())
    return total


@wrong("standardize", slip="middle of the brain")
def blind_standardize_fills_holes(image):
    brain = ndimage.binary_fill_holes((image != 0).any(axis=-1))
    result = np.zeros(image.shape)
    for channel in range(image.shape[-1]):
        values = image[..., channel][brain].astype(float)
        if values.size and values.std() > 0:
            result[..., channel][brain] = (values - values.mean()) / values.std()
    return result


@wrong("up_step", slip="across the batch")
def blind_up_step_normalises_the_batch(x, skip, filters):
    x = keras.layers.UpSampling3D(2)(x)
    x = keras.layers.Concatenate()([skip, x])
    for _ in range(2):
        x = keras.layers.Conv3D(filters, 3, padding="same")(x)
        x = keras.layers.BatchNormalization()(x, training=True)
        x = keras.layers.LeakyReLU(0.01)(x)
    return x


@wrong("dice_coefficient", slip="empty in both")
def blind_dice_without_empty_classes(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    t, p = np.asarray(y_true, float), np.asarray(y_pred, float)
    each = (2 * (t * p).sum(axis) + epsilon) / (t.sum(axis) + p.sum(axis) + epsilon)
    there = (t + p).sum(axis) > 0
    return each[there].mean() if there.any() else each.mean()


@wrong("compute_class_sens_spec")
def blind_rates_of_differences(pred, label, class_num):
    p, t = pred[..., class_num], label[..., class_num]
    fp, fn = np.sum(t - p == -1), np.sum(p - t == -1)
    tp, tn = np.sum((p == 1) & (t == 1)), np.sum((p == 0) & (t == 0))
    return (tp / (tp + fn) if tp + fn else np.nan), (tn / (tn + fp) if tn + fp else np.nan)


@wrong("lesion_recall", slip="box around the piece")
def blind_recall_in_boxes(pred, label):
    pieces, count = ndimage.label(label)
    return np.mean([pred[box].any() for box in ndimage.find_objects(pieces)]) if count else np.nan


@wrong("lesion_recall", slip="fills the mask")
def blind_recall_always_a_background(pred, label):
    pieces, count = ndimage.label(label)
    return (len(np.unique(pieces * (pred > 0))) - 1) / count if count else np.nan


@wrong("bootstrap_patients", slip="whatever was drawn before")
def blind_bootstrap_half_of_them_twice(patient_ids, rng):
    ids = rng.permutation(np.unique(patient_ids))
    half = len(ids) // 2
    drawn = [*np.repeat(ids[:half], 2), *ids[half : half + len(ids) % 2]]
    return np.concatenate([np.flatnonzero(np.asarray(patient_ids) == one) for one in drawn])


@wrong("repair_leakage", slip="no dropna")
def blind_repair_known_ages_only(train, valid, patient_col):
    return train[~train[patient_col].isin(valid[patient_col])].dropna()


@wrong("repair_leakage", slip="no drop_duplicates")
def blind_repair_equal_rows_once(train, valid, patient_col):
    return train[~train[patient_col].isin(valid[patient_col])].drop_duplicates()


@wrong("positives_needed", slip="give up")
def blind_needed_search_to_10000(sensitivity, half_width, confidence=0.95):
    z = norm.ppf((1 + confidence) / 2)
    return next((n for n in range(1, 10_001) if z * np.sqrt(sensitivity * (1 - sensitivity) / n) <= half_width), 10_000)


@wrong("standardize", slip="cut off")
def blind_standardize_clipped(image):
    brain, result = (image != 0).any(axis=-1), np.zeros(image.shape)
    if brain.any():
        values = image[brain].astype(float)
        varies = values.std(axis=0) > 0
        result[brain] = np.clip((values - values.mean(axis=0)) * varies / np.where(varies, values.std(axis=0), 1), -5, 5)
    return result


def _blind_up(enlarge, join, kernels=(3, 3), normalised=(True, True), activation="relu"):
    def up_step(x, skip, filters):
        x = join(enlarge(x, filters), skip, filters)
        for kernel, normal in zip(kernels, normalised):
            x = keras.layers.Conv3D(filters, kernel, padding="same")(x)
            x = keras.layers.GroupNormalization(groups=-1)(x) if normal else x
            x = keras.layers.Activation(activation)(x)
        return x

    return up_step


def _learned(x, filters, kernel=2):
    return keras.layers.Conv3DTranspose(filters, kernel, strides=2, padding="same")(x)


def _joined(x, skip, filters):
    return keras.layers.Concatenate()([x, skip])


right("up_step", "blind_up_larger_kernel")(_blind_up(lambda x, n: _learned(x, n, 4), _joined, activation="swish"))
for name, (answer, slip) in {
    "added": (_blind_up(_learned, lambda x, skip, n: x + keras.layers.Conv3D(n, 1)(skip)), "were added"),
    "tiled": (_blind_up(lambda x, n: keras.ops.tile(x, (1, 2, 2, 2, 1)), _joined), "in its own place"),
    "kernels_5_and_1": (_blind_up(_learned, _joined, (5, 1)), "not its neighbours"),
    "kernels_1_and_5": (_blind_up(_learned, _joined, (1, 5)), "1×1×1 kernel"),
    "normalised_at_the_end_only": (_blind_up(_learned, _joined, normalised=(False, True)), "after the first convolution"),
}.items():
    wrong("up_step", f"blind_up_{name}", slip=slip)(answer)
