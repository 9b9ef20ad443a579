"""Boxes from score maps, as the community defines them (Choe et al. 2020, wsolevaluation)."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from wsol_jax.metrics import _neighbours

THRESHOLDS = np.arange(0, 1, 0.001)  # the community's grid of tau


def _quantise(score_map: np.ndarray) -> np.ndarray:
    scores = np.asarray(score_map)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"a score map has shape (H, W), not {scores.shape}")
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float32)
    low, high = scores.min(), scores.max()
    if not (low >= 0 and high <= 1):  # a NaN anywhere fails both
        if np.isnan(scores).any():
            raise ValueError("the score map holds NaN")
        raise ValueError(f"a score map lies in [0, 1], this one in [{low:g}, {high:g}]")
    return (scores * 255).astype(np.uint8)


def _cuts(thresholds: Sequence[float], top: int) -> np.ndarray:
    """int(tau * max) for each threshold, (T,) int64 in -1..255."""
    taus = np.asarray(thresholds, np.float64).reshape(-1)
    if np.isnan(taus).any():
        raise ValueError("a threshold is NaN")
    return np.clip(np.trunc(taus * top), -1, 255).astype(np.int64)


def _clamp(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Inclusive corners to the community's x0 y0 min(x0+w, W-1) min(y0+h, H-1), in place."""
    boxes[:, 2] = np.minimum(boxes[:, 2] + 1, width - 1)
    boxes[:, 3] = np.minimum(boxes[:, 3] + 1, height - 1)
    return boxes


def _largest(q: np.ndarray) -> np.ndarray:
    """The largest contour's box at the cuts 0 to 255 and, last, -1; (257, 4) int64."""
    from wsol_jax.metrics import _contours

    height, width = q.shape
    shift = _neighbours.row_shift(width)
    boxes = np.empty((257, 4), np.int64)
    boxes[:256] = _contours.largest_boxes(q, shift, *_neighbours.neighbour_table(8, shift))
    nothing = boxes[:, 2] < 0
    _clamp(boxes, width, height)[nothing] = 0
    boxes[-1] = (0, 0, width - 1, height - 1)
    return boxes


def _all(q: np.ndarray, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All contours' boxes at distinct cuts: boxes (N, 4), offsets (258,), row of each cut (T,).

    Rows offsets[r] to offsets[r + 1] of boxes belong to the cuts of row r. Only the rows that a
    cut points to are filled.
    """
    from wsol_jax.metrics import _contours

    height, width = q.shape
    shift = _neighbours.row_shift(width)
    groups8, _ = _neighbours.neighbour_table(8, shift)
    groups4, _ = _neighbours.neighbour_table(4, shift)
    # {q > t} is {q > v} for the largest value v <= t that occurs; everything where none does.
    occurs = np.bincount(q.reshape(-1), minlength=256) > 0
    same = np.maximum.accumulate(np.where(occurs, np.arange(256), -1))
    rows = np.where(cuts < 0, -1, same[cuts])
    wanted = np.zeros(256, bool)
    wanted[rows[(rows >= 0) & (rows < q.max())]] = True
    found, offsets = _contours.all_boxes(q, shift, wanted, groups8, groups4)
    boxes = np.empty((len(found) + 2, 4), np.int64)
    boxes[:-2] = found
    _clamp(boxes[:-2], width, height)
    boxes[-2] = 0
    boxes[-1] = (0, 0, width - 1, height - 1)
    offsets = np.append(offsets, [len(found) + 1, len(found) + 2])
    rows = np.where(rows == q.max(), 256, np.where(rows < 0, 257, rows))
    return boxes, offsets, rows


def boxes_from_score_map(
    score_map: np.ndarray, thresholds: Sequence[float], *, multi_contour: bool = False
) -> np.ndarray | list[np.ndarray]:
    """Boxes of the largest contour, or of all, of a score map at each threshold.

    The map is quantised to floor(255 s); foreground at tau is what lies strictly above
    int(tau * max); contours are 8-connected, holes count as contours of their own, and the
    largest is that of the largest polygon area through pixel centres, the first in OpenCV's
    order winning a tie. A box is x, y, min(x + w, W - 1), min(y + h, H - 1) of the contour's
    bounding rectangle. The map is neither resized nor normalised (see ``maps.prepare_map``).

    Args:
      score_map: (H, W) in [0, 1].
      thresholds: T values, usually in [0, 1); in any order.
      multi_contour: False: the largest contour alone (V1). True: all contours (V2).
    Returns:
      For each threshold an int64 array (k, 4), x0 y0 x1 y1; [[0, 0, 0, 0]] where nothing is
      foreground. Without multi_contour k = 1 and the result is one array (T, 1, 4). With it, a
      list of T read-only arrays in OpenCV's contour order; equal levels share one array.
    Raises:
      ValueError: a NaN, a score outside [0, 1], or another shape.
    """
    q = _quantise(score_map)
    cuts = _cuts(thresholds, int(q.max()))
    if not multi_contour:
        return _largest(q)[cuts][:, None]
    boxes, offsets, rows = _all(q, cuts)
    boxes.setflags(write=False)
    at = {r: boxes[offsets[r] : offsets[r + 1]] for r in np.unique(rows).tolist()}
    return [at[r] for r in rows.tolist()]


def best_ious(
    score_map: np.ndarray,
    gt_boxes: np.ndarray,
    thresholds: Sequence[float],
    *,
    multi_contour: bool = False,
) -> np.ndarray:
    """The best IoU that a map's boxes reach with any ground truth box, at each threshold.

    Args:
      score_map, thresholds, multi_contour: as for ``boxes_from_score_map``.
      gt_boxes: (N, 4) x0 y0 x1 y1, inclusive, in the map's pixels; N >= 1.
    Returns:
      (T,) float64.
    Raises:
      ValueError: as ``boxes_from_score_map`` and ``iou``, or no ground truth box.
    """
    gt_boxes = np.asarray(gt_boxes)
    if len(gt_boxes) == 0:
        raise ValueError("an image without a ground truth box has no IoU")
    q = _quantise(score_map)
    cuts = _cuts(thresholds, int(q.max()))
    if not multi_contour:
        return iou(_largest(q), gt_boxes).max(axis=1)[cuts]
    boxes, offsets, rows = _all(q, cuts)
    per_box = iou(boxes, gt_boxes).max(axis=1)
    filled = np.flatnonzero(np.diff(offsets))
    best = np.zeros(258)
    best[filled] = np.maximum.reduceat(per_box, offsets[filled])
    return best[rows]


def largest_contours(score_map: np.ndarray, threshold: float, count: int) -> np.ndarray:
    """Boxes of the `count` largest contours at one threshold, largest first.

    Args:
      score_map, threshold: as for ``boxes_from_score_map``; holes count as contours.
    Returns:
      (k, 4) int64 with 1 <= k <= count; [[0, 0, 0, 0]] where nothing is foreground.
    """
    ranked = _ranked(score_map, threshold, cv2.RETR_TREE)[:count]
    return _bounds(ranked, score_map) if ranked else np.zeros((1, 4), np.int64)


def least_score(score_map: np.ndarray, threshold: float) -> float:
    """The least score that is foreground, by the rule of ``boxes_from_score_map``."""
    top = int(_quantise(score_map).max())
    return float(_cuts([threshold], top)[0] + 1) / 255


def otsu_threshold(score_maps: Iterable[np.ndarray]) -> float:
    """The threshold that parts the scores of all maps best into two kinds (Otsu 1979).

    It looks at no truth: the one of THRESHOLDS between the two groups of values that vary least
    within themselves.

    Args:
      score_maps: (H, W) in [0, 1] each, of whose highest values thresholds are shares.
    """
    from skimage.filters import threshold_otsu  # a second to import

    counts = sum(np.bincount(_quantise(m).ravel(), minlength=256) for m in score_maps)
    if np.count_nonzero(counts) < 2:
        raise ValueError("all scores are one value")
    return nearest_threshold((threshold_otsu(hist=(counts, np.arange(256))) + 0.5) / 255)


def outer_boxes(score_map: np.ndarray, threshold: float, least: float = 0.01) -> np.ndarray:
    """Boxes of all outer contours at one threshold, largest first.

    Args:
      score_map, threshold: as for ``boxes_from_score_map``; holes are no contours here.
      least: contours of a smaller share of the map are left out, but for the largest.
    Returns:
      (k, 4) int64, k = 0 where nothing is foreground.
    """
    ranked = _ranked(score_map, threshold, cv2.RETR_EXTERNAL)
    enough = least * np.size(score_map)
    kept = ranked[:1] + [c for c in ranked[1:] if cv2.contourArea(c) >= enough]
    return _bounds(kept, score_map)


def _ranked(score_map: np.ndarray, threshold: float, mode: int) -> list[np.ndarray]:
    """OpenCV's contours at one threshold, the largest first; of equals the first one."""
    q = _quantise(score_map)
    above = (q > _cuts([threshold], int(q.max()))[0]).astype(np.uint8)
    contours, _ = cv2.findContours(above, mode, cv2.CHAIN_APPROX_SIMPLE)
    return sorted(contours, key=cv2.contourArea, reverse=True)


def _bounds(contours: Sequence[np.ndarray], score_map: np.ndarray) -> np.ndarray:
    """(k, 4) boxes of contours."""
    height, width = np.shape(score_map)
    boxes = np.array([cv2.boundingRect(c) for c in contours], np.int64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2] - 1
    return _clamp(boxes, width, height)


def iou(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair of boxes, corners inclusive (+1).

    Args:
      boxes_a: (A, 4), boxes_b: (B, 4), x0 y0 x1 y1 in pixels.
    Returns:
      (A, B) float64 in [0, 1].
    Raises:
      ValueError: a box whose second corner is left of or above its first, a NaN, or another shape.
    """
    boxes = []
    for given in (boxes_a, boxes_b):
        b = np.asarray(given, np.float64)
        if b.ndim != 2 or b.shape[1] != 4:
            raise ValueError(f"boxes have shape (N, 4), not {b.shape}")
        bad = ~((b[:, 2] >= b[:, 0]) & (b[:, 3] >= b[:, 1]))
        if bad.any():
            raise ValueError(f"a box is x0 y0 x1 y1 with x0 <= x1 and y0 <= y1, not {b[bad][0]}")
        boxes.append(b)
    a, b = boxes
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.maximum(sides + 1, 0).prod(axis=2)
    area_a, area_b = ((c[:, 2:] - c[:, :2] + 1).prod(axis=1) for c in (a, b))
    return shared / (area_a[:, None] + area_b[None] - shared)


def nearest_threshold(threshold: float) -> float:
    """The value of THRESHOLDS that is nearest to a number in [0, 1)."""
    return float(THRESHOLDS[np.abs(THRESHOLDS - threshold).argmin()])


def resize_box(box: np.ndarray, from_size: tuple[int, int], to_size: tuple[int, int]) -> np.ndarray:
    """Scales boxes from an image of one size to another, truncated to whole pixels.

    Args:
      box: (..., 4) x0 y0 x1 y1.
      from_size, to_size: (width, height) in pixels.
    Returns:
      (..., 4) int64: int(x * to_width / from_width), int(y * to_height / from_height).
    """
    old = np.array((*from_size, *from_size), np.float64)
    new = np.array((*to_size, *to_size), np.float64)
    return (np.asarray(box, np.float64) * new / old).astype(np.int64)
