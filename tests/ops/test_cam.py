"""Class maps against Zhou 2016's equations, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from wsol_jax.ops import cam

RNG = np.random.default_rng(0)


def test_class_logits_is_the_mean_of_each_map():
    maps = RNG.normal(size=(3, 5, 4, 7))
    expected = maps.sum(axis=(1, 2)) / 20
    np.testing.assert_allclose(cam.class_logits(jnp.asarray(maps)), expected, rtol=1e-5, atol=1e-6)


def test_class_logits_of_a_linear_classifier_equal_pooling_first():
    """Zhou 2016, section 2: sum_k w_k mean(f_k) = mean(sum_k w_k f_k)."""
    features, weights = RNG.normal(size=(2, 6, 6, 5)), RNG.normal(size=(5, 3))
    expected = features.mean(axis=(1, 2)) @ weights
    found = cam.class_logits(jnp.asarray(features @ weights))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_class_logits_accumulate_in_float32():
    """A bfloat16 sum stops growing at 256, whatever is added to it."""
    maps = jnp.full((1, 64, 64, 1), 1.0078125, jnp.bfloat16)
    logits = cam.class_logits(maps)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, 1.0078125, rtol=1e-6)


def test_select_map_takes_each_images_own_class():
    maps = RNG.normal(size=(4, 3, 2, 5)).astype(np.float32)
    labels = np.array([4, 0, 2, 2])
    found = cam.select_map(jnp.asarray(maps), jnp.asarray(labels))
    np.testing.assert_array_equal(found, np.stack([maps[i, :, :, c] for i, c in enumerate(labels)]))


def test_min_max_scales_each_map_by_itself():
    maps = RNG.normal(size=(3, 6, 5)) * np.array([1e-3, 1.0, 1e4])[:, None, None]
    low = maps.min(axis=(1, 2), keepdims=True)
    expected = (maps - low) / (maps.max(axis=(1, 2), keepdims=True) - low)
    found = np.asarray(cam.min_max(jnp.asarray(maps, jnp.float32)))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert found.min() == 0 and found.max() == 1


@pytest.mark.parametrize("value", [0.0, -3.5, 1e30])
def test_min_max_of_a_constant_map_is_zero_with_zero_gradient(value):
    maps = jnp.full((2, 4, 4), value)
    assert not np.asarray(cam.min_max(maps)).any()
    gradient = jax.grad(lambda x: jnp.sum(cam.min_max(x) ** 2))(maps)
    np.testing.assert_array_equal(gradient, 0)


def test_min_max_of_bfloat16_is_float32():
    maps = jnp.asarray(RNG.normal(size=(1, 4, 4)), jnp.bfloat16)
    assert cam.min_max(maps).dtype == jnp.float32


def test_min_max_gradient_is_the_derivative():
    maps = jnp.asarray(RNG.permutation(12).reshape(1, 3, 4), jnp.float32)
    weights = jnp.asarray(RNG.normal(size=(1, 3, 4)), jnp.float32)
    check_grads(lambda x: jnp.sum(weights * cam.min_max(x)), (maps,), 1, ["rev"], 1e-2, 1e-2, 1e-1)


def test_min_max_of_all_classes_maps_takes_each_by_itself():
    maps = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 5)), jnp.float32)
    expected = jnp.stack([cam.min_max(maps[..., c]) for c in range(5)], axis=-1)
    np.testing.assert_array_equal(cam.min_max(maps), expected)


def test_wrong_ranks_are_refused():
    with pytest.raises(AssertionError):
        cam.class_logits(jnp.zeros((2, 3, 4)))
    with pytest.raises(AssertionError):
        cam.min_max(jnp.zeros((2, 3)))
    with pytest.raises(AssertionError):
        cam.select_map(jnp.zeros((2, 3, 4, 5)), jnp.zeros((2, 5), jnp.int32))


def test_against_mean_is_its_formula_and_scale_free():
    maps = np.abs(np.random.default_rng(3).normal(size=(3, 5, 4)))
    mean = maps.mean((1, 2), keepdims=True)
    found = cam.against_mean(jnp.asarray(maps, jnp.float32))
    np.testing.assert_allclose(found, maps / (maps + mean), rtol=1e-6)
    scaled = cam.against_mean(jnp.asarray(7 * maps, jnp.float32))
    np.testing.assert_allclose(scaled, found, rtol=1e-6)
    np.testing.assert_array_equal(cam.against_mean(jnp.zeros((1, 3, 3))), 0)
