"""AlexNet as torchvision has it (Krizhevsky 2014, https://arxiv.org/abs/1404.5997).

One tower without response normalisation; the classifier takes any image size, since what comes
before it is averaged to 6x6. The trunk of AlexNet-GAP (Zhou et al. 2016) ends at "conv5", 13x13
cells at 224 pixels.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from wsol_jax.networks.backbones.convolution import conv_general_dilated
from wsol_jax.networks.backbones.ends import check_endpoint, check_stride, check_whole
from wsol_jax.networks.backbones.layers import round_channels
from wsol_jax.networks.backbones.pooling import adaptive_average_pool, max_pool
from wsol_jax.networks.backbones.published import PublishedNames, single

# Name, channels, kernel, stride, padding; a name alone is a pool of 3x3 at stride 2.
_LAYERS = (
    ("conv1", 64, 11, 4, 2),
    "pool1",
    ("conv2", 192, 5, 1, 2),
    "pool2",
    ("conv3", 384, 3, 1, 1),
    ("conv4", 256, 3, 1, 1),
    ("conv5", 256, 3, 1, 1),
    "pool5",
)
_CELLS = 6  # a side of what the classifier takes

_TORCH = {
    **{"features.0": "conv1", "features.3": "conv2", "features.6": "conv3"},
    **{"features.8": "conv4", "features.10": "conv5"},
    **{"classifier.1": "fc6", "classifier.4": "fc7", "classifier.6": "fc8"},
}
NAMES = PublishedNames(
    layers=tuple((name,) for name in _TORCH.values()),
    torch=single(_TORCH),
    last_conv="features.10.weight",
)


class AlexNet(nn.Module):
    """AlexNet trunk.

    Attributes:
      width: channel multiplier (channels rounded to multiples of 8).
      output_stride: pixels of the image per cell of the last feature map: 32 keeps all pools at
        stride 2; 16 relaxes pool5, 8 pool2 too: 3x3 windows that keep the map's size.
      final_endpoint: the last layer to build; the parameters of later ones do not exist.
      num_classes: adds fc8, the endpoint "logits". No dropout: this is for inference.
      dtype: of the computation; parameters stay float32.
    """

    width: float = 1.0
    output_stride: int = 32
    final_endpoint: str = "fc7"
    num_classes: int | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Features: "conv1" ... "conv5", "fc6", "fc7" after ReLU; "pool1", "pool2", "pool5".

        Args:
          images: (B, H, W, 3) of at least 63 pixels a side, normalised as the weights ask.
          train, mask: as other trunks have them; there is nothing here that they change.

        Returns:
          name -> (B, H', W', C); fc6 and fc7 are (B, C), "logits" is (B, num_classes), float32.

        Raises:
          ValueError: an unknown final endpoint or output stride.
        """
        del train, mask
        check_stride(self.output_stride)
        check_whole(self.num_classes, self.final_endpoint, "fc7")
        init = nn.initializers.he_normal()
        endpoints: dict[str, jax.Array] = {}
        x, pixels = images, 4  # a cell of conv1's
        for layer in _LAYERS:
            if isinstance(layer, str):
                strides = pixels < self.output_stride
                name, x = layer, max_pool(x, 3, 2) if strides else max_pool(x, 3, 1, padding=1)
                pixels *= 2 if strides else 1
            else:
                name, channels, kernel, stride, padding = layer
                conv = nn.Conv(
                    round_channels(channels * self.width),
                    (kernel, kernel),
                    stride,
                    padding=padding,
                    dtype=self.dtype,
                    kernel_init=init,
                    conv_general_dilated=conv_general_dilated,
                    name=name,
                )
                x = nn.relu(conv(x))
            endpoints[name] = x
            if name == self.final_endpoint:
                return endpoints
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=init)
        x = adaptive_average_pool(x, _CELLS).reshape(x.shape[0], -1)
        for name in ("fc6", "fc7"):
            x = endpoints[name] = nn.relu(dense(round_channels(4096 * self.width), name=name)(x))
            if name == self.final_endpoint:
                break
        check_endpoint(self.final_endpoint, endpoints)
        if self.num_classes is not None:
            endpoints["logits"] = nn.Dense(self.num_classes, name="fc8")(x.astype(jnp.float32))
        return endpoints
