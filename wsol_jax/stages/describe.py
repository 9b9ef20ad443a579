"""``--mode=describe``: what a config builds, without data and without training."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from clu import parameter_overview

from wsol_jax import methods
from wsol_jax.base import fields, sharding
from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config, Json
from wsol_jax.data import sources
from wsol_jax.networks import backbones
from wsol_jax.networks.backbones import convolution
from wsol_jax.runs.data_choices import choose
from wsol_jax.runs.plan import Plan, abstract_state, lower_step, without_weights
from wsol_jax.stages.sections import stage_config, trainings


def describe(config: Config, workdir: pathlib.Path) -> dict[str, Json]:
    """Prints and writes the parameter table, endpoint shapes, FLOPs and memory of a step.

    Args:
      config: any config; data.root is read for the number of classes if it is there.
      workdir: describe.json goes here.

    Returns:
      {"parameters": N, "classes": C, "endpoints": {name: shape}, "map_size": [h, w],
      "step_flops": F, "step_bytes": B}: FLOPs and peak bytes of a training step as XLA counts them,
      None where the backend does not tell.
    """
    fields.check(config)
    config = _decided(config)
    num_classes = _classes(config)
    if config.stages:  # the last training's network holds the earlier ones
        last = trainings(config)[-1]
        print(f"stage {last}:")
        config = stage_config(config, last)
    config = without_weights(config)
    model = config.model
    method = methods.build(config, num_classes)
    crop = config.data.crop
    images = jax.ShapeDtypeStruct((1, crop, crop, 3), jnp.uint8)
    variables = jax.eval_shape(method.init, jax.random.key(0), images)
    trunk = backbones.build(model)
    pixels = jax.ShapeDtypeStruct(images.shape, jnp.float32)
    tree = {name: tree["backbone"] for name, tree in variables.items() if "backbone" in tree}
    endpoints = jax.eval_shape(trunk.apply, tree, pixels)
    localization = jax.eval_shape(method.localize, variables, images)
    flops, memory = _step_cost(config, method, num_classes)
    table = parameter_overview.get_parameter_overview(variables["params"], include_stats=False)
    result = {
        "parameters": sum(int(np.prod(x.shape)) for x in jax.tree.leaves(variables["params"])),
        "classes": num_classes,
        "image": list(images.shape[1:]),
        "endpoints": {name: list(x.shape[1:]) for name, x in endpoints.items()},
        "map_size": list(jax.tree.leaves(localization.maps)[0].shape[1:3]),
        "batch_size": config.train.batch_size,
        "step_flops": flops,
        "step_bytes": memory,
    }
    print(table)
    print(f"endpoints at {crop}x{crop} (height, width, channels):")
    for name, shape in result["endpoints"].items():
        print(f"  {name:24} {tuple(shape)}")
    print(f"class maps: {result['map_size']}, {num_classes} classes")
    print(f"parameters: {result['parameters']:,}")
    print(f"a training step at batch {config.train.batch_size}: {_units(flops)}FLOP, ", end="")
    print(f"{_units(memory)}bytes at its peak")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "describe.json").write_text(json.dumps(result, indent=1))
    except OSError as error:
        raise UserError(f"--workdir={workdir} cannot be written: {error.strerror}.") from None
    return result


def _decided(config: Config) -> Config:
    """The config with what its data decide, where these are here."""
    try:
        return choose(config)
    except UserError:
        return config  # no data needed


def _classes(config: Config) -> int:
    if config.data.root and pathlib.Path(config.data.root).is_dir():
        from wsol_jax.data.lists import open_lists

        try:
            return len(open_lists(config.data).class_names)
        except UserError:
            pass  # no data needed: fall through to the data set's usual number
    return sources.DATASETS[config.data.name].classes


def _step_cost(
    config: Config, method: methods.Method, num_classes: int
) -> tuple[float | None, int | None]:
    mesh = sharding.data_mesh(config.train.devices)
    plan = Plan.of(config.train, 100 * config.train.batch_size, mesh)
    state, step = abstract_state(config, method, plan)
    rest = (state, plan, config, num_classes, mesh, method.wants)
    compiled = lower_step(step, *rest).compile()
    # Operations as written: a loop's body would count once, and Winograd multiplies less. A new
    # function, since tracing the same one again would find the first trace.
    with convolution.as_written():
        again = abstract_state(config, method, plan)[1]
        cost = lower_step(again, *rest).cost_analysis()
    cost = (cost[0] if isinstance(cost, list) else cost) or {}
    memory = compiled.memory_analysis()
    peak = None
    if memory is not None:
        peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        peak += memory.output_size_in_bytes - memory.alias_size_in_bytes
    return cost.get("flops"), peak


def _units(value: float | None) -> str:
    if value is None:
        return "unknown "
    for unit in ("", "k", "M", "G", "T"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} P"
