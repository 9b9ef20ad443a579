"""Runs against runs, on per-image rows made by hand."""

import json
import shutil

import numpy as np
import pytest
from helpers.discs import add_discs

from wsol_jax import compare
from wsol_jax.base.errors import UserError
from wsol_jax.evaluate.boxes import BoxScores
from wsol_jax.evaluate.multi_label_scores import MultiLabelScores


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
