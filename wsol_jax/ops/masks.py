"""Masks that one network's class maps lay over another's features."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp


def suppression_mask(maps: jax.Array, labels: jax.Array, share: float = 0.6) -> jax.Array:
    """Makes the mask that hides where the image's classes have fired (Kim et al. 2017, eqs. 1, 2).

        M_u = prod_c [H_u^c <= share * max_v H_v^c], over the classes c that the image shows

    A class whose highest value is zero or less has found nothing, and suppresses nothing: under a
    negative maximum the equation would suppress all but the best places.

    Args:
      maps: (B, h, w, C), raw class maps, finite.
      labels: (B, C) multi-hot; a row of zeros (a padded example) suppresses nothing.
      share: of each map's own maximum, in (0, 1).

    Returns:
      (B, h, w) float32: 0 where suppressed, 1 elsewhere. No gradient flows through it.
    """
    chex.assert_rank([maps, labels], [4, 2])
    chex.assert_equal_shape_prefix([maps[:, 0, 0], labels], 2)
    top = jnp.max(maps, axis=(1, 2), keepdims=True)
    present = (labels > 0)[:, None, None, :]
    fired = (maps > share * top) & (top > 0) & present
    return 1.0 - jnp.any(fired, axis=-1).astype(jnp.float32)


def vote(maps: Sequence[jax.Array], probabilities: Sequence[jax.Array]) -> jax.Array:
    """Votes over networks' maps: the highest of p^c H^c in each pixel (Kim et al. 2017, eq. 5).

    Args:
      maps: of each network (B, h, w, C), raw class maps of one shape.
      probabilities: of each network (B, C) in [0, 1], how sure it is of each class.

    Returns:
      (B, h, w, C) float32.
    """
    chex.assert_equal_shape(list(maps))
    weighted = [
        h.astype(jnp.float32) * p[:, None, None, :]
        for h, p in zip(maps, probabilities, strict=True)
    ]
    return jnp.max(jnp.stack(weighted), axis=0)
