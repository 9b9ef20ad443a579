"""Pooling with PyTorch's and Caffe's output sizes, which fix the published map sizes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.base import target


def max_pool(
    x: jax.Array, window: int, stride: int, *, padding: int = 0, ceil_mode: bool = False
) -> jax.Array:
    """Pools by the maximum over square windows; padding never wins.

    Args:
      x: (B, H, W, C).
      window, stride, padding: in pixels, equal along both axes; ``padding`` on every side.
      ceil_mode: rounds the output size up: the last window may hang over the far edge, as long as
        it starts inside the image or its near padding (PyTorch's rule).

    Returns:
      (B, H', W', C).
    """
    pads = []
    for size in x.shape[1:3]:
        free = size + 2 * padding - window
        cells = free // stride + 1
        if ceil_mode and free % stride and cells * stride < size + padding:
            cells += 1
        pads.append((padding, (cells - 1) * stride + window - size - padding))
    # A far pad below 0 only says that floor rounding leaves pixels over; reduce_window drops them.
    pads = [(near, max(far, 0)) for near, far in pads]
    if window == stride == 2 and padding == 0 and target.platform() == "cpu":
        return _max_of_quads(x, pads)
    return nn.max_pool(x, (window, window), (stride, stride), padding=pads)


def adaptive_average_pool(x: jax.Array, cells: int) -> jax.Array:
    """Averages a map of any size to cells x cells windows that cover it (PyTorch's rule).

    Window i covers floor(i n / cells) to ceil((i + 1) n / cells) of n pixels: windows overlap where
    ``cells`` does not divide n, and repeat pixels where n is smaller.

    Args:
      x: (B, H, W, C).

    Returns:
      (B, cells, cells, C).
    """
    if x.shape[1:3] == (cells, cells):
        return x
    rows, columns = (_window_means(size, cells).astype(x.dtype) for size in x.shape[1:3])
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, x, precision=highest)


def _window_means(size: int, cells: int) -> np.ndarray:
    """(cells, size): each row averages its window."""
    index = np.arange(cells)
    first, end = index * size // cells, -(-(index + 1) * size // cells)
    pixels = np.arange(size)
    inside = (pixels >= first[:, None]) & (pixels < end[:, None])
    return inside / inside.sum(axis=1, keepdims=True)


def _max_of_quads(x, pads):
    """Disjoint 2x2 windows, without XLA's windows, whose gradient is slow on CPU."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
    height, width = (size // 2 * 2 for size in x.shape[1:3])
    return _quads(x[:, :height, :width])


@jax.custom_vjp
def _quads(x):
    return _quads_forward(x)[0]


def _quads_forward(x):
    a, b, c, d = (x[:, i::2, j::2] for i in range(2) for j in range(2))
    top, bottom = jnp.maximum(a, b), jnp.maximum(c, d)
    # The first of equal values wins, row by row, as in XLA's gradient.
    winner = jnp.where(top >= bottom, jnp.where(a >= b, 0, 1), jnp.where(c >= d, 2, 3))
    return jnp.maximum(top, bottom), winner.astype(jnp.uint8)


def _quads_backward(winner, g):
    batch, height, width, channels = g.shape
    place = np.arange(4, dtype=np.uint8).reshape(2, 1, 2, 1)
    dx = jnp.where(winner[:, :, None, :, None] == place, g[:, :, None, :, None], 0)
    return (dx.reshape(batch, 2 * height, 2 * width, channels),)


_quads.defvjp(_quads_forward, _quads_backward)
