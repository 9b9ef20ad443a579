"""Which images of a list a report shows."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsol_jax.data.records import Source


def select_examples(
    image_ids: Sequence[str],
    ious: Sequence[float | None],
    worst: int = 16,
    sample: int = 32,
) -> tuple[list[int], list[int]]:
    """Which images of one list to show: the lowest IoUs, and a draw that is the same in every run.

    The draw orders images by a hash of their ids, so two runs on one list show the same photos, and
    choosing again among the chosen gives the same choice.

    Args:
      image_ids: unique names.
      ious: IoU of each in [0, 1]; None or NaN (unknown) is never among the worst.
      worst: how many of the lowest IoUs.
      sample: how many to draw.
    Returns: (indices of the worst, lowest first; indices of the draw). They may overlap.
    """
    known = [i for i, v in enumerate(ious) if v is not None and np.isfinite(v)]
    lowest = sorted(known, key=lambda i: (ious[i], image_ids[i]))[:worst]
    order = sorted(range(len(image_ids)), key=lambda i: _hash(image_ids[i]))
    return lowest, order[:sample]


def _hash(image_id: str) -> str:
    return hashlib.sha256(image_id.encode()).hexdigest()


def drawn(config: Any, source: Source) -> set[int]:
    """The records of a list whose segmentations the report shows: the same draw in every run."""
    ids = [source[index].image_id for index in range(len(source))]
    return set(select_examples(ids, [None] * len(ids), 0, config.eval.gallery)[1])
