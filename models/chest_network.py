"""The network of notebook 01 and what feeds it: DenseNet121, augmentation, batches, prediction."""

import functools

import cv2
import keras
import numpy as np
from tqdm import tqdm

from data.errors import DataError
from data.nih import FINDINGS
from util import load_weights

CHEST_SIZE = 128  # pixels a side that the shipped weights were trained at
CHEST_WEIGHTS = "densenet121_chest.weights.h5"


@keras.saving.register_keras_serializable("course")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer as DenseNet121 uses it, computed on TensorFlow in 32 bits by one fused operation: a training step takes a fifth less time.

    Keras takes several passes over the films' feature maps for the same numbers (to rounding). It has the name of Keras's layer because files of weights
    name layers by their class.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise (batch, height, width, channels), by the batch in training and by the moving statistics otherwise."""
        if keras.config.backend() != "tensorflow" or self.compute_dtype != "float32":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        fused = functools.partial(tf.raw_ops.FusedBatchNormV3, x=inputs, scale=self.gamma, offset=self.beta, epsilon=self.epsilon)
        if not (training and self.trainable):
            return fused(mean=self.moving_mean, variance=self.moving_variance, is_training=False)[0]
        normalised, mean, variance, *_ = fused(mean=[], variance=[], is_training=True)
        count = tf.cast(tf.size(inputs) / tf.size(mean), tf.float32)
        for moving, now in (
            (self.moving_mean, mean),
            (self.moving_variance, variance * (count - 1) / count),
        ):  # Keras: without Bessel's correction
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return normalised


def _fused(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A new layer like this one; with `BatchNormalization` for Keras's."""
    kind = BatchNormalization if type(layer) is keras.layers.BatchNormalization else type(layer)
    return kind.from_config(layer.get_config())


def densenet121(size: int = CHEST_SIZE, classes: int = 14, weights: str | None = "course") -> keras.Model:
    """DenseNet121 (Huang et al., CVPR 2017) with one sigmoid a finding.

    Parameters
    ----------
    size : int
        Side of the films in pixels, at least 32.
    classes : int
        Number of findings; they do not exclude each other.
    weights : {"course", "imagenet"} or None
        Weights of all layers but the last two: those in ``models/`` (trained on simulated films, then on real ones of the
        official train_val list; no download needed), those of ImageNet (downloaded by Keras at first use, 30 MB), or
        random ones. With "course" and 14 classes the layer ``logits`` has trained weights too.

    Returns
    -------
    keras.Model
        (batch, size, size, 1) standardised films to (batch, classes) probabilities. The layer ``logits`` holds the
        scores before the sigmoid.

    Raises
    ------
    DataError
        When the weights cannot be downloaded, or those in ``models/`` are damaged.
    """
    if weights not in ("course", "imagenet", None):
        raise ValueError(f"weights is {weights!r}; it must be 'course', 'imagenet' or None.")
    film = keras.Input((size, size, 1), name="film")
    colours = keras.layers.Concatenate(name="grey_to_rgb")([film, film, film])  # the network expects three channels
    try:
        backbone = keras.applications.DenseNet121(
            include_top=False, weights="imagenet" if weights == "imagenet" else None, input_tensor=colours
        )
    except Exception as error:  # Keras wraps the network's errors in a bare Exception
        raise DataError(
            "The ImageNet weights could not be downloaded. Connect to the internet once (Keras keeps them), or use "
            f"weights='course', which needs no network. ({error})"
        ) from error
    pooled = keras.layers.GlobalAveragePooling2D(name="features")(backbone.output)
    logits = keras.layers.Dense(classes, name="logits")(pooled)
    probabilities = keras.layers.Activation("sigmoid", name="probabilities")(logits)
    plain = keras.Model(film, probabilities, name="densenet121")
    model = keras.models.clone_model(plain, clone_function=_fused)
    if weights == "imagenet":
        model.set_weights(plain.get_weights())
    if weights == "course":
        trained = model if classes == len(FINDINGS) else densenet121(size, len(FINDINGS), None)
        load_weights(trained, CHEST_WEIGHTS)
        if trained is not model:
            for layer, source_layer in zip(model.layers[:-2], trained.layers[:-2], strict=True):
                layer.set_weights(source_layer.get_weights())
    return model


def augment_film(film: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """One film as another exposure of the same patient might look: turned, shifted, scaled, darker, harder or softer.

    No mirroring: the heart is on the left, and a mirrored film shows another disease (dextrocardia).

    Parameters
    ----------
    film : ndarray of uint8, (height, width)
    rng : numpy.random.Generator
    strength : float
        Factor on all changes: 0 none, 1 as in notebook 01.

    Returns
    -------
    ndarray of uint8, (height, width)
    """
    height, width = film.shape
    angle, scale = strength * rng.uniform(-6, 6), 1 + strength * (rng.uniform(0.92, 1.08) - 1)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    turn[:, 2] += strength * rng.uniform(-0.05, 0.05, 2) * (width, height)
    film = cv2.warpAffine(film, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    grey = np.linspace(0, 1, 256) ** np.exp(strength * rng.uniform(-0.3, 0.3))  # gamma: softer or harder beam
    contrast = 1 + strength * (rng.uniform(0.8, 1.15) - 1)
    grey = (grey - 0.5) * contrast + 0.5 + strength * rng.uniform(-0.08, 0.08)
    return cv2.LUT(film, (255 * grey.clip(0, 1)).astype(np.uint8))


class FilmBatches(keras.utils.PyDataset):
    """Batches of standardised films and their labels for `keras.Model.fit`.

    Parameters
    ----------
    films : ndarray of uint8, (films, size, size)
    labels : ndarray, (films, classes)
    mean, sd : float
        Mean and standard deviation of the pixels of the *training* films.
    batch_size : int
    augment : bool
        Mix the films anew in every epoch and pass each through `augment_film`; otherwise order and pixels stay.
    seed : int
        Equal seeds give equal batches.
    """

    def __init__(self, films, labels, mean: float, sd: float, *, batch_size: int = 32, augment: bool = False, seed: int = 0):
        super().__init__()
        self.films, self.labels = films, np.asarray(labels, np.float32)
        self.mean, self.sd = mean, sd
        self.batch_size, self.augment, self.seed = batch_size, augment, seed
        self.epoch = 0
        self._mix()

    def _mix(self) -> None:
        rng = np.random.default_rng([self.seed, self.epoch])
        self.order = rng.permutation(len(self.films)) if self.augment else np.arange(len(self.films))

    def __len__(self) -> int:
        return -(-len(self.films) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index`: films (batch, size, size, 1) float32 and labels (batch, classes) float32."""
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        batch = self.films[rows]
        if self.augment:
            rng = np.random.default_rng([self.seed, self.epoch, index])
            batch = np.stack([augment_film(film, rng) for film in batch])
        return standardize_films(batch, self.mean, self.sd), self.labels[rows]

    def on_epoch_end(self) -> None:
        """Mix the films for the next epoch."""
        self.epoch += 1
        self._mix()


def predict_films(
    model: keras.Model, films: np.ndarray, mean: float, sd: float, *, batch_size: int = 64, what: str = "predicting"
) -> np.ndarray:
    """Output of a model, (films, …), for films of uint8 (films, size, size), with a progress bar named `what`."""
    outputs = []
    for start in tqdm(range(0, len(films), batch_size), desc=what, unit="batch"):
        rows = np.arange(start, start + batch_size) % len(films)  # always full: another shape would compile anew
        outputs.append(np.asarray(model.predict_on_batch(standardize_films(films[rows], mean, sd))))
    return np.concatenate(outputs)[: len(films)] if outputs else np.zeros((0, *model.output_shape[1:]), np.float32)


def standardize_films(films: np.ndarray, mean: float, sd: float) -> np.ndarray:
    """Films (films, size, size) of uint8 as the network takes them: (films, size, size, 1) float32, (pixel − mean) / sd."""
    return (films[..., np.newaxis].astype(np.float32) - np.float32(mean)) / np.float32(sd)
