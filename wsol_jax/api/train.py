"""Training from Python: what the main command does."""

import os
import pathlib
from collections.abc import Mapping, Sequence

from wsol_jax.api.configs import override, read_config
from wsol_jax.base import commands, fields, sharding
from wsol_jax.base.types import Config, Json
from wsol_jax.runs import mirror
from wsol_jax.stages import recipe


def train(
    config: str | Config,
    workdir: str | os.PathLike,
    overrides: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """Trains a run, or goes on with it, and scores it: what ``python -m wsol_jax.main`` does.

    Args:
      config: a file and the words behind it, "configs/spg.py:folder,root=photos", or a config.
      workdir: the folder that the run is written to; also a URL, such as gs://bucket/run.
      overrides: fields by their paths: {"train.epochs": 3}.

    Returns:
      The content of metrics.json.

    Raises:
      UserError: a bad config, data, weights or workdir; a loss that is no number.
      Interrupted: SIGTERM or SIGINT, after a whole save; the same call goes on from there.
    """
    if not isinstance(config, str | os.PathLike):
        config = config.copy_and_resolve_references()
    else:
        config = read_config(os.fspath(config))
    config.lock()
    override(config, overrides or {})
    fields.check(config)
    commands.no_flags()
    sharding.keep_compiled_programs()
    with mirror.opened(workdir) as folder:
        return train_config(config, folder)


def train_config(
    config: Config, workdir: pathlib.Path, only: Sequence[str] = ()
) -> dict[str, Json]:
    """Trains by a config, in stages if it has some; ``only``: these of them."""
    if config.stages:
        return recipe.run(config, workdir, only)
    return recipe.train_and_evaluate(config, workdir)
