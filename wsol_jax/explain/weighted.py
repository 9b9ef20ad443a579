"""The CAM family by gradients: features of a layer, weighed by what moves a target.

All: (network, images, target) -> (B, h, w) float32 at the size of the layer. What speaks against
the target is cut at zero, as in the papers; ``positive=False`` keeps it.
"""

import jax
import jax.numpy as jnp

from wsol_jax.base.errors import UserError
from wsol_jax.explain.network import Network
from wsol_jax.explain.targets import Classes, Target


def features_of(network: Network, images: jax.Array) -> jax.Array:
    """The tapped layer's features (B, h, w, D), float32.

    Raises:
      UserError: they are no map.
    """
    features, _ = network(images)
    _check(features)
    return features.astype(jnp.float32)


def gradients(
    network: Network, images: jax.Array, target: Target
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Computes features (B, h, w, D), a target's gradient there, the target (B,); float32.

    Raises:
      UserError: a network whose features cannot be bumped.
    """
    shape, _ = jax.eval_shape(lambda images: network(images), images)
    _check(shape)

    # A zero added to the features has the gradient that they have. An image's target depends on
    # that image alone, so the gradient of the sum is each one's own.
    def total(bump):
        features, outputs = network(images, bump)
        scores = target(outputs)
        return jnp.sum(scores), (features.astype(jnp.float32), scores)

    zero = jnp.zeros(shape.shape, jnp.float32)
    gradient, (features, scores) = jax.grad(total, has_aux=True)(zero)
    return features, gradient, scores


def cam(
    network: Network,
    images: jax.Array,
    classes: Classes,
    kernel: jax.Array,
    *,
    positive: bool = True,
) -> jax.Array:
    """CAM (Zhou et al. 2016, eq. 2): features by the weights of the linear layer behind their mean.

    Args:
      classes: a class, or (B,).
      kernel: (D, C).

    Raises:
      UserError: a kernel that does not fit the features.
    """
    features = features_of(network, images)
    kernel = jnp.asarray(kernel, jnp.float32)
    if kernel.ndim != 2 or len(kernel) != features.shape[-1]:
        raise UserError(
            f"cam: expected a kernel of ({features.shape[-1]}, classes), got {kernel.shape}."
        )
    classes = jnp.broadcast_to(jnp.asarray(classes), (len(features),))
    return weigh(features, kernel.T[classes], positive)


def grad_cam(
    network: Network, images: jax.Array, target: Target, *, positive: bool = True
) -> jax.Array:
    """Grad-CAM (Selvaraju et al. 2017, eqs. 1 and 2): channels by their mean gradient."""
    features, gradient, _ = gradients(network, images, target)
    return weigh(features, jnp.mean(gradient, axis=(1, 2)), positive)


def grad_cam_pp(network: Network, images: jax.Array, target: Target) -> jax.Array:
    """Grad-CAM++ (Chattopadhay et al. 2018, eqs. 5 and 19): positive gradients, each by its alpha.

    alpha = g^2 / (2 g^2 + sum(A) g^3), here 1 / (2 + sum(A) g): no power of a small gradient
    leaves float32.
    """
    features, gradient, _ = gradients(network, images, target)
    below = 2 + jnp.sum(features, axis=(1, 2), keepdims=True) * gradient
    alpha = jnp.where(below == 0, 0.0, 1 / jnp.where(below == 0, 1.0, below))
    return weigh(features, jnp.sum(jax.nn.relu(gradient) * alpha, axis=(1, 2)))


def xgrad_cam(
    network: Network, images: jax.Array, target: Target, *, positive: bool = True
) -> jax.Array:
    """XGrad-CAM (Fu et al. 2020, eq. 8): gradients averaged by the share of a channel in each cell.

    A channel whose features sum to zero has no weight.
    """
    features, gradient, _ = gradients(network, images, target)
    total = jnp.sum(features, axis=(1, 2))
    weights = jnp.sum(features * gradient, axis=(1, 2))
    weights = jnp.where(total == 0, 0.0, weights / jnp.where(total == 0, 1.0, total))
    return weigh(features, weights, positive)


def layer_cam(network: Network, images: jax.Array, target: Target) -> jax.Array:
    """LayerCAM (Jiang et al. 2021, eqs. 6 and 7): every cell of every channel by its gradient."""
    features, gradient, _ = gradients(network, images, target)
    return jax.nn.relu(jnp.sum(jax.nn.relu(gradient) * features, axis=-1))


def weigh(features: jax.Array, weights: jax.Array, positive: bool = True) -> jax.Array:
    """Sums (B, h, w, D) over the channels by (B, D) weights; cut at zero where ``positive``."""
    found = jnp.einsum("bhwd,bd->bhw", features, weights, precision=jax.lax.Precision.HIGHEST)
    return jax.nn.relu(found) if positive else found


def _check(features: jax.Array | jax.ShapeDtypeStruct) -> None:
    if len(features.shape) != 4:
        raise UserError(
            f"explain: expected features (B, h, w, channels) at the layer, got {features.shape}."
        )
