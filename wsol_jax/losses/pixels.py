"""Losses on pixels of which only some are labelled; per example, the caller reduces."""

import chex
import jax
import jax.numpy as jnp
import optax

from wsol_jax.base.labels import UNLABELLED
from wsol_jax.ops import seeds


def masked_binary_cross_entropy(logits: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Binary cross-entropy against a seed mask, ignored pixels left out (SPG, section 3.2).

    Sum and count are apart, so that the caller may take the mean over all labelled pixels of a
    batch, as SPG does: ``sum(sums) / max(sum(counts), 1)``.

    Args:
      logits: (B, H, W), before the sigmoid.
      mask: (B, H, W) of 0 background, 1 object, 255 ignored.

    Returns:
      (sums, counts), each (B,) float32: nats, and labelled pixels; (0, 0) for an empty mask.
    """
    chex.assert_rank([logits, mask], 3)
    chex.assert_equal_shape([logits, mask])
    labelled = mask != UNLABELLED
    target = (mask == seeds.FOREGROUND).astype(jnp.float32)
    loss = optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), target)
    sums = jnp.sum(jnp.where(labelled, loss, 0.0), axis=(1, 2))
    return sums, jnp.sum(labelled, axis=(1, 2), dtype=jnp.float32)
