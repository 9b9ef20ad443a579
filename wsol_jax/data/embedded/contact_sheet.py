"""A picture of the embedded data set, for the README."""

import cv2
import numpy as np
from PIL import Image

from wsol_jax.data.embedded import render_pool, scenes

_PAPER, _INK = (255, 255, 255), (60, 60, 60)
_BOX = np.array((255, 235, 59), np.uint8)
# One colour a class, for masks.
_MASKS = np.array(
    [(242, 183, 5), (41, 98, 255), (229, 57, 53), (149, 117, 205), (236, 64, 160), (46, 160, 67),
     (255, 112, 32), (0, 188, 212)], np.uint8
)  # fmt: skip


def draw(*, scenes_each: int = 5, parts: int = 1) -> np.ndarray:
    """A column for each class, masks of the last scenes, then multi-label scenes and their masks.

    Args:
      scenes_each: scenes of each class, one below the other.
      parts: of a creature that tell its class: 1, its head; 2, its tail's tip too.

    Returns:
      (H, W, 3) uint8 RGB, true boxes outlined. Drawn afresh; the cache is not touched.
    """
    one, several = (render_pool.Variant(multi=multi, parts=parts) for multi in (False, True))
    classes = range(len(scenes.CLASS_NAMES))
    columns: list[list[scenes.Scene]] = [[] for _ in classes]
    index = 0
    while min(map(len, columns)) < scenes_each:
        scene = render_pool.draw_scene("train", index, one)
        index += 1
        if len(columns[scene.labels[0]]) < scenes_each:
            columns[scene.labels[0]].append(scene)
    many = [render_pool.draw_scene("train", i, several) for i in range(5 * len(columns))]
    many = [s for s in many if len(s.boxes) > 1][: len(columns)]

    rows = [_titles(scenes.CLASS_NAMES)]
    rows += [np.hstack([_photo(column[r]) for column in columns]) for r in range(scenes_each)]
    rows.append(np.hstack([_mask(column[-1]) for column in columns]))
    rows.append(_titles(["1 to 4 a picture"] + [""] * (len(columns) - 1)))
    rows += [np.hstack([_photo(s) for s in many]), np.hstack([_mask(s) for s in many])]
    return np.vstack(rows)


def save(sheet: np.ndarray, path: str) -> None:
    """Writes (H, W, 3) RGB as a PNG of 32 levels a channel, a third of the size of the full one."""
    coarse = np.minimum((sheet.astype(np.int32) + 4) // 8 * 8, 255).astype(np.uint8)
    Image.fromarray(coarse).save(path, optimize=True)


def _framed(tile: np.ndarray) -> np.ndarray:
    return cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=_PAPER)


def _photo(scene: scenes.Scene) -> np.ndarray:
    tile = scene.image.copy()
    for x0, y0, x1, y1 in scene.boxes.astype(int):
        tile[[y0, y1], x0 : x1 + 1] = _BOX
        tile[y0 : y1 + 1, [x0, x1]] = _BOX
    return _framed(tile)


def _mask(scene: scenes.Scene) -> np.ndarray:
    """Classes in colour over the greyed picture, what tells the class in full colour."""
    grey = (scene.image.mean(-1, keepdims=True) * 0.3 + 160).astype(np.uint8).repeat(3, -1)
    colour = _MASKS[np.maximum(scene.mask, 1) - 1]
    tile = np.where((scene.mask > 0)[..., None], colour * 0.7 + 70, grey)
    return _framed(np.where(scene.parts[..., None] > 0, colour, tile).astype(np.uint8))


def _titles(names) -> np.ndarray:
    strips = []
    for name in names:
        strip = np.full((20, 100, 3), _PAPER, np.uint8)
        cv2.putText(strip, name, (3, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)
        strips.append(strip)
    return np.hstack(strips)
