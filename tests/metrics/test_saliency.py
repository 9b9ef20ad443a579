"""Saliency and location AP against scikit-learn, loops over images and resamples, and by hand."""

import time

import numpy as np
import pytest

from wsol_jax.metrics.masks import PixelAP
from wsol_jax.metrics.ranking import ranked_average_precision
from wsol_jax.metrics.saliency import (
    RAW_EDGES,
    UNIT_EDGES,
    LocationAP,
    SaliencyAP,
    peaks,
)

CLASSES = 4


@pytest.fixture
def average_precision_score():
    """scikit-learn's, of the test extra."""
    return pytest.importorskip("sklearn.metrics").average_precision_score


def random_images(n=7, seed=0, raw=False):
    """Images with none to three classes each, maps that know a little about them."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        shape = tuple(rng.integers(11, 24, 2))
        mask = rng.choice([0, 0, *rng.integers(1, CLASSES + 1, 2), 255], shape).astype(np.uint8)
        maps = 0.7 * rng.random((*shape, CLASSES), np.float32)
        maps += 0.3 * (mask[..., None] == np.arange(1, CLASSES + 1))
        yield f"i{i}", (4 * maps - 2).astype(np.float32) if raw else maps.clip(0, 1), mask


def scored(images, edges=UNIT_EDGES):
    metric = SaliencyAP(CLASSES, edges)
    for image in images:
        metric.update(*image)
    return metric


def exact(scores, positive):
    """The AP of one class's map, a row of pixels; NaN where it shows nothing of the class."""
    metric = SaliencyAP(1, RAW_EDGES)
    mask = np.asarray(positive).astype(np.uint8)
    metric.update("one", np.asarray(scores)[None, :, None], mask[None])
    _, found = metric.pairs()
    return found[0] if len(found) else np.nan


def pairs_of(images):
    """(image id, class, scores, labels) of each class that a mask shows."""
    for image_id, maps, mask in images:
        for c in range(CLASSES):
            if (mask == c + 1).any():
                counted = mask != 255
                yield image_id, c, maps[counted][:, c], mask[counted] == c + 1


def test_exact_by_hand():
    # Falling: +, then a tie of + and -, then -, then +: thresholds .9, .5, .2, .1.
    scores = np.array([0.5, 0.9, 0.1, 0.5, 0.2])
    positive = np.array([True, True, True, False, False])
    want = (1 * 1 + 1 * 2 / 3 + 0 + 1 * 3 / 5) / 3
    assert exact(scores, positive) == pytest.approx(want, rel=1e-15)
    assert exact(scores, np.ones(5)) == 1
    assert exact(np.zeros(5), positive) == 3 / 5
    assert np.isnan(exact(scores, np.zeros(5)))
    for bad, message in (([], "a mask is"), ([np.nan], "NaN"), ([np.inf], "infinity")):
        with pytest.raises(ValueError, match=message):
            exact(bad, np.ones(len(bad)))
    with pytest.raises(ValueError, match="shape"):
        exact(scores, positive[:-1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8])
def test_exact_equals_scikit_learn(average_precision_score, dtype):
    rng = np.random.default_rng(0)
    for n, levels in ((1, 3), (2, 3), (50, 5), (3000, 40), (3000, 10**6)):
        for _ in range(5):
            scores = rng.integers(0, levels, n)
            scores = (scores % 256 if dtype == np.uint8 else scores / levels - 0.3).astype(dtype)
            positive = rng.random(n) < 0.4
            positive[0] = True
            want = average_precision_score(positive, scores)
            assert exact(scores, positive) == pytest.approx(want, abs=1e-12)


def test_per_map_is_scikit_learns_mean_over_pairs(average_precision_score):
    images = list(random_images(raw=True))
    metric = scored(images, RAW_EDGES)
    keys, exact = metric.pairs()
    want = {(i, c): average_precision_score(y, s) for i, c, s, y in pairs_of(images)}
    assert keys == sorted(want)
    assert {len([k for k in keys if k[0] == i]) for i, _, _ in images} >= {1, 2}
    np.testing.assert_allclose(exact, [want[k] for k in keys], rtol=1e-12)
    found = metric.compute()
    assert found["per_map"] == pytest.approx(np.mean(list(want.values())), rel=1e-12)
    for c in range(CLASSES):
        mean = np.mean([v for (_, label), v in want.items() if label == c])
        assert found["per_map_by_class"][c] == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("edges", [UNIT_EDGES, RAW_EDGES], ids=["unit", "raw"])
def test_pooled_equals_scikit_learn_on_quantised_scores(average_precision_score, edges):
    images = list(random_images(raw=edges is RAW_EDGES))
    found = scored(images, edges).compute()
    pairs = [
        (c, np.digitize(s.astype(np.float64), edges[:-1]), y) for _, c, s, y in pairs_of(images)
    ]
    for c, got in [(None, found["pooled"]), *enumerate(found["pooled_by_class"])]:
        mine = [p for p in pairs if c is None or p[0] == c]
        levels, labels = (np.concatenate([p[k] for p in mine]) for k in (1, 2))
        assert got == pytest.approx(average_precision_score(labels, levels), rel=1e-12)


def test_binning_moves_the_pooled_figure_little(average_precision_score):
    # Smooth maps, as networks give. A bin counts its end's precision: the figure is a little low.
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    for edges in (UNIT_EDGES, RAW_EDGES):
        metric, scores, labels = SaliencyAP(1, edges), [], []
        for i in range(10):
            small = rng.standard_normal((10, 10)).astype(np.float32)
            full = cv2.resize(small, (320, 240), interpolation=cv2.INTER_LINEAR)
            mask = (full + rng.standard_normal(full.shape) > 1).astype(np.uint8)
            if edges is UNIT_EDGES:
                full = (full - full.min()) / np.ptp(full)
            metric.update(str(i), full[..., None], mask)
            scores.append(full.ravel())
            labels.append(mask.ravel())
        want = average_precision_score(np.concatenate(labels), np.concatenate(scores))
        assert want - 0.0015 < metric.compute()["pooled"] < want


def test_one_class_has_pxaps_bits():
    pixels, metric = PixelAP(), SaliencyAP(1)
    for image_id, maps, mask in random_images():
        maps[0, :2, 0] = 0, 1
        mask[mask == 2] = 1
        mask[mask > 2] = np.where(mask[mask > 2] == 255, 255, 0)
        if not (mask == 1).any():
            mask[0, 0] = 1
        pixels.update(image_id, maps[..., 0], mask == 1, mask == 255)
        metric.update(image_id, maps[..., :1], mask)
    np.testing.assert_array_equal(metric.images.rows()["counts"], pixels.images.rows())
    assert metric.compute()["pooled"] == pixels.compute()
    assert metric.intervals(resamples=70)["pooled"] == pixels.interval(resamples=70)
    np.testing.assert_array_equal(
        scored(random_images()).images.rows()["counts"].sum(axis=(1, 2)),
        [len(y) for _, _, _, y in sorted(pairs_of(random_images()), key=lambda p: p[:2])],
    )


def same_figures(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_merging_in_any_order_gives_the_same_bits():
    images = list(random_images(9))
    whole = scored(images)
    rng = np.random.default_rng(3)
    for _ in range(8):
        order, cuts = rng.permutation(9), sorted(rng.integers(0, 10, 2))
        parts = [scored([images[i] for i in part]) for part in np.split(order, cuts)]
        merged = parts[1].merge(SaliencyAP.from_arrays(parts[2].to_arrays())).merge(parts[0])
        same_figures(merged.compute(), whole.compute())
        same_figures(merged.intervals(resamples=30), whole.intervals(resamples=30))
    with pytest.raises(ValueError, match="twice"):
        whole.merge(scored(images[:1]))
    same_figures(whole.merge(scored(images[:1]), overlap=True).compute(), whole.compute())
    for other in (SaliencyAP(3), SaliencyAP(CLASSES, RAW_EDGES)):
        with pytest.raises(ValueError, match="edges"):
            whole.merge(other)


def loop(metric_of, images, draws):
    """Figures of each resample, its images copied under new names."""
    values = []
    for drawn in draws:
        copies = [(f"{i}-{k}", *images[i][1:]) for k, i in enumerate(drawn)]
        values.append(metric_of(copies).compute())
    return {name: np.array([v[name] for v in values]) for name in values[0]}


def check_intervals(got, values):
    for name, ends in got.items():
        want = np.nanquantile(values[name], (0.025, 0.975), axis=0).T
        np.testing.assert_allclose(ends, want, rtol=1e-9, atol=1e-12)


def test_bootstrap_redraws_images():
    images = list(random_images(5))  # classes 0 and 1 in few of them: undefined in some resamples
    drawn = np.random.default_rng(1).integers(0, 5, (60, 5))
    values = loop(scored, images, drawn)
    assert np.isnan(values["pooled_by_class"]).any()
    check_intervals(scored(images).intervals(seed=1, resamples=60), values)


def test_paired_comparison_shares_the_draws():
    images = list(random_images(5))
    worse = [(i, (0.5 * m + 0.5 * m[::-1]).astype(np.float32), k) for i, m, k in images]
    drawn = np.random.default_rng(1).integers(0, 5, (60, 5))
    a, b = (loop(scored, run, drawn) for run in (images, worse))
    found = scored(images).compare(scored(worse), seed=1, resamples=60)
    for name in ("pooled", "per_map"):
        got, ends = found[name], np.quantile(b[name] - a[name], (0.025, 0.975))
        np.testing.assert_allclose((got.low, got.high), ends, rtol=1e-9)
        value = scored(worse).compute()[name] - scored(images).compute()[name]
        assert got.value == pytest.approx(value, rel=1e-12)
        assert got.low < got.value < 0
    assert len(found["pooled_by_class"]) == CLASSES
    assert scored(images).compare(scored(images, RAW_EDGES), resamples=9)["per_map"].value == 0
    with pytest.raises(ValueError, match="different images"):
        scored(images).compare(scored(images[1:]))


def test_no_pairs():
    blank = SaliencyAP(2)
    blank.update("a", np.zeros((2, 2, 2)), np.array([[0, 255], [255, 0]], np.uint8))
    for metric in (SaliencyAP(2), blank):
        again = SaliencyAP.from_arrays(metric.to_arrays())
        assert len(again) == len(metric)
        for found in (again.compute(), again.intervals(resamples=5)):
            assert all(np.isnan(v).all() for v in found.values())


@pytest.mark.parametrize(
    ("maps", "mask", "message"),
    [
        (np.zeros((0, 2, 2)), np.zeros((0, 2), np.uint8), "uint8"),
        (np.zeros((1, 2, 2)), np.zeros((1, 2)), "uint8"),
        (np.zeros((1, 2, 3)), np.zeros((1, 2), np.uint8), r"\(1, 2, 2\)"),
        (np.zeros((2, 1, 2)), np.zeros((1, 2), np.uint8), r"\(1, 2, 2\)"),
        (np.full((1, 2, 2), np.nan), np.zeros((1, 2), np.uint8), "NaN"),
        (np.full((1, 2, 2), np.inf), np.zeros((1, 2), np.uint8), "infinity"),
        (np.full((1, 2, 2), 1.5), np.ones((1, 2), np.uint8), r"\[0, 1\], class 0's map"),
        (np.zeros((1, 2, 2)), np.full((1, 2), 3, np.uint8), "class 2, not 0 to 1"),
    ],
)
def test_bad_maps_are_refused(maps, mask, message):
    metric = SaliencyAP(2)
    with pytest.raises(ValueError, match=message):
        metric.update("a", maps, mask)
    assert len(metric) == 0


def test_bad_metrics_are_refused():
    for classes in (0, 255):
        with pytest.raises(ValueError, match="classes"):
            SaliencyAP(classes)
    for edges in ([0.0], [0, 1, 0.5], [0, np.nan]):
        with pytest.raises(ValueError, match="ascending"):
            SaliencyAP(2, edges)


def test_speed_of_a_pair():
    rng = np.random.default_rng(0)
    maps = rng.random((240, 320, 20), np.float32)
    mask = np.zeros((240, 320), np.uint8)
    mask[50:150, 50:250] = 7
    metric, took = SaliencyAP(20), []
    for i in range(9):
        start = time.process_time()
        metric.update(str(i), maps, mask)
        took.append(time.process_time() - start)
    assert min(took) < 0.05  # 3 ms where it was written; the bound is for a machine under load


# Location


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


# Ranking


def test_interpolations_by_hand():
    # + - - + + of 4 to be found: precision 1, 2/4, 3/5 where recall steps.
    hits, misses = np.array([[1, 1, 1, 2, 3]]), np.array([[0, 1, 2, 2, 2]])
    want = {"none": (1 + 2 / 4 + 3 / 5) / 4, "all": (1 + 3 / 5 + 3 / 5) / 4}
    want["11"] = (3 * 1 + 5 * 3 / 5) / 11  # recall .25 covers 0, .1, .2; .75 covers up to .7
    for how, value in want.items():
        got = ranked_average_precision(hits, misses, [4], how)
        assert got == pytest.approx([value], rel=1e-15)
        none = np.zeros((1, 0))
        np.testing.assert_array_equal(ranked_average_precision(none, none, [4], how), [0])
        assert np.isnan(ranked_average_precision(hits, misses, [0], how)).all()
    # 3 of 10 found is recall .3, which .1 * 3 is not.
    assert ranked_average_precision([[3]], [[0]], [10], "11") == pytest.approx(4 / 11, rel=1e-15)


@pytest.mark.shared
def test_a_mask_lights_itself(shared):
    """Real masks as maps score 1, their mirror images less; equal to scikit-learn per map."""
    sklearn = pytest.importorskip("sklearn.metrics")
    image = pytest.importorskip("PIL.Image")
    folder = shared / "data" / "voc_animals" / "SegmentationClassAug"
    same, mirrored, wanted = SaliencyAP(20), SaliencyAP(20), []
    for path in sorted(folder.glob("*.png"))[:10]:
        mask = np.asarray(image.open(path))
        maps = (mask[..., None] == np.arange(1, 21)).astype(np.float32)
        same.update(path.stem, maps, mask)
        mirrored.update(path.stem, maps[:, ::-1], mask)
        for c in np.unique(mask[(mask > 0) & (mask < 255)]) - 1:
            kept = mask != 255
            wanted.append(
                sklearn.average_precision_score(mask[kept] == c + 1, maps[:, ::-1, c][kept])
            )
    assert same.compute()["pooled"] == same.compute()["per_map"] == 1
    assert mirrored.compute()["per_map"] == pytest.approx(np.mean(wanted), rel=1e-12)
    low, high = mirrored.intervals(resamples=200)["pooled"]
    assert 0 < low < mirrored.compute()["pooled"] < high < 1
