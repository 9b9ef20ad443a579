"""Patches of an image are hidden as a whole, by chance, in each image anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsol_jax.ops.hiding import checkerboard, draw_patches, hide_patches

RNG = np.random.default_rng(0)
KEY = jax.random.key(5)
FILL = (124.0, 116.0, 104.0)


def by_hand(images, hidden, fill):
    """Patch by patch, pixel by pixel of a patch."""
    out = images.copy()
    (_, height, width, _), grid = images.shape, hidden.shape[1:]
    for n, i, j in np.ndindex(hidden.shape):
        if hidden[n, i, j]:
            rows = slice(i * height // grid[0], (i + 1) * height // grid[0])
            columns = slice(j * width // grid[1], (j + 1) * width // grid[1])
            out[n, rows, columns] = np.asarray(fill).astype(images.dtype)
    return out


# ---------------------------------------------------------------- what is hidden


@pytest.mark.parametrize("size, grid", [((16, 16), 4), ((12, 20), 4), ((9, 9), 3), ((8, 8), 1)])
def test_every_patch_is_wholly_hidden_or_untouched(size, grid):
    images = RNG.integers(0, 256, (3, *size, 3)).astype(np.float32)
    hidden = RNG.random((3, grid, grid)) < 0.5
    found = np.asarray(hide_patches(jnp.asarray(images), jnp.asarray(hidden), FILL))
    np.testing.assert_array_equal(found, by_hand(images, hidden, FILL))
    assert 0 < hidden.mean() < 1


def test_the_papers_patches_are_56_pixels_a_side():
    hidden = np.zeros((1, 4, 4), bool)
    hidden[0, 1, 2] = True
    found = np.asarray(hide_patches(jnp.zeros((1, 224, 224, 3)), jnp.asarray(hidden), FILL))
    rows, columns = np.nonzero((found[0] == FILL).all(axis=-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (56, 111, 112, 167)
    assert len(rows) == 56**2 and np.count_nonzero(found.any(axis=-1)) == 56**2


@pytest.mark.parametrize("dtype", ["uint8", "float32", "bfloat16"])
def test_the_images_dtype_and_their_other_pixels_are_kept(dtype):
    images = jnp.asarray(RNG.integers(0, 256, (2, 8, 8, 3)), dtype)
    hidden = jnp.asarray(RNG.random((2, 4, 4)) < 0.5)
    found = hide_patches(images, hidden, FILL)
    assert found.dtype == images.dtype == jnp.dtype(dtype) and found.shape == images.shape
    covered = np.asarray(hidden).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(found[~covered], images[~covered])
    np.testing.assert_array_equal(np.asarray(found, np.float32)[covered] - FILL, 0)


def test_the_fill_is_as_near_as_the_dtype_allows():
    """VGG's mean is no whole number: half a grey level, and a bfloat16's rounding."""
    mean, hidden = (123.675, 116.28, 103.53), jnp.ones((1, 1, 1), bool)
    for dtype, most in (("float32", 1e-5), ("uint8", 0.5), ("bfloat16", 0.25)):
        found = hide_patches(jnp.zeros((1, 2, 2, 3), dtype), hidden, mean)
        assert np.abs(np.asarray(found, np.float64) - mean).max() <= most, dtype


@pytest.mark.parametrize("size, grid", [((10, 8), 4), ((8, 10), 4), ((3, 3), 4), ((321, 321), 4)])
def test_a_grid_that_does_not_divide_is_refused(size, grid):
    with pytest.raises(ValueError, match="do not divide"):
        hide_patches(jnp.zeros((1, *size, 3)), jnp.zeros((1, grid, grid), bool), FILL)


def test_shapes_are_checked():
    with pytest.raises(AssertionError):
        hide_patches(jnp.zeros((8, 8, 3)), jnp.zeros((1, 4, 4), bool), FILL)
    with pytest.raises(AssertionError):
        hide_patches(jnp.zeros((1, 8, 8, 3)), jnp.zeros((4, 4), bool), FILL)


# ---------------------------------------------------------------- chance


def test_a_probability_of_0_hides_nothing_and_of_1_everything():
    assert not draw_patches(KEY, 50, probability=0.0).any()
    assert draw_patches(KEY, 50, probability=1.0).all()


@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_each_patch_is_hidden_as_often_as_its_probability_says(probability):
    """4,000 draws: four deviations of each patch's frequency, and of a patch beside another."""
    found = np.asarray(draw_patches(KEY, 4000, probability=probability), np.float64)
    assert found.shape == (4000, 4, 4)
    spread = np.sqrt(probability * (1 - probability) / 4000)
    np.testing.assert_allclose(found.mean(axis=0), probability, atol=4 * spread)
    both = (found[:, :, :-1] * found[:, :, 1:]).mean(axis=0)
    spread = np.sqrt(probability**2 * (1 - probability**2) / 4000)
    np.testing.assert_allclose(both, probability**2, atol=4 * spread)
    counts = found.sum(axis=(1, 2))
    assert counts.min() < 16 * probability < counts.max()  # by each patch, not so many an image


@pytest.mark.parametrize("number", [0, 1, 5, 15, 16])
def test_a_number_of_patches_is_hidden_exactly(number):
    found = np.asarray(draw_patches(KEY, 300, number=number))
    assert found.dtype == bool
    np.testing.assert_array_equal(found.sum(axis=(1, 2)), number)
    share = number / 16
    spread = np.sqrt(share * (1 - share) / 300)
    np.testing.assert_allclose(found.mean(axis=0), share, atol=4 * spread)


@pytest.mark.parametrize("number", [None, 5])
def test_images_and_keys_draw_differently_and_the_same_key_the_same(number):
    one = np.asarray(draw_patches(KEY, 6, number=number))
    np.testing.assert_array_equal(draw_patches(KEY, 6, number=number), one)
    assert len({x.tobytes() for x in one}) == 6
    other = np.asarray(draw_patches(jax.random.key(6), 6, number=number))
    assert all((a != b).any() for a, b in zip(one, other, strict=True))


def test_a_grid_may_have_any_number_of_patches():
    assert draw_patches(KEY, 2, 1).shape == (2, 1, 1)
    assert draw_patches(KEY, 2, 7, number=49).sum() == 98


@pytest.mark.parametrize("value", [-0.1, 1.001, float("nan")])
def test_other_probabilities_are_refused(value):
    with pytest.raises(ValueError, match=r"probability must lie in \[0, 1\]"):
        draw_patches(KEY, 2, probability=value)


@pytest.mark.parametrize("number", [-1, 17])
def test_other_numbers_are_refused(number):
    with pytest.raises(ValueError, match=f"a grid of 4x4 has no {number} patches"):
        draw_patches(KEY, 2, number=number)


def test_the_checkerboard_hides_every_second_patch_of_every_image():
    found = np.asarray(checkerboard(2, 4))
    assert found.shape == (2, 4, 4) and found.dtype == bool
    for n, i, j in np.ndindex(found.shape):
        assert found[n, i, j] == ((i + j) % 2 == 1)
