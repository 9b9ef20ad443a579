"""Seed masks against SPG's eq. 1 and its released code's rules, pixel by pixel in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsol_jax.ops.seeds import BACKGROUND, FOREGROUND, UNLABELLED, deviation_mask, seed_mask

PAIRS = [(0.5, 0.05), (0.7, 0.1), (0.7, 0.05)]


def reference(maps, high, low, min_foreground=30, fallback=0.7):
    """Written from the paper's eq. 1 and facts: a loop over pixels."""
    mask = np.empty(maps.shape, np.uint8)
    for one, out in zip(maps.astype(np.float32), mask, strict=True):
        threshold = np.float32(high)
        if sum(1 for v in one.ravel() if v > threshold) < min_foreground:
            threshold = np.float32(np.float32(fallback) * one.max())
        for place, value in np.ndenumerate(one):
            out[place] = UNLABELLED
            if value > threshold:
                out[place] = FOREGROUND
            if value < np.float32(low):  # last
                out[place] = BACKGROUND
    return mask


def test_values_are_the_papers():
    assert (BACKGROUND, FOREGROUND, UNLABELLED) == (0, 1, 255)


@pytest.mark.parametrize("high, low", PAIRS)
def test_equals_equation_1(high, low):
    rng = np.random.default_rng(1)
    # Powers make maps with many and with few pixels above ``high``.
    maps = rng.random((4, 12, 11)) ** np.array([0.5, 1, 4, 12])[:, None, None]
    found = seed_mask(jnp.asarray(maps, jnp.float32), high=high, low=low)
    assert found.dtype == jnp.uint8
    np.testing.assert_array_equal(found, reference(maps, high, low))
    assert {0, 1, 255} == set(np.unique(found))


def test_thresholds_are_strict():
    """eq. 1: O > high, O < low; equality is ignored."""
    maps = jnp.array([[[0.25, 0.75, 0.5, 0.2, 0.8]]])
    found = seed_mask(maps, high=0.75, low=0.25, min_foreground=0)
    np.testing.assert_array_equal(found[0, 0], [255, 255, 255, 0, 1])


@pytest.mark.parametrize("pixels, falls_back", [(29, True), (30, False)])
def test_fewer_than_30_pixels_lower_the_threshold(pixels, falls_back):
    maps = np.full((1, 10, 10), 0.66, np.float32)  # above .7 * .9, under .7
    maps.reshape(-1)[:pixels] = 0.9
    found = np.asarray(seed_mask(jnp.asarray(maps), high=0.7, low=0.05))
    assert np.count_nonzero(found == FOREGROUND) == (100 if falls_back else pixels)


def test_the_rule_is_for_that_image_alone():
    maps = np.full((2, 10, 10), 0.66, np.float32)
    maps[0, :5], maps[1, 0, 0] = 0.9, 0.9
    found = np.asarray(seed_mask(jnp.asarray(maps), high=0.7, low=0.05))
    assert [np.count_nonzero(m == FOREGROUND) for m in found] == [50, 100]
    alone = [seed_mask(jnp.asarray(maps[i : i + 1]), high=0.7, low=0.05)[0] for i in (0, 1)]
    np.testing.assert_array_equal(found, np.stack(alone))


def test_background_is_written_last():
    """A peak of .04 puts the fallback at .028, under low: those pixels are dark all the same."""
    maps = jnp.full((1, 8, 8), 0.03).at[0, 0, 0].set(0.04)
    found = seed_mask(maps, high=0.7, low=0.05)
    np.testing.assert_array_equal(found, BACKGROUND)


def test_the_rule_can_be_switched_off():
    maps = jnp.full((1, 4, 4), 0.6)
    assert FOREGROUND not in np.asarray(seed_mask(maps, high=0.7, low=0.1, min_foreground=0))


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 1.0])
def test_constant_maps_give_the_equations_answer(value):
    maps = np.full((1, 7, 7), value, np.float32)
    found = seed_mask(jnp.asarray(maps), high=0.5, low=0.05)
    np.testing.assert_array_equal(found, reference(maps, 0.5, 0.05))


def test_nan_is_ignored_and_never_an_object():
    maps = jnp.full((1, 8, 8), 0.9).at[0, 0, 0].set(jnp.nan)
    found = np.asarray(seed_mask(maps, high=0.5, low=0.05))
    assert found[0, 0, 0] == UNLABELLED


def test_bfloat16_maps_are_compared_in_float32():
    maps = jnp.asarray(np.random.default_rng(2).random((1, 16, 16)), jnp.bfloat16)
    expected = reference(np.asarray(maps, np.float32), 0.7, 0.1)
    np.testing.assert_array_equal(seed_mask(maps, high=0.7, low=0.1), expected)


def test_no_gradient_passes():
    def use(maps):
        mask = seed_mask(maps, high=0.5, low=0.1)
        return jnp.sum(jnp.where(mask == FOREGROUND, 1.0, 0.5))

    maps = jnp.asarray(np.random.default_rng(3).random((1, 8, 8)), jnp.float32)
    np.testing.assert_array_equal(jax.grad(use)(maps), 0)


@pytest.mark.parametrize("high, low", [(0.1, 0.5), (0.5, 0.5), (1.1, 0.1), (0.5, -0.1)])
def test_thresholds_out_of_order_are_refused(high, low):
    with pytest.raises(ValueError, match="thresholds"):
        seed_mask(jnp.zeros((1, 2, 2)), high=high, low=low)


def test_deviation_mask_equals_cams2is_equations_3_and_5():
    maps = np.random.default_rng(2).normal(size=(3, 7, 6)) * 4
    expected = np.full(maps.shape, UNLABELLED)
    for one, out in zip(maps, expected, strict=True):
        mu0 = one.sum() / one.size
        mu1 = sum(abs(value - mu0) for value in one.ravel()) / one.size
        for place, value in np.ndenumerate(one):
            if value >= mu0 + mu1:  # xi1
                out[place] = FOREGROUND
            if value <= mu0 - mu1:  # xi2
                out[place] = BACKGROUND
    found = deviation_mask(jnp.asarray(maps, jnp.float32))
    assert found.dtype == jnp.uint8
    np.testing.assert_array_equal(found, expected)


def test_a_constant_map_deviates_nowhere():
    assert (deviation_mask(jnp.full((2, 4, 4), 3.0)) == UNLABELLED).all()
