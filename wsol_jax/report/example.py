"""What a report shows: one photo with its maps and boxes, and one finished run."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.evaluate.results import Results

PHOTO_SIDE = 448  # pixels kept of a photo's longer side: what an enlarged picture shows


@dataclasses.dataclass(frozen=True)
class Example:
    """One photo of a test list, what the network made of it, and the truth.

    Attributes:
      image_id: unique in its list.
      image: (H, W, 3) uint8 RGB; no more than PHOTO_SIDE pixels a side are kept.
      score_map: (h, w) float32 in [0, 1], the ground-truth class's map over the whole image, in the
        frame in which the box was found (224x224 as a rule).
      true_boxes: (N, 4) x0 y0 x1 y1 as fractions of the image's width and height.
      box: (4,) ours at the chosen threshold, fractions; None where there is none.
      iou: best IoU of ``box`` with a true box, None where unknown.
      label: the true class by name; of several, joined by ", ", the first is the map's.
      predicted: the predicted class by name, or what was found, joined likewise.
      pictures: more pictures by name: (h, w) bool, or uint8 guidance masks with 0 background,
        1 object, 255 ignored; (h, w) float maps in [0, 1]; (h, w, 3) uint8 photos.
      split: the test list's name; examples are shown list by list.
      score: the predicted class's, in [0, 1]; None where unknown.
      files: links to the example's files by name, as paths from the page's folder.
      labels: the true classes one by one, where their names may hold a ", " themselves; none: as
        ``label`` says.
    """

    image_id: str
    image: np.ndarray
    score_map: np.ndarray
    true_boxes: np.ndarray
    box: np.ndarray | None
    iou: float | None
    label: str
    predicted: str
    pictures: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    split: str = ""
    score: float | None = None
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    labels: Sequence[str] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The true classes by name; none where they are not known."""
        return tuple(self.labels or filter(None, self.label.split(", ")))

    def __post_init__(self) -> None:
        name = f"example {self.image_id!r}"
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            got = f"{self.image.shape} {self.image.dtype}"
            raise UserError(f"{name}: image must be (H, W, 3) uint8, got {got}")
        if self.score_map.ndim != 2 or 0 in self.score_map.shape:
            raise UserError(f"{name}: score_map must be (h, w), got {self.score_map.shape}")


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run, as a report needs it.

    Attributes:
      figures: metrics.json's content: {"test": {LIST: {name: fraction}}, "threshold": tau, ...}.
      examples: what the gallery shows.
      threshold: the box threshold tau, in [0, 1).
      curves: name -> [(step, value)].
      title: the run's heading.
      config_text: the configuration, as text.
      facts: short facts for the header, e.g. {"Method": "SPG", "Data": "embedded"}.
      scores: per-image results by list, where known.
      maps: list -> image id -> (h, w) raw class map, where kept.
      classes: of a segmenter: what the colours of its pictures mean, in order.
      totals: how many images there are of each list that examples are shown of, where known.
      voc_colours: whether the pictures were painted in VOC's colours, as older runs' were.
    """

    figures: Mapping
    examples: Sequence[Example]
    threshold: float
    curves: Mapping[str, Sequence[tuple[int, float]]] = dataclasses.field(default_factory=dict)
    title: str = ""
    config_text: str = ""
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    scores: Mapping[str, Results] = dataclasses.field(default_factory=dict)
    maps: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    classes: Sequence[str] = ()
    totals: Mapping[str, int] = dataclasses.field(default_factory=dict)
    voc_colours: bool = False
