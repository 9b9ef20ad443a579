"""SqueezeNet 1.0 (Iandola et al. 2016, https://arxiv.org/abs/1602.07360) as named endpoints.

Plain convolutions and pools like VGG's, no normalisation, 0.7 million weights: a trunk that trains
from end to end where VGG16 would take hours.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from wsol_jax.networks.backbones.convolution import conv_general_dilated
from wsol_jax.networks.backbones.ends import check_endpoint, check_stride, check_whole
from wsol_jax.networks.backbones.layers import round_channels
from wsol_jax.networks.backbones.pooling import max_pool
from wsol_jax.networks.backbones.published import PublishedNames

# A pool's name alone (3x3 at stride 2), or a fire module's: channels of its squeeze and of each of
# its two expansions; and its place among torchvision's layers.
_LAYERS = (
    ("pool1",),
    ("fire2", 16, 64, 3),
    ("fire3", 16, 64, 4),
    ("fire4", 32, 128, 5),
    ("pool4",),
    ("fire5", 32, 128, 7),
    ("fire6", 48, 192, 8),
    ("fire7", 48, 192, 9),
    ("fire8", 64, 256, 10),
    ("pool8",),
    ("fire9", 64, 256, 12),
)
# A fire module's convolutions: here and in torchvision's files, in files of Keras' layout.
_PARTS = {"squeeze": "conv1x1_1", "expand1x1": "conv1x1_2", "expand3x3": "conv3x3_2"}

_FIRES = {name: rest[-1] for name, *rest in _LAYERS if rest}
NAMES = PublishedNames(
    layers=(("conv1",), *((fire, part) for fire in _FIRES for part in _PARTS), ("conv10",)),
    torch={
        "features.0": ("conv1",),
        **{f"features.{i}.{part}": (fire, part) for fire, i in _FIRES.items() for part in _PARTS},
        "classifier.1": ("conv10",),
    },
    keras=lambda arrays: {
        "conv1": ("conv1",),
        **{f"{fire}_{k}": (fire, part) for fire in _FIRES for part, k in _PARTS.items()},
        "conv_final": ("conv10",),
    },
)


class Fire(nn.Module):
    """A fire module: 1x1 to few channels, then 1x1 and 3x3 side by side, a ReLU behind each."""

    squeeze: int
    expand: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(_conv(self.squeeze, 1, "squeeze", self.dtype)(x))
        sides = (("expand1x1", 1), ("expand3x3", 3))
        each = [_conv(self.expand, side, name, self.dtype)(x) for name, side in sides]
        return nn.relu(jnp.concatenate(each, axis=-1))


def _conv(channels: int, side: int, name: str, dtype: DTypeLike | None, **options) -> nn.Conv:
    return nn.Conv(
        channels,
        (side, side),
        dtype=dtype,
        kernel_init=nn.initializers.he_normal(),
        conv_general_dilated=conv_general_dilated,
        name=name,
        **options,
    )


class SqueezeNet(nn.Module):
    """SqueezeNet 1.0 trunk.

    Attributes:
      width: channel multiplier (channels rounded to multiples of 8).
      output_stride: pixels of the image per cell of the last feature map: 16 keeps all pools at
        stride 2; 8 relaxes pool8, 4 pool4 too: 3x3 windows that keep the map's size.
      final_endpoint: the last layer to build; the parameters of later ones do not exist.
      num_classes: adds conv10, whose map's mean is the endpoint "logits". No dropout: this is for
        inference.
      dtype: of the computation; parameters stay float32.
    """

    width: float = 1.0
    output_stride: int = 16
    final_endpoint: str = "fire9"
    num_classes: int | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Features by name, after ReLU: "conv1", "fire2" ... "fire9", "pool1", "pool4", "pool8".

        Args:
          images: (B, H, W, 3) of at least 31 pixels a side, normalised as the weights ask.
          train, mask: as other trunks have them; there is nothing here that they change.

        Returns:
          name -> (B, H', W', C); "logits" is (B, num_classes), float32.

        Raises:
          ValueError: an unknown final endpoint or output stride.
        """
        del train, mask
        check_stride(self.output_stride, (4, 8, 16))
        check_whole(self.num_classes, self.final_endpoint, "fire9")
        scaled = lambda channels: round_channels(channels * self.width)
        first = _conv(scaled(96), 7, "conv1", self.dtype, strides=2, padding="VALID")
        x, stride = nn.relu(first(images)), 2
        endpoints = {"conv1": x}
        for name, *layer in _LAYERS:
            if self.final_endpoint in endpoints:
                break
            if layer:
                squeeze, expand, _ = layer
                x = Fire(scaled(squeeze), scaled(expand), self.dtype, name=name)(x)
            elif stride < self.output_stride:
                x, stride = max_pool(x, 3, 2, ceil_mode=True), 2 * stride
            else:
                x = max_pool(x, 3, 1, padding=1)
            endpoints[name] = x
        check_endpoint(self.final_endpoint, endpoints)
        if self.num_classes is not None:
            last = _conv(self.num_classes, 1, "conv10", jnp.float32)
            scores = nn.relu(last(x.astype(jnp.float32)))
            endpoints["logits"] = jnp.mean(scores, axis=(1, 2))
        return endpoints
