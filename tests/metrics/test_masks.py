"""PxAP against scikit-learn, by hand, and on the real photos."""

import numpy as np
import pytest

from wsol_jax.metrics.masks import (
    PixelAP,
    average_precision,
    class_target,
    histogram,
    pxap_bootstrap,
)


@pytest.fixture
def average_precision_score():
    """scikit-learn's, of the test extra."""
    return pytest.importorskip("sklearn.metrics").average_precision_score


def random_images(n=6, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(n):
        scores = rng.random((31, 29)).astype(np.float32)
        scores[rng.random(scores.shape) < 0.05] = 1
        scores[rng.random(scores.shape) < 0.05] = 0
        foreground = rng.random(scores.shape) < 0.2 + 0.5 * scores
        ignore = rng.random(scores.shape) < 0.1
        yield f"i{i}", scores, foreground, ignore


def scored(images, thresholds=None):
    metric = PixelAP() if thresholds is None else PixelAP(thresholds)
    for image in images:
        metric.update(*image)
    return metric


def test_equals_scikit_learn_on_quantised_scores(average_precision_score):
    edges = np.append(np.arange(0, 1, 0.001), 1.0)
    labels, levels = [], []
    for _, scores, foreground, ignore in random_images():
        kept = ~ignore | foreground
        labels.append(foreground[kept])
        levels.append(np.digitize(scores[kept].astype(np.float64), edges))
    want = average_precision_score(np.concatenate(labels), np.concatenate(levels))
    assert scored(random_images()).compute() == pytest.approx(want, rel=1e-12)


def test_bins_are_the_communitys_edges():
    taus = np.arange(0, 1, 0.001)
    edges = np.append(taus, [1.0, 2.0, 3.0])
    # The edges themselves, in both precisions, and their neighbours: where rounding decides.
    points = np.concatenate([edges[:1001], np.nextafter(taus[1:], 0), np.nextafter(taus, 1)])
    for scores in (points, points.astype(np.float32), np.linspace(0, 1, 70001)):
        want, _ = np.histogram(np.minimum(scores, 1).astype(np.float64), bins=edges)
        shape = (1, len(scores))
        got = histogram(np.minimum(scores, 1)[None], np.ones(shape, bool), None, PixelAP().edges)
        np.testing.assert_array_equal(got[1], want[:1001])
        assert got[0].sum() == 0


def test_uneven_thresholds(average_precision_score):
    images = list(random_images())
    taus = np.array([0, 0.1, 0.11, 0.5, 0.9])
    labels, levels = [], []
    for _, scores, foreground, ignore in images:
        kept = ~ignore | foreground
        labels.append(foreground[kept])
        levels.append(np.digitize(scores[kept].astype(np.float64), np.append(taus, 1)))
    want = average_precision_score(np.concatenate(labels), np.concatenate(levels))
    assert scored(images, taus).compute() == pytest.approx(want, rel=1e-12)
    for bad in ([0.1, 0.2], [0, 0.5, 0.5], [0, 1.0]):
        with pytest.raises(ValueError, match="rise from 0"):
            PixelAP(np.array(bad))


def test_by_hand():
    # Falling scores: + - + ignored, then a foreground pixel marked ignore, which counts.
    scores = np.array([[0.95, 0.85, 0.75, 0.65, 0.55]])
    foreground = np.array([[1, 0, 1, 0, 1]], bool)
    ignore = np.array([[0, 0, 0, 1, 1]], bool)
    metric = scored([("a", scores, foreground, ignore)])
    assert metric.compute() == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3, rel=1e-12)
    taus, precision, recall = metric.curve()
    at = int(np.flatnonzero(np.isclose(taus, 0.7))[0])
    assert (precision[at], recall[at]) == (2 / 3, 2 / 3)
    assert (precision[0], recall[0]) == (3 / 4, 1)
    iou, tau = metric.peak()
    assert iou == 3 / 4
    assert tau <= 0.55


def test_class_target():
    mask = np.array([[0, 1, 3], [255, 3, 1]], np.uint8)
    foreground, ignore = class_target(mask, 2)
    np.testing.assert_array_equal(foreground, [[0, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(ignore, [[0, 0, 0], [1, 0, 0]])


def test_merging_in_any_order_gives_the_same_bits():
    images = list(random_images(7))
    whole = scored(images)
    for split in ([5, 2, 0], [1, 6, 3, 4]):
        one = scored([images[i] for i in split])
        other = scored([image for i, image in enumerate(images) if i not in split])
        for merged in (one.merge(other), PixelAP.from_arrays(other.to_arrays()).merge(one)):
            assert merged.compute() == whole.compute()
            assert merged.interval(resamples=60) == whole.interval(resamples=60)
            np.testing.assert_array_equal(merged.counts, whole.counts)
    with pytest.raises(ValueError, match="twice"):
        whole.merge(one)
    assert whole.merge(one, overlap=True).compute() == whole.compute()
    with pytest.raises(ValueError, match="thresholds"):
        whole.merge(PixelAP(np.array([0, 0.5])))


def test_per_image_values():
    images = list(random_images(3))
    images.append(("empty", images[0][1], np.zeros((31, 29), bool), None))
    ids, values = scored(images).per_image()
    assert ids == ("empty", "i0", "i1", "i2")
    assert np.isnan(values[0])
    for image, value in zip(images, values[1:], strict=False):
        assert value == scored([image]).compute()


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.array([[np.nan, 0.1]]), "NaN"),
        (np.array([[1.1, 0.1]]), r"\[0, 1\]"),
        (np.zeros((2, 2)), "shape"),
    ],
)
def test_bad_maps_are_refused(scores, message):
    metric = PixelAP()
    with pytest.raises(ValueError, match=message):
        metric.update("a", scores, np.zeros((1, 2), bool))
    assert len(metric) == 0
    metric.update("a", np.zeros((1, 2)), np.zeros((1, 2), bool))
    assert np.isnan(metric.compute())


def test_bootstrap_redraws_images():
    images = list(random_images(5))
    hist = scored(images).images.rows()
    drawn = np.random.default_rng(1).integers(0, 5, (200, 5))
    values = [float(average_precision(hist[d].sum(axis=0))) for d in drawn]
    got = pxap_bootstrap(hist, seed=1, resamples=200)
    np.testing.assert_allclose(got, np.quantile(values, (0.025, 0.975)), rtol=1e-12)


def test_paired_comparison_shares_the_draws():
    images = list(random_images(5))
    sharper = [(i, np.where(f, np.maximum(s, 0.3), s * 0.9), f, g) for i, s, f, g in images]
    a, b = scored(images), scored(sharper)
    found = a.compare(b, seed=1, resamples=200)
    assert found.value == pytest.approx(b.compute() - a.compute(), rel=1e-12)
    assert 0 < found.low < found.value < found.high
    hist_a, hist_b = a.images.rows(), b.images.rows()
    drawn = np.random.default_rng(1).integers(0, 5, (200, 5))
    values = [
        float(average_precision(hist_b[d].sum(axis=0)) - average_precision(hist_a[d].sum(axis=0)))
        for d in drawn
    ]
    np.testing.assert_allclose(
        (found.low, found.high), np.quantile(values, (0.025, 0.975)), rtol=1e-12
    )
    same = pxap_bootstrap(hist_a, hist_a, resamples=20)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="same images"):
        pxap_bootstrap(hist_a, hist_b[:3])
