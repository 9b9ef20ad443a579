"""The state that a run carries from step to step, and the step that changes it."""

import hashlib
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config, Groups, Tree
from wsol_jax.methods import Batch, Method

# What of a batch a method's loss may see, beside what it ``wants``.
BATCH = ("image", "labels", "valid")


@flax.struct.dataclass
class TrainState:
    """The state of a training: all that a checkpoint must hold to go on bit for bit.

    Attributes:
      step: () int32, steps done.
      params: trainable and frozen parameters, float32.
      collections: other variables, e.g. {"batch_stats": ...}.
      opt_state: of the optimizer.
      rng: the run's key; step k uses fold_in(rng, k).
    """

    step: jax.Array
    params: Tree
    collections: Tree
    opt_state: optax.OptState
    rng: jax.Array

    @property
    def variables(self) -> dict[str, Tree]:
        """As the method's functions take them."""
        return {"params": self.params, **self.collections}


def learning_rate(options: Config, num_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Makes the schedule: step -> factor in [0, 1] on every group's learning rate.

    Args:
      options: the config's ``optimizer`` section: schedule "constant", "cosine" (to 0 at the last
        step) or "step" (times decay_factor every decay_epochs); warmup_steps of linear rise.
      num_steps: of the whole run.
      steps_per_epoch: of the training list.
    """
    match options.schedule:
        case "constant":
            schedule = optax.constant_schedule(1.0)
        case "cosine":
            schedule = optax.cosine_decay_schedule(1.0, max(num_steps - options.warmup_steps, 1))
        case "step":
            every = max(round(options.decay_epochs * steps_per_epoch), 1)
            schedule = optax.exponential_decay(1.0, every, options.decay_factor, staircase=True)
        case other:
            raise UserError(
                f"optimizer.schedule: {other!r} is not one of 'constant', 'cosine', 'step'."
            )
    if options.warmup_steps:
        warmup = optax.linear_schedule(0.0, 1.0, options.warmup_steps)
        if options.schedule == "step":  # it falls where epochs end, counted from the first step
            return lambda step: warmup(step) * schedule(step)
        schedule = optax.join_schedules([warmup, schedule], [options.warmup_steps])
    return schedule


def optimizer(
    options: Config, labels: Groups, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Makes SGD with momentum (or Adam), each parameter group with its own rate and decay.

    Args:
      options: the config's ``optimizer`` section. A group "<part>/<kind>" moves at
        ``<part>_lr`` (times ``bias_lr`` for biases); weight decay is added to the gradient, as in
        the papers' SGD, and skips norms and biases unless ``decay_all``.
      labels: a tree like the parameters, of "<part>/<kind>" or "frozen/<kind>".
      schedule: common factor.
    """

    if options.rule not in ("sgd", "adam"):
        raise UserError(f"optimizer.rule: {options.rule!r} is not one of 'sgd', 'adam'.")

    def group(label: str) -> optax.GradientTransformation:
        part, kind = label.split("/")
        if part == "frozen":
            return optax.set_to_zero()
        rate = options[f"{part}_lr"] * (options.bias_lr if kind == "bias" else 1.0)
        decay = options.weight_decay if kind == "kernel" or options.decay_all else 0.0
        scaled = optax.scale_by_learning_rate(lambda step: rate * schedule(step))
        if options.rule == "adam":  # decay beside the gradient's moments, as AdamW has it
            return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(decay), scaled)
        momentum = optax.trace(options.momentum, nesterov=options.nesterov)
        return optax.chain(optax.add_decayed_weights(decay), momentum, scaled)

    groups = {label: group(label) for label in sorted(set(jax.tree.leaves(labels)))}
    return optax.multi_transform(groups, labels)


def train_step(
    method: Method, tx: optax.GradientTransformation, labels: Groups, accumulate: int = 1
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Makes the pure function (state, batch) -> (state, metrics) that the loop compiles.

    Args:
      method: its ``loss`` is differentiated.
      tx: from ``optimizer``.
      labels: parameter groups; "frozen/..." get no gradient, and XLA drops their backward pass.
      accumulate: micro-batches per step, for batches larger than the memory. Gradients are averaged
        with the micro-batches' valid examples as weights, so for a loss that is a mean over
        examples the step equals the undivided one; the batch must divide by it.
    """

    def loss_and_gradient(params, collections, batch, rng, step):
        def loss(params):
            params = jax.tree.map(
                lambda p, label: jax.lax.stop_gradient(p) if label.startswith("frozen") else p,
                params,
                labels,
            )
            return method.loss({"params": params, **collections}, batch, rng, step)

        (_, aux), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        # Rows of padding alone, or of unreadable images, count for nothing: batch statistics of
        # none are NaN, and so would be 0 times them.
        some = jnp.any(batch["valid"])
        keep = lambda new, old: jnp.where(some, new, old)
        zero = lambda tree: jax.tree.map(lambda x: keep(x, jnp.zeros_like(x)), tree)
        before = {name: collections[name] for name in aux.collections}
        updated = jax.tree.map(keep, aux.collections, before)
        # The pictures are for the report; dropped here, XLA never makes them.
        return zero(gradient), zero(aux.metrics), {**collections, **updated}

    def accumulated(params, collections, batch, rng, step):
        # Row r goes to micro-batch r % accumulate: each device keeps its own rows.
        micro = jax.tree.map(
            lambda x: jnp.swapaxes(x.reshape(-1, accumulate, *x.shape[1:]), 0, 1), batch
        )

        def body(carry, item):
            total, metrics_total, weight_total, collections = carry
            index, batch = item
            gradient, metrics, collections = loss_and_gradient(
                params, collections, batch, jax.random.fold_in(rng, index), step
            )
            weight = jnp.sum(batch["valid"], dtype=jnp.float32)
            add = lambda total, value: total + weight * value
            carry = (
                jax.tree.map(add, total, gradient),
                jax.tree.map(add, metrics_total, metrics),
                weight_total + weight,
                collections,
            )
            return carry, None

        first = jax.tree.map(lambda x: x[0], micro)
        shapes = jax.eval_shape(loss_and_gradient, params, collections, first, rng, step)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[:2])
        carry = (*zeros, jnp.zeros(()), collections)
        items = (jnp.arange(accumulate), micro)
        (gradient, metrics, weight, collections), _ = jax.lax.scan(body, carry, items)
        mean = lambda x: x / jnp.maximum(weight, 1.0)
        return jax.tree.map(mean, gradient), jax.tree.map(mean, metrics), collections

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        rng = jax.random.fold_in(state.rng, state.step)
        batch = {name: batch[name] for name in (*BATCH, *method.wants) if name in batch}
        differentiate = accumulated if accumulate > 1 else loss_and_gradient
        gradient, metrics, collections = differentiate(
            state.params, state.collections, batch, rng, state.step
        )
        updates, opt_state = tx.update(gradient, state.opt_state, state.params)
        metrics["gradient_norm"] = optax.global_norm(gradient)
        return (
            state.replace(
                step=state.step + 1,
                params=optax.apply_updates(state.params, updates),
                collections=collections,
                opt_state=opt_state,
            ),
            metrics,
        )

    return step


def fingerprint(variables: Tree) -> str:
    """Hashes a tree of arrays by SHA-256: names, shapes, types and every bit."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
