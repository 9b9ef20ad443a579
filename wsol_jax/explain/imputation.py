"""Noisy linear imputation (ROAD, Rong et al. 2022): hidden pixels as means of their neighbours."""

import jax
import jax.numpy as jnp

# (rows, columns) to a neighbour, and its weight: those of the paper.
_NEIGHBOURS = (
    *(((dy, dx), 1 / 6) for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))),
    *(((dy, dx), 1 / 12) for dy in (1, -1) for dx in (1, -1)),
)


def impute(images: jax.Array, hidden: jax.Array, iterations: int = 200) -> jax.Array:
    """Fills hidden pixels so that each is the weighted mean of its eight neighbours.

    That is a sparse system of linear equations, which ROAD solves exactly. Here a pyramid of means
    fills in the start, and conjugate gradients come closer for a fixed number of steps, all images
    side by side.

    Args:
      images: (B, H, W, C).
      hidden: (B, H, W) bool.
      iterations: steps. On a photo of 224 pixels with 90% hidden in blocks of 40, 200 leave a mean
        error of 1.3 grey levels and 60 leave 10; with half of it hidden so, 0.01 and 1.3; where
        single pixels are hidden, 60 leave none.

    Returns:
      (B, H, W, C) float32; what is not hidden is as it was. An image that is hidden whole is its
      own mean.
    """
    images = images.astype(jnp.float32)
    unknown = hidden[..., None].astype(jnp.float32)
    degree = _neighbours(jnp.ones_like(unknown))

    def apply(x):  # of the hidden pixels alone: symmetric, positive definite
        x = x * unknown
        return unknown * (degree * x - _neighbours(x))

    known = images * (1 - unknown)
    start = _pyramid(known, 1 - unknown) * unknown
    wanted = unknown * _neighbours(known)
    solved = _conjugate_gradients(apply, wanted, start, iterations)
    found = known + solved * unknown
    mean = jnp.mean(images, axis=(1, 2), keepdims=True)
    whole = jnp.all(hidden, axis=(1, 2))[:, None, None, None]
    return jnp.where(whole, mean, found)


def noisy(filled: jax.Array, hidden: jax.Array, noise: float, key: jax.Array) -> jax.Array:
    """Adds noise to the hidden pixels: a share of each image's deviation."""
    deviation = jnp.std(filled, axis=(1, 2, 3), keepdims=True)
    drawn = jax.random.normal(key, filled.shape)
    return filled + noise * deviation * drawn * hidden[..., None]


def _neighbours(x: jax.Array) -> jax.Array:
    """The weighted sum over the neighbours of each pixel that lie in the image."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shift = lambda dy, dx: padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
    return sum(weight * shift(*offset) for offset, weight in _NEIGHBOURS)


def _pyramid(known: jax.Array, weight: jax.Array) -> jax.Array:
    """Values everywhere from the known ones: means at half the size, where there are none yet."""
    height, width = known.shape[1:3]
    if min(height, width) < 2:
        total = jnp.sum(known, axis=(1, 2), keepdims=True)
        mean = total / jnp.maximum(jnp.sum(weight, axis=(1, 2), keepdims=True), 1e-6)
        return jnp.broadcast_to(mean, known.shape)
    half = (-(-height // 2), -(-width // 2))
    pad = ((0, 0), (0, 2 * half[0] - height), (0, 2 * half[1] - width), (0, 0))

    def halved(x):
        x = jnp.pad(x, pad)
        return x.reshape(len(x), half[0], 2, half[1], 2, -1).sum(axis=(2, 4))

    sums, counts = halved(known), halved(weight)
    # A cell of the coarser image is its known pixels' mean, known as soon as there is one.
    means = sums / jnp.maximum(counts, 1e-6)
    some = (counts > 0).astype(jnp.float32)
    coarse = _pyramid(means * some, some)
    large = jax.image.resize(coarse, known.shape, "bilinear", antialias=False)
    return known + (1 - weight) * large


def _conjugate_gradients(apply, wanted: jax.Array, start: jax.Array, iterations: int) -> jax.Array:
    """Solves apply(x) = wanted for each image and channel on its own."""
    dot = lambda a, b: jnp.sum(a * b, axis=(1, 2), keepdims=True)
    ratio = lambda a, b: jnp.where(b > 1e-12, a / jnp.maximum(b, 1e-12), 0.0)

    def step(_, state):
        x, residual, direction, square = state
        applied = apply(direction)
        length = ratio(square, dot(direction, applied))
        x, residual = x + length * direction, residual - length * applied
        new = dot(residual, residual)
        return x, residual, residual + ratio(new, square) * direction, new

    residual = wanted - apply(start)
    state = (start, residual, residual, dot(residual, residual))
    return jax.lax.fori_loop(0, iterations, step, state)[0]
