"""The figures of a run: threshold from the tune list, every test list scored, metrics.json."""

import math
import pathlib
import time
from typing import Any

from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.evaluate import multi_label, segment_evaluation
from wsol_jax.evaluate.figures import add_list, add_tests
from wsol_jax.evaluate.score_files import AnyScores
from wsol_jax.evaluate.scoring import TUNE_METRICS, fit_central_box, score_list
from wsol_jax.metrics.boxes import nearest_threshold
from wsol_jax.runs.checkpoint import check_choice
from wsol_jax.runs.opened import OpenedRun

# Without a tune list there is nothing to choose a threshold on: the CAM paper's 20% of the peak.
DEFAULT_THRESHOLD = 0.2


def evaluate_run(
    run: OpenedRun, workdir: pathlib.Path, maps: OpenedRun | None = None
) -> tuple[dict[str, Any], dict[str, AnyScores]]:
    """Chooses the threshold on tune, scores every test list and writes scores/.

    Args:
      maps: of a segmenter: the run whose class maps its cues come from, for the baseline.

    Returns:
      metrics.json's content but for the run's times, and each test list's scores.
    """
    if run.method.segments:
        return segment_evaluation.evaluate_segmenter(run, workdir, maps)
    start = time.monotonic()
    config, lists = run.config, run.lists
    parts = (config, run.method, run.variables)
    tune = None
    options: dict[str, Any] = {}
    score = multi_label.score_list if config.data.multi_label else score_list
    if lists.tune is not None:
        tune = score(*parts, lists.tune, run.mesh, what=f"evaluate {lists.tune.name}")
    threshold, reason = choose_threshold(config, tune)
    figures: dict[str, Any] = {"test": {}, "threshold": threshold, "threshold_from": reason}
    if not config.data.multi_label:
        options = {"threshold": threshold, "central": fit_central_box(lists.train)}
        if tune is not None and tune.parts:
            chosen = {name: choose_threshold(config, part)[0] for name, part in tune.parts.items()}
            options["part_thresholds"] = chosen
            figures["parts"] = {name: {"threshold": value} for name, value in chosen.items()}
    if tune is not None:
        add_list(figures, "tune", lists.tune.name, tune)
    scored: dict[str, AnyScores] = {}
    for name, source in lists.tests.items():
        scored[name] = score(*parts, source, run.mesh, what=f"evaluate {name}", **options)
    add_tests(figures, scored, workdir)
    if not config.data.multi_label:
        figures["max_box_acc_note"] = "maximises over thresholds on the scored list itself"
    figures["images_per_second"] = sum(len(s) for s in scored.values()) / max(
        time.monotonic() - start, 1e-9
    )
    return figures, scored


def check_options(options: Any) -> None:
    """Raises UserError for an ``eval`` section that could not be scored by, before any work."""
    if options.threshold >= 1:
        raise UserError(f"eval.threshold: expected below 1, got {options.threshold}.")
    if options.best_metric not in TUNE_METRICS:
        known = ", ".join(map(repr, TUNE_METRICS))
        raise UserError(f"eval.best_metric: {options.best_metric!r} is not one of {known}.")
    if not 0 <= options.tolerance < math.inf:
        raise UserError(f"eval.tolerance: expected 0 or more pixels, got {options.tolerance}.")
    check_choice(options.checkpoint)


def choose_threshold(config: Any, tune: AnyScores | None) -> tuple[float, str]:
    """The box threshold, and where it comes from in words."""
    if config.eval.threshold >= 0:
        return nearest_threshold(config.eval.threshold), "eval.threshold"
    if config.data.multi_label:
        return DEFAULT_THRESHOLD, "default: figures of several labels need none"
    if tune is not None and len(tune.boxes):
        return tune.boxes.best_threshold(), f"highest GT-known accuracy on {config.data.tune}"
    logging.warning("no tune list with boxes: the box threshold is %.1f", DEFAULT_THRESHOLD)
    return DEFAULT_THRESHOLD, "default, for want of a tune list with boxes"
