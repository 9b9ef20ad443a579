"""Conversions of images and maps between pixel conventions."""

from typing import Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np

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


def enlarge_cubic(maps: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Resizes maps bicubically as OpenCV does: half-pixel centres, a = -0.75, edges repeated.

    Args:
      maps: (..., h, w), finite, any range.
      size: (H, W) in pixels.

    Returns:
      (..., H, W) float32, which may leave maps' range.
    """
    rows, columns = map(_cubic_weights, maps.shape[-2:], size)
    maps = maps.astype(jnp.float32)
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("ih,jw,...hw->...ij", rows, columns, maps, precision=highest)


def _cubic_weights(given: int, wanted: int, a: float = -0.75) -> np.ndarray:
    """(wanted, given) float32: each row samples one axis by Keys' cubic kernel."""
    places = (np.arange(wanted) + 0.5) * given / wanted - 0.5
    below = np.floor(places).astype(np.int64)
    weights = np.zeros((wanted, given))
    for tap in range(-1, 3):
        t = np.abs(places - below - tap)
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * (t**3 - 5 * t**2 + 8 * t - 4)
        cell = np.clip(below + tap, 0, given - 1)
        np.add.at(weights, (np.arange(wanted), cell), np.where(t <= 1, near, far))
    return weights.astype(np.float32)
