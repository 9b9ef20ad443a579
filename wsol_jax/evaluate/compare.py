"""Figures of two sets of finished runs: means over seeds, and paired intervals over images."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.evaluate import kinds
from wsol_jax.evaluate.figures import COMPARED
from wsol_jax.evaluate.results import Results
from wsol_jax.metrics.bootstrap import Difference
from wsol_jax.runs import figures as stored_figures


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
    figures = stored_figures.read_finished(folder)
    if figures is None:
        raise UserError(f"{folder} holds no finished run: it has no {stored_figures.FILE}.")
    parts = figures.get("parts", {})
    if part and part not in parts:
        raise UserError(f"{folder} has no part {part!r}; there are: {', '.join(parts) or 'none'}.")
    figures = parts[part] if part else figures
    for name, values in figures.get("test", {}).items():
        for figure in COMPARED:
            if not isinstance(values.get(figure), int | float | None):
                raise UserError(
                    f"{folder / stored_figures.FILE}: test.{name}.{figure}: expected a number, got "
                    f"{str(values[figure])[:80]!r}."
                )
    paths = {n: folder / "scores" / part / f"{n}.npz" for n in figures.get("test", {})}
    return {"figures": figures, "scores": {name: kinds.load(path) for name, path in paths.items()}}


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
