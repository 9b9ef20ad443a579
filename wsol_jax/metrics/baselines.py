"""Baselines that never look at the image: a fixed box and a fixed map in its middle."""

from collections.abc import Sequence

import numpy as np

from wsol_jax.metrics.boxes import iou
from wsol_jax.metrics.maps import MAP_SIZE


def central_box(width: float, height: float, size: int | tuple[int, int] = MAP_SIZE) -> np.ndarray:
    """A centred box; width and height are fractions of the sides in (0, 1].

    Args:
      size: (width, height) in pixels, or the side of a square.
    Returns:
      (4,) int64, x0 y0 x1 y1 inclusive, at least one pixel.
    """
    across, down = (size, size) if isinstance(size, int) else size
    w, h = max(1, round(width * across)), max(1, round(height * down))
    x0, y0 = (across - w) // 2, (down - h) // 2
    return np.array([x0, y0, x0 + w - 1, y0 + h - 1], np.int64)


def best_central_box(
    gt_boxes: Sequence[np.ndarray], size: int = MAP_SIZE, delta: float = 0.5, steps: int = 50
) -> np.ndarray:
    """The centred box that is right for most images; to be fit on a train split.

    Args:
      gt_boxes: for each image (n, 4), in the map's pixels (``boxes.resize_box``), n >= 1.
      size: the map's side. steps: width and height run over 1/steps .. 1.
    Returns:
      (4,) int64. Of equally many right images, the highest mean IoU decides.
    Raises:
      ValueError: no images.
    """
    if len(gt_boxes) == 0:
        raise ValueError("a central box cannot be fit without ground truth boxes")
    fractions = np.arange(1, steps + 1) / steps
    boxes = np.stack([central_box(w, h, size) for w in fractions for h in fractions])
    starts = np.cumsum([0] + [len(b) for b in gt_boxes[:-1]])
    ious = np.maximum.reduceat(iou(boxes, np.concatenate(gt_boxes)), starts, axis=1)
    score = np.count_nonzero(ious >= delta, axis=1) + ious.mean(axis=1) / 2
    return boxes[int(score.argmax())]


def gaussian_map(size: int = MAP_SIZE, sigma: float = 0.25) -> np.ndarray:
    """A centred round Gaussian, the score map of a method that never looks.

    PxAP depends on the order of the scores alone, so sigma moves it only through the width of the
    histogram's bins.

    Args:
      size: side in pixels. sigma: fraction of the side, > 0.
    Returns:
      (size, size) float32 in (0, 1], min-max scaled.
    """
    x = (np.arange(size) - (size - 1) / 2) / (sigma * size)
    scores = np.exp(-0.5 * (x[:, None] ** 2 + x[None] ** 2))
    scores = (scores - scores.min()) / (scores.max() - scores.min())
    return scores.astype(np.float32)
