"""The figures of a run: thresholds from the tune list, then every test list scored."""

import dataclasses
import functools
import pathlib
import time
from typing import Any, NamedTuple

import jax

from wsol_jax.evaluate import kinds
from wsol_jax.evaluate.kind import Kind, Task
from wsol_jax.evaluate.localize import Explained
from wsol_jax.evaluate.results import Results
from wsol_jax.evaluate.score import score_list
from wsol_jax.evaluate.shown import drawn
from wsol_jax.runs.opened import Network, OpenedRun


class Evaluated(NamedTuple):
    """What scoring a run found.

    Attributes:
      figures: metrics.json's content but for the run's times.
      scored: each test list's results.
      kind: what was measured.
    """

    figures: dict[str, Any]
    scored: dict[str, Results]
    kind: Kind


def evaluate_run(run: OpenedRun, workdir: pathlib.Path, maps: Network | None = None) -> Evaluated:
    """Chooses thresholds on the tune list, scores every test list and writes scores/.

    Args:
      maps: the network whose class maps the run's labels come from, for the baseline of kinds that
        have one.
    """
    start = time.monotonic()
    kind, lists = kinds.of(run), run.lists
    figures, thresholds = _tuned(run, kind)
    if kind.whole:
        figures["whole"] = kind.whole
    baseline = kind.baseline(run, maps) if maps is not None else None
    if baseline is not None:
        figures |= baseline.figures
    task = kind.test_task(run, thresholds)
    scored: dict[str, Results] = {}
    for name, source in lists.tests.items():
        shown = drawn(source, run.config.eval.gallery) if kind.draws else frozenset()
        its = dataclasses.replace(task, shown=shown)
        scored[name] = score_list(run, source, kind, its, what=f"evaluate {name}")
        if baseline is not None:
            what = f"{name}: class maps"
            scored[name].parts[baseline.name] = baseline.score(source, shown, what)
    add_tests(figures, scored, workdir)
    figures |= kind.notes
    if explained := Explained.of(run):
        layer = explained.layer or run.method.maps_layer
        figures["explain"] = {"name": explained.name, "layer": layer}
    spent = max(time.monotonic() - start, 1e-9)
    figures["images_per_second"] = sum(map(len, scored.values())) / spent
    return Evaluated(figures, scored, kind)


def _tuned(run: OpenedRun, kind: Kind) -> tuple[dict[str, Any], dict[str, float]]:
    """The figures of the tune list, and the box thresholds that it decides, by part."""
    source, tune = run.lists.tune, None
    if source is not None:
        what = f"evaluate {source.name}"
        tune = score_list(run, source, kind, Task(crf=False), what=what)
    where = run.lists.describe_tune()
    threshold, reason = kind.choose_threshold(tune, where)
    figures: dict[str, Any] = {"test": {}, "threshold": threshold, "threshold_from": reason}
    figures["kind"] = kind.name
    thresholds = {"": threshold}
    if tune is not None:
        for name, part in tune.parts.items():
            thresholds[name] = kind.parts[name].choose_threshold(part, where)[0]
            figures.setdefault("parts", {})[name] = {"threshold": thresholds[name]}
        add_list(figures, "tune", source.name, tune, kind.tune_part)
    return figures, thresholds


def add_tests(figures: dict[str, Any], scored: dict[str, Results], workdir: pathlib.Path) -> None:
    """Adds figures and files of each test list, and of all together where there are several."""
    everything = dict(scored)
    if len(scored) > 1:
        everything["+".join(scored)] = functools.reduce(lambda a, b: a.merge(b), scored.values())
    for name, results in everything.items():
        add_list(figures, "test", name, results)
        if jax.process_index() == 0:
            for part, own in {"": results, **results.parts}.items():
                own.save(workdir / "scores" / part / f"{name}.npz")


def add_list(
    figures: dict[str, Any], kind: str, name: str, results: Results, part: str = ""
) -> None:
    """Writes a list's figures under figures[kind], those of its parts under parts/PART/kind.

    ``part``: what the whole of these results is a part of, where it is one.
    """
    for own, one in {part: results, **results.parts}.items():
        entry = figures
        if own:
            entry = figures.setdefault("parts", {}).setdefault(own, {})
        threshold = entry.setdefault("threshold", figures["threshold"])
        entry.setdefault(kind, {})[name] = one.figures(threshold)
