"""Per-image results of a list, on disk and off it: what the kinds' results have in common."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from wsol_jax.base.files import write_arrays
from wsol_jax.base.stored import read_arrays, reading
from wsol_jax.metrics.bootstrap import Difference
from wsol_jax.metrics.localization import BoxAccuracy
from wsol_jax.metrics.masks import PixelAP
from wsol_jax.runs.figures import AGAIN


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
      sure: index -> its score, likewise.
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
        self.sure: dict[int, float] = {}

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

    def ids(self) -> tuple[str, ...]:
        """The ids of the scored images, ascending."""
        raise NotImplementedError

    def obstacle(self, other: "Results") -> str:
        """Why two runs' images cannot be paired, as the end of a sentence; "" if they can."""
        if type(self) is not type(other):
            return "were scored by different figures"
        ids = [set(one.ids()) for one in (self, other)]
        if ids[0] != ids[1]:
            counts = [f"{len(own):,}" for own in ids]
            names = [set(one.class_names) for one in (self, other)]
            if names[0] != names[1]:
                shared = len(names[0] & names[1])
                counts[0] += f" of {len(names[0])} classes"
                counts[1] += f" of {len(names[1])}, of which {shared or 'none'} the same"
            both = len(ids[0] & ids[1])
            return f"did not score the same images ({' and '.join(counts)}, {both:,} in both)"
        return self._obstacle(other)

    def _obstacle(self, other: Self) -> str:
        """``obstacle`` of results of the same kind and images."""
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
        """The inverse of ``save``; what the files of older runs lack is empty.

        Raises:
          UserError: the file is missing, damaged, or of another kind.
        """
        with reading(path, AGAIN):
            return cls.from_arrays(read_arrays(path, AGAIN))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """``load`` of a file's arrays."""
        texts = {n: tuple(map(str, arrays[n])) for n in cls.SETTINGS if n in arrays}
        parts = {name: rows_of(arrays, name) for name in cls.ROWS}
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


def to_rows(owner: object, parts: Iterable[str]) -> dict[str, np.ndarray]:
    """The per-image rows of an object's parts, as PART/NAME in one file; see ``rows_of``."""
    return {
        f"{part}/{name}": value
        for part in parts
        for name, value in getattr(owner, part).to_arrays().items()
    }


def rows_of(arrays: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    """What ``to_rows`` made of one part, of a file's arrays; {} where it has none."""
    names = [name for name in arrays if name.startswith(f"{part}/")]
    return {name.partition("/")[2]: arrays[name] for name in names}


def known(value: float) -> float | None:
    """A figure as metrics.json holds it: None where it is undefined."""
    return float(value) if np.isfinite(value) else None
