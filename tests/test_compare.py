"""Runs against runs, on per-image rows made by hand."""

import json

import numpy as np
import pytest

from wsol_jax import compare
from wsol_jax.errors import UserError
from wsol_jax.scores import Scores


def write_run(folder, contrast: float, ids=("p", "q", "r", "s")):
    """A finished run whose maps light a disc's pixels by ``contrast`` more than the rest."""
    rng = np.random.default_rng(0)
    scores = Scores()
    y, x = np.mgrid[:32, :32]
    for i, name in enumerate(ids):
        truth = (x - 10 - i) ** 2 + (y - 14) ** 2 < 60
        noise = rng.random((32, 32))
        score_map = np.clip(noise * (1 - contrast) + contrast * truth, 0, 1).astype(np.float32)
        scores.pixels.update(name, score_map, truth)
        scores.gaussian.update(name, score_map, truth)
        ious = np.full((1, 1000), 0.4 + contrast * (i % 2))
        scores.boxes.update([name], ious, ious)
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


def test_other_images_are_refused(tmp_path):
    a = write_run(tmp_path / "a", 0.4)
    b = write_run(tmp_path / "b", 0.4, ids=("p", "q", "r", "t"))
    with pytest.raises(UserError, match="same images"):
        compare.compare([a], [b])


def test_an_unfinished_run_is_one_sentence(tmp_path, capsys):
    assert compare.main([str(tmp_path), str(tmp_path)]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    assert compare.main(["only_one"]) == 2
