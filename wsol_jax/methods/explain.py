"""Gradient saliency: which cells of a layer move the class scores (Simonyan et al. 2014)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsol_jax.base.errors import UserError
from wsol_jax.methods import Variables
from wsol_jax.ops.cues import median_filter


def gradient_saliency(
    network: nn.Module, layer: str, variables: Variables, images: jax.Array
) -> jax.Array:
    """SEC's background cue before it is cut (Kolesnikov and Lampert 2016, section 3.1).

    The gradient of the sum of all class scores with respect to a layer's own output, before what
    follows it (the ReLU behind conv4_1, say); its absolute value, the maximum over the channels,
    and a 3x3 median.

    Args:
      network: ``network.apply(variables, images)`` gives the logits (B, C) first.
      layer: the name of a module in it, e.g. "conv4_1" or "block_12_project".
      variables, images: of the network; images (B, H, W, 3).

    Returns:
      (B, h, w) float32, not negative; h, w are the layer's.

    Raises:
      UserError: the network has no such layer, or several; one that gives no cells is none.
    """

    def total(bump: jax.Array | None, found: list) -> jax.Array:
        def intercept(call, arguments, options, context):
            value = call(*arguments, **options)
            if context.module.name != layer or context.method_name != "__call__":
                return value
            if not isinstance(value, jax.Array) or value.ndim != 4:
                return value
            found.append(value.shape)
            return value if bump is None else value + bump.astype(value.dtype)

        with nn.intercept_methods(intercept):
            return jnp.sum(network.apply(variables, images)[0])

    shapes: list[tuple[int, ...]] = []
    jax.eval_shape(lambda: total(None, shapes))
    if len(shapes) != 1:
        raise UserError(
            f"cues.layer: the network has {len(shapes)} layers named {layer!r} that give a map, "
            f"expected one."
        )
    # A zero added to the layer's output has the gradient that the output has.
    gradient = jax.grad(lambda bump: total(bump, []))(jnp.zeros(shapes[0], jnp.float32))
    return median_filter(jnp.max(jnp.abs(gradient), axis=-1))
