"""The records that every data source gives, and the interface of a source."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np


def no_boxes() -> np.ndarray:
    """An empty (0, 4) float32 array, for images whose boxes are unknown."""
    return np.zeros((0, 4), np.float32)


@dataclasses.dataclass(frozen=True)
class Record:
    """A photo, and what is known of it.

    Attributes:
      image_id: unique in its source, stable between runs; names score-map files and errors.
      image: a path to the encoded image, its encoded bytes, or its (H, W, 3) uint8 RGB pixels.
      size: (width, height) in pixels if known without decoding, else None.
      labels: class indices present in the image, ascending, without repeats.
      boxes: (N, 4) float32, x0 y0 x1 y1 in pixels of the stored image, 0-based, both corners
        inside the object (inclusive); (0, 4) where unknown. For metrics only.
      box_labels: (N,) int32, the class index of each box.
      difficult: (N,) bool, the boxes that VOC's devkit leaves out of its figures; None: none.
    """

    image_id: str
    image: str | bytes | np.ndarray
    labels: tuple[int, ...]
    size: tuple[int, int] | None = None
    boxes: np.ndarray = dataclasses.field(default_factory=no_boxes)
    box_labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0,), np.int32))
    difficult: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Files, rows or objects that a source passes over, and why.

    Attributes:
      reason: follows the number in a sentence, such as "hidden".
      examples: some of their names.
      fault: whether it is an error where the source is strict.
    """

    reason: str
    count: int
    examples: tuple[str, ...]
    fault: bool = False


class Source(Protocol):
    """An indexed list of records; picklable, since worker processes read it.

    Attributes:
      name: the list's name, e.g. "wsol_train"; keys metrics.json.
      class_names: a name for each class index.

    A large list may also have ``labels``, (N,) int, each record's one class (``data.orders``), and
    ``image_ids``: what would otherwise be read record by record. One whose objects' telling parts
    are known has ``part_mask``, which gives them as ``mask`` does: 0 none, 1 the easy, 2 the hard
    one; for metrics only. One that reads an own folder has ``left_out``, a tuple of LeftOut, and
    ``about``, a sentence on what was found there.
    """

    name: str
    class_names: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def mask(self, index: int) -> np.ndarray | None:
        """Ground truth pixels, (H, W) uint8: 0 background, 1 + c class c, 255 ignore; or None."""
        ...


def has_masks(source: Source) -> bool:
    """Whether the pixels of some image of a list are known."""
    return any(source.mask(index) is not None for index in range(len(source)))


def image_ids(source: Source) -> Iterable[str]:
    """The ids of a list's images; none where each would have to be read from a file."""
    records = getattr(source, "records", None)
    if records is not None:
        return (record.image_id for record in records)
    return getattr(source, "image_ids", ())


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Some records of a list, as a list without masks."""

    source: Source
    indices: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def class_names(self) -> Sequence[str]:
        return self.source.class_names

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        return self.source[self.indices[index]]

    def mask(self, index: int) -> None:
        """The truth is no part of it."""
        return None
