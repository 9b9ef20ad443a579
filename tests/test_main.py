"""The command itself: its help, and what a person sees on a terminal."""

import json
import os
import pty
import select
import time

import pytest
import tiny


def test_help():
    done = tiny.run_command(["--help"])
    assert "--workdir" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_command_on_a_terminal(tmp_path):
    """On a pty the whole command draws a bar."""
    parent, child = pty.openpty()
    run = tiny.Run(tiny.flags(tiny.data(), tmp_path), terminal=os.ttyname(child))
    text, end = "", time.monotonic() + 300
    while run.process.exitcode is None and time.monotonic() < end:
        if select.select([parent], [], [], 0.5)[0]:
            text += os.read(parent, 65536).decode(errors="replace")
    os.close(child)
    os.close(parent)
    assert run.wait(timeout=1).returncode == 0, text
    assert "train: 100%" in text and "11/11" in text
    assert json.loads((tmp_path / "metrics.json").read_text())["steps"] == 11
