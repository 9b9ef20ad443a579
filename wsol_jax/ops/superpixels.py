"""Superpixels of a photo, on the host: Felzenszwalb and Huttenlocher's, as many as fit.

P. F. Felzenszwalb, D. P. Huttenlocher: Efficient graph-based image segmentation. IJCV 2004.
"""

import numpy as np
from skimage import segmentation

from wsol_jax.ops import graphs


def felzenszwalb(
    photo: np.ndarray, *, scale: float = 200.0, sigma: float = 0.8, min_size: int = 100
) -> np.ndarray:
    """Cuts a photo into regions whose inner differences are small beside those at their borders.

    Args:
      photo: (H, W, 3) uint8 RGB.
      scale: k of the paper, above 0: larger makes larger regions.
      sigma: of the Gaussian that smooths the photo first, in pixels.
      min_size: pixels that a region has at least, where the photo has as many.

    Returns:
      (H, W) int32 ids, 0 .. n - 1, each of one connected region.

    Raises:
      ValueError: a photo of another shape or dtype.
    """
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise ValueError(f"expected a photo (H, W, 3) of uint8, got {photo.dtype} {photo.shape}")
    found = segmentation.felzenszwalb(photo, scale=scale, sigma=sigma, min_size=min_size)
    return found.astype(np.int32)


def merge_smallest(regions: np.ndarray, colours: np.ndarray, most: int) -> np.ndarray:
    """Joins the smallest regions to their likest neighbours until no more than ``most`` are left.

    The region of the fewest pixels goes first, of equals the one of the lowest id, into the
    neighbour of the nearest mean colour, which is a mean of both from then on.

    Args:
      regions: (H, W) integer ids, 0 .. n - 1, each with pixels.
      colours: (H, W, K), finite: what "likest" is measured by.
      most: regions that may stay, at least one.

    Returns:
      (H, W) int32 ids, 0 .. min(n, most) - 1, in the order of the regions that stay.

    Raises:
      ValueError: ``most`` below one.
    """
    if most < 1:
        raise ValueError(f"expected at least one region to stay, got most={most}")
    count = int(regions.max()) + 1
    if count <= most:
        return regions.astype(np.int32)
    sizes = np.bincount(regions.ravel(), minlength=count).astype(np.float64)
    means = graphs.region_means(colours, regions, count)
    touching = [set() for _ in range(count)]
    for one, other in graphs.neighbours(regions, count).tolist():
        touching[one].add(other)
        touching[other].add(one)
    into = np.arange(count)
    alive = np.ones(count, bool)
    for _ in range(count - most):
        goes = int(np.argmin(np.where(alive, sizes, np.inf)))
        near = sorted(touching[goes])
        stays = near[int(np.argmin(np.sum((means[near] - means[goes]) ** 2, axis=1)))]
        total = sizes[stays] + sizes[goes]
        means[stays] = (means[stays] * sizes[stays] + means[goes] * sizes[goes]) / total
        sizes[stays], alive[goes], into[into == goes] = total, False, stays
        touching[stays] |= touching[goes]
        touching[stays] -= {stays, goes}
        for other in touching[goes] - {stays}:
            touching[other] = (touching[other] - {goes}) | {stays}
    return (np.cumsum(alive) - 1)[into][regions].astype(np.int32)
