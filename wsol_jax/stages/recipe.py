"""A run in stages: trainings one after the other, each with a folder of its own, and their scoring.

A stage is the run's config with what ``config.stage.NAME`` sets otherwise, and the networks of the
earlier stages that it ``reads``. It leaves its product, checkpoints, in WORKDIR/NAME. One that is
done is left alone, a killed one goes on where it was, and one whose inputs have changed since says
so. Two stages train nothing: "cues" leaves what the networks before it are sure of in WORKDIR/cues
(``stages.label``), for trainings with ``data.cues``; "evaluate" scores the last network and
writes WORKDIR/metrics.json and report.html.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
from absl import logging

from wsol_jax import methods
from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_whole
from wsol_jax.base.signals import StopRequest
from wsol_jax.data.lists import Lists, open_lists
from wsol_jax.data.pipeline import check_crop
from wsol_jax.evaluate import kinds
from wsol_jax.methods import Variables
from wsol_jax.runs import workdirs
from wsol_jax.runs.history import curves
from wsol_jax.runs.opened import OpenedRun, begun_config, open_run
from wsol_jax.runs.plan import Plan, without_weights
from wsol_jax.runs.state import fingerprint
from wsol_jax.stages import label as cueing
from wsol_jax.stages.evaluate import finish_run, score_run
from wsol_jax.stages.train import train_run

CUES, EVALUATE = "cues", "evaluate"
_INPUTS = "inputs.json"
_CUE_FIGURES = ("images", "size", "foreground", "background", "unlabelled", "by_class")


def run(config: Any, workdir: str | pathlib.Path, only: Sequence[str] = ()) -> dict[str, Any]:
    """Runs a config's stages, or goes on with them.

    Args:
      config: with ``stages``, from ``configs/*.py``.
      workdir: holds a folder a stage, and what the stage "evaluate" makes.
      only: the stages to run; those that they read must be done. None named: all.

    Returns:
      The content of metrics.json; {} where "evaluate" is not run.

    Raises:
      UserError: an unknown stage, one whose inputs are not there or have changed, and what
        ``train.train_and_evaluate`` raises.
      Interrupted: SIGTERM or SIGINT, after a whole save.
    """
    workdir = pathlib.Path(workdir)
    wanted = tuple(only) or tuple(config.stages)
    for name in config.stages:
        if name not in (CUES, EVALUATE) and name not in config.stage:
            raise UserError(
                f"stages: {name!r} has no section stage.{name}; to run a part: --stages="
            )
    if set(config.stages) <= {CUES, EVALUATE}:
        raise UserError("stages: nothing is trained; to run a part: --stages=")
    for name in wanted:
        if name not in config.stages:
            known = ", ".join(config.stages)
            raise UserError(f"--stages: {name!r} is not one of this config's: {known}.")
    lists = open_lists(config.data)
    kinds.check_options(config, lists.class_names)
    recipe = _Recipe(config, workdir, lists)
    recipe.claim()
    for name in config.stages:
        if name in wanted and name == CUES:
            recipe.make_cues()
        elif name in wanted and name != EVALUATE:
            recipe.train(name)
    return recipe.evaluate() if EVALUATE in wanted else {}


def stage_config(config: Any, name: str) -> ml_collections.ConfigDict:
    """The config that one stage runs by: the run's, with what ``stage.NAME`` sets otherwise."""
    config = config.copy_and_resolve_references()
    own = config.stage[name]
    with config.unlocked():
        _overlay(config, own)
        config.stages = ()
        config.stage = ml_collections.ConfigDict()
    return config


def _overlay(config: ml_collections.ConfigDict, own: ml_collections.ConfigDict) -> None:
    for name, value in own.items():
        if isinstance(value, ml_collections.ConfigDict):
            if name not in config:  # a section of this stage alone
                config[name] = ml_collections.ConfigDict()
            _overlay(config[name], value)
        elif value is not None:
            config[name] = value


def own_network(variables: Variables, reads: Sequence[str]) -> dict[str, Any]:
    """A stage's own network: its variables without the earlier networks that it reads."""
    return {name: tree for name, tree in variables.items() if name not in reads}


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """The stages of one run.

    ``opened``: the networks at hand, by stage and checkpoint choice; ``checked``: hashes of
    products that were found to be what this config makes.
    """

    config: Any
    workdir: pathlib.Path
    lists: Lists
    opened: dict[tuple[str, str], OpenedRun] = dataclasses.field(default_factory=dict)
    checked: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def trainings(self) -> list[str]:
        return [name for name in self.config.stages if name not in (CUES, EVALUATE)]

    def claim(self) -> None:
        """Checks every stage, and those that have begun, before anything is written."""
        names = self.lists.class_names
        if CUES in self.config.stages:
            self._check_cue_options()
        for name in self.trainings:
            config = without_weights(self._config(name))
            check_crop(config.data)
            methods.build(config, len(names))  # not after the hours of the stages before it
            self._plan(config)
            if workdirs.has_checkpoint(self.workdir / name):
                begun_config(self._config(name), self.workdir / name, names)
        if workdirs.has_checkpoint(self.workdir):
            raise UserError(f"--workdir={self.workdir} holds a run of one stage: take another.")
        workdirs.write(self.workdir, self.config, names)

    def train(self, name: str) -> None:
        """Trains a stage, or goes on to its last step."""
        start = time.monotonic()
        folder, config = self.workdir / name, self._config(name)
        self._check_inputs(name)
        before = workdirs.latest_step(folder)
        logging.info("stage %s: %s", name, folder)
        networks = {read: self._network(read, name) for read in config.reads}
        if before is None and jax.process_index() == 0:
            found = {read: fingerprint(network) for read, network in networks.items()}
            found |= self._cue_inputs(config)
            write_whole(folder / _INPUTS, json.dumps(found, indent=1))
        run = train_run(config, folder, self.lists, networks, self.workdir / CUES)
        self.opened[name, config.eval.checkpoint] = run
        if before == run.step:
            logging.info("stage %s was done: step %d", name, run.step)
        if jax.process_index() == 0 and (before != run.step or not _read(folder)):
            seconds = time.monotonic() - start  # of this process: a run gone on with took longer
            figures = {"steps": run.step, "train_seconds": seconds, **_last(folder)}
            write_whole(folder / "metrics.json", json.dumps(figures, indent=1))

    def make_cues(self) -> None:
        """Writes the cues that are missing, of the networks that ``config.cues`` names."""
        start = time.monotonic()
        options, folder = self.config.cues, self.workdir / CUES
        for name in {options.maps, options.saliency}:
            self._check_inputs(name)
        logging.info("stage %s: %s", CUES, folder)
        done = cueing.read_summary(folder) is not None
        maps, saliency = self._open(options.maps), self._open(options.saliency)
        train = self.lists.train
        inputs = cueing.hashes(options, maps, saliency, train)
        with StopRequest(saved_step=maps.step):  # what is written is whole
            found = cueing.make_cues(maps, saliency, options, train, folder, inputs)
        self.checked[CUES] = found["sha256"]
        if done:
            logging.info("stage %s was done: %d images", CUES, found["images"])
        if jax.process_index() == 0 and not (done and _read(folder)):
            figures = {name: found[name] for name in _CUE_FIGURES}
            figures["seconds"] = time.monotonic() - start
            write_whole(folder / "metrics.json", json.dumps(figures, indent=1))

    def evaluate(self) -> dict[str, Any]:
        """Scores the last network with all that it was put together from; every stage's figures."""
        start = time.monotonic()
        last = self.trainings[-1]
        for name in self.trainings:
            self._check_inputs(name)
        run = self._open(last)
        with StopRequest(saved_step=run.step):
            cues = self.config.cues if CUES in self.config.stages else None
            before = self._open(cues.maps) if cues else None
            figures = score_run(run, self.workdir, before)
            figures["steps"] = run.step
            seconds = time.monotonic() - start
            done = [name for name in self.config.stages if name != EVALUATE]
            figures["stages"] = {name: _read(self.workdir / name) for name in done}
            figures["stages"][EVALUATE] = {"seconds": seconds}
            spent = figures["stages"].values()
            figures["train_seconds"] = sum(stage.get("train_seconds", 0.0) for stage in spent)
            figures["seconds"] = figures["train_seconds"]
            figures["seconds"] += sum(stage.get("seconds", 0.0) for stage in spent)
            finish_run(run.config, self.workdir, figures, self.trainings)
        return figures

    def _check_cue_options(self) -> None:
        """The section ``cues``, and that the networks it names can give what it wants."""
        options = self.config.cues
        cueing.check_options(options, len(self.lists.class_names))
        for name, source in self.lists.tests.items():
            if all(source.mask(index) is None for index in range(len(source))):
                logging.warning("list %s has no masks: no segmentation is scored on it", name)
        before = self.config.stages[: self.config.stages.index(CUES)]
        for field in ("maps", "saliency"):
            if options[field] not in before:
                raise UserError(
                    f"cues.{field}: {options[field]!r} is no training before the stage {CUES!r}."
                )
        config = without_weights(self._config(options.saliency))
        cueing.check_layer(config, options.layer, len(self.lists.class_names))

    def _cue_inputs(self, config: Any) -> dict[str, str]:
        """{"cues": hash} for a stage that trains on cues, which must be there."""
        if not config.data.cues:
            return {}
        if CUES not in self.checked:
            options, train = self.config.cues, self.lists.train
            networks = self._open(options.maps), self._open(options.saliency)
            inputs = cueing.hashes(options, *networks, train)
            found = cueing.check_cues(self.workdir / CUES, options, train, inputs)
            self.checked[CUES] = found["sha256"]
        return {CUES: self.checked[CUES]}

    def _config(self, name: str) -> ml_collections.ConfigDict:
        return stage_config(self.config, name)

    def _open(self, name: str, choice: str = "") -> OpenedRun:
        """A finished stage's network; ``choice``: of its checkpoints, "" is eval.checkpoint."""
        config = self._config(name)
        choice = choice or config.eval.checkpoint
        if (name, choice) not in self.opened:
            folder, run = self.workdir / name, None
            with config.unlocked():
                config.eval.checkpoint = choice
            if workdirs.has_checkpoint(folder):
                run = open_run(config, folder, lists=self.lists)
            steps = self._plan(config).num_steps
            done = workdirs.latest_step(folder)
            if run is None or done != steps:
                raise UserError(
                    f"stage {name!r} is not done (step {done} of {steps} in {folder}): run it "
                    f"first, --stages={name}"
                )
            self.opened[name, choice] = run
        return self.opened[name, choice]

    def _plan(self, config: Any) -> Plan:
        mesh = sharding.data_mesh(config.train.devices)
        return Plan.of(config.train, len(self.lists.train), mesh)

    def _network(self, name: str, reader: str) -> Variables:
        """What a finished stage trained, at the checkpoint that another stage builds on."""
        config, folder = self._config(reader), self.workdir / reader
        if workdirs.has_checkpoint(folder):  # eval.checkpoint may have changed since it began
            config, _ = workdirs.load(folder)
        run = self._open(name, config.eval.checkpoint)
        return own_network(run.variables, self._config(name).reads)

    def _check_inputs(self, name: str) -> None:
        """Raises UserError where a stage has begun with networks that are others now."""
        folder, config = self.workdir / name, self._config(name)
        reads, cues = config.reads, self._cue_inputs(config)
        if not (reads or cues) or not workdirs.has_checkpoint(folder):
            return
        try:
            recorded = json.loads((folder / _INPUTS).read_text())
            recorded = {read: recorded[read] for read in (*reads, *cues)}
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{folder / _INPUTS} is missing or damaged, so nobody knows what stage {name!r} "
                f"was trained on: remove {folder} and run it again."
            ) from None
        if any(recorded[read] != digest for read, digest in cues.items()):
            raise UserError(
                f"stage {name!r} was trained with other cues than {self.workdir / CUES} holds "
                f"now: remove {folder} to train it again, or put those cues back."
            )
        for read in reads:
            if recorded[read] != fingerprint(self._network(read, name)):
                raise UserError(
                    f"stage {name!r} was trained with another network of stage {read!r} than "
                    f"{self.workdir / read} holds now: remove {folder} to train it again, or put "
                    f"that network back."
                )


def _last(folder: pathlib.Path) -> dict[str, float]:
    """The last value of each of a stage's curves."""
    found = curves(folder)
    return {name: points[-1][1] for name, points in found.items() if "/" in name}


def _read(folder: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "metrics.json").read_text())
    except (OSError, ValueError):
        return {}  # killed between its last step and this file; the figures of the run stand


def train_and_evaluate(config: Any, workdir: str | pathlib.Path) -> dict[str, Any]:
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
    lists = open_lists(config.data)
    kinds.check_options(config, lists.class_names)
    run = train_run(config, workdir, lists)
    trained = time.monotonic()
    with StopRequest(saved_step=run.step):
        figures = score_run(run, workdir)
        figures["steps"] = run.step
        figures["train_seconds"] = trained - start
        figures["seconds"] = time.monotonic() - start
        finish_run(run.config, workdir, figures)
    return figures
