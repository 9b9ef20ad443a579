"""Where an array of a published file belongs in a backbone: name -> path and axis order."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from wsol_jax.networks.backbones.inception import BLOCKS as INCEPTION_BLOCKS
from wsol_jax.networks.weights.files import Layout

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

_VGG_DEPTHS = (2, 2, 3, 3, 3)
_VGG_CONVS = [f"conv{b}_{i + 1}" for b, n in enumerate(_VGG_DEPTHS, 1) for i in range(n)]
# Position in torchvision's ``features``: a convolution and a ReLU each, one pool a block.
_VGG_FEATURES = {str(2 * index + int(name[4]) - 1): name for index, name in enumerate(_VGG_CONVS)}
_VGG_KERAS = {
    **{f"block{name[4]}_conv{name[6]}": name for name in _VGG_CONVS},
    **{"fc1": "fc6", "fc2": "fc7", "predictions": "fc8"},
}
_VGG_TORCH = {
    **{f"features.{index}": name for index, name in _VGG_FEATURES.items()},
    **{"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"},
}

_ALEXNET_TORCH = {
    **{"features.0": "conv1", "features.3": "conv2", "features.6": "conv3"},
    **{"features.8": "conv4", "features.10": "conv5"},
    **{"classifier.1": "fc6", "classifier.4": "fc7", "classifier.6": "fc8"},
}

_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")


def _flat(layers: tuple):
    for layer in layers:
        if isinstance(layer, tuple) and isinstance(layer[0], str) and len(layer) == 4:
            yield layer[0]
        elif isinstance(layer, tuple):
            yield from _flat(layer)


# The 94 convolutions in the order in which Keras creates, and so numbers, them.
_INCEPTION_CONVS: list[Path] = [(name,) for name in _STEM] + [
    (block, name) for block, branches in INCEPTION_BLOCKS.items() for name in _flat(branches)
]

_MOBILENET_TORCH = {
    **{"features.0.0": "Conv1", "features.0.1": "bn_Conv1"},
    **{"features.18.0": "Conv_1", "features.18.1": "Conv_1_bn", "classifier.1": "predictions"},
}
for _block in range(17):
    _name = f"block_{_block}" if _block else "expanded_conv"
    _parts = ["depthwise", "depthwise_BN", "project", "project_BN"]
    _places = ["0.0", "0.1", "1", "2"]
    if _block:
        _parts, _places = ["expand", "expand_BN", *_parts], ["0.0", "0.1", "1.0", "1.1", "2", "3"]
    for _part, _place in zip(_parts, _places, strict=True):
        _MOBILENET_TORCH[f"features.{_block + 1}.conv.{_place}"] = f"{_name}_{_part}"


def layers(backbone: str) -> list[Path]:
    """All layers of the published network, first to last, classifier included."""
    if backbone == "vgg16":
        return [(name,) for name in [*_VGG_CONVS, "fc6", "fc7", "fc8"]]
    if backbone == "inception_v3":
        return [(*conv, kind) for conv in _INCEPTION_CONVS for kind in ("conv", "bn")] + [("fc",)]
    if backbone == "alexnet":
        return [(name,) for name in _ALEXNET_TORCH.values()]
    order = {"Conv1": -2, "bn_Conv1": -1, "Conv_1": 99, "Conv_1_bn": 100, "predictions": 101}
    names = list(_MOBILENET_TORCH.values())
    block = lambda name: int(found[1]) if (found := re.match(r"block_(\d+)_", name)) else 0
    return [(name,) for name in sorted(names, key=lambda name: order.get(name, block(name)))]


def targets(
    arrays: Mapping[str, np.ndarray], backbone: str, layout: Layout
) -> tuple[dict[str, Target], list[str], list[str]]:
    """Places of all arrays of a file.

    Args:
      arrays: name -> array as ``files.read_arrays`` gives them.
      backbone: "vgg16", "inception_v3", "mobilenet_v2" or "alexnet".
      layout: whose names the arrays carry.

    Returns:
      (name -> target, names that belong nowhere, names that never matter: counters of batches and
      torchvision's auxiliary classifier).
    """
    known: dict[str, Target] = {}
    unknown: list[str] = []
    dropped: list[str] = []
    modules = _keras_modules(arrays, backbone) if layout == "keras" else {}
    for name, array in arrays.items():
        if name.endswith("num_batches_tracked") or name.startswith("AuxLogits."):
            dropped.append(name)
        elif target := (
            _keras_target(name, array, modules)
            if layout == "keras"
            else _torch_target(name, array, arrays, backbone)
        ):
            known[name] = target
        else:
            unknown.append(name)
    return known, unknown, dropped


def _keras_modules(arrays: Mapping[str, np.ndarray], backbone: str) -> dict[str, Path]:
    """Keras' layer names -> modules."""
    if backbone == "alexnet":
        return {}  # Keras has none
    if backbone == "vgg16":
        return {name: (module,) for name, module in _VGG_KERAS.items()}
    if backbone == "mobilenet_v2":
        # The trunk's names are Keras' own; the first release called the classifier Logits.
        names = {name: (name,) for name in _MOBILENET_TORCH.values()}
        return {**names, "Logits": ("predictions",)}
    modules: dict[str, Path] = {"predictions": ("fc",)}
    for pattern, kind in (("conv2d", "conv"), ("batch_normalization", "bn")):
        numbered = {}
        for name in arrays:
            if found := re.fullmatch(rf"({pattern}(?:_(\d+))?)/\w+", name):
                numbered[found[1]] = int(found[2] or 0)
        # A session that had built other networks before starts at a number above 0 or 1.
        first = min(numbered.values(), default=0)
        for layer, number in numbered.items():
            if number - first < len(_INCEPTION_CONVS):
                modules[layer] = (*_INCEPTION_CONVS[number - first], kind)
    return modules


def _keras_target(name: str, array: np.ndarray, modules: Mapping[str, Path]) -> Target | None:
    layer, _, weight = name.partition("/")
    if layer not in modules or weight not in _KERAS_WEIGHTS:
        return None
    collection, leaf = _KERAS_WEIGHTS[weight]
    module = modules[layer]
    if leaf == "kernel" and module[-1].endswith("_depthwise") and array.ndim == 4:
        array = array.transpose(0, 1, 3, 2)  # (k, k, C, 1) -> (k, k, 1, C)
    return Target((collection, *module, leaf), array)


def _torch_target(
    name: str, array: np.ndarray, arrays: Mapping[str, np.ndarray], backbone: str
) -> Target | None:
    layer, _, weight = name.rpartition(".")
    if backbone == "inception_v3":
        module: Path | None = tuple(layer.split("."))
        module = module if module in _INCEPTION_LAYERS else None
    else:
        table = _TORCH[backbone]
        module = (table[layer],) if layer in table else None
    if module is None:
        return None
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
        array = _flattened_by_rows(array, arrays.get(_LAST_CONV[backbone]))
    elif array.ndim == 2:
        array = array.T
    return Target(("params", *module, "kernel"), array)


def _flattened_by_rows(array: np.ndarray, last: np.ndarray | None) -> np.ndarray:
    """VGG's and AlexNet's fc6: PyTorch flattens (C, H, W), this project (H, W, C).

    ``last`` is the kernel of the convolution before it: the number of channels.
    """
    if last is None:
        return array.T
    channels = len(last)
    side = round((array.shape[-1] / channels) ** 0.5)
    if array.ndim != 2 or channels * side**2 != array.shape[1]:
        return array.T
    return array.reshape(-1, channels, side, side).transpose(2, 3, 1, 0).reshape(-1, len(array))


_INCEPTION_LAYERS = set(layers("inception_v3"))
_TORCH = {"vgg16": _VGG_TORCH, "mobilenet_v2": _MOBILENET_TORCH, "alexnet": _ALEXNET_TORCH}
_LAST_CONV = {"vgg16": "features.28.weight", "alexnet": "features.10.weight"}
