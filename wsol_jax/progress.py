"""What a person sees while a run goes on, and what TensorBoard reads after it."""

import json
import os
import pathlib
import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from wsol_jax.files import write_whole


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


class MetricWriter:
    """TensorBoard events and ``history.jsonl``, under clu's method names, without TensorFlow.

    A run that goes on at step k drops what an earlier one wrote past k, so that the curves of a
    killed run equal those of an unbroken one.
    """

    def __init__(self, workdir: pathlib.Path, first_step: int = 0):
        self._history = workdir / "history.jsonl"
        kept = [row for row in read_history(workdir) if row["step"] <= first_step]
        write_whole(self._history, "".join(json.dumps(row) + "\n" for row in kept))
        import tensorboardX  # brings PyTorch along where that is installed: 200 MB, a second

        # purge_step: TensorBoard, too, forgets what a killed run drew past its checkpoint.
        self._events = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), max_queue=100, purge_step=first_step + 1
        )

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """One row of the history and one point of each curve."""
        with self._history.open("a") as file:
            file.write(json.dumps({"step": step, **{k: float(v) for k, v in scalars.items()}}))
            file.write("\n")
        for name, value in scalars.items():
            self._events.add_scalar(name, float(value), step)

    def flush(self) -> None:
        self._events.flush()

    def close(self) -> None:
        self._events.close()


def read_history(workdir: pathlib.Path) -> list[dict[str, float]]:
    """The rows of ``history.jsonl``; a last line cut short by a kill is dropped."""
    path = pathlib.Path(workdir) / "history.jsonl"
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def curves(workdir: pathlib.Path) -> dict[str, list[tuple[int, float]]]:
    """name -> [(step, value)], as the report draws them."""
    result: dict[str, list[tuple[int, float]]] = {}
    for row in read_history(workdir):
        for name, value in row.items():
            if name != "step":
                result.setdefault(name, []).append((int(row["step"]), value))
    return result
