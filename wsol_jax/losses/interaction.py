"""Losses of CAMs2i between two classifiers of one image (Kou et al. 2019, section 3.2)."""

import chex
import jax
import jax.numpy as jnp


def interaction_mask(maps: jax.Array) -> jax.Array:
    """Weighs pixels by how far they stand from their map's mean; negative where little (eq. 3).

    mu0 = mean(S2), mask = |S2 - mu0|, mu1 = mean(mask), mask = (-1)^(mu1 > mask) * mask. Above 0
    the other classifier should agree with this one, below 0 it should look for something else.

    Args:
      maps: (B, H, W), S2, finite.

    Returns:
      (B, H, W) float32; zeros for a constant map.
    """
    chex.assert_rank(maps, 3)
    maps = maps.astype(jnp.float32)
    distance = jnp.abs(maps - jnp.mean(maps, axis=(1, 2), keepdims=True))
    threshold = jnp.mean(distance, axis=(1, 2), keepdims=True)
    return jnp.where(threshold > distance, -distance, distance)


def interaction_loss(
    first: jax.Array,
    second: jax.Array,
    *,
    stop_gradient: bool = True,
    explore: float = 1.0,
) -> jax.Array:
    """Pulls map S1 to S2 where S2 is sure, and away elsewhere: sum_ij (S1 - S2)^2 * mask (eq. 4).

    Args:
      first: (B, H, W), S1. The negative terms are bounded only if the maps are: in [0, 1], say.
      second: (B, H, W), S2 of the same range.
      stop_gradient: whether S2 and its mask are a target. Otherwise S2 can lower the loss by
        changing its own weights.
      explore: factor on the mask where it is negative; at 0 those pixels are left alone, as SPG
        leaves its uncertain ones.

    Returns:
      (B,) float32, a sum over pixels as in the paper.
    """
    chex.assert_rank([first, second], 3)
    chex.assert_equal_shape([first, second])
    if stop_gradient:
        second = jax.lax.stop_gradient(second)
    mask = interaction_mask(second)
    difference = first.astype(jnp.float32) - second.astype(jnp.float32)
    return jnp.sum(difference**2 * jnp.where(mask < 0, explore * mask, mask), axis=(1, 2))


def agreement_loss(first: jax.Array, second: jax.Array, *, stop_gradient: bool = True) -> jax.Array:
    """Squares the difference of two classifiers' probabilities, summed over classes: L_adn (eq. 6).

    Args:
      first: (B, C) logits y1 of the last classifier.
      second: (B, C) logits y2.
      stop_gradient: whether y1 is a target.

    Returns:
      (B,) float32 in [0, 2].
    """
    chex.assert_rank([first, second], 2)
    chex.assert_equal_shape([first, second])
    if stop_gradient:
        first = jax.lax.stop_gradient(first)
    p, q = (jax.nn.softmax(x.astype(jnp.float32)) for x in (first, second))
    return jnp.sum((p - q) ** 2, axis=-1)


def linear_ramp(step: jax.Array, num_steps: int) -> jax.Array:
    """Fades a loss in: 0 at step 0, 1 at ``num_steps`` and after (w0 of eq. 7).

    With ``num_steps`` 0 it is 1 from step 0 on.

    Eq. 7 divides by w0, which would be infinite at first; its text wants these losses to "not
    influence the beginning", so w0 multiplies.
    """
    if num_steps <= 0:
        return jnp.asarray(step >= 0, jnp.float32)
    return jnp.clip(jnp.asarray(step, jnp.float32) / num_steps, 0.0, 1.0)
