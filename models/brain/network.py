"""The network of notebook 03 and what surrounds it: 3D U-Net, loss, sliding window, regions."""

import math

import keras
import numpy as np
from keras import layers, ops

from models.weights import require_channels_last

FILTERS = (16, 32, 64, 128)  # of the shipped network
BRAIN_WEIGHTS = "unet3d_brain.weights.h5"
CLASSES_OF_REGIONS = (
    (1, 0, 0),
    (1, 1, 0),
    (1, 1, 1),
)  # a row a class: is it part of the whole tumour, the core, the enhancing tumour?


@keras.saving.register_keras_serializable("course")
class InstanceNormalization(layers.GroupNormalization):
    """Bring every channel of every sample to mean 0 and spread 1, then scale and shift it by learned numbers.

    Keras's group normalisation with a group a channel; files of weights name layers by their class, hence this one.
    (Ulyanov et al., arXiv 1607.08022.)
    """

    def __init__(self, **settings):
        super().__init__(**({"groups": -1, "epsilon": 1e-5} | settings))


@keras.saving.register_keras_serializable("course")
class Conv3DTranspose(layers.Conv3DTranspose):
    """Transposed convolution with a kernel as large as its stride, up to where its answer is laid out in space.

    (batch, x, y, z, channels) to (batch, x, y, z, voxels × filters). No two answers overlap, so it is one matrix product.
    `Unfold` makes of it what Keras's layer gives, whose weights and name it has (files name layers by their class). What
    is done voxel by voxel, such as a softmax, is faster before `Unfold`.
    """

    def call(self, x):
        """One row of answers a voxel: those of the voxels that it is enlarged to, in the order of the kernel."""
        voxels = math.prod(self.kernel_size)
        kernel = ops.reshape(ops.cast(self.kernel, x.dtype), (voxels * self.filters, -1))
        found = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), ops.transpose(kernel))
        found = ops.add(found, ops.tile(ops.cast(self.bias, x.dtype), [voxels]))
        return ops.reshape(found, (*ops.shape(x)[:-1], voxels * self.filters))

    def compute_output_shape(self, shape):
        """Shape of the answers."""
        return (*shape[:-1], math.prod(self.kernel_size) * self.filters)


@keras.saving.register_keras_serializable("course")
class Unfold(layers.Layer):
    """Lay eight voxels' channels, (…, x, y, z, 8 × channels), out in space: (…, 2 x, 2 y, 2 z, channels)."""

    def call(self, x):
        """Twice as many voxels along each axis."""
        batch, *size, channels = ops.shape(x)
        x = ops.reshape(x, (batch, *size, 2, 2, channels // 4))  # the last axis of space lies right already
        return ops.reshape(ops.transpose(x, (0, 1, 4, 2, 5, 3, 6)), (batch, *(2 * side for side in size), channels // 8))

    def compute_output_shape(self, shape):
        """Shape of what is laid out."""
        return (shape[0], *(side and 2 * side for side in shape[1:-1]), shape[-1] // 8)


@keras.saving.register_keras_serializable("course")
class ForegroundSoftmax(layers.Layer):
    """Softmax over background and classes, of which the probabilities of the classes are given.

    On a processor by products with small matrices: TensorFlow takes four times as long for its softmax over so few classes
    and for cutting off the background, forth and back. Not on a GPU, where products are rounded to 10 bits.

    Parameters
    ----------
    voxels : int
        Voxels whose logits lie one after the other in the last axis (see `Conv3DTranspose`); each has a softmax of its own.
    """

    def __init__(self, voxels: int = 1, **settings):
        super().__init__(**settings)
        self.voxels = voxels

    def call(self, logits):
        """Logits (…, voxels × (classes + 1)), background first, to probabilities (…, voxels × classes)."""
        shape = self.compute_output_shape(ops.shape(logits))
        classes = shape[-1] // self.voxels
        tensorflow = keras.config.backend() == "tensorflow"
        if tensorflow:
            import tensorflow as tf
        if not tensorflow or tf.config.list_physical_devices("GPU"):
            return ops.reshape(ops.softmax(ops.reshape(logits, (-1, classes + 1)))[..., 1:], shape)
        against_background, sum_of_odds = (
            tf.constant(np.kron(np.eye(self.voxels), of_one), logits.dtype)
            for of_one in (np.vstack([-np.ones(classes), np.eye(classes)]), np.ones((classes, classes)))
        )
        scores = tf.matmul(tf.reshape(logits, (-1, logits.shape[-1])), against_background)
        beyond = tf.stop_gradient(tf.nn.relu(scores - 60.0))  # exp of more than 88 is infinite; a minimum has a slow gradient
        odds = tf.exp(scores - beyond)
        return tf.reshape(odds / (1 + tf.matmul(odds, sum_of_odds)), shape)

    def compute_output_shape(self, shape):
        """Shape of the probabilities."""
        return (*shape[:-1], shape[-1] - self.voxels)

    def get_config(self) -> dict:
        """What the layer was made with."""
        return super().get_config() | {"voxels": self.voxels}


def unet3d(channels: int = 4, classes: int = 3, filters: tuple[int, ...] = FILTERS, name: str = "unet3d") -> keras.Model:
    """A 3D U-Net that takes boxes of any size divisible by 2 for each level (16 for four levels).

    The first convolution folds each cube of 2×2×2 voxels into one with more channels, the last one unfolds it again: all
    levels work at half the resolution or less, at a fraction of the cost, and the answer is at full resolution.

    Parameters
    ----------
    channels : int
        MR sequences.
    classes : int
        Classes without the background.
    filters : tuple of int
        Channels of each level, from the finest (half the resolution) to the coarsest.
    name : str

    Returns
    -------
    keras.Model
        (batch, x, y, z, channels), standardised, to probabilities (batch, x, y, z, classes). What is missing to 1 is
        the probability of background: inside, a softmax over ``classes + 1`` makes the classes exclude each other.

    Notes
    -----
    Çiçek et al., MICCAI 2016, with what nnU-Net (Isensee et al., Nature Methods 2021) changed: instance normalisation,
    because batches of one or two have no statistics worth sharing, and leaky ReLUs. Unfolding: Shi et al., CVPR 2016.
    """

    def two_convolutions(x, number: int, name: str):
        for step in (1, 2):
            x = layers.Conv3D(number, 3, padding="same", use_bias=False)(x)
            x = InstanceNormalization()(x)
            x = layers.LeakyReLU(0.01, name=f"{name}_{step}")(x)
        return x

    require_channels_last()
    image = keras.Input((None, None, None, channels), name="image")
    x, skipped = layers.Conv3D(filters[0], 2, strides=2, name="fold")(image), []
    for level, number in enumerate(filters[:-1]):  # down: ever coarser, ever more channels
        x = two_convolutions(x, number, f"down{level}")
        skipped.append(x)
        x = layers.MaxPooling3D(2)(x)
    x = two_convolutions(x, filters[-1], "bottom")
    for level in reversed(range(len(skipped))):  # up: each level gets the detail of its twin back
        x = layers.Conv3DTranspose(filters[level], 2, strides=2)(x)
        x = layers.Concatenate()([skipped[level], x])
        x = two_convolutions(x, filters[level], f"up{level}")
    logits = Conv3DTranspose(classes + 1, 2, strides=2, dtype="float32", name="logits")(x)
    probabilities = ForegroundSoftmax(voxels=8, dtype="float32", name="probabilities")(logits)
    return keras.Model(image, Unfold(dtype="float32", name="unfold")(probabilities), name=name)


def deeply_supervised(model: keras.Model) -> keras.Model:
    """The same network for training, with an answer at each coarser level on the way up, so that each learns directly.

    Parameters
    ----------
    model : keras.Model
        From `unet3d`. Its layers are shared, so it is trained along; the added ones are thrown away in the end.

    Returns
    -------
    keras.Model
        With the list of probabilities at 1, 1/4, 1/8 … of the resolution as output; what is at 1/2 makes the first one.

    Notes
    -----
    Lee et al., AISTATS 2015; as nnU-Net uses it.
    """
    found = [model.output]
    level = 1
    while any(layer.name == f"up{level}_2" for layer in model.layers):
        features = model.get_layer(f"up{level}_2").output
        logits = layers.Conv3D(model.output_shape[-1] + 1, 1, dtype="float32", name=f"logits{level}")(features)
        found.append(ForegroundSoftmax(dtype="float32", name=f"probabilities{level}")(logits))
        level += 1
    return keras.Model(model.input, found, name=f"{model.name}_deep")


def _in_rows(*images):
    """Number of voxels in a row, then each (…, z, classes) as (rows, voxels × classes).

    Eight voxels where z divides by it: TensorFlow takes two to four times as long for rows of three numbers.
    """
    depth, classes = images[0].shape[-2:]
    voxels = 8 if depth and depth % 8 == 0 else 1
    return voxels, *(ops.reshape(image, (-1, voxels * classes)) for image in images)


def _times_matrix(rows, matrix, voxels: int):
    """Each voxel's classes times a matrix (classes, new classes)."""
    return ops.matmul(rows, ops.convert_to_tensor(np.kron(np.eye(voxels), matrix), rows.dtype))


def _dice(y_true, y_pred, voxels: int, epsilon: float):
    """Soft Dice of each class of a batch, from rows."""

    def of_class(x):  # as a product: TensorFlow adds so few classes a voxel at a time
        return ops.sum(ops.reshape(ops.matmul(ops.ones((1, ops.shape(x)[0]), x.dtype), x), (voxels, -1)), 0)

    overlap = 2 * of_class(y_true * y_pred) + epsilon
    return overlap / (of_class(y_true) + of_class(ops.square(y_pred)) + epsilon)


def _cross_entropy(of_truth):
    """Mean cross-entropy, from the probabilities of what is true."""
    return -ops.mean(ops.log(ops.relu(of_truth) + 1e-6))


def dice_cross_entropy(y_true, y_pred, epsilon: float = 1e-5):
    """Soft Dice loss plus cross-entropy, as nnU-Net trains; each makes up for what the other is blind to.

    Parameters
    ----------
    y_true, y_pred : tensor, shape (batch, x, y, z, classes)
        One-hot truth and probabilities, both without background. Dice is taken over the batch, so that a class missing
        in one patch does not count as failed.

    Returns
    -------
    scalar tensor
    """
    classes = y_pred.shape[-1]
    voxels, y_true, y_pred = _in_rows(ops.cast(y_true, y_pred.dtype), y_pred)
    background = 1 - _times_matrix(y_true, np.ones((classes, classes)), voxels)  # of the truth, once for each class
    # of the true class: where that is the background, 1 less all others
    of_truth = _times_matrix(y_pred * (y_true - background) + background / classes, np.ones((classes, 1)), voxels)
    return 1 - ops.mean(_dice(y_true, y_pred, voxels, epsilon)) + _cross_entropy(of_truth)


def region_loss(y_true, y_pred, epsilon: float = 1e-5):
    """Soft Dice loss plus binary cross-entropy of the nested regions that BraTS scores, each a sum of classes.

    Parameters
    ----------
    y_true, y_pred : tensor, shape (batch, x, y, z, 3)
        One-hot truth and probabilities of edema, non-enhancing and enhancing tumour, as of `dice_cross_entropy`.

    Returns
    -------
    scalar tensor

    Notes
    -----
    Regions instead of classes: Isensee et al., nnU-Net for Brain Tumor Segmentation, 2020. There each region has an output
    of its own; here the network keeps its softmax.
    """
    voxels, *rows = _in_rows(ops.cast(y_true, y_pred.dtype), y_pred)
    y_true, y_pred = (_times_matrix(row, np.asarray(CLASSES_OF_REGIONS), voxels) for row in rows)
    return 1 - ops.mean(_dice(y_true, y_pred, voxels, epsilon)) + _cross_entropy(1 - ops.abs(y_true - y_pred))


LOSSES = {"classes": dice_cross_entropy, "regions": region_loss}
