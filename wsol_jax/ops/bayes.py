"""Bayes' rule between a saliency map and an object found in part (MCOF, Wang et al. 2018, eq. 2).

Where it is salient and looks like what was found of the object, there the object is as well. On the
host, in NumPy; the functions share no state, so that threads may run them side by side.
"""

import cv2
import numpy as np
from skimage import feature

from wsol_jax.ops.saliency import lab_colours, min_max

BINS = 60  # of each feature
# What sRGB's colours reach in Lab: no bin lies outside, which of a and b in -128..127 a third does.
_LAB_LOW, _LAB_HIGH = np.array([[0, -87, -108], [100, 99, 95]], np.float32)


def colour_texture_bins(photo: np.ndarray) -> np.ndarray:
    """Quantises each pixel's colour and texture: L, a, b and a local binary pattern.

    L, a and b are cut into 60 equal bins each over sRGB's gamut, 1.7, 3.1 and 3.4 units wide. The
    pattern compares a pixel's grey with its 8 neighbours at radius 1 (Ojala et al. 2002): the 58
    uniform patterns, at most two changes round the circle, have a bin each, and all the others
    share one: 59 of 60 bins. Wang et al. do not say what v is; this is our choice.

    Args:
      photo: (H, W, 3) uint8 RGB.

    Returns:
      (H, W, 4) uint8 bin indices, 0 .. 59.

    Raises:
      ValueError: a photo of another shape or dtype, or without pixels.
    """
    lab = lab_colours(photo)
    share = (lab - _LAB_LOW) * (BINS / (_LAB_HIGH - _LAB_LOW))
    bins = np.empty((*photo.shape[:2], 4), np.uint8)
    bins[..., :3] = np.clip(share, 0, BINS - 1)  # rounded down
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    bins[..., 3] = feature.local_binary_pattern(grey, P=8, R=1, method="nri_uniform")
    return bins


def posterior(
    prior: np.ndarray,
    features: np.ndarray,
    found: np.ndarray,
    *,
    bins: int = BINS,
    floor: float = 1e-3,
) -> np.ndarray:
    """Refines a prior by what the object found so far looks like (Wang et al. 2018, eq. 2).

        p(obj | v) = p(obj) p(v | obj) / (p(obj) p(v | obj) + p(bg) p(v | bg)), p(bg) = 1 - p(obj)

    The features are taken as independent: p(v | .) = prod_k p(v_k | .), each a histogram of the
    pixels inside or outside of the mask, with one more pixel in each bin (Laplace). Computed in
    logarithms. The prior is scaled to 0..1 before, and the result after.

    Args:
      prior: (H, W), finite, any range: a saliency map.
      features: (H, W, K) integer bin indices, 0 .. bins - 1.
      found: (H, W) bool, the object's pixels. A mask of no pixel or of all pixels has only one
        histogram to show: the scaled prior is returned.
      bins: of each feature.
      floor: the prior is kept within floor .. 1 - floor, in (0, 0.5): no place is beyond doubt.

    Returns:
      (H, W) float32 in 0..1; all 0 where the result is the same everywhere.

    Raises:
      ValueError: shapes that do not fit, a bin index out of range, or a floor out of range.
    """
    if not (prior.shape == found.shape == features.shape[:2] and features.ndim == 3):
        shapes = f"{prior.shape}, {features.shape} and {found.shape}"
        raise ValueError(f"prior, features, mask are (H, W), (H, W, K), (H, W), not {shapes}")
    if features.size and not 0 <= features.min() <= features.max() < bins:
        raise ValueError(f"bin indices must be 0 to {bins - 1}")
    if not 0 < floor < 0.5:
        raise ValueError(f"floor must be above 0 and below 0.5, not {floor}")
    prior, found = min_max(prior), found.astype(bool)
    if not found.any() or found.all():
        return prior.astype(np.float32)
    prior = np.clip(prior, floor, 1 - floor)
    odds = np.log(prior) - np.log1p(-prior)
    for k in range(features.shape[2]):
        odds += _log_ratios(features[..., k], found, bins)[features[..., k]]
    return min_max(np.exp(-np.logaddexp(0.0, -odds))).astype(np.float32)


def _log_ratios(feature: np.ndarray, found: np.ndarray, bins: int) -> np.ndarray:
    """log p(v | obj) - log p(v | bg) of each bin, (bins,) float64; integers (H, W), bool (H, W)."""
    inside = np.bincount(feature[found], minlength=bins)
    outside = np.bincount(feature.ravel(), minlength=bins) - inside
    object_share = (inside + 1) / (inside.sum() + bins)
    background_share = (outside + 1) / (outside.sum() + bins)
    return np.log(object_share) - np.log(background_share)
