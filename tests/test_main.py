"""What a person sees while a run goes on."""

import io
import json
import os
import pty
import select

import pytest
import tiny

from wsol_jax.base.progress import Progress
from wsol_jax.runs.history import MetricWriter, curves, read_history


def test_plain_lines_off_a_terminal():
    stream = io.StringIO()
    with Progress("train", 10, done=4, seconds=0.0, stream=stream) as bar:
        bar.update(0, loss=0.5)
        bar.update(3)
        bar.update(3)
    lines = stream.getvalue().splitlines()
    assert lines[-1].startswith("train: 10/10 ")
    assert "7/10" in lines[1] and "loss=0.5" in lines[1] and " s left" in lines[1]
    assert "\r" not in stream.getvalue()


def test_few_lines_off_a_terminal():
    stream = io.StringIO()
    with Progress("train", 1000, seconds=60.0, stream=stream) as bar:
        for _ in range(1000):
            bar.update(1)
    assert len(stream.getvalue().splitlines()) == 1


def test_bar_with_eta_on_a_terminal():
    parent, child = pty.openpty()
    with os.fdopen(child, "w") as stream, Progress("train", 100, stream=stream) as bar:
        for _ in range(50):
            bar.update(1, loss=0.25)
        bar._bar.refresh()
        stream.flush()
        text = ""
        while select.select([parent], [], [], 0.2)[0]:
            text += os.read(parent, 65536).decode()
    os.close(parent)
    assert "train:" in text and "50/100" in text and "loss=0.25" in text
    assert "<" in text.rsplit("[", 1)[-1], "no remaining time"
    assert "\r" in text


def test_history_of_a_run_that_goes_on(tmp_path):
    writer = MetricWriter(tmp_path)
    for step in (1, 2, 3):
        writer.write_scalars(step, {"train/loss": 1.0 / step})
    writer.close()
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 4, "train/lo')  # killed within a write
    writer = MetricWriter(tmp_path, first_step=2)
    writer.write_scalars(3, {"train/loss": 0.125})
    writer.close()
    assert [row["step"] for row in read_history(tmp_path)] == [1, 2, 3]
    assert curves(tmp_path) == {"train/loss": [(1, 1.0), (2, 0.5), (3, 0.125)]}


def test_tensorboard_forgets_what_a_killed_run_drew(tmp_path):
    from helpers.runs import events

    writer = MetricWriter(tmp_path, first_step=5)
    writer.write_scalars(6, {"train/loss": 1.0})
    writer.close()
    found = events(tmp_path / "tensorboard")
    assert any(event.session_log.status and event.step == 6 for event in found)


def test_help():
    done = tiny.run_command(["--help"])
    assert "--workdir" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_command_on_a_terminal(tmp_path):
    """On a pty the whole command draws a bar."""
    parent, child = pty.openpty()
    run = tiny.Run(tiny.flags(tiny.data(), tmp_path), terminal=os.ttyname(child))
    text = ""
    while run.process.exitcode is None:
        if select.select([parent], [], [], 0.5)[0]:
            text += os.read(parent, 65536).decode(errors="replace")
    os.close(child)
    os.close(parent)
    assert run.wait().returncode == 0, text
    assert "train: 100%" in text and "11/11" in text
    assert json.loads((tmp_path / "metrics.json").read_text())["steps"] == 11
