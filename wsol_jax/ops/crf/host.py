"""Mean field of a dense CRF on the host: permutohedral lattices of photos, compiled by numba.

What `photo` infers, for concrete arrays where the CPU is all there is. Any number of Python threads
may call it at once. Its numbers depend on its arguments alone, not on how many threads share the
work: pixels are split into parts of their own sums, which are added up in order.
"""

import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from wsol_jax.ops.crf import host_sweep
from wsol_jax.ops.crf.host_lattice import HostLattice, build_host_lattice
from wsol_jax.ops.crf.lattice import bilateral_steps, colour_steps, spatial_steps
from wsol_jax.ops.crf.photo import check_range, enough_capacity

_PARTS = 4
_LEAST = -60.0, -87.0  # exp of less is 0: in an iteration, and in what is returned
_NONE = np.zeros(0, np.float32)


def host_field(
    unary: np.ndarray,
    image: np.ndarray,
    bilateral: tuple,
    spatial: tuple,
    capacity: int | None,
    iterations: int,
    *,
    threads: int | None = None,
) -> np.ndarray:
    """Infers a dense CRF on photos: (B, H, W, C), (B, H, W, 3) -> (B, H, W, C) float32.

    Args:
      bilateral, spatial, capacity, iterations: as `dense_crf` has them.
      threads: that share the work. None: all cores for a call from the main thread, which is alone,
        and 1 from another, whose pool has the cores busy.

    Raises:
      ValueError: ``capacity`` is too small, or a value of an image outside 0..255.
    """
    if threads is None:
        main = threading.current_thread() is threading.main_thread()
        threads = _cores() if main else 1
    found = np.empty(unary.shape, np.float32)
    settings = (bilateral, spatial, capacity, iterations)
    if threads == 1:
        for u, i, f in zip(unary, image, found, strict=True):
            _photo(u, i, f, *settings, map)
        return found
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        if len(unary) > 1:
            list(pool.map(lambda *one: _photo(*one, *settings, map), unary, image, found))
        elif len(unary):
            _photo(unary[0], image[0], found[0], *settings, pool.map)
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _photo(unary, image, found, bilateral, spatial, capacity, iterations, share: Callable) -> None:
    """One photo's probabilities, written into ``found``; ``share`` is map or a pool's."""
    shape, classes = unary.shape[:2], unary.shape[-1]
    lattices = []
    if bilateral[0]:
        check_range(image)
        lattice = _bilateral_lattice(image, bilateral)
        enough_capacity(lattice.sides.shape[1], capacity)
        lattices.append(_folded(lattice, bilateral[0]))
    if spatial[0]:
        lattices.append(_spatial_lattice(shape, spatial))
    unary = np.ascontiguousarray(unary, np.float32).reshape(-1, classes)
    _iterate(unary, lattices, iterations, found.reshape(-1, classes), share)


def _bilateral_lattice(image: np.ndarray, bilateral: tuple) -> HostLattice:
    places, limits, levels = bilateral_steps(image.shape, bilateral)
    colours, _ = colour_steps(np, image.reshape(-1, 3), bilateral[2], levels)
    return build_host_lattice([*places, *colours], limits)


@functools.lru_cache(maxsize=8)
def _spatial_lattice(shape: tuple[int, int], spatial: tuple) -> HostLattice:
    """The spatial kernel's, which no image changes."""
    steps, _, _ = spatial_steps(shape, spatial)
    return _folded(build_host_lattice(steps, [step.max() for step in steps]), spatial[0])


def _folded(lattice: HostLattice, weight: float) -> HostLattice:
    return lattice._replace(weights=host_sweep.fold_weights(*lattice, weight**0.5))


def _iterate(
    unary: np.ndarray,
    lattices: Sequence[HostLattice],
    iterations: int,
    found: np.ndarray,
    share: Callable,
) -> None:
    """(N, C) unaries and folded lattices -> (N, C) probabilities, written into ``found``."""
    count, classes = unary.shape
    lanes = 4 if classes <= 4 else 8
    width, like = -(-classes // lanes) * lanes, (0,) * lanes
    scores = host_sweep.pad_scores(unary, width)
    edges = np.linspace(0, count, _PARTS + 1).astype(np.int64)
    spans = list(zip(edges[:-1], edges[1:], strict=True))
    layouts, places, weights = _lay_out(lattices, edges, width)
    rows = sum(layout.rows for layout in layouts)
    sums, fields = _aligned(rows * width), _aligned(rows * width)

    def sweep(fields, sums, found, least):
        args = (like, (0,) * places.shape[1], scores, places, weights, fields, sums, found)
        list(share(lambda span: host_sweep.sweep(*args, span, least), spans))

    nowhere = np.zeros((0, classes), np.float32)
    if not iterations or not lattices:
        return sweep(_NONE, _NONE, found, _LEAST[1])
    sweep(_NONE, sums, nowhere, _LEAST[0])
    for left in range(iterations - 1, -1, -1):
        for layout in layouts:
            _blur(like, layout, sums, fields, width, share)
        if left:
            sums.fill(0)
            sweep(fields, sums, nowhere, _LEAST[0])
    sweep(fields, _NONE, found, _LEAST[1])


class _Layout(NamedTuple):
    """Where a lattice's rows lie among all lattices': from ``base`` on, first its vertices', then
    the row of nothing, then those of the stand-ins for ``originals``."""

    base: int
    sides: np.ndarray  # of the axes along which there are neighbours
    originals: np.ndarray

    @property
    def rows(self) -> int:
        return self.sides.shape[1] + 1 + len(self.originals)


def _lay_out(lattices, edges, width):
    """A layout for each lattice, and all their places and weights side by side (N, K)."""
    sizes = [lattice.sides.shape[1] for lattice in lattices]
    kind = np.int32 if (_PARTS * sum(sizes) + 2) * width < 2**31 else np.int64
    shape = edges[-1], sum(len(lattice.sides) for lattice in lattices)
    places, weights = np.empty(shape, kind), np.empty(shape, np.float32)
    layouts, base, column = [], 0, 0
    for lattice, size in zip(lattices, sizes, strict=True):
        after = column + len(lattice.sides)
        weights[:, column:after] = lattice.weights
        originals = host_sweep.place_rows(lattice.vertices, edges, base, width, places, column)
        met = (lattice.sides < size).any(axis=(1, 2))
        layouts.append(_Layout(base, lattice.sides[met], originals))
        base, column = base + layouts[-1].rows, after
    return layouts, places, weights


def _blur(like, layout: _Layout, sums, fields, width, share) -> None:
    """Adds up the parts' sums of a lattice and blurs them into ``fields``."""
    base, sides, originals = layout
    size = sides.shape[1]
    # Back and forth between two buffers, to end in fields.
    even = len(sides) % 2 == 0
    source, target = (fields, sums) if even else (sums, fields)
    host_sweep.collect(like, sums, source, even, base, size, originals, width)
    edges = np.linspace(0, size, _PARTS + 1).astype(np.int64)
    spans = list(zip(edges[:-1], edges[1:], strict=True))
    for axis in sides:
        one = lambda span: host_sweep.blur_axis(like, source, target, axis, base, width, span)
        list(share(one, spans))
        source, target = target, source
    host_sweep.hand_out(like, fields, base, size, originals, width)


def _aligned(size: int) -> np.ndarray:
    """(size,) float32 zeros that begin where a line of the cache does."""
    room = np.zeros(size + 16, np.float32)
    return room[-room.ctypes.data % 64 // 4 :][:size]
