"""Answers to the exercises of notebook 01, right and wrong."""

import cv2
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import ops
from scipy import ndimage

from . import right, wrong

# ---- check_for_leakage ----------------------------------------------------------------------------------------------


@right("check_for_leakage")
def by_sets(df1, df2, patient_col):
    return len(set(df1[patient_col]) & set(df2[patient_col])) > 0


@right("check_for_leakage")
def by_numpy(df1, df2, patient_col):
    return np.isin(df1[patient_col].to_numpy(), df2[patient_col].to_numpy()).any()  # np.bool_


@right("check_for_leakage")
def by_intersect1d(df1, df2, patient_col):
    return np.intersect1d(df1[patient_col].astype(str), df2[patient_col].astype(str)).size > 0


@right("check_for_leakage")
def by_loops(df1, df2, patient_col):
    for one in df1[patient_col].values:
        for other in df2[patient_col].values:
            if one == other:
                return True
    return False


@right("check_for_leakage")
def by_merge(df1, df2, patient_col):
    if df1.empty or df2.empty:
        return False
    return not pd.merge(df1, df2, on=patient_col, how="inner").empty


@right("check_for_leakage")
def by_plain_merge(df1, df2, patient_col):
    return len(df1.merge(df2, on=patient_col)) > 0


@right("check_for_leakage")
def by_disjoint(df1, df2, patient_col):
    return not set(df1[patient_col].tolist()).isdisjoint(df2[patient_col].tolist())


@right("check_for_leakage")
def zero_dimensional(df1, df2, patient_col):
    return np.array(df1[patient_col].isin(df2[patient_col]).sum() > 0)


@wrong("check_for_leakage")
def always_true(df1, df2, patient_col):
    return True


@wrong("check_for_leakage")
def always_false(df1, df2, patient_col):
    return False


@wrong("check_for_leakage")
def inverted(df1, df2, patient_col):
    return set(df1[patient_col]).isdisjoint(df2[patient_col])


@wrong("check_for_leakage")
def fixed_column(df1, df2, patient_col):
    return bool(df1["PatientId"].isin(df2["PatientId"]).any())


@wrong("check_for_leakage")
def any_column(df1, df2, patient_col):
    return bool(np.isin(df1.values.astype(str), df2.values.astype(str)).any())


@wrong("check_for_leakage")
def first_column_compared(df1, df2, patient_col):
    return bool(df1.iloc[:, 0].isin(df2.iloc[:, 0]).any())


@wrong("check_for_leakage")
def row_by_row(df1, df2, patient_col):
    n = min(len(df1), len(df2))
    return bool((df1[patient_col].values[:n] == df2[patient_col].values[:n]).any())


@wrong("check_for_leakage")
def in_looks_at_index(df1, df2, patient_col):
    return any(patient in df2[patient_col] for patient in df1[patient_col])


@wrong("check_for_leakage")
def returns_the_set(df1, df2, patient_col):
    return set(df1[patient_col]) & set(df2[patient_col])


@wrong("check_for_leakage")
def returns_the_number(df1, df2, patient_col):
    return len(set(df1[patient_col]) & set(df2[patient_col]))


@wrong("check_for_leakage")
def returns_the_series(df1, df2, patient_col):
    return df1[patient_col].isin(df2[patient_col])


@wrong("check_for_leakage")
def all_patients(df1, df2, patient_col):
    return bool(df1[patient_col].isin(df2[patient_col]).all())


@wrong("check_for_leakage")
def same_sets(df1, df2, patient_col):
    return set(df1[patient_col]) == set(df2[patient_col])


@wrong("check_for_leakage")
def more_than_one(df1, df2, patient_col):
    return len(set(df1[patient_col]) & set(df2[patient_col])) > 1


@wrong("check_for_leakage")
def duplicates_of_both(df1, df2, patient_col):
    return bool(pd.concat([df1, df2])[patient_col].duplicated().any())


@wrong("check_for_leakage")
def index_join(df1, df2, patient_col):
    return bool(df1.join(df2, lsuffix="_1", rsuffix="_2", how="inner").shape[0] > 0)


@wrong("check_for_leakage")
def return_in_the_loop(df1, df2, patient_col):
    others = set(df2[patient_col])
    for patient in df1[patient_col]:
        return patient in others
    return False


@wrong("check_for_leakage")
def no_false(df1, df2, patient_col):
    if df1[patient_col].isin(df2[patient_col]).any():
        return True


@wrong("check_for_leakage")
def substring(df1, df2, patient_col):
    text = " ".join(map(str, df2[patient_col]))
    return any(str(patient) in text for patient in df1[patient_col])


@wrong("check_for_leakage")
def sorts_in_place(df1, df2, patient_col):
    df1.sort_values(patient_col, ascending=False, inplace=True)
    return bool(df1[patient_col].isin(df2[patient_col]).any())


@wrong("check_for_leakage")
def drops_duplicates_in_place(df1, df2, patient_col):
    df2.drop_duplicates(subset=patient_col, inplace=True)
    return bool(df1[patient_col].isin(df2[patient_col]).any())


@wrong("check_for_leakage")
def adds_a_column(df1, df2, patient_col):
    df1["leak"] = df1[patient_col].isin(df2[patient_col])
    return bool(df1["leak"].any())


@wrong("check_for_leakage")
def text_answer(df1, df2, patient_col):
    return "leakage" if df1[patient_col].isin(df2[patient_col]).any() else "no leakage"


# ---- repair_leakage -------------------------------------------------------------------------------------------------


@right("repair_leakage")
def repair_by_sets(train, valid, patient_col):
    known = set(valid[patient_col])
    return train[[patient not in known for patient in train[patient_col]]]


@right("repair_leakage")
def repair_by_drop(train, valid, patient_col):
    result = train.copy()
    return result.drop(result[result[patient_col].isin(valid[patient_col].unique())].index)


@right("repair_leakage")
def repair_by_numpy(train, valid, patient_col):
    return train.iloc[np.flatnonzero(~np.isin(train[patient_col].to_numpy(), valid[patient_col].to_numpy()))].copy()


@right("repair_leakage")
def repair_by_loop(train, valid, patient_col):
    keep = []
    for label, patient in train[patient_col].items():
        if not (valid[patient_col] == patient).any():
            keep.append(label)
    return train.loc[keep]


@right("repair_leakage")
def repair_by_query(train, valid, patient_col):
    return train.query(f"`{patient_col}` not in @known", local_dict={"known": valid[patient_col].tolist()})


def _kept(train, valid, patient_col):
    return train[~train[patient_col].isin(valid[patient_col])]


def _repairs_in_place(train, valid, patient_col):
    train.drop(train.index[train[patient_col].isin(valid[patient_col])], inplace=True)
    return train


for name, (answer, slip) in {
    "nothing_removed": (lambda t, v, c: t.copy(), "nothing was removed"),
    "only_the_shared": (lambda t, v, c: t[t[c].isin(v[c])], "whose patient is in `valid`"),
    "cleans_valid": (lambda t, v, c: v[~v[c].isin(t[c])], "rows of `valid`"),
    "returns_valid": (lambda t, v, c: v, "`valid`"),
    "resets_the_index": (lambda t, v, c: _kept(t, v, c).reset_index(drop=True), "index"),
    "keeps_the_old_index_as_a_column": (lambda t, v, c: _kept(t, v, c).reset_index(), "columns"),
    "sorts": (lambda t, v, c: _kept(t, v, c).sort_values(c), "order"),
    "one_row_per_patient": (lambda t, v, c: _kept(t, v, c).drop_duplicates(c), "several rows"),
    "first_row_of_each": (lambda t, v, c: t[~(t[c].isin(v[c]) & ~t[c].duplicated())], "first row"),
    "by_row_label": (lambda t, v, c: t.drop(v.index, errors="ignore"), "row label"),
    "fixed_column": (lambda t, v, c: _kept(t, v, "PatientId"), "patient_col|KeyError|column"),
    "drops_the_column": (lambda t, v, c: _kept(t, v, c).drop(columns=c), "columns"),
    "only_the_ids": (lambda t, v, c: _kept(t, v, c)[c], "DataFrame"),
    "a_mask": (lambda t, v, c: ~t[c].isin(v[c]), "DataFrame"),
    "joined": (lambda t, v, c: pd.concat([_kept(t, v, c), v]), "joined|rows of `train`"),
    "both_tables": (lambda t, v, c: (_kept(t, v, c), v), "DataFrame"),
    "in_place": (_repairs_in_place, "changed its argument"),
    "nothing_returned": (lambda t, v, c: None, "return"),
    "compares_row_by_row": (lambda t, v, c: t[[i >= len(v) or v[c].iloc[i] != p for i, p in enumerate(t[c])]], None),
    "anti_merge": (
        lambda t, v, c: (
            t.merge(v[[c]].drop_duplicates(), on=c, how="left", indicator=True)
            .query("_merge == 'left_only'")
            .drop(columns="_merge")
        ),
        None,
    ),
    "empty": (lambda t, v, c: t.iloc[:0], None),
    "text": (lambda t, v, c: t[[str(p) not in " ".join(map(str, v[c])) for p in t[c]]], None),
    "first_column": (lambda t, v, c: t[~t.iloc[:, 0].isin(v.iloc[:, 0])], None),
}.items():
    wrong("repair_leakage", f"repair_{name}", slip=slip)(answer)


# ---- compute_class_freqs --------------------------------------------------------------------------------------------


@right("compute_class_freqs")
def freqs_by_sums(labels):
    n = labels.shape[0]
    return np.sum(labels, axis=0) / n, np.sum(labels == 0, axis=0) / n


@right("compute_class_freqs")
def freqs_by_loops(labels):
    positive = [sum(int(row[c]) for row in labels) / len(labels) for c in range(len(labels[0]))]
    return positive, [1 - share for share in positive]


@right("compute_class_freqs")
def freqs_by_pandas(labels):
    frame = pd.DataFrame(labels)
    return frame.mean(), (frame == 0).mean()


@right("compute_class_freqs")
def freqs_as_one_array(labels):
    return np.array([np.mean(labels == 1, axis=0), np.mean(labels == 0, axis=0)])


@right("compute_class_freqs")
def freqs_by_keras(labels):
    positive = ops.mean(ops.cast(labels, "float32"), axis=0)
    return positive, 1.0 - positive


@right("compute_class_freqs")
def freqs_as_a_list(labels):
    return [np.count_nonzero(labels, axis=0) / len(labels), 1 - np.count_nonzero(labels, axis=0) / len(labels)]


@wrong("compute_class_freqs")
def freqs_swapped(labels):
    return 1 - labels.mean(0), labels.mean(0)


@wrong("compute_class_freqs")
def freqs_counts(labels):
    return labels.sum(0), (1 - labels).sum(0)


@wrong("compute_class_freqs")
def freqs_wrong_axis(labels):
    return labels.mean(1), 1 - labels.mean(1)


@wrong("compute_class_freqs")
def freqs_overall(labels):
    return labels.mean(), 1 - labels.mean()


@wrong("compute_class_freqs")
def freqs_by_number_of_classes(labels):
    return labels.sum(0) / labels.shape[1], (1 - labels).sum(0) / labels.shape[1]


@wrong("compute_class_freqs")
def freqs_positive_only(labels):
    return labels.mean(0)


@wrong("compute_class_freqs")
def freqs_by_size(labels):
    return labels.sum(0) / labels.size, (1 - labels).sum(0) / labels.size


@wrong("compute_class_freqs")
def freqs_share_of_positives(labels):
    return labels.sum(0) / labels.sum(), (labels == 0).sum(0) / (labels == 0).sum()


@wrong("compute_class_freqs")
def freqs_same_twice(labels):
    return labels.mean(0), labels.mean(0)


@wrong("compute_class_freqs")
def freqs_negative_is_minus(labels):
    return labels.mean(0), -labels.mean(0)


@wrong("compute_class_freqs")
def freqs_sample_variance_habit(labels):
    return labels.sum(0) / (len(labels) - 1), 1 - labels.sum(0) / (len(labels) - 1)


@wrong("compute_class_freqs")
def freqs_constant(labels):
    return np.full(labels.shape[1], 0.5), np.full(labels.shape[1], 0.5)


@wrong("compute_class_freqs")
def freqs_inverted_in_place(labels):
    positive = labels.mean(0)
    labels -= 1
    return positive, -labels.mean(0)


@wrong("compute_class_freqs")
def freqs_odds(labels):
    return labels.sum(0) / (labels == 0).sum(0), (labels == 0).sum(0) / labels.sum(0)


@wrong("compute_class_freqs")
def freqs_integer_division(labels):
    return labels.sum(0) // len(labels), (1 - labels).sum(0) // len(labels)


@wrong("compute_class_freqs")
def freqs_column_shape(labels):
    return labels.mean(0, keepdims=True), 1 - labels.mean(0, keepdims=True)


@wrong("compute_class_freqs")
def freqs_rounded(labels):
    return np.round(labels.mean(0), 2), np.round(1 - labels.mean(0), 2)


@wrong("compute_class_freqs")
def freqs_dictionary(labels):
    return {"positive": labels.mean(0), "negative": 1 - labels.mean(0)}


# ---- get_weighted_loss ----------------------------------------------------------------------------------------------


@right("get_weighted_loss")
def loss_by_a_loop_over_classes(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        loss = 0.0
        for i in range(len(pos_weights)):
            positive = pos_weights[i] * y_true[:, i] * ops.log(y_pred[:, i] + epsilon)
            negative = neg_weights[i] * (1 - y_true[:, i]) * ops.log(1 - y_pred[:, i] + epsilon)
            loss += -ops.mean(positive + negative)
        return loss

    return weighted_loss


@right("get_weighted_loss")
def loss_two_means(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        loss = 0.0
        for i in range(len(pos_weights)):
            loss -= ops.mean(pos_weights[i] * y_true[:, i] * ops.log(y_pred[:, i] + epsilon))
            loss -= ops.mean(neg_weights[i] * (1 - y_true[:, i]) * ops.log(1 - y_pred[:, i] + epsilon))
        return loss

    return weighted_loss


@right("get_weighted_loss")
def loss_sum_over_n(pos_weights, neg_weights, epsilon=1e-7):
    pos, neg = np.asarray(pos_weights, "float32"), np.asarray(neg_weights, "float32")

    def weighted_loss(y_true, y_pred):
        terms = pos * y_true * ops.log(y_pred + epsilon) + neg * (1.0 - y_true) * ops.log(1.0 - y_pred + epsilon)
        return -ops.sum(terms) / ops.shape(y_pred)[0]

    return weighted_loss


@right("get_weighted_loss")
def loss_in_tensorflow(pos_weights, neg_weights, epsilon=1e-7):
    pos, neg = tf.constant(pos_weights, tf.float32), tf.constant(neg_weights, tf.float32)

    def weighted_loss(y_true, y_pred):
        y_true = tf.cast(y_true, tf.float32)
        likelihood = pos * y_true * tf.math.log(y_pred + epsilon) + neg * (1 - y_true) * tf.math.log(1 - y_pred + epsilon)
        return tf.reduce_sum(tf.reduce_mean(-likelihood, axis=0))

    return weighted_loss


@right("get_weighted_loss")
def loss_by_where(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        y_true = ops.cast(y_true, "float64")
        y_pred = ops.cast(y_pred, "float64")
        terms = ops.where(y_true > 0.5, pos_weights * ops.log(y_pred + epsilon), neg_weights * ops.log(1 - y_pred + epsilon))
        return -ops.mean(terms) * y_pred.shape[-1]

    return weighted_loss


@right("get_weighted_loss")
def loss_with_numpy_weights(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        positive = pos_weights * y_true * ops.log(y_pred + epsilon)
        return -ops.mean(ops.sum(positive + neg_weights * (1 - y_true) * ops.log(1 + epsilon - y_pred), axis=-1))

    return weighted_loss


@right("get_weighted_loss")
def loss_as_a_tf_function(pos_weights, neg_weights, epsilon=1e-7):
    return tf.function(loss_by_a_loop_over_classes(pos_weights, neg_weights, epsilon))


@right("get_weighted_loss")
def loss_as_a_class(pos_weights, neg_weights, epsilon=1e-7):
    class WeightedLoss:
        def __call__(self, y_true, y_pred):
            from .reference import get_weighted_loss

            return get_weighted_loss(pos_weights, neg_weights, epsilon)(y_true, y_pred)

    return WeightedLoss()


@right("get_weighted_loss")
def loss_as_a_keras_loss(pos_weights, neg_weights, epsilon=1e-7):
    from .reference import get_weighted_loss

    class WeightedLoss(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return get_weighted_loss(pos_weights, neg_weights, epsilon)(y_true, y_pred)

    return WeightedLoss(reduction=None)


def _loss(terms, reduce=lambda t: ops.sum(ops.mean(t, axis=0))):
    """An answer to get_weighted_loss of the formula terms(y, p, w⁺, w⁻, ε)."""

    def get_weighted_loss(pos_weights, neg_weights, epsilon=1e-7):
        def weighted_loss(y_true, y_pred):
            pos, neg = ops.cast(pos_weights, "float32"), ops.cast(neg_weights, "float32")
            return reduce(terms(ops.cast(y_true, "float32"), y_pred, pos, neg, epsilon))

        return weighted_loss

    return get_weighted_loss


def _terms(y, p, pos, neg, eps):
    return -(pos * y * ops.log(p + eps) + neg * (1 - y) * ops.log(1 - p + eps))


for name, answer in {
    "loss_mean_of_all": _loss(_terms, ops.mean),
    "loss_sum_of_all": _loss(_terms, ops.sum),
    "loss_per_class": _loss(_terms, lambda t: ops.mean(t, axis=0)),
    "loss_per_film": _loss(_terms, lambda t: ops.sum(t, axis=1)),
    "loss_mean_of_classes_sum_of_batch": _loss(_terms, lambda t: ops.mean(ops.sum(t, axis=0))),
    "loss_keeps_a_dimension": _loss(_terms, lambda t: ops.sum(ops.mean(t, axis=0), keepdims=True)),
    "loss_without_minus": _loss(lambda *a: -_terms(*a)),
    "loss_swapped_weights": _loss(lambda y, p, pos, neg, eps: _terms(y, p, neg, pos, eps)),
    "loss_swapped_arguments": _loss(lambda y, p, pos, neg, eps: _terms(p, y, pos, neg, eps)),
    "loss_fixed_epsilon": _loss(lambda y, p, pos, neg, eps: _terms(y, p, pos, neg, 1e-7)),
    "loss_no_epsilon": _loss(lambda y, p, pos, neg, eps: _terms(y, p, pos, neg, 0.0)),
    "loss_keras_epsilon": _loss(lambda y, p, pos, neg, eps: _terms(y, p, pos, neg, keras.config.epsilon())),
    "loss_epsilon_in_one_log": _loss(lambda y, p, pos, neg, eps: -(pos * y * ops.log(p + eps) + neg * (1 - y) * ops.log(1 - p))),
    "loss_epsilon_subtracted": _loss(
        lambda y, p, pos, neg, eps: -(pos * y * ops.log(p + eps) + neg * (1 - y) * ops.log(1 - (p + eps)))
    ),
    "loss_epsilon_outside": _loss(
        lambda y, p, pos, neg, eps: -(pos * y * (ops.log(p) + eps) + neg * (1 - y) * (ops.log(1 - p) + eps))
    ),
    "loss_clipped": _loss(lambda y, p, pos, neg, eps: _terms(y, ops.clip(p, eps, 1 - eps), pos, neg, 0.0)),
    "loss_unweighted": _loss(lambda y, p, pos, neg, eps: _terms(y, p, ops.ones_like(pos), ops.ones_like(neg), eps)),
    "loss_positives_only": _loss(lambda y, p, pos, neg, eps: -pos * y * ops.log(p + eps)),
    "loss_negatives_only": _loss(lambda y, p, pos, neg, eps: -neg * (1 - y) * ops.log(1 - p + eps)),
    "loss_mean_weights": _loss(lambda y, p, pos, neg, eps: _terms(y, p, ops.mean(pos), ops.mean(neg), eps)),
    "loss_first_weight": _loss(lambda y, p, pos, neg, eps: _terms(y, p, pos[0], neg[0], eps)),
    "loss_log10": _loss(lambda *a: _terms(*a) / np.log(10)),
    "loss_minus_between": _loss(lambda y, p, pos, neg, eps: -(pos * y * ops.log(p + eps) - neg * (1 - y) * ops.log(1 - p + eps))),
    "loss_log_of_p_twice": _loss(lambda y, p, pos, neg, eps: -(pos * y + neg * (1 - y)) * ops.log(p + eps)),
    "loss_default_epsilon_too_large": _loss(lambda y, p, pos, neg, eps: _terms(y, p, pos, neg, 1e-3 if eps == 1e-7 else eps)),
    "loss_normalised_weights": _loss(lambda y, p, pos, neg, eps: _terms(y, p, pos / (pos + neg), neg / (pos + neg), eps)),
    "loss_hard_decisions": _loss(lambda y, p, pos, neg, eps: _terms(y, ops.cast(p >= 0.5, "float32"), pos, neg, eps)),
}.items():
    wrong("get_weighted_loss", name)(answer)


@wrong("get_weighted_loss")
def loss_last_class_only(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        for i in range(len(pos_weights)):
            loss = ops.mean(_terms(y_true[:, i], y_pred[:, i], pos_weights[i], neg_weights[i], epsilon))
        return loss

    return weighted_loss


@wrong("get_weighted_loss")
def loss_first_class_only(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        loss = 0.0
        for i in range(len(pos_weights)):
            loss += ops.mean(_terms(y_true[:, i], y_pred[:, i], pos_weights[i], neg_weights[i], epsilon))
            return loss

    return weighted_loss


@wrong("get_weighted_loss")
def loss_accumulates_over_calls(pos_weights, neg_weights, epsilon=1e-7):
    total = [0.0]

    def weighted_loss(y_true, y_pred):
        for i in range(len(pos_weights)):
            total[0] += ops.mean(_terms(y_true[:, i], y_pred[:, i], pos_weights[i], neg_weights[i], epsilon))
        return total[0]

    return weighted_loss


@wrong("get_weighted_loss")
def loss_two_classes_only(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        return sum(ops.mean(_terms(y_true[:, i], y_pred[:, i], pos_weights[i], neg_weights[i], epsilon)) for i in range(2))

    return weighted_loss


@wrong("get_weighted_loss")
def loss_loops_over_the_batch(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        return sum(ops.mean(_terms(y_true[i], y_pred[i], pos_weights, neg_weights, epsilon)) for i in range(len(y_true)))

    return weighted_loss


@wrong("get_weighted_loss")
def loss_other_default(pos_weights, neg_weights, epsilon=1e-8):
    return loss_with_numpy_weights(pos_weights, neg_weights, epsilon)


@wrong("get_weighted_loss")
def loss_in_numpy(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        y, p = np.asarray(y_true), np.asarray(y_pred)
        terms = pos_weights * y * np.log(p + epsilon) + neg_weights * (1 - y) * np.log(1 - p + epsilon)
        return -terms.mean(0).sum()

    return weighted_loss


@wrong("get_weighted_loss")
def loss_as_python_float(pos_weights, neg_weights, epsilon=1e-7):
    from .reference import get_weighted_loss

    loss = get_weighted_loss(pos_weights, neg_weights, epsilon)
    return lambda y_true, y_pred: float(loss(y_true, y_pred))


@wrong("get_weighted_loss")
def loss_not_returned(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        ops.sum(ops.mean(_terms(y_true, y_pred, pos_weights, neg_weights, epsilon), axis=0))

    return weighted_loss


@wrong("get_weighted_loss")
def loss_forgets_to_return_the_function(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        return ops.sum(ops.mean(_terms(y_true, y_pred, pos_weights, neg_weights, epsilon), axis=0))


@wrong("get_weighted_loss")
def loss_casts_weights_to_the_labels(pos_weights, neg_weights, epsilon=1e-7):
    def weighted_loss(y_true, y_pred):
        y_true = ops.convert_to_tensor(y_true)
        pos, neg = ops.cast(pos_weights, y_true.dtype), ops.cast(neg_weights, y_true.dtype)
        pos, neg, y_true = (ops.cast(a, "float32") for a in (pos, neg, y_true))
        return ops.sum(ops.mean(_terms(y_true, y_pred, pos, neg, epsilon), axis=0))

    return weighted_loss


@wrong("get_weighted_loss")
def loss_scales_weights_in_place(pos_weights, neg_weights, epsilon=1e-7):
    total = pos_weights + neg_weights
    pos_weights /= total
    neg_weights /= total
    from .reference import get_weighted_loss

    return get_weighted_loss(pos_weights, neg_weights, epsilon)


# ---- grad_cam -------------------------------------------------------------------------------------------------------


def _tape(model, image, class_index, layer_name, output="logits"):
    """Activations and gradient, (h, w, channels) each, as NumPy arrays."""
    target = model.get_layer(output).output if output else model.output
    both = keras.Model(model.input, [model.get_layer(layer_name).output, target])
    with tf.GradientTape() as tape:
        activations, scores = both(tf.convert_to_tensor(image)[tf.newaxis])
        score = scores[:, class_index]
    return activations[0].numpy(), tape.gradient(score, activations)[0].numpy()


def _cam(model, image, class_index, layer_name, output="logits"):
    activations, gradient = _tape(model, image, class_index, layer_name, output)
    return activations @ gradient.mean(axis=(0, 1))


def _by_maximum(heat):
    heat = np.maximum(heat, 0)
    return heat / heat.max() if heat.max() > 0 else heat


def _enlarge(heat, image, interpolation=cv2.INTER_LINEAR):
    return cv2.resize(heat, (image.shape[1], image.shape[0]), interpolation=interpolation)


@right("grad_cam")
def cam_with_opencv(model, image, class_index, layer_name):
    return _by_maximum(_enlarge(_cam(model, image, class_index, layer_name), image))


@right("grad_cam")
def cam_relu_and_scale_before_enlarging(model, image, class_index, layer_name):
    return _enlarge(_by_maximum(_cam(model, image, class_index, layer_name)), image)


@right("grad_cam")
def cam_nearest(model, image, class_index, layer_name):
    return _enlarge(_by_maximum(_cam(model, image, class_index, layer_name)), image, cv2.INTER_NEAREST)


@right("grad_cam")
def cam_cubic_clipped(model, image, class_index, layer_name):
    heat = _enlarge(_by_maximum(_cam(model, image, class_index, layer_name)), image, cv2.INTER_CUBIC)
    return np.clip(heat, 0, 1)


@right("grad_cam")
def cam_with_scipy_zoom(model, image, class_index, layer_name):
    heat = _by_maximum(_cam(model, image, class_index, layer_name))
    return np.clip(ndimage.zoom(heat, np.array(image.shape[:2]) / heat.shape, order=1), 0, 1)


@right("grad_cam")
def cam_with_corners_aligned(model, image, class_index, layer_name):
    heat = _by_maximum(_cam(model, image, class_index, layer_name))
    places = (np.linspace(0, small - 1, large) for small, large in zip(heat.shape, image.shape))
    return ndimage.map_coordinates(heat, np.meshgrid(*places, indexing="ij"), order=1)


@right("grad_cam")
def cam_as_a_tensor_with_a_small_constant(model, image, class_index, layer_name):
    both = keras.Model(model.input, [model.get_layer(layer_name).output, model.layers[-2].output])
    with tf.GradientTape() as tape:
        activations, logits = both(image[None], training=False)
        score = logits[:, class_index]
    weights = tf.reduce_sum(tape.gradient(score, activations), axis=(1, 2))
    heat = tf.nn.relu(tf.einsum("bhwc,bc->bhw", activations, weights))[..., None]
    heat = tf.image.resize(heat, image.shape[:2])[0, :, :, 0]
    return heat / (tf.reduce_max(heat) + 1e-12)


@right("grad_cam")
def cam_watching_the_layer(model, image, class_index, layer_name):
    """Runs the network in two halves: up to the layer, and from it to the logits."""
    layer = model.get_layer(layer_name)
    first = keras.Model(model.input, layer.output)
    second = keras.Model(layer.output, model.get_layer("logits").output)
    activations = tf.convert_to_tensor(first(image[None]))
    with tf.GradientTape() as tape:
        tape.watch(activations)
        score = second(activations)[0, class_index]
    weights = tape.gradient(score, activations)[0].numpy().mean((0, 1))
    return _by_maximum(_enlarge((activations[0].numpy() * weights).sum(-1), image)).astype("float64")


for name, answer in {
    "cam_of_the_sigmoid": lambda m, i, c, n: _by_maximum(_enlarge(_cam(m, i, c, n, None), i)),
    "cam_without_relu": lambda m, i, c, n: (lambda h: h / np.abs(h).max() if np.abs(h).max() > 0 else h)(
        _enlarge(_cam(m, i, c, n), i)
    ),
    "cam_by_minimum_and_maximum": lambda m, i, c, n: (lambda h: (h - h.min()) / (np.ptp(h) + 1e-9))(_enlarge(_cam(m, i, c, n), i)),
    "cam_absolute": lambda m, i, c, n: _by_maximum(np.abs(_enlarge(_cam(m, i, c, n), i))),
    "cam_not_normalised": lambda m, i, c, n: np.maximum(_enlarge(_cam(m, i, c, n), i), 0),
    "cam_clipped_not_scaled": lambda m, i, c, n: np.clip(_enlarge(_cam(m, i, c, n), i), 0, 1),
    "cam_divides_by_zero": lambda m, i, c, n: (lambda h: np.maximum(h, 0) / np.maximum(h, 0).max())(_enlarge(_cam(m, i, c, n), i)),
    "cam_class_0": lambda m, i, c, n: _by_maximum(_enlarge(_cam(m, i, 0, n), i)),
    "cam_other_layer": lambda m, i, c, n: _by_maximum(_enlarge(_cam(m, i, c, "late"), i)),
    "cam_not_enlarged": lambda m, i, c, n: _by_maximum(_cam(m, i, c, n)),
    "cam_width_by_height": lambda m, i, c, n: _by_maximum(cv2.resize(_cam(m, i, c, n), i.shape[:2])),
    "cam_transposed": lambda m, i, c, n: _by_maximum(_enlarge(_cam(m, i, c, n).T, i)),
    "cam_tiled": lambda m, i, c, n: (lambda h: np.tile(h, (i.shape[0] // h.shape[0], i.shape[1] // h.shape[1])))(
        _by_maximum(_cam(m, i, c, n))
    ),
    "cam_by_the_largest_absolute_value": lambda m, i, c, n: (lambda h: np.maximum(h / max(np.abs(h).max(), 1e-12), 0))(
        _enlarge(_cam(m, i, c, n), i)
    ),
    "cam_of_the_likeliest_class": lambda m, i, c, n: _by_maximum(_enlarge(_cam(m, i, int(np.argmax(m(i[None])[0])), n), i)),
    "cam_upside_down": lambda m, i, c, n: _by_maximum(_enlarge(-_cam(m, i, c, n), i)),
    "cam_relu_on_the_weights": lambda m, i, c, n: (lambda a, g: _by_maximum(_enlarge(a @ np.maximum(g.mean((0, 1)), 0), i)))(
        *_tape(m, i, c, n)
    ),
    "cam_mean_activation": lambda m, i, c, n: (lambda a, g: _by_maximum(_enlarge(a.mean(-1), i)))(*_tape(m, i, c, n)),
    "cam_weights_by_maximum": lambda m, i, c, n: (lambda a, g: _by_maximum(_enlarge(a @ g.max((0, 1)), i)))(*_tape(m, i, c, n)),
    "cam_relu_before_the_sum": lambda m, i, c, n: (
        lambda a, g: _by_maximum(_enlarge(np.maximum(a * g.mean((0, 1)), 0).sum(-1), i))
    )(*_tape(m, i, c, n)),
    "cam_absolute_gradient": lambda m, i, c, n: (lambda a, g: _by_maximum(_enlarge(a @ np.abs(g.mean((0, 1))), i)))(
        *_tape(m, i, c, n)
    ),
    "cam_ones_when_nothing": lambda m, i, c, n: (lambda h: h if h.max() > 0 else np.ones_like(h))(
        _by_maximum(_enlarge(_cam(m, i, c, n), i))
    ),
    "cam_all_zero": lambda m, i, c, n: np.zeros(i.shape[:2]),
    "cam_centre_blob": lambda m, i, c, n: np.outer(np.hanning(i.shape[0]), np.hanning(i.shape[1])),
    "cam_with_a_channel": lambda m, i, c, n: _by_maximum(_enlarge(_cam(m, i, c, n), i))[..., None],
    "cam_with_a_batch": lambda m, i, c, n: _by_maximum(_enlarge(_cam(m, i, c, n), i))[None],
    "cam_in_255": lambda m, i, c, n: np.uint8(255 * _by_maximum(_enlarge(_cam(m, i, c, n), i))),
    "cam_without_a_batch_axis": lambda m, i, c, n: model_on_the_bare_image(m, i, c, n),
    "cam_squared": lambda m, i, c, n: _by_maximum(_enlarge(_cam(m, i, c, n), i)) ** 2,
    "cam_standardises_the_image_in_place": lambda m, i, c, n: (
        np.subtract(i, i.mean(), out=i),
        _by_maximum(_enlarge(_cam(m, i, c, n), i)),
    )[1],
    "cam_sum_of_all_logits": lambda m, i, c, n: _by_maximum(_enlarge(sum(_cam(m, i, k, n) for k in range(m.output_shape[-1])), i)),
    "cam_saliency": lambda m, i, c, n: _by_maximum(saliency(m, i, c)),
    "cam_divides_by_the_sum": lambda m, i, c, n: (lambda h: h / (h.sum() + 1e-12))(np.maximum(_enlarge(_cam(m, i, c, n), i), 0)),
    "cam_shrinks_by_a_large_epsilon": lambda m, i, c, n: (lambda h: h / (h.max() + 1e-2))(
        np.maximum(_enlarge(_cam(m, i, c, n), i), 0)
    ),
}.items():
    wrong("grad_cam", name)(answer)


@wrong("grad_cam", "cam_gradient_times_activation", slip="gradient × activation, place by place")
def cam_gradient_times_activation(model, image, class_index, layer_name):
    activations, gradient = _tape(model, image, class_index, layer_name)
    return _by_maximum(_enlarge((activations * gradient).sum(-1), image))


def model_on_the_bare_image(model, image, class_index, layer_name):
    return _by_maximum(model.get_layer(layer_name)(image)[..., class_index].numpy())


def saliency(model, image, class_index):
    pixels = tf.convert_to_tensor(image)[None]
    logits = keras.Model(model.input, model.get_layer("logits").output)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        score = logits(pixels)[0, class_index]
    return np.abs(tape.gradient(score, pixels)[0].numpy()).max(-1)


@wrong("grad_cam")
def cam_in_training_mode(model, image, class_index, layer_name):
    both = keras.Model(model.input, [model.get_layer(layer_name).output, model.get_layer("logits").output])
    with tf.GradientTape() as tape:
        activations, logits = both(image[None], training=True)
        score = logits[:, class_index]
    gradient = tape.gradient(score, activations)[0].numpy()
    return _by_maximum(_enlarge(activations[0].numpy() @ gradient.mean((0, 1)), image))


@wrong("grad_cam")
def cam_removes_the_sigmoid_from_the_model(model, image, class_index, layer_name):
    model.layers[-1].activation = keras.activations.linear
    return _by_maximum(_enlarge(_cam(model, image, class_index, layer_name, None), image))
