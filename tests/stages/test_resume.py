"""A run that was stopped in any way ends with the very numbers of one that nothing disturbed."""

import os
import random
import signal
import time

import numpy as np
import pytest
import tiny
from helpers.runs import LAST, being_saved, saved, step_of


def assert_same_run(workdir):
    """Parameters, statistics, momentum, step and key bit for bit; curves and figures too."""
    expected, found = tiny.arrays(tiny.finished(), LAST), tiny.arrays(workdir, LAST)
    assert expected.keys() == found.keys()
    kinds = ("params", "batch_stats", "trace", "rng", "step")
    assert all(any(kind in name for name in expected) for kind in kinds)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert tiny.history(workdir) == tiny.history(tiny.finished())
    clock = ("seconds", "train_seconds", "images_per_second")
    figures = [
        {k: v for k, v in tiny.metrics(w).items() if k not in clock}
        for w in (workdir, tiny.finished())
    ]
    assert figures[0] == figures[1]
    # A checkpoint measured late has let the best before it live on.
    assert set(saved(workdir)) >= set(saved(tiny.finished()))


def test_sigterm_then_kill_in_a_save_then_the_end(tmp_path):
    words = tiny.flags(tiny.data(), tmp_path)
    run = tiny.Run(words)
    run.until(lambda: step_of(tmp_path) >= 3)
    seen = step_of(tmp_path)
    run.send(signal.SIGTERM)
    done = run.wait()
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    last = done.stderr.splitlines()[-1]
    stopped = saved(tmp_path)[-1]
    assert last == (
        f"stopped by SIGTERM after step {stopped}, which is saved; the same command goes on from "
        "there."
    )
    assert "Traceback" not in done.stderr
    assert seen <= stopped < LAST

    run = tiny.Run(words)
    run.until(lambda: being_saved(tmp_path))
    run.send(signal.SIGKILL)
    assert run.wait().returncode == -signal.SIGKILL
    assert saved(tmp_path)[-1] >= stopped

    done = tiny.run(words)
    assert done.returncode == 0, done.stderr
    assert "goes on at step" in done.stderr
    assert not being_saved(tmp_path)
    assert_same_run(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_killed_at_random_moments(tmp_path, seed):
    draw = random.Random(seed)
    words = tiny.flags(tiny.data(), tmp_path)
    for moment in sorted(draw.sample(range(1, LAST), 3)):
        run = tiny.Run(words)
        run.until(lambda moment=moment: step_of(tmp_path) >= moment)
        if draw.random() < 0.5:
            run.until(lambda: being_saved(tmp_path))
        run.send(signal.SIGKILL)
        assert run.wait().returncode == -signal.SIGKILL
    done = tiny.run(words)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path)


@pytest.mark.slow
def test_stop_within_an_evaluation_costs_no_figure(tmp_path):
    words = tiny.flags(tiny.data(), tmp_path)
    done = tiny.run(words, patch="helpers.patches:stop_in_tune")
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "stopped by SIGINT after step 6" in done.stderr
    assert not any("tune/top1_acc" in row for row in tiny.history(tmp_path) if row["step"] == 6)
    done = tiny.run(words)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path)


@pytest.mark.slow
def test_stop_at_the_last_step(tmp_path):
    words = tiny.flags(tiny.data(), tmp_path)
    done = tiny.run(words, patch="helpers.patches:stop_at_the_last_step")
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert f"after step {LAST}" in done.stderr
    assert not (tmp_path / "metrics.json").exists()
    done = tiny.run(words)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path)


@pytest.mark.slow
def test_stop_in_the_final_evaluation(tmp_path):
    workdir = tiny.copy_finished(tmp_path / "run")
    (workdir / "metrics.json").unlink()
    words = tiny.flags(tiny.data(), workdir)
    done = tiny.run(words, patch="helpers.patches:stop_in_final_evaluation")
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "Traceback" not in done.stderr
    assert not (workdir / "metrics.json").exists()
    assert tiny.run(words).returncode == 0
    assert_same_run(workdir)


@pytest.mark.slow
def test_interrupted_saves_do_not_share_memory_with_the_next_steps(tmp_path):
    """A checkpoint is written behind the loop, whose steps reuse the state's buffers."""
    words = tiny.flags(tiny.data(), tmp_path, "--config.train.keep=20")
    assert tiny.run(words).returncode == 0
    words = tiny.flags(
        tiny.data(),
        tmp_path / "slow",
        "--config.train.keep=20",
        "--config.train.checkpoint_steps=1",
    )
    assert tiny.run(words).returncode == 0
    for step in saved(tmp_path):
        one, other = tiny.arrays(tmp_path, step), tiny.arrays(tmp_path / "slow", step)
        for name, value in one.items():
            np.testing.assert_array_equal(other[name], value, err_msg=f"step {step}: {name}")
        assert int(one["['step']"]) == step


@pytest.mark.slow
def test_ctrl_c_reaches_the_worker_processes_too(tmp_path):
    """A terminal sends SIGINT to the readers as well; the step they had reached is saved still."""
    words = tiny.flags(tiny.data(), tmp_path, "--config.data.workers=2")
    process, end = tiny.command(words), time.monotonic() + 300
    while step_of(tmp_path) < 3 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT, err
    assert "\nstopped by SIGINT after step" in err and "Traceback" not in err, err
    done = tiny.run_command(words)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path)
