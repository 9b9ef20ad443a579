"""Pictures: colours, where the boxes stand, and what the heat leaves of the photo."""

import cv2
import numpy as np

from wsol_jax.report import overlays


def luminance(rgb):
    """CIE L* of (..., 3) uint8 sRGB, by OpenCV."""
    return cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0]


def test_quantised_as_the_community_does():
    s = np.array([[0, 0.5, 1, 254.999 / 255, np.nan, 7]], np.float32)
    np.testing.assert_array_equal(overlays.quantise(s), [[0, 127, 255, 254, 0, 255]])


def test_heat_grows_evenly_lighter():
    ramp = luminance(overlays.colour_heat(np.linspace(0, 1, 256, dtype=np.float32)[None]))[0]
    assert ramp[0] < 3 and ramp[-1] > 90
    steps = np.diff(ramp[::16])
    assert steps.min() > 0.5 * steps.mean()  # perceptually uniform, as jet or turbo are not


def test_mask_has_a_colour_for_each_kind():
    mask = np.array([[0, 1, 255, 3]], np.uint8)
    got = overlays.colour_mask(mask)[0]
    colours = [overlays.MASK_COLOURS[k] for k in (0, 1, 255, 1)]
    np.testing.assert_array_equal(got, colours)
    np.testing.assert_array_equal(overlays.colour_mask(mask == 1)[0, :2], colours[:2])


def test_heat_is_light_added_to_the_dimmed_photo():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    score = rng.random((20, 30), np.float32)
    got = overlays.overlay(photo, score, np.zeros((0, 4)), alpha=0.25)
    p, h = photo / 255, overlays.colour_heat(score) / 255
    expected = 255 * (0.75 * p + 0.5 * h - 0.75 * p * 0.5 * h)
    assert got.dtype == np.uint8
    np.testing.assert_allclose(got, expected, atol=0.51)
    np.testing.assert_array_equal(
        overlays.overlay(photo, score, (), alpha=1.0), overlays.colour_heat(score)
    )
    np.testing.assert_array_equal(overlays.overlay(photo, score, (), alpha=0.0), photo)
    before = photo.copy()
    np.testing.assert_array_equal(overlays.overlay(photo, None, ()), before)
    overlays.overlay(photo, None, [[1, 1, 9, 9]])
    np.testing.assert_array_equal(photo, before)


def test_boxes_stand_on_their_pixels():
    photo = np.full((100, 160, 3), 90, np.uint8)
    got = overlays.overlay(photo, None, [[100, 20, 150, 80]], [[10, 30, 60, 70]])
    truth = (got == overlays.TRUTH).all(-1)
    ours = (got == overlays.OURS).all(-1)
    for found, box in ((truth, (10, 30, 60, 70)), (ours, (100, 20, 150, 80))):
        y, x = np.nonzero(found)
        np.testing.assert_allclose([x.min(), y.min(), x.max(), y.max()], box, atol=1)
    assert truth[30, 10:61].all()  # solid
    assert 0.3 < ours[20, 100:151].mean() < 0.8  # dashed
    assert (got[40:60, 25:45] == 90).all()  # and nothing inside


def test_box_at_the_border_and_caption_stay_inside():
    photo = np.full((120, 200, 3), 90, np.uint8)
    got = overlays.overlay(photo, None, [[0, 0, 199, 119]], captions=["Katze é 97 %"])
    assert got.shape == photo.shape
    ours = (got == overlays.OURS).all(-1)
    y, x = np.nonzero(ours)
    assert x.min() <= 2 and y.min() <= 2 and x.max() >= 197 and y.max() >= 117
    assert ours[:12, :40].mean() > 0.4  # the caption's ground


def test_empty_and_degenerate_boxes_do_not_fail():
    photo = np.zeros((8, 8, 3), np.uint8)
    for box in ([3, 3, 3, 3], [0, 0, 0, 0], [7, 7, 7, 7]):
        assert overlays.overlay(photo, np.zeros((4, 4)), [box]).shape == photo.shape


def test_captions_of_boxes_that_begin_at_one_corner_stand_below_one_another():
    photo = np.zeros((120, 200, 3), np.uint8)
    boxes = np.array([[10, 10, 150, 100], [10, 10, 90, 60]], float)
    both = overlays.overlay(photo, None, boxes, captions=["dog 72 %", "cat 62 %"])
    one = overlays.overlay(photo, None, boxes, captions=["dog 72 %"])
    # Whatever the second caption changed, the first one's place is as it was.
    changed = (both != one).any(axis=-1)
    assert changed.any() and not changed[12:20, 14:60].any()
