"""A benchmark's script as a process of its own, with a time limit."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

_GRACE = 10.0  # seconds from the wish that a script ends to its end


def call(command: Sequence[str], log: pathlib.Path, limit: float, tick: Callable[[], None]) -> str:
    """Runs a script, its words into the log; why it failed, or "".

    Args:
      limit: seconds, after which it is ended with all processes that it began.
      tick: called about once a second meanwhile.
    """
    end = time.monotonic() + limit
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            while process.poll() is None:
                if time.monotonic() > end:
                    return f"it was ended after {limit / 60:.3g} minutes (--limit)"
                try:
                    process.wait(min(1.0, max(end - time.monotonic(), 0.01)))
                except subprocess.TimeoutExpired:
                    tick()
        finally:
            _end(process)
    if process.returncode < 0:
        return f"it was ended by {signal.Signals(-process.returncode).name}"
    said = last_line(log.read_text(errors="replace"))
    return f"{said} (status {process.returncode})" if process.returncode else ""


def _end(process: subprocess.Popen) -> None:
    """Ends a script that still runs, and every process that it began."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    with contextlib.suppress(ProcessLookupError):  # all are gone already
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_line(text: str) -> str:
    """What a script said last, cut to a sentence's length."""
    return text.rstrip().rpartition("\n")[2].strip().removeprefix("error: ")[:300]
