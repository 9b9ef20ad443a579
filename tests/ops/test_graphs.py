"""Region graphs on a picture by hand, and against loops over pixels."""

import numpy as np
import pytest

from wsol_jax.ops.graphs import border_regions, neighbours, region_means

# Region 2 is inside; 0 and 3 meet it and each other, 1 meets all along the right side.
PICTURE = np.array([[0, 0, 0, 1], [0, 2, 2, 1], [0, 2, 2, 1], [3, 3, 3, 1]], np.int32)


def looped_neighbours(regions):
    found = set()
    height, width = regions.shape
    for y in range(height):
        for x in range(width):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < height and u < width and regions[y, x] != regions[v, u]:
                    one, other = int(regions[y, x]), int(regions[v, u])
                    found.add((min(one, other), max(one, other)))
    return sorted(found)


def looped_means(values, regions, count):
    means = np.zeros((count, values.shape[2]))
    for region in range(count):
        inside = [values[place] for place in np.ndindex(regions.shape) if regions[place] == region]
        if inside:
            means[region] = sum(np.asarray(v, np.float64) for v in inside) / len(inside)
    return means


def random_regions(seed, shape, count):
    """Patches of 2 x 2 pixels: ids in several pieces, some ids in none."""
    ids = np.random.default_rng(seed).integers(0, count, ((shape[0] + 1) // 2, shape[1] // 2 + 1))
    return ids.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]].astype(np.int32)


def test_picture_by_hand():
    pairs = neighbours(PICTURE, 4)
    assert pairs.dtype == np.int32
    np.testing.assert_array_equal(pairs, [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])
    np.testing.assert_array_equal(border_regions(PICTURE, 4), [True, True, False, True])
    values = np.stack([np.arange(16.0).reshape(4, 4), np.ones((4, 4))], axis=-1)
    np.testing.assert_allclose(
        region_means(values, PICTURE, 4), [[15 / 5, 1], [36 / 4, 1], [30 / 4, 1], [39 / 3, 1]]
    )


def test_corners_do_not_touch():
    assert neighbours(np.array([[0, 1], [2, 3]]), 4).tolist() == [[0, 1], [0, 2], [1, 3], [2, 3]]


@pytest.mark.parametrize("shape", [(9, 12), (12, 9), (1, 30), (30, 1), (1, 1)])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_equals_loops(shape, count):
    regions = random_regions(count, shape, count)
    pairs = neighbours(regions, count)
    assert pairs.shape == (len(pairs), 2)
    assert [tuple(p) for p in pairs.tolist()] == looped_neighbours(regions)
    values = np.random.default_rng(1).normal(size=(*shape, 3)).astype(np.float32)
    means = region_means(values, regions, count)
    np.testing.assert_allclose(means, looped_means(values, regions, count), rtol=1e-12, atol=1e-15)
    rim = {int(regions[y, x]) for y, x in np.ndindex(shape) if y in (0, shape[0] - 1)}
    rim |= {int(regions[y, x]) for y, x in np.ndindex(shape) if x in (0, shape[1] - 1)}
    np.testing.assert_array_equal(border_regions(regions, count), [r in rim for r in range(count)])


def test_an_empty_region_is_zero_and_alone():
    regions = np.array([[0, 2], [0, 2]])
    assert neighbours(regions, 5).tolist() == [[0, 2]]
    means = region_means(np.full((2, 2, 1), 7), regions, 5)
    np.testing.assert_array_equal(means[:, 0], [7, 0, 7, 0, 0])
    assert border_regions(regions, 5).tolist() == [True, False, True, False, False]


def test_pairs_of_many_regions():
    """Codes of pairs pass 32 bits; pairs are those of a row."""
    regions = np.arange(100_000, dtype=np.int32)[None]
    pairs = neighbours(regions, 100_000)
    np.testing.assert_array_equal(pairs, np.stack([np.arange(99_999), np.arange(1, 100_000)], 1))


def test_values_of_any_dtype_and_layout():
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 4), dtype=np.uint8)
    turned = values.transpose(1, 2, 0)
    expected = looped_means(turned, PICTURE, 4)
    for regions in (PICTURE.astype(np.uint8), PICTURE, PICTURE.astype(np.int64)):
        np.testing.assert_allclose(region_means(turned, regions, 4), expected, rtol=1e-12)
        assert len(neighbours(regions, 4)) == 6


@pytest.mark.parametrize("regions", [PICTURE - 1, PICTURE + 1, PICTURE.ravel()])
def test_bad_ids_are_refused(regions):
    with pytest.raises(ValueError, match="region"):
        neighbours(regions, 4)
    with pytest.raises(ValueError, match="region"):
        border_regions(regions, 4)
    with pytest.raises(ValueError, match="region"):
        region_means(np.zeros((*regions.shape, 1)), regions, 4)


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        region_means(np.zeros((4, 5, 1)), PICTURE, 4)
