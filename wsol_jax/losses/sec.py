"""Seed, expand and constrain: SEC's three losses (Kolesnikov and Lampert 2016).

Class 0 is background. The probabilities are used as they come: who calls keeps them off zero, as
``segmenter_probabilities`` does.
"""

import chex
import jax
import jax.numpy as jnp

FOREGROUND_DECAY, BACKGROUND_DECAY = 0.996, 0.999


def segmenter_probabilities(scores: jax.Array, floor: float = 1e-4) -> jax.Array:
    """Turns a segmenter's scores into probabilities that are never 0, as SEC's released code does.

    (softmax(s) + floor) / (1 + C floor): a logarithm of it is finite, and so is its gradient.

    Args:
      scores: (..., C), finite.
      floor: above 0.

    Returns:
      (..., C) float32, summing to 1.
    """
    probs = jax.nn.softmax(scores.astype(jnp.float32)) + floor
    return probs / jnp.sum(probs, axis=-1, keepdims=True)


def seed_loss(probs: jax.Array, cues: jax.Array) -> jax.Array:
    """Cross-entropy at the pixels that the cues name (SEC, eq. 2).

        -sum_{c, u in S_c} log f_{u, c} / sum_c |S_c|

    Args:
      probs: (B, H, W, C), above 0 where a cue is.
      cues: (B, H, W, C), 0 or 1; a pixel without any is not labelled.

    Returns:
      (B,) float32, in nats; 0 for an image without a cue.
    """
    chex.assert_rank([probs, cues], 4)
    chex.assert_equal_shape([probs, cues])
    cues = cues.astype(jnp.float32)
    logs = jnp.log(jnp.where(cues > 0, probs.astype(jnp.float32), 1.0))
    return -jnp.sum(cues * logs, axis=(1, 2, 3)) / jnp.maximum(jnp.sum(cues, axis=(1, 2, 3)), 1.0)


def global_weighted_rank_pooling(probs: jax.Array, decay: float) -> jax.Array:
    """Pools a class's pixels, in falling order, to a mean weighted by decay^rank (SEC, sec. 3.2).

    GWRP_d(x) = sum_j d^j x_(j) / sum_j d^j: the maximum as d goes to 0, the mean at d = 1. The
    order takes part in no gradient; each pixel's weight does.

    Args:
      probs: (B, H, W, C).
      decay: d in [0, 1].

    Returns:
      (B, C) float32.

    Raises:
      ValueError: ``decay`` outside [0, 1].
    """
    chex.assert_rank(probs, 4)
    if not 0 <= decay <= 1:
        raise ValueError(f"decay must lie in [0, 1], not {decay}")
    flat = probs.astype(jnp.float32).reshape(len(probs), -1, probs.shape[-1])
    ordered = jnp.flip(jnp.sort(flat, axis=1), axis=1)
    weights = jnp.float32(decay) ** jnp.arange(flat.shape[1])  # 0^0 is 1
    pooled = jnp.einsum("bnc,n->bc", ordered, weights, precision=jax.lax.Precision.HIGHEST)
    return pooled / jnp.sum(weights)


def expand_loss(
    probs: jax.Array,
    labels: jax.Array,
    *,
    foreground: float = FOREGROUND_DECAY,
    background: float = BACKGROUND_DECAY,
) -> jax.Array:
    """Asks the image's classes to fill a fair part of it and the others nothing (SEC, eq. 4).

        - mean_{c present} log GWRP_c - mean_{c absent} log(1 - max_u f_{u, c}) - log GWRP_0

    each of the first two 0 where there is no such class.

    Args:
      probs: (B, H, W, C), above 0, below 1.
      labels: (B, C) multi-hot, background set; a row of zeros (a padded example) is allowed.
      foreground, background: decays of the rank pooling, the paper's d+ and d_bg.

    Returns:
      (B,) float32, in nats.
    """
    chex.assert_rank([probs, labels], [4, 2])
    chex.assert_equal_shape_prefix([probs[:, 0, 0], labels], 2)
    present = labels > 0

    def mean_log(values, chosen):
        logs = jnp.log(jnp.where(chosen, values, 1.0))
        return jnp.sum(logs, axis=1) / jnp.maximum(jnp.sum(chosen, axis=1), 1)

    fill = global_weighted_rank_pooling(probs[..., 1:], foreground)
    flat = probs[..., 1:].astype(jnp.float32).reshape(len(probs), -1, labels.shape[1] - 1)
    # Not jnp.max, whose gradient looks for the cells that equal it: where XLA computes the cells a
    # second time, rounded otherwise, it finds none and divides by them.
    place = jnp.argmax(flat, axis=1, keepdims=True)
    highest = jnp.take_along_axis(flat, place, axis=1)[:, 0]
    behind = global_weighted_rank_pooling(probs[..., :1], background)
    return -(
        mean_log(fill, present[:, 1:])
        + mean_log(1.0 - highest, ~present[:, 1:])
        + mean_log(behind, present[:, :1])
    )


def constrain_loss(probs: jax.Array, crf_probs: jax.Array) -> jax.Array:
    """Measures how far a segmentation is from what its CRF makes of it: KL divergence (SEC, eq. 6).

        mean_u KL(crf_u || f_u) = 1/n sum_{u, c} crf_{u, c} log(crf_{u, c} / f_{u, c})

    Args:
      probs: (B, H, W, C), above 0.
      crf_probs: (B, H, W, C); a target, through which no gradient passes.

    Returns:
      (B,) float32, in nats.
    """
    chex.assert_rank([probs, crf_probs], 4)
    chex.assert_equal_shape([probs, crf_probs])
    target = jax.lax.stop_gradient(crf_probs.astype(jnp.float32))
    divergence = jax.scipy.special.rel_entr(target, probs.astype(jnp.float32))
    return jnp.mean(jnp.sum(divergence, axis=-1), axis=(1, 2))
