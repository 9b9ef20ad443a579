"""What every kind of evaluation is made of: an image's truth, a task, per-image results, a kind.

A kind (boxes, several labels, segments) says what is measured of one product of a network, class
maps or a segmentation. ``kinds.of`` chooses it, in one place; ``score.score_list`` is the one pass
over a list that serves any.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import ml_collections
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.data.decode import decode_rgb
from wsol_jax.data.lists import Lists
from wsol_jax.data.records import Record, Source
from wsol_jax.evaluate.localize import LocalizedImage
from wsol_jax.evaluate.results import Results
from wsol_jax.evaluate.shown import Card
from wsol_jax.metrics.boxes import resize_box
from wsol_jax.metrics.maps import MAP_SIZE
from wsol_jax.runs.opened import Network, OpenedRun

Row = Mapping[str, Any]  # what a kind found on one image, as its ``add`` takes it


class Truth:
    """One image's truth, read once however many products are scored against it."""

    def __init__(self, source: Source, index: int, size: tuple[int, int]):
        """``size``: (width, height) of the stored image, which its boxes refer to."""
        self._source, self._index, self.size = source, index, size

    @property
    def list_name(self) -> str:
        return self._source.name

    @functools.cached_property
    def record(self) -> Record:
        return self._source[self._index]

    @functools.cached_property
    def mask(self) -> np.ndarray | None:
        """(H, W) uint8 of 0 background, 1 + c class c, 255 ignored; None where unknown."""
        return self._source.mask(self._index)

    @functools.cached_property
    def part_mask(self) -> np.ndarray | None:
        """(H, W) uint8 of 0 no telling part, 1 the easy, 2 the hard one; None where unknown."""
        read = getattr(self._source, "part_mask", None)
        return read(self._index) if read else None

    @functools.cached_property
    def photo(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB as stored."""
        return decode_rgb(self.record.image, self.record.image_id)

    @functools.cached_property
    def boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """The boxes in the frame of the maps, and their classes: (N, 4) int64, (N,)."""
        frame = (MAP_SIZE, MAP_SIZE)
        boxes = [resize_box(box, self.size, frame) for box in self.record.boxes]
        return np.array(boxes, np.int64).reshape(-1, 4), self.record.box_labels


@dataclasses.dataclass(frozen=True)
class Task:
    """What is wanted of a list.

    Attributes:
      thresholds: of the boxes, by part, "" for the whole; an absent one leaves unknown what needs
        it.
      central: (4,) the fixed box to compare with, in the frame of the maps; None for none.
      parts: score what a method puts its whole together from, too.
      full: find what takes long: MaxBoxAccV2's boxes, of every contour, detections, and the class
        scores of ten crops where the config asks for these.
      crf: bring segmentations to the photos' edges.
      shown: the records (by index) whose segmentations are kept for the report.
      keep: called with every image and its prepared map, from several threads.
    """

    thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    central: np.ndarray | None = None
    parts: bool = True
    full: bool = True
    crf: bool = True
    shown: Collection[int] = frozenset()
    keep: Callable[[LocalizedImage, np.ndarray], None] | None = None


# What the loop watches on the tune list: no figure that takes long.
QUICK = Task(parts=False, full=False, crf=False)


class Kind:
    """What is measured of one product of a network, and what of it a page shows.

    Attributes:
      config: the run's.
      parts: the kinds of what the product is put together from, by name.
    """

    name: ClassVar[str]  # in metrics.json
    results: ClassVar[type[Results]]
    every_map: ClassVar[bool] = False  # needs the class maps of all classes, not of the likeliest
    ahead: ClassVar[int] = 64  # images that wait for a thread; on CPUs one a core at least
    takes_class_scores: ClassVar[bool] = False  # of another classifier, eval.class_scores
    draws: ClassVar[bool] = False  # segmentations: a page shows a draw of them, in colours
    whole: ClassVar[str] = ""  # what the whole is called beside its parts
    tune_part: ClassVar[str] = ""  # whose figures those of the tune list are
    notes: ClassVar[Mapping[str, str]] = {}  # beside the figures, in metrics.json

    def __init__(
        self, config: ml_collections.ConfigDict, parts: "Mapping[str, Kind] | None" = None
    ):
        self.config, self.parts = config, dict(parts or {})

    def empty(self, class_names: Sequence[str]) -> Results:
        """Results of no image."""
        return self.results(class_names)

    def score(self, image: LocalizedImage, truth: Truth, task: Task, part: str) -> dict[str, Row]:
        """One image's host work, on a thread.

        Returns:
          What ``add`` takes, by part below ``part``: "" is the product itself; {} where the image
          has no truth to score by.
        """
        raise NotImplementedError

    def add(self, results: Results, image: LocalizedImage, row: Row) -> None:
        """Enters what ``score`` found, in the order of the list."""
        raise NotImplementedError

    def check(self, lists: Lists) -> None:
        """Checks a run's lists and its ``eval`` section against the figures, before any training.

        Raises:
          UserError: an option that this kind does not know, or one that its lists do not fit.
        """
        del lists
        if self.config.eval.class_scores and not self.takes_class_scores:
            raise UserError(f"eval.class_scores: not for a run that is measured by {self.name}.")

    def choose_threshold(self, tune: Results | None, where: str) -> tuple[float, str]:
        """The box threshold, and where it comes from in words; ``where``: ``describe_tune``'s."""
        raise NotImplementedError

    def test_task(self, run: OpenedRun, thresholds: Mapping[str, float]) -> Task:
        """How a run's test lists are scored."""
        return Task(thresholds=thresholds, central=self.central_box(run))

    def central_box(self, run: OpenedRun) -> np.ndarray | None:
        """The fixed box to compare with, as ``Task.central``; here that of the parts, if any."""
        found = (kind.central_box(run) for kind in self.parts.values())
        return next((box for box in found if box is not None), None)

    def baseline(self, run: OpenedRun, maps: Network) -> "Baseline | None":
        """What needs no training beyond that of an earlier network, to compare with; or None."""
        del run, maps
        return None

    def cards(self, source: Source, results: Results, threshold: float) -> list[Card]:
        """What a page shows of a scored list."""
        raise NotImplementedError


class Baseline:
    """Results of an earlier network alone, scored beside a run's as the part ``name``.

    Attributes:
      figures: what it was made by, for metrics.json.
    """

    name: str
    figures: Mapping[str, Any]

    def score(self, source: Source, shown: Collection[int], what: str) -> Results:
        """Scores a list."""
        raise NotImplementedError
