"""95% intervals by resampling images, for one run and for the difference of two."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np

RESAMPLES = 2000
BLOCK = 2_000_000  # numbers in the largest array that a statistic of several figures may build

# Draw counts (R, n) -> figures by name, each (R,) or, one for each class, (R, C).
Figures = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference of two runs, b - a, on the same images.

    Attributes:
      value: of the images as they are. low, high: the interval's ends.
    """

    value: float
    low: float
    high: float


def resample_counts(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n images is drawn in each resample; blocks (R, n) float64, R in all."""
    rng = np.random.default_rng(seed)
    block = max(1, min(resamples, 1_000_000 // max(n, 1)))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def bootstrap_statistic(
    statistic: Callable[[np.ndarray], np.ndarray],
    n: int,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval of any figure of a list of images.

    Args:
      statistic: (R, n) draw counts -> (R,) values.
      n: number of images. confidence: of the interval, in (0, 1).
    Returns:
      (low, high) over the resamples in which the figure is defined; (nan, nan) without images.
    """
    if n == 0:
        return float("nan"), float("nan")
    values = np.concatenate([statistic(c) for c in resample_counts(n, resamples, seed)])
    low, high = _ends(values, confidence)
    return float(low), float(high)


def bootstrap_interval(
    per_image_values: np.ndarray,
    seed: int = 0,
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The interval of a mean over images.

    Args:
      per_image_values: (N,), bool or numbers.
    Returns:
      (low, high).
    """
    values = np.asarray(per_image_values, np.float64)
    return bootstrap_statistic(
        lambda counts: counts @ values / len(values),
        len(values),
        seed=seed,
        resamples=resamples,
        confidence=confidence,
    )


def paired_bootstrap(
    per_image_a: np.ndarray,
    per_image_b: np.ndarray,
    seed: int = 0,
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Difference:
    """The difference of two means over the same images, both resampled together.

    Args:
      per_image_a, per_image_b: (N,), the same images in the same order.
    Raises:
      ValueError: lengths that differ.
    """
    a, b = np.asarray(per_image_a, np.float64), np.asarray(per_image_b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a pair has the same images: {a.shape} and {b.shape}")
    low, high = bootstrap_interval(b - a, seed, resamples=resamples, confidence=confidence)
    return Difference(float((b - a).mean()) if len(a) else float("nan"), low, high)


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is. (..., C) -> (...)."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.sum(values, axis=-1, where=known) / np.count_nonzero(known, axis=-1)


def figures_once(figures: Figures, n: int) -> dict[str, float | np.ndarray]:
    """The figures of n images as they are: a float, or (C,) float64 for one by class."""
    values = {name: v[0] for name, v in figures(np.ones((1, n))).items()}
    return {name: v if np.ndim(v) else float(v) for name, v in values.items()}


def _resampled(
    figures: Figures, n: int, width: int, seed: int, resamples: int
) -> dict[str, np.ndarray]:
    """Figures of every resample, (resamples, ...), built from at most BLOCK / width at a time."""
    step = max(1, BLOCK // max(width, 1))
    parts = [
        figures(block[start : start + step])
        for block in resample_counts(n, resamples, seed)
        for start in range(0, len(block), step)
    ]
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _ends(values: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """(R, ...) -> (..., 2): quantiles over the resamples in which the figure is defined."""
    tail = (1 - confidence) / 2
    columns = values.reshape(len(values), -1).T
    ends = np.full((len(columns), 2), np.nan)
    for out, column in zip(ends, columns, strict=True):
        if (known := column[~np.isnan(column)]).size:
            out[:] = np.quantile(known, (tail, 1 - tail))
    return ends.reshape(*values.shape[1:], 2)


def bootstrap_figures(
    figures: Figures, n: int, width: int, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, tuple[float, float] | np.ndarray]:
    """95% intervals of several figures from the same resamples.

    A resample in which a figure is undefined (NaN: none of its images has the class) is left out
    of that figure's interval.

    Args:
      n: number of images. width: numbers in the statistic's largest array for each resample.
    Returns:
      For each figure (low, high), or (C, 2) for one by class; NaN where it is nowhere defined.
    """
    values = figures(np.ones((1, n))) if n == 0 else _resampled(figures, n, width, seed, resamples)
    ends = {name: _ends(v) for name, v in values.items()}
    return {name: e if e.ndim > 1 else (float(e[0]), float(e[1])) for name, e in ends.items()}


def compare_figures(
    figures_a: Figures,
    figures_b: Figures,
    n: int,
    width: int,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Difference | tuple[Difference, ...]]:
    """b - a of each figure of two runs on the same n images, both resampled together.

    Returns:
      For each figure a ``Difference``, or C of them for one by class.
    """

    def difference(draws):
        a, b = figures_a(draws), figures_b(draws)
        return {name: b[name] - a[name] for name in a}

    value = figures_once(difference, n)
    ends = bootstrap_figures(difference, n, width, seed=seed, resamples=resamples)
    return {
        name: tuple(
            Difference(float(x), float(lo), float(hi))
            for x, (lo, hi) in zip(v, ends[name], strict=True)
        )
        if np.ndim(v)
        else Difference(v, *ends[name])
        for name, v in value.items()
    }
