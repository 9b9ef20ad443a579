"""Region graphs of an image, as arrays on the host: who touches whom, and what a region is like.

A region map has an id in each pixel, 0 .. count - 1. A region may be empty or in several pieces.
"""

import numpy as np


def neighbours(regions: np.ndarray, count: int) -> np.ndarray:
    """Lists the pairs of regions that share an edge between two pixels (4-connected).

    Args:
      regions: (H, W) integer ids, 0 .. count - 1.
      count: of regions.

    Returns:
      (E, 2) int32, each pair once as i < j, sorted by i and then by j; (0, 2) of one region.

    Raises:
      ValueError: an id out of range.
    """
    ids = _checked(regions, count)
    sides = ((ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:]))
    codes = []
    for one, other in sides:
        differ = one != other
        one, other = one[differ], other[differ]
        codes.append(np.minimum(one, other) * count + np.maximum(one, other))
    found = np.unique(np.concatenate(codes))
    return np.stack(np.divmod(found, max(count, 1)), axis=1).astype(np.int32)


def border_regions(regions: np.ndarray, count: int) -> np.ndarray:
    """Marks the regions that reach the image's border.

    Args:
      regions: (H, W) integer ids, 0 .. count - 1.
      count: of regions.

    Returns:
      (count,) bool.

    Raises:
      ValueError: an id out of range.
    """
    ids = _checked(regions, count)
    border = np.zeros(count, bool)
    for side in (ids[:1], ids[-1:], ids[:, :1], ids[:, -1:]):
        border[side] = True
    return border


def region_means(values: np.ndarray, regions: np.ndarray, count: int) -> np.ndarray:
    """Averages pixels' values over each region, summed in float64.

    Args:
      values: (H, W, K), finite, any range.
      regions: (H, W) integer ids, 0 .. count - 1.
      count: of regions.

    Returns:
      (count, K) float64; an empty region's is 0.

    Raises:
      ValueError: an id out of range, or shapes that do not fit.
    """
    if values.ndim != 3 or values.shape[:2] != regions.shape:
        raise ValueError(f"values of shape {values.shape} do not fit regions of {regions.shape}")
    ids = _checked(regions, count).ravel()
    sizes = np.maximum(np.bincount(ids, minlength=count), 1)
    means = np.empty((count, values.shape[2]))
    for k in range(values.shape[2]):
        means[:, k] = np.bincount(ids, values[..., k].ravel(), minlength=count) / sizes
    return means


def _checked(regions: np.ndarray, count: int) -> np.ndarray:
    """The ids as int64, which np.bincount wants and pairs' codes need."""
    if regions.ndim != 2:
        raise ValueError(f"a region map is (H, W), not {regions.shape}")
    if regions.size and not (regions.min() >= 0 and regions.max() < count):
        low, high = regions.min(), regions.max()
        raise ValueError(f"region ids must be 0 to {count - 1}, not {low} to {high}")
    return regions.astype(np.int64)
