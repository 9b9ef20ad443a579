"""Decoding against Pillow, an independent reader, and against damage of every kind."""

import io
import pickle

import cv2
import numpy as np
import pytest
from PIL import Image, features

from wsol_jax.data import decode

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(
    cv2.resize(RNG.integers(0, 256, (8, 8, 3), np.uint8), (96, 64), interpolation=cv2.INTER_CUBIC)
)
ALPHA = Image.fromarray(RNG.integers(0, 256, (64, 96), np.uint8))
GREY16 = RNG.integers(0, 65536, (64, 96), np.uint16)


def _encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


FILES = {
    "jpeg": _encode(PHOTO, "JPEG"),
    "progressive jpeg": _encode(PHOTO, "JPEG", progressive=True),
    "greyscale jpeg": _encode(PHOTO.convert("L"), "JPEG"),
    "cmyk jpeg": _encode(PHOTO.convert("CMYK"), "JPEG"),
    "png": _encode(PHOTO, "PNG"),
    "greyscale png": _encode(PHOTO.convert("L"), "PNG"),
    "1-bit png": _encode(PHOTO.convert("1"), "PNG"),
    "palette png": _encode(PHOTO.convert("P"), "PNG", transparency=3),
    "4-bit palette png": _encode(PHOTO.quantize(11), "PNG", bits=4),
    "alpha png": _encode(Image.merge("RGBA", [*PHOTO.split(), ALPHA]), "PNG"),
    "grey alpha png": _encode(Image.merge("LA", [PHOTO.convert("L"), ALPHA]), "PNG"),
    "alpha tiff": _encode(Image.merge("RGBA", [*PHOTO.split(), ALPHA]), "TIFF"),
    "bmp": _encode(PHOTO, "BMP"),
    "gif": _encode(PHOTO, "GIF"),
}
if features.check("webp"):
    FILES["webp"] = _encode(PHOTO, "WEBP", lossless=True)


def _pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


@pytest.mark.parametrize("kind", FILES)
def test_decodes_as_pillow_does(kind, tmp_path):
    # The name says .jpg whatever the content is: only the content counts.
    path = tmp_path / "photo.jpg"
    path.write_bytes(FILES[kind])
    rgb = decode.decode_rgb(str(path), "photo")
    assert rgb.dtype == np.uint8
    assert rgb.flags["C_CONTIGUOUS"]
    # One grey level for the rounding of the inverse cosine transform and of CMYK's product.
    tolerance = 1 if "jpeg" in kind else 0
    assert np.abs(rgb - _pillow(FILES[kind])).max() <= tolerance
    np.testing.assert_array_equal(rgb, decode.decode_rgb(FILES[kind], "photo"))
    assert decode.image_size(str(path)) == decode.image_size(FILES[kind]) == (96, 64)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_keep_their_upper_8(kind):
    rgb = decode.decode_rgb(_encode(Image.fromarray(GREY16), kind), "x")
    np.testing.assert_array_equal(rgb, np.repeat((GREY16 >> 8)[..., None], 3, axis=2))


def test_16_bit_colour_png():
    colour = RNG.integers(0, 65536, (64, 96, 3), np.uint16)
    _, png = cv2.imencode(".png", colour[..., ::-1])
    np.testing.assert_array_equal(decode.decode_rgb(png.tobytes(), "x"), colour >> 8)


def test_floating_point_pixels_are_refused():
    data = _encode(Image.fromarray(GREY16.astype(np.float32)), "TIFF")
    with pytest.raises(decode.CorruptImage, match="floating-point"):
        decode.decode_rgb(data, "x")


@pytest.mark.parametrize("kind", FILES)
def test_every_truncation_is_noticed(kind):
    data = FILES[kind]
    for length in range(1, len(data), max(1, len(data) // 40)):
        with pytest.raises(decode.CorruptImage, match="image frog: "):
            decode.decode_rgb(data[:length], "frog")


def test_a_thumbnails_end_marker_does_not_stand_for_the_photos():
    thumbnail = _encode(PHOTO.resize((24, 16)), "JPEG")
    whole = FILES["jpeg"]
    segment = b"\xff\xe1" + (len(thumbnail) + 8).to_bytes(2, "big") + b"Exif\0\0" + thumbnail
    with_thumbnail = whole[:2] + segment + whole[2:]
    np.testing.assert_array_equal(decode.decode_rgb(with_thumbnail, "x"), _pillow(whole))
    with pytest.raises(decode.CorruptImage, match="end marker"):
        decode.decode_rgb(with_thumbnail[:-200], "x")


def test_bytes_behind_the_end_are_harmless():
    for kind in ("jpeg", "png"):
        data = FILES[kind] + b"\0" * 100
        np.testing.assert_array_equal(decode.decode_rgb(data, "x"), _pillow(FILES[kind]))


def test_a_flipped_bit_in_a_png_is_noticed():
    data = bytearray(FILES["png"])
    data[len(data) // 2] ^= 1
    with pytest.raises(decode.CorruptImage, match="IDAT chunk's CRC"):
        decode.decode_rgb(bytes(data), "x")


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "is empty"),
        (b"<html>404 not found</html>", "no image that can be read"),
        (b"\xff\xd8\xff\xd9" + b"\0" * 9, "ends without a picture"),
        (b"\xff\xd8\xff\xda" + b"\0" * 9 + b"\xff\xd9", "no frame header"),
        (b"\xff\xd8\xff\xe0\0\0" + b"\0" * 9 + b"\xff\xd9", "JPEG"),
    ],
)
def test_no_image_at_all(data, words):
    with pytest.raises(decode.CorruptImage, match=words):
        decode.decode_rgb(data, "x")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(decode.CorruptImage, match=r"image one: .*gone\.jpg cannot be read: No"):
        decode.decode_rgb(str(tmp_path / "gone.jpg"), "one")
    with pytest.raises(decode.CorruptImage, match=": Is a directory"):
        decode.image_size(str(tmp_path))


@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp"])
def test_too_many_pixels_are_refused_before_decoding(kind, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    monkeypatch.setattr(Image.Image, "convert", None)
    with pytest.raises(decode.CorruptImage, match="96x64 pixels, the limit is 1 to 6143"):
        decode.decode_rgb(FILES[kind], "x", max_pixels=96 * 64 - 1)


def test_a_decompression_bomb_costs_nothing():
    """A PNG of 70 bytes that says it has 4e9 pixels."""
    png = FILES["png"]
    bomb = png[:16] + (65535).to_bytes(4, "big") * 2 + png[24:]
    with pytest.raises(decode.CorruptImage, match="65535x65535"):
        decode.decode_rgb(bomb, "x")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_only_on_request(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _encode(PHOTO, "JPEG", exif=exif)
    stored = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode.decode_rgb(data, "x"), stored)
    assert decode.image_size(data) == (96, 64)
    # The EXIF standard's table: where row 0 and column 0 of the stored pixels belong.
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: stored[::-1].transpose(1, 0, 2),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: stored[:, ::-1].transpose(1, 0, 2),
    }[orientation]
    np.testing.assert_array_equal(decode.decode_rgb(data, "x", exif=True), turned)


def test_the_error_crosses_processes():
    error = pickle.loads(pickle.dumps(decode.CorruptImage("a/b", "truncated")))
    assert (error.name, error.reason, str(error)) == ("a/b", "truncated", "image a/b: truncated")
    assert isinstance(error, ValueError)


@pytest.mark.shared
def test_real_photos(shared):
    paths = sorted((shared / "data/voc_animals/JPEGImages").glob("*.jpg"))[::40]
    assert len(paths) > 20
    for path in paths:
        rgb = decode.decode_rgb(str(path), path.stem)
        assert np.abs(rgb - _pillow(path.read_bytes())).max() <= 1
        assert decode.image_size(str(path)) == rgb.shape[1::-1]
