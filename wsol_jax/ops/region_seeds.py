"""A class for each region of a photo, on the host: MCOF's first seeds (Wang et al. 2018, 4.1)."""

import numpy as np

from wsol_jax.base.labels import BACKGROUND


def region_seeds(scores: np.ndarray, pairs: np.ndarray, share: float, peak: float = 0.0):
    """Finds the regions that a photo's class maps are sure of (Wang et al. 2018, section 4.1).

    A region is a seed of a class where the class's mean map over it is above ``share`` of its
    highest, or a local maximum: no neighbour has more. The map is raw and signed; a class whose
    highest mean is not above 0 was not found and has no seed.

    Args:
      scores: (R, K) a class map's means over the regions, of the K classes of the image.
      pairs: (E, 2) neighbours, as ``graphs.neighbours`` gives them.
      share: of a class's highest mean, in [0, 1].
      peak: a local maximum counts above this share of the highest, in [0, 1].

    Returns:
      (R,) int64: BACKGROUND, or 1 + k; where several classes claim a region, the one whose mean is
      nearest to its own highest.
    """
    if not len(pairs) and not scores.size:
        return np.zeros(len(scores), np.int64)
    highest = np.max(scores, axis=0, initial=0.0)
    shares = np.where(highest > 0, scores / np.where(highest > 0, highest, 1.0), -np.inf)
    around = np.full(scores.shape, -np.inf)
    for one, other in ((0, 1), (1, 0)):
        np.maximum.at(around, pairs[:, one], scores[pairs[:, other]])
    claimed = (shares > share) | ((scores >= around) & (shares > peak))
    claims = np.where(claimed, shares, -np.inf)
    best = np.argmax(claims, axis=1) if claims.shape[1] else np.zeros(len(claims), np.int64)
    found = np.max(claims, axis=1, initial=-np.inf) > -np.inf
    return np.where(found, 1 + best, BACKGROUND)
