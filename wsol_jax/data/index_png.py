"""PNG files whose values are classes, in PASCAL VOC's colours."""

import os

import numpy as np
from PIL import Image, UnidentifiedImageError

from wsol_jax.base.errors import UserError


def voc_palette() -> np.ndarray:
    """(256, 3) uint8 RGB: the colour of each class in VOC's masks; 255, ignored, is off-white.

    A class's bits, three at a time, become the highest bits of red, green and blue.
    """
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            bits = index >> (3 * bit + channel) & 1
            colours[:, channel] |= (bits << (7 - bit)).astype(np.uint8)
    return colours


def read_index_png(path: str | os.PathLike) -> np.ndarray:
    """Reads (H, W) uint8 values of a palette PNG (its indices, not its colours) or a grey one.

    Raises UserError for a file that is no image, or an image of another kind.
    """
    kinds = "a palette or 8-bit greyscale PNG whose values are class indices"
    return _read(path, "mask", ("P", "L"), kinds)


def read_grey_png(path: str | os.PathLike) -> np.ndarray:
    """Reads (H, W) uint8 values of a grey picture, such as a saliency map.

    Raises UserError for a file that is no image, or an image of another kind.
    """
    return _read(path, "map", ("L",), "an 8-bit greyscale PNG")


def _read(path: str | os.PathLike, what: str, modes: tuple[str, ...], expected: str) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.mode not in modes:
                raise UserError(f"{what} {path} has the mode {image.mode}: expected {expected}")
            return np.array(image)
    except (UnidentifiedImageError, OSError, SyntaxError) as e:
        raise UserError(f"{what} {path} cannot be read: {e}") from None
