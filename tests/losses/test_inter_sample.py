"""CAMs2i's inter-sample criterion against eqs. 8 to 10, pair by pair in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from wsol_jax.losses.inter_sample import (
    inter_sample_loss,
    squared_distances,
    weighted_averages,
    weighted_images,
)

RNG = np.random.default_rng(0)
FOREGROUND, BACKGROUND = RNG.normal(size=(2, 6, 8)) * 2
CLASSES = np.array([3, 0, 3, 0, 1, 3])
VALID = np.ones(6, bool)
single = lambda x: jnp.asarray(x, jnp.float32)


def by_hand(f, b, classes, valid):
    """Eqs. 9 and 10 as they stand, c the dimension; the mean over pairs, and how many."""
    c, total, pairs = f.shape[1], 0.0, 0
    distance = lambda x, y: sum((u - v) ** 2 for u, v in zip(x, y, strict=True))
    for y in set(classes.tolist()):
        members = [i for i in range(len(f)) if classes[i] == y and valid[i]]
        for i in members:
            for j in members:
                if j > i:
                    plus = (distance(f[i], f[j]) + distance(b[i], b[j])) / (2 * c)
                    minus = (distance(f[i], b[i]) + distance(f[j], b[j])) / (2 * c)
                    total -= math.log(1 / (1 + math.exp(plus - minus)))
                    pairs += 1
    return total / max(pairs, 1), pairs


@pytest.mark.parametrize(
    "classes", [CLASSES, np.zeros(6, int), np.array([0, 1, 2, 3, 4, 4])], ids=str
)
@pytest.mark.parametrize("valid", [VALID, np.array([1, 0, 1, 1, 1, 1], bool)], ids=str)
def test_equals_eqs_9_and_10(classes, valid):
    found, pairs = inter_sample_loss(single(FOREGROUND), single(BACKGROUND), classes, valid)
    expected, count = by_hand(FOREGROUND, BACKGROUND, classes, valid)
    assert found.dtype == pairs.dtype == jnp.float32 and found.shape == pairs.shape == ()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert pairs == count > 0


def test_a_batch_is_as_good_as_its_order():
    found, _ = inter_sample_loss(single(FOREGROUND), single(BACKGROUND), CLASSES, VALID)
    order = RNG.permutation(6)
    shuffled, _ = inter_sample_loss(
        single(FOREGROUND[order]), single(BACKGROUND[order]), CLASSES[order], VALID
    )
    np.testing.assert_allclose(found, shuffled, rtol=1e-6)


def test_distances():
    x = RNG.normal(size=(5, 7))
    expected = ((x[:, None] - x[None]) ** 2).sum(-1)
    found = squared_distances(single(x))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert (found >= 0).all()


def test_gradients():
    total = lambda f, b: inter_sample_loss(f, b, CLASSES, VALID)[0]
    arguments = (single(FOREGROUND), single(BACKGROUND))
    check_grads(total, arguments, 1, ["rev"], 2e-2, 2e-2, 1e-2)


def numbers(f, b, classes, valid):
    value = lambda f, b: inter_sample_loss(f, b, jnp.asarray(classes), jnp.asarray(valid))[0]
    return jax.value_and_grad(value, (0, 1))(single(f), single(b))


@pytest.mark.parametrize(
    "classes, valid",
    [
        (np.arange(6), VALID),  # one image a class
        (CLASSES, np.array([1, 1, 0, 0, 1, 0], bool)),  # no second valid image of any class
        (CLASSES, np.zeros(6, bool)),
    ],
    ids=["one a class", "partners invalid", "none valid"],
)
def test_a_batch_without_a_pair_gives_nothing(classes, valid):
    value, gradients = numbers(FOREGROUND, BACKGROUND, classes, valid)
    assert value == 0
    assert not any(x.any() for x in gradients)


def test_a_single_image():
    value, gradients = numbers(FOREGROUND[:1], BACKGROUND[:1], CLASSES[:1], VALID[:1])
    assert value == 0 and not any(x.any() for x in gradients)


@pytest.mark.parametrize("level", [0.0, 7.0])
def test_equal_features_are_undecided(level):
    """Constant maps, black images: every distance is 0, log p is log 1/2, and nothing is NaN."""
    same = np.full((6, 8), level)
    value, gradients = numbers(same, same, CLASSES, VALID)
    np.testing.assert_allclose(value, math.log(2), rtol=1e-6)
    assert all(np.isfinite(x).all() for x in gradients)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_invalid_rows_may_hold_anything(bad):
    valid = np.array([1, 1, 1, 1, 1, 0], bool)
    f, b = FOREGROUND.copy(), BACKGROUND.copy()
    f[5], b[5] = bad, bad
    value, gradients = numbers(f, b, CLASSES, valid)
    expected, _ = by_hand(FOREGROUND, BACKGROUND, CLASSES, valid)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert all(np.isfinite(x).all() and not x[5].any() for x in gradients)


def test_far_features_stay_finite():
    value, gradients = numbers(FOREGROUND * 1e4, BACKGROUND * 1e4, CLASSES, VALID)
    assert np.isfinite(value) and all(np.isfinite(x).all() for x in gradients)


def test_images_are_seen_through_their_maps():
    """Eq. 8: sigma(S) (x) I, pixel by pixel, the map stretched to the image."""
    images = RNG.integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    weights = RNG.random((2, 4, 6))
    found = weighted_images(jnp.asarray(images), single(weights))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, images * weights[..., None], rtol=1e-6)
    # A map of two cells: half-pixel centres, so the outer quarters are the cells themselves.
    row = weighted_images(jnp.ones((1, 1, 8, 3)), jnp.array([[[0.0, 1.0]]]))[0, 0, :, 0]
    np.testing.assert_allclose(row, [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1], atol=1e-6)


def test_gradients_reach_the_map():
    images = single(RNG.random((1, 6, 6, 3)))
    total = lambda w: jnp.sum(weighted_images(images, w) ** 2)
    check_grads(total, (single(RNG.random((1, 3, 3))),), 1, ["rev"], 2e-2, 2e-2, 1e-2)


def test_features_are_averaged_by_their_maps():
    """Cell by cell in float64; a map of twice the cells counts by the means of four."""
    features, weights = RNG.normal(size=(2, 3, 4, 5)), RNG.random((2, 3, 6, 8))
    found = weighted_averages(single(features), single(weights))
    assert found.shape == (2, 3, 5) and found.dtype == jnp.float32
    for b, t in np.ndindex(2, 3):
        cells = weights[b, t].reshape(3, 2, 4, 2).mean(axis=(1, 3))
        total = sum(cells[i, j] * features[b, i, j] for i, j in np.ndindex(3, 4))
        np.testing.assert_allclose(found[b, t], total / cells.sum(), rtol=1e-5)
    total = lambda w: jnp.sum(weighted_averages(single(features), w) ** 2)
    check_grads(total, (single(weights),), 1, ["rev"], 2e-2, 2e-2, 1e-2)


@pytest.mark.parametrize("level", [0.0, 1e-30])
def test_a_map_of_nothing_averages_to_nothing(level):
    features, weights = single(RNG.normal(size=(1, 2, 2, 3))), jnp.full((1, 1, 2, 2), level)
    total = lambda w: jnp.sum(weighted_averages(features, w))
    value, gradient = jax.value_and_grad(total)(weights)
    assert value == 0 and not gradient.any()
