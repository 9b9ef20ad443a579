"""MCOF's loss on masks (eq. 3) against its sum over labelled pixels, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from wsol_jax.losses.pixels import labelled_cross_entropy

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(3, 4, 5, 6)) * 3
CLASSES = RNG.choice([0, 1, 3, 5, 255], size=(3, 4, 5)).astype(np.uint8)
CLASSES[1] = 255


def reference(scores, classes):
    sums, counts = np.zeros(len(scores)), np.zeros(len(scores))
    for place, c in np.ndenumerate(classes):
        if c != 255:
            own = scores[place]
            sums[place[0]] -= own[c] - np.log(np.exp(own - own.max()).sum()) - own.max()
            counts[place[0]] += 1
    return sums, counts


def test_equals_the_definition():
    found = labelled_cross_entropy(jnp.asarray(SCORES, jnp.float32), jnp.asarray(CLASSES))
    for got, expected in zip(found, reference(SCORES, CLASSES), strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert found[0][1] == found[1][1] == 0


def test_bfloat16_scores_are_summed_in_float32():
    scores = jnp.asarray(SCORES, jnp.bfloat16)
    sums, counts = labelled_cross_entropy(scores, jnp.asarray(CLASSES))
    expected = reference(np.asarray(scores, np.float64), CLASSES)
    assert sums.dtype == counts.dtype == jnp.float32
    np.testing.assert_allclose(sums, expected[0], rtol=1e-5)
    np.testing.assert_array_equal(counts, expected[1])


def test_gradients_of_labelled_pixels_alone():
    classes, scores = jnp.asarray(CLASSES), jnp.asarray(SCORES, jnp.float32)
    total = lambda x: jnp.sum(labelled_cross_entropy(x, classes)[0])
    check_grads(total, (scores,), 1, ["rev"], 2e-2, 2e-2, 1e-2)
    shares = np.exp(SCORES) / np.exp(SCORES).sum(axis=-1, keepdims=True)
    expected = shares - np.eye(256)[CLASSES][..., :6]
    expected[CLASSES == 255] = 0
    np.testing.assert_allclose(jax.grad(total)(scores), expected, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_without_a_label_may_hold_anything(bad):
    scores = np.where((CLASSES == 255)[..., None], bad, SCORES)
    sums, _ = labelled_cross_entropy(jnp.asarray(scores, jnp.float32), jnp.asarray(CLASSES))
    np.testing.assert_allclose(sums, reference(SCORES, CLASSES)[0], rtol=1e-5)


def test_no_label_at_all_and_scores_that_are_sure():
    nothing = jnp.full((3, 4, 5), 255, jnp.uint8)
    mean = lambda x: jnp.sum(labelled_cross_entropy(x, nothing)[0])
    np.testing.assert_array_equal(jax.grad(mean)(jnp.asarray(SCORES, jnp.float32)), 0)
    sure = jnp.array([[[[1e4, -1e4], [1e4, -1e4]]]])
    sums, counts = labelled_cross_entropy(sure, jnp.array([[[1, 0]]]))
    np.testing.assert_allclose((sums[0], counts[0]), (2e4, 2))
