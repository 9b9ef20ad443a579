"""What a list's segmentations were found to be: per-image rows, on disk and off it."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsol_jax.base.files import write_arrays
from wsol_jax.evaluate.scores import merge_parts, rows_of, to_rows
from wsol_jax.metrics import accumulator
from wsol_jax.metrics.bootstrap import Difference
from wsol_jax.metrics.per_image import PerImage
from wsol_jax.metrics.segmentation import ConfusionMatrix

FIGURES = ("miou", "pixel_accuracy")
BACKGROUND = "background"


@dataclasses.dataclass
class SegmentationScores:
    """Segmentations of a list against its masks; merges.

    Attributes:
      class_names: C of them, background not among them.
      mean_classes: those that the mean IoU is taken over, and background; () for all.
      confusion: of 1 + C classes.
      ious: each image's mean IoU over the classes that it shows or was said to show.
      parts: the same of other segmentations of the same images, by name.
      labels: index -> (H, W) uint8 classes of some images, for the report; not saved.
      true_maps: index -> probability map of the first label, for the report.
    """

    class_names: tuple[str, ...]
    mean_classes: tuple[str, ...] = ()
    parts: dict[str, "SegmentationScores"] = dataclasses.field(default_factory=dict)
    labels: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    true_maps: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.confusion = ConfusionMatrix(1 + len(self.class_names))
        self.ious = PerImage((), np.float32)

    def __len__(self) -> int:
        return len(self.confusion)

    def update(self, image_id: str, truth: np.ndarray, found: np.ndarray) -> None:
        """Adds an image: (H, W) classes each, 255 ignored in the truth."""
        self.confusion.update(image_id, truth, found)
        alone = ConfusionMatrix(self.confusion.num_classes)
        alone.update(image_id, truth, found)
        self.ious.update([image_id], np.array([alone.compute()["miou"]]))

    def merge(self, other: "SegmentationScores") -> "SegmentationScores":
        """Both lists; an image in both counts once."""
        merged = SegmentationScores(self.class_names, self.mean_classes)
        for name in ("confusion", "ious"):
            both = getattr(self, name).merge(getattr(other, name), overlap=True)
            setattr(merged, name, both)
        merged.parts = merge_parts(self.parts, other.parts)
        return merged

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
        figures: dict[str, Any] = {name: _known(values[name]) for name in FIGURES}
        figures["images"] = len(self)
        if intervals:
            spans = self.confusion.intervals(**self.options())
            figures["intervals_95"] = {
                name: list(map(float, spans[name])) for name in FIGURES if figures[name] is not None
            }
            names = (BACKGROUND, *self.class_names)
            known = zip(names, map(float, values["iou"]), strict=True)
            shown = zip(names, self._shown(), strict=True)
            figures["by_class"] = {
                "iou": {name: value for name, value in known if np.isfinite(value)},
                "images": {name: int(count) for name, count in shown},
            }
        return figures

    def _shown(self) -> np.ndarray:
        """(1 + C,) how many images' truth has each class."""
        counts = np.zeros(self.confusion.num_classes, np.int64)
        for _, row in self.confusion.images.items():
            counts[np.unique(row[:, 0] // self.confusion.num_classes)] += 1
        return counts

    def save(self, path: pathlib.Path) -> None:
        """Per-image rows, without pickles, for paired comparisons of runs."""
        arrays = {
            "class_names": np.array(self.class_names, np.str_),
            "mean_classes": np.array(self.mean_classes, np.str_),
        }
        write_arrays(path, arrays | to_rows(self, ("confusion", "ious")))

    @classmethod
    def load(cls, path: pathlib.Path) -> "SegmentationScores":
        """The inverse of ``save``."""
        with np.load(path, allow_pickle=False) as file:
            made = cls(*(tuple(map(str, file[n])) for n in ("class_names", "mean_classes")))
            for name in ("confusion", "ious"):
                rows = rows_of(file, name)
                setattr(made, name, type(getattr(made, name)).from_arrays(rows))
        return made

    def is_comparable(self, other: "SegmentationScores") -> bool:
        """Whether two runs were scored on the same images and classes."""
        same = (self.class_names, self.mean_classes) == (other.class_names, other.mean_classes)
        return same and self.confusion.images.ids() == other.confusion.images.ids()


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def compare_means(
    a: Sequence[SegmentationScores], b: Sequence[SegmentationScores], seed: int = 0
) -> dict[str, Difference]:
    """Mean of b's runs minus that of a's, figure by figure, each with its 95% interval over images.

    Raises:
      ValueError: other images or classes.
    """
    if not all(a[0].is_comparable(run) for run in (*a, *b)):
        raise ValueError("the runs were scored on different images or classes")
    sides = [[run.confusion for run in side] for side in (a, b)]
    values = accumulator.compare_means(*sides, seed, **a[0].options())
    return {name: values[name] for name in FIGURES}


def is_segmentation(path: pathlib.Path) -> bool:
    """Whether a file of per-image rows is of this kind."""
    with np.load(path, allow_pickle=False) as file:
        return any(name.startswith("confusion/") for name in file.files)
