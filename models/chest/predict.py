"""What the chest network says of one X-ray: fourteen probabilities, what is usual for them, and a GradCAM picture.

    python -m models.chest.predict X.png                    # PNG or JPEG of 8 bits
    python -m models.chest.predict X.dcm --finding Mass --out picture.png      # DICOM, needs `pip install pydicom`

This is teaching material and not a medical device: no decision about a patient may rest on it.
"""

import argparse
import io
import re
import warnings
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
from PIL import Image

from data.errors import DataError
from data.instead import described, what_it_is
from data.nih import FINDINGS
from data.patient_columns import view_of
from data.png import fit_square, looks_inverted
from data.storage import atomic_file
from models.chest import network_card
from models.chest.films import standardize_films
from models.chest.network import densenet121
from models.terminal import one_sentence

NOTICE = "Not a medical device: no decision about a patient may rest on these numbers."
LAYER = "conv4_block24_concat"  # the last that still tells places apart: 8 × 8 at 128 pixels, the end of the network has 4 × 4
SMALLEST = 64  # pixels of a side below which nothing of a lung is seen
RADIOGRAPHY = ("", "CR", "DX", "DR", "RG", "XR", "RF", "OT", "SC")  # what DICOM, and some machines, call an X-ray, or any picture
SIDE = 512  # of each half of the picture, in pixels


def read_xray(path: Path | str) -> np.ndarray:
    """Grey levels of an X-ray in a PNG, JPEG or DICOM file.

    Returns
    -------
    ndarray of uint8, (height, width)
        0 black (most dose) to 255 white.

    Raises
    ------
    DataError
        When the file is missing, cut off, coloured, of one grey level, partly transparent, to be turned, one of several pictures,
        has 16 bits without a window or one bit, needs pydicom, or is by its header no frontal X-ray.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Name a PNG, JPEG or DICOM file.") from None
    if not content:
        raise DataError(f"{path}: cut off: an empty file (0 bytes). Export the X-ray again.")
    without_preamble = path.suffix.lower() in (".dcm", ".dicom") and not what_it_is(content)[0]
    if content[128:132] == b"DICM" or without_preamble:
        pixels = _read_dicom(path)
    else:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        png, jpeg = content.startswith(b"\x89PNG"), content.startswith(b"\xff\xd8")
        if (png and b"IEND" not in content[-16:]) or ((png or jpeg) and pixels is None):
            raise DataError(f"{path}: cut off, or not a PNG, JPEG or DICOM file. Export the X-ray again.")
        if pixels is None:
            what = described(content, convert="export the X-ray as PNG, JPEG or DICOM", again="export the X-ray again")
            raise DataError(f"{path}: not a PNG, JPEG or DICOM file, but {what}")
        pixels = _grey(path, content, pixels)
    if pixels.min() == pixels.max():
        raise DataError(f"{path}: every pixel has the grey level {pixels.min()}: nothing is on it. Export the X-ray again.")
    if looks_inverted(fit_square(pixels, SMALLEST)):
        warnings.warn(
            f"{path}: looks inverted, bone black and air white, and is taken so. If it is, save it with 255 − grey level.",
            stacklevel=2,
        )
    return pixels


def _grey(path: Path, content: bytes, pixels: np.ndarray) -> np.ndarray:
    """Grey levels of a picture that OpenCV has decoded, if nothing says that they are other than they look."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            turned, mode = picture.getexif().get(0x0112, 1), picture.mode
            frames = getattr(picture, "n_frames", 1) if picture.format != "MPO" else 1  # telephones: a photo and its preview
    except Exception:  # Pillow raises what it likes for what it does not know
        turned, mode, frames = 1, "", 1
    if turned not in (0, 1):
        raise DataError(
            f"{path}: its EXIF data say that it is to be turned or mirrored before it is shown (orientation {turned}). Save it "
            "upright."
        )
    if frames > 1:
        raise DataError(f"{path}: {frames} pictures in one file, and nothing says which is the X-ray. Save that one alone.")
    if mode == "1":
        raise DataError(f"{path}: one bit a pixel, so only black and white. Export the X-ray again with 256 grey levels.")
    if pixels.dtype != np.uint8:
        raise DataError(
            f"{path}: {8 * pixels.itemsize} bits a pixel, and nothing says which are black and white. Give the DICOM file."
        )
    if pixels.ndim == 3:
        colours = pixels[..., :3].astype(int)
        if np.ptp(colours, axis=-1).mean() > 8:  # JPEG leaves traces of colour in grey pictures
            raise DataError(f"{path}: a colour picture, not an X-ray. Give the X-ray itself, without marks or a frame.")
        if pixels.shape[2] == 4 and (pixels[..., 3] != 255).any():
            raise DataError(
                f"{path}: partly transparent, so that its grey levels depend on what lies behind. Save it without alpha."
            )
        pixels = colours.mean(axis=-1).round().astype(np.uint8)
    return pixels


def _read_dicom(path: Path) -> np.ndarray:
    """Grey levels of a DICOM file, through its window, with black and white as in the archive (MONOCHROME2)."""
    try:
        import pydicom
        from pydicom.pixels import apply_modality_lut, apply_voi_lut
    except ImportError:
        raise DataError(
            f"{path}: DICOM files need pydicom. Install it (pip install pydicom), or export the X-ray as PNG."
        ) from None
    try:
        header = pydicom.dcmread(path)
        stored = header.pixel_array
    except Exception as error:  # pydicom raises whatever the broken part of the file makes it raise
        raise DataError(f"{path}: not a readable DICOM image ({error}). Export it again, uncompressed.") from error
    kind = header.get("PhotometricInterpretation", "")
    _refuse_other_pictures(path, header)
    if stored.ndim != 2 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"{path}: {kind or 'no'} pixels of shape {stored.shape}; one grey image is needed. Export a single X-ray.")
    for name in ("RescaleSlope", "RescaleIntercept"):
        if name in header and header[name].value is None:  # left empty, as by programs that take names out
            del header[name]
    values, padding = np.asarray(apply_modality_lut(stored, header), float), _padding(stored, header)
    if header.get("VOILUTSequence"):
        grey = apply_voi_lut(values.astype(int), header).astype(float)
        count, first, _ = header.VOILUTSequence[0].LUTDescriptor
        highest = int(apply_voi_lut(first + np.arange(count or 1 << 16), header).max())
        grey /= 2 ** max(highest, 1).bit_length() - 1  # some headers name more bits than the table uses
    else:
        grey = _windowed(values, header, ~padding)
    if kind == "MONOCHROME1":  # low values are white
        grey = 1 - grey
    grey[padding] = 0
    return np.round(255 * np.clip(grey, 0, 1)).astype(np.uint8)


def _padding(stored: np.ndarray, header) -> np.ndarray:
    """Where a DICOM file says that there is no picture, bool (height, width); nowhere if that were everywhere."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = header.get("PixelPaddingRangeLimit")
    low, high = sorted((int(value), int(value if limit is None else limit)))
    padding = (stored >= low) & (stored <= high)
    return padding if not padding.all() else ~padding


def _refuse_other_pictures(path: Path, header) -> None:
    """It must be a frontal X-ray by its header; of the chest is only asked, for body parts are named in all languages."""
    modality = str(header.get("Modality", "") or "").upper()
    if modality not in RADIOGRAPHY:
        raise DataError(
            f"{path}: its modality is {modality}, not that of an X-ray (CR, DX). The network knows X-rays of the chest only."
        )
    view, rows = str(header.get("ViewPosition", "") or ""), str((header.get("PatientOrientation") or [""])[0])
    try:
        lateral = view_of(view) == "lateral"
    except ValueError:  # an oblique one, or a word of the machine's
        lateral = False
        warnings.warn(f"{path}: its view is {view!r}, neither PA nor AP. The network has seen no others.", stacklevel=4)
    if lateral or rows[:1] in ("A", "P"):
        raise DataError(f"{path}: a lateral view by its header. The network has seen frontal ones only: give the PA or AP image.")
    body = str(header.get("BodyPartExamined", "") or "")
    if body and not re.search("chest|thora|tora[xc]|lung|pulm|brust|pecho", body, re.IGNORECASE):
        warnings.warn(f"{path}: the body part is {body!r} by its header. The network has seen chests only.", stacklevel=4)
    shape, kind = header.get("PresentationLUTShape", ""), header.get("PhotometricInterpretation", "")
    if (shape, kind) in (("INVERSE", "MONOCHROME2"), ("IDENTITY", "MONOCHROME1")):
        warnings.warn(
            f"{path}: {kind} and the presentation {shape} contradict each other about what is white; {kind} was believed. Look at "
            "the picture.",
            stacklevel=4,
        )


def _windowed(values: np.ndarray, header, shown: np.ndarray) -> np.ndarray:
    """Values through the (first) window of a DICOM header, 0 to 1 (PS3.3, C.11.2.1.2); without one, by percentiles of `shown`."""
    centre, width = (np.atleast_1d(header.get(name, np.nan)).astype(float)[0] for name in ("WindowCenter", "WindowWidth"))
    if not (np.isfinite(centre) and width >= 1):
        low, high = np.percentile(values[shown], [0.5, 99.5])
        return (values - low) / max(high - low, 1e-6)
    function = header.get("VOILUTFunction", "LINEAR")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -50, 50)))
    if function == "LINEAR_EXACT" or width == 1:
        return (values - centre) / width + 0.5
    return (values - (centre - 0.5)) / (width - 1) + 0.5


def predict_xray(model: keras.Model, pixels: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Probabilities of one X-ray.

    Parameters
    ----------
    model : keras.Model
        From `densenet121`.
    pixels : ndarray of uint8, (height, width)
        Of any shape; brought to the network's square as the archive's images were.

    Returns
    -------
    table : DataFrame
        Index: finding. Columns: probability; usual, the prevalence of the network's card; ratio of the two.
    standardised : ndarray of float32, (size, size, 1)
        What the network was given.
    """
    if min(pixels.shape) < SMALLEST:
        warnings.warn(f"an X-ray of {pixels.shape[1]} × {pixels.shape[0]} pixels: too few for any finding.", stacklevel=2)
    card, side = network_card(), model.input_shape[1]
    small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    standardised = standardize_films(small[None], *card.pixels)
    table = pd.DataFrame({"probability": np.asarray(model(standardised))[0], "usual": pd.Series(card.prevalence)[list(FINDINGS)]})
    return table.assign(ratio=table["probability"] / table["usual"]), standardised[0]


def heat_map(model: keras.Model, standardised: np.ndarray, finding: str) -> np.ndarray:
    """What speaks for a finding, (size, size) in [0, 1]; 0 everywhere when nothing does (Selvaraju et al., ICCV 2017)."""
    import tensorflow as tf

    if keras.config.backend() != "tensorflow":
        raise DataError(f"GradCAM needs Keras' TensorFlow backend, and this is {keras.config.backend()}. Unset KERAS_BACKEND.")
    watched = keras.Model(model.input, [model.get_layer(LAYER).output, model.get_layer("logits").output])
    given = tf.constant(standardised[None])
    with tf.GradientTape() as tape:
        tape.watch(given)
        maps, logits = watched(given, training=False)
        score = logits[0, FINDINGS.index(finding)]
    slopes = np.asarray(tape.gradient(score, maps)).mean(axis=(1, 2))
    heat = np.maximum((np.asarray(maps)[0] * slopes[0]).sum(axis=-1), 0)
    heat = cv2.resize(heat, standardised.shape[:2], interpolation=cv2.INTER_LINEAR)
    return heat / heat.max() if heat.max() > 0 else heat


def draw(pixels: np.ndarray, heat: np.ndarray, caption: str) -> np.ndarray:
    """The X-ray, and beside it the same under its heat map; uint8 BGR."""
    grey = cv2.cvtColor(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    heat = np.clip(cv2.resize(heat.astype(np.float32), (SIDE, SIDE)), 0, 1)
    colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)
    share = 0.6 * heat[..., None]
    picture = np.hstack([grey, ((1 - share) * grey + share * colours).astype(np.uint8)])
    frame = cv2.copyMakeBorder(picture, 0, 56, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    for line, text in enumerate((caption, NOTICE)):
        cv2.putText(frame, text, (8, SIDE + 22 + 24 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return frame


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Command line; returns the table."""
    parser = argparse.ArgumentParser(
        prog="python -m models.chest.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("xray", type=Path, help="PNG, JPEG or DICOM file")
    parser.add_argument("--finding", choices=FINDINGS, help="that the picture is about; default: the one furthest above its usual")
    parser.add_argument("--out", type=Path, help="PNG file for the picture; default: NAME_gradcam.png beside the X-ray")
    given = parser.parse_args(arguments)
    with one_sentence():
        pixels = read_xray(given.xray)
        model = densenet121(network_card().size)
        table, standardised = predict_xray(model, pixels)
        finding = given.finding or table["ratio"].idxmax()
        chance, usual = table.loc[finding, ["probability", "usual"]]
        picture = draw(pixels, heat_map(model, standardised, finding), f"{finding}: {chance:.3f} (usual {usual:.3f})")
        out = given.out or given.xray.with_name(f"{given.xray.stem}_gradcam.png")
        with atomic_file(out) as temporary:
            cv2.imwrite(str(temporary), picture)
    print(f"{table.round(3).to_string()}\n\nusual: share of X-rays labelled with the finding where the outputs were calibrated")
    print(f"GradCAM of {finding}: {out}\n{NOTICE}")
    return table


if __name__ == "__main__":
    main()
