"""What the benchmarks share: --out, timing in turns, a figure's row, what ran where."""

import argparse
import dataclasses
import datetime
import json
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from PIL import Image

from benchmarks import machine
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_writable, write_out


def make_parser(text: str) -> argparse.ArgumentParser:
    """A script's parser with ``--out``; ``text``: its docstring, whose first line --help shows."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--out", type=_out_file, help="JSON file for the figures")
    return parser


def _out_file(text: str) -> pathlib.Path:
    """``text`` as a path that can be written, which is asked before the work."""
    try:
        check_writable("--out", text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return pathlib.Path(text)


def clock(call: Callable[[], object], times: int = 1) -> tuple[float, float]:
    """(wall, CPU) seconds of a call, the mean of ``times``; CPU is this process's."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        call()
    return (time.perf_counter() - wall) / times, (time.process_time() - cpu) / times


def in_turns(sides: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """What each side measures, a row a round.

    The sides take turns, every second round backwards: what slows the machine for a while, or what
    one side leaves in the caches, meets all of them.

    Args:
      sides: by name; each measures itself once, such as ``lambda: clock(work)``.
    """
    found: dict[str, list[Any]] = {name: [] for name in sides}
    for index in range(rounds):
        for name in list(sides)[:: -1 if index % 2 else 1]:
            found[name].append(sides[name]())
    return {name: np.array(values) for name, values in found.items()}


@dataclasses.dataclass(frozen=True)
class Row:
    """A figure beside its peer's, from rounds in which the two took turns.

    Attributes:
      name, setting: in words, such as "CAM-VGG16 step" and "batch 4 at 224, float32".
      ours, peer: a figure a round; () where there is no peer.
      against: the peer in words.
      unit: of the figures; of "photos/s" and its like more is better, of "s" less.
      compares: "speed": how many times as fast as the peer ours is; "time": how many times as long
        ours takes.
      by: what stands for all rounds, their median (the ratio is the median of the rounds'), or the
        best one of each side.
    """

    name: str
    setting: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    against: str = ""
    unit: str = "s"
    compares: Literal["speed", "time"] = "speed"
    by: Literal["median", "best"] = "median"

    def _compare(self, ours: np.ndarray, peer: np.ndarray) -> np.ndarray:
        return ours / peer if self._is_rate == (self.compares == "speed") else peer / ours

    @property
    def _is_rate(self) -> bool:
        return self.unit.endswith("/s")

    def _whole(self, rounds: Sequence[float]) -> float:
        best = np.max if self._is_rate else np.min
        return float((np.median if self.by == "median" else best)(rounds))

    @property
    def ratios(self) -> np.ndarray:
        """Each round's ratio."""
        return self._compare(np.asarray(self.ours), np.asarray(self.peer))

    @property
    def ratio(self) -> float | None:
        """Over all rounds; None without a peer."""
        if not len(self.peer):
            return None
        if self.by == "median":
            return float(np.median(self.ratios))
        return float(self._compare(self._whole(self.ours), self._whole(self.peer)))

    def to_json(self) -> dict[str, Any]:
        """The row as every script's ``--out`` has it."""
        has_peer = len(self.peer) > 0
        return {
            "name": self.name,
            "setting": self.setting,
            "against": self.against,
            "unit": self.unit,
            "ours": self._whole(self.ours),
            "peer": self._whole(self.peer) if has_peer else None,
            "ratio": self.ratio,
            "compares": self.compares,
            "spread": [float(self.ratios.min()), float(self.ratios.max())] if has_peer else None,
            "rounds": {name: np.asarray(getattr(self, name)).tolist() for name in ("ours", "peer")},
            "by": self.by,
        }

    def __str__(self) -> str:
        row = self.to_json()
        own = f"{shown(row['ours'], self.unit)}"
        if row["ratio"] is None:
            return f"{self.name}: {own}"
        theirs = shown(row["peer"], self.unit)
        return (
            f"ratio {self.name} to {self.against}: {ratio_text(row)} (rounds {spread_text(row)}); "
            f"{own} and {theirs}"
        )


def shown(value: float, unit: str) -> str:
    """A figure for people, such as "193 ms" or "3,580 images/s"."""
    if unit == "s" and value < 1:
        value, unit = 1e3 * value, "ms"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def ratio_text(row: Mapping[str, Any]) -> str:
    """The ratio of a row of JSON, such as "0.90x" or "1.06x the time"."""
    return f"{_short(row['ratio'])}x" + " the time" * (row["compares"] == "time")


def spread_text(row: Mapping[str, Any]) -> str:
    """Its least and largest round."""
    return " to ".join(_short(value) for value in row["spread"])


def _short(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:.0f}"


def now() -> str:
    """The date and time, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write(flags: argparse.Namespace, rows: Sequence[Row], **figures: Any) -> None:
    """Writes a script's figures to ``flags.out``, if one is named.

    Args:
      rows: what was timed, in the shape that all scripts have.
      figures: what else was found, in the script's own.
    """
    if flags.out is None:
        return
    device = jax.devices()[0]
    content = {
        "script": pathlib.Path(sys.argv[0]).name,
        "date": now(),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "device": {"platform": device.platform, "kind": device.device_kind},
        "load_before": machine.LOAD,
        "peak_memory": machine.peak_memory(),
        "setting": {name: value for name, value in vars(flags).items() if name != "out"},
        "rows": [row.to_json() for row in rows],
        **figures,
    }
    write_out("--out", flags.out, json.dumps(content, indent=1, default=str) + "\n")


def write_photos(
    folder: pathlib.Path,
    count: int,
    sizes: Sequence[tuple[int, int]] = ((500, 375),),
    quality: int = 90,
) -> list[str]:
    """``count`` JPEGs of 1/f-like noise, sums of smooth random fields at five scales; their paths.

    ``sizes``: (width, height), one photo after the other.
    """
    paths = []
    for index in range(count):
        rng = np.random.default_rng(index)
        width, height = size = sizes[index % len(sizes)]
        total = np.zeros((height, width, 3), np.float32)
        for cells in (4, 12, 36, 108, 324):
            field = rng.standard_normal((cells * height // width + 1, cells, 3))
            field = np.clip(field * 48 + 128, 0, 255).astype(np.uint8)
            layer = Image.fromarray(field).resize(size, Image.Resampling.BICUBIC)
            total += (np.asarray(layer, np.float32) - 128) * (4 / cells) ** 0.35
        picture = np.clip(total + 128, 0, 255).astype(np.uint8)
        path = folder / f"{index:05d}.jpg"
        Image.fromarray(picture).save(path, quality=quality)
        paths.append(str(path))
    return paths
