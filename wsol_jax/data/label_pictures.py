"""Pseudo-labels as pictures that a person can open."""

import functools
import io

import numpy as np
from PIL import Image

from wsol_jax.data.index_png import voc_palette


@functools.cache
def _palette() -> bytes:
    return voc_palette().tobytes()


def encode_classes(classes: np.ndarray) -> bytes:
    """(H, W) uint8 as a palette PNG in the VOC colours."""
    image = Image.fromarray(classes)  # uint8: grey, until it has a palette
    image.putpalette(_palette())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def regions_picture(ids: np.ndarray) -> np.ndarray:
    """(H, W) int32 -> (H, W, 3) uint8: a colour for each id, neighbours in number far apart."""
    mixed = ids.astype(np.uint32) * np.uint32(2654435761)  # Knuth's multiplicative hash
    return np.stack([mixed >> shift & 255 for shift in (24, 16, 8)], axis=-1).astype(np.uint8)


def maps_picture(maps: np.ndarray) -> np.ndarray:
    """(h, w, K) float16 -> (h, w, 3) uint8: the highest map's colour, bright where it is high."""
    maps = np.nan_to_num(maps.astype(np.float32), posinf=0.0, neginf=0.0)
    top = np.maximum(maps.max(axis=-1), 0)
    share = top / max(float(top.max()), 1e-12)
    colours = voc_palette()[1 + maps.argmax(axis=-1) % 254]
    return np.round(colours * share[..., None]).astype(np.uint8)


def encode_rgb(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
