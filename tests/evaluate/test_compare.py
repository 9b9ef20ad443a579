"""Runs against runs, on per-image rows made by hand."""

import json
import re
import shutil

import numpy as np
import pytest
from helpers.discs import add_discs

from wsol_jax import compare
from wsol_jax.base.errors import UserError
from wsol_jax.evaluate.boxes import BoxScores
from wsol_jax.evaluate.multi_label_scores import MultiLabelScores
from wsol_jax.metrics.boxes import THRESHOLDS


def write_run(folder, contrast: float, ids=("p", "q", "r", "s")):
    """A finished run whose maps light a disc's pixels by ``contrast`` more than the rest."""
    rng = np.random.default_rng(0)
    scores = BoxScores()
    for _, name, _ in add_discs(scores, ids, contrast, rng):
        scores.hits.update(name, {"top1_acc": True})
    figures = {"test": {"list": scores.figures(0.5)}, "threshold": 0.5}
    (folder / "scores").mkdir(parents=True)
    scores.save(folder / "scores" / "list.npz")
    (folder / "metrics.json").write_text(json.dumps(figures))
    return str(folder)


def test_paired_differences_of_seeds(tmp_path):
    weak = [write_run(tmp_path / f"a{i}", c) for i, c in enumerate((0.2, 0.3))]
    strong = [write_run(tmp_path / f"b{i}", c) for i, c in enumerate((0.5, 0.6))]
    result = compare.compare(weak, strong)["list"]
    values = [
        [json.loads((tmp_path / n / "metrics.json").read_text())["test"]["list"] for n in names]
        for names in (("a0", "a1"), ("b0", "b1"))
    ]
    for figure in ("pxap", "gt_known_loc"):
        means = [np.mean([v[figure] for v in side]) for side in values]
        pair = result["b-a"][figure]
        assert pair["value"] == pytest.approx(means[1] - means[0], abs=1e-9)
        low, high = pair["interval_95"]
        assert low <= pair["value"] <= high
    assert result["b-a"]["pxap"]["interval_95"][0] > 0
    assert result["a"]["pxap"]["low"] == pytest.approx(min(v["pxap"] for v in values[0]))
    assert "b - a" in compare.table({"list": result})


def test_a_run_against_itself_differs_by_nothing(tmp_path):
    run = write_run(tmp_path / "a", 0.4)
    pair = compare.compare([run], [run])["list"]["b-a"]["pxap"]
    assert pair == {"value": 0.0, "interval_95": [0.0, 0.0]}


def test_a_part_against_the_whole(tmp_path):
    """WORKDIR:PART names what a run's maps were put together from."""
    whole = write_run(tmp_path / "run", 0.5)
    weak = write_run(tmp_path / "weak", 0.2)
    figures, part = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "weak")
    )
    figures["parts"] = {"first": part}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(figures))
    shutil.copytree(tmp_path / "weak" / "scores", tmp_path / "run" / "scores" / "first")
    assert compare.compare([f"{whole}:first"], [whole]) == compare.compare([weak], [whole])
    with pytest.raises(UserError, match="has no part 'second'; there are: first"):
        compare.compare([f"{whole}:second"], [whole])


def write_several(folder, contrast: float, classes=("cat", "dog"), central=False):
    """A finished run on images of several labels, whose maps light their classes' halves.

    ``central``: a fixed box is known.
    """
    rng = np.random.default_rng(1)
    scores = MultiLabelScores(classes)
    for i in range(6):
        mask = np.zeros((16, 16), np.uint8)
        mask[:, :8], mask[:, 12:] = 1, 2 if i % 2 else 0
        truth = np.stack([mask == 1, mask == 2], axis=-1)
        maps = (rng.random((16, 16, 2)) + contrast * truth).astype(np.float32)
        scores.saliency.update(str(i), maps, mask)
        for part in (scores.location, scores.centre, scores.presence):
            part.update(str(i), maps, [[0, 0, 7, 15]], [0], (16, 16))
        scores.peaks.update([str(i)], np.zeros((1, 2, 2)))
        found = ([contrast], [0], [[0, 0, 7, 15]], [0])
        scores.detection.update(str(i), [[0, 0, 7, 15]], *found)
        if central:
            scores.central.update(str(i), [[0, 0, 9 if i < 3 else 15, 15]], *found)
    figures = {"test": {"list": scores.figures()}, "threshold": 0.2}
    scores.save(folder / "scores" / "list.npz")
    (folder / "metrics.json").write_text(json.dumps(figures))
    return str(folder)


def test_several_labels_are_paired_by_their_figures(tmp_path):
    weak = [write_several(tmp_path / f"a{i}", c) for i, c in enumerate((0.1, 0.2))]
    strong = [write_several(tmp_path / f"b{i}", c) for i, c in enumerate((0.5, 0.6))]
    result = compare.compare(weak, strong)["list"]
    pair = result["b-a"]["saliency_ap"]
    means = [result[side]["saliency_ap"]["mean"] for side in "ab"]
    assert pair["value"] == pytest.approx(means[1] - means[0], abs=1e-9)
    assert 0 < pair["interval_95"][0] <= pair["value"] <= pair["interval_95"][1]
    text = compare.table({"list": result})
    assert "saliency_ap" in text and "gt_known_loc" not in text
    with pytest.raises(UserError, match="scored by different figures there"):
        compare.compare(weak[:1], [write_run(tmp_path / "single", 0.4)])
    with pytest.raises(UserError, match="different classes"):
        compare.compare(weak[:1], [write_several(tmp_path / "other", 0.1, ("a", "b"))])


def test_the_central_box_is_compared_as_far_as_the_runs_know_it(tmp_path):
    """Wide enough for an IoU of .8 on half of the images and of .5 on the others."""
    older = write_several(tmp_path / "older", 0.1)
    one, other = (write_several(tmp_path / n, c, central=True) for n, c in (("a", 0.2), ("b", 0.4)))
    result = compare.compare([one], [other])["list"]
    key = "central_detection_map"
    assert result["a"][key]["mean"] == result["b"][key]["mean"] == 1
    assert result["b-a"][key] == {"value": 0.0, "interval_95": [0.0, 0.0]}
    result = compare.compare([older], [one])["list"]
    assert key in result["b"] and key not in result["a"] and key not in result["b-a"]
    assert result["b-a"]["detection_map"]["value"] == 0
    assert f"{key} " in compare.table({"list": result})


def test_other_images_are_refused(tmp_path):
    a = write_run(tmp_path / "a", 0.4)
    b = write_run(tmp_path / "b", 0.4, ids=("p", "q", "r", "t"))
    with pytest.raises(UserError, match="same images"):
        compare.compare([a], [b])


def test_an_unfinished_run_is_one_sentence(tmp_path, capsys):
    assert compare.main([str(tmp_path), str(tmp_path)]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    assert compare.main(["only_one"]) == 2


def boxes(folder, lists, classes=("cat", "dog"), seed=0):
    """A finished run with random IoUs of the images of some lists: {list: ids}."""
    rng = np.random.default_rng(seed)
    figures, ious = {"test": {}, "threshold": 0.5}, {}
    for name, ids in lists.items():
        scores = BoxScores(classes)
        for k, image_id in enumerate(ids):
            row = ious[name, image_id] = rng.random((1, len(THRESHOLDS)))
            scores.boxes.update([image_id], row, row**2)
            scores.hits.update(image_id, {"top1_acc": bool(rng.integers(2))})
            scores.classes.update([image_id], np.array([[k % len(classes), 0]]))
        figures["test"][name] = scores.figures(0.5)
        scores.save(folder / "scores" / f"{name}.npz")
    (folder / "metrics.json").write_text(json.dumps(figures))
    return str(folder), ious


def test_every_figure_of_several_seeds_has_its_interval(tmp_path):
    """MaxBoxAcc, whose best threshold each run chooses anew in each resample: by a slow loop."""
    ids = [f"i{k}" for k in range(12)]
    sides = [
        [boxes(tmp_path / f"{s}{k}", {"t": ids}, seed=2 * k + s) for k in (0, 1)] for s in (0, 1)
    ]
    result = compare.compare(*([folder for folder, _ in side] for side in sides))["t"]
    known = {f for f in result["a"] if f in result["b"]}
    assert (
        known == set(result["b-a"]) == {"top1_acc", "gt_known_loc", "max_box_acc", "max_box_acc_v2"}
    )

    def best(ious, drawn):
        return (np.concatenate([ious["t", i] for i in drawn]) >= 0.5).mean(axis=0).max()

    gap = lambda drawn: np.subtract(
        *(np.mean([best(ious, drawn) for _, ious in side]) for side in reversed(sides))
    )
    pair = result["b-a"]["max_box_acc"]
    assert pair["value"] == pytest.approx(gap(ids), abs=1e-12)
    rng = np.random.default_rng(3)
    values = [gap([ids[k] for k in rng.integers(0, 12, 12)]) for _ in range(600)]
    np.testing.assert_allclose(pair["interval_95"], np.quantile(values, (0.025, 0.975)), atol=0.04)


def test_one_seed_has_an_interval_over_images_and_no_range(tmp_path):
    ids = [f"i{k}" for k in range(8)]
    folder, _ = boxes(tmp_path / "a", {"t": ids})
    more = boxes(tmp_path / "b", {"t": ids}, seed=1)[0]
    own = json.loads((tmp_path / "a" / "metrics.json").read_text())["test"]["t"]
    result = compare.compare([folder], [folder, more])["t"]
    assert result["a"]["top1_acc"]["interval_95"] == own["intervals_95"]["top1_acc"]
    text = compare.table({"t": result})
    row = next(line for line in text.splitlines() if "top1_acc" in line)
    low, high = (100 * end for end in own["intervals_95"]["top1_acc"])
    assert f"{100 * own['top1_acc']:.1f} [{low:.1f}, {high:.1f}]" in row
    assert re.search(r"\(\d+\.\d-\d+\.\d\)", row)  # of the two seeds
    del own["intervals_95"]  # as older runs have it
    (tmp_path / "a" / "metrics.json").write_text(json.dumps({"test": {"t": own}, "threshold": 0.5}))
    alone = compare.table(compare.compare([folder], [folder]))
    assert "(" not in alone and f"{100 * own['top1_acc']:.1f}" in alone


def test_lists_of_other_images_are_told_and_not_paired(tmp_path, capsys):
    """300 photos of 6 classes are no pair of 8 photos of 5 others."""
    same, many = [f"s{k}" for k in range(4)], [f"i{k}" for k in range(300)]
    six, five = tuple("abcdef"), tuple("vwxyz")
    a, _ = boxes(tmp_path / "a", {"t": many}, six)
    b, _ = boxes(tmp_path / "b", {"t": [f"x{k}" for k in range(8)]}, five)
    words = (
        "did not score the same images (300 of 6 classes and 8 of 5, of which none the same, 0 in"
    )
    assert compare.main([a, b]) == 2
    said = capsys.readouterr().err
    assert f"t: {a} and {b} {words} both)" in said and said.count("\n") == 1
    a, _ = boxes(tmp_path / "c", {"t": many, "u": same})
    b, _ = boxes(tmp_path / "d", {"t": many[:250], "u": same})
    result = compare.compare([a], [b])
    assert result["t"]["b-a"] == {} and "(300 and 250, 250 in both)" in result["t"]["not_paired"]
    assert "not_paired" not in result["u"] and result["u"]["b-a"]
    assert compare.main([a, b]) == 0
    table = capsys.readouterr().out
    assert "not paired: t: " in table and table.count("b - a") == 1


def test_runs_without_a_common_list_say_which_they_have(tmp_path):
    a, _ = boxes(tmp_path / "a", {"one": ["p"], "two": ["p"]})
    b, _ = boxes(tmp_path / "b", {"three": ["p"]})
    with pytest.raises(UserError, match=r"in common: \S+a has one, two; \S+b has three\."):
        compare.compare([a], [b])


def test_a_side_whose_maps_are_explanations_is_told(tmp_path, capsys):
    ids = [f"i{k}" for k in range(6)]
    a, _ = boxes(tmp_path / "a", {"t": ids})
    b, _ = boxes(tmp_path / "b", {"t": ids})
    assert compare.main([a, b]) == 0 and "maps:" not in capsys.readouterr().out
    path = tmp_path / "b" / "metrics.json"
    explain = {"name": "layer_cam", "layer": "stage4"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "explain": explain}))
    assert compare.main([a, b]) == 0
    assert "maps: a class maps, b layer_cam at stage4\n" in capsys.readouterr().out
