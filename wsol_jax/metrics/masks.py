"""PxAP, the pixel-wise average precision of score maps (Choe et al. 2020)."""

from collections.abc import Mapping

import numpy as np

from wsol_jax.base.labels import UNLABELLED
from wsol_jax.metrics.accumulator import Accumulator
from wsol_jax.metrics.bootstrap import RESAMPLES, Difference, bootstrap_statistic
from wsol_jax.metrics.boxes import THRESHOLDS
from wsol_jax.metrics.per_image import PerImage

_BLOCK = 1024  # images whose histograms become floating-point numbers at once


def class_target(mask: np.ndarray, label: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels that a class's score map should light, and those that count for nothing.

    Args:
      mask: (H, W) uint8, 0 background, 1 + c class c, 255 ignore. label: c.
    Returns:
      foreground, ignore: (H, W) bool. Pixels of other classes are background.
    """
    return mask == label + 1, mask == UNLABELLED


def _bin(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """``searchsorted(edges, scores, "right") - 1``, by arithmetic where the edges are even."""
    scores = scores.astype(np.float64)
    top = len(edges) - 1
    bins = (scores * top).astype(np.int64)  # right, or next to it: edges are rounded multiples
    bins -= scores < edges[bins]
    bins += scores >= np.append(edges[1:], np.inf)[bins]
    if ((scores < edges[bins]) | (scores >= np.append(edges[1:], np.inf)[bins])).any():
        return np.searchsorted(edges, scores, side="right") - 1
    return bins


def histogram(
    scores: np.ndarray, foreground: np.ndarray, ignore: np.ndarray | None, edges: np.ndarray
) -> np.ndarray:
    """Counts of background and foreground pixels in each score bin.

    Args:
      scores: (H, W) in [0, 1]. foreground: (H, W) bool. ignore: (H, W) bool or None; a pixel in
        both is foreground. edges: (K,) ascending from 0, bin k is [edges[k], edges[k + 1]), the
        last one open above.
    Returns:
      (2, K) int64: row 0 background, row 1 foreground.
    Raises:
      ValueError: NaN, scores outside [0, 1], or shapes that differ.
    """
    scores, foreground = np.asarray(scores), np.asarray(foreground, bool)
    if scores.shape != foreground.shape:
        raise ValueError(f"map {scores.shape} and mask {foreground.shape} differ in shape")
    low, high = scores.min(), scores.max()
    if not (low >= 0 and high <= 1):
        if np.isnan(scores).any():
            raise ValueError("the score map holds NaN")
        raise ValueError(f"a score map lies in [0, 1], this one in [{low:g}, {high:g}]")
    bins = _bin(scores.ravel(), edges)
    kind = foreground.ravel()
    if ignore is not None:
        counted = ~np.asarray(ignore, bool).ravel() | kind
        bins, kind = bins[counted], kind[counted]
    return np.bincount(bins + len(edges) * kind, minlength=2 * len(edges)).reshape(2, -1)


def _rising(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True positives and all positives as the threshold falls; (..., 2, K) -> two (..., K)."""
    falling = np.cumsum(counts[..., ::-1], axis=-1)
    return falling[..., 1, :], falling.sum(axis=-2)


def average_precision(counts: np.ndarray) -> np.ndarray:
    """Sum of precision times the step in recall, over bins from the highest score down.

    Args:
      counts: (..., 2, K) background and foreground counts by rising score.
    Returns:
      (...) float64 in [0, 1]; NaN where there is no foreground.
    """
    hit, marked = _rising(np.asarray(counts))
    precision = np.divide(hit, marked, out=np.zeros(hit.shape), where=marked > 0)
    step = np.diff(hit, axis=-1, prepend=0)
    total = hit[..., -1]
    with np.errstate(invalid="ignore"):
        return np.sum(precision * step, axis=-1) / total


class PixelAP(Accumulator):
    """PxAP over the pixels of a list of images, from a histogram of each image's scores.

    Bins are [tau, next tau) for the thresholds, then [1, 2) for scores of exactly 1.
    """

    SETTINGS = "thresholds"

    def __init__(self, thresholds: np.ndarray = THRESHOLDS):
        self.edges = np.append(np.asarray(thresholds, np.float64), 1.0)
        if self.edges[0] != 0 or (np.diff(self.edges) <= 0).any():
            raise ValueError("thresholds rise from 0 and stay below 1")
        self.images = PerImage((2, len(self.edges)), np.int32)

    def update(
        self,
        image_id: str,
        score_map: np.ndarray,
        foreground: np.ndarray,
        ignore: np.ndarray | None = None,
    ) -> None:
        """Adds one image; arguments and errors as for ``histogram`` and ``PerImage.update``."""
        self.images.update([image_id], histogram(score_map, foreground, ignore, self.edges)[None])

    def _settings(self) -> tuple:
        return (self.edges[:-1],)

    @property
    def counts(self) -> np.ndarray:
        """(2, K) int64: background and foreground pixels of all images in each bin."""
        total = np.zeros((2, len(self.edges)), np.int64)
        for _, row in self.images.items():
            total += row
        return total

    def compute(self) -> float:
        """PxAP in [0, 1]; NaN without foreground pixels."""
        return float(average_precision(self.counts))

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Thresholds, precision and recall at score >= threshold; each (K,), threshold rising."""
        hit, marked = (x[::-1] for x in _rising(self.counts))
        precision = np.divide(hit, marked, out=np.ones(hit.shape), where=marked > 0)
        return self.edges, precision, hit / max(hit[0], 1)

    def peak(self) -> tuple[float, float]:
        """The best intersection over union of all pixels, and the threshold that reaches it."""
        hit, marked = (x[::-1] for x in _rising(self.counts))
        union = marked + hit[0] - hit
        quality = np.divide(hit, union, out=np.zeros(hit.shape), where=union > 0)
        best = int(quality.argmax())
        return float(quality[best]), float(self.edges[best])

    def per_image(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Image ids and each image's own average precision, (N,) (NaN: no foreground)."""
        return self.images.ids(), average_precision(self.images.rows())

    def interval(self, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
        """The 95% bootstrap interval over images."""
        return pxap_bootstrap(self.images.rows(), seed=seed, resamples=resamples)

    def compare(self, other: "PixelAP", seed: int = 0, resamples: int = RESAMPLES) -> Difference:
        """other - self on the same images, with its 95% interval.

        Raises:
          ValueError: not the same images.
        """
        if self.images.ids() != other.images.ids():
            raise ValueError("the two runs were scored on different images")
        return pxap_bootstrap(
            self.images.rows(), other.images.rows(), seed=seed, resamples=resamples
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, for a file or another process."""
        return {"edges": self.edges, **self.images.to_arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "PixelAP":
        """The inverse of ``to_arrays``."""
        made = cls(np.asarray(arrays["edges"])[:-1])
        made.images = made.images.read(arrays)
        return made


def pxap_bootstrap(
    hist_a: np.ndarray,
    hist_b: np.ndarray | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | Difference:
    """The interval of one run's PxAP, or the difference b - a of two on the same images.

    Args:
      hist_a, hist_b: (N, 2, K) per-image histograms (``PixelAP.images.rows()``), the same images
        in the same order.
    Returns:
      (low, high) of one; a ``Difference`` of two.
    Raises:
      ValueError: shapes that differ.
    """

    def values(hist, draws):
        total = np.zeros((len(draws), hist[:1].size))
        for start in range(0, len(hist), _BLOCK):  # whole numbers: sums in parts are the same
            part = hist[start : start + _BLOCK].astype(np.float64)
            total += draws[:, start : start + _BLOCK] @ part.reshape(len(part), -1)
        return average_precision(total.reshape(-1, *hist.shape[1:]))

    a = np.asarray(hist_a)
    if hist_b is None:
        return bootstrap_statistic(
            lambda draws: values(a, draws), len(a), seed=seed, resamples=resamples
        )
    b = np.asarray(hist_b)
    if a.shape != b.shape:
        raise ValueError(f"a pair has the same images and bins: {a.shape} and {b.shape}")
    low, high = bootstrap_statistic(
        lambda draws: values(b, draws) - values(a, draws), len(a), seed=seed, resamples=resamples
    )
    difference = average_precision(b.sum(axis=0)) - average_precision(a.sum(axis=0))
    return Difference(float(difference), low, high)
