"""Detection AP of boxes from class maps, through the whole pass, against plain loops."""

import dataclasses
import types

import cv2
import numpy as np
import pytest

from wsol_jax.data.records import Record
from wsol_jax.evaluate import score
from wsol_jax.evaluate.kind import Task
from wsol_jax.evaluate.localize import LocalizedImage
from wsol_jax.evaluate.multi_label import MultiLabel, central_detections, detect
from wsol_jax.evaluate.multi_label_scores import MultiLabelScores
from wsol_jax.runs.opened import Network

NAMES = ("ball", "bar", "cross")
SHARE, NMS = 0.5, 0.3
CENTRAL = np.array([78, 72, 144, 151])  # in the frame of the maps: 67 of 224 pixels by 80


class Scenes:
    """Images of up to two objects, one of them without an object, one whose boxes are unknown."""

    name, class_names = "scenes", NAMES

    def __init__(self, count=24, sides=(60, 120), hard=0.0):
        rng = np.random.default_rng(3)
        self.records = []
        for i in range(count):
            width, height = map(int, rng.integers(*sides, 2))
            labels = rng.integers(0, 3, 0 if i == 4 else 1 + i % 2)
            corners = rng.integers(0, 30, (len(labels), 2))
            boxes = np.concatenate([corners, corners + rng.integers(12, 29, (len(labels), 2))], 1)
            if i == 7:
                boxes, of = boxes[:0], labels[:0]
            else:
                of = labels
            self.records.append(
                Record(
                    image_id=f"i{i:02}",
                    image="",
                    labels=tuple(sorted({int(c) for c in labels})),
                    size=(width, height),
                    boxes=boxes.astype(np.float32),
                    box_labels=of.astype(np.int32),
                    difficult=rng.random(len(of)) < hard if hard else None,
                )
            )

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        return self.records[index]

    def mask(self, index):
        return None


def said(scenes, sure=False):
    """Maps that are bright near most objects, with noise of both signs.

    ``sure``: with class scores that differ; else all are a half.
    """
    rng = np.random.default_rng(5)
    for index, record in enumerate(scenes.records):
        maps = rng.normal(0, 0.25, (14, 14, 3)).astype(np.float32)
        maps[..., 2] -= 9 * (index % 5 == 0)  # a map that is nowhere positive
        for (x0, y0, x1, y1), c in zip(record.boxes, record.box_labels, strict=True):
            if rng.random() < 0.8:
                at = np.array([x0, x1, y0, y1]) * 14
                at = (at / np.repeat(record.size, 2)).astype(int)
                maps[at[2] : at[3] + 1, at[0] : at[1] + 1, c] += rng.uniform(0.5, 2)
        scores = rng.random(3).astype(np.float32) if sure else np.full(3, 0.5, np.float32)
        picked = np.moveaxis(maps, -1, 0)
        yield LocalizedImage(index, scores, np.arange(3), picked, picked[0], record.size, maps)


WITHOUT_PARTS = Task(parts=False)


def scored(scenes, task=WITHOUT_PARTS, sure=False, **detection):
    given = types.SimpleNamespace(**{"threshold": SHARE, "nms_iou": NMS, **detection})
    config = types.SimpleNamespace(
        eval=types.SimpleNamespace(tolerance=4.0, class_scores="", detection=given),
        data=types.SimpleNamespace(threads=2),
    )
    images = list(said(scenes, sure))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "localize_list", lambda *args, **options: iter(images))
        return score.score_list(Network(config, None, None, None), scenes, MultiLabel(config), task)


@pytest.fixture(scope="module")
def scenes():
    return Scenes()


# ---------------------------------------------------------------- the same by loops


def regions(plane):
    """Boxes and sums of the 8-connected regions above a share of the maximum, by flooding."""
    top = plane.max()
    left = {(y, x) for y, x in zip(*np.nonzero(plane > np.float32(SHARE) * top), strict=True)}
    found = []
    while left:
        stack, mine = [left.pop()], []
        while stack:
            y, x = stack.pop()
            mine.append((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            stack += near
        ys, xs = zip(*mine, strict=True)
        total = sum(float(plane[at]) for at in mine)
        found.append(((min(xs), min(ys), max(xs), max(ys)), total / plane.size))
    return found


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    inside = max(width, 0) * max(height, 0)
    area = lambda r: (r[2] - r[0] + 1) * (r[3] - r[1] + 1)
    return inside / (area(a) + area(b) - inside)


def middle(size):
    """The fixed box in an image's own pixels."""
    corners = []
    for side, share in zip(size, (67 / 224, 80 / 224), strict=True):
        long = round(share * side)
        corners.append(((side - long) // 2, (side - long) // 2 + long - 1))
    (x0, x1), (y0, y1) = corners
    return x0, y0, x1, y1


def naive_ap(scenes, wanted, central=False):
    """AP of each class over the images whose boxes are known; all-point, from the right.

    ``central``: instead of a class's boxes the fixed one, as sure as the surest.
    """
    aps = []
    for c in range(len(NAMES)):
        ranked, objects = [], 0
        for image in said(scenes):
            record = scenes[image.index]
            if record.labels and not len(record.boxes):
                continue
            of_all = record.box_labels
            mine = [b for b, own in zip(record.boxes, of_all, strict=True) if own == c]
            marks = record.difficult if record.difficult is not None else [False] * len(of_all)
            hard = [d for d, own in zip(marks, of_all, strict=True) if own == c]
            objects += len(mine) - sum(hard)
            plane = cv2.resize(image.maps[..., c], record.size)
            found = regions(plane) if image.maps[..., c].max() > 0 else []
            boxes = sorted(found, key=lambda entry: -entry[1])
            kept = []
            for box, value in boxes:
                if all(iou(box, other) <= NMS for other, _ in kept):
                    kept.append((box, value))
            if central and kept:
                kept = [(middle(record.size), kept[0][1])]
            taken = set()
            for box, value in kept:
                overlaps = [iou(box, true) for true in mine]
                best = int(np.argmax(overlaps)) if mine else -1
                near = best >= 0 and overlaps[best] >= wanted
                if near and hard[best]:
                    continue  # neither right nor wrong
                right = near and best not in taken
                if right:
                    taken.add(best)
                ranked.append((value, right))
        ranked.sort(key=lambda entry: -entry[0])
        hits, points = 0, []
        for total, (_, right) in enumerate(ranked, start=1):
            hits += right
            points.append((hits / objects, hits / total))
        ap, before = 0.0, 0.0
        for k, (recall, _) in enumerate(points):
            ap += (recall - before) * max(p for _, p in points[k:])
            before = recall
        aps.append(ap)
    return np.array(aps)


@pytest.mark.parametrize("wanted, name", [(0.5, "detection_map"), (0.2, "detection_map_20")])
def test_detection_equals_a_loop(scenes, wanted, name):
    figures = scored(scenes).figures()
    expected = naive_ap(scenes, wanted)
    assert figures[name] == pytest.approx(expected.mean(), abs=1e-9)
    assert 0.02 < figures[name] < 0.98
    if wanted == 0.5:
        by_class = figures["by_class"]["detection_ap"]
        np.testing.assert_allclose([by_class[n] for n in NAMES], expected, atol=1e-9)
    low, high = figures["intervals_95"][name]
    assert low <= figures[name] <= high


@pytest.mark.parametrize("wanted, name", [(0.5, "detection_map"), (0.2, "detection_map_20")])
def test_difficult_objects_are_passed_over(wanted, name):
    """The devkit's loop again, a third of the objects marked; the same marks move the others."""
    scenes, unmarked = Scenes(hard=0.35), Scenes(hard=0.35)
    assert 5 < sum(record.difficult.sum() for record in scenes.records) < 20
    unmarked.records = [dataclasses.replace(r, difficult=None) for r in unmarked.records]
    made = scored(scenes, Task(parts=False, central=CENTRAL))
    figures, plain = made.figures(), scored(unmarked).figures(intervals=False)
    assert figures[name] == pytest.approx(naive_ap(scenes, wanted).mean(), abs=1e-9)
    assert figures[name] != plain[name] == pytest.approx(naive_ap(unmarked, wanted).mean())
    fixed = naive_ap(scenes, wanted, central=True)
    assert figures[f"central_{name}"] == pytest.approx(fixed.mean(), abs=1e-9)
    for other in ("location_map", "centre_location_map", "class_map"):
        assert figures[other] != plain[other], other


def test_a_class_in_difficult_objects_alone_is_no_images_label():
    """As VOCevalcls leaves out images of label 0: neither there to be found nor a false alarm."""
    scenes = Scenes(hard=0.35)
    ranked = {c: [] for c in range(len(NAMES))}
    for image in said(scenes, sure=True):
        record = scenes[image.index]
        pairs = list(zip(record.box_labels.tolist(), record.difficult.tolist(), strict=True))
        for c, entries in ranked.items():
            marks = [hard for label, hard in pairs if label == c]
            if not (marks and all(marks)):
                entries.append((image.probabilities[c], c in record.labels))
    expected = []
    for entries in ranked.values():
        entries.sort(key=lambda entry: -entry[0])
        right = [there for _, there in entries]
        precision = [sum(right[: k + 1]) / (k + 1) for k, there in enumerate(right) if there]
        expected.append(sum(precision) / sum(right))
    found = scored(scenes, sure=True).figures(intervals=False)["class_map"]
    assert found == pytest.approx(np.mean(expected), rel=1e-9)


@pytest.mark.parametrize("wanted, name", [(0.5, ""), (0.2, "_20")])
def test_the_central_box_equals_a_loop(wanted, name):
    scenes = Scenes(sides=(58, 80))  # so small that some objects lie in the middle
    made = scored(scenes, Task(parts=False, central=CENTRAL))
    figures = made.figures(intervals=False)
    expected = naive_ap(scenes, wanted, central=True)
    key = f"central_detection_map{name}"
    assert figures[key] == pytest.approx(expected.mean(), abs=1e-9)
    assert 0.01 < figures[key] < figures[f"detection_map{name}"]
    # A class that a map finds nothing of has no central box either; an unknown image has none.
    assert made.central.images.ids() == made.detection.images.ids()
    for (_, found), (_, fixed) in zip(
        made.detection.images.items(), made.central.images.items(), strict=True
    ):
        best = {c: found["score"][found["label"] == c].max() for c in set(found["label"].tolist())}
        assert dict(zip(fixed["label"].tolist(), fixed["score"], strict=True)) == best


def test_the_central_box_by_hand():
    """Two boxes of one class, one of another: a box each, wide as the photo, a fourth as high."""
    boxes = np.array([[0, 0, 5, 5], [9, 9, 9, 9], [0, 0, 1, 1]])
    found = (boxes, np.array([0.2, 0.7, 0.1]), np.array([3, 3, 1]))
    fixed = central_detections(found, np.array([0, 84, 223, 139]), (500, 300))
    np.testing.assert_array_equal(fixed[0], [[0, 112, 499, 186]] * 2)
    assert fixed[1].tolist() == [0.1, 0.7] and fixed[2].tolist() == [1, 3]
    none = central_detections(tuple(x[:0] for x in found), np.array([0, 84, 223, 139]), (500, 300))
    assert [x.shape for x in none] == [(0, 4), (0,), (0,)]


def test_a_run_without_a_central_box_has_no_row_and_is_paired_all_the_same(scenes, tmp_path):
    """As older files, and as those whose training list has no boxes."""
    made = scored(scenes, Task(parts=False, central=CENTRAL))
    made.save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as file:
        rows = {name: file[name] for name in file.files if not name.startswith("central/")}
    assert len(rows) < len(file.files)
    np.savez(tmp_path / "old.npz", **rows)
    new, old = (MultiLabelScores.load(tmp_path / f"{name}.npz") for name in ("new", "old"))
    figures = made.figures(intervals=False)
    assert new.figures(intervals=False) == new.merge(made).figures(intervals=False) == figures
    lacking = old.figures(intervals=False)
    central = {"central_detection_map", "central_detection_map_20"}
    assert lacking == {k: v for k, v in figures.items() if k not in central} != figures
    assert lacking == scored(scenes).figures(intervals=False)
    assert central <= set(MultiLabelScores.paired([new], [made]))
    for one, other in ((new, old), (old, new), (old, old)):
        assert not one.obstacle(other)
        paired = MultiLabelScores.paired([one], [other])
        assert "detection_map" in paired and not central & set(paired)


def test_boxes_of_a_map_by_hand():
    """Two regions of one class, one of another, and a class without a positive maximum."""
    maps = np.zeros((120, 130, 3), np.float32)
    maps[10:20, 30:50, 0] = 1.0
    maps[100:104, 100:110, 0] = 0.7
    maps[60, 60, 0] = 0.5  # not above the share
    maps[5:7, 5:9, 1] = 3.0
    maps[..., 2] = -1.0
    boxes, scores, labels = detect(maps, 0.5, (130, 120))
    assert labels.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(boxes, [[30, 10, 49, 19], [100, 100, 109, 103], [5, 5, 8, 6]])
    np.testing.assert_allclose(scores * 130 * 120, [200, 28, 24], rtol=1e-6)


def test_a_quick_pass_and_lists_without_boxes_have_none(scenes):
    quick = scored(scenes, Task(parts=False, full=False)).figures(intervals=False)
    assert quick["detection_map"] is None and quick["location_map"] is not None
    unknown = Scenes()
    unknown.records = [unknown.records[7]]
    assert scored(unknown).figures()["detection_map_20"] is None


def test_saved_with_its_suppression(scenes, tmp_path):
    made = scored(scenes, nms_iou=0.6)
    made.save(tmp_path / "s.npz")
    again = MultiLabelScores.load(tmp_path / "s.npz")
    assert again.detection.nms_iou == 0.6
    expected = made.figures(intervals=False)
    assert again.figures(intervals=False) == expected
    assert again.merge(made).figures(intervals=False) == expected
