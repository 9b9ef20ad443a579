"""Intersection over union and pixel accuracy of label masks, from one confusion matrix."""

from collections.abc import Mapping, Sequence

import numpy as np

from wsol_jax.base.labels import UNLABELLED
from wsol_jax.metrics.accumulator import FigureAccumulator
from wsol_jax.metrics.bootstrap import Figures, mean_defined
from wsol_jax.metrics.per_image import RaggedPerImage


class ConfusionMatrix(FigureAccumulator):
    """IoU by class, their mean, and pixel accuracy over the pixels of a list of images.

    One matrix over the data set (PASCAL VOC): an image weighs as much as it has pixels. Pixels
    whose truth is 255 count for nothing. A class that is predicted and nowhere in the truth has
    IoU 0 and counts in the mean; a class in neither has IoU NaN and is left out of it. Background
    is a class like any other. Keeps the entries of each image's matrix that are not zero.

    ``compute`` gives miou and pixel_accuracy, floats, and iou, (C,). ``classes=`` names those that
    the mean is taken over; all where it is not given.

    Attributes:
      num_classes: C, background included.
    """

    SETTINGS = "classes"

    def __init__(self, num_classes: int):
        if not 1 <= num_classes <= UNLABELLED:
            raise ValueError(f"a uint8 mask holds 1 to {UNLABELLED} classes, not {num_classes}")
        self.num_classes = int(num_classes)
        self.images = RaggedPerImage((2,), np.int32)  # truth * C + prediction, pixels

    def update(self, image_id: str, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Adds one image.

        Args:
          truth: (H, W) whole numbers, 0 to C - 1, or 255 for pixels to ignore.
          prediction: (H, W) whole numbers, 0 to C - 1 wherever the truth is not 255.
        Raises:
          ValueError: an id that is there already, no pixels, another type, shapes that differ, or
            a class outside the range.
        """
        truth, prediction = np.asarray(truth), np.asarray(prediction)
        for name, mask in (("truth", truth), ("prediction", prediction)):
            if mask.ndim != 2 or mask.size == 0:
                raise ValueError(f"the {name} mask has shape (H, W), not {mask.shape}")
            if mask.dtype.kind not in "ui":
                raise ValueError(f"the {name} mask holds whole numbers, not {mask.dtype}")
        if truth.shape != prediction.shape:
            raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ")
        counted = truth != UNLABELLED
        pairs = []
        for name, mask in (("truth", truth), ("prediction", prediction)):
            classes = mask[counted]
            if classes.size and not 0 <= classes.min() <= classes.max() < self.num_classes:
                worst = classes.max() if classes.max() >= self.num_classes else classes.min()
                raise ValueError(
                    f"the {name} mask holds class {worst}, not 0 to {self.num_classes - 1}"
                )
            pairs.append(classes.astype(np.int64))
        cells = np.bincount(pairs[0] * self.num_classes + pairs[1])
        used = np.flatnonzero(cells)
        self.images.update([image_id], [np.stack([used, cells[used]], axis=1)])

    def _settings(self) -> tuple:
        return (self.num_classes,)

    @property
    def counts(self) -> np.ndarray:
        """(C, C) int64: pixels by true class (rows) and predicted class (columns)."""
        total = np.zeros(self.num_classes**2, np.int64)
        for _, row in self.images.items():
            total[row[:, 0]] += row[:, 1]
        return total.reshape(self.num_classes, self.num_classes)

    def _figures(self, classes: Sequence[int] | None = None) -> Figures:
        rows, owners = self.images.rows().astype(np.int64), self.images.owners()
        truth, prediction = np.divmod(rows[:, 0], self.num_classes)
        right = truth == prediction

        def by_class(labels, which):  # (N, C) pixels of each image
            size = len(self) * self.num_classes
            at, pixels = owners[which] * self.num_classes + labels[which], rows[which, 1]
            return np.bincount(at, pixels, size).reshape(len(self), self.num_classes)

        every = np.ones(len(rows), bool)
        shared, true, marked = (
            by_class(c, which) for c, which in ((truth, right), (truth, every), (prediction, every))
        )

        def figures(draws):
            hit, total = draws @ shared, draws @ true
            with np.errstate(invalid="ignore"):
                iou = hit / (total + draws @ marked - hit)
                accuracy = hit.sum(axis=1) / total.sum(axis=1)
            meant = iou if classes is None else iou[:, list(classes)]
            return {"miou": mean_defined(meant), "pixel_accuracy": accuracy, "iou": iou}

        return figures

    def _width(self) -> int:
        return 3 * self.num_classes

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, for a file or another process."""
        return {"num_classes": np.array(self.num_classes), **self.images.to_arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "ConfusionMatrix":
        """The inverse of ``to_arrays``."""
        made = cls(int(arrays["num_classes"]))
        made.images = made.images.read(arrays)
        return made
