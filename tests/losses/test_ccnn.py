"""CCNN's latent distribution against a general solver, and its loss against sums in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from jax.test_util import check_grads
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from threadpoolctl import threadpool_limits

from wsol_jax.losses import ccnn

NAMES = ("foreground", "background", "cued", "slack", "iterations")
# These take longer to compile than to run.
latent_distribution = quick(ccnn.latent_distribution, static_argnames=NAMES)
divergence = quick(ccnn.latent_divergence)
RNG = np.random.default_rng(0)
HARD = float("inf")  # a slack that nothing is worth


def single(x):
    return jnp.asarray(x, jnp.float32)


def solved(scores, shown, cues, foreground, background, cued, slack):
    """(n, K) by SLSQP: the problem as it is written down, what classes fall short by in it."""
    n, kept = len(scores), np.flatnonzero(shown)
    classes, logs = len(kept), log_softmax(scores, axis=1)[:, shown]
    size, short = n * classes, classes if np.isfinite(slack) else 0

    def row(cells, k, sign=1.0):
        """A mean of class k over cells, of either sign, in the order of x."""
        x = np.zeros((n, classes))
        x[cells, k] = sign / np.sum(cells)
        return np.concatenate([x.ravel(), np.zeros(short)])

    every, rows = np.ones(n, bool), []
    for k, c in enumerate(kept):
        least, most = background if c == 0 else foreground
        rows.append((row(every, k), least))
        if c and short:
            rows[-1][0][size + k] = 1
        if classes > 1:
            rows.append((row(every, k, -1.0), -most))
        if cued and cues[:, c].any():
            rows.append((row(cues[:, c] > 0, k), cued))
    matrix, least = np.array([r for r, _ in rows]), np.array([b for _, b in rows])
    sums = np.concatenate([np.kron(np.eye(n), np.ones(classes)), np.zeros((n, short))], axis=1)

    def cost(x):
        p = np.maximum(x[:size], 1e-12).reshape(n, classes)
        value = np.sum(p * (np.log(p) - logs)) + (n * slack * x[size:].sum() if short else 0)
        return value, np.concatenate([(np.log(p) - logs + 1).ravel(), np.full(short, n * slack)])

    with threadpool_limits(1):  # of a thread a core, most wait for each other on so few numbers
        done = minimize(
            cost,
            np.concatenate([np.full(size, 1 / classes), np.ones(short)]),
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * size + [(0, None)] * short,
            constraints=[
                {"type": "eq", "fun": lambda x: sums @ x - 1, "jac": lambda x: sums},
                {"type": "ineq", "fun": lambda x: matrix @ x - least, "jac": lambda x: matrix},
            ],
            options={"maxiter": 500, "ftol": 1e-10},
        )
    assert done.success, done.message
    found = np.zeros(scores.shape)
    found[:, shown] = done.x[:size].reshape(n, classes)
    return found


def case(seed, spread, towards=0.0):
    """Scores (4, 2, 3, 4), labels and cues of images: one class, two, two with few cues, none."""
    rng = np.random.default_rng(seed)
    scores = spread * rng.normal(size=(4, 2, 3, 4))
    scores[..., 0] += towards
    labels = np.array([[1, 1, 0, 0], [1, 0, 1, 1], [1, 1, 0, 1], [1, 0, 0, 0]])
    cues = np.eye(4)[rng.choice(4, size=(4, 2, 3))] * (rng.random((4, 2, 3, 1)) < 0.6)
    cues[..., 0] = 0
    cues[2, ..., 3] = 0
    return scores, labels, cues * labels[:, None, None]


CASES = {
    "the released bounds": dict(),
    "bounds without slack": dict(slack=HARD),
    "a most that binds": dict(foreground=(0.1, 0.25), background=(0.3, 0.9), slack=HARD),
    "cues": dict(cued=0.7),
    "cues and hard bounds": dict(foreground=(0.2, 0.5), cued=0.6, slack=HARD),
}


@pytest.mark.parametrize("towards", [-3.0, 0.0, 4.0])
@pytest.mark.parametrize("name", CASES)
def test_latent_distribution_equals_slsqps(name, towards):
    options = dict(foreground=(0.05, 1.0), background=(0.3, 0.7), cued=0.0, slack=2.0)
    options |= CASES[name]
    scores, labels, cues = case(1, 1.5, towards)
    found = latent_distribution(single(scores), labels, single(cues), iterations=400, **options)
    assert found.shape == scores.shape and found.dtype == jnp.float32
    moved = 0.0
    for one, shown, s, cue in zip(found, labels > 0, scores, cues, strict=True):
        flat = s.reshape(6, 4)
        expected = solved(flat, shown, cue.reshape(6, 4), **options)
        np.testing.assert_allclose(np.reshape(one, (6, 4)), expected, atol=2e-4)
        free = np.where(shown, softmax(np.where(shown, flat, -np.inf), axis=1), 0)
        moved = max(moved, np.abs(expected - free).max())
    assert moved > 0.01 or towards == 0  # a case in which a bound is felt


def test_fifty_steps_are_enough():
    """Sure segmenters, on the published size: what binds is met, what does not is not."""
    rng = np.random.default_rng(0)
    scores = 6 * rng.normal(size=(2, 41, 41, 21))
    scores[..., 0] += [[[9]], [[14]]]
    labels = np.zeros((2, 21))
    labels[:, [0, 3, 8]] = 1
    cues = np.zeros(scores.shape)
    cues[:, :10, :20, 3] = cues[:, 30:34, 30:34, 8] = 1
    found = np.asarray(latent_distribution(single(scores), labels, single(cues), cued=0.7))
    for image in found:
        assert image[:10, :20, 3].mean() == pytest.approx(0.7, abs=5e-3)
        assert image[30:34, 30:34, 8].mean() == pytest.approx(0.7, abs=5e-3)
    assert found[0, ..., 0].mean() < 0.69  # without its own bound
    assert found[1, ..., 0].mean() == pytest.approx(0.7, abs=5e-3)
    np.testing.assert_array_equal(found[..., labels[0] == 0], 0)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)


def test_a_distribution_within_the_bounds_is_left_alone():
    scores = RNG.normal(size=(3, 4, 5, 3)) + [0.8, 0, 0]
    probs = softmax(scores, axis=-1)
    shares = probs.mean(axis=(1, 2))
    assert (shares > 0.06).all() and (shares[:, 0] > 0.3).all() and (shares[:, 0] < 0.7).all()
    found = latent_distribution(single(scores), np.ones((3, 3)))
    np.testing.assert_allclose(found, probs, rtol=1e-5)


def test_the_slack_limits_what_a_class_gains():
    """By hand: flat scores, a class at e^-8 of background's odds and two nats to give."""
    scores = np.zeros((1, 3, 3, 2))
    scores[..., 1] = -8
    options = dict(foreground=(0.05, 1.0), background=(0.0, 1.0))
    soft = latent_distribution(single(scores), np.ones((1, 2)), slack=2.0, **options)
    np.testing.assert_allclose(soft[..., 1], np.exp(-6) / (1 + np.exp(-6)), rtol=1e-4)
    hard = latent_distribution(single(scores), np.ones((1, 2)), slack=HARD, **options)
    np.testing.assert_allclose(hard[..., 1], 0.05, rtol=1e-4)


# ---------------------------------------------------------------- images without


def test_an_image_of_no_class_is_all_background():
    """Its most does not hold there; nor does a row of no labels at all, a padded one."""
    scores = single(RNG.normal(size=(2, 3, 3, 4)))
    found = latent_distribution(scores, np.array([[1, 0, 0, 0], [0, 0, 0, 0]]))
    np.testing.assert_array_equal(found[..., 0], 1)
    np.testing.assert_array_equal(found[..., 1:], 0)


def test_cues_of_classes_that_are_not_shown_count_for_nothing():
    scores, labels, cues = case(3, 1.0)
    other = cues.copy()
    other[0, ..., 2] = 1 - other[0].sum(axis=-1)
    found = [
        latent_distribution(single(scores), labels, single(x), cued=0.7) for x in (cues, other)
    ]
    np.testing.assert_array_equal(*found)


def test_without_cues_there_is_no_bound_on_cells():
    scores, labels, cues = case(4, 1.0)
    plain = latent_distribution(single(scores), labels)
    for given, cued in ((None, 0.7), (single(cues), 0.0)):
        np.testing.assert_array_equal(
            latent_distribution(single(scores), labels, given, cued=cued), plain
        )
    none = latent_distribution(single(scores), labels, single(np.zeros_like(cues)), cued=0.7)
    np.testing.assert_allclose(none, plain, atol=1e-4)  # on another way there


def test_images_do_not_see_each_other():
    scores, labels, cues = case(5, 2.0)
    whole = latent_distribution(single(scores), labels, single(cues), cued=0.7)
    for n in range(4):
        one = slice(n, n + 1)
        alone = latent_distribution(single(scores[one]), labels[one], single(cues[one]), cued=0.7)
        np.testing.assert_allclose(alone[0], whole[n], atol=1e-6)


@pytest.mark.parametrize("scale", [50.0, 500.0])
def test_sure_scores_and_bounds_that_nothing_keeps_stay_finite(scale):
    """All cells one class's cues, all of them sure of another; and shares of more than 1."""
    scores = np.zeros((1, 4, 4, 4))
    scores[..., 2] = scale
    cues = np.zeros(scores.shape)
    cues[..., 1] = 1
    impossible = dict(foreground=(0.6, 1.0), background=(0.6, 0.7), cued=1.0, slack=HARD)
    found = latent_distribution(single(scores), np.ones((1, 4)), single(cues), **impossible)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.sum(found, axis=-1), 1, rtol=1e-5)


def test_shapes_are_checked():
    scores = single(RNG.normal(size=(2, 3, 3, 4)))
    with pytest.raises(AssertionError):
        latent_distribution(scores, np.ones((2, 3)))
    with pytest.raises(AssertionError):
        latent_distribution(scores, np.ones((2, 4)), scores[..., :1], cued=0.5)
    with pytest.raises(AssertionError):
        divergence(scores, scores[:1])


# ---------------------------------------------------------------- the loss


def test_divergence_equals_the_sum():
    scores = 3 * RNG.normal(size=(3, 4, 5, 6))
    latent = softmax(scores + RNG.normal(size=scores.shape), axis=-1)
    latent[0, ..., 2] = 0
    latent /= latent.sum(axis=-1, keepdims=True)
    log_f = log_softmax(scores, axis=-1)
    terms = np.where(latent > 0, latent * (np.log(np.maximum(latent, 1e-300)) - log_f), 0)
    expected = terms.sum(axis=-1).mean(axis=(1, 2))
    found = divergence(single(scores), single(latent))
    assert found.shape == (3,) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        divergence(single(scores), jax.nn.softmax(single(scores))), 0, atol=1e-6
    )


def test_divergence_of_sure_scores_is_finite():
    scores = single(np.zeros((1, 2, 2, 3))).at[..., 0].set(300.0)
    latent = jax.nn.one_hot(jnp.ones((1, 2, 2), int), 3)
    value, gradient = jax.value_and_grad(lambda s: jnp.sum(ccnn.latent_divergence(s, latent)))(
        scores
    )
    np.testing.assert_allclose(value, 300.0, rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_gradient_of_the_divergence():
    scores, labels, cues = case(6, 1.0)
    latent = latent_distribution(single(scores), labels, single(cues), cued=0.7)
    total = lambda s: jnp.sum(ccnn.latent_divergence(s, latent))
    check_grads(jax.jit(total), (single(scores),), 1, ["rev"], 2e-2, 2e-2, 3e-3)
    found = jax.grad(total)(single(scores))
    expected = (softmax(scores, axis=-1) - np.asarray(latent)) / 6
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_gradient_is_that_of_the_least_divergence():
    """Danskin: where P is the minimum, its own motion moves nothing. (A price paid would.)"""
    scores, labels, cues = case(7, 1.0)
    options = dict(foreground=(0.2, 0.6), cued=0.6, slack=HARD, iterations=300)

    def least(s):
        latent = ccnn.latent_distribution(s, labels, single(cues), **options)
        return jnp.sum(ccnn.latent_divergence(s, latent))

    # Of the absent classes the scores count in f alone, so all of them take part.
    check_grads(jax.jit(least), (single(scores),), 1, ["rev"], 2e-2, 2e-2, 1e-2)


def test_no_gradient_passes_through_the_latent_distribution():
    scores, labels, _ = case(8, 1.0)
    pick = single(RNG.normal(size=scores.shape))
    through = jax.grad(lambda s: jnp.sum(pick * ccnn.latent_distribution(s, labels)))
    np.testing.assert_array_equal(through(single(scores)), 0)


def test_bfloat16_scores_are_solved_in_float32():
    scores, labels, _ = case(9, 1.0)
    rough = jnp.asarray(scores, jnp.bfloat16)
    find = functools.partial(latent_distribution, labels=labels)
    np.testing.assert_array_equal(find(rough), find(rough.astype(jnp.float32)))
    assert divergence(rough, find(rough)).dtype == jnp.float32
