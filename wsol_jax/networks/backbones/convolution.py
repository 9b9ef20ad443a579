"""Convolution in the forms that are fast on XLA's CPU backend; the sums are the same.

Winograd's F(2x2, 3x3) (Lavin & Gray 2016, https://arxiv.org/abs/1509.09308) takes 16 products for
what takes 36, and its transforms are exact in binary but for rounding.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.base import target
from wsol_jax.networks.backbones.layers import same_padding

# What a strip of rows unfolds to, so that it is still in the cache when it is multiplied.
_STRIP_BYTES = 2 << 20
# What Winograd's form needs to be faster than XLA's: channels in and out, so many that products
# outweigh transforms of pixels, and tiles, so many that they outweigh transforms of kernels. XLA
# spreads a strip's products over the cores from 256 channels on, its own convolutions always; its
# own gradients of kernels are slow.
_CHANNELS, _GRADIENT_CHANNELS, _TILES = 256, 64, 128

_NUMBERS = ("NHWC", "HWIO", "NHWC")

# Along one axis, tiles of 4 pixels give 2 outputs each, 2 pixels apart. A tile and a kernel are
# transformed along both axes, so by the Kronecker squares: a product of matrices on the tile's 16
# values, which costs little beside the layer's own and compiles to a single operation.
_TILE, _STEP = 4, 2


def _square(rows):
    matrix = np.array(rows, np.float32)
    return np.kron(matrix, matrix)


_INPUT = _square([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])  # (16, 16)
_KERNEL = _square([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])  # (16, 9)
_OUTPUT = _square([[1, 1, 1, 0], [0, 1, -1, -1]])  # (4, 16)
# The 16 values of a kernel turned by half a turn are its own in this order, along both axes
# (3, 1, 2, 0): forward and backward share one transform of it.
_TURNED = np.arange(16).reshape(4, 4)[np.ix_([3, 1, 2, 0], [3, 1, 2, 0])].reshape(-1)


def conv_general_dilated(lhs, rhs, window_strides, padding, **options):
    """jax.lax.conv_general_dilated for ``nn.Conv(conv_general_dilated=...)``, faster on CPU.

    What the trunks use there (float32, NHWC, stride 1, no dilation, one group) is computed in the
    forms of this file; anything else goes to XLA as it is.
    """
    pads = padding
    if isinstance(padding, str):
        sizes = zip(lhs.shape[1:3], rhs.shape[:2], strict=True)
        same = padding.upper() != "VALID"
        pads = [same_padding(size, k, 1, 1) if same else (0, 0) for size, k in sizes]
    if _is_plain(lhs, rhs, window_strides, pads, **options):
        return _convolve(lhs, rhs, tuple(tuple(pair) for pair in pads))
    return jax.lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)


def conv2d(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding="SAME", dilation: int = 1
) -> jax.Array:
    """Convolves as ``nn.Conv`` does, where a module has its kernel at hand: (B, H', W', D).

    Args:
      x: (B, H, W, C). kernel: (kh, kw, C, D), of its dtype.
      stride, dilation: in pixels, equal along both axes.
      padding: "SAME", "VALID" or ((top, bottom), (left, right)).
    """
    return conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_NUMBERS,
    )


def _is_plain(x, kernel, strides, pads, **options) -> bool:
    """Whether the convolution is one of those that are written out here."""
    windows = zip(kernel.shape, pads, strict=False)
    return (
        target.platform() == "cpu"
        and x.ndim == 4
        and x.dtype == kernel.dtype == jnp.float32
        and tuple(strides) == (1, 1)
        and options.get("feature_group_count", 1) == options.get("batch_group_count", 1) == 1
        and options.get("precision") is None
        and all(set(options.get(f"{side}_dilation") or (1,)) == {1} for side in ("lhs", "rhs"))
        and jax.lax.conv_dimension_numbers(x.shape, kernel.shape, options["dimension_numbers"])
        == jax.lax.conv_dimension_numbers(x.shape, kernel.shape, _NUMBERS)
        and all(0 <= pad < k for k, pair in windows for pad in pair)
    )


def _is_winograd(shape, kernel_shape, channels: int) -> bool:
    """Whether F(2x2, 3x3) is faster: enough channels, and enough tiles for the kernel's sake."""
    batch, height, width, _ = shape
    return (
        kernel_shape[:2] == (3, 3)
        and min(kernel_shape[2:]) >= channels
        and batch * -(-height // _STEP) * -(-width // _STEP) >= _TILES
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x, kernel, pads):
    if _is_winograd(x.shape, kernel.shape, _CHANNELS):
        return winograd(x, kernel, pads)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_NUMBERS)


def _forward(x, kernel, pads):
    return _convolve(x, kernel, pads), (x, kernel)


def _backward(pads, saved, g):
    x, kernel = saved
    window = kernel.shape[:2]
    # The input's gradient is the convolution of g with the kernel turned by half a turn.
    back = tuple((k - 1 - a, k - 1 - b) for k, (a, b) in zip(window, pads, strict=True))
    if _is_winograd(x.shape, kernel.shape, _CHANNELS):
        dx = winograd(g, kernel, back, transposed=True)
    else:
        turned = kernel[::-1, ::-1].swapaxes(2, 3)
        dx = jax.lax.conv_general_dilated(g, turned, (1, 1), back, dimension_numbers=_NUMBERS)
    if _is_winograd(x.shape, kernel.shape, _GRADIENT_CHANNELS):
        return dx, winograd_kernel_gradient(x, g, pads)
    if 1 in window:
        return dx, kernel_gradient(x, g, window, pads)
    conv = functools.partial(
        jax.lax.conv_general_dilated,
        x,
        window_strides=(1, 1),
        padding=pads,
        dimension_numbers=_NUMBERS,
    )
    return dx, jax.linear_transpose(conv, kernel)(g)[0]


_convolve.defvjp(_forward, _backward)


class _Strips:
    """The tiles of an output of (height, width), in strips of tile rows."""

    def __init__(self, x, height, width, pads, depth):
        """``x`` (B, H, W, C) is padded for it; ``depth``: the output's channels."""
        self.columns = -(-width // _STEP)
        down = -(-height // _STEP)
        channels, tile = x.shape[-1], _TILE**2 * x.dtype.itemsize
        row_bytes = x.shape[0] * self.columns * tile * max(channels, depth)
        # Every strip reads the whole transformed kernel: it should be worth it.
        strip_bytes = max(_STRIP_BYTES, tile * channels * depth)
        self.count = math.ceil(down / max(strip_bytes // row_bytes, 1))
        self.rows = math.ceil(down / self.count)
        self.height, self.width = self.count * self.rows * _STEP, self.columns * _STEP
        (top, _), (left, _) = pads
        bottom, right = self.height + 2 - top - x.shape[1], self.width + 2 - left - x.shape[2]
        self.x = jnp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))

    def inputs(self, index, matrix=_INPUT):
        """The transformed tiles of a strip of x: (16, tiles, C)."""
        first, pixels = index * self.rows * _STEP, self.rows * _STEP
        x = jax.lax.dynamic_slice_in_dim(self.x, first, pixels + 2, axis=1)
        tiles = [
            x[:, i : i + pixels : _STEP, j : j + self.width : _STEP]
            for i, j in np.ndindex(_TILE, _TILE)
        ]
        return _transform(matrix, jnp.stack(tiles)).reshape(_TILE**2, -1, x.shape[-1])


def _transform(matrix, values):
    """(P, Q), (Q, ...) -> (P, ...)."""
    flat = values.reshape(values.shape[0], -1)
    return jnp.dot(matrix, flat).reshape(-1, *values.shape[1:])


def winograd(x: jax.Array, kernel: jax.Array, pads, transposed: bool = False) -> jax.Array:
    """The convolution of x (B, H, W, C) with a kernel (3, 3, C, D) at stride 1: (B, H', W', D).

    ``transposed``: with the kernel (3, 3, D, C) turned by half a turn, as for input gradients.
    """
    (batch, *size, _), depth = x.shape, kernel.shape[2 if transposed else 3]
    height, width = (n + a + b - 2 for n, (a, b) in zip(size, pads, strict=True))
    strips = _Strips(x, height, width, pads, depth)
    factors = _transform(_KERNEL, kernel.reshape(9, *kernel.shape[2:]))
    order = _TURNED if transposed else slice(None)
    equation = "tnc,tdc->tnd" if transposed else "tnc,tcd->tnd"

    def outputs(index):
        tiles = jnp.einsum(equation, strips.inputs(index, _INPUT[order]), factors)
        y = _transform(_OUTPUT[:, order], tiles).reshape(
            _STEP, _STEP, batch, strips.rows, strips.columns, depth
        )
        return y.transpose(2, 3, 0, 4, 1, 5).reshape(batch, -1, strips.width, depth)

    if strips.count == 1:
        return outputs(0)[:, :height, :width]

    def put(index, y):
        first = index * strips.rows * _STEP
        return jax.lax.dynamic_update_slice_in_dim(y, outputs(index), first, axis=1)

    # Every strip is written over. Zeros would be made once for all layers, and copied for each.
    y = jnp.full((batch, strips.height, strips.width, depth), x[0, 0, 0, 0])
    return jax.lax.fori_loop(0, strips.count, put, y)[:, :height, :width]


def winograd_kernel_gradient(x: jax.Array, g: jax.Array, pads) -> jax.Array:
    """dL/dkernel (3, 3, C, D) from x (B, H, W, C) and dL/doutput (B, H', W', D)."""
    _, height, width, depth = g.shape
    strips = _Strips(x, height, width, pads, depth)
    extra = (0, strips.height - height), (0, strips.width - width)
    g = jnp.pad(g, ((0, 0), *extra, (0, 0)))

    def product(index):
        pixels = strips.rows * _STEP
        part = jax.lax.dynamic_slice_in_dim(g, index * pixels, pixels, axis=1)
        quads = [part[:, i::_STEP, j::_STEP] for i, j in np.ndindex(_STEP, _STEP)]
        gs = _transform(_OUTPUT.T, jnp.stack(quads)).reshape(_TILE**2, -1, depth)
        return jnp.einsum("tnc,tnd->tcd", strips.inputs(index), gs)

    total = product(0)
    if strips.count > 1:
        total = jax.lax.fori_loop(1, strips.count, lambda i, sum: sum + product(i), total)
    return _transform(_KERNEL.T, total).reshape(3, 3, x.shape[-1], depth)


def kernel_gradient(x: jax.Array, g: jax.Array, window: tuple[int, int], pads) -> jax.Array:
    """dL/dkernel of a convolution at stride 1: (kh, kw, C, D).

    Args:
      x: (B, H, W, C), its input.
      g: (B, H', W', D), dL/doutput.
      window: (kh, kw).
      pads: ((top, bottom), (left, right)), zeros around x.
    """
    (kh, kw), channels = window, x.shape[-1]
    batch, height, width, depth = g.shape
    row_bytes = batch * width * kh * kw * channels * x.dtype.itemsize
    strips = math.ceil(height / max(_STRIP_BYTES // row_bytes, 1))
    rows = math.ceil(height / strips)
    extra = rows * strips - height  # rows of zeros, which add nothing
    x = jnp.pad(x, ((0, 0), (pads[0][0], pads[0][1] + extra), pads[1], (0, 0)))
    g = jnp.pad(g, ((0, 0), (0, extra), (0, 0), (0, 0))) if extra else g

    def product(first):
        part = jax.lax.dynamic_slice_in_dim(x, first, rows + kh - 1, axis=1)
        taps = [part[:, i : i + rows, j : j + width] for i in range(kh) for j in range(kw)]
        columns = jnp.concatenate(taps, axis=-1).reshape(-1, kh * kw * channels)
        gs = jax.lax.dynamic_slice_in_dim(g, first, rows, axis=1).reshape(-1, depth)
        # (D, kh kw C), not its transpose: the small side first is what Eigen packs cheaply.
        return jax.lax.dot_general(gs, columns, (((0,), (0,)), ((), ())))

    total = product(0)
    if strips > 1:
        total = jax.lax.fori_loop(1, strips, lambda i, sum: sum + product(i * rows), total)
    return total.T.reshape(kh, kw, channels, depth)
