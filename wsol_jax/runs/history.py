"""What a run writes of each logged step, and its curves read again."""

import json
import pathlib
from collections.abc import Mapping

from absl import logging

from wsol_jax.base.files import write_whole


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
    """The rows of ``history.jsonl``; a last line cut short by a kill is dropped.

    A line before that that is damaged is named, and its points are missing in the curves.
    """
    path = pathlib.Path(workdir) / "history.jsonl"
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            rows.append({"step": int(row["step"]), **{k: _number(v) for k, v in row.items()}})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            if number < len(lines):  # the last ends without a line's end
                logging.warning("%s, line %d is damaged: the curves go without it.", path, number)
    return rows


def _number(value: float) -> float:
    if not isinstance(value, int | float):
        raise TypeError(value)
    return value


def curves(workdir: pathlib.Path) -> dict[str, list[tuple[int, float]]]:
    """name -> [(step, value)], as the report draws them."""
    result: dict[str, list[tuple[int, float]]] = {}
    for row in read_history(workdir):
        for name, value in row.items():
            if name != "step":
                result.setdefault(name, []).append((int(row["step"]), value))
    return result
