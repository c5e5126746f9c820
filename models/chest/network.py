"""The network of notebook 01: DenseNet121 with one sigmoid for each finding."""

import functools

import keras

from data.errors import DataError
from data.nih import FINDINGS
from models.weights import load_weights, require_channels_last

CHEST_SIZE = 128  # pixels a side that the shipped weights were trained at
CHEST_WEIGHTS = "densenet121_chest.weights.h5"


@keras.saving.register_keras_serializable("course")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer as DenseNet121 uses it, on TensorFlow by fewer passes over the feature maps: the same numbers, to rounding.

    Scaling is a depthwise convolution of one pixel, which takes in the ReLU behind it; where the batch decides, its moments are
    the gradients of a bias and of such a convolution. Without AVX-512 TensorFlow's fused operation takes six times as long forward.
    It is left in prediction behind a convolution, into which TensorFlow merges it, in 16 bits and on a GPU. The class has the
    name of Keras's because files of weights name layers by their class.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise (batch, height, width, channels), by the batch in training and by the moving statistics otherwise."""
        if keras.config.backend() != "tensorflow" or self.compute_dtype not in ("float32", "bfloat16"):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        if self.compute_dtype == "bfloat16" and tf.config.list_physical_devices("GPU"):  # not shown to work there
            return super().call(inputs, training=training, mask=mask)
        fused = functools.partial(tf.raw_ops.FusedBatchNormV3, x=inputs, scale=self.gamma, offset=self.beta, epsilon=self.epsilon)
        full = self.compute_dtype == "float32"  # 16 bits would round scale and moments
        if not (training and self.trainable):
            follows_convolution = self.name.endswith("1_bn")  # conv1_bn, conv2_block1_1_bn, … of keras.applications
            if full and (training or not follows_convolution):
                scale = self.gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
                return _scale_channels(inputs, scale, self.beta - self.moving_mean * scale)
            return fused(mean=self.moving_mean, variance=self.moving_variance, is_training=False)[0]
        if _computes_moments(self):
            mean, variance = _channel_moments(inputs)
            normalised = _normalize(inputs, mean, variance, self.gamma, self.beta, self.epsilon)
        else:
            normalised, mean, variance, *_ = fused(mean=[], variance=[], is_training=True)
            count = tf.cast(tf.size(inputs) / tf.size(mean), tf.float32)
            variance *= (count - 1) / count  # Keras: without Bessel's correction
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return normalised


@keras.saving.register_keras_serializable("course")
class Conv2D(keras.layers.Conv2D):
    """A convolution of colours for grey images: on three equal channels it is that of one with the sum of the kernel over them.

    The kernel stays one of colours, for ImageNet's weights. (The name: see `BatchNormalization`.)
    """

    def build(self, input_shape):
        """Make the kernel (height, width, 3, filters) for images (batch, height, width, 1)."""
        super().build((*input_shape[:-1], 3))
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: 1})

    def call(self, inputs):
        """Convolve (batch, height, width, 1) as if it were there three times."""
        return keras.ops.conv(inputs, keras.ops.sum(self.kernel, 2, keepdims=True), self.strides, self.padding)


@keras.saving.register_keras_serializable("course")
class Concatenate(keras.layers.Concatenate):
    """Keras's layer, which in training hands on the moments of the maps it joins: a dense block normalises them up to 24 times."""

    def call(self, inputs, training=None):
        """Join (batch, height, width, channels) along the channels."""
        joined = super().call(inputs)
        if training and _computes_moments(self):
            import tensorflow as tf

            joined.channel_moments = [tf.concat(parts, 0) for parts in zip(*map(_channel_moments, inputs), strict=True)]
        return joined


def _computes_moments(layer: keras.layers.Layer) -> bool:
    """Whether `_channel_moments` and `_normalize` serve: in 32 bits on a processor (a GPU wants other reserved numbers)."""
    if keras.config.backend() != "tensorflow" or layer.compute_dtype != "float32":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def _channel_moments(x):
    """Mean and variance of each channel of (batch, height, width, channels); what `Concatenate` joined brings its own."""
    if hasattr(x, "channel_moments"):
        return x.channel_moments
    import tensorflow as tf

    share = 1 / tf.cast(tf.size(x) / x.shape[-1], tf.float32)  # of a pixel
    mean = share * tf.raw_ops.BiasAddGrad(out_backprop=x)  # the sum of all pixels; then the sum of their squares
    squares = tf.nn.depthwise_conv2d_backprop_filter(x, (1, 1, x.shape[-1], 1), x, (1, 1, 1, 1), "VALID")[0, 0, :, 0]
    return mean, tf.maximum(share * squares - tf.square(mean), 0)  # as keras.ops.moments


def _scale_channels(inputs, scale, offset):
    """Each channel times its scale plus its offset."""
    import tensorflow as tf

    scaled = tf.nn.depthwise_conv2d(inputs, scale[None, None, :, None], (1, 1, 1, 1), "VALID")
    return tf.nn.bias_add(scaled, offset)


def _normalize(inputs, mean, variance, gamma, beta, epsilon: float):
    """Batch normalisation of (batch, height, width, channels) on a processor, given the batch's moments."""
    import tensorflow as tf

    mean, variance = tf.stop_gradient(mean), tf.stop_gradient(variance)  # the gradient with respect to x is through them, too

    @tf.custom_gradient
    def normalize(x, gamma, beta):
        def gradient(upstream):
            found = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=upstream,
                x=x,
                scale=gamma,
                reserve_space_1=mean,
                reserve_space_2=variance,
                reserve_space_3=tf.zeros(1),
                epsilon=epsilon,
                is_training=True,
            )
            return found.x_backprop, found.scale_backprop, found.offset_backprop

        scale = gamma * tf.math.rsqrt(variance + epsilon)
        return _scale_channels(x, scale, beta - mean * scale), gradient

    return normalize(inputs, tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta))  # variables would have to be named


def _replaced(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A new layer like this one; ours in place of Keras's."""
    ours = {keras.layers.BatchNormalization: BatchNormalization, keras.layers.Concatenate: Concatenate}
    kind = Conv2D if layer.name == "conv1_conv" else ours.get(type(layer), type(layer))
    return kind.from_config(layer.get_config())


def _connected(layer: keras.layers.Layer, *inputs, **settings):
    """The output of a new layer in DenseNet121 as we connect it: on one channel, and with each transition's pooling moved forward.

    To average pixels and to convolve them one by one gives the same in either order; this one needs a quarter of the products.
    """
    place, _, kind = layer.name.partition("_")
    if layer.name == "grey_to_rgb":
        return inputs[0][0]
    transition = place in ("pool2", "pool3", "pool4")
    if transition and kind == "pool":
        return inputs[0]
    if transition and kind == "conv":
        inputs = [keras.layers.AveragePooling2D(2, name=f"{place}_pool")(*inputs)]
    return layer(*inputs, **settings)


def densenet121(size: int = CHEST_SIZE, classes: int = 14, weights: str | None = "course") -> keras.Model:
    """DenseNet121 (Huang et al., CVPR 2017) with one sigmoid for each finding.

    Parameters
    ----------
    size : int
        Side of the X-rays in pixels, at least 32.
    classes : int
        Number of findings; they do not exclude each other.
    weights : {"course", "imagenet"} or None
        Weights of all layers but the last two: those in ``models/`` (trained on simulated X-rays, then on real ones; no
        download needed), those of ImageNet (downloaded by Keras at first use, 30 MB), or
        random ones. With "course" and 14 classes the layer ``logits`` has trained weights too.

    Returns
    -------
    keras.Model
        (batch, size, size, 1) standardised X-rays to (batch, classes) probabilities. The layer ``logits`` holds the
        scores before the sigmoid.

    Raises
    ------
    DataError
        When Keras is set to channels first, the weights cannot be downloaded, or those in ``models/`` are damaged.
    ValueError
        When `size` is too small or there are no such `weights`.
    """
    if size < 32:
        raise ValueError(f"size is {size}; DenseNet121 halves an X-ray five times, so it needs at least 32 pixels a side.")
    if weights not in ("course", "imagenet", None):
        raise ValueError(f"weights is {weights!r}; it must be 'course', 'imagenet' or None.")
    require_channels_last()
    film = keras.Input((size, size, 1), name="film")
    colours = keras.layers.Concatenate(name="grey_to_rgb")([film, film, film])  # the network expects three channels
    try:
        backbone = keras.applications.DenseNet121(
            include_top=False, weights="imagenet" if weights == "imagenet" else None, input_tensor=colours
        )
    except Exception as error:  # Keras wraps the network's errors in a bare Exception
        if weights != "imagenet":
            raise
        offline = isinstance(error, OSError) or "fetch" in str(error)
        raise DataError(
            f"The ImageNet weights could not be {'downloaded' if offline else 'loaded'}. Connect to the internet once (Keras "
            "keeps them), or use "
            f"weights='course', which needs no network. What Keras said: {type(error).__name__}: {error}"
        ) from error
    pooled = keras.layers.GlobalAveragePooling2D(name="features")(backbone.output)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(pooled)  # 16 bits would make ties of probabilities
    probabilities = keras.layers.Activation("sigmoid", dtype="float32", name="probabilities")(logits)
    plain = keras.Model(film, probabilities, name="densenet121")
    model = keras.models.clone_model(plain, clone_function=_replaced, call_function=_connected)
    if weights == "imagenet":
        model.set_weights(plain.get_weights())
    if weights == "course":
        trained = model if classes == len(FINDINGS) else densenet121(size, len(FINDINGS), None)
        load_weights(trained, CHEST_WEIGHTS)
        if trained is not model:
            for layer, source_layer in zip(model.layers[:-2], trained.layers[:-2], strict=True):
                layer.set_weights(source_layer.get_weights())
    return model
