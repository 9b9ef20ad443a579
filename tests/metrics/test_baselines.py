"""Fixed boxes and maps, and the figures that shared/README.md gives for them."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from wsol_jax.metrics.baselines import best_central_box, central_box, gaussian_map
from wsol_jax.metrics.boxes import iou, resize_box
from wsol_jax.metrics.maps import min_max, prepare_map, resize_mask
from wsol_jax.metrics.masks import PixelAP


def fixed_box_hits(box, gt_boxes):
    """(N,) bool: whether one box, the same for all images, meets a true box of each."""
    return np.array([iou(box[None], own).max() >= 0.5 for own in gt_boxes], bool)


def test_central_box():
    np.testing.assert_array_equal(central_box(1, 1, 224), [0, 0, 223, 223])
    np.testing.assert_array_equal(central_box(0.5, 0.25, 8), [2, 3, 5, 4])
    np.testing.assert_array_equal(central_box(0.001, 0.001, 8), [3, 3, 3, 3])
    np.testing.assert_array_equal(central_box(0.5, 0.25, (40, 16)), [10, 6, 29, 9])
    np.testing.assert_array_equal(central_box(1, 1, (500, 375)), [0, 0, 499, 374])


def test_best_central_box_finds_the_planted_one():
    rng = np.random.default_rng(0)
    wide = [central_box(0.8, 0.3, 100) + rng.integers(-4, 5, 4) for _ in range(20)]
    corner = [np.array([0, 0, 20, 20]) for _ in range(9)]
    boxes = [b[None] for b in wide + corner]
    fit = best_central_box(boxes, 100)
    assert fixed_box_hits(fit, boxes).sum() == 20
    np.testing.assert_allclose(fit, central_box(0.8, 0.3, 100), atol=4)
    # A second object of an image may be the one that is met.
    both = [np.stack([corner[0], wide[0]])] * 3
    assert fixed_box_hits(best_central_box(both, 100), both).all()
    with pytest.raises(ValueError, match="without"):
        best_central_box([])


def test_gaussian_map_falls_from_the_middle():
    scores = gaussian_map(9)
    assert scores.dtype == np.float32
    assert scores.max() == scores[4, 4] == 1
    assert scores.min() == scores[0, 0] == 0
    np.testing.assert_array_equal(scores, scores.T)
    assert (np.diff(scores[4, :5]) > 0).all()


def cubic_weights(n, m):
    """(m, n) float64: cubic convolution with a = -0.75, half-pixel centres, edges repeated."""
    weights = np.zeros((m, n))
    for i in range(m):
        x = (i + 0.5) * n / m - 0.5
        for j in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
            d, a = abs(x - j), -0.75
            inner, outer = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d
            weights[i, min(max(j, 0), n - 1)] += inner if d <= 1 else outer - 4 * a
    return weights


def test_prepare_map_enlarges_then_scales():
    raw = np.random.default_rng(0).normal(-40, 9, (7, 9))
    want = cubic_weights(7, 224) @ raw @ cubic_weights(9, 224).T
    want = (want - want.min()) / (want.max() - want.min())
    scores = prepare_map(raw)
    assert scores.dtype == np.float32
    assert (scores.min(), scores.max()) == (0, 1)
    np.testing.assert_allclose(scores, want, atol=2e-6)


def test_prepare_map_of_hopeless_maps():
    for value in (0.0, 0.1, -3.7):
        np.testing.assert_array_equal(prepare_map(np.full((7, 7), value)), np.zeros((224, 224)))
    np.testing.assert_array_equal(min_max(np.full((2, 2), 5.0)), np.zeros((2, 2)))
    for bad, message in ((np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")):
        raw = np.zeros((7, 7))
        raw[3, 3] = bad
        for function in (prepare_map, min_max):
            with pytest.raises(ValueError, match=message):
                function(raw)
    with pytest.raises(ValueError, match="shape"):
        prepare_map(np.zeros((7, 7, 3)))


@pytest.mark.shared
def test_known_figures_on_the_real_photos(shared):
    root = shared / "data" / "voc_animals"
    codes = {"cat": 8, "cow": 10, "dog": 12, "horse": 13, "sheep": 17}
    boxes, pxap = {}, {}
    for name in ("wsol_train", "wsol_test", "wsol_test_hard"):
        boxes[name], pixels = [], PixelAP()
        for image_id in (root / f"ImageSets/Segmentation/{name}.txt").read_text().split():
            tree = ET.parse(root / "Annotations" / f"{image_id}.xml").getroot()
            size = tuple(int(tree.findtext(f"size/{side}")) for side in ("width", "height"))
            for thing in tree.iter("object"):
                if thing.findtext("name") in codes:
                    corners = [int(v.text) for v in thing.find("bndbox")]
                    code = codes[thing.findtext("name")]
            boxes[name].append(resize_box(corners, size, (224, 224))[None])
            if name != "wsol_train":
                mask = np.array(Image.open(root / "SegmentationClassAug" / f"{image_id}.png"))
                mask = resize_mask(mask)
                pixels.update(image_id, gaussian_map(), mask == code, mask == 255)
        pxap[name] = pixels.compute()
    full, fit = central_box(1, 1), best_central_box(boxes["wsol_train"])
    assert fixed_box_hits(full, boxes["wsol_test"]).mean() == pytest.approx(0.48, abs=0.005)
    assert fixed_box_hits(fit, boxes["wsol_test"]).mean() == pytest.approx(0.63, abs=0.005)
    assert fixed_box_hits(full, boxes["wsol_test_hard"]).mean() == 0
    assert fixed_box_hits(fit, boxes["wsol_test_hard"]).mean() <= 0.05
    assert pxap["wsol_test"] == pytest.approx(0.607, abs=0.0005)
    assert pxap["wsol_test_hard"] == pytest.approx(0.40, abs=0.005)
