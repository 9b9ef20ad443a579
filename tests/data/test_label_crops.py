"""Labels of a window of a photo, against resampling by other means."""

import numpy as np
import pytest
from helpers.labels import write_labels
from scipy import ndimage

from wsol_jax.data.label_formats import LabelSpec, regions, soft_maps
from wsol_jax.data.pseudo_labels import BatchLabels, LabelFolder
from wsol_jax.data.transforms import Window, cut_labels, random_window

RNG = np.random.default_rng(0)


def places(window, shape, given):
    """Where each wanted cell's centre lies, in cells of what is given, by axis; 0 is a centre."""
    found = []
    for start, whole, wanted, cells in (
        (window.top, window.height, shape[0], given[0]),
        (window.left, window.width, shape[1], given[1]),
    ):
        pixels = start + (np.arange(wanted) + 0.5) * window.side / wanted
        found.append(pixels / whole * cells - 0.5)
    return found


@pytest.mark.parametrize("shape", [(5, 5), (9, 4), (1, 1), (40, 23)])
@pytest.mark.parametrize("given", [(5, 5), (17, 31), (1, 1), (60, 48)])
def test_ids_are_those_under_the_centres_and_maps_lie_between_them(shape, given):
    ids = RNG.integers(-(2**31), 2**31, given).astype(np.int32)
    maps = RNG.normal(size=(*given, 3)).astype(np.float32)
    for seed in range(20):
        window = random_window(37, 51, 29, np.random.default_rng(seed), 0.5)
        rows, columns = places(window, shape, given)
        flip = slice(None, None, -1 if window.mirrored else 1)
        # Half up: a centre on a border belongs to the cell behind it.
        nearest = [
            np.floor(at + 0.5 + 1e-9).astype(int).clip(0, size - 1)
            for at, size in ((rows, given[0]), (columns, given[1]))
        ]
        expected = ids[nearest[0][:, None], nearest[1]][:, flip]
        np.testing.assert_array_equal(cut_labels(ids, window, shape), expected)
        grid = np.meshgrid(rows, columns, indexing="ij")
        for channel in range(3):
            expected = ndimage.map_coordinates(
                maps[..., channel].astype(np.float64), grid, order=1, mode="nearest"
            )
            found = cut_labels(maps, window, shape)[..., channel]
            np.testing.assert_allclose(found, expected[:, flip], atol=1e-5)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 41, 100])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, np.float32])
def test_labels_of_a_whole_photo_stay_as_they_are(mirrored, size, dtype):
    values = (1000 * RNG.normal(size=(size, size, 2))).astype(dtype)
    if np.issubdtype(dtype, np.floating):
        values[0, 0] = -0.0, np.inf
    for side in (1, 12, 96, 321, 1000):
        window = Window(side, side, 0, 0, side, mirrored)
        found = cut_labels(values, window, (size, size))
        assert found.dtype == dtype and found.flags.c_contiguous
        assert found.tobytes() == (values[:, ::-1] if mirrored else values).tobytes()


def test_a_batch_carries_regions_and_soft_maps_of_its_window(tmp_path):
    place = LabelFolder(tmp_path, {"ids": regions(), "soft": soft_maps()})
    arrays = {
        "ids": RNG.integers(0, 9, (30, 40)).astype(np.int32),
        "soft": RNG.normal(size=(6, 8, 2)).astype(np.float16),
    }
    write_labels(place, "a", arrays)
    window = Window(30, 40, 4, 10, 24, True)
    ids = BatchLabels(place, "ids", LabelSpec((24, 24), np.int32, -1))
    np.testing.assert_array_equal(ids.read("a", window), arrays["ids"][4:28, 10:34][:, ::-1])
    assert (ids.missing() == -1).all() and ids.missing().dtype == np.int32
    soft = BatchLabels(place, "soft", LabelSpec((12, 12, 2), np.float32))
    found = soft.read("a", window)
    expected = cut_labels(arrays["soft"].astype(np.float32), window, (12, 12))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32 and found.shape == soft.missing().shape
