"""VGG16 (Simonyan & Zisserman 2015, https://arxiv.org/abs/1409.1556) as named endpoints.

The class-map variants differ in what becomes of the last pools: SPG's, CAMs2i's and DeepLab's VGG
keep them at stride 1 with a 3x3 window, the VGG of wsolevaluation leaves pool5 out.
"""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from wsol_jax.networks.backbones.convolution import conv2d
from wsol_jax.networks.backbones.ends import check_endpoint, check_stride, check_whole
from wsol_jax.networks.backbones.layers import BatchNormMode, batch_norm, round_channels
from wsol_jax.networks.backbones.pooling import max_pool
from wsol_jax.networks.backbones.published import PublishedNames, single
from wsol_jax.networks.taps import Unbiased

# Channels and convolutions of the five blocks.
_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_CONVS = [f"conv{b}_{i + 1}" for b, (_, depth) in enumerate(_BLOCKS, 1) for i in range(depth)]
_DENSE = ("fc6", "fc7", "fc8")
_KERAS = {
    **{f"block{name[4]}_conv{name[6]}": name for name in _CONVS},
    **dict(zip(("fc1", "fc2", "predictions"), _DENSE, strict=True)),
}

NAMES = PublishedNames(
    layers=tuple((name,) for name in (*_CONVS, *_DENSE)),
    torch=single(
        {
            # In torchvision's ``features`` a convolution and a ReLU each, one pool a block.
            **{f"features.{2 * k + int(name[4]) - 1}": name for k, name in enumerate(_CONVS)},
            **{f"classifier.{3 * k}": name for k, name in enumerate(_DENSE)},
        }
    ),
    keras=lambda arrays: single(_KERAS),
    last_conv="features.28.weight",
)


class _Conv(nn.Module):
    """A 3x3 convolution with its bias apart, so that a pool can come before it: ``nn.Conv``'s sums.

    max(y) + b = max(y + b), after rounding too, and relu commutes with the maximum as well. In
    front of a pool both are then done on what the pool leaves, a quarter of the pixels, and what is
    kept for the gradient is the convolution's output alone: on an accelerator the memory's traffic
    is what binds this network's step.
    """

    channels: int
    stride: int
    dilation: int
    kernel_init: nn.initializers.Initializer
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: jax.Array) -> Unbiased:
        """(B, H, W, C) -> (B, H', W', D) without the bias, and the bias (D,)."""
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.channels))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.channels,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return Unbiased(conv2d(x, kernel, stride=self.stride, dilation=self.dilation), bias)


class VGG16(nn.Module):
    """VGG16 trunk.

    Attributes:
      width: channel multiplier (channels rounded to multiples of 8).
      output_stride: pixels of the image per cell of the last feature map: 32 keeps all five pools
        at stride 2, 16 relaxes pool5, 8 relaxes pool4 and pool5.
      relaxed_pools: what a relaxed pool becomes: "stride1" (3x3 window, stride 1, same size) or
        "absent" (its endpoint is then its input).
      dilate: whether the convolutions behind a relaxed pool are dilated by what it no longer
        strides (DeepLab); SPG and CAMs2i do not.
      pool_window: of the pools at stride 2: 2 (VGG) or 3, padded by 1 (DeepLab).
      ceil_mode: pools round their size up (Caffe): 321 -> 161 -> 81 -> 41.
      final_endpoint: the last layer to build; the parameters of later ones do not exist.
      num_classes: adds the three fully connected layers fc6, fc7, fc8, the endpoint "logits"; they
        fix the image size (224 for the published weights). No dropout: they are for inference.
      normalise: batch normalisation behind each convolution, which lets a narrow network learn
        from scratch within a few hundred steps; the published VGG16 has none.
      batch_norm: with it, "inference" keeps the stored statistics while training, "batch" not.
      stem_stride: of conv1_1; 2 makes every later layer four times cheaper, for small machines.
      dtype: of the computation; parameters stay float32.
    """

    width: float = 1.0
    output_stride: int = 32
    relaxed_pools: Literal["stride1", "absent"] = "stride1"
    dilate: bool = False
    pool_window: int = 2
    ceil_mode: bool = False
    final_endpoint: str = "pool5"
    num_classes: int | None = None
    normalise: bool = False
    batch_norm: BatchNormMode = "inference"
    stem_stride: Literal[1, 2] = 1
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Features by name: "conv1_1" ... "conv5_3" after ReLU, "pool1" ... "pool5".

        Args:
          images: (B, H, W, 3), normalised as the weights ask (wsol_jax.networks.weights says how).
          train: whether batch statistics are used (with ``normalise`` and ``batch_norm="batch"``).
          mask: (B, 1, 1, 1) bool, False at padded examples.

        Returns:
          name -> (B, H', W', C); "logits" is (B, num_classes), float32.

        Raises:
          ValueError: an unknown final endpoint, output stride or kind of pool.
        """
        check_stride(self.output_stride)
        if self.relaxed_pools not in ("stride1", "absent"):
            raise ValueError(f"relaxed_pools must be stride1 or absent, not {self.relaxed_pools!r}")
        if self.stem_stride not in (1, 2):
            raise ValueError(f"stem_stride must be 1 or 2, not {self.stem_stride}")
        if self.pool_window not in (2, 3):
            raise ValueError(f"pool_window must be 2 or 3, not {self.pool_window}")
        check_whole(self.num_classes, self.final_endpoint, "pool5")
        # he_normal keeps the features' scale through thirteen layers without normalisation.
        init = nn.initializers.he_normal()
        endpoints: dict[str, jax.Array] = {}
        x, stride, dilation = images, self.stem_stride, 1
        for block, (channels, depth) in enumerate(_BLOCKS, start=1):
            for index in range(1, depth + 1):
                name = f"conv{block}_{index}"
                layer = _Conv(
                    round_channels(channels * self.width),
                    stride=self.stem_stride if name == "conv1_1" else 1,
                    dilation=dilation if self.dilate else 1,
                    kernel_init=init,
                    dtype=self.dtype,
                    name=name,
                )
                x, bias = layer(x)
                if self.normalise:
                    x = batch_norm(
                        x + bias,
                        f"norm{block}_{index}",
                        mode=self.batch_norm,
                        train=train,
                        mask=mask,
                        momentum=0.9,
                        dtype=self.dtype,
                    )
                    bias = 0.0
                # A pool comes before bias and ReLU; see ``_Conv``.
                before, x = x, nn.relu(x + bias)
                endpoints[name] = x
                if name == self.final_endpoint:
                    return endpoints
            if stride < self.output_stride:
                before = max_pool(
                    before,
                    self.pool_window,
                    2,
                    padding=self.pool_window - 2,
                    ceil_mode=self.ceil_mode,
                )
                stride *= 2
            else:
                if self.relaxed_pools == "stride1":
                    before = max_pool(before, 3, 1, padding=1)
                dilation *= 2
            x = endpoints[f"pool{block}"] = nn.relu(before + bias)
            if f"pool{block}" == self.final_endpoint:
                break
        check_endpoint(self.final_endpoint, endpoints)
        if self.num_classes is not None:
            dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=init)
            x = x.reshape(x.shape[0], -1)
            for name in ("fc6", "fc7"):
                x = endpoints[name] = nn.relu(
                    dense(round_channels(4096 * self.width), name=name)(x)
                )
            endpoints["logits"] = nn.Dense(self.num_classes, name="fc8")(x.astype(jnp.float32))
        return endpoints
