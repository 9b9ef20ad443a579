"""Fully connected conditional random fields with Gaussian edges (Kraehenbuehl and Koltun 2011).

Every pixel of an image is tied to every other: labels agree where places and colours do. An
iteration of mean-field inference is a Gaussian filter in high dimensions, here either all pairs of
pixels (``exact``) or the permutohedral lattice (``lattice``). Semantics are those of the authors'
code and of pydensecrf: Potts labels, symmetric normalisation, and a pixel's tie to itself included.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.ops.crf.exact import exact_crf, exact_field, exact_kernel
from wsol_jax.ops.crf.lattice import LatticeKernel, count_vertices, lattice_field, lattice_kernel
from wsol_jax.ops.crf.photo import photo_field
from wsol_jax.ops.crf_settings import CrfSettings

__all__ = [
    "CrfSettings",
    "LatticeKernel",
    "count_vertices",
    "dense_crf",
    "exact_kernel",
    "host_crf",
    "lattice_kernel",
    "mean_field",
]


def dense_crf(
    unary: jax.Array,
    image: jax.Array,
    *,
    bilateral: tuple[float, ...] = CrfSettings.bilateral,
    spatial: tuple[float, ...] = CrfSettings.spatial,
    iterations: int = CrfSettings.iterations,
    method: Literal["exact", "lattice"] = CrfSettings.method,
    capacity: int | None = None,
) -> jax.Array:
    """Infers class probabilities that follow the image's edges, by mean field in a dense CRF.

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
        "lattice", an approximation in linear time, pydensecrf's own: for photos. Numba infers it
        where nothing is traced and JAX runs on a CPU (``host``), else JAX.
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
    _check_shapes(unary, image)
    checked = CrfSettings(bilateral, spatial, iterations, method)
    bilateral, spatial = checked.bilateral, checked.spatial
    if method == "exact":
        return exact_crf(unary, image, bilateral, spatial, iterations)
    # Inside jit an image that is a constant becomes traced here: XLA would fold the lattice by its
    # interpreter, for minutes.
    image = jax.lax.optimization_barrier(image)
    pairs = [x.reshape(-1, *x.shape[-3:]) for x in (unary, image)]
    if isinstance(image, jax.core.Tracer):
        build = functools.partial(
            lattice_kernel, bilateral=bilateral, spatial=spatial, capacity=capacity
        )
        one = lambda pair: mean_field(pair[0], build(pair[1]), iterations=iterations)
        return jax.lax.map(one, tuple(pairs)).reshape(unary.shape)
    settings = (bilateral, spatial, capacity, iterations)
    if _on_host(unary):
        from wsol_jax.ops.crf.host import host_field  # here, as numba takes a while to import

        found = host_field(*map(np.asarray, pairs), *settings)
        return jnp.asarray(found.reshape(unary.shape))
    found = [photo_field(u, i, *settings) for u, i in zip(*pairs, strict=True)]
    return jnp.stack(found).reshape(unary.shape)


def host_crf(unary: np.ndarray, image: np.ndarray, settings: CrfSettings) -> np.ndarray:
    """Infers the lattice CRF of one photo on the host, whatever JAX runs on.

    For work in threads beside an accelerator: photos of all sizes, with nothing compiled for them.

    Args:
      unary: (H, W, C), -log of each class's probability.
      image: (H, W, 3) RGB in 0..255.
      settings: as ``dense_crf`` has them, of the lattice.

    Returns:
      (H, W, C) float32 probabilities, those of ``dense_crf`` on a CPU.

    Raises:
      ValueError: shapes that do not fit, or an image out of range.
    """
    from wsol_jax.ops.crf.host import host_field

    _check_shapes(unary, image)
    kernels = settings.bilateral, settings.spatial
    return host_field(unary[None], image[None], *kernels, None, settings.iterations)[0]


@functools.partial(jax.jit, static_argnames="iterations")
def mean_field(
    unary: jax.Array, kernel: jax.Array | LatticeKernel, *, iterations: int = 10
) -> jax.Array:
    """Runs mean-field inference with a kernel built before (Kraehenbuehl and Koltun 2011, alg. 1).

    Args:
      unary: (H, W, C), -log of each class's probability.
      kernel: of one image, from `exact_kernel` or `lattice_kernel`.
      iterations: 0 or more.

    Returns:
      (H, W, C) float32; NaN where the kernel overflowed.
    """
    scores = -unary.astype(jnp.float32).reshape(-1, unary.shape[-1])
    field = lattice_field if isinstance(kernel, LatticeKernel) else exact_field
    return field(scores, kernel, iterations).reshape(unary.shape)


def _on_host(unary: jax.Array) -> bool:
    """Whether numba infers and not JAX: nothing is traced, and the CPU is what JAX runs on."""
    return not isinstance(unary, jax.core.Tracer) and jax.default_backend() == "cpu"


def _check_shapes(unary: jax.Array, image: jax.Array) -> None:
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
