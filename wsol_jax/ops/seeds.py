"""Seeds: which pixels a map is sure of (SPG, Zhang et al. 2018, eq. 1)."""

import chex
import jax
import jax.numpy as jnp

from wsol_jax.base.labels import BACKGROUND, UNLABELLED

FOREGROUND = 1  # of a mask of one class


def seed_mask(
    maps: jax.Array,
    *,
    high: float,
    low: float,
    min_foreground: int = 30,
    fallback: float = 0.7,
) -> jax.Array:
    """Splits maps into sure object, sure background and pixels to ignore (SPG, eq. 1).

    M = 1 where O > high, 0 where O < low, 255 between. An image with fewer than ``min_foreground``
    object pixels takes ``fallback`` times its own maximum for ``high``, as the released code does;
    background is written last, so that a low peak never makes an object of the dark. No gradient
    passes.

    Args:
      maps: (B, H, W) in [0, 1].
      high: object threshold, in (low, 1].
      low: background threshold, in [0, high).
      min_foreground: in pixels; 0 switches the rule off.
      fallback: share of the map's maximum, in (0, 1).

    Returns:
      (B, H, W) uint8 of BACKGROUND, FOREGROUND and UNLABELLED.

    Raises:
      ValueError: thresholds out of order.
    """
    chex.assert_rank(maps, 3)
    if not 0 <= low < high <= 1:
        raise ValueError(f"seed thresholds must satisfy 0 <= low < high <= 1, not {low}, {high}")
    maps = jax.lax.stop_gradient(maps.astype(jnp.float32))
    count = jnp.sum(maps > high, axis=(1, 2), keepdims=True)
    peak = jnp.max(maps, axis=(1, 2), keepdims=True)
    threshold = jnp.where(count < min_foreground, fallback * peak, high)
    mask = jnp.where(maps > threshold, FOREGROUND, UNLABELLED)
    return jnp.where(maps < low, BACKGROUND, mask).astype(jnp.uint8)


def deviation_mask(maps: jax.Array) -> jax.Array:
    """Splits maps at their own mean and spread (CAMs2i, Kou et al. 2019, eqs. 3 and 5).

    mu0 = mean(S), mu1 = mean |S - mu0|: object where S >= mu0 + mu1, background where
    S <= mu0 - mu1, ignored between: there the paper's other classifier looks elsewhere. No gradient
    passes.

    Args:
      maps: (B, H, W), finite, any range.

    Returns:
      (B, H, W) uint8 of BACKGROUND, FOREGROUND and UNLABELLED; a constant map is ignored.
    """
    chex.assert_rank(maps, 3)
    maps = jax.lax.stop_gradient(maps.astype(jnp.float32))
    deviation = maps - jnp.mean(maps, axis=(1, 2), keepdims=True)
    spread = jnp.mean(jnp.abs(deviation), axis=(1, 2), keepdims=True)
    mask = jnp.where(deviation >= spread, FOREGROUND, UNLABELLED)
    mask = jnp.where(deviation <= -spread, BACKGROUND, mask)
    return jnp.where(spread > 0, mask, UNLABELLED).astype(jnp.uint8)
