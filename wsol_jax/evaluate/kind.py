"""What every kind of evaluation is made of: an image's truth, a task, per-image results, a kind.

A kind (boxes, several labels, segments) says what is measured of one product of a network, class
maps or a segmentation. ``kinds.of`` chooses it, in one place; ``score.score_list`` is the one pass
over a list that serves any.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import ml_collections
import numpy as np

from wsol_jax.base.files import write_arrays
from wsol_jax.data.decode import decode_rgb
from wsol_jax.data.records import Record, Source
from wsol_jax.evaluate.localize import LocalizedImage
from wsol_jax.evaluate.shown import Card
from wsol_jax.metrics.bootstrap import Difference
from wsol_jax.metrics.boxes import resize_box
from wsol_jax.metrics.localization import BoxAccuracy
from wsol_jax.metrics.maps import MAP_SIZE
from wsol_jax.metrics.masks import PixelAP
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
      central: (4,) the fixed box to compare with, in the frame of the maps.
      parts: score what a method puts its whole together from, too.
      contours: find MaxBoxAccV2's boxes, of every contour.
      crf: bring segmentations to the photos' edges.
      shown: the records (by index) whose segmentations are kept for the report.
      keep: called with every image and its prepared map, from several threads.
    """

    thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    central: np.ndarray | None = None
    parts: bool = True
    contours: bool = True
    crf: bool = True
    shown: Collection[int] = frozenset()
    keep: Callable[[LocalizedImage, np.ndarray], None] | None = None


# What the loop watches on the tune list: no figure that takes long.
QUICK = Task(parts=False, contours=False, crf=False)


class Results:
    """What a list's products were found to be: a row an image of each metric, on disk and off it.

    A subclass names its accumulators in ROWS, makes them in ``__init__``, and gives ``figures`` and
    ``paired``.

    Attributes:
      class_names: C of them, background not among them.
      parts: the same of what the scored ones were put together from, by name; each in a file of
        its own.
      true_maps: index -> raw map of the image's first class, for the report; not saved.
      predicted: index -> likeliest class, for the report; not saved.
      boxes, pixels: accumulators that can be drawn over all thresholds, of kinds that have them.
      ious: each image's IoU, where a kind has one.
    """

    ROWS: ClassVar[Mapping[str, type]]  # attribute -> accumulator; PART/NAME in the file
    SETTINGS: ClassVar[tuple[str, ...]] = ("class_names",)  # texts that make it anew
    NEWER: ClassVar[tuple[str, ...]] = ()  # of ROWS: what the first runs' files lack
    MARK: ClassVar[str]  # of ROWS: no other kind's file has it

    boxes: BoxAccuracy | None = None
    pixels: PixelAP | None = None

    def __init__(
        self, class_names: Sequence[str] = (), parts: "Mapping[str, Results] | None" = None
    ):
        self.class_names = tuple(class_names)
        self.parts = dict(parts or {})
        self.true_maps: dict[int, np.ndarray] = {}
        self.predicted: dict[int, int] = {}

    def __len__(self) -> int:
        raise NotImplementedError

    def _like(self) -> Self:
        """An empty one with the same settings."""
        return type(self)(*(getattr(self, name) for name in self.SETTINGS))

    def merge(self, other: Self) -> Self:
        """Both lists; an image in both counts once."""
        merged = (self if self.class_names else other)._like()
        for name in self.ROWS:
            both = getattr(self, name).merge(getattr(other, name), overlap=True)
            setattr(merged, name, both)
        # A list of which no image could be read has no parts.
        merged.parts = {
            name: self.parts[name].merge(other.parts[name])
            if name in self.parts and name in other.parts
            else part
            for name, part in {**other.parts, **self.parts}.items()
        }
        return merged

    def figures(self, threshold: float = 0.0, intervals: bool = True) -> dict[str, Any]:
        """metrics.json's entry of a list; a figure that the list has no truth for is None."""
        raise NotImplementedError

    def by_class(self, threshold: float) -> "ClassFigures | None":
        """Figures class by class that metrics.json does not hold; None where there are none."""
        del threshold
        return None

    def obstacle(self, other: "Results") -> str:
        """Why two runs' images cannot be paired, as the end of a sentence; "" if they can."""
        raise NotImplementedError

    @classmethod
    def paired(
        cls,
        a: Sequence[Self],
        b: Sequence[Self],
        thresholds: tuple[Sequence[float], Sequence[float]],
        seed: int = 0,
    ) -> dict[str, Difference]:
        """Mean of b's runs minus that of a's, figure by figure, each with its interval over images.

        Args:
          a, b: of one list. thresholds: of the runs' boxes, a's and b's.

        Raises:
          ValueError: other images or classes.
        """
        raise NotImplementedError

    def save(self, path: pathlib.Path) -> None:
        """Writes per-image rows, without pickles, for paired comparisons of runs."""
        write_arrays(path, self._settings_arrays() | to_rows(self, self.ROWS))

    def _settings_arrays(self) -> dict[str, np.ndarray]:
        return {name: np.array(getattr(self, name), np.str_) for name in self.SETTINGS}

    @classmethod
    def load(cls, path: pathlib.Path) -> Self:
        """The inverse of ``save``; what the files of older runs lack is empty."""
        with np.load(path, allow_pickle=False) as file:
            texts = {n: tuple(map(str, file[n])) for n in cls.SETTINGS if n in file.files}
            parts = {name: rows_of(file, name) for name in cls.ROWS}
        made = cls._made(texts, parts)
        for name, kind in cls.ROWS.items():
            if parts[name] or name not in cls.NEWER:
                setattr(made, name, kind.from_arrays(parts[name]))
        return made

    @classmethod
    def _made(cls, texts: dict[str, Any], parts: Mapping[str, Mapping[str, np.ndarray]]) -> Self:
        """An empty one with the settings of a file; ``parts``: its rows."""
        del parts
        return cls(**texts)


@dataclasses.dataclass(frozen=True)
class ClassFigures:
    """A list's figures by class, all (C,), in the order of the class names.

    Attributes:
      images: how many images have the class, where they have one each as their first.
      values: figure -> float64 in [0, 1], NaN where no image of the class has it known.
    """

    names: tuple[str, ...]
    images: np.ndarray
    values: Mapping[str, np.ndarray]


class Kind:
    """What is measured of one product of a network, and what of it a page shows.

    Attributes:
      config: the run's.
      parts: the kinds of what the product is put together from, by name.
    """

    name: ClassVar[str]  # in metrics.json
    results: ClassVar[type[Results]]
    every_map: ClassVar[bool] = False  # needs the class maps of all classes, not of the likeliest
    ahead: ClassVar[int] = 64  # images that wait for a thread
    takes_class_scores: ClassVar[bool] = False  # of another classifier, eval.class_scores
    draws: ClassVar[bool] = False  # a list's segmentations are kept for the report while scoring
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

    def check_truth(self, source: Source) -> None:
        """Says so where a list has no truth that its figures need, before any training."""
        del source

    def choose_threshold(self, tune: Results | None) -> tuple[float, str]:
        """The box threshold, and where it comes from in words."""
        raise NotImplementedError

    def test_task(self, run: OpenedRun, thresholds: Mapping[str, float]) -> Task:
        """How a run's test lists are scored."""
        del run
        return Task(thresholds=thresholds)

    def baseline(self, run: OpenedRun, maps: Network) -> "Baseline | None":
        """What needs no training beyond that of an earlier network, to compare with; or None."""
        del run, maps
        return None

    def cards(self, source: Source, results: Results, threshold: float) -> list[Card]:
        """What a page shows of a scored list."""
        raise NotImplementedError

    def keeps_maps(self) -> bool:
        """Whether every image's map is kept, for pages of several runs."""
        return True


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


def to_rows(owner: object, parts: Iterable[str]) -> dict[str, np.ndarray]:
    """The per-image rows of an object's parts, as PART/NAME in one file; see ``rows_of``."""
    return {
        f"{part}/{name}": value
        for part in parts
        for name, value in getattr(owner, part).to_arrays().items()
    }


def rows_of(file: np.lib.npyio.NpzFile, part: str) -> dict[str, np.ndarray]:
    """What ``to_rows`` made of one part, from an opened .npz; {} where the file has none."""
    names = [name for name in file.files if name.startswith(f"{part}/")]
    return {name.partition("/")[2]: file[name] for name in names}


def known(value: float) -> float | None:
    """A figure as metrics.json holds it: None where it is undefined."""
    return float(value) if np.isfinite(value) else None
