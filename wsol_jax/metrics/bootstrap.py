"""95% intervals by resampling images, for one run and for the difference of two."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

RESAMPLES = 2000


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
      (low, high); (nan, nan) without images.
    """
    if n == 0:
        return float("nan"), float("nan")
    values = np.concatenate([statistic(c) for c in resample_counts(n, resamples, seed)])
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
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
    """mean(b) - mean(a) over the same images, both resampled together.

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
