"""Boxes at all thresholds against OpenCV's contour route, written down independently here."""

import cv2
import numba.core.caching
import numpy as np
import pytest
from skimage.filters import threshold_otsu

from wsol_jax.metrics.boxes import (
    THRESHOLDS,
    best_ious,
    boxes_from_score_map,
    iou,
    largest_contours,
    otsu_threshold,
    resize_box,
)


def contour_route(score_map, thresholds, multi_contour):
    """The community's definition: threshold, find contours, bounding rectangles."""
    height, width = score_map.shape
    image = (score_map * 255).astype(np.uint8)
    known, found = {}, []
    for tau in thresholds:
        cut = int(tau * image.max())
        if cut not in known:  # the only thing a threshold decides
            _, binary = cv2.threshold(image, cut, 255, cv2.THRESH_BINARY)
            contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
            if contours and not multi_contour:
                contours = [max(contours, key=cv2.contourArea)]
            boxes = []
            for contour in contours:
                x, y, w, h = cv2.boundingRect(contour)
                boxes.append([x, y, min(x + w, width - 1), min(y + h, height - 1)])
            known[cut] = np.array(boxes or [[0, 0, 0, 0]])
        found.append(known[cut])
    return found


def scaled(a):
    a = a.astype(np.float32)
    a = a - a.min()
    return a / max(a.max(), np.float32(1e-12))


def noise(rng, cells, size):
    return scaled(
        cv2.resize(rng.random((cells, cells)), (size, size), interpolation=cv2.INTER_CUBIC)
    )


def blobs(rng, size, border):
    y, x = np.mgrid[:size, :size] / size
    total = np.zeros((size, size))
    for _ in range(rng.integers(2, 8)):
        cx, cy = rng.choice([0.0, 1.0, rng.random()], 2) if border else rng.uniform(0.2, 0.8, 2)
        sx, sy = rng.uniform(0.03, 0.3, 2)
        total += rng.random() * np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)
    return scaled(total)


def plateaus(rng, size):
    levels = rng.integers(1, 7)
    return scaled(np.round(noise(rng, rng.integers(3, max(4, size // 3)), size) * levels))


def rings(rng, size):
    """Rings with cores in rings, of whole pixel widths, some with spikes or gaps."""
    canvas = np.zeros((size, size))
    for _ in range(rng.integers(1, 5)):
        center = tuple(int(v) for v in rng.integers(0, size, 2))
        for radius in range(int(rng.integers(2, size // 2)), 0, -int(rng.integers(2, 9))):
            value, thick = float(rng.integers(1, 9)), int(rng.choice([1, 1, 2, -1]))
            if rng.random() < 0.5:
                cv2.circle(canvas, center, radius, value, thick)
            else:
                corner = tuple(c + radius for c in center)
                cv2.rectangle(canvas, tuple(c - radius for c in center), corner, value, thick)
        if rng.random() < 0.7:
            end = tuple(int(v) for v in rng.integers(0, size, 2))
            cv2.line(canvas, center, end, float(rng.integers(0, 9)), 1)
    return scaled(canvas)


def diagonals(rng, size):
    y, x = np.mgrid[:size, :size]
    a, b = rng.integers(1, 4), rng.integers(2, 6)
    lines = ((x + a * y) % b == 0) * 2.0 + ((x - y) % (b + 3) == 0)
    return scaled(lines * np.round(4 * noise(rng, 5, size)))


def pixel_noise(rng, size):
    shape = rng.integers(1, 30, 2)
    return scaled(np.floor(rng.random(shape) * rng.choice([2, 3, 5, 300])))


def constant(rng, size):
    return np.full((size, size), rng.choice([0.0, 0.37, 1.0]), np.float32)


KINDS = {
    "noise7": lambda rng, size: noise(rng, 7, size),
    "noise14": lambda rng, size: noise(rng, 14, size),
    "noise28": lambda rng, size: noise(rng, 28, size),
    "blobs": lambda rng, size: blobs(rng, size, False),
    "border": lambda rng, size: blobs(rng, size, True),
    "plateaus": plateaus,
    "rings": rings,
    "diagonals": diagonals,
    "pixel_noise": pixel_noise,
    "constant": constant,
}
LARGE = {"diagonals": 80}  # thousands of contours, over which OpenCV takes seconds at 224


def assert_identical(score_map):
    for multi_contour in (False, True):
        ours = boxes_from_score_map(score_map, THRESHOLDS, multi_contour=multi_contour)
        theirs = contour_route(score_map, THRESHOLDS, multi_contour)
        assert len(ours) == len(theirs) == 1000
        for tau, a, b in zip(THRESHOLDS, ours, theirs, strict=True):
            assert np.issubdtype(a.dtype, np.integer)
            np.testing.assert_array_equal(a, b, err_msg=f"tau {tau}, multi {multi_contour}")


@pytest.mark.parametrize("kind", KINDS)
def test_identical_to_contours(kind):
    rng = np.random.default_rng(sorted(KINDS).index(kind))
    for size in (LARGE.get(kind, 224), 40, 33, 32, 31, 17):
        assert_identical(KINDS[kind](rng, size))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_identical_to_contours_on_a_thousand_maps(kind):
    rng = np.random.default_rng(100 + sorted(KINDS).index(kind))
    for _ in range(100):
        assert_identical(KINDS[kind](rng, LARGE.get(kind, 224)))


def test_float64_maps_quantise_in_their_own_precision():
    rng = np.random.default_rng(5)
    assert_identical(rng.integers(0, 256, (40, 40)) / 255)


def picture(text):
    return np.array([[int(c) / 9 for c in row] for row in text.split()])


def test_one_pixel_and_its_clamped_box():
    boxes = boxes_from_score_map(picture("000 090 000"), [0.5])
    np.testing.assert_array_equal(boxes, [[[1, 1, 2, 2]]])
    boxes = boxes_from_score_map(picture("000 000 009"), [0.5])
    np.testing.assert_array_equal(boxes, [[[2, 2, 2, 2]]])


def test_strictly_above_the_truncated_level():
    scores = np.array([[10, 10, 11, 0]]) / 11  # 231, 231, 255, 0
    # int(tau * 255) = 230 lets both values through, 231 only the higher one.
    boxes = boxes_from_score_map(scores, [230.9 / 255, 231.1 / 255])
    np.testing.assert_array_equal(boxes[:, 0], [[0, 0, 3, 0], [2, 0, 3, 0]])


def test_area_is_the_polygons_not_the_pixels():
    # Nine pixels in a row enclose nothing; a 2x2 square encloses 1.
    row_and_square = picture("99999999900 00000000000 00000000099 00000000099")
    np.testing.assert_array_equal(boxes_from_score_map(row_and_square, [0])[0], [[9, 2, 10, 3]])


def test_of_equal_areas_the_lower_one_is_first():
    two = picture("9900000 9900000 0000000 0000099 0000099")
    np.testing.assert_array_equal(boxes_from_score_map(two, [0])[0], [[5, 3, 6, 4]])
    found = boxes_from_score_map(two, [0], multi_contour=True)[0]
    np.testing.assert_array_equal(found, [[5, 3, 6, 4], [0, 0, 2, 2]])


def test_a_hole_ties_with_its_ring_and_loses():
    # A diamond with a tail: ring and hole both enclose area 2, only the ring's box has the tail.
    diamond = picture("00000000 00900000 09090000 00900000 00090000 00009000 00000000")
    np.testing.assert_array_equal(boxes_from_score_map(diamond, [0])[0], [[1, 1, 5, 6]])
    found = boxes_from_score_map(diamond, [0], multi_contour=True)[0]
    np.testing.assert_array_equal(found, [[1, 1, 5, 6], [1, 1, 4, 4]])


def test_nothing_and_everything():
    zeros, ones = np.zeros((5, 7)), np.ones((5, 7))
    for multi_contour in (False, True):
        for scores, taus, want in (
            (zeros, [0, 0.5], [0, 0, 0, 0]),
            (ones, [0, 0.999], [0, 0, 6, 4]),
            (ones, [1], [0, 0, 0, 0]),
            (ones / 2, [-1], [0, 0, 6, 4]),
            (zeros, [], None),
        ):
            boxes = boxes_from_score_map(scores, taus, multi_contour=multi_contour)
            assert len(boxes) == len(taus)
            for box in boxes:
                np.testing.assert_array_equal(box, [want])


def test_thresholds_in_any_order_and_shared_arrays_cannot_be_changed():
    scores = noise(np.random.default_rng(0), 7, 40)
    rising = boxes_from_score_map(scores, [0.1, 0.4, 0.8], multi_contour=True)
    falling = boxes_from_score_map(scores, [0.8, 0.4, 0.1], multi_contour=True)
    for a, b in zip(rising, falling[::-1], strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="read-only"):
        rising[0][0, 0] = 1


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.full((3, 3), np.nan), "NaN"),
        (np.array([[0.0, np.nan], [1.0, 0.5]]), "NaN"),
        (np.array([[0.0, 1.5]]), r"\[0, 1\]"),
        (np.array([[-0.1, 0.5]]), r"\[0, 1\]"),
        (np.array([[np.inf, 0.5]]), r"\[0, 1\]"),
        (np.zeros((2, 3, 1)), "shape"),
        (np.zeros((0, 3)), "shape"),
    ],
)
def test_bad_maps_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        boxes_from_score_map(scores, [0.5])


def test_a_nan_threshold_is_refused():
    with pytest.raises(ValueError, match="threshold"):
        boxes_from_score_map(np.zeros((3, 3)), [np.nan])


def test_best_ious_are_those_of_the_boxes():
    rng = np.random.default_rng(1)
    gt = np.array([[20, 30, 90, 100], [60, 10, 80, 25]])
    for cells in (7, 28):
        scores = noise(rng, cells, 112)
        for multi_contour in (False, True):
            got = best_ious(scores, gt, THRESHOLDS, multi_contour=multi_contour)
            want = [
                max(pair_iou(box, truth) for box in boxes for truth in gt)
                for boxes in contour_route(scores, THRESHOLDS, multi_contour)
            ]
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="ground truth"):
        best_ious(scores, np.zeros((0, 4)), [0.5])


def test_largest_contours_in_order():
    scores = picture("990000000 990000000 000009999 000009009 000009999 000000000 990000000")
    found = largest_contours(scores, 0.5, 4)  # the ring (6), its hole (4), the square, the pair
    ring, hole, square = [5, 2, 8, 5], [5, 2, 8, 5], [0, 0, 2, 2]
    np.testing.assert_array_equal(found, [ring, hole, square, [0, 6, 2, 6]])
    np.testing.assert_array_equal(largest_contours(scores, 0.5, 1), [ring])
    np.testing.assert_array_equal(largest_contours(np.zeros((4, 4)), 0.5, 2), [[0, 0, 0, 0]])
    rng = np.random.default_rng(2)
    for _ in range(20):
        scores, tau = noise(rng, 14, 60), rng.choice(THRESHOLDS)
        largest = boxes_from_score_map(scores, [tau])[0]
        np.testing.assert_array_equal(largest_contours(scores, tau, 1), largest)


def pair_iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0]) + 1
    h = min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(w, 0) * max(h, 0)
    area = lambda r: (r[2] - r[0] + 1) * (r[3] - r[1] + 1)
    return shared / (area(a) + area(b) - shared)


def test_iou_by_counting_pixels():
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 20, (2, 12, 2, 2))
    a, b = (np.concatenate([c.min(axis=1), c.max(axis=1)], axis=1) for c in corners)

    def paint(box):
        canvas = np.zeros((20, 20), bool)
        canvas[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
        return canvas

    want = [[(paint(p) & paint(q)).sum() / (paint(p) | paint(q)).sum() for q in b] for p in a]
    got = iou(a, b)
    assert got.shape == (12, 12)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert iou(np.zeros((0, 4)), b).shape == (0, 12)


@pytest.mark.parametrize("box", [[5, 0, 4, 3], [0, 5, 3, 4], [0, np.nan, 3, 4]])
def test_reversed_corners_are_refused(box):
    fine = [[0, 0, 1, 1]]
    with pytest.raises(ValueError, match="x0 <= x1"):
        iou([box], fine)
    with pytest.raises(ValueError, match="x0 <= x1"):
        iou(fine, [box])


def test_resize_box_truncates():
    # 100 * 224 / 500 = 44.8, 50 * 224 / 375 = 29.87, 499 -> 223.55, 374 -> 223.40
    np.testing.assert_array_equal(
        resize_box([100, 50, 499, 374], (500, 375), (224, 224)), [44, 29, 223, 223]
    )
    many = resize_box(np.array([[1, 2, 3, 4]] * 3, np.float32), (10, 20), (20, 10))
    np.testing.assert_array_equal(many, [[2, 1, 6, 2]] * 3)


def test_compiles_where_no_cache_can_be_written(monkeypatch):
    from wsol_jax.metrics import _contours

    monkeypatch.setattr(numba.core.caching.CompileResultCacheImpl, "_locator_classes", [])

    def double(x):
        return 2 * x

    assert _contours._jit(double)(4) == 8


def test_otsus_threshold_is_scikit_images_of_all_pixels():
    rng = np.random.default_rng(0)
    maps = [np.clip(rng.normal(m, 0.07, (40, 50)), 0, 1) for m in (0.2, 0.25, 0.8)]
    found = otsu_threshold(maps)
    pixels = np.concatenate([np.floor(255 * m).ravel() for m in maps]).astype(np.uint8)
    cut = threshold_otsu(pixels)
    assert int(found * 255) == cut and 0.3 < found < 0.7
    with pytest.raises(ValueError, match="one value"):
        otsu_threshold([np.zeros((3, 3))])
