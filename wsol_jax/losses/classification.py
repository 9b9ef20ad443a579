"""Losses on image labels; per example, the caller reduces."""

import chex
import jax
import jax.numpy as jnp
import optax


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy against the image's labels, shared equally where there are several.

    Args:
      logits: (B, C).
      labels: (B, C) multi-hot; a row of zeros (a padded example) gives 0.

    Returns:
      (B,) float32, in nats.
    """
    chex.assert_rank([logits, labels], 2)
    chex.assert_equal_shape([logits, labels])
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), _shares(labels))


def sigmoid_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Multi-label logistic loss: each class by itself, summed over the classes as Caffe's layer.

    Args:
      logits: (B, C).
      labels: (B, C) multi-hot; a row of zeros is an image without any of the classes.

    Returns:
      (B,) float32, in nats.
    """
    chex.assert_rank([logits, labels], 2)
    chex.assert_equal_shape([logits, labels])
    logits, labels = logits.astype(jnp.float32), labels.astype(jnp.float32)
    return jnp.sum(optax.sigmoid_binary_cross_entropy(logits, labels), axis=-1)


def squared_label_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Squares what the classes' probabilities miss of the labels (HCP, Wei et al. 2016).

        1/C sum_c (softmax(s)_c - y_c / |y|_1)^2

    Args:
      logits: (B, C).
      labels: (B, C) multi-hot; of an image without any of the classes the target is 0.

    Returns:
      (B,) float32 in [0, 2 / C].
    """
    chex.assert_rank([logits, labels], 2)
    chex.assert_equal_shape([logits, labels])
    missed = jax.nn.softmax(logits.astype(jnp.float32)) - _shares(labels)
    return jnp.mean(missed**2, axis=-1)


def _shares(labels: jax.Array) -> jax.Array:
    """What each of an image's labels has of its target: y / |y|_1, zeros where there is none."""
    labels = labels.astype(jnp.float32)
    return labels / jnp.maximum(jnp.sum(labels, axis=-1, keepdims=True), 1.0)


def masked_mean(values: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean over the valid examples; 0 when there is none.

    Args:
      values: (B,).
      valid: (B,) bool or 0/1.

    Returns:
      () float32.
    """
    chex.assert_equal_shape([values, valid])
    valid = valid.astype(jnp.float32)
    # where, and not a product: 0 * inf of a padded example would be NaN.
    total = jnp.sum(jnp.where(valid > 0, values.astype(jnp.float32), 0.0))
    return total / jnp.maximum(jnp.sum(valid), 1.0)
