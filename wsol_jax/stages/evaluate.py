"""The stage that scores: metrics.json, scores/ and the page of a run."""

import pathlib
import time
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import logging

from wsol_jax.base import fields
from wsol_jax.base.errors import UserError
from wsol_jax.data.lists import open_lists
from wsol_jax.data.pseudo_labels import LabelFolder
from wsol_jax.data.remembered import warn_of_lists
from wsol_jax.evaluate import kinds
from wsol_jax.evaluate.run import evaluate_run
from wsol_jax.report import collect
from wsol_jax.runs import figures as stored_figures
from wsol_jax.runs import mirror
from wsol_jax.runs.data_choices import choose
from wsol_jax.runs.opened import OpenedRun, open_run


def score_run(
    run: OpenedRun,
    workdir: pathlib.Path,
    maps: OpenedRun | None = None,
    labels: Mapping[str, LabelFolder] = types.MappingProxyType({}),
) -> dict[str, Any]:
    """Scores a run on its lists, and stores what its page shows.

    Args:
      maps: of a segmenter: the run whose class maps its cues come from, for the baseline.
      labels: of a run in stages: the label stages' folders, for the page.

    Returns:
      metrics.json's content but for the run's times.
    """
    evaluated = evaluate_run(run, workdir, maps)
    if jax.process_index() == 0:
        collect.collect(run, workdir, evaluated, maps, labels)
        mirror.commit(workdir)
    return evaluated.figures


def finish_run(
    config: Any, workdir: pathlib.Path, figures: dict[str, Any], stages: Sequence[str] = ()
) -> None:
    """Writes metrics.json and the report, and prints the figures.

    ``stages``: whose folders hold the curves; none where the workdir itself does.
    """
    if jax.process_index() != 0:
        return
    stored_figures.write(workdir, figures)
    collect.write_page(config, workdir, figures, stages)


def evaluate_workdir(config: Any, workdir: pathlib.Path) -> dict[str, Any]:
    """``--mode=evaluate``: scores the checkpoint of a finished or unfinished run again.

    Raises:
      UserError: the folder holds no checkpoint of this config.
    """
    start = time.monotonic()
    fields.check(config)
    config = choose(config, workdir)
    lists = open_lists(config.data)
    warn_of_lists(workdir, lists)
    kinds.check_options(config, lists.class_names)
    run = open_run(config, workdir, lists=lists)
    figures = score_run(run, workdir)
    figures["steps"] = run.step
    if (spent := _train_seconds(workdir)) is not None:
        figures["train_seconds"] = spent
    seconds = time.monotonic() - start
    figures["seconds"] = figures.get("train_seconds", 0.0) + seconds  # as when it was trained
    finish_run(run.config, workdir, figures)
    return figures


def _train_seconds(workdir: pathlib.Path) -> float | None:
    """What the training took, as its metrics.json has it; a damaged one is about to be replaced."""
    try:
        return (stored_figures.read(workdir) or {}).get("train_seconds")
    except UserError as error:
        logging.warning("%s The training's time is not known any more.", error)
        return None
