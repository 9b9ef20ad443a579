"""Cross-entropy in float64, and the masked mean under padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from wsol_jax.losses.classification import masked_mean, softmax_cross_entropy

RNG = np.random.default_rng(0)


def reference(logits, labels):
    logits = logits - logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    counts = labels.sum(axis=1)
    return np.array(
        [-(lp * y).sum() / n if n else 0.0 for lp, y, n in zip(log_p, labels, counts, strict=True)]
    )


LABELS = np.array([[0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], np.float32)


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_equals_the_definition(scale):
    logits = RNG.normal(size=(4, 4)) * scale
    found = softmax_cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(LABELS))
    np.testing.assert_allclose(found, reference(logits, LABELS), rtol=1e-5, atol=1e-6)
    assert found[2] == 0


def test_takes_any_kind_of_labels_and_gives_float32():
    logits = jnp.asarray(RNG.normal(size=(4, 4)), jnp.bfloat16)
    expected = reference(np.asarray(logits, np.float64), LABELS)
    for dtype in (jnp.bool_, jnp.uint8, jnp.int32):
        found = softmax_cross_entropy(logits, jnp.asarray(LABELS, dtype))
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradients():
    logits = jnp.asarray(RNG.normal(size=(4, 4)), jnp.float32)
    labels = jnp.asarray(LABELS)
    total = lambda x: jnp.sum(softmax_cross_entropy(x, labels))
    check_grads(total, (logits,), 1, ["rev"], 2e-2, 2e-2, 1e-2)
    # Of one label: softmax - onehot; of none: nothing.
    gradient = jax.grad(total)(logits)
    np.testing.assert_allclose(gradient[0], jax.nn.softmax(logits[0]) - LABELS[0], atol=1e-6)
    np.testing.assert_array_equal(gradient[2], 0)


def test_extreme_logits_stay_finite():
    logits = jnp.array([[1e30, -1e30, 0.0, 0.0]])
    labels = jnp.array([[1.0, 0, 0, 0]])
    assert softmax_cross_entropy(logits, labels)[0] == 0
    gradient = jax.grad(lambda x: softmax_cross_entropy(x, labels)[0])(logits)
    assert np.isfinite(gradient).all()


def test_shapes_that_differ_are_refused():
    with pytest.raises(AssertionError):
        softmax_cross_entropy(jnp.zeros((2, 3)), jnp.zeros((2, 4)))


@pytest.mark.parametrize("dtype", [jnp.bool_, jnp.float32])
def test_masked_mean(dtype):
    values = jnp.array([1.0, 2.0, 4.0])
    assert masked_mean(values, jnp.asarray([1, 0, 1], dtype)) == 2.5
    assert masked_mean(values, jnp.zeros(3, dtype)) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_masked_mean_never_sees_a_padded_value(bad):
    valid = jnp.array([True, False])
    value, gradient = jax.value_and_grad(masked_mean)(jnp.array([3.0, bad]), valid)
    assert value == 3
    np.testing.assert_array_equal(gradient, [1, 0])
