"""Thresholded class maps: how an image could be segmented without training a segmenter."""

import dataclasses
from collections.abc import Collection, Iterator

import numpy as np

from wsol_jax.data.records import Source
from wsol_jax.evaluate.kind import Baseline
from wsol_jax.evaluate.localize import LocalizedImage, localize_list
from wsol_jax.evaluate.photo_size import resize_maps
from wsol_jax.evaluate.segment_scores import SegmentationScores
from wsol_jax.runs.opened import Network, OpenedRun

CAM = "cam"  # the part's name


@dataclasses.dataclass(frozen=True)
class MapThresholds:
    """Where class maps are cut.

    Attributes:
      share: a class's pixels are those above this share of its map's maximum.
      presence: a class is there where its score is above this.
    """

    share: float = 0.2
    presence: float = 0.5


_SHARES = tuple(k / 20 for k in range(1, 13))
_PRESENCES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


class Thresholded(Baseline):
    """An earlier network's class maps, cut where a run's config or its tune list says."""

    name = CAM

    def __init__(self, run: OpenedRun, maps: Network):
        """``maps``: the network; ``run``: what it is compared with."""
        self._maps = maps
        self._means = tuple(run.config.eval.mean_classes)
        fixed = run.config.eval.map_thresholds
        self.thresholds = (
            MapThresholds(*fixed)
            if fixed
            else choose_map_thresholds(maps, run.lists.tune, self._means)
        )
        self.figures = {"map_thresholds": dataclasses.asdict(self.thresholds)}

    def score(self, source: Source, shown: Collection[int], what: str) -> SegmentationScores:
        """Scores a list."""
        return score_maps(self._maps, source, self._means, self.thresholds, shown, what)


def choose_map_thresholds(
    network: Network, source: Source | None, mean_classes: tuple[str, ...]
) -> MapThresholds:
    """The thresholds of the highest mean IoU on the tune list; without its masks, the defaults."""
    if source is None:
        return MapThresholds()
    names = tuple(source.class_names)
    every = [MapThresholds(s, p) for s in _SHARES for p in _PRESENCES]
    scores = {each: SegmentationScores(names, mean_classes) for each in every}
    for image, truth in _with_masks(network, source, "thresholds"):
        image_id = source[image.index].image_id
        for presence in _PRESENCES:
            which, height = _ranked_maps(image, presence, truth.shape)
            for share in _SHARES:
                found = np.where(height > share, which, 0)
                into = scores[MapThresholds(share, presence)].confusion
                into.update(image_id, truth, found)
    if not any(len(each.confusion) for each in scores.values()):
        return MapThresholds()
    best = lambda each: scores[each].confusion.compute(**scores[each].options())["miou"]
    return max(every, key=best)


def score_maps(
    network: Network,
    source: Source,
    mean_classes: tuple[str, ...],
    thresholds: MapThresholds,
    shown: Collection[int] = (),
    what: str = "",
) -> SegmentationScores:
    """The highest of the thresholded class maps in each pixel, else background, scored.

    ``shown``: the records whose segmentations are kept for the report.
    """
    scores = SegmentationScores(tuple(source.class_names), mean_classes)
    for image, truth in _with_masks(network, source, what):
        which, height = _ranked_maps(image, thresholds.presence, truth.shape)
        labels = np.where(height > thresholds.share, which, 0).astype(np.uint8)
        scores.update(source[image.index].image_id, truth, labels)
        if image.index in shown:
            scores.labels[image.index] = labels
    return scores


def _with_masks(
    network: Network, source: Source, what: str
) -> Iterator[tuple[LocalizedImage, np.ndarray]]:
    for image in localize_list(network, source, every_map=True, parts=False, what=what):
        truth = source.mask(image.index)
        if truth is not None:
            yield image, truth


def _ranked_maps(
    image: LocalizedImage, presence: float, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) the class of the highest map, and its share of that map's maximum."""
    chosen = np.flatnonzero(image.probabilities > presence)
    maps = np.maximum(image.maps[..., chosen], 0).astype(np.float32)
    top = maps.max(axis=(0, 1), initial=0)
    if not len(chosen) or not top.any():
        return np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    maps = resize_maps(maps / np.maximum(top, 1e-12), shape[::-1])
    best = maps.argmax(axis=-1)
    height = np.take_along_axis(maps, best[..., None], axis=-1)[..., 0]
    return (1 + chosen[best]).astype(np.uint8), height
