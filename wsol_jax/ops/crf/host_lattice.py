"""Builds permutohedral lattices on the host in numba (Adams, Baek, Davis 2010): hashed vertices.

The simplices are `permutohedral.enclosing_simplices`' to the last bit. Vertices are numbered as
they are first met, so that pixels next to each other read rows next to each other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np

from wsol_jax.ops.crf import permutohedral

_SLOTS = 2**14  # that the hash table has at first


class HostLattice(NamedTuple):
    """A permutohedral lattice of N points in d dimensions with its M vertices; host arrays.

    vertices: (N, d+1) int32 in 0..M-1, the rows of a point's vertices.
    weights: (N, d+1) float32, their barycentric coordinates.
    sides: (d+1, M, 2) int32 in 0..M, both neighbours along each axis; M is the row of nothing.
    """

    vertices: np.ndarray
    weights: np.ndarray
    sides: np.ndarray


def build_host_lattice(steps: Sequence[np.ndarray], limits: Sequence[float]) -> HostLattice:
    """Builds the lattice of N points in d dimensions.

    Args:
      steps: d arrays (N,) float32, as `permutohedral.enclosing_simplices` has them.
      limits: d numbers, point i of which lies in [0, limit].

    Raises:
      ValueError: a vertex would need more than 64 bits.
    """
    lows, strides = _key_digits(limits)
    keys, weights = _enclose((0,) * len(strides), np.stack(steps), lows, strides)
    vertices, *hashed = _number(keys, _SLOTS)
    return HostLattice(vertices, weights, _neighbours(*hashed, strides))


def _key_digits(limits: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(d,) least quotients and (d+1,) strides of `permutohedral.Digits` in one 64-bit word."""
    digits = permutohedral.digits_for(limits)
    strides = np.zeros(len(limits) + 1, np.uint64)
    for shift, word in zip((0, 32), reversed(digits.words), strict=False):
        for digit, stride in word:
            strides[digit] = stride << shift
    strides[-1] = 0  # of r, which is counted apart
    return np.array(digits.lows, np.int64), strides.view(np.int64)


def compiled(function):
    """Compiled at the first call; kept on disk where numba finds a folder it may write to."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


@compiled
def _enclose(axes, steps, lows, strides):
    """(d, N) steps -> (N, d+1) int64 keys of the corners, (N, d+1) float32 weights (p. 4-5, 10).

    A key holds r and the quotients of d coordinates in mixed radix. No product is fused into a sum
    (no fastmath), so that points on a boundary fall to the side that they fall to everywhere.
    """
    d, count = len(axes) - 1, steps.shape[1]
    keys = np.empty((count, d + 1), np.int64)
    weights = np.empty((count, d + 1), np.float32)
    y, rest, ordered = np.empty((3, d + 1), np.float32)
    rank, owner = np.empty((2, d + 1), np.int64)
    whole, inverse = np.float32(d + 1), np.float32(1 / (d + 1))
    for p in range(count):
        total, excess = np.float32(0), 0
        for i in range(d, 0, -1):
            step = steps[i - 1, p]
            y[i] = total - np.float32(i) * step
            total += step
        y[0] = total
        for i in range(d + 1):
            quotient = np.rint(y[i] * inverse)
            rest[i] = y[i] - quotient * whole
            excess += np.int64(quotient)
        rank[:] = excess
        for i in range(d + 1):  # how many coordinates lie further from their rounded value
            for j in range(i):
                before = rest[j] < rest[i]
                rank[j] += before
                rank[i] += not before
        key = 0
        for i in range(d + 1):  # back onto the plane
            turn = np.int64(rank[i] < 0) - np.int64(rank[i] > d)
            at = rank[i] + turn * (d + 1)
            quotient = np.rint(y[i] * inverse) + np.float32(turn)
            ordered[at] = y[i] - quotient * whole
            owner[at] = i
            if i < d:
                key += (np.int64(quotient) - lows[i]) * strides[i]
        keys[p, 0] = key
        weights[p, 0] = np.float32(1) + (ordered[d] - ordered[0]) / whole
        for r in range(1, d + 1):  # one coordinate at a time to the next corner
            at = d + 1 - r
            key += 1 - strides[owner[at]]
            keys[p, r] = key
            weights[p, r] = (ordered[at - 1] - ordered[at]) / whole
    return keys, weights


@compiled
def _find(table, unique, key):
    """The slot of a hash table that holds a key's row, or the empty one where it belongs.

    table: int32 rows, -1 where none is; its length is a power of two. unique: keys of the rows.
    """
    mask = len(table) - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    slot = np.int64(mixed >> np.uint64(32)) & mask
    while table[slot] >= 0 and unique[table[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@compiled
def _number(keys, slots):
    """Numbers the vertices in the order that they are met in; open addressing, at most half full.

    (N, d+1) keys, and slots to begin with -> (N, d+1) int32 rows, (M,) keys of the rows, the table.
    """
    count, corners = keys.shape
    vertices = np.empty((count, corners), np.int32)
    unique, found = np.empty(slots // 2, np.int64), 0
    table = np.full(slots, -1, np.int32)
    for p in range(count):
        for k in range(corners):
            key = keys[p, k]
            if p and keys[p - 1, k] == key:  # as the pixel to the left
                vertices[p, k] = vertices[p - 1, k]
                continue
            slot = _find(table, unique, key)
            if table[slot] < 0:
                if found == len(unique):
                    unique = np.concatenate((unique, unique))
                    table = np.full(4 * found, -1, np.int32)
                    for row in range(found):
                        table[_find(table, unique, unique[row])] = row
                    slot = _find(table, unique, key)
                table[slot], unique[found] = found, key
                found += 1
            vertices[p, k] = table[slot]
    return vertices, unique[:found].copy(), table


@compiled
def _neighbours(unique, table, strides):
    """(d+1, M, 2) rows of the neighbours ahead and behind along each axis, M where none is."""
    size, axes = len(unique), len(strides)
    sides = np.full((axes, size, 2), size, np.int32)
    every = strides.sum()
    for row in range(size):
        key = unique[row]
        # +d along the axis, -1 elsewhere: r goes down by one, or from 0 to d with all quotients.
        wraps = (key & 0xFFFFFFFF) % axes == 0
        start = key + axes - 1 - every if wraps else key - 1
        for axis in range(axes):
            other = table[_find(table, unique, start + strides[axis])]
            if other >= 0:
                sides[axis, row, 0] = other
                sides[axis, other, 1] = row
    return sides


@compiled
def fold_weights(vertices, weights, sides, scale):
    """Weights of a lattice with its normalisation and a weight in them, half on either side.

    ``scale``: the square root of the weight. D is slice(blur(splat(1))), up to the blur's gain.
    """
    count, corners = vertices.shape
    alpha = np.float32(1 / (1 + 2.0 ** (1 - corners)))
    field, blurred = np.zeros((2, sides.shape[1] + 1), np.float32)
    for p in range(count):
        for k in range(corners):
            field[vertices[p, k]] += weights[p, k]
    for axis in range(corners):
        for row in range(sides.shape[1]):
            ahead, behind = field[sides[axis, row, 0]], field[sides[axis, row, 1]]
            blurred[row] = field[row] + np.float32(0.5) * (ahead + behind)
        field, blurred = blurred, field
    folded = np.empty_like(weights)
    for p in range(count):
        mass = np.float32(0)
        for k in range(corners):
            mass += weights[p, k] * field[vertices[p, k]]
        factor = np.float32(scale * np.sqrt(alpha)) / np.sqrt(alpha * mass + np.float32(1e-20))
        for k in range(corners):
            folded[p, k] = weights[p, k] * factor
    return folded


@compiled
def place_rows(vertices, edges, base, width, places, column):
    """Writes where the vertices' rows begin into columns of ``places``; one row a part and vertex.

    Parts of the pixels, between ``edges``, are splatted at the same time, so a vertex that belongs
    to an earlier part has a stand-in for each later one that meets it, behind the row of nothing.
    Returns (G,) int32, the rows that the stand-ins stand for.
    """
    corners, size = vertices.shape[1], np.int64(vertices.max()) + 1
    originals, count, seen = np.empty((len(edges) - 2) * size, np.int32), 0, 0
    for part in range(len(edges) - 1):
        stand_in, most = np.full(seen, -1, np.int64), seen
        for p in range(edges[part], edges[part + 1]):
            for k in range(corners):
                row = np.int64(vertices[p, k])
                if row >= seen:
                    most = max(most, row + 1)
                else:
                    if stand_in[row] < 0:
                        stand_in[row], originals[count] = size + 1 + count, row
                        count += 1
                    row = stand_in[row]
                places[p, column + k] = (base + row) * width
        seen = most
    return originals[:count].copy()
