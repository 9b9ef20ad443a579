"""Regions against obvious loops in float64: boxes, masked max pooling, majorities, the draw."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from helpers.regions import looped_gradient, looped_pool
from jax.test_util import check_grads

from wsol_jax.base.labels import UNLABELLED
from wsol_jax.ops.regions import draw_balanced, masked_roi_max_pool, region_boxes, region_classes

POOL = jax.jit(masked_roi_max_pool, static_argnums=(2, 3))
BACK = jax.jit(
    lambda features, regions, gradient, count, size: jax.vjp(
        lambda x: masked_roi_max_pool(x, regions, count, size), features
    )[1](gradient)[0],
    static_argnums=(3, 4),
)
BOXES = quick(region_boxes, static_argnums=1)
CLASSES = quick(region_classes, static_argnums=(2, 3))


def ids(kind, shape, count=6):
    """Region maps of every sort, count ids at most."""
    rng = np.random.default_rng(len(kind))
    height, width = shape
    if kind == "scattered":  # every region in many pieces
        return rng.integers(0, count, shape).astype(np.int32)
    if kind == "padded":  # some pixels are no region's, some ids have no pixel
        return rng.choice([-7, -1, 0, 2, 5, count, count + 3, 10**6], shape).astype(np.int32)
    if kind == "one pixel":
        out = np.full(shape, -1, np.int32)
        out[height // 2, width // 3], out[0, 0], out[-1, -1] = 1, 4, 5
        return out
    if kind == "whole":
        return np.full(shape, 3, np.int32)
    if kind == "none":
        return np.full(shape, -1, np.int32)
    # Blobs: the nearest of some points.
    points = rng.random((count, 2)) * shape
    grid = np.stack(np.mgrid[:height, :width], axis=-1)
    return np.linalg.norm(grid[:, :, None] - points, axis=-1).argmin(axis=-1).astype(np.int32)


KINDS = ["scattered", "padded", "one pixel", "whole", "none", "blobs"]


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_pooling_equals_a_loop(kind, size):
    rng = np.random.default_rng(0)
    regions = ids(kind, (12, 15))
    for cells in ((4, 5), (12, 15)):
        features = rng.normal(size=(*cells, 3)).astype(np.float32)
        found = POOL(features, regions, 6, size)
        assert found.shape == (6, size, size, 3) and found.dtype == jnp.float32
        np.testing.assert_array_equal(found, looped_pool(features, regions, 6, size))


@pytest.mark.parametrize("grid", [(1, 1), (3, 4), (7, 11), (24, 33)])
def test_grids_finer_and_coarser_than_the_cells(grid):
    """A pixel has the features of the cell that its centre lies in."""
    features = np.random.default_rng(1).normal(size=(8, 5, 2)).astype(np.float32)
    regions = ids("blobs", grid, 4)
    for size in (1, 3):
        found = POOL(features, regions, 4, size)
        np.testing.assert_array_equal(found, looped_pool(features, regions, 4, size))


def test_an_empty_bin_is_zero_and_not_the_maximum_with_it():
    """A region that is a diagonal, all features below zero."""
    regions = np.where(np.eye(6), 0, -1).astype(np.int32)
    features = np.full((6, 6, 1), -2.0, np.float32)
    found = np.asarray(POOL(features, regions, 2, 3))[..., 0]
    np.testing.assert_array_equal(found[0], -2 * np.eye(3))
    np.testing.assert_array_equal(found[1], 0)
    # Fewer rows than bins: those between are empty.
    small = np.asarray(POOL(features, np.where(np.eye(6) == 1, np.arange(6), -1), 6, 7))
    assert (small[:, 0, 0] == -2).all() and np.count_nonzero(small) == 6


def test_what_lies_beside_a_region_in_its_box_is_not_seen():
    regions = np.array([[0, 1], [1, 0]], np.int32)
    features = np.array([[[1.0], [9]], [[8], [2]]], np.float32)
    np.testing.assert_array_equal(POOL(features, regions, 2, 1).ravel(), [2, 9])
    np.testing.assert_array_equal(POOL(features, regions, 2, 2)[0, ..., 0], [[1, 0], [0, 2]])


@pytest.mark.parametrize("kind, size", [("scattered", 7), ("padded", 3), ("blobs", 1)])
def test_gradient_is_that_of_finite_differences(kind, size):
    """All features differ by more than the step."""
    rng = np.random.default_rng(2)
    features = rng.permutation(4 * 5 * 2).reshape(4, 5, 2).astype(np.float32) / 10 - 2
    regions = ids(kind, (8, 10))
    pool = lambda x: POOL(x, regions, 6, size)
    check_grads(pool, (jnp.asarray(features),), 1, ["rev"], 1e-2, 1e-2, 1e-2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3])
def test_gradient_of_ties_is_shared_in_equal_parts(kind, size):
    rng = np.random.default_rng(3)
    features = rng.integers(-1, 2, (4, 5, 3)).astype(np.float32)
    regions = ids(kind, (9, 11))
    gradient = rng.normal(size=(6, size, size, 3)).astype(np.float32)
    found = BACK(features, regions, gradient, 6, size)
    expected = looped_gradient(features, regions, 6, size, gradient)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_features_of_zero_share_a_gradient_that_adds_up_in_bfloat16():
    """Behind a ReLU most cells are 0: thousands of pixels reach a bin's maximum."""
    features = jnp.zeros((8, 8, 1), jnp.bfloat16)
    regions = jnp.zeros((80, 80), jnp.int32)
    pool = lambda x: jnp.sum(POOL(x, regions, 1, 1).astype(jnp.float32))
    gradient = jax.grad(pool)(features)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(gradient, np.float64), 1 / 64, rtol=2**-8)


def test_bfloat16_features_keep_their_values():
    features = jnp.asarray(np.random.default_rng(4).normal(size=(4, 5, 3)), jnp.bfloat16)
    regions = ids("blobs", (8, 10))
    found = POOL(features, regions, 6, 3)
    assert found.dtype == jnp.bfloat16
    expected = looped_pool(np.asarray(features, np.float64), regions, 6, 3)
    np.testing.assert_array_equal(np.asarray(found, np.float64), expected)


def test_a_batch_is_each_image_alone():
    rng = np.random.default_rng(5)
    features = rng.integers(-3, 3, (3, 4, 5, 2)).astype(np.float32)
    regions = np.stack([ids(kind, (8, 10)) for kind in ("blobs", "padded", "none")])
    weights = rng.normal(size=(3, 6, 2, 2, 2)).astype(np.float32)
    pool = functools.partial(masked_roi_max_pool, count=6, size=2)
    batch = jax.jit(jax.vmap(pool))
    found, back = jax.vjp(lambda x: batch(x, regions), features)
    gradient = back(jnp.asarray(weights))[0]
    for n in range(3):
        np.testing.assert_array_equal(found[n], looped_pool(features[n], regions[n], 6, 2))
        expected = looped_gradient(features[n], regions[n], 6, 2, weights[n])
        np.testing.assert_allclose(gradient[n], expected, rtol=1e-5, atol=1e-6)


def test_nothing_is_ever_other_than_a_number():
    for kind in KINDS:
        for value in (0.0, -1e30, 1e30):
            given = jnp.full((3, 3, 1), value), ids(kind, (6, 6))
            found = POOL(*given, 6, 3)
            assert np.isfinite(found).all()
            assert np.isfinite(BACK(*given, jnp.ones_like(found), 6, 3)).all()


# ---------------------------------------------------------------- boxes and classes


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_are_the_external_rectangles(kind):
    regions = ids(kind, (9, 13))
    found = np.asarray(BOXES(regions, 6))
    assert found.dtype == np.int32 and found.shape == (6, 4)
    for region in range(6):
        rows, columns = np.nonzero(regions == region)
        if len(rows):
            expected = [rows.min(), columns.min(), rows.max(), columns.max()]
            np.testing.assert_array_equal(found[region], expected)
        else:
            assert found[region, 2] < found[region, 0] and found[region, 3] < found[region, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_classes_are_the_majorities(kind):
    rng = np.random.default_rng(6)
    for _ in range(5):
        regions = ids(kind, (9, 13))
        classes = rng.choice([0, 1, 3, UNLABELLED], regions.shape).astype(np.uint8)
        found = CLASSES(regions, classes, 6, 4)
        assert found.dtype == jnp.int32
        expected = np.full(6, UNLABELLED)
        for region in range(6):
            inside = classes[regions == region].tolist()
            # UNLABELLED is the highest: of equals it comes last.
            if inside:
                expected[region] = min(set(inside), key=lambda c: (-inside.count(c), c))
        np.testing.assert_array_equal(found, expected)


def test_ties_go_to_the_lowest_class_and_empty_regions_have_none():
    regions = np.array([[0, 0, 1, 1, 1], [0, 0, 2, 2, -1], [4, 4, 4, 2, 9]], np.int32)
    classes = np.array([[2, 1, 255, 255, 3], [1, 2, 255, 3, 0], [0, 255, 0, 3, 0]], np.uint8)
    found = CLASSES(regions, classes, 5, 4)
    np.testing.assert_array_equal(found, [1, UNLABELLED, 3, UNLABELLED, 0])
    tied = CLASSES(np.zeros((1, 4), np.int32), np.array([[255, 3, 255, 3]], np.uint8), 1, 4)
    np.testing.assert_array_equal(tied, [3])  # as many as have none


# ---------------------------------------------------------------- the draw

DRAW = quick(draw_balanced, static_argnums=2)
MANY = quick(
    lambda keys, classes, size: jax.vmap(lambda key: draw_balanced(key, classes, size))(keys),
    static_argnums=2,
)
# 12 of background, 3 of class 4, one of class 2, 4 that nobody labelled.
DRAWN = np.random.default_rng(7).permutation([0] * 12 + [4] * 3 + [2] + [UNLABELLED] * 4)


def test_only_labelled_regions_are_drawn_and_none_twice():
    chosen, real = map(np.asarray, MANY(jax.random.split(jax.random.key(0), 500), DRAWN, 10))
    assert chosen.shape == real.shape == (500, 10) and chosen.dtype == np.int32
    assert real.all() and (DRAWN[chosen] != UNLABELLED).all()
    assert all(len(set(row)) == 10 for row in chosen.tolist())


@pytest.mark.parametrize("size", [16, 17, 20, 33])
def test_a_list_that_is_too_short_is_padded(size):
    chosen, real = map(np.asarray, DRAW(jax.random.key(1), DRAWN, size))
    assert chosen.shape == (size,) and real.sum() == 16 and real[:16].all()
    assert set(chosen[real].tolist()) == set(np.flatnonzero(DRAWN != UNLABELLED).tolist())
    assert ((chosen >= 0) & (chosen < len(DRAWN))).all()


def test_where_nothing_is_labelled_nothing_is_drawn():
    _, real = DRAW(jax.random.key(2), np.full(5, UNLABELLED), 3)
    assert not np.any(real)


def test_the_first_drawn_is_of_each_class_alike():
    """And of a class's regions each alike: within 5 standard deviations, which no seed misses."""
    number = 20000
    chosen, _ = MANY(jax.random.split(jax.random.key(3), number), DRAWN, 1)
    counts = np.bincount(np.asarray(chosen)[:, 0], minlength=len(DRAWN))
    for c in (0, 2, 4):
        own = np.flatnonzero(c == DRAWN).tolist()
        expected = [(counts[own].sum(), 1 / 3), *((counts[i], 1 / 3 / len(own)) for i in own)]
        for found, share in expected:
            assert abs(found - number * share) < 5 * np.sqrt(number * share * (1 - share))


def test_a_key_decides_the_draw():
    one, other = (DRAW(jax.random.key(4), DRAWN, 8)[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert (np.asarray(DRAW(jax.random.key(5), DRAWN, 8)[0]) != one).any()
