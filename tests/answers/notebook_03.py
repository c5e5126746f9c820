"""Answers to the exercises of notebook 03, right and wrong."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from scipy import ndimage, stats
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from . import reference, right, wrong

# ---- get_sub_volume -------------------------------------------------------------------------------------------------


@right("get_sub_volume")
def course_style(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    rng = rng or np.random.default_rng()
    orig_x, orig_y, orig_z, _ = image.shape
    tries = 0
    while tries < max_tries:
        start_x = rng.integers(0, orig_x - output_x + 1)
        start_y = rng.integers(0, orig_y - output_y + 1)
        start_z = rng.integers(0, orig_z - output_z + 1)
        y = label[start_x : start_x + output_x, start_y : start_y + output_y, start_z : start_z + output_z]
        y = keras.utils.to_categorical(y, num_classes=num_classes)
        bgrd_ratio = np.sum(y[:, :, :, 0]) / (output_x * output_y * output_z)
        tries += 1
        if bgrd_ratio < background_threshold:
            X = np.copy(image[start_x : start_x + output_x, start_y : start_y + output_y, start_z : start_z + output_z, :])
            return X, y[:, :, :, 1:]
    return None


@right("get_sub_volume")
def by_eye(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    rng = np.random.default_rng(rng)
    for _ in range(max_tries):
        x, y, z = (int(rng.random() * (a - b + 1)) for a, b in zip(label.shape, (output_x, output_y, output_z)))
        part = np.s_[x : x + output_x, y : y + output_y, z : z + output_z]
        if 1 - np.count_nonzero(label[part]) / label[part].size < background_threshold:
            return image[part], np.eye(num_classes, dtype=bool)[label[part]][..., 1:]


@right("get_sub_volume")
def by_choice(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    if rng is None:
        rng = np.random.default_rng()
    sizes = (output_x, output_y, output_z)
    for _ in range(max_tries):
        x, y, z = (rng.choice(np.arange(full - part + 1)) for full, part in zip(image.shape, sizes))
        patch = label[x : x + output_x, y : y + output_y, z : z + output_z]
        if (patch == 0).sum() < background_threshold * patch.size - 1e-9:
            one_hot = np.stack([patch == k for k in range(1, num_classes)], axis=3).astype("uint8")
            return [image[x : x + output_x, y : y + output_y, z : z + output_z].astype("float32"), one_hot]
    return None


@right("get_sub_volume")
def as_tensors(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    found = reference.get_sub_volume(image, label, output_x, output_y, output_z, num_classes, max_tries, background_threshold, rng)
    return None if found is None else tuple(ops.convert_to_tensor(part) for part in found)


@right("get_sub_volume")
def window_view(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    rng = np.random.default_rng() if rng is None else rng
    labels = np.lib.stride_tricks.sliding_window_view(label, (output_x, output_y, output_z))
    images = np.lib.stride_tricks.sliding_window_view(image, (output_x, output_y, output_z), axis=(0, 1, 2))
    for _ in range(max_tries):
        start = np.unravel_index(rng.integers(np.prod(labels.shape[:3])), labels.shape[:3])
        if (labels[start] == 0).mean() < background_threshold:
            one_hot = [(labels[start] == k).astype(np.float64) for k in range(1, num_classes)]
            return np.moveaxis(images[start], 0, -1), np.moveaxis(np.array(one_hot), 0, -1)
    return None


def _cutter(
    *,
    low=0,
    end=lambda full, part: full - part + 1,
    accept=lambda share, limit: share < limit,
    share=lambda patch: np.mean(patch == 0),
    tries=lambda n: n,
    classes=lambda patch, n: patch[..., None] == np.arange(1, n),
    give_up=lambda image, label, window: None,
    windows=None,
    generator=lambda rng: rng,
    image_of=None,
    default=0.95,
    once=False,
):
    """A family of answers to get_sub_volume, each with one thing changed."""

    def answer(
        image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=default, rng=None
    ):
        rng = generator(np.random.default_rng() if rng is None else rng)
        size, window = (output_x, output_y, output_z), None
        for attempt in range(tries(max_tries)):
            if window is None or not once:
                start = [rng.integers(low, end(full, part)) for full, part in zip(label.shape, size)]
                start = windows(start) if windows else start
                window = tuple(slice(a, a + n) for a, n in zip(start, size))
            patch = label[window]
            if accept(share(patch), background_threshold):
                x = image_of(image, start, size) if image_of else image[window].copy()
                return x, classes(patch, num_classes).astype("float32")
        return give_up(image, label, window)

    return answer


class _Global:
    """Draws by the global random state."""

    def integers(self, low, high):
        return np.random.randint(low, high)


def _shifted(image, start, size):
    start = [min(a + 1, full - n) for a, n, full in zip(start, size, image.shape)]
    return image[tuple(slice(a, a + n) for a, n in zip(start, size))]


for name, answer in {
    "last_position_missing": _cutter(end=lambda full, part: max(full - part, 1)),
    "fails_on_the_whole_scan": _cutter(end=lambda full, part: full - part),
    "first_position_missing": _cutter(low=1, end=lambda full, part: max(full - part + 1, 2)),
    "any_start": _cutter(end=lambda full, part: full),
    "one_position_too_many": _cutter(end=lambda full, part: full - part + 2),
    "always_the_corner": _cutter(windows=lambda start: [0, 0, 0]),
    "always_the_bottom": _cutter(windows=lambda start: [start[0], start[1], 0]),
    "same_start_on_each_axis": _cutter(windows=lambda start: [min(start)] * 3),
    "even_starts_only": _cutter(windows=lambda start: [a // 2 * 2 for a in start]),
    "less_or_equal": _cutter(accept=lambda share, limit: share <= limit),
    "more_than": _cutter(accept=lambda share, limit: share > limit),
    "foreground_share": _cutter(share=lambda patch: np.mean(patch != 0)),
    "foreground_above_the_threshold": _cutter(share=lambda patch: np.mean(patch != 0), accept=lambda share, limit: share > limit),
    "any_tumour_will_do": _cutter(accept=lambda share, limit: share < 1),
    "threshold_fixed": _cutter(accept=lambda share, limit: share < 0.95),
    "threshold_not_used": _cutter(accept=lambda share, limit: True),
    "background_count_not_share": _cutter(share=lambda patch: np.sum(patch == 0)),
    "share_of_a_single_class": _cutter(share=lambda patch: np.mean(patch != 1)),
    "share_of_one_slice": _cutter(share=lambda patch: np.mean(patch[:, :, 0] == 0)),
    "other_default_threshold": _cutter(default=0.9),
    "default_threshold_of_one": _cutter(default=1.0),
    "one_try_only": _cutter(tries=lambda n: 1),
    "thousand_tries": _cutter(tries=lambda n: 1000),
    "one_try_too_many": _cutter(tries=lambda n: n + 1),
    "one_try_too_few": _cutter(tries=lambda n: n - 1),
    "same_draw_at_each_try": _cutter(once=True),
    "last_patch_when_nothing_is_found": _cutter(
        give_up=lambda image, label, window: (image[window], (label[window][..., None] == np.arange(1, 4)).astype("float32"))
    ),
    "pair_of_none": _cutter(give_up=lambda image, label, window: (None, None)),
    "raises_when_nothing_is_found": _cutter(give_up=lambda image, label, window: 1 / 0),
    "with_the_background_channel": _cutter(classes=lambda patch, n: patch[..., None] == np.arange(n)),
    "without_the_last_class": _cutter(classes=lambda patch, n: patch[..., None] == np.arange(n - 1)),
    "four_classes_always": _cutter(classes=lambda patch, n: patch[..., None] == np.arange(1, 4)),
    "classes_first": _cutter(classes=lambda patch, n: np.moveaxis(patch[..., None] == np.arange(1, n), -1, 0)),
    "label_not_encoded": _cutter(classes=lambda patch, n: patch),
    "regions_not_classes": _cutter(classes=lambda patch, n: patch[..., None] >= np.arange(1, n)),
    "classes_reversed": _cutter(classes=lambda patch, n: patch[..., None] == np.arange(1, n)[::-1]),
    "label_values_kept": _cutter(classes=lambda patch, n: (patch[..., None] == np.arange(1, n)) * np.arange(1, n)),
    "image_cut_elsewhere": _cutter(image_of=_shifted),
    "image_from_the_corner": _cutter(image_of=lambda image, start, size: image[: size[0], : size[1], : size[2]]),
    "first_channel_only": _cutter(
        image_of=lambda image, start, size: image[tuple(slice(a, a + n) for a, n in zip(start, size))][..., :1]
    ),
    "channels_first": _cutter(
        image_of=lambda image, start, size: np.moveaxis(image[tuple(slice(a, a + n) for a, n in zip(start, size))], 3, 0)
    ),
    "image_flipped": _cutter(image_of=lambda image, start, size: image[tuple(slice(a, a + n) for a, n in zip(start, size))][::-1]),
    "image_standardised": _cutter(
        image_of=lambda image, start, size: (lambda x: (x - x.mean()) / (x.std() + 1e-9))(
            image[tuple(slice(a, a + n) for a, n in zip(start, size))]
        )
    ),
    "image_with_swapped_sizes": _cutter(
        image_of=lambda image, start, size: image[
            start[0] : start[0] + size[1], start[1] : start[1] + size[0], start[2] : start[2] + size[2]
        ]
    ),
    "global_random_state": _cutter(generator=lambda rng: _Global()),
    "own_generator": _cutter(generator=lambda rng: np.random.default_rng()),
    "fixed_seed": _cutter(generator=lambda rng: np.random.default_rng(0)),
    "ends_of_x_for_all_axes": lambda image, label, output_x=160, output_y=160, output_z=16, **options: _cutter(
        end=lambda full, part: image.shape[0] - output_x + 1
    )(image, label, output_x, output_y, output_z, **options),
    "always_none": lambda image, label, output_x=160, output_y=160, output_z=16, **options: None,
}.items():
    wrong("get_sub_volume", f"cut_{name}")(answer)


@wrong("get_sub_volume")
def cut_scales_the_image_in_place(image, label, *args, **options):
    image /= max(image.max(), 1)
    return reference.get_sub_volume(image, label, *args, **options)


@wrong("get_sub_volume")
def cut_overwrites_the_label(image, label, *args, **options):
    found = reference.get_sub_volume(image, label, *args, **options)
    label[label == 3] = 1
    return found


@wrong("get_sub_volume")
def cut_returns_x_only(image, label, *args, **options):
    found = reference.get_sub_volume(image, label, *args, **options)
    return None if found is None else found[0]


@wrong("get_sub_volume")
def cut_returns_y_first(image, label, *args, **options):
    found = reference.get_sub_volume(image, label, *args, **options)
    return None if found is None else found[::-1]


@wrong("get_sub_volume")
def cut_fixed_sizes(image, label, output_x=160, output_y=160, output_z=16, **options):
    return reference.get_sub_volume(image, label, 160, 160, 16, **options)


@wrong("get_sub_volume")
def cut_searches_all_positions(
    image, label, output_x=160, output_y=160, output_z=16, num_classes=4, max_tries=1000, background_threshold=0.95, rng=None
):
    return reference.get_sub_volume(image, label, output_x, output_y, output_z, num_classes, 10_000, background_threshold, rng)


# ---- standardize ----------------------------------------------------------------------------------------------------


@right("standardize")
def z_by_loop(image):
    result = np.zeros(image.shape)
    brain = np.any(image != 0, axis=3)
    if brain.sum() == 0:
        return result
    for c in range(image.shape[3]):
        values = image[..., c][brain].astype(float)
        sd = np.std(values)
        result[..., c][brain] = (values - np.mean(values)) / sd if sd > 0 else 0
    return result


@right("standardize")
def z_by_scipy(image):
    brain = (image != 0).any(-1)
    out = np.zeros_like(image, dtype=np.float64)
    if brain.any():
        out[brain] = np.nan_to_num(stats.zscore(image[brain].astype(np.float64), axis=0))
    return out


@right("standardize")
def z_by_masked_arrays(image):
    outside = ~(image != 0).any(-1, keepdims=True)
    values = np.ma.masked_array(image.astype(float), np.broadcast_to(outside, image.shape))
    if outside.all():
        return np.zeros(image.shape)
    sd = values.std(axis=(0, 1, 2))
    sd[sd == 0] = 1
    return ((values - values.mean(axis=(0, 1, 2))) / sd).filled(0)


@right("standardize")
def z_with_a_small_constant(image):
    brain = np.abs(image.astype("float64")).sum(axis=-1) > 0
    if not brain.any():
        return image.astype("float32")
    mean, sd = image[brain].mean(axis=0), image[brain].std(axis=0)
    return (((image - mean) / (sd + 1e-8)) * brain[..., None]).astype("float32")


@right("standardize")
def z_with_sample_sd(image):
    brain = (image != 0).any(-1)
    if brain.sum() < 2:
        return np.zeros(image.shape)
    values = image[brain].astype(float)
    sd = values.std(axis=0, ddof=1)
    result = np.zeros(image.shape)
    result[brain] = (values - values.mean(0)) / np.where(sd == 0, 1, sd)
    return result


@right("standardize")
def z_as_a_tensor(image):
    return tf.constant(reference.standardize(image))


@right("standardize")
def z_by_where(image):
    image = np.array(image, dtype=np.float64)
    brain = np.broadcast_to((image != 0).max(axis=-1, keepdims=True), image.shape)
    mean = np.mean(image, axis=(0, 1, 2), where=brain, keepdims=True)
    sd = np.std(image, axis=(0, 1, 2), where=brain, keepdims=True)
    return np.where(brain & (sd > 0), (image - mean) / np.where(sd > 0, sd, 1), 0)


def _z(inside=lambda i: (i != 0).any(-1), axes=(0, 1, 2), outside=0.0, ddof=0, power=1, centre=np.mean, guard=True):
    """A family of answers to standardize."""

    def answer(image):
        image = image.astype(float)
        mask = inside(image)
        mask = np.broadcast_to(mask if mask.ndim == image.ndim else mask[..., None], image.shape)
        sd = np.std(image, axis=axes, where=mask, keepdims=True, ddof=ddof) ** power
        if centre is np.mean:
            mean = np.mean(image, axis=axes, where=mask, keepdims=True)
        else:
            mean = centre(np.where(mask, image, np.nan), axes)
        result = (image - mean) / (np.where(sd > 0, sd, 1) if guard else sd)
        result = np.nan_to_num(result) if guard else result
        return result if outside is None else np.where(mask, result, outside)

    return answer


def _course_version(image):
    """Per channel and slice, as the well-known course has it."""
    result = np.zeros(image.shape)
    for c in range(image.shape[3]):
        for z in range(image.shape[2]):
            part = image[:, :, z, c]
            centred = part - np.mean(part)
            result[:, :, z, c] = centred / np.std(centred) if np.std(centred) else centred
    return result


def _in_place(image):
    image -= image.min()
    return reference.standardize(image)


def _zero_in_the_image_dtype(image):
    brain = (image != 0).any(-1)
    result = np.zeros_like(image)
    if brain.any():
        values = image[brain]
        result[brain] = (values - values.mean(0)) / np.maximum(values.std(0), 1e-8)
    return result


for name, answer in {
    "whole_volume": _z(lambda i: np.ones(i.shape[:3], bool)),
    "whole_volume_then_masked": lambda i: _z(lambda j: np.ones(j.shape[:3], bool))(i) * (i != 0).any(-1)[..., None],
    "per_slice": _z(axes=(0, 1)),
    "per_slice_whole": _course_version,
    "one_mean_for_all_channels": _z(axes=(0, 1, 2, 3)),
    "own_mask_per_channel": _z(lambda i: i != 0),
    "all_channels_non_zero": _z(lambda i: (i != 0).all(-1)),
    "positive_only": _z(lambda i: (i > 0).any(-1)),
    "sum_non_zero": _z(lambda i: i.sum(-1) != 0),
    "first_channel_mask": _z(lambda i: i[..., 0] != 0),
    "above_the_mean_mask": _z(lambda i: i[..., 0] > i[..., 0].mean()),
    "background_left_negative": _z(outside=None),
    "background_minimum": lambda i: (lambda r: np.where((i != 0).any(-1)[..., None], r, r.min() - 1))(_z()(i)),
    "background_nan": _z(outside=np.nan),
    "variance": _z(power=2),
    "not_divided": _z(power=0),
    "not_centred": _z(centre=lambda values, axes: 0.0),
    "median": _z(centre=lambda values, axes: np.nanmedian(values, axis=axes, keepdims=True)),
    "minimum_to_maximum": lambda i: (i - i.min()) / max(np.ptp(i), 1),
    "divided_by_maximum": lambda i: i / max(i.max(), 1),
    "nan_for_constant": _z(guard=False),
    "large_constant": lambda i: _z()(i) * 0.9,
    "integers_stay_integers": _zero_in_the_image_dtype,
    "changes_the_image": _in_place,
    "returns_the_image": lambda i: i,
    "zeros": lambda i: np.zeros(i.shape),
    "channels_merged": lambda i: _z()(i).mean(-1),
    "channels_first": lambda i: np.moveaxis(_z()(i), -1, 0),
    "brain_only": lambda i: _z()(i)[(i != 0).any(-1)],
    "nothing": lambda i: None,
    "constant_channel_kept": lambda i: np.where(np.std(i, axis=(0, 1, 2), where=(i != 0).any(-1)[..., None]) > 0, _z()(i), i),
    "clipped_at_2": lambda i: np.clip(_z()(i), -2, 2),
    "mean_and_sd_of_first_channel": lambda i: np.where(
        (i != 0).any(-1)[..., None], (i - i[(i != 0).any(-1)][:, 0].mean()) / max(i[(i != 0).any(-1)][:, 0].std(), 1e-8), 0
    ),
    "per_x_slab": _z(axes=(1, 2)),
    "empty_scan_is_nan": lambda i: _z()(i) if i.any() else np.full(i.shape, np.nan),
}.items():
    wrong("standardize", f"z_{name}")(answer)

# ---- Dice -----------------------------------------------------------------------------------------------------------


def _ratio(t, p, axis, eps, power=1):
    return (2 * ops.sum(t * p, axis=axis) + eps) / (ops.sum(t**power, axis=axis) + ops.sum(p**power, axis=axis) + eps)


@right("single_class_dice_coefficient")
def dice_in_numpy(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    t, p = np.asarray(y_true), np.asarray(y_pred)
    return (2 * np.sum(t * p, axis=axis) + epsilon) / (np.sum(t, axis=axis) + np.sum(p, axis=axis) + epsilon)


@right("single_class_dice_coefficient")
def dice_in_tensorflow(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    both = tf.reduce_sum(tf.multiply(y_true, y_pred), axis=axis)
    return tf.divide(2.0 * both + epsilon, tf.reduce_sum(y_true + y_pred, axis=axis) + epsilon)


@right("single_class_dice_coefficient")
def dice_as_python_float(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    return float(_ratio(y_true, y_pred, axis, epsilon))


@right("single_class_dice_coefficient")
def dice_in_double_precision(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    return _ratio(ops.cast(y_true, "float64"), ops.cast(y_pred, "float64"), tuple(axis), epsilon)


@wrong("single_class_dice_coefficient", "dice_flattened", slip="`axis` is not used")
def dice_flattened(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    t, p = ops.ravel(y_true), ops.ravel(y_pred)
    return (2 * ops.dot(t, p) + epsilon) / (ops.sum(t) + ops.sum(p) + epsilon)


@wrong("single_class_dice_coefficient", "dice_in_python", slip="`axis` is not used")
def dice_in_python(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    pairs = list(zip(np.ravel(y_true).tolist(), np.ravel(y_pred).tolist()))
    return (2 * sum(a * b for a, b in pairs) + epsilon) / (sum(a + b for a, b in pairs) + epsilon)


@right("dice_coefficient")
def mean_dice_in_numpy(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return np.mean(dice_in_numpy(y_true, y_pred, axis, epsilon))


@right("dice_coefficient")
def mean_dice_in_tensorflow(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return tf.reduce_mean(dice_in_tensorflow(y_true, y_pred, axis, epsilon))


@right("dice_coefficient")
def mean_dice_step_by_step(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    both, total = y_true * y_pred, y_true + y_pred
    for one in sorted(axis, reverse=True):
        both, total = ops.sum(both, axis=one), ops.sum(total, axis=one)
    return ops.sum((2 * both + epsilon) / (total + epsilon)) / float(ops.size(total))


@right("dice_coefficient")
def mean_dice_kept_dimensions(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    both = ops.sum(y_true * y_pred, axis=axis, keepdims=True)
    total = ops.sum(y_true, axis=axis, keepdims=True) + ops.sum(y_pred, axis=axis, keepdims=True)
    return ops.mean((2 * both + epsilon) / (total + epsilon))


@right("dice_coefficient")
def mean_dice_as_float(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return float(ops.mean(_ratio(y_true, y_pred, axis, epsilon)))


@right("soft_dice_loss")
def soft_in_tensorflow(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    top = 2.0 * tf.reduce_sum(y_true * y_pred, axis=axis) + epsilon
    return 1 - tf.reduce_mean(top / (tf.reduce_sum(y_true**2 + y_pred**2, axis=axis) + epsilon))


@right("soft_dice_loss")
def soft_mean_of_losses(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return ops.mean(1.0 - _ratio(y_true, y_pred, axis, epsilon, power=2))


@right("soft_dice_loss")
def soft_by_the_difference(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    """1 − (2tp + ε)/(t² + p² + ε) = (t − p)²/(t² + p² + ε), summed."""
    below = ops.sum(ops.square(y_true) + ops.square(y_pred), axis=axis) + epsilon
    return ops.mean(ops.sum(ops.square(y_true - y_pred), axis=axis) / below)


@right("soft_dice_loss")
def soft_in_double_precision(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return 1 - ops.mean(_ratio(ops.cast(y_true, "float64"), ops.cast(y_pred, "float64"), axis, epsilon, power=2))


@right("soft_dice_loss")
def soft_list_axes(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    return 1 - ops.mean(_ratio(y_true, y_pred, list(axis), epsilon, power=2))


def _dice(
    default,
    power=1,
    top=2.0,
    above=lambda e: e,
    below=lambda e: e,
    axis=lambda a: a,
    prepare=lambda t, p: (t, p),
    finish=ops.mean,
    product=lambda t, p: t * p,
):
    """A family of answers to the Dice exercises."""

    def answer(y_true, y_pred, axis_=default, epsilon=1e-5):
        t, p = prepare(y_true, y_pred)
        over = axis(axis_)
        upper = top * ops.sum(product(t, p), axis=over) + above(epsilon)
        return finish(upper / (ops.sum(t**power, axis=over) + ops.sum(p**power, axis=over) + below(epsilon)))

    def named(y_true, y_pred, axis=default, epsilon=1e-5):
        return answer(y_true, y_pred, axis, epsilon)

    return named


def _jaccard(default, power, finish):
    def answer(y_true, y_pred, axis=default, epsilon=1e-5):
        both = ops.sum(y_true * y_pred, axis=axis)
        each = ops.sum(y_true**power, axis=axis) + ops.sum(y_pred**power, axis=axis)
        return finish((both + epsilon) / (each - both + epsilon))

    return answer


def _overwrites(default, power, finish):
    def answer(y_true, y_pred, axis=default, epsilon=1e-5):
        return finish(_ratio(y_true, y_pred, axis, epsilon, power)).numpy() * 0 + 0.5

    return answer


for exercise, default, power, finish in [
    ("single_class_dice_coefficient", (0, 1, 2), 1, lambda value: value),
    ("dice_coefficient", (1, 2, 3), 1, ops.mean),
    ("soft_dice_loss", (1, 2, 3), 2, lambda value: 1 - ops.mean(value)),
]:
    base = {"default": default, "power": power, "finish": finish}
    family = {
        "fixed_epsilon": {"above": lambda e: 1e-5, "below": lambda e: 1e-5},
        "no_epsilon": {"above": lambda e: 0.0, "below": lambda e: 0.0},
        "epsilon_below_only": {"above": lambda e: 0.0},
        "epsilon_above_only": {"below": lambda e: 0.0},
        "epsilon_twice_above": {"above": lambda e: 2 * e},
        "epsilon_twice_below": {"below": lambda e: 2 * e},
        "factor_2_missing": {"top": 1.0},
        "other_power": {"power": 3 - power},
        "fixed_axes": {"axis": lambda a, default=default: default},
        "thresholded": {"prepare": lambda t, p: (t, ops.cast(p > 0.5, "float32"))},
        "rounded": {"prepare": lambda t, p: (t, ops.round(p))},
        "union_for_product": {"product": lambda t, p: ops.maximum(t, p)},
        "overlap_by_minimum": {"product": lambda t, p: ops.minimum(t, p)},
        "background_too": {"product": lambda t, p: t * p + (1 - t) * (1 - p)},
        "equality_for_product": {"product": lambda t, p: ops.cast(ops.equal(t, p), "float32")},
        "minus": {"finish": lambda value, finish=finish: -finish(value)},
        "one_minus": {"finish": lambda value, finish=finish: 1 - finish(value)},
        "truth_twice": {"prepare": lambda t, p: (t, t)},
        "one_default_epsilon": {"above": lambda e: 1e-7 if e == 1e-5 else e, "below": lambda e: 1e-7 if e == 1e-5 else e},
        "constant": {"finish": lambda value: 0.5},
        "none": {"finish": lambda value: None},
        "one_element": {"finish": lambda value, finish=finish: ops.reshape(finish(value), (1,))},
        "percentage": {"finish": lambda value, finish=finish: 100 * finish(value)},
    }
    if exercise != "single_class_dice_coefficient":
        family |= {
            "all_axes": {"axis": lambda a: None},
            "first_axes": {"axis": lambda a: (0, 1, 2)},
            "no_mean": {"finish": lambda value, loss=exercise == "soft_dice_loss": 1 - value if loss else value},
            "sum_for_mean": {
                "finish": lambda value, loss=exercise == "soft_dice_loss": 1 - ops.sum(value) if loss else ops.sum(value)
            },
            "median_for_mean": {
                "finish": lambda value, loss=exercise == "soft_dice_loss": 1 - ops.median(value) if loss else ops.median(value)
            },
            "best_class": {
                "finish": lambda value, loss=exercise == "soft_dice_loss": 1 - ops.max(value) if loss else ops.max(value)
            },
            "last_two_axes": {"axis": lambda a: a[-2:]},
        }
    for name, changed in family.items():
        wrong(exercise, f"dice_{name}")(_dice(**{**base, **changed}))
    wrong(exercise, "dice_jaccard")(_jaccard(default, power, finish))
    wrong(exercise, "dice_half")(_overwrites(default, power, finish))


@wrong("single_class_dice_coefficient")
def dice_scikit_learn(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    return f1_score(np.ravel(y_true) > 0.5, np.ravel(y_pred) > 0.5)


@wrong("single_class_dice_coefficient")
def dice_mean_over_slices(y_true, y_pred, axis=(0, 1, 2), epsilon=1e-5):
    return ops.mean(_ratio(y_true, y_pred, axis[:-1], epsilon))


@wrong("soft_dice_loss")
def soft_squares_of_sums(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    below = ops.sum(y_true, axis=axis) ** 2 + ops.sum(y_pred, axis=axis) ** 2 + epsilon
    return 1 - ops.mean((2 * ops.sum(y_true * y_pred, axis=axis) + epsilon) / below)


@wrong("soft_dice_loss")
def soft_in_numpy(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    t, p = np.asarray(y_true), np.asarray(y_pred)
    return 1 - np.mean((2 * (t * p).sum(axis) + epsilon) / ((t**2).sum(axis) + (p**2).sum(axis) + epsilon))


@wrong("soft_dice_loss")
def soft_as_float(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return float(reference.soft_dice_loss(y_true, y_pred, axis, epsilon))


@wrong("soft_dice_loss")
def soft_without_gradient(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return ops.stop_gradient(reference.soft_dice_loss(y_true, y_pred, axis, epsilon))


@wrong("soft_dice_loss")
def soft_squares_one_only(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    below = ops.sum(y_true, axis=axis) + ops.sum(y_pred**2, axis=axis) + epsilon
    return 1 - ops.mean((2 * ops.sum(y_true * y_pred, axis=axis) + epsilon) / below)


@wrong("soft_dice_loss")
def soft_log_dice(y_true, y_pred, axis=(1, 2, 3), epsilon=1e-5):
    return -ops.log(ops.mean(_ratio(y_true, y_pred, axis, epsilon, power=2)))


# ---- compute_class_sens_spec ----------------------------------------------------------------------------------------


@right("compute_class_sens_spec")
def rates_by_products(pred, label, class_num):
    p, t = pred[..., class_num], label[..., class_num]
    tp, tn, fp, fn = (np.float64(np.sum(part)) for part in (p * t, (1 - p) * (1 - t), p * (1 - t), (1 - p) * t))
    return tp / (tp + fn), tn / (tn + fp)


@right("compute_class_sens_spec")
def rates_by_scikit_learn(pred, label, class_num):
    p, t = pred[..., class_num].ravel().astype(int), label[..., class_num].ravel().astype(int)
    return tuple(recall_score(t, p, pos_label=k, zero_division=np.nan) for k in (1, 0))


@right("compute_class_sens_spec")
def rates_by_confusion_matrix(pred, label, class_num):
    (tn, fp), (fn, tp) = confusion_matrix(label[..., class_num].ravel() > 0, pred[..., class_num].ravel() > 0, labels=[False, True])
    return [float(tp / (tp + fn)), float(tn / (tn + fp))]


@right("compute_class_sens_spec")
def rates_by_means(pred, label, class_num):
    p, t = pred[..., class_num].astype(bool), label[..., class_num].astype(bool)
    return np.array([p[t].mean(), 1 - p[~t].mean()])


@right("compute_class_sens_spec")
def rates_by_loop(pred, label, class_num):
    counts = {(a, b): 0 for a in (0, 1) for b in (0, 1)}
    for a, b in zip(pred[..., class_num].flat, label[..., class_num].flat):
        counts[int(a), int(b)] += 1
    sick, healthy = counts[1, 1] + counts[0, 1], counts[0, 0] + counts[1, 0]
    return counts[1, 1] / sick if sick else float("nan"), counts[0, 0] / healthy if healthy else float("nan")


@right("compute_class_sens_spec")
def rates_by_tensorflow(pred, label, class_num):
    p, t = (tf.constant(a[..., class_num], tf.float32) for a in (pred, label))
    return tf.reduce_sum(p * t) / tf.reduce_sum(t), tf.reduce_sum((1 - p) * (1 - t)) / tf.reduce_sum(1 - t)


def _rates(first, second, cut=lambda a, k: a[..., k], undefined=None, number=np.int64):
    def answer(pred, label, class_num):
        p, t = cut(pred, class_num) == 1, cut(label, class_num) == 1
        counts = tuple(number(np.sum(part)) for part in (p & t, ~p & ~t, p & ~t, ~p & t))
        values = tuple(rate(*counts) for rate in (first, second))
        return values if undefined is None else tuple(undefined if np.isnan(value) else value for value in values)

    return answer


def _overwrites_pred(pred, label, class_num):
    pred[pred > 0] = 2
    return _rates(SENSITIVITY, SPECIFICITY)((pred == 2).astype(int), label, class_num)


SENSITIVITY = lambda tp, tn, fp, fn: tp / (tp + fn)  # noqa: E731
SPECIFICITY = lambda tp, tn, fp, fn: tn / (tn + fp)  # noqa: E731
PPV = lambda tp, tn, fp, fn: tp / (tp + fp)  # noqa: E731
NPV = lambda tp, tn, fp, fn: tn / (tn + fn)  # noqa: E731
ACCURACY = lambda tp, tn, fp, fn: (tp + tn) / (tp + tn + fp + fn)  # noqa: E731

for name, answer in {
    "swapped": _rates(SPECIFICITY, SENSITIVITY),
    "ppv_and_npv": _rates(PPV, NPV),
    "ppv_for_sensitivity": _rates(PPV, SPECIFICITY),
    "npv_for_specificity": _rates(SENSITIVITY, NPV),
    "arguments_swapped": lambda p, t, k: _rates(SENSITIVITY, SPECIFICITY)(t, p, k),
    "accuracy_twice": _rates(ACCURACY, ACCURACY),
    "false_positive_rate": _rates(SENSITIVITY, lambda *c: 1 - SPECIFICITY(*c)),
    "false_negative_rate": _rates(lambda *c: 1 - SENSITIVITY(*c), SPECIFICITY),
    "class_0": _rates(SENSITIVITY, SPECIFICITY, cut=lambda a, k: a[..., 0]),
    "first_axis": _rates(SENSITIVITY, SPECIFICITY, cut=lambda a, k: a[k]),
    "all_classes": _rates(SENSITIVITY, SPECIFICITY, cut=lambda a, k: a),
    "counts_from_1": _rates(SENSITIVITY, SPECIFICITY, cut=lambda a, k: a[..., k - 1]),
    "second_axis": _rates(SENSITIVITY, SPECIFICITY, cut=lambda a, k: a[:, k]),
    "fourth_axis": _rates(SENSITIVITY, SPECIFICITY, cut=lambda a, k: a[:, :, :, k]),
    "zero_when_undefined": _rates(SENSITIVITY, SPECIFICITY, undefined=0.0),
    "one_when_undefined": _rates(SENSITIVITY, SPECIFICITY, undefined=1.0),
    "none_when_undefined": lambda p, t, k: tuple(None if np.isnan(v) else v for v in _rates(SENSITIVITY, SPECIFICITY)(p, t, k)),
    "zero_division_error": _rates(SENSITIVITY, SPECIFICITY, number=int),
    "small_constant": _rates(lambda tp, tn, fp, fn: tp / (tp + fn + 1e-7), lambda tp, tn, fp, fn: tn / (tn + fp + 1e-7)),
    "sensitivity_only": lambda p, t, k: _rates(SENSITIVITY, SPECIFICITY)(p, t, k)[0],
    "dictionary": lambda p, t, k: dict(zip(("sensitivity", "specificity"), _rates(SENSITIVITY, SPECIFICITY)(p, t, k))),
    "per_class_arrays": lambda p, t, k: (
        (p * t).sum((0, 1)) / t.sum((0, 1)),
        ((1 - p) * (1 - t)).sum((0, 1)) / (1 - t).sum((0, 1)),
    ),
    "first_slice": _rates(SENSITIVITY, SPECIFICITY, cut=lambda a, k: a[0, ..., k]),
    "overwrites": _overwrites_pred,
    "constant": lambda p, t, k: (0.5, 0.5),
    "rounded": lambda p, t, k: tuple(np.round(_rates(SENSITIVITY, SPECIFICITY)(p, t, k), 2)),
    "background_class_healthy": lambda p, t, k: _rates(SENSITIVITY, SPECIFICITY)(
        np.stack([p[..., k]], -1), np.stack([t.max(-1)], -1), 0
    ),
}.items():
    wrong("compute_class_sens_spec", f"rates_{name}")(answer)

# ---- get_regions ----------------------------------------------------------------------------------------------------


@right("get_regions")
def regions_by_isin(label):
    return np.stack([np.isin(label, [1, 2, 3]), np.isin(label, [2, 3]), label == 3], -1)


@right("get_regions")
def regions_by_broadcasting(label):
    return label[..., np.newaxis] >= np.array([1, 2, 3])


@right("get_regions")
def regions_by_table(label):
    return np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=bool)[label]


@right("get_regions")
def regions_by_filling(label):
    result = np.zeros((*label.shape, 3), dtype=np.bool_)
    for region, classes in enumerate([(1, 2, 3), (2, 3), (3,)]):
        for one in classes:
            result[..., region] |= label == one
    return result


@right("get_regions")
def regions_by_logical_or(label):
    one, two, three = label == 1, label == 2, label == 3
    core = np.logical_or(two, three)
    return np.concatenate([part[..., None] for part in (np.logical_or(one, core), core, three)], axis=-1)


@right("get_regions")
def regions_as_a_tensor(label):
    label = tf.constant(label)
    return tf.stack([label > 0, label > 1, label > 2], axis=-1)


@right("get_regions")
def regions_by_moveaxis(label):
    return np.moveaxis(np.array([label != 0, (label == 2) | (label == 3), label == 3]), 0, -1)


def _regions(*groups, axis=-1):
    return lambda label: np.stack([np.isin(label, group) for group in groups], axis=axis)


WHOLE, CORE, ENHANCING = (1, 2, 3), (2, 3), (3,)


def _regions_in_place(label):
    label[label == 2] = 3
    return _regions(WHOLE, CORE, ENHANCING)(label)


for name, answer in {
    "single_classes": _regions((1,), (2,), (3,)),
    "reversed": _regions(ENHANCING, CORE, WHOLE),
    "core_first": _regions(CORE, WHOLE, ENHANCING),
    "enhancing_second": _regions(WHOLE, ENHANCING, CORE),
    "core_of_1_and_3": _regions(WHOLE, (1, 3), ENHANCING),
    "core_of_1_and_2": _regions(WHOLE, (1, 2), ENHANCING),
    "core_without_enhancing": _regions(WHOLE, (2,), ENHANCING),
    "core_is_1": _regions(WHOLE, (1,), ENHANCING),
    "enhancing_is_2": _regions(WHOLE, CORE, (2,)),
    "enhancing_is_4": _regions((1, 2, 4), (1, 4), (4,)),
    "whole_without_enhancing": _regions((1, 2), CORE, ENHANCING),
    "whole_without_edema": _regions(CORE, CORE, ENHANCING),
    "with_background": _regions((0,), WHOLE, CORE, ENHANCING),
    "two_regions": _regions(WHOLE, CORE),
    "regions_first": _regions(WHOLE, CORE, ENHANCING, axis=0),
    "integers": lambda label: _regions(WHOLE, CORE, ENHANCING)(label).astype(int),
    "floats": lambda label: _regions(WHOLE, CORE, ENHANCING)(label).astype("float32"),
    "inverted": lambda label: ~_regions(WHOLE, CORE, ENHANCING)(label),
    "label_values": lambda label: label[..., None] * _regions(WHOLE, CORE, ENHANCING)(label),
    "tuple_of_three": lambda label: (label > 0, label > 1, label > 2),
    "threshold_off_by_one": lambda label: np.stack([label >= 0, label >= 1, label >= 2], -1),
    "greater_everywhere": lambda label: np.stack([label > 1, label > 2, label > 3], -1),
    "three_axes_only": lambda label: np.stack([label[:, :, :] > 0, label[:, :, :] > 1, label[:, :, :] > 2], axis=3),
    "empty": lambda label: np.zeros((*label.shape, 3), bool),
    "nothing": lambda label: None,
    "python_or": lambda label: np.stack([label == (1 or 2 or 3), label == (2 or 3), label == 3], -1),
    "python_in": lambda label: np.stack([[v in (1, 2, 3) for v in row] for row in label], -1),
    "dictionary": lambda label: {"WT": label > 0, "TC": label > 1, "ET": label > 2},
    "overwrites": _regions_in_place,
    "core_is_whole": _regions(WHOLE, WHOLE, ENHANCING),
}.items():
    wrong("get_regions", f"regions_{name}")(answer)

# ---- lesion_recall --------------------------------------------------------------------------------------------------


def _lesions(
    of=lambda p, t: t, by=lambda p, t: p, structure=lambda n: None, enough=np.any, finish=lambda k, n: k / n if n else np.nan
):
    def lesion_recall(pred, label):
        pieces, n = ndimage.label(of(pred, label) > 0, structure(label.ndim))
        return finish(sum(bool(enough(by(pred, label)[pieces == k] > 0)) for k in range(1, n + 1)), n)

    return lesion_recall


@right("lesion_recall")
def lesions_by_maximum(pred, label):
    pieces, n = ndimage.label(label)
    return np.mean(ndimage.maximum(pred.astype(int), pieces, np.arange(1, n + 1))) if n else np.nan


@right("lesion_recall")
def lesions_by_bincount(pred, label):
    pieces, n = ndimage.label(np.asarray(label) != 0)
    hit = np.bincount(pieces[np.asarray(pred) != 0].ravel(), minlength=n + 1)[1:] > 0
    return hit.mean() if n else float("nan")


@right("lesion_recall")
def lesions_by_flood_fill(pred, label):
    left, pieces = {tuple(at) for at in np.argwhere(label > 0)}, []
    while left:
        stack, piece = [left.pop()], []
        while stack:
            at = stack.pop()
            piece.append(at)
            for axis in range(len(at)):
                for step in (-1, 1):
                    other = (*at[:axis], at[axis] + step, *at[axis + 1 :])
                    if other in left:
                        left.remove(other)
                        stack.append(other)
        pieces.append(any(pred[at] > 0 for at in piece))
    return sum(pieces) / len(pieces) if pieces else np.nan


@right("lesion_recall")
def lesions_as_a_tensor(pred, label):
    return tf.constant(reference.lesion_recall(pred, label))


for name, (answer, slip) in {
    "voxels": (lambda p, t: np.float64(np.sum((p > 0) & (t > 0))) / np.sum(t > 0), "voxels"),
    "pieces_of_pred": (_lesions(of=lambda p, t: p, by=lambda p, t: t), "pieces of `pred`"),
    "diagonal": (_lesions(structure=lambda n: np.ones((3,) * n)), "edge or a corner"),
    "number": (_lesions(finish=lambda k, n: k if n else np.nan), "number of pieces"),
    "all_voxels": (_lesions(enough=np.all), "not only when all"),
    "half_of_the_voxels": (_lesions(enough=lambda found: found.mean() >= 0.5), "not only when half"),
    "any": (_lesions(finish=lambda k, n: float(k > 0) if n else np.nan), "as soon as anything"),
    "missed": (_lesions(finish=lambda k, n: 1 - k / n if n else np.nan), "missed"),
    "ratio_of_numbers": (
        lambda p, t: np.float64(ndimage.label(p)[1]) / np.float64(ndimage.label(t)[1]),
        "number of pieces in `pred`|nan",
    ),
    "with_background": (
        lambda p, t: (lambda pieces, n: len(np.unique(pieces[p > 0])) / (n + 1) if n else np.nan)(*ndimage.label(t)),
        "background",
    ),
    "one_too_many": (_lesions(finish=lambda k, n: k / (n + 1) if n else np.nan), "one piece too many"),
    "dice": (lambda p, t: 2 * np.sum((p > 0) & (t > 0)) / np.float64(np.sum(p > 0) + np.sum(t > 0)), "Dice"),
    "zero_when_undefined": (_lesions(finish=lambda k, n: k / n if n else 0.0), "nan"),
    "one_when_undefined": (_lesions(finish=lambda k, n: k / n if n else 1.0), "nan"),
    "zero_division": (_lesions(finish=lambda k, n: k / n), "nan"),
    "nothing": (lambda p, t: None, "return"),
    "constant": (lambda p, t: 0.5, None),
    "slice_by_slice": (
        lambda p, t: np.nanmean([_lesions()(p[..., k], t[..., k]) for k in range(t.shape[-1])]) if t.any() else np.nan,
        None,
    ),
    "overwrites": (lambda p, t: (reference.lesion_recall(p, t), np.copyto(t, 0))[0], "changed its argument"),
    "arguments_swapped": (lambda p, t: reference.lesion_recall(t, p), "pieces of `pred`"),
}.items():
    wrong("lesion_recall", f"lesions_{name}", slip=slip)(answer)

# ---- up_step --------------------------------------------------------------------------------------------------------


def _up(
    enlarge=lambda x, n: keras.layers.Conv3DTranspose(n, 2, strides=2)(x),
    join=lambda x, s: keras.layers.Concatenate()([x, s]),
    normalise=lambda x: keras.layers.GroupNormalization(groups=-1)(x),
    filters=lambda n: n,
    steps=2,
    activate=lambda x, step: keras.layers.ReLU()(x),
):
    def up_step(x, skip, n):
        x = join(enlarge(x, n), skip)
        for step in range(steps):
            x = activate(normalise(keras.layers.Conv3D(filters(n), 3, padding="same")(x)), step)
        return x

    return up_step


right("up_step", "upsampling")(_up(lambda x, n: keras.layers.UpSampling3D(2)(x)))
right("up_step", "by_ops")(
    _up(lambda x, n: ops.repeat(ops.repeat(ops.repeat(x, 2, 1), 2, 2), 2, 3), lambda x, s: ops.concatenate([s, x], -1))
)
for name in ("tanh", "selu", "gelu", "sigmoid"):
    right("up_step", f"up_{name}")(_up(activate=lambda x, step, name=name: keras.layers.Activation(name)(x)))
right("up_step", "up_prelu")(_up(activate=lambda x, step: keras.layers.PReLU(shared_axes=(1, 2, 3))(x)))
right("up_step", "layer_norm_over_space")(_up(normalise=lambda x: keras.layers.LayerNormalization(axis=(1, 2, 3))(x)))

for name, (answer, slip) in {
    "skip_not_used": (_up(join=lambda x, s: x), "`skip` is not used"),
    "x_not_used": (_up(join=lambda x, s: s), "`x` is not used"),
    "not_enlarged": (lambda x, skip, n: keras.layers.Conv3D(n, 3, padding="same")(x), "not enlarged"),
    "not_normalised": (_up(normalise=lambda x: x), "normalise"),
    "not_convolved": (_up(enlarge=lambda x, n: keras.layers.UpSampling3D(2)(x), steps=0), "joined tensor|channels"),
    "twice_the_filters": (_up(filters=lambda n: 2 * n), "`filters` channels"),
    "valid_padding": (lambda x, skip, n: keras.layers.Conv3D(n, 2)(_up()(x, skip, n)), None),
    "joined_along_z": (_up(join=lambda x, s: keras.layers.Concatenate(axis=3)([x, s])), None),
    "one_filter": (_up(filters=lambda n: 1), "`filters` channels"),
    "nothing": (lambda x, skip, n: None, "return"),
    "added": (_up(join=lambda x, s: x + s), None),
    "relu_at_the_end_only": (_up(activate=lambda x, step: keras.layers.ReLU()(x) if step else x), "after each convolution"),
    "gelu_at_the_end_only": (_up(activate=lambda x, step: keras.activations.gelu(x) if step else x), "after each convolution"),
}.items():
    wrong("up_step", f"up_{name}", slip=slip)(answer)
