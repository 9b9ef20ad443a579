"""A run in stages: trainings and label stages one after the other, and their scoring.

A stage is the run's config with what ``config.stage.NAME`` sets otherwise. A training leaves
checkpoints in WORKDIR/NAME; it may build on the networks of the earlier stages that it ``reads``,
and train on the ``labels`` of others. A stage with a ``labeller`` trains nothing and leaves
pseudo-labels there (``stages.label``), made of any stages before it. "evaluate" scores the last
network and writes WORKDIR/metrics.json and report.html. A stage that is done is left alone, a
killed one goes on where it was, and one whose inputs have changed since says so.
"""

import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
from absl import logging

from wsol_jax.base import fields, sharding
from wsol_jax.base.signals import StopRequest
from wsol_jax.base.types import Config, Json
from wsol_jax.data.lists import open_lists
from wsol_jax.data.pseudo_labels import read_summary
from wsol_jax.data.remembered import check_lists, check_photos, warn_of_lists
from wsol_jax.data.summary import say_lists
from wsol_jax.evaluate.label_scores import score_labels
from wsol_jax.evaluate.run import evaluate_run
from wsol_jax.runs import lock, mirror, workdirs
from wsol_jax.runs.data_choices import choose
from wsol_jax.runs.state import fingerprint
from wsol_jax.stages import checks, label, product, settled
from wsol_jax.stages.evaluate import finish_run, score_run
from wsol_jax.stages.made import Made
from wsol_jax.stages.sections import (
    EVALUATE,
    check_names,
    is_label_stage,
    label_stages,
    networks_of,
    only_module,
    stage_config,
    start_of,
    trainings,
)
from wsol_jax.stages.train import train_run


def run(config: Config, workdir: str | pathlib.Path, only: Sequence[str] = ()) -> dict[str, Json]:
    """Runs a config's stages, or goes on with them.

    Args:
      config: with ``stages``, from ``configs/*.py``.
      workdir: holds a folder a stage, and what the stage "evaluate" makes.
      only: the stages to run; those that they read must be done. None named: all.

    Returns:
      The content of metrics.json; {} where "evaluate" is not run.

    Raises:
      UserError: an unknown stage, one whose inputs are not there or have changed, and what
        ``train_and_evaluate`` raises.
      Interrupted: SIGTERM or SIGINT, after a whole save.
    """
    workdir = pathlib.Path(workdir)
    fields.check(config)
    wanted = tuple(only) or tuple(config.stages)
    check_names(config, wanted)
    settled.check_rules(config)
    config = choose(config, workdir)
    lists = open_lists(config.data)
    say_lists(lists)
    checks.check_folders(config, workdir, lists)  # first, as it is told at once
    checks.check_evaluation(config, lists)
    labellers = checks.open_labellers(config, lists)
    for name in trainings(config):  # not after the hours of the stages before it
        checks.check_training(config, name, workdir, lists, labellers)
    checks.check_weights(config, wanted)
    made = Made(config, workdir, lists, labellers)
    if wanted == (EVALUATE,):  # it needs no lock, and so writes no config
        warn_of_lists(workdir, lists)
        return _run_stages(made, wanted)
    workdirs.check_ours(workdir)
    with lock.held(workdir):
        checks.check_folders(config, workdir, lists)  # another run may have ended just now
        workdirs.write(workdir, config, lists.class_names)
        begun = any(product.has_begun(workdir / name) for name in config.stages)
        check_photos(workdir, lists.train, begun)
        check_lists(workdir, lists, begun)
        return _run_stages(made, wanted)


def _run_stages(made: "Made", wanted: Sequence[str]) -> dict[str, Json]:
    config = made.config
    kept = []  # but for the rounds that earlier labels make needless
    for name in config.stages:
        if name == EVALUATE or settled.is_left_out(config, name, made.folders):
            continue
        kept.append(name)
        if name in wanted:
            (_label if is_label_stage(config, name) else _train)(made, name)
    return _evaluate(made, kept) if EVALUATE in wanted else {}


def _train(made: Made, name: str) -> None:
    """Trains a stage, or goes on to its last step."""
    start = time.monotonic()
    folder, config = made.workdir / name, stage_config(made.config, name)
    made.check_inputs(name)
    before = workdirs.latest_step(folder)
    logging.info("stage %s: %s", name, folder)
    networks = {read: made.network(read, name) for read in networks_of(config)}
    if before is None and jax.process_index() == 0:
        found = {read: fingerprint(network) for read, network in networks.items()}
        product.write_inputs(folder, found | made.label_hashes(name))
    stage, module = start_of(config)
    begins = only_module(networks[stage], module) if stage else None
    networks = {read: networks[read] for read in config.reads}
    run = train_run(config, folder, made.lists, networks, made.folders, begins)
    made.opened[name, config.eval.checkpoint] = run
    if before == run.step:
        logging.info("stage %s was done: step %d", name, run.step)
    if jax.process_index() == 0 and (before != run.step or not product.read_figures(folder)):
        seconds = time.monotonic() - start  # of this process: a run gone on with took longer
        figures = {"steps": run.step, "train_seconds": seconds, **product.last_values(folder)}
        product.write_figures(folder, figures)
    mirror.commit(made.workdir)


def _label(made: Made, name: str) -> None:
    """Writes the labels of a stage that are missing."""
    start = time.monotonic()
    folder = made.workdir / name
    reads = made.labellers[name].reads.values()
    for read in dict.fromkeys(reads):
        if read not in made.labellers:
            made.check_inputs(read)
    logging.info("stage %s: %s", name, folder)
    done = read_summary(folder) is not None
    stage = made.label_stage(name)
    with StopRequest(at_once=True):  # what is written is whole
        found = label.make_labels(stage, stage.inputs())
    made.checked[name] = found["sha256"]
    for opened in [key for key in made.opened if key[0] in reads]:
        del made.opened[opened]  # round after round they would fill a device; open() finds them
    if done:
        logging.info("stage %s was done: %d images", name, found["images"])
    if jax.process_index() == 0 and not (done and product.read_figures(folder)):
        figures = label.figures_of(found)
        if before := made.config.stage[name].get("before"):
            places = made.folders[name], made.folders[before]
            figures[settled.CHANGED] = settled.changed_share(*places, made.lists.train)
        product.write_figures(folder, {**figures, "seconds": time.monotonic() - start})
    sharding.barrier("label figures written")  # later stages ask for what changed
    mirror.commit(made.workdir)


def _evaluate(made: Made, done: Sequence[str]) -> dict[str, Any]:
    """Scores the last network with all that it was put together from; every stage's figures.

    ``done``: the stages that this run has, in order.
    """
    start = time.monotonic()
    config, workdir = made.config, made.workdir
    names = [name for name in trainings(config) if name in done]
    for name in names:
        made.check_inputs(name)
    run = made.open(names[-1])
    folders = {name: made.folders[name] for name in done if name in made.labellers}
    with StopRequest(saved_step=run.step):
        figures = score_run(run, workdir, made.seeds(names[-1]), folders)
        figures["steps"] = run.step
        stages = {name: product.read_figures(workdir / name) for name in done}
        for name in config.eval.stages:
            if name not in names[:-1]:  # of a round that was left out, or the last one now
                continue
            stages[name] |= evaluate_run(made.open(name), workdir / name, made.seeds(name)).figures
            if jax.process_index() == 0:  # so that the stage's folder can be compared with others
                product.write_figures(workdir / name, stages[name])
        if config.eval.labels:
            for name in label_stages(config):
                if name not in done:
                    continue
                stages[name]["labels"] = _score_labels(made, name)
        stages[EVALUATE] = {"seconds": time.monotonic() - start}
        figures["stages"] = stages
        figures["train_seconds"] = sum(x.get("train_seconds", 0.0) for x in stages.values())
        figures["seconds"] = figures["train_seconds"]
        figures["seconds"] += sum(stage.get("seconds", 0.0) for stage in stages.values())
        shown = run.config.copy_and_resolve_references()
        with shown.unlocked():
            shown.method = config.method  # the run's, of which the last network is a part
        finish_run(shown, workdir, figures, names)
    return figures


def _score_labels(made: Made, name: str) -> dict[str, Json]:
    """Figures of what a label stage wrote; the truth goes no further than this."""
    made.labels_hash(name)
    means = tuple(made.config.eval.get("mean_classes", ()))
    return score_labels(made.folders[name], made.lists.train, means)


def train_and_evaluate(config: Config, workdir: str | pathlib.Path) -> dict[str, Json]:
    """Trains to the config's last step, or goes on to it, and scores the test lists.

    Args:
      config: from ``configs/*.py``.
      workdir: holds checkpoints/, config.json, history.jsonl, tensorboard/, metrics.json and
        report.html; a run found in it goes on where it was.

    Returns:
      The content of metrics.json.

    Raises:
      UserError: bad config, data, weights or workdir; NaN losses; a save that failed.
      Interrupted: SIGTERM or SIGINT, after a whole save.
    """
    start = time.monotonic()
    workdir = pathlib.Path(workdir)
    fields.check(config)
    config = choose(config, workdir)
    lists = open_lists(config.data)
    say_lists(lists)
    checks.check_evaluation(config, lists)
    checks.check_single(config, lists)
    workdirs.check_ours(workdir)
    with lock.held(workdir):
        begun = workdirs.has_checkpoint(workdir)
        check_photos(workdir, lists.train, begun)
        check_lists(workdir, lists, begun)
        run = train_run(config, workdir, lists)
        trained = time.monotonic()
        with StopRequest(saved_step=run.step):
            figures = score_run(run, workdir)
            figures["steps"] = run.step
            figures["train_seconds"] = trained - start
            figures["seconds"] = time.monotonic() - start
            finish_run(run.config, workdir, figures)
    return figures
