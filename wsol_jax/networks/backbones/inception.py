"""Inception-v3 (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567) as named endpoints.

Layers carry torchvision's names. Two geometries share every parameter: the standard one (299 -> 8)
and SPG's, which pads the stem and leaves Mixed_6a at stride 1 (224 -> 28, 299 -> 37, 321 -> 40).
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsol_jax.networks.backbones.convolution import conv_general_dilated
from wsol_jax.networks.backbones.layers import BatchNormMode, batch_norm, round_channels
from wsol_jax.networks.backbones.pooling import max_pool

# One convolution of a branch: (name, channels, kernel, whether it strides where the block does).
_Conv = tuple[str, int, tuple[int, int], bool]


def _conv(name: str, channels: int, kernel: tuple[int, int] = (1, 1), reduces: bool = False):
    return (name, channels, kernel, reduces)


def _block_5(pool: int) -> tuple:
    """Mixed_5b..5d: 1x1, 5x5, double 3x3 and pooled branches."""
    return (
        (_conv("branch1x1", 64),),
        (_conv("branch5x5_1", 48), _conv("branch5x5_2", 64, (5, 5))),
        (
            _conv("branch3x3dbl_1", 64),
            _conv("branch3x3dbl_2", 96, (3, 3)),
            _conv("branch3x3dbl_3", 96, (3, 3)),
        ),
        ("average", _conv("branch_pool", pool)),
    )


def _block_6(inner: int) -> tuple:
    """Mixed_6b..6e: 7x7 convolutions as pairs of 1x7 and 7x1."""
    wide, tall = (1, 7), (7, 1)
    return (
        (_conv("branch1x1", 192),),
        (
            _conv("branch7x7_1", inner),
            _conv("branch7x7_2", inner, wide),
            _conv("branch7x7_3", 192, tall),
        ),
        (
            _conv("branch7x7dbl_1", inner),
            _conv("branch7x7dbl_2", inner, tall),
            _conv("branch7x7dbl_3", inner, wide),
            _conv("branch7x7dbl_4", inner, tall),
            _conv("branch7x7dbl_5", 192, wide),
        ),
        ("average", _conv("branch_pool", 192)),
    )


# A block ends with a tuple of convolutions side by side where its branch forks (Mixed_7b, 7c).
_BLOCK_7 = (
    (_conv("branch1x1", 320),),
    (
        _conv("branch3x3_1", 384),
        (_conv("branch3x3_2a", 384, (1, 3)), _conv("branch3x3_2b", 384, (3, 1))),
    ),
    (
        _conv("branch3x3dbl_1", 448),
        _conv("branch3x3dbl_2", 384, (3, 3)),
        (_conv("branch3x3dbl_3a", 384, (1, 3)), _conv("branch3x3dbl_3b", 384, (3, 1))),
    ),
    ("average", _conv("branch_pool", 192)),
)

BLOCKS: dict[str, tuple] = {
    "Mixed_5b": _block_5(32),
    "Mixed_5c": _block_5(64),
    "Mixed_5d": _block_5(64),
    "Mixed_6a": (
        (_conv("branch3x3", 384, (3, 3), True),),
        (
            _conv("branch3x3dbl_1", 64),
            _conv("branch3x3dbl_2", 96, (3, 3)),
            _conv("branch3x3dbl_3", 96, (3, 3), True),
        ),
        ("maximum",),
    ),
    "Mixed_6b": _block_6(128),
    "Mixed_6c": _block_6(160),
    "Mixed_6d": _block_6(160),
    "Mixed_6e": _block_6(192),
    "Mixed_7a": (
        (_conv("branch3x3_1", 192), _conv("branch3x3_2", 320, (3, 3), True)),
        (
            _conv("branch7x7x3_1", 192),
            _conv("branch7x7x3_2", 192, (1, 7)),
            _conv("branch7x7x3_3", 192, (7, 1)),
            _conv("branch7x7x3_4", 192, (3, 3), True),
        ),
        ("maximum",),
    ),
    "Mixed_7b": _BLOCK_7,
    "Mixed_7c": _BLOCK_7,
}


class ConvBN(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    channels: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: Any = "SAME"
    batch_norm: BatchNormMode = "inference"
    epsilon: float = 1e-3
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        x = nn.Conv(
            self.channels,
            self.kernel,
            self.stride,
            padding=self.padding,
            use_bias=False,
            dtype=self.dtype,
            # With statistics frozen at (0, 1) normalisation is an identity: the initialiser alone
            # keeps the features' scale.
            kernel_init=nn.initializers.he_normal(),
            conv_general_dilated=conv_general_dilated,
            name="conv",
        )(x)
        x = batch_norm(
            x,
            "bn",
            mode=self.batch_norm,
            train=train,
            mask=mask,
            epsilon=self.epsilon,
            dtype=self.dtype,
        )
        return nn.relu(x)


class _Mixed(nn.Module):
    """The branches of one block, side by side on the channel axis."""

    branches: tuple
    width: float
    stride: int
    # What its strided convolutions and its max pool do at the border: "VALID" or one zero a side.
    reduction_padding: Any
    count_include_pad: bool
    batch_norm: BatchNormMode
    dtype: Any

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        def apply(layer: _Conv, x: jax.Array) -> jax.Array:
            name, channels, kernel, reduces = layer
            module = ConvBN(
                round_channels(channels * self.width),
                kernel,
                stride=self.stride if reduces else 1,
                padding=self.reduction_padding if reduces else "SAME",
                batch_norm=self.batch_norm,
                dtype=self.dtype,
                name=name,
            )
            return module(x, train, mask)

        outputs = []
        for branch in self.branches:
            x = inputs
            for layer in branch:
                if layer == "average":
                    x = nn.avg_pool(
                        x, (3, 3), padding="SAME", count_include_pad=self.count_include_pad
                    )
                elif layer == "maximum":
                    padding = 0 if self.reduction_padding == "VALID" else 1
                    x = max_pool(x, 3, self.stride, padding=padding)
                elif isinstance(layer[0], str):
                    x = apply(layer, x)
                else:
                    x = jnp.concatenate([apply(fork, x) for fork in layer], axis=-1)
            outputs.append(x)
        return jnp.concatenate(outputs, axis=-1)


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
    dtype: Any = None

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
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride must be 8, 16 or 32, not {output_stride}")
        final = self.final_endpoint or ("Mixed_6e" if spg else "Mixed_7c")
        if self.num_classes is not None and final != "Mixed_7c":
            raise ValueError("num_classes needs the whole trunk: final_endpoint 'Mixed_7c'")

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
            x = endpoints[name] = _Mixed(
                branches,
                self.width,
                stride=2 if reduces else 1,
                reduction_padding="VALID" if reduces and not spg else ((1, 1), (1, 1)),
                count_include_pad=self.count_include_pad,
                batch_norm=self.batch_norm,
                dtype=self.dtype,
                name=name,
            )(x, train, mask)
        if final not in endpoints:
            raise ValueError(f"no endpoint {final!r}; there are {list(endpoints)}")
        if self.num_classes is not None:
            pooled = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
            endpoints["logits"] = nn.Dense(self.num_classes, name="fc")(pooled)
        return endpoints
