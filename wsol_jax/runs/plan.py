"""Makes the parts of a run from its config: plan, state, compiled step."""

import dataclasses
import math
import pathlib
import types
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config, Tree
from wsol_jax.methods import LabelSpec, Method, Variables
from wsol_jax.networks import weights
from wsol_jax.networks.weights.published import ensure_weights
from wsol_jax.runs.checkpoint import Checkpoints
from wsol_jax.runs.state import TrainState, learning_rate, optimizer, train_step

_MOST_STEPS = 2**31 - 1  # the state's step is an int32


@dataclasses.dataclass(frozen=True)
class Plan:
    """The size of a training: how many steps of how many rows."""

    num_records: int
    batch_size: int
    padded_size: int
    num_steps: int
    eval_steps: int  # between evaluations; 0 for none
    steps_per_epoch: int

    @classmethod
    def of(cls, options: Config, num_records: int, mesh: Mesh) -> "Plan":
        """From the config's ``train`` section.

        Raises:
          UserError: more steps than a state counts.
        """
        per_epoch = max(round(num_records / options.batch_size), 1)
        exact = num_records / options.batch_size
        steps = max(round(options.epochs * exact), 1)
        if steps > _MOST_STEPS:
            raise UserError(
                f"train.epochs={options.epochs}: {steps} steps of {options.batch_size} images are "
                f"more than {_MOST_STEPS}."
            )
        return cls(
            num_records=num_records,
            batch_size=options.batch_size,
            padded_size=sharding.padded_size(options.batch_size, mesh, options.accumulate),
            num_steps=steps,
            eval_steps=math.ceil(options.eval_epochs * exact) if options.eval_epochs > 0 else 0,
            steps_per_epoch=per_epoch,
        )


def resolve(config: Config) -> Config:
    """Fills in what a config's weight files decide: the files themselves, preprocessing, paddings.

    "imagenet" becomes the path of the public file, fetched if need be; ``preprocessing`` and the
    trunk's arguments follow the file's publisher unless the config sets them.

    Raises:
      UserError: the file is missing and cannot be fetched, or is not one of weights.
    """
    config = config.copy_and_resolve_references()
    model = config.model
    with config.unlocked():
        for section in trunks(config):
            if section.weights == "none":
                section.weights = ""
        if not model.weights and model.freeze_until:
            raise UserError(
                f"model.freeze_until={model.freeze_until!r} would freeze random values: name a "
                "file of weights, e.g. weights=imagenet after the data set."
            )
        for section in trunks(config):
            _resolve_trunk(section)
    return config


def trunks(config: Config) -> list[Config]:
    """The config's sections that describe a trunk: ``model``, and ``features`` if it has one."""
    return [config[name] for name in ("model", "features") if name in config]


def without_weights(config: Config) -> Config:
    """A copy whose method reads no weight file: for shapes alone, or what a checkpoint fills."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for section in trunks(config):
            section.weights = ""
    return config


def _resolve_trunk(section: Config) -> None:
    if section.weights == "imagenet":
        dense = section.get("dense_layers", False)  # ``features`` has no such field
        section.weights = str(ensure_weights(section.backbone, dense))
    fields = {}
    if section.weights:
        published = weights.conventions(section.weights, section.backbone)
        fields = published.fields
        if section.preprocessing == "auto":
            section.preprocessing = published.preprocessing
    elif section.preprocessing == "auto":
        section.preprocessing = "tf"
    for name, value in fields.items():
        if name not in section.trunk:
            section.trunk[name] = value


def create_state(
    config: Config,
    method: Method,
    plan: Plan,
    mesh: Mesh | None,
    networks: Mapping[str, Variables] = types.MappingProxyType({}),
    start: Variables | None = None,
) -> tuple[TrainState, Callable, optax.Schedule]:
    """The state before step 1, the pure step function, and step -> learning-rate factor.

    Args:
      networks: of earlier stages, by the stage's name; constants of this one.
      start: of the stage ``config.start``, all its modules or some; this one's begin as those
        ended.

    Raises:
      UserError: one that is not of the shapes that the method expects.
    """
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    images = jnp.zeros((1, config.data.crop, config.data.crop, 3), jnp.uint8)
    variables = dict(method.init(init_key, images))
    for name, given in (start or {}).items():
        _check_shapes(config.start, given, {module: variables[name][module] for module in given})
        variables[name] = {**variables[name], **jax.tree.map(jnp.copy, given)}
    for name, given in networks.items():
        _check_shapes(name, given, variables[name])
        if config.model.freeze_until == "all":
            _check_trunk(name, given, variables)
        variables[name] = jax.tree.map(jnp.copy, given)  # the step consumes its state's buffers
    params = variables.pop("params")
    labels = method.param_groups(params)
    schedule = learning_rate(config.optimizer, plan.num_steps, plan.steps_per_epoch)
    tx = optimizer(config.optimizer, labels, schedule)
    state = TrainState(jnp.zeros((), jnp.int32), params, variables, tx.init(params), run_key)
    step = train_step(method, tx, labels, config.train.accumulate)
    return (sharding.replicate(state, mesh) if mesh else state), step, schedule


def _check_shapes(name: str, given: Tree, expected: Tree) -> None:
    shapes = [
        {jax.tree_util.keystr(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(t)}
        for t in (given, expected)
    ]
    for leaf in sorted(shapes[0].keys() | shapes[1].keys()):
        if shapes[0].get(leaf) != shapes[1].get(leaf):
            raise UserError(
                f"the network of stage {name!r} has {leaf} of shape {shapes[0].get(leaf)}, this "
                f"stage expects {shapes[1].get(leaf)}: both need the same model section."
            )


def _check_trunk(name: str, given: Tree, variables: Tree) -> None:
    """A trunk that nobody trains is one for all stages, as long as they read one file."""
    trunks = [jax.tree.leaves(tree["params"].get("backbone")) for tree in (given, variables)]
    if not all(bool(jnp.array_equal(*pair)) for pair in zip(*trunks, strict=True)):
        raise UserError(
            f"model.weights: stage {name!r} was trained on another file of weights, and the trunk "
            "is frozen: give this stage the same."
        )


def abstract_state(
    config: Config, method: Method, plan: Plan, mesh: Mesh | None = None
) -> tuple[TrainState, Callable]:
    """Shapes of the state, and the step function, with nothing computed (``--mode=describe``).

    ``mesh``: of the devices that the state would be on; None takes those of ``train.devices``.
    """
    mesh = mesh or sharding.data_mesh(config.train.devices)
    found = {}

    def make():
        state, found["step"], _ = create_state(config, method, plan, None)
        return state

    state = jax.eval_shape(make)
    whole = sharding.replicated(mesh)
    shaped = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole)
    return jax.tree.map(shaped, state), found["step"]


def trace_step(
    step: Callable,
    state: TrainState,
    plan: Plan,
    config: Config,
    num_classes: int,
    mesh: Mesh,
    wants: Mapping[str, LabelSpec] = types.MappingProxyType({}),
) -> jax.stages.Traced:
    """The step traced ahead of time, for exactly these shapes: ``lower_step``'s arguments."""
    split = sharding.batch_sharding(mesh)
    rows, crop = plan.padded_size, config.data.crop
    shapes = {
        "image": ((rows, crop, crop, 3), jnp.uint8),
        "labels": ((rows, num_classes), jnp.float32),
        "valid": ((rows,), jnp.bool_),
        "index": ((rows,), jnp.int32),
    }
    shapes |= {name: ((rows, *spec.shape), spec.dtype) for name, spec in wants.items()}
    batch = {n: jax.ShapeDtypeStruct(*shape, sharding=split) for n, shape in shapes.items()}
    whole = sharding.replicated(mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=whole).trace(state, batch)


def lower_step(*args, **kwargs) -> jax.stages.Lowered:
    """The step traced ahead of time, to ``.compile()``, for exactly these shapes.

    What is compiled of it cannot recompile, only refuse. The state's buffers are donated: the old
    state is gone after a call.

    Args:
      step, state, plan, config, num_classes, mesh, wants: ``wants`` are the method's.
    """
    return trace_step(*args, **kwargs).lower()


def restore_variables(
    config: Config, workdir: pathlib.Path, method: Method, mesh: Mesh
) -> tuple[Variables, int]:
    """The variables of a run's checkpoint, and its step; ``eval.checkpoint`` says which.

    Raises:
      UserError: there is no checkpoint, or it does not fit the config.
    """
    plan = Plan.of(config.train, config.train.batch_size, mesh)
    checkpoints = Checkpoints(workdir, config, read_only=True)
    step = checkpoints.choose(config.eval.checkpoint)
    if step is None:
        raise UserError(f"{checkpoints.folder} holds no checkpoint: train there first.")
    template, _ = abstract_state(config, method, plan)
    state, _ = checkpoints.restore(step, template)
    checkpoints.close()
    return state.variables, step
