"""The one training loop. It knows no method, no device and no data set by name."""

import contextlib
import math
import pathlib
import signal
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from wsol_jax import methods
from wsol_jax.base import sharding
from wsol_jax.base.errors import Interrupted, UserError
from wsol_jax.base.progress import Progress
from wsol_jax.base.signals import StopRequest
from wsol_jax.data import orders, pipeline
from wsol_jax.data.lists import Lists
from wsol_jax.data.records import Source
from wsol_jax.evaluate import kinds, score
from wsol_jax.evaluate.figures import best_value
from wsol_jax.methods import Method, Variables
from wsol_jax.runs import workdirs
from wsol_jax.runs.checkpoint import Checkpoints
from wsol_jax.runs.history import MetricWriter
from wsol_jax.runs.opened import Network, OpenedRun
from wsol_jax.runs.plan import Plan, compile_step, create_state, resolve
from wsol_jax.runs.state import TrainState


def train_run(
    config: Any,
    workdir: pathlib.Path,
    lists: Lists,
    networks: Mapping[str, Variables] = types.MappingProxyType({}),
    cues: pathlib.Path | None = None,
) -> OpenedRun:
    """Trains to the config's last step, or goes on to it.

    Args:
      networks: what earlier stages made, by stage; ``config.reads`` names those that are needed.
      cues: the folder of them, for a config with ``data.cues``.

    Returns:
      The run with the variables that ``eval.checkpoint`` chooses; ``step`` is the last one.

    Raises:
      UserError, Interrupted: as ``train_and_evaluate``.
    """
    mesh = sharding.data_mesh(config.train.devices)
    config = resolve(config)
    method = methods.build(config, len(lists.class_names))
    plan = Plan.of(config.train, len(lists.train), mesh)
    workdirs.claim(workdir, config, lists.class_names)
    with contextlib.closing(Checkpoints(workdir, keep=config.train.keep)) as checkpoints:
        start = create_state(config, method, plan, mesh, networks)
        state = train(config, workdir, method, lists, plan, mesh, checkpoints, start, cues)
        chosen = checkpoints.choose(config.eval.checkpoint)
        if chosen != plan.num_steps:
            state, _ = checkpoints.restore(chosen, state)
    return OpenedRun(config, method, state.variables, mesh, lists, plan.num_steps)


def _batches(
    config: Any,
    source: Source,
    order: orders.Order,
    num_classes: int,
    plan: Plan,
    mesh: Any,
    first_step: int,
    cues: pathlib.Path | None,
):
    """Device batches from ``first_step`` on, checked for unreadable images."""
    rows = pipeline.BatchRows(
        order=order,
        batch_size=plan.batch_size,
        padded_size=plan.padded_size,
        num_steps=plan.num_steps,
        first_step=first_step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    data = config.data
    example = pipeline.TrainExample(
        source=source,
        num_classes=num_classes,
        crop=data.crop,
        resize=data.resize,
        resize_mode=data.resize_mode,
        flip=data.flip,
        seed=config.seed,
        cues=str(cues or ""),
        cue_size=data.cues,
    )
    corrupt = pipeline.CorruptCounter(source, data.max_corrupt)

    def put(batch):
        corrupt.check(batch)
        return sharding.to_devices(batch, mesh)

    batches = pipeline.train_batches(rows, example, workers=data.workers, threads=data.threads)
    return pipeline.DevicePrefetch(batches, put)


def train(
    config: Any,
    workdir: pathlib.Path,
    method: Method,
    lists: Lists,
    plan: Plan,
    mesh: Any,
    checkpoints: Checkpoints,
    start: tuple[TrainState, Callable, Callable[[Any], Any]],
    cues: pathlib.Path | None = None,
) -> TrainState:
    """The loop: from the newest checkpoint, if any, to ``plan.num_steps``.

    ``start``: from ``create_state``; ``cues``: as for ``train_run``.
    """
    num_classes = len(lists.class_names)
    order = orders.training_order(config.data, lists.train, plan.batch_size, config.seed)
    state, step_function, schedule = start
    position = dict(list=lists.train.name, records=plan.num_records, batch_size=plan.batch_size)
    step = first_step = checkpoints.latest_step() or 0
    if first_step:
        state, saved = checkpoints.restore(first_step, state)
        _check_position(saved, position)
        logging.info("goes on at step %d of %d", first_step, plan.num_steps)
    is_finite = jax.jit(lambda tree: jnp.stack([jnp.isfinite(x).all() for x in tree]).all())
    last_log = time.perf_counter()

    def check(values):
        """Stops at the first number that is none; nothing after it is saved."""
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        values = {**values, "a parameter": math.nan}
        if not bad and not is_finite(jax.tree.leaves(state.variables)):
            bad = ["a parameter"]
        if bad:
            good = checkpoints.latest_step()
            kept = f"the checkpoint of step {good} is kept" if good else "nothing was saved yet"
            raise UserError(
                f"{bad[0]} is {values[bad[0]]} at step {step}; {kept}. A lower learning rate "
                "(optimizer.backbone_lr, optimizer.head_lr) in a new workdir is the usual cure."
            )

    def report(values, steps_since):
        """Logs a step's metrics."""
        nonlocal last_log
        now = time.perf_counter()
        seconds, last_log = now - last_log, now
        values["learning_rate"] = float(schedule(step - 1)) * config.optimizer.head_lr
        values["steps_per_second"] = steps_since / seconds
        values["input_wait_share"] = min(batches.take_waited() / seconds, 1.0)
        if writer:
            writer.write_scalars(step, {f"train/{name}": v for name, v in values.items()})
        bar.update(0, loss=values["loss"], wait=values["input_wait_share"])

    def evaluate_tune():
        """The tune metric that decides which checkpoint is best; None if a signal cut it short."""
        nonlocal last_log
        begun = time.perf_counter()
        network = Network(config, method, state.variables, mesh)
        scores = score.watch(network, lists.tune, kinds.of(network), lambda: stop.signum)
        last_log += time.perf_counter() - begun  # evaluation is no training time
        if scores is None:
            return None
        if writer:
            writer.write_scalars(step, {f"tune/{name}": value for name, value in scores.items()})
        return best_value(scores, config.eval.best_metric)

    def stop_asked():
        if jax.process_count() > 1:
            return signal.SIGTERM if checkpoints.reached_preemption(step) else None
        return stop.signum

    def stop_if(signum):
        if signum:
            checkpoints.wait()
            raise Interrupted(signum, step)

    def save(best):
        checkpoints.save(step, state, {"step": step, **position}, best)
        if writer:
            writer.flush()

    def until_stopped(batches):
        try:
            yield from batches
        except Exception:
            # Ctrl-C and Slurm signal the whole group of processes: the readers may die of it.
            if stop.signum is None:
                raise

    def is_evaluated(step):
        due = plan.eval_steps and (step % plan.eval_steps == 0 or step == plan.num_steps)
        return bool(due) and lists.tune is not None

    with contextlib.ExitStack() as stack:
        leader = jax.process_index() == 0
        writer = MetricWriter(workdir, first_step) if leader else None
        if writer:
            stack.enter_context(contextlib.closing(writer))
        stop = stack.enter_context(StopRequest())
        if first_step and is_evaluated(first_step) and not checkpoints.is_measured(first_step):
            best = evaluate_tune()  # a signal came before or during it
            stop_if(stop_asked())
            checkpoints.measure(first_step, best)
        if first_step >= plan.num_steps:
            return state
        compiled = compile_step(step_function, state, plan, config, num_classes, mesh)
        run = (config, lists.train, order, num_classes, plan, mesh, first_step)
        batches = _batches(*run, cues)
        stack.enter_context(contextlib.closing(batches))
        bar = stack.enter_context(Progress("train", plan.num_steps, first_step))
        logged = first_step
        for batch in until_stopped(batches):
            state, metrics = compiled(state, batch)
            step += 1
            evaluates, last = is_evaluated(step), step == plan.num_steps
            saves = evaluates or last or step % config.train.checkpoint_steps == 0
            logs = saves or step % config.train.log_every == 0
            signum = stop_asked()
            if logs or signum:  # the only place where the host waits for the device
                values = {name: float(value) for name, value in metrics.items()}
                check(values)
                if logs:
                    report(values, step - logged)
                    logged = step
            bar.update(1)
            best = None
            if evaluates and not signum:
                best = evaluate_tune()
                signum = stop_asked()
            if saves or signum:
                save(best)
            stop_if(signum)
        if step < plan.num_steps:  # the readers were stopped
            if checkpoints.latest_step() != step:
                save(None)
            stop_if(stop.signum)
        checkpoints.wait()
    return state


def _check_position(saved: dict[str, Any], now: dict[str, Any]) -> None:
    for name, value in now.items():
        if saved.get(name) != value:
            raise UserError(
                f"the run was trained with {name}={saved.get(name)!r} and the data now has "
                f"{value!r}: it cannot go on where it was."
            )
