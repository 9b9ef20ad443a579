"""GoogLeNet (Szegedy et al. 2015, https://arxiv.org/abs/1409.4842) as torchvision has it.

Batch normalisation behind every convolution, and 3x3 kernels where the paper has 5x5: the weights
that torchvision published were trained so. The trunk of GoogLeNet-GAP (Zhou et al. 2016) ends at
"inception4e", 14x14 cells at 224 pixels.
"""

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from wsol_jax.networks.backbones.ends import (
    check_endpoint,
    check_stride,
    check_whole,
    pooled_logits,
)
from wsol_jax.networks.backbones.inception_modules import ConvBN, Mixed
from wsol_jax.networks.backbones.layers import BatchNormMode, round_channels
from wsol_jax.networks.backbones.pooling import max_pool
from wsol_jax.networks.backbones.published import PublishedNames


def _block(one: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> tuple:
    """The branches of a block by their channels; each layer as ``inception_blocks.Conv``."""
    conv = lambda name, channels, side=1: (name, channels, (side, side), False)
    return (
        (conv("branch1", one),),
        (conv("branch2_0", three[0]), conv("branch2_1", three[1], 3)),
        (conv("branch3_0", five[0]), conv("branch3_1", five[1], 3)),
        ("maximum", conv("branch4_1", pooled)),
    )


# Name, channels, kernel, stride of a convolution; a name and a window of a pool, which strides by
# 2; a name and the branches of a block.
_STEM = (("conv1", 64, 7, 2), ("maxpool1", 3), ("conv2", 64, 1, 1), ("conv3", 192, 3, 1))
_LAYERS = (
    *_STEM,
    ("maxpool2", 3),
    ("inception3a", _block(64, (96, 128), (16, 32), 32)),
    ("inception3b", _block(128, (128, 192), (32, 96), 64)),
    ("maxpool3", 3),
    ("inception4a", _block(192, (96, 208), (16, 48), 64)),
    ("inception4b", _block(160, (112, 224), (24, 64), 64)),
    ("inception4c", _block(128, (128, 256), (24, 64), 64)),
    ("inception4d", _block(112, (144, 288), (32, 64), 64)),
    ("inception4e", _block(256, (160, 320), (32, 128), 128)),
    ("maxpool4", 2),
    ("inception5a", _block(256, (160, 320), (32, 128), 128)),
    ("inception5b", _block(384, (192, 384), (48, 128), 128)),
)

_CONVS = [(layer[0],) for layer in _STEM if len(layer) == 4] + [
    (name, conv[0])
    for name, branches in (layer for layer in _LAYERS if layer[0].startswith("inception"))
    for branch in branches
    for conv in branch
    if conv != "maximum"
]
_MODULES = (*((*conv, kind) for conv in _CONVS for kind in ("conv", "bn")), ("fc",))
NAMES = PublishedNames(
    layers=_MODULES,
    torch={".".join(module).replace("_", "."): module for module in _MODULES},
    auxiliary=("aux1.", "aux2."),
)


class GoogLeNet(nn.Module):
    """GoogLeNet trunk.

    Attributes:
      width: channel multiplier (channels rounded to multiples of 8).
      output_stride: pixels of the image per cell of the last feature map: 32 keeps all pools at
        stride 2; 16 relaxes maxpool4, 8 maxpool3 too: 3x3 windows that keep the map's size.
      final_endpoint: the last layer to build; the parameters of later ones do not exist.
      num_classes: adds global pooling and an ``fc`` layer, the endpoint "logits". No dropout: this
        is for inference.
      batch_norm: "inference" keeps the stored statistics while training, "batch" does not.
      dtype: of the computation; parameters stay float32.
    """

    width: float = 1.0
    output_stride: int = 32
    final_endpoint: str = "inception5b"
    num_classes: int | None = None
    batch_norm: BatchNormMode = "inference"
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Features by name: "conv1" ... "conv3", "inception3a" ... "inception5b", and the pools'.

        Args:
          images: (B, H, W, 3), normalised as the weights ask (wsol_jax.networks.weights says how).
          train: whether batch statistics are used (with ``batch_norm="batch"``).
          mask: (B, 1, 1, 1) bool, False at padded examples.

        Returns:
          name -> (B, H', W', C), after ReLU; "logits" is (B, num_classes), float32.

        Raises:
          ValueError: an unknown final endpoint or output stride.
        """
        check_stride(self.output_stride)
        check_whole(self.num_classes, self.final_endpoint, "inception5b")
        options = dict(batch_norm=self.batch_norm, dtype=self.dtype)
        endpoints: dict[str, jax.Array] = {}
        x, stride = images, 2
        for name, *layer in _LAYERS:
            match layer:
                case [int(channels), int(side), int(step)]:
                    channels = round_channels(channels * self.width)
                    padding = ((side // 2, side // 2),) * 2  # SAME would pad the far side alone
                    conv = ConvBN(channels, (side, side), step, padding, **options, name=name)
                    x = conv(x, train, mask)
                case [int(window)] if stride < self.output_stride:
                    x, stride = max_pool(x, window, 2, ceil_mode=True), 2 * stride
                case [int()]:
                    x = max_pool(x, 3, 1, padding=1)
                case [branches]:
                    pads = ((1, 1), (1, 1))
                    mixed = Mixed(branches, self.width, 1, pads, True, **options, name=name)
                    x = mixed(x, train, mask)
            endpoints[name] = x
            if name == self.final_endpoint:
                break
        check_endpoint(self.final_endpoint, endpoints)
        if self.num_classes is not None:
            endpoints["logits"] = pooled_logits(x, self.num_classes, "fc")
        return endpoints
