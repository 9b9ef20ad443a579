"""Score maps -> per-image rows of every metric, in one pass over a list."""

import concurrent.futures
import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.base.threads import in_order
from wsol_jax.data.decode import CorruptImage, image_size
from wsol_jax.data.records import Source
from wsol_jax.evaluate import multi_label, segmenting
from wsol_jax.evaluate.localize import LocalizedImage, localize_list
from wsol_jax.evaluate.scores import Scores
from wsol_jax.evaluate.segment_scores import FIGURES
from wsol_jax.evaluate.stored.predictions import read_probabilities
from wsol_jax.methods import Method
from wsol_jax.metrics import baselines
from wsol_jax.metrics.boxes import (
    THRESHOLDS,
    best_ious,
    iou,
    largest_contours,
    nearest_threshold,
    resize_box,
)
from wsol_jax.metrics.localization import top_k_hits
from wsol_jax.metrics.maps import MAP_SIZE, prepare_map, resize_mask
from wsol_jax.metrics.masks import class_target

# What the loop watches on the tune list.
TUNE_METRICS = ("pxap", "max_box_acc", "top1_acc", *multi_label.FIGURES.values(), *FIGURES)


def true_boxes(source: Source, index: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """An image's boxes in the frame of the maps, and their classes: (N, 4) int, (N,)."""
    record = source[index]
    boxes = [resize_box(box, size, (MAP_SIZE, MAP_SIZE)) for box in record.boxes]
    return np.array(boxes, np.int64).reshape(-1, 4), record.box_labels


@dataclasses.dataclass(frozen=True)
class _Scorer:
    """One image's host work: prepared maps, boxes at every threshold, pixel histogram."""

    source: Source
    threshold: float | None
    every_contour: bool
    gaussian: np.ndarray
    central: np.ndarray | None
    keep: Callable[[LocalizedImage, np.ndarray], None] | None
    part_thresholds: Mapping[str, float]

    def __call__(self, image: LocalizedImage) -> dict[str, dict[str, Any]]:
        """Results by part; "" is the whole."""
        found = {"": self._score(image)}
        for name, part in image.parts.items():
            alone = dataclasses.replace(
                self, threshold=self.part_thresholds.get(name), central=None, keep=None
            )
            found[name] = alone._score(part)
        return found

    def _score(self, image: LocalizedImage) -> dict[str, Any]:
        record = self.source[image.index]
        boxes, box_labels = true_boxes(self.source, image.index, image.size)
        if not record.labels:
            raise UserError(f"{record.image_id} in {self.source.name} has no class to localize.")
        label = record.labels[0]
        own = boxes[box_labels == label]
        score_map = prepare_map(image.true_map)
        if self.keep is not None:
            self.keep(image, score_map)
        result: dict[str, Any] = {"image": image, "id": record.image_id, "label": label}
        result["truth"] = own
        if len(own):
            result["largest"] = best_ious(score_map, own, THRESHOLDS)
            if self.threshold is not None:
                at = np.searchsorted(THRESHOLDS, nearest_threshold(self.threshold))
                result["iou"] = result["largest"][at]
            if self.every_contour:
                every = best_ious(score_map, own, THRESHOLDS, multi_contour=True)
                result["every"] = every
            if self.central is not None:
                result["central"] = bool(iou(self.central[None], own).max() >= 0.5)
        mask = self.source.mask(image.index)
        if mask is not None:
            foreground, ignore = class_target(resize_mask(mask), label)
            result["pixels"] = (score_map, foreground, ignore)
        class_boxes = [np.zeros((1, 4), np.int64)] * len(image.ranked)
        if self.threshold is not None and len(boxes):
            # Only a right class can be located right: the others' contours decide nothing.
            class_boxes = [
                largest_contours(prepare_map(m), self.threshold, 2) if c in record.labels else b
                for c, m, b in zip(image.ranked, image.class_maps, class_boxes, strict=True)
            ]
        known = self.threshold is not None
        truth = (boxes, box_labels) if known else (boxes[:0], box_labels[:0])
        result["hits"] = top_k_hits(image.ranked, class_boxes, record.labels, *truth)
        return result


def score_list(
    config: Any,
    method: Method,
    variables: Any,
    source: Source,
    mesh: Any,
    *,
    threshold: float | None = None,
    central: np.ndarray | None = None,
    every_contour: bool = True,
    keep: Callable[[LocalizedImage, np.ndarray], None] | None = None,
    part_thresholds: Mapping[str, float] = types.MappingProxyType({}),
    parts: bool = True,
    stop: Callable[[], Any] = lambda: None,
    what: str = "",
) -> Scores:
    """Scores a list in one pass.

    Args:
      threshold: of the boxes, for the Top-k figures; None leaves them unknown.
      part_thresholds: the same of the maps that the scored ones are put together from, by name.
      central: (4,) the fixed box to compare with, or None.
      every_contour: whether MaxBoxAccV2's boxes are found too.
      keep: called with every image and its prepared map, from several threads.
      parts, stop, what: see ``localize_list``.
    """
    names = tuple(source.class_names)
    scores = Scores(class_names=names)
    given = _class_scores(config, source)
    gaussian = baselines.gaussian_map()
    scorer = _Scorer(source, threshold, every_contour, gaussian, central, keep, part_thresholds)
    options = dict(class_scores=given, parts=parts, stop=stop, what=what)
    images = localize_list(config, method, variables, source, mesh, **options)
    with concurrent.futures.ThreadPoolExecutor(max(config.data.threads, 1)) as pool:
        for found in in_order(pool, scorer, images):
            _update(scores, found.pop(""), gaussian)
            for name, result in found.items():
                part = scores.parts.setdefault(name, Scores(class_names=names))
                _update(part, result, gaussian)
    return scores


def _update(scores: Scores, result: dict[str, Any], gaussian: np.ndarray) -> None:
    image, image_id = result["image"], result["id"]
    if "largest" in result:
        every = result.get("every", np.zeros_like(result["largest"]))
        scores.boxes.update([image_id], result["largest"][None], every[None])
    if "pixels" in result:
        score_map, foreground, ignore = result["pixels"]
        scores.pixels.update(image_id, score_map, foreground, ignore)
        scores.gaussian.update(image_id, gaussian, foreground, ignore)
    if "central" in result:
        scores.central.update(image_id, {"central_box": result["central"]})
    if "iou" in result:
        scores.ious.update([image_id], result["iou"][None])
    scores.hits.update(image_id, result["hits"])
    scores.classes.update([image_id], np.array([[result["label"], image.ranked[0]]]))
    scores.truth.update([image_id], [result["truth"]])
    scores.true_maps[image.index] = image.true_map
    scores.predicted[image.index] = int(image.ranked[0])


def _class_scores(config: Any, source: Source) -> np.ndarray | None:
    """Another classifier's probabilities in the order of the list, if the config names a file."""
    path = config.eval.class_scores
    if not path:
        return None
    ids, values = read_probabilities(path, "eval.class_scores")
    if values.shape[1] != len(source.class_names):
        raise UserError(
            f"eval.class_scores={path}: probabilities have shape {values.shape}, expected "
            f"({len(ids)}, {len(source.class_names)})."
        )
    rows = {name: row for row, name in enumerate(ids)}
    wanted = [source[i].image_id for i in range(len(source))]
    missing = [name for name in wanted if name not in rows]
    if missing and len(missing) < len(wanted):
        raise UserError(
            f"eval.class_scores={path}: no row for {missing[0]} and {len(missing) - 1} more of "
            f"list {source.name!r}."
        )
    if missing:  # a file of the test list need not know the tune list
        logging.warning(
            "eval.class_scores=%s: no row for list %r, which keeps the network's own classes",
            path,
            source.name,
        )
        return None
    return values[[rows[name] for name in wanted]]


def score_tune(
    config: Any, method: Method, variables: Any, source: Source, mesh: Any, stop: Callable[[], Any]
) -> dict[str, float] | None:
    """The figures that the loop watches on the tune list; None if ``stop`` cut it short."""
    run = (config, method, variables, source, mesh)
    if method.segments:
        scores = segmenting.score_list(*run, parts=False, stop=stop)
    elif config.data.multi_label:
        scores = multi_label.score_list(*run, parts=False, stop=stop)
    else:
        scores = score_list(*run, every_contour=False, parts=False, stop=stop)
    if stop():
        return None
    figures = scores.figures(0.0, intervals=False)
    return {name: figures[name] for name in TUNE_METRICS if figures.get(name) is not None}


def best_value(scores: dict[str, float], metric: str) -> float | None:
    """The figure that decides which checkpoint is best: the metric, or what there is."""
    for name in (metric, "max_box_acc", "top1_acc", "saliency_ap", "class_map", "miou"):
        if name in scores:
            return scores[name]
    return None


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
        boxes.append(true_boxes(source, int(index), size)[0])
    return baselines.best_central_box(boxes) if boxes else None
