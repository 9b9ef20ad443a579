"""COCO's outlines as pixels, against slow loops and, where it is installed, COCO's own tools."""

import itertools

import cv2
import numpy as np
import pytest

from wsol_jax.data import rle
from wsol_jax.data.sources import coco_masks
from wsol_jax.data.sources.coco_masks import CocoObject, paint


def _runs_by_hand(mask):
    """Lengths of runs of 0, 1, 0, ... down the columns."""
    flat = [bool(value) for column in mask.T for value in column]
    runs = [(key, len(list(group))) for key, group in itertools.groupby(flat)]
    return ([] if not runs[0][0] else [0]) + [length for _, length in runs]


def _packed_by_hand(runs):
    """The text of COCO's packed masks: signed numbers, five bits a letter, lowest first."""
    letters = ""
    for i, run in enumerate(runs):
        value = run - (runs[i - 2] if i > 2 else 0)
        bits = []
        while True:
            five, value = value & 31, value >> 5
            done = value == (-1 if five & 16 else 0)
            bits.append(five if done else five | 32)
            if done:
                break
        letters += "".join(chr(48 + b) for b in bits)
    return letters


def _random_masks():
    rng = np.random.default_rng(1)
    for h, w in ((1, 1), (5, 3), (17, 40), (64, 48)):
        yield np.zeros((h, w), bool)
        yield np.ones((h, w), bool)
        yield rng.random((h, w)) < 0.5
        yield cv2.resize(rng.random((3, 3)), (w, h)) > 0.5


@pytest.mark.parametrize("mask", _random_masks())
def test_runs(mask):
    runs, size = _runs_by_hand(mask), mask.shape[::-1]
    np.testing.assert_array_equal(rle.fill_runs(np.array(runs), size), mask)
    np.testing.assert_array_equal(rle.unpack_runs(_packed_by_hand(runs)), runs)


def test_a_packed_mask_as_coco_writes_it():
    """By hand: 3x3, the middle pixel: runs 4, 1, 4; 4 and 1 and 4 are below 16, a letter each."""
    np.testing.assert_array_equal(rle.unpack_runs("414"), [4, 1, 4])
    # 100 = 0b11_00100: letters 4 | 32 and 3, 48 + 36 = "T" and "3"; then 1; then 5 - 0.
    np.testing.assert_array_equal(rle.unpack_runs("T315"), [100, 1, 5])
    # The fourth is a difference to the second: 1 + -1 = 0; -1 is 31, its sign bit set: "O".
    np.testing.assert_array_equal(rle.unpack_runs("T315O"), [100, 1, 5, 0])


@pytest.mark.parametrize("text", ["\x00", "T", "\N{GREEK SMALL LETTER ALPHA}", "TTTTTTTTTTTTT3"])
def test_a_text_that_is_no_mask(text):
    with pytest.raises(ValueError, match="packed mask"):
        rle.unpack_runs(text)


def _inside(corners, x, y):
    """Whether a point is inside a polygon: how often a ray to the right crosses it."""
    points = np.reshape(corners, (-1, 2))
    inside = False
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


POLYGONS = {
    "a box": [3, 2, 10, 2, 10, 8, 3, 8],
    "a triangle": [1.5, 1.5, 30.2, 4.1, 12.7, 20.9],
    "a star": [20, 1, 24, 12, 36, 12, 26, 18, 30, 29, 20, 22, 10, 29, 14, 18, 4, 12, 16, 12],
    "over the edges": [-5, -5, 50, 3, 45, 40, 2, 28],
    "a sliver": [4, 4, 30, 4.2, 4, 4.4],
}


@pytest.mark.parametrize("name", POLYGONS)
def test_a_polygon_holds_the_pixels_whose_middle_it_holds(name):
    """But for pixels that its outline cuts, which COCO's tools round their own way."""
    corners, (width, height) = POLYGONS[name], (40, 32)
    found = coco_masks.fill_polygon(np.array(corners, float), (width, height))
    wanted = np.array(
        [[_inside(corners, x + 0.5, y + 0.5) for x in range(width)] for y in range(height)]
    )
    outline = np.zeros((height, width), np.uint8)
    points = np.floor(np.reshape(corners, (-1, 2))).astype(np.int32)
    cv2.polylines(outline, [points], True, 1, thickness=2)
    clear = outline == 0
    np.testing.assert_array_equal(found[clear], wanted[clear])
    assert (found != wanted).sum() <= outline.sum()
    if name == "a box":
        np.testing.assert_array_equal(found, wanted)


def test_cocos_own_tools_agree():
    tools = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(2)
    polygons = [np.array(corners, float) for corners in POLYGONS.values()]
    polygons += [rng.uniform(-8, 70, 2 * n) for n in range(3, 20)]
    for corners in polygons:
        packed = tools.frPyObjects([corners.tolist()], 48, 56)
        found = coco_masks.fill_polygon(corners, (56, 48))
        np.testing.assert_array_equal(found, tools.decode(packed)[..., 0].astype(bool))
        runs = rle.unpack_runs(packed[0]["counts"].decode())
        np.testing.assert_array_equal(rle.fill_runs(runs, (56, 48)), found)
    for mask in _random_masks():
        packed = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
        np.testing.assert_array_equal(
            rle.unpack_runs(packed["counts"].decode()), _runs_by_hand(mask)
        )


def _square(label, x, y, side, **more):
    box = np.array([x, y, x + side, y, x + side, y + side, x, y + side], float)
    return CocoObject(label, polygons=(box,), **more)


def test_objects_in_one_mask():
    size = (12, 10)
    found = paint(
        [
            _square("cat", 0, 0, 4),
            _square("dog", 2, 2, 4),  # overlaps the cat
            _square("dog", 5, 2, 3),  # touches the other dog
            _square("emu", 0, 6, 3),  # no class here
            CocoObject("dog", box=(9, 0, 11, 2)),  # nobody outlined it
            _square("cat", 8, 6, 4, crowd=True),
        ],
        ("cat", "dog"),
        size,
    )
    wanted = np.zeros((10, 12), np.uint8)
    wanted[0:4, 0:4] = 1
    wanted[2:6, 2:6] = 2
    wanted[2:4, 2:4] = 255
    wanted[2:5, 5:8] = 2
    wanted[0:3, 9:12] = 255
    wanted[6:10, 8:12] = 255
    np.testing.assert_array_equal(found, wanted)
