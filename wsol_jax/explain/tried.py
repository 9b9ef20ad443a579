"""The CAM family without gradients: a channel's weight by a try of the network, or by none.

A network is tried once for every channel, ``chunk`` of them side by side.
"""

import jax
import jax.numpy as jnp

from wsol_jax.base.errors import UserError
from wsol_jax.explain.network import Network
from wsol_jax.explain.targets import Target
from wsol_jax.explain.weighted import features_of, weigh
from wsol_jax.ops.cam import min_max
from wsol_jax.ops.images import resize_maps

CHUNK = 4


def score_cam(
    network: Network,
    images: jax.Array,
    target: Target,
    *,
    baseline: float | jax.Array | None = None,
    channels: int | None = None,
    chunk: int = CHUNK,
) -> jax.Array:
    """Score-CAM (Wang et al. 2020, algorithm 1): channels by the target of the image seen through.

    A channel's features, enlarged to the image and stretched to 0..1, are the window. The weights
    are the softmax of the targets over the channels.

    Args:
      baseline: what an image is where the window is shut; a number, or (3,). None: 127.5 of uint8
        photos and 0 of others, what networks take for nothing.
      channels: the most to try, those that vary most in each image; None for all.
      chunk: channels side by side: more memory, fewer steps.
    """
    features = features_of(network, images)
    pixels = images.astype(jnp.float32)
    baseline = jnp.asarray(nothing(images) if baseline is None else baseline, jnp.float32)
    chosen = _chosen(features, channels)

    def tried(channel):
        window = resize_maps(_of_channel(features, channel), images.shape[1:3])
        window = min_max(window)[..., None]
        return target(network(baseline + (pixels - baseline) * window)[1])

    scores = jax.lax.map(tried, chosen.T, batch_size=_side_by_side(chunk, chosen))
    return weigh(features, _at(chosen, jax.nn.softmax(scores.T), features.shape[-1]))


def ablation_cam(
    network: Network,
    images: jax.Array,
    target: Target,
    *,
    channels: int | None = None,
    chunk: int = CHUNK,
    positive: bool = True,
) -> jax.Array:
    """Ablation-CAM (Desai and Ramaswamy 2020, eq. 3): channels by what the target loses with them.

    (y - y_k) / |y|, y_k the target with channel k of the features set to zero.

    Args:
      channels, chunk: as for ``score_cam``.

    Raises:
      UserError: a network whose features cannot be bumped.
    """
    features, outputs = network(images)
    features = features.astype(jnp.float32)
    whole = target(outputs)
    chosen = _chosen(features, channels)

    def tried(channel):
        one = jax.nn.one_hot(channel, features.shape[-1])[:, None, None]
        return target(network(images, -features * one)[1])

    scores = jax.lax.map(tried, chosen.T, batch_size=_side_by_side(chunk, chosen))
    scale = jnp.maximum(jnp.abs(whole), 1e-12)[:, None]
    weights = (whole[:, None] - scores.T) / scale
    return weigh(features, _at(chosen, weights, features.shape[-1]), positive)


def eigen_cam(network: Network, images: jax.Array, target: Target | None = None) -> jax.Array:
    """Eigen-CAM (Muhammad and Yeasin 2020): what varies most over the cells, whatever the target.

    The projection of the features, less their mean over the cells, on their first principal
    component. Its sign is free in the paper; here more features are more object.
    """
    del target
    features = features_of(network, images)
    shape = features.shape
    cells = features.reshape(shape[0], -1, shape[-1])
    cells -= jnp.mean(cells, axis=1, keepdims=True)
    # The smaller of the two products of the matrix with itself has the same eigenvalues.
    dot = lambda a, b, form: jnp.einsum(form, a, b, precision=jax.lax.Precision.HIGHEST)
    if cells.shape[1] <= shape[-1]:
        values, vectors = jnp.linalg.eigh(dot(cells, cells, "bnd,bmd->bnm"))
        length = jnp.sqrt(jnp.maximum(values[:, -1], 0))
        found = vectors[:, :, -1] * length[:, None]
    else:
        _, vectors = jnp.linalg.eigh(dot(cells, cells, "bnd,bne->bde"))
        found = dot(cells, vectors[:, :, -1], "bnd,bd->bn")
    along = jnp.sum(found * jnp.sum(cells, axis=-1), axis=1, keepdims=True)
    found = jnp.where(along < 0, -found, found)
    return jax.nn.relu(found).reshape(shape[:3])


def nothing(images: jax.Array) -> float:
    """The value that networks take for no image: 127.5 of uint8 photos, 0 of prepared ones."""
    return 127.5 if images.dtype == jnp.uint8 else 0.0


def _chosen(features: jax.Array, channels: int | None) -> jax.Array:
    """(B, K) channels to try: all, or in each image those that vary most."""
    count = features.shape[-1]
    if channels is None or whole_number(channels, "channels") >= count:
        return jnp.broadcast_to(jnp.arange(count), (len(features), count))
    return jax.lax.top_k(jnp.var(features, axis=(1, 2)), channels)[1]


def _of_channel(features: jax.Array, channel: jax.Array) -> jax.Array:
    """(B, h, w, D), (B,) -> (B, h, w)."""
    return jnp.take_along_axis(features, channel[:, None, None, None], axis=-1)[..., 0]


def _at(chosen: jax.Array, weights: jax.Array, count: int) -> jax.Array:
    """(B, K) weights of the chosen channels -> (B, D), 0 of the others."""
    rows = jnp.arange(len(chosen))[:, None]
    return jnp.zeros((len(chosen), count)).at[rows, chosen].set(weights)


def _side_by_side(chunk: int, chosen: jax.Array) -> int:
    return min(whole_number(chunk, "chunk"), chosen.shape[1])


def whole_number(value: int, name: str) -> int:
    """A count that a user gave.

    Raises:
      UserError: it is none, or less than 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"explain: {name}: expected a whole number from 1, got {value!r}.")
    return value
