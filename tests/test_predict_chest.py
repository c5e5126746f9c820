"""One X-ray: read from PNG, JPEG and DICOM, its probabilities beside what is usual, and the GradCAM picture."""

import cv2
import numpy as np
import pytest

from data.errors import DataError
from data.nih import FINDINGS

keras = pytest.importorskip("keras")
from models.chest import network_card, predict  # noqa: E402


@pytest.fixture
def xray():
    """Something bright in a dark field, 60 × 40 pixels."""
    pixels = np.full((60, 40), 30, np.uint8)
    pixels[20:40, 10:30] = 200
    return pixels


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_grey_pictures_are_read_as_they_are(xray, tmp_path, suffix):
    for pixels in (xray, cv2.cvtColor(xray, cv2.COLOR_GRAY2BGR)):
        cv2.imwrite(str(tmp_path / f"x{suffix}"), pixels)
        found = predict.read_xray(tmp_path / f"x{suffix}")
        assert found.shape == xray.shape and found.dtype == np.uint8
        assert np.abs(found.astype(int) - xray).max() <= (0 if suffix == ".png" else 30)


def test_what_is_no_xray_is_named(xray, tmp_path):
    colours = np.stack([xray, 255 - xray, xray // 2], axis=-1)
    cv2.imwrite(str(tmp_path / "colour.png"), colours)
    cv2.imwrite(str(tmp_path / "deep.png"), xray.astype(np.uint16) * 200)
    cv2.imwrite(str(tmp_path / "whole.png"), xray)
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-20])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    wrong = {
        "colour": "colour picture",
        "deep": "16 bits a pixel.*DICOM",
        "cut": "cut off",
        "empty": "cut off",
        "none": "cannot be read",
    }
    for name, message in wrong.items():
        with pytest.raises(DataError, match=f"{name}.png: .*{message}"):
            predict.read_xray(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match="not a PNG, JPEG or DICOM"):
        predict.read_xray(tmp_path / "text.jpg")


def write_dicom(path, stored, **tags):
    """A DICOM file of 12 bits with some more tags."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", generate_uid()
    header = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.Rows, header.Columns = stored.shape[:2]
    header.SamplesPerPixel, header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 1, 16, 12, 11, 0
    header.PhotometricInterpretation = "MONOCHROME2"
    for name, value in tags.items():
        setattr(header, name, value)
    header.PixelData = stored.astype("<u2").tobytes()
    pydicom.dcmwrite(path, header, enforce_file_format=True)
    return path


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_dicom_is_read_through_its_window(tmp_path, kind):
    stored = np.array([[0, 1000, 1500, 2000, 4095]] * 3)
    window = {"WindowCenter": 1500.5, "WindowWidth": 1001}  # PS3.3 C.11.2.1.2: 1000 is black, 2000 is white
    found = predict.read_xray(write_dicom(tmp_path / "x.dcm", stored, PhotometricInterpretation=kind, **window))
    expected = np.array([0, 0, 128, 255, 255])
    np.testing.assert_allclose(found[0], expected if kind == "MONOCHROME2" else 255 - expected, atol=1)


def test_dicom_windows_of_other_kinds(tmp_path):
    stored = np.array([[0, 1000, 1500, 2000, 4095]] * 3)
    several = predict.read_xray(write_dicom(tmp_path / "a.dcm", stored, WindowCenter=[1500.5, 9], WindowWidth=[1001, 5]))
    np.testing.assert_allclose(several[0], [0, 0, 128, 255, 255], atol=1)
    rescaled = {
        "RescaleSlope": 2,
        "RescaleIntercept": -1000,
        "WindowCenter": 2000,
        "WindowWidth": 2000,
        "VOILUTFunction": "LINEAR_EXACT",
    }
    np.testing.assert_allclose(
        predict.read_xray(write_dicom(tmp_path / "b.dcm", stored, **rescaled))[0], [0, 0, 128, 255, 255], atol=1
    )
    sigmoid = predict.read_xray(
        write_dicom(tmp_path / "c.dcm", stored, WindowCenter=1500, WindowWidth=1000, VOILUTFunction="SIGMOID")
    )
    np.testing.assert_allclose(sigmoid[0], 255 / (1 + np.exp([6, 2, 0, -2, -10.38])), atol=1)
    none = predict.read_xray(write_dicom(tmp_path / "d.dcm", np.arange(1000).reshape(40, 25)))
    assert none.min() == 0 and none.max() == 255 and abs(none.mean() - 127.5) < 1


def test_dicom_headers_that_are_left_empty_or_name_too_many_bits(tmp_path):
    dataset = pytest.importorskip("pydicom").dataset.Dataset()
    stored = np.arange(1000).reshape(40, 25)
    plain = predict.read_xray(write_dicom(tmp_path / "a.dcm", stored))
    for name in ("VOILUTSequence", "RescaleSlope", "RescaleIntercept"):
        empty = {name: [] if "Sequence" in name else None, "RescaleSlope": None}
        np.testing.assert_array_equal(predict.read_xray(write_dicom(tmp_path / "b.dcm", stored, **empty)), plain)
    dataset.add_new(0x00283002, "US", [4096, 0, 16])  # 16 bits, of which the table uses 12
    dataset.add_new(0x00283006, "OW", (4 * np.arange(4096)).clip(0, 4095).astype("<u2").tobytes())
    found = predict.read_xray(write_dicom(tmp_path / "c.dcm", stored, VOILUTSequence=[dataset]))
    np.testing.assert_allclose(found, 255 * (4 * stored) / 4095, atol=1)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2500, "WindowWidth": 1001}])
def test_what_a_dicom_pads_is_black_and_counts_for_no_window(tmp_path, kind, window):
    inner = 2000 + np.arange(1000).reshape(40, 25)
    tags = window | {"PhotometricInterpretation": kind}
    alone = predict.read_xray(write_dicom(tmp_path / "a.dcm", inner, **tags))
    for padding, more in ((0, {}), (9, {"PixelPaddingRangeLimit": 3}), (4095, {})):
        framed = np.pad(inner, 20, constant_values=padding)
        framed[:9] = more.get("PixelPaddingRangeLimit", padding)
        found = predict.read_xray(write_dicom(tmp_path / "b.dcm", framed, PixelPaddingValue=padding, **more, **tags))
        np.testing.assert_array_equal(found[20:-20, 20:-20], alone)
        assert not found[:20].any() and not found[:, -20:].any()
    everywhere = predict.read_xray(write_dicom(tmp_path / "c.dcm", inner, PixelPaddingValue=0, PixelPaddingRangeLimit=4095, **tags))
    np.testing.assert_array_equal(everywhere, alone)


def test_dicom_that_cannot_be_used(tmp_path, monkeypatch):
    file = write_dicom(tmp_path / "x.dcm", np.arange(20).reshape(4, 5), PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(DataError, match="x.dcm: PALETTE COLOR pixels.*one grey image"):
        predict.read_xray(file)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match="x.dcm: not a readable DICOM"):
        predict.read_xray(file)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(DataError, match="DICOM files need pydicom.*pip install pydicom"):
        predict.read_xray(file)


def test_command_line(xray, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "x.png"), xray)
    table = predict.main([str(tmp_path / "x.png"), "--finding", "Mass"])
    assert list(table.index) == list(FINDINGS) and table["probability"].between(0, 1).all()
    np.testing.assert_allclose(table["usual"], [network_card().prevalence[finding] for finding in FINDINGS])
    picture = cv2.imread(str(tmp_path / "x_gradcam.png"))
    assert picture.shape[1] == 2 * predict.SIDE and picture.std() > 10
    printed = capsys.readouterr().out
    assert "Not a medical device" in printed and "GradCAM of Mass" in printed
    with pytest.raises(SystemExit, match="none.png: cannot be read"):
        predict.main([str(tmp_path / "none.png")])


def test_the_map_is_high_where_the_score_comes_from():
    """One channel of the layer is bright at a place and speaks for the finding, another elsewhere and speaks against it."""
    image = keras.Input((16, 16, 1))
    maps = keras.layers.Concatenate(name=predict.LAYER)([image, keras.layers.Lambda(lambda x: x[:, ::-1])(image)])
    logits = keras.layers.Dense(14, name="logits")(keras.layers.GlobalAveragePooling2D()(maps))
    model = keras.Model(image, logits)
    model.get_layer("logits").set_weights([np.outer([1, -1], np.ones(14)), np.zeros(14)])
    picture = np.zeros((16, 16, 1), np.float32)
    picture[2, 5] = 3
    heat = predict.heat_map(model, picture, "Mass")
    assert np.unravel_index(heat.argmax(), heat.shape) == (2, 5) and heat.max() == 1 and heat[8:].max() == 0
    model.get_layer("logits").set_weights([-np.outer([1, 1], np.ones(14)), np.zeros(14)])
    assert not predict.heat_map(model, picture, "Mass").any()
