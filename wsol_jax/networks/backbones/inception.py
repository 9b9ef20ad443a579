"""Inception-v3 (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567) as named endpoints.

Layers carry torchvision's names. Two geometries share every parameter: the standard one (299 -> 8)
and SPG's, which pads the stem and leaves Mixed_6a at stride 1 (224 -> 28, 299 -> 37, 321 -> 40).
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from wsol_jax.networks.backbones.ends import (
    check_endpoint,
    check_stride,
    check_whole,
    pooled_logits,
)
from wsol_jax.networks.backbones.inception_blocks import BLOCKS
from wsol_jax.networks.backbones.inception_modules import ConvBN, Mixed
from wsol_jax.networks.backbones.layers import BatchNormMode, round_channels
from wsol_jax.networks.backbones.pooling import max_pool
from wsol_jax.networks.backbones.published import Module, PublishedNames

_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")


def _flat(layers: tuple) -> Iterator[str]:
    """Names of a block's convolutions, in the order in which Keras creates them."""
    for layer in layers:
        if isinstance(layer, tuple) and isinstance(layer[0], str) and len(layer) == 4:
            yield layer[0]
        elif isinstance(layer, tuple):
            yield from _flat(layer)


# The 94 convolutions in the order in which Keras creates, and so numbers, them.
_CONVS: list[Module] = [(name,) for name in _STEM] + [
    (block, name) for block, branches in BLOCKS.items() for name in _flat(branches)
]
_LAYERS = (*((*conv, kind) for conv in _CONVS for kind in ("conv", "bn")), ("fc",))


def _keras_names(arrays: Iterable[str]) -> dict[str, Module]:
    """Keras' layers, which carry numbers, by the order of these."""
    modules: dict[str, Module] = {"predictions": ("fc",)}
    for pattern, kind in (("conv2d", "conv"), ("batch_normalization", "bn")):
        numbered = {}
        for name in arrays:
            if found := re.fullmatch(rf"({pattern}(?:_(\d+))?)/\w+", name):
                numbered[found[1]] = int(found[2] or 0)
        # A session that had built other networks before starts at a number above 0 or 1.
        first = min(numbered.values(), default=0)
        for layer, number in numbered.items():
            if number - first < len(_CONVS):
                modules[layer] = (*_CONVS[number - first], kind)
    return modules


NAMES = PublishedNames(
    layers=_LAYERS,
    torch={".".join(layer): layer for layer in _LAYERS},
    keras=_keras_names,
    auxiliary=("AuxLogits.",),
)


class InceptionV3(nn.Module):
    """Inception-v3 trunk.

    Attributes:
      width: channel multiplier (channels rounded to multiples of 8).
      geometry: "spg": Conv2d_1a and the pools padded by 1, the pools' sizes rounded up, Mixed_6a at
        stride 1; "standard": no padding there, Mixed_6a and Mixed_7a at stride 2.
      output_stride: pixels of the image per cell of the last feature map: 8, 16 or 32 decides how
        many of Mixed_6a and Mixed_7a stride; one that does not keeps the size of its map. No
        dilation makes up for it (SPG has none). None: 8 for "spg", 32 for "standard".
      final_endpoint: the last layer to build; the parameters of later ones do not exist. None:
        Mixed_6e for "spg", Mixed_7c for "standard".
      num_classes: adds global pooling and an ``fc`` layer behind Mixed_7c, the endpoint "logits".
      batch_norm: "inference" keeps the stored statistics while training, "batch" does not.
      count_include_pad: whether the average pools divide by 9 at the border too (torchvision) or by
        the pixels inside (Keras).
      dtype: of the computation; parameters stay float32.
    """

    width: float = 1.0
    geometry: Literal["spg", "standard"] = "spg"
    output_stride: int | None = None
    final_endpoint: str | None = None
    num_classes: int | None = None
    batch_norm: BatchNormMode = "inference"
    count_include_pad: bool = True
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Features by name: "Conv2d_1a_3x3" ... "Conv2d_4a_3x3", "Mixed_5b" ... "Mixed_7c".

        Args:
          images: (B, H, W, 3), normalised as the weights ask (wsol_jax.networks.weights says how).
          train: whether batch statistics are used (with ``batch_norm="batch"``).
          mask: (B, 1, 1, 1) bool, False at padded examples.

        Returns:
          name -> (B, H', W', C), after ReLU; "logits" is (B, num_classes), float32.

        Raises:
          ValueError: an unknown geometry, final endpoint or output stride.
        """
        if self.geometry not in ("spg", "standard"):
            raise ValueError(f"geometry must be spg or standard, not {self.geometry!r}")
        spg = self.geometry == "spg"
        output_stride = self.output_stride or (8 if spg else 32)
        check_stride(output_stride)
        final = self.final_endpoint or ("Mixed_6e" if spg else "Mixed_7c")
        check_whole(self.num_classes, final, "Mixed_7c")

        pool = {"padding": 1, "ceil_mode": True} if spg else {}
        first = ((1, 1), (1, 1)) if spg else "VALID"
        stem = (
            ("Conv2d_1a_3x3", 32, (3, 3), 2, first),
            ("Conv2d_2a_3x3", 32, (3, 3), 1, "VALID"),
            ("Conv2d_2b_3x3", 64, (3, 3), 1, "SAME"),
            None,
            ("Conv2d_3b_1x1", 80, (1, 1), 1, "VALID"),
            ("Conv2d_4a_3x3", 192, (3, 3), 1, "VALID"),
            None,
        )
        endpoints: dict[str, jax.Array] = {}
        x = images
        for layer in stem:
            if final in endpoints:
                return endpoints
            if layer is None:
                x = max_pool(x, 3, 2, **pool)
                continue
            name, channels, kernel, stride, padding = layer
            x = ConvBN(
                round_channels(channels * self.width),
                kernel,
                stride,
                padding,
                batch_norm=self.batch_norm,
                dtype=self.dtype,
                name=name,
            )(x, train, mask)
            endpoints[name] = x

        stride_so_far = 8
        for name, branches in BLOCKS.items():
            if final in endpoints:
                return endpoints
            reduces = name in ("Mixed_6a", "Mixed_7a") and stride_so_far < output_stride
            stride_so_far *= 2 if reduces else 1
            x = endpoints[name] = Mixed(
                branches,
                self.width,
                stride=2 if reduces else 1,
                reduction_padding="VALID" if reduces and not spg else ((1, 1), (1, 1)),
                count_include_pad=self.count_include_pad,
                batch_norm=self.batch_norm,
                dtype=self.dtype,
                name=name,
            )(x, train, mask)
        check_endpoint(final, endpoints)
        if self.num_classes is not None:
            endpoints["logits"] = pooled_logits(x, self.num_classes, "fc")
        return endpoints
