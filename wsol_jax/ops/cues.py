"""Localization cues: the few pixels whose class a map is sure of (SEC, Kolesnikov 2016, sec. 3.1).

A cue map holds one class a pixel: 0 background, 1 + c class c, `UNLABELLED` for the rest.
"""

import chex
import jax
import jax.numpy as jnp

from wsol_jax.base.labels import UNLABELLED


def foreground_cues(maps: jax.Array, labels: jax.Array, share: float = 0.2) -> jax.Array:
    """Marks where a class of the image reaches a share of its map's maximum: H > share max(H).

    Args:
      maps: (B, h, w, C), raw class maps, finite.
      labels: (B, C) multi-hot.
      share: in [0, 1).

    Returns:
      (B, h, w, C) bool. A map whose maximum is zero or less has found nothing.
    """
    chex.assert_rank([maps, labels], [4, 2])
    chex.assert_equal_shape_prefix([maps[:, 0, 0], labels], 2)
    top = jnp.max(maps, axis=(1, 2), keepdims=True)
    return (maps > share * top) & (top > 0) & (labels > 0)[:, None, None, :]


def background_cue(saliency: jax.Array, share: float = 0.1, strict: bool = False) -> jax.Array:
    """Marks the least salient pixels of each image as background (Simonyan 2014, as SEC uses it).

    The cut is the value of index int(share * pixels) of the sorted ones: 168 of 41x41 at a share
    of .1.

    Args:
      saliency: (B, h, w), finite.
      share: of the pixels, in [0, 1).
      strict: only what lies below the cut, as in SEC's released code; else what equals it too.

    Returns:
      (B, h, w) bool. A constant map has no least: it gives no cue.
    """
    chex.assert_rank(saliency, 3)
    ordered = jnp.sort(saliency.reshape(len(saliency), -1), axis=1)
    last = ordered[:, int(share * ordered.shape[1])][:, None, None]
    flat = (ordered[:, 0] == ordered[:, -1])[:, None, None]
    least = saliency < last if strict else saliency <= last
    return least & ~flat & (share > 0)


def median_filter(maps: jax.Array) -> jax.Array:
    """Filters maps by a 3x3 median; past the border they are mirrored, as scipy's "reflect" does.

    Args:
      maps: (B, h, w).

    Returns:
      (B, h, w).
    """
    chex.assert_rank(maps, 3)
    height, width = maps.shape[1:]
    padded = jnp.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
    windows = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return jnp.sort(jnp.stack(windows), axis=0)[4]


def nearest_cells(cues: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Brings (B, n, n) cues to (B, h, w) cells of ``size``, each taking the nearest.

    Returns:
      As ``cues``, in its dtype.
    """
    chex.assert_rank(cues, 3)
    return jax.image.resize(cues, (len(cues), *size), "nearest")


def resolve_cues(foreground: jax.Array, background: jax.Array) -> jax.Array:
    """Merges cues to one class a pixel: a class before background, of two the smaller region.

    Args:
      foreground: (B, h, w, C) bool.
      background: (B, h, w) bool.

    Returns:
      (B, h, w) uint8 of 0 background, 1 + c class c, UNLABELLED; C is 254 at most.

    Raises:
      ValueError: more classes than a uint8 holds.
    """
    chex.assert_rank([foreground, background], [4, 3])
    chex.assert_equal_shape_prefix([foreground, background], 3)
    classes = foreground.shape[-1]
    if classes >= UNLABELLED:
        raise ValueError(f"a uint8 cue map holds {UNLABELLED - 1} classes at most, not {classes}")
    area = jnp.sum(foreground, axis=(1, 2), keepdims=True)
    smallest = jnp.argmin(jnp.where(foreground, area, jnp.iinfo(jnp.int32).max), axis=-1)
    rest = jnp.where(background, 0, UNLABELLED)
    return jnp.where(jnp.any(foreground, axis=-1), 1 + smallest, rest).astype(jnp.uint8)
