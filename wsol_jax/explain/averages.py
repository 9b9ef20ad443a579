"""Averages of an explanation: over noisy copies of the images, over the images and their mirror."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from wsol_jax.base.errors import UserError
from wsol_jax.explain.network import Network
from wsol_jax.explain.targets import Target, mirrored
from wsol_jax.explain.tried import whole_number

# (network, images, target) -> (B, h, w) float32.
Explanation = Callable[[Network, jax.Array, Target], jax.Array]


def smooth(
    explanation: Explanation, *, samples: int = 8, noise: float = 0.1, seed: int = 0
) -> Explanation:
    """Averages an explanation over noisy copies of the images (Smilkov et al. 2017).

    Args:
      samples: copies.
      noise: deviation of the noise, as a share of each image's range of values.
      seed: the copies are the same every time.
    """
    whole_number(samples, "samples")
    if not 0 <= noise < float("inf"):
        raise UserError(f"smooth: noise: expected a number from 0, got {noise}.")

    def averaged(network, images, target):
        pixels = images.astype(jnp.float32)
        low, high = (f(pixels, axis=(1, 2, 3), keepdims=True) for f in (jnp.min, jnp.max))

        def one(key):
            drawn = jax.random.normal(key, pixels.shape)
            return explanation(network, pixels + noise * (high - low) * drawn, target)

        keys = jax.random.split(jax.random.key(seed), samples)
        return jnp.mean(jax.lax.map(one, keys), axis=0)

    return averaged


def flips(explanation: Explanation) -> Explanation:
    """Averages an explanation of the images and that of their mirror images, turned back.

    A target that names a cell means the same place of the photo in both.
    """

    def averaged(network, images, target):
        own = explanation(network, images, target)
        other = explanation(network, images[:, :, ::-1], mirrored(target))
        return (own + other[:, :, ::-1]) / 2

    return averaged
