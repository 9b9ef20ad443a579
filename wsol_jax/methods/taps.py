"""Taps of methods: a layer's features beside the class scores, and gradient saliency from them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from wsol_jax.methods import Tap, Trained, Variables
from wsol_jax.networks.taps import adding, tapped
from wsol_jax.ops.cues import median_filter


def tapper(logits: Callable[[Variables, jax.Array], jax.Array]) -> Tap:
    """``Method.tap`` of the network behind a function (variables, images) -> logits (B, C)."""

    def tap(variables, images, layer, bump=None):
        with tapped(layer, adding(bump)) as seen:
            scores = logits(variables, images)
        return seen.only(), scores

    return tap


def gradient_saliency(network: Trained, images: jax.Array, layer: str) -> jax.Array:
    """Gradient saliency of all classes at a layer (Simonyan et al. 2014): SEC's background cue.

    The gradient of the sum of all class scores with respect to a layer's own output, its absolute
    value, the maximum over the channels, and a 3x3 median (Kolesnikov and Lampert 2016, section
    3.1).

    Args:
      images: (B, H, W, 3).
      layer: see ``methods.Tap``.

    Returns:
      (B, h, w) float32, not negative; h, w are the layer's.

    Raises:
      UserError: the network has no such layer, or several.
    """
    features, _ = jax.eval_shape(lambda: network.tap(images, layer))
    # A zero added to the layer's output has the gradient that the output has.
    total = lambda bump: jnp.sum(network.tap(images, layer, bump)[1])
    gradient = jax.grad(total)(jnp.zeros(features.shape, jnp.float32))
    return median_filter(jnp.max(jnp.abs(gradient), axis=-1))
