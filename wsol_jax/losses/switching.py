"""A segmenter's losses by image labels and by masks, and the switch (Redondo-Cabrera 2018, III-B).

Class 0 is background. Scores are those before softmax: no logarithm here can be infinite.
"""

import chex
import jax
import jax.numpy as jnp
import optax

from wsol_jax.base.labels import BACKGROUND, UNLABELLED


def weak_label_loss(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Asks for one sure pixel of each class that the image shows, and none of the others (eq. 6).

        - mean_{c present} log max_i S_ic - mean_{c absent} log(1 - max_i S_ic)

    each 0 where there is no such class.

    Args:
      scores: (B, h, w, K), finite, K > 1.
      labels: (B, K) multi-hot, background set.

    Returns:
      (B,) float32, in nats.
    """
    chex.assert_rank([scores, labels], [4, 2])
    chex.assert_equal_shape_prefix([scores[:, 0, 0], labels], 2)
    flat = scores.astype(jnp.float32).reshape(len(scores), -1, scores.shape[-1])
    # The pixel t_c of each class: (B, K), and all its scores: (B, K, K).
    place = jnp.argmax(jax.nn.log_softmax(jax.lax.stop_gradient(flat)), axis=1)
    chosen = jnp.take_along_axis(flat, place[..., None], axis=1)
    own = jnp.eye(scores.shape[-1], dtype=bool)
    every = jax.nn.logsumexp(chosen, axis=-1)
    # 1 - S_c is the others' share: as a sum of theirs its logarithm is finite, and so its gradient.
    others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, chosen), axis=-1)
    present = jnp.diagonal(chosen, axis1=1, axis2=2) - every
    return -_mean_over(present, labels > 0) - _mean_over(others - every, labels <= 0)


def _mean_over(values: jax.Array, chosen: jax.Array) -> jax.Array:
    total = jnp.sum(jnp.where(chosen, values, 0.0), axis=-1)
    return total / jnp.maximum(jnp.sum(chosen, axis=-1), 1)


def pixel_cross_entropy(scores: jax.Array, masks: jax.Array) -> jax.Array:
    """Cross-entropy to a mask's classes, mean over its labelled pixels (eq. 7).

    Args:
      scores: (B, h, w, K).
      masks: (B, h, w) whole numbers, classes in 0..K-1; 255 is not labelled.

    Returns:
      (B,) float32, in nats; 0 for an image without a label.
    """
    chex.assert_rank([scores, masks], [4, 3])
    labelled = masks != UNLABELLED
    classes = jnp.where(labelled, masks, 0).astype(jnp.int32)
    each = optax.softmax_cross_entropy_with_integer_labels(scores.astype(jnp.float32), classes)
    total = jnp.sum(jnp.where(labelled, each, 0.0), axis=(1, 2))
    return total / jnp.maximum(jnp.sum(labelled, axis=(1, 2)), 1)


def is_noisy(masks: jax.Array, most: int = 0) -> jax.Array:
    """Tells of each mask whether it found no object: at most ``most`` pixels of one (eq. 8).

    Args:
      masks: (B, h, w), classes; 255 is not labelled.
      most: tau, in pixels of the mask.

    Returns:
      (B,) bool.
    """
    chex.assert_rank(masks, 3)
    found = (masks != BACKGROUND) & (masks != UNLABELLED)
    return jnp.sum(found, axis=(1, 2)) <= most


def switched_loss(
    scores: jax.Array, labels: jax.Array, masks: jax.Array, weak: jax.Array
) -> jax.Array:
    """Chooses each image's loss: by its labels where ``weak``, else by its mask (eq. 8).

    Args:
      scores: (B, h, w, K). labels: (B, K) multi-hot, background set. masks: (B, h, w).
      weak: (B,) bool.

    Returns:
      (B,) float32, in nats.
    """
    by_labels, by_mask = weak_label_loss(scores, labels), pixel_cross_entropy(scores, masks)
    return jnp.where(weak, by_labels, by_mask)
