"""Average precision of the peaks of class maps as object locations."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from wsol_jax.metrics.accumulator import FigureAccumulator
from wsol_jax.metrics.bootstrap import Figures, mean_defined
from wsol_jax.metrics.maps import require_finite
from wsol_jax.metrics.per_image import PerImage
from wsol_jax.metrics.ranking import ranked_average_precision

TOLERANCE = 18.0  # pixels of the original image (Oquab et al. 2015)

# A location's states: what is above ABSENT is to be found, what is ABSENT or MISSED is wrong.
# UNSURE: in a difficult object, another is to be found. IGNORED: in one, and no other is.
IGNORED, ABSENT, MISSED, FOUND, UNSURE = -1.0, 0.0, 1.0, 2.0, 3.0


def peaks(maps: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Finds the highest point of each class's map, enlarged bilinearly to its image.

    Args:
      maps: (h, w, C), float and finite. size: (width, height) of the image in pixels.
    Returns:
      (C, 2) int64 x y and (C,) float64 scores there; of equal scores the first in reading order.
    Raises:
      ValueError: no pixels, NaN or infinity, or another number of axes.
    """
    maps = np.asarray(maps)
    if maps.ndim != 3 or 0 in maps.shape or min(size) < 1:
        raise ValueError(f"maps have shape (H, W, C) and a size in pixels, not {maps.shape}")
    require_finite(maps)  # before resizing, which would smear one NaN over many pixels
    planes = np.ascontiguousarray(np.moveaxis(maps, -1, 0))
    if planes.dtype not in (np.float32, np.float64):
        planes = planes.astype(np.float32)
    points, scores = np.empty((len(planes), 2), np.int64), np.empty(len(planes))
    for c, plane in enumerate(planes):
        full = cv2.resize(plane, tuple(size), interpolation=cv2.INTER_LINEAR)
        y, x = divmod(int(full.argmax()), full.shape[1])
        points[c], scores[c] = (x, y), full[y, x]
    return points, scores


class LocationAP(FigureAccumulator):
    """Average precision of the maps' peaks as object locations (Kim et al. 2017, sec. 6).

    For every image and class the map's highest pixel is the location and its score the
    confidence. It is right inside a ground truth box of its class grown by the tolerance on all
    sides; on any other image, those without the class included, it is wrong. Images of the class
    are what there is to be found. Equal confidences are one threshold. Difficult objects are as
    VOC's devkit has them: an image that shows the class in these alone is not to be found, and a
    location in one of them, but in no other object, is neither right nor wrong.

    ``compute``, ``intervals`` and ``compare`` take an ``interpolation``, "none" by default, as for
    ``ranking.ranked_average_precision``; they give map, a float, and ap, (C,), NaN for a class that
    no image has, which map leaves out.

    Attributes:
      num_classes: C, without background. tolerance: in pixels of the original image.
    """

    SETTINGS = "classes or tolerances"
    COMPARED = ("num_classes", "tolerance")
    COMPARED_NAMES = "images or classes, or with different tolerances"

    def __init__(self, num_classes: int, tolerance: float = TOLERANCE):
        self.num_classes = int(num_classes)
        self.tolerance = float(tolerance)
        if self.num_classes < 1 or not self.tolerance >= 0:
            raise ValueError("there is at least one class, and the tolerance is 0 or more")
        # Confidence, and one of the states above.
        self.images = PerImage((self.num_classes, 2), np.float64)

    def update(
        self,
        image_id: str,
        maps: np.ndarray,
        boxes: np.ndarray,
        labels: Sequence[int],
        size: tuple[int, int],
        original_size: tuple[int, int] | None = None,
        difficult: np.ndarray | None = None,
    ) -> None:
        """Adds one image.

        Args:
          maps: (h, w, C), channel c class c's map; enlarged bilinearly to the image.
          boxes: (N, 4) x0 y0 x1 y1, inclusive, in pixels of an image of ``size``; N may be 0.
          labels: (N,) their classes: the classes that the image has.
          size: (width, height). original_size: of the photo before it was brought to ``size``,
            with which the tolerance is scaled along each axis; None if it was not.
          difficult: (N,) bool; None: none.
        Raises:
          ValueError: as ``peaks``; an id that is there already, another number of maps, labels
            that do not fit the boxes, or a class outside the range.
        """
        points, scores = peaks(maps, size)
        truth = (boxes, labels, size, original_size, difficult)
        self.update_peaks(image_id, points, scores, *truth)

    def update_peaks(
        self,
        image_id: str,
        points: np.ndarray,
        scores: np.ndarray,
        boxes: np.ndarray,
        labels: Sequence[int],
        size: tuple[int, int],
        original_size: tuple[int, int] | None = None,
        difficult: np.ndarray | None = None,
    ) -> None:
        """``update`` with the peaks themselves: (C, 2) x y in pixels of ``size``, (C,) scores."""
        boxes, labels = np.asarray(boxes, np.float64), np.asarray(labels, np.int64)
        if boxes.size == 0:
            boxes = boxes.reshape(0, 4)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
            raise ValueError(f"(N, 4) boxes have N labels, not {boxes.shape} and {labels.shape}")
        hard = np.zeros(len(boxes), bool) if difficult is None else np.asarray(difficult, bool)
        if hard.shape != labels.shape:
            raise ValueError(f"{len(boxes)} boxes, but {hard.shape} difficult")
        if not (boxes[:, 2:] >= boxes[:, :2]).all():
            raise ValueError("a box is x0 y0 x1 y1 with x0 <= x1 and y0 <= y1")
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(f"a box's class is 0 to {self.num_classes - 1}")
        if len(points) != self.num_classes:
            raise ValueError(f"{self.num_classes} classes, but {len(points)} maps")
        grown = self.tolerance * np.asarray(size) / (original_size or size)
        at = points[labels]  # each box against the peak of its own class
        inside = ((boxes[:, :2] - grown <= at) & (at <= boxes[:, 2:] + grown)).all(axis=1)
        state = np.full(self.num_classes, ABSENT)
        state[labels[hard & inside]] = IGNORED
        state[labels[~hard]] = np.where(state[labels[~hard]] == IGNORED, UNSURE, MISSED)
        state[labels[~hard & inside]] = FOUND
        self.images.update([image_id], np.stack([scores, state], axis=1)[None])

    def _settings(self) -> tuple:
        return self.num_classes, self.tolerance

    def _figures(self, interpolation: str = "none") -> Figures:
        rows = self.images.rows()
        ranked = []
        for c in range(self.num_classes):
            order = np.argsort(-rows[:, c, 0], kind="stable")
            score, state = rows[order, c].T
            last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1) if len(score) else []
            ranked.append((order, np.asarray(last, np.int64), state))

        def figures(draws):
            ap = np.empty((len(draws), self.num_classes))
            for c, (order, last, state) in enumerate(ranked):
                drawn = draws[:, order]
                wrong = (state == ABSENT) | (state == MISSED)
                hits = np.cumsum(drawn * (state == FOUND), axis=1)[:, last]
                misses = np.cumsum(drawn * wrong, axis=1)[:, last]
                positives = drawn @ (state > ABSENT)
                ap[:, c] = ranked_average_precision(hits, misses, positives, interpolation)
            return {"map": mean_defined(ap), "ap": ap}

        return figures

    def _width(self) -> int:
        return len(self)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, for a file or another process."""
        return {"tolerance": np.array(self.tolerance), **self.images.to_arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "LocationAP":
        """The inverse of ``to_arrays``."""
        made = cls(arrays["rows"].shape[1], float(arrays["tolerance"]))
        made.images = made.images.read(arrays)
        return made
