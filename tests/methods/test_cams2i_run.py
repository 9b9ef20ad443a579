"""Whole runs of CAMs2i: class-balanced batches, stopped and gone on with, on two devices."""

import signal

import numpy as np
import pytest
import tiny
from helpers.runs import LAST, step_of

pytestmark = pytest.mark.slow


FIELDS = {
    "data.images_per_class": 2,
    "cams2i.endpoint_2": "block_2",
    "cams2i.inter": True,
    "cams2i.ramp_steps": 5,
    "features.width": 0.25,
    "features.final_endpoint": "block_1",
    "model.batch_norm": "inference",
}


def words(workdir, *more):
    fields = [f"--config.{name}={value}" for name, value in FIELDS.items()]
    return tiny.flags(tiny.data(), workdir, *fields, *more, method="cams2i")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("cams2i")
    done = tiny.run(words(workdir))
    assert done.returncode == 0, done.stderr
    return workdir


def test_every_batch_has_its_pairs_and_the_report_its_pictures(finished):
    rows = [row for row in tiny.history(finished) if "train/pairs" in row]
    assert len(rows) == LAST and {row["train/pairs"] for row in rows} == {3}
    for name in ("interaction", "agreement", "inter_sample", "classification_2"):
        assert all(np.isfinite(row[f"train/{name}"]) for row in rows)
    page = (finished / "report.html").read_text()
    for name in ("map 1", "interaction mask", "map 2", "fusion"):
        assert name in page


def test_a_run_gone_on_with_equals_an_unbroken_one(finished, tmp_path):
    run = tiny.Run(words(tmp_path))
    run.until(lambda: step_of(tmp_path) >= 3)
    run.send(signal.SIGTERM)
    done = run.wait()
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    done = tiny.run(words(tmp_path))
    assert done.returncode == 0 and "goes on at step" in done.stderr, done.stderr
    expected, found = tiny.arrays(finished, LAST), tiny.arrays(tmp_path, LAST)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert tiny.history(tmp_path) == tiny.history(finished)


def test_two_devices_agree_with_one(finished, tmp_path):
    """Pairs are found across devices."""
    gentle = [f"--config.optimizer.{part}_lr=0.001" for part in ("backbone", "head")]
    for name, devices in (("one", 1), ("two", 2)):
        done = tiny.run(words(tmp_path / name, *gentle), devices=devices)
        assert done.returncode == 0, done.stderr
    one, two = (tiny.history(tmp_path / name) for name in ("one", "two"))
    for row, row2 in zip(one, two, strict=True):
        for name in row:
            if name.startswith("train/"):
                np.testing.assert_allclose(row2[name], row[name], rtol=1e-4, err_msg=name)


def test_the_checkpoint_scores_and_predicts_without_weight_files(finished, tmp_path):
    done = tiny.run(["--mode=evaluate", f"--workdir={finished}"])
    assert done.returncode == 0, done.stderr
    photos = tiny.data() / "test"
    done = tiny.run(
        ["--mode=predict", f"--workdir={finished}", f"--images={photos}", f"--out={tmp_path}/out"]
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/predictions.json").is_file()
