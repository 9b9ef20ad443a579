"""Average precision of class maps as detectors of their class's pixels."""

from collections.abc import Mapping

import numpy as np

from wsol_jax.base.labels import UNLABELLED
from wsol_jax.metrics.accumulator import FigureAccumulator
from wsol_jax.metrics.bootstrap import Figures
from wsol_jax.metrics.boxes import THRESHOLDS
from wsol_jax.metrics.maps import require_finite
from wsol_jax.metrics.masks import average_precision, class_target
from wsol_jax.metrics.per_image import RaggedPerImage

# Bins make a pooled figure a little low, by .0006 and .0011 on smooth random maps (AP about .5).
# PxAP's bins: 1,000 of width .001, then scores of exactly 1.
UNIT_EDGES = np.append(THRESHOLDS, (1.0, 1.0))
# For raw maps of any range: 64 bins to the octave (1.1% wide) from 2^-12 to 2^12, either sign.
_OCTAVES = 2.0 ** (np.arange(-12 * 64, 12 * 64 + 1) / 64)
RAW_EDGES = np.concatenate([[-np.inf], -_OCTAVES[::-1], [0.0], _OCTAVES, [np.inf]])


def _split(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the positive and of the negative entries, each ascending."""
    return np.sort(scores[positive]), np.sort(scores[~positive])


def _exact(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Sum of precision times the step in recall over all distinct scores, none rounded.

    scikit-learn's average_precision_score.

    Args:
      positives, negatives: their scores, ascending; one positive at least.
    """
    # Recall steps only where a positive has the score: other thresholds add nothing.
    first = np.flatnonzero(np.diff(positives, prepend=np.nan) != 0)
    hits = len(positives) - first
    wrong = len(negatives) - np.searchsorted(negatives, positives[first], side="left")
    steps = np.diff(first, append=len(positives))
    return float(np.sum(steps * (hits / (hits + wrong))) / len(positives))


class SaliencyAP(FigureAccumulator):
    """Average precision of class maps as detectors of their class's pixels (Kim et al. 2017).

    A map and its mask make a pair for each class that the image's mask shows; classes that it does
    not show have no pair. Pixels of other classes are negatives, pixels of 255 count for nothing.
    ``pooled`` ranks the pixels of all pairs together by their scores, in bins; ``per_map`` is the
    mean over pairs of each map's own average precision, exact. Keeps a histogram for each pair.
    ``compute`` gives both, and (C,) pooled_by_class and per_map_by_class; ``compare`` also takes
    runs of different edges, a raw map against a scaled one.

    Attributes:
      num_classes: C, without background.
      edges: (K + 1,) ascending; bin k is [edges[k], edges[k + 1]), the last one closed above.
    """

    SETTINGS = "classes or edges"

    def __init__(self, num_classes: int, edges: np.ndarray = UNIT_EDGES):
        """UNIT_EDGES are for maps in [0, 1], RAW_EDGES for all others.

        Raises:
          ValueError: more classes than a mask can hold, or edges that fall.
        """
        self.num_classes = int(num_classes)
        self.edges = np.asarray(edges, np.float64)
        if not 1 <= self.num_classes <= 254:
            raise ValueError(f"a uint8 mask holds 1 to 254 classes, not {num_classes}")
        if self.edges.ndim != 1 or len(self.edges) < 2 or not (np.diff(self.edges) >= 0).all():
            raise ValueError("edges are two or more ascending numbers")
        row = [("label", np.int32), ("exact", np.float64)]
        row.append(("counts", np.int32, (2, len(self.edges) - 1)))
        self.images = RaggedPerImage((), np.dtype(row))

    def update(self, image_id: str, maps: np.ndarray, mask: np.ndarray) -> None:
        """Adds one image.

        Args:
          maps: (H, W, C), channel c class c's map; float.
          mask: (H, W) uint8, 0 background, 1 + c class c, 255 ignore.
        Raises:
          ValueError: an id that is there already, no pixels, NaN or infinity, shapes that differ,
            a class outside the range, or scores outside the edges.
        """
        maps, mask = np.asarray(maps), np.asarray(mask)
        if mask.ndim != 2 or mask.size == 0 or mask.dtype != np.uint8:
            raise ValueError(f"a mask is (H, W) uint8, not {mask.shape} {mask.dtype}")
        if maps.shape != (*mask.shape, self.num_classes):
            raise ValueError(
                f"maps have shape {(*mask.shape, self.num_classes)} like their mask, "
                f"not {maps.shape}"
            )
        require_finite(maps)
        present = np.flatnonzero(np.bincount(mask.reshape(-1), minlength=256)[1:UNLABELLED])
        if len(present) and present[-1] >= self.num_classes:
            raise ValueError(f"the mask holds class {present[-1]}, not 0 to {self.num_classes - 1}")
        rows = np.empty(len(present), self.images.dtype)
        for row, label in zip(rows, present, strict=True):
            foreground, ignore = class_target(mask, label)
            counted = ~ignore
            sides = _split(maps[..., label][counted], foreground[counted])
            for side in sides:
                if side.size and not self.edges[0] <= side[0] <= side[-1] <= self.edges[-1]:
                    raise ValueError(
                        f"the bins span [{self.edges[0]:g}, {self.edges[-1]:g}], class {label}'s "
                        f"map holds scores from {side[0]:g} to {side[-1]:g}"
                    )
            row["label"], row["exact"] = label, _exact(*sides)
            for k, side in enumerate(reversed(sides)):  # background first, as in masks.histogram
                cuts = np.searchsorted(side, self.edges, side="left")
                cuts[-1] = len(side)
                row["counts"][k] = np.diff(cuts)
        self.images.update([image_id], [rows])

    def _settings(self) -> tuple:
        return self.num_classes, self.edges

    def _figures(self) -> Figures:
        rows, owners = self.images.rows(), self.images.owners()
        shape = rows.dtype["counts"].shape
        classes = [np.flatnonzero(rows["label"] == c) for c in range(self.num_classes)]

        def figures(draws):
            every = np.zeros((len(draws), *shape))
            pooled = np.full((len(draws), self.num_classes), np.nan)
            per_map = pooled.copy()
            total, pairs = np.zeros(len(draws)), np.zeros(len(draws))
            for c, which in enumerate(classes):
                if not len(which):
                    continue
                drawn = draws[:, owners[which]]
                flat = rows["counts"][which].reshape(len(which), -1).astype(np.float64)
                counts = (drawn @ flat).reshape(-1, *shape)
                pooled[:, c] = average_precision(counts)
                every += counts
                mine, own = drawn.sum(axis=1), drawn @ rows["exact"][which]
                with np.errstate(invalid="ignore"):
                    per_map[:, c] = own / mine
                total, pairs = total + own, pairs + mine
            with np.errstate(invalid="ignore"):
                return {
                    "pooled": average_precision(every),
                    "per_map": total / pairs,
                    "pooled_by_class": pooled,
                    "per_map_by_class": per_map,
                }

        return figures

    def _width(self) -> int:
        return 2 * len(self.edges)

    def pairs(self) -> tuple[list[tuple[str, int]], np.ndarray]:
        """(image id, class) of each pair in ascending order, and its exact AP, (P,) float64."""
        ids, rows = self.images.ids(), self.images.rows()
        owners = self.images.owners()
        keys = [(ids[i], int(c)) for i, c in zip(owners, rows["label"], strict=True)]
        return keys, rows["exact"].copy()

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, for a file or another process."""
        head = {"num_classes": np.array(self.num_classes), "edges": self.edges}
        return {**head, **self.images.to_arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "SaliencyAP":
        """The inverse of ``to_arrays``."""
        made = cls(int(arrays["num_classes"]), arrays["edges"])
        made.images = made.images.read(arrays)
        return made
