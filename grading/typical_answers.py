"""Typical answers to the exercises, right and wrong: what the synthetic class hands in.

Each is the body of a function, to stand in place of `raise NotImplementedError` in the stub. UNUSUAL are right answers that
hardly anybody would write alike: what two students who copied have in common.
"""

RIGHT = {  # exercise → ways to write it
    "check_for_leakage": ["return len(set(df1[patient_col]) & set(df2[patient_col])) > 0", "return bool(np.isin(df1[patient_col], df2[patient_col]).any())",
                          "known = set(df2[patient_col].tolist())\nfor patient in df1[patient_col].tolist():\n    if patient in known:\n        return True\nreturn False"],
    "compute_class_freqs": ["positive = labels.sum(axis=0) / labels.shape[0]\nreturn positive, 1 - positive", "return np.mean(labels == 1, axis=0), np.mean(labels == 0, axis=0)"],
    "get_weighted_loss": [
        "y = keras.ops.cast(y_true, y_pred.dtype)\nyes = keras.ops.cast(pos_weights, y_pred.dtype) * y * keras.ops.log(y_pred + epsilon)\n"
        "no = keras.ops.cast(neg_weights, y_pred.dtype) * (1 - y) * keras.ops.log(1 - y_pred + epsilon)\nreturn -keras.ops.sum(keras.ops.mean(yes + no, axis=0))",
        "loss = 0.0\ntruth = keras.ops.cast(y_true, y_pred.dtype)\nfor k in range(len(pos_weights)):\n    t, p = truth[:, k], y_pred[:, k]\n"
        "    loss = loss - keras.ops.mean(float(pos_weights[k]) * t * keras.ops.log(p + epsilon) + float(neg_weights[k]) * (1 - t) * keras.ops.log(1 - p + epsilon))\nreturn loss"],
    "grad_cam": [
        "both = keras.Model(model.input, [model.get_layer(layer_name).output, model.get_layer('logits').output])\nwith tf.GradientTape() as tape:\n"
        "    maps, scores = both(image[None], training=False)\n    score = scores[:, class_index]\ngradient = tape.gradient(score, maps)\n"
        "weights = tf.reduce_mean(gradient, axis=(0, 1, 2))\ncam = tf.nn.relu(tf.reduce_sum(maps[0] * weights, axis=-1))\n"
        "cam = tf.image.resize(cam[..., None], image.shape[:2])[..., 0].numpy()\nreturn cam / cam.max() if cam.max() > 0 else cam"],
    "true_positives": ["return ((pred >= th) & (y == 1)).sum()", "n = 0\nfor a, b in zip(y, pred):\n    if a == 1 and b >= th:\n        n += 1\nreturn n", "return np.sum(y[pred >= th] == 1)"],
    "true_negatives": ["return np.sum((pred < th) * (y == 0))", "return len([1 for a, b in zip(y, pred) if a == 0 and not b >= th])"],
    "false_positives": ["said = pred >= th\nreturn np.count_nonzero(said & (y == 0))", "return np.sum(1 - y[pred >= th])"],
    "false_negatives": ["return np.logical_and(pred < th, y == 1).sum()", "return int(np.sum(y[~(pred >= th)]))"],
    "get_accuracy": ["return np.mean((pred >= th) == y)", "right = 0\nfor a, b in zip(y, pred):\n    right += int((b >= th) == (a == 1))\nreturn right / len(y) if len(y) else np.nan"],
    "get_prevalence": ["return np.mean(y)", "return y.sum() / y.size if y.size else np.nan"],
    "get_sensitivity": ["sick = pred[y == 1]\nreturn np.mean(sick >= th) if sick.size else np.nan", "tp = np.sum((pred >= th) & (y == 1))\nfn = np.sum((pred < th) & (y == 1))\nreturn tp / (tp + fn) if tp + fn else np.nan"],
    "get_specificity": ["healthy = pred[y == 0]\nreturn np.mean(healthy < th) if healthy.size else float('nan')", "tn = np.sum((pred < th) & (y == 0))\nfp = np.sum((pred >= th) & (y == 0))\nreturn tn / (tn + fp) if tn + fp else np.nan"],
    "get_ppv": ["called = y[pred >= th]\nreturn called.mean() if len(called) else np.nan", "tp = np.sum((pred >= th) & (y == 1))\nfp = np.sum((pred >= th) & (y == 0))\nif tp + fp == 0:\n    return np.nan\nreturn tp / (tp + fp)"],
    "get_npv": ["called = y[pred < th]\nreturn 1 - called.mean() if len(called) else np.nan", "tn = np.sum((pred < th) & (y == 0))\nfn = np.sum((pred < th) & (y == 1))\nif tn + fn == 0:\n    return np.nan\nreturn tn / (tn + fn)"],
    "bootstrap_patients": ["ids = np.unique(patient_ids)\ndrawn = rng.choice(ids, len(ids))\nreturn np.concatenate([np.where(patient_ids == i)[0] for i in drawn])",
                           "unique = np.unique(patient_ids)\nrows = []\nfor patient in rng.choice(unique, size=unique.size, replace=True):\n    rows.extend(np.flatnonzero(patient_ids == patient))\nreturn np.array(rows)"],
    "expected_calibration_error": [
        "which = np.clip(np.digitize(pred, np.linspace(0, 1, n_bins + 1)) - 1, 0, n_bins - 1)\ntotal = 0\nfor k in set(which.tolist()):\n"
        "    m = which == k\n    total += m.sum() / len(y) * abs(np.mean(y[m]) - np.mean(pred[m]))\nreturn total",
        "bins = np.minimum((pred * n_bins).astype(int), n_bins - 1)\nece = 0.0\nfor b in range(n_bins):\n    inside = bins == b\n    if inside.any():\n"
        "        ece += inside.mean() * abs(y[inside].mean() - pred[inside].mean())\nreturn ece"],
    "get_sub_volume": [
        "for _ in range(max_tries):\n    a, b, c = (rng.integers(0, full - part + 1) for full, part in zip(label.shape, (output_x, output_y, output_z)))\n"
        "    where = (slice(a, a + output_x), slice(b, b + output_y), slice(c, c + output_z))\n    if np.mean(label[where] == 0) < background_threshold:\n"
        "        return image[where], np.stack([label[where] == k for k in range(1, num_classes)], axis=-1).astype(float)\nreturn None"],
    "standardize": ["brain = image.any(axis=-1)\nresult = np.zeros(image.shape)\nfor c in range(image.shape[-1]):\n    values = image[..., c][brain].astype(float)\n"
                    "    if values.size and values.std() > 0:\n        result[..., c][brain] = (values - values.mean()) / values.std()\nreturn result"],
    "single_class_dice_coefficient": ["both = keras.ops.sum(y_true * y_pred, axis=axis)\nreturn (2 * both + epsilon) / (keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_pred, axis=axis) + epsilon)"],
    "dice_coefficient": ["both = keras.ops.sum(y_true * y_pred, axis=axis)\ntotal = keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_pred, axis=axis)\nreturn keras.ops.mean((2 * both + epsilon) / (total + epsilon))"],
    "soft_dice_loss": ["both = keras.ops.sum(y_true * y_pred, axis=axis)\nsquares = keras.ops.sum(y_true ** 2, axis=axis) + keras.ops.sum(y_pred ** 2, axis=axis)\nreturn 1 - keras.ops.mean((2 * both + epsilon) / (squares + epsilon))"],
    "compute_class_sens_spec": ["p, t = pred[..., class_num] == 1, label[..., class_num] == 1\nsens = np.mean(p[t]) if t.any() else np.nan\nspec = np.mean(~p[~t]) if (~t).any() else np.nan\nreturn sens, spec"],
    "get_regions": ["return np.stack([label > 0, label > 1, label == 3], axis=-1)", "return np.stack([np.isin(label, [1, 2, 3]), np.isin(label, [2, 3]), label == 3], -1)"],
}  # fmt: skip

WRONG = {  # exercise → mistakes that students make
    "check_for_leakage": ["return df1[patient_col].equals(df2[patient_col])", "return True", "return len(set(df1[patient_col]) & set(df2[patient_col])) == 0"],
    "compute_class_freqs": ["return 1 - labels.mean(axis=0), labels.mean(axis=0)", "return labels.sum(axis=0), (1 - labels).sum(axis=0)", "return labels.mean(axis=1), 1 - labels.mean(axis=1)"],
    "get_weighted_loss": ["y = keras.ops.cast(y_true, y_pred.dtype)\nreturn -keras.ops.mean(y * keras.ops.log(y_pred + epsilon) + (1 - y) * keras.ops.log(1 - y_pred + epsilon))"],
    "grad_cam": ["return np.zeros(image.shape[:2])", "return image.mean(axis=-1)"],
    "true_positives": ["return np.sum((pred > th) & (y == 1))", "return np.sum((pred >= 0.5) & (y == 1))", "return np.sum(y == 1)"],
    "true_negatives": ["return np.sum((pred <= th) & (y == 0))", "return np.sum((pred >= th) & (y == 0))"],
    "false_positives": ["return np.sum((pred < th) & (y == 1))", "return np.sum((pred > th) & (y == 0))"],
    "false_negatives": ["return np.sum((pred >= th) & (y == 0))", "return np.sum(pred < th)"],
    "get_accuracy": ["return np.mean((pred > th) == y)", "return np.sum((pred >= th) == y)", "return np.mean(pred == y)"],
    "get_prevalence": ["return np.sum(y)", "return np.mean(y == 0)", "return round(np.mean(y), 1)"],
    "get_sensitivity": ["return np.sum((pred >= th) & (y == 1)) / np.sum(pred >= th)", "return np.sum((pred >= th) & (y == 1)) / max(np.sum(y == 1), 1)"],
    "get_specificity": ["return np.sum((pred < th) & (y == 0)) / np.sum(pred < th)", "return int(np.sum((pred < th) & (y == 0))) / int(np.sum(y == 0))"],
    "get_ppv": ["return np.sum((pred >= th) & (y == 1)) / np.sum(y == 1)", "return np.mean(y[pred > 0.5])"],
    "get_npv": ["return np.sum((pred < th) & (y == 0)) / np.sum(y == 0)", "return 0.5"],
    "bootstrap_patients": ["return rng.integers(0, len(patient_ids), len(patient_ids))", "ids = np.unique(patient_ids)\ndrawn = rng.choice(ids, len(ids))\nreturn np.flatnonzero(np.isin(patient_ids, drawn))"],
    "expected_calibration_error": ["return np.abs(y - pred).mean()", "return abs(y.mean() - pred.mean())"],
    "get_sub_volume": ["return image[:output_x, :output_y, :output_z], keras.utils.to_categorical(label[:output_x, :output_y, :output_z], num_classes)[..., 1:]", "return None"],
    "standardize": ["return (image - image.mean()) / image.std()", "return (image - image.mean(axis=(0, 1, 2))) / image.std(axis=(0, 1, 2))"],
    "single_class_dice_coefficient": ["both = keras.ops.sum(y_true * y_pred, axis=axis)\nreturn (both + epsilon) / (keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_pred, axis=axis) + epsilon)"],
    "dice_coefficient": ["both = keras.ops.sum(y_true * y_pred)\nreturn (2 * both + epsilon) / (keras.ops.sum(y_true) + keras.ops.sum(y_pred) + epsilon)"],
    "soft_dice_loss": ["both = keras.ops.sum(y_true * y_pred, axis=axis)\ntotal = keras.ops.sum(y_true, axis=axis) + keras.ops.sum(y_pred, axis=axis)\nreturn 1 - keras.ops.mean((2 * both + epsilon) / (total + epsilon))"],
    "compute_class_sens_spec": ["p, t = pred[..., class_num], label[..., class_num]\nreturn np.sum(p * t) / np.sum(p), np.sum((1 - p) * (1 - t)) / np.sum(1 - p)"],
    "get_regions": ["return np.stack([label == 1, label == 2, label == 3], axis=-1)", "return np.stack([label > 0, label > 1, label > 2], axis=0)"],
}  # fmt: skip

UNUSUAL = {
    "get_weighted_loss": "total = keras.ops.zeros((), dtype=y_pred.dtype)\nfirm = keras.ops.cast(y_true, y_pred.dtype)\nfor column, (plus, minus) in enumerate(zip(pos_weights, neg_weights)):\n"
                         "    surprise = -keras.ops.log(y_pred[:, column] + epsilon)\n    relief = -keras.ops.log(1 - y_pred[:, column] + epsilon)\n"
                         "    blend = float(plus) * firm[:, column] * surprise + float(minus) * (1 - firm[:, column]) * relief\n"
                         "    total = total + keras.ops.sum(blend) / keras.ops.cast(keras.ops.shape(y_pred)[0], y_pred.dtype)\nreturn total",
    "compute_class_freqs": "table = np.array(labels, dtype=float)\nfilms, classes = table.shape\ncount = np.zeros(classes)\nfor row in table:\n    count = count + row\n"
                           "ill = count / films\nhealthy = (films - count) / films\nreturn ill, healthy",
    "get_accuracy": "hits = [bool(truth) == bool(score >= th) for truth, score in zip(list(y), list(pred))]\nif not hits:\n    return float('nan')\nreturn 1.0 - hits.count(False) / float(len(hits))",
    "get_ppv": "chosen = [int(truth) for truth, score in sorted(zip(list(y), list(pred)), key=lambda pair: -pair[1]) if score >= th]\nif len(chosen) == 0:\n    return float('nan')\nreturn float(sum(chosen)) / float(len(chosen))",
    "bootstrap_patients": "table = {}\nfor position, who in enumerate(np.asarray(patient_ids).tolist()):\n    table.setdefault(who, []).append(position)\nkeys = sorted(table)\n"
                          "lots = rng.integers(0, len(keys), size=len(keys))\nresult = []\nfor lot in lots:\n    for position in table[keys[int(lot)]]:\n        result.append(position)\nreturn np.array(result, dtype=int)",
    "expected_calibration_error": "weights, hits, trust = np.zeros(n_bins), np.zeros(n_bins), np.zeros(n_bins)\nfor truth, score in zip(y, pred):\n    slot = int(np.floor(score * n_bins))\n    slot = slot if slot < n_bins else n_bins - 1\n"
                                  "    weights[slot] += 1\n    hits[slot] += truth\n    trust[slot] += score\nfilled = weights > 0\ngap = np.abs(hits[filled] / weights[filled] - trust[filled] / weights[filled])\nreturn float(np.dot(gap, weights[filled]) / weights.sum())",
    "standardize": "flat = np.array(image, dtype='float64').reshape(-1, image.shape[-1])\ninside = np.abs(flat).sum(axis=1) > 0\nwork = np.zeros(flat.shape)\nif inside.sum():\n    picked = flat[inside]\n    centre = picked.sum(axis=0) / len(picked)\n"
                   "    spread = np.sqrt(((picked - centre) ** 2).sum(axis=0) / len(picked))\n    spread[spread == 0] = np.inf\n    work[inside] = (picked - centre) / spread\nreturn work.reshape(image.shape)",
    "compute_class_sens_spec": "truth = np.asarray(label)[..., class_num].ravel() > 0\nsaid = np.asarray(pred)[..., class_num].ravel() > 0\ncounts = np.zeros((2, 2))\nnp.add.at(counts, (truth.astype(int), said.astype(int)), 1)\n"
                               "ill, well = counts[1].sum(), counts[0].sum()\nfirst = counts[1, 1] / ill if ill > 0 else float('nan')\nsecond = counts[0, 0] / well if well > 0 else float('nan')\nreturn first, second",
}  # fmt: skip
