"""Several labels: maps of images that may show several classes, scored as Kim et al. 2017 do.

Beside their figures, detection: boxes around the maps' regions, ranked over the list
(Redondo-Cabrera et al. 2018, section IV-D).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import cv2
import ml_collections
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.data.records import Source
from wsol_jax.evaluate.boxes import DEFAULT_THRESHOLD, heat_cards
from wsol_jax.evaluate.kind import Kind, Results, Row, Task, Truth, known
from wsol_jax.evaluate.localize import LocalizedImage
from wsol_jax.evaluate.shown import Card
from wsol_jax.metrics import accumulator
from wsol_jax.metrics.bootstrap import Difference, bootstrap_interval
from wsol_jax.metrics.boxes import nearest_threshold
from wsol_jax.metrics.detection import IOUS, NMS_IOU, DetectionAP, component_boxes
from wsol_jax.metrics.per_image import PerImage
from wsol_jax.metrics.saliency import RAW_EDGES, TOLERANCE, LocationAP, SaliencyAP, peaks

SHARE = 0.6  # of a map's maximum: what is above it belongs to an object

# Accumulator, its figure -> the name in metrics.json.
FIGURES = {
    ("saliency", "pooled"): "saliency_ap",
    ("saliency", "per_map"): "saliency_ap_per_map",
    ("location", "map"): "location_map",
    ("centre", "map"): "centre_location_map",
    ("presence", "map"): "class_map",
    ("detection", f"map@{IOUS[0]:g}"): "detection_map",
    ("detection", f"map@{IOUS[1]:g}"): "detection_map_20",
}
_BY_CLASS = {
    ("saliency", "pooled_by_class"): "saliency_ap",
    ("location", "ap"): "location_ap",
    ("presence", "ap"): "class_ap",
    ("detection", f"ap@{IOUS[0]:g}"): "detection_ap",
}
_MEASURED = ("saliency", "location", "centre", "presence", "detection")


class MultiLabelScores(Results):
    """Maps, places, boxes and classes of a list whose images may show several classes.

    Attributes:
      tolerance: of ``location``, in pixels of the stored images.
      saliency: raw maps of the classes present against their pixels (section 5).
      location: the maps' peaks against the boxes (section 6), of all classes.
      centre: the same confidences with the image's centre as the place: how hard the task is.
      presence: the class scores as a ranking of the images, whatever the place.
      detection: boxes around the maps' regions, of all classes.
      peaks: (C, 2) x y of each class's peak in pixels, NaN for classes that the image lacks.
      ious: of no image: no box is drawn here.
    """

    ROWS: ClassVar[Mapping[str, type]] = {
        "saliency": SaliencyAP,
        "location": LocationAP,
        "centre": LocationAP,
        "presence": LocationAP,
        "detection": DetectionAP,
        "peaks": PerImage,
    }
    NEWER = ("detection",)
    MARK = "location"

    def __init__(
        self,
        class_names: Sequence[str] = (),
        tolerance: float = TOLERANCE,
        parts: Mapping[str, Results] | None = None,
        nms_iou: float = NMS_IOU,
    ):
        super().__init__(class_names, parts)
        self.tolerance = tolerance
        classes = len(self.class_names)
        self.saliency = SaliencyAP(classes, RAW_EDGES)
        self.location = LocationAP(classes, tolerance)
        self.centre = LocationAP(classes, tolerance)
        self.presence = LocationAP(classes, 0.0)
        self.detection = DetectionAP(classes, IOUS, nms_iou)
        self.peaks = PerImage((classes, 2), np.float32)
        self.ious = PerImage((), np.float32)

    def __len__(self) -> int:
        return len(self.location)

    def _like(self) -> "MultiLabelScores":
        nms_iou = self.detection.nms_iou
        return MultiLabelScores(self.class_names, self.tolerance, nms_iou=nms_iou)

    @classmethod
    def _made(cls, texts, parts) -> "MultiLabelScores":
        nms_iou = float(parts["detection"].get("nms_iou", NMS_IOU))
        return cls(texts["class_names"], float(parts["location"]["tolerance"]), nms_iou=nms_iou)

    def figures(self, threshold: float = 0.0, intervals: bool = True) -> dict[str, Any]:
        """metrics.json's entry of a list; a figure that the list has no truth for is None."""
        del threshold  # the figures here need none
        figures: dict[str, Any] = {}
        spans: dict[str, Any] = {}
        by_class: dict[str, dict[str, float]] = {}
        for name in _MEASURED:
            part = getattr(self, name)
            values = part.compute()
            ends = part.intervals() if intervals else {}
            for (owner, key), shown in FIGURES.items():
                if owner == name:
                    figures[shown] = known(values[key])
                    if figures[shown] is not None and intervals:
                        spans[shown] = list(map(float, ends[key]))
            for (owner, key), shown in _BY_CLASS.items():
                if owner == name:
                    pairs = zip(self.class_names, map(known, values[key]), strict=True)
                    by_class[shown] = {c: v for c, v in pairs if v is not None}
        distances = self._peak_distances()
        if len(distances):
            figures["peak_distance"] = float(distances.mean())
            if intervals:
                spans["peak_distance"] = list(map(float, bootstrap_interval(distances)))
        figures["images"] = len(self)
        if intervals:
            figures["intervals_95"] = spans
            rows = self.presence.images.rows()
            shown = (rows[..., 1] > 0).sum(axis=0)
            by_class["images"] = dict(zip(self.class_names, map(int, shown), strict=True))
            figures["by_class"] = by_class
        return figures

    def _peak_distances(self) -> np.ndarray:
        """Of the first two parts, an entry an image; none where there are no two."""
        parts = [part for part in self.parts.values() if isinstance(part, MultiLabelScores)]
        return peak_distances(*parts[:2]) if len(parts) > 1 else np.zeros(0)

    def obstacle(self, other: Results) -> str:
        """Why two runs' images cannot be paired, as the end of a sentence; "" if they can."""
        if not isinstance(other, MultiLabelScores):
            return "were scored by different figures"
        same = (self.class_names, self.tolerance) == (other.class_names, other.tolerance)
        rows = ("saliency", "location", "centre", "presence")
        same = same and all(
            getattr(self, name).images.ids() == getattr(other, name).images.ids() for name in rows
        )
        return "" if same else "did not score the same images"

    @classmethod
    def paired(
        cls,
        a: "Sequence[MultiLabelScores]",
        b: "Sequence[MultiLabelScores]",
        thresholds: tuple[Sequence[float], Sequence[float]] = ((), ()),
        seed: int = 0,
    ) -> dict[str, Difference]:
        """Mean of b's runs minus that of a's, figure by figure, each with its 95% interval.

        Raises:
          ValueError: other images or classes.
        """
        del thresholds
        if len({run.class_names for run in (*a, *b)}) > 1:
            raise ValueError("the runs were scored on different classes")
        found = {}
        for name in _MEASURED:
            sides = [[getattr(run, name) for run in side] for side in (a, b)]
            if name == "detection" and not all(len(one) for side in sides for one in side):
                continue
            values = accumulator.compare_means(*sides, seed)
            found |= {FIGURES[name, k]: v for k, v in values.items() if (name, k) in FIGURES}
        return found


def peak_distances(one: MultiLabelScores, other: MultiLabelScores) -> np.ndarray:
    """Pixels between two maps' peaks (section 6.2), the mean over the classes of each image.

    Returns:
      (N,) float64, an entry for each image that shows a class.
    """
    a, b = (np.asarray(x.peaks.rows(), np.float64) for x in (one, other))
    distances = np.sqrt(((a - b) ** 2).sum(axis=-1))
    shown = np.isfinite(distances)
    counts = shown.sum(axis=1)
    return np.where(shown, distances, 0).sum(axis=1)[counts > 0] / counts[counts > 0]


class MultiLabel(Kind):
    """Class maps of images that may show several classes."""

    name = "several labels"
    results = MultiLabelScores
    every_map = True
    ahead = 8  # each holds whole images of maps

    def empty(self, class_names: Sequence[str]) -> MultiLabelScores:
        """Results of no image, at the config's tolerance."""
        options = self.config.eval
        nms_iou = float(_detection(options)["nms_iou"])
        return MultiLabelScores(class_names, float(options.tolerance), nms_iou=nms_iou)

    def score(self, image: LocalizedImage, truth: Truth, task: Task, part: str) -> dict[str, Row]:
        """One image's maps at its size, their peaks and the boxes around their regions."""
        points, scores = peaks(image.maps, image.size)
        row = {"truth": truth, "points": points, "scores": scores, "whole": not part}
        if truth.mask is not None:
            row["maps"] = _enlarged(image.maps, truth.mask)
        located = len(truth.record.boxes) or not truth.record.labels
        if task.contours and located:  # else nobody knows where its objects are
            share = _detection(self.config.eval)["threshold"]
            row["detections"] = detect(image.maps, share, image.size)
        return {part: row}

    def add(self, results: MultiLabelScores, image: LocalizedImage, row: Row) -> None:
        """Enters one image's row."""
        record, mask = row["truth"].record, row["truth"].mask
        points, confidences = row["points"], row["scores"]
        truth = (record.boxes, record.box_labels, image.size)
        results.location.update_peaks(record.image_id, points, confidences, *truth)
        middle = np.tile(np.array(image.size) // 2, (len(points), 1))
        results.centre.update_peaks(record.image_id, middle, confidences, *truth)
        # A box a class that holds every point: found wherever the class is.
        whole = np.tile([0, 0, *image.size], (len(record.labels), 1))
        present = (whole, record.labels, image.size)
        results.presence.update_peaks(record.image_id, middle, image.probabilities, *present)
        own = np.full((len(points), 2), np.nan)
        own[list(record.labels)] = points[list(record.labels)]
        results.peaks.update([record.image_id], own[None])
        if mask is not None:
            results.saliency.update(record.image_id, row["maps"], mask)
        if "detections" in row:
            boxes, scores, labels = row["detections"]
            results.detection.update(record.image_id, boxes, scores, labels, *truth[:2])
        if row["whole"]:
            if record.labels:
                results.true_maps[image.index] = image.true_map
            results.predicted[image.index] = int(image.ranked[0])

    def choose_threshold(self, tune: Results | None) -> tuple[float, str]:
        """The config's, or a fixed one for the boxes that a page draws."""
        del tune
        if self.config.eval.threshold >= 0:
            return nearest_threshold(self.config.eval.threshold), "eval.threshold"
        return DEFAULT_THRESHOLD, "default: figures of several labels need none"

    def cards(self, source: Source, results: Results, threshold: float) -> list[Card]:
        """A fixed draw."""
        return heat_cards(self.config, source, results, threshold)


def _detection(options: ml_collections.ConfigDict) -> Mapping[str, float]:
    """The section eval.detection; what a run of a time before it lacks."""
    return getattr(options, "detection", {"threshold": SHARE, "nms_iou": NMS_IOU})


def check_detection(options: ml_collections.ConfigDict) -> None:
    """Raises UserError for a section ``eval.detection`` that no boxes can be found by."""
    found = _detection(options)
    if not 0 <= found["threshold"] < 1:
        raise UserError(
            f"eval.detection.threshold: expected a share of a map's maximum in [0, 1), got "
            f"{found['threshold']}."
        )
    if not 0 <= found["nms_iou"] <= 1:
        raise UserError(
            f"eval.detection.nms_iou: expected an IoU in [0, 1], got {found['nms_iou']}."
        )


def detect(
    maps: np.ndarray, share: float, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def _enlarged(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(h, w, C) bilinearly at the mask's size; classes that it does not show stay empty."""
    height, width = mask.shape
    large = np.zeros((height, width, maps.shape[-1]), np.float32)
    for value in np.unique(mask):
        if 1 <= value <= maps.shape[-1]:
            plane = np.ascontiguousarray(maps[..., value - 1], np.float32)
            large[..., value - 1] = cv2.resize(plane, (width, height))
    return large
