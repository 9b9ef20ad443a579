"""Runs of Hide-and-Seek: stopped by a kill, on two devices, and with a frozen teacher."""

import signal

import numpy as np
import pytest
import tiny
from helpers.runs import figures_of, saved, step_of, whole_run
from helpers.voc import on_voc, write_voc

LAST = 8  # 12 photos, batches of 6, 4 epochs

# Rates at which rounding is not amplified over the steps: what is compared is the sums' order.
GENTLE = (
    "--config.optimizer.backbone_lr=0.001",
    "--config.optimizer.head_lr=0.001",
    "--config.optimizer.classifier_lr=0.001",
    "--config.model.batch_norm=inference",
    "--config.hide_and_seek.dropout=0.0",
)
FIELDS = {
    "cam_size": 32,
    "conv5": "block_3",
    "channels": 8,
    "dilation": 1,
    "cam_dilation": 1,
    "early_steps": 2,
    "iterations": 2,
    "cells.iterations": 2,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp("voc") / "voc")


def words(root, workdir, *more, variant="full", crf="cells", **options):
    given = {f"hide_and_seek.{name}": value for name, value in FIELDS.items()}
    given |= {"data.train": "train", "data.test": "val", "data.resize": 32}
    given |= {"train.eval_epochs": 0.0, "eval.crf.iterations": 2}
    fields = [f"--config.{name}={value}" for name, value in given.items()]
    keys = f",variant={variant},crf={crf}"
    flags = tiny.flags(
        tiny.data(), workdir, *fields, *more, method="hide_and_seek", keys=keys, **options
    )
    return on_voc(flags, root)


def run(*args, devices=1, **options):
    return whole_run(words(*args, **options), devices=devices)


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """A run that nothing disturbed; read it, do not write there."""
    workdir = tmp_path_factory.mktemp("hide_and_seek")
    run(root, workdir)
    return workdir


@pytest.mark.slow
def test_a_run_leaves_curves_figures_and_pictures(finished):
    rows = tiny.history(finished)
    assert [row["step"] for row in rows] == list(range(1, LAST + 1))
    for name in ("classification", "segmentation", "weak_share", "mask_share"):
        assert all(np.isfinite(row[f"train/{name}"]) for row in rows), name
    # Steps are counted from 0: the first two have no masks, and learn from labels alone.
    assert [row["train/weak_share"] for row in rows[:2]] == [1, 1]
    assert [row["train/mask_share"] for row in rows[:2]] == [0, 0]
    assert all(row["train/mask_share"] > 0 for row in rows[2:])
    page = (finished / "report.html").read_text()
    for name in ("seen by CAM2", "foreground", "mask before the CRF"):
        assert name in page


@pytest.mark.slow
def test_killed_and_gone_on_with_it_ends_with_an_unbroken_runs_bits(finished, root, tmp_path):
    """Killed among the early steps, and later; what is hidden is drawn as it would have been."""
    for moment in (2, 5):
        started = tiny.Run(words(root, tmp_path))
        started.until(lambda moment=moment: step_of(tmp_path) >= moment)
        started.send(signal.SIGKILL)
        assert started.wait().returncode == -signal.SIGKILL
    done = run(root, tmp_path)
    assert "goes on at step" in done.stderr and saved(tmp_path)[-1] == LAST
    expected, found = tiny.arrays(finished, LAST), tiny.arrays(tmp_path, LAST)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert tiny.history(tmp_path) == tiny.history(finished)
    assert figures_of(tmp_path) == figures_of(finished)


@pytest.mark.slow
@pytest.mark.parametrize("crf", ["cells", "image"])
def test_two_devices_agree_with_one(root, tmp_path, crf):
    """The CRF works image by image, wherever it lies; 12 photos in batches of 6."""
    one, two = tmp_path / "1", tmp_path / "2"
    for workdir, devices in ((one, 1), (two, 2)):
        done = run(root, workdir, *GENTLE, crf=crf, epochs=2, devices=devices)
        assert f"{devices} device(s)" in done.stderr
    rows, others = tiny.history(one), tiny.history(two)
    assert len(rows) == 4 and rows[-1]["train/mask_share"] > 0
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for name in row:
            np.testing.assert_allclose(other[name], row[name], rtol=1e-5, err_msg=name)
    arrays, others = tiny.arrays(one, 4), tiny.arrays(two, 4)
    assert arrays.keys() == others.keys()
    for name, value in arrays.items():
        if "params" in name:
            scale = np.abs(value).max()
            np.testing.assert_allclose(others[name], value, atol=1e-5 * scale, err_msg=name)


@pytest.mark.slow
def test_not_end_to_end_the_teacher_stays_as_its_stage_left_it(root, tmp_path):
    run(root, tmp_path, variant="not_end_to_end")
    cams, segment = (tiny.arrays(tmp_path / name, LAST) for name in ("cams", "segment"))
    held = {name: x for name, x in segment.items() if name.startswith("['collections']['cams']")}
    own = {k: v for k, v in cams.items() if k.startswith(("['params']", "['collections']"))}
    assert len(held) == len(own) > 20
    for name, value in own.items():
        kept = "['collections']['cams']" + name.removeprefix("['collections']")
        np.testing.assert_array_equal(held[kept], value, err_msg=name)
    rows = tiny.history(tmp_path / "cams")
    assert "train/segmentation" not in rows[0] and "train/classification" in rows[0]
    rows = tiny.history(tmp_path / "segment")
    assert "train/segmentation" in rows[0] and "train/classification" not in rows[0]


def test_a_run_of_early_steps_alone_is_refused(root, tmp_path):
    done = tiny.run(words(root, tmp_path, f"--config.hide_and_seek.early_steps={LAST}"))
    sentence = tiny.error_sentence(done)
    assert "hide_and_seek.early_steps" in sentence and str(LAST) in sentence
