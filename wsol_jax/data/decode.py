"""Encoded images to RGB arrays, refusing damaged files by name."""

import contextlib
import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image, ImageOps

from wsol_jax.base.limits import MAX_BYTES, MAX_PIXELS

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What Pillow may take a file for, by Pillow's names. It opens by content, and its reader of EPS
starts Ghostscript on whatever the file says."""

_HEAD = 1 << 16
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_PNG_CHECKED = (b"IHDR", b"PLTE", b"IDAT")  # a damaged comment or ICC profile hurts no pixel


class CorruptImage(ValueError):
    """An image that cannot be decoded faithfully.

    Attributes:
      name: the image's id or path, as the caller gave it.
      reason: what is wrong with it, in words.
    """

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)  # both as args, so that it pickles between processes
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"image {self.name}: {self.reason}"


def decode_rgb(
    image: str | bytes | np.ndarray, name: str, *, exif: bool = False, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decodes an image, a path or encoded bytes, to (H, W, 3) uint8 RGB; pixels stay as they are.

    The content decides the format, not the file's name. Greyscale, palette, CMYK and YCCK become
    RGB, 16 bits keep their upper 8, of an animation the first frame is taken. An alpha channel is
    dropped and the stored colours stay as they are: any colour to composite on would be ours, and
    its edge would be the strongest one in the picture.

    Args:
      name: the image's id, for the error.
      exif: whether to turn the image by its EXIF orientation. Off for data sets, whose boxes and
        masks count the stored pixels; on for a user's own photos.
      max_pixels: images with more pixels than this are refused before they are decoded.

    Raises:
      CorruptImage: for a file that is absent, empty, truncated, damaged, too large or no image.
        OpenCV 4 fills the missing part of a truncated JPEG with grey and says nothing, so the
        file's end is checked first.
    """
    if isinstance(image, np.ndarray):
        return image
    data = read_file(image, name)
    if not check_encoded(data, name, max_pixels):
        return _decode_with_pillow(data, name, exif)
    flags = cv2.IMREAD_COLOR if exif else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as e:
        raise CorruptImage(name, f"damaged: OpenCV cannot decode it: {e}") from None
    if bgr is None:
        return _decode_with_pillow(data, name, exif)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)


def image_size(image: str | bytes, name: str | None = None) -> tuple[int, int]:
    """(width, height) of the stored pixels, from the header alone; EXIF orientation is ignored.

    Raises CorruptImage where the header cannot be read; ``name`` (default: the path) stands in it.
    """
    name = name or (image if isinstance(image, str) else "of unknown name")
    if isinstance(image, str):  # most headers lie in the first pages; a photo has megabytes
        try:
            return _header_size(read_file(image, name, _HEAD), name)
        except CorruptImage:
            pass
    return _header_size(read_file(image, name), name)


def check_encoded(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> bool:
    """Whether this is a JPEG or PNG, whole as far as can be seen without decoding it.

    Raises CorruptImage for one that ends early, and for any image of no pixel or of more than
    ``max_pixels``.
    """
    width, height = _header_size(data, name)
    if width < 1 or height < 1 or width * height > max_pixels:
        raise CorruptImage(name, f"{width}x{height} pixels, the limit is 1 to {max_pixels} pixels")
    return _check_complete(data, name)


@contextlib.contextmanager
def open_image(image: str | bytes | os.PathLike, name: str | None = None) -> Iterator[Image.Image]:
    """Opens an image with Pillow, by its content; its pixels are decoded in the ``with``.

    Every image that Pillow decodes is opened here: ``FORMATS`` alone, none beyond ``MAX_PIXELS``.

    Raises:
      CorruptImage: another file, a larger or a damaged one; ``name`` (default: the path) stands in
        it.
    """
    name = name or ("of unknown name" if isinstance(image, bytes) else os.fspath(image))
    data = read_file(image, name)
    check_encoded(data, name)
    with _decoding(data, name) as opened:
        yield opened


@contextlib.contextmanager
def _decoding(data: bytes, name: str) -> Iterator[Image.Image]:
    """What ``open_image`` gives, of bytes that ``check_encoded`` has seen."""
    with _pillow(data, name) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged tag is no reason to fill the log
        try:
            yield opened
        except Exception as e:  # Pillow's plugins raise whatever the damage led to
            raise CorruptImage(name, f"damaged or truncated: {e}") from None


def read_file(image: str | bytes | os.PathLike, name: str, limit: int = -1) -> bytes:
    """The encoded bytes of an image, ``limit`` of them at most; what are bytes stays.

    Raises CorruptImage for a file that is absent, empty, no file or beyond ``MAX_BYTES``.
    """
    if not isinstance(image, str | os.PathLike):
        data = bytes(image)
    else:
        try:
            about = os.stat(image)
            if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
                raise CorruptImage(name, "it is a pipe or device")  # which may wait for ever
            if about.st_size > MAX_BYTES:
                raise CorruptImage(name, f"{about.st_size} bytes, the limit is {MAX_BYTES} bytes")
            with open(image, "rb") as f:
                data = f.read(limit)
        except CorruptImage:
            raise
        except (OSError, ValueError) as e:  # ValueError: a NUL in the path
            what = "" if name == os.fspath(image) else f"{image} cannot be read: "
            raise CorruptImage(name, f"{what}{getattr(e, 'strerror', None) or e}") from None
    if not data:
        raise CorruptImage(name, "the file is empty")
    return data


def _header_size(data: bytes, name: str) -> tuple[int, int]:
    """(width, height) from the header."""
    if data.startswith(_JPEG):
        return _jpeg_frame(data, name)[1]
    if data.startswith(_PNG):
        if len(data) < 24:
            raise CorruptImage(name, "truncated: the PNG header is incomplete")
        if data[12:16] != b"IHDR":  # Pillow would look for it further on
            raise CorruptImage(name, "damaged: the PNG does not begin with its header")
        return struct.unpack(">II", data[16:24])
    with _pillow(data, name) as opened:
        return opened.size


def _check_complete(data: bytes, name: str) -> bool:
    """Whether this is a JPEG or PNG; raises CorruptImage where it ends early.

    Takes 1.5% of the time to decode a JPEG. Damage within a JPEG's scan goes unnoticed.
    """
    if data.startswith(_JPEG):
        # From the first scan on, since an EXIF thumbnail has an end marker of its own. Within a
        # scan 0xff is always escaped, and what stands behind the marker harms nobody.
        if data.rfind(b"\xff\xd9", _jpeg_frame(data, name)[0]) < 0:
            raise CorruptImage(name, "truncated: the JPEG's end marker is missing")
        return True
    if data.startswith(_PNG):
        _check_png(data, name)
        return True
    return False


def _jpeg_frame(data: bytes, name: str) -> tuple[int, tuple[int, int]]:
    """(offset of the first scan, (width, height)), walking the JPEG's segments."""
    at, size = 2, None
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            raise CorruptImage(name, "truncated: the JPEG ends within its header")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # no length follows these
            at += 2
        elif marker == 0xDA:
            if size is None:
                raise CorruptImage(name, "damaged: the JPEG has no frame header")
            return at, size
        elif marker == 0xD9:
            raise CorruptImage(name, "damaged: the JPEG ends without a picture")
        else:
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                if at + 9 > len(data):
                    raise CorruptImage(name, "truncated: the JPEG ends within its header")
                height, width = struct.unpack(">HH", data[at + 5 : at + 9])
                size = (width, height)
            at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]


def _check_png(data: bytes, name: str) -> None:
    """Raises CorruptImage unless the chunks reach IEND and those with pixels keep their CRC."""
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 12 + length
        if end > len(data):
            break
        if kind in _PNG_CHECKED:
            crc = zlib.crc32(memoryview(data)[at + 4 : end - 4])
            if crc != struct.unpack(">I", data[end - 4 : end])[0]:
                raise CorruptImage(name, f"damaged: a PNG {kind.decode()} chunk's CRC is wrong")
        if kind == b"IEND":
            return
        at = end
    raise CorruptImage(name, "truncated: the PNG's end chunk is missing")


def _pillow(data: bytes, name: str) -> Image.Image:
    """Opens with Pillow: the header is read, the pixels are not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # max_pixels decides on bombs, damage shows in the pixels
        try:
            return Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as e:
            raise CorruptImage(name, str(e)) from None
        except Exception as e:
            what = "" if isinstance(e, Image.UnidentifiedImageError) else f" ({e})"
            raise CorruptImage(name, f"no image that can be read{what}") from None


def _decode_with_pillow(data: bytes, name: str, exif: bool) -> np.ndarray:
    """For the formats where Pillow is the stricter reader (WebP, TIFF, BMP, GIF, ...)."""
    with _decoding(data, name) as opened:
        return pillow_rgb(opened, exif)


def pillow_rgb(image: Image.Image, exif: bool) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a Pillow image, as ``decode_rgb`` would give it.

    Raises:
      ValueError: floating-point pixels, which have no known range; OSError: damage.
    """
    turned = ImageOps.exif_transpose(image) if exif else image
    if turned.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if turned.mode.startswith("I"):  # 16 bits; convert("RGB") would clip them to 255
        upper = np.clip(np.asarray(turned), 0, 65535).astype(np.uint16) >> 8
        return np.repeat(upper.astype(np.uint8)[..., None], 3, axis=2)
    return np.array(turned.convert("RGB"))
