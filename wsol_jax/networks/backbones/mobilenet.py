"""MobileNetV2 (Sandler et al. 2018, https://arxiv.org/abs/1801.04381) as named endpoints.

Layer names, paddings and constants are those of Keras' MobileNetV2, whose ImageNet weights load
name by name.
"""

import functools

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from wsol_jax.networks.backbones.convolution import conv_general_dilated
from wsol_jax.networks.backbones.ends import check_endpoint, check_stride, pooled_logits
from wsol_jax.networks.backbones.layers import (
    BatchNormMode,
    DepthwiseConv,
    batch_norm,
    round_channels,
)
from wsol_jax.networks.backbones.published import PublishedNames, single

# (expansion, channels, stride at output stride 32) of the 17 inverted residual blocks.
_BLOCKS = (
    (1, 16, 1),
    *((6, 24, 2), (6, 24, 1)),
    *((6, 32, 2), (6, 32, 1), (6, 32, 1)),
    *((6, 64, 2), (6, 64, 1), (6, 64, 1), (6, 64, 1)),
    *((6, 96, 1), (6, 96, 1), (6, 96, 1)),
    *((6, 160, 2), (6, 160, 1), (6, 160, 1)),
    (6, 320, 1),
)


def _torch_names() -> dict[str, str]:
    """torchvision's names of the layers -> those here, first to last, classifier included."""
    names = {"features.0.0": "Conv1", "features.0.1": "bn_Conv1"}
    for index, (expansion, _, _) in enumerate(_BLOCKS):
        block = f"block_{index}" if index else "expanded_conv"
        parts = ["depthwise", "depthwise_BN", "project", "project_BN"]
        places = ["0.0", "0.1", "1", "2"]
        if expansion > 1:
            parts = ["expand", "expand_BN", *parts]
            places = ["0.0", "0.1", "1.0", "1.1", "2", "3"]
        for part, place in zip(parts, places, strict=True):
            names[f"features.{index + 1}.conv.{place}"] = f"{block}_{part}"
    last = {"features.18.0": "Conv_1", "features.18.1": "Conv_1_bn", "classifier.1": "predictions"}
    return names | last


_TORCH = _torch_names()
# The trunk's names are Keras' own; the first release called the classifier Logits.
_KERAS = {name: name for name in _TORCH.values()} | {"Logits": "predictions"}
NAMES = PublishedNames(
    layers=tuple((name,) for name in _TORCH.values()),
    torch=single(_TORCH),
    # The trunk's names are Keras' own; the first release called the classifier Logits.
    keras=lambda arrays: single(
        {name: name for name in _TORCH.values()} | {"Logits": "predictions"}
    ),
)


class MobileNetV2(nn.Module):
    """MobileNetV2 trunk.

    Attributes:
      width: channel multiplier (Keras' ``alpha``).
      output_stride: pixels of the image per cell of the last feature map: 32, 16 or 8. Strides past
        it become dilations, so that pretrained kernels still see what they were trained on.
      final_endpoint: the last layer to build; the parameters of later ones do not exist.
      num_classes: adds global pooling and a ``predictions`` layer, the endpoint "logits".
      batch_norm: "inference" keeps the stored statistics while training, "batch" does not.
      padding: "SAME" (Keras) or "symmetric" (torchvision: one zero on every side).
      epsilon: of the normalisation; 1e-3 in Keras, 1e-5 in torchvision.
      dtype: of the computation; parameters stay float32.
    """

    width: float = 1.0
    output_stride: int = 32
    final_endpoint: str = "Conv_1"
    num_classes: int | None = None
    batch_norm: BatchNormMode = "inference"
    padding: str = "SAME"
    epsilon: float = 1e-3
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Features by name: "Conv1", "expanded_conv", "block_K", "block_K_expand", "Conv_1".

        Args:
          images: (B, H, W, 3), normalised to [-1, 1] for Keras' weights.
          train: whether batch statistics are used (with ``batch_norm="batch"``).
          mask: (B, 1, 1, 1) bool, False at padded examples.

        Returns:
          name -> (B, H', W', C): the block's output, or its expansion after ReLU6.
        """
        check_stride(self.output_stride)
        pad = 1 if self.padding == "symmetric" else "SAME"
        conv = functools.partial(
            nn.Conv,
            use_bias=False,
            dtype=self.dtype,
            conv_general_dilated=conv_general_dilated,
        )

        norm = functools.partial(
            batch_norm,
            mode=self.batch_norm,
            train=train,
            mask=mask,
            epsilon=self.epsilon,
            dtype=self.dtype,
        )

        endpoints: dict[str, jax.Array] = {}
        x = conv(round_channels(32 * self.width), (3, 3), 2, padding=pad, name="Conv1")(images)
        x = nn.relu6(norm(x, "bn_Conv1"))
        endpoints["Conv1"] = x
        stride_so_far, dilation = 2, 1
        for index, (expansion, channels, block_stride) in enumerate(_BLOCKS):
            block = f"block_{index}" if index else "expanded_conv"
            if self.final_endpoint in endpoints:
                return endpoints
            # The block that would have strode past the limit keeps its own kernel undilated: its
            # input is still at the old spacing. Only the blocks after it see a denser grid.
            stride, next_dilation = block_stride, dilation
            if stride_so_far * block_stride > self.output_stride:
                stride, next_dilation = 1, dilation * block_stride
            stride_so_far *= stride
            inputs = x
            if expansion > 1:
                x = conv(expansion * x.shape[-1], (1, 1), name=f"{block}_expand")(x)
                x = nn.relu6(norm(x, f"{block}_expand_BN"))
                endpoints[f"{block}_expand"] = x
                if self.final_endpoint == f"{block}_expand":
                    return endpoints
            depthwise = DepthwiseConv(
                stride=stride,
                dilation=dilation,
                padding=dilation if self.padding == "symmetric" else "SAME",
                dtype=self.dtype,
                name=f"{block}_depthwise",
            )
            x = nn.relu6(norm(depthwise(x), f"{block}_depthwise_BN"))
            channels = round_channels(channels * self.width)
            x = norm(conv(channels, (1, 1), name=f"{block}_project")(x), f"{block}_project_BN")
            if block_stride == 1 and inputs.shape[-1] == channels:
                x = x + inputs
            endpoints[block] = x
            dilation = next_dilation
        if self.final_endpoint in endpoints:
            return endpoints
        x = conv(round_channels(1280 * max(self.width, 1.0)), (1, 1), name="Conv_1")(x)
        x = nn.relu6(norm(x, "Conv_1_bn"))
        endpoints["Conv_1"] = x
        check_endpoint(self.final_endpoint, endpoints)
        if self.num_classes is not None:
            endpoints["logits"] = pooled_logits(x, self.num_classes, "predictions")
        return endpoints
