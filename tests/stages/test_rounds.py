"""A method of two rounds from outside of the package: whole, killed in each stage, gone on with."""

import json
import shutil
import signal

import numpy as np
import pytest
import tiny
from helpers.runs import saved, start_pair

from wsol_jax.data.pseudo_labels import open_labels

STAGES = ("one", "label_one", "two", "label_two", "three")
LAST = 8  # 16 photos, batches of 6, 3 epochs


def words(workdir, *more):
    root = tiny.data()
    place = f"folder,root={root},boxes={root}/boxes.csv,size=32,batch=6,epochs=3"
    fields = {
        "data.resize": 40,
        "train.checkpoint_steps": 2,
        "train.log_every": 1,
        "eval.batch_size": 4,
        "eval.gallery": 2,
    }
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    config = f"--config={tiny.ROOT}/tests/helpers/rounds.py:{place}"
    return [config, f"--workdir={workdir}", *flags, *more]


def files(workdir):
    """What label stages left, by name."""
    places = [path for path in workdir.rglob("*") if path.suffix in (".png", ".npz")]
    places = [path for path in places if path.relative_to(workdir).parts[0].startswith("label_")]
    return {str(path.relative_to(workdir)): path for path in places}


def figures(workdir):
    """metrics.json without what only the clock decides."""

    def plain(value):
        clock = ("seconds", "train_seconds", "images_per_second")
        clock += ("train/steps_per_second", "train/input_wait_share")
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if k not in clock}
        return value

    return plain(tiny.metrics(workdir))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed; read it, do not write there."""
    workdir = tmp_path_factory.mktemp("rounds")
    done = tiny.run(words(workdir))
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.slow
def test_two_rounds_killed_in_each_stage_end_with_an_unbroken_runs_bits(whole, tmp_path):
    broken = tmp_path
    patch = "helpers.patches:die_once_in_each_stage"
    for count in range(1, 1 + len(STAGES)):
        done = tiny.run(words(broken), patch=patch)
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed = {path.name for path in (broken / "killed").iterdir()}
        assert killed == set(STAGES[:count])
        assert not (broken / "metrics.json").exists()
    done = tiny.run(words(broken), patch=patch)
    assert done.returncode == 0, done.stderr
    for name in ("one", "two", "three"):
        assert saved(broken / name)[-1] == LAST
        expected, found = (tiny.arrays(w / name, LAST) for w in (whole, broken))
        assert expected.keys() == found.keys()
        for leaf, value in expected.items():
            np.testing.assert_array_equal(found[leaf], value, err_msg=f"{name} {leaf}")
        assert tiny.history(broken / name) == tiny.history(whole / name)
    expected, found = files(whole), files(broken)
    assert len(expected) == 2 * 16 * 3 and expected.keys() == found.keys()
    for name in ("label_one", "label_two"):
        summaries = [json.loads((w / name / f"{name}.json").read_text()) for w in (whole, broken)]
        assert summaries[0] == summaries[1]
        labels = [open_labels(w / name) for w in (whole, broken)]
        for path in (whole / name / "sure").rglob("*.png"):
            image_id = str(path.relative_to(whole / name / "sure"))[: -len(".png")]
            for product in ("sure", "height"):
                one, other = (x.read(image_id, product) for x in labels)
                np.testing.assert_array_equal(one, other)
    assert figures(broken) == figures(whole)
    assert set(tiny.metrics(whole)["stages"]) == {*STAGES, "evaluate"}
    # A later round's labels grew from the one before: other labels there are no longer its own.
    inputs = json.loads((whole / "label_two" / "inputs.json").read_text())
    first = json.loads((whole / "label_one" / "label_one.json").read_text())
    assert inputs["last"] == first["sha256"] and set(inputs) == {
        "net",
        "last",
        "settings",
        "labels",
    }


@pytest.mark.slow
def test_two_processes_write_the_labels_of_one(whole, tmp_path):
    """Each its share, of every product, on its own threads."""
    for name in ("one", "label_one", "two"):
        shutil.copytree(whole / name, tmp_path / name)
    for run in start_pair(words(tmp_path, "--stages=label_two"), devices=2):
        done = run.wait(timeout=400)
        assert done.returncode == 0, done.stderr
    labels = [open_labels(workdir / "label_two") for workdir in (whole, tmp_path)]
    names = [path for path in files(whole) if path.startswith("label_two/sure/")]
    assert len(names) == 16
    assert {n for n in files(whole) if n.startswith("label_two")} <= files(tmp_path).keys()
    for name in names:
        image_id = name.removeprefix("label_two/sure/")[: -len(".png")]
        one, other = (x.read(image_id, "height").astype(np.float32) for x in labels)
        np.testing.assert_allclose(other, one, atol=1e-3)


def test_the_method_is_written_in_under_eighty_lines():
    lines = (tiny.ROOT / "tests/helpers/rounds.py").read_text().splitlines()
    assert len(lines) < 80
