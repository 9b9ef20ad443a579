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


def labelled_cross_entropy(scores: jax.Array, classes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy at the pixels that have a class (MCOF, Wang et al. 2018, eq. 3).

        -sum_{c, u in S_c} log f_{u, c}, and sum_c |S_c|

    Sum and count are apart, so that the caller may take the mean over all labelled pixels of a
    batch, as the paper does: ``sum(sums) / max(sum(counts), 1)``.

    Args:
      scores: (B, H, W, C), before the softmax.
      classes: (B, H, W) integers, 0 .. C - 1, or 255 where there is none.

    Returns:
      (sums, counts), each (B,) float32: nats, and labelled pixels; (0, 0) without any.
    """
    chex.assert_rank([scores, classes], [4, 3])
    chex.assert_equal_shape_prefix([scores, classes], 3)
    known = classes != UNLABELLED
    target = jnp.where(known, classes, 0).astype(jnp.int32)
    scores = scores.astype(jnp.float32)
    nats = optax.softmax_cross_entropy_with_integer_labels(scores, target)
    of_image = lambda values: jnp.sum(values, axis=(1, 2), where=known, dtype=jnp.float32)
    return of_image(nats), of_image(jnp.ones_like(nats))
