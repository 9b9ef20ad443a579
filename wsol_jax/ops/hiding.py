"""Patches of an image hidden at random: the network must seek the object elsewhere."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp


def draw_patches(
    rng: jax.Array,
    batch_size: int,
    grid: int = 4,
    *,
    probability: float = 0.5,
    number: int | None = None,
) -> jax.Array:
    """Draws which patches of a grid are hidden, in each image anew (Redondo-Cabrera 2018, III-A).

    Args:
      grid: P, patches a side.
      probability: P_h, of each patch by itself, in [0, 1].
      number: exactly so many in every image instead, in 0..P^2 (table III).

    Returns:
      (B, P, P) bool, True where hidden.

    Raises:
      ValueError: a probability or number out of range.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"the probability must lie in [0, 1], not {probability}")
    if number is not None and not 0 <= number <= grid**2:
        raise ValueError(f"a grid of {grid}x{grid} has no {number} patches")
    draws = jax.random.uniform(rng, (batch_size, grid**2))
    if number is None:
        hidden = draws < probability
    else:
        hidden = jnp.argsort(jnp.argsort(draws, axis=-1), axis=-1) < number
    return hidden.reshape(batch_size, grid, grid)


def checkerboard(batch_size: int, grid: int = 4) -> jax.Array:
    """Hides every second patch, in every image the same: (B, P, P) bool.

    Where nothing may be left to chance: when a trained network is asked.
    """
    odd = jnp.sum(jnp.indices((grid, grid)), axis=0) % 2 == 1
    return jnp.broadcast_to(odd, (batch_size, grid, grid))


def hide_patches(images: jax.Array, hidden: jax.Array, fill: Sequence[float]) -> jax.Array:
    """Replaces the hidden patches of images by one colour.

    Args:
      images: (B, H, W, 3); P divides H and W.
      hidden: (B, P, P) bool.
      fill: RGB in the images' range: the training images' mean.

    Returns:
      (B, H, W, 3) in images' dtype.

    Raises:
      ValueError: P does not divide a side.
    """
    chex.assert_rank([images, hidden], [4, 3])
    sides = [size // grid for size, grid in zip(images.shape[1:3], hidden.shape[1:], strict=True)]
    if any(s * g != n for s, g, n in zip(sides, hidden.shape[1:], images.shape[1:3], strict=True)):
        raise ValueError(f"{hidden.shape[1:]} patches do not divide {images.shape[1:3]} pixels")
    for axis, side in enumerate(sides, start=1):
        hidden = jnp.repeat(hidden, side, axis=axis)
    colour = jnp.asarray(fill, jnp.float32)
    if jnp.issubdtype(images.dtype, jnp.integer):
        colour = jnp.round(colour)
    colour = colour.astype(images.dtype)
    return jnp.where(hidden[..., None], colour, images)
