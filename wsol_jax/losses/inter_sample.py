"""The loss of CAMs2i between images of one class (Kou et al. 2019, section 3.3)."""

import chex
import jax
import jax.numpy as jnp

from wsol_jax.ops.images import resize_maps


def weighted_images(images: jax.Array, weights: jax.Array) -> jax.Array:
    """Multiplies images by maps of weights (eq. 8): sigma(S^c) * I, or (1 - max_c sigma(S)) * I.

    Args:
      images: (B, H, W, 3), any range in which 0 is black.
      weights: (B, h, w) in [0, 1]; resized bilinearly to the images' size.

    Returns:
      (B, H, W, 3) float32.
    """
    chex.assert_rank([images, weights], [4, 3])
    weights = resize_maps(weights.astype(jnp.float32), images.shape[1:3])
    return images.astype(jnp.float32) * weights[..., None]


def weighted_averages(features: jax.Array, weights: jax.Array) -> jax.Array:
    """Averages features by maps of weights: sum_ij w_ij F_ij / sum_ij w_ij.

    What eq. 8 becomes behind the network instead of before it, and not the same: f sees the whole
    image, once, and all maps share what it found (masked average pooling, Zhang et al. 2020,
    SG-One). A cell at a map's edge has seen what lies beyond.

    Args:
      features: (B, h, w, D), finite.
      weights: (B, T, h', w'), T maps an image, not negative; resized bilinearly to h x w.

    Returns:
      (B, T, D) float32; zeros, and no gradient, where a map is zero everywhere.
    """
    chex.assert_rank([features, weights], [4, 4])
    size, weights = features.shape[1:3], weights.astype(jnp.float32)
    weights = jax.vmap(lambda maps: resize_maps(maps, size), 1, 1)(weights)
    total = jnp.sum(weights, axis=(2, 3), keepdims=True)
    some = total > 1e-15  # below, the square in a quotient's gradient leaves float32
    weights = jnp.where(some, weights / jnp.where(some, total, 1.0), 0.0)
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("bthw,bhwd->btd", weights, features.astype(jnp.float32), precision=highest)


def squared_distances(features: jax.Array) -> jax.Array:
    """Squares the distance of every pair of rows: (B, D) -> (B, B) float32, no less than 0."""
    chex.assert_rank(features, 2)
    features = features.astype(jnp.float32)
    norms = jnp.sum(features**2, axis=-1)
    # At TF32's or bfloat16's precision what is left of two large norms would be noise.
    products = jnp.matmul(features, features.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(norms[:, None] + norms[None] - 2 * products, 0.0)


def inter_sample_loss(
    foreground: jax.Array, background: jax.Array, classes: jax.Array, valid: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Pulls a class's objects together, its backgrounds too, and the two apart (eqs. 9, 10).

    d+_ij = (|f_i - f_j|^2 + |b_i - b_j|^2) / 2c, d-_ij = (|f_i - b_i|^2 + |f_j - b_j|^2) / 2c,
    L_inter = -sum log p_ij with p_ij = 1 / (1 + exp(d+ - d-)), over the pairs i < j of one class;
    here their mean, so that the number of pairs in a batch does not weigh the loss. c, which the
    paper does not define, is the features' dimension D.

    Args:
      foreground: (B, D), features f of the images seen through their object.
      background: (B, D), features b of the same images seen through their background.
      classes: (B,) int, the class of each image.
      valid: (B,) bool or 0/1; pairs with an invalid image do not count.

    Returns:
      (loss, pairs), each () float32: the mean over the pairs, 0 where there is none, and how many.
    """
    chex.assert_rank([foreground, background, classes, valid], [2, 2, 1, 1])
    chex.assert_equal_shape([foreground, background])
    valid = valid.astype(bool)
    # where before any product: what stands in a padded row, NaN even, reaches no sum.
    foreground, background = (
        jnp.where(valid[:, None], x.astype(jnp.float32), 0.0) for x in (foreground, background)
    )
    size, dimension = foreground.shape
    apart = jnp.sum((foreground - background) ** 2, axis=-1)
    positive = squared_distances(foreground) + squared_distances(background)
    negative = apart[:, None] + apart[None]
    losses = jax.nn.softplus((positive - negative) / (2 * dimension))
    index = jnp.arange(size)
    pairs = (classes[:, None] == classes[None]) & (index[:, None] < index[None])
    pairs = pairs & valid[:, None] & valid[None]
    count = jnp.sum(pairs, dtype=jnp.float32)
    return jnp.sum(jnp.where(pairs, losses, 0.0)) / jnp.maximum(count, 1.0), count
