"""Faithfulness: what becomes of a class's score as the photo loses what a map calls important.

Higher is better for insertion, average increase and ROAD, lower for deletion and average drop. All
are pure, an image a row, batched on the device; maps of any size are enlarged to the images.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from wsol_jax.base.errors import UserError
from wsol_jax.explain import imputation
from wsol_jax.explain.network import Network
from wsol_jax.explain.targets import Target
from wsol_jax.explain.tried import nothing, whole_number
from wsol_jax.ops.cam import min_max
from wsol_jax.ops.images import resize_maps

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the pixels that ROAD hides


class Curve(NamedTuple):
    """Scores as pixels go or come.

    Attributes:
      area: (B,) float32, under the curve (the trapezoidal rule) over shares of 0 to 1.
      scores: (B, steps + 1).
    """

    area: jax.Array
    scores: jax.Array


def deletion(
    network: Network,
    images: jax.Array,
    maps: jax.Array,
    target: Target,
    *,
    steps: int = 28,
    baseline: jax.Array | float | None = None,
) -> Curve:
    """Deletion (Petsiuk et al. 2018): scores while the most important pixels go first.

    Args:
      images: (B, H, W, 3). maps: (B, h, w), more is more important; ties go row by row.
      target: ``explain.probability(classes)``, as in the paper.
      steps: between nothing and everything, each the same number of pixels.
      baseline: what takes a pixel's place; None: the image's mean colour.
    """
    pixels = images.astype(jnp.float32)
    if baseline is None:
        baseline = jnp.mean(pixels, axis=(1, 2), keepdims=True)
    return _curve(network, pixels, baseline + jnp.zeros_like(pixels), maps, target, steps)


def insertion(
    network: Network,
    images: jax.Array,
    maps: jax.Array,
    target: Target,
    *,
    steps: int = 28,
    baseline: jax.Array | float | None = None,
) -> Curve:
    """Insertion (Petsiuk et al. 2018): scores while the most important pixels come first.

    Args:
      baseline: the image before anything has come; None: the image blurred, by a Gaussian of a
        deviation of 5 of 224 pixels.
    """
    pixels = images.astype(jnp.float32)
    start = _blurred(pixels) if baseline is None else baseline + jnp.zeros_like(pixels)
    return _curve(network, start, pixels, maps, target, steps)


def average_drop(
    network: Network,
    images: jax.Array,
    maps: jax.Array,
    target: Target,
    *,
    baseline: jax.Array | float | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Average drop and increase (Chattopadhay et al. 2018, section 4.1), before the mean.

    The image times its map, stretched to 0..1: how much of the score is lost, and whether it rises.

    Args:
      baseline: what an image is where its map is 0; None: as for ``explain.score_cam``.

    Returns:
      max(0, Y - O) / Y, (B,) float32; O > Y, (B,) bool. Y is above 0: a probability.
    """
    pixels = images.astype(jnp.float32)
    baseline = nothing(images) if baseline is None else baseline
    whole = target(network(pixels)[1])
    window = min_max(_enlarged(maps, images))[..., None]
    seen = target(network(baseline + (pixels - baseline) * window)[1])
    return jax.nn.relu(whole - seen) / jnp.maximum(whole, 1e-12), seen > whole


class Road(NamedTuple):
    """ROAD's figures, (B,) each: means over the shares.

    Attributes:
      most: the score's change where the most important pixels are hidden; less is better.
      least: where the least important are; more is better.
      combined: (least - most) / 2.
    """

    most: jax.Array
    least: jax.Array
    combined: jax.Array


def road(
    network: Network,
    images: jax.Array,
    maps: jax.Array,
    target: Target,
    *,
    shares: tuple[float, ...] = SHARES,
    noise: float = 0.01,
    iterations: int = 200,
    seed: int = 0,
) -> Road:
    """ROAD (Rong et al. 2022): hidden pixels are imputed, so that the hole's shape says nothing.

    Args:
      shares: of the pixels to hide, one after the other.
      noise: on imputed pixels, as a share of the image's deviation.
      iterations: see ``imputation.impute``, which comes close to the paper's system, not all the
        way.
    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise UserError(f"road: shares: expected numbers above 0 and below 1, got {shares}.")
    pixels = images.astype(jnp.float32)
    whole = target(network(pixels)[1])
    places = _places(_enlarged(maps, images))
    count = places.shape[1] * places.shape[2]

    def change(hidden, key):
        filled = imputation.impute(pixels, hidden, whole_number(iterations, "iterations"))
        return target(network(imputation.noisy(filled, hidden, noise, key))[1]) - whole

    def at(given):
        share, key = given
        number = jnp.round(share * count)
        most, least = jax.random.split(key)
        return change(places < number, most), change(places >= count - number, least)

    keys = jax.random.split(jax.random.key(seed), len(shares))
    most, least = jax.lax.map(at, (jnp.asarray(shares, jnp.float32), keys))
    most, least = jnp.mean(most, axis=0), jnp.mean(least, axis=0)
    return Road(most, least, (least - most) / 2)


def _curve(
    network: Network,
    before: jax.Array,
    after: jax.Array,
    maps: jax.Array,
    target: Target,
    steps: int,
) -> Curve:
    """Scores on the way from one set of images to another, the most important pixels first."""
    places = _places(_enlarged(maps, before))
    count = places.shape[1] * places.shape[2]

    def score(number):
        done = (places < number)[..., None]
        return target(network(jnp.where(done, after, before))[1])

    numbers = jnp.round(jnp.linspace(0, count, whole_number(steps, "steps") + 1))
    scores = jax.lax.map(score, numbers).T
    area = jnp.mean((scores[:, 1:] + scores[:, :-1]) / 2, axis=1)
    return Curve(area, scores)


def _enlarged(maps: jax.Array, images: jax.Array) -> jax.Array:
    """(B, h, w) at the size of the images."""
    if maps.ndim != 3 or len(maps) != len(images):
        raise UserError(
            f"faithfulness: expected a map (h, w) for each of {len(images)} images, got "
            f"{maps.shape}."
        )
    return resize_maps(maps.astype(jnp.float32), images.shape[1:3])


def _places(maps: jax.Array) -> jax.Array:
    """(B, H, W) -> each pixel's place, 0 the most important; of equal ones the first."""
    flat = -maps.reshape(len(maps), -1)
    order = jnp.argsort(flat, axis=1, stable=True)
    return jnp.argsort(order, axis=1).reshape(maps.shape)


def _blurred(images: jax.Array) -> jax.Array:
    """Images under a Gaussian; the edge is mirrored."""
    deviation = 5 * min(images.shape[1:3]) / 224
    radius = min(max(round(2 * deviation), 1), *(side - 1 for side in images.shape[1:3]))
    offsets = jnp.arange(-radius, radius + 1)
    weights = jnp.exp(-((offsets / deviation) ** 2) / 2)
    weights /= jnp.sum(weights)
    for axis in (1, 2):
        widths = [(0, 0)] * 4
        widths[axis] = (radius, radius)
        padded = jnp.pad(images, widths, mode="reflect")
        size = images.shape[axis]
        take = lambda k, padded=padded, axis=axis, size=size: jax.lax.slice_in_dim(
            padded, k, k + size, axis=axis
        )
        images = sum(weights[k] * take(k) for k in range(2 * radius + 1))
    return images
