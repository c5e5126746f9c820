"""Helpers that the three notebooks share: figures, chest films, evaluation, brain scans.

The lessons import this file; it imports only `data`. What is taught is written in the notebooks themselves, what is only
needed is here.
"""

import hashlib
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

import data
from data.errors import DataError
from data.storage import atomic_file

COURSE = Path(__file__).parent

# ---------------------------------------------------------------------------------------------------------------------
# FIGURES AND TABLES
# ---------------------------------------------------------------------------------------------------------------------

HEADLINE_MIME = "application/vnd.course.headline+json"


def use_course_style() -> None:
    """Set the look of all figures: quiet axes, readable type, a colour-blind-safe palette (Okabe and Ito, 2008)."""
    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
    plt.rcParams.update(
        {
            "figure.dpi": 80,
            "savefig.dpi": 80,
            "figure.figsize": (8, 4),
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.prop_cycle": plt.cycler(color=colours),
            "legend.frameon": False,
            "image.cmap": "gray",
        }
    )


def sign_figure(fig: plt.Figure, source: str) -> None:
    """Write where the data of a figure are from ("simulated", "real patients: …") into its lower right corner."""
    fig.supxlabel(source, x=0.995, ha="right", fontsize=8, color="#666666", style="italic")
    plt.show()


def show_table(frame: pd.DataFrame, caption: str, source: str, precision: int = 3) -> None:
    """Show a table with its caption, the source of its data and numbers of equal precision."""
    display(
        frame.style.set_caption(f"{caption} ({source})")
        .format(precision=precision, na_rep="–")
        .set_table_styles([{"selector": "caption", "props": "caption-side: top; text-align: left; font-style: italic"}])
    )


def headline(numbers: dict[str, float], source: str) -> None:
    """Print the numbers that a notebook comes down to and leave them where the course's tools find them.

    Parameters
    ----------
    numbers : dict of str to float
        Name, as a reader should see it, to value.
    source : str
        Where the data are from.
    """
    numbers = {name: float(value) for name, value in numbers.items()}
    text = "\n".join(f"{name}: {value:.3f}" for name, value in numbers.items()) + f"\n({source})"
    display({"text/plain": text, HEADLINE_MIME: {"source": source, "numbers": numbers}}, raw=True)


# ---------------------------------------------------------------------------------------------------------------------
# WEIGHTS (Keras is imported only where it is used: notebook 02 needs none)
# ---------------------------------------------------------------------------------------------------------------------

MODELS = Path(data.__file__).parents[1] / "models"  # beside `data`, also when this file was copied next to a notebook


def _sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _float_datasets(file) -> dict:
    """Name to data set of all weights in an open HDF5 weight file; the state of the optimizer is left out."""
    found = {}

    def collect(name: str, item) -> None:
        if getattr(item, "dtype", None) is not None and item.dtype.kind == "f" and not name.startswith("optimizer"):
            found[name] = item

    file.visititems(collect)
    return found


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
    import h5py

    path = MODELS / name
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
            stored = sum(item.size for item in _float_datasets(file).values())
        wanted = sum(weight.size for weight in before if np.issubdtype(weight.dtype, np.floating))
        if stored != wanted:
            raise ValueError(f"the file holds {stored:,} numbers, the model has {wanted:,}")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")  # the file holds none
            model.load_weights(path)
    except (ValueError, KeyError) as error:
        model.set_weights(before)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{path}: these are the weights of another architecture than {model.name!r} ({reason}). Build the model "
            "with the arguments it was trained with."
        ) from error
    except OSError as error:
        model.set_weights(before)
        raise DataError(f"{path}: cut off or damaged, so it holds no weights. Copy or train it again.") from error


def save_weights_float16(model, path: str | Path) -> None:
    """Save weights as Keras' HDF5 file with 16-bit floats: half the size, read back by `load_weights` as any other.

    The rounding is below 0.05 % of each weight. The file is complete or not there at all.

    Parameters
    ----------
    model : keras.Model
    path : str or Path
        Ends in ``.weights.h5``.

    Raises
    ------
    DataError
        When a weight is too large for 16 bits (65,504) or not finite, when the disk is full or cannot be written.
    """
    import h5py

    path = Path(path)
    if not all((np.abs(weight) <= np.finfo(np.float16).max).all() for weight in model.get_weights()):
        raise DataError(f"{path}: not saved, because a weight is not finite in 16 bits. Save in 32: model.save_weights.")
    with atomic_file(path) as temporary, tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "full.weights.h5"
        model.save_weights(full)
        with h5py.File(full) as source, h5py.File(temporary, "w") as target:
            weights = _float_datasets(source)

            def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
                if name.startswith("optimizer"):
                    return
                if isinstance(item, h5py.Group):
                    copied = target.require_group(name)
                else:
                    copied = target.create_dataset(name, data=item[()].astype(np.float16) if name in weights else item)
                copied.attrs.update(item.attrs)

            source.visititems(copy)


# ---------------------------------------------------------------------------------------------------------------------
# CHEST FILMS (notebook 01)
# ---------------------------------------------------------------------------------------------------------------------


# ---------------------------------------------------------------------------------------------------------------------
# EVALUATION (notebook 02)
# ---------------------------------------------------------------------------------------------------------------------


# ---------------------------------------------------------------------------------------------------------------------
# BRAIN SCANS (notebook 03)
# ---------------------------------------------------------------------------------------------------------------------
