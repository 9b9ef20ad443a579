"""Crops, flips and resizes, against slices by hand, binomial bounds and Pillow."""

import numpy as np
import pytest
from PIL import Image

from wsol_jax.data import transforms

# Every pixel differs: red is the row, green the column.
ROWS, COLUMNS = np.mgrid[:24, :31]
GRID = np.stack([ROWS, COLUMNS, 0 * ROWS], -1).astype(np.uint8)


def random_crop(image, crop, rng, flip):
    return transforms.cut(image, transforms.random_window(*image.shape[:2], crop, rng, flip))


def test_crops_lie_inside_and_reach_every_place():
    places = set()
    for seed in range(600):
        window = random_crop(GRID, 22, np.random.default_rng(seed), flip=0.0)
        top, left = window[0, 0, :2]
        np.testing.assert_array_equal(window, GRID[top : top + 22, left : left + 22])
        places.add((int(top), int(left)))
    assert places == {(y, x) for y in range(3) for x in range(10)}


@pytest.mark.parametrize("flip, low, high", [(0.0, 0, 0), (0.5, 420, 580), (1.0, 1000, 1000)])
def test_flip_probability(flip, low, high):
    mirrored = 0
    for seed in range(1000):
        window = random_crop(GRID, 24, np.random.default_rng(seed), flip)
        mirrored += int(window[0, 0, 1] > window[0, -1, 1])
    assert low <= mirrored <= high


def test_a_mirrored_crop_is_its_window_reversed_and_contiguous():
    window = random_crop(GRID, 24, np.random.default_rng(0), flip=1.0)
    assert window.flags.c_contiguous
    left = int(window[0, -1, 1])
    np.testing.assert_array_equal(window, GRID[:24, left : left + 24][:, ::-1])


def test_a_crop_of_the_whole_image():
    square = GRID[:24, :24]
    window = random_crop(square, 24, np.random.default_rng(0), flip=0.0)
    np.testing.assert_array_equal(window, square)


def test_ten_crops_layout():
    crops = transforms.ten_crops(GRID, 20)
    assert crops.shape == (10, 20, 20, 3)
    places = [(0, 0), (0, 11), (4, 0), (4, 11), (2, 5)]
    for crop, mirror, (top, left) in zip(crops[:5], crops[5:], places, strict=True):
        np.testing.assert_array_equal(crop, GRID[top : top + 20, left : left + 20])
        np.testing.assert_array_equal(mirror, crop[:, ::-1])


@pytest.mark.parametrize("image", [GRID, GRID.transpose(1, 0, 2)])
def test_the_center_of_a_photo_at_another_size(image):
    """The shorter side of 24 pixels at 48: a pixel is two, but for the ramp between them."""
    found = transforms.view(image, 20, 24)
    top, left = (image.shape[0] - 20) // 2, (image.shape[1] - 20) // 2
    np.testing.assert_array_equal(found, image[top : top + 20, left : left + 20])
    large = transforms.view(image, 40, 48).astype(int)
    assert large.shape == (40, 40, 3)
    assert np.abs(large[::2, ::2] - found).max() <= 1


def test_the_whole_of_a_test_photo_or_its_middle():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 30:50] = 200
    whole, middle = transforms.view(image, 20), transforms.view(image, 20, 20)
    assert whole.shape == middle.shape == (20, 20, 3)
    assert (whole[:, :7] == 0).all() and (whole[:, 8:12] == 200).all()
    assert (middle[:, :4] == 0).all() and (middle[:, 6:14] == 200).all()


def photo(height, width):
    """Smooth, so that only the geometry of a resize can differ between libraries."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + y / 17 + k) * 100 + 128 for k in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


@pytest.mark.parametrize("size", [(96, 80), (40, 50), (20, 16), (64, 48)])
def test_resize_agrees_with_pillow(size):
    """Pillow's bilinear is antialiased; ours is where it shrinks by more than half."""
    image = photo(48, 64)
    expected = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR), int)
    found = transforms.resize(image, *size).astype(int)
    assert found.shape == (size[1], size[0], 3)
    assert np.abs(found - expected).mean() < 2.0
    assert np.abs(found - expected).max() <= 12


def test_far_shrinking_averages():
    """A chequerboard becomes grey, not a chequerboard of another size."""
    board = np.where(np.indices((96, 96)).sum(0) % 2, 255, 0).astype(np.uint8)
    small = transforms.resize(np.repeat(board[..., None], 3, -1), 32, 32)
    assert small.min() > 100 and small.max() < 156


def test_warp_and_shorter():
    image = photo(50, 100)
    assert transforms.resize_for_crop(image, 40, "warp", 8).shape == (40, 40, 3)
    assert transforms.resize_for_crop(image, 40, "shorter", 8).shape == (40, 80, 3)
    assert transforms.resize_for_crop(image.swapaxes(0, 1), 40, "shorter", 8).shape == (80, 40, 3)
    assert transforms.resize_for_crop(photo(3, 1000), 40, "shorter", 8).shape[0] == 40


@pytest.mark.parametrize("height, width", [(33, 35), (101, 37), (7, 7)])
def test_shorter_never_falls_under_the_size(height, width):
    """Rounding must not make the side one pixel too short for the crop."""
    for size in range(8, 60):
        shape = transforms.resize_for_crop(photo(height, width), size, "shorter", 8).shape
        assert min(shape[:2]) == size


@pytest.mark.parametrize("crop", [8, 24])
@pytest.mark.parametrize("size", [0, 16, 99])
def test_none_leaves_a_photo_as_it_is_stored(crop, size):
    found = transforms.resize_for_crop(GRID, size, "none", crop)
    np.testing.assert_array_equal(found, GRID)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (7, 100), (39, 40), (41, 39)])
def test_none_enlarges_a_photo_until_the_crop_fits(shape):
    """As Pillow would; the proportions are kept to a pixel."""
    image = photo(*shape)
    found = transforms.resize_for_crop(image, 16, "none", 40)
    assert min(found.shape[:2]) == 40
    assert max(found.shape[:2]) == pytest.approx(40 * max(shape) / min(shape), abs=0.51)
    wanted = Image.fromarray(image).resize(found.shape[1::-1], Image.Resampling.BILINEAR)
    assert np.abs(found.astype(int) - np.asarray(wanted, int)).max() <= 2
