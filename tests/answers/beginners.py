"""Answers of beginners that were thought of when the bank was full: slips and unusual ways, over all exercises."""

import math

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import ops
from scipy import ndimage

from . import right, wrong


# ---- check_for_leakage ----
@right("check_for_leakage")
def by_merge_anew(df1, df2, patient_col):
    return not df1.merge(df2, on=patient_col, how="inner").empty


@right("check_for_leakage")
def by_index(df1, df2, patient_col):
    return len(df1.set_index(patient_col).index.intersection(df2.set_index(patient_col).index)) != 0


@right("check_for_leakage")
def by_concat_of_uniques(df1, df2, patient_col):
    both = pd.concat([df1[patient_col].drop_duplicates(), df2[patient_col].drop_duplicates()])
    return both.duplicated().any()


@wrong("check_for_leakage", slip="only the first patient")
def returns_in_the_loop(df1, df2, patient_col):
    for p in df1[patient_col]:
        if p in df2[patient_col].values:
            return True
        else:
            return False
    return False


@wrong("check_for_leakage", slip="several X-rays of a patient in one table")
def concat_duplicated(df1, df2, patient_col):
    return bool(pd.concat([df1[patient_col], df2[patient_col]]).duplicated().any())


@wrong("check_for_leakage", slip="not their number")
def returns_the_count(df1, df2, patient_col):
    return len(set(df1[patient_col]).intersection(df2[patient_col]))


@wrong("check_for_leakage", slip="compared one by one")
def compares_rowwise(df1, df2, patient_col):
    n = min(len(df1), len(df2))
    return bool((df1[patient_col].values[:n] == df2[patient_col].values[:n]).any())


@wrong("check_for_leakage", slip="whole rows were compared")
def merges_on_everything(df1, df2, patient_col):
    return not df1.merge(df2).empty


@wrong("check_for_leakage", slip="not a text")
def yes_or_no(df1, df2, patient_col):
    return "True" if set(df1[patient_col]) & set(df2[patient_col]) else "False"


@wrong("check_for_leakage", slip="not all of them")
def subset(df1, df2, patient_col):
    return set(df1[patient_col]).issubset(set(df2[patient_col]))


# ---- repair_leakage ----
@right("repair_leakage")
def by_query(train, valid, patient_col):
    known = valid[patient_col].unique()  # noqa: F841  (the query sees it)
    return train.query(f"`{patient_col}` not in @known")


@right("repair_leakage")
def by_map(train, valid, patient_col):
    lookup = dict.fromkeys(valid[patient_col], True)
    return train[train[patient_col].map(lambda p: not lookup.get(p, False))]


@wrong("repair_leakage", slip="index")
def merge_indicator(train, valid, patient_col):
    m = train.merge(valid[[patient_col]].drop_duplicates(), on=patient_col, how="left", indicator=True)
    return m[m["_merge"] == "left_only"].drop(columns="_merge")


@wrong("repair_leakage", slip="these are rows of `valid`")
def removes_from_valid(train, valid, patient_col):
    return valid[~valid[patient_col].isin(train[patient_col])]


@wrong("repair_leakage", slip="return a DataFrame")
def returns_both(train, valid, patient_col):
    return train[~train[patient_col].isin(valid[patient_col])], valid


@wrong("repair_leakage", slip="changed its argument `train`")
def drops_in_place(train, valid, patient_col):
    train.drop(train[train[patient_col].isin(valid[patient_col])].index, inplace=True)
    return train


@wrong("repair_leakage", slip="several rows of one patient became one")
def set_difference_first_rows(train, valid, patient_col):
    rest = set(train[patient_col]) - set(valid[patient_col])
    return train[train[patient_col].isin(rest)].groupby(patient_col, sort=False).head(1)


@wrong("repair_leakage", slip="order")
def order_of_patients(train, valid, patient_col):
    rest = [p for p in train[patient_col].unique() if p not in set(valid[patient_col])]
    parts = [train[train[patient_col] == p] for p in rest]
    return pd.concat(parts) if parts else train.iloc[:0]


@wrong("repair_leakage", slip="changed its argument `train`")
def inplace_none(train, valid, patient_col):
    return train.drop(train[train[patient_col].isin(valid[patient_col])].index, inplace=True)


@wrong("repair_leakage", slip="nothing was removed")
def result_thrown_away(train, valid, patient_col):
    train.drop(train[train[patient_col].isin(valid[patient_col])].index)
    return train


@wrong("repair_leakage", slip="`patient_col` names")
def fixed_column(train, valid, patient_col):
    return train[~train["PatientId"].isin(valid["PatientId"])]


# ---- compute_class_freqs ----
@right("compute_class_freqs")
def by_dataframe(labels):
    table = pd.DataFrame(labels)
    return table.mean().to_numpy(), table.rsub(1).mean().to_numpy()


@right("compute_class_freqs")
def by_count_nonzero(labels):
    n = labels.shape[0]
    return np.count_nonzero(labels, axis=0) / n, np.count_nonzero(labels == 0, axis=0) / n


@right("compute_class_freqs")
def by_einsum(labels):
    f = np.einsum("nc->c", labels.astype(float)) / len(labels)
    return f, 1.0 - f


@wrong("compute_class_freqs", slip="`//`")
def floor_division(labels):
    pos = labels.sum(axis=0) // labels.shape[0]
    return pos, 1 - pos


@wrong("compute_class_freqs", slip="1 − the positive ones")
def negative_minus_one(labels):
    p = labels.mean(axis=0)
    return p, p - 1


@wrong("compute_class_freqs", slip="second ones are counts")
def negative_is_count(labels):
    p = labels.mean(axis=0)
    return p, labels.shape[0] - labels.sum(axis=0)


@wrong("compute_class_freqs", slip="return positive_frequencies, negative")
def only_positive(labels):
    return np.mean(labels, axis=0)


@wrong("compute_class_freqs", slip="percentages")
def percent(labels):
    p = 100 * labels.mean(axis=0)
    return p, 100 - p


@wrong("compute_class_freqs", slip="n − 1")
def n_minus_one(labels):
    n = len(labels) - 1
    return labels.sum(0) / n, (1 - labels).sum(0) / n


# ---- weighted loss ----
@right("get_weighted_loss")
def tf_reduce(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        y = tf.cast(y_true, tf.float32)
        p = tf.cast(y_pred, tf.float32)
        w1 = tf.constant(np.asarray(pos_weights), tf.float32)
        w0 = tf.constant(np.asarray(neg_weights), tf.float32)
        bce = -(w1 * y * tf.math.log(p + epsilon) + w0 * (1 - y) * tf.math.log(1 - p + epsilon))
        return tf.reduce_sum(tf.reduce_mean(bce, 0))

    return weighted_loss


@right("get_weighted_loss")
def where_and_einsum(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        y = ops.cast(y_true, y_pred.dtype)
        a, b = ops.log(y_pred + epsilon), ops.log(1 - y_pred + epsilon)
        n = ops.cast(ops.shape(y_pred)[0], y_pred.dtype)
        return (
            -(
                ops.einsum("nc,c->", y * a, ops.cast(pos_weights, y_pred.dtype))
                + ops.einsum("nc,c->", (1 - y) * b, ops.cast(neg_weights, y_pred.dtype))
            )
            / n
        )

    return weighted_loss


@wrong("get_weighted_loss", slip="last class only")
def forgot_second_plus_equal(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        loss = 0.0
        for i in range(len(pos_weights)):
            loss = -ops.mean(
                pos_weights[i] * y_true[:, i] * ops.log(y_pred[:, i] + epsilon)
                + neg_weights[i] * (1 - y_true[:, i]) * ops.log(1 - y_pred[:, i] + epsilon)
            )
        return loss

    return weighted_loss


@wrong("get_weighted_loss", slip="belongs into the logarithm")
def epsilon_outside_of_log(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        t = pos_weights * y_true * (ops.log(y_pred) + epsilon) + neg_weights * (1 - y_true) * (ops.log(1 - y_pred) + epsilon)
        return -ops.sum(ops.mean(t, axis=0))

    return weighted_loss


@wrong("get_weighted_loss", slip="`return` inside the loop")
def return_in_loop(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        loss = 0.0
        for i in range(len(pos_weights)):
            loss += -ops.mean(
                pos_weights[i] * y_true[:, i] * ops.log(y_pred[:, i] + epsilon)
                + neg_weights[i] * (1 - y_true[:, i]) * ops.log(1 - y_pred[:, i] + epsilon)
            )
            return loss

    return weighted_loss


@wrong("get_weighted_loss", slip="w⁻ \\(1 − y\\)")
def forgets_one_minus_y(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        y = ops.cast(y_true, y_pred.dtype)
        t = pos_weights.astype("float32") * y * ops.log(y_pred + epsilon) + neg_weights.astype("float32") * y * ops.log(
            1 - y_pred + epsilon
        )
        return -ops.sum(ops.mean(t, axis=0))

    return weighted_loss


@wrong("get_weighted_loss", slip="1 − p")
def forgets_one_minus_p(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        y = ops.cast(y_true, y_pred.dtype)
        t = pos_weights.astype("float32") * y * ops.log(y_pred + epsilon) + neg_weights.astype("float32") * (1 - y) * ops.log(
            y_pred + epsilon
        )
        return -ops.sum(ops.mean(t, axis=0))

    return weighted_loss


@wrong("get_weighted_loss", slip="missing in the second logarithm")
def one_plus_epsilon_minus_nothing(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        y = ops.cast(y_true, y_pred.dtype)
        t = pos_weights.astype("float32") * y * ops.log(y_pred + epsilon) + neg_weights.astype("float32") * (1 - y) * ops.log(
            1 - y_pred
        )
        return -ops.sum(ops.mean(t, axis=0))

    return weighted_loss


@wrong("get_weighted_loss", slip="last class is left out")
def range_minus_one(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        loss = 0.0
        for i in range(len(pos_weights) - 1):
            loss += -ops.mean(
                pos_weights[i] * y_true[:, i] * ops.log(y_pred[:, i] + epsilon)
                + neg_weights[i] * (1 - y_true[:, i]) * ops.log(1 - y_pred[:, i] + epsilon)
            )
        return loss

    return weighted_loss


@wrong("get_weighted_loss", slip="sign between")
def sign_of_first_only(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        y = ops.cast(y_true, y_pred.dtype)
        t = -pos_weights.astype("float32") * y * ops.log(y_pred + epsilon) + neg_weights.astype("float32") * (1 - y) * ops.log(
            1 - y_pred + epsilon
        )
        return ops.sum(ops.mean(t, axis=0))

    return weighted_loss


@wrong("get_weighted_loss", slip="mean over batch and classes")
def range_of_rows(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        y = ops.cast(y_true, y_pred.dtype)
        t = pos_weights.astype("float32") * y * ops.log(y_pred + epsilon) + neg_weights.astype("float32") * (1 - y) * ops.log(
            1 - y_pred + epsilon
        )
        return -ops.mean(ops.mean(t, axis=0))

    return weighted_loss


# ---- grad_cam ----
def cam(model, image, class_index, layer_name, *, out="logits", axes=(0, 1, 2), relu=True, norm=True, order=1, mult=None):
    both = keras.Model(model.inputs, [model.get_layer(layer_name).output, model.get_layer(out).output])
    with tf.GradientTape() as tape:
        a, s = both(image[None])
        loss = s[:, class_index]
    g = tape.gradient(loss, a)
    w = tf.reduce_mean(g, axis=axes)
    h = tf.reduce_sum(a[0] * w, -1)
    if relu:
        h = tf.maximum(h, 0)
    h = tf.image.resize(h[..., None], image.shape[:2])[..., 0].numpy()
    if norm:
        h = h / h.max() if h.max() > 0 else np.zeros_like(h)
    return h


@right("grad_cam")
def two_models(model, image, class_index, layer_name):
    lower = keras.Model(model.inputs, model.get_layer(layer_name).output)
    both = keras.Model(model.inputs, [model.get_layer(layer_name).output, model.get_layer("logits").output])
    x = tf.convert_to_tensor(image[np.newaxis, ...])
    with tf.GradientTape(persistent=True) as tape:
        maps, logits = both(x, training=False)
        target = tf.gather(logits[0], class_index)
    grads = tape.gradient(target, maps)[0].numpy()
    a = lower(x)[0].numpy()
    alpha = grads.reshape(-1, grads.shape[-1]).mean(0)
    heat = np.clip((a * alpha).sum(-1), 0, None)
    zoom = (image.shape[0] / heat.shape[0], image.shape[1] / heat.shape[1])
    heat = np.clip(ndimage.zoom(heat, zoom, order=1, grid_mode=True, mode="nearest"), 0, None)
    top = heat.max()
    return heat / top if top > 0 else heat


@wrong("grad_cam", slip="absolute value")
def mean_over_channels_abs(model, image, class_index, layer_name):
    return np.abs(cam(model, image, class_index, layer_name, relu=False))


@wrong("grad_cam", slip="use class_index")
def always_argmax(model, image, class_index, layer_name):
    return cam(model, image, int(np.argmax(model(image[None])[0])), layer_name)


@wrong("grad_cam", slip="logits")
def of_probabilities(model, image, class_index, layer_name):
    return cam(model, image, class_index, layer_name, out="probabilities")


@wrong("grad_cam", slip="layer_name")
def fixed_layer(model, image, class_index, layer_name):
    return cam(model, image, class_index, "late")


@wrong("grad_cam", slip="enlarge")
def not_resized(model, image, class_index, layer_name):
    both = keras.Model(model.inputs, [model.get_layer(layer_name).output, model.get_layer("logits").output])
    with tf.GradientTape() as tape:
        a, s = both(image[None])
        loss = s[:, class_index]
    w = tf.reduce_mean(tape.gradient(loss, a), axis=(0, 1, 2))
    h = np.maximum((a[0].numpy() * w.numpy()).sum(-1), 0)
    return h / h.max() if h.max() > 0 else h


@wrong("grad_cam", slip="activation × weight")
def gradient_only(model, image, class_index, layer_name):
    both = keras.Model(model.inputs, [model.get_layer(layer_name).output, model.get_layer("logits").output])
    with tf.GradientTape() as tape:
        a, s = both(image[None])
        loss = s[:, class_index]
    h = np.maximum(tape.gradient(loss, a)[0].numpy().mean(-1), 0)
    h = tf.image.resize(h[..., None], image.shape[:2])[..., 0].numpy()
    return h / h.max() if h.max() > 0 else h


@wrong("grad_cam", slip="activation × weight")
def activations_only(model, image, class_index, layer_name):
    m = keras.Model(model.inputs, model.get_layer(layer_name).output)
    h = np.maximum(m(image[None])[0].numpy().mean(-1), 0)
    h = tf.image.resize(h[..., None], image.shape[:2])[..., 0].numpy()
    return h / h.max() if h.max() > 0 else h


@wrong("grad_cam", slip="subtract no minimum")
def minmax_norm(model, image, class_index, layer_name):
    h = cam(model, image, class_index, layer_name, norm=False)
    return (h - h.min()) / (h.max() - h.min() + 1e-8)


@wrong("grad_cam", slip="shape is \\(1")
def with_batch_axis(model, image, class_index, layer_name):
    return cam(model, image, class_index, layer_name)[None]


@wrong("grad_cam", slip="divide by the maximum")
def as_bytes(model, image, class_index, layer_name):
    return (255 * cam(model, image, class_index, layer_name)).astype("uint8")


# ---- counts ----
@right("true_positives")
def by_zip_sum(y, pred, th=0.5):
    return sum(int(t) & int(p >= th) for t, p in zip(y, pred))


@right("false_negatives")
def by_set_difference(y, pred, th=0.5):
    return len(set(np.flatnonzero(y == 1)) - set(np.flatnonzero(pred >= th)))


@right("true_negatives")
def by_crosstab(y, pred, th=0.5):
    said = np.asarray(pred >= th).astype(int)
    return int(((1 - y) * (1 - said)).sum())


@right("false_positives")
def by_bitwise_xor(y, pred, th=0.5):
    said = (pred >= th).astype(int)
    return np.sum((said - y) > 0)


@wrong("true_positives", slip="this is a share")
def tp_mean(y, pred, th=0.5):
    return np.mean((pred >= th) & (y == 1))


@wrong("true_positives")
def tp_sum_pred(y, pred, th=0.5):
    return np.sum(pred[y == 1])


@wrong("true_positives", slip="brackets around each comparison")
def tp_precedence(y, pred, th=0.5):
    return np.sum(pred >= th & y == 1)


@wrong("false_positives", slip="false negatives, not")
def fp_fn(y, pred, th=0.5):
    return np.sum((pred < th) & (y == 1))


@wrong("false_positives", slip="called positive minus")
def fp_difference(y, pred, th=0.5):
    return np.sum(pred >= th) - np.sum(y == 1)


@wrong("false_negatives", slip="`>` in place of `>=`")
def fn_leq(y, pred, th=0.5):
    return np.sum((pred <= th) & (y == 1))


@wrong("true_negatives", slip="all who are healthy")
def tn_all_negative(y, pred, th=0.5):
    return np.sum(y == 0)


@wrong("true_negatives", slip="`and`, `or`")
def tn_and(y, pred, th=0.5):
    if pred < th and y == 0:
        return 1
    return 0


@wrong("false_negatives", slip="`return` missing")
def fn_forgets_return(y, pred, th=0.5):
    n = 0
    for a, b in zip(y, pred):
        if a == 1 and b < th:
            n += 1


# ---- rates ----
@right("get_accuracy")
def acc_xor(y, pred, th=0.5):
    return 1 - np.mean(np.logical_xor(y, pred >= th))


@right("get_ppv")
def ppv_pandas(y, pred, th=0.5):
    s = pd.Series(y)[pd.Series(pred) >= th]
    return s.mean()


@right("get_npv")
def npv_divide(y, pred, th=0.5):
    with np.errstate(all="ignore"):
        return np.float64(np.sum((pred < th) & (y == 0))) / np.float64(np.sum(pred < th))


@right("get_sensitivity")
def sens_masked(y, pred, th=0.5):
    m = y.astype(bool)
    return float((pred[m] >= th).mean()) if m.any() else math.nan


@right("get_specificity")
def spec_one_minus_fpr(y, pred, th=0.5):
    n = (y == 0).sum()
    return 1 - ((pred >= th) & (y == 0)).sum() / n if n else float("nan")


@wrong("get_accuracy", slip="percentage")
def acc_percent(y, pred, th=0.5):
    return 100 * ((pred >= th) == y).mean()


@wrong("get_accuracy", slip="TP divided by all")
def acc_tp_over_n(y, pred, th=0.5):
    return np.sum((pred >= th) & (y == 1)) / len(y)


@wrong("get_accuracy", slip="rounded here")
def acc_round_pred(y, pred, th=0.5):
    return np.mean(np.round(pred) == y)


@wrong("get_sensitivity", slip="this is the PPV")
def sens_ppv(y, pred, th=0.5):
    said = pred >= th
    return y[said].sum() / said.sum() if said.any() else np.nan


@wrong("get_sensitivity", slip="return np.nan")
def sens_epsilon(y, pred, th=0.5):
    return np.sum((pred >= th) & (y == 1)) / (np.sum(y == 1) + 1e-9)


@wrong("get_sensitivity", slip="this is the accuracy")
def sens_acc(y, pred, th=0.5):
    return np.mean(y == (pred >= th))


@wrong("get_specificity", slip="this is the sensitivity")
def spec_sens(y, pred, th=0.5):
    p = y == 1
    return np.mean(pred[p] >= th) if p.any() else np.nan


@wrong("get_specificity", slip="false positive rate")
def spec_fpr(y, pred, th=0.5):
    n = y == 0
    return np.mean(pred[n] >= th) if n.any() else np.nan


@wrong("get_ppv", slip="false discovery rate")
def ppv_fdr(y, pred, th=0.5):
    s = pred >= th
    return np.mean(y[s] == 0) if s.any() else np.nan


@wrong("get_ppv", slip="TP / TP \\+ FP")
def ppv_divides_last(y, pred, th=0.5):
    tp = np.sum((pred >= th) & (y == 1))
    fp = np.sum((pred >= th) & (y == 0))
    return tp / tp + fp if tp else np.nan


@wrong("get_npv", slip="this is the specificity")
def npv_spec(y, pred, th=0.5):
    n = y == 0
    return np.mean(pred[n] < th) if n.any() else np.nan


@wrong("get_npv", slip="return np.nan")
def npv_zero(y, pred, th=0.5):
    called = pred < th
    return np.mean(y[called] == 0) if called.any() else 0


@wrong("get_prevalence", slip="number of the sick")
def prev_len(y):
    return len(y[y == 1])


@wrong("get_prevalence", slip="odds")
def prev_odds(y):
    return np.sum(y == 1) / np.sum(y == 0)


@wrong("get_prevalence", slip="`//`")
def prev_floor(y):
    return sum(y) // len(y)


@right("get_prevalence")
def prev_bincount(y):
    return np.bincount(y.astype(int), minlength=2)[1] / len(y) if len(y) else float("nan")


# ---- bootstrap ----
@right("bootstrap_patients")
def boot_pandas(patient_ids, rng):
    groups = pd.Series(range(len(patient_ids))).groupby(np.asarray(patient_ids)).indices
    keys = list(groups)
    return np.hstack([groups[keys[i]] for i in rng.integers(len(keys), size=len(keys))])


@right("bootstrap_patients")
def boot_multinomial(patient_ids, rng):
    ids, inv = np.unique(patient_ids, return_inverse=True)
    times = rng.multinomial(len(ids), np.full(len(ids), 1 / len(ids)))
    return np.repeat(np.arange(len(patient_ids)), times[inv])


@wrong("bootstrap_patients", slip="patients with many rows")
def boot_choice_of_column(patient_ids, rng):
    drawn = rng.choice(patient_ids, len(np.unique(patient_ids)))
    return np.concatenate([np.flatnonzero(patient_ids == p) for p in drawn])


@wrong("bootstrap_patients", slip="with replacement")
def boot_permutation(patient_ids, rng):
    drawn = rng.permutation(np.unique(patient_ids))
    return np.concatenate([np.flatnonzero(patient_ids == p) for p in drawn])


@wrong("bootstrap_patients", slip="twice")
def boot_mask(patient_ids, rng):
    ids = np.unique(patient_ids)
    drawn = set(rng.choice(ids, len(ids)).tolist())
    return np.array([i for i, p in enumerate(patient_ids.tolist()) if p in drawn])


@wrong("bootstrap_patients", slip="every row of each draw")
def boot_first_row(patient_ids, rng):
    ids, first = np.unique(patient_ids, return_index=True)
    return first[rng.integers(0, len(ids), len(ids))]


@wrong("bootstrap_patients", slip="positions of the rows")
def boot_returns_mask(patient_ids, rng):
    ids = np.unique(patient_ids)
    return np.isin(patient_ids, rng.choice(ids, len(ids)))


@wrong("bootstrap_patients", slip="not patient numbers")
def boot_returns_ids(patient_ids, rng):
    ids = np.unique(patient_ids)
    return rng.choice(ids, len(ids))


@wrong("bootstrap_patients", slip="not with np.random")
def boot_global(patient_ids, rng):
    ids = np.unique(patient_ids)
    drawn = np.random.choice(ids, len(ids))
    return np.concatenate([np.flatnonzero(patient_ids == p) for p in drawn])


@wrong("bootstrap_patients", slip="every patient in the draw")
def boot_excludes_last(patient_ids, rng):
    ids = np.unique(patient_ids)
    drawn = [ids[rng.integers(0, max(len(ids) - 1, 1))] for _ in ids]
    return np.concatenate([np.flatnonzero(patient_ids == p) for p in drawn])


# ---- ece ----
@right("expected_calibration_error")
def ece_groupby(y, pred, n_bins=10):
    if len(y) == 0:
        return np.nan
    df = pd.DataFrame({"y": y, "p": pred, "b": np.minimum(np.floor(np.asarray(pred) * n_bins), n_bins - 1)})
    g = df.groupby("b").agg(y=("y", "mean"), p=("p", "mean"), n=("y", "size"))
    return ((g.y - g.p).abs() * g.n).sum() / len(df)


@right("expected_calibration_error")
def ece_sums(y, pred, n_bins=10):
    if not len(y):
        return float("nan")
    edges = np.linspace(0, 1, n_bins + 1)
    k = np.searchsorted(edges[1:-1], pred, side="right")
    return np.abs(np.bincount(k, y, n_bins) - np.bincount(k, pred, n_bins)).sum() / len(y)


@wrong("expected_calibration_error", slip="pd.cut")
def ece_cut(y, pred, n_bins=10):
    if len(y) == 0:
        return np.nan
    df = pd.DataFrame({"y": y, "p": pred})
    df["b"] = pd.cut(df.p, n_bins)
    return sum(len(g) / len(df) * abs(g.y.mean() - g.p.mean()) for _, g in df.groupby("b", observed=True))


@wrong("expected_calibration_error", slip="without predictions")
def ece_empty_bins_nan(y, pred, n_bins=10):
    e = 0
    k = np.minimum((pred * n_bins).astype(int), n_bins - 1)
    for b in range(n_bins):
        m = k == b
        e += m.mean() * abs(y[m].mean() - pred[m].mean())
    return e


@wrong("expected_calibration_error", slip="accuracy in the bin")
def ece_accuracy(y, pred, n_bins=10):
    if not len(y):
        return np.nan
    k = np.minimum((pred * n_bins).astype(int), n_bins - 1)
    return sum(np.mean(k == b) * abs(((pred[k == b] >= 0.5) == y[k == b]).mean() - pred[k == b].mean()) for b in np.unique(k))


@wrong("expected_calibration_error", slip="exactly 1")
def ece_half_open(y, pred, n_bins=10):
    if not len(y):
        return np.nan
    e = 0.0
    for b in range(n_bins):
        m = (pred >= b / n_bins) & (pred < (b + 1) / n_bins)
        if m.any():
            e += m.mean() * abs(y[m].mean() - pred[m].mean())
    return e


@wrong("expected_calibration_error", slip="mean over the bins")
def ece_unweighted_nbins(y, pred, n_bins=10):
    if not len(y):
        return np.nan
    k = np.minimum((pred * n_bins).astype(int), n_bins - 1)
    return np.mean([abs(y[k == b].mean() - pred[k == b].mean()) for b in np.unique(k)])


@wrong("expected_calibration_error", slip="divide by n")
def ece_counts_not_shares(y, pred, n_bins=10):
    if not len(y):
        return np.nan
    k = np.minimum((pred * n_bins).astype(int), n_bins - 1)
    return sum(np.sum(k == b) * abs(y[k == b].mean() - pred[k == b].mean()) for b in np.unique(k))


@wrong("expected_calibration_error", slip="median")
def ece_median(y, pred, n_bins=10):
    if not len(y):
        return np.nan
    k = np.minimum((pred * n_bins).astype(int), n_bins - 1)
    return sum(np.mean(k == b) * abs(y[k == b].mean() - np.median(pred[k == b])) for b in np.unique(k))


# ---- net benefit ----
@right("net_benefit")
def nb_odds(y, pred, th):
    if len(y) == 0:
        return np.nan
    alarm = pred >= th
    tp, fp = (alarm & (y == 1)).mean(), (alarm & (y == 0)).mean()
    return tp if fp == 0 else tp - fp * (np.inf if th == 1 else th / (1 - th))


@wrong("net_benefit", slip="th = 1")
def nb_plain(y, pred, th):
    n = len(y)
    if n == 0:
        return np.nan
    tp = np.sum((pred >= th) & (y == 1))
    fp = np.sum((pred >= th) & (y == 0))
    return tp / n - fp / n * th / (1 - th)


@wrong("net_benefit", slip="these are rates")
def nb_rates(y, pred, th):
    if not len(y):
        return np.nan
    p, n = y == 1, y == 0
    false_rate = np.mean(pred[n] >= th) if n.any() else 0
    true_rate = np.mean(pred[p] >= th) if p.any() else 0
    if th == 1:
        return -np.inf if false_rate else true_rate
    return true_rate - false_rate * th / (1 - th)


@wrong("net_benefit", slip="brackets")
def nb_brackets(y, pred, th):
    n = len(y)
    if n == 0:
        return np.nan
    tp = np.sum((pred >= th) & (y == 1))
    fp = np.sum((pred >= th) & (y == 0))
    if th == 1:
        return -np.inf if fp else tp / n
    return tp / n - fp / n * th / 1 - th


@wrong("net_benefit", slip="minus infinity")
def nb_zero_at_one(y, pred, th):
    n = len(y)
    if n == 0:
        return np.nan
    if th == 1:
        return 0.0
    tp = np.sum((pred >= th) & (y == 1))
    fp = np.sum((pred >= th) & (y == 0))
    return tp / n - fp / n * th / (1 - th)


@wrong("net_benefit", slip="true negatives are in place")
def nb_tn(y, pred, th):
    n = len(y)
    if n == 0:
        return np.nan
    tp = np.sum((pred >= th) & (y == 1))
    tn = np.sum((pred < th) & (y == 0))
    fp = np.sum((pred >= th) & (y == 0))
    if th == 1:
        return -np.inf if fp else tp / n
    return tp / n - tn / n * th / (1 - th)


@wrong("net_benefit", slip="difference to alarming everybody")
def nb_minus_treat_all(y, pred, th):
    n = len(y)
    if n == 0:
        return np.nan
    tp = np.sum((pred >= th) & (y == 1))
    fp = np.sum((pred >= th) & (y == 0))
    if th == 1:
        return -np.inf if fp else tp / n
    return tp / n - fp / n * th / (1 - th) - (y.mean() - (1 - y.mean()) * th / (1 - th))


# ---- positives_needed ----
@right("positives_needed")
def pn_ppf_negative(sensitivity, half_width, confidence=0.95):
    from scipy import stats

    z = -stats.norm.ppf((1 - confidence) / 2)
    n = (z / half_width) ** 2 * sensitivity * (1 - sensitivity)
    return max(-int(-n // 1), 1)


@right("positives_needed")
def pn_interval(sensitivity, half_width, confidence=0.95):
    from scipy import stats

    lo, hi = stats.norm.interval(confidence)
    return int(max(1, math.ceil((hi - lo) ** 2 / 4 * sensitivity * (1 - sensitivity) / half_width**2)))


@wrong("positives_needed", slip="at least one")
def pn_zero(sensitivity, half_width, confidence=0.95):
    from scipy.stats import norm

    return math.ceil(norm.ppf((1 + confidence) / 2) ** 2 * sensitivity * (1 - sensitivity) / half_width**2)


@wrong("positives_needed", slip="one-sided")
def pn_one_sided(sensitivity, half_width, confidence=0.95):
    from scipy.stats import norm

    return max(1, math.ceil(norm.ppf(confidence) ** 2 * sensitivity * (1 - sensitivity) / half_width**2))


@wrong("positives_needed", slip="rounded to 2")
def pn_two_sigma(sensitivity, half_width, confidence=0.95):
    return max(1, math.ceil(4 * sensitivity * (1 - sensitivity) / half_width**2))


@wrong("positives_needed", slip="one patient too many")
def pn_plus_one(sensitivity, half_width, confidence=0.95):
    from scipy.stats import norm

    return int(norm.ppf((1 + confidence) / 2) ** 2 * sensitivity * (1 - sensitivity) / half_width**2 + 1) + 1


@wrong("positives_needed", slip="inverse, norm.ppf")
def pn_cdf(sensitivity, half_width, confidence=0.95):
    from scipy.stats import norm

    return max(1, math.ceil(norm.cdf(confidence) ** 2 * sensitivity * (1 - sensitivity) / half_width**2))


@wrong("positives_needed", slip="one-sided")
def pn_alpha(sensitivity, half_width, confidence=0.95):
    from scipy.stats import norm

    return max(1, math.ceil(norm.ppf(1 - confidence) ** 2 * sensitivity * (1 - sensitivity) / half_width**2))


@wrong("positives_needed", slip="halve it again")
def pn_alpha_half_ok_but_doubled(sensitivity, half_width, confidence=0.95):
    from scipy.stats import norm

    return max(1, math.ceil((2 * norm.ppf((1 + confidence) / 2)) ** 2 * sensitivity * (1 - sensitivity) / half_width**2))


# ---- get_sub_volume ----
def sub(
    image, label, ox, oy, oz, nc, tries, bt, rng, *, off=1, axes="last", keep_bg=False, xcut=None, cmp=np.less, pick=None, none=None
):
    rng = rng or np.random.default_rng()
    for _ in range(tries):
        a, b, c = (int(rng.integers(0, f - o + off)) for f, o in zip(label.shape, (ox, oy, oz)))
        w = label[a : a + ox, b : b + oy, c : c + oz]
        if cmp(np.mean(w == 0), bt):
            x = image[a : a + ox, b : b + oy, c : c + oz] if xcut is None else xcut(image, a, b, c)
            y = (w[..., None] == np.arange(0 if keep_bg else 1, nc)).astype("float32")
            return (x, y) if axes == "last" else (np.moveaxis(x, -1, 0), np.moveaxis(y, -1, 0))
    return none


@right("get_sub_volume")
def gsv_for_else(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    generator = rng if rng is not None else np.random.default_rng()
    size = (output_x, output_y, output_z)
    tries = 0
    while tries < max_tries:
        tries += 1
        corner = [generator.choice(full - part + 1) for full, part in zip(label.shape, size)]
        box = tuple(np.s_[start : start + part] for start, part in zip(corner, size))
        mask = np.eye(max(num_classes, int(label.max()) + 1))[label[box].astype(int)]
        if mask[..., 0].sum() / mask[..., 0].size < background_threshold:
            return np.array(image[box]), mask[..., 1:num_classes]
    return None


@wrong("get_sub_volume", slip="strictly below")
def gsv_leq(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    return sub(image, label, output_x, output_y, output_z, num_classes, max_tries, background_threshold, rng, cmp=np.less_equal)


@wrong("get_sub_volume", slip="below background_threshold")
def gsv_gt(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    return sub(image, label, output_x, output_y, output_z, num_classes, max_tries, background_threshold, rng, cmp=np.greater)


@wrong("get_sub_volume", slip="channels come first")
def gsv_channels_first(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    return sub(image, label, output_x, output_y, output_z, num_classes, max_tries, background_threshold, rng, axes="first")


@wrong("get_sub_volume", slip="leave out the background")
def gsv_bg(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    return sub(image, label, output_x, output_y, output_z, num_classes, max_tries, background_threshold, rng, keep_bg=True)


@wrong("get_sub_volume", slip="never draws n|never gives n")
def gsv_last_excluded(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    return sub(image, label, output_x, output_y, output_z, num_classes, max_tries, background_threshold, rng, off=0)


@wrong("get_sub_volume", slip="same place as X")
def gsv_first_channel_only(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    return sub(
        image,
        label,
        output_x,
        output_y,
        output_z,
        num_classes,
        max_tries,
        background_threshold,
        rng,
        xcut=lambda i, a, b, c: i[:output_x, :output_y, :output_z],
    )


@wrong("get_sub_volume", slip="empty arrays")
def gsv_empty_when_none(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    return sub(image, label, output_x, output_y, output_z, num_classes, max_tries, background_threshold, rng, none=([], []))


@wrong("get_sub_volume", slip="Use num_classes")
def gsv_four(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    return sub(image, label, output_x, output_y, output_z, 4, max_tries, background_threshold, rng)


@wrong("get_sub_volume", slip="`None` still in place")
def gsv_x_none(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    X = None
    return X


@wrong("get_sub_volume", slip="one-hot")
def gsv_no_onehot(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    r = sub(image, label, output_x, output_y, output_z, num_classes, max_tries, background_threshold, rng)
    return None if r is None else (r[0], r[1].argmax(-1))


@wrong("get_sub_volume", slip="draw again")
def gsv_draws_once(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    return sub(image, label, output_x, output_y, output_z, num_classes, 1, background_threshold, rng)


@wrong("get_sub_volume", slip="rng")
def gsv_global(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    return sub(image, label, output_x, output_y, output_z, num_classes, max_tries, background_threshold, np.random.default_rng())


@wrong("get_sub_volume", slip="use the argument")
def gsv_fixed_threshold(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    return sub(image, label, output_x, output_y, output_z, num_classes, max_tries, 0.95, rng)


@wrong("get_sub_volume", slip="swapped")
def gsv_swapped(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    r = sub(image, label, output_x, output_y, output_z, num_classes, max_tries, background_threshold, rng)
    return None if r is None else (r[1], r[0])


@wrong("get_sub_volume", slip="not in the image")
def gsv_background_of_image(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    rng = rng or np.random.default_rng()
    for _ in range(max_tries):
        a, b, c = (int(rng.integers(0, f - o + 1)) for f, o in zip(label.shape, (output_x, output_y, output_z)))
        x = image[a : a + output_x, b : b + output_y, c : c + output_z]
        w = label[a : a + output_x, b : b + output_y, c : c + output_z]
        if np.mean(x == 0) < background_threshold:
            return x, (w[..., None] == np.arange(1, num_classes)).astype("float32")
    return None


# ---- standardize ----
@right("standardize")
def std_masked_array(image):
    brain = np.abs(image.astype(float)).sum(-1) > 0
    m = np.ma.array(image.astype(float), mask=~np.broadcast_to(brain[..., None], image.shape))
    mean, sd = m.mean((0, 1, 2)), m.std((0, 1, 2))
    flat = np.array([np.ptp(image[..., c][brain]) == 0 if brain.any() else True for c in range(image.shape[-1])])
    out = np.zeros(image.shape)
    for c in range(image.shape[-1]):
        if not flat[c]:
            out[..., c] = np.where(brain, (image[..., c] - mean[c]) / sd[c], 0)
    return out


@right("standardize")
def std_pandas(image):
    brain = (image != 0).any(-1)
    t = pd.DataFrame(image[brain].astype(float))
    z = (t - t.mean()) / t.std(ddof=0).where(t.nunique() > 1, np.inf)
    out = np.zeros(image.shape)
    out[brain] = z.fillna(0).to_numpy()
    return out


@wrong("standardize", slip="mean is not subtracted")
def std_no_mean(image):
    brain = (image != 0).any(-1)
    out = np.zeros(image.shape)
    for c in range(image.shape[-1]):
        v = image[..., c][brain].astype(float)
        if v.size and np.ptp(v) > 0:
            out[..., c][brain] = v / v.std()
    return out


@wrong("standardize", slip="compute in floats")
def std_keeps_dtype(image):
    brain = (image != 0).any(-1)
    out = np.zeros_like(image)
    for c in range(image.shape[-1]):
        v = image[..., c][brain].astype(float)
        if v.size and np.ptp(v) > 0:
            out[..., c][brain] = (v - v.mean()) / v.std()
    return out


@wrong("standardize", slip="do not divide by 0")
def std_no_guard(image):
    brain = (image != 0).any(-1)
    out = np.zeros(image.shape)
    for c in range(image.shape[-1]):
        v = image[..., c][brain].astype(float)
        out[..., c][brain] = (v - v.mean()) / v.std()
    return out


@wrong("standardize", slip="smallest and the largest")
def std_minmax(image):
    brain = (image != 0).any(-1)
    out = np.zeros(image.shape)
    for c in range(image.shape[-1]):
        v = image[..., c][brain].astype(float)
        if v.size and np.ptp(v) > 0:
            out[..., c][brain] = (v - v.min()) / np.ptp(v)
    return out


@wrong("standardize", slip="changed its argument")
def std_in_place(image):
    brain = (image != 0).any(-1)
    for c in range(image.shape[-1]):
        v = image[..., c][brain].astype(float)
        if v.size and np.ptp(v) > 0:
            image[..., c][brain] = (v - v.mean()) / v.std()
    return image


@wrong("standardize", slip="slice by slice")
def std_slices(image):
    out = np.zeros(image.shape)
    for c in range(image.shape[-1]):
        for z in range(image.shape[2]):
            s = image[:, :, z, c].astype(float)
            if s.std() > 0:
                out[:, :, z, c] = (s - s.mean()) / s.std()
    return out


@wrong("standardize", slip="only the first channel")
def std_only_first_channel(image):
    out = np.array(image, dtype=float)
    brain = (image != 0).any(-1)
    v = out[..., 0][brain]
    out[..., 0][brain] = (v - v.mean()) / v.std() if v.size and np.ptp(v) > 0 else 0
    return out


@wrong("standardize", slip="median")
def std_median(image):
    brain = (image != 0).any(-1)
    out = np.zeros(image.shape)
    for c in range(image.shape[-1]):
        v = image[..., c][brain].astype(float)
        if v.size and np.ptp(v) > 0:
            out[..., c][brain] = (v - np.median(v)) / v.std()
    return out


@wrong("standardize", slip="stay 0")
def std_background_shifted(image):
    brain = (image != 0).any(-1)
    out = np.zeros(image.shape)
    if not brain.any():
        return out
    v = image[brain].astype(float)
    sd = v.std(0)
    sd[np.ptp(v, axis=0) == 0] = np.inf
    return (image - v.mean(0)) / sd


# ---- dice ----
@right("single_class_dice_coefficient")
def dice_tf(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    t, p = tf.cast(y_true, tf.float32), tf.cast(y_pred, tf.float32)
    return (2 * tf.reduce_sum(t * p, axis) + epsilon) / (tf.reduce_sum(t + p, axis) + epsilon)


@right("dice_coefficient")
def dice_loop_over_last(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    t, p = (np.asarray(a, "float64") for a in (y_true, y_pred))
    return float(np.mean((2 * np.sum(t * p, axis) + epsilon) / (np.sum(t, axis) + np.sum(p, axis) + epsilon)))


@right("soft_dice_loss")
def sdl_mean_first(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    t, p = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
    d = ops.divide(2.0 * ops.sum(ops.multiply(t, p), axis) + epsilon, ops.sum(t**2 + p**2, axis) + epsilon)
    return ops.mean(1 - d)


@wrong("single_class_dice_coefficient", slip="^the default of epsilon is 1e-08 here: it should be 1e-5$")
def dice_eps8(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-8):
    return (2 * ops.sum(y_true * y_pred, axis) + epsilon) / (ops.sum(y_true, axis) + ops.sum(y_pred, axis) + epsilon)


@wrong("single_class_dice_coefficient", slip="missing in the numerator")
def dice_eps_only_below(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    return 2 * ops.sum(y_true * y_pred, axis) / (ops.sum(y_true, axis) + ops.sum(y_pred, axis) + epsilon)


@wrong("single_class_dice_coefficient", slip="lacks brackets")
def dice_brackets(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    return 2 * ops.sum(y_true * y_pred, axis) + epsilon / (ops.sum(y_true, axis) + ops.sum(y_pred, axis) + epsilon)


@wrong("single_class_dice_coefficient", slip="doubled in the numerator")
def dice_2_times_all(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    return 2 * (ops.sum(y_true * y_pred, axis) + epsilon) / (ops.sum(y_true, axis) + ops.sum(y_pred, axis) + epsilon)


@wrong("single_class_dice_coefficient", slip="denominator should be Σt \\+ Σp")
def dice_squares(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    return (2 * ops.sum(y_true * y_pred, axis) + epsilon) / (ops.sum(y_true**2, axis) + ops.sum(y_pred**2, axis) + epsilon)


@wrong("dice_coefficient", slip="sums run over everything")
def dice_no_axis(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return (2 * ops.sum(y_true * y_pred) + epsilon) / (ops.sum(y_true) + ops.sum(y_pred) + epsilon)


@wrong("dice_coefficient", slip="over which axes")
def dice_no_mean_anew(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return (2 * ops.sum(y_true * y_pred, axis) + epsilon) / (ops.sum(y_true, axis) + ops.sum(y_pred, axis) + epsilon)


@wrong("dice_coefficient", slip="divides the means")
def dice_ratio_of_means(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return (ops.mean(2 * ops.sum(y_true * y_pred, axis) + epsilon)) / ops.mean(
        ops.sum(y_true, axis) + ops.sum(y_pred, axis) + epsilon
    )


@wrong("dice_coefficient", slip="^the default of epsilon is 1e-08 here: it should be 1e-5$")
def dc_eps8(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-8):
    return ops.mean((2 * ops.sum(y_true * y_pred, axis) + epsilon) / (ops.sum(y_true, axis) + ops.sum(y_pred, axis) + epsilon))


@wrong("dice_coefficient", slip="thresholded")
def dc_rounds(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    p = ops.round(y_pred)
    return ops.mean((2 * ops.sum(y_true * p, axis) + epsilon) / (ops.sum(y_true, axis) + ops.sum(p, axis) + epsilon))


@wrong("soft_dice_loss", slip="Σt²")
def sdl_no_squares(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return 1 - ops.mean((2 * ops.sum(y_true * y_pred, axis) + epsilon) / (ops.sum(y_true, axis) + ops.sum(y_pred, axis) + epsilon))


@wrong("soft_dice_loss", slip="sums are squared")
def sdl_square_of_sums(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return 1 - ops.mean(
        (2 * ops.sum(y_true * y_pred, axis) + epsilon) / (ops.sum(y_true, axis) ** 2 + ops.sum(y_pred, axis) ** 2 + epsilon)
    )


@wrong("soft_dice_loss", slip="this is the coefficient")
def sdl_coefficient(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return ops.mean(
        (2 * ops.sum(y_true * y_pred, axis) + epsilon) / (ops.sum(y_true**2, axis) + ops.sum(y_pred**2, axis) + epsilon)
    )


@wrong("soft_dice_loss", slip="gradient")
def sdl_numpy(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    t, p = np.asarray(y_true), np.asarray(y_pred)
    return 1 - np.mean((2 * (t * p).sum(axis) + epsilon) / ((t**2).sum(axis) + (p**2).sum(axis) + epsilon))


@wrong("soft_dice_loss", slip="factor 2")
def sdl_factor(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return 1 - ops.mean(
        (ops.sum(y_true * y_pred, axis) + epsilon) / (ops.sum(y_true**2, axis) + ops.sum(y_pred**2, axis) + epsilon)
    )


@wrong("soft_dice_loss", slip="y_true is not squared")
def sdl_squares_pred_only(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return 1 - ops.mean(
        (2 * ops.sum(y_true * y_pred, axis) + epsilon) / (ops.sum(y_true, axis) + ops.sum(y_pred**2, axis) + epsilon)
    )


# ---- sens/spec of classes ----
@right("compute_class_sens_spec")
def css_confusion(pred, label, class_num):
    from sklearn.metrics import confusion_matrix

    tn, fp, fn, tp = confusion_matrix(
        label[..., class_num].ravel().astype(int), pred[..., class_num].ravel().astype(int), labels=[0, 1]
    ).ravel()
    return (tp / (tp + fn) if tp + fn else np.nan), (tn / (tn + fp) if tn + fp else np.nan)


@wrong("compute_class_sens_spec", slip="argmax")
def css_argmax(pred, label, class_num):
    p, t = pred.argmax(-1) == class_num, label.argmax(-1) == class_num
    return (np.mean(p[t]) if t.any() else np.nan), (np.mean(~p[~t]) if (~t).any() else np.nan)


@wrong("compute_class_sens_spec", slip="swapped")
def css_swapped_return(pred, label, class_num):
    p, t = pred[..., class_num] == 1, label[..., class_num] == 1
    return (np.mean(~p[~t]) if (~t).any() else np.nan), (np.mean(p[t]) if t.any() else np.nan)


@wrong("compute_class_sens_spec", slip="next class")
def css_class_plus_one(pred, label, class_num):
    k = class_num + 1 if class_num + 1 < pred.shape[-1] else 0
    p, t = pred[..., k] == 1, label[..., k] == 1
    return (np.mean(p[t]) if t.any() else np.nan), (np.mean(~p[~t]) if (~t).any() else np.nan)


@wrong("compute_class_sens_spec", slip="nan, not 0")
def css_zero(pred, label, class_num):
    p, t = pred[..., class_num] == 1, label[..., class_num] == 1
    return (np.mean(p[t]) if t.any() else 0.0), (np.mean(~p[~t]) if (~t).any() else 0.0)


@wrong("compute_class_sens_spec", slip="second is the accuracy")
def css_accuracy_second(pred, label, class_num):
    p, t = pred[..., class_num] == 1, label[..., class_num] == 1
    return (np.mean(p[t]) if t.any() else np.nan), np.mean(p == t)


@wrong("compute_class_sens_spec", slip="pred and label are swapped")
def css_pred_label_swapped(pred, label, class_num):
    t, p = pred[..., class_num] == 1, label[..., class_num] == 1
    return (np.mean(p[t]) if t.any() else np.nan), (np.mean(~p[~t]) if (~t).any() else np.nan)


# ---- regions ----
@right("get_regions")
def reg_concatenate(label):
    part = label[..., np.newaxis]
    return np.concatenate([part != 0, np.logical_or(part == 2, part == 3), part == 3], axis=-1)


@right("get_regions")
def reg_lookup(label):
    table = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], bool)
    return table[label.astype(int)]


@wrong("get_regions", slip="astype\\(bool\\)")
def reg_ints(label):
    return np.stack([label > 0, label > 1, label > 2], -1).astype(int)


@wrong("get_regions", slip="without the edema")
def reg_core_1_3(label):
    return np.stack([label > 0, (label == 1) | (label == 3), label == 3], -1)


@wrong("get_regions", slip="last axis")
def reg_tuple(label):
    return label > 0, label > 1, label > 2


@wrong("get_regions", slip="another order")
def reg_reversed(label):
    return np.stack([label == 3, label >= 2, label >= 1], -1)


@wrong("get_regions", slip="BraTS")
def reg_brats(label):
    return np.stack([label > 0, (label == 1) | (label == 4), label == 4], -1)


@wrong("get_regions", slip="3, not 2")
def reg_enh_2(label):
    return np.stack([label > 0, label >= 2, label == 2], -1)


@wrong("get_regions", slip="single classes")
def reg_onehot(label):
    return label[..., None] == np.array([1, 2, 3])


# ---- lesion recall ----
@right("lesion_recall")
def les_find_objects(pred, label):
    numbered, n = ndimage.label(np.asarray(label) > 0)
    if not n:
        return float("nan")
    return float(np.mean(ndimage.maximum(np.asarray(pred) > 0, numbered, range(1, n + 1)) > 0))


@right("lesion_recall")
def les_bincount(pred, label):
    numbered, n = ndimage.label(label)
    hits = np.bincount(numbered.ravel(), weights=(np.asarray(pred) > 0).ravel().astype(float), minlength=n + 1)[1:]
    return np.count_nonzero(hits) / n if n else np.nan


@wrong("lesion_recall", slip="these are voxels")
def les_voxels(pred, label):
    s = label > 0
    return np.mean(pred[s] > 0) if s.any() else np.nan


@wrong("lesion_recall", slip="corner")
def les_26(pred, label):
    numbered, n = ndimage.label(label, np.ones((3,) * label.ndim))
    return sum(pred[numbered == k].any() for k in range(1, n + 1)) / n if n else np.nan


@wrong("lesion_recall", slip="return np.nan")
def les_one_if_none(pred, label):
    numbered, n = ndimage.label(label)
    return sum(pred[numbered == k].any() for k in range(1, n + 1)) / n if n else 1.0


@wrong("lesion_recall", slip="range\\(n\\)")
def les_range_n(pred, label):
    numbered, n = ndimage.label(label)
    return sum(pred[numbered == k].any() for k in range(n)) / n if n else np.nan


@wrong("lesion_recall", slip="last piece is left out")
def les_range_1_n(pred, label):
    numbered, n = ndimage.label(label)
    return sum(pred[numbered == k].any() for k in range(1, n)) / n if n else np.nan


@wrong("lesion_recall", slip="pieces of `pred`")
def les_precision(pred, label):
    numbered, n = ndimage.label(pred)
    return sum(label[numbered == k].any() for k in range(1, n + 1)) / n if n else np.nan


@wrong("lesion_recall", slip="background, 0")
def les_label_tuple(pred, label):
    return len(np.unique(ndimage.label(label)[0][pred > 0])) / ndimage.label(label)[1] if label.any() else np.nan


@wrong("lesion_recall", slip="pieces of the overlap")
def les_pieces_of_overlap(pred, label):
    n = ndimage.label(label)[1]
    return ndimage.label((pred > 0) & (label > 0))[1] / n if n else np.nan


# ---- up_step ----
@right("up_step")
def up_upsampling_instance_by_hand(x, skip, filters):
    x = ops.repeat(ops.repeat(ops.repeat(x, 2, 1), 2, 2), 2, 3)
    x = ops.concatenate([x, skip], -1)
    for _ in range(2):
        x = keras.layers.Conv3D(filters, 3, padding="same")(x)
        m = ops.mean(x, (1, 2, 3), keepdims=True)
        v = ops.var(x, (1, 2, 3), keepdims=True)
        x = ops.relu((x - m) / ops.sqrt(v + 1e-5))
    return x


@wrong("up_step", slip="normalise")
def up_no_norm(x, skip, filters):
    x = keras.layers.Concatenate()([keras.layers.UpSampling3D(2)(x), skip])
    for _ in range(2):
        x = keras.layers.Conv3D(filters, 3, padding="same", activation="relu")(x)
    return x


@wrong("up_step", slip="`skip` is not used")
def up_no_skip(x, skip, filters):
    x = keras.layers.Conv3DTranspose(filters, 2, strides=2)(x)
    for _ in range(2):
        x = keras.layers.GroupNormalization(groups=-1)(keras.layers.Conv3D(filters, 3, padding="same")(x))
    return x


@wrong("up_step", slip="size of `skip`")
def up_valid(x, skip, filters):
    x = keras.layers.Concatenate()([keras.layers.UpSampling3D(2)(x), skip])
    return keras.layers.GroupNormalization(groups=-1)(keras.layers.Conv3D(filters, 1)(x))[:, 1:]


@wrong("up_step", slip="enlarge x by 2")
def up_not_enlarged_anew(x, skip, filters):
    return keras.layers.GroupNormalization(groups=-1)(
        keras.layers.Conv3D(filters, 3, padding="same")(keras.layers.Concatenate()([x, skip]))
    )


@wrong("up_step", slip="filters")
def up_joined(x, skip, filters):
    return keras.layers.Concatenate()([keras.layers.UpSampling3D(2)(x), skip])


@wrong("up_step", slip="all three axes")
def up_only_two_axes(x, skip, filters):
    x = keras.layers.UpSampling3D((2, 2, 1))(x)
    x = keras.layers.Concatenate()([x, skip])
    return keras.layers.GroupNormalization(groups=-1)(keras.layers.Conv3D(filters, 3, padding="same")(x))


@wrong("up_step", slip="call it")
def up_layer(x, skip, filters):
    return keras.layers.Conv3D(filters, 3, padding="same")


@wrong("up_step", slip="`return` missing")
def up_none(x, skip, filters):
    x = keras.layers.UpSampling3D(2)(x)
