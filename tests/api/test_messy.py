"""Photos as folders really hold them: the answer counts in the photo's own, upright pixels."""

import json

import cv2
import numpy as np
import pytest
import tiny
from PIL import Image

import wsol_jax
from wsol_jax.api import predict

# What an upright picture is turned by before it is stored, so that EXIF's number turns it back.
STORED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, -1),
}


@pytest.fixture(scope="module")
def model():
    return wsol_jax.load(tiny.finished())


@pytest.fixture(scope="module")
def upright():
    """A photo of 96x48 with one bright thing in its right half."""
    first = sorted((tiny.data() / "test").rglob("*.jpg"))[0]
    photo = cv2.imread(str(first))[..., ::-1]
    return np.hstack([np.full_like(photo, 90), photo])


@pytest.mark.parametrize("orientation", STORED)
def test_exif_turns_photo_heat_and_boxes(model, upright, tmp_path, orientation):
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    exif = stored.getexif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "t.jpg", exif=exif, quality=100, subsampling=0)
    result, expected = model(tmp_path / "t.jpg"), model(upright)
    assert result.size == expected.size == (96, 48)
    assert np.abs(result.image.astype(int) - upright).mean() < 2  # JPEG's loss
    assert np.abs(result.heatmap - expected.heatmap).mean() < 0.05
    np.testing.assert_allclose(result.boxes, expected.boxes, atol=3)
    drawn = np.asarray(result.plot()).astype(int)
    assert drawn.shape == upright.shape


def kinds(upright, folder):
    """Name -> (width, height) of photos of many kinds, written into a folder."""
    picture, grey = Image.fromarray(upright), Image.fromarray(upright[..., 0])
    deep = Image.fromarray(upright[..., 0].astype(np.uint16) * 257)
    large = Image.fromarray(np.tile(upright, (84, 63, 1))[:4000, :6000])
    wanted = {
        "a photo äöü 猫.jpg": picture,
        "webp.webp": picture,
        "gif.gif": picture,
        "grey.png": grey,
        "sixteen bits.png": deep,
        "cmyk.jpg": picture.convert("CMYK"),
        "alpha.png": picture.convert("RGBA"),
        "palette.png": picture.convert("P"),
        "bmp.bmp": picture,
        "tiff.tif": picture,
        "one pixel.png": picture.crop((0, 0, 1, 1)),
        "one row.png": picture.crop((0, 0, 96, 1)),
        "deep/er/nested.jpg": picture,
        "24 megapixels.jpg": large,
    }
    for name, image in wanted.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    return {name: image.size for name, image in wanted.items()}


def test_photos_of_every_kind(model, upright, tmp_path):
    sizes = kinds(upright, tmp_path / "photos")
    (tmp_path / "photos" / "corrupt.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50))
    (tmp_path / "photos" / "phone.heic").write_bytes(bytes(100))
    found = {result.name: result for result in model(tmp_path / "photos")}
    assert {name: result.size for name, result in found.items()} == sizes
    for result in found.values():
        width, height = result.size
        assert result.heatmap.shape == result.mask.shape == (height, width)
        assert (result.boxes >= 0).all() and (result.boxes <= [width, height] * 2).all()
        assert result.image.shape == (height, width, 3)
    same = ("webp.webp", "alpha.png", "bmp.bmp", "tiff.tif", "deep/er/nested.jpg")
    for name in same:
        np.testing.assert_allclose(found[name].boxes, model(upright).boxes, atol=4)


def test_pycocotools_loads_what_predict_writes(upright, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    (tmp_path / "photos").mkdir()
    Image.fromarray(upright).save(tmp_path / "photos" / "a.png")
    options = {"boxes": "all", "threshold": 0.3}
    content = predict.predict(tiny.finished(), tmp_path / "photos", tmp_path / "out", **options)
    read = coco.COCO(str(tmp_path / "out" / "predictions.json"))
    assert read.getCatIds() == [c["id"] for c in content["categories"]]
    (result,) = wsol_jax.load(tiny.finished())([tmp_path / "photos" / "a.png"], **options)
    for number, entry in enumerate(read.loadAnns(read.getAnnIds())):
        mask = read.annToMask(entry)
        assert mask.sum() == entry["area"]
        np.testing.assert_array_equal(mask, result.box_mask(number))
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == content
