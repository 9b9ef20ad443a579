"""The figures of a run: threshold from the tune list, every test list scored, metrics.json."""

import contextlib
import dataclasses
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
from absl import logging

from wsol_jax import gallery, methods, sharding, workdirs
from wsol_jax.assemble import restore_variables, trunks, without_weights
from wsol_jax.checkpoint import check_choice
from wsol_jax.data.lists import Lists, open_lists
from wsol_jax.errors import UserError
from wsol_jax.methods import Method
from wsol_jax.metrics.boxes import THRESHOLDS
from wsol_jax.scores import Scores
from wsol_jax.scoring import TUNE_METRICS, fit_central_box, score_list
from wsol_jax.store import MapStore, check_free

# Without a tune list there is nothing to choose a threshold on: the CAM paper's 20% of the peak.
DEFAULT_THRESHOLD = 0.2


def evaluate_run(
    config: Any, workdir: pathlib.Path, method: Method, variables: Any, lists: Lists, mesh: Any
) -> dict[str, Any]:
    """Chooses the threshold on tune, scores every test list, writes scores/ and report.html.

    Returns:
      metrics.json's content but for the run's times.
    """
    start = time.monotonic()
    tune = None
    if lists.tune is not None:
        tune = score_list(
            config, method, variables, lists.tune, mesh, what=f"evaluate {lists.tune.name}"
        )
    threshold, reason = choose_threshold(config, tune)
    central = fit_central_box(lists.train)
    figures: dict[str, Any] = {"test": {}, "threshold": threshold, "threshold_from": reason}
    if tune is not None:
        figures["tune"] = {lists.tune.name: tune.figures(threshold)}
    scored: dict[str, Scores] = {}
    for name, source in lists.tests.items():
        scored[name] = score_list(
            config,
            method,
            variables,
            source,
            mesh,
            threshold=threshold,
            central=central,
            what=f"evaluate {name}",
        )
    everything = dict(scored)
    if len(scored) > 1:
        union = Scores()
        for scores in scored.values():
            union = union.merge(scores)
        everything["+".join(scored)] = union
    for name, scores in everything.items():
        figures["test"][name] = scores.figures(threshold)
        if jax.process_index() == 0:
            scores.save(workdir / "scores" / f"{name}.npz")
    figures["max_box_acc_note"] = "maximises over thresholds on the scored list itself"
    figures["images_per_second"] = sum(len(s.hits.images) for s in scored.values()) / max(
        time.monotonic() - start, 1e-9
    )
    if jax.process_index() == 0:
        gallery.collect(config, workdir, method, variables, lists, scored, threshold)
    return figures


def check_options(options: Any) -> None:
    """Raises UserError for an ``eval`` section that could not be scored by, before any work."""
    if options.threshold >= 1:
        raise UserError(f"eval.threshold: expected below 1, got {options.threshold}.")
    if options.best_metric not in TUNE_METRICS:
        known = ", ".join(map(repr, TUNE_METRICS))
        raise UserError(f"eval.best_metric: {options.best_metric!r} is not one of {known}.")
    check_choice(options.checkpoint)


def choose_threshold(config: Any, tune: Scores | None) -> tuple[float, str]:
    """The box threshold, and where it comes from in words."""
    if config.eval.threshold >= 0:
        nearest = THRESHOLDS[np.abs(THRESHOLDS - config.eval.threshold).argmin()]
        return float(nearest), "eval.threshold"
    if tune is not None and len(tune.boxes):
        return tune.boxes.best_threshold(), f"highest GT-known accuracy on {config.data.tune}"
    logging.warning("no tune list with boxes: the box threshold is %.1f", DEFAULT_THRESHOLD)
    return DEFAULT_THRESHOLD, "default, for want of a tune list with boxes"


def finish_run(config: Any, workdir: pathlib.Path, figures: dict[str, Any]) -> None:
    """Writes metrics.json and the report, and prints the figures."""
    if jax.process_index() != 0:
        return
    temporary = workdir / "metrics.json.tmp"
    temporary.write_text(json.dumps(figures, indent=1))
    temporary.replace(workdir / "metrics.json")
    gallery.write_page(config, workdir, figures)


@dataclasses.dataclass(frozen=True)
class OpenedRun:
    """A run ready to be scored; ``step`` is its checkpoint's."""

    config: Any
    lists: Lists
    mesh: Any
    method: Method
    variables: Any
    step: int


def open_run(config: Any, workdir: pathlib.Path, devices: int | None = None) -> OpenedRun:
    """Opens the lists and restores the checkpoint of a finished or unfinished run.

    Args:
      devices: 0 for all; None for as many as the config says.
    Raises:
      UserError: the folder holds no checkpoint of this config, or a list is not there.
    """
    check_options(config.eval)
    lists = open_lists(config.data)
    saved, _ = workdirs.load(workdir)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        # What the weight file decided when the run began.
        for section, before in zip(trunks(config), trunks(saved), strict=False):
            section.weights = before.weights
            if section.preprocessing == "auto":
                section.preprocessing, section.trunk = before.preprocessing, before.trunk
    workdirs.claim(workdir, config, lists.class_names)
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
    figures = evaluate_run(run.config, workdir, run.method, run.variables, run.lists, run.mesh)
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
    config, _ = workdirs.load(workdir)
    with config.unlocked():
        config.eval.checkpoint = checkpoint or config.eval.checkpoint
        config.data.test = tests or config.data.test
        if threshold is not None:
            config.eval.threshold = threshold
    if not workdirs.has_checkpoint(workdir):
        raise UserError(f"--workdir={workdir} holds no checkpoint: train there first.")
    run = open_run(config, workdir, devices=0)
    for name in run.lists.tests if store else ():
        check_free(store / name)  # before an hour of scoring, not after
    parts = (run.config, run.method, run.variables)
    tune = None
    if run.lists.tune is not None and config.eval.threshold < 0:
        what = f"threshold from {run.lists.tune.name}"
        tune = score_list(*parts, run.lists.tune, run.mesh, every_contour=False, what=what)
    chosen, reason = choose_threshold(config, tune)
    if threshold is not None:
        reason = "--threshold"
    scored = {}
    for name, source in run.lists.tests.items():
        kept = MapStore(store / name, source, dtype) if store is not None else None
        keep = kept.keep if kept else None
        what = f"evaluate {name}"
        scored[name] = score_list(*parts, source, run.mesh, threshold=chosen, keep=keep, what=what)
        if kept:
            kept.finish()
    return scored, (chosen, reason), run.step
