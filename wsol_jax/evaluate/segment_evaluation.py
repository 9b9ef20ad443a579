"""The figures of a segmenter: with its CRF, without it, and of the class maps that it grew from."""

import dataclasses
import pathlib
import time
from typing import Any

from wsol_jax.evaluate import segmenting
from wsol_jax.evaluate.figures import add_tests
from wsol_jax.evaluate.shown import drawn


def evaluate_segmenter(run: Any, workdir: pathlib.Path, maps: Any | None) -> dict[str, Any]:
    """``evaluating.evaluate_run`` of a segmenter.

    Args:
      run, maps: ``evaluating.OpenedRun``s, of the segmenter and of the classifier behind its cues.

    Returns:
      metrics.json's content but for the run's times.
    """
    start = time.monotonic()
    config, lists = run.config, run.lists
    names = lists.class_names
    segmenting.check_options(config.eval, names)
    parts = (config, run.method, run.variables)
    # The heat in the report is a probability: its boxes stand where it is a half.
    figures: dict[str, Any] = {"test": {}, "threshold": 0.5, "threshold_from": "probability"}
    figures |= {"whole": "with CRF", "segments": True}
    if lists.tune is not None:
        what = f"evaluate {lists.tune.name}"
        tune = segmenting.score_list(*parts, lists.tune, run.mesh, parts=False, what=what)
        entry = {"threshold": figures["threshold"], "tune": {lists.tune.name: tune.figures()}}
        figures["parts"] = {segmenting.BEFORE_CRF: entry}
    thresholds = None
    if maps is not None:
        of_maps = (_scored_as(maps.config, config), maps.method, maps.variables)
        if config.eval.map_thresholds:
            thresholds = segmenting.MapThresholds(*config.eval.map_thresholds)
        else:
            thresholds = segmenting.choose_map_thresholds(*of_maps, lists.tune, run.mesh)
        figures["map_thresholds"] = dataclasses.asdict(thresholds)
    scored = {}
    for name, source in lists.tests.items():
        shown = drawn(config, source)
        keep = shown.__contains__
        what = f"evaluate {name}"
        scored[name] = segmenting.score_list(*parts, source, run.mesh, keep=keep, what=what)
        if thresholds is not None:
            options = dict(thresholds=thresholds, keep=keep, what=f"{name}: class maps")
            baseline = segmenting.score_maps(*of_maps, source, run.mesh, **options)
            scored[name].parts[segmenting.CAM] = baseline
    add_tests(figures, scored, workdir)
    figures["images_per_second"] = sum(map(len, scored.values())) / (time.monotonic() - start)
    return figures, scored


def _scored_as(config: Any, other: Any) -> Any:
    """A run's config with the mean IoU over another's classes."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.eval.mean_classes = other.eval.mean_classes
    return config
