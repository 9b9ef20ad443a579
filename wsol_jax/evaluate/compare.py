"""Runs against runs: means over seeds, their spread, and a paired interval over images.

python -m wsol_jax.compare runs/cam0,runs/cam1,runs/cam2 runs/spg0,runs/spg1,runs/spg2
python -m wsol_jax.compare runs/two_phase:first runs/two_phase    a part against the whole
"""

import json
import pathlib
import sys
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.evaluate import kinds
from wsol_jax.evaluate.figures import COMPARED
from wsol_jax.evaluate.kind import Results
from wsol_jax.metrics.bootstrap import Difference


def load_runs(workdirs: Sequence[str]) -> list[dict[str, Any]]:
    """metrics.json and per-image scores of finished runs, or of their parts (WORKDIR:PART).

    Raises:
      UserError: a folder that holds no finished run, or none with this part.
    """
    return [_load(*_split(workdir)) for workdir in workdirs]


def _split(workdir: str) -> tuple[pathlib.Path, str]:
    folder, _, part = workdir.rpartition(":")
    if not folder or pathlib.Path(workdir).is_dir():
        folder, part = workdir, ""
    return pathlib.Path(folder), part


def _load(folder: pathlib.Path, part: str) -> dict[str, Any]:
    try:
        figures = json.loads((folder / "metrics.json").read_text())
        if part and part not in figures.get("parts", {}):
            known = ", ".join(figures.get("parts", {})) or "none"
            raise UserError(f"{folder} has no part {part!r}; there are: {known}.")
        figures = figures["parts"][part] if part else figures
        paths = {name: folder / "scores" / part / f"{name}.npz" for name in figures["test"]}
        scores = {name: kinds.load(path) for name, path in paths.items()}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{folder} holds no finished run: {error}") from None
    return {"figures": figures, "scores": scores}


def compare(side_a: Sequence[str], side_b: Sequence[str]) -> dict[str, Any]:
    """Figures of two sets of runs on every test list that all of them scored.

    Returns:
      {LIST: {"a" / "b": {figure: {"mean", "low", "high" of the seeds}},
      "b-a": {figure: {"value", "interval_95"}}}}; of figures that all runs know.

    Raises:
      UserError: an unfinished run, no common test list, or one of other images.
    """
    a, b = load_runs(side_a), load_runs(side_b)
    lists = [n for n in a[0]["scores"] if all(n in run["scores"] for run in [*a, *b])]
    if not lists:
        raise UserError("the runs have no test list in common.")
    result: dict[str, Any] = {}
    for name in lists:
        entry = {"a": _spread(a, name), "b": _spread(b, name), "b-a": {}}
        for figure, pair in _paired(a, b, name).items():
            if figure in entry["a"] and figure in entry["b"]:
                ends = [pair.low, pair.high]
                entry["b-a"][figure] = {"value": pair.value, "interval_95": ends}
        result[name] = entry
    return result


def _spread(runs: Sequence[dict[str, Any]], name: str) -> dict[str, dict[str, float]]:
    """Mean, lowest and highest of the seeds, of each figure that all of them know."""
    found = {}
    for figure in COMPARED:
        values = [run["figures"]["test"][name].get(figure) for run in runs]
        if None not in values:
            found[figure] = {
                "mean": float(np.mean(values)),
                "low": float(min(values)),
                "high": float(max(values)),
            }
    return found


def _paired(
    a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]], name: str
) -> dict[str, Difference]:
    """b - a of a list's figures, each run at the box threshold of its own tune list."""
    results: list[list[Results]] = [[run["scores"][name] for run in side] for side in (a, b)]
    thresholds = [[run["figures"]["threshold"] for run in side] for side in (a, b)]
    every = [one for side in results for one in side]
    if len({type(one) for one in every}) > 1:
        raise UserError(
            f"{name}: the runs were scored by different figures there: boxes of one label, "
            "maps of several, or segmentations."
        )
    try:
        found = type(every[0]).paired(*results, tuple(thresholds))
    except ValueError as error:
        raise UserError(f"{name}: {error}: a pair needs the same test list.") from None
    obstacles = [why for one in every if (why := every[0].obstacle(one))]
    if obstacles:
        raise UserError(f"{name}: the runs {obstacles[0]}: a pair needs the same test list.")
    return found


def table(result: dict[str, Any]) -> str:
    """``compare``'s result as text: means in %, lowest and highest seed, paired differences."""
    lines = []
    for name, entry in result.items():
        lines.append(f"{name}{'a':>28}{'b':>24}{'b - a [95% over images]':>32}")
        for figure in COMPARED:
            if not any(figure in entry[side] for side in ("a", "b")):
                continue
            cells = []
            for side in ("a", "b"):
                v = entry[side].get(figure)
                cells.append(
                    f"{100 * v['mean']:.1f} ({100 * v['low']:.1f}-{100 * v['high']:.1f})"
                    if v
                    else "-"
                )
            pair = entry["b-a"].get(figure)
            tail = ""
            if pair:
                low, high = pair["interval_95"]
                tail = f"{100 * pair['value']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
            lines.append(f"  {figure:16}{cells[0]:>24}{cells[1]:>24}{tail:>28}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The command; two comma-joined lists of workdirs, and --out=FILE for JSON."""
    out = [x.removeprefix("--out=") for x in arguments if x.startswith("--out=")]
    sides = [x.split(",") for x in arguments if not x.startswith("--")]
    if len(sides) != 2 or len(out) > 1 or len(sides) + len(out) != len(arguments):
        print("usage: python -m wsol_jax.compare A1,A2,... B1,B2,... [--out=FILE]", file=sys.stderr)
        return 2
    try:
        result = compare(*sides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(result))
    if out:
        pathlib.Path(out[0]).write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
