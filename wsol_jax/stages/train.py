"""The one training loop. It knows no method, no device and no data set by name."""

import contextlib
import dataclasses
import math
import pathlib
import signal
import time
import types
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import optax
from absl import logging

from wsol_jax import methods
from wsol_jax.base import sharding
from wsol_jax.base.errors import LOWER_RATE, Interrupted, UserError
from wsol_jax.base.progress import Progress, compiling
from wsol_jax.base.signals import StopRequest
from wsol_jax.base.types import Config, Json
from wsol_jax.data import orders, pipeline, prefetch
from wsol_jax.data.lists import Lists
from wsol_jax.data.pseudo_labels import BatchLabels, LabelFolder
from wsol_jax.evaluate import kinds, score
from wsol_jax.evaluate.figures import best_value
from wsol_jax.methods import Method, Variables
from wsol_jax.runs import mirror, workdirs
from wsol_jax.runs.checkpoint import Checkpoints
from wsol_jax.runs.history import MetricWriter
from wsol_jax.runs.opened import Network, OpenedRun
from wsol_jax.runs.plan import Plan, create_state, lower_step, resolve
from wsol_jax.runs.state import TrainState
from wsol_jax.stages.wanted import batch_labels

_FEW_STEPS = 50  # of a training; fewer are hardly a network's first look at the photos


def train_run(
    config: Config,
    workdir: pathlib.Path,
    lists: Lists,
    networks: Mapping[str, Variables] = types.MappingProxyType({}),
    folders: Mapping[str, LabelFolder] = types.MappingProxyType({}),
    start: Variables | None = None,
) -> OpenedRun:
    """Trains to the config's last step, or goes on to it.

    Args:
      networks: what earlier stages made, by stage; ``config.reads`` names those that are needed.
      folders: the labels of earlier stages, by stage; ``config.labels`` names those that are used.
      start: what the stage ``config.start`` made, where the training goes on from it.

    Returns:
      The run with the variables that ``eval.checkpoint`` chooses; ``step`` is the last one.

    Raises:
      UserError, Interrupted: as ``train_and_evaluate``.
    """
    mesh = sharding.data_mesh(config.train.devices)
    config = resolve(config)
    method = methods.build(config, len(lists.class_names))
    labels = batch_labels(config, method, folders)
    plan = Plan.of(config.train, len(lists.train), mesh)
    workdirs.claim(workdir, config, lists.class_names)
    if plan.num_steps < _FEW_STEPS and not workdirs.has_checkpoint(workdir):
        logging.warning(
            "%d photos in batches of %d for %g epochs are %d steps in all, too few to learn much "
            "in: epochs= after the data set sets more.",
            *(len(lists.train), plan.batch_size, config.train.epochs, plan.num_steps),
        )
    with contextlib.closing(Checkpoints(workdir, config)) as checkpoints:
        state, step, schedule = create_state(config, method, plan, mesh, networks, start)
        loop = _Loop(
            config, workdir, method, lists, plan, mesh, checkpoints, labels, schedule, state
        )
        state = loop.run(step)
        chosen = checkpoints.choose(config.eval.checkpoint)
        if chosen != plan.num_steps:
            state, _ = checkpoints.restore(chosen, state)
    mirror.commit(workdir)
    return OpenedRun(config, method, state.variables, mesh, lists, plan.num_steps)


@dataclasses.dataclass
class _Loop:
    """A training from the newest checkpoint, if any, to ``plan.num_steps``.

    Attributes:
      labels: pseudo-labels in its batches, by name.
      schedule: step -> learning-rate factor.
      state: where the training stands, after ``step`` steps.
      logged: the step of the last row in the log, at the time ``last_log``.
    """

    config: Config
    workdir: pathlib.Path
    method: Method
    lists: Lists
    plan: Plan
    mesh: jax.sharding.Mesh
    checkpoints: Checkpoints
    labels: Mapping[str, BatchLabels]
    schedule: optax.Schedule
    state: TrainState
    step: int = 0
    logged: int = 0
    last_log: float = 0.0
    writer: MetricWriter | None = None  # of one process alone

    def __post_init__(self) -> None:
        self.position = {
            "list": self.lists.train.name,
            "records": self.plan.num_records,
            "batch_size": self.plan.batch_size,
        }
        self.is_finite = jax.jit(
            lambda tree: jnp.stack([jnp.isfinite(x).all() for x in tree]).all()
        )

    def run(self, step_function: Callable) -> TrainState:
        """The state after the last step; ``step_function``: from ``create_state``."""
        plan, checkpoints = self.plan, self.checkpoints
        source, data = self.lists.train, self.config.data
        order = orders.training_order(data, source, plan.batch_size, self.config.seed)
        first_step = self._restore()
        with contextlib.ExitStack() as stack:
            if jax.process_index() == 0:
                self.writer = MetricWriter(self.workdir, first_step)
                stack.enter_context(contextlib.closing(self.writer))
            self.stop = stack.enter_context(StopRequest())
            late = first_step and self._is_evaluated(first_step)
            if late and not checkpoints.is_measured(first_step):
                best = self._evaluate_tune()  # a signal came before or during it
                self._stop_if(self._stop_asked())
                checkpoints.measure(first_step, best)
            if first_step >= plan.num_steps:
                return self.state
            num_classes = len(self.lists.class_names)
            shapes = (plan, self.config, num_classes, self.mesh, self.method.wants)
            with compiling("train"):
                compiled = lower_step(step_function, self.state, *shapes).compile()
            self.batches = self._batches(order, first_step)
            stack.enter_context(contextlib.closing(self.batches))
            self.bar = stack.enter_context(Progress("train", plan.num_steps, first_step))
            self.logged = first_step
            for batch in self._until_stopped():
                self.state, metrics = compiled(self.state, batch)
                self.step += 1
                self._after_step(metrics)
            self._check_ended()
            checkpoints.wait()
        return self.state

    def _restore(self) -> int:
        """Goes back to the newest checkpoint; its step, 0 where there is none."""
        self.step = self.checkpoints.latest_step() or 0
        if self.step:
            self.state, saved = self.checkpoints.restore(self.step, self.state)
            _check_position(saved, self.position)
            logging.info("goes on at step %d of %d", self.step, self.plan.num_steps)
        self.last_log = time.perf_counter()
        return self.step

    def _batches(self, order: orders.Order, first_step: int) -> prefetch.DevicePrefetch:
        """Device batches from ``first_step`` on, checked for unreadable images."""
        plan, data, source = self.plan, self.config.data, self.lists.train
        rows = pipeline.BatchRows(
            order=order,
            batch_size=plan.batch_size,
            padded_size=plan.padded_size,
            num_steps=plan.num_steps,
            first_step=first_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        example = pipeline.TrainExample(
            source=source,
            num_classes=len(self.lists.class_names),
            crop=data.crop,
            resize=data.resize,
            resize_mode=data.resize_mode,
            flip=data.flip,
            seed=self.config.seed,
            labels=self.labels,
        )
        pipeline.check_readable(source, data.max_corrupt)
        corrupt = pipeline.CorruptCounter(source, data.max_corrupt)

        def put(batch):
            corrupt.check(batch)
            corrupt.check_some()
            return sharding.to_devices(batch, self.mesh)

        batches = pipeline.train_batches(rows, example, workers=data.workers, threads=data.threads)
        return prefetch.DevicePrefetch(batches, put)

    def _until_stopped(self) -> Iterator[dict[str, jax.Array]]:
        try:
            yield from self.batches
        except Exception:
            # Ctrl-C and Slurm signal the whole group of processes: the readers may die of it.
            if self.stop.signum is None:
                raise

    def _after_step(self, metrics: Mapping[str, jax.Array]) -> None:
        """Logs, evaluates, saves and stops, each where it is due."""
        options, step = self.config.train, self.step
        evaluates, last = self._is_evaluated(step), step == self.plan.num_steps
        saves = evaluates or last or step % options.checkpoint_steps == 0
        logs = saves or step % options.log_every == 0
        signum = self._stop_asked()
        if logs or signum:  # the only place where the host waits for the device
            values = {name: float(value) for name, value in metrics.items()}
            self._check_finite(values)
            if logs:
                self._report(values)
        self.bar.update(1)
        best = None
        if evaluates and not signum:
            best = self._evaluate_tune()
            signum = self._stop_asked()
        if saves or signum:
            self._save(best)
        self._stop_if(signum)
        mirror.tick(self.workdir, self.checkpoints.is_saving)

    def _check_finite(self, values: Mapping[str, float]) -> None:
        """Stops at the first number that is none; nothing after it is saved."""
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        values = {**values, "a parameter": math.nan}
        if not bad and not self.is_finite(jax.tree.leaves(self.state.variables)):
            bad = ["a parameter"]
        if bad:
            good = self.checkpoints.latest_step()
            kept = f"the checkpoint of step {good} is kept" if good else "nothing was saved yet"
            raise UserError(
                f"{bad[0]} is {values[bad[0]]} at step {self.step}; {kept}. {LOWER_RATE}"
            )

    def _report(self, values: dict[str, float]) -> None:
        """Logs a step's metrics."""
        now = time.perf_counter()
        seconds, self.last_log = now - self.last_log, now
        steps_since, self.logged = self.step - self.logged, self.step
        factor = float(self.schedule(self.step - 1))
        values["learning_rate"] = factor * self.config.optimizer.head_lr
        values["steps_per_second"] = steps_since / seconds
        values["input_wait_share"] = min(self.batches.take_waited() / seconds, 1.0)
        if self.writer:
            rows = {f"train/{name}": value for name, value in values.items()}
            self.writer.write_scalars(self.step, rows)
        self.bar.update(0, loss=values["loss"], wait=values["input_wait_share"])

    def _is_evaluated(self, step: int) -> bool:
        plan = self.plan
        due = plan.eval_steps and (step % plan.eval_steps == 0 or step == plan.num_steps)
        return bool(due) and self.lists.tune is not None

    def _evaluate_tune(self) -> float | None:
        """The tune metric that decides which checkpoint is best; None if a signal cut it short."""
        begun = time.perf_counter()
        network = Network(self.config, self.method, self.state.variables, self.mesh)
        kind = kinds.of(network)
        scores = score.watch(network, self.lists.tune, kind, lambda: self.stop.signum)
        self.last_log += time.perf_counter() - begun  # evaluation is no training time
        if scores is None:
            return None
        if self.writer:
            rows = {f"tune/{name}": value for name, value in scores.items()}
            self.writer.write_scalars(self.step, rows)
        return best_value(scores, self.config.eval.best_metric)

    def _stop_asked(self) -> int | None:
        if jax.process_count() > 1:
            return signal.SIGTERM if self.checkpoints.reached_preemption(self.step) else None
        return self.stop.signum

    def _stop_if(self, signum: int | None) -> None:
        if signum:
            self.checkpoints.wait()
            raise Interrupted(signum, self.step)

    def _save(self, best: float | None) -> None:
        place = {"step": self.step, **self.position}
        self.checkpoints.save(self.step, self.state, place, best)
        if self.writer:
            self.writer.flush()

    def _check_ended(self) -> None:
        """Saves, and says that it was stopped, where the readers were before the last step."""
        if self.step < self.plan.num_steps:
            if self.checkpoints.latest_step() != self.step:
                self._save(None)
            self._stop_if(self.stop.signum)


def _check_position(saved: Json, now: Json) -> None:
    for name, value in now.items():
        if saved.get(name) != value:
            raise UserError(
                f"the run was trained with {name}={saved.get(name)!r} and the data now has "
                f"{value!r}: it cannot go on where it was."
            )
