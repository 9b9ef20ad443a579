"""Detection: boxes from class maps, non-maximum suppression, and VOC's mean average precision."""

from collections.abc import Mapping, Sequence
from typing import Self

import cv2
import numpy as np

from wsol_jax.metrics.accumulator import FigureAccumulator
from wsol_jax.metrics.bootstrap import Figures, mean_defined
from wsol_jax.metrics.boxes import iou
from wsol_jax.metrics.maps import require_finite
from wsol_jax.metrics.per_image import RaggedPerImage
from wsol_jax.metrics.ranking import ranked_average_precision

IOUS = (0.5, 0.2)  # Redondo-Cabrera et al. 2018
NMS_IOU = 0.3
TRUE_POSITIVE, FALSE_POSITIVE, IGNORED = 1, 0, -1


def component_boxes(score_map: np.ndarray, threshold: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Boxes around the connected regions of a map, scored by the map's sum in the region.

    Redondo-Cabrera et al. 2018. A region's pixels lie above the threshold; they are 8-connected.

    Args:
      score_map: (H, W), finite; scaled to [0, 1] if the threshold is to mean a share of the peak.
    Returns:
      (N, 4) int64 x0 y0 x1 y1, inclusive, in reading order of the regions, and (N,) float64.
    Raises:
      ValueError: no pixels, NaN or infinity, or another number of axes.
    """
    scores = np.asarray(score_map)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"a score map has shape (H, W), not {scores.shape}")
    require_finite(scores)
    above = (scores > threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    corners = stats[1:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]].astype(np.int64)
    sides = stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]
    sums = np.bincount(labels.ravel(), scores.ravel().astype(np.float64), count)[1:]
    return np.concatenate([corners, corners + sides - 1], axis=1), sums


def nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    iou_threshold: float = NMS_IOU,
    labels: Sequence[int] | None = None,
) -> np.ndarray:
    """Suppresses boxes greedily: the best one stays, those that overlap it more than a bound go.

    A box goes if its IoU with a box that stays is above the threshold. Of equal scores the one
    given first is better.

    Args:
      boxes: (N, 4) x0 y0 x1 y1, inclusive. scores: (N,), finite. labels: (N,) classes; boxes of
        different classes leave each other alone. None: all of one class.
    Returns:
      (K,) int64: which boxes stay, best first.
    Raises:
      ValueError: as ``boxes.iou``; NaN or infinite scores, lengths that differ, or a threshold
        outside [0, 1].
    """
    boxes, scores = _boxes(boxes), np.asarray(scores, np.float64)
    labels = np.zeros(len(boxes), np.int64) if labels is None else np.asarray(labels)
    if not scores.shape == labels.shape == (len(boxes),):
        raise ValueError(f"{len(boxes)} boxes, but {scores.shape} scores, {labels.shape} labels")
    if not np.isfinite(scores).all():
        raise ValueError("a detection's score is NaN or infinite")
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"an IoU threshold lies in [0, 1], not {iou_threshold}")
    left = np.argsort(-scores, kind="stable")
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        over = iou(boxes[best : best + 1], boxes[left])[0] > iou_threshold
        left = left[~(over & (labels[left] == labels[best]))]
    return np.array(kept, np.int64)


def _boxes(given: np.ndarray) -> np.ndarray:
    boxes = np.asarray(given, np.float64)
    return boxes.reshape(0, 4) if boxes.size == 0 else boxes


def judge(
    boxes: np.ndarray,
    scores: np.ndarray,
    gt_boxes: np.ndarray,
    difficult: np.ndarray,
    ious: Sequence[float] = IOUS,
) -> np.ndarray:
    """Judges one image's boxes of one class: right, wrong, or not counted (VOC's devkit).

    Each box belongs to the object that it overlaps most, the first of equals, if their IoU is at
    least the wanted one. The best-scored box of an object is right, its further ones are wrong;
    boxes of a difficult object are neither. Boxes of no object are wrong.

    Args:
      boxes: (N, 4) x0 y0 x1 y1, inclusive. scores: (N,); of equals the one given first is better.
      gt_boxes: (M, 4). difficult: (M,) bool. ious: D thresholds.
    Returns:
      (N, D) int8: TRUE_POSITIVE, FALSE_POSITIVE or IGNORED.
    """
    boxes, gt_boxes = _boxes(boxes), _boxes(gt_boxes)
    found = np.full((len(boxes), len(ious)), FALSE_POSITIVE, np.int8)
    overlaps = iou(boxes, gt_boxes)
    if overlaps.size == 0:
        return found
    object_of, overlap = overlaps.argmax(axis=1), overlaps.max(axis=1)
    ignored = np.asarray(difficult, bool)[object_of]
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    for d, wanted in enumerate(ious):
        near = order[overlap[order] >= wanted]
        found[near[ignored[near]], d] = IGNORED
        near = near[~ignored[near]]
        _, first = np.unique(object_of[near], return_index=True)
        found[near[first], d] = TRUE_POSITIVE
    return found


class DetectionAP(FigureAccumulator):
    """Average precision of boxes by class and its mean, as PASCAL VOC's devkit defines it.

    Boxes of a class are ranked over all images by their scores (of equals by image id, then as
    given) and judged as in ``judge``; objects that are not difficult are what there is to be
    found. A class without any is left out of the mean.

    ``compute``, ``intervals`` and ``compare`` take an ``interpolation``: "all" points, the default
    (VOC since 2010), or "11" (VOC 2007), as for ``ranking.ranked_average_precision``; for each IoU
    they give map@IoU, a float, and ap@IoU, (C,).

    Attributes:
      num_classes: C. ious: the IoU at which a box is right, one mean for each. nms_iou: of the
        suppression that every image's boxes go through first; None for boxes as they are given.
    """

    SETTINGS = "classes, IoUs or suppression"
    COMPARED = ("num_classes", "ious")
    COMPARED_NAMES = "images, classes or IoUs"

    def __init__(
        self,
        num_classes: int,
        ious: Sequence[float] = IOUS,
        nms_iou: float | None = NMS_IOU,
    ):
        self.num_classes, self.ious = int(num_classes), tuple(float(i) for i in ious)
        self.nms_iou = None if nms_iou is None else float(nms_iou)
        if self.num_classes < 1:
            raise ValueError("there is at least one class")
        if not self.ious or not all(0 < i <= 1 for i in self.ious):
            raise ValueError(f"IoUs lie in (0, 1], not {self.ious}")
        if self.nms_iou is not None and not 0 <= self.nms_iou <= 1:
            raise ValueError(f"an IoU threshold lies in [0, 1], not {self.nms_iou}")
        row = [("label", np.int32), ("score", np.float64), ("verdict", np.int8, (len(self.ious),))]
        self.images = RaggedPerImage((), np.dtype(row))
        self.objects = RaggedPerImage((), np.int32)  # classes of the objects not difficult

    def update(
        self,
        image_id: str,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        gt_boxes: np.ndarray,
        gt_labels: np.ndarray,
        difficult: np.ndarray | None = None,
    ) -> None:
        """Adds one image; N boxes found and M objects, either of which may be none.

        Args:
          boxes: (N, 4) x0 y0 x1 y1, inclusive, in pixels. scores, labels: (N,), finite scores.
          gt_boxes: (M, 4) in the same pixels. gt_labels: (M,). difficult: (M,) bool; None: none.
        Raises:
          ValueError: an id that is there already, boxes as ``boxes.iou`` refuses them, NaN or
            infinite scores, lengths that differ, or a class outside the range.
        """
        boxes, gt_boxes = _boxes(boxes), _boxes(gt_boxes)
        scores = np.asarray(scores, np.float64)
        labels, gt_labels = np.asarray(labels, np.int64), np.asarray(gt_labels, np.int64)
        hard = np.zeros(len(gt_boxes), bool) if difficult is None else np.asarray(difficult, bool)
        iou(boxes, gt_boxes)  # refuses what is no box
        if not scores.shape == labels.shape == (len(boxes),):
            raise ValueError(
                f"{len(boxes)} boxes, but {scores.shape} scores, {labels.shape} labels"
            )
        if not gt_labels.shape == hard.shape == (len(gt_boxes),):
            raise ValueError(
                f"{len(gt_boxes)} objects, but {gt_labels.shape} labels, {hard.shape} difficult"
            )
        if not np.isfinite(scores).all():
            raise ValueError("a detection's score is NaN or infinite")
        for given in (labels, gt_labels):
            if len(given) and not 0 <= given.min() <= given.max() < self.num_classes:
                raise ValueError(f"a box's class is 0 to {self.num_classes - 1}")
        if self.nms_iou is not None:
            kept = nms(boxes, scores, self.nms_iou, labels)
            boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        rows = np.empty(len(boxes), self.images.dtype)
        rows["label"], rows["score"] = labels, scores
        for c in np.unique(labels):
            of_c, truth = labels == c, gt_labels == c
            rows["verdict"][of_c] = judge(
                boxes[of_c], scores[of_c], gt_boxes[truth], hard[truth], self.ious
            )
        self.images.update([image_id], [rows])
        self.objects.update([image_id], [gt_labels[~hard]])

    def _settings(self) -> tuple:
        return self.num_classes, self.ious, self.nms_iou

    def merge(self, other: Self, *, overlap: bool = False) -> Self:
        """As ``Accumulator.merge``."""
        merged = super().merge(other, overlap=overlap)
        merged.objects = self.objects.merge(other.objects, overlap=overlap)
        return merged

    def _figures(self, interpolation: str = "all") -> Figures:
        rows, owners = self.images.rows(), self.images.owners()
        at = self.objects.owners() * self.num_classes + self.objects.rows()
        objects = np.bincount(at, minlength=len(self) * self.num_classes)
        objects = objects.reshape(len(self), self.num_classes).astype(np.float64)
        order = np.lexsort((np.arange(len(rows)), -rows["score"], rows["label"]))
        rows, owners = rows[order], owners[order]
        starts = np.searchsorted(rows["label"], np.arange(self.num_classes + 1))

        def figures(draws):
            positives = draws @ objects
            ap = np.empty((len(self.ious), len(draws), self.num_classes))
            for c in range(self.num_classes):
                part = slice(starts[c], starts[c + 1])
                drawn = draws[:, owners[part]]
                for d in range(len(self.ious)):
                    verdict = rows["verdict"][part, d]
                    # A right box raises precision and recall, so only there the curve has corners.
                    hit = np.flatnonzero(verdict == TRUE_POSITIVE)
                    hits = np.cumsum(drawn[:, hit], axis=1)
                    misses = np.cumsum(drawn * (verdict == FALSE_POSITIVE), axis=1)[:, hit]
                    ap[d, :, c] = ranked_average_precision(
                        hits, misses, positives[:, c], interpolation
                    )
            found = {}
            for name, values in zip(self.ious, ap, strict=True):
                found[f"map@{name:g}"], found[f"ap@{name:g}"] = mean_defined(values), values
            return found

        return figures

    def _width(self) -> int:
        labels = self.images.rows()["label"]
        return max(len(self), int(np.bincount(labels, minlength=1).max()))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, for a file or another process; nms_iou NaN stands for None."""
        return {
            "num_classes": np.array(self.num_classes),
            "ious": np.array(self.ious),
            "nms_iou": np.array(np.nan if self.nms_iou is None else self.nms_iou),
            **self.images.to_arrays(),
            **{f"object_{k}": v for k, v in self.objects.to_arrays().items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "DetectionAP":
        """The inverse of ``to_arrays``."""
        nms_iou = float(arrays["nms_iou"])
        made = cls(
            int(arrays["num_classes"]),
            np.asarray(arrays["ious"]).tolist(),
            None if np.isnan(nms_iou) else nms_iou,
        )
        made.images = made.images.read(arrays)
        made.objects = RaggedPerImage.from_arrays(
            {k: arrays[f"object_{k}"] for k in ("ids", "lengths", "rows")}
        )
        return made
