"""Two processes that end well, as fresh interpreters: what Python does at its end is part of it."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
RUN = """
import sys
from wsol_jax.base import processes, sharding
sharding.start_distributed(sys.argv[1], 2, int(sys.argv[2]))
processes.watch(lambda: "nothing is saved.")
processes.leave()
processes.close()
"""


def test_they_end_with_0():
    with contextlib.closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, address, str(index)],
            env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
