"""CCNN: a segmenter's nearest distribution that the image labels allow (Pathak et al. 2015).

Class 0 is background. Labels, and cues where there are any, bound how much of the image each class
fills; the segmenter learns the distribution that keeps within these bounds and is otherwise closest
to what it says.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

_TINY = 1e-30  # of a mean: its logarithm stays finite


class _Bounds(NamedTuple):
    """On the mean of each class over the cells, (B, K): ``cued`` on that of its cues' part alone.

    ``price``: of a unit that a class is short of its least.
    """

    least: jax.Array
    most: jax.Array
    cued: jax.Array
    price: jax.Array


def latent_distribution(
    scores: jax.Array,
    labels: jax.Array,
    cues: jax.Array | None = None,
    *,
    foreground: tuple[float, float] = (0.05, 1.0),
    background: tuple[float, float] = (0.3, 0.7),
    cued: float = 0.0,
    slack: float = 2.0,
    iterations: int = 50,
) -> jax.Array:
    """Finds the distribution P within the bounds that is nearest to a segmenter's f.

        min_P 1/n sum_u KL(p_u || f_u), subject to
        least_c <= 1/n sum_u p_{u, c} <= most_c     for background and each class that is shown,
        1/|S_c| sum_{u in S_c} p_{u, c} >= cued     for each class with cues,
        p_{u, c} = 0                                for each class that is not shown

    by ascent of the dual: see ``_ascent``.

    Args:
      scores: (B, H, W, K), before softmax, finite.
      labels: (B, K) multi-hot; background always counts as shown.
      cues: (B, H, W, K), 0 or 1, at most one class a cell; None for none.
      foreground: least and most mean probability of each class that is shown.
      background: the same of background; the most only where a class is shown.
      cued: least mean probability of a class where its cues are; 0 leaves the cues out.
      slack: price of each unit that a class is short of its least; the other bounds are hard.
        Where no distribution keeps those, the ascent ends at a compromise.
      iterations: of the ascent. 50 meet the bounds to some thousandths.

    Returns:
      (B, H, W, K) float32, summing to 1, without a gradient.
    """
    chex.assert_rank([scores, labels], [4, 2])
    chex.assert_equal_shape_prefix([scores[:, 0, 0], labels], 2)
    shown = (jnp.asarray(labels) > 0).at[:, 0].set(True)
    flat = jax.lax.stop_gradient(scores.astype(jnp.float32))
    flat = flat.reshape(len(scores), -1, scores.shape[-1])
    flat = jnp.where(shown[:, None], flat, -jnp.inf)
    inside = None
    wanted = jnp.zeros(labels.shape)
    if cues is not None and cued:
        chex.assert_equal_shape([scores, cues])
        inside = cues.astype(jnp.float32).reshape(flat.shape) * shown[:, None]
        wanted = cued * jnp.mean(inside, axis=1)
    least, most = (jnp.where(shown, x, free) for x, free in zip(foreground, (0, 1), strict=True))
    some = jnp.any(shown[:, 1:], axis=1)
    bounds = _Bounds(
        least=least.at[:, 0].set(background[0]),
        most=most.at[:, 0].set(jnp.where(some, background[1], 1.0)),
        cued=wanted,
        price=jnp.full(labels.shape, slack, jnp.float32).at[:, 0].set(jnp.inf),
    )
    start = jnp.zeros((len(scores), 2, scores.shape[-1]))
    dual = accelerated(_ascent(flat, inside, bounds), start, iterations)
    return _primal(flat, inside, dual).reshape(scores.shape)


def _primal(flat: jax.Array, inside: jax.Array | None, dual: jax.Array) -> jax.Array:
    """(B, n, K) probabilities, in proportion to f_{u, c} exp(mu_c + nu_c [u in S_c])."""
    raised = flat + dual[:, :1]
    return jax.nn.softmax(raised if inside is None else raised + dual[:, 1:] * inside)


def _ascent(flat: jax.Array, inside: jax.Array | None, bounds: _Bounds) -> Callable:
    """Makes a step (B, 2, K) -> (B, 2, K) of mu and nu that never lowers the dual.

    It goes to the maximum of a lower bound of the dual, exact where it stands, which has a closed
    form for each number by itself: generalised iterative scaling (Darroch and Ratcliff 1972), here
    with inequalities. Without inequalities it is mu_c + log(least_c / mean_c).
    """
    parts = 1 if inside is None else 2  # the most means that a probability is part of

    def ascend(dual):
        probs = _primal(flat, inside, dual)
        means = jnp.mean(probs, axis=1)
        move = lambda bound, mean: jnp.log(bound / jnp.maximum(mean, _TINY)) / parts
        # At the least, at the most, or at 0 if that lies between.
        mu = jnp.clip(
            0, dual[:, 0] + move(bounds.least, means), dual[:, 0] + move(bounds.most, means)
        )
        mu = jnp.minimum(mu, bounds.price)
        nu = jnp.zeros_like(mu)
        if inside is not None:
            nu = jnp.maximum(dual[:, 1] + move(bounds.cued, jnp.mean(probs * inside, axis=1)), 0)
            nu = jnp.where(bounds.cued > 0, nu, 0)
        return jnp.stack([mu, nu], axis=1)

    return ascend


def accelerated(
    step: Callable[[jax.Array], jax.Array], start: jax.Array, iterations: int
) -> jax.Array:
    """Repeats ``step`` from points ahead of where it led, each row of ``start`` by itself.

    Nesterov's momentum; a row that overshoots begins it anew (O'Donoghue and Candes 2015).

    Args:
      step: (B, M, K) -> (B, M, K), rows independent of each other.
      start: (B, M, K).

    Returns:
      (B, M, K).
    """

    def iterate(_, state):
        here, before, pace = state
        faster = (1 + jnp.sqrt(1 + 4 * pace**2)) / 2
        ahead = here + (pace - 1) / faster * (here - before)
        there = step(ahead)
        back = jnp.sum((ahead - there) * (there - here), axis=(1, 2), keepdims=True) > 0
        return there, here, jnp.where(back, 1.0, faster)

    pace = jnp.ones((len(start), 1, 1))
    return jax.lax.fori_loop(0, iterations, iterate, (start, start, pace))[0]


def latent_divergence(scores: jax.Array, latent: jax.Array) -> jax.Array:
    """Measures how far a segmenter is from its latent distribution: 1/n sum_u KL(p_u || f_u).

    Its gradient of the scores is that of the cross-entropy, (f - p) / n.

    Args:
      scores: (B, H, W, K), before softmax, finite.
      latent: (B, H, W, K), summing to 1; a target, through which no gradient passes.

    Returns:
      (B,) float32, in nats.
    """
    chex.assert_rank([scores, latent], 4)
    chex.assert_equal_shape([scores, latent])
    target = jax.lax.stop_gradient(latent.astype(jnp.float32))
    logs = jax.nn.log_softmax(scores.astype(jnp.float32))
    each = jax.scipy.special.xlogy(target, target) - target * logs
    return jnp.mean(jnp.sum(each, axis=-1), axis=(1, 2))
