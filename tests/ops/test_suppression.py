"""Suppression and voting against Kim et al. 2017, eqs. 1, 2 and 5, in loops over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsol_jax.ops.masks import suppression_mask, vote

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(4, 7, 6, 5)).astype(np.float32)
LABELS = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], np.float32)
single = lambda x: jnp.asarray(x, jnp.float32)


def reference(maps, labels, share):
    """Eq. 1 for each class present, eq. 2 over them; a class that found nothing has no say."""
    mask = np.ones(maps.shape[:3])
    for n, c in np.argwhere(labels > 0):
        one = maps[n, :, :, c].astype(np.float64)
        top = max(one.ravel())
        for place, value in np.ndenumerate(one):
            if top > 0 and value > share * top:
                mask[n][place] = 0
    return mask


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.9])
def test_equals_equations_1_and_2(share):
    found = suppression_mask(single(MAPS), single(LABELS), share)
    expected = reference(MAPS, LABELS, share)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, expected)
    assert all(set(np.unique(one)) == {0, 1} for one in expected[:3])


def test_the_share_is_the_papers_60_percent():
    np.testing.assert_array_equal(
        suppression_mask(single(MAPS), single(LABELS)), reference(MAPS, LABELS, 0.6)
    )


def test_a_pixel_stays_only_where_every_class_present_leaves_it():
    """Eq. 2 is a product: what one class hides, no other brings back."""
    both = reference(MAPS[:1], LABELS[:1], 0.4)
    alone = [reference(MAPS[:1], np.eye(5)[[c]], 0.4) for c in (0, 3)]
    np.testing.assert_array_equal(both, alone[0] * alone[1])
    assert both.sum() < min(one.sum() for one in alone)
    found = suppression_mask(single(MAPS[:1]), single(LABELS[:1]), 0.4)
    np.testing.assert_array_equal(found, both)


def test_a_value_of_exactly_the_share_stays():
    maps = single([4.0, 2.0, np.nextafter(np.float32(2), np.float32(3)), 1.0]).reshape(1, 1, 4, 1)
    found = suppression_mask(maps, jnp.ones((1, 1)), 0.5)
    np.testing.assert_array_equal(found[0, 0], [0, 1, 0, 1])


@pytest.mark.parametrize("share, hidden", [(1e-6, 4), (0.999, 1)])
def test_shares_near_0_and_1(share, hidden):
    """All that is positive, and the peak alone."""
    maps = single([[3.0, 2.99, 0.5, 1e-3, 0.0, -7.0]]).reshape(1, 1, 6, 1)
    found = suppression_mask(maps, jnp.ones((1, 1)), share)
    np.testing.assert_array_equal(found[0, 0], [0] * hidden + [1] * (6 - hidden))


@pytest.mark.parametrize("level", [0.0, -0.0, -1e-3, -5.0])
def test_a_map_without_a_positive_value_hides_nothing(level):
    """Under a negative maximum eq. 1 would hide all but the best: -1 > .6 * -1 is false."""
    maps = single(level - np.abs(MAPS[:1]) * np.array([1, 0, 1, 1, 1]))
    np.testing.assert_array_equal(suppression_mask(maps, jnp.ones((1, 5)), 0.6), 1)


def test_a_class_that_found_nothing_has_no_say_in_the_others():
    maps, labels = MAPS[:1].copy(), np.array([[1, 1, 0, 0, 0]])
    maps[..., 1] = -1 - np.abs(maps[..., 1])
    found = suppression_mask(single(maps), single(labels), 0.5)
    np.testing.assert_array_equal(found, reference(maps, np.eye(5)[[0]], 0.5))


@pytest.mark.parametrize("level, kept", [(2.0, 0.0), (1e-6, 0.0), (0.0, 1.0), (-2.0, 1.0)])
def test_constant_maps(level, kept):
    """Every pixel of a positive one is its maximum, and above 60% of it."""
    found = suppression_mask(jnp.full((2, 3, 4, 1), level), jnp.ones((2, 1)), 0.6)
    np.testing.assert_array_equal(found, kept)


def test_classes_that_the_image_lacks_are_ignored():
    found = suppression_mask(single(MAPS), single(LABELS), 0.4)
    loud = np.where((LABELS > 0)[:, None, None, :], MAPS, 1e6 * np.abs(MAPS))
    np.testing.assert_array_equal(suppression_mask(single(loud), single(LABELS), 0.4), found)


def test_a_padded_row_hides_nothing_and_touches_no_other():
    found = suppression_mask(single(MAPS), single(LABELS), 0.4)
    np.testing.assert_array_equal(found[3], 1)
    rows = [suppression_mask(single(MAPS[[i]]), single(LABELS[[i]]), 0.4)[0] for i in range(4)]
    np.testing.assert_array_equal(found, np.stack(rows))


@pytest.mark.parametrize("dtype", [jnp.bool_, jnp.uint8, jnp.int32])
def test_labels_of_any_kind(dtype):
    found = suppression_mask(single(MAPS), jnp.asarray(LABELS, dtype), 0.4)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, reference(MAPS, LABELS, 0.4))


def test_no_gradient_passes_through_the_mask():
    weights = single(RNG.normal(size=MAPS.shape[:3]))
    total = lambda maps, labels: jnp.sum(weights * suppression_mask(maps, labels, 0.4))
    for gradient in jax.grad(total, (0, 1))(single(MAPS), single(LABELS)):
        np.testing.assert_array_equal(gradient, 0)


def test_maps_and_labels_that_do_not_fit_are_refused():
    for labels in (jnp.ones((3, 5)), jnp.ones((4, 4)), jnp.ones(5)):
        with pytest.raises(AssertionError):
            suppression_mask(single(MAPS), labels)


# ---------------------------------------------------------------- voting


@pytest.mark.parametrize("networks", [1, 2, 3])
def test_vote_equals_equation_5(networks):
    maps = RNG.normal(size=(networks, 2, 4, 3, 5))
    sure = RNG.random((networks, 2, 5))
    expected = np.empty(maps.shape[1:])
    for n, y, x, c in np.ndindex(expected.shape):
        expected[n, y, x, c] = max(sure[k, n, c] * maps[k, n, y, x, c] for k in range(networks))
    found = vote([single(x) for x in maps], [single(p) for p in sure])
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (expected < 0).any() and (expected > 0).any()


def test_a_network_that_is_sure_wins_over_a_higher_map():
    one, two = jnp.full((1, 2, 2, 1), 3.0), jnp.full((1, 2, 2, 1), 5.0)
    found = vote([one, two], [jnp.array([[0.9]]), jnp.array([[0.5]])])
    np.testing.assert_allclose(found, 2.7, rtol=1e-6)


def test_vote_of_half_precision_maps_is_in_single():
    maps = [jnp.asarray(MAPS, jnp.bfloat16), jnp.asarray(-MAPS, jnp.bfloat16)]
    sure = [jnp.full((4, 5), 0.3), jnp.full((4, 5), 0.7)]
    exact = [np.asarray(x, np.float64) for x in maps]
    found = vote(maps, sure)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.maximum(0.3 * exact[0], 0.7 * exact[1]), rtol=1e-6)


def test_votes_that_do_not_fit_are_refused():
    with pytest.raises(AssertionError):
        vote([single(MAPS), single(MAPS[:, :3])], [single(LABELS)] * 2)
    with pytest.raises(ValueError):
        vote([single(MAPS)] * 2, [single(LABELS)])
