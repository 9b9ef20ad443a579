"""Signals that ask a run to stop, which saves first."""

import contextlib
import signal
import types
from collections.abc import Callable

import jax

from wsol_jax.base.errors import Interrupted


class StopRequest:
    """A context that remembers the first SIGTERM or SIGINT; a second one acts at once.

    Args:
      saved_step: where everything is saved already: the first one, too, stops the run at once.
      at_once: the same where no checkpoint is written but files, each of them whole.
    """

    def __init__(self, saved_step: int | None = None, at_once: bool = False):
        self.signum: int | None = None
        self._saved_step, self._at_once = saved_step, at_once or saved_step is not None
        self._old: dict[int, Callable[[int, types.FrameType | None], object] | int | None] = {}

    def _remember(self, signum, frame):
        self.signum = signum
        signal.signal(signum, self._old[signum])
        if self._at_once:
            raise Interrupted(signum, self._saved_step)

    def __enter__(self):
        if jax.process_count() > 1:
            return self  # jax.distributed has its own handler, which tells all processes
        with contextlib.suppress(ValueError):  # not the main thread: no handler, no harm
            for signum in (signal.SIGTERM, signal.SIGINT):
                self._old[signum] = signal.signal(signum, self._remember)
        return self

    def __exit__(self, *_):
        for signum, handler in self._old.items():
            signal.signal(signum, handler)
