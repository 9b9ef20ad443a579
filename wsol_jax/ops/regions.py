"""Regions of an image as one array of ids: their boxes, their features, their classes.

The regions of an image have no pixel in common. So whatever is asked of all of them at once, a
maximum over each bin of each box even, is one pass over the pixels: the work does not grow with
their number, and there is no loop over regions.
"""

import functools

import chex
import jax
import jax.numpy as jnp

from wsol_jax.base.labels import UNLABELLED


def region_boxes(regions: jax.Array, count: int) -> jax.Array:
    """Finds each region's external rectangle.

    Args:
      regions: (H, W) integer ids, 0 .. count - 1; others, negative ones too, are no region's.
      count: R, of ids.

    Returns:
      (R, 4) int32: first row, first column, last row, last column, all inside; a region without
      pixels has its last row before its first.
    """
    chex.assert_rank(regions, 2)
    ids = _known(regions.ravel(), count)
    rows, columns = jnp.divmod(jnp.arange(regions.size, dtype=jnp.int32), regions.shape[1])
    low = functools.partial(jax.ops.segment_min, segment_ids=ids, num_segments=count)
    high = functools.partial(jax.ops.segment_max, segment_ids=ids, num_segments=count)
    return jnp.stack([low(rows), low(columns), high(rows), high(columns)], axis=1)


def masked_roi_max_pool(
    features: jax.Array, regions: jax.Array, count: int, size: int
) -> jax.Array:
    """Pools each region's features over the bins of its box (mask-based Fast R-CNN; MCOF, 4.2).

    The RoI is the region's external rectangle, cut into size x size bins; row r of a box of n rows
    lies in bin floor(r size / n). A bin's value is the maximum over its pixels that belong to the
    region; one without any, inside the box or not, is zero. A pixel has the features of the cell
    that its centre lies in. As the paper's layer does, nothing of a neighbour is seen but through
    the features' own receptive field.

    The gradient of a maximum goes to the pixels that reach it, in equal parts.

    Args:
      features: (h, w, D) floating.
      regions: (H, W) integer ids, 0 .. count - 1, at any size; other ids are no region's.
      count: R, of ids; those without a pixel are zero throughout.
      size: bins a side.

    Returns:
      (R, size, size, D) in the features' dtype.
    """
    chex.assert_rank([features, regions], [3, 2])
    ids = _known(regions.ravel(), count)
    top, left, bottom, right = region_boxes(regions, count).T
    rows, columns = jnp.divmod(jnp.arange(regions.size, dtype=jnp.int32), regions.shape[1])
    inside = jnp.minimum(ids, count - 1)  # of no region: dropped below

    def bins(places, first, last):
        first, last = first[inside], last[inside]
        return (places - first) * size // jnp.maximum(last - first + 1, 1)

    segments = (ids * size + bins(rows, top, bottom)) * size + bins(columns, left, right)
    segments = jnp.where(ids < count, segments, count * size * size)
    height, width, depth = features.shape
    middle = lambda places, cells, pixels: (2 * places + 1) * cells // (2 * pixels)
    cells = middle(rows, height, regions.shape[0]) * width
    cells += middle(columns, width, regions.shape[1])
    pooled = _segment_max(features.reshape(-1, depth), cells, segments, count * size * size)
    return pooled.reshape(count, size, size, depth)


def region_classes(
    regions: jax.Array, classes: jax.Array, count: int, num_classes: int
) -> jax.Array:
    """Gives each region the class that most of its pixels have.

    Args:
      regions: (H, W) integer ids, 0 .. count - 1; other ids are no region's.
      classes: (H, W) integers, 0 .. num_classes - 1, or ``UNLABELLED``, which is counted too.
      count: R, of ids.
      num_classes: background included.

    Returns:
      (R,) int32: the lowest of the most frequent classes; ``UNLABELLED`` where most pixels have
      none, and for a region without pixels.
    """
    chex.assert_equal_shape([regions, classes])
    ids = _known(regions.ravel(), count)
    known = jnp.minimum(classes.ravel().astype(jnp.int32), num_classes)
    votes = jax.ops.segment_sum(jax.nn.one_hot(known, num_classes + 1), ids, count)
    winner = jnp.argmax(votes, axis=1)
    labelled = (winner < num_classes) & (jnp.sum(votes, axis=1) > 0)
    return jnp.where(labelled, winner, UNLABELLED).astype(jnp.int32)


def seen_regions(regions: jax.Array, count: int) -> jax.Array:
    """Marks the regions that have a pixel: (H, W) ids, R of them -> (R,) bool."""
    return jnp.zeros(count, bool).at[_known(regions.ravel(), count)].set(True, mode="drop")


def draw_balanced(rng: jax.Array, classes: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Draws regions without repetition, each class of an image as often as the others.

    A region's weight is one over the number of regions of its class (Gumbel's top-k trick), so
    that the first one drawn is of each class with the same probability.

    Args:
      rng: a key.
      classes: (R,) integers; ``UNLABELLED`` is never drawn.
      size: S, how many to draw.

    Returns:
      (S,) int32 indices, and (S,) bool: whether there was one to draw.
    """
    chex.assert_rank(classes, 1)
    drawable = classes != UNLABELLED
    same = (classes[:, None] == classes[None, :]) & drawable
    weights = -jnp.log(jnp.maximum(jnp.sum(same, axis=1), 1).astype(jnp.float32))
    keys = weights + jax.random.gumbel(rng, classes.shape)
    keys = jnp.where(drawable, keys, -jnp.inf)
    short = max(size - len(classes), 0)
    keys, chosen = jax.lax.top_k(jnp.pad(keys, (0, short), constant_values=-jnp.inf), size)
    real = keys > -jnp.inf
    return jnp.where(real, chosen, 0), real


def _known(ids: jax.Array, count: int) -> jax.Array:
    """Ids with ``count``, which segment operations drop, where there is no region."""
    return jnp.where((ids >= 0) & (ids < count), ids, count)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _segment_max(values: jax.Array, cells: jax.Array, segments: jax.Array, count: int) -> jax.Array:
    """(n, D), (N,), (N,) -> (count, D): the maximum of values[cells] by segment, 0 where none is.

    A segment of ``count`` or more is dropped. JAX has no gradient of its own for a scattered
    maximum.
    """
    high = jax.ops.segment_max(values[cells], segments, count)
    empty = jax.ops.segment_max(jnp.ones(len(segments), jnp.int32), segments, count) < 1
    return jnp.where(empty[:, None], jnp.zeros((), values.dtype), high)


def _segment_max_forward(values, cells, segments, count):
    high = _segment_max(values, cells, segments, count)
    return high, (values, cells, segments, high)


def _segment_max_backward(count, saved, gradient):
    values, cells, segments, high = saved
    known = jnp.minimum(segments, count - 1)
    reaches = (values[cells] == high[known]) & (segments < count)[:, None]
    # In float32: bfloat16 counts no further than 256, and a bin of zeros has thousands of ties.
    ties = jax.ops.segment_sum(reaches.astype(jnp.float32), segments, count)
    share = gradient.astype(jnp.float32) / jnp.maximum(ties, 1)
    of_pixels = jnp.where(reaches, share[known], 0)
    summed = jnp.zeros(values.shape, jnp.float32).at[cells].add(of_pixels)
    return summed.astype(values.dtype), None, None


_segment_max.defvjp(_segment_max_forward, _segment_max_backward)
