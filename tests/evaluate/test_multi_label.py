"""Scores of images with several labels: scikit-learn, loops over images and pixels, and by hand."""

import dataclasses
import itertools
import types

import numpy as np
import pytest

from configs import cam, cams2i, spg
from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.data.records import Record
from wsol_jax.evaluate import kinds, score
from wsol_jax.evaluate.boxes import BoxScores
from wsol_jax.evaluate.kind import Task
from wsol_jax.evaluate.localize import LocalizedImage
from wsol_jax.evaluate.multi_label import MultiLabel
from wsol_jax.evaluate.multi_label_scores import FIGURES, MultiLabelScores, peak_distances
from wsol_jax.runs.opened import Network

NAMES = ("ball", "bar", "cross", "dot")
C = len(NAMES)
TOLERANCE = 4.0
PARTS = ("saliency", "location", "centre", "presence", "detection", "central", "peaks")
CENTRAL = np.array([40, 30, 183, 193])  # in the frame of the maps


def smooth(rng, size):
    """A map of a few cells, both signs."""
    return rng.normal(size=size).astype(np.float32)


class Truth:
    """Images of 0 to 3 classes with their boxes; some without a mask, one with an ignored rim."""

    name, class_names = "synthetic", NAMES

    def __init__(self, count=9, seed=0):
        rng = np.random.default_rng(seed)
        self.records, self.masks = [], []
        for i in range(count):
            width, height = map(int, rng.integers(30, 50, 2))
            labels = tuple(sorted(rng.choice(C - 1, i % 4, replace=False).tolist()))
            mask, boxes, of = np.zeros((height, width), np.uint8), [], []
            for c in labels:
                for _ in range(1 + (c + i) % 2):  # one or two of a class
                    x0, y0 = int(rng.integers(0, width - 12)), int(rng.integers(0, height - 12))
                    boxes.append([x0, y0, x0 + 9, y0 + 7])
                    of.append(c)
                    mask[y0 : y0 + 8, x0 : x0 + 10] = 1 + c
            if i == 5:
                mask[:2] = 255
            self.masks.append(None if i % 4 == 2 and i > 4 else mask)
            self.records.append(
                Record(
                    image_id=f"i{i}",
                    image="",
                    labels=labels,
                    size=(width, height),
                    boxes=np.array(boxes, np.float32).reshape(-1, 4),
                    box_labels=np.array(of, np.int32),
                )
            )

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        return self.records[index]

    def mask(self, index):
        return self.masks[index]


def said(truth, seed=1, parts=("first", "second")):
    """What a network that knows a little about the boxes says of every image."""
    rng = np.random.default_rng(seed)
    for i in range(len(truth)):
        record = truth[i]
        width, height = record.size

        def maps(record=record, width=width, height=height):
            found = smooth(rng, (6, 7, C))
            for box, c in zip(record.boxes, record.box_labels, strict=True):
                x, y = (box[0] + box[2]) / 2 / width * 7, (box[1] + box[3]) / 2 / height * 6
                found[int(y), int(x), c] += rng.normal(1.5)
            return found

        sure = rng.random(C).astype(np.float32)
        sure[list(record.labels)] += 0.3
        ranked = np.argsort(-sure)

        def image(own, i=i, sure=sure, ranked=ranked, record=record):
            label = record.labels[0] if record.labels else 0
            picked = np.moveaxis(own[..., ranked], -1, 0)
            return LocalizedImage(i, sure, ranked, picked, own[..., label], record.size, own)

        yield image(maps())._replace(parts={name: image(maps()) for name in parts})


@pytest.fixture(scope="module")
def truth():
    return Truth()


@pytest.fixture(scope="module")
def images(truth):
    return list(said(truth))


def scored(truth, images, tolerance=TOLERANCE):
    """Through score_list, with a network that has spoken already."""
    config = types.SimpleNamespace(
        eval=types.SimpleNamespace(
            tolerance=tolerance,
            class_scores="",
            detection=types.SimpleNamespace(threshold=0.6, nms_iou=0.3),
        ),
        data=types.SimpleNamespace(threads=3),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "localize_list", lambda *args, **options: iter(images))
        kind = MultiLabel(config, {name: MultiLabel(config) for name in ("first", "second")})
        network = Network(config, None, None, None)
        return score.score_list(network, truth, kind, Task(central=CENTRAL))


@pytest.fixture(scope="module")
def scores(truth, images):
    return scored(truth, images)


# ---------------------------------------------------------------- naive computations


def enlarged(plane, width, height):
    """Bilinear with half-pixel centres, in float64."""
    plane = np.asarray(plane, np.float64)
    for axis, size in ((0, height), (1, width)):
        n = plane.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.minimum(place.astype(int), n - 2)
        plane = np.moveaxis(plane, axis, 0)
        share = (place - low)[:, None]
        plane = np.moveaxis((1 - share) * plane[low] + share * plane[low + 1], 0, axis)
    return plane


def peak(plane, width, height):
    full = enlarged(plane, width, height)
    y, x = np.unravel_index(full.argmax(), full.shape)
    return int(x), int(y), full[y, x]


def average_precision(entries):
    """[(score, right, there to be found)]: the mean, over what is there, of the precision there."""
    positives = sum(there for _, _, there in entries)
    hits, total = 0, 0.0
    for rank, (_, right, _) in enumerate(sorted(entries, key=lambda e: -e[0]), start=1):
        hits += right
        total += right * hits / rank
    return total / positives if positives else None


def naive(truth, images, part=None, tolerance=TOLERANCE):
    """Sections 5 and 6: AP by class of peaks, of the centre, and of the class scores."""
    kinds = {"location_ap": {}, "centre": {}, "class_ap": {}}
    for c in range(C):
        rows = {name: [] for name in kinds}
        for image in images:
            record = truth[image.index]
            width, height = image.size
            own = image.parts[part] if part else image
            x, y, score = peak(own.maps[..., c], width, height)
            boxes = record.boxes[record.box_labels == c]

            def inside(px, py, boxes=boxes):
                return any(
                    x0 - tolerance <= px <= x1 + tolerance
                    and y0 - tolerance <= py <= y1 + tolerance
                    for x0, y0, x1, y1 in boxes
                )

            there = c in record.labels
            rows["location_ap"].append((score, inside(x, y), there))
            rows["centre"].append((score, inside(width // 2, height // 2), there))
            rows["class_ap"].append((image.probabilities[c], there, there))
        for name in kinds:
            kinds[name][c] = average_precision(rows[name])
    return kinds


def mean(by_class):
    return np.mean([v for v in by_class.values() if v is not None])


@pytest.mark.parametrize("part, tolerance", [(None, TOLERANCE), ("first", 18.0), ("second", 0.0)])
def test_locations_and_classes_equal_loops_over_images(truth, images, part, tolerance):
    made = scored(truth, images, tolerance)
    made = made.parts[part] if part else made
    figures = made.figures()
    expected = naive(truth, images, part, tolerance)
    assert figures["location_map"] == pytest.approx(mean(expected["location_ap"]), rel=1e-12)
    assert figures["centre_location_map"] == pytest.approx(mean(expected["centre"]), rel=1e-12)
    assert figures["class_map"] == pytest.approx(mean(expected["class_ap"]), rel=1e-12)
    for name in ("location_ap", "class_ap"):
        found = figures["by_class"][name]
        assert set(found) == set(NAMES[:3])  # no image shows the last: no figure, no zero
        for c in range(3):
            assert found[NAMES[c]] == pytest.approx(expected[name][c], rel=1e-12)
    assert 0 < figures["location_map"] < 1 and figures["images"] == len(truth)


def test_class_figures_equal_scikit_learns(truth, images, scores):
    average_precision_score = pytest.importorskip("sklearn.metrics").average_precision_score
    sure = np.stack([image.probabilities for image in images])
    there = np.array([[c in truth[image.index].labels for c in range(C)] for image in images])
    expected = [average_precision_score(there[:, c], sure[:, c]) for c in range(3)]
    assert scores.figures(intervals=False)["class_map"] == pytest.approx(np.mean(expected))


def test_saliency_equals_scikit_learns(truth, images, scores):
    """Section 5: the classes that the mask shows, at the mask's size, 255 left out."""
    average_precision_score = pytest.importorskip("sklearn.metrics").average_precision_score
    each, pooled, by_class = [], [], {}
    for image in images:
        mask = truth.mask(image.index)
        if mask is None:
            continue
        height, width = mask.shape
        for c in sorted(set(mask[mask != 255].tolist()) - {0}):
            values = enlarged(image.maps[..., c - 1], width, height)[mask != 255]
            right = mask[mask != 255] == c
            each.append(average_precision_score(right, values))
            pooled.append((values, right))
            by_class.setdefault(NAMES[c - 1], []).append((values, right))
    figures = scores.figures()
    assert figures["saliency_ap_per_map"] == pytest.approx(np.mean(each), abs=1e-6)
    whole = lambda pairs: average_precision_score(
        np.concatenate([y for _, y in pairs]), np.concatenate([x for x, _ in pairs])
    )
    assert figures["saliency_ap"] == pytest.approx(whole(pooled), abs=0.004)  # in bins of 1.1%
    for name, pairs in by_class.items():
        found = figures["by_class"]["saliency_ap"][name]
        assert found == pytest.approx(whole(pairs), abs=0.004)
    assert set(by_class) == set(figures["by_class"]["saliency_ap"])


def test_location_by_hand():
    """Three images, one class: found by a hair, missed by a pixel, and not there at all."""
    made = MultiLabelScores(("ball",), 2.0)
    box = np.array([[10.0, 10, 20, 20]])
    sure = [0.9, 0.5, 0.7]
    points = [(22, 8), (23, 15), (15, 15)]
    truths = [(box, [0]), (box, [0]), (np.zeros((0, 4)), [])]
    for i, (boxes, labels) in enumerate(truths):
        record = Record(f"{i}", "", tuple(labels), (40, 30), boxes, np.array(labels, np.int32))
        image = types.SimpleNamespace(size=(40, 30), probabilities=np.array([sure[i]]))
        known = types.SimpleNamespace(record=record, mask=None)
        found = {"points": np.array([points[i]]), "scores": np.array([sure[i]])}
        MultiLabel(None).add(made, image, {"truth": known, "whole": False, **found})
    figures = made.figures()
    assert figures["location_map"] == 0.5  # .9 right; .7 wrong; .5 wrong: 1/1 of 2
    assert figures["class_map"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["centre_location_map"] == pytest.approx((1 + 2 / 3) / 2)  # (20, 15) is inside
    assert figures["saliency_ap"] is None and figures["saliency_ap_per_map"] is None
    assert "saliency_ap" not in figures["intervals_95"]
    assert figures["by_class"]["saliency_ap"] == {}


def test_intervals_hold_their_figure_and_are_left_out_on_request(scores):
    figures = scores.figures()
    for name, (low, high) in figures["intervals_95"].items():
        assert low <= figures[name] <= high, name
    assert set(figures["intervals_95"]) == {*FIGURES.values(), "peak_distance"}
    bare = scores.figures(intervals=False)
    assert bare == {k: v for k, v in figures.items() if k not in ("intervals_95", "by_class")}


# ---------------------------------------------------------------- peaks of two networks


def test_peak_distances_by_hand():
    one, other = (MultiLabelScores(("a", "b"), 1.0) for _ in range(2))
    none = (np.nan, np.nan)
    one.peaks.update(["x", "y", "z"], np.array([[(0, 0), (5, 5)], [(1, 2), none], [none, none]]))
    other.peaks.update(["z", "y", "x"], np.array([[none, none], [(4, 6), none], [(3, 4), (5, 6)]]))
    np.testing.assert_allclose(peak_distances(one, other), [(5 + 1) / 2, 5])
    made = MultiLabelScores(("a", "b"), 1.0, {"first": one, "second": other})
    assert made.figures()["peak_distance"] == 4


def test_peak_distance_equals_a_loop(truth, images, scores):
    means = []
    for image in images:
        each = []
        for c in truth[image.index].labels:
            (x, y, _), (u, v, _) = (
                peak(image.parts[n].maps[..., c], *image.size) for n in ("first", "second")
            )
            each.append(np.hypot(x - u, y - v))
        if each:
            means.append(np.mean(each))
    assert len(means) < len(images)
    found = scores.figures(intervals=False)["peak_distance"]
    assert found == pytest.approx(np.mean(means), rel=1e-6)
    assert "peak_distance" not in scores.parts["first"].figures(intervals=False)


def assert_all_unknown(figures):
    """Without a true box there is none to be met by the fixed one: that has no row at all."""
    central = {"central_detection_map", "central_detection_map_20"}
    assert central <= set(FIGURES.values()) and not central & set(figures)
    assert all(figures[name] is None for name in set(FIGURES.values()) - central)


def test_no_image_shows_a_class():
    truth = Truth(1)
    assert truth[0].labels == ()
    figures = scored(truth, list(said(truth))).figures()
    assert_all_unknown(figures)
    assert "peak_distance" not in figures and figures["images"] == 1


# ---------------------------------------------------------------- lists put together


def assert_same(one, other):
    for name in PARTS:
        a, b = (getattr(x, name).to_arrays() for x in (one, other))
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=f"{name}/{key}")
    assert one.parts.keys() == other.parts.keys()
    for name, part in one.parts.items():
        assert_same(part, other.parts[name])


def test_merging_in_any_order_gives_the_same_bits(truth, images, scores):
    thirds = [scored(truth, images[i::3]) for i in range(3)]
    whole = scores.figures(intervals=False)
    for order in itertools.permutations(thirds):
        merged = order[0].merge(order[1]).merge(order[2])
        assert_same(merged, scores)
        assert len(merged) == len(images)
    assert merged.figures(intervals=False) == whole
    assert_same(thirds[0].merge(thirds[1].merge(thirds[2])), scores)


def test_an_image_in_both_lists_counts_once(truth, images, scores):
    one, other = scored(truth, images[:6]), scored(truth, images[3:])
    assert_same(one.merge(other), scores)


def test_an_empty_list_adds_nothing(images, scores):
    """As where no photo of a process's share could be read: then there are no parts either."""
    empty = MultiLabelScores(NAMES, TOLERANCE)
    assert_same(scores.merge(empty), scores)
    assert_same(empty.merge(scores), scores)
    one = BoxScores(class_names=NAMES, parts={"first": BoxScores(class_names=NAMES)})
    assert one.merge(BoxScores()).parts.keys() == BoxScores().merge(one).parts.keys() == {"first"}
    assert_all_unknown(empty.figures())


def test_lists_of_other_classes_do_not_merge(scores):
    with pytest.raises(ValueError, match="classes or"):
        scores.merge(MultiLabelScores(NAMES[:2], TOLERANCE))
    with pytest.raises(ValueError, match="tolerance"):
        scores.merge(MultiLabelScores(NAMES, 1.0))


# ---------------------------------------------------------------- files and comparisons


def test_saved_and_read_back(scores, tmp_path):
    path = tmp_path / "deep" / "test.npz"
    scores.save(path)
    found = MultiLabelScores.load(path)
    assert found.class_names == NAMES and found.tolerance == TOLERANCE
    for name in PARTS:
        a, b = (getattr(x, name).to_arrays() for x in (scores, found))
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
    expected = scores.figures(intervals=False)
    expected.pop("peak_distance")  # of the parts, which have files of their own
    assert found.figures(intervals=False) == expected
    assert [p.name for p in path.parent.iterdir()] == ["test.npz"]


def test_both_kinds_of_files_are_told_apart(scores, tmp_path):
    scores.save(tmp_path / "several.npz")
    BoxScores(class_names=NAMES).save(tmp_path / "one.npz")
    assert type(kinds.load(tmp_path / "several.npz")) is MultiLabelScores
    assert type(kinds.load(tmp_path / "one.npz")) is BoxScores


def test_a_run_against_itself_differs_by_nothing(scores):
    found = MultiLabelScores.paired([scores], [scores])
    assert set(found) == set(FIGURES.values())
    for name, value in found.items():
        assert dataclasses.astuple(value) == (0, 0, 0), name


def test_a_difference_is_that_of_the_figures(truth, scores):
    other = scored(truth, list(said(truth, seed=7)))
    one, two = scores.figures(intervals=False), other.figures(intervals=False)
    for name, value in MultiLabelScores.paired([scores], [other]).items():
        difference, low, high = dataclasses.astuple(value)
        assert difference == pytest.approx(two[name] - one[name])
        assert low <= difference <= high
        assert low < high or one[name] == two[name] == 0
    with pytest.raises(ValueError, match="different images"):
        MultiLabelScores.paired([scores], [scored(truth, list(said(truth))[1:])])


# ---------------------------------------------------------------- who may score them


@pytest.mark.parametrize("file", [spg, cams2i])
def test_methods_of_one_label_refuse_several(file):
    config = file.get_config("voc,weights=none")
    with config.unlocked():
        config.data.multi_label = True
    with pytest.raises(UserError, match=r"data\.multi_label: .* needs one class an image"):
        methods.build(config, 20)


def test_cam_takes_several():
    config = cam.get_config("voc,weights=none")
    with config.unlocked():
        config.data.multi_label = True
    methods.build(config, 20)
