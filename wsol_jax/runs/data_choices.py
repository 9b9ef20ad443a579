"""Fields that a config leaves to the data: how a folder is laid out, one label an image or several.

A run decides them once. Its config.json keeps them, and what lies beside its photos later does not
change what it trains on.
"""

import pathlib

from wsol_jax.base.types import Config, Json
from wsol_jax.data import sources
from wsol_jax.runs import workdirs

_OPEN: dict[str, Json] = {"layout": "auto", "multi_label": None}  # field of data: nobody decided


def choose(config: Config, workdir: pathlib.Path | None = None) -> Config:
    """A config whose ``data`` section is decided; the config itself where it was.

    Args:
      workdir: a run that has begun there goes on with what it decided.

    Raises:
      UserError: the data are missing or malformed, or the folder's config.json is damaged.
    """
    left = [name for name, unset in _OPEN.items() if config.data[name] == unset]
    row = sources.DATASETS.get(config.data.name)
    if not left or row is None or not row.decides:
        return config
    begun = workdir is not None and workdirs.has_begun(workdir)
    found = workdirs.load(workdir)[0].data if begun else sources.choices(config.data)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for name in left:
            config.data[name] = found[name]
    return config
