"""Per-image results by image id: what every accumulator here keeps, merges and resamples."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import numpy as np


class PerImage:
    """One row of fixed shape and type for each image id.

    Figures are computed from the rows in the order of the ids, so that neither the order of the
    images nor the way they were shared out between processes changes a bit.

    Attributes:
      shape, dtype: of a row.
    """

    def __init__(self, shape: Sequence[int], dtype: np.typing.DTypeLike):
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self._rows: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def update(
        self, image_ids: Sequence[str], rows: np.ndarray, mask: np.ndarray | None = None
    ) -> None:
        """Adds a batch.

        Args:
          image_ids: B ids. rows: (B, *shape). mask: (B,) bool, False leaves an entry out (the
            padding of a last batch).
        Raises:
          ValueError: an id that is there already, or shapes that do not fit.
        """
        rows = np.asarray(rows)
        if rows.shape != (len(image_ids), *self.shape):
            raise ValueError(
                f"{len(image_ids)} ids need rows of shape {(len(image_ids), *self.shape)}, "
                f"not {rows.shape}"
            )
        for i, image_id in enumerate(image_ids):
            if mask is not None and not mask[i]:
                continue
            if image_id in self._rows:
                raise ValueError(f"image {image_id!r} is counted twice")
            self._rows[str(image_id)] = rows[i].astype(self.dtype)

    def read(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """What ``from_arrays`` gives; ValueError where its rows have another shape than these."""
        found = type(self).from_arrays(arrays)
        if found.shape != self.shape:
            raise ValueError(f"rows of shape {found.shape}, expected {self.shape}")
        return found

    def merge(self, other: "PerImage", *, overlap: bool = False) -> "PerImage":
        """The images of both; with overlap, an image in both keeps this one's row.

        Raises:
          ValueError: rows of another kind; without overlap, an image in both.
        """
        if (self.shape, self.dtype) != (other.shape, other.dtype):
            raise ValueError("the two hold different kinds of rows")
        both = self._rows.keys() & other._rows.keys()
        if both and not overlap:
            raise ValueError(f"image {min(both)!r} is counted twice")
        merged = copy.copy(self)
        merged._rows = {**other._rows, **self._rows}
        return merged

    def ids(self) -> tuple[str, ...]:
        """The image ids in ascending order."""
        return tuple(sorted(self._rows))

    def rows(self) -> np.ndarray:
        """(N, *shape) in the order of ``ids``."""
        if not self._rows:
            return np.zeros((0, *self.shape), self.dtype)
        return np.stack([self._rows[i] for i in self.ids()])

    def items(self) -> Iterator[tuple[str, np.ndarray]]:
        """(image id, row) in the order of ``ids``."""
        return ((i, self._rows[i]) for i in self.ids())

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays (no pickle needed), for a file or another process."""
        return {"ids": np.array(self.ids(), np.str_), "rows": self.rows()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "PerImage":
        """The inverse of ``to_arrays``."""
        rows = arrays["rows"]
        made = cls(rows.shape[1:], rows.dtype)
        made.update([str(i) for i in arrays["ids"]], rows)
        return made


class RaggedPerImage(PerImage):
    """Any number of rows, none included, for each image id; otherwise as ``PerImage``."""

    def update(
        self, image_ids: Sequence[str], rows: Sequence[np.ndarray], mask: np.ndarray | None = None
    ) -> None:
        """Adds a batch.

        Args:
          image_ids: B ids. rows: B arrays (n, *shape), each with its own n. mask: (B,) bool, False
            leaves an entry out.
        Raises:
          ValueError: an id that is there already, or shapes that do not fit.
        """
        if len(image_ids) != len(rows):
            raise ValueError(f"{len(image_ids)} ids, but rows of {len(rows)} images")
        for i, image_id in enumerate(image_ids):
            if mask is not None and not mask[i]:
                continue
            mine = np.asarray(rows[i])
            if mine.shape != (len(mine), *self.shape):
                raise ValueError(f"rows have shape (n, {self.shape}), not {mine.shape}")
            if image_id in self._rows:
                raise ValueError(f"image {image_id!r} is counted twice")
            self._rows[str(image_id)] = mine.astype(self.dtype)

    def rows(self) -> np.ndarray:
        """(sum of n, *shape): all images' rows in the order of ``ids``."""
        none = np.zeros((0, *self.shape), self.dtype)
        return np.concatenate([none, *(self._rows[i] for i in self.ids())])

    def owners(self) -> np.ndarray:
        """(sum of n,) int64: the position in ``ids`` of each row's image."""
        lengths = [len(self._rows[i]) for i in self.ids()]
        return np.repeat(np.arange(len(lengths)), np.array(lengths, np.int64))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays (no pickle needed), for a file or another process."""
        lengths = np.array([len(row) for _, row in self.items()], np.int64)
        return {"ids": np.array(self.ids(), np.str_), "lengths": lengths, "rows": self.rows()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "RaggedPerImage":
        """The inverse of ``to_arrays``."""
        rows, lengths = arrays["rows"], arrays["lengths"]
        made = cls(rows.shape[1:], rows.dtype)
        ids = [str(i) for i in arrays["ids"]]
        made.update(ids, np.split(rows, np.cumsum(lengths)[:-1]) if ids else [])
        return made
