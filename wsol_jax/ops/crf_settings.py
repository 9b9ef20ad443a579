"""The settings of a dense CRF, checked once; ``ops.crf`` infers with them. Nothing of JAX."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config

# Beyond these, float32 gives NaN: a square of a deviation, or a sum of weights, leaves its range.
MOST, LEAST, MOST_ITERATIONS = 1e5, 1e-3, 1000


@dataclasses.dataclass(frozen=True)
class CrfSettings:
    """The two Gaussian kernels of `ops.crf.dense_crf`, and how inference is run.

    Attributes:
      bilateral: weight >= 0, sxy in pixels, srgb in grey levels. A weight of 0 drops the term.
      spatial: weight >= 0, s in pixels.
      iterations: of mean-field inference, 0 or more.
      method: "exact", all pairs of pixels, for maps to about 64x64; "lattice", for photos.

    Raises:
      ValueError: other counts of numbers, a negative weight, a deviation of 0 or less, negative
        iterations, numbers far beyond any photo, another method.
    """

    bilateral: tuple[float, ...] = (10.0, 80.0, 13.0)
    spatial: tuple[float, ...] = (3.0, 3.0)
    iterations: int = 10
    method: Literal["exact", "lattice"] = "exact"

    def __post_init__(self):
        for name, fields in (("bilateral", ("weight", "sxy", "srgb")), ("spatial", _SPATIAL)):
            object.__setattr__(self, name, _kernel(name, getattr(self, name), fields))
        if not 0 <= self.iterations <= MOST_ITERATIONS:
            raise ValueError(
                f"iterations={self.iterations}: expected 0 or more, {MOST_ITERATIONS} at most"
            )
        if self.method not in ("exact", "lattice"):
            raise ValueError(f'method is "exact" or "lattice", not {self.method!r}')

    @classmethod
    def of(cls, section: Config, where: str, method: Literal["exact", "lattice"]) -> "CrfSettings":
        """The settings in a config's section: its ``bilateral``, ``spatial`` and ``iterations``.

        Args:
          where: the section's name, for the sentence.

        Raises:
          UserError: a field is not as above.
        """
        try:
            return cls(section.bilateral, section.spatial, section.iterations, method)
        except ValueError as error:
            raise UserError(f"{where}: {error}.") from None


_SPATIAL = ("weight", "sxy")


def _kernel(name: str, values: Sequence[float], fields: tuple[str, ...]) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except TypeError:
        numbers = ()
    if len(numbers) != len(fields) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} is ({', '.join(fields)}), finite numbers, not {values}")
    if not 0 <= numbers[0] <= MOST or not all(LEAST <= x <= MOST for x in numbers[1:]):
        raise ValueError(
            f"{name}={numbers}: expected a weight >= 0 and deviations > 0, that is from {LEAST:g}, "
            f"each {MOST:g} at most"
        )
    return numbers
