"""What a list's boxes, pixels and classes were found to be, of images of one class."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from wsol_jax.evaluate.results import ClassFigures, Results
from wsol_jax.metrics.bootstrap import (
    Difference,
    bootstrap_interval,
    bootstrap_statistic,
    paired_bootstrap,
)
from wsol_jax.metrics.localization import BoxAccuracy, HitRates, compare_best
from wsol_jax.metrics.masks import PixelAP, average_precision
from wsol_jax.metrics.part_mass import PartMass
from wsol_jax.metrics.per_image import PerImage, RaggedPerImage

_HITS = ("top1_acc", "top5_acc", "top1_loc", "top5_loc", "top5_star_loc")


class BoxScores(Results):
    """Boxes, pixels and classes of a list whose images show one class each.

    ``boxes`` and ``pixels`` have only the images whose boxes or mask are known; ``hits`` the Top-k
    results at a threshold; ``central`` the hits of the best fixed box; ``gaussian`` the pixels of a
    centred Gaussian. ``classes``: an image's first class and the class named first;
    ``confidence``: the score of the class named first; ``ious``: the IoU of the box at the run's
    threshold; ``truth``: the first class's boxes, x0 y0 x1 y1 in the frame of the maps (MAP_SIZE);
    ``part_mass``: of the images whose telling parts are known.
    """

    ROWS: ClassVar[Mapping[str, type]] = {
        "boxes": BoxAccuracy,
        "pixels": PixelAP,
        "hits": HitRates,
        "central": HitRates,
        "gaussian": PixelAP,
        "classes": PerImage,
        "ious": PerImage,
        "truth": RaggedPerImage,
        "confidence": PerImage,
        "part_mass": PartMass,
    }
    NEWER = ("classes", "ious", "truth", "confidence", "part_mass")
    MARK = "hits"

    def __init__(self, class_names: Sequence[str] = (), parts: Mapping[str, Results] | None = None):
        super().__init__(class_names, parts)
        self.boxes = BoxAccuracy()
        self.pixels = PixelAP()
        self.hits = HitRates(_HITS)
        self.central = HitRates(("central_box",))
        self.gaussian = PixelAP()
        self.classes = PerImage((2,), np.int32)
        self.ious = PerImage((), np.float32)
        self.truth = RaggedPerImage((4,), np.int16)
        self.confidence = PerImage((), np.float32)
        self.part_mass = PartMass()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "BoxScores":
        """``load`` of a file's arrays.

        Raises:
          ValueError: an image that is scored has no class, or one that is not named.
        """
        made, new = super().from_arrays(arrays), cls()
        for name in ("boxes", "hits", "central"):
            one, own = getattr(made, name), getattr(new, name)
            if not all(map(np.array_equal, one._settings(), own._settings())):
                raise ValueError(f"{name} has other {own.SETTINGS} than this package's")
        if len(made.boxes) and made.boxes.images.rows().shape[1:] != (made.boxes.row_bytes(),):
            raise ValueError("boxes has rows of another length")
        if len(made.classes.ids()) and not made.class_names:
            raise ValueError("its classes have no names")
        if made.class_names:
            classes = made.classes.rows()
            scored = (made.boxes.images, made.pixels.images, made.hits.images, made.ious)
            scored += (made.part_mass.images,)
            if not {i for rows in scored for i in rows.ids()} <= set(made.classes.ids()):
                raise ValueError("an image that is scored has no class")
            if classes.size and not 0 <= classes.min() <= classes.max() < len(made.class_names):
                raise ValueError("an image has a class without a name")
        return made

    def __len__(self) -> int:
        return len(self.hits.images)

    def figures(self, threshold: float = 0.0, intervals: bool = True) -> dict[str, Any]:
        """metrics.json's entry of a list; a figure that the list has no truth for is None."""
        figures: dict[str, Any] = {**self.hits.compute()}
        figures["gt_known_loc"] = self.boxes.gt_known(threshold)
        figures |= self.boxes.compute() if len(self.boxes) else {}
        for name in ("max_box_acc", "max_box_acc_v2"):
            figures.setdefault(name, math.nan)
        figures["pxap"] = self.pixels.compute() if len(self.pixels) else math.nan
        figures |= self.central.compute()
        figures["gaussian_pxap"] = self.gaussian.compute() if len(self.gaussian) else math.nan
        figures |= self.part_mass.compute()
        figures = {k: None if math.isnan(v) else float(v) for k, v in figures.items()}
        figures["images"] = len(self.hits.images)
        if intervals:
            spans = dict(self.hits.intervals())
            if len(self.boxes):
                hits = self.boxes.gt_known_hits(threshold)
                spans |= {"gt_known_loc": bootstrap_interval(hits), **self.boxes.intervals()}
            if len(self.pixels):
                spans["pxap"] = self.pixels.interval()
            spans |= self.part_mass.intervals()
            spans = {k: list(map(float, v)) for k, v in spans.items() if figures[k] is not None}
            figures["intervals_95"] = spans
        return figures

    def by_class(self, threshold: float) -> ClassFigures | None:
        """GT-known at a threshold of the grid, PxAP and Top-1 accuracy of each class's images."""
        count = len(self.class_names)
        if not count:
            return None
        labels = {image_id: int(row[0]) for image_id, row in self.classes.items()}
        of = lambda ids: np.array([labels[i] for i in ids], np.int64)

        def rate(ids, hits):
            with np.errstate(invalid="ignore"):
                mine = of(ids)
                return np.bincount(mine, hits, count) / np.bincount(mine, minlength=count)

        counts: dict[int, np.ndarray] = {}
        for image_id, row in self.pixels.images.items():  # one image at a time keeps memory flat
            label = labels[image_id]
            counts[label] = counts.get(label, 0) + row.astype(np.int64)
        pxap = np.full(count, np.nan)
        for label, total in counts.items():
            pxap[label] = average_precision(total)
        hits = self.boxes.gt_known_hits(threshold) if len(self.boxes) else np.zeros(0)
        return ClassFigures(
            self.class_names,
            np.bincount(of(labels), minlength=count),
            {
                "gt_known_loc": rate(self.boxes.images.ids(), hits),
                "pxap": pxap,
                "top1_acc": rate(*self.hits.values("top1_acc")),
            },
        )

    def ids(self) -> tuple[str, ...]:
        return self.hits.images.ids()

    def _obstacle(self, other: "BoxScores") -> str:
        truths = [{i: s.class_names[c[0]] for i, c in s.classes.items()} for s in (self, other)]
        if any(truths[0][i] != truths[1][i] for i in truths[0].keys() & truths[1].keys()):
            return "give the same images other classes"
        boxes = [dict(scores.truth.items()) for scores in (self, other)]
        both = boxes[0].keys() & boxes[1].keys()
        if not all(np.array_equal(boxes[0][i], boxes[1][i]) for i in both):
            return "were scored against other boxes"
        return ""

    @classmethod
    def paired(
        cls,
        a: "Sequence[BoxScores]",
        b: "Sequence[BoxScores]",
        thresholds: tuple[Sequence[float], Sequence[float]],
        seed: int = 0,
    ) -> dict[str, Difference]:
        """Mean of b's runs minus that of a's, as far as all know a figure of the same images."""
        found = {}
        for name in _HITS:
            sides = [[run.hits.values(name) for run in side] for side in (a, b)]
            if sides[0][0][0] and _same([ids for side in sides for ids, _ in side]):
                found[name] = paired_bootstrap(*(_mean([h for _, h in s]) for s in sides), seed)
        if len(a[0].boxes) and _same([run.boxes.images.ids() for run in (*a, *b)]):
            pairs = [zip(*side, strict=True) for side in ((a, thresholds[0]), (b, thresholds[1]))]
            hits = [_mean([run.boxes.gt_known_hits(t) for run, t in pair]) for pair in pairs]
            found["gt_known_loc"] = paired_bootstrap(*hits, seed)
            found |= compare_best(*([run.boxes for run in side] for side in (a, b)), seed)
        if len(a[0].pixels) and _same([run.pixels.images.ids() for run in (*a, *b)]):
            found["pxap"] = _paired_pxap(a, b, seed)
        if len(a[0].part_mass) and _same([run.part_mass.images.ids() for run in (*a, *b)]):
            for name in PartMass.NAMES:
                sides = [_mean([run.part_mass.values(name) for run in side]) for side in (a, b)]
                found[name] = paired_bootstrap(*sides, seed)
        return found


def _same(ids: Sequence[tuple[str, ...]]) -> bool:
    return all(one == ids[0] for one in ids)


def _mean(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.mean(np.asarray(rows, np.float64), axis=0)


def _paired_pxap(a: Sequence[BoxScores], b: Sequence[BoxScores], seed: int) -> Difference:
    """Mean PxAP of b's runs minus that of a's, with a 95% interval over images.

    Every resample draws the images once and uses them for all runs: the interval is that of the
    images, the runs being what they are.
    """
    rows = [[run.pixels.images.rows() for run in side] for side in (a, b)]
    count, shape = len(rows[0][0]), rows[0][0].shape[1:]
    flat = [[one.reshape(count, -1).astype(np.float64) for one in side] for side in rows]

    def difference(counts: np.ndarray) -> np.ndarray:
        means = [
            np.mean(
                [average_precision((counts @ hist).reshape(-1, *shape)) for hist in side], axis=0
            )
            for side in flat
        ]
        return means[1] - means[0]

    low, high = bootstrap_statistic(difference, count, seed=seed)
    return Difference(float(difference(np.ones((1, count)))[0]), low, high)
