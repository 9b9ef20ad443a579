"""Boxes: class maps of images of one class, against its boxes and pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.data.decode import CorruptImage, image_size
from wsol_jax.data.lists import Lists
from wsol_jax.data.records import Source
from wsol_jax.evaluate.box_scores import BoxScores
from wsol_jax.evaluate.kind import Kind, Row, Task, Truth
from wsol_jax.evaluate.localize import LocalizedImage
from wsol_jax.evaluate.results import Results
from wsol_jax.evaluate.score import read_class_scores
from wsol_jax.evaluate.shown import Card, choose, heat_card
from wsol_jax.metrics import baselines
from wsol_jax.metrics.boxes import (
    THRESHOLDS,
    best_ious,
    iou,
    largest_contours,
    nearest_threshold,
    otsu_threshold,
)
from wsol_jax.metrics.localization import top_k_hits
from wsol_jax.metrics.maps import prepare_map, resize_mask
from wsol_jax.metrics.masks import class_target
from wsol_jax.runs.opened import OpenedRun

# Without a tune list there is nothing to choose a threshold on: the CAM paper's 20% of the peak.
DEFAULT_THRESHOLD = 0.2
_GAUSSIAN = baselines.gaussian_map()


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
            if task.full:
                row["every"] = best_ious(score_map, own, THRESHOLDS, multi_contour=True)
            if task.central is not None and not part:
                row["central"] = bool(iou(task.central[None], own).max() >= 0.5)
        if truth.mask is not None:
            foreground, ignore = class_target(resize_mask(truth.mask), label)
            row["pixels"] = (score_map, foreground, ignore)
        if truth.part_mask is not None:
            row["parts"] = (image.true_map, truth.part_mask)
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
        if "parts" in row:
            results.part_mass.update(image_id, *row["parts"])
        if "central" in row:
            results.central.update(image_id, {"central_box": row["central"]})
        if "iou" in row:
            results.ious.update([image_id], row["iou"][None])
        results.hits.update(image_id, row["hits"])
        results.classes.update([image_id], np.array([[row["label"], image.ranked[0]]]))
        sure = float(image.probabilities[image.ranked[0]])
        results.confidence.update([image_id], np.array([sure]))
        results.truth.update([image_id], [row["truth"]])
        results.true_maps[image.index] = image.true_map
        results.predicted[image.index] = int(image.ranked[0])
        results.sure[image.index] = sure

    def check(self, lists: Lists) -> None:
        """Another classifier's scores, if any, are read once."""
        super().check(lists)
        for source in filter(None, (lists.tune, *lists.tests.values())):
            read_class_scores(self.config.eval.class_scores, source)

    def choose_threshold(self, tune: BoxScores | None, where: str) -> tuple[float, str]:
        """The config's, or the one of the highest GT-known accuracy on the tune list.

        Where that has no boxes, Otsu's of its maps (docs/results.md compares it with 20%).
        """
        options = self.config.eval
        if options.threshold >= 0:
            return nearest_threshold(options.threshold), "eval.threshold"
        if tune is not None and len(tune.boxes):
            return tune.boxes.best_threshold(), f"highest GT-known accuracy on {where}"
        maps = list(tune.true_maps.values()) if tune is not None else []
        if any(np.ptp(raw) > 0 for raw in maps):
            found = otsu_threshold(map(prepare_map, maps))
            return found, f"Otsu's of the maps of {where}, which has no boxes"
        logging.warning("no tune list: the box threshold is %.1f", DEFAULT_THRESHOLD)
        return DEFAULT_THRESHOLD, "default, for want of a tune list"

    def central_box(self, run: OpenedRun) -> np.ndarray | None:
        """The best fixed box of the training list."""
        return fit_central_box(run.lists.train)

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
        raw, boxes = results.true_maps[index], Truth(source, index, size).boxes
        said = (results.predicted[index], results.sure.get(index))
        cards.append(heat_card(source, index, raw, said, threshold, boxes, size))
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
