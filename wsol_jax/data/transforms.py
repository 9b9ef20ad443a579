"""From decoded pixels to what a network sees: NumPy and OpenCV, on the host."""

from typing import Literal, NamedTuple

import cv2
import numpy as np

ResizeMode = Literal["warp", "shorter", "none"]


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resizes (H, W, 3) uint8; averages over areas where it shrinks by more than half.

    Bilinear sampling skips pixels below half size, which turns texture into noise.
    """
    if (image.shape[1], image.shape[0]) == (width, height):
        return image
    shrinks = image.shape[1] > 2 * width or image.shape[0] > 2 * height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def resize_for_crop(image: np.ndarray, size: int, mode: ResizeMode, crop: int) -> np.ndarray:
    """The resize before a crop: "warp" to size x size, the "shorter" side to ``size``, or "none".

    With "none" ``size`` means nothing: the photo stays as it is stored. One with a side under
    ``crop`` is enlarged, in its proportions, until its shorter side is ``crop``: padding is no
    photo, and a dense CRF or a background class would learn from it.

    Args:
      image: (H, W, 3) uint8.
      size, crop: in pixels.

    Returns:
      (H', W', 3) uint8; no side under ``size``, with "none" under ``crop``.
    """
    if mode == "warp":
        return resize(image, size, size)
    height, width = image.shape[:2]
    if mode == "none":
        size = max(crop, min(height, width))
    scale = size / min(height, width)
    return resize(image, max(size, round(width * scale)), max(size, round(height * scale)))


class Window(NamedTuple):
    """What of an image is cut out: a square of it, mirrored or not.

    Attributes:
      height, width: of the image that it is cut from.
      top, left, side: of the square, in pixels of that image.
    """

    height: int
    width: int
    top: int
    left: int
    side: int
    mirrored: bool = False


WHOLE = Window(1, 1, 0, 0, 1)  # all of a photo, whatever its size


def random_window(
    height: int, width: int, crop: int, rng: np.random.Generator, flip: float = 0.5
) -> Window:
    """Draws a crop x crop window of an image, mirrored with probability ``flip``.

    Args:
      height, width: of the image, both at least ``crop``.
      crop: side of the window in pixels.
      rng: the example's own generator.
      flip: in [0, 1].
    """
    top = int(rng.integers(height - crop + 1))
    left = int(rng.integers(width - crop + 1))
    return Window(height, width, top, left, crop, bool(rng.random() < flip))


def cut(image: np.ndarray, window: Window) -> np.ndarray:
    """The window's pixels of an image (H, W, ...)."""
    top, left, side = window.top, window.left, window.side
    found = image[top : top + side, left : left + side]
    return np.ascontiguousarray(found[:, ::-1] if window.mirrored else found)


def view(image: np.ndarray, size: int, center: int = 0) -> np.ndarray:
    """What of a test photo a network is shown: (size, size, 3) uint8, all of it, warped.

    ``center``: above 0, its shorter side becomes so many pixels, and the middle is cut out.
    """
    if not center:
        return resize(image, size, size)
    image = resize_for_crop(image, center, "shorter", size)
    height, width = image.shape[:2]
    return cut(image, Window(height, width, (height - size) // 2, (width - size) // 2, size))


def cut_labels(labels: np.ndarray, window: Window, shape: tuple[int, int]) -> np.ndarray:
    """Samples the labels of a photo over a window of it, at the centres of ``shape`` cells.

    Whole numbers (classes, region ids) are those of the cell under each centre, floats are
    interpolated between the centres of the four next to it, and outside of these take the nearest.

    Args:
      labels: (h, w, ...), over the whole photo; cells of any size.
      window: of the photo at whatever size it was cut.
      shape: (height, width) of what is wanted.

    Returns:
      (height, width, ...) in labels' dtype. Labels of ``shape`` over the whole photo come back as
      they were, to the bit, or mirrored.
    """
    axes = (
        (window.top, window.height, shape[0], labels.shape[0]),
        (window.left, window.width, shape[1], labels.shape[1]),
    )
    if not np.issubdtype(labels.dtype, np.floating):
        rows, columns = (_nearest(window.side, *axis) for axis in axes)
        found = labels[rows[:, None], columns]
    else:
        found = labels.astype(np.float32)
        for number, axis in enumerate(axes):
            found = _interpolated(found, number, *_numerator(window.side, *axis))
        found = found.astype(labels.dtype)
    return np.ascontiguousarray(found[:, ::-1] if window.mirrored else found)


def _numerator(side: int, start: int, whole: int, wanted: int, given: int):
    """Places of the wanted cells' centres on an axis of ``given`` cells, as fractions.

    In whole numbers, so that a centre that falls on a border falls there on every machine.
    """
    pixels = (2 * np.arange(wanted, dtype=np.int64) + 1) * side + 2 * wanted * start
    return pixels * given, 2 * wanted * whole


def _nearest(side: int, start: int, whole: int, wanted: int, given: int) -> np.ndarray:
    numerator, denominator = _numerator(side, start, whole, wanted, given)
    return np.minimum(numerator // denominator, given - 1)


def _interpolated(
    values: np.ndarray, axis: int, numerator: np.ndarray, denominator: int
) -> np.ndarray:
    last = values.shape[axis] - 1
    place = 2 * numerator - denominator  # a cell's centre is half a cell in
    below = place // (2 * denominator)
    share = ((place - 2 * denominator * below) / (2 * denominator)).astype(np.float32)
    share = share.reshape([-1 if axis == n else 1 for n in range(values.ndim)])
    low = values.take(np.clip(below, 0, last), axis)
    high = values.take(np.clip(below + 1, 0, last), axis)
    with np.errstate(invalid="ignore"):
        between = low * (1 - share) + high * share
    return np.where(share > 0, between, low)  # at a centre, its very bits


def ten_crops(image: np.ndarray, crop: int) -> np.ndarray:
    """Four corners and the centre, and their mirror images: (10, crop, crop, 3)."""
    bottom, right = image.shape[0] - crop, image.shape[1] - crop
    corners = ((0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2))
    windows = [image[y : y + crop, x : x + crop] for y, x in corners]
    return np.stack(windows + [window[:, ::-1] for window in windows])
