"""The padded grid of the contour kernels, and what a pixel's neighbours tell about it."""

import functools

import numpy as np

# Neighbours in ring order, (dy, dx): E NE N NW W SW S SE. Even positions are the 4-neighbours.
_RING = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def _touch(a: int, b: int, connectivity: int) -> bool:
    dy, dx = abs(_RING[a][0] - _RING[b][0]), abs(_RING[a][1] - _RING[b][1])
    return max(dy, dx) <= 1 if connectivity == 8 else dy + dx <= 1


def row_shift(width: int) -> int:
    """log2 of the padded grid's row length: pixel (y, x) is at ((y + 1) << shift) + x + 1."""
    return (width + 1).bit_length()


@functools.cache
def neighbour_table(connectivity: int, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of the 256 patterns of set neighbours: what adding the centre pixel joins.

    Args:
      connectivity: 8 or 4. shift: as ``row_shift`` gives it.
    Returns:
      groups (256, 5) int64: the number of groups of neighbours that are distinct as far as the
      3x3 window tells, then the index step to one of each; area (256,) int64: twice the growth of
      the polygon area.
    """
    groups = np.zeros((256, 5), np.int64)
    area = np.zeros(256, np.int64)
    for pattern in range(256):
        left = [k for k in range(8) if pattern >> k & 1]
        while left:
            todo, group = [left[0]], set()
            while todo:
                a = todo.pop()
                group.add(a)
                todo += [b for b in left if b not in group and _touch(a, b, connectivity)]
            left = [k for k in left if k not in group]
            near = sorted(k for k in group if connectivity == 8 or k % 2 == 0)
            if near:
                groups[pattern, 0] += 1
                dy, dx = _RING[near[0]]
                groups[pattern, groups[pattern, 0]] = (dy << shift) + dx
        for corner in (1, 3, 5, 7):
            others = [(corner + d) % 8 for d in (-1, 0, 1)]
            area[pattern] += sum(pattern >> k & 1 for k in others) >= 2
    return groups, area
