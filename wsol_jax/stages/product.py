"""What a stage leaves in its folder beside its product: what it was made of, and its figures.

inputs.json holds a hash of each thing that the stage read, metrics.json the figures of a stage that
is done. Trainings and label stages have both.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence

from wsol_jax.base.files import write_whole
from wsol_jax.base.types import Json, Tree
from wsol_jax.methods import Variables
from wsol_jax.runs.history import curves

INPUTS, FIGURES = "inputs.json", "metrics.json"


def read_inputs(folder: pathlib.Path) -> dict[str, str] | None:
    """Hashes of what a stage was made of; None where nobody knows."""
    try:
        found = json.loads((folder / INPUTS).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


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
    """
    try:
        return json.loads((folder / FIGURES).read_text())
    except (OSError, ValueError):
        return {}


def write_figures(folder: pathlib.Path, figures: Mapping[str, Json]) -> None:
    """Writes a stage's metrics.json."""
    write_whole(folder / FIGURES, json.dumps(dict(figures), indent=1))


def last_values(folder: pathlib.Path) -> dict[str, float]:
    """The last value of each of a training's curves."""
    found = curves(folder)
    return {name: points[-1][1] for name, points in found.items() if "/" in name}


def own_network(variables: Variables, reads: Sequence[str]) -> dict[str, Tree]:
    """A stage's own network: its variables without the earlier networks that it reads."""
    return {name: tree for name, tree in variables.items() if name not in reads}
