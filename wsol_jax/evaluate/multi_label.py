"""Several labels: maps of images that may show several classes, scored as Kim et al. 2017 do.

Beside their figures, detection: boxes around the maps' regions, ranked over the list
(Redondo-Cabrera et al. 2018, section IV-D).
"""

from collections.abc import Sequence

import cv2
import numpy as np

from wsol_jax.data.records import Record, Source
from wsol_jax.evaluate.boxes import DEFAULT_THRESHOLD, fit_central_box, heat_cards
from wsol_jax.evaluate.kind import Kind, Row, Task, Truth
from wsol_jax.evaluate.localize import LocalizedImage
from wsol_jax.evaluate.multi_label_scores import MultiLabelScores
from wsol_jax.evaluate.results import Results
from wsol_jax.evaluate.shown import Card
from wsol_jax.metrics import baselines
from wsol_jax.metrics.boxes import nearest_threshold
from wsol_jax.metrics.detection import component_boxes
from wsol_jax.metrics.location import peaks
from wsol_jax.metrics.maps import MAP_SIZE
from wsol_jax.runs.opened import OpenedRun

Detections = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes, scores, classes


class MultiLabel(Kind):
    """Class maps of images that may show several classes."""

    name = "several labels"
    results = MultiLabelScores
    every_map = True
    ahead = 8  # each holds whole images of maps

    def empty(self, class_names: Sequence[str]) -> MultiLabelScores:
        """Results of no image, at the config's tolerance."""
        options = self.config.eval
        nms_iou = float(options.detection.nms_iou)
        return MultiLabelScores(class_names, float(options.tolerance), nms_iou=nms_iou)

    def score(self, image: LocalizedImage, truth: Truth, task: Task, part: str) -> dict[str, Row]:
        """One image's maps at its size, their peaks and the boxes around their regions."""
        points, scores = peaks(image.maps, image.size)
        row = {"truth": truth, "points": points, "scores": scores, "whole": not part}
        if truth.mask is not None:
            row["maps"] = _enlarged(image.maps, truth.mask)
        located = len(truth.record.boxes) or not truth.record.labels
        if task.full and located:  # else nobody knows where its objects are
            share = self.config.eval.detection.threshold
            found = row["detections"] = detect(image.maps, share, image.size)
            if task.central is not None:
                row["central"] = central_detections(found, task.central, image.size)
        return {part: row}

    def add(self, results: MultiLabelScores, image: LocalizedImage, row: Row) -> None:
        """Enters one image's row."""
        record, mask = row["truth"].record, row["truth"].mask
        points, confidences = row["points"], row["scores"]
        truth = (record.boxes, record.box_labels)
        hard = {"difficult": record.difficult}
        located = (*truth, image.size)
        results.location.update_peaks(record.image_id, points, confidences, *located, **hard)
        middle = np.tile(np.array(image.size) // 2, (len(points), 1))
        results.centre.update_peaks(record.image_id, middle, confidences, *located, **hard)
        # A box a class that holds every point: found wherever the class is.
        whole = np.tile([0, 0, *image.size], (len(record.labels), 1))
        present = (whole, record.labels, image.size)
        results.presence.update_peaks(
            record.image_id,
            middle,
            image.probabilities,
            *present,
            difficult=_only_difficult(record),
        )
        own = np.full((len(points), 2), np.nan)
        own[list(record.labels)] = points[list(record.labels)]
        results.peaks.update([record.image_id], own[None])
        if mask is not None:
            results.saliency.update(record.image_id, row["maps"], mask)
        for name, into in (("detections", results.detection), ("central", results.central)):
            if name in row:
                into.update(record.image_id, *row[name], *truth, **hard)
        if row["whole"]:
            if record.labels:
                results.true_maps[image.index] = image.true_map
            results.predicted[image.index] = int(image.ranked[0])
            results.sure[image.index] = float(image.probabilities[image.ranked[0]])

    def choose_threshold(self, tune: Results | None, where: str) -> tuple[float, str]:
        """The config's, or a fixed one for the boxes that a page draws."""
        del tune, where
        if self.config.eval.threshold >= 0:
            return nearest_threshold(self.config.eval.threshold), "eval.threshold"
        return DEFAULT_THRESHOLD, "default: figures of several labels need none"

    def central_box(self, run: OpenedRun) -> np.ndarray | None:
        """The best fixed box of the training list, whatever the classes."""
        return fit_central_box(run.lists.train)

    def cards(self, source: Source, results: Results, threshold: float) -> list[Card]:
        """A fixed draw."""
        return heat_cards(self.config, source, results, threshold)


def detect(maps: np.ndarray, share: float, size: tuple[int, int]) -> Detections:
    """Boxes around what is above a share of each class map's maximum, scored by the sum inside.

    Redondo-Cabrera et al. 2018, section IV-D. The maps stay raw, so that a class that is not there
    scores low; one without a positive maximum has no box.

    Args:
      maps: (h, w, C) raw class maps; enlarged bilinearly to the image.
      share: of a map's maximum, in [0, 1). size: (width, height) of the image.

    Returns:
      (N, 4) x0 y0 x1 y1, inclusive, in pixels; (N,) scores, the map's sum inside the region over
      the image's pixels, so that large photos rank as small ones do; (N,) classes.
    """
    boxes, scores, labels = [np.zeros((0, 4), np.int64)], [np.zeros(0)], [np.zeros(0, np.int64)]
    for c in np.flatnonzero(maps.max(axis=(0, 1)) > 0):
        plane = np.ascontiguousarray(maps[..., c], np.float32)
        large = cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR)
        found, sums = component_boxes(large, share * float(large.max()))
        boxes.append(found)
        scores.append(sums / (size[0] * size[1]))
        labels.append(np.full(len(found), c))
    return tuple(map(np.concatenate, (boxes, scores, labels)))


def central_detections(found: Detections, central: np.ndarray, size: tuple[int, int]) -> Detections:
    """Puts a fixed central box in place of each class's boxes, as sure as the surest of them.

    A baseline that looks at no pixel for the place; classes and confidences are the maps' own.

    Args:
      found: an image's detections. central: (4,) x0 y0 x1 y1, inclusive, in the frame of the maps.
      size: (width, height) of the image.

    Returns:
      As ``detect``: a box, in pixels of the image, for each of the classes found.
    """
    _, scores, labels = found
    width, height = (central[2:] - central[:2] + 1) / MAP_SIZE
    classes, owners = np.unique(labels, return_inverse=True)
    best = np.full(len(classes), -np.inf)
    np.maximum.at(best, owners, scores)
    box = baselines.central_box(width, height, size)
    return np.tile(box, (len(classes), 1)), best, classes


def _only_difficult(record: Record) -> np.ndarray:
    """(L,) bool: which of the image's classes it shows in difficult objects alone."""
    hard = np.zeros(len(record.boxes), bool) if record.difficult is None else record.difficult
    shown = set(record.box_labels[hard].tolist()) - set(record.box_labels[~hard].tolist())
    return np.array([c in shown for c in record.labels], bool)


def _enlarged(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(h, w, C) bilinearly at the mask's size; classes that it does not show stay empty."""
    height, width = mask.shape
    large = np.zeros((height, width, maps.shape[-1]), np.float32)
    for value in np.unique(mask):
        if 1 <= value <= maps.shape[-1]:
            plane = np.ascontiguousarray(maps[..., value - 1], np.float32)
            large[..., value - 1] = cv2.resize(plane, (width, height))
    return large
