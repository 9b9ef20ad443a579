"""What the accumulators share: images by id, merging, intervals, and the comparison of two runs."""

from typing import Any, ClassVar, Self

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


class Accumulator:
    """A list of images, each scored once, in ``images``; lists of several processes merge.

    A subclass gives ``_settings``, the arguments that make it anew, and names them in SETTINGS.
    """

    SETTINGS: ClassVar[str]
    images: PerImage

    def __len__(self) -> int:
        return len(self.images)

    def _settings(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def merge(self, other: Self, *, overlap: bool = False) -> Self:
        """Both lists of images; overlap lets an image be in both (counted once).

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

    def _figures(self, **options: Any) -> Figures:
        raise NotImplementedError

    def _width(self) -> int:
        raise NotImplementedError

    def compute(self, *args: Any, **options: Any) -> dict[str, float | np.ndarray]:
        """The figures, each a float in [0, 1] or, by class, (C,); NaN where undefined.

        Here and below, ``options`` are those of the class.
        """
        return figures_once(self._figures(*args, **options), len(self))

    def intervals(
        self, seed: int = 0, resamples: int = RESAMPLES, **options: Any
    ) -> dict[str, tuple[float, float] | np.ndarray]:
        """95% bootstrap intervals over images of ``compute``'s figures; (C, 2) by class."""
        figures = self._figures(**options)
        return bootstrap_figures(figures, len(self), self._width(), seed=seed, resamples=resamples)

    def compare(
        self, other: Self, seed: int = 0, resamples: int = RESAMPLES, **options: Any
    ) -> dict[str, Difference | tuple[Difference, ...]]:
        """other - self on the same images, each figure of ``compute`` with its interval.

        Raises:
          ValueError: not the same images or classes.
        """
        same = all(getattr(self, name) == getattr(other, name) for name in self.COMPARED)
        if not same or self.images.ids() != other.images.ids():
            raise ValueError(f"the two runs were scored on different {self.COMPARED_NAMES}")
        return compare_figures(
            self._figures(**options),
            other._figures(**options),
            len(self),
            max(self._width(), other._width()),
            seed=seed,
            resamples=resamples,
        )
