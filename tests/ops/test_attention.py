"""Masks of class maps and foreground against references in float64, and images without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import by_hand as reference
from helpers.compiling import quick

from wsol_jax.ops import attention

RNG = np.random.default_rng(0)
MAPS = [RNG.normal(size=(4, 5, 5, 3)) for _ in range(3)]
RESPONSES = [RNG.gamma(1.0, size=(4, n, n)) for n in (9, 5, 6)]
LABELS = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]], np.float32)
CONFIDENCE = np.array([[0.9, 0.2, 0.0], [0.05, 0.1, 0.0999], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
SIZE = (9, 9)

fuse_class_maps = quick(attention.fuse_class_maps)
fuse_foreground = quick(attention.fuse_foreground, static_argnums=1)
mask_probabilities = quick(attention.mask_probabilities)
weigh_classes = quick(attention.weigh_classes)
zero_unlikely = quick(attention.zero_unlikely)


def single(x):
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), x)


def masks(maps, labels, responses):
    """All of it: raw maps and responses -> probabilities of a mask."""
    foreground = attention.fuse_foreground(responses, SIZE)
    return attention.mask_probabilities(attention.fuse_class_maps(maps, labels), foreground)


quick_masks = quick(masks)

# ---------------------------------------------------------------- values


@pytest.mark.parametrize("networks", [1, 2, 3])
def test_class_maps_are_added_then_scaled(networks):
    found = fuse_class_maps(single(MAPS[:networks]), single(LABELS))
    assert found.dtype == jnp.float32 and found.shape == MAPS[0].shape
    np.testing.assert_allclose(found, reference.fused_maps(MAPS[:networks], LABELS), atol=2e-6)
    shown = np.asarray(found)[LABELS[:, None, None] * np.ones(MAPS[0].shape) > 0]
    assert shown.min() == 0 and shown.max() == pytest.approx(1, rel=1e-6)


def test_scaled_sums_are_not_sums_of_scaled_maps():
    """A network of larger maps has more of a say: the reference tells the two orders apart."""
    large = [MAPS[0], 10 * MAPS[1]]
    found = fuse_class_maps(single(large), single(np.ones((4, 3))))
    np.testing.assert_allclose(found, reference.fused_maps(large, np.ones((4, 3))), atol=2e-6)
    apart = reference.each(reference.each(large[0]) + reference.each(large[1]))
    assert np.abs(found - apart).max() > 0.1


@pytest.mark.parametrize("networks", [1, 2, 3])
def test_foreground_is_added_at_one_size_then_scaled(networks):
    found = fuse_foreground(single(RESPONSES[:networks]), SIZE)
    expected = reference.fused_foreground(RESPONSES[:networks], 9)
    assert found.dtype == jnp.float32 and found.shape == (4, 9, 9)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_array_equal(found.min(axis=(1, 2)), 0)
    np.testing.assert_allclose(found.max(axis=(1, 2)), 1, rtol=1e-6)


def test_a_size_need_not_be_square():
    found = fuse_foreground(single(RESPONSES[:2]), (4, 7))
    assert found.shape == (4, 4, 7)
    rows = np.stack([x.T for x in np.asarray(found)])  # the same with rows and columns swapped
    swapped = [np.swapaxes(x, 1, 2) for x in RESPONSES[:2]]
    np.testing.assert_allclose(rows, fuse_foreground(single(swapped), (7, 4)), atol=1e-6)
    classes = fuse_class_maps(single(MAPS), single(LABELS))
    assert mask_probabilities(classes, found).shape == (4, 4, 7, 4)


def test_masks_join_background_and_classes():
    classes = reference.fused_maps(MAPS[:2], LABELS)
    foreground = reference.fused_foreground(RESPONSES[:2], 9)
    found = mask_probabilities(single(classes), single(foreground))
    expected = reference.probabilities(classes, foreground)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=3e-6)
    assert len(np.unique(expected.argmax(axis=-1))) == 4  # every class wins somewhere


@pytest.mark.parametrize("networks", [1, 2, 3])
def test_the_whole_way_equals_the_whole_reference(networks):
    found = quick_masks(single(MAPS[:networks]), single(LABELS), single(RESPONSES[:networks]))
    expected = reference.probabilities(
        reference.fused_maps(MAPS[:networks], LABELS),
        reference.fused_foreground(RESPONSES[:networks], 9),
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_networks_of_other_shapes_are_refused():
    with pytest.raises(AssertionError):
        attention.fuse_class_maps(single([MAPS[0], MAPS[1][:, :4]]), single(LABELS))
    with pytest.raises(AssertionError):
        attention.mask_probabilities(single(MAPS[0]), single(MAPS[0]))


# ---------------------------------------------------------------- no gradient


def test_no_gradient_passes():
    """Of any input, to anything made of the masks."""
    weights = single(RNG.normal(size=(4, *SIZE, 4)))
    total = lambda maps, responses: jnp.sum(weights * masks(maps, single(LABELS), responses))
    gradients = quick(jax.grad(total, argnums=(0, 1)))(single(MAPS), single(RESPONSES))
    for gradient in jax.tree.leaves(gradients):
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", ["fuse_class_maps", "fuse_foreground", "mask_probabilities"])
def test_each_function_stops_it_by_itself(name):
    call, given = {
        "fuse_class_maps": (lambda x: attention.fuse_class_maps(x, single(LABELS)), MAPS),
        "fuse_foreground": (lambda x: attention.fuse_foreground(x, SIZE), RESPONSES),
        "mask_probabilities": (
            lambda x: attention.mask_probabilities(x[0], x[1]),
            [RNG.random((4, 5, 5, 3)), RNG.random((4, 9, 9))],
        ),
    }[name]
    gradients = quick(jax.grad(lambda x: jnp.sum(call(x) ** 2)))(single(given))
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)


# ---------------------------------------------------------------- images without


@pytest.mark.parametrize(
    "maps, responses, labels",
    [
        (MAPS, RESPONSES, np.zeros((4, 3))),
        (MAPS, RESPONSES, np.ones((4, 3))),
        ([np.full_like(MAPS[0], 3.0)] * 3, RESPONSES, LABELS),
        (MAPS, [np.full_like(x, 2.0) for x in RESPONSES], LABELS),
        ([np.zeros_like(x) for x in MAPS], [np.zeros_like(x) for x in RESPONSES], LABELS),
        ([1e30 * x for x in MAPS], [1e30 * x for x in RESPONSES], LABELS),
        ([1e-30 * x for x in MAPS], [1e-30 * x for x in RESPONSES], LABELS),
    ],
    ids=["no class", "all classes", "flat maps", "flat foreground", "zeros", "large", "small"],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_cell_has_probabilities_that_sum_to_1(maps, responses, labels, dtype):
    lower = lambda x: jax.tree.map(lambda a: jnp.asarray(a, dtype), x)
    found = quick_masks(lower(maps), single(labels), lower(responses))
    assert found.dtype == jnp.float32
    assert np.isfinite(found).all() and (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-6)
    absent = np.asarray(labels) == 0
    np.testing.assert_array_equal(np.asarray(found[..., 1:]).max(axis=(1, 2))[absent], 0)


def test_an_image_without_a_class_is_background_everywhere():
    found = quick_masks(single(MAPS), single(np.zeros((4, 3))), single(RESPONSES))
    np.testing.assert_allclose(found[..., 0], 1, rtol=1e-6)


def test_a_cell_of_which_no_map_says_anything_is_background():
    """Foreground is sure of an object, and no class claims it: 0 / 0 by the formula."""
    found = mask_probabilities(jnp.zeros((2, 5, 5, 3)), jnp.ones((2, 9, 9)))
    np.testing.assert_array_equal(found, np.broadcast_to(np.eye(4)[0], (2, 9, 9, 4)))


def test_foreground_of_rounding_alone_is_as_sure_as_foreground():
    """1 - M_f may be computed twice, each time with other last bits."""
    for seed in range(20):
        responses = [np.random.default_rng(seed).gamma(1.0, size=(4, n, n)) for n in (9, 5)]
        found = quick_masks(single(MAPS[:2]), single(np.zeros((4, 3))), single(responses))
        np.testing.assert_allclose(found[..., 0], 1, rtol=1e-6, err_msg=str(seed))


def test_flat_foreground_leaves_the_background_whole():
    """Nothing stands out: the background's map is 1, against the classes'."""
    flat = fuse_foreground([jnp.full((4, 5, 5), 7.0)], SIZE)
    np.testing.assert_array_equal(flat, 0)


def test_lower_precision_is_lost_in_float32():
    found = mask_probabilities(jnp.ones((1, 3, 3, 2), jnp.bfloat16), jnp.zeros((1, 3, 3)))
    assert found.dtype == jnp.float32
    both = mask_probabilities(
        jnp.ones((1, 3, 3, 2), jnp.bfloat16), jnp.full((1, 3, 3), 0.25, jnp.bfloat16)
    )
    assert both.dtype == jnp.float32
    np.testing.assert_allclose(both[0, 1, 1], np.array([3, 4, 4]) / 11, rtol=1e-6)


# ---------------------------------------------------------------- filters


def test_weighing_multiplies_each_class_by_its_confidence():
    probs = reference.softmax(2 * RNG.normal(size=(4, 6, 6, 4)))
    found = weigh_classes(single(probs), single(CONFIDENCE))
    np.testing.assert_allclose(found, reference.weighed(probs, CONFIDENCE), atol=2e-6)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[2, ..., 0], 1, rtol=1e-6)  # none is sure: background
    np.testing.assert_allclose(found[3], probs[3], atol=2e-6)  # all are: as it was


def test_weighing_keeps_a_class_that_has_the_cell_to_itself():
    """By the formula: a confidence has a say against the other classes alone."""
    probs = jnp.zeros((1, 1, 1, 3)).at[..., 2].set(1.0)
    found = weigh_classes(probs, jnp.array([[0.0, 1e-6]]))
    np.testing.assert_allclose(found, probs, rtol=1e-6)
    found = weigh_classes(probs, jnp.zeros((1, 2)))  # nothing is left of it: background
    np.testing.assert_array_equal(found[0, 0, 0], [1, 0, 0])
    assert weigh_classes(probs.astype(jnp.bfloat16), jnp.ones((1, 2))).dtype == jnp.float32


def test_the_released_filter_zeroes_scores_below_a_tenth():
    scores = RNG.normal(size=(4, 6, 6, 4)) + 3.0
    found = np.asarray(zero_unlikely(single(scores), single(CONFIDENCE)))
    expected = np.array(scores, np.float32)
    for n, c in ((0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        expected[n, ..., 1 + c] = 0
    np.testing.assert_array_equal(found, expected)
    strict = zero_unlikely(single(scores), single(CONFIDENCE), least=0.5)
    assert (strict[0, ..., 2] == 0).all() and (strict[0, ..., :2] != 0).all()
