"""The places of a published file's arrays in a backbone: name -> path and axis order."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from wsol_jax.networks.backbones.published import Module, PublishedNames
from wsol_jax.networks.backbones.table import Layout

# Collection, module names, parameter: ("params", "Mixed_5b", "branch1x1", "conv", "kernel").
Path = tuple[str, ...]


class Target(NamedTuple):
    """A place in the variables, and the array in the axis order that is used there."""

    path: Path
    array: np.ndarray


_KERAS_WEIGHTS = {
    "kernel": ("params", "kernel"),
    "depthwise_kernel": ("params", "kernel"),
    "bias": ("params", "bias"),
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "moving_variance": ("batch_stats", "var"),
}
_TORCH_WEIGHTS = {
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


def targets(
    arrays: Mapping[str, np.ndarray], published: PublishedNames, layout: Layout
) -> tuple[dict[str, Target], list[str], list[str]]:
    """Finds the places of all arrays of a file.

    Args:
      arrays: name -> array as ``files.read_arrays`` gives them.
      published: what the network's layers are called.
      layout: whose names the arrays carry.

    Returns:
      (name -> target, names that belong nowhere, names that never matter: counters of batches and
      torchvision's auxiliary classifiers).
    """
    known: dict[str, Target] = {}
    unknown: list[str] = []
    dropped: list[str] = []
    modules = published.keras(arrays) if layout == "keras" else published.torch
    last = arrays.get(published.last_conv)
    for name, array in arrays.items():
        if name.endswith("num_batches_tracked") or name.startswith(published.auxiliary):
            dropped.append(name)
        elif target := (
            _keras_target(name, array, modules)
            if layout == "keras"
            else _torch_target(name, array, modules, last)
        ):
            known[name] = target
        else:
            unknown.append(name)
    return known, unknown, dropped


def _keras_target(name: str, array: np.ndarray, modules: Mapping[str, Module]) -> Target | None:
    layer, _, weight = name.partition("/")
    if layer not in modules or weight not in _KERAS_WEIGHTS:
        return None
    collection, leaf = _KERAS_WEIGHTS[weight]
    module = modules[layer]
    if leaf == "kernel" and module[-1].endswith("_depthwise") and array.ndim == 4:
        array = array.transpose(0, 1, 3, 2)  # (k, k, C, 1) -> (k, k, 1, C)
    return Target((collection, *module, leaf), array)


def _torch_target(
    name: str, array: np.ndarray, modules: Mapping[str, Module], last: np.ndarray | None
) -> Target | None:
    layer, _, weight = name.rpartition(".")
    if layer not in modules:
        return None
    module = modules[layer]
    if weight in _TORCH_WEIGHTS:
        collection, leaf = _TORCH_WEIGHTS[weight]
        return Target((collection, *module, leaf), array)
    if weight != "weight":
        return None
    if array.ndim == 1:
        return Target(("params", *module, "scale"), array)
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)  # OIHW -> HWIO; (C, 1, k, k) -> (k, k, 1, C)
    elif module == ("fc6",):
        array = _flattened_by_rows(array, last)
    elif array.ndim == 2:
        array = array.T
    return Target(("params", *module, "kernel"), array)


def _flattened_by_rows(array: np.ndarray, last: np.ndarray | None) -> np.ndarray:
    """VGG's and AlexNet's fc6: PyTorch flattens (C, H, W), this project (H, W, C).

    ``last`` is the kernel of the convolution before it: the number of channels.
    """
    if last is None or array.ndim != 2 or not array.size or not last.size:
        return array.T
    channels = last.shape[0] if last.ndim else 1
    side = round((array.shape[1] / channels) ** 0.5)
    if channels * side**2 != array.shape[1]:
        return array.T
    return array.reshape(-1, channels, side, side).transpose(2, 3, 1, 0).reshape(-1, len(array))
