"""One X-ray that is not what its name says: other files, turned, animated, one bit, other views, other parts of the body."""

import warnings

import numpy as np
import pytest
from PIL import Image
from test_instead import PAGE, POINTER, said_by

from data.errors import DataError

pytest.importorskip("keras")
from test_predict_chest import write_dicom

from models.chest import predict

RAMP = (np.arange(60 * 40).reshape(60, 40) % 251).astype(np.uint8)


def alpha():
    return Image.fromarray(np.dstack([RAMP] * 3 + [np.full_like(RAMP, 99)]))


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


@pytest.mark.parametrize(
    ("content", "words"),
    [(PAGE, "but a web page"), (POINTER, "git lfs pull"), (b"%PDF-1.7", "but a PDF"), (b"PK\x03\x04", "but a zip archive")],
    ids=["page", "pointer", "pdf", "zip"],
)
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.dcm", "x"])
def test_other_files_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: not a PNG, JPEG or DICOM file, .*{words}"):
        predict.read_xray(tmp_path / name)


@pytest.mark.parametrize(
    ("picture", "name", "options", "words"),
    [
        (Image.fromarray(RAMP), "x.jpg", turned(), "to be turned or mirrored.*orientation 6"),
        (Image.fromarray(RAMP), "x.png", turned(), "to be turned or mirrored.*orientation 6"),
        (Image.fromarray(RAMP), "x.png", {"save_all": True, "append_images": [Image.fromarray(255 - RAMP)]}, "2 pictures in one"),
        (Image.fromarray(RAMP), "x.tif", {"save_all": True, "append_images": [Image.fromarray(255 - RAMP)]}, "2 pictures in one"),
        (Image.fromarray(RAMP).convert("1"), "x.png", {}, "one bit a pixel"),
        (alpha(), "x.png", {}, "partly transparent"),
        (Image.fromarray(np.zeros_like(RAMP)), "x.png", {}, "every pixel has the grey level 0"),
    ],
    ids=["turned JPEG", "turned PNG", "APNG", "pages", "one bit", "transparent", "black"],
)
def test_pictures_that_are_not_what_their_pixels_say(tmp_path, picture, name, options, words):
    picture.save(tmp_path / name, **options)
    with pytest.raises(DataError, match=f"{name}: .*{words}"):
        predict.read_xray(tmp_path / name)


def test_a_picture_is_read_by_what_it_is(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "x.dcm", "PNG")
    np.testing.assert_array_equal(predict.read_xray(tmp_path / "x.dcm"), RAMP)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Modality": "CT"}, "its modality is CT, not that of an X-ray"),
        ({"Modality": "MG"}, "its modality is MG"),
        ({"ViewPosition": "LL"}, "a lateral view"),
        ({"PatientOrientation": ["P", "F"]}, "a lateral view"),
        ({"RescaleSlope": "0", "RescaleIntercept": "7"}, "every pixel has the grey level"),
    ],
)
def test_dicom_that_is_no_frontal_xray(tmp_path, tags, words):
    with pytest.raises(DataError, match=words):
        predict.read_xray(write_dicom(tmp_path / "x.dcm", RAMP, **tags))


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Modality": "DX", "ViewPosition": "PA", "BodyPartExamined": "PORT CHEST", "PatientOrientation": ["L", "F"]}, ""),
        ({"BodyPartExamined": "TORAX"}, ""),
        ({"BodyPartExamined": "HAND"}, "the body part is 'HAND'"),
        ({"ViewPosition": "LAO"}, "its view is 'LAO', neither PA nor AP"),
        ({"PresentationLUTShape": "INVERSE"}, "contradict each other about what is white"),
        ({"PresentationLUTShape": "IDENTITY"}, ""),
    ],
)
def test_what_a_dicom_header_says_is_passed_on(tmp_path, tags, words):
    pixels, said = said_by(predict.read_xray, write_dicom(tmp_path / "x.dcm", RAMP, **tags))
    assert pixels.shape == RAMP.shape and words in said and bool(words) == bool(said)


def test_an_inverted_xray_is_said(tmp_path):
    chest = np.full((64, 64), 20, np.uint8)
    chest[10:58, 26:38] = 220  # spine and heart
    for pixels, words in ((chest, ""), (255 - chest, "looks inverted, bone black")):
        Image.fromarray(pixels).save(tmp_path / "x.png")
        assert words in said_by(predict.read_xray, tmp_path / "x.png")[1]


def test_too_few_pixels_are_said():
    class Network:
        input_shape = (None, 128, 128, 1)

        def __call__(self, films):
            return np.full((1, 14), 0.5)

    with pytest.warns(UserWarning, match="an X-ray of 2 × 3 pixels"):
        predict.predict_xray(Network(), RAMP[:3, :2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict.predict_xray(Network(), np.tile(RAMP, (2, 2)))
