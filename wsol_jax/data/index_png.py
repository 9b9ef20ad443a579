"""PNG files whose values are classes, in PASCAL VOC's colours."""

import os

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.data.decode import CorruptImage, open_image


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


def read_index_png(path: str | os.PathLike, size: tuple[int, int] | None = None) -> np.ndarray:
    """Reads (H, W) uint8 values of a palette PNG (its indices, not its colours) or a grey one.

    Args:
      size: (width, height) that its image is known to have; compared before a pixel is decoded.

    Raises UserError for a file that is no image, or an image of another kind or size.
    """
    kinds = "a palette or 8-bit greyscale PNG whose values are class indices"
    return _read(path, "mask", ("P", "L"), kinds, size)


def read_grey_png(path: str | os.PathLike) -> np.ndarray:
    """Reads (H, W) uint8 values of a grey picture, such as a saliency map.

    Raises UserError for a file that is no image, or an image of another kind.
    """
    return _read(path, "map", ("L",), "an 8-bit greyscale PNG")


def _read(
    path: str | os.PathLike,
    what: str,
    modes: tuple[str, ...],
    expected: str,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    try:
        with open_image(path) as image:
            mode, found = image.mode, image.size
            wanted = mode in modes and size in (None, found)
            values = np.array(image) if wanted else None  # the pixels, decoded now
    except CorruptImage as e:
        raise UserError(f"{what} {path} cannot be read: {e.reason}") from None
    if size not in (None, found):
        raise UserError(
            f"{what} {path} is {found[0]}x{found[1]}, its annotation says {size[0]}x{size[1]}: "
            "they must agree"
        )
    if values is None:
        raise UserError(f"{what} {path} has the mode {mode}: expected {expected}")
    return values
