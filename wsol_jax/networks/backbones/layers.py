"""Layers of several backbones: normalisation that can be frozen, a depthwise convolution."""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from wsol_jax.base import target

BatchNormMode = Literal["inference", "batch"]


def round_channels(channels: float, divisor: int = 8) -> int:
    """Rounds channels to a multiple of ``divisor``, at most 10% below (MobileNet's rule)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def batch_norm(
    x: jax.Array,
    name: str,
    *,
    mode: BatchNormMode = "inference",
    train: bool = False,
    mask: jax.Array | None = None,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """Batch normalisation whose statistics move only when ``mode`` says so; call in a module.

    A pretrained network keeps its stored statistics while it is fine-tuned ("inference"): batches
    of a few images would replace them by noise. "batch" is the usual behaviour: batch statistics
    while training, running ones otherwise. ``mask`` (B, 1, 1, 1) keeps padded examples out of them.
    """
    norm = nn.BatchNorm(
        use_running_average=not (train and mode == "batch"),
        momentum=momentum,
        epsilon=epsilon,
        dtype=dtype,
        name=name,
    )
    return norm(x, mask=mask)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _shifted(x: jax.Array, kernel: jax.Array, stride: int, dilation: int, pads):
    return _shifted_sum(x, kernel, stride, dilation, pads)


def _shifted_sum(x: jax.Array, kernel: jax.Array, stride: int, dilation: int, pads):
    """The convolution as one multiply-add per kernel tap: what XLA's CPU backend runs fast."""
    (top, bottom), (left, right) = pads
    height = (x.shape[1] + top + bottom - (kernel.shape[0] - 1) * dilation - 1) // stride + 1
    width = (x.shape[2] + left + right - (kernel.shape[1] - 1) * dilation - 1) // stride + 1
    x = jnp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    total = None
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            rows = slice(i * dilation, i * dilation + (height - 1) * stride + 1, stride)
            columns = slice(j * dilation, j * dilation + (width - 1) * stride + 1, stride)
            term = x[:, rows, columns] * kernel[i, j, 0]
            total = term if total is None else total + term
    return total


def _shifted_fwd(x, kernel, stride, dilation, pads):
    return _shifted(x, kernel, stride, dilation, pads), (x, kernel)


def _shifted_bwd(stride, dilation, pads, saved, g):
    x, kernel = saved
    # The input's gradient is again a convolution, of g with zeros between its pixels and the kernel
    # turned by half a turn. JAX's own would be a sum of nine padded arrays, which XLA's CPU backend
    # fuses with all that is around it: MobileNetV2's gradient took 2.5 times as long.
    edges = []
    for axis, (before, _) in enumerate(pads, start=1):
        reach = (kernel.shape[axis - 1] - 1) * dilation
        spread = (g.shape[axis] - 1) * stride + 1
        # Of the full sum, spread + reach long, what stands over x.
        edges.append((reach - before, x.shape[axis] + before - spread, stride - 1))
    zero = jnp.zeros((), g.dtype)
    wide = jax.lax.pad(g, zero, ((0, 0, 0), *edges, (0, 0, 0)))
    dx = _shifted_sum(wide, kernel[::-1, ::-1], 1, dilation, ((0, 0), (0, 0)))
    sums = lambda kernel: _shifted_sum(x, kernel, stride, dilation, pads)
    return dx, jax.linear_transpose(sums, kernel)(g)[0]


_shifted.defvjp(_shifted_fwd, _shifted_bwd)


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(before, after) of TensorFlow's SAME along one axis of ``size`` pixels."""
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def depthwise_conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: str | int = "SAME",
    implementation: Literal["auto", "shifted", "grouped"] = "auto",
) -> jax.Array:
    """Convolves each channel by itself, in the form that is fast on this device.

    Args:
      x: (B, H, W, C).
      kernel: (kh, kw, 1, C).
      stride, dilation: in pixels, equal along both axes.
      padding: "SAME" (TensorFlow's rule) or the number of zeros on every side.
      implementation: "grouped" is XLA's convolution with C groups; "shifted" writes it as kh * kw
        shifted multiply-adds, 3 to 30 times faster on CPU; "auto" takes "shifted" on CPU alone,
        also where one program is traced for every platform (``base.target``).

    Returns:
      (B, H', W', C).
    """
    if padding == "SAME":
        pads = tuple(
            same_padding(size, k, stride, dilation)
            for size, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)
        )
    else:
        pads = ((padding, padding), (padding, padding))
    if implementation == "auto" and target.platform() == target.EVERY:
        form = lambda name: functools.partial(
            depthwise_conv,
            stride=stride,
            dilation=dilation,
            padding=padding,
            implementation=name,
        )
        return jax.lax.platform_dependent(x, kernel, cpu=form("shifted"), default=form("grouped"))
    if implementation == "auto":
        implementation = "shifted" if target.platform() == "cpu" else "grouped"
    if implementation == "shifted":
        # A convolution rounds once; nine roundings to bfloat16 raise the error by a third.
        wide = jnp.promote_types(x.dtype, jnp.float32)
        total = _shifted(x.astype(wide), kernel.astype(wide), stride, dilation, tuple(pads))
        return total.astype(x.dtype)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=pads,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


class DepthwiseConv(nn.Module):
    """A bias-free depthwise convolution; its parameter is ``kernel`` (k, k, 1, C)."""

    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    padding: str | int = "SAME"
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, 1, x.shape[-1])
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        return depthwise_conv(
            x, kernel, stride=self.stride, dilation=self.dilation, padding=self.padding
        )
