"""Figures of stored maps: against a slow OpenCV route, and alike from any way to store them."""

import cv2
import numpy as np
import pytest
from helpers.stored import IDS, map_path, refused, save, scored, words, write_lines, write_masks

from wsol_jax.metrics.maps import prepare_map

# ---- the community's definition, slowly ----


def slow_iou(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0)
    area = lambda c: (c[2] - c[0] + 1) * (c[3] - c[1] + 1)
    return width * height / (area(a) + area(b) - width * height)


def slow_boxes(score_map, tau):
    """The largest contour's box, and all contours' boxes."""
    grey = (score_map * 255).astype(np.uint8)
    _, binary = cv2.threshold(grey, int(tau * grey.max()), 255, cv2.THRESH_BINARY)
    contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return [0, 0, 0, 0], [[0, 0, 0, 0]]

    def box(contour):
        x, y, w, h = cv2.boundingRect(contour)
        return [x, y, min(x + w, 223), min(y + h, 223)]

    return box(max(contours, key=cv2.contourArea)), [box(c) for c in contours]


def slow_curves(tree, taus):
    """(2, 3, T): accuracy by version, delta and threshold."""
    sizes, truth = {}, {}
    for line in (tree / "metadata" / "image_sizes.txt").read_text().split("\n"):
        image_id, width, height = line.rsplit(",", 2)
        sizes[image_id] = (int(width), int(height))
    for line in (tree / "metadata" / "localization.txt").read_text().split("\n"):
        image_id, *box = line.rsplit(",", 4)
        box = [int(int(v) * 224 / s) for v, s in zip(box, 2 * sizes[image_id], strict=True)]
        truth.setdefault(image_id, []).append(box)
    hits = np.zeros((2, 3, len(taus)))
    for image_id in IDS:
        score_map = np.load(map_path(tree, image_id))
        for t, tau in enumerate(taus):
            largest, every = slow_boxes(score_map, tau)
            v1 = max(slow_iou(largest, b) for b in truth[image_id])
            v2 = max(slow_iou(a, b) for a in every for b in truth[image_id])
            for d, delta in enumerate((0.3, 0.5, 0.7)):
                hits[:, d, t] += (v1 >= delta, v2 >= delta)
    return hits / len(IDS)


def test_figures_equal_the_slow_route(tree):
    # Normalised maps have 255 levels: these thresholds meet each of them once.
    taus = np.unique(np.searchsorted(np.trunc(np.arange(0, 1, 0.001) * 255), range(255)) * 0.001)
    curves = slow_curves(tree, taus)
    found = scored(tree)
    assert list(found) == ["max_box_acc", "max_box_acc_v2", "gt_known_loc"]
    assert found["max_box_acc"]["value"] == pytest.approx(curves[0, 1].max(), abs=1e-12)
    assert found["max_box_acc_v2"]["value"] == pytest.approx(
        curves[1].max(axis=1).mean(), abs=1e-12
    )
    assert found["gt_known_loc"]["value"] == found["max_box_acc"]["value"]
    for delta, value in zip(("0.3", "0.5", "0.7"), curves[1].max(axis=1), strict=True):
        assert found["max_box_acc_v2"]["deltas"][delta] == pytest.approx(value, abs=1e-12)
    fixed = scored(tree, "--metrics=gt_known_loc", "--threshold=0.2")["gt_known_loc"]
    at = int(np.searchsorted(taus, 0.2 + 1e-9)) - 1
    assert fixed["value"] == pytest.approx(curves[0, 1, at], abs=1e-12)
    assert (fixed["threshold"], fixed["threshold_from"]) == (0.2, "--threshold")
    for entry in found.values():
        low, high = entry["interval"]
        assert low <= entry["value"] <= high and entry["images"] == len(IDS)


@pytest.mark.parametrize("layout", ["plain", "metadata", "masks"])
def test_pxap_equals_a_sort_of_all_pixels(tree, layout):
    rows, truth = write_masks(tree, layout == "plain")
    if rows:
        write_lines(tree / layout / "localization.txt", rows)
    scores, kind = [], []
    for image_id in IDS:
        foreground, ignore = truth[image_id]
        scores.append(np.load(map_path(tree, image_id))[~ignore])
        kind.append(foreground[~ignore])
    scores, kind = np.concatenate(scores), np.concatenate(kind)
    bins = np.searchsorted(np.append(np.arange(0, 1, 0.001), 1.0), scores, side="right")
    order = np.argsort(-bins, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(bins[order])), len(bins) - 1)  # of each bin's pixels
    hits = np.cumsum(kind[order])[ends]
    expected, last = 0.0, 0.0
    for p, r in zip(hits / (ends + 1), hits / kind.sum(), strict=True):
        expected, last = expected + p * (r - last), r
    found = scored(tree, f"--masks={tree / 'masks'}", "--metrics=pxap")["pxap"]
    assert found["value"] == pytest.approx(expected, abs=1e-9)
    assert found["interval"][0] < found["value"] < found["interval"][1]


def test_predictions_as_npz_and_as_text_agree(tree):
    rng = np.random.default_rng(2)
    values = rng.random((len(IDS), 7)).astype(np.float32)
    values[np.arange(len(IDS)), np.arange(len(IDS)) % 7] += 0.3
    order = rng.permutation(len(IDS))
    np.savez(tree / "p.npz", image_ids=np.array(IDS)[order], probabilities=values[order])
    ranked = np.argsort(-values, axis=1)[:, :5]
    lines = [f"{i},{','.join(map(str, r))}" for i, r in zip(IDS, ranked.tolist(), strict=True)]
    write_lines(tree / "p.csv", ["image_id,first,second", *lines])
    a = scored(tree, f"--predictions={tree / 'p.npz'}", "--threshold=0.3")
    assert a == scored(tree, f"--predictions={tree / 'p.csv'}", "--threshold=0.3")
    right = ranked == (np.arange(len(IDS)) % 7)[:, None]
    assert a["top1_acc"]["value"] == pytest.approx(right[:, 0].mean())
    assert a["top5_acc"]["value"] == pytest.approx(right.any(axis=1).mean())
    assert a["top1_loc"]["value"] <= min(a["top1_acc"]["value"], a["gt_known_loc"]["value"])
    assert a["top1_loc"]["value"] <= a["top5_loc"]["value"] <= a["gt_known_loc"]["value"]
    assert len(a["top5_loc"]["interval"]) == 2


def test_the_number_of_workers_changes_no_bit(tree):
    write_masks(tree, plain=True)
    assert scored(tree, f"--masks={tree / 'masks'}", "--workers=1") == scored(
        tree, f"--masks={tree / 'masks'}", "--workers=5"
    )


def test_other_number_types_and_orders_are_read(tree):
    before = scored(tree)
    for i, image_id in enumerate(IDS):
        path = map_path(tree, image_id)
        kinds = (np.float64, ">f4", np.float32, ">f8")
        value = np.load(path).astype(kinds[i % 4])
        np.save(path, np.asfortranarray(value) if i % 3 else value)
    assert scored(tree) == before


def test_resize_and_normalise_follow_the_definition(tree, capsys):
    rng = np.random.default_rng(3)
    small = {image_id: 9 * rng.random((14, 14)) - 4 for image_id in IDS}
    for image_id, value in small.items():
        save(map_path(tree, image_id), prepare_map(value))
    expected = scored(tree)
    for image_id, value in small.items():
        save(map_path(tree, image_id), value)
    assert scored(tree, "--resize") == expected
    for image_id, value in small.items():
        large = cv2.resize(value.astype(np.float32), (224, 224), interpolation=cv2.INTER_CUBIC)
        save(map_path(tree, image_id), large)
    assert "--normalise" in refused(capsys, words(tree))
    assert scored(tree, "--normalise") == expected
