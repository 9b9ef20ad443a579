"""The tail tips of the embedded data set's second variant: a class's second, harder telling part.

All tips are round, smaller than heads, and pale: classes differ in the tint and the pattern. What
tells a class is far from its head, so that a method which hides the head can still find it.
"""

import functools

import numpy as np

from wsol_jax.data.embedded import creature_heads

# The two inks of each class's tip as hue, saturation, value.
_INKS = (
    ((0.58, 0.42, 0.80), (0.58, 0.45, 0.45)),
    ((0.02, 0.42, 0.78), (0.02, 0.45, 0.45)),
    ((0.42, 0.40, 0.72), (0.42, 0.45, 0.40)),
    ((0.13, 0.45, 0.82), (0.13, 0.45, 0.48)),
    ((0.28, 0.42, 0.72), (0.28, 0.45, 0.40)),
    ((0.75, 0.38, 0.80), (0.75, 0.42, 0.48)),
    ((0.50, 0.40, 0.78), (0.50, 0.45, 0.42)),
    ((0.90, 0.38, 0.82), (0.90, 0.42, 0.48)),
)


@functools.cache
def stamp(label: int, side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """The tail's tip of a class pointing along +x, before colour; as ``creature_heads.stamp``."""
    span = (np.arange(side, dtype=np.float32) + 0.5) / side * 3.2 - 1.6
    x, y = np.meshgrid(span, span)
    r = np.hypot(x, y)
    second = (
        r < 0.5,
        (r > 0.35) & (r < 0.7),
        x > 0,
        np.abs(y) < 0.33,
        np.abs(x) < 0.33,
        (x > 0) == (y > 0),
        np.hypot(x - 0.6, y) > 0.9,
        np.abs(np.abs(y) - 0.5) < 0.2,
    )[label]
    return (r < 1).astype(np.float32), second.astype(np.float32)


def inks(rng: np.random.Generator, label: int) -> np.ndarray:
    """The class's inks, (2, 3) RGB, jittered as if under another light."""
    return creature_heads.jittered(rng, _INKS[label])
