"""The bar, or the lines, that a person sees while a run goes on."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from tqdm import tqdm

from wsol_jax.base.text import printable


class Progress:
    """A bar with an ETA on a terminal; elsewhere a plain line now and then.

    Args:
      what: e.g. "train" or "evaluate wsol_test".
      total: of the work's units.
      done: already, when a run goes on.
      seconds: between plain lines.
    """

    def __init__(self, what: str, total: int, done: int = 0, seconds: float = 15.0, stream=None):
        self._stream = stream or sys.stderr
        what = printable(what)  # a list's name may come from anywhere
        self._what, self._total, self._done, self._first = what, total, done, done
        self._seconds, self._start, self._last = seconds, time.monotonic(), time.monotonic()
        self._text, self._bar = "", None
        if self._stream.isatty():
            # A terminal that does not know its width says 0, in which tqdm draws nothing.
            width = os.get_terminal_size(self._stream.fileno()).columns
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=what,
                file=self._stream,
                dynamic_ncols=width > 0,
                ncols=None if width else 80,
            )

    def update(self, units: int = 1, **figures: float) -> None:
        """Counts work done; ``figures`` stand beside the bar."""
        self._done += units
        if figures:
            self._text = " ".join(f"{name}={value:.4g}" for name, value in figures.items())
        if self._bar is not None:
            if figures:
                self._bar.set_postfix_str(self._text, refresh=False)
            self._bar.update(units)
        elif time.monotonic() - self._last >= self._seconds or self._done == self._total:
            self._last = time.monotonic()
            self._line()

    def _line(self) -> None:
        spent = time.monotonic() - self._start
        rate = (self._done - self._first) / max(spent, 1e-9)
        left = (self._total - self._done) / rate if rate > 0 else float("nan")
        print(
            f"{self._what}: {self._done}/{self._total} {rate:.2f}/s, {left:.0f} s left "
            f"{self._text}".rstrip(),
            file=self._stream,
            flush=True,
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@contextlib.contextmanager
def compiling(what: str, stream: TextIO | None = None) -> Iterator[None]:
    """Says that a program compiles: in a line that goes again on a terminal, a plain one elsewhere.

    A bar that stands on the terminal's line is covered; its next step draws it anew.
    """
    stream = stream or sys.stderr
    said = f"{printable(what)}: compiling ..."
    if not stream.isatty():
        print(said, file=stream, flush=True)
        yield
        return
    width = os.get_terminal_size(stream.fileno()).columns or 80
    try:
        print(f"\r{said[:width]:{width}}", end="", file=stream, flush=True)
        yield
    finally:
        print(f"\r{'':{width}}\r", end="", file=stream, flush=True)
