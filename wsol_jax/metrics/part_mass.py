"""Which of an object's telling parts a score map lights: the share of its mass on each."""

from collections.abc import Mapping

import cv2
import numpy as np

from wsol_jax.metrics.accumulator import Accumulator
from wsol_jax.metrics.bootstrap import RESAMPLES, bootstrap_interval
from wsol_jax.metrics.maps import min_max
from wsol_jax.metrics.per_image import PerImage

PARTS = ("easy_part", "hard_part")  # the values 1 and 2 of a part mask


def part_mass(raw_map: np.ndarray, part_mask: np.ndarray) -> np.ndarray:
    """Computes the share of a map's mass that lies on each telling part.

        mass_k = sum_{u in part k} H_u / sum_u H_u,  H the map above its minimum

    The map is enlarged bilinearly: bicubic weights fall below a map's minimum, and what is then
    its zero lifts the whole background.

    Args:
      raw_map: (h, w), any range, finite. A constant one counts as even: its mass is the area.
      part_mask: (H, W) uint8, 0 no part, then the parts in the order of PARTS.

    Returns:
      (2,) float64 in [0, 1]; 0 for a part that is hidden.

    Raises:
      NotFinite: NaN or infinity in the map.
    """
    parts = np.asarray(part_mask)
    scores = min_max(raw_map)
    if not scores.any():
        scores = np.ones_like(scores)
    scores = cv2.resize(scores, parts.shape[::-1], interpolation=cv2.INTER_LINEAR)
    mass = np.bincount(parts.ravel(), scores.ravel(), minlength=len(PARTS) + 1)
    return mass[1 : len(PARTS) + 1] / mass.sum()


class PartMass(Accumulator):
    """Mean share of the maps' mass on each telling part, and that of an even map, over images."""

    SETTINGS = "parts"
    NAMES = tuple(f"{part}_{what}" for what in ("mass", "area") for part in PARTS)

    def __init__(self):
        self.images = PerImage((len(self.NAMES),), np.float64)

    def update(self, image_id: str, raw_map: np.ndarray, part_mask: np.ndarray) -> None:
        """Adds one image; arguments and errors as for ``part_mass`` and ``PerImage.update``."""
        even = np.zeros_like(raw_map)
        row = np.concatenate([part_mass(one, part_mask) for one in (raw_map, even)])
        self.images.update([image_id], row[None])

    def _settings(self) -> tuple:
        return ()

    def values(self, name: str) -> np.ndarray:
        """(N,) one of NAMES for each image, in the order of ``images.ids``."""
        return self.images.rows()[:, self.NAMES.index(name)]

    def compute(self) -> dict[str, float]:
        """The mean over images of each of NAMES; none without images."""
        return {name: float(self.values(name).mean()) for name in self.NAMES if len(self)}

    def intervals(
        self, seed: int = 0, resamples: int = RESAMPLES
    ) -> dict[str, tuple[float, float]]:
        """The 95% bootstrap interval over images of each of ``compute``."""
        return {
            name: bootstrap_interval(self.values(name), seed, resamples=resamples)
            for name in self.compute()
        }

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, for a file or another process."""
        return self.images.to_arrays()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "PartMass":
        """The inverse of ``to_arrays``."""
        made = cls()
        made.images = made.images.read(arrays)
        return made
