"""Segmentations scored: per-image rows, class maps cut at thresholds, runs against runs."""

import functools
import json
import types

import cv2
import numpy as np
import pytest

from configs import sec as sec_config
from wsol_jax import compare
from wsol_jax.base.errors import UserError
from wsol_jax.evaluate import kinds, photo_size, segments, thresholded
from wsol_jax.evaluate.boxes import BoxScores
from wsol_jax.evaluate.localize import LocalizedImage
from wsol_jax.evaluate.segment_scores import SegmentationScores
from wsol_jax.evaluate.thresholded import MapThresholds
from wsol_jax.report import tables
from wsol_jax.runs.opened import Network

NAMES = ("bird", "cat", "dog")


def random_pairs(count=6, seed=0, right=0.6):
    """Truths with ignored pixels, and segmentations of which ``right`` is right, by id."""
    rng = np.random.default_rng(seed)
    made = {}
    for i in range(count):
        shape = (7 + i, 9)
        truth = rng.choice([0, 1 + i % 3, 255], p=[0.5, 0.4, 0.1], size=shape).astype(np.uint8)
        guess = rng.integers(0, 4, shape).astype(np.uint8)
        hit = (rng.random(shape) < right) & (truth != 255)
        made[f"id{i}"] = truth, np.where(hit, truth, guess).astype(np.uint8)
    return made


def scored(pairs, names=NAMES, means=()):
    scores = SegmentationScores(names, means)
    for image_id, pair in pairs.items():
        scores.update(image_id, *pair)
    return scores


def by_hand(pairs, classes=4, meant=None):
    """(mean IoU, pixel accuracy, IoU by class) with a Python loop over classes."""
    truth = np.concatenate([t.ravel() for t, _ in pairs.values()])
    found = np.concatenate([f.ravel() for _, f in pairs.values()])[truth != 255]
    truth = truth[truth != 255]
    ious = []
    for c in range(classes):
        union = ((truth == c) | (found == c)).sum()
        ious.append(((truth == c) & (found == c)).sum() / union if union else np.nan)
    chosen = [ious[c] for c in (range(classes) if meant is None else meant)]
    return np.nanmean(chosen), (truth == found).mean(), ious


# ---------------------------------------------------------------- per-image rows


def test_figures_by_hand():
    pairs = random_pairs()
    figures = scored(pairs).figures()
    miou, accuracy, ious = by_hand(pairs)
    assert figures["images"] == 6
    assert figures["miou"] == pytest.approx(miou)
    assert figures["pixel_accuracy"] == pytest.approx(accuracy)
    by_class = figures["by_class"]
    assert list(by_class["iou"]) == ["background", *NAMES]
    np.testing.assert_allclose(list(by_class["iou"].values()), ious)
    shown = [sum((t == c).any() for t, _ in pairs.values()) for c in range(4)]
    assert by_class["images"] == dict(zip(("background", *NAMES), shown, strict=True))
    for name in ("miou", "pixel_accuracy"):
        low, high = figures["intervals_95"][name]
        assert 0 < low < figures[name] < high < 1
    json.dumps(figures, allow_nan=False)  # what metrics.json takes


def test_each_images_iou_is_its_own():
    pairs = random_pairs()
    scores = scored(pairs)
    for image_id, value in scores.ious.items():
        assert float(value) == pytest.approx(by_hand({"": pairs[image_id]})[0], rel=1e-6)
    assert len(scores) == len(scores.ious) == 6


@pytest.mark.parametrize("means", [(), ("cat",), ("dog", "bird"), NAMES])
def test_the_mean_over_some_classes(means):
    """And background always; the IoUs themselves are those of all classes."""
    pairs = random_pairs()
    scores = scored(pairs, means=means)
    meant = [0, *(1 + NAMES.index(name) for name in means)] if means else None
    assert scores.figures()["miou"] == pytest.approx(by_hand(pairs, meant=meant)[0])
    plain = scored(pairs).figures()
    assert scores.figures()["by_class"] == plain["by_class"]
    assert scores.figures()["pixel_accuracy"] == plain["pixel_accuracy"]
    if len(means) == 1:
        assert scores.figures()["miou"] != pytest.approx(plain["miou"], abs=1e-3)


def test_no_images_and_nothing_but_ignored_pixels():
    assert SegmentationScores(NAMES).figures() == {
        "miou": None,
        "pixel_accuracy": None,
        "images": 0,
    }
    ignored = {"a": (np.full((3, 4), 255, np.uint8), np.zeros((3, 4), np.uint8))}
    pairs = {**random_pairs(2), **ignored}
    with_ignored, without = scored(pairs).figures(), scored(random_pairs(2)).figures()
    assert with_ignored["images"] == 3
    for name in ("miou", "pixel_accuracy"):
        assert with_ignored[name] == pytest.approx(without[name])
    assert with_ignored["by_class"] == without["by_class"]


def test_merging_counts_an_image_once():
    pairs = random_pairs(6)
    ids = list(pairs)
    one = scored({i: pairs[i] for i in ids[:4]})
    other = scored({i: pairs[i] for i in ids[2:]})
    one.parts["cam"] = scored({i: pairs[i] for i in ids[:4]})
    other.parts["cam"] = scored({i: pairs[i] for i in ids[2:]})
    merged = one.merge(other)
    assert len(merged) == 6 and len(one) == 4
    expected = scored(pairs).figures()
    assert merged.figures() == expected
    assert merged.parts["cam"].figures() == expected
    assert not one.merge(other).obstacle(scored(pairs))
    # A list of which nothing could be scored has no parts, and takes none away.
    empty = SegmentationScores(NAMES)
    assert one.merge(empty).figures() == empty.merge(one).figures() == one.figures()
    assert set(empty.merge(one).parts) == {"cam"}
    kept = scored(pairs, means=("cat",)).merge(scored(pairs, means=("cat",)))
    assert kept.mean_classes == ("cat",)
    assert kept.figures() == scored(pairs, means=("cat",)).figures()


@pytest.mark.parametrize("means", [(), ("cat", "dog")])
@pytest.mark.parametrize("count", [5, 0])
def test_saved_and_loaded(tmp_path, means, count):
    scores = scored(random_pairs(count), means=means)
    scores.labels[0] = np.zeros((2, 2), np.uint8)  # for the report alone
    path = tmp_path / "deep" / "list.npz"
    scores.save(path)
    found = kinds.load(path)
    assert isinstance(found, SegmentationScores)
    assert (found.class_names, found.mean_classes) == (NAMES, means)
    assert found.figures() == scores.figures()
    assert dict(found.ious.items()) == dict(scores.ious.items())
    assert not found.obstacle(scores) and not found.labels
    with np.load(path, allow_pickle=False) as file:  # without pickles
        assert all(file[name].dtype.kind != "O" for name in file.files)


def test_what_is_comparable():
    pairs = random_pairs()
    scores = scored(pairs)
    assert scores.obstacle(scored(random_pairs(seed=5))) == ""  # the same images, other pixels
    assert scores.obstacle(scored(random_pairs(5)))
    assert scores.obstacle(scored(pairs, names=("bird", "cat", "cow")))
    assert scores.obstacle(scored(pairs, means=("cat",)))
    assert scores.obstacle(scored(pairs)) == ""
    assert scores.obstacle(BoxScores()) == "were scored by different figures"


@pytest.mark.parametrize("means", [(), ("cat",)])
def test_means_of_runs_are_compared_on_the_same_images(means):
    runs = [scored(random_pairs(8, right=r), means=means) for r in (0.3, 0.4, 0.8, 0.9)]
    found = SegmentationScores.paired(runs[:2], runs[2:])
    assert set(found) == {"miou", "pixel_accuracy"}
    for name, difference in found.items():
        values = [run.figures(intervals=False)[name] for run in runs]
        assert difference.value == pytest.approx(np.mean(values[2:]) - np.mean(values[:2]))
        assert 0 < difference.low < difference.value < difference.high
    nothing = SegmentationScores.paired(runs[:1], runs[:1])
    assert all((d.value, d.low, d.high) == (0, 0, 0) for d in nothing.values())
    with pytest.raises(ValueError, match="different images or classes"):
        SegmentationScores.paired(runs[:1], [scored(random_pairs(3), means=means)])


# ---------------------------------------------------------------- class maps cut at thresholds

SIDE = 12


class Truth:
    """A list whose masks are at hand; None where an image has none."""

    name, class_names = "val", NAMES

    def __init__(self, masks):
        self.masks = masks

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        return types.SimpleNamespace(image_id=f"id{index}")

    def mask(self, index):
        return self.masks[index]


def said(index, maps, probabilities):
    """What a network says of an image."""
    ranked = np.argsort(probabilities)[::-1]
    return LocalizedImage(
        index, np.asarray(probabilities, np.float32), ranked, None, None, (SIDE, SIDE), maps
    )


def halves():
    """Maps whose classes' halves are bright, at the truth's own size; what stands there."""
    maps = np.zeros((SIDE, SIDE, 3), np.float32)
    maps[:, :6, 0], maps[:, 6:, 2] = 10.0, 0.5
    maps[:3, :, 2] *= 0.3
    maps[..., 1] = 100.0  # a class that nobody believes in
    return maps


@pytest.fixture
def listed(monkeypatch):
    """Replaces the network: sets what it says of a list."""

    def say(images):
        def localize_list(*args, every_map, parts, what):
            assert every_map and not parts
            return iter(images)

        monkeypatch.setattr(thresholded, "localize_list", localize_list)

    return say


NETWORK = Network(None, None, None, None)


def score_maps(masks, thresholds, shown=(0,)):
    return thresholded.score_maps(NETWORK, Truth(masks), (), thresholds, shown)


def test_maps_become_a_segmentation(listed):
    """Each map by its own maximum; a class by its score; below both, background."""
    listed([said(0, halves(), [0.9, 0.1, 0.8])])
    truth = np.zeros((SIDE, SIDE), np.uint8)
    found = score_maps([truth], MapThresholds(0.4, 0.5))
    expected = np.zeros((SIDE, SIDE), np.uint8)
    expected[:, :6], expected[3:, 6:] = 1, 3
    np.testing.assert_array_equal(found.labels[0], expected)
    assert found.labels[0].dtype == np.uint8 and len(found) == 1
    assert found.figures()["pixel_accuracy"] == pytest.approx((expected == 0).mean())


@pytest.mark.parametrize(
    "share, presence, shown",
    [(0.4, 0.85, {0, 1}), (0.2, 0.5, {1, 3}), (0.4, 0.95, {0}), (0.4, 0.05, {1, 2})],
)
def test_thresholds_decide(listed, share, presence, shown):
    listed([said(0, halves(), [0.9, 0.1, 0.8])])
    masks = [np.zeros((SIDE, SIDE), np.uint8)]
    found = score_maps(masks, MapThresholds(share, presence))
    assert set(np.unique(found.labels[0]).tolist()) == shown


def test_the_share_is_of_the_maximum_and_strict(listed):
    maps = np.zeros((SIDE, SIDE, 3), np.float32)
    maps[0, :, 0] = 8.0
    maps[1, :, 0], maps[2, :, 0], maps[3, :, 0] = 4.0, 4.1, -9.0
    listed([said(0, maps, [0.9, 0, 0])])
    masks = [np.zeros((SIDE, SIDE), np.uint8)]
    found = score_maps(masks, MapThresholds(0.5, 0.5))
    assert found.labels[0][:, 0].tolist() == [1, 0, 1, *[0] * 9]


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_maps_that_found_nothing_are_background(listed, value):
    maps = np.full((SIDE, SIDE, 3), value, np.float32)
    listed([said(0, maps, [0.9, 0.9, 0.9])])
    truth = np.ones((SIDE, SIDE), np.uint8)
    found = score_maps([truth], MapThresholds(0.05, 0.1))
    assert not found.labels[0].any() and found.figures()["pixel_accuracy"] == 0


def test_one_class_of_a_single_map_and_another_size(listed):
    """Maps are brought to the mask's size, which need not be square; one class, too."""
    maps = np.zeros((2, 2, 3), np.float32)
    maps[:, 1, 1] = 1
    listed([said(0, maps, [0, 0.9, 0])])
    truth = np.zeros((6, 10), np.uint8)
    found = score_maps([truth], MapThresholds(0.5, 0.5))
    expected = np.zeros((6, 10), np.uint8)
    expected[:, 5:] = 2
    np.testing.assert_array_equal(found.labels[0], expected)


def test_images_without_a_mask_are_left_out(listed):
    listed([said(i, halves(), [0.9, 0.1, 0.8]) for i in range(3)])
    truth = np.zeros((SIDE, SIDE), np.uint8)
    found = score_maps([truth, None, truth], MapThresholds(), shown={2})
    assert len(found) == 2 and set(found.labels) == {2}


def test_thresholds_are_chosen_on_the_tune_list(listed):
    """The list whose truth is a cut at .4 of the classes above .7: among the highest mean IoUs."""
    rng = np.random.default_rng(0)
    images, masks = [], []
    for index in range(6):
        maps = rng.random((SIDE, SIDE, 3)).astype(np.float32)
        # One class is there, one is rather not, one is not.
        scores = np.roll([0.8, 0.6, 0.05], index)
        images.append(said(index, maps, scores))
        c = int(scores.argmax())
        masks.append(np.where(maps[..., c] > 0.4 * maps[..., c].max(), 1 + c, 0).astype(np.uint8))
    listed(images)
    chosen = thresholded.choose_map_thresholds(NETWORK, Truth(masks), ())
    assert chosen == MapThresholds(share=0.4, presence=0.7)
    found = score_maps(masks, chosen)
    assert found.figures()["miou"] == 1


def test_thresholds_follow_the_classes_that_are_meant(listed):
    """Of two classes with other best cuts, eval.mean_classes says which one counts."""
    rng = np.random.default_rng(0)
    images, masks = [], []
    for index in range(6):
        maps = rng.random((SIDE, SIDE, 3)).astype(np.float32)
        c = index % 2
        cut = (0.2, 0.6)[c]
        images.append(said(index, maps, np.eye(3)[c]))
        masks.append(np.where(maps[..., c] > cut * maps[..., c].max(), 1 + c, 255).astype(np.uint8))
        masks[-1][masks[-1] == 255] = 0
    listed(images)
    for c, expected in ((0, 0.2), (1, 0.6)):
        own = [np.where(m == 2 - c, 255, m).astype(np.uint8) for m in masks]
        listed([x for x in images if x.index % 2 == c])
        chosen = thresholded.choose_map_thresholds(NETWORK, Truth(own), (NAMES[c],))
        assert chosen.share == pytest.approx(expected)


def test_without_a_tune_list_or_its_masks_the_defaults_stand(listed):
    choose = functools.partial(thresholded.choose_map_thresholds, NETWORK, mean_classes=())
    assert choose(None) == MapThresholds(0.2, 0.5)
    listed([said(0, halves(), [0.9, 0.1, 0.8])])
    assert choose(Truth([None])) == MapThresholds(0.2, 0.5)


# ---------------------------------------------------------------- a segmenter's maps


def test_probabilities_at_the_images_size():
    rng = np.random.default_rng(0)
    whole = rng.dirichlet(np.ones(4), (5, 6)).astype(np.float32)
    found = photo_size.segment_probabilities(whole[..., 1:], (6, 5))
    assert found.shape == (5, 6, 4) and found.dtype == np.float32
    np.testing.assert_allclose(found, whole, atol=1e-6)
    large = photo_size.segment_probabilities(whole[..., 1:], (31, 17))
    assert large.shape == (17, 31, 4)
    np.testing.assert_allclose(large.sum(axis=-1), 1, atol=1e-5)
    assert large.min() >= 0
    one = photo_size.segment_probabilities(np.full((3, 3, 1), 0.25, np.float32), (4, 2))
    np.testing.assert_allclose(one[..., 0], 0.75)
    over = photo_size.segment_probabilities(np.full((2, 2, 2), 0.6, np.float32), (2, 2))
    assert (over[..., 0] == 0).all()


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"eval.mean_classes": ("cow",)}, r"eval\.mean_classes: 'cow' is not one of .* bird, cat"),
        ({"eval.map_thresholds": (0.2,)}, r"eval\.map_thresholds: expected a share and a class"),
        ({"eval.crf.iterations": -1}, r"eval\.crf: iterations=-1: expected 0 or more"),
        ({"eval.crf.spatial": (3.0,)}, r"eval\.crf: spatial is \(weight, sxy\)"),
    ],
)
def test_options_are_checked(changes, sentence):
    made = sec_config.get_config("embedded")
    segments.check_options(made.eval, NAMES)
    with made.unlocked():
        made.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=sentence):
        segments.check_options(made.eval, NAMES)


def test_two_hundred_classes():
    """More channels than OpenCV resizes at once."""
    maps = np.random.default_rng(0).dirichlet(np.ones(201), (3, 4))[..., 1:].astype(np.float32)
    large = photo_size.segment_probabilities(maps, (8, 6))
    assert large.shape == (6, 8, 201)
    whole = np.concatenate([1 - maps.sum(axis=-1, keepdims=True), maps], axis=-1)
    one = cv2.resize(whole[..., 150], (8, 6))
    np.testing.assert_allclose(large[..., 150], one, atol=1e-6)


def test_a_list_whose_pixels_are_all_ignored_has_no_figures():
    scores = SegmentationScores(NAMES)
    scores.update("a", np.full((2, 2), 255), np.zeros((2, 2), np.uint8))
    figures = scores.figures()
    assert figures["miou"] is None and figures["intervals_95"] == {}
    json.dumps(figures, allow_nan=False)


# ---------------------------------------------------------------- runs against runs


def write_run(folder, right, seed=0, names=NAMES, count=8):
    """A finished run's folder: figures, rows, and a part."""
    scores = scored(random_pairs(count, seed, right), names)
    part = scored(random_pairs(count, seed, right / 2), names)
    figures = {"threshold": 0.5, "test": {"val": scores.figures()}}
    figures["parts"] = {"cam": {"threshold": 0.5, "test": {"val": part.figures()}}}
    scores.save(folder / "scores" / "val.npz")
    part.save(folder / "scores" / "cam" / "val.npz")
    (folder / "metrics.json").write_text(json.dumps(figures))
    return str(folder)


def test_the_command_compares_segmentations(tmp_path, capsys):
    weak = [write_run(tmp_path / f"a{i}", right) for i, right in enumerate((0.3, 0.4))]
    strong = [write_run(tmp_path / f"b{i}", right) for i, right in enumerate((0.7, 0.8))]
    out = tmp_path / "out.json"
    assert compare.main([",".join(weak), ",".join(strong), f"--out={out}"]) == 0
    text = capsys.readouterr().out
    assert "miou" in text and "pixel_accuracy" in text and "gt_known_loc" not in text
    result = json.loads(out.read_text())["val"]
    for name in ("miou", "pixel_accuracy"):
        means = [result[side][name]["mean"] for side in "ab"]
        assert result["a"][name]["low"] < result["a"][name]["high"]
        pair = result["b-a"][name]
        assert pair["value"] == pytest.approx(means[1] - means[0], abs=1e-9)
        assert 0 < pair["interval_95"][0] < pair["value"] < pair["interval_95"][1]


def test_a_part_against_the_whole(tmp_path, capsys):
    run = write_run(tmp_path / "run", 0.8)
    assert compare.main([f"{run}:cam", run]) == 0
    assert "+" in capsys.readouterr().out
    assert compare.main([f"{run}:before_crf", run]) == 2
    assert "has no part 'before_crf'; there are: cam" in capsys.readouterr().err


def test_runs_that_cannot_be_compared_are_one_sentence(tmp_path, capsys):
    run = write_run(tmp_path / "a", 0.5)
    others = {
        "classes": write_run(tmp_path / "b", 0.5, names=("bird", "cat", "cow")),
        "images": write_run(tmp_path / "c", 0.5, count=5),
    }
    words = {"classes": "scored on different classes", "images": "did not score the same images"}
    for kind, other in others.items():
        assert compare.main([run, other]) == 2
        assert words[kind] in capsys.readouterr().err


def test_a_run_without_masks_compares_without_a_traceback(tmp_path, capsys):
    """No image could be scored: figures that are null."""
    for name in "ab":
        write_run(tmp_path / name, 0.5, count=0)
    assert compare.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "miou" not in capsys.readouterr().out


def test_what_all_background_would_have_and_who_is_never_found():
    scores = SegmentationScores(("cat", "dog", "cow"))
    truth = np.zeros((4, 5), np.uint8)
    truth[0], truth[1, 0] = 1, 2  # 14 pixels of background, 5 of cat, 1 of dog, no cow
    found = np.zeros((4, 5), np.uint8)
    found[0, :2] = 1
    scores.update("a", truth, found)
    figures = scores.figures()
    assert figures["background_accuracy"] == 14 / 20
    assert figures["background_miou"] == pytest.approx(14 / 20 / 3)
    assert figures["never_found"] == ["dog"] and figures["classes"] == 2
    blank = SegmentationScores(("cat", "dog", "cow"))
    blank.update("a", truth, np.zeros_like(truth))
    alone = blank.figures()
    assert alone["miou"] == pytest.approx(figures["background_miou"])
    assert alone["pixel_accuracy"] == figures["background_accuracy"]
    told = tables.never_found([("val", "", alone)])
    assert told == ["val: 2 of 2 classes are never found: cat, dog."]
