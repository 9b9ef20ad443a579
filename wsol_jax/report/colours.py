"""The colours of classes on a page: far apart for the eye, and none of them grey.

PNG files on disk keep PASCAL VOC's colours, which other tools expect. Those hold greys beside the
grey of what has no label, and classes that follow one another in one hue.
"""

import functools

import numpy as np

BACKGROUND = (0, 0, 0)  # the photo under it is dimmed
NO_LABEL = (200, 200, 200)  # the photo under it loses its colour
LEAST_APART = 35.0  # CIELAB units between any two of the first 20 classes' colours, and from these
_CHROMA, _LIGHTNESS = (34.0, 96.0), (32.0, 92.0)  # neither grey nor glaring; no class near black
_STEPS = 24  # of red, green and blue


def lab(colours: np.ndarray) -> np.ndarray:
    """(..., 3) sRGB in 0..255 -> (..., 3) CIELAB under D65 (CIE 15; IEC 61966-2-1)."""
    c = np.asarray(colours, np.float64) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear @ matrix.T / (0.95047, 1.0, 1.08883)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@functools.cache
def class_colours() -> np.ndarray:
    """(256, 3) uint8 RGB: 0 background, 1 + c class c, 255 what has no label.

    Each class's colour is the one furthest in CIELAB from all before it, from background and from
    the greys: the first classes, which most data have, are the furthest apart.
    """
    steps = np.linspace(0, 255, _STEPS).round()
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    places = lab(grid)
    lightness, chroma = places[:, 0], np.hypot(places[:, 1], places[:, 2])
    good = (chroma >= _CHROMA[0]) & (chroma <= _CHROMA[1])
    good &= (lightness >= _LIGHTNESS[0]) & (lightness <= _LIGHTNESS[1])
    grid, places = grid[good], places[good]
    fixed = lab(np.array([BACKGROUND, NO_LABEL, (128, 128, 128), (255, 255, 255)]))
    apart = np.linalg.norm(places[:, None] - fixed, axis=-1).min(axis=1)
    colours = np.zeros((256, 3), np.uint8)
    for value in range(1, 255):
        chosen = int(apart.argmax())
        colours[value] = grid[chosen]
        apart = np.minimum(apart, np.linalg.norm(places - places[chosen], axis=-1))
    colours[0], colours[255] = BACKGROUND, NO_LABEL
    return colours
