"""Gaussian filtering in high dimensions on the permutohedral lattice (Adams, Baek, Davis 2010).

The lattice replaces the sum over all pairs of points by three sparse linear maps: *splat* each
point to the d + 1 vertices of the simplex that holds it, *blur* the vertices along the d + 1 axes,
and *slice*: read each point's value back from its vertices. Shapes are static: vertices are found
by sorting and binary search instead of a growing hash table, so that all of it runs inside jit.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

_EMPTY = np.uint32(2**32 - 1)  # sorts behind every key


class Lattice(NamedTuple):
    """A permutohedral lattice of N points in d dimensions, with room for M = capacity vertices.

    vertices: (N, d+1) int32 in 0..M, the rows of a point's vertices; M is the row of nothing.
    weights: (N, d+1) float32, their barycentric coordinates: not negative, summing to 1.
    neighbours: (d+1, 2, M+1) int32 in 0..M, both neighbours of each row along each axis.
    size: () int32, how many vertices the points need.
    overflow: () bool, size > M: then the other fields mean nothing.
    """

    vertices: jax.Array
    weights: jax.Array
    neighbours: jax.Array
    size: jax.Array
    overflow: jax.Array


class Simplices(NamedTuple):
    """The simplices that hold N points, before their vertices are numbered.

    words: tuple of (N, d+1) uint32, most significant first: each vertex's coordinates in mixed
      radix, so that equal vertices have equal words and a step along an axis is an addition.
    weights: (N, d+1) float32.
    ordered: tuple of (N (d+1),) uint32, the words in ascending order.
    counts: (N (d+1),) int32, how many distinct vertices there are so far in that order; the last
      is the capacity that these points need.
    """

    words: tuple[jax.Array, ...]
    weights: jax.Array
    ordered: tuple[jax.Array, ...]
    counts: jax.Array


class Digits(NamedTuple):
    """How a vertex is written as one or two 32-bit words.

    A vertex's coordinates are all equal to r modulo d+1 and sum to 0: r and d quotients say it all.
    words: for each word {digit: stride}; digit i < d is a quotient, digit d is r, of stride 1.
    lows: the d quotients' least values.
    """

    words: tuple[tuple[tuple[int, int], ...], ...]
    lows: tuple[int, ...]


def axis_scales(d: int) -> np.ndarray:
    """(d,) float32: what brings unit Gaussians to the lattice's scale (Adams 2010, p. 5-6).

    The blur's standard deviation is (d+1) sqrt(2/3) lattice units; E's diagonal 1/sqrt(i(i+1)).
    """
    blur = np.float32(math.sqrt(2 / 3) * (d + 1))
    # Multiplied in float64, as pydensecrf does: a last bit moves points over a simplex's boundary.
    return np.array([1 / math.sqrt((i + 1) * (i + 2)) * float(blur) for i in range(d)], np.float32)


def digits_for(limits: Sequence[float]) -> Digits:
    """The mixed radix that holds every vertex of points in a box.

    Args:
      limits: d numbers, point i of which lies in [0, limit], already times `axis_scales`.

    Raises:
      ValueError: more than two 32-bit words would be needed.
    """
    d = len(limits)
    limits = [float(limit) for limit in limits]
    lows, radices = [], []
    for i in range(d):
        # Elevated coordinate i lies in [-i x_i-1, x_i + x_i+1 + ...]. One more each for rounding,
        # for bringing it back to the plane, for the vertex below, and for a neighbour.
        low = math.floor(-i * limits[i - 1] / (d + 1)) - 4 if i else -4
        high = math.ceil(sum(limits[i:]) / (d + 1)) + 4
        lows.append(low)
        radices.append(high - low + 1)
    words, current, product = [], [], 1
    for digit, radix in [(d, d + 1), *enumerate(radices)]:
        if product * radix >= 2**32:
            words.append(tuple(current))
            current, product = [], 1
        current.append((digit, product))
        product *= radix
    words.append(tuple(current))
    if len(words) > 2 or product >= 2**32:
        raise ValueError(
            "the standard deviations are too small for this image: the lattice needs "
            f"more than 64 bits a vertex (extents {[f'{x:.3g}' for x in limits]})"
        )
    return Digits(tuple(reversed(words)), tuple(lows))


def enclosing_simplices(
    steps: Sequence[jax.Array], multiples: Sequence[jax.Array], digits: Digits
) -> Simplices:
    """Each point's simplex and its barycentric coordinates in it (Adams 2010, p. 4-5, 10).

    Args:
      steps: d arrays (N,) float32, x_i: coordinate i times `axis_scales`, within the limits that
        `digits` was made for.
      multiples: d arrays (N,), (i+1) x_i. Given and not computed: with no product here there is no
        multiplication that a compiler could fuse into an addition, so that points on a simplex's
        boundary fall to the same side everywhere.
      digits: from `digits_for`.
    """
    d = len(steps)
    # y = E x lies on the plane sum(y) = 0.
    elevated, total = [], jnp.zeros_like(steps[0])
    for step, multiple in zip(reversed(steps), reversed(multiples), strict=True):
        elevated.insert(0, total - multiple)
        total = total + step
    elevated.insert(0, total)
    # The nearest vertex of remainder 0, were it not for the plane; ties to even.
    quotients = [jnp.round(y * np.float32(1 / (d + 1))) for y in elevated]
    rests = [y - q * (d + 1) for y, q in zip(elevated, quotients, strict=True)]
    excess = functools.reduce(jnp.add, quotients).astype(jnp.int32)
    ranks = []  # how many coordinates lie further from their rounded value; ties by order
    for i, rest in enumerate(rests):
        above = [(rest < r) if j > i else (rest <= r) for j, r in enumerate(rests) if j != i]
        ranks.append(functools.reduce(jnp.add, [a.astype(jnp.int32) for a in above]) + excess)
    # Back onto the plane: the coordinates that were rounded furthest go the other way.
    turns = [(rank < 0).astype(jnp.int32) - (rank > d).astype(jnp.int32) for rank in ranks]
    ranks = [rank + turn * (d + 1) for rank, turn in zip(ranks, turns, strict=True)]
    quotients = [q + turn for q, turn in zip(quotients, turns, strict=True)]
    rests = [y - q * (d + 1) for y, q in zip(elevated, quotients, strict=True)]
    whole = [q.astype(jnp.int32) for q in quotients]

    # In the order of the rests the simplex's corners are walked one coordinate at a time: the
    # weight of corner r is the gap between neighbours in that order.
    ordered = [
        functools.reduce(jnp.add, [jnp.where(ranks[i] == k, rests[i], 0) for i in range(d + 1)])
        for k in range(d + 1)
    ]
    gaps = [(ordered[d - r] - ordered[d + 1 - r]) / (d + 1) for r in range(1, d + 1)]
    first = 1 + (ordered[d] - ordered[0]) / (d + 1)
    weights = jnp.stack([first, *gaps], axis=-1)

    words = []
    for word in digits.words:
        columns = []
        for r in range(d + 1):
            code = jnp.zeros(steps[0].shape, jnp.int32)
            for digit, stride in word:
                if digit == d:
                    value = r
                else:
                    value = whole[digit] - digits.lows[digit]
                    value = value - (ranks[digit] + r > d).astype(jnp.int32)
                code = code + value * np.uint32(stride).astype(np.int32)  # modulo 2^32
            columns.append(jax.lax.bitcast_convert_type(code, jnp.uint32))
        words.append(jnp.stack(columns, axis=-1))
    return Simplices(tuple(words), weights, *_ordered(words))


def _ordered(words: Sequence[jax.Array]) -> tuple[tuple[jax.Array, ...], jax.Array]:
    flat = [word.reshape(-1) for word in words]
    # One word alone takes XLA's fast path on a CPU, 7 times faster than keys with a payload.
    if len(flat) == 1:
        flat = [jnp.sort(flat[0])]
    else:
        flat = jax.lax.sort(flat, num_keys=len(flat), is_stable=False)
    changed = functools.reduce(jnp.logical_or, [word[1:] != word[:-1] for word in flat])
    return tuple(flat), jnp.cumsum(jnp.pad(changed, (1, 0), constant_values=True), dtype=jnp.int32)


def build_lattice(simplices: Simplices, digits: Digits, *, capacity: int) -> Lattice:
    """Numbers the vertices in the order of their keys and finds their neighbours.

    Args:
      simplices: of N points in d dimensions.
      digits: the one that they were made with.
      capacity: M, the most vertices there may be; N (d+1) always suffices. Too small a one sets
        ``overflow``.
    """
    d = simplices.weights.shape[-1] - 1
    size = simplices.counts[-1]
    used = jnp.arange(capacity, dtype=jnp.int32) < size
    # Equal keys write the same number, so their order does not matter.
    table = tuple(
        jnp.full(capacity, _EMPTY).at[simplices.counts - 1].set(word, mode="drop")
        for word in simplices.ordered
    )
    return Lattice(
        vertices=_find(table, simplices.words),
        weights=simplices.weights,
        neighbours=_neighbours(table, used, digits, d),
        size=size,
        overflow=size > capacity,
    )


def _neighbours(table: tuple[jax.Array, ...], used: jax.Array, digits: Digits, d: int) -> jax.Array:
    """(d+1, 2, M+1) int32: rows of the neighbours ahead and behind along each axis."""
    # A step along axis j: +d there and -1 everywhere else, or in digits: r goes down by one, or
    # from 0 to d with all quotients down by one; then quotient j goes up by one.
    wraps = table[-1] % np.uint32(d + 1) == 0
    targets = []
    for word, values in zip(digits.words, table, strict=True):
        usual, wrapped = np.zeros((2, d + 1), np.int64)
        for digit, stride in word:
            usual[digit] += stride * (digit < d)
            wrapped[digit] += stride * (digit < d)
            usual -= digit == d
            wrapped += d if digit == d else -stride
        change = [(c % 2**32).astype(np.uint32)[:, None] for c in (wrapped, usual)]
        targets.append(values + jnp.where(wraps, *change))
    capacity = len(used)
    ahead = jnp.where(used, _find(table, tuple(targets)), capacity)
    # The neighbour behind is the same relation read backwards.
    axes = jnp.arange(d + 1)[:, None]
    behind = jnp.full((d + 1, capacity + 1), capacity, jnp.int32)
    behind = behind.at[axes, ahead].set(jnp.arange(capacity, dtype=jnp.int32))
    ahead = jnp.pad(ahead, ((0, 0), (0, 1)), constant_values=capacity)
    return jnp.stack([ahead, behind.at[:, -1].set(capacity)], axis=1)


def _find(table: tuple[jax.Array, ...], words: tuple[jax.Array, ...]) -> jax.Array:
    """The rows of a sorted table that hold the words, its length where none does."""
    capacity = len(table[0])

    def step(_, bounds):
        low, high = bounds  # the first row not less than the words is in [low, high]
        middle = (low + high) // 2
        row = jnp.minimum(middle, capacity - 1)
        less = equal = None
        for column, word in zip(table, words, strict=True):
            value = column[row]
            smaller = value < word
            less = smaller if less is None else less | (equal & smaller)
            equal = value == word if equal is None else equal & (value == word)
        less &= low < high
        return jnp.where(less, middle + 1, low), jnp.where(less, high, middle)

    shape = words[0].shape
    bounds = (jnp.zeros(shape, jnp.int32), jnp.full(shape, capacity, jnp.int32))
    low, _ = jax.lax.fori_loop(0, capacity.bit_length(), step, bounds)
    row = jnp.minimum(low, capacity - 1)
    found = low < capacity
    for column, word in zip(table, words, strict=True):
        found &= column[row] == word
    return jnp.where(found, row, capacity)


def splat(vertices: jax.Array, weights: jax.Array, values: jax.Array, sums: jax.Array) -> jax.Array:
    """Adds (N, C) at the points to (M+1, C) at the vertices, whose last row is of no vertex.

    ``vertices`` and ``weights`` are those of a `Lattice`, of all its points or of some.
    """
    chex.assert_rank([values, sums], 2)
    spread = (weights[:, :, None] * values[:, None]).reshape(-1, values.shape[1])
    return sums.at[vertices.reshape(-1)].add(spread, mode="promise_in_bounds")


def blur(neighbours: jax.Array, values: jax.Array) -> jax.Array:
    """(M+1, C) -> (M+1, C): [1/2, 1, 1/2] along the d+1 axes in turn; absent neighbours count 0."""

    # A scan, since XLA would fuse the axes into one loop that reads 3^(d+1) rows for each.
    def axis(values, sides):
        ahead, behind = (values.at[side].get(mode="promise_in_bounds") for side in sides)
        return values + 0.5 * (ahead + behind), None

    return jax.lax.scan(axis, values.at[-1].set(0), neighbours)[0]


def slice_values(vertices: jax.Array, weights: jax.Array, values: jax.Array) -> jax.Array:
    """(M+1, C) at the vertices -> (N, C) at the points of these ``vertices`` and ``weights``."""
    parts = [
        weights[:, k, None] * values.at[vertices[:, k]].get(mode="promise_in_bounds")
        for k in range(vertices.shape[1])
    ]
    return functools.reduce(jnp.add, parts)
