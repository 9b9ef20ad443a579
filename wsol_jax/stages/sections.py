"""What a config says of its stages: their order, their kinds, and the fields of each."""

from collections.abc import Sequence

import ml_collections

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Tree

EVALUATE = "evaluate"


def stage_config(config: ml_collections.ConfigDict, name: str) -> ml_collections.ConfigDict:
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


def is_label_stage(config: ml_collections.ConfigDict, name: str) -> bool:
    """Whether a stage writes pseudo-labels, and trains nothing."""
    return name != EVALUATE and bool(config.stage[name].get("labeller"))


def label_stages(config: ml_collections.ConfigDict) -> list[str]:
    """The stages that write pseudo-labels, in order."""
    return [name for name in config.stages if is_label_stage(config, name)]


def trainings(config: ml_collections.ConfigDict) -> list[str]:
    """The stages that train a network, in order."""
    others = {EVALUATE, *label_stages(config)}
    return [name for name in config.stages if name not in others]


def networks_of(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """The earlier trainings that one depends on: those that it reads, and where it starts.

    Args:
      config: the stage's.
    """
    stage, _ = start_of(config)
    return tuple(dict.fromkeys((*config.reads, *filter(None, [stage]))))


def start_of(config: ml_collections.ConfigDict) -> tuple[str, str]:
    """The stage that a training starts from, and the only module it takes of it, "" for all."""
    stage, _, module = config.start.partition("/")
    return stage, module


def only_module(variables: Tree, module: str) -> dict[str, Tree]:
    """A network's variables of one of its modules, by collection; all of them where it is ""."""
    if not module:
        return dict(variables)
    return {name: {module: tree[module]} for name, tree in variables.items() if module in tree}


def check_names(config: ml_collections.ConfigDict, wanted: Sequence[str]) -> None:
    """Raises UserError for stages without a section, of one name, or that train nothing.

    ``wanted``: those to run, which must be of this config.
    """
    for name in config.stages:
        if name != EVALUATE and name not in config.stage:
            raise UserError(
                f"stages: {name!r} has no section stage.{name}; to run a part: --stages="
            )
        if config.stages.count(name) > 1:
            raise UserError(f"stages: two are called {name!r}; rename one.")
    if not trainings(config):
        raise UserError("stages: nothing is trained; to run a part: --stages=")
    for name in wanted:
        if name not in config.stages:
            known = ", ".join(config.stages)
            raise UserError(f"--stages: {name!r} is not one of this config's: {known}.")
