"""From decoded pixels to what a network sees: NumPy and OpenCV, on the host."""

from typing import Literal

import cv2
import numpy as np

ResizeMode = Literal["warp", "shorter"]


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resizes (H, W, 3) uint8; averages over areas where it shrinks by more than half.

    Bilinear sampling skips pixels below half size, which turns texture into noise.
    """
    if (image.shape[1], image.shape[0]) == (width, height):
        return image
    shrinks = image.shape[1] > 2 * width or image.shape[0] > 2 * height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def resize_for_crop(image: np.ndarray, size: int, mode: ResizeMode) -> np.ndarray:
    """The resize before a crop: "warp" to size x size, or the "shorter" side to ``size``."""
    if mode == "warp":
        return resize(image, size, size)
    height, width = image.shape[:2]
    scale = size / min(height, width)
    return resize(image, max(size, round(width * scale)), max(size, round(height * scale)))


def random_crop_flip(
    image: np.ndarray, crop: int, rng: np.random.Generator, flip: float = 0.5
) -> np.ndarray:
    """A random crop x crop window, mirrored with probability ``flip``.

    Args:
      image: (H, W, ...), both sides at least ``crop``.
      crop: side of the window in pixels.
      rng: the example's own generator.
      flip: in [0, 1].
    """
    top = int(rng.integers(image.shape[0] - crop + 1))
    left = int(rng.integers(image.shape[1] - crop + 1))
    window = image[top : top + crop, left : left + crop]
    return np.ascontiguousarray(window[:, ::-1] if rng.random() < flip else window)


def ten_crops(image: np.ndarray, crop: int) -> np.ndarray:
    """Four corners and the centre, and their mirror images: (10, crop, crop, 3)."""
    bottom, right = image.shape[0] - crop, image.shape[1] - crop
    corners = ((0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2))
    windows = [image[y : y + crop, x : x + crop] for y, x in corners]
    return np.stack(windows + [window[:, ::-1] for window in windows])
