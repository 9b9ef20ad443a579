"""The preparation of a raw class map before anything is measured on it."""

import cv2
import numpy as np

MAP_SIZE = 224  # the side at which the community compares boxes and pixels (Choe et al. 2020)


class NotFinite(ValueError):
    """Score maps that hold NaN or infinity."""


def require_finite(scores: np.ndarray) -> None:
    """Raises NotFinite for NaN or infinity in score maps."""
    if not np.isfinite(scores).all():
        raise _not_finite(scores)


def _not_finite(scores: np.ndarray) -> NotFinite:
    return NotFinite(f"the score map holds {'NaN' if np.isnan(scores).any() else 'infinity'}")


def min_max(score_map: np.ndarray) -> np.ndarray:
    """A map scaled to [0, 1] by its own minimum and maximum; a constant map gives zeros.

    Args:
      score_map: (H, W), finite.
    Returns:
      (H, W) float32.
    Raises:
      NotFinite: NaN or infinity in the map.
    """
    scores = np.asarray(score_map, np.float32)
    low, high = scores.min(), scores.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise _not_finite(scores)
    if low == high:
        return np.zeros_like(scores)
    scores = scores - low
    return scores / scores.max()


def prepare_map(raw_map: np.ndarray, size: int = MAP_SIZE) -> np.ndarray:
    """A raw map enlarged bicubically to the evaluation's size, then scaled to [0, 1].

    Args:
      raw_map: (h, w), any range and float type.
      size: side of the result in pixels.
    Returns:
      (size, size) float32 in [0, 1]; zeros where the enlarged map is constant.
    Raises:
      ValueError: NaN or infinity in the map, or another number of axes.
    """
    raw = np.ascontiguousarray(raw_map, np.float32)
    if raw.ndim != 2 or 0 in raw.shape:
        raise ValueError(f"a score map has shape (H, W), not {raw.shape}")
    require_finite(raw)  # before resizing, which would smear one NaN over many pixels
    if raw.min() == raw.max():  # bicubic weights sum to one only up to rounding
        return np.zeros((size, size), np.float32)
    return min_max(cv2.resize(raw, (size, size), interpolation=cv2.INTER_CUBIC))


def resize_mask(mask: np.ndarray, size: int = MAP_SIZE) -> np.ndarray:
    """A label mask brought to (size, size) by nearest neighbour; dtype kept (uint8)."""
    return cv2.resize(np.asarray(mask, np.uint8), (size, size), interpolation=cv2.INTER_NEAREST)
