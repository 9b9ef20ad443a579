"""Superpixels: what their definition promises, and the joining of the smallest by a slow loop."""

import concurrent.futures

import numpy as np
import pytest
from scipy import ndimage

from wsol_jax.ops.superpixels import felzenszwalb, merge_smallest


def photo(seed=0, shape=(60, 80)):
    """Coloured squares under noise."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 256, (4, 5, 3)).repeat(shape[0] // 4, axis=0)
    rough = rough.repeat(shape[1] // 5, axis=1)
    return np.clip(rough + rng.normal(0, 12, rough.shape), 0, 255).astype(np.uint8)


# ---------------------------------------------------------------- Felzenszwalb and Huttenlocher's


@pytest.mark.parametrize("min_size", [1, 20, 100])
def test_regions_are_whole_numbered_and_large_enough(min_size):
    found = felzenszwalb(photo(), scale=50.0, min_size=min_size)
    assert found.shape == (60, 80) and found.dtype == np.int32
    sizes = np.bincount(found.ravel())
    assert len(sizes) > 5 and sizes.min() >= min_size  # so no id is left out
    for region in range(len(sizes)):  # the algorithm joins across corners too
        assert ndimage.label(found == region, np.ones((3, 3)))[1] == 1


def test_plain_squares_are_found_as_they_are():
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, 20:] = (250, 30, 30)
    found = felzenszwalb(pixels, sigma=0.1)
    np.testing.assert_array_equal(found[:, :20], found[0, 0])
    np.testing.assert_array_equal(found[:, 20:], 1 - found[0, 0])
    assert not felzenszwalb(np.full((7, 5, 3), 9, np.uint8)).any()
    assert felzenszwalb(np.full((1, 1, 3), 9, np.uint8)).shape == (1, 1)


def test_a_larger_scale_makes_fewer_regions():
    counts = [felzenszwalb(photo(), scale=s, min_size=5).max() for s in (5.0, 50.0, 2000.0)]
    assert counts[0] > counts[1] > counts[2]


def test_threads_find_what_one_finds():
    photos = [photo(seed) for seed in range(8)]
    expected = [felzenszwalb(x, min_size=10) for x in photos]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            found = pool.map(lambda x: felzenszwalb(x, min_size=10), photos)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8)])
def test_what_is_no_photo_is_refused(wrong):
    with pytest.raises(ValueError, match="expected a photo"):
        felzenszwalb(wrong)


# ---------------------------------------------------------------- the smallest are joined

# Five regions: 0 of 5 pixels, 1 of 1, 2 of 2, 3 of 4, 4 of 4.
PICTURE = np.array([[0, 0, 1, 3], [0, 0, 2, 3], [0, 4, 2, 3], [4, 4, 4, 3]])
GREYS = np.array([10.0, 20, 50, 60, 100])


def test_a_picture_by_hand():
    colours = GREYS[PICTURE][..., None]
    join = lambda most: merge_smallest(PICTURE, colours, most).tolist()
    # 1 (20) touches 0 (10), 2 (50), 3 (60): into 0.
    assert join(4) == [[0, 0, 0, 2], [0, 0, 1, 2], [0, 3, 1, 2], [3, 3, 3, 2]]
    # 2 (50) touches 0 (11.67 now), 3 (60), 4 (100): into 3, which is 56.67 then.
    assert join(3) == [[0, 0, 0, 1], [0, 0, 1, 1], [0, 2, 1, 1], [2, 2, 2, 1]]
    # 4 (4 pixels, 100) touches 0 (11.67) and 3 (56.67).
    assert join(2) == [[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]]
    assert join(1) == np.zeros((4, 4), int).tolist()


def test_equals_in_size_go_by_their_ids_and_equals_in_colour_by_theirs():
    regions, colours = np.array([[0, 1, 2, 3]]), np.zeros((1, 4, 1))
    assert merge_smallest(regions, colours, 3).tolist() == [[0, 0, 1, 2]]
    # Of 1, 2 and 3, one pixel each, 1 stayed: 2 goes first and takes the lower of its neighbours.
    regions = np.array([[1, 1, 0, 2, 2]])
    assert merge_smallest(regions, np.zeros((1, 5, 1)), 2).tolist() == [[0, 0, 0, 1, 1]]


def test_nothing_changes_under_the_cap():
    for most in (5, 6, 1000):
        found = merge_smallest(PICTURE, GREYS[PICTURE][..., None], most)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, PICTURE)
    with pytest.raises(ValueError, match="most=0"):
        merge_smallest(PICTURE, GREYS[PICTURE][..., None], 0)


def looped(regions, colours, most):
    """Everything is counted again after each joining; also (who, into whom) in order."""
    regions, order = regions.copy(), []
    while len(np.unique(regions)) > most:
        present = np.unique(regions).tolist()
        goes = min(present, key=lambda r: ((regions == r).sum(), r))
        near = set()
        for y, x in np.argwhere(regions == goes).tolist():
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < regions.shape[0] and 0 <= u < regions.shape[1]:
                    near.add(int(regions[v, u]))
        near.discard(goes)
        own = colours[regions == goes].mean(axis=0)
        far = lambda r, own=own: ((colours[regions == r].mean(axis=0) - own) ** 2).sum()
        stays = min(sorted(near), key=far)
        order.append((goes, stays))
        regions[regions == goes] = stays
    return np.searchsorted(np.unique(regions), regions), order


@pytest.mark.parametrize("seed", range(6))
def test_equals_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    points = rng.random((14, 2)) * (11, 13)
    grid = np.stack(np.mgrid[:11, :13], axis=-1)
    regions = np.linalg.norm(grid[:, :, None] - points, axis=-1).argmin(axis=-1)
    regions = np.unique(regions, return_inverse=True)[1].reshape(11, 13)
    colours = rng.integers(0, 256, (11, 13, 3)).astype(float)
    for most in (1, 3, 7, 12):
        found = merge_smallest(regions, colours, most)
        np.testing.assert_array_equal(found, looped(regions, colours, most)[0])
        assert set(np.unique(found)) == set(range(min(most, regions.max() + 1)))
        # What was one region is one still, and whoever was joined is in one piece.
        assert all(len(set(found[regions == r].tolist())) == 1 for r in range(regions.max() + 1))
        cross = [ndimage.label(regions == r)[1] for r in range(regions.max() + 1)]
        if max(cross) == 1:
            assert all(ndimage.label(found == r)[1] == 1 for r in range(found.max() + 1))


def test_a_photo_of_many_regions():
    """From hundreds to a few, uint8 colours as they are."""
    pixels = photo(3)
    many = felzenszwalb(pixels, scale=1.0, sigma=0.1, min_size=1)
    assert many.max() > 300
    few = merge_smallest(many, pixels, 20)
    assert set(np.unique(few)) == set(range(20)) and few.dtype == np.int32
