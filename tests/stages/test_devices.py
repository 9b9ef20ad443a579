"""The same run on one device, on several, and on several processes."""

import signal

import numpy as np
import pytest
import tiny
from helpers.runs import start_pair, start_several

# Rates at which rounding is not amplified over the steps: what is compared is the sums' order.
GENTLE = (
    "--config.optimizer.backbone_lr=0.001",
    "--config.optimizer.head_lr=0.001",
    "--config.model.batch_norm=inference",
)
STEPS = 3  # 16 photos, batches of 6: none divides by 8, nor does the last evaluation batch by 2


def assert_close(one, other):
    """Curves and parameters within 1e-5 relative, figures equal."""
    rows, others = tiny.history(one), tiny.history(other)
    assert [row.keys() for row in rows] == [row.keys() for row in others]
    for row, row2 in zip(rows, others, strict=True):
        for name in row:
            np.testing.assert_allclose(row2[name], row[name], rtol=1e-5, err_msg=name)
    arrays, arrays2 = tiny.arrays(one, STEPS), tiny.arrays(other, STEPS)
    assert arrays.keys() == arrays2.keys()
    for name, value in arrays.items():
        if "params" in name:
            scale = np.abs(value).max()
            np.testing.assert_allclose(arrays2[name], value, atol=1e-5 * scale, err_msg=name)
    figures, figures2 = tiny.metrics(one), tiny.metrics(other)
    assert figures2["threshold"] == figures["threshold"]
    assert figures2["test"] == figures["test"]
    assert figures2["tune"] == figures["tune"]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("devices") / "1"
    done = tiny.run(tiny.flags(tiny.data(), workdir, *GENTLE, epochs=1))
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.parametrize("devices", [pytest.param(2, marks=pytest.mark.slow), 8])
def test_devices_agree(single, tmp_path, devices):
    words = tiny.flags(tiny.data(), tmp_path, *GENTLE, epochs=1)
    done = tiny.run(words, devices=devices)
    assert done.returncode == 0, done.stderr
    assert f"{devices} device(s)" in done.stderr
    assert_close(single, tmp_path)


def test_two_processes_agree(single, tmp_path):
    runs = start_pair(tiny.flags(tiny.data(), tmp_path, *GENTLE, epochs=1))
    for index, run in enumerate(runs):
        done = run.wait(timeout=400)
        assert done.returncode == 0, done.stderr
        assert f"process {index} of 2" in done.stderr
        assert "8 device(s)" in done.stderr
    assert_close(single, tmp_path)


@pytest.mark.slow
def test_eight_processes_agree(single, tmp_path):
    """More than a batch has images, and than a list has batches: some have padding alone."""
    words = tiny.flags(tiny.data(), tmp_path, *GENTLE, epochs=1)
    ends = [run.wait(timeout=900) for run in start_several(words, 8)]
    for index, done in enumerate(ends):
        assert done.returncode == 0, done.stderr
        assert f"process {index} of 8" in done.stderr and "8 device(s)" in done.stderr
    assert_close(single, tmp_path)


@pytest.mark.slow
def test_sigterm_stops_both_processes(tmp_path):
    """The cluster tells one process; both save the same step, and the pair goes on from it."""
    whole = tmp_path / "whole"
    for run in start_pair(tiny.flags(tiny.data(), whole, *GENTLE, epochs=8), devices=2):
        assert run.wait(timeout=400).returncode == 0
    stopped = tmp_path / "stopped"
    words = tiny.flags(tiny.data(), stopped, *GENTLE, epochs=8)
    runs = start_pair(words, devices=2)
    runs[0].until(lambda: (stopped / "history.jsonl").is_file() and tiny.history(stopped))
    runs[1].send(signal.SIGTERM)
    ends = [run.wait(timeout=400) for run in runs]
    assert [done.returncode for done in ends] == [143, 143], [done.stderr for done in ends]
    assert ends[0].stderr.splitlines()[-1] == ends[1].stderr.splitlines()[-1]
    for run in start_pair(words, devices=2):
        done = run.wait(timeout=400)
        assert done.returncode == 0, done.stderr
        assert "goes on at step" in done.stderr
    last = tiny.metrics(whole)["steps"]
    expected, found = tiny.arrays(whole, last), tiny.arrays(stopped, last)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert tiny.history(stopped) == tiny.history(whole)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--coordinator_address=127.0.0.1:1"], "--num_processes"),
        (["--coordinator_address=127.0.0.1:1", "--num_processes=2", "--process_id=2"], "2 and 2"),
        (["--coordinator_address=auto"], "--coordinator_address=auto"),
    ],
)
def test_processes_that_cannot_join(tmp_path, more, expected):
    done = tiny.run([*tiny.flags(tiny.data(), tmp_path / "w"), *more])
    assert expected in tiny.error_sentence(done)
