"""Saliency AP against scikit-learn, loops over images and resamples, and by hand."""

import time

import numpy as np
import pytest
from helpers.resamples import loop, same_figures

from wsol_jax.metrics.masks import PixelAP
from wsol_jax.metrics.saliency import RAW_EDGES, UNIT_EDGES, SaliencyAP

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
