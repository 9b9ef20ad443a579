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

import numpy as np

from wsol_jax.ops.crf import host_sweep
from wsol_jax.ops.crf.host_lattice import HostLattice, build_host_lattice
from wsol_jax.ops.crf.lattice import bilateral_steps, colour_steps, spatial_steps
from wsol_jax.ops.crf.photo import check_range, enough_capacity

_PARTS = 2
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
    lanes = 2 if classes <= 2 else 4 if classes <= 4 else 8
    width, like = -(-classes // lanes) * lanes, (0,) * lanes
    scores = host_sweep.pad_scores(unary, width)
    sizes = [lattice.sides.shape[1] + 1 for lattice in lattices]
    bases = np.cumsum([0, *sizes])
    kind = np.int32 if bases[-1] * width < 2**31 else np.int64
    places, weights = np.empty((count, 0), np.int32), np.empty((count, 0), np.float32)
    if lattices:
        rows = [(lattice.vertices + base) for lattice, base in zip(lattices, bases)]
        places = np.concatenate(rows, axis=1).astype(kind) * kind(width)
        weights = np.concatenate([lattice.weights for lattice in lattices], axis=1)
    fields = np.zeros(bases[-1] * width, np.float32)
    parts = np.zeros((_PARTS, len(fields)), np.float32)
    spans = _spans(count)

    def sweep(fields, sums, found, least):
        args = (like, scores, places, weights, fields)
        one = lambda span, part: host_sweep.sweep(*args, part, found, span, least)
        list(share(one, spans, sums))

    nothing = np.zeros((0, classes), np.float32)
    if not iterations or not lattices:
        return sweep(_NONE, [_NONE] * _PARTS, found, _LEAST[1])
    sweep(_NONE, parts, nothing, _LEAST[0])
    for left in range(iterations - 1, -1, -1):
        for lattice, base in zip(lattices, bases):
            _blur(like, lattice.sides, base, parts, fields, width, share)
        if left:
            sweep(fields, parts, nothing, _LEAST[0])
    sweep(fields, [_NONE] * _PARTS, found, _LEAST[1])


def _blur(like, sides, base, parts, fields, width, share) -> None:
    """Adds up the parts' sums of a lattice and blurs them into ``fields``."""
    spans = _spans(sides.shape[1])
    # Back and forth between two buffers, to end in fields.
    source, target = (fields, parts[0]) if len(sides) % 2 == 0 else (parts[0], fields)
    add = lambda span: host_sweep.add_parts(parts, source, *((base + at) * width for at in span))
    list(share(add, spans))
    for axis in sides:
        one = lambda span: host_sweep.blur_axis(like, source, target, axis, base, width, span)
        list(share(one, spans))
        source, target = target, source


def _spans(count: int) -> list[tuple[int, int]]:
    edges = [count * part // _PARTS for part in range(_PARTS + 1)]
    return list(zip(edges, edges[1:]))
