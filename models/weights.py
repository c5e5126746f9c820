"""Trained weights as files: loaded after a check that they are whole and fit, saved in 16 or 8 bits; whom they were trained on."""

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from data.errors import DataError
from data.storage import atomic_file

MODELS = Path(__file__).parent
LARGE = 1000  # numbers from which packing a data set pays
SCALE = "scale"  # attribute of an 8-bit data set: what its integers are multiplied with, along the last axis
PATIENTS_FILE = "trained_on.txt"  # beside the weights of a run; of the shipped networks in models/chest and models/brain


def require_channels_last() -> None:
    """Stop where Keras is set to put channels first: images, networks and weights of the course have them last.

    Raises
    ------
    DataError
    """
    import keras  # here, because the rest of this module needs none

    if keras.config.image_data_format() != "channels_last":
        raise DataError(
            f"Keras is set to image_data_format {keras.config.image_data_format()!r}, but the course's networks have channels "
            'last. Set "image_data_format" to "channels_last" in ~/.keras/keras.json, and start again.'
        )


def _sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weight_datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Name to data set of all weights in an open HDF5 weight file; the state of the optimizer is left out."""
    found = {}

    def collect(name: str, item: h5py.Group | h5py.Dataset) -> None:
        weight = isinstance(item, h5py.Dataset) and (item.dtype.kind == "f" or SCALE in item.attrs)
        if weight and not name.startswith("optimizer"):
            found[name] = item

    file.visititems(collect)
    return found


def _copy(source: h5py.File, target: h5py.File, change: Callable[[h5py.Dataset], tuple[np.ndarray, dict]]) -> None:
    """Copy a weight file without the optimizer; `change` gives the numbers of each weight and the attributes to add."""
    weights = _weight_datasets(source)

    def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if name.startswith("optimizer"):
            return
        more = {}
        if isinstance(item, h5py.Group):
            copied = target.require_group(name)
        else:
            values, more = change(item) if name in weights else (item[()], {})
            packing = {"compression": "gzip", "shuffle": True, "chunks": item.shape} if item.size > LARGE else {}
            copied = target.create_dataset(name, data=values, **packing)
        copied.attrs.update({key: value for key, value in item.attrs.items() if key != SCALE} | more)

    source.visititems(copy)


@contextmanager
def _as_keras_reads_it(path: Path) -> Iterator[Path]:
    """The file, or where it holds 8-bit weights, a temporary one with these as floats."""
    with h5py.File(path) as file:
        packed = any(SCALE in item.attrs for item in _weight_datasets(file).values())
        if packed:
            with tempfile.TemporaryDirectory() as folder:
                unpacked = Path(folder) / "float.weights.h5"
                with h5py.File(unpacked, "w") as target:
                    _expand(file, target)
                yield unpacked
    if not packed:
        yield path


def _expand(source: h5py.File, target: h5py.File) -> None:
    """Copy a weight file with all weights as 32-bit floats."""
    for name, item in _weight_datasets(source).items():
        target[name] = item[()].astype(np.float32) * item.attrs.get(SCALE, np.float32(1))

    def rest(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if name not in target:
            source.copy(item, target, name, shallow=True)
        elif isinstance(item, h5py.Group):
            target[name].attrs.update(item.attrs)

    source.visititems(rest)


def load_weights(model, name: str | Path) -> None:
    """Load weights into a Keras model, after a check that the file is whole and belongs to it.

    Parameters
    ----------
    model : keras.Model
        Model of the architecture that the weights were saved from. It is changed only when everything fits.
    name : str or Path
        File in ``models/``, which must be listed in ``models/checksums.txt`` with its SHA-256; or the path of a file
        elsewhere (weights you trained yourself), which is loaded without a checksum.

    Raises
    ------
    DataError
        When the file is missing, cut off or altered, or holds the weights of another architecture.
    """

    path = MODELS / name
    require_channels_last()
    if not path.exists():
        raise DataError(f"{path}: the weights are missing. Get them back with `git checkout -- models`, or clone again.")
    if path.parent == MODELS:
        lines = (MODELS / "checksums.txt").read_text().splitlines()
        known = dict(reversed(line.split()) for line in lines if line.strip())
        if path.name not in known:
            raise DataError(f"{path}: not listed in models/checksums.txt. Add the line that `sha256sum` prints for it.")
        if _sha256(path) != known[path.name]:
            raise DataError(
                f"{path}: cut off or altered (its SHA-256 is not the one in models/checksums.txt). Get it back with "
                "`git checkout -- models`, or clone again."
            )
    before = model.get_weights()
    try:
        with h5py.File(path) as file:
            stored = sum(item.size for item in _weight_datasets(file).values())
        wanted = sum(weight.size for weight in before if np.issubdtype(weight.dtype, np.floating))
        if stored != wanted:
            raise ValueError(f"the file holds {stored:,} numbers, the model has {wanted:,}")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")  # the file holds none
            with _as_keras_reads_it(path) as readable:
                model.load_weights(readable)
    except (ValueError, KeyError) as error:
        model.set_weights(before)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{path}: does not fit {model.name!r}: {reason}. The weights of another architecture, or a file that is no weights "
            "of Keras? Build the model with the arguments it was trained with."
        ) from error
    except OSError as error:
        model.set_weights(before)
        raise DataError(
            f"{path}: cannot be read as HDF5 ({error}). If it is cut off or damaged, copy or train it again; if it is in use or "
            "locked, close the other program."
        ) from error


def save_weights_float16(model, path: str | Path, bits: int = 11) -> None:
    """Save weights as Keras' HDF5 file with 16-bit floats: half the size or less, read back by `load_weights` as any other.

    The file is complete or not there at all.

    Parameters
    ----------
    model : keras.Model
    path : str or Path
        Ends in ``.weights.h5``.
    bits : int
        Significant bits of each weight. 11 are all that the format has (rounding below 0.05 %); 8 are those of bfloat16
        (below 0.4 %), all that a network sees of its weights when trained in mixed_bfloat16, and the file is a fifth smaller.

    Raises
    ------
    DataError
        When a weight is too large for 16 bits (65,504) or not finite, when the disk is full or cannot be written.
    """

    def rounded(item: h5py.Dataset) -> tuple[np.ndarray, dict]:
        fraction, exponent = np.frexp(item[()])
        return np.ldexp(np.round(fraction * 2**bits) / 2**bits, exponent).astype(np.float16), {}

    _save(model, Path(path), rounded)


def save_weights_int8(model, path: str | Path) -> None:
    """Save weights with 8-bit kernels, each output channel with a scale of its own: a quarter of the size or less.

    A kernel's number is its integer (−127 to 127) times the scale of its last axis, so that it is off by at most 1/254 of
    the channel's largest. Biases and what normalises, which are small, stay 16-bit floats. Read back by `load_weights`.

    Parameters and errors as of `save_weights_float16`. (Jacob et al., CVPR 2018, for weights only.)
    """

    def quantised(item: h5py.Dataset) -> tuple[np.ndarray, dict]:
        values = item[()].astype(np.float32)
        if values.ndim < 2 or values.size <= LARGE:
            return values.astype(np.float16), {}
        scale = np.abs(values).max(axis=tuple(range(values.ndim - 1))) / np.float32(127)
        return np.round(values / np.where(scale > 0, scale, 1)).astype(np.int8), {SCALE: scale}

    _save(model, Path(path), quantised)


def _save(model, path: Path, change: Callable[[h5py.Dataset], tuple[np.ndarray, dict]]) -> None:
    """Save a model's weights, each changed by `change`; see `_copy`."""
    if not all((np.abs(weight) <= np.finfo(np.float16).max).all() for weight in model.get_weights()):
        raise DataError(f"{path}: not saved, because a weight is not finite in 16 bits. Save in 32: model.save_weights.")
    with atomic_file(path) as temporary, tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "full.weights.h5"
        model.save_weights(full)
        with h5py.File(full) as source, h5py.File(temporary, "w", libver="v110") as target:
            _copy(source, target, change)


def write_patients(file: Path, patients: Iterable[str]) -> None:
    """Write who a network was trained on, one a line, sorted."""
    with atomic_file(file) as temporary:
        temporary.write_text("".join(f"{patient}\n" for patient in sorted(map(str, patients))))


def read_patients(file: Path) -> frozenset[str]:
    """The patients of a file that `write_patients` has written; none when there is no such file."""
    lines = file.read_text().splitlines() if file.exists() else []
    return frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def read_names(words: Iterable[str]) -> tuple[set[str], set[str]]:
    """Patients that ``--keep-out`` names: all of them, and those of them that were given by name and not in a file."""
    words = set(words)
    files = {word for word in words if Path(word).is_file()}
    listed = {line.strip() for file in files for line in Path(file).read_text().splitlines()}
    return {name for name in listed | (words - files) if name and not name.startswith("#")}, words - files
