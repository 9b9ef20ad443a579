"""What a stage leaves in its folder beside its product: what it was made of, and its figures.

inputs.json holds a hash of each thing that the stage read, metrics.json the figures of a stage that
is done. Trainings and label stages have both.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence

from wsol_jax.base.files import write_whole
from wsol_jax.base.stored import read_json, reading
from wsol_jax.base.types import Json, Tree
from wsol_jax.methods import Variables
from wsol_jax.runs import figures as stored_figures
from wsol_jax.runs.history import curves

INPUTS = "inputs.json"


def read_inputs(folder: pathlib.Path) -> dict[str, str] | None:
    """Hashes of what a stage was made of; None where nobody knows.

    Raises:
      UserError: the file is damaged.
    """
    path = folder / INPUTS
    if not path.is_file():
        return None
    again = f"nobody knows what stage {folder.name!r} was made of, remove {folder} and run it again"
    with reading(path, again):
        found = read_json(path, again)
        if not isinstance(found, dict) or not all(isinstance(x, str) for x in found.values()):
            raise ValueError("expected hashes by name")
    return found


def write_inputs(folder: pathlib.Path, inputs: Mapping[str, str]) -> None:
    """Says what a stage is made of, before it begins."""
    write_whole(folder / INPUTS, json.dumps(dict(inputs), indent=1))


def has_begun(folder: pathlib.Path) -> bool:
    """Whether a stage has left anything whole in its folder."""
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    # What a killed process had not renamed yet (files.write_whole) is nobody's.
    return any(not (name.startswith(".") and name.endswith(".tmp")) for name in names)


def read_figures(folder: pathlib.Path) -> dict[str, Json]:
    """A stage's metrics.json.

    {} where it was killed between its product and this file: the figures of the run stand.

    Raises:
      UserError: the file is damaged.
    """
    again = f"remove it, and the run's command with --stages={folder.name} makes it again"
    return stored_figures.read(folder, again) or {}


def write_figures(folder: pathlib.Path, figures: Mapping[str, Json]) -> None:
    """Writes a stage's metrics.json."""
    stored_figures.write(folder, dict(figures))


def last_values(folder: pathlib.Path) -> dict[str, float]:
    """The last value of each of a training's curves."""
    found = curves(folder)
    return {name: points[-1][1] for name, points in found.items() if "/" in name}


def own_network(variables: Variables, reads: Sequence[str]) -> dict[str, Tree]:
    """A stage's own network: its variables without the earlier networks that it reads."""
    return {name: tree for name, tree in variables.items() if name not in reads}
