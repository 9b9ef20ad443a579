"""A run opened again: its config, its lists, and the network of its checkpoint."""

import dataclasses
import pathlib

import ml_collections
from jax.sharding import Mesh

from wsol_jax import methods
from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.data.lists import Lists, open_lists
from wsol_jax.methods import Method, Variables
from wsol_jax.runs import workdirs
from wsol_jax.runs.plan import restore_variables, trunks, without_weights


@dataclasses.dataclass(frozen=True)
class Network:
    """A method with its variables on a mesh: what can look at photos.

    Attributes:
      config: the run's.
      variables: replicated over the mesh.
    """

    config: ml_collections.ConfigDict
    method: Method
    variables: Variables
    mesh: Mesh


@dataclasses.dataclass(frozen=True)
class OpenedRun(Network):
    """A run ready to be scored; ``step`` is its checkpoint's."""

    lists: Lists
    step: int


def begun_config(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, class_names: tuple[str, ...]
) -> ml_collections.ConfigDict:
    """The config of a run that has begun, with what the weight file decided then.

    Raises:
      UserError: the folder's run is another config's.
    """
    saved, _ = workdirs.load(workdir)
    if not workdirs.has_checkpoint(workdir):  # nor may anybody but a training write its config
        raise UserError(f"{workdir / 'checkpoints'} holds no checkpoint: train there first.")
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for section, before in zip(trunks(config), trunks(saved), strict=False):
            section.weights = before.weights
            if section.preprocessing == "auto":
                section.preprocessing, section.trunk = before.preprocessing, before.trunk
    workdirs.claim(workdir, config, class_names)
    return config


def open_run(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    devices: int | None = None,
    lists: Lists | None = None,
) -> OpenedRun:
    """Opens the lists and restores the checkpoint of a finished or unfinished run.

    Args:
      devices: 0 for all; None for as many as the config says.
      lists: the config's, if they are open already.
    Raises:
      UserError: the folder holds no checkpoint of this config, or a list is not there.
    """
    lists = lists or open_lists(config.data)
    config = begun_config(config, workdir, lists.class_names)
    mesh = sharding.data_mesh(config.train.devices if devices is None else devices)
    # The checkpoint has the weights; their file may be gone.
    method = methods.build(without_weights(config), len(lists.class_names))
    variables, step = restore_variables(config, workdir, method, mesh)
    return OpenedRun(config, method, variables, mesh, lists, step)
