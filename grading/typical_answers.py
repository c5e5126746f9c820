"""Typical answers to the exercises, right and wrong: what the synthetic class hands in. An answer bank, so as long as it takes.

Each is the body of a function, to stand in place of `raise NotImplementedError` in the stub. UNUSUAL are right answers that
hardly anybody would write alike: what two students who copied have in common.
"""

from textwrap import dedent

RIGHT = {  # exercise → ways to write it
    "check_for_leakage": [
        "return len(set(df1[patient_col]) & set(df2[patient_col])) > 0",
        "return bool(np.isin(df1[patient_col], df2[patient_col]).any())",
        """
            known = set(df2[patient_col].tolist())
            for patient in df1[patient_col].tolist():
                if patient in known:
                    return True
            return False
        """,
    ],
    "repair_leakage": [
        "return train[~train[patient_col].isin(valid[patient_col])]",
        """
            known = set(valid[patient_col])
            keep = [patient not in known for patient in train[patient_col]]
            return train.loc[keep]
        """,
        "return train.drop(train.index[train[patient_col].isin(valid[patient_col])]) if train.index.is_unique else train",
        "return train[[p not in valid[patient_col].values for p in train[patient_col].values]]",
        """
            shared = np.intersect1d(train[patient_col], valid[patient_col])
            return train.loc[np.isin(train[patient_col], shared, invert=True)]
        """,
    ],
    "compute_class_freqs": [
        """
            positive = labels.sum(axis=0) / labels.shape[0]
            return positive, 1 - positive
        """,
        "return np.mean(labels == 1, axis=0), np.mean(labels == 0, axis=0)",
    ],
    "get_weighted_loss": [
        """
            y = keras.ops.cast(y_true, y_pred.dtype)
            yes = keras.ops.cast(pos_weights, y_pred.dtype) * y * keras.ops.log(y_pred + epsilon)
            no = keras.ops.cast(neg_weights, y_pred.dtype) * (1 - y) * keras.ops.log(1 - y_pred + epsilon)
            return -keras.ops.sum(keras.ops.mean(yes + no, axis=0))
        """,
        """
            loss = 0.0
            truth = keras.ops.cast(y_true, y_pred.dtype)
            for k in range(len(pos_weights)):
                t, p = truth[:, k], y_pred[:, k]
                yes = float(pos_weights[k]) * t * keras.ops.log(p + epsilon)
                no = float(neg_weights[k]) * (1 - t) * keras.ops.log(1 - p + epsilon)
                loss = loss - keras.ops.mean(yes + no)
            return loss
        """,
    ],
    "grad_cam": [
        """
            both = keras.Model(model.input, [model.get_layer(layer_name).output, model.get_layer('logits').output])
            with tf.GradientTape() as tape:
                maps, scores = both(image[None], training=False)
                score = scores[:, class_index]
            gradient = tape.gradient(score, maps)
            weights = tf.reduce_mean(gradient, axis=(0, 1, 2))
            cam = tf.nn.relu(tf.reduce_sum(maps[0] * weights, axis=-1))
            cam = tf.image.resize(cam[..., None], image.shape[:2])[..., 0].numpy()
            return cam / cam.max() if cam.max() > 0 else cam
        """
    ],
    "true_positives": [
        "return ((pred >= th) & (y == 1)).sum()",
        """
            n = 0
            for a, b in zip(y, pred):
                if a == 1 and b >= th:
                    n += 1
            return n
        """,
        "return np.sum(y[pred >= th] == 1)",
    ],
    "true_negatives": [
        "return np.sum((pred < th) * (y == 0))",
        "return len([1 for a, b in zip(y, pred) if a == 0 and not b >= th])",
    ],
    "false_positives": [
        """
            said = pred >= th
            return np.count_nonzero(said & (y == 0))
        """,
        "return np.sum(1 - y[pred >= th])",
    ],
    "false_negatives": ["return np.logical_and(pred < th, y == 1).sum()", "return int(np.sum(y[~(pred >= th)]))"],
    "get_accuracy": [
        "return np.mean((pred >= th) == y)",
        """
            right = 0
            for a, b in zip(y, pred):
                right += int((b >= th) == (a == 1))
            return right / len(y) if len(y) else np.nan
        """,
    ],
    "get_prevalence": ["return np.mean(y)", "return y.sum() / y.size if y.size else np.nan"],
    "get_sensitivity": [
        """
            sick = pred[y == 1]
            return np.mean(sick >= th) if sick.size else np.nan
        """,
        """
            tp = np.sum((pred >= th) & (y == 1))
            fn = np.sum((pred < th) & (y == 1))
            return tp / (tp + fn) if tp + fn else np.nan
        """,
    ],
    "get_specificity": [
        """
            healthy = pred[y == 0]
            return np.mean(healthy < th) if healthy.size else float('nan')
        """,
        """
            tn = np.sum((pred < th) & (y == 0))
            fp = np.sum((pred >= th) & (y == 0))
            return tn / (tn + fp) if tn + fp else np.nan
        """,
    ],
    "get_ppv": [
        """
            called = y[pred >= th]
            return called.mean() if len(called) else np.nan
        """,
        """
            tp = np.sum((pred >= th) & (y == 1))
            fp = np.sum((pred >= th) & (y == 0))
            if tp + fp == 0:
                return np.nan
            return tp / (tp + fp)
        """,
    ],
    "get_npv": [
        """
            called = y[pred < th]
            return 1 - called.mean() if len(called) else np.nan
        """,
        """
            tn = np.sum((pred < th) & (y == 0))
            fn = np.sum((pred < th) & (y == 1))
            if tn + fn == 0:
                return np.nan
            return tn / (tn + fn)
        """,
    ],
    "bootstrap_patients": [
        """
            ids = np.unique(patient_ids)
            drawn = rng.choice(ids, len(ids))
            return np.concatenate([np.where(patient_ids == i)[0] for i in drawn])
        """,
        """
            unique = np.unique(patient_ids)
            rows = []
            for patient in rng.choice(unique, size=unique.size, replace=True):
                rows.extend(np.flatnonzero(patient_ids == patient))
            return np.array(rows)
        """,
    ],
    "expected_calibration_error": [
        """
            if len(pred) == 0:
                return np.nan
            which = np.clip(np.digitize(pred, np.linspace(0, 1, n_bins + 1)) - 1, 0, n_bins - 1)
            total = 0
            for k in set(which.tolist()):
                m = which == k
                total += m.sum() / len(y) * abs(np.mean(y[m]) - np.mean(pred[m]))
            return total
        """,
        """
            if not len(y):
                return float('nan')
            bins = np.minimum((pred * n_bins).astype(int), n_bins - 1)
            ece = 0.0
            for b in range(n_bins):
                inside = bins == b
                if inside.any():
                    ece += inside.mean() * abs(y[inside].mean() - pred[inside].mean())
            return ece
        """,
    ],
    "net_benefit": [
        """
            n = len(y)
            if n == 0:
                return np.nan
            tp = np.sum((pred >= th) & (y == 1))
            fp = np.sum((pred >= th) & (y == 0))
            if th == 1:
                return -np.inf if fp > 0 else tp / n
            return tp / n - fp / n * th / (1 - th)
        """,
        """
            if not len(y):
                return float('nan')
            alarm = pred >= th
            harm = np.mean(alarm & (y == 0))
            if harm == 0:
                return np.mean(alarm & (y == 1))
            odds = th / (1 - th) if th < 1 else np.inf
            return np.mean(alarm & (y == 1)) - harm * odds
        """,
        """
            if y.size == 0:
                return np.nan
            called = y[pred >= th]
            hits, alarms = called.sum(), (1 - called).sum()
            if alarms == 0:
                return hits / y.size
            if th == 1:
                return -np.inf
            return (hits - alarms * th / (1 - th)) / y.size
        """,
        """
            gain, count = 0.0, 0
            for truth, score in zip(y, pred):
                count += 1
                if score < th:
                    continue
                if truth == 1:
                    gain += 1
                elif th == 1:
                    return float('-inf')
                else:
                    gain -= th / (1 - th)
            return gain / count if count else float('nan')
        """,
        """
            with np.errstate(divide='ignore', invalid='ignore'):
                weight = np.where(y == 1, 1.0, -np.divide(th, 1 - th))
                return np.where(pred >= th, weight, 0.0).mean() if len(y) else np.nan
        """,
    ],
    "positives_needed": [
        """
            from scipy.stats import norm
            z = norm.ppf(1 - (1 - confidence) / 2)
            return max(1, int(np.ceil(z**2 * sensitivity * (1 - sensitivity) / half_width**2)))
        """,
        """
            from statistics import NormalDist
            z, n = NormalDist().inv_cdf((1 + confidence) / 2), 1
            while z * (sensitivity * (1 - sensitivity) / n) ** 0.5 > half_width:
                n += 1
            return n
        """,
        """
            import math
            from scipy import stats
            z = stats.norm.isf((1 - confidence) / 2)
            variance = sensitivity - sensitivity ** 2
            return max(math.ceil(variance * (z / half_width) ** 2), 1)
        """,
        """
            from scipy.stats import norm
            low, high = norm.interval(confidence)
            patients = sensitivity * (1 - sensitivity) * ((high - low) / (2 * half_width)) ** 2
            return int(np.maximum(np.ceil(patients), 1))
        """,
        """
            from scipy.special import ndtri
            spread = np.sqrt(sensitivity * (1 - sensitivity))
            enough = (ndtri(0.5 + confidence / 2) * spread / half_width) ** 2
            whole = int(enough)
            if whole < enough or whole == 0:
                whole += 1
            return whole
        """,
    ],
    "get_sub_volume": [
        """
            for _ in range(max_tries):
                a, b, c = (rng.integers(0, full - part + 1) for full, part in zip(label.shape, (output_x, output_y, output_z)))
                where = (slice(a, a + output_x), slice(b, b + output_y), slice(c, c + output_z))
                if np.mean(label[where] == 0) < background_threshold:
                    return image[where], np.stack([label[where] == k for k in range(1, num_classes)], axis=-1).astype(float)
            return None
        """
    ],
    "standardize": [
        """
            brain = image.any(axis=-1)
            result = np.zeros(image.shape)
            for c in range(image.shape[-1]):
                values = image[..., c][brain].astype(float)
                if values.size and values.std() > 0:
                    result[..., c][brain] = (values - values.mean()) / values.std()
            return result
        """
    ],
    "up_step": [
        """
            x = keras.layers.UpSampling3D(2)(x)
            x = keras.layers.Concatenate()([x, skip])
            for _ in range(2):
                x = keras.layers.Conv3D(filters, 3, padding='same')(x)
                x = keras.layers.GroupNormalization(groups=-1)(x)
                x = keras.layers.ReLU()(x)
            return x
        """
    ],
    "single_class_dice_coefficient": [
        """
            both = keras.ops.sum(y_true * y_pred, axis=axis)
            return (2 * both + epsilon) / (keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_pred, axis=axis) + epsilon)
        """
    ],
    "dice_coefficient": [
        """
            both = keras.ops.sum(y_true * y_pred, axis=axis)
            total = keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_pred, axis=axis)
            return keras.ops.mean((2 * both + epsilon) / (total + epsilon))
        """
    ],
    "soft_dice_loss": [
        """
            both = keras.ops.sum(y_true * y_pred, axis=axis)
            squares = keras.ops.sum(y_true ** 2, axis=axis) + keras.ops.sum(y_pred ** 2, axis=axis)
            return 1 - keras.ops.mean((2 * both + epsilon) / (squares + epsilon))
        """
    ],
    "compute_class_sens_spec": [
        """
            p, t = pred[..., class_num] == 1, label[..., class_num] == 1
            sens = np.mean(p[t]) if t.any() else np.nan
            spec = np.mean(~p[~t]) if (~t).any() else np.nan
            return sens, spec
        """
    ],
    "lesion_recall": [
        """
            from scipy import ndimage
            pieces, n = ndimage.label(label)
            if n == 0:
                return np.nan
            found = [np.any(pred[pieces == k]) for k in range(1, n + 1)]
            return np.mean(found)
        """,
        """
            from scipy.ndimage import label as number_pieces
            numbered, count = number_pieces(label > 0)
            hit = set(np.unique(numbered[pred > 0])) - {0}
            return len(hit) / count if count else float('nan')
        """,
        """
            from scipy.ndimage import label as connect, maximum
            pieces, n = connect(label)
            if not n:
                return np.nan
            return float(np.mean(np.asarray(maximum(pred, pieces, np.arange(1, n + 1))) > 0))
        """,
        """
            import scipy.ndimage
            pieces, total = scipy.ndimage.label(np.asarray(label) != 0)
            found = 0
            for number in range(1, total + 1):
                where = pieces == number
                if (pred[where] != 0).sum() > 0:
                    found += 1
            return found / total if total > 0 else np.nan
        """,
    ],
    "get_regions": [
        "return np.stack([label > 0, label > 1, label == 3], axis=-1)",
        "return np.stack([np.isin(label, [1, 2, 3]), np.isin(label, [2, 3]), label == 3], -1)",
    ],
}

WRONG = {  # exercise → mistakes that students make
    "check_for_leakage": [
        "return df1[patient_col].equals(df2[patient_col])",
        "return True",
        "return len(set(df1[patient_col]) & set(df2[patient_col])) == 0",
    ],
    "repair_leakage": [
        "return train[train[patient_col].isin(valid[patient_col])]",
        "return train[~train[patient_col].isin(valid[patient_col])].reset_index(drop=True)",
        "return valid[~valid[patient_col].isin(train[patient_col])]",
        "return train[~train.index.isin(valid.index)]",
        "return train[~train[patient_col].isin(valid[patient_col])].drop_duplicates(patient_col)",
    ],
    "compute_class_freqs": [
        "return 1 - labels.mean(axis=0), labels.mean(axis=0)",
        "return labels.sum(axis=0), (1 - labels).sum(axis=0)",
        "return labels.mean(axis=1), 1 - labels.mean(axis=1)",
    ],
    "get_weighted_loss": [
        """
            y = keras.ops.cast(y_true, y_pred.dtype)
            return -keras.ops.mean(y * keras.ops.log(y_pred + epsilon) + (1 - y) * keras.ops.log(1 - y_pred + epsilon))
        """
    ],
    "grad_cam": ["return np.zeros(image.shape[:2])", "return image.mean(axis=-1)"],
    "true_positives": ["return np.sum((pred > th) & (y == 1))", "return np.sum((pred >= 0.5) & (y == 1))", "return np.sum(y == 1)"],
    "true_negatives": ["return np.sum((pred <= th) & (y == 0))", "return np.sum((pred >= th) & (y == 0))"],
    "false_positives": ["return np.sum((pred < th) & (y == 1))", "return np.sum((pred > th) & (y == 0))"],
    "false_negatives": ["return np.sum((pred >= th) & (y == 0))", "return np.sum(pred < th)"],
    "get_accuracy": ["return np.mean((pred > th) == y)", "return np.sum((pred >= th) == y)", "return np.mean(pred == y)"],
    "get_prevalence": ["return np.sum(y)", "return np.mean(y == 0)", "return round(np.mean(y), 1)"],
    "get_sensitivity": [
        "return np.sum((pred >= th) & (y == 1)) / np.sum(pred >= th)",
        "return np.sum((pred >= th) & (y == 1)) / max(np.sum(y == 1), 1)",
    ],
    "get_specificity": [
        "return np.sum((pred < th) & (y == 0)) / np.sum(pred < th)",
        "return int(np.sum((pred < th) & (y == 0))) / int(np.sum(y == 0))",
    ],
    "get_ppv": ["return np.sum((pred >= th) & (y == 1)) / np.sum(y == 1)", "return np.mean(y[pred > 0.5])"],
    "get_npv": ["return np.sum((pred < th) & (y == 0)) / np.sum(y == 0)", "return 0.5"],
    "bootstrap_patients": [
        "return rng.integers(0, len(patient_ids), len(patient_ids))",
        """
            ids = np.unique(patient_ids)
            drawn = rng.choice(ids, len(ids))
            return np.flatnonzero(np.isin(patient_ids, drawn))
        """,
    ],
    "expected_calibration_error": ["return np.abs(y - pred).mean()", "return abs(y.mean() - pred.mean())"],
    "net_benefit": [
        "return (np.sum((pred >= th) & (y == 1)) - np.sum((pred >= th) & (y == 0))) / len(y)",
        "return np.mean((pred >= th) & (y == 1)) - np.mean((pred >= th) & (y == 0)) * th",
        "return np.mean((pred > th) & (y == 1)) - np.mean((pred > th) & (y == 0)) * th / (1 - th)",
        "return np.mean(y) - np.mean(1 - y) * th / (1 - th)",
        "return np.sum((pred >= th) & (y == 1)) - np.sum((pred >= th) & (y == 0)) * th / (1 - th)",
    ],
    "positives_needed": [
        "return int(1.96**2 * sensitivity * (1 - sensitivity) / half_width**2)",
        """
            from scipy.stats import norm
            return int(np.ceil(norm.ppf(confidence) ** 2 * sensitivity * (1 - sensitivity) / half_width**2))
        """,
        "return int(np.ceil((1.96 / half_width) ** 2 * sensitivity * (1 - sensitivity)))",
        """
            from scipy.stats import norm
            z = norm.ppf((1 + confidence) / 2)
            return round(z ** 2 * sensitivity * (1 - sensitivity) / half_width ** 2)
        """,
    ],
    "get_sub_volume": [
        """
            classes = keras.utils.to_categorical(label[:output_x, :output_y, :output_z], num_classes)
            return image[:output_x, :output_y, :output_z], classes[..., 1:]
        """,
        "return None",
    ],
    "standardize": [
        "return (image - image.mean()) / image.std()",
        "return (image - image.mean(axis=(0, 1, 2))) / image.std(axis=(0, 1, 2))",
    ],
    "up_step": [
        """
            x = keras.layers.UpSampling3D(2)(x)
            x = keras.layers.Conv3D(filters, 3, padding='same')(x)
            return keras.layers.GroupNormalization(groups=-1)(x)
        """,
        """
            x = keras.layers.Concatenate()([keras.layers.UpSampling3D(2)(x), skip])
            return keras.layers.Conv3D(filters, 3, padding='same')(x)
        """,
    ],
    "single_class_dice_coefficient": [
        """
            both = keras.ops.sum(y_true * y_pred, axis=axis)
            return (both + epsilon) / (keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_pred, axis=axis) + epsilon)
        """
    ],
    "dice_coefficient": [
        """
            both = keras.ops.sum(y_true * y_pred)
            return (2 * both + epsilon) / (keras.ops.sum(y_true) + keras.ops.sum(y_pred) + epsilon)
        """
    ],
    "soft_dice_loss": [
        """
            both = keras.ops.sum(y_true * y_pred, axis=axis)
            total = keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_pred, axis=axis)
            return 1 - keras.ops.mean((2 * both + epsilon) / (total + epsilon))
        """
    ],
    "compute_class_sens_spec": [
        """
            p, t = pred[..., class_num], label[..., class_num]
            return np.sum(p * t) / np.sum(p), np.sum((1 - p) * (1 - t)) / np.sum(1 - p)
        """
    ],
    "lesion_recall": [
        "return np.sum((pred > 0) & (label > 0)) / np.sum(label > 0)",
        """
            from scipy import ndimage
            pieces, n = ndimage.label(pred)
            return np.mean([np.any(label[pieces == k]) for k in range(1, n + 1)]) if n else np.nan
        """,
        """
            from scipy import ndimage
            pieces, n = ndimage.label(label)
            return np.mean([np.all(pred[pieces == k]) for k in range(1, n + 1)]) if n else np.nan
        """,
        """
            from scipy import ndimage
            pieces, n = ndimage.label(label)
            return sum(np.any(pred[pieces == k]) for k in range(1, n)) / n if n else np.nan
        """,
    ],
    "get_regions": [
        "return np.stack([label == 1, label == 2, label == 3], axis=-1)",
        "return np.stack([label > 0, label > 1, label > 2], axis=0)",
    ],
}

UNUSUAL = {
    "get_weighted_loss": """
        total = keras.ops.zeros((), dtype=y_pred.dtype)
        firm = keras.ops.cast(y_true, y_pred.dtype)
        for column, (plus, minus) in enumerate(zip(pos_weights, neg_weights)):
            surprise = -keras.ops.log(y_pred[:, column] + epsilon)
            relief = -keras.ops.log(1 - y_pred[:, column] + epsilon)
            blend = float(plus) * firm[:, column] * surprise + float(minus) * (1 - firm[:, column]) * relief
            total = total + keras.ops.sum(blend) / keras.ops.cast(keras.ops.shape(y_pred)[0], y_pred.dtype)
        return total
    """,
    "compute_class_freqs": """
        table = np.array(labels, dtype=float)
        films, classes = table.shape
        count = np.zeros(classes)
        for row in table:
            count = count + row
        ill = count / films
        healthy = (films - count) / films
        return ill, healthy
    """,
    "get_accuracy": """
        hits = [bool(truth) == bool(score >= th) for truth, score in zip(list(y), list(pred))]
        if not hits:
            return float('nan')
        return 1.0 - hits.count(False) / float(len(hits))
    """,
    "get_ppv": """
        chosen = [int(truth) for truth, score in sorted(zip(list(y), list(pred)), key=lambda pair: -pair[1]) if score >= th]
        if len(chosen) == 0:
            return float('nan')
        return float(sum(chosen)) / float(len(chosen))
    """,
    "bootstrap_patients": """
        table = {}
        for position, who in enumerate(np.asarray(patient_ids).tolist()):
            table.setdefault(who, []).append(position)
        keys = sorted(table)
        lots = rng.integers(0, len(keys), size=len(keys))
        result = []
        for lot in lots:
            for position in table[keys[int(lot)]]:
                result.append(position)
        return np.array(result, dtype=int)
    """,
    "expected_calibration_error": """
        weights, hits, trust = np.zeros(n_bins), np.zeros(n_bins), np.zeros(n_bins)
        for truth, score in zip(y, pred):
            slot = int(np.floor(score * n_bins))
            slot = slot if slot < n_bins else n_bins - 1
            weights[slot] += 1
            hits[slot] += truth
            trust[slot] += score
        filled = weights > 0
        gap = np.abs(hits[filled] / weights[filled] - trust[filled] / weights[filled])
        return float(np.dot(gap, weights[filled]) / weights.sum()) if len(y) else float('nan')
    """,
    "standardize": """
        flat = np.array(image, dtype='float64').reshape(-1, image.shape[-1])
        inside = np.abs(flat).sum(axis=1) > 0
        work = np.zeros(flat.shape)
        if inside.sum():
            picked = flat[inside]
            centre = picked.sum(axis=0) / len(picked)
            spread = np.sqrt(((picked - centre) ** 2).sum(axis=0) / len(picked))
            spread[spread == 0] = np.inf
            work[inside] = (picked - centre) / spread
        return work.reshape(image.shape)
    """,
    "compute_class_sens_spec": """
        truth = np.asarray(label)[..., class_num].ravel() > 0
        said = np.asarray(pred)[..., class_num].ravel() > 0
        counts = np.zeros((2, 2))
        np.add.at(counts, (truth.astype(int), said.astype(int)), 1)
        ill, well = counts[1].sum(), counts[0].sum()
        first = counts[1, 1] / ill if ill > 0 else float('nan')
        second = counts[0, 0] / well if well > 0 else float('nan')
        return first, second
    """,
}

RIGHT, WRONG = ({name: [dedent(text).strip() for text in texts] for name, texts in answers.items()} for answers in (RIGHT, WRONG))
UNUSUAL = {name: dedent(text).strip() for name, text in UNUSUAL.items()}
