"""The heads of the embedded data set's creatures, which tell its classes apart."""

import colorsys
import functools
from collections.abc import Sequence

import numpy as np

CLASS_NAMES = (
    "starhead",
    "ringhead",
    "crosshead",
    "moonhead",
    "hearthead",
    "cloverhead",
    "arrowhead",
    "checkhead",
)

# The two inks of each class's head as hue, saturation, value.
_INKS = (
    ((0.14, 0.95, 0.98), (0.00, 0.92, 0.72)),
    ((0.60, 0.90, 0.85), (0.60, 0.03, 0.98)),
    ((0.99, 0.90, 0.85), (0.00, 0.02, 0.97)),
    ((0.77, 0.25, 0.98), (0.76, 0.85, 0.45)),
    ((0.90, 0.75, 0.95), (0.92, 0.15, 1.00)),
    ((0.36, 0.90, 0.55), (0.15, 0.90, 0.98)),
    ((0.06, 0.95, 0.98), (0.07, 0.60, 0.10)),
    ((0.49, 0.85, 0.90), (0.60, 0.70, 0.10)),
)


@functools.cache
def stamp(label: int, side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """The head of a class looking along +x, before colour.

    Returns its silhouette (side, side) and where its second ink lies (side, side), float32 in
    0..1. The stamp spans -1.6..1.6, and all silhouettes have a unit disc's area.
    """
    silhouette, _ = _shape(label, side, 1.0)
    return _shape(label, side, float(np.sqrt(np.pi / (silhouette.mean() * 3.2**2))))


def _shape(label: int, side: int, zoom: float) -> tuple[np.ndarray, np.ndarray]:
    span = (np.arange(side, dtype=np.float32) + 0.5) / side * 3.2 - 1.6
    x, y = np.meshgrid(span / zoom, span / zoom)
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    match CLASS_NAMES[label]:
        case "starhead":
            wave = np.abs((angle * 5 / (2 * np.pi)) % 1 - 0.5) * 2  # 1 on a ray, 0 between two
            inside = r < 0.42 / (1 - 0.66 * wave)
            second = r < 0.36
        case "ringhead":
            inside = r < 1
            second = (r < 0.72) & (r > 0.38)
        case "crosshead":
            inside = (np.maximum(np.abs(x), np.abs(y)) < 1) & (
                np.minimum(np.abs(x), np.abs(y)) < 0.4
            )
            second = np.minimum(np.abs(x), np.abs(y)) < 0.15
        case "moonhead":
            inside = (r < 1) & (np.hypot(x - 0.55, y) > 0.72)
            second = np.hypot(x + 0.2, y) > 0.86
        case "hearthead":
            # The point looks ahead, the lobes sit on the neck.
            u, v = y * 1.15, -(x - 0.15) * 1.15
            inside = (u**2 + v**2 - 0.6) ** 3 - 1.6 * u**2 * v**3 < 0
            second = np.hypot(u - 0.38, v - 0.35) < 0.24
        case "cloverhead":
            leaves = [np.hypot(x - 0.55 * np.cos(a), y - 0.55 * np.sin(a)) < 0.48
                      for a in np.pi / 4 + np.arange(4) * np.pi / 2]  # fmt: skip
            inside = np.any(leaves, axis=0) | (r < 0.4)
            second = r < 0.33
        case "arrowhead":
            inside = (x > -0.8) & (np.abs(y) < (1.2 - x) * 0.55)
            second = np.abs((x + 0.8) % 0.62 - 0.31) < 0.15
        case _:  # checkhead
            inside = np.maximum(np.abs(x), np.abs(y)) < 0.9
            second = (x > 0) == (y > 0)
    return inside.astype(np.float32), second.astype(np.float32)


def inks(rng: np.random.Generator, label: int) -> np.ndarray:
    """The class's inks, (2, 3) RGB, jittered as if under another light."""
    return jittered(rng, _INKS[label])


def jittered(rng: np.random.Generator, inks: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Inks given as hue, saturation and value, under another light: (N, 3) float32 RGB."""
    hue, fade = rng.normal(0, 0.012), rng.uniform(0.85, 1.05, 2)
    rows = [
        colorsys.hsv_to_rgb((h + hue) % 1, min(s * fade[0], 1), min(v * fade[1], 1))
        for h, s, v in inks
    ]
    return np.array(rows, np.float32)
