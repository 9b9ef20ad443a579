"""Mean field of a dense CRF on the host: permutohedral lattices of photos, compiled by numba.

What `photo` infers, for concrete arrays where the CPU is all there is. Any number of Python threads
may call it at once. What it gives depends on its arguments alone, to the last bit, and not on how
many threads share the work.
"""

import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from wsol_jax.ops.crf import host_lattice, host_sweep
from wsol_jax.ops.crf.host_lattice import HostLattice, build_host_lattice
from wsol_jax.ops.crf.lattice import bilateral_steps, colour_steps, spatial_steps
from wsol_jax.ops.crf.photo import check_range, enough_capacity

_PARTS = 4  # of a photo's pixels, which threads may work on at the same time
_ALONE = 2**18  # numbers that one thread blurs sooner than several are told to
_LEAST = -60.0, -87.0  # exp of less is 0: in an iteration, and in what is returned
_NOTHING = np.zeros(0, np.float32)
_Pool = concurrent.futures.ThreadPoolExecutor


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
      bilateral, spatial, iterations: as `dense_crf` has them.
      capacity: nothing here needs one; a photo with more vertices is refused as elsewhere.
      threads: that share the work. None: all cores for a call from the main thread, and 1 from any
        other, which is one of a pool that has the cores busy.

    Raises:
      ValueError: ``capacity`` is too small, or a value of an image outside 0..255.
    """
    if threads is None:
        main = threading.current_thread() is threading.main_thread()
        threads = _cores() if main else 1
    found = np.empty(unary.shape, np.float32)
    one = functools.partial(
        _photo, bilateral=bilateral, spatial=spatial, capacity=capacity, iterations=iterations
    )
    photos = list(zip(unary, image, found, strict=True))
    if threads == 1:
        for photo in photos:
            one(*photo, None)
        return found
    with _Pool(threads) as pool:
        if len(photos) == 1:
            one(*photos[0], pool)
        else:
            _each(pool, lambda photo: one(*photo, None), photos)
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _each(pool: _Pool | None, function: Callable, items: Sequence) -> None:
    """Calls a function on every item, by a pool's threads where there is one."""
    for _ in map(function, items) if pool is None else pool.map(function, items):
        pass


def _photo(unary, image, found, pool, *, bilateral, spatial, capacity, iterations) -> None:
    """One photo's probabilities, written into ``found``."""
    lattices = []
    if bilateral[0]:
        check_range(image)
        lattice = _bilateral_lattice(image, bilateral)
        enough_capacity(lattice.sides.shape[1], capacity)
        lattices.append(_folded(lattice, bilateral[0]))
    if spatial[0]:
        lattices.append(_spatial_lattice(unary.shape[:2], spatial))
    classes = unary.shape[-1]
    unary = np.ascontiguousarray(unary, np.float32).reshape(-1, classes)
    _iterate(unary, lattices, iterations, found.reshape(-1, classes), pool)


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
    return lattice._replace(weights=host_lattice.fold_weights(*lattice, weight**0.5))


class _Layout(NamedTuple):
    """Where a lattice's rows lie among all lattices' rows.

    base: its first row; then come the row of nothing, and those of the stand-ins for ``originals``.
    sides: as `HostLattice` has them, of the axes along which there are neighbours.
    """

    base: int
    sides: np.ndarray
    originals: np.ndarray

    @property
    def rows(self) -> int:
        return self.sides.shape[1] + 1 + len(self.originals)


def _iterate(
    unary: np.ndarray,
    lattices: Sequence[HostLattice],
    iterations: int,
    found: np.ndarray,
    pool: _Pool | None,
) -> None:
    """(N, C) unaries and folded lattices -> (N, C) probabilities, written into ``found``."""
    count, classes = unary.shape
    lanes = 4 if classes <= 4 else 8
    width, like = -(-classes // lanes) * lanes, (0,) * lanes
    scores = host_sweep.pad_scores(unary, width)
    layouts, places, weights = _lay_out(lattices, count, width)
    spans = _spans(count, _PARTS if pool else 1)
    args = (like, (0,) * places.shape[1], scores, places, weights)

    def sweep(fields, sums, found, least):
        _each(pool, lambda span: host_sweep.sweep(*args, fields, sums, found, span, least), spans)

    if not iterations or not lattices:
        return sweep(_NOTHING, _NOTHING, found, _LEAST[1])
    rows, nowhere = sum(layout.rows for layout in layouts), np.zeros((0, classes), np.float32)
    sums, fields = _aligned(rows * width), _aligned(rows * width)
    sweep(_NOTHING, sums, nowhere, _LEAST[0])
    for left in range(iterations - 1, -1, -1):
        for layout in layouts:
            _blur(like, layout, sums, fields, width, pool)
        if left:
            sums.fill(0)
            sweep(fields, sums, nowhere, _LEAST[0])
    sweep(fields, _NOTHING, found, _LEAST[1])


def _lay_out(lattices: Sequence[HostLattice], count: int, width: int):
    """A layout for each lattice; and of all of them, side by side, (N, K) places and weights."""
    sizes = [lattice.sides.shape[1] for lattice in lattices]
    kind = np.int32 if _PARTS * (sum(sizes) + 1) * width < 2**31 else np.int64
    shape = count, sum(len(lattice.sides) for lattice in lattices)
    places, weights = np.empty(shape, kind), np.empty(shape, np.float32)
    edges = np.array([0, *(last for _, last in _spans(count, _PARTS))])
    layouts, base, column = [], 0, 0
    for lattice, size in zip(lattices, sizes, strict=True):
        after = column + len(lattice.sides)
        weights[:, column:after] = lattice.weights
        originals = host_lattice.place_rows(lattice.vertices, edges, base, width, places, column)
        met = (lattice.sides < size).any(axis=(1, 2))
        layouts.append(_Layout(base, lattice.sides[met], originals))
        base, column = base + layouts[-1].rows, after
    return layouts, places, weights


def _blur(like: tuple, layout: _Layout, sums, fields, width: int, pool: _Pool | None) -> None:
    """Adds a lattice's stand-ins to their originals, and blurs what there is into ``fields``."""
    base, sides, originals = layout
    size, even = sides.shape[1], len(sides) % 2 == 0
    # Back and forth between two buffers, to end in fields.
    source, target = (fields, sums) if even else (sums, fields)
    host_sweep.collect(like, sums, source, even, base, size, originals, width)
    if size * width < _ALONE:
        pool = None
    spans = _spans(size, _PARTS if pool else 1)
    for axis in sides:
        blur = functools.partial(host_sweep.blur_axis, like, source, target, axis, base, width)
        _each(pool, blur, spans)
        source, target = target, source
    host_sweep.hand_out(like, fields, base, size, originals, width)


def _spans(count: int, parts: int) -> list[tuple[int, int]]:
    return [(count * i // parts, count * (i + 1) // parts) for i in range(parts)]


def _aligned(size: int) -> np.ndarray:
    """(size,) float32 zeros that begin where a line of the cache does."""
    room = np.zeros(size + 16, np.float32)
    return room[-room.ctypes.data % 64 // 4 :][:size]
