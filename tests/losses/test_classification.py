"""Cross-entropy in float64, and the masked mean under padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from wsol_jax.losses.classification import masked_mean, sigmoid_cross_entropy, softmax_cross_entropy

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


# ---------------------------------------------------------------- each class by itself


def logistic(logits, labels):
    """-sum_c y log p + (1 - y) log(1 - p), p = 1 / (1 + exp(-x)); log p as -log(1 + exp(-x))."""
    log_p, log_q = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
    return np.array(
        [
            -sum(a if present else b for a, b, present in zip(p, q, y, strict=True))
            for p, q, y in zip(log_p, log_q, labels, strict=True)
        ]
    )


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_sigmoid_equals_the_definition(scale):
    logits = RNG.normal(size=(4, 4)) * scale
    found = sigmoid_cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(LABELS))
    assert found.shape == (4,) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, logistic(logits, LABELS), rtol=1e-5, atol=1e-6)


def test_sigmoid_sums_over_the_classes():
    """Caffe's SigmoidCrossEntropyLoss: a sum over classes, a mean over images (the caller's)."""
    found = sigmoid_cross_entropy(jnp.zeros((1, 20)), jnp.zeros((1, 20)))
    np.testing.assert_allclose(found, 20 * np.log(2), rtol=1e-6)


def test_sigmoid_of_an_image_without_any_class_still_learns():
    """No row of padding: none of the classes is there, and the network is told so."""
    logits = np.array([[2.0, -1.0, 0.5, 0.0]])
    labels = np.zeros((1, 4))
    loss = lambda x: sigmoid_cross_entropy(x, jnp.asarray(labels, jnp.float32))[0]
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(value, logistic(logits, labels)[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_sigmoid_takes_any_kind_of_labels_and_gives_float32():
    logits = jnp.asarray(RNG.normal(size=(4, 4)), jnp.bfloat16)
    expected = logistic(np.asarray(logits, np.float64), LABELS)
    for dtype in (jnp.bool_, jnp.uint8, jnp.int32):
        found = sigmoid_cross_entropy(logits, jnp.asarray(LABELS, dtype))
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_sigmoid_gradients():
    logits = jnp.asarray(RNG.normal(size=(4, 4)), jnp.float32)
    total = lambda x: jnp.sum(sigmoid_cross_entropy(x, jnp.asarray(LABELS)))
    check_grads(total, (logits,), 1, ["rev"], 2e-2, 2e-2, 1e-2)
    np.testing.assert_allclose(jax.grad(total)(logits), jax.nn.sigmoid(logits) - LABELS, atol=1e-6)


@pytest.mark.parametrize("size", [100.0, 1e4, 1e30])
def test_extreme_logits_stay_finite_under_the_sigmoid(size):
    logits = jnp.array([[size, -size, 0.0], [size, -size, 0.0]])
    labels = jnp.array([[1.0, 0, 0], [0, 1, 1]])  # as sure as can be: right, and wrong
    value, gradient = jax.vmap(
        jax.value_and_grad(lambda x, y: sigmoid_cross_entropy(x[None], y[None])[0])
    )(logits, labels)
    np.testing.assert_allclose(value, [np.log(2), 2 * size + np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0, 0.5], [1, -1, -0.5]], atol=1e-6)


def test_sigmoid_refuses_shapes_that_differ():
    with pytest.raises(AssertionError):
        sigmoid_cross_entropy(jnp.zeros((2, 3)), jnp.zeros((2, 4)))


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
