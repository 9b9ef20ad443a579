"""Conversions of images and maps between pixel conventions."""

from typing import Literal

import chex
import jax
import jax.numpy as jnp

Preprocessing = Literal["tf", "torch", "caffe"]

# Mean and spread of ImageNet's pixels, in 0..255: torchvision's (RGB) and Caffe's (BGR) constants.
_TORCH_MEAN, _TORCH_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_CAFFE_MEAN = (103.939, 116.779, 123.68)


def normalise(images: jax.Array, preprocessing: Preprocessing) -> jax.Array:
    """Brings pixels to the range that a set of pretrained weights expects.

    Args:
      images: (B, H, W, 3) RGB in 0..255, any dtype; uint8 travels cheapest to the device.
      preprocessing: "tf" x / 127.5 - 1; "torch" ImageNet mean and deviation; "caffe" BGR - mean.

    Returns:
      (B, H, W, 3) float32.
    """
    chex.assert_rank(images, 4)
    x = images.astype(jnp.float32)
    if preprocessing == "tf":
        return x / 127.5 - 1.0
    if preprocessing == "torch":
        return (x - jnp.asarray(_TORCH_MEAN)) / jnp.asarray(_TORCH_STD)
    if preprocessing == "caffe":
        return x[..., ::-1] - jnp.asarray(_CAFFE_MEAN)
    raise ValueError(f"preprocessing must be 'tf', 'torch' or 'caffe', not {preprocessing!r}")


def resize_maps(maps: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Resizes maps bilinearly, with half-pixel centres (PyTorch's align_corners=False).

    Args:
      maps: (B, h, w), finite, any range.
      size: (H, W) in pixels.

    Returns:
      (B, H, W) in maps' dtype, within maps' range.
    """
    chex.assert_rank(maps, 3)
    return jax.image.resize(maps, (maps.shape[0], *size), "bilinear", antialias=False)
