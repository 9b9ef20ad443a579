"""What a list's score maps were found to be: per-image rows of every metric, on disk and off it."""

import dataclasses
import math
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from wsol_jax.base.files import write_arrays
from wsol_jax.metrics.bootstrap import bootstrap_interval
from wsol_jax.metrics.localization import BoxAccuracy, HitRates
from wsol_jax.metrics.masks import PixelAP
from wsol_jax.metrics.per_image import PerImage, RaggedPerImage

_HITS = ("top1_acc", "top5_acc", "top1_loc", "top5_loc", "top5_star_loc")
_PARTS = {
    "boxes": BoxAccuracy,
    "pixels": PixelAP,
    "hits": HitRates,
    "central": HitRates,
    "gaussian": PixelAP,
    "classes": PerImage,
    "ious": PerImage,
    "truth": RaggedPerImage,
}
_NEWER = ("classes", "ious", "truth")  # what the first runs' files lack


@dataclasses.dataclass
class Scores:
    """Everything measured on a list; each part holds a row per image and merges.

    ``boxes`` and ``pixels`` have only the images whose boxes or mask are known; ``hits`` the Top-k
    results at a threshold; ``central`` the hits of the best fixed box; ``gaussian`` the pixels of a
    centred Gaussian. ``classes``: an image's first class and the class named first; ``ious``: the
    IoU of the box at the run's threshold; ``truth``: the first class's boxes, x0 y0 x1 y1 in the
    frame of the maps (MAP_SIZE). ``parts``: the same of the maps that the scored ones were put
    together from, by name; each in a file of its own. ``true_maps``: (index, raw map) of every
    image, for the report.
    """

    boxes: BoxAccuracy = dataclasses.field(default_factory=BoxAccuracy)
    pixels: PixelAP = dataclasses.field(default_factory=PixelAP)
    hits: HitRates = dataclasses.field(default_factory=lambda: HitRates(_HITS))
    central: HitRates = dataclasses.field(default_factory=lambda: HitRates(("central_box",)))
    gaussian: PixelAP = dataclasses.field(default_factory=PixelAP)
    classes: PerImage = dataclasses.field(default_factory=lambda: PerImage((2,), np.int32))
    ious: PerImage = dataclasses.field(default_factory=lambda: PerImage((), np.float32))
    truth: RaggedPerImage = dataclasses.field(
        default_factory=lambda: RaggedPerImage((4,), np.int16)
    )
    class_names: tuple[str, ...] = ()
    parts: dict[str, "Scores"] = dataclasses.field(default_factory=dict)
    true_maps: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    predicted: dict[int, int] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.hits.images)

    def merge(self, other: "Scores") -> "Scores":
        """Both lists; an image in both counts once."""
        merged = {p: getattr(self, p).merge(getattr(other, p), overlap=True) for p in _PARTS}
        merged["parts"] = merge_parts(self.parts, other.parts)
        return Scores(**merged, class_names=self.class_names or other.class_names)

    def figures(self, threshold: float, intervals: bool = True) -> dict[str, Any]:
        """metrics.json's entry of a list; a figure that the list has no truth for is None."""
        figures: dict[str, Any] = {**self.hits.compute()}
        figures["gt_known_loc"] = self.boxes.gt_known(threshold)
        figures |= self.boxes.compute() if len(self.boxes) else {}
        for name in ("max_box_acc", "max_box_acc_v2"):
            figures.setdefault(name, math.nan)
        figures["pxap"] = self.pixels.compute() if len(self.pixels) else math.nan
        figures |= self.central.compute()
        figures["gaussian_pxap"] = self.gaussian.compute() if len(self.gaussian) else math.nan
        figures = {k: None if math.isnan(v) else float(v) for k, v in figures.items()}
        figures["images"] = len(self.hits.images)
        if intervals:
            spans = dict(self.hits.intervals())
            if len(self.boxes):
                hits = self.boxes.gt_known_hits(threshold)
                spans |= {"gt_known_loc": bootstrap_interval(hits), **self.boxes.intervals()}
            if len(self.pixels):
                spans["pxap"] = self.pixels.interval()
            spans = {k: list(map(float, v)) for k, v in spans.items() if figures[k] is not None}
            figures["intervals_95"] = spans
        return figures

    def save(self, path: pathlib.Path) -> None:
        """Per-image rows, without pickles, for paired comparisons of runs."""
        rows = to_rows(self, _PARTS)
        rows["class_names"] = np.array(self.class_names, np.str_)
        write_arrays(path, rows)

    @classmethod
    def load(cls, path: pathlib.Path) -> "Scores":
        """The inverse of ``save``; what the files of older runs lack is empty."""
        parts: dict[str, Any] = {}
        with np.load(path, allow_pickle=False) as file:
            for part, kind in _PARTS.items():
                rows = rows_of(file, part)
                if rows or part not in _NEWER:
                    parts[part] = kind.from_arrays(rows)
            if "class_names" in file.files:
                parts["class_names"] = tuple(map(str, file["class_names"]))
        return cls(**parts)


def merge_parts(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Both lists' scores by part; a list of which no image could be read has no parts."""
    return {
        name: one[name].merge(other[name]) if name in one and name in other else part
        for name, part in {**other, **one}.items()
    }


def to_rows(owner: Any, parts: Iterable[str]) -> dict[str, np.ndarray]:
    """The per-image rows of an object's parts, as PART/NAME in one file; see ``rows_of``."""
    return {
        f"{part}/{name}": value
        for part in parts
        for name, value in getattr(owner, part).to_arrays().items()
    }


def rows_of(file: Any, part: str) -> dict[str, np.ndarray]:
    """What ``to_rows`` made of one part, from an opened .npz; {} where the file has none."""
    names = [name for name in file.files if name.startswith(f"{part}/")]
    return {name.partition("/")[2]: file[name] for name in names}
