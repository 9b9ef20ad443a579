"""What a list's segmentations were found to be."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from wsol_jax.evaluate.results import Results, known
from wsol_jax.metrics import accumulator
from wsol_jax.metrics.bootstrap import Difference
from wsol_jax.metrics.per_image import PerImage
from wsol_jax.metrics.segmentation import ConfusionMatrix

FIGURES = ("miou", "pixel_accuracy")
BACKGROUND = "background"


class SegmentationScores(Results):
    """Segmentations of a list against its masks.

    Attributes:
      mean_classes: those that the mean IoU is taken over, and background; () for all.
      confusion: of 1 + C classes.
      ious: each image's mean IoU over the classes that it shows or was said to show.
      labels: index -> (H, W) uint8 classes of some images, for the report; not saved.
    """

    ROWS: ClassVar[Mapping[str, type]] = {"confusion": ConfusionMatrix, "ious": PerImage}
    SETTINGS = ("class_names", "mean_classes")
    MARK = "confusion"

    def __init__(
        self,
        class_names: Sequence[str] = (),
        mean_classes: Sequence[str] = (),
        parts: Mapping[str, Results] | None = None,
    ):
        super().__init__(class_names, parts)
        self.mean_classes = tuple(mean_classes)
        self.confusion = ConfusionMatrix(1 + len(self.class_names))
        self.ious = PerImage((), np.float32)
        self.labels: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.confusion)

    def update(self, image_id: str, truth: np.ndarray, found: np.ndarray) -> None:
        """Adds an image: (H, W) classes each, 255 ignored in the truth."""
        self.confusion.update(image_id, truth, found)
        alone = ConfusionMatrix(self.confusion.num_classes)
        alone.update(image_id, truth, found)
        self.ious.update([image_id], np.array([alone.compute()["miou"]]))

    def options(self) -> dict[str, Any]:
        """What ``ConfusionMatrix`` takes the mean over."""
        if not self.mean_classes:
            return {}
        return {"classes": (0, *(1 + self.class_names.index(n) for n in self.mean_classes))}

    def figures(self, threshold: float = 0.0, intervals: bool = True) -> dict[str, Any]:
        """metrics.json's entry of a list."""
        del threshold  # there is none
        if not len(self):
            return {**dict.fromkeys(FIGURES), "images": 0}
        values = self.confusion.compute(**self.options())
        figures: dict[str, Any] = {name: known(values[name]) for name in FIGURES}
        figures |= self._all_background()
        figures["images"] = len(self)
        if intervals:
            spans = self.confusion.intervals(**self.options())
            figures["intervals_95"] = {
                name: list(map(float, spans[name])) for name in FIGURES if figures[name] is not None
            }
            names = (BACKGROUND, *self.class_names)
            ious = zip(names, map(float, values["iou"]), strict=True)
            shown = zip(names, self._shown(), strict=True)
            figures["by_class"] = {
                "iou": {name: value for name, value in ious if np.isfinite(value)},
                "images": {name: int(count) for name, count in shown},
            }
        return figures

    def _all_background(self) -> dict[str, Any]:
        """What an answer of nothing but background would have, and the classes never found."""
        counts = self.confusion.counts
        true = counts.sum(axis=1)
        share = known(float(true[0] / true.sum())) if true.sum() else None
        classes = [c for c in self.options().get("classes", range(len(true))) if true[c]]
        missed = [c for c in classes if c and not counts[:, c].sum()]
        return {
            "background_miou": None if share is None else share / max(len(classes), 1),
            "background_accuracy": share,
            "never_found": [self.class_names[c - 1] for c in missed],
            "classes": len([c for c in classes if c]),
        }

    def _shown(self) -> np.ndarray:
        """(1 + C,) how many images' truth has each class."""
        counts = np.zeros(self.confusion.num_classes, np.int64)
        for _, row in self.confusion.images.items():
            counts[np.unique(row[:, 0] // self.confusion.num_classes)] += 1
        return counts

    def ids(self) -> tuple[str, ...]:
        return self.confusion.images.ids()

    def _obstacle(self, other: "SegmentationScores") -> str:
        same = (self.class_names, self.mean_classes) == (other.class_names, other.mean_classes)
        return "" if same else "were scored on different classes"

    @classmethod
    def paired(
        cls,
        a: "Sequence[SegmentationScores]",
        b: "Sequence[SegmentationScores]",
        thresholds: tuple[Sequence[float], Sequence[float]] = ((), ()),
        seed: int = 0,
    ) -> dict[str, Difference]:
        """Mean of b's runs minus that of a's, figure by figure, each with its 95% interval.

        Raises:
          ValueError: other images or classes.
        """
        del thresholds
        if any(a[0].obstacle(run) for run in (*a, *b)):
            raise ValueError("the runs were scored on different images or classes")
        sides = [[run.confusion for run in side] for side in (a, b)]
        values = accumulator.compare_means(*sides, seed, **a[0].options())
        return {name: values[name] for name in FIGURES}
