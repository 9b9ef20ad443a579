"""Mean field of a dense CRF on one photo: of any size, with few compiled programs.

What XLA compiles has one shape. So a photo lies in the corner of a canvas, and its lattice in one
of few capacities, found by counting: nothing here runs inside jit.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.ops.crf import permutohedral
from wsol_jax.ops.crf.lattice import (
    bilateral_steps,
    colour_steps,
    folded,
    in_range,
    join_kernels,
    lattice_field,
    spatial_lattice,
    spatial_steps,
)
from wsol_jax.ops.crf.permutohedral import Lattice, Simplices

_CANVAS = 64  # pixels: sides are multiples of it


def photo_field(
    unary: jax.Array,
    image: jax.Array,
    bilateral: tuple,
    spatial: tuple,
    capacity: int | None,
    iterations: int,
) -> jax.Array:
    """Infers a dense CRF on one photo outside jit: (H, W, C), (H, W, 3) -> (H, W, C).

    The photo lies in the corner of a canvas, whose other pixels take part in nothing: they belong
    to the first pixel's vertices with weight 0, so that no vertex is there for them. The vertices
    are counted before a capacity is chosen.

    Raises:
      ValueError: ``capacity`` is too small, or a value of the image outside 0..255.
    """
    size, classes = unary.shape[:2], unary.shape[-1]
    shape = tuple(-(-length // _CANVAS) * _CANVAS for length in size)
    past = [(0, whole - part) for whole, part in zip(shape, size, strict=True)]
    scores = jnp.pad(-unary.astype(jnp.float32), [*past, (0, 0)]).reshape(-1, classes)
    flat = _spatial_part(shape, size, spatial) if spatial[0] else None
    simplices, enough = None, 0
    if bilateral[0]:
        check_range(image)
        simplices = _photo_simplices(np.asarray(image), shape, bilateral)
        enough = enough_capacity(int(simplices.counts[-1]), capacity)
    kernel = join_kernels(simplices, flat, shape, bilateral, enough)
    found = _field(scores, kernel, iterations)
    return found.reshape(*shape, classes)[: size[0], : size[1]]


def check_range(image: jax.Array | np.ndarray) -> None:
    """Refuses an image outside jit that has values outside 0..255, or NaN."""
    if not in_range(image):
        raise ValueError("the lattice takes images in 0..255; this one has values outside or NaN")


def enough_capacity(size: int, capacity: int | None) -> int:
    """The capacity for a lattice of so many vertices; refuses one that is too small."""
    if capacity is not None and capacity < size:
        raise ValueError(
            f"capacity={capacity} is too small for this image, whose bilateral lattice has {size} "
            f"vertices: set capacity={_rounded(size)}, or None to have them counted"
        )
    return capacity or _rounded(size)


def _rounded(count: int) -> int:
    """The next of 64, 96, 128, 192, 256, ...: few capacities, as each means a compilation."""
    power = 1 << max(6, (count - 1).bit_length())
    return power * 3 // 4 if count <= power * 3 // 4 else power


_field = functools.partial(jax.jit, static_argnums=2)(lattice_field)
_enclose = functools.partial(jax.jit, static_argnums=2)(permutohedral.enclosing_simplices)


def _photo_simplices(image: np.ndarray, shape: tuple[int, int], bilateral: tuple) -> Simplices:
    """Simplices of an image in a canvas's corner; the rest copy its first pixel and weigh 0.

    Their steps are made on the host: fused with the search they would cost four times the search.
    """
    inside = _inside(shape, image.shape)
    places, limits, levels = bilateral_steps(shape, bilateral)
    colours = np.empty((*shape, 3), image.dtype)
    colours[...] = image[0, 0]
    colours[: image.shape[0], : image.shape[1]] = image
    steps, multiples = colour_steps(np, colours.reshape(-1, 3), bilateral[2], levels)
    places = [place * inside for place in places]  # the first pixel's are 0
    doubled = [places[0], np.float32(2) * places[1]]
    digits = permutohedral.digits_for(limits)
    simplices = _enclose([*places, *steps], [*doubled, *multiples], digits)
    return simplices._replace(weights=simplices.weights * inside[:, None])


def _inside(shape: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """(H W,) float32: 1 for a canvas's pixels that belong to the image in its corner."""
    inside = np.zeros(shape, np.float32)
    inside[: size[0], : size[1]] = 1
    return inside.ravel()


@functools.lru_cache(maxsize=8)
def _spatial_part(shape: tuple[int, int], size: tuple[int, int], spatial: tuple) -> Lattice:
    """The spatial lattice of those pixels of a canvas that belong to the image in its corner."""
    whole = spatial_lattice(*shape, spatial)
    if shape == tuple(size):
        return whole
    inside = _inside(shape, size)
    steps, multiples, digits = spatial_steps(shape, spatial)
    simplices = _enclose([x * inside for x in steps], [x * inside for x in multiples], digits)
    simplices = simplices._replace(weights=simplices.weights * inside[:, None])
    return _spatial_of(simplices, digits, spatial[0], whole.neighbours.shape[-1] - 1)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _spatial_of(simplices: Simplices, digits, weight: float, capacity: int) -> Lattice:
    return folded(permutohedral.build_lattice(simplices, digits, capacity=capacity), weight)
