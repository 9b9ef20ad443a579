"""From what a network gives of a photo to what is in it: labels, maps, boxes."""

import dataclasses
import numbers
from collections.abc import Sequence

import cv2
import numpy as np

from wsol_jax.api import photos
from wsol_jax.api.result import Result
from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.data.records import Record
from wsol_jax.evaluate.localize import LocalizedImage
from wsol_jax.evaluate.multi_label_scores import PRESENT
from wsol_jax.evaluate.photo_size import apply_crf, segment_probabilities
from wsol_jax.metrics.boxes import boxes_from_score_map, outer_boxes
from wsol_jax.metrics.maps import MAP_SIZE, NotFinite, prepare_map
from wsol_jax.report import encode

BOXES = ("largest", "all")
_SEGMENTED = 500  # pixels a side: what the CRF's defaults are meant for


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is wanted of a photo.

    Attributes:
      threshold: of the boxes, 0 to below 1.
      boxes: "largest" of each class, or "all".
      several: an image may have several classes; else the likeliest is in it.
      min_score: the least probability of a class that is in the photo.
      classes: those that may be in it, by index; none named: all.
    """

    threshold: float
    boxes: str = "largest"
    several: bool = False
    min_score: float = 0.0
    classes: tuple[int, ...] = ()


def wanted(
    class_names: Sequence[str],
    several: bool,
    threshold: float,
    boxes: str = "largest",
    min_score: float | None = None,
    classes: Sequence[str] = (),
) -> Wanted:
    """Checks what a user asks for.

    Args:
      several: an image may have several classes.
      min_score: None is 0.5 where it may, else 0.

    Raises:
      UserError: a value out of its range, or a class that the run does not know.
    """
    if not _is_number(threshold) or not 0 <= threshold < 1:
        raise UserError(f"threshold={threshold}: expected 0 to below 1.")
    if boxes not in BOXES:
        raise UserError(f"boxes={boxes!r} is not one of {', '.join(map(repr, BOXES))}.")
    if min_score is None:
        min_score = PRESENT if several else 0.0
    if not _is_number(min_score) or not 0 <= min_score <= 1:
        raise UserError(f"min_score={min_score}: expected 0 to 1.")
    classes = [classes] if isinstance(classes, str) else classes or ()
    indices = tuple(class_index(name, class_names) for name in classes)
    return Wanted(threshold, boxes, several, min_score, indices)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real)


def class_index(name: str, class_names: Sequence[str]) -> int:
    """The index of a class. Raises UserError where the run has none of that name."""
    if name not in class_names:
        shown = ", ".join(class_names[:20]) + ", ..." * (len(class_names) > 20)
        raise UserError(f"class {name!r} is none of this run's {len(class_names)}: {shown}.")
    return tuple(class_names).index(name)


def answer(
    image: LocalizedImage,
    photo: Record,
    class_names: tuple[str, ...],
    wanted: Wanted,
    crf: Config,
) -> Result:
    """What is in a photo.

    Args:
      image: what the network says; with all maps where ``wanted`` names several classes.
      crf: the section ``eval.crf``, which brings a segmentation to the photo's edges.

    Raises:
      UserError: the network's maps are no numbers.
    """
    order = np.argsort(-image.probabilities, kind="stable").tolist()
    if wanted.classes:
        order = [c for c in order if c in wanted.classes]
    segmentation = _segment(image, photo, crf) if image.segmented else None
    likely = [c for c in order if image.probabilities[c] >= wanted.min_score]
    if segmentation is not None and wanted.several:
        seen = set(np.unique(segmentation).tolist())
        present = [c for c in likely if 1 + c in seen]
    else:
        present = likely if wanted.several else [c for c in order[:1] if c in likely]
    try:
        maps = {c: prepare_map(_raw_map(image, c)) for c in dict.fromkeys([order[0], *present])}
    except NotFinite as error:
        raise UserError(f"{photo.image_id}: {error}: the run's network has diverged.") from None
    found = [_boxes(maps[c], c, segmentation, wanted, image.size) for c in present]
    boxes = np.concatenate([np.zeros((0, 4)), *found])
    boxes.setflags(write=False)
    return Result(
        name=photo.image_id,
        size=image.size,
        class_names=class_names,
        probabilities=image.probabilities,
        classes=tuple(present),
        boxes=boxes,
        box_classes=np.repeat(np.array(present, np.int64), [len(boxes) for boxes in found]),
        threshold=wanted.threshold,
        score_maps=maps,
        segmentation=segmentation,
        photo=photo,
    )


def _raw_map(image: LocalizedImage, index: int) -> np.ndarray:
    """(h, w), the raw map of a class."""
    if image.maps is not None:
        return image.maps[..., index]
    return image.class_maps[image.ranked.tolist().index(index)]


def _boxes(
    score_map: np.ndarray,
    index: int,
    segmentation: np.ndarray | None,
    wanted: Wanted,
    size: tuple[int, int],
) -> np.ndarray:
    """(k, 4) edges in the photo's pixels: around a class's heat, or a segmenter's region of it."""
    if segmentation is not None:
        region = (segmentation == 1 + index).astype(np.float32)
        score_map = cv2.resize(region, (MAP_SIZE, MAP_SIZE), interpolation=cv2.INTER_NEAREST)
    if not score_map.any():
        return np.zeros((0, 4))
    if wanted.boxes == "all":
        corners = outer_boxes(score_map, wanted.threshold)
    else:
        corners = boxes_from_score_map(score_map, [wanted.threshold])[0]
    # Inclusive corners of the map's cells -> edges in the photo's pixels.
    return (corners + (0, 0, 1, 1)) * (np.array([*size, *size]) / MAP_SIZE)


def _segment(image: LocalizedImage, photo: Record, crf: Config) -> np.ndarray:
    """(h, w) uint8 classes of a photo, found on at most _SEGMENTED pixels a side."""
    small = encode.shrink(photos.pixels(photo), _SEGMENTED)
    probabilities = segment_probabilities(image.maps, small.shape[1::-1])
    return apply_crf(probabilities, small, crf).argmax(axis=-1).astype(np.uint8)
