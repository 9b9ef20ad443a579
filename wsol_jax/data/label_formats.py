"""What pseudo-labels are like: how a label stage stores them, and what a training asks for."""

import dataclasses

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class LabelSpec:
    """What a training asks of its labels, for one photo.

    Attributes:
      shape: (h, w) of classes or region ids, (h, w, K) of soft maps.
      dtype: whole numbers take the nearest cell of what is stored, floats are interpolated.
      fill: stands where there is no label: in padding, and for photos that cannot be read.
    """

    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    fill: float = 0


@dataclasses.dataclass(frozen=True)
class Format:
    """How a product is stored; see ``cells``, ``mask``, ``regions``, ``soft_maps``.

    Attributes:
      kind: one of KINDS.
      size: cells a side; 0 where the photo decides.
    """

    kind: str
    size: int = 0

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(KINDS[self.kind])

    @property
    def holds_classes(self) -> bool:
        """Whether values are classes: 0 background, 1 + c class c, 255 unlabelled."""
        return self.kind in ("cells", "mask")

    def check(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The array, if it is one of this format.

        Args:
          size: (width, height) of the photo.

        Raises:
          ValueError: another shape or dtype.
        """
        values = np.asarray(values)
        shape = {"cells": (self.size, self.size), "soft_maps": values.shape}.get(
            self.kind, size[::-1]
        )
        rank = 3 if self.kind == "soft_maps" else 2
        if values.shape != shape or values.ndim != rank or values.dtype != self.dtype:
            expected = "(h, w, K)" if self.kind == "soft_maps" else shape
            raise ValueError(
                f"{self.kind}: expected {self.dtype} of shape {expected}, got {values.dtype} of "
                f"{values.shape}"
            )
        return values

    def fits(self, spec: LabelSpec) -> bool:
        """Whether a training that asks for ``spec`` can read this."""
        wanted = np.dtype(spec.dtype)
        if self.kind == "soft_maps":
            return len(spec.shape) == 3 and np.issubdtype(wanted, np.floating)
        return len(spec.shape) == 2 and np.issubdtype(wanted, np.integer) and wanted >= self.dtype


KINDS = {"cells": np.uint8, "mask": np.uint8, "regions": np.int32, "soft_maps": np.float16}


def cells(size: int) -> Format:
    """(size, size) uint8 classes over the whole photo."""
    return Format("cells", size)


def mask() -> Format:
    """(H, W) uint8 classes of the photo's own pixels."""
    return Format("mask")


def regions() -> Format:
    """(H, W) int32 ids of regions of the photo's own pixels."""
    return Format("regions")


def soft_maps() -> Format:
    """(h, w, K) float16 maps over the whole photo, of any size."""
    return Format("soft_maps")
