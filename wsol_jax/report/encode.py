"""Arrays as text that stands inside the page: pictures as data URIs, score maps as packed bytes."""

import base64
import zlib
from collections.abc import Sequence

import cv2
import numpy as np

from wsol_jax.report import overlays


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """Picture whose longer side is at most ``side`` pixels; never enlarged."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    size = [max(1, round(n * scale)) for n in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def encode(image: np.ndarray, suffix: str, quality: int = 82) -> bytes:
    """(H, W, 3) uint8 RGB or (H, W) uint8 as the bytes of a ".jpg" or ".png" file."""
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    done, data = cv2.imencode(suffix, np.ascontiguousarray(pixels), options)
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture of {image.shape} as {suffix}")
    return data.tobytes()


def jpeg_uri(image: np.ndarray, quality: int = 82) -> str:
    """Data URI of a photo or a heat map."""
    return "data:image/jpeg;base64," + _base64(encode(image, ".jpg", quality))


def png_uri(image: np.ndarray) -> str:
    """Data URI of a picture of few colours, without loss."""
    return "data:image/png;base64," + _base64(encode(image, ".png"))


def is_mask(picture: np.ndarray) -> bool:
    """Whether an extra picture (see Example) is a guidance mask: no map, no photo."""
    return picture.ndim == 2 and picture.dtype in (np.bool_, np.uint8)


def picture_uri(picture: np.ndarray, side: int = 224) -> tuple[str, bool]:
    """(data URI, is it a mask) of an extra picture: mask, float map or photo (see Example)."""
    picture = np.asarray(picture)
    if picture.ndim == 3:
        return jpeg_uri(shrink(picture, side)), False
    if is_mask(picture):
        scale = side / max(picture.shape)
        if scale < 1:  # labels must not be averaged
            size = [max(1, round(n * scale)) for n in picture.shape[::-1]]
            picture = cv2.resize(picture.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        return png_uri(overlays.colour_mask(picture)), True
    return jpeg_uri(overlays.colour_heat(shrink(picture.astype(np.float32), side))), False


def pack_maps(maps: Sequence[np.ndarray]) -> str:
    """Score maps for the page's script: 8 bits, differenced along both axes, deflated, base64.

    A canvas would be shorter, but browsers that guard against fingerprinting alter what is read
    back from one; these bytes arrive exactly. Differences (modulo 256) of smooth maps are near 0
    and deflate well; two running sums undo them.
    """
    flat = [
        np.diff(np.diff(overlays.quantise(m), axis=0, prepend=0), axis=1, prepend=0)
        .astype(np.uint8)
        .tobytes()
        for m in maps
    ]
    return _base64(zlib.compress(b"".join(flat), 9))


def css(colour: Sequence[int]) -> str:
    """An RGB colour as a style sheet writes it."""
    red, green, blue = (int(v) for v in colour)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
