"""Mean field of a dense CRF over all pairs of pixels: the model itself, for small maps."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.ops.crf_settings import CrfSettings

_TINY = 1e-20  # pydensecrf's
_AT_ONCE = 2**32


def exact_kernel(
    image: jax.Array,
    *,
    bilateral: tuple[float, ...] = CrfSettings.bilateral,
    spatial: tuple[float, ...] = CrfSettings.spatial,
) -> jax.Array:
    """Builds the CRF's kernel between all pairs of an image's pixels: both terms, weighted, summed.

    Args:
      image: (H, W, 3) in 0..255.
      bilateral, spatial: as `dense_crf` has them.

    Returns:
      (H W, H W) float32, symmetric.
    """
    return _kernel(image, tuple(map(float, bilateral)), tuple(map(float, spatial)))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _kernel(image: jax.Array, bilateral: tuple, spatial: tuple) -> jax.Array:
    return _with_colours(image, _without_colours(*image.shape[:2], bilateral, spatial), bilateral)


def exact_field(scores: jax.Array, kernel: jax.Array, iterations: int) -> jax.Array:
    """(N, C) scores, -unary, and (N, N) ties -> (N, C) probabilities."""
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

    def rows(scores, kernel):
        return _mean_field(scores, lambda p: product(kernel, p), iterations, axis=1)

    def columns(scores, kernel):
        return _mean_field(scores.T, lambda p: product(p, kernel), iterations, axis=0).T

    # XLA's products on a CPU, and their gradients, are faster with the kernel as the right factor.
    return jax.lax.platform_dependent(scores, kernel, cpu=columns, default=rows)


def _mean_field(scores: jax.Array, ties: Callable, iterations: int, axis: int) -> jax.Array:
    update = lambda p, _: (jax.nn.softmax(scores + ties(p), axis=axis), None)
    return jax.lax.scan(update, jax.nn.softmax(scores, axis=axis), length=iterations)[0]


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def exact_crf(
    unary: jax.Array, image: jax.Array, bilateral: tuple, spatial: tuple, iterations: int
) -> jax.Array:
    """`dense_crf` of a batch: (..., H, W, C) and (..., H, W, 3) -> (..., H, W, C)."""
    shared = _without_colours(*image.shape[-3:-1], bilateral, spatial)

    def one(unary, image):
        kernel = _with_colours(image, shared, bilateral)
        scores = -unary.astype(jnp.float32).reshape(-1, unary.shape[-1])
        return exact_field(scores, kernel, iterations)

    return _over_images(one, unary, image)


def _over_images(one: Callable, unary: jax.Array, image: jax.Array) -> jax.Array:
    """One by one on a CPU, where an image's kernel should stay in the cache, else all at once.

    All at once is what splits over a mesh: a loop over the images would walk from device to device.
    Kernels of more than _AT_ONCE bytes go 16 images at a time.
    """
    flat = [x.reshape(-1, *x.shape[-3:]) for x in (unary, image)]
    bytes_all = 4 * len(flat[0]) * (unary.shape[-3] * unary.shape[-2]) ** 2
    size = len(flat[0]) if bytes_all <= _AT_ONCE else 16
    each = lambda size: lambda *pair: jax.lax.map(lambda p: one(*p), pair, batch_size=size)
    return jax.lax.platform_dependent(*flat, cpu=each(None), default=each(size)).reshape(
        unary.shape
    )


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
    rest = colours.astype(jnp.float32) - whole
    whole -= jnp.round(jnp.mean(whole, axis=0))  # less to cancel in the products with rests
    one, norm = jnp.ones_like(whole[:, :1]), inner(whole, whole)
    left = jnp.concatenate([whole, norm, one], axis=1)
    squares = dot(left, jnp.concatenate([-2 * whole, one, norm], axis=1))
    if colours.dtype == jnp.uint8:
        return squares
    # |a + e - b - f|^2 - |a - b|^2 for whole a, b and rests e, f.
    norm = inner(2 * whole + rest, rest)
    left = jnp.concatenate([whole, rest, norm, one], axis=1)
    right = jnp.concatenate([-2 * rest, -2 * (whole + rest), one, norm], axis=1)
    return squares + dot(left, right)


def _normalised(exponents: jax.Array) -> jax.Array:
    # The barrier keeps XLA from taking the exponentials twice.
    kernel = jax.lax.optimization_barrier(jnp.exp(exponents))
    scale = jax.lax.rsqrt(jnp.sum(kernel, axis=0) + _TINY)
    return scale[:, None] * kernel * scale
