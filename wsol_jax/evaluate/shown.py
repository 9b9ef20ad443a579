"""Which images of a list a report shows, and what of each."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from wsol_jax.data.records import Source
from wsol_jax.metrics.boxes import boxes_from_score_map, iou
from wsol_jax.metrics.maps import MAP_SIZE, prepare_map


@dataclasses.dataclass(frozen=True)
class Card:
    """What a page shows of one image of a list, but for its photo.

    Attributes:
      index: of the record.
      score_map: (h, w) float32 in [0, 1], the heat.
      predicted: names of the predicted classes.
      true_boxes: (N, 4) x0 y0 x1 y1 as fractions of the image's width and height.
      box: (4,) ours, fractions; None where there is none.
      iou: of our box with a true one, or of our segmentation; None where unknown.
      layers: segmentations by name, (H, W) uint8 classes, 255 unlabelled; none where the image is
        shown as heat and boxes.
      split: the list's name.
      score: of the likeliest class; None where unknown.
    """

    index: int
    score_map: np.ndarray
    predicted: tuple[str, ...]
    true_boxes: np.ndarray
    box: np.ndarray | None = None
    iou: float | None = None
    layers: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    split: str = ""
    score: float | None = None


def heat_card(
    source: Source,
    index: int,
    raw_map: np.ndarray,
    said: tuple[int, float | None],
    threshold: float,
    boxes: tuple[np.ndarray, np.ndarray],
    size: tuple[int, int],
) -> Card:
    """A card of an image whose first class's map is heat, with the box at a threshold.

    Args:
      raw_map: (h, w). said: the likeliest class and its score.
      boxes: the true ones in the frame of the maps, and their classes. size: of the stored image.
    """
    record = source[index]
    score_map = prepare_map(raw_map)
    box = boxes_from_score_map(score_map, [threshold])[0, 0]
    own = boxes[0][boxes[1] == record.labels[0]]
    scale = np.array([*size, *size], np.float64)
    return Card(
        index=index,
        score_map=score_map,
        predicted=(source.class_names[said[0]],),
        true_boxes=np.asarray(record.boxes, np.float64).reshape(-1, 4) / scale,
        box=box / MAP_SIZE,
        iou=float(iou(box[None], own).max()) if len(own) else None,
        split=source.name,
        score=said[1],
    )


WORST_SHARE = 1 / 3  # of a gallery


def choose(image_ids: Sequence[str], ious: Sequence[float | None], wanted: int) -> list[int]:
    """Positions of the images that a gallery of ``wanted`` shows, the worst among them."""
    worst = round(wanted * WORST_SHARE)
    chosen = select_examples(image_ids, ious, worst, wanted - worst)
    return list(dict.fromkeys([*chosen[0], *chosen[1]]))


def select_examples(
    image_ids: Sequence[str],
    ious: Sequence[float | None],
    worst: int = 16,
    sample: int = 32,
) -> tuple[list[int], list[int]]:
    """Which images of one list to show: the lowest IoUs, and a draw that is the same in every run.

    The draw orders images by a hash of their ids, so two runs on one list show the same photos, and
    choosing again among the chosen gives the same choice.

    Args:
      image_ids: unique names.
      ious: IoU of each in [0, 1]; None or NaN (unknown) is never among the worst.
      worst: how many of the lowest IoUs.
      sample: how many to draw.
    Returns: (indices of the worst, lowest first; indices of the draw). They may overlap.
    """
    known = [i for i, v in enumerate(ious) if v is not None and np.isfinite(v)]
    lowest = sorted(known, key=lambda i: (ious[i], image_ids[i]))[:worst]
    order = sorted(range(len(image_ids)), key=lambda i: _hash(image_ids[i]))
    return lowest, order[:sample]


def _hash(image_id: str) -> str:
    name = image_id.encode(errors="surrogateescape")  # a file's name may be no UTF-8
    return hashlib.sha256(name).hexdigest()


def drawn(source: Source, wanted: int) -> frozenset[int]:
    """The records of a list whose segmentations a report shows: the same draw in every run."""
    ids = [source[index].image_id for index in range(len(source))]
    return frozenset(select_examples(ids, [None] * len(ids), 0, wanted)[1])
