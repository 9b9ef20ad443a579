"""Location AP against loops over images and resamples, scikit-learn, and by hand."""

import numpy as np
import pytest
from helpers.resamples import loop, same_figures

from wsol_jax.metrics.location import LocationAP, peaks

CLASSES = 4


@pytest.fixture
def average_precision_score():
    """scikit-learn's, of the test extra."""
    return pytest.importorskip("sklearn.metrics").average_precision_score


def naive_location(images, tolerance):
    """Class by class: falling confidences, a point for each distinct one.

    Difficult objects as in VOCevaldet: no positives, and what falls on them alone is passed over.
    """
    found = []
    for c in range(CLASSES):
        entries, positives = [], 0
        for _, maps, boxes, labels, (width, height), original, *marked in images:
            plane = maps[..., c]
            y, x = np.unravel_index(plane.argmax(), plane.shape)
            ok = passed = there = False
            tx = tolerance * width / (original or (width, height))[0]
            ty = tolerance * height / (original or (width, height))[1]
            difficult = marked[0] if marked else [False] * len(labels)
            for (x0, y0, x1, y1), label, hard in zip(boxes, labels, difficult, strict=True):
                if label != c:
                    continue
                there = there or not hard
                if x0 - tx <= x <= x1 + tx and y0 - ty <= y <= y1 + ty:
                    if hard:
                        passed = True
                    else:
                        ok = True
            positives += there
            if ok or not passed:
                entries.append((plane.max(), ok))
        if not positives:
            found.append(np.nan)
            continue
        ap, before = 0.0, 0
        for level in sorted({s for s, _ in entries}, reverse=True):
            above = [ok for s, ok in entries if s >= level]
            ap += sum(above) / len(above) * (sum(above) - before) / positives
            before = sum(above)
        found.append(ap)
    return found


def location_images(n=12, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(n):
        width, height = rng.integers(30, 50, 2)
        maps = np.round(rng.random((height, width, CLASSES)), 2).astype(np.float32)
        maps *= np.round(rng.random(CLASSES), 1).astype(np.float32)  # ties between images
        count = (1, 0, 3, 2)[i % 4]
        corner = rng.integers(0, 25, (count, 2))
        boxes = np.concatenate([corner, corner + rng.integers(0, 20, (count, 2))], axis=1)
        labels = rng.integers(0, CLASSES - 1, count)  # the last class is in no image
        original = None if i % 2 else (2 * int(width), 3 * int(height))
        yield f"i{i}", maps, boxes, labels, (int(width), int(height)), original


def located(images, tolerance=5.0):
    metric = LocationAP(CLASSES, tolerance)
    for image in images:
        metric.update(*image)
    return metric


def test_tolerance_by_hand():
    # A peak at (40, 10) and boxes whose right edge is at x: 18 px more at the original size.
    maps = np.zeros((30, 60, 1), np.float32)
    maps[10, 40, 0] = 1
    cases = [((0, 0, 22, 29), None, True), ((0, 0, 21, 29), None, False)]
    cases += [((0, 0, 31, 29), (120, 60), True), ((0, 0, 30, 29), (120, 60), False)]
    cases += [((58, 28, 59, 29), None, True), ((59, 28, 59, 29), None, False)]
    cases += [((40, 19, 40, 19), (60, 60), True), ((40, 20, 40, 20), (60, 60), False)]
    for box, original, right in cases:
        metric = LocationAP(1)
        metric.update("a", maps, [box], [0], (60, 30), original)
        assert metric.compute() == {"map": float(right), "ap": [float(right)]}


def test_absent_classes_are_false_positives_by_hand():
    def image(metric, name, score, labels, right):
        maps = np.zeros((8, 8, 1), np.float32)
        maps[1, 1] = score
        corner = 0 if right else 4
        boxes = [[corner, corner, corner + 2, corner + 2]] * len(labels)
        metric.update(name, maps, boxes, labels, (8, 8))

    metric = LocationAP(1, 1.5)
    image(metric, "a", 0.9, [0], True)
    image(metric, "b", 0.8, [], False)  # the class is absent: wrong, and nothing to find
    image(metric, "c", 0.7, [0], False)  # missed: wrong, and something to find
    image(metric, "d", 0.6, [0, 0], True)
    assert metric.compute()["map"] == pytest.approx((1 / 1 + 2 / 4) / 3, rel=1e-15)
    assert metric.compute("all")["map"] == metric.compute()["map"]
    assert metric.compute("11")["map"] == pytest.approx((4 * 1 + 3 * 2 / 4) / 11, rel=1e-15)
    with pytest.raises(ValueError, match="interpolation"):
        metric.compute("12")


def test_location_equals_a_loop_and_scikit_learn(average_precision_score):
    images = list(location_images(30))
    found = located(images).compute()
    want = naive_location(images, 5.0)
    assert np.isnan(want[-1])
    np.testing.assert_allclose(found["ap"], want, rtol=1e-12)
    assert found["map"] == pytest.approx(np.nanmean(want), rel=1e-12)
    rows = located(images).images.rows()
    for c in range(CLASSES - 1):
        score, state = rows[:, c].T
        share = np.count_nonzero(state == 2) / np.count_nonzero(state)
        assert found["ap"][c] == pytest.approx(
            share * average_precision_score(state == 2, score), rel=1e-12
        )


def test_difficult_objects_are_no_positives_and_no_false_alarms():
    rng = np.random.default_rng(8)
    images = [(*image, rng.random(len(image[3])) < 0.5) for image in location_images(400)]
    metric = located(images)
    states = metric.images.rows()[..., 1]
    assert set(states.ravel()) == {-1, 0, 1, 2, 3}  # each has its images here
    plain = located([image[:-1] for image in images]).compute()
    found = metric.compute()
    assert (found["ap"][:-1] != plain["ap"][:-1]).all()
    np.testing.assert_allclose(found["ap"], naive_location(images, 5.0), rtol=1e-12)
    same_figures(LocationAP.from_arrays(metric.to_arrays()).compute(), found)
    none, every = (
        located([(*image[:-1], marks(len(image[3]), bool)) for image in images]).compute()
        for marks in (np.zeros, np.ones)
    )
    same_figures(none, plain)
    assert np.isnan(every["ap"]).all()


def test_difficult_objects_by_hand():
    easy, hard, elsewhere = [0, 0, 2, 2], [5, 5, 7, 7], [0, 5, 2, 7]

    def image(metric, name, score, boxes, difficult):
        maps = np.zeros((8, 8, 1), np.float32)
        maps[6, 6] = score
        metric.update(name, maps, boxes, [0] * len(boxes), (8, 8), difficult=np.array(difficult))

    metric = LocationAP(1, 0.0)
    image(metric, "a", 0.9, [hard], [True])  # passed over
    image(metric, "b", 0.8, [hard], [False])  # right
    image(metric, "c", 0.7, [easy, hard], [False, True])  # passed over, and one is to be found
    image(metric, "d", 0.6, [elsewhere], [True])  # wrong, and nothing is to be found
    image(metric, "e", 0.5, [hard, hard], [True, False])  # right
    for how in ("none", "all"):
        assert metric.compute(how)["map"] == pytest.approx((1 / 1 + 2 / 3) / 3, rel=1e-15)
    with pytest.raises(ValueError, match="1 boxes, but"):
        image(metric, "f", 0.5, [hard], [True, False])


def test_peaks_are_those_of_the_enlarged_maps():
    maps = np.zeros((4, 5, 3))
    maps[1, 2, 0], maps[3, 4, 1] = 3.0, -1.0
    maps[..., 1] -= 1
    points, scores = peaks(maps, (5, 4))
    np.testing.assert_array_equal(points, [[2, 1], [0, 0], [0, 0]])
    np.testing.assert_array_equal(scores, [3, -1, 0])
    points, scores = peaks(maps.astype(np.float16), (50, 40))
    # Half-pixel centres: 24.5 and 14.5 in the enlarged image, the four pixels around are .95 of 3.
    np.testing.assert_array_equal(points[0], [24, 14])
    assert scores[0] == pytest.approx(3 * 0.95**2, rel=1e-6)
    many = np.random.default_rng(0).random((7, 9, 600)).astype(np.float32)
    assert (peaks(many, (9, 7))[1] == many.max(axis=(0, 1))).all()


def test_location_merges_in_any_order_with_the_same_bits():
    images = list(location_images())
    whole = located(images)
    rng = np.random.default_rng(3)
    for _ in range(8):
        order, cuts = rng.permutation(12), sorted(rng.integers(0, 13, 2))
        parts = [located([images[i] for i in part]) for part in np.split(order, cuts)]
        merged = parts[1].merge(LocationAP.from_arrays(parts[2].to_arrays())).merge(parts[0])
        for how in ("none", "all", "11"):
            same_figures(merged.compute(how), whole.compute(how))
        same_figures(merged.intervals(resamples=30), whole.intervals(resamples=30))
    with pytest.raises(ValueError, match="tolerances"):
        whole.merge(LocationAP(CLASSES))


@pytest.mark.parametrize("how", ["none", "all", "11"])
def test_location_bootstrap_and_pairs(how):
    images = list(location_images(6))
    other = [(i, m[::-1], *rest) for i, m, *rest in images]
    drawn = np.random.default_rng(1).integers(0, 6, (60, 6))

    class Made:
        def __init__(self, copies):
            self.metric = located(copies)

        def compute(self):
            return self.metric.compute(how)

    a, b = (loop(Made, run, drawn) for run in (images, other))
    got = located(images).intervals(seed=1, resamples=60, interpolation=how)
    assert np.isnan(got["ap"][-1]).all()
    for name in ("map", "ap"):
        known = ~np.isnan(a[name].reshape(60, -1)).all(axis=0)
        ends, values = np.atleast_2d(got[name])[known], a[name].reshape(60, -1)[:, known]
        want = np.nanquantile(values, (0.025, 0.975), axis=0).T
        np.testing.assert_allclose(ends, want, rtol=1e-9, atol=1e-12)
    found = located(images).compare(located(other), seed=1, resamples=60, interpolation=how)
    ends = np.nanquantile(b["map"] - a["map"], (0.025, 0.975))
    np.testing.assert_allclose((found["map"].low, found["map"].high), ends, rtol=1e-9)
    with pytest.raises(ValueError, match="different images"):
        located(images).compare(located(other[1:]))


def test_location_intervals_cover_a_known_binomial():
    # Every image has the class, confidences tie: AP is the share found squared.
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        metric = LocationAP(1)
        state = np.stack([np.ones(100), 1.0 + (rng.random(100) < 0.7)], axis=1)
        metric.images.update([f"{i:03d}" for i in range(100)], state[:, None])
        low, high = metric.intervals(resamples=300)["map"]
        covered += low <= 0.7**2 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_location_without_images():
    for found in (LocationAP(2).compute(), LocationAP(2).intervals(resamples=5)):
        assert all(np.isnan(v).all() for v in found.values())


@pytest.mark.parametrize(
    ("maps", "boxes", "labels", "message"),
    [
        (np.zeros((0, 3, 2)), [], [], "shape"),
        (np.zeros((3, 3)), [], [], "shape"),
        (np.full((3, 3, 2), np.nan), [], [], "NaN"),
        (np.zeros((3, 3, 3)), [], [], "2 classes, but 3 maps"),
        (np.zeros((3, 3, 2)), [[0, 0, 1]], [0], "labels"),
        (np.zeros((3, 3, 2)), [[0, 0, 1, 1]], [0, 1], "labels"),
        (np.zeros((3, 3, 2)), [[1, 0, 0, 1]], [0], "x0 <= x1"),
        (np.zeros((3, 3, 2)), [[0, 0, np.nan, 1]], [0], "x0 <= x1"),
        (np.zeros((3, 3, 2)), [[0, 0, 1, 1]], [2], "0 to 1"),
    ],
)
def test_bad_locations_are_refused(maps, boxes, labels, message):
    metric = LocationAP(2)
    with pytest.raises(ValueError, match=message):
        metric.update("a", maps, boxes, labels, (3, 3))
    assert len(metric) == 0


def test_bad_tolerances_are_refused():
    for classes, tolerance in ((0, 1), (1, -1), (1, np.nan)):
        with pytest.raises(ValueError, match="tolerance"):
            LocationAP(classes, tolerance)
