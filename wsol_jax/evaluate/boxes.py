"""Boxes: class maps of images of one class, against its boxes and pixels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.data.decode import CorruptImage, image_size
from wsol_jax.data.records import Source
from wsol_jax.evaluate.kind import ClassFigures, Kind, Results, Row, Task, Truth
from wsol_jax.evaluate.localize import LocalizedImage
from wsol_jax.evaluate.shown import Card, choose, heat_card
from wsol_jax.metrics import baselines
from wsol_jax.metrics.bootstrap import (
    Difference,
    bootstrap_interval,
    bootstrap_statistic,
    paired_bootstrap,
)
from wsol_jax.metrics.boxes import (
    THRESHOLDS,
    best_ious,
    iou,
    largest_contours,
    nearest_threshold,
)
from wsol_jax.metrics.localization import BoxAccuracy, HitRates, top_k_hits
from wsol_jax.metrics.maps import prepare_map, resize_mask
from wsol_jax.metrics.masks import PixelAP, average_precision, class_target
from wsol_jax.metrics.per_image import PerImage, RaggedPerImage
from wsol_jax.runs.opened import OpenedRun

# Without a tune list there is nothing to choose a threshold on: the CAM paper's 20% of the peak.
DEFAULT_THRESHOLD = 0.2
_HITS = ("top1_acc", "top5_acc", "top1_loc", "top5_loc", "top5_star_loc")
_GAUSSIAN = baselines.gaussian_map()


class BoxScores(Results):
    """Boxes, pixels and classes of a list whose images show one class each.

    ``boxes`` and ``pixels`` have only the images whose boxes or mask are known; ``hits`` the Top-k
    results at a threshold; ``central`` the hits of the best fixed box; ``gaussian`` the pixels of a
    centred Gaussian. ``classes``: an image's first class and the class named first; ``ious``: the
    IoU of the box at the run's threshold; ``truth``: the first class's boxes, x0 y0 x1 y1 in the
    frame of the maps (MAP_SIZE).
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
    }
    NEWER = ("classes", "ious", "truth")
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

    def obstacle(self, other: Results) -> str:
        """Why two runs' images cannot be paired, as the end of a sentence; "" if they can."""
        if not isinstance(other, BoxScores):
            return "were scored by different figures"
        ids = [set(s.hits.images.ids()) for s in (self, other)]
        if ids[0] != ids[1]:
            shared = len(ids[0] & ids[1])
            counts = f"{len(ids[0])} and {len(ids[1])}, {shared} in both"
            return f"did not score the same images ({counts})"
        truths = [{i: s.class_names[c[0]] for i, c in s.classes.items()} for s in (self, other)]
        if any(truths[0][i] != truths[1][i] for i in truths[0].keys() & truths[1].keys()):
            return "give the same images other classes"
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
            if len(a) == len(b) == 1:  # of several runs each has a best threshold of its own
                found |= a[0].boxes.compare(b[0].boxes, seed)
        if len(a[0].pixels) and _same([run.pixels.images.ids() for run in (*a, *b)]):
            found["pxap"] = _paired_pxap(a, b, seed)
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


class Boxes(Kind):
    """Class maps of images of one class: boxes at every threshold, pixels, and the classes."""

    name = "boxes"
    results = BoxScores
    takes_class_scores = True
    notes = {"max_box_acc_note": "maximises over thresholds on the scored list itself"}

    def score(self, image: LocalizedImage, truth: Truth, task: Task, part: str) -> dict[str, Row]:
        """One image's prepared map, boxes at every threshold, pixels and hits."""
        record = truth.record
        boxes, box_labels = truth.boxes
        if not record.labels:
            raise UserError(f"{record.image_id} in {truth.list_name} has no class to localize.")
        label = record.labels[0]
        own = boxes[box_labels == label]
        threshold = task.thresholds.get(part)
        score_map = prepare_map(image.true_map)
        if task.keep is not None and not part:
            task.keep(image, score_map)
        row: dict[str, Any] = {"id": record.image_id, "label": label, "truth": own}
        if len(own):
            row["largest"] = best_ious(score_map, own, THRESHOLDS)
            if threshold is not None:
                at = np.searchsorted(THRESHOLDS, nearest_threshold(threshold))
                row["iou"] = row["largest"][at]
            if task.contours:
                row["every"] = best_ious(score_map, own, THRESHOLDS, multi_contour=True)
            if task.central is not None and not part:
                row["central"] = bool(iou(task.central[None], own).max() >= 0.5)
        if truth.mask is not None:
            foreground, ignore = class_target(resize_mask(truth.mask), label)
            row["pixels"] = (score_map, foreground, ignore)
        row["hits"] = _hits(image, record.labels, truth.boxes, threshold)
        return {part: row}

    def add(self, results: BoxScores, image: LocalizedImage, row: Row) -> None:
        """Enters one image's row."""
        image_id = row["id"]
        if "largest" in row:
            every = row.get("every", np.zeros_like(row["largest"]))
            results.boxes.update([image_id], row["largest"][None], every[None])
        if "pixels" in row:
            score_map, foreground, ignore = row["pixels"]
            results.pixels.update(image_id, score_map, foreground, ignore)
            results.gaussian.update(image_id, _GAUSSIAN, foreground, ignore)
        if "central" in row:
            results.central.update(image_id, {"central_box": row["central"]})
        if "iou" in row:
            results.ious.update([image_id], row["iou"][None])
        results.hits.update(image_id, row["hits"])
        results.classes.update([image_id], np.array([[row["label"], image.ranked[0]]]))
        results.truth.update([image_id], [row["truth"]])
        results.true_maps[image.index] = image.true_map
        results.predicted[image.index] = int(image.ranked[0])

    def choose_threshold(self, tune: BoxScores | None) -> tuple[float, str]:
        """The config's, or the one of the highest GT-known accuracy on the tune list."""
        options = self.config.eval
        if options.threshold >= 0:
            return nearest_threshold(options.threshold), "eval.threshold"
        if tune is not None and len(tune.boxes):
            reason = f"highest GT-known accuracy on {self.config.data.tune}"
            return tune.boxes.best_threshold(), reason
        logging.warning("no tune list with boxes: the box threshold is %.1f", DEFAULT_THRESHOLD)
        return DEFAULT_THRESHOLD, "default, for want of a tune list with boxes"

    def test_task(self, run: OpenedRun, thresholds: Mapping[str, float]) -> Task:
        """The boxes' thresholds, and the best fixed box of the training list."""
        return Task(thresholds=thresholds, central=fit_central_box(run.lists.train))

    def cards(self, source: Source, results: Results, threshold: float) -> list[Card]:
        """The lowest IoUs and a fixed draw."""
        return heat_cards(self.config, source, results, threshold)


def heat_cards(config: Any, source: Source, results: Results, threshold: float) -> list[Card]:
    """Cards of a list's images as heat and boxes: the lowest IoUs and a fixed draw."""
    order = list(results.true_maps)
    ids = [source[index].image_id for index in order]
    ious = dict(results.ious.items())
    values = [float(ious[i]) if i in ious else None for i in ids]
    cards = []
    for index in (order[i] for i in choose(ids, values, config.eval.gallery)):
        record = source[index]
        size = record.size or image_size(record.image)
        raw, predicted = results.true_maps[index], results.predicted[index]
        boxes = Truth(source, index, size).boxes
        cards.append(heat_card(source, index, raw, predicted, threshold, boxes, size))
    return cards


def _hits(
    image: LocalizedImage,
    labels: Sequence[int],
    truth: tuple[np.ndarray, np.ndarray],
    threshold: float | None,
) -> dict[str, bool]:
    """The Top-k results; without a threshold those of the classes alone."""
    boxes, box_labels = truth
    class_boxes = [np.zeros((1, 4), np.int64)] * len(image.ranked)
    if threshold is not None and len(boxes):
        # Only a right class can be located right: the others' contours decide nothing.
        class_boxes = [
            largest_contours(prepare_map(m), threshold, 2) if c in labels else b
            for c, m, b in zip(image.ranked, image.class_maps, class_boxes, strict=True)
        ]
    if threshold is None:
        boxes, box_labels = boxes[:0], box_labels[:0]
    return top_k_hits(image.ranked, class_boxes, labels, boxes, box_labels)


def fit_central_box(source: Source, limit: int = 5000) -> np.ndarray | None:
    """The best centred box for the training list's boxes (a baseline); None without boxes.

    A longer list is sampled evenly: 5,000 boxes fix two numbers well enough.
    """
    boxes = []
    for index in np.unique(np.linspace(0, len(source) - 1, min(limit, len(source)), dtype=int)):
        record = source[int(index)]
        if not len(record.boxes):
            continue
        try:
            size = record.size or image_size(record.image)
        except CorruptImage:
            continue
        boxes.append(Truth(source, int(index), size).boxes[0])
    return baselines.best_central_box(boxes) if boxes else None
