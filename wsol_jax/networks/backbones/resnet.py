"""ResNet-50 and ResNet-101 (He et al. 2016, https://arxiv.org/abs/1512.03385) as named endpoints.

Endpoints count stages as the paper's table 1 does and units as Keras: "conv4_block6" is the last
unit of conv4_x, torchvision's layer3.5. Two networks of that name are published, which differ in
where a unit strides, in biases and in a constant; the fields say which one this is.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Literal

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from wsol_jax.networks.backbones.convolution import conv_general_dilated
from wsol_jax.networks.backbones.ends import (
    check_endpoint,
    check_stride,
    check_whole,
    pooled_logits,
)
from wsol_jax.networks.backbones.layers import BatchNormMode, batch_norm, round_channels
from wsol_jax.networks.backbones.pooling import max_pool
from wsol_jax.networks.backbones.published import Module, PublishedNames

Depths = tuple[int, int, int, int]

_DEPTHS_50: Depths = (3, 4, 6, 3)
_DEPTHS_101: Depths = (3, 4, 23, 3)
# Channels of the stages' 3x3 convolutions; a unit's output has four times as many.
_CHANNELS = (64, 128, 256, 512)
_EXPANSION = 4


def _units(depths: Depths) -> Iterator[tuple[str, int, int]]:
    """(name, stage, unit) of all units, first to last; stages and units count from 0."""
    for stage, depth in enumerate(depths):
        for unit in range(depth):
            yield f"conv{stage + 2}_block{unit + 1}", stage, unit


def _names(depths: Depths) -> PublishedNames:
    """What the layers of a network of these depths are called in published files."""
    torch: dict[str, Module] = {"conv1": ("conv1",), "bn1": ("bn1",)}
    keras: dict[str, Module] = {"conv1_conv": ("conv1",), "conv1_bn": ("bn1",)}
    for name, stage, unit in _units(depths):
        # The main path's three convolutions, and 0: the shortcut's, of a stage's first unit alone.
        for index in (1, 2, 3, *(() if unit else (0,))):
            conv, bn = (f"conv{index}", f"bn{index}") if index else ("downsample.0", "downsample.1")
            place = f"layer{stage + 1}.{unit}"
            torch[f"{place}.{conv}"] = keras[f"{name}_{index}_conv"] = (name, f"conv_{index}")
            torch[f"{place}.{bn}"] = keras[f"{name}_{index}_bn"] = (name, f"bn_{index}")
    layers = (*torch.values(), ("fc",))
    torch["fc"] = ("fc",)
    keras |= {"predictions": ("fc",), "probs": ("fc",)}  # the first release's name of it
    return PublishedNames(layers=layers, torch=torch, keras=lambda arrays: keras)


NAMES_50, NAMES_101 = _names(_DEPTHS_50), _names(_DEPTHS_101)


class _Bottleneck(nn.Module):
    """A residual unit: convolutions of 1x1, 3x3 and 1x1, added to their input.

    Attributes:
      channels: of the first two convolutions.
      strides: of the 1x1 and the 3x3 convolution; the shortcut has both.
      dilation: of the 3x3 convolution.
      projects: whether the shortcut is a 1x1 convolution, as in a stage's first unit.
    """

    channels: int
    strides: tuple[int, int]
    dilation: int
    projects: bool

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        conv: Callable[..., nn.Module],
        norm: Callable[[jax.Array, str], jax.Array],
    ) -> jax.Array:
        """(B, H, W, D) -> (B, H', W', 4 * channels) after ReLU, by the trunk's kinds of layers."""
        first, second = self.strides
        rate = self.dilation
        x = conv(self.channels, (1, 1), first, name="conv_1")(inputs)
        x = nn.relu(norm(x, "bn_1"))
        # SAME would pad a strided kernel on the far side alone.
        middle = conv(
            self.channels, (3, 3), second, padding=rate, kernel_dilation=rate, name="conv_2"
        )
        x = nn.relu(norm(middle(x), "bn_2"))
        x = norm(conv(_EXPANSION * self.channels, (1, 1), name="conv_3")(x), "bn_3")
        if self.projects:
            shortcut = conv(x.shape[-1], (1, 1), first * second, name="conv_0")
            inputs = norm(shortcut(inputs), "bn_0")
        return nn.relu(inputs + x)


class ResNet(nn.Module):
    """A trunk of residual units.

    Attributes:
      width: channel multiplier (the 3x3 convolutions' channels, rounded to multiples of 8).
      depths: units of the stages conv2_x to conv5_x.
      output_stride: pixels of the image per cell of the last feature map: 32; 16, where conv5_x is
        dilated by 2; or 8, where conv4_x is dilated by 2 and conv5_x by 4 (DeepLab). Every k-th
        cell is then what stride 32 computes there: pretrained kernels see what they learned on.
      final_endpoint: the last layer to build; the parameters of later ones do not exist.
      num_classes: adds global pooling and an ``fc`` layer, the endpoint "logits".
      strided_conv: which convolution of a unit strides: "3x3" (torchvision, "v1.5") or the "1x1"
        before it (the paper and Keras).
      use_bias: whether the convolutions have biases (Keras) or not (the paper, torchvision).
      batch_norm: "inference" keeps the stored statistics while training, "batch" does not.
      epsilon: of the normalisation; 1e-5 in torchvision, 1.001e-5 in Keras.
      dtype: of the computation; parameters stay float32.
    """

    width: float = 1.0
    depths: Depths = _DEPTHS_50
    output_stride: int = 32
    final_endpoint: str = "conv5_block3"
    num_classes: int | None = None
    strided_conv: Literal["3x3", "1x1"] = "3x3"
    use_bias: bool = False
    batch_norm: BatchNormMode = "inference"
    epsilon: float = 1e-5
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Features by name: "conv1" (after ReLU), "pool1", "conv2_block1" ... "conv5_block3".

        Args:
          images: (B, H, W, 3), normalised as the weights ask (wsol_jax.networks.weights says how).
          train: whether batch statistics are used (with ``batch_norm="batch"``).
          mask: (B, 1, 1, 1) bool, False at padded examples.

        Returns:
          name -> (B, H', W', C), a unit's output after ReLU; "logits" is (B, num_classes), float32.

        Raises:
          ValueError: an unknown final endpoint, output stride or strided convolution.
        """
        names = ["conv1", "pool1", *(name for name, _, _ in _units(self.depths))]
        self._check(names)
        conv = functools.partial(
            nn.Conv,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=nn.initializers.he_normal(),
            conv_general_dilated=conv_general_dilated,
        )
        norm = functools.partial(
            batch_norm,
            mode=self.batch_norm,
            train=train,
            mask=mask,
            momentum=0.9,
            epsilon=self.epsilon,
            dtype=self.dtype,
        )
        x = conv(round_channels(64 * self.width), (7, 7), 2, padding=3, name="conv1")(images)
        x = nn.relu(norm(x, "bn1"))
        endpoints = {"conv1": x}
        if self.final_endpoint != "conv1":
            x = endpoints["pool1"] = max_pool(x, 3, 2, padding=1)
        for name, options in self._plan(names.index(self.final_endpoint) - 1):
            x = endpoints[name] = _Bottleneck(**options, name=name)(x, conv, norm)
        if self.num_classes is not None:
            endpoints["logits"] = pooled_logits(x, self.num_classes, "fc")
        return endpoints

    def _check(self, names: list[str]) -> None:
        check_stride(self.output_stride)
        if self.strided_conv not in ("3x3", "1x1"):
            raise ValueError(f"strided_conv, which strides, is 3x3 or 1x1, not {self.strided_conv}")
        check_endpoint(self.final_endpoint, names)
        check_whole(self.num_classes, self.final_endpoint, names[-1])

    def _plan(self, count: int) -> Iterator[tuple[str, dict]]:
        """(name, fields) of the first ``count`` units."""
        strided, spacing = 4, 1  # pixels a cell; cells between what stride 32 has side by side
        for name, stage, unit in list(_units(self.depths))[: max(count, 0)]:
            stride = 2 if stage and not unit else 1
            before = spacing
            if strided * stride > self.output_stride:
                spacing, stride = spacing * stride, 1
            strided *= stride
            # A 3x3 convolution that would have strode still looks at the cells of the stage before;
            # one behind it, or behind a 1x1 that would have, at those that are left of them.
            by_3x3 = self.strided_conv == "3x3"
            yield (
                name,
                dict(
                    channels=round_channels(_CHANNELS[stage] * self.width),
                    strides=(1, stride) if by_3x3 else (stride, 1),
                    dilation=before if by_3x3 else spacing,
                    projects=not unit,
                ),
            )


class ResNet50(ResNet):
    """ResNet-50: 3, 4, 6 and 3 units."""


class ResNet101(ResNet):
    """ResNet-101: 3, 4, 23 and 3 units."""

    depths: Depths = _DEPTHS_101
