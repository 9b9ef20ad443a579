"""Masks from what class-map networks attend to (Redondo-Cabrera et al. 2018, section III-A).

Class maps say where each class is, the features' mean response where anything is; together they
are the probabilities of a mask that a segmenter learns from. Nothing here passes a gradient.
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from wsol_jax.ops.cam import min_max
from wsol_jax.ops.images import resize_maps


def fuse_class_maps(maps: Sequence[jax.Array], labels: jax.Array) -> jax.Array:
    """Adds networks' class maps and scales each sum to 0..1; absent classes are 0.

        M_c = min-max(M_c1 + M_c2), c in the image's labels

    Args:
      maps: of each network (B, h, w, C), raw class maps of one shape, finite.
      labels: (B, C) multi-hot.

    Returns:
      (B, h, w, C) float32 in [0, 1]; zeros for a class whose sum is constant.
    """
    chex.assert_equal_shape(list(maps))
    total = sum(jax.lax.stop_gradient(x).astype(jnp.float32) for x in maps)
    return min_max(total) * (labels > 0)[:, None, None, :]


def fuse_foreground(responses: Sequence[jax.Array], size: tuple[int, int]) -> jax.Array:
    """Adds the mean responses of networks' features and scales the sum to 0..1: M_f.

    Args:
      responses: of each network (B, h, w), its features' mean over the channels; of any size.
      size: (h, w) wanted; the responses are brought to it bilinearly before they are added.

    Returns:
      (B, *size) float32 in [0, 1]; zeros for a constant sum.
    """
    same = [resize_maps(x.astype(jnp.float32), size) for x in responses]
    return min_max(jax.lax.stop_gradient(sum(same)))


def mask_probabilities(class_maps: jax.Array, foreground: jax.Array) -> jax.Array:
    """Joins class maps and background, 1 - M_f, to the probabilities of a mask.

    Args:
      class_maps: (B, h, w, C) in [0, 1].
      foreground: (B, H, W) in [0, 1]; the class maps are brought to its size bilinearly.

    Returns:
      (B, H, W, 1 + C) float32, background first; they sum to 1. A cell of which no map says
      anything, its background's neither, is background.
    """
    chex.assert_rank([class_maps, foreground], [4, 3])
    shape = (*foreground.shape, class_maps.shape[-1])
    classes = jax.image.resize(class_maps, shape, "bilinear", antialias=False)
    every = jnp.concatenate([1 - foreground[..., None], classes], axis=-1)
    every = jax.lax.stop_gradient(every).astype(jnp.float32)
    total = jnp.sum(every, axis=-1, keepdims=True)
    background = jax.nn.one_hot(0, every.shape[-1])
    # Not 0: where 1 - M_f is all rounding, a compiler may compute another one for every use of it.
    some = total > 1e-6
    return jnp.where(some, every / jnp.where(some, total, 1.0), background)


def weigh_classes(probabilities: jax.Array, confidence: jax.Array) -> jax.Array:
    """Multiplies a segmentation's classes by how sure a classifier is of them (section III-C).

    Args:
      probabilities: (B, h, w, 1 + C), background first; its weight is 1.
      confidence: (B, C) in [0, 1].

    Returns:
      (B, h, w, 1 + C) float32, summing to 1 again.
    """
    weights = jnp.pad(confidence, ((0, 0), (1, 0)), constant_values=1.0)[:, None, None]
    weighted = probabilities.astype(jnp.float32) * weights
    total = jnp.sum(weighted, axis=-1, keepdims=True)
    background = jax.nn.one_hot(0, weighted.shape[-1])
    return jnp.where(total > 0, weighted / jnp.where(total > 0, total, 1.0), background)


def zero_unlikely(scores: jax.Array, confidence: jax.Array, least: float = 0.1) -> jax.Array:
    """Zeroes a segmenter's scores of classes that a classifier thinks absent: the released filter.

    Args:
      scores: (B, h, w, 1 + C), before softmax, background first.
      confidence: (B, C) in [0, 1].
      least: confidence below which a class is thought absent.

    Returns:
      (B, h, w, 1 + C) scores.
    """
    likely = jnp.pad(confidence >= least, ((0, 0), (1, 0)), constant_values=True)
    return jnp.where(likely[:, None, None], scores, 0.0)
