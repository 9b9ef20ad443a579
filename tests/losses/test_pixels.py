"""SPG's pixel loss against section 3.2's sum over labelled pixels, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from wsol_jax.losses.pixels import masked_binary_cross_entropy

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 5, 6)) * 3
MASK = RNG.choice([0, 1, 255], size=(3, 5, 6)).astype(np.uint8)


def reference(logits, mask):
    p = 1 / (1 + np.exp(-logits))
    sums, counts = np.zeros(len(mask)), np.zeros(len(mask))
    for (b, i, j), m in np.ndenumerate(mask):
        if m != 255:
            sums[b] -= np.log(p[b, i, j] if m == 1 else 1 - p[b, i, j])
            counts[b] += 1
    return sums, counts


def test_equals_the_definition():
    found = masked_binary_cross_entropy(jnp.asarray(LOGITS, jnp.float32), jnp.asarray(MASK))
    for got, expected in zip(found, reference(LOGITS, MASK), strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_bfloat16_logits_are_summed_in_float32():
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    sums, counts = masked_binary_cross_entropy(logits, jnp.asarray(MASK))
    expected = reference(np.asarray(logits, np.float64), MASK)
    assert sums.dtype == counts.dtype == jnp.float32
    np.testing.assert_allclose(sums, expected[0], rtol=1e-5)


def test_an_empty_mask_gives_nothing_and_no_gradient():
    mask = jnp.full((3, 5, 6), 255, jnp.uint8)
    sums, counts = masked_binary_cross_entropy(jnp.asarray(LOGITS, jnp.float32), mask)
    np.testing.assert_array_equal(sums, 0)
    np.testing.assert_array_equal(counts, 0)

    def mean(x):
        sums, counts = masked_binary_cross_entropy(x, mask)
        return jnp.sum(sums) / jnp.maximum(jnp.sum(counts), 1.0)

    np.testing.assert_array_equal(jax.grad(mean)(jnp.asarray(LOGITS, jnp.float32)), 0)


def test_gradients_of_labelled_pixels_alone():
    mask = jnp.asarray(MASK)
    total = lambda x: jnp.sum(masked_binary_cross_entropy(x, mask)[0])
    logits = jnp.asarray(LOGITS, jnp.float32)
    check_grads(total, (logits,), 1, ["rev"], 2e-2, 2e-2, 1e-2)
    expected = np.where(MASK == 255, 0, 1 / (1 + np.exp(-LOGITS)) - (MASK == 1))
    np.testing.assert_allclose(jax.grad(total)(logits), expected, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_ignored_pixels_may_hold_anything(bad):
    logits = jnp.asarray(np.where(MASK == 255, bad, LOGITS), jnp.float32)
    sums, _ = masked_binary_cross_entropy(logits, jnp.asarray(MASK))
    np.testing.assert_allclose(sums, reference(LOGITS, MASK)[0], rtol=1e-5)


def test_saturated_logits_stay_finite():
    logits = jnp.array([[[1e4, -1e4]]])
    mask = jnp.array([[[0, 1]]], jnp.uint8)
    total = lambda x: jnp.sum(masked_binary_cross_entropy(x, mask)[0])
    value, gradient = jax.value_and_grad(total)(logits)
    np.testing.assert_allclose(value, 2e4)
    np.testing.assert_allclose(gradient, [[[1, -1]]])
