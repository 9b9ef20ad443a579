"""What a list's maps, places, boxes and classes were found to be, of images of several classes."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from wsol_jax.evaluate.results import Results, known
from wsol_jax.metrics import accumulator
from wsol_jax.metrics.bootstrap import Difference, bootstrap_interval
from wsol_jax.metrics.detection import IOUS, NMS_IOU, DetectionAP
from wsol_jax.metrics.location import TOLERANCE, LocationAP
from wsol_jax.metrics.per_image import PerImage
from wsol_jax.metrics.saliency import RAW_EDGES, SaliencyAP

# Accumulator, its figure -> the name in metrics.json.
FIGURES = {
    ("saliency", "pooled"): "saliency_ap",
    ("saliency", "per_map"): "saliency_ap_per_map",
    ("location", "map"): "location_map",
    ("centre", "map"): "centre_location_map",
    ("presence", "map"): "class_map",
    ("detection", f"map@{IOUS[0]:g}"): "detection_map",
    ("detection", f"map@{IOUS[1]:g}"): "detection_map_20",
    ("central", f"map@{IOUS[0]:g}"): "central_detection_map",
    ("central", f"map@{IOUS[1]:g}"): "central_detection_map_20",
}


_BY_CLASS = {
    ("saliency", "pooled_by_class"): "saliency_ap",
    ("location", "ap"): "location_ap",
    ("presence", "ap"): "class_ap",
    ("detection", f"ap@{IOUS[0]:g}"): "detection_ap",
}


PRESENT = 0.5  # class score from which a class of several is said to be there
_MEASURED = ("saliency", "location", "centre", "presence", "detection", "central")


class MultiLabelScores(Results):
    """Maps, places, boxes and classes of a list whose images may show several classes.

    Attributes:
      tolerance: of ``location``, in pixels of the stored images.
      saliency: raw maps of the classes present against their pixels (section 5).
      location: the maps' peaks against the boxes (section 6), of all classes.
      centre: the same confidences with the image's centre as the place: how hard the task is.
      presence: the class scores as a ranking of the images, whatever the place.
      detection: boxes around the maps' regions, of all classes.
      central: the same classes and confidences with the best fixed box as the place; of no image
        where no training box is known.
      peaks: (C, 2) x y of each class's peak in pixels, NaN for classes that the image lacks.
      ious: of no image: no box is drawn here.
    """

    ROWS: ClassVar[Mapping[str, type]] = {
        "saliency": SaliencyAP,
        "location": LocationAP,
        "centre": LocationAP,
        "presence": LocationAP,
        "detection": DetectionAP,
        "central": DetectionAP,
        "peaks": PerImage,
    }
    NEWER = ("detection", "central")
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
        self.central = DetectionAP(classes, IOUS, nms_iou=None)  # a box a class: none to suppress
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
        """metrics.json's entry of a list; a figure that the list has no truth for is None.

        Those of the central box are left out where it is not known.
        """
        del threshold  # the figures here need none
        figures: dict[str, Any] = {}
        spans: dict[str, Any] = {}
        by_class: dict[str, dict[str, float]] = {}
        for name in _MEASURED:
            part = getattr(self, name)
            values = part.compute()
            ends = part.intervals() if intervals else {}
            for (owner, key), shown in FIGURES.items():
                if owner != name:
                    continue
                value = known(values[key])
                if value is not None or name != "central":  # no fixed box: no row of it
                    figures[shown] = value
                if value is not None and intervals:
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

    def ids(self) -> tuple[str, ...]:
        return self.location.images.ids()

    def _obstacle(self, other: "MultiLabelScores") -> str:
        if self.class_names != other.class_names:
            return "were scored on different classes"
        if self.tolerance != other.tolerance:
            return "were scored with different tolerances"
        rows = ("saliency", "centre", "presence")
        mine = (getattr(self, name).images.ids() for name in rows)
        theirs = (getattr(other, name).images.ids() for name in rows)
        return "" if tuple(mine) == tuple(theirs) else "have the truth of different images"

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
            if name in cls.NEWER and not all(len(one) for side in sides for one in side):
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
