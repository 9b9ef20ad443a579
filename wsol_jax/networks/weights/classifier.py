"""ImageNet's classifier from a published weight file: the linear layer behind the trunk's mean."""

import importlib.util
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.networks import weights
from wsol_jax.networks.backbones.table import BACKBONES
from wsol_jax.networks.weights import files, names

# TensorFlow Datasets, which draws the embedded data, has ImageNet's names in one of its files.
_NAMES = "datasets/siscore/labels.py"


class Classifier(NamedTuple):
    """A linear layer on the mean of a trunk's last features: its weights are those of class maps.

    Attributes:
      kernel: (D, C) float32.
      bias: (C,) float32.
    """

    kernel: np.ndarray
    bias: np.ndarray


def read_classifier(
    path: str | pathlib.Path, backbone: str, arrays: Mapping[str, np.ndarray] | None = None
) -> Classifier:
    """Reads the classifier of a backbone's weight file.

    Args:
      path: a file as ``weights.load_pretrained`` reads it.
      backbone: a name of ``backbones.table``, of a network that ends in a mean and one layer:
        MobileNetV2, the ResNets, Inception-v3.
      arrays: what ``weights.read`` gives of the file, where that is at hand.

    Raises:
      UserError: as ``weights.read`` does; a network of several such layers (VGG16, AlexNet), a file
        without ("notop"), or arrays of other shapes, or of no finite numbers.
    """
    if backbone not in BACKBONES:
        raise UserError(f"no backbone {backbone!r}; there are {', '.join(BACKBONES)}.")
    published = BACKBONES[backbone].published()
    last = published.layers[-1]
    if last == ("fc8",):
        raise UserError(
            f"{backbone} has three fully connected layers behind its features, which give no class "
            "maps: take mobilenet_v2, a ResNet or inception_v3."
        )
    arrays = weights.read(path, backbone) if arrays is None else arrays
    known, _, _ = names.targets(arrays, published, files.layout_of(arrays))
    found = {place[-1]: array for place, array in known.values() if place[1:-1] == last}
    if not {"kernel", "bias"} <= set(found):
        raise UserError(
            f"{path}: it holds no classifier ({'/'.join(last)}), only the layers before it: take "
            "the publisher's file with the top."
        )
    kernel, bias = found["kernel"], found["bias"]
    kernel = kernel.reshape(kernel.shape[-2:]) if kernel.shape[:-2] == (1, 1) else kernel
    if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
        raise UserError(
            f"{path}: its classifier has shapes {kernel.shape} and {bias.shape}, expected "
            "(features, classes) and (classes,)."
        )
    for array in (kernel, bias):
        if array.dtype.kind != "f" or not np.isfinite(array.astype(np.float32)).all():
            raise UserError(f"{path}: its classifier holds what are no finite numbers.")
    return Classifier(kernel.astype(np.float32), bias.astype(np.float32))


def imagenet_names() -> tuple[str, ...]:
    """ImageNet's 1,000 class names in the order of its classifiers, each once: "tench", ...

    The first of a class's words, or the next where an earlier class has that ("crane" is a bird
    and a machine). Read from TensorFlow Datasets, without importing it.

    Raises:
      UserError: the installed version has no such list.
    """
    package = importlib.util.find_spec("tensorflow_datasets")
    where = list(package.submodule_search_locations or ()) if package else []
    path = pathlib.Path(where[0]) / _NAMES if where else None
    if path is None or not path.is_file():
        raise UserError(
            f"ImageNet's class names are read from tensorflow_datasets/{_NAMES}, which this "
            "version has not; the network's classes keep their numbers."
        )
    spec = importlib.util.spec_from_file_location("wsol_jax_imagenet_labels", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    listed = module.IMAGENET_LABELS_LIST
    found: dict[str, int] = {}
    for number, words in enumerate(listed):
        options = [word.strip() for word in words.split(",")]
        free = [word for word in options if word and word not in found]
        found[free[0] if free else f"{options[0]} {number}"] = number
    return tuple(found)
