"""Per-image results on disk, of whichever kind, and the comparison of runs that have them."""

import pathlib
from collections.abc import Sequence

from wsol_jax.evaluate import multi_label, segment_scores
from wsol_jax.evaluate.multi_label import MultiLabelScores
from wsol_jax.evaluate.scores import Scores
from wsol_jax.evaluate.segment_scores import SegmentationScores
from wsol_jax.metrics.bootstrap import Difference

AnyScores = Scores | MultiLabelScores | SegmentationScores
# Kinds whose figures are all means over images or pixels: compared one like the other.
_MODULES = {MultiLabelScores: multi_label, SegmentationScores: segment_scores}


def load_scores(path: pathlib.Path) -> AnyScores:
    """The per-image rows of a list."""
    if multi_label.is_multi_label(path):
        return MultiLabelScores.load(path)
    if segment_scores.is_segmentation(path):
        return SegmentationScores.load(path)
    return Scores.load(path)


def are_comparable(a: AnyScores, b: AnyScores) -> bool:
    """Whether two runs, neither of one label an image, were scored on the same images."""
    return type(a) is type(b) and a.is_comparable(b)


def compare_means(
    a: Sequence[AnyScores], b: Sequence[AnyScores], seed: int = 0
) -> dict[str, Difference]:
    """Mean of b's runs minus that of a's, all of one kind, figure by figure with its interval.

    Raises:
      ValueError: other images or classes.
    """
    return _MODULES[type(a[0])].compare_means(a, b, seed)
