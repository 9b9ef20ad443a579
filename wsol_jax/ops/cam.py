"""Class activation maps (Zhou et al. 2016, https://arxiv.org/abs/1512.04150)."""

import chex
import jax
import jax.numpy as jnp


def class_logits(maps: jax.Array) -> jax.Array:
    """Averages class maps to class scores: global average pooling (Zhou 2016, eq. 1).

    Args:
      maps: (B, H, W, C), raw class maps.

    Returns:
      (B, C) float32.
    """
    chex.assert_rank(maps, 4)
    return jnp.mean(maps.astype(jnp.float32), axis=(1, 2))


def select_map(maps: jax.Array, labels: jax.Array) -> jax.Array:
    """Selects one class's map of each image.

    Args:
      maps: (B, H, W, C).
      labels: (B,) int, a class each, in 0..C-1.

    Returns:
      (B, H, W).
    """
    chex.assert_rank([maps, labels], [4, 1])
    return jnp.take_along_axis(maps, labels[:, None, None, None], axis=-1)[..., 0]


def min_max(maps: jax.Array) -> jax.Array:
    """Scales each map to 0..1 by its own extremes; a constant map becomes zeros.

    Args:
      maps: (B, H, W) or (B, H, W, C), finite, any range.

    Returns:
      float32 in [0, 1] of the same shape; the gradient is zero, not NaN, for a constant map.
    """
    chex.assert_rank(maps, {3, 4})
    maps = maps.astype(jnp.float32)
    low = jnp.min(maps, axis=(1, 2), keepdims=True)
    spread = jnp.max(maps, axis=(1, 2), keepdims=True) - low
    constant = spread <= 0
    return jnp.where(constant, 0.0, (maps - low) / jnp.where(constant, 1.0, spread))


def against_mean(maps: jax.Array) -> jax.Array:
    """Squashes each map by its own mean, m / (m + mean): 1/2 at the mean, 2/3 at twice the mean.

    A threshold on the result keeps its meaning while a map grows sharper or flatter, as the twice
    the mean of Achanta et al. 2009 (frequency-tuned saliency) does.

    Args:
      maps: (..., H, W), not negative.

    Returns:
      (..., H, W) in [0, 1); zeros where a map is zero everywhere, and so is the gradient there.
    """
    total = maps + jnp.mean(maps, axis=(-2, -1), keepdims=True)
    # Below 1e-15 the square in the gradient of a quotient leaves float32.
    some = total > 1e-15
    return jnp.where(some, maps / jnp.where(some, total, 1.0), 0.0)
