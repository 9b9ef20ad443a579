"""Mean field of a dense CRF on permutohedral lattices: in linear time, for photos."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.ops.crf import permutohedral
from wsol_jax.ops.crf.permutohedral import Lattice, Simplices
from wsol_jax.ops.crf_settings import CrfSettings

_TINY = 1e-20  # pydensecrf's
_CPU_BLOCK = 1024  # pixels


class LatticeKernel(NamedTuple):
    """A CRF's kernel of one image: both terms' lattices, built once, used in every iteration.

    lattices: those of the kernels whose weight is not 0; each one's ``weights`` hold its
      normalisation and the square root of its weight too, so that splat, blur, slice is all.
    size: () int32, the vertices that the bilateral kernel needs.
    overflow: () bool, size > capacity. `mean_field` answers it with NaN.
    """

    lattices: tuple[Lattice, ...]
    size: jax.Array
    overflow: jax.Array


def lattice_kernel(
    image: jax.Array,
    *,
    bilateral: tuple[float, ...] = CrfSettings.bilateral,
    spatial: tuple[float, ...] = CrfSettings.spatial,
    capacity: int | None = None,
) -> LatticeKernel:
    """Builds a CRF's kernel of an image on permutohedral lattices; vmap it for a batch.

    Args:
      image: (H, W, 3) in 0..255. Of uint8 the lattice is pydensecrf's vertex by vertex.
      bilateral, spatial: as `dense_crf` has them.
      capacity: vertices of the bilateral lattice; None: 6 H W, the most that there can be.

    Returns:
      A pytree, to be handed to `mean_field` as often as wanted. Its ``overflow`` says whether
      ``capacity`` was too small, or a value of the image outside 0..255.
    """
    bilateral, spatial = _floats(bilateral), _floats(spatial)
    flat = spatial_lattice(*image.shape[:2], spatial) if spatial[0] else None
    if not bilateral[0]:
        return join_kernels(None, flat, image.shape, bilateral, 0)
    simplices = _bilateral_simplices(image, bilateral)
    capacity = simplices.weights.size if capacity is None else capacity
    kernel = join_kernels(simplices, flat, image.shape, bilateral, capacity)
    return kernel._replace(overflow=kernel.overflow | ~in_range(image))


def count_vertices(image: jax.Array, *, bilateral: tuple[float, float, float]) -> jax.Array:
    """Counts the vertices of an image's bilateral lattice: the capacity that it needs.

    Args:
      image: (H, W, 3) in 0..255.
      bilateral: as `dense_crf` has it; its weight does not matter.

    Returns:
      () int32; -1 for an image with values outside 0..255.
    """
    simplices = _bilateral_simplices(image, _floats(bilateral))
    return jnp.where(in_range(image), simplices.counts[-1], -1)


def lattice_field(scores: jax.Array, kernel: LatticeKernel, iterations: int) -> jax.Array:
    """(N, C) scores, -unary -> (N, C) probabilities, NaN where the kernel overflowed."""
    if not iterations or not kernel.lattices:
        probabilities = jax.nn.softmax(scores)
    else:
        infer = functools.partial(_iterate, iterations=iterations)
        probabilities = jax.lax.platform_dependent(
            scores, kernel, cpu=functools.partial(infer, block=_CPU_BLOCK), default=infer
        )
    return jnp.where(kernel.overflow, jnp.nan, probabilities)


def _iterate(
    scores: jax.Array, kernel: LatticeKernel, *, iterations: int, block: int | None = None
) -> jax.Array:
    """(N, C) -> (N, C); slice, softmax and splat by blocks of pixels that fit a CPU's cache."""
    block = min(block or len(scores), len(scores))
    rest = -len(scores) % block

    def blocks(array, fill):
        array = jnp.pad(array, ((0, rest), (0, 0)), constant_values=fill)
        return array.reshape(-1, block, array.shape[1])

    sides = [lattice.neighbours for lattice in kernel.lattices]
    rows = [side.shape[-1] for side in sides]
    # Pixels past the end write zeros into the row of no vertex.
    places = [
        (blocks(lattice.vertices, count - 1), blocks(lattice.weights, 0))
        for lattice, count in zip(kernel.lattices, rows, strict=True)
    ]
    parts = blocks(scores, 0), places
    empty = [jnp.zeros((count, scores.shape[1]), jnp.float32) for count in rows]

    def read(fields, part):
        scores, places = part
        ties = [
            permutohedral.slice_values(*place, field)
            for place, field in zip(places, fields, strict=True)
        ]
        return jax.nn.softmax(sum(ties, start=scores))

    def sweep(fields):
        """From the blurred vertices to the splatted probabilities of the next iteration."""

        def one(sums, part):
            probabilities = read(fields, part)
            return [
                permutohedral.splat(*place, probabilities, total)
                for place, total in zip(part[1], sums, strict=True)
            ], None

        return jax.lax.scan(one, empty, parts)[0]

    def blurred(sums):
        return [permutohedral.blur(*pair) for pair in zip(sides, sums, strict=True)]

    sums, _ = jax.lax.scan(
        lambda sums, _: (sweep(blurred(sums)), None), sweep(empty), length=iterations - 1
    )
    fields = blurred(sums)
    probabilities = jax.lax.map(lambda part: read(fields, part), parts)
    return probabilities.reshape(-1, scores.shape[1])[: len(scores)]


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def join_kernels(
    simplices: Simplices | None, flat: Lattice | None, shape: tuple, bilateral: tuple, capacity: int
) -> LatticeKernel:
    lattices = () if flat is None else (flat,)
    if simplices is None:
        return LatticeKernel(lattices, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    digits = permutohedral.digits_for(bilateral_steps(shape, bilateral)[1])
    lattice = permutohedral.build_lattice(simplices, digits, capacity=capacity)
    lattices = (folded(lattice, bilateral[0]), *lattices)
    return LatticeKernel(lattices, lattice.size, lattice.overflow)


def folded(lattice: Lattice, weight: float) -> Lattice:
    """The lattice with normalisation and weight inside its own weights, half on either side."""
    vertices, weights, neighbours, *_ = lattice
    alpha = 1 / (1 + 2.0 ** (1 - weights.shape[1]))  # the blur's gain against a Gaussian of 1 at 0
    ones = jnp.ones((len(weights), 1), jnp.float32)
    sums = jnp.zeros((neighbours.shape[-1], 1), jnp.float32)
    sums = permutohedral.blur(neighbours, permutohedral.splat(vertices, weights, ones, sums))
    mass = permutohedral.slice_values(vertices, weights, sums)
    scale = math.sqrt(weight * alpha) * jax.lax.rsqrt(alpha * mass + _TINY)
    return lattice._replace(weights=weights * scale)


def _floats(numbers: Sequence[float]) -> tuple[float, ...]:
    return tuple(map(float, numbers))  # something that jit can hash


def in_range(image: jax.Array) -> jax.Array:
    if image.dtype == jnp.uint8:
        return jnp.ones((), bool)
    return jnp.all((image >= 0) & (image <= 255))  # False for NaN too


def _place_steps(height: int, width: int, sigma: float, scales: np.ndarray):
    """x and y of all pixels, as float32 in pydensecrf's order of operations; host arrays."""
    x = np.arange(width, dtype=np.float32) / np.float32(sigma) * scales[0]
    y = np.arange(height, dtype=np.float32) / np.float32(sigma) * scales[1]
    return [np.tile(x, height), np.repeat(y, width)]


def bilateral_steps(shape: tuple[int, ...], bilateral: tuple[float, float, float]):
    """The places' steps, all five limits, and a table (3, 256) of the grey levels' steps."""
    scales = permutohedral.axis_scales(5)
    places = _place_steps(*shape[:2], bilateral[1], scales)
    levels = np.arange(256, dtype=np.float32) / np.float32(bilateral[2]) * scales[2:, None]
    return places, [x.max() for x in (*places, *levels)], levels


@functools.partial(jax.jit, static_argnums=1)
def _bilateral_simplices(
    image: jax.Array, bilateral: tuple[float, float, float]
) -> permutohedral.Simplices:
    places, limits, levels = bilateral_steps(image.shape, bilateral)
    steps, multiples = colour_steps(jnp, image.reshape(-1, 3), bilateral[2], levels)
    factors = np.arange(1, 3, dtype=np.float32)
    multiples = [*(jnp.asarray(f * x) for f, x in zip(factors, places, strict=True)), *multiples]
    digits = permutohedral.digits_for(limits)
    return permutohedral.enclosing_simplices([*map(jnp.asarray, places), *steps], multiples, digits)


def colour_steps(numpy, colours, srgb: float, levels: np.ndarray):
    """(N, 3) colours -> steps and multiples of the last three coordinates."""
    steps, multiples = [], []
    factors = np.arange(3, 6, dtype=np.float32)
    for i, channel in enumerate(numpy.moveaxis(colours, 1, 0)):
        if channel.dtype == np.uint8:
            # Tables, rounded on the host: compilers replace divisions by products.
            index = channel.astype(np.int32)
            steps.append(numpy.asarray(levels[i])[index])
            multiples.append(numpy.asarray(factors[i] * levels[i])[index])
        else:
            scale = permutohedral.axis_scales(5)[2 + i]
            steps.append(channel.astype(np.float32) / np.float32(srgb) * scale)
            multiples.append(factors[i] * steps[-1])
    return steps, multiples


@functools.lru_cache(maxsize=8)
def spatial_lattice(height: int, width: int, spatial: tuple[float, float]) -> Lattice:
    """The spatial kernel's lattice, which no image changes: built once, kept on the host."""
    steps, multiples, digits = spatial_steps((height, width), spatial)
    enclose = functools.partial(permutohedral.enclosing_simplices, digits=digits)
    simplices = _at_once(enclose, steps, multiples)
    build = functools.partial(
        permutohedral.build_lattice, digits=digits, capacity=int(simplices.counts[-1])
    )
    return _at_once(lambda simplices: folded(build(simplices), spatial[0]), simplices)


def spatial_steps(shape: tuple[int, int], spatial: tuple[float, float]):
    steps = _place_steps(*shape, spatial[1], permutohedral.axis_scales(2))
    multiples = [np.float32(i + 1) * step for i, step in enumerate(steps)]
    return steps, multiples, permutohedral.digits_for([step.max() for step in steps])


def _at_once(function: Callable, *arrays):
    """The function's values as host arrays, also while a caller is being traced.

    Nothing but compiled code stays out of the caller's trace, or is not run operation by operation.
    """
    return jax.tree.map(np.asarray, jax.jit(function).lower(*arrays).compile()(*arrays))
