"""Detection AP against the devkit's rules as plain loops, by hand, and over resamples."""

import numpy as np
import pytest
from helpers.resamples import same_figures

from wsol_jax.metrics.detection import DetectionAP, component_boxes, judge, nms

CLASSES = 4
IOUS = (0.5, 0.2, 0.75)


def naive_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def naive_ap(images, c, wanted, points):
    """One class's AP, walking down the list of all its boxes as VOCevaldet does."""
    found = sorted(
        (
            (-score, image_id, k, box)
            for image_id, boxes, scores, labels, *_ in images
            for k, (box, score, label) in enumerate(zip(boxes, scores, labels, strict=True))
            if label == c
        ),
        key=lambda entry: entry[:3],
    )
    objects = {
        image_id: [
            {"box": b, "difficult": d, "detected": False}
            for b, label, d in zip(gt_boxes, gt_labels, difficult, strict=True)
            if label == c
        ]
        for image_id, _, _, _, gt_boxes, gt_labels, difficult in images
    }
    total = sum(not o["difficult"] for mine in objects.values() for o in mine)
    if total == 0:
        return np.nan
    right = wrong = 0
    recall, precision = [0.0], [0.0]
    for _, image_id, _, box in found:
        best, best_object = -np.inf, None
        for candidate in objects[image_id]:
            overlap = naive_iou(box, candidate["box"])
            if overlap > best:
                best, best_object = overlap, candidate
        if best >= wanted:
            if not best_object["difficult"]:
                if best_object["detected"]:
                    wrong += 1
                else:
                    right += 1
                    best_object["detected"] = True
        else:
            wrong += 1
        if right + wrong:
            recall.append(right / total)
            precision.append(right / (right + wrong))
    if points == "11":
        heights = [
            max((p for r, p in zip(recall, precision, strict=True) if r >= k / 10), default=0.0)
            for k in range(11)
        ]
        return sum(heights) / 11
    recall.append(1.0)
    precision.append(0.0)
    for k in range(len(precision) - 2, -1, -1):
        precision[k] = max(precision[k], precision[k + 1])
    return sum(
        (recall[k] - recall[k - 1]) * precision[k]
        for k in range(1, len(recall))
        if recall[k] != recall[k - 1]
    )


def naive_nms(boxes, scores, threshold):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda k: (-scores[k], k)):
        if all(naive_iou(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


def random_boxes(rng, count, side=40):
    corner = rng.integers(0, side, (count, 2))
    return np.concatenate([corner, corner + rng.integers(0, 20, (count, 2))], axis=1)


def random_images(n=12, seed=0, levels=None):
    """Objects, boxes near them and boxes anywhere; the last class has no object."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        truth = random_boxes(rng, (3, 0, 2, 5)[i % 4])
        gt_labels = rng.integers(0, CLASSES - 1, len(truth))
        difficult = rng.random(len(truth)) < 0.25
        near = np.repeat(np.arange(len(truth)), 3)
        boxes = truth[near] + rng.integers(-3, 4, (len(near), 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
        other = random_boxes(rng, 6)
        boxes = np.concatenate([boxes, other])
        labels = np.concatenate([gt_labels[near], rng.integers(0, CLASSES, len(other))])
        scores = rng.random(len(boxes))
        if levels:
            scores = np.floor(scores * levels) / levels
        yield f"i{i:02d}", boxes, scores, labels, truth, gt_labels, difficult


def scored(images, nms_iou=None, ious=IOUS):
    metric = DetectionAP(CLASSES, ious, nms_iou)
    for image in images:
        metric.update(*image)
    return metric


@pytest.mark.parametrize("levels", [None, 5], ids=["distinct", "ties"])
@pytest.mark.parametrize("points", ["all", "11"])
@pytest.mark.parametrize("suppression", [None, 0.3])
def test_equals_the_devkits_loop(points, suppression, levels):
    for seed in range(4):
        images = list(random_images(seed=seed, levels=levels))
        found = scored(images, suppression).compute(points)
        if suppression is not None:
            kept = []
            for image_id, boxes, scores, labels, *truth in images:
                stay = [
                    int(of_c[k])
                    for c in range(CLASSES)
                    for of_c in [np.flatnonzero(labels == c)]
                    for k in naive_nms(boxes[of_c], scores[of_c], suppression)
                ]
                kept.append((image_id, boxes[stay], scores[stay], labels[stay], *truth))
            assert sum(len(k[1]) for k in kept) < sum(len(i[1]) for i in images)
            images = kept
        for wanted in IOUS:
            want = [naive_ap(images, c, wanted, points) for c in range(CLASSES)]
            np.testing.assert_allclose(found[f"ap@{wanted:g}"], want, rtol=1e-10)
            assert found[f"map@{wanted:g}"] == pytest.approx(np.nanmean(want), rel=1e-10)
            assert np.isnan(want[-1])
            assert 0 < found[f"map@{wanted:g}"] < 1 or wanted == 0.75


def test_by_hand():
    # Objects A, B, and D, which is difficult. Falling: A found, A again, D, D again, air, B found.
    a, b, d = [0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]
    air = [0, 30, 9, 39]
    boxes, scores = [a, a, d, d, air, b], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    verdicts = judge(np.array(boxes), scores, np.array([a, b, d]), [False, False, True], [0.5])
    np.testing.assert_array_equal(verdicts[:, 0], [1, 0, -1, -1, 0, 1])
    metric = DetectionAP(1, [0.5], None)
    metric.update("a", boxes, scores, [0] * 6, [a, b, d], [0, 0, 0], [False, False, True])
    assert metric.compute()["map@0.5"] == pytest.approx((1 + 2 / 4) / 2, rel=1e-15)
    assert metric.compute("11")["map@0.5"] == pytest.approx((6 * 1 + 5 * 2 / 4) / 11, rel=1e-15)
    with_nms = DetectionAP(1, [0.5])
    with_nms.update("a", boxes, scores, [0] * 6, [a, b, d], [0, 0, 0], [False, False, True])
    assert with_nms.compute()["map@0.5"] == pytest.approx((1 + 2 / 3) / 2, rel=1e-15)


def test_corners_are_inclusive():
    # 10 and 5 pixels wide: IoU is 5 / 10 with the corners counted, 4 / 9 without.
    boxes, truth = np.array([[0, 0, 4, 9]]), np.array([[0, 0, 9, 9]])
    np.testing.assert_array_equal(judge(boxes, [1], truth, [False], [0.5, 0.51]), [[1, 0]])
    pair = np.concatenate([truth, boxes])
    np.testing.assert_array_equal(nms(pair, [1, 0.5], 0.5), [0, 1])
    np.testing.assert_array_equal(nms(pair, [1, 0.5], 0.49), [0])


def test_a_box_belongs_to_the_object_it_overlaps_most():
    # The second box is within .2 of both objects, but nearer to the one already found.
    truth = np.array([[0, 0, 9, 9], [0, 8, 9, 17]])
    boxes = np.array([[0, 0, 9, 9], [0, 2, 9, 11]])
    np.testing.assert_array_equal(
        judge(boxes, [0.9, 0.8], truth, [False, False], [0.2])[:, 0], [1, 0]
    )
    np.testing.assert_array_equal(
        judge(boxes, [0.8, 0.9], truth, [True, False], [0.2])[:, 0], [-1, -1]
    )


def test_nms_equals_a_loop():
    rng = np.random.default_rng(0)
    for threshold in (0.0, 0.3, 0.7, 1.0):
        for count in (0, 1, 60):
            boxes = random_boxes(rng, count, 25)
            scores = np.round(rng.random(count), 1)
            got = nms(boxes, scores, threshold)
            assert got.tolist() == naive_nms(boxes, scores, threshold)
            assert got.dtype == np.int64
    labels = rng.integers(0, 3, 60)
    got = nms(boxes, scores, 0.3, labels)
    assert (np.diff(scores[got]) <= 0).all()
    for c in range(3):
        of_c = np.flatnonzero(labels == c)
        want = of_c[naive_nms(boxes[of_c], scores[of_c], 0.3)]
        assert got[labels[got] == c].tolist() == want.tolist()


def naive_components(scores, threshold):
    left = {(int(y), int(x)) for y, x in np.argwhere(scores > threshold)}
    while left:
        region, todo = [], [min(left)]
        left.remove(todo[0])
        while todo:
            y, x = todo.pop()
            region.append((y, x))
            for at in [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if at in left:
                    left.remove(at)
                    todo.append(at)
        ys, xs = zip(*region, strict=True)
        total = sum(float(scores[at]) for at in region)
        yield [min(xs), min(ys), max(xs), max(ys)], total


def test_component_boxes_equal_a_flood_fill():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 9), (17, 23), (40, 31)):
        scores = rng.random(shape).astype(np.float32)
        boxes, sums = component_boxes(scores, 0.75)
        want = sorted(naive_components(scores, 0.75))
        got = sorted(zip(boxes.tolist(), sums.tolist(), strict=True))
        assert [g[0] for g in got] == [w[0] for w in want]
        np.testing.assert_allclose([g[1] for g in got], [w[1] for w in want], rtol=1e-12)
    boxes, sums = component_boxes(np.full((3, 4), 0.6), 0.6)  # strictly above
    assert boxes.shape == (0, 4)
    assert sums.shape == (0,)
    np.testing.assert_array_equal(component_boxes(np.ones((3, 4)))[0], [[0, 0, 3, 2]])
    for bad, message in ((np.zeros((0, 2)), "shape"), (np.full((2, 2), np.nan), "NaN")):
        with pytest.raises(ValueError, match=message):
            component_boxes(bad)


def test_merging_in_any_order_gives_the_same_bits():
    images = list(random_images(levels=7))
    whole = scored(images, 0.3)
    rng = np.random.default_rng(3)
    for _ in range(8):
        order, cuts = rng.permutation(12), sorted(rng.integers(0, 13, 2))
        parts = [scored([images[i] for i in part], 0.3) for part in np.split(order, cuts)]
        merged = parts[1].merge(DetectionAP.from_arrays(parts[2].to_arrays())).merge(parts[0])
        for points in ("all", "11"):
            same_figures(merged.compute(points), whole.compute(points))
        same_figures(merged.intervals(resamples=30), whole.intervals(resamples=30))
    with pytest.raises(ValueError, match="twice"):
        whole.merge(scored(images[:1], 0.3))
    same_figures(whole.merge(scored(images[:1], 0.3), overlap=True).compute(), whole.compute())
    for other in (DetectionAP(3, IOUS), DetectionAP(CLASSES), scored([])):
        with pytest.raises(ValueError, match="suppression"):
            whole.merge(other)


def loop(images, draws, points):
    """mAP at .5 and the APs of each resample, its images copied under new names."""
    values = []
    for drawn in draws:
        copies = [(f"{images[i][0]}-{k}", *images[i][1:]) for k, i in enumerate(drawn)]
        values.append([naive_ap(copies, c, 0.5, points) for c in range(CLASSES)])
    ap = np.array(values)
    known = ~np.isnan(ap)
    return np.where(known, ap, 0).sum(axis=1) / known.sum(axis=1), ap


@pytest.mark.parametrize("points", ["all", "11"])
def test_bootstrap_and_pairs_redraw_images(points):
    images = list(random_images(6))
    other = [(i, b[::-1], s, c[::-1], *truth) for i, b, s, c, *truth in images]
    drawn = np.random.default_rng(1).integers(0, 6, (60, 6))
    mean, ap = loop(images, drawn, points)
    got = scored(images).intervals(seed=1, resamples=60, interpolation=points)
    np.testing.assert_allclose(got["map@0.5"], np.quantile(mean, (0.025, 0.975)), rtol=1e-9)
    want = np.nanquantile(ap[:, :-1], (0.025, 0.975), axis=0).T
    np.testing.assert_allclose(got["ap@0.5"][:-1], want, rtol=1e-9, atol=1e-12)
    assert np.isnan(got["ap@0.5"][-1]).all()
    mean_b, _ = loop(other, drawn, points)
    found = scored(images).compare(scored(other), seed=1, resamples=60, interpolation=points)
    got = found["map@0.5"]
    np.testing.assert_allclose(
        (got.low, got.high), np.quantile(mean_b - mean, (0.025, 0.975)), rtol=1e-9
    )
    values = [scored(run).compute(points)["map@0.5"] for run in (images, other)]
    assert got.value == pytest.approx(values[1] - values[0], rel=1e-12)
    assert len(found["ap@0.2"]) == CLASSES
    for bad in (scored(other[1:]), scored(other, ious=[0.5])):
        with pytest.raises(ValueError, match="different images"):
            scored(images).compare(bad)


def test_intervals_cover_a_known_binomial():
    # One object and one box an image: AP is a function of the share found, here its square.
    rng = np.random.default_rng(0)
    box, covered = [[0, 0, 9, 9]], 0
    for _ in range(100):
        metric = DetectionAP(1, [0.5], None)
        for i, ok in enumerate(rng.random(80) < 0.7):
            # Wrong ones rank first, so that the precision of all that are right is the share found.
            metric.update(f"{i:02d}", box if ok else [[50, 50, 59, 59]], [1 - ok], [0], box, [0])
        low, high = metric.intervals(resamples=300)["map@0.5"]
        covered += low <= 0.7**2 <= high
    assert 0.88 <= covered / 100 <= 1


def test_nothing_found_or_nothing_to_find():
    for found in (DetectionAP(2).compute(), DetectionAP(2).intervals(resamples=5)):
        assert all(np.isnan(v).all() for v in found.values())
    metric = DetectionAP(2)
    metric.update("a", [], [], [], [[0, 0, 1, 1]], [0])
    metric.update("b", [[0, 0, 1, 1]], [0.5], [1], [], [])
    metric.update("c", [[0, 0, 1, 1]], [0.5], [1], [[0, 0, 1, 1]], [1], [True])
    again = DetectionAP.from_arrays(metric.to_arrays())
    for points in ("all", "11"):
        np.testing.assert_array_equal(again.compute(points)["ap@0.5"], [0, np.nan])
        assert again.compute(points)["map@0.5"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": [[0, 0, 1]]}, "shape"),
        ({"boxes": [[1, 0, 0, 1]]}, "x0 <= x1"),
        ({"boxes": [[0, np.nan, 1, 1]]}, "x0 <= x1"),
        ({"scores": [np.nan]}, "NaN"),
        ({"scores": [np.inf]}, "infinite"),
        ({"scores": [0.5, 0.5]}, "1 boxes"),
        ({"labels": []}, "1 boxes"),
        ({"labels": [2]}, "0 to 1"),
        ({"gt_boxes": [[1, 0, 0, 1]]}, "x0 <= x1"),
        ({"gt_labels": [0, 1]}, "1 objects"),
        ({"gt_labels": [-1]}, "0 to 1"),
        ({"difficult": [True, False]}, "1 objects"),
    ],
)
def test_bad_detections_are_refused(changes, message):
    good = {"boxes": [[0, 0, 1, 1]], "scores": [0.5], "labels": [0]}
    good |= {"gt_boxes": [[0, 0, 1, 1]], "gt_labels": [0]}
    metric = DetectionAP(2)
    with pytest.raises(ValueError, match=message):
        metric.update("a", **{**good, **changes})
    assert len(metric) == len(metric.objects) == 0
    metric.update("a", **good)
    with pytest.raises(ValueError, match="twice"):
        metric.update("a", **good)
    assert len(metric.objects) == 1


def test_bad_settings_are_refused():
    for args, message in (
        ((0,), "class"),
        ((2, []), "IoUs"),
        ((2, [0.0]), "IoUs"),
        ((2, [np.nan]), "IoUs"),
        ((2, [0.5], 1.5), "IoU threshold"),
    ):
        with pytest.raises(ValueError, match=message):
            DetectionAP(*args)
    with pytest.raises(ValueError, match="interpolation"):
        scored(random_images(1)).compute("all-point")
    box = [[0, 0, 1, 1]]
    for args in ((box, [np.nan]), (box, [1, 2]), (box, [1], 0.3, [0, 1]), (box, [1], 2)):
        with pytest.raises(ValueError, match=r"NaN|scores|threshold"):
            nms(*args)


@pytest.mark.shared
def test_components_of_real_masks(shared):
    """Regions of eroded real masks against each class's whole box, and against the loop."""
    cv2 = pytest.importorskip("cv2")
    image = pytest.importorskip("PIL.Image")
    folder = shared / "data" / "voc_animals" / "SegmentationClassAug"
    metric, given = DetectionAP(20), []
    for path in sorted(folder.glob("*.png"))[:25]:
        mask = np.asarray(image.open(path))
        classes = [int(c) for c in np.unique(mask) if 0 < c < 255]
        whole, found, sums, labels = [], [], [], []
        for c in classes:
            ys, xs = np.nonzero(mask == c)
            whole.append([xs.min(), ys.min(), xs.max(), ys.max()])
            parts = cv2.erode((mask == c).astype(np.float32), np.ones((9, 9)))
            boxes, scores = component_boxes(parts)
            found += boxes.tolist()
            sums += scores.tolist()
            labels += [c - 1] * len(boxes)
        truth = [c - 1 for c in classes]
        metric.update(path.stem, found, sums, labels, whole, truth)
        of_class = [np.flatnonzero(np.array(labels) == c) for c in truth]
        kept = [
            int(of_c[k])
            for of_c in of_class
            for k in naive_nms([found[i] for i in of_c], [sums[i] for i in of_c], 0.3)
        ]
        boxes, scores, names = ([x[k] for k in kept] for x in (found, sums, labels))
        given.append((path.stem, boxes, scores, names, whole, truth, [False] * len(truth)))
    found = metric.compute()
    for wanted in (0.5, 0.2):
        want = [naive_ap(given, c, wanted, "all") for c in range(20)]
        np.testing.assert_allclose(found[f"ap@{wanted:g}"], want, rtol=1e-10)
    low, high = metric.intervals(resamples=200)["map@0.5"]
    assert 0.2 < low < found["map@0.5"] < found["map@0.2"] <= 1
    assert found["map@0.5"] < high
