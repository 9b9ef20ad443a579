"""A run of MCOF: three rounds, of which the last is left out; what each stage leaves."""

import json
import signal

import numpy as np
import pytest
import tiny
from helpers.patches import MCOF
from helpers.runs import figures_of, saved, whole_run
from helpers.voc import on_voc, write_voc

from wsol_jax.data.pseudo_labels import open_labels, read_summary
from wsol_jax.data.sources.voc import VOC_CLASSES

LAST = 2  # 12 photos, batches of 6, an epoch
FIELDS = {
    "model.final_endpoint": "block_1",
    "train.eval_epochs": 0.0,
    "data.resize": 32,
    "mcof.scale": 20.0,
    "mcof.min_size": 12,
    "mcof.regions": 24,
    "mcof.crf.iterations": 2,
    "region_net.cells": 24,
    "region_net.drawn": 8,
    "region_net.channels": 8,
    "pixel_net.cells": 4,
    "pixel_net.channels": 8,
    "pixel_net.dilation": 1,
    "eval.crf.iterations": 2,
}
TRAINING = {
    "data.crop": 32,
    "data.resize": 32,
    "model.final_endpoint": "block_1",
    "model.output_stride": 8,
    "train.batch_size": 6,
    "train.epochs": 1.0,
}
ROUNDS = ["superpixels", "saliency", "first", "seeds", "region_1", "objects_1", "refined_1"]
ROUNDS += ["pixel_1", "masks_1", "region_2", "objects_2", "pixel_2", "masks_2"]


def words(root, workdir, *more, epochs=1.0):
    fields = dict(FIELDS)
    for k in (1, 2, 3):
        for kind in ("region", "pixel"):
            own = {**TRAINING, "train.epochs": epochs}
            fields |= {f"stage.{kind}_{k}.{name}": value for name, value in own.items()}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    keys = ",rounds=3,settled=0.999"
    return on_voc(
        tiny.flags(tiny.data(), workdir, *flags, *more, method="mcof", keys=keys, epochs=1), root
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbed, and its photos; read them, do not write there."""
    root = write_voc(tmp_path_factory.mktemp("voc") / "voc")
    workdir = tmp_path_factory.mktemp("mcof")
    whole_run(words(root, workdir))
    return root, workdir


@pytest.mark.slow
def test_the_rounds_leave_labels_and_figures(finished):
    """Fewer than all of the pixels change in the second round: there is no third."""
    _, workdir = finished
    figures = tiny.metrics(workdir)
    assert set(figures["stages"]) == {*ROUNDS, "evaluate"}
    assert not any((workdir / name).exists() for name in ("region_3", "objects_3", "pixel_3"))
    for name in ("first", "region_1", "pixel_1", "region_2", "pixel_2"):
        assert saved(workdir / name)[-1] == LAST
    assert 0 <= figures["stages"]["masks_2"]["changed"] < 1
    assert figures["stages"]["pixel_1"]["test"]["val"]["images"] == 4
    for name in ("seeds", "objects_1", "refined_1", "masks_1", "objects_2", "masks_2"):
        assert 0 <= figures["stages"][name]["labels"]["miou"] <= 1
    assert set(figures["parts"]) == {"before_crf", "cam"}
    inputs = {n: set(json.loads((workdir / n / "inputs.json").read_text())) for n in ROUNDS[4:]}
    assert inputs["region_1"] == {"superpixels", "seeds"}
    assert inputs["pixel_1"] == {"refined_1"} and inputs["pixel_2"] == {"objects_2", "pixel_1"}
    assert inputs["objects_2"] == {"network", "regions", "settings", "labels"}


@pytest.mark.slow
def test_labels_name_the_classes_of_their_photo_alone(finished):
    root, workdir = finished
    named = set()
    for index in range(12):
        text = (root / f"Annotations/{index:02}.xml").read_text()
        own = {1 + c for c, name in enumerate(VOC_CLASSES) if f"<name>{name}</name>" in text}
        for stage in ("seeds", "objects_1", "refined_1", "masks_1", "objects_2", "masks_2"):
            found = set(np.unique(open_labels(workdir / stage).read(f"{index:02}")).tolist())
            assert found <= own | {0}, (stage, index)
            named |= found
        regions = open_labels(workdir / "superpixels").read(f"{index:02}")
        assert set(np.unique(regions)) == set(range(regions.max() + 1)) and regions.max() < 24
        objects = open_labels(workdir / "objects_1").read(f"{index:02}")
        assert all(len(set(objects[regions == r].tolist())) == 1 for r in np.unique(regions))
    assert len(named) > 1


@pytest.mark.slow
def test_a_run_that_is_done_is_not_made_again(finished):
    """The same command: the same figures, and the third round is left out again."""
    root, workdir = finished
    before = figures_of(workdir)
    times = {p: p.stat().st_mtime_ns for p in workdir.glob("*_*/*.png")}
    done = whole_run(words(root, workdir))
    assert "stage pixel_3 is left out" in done.stderr and "stage masks_2 was done" in done.stderr
    assert figures_of(workdir) == before
    assert {p: p.stat().st_mtime_ns for p in times} == times


@pytest.mark.slow
def test_killed_once_in_every_kind_of_stage(tmp_path):
    """Gone on with after each kill: the labels and networks of an unbroken run, to the bit."""
    root = write_voc(tmp_path / "voc")
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    for workdir in (unbroken, broken):
        workdir.mkdir()
    run = lambda workdir, **options: tiny.run(
        words(root, workdir, "--config.train.log_every=1", epochs=3.0), **options
    )
    assert run(unbroken).returncode == 0
    kills, patch = 0, "helpers.patches:die_once_in_each_kind_of_mcofs_stages"
    while (done := run(broken, patch=patch)).returncode == -signal.SIGKILL:
        kills += 1
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (broken / "killed").iterdir()} == {*MCOF, "masks_1"}
    assert kills == len(MCOF) + 1
    for name in ROUNDS:
        if (unbroken / name / f"{name}.json").is_file():
            assert read_summary(broken / name) == read_summary(unbroken / name), name
        else:
            expected, found = (
                tiny.arrays(w / name, saved(w / name)[-1]) for w in (unbroken, broken)
            )
            assert expected.keys() == found.keys()
            for key, value in expected.items():
                np.testing.assert_array_equal(found[key], value, err_msg=f"{name}: {key}")
    assert figures_of(broken) == figures_of(unbroken)
