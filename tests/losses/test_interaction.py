"""CAMs2i's intra-sample losses against eqs. 3 to 7 of the paper, pixel by pixel in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from wsol_jax.losses.interaction import (
    agreement_loss,
    interaction_loss,
    interaction_mask,
    linear_ramp,
)

RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.random((2, 3, 5, 6))
Y1, Y2 = RNG.normal(size=(2, 3, 4)) * 3
single = lambda x: jnp.asarray(x, jnp.float32)


def mask_by_hand(maps):
    """Eq. 3."""
    out = np.zeros(maps.shape)
    for n, s in enumerate(maps):
        pixels = list(np.ndindex(s.shape))
        mu0 = sum(s[p] for p in pixels) / len(pixels)
        mask = {p: abs(s[p] - mu0) for p in pixels}
        mu1 = sum(mask.values()) / len(pixels)
        for p in pixels:
            out[n][p] = (-1) ** (mu1 > mask[p]) * mask[p]
    return out


def interaction_by_hand(first, second, explore=1.0):
    """Eq. 4; ``explore`` scales the mask where eq. 3 made it negative."""
    mask = mask_by_hand(second)
    mask[mask < 0] *= explore
    return np.array(
        [
            sum((first[n][p] - second[n][p]) ** 2 * mask[n][p] for p in np.ndindex(mask[n].shape))
            for n in range(len(mask))
        ]
    )


def agreement_by_hand(y1, y2):
    """Eq. 6."""
    p, q = (np.exp(y) / np.exp(y).sum(axis=1, keepdims=True) for y in (y1, y2))
    return ((p - q) ** 2).sum(axis=1)


def test_mask_equals_eq_3():
    found = interaction_mask(single(SECOND))
    expected = mask_by_hand(SECOND)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (expected > 0).any() and (expected < 0).any()


def test_the_signs_are_the_two_thresholds_of_eq_5():
    """mask > 0 exactly where S2 is above xi1 = mu0 + mu1 or below xi2 = mu0 - mu1."""
    mu0 = SECOND.mean(axis=(1, 2), keepdims=True)
    mu1 = np.abs(SECOND - mu0).mean(axis=(1, 2), keepdims=True)
    outside = (mu0 + mu1 <= SECOND) | (mu0 - mu1 >= SECOND)
    np.testing.assert_array_equal(interaction_mask(single(SECOND)) > 0, outside)


def test_interaction_equals_eq_4():
    found = interaction_loss(single(FIRST), single(SECOND))
    assert found.shape == (3,) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, interaction_by_hand(FIRST, SECOND), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("explore", [0.0, 0.25])
def test_uncertain_pixels_count_as_much_as_they_should(explore):
    found = interaction_loss(single(FIRST), single(SECOND), explore=explore)
    expected = interaction_by_hand(FIRST, SECOND, explore)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda x: jnp.sum(interaction_loss(x, single(SECOND), explore=explore)))
    uncertain = mask_by_hand(SECOND) < 0
    assert uncertain.any() and bool(np.any(gradient(single(FIRST))[uncertain])) == (explore > 0)


def test_agreement_equals_eq_6():
    found = agreement_loss(single(Y1), single(Y2))
    assert found.shape == (3,) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, agreement_by_hand(Y1, Y2), rtol=1e-5)
    assert (found <= 2).all()


def test_interaction_gradients():
    loss, one, other = interaction_loss, FIRST, SECOND
    to_first = lambda x: jnp.sum(loss(x, single(other)))
    check_grads(to_first, (single(one),), 1, ["rev"], 2e-2, 2e-2, 1e-2)
    # 2 (S1 - S2) mask.
    expected = 2 * (one - other) * mask_by_hand(other)
    np.testing.assert_allclose(jax.grad(to_first)(single(one)), expected, atol=1e-5)
    # Small steps: the mask's sign jumps where a pixel crosses mu1.
    both = lambda x, y: jnp.sum(loss(x, y, stop_gradient=False))
    check_grads(both, (single(one), single(other)), 1, ["rev"], 3e-2, 3e-2, 2e-4)


def test_agreement_gradients():
    both = lambda x, y: jnp.sum(agreement_loss(x, y, stop_gradient=False))
    check_grads(both, (single(Y1), single(Y2)), 1, ["rev"], 2e-2, 2e-2, 1e-2)


def test_what_teaches_gets_no_gradient():
    """S2 teaches S1, y1 teaches y2; the switch lets it flow both ways."""
    total = lambda stop: lambda x, y: jnp.sum(interaction_loss(x, y, stop_gradient=stop))
    first, second = jax.grad(total(True), (0, 1))(single(FIRST), single(SECOND))
    assert np.abs(first).max() > 0 and not second.any()
    assert jax.grad(total(False), 1)(single(FIRST), single(SECOND)).any()
    total = lambda stop: lambda x, y: jnp.sum(agreement_loss(x, y, stop_gradient=stop))
    y1, y2 = jax.grad(total(True), (0, 1))(single(Y1), single(Y2))
    assert np.abs(y2).max() > 0 and not y1.any()
    assert jax.grad(total(False), 0)(single(Y1), single(Y2)).any()


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_constant_map_teaches_nothing(level, stop):
    second = jnp.full((1, 4, 4), level)
    total = lambda x, y: jnp.sum(interaction_loss(x, y, stop_gradient=stop))
    value, gradients = jax.value_and_grad(total, (0, 1))(single(FIRST[:1, :4, :4]), second)
    assert value == 0 and not interaction_mask(second).any()
    assert all(np.isfinite(x).all() for x in gradients)
    assert not gradients[0].any()


def test_extreme_logits_stay_finite():
    y = jnp.array([[1e30, -1e30, 0.0]])
    value, gradient = jax.value_and_grad(lambda x: agreement_loss(y, x)[0])(-y)
    assert value == 2 and np.isfinite(gradient).all()


def test_ramp_is_linear_from_0_to_1():
    found = [float(linear_ramp(jnp.asarray(step), 4)) for step in (0, 1, 2, 4, 9)]
    assert found == [0, 0.25, 0.5, 1, 1]
    assert linear_ramp(jnp.asarray(0), 0) == 1
    # Before its start the ramp has not begun, however short it is.
    assert linear_ramp(jnp.asarray(-3), 4) == linear_ramp(jnp.asarray(-1), 0) == 0
    assert np.isfinite(linear_ramp(jnp.asarray(2**30), 10))


def test_shapes_that_differ_are_refused():
    with pytest.raises(AssertionError):
        interaction_loss(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 3)))
    with pytest.raises(AssertionError):
        agreement_loss(jnp.zeros((1, 2)), jnp.zeros((1, 3)))
