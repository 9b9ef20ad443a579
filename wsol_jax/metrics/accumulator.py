"""The base of all accumulators: images by id, merging, intervals, comparison of two runs."""

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from wsol_jax.metrics.bootstrap import (
    RESAMPLES,
    Difference,
    Figures,
    bootstrap_figures,
    compare_figures,
    figures_once,
)
from wsol_jax.metrics.per_image import PerImage

# Of a figure: the classes of a mean, the interpolation of a curve.
Option = Sequence[int] | str | None


class Accumulator:
    """A list of images, each scored once, in ``images``; lists of several processes merge.

    A subclass gives ``_settings``, the arguments that make it anew, and names them in SETTINGS.
    """

    SETTINGS: ClassVar[str]
    images: PerImage

    def __len__(self) -> int:
        return len(self.images)

    def _settings(self) -> tuple[object, ...]:
        raise NotImplementedError

    def merge(self, other: Self, *, overlap: bool = False) -> Self:
        """Joins two lists of images; with ``overlap`` an image may be in both, and counts once.

        Raises:
          ValueError: other settings; without overlap, an image in both.
        """
        pairs = zip(self._settings(), other._settings(), strict=True)
        if not all(np.array_equal(one, another) for one, another in pairs):
            raise ValueError(f"the two have different {self.SETTINGS}")
        merged = type(self)(*self._settings())
        merged.images = self.images.merge(other.images, overlap=overlap)
        return merged


class FigureAccumulator(Accumulator):
    """An accumulator of several figures, some by class, from one pass over its images.

    A subclass also gives ``_figures``, the figures of resamples as ``bootstrap.Figures``, and
    ``_width``, the numbers in their largest array for each resample.

    Attributes:
      num_classes: C.
    """

    COMPARED: ClassVar[tuple[str, ...]] = ("num_classes",)  # equal in two runs to be compared
    COMPARED_NAMES: ClassVar[str] = "images or classes"
    num_classes: int

    def _figures(self, **options: Option) -> Figures:
        raise NotImplementedError

    def _width(self) -> int:
        raise NotImplementedError

    def compute(self, *args: Option, **options: Option) -> dict[str, float | np.ndarray]:
        """Computes the figures: each a float in [0, 1] or, by class, (C,); NaN where undefined.

        Here and below, ``options`` are those of the class.
        """
        return figures_once(self._figures(*args, **options), len(self))

    def intervals(
        self, seed: int = 0, resamples: int = RESAMPLES, **options: Option
    ) -> dict[str, tuple[float, float] | np.ndarray]:
        """95% bootstrap intervals over images of ``compute``'s figures; (C, 2) by class."""
        figures = self._figures(**options)
        return bootstrap_figures(figures, len(self), self._width(), seed=seed, resamples=resamples)

    def compare(
        self, other: Self, seed: int = 0, resamples: int = RESAMPLES, **options: Option
    ) -> dict[str, Difference | tuple[Difference, ...]]:
        """other - self on the same images, each figure of ``compute`` with its interval.

        Raises:
          ValueError: not the same images or classes.
        """
        return compare_means([self], [other], seed, resamples, **options)


def compare_means(
    a: Sequence[FigureAccumulator],
    b: Sequence[FigureAccumulator],
    seed: int = 0,
    resamples: int = RESAMPLES,
    **options: Option,
) -> dict[str, Difference | tuple[Difference, ...]]:
    """Subtracts the mean of a's runs from that of b's: each figure, with its interval over images.

    Every resample draws the images once and uses them for all runs: the interval is that of the
    images, the runs being what they are.

    Raises:
      ValueError: not the same images or classes.
    """
    first = a[0]
    for run in (*a, *b):
        same = all(getattr(first, name) == getattr(run, name) for name in first.COMPARED)
        if not same or first.images.ids() != run.images.ids():
            raise ValueError(f"the runs were scored on different {first.COMPARED_NAMES}")

    def mean_of(runs: Sequence[FigureAccumulator]) -> Figures:
        each = [run._figures(**options) for run in runs]

        def figures(draws: np.ndarray) -> dict[str, np.ndarray]:
            found = [one(draws) for one in each]
            return {name: np.mean([f[name] for f in found], axis=0) for name in found[0]}

        return figures

    width = max(run._width() for run in (*a, *b))
    return compare_figures(
        mean_of(a), mean_of(b), len(first), width, seed=seed, resamples=resamples
    )
