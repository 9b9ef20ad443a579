"""Mean field of a dense CRF on permutohedral lattices: in linear time, for photos."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.ops import permutohedral
from wsol_jax.ops.permutohedral import Lattice, Simplices

_TINY = 1e-20  # pydensecrf's
_CPU_BLOCK = 1024  # pixels
_CANVAS = 64  # pixels: photos of many sizes come in few shapes, as each means a compilation


class LatticeKernel(NamedTuple):
    """Both kernels of one image, built once by `lattice_kernel` and used in every iteration.

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
    bilateral: tuple[float, float, float] = (10.0, 80.0, 13.0),
    spatial: tuple[float, float] = (3.0, 3.0),
    capacity: int | None = None,
) -> LatticeKernel:
    """Both kernels of an image on permutohedral lattices; vmap it for a batch.

    Args:
      image: (H, W, 3) in 0..255. Of uint8 the lattice is pydensecrf's vertex by vertex.
      bilateral, spatial: as `dense_crf` has them.
      capacity: vertices of the bilateral lattice; None: 6 H W, the most that there can be.

    Returns:
      A pytree, to be handed to `mean_field` as often as wanted. Its ``overflow`` says whether
      ``capacity`` was too small, or a value of the image outside 0..255.
    """
    bilateral, spatial = _floats(bilateral), _floats(spatial)
    flat = _spatial_lattice(*image.shape[:2], spatial) if spatial[0] else None
    if not bilateral[0]:
        return _kernel(None, flat, image.shape, bilateral, 0)
    simplices = _bilateral_simplices(image, bilateral)
    capacity = simplices.weights.size if capacity is None else capacity
    kernel = _kernel(simplices, flat, image.shape, bilateral, capacity)
    return kernel._replace(overflow=kernel.overflow | ~_in_range(image))


def photo_field(
    unary: jax.Array,
    image: jax.Array,
    bilateral: tuple,
    spatial: tuple,
    capacity: int | None,
    iterations: int,
) -> jax.Array:
    """`dense_crf` of one photo outside jit: (H, W, C), (H, W, 3) -> (H, W, C).

    The photo lies in the corner of a canvas, whose other pixels take part in nothing: they belong
    to the first pixel's vertices with weight 0, so that no vertex is there for them. The vertices
    are counted before a capacity is chosen.

    Raises:
      ValueError: ``capacity`` is too small, or a value of the image outside 0..255.
    """
    height, width, classes = unary.shape
    shape = tuple(-(-size // _CANVAS) * _CANVAS for size in (height, width))
    inside = np.zeros(shape, bool)
    inside[:height, :width] = True
    past = [(0, shape[0] - height), (0, shape[1] - width), (0, 0)]
    on_canvas = lambda array: jnp.pad(array, past)
    inside, scores = inside.ravel(), on_canvas(-unary.astype(jnp.float32)).reshape(-1, classes)
    flat = _spatial_part(shape, spatial, inside) if spatial[0] else None
    simplices, enough = None, 0
    if bilateral[0]:
        if not _in_range(image):
            raise ValueError(
                "the lattice takes images in 0..255; this one has values outside or NaN"
            )
        simplices = _bilateral_simplices(on_canvas(image), bilateral, inside)
        enough = _enough(int(simplices.counts[-1]), capacity)
    kernel = _kernel(simplices, flat, shape, bilateral, enough)
    found = _field(scores, kernel, iterations)
    return found.reshape(*shape, classes)[:height, :width]


def _enough(size: int, capacity: int | None) -> int:
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


def count_vertices(image: jax.Array, *, bilateral: tuple[float, float, float]) -> jax.Array:
    """The capacity that an image's bilateral lattice needs.

    Args:
      image: (H, W, 3) in 0..255.
      bilateral: as `dense_crf` has it; its weight does not matter.

    Returns:
      () int32; -1 for an image with values outside 0..255.
    """
    simplices = _bilateral_simplices(image, _floats(bilateral))
    return jnp.where(_in_range(image), simplices.counts[-1], -1)


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


_field = functools.partial(jax.jit, static_argnums=2)(lattice_field)


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
def _kernel(
    simplices: Simplices | None, flat: Lattice | None, shape: tuple, bilateral: tuple, capacity: int
) -> LatticeKernel:
    lattices = () if flat is None else (flat,)
    if simplices is None:
        return LatticeKernel(lattices, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    digits = permutohedral.digits_for(_bilateral_steps(shape, bilateral)[1])
    lattice = permutohedral.build_lattice(simplices, digits, capacity=capacity)
    lattices = (_folded(lattice, bilateral[0]), *lattices)
    return LatticeKernel(lattices, lattice.size, lattice.overflow)


def _folded(lattice: Lattice, weight: float) -> Lattice:
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


def _in_range(image: jax.Array) -> jax.Array:
    if image.dtype == jnp.uint8:
        return jnp.ones((), bool)
    return jnp.all((image >= 0) & (image <= 255))  # False for NaN too


def _place_steps(height: int, width: int, sigma: float, scales: np.ndarray):
    """x and y of all pixels, as float32 in pydensecrf's order of operations; host arrays."""
    x = np.arange(width, dtype=np.float32) / np.float32(sigma) * scales[0]
    y = np.arange(height, dtype=np.float32) / np.float32(sigma) * scales[1]
    return [np.tile(x, height), np.repeat(y, width)]


def _bilateral_steps(shape: tuple[int, ...], bilateral: tuple[float, float, float]):
    """The places' steps, all five limits, and a table (3, 256) of the grey levels' steps."""
    scales = permutohedral.axis_scales(5)
    places = _place_steps(*shape[:2], bilateral[1], scales)
    levels = np.arange(256, dtype=np.float32) / np.float32(bilateral[2]) * scales[2:, None]
    return places, [x.max() for x in (*places, *levels)], levels


@functools.partial(jax.jit, static_argnums=1)
def _bilateral_simplices(
    image: jax.Array, bilateral: tuple[float, float, float], inside: jax.Array | None = None
) -> permutohedral.Simplices:
    """``inside``: (H W,) bool, the pixels that take part; the first one does."""
    places, limits, levels = _bilateral_steps(image.shape, bilateral)
    factors = np.arange(1, 6, dtype=np.float32)
    steps = [jnp.asarray(place) for place in places]
    multiples = [jnp.asarray(f * place) for f, place in zip(factors, places, strict=False)]
    for i, channel in enumerate(jnp.moveaxis(image.reshape(-1, 3), 1, 0)):
        if image.dtype == jnp.uint8:
            # Tables, rounded on the host: compilers replace divisions by products.
            index = channel.astype(jnp.int32)
            steps.append(jnp.asarray(levels[i])[index])
            multiples.append(jnp.asarray(factors[2 + i] * levels[i])[index])
        else:
            scale = permutohedral.axis_scales(5)[2 + i]
            steps.append(channel.astype(jnp.float32) / bilateral[2] * scale)
            multiples.append(factors[2 + i] * steps[-1])
    digits = permutohedral.digits_for(limits)
    return _taking_part(steps, multiples, digits, inside)


def _taking_part(steps, multiples, digits, inside) -> permutohedral.Simplices:
    if inside is None:
        return permutohedral.enclosing_simplices(steps, multiples, digits)
    steps, multiples = ([jnp.where(inside, x, x[0]) for x in xs] for xs in (steps, multiples))
    simplices = permutohedral.enclosing_simplices(steps, multiples, digits)
    return simplices._replace(weights=simplices.weights * inside[:, None])


@functools.lru_cache(maxsize=8)
def _spatial_lattice(height: int, width: int, spatial: tuple[float, float]) -> Lattice:
    """The spatial kernel's lattice, which no image changes: built once, kept on the host."""
    steps, multiples, digits = _spatial_steps((height, width), spatial)
    enclose = functools.partial(permutohedral.enclosing_simplices, digits=digits)
    simplices = _at_once(enclose, steps, multiples)
    build = functools.partial(
        permutohedral.build_lattice, digits=digits, capacity=int(simplices.counts[-1])
    )
    return _at_once(lambda simplices: _folded(build(simplices), spatial[0]), simplices)


def _spatial_part(shape: tuple, spatial: tuple, inside: np.ndarray) -> Lattice:
    """The same of the pixels of a canvas that take part."""
    whole = _spatial_lattice(*shape, spatial)
    if inside.all():
        return whole
    return _spatial_of(inside, shape, spatial, whole.neighbours.shape[-1] - 1)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _spatial_of(inside: jax.Array, shape: tuple, spatial: tuple, capacity: int) -> Lattice:
    steps, multiples, digits = _spatial_steps(shape, spatial)
    simplices = _taking_part(steps, multiples, digits, inside)
    return _folded(permutohedral.build_lattice(simplices, digits, capacity=capacity), spatial[0])


def _spatial_steps(shape: tuple[int, int], spatial: tuple[float, float]):
    steps = _place_steps(*shape, spatial[1], permutohedral.axis_scales(2))
    multiples = [np.float32(i + 1) * step for i, step in enumerate(steps)]
    return steps, multiples, permutohedral.digits_for([step.max() for step in steps])


def _at_once(function: Callable, *arrays):
    """The function's values as host arrays, also while a caller is being traced.

    Nothing but compiled code stays out of the caller's trace, or is not run operation by operation.
    """
    return jax.tree.map(np.asarray, jax.jit(function).lower(*arrays).compile()(*arrays))
