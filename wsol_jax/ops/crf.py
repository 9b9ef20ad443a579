"""Fully connected conditional random fields with Gaussian edges (Kraehenbuehl and Koltun 2011).

Every pixel of an image is tied to every other: labels agree where places and colours do. An
iteration of mean-field inference is a Gaussian filter in high dimensions, here either all pairs of
pixels (``exact``) or the permutohedral lattice (``lattice``, `wsol_jax.ops.lattice`). Semantics are
those of the authors' code and of pydensecrf: Potts labels, symmetric normalisation, and a pixel's
tie to itself included.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.ops import lattice as permutohedral
from wsol_jax.ops.lattice import Lattice

_TINY = 1e-20  # pydensecrf's
_CPU_BLOCK = 1024  # pixels


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


def dense_crf(
    unary: jax.Array,
    image: jax.Array,
    *,
    bilateral: tuple[float, float, float] = (10.0, 80.0, 13.0),
    spatial: tuple[float, float] = (3.0, 3.0),
    iterations: int = 10,
    method: str = "exact",
    capacity: int | None = None,
) -> jax.Array:
    """Mean-field inference in a dense CRF: labels that follow the image's edges.

    k(i, j) = w1 exp(-|p_i - p_j|^2 / 2 sxy^2 - |I_i - I_j|^2 / 2 srgb^2)
    + w2 exp(-|p_i - p_j|^2 / 2 s^2), either term K normalised to D^-1/2 K D^-1/2, D its row sums;
    Q <- softmax(-unary) at first, then softmax(-unary + k Q) (eqs. 3 to 5 and algorithm 1).

    Args:
      unary: (..., H, W, C), -log of each class's probability.
      image: (..., H, W, 3) RGB in 0..255, uint8 or float, of unary's leading and map sizes.
      bilateral: weight >= 0, sxy in pixels, srgb in grey levels. A weight of 0 drops the term.
      spatial: weight >= 0, s in pixels.
      iterations: 0 or more.
      method: "exact", all pairs of pixels, (H W)^2 numbers an image: for maps to about 64x64; or
        "lattice", an approximation in linear time, pydensecrf's own: for photos.
      capacity: of the lattice, the most vertices an image's bilateral kernel may need. None counts
        them beforehand, or inside jit takes the most that there can be, 6 H W, which is safe and
        slow. `count_vertices` tells what your images need: with sxy=80, srgb=13 H W / 4 is plenty
        for a photo, with sxy=6.667 it takes more than H W.

    Returns:
      float32 of unary's shape, probabilities. Inside jit NaN for an image with more vertices than
      ``capacity``, or (lattice) with values outside 0..255, never wrong numbers. Differentiable in
      unary; wrap the result in stop_gradient where the CRF is a target (SEC's constrain loss).

    Raises:
      ValueError: shapes, parameters, a capacity too small or an image out of range outside jit.
    """
    bilateral, spatial = _check(unary, image, bilateral, spatial, iterations)
    if method not in ("exact", "lattice"):
        raise ValueError(f'method is "exact" or "lattice", not {method!r}')
    if method == "exact":
        return _exact_crf(unary, image, bilateral, spatial, iterations)
    height, width = image.shape[-3:-1]
    flat = _spatial_lattice(height, width, spatial) if spatial[0] else None
    pairs = [x.reshape(-1, *x.shape[-3:]) for x in (unary, image)]
    if isinstance(image, jax.core.Tracer):

        def one(pair):
            kernel = lattice_kernel(
                pair[1], bilateral=bilateral, spatial=spatial, capacity=capacity
            )
            return mean_field(pair[0], kernel, iterations=iterations)

        return jax.lax.map(one, tuple(pairs)).reshape(unary.shape)
    found = []
    for one_unary, one_image in zip(*pairs, strict=True):
        simplices = _simplices_of(one_image, bilateral) if bilateral[0] else None
        enough = _enough(simplices, one_image, capacity) if bilateral[0] else 0
        settings = (one_image.shape, bilateral, enough, iterations)
        found.append(_infer(one_unary, simplices, flat, settings))
    return jnp.stack(found).reshape(unary.shape)


def mean_field(
    unary: jax.Array, kernel: jax.Array | LatticeKernel, *, iterations: int = 10
) -> jax.Array:
    """Algorithm 1 of Kraehenbuehl and Koltun 2011 with a kernel that was built before.

    Args:
      unary: (H, W, C), -log of each class's probability.
      kernel: of one image, from `exact_kernel` or `lattice_kernel`.
      iterations: 0 or more.

    Returns:
      (H, W, C) float32; NaN where the kernel overflowed.
    """
    scores = -unary.astype(jnp.float32).reshape(-1, unary.shape[-1])
    if not isinstance(kernel, LatticeKernel):

        def update(probabilities, _):
            ties = jnp.matmul(kernel, probabilities, precision=jax.lax.Precision.HIGHEST)
            return jax.nn.softmax(scores + ties), None

        probabilities, _ = jax.lax.scan(update, jax.nn.softmax(scores), length=iterations)
        return probabilities.reshape(unary.shape)
    if not iterations or not kernel.lattices:
        probabilities = jax.nn.softmax(scores)
    else:
        infer = functools.partial(_lattice_field, iterations=iterations)
        probabilities = jax.lax.platform_dependent(
            scores, kernel, cpu=functools.partial(infer, block=_CPU_BLOCK), default=infer
        )
    return jnp.where(kernel.overflow, jnp.nan, probabilities).reshape(unary.shape)


def _lattice_field(
    scores: jax.Array, kernel: LatticeKernel, *, iterations: int, block: int | None = None
) -> jax.Array:
    """(N, C) -> (N, C); slice, softmax and splat by blocks of pixels that fit a CPU's cache."""
    block = min(block or len(scores), len(scores))
    rest = -len(scores) % block

    def blocks(array, fill):
        array = jnp.pad(array, ((0, rest), (0, 0)), constant_values=fill)
        return array.reshape(-1, block, array.shape[1])

    # Pixels past the end write zeros into the row of no vertex.
    points = [
        lattice._replace(
            vertices=blocks(lattice.vertices, lattice.neighbours.shape[-1] - 1),
            weights=blocks(lattice.weights, 0),
        )
        for lattice in kernel.lattices
    ]
    places = [(p.vertices, p.weights) for p in points]
    empty = [jnp.zeros((p.neighbours.shape[-1], scores.shape[1]), jnp.float32) for p in points]
    scored = blocks(scores, 0)

    def read(fields, part):
        total, here = part
        for lattice, place, field in zip(points, here, fields, strict=True):
            lattice = lattice._replace(vertices=place[0], weights=place[1])
            total += permutohedral.slice_values(lattice, field)
        return jax.nn.softmax(total)

    def sweep(fields):
        """From the blurred vertices to the splatted probabilities of the next iteration."""

        def one(sums, part):
            probabilities = read(fields, part)
            return [
                permutohedral.splat(
                    lattice._replace(vertices=place[0], weights=place[1]), probabilities, total
                )
                for lattice, place, total in zip(points, part[1], sums, strict=True)
            ], None

        return jax.lax.scan(one, empty, (scored, places))[0]

    def blurred(sums):
        return [permutohedral.blur(p, total) for p, total in zip(points, sums, strict=True)]

    sums, _ = jax.lax.scan(
        lambda sums, _: (sweep(blurred(sums)), None), sweep(empty), length=iterations - 1
    )
    fields = blurred(sums)
    probabilities = jax.lax.map(lambda part: read(fields, part), (scored, places))
    return probabilities.reshape(-1, scores.shape[1])[: len(scores)]


def exact_kernel(
    image: jax.Array,
    *,
    bilateral: tuple[float, float, float] = (10.0, 80.0, 13.0),
    spatial: tuple[float, float] = (3.0, 3.0),
) -> jax.Array:
    """Both kernels between all pairs of an image's pixels, normalised, weighted and summed.

    Args:
      image: (H, W, 3) in 0..255.
      bilateral, spatial: as `dense_crf` has them.

    Returns:
      (H W, H W) float32, symmetric.
    """
    return _with_colours(image, _without_colours(*image.shape[:2], bilateral, spatial), bilateral)


def _without_colours(height: int, width: int, bilateral: tuple, spatial: tuple):
    """What all images share: the bilateral exponents of place, and the spatial kernel."""
    place = np.indices((height, width), np.float32).reshape(2, -1)
    squares = [(jnp.asarray(x)[:, None] - x) ** 2 for x in place]
    squares = squares[0] + squares[1]
    if not spatial[0]:
        return squares * (-0.5 / bilateral[1] ** 2), jnp.zeros_like(squares)
    kernel = spatial[0] * _normalised(squares * (-0.5 / spatial[1] ** 2))
    return squares * (-0.5 / bilateral[1] ** 2), kernel


def _with_colours(image: jax.Array, shared, bilateral: tuple[float, float, float]) -> jax.Array:
    places, spatial = shared
    if not bilateral[0]:
        return spatial
    colours = _square_distances(image.reshape(-1, 3))
    return spatial + bilateral[0] * _normalised(colours * (-0.5 / bilateral[2] ** 2) + places)


def _square_distances(colours: jax.Array) -> jax.Array:
    """(N, 3) in 0..255 -> (N, N) of |a - b|^2 as |a|^2 + |b|^2 - 2ab, without its cancellation.

    Whole numbers are exact that way, being below 2^24; what float colours have past the point is
    multiplied out apart, where it is small. On a CPU three times faster than differences, which XLA
    fuses with the exponential into a loop that it does not vectorise.
    """
    dot = functools.partial(
        jax.lax.dot_general,
        dimension_numbers=(((1,), (1,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST,
    )
    inner = lambda a, b: jnp.sum(a * b, axis=1, keepdims=True)
    whole = jnp.round(colours.astype(jnp.float32))
    one, norm = jnp.ones_like(whole[:, :1]), inner(whole, whole)
    left = jnp.concatenate([whole, norm, one], axis=1)
    squares = dot(left, jnp.concatenate([-2 * whole, one, norm], axis=1))
    if colours.dtype == jnp.uint8:
        return squares
    # |a + e - b - f|^2 - |a - b|^2 for whole a, b and rests e, f.
    rest = colours.astype(jnp.float32) - whole
    norm = inner(2 * whole + rest, rest)
    left = jnp.concatenate([whole, rest, norm, one], axis=1)
    right = jnp.concatenate([-2 * rest, -2 * (whole + rest), one, norm], axis=1)
    return squares + dot(left, right)


def _normalised(exponents: jax.Array) -> jax.Array:
    # The barrier keeps XLA from taking the exponentials twice.
    kernel = jax.lax.optimization_barrier(jnp.exp(exponents))
    scale = jax.lax.rsqrt(jnp.sum(kernel, axis=0) + _TINY)
    return scale[:, None] * kernel * scale


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
    flat = _spatial_lattice(*image.shape[:2], spatial) if spatial[0] else None
    if not bilateral[0]:
        return _join(None, flat, image.shape, bilateral, 0)
    simplices = _bilateral_simplices(image, bilateral)
    capacity = simplices.weights.size if capacity is None else capacity
    kernel = _join(simplices, flat, image.shape, bilateral, capacity)
    return kernel._replace(overflow=kernel.overflow | ~_in_range(image))


def count_vertices(image: jax.Array, *, bilateral: tuple[float, float, float]) -> jax.Array:
    """The capacity that an image's bilateral lattice needs.

    Args:
      image: (H, W, 3) in 0..255.
      bilateral: as `dense_crf` has it; its weight does not matter.

    Returns:
      () int32; -1 for an image with values outside 0..255.
    """
    simplices = _bilateral_simplices(image, bilateral)
    return jnp.where(_in_range(image), simplices.counts[-1], -1)


def _join(simplices, flat, shape, bilateral, capacity) -> LatticeKernel:
    lattices = () if flat is None else (flat,)
    if simplices is None:
        return LatticeKernel(lattices, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    digits = permutohedral.digits_for(_bilateral_steps(shape, bilateral)[1])
    lattice = permutohedral.build_lattice(simplices, digits, capacity=capacity)
    lattices = (_folded(lattice, bilateral[0]), *lattices)
    return LatticeKernel(lattices, lattice.size, lattice.overflow)


def _folded(lattice: Lattice, weight: float) -> Lattice:
    """The lattice with normalisation and weight inside its own weights, half on either side."""
    d = lattice.weights.shape[-1] - 1
    alpha = 1 / (1 + 2.0**-d)  # the blur's gain against a Gaussian that is 1 at 0
    ones = jnp.ones((len(lattice.weights), 1), jnp.float32)
    sums = jnp.zeros((lattice.neighbours.shape[-1], 1), jnp.float32)
    sums = permutohedral.blur(lattice, permutohedral.splat(lattice, ones, sums))
    mass = permutohedral.slice_values(lattice, sums)
    scale = math.sqrt(weight * alpha) * jax.lax.rsqrt(alpha * mass + _TINY)
    return lattice._replace(weights=lattice.weights * scale)


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


def _bilateral_simplices(
    image: jax.Array, bilateral: tuple[float, float, float]
) -> permutohedral.Simplices:
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
    return permutohedral.enclosing_simplices(steps, multiples, digits)


@functools.lru_cache(maxsize=8)
def _spatial_lattice(height: int, width: int, spatial: tuple[float, float]) -> Lattice:
    """The spatial kernel's lattice, which no image changes: built once, kept on the host."""
    steps = _place_steps(height, width, spatial[1], permutohedral.axis_scales(2))
    multiples = [np.float32(i + 1) * step for i, step in enumerate(steps)]
    digits = permutohedral.digits_for([step.max() for step in steps])
    with jax.ensure_compile_time_eval():
        simplices = jax.jit(permutohedral.enclosing_simplices, static_argnums=2)(
            [jnp.asarray(s) for s in steps], [jnp.asarray(m) for m in multiples], digits
        )
        build = functools.partial(
            permutohedral.build_lattice, digits=digits, capacity=int(simplices.counts[-1])
        )
        lattice = jax.jit(lambda simplices: _folded(build(simplices), spatial[0]))(simplices)
        return jax.tree.map(np.asarray, lattice)


_simplices_of = functools.partial(jax.jit, static_argnums=1)(_bilateral_simplices)


def _enough(simplices: permutohedral.Simplices, image: jax.Array, capacity: int | None) -> int:
    """A capacity that suffices, of few different ones: each means a compilation."""
    if not _in_range(image):
        raise ValueError("the lattice takes images in 0..255; this one has values outside or NaN")
    size = int(simplices.counts[-1])
    if capacity is not None and capacity < size:
        raise ValueError(
            f"capacity={capacity} is too small for this image, whose bilateral lattice has {size} "
            f"vertices: set capacity={_rounded(size)}, or None to have them counted"
        )
    return capacity or _rounded(size)


def _rounded(count: int) -> int:
    """The next of 64, 96, 128, 192, 256, ..."""
    power = 1 << max(6, (count - 1).bit_length())
    return power * 3 // 4 if count <= power * 3 // 4 else power


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _exact_crf(unary, image, bilateral, spatial, iterations):
    shared = _without_colours(*image.shape[-3:-1], bilateral, spatial)

    def one(unary, image):
        kernel = _with_colours(image, shared, bilateral)
        return mean_field(unary, kernel, iterations=iterations)

    return _over_images(one, unary, image)


@functools.partial(jax.jit, static_argnums=3)
def _infer(unary, simplices, flat, settings):
    shape, bilateral, capacity, iterations = settings
    kernel = _join(simplices, flat, shape, bilateral, capacity)
    return mean_field(unary, kernel, iterations=iterations)


def _over_images(one: Callable, unary: jax.Array, image: jax.Array) -> jax.Array:
    """One by one on a CPU, where an image's kernel should stay in the cache, else 16 at a time."""
    flat = [x.reshape(-1, *x.shape[-3:]) for x in (unary, image)]
    each = lambda size: lambda *pair: jax.lax.map(lambda p: one(*p), pair, batch_size=size)
    return jax.lax.platform_dependent(*flat, cpu=each(None), default=each(16)).reshape(unary.shape)


def _check(unary, image, bilateral, spatial, iterations):
    """The parameters as tuples of floats; ValueError for what cannot be meant."""
    if unary.ndim < 3 or image.ndim < 3:
        raise ValueError(
            f"unary is (..., H, W, C) and image (..., H, W, 3), not {unary.shape}, {image.shape}"
        )
    if image.shape != (*unary.shape[:-1], 3):
        raise ValueError(
            f"image {image.shape} does not fit unary {unary.shape}: "
            f"expected {(*unary.shape[:-1], 3)}"
        )
    if 0 in unary.shape[-3:]:
        raise ValueError(f"unary {unary.shape} is empty")
    settings = []
    for name, values, fields in (
        ("bilateral", bilateral, ("weight", "sxy", "srgb")),
        ("spatial", spatial, ("weight", "sxy")),
    ):
        try:
            numbers = tuple(float(value) for value in values)
        except TypeError:
            numbers = ()
        if len(numbers) != len(fields) or not all(map(math.isfinite, numbers)):
            raise ValueError(f"{name} is ({', '.join(fields)}), finite numbers, not {values}")
        if numbers[0] < 0 or min(numbers[1:]) <= 0:
            raise ValueError(f"{name}={numbers}: expected a weight >= 0 and deviations > 0")
        settings.append(numbers)
    if iterations < 0:
        raise ValueError(f"iterations={iterations}: expected 0 or more")
    return settings
