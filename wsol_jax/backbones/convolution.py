"""Dense convolution whose weight gradient is fast on XLA's CPU backend; the sum is the same."""

import functools
import math

import jax
import jax.numpy as jnp

from wsol_jax.backbones.layers import same_padding

# The columns of a strip, so that they are still in the cache when they are multiplied.
_STRIP_BYTES = 4 << 20


def conv_general_dilated(lhs, rhs, window_strides, padding, **options):
    """jax.lax.conv_general_dilated, for ``nn.Conv(conv_general_dilated=...)``.

    XLA's CPU backend computes the gradient of a kernel as a convolution whose window is the whole
    image, up to 6 times slower than its forward pass. Here, on CPU and for what the trunks use
    (NHWC, stride 1, no dilation, one group), it is a sum of matrix products over strips of rows.
    Anything else goes to XLA as it is.
    """
    fast = (
        jax.default_backend() == "cpu"
        and lhs.ndim == 4
        and tuple(window_strides) == (1, 1)
        and options.get("feature_group_count", 1) == 1
        and options.get("precision") is None
        and all(set(options.get(f"{side}_dilation") or (1,)) == {1} for side in ("lhs", "rhs"))
    )
    if not fast:
        return jax.lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    if padding == "SAME":
        sizes = zip(lhs.shape[1:3], rhs.shape[:2], strict=True)
        padding = tuple(same_padding(size, k, 1, 1) for size, k in sizes)
    elif padding == "VALID":
        padding = ((0, 0), (0, 0))
    return _conv(lhs, rhs, tuple(tuple(pair) for pair in padding))


def _plain(x, kernel, pads):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x, kernel, pads):
    return _plain(x, kernel, pads)


def _forward(x, kernel, pads):
    return _plain(x, kernel, pads), (x, kernel)


def _backward(pads, saved, g):
    x, kernel = saved
    (dx,) = jax.linear_transpose(lambda x: _plain(x, kernel, pads), x)(g)
    return dx, kernel_gradient(x, g, kernel.shape[:2], pads).astype(kernel.dtype)


_conv.defvjp(_forward, _backward)


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
        return jax.lax.dot_general(
            gs, columns, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32
        )

    total = product(0)
    if strips > 1:
        total = jax.lax.fori_loop(1, strips, lambda i, sum: sum + product(i * rows), total)
    return total.T.reshape(kh, kw, channels, depth)
