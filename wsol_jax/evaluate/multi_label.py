"""Class maps of images with several labels, scored as Kim et al. 2017 score theirs."""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_arrays
from wsol_jax.base.threads import in_order
from wsol_jax.data.records import Source
from wsol_jax.evaluate.localize import LocalizedImage, localize_list
from wsol_jax.evaluate.scores import merge_parts, rows_of, to_rows
from wsol_jax.methods import Method
from wsol_jax.metrics import accumulator
from wsol_jax.metrics.bootstrap import Difference, bootstrap_interval
from wsol_jax.metrics.per_image import PerImage
from wsol_jax.metrics.saliency import RAW_EDGES, LocationAP, SaliencyAP, peaks

# Accumulator, its figure -> the name in metrics.json.
FIGURES = {
    ("saliency", "pooled"): "saliency_ap",
    ("saliency", "per_map"): "saliency_ap_per_map",
    ("location", "map"): "location_map",
    ("centre", "map"): "centre_location_map",
    ("presence", "map"): "class_map",
}
_BY_CLASS = {
    ("saliency", "pooled_by_class"): "saliency_ap",
    ("location", "ap"): "location_ap",
    ("presence", "ap"): "class_ap",
}
_PARTS = ("saliency", "location", "centre", "presence")


@dataclasses.dataclass
class MultiLabelScores:
    """Everything measured on a list; each part holds a row per image and merges.

    Attributes:
      class_names: C of them.
      tolerance: of ``location``, in pixels of the stored images.
      saliency: raw maps of the classes present against their pixels (section 5).
      location: the maps' peaks against the boxes (section 6), of all classes.
      centre: the same confidences with the image's centre as the place: how hard the task is.
      presence: the class scores as a ranking of the images, whatever the place.
      peaks: (C, 2) x y of each class's peak in pixels, NaN for classes that the image lacks.
      parts: the same of the maps that these were put together from, by name.
      true_maps, predicted: (index -> raw map of the first label, likeliest class), for the report.
    """

    class_names: tuple[str, ...]
    tolerance: float = 18.0
    parts: dict[str, "MultiLabelScores"] = dataclasses.field(default_factory=dict)
    true_maps: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    predicted: dict[int, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        classes = len(self.class_names)
        self.saliency = SaliencyAP(classes, RAW_EDGES)
        self.location = LocationAP(classes, self.tolerance)
        self.centre = LocationAP(classes, self.tolerance)
        self.presence = LocationAP(classes, 0.0)
        self.peaks = PerImage((classes, 2), np.float32)
        self.ious = PerImage((), np.float32)  # no boxes are drawn here: the gallery finds none

    def __len__(self) -> int:
        return len(self.location)

    def merge(self, other: "MultiLabelScores") -> "MultiLabelScores":
        """Both lists; an image in both counts once."""
        merged = MultiLabelScores(self.class_names, self.tolerance)
        for name in (*_PARTS, "peaks"):
            both = getattr(self, name).merge(getattr(other, name), overlap=True)
            setattr(merged, name, both)
        merged.parts = merge_parts(self.parts, other.parts)
        return merged

    def figures(self, threshold: float = 0.0, intervals: bool = True) -> dict[str, Any]:
        """metrics.json's entry of a list; a figure that the list has no truth for is None."""
        del threshold  # the figures here need none
        figures: dict[str, Any] = {}
        spans: dict[str, Any] = {}
        by_class: dict[str, dict[str, float]] = {}
        for name in _PARTS:
            part = getattr(self, name)
            values = part.compute()
            ends = part.intervals() if intervals else {}
            for (owner, key), shown in FIGURES.items():
                if owner == name:
                    figures[shown] = _known(values[key])
                    if figures[shown] is not None and intervals:
                        spans[shown] = list(map(float, ends[key]))
            for (owner, key), shown in _BY_CLASS.items():
                if owner == name:
                    known = zip(self.class_names, map(_known, values[key]), strict=True)
                    by_class[shown] = {c: v for c, v in known if v is not None}
        if len(self.parts) > 1:
            distances = peak_distances(*list(self.parts.values())[:2])
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

    def save(self, path: pathlib.Path) -> None:
        """Per-image rows, without pickles, for paired comparisons of runs."""
        arrays = {"class_names": np.array(self.class_names, np.str_)}
        write_arrays(path, arrays | to_rows(self, (*_PARTS, "peaks")))

    @classmethod
    def load(cls, path: pathlib.Path) -> "MultiLabelScores":
        """The inverse of ``save``."""
        with np.load(path, allow_pickle=False) as file:
            parts = {name: rows_of(file, name) for name in (*_PARTS, "peaks")}
            made = cls(tuple(map(str, file["class_names"])), float(parts["location"]["tolerance"]))
        for name in (*_PARTS, "peaks"):
            setattr(made, name, type(getattr(made, name)).from_arrays(parts[name]))
        return made

    def is_comparable(self, other: "MultiLabelScores") -> bool:
        """Whether two runs were scored on the same images, classes and tolerance."""
        same = (self.class_names, self.tolerance) == (other.class_names, other.tolerance)
        return same and all(
            getattr(self, name).images.ids() == getattr(other, name).images.ids() for name in _PARTS
        )


def compare_means(
    a: Sequence[MultiLabelScores], b: Sequence[MultiLabelScores], seed: int = 0
) -> dict[str, Difference]:
    """Mean of b's runs minus that of a's, figure by figure, each with its 95% interval over images.

    Raises:
      ValueError: other images or classes.
    """
    if len({run.class_names for run in (*a, *b)}) > 1:
        raise ValueError("the runs were scored on different classes")
    found = {}
    for name in _PARTS:
        sides = [[getattr(run, name) for run in side] for side in (a, b)]
        values = accumulator.compare_means(*sides, seed)
        found |= {FIGURES[name, k]: v for k, v in values.items() if (name, k) in FIGURES}
    return found


def is_multi_label(path: pathlib.Path) -> bool:
    """Whether a file of per-image rows is of this kind."""
    with np.load(path, allow_pickle=False) as file:
        return any(name.startswith("location/") for name in file.files)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


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


@dataclasses.dataclass(frozen=True)
class _Scorer:
    """One image's host work: maps at the image's size, peaks, and what is true of it."""

    source: Source

    def __call__(self, image: LocalizedImage) -> dict[str, Any]:
        record = self.source[image.index]
        mask = self.source.mask(image.index)
        found = {}
        for name, seen in {"": image, **image.parts}.items():
            points, scores = peaks(seen.maps, image.size)
            found[name] = {"points": points, "scores": scores}
            if mask is not None:
                found[name]["maps"] = _enlarged(seen.maps, mask)
        return {"image": image, "record": record, "mask": mask, "found": found}


def _enlarged(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(h, w, C) bilinearly at the mask's size; classes that it does not show stay empty."""
    height, width = mask.shape
    large = np.zeros((height, width, maps.shape[-1]), np.float32)
    for value in np.unique(mask):
        if 1 <= value <= maps.shape[-1]:
            plane = np.ascontiguousarray(maps[..., value - 1], np.float32)
            large[..., value - 1] = cv2.resize(plane, (width, height))
    return large


def score_list(
    config: Any,
    method: Method,
    variables: Any,
    source: Source,
    mesh: Any,
    *,
    parts: bool = True,
    stop: Callable[[], Any] = lambda: None,
    what: str = "",
) -> MultiLabelScores:
    """Scores a list in one pass; ``parts``, ``stop`` and ``what`` as for ``localize_list``."""
    if config.eval.class_scores:
        raise UserError("eval.class_scores: only for images of one label each.")
    names, tolerance = tuple(source.class_names), float(config.eval.tolerance)
    scores = MultiLabelScores(names, tolerance)
    options = dict(every_map=True, parts=parts, stop=stop, what=what)
    images = localize_list(config, method, variables, source, mesh, **options)
    with concurrent.futures.ThreadPoolExecutor(max(config.data.threads, 1)) as pool:
        # Few ahead: each holds whole images of maps.
        for result in in_order(pool, _Scorer(source), images, ahead=8):
            image = result["image"]
            for part, found in result["found"].items():
                into = scores
                if part:
                    into = scores.parts.setdefault(part, MultiLabelScores(names, tolerance))
                _update(into, result, found)
            if result["record"].labels:
                scores.true_maps[image.index] = image.true_map
            scores.predicted[image.index] = int(image.ranked[0])
    return scores


def _update(scores: MultiLabelScores, result: dict[str, Any], found: dict[str, Any]) -> None:
    image, record, mask = result["image"], result["record"], result["mask"]
    points, confidences = found["points"], found["scores"]
    truth = (record.boxes, record.box_labels, image.size)
    scores.location.update_peaks(record.image_id, points, confidences, *truth)
    middle = np.tile(np.array(image.size) // 2, (len(points), 1))
    scores.centre.update_peaks(record.image_id, middle, confidences, *truth)
    # A box a class that holds every point: found wherever the class is.
    whole = np.tile([0, 0, *image.size], (len(record.labels), 1))
    present = (whole, record.labels, image.size)
    scores.presence.update_peaks(record.image_id, middle, image.probabilities, *present)
    own = np.full((len(points), 2), np.nan)
    own[list(record.labels)] = points[list(record.labels)]
    scores.peaks.update([record.image_id], own[None])
    if mask is not None:
        scores.saliency.update(record.image_id, found["maps"], mask)
