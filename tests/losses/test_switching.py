"""Hide-and-Seek's losses against loops in float64: by labels, by masks, and the switch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import by_hand as reference
from helpers.compiling import quick
from jax.test_util import check_grads

from wsol_jax.losses import switching
from wsol_jax.losses.classification import masked_mean, squared_label_loss

RNG = np.random.default_rng(36)  # scores whose surest pixels lead clearly
SHAPE = (4, 4, 5, 6)  # images, cells, background and five classes
SCORES = 3 * RNG.normal(size=SHAPE)
# The last two: every class, and none beside background.
LABELS = np.array([[1, 1, 0, 0, 1, 0], [1, 0, 0, 1, 0, 0], [1] * 6, [1, 0, 0, 0, 0, 0]])
MASKS = RNG.choice([0, 1, 2, 3, 4, 5, 255], size=SHAPE[:3]).astype(np.uint8)
MASKS[3] = 255  # nothing labelled
WEAK = np.array([True, False, False, True])

weak_label_loss = quick(switching.weak_label_loss)
pixel_cross_entropy = quick(switching.pixel_cross_entropy)
switched_loss = quick(switching.switched_loss)
squared = quick(squared_label_loss)
CALLS = {
    "weak": lambda s: switching.weak_label_loss(s, jnp.asarray(LABELS)),
    "pixel": lambda s: switching.pixel_cross_entropy(s, jnp.asarray(MASKS)),
    "switched": lambda s: switching.switched_loss(
        s, jnp.asarray(LABELS), jnp.asarray(MASKS), jnp.asarray(WEAK)
    ),
}


def single(x):
    return jnp.asarray(x, jnp.float32)


@functools.cache
def compiled(name):
    return quick(CALLS[name]), quick(jax.value_and_grad(lambda s: jnp.sum(CALLS[name](s))))


def with_gradient(name, scores):
    return compiled(name)[1](scores)


# ---------------------------------------------------------------- values


def test_losses_equal_the_equations():
    by_labels, by_masks = (
        reference.weak_label_loss(SCORES, LABELS),
        reference.pixel_cross_entropy(SCORES, MASKS),
    )
    both = np.where(WEAK, by_labels, by_masks)
    for found, expected in (
        (weak_label_loss(single(SCORES), single(LABELS)), by_labels),
        (pixel_cross_entropy(single(SCORES), jnp.asarray(MASKS)), by_masks),
        (switched_loss(single(SCORES), LABELS, MASKS, WEAK), both),
    ):
        assert found.shape == (4,) and found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=2e-5)
        assert len(set(np.round(expected, 3))) == 4  # images that could be mistaken for each other


def test_a_flat_segmentation_of_the_published_size():
    """By hand: log 21 for the classes shown, and log(21/20) for the others."""
    scores, labels = jnp.zeros((1, 41, 41, 21)), np.zeros((1, 21))
    labels[0, [0, 8, 15]] = 1
    np.testing.assert_allclose(weak_label_loss(scores, labels), 3.0933126, rtol=3e-6)
    masks = jnp.full((1, 41, 41), 8)
    np.testing.assert_allclose(pixel_cross_entropy(scores, masks), 3.0445224, rtol=3e-6)


def test_one_sure_pixel_is_enough_of_a_class_shown_and_too_much_of_another():
    scores = np.zeros((1, 3, 3, 3))
    scores[0, 1, 2, 1] = 12.0
    shown, absent = (
        float(weak_label_loss(single(scores), single([labels]))[0])
        for labels in ([1, 1, 0], [1, 0, 0])
    )
    assert shown < 1.6 and absent > 6  # two flat classes; half of log(1 - 1 / (1 + 2e-12))
    scores[0, :, :, 1] = 12.0  # every pixel more adds nothing
    assert float(weak_label_loss(single(scores), single([[0, 1, 1]]))[0]) > 6


def test_shapes_are_checked():
    with pytest.raises(AssertionError):
        switching.weak_label_loss(single(SCORES), single(LABELS[:, 1:]))
    with pytest.raises(AssertionError):
        switching.weak_label_loss(single(SCORES), single(LABELS[:2]))
    with pytest.raises(AssertionError):
        switching.pixel_cross_entropy(single(SCORES), jnp.asarray(MASKS)[..., None])
    with pytest.raises(AssertionError):
        switching.is_noisy(jnp.asarray(MASKS)[..., None])


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_unlabelled_pixels_may_say_anything(dtype):
    """Whatever the scores there, and in the fourth image, which has no label, everywhere."""
    masks = jnp.asarray(MASKS, dtype)
    other = np.where((MASKS == 255)[..., None], 50 * RNG.normal(size=SHAPE), SCORES)
    found = pixel_cross_entropy(single(other), masks)
    np.testing.assert_array_equal(found, pixel_cross_entropy(single(SCORES), masks))
    assert found[3] == 0 and (found[:3] > 0).all()


# ---------------------------------------------------------------- the squared label loss


def test_squared_label_loss_equals_the_definition():
    logits, labels = 2 * RNG.normal(size=(4, 6)), np.concatenate([LABELS[:3], [[0] * 6]])
    found = squared(single(logits), single(labels))
    assert found.shape == (4,) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, reference.squared_label_loss(logits, labels), rtol=2e-5)


def test_squared_label_loss_of_sure_scores():
    """Right: 0. Wrong: two squares of 1, over C. Shared by two classes and right of one: .5."""
    logits = 1e4 * np.eye(4)[[1, 1, 1]]
    labels = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0]])
    total = lambda s: jnp.sum(squared_label_loss(s, single(labels)))
    gradient = quick(jax.grad(total))(single(logits))
    np.testing.assert_allclose(squared(single(logits), single(labels)), [0, 0.5, 0.125], atol=1e-7)
    assert np.isfinite(gradient).all()


def test_squared_label_loss_has_the_gradient_of_its_values():
    labels = single(np.concatenate([LABELS[:3], [[0] * 6]]))
    total = jax.jit(lambda s: jnp.sum(squared_label_loss(s, labels)))
    check_grads(total, (single(RNG.normal(size=(4, 6))),), 1, ["rev"], 1e-2, 1e-2, 1e-2)


# ---------------------------------------------------------------- the switch


def test_a_mask_without_an_object_is_noisy():
    masks = np.zeros((6, 3, 3), np.uint8)
    masks[1] = 255
    masks[2, 0, 0], masks[3, 2, 2] = 255, 1
    masks[4, 1, :2], masks[5] = 5, 2
    noisy = lambda most: np.asarray(switching.is_noisy(jnp.asarray(masks), most)).tolist()
    assert noisy(0) == [True, True, True, False, False, False]
    assert noisy(1) == [True] * 4 + [False, False]
    assert noisy(2) == [True] * 5 + [False] and noisy(8) == noisy(2) and noisy(9) == [True] * 6


def test_the_switch_takes_one_loss_of_each_image_and_its_gradient_alone():
    scores = single(SCORES)
    _, both = with_gradient("switched", scores)
    _, by_labels = with_gradient("weak", scores)
    _, by_masks = with_gradient("pixel", scores)
    for n, weak in enumerate(WEAK):
        chosen, other = (by_labels, by_masks) if weak else (by_masks, by_labels)
        np.testing.assert_allclose(both[n], chosen[n], rtol=1e-6)
        assert np.abs(chosen[n] - other[n]).max() > 1e-3


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("name", CALLS)
def test_gradients_are_those_of_the_values(name):
    """The surest pixel of each class leads by more than the step: no ties."""
    flat = reference.softmax(SCORES).reshape(4, 20, 6)
    top = np.sort(flat, axis=1)[:, -2:]
    assert (top[:, 1] - top[:, 0]).min() > 1e-2
    total = jax.jit(lambda s: jnp.sum(CALLS[name](s)))
    check_grads(total, (single(SCORES),), 1, ["rev"], 2e-2, 2e-2, 1e-3)


def test_gradients_reach_the_surest_pixels_alone():
    _, gradient = with_gradient("weak", single(SCORES))
    flat = reference.softmax(SCORES).reshape(4, 20, 6).argmax(axis=1)
    for n in range(4):
        moved = np.nonzero(np.abs(gradient[n]).reshape(20, 6).max(axis=1))[0]
        assert set(moved) == set(flat[n])


def test_the_gradient_of_the_pixel_loss_in_closed_form():
    """(S - one-hot) / labelled pixels; 0 where there is no label."""
    _, gradient = with_gradient("pixel", single(SCORES))
    labelled = (MASKS != 255)[..., None]
    count = np.maximum(labelled.sum(axis=(1, 2, 3), keepdims=True), 1)
    one_hot = MASKS[..., None] == np.arange(6)
    expected = np.where(labelled, reference.softmax(SCORES) - one_hot, 0) / count
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


# ---------------------------------------------------------------- the ends of the range


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("high, low", [(1e4, -1e4), (-1e4, 1e4), (1e4, 0.0), (1e4, 1e4)])
def test_extreme_scores_are_finite_with_finite_gradients(name, high, low):
    """A segmenter that is sure of class 2 everywhere, or sure against it; right or wrong."""
    scores = np.full(SHAPE, low)
    scores[..., 2] = high
    value, gradient = with_gradient(name, single(scores))
    assert np.isfinite(value) and np.isfinite(gradient).all()
    by_labels, by_masks = (
        reference.weak_label_loss(scores, LABELS),
        reference.pixel_cross_entropy(scores, MASKS),
    )
    expected = {
        "weak": by_labels,
        "pixel": by_masks,
        "switched": np.where(WEAK, by_labels, by_masks),
    }[name]
    found = compiled(name)[0](single(scores))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-3)  # float32 at 1e4


def test_a_wrong_segmenter_is_pulled_back_however_sure_it_is():
    """log(1 - S) at S = 1: a guard by a floor would have no gradient here."""
    scores = np.full(SHAPE, -200.0)
    scores[..., 2] = 200.0
    _, gradient = with_gradient("weak", single(scores))
    assert (gradient[[0, 1, 3], ..., 2].max(axis=(1, 2)) > 0.1).all()  # class 2 is absent there


@pytest.mark.parametrize("name", CALLS)
def test_bfloat16_scores_are_lost_in_float32(name):
    scores = jnp.asarray(SCORES, jnp.bfloat16)
    found = compiled(name)[0](scores)
    assert found.dtype == jnp.float32
    exact = compiled(name)[0](scores.astype(jnp.float32))
    np.testing.assert_array_equal(found, exact)


def test_padded_rows_change_nothing():
    """No class, no mask, any scores: masked away without a NaN, and without a gradient."""
    valid, labels, masks = np.array([True, True, False, True]), LABELS.copy(), MASKS.copy()
    labels[2], masks[2] = 0, 255

    def total(scores):
        each = switching.switched_loss(scores, labels, masks, WEAK)
        return masked_mean(each, jnp.asarray(valid))

    call = quick(jax.value_and_grad(total))
    value, gradient = call(single(SCORES))
    other = SCORES.copy()
    other[2] = 1e4 * RNG.normal(size=SHAPE[1:])
    value2, gradient2 = call(single(other))
    expected = np.where(
        WEAK,
        reference.weak_label_loss(SCORES, LABELS),
        reference.pixel_cross_entropy(SCORES, MASKS),
    )
    np.testing.assert_allclose(value, expected[valid].mean(), rtol=1e-5)
    assert value == value2
    np.testing.assert_array_equal(gradient, gradient2)
    np.testing.assert_array_equal(gradient[2], 0)
