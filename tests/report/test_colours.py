"""The colours of classes on a page, by an independent way to CIELAB."""

import cv2
import numpy as np
import pytest

from wsol_jax.data.index_png import voc_palette
from wsol_jax.report import colours


def lab(rgb):
    """OpenCV's, of floats: sRGB, D65."""
    pixels = np.asarray(rgb, np.float32).reshape(1, -1, 3) / 255
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[0].astype(np.float64)


def gaps(rgb):
    """(N, N) distances, infinite from itself."""
    places = lab(rgb)
    found = np.linalg.norm(places[:, None] - places, axis=-1)
    return found + np.diag(np.full(len(found), np.inf))


def test_cielab_is_opencvs():
    rgb = np.random.default_rng(0).integers(0, 256, (200, 3))
    np.testing.assert_allclose(colours.lab(rgb), lab(rgb), atol=0.5)
    np.testing.assert_allclose(colours.lab(np.array([255, 255, 255])), (100, 0, 0), atol=0.02)


def test_twenty_classes_can_be_told_apart():
    """VOC's palette has two at a distance of a third, and a grey one."""
    palette = colours.class_colours()
    shown = palette[[*range(21), 255]]  # background and no label among them
    assert gaps(shown).min() >= colours.LEAST_APART >= 35
    assert gaps(voc_palette()[[*range(21), 255]]).min() < colours.LEAST_APART
    chroma = np.hypot(*lab(palette[1:255])[:, 1:].T)
    assert chroma.min() > 30  # no grey among them


def test_painted_photos_keep_them_apart():
    """Three fifths of the colour over a grey photo, as ``paint_classes`` mixes them."""
    for grey in (40, 128, 220):
        painted = 0.4 * grey + 0.6 * colours.class_colours()[:21].astype(float)
        assert gaps(painted).min() > 12


def test_no_two_of_all_classes_are_equal():
    palette = colours.class_colours()
    assert len(np.unique(palette, axis=0)) == 256
    assert tuple(palette[0]) == (0, 0, 0) and tuple(palette[255]) == colours.NO_LABEL


@pytest.mark.parametrize("count", [5, 20])
def test_neighbours_are_far_apart(count):
    palette = lab(colours.class_colours()[1 : 1 + count])
    assert np.linalg.norm(np.diff(palette, axis=0), axis=1).min() > 40
