"""Score maps -> per-image rows of every metric, in one pass over a list."""

import concurrent.futures
import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging

from wsol_jax.data.decode import CorruptImage, image_size
from wsol_jax.data.records import Source
from wsol_jax.errors import UserError
from wsol_jax.localizing import LocalizedImage, localize_list
from wsol_jax.methods import Method
from wsol_jax.metrics import baselines
from wsol_jax.metrics.bootstrap import bootstrap_interval
from wsol_jax.metrics.boxes import THRESHOLDS, best_ious, iou, largest_contours, resize_box
from wsol_jax.metrics.localization import BoxAccuracy, HitRates, top_k_hits
from wsol_jax.metrics.maps import MAP_SIZE, prepare_map, resize_mask
from wsol_jax.metrics.masks import PixelAP, class_target
from wsol_jax.metrics.predictions import read_probabilities
from wsol_jax.threads import in_order

# What the loop watches on the tune list.
TUNE_METRICS = ("pxap", "max_box_acc", "top1_acc")
_HITS = ("top1_acc", "top5_acc", "top1_loc", "top5_loc", "top5_star_loc")


@dataclasses.dataclass
class Scores:
    """Everything measured on a list; each part holds a row per image and merges.

    ``boxes`` and ``pixels`` have only the images whose boxes or mask are known; ``hits`` the Top-k
    results at a threshold; ``central`` the hits of the best fixed box; ``gaussian`` the pixels of a
    centred Gaussian. ``true_maps``: (index, raw map) of every image, for the report.
    """

    boxes: BoxAccuracy = dataclasses.field(default_factory=BoxAccuracy)
    pixels: PixelAP = dataclasses.field(default_factory=PixelAP)
    hits: HitRates = dataclasses.field(default_factory=lambda: HitRates(_HITS))
    central: HitRates = dataclasses.field(default_factory=lambda: HitRates(("central_box",)))
    gaussian: PixelAP = dataclasses.field(default_factory=PixelAP)
    true_maps: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    predicted: dict[int, int] = dataclasses.field(default_factory=dict)

    def merge(self, other: "Scores") -> "Scores":
        """Both lists; an image in both counts once."""
        parts = ("boxes", "pixels", "hits", "central", "gaussian")
        merged = {p: getattr(self, p).merge(getattr(other, p), overlap=True) for p in parts}
        return Scores(**merged)

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
        parts = ("boxes", "pixels", "hits", "central", "gaussian")
        rows = {
            f"{part}/{name}": value
            for part in parts
            for name, value in getattr(self, part).to_arrays().items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp.npz")
        np.savez_compressed(temporary, **rows)
        temporary.replace(path)

    @classmethod
    def load(cls, path: pathlib.Path) -> "Scores":
        """The inverse of ``save``."""
        kinds = dict(
            boxes=BoxAccuracy, pixels=PixelAP, hits=HitRates, central=HitRates, gaussian=PixelAP
        )
        with np.load(path, allow_pickle=False) as file:
            parts = {
                part: kind.from_arrays(
                    {k.partition("/")[2]: file[k] for k in file.files if k.startswith(f"{part}/")}
                )
                for part, kind in kinds.items()
            }
        return cls(**parts)


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

    def __call__(self, image: LocalizedImage) -> dict[str, Any]:
        record = self.source[image.index]
        boxes, box_labels = true_boxes(self.source, image.index, image.size)
        if not record.labels:
            raise UserError(f"{record.image_id} in {self.source.name} has no class to localize.")
        label = record.labels[0]
        own = boxes[box_labels == label]
        score_map = prepare_map(image.true_map)
        if self.keep is not None:
            self.keep(image, score_map)
        result: dict[str, Any] = {"image": image, "id": record.image_id}
        if len(own):
            result["largest"] = best_ious(score_map, own, THRESHOLDS)
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
    stop: Callable[[], Any] = lambda: None,
    what: str = "",
) -> Scores:
    """Scores a list in one pass.

    Args:
      threshold: of the boxes, for the Top-k figures; None leaves them unknown.
      central: (4,) the fixed box to compare with, or None.
      every_contour: whether MaxBoxAccV2's boxes are found too.
      keep: called with every image and its prepared map, from several threads.
      stop, what: see ``localize_list``.
    """
    scores = Scores()
    given = _class_scores(config, source)
    gaussian = baselines.gaussian_map()
    scorer = _Scorer(source, threshold, every_contour, gaussian, central, keep)
    images = localize_list(
        config, method, variables, source, mesh, class_scores=given, stop=stop, what=what
    )
    with concurrent.futures.ThreadPoolExecutor(max(config.data.threads, 1)) as pool:
        for result in in_order(pool, scorer, images):
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
            scores.hits.update(image_id, result["hits"])
            scores.true_maps[image.index] = image.true_map
            scores.predicted[image.index] = int(image.ranked[0])
    return scores


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
    scores = score_list(
        config, method, variables, source, mesh, every_contour=False, stop=stop, what=""
    )
    if stop():
        return None
    figures = scores.figures(0.0, intervals=False)
    return {name: figures[name] for name in TUNE_METRICS if figures[name] is not None}


def best_value(scores: dict[str, float], metric: str) -> float | None:
    """The figure that decides which checkpoint is best: the metric, or what there is."""
    for name in (metric, "max_box_acc", "top1_acc"):
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
