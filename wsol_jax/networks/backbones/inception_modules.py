"""The modules of Inception-v3: a convolution with its normalisation, a block of branches."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from wsol_jax.networks.backbones.convolution import conv2d
from wsol_jax.networks.backbones.inception_blocks import Conv
from wsol_jax.networks.backbones.layers import BatchNormMode, batch_norm, round_channels
from wsol_jax.networks.backbones.pooling import max_pool

Padding = Literal["SAME", "VALID"] | tuple[tuple[int, int], tuple[int, int]]


class _Kernel(nn.Module):
    """A convolution's kernel alone, under the names that ``nn.Conv`` has for it."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> tuple[jax.Array]:
        """In a tuple: it is no map, which is what a tap looks for."""
        # With statistics frozen at (0, 1) normalisation is an identity: the initialiser alone
        # keeps the features' scale.
        return (self.param("kernel", nn.initializers.he_normal(), self.shape),)


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, dtype: DTypeLike):
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=dtype)
    return conv2d(x, kernel, stride=stride, padding=padding)


class ConvBN(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    channels: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: Padding = "SAME"
    batch_norm: BatchNormMode = "inference"
    epsilon: float = 1e-3
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
        convolved: jax.Array | None = None,
        kernel_alone: bool = False,
    ) -> jax.Array | tuple[jax.Array]:
        """(B, H, W, C) -> (B, H', W', D).

        ``convolved``: x with the kernel, where somebody has computed it. ``kernel_alone``: gives
        that kernel, in a tuple.
        """
        (kernel,) = _Kernel((*self.kernel, x.shape[-1], self.channels), name="conv")()
        if kernel_alone:
            return (kernel,)
        if convolved is None:
            convolved = _convolve(x, kernel, self.stride, self.padding, self.dtype)
        x = batch_norm(
            convolved,
            "bn",
            mode=self.batch_norm,
            train=train,
            mask=mask,
            epsilon=self.epsilon,
            dtype=self.dtype,
        )
        return nn.relu(x)


class Mixed(nn.Module):
    """The branches of one block, side by side on the channel axis.

    The 1x1 convolutions that branches begin with read the same input: they are computed as one, the
    pooled branch's too, since its mean over 3x3 pixels and its sum over channels commute. So the
    input is read once, its gradient is written once, and the mean has a quarter of the channels.
    """

    branches: tuple
    width: float
    stride: int
    # What its strided convolutions and its max pool do at the border: "VALID" or one zero a side.
    reduction_padding: Padding
    count_include_pad: bool
    batch_norm: BatchNormMode
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        convs: dict[str, ConvBN] = {}

        def conv(layer: Conv) -> ConvBN:
            name, channels, kernel, reduces = layer
            if name not in convs:
                convs[name] = ConvBN(
                    round_channels(channels * self.width),
                    kernel,
                    stride=self.stride if reduces else 1,
                    padding=self.reduction_padding if reduces else "SAME",
                    batch_norm=self.batch_norm,
                    dtype=self.dtype,
                    name=name,
                )
            return convs[name]

        first = self._first(inputs, conv)
        outputs = []
        for branch in self.branches:
            x = inputs
            for layer in branch:
                if layer == "average":
                    continue  # behind the 1x1 convolution that follows
                if layer == "maximum":
                    padding = 0 if self.reduction_padding == "VALID" else 1
                    x = max_pool(x, 3, self.stride, padding=padding)
                elif isinstance(layer[0], str):
                    convolved = first.get(layer[0])
                    if convolved is not None and branch[0] == "average":
                        convolved = nn.avg_pool(
                            convolved,
                            (3, 3),
                            padding="SAME",
                            count_include_pad=self.count_include_pad,
                        )
                    x = conv(layer)(x, train, mask, convolved)
                else:
                    x = jnp.concatenate([conv(fork)(x, train, mask) for fork in layer], axis=-1)
            outputs.append(x)
        return jnp.concatenate(outputs, axis=-1)

    @nn.nowrap
    def _first(self, inputs: jax.Array, conv: Callable[[Conv], ConvBN]) -> dict[str, jax.Array]:
        """The 1x1 convolutions of the block's input, by name."""
        heads = [branch[branch[0] == "average"] for branch in self.branches]
        heads = [layer for layer in heads if layer != "maximum" and layer[2:] == ((1, 1), False)]
        kernels = [conv(layer)(inputs, kernel_alone=True)[0] for layer in heads]
        if not kernels:
            return {}
        whole = _convolve(inputs, jnp.concatenate(kernels, axis=-1), 1, "SAME", self.dtype)
        ends = np.cumsum([kernel.shape[-1] for kernel in kernels])[:-1]
        parts = jnp.split(whole, ends, axis=-1)
        return {layer[0]: part for layer, part in zip(heads, parts, strict=True)}
