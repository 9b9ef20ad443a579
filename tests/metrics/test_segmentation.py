"""The confusion matrix against scikit-learn, a loop over resamples, and by hand."""

import numpy as np
import pytest

from wsol_jax.metrics.per_image import RaggedPerImage
from wsol_jax.metrics.segmentation import ConfusionMatrix


def random_images(n=8, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(n):
        shape = rng.integers(9, 30, 2)
        truth = rng.integers(0, classes, shape).astype(np.uint8)
        prediction = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, classes, shape))
        truth[rng.random(shape) < 0.1] = 255
        yield f"i{i}", truth, prediction.astype(np.uint8)


def scored(images, classes=5):
    metric = ConfusionMatrix(classes)
    for image in images:
        metric.update(*image)
    return metric


def reference(matrix):
    """(iou, miou, accuracy) of a float64 confusion matrix, class by class."""
    matrix = np.asarray(matrix, np.float64)
    iou = []
    for c in range(len(matrix)):
        union = matrix[c].sum() + matrix[:, c].sum() - matrix[c, c]
        iou.append(matrix[c, c] / union if union else np.nan)
    return iou, np.nanmean(iou), np.trace(matrix) / matrix.sum()


def test_by_hand():
    # Class 0: shared 2 of 4; class 1: 1 of 3; class 2 is predicted and absent; class 3 in neither.
    truth = np.array([[0, 0, 0], [1, 1, 255]], np.uint8)
    prediction = np.array([[0, 0, 1], [1, 0, 3]], np.uint8)
    metric = scored([("a", truth, prediction)], 4)
    found = metric.compute()
    np.testing.assert_allclose(found["iou"], [2 / 4, 1 / 3, np.nan, np.nan], rtol=1e-15)
    assert found["miou"] == pytest.approx((2 / 4 + 1 / 3) / 2, rel=1e-15)
    assert found["pixel_accuracy"] == 3 / 5
    metric.update("b", np.zeros((1, 1), np.uint8), np.full((1, 1), 2, np.uint8))
    found = metric.compute()
    np.testing.assert_allclose(found["iou"], [2 / 5, 1 / 3, 0, np.nan], rtol=1e-15)
    assert found["miou"] == pytest.approx((2 / 5 + 1 / 3 + 0) / 3, rel=1e-15)
    assert found["pixel_accuracy"] == 3 / 6
    np.testing.assert_array_equal(
        metric.counts, [[2, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    )


def test_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    images = list(random_images())
    truth = np.concatenate([t[t != 255] for _, t, _ in images])
    prediction = np.concatenate([p[t != 255] for _, t, p in images])
    matrix = metrics.confusion_matrix(truth, prediction, labels=range(5))
    metric = scored(images)
    np.testing.assert_array_equal(metric.counts, matrix)
    found = metric.compute()
    iou, miou, accuracy = reference(matrix)
    np.testing.assert_allclose(found["iou"], iou, rtol=1e-12)
    np.testing.assert_allclose(
        found["iou"], metrics.jaccard_score(truth, prediction, average=None), rtol=1e-12
    )
    assert found["miou"] == pytest.approx(miou, rel=1e-12)
    assert found["pixel_accuracy"] == pytest.approx(accuracy, rel=1e-12)
    assert accuracy == metrics.accuracy_score(truth, prediction)


def test_merging_in_any_order_gives_the_same_bits():
    images = list(random_images(12))
    whole = scored(images)
    want, want_ends = whole.compute(), whole.intervals(resamples=50)
    rng = np.random.default_rng(3)
    for _ in range(10):
        order, cuts = rng.permutation(12), sorted(rng.integers(0, 13, 2))
        parts = [scored([images[i] for i in part]) for part in np.split(order, cuts)]
        merged = parts[2].merge(ConfusionMatrix.from_arrays(parts[0].to_arrays())).merge(parts[1])
        np.testing.assert_array_equal(merged.counts, whole.counts)
        for got, same in ((merged.compute(), want), (merged.intervals(resamples=50), want_ends)):
            assert got.keys() == same.keys()
            for name in same:
                np.testing.assert_array_equal(got[name], same[name])
    with pytest.raises(ValueError, match="twice"):
        whole.merge(scored(images[:1]))
    assert whole.merge(scored(images[:1]), overlap=True).compute()["miou"] == want["miou"]
    with pytest.raises(ValueError, match="classes"):
        whole.merge(ConfusionMatrix(4))


def test_bootstrap_redraws_images():
    images = list(random_images(6))
    images[0] = (images[0][0], np.full((5, 5), 5, np.uint8), np.full((5, 5), 5, np.uint8))
    metric = scored(images, 6)  # class 5 in one image alone: undefined in a third of resamples
    per_image = np.stack([scored([i], 6).counts for i in sorted(images)])
    drawn = np.random.default_rng(1).integers(0, 6, (300, 6))
    values = [reference(per_image[d].sum(axis=0)) for d in drawn]
    got = metric.intervals(seed=1, resamples=300)
    quantiles = (0.025, 0.975)
    np.testing.assert_allclose(
        got["miou"], np.quantile([v[1] for v in values], quantiles), rtol=1e-12
    )
    np.testing.assert_allclose(
        got["pixel_accuracy"], np.quantile([v[2] for v in values], quantiles), rtol=1e-12
    )
    np.testing.assert_allclose(
        got["iou"].T, np.nanquantile([v[0] for v in values], quantiles, axis=0), rtol=1e-12
    )


def test_intervals_cover_a_known_binomial():
    # Images of one pixel, right with probability .7: accuracy is a binomial's mean.
    rng = np.random.default_rng(0)
    truth, covered = np.zeros((1, 1), np.uint8), 0
    for _ in range(200):
        metric = ConfusionMatrix(2)
        for i, wrong in enumerate(rng.random(100) >= 0.7):
            metric.update(str(i), truth, np.full((1, 1), wrong, np.uint8))
        low, high = metric.intervals(resamples=300)["pixel_accuracy"]
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_paired_comparison_shares_the_draws():
    images = list(random_images(7))
    better = [(i, t, np.where(np.arange(t.shape[1]) < 5, t % 5, p)) for i, t, p in images]
    a, b = scored(images), scored(better)
    found = a.compare(b, seed=1, resamples=200)
    counts = [np.stack([scored([i]).counts for i in run]) for run in (images, better)]
    drawn = np.random.default_rng(1).integers(0, 7, (200, 7))
    values = [[reference(c[d].sum(axis=0)) for c in counts] for d in drawn]
    for at, name in ((1, "miou"), (2, "pixel_accuracy")):
        got = found[name]
        assert got.value == pytest.approx(b.compute()[name] - a.compute()[name], abs=1e-15)
        ends = np.quantile([v[1][at] - v[0][at] for v in values], (0.025, 0.975))
        np.testing.assert_allclose((got.low, got.high), ends, rtol=1e-10)
        assert 0 < got.low < got.value < got.high
    assert len(found["iou"]) == 5
    same = a.compare(a, resamples=20)["iou"][2]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="different images"):
        a.compare(scored(images[:3]))


def test_nothing_to_count():
    blind = ConfusionMatrix(3)
    blind.update("ignored", np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
    for metric in (ConfusionMatrix(3), blind):
        again = ConfusionMatrix.from_arrays(metric.to_arrays())
        assert len(again) == len(metric)
        found, ends = again.compute(), again.intervals(resamples=5)
        assert np.isnan([found["miou"], found["pixel_accuracy"], *found["iou"]]).all()
        assert np.isnan([*ends["miou"], *ends["pixel_accuracy"], *ends["iou"].ravel()]).all()


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (np.zeros((0, 3), int), np.zeros((0, 3), int), "shape"),
        (np.zeros(3, int), np.zeros(3, int), "shape"),
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "differ"),
        (np.zeros((2, 3)), np.zeros((2, 3), int), "float64"),
        (np.zeros((2, 3), int), np.full((2, 3), np.nan), "float64"),
        (np.full((2, 3), 3), np.zeros((2, 3), int), "truth mask holds class 3"),
        (np.zeros((2, 3), int), np.full((2, 3), 255), "prediction mask holds class 255"),
        (np.zeros((2, 3), int), np.full((2, 3), -1), "class -1"),
    ],
)
def test_bad_masks_are_refused(truth, prediction, message):
    metric = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=message):
        metric.update("a", truth, prediction)
    assert len(metric) == 0


def test_bad_numbers_of_classes_and_doubles_are_refused():
    for classes in (0, 256):
        with pytest.raises(ValueError, match="classes"):
            ConfusionMatrix(classes)
    metric = scored(list(random_images(1)))
    with pytest.raises(ValueError, match="twice"):
        metric.update(*next(random_images(1)))


def test_ragged_rows():
    rows = RaggedPerImage((2,), np.int16)
    rows.update(["b", "a", "c"], [[[1, 2], [3, 4]], np.zeros((0, 2)), [[5, 6]]], [True, True, 0])
    assert rows.ids() == ("a", "b")
    np.testing.assert_array_equal(rows.rows(), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(rows.owners(), [1, 1])
    again = RaggedPerImage.from_arrays(rows.to_arrays())
    assert again.ids() == rows.ids()
    np.testing.assert_array_equal(again.owners(), [1, 1])
    with pytest.raises(ValueError, match="shape"):
        rows.update(["c"], [[1, 2, 3]])
    with pytest.raises(ValueError, match="rows of 2"):
        rows.update(["c"], [[[1, 2]], [[1, 2]]])
    with pytest.raises(ValueError, match="kinds"):
        rows.merge(RaggedPerImage((3,), np.int16))
    with pytest.raises(ValueError, match="twice"):
        rows.merge(rows)


@pytest.mark.shared
def test_real_masks(shared):
    """Masks of real photos shifted by 8 pixels, against scikit-learn; a mask itself scores 1."""
    sklearn = pytest.importorskip("sklearn.metrics")
    image = pytest.importorskip("PIL.Image")
    folder = shared / "data" / "voc_animals" / "SegmentationClassAug"
    moved, same, pairs = ConfusionMatrix(21), ConfusionMatrix(21), []
    for path in sorted(folder.glob("*.png"))[:20]:
        truth = np.asarray(image.open(path))
        prediction = np.roll(np.where(truth == 255, 0, truth), 8, axis=1)
        moved.update(path.stem, truth, prediction)
        same.update(path.stem, truth, truth)
        pairs.append((truth[truth != 255], prediction[truth != 255]))
    assert len(moved) == 20
    truth, prediction = (np.concatenate(x) for x in zip(*pairs, strict=True))
    iou, miou, _ = reference(sklearn.confusion_matrix(truth, prediction, labels=range(21)))
    np.testing.assert_allclose(moved.compute()["iou"], iou, rtol=1e-12)
    low, high = moved.intervals(resamples=200)["miou"]
    assert low < moved.compute()["miou"] == pytest.approx(miou, rel=1e-12)
    assert miou < high
    assert same.compute()["miou"] == same.compute()["pixel_accuracy"] == 1
