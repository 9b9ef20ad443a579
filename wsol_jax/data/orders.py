"""The order of records in a run: pure functions of the seed and a position.

A position counts the examples of a run from its first, whichever process or worker makes them.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.data.records import Source

Order = Callable[[int], int]  # position -> record index


def _shuffled(size: int, seed: int, stream: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, stream])).permutation(size)


_permutation = functools.lru_cache(maxsize=4)(_shuffled)


def uniform_order(size: int, seed: int, position: int) -> int:
    """Finds the record at a position of endless reshuffled epochs; none comes twice in one."""
    epoch, offset = divmod(position, size)
    return int(_permutation(size, seed, epoch)[offset])


@dataclasses.dataclass(frozen=True)
class Uniform:
    """``uniform_order`` of a list."""

    num_records: int
    seed: int

    def __call__(self, position: int) -> int:
        return uniform_order(self.num_records, self.seed, position)


@dataclasses.dataclass(frozen=True, eq=False)
class ClassBalanced:
    """Batches of P classes x K images: every batch has exactly P classes, and K images of each.

    Rounds over the classes: each shuffles them and cuts them into batches of P; what P leaves over
    sits the round out. A class goes through its own images in the same manner, K a visit; one that
    has fewer than K repeats them. Rows are image by image, r = k * P + p, so that micro-batches
    (row r to r % accumulate) keep whole classes where ``accumulate`` divides P.

    Attributes:
      members: record indices of each class that has any.
      classes: P, at most len(members).
      images: K.
    """

    members: tuple[np.ndarray, ...]
    classes: int
    images: int
    seed: int

    def __call__(self, position: int) -> int:
        batch, row = divmod(position, self.classes * self.images)
        image, slot = divmod(row, self.classes)
        turn, place = divmod(batch, len(self.members) // self.classes)
        order = _permutation(len(self.members), self.seed, turn)
        group = int(order[place * self.classes + slot])
        members = self.members[group]
        epoch, visit = divmod(turn, max(len(members) // self.images, 1))
        # The classes' streams stand above those of the rounds, which count from 0.
        shuffled = _shuffled(len(members), self.seed, (group + 1 << 32) + epoch)
        return int(members[shuffled[(visit * self.images + image) % len(members)]])


def first_labels(source: Source) -> np.ndarray:
    """Reads each record's first class: (N,) int, -1 where it has none.

    Large sources hold them as an array ``labels``; of others each record is read.
    """
    labels = getattr(source, "labels", None)
    if labels is not None:
        return np.asarray(labels)
    records = (source[index] for index in range(len(source)))
    return np.array([record.labels[0] if record.labels else -1 for record in records])


def training_order(data: Config, source: Source, batch_size: int, seed: int) -> Order:
    """The order that a config's ``data`` section asks for.

    Args:
      data: ``classes_per_batch`` (P) and ``images_per_class`` (K): one of them alone decides the
        other, since P * K is the batch; both 0 is the usual shuffled order.

    Raises:
      UserError: P * K is not the batch size, or the list has fewer than P classes.
    """
    classes, images = data.classes_per_batch, data.images_per_class
    if not classes and not images:
        return Uniform(len(source), seed)
    if min(classes, images) < 0:
        raise UserError("data.classes_per_batch, data.images_per_class: expected 0 or more.")
    classes, images = classes or batch_size // images, images or batch_size // classes
    if classes * images != batch_size:
        raise UserError(
            f"data.classes_per_batch={classes} x data.images_per_class={images} is not "
            f"train.batch_size={batch_size}: change one of them."
        )
    labels = first_labels(source)
    members = tuple(np.flatnonzero(labels == c) for c in np.unique(labels[labels >= 0]))
    if len(members) < classes:
        raise UserError(
            f"data.classes_per_batch={classes}, but list {source.name!r} has images of "
            f"{len(members)} classes: take fewer classes with more images each."
        )
    return ClassBalanced(members, classes, images, seed)
