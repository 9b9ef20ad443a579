"""Figures of two sets of finished runs: means over seeds, and paired intervals over images."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsol_jax.base import remote
from wsol_jax.base.errors import UserError
from wsol_jax.evaluate import kinds
from wsol_jax.evaluate.figures import COMPARED
from wsol_jax.evaluate.results import Results
from wsol_jax.metrics.bootstrap import Difference
from wsol_jax.runs import figures as stored_figures
from wsol_jax.runs import mirror


def load_runs(workdirs: Sequence[str]) -> list[dict[str, Any]]:
    """metrics.json and per-image scores of finished runs, or of their parts (WORKDIR:PART).

    Raises:
      UserError: a folder that holds no finished run, or none with this part.
    """
    return [{"name": workdir, **_load(*_split(workdir))} for workdir in workdirs]


def _split(workdir: str) -> tuple[pathlib.Path, str]:
    folder, _, part = workdir.rpartition(":")
    whole = "/" in part if remote.is_url(workdir) else pathlib.Path(workdir).is_dir()
    if not folder or whole:
        folder, part = workdir, ""
    return mirror.read(folder, flag="", choose=mirror.figures_alone), part


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

    Figures of different images are no pair: a list under whose name the runs scored other ones has
    no difference, and says why under ``not_paired``.

    Returns:
      {LIST: {"a" / "b": {figure: {"mean", "low", "high" of the seeds, how many "seeds"; of one
      seed its "interval_95" over images}}, "b-a": {figure: {"value", "interval_95"}},
      "not_paired": a sentence, "explained": {"a" / "b": what made the maps that were scored}, where
      some are no class maps}}; of figures that all runs know.

    Raises:
      UserError: an unfinished run, no common test list, or none of the same images.
    """
    a, b = load_runs(side_a), load_runs(side_b)
    lists = [n for n in a[0]["scores"] if all(n in run["scores"] for run in [*a, *b])]
    if not lists:
        known = (f"{run['name']} has {', '.join(run['scores']) or 'none'}" for run in [*a, *b])
        raise UserError(f"the runs have no test list in common: {'; '.join(known)}.")
    result: dict[str, Any] = {}
    for name in lists:
        entry: dict[str, Any] = {"a": _spread(a, name), "b": _spread(b, name), "b-a": {}}
        result[name] = entry
        if any("explain" in run["figures"] for run in [*a, *b]):
            entry["explained"] = {"a": _maps(a), "b": _maps(b)}
        if why := _obstacle([*a, *b], name):
            entry["not_paired"] = why
            continue
        for figure, pair in _paired(a, b, name).items():
            if figure in entry["a"] and figure in entry["b"]:
                ends = [pair.low, pair.high]
                entry["b-a"][figure] = {"value": pair.value, "interval_95": ends}
    reasons = [entry["not_paired"] for entry in result.values() if "not_paired" in entry]
    if len(reasons) == len(result):
        raise UserError(f"nothing can be compared: {' '.join(reasons)}")
    return result


def _maps(runs: Sequence[dict[str, Any]]) -> str:
    """What made the maps of a side: explanations by name and layer, or the class maps."""
    found = [stored_figures.explanation(run["figures"]) for run in runs]
    words = [" at ".join(filter(None, each)) if each[0] else "class maps" for each in found]
    return " and ".join(dict.fromkeys(words))


def _spread(runs: Sequence[dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    """Mean, lowest and highest of the seeds, of each figure that all of them know.

    Of one seed, which has no spread, the 95% interval over images, where its run knows it.
    """
    found: dict[str, dict[str, Any]] = {}
    for figure in COMPARED:
        values = [run["figures"]["test"][name].get(figure) for run in runs]
        if None in values:
            continue
        found[figure] = {
            "mean": float(np.mean(values)),
            "low": float(min(values)),
            "high": float(max(values)),
            "seeds": len(values),
        }
        if len(runs) == 1 and (ends := _interval(runs[0]["figures"]["test"][name], figure)):
            found[figure]["interval_95"] = ends
    return found


def _interval(figures: Mapping[str, Any], figure: str) -> list[float]:
    """A figure's interval as metrics.json has it, which older ones may lack; [] without."""
    spans = figures.get("intervals_95")
    ends = spans.get(figure) if isinstance(spans, dict) else None
    if not isinstance(ends, list) or len(ends) != 2:
        return []
    good = all(isinstance(end, int | float) and math.isfinite(end) for end in ends)
    return list(map(float, ends)) if good else []


def _obstacle(runs: Sequence[dict[str, Any]], name: str) -> str:
    """The sentence that says which runs' results of a list are no pair, and why; "" for none."""
    first = runs[0]
    for run in runs[1:]:
        if why := first["scores"][name].obstacle(run["scores"][name]):
            return (
                f"{name}: {first['name']} and {run['name']} {why} there: a pair needs the same "
                "test list."
            )
    return ""


def _paired(
    a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]], name: str
) -> dict[str, Difference]:
    """b - a of a list's figures, each run at the box threshold of its own tune list."""
    results: list[list[Results]] = [[run["scores"][name] for run in side] for side in (a, b)]
    thresholds = [[run["figures"]["threshold"] for run in side] for side in (a, b)]
    try:
        return type(results[0][0]).paired(*results, tuple(thresholds))
    except ValueError as error:
        raise UserError(f"{name}: {error}: a pair needs the same test list.") from None
