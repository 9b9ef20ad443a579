"""Average precision of a ranked list of right and wrong answers, for many weightings at once."""

import numpy as np

INTERPOLATIONS = ("none", "all", "11")


def ranked_average_precision(
    hits: np.ndarray, misses: np.ndarray, positives: np.ndarray, interpolation: str = "all"
) -> np.ndarray:
    """Area under precision over recall, the list being cut after each entry.

    "none" sums precision times the step in recall (scikit-learn's average_precision_score).
    "all" first raises each precision to the highest at that recall or above (PASCAL VOC since
    2010). "11" means those raised precisions at recall 0, .1, ..., 1 (VOC 2007), where recall is
    compared as a fraction of whole numbers, without rounding.

    Args:
      hits, misses: (R, n) how many right and wrong answers stand in the first k + 1 places.
      positives: (R,) how many right answers there are to be found.
      interpolation: one of INTERPOLATIONS.
    Returns:
      (R,) float64 in [0, 1]; NaN where there is nothing to be found.
    Raises:
      ValueError: another interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        known = ", ".join(repr(i) for i in INTERPOLATIONS)
        raise ValueError(f"interpolation is one of {known}, not {interpolation!r}")
    hits = np.asarray(hits, np.float64)
    positives = np.asarray(positives, np.float64)
    marked = hits + misses
    precision = np.divide(hits, marked, out=np.zeros(hits.shape), where=marked > 0)
    if interpolation != "none":
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        if interpolation != "11":
            found = np.sum(precision * np.diff(hits, axis=1, prepend=0), axis=1) / positives
        else:
            beyond = np.concatenate([precision, np.zeros((len(hits), 1))], axis=1)
            rows = np.arange(len(hits))
            heights = [
                beyond[rows, np.sum(10 * hits < k * positives[:, None], axis=1)] for k in range(11)
            ]
            found = np.sum(heights, axis=0) / 11
    return np.where(positives > 0, found, np.nan)
