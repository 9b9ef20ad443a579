"""Box accuracy over thresholds, and Top-k localization at a fixed one."""

from collections.abc import Mapping, Sequence

import numpy as np

from wsol_jax.metrics.accumulator import Accumulator
from wsol_jax.metrics.bootstrap import (
    RESAMPLES,
    Difference,
    bootstrap_interval,
    bootstrap_statistic,
)
from wsol_jax.metrics.boxes import THRESHOLDS, iou
from wsol_jax.metrics.per_image import PerImage

DELTAS = (0.3, 0.5, 0.7)
_BLOCK = 1024  # images unpacked at once
TOP5_STAR = (2, 2, 1)  # boxes taken from the first, second and third class [SPG's released code]


class BoxAccuracy(Accumulator):
    """Share of images whose box is right, as a curve over thresholds, for V1 and V2.

    V1 (MaxBoxAcc) takes the largest contour's box, V2 (MaxBoxAccV2) the best of all contours'; an
    image is right at (tau, delta) if that box's best IoU with a ground truth box is at least
    delta. Keeps one bit for each image, version, delta and threshold.
    """

    SETTINGS = "thresholds or deltas"

    def __init__(self, thresholds: Sequence[float] = THRESHOLDS, deltas: Sequence[float] = DELTAS):
        self.thresholds = np.asarray(thresholds, np.float64)
        self.deltas = tuple(deltas)
        bits = 2 * len(self.deltas) * len(self.thresholds)
        self.images = PerImage((-(-bits // 8),), np.uint8)

    def update(
        self,
        image_ids: Sequence[str],
        largest: np.ndarray,
        every: np.ndarray,
        mask: np.ndarray | None = None,
    ) -> None:
        """Adds a batch of B images.

        Args:
          image_ids: B ids.
          largest, every: (B, T) ``boxes.best_ious`` without and with multi_contour.
          mask: (B,) bool, False leaves an entry out.
        Raises:
          ValueError: an id that is there already, or shapes that do not fit.
        """
        ious = np.stack([np.asarray(largest), np.asarray(every)], axis=1)  # (B, 2, T)
        if ious.shape[2:] != self.thresholds.shape:
            raise ValueError(f"{len(self.thresholds)} thresholds, but IoUs {ious.shape[2:]}")
        hits = ious[:, :, None] >= np.asarray(self.deltas)[:, None]
        self.images.update(image_ids, np.packbits(hits.reshape(len(ious), -1), axis=1), mask)

    def _settings(self) -> tuple:
        return self.thresholds, self.deltas

    def hits(self, part: tuple = np.s_[:]) -> np.ndarray:
        """(N, 2, D, T) bool: image (as ``images.ids``), V1 / V2, delta, threshold; or part of it.

        Args:
          part: an index of the whole that keeps all images.
        """
        shape = (2, len(self.deltas), len(self.thresholds))
        rows, blocks = self.images.rows(), []
        for start in range(0, max(len(rows), 1), _BLOCK):  # the whole takes 6 kB an image
            some = rows[start : start + _BLOCK]
            bits = np.unpackbits(some, axis=1, count=int(np.prod(shape)))
            blocks.append(bits.reshape(-1, *shape)[part].astype(bool))
        return np.concatenate(blocks)

    def curves(self) -> np.ndarray:
        """(2, D, T) float64: accuracy by version, delta and threshold; NaN without images."""
        shape = (2, len(self.deltas), len(self.thresholds))
        counts = np.zeros(shape, np.int64).ravel()
        for _, row in self.images.items():  # one image at a time keeps memory flat
            counts += np.unpackbits(row, count=counts.size)
        with np.errstate(invalid="ignore"):
            return counts.reshape(shape) / np.int64(len(self))

    def compute(self) -> dict[str, float]:
        """max_box_acc (V1 at delta .5) and max_box_acc_v2 (V2, mean of the deltas' maxima).

        Both maximise over thresholds on these very images.
        """
        curves = self.curves()
        return {
            "max_box_acc": float(curves[0, self.deltas.index(0.5)].max()),
            "max_box_acc_v2": float(curves[1].max(axis=-1).mean()),
        }

    def best_threshold(self, delta: float = 0.5) -> float:
        """The tau at which V1 is highest, to be chosen on a tune split.

        Of several, the middle of the longest run of neighbouring best thresholds (the first such
        run; of two middle ones the lower).

        Raises:
          ValueError: no images.
        """
        if not len(self):
            raise ValueError("a threshold cannot be chosen without images")
        curve = self.curves()[0, self.deltas.index(delta)]
        best = np.concatenate([[False], curve == curve.max(), [False]])
        starts, stops = np.flatnonzero(np.diff(best.astype(np.int8))).reshape(-1, 2).T
        k = int((stops - starts).argmax())
        return float(self.thresholds[(starts[k] + stops[k] - 1) // 2])

    def gt_known_hits(self, threshold: float, delta: float = 0.5) -> np.ndarray:
        """(N,) bool, in the order of ``images.ids``: V1 right at one threshold of the grid.

        Raises:
          ValueError: a threshold that is not on the grid.
        """
        at = int(np.abs(self.thresholds - threshold).argmin())
        if abs(self.thresholds[at] - threshold) > 1e-9:
            raise ValueError(f"threshold {threshold} is not on the grid")
        return self.hits(np.s_[:, 0, self.deltas.index(delta), at])

    def gt_known(self, threshold: float, delta: float = 0.5) -> float:
        """Localization accuracy with the class known, at one threshold of the grid."""
        hits = self.gt_known_hits(threshold, delta)
        return float(np.count_nonzero(hits) / len(hits)) if len(hits) else float("nan")

    def interval(self, name: str, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
        """The 95% interval of one of ``compute``; each resample maximises over thresholds anew."""
        statistic = _max_statistic(self.hits(self._part(name)))
        return bootstrap_statistic(statistic, len(self), seed=seed, resamples=resamples)

    def intervals(
        self, seed: int = 0, resamples: int = RESAMPLES
    ) -> dict[str, tuple[float, float]]:
        """``interval`` of all of ``compute``."""
        return {n: self.interval(n, seed, resamples) for n in ("max_box_acc", "max_box_acc_v2")}

    def _part(self, name: str) -> tuple:
        """Which of ``hits`` max_box_acc or max_box_acc_v2 maximises over."""
        half = self.deltas.index(0.5)
        return np.s_[:, 0, half : half + 1] if name == "max_box_acc" else np.s_[:, 1]

    def compare(
        self, other: "BoxAccuracy", seed: int = 0, resamples: int = RESAMPLES
    ) -> dict[str, Difference]:
        """other - self on the same images, each figure of ``compute`` with its interval.

        Raises:
          ValueError: not the same images.
        """
        return compare_best([self], [other], seed, resamples)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, for a file or another process."""
        grid = {"thresholds": self.thresholds, "deltas": np.array(self.deltas)}
        return {**grid, **self.images.to_arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "BoxAccuracy":
        """The inverse of ``to_arrays``."""
        made = cls(arrays["thresholds"], np.asarray(arrays["deltas"]).tolist())
        made.images = made.images.read(arrays)
        if made.images.rows().dtype != np.uint8:
            raise ValueError("rows of bits are expected as bytes")
        return made

    def row_bytes(self) -> int:
        """How many bytes an image's bits take."""
        return -(-2 * len(self.deltas) * len(self.thresholds) // 8)


def compare_best(
    a: Sequence[BoxAccuracy],
    b: Sequence[BoxAccuracy],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Difference]:
    """Mean of b's runs minus that of a's, each figure of ``compute`` with its 95% interval.

    Every resample draws the images once and uses them for all runs; each run maximises over its
    thresholds for itself, in every resample anew.

    Raises:
      ValueError: not the same images.
    """
    ids = a[0].images.ids()
    if any(run.images.ids() != ids for run in (*a, *b)):
        raise ValueError("the runs were scored on different images")
    values = [[run.compute() for run in side] for side in (a, b)]
    found = {}
    for name in ("max_box_acc", "max_box_acc_v2"):
        best = [[_max_statistic(run.hits(run._part(name))) for run in side] for side in (a, b)]

        def difference(draws: np.ndarray, best=best) -> np.ndarray:
            means = [np.mean([one(draws) for one in side], axis=0) for side in best]
            return means[1] - means[0]

        low, high = bootstrap_statistic(difference, len(ids), seed=seed, resamples=resamples)
        means = [float(np.mean([value[name] for value in side])) for side in values]
        found[name] = Difference(means[1] - means[0], low, high)
    return found


def _max_statistic(hits: np.ndarray):
    """Draw counts (R, N) -> (R,): mean over deltas of the maximum over thresholds."""
    # Neighbouring thresholds share their quantised level, so most columns are copies.
    columns = hits.reshape(len(hits), -1)
    places: dict[bytes, int] = {}  # a column's bits -> its place among the distinct ones
    kept, copies = [], []
    for k, packed in enumerate(np.ascontiguousarray(np.packbits(columns, axis=0).T)):
        place = places.setdefault(packed.tobytes(), len(places))
        if place == len(kept):
            kept.append(k)
        copies.append(place)
    # Whole numbers up to the number of images: float32 adds them without rounding.
    distinct = columns[:, kept].astype(np.float32 if len(hits) < 2**24 else np.float64)
    groups = [np.unique(g) for g in np.array(copies, np.int64).reshape(hits.shape[1:])]

    def statistic(draws):
        rates = (draws.astype(distinct.dtype) @ distinct).astype(np.float64) / len(hits)
        return np.mean([rates[:, g].max(axis=1) for g in groups], axis=0)

    return statistic


def rank_classes(scores: np.ndarray, k: int = 5) -> np.ndarray:
    """The k best classes, best first; of equal scores the lower index first.

    Args:
      scores: (..., C) logits or probabilities.
    Returns:
      (..., min(k, C)) int64.
    """
    return np.argsort(-np.asarray(scores, np.float64), axis=-1, kind="stable")[..., :k]


def top_k_hits(
    ranked: Sequence[int],
    class_boxes: Sequence[np.ndarray],
    labels: Sequence[int],
    gt_boxes: np.ndarray,
    gt_labels: np.ndarray,
    delta: float = 0.5,
) -> dict[str, bool]:
    """One image's Top-1/5 classification, Top-1/5 localization and Top-5*.

    A class is right if the image has it; a box is right if its class is and it has IoU >= delta
    with a ground truth box of that class. Top-5* allows five boxes of three classes: the two
    largest contours of the first and of the second, the largest of the third.

    Args:
      ranked: the classes by falling score (``rank_classes``), five where there are as many.
      class_boxes: for each of them (m, 4), its map's boxes at the threshold, largest contour
        first (``boxes.largest_contours`` with count 2).
      labels: the image's classes.
      gt_boxes, gt_labels: (N, 4) in the maps' pixels and (N,); N = 0 where unknown.
    Returns:
      top1_acc, top5_acc and, with ground truth boxes, top1_loc, top5_loc, top5_star_loc.
    """
    right = [int(c) in {int(x) for x in labels} for c in ranked[:5]]
    hits = {"top1_acc": right[0], "top5_acc": any(right)}
    if len(gt_boxes) == 0:
        return hits
    gt_boxes, gt_labels = np.asarray(gt_boxes), np.asarray(gt_labels)
    located = []  # for each class, which of its boxes are right
    for c, ok, boxes in zip(ranked[:5], right, class_boxes, strict=False):
        truth = gt_boxes[gt_labels == c]
        boxes = np.asarray(boxes)
        ious = iou(boxes, truth) if ok and len(truth) else np.zeros((len(boxes), 1))
        located.append(ious.max(axis=1) >= delta)
    hits["top1_loc"] = bool(located[0][0])
    hits["top5_loc"] = any(bool(x[0]) for x in located)
    hits["top5_star_loc"] = any(bool(x[:n].any()) for x, n in zip(located, TOP5_STAR, strict=False))
    return hits


class HitRates(Accumulator):
    """Named yes/no results of images, any of which may be unknown for an image.

    Attributes:
      names: the results kept, e.g. those of ``top_k_hits``.
    """

    SETTINGS = "results"

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self.images = PerImage((len(self.names),), np.int8)  # 1 yes, 0 no, -1 unknown

    def update(self, image_id: str, hits: Mapping[str, bool]) -> None:
        """Adds one image; a name absent from hits is unknown for it.

        Raises:
          ValueError: a name that is not kept, or an id that is there already.
        """
        if unknown := hits.keys() - set(self.names):
            raise ValueError(f"{min(unknown)!r} is not one of {', '.join(self.names)}")
        row = [int(bool(hits[name])) if name in hits else -1 for name in self.names]
        self.images.update([image_id], np.array([row]))

    def _settings(self) -> tuple:
        return (self.names,)

    def values(self, name: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Ids of the images whose result is known, ascending, and the results, (N,) bool."""
        column = self.images.rows()[:, self.names.index(name)]
        known = column >= 0
        ids = tuple(i for i, k in zip(self.images.ids(), known, strict=True) if k)
        return ids, column[known].astype(bool)

    def compute(self) -> dict[str, float]:
        """For each name the share of known results that are yes; NaN where none is known."""
        rates = {}
        for name in self.names:
            _, hits = self.values(name)
            rates[name] = float(np.count_nonzero(hits) / len(hits)) if len(hits) else float("nan")
        return rates

    def intervals(
        self, seed: int = 0, resamples: int = RESAMPLES
    ) -> dict[str, tuple[float, float]]:
        """The 95% bootstrap interval of each rate."""
        return {
            name: bootstrap_interval(self.values(name)[1], seed, resamples=resamples)
            for name in self.names
        }

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, for a file or another process."""
        return {"names": np.array(self.names, np.str_), **self.images.to_arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "HitRates":
        """The inverse of ``to_arrays``."""
        made = cls([str(n) for n in arrays["names"]])
        made.images = made.images.read(arrays)
        return made
