"""A model of each kind on a tiny network, and an export looked at where wsol_jax is not."""

import functools
import os
import pathlib
import subprocess
import sys

import numpy as np

from helpers import hide_and_seek, mcof, networks, sec, two_phase
from wsol_jax import methods
from wsol_jax.api.model import Model
from wsol_jax.base import sharding
from wsol_jax.runs.opened import Network

CLASSES = ("ape", "bee", "cat", "dog", "elk")
# Prints nothing; argv: the exports' folders. Leaves found.npz in each.
_LOOK = """
import json, pathlib, sys
for name in ("wsol_jax", "flax", "orbax", "cv2", "ml_collections"):
    sys.modules[name] = None  # an import of it fails
import jax, jax.export, numpy as np
from safetensors.numpy import load_file
for folder in map(pathlib.Path, sys.argv[1:]):
    weights = load_file(folder / "weights.safetensors")
    network = jax.export.deserialize((folder / "localize.stablehlo").read_bytes())
    call, found = jax.jit(network.call), {}
    with np.load(folder / "images.npz") as images:
        for count in images:
            outputs = call(weights, images[count])
            found |= {f"{count}/{name}": np.asarray(x) for name, x in outputs.items()}
    np.savez(folder / "found.npz", **found)
"""


def model_of(config, method, variables) -> Model:
    """What ``load`` would give of a run with these."""
    network = Network(config, method, variables, sharding.data_mesh())
    return Model(network, CLASSES, 0.2, 3, pathlib.Path("nowhere"))


@functools.cache
def model(name: str) -> Model:
    """One of a method, or of CAM scored by an explanation, with random weights."""
    match name:
        case "mobilenet_v2":
            parts = _mobilenet()
        case "sec":
            parts = sec.tiny(), methods.build(sec.tiny(), 5), sec.variables()
        case "two_phase":
            third = two_phase.built("third")
            parts = third.config, third.method, third.variables
        case "hide_and_seek":
            parts = hide_and_seek.tiny(), *hide_and_seek.made()
        case "pixel_net":
            parts = mcof.tiny("pixel_1"), *mcof.made("pixel_1")
        case "layer_cam":
            parts = networks.tiny("cam", **{"eval.explain": name}), *networks.made("cam")
        case _:
            parts = networks.tiny(name), *networks.made(name)
    return model_of(*parts)


def _mobilenet():
    """Depthwise convolutions, whose form is each platform's."""
    changes = {
        "model.backbone": "mobilenet_v2",
        "model.final_endpoint": "block_3",
        "model.trunk": {},
        "model.width": 0.25,
    }
    return networks.tiny("cam", **changes), *networks.made("cam", **changes)


def look_elsewhere(*folders: pathlib.Path) -> None:
    """Runs exports in a process that can import neither wsol_jax nor Flax."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, "-c", _LOOK, *map(str, folders)]
    subprocess.run(words, check=True, env=env, cwd=folders[0], timeout=600)


def random_images(count: int, side: int) -> np.ndarray:
    """(count, side, side, 3) uint8."""
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
