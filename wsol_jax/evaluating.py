"""The figures of a run: threshold from the tune list, every test list scored, metrics.json."""

import contextlib
import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
from absl import logging

from wsol_jax import gallery, methods, multi_label, segment_evaluation, sharding, workdirs
from wsol_jax.assemble import restore_variables, trunks, without_weights
from wsol_jax.checkpoint import check_choice
from wsol_jax.data.lists import Lists, open_lists
from wsol_jax.errors import UserError
from wsol_jax.figures import add_list, add_tests
from wsol_jax.files import write_whole
from wsol_jax.methods import Method
from wsol_jax.metrics.boxes import nearest_threshold
from wsol_jax.score_files import AnyScores
from wsol_jax.scores import Scores
from wsol_jax.scoring import TUNE_METRICS, fit_central_box, score_list
from wsol_jax.store import MapStore

# Without a tune list there is nothing to choose a threshold on: the CAM paper's 20% of the peak.
DEFAULT_THRESHOLD = 0.2


@dataclasses.dataclass(frozen=True)
class OpenedRun:
    """A run ready to be scored; ``step`` is its checkpoint's."""

    config: Any
    lists: Lists
    mesh: Any
    method: Method
    variables: Any
    step: int


def evaluate_run(
    run: OpenedRun, workdir: pathlib.Path, maps: OpenedRun | None = None
) -> dict[str, Any]:
    """Chooses the threshold on tune, scores every test list, writes scores/ and report.html.

    Args:
      maps: of a segmenter: the run whose class maps its cues come from, for the baseline.

    Returns:
      metrics.json's content but for the run's times.
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
    if jax.process_index() == 0:
        gallery.collect(config, workdir, run.method, run.variables, lists, scored, threshold)
    return figures


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


def finish_run(
    config: Any, workdir: pathlib.Path, figures: dict[str, Any], stages: Sequence[str] = ()
) -> None:
    """Writes metrics.json and the report, and prints the figures.

    ``stages``: whose folders hold the curves; none where the workdir itself does.
    """
    if jax.process_index() != 0:
        return
    write_whole(workdir / "metrics.json", json.dumps(figures, indent=1))
    gallery.write_page(config, workdir, figures, stages)


def begun_config(config: Any, workdir: pathlib.Path, class_names: tuple[str, ...]) -> Any:
    """The config of a run that has begun, with what the weight file decided then.

    Raises:
      UserError: the folder's run is another config's.
    """
    saved, _ = workdirs.load(workdir)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for section, before in zip(trunks(config), trunks(saved), strict=False):
            section.weights = before.weights
            if section.preprocessing == "auto":
                section.preprocessing, section.trunk = before.preprocessing, before.trunk
    workdirs.claim(workdir, config, class_names)
    return config


def open_run(
    config: Any, workdir: pathlib.Path, devices: int | None = None, lists: Lists | None = None
) -> OpenedRun:
    """Opens the lists and restores the checkpoint of a finished or unfinished run.

    Args:
      devices: 0 for all; None for as many as the config says.
      lists: the config's, if they are open already.
    Raises:
      UserError: the folder holds no checkpoint of this config, or a list is not there.
    """
    check_options(config.eval)
    lists = lists or open_lists(config.data)
    config = begun_config(config, workdir, lists.class_names)
    mesh = sharding.data_mesh(config.train.devices if devices is None else devices)
    # The checkpoint has the weights; their file may be gone.
    method = methods.build(without_weights(config), len(lists.class_names))
    variables, step = restore_variables(config, workdir, method, mesh)
    return OpenedRun(config, lists, mesh, method, variables, step)


def evaluate_workdir(config: Any, workdir: pathlib.Path) -> dict[str, Any]:
    """``--mode=evaluate``: scores the checkpoint of a finished or unfinished run again.

    Raises:
      UserError: the folder holds no checkpoint of this config.
    """
    start = time.monotonic()
    run = open_run(config, workdir)
    figures = evaluate_run(run, workdir)
    figures["steps"] = run.step
    with contextlib.suppress(OSError, json.JSONDecodeError, KeyError):
        before = json.loads((workdir / "metrics.json").read_text())
        figures["train_seconds"] = before["train_seconds"]
    figures["seconds"] = time.monotonic() - start
    finish_run(run.config, workdir, figures)
    return figures


def score_run(
    workdir: pathlib.Path,
    *,
    checkpoint: str = "",
    tests: str = "",
    threshold: float | None = None,
    store: pathlib.Path | None = None,
    dtype: str = "float32",
) -> tuple[dict[str, Scores], tuple[float, str], int]:
    """Scores a run's checkpoint on some lists and leaves the run's folder as it is.

    Args:
      checkpoint: "best" or "latest"; "" for the config's. tests: lists joined by "+"; "" for the
        config's. threshold: of the boxes; None chooses it as training does.
      store: a folder for score maps, one sub-folder a list (``store.MapStore``). dtype: of these.
    Returns:
      Each list's scores, the threshold and where it comes from, and the checkpoint's step.
    Raises:
      UserError: no run, no such list, or the store cannot be written.
    """
    workdir = workdirs.network_folder(workdir)
    config, _ = workdirs.load(workdir)
    if config.data.multi_label:
        raise UserError(
            f"--workdir={workdir} holds a run on images of several labels, which these metrics do "
            f"not know: --mode=evaluate of wsol_jax.main scores it."
        )
    with config.unlocked():
        config.eval.checkpoint = checkpoint or config.eval.checkpoint
        config.data.test = tests or config.data.test
        if threshold is not None:
            config.eval.threshold = threshold
    if not workdirs.has_checkpoint(workdir):
        raise UserError(f"--workdir={workdir} holds no checkpoint: train there first.")
    run = open_run(config, workdir, devices=0)
    # Before an hour of scoring, not after: a folder that cannot be written says so here.
    stores = {n: MapStore(store / n, s, dtype) for n, s in run.lists.tests.items() if store}
    parts = (run.config, run.method, run.variables)
    tune = None
    if run.lists.tune is not None and config.eval.threshold < 0:
        what = f"threshold from {run.lists.tune.name}"
        tune = score_list(
            *parts, run.lists.tune, run.mesh, every_contour=False, parts=False, what=what
        )
    chosen, reason = choose_threshold(config, tune)
    if threshold is not None:
        reason = "--threshold"
    scored = {}
    for name, source in run.lists.tests.items():
        kept = stores.get(name)
        keep = kept.keep if kept else None
        what = f"evaluate {name}"
        options = dict(threshold=chosen, keep=keep, parts=False, what=what)
        scored[name] = score_list(*parts, source, run.mesh, **options)
        if kept:
            kept.finish()
    return scored, (chosen, reason), run.step
