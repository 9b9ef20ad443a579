"""COCO's outlines as pixels: polygons, and run lengths."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from wsol_jax.base.labels import BACKGROUND, UNLABELLED
from wsol_jax.data.rle import fill_runs

_SCALE = 5  # COCO's polygons are drawn five times as large


@dataclasses.dataclass(frozen=True)
class CocoObject:
    """An object of a COCO file.

    Attributes:
      label: its class, by name.
      polygons: (2 * corners,) float64 x, y, x, y, ... each; none where ``runs`` is given.
      runs: lengths of its runs of 0, 1, 0, ... down the columns, from the left; None for none.
      box: its bounding box, x0 y0 x1 y1, inclusive; None for none.
      crowd: a crowd of them, whose single ones nobody outlined.
    """

    label: str
    polygons: tuple[np.ndarray, ...] = ()
    runs: np.ndarray | None = None
    box: tuple[float, float, float, float] | None = None
    crowd: bool = False

    @property
    def outlined(self) -> bool:
        """Whether its pixels are known."""
        return bool(self.polygons) or self.runs is not None

    def pixels(self, size: tuple[int, int]) -> np.ndarray:
        """(H, W) bool: where it is, of an image of (width, height)."""
        if self.runs is not None:
            return fill_runs(self.runs, size)
        found = np.zeros(size[::-1], bool)
        for polygon in self.polygons:
            found |= fill_polygon(polygon, size)
        return found


def paint(
    objects: Sequence[CocoObject], class_names: Sequence[str], size: tuple[int, int]
) -> np.ndarray:
    """(H, W) uint8 of all objects of an image: 0 background, 1 + c class c, 255 unknown.

    Unknown is where objects of different classes overlap (COCO does not say which is in front), a
    crowd, and the box of an object without an outline.
    """
    codes = np.full(size[::-1], BACKGROUND, np.uint8)
    index = {name: 1 + c for c, name in enumerate(class_names)}
    for one in objects:
        if one.label in index and one.outlined and not one.crowd:
            own = one.pixels(size)
            clash = own & (codes != BACKGROUND) & (codes != index[one.label])
            codes[own] = index[one.label]
            codes[clash] = UNLABELLED
    for one in objects:
        if one.label not in index or (one.outlined and not one.crowd):
            continue
        if one.outlined:
            codes[one.pixels(size) & (codes == BACKGROUND)] = UNLABELLED
        elif one.box is not None:
            x0, y0, x1, y1 = (round(value) for value in one.box)
            part = codes[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1]
            part[part == BACKGROUND] = UNLABELLED
    return codes


def fill_polygon(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool inside a polygon, pixel by pixel as COCO's own tools (``rleFrPoly``) fill it.

    Args:
      corners: (2 * N,) x, y, x, y, ... in pixels from the image's upper left edge.
    """
    width, height = size
    points = (_SCALE * np.asarray(corners, np.float64).reshape(-1, 2) + 0.5).astype(np.int64)
    u, v = _boundary(points)
    # Where the outline enters another column, downsampled to the columns' middles.
    turns = np.flatnonzero(u[1:] != u[:-1]) + 1
    before, after = turns - 1, turns
    x = np.where(u[after] < u[before], u[after], u[after] - 1)
    x = (x + 0.5) / _SCALE - 0.5
    y = (np.minimum(v[after], v[before]) + 0.5) / _SCALE - 0.5
    kept = (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    x, y = x[kept].astype(np.int64), np.ceil(np.clip(y[kept], 0, height)).astype(np.int64)
    # Down the columns, each crossing turns outside into inside and back.
    crossings = np.zeros(width * height + 1, bool)  # the last for those below the last column
    np.logical_xor.at(crossings, x * height + y, True)
    inside = np.logical_xor.accumulate(crossings[:-1])
    return inside.reshape(width, height).T


def _boundary(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All points of the closed outline, (M,) columns and (M,) rows."""
    columns, rows = [], []
    for (xs, ys), (xe, ye) in zip(points, np.roll(points, -1, axis=0), strict=True):
        dx, dy = abs(xe - xs), abs(ys - ye)
        flip = (dx >= dy and xs > xe) or (dx < dy and ys > ye)
        if flip:
            xs, xe, ys, ye = xe, xs, ye, ys
        along = np.arange(max(dx, dy) + 1)
        along = along[::-1] if flip else along
        if dx >= dy:
            slope = (ye - ys) / dx if dx else 0.0
            columns.append(along + xs)
            rows.append(np.trunc(ys + slope * along + 0.5).astype(np.int64))
        else:
            slope = (xe - xs) / dy
            rows.append(along + ys)
            columns.append(np.trunc(xs + slope * along + 0.5).astype(np.int64))
    return np.concatenate(columns), np.concatenate(rows)
