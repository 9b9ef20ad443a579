"""Segmentations of a list scored: a segmenter's before and after its CRF, and thresholded maps."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.data.decode import decode_rgb
from wsol_jax.data.records import Source
from wsol_jax.evaluate.localize import localize_list
from wsol_jax.evaluate.segment_scores import SegmentationScores
from wsol_jax.methods import Method
from wsol_jax.ops.crf import CrfSettings, dense_crf

_CHANNELS = 64
BEFORE_CRF, CAM = "before_crf", "cam"  # parts: what the figures without a name are compared with


def check_options(options: Any, class_names: Sequence[str]) -> None:
    """Raises UserError for what a segmentation could not be scored by, before any work."""
    unknown = [name for name in options.mean_classes if name not in class_names]
    if unknown:
        raise UserError(
            f"eval.mean_classes: {unknown[0]!r} is not one of the data's: {', '.join(class_names)}."
        )
    fixed = options.map_thresholds
    if fixed and (len(fixed) != 2 or not all(0 <= value < 1 for value in fixed)):
        raise UserError(
            f"eval.map_thresholds: expected a share and a class score in [0, 1), got {fixed}."
        )
    CrfSettings.of(options.crf, "eval.crf", "lattice")
    clip = options.crf.clip
    if not 0 < clip < 1:
        raise UserError(f"eval.crf.clip: expected a probability between 0 and 1, got {clip}.")


def segment_probabilities(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A segmenter's maps at the image's size, with background's in front.

    Args:
      maps: (h, w, C) probabilities that sum to 1 at most.
      size: (width, height).

    Returns:
      (H, W, 1 + C) float32.
    """
    background = np.clip(1 - maps.sum(axis=-1, keepdims=True), 0, 1)
    whole = np.concatenate([background, maps], axis=-1).astype(np.float32)
    return _resize(whole, size)


def _resize(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w, C) -> (H, W, C) bilinearly, as many channels at a time as OpenCV takes."""
    parts = [maps[..., i : i + _CHANNELS] for i in range(0, maps.shape[-1], _CHANNELS)]
    large = [cv2.resize(x, size, interpolation=cv2.INTER_LINEAR) for x in parts]
    return np.concatenate([x.reshape(*size[::-1], -1) for x in large], axis=-1)


def apply_crf(probabilities: np.ndarray, image: np.ndarray, options: Any) -> np.ndarray:
    """(H, W, 1 + C) probabilities brought to the photo's edges by the lattice CRF."""
    settings = CrfSettings.of(options, "eval.crf", "lattice")
    unary = -np.log(np.clip(probabilities, options.clip, 1))
    return np.asarray(dense_crf(unary, image, **dataclasses.asdict(settings)))


def score_list(
    config: Any,
    method: Method,
    variables: Any,
    source: Source,
    mesh: Any,
    *,
    parts: bool = True,
    keep: Callable[[int], bool] = lambda index: False,
    stop: Callable[[], Any] = lambda: None,
    what: str = "",
) -> SegmentationScores:
    """Scores a segmenter on a list in one pass; images without a mask are left out.

    Args:
      parts: with the CRF, and without it as a part. False: without it alone, which is quick.
      keep: of which records (by index) the segmentations are kept for the report.
      stop, what: see ``localize_list``.
    """
    settings = tuple(source.class_names), tuple(config.eval.mean_classes)
    scores = SegmentationScores(*settings)
    if parts:
        scores.parts[BEFORE_CRF] = SegmentationScores(*settings)
    options = dict(every_map=True, parts=False, stop=stop, what=what)
    for image in localize_list(config, method, variables, source, mesh, **options):
        record, truth = source[image.index], source.mask(image.index)
        if truth is None:
            continue
        probabilities = segment_probabilities(image.maps, truth.shape[::-1])
        plain = probabilities.argmax(axis=-1).astype(np.uint8)
        found = {"": (scores, plain)}
        if parts:
            photo = decode_rgb(record.image, record.image_id)
            sharp = apply_crf(probabilities, photo, config.eval.crf)
            found = {
                "": (scores, sharp.argmax(axis=-1).astype(np.uint8)),
                BEFORE_CRF: (scores.parts[BEFORE_CRF], plain),
            }
        for into, labels in found.values():
            into.update(record.image_id, truth, labels)
            if keep(image.index):
                into.labels[image.index] = labels
        scores.true_maps[image.index] = image.true_map
    return scores


@dataclasses.dataclass(frozen=True)
class MapThresholds:
    """How class maps become a segmentation without training one.

    Attributes:
      share: a class's pixels are those above this share of its map's maximum.
      presence: a class is there where its score is above this.
    """

    share: float = 0.2
    presence: float = 0.5


_SHARES = tuple(k / 20 for k in range(1, 13))
_PRESENCES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def choose_map_thresholds(
    config: Any, method: Method, variables: Any, source: Source | None, mesh: Any
) -> MapThresholds:
    """The thresholds of the highest mean IoU on the tune list; without its masks, the defaults."""
    if source is None:
        return MapThresholds()
    names, means = tuple(source.class_names), tuple(config.eval.mean_classes)
    every = [MapThresholds(s, p) for s in _SHARES for p in _PRESENCES]
    scores = {each: SegmentationScores(names, means) for each in every}
    for image, truth in _with_masks(config, method, variables, source, mesh, "thresholds"):
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
    config: Any,
    method: Method,
    variables: Any,
    source: Source,
    mesh: Any,
    thresholds: MapThresholds,
    keep: Callable[[int], bool] = lambda index: False,
    what: str = "",
) -> SegmentationScores:
    """The baseline: the highest of the thresholded class maps in each pixel, else background."""
    scores = SegmentationScores(tuple(source.class_names), tuple(config.eval.mean_classes))
    for image, truth in _with_masks(config, method, variables, source, mesh, what):
        which, height = _ranked_maps(image, thresholds.presence, truth.shape)
        labels = np.where(height > thresholds.share, which, 0).astype(np.uint8)
        scores.update(source[image.index].image_id, truth, labels)
        if keep(image.index):
            scores.labels[image.index] = labels
    return scores


def _with_masks(config, method, variables, source, mesh, what):
    options = dict(every_map=True, parts=False, what=what)
    for image in localize_list(config, method, variables, source, mesh, **options):
        truth = source.mask(image.index)
        if truth is not None:
            yield image, truth


def _ranked_maps(image, presence: float, shape: tuple[int, int]):
    """(H, W) the class of the highest map, and its share of that map's maximum."""
    chosen = np.flatnonzero(image.probabilities > presence)
    maps = np.maximum(image.maps[..., chosen], 0).astype(np.float32)
    top = maps.max(axis=(0, 1), initial=0)
    if not len(chosen) or not top.any():
        return np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    maps = _resize(maps / np.maximum(top, 1e-12), shape[::-1])
    best = maps.argmax(axis=-1)
    height = np.take_along_axis(maps, best[..., None], axis=-1)[..., 0]
    return (1 + chosen[best]).astype(np.uint8), height
