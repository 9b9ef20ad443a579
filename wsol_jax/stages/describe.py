"""``--mode=describe``: what a config builds, without data and without training."""

import json
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from clu import parameter_overview

from wsol_jax import methods
from wsol_jax.base import fields, remote, sharding
from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config, Json
from wsol_jax.data import sources
from wsol_jax.networks import backbones
from wsol_jax.runs.data_choices import choose
from wsol_jax.runs.plan import without_weights
from wsol_jax.stages.ahead import described, topology
from wsol_jax.stages.ahead.compiled import traced_step
from wsol_jax.stages.ahead.described import units
from wsol_jax.stages.ahead.kept import memory_of
from wsol_jax.stages.ahead.products import count_flops
from wsol_jax.stages.sections import check_names, stage_config, trainings


def describe(
    config: Config,
    workdir: pathlib.Path,
    place: str = "",
    fit: bool = False,
    only: Sequence[str] = (),
) -> dict[str, Json]:
    """Prints and writes the parameter table, endpoint shapes, FLOPs and memory of a step.

    Args:
      config: any config; data.root is read for the number of classes if it is there.
      workdir: describe.json goes here.
      place: of the step, such as "v5e:4x4" (``stages/ahead``); "" for this machine's devices.
      fit: finds the largest batch that a chip of ``place`` holds, too.
      only: some of the trainings of a run in stages; none named: all.

    Returns:
      {"parameters": N, "classes": C, "image": [h, w, 3], "endpoints": {name: shape},
      "map_size": [h, w], "batch_size": B, "step_flops": F, "step_bytes": M}: FLOPs of a training
      step's products, and its peak bytes on a device, None where the backend does not tell. With
      ``place`` {"device": {...}} beside them (``ahead.Step.to_json``). For a run in stages
      {"stages": {name: such a dict}}, a row for each training.

    Raises:
      UserError: a config, a topology or a workdir that will not do.
    """
    fields.check(config)
    if place:
        topology.parse(place)
        if config.train.devices:
            raise UserError(
                f"train.devices={config.train.devices}: --topology says how many there are; "
                "expected 0."
            )
    config = _decided(config)
    num_classes = _classes(config)
    if config.stages:
        result = {"stages": _stages(config, num_classes, place, fit, only)}
    else:
        result = _training(config, num_classes, place, fit)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "describe.json").write_text(json.dumps(result, indent=1))
    except OSError as error:
        raise UserError(f"--workdir={workdir} cannot be written: {error.strerror}.") from None
    return result


def _stages(
    config: Config, num_classes: int, place: str, fit: bool, only: Sequence[str]
) -> dict[str, Json]:
    """What each training of a run in stages builds, by name."""
    check_names(config, only)
    configs = {name: stage_config(config, name) for name in trainings(config)}
    for name in only:
        if name not in configs:
            raise UserError(
                f"--stages: {name!r} trains nothing, so there is no step to describe; expected "
                f"some of {', '.join(configs)}."
            )
    found = {}
    for name in only or configs:
        same = _same_as(configs[name], {other: configs[other] for other in found})
        print(f"stage {name}: as {same}" if same else f"stage {name}:")
        found[name] = found[same] if same else _training(configs[name], num_classes, place, fit)
    return found


def _same_as(config: Config, others: dict[str, Config]) -> str:
    """The stage of ``others`` whose step is the same, whatever it starts from; "" for none."""
    free = ("start", "labels", "before", "settled")
    plain = lambda config: {k: v for k, v in config.to_dict().items() if k not in free}
    return next((name for name, it in others.items() if plain(it) == plain(config)), "")


def _training(config: Config, num_classes: int, place: str, fit: bool) -> dict[str, Json]:
    """What one training builds, printed and returned."""
    config = without_weights(config)
    crop, batch = config.data.crop, config.train.batch_size
    result, table = _network(config, num_classes)
    print(table)
    print(f"endpoints at {crop}x{crop} (height, width, channels):")
    for name, shape in result["endpoints"].items():
        print(f"  {name:24} {tuple(shape)}")
    if result["map_size"]:
        print(f"class maps: {result['map_size']}, {num_classes} classes")
    print(f"parameters: {result['parameters']:,}")
    if place:
        device = described.on(config, num_classes, place, fit)
        result |= {"step_flops": None, "step_bytes": device.get("memory_bytes"), "device": device}
        if device.get("flops"):
            result["step_flops"] = device["flops"] * device["chips"]
        return result
    flops, memory = _step_cost(config, num_classes)
    print(f"a training step at batch {batch}: {units(flops)}FLOP, {units(memory)}bytes at its peak")
    return result | {"step_flops": flops, "step_bytes": memory}


def _network(config: Config, num_classes: int) -> tuple[dict[str, Json], str]:
    """Shapes of a training's network, and its table of parameters."""
    method = methods.build(config, num_classes)
    crop = config.data.crop
    images = jax.ShapeDtypeStruct((1, crop, crop, 3), jnp.uint8)
    variables = jax.eval_shape(method.init, jax.random.key(0), images)
    trunk = backbones.build(config.model)
    pixels = jax.ShapeDtypeStruct(images.shape, jnp.float32)
    tree = {name: tree["backbone"] for name, tree in variables.items() if "backbone" in tree}
    endpoints = jax.eval_shape(trunk.apply, tree, pixels)
    table = parameter_overview.get_parameter_overview(variables["params"], include_stats=False)
    result = {
        "parameters": sum(int(np.prod(x.shape)) for x in jax.tree.leaves(variables["params"])),
        "classes": num_classes,
        "image": list(images.shape[1:]),
        "endpoints": {name: list(x.shape[1:]) for name, x in endpoints.items()},
        "map_size": _map_size(method, variables, images),
        "batch_size": config.train.batch_size,
    }
    return result, table


def _map_size(method: methods.Method, variables, images) -> list[int] | None:
    """Height and width of the class maps; None for a network that gives none by itself."""
    try:
        maps = jax.eval_shape(method.localize, variables, images).maps
    except UserError:  # RegionNet, which needs regions
        return None
    return list(jax.tree.leaves(maps)[0].shape[1:3])


def _decided(config: Config) -> Config:
    """The config with what its data decide, where these are here."""
    try:
        return choose(config)
    except UserError:
        return config  # no data needed


def _classes(config: Config) -> int:
    root = config.data.root
    if root and (remote.is_url(root) or pathlib.Path(root).is_dir()):
        from wsol_jax.data.lists import open_lists

        try:
            return len(open_lists(config.data).class_names)
        except UserError:
            pass  # no data needed: fall through to the data set's usual number
    return sources.DATASETS[config.data.name].classes


def _step_cost(config: Config, num_classes: int) -> tuple[float, int | None]:
    """FLOPs of a step, and its peak bytes on a device of this machine."""
    mesh = sharding.data_mesh(config.train.devices)
    traced, _ = traced_step(config, num_classes, mesh, jax.default_backend())
    peak = sum(memory_of(traced.lower().compile()).values()) or None
    # Operations as written: on CPU Winograd's form multiplies less.
    written, _ = traced_step(config, num_classes, mesh, "tpu")
    return count_flops(written.jaxpr.jaxpr), peak
