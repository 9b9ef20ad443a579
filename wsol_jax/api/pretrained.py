"""ImageNet's own classifier, looked at as a run is: nothing is trained."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax import methods
from wsol_jax.api.configs import read_config
from wsol_jax.api.model import Model
from wsol_jax.base import commands, sharding
from wsol_jax.base.errors import UserError
from wsol_jax.base.threads import usable_cores
from wsol_jax.base.types import Config
from wsol_jax.evaluate.boxes import DEFAULT_THRESHOLD
from wsol_jax.methods import Method, Variables
from wsol_jax.networks.backbones.table import BACKBONES, with_class_maps
from wsol_jax.networks.weights.classifier import Classifier, imagenet_names, read_classifier
from wsol_jax.runs.opened import Network
from wsol_jax.runs.plan import resolve


def pretrained(
    backbone: str,
    weights: str | os.PathLike = "imagenet",
    *,
    output_stride: int = 32,
    size: int = 224,
) -> Model:
    """Opens a published ImageNet classifier: its classes, and where it sees them.

    The classifier behind the mean of the last features is linear, so it may as well stand before
    the mean, where its values are class maps (Zhou et al. 2016).

    Args:
      backbone: one that ends in a mean and one layer: mobilenet_v2, resnet50, resnet101.
      weights: its file, with the classifier; "imagenet" fetches the public one.
      output_stride: 32 is the network as it was published; 16 and 8 give finer maps.
      size: pixels a side that photos are warped to.

    Raises:
      UserError: no such backbone, no such file, or one without a classifier.
    """
    commands.no_flags()
    sharding.keep_compiled_programs()
    if backbone not in with_class_maps():
        raise UserError(f"no backbone {backbone!r}; there are {', '.join(with_class_maps())}.")
    config = _config(backbone, weights, output_stride, size)
    classifier = read_classifier(config.model.weights, backbone)
    class_names = _names(classifier.bias.shape[0])
    method = methods.build(config, len(class_names))
    variables = _variables(method, classifier, config)
    network = Network(config, method, variables, sharding.data_mesh())
    place = pathlib.Path(config.model.weights)
    return Model(network, class_names, DEFAULT_THRESHOLD, 0, place)


def _config(backbone: str, weights: str, output_stride: int, size: int) -> Config:
    words = f"backbone={backbone},weights=none,size={size},output_stride={output_stride}"
    config = read_config(f"configs/cam.py:folder,root=.,{words}")
    with config.unlocked():
        config.model.update(
            {
                "weights": str(weights),
                "final_endpoint": BACKBONES[backbone].compares,
                "freeze_until": "",
                "head_layers": 0,
                "dropout": 0.0,
                "positive_maps": True,  # what speaks against a class says nothing of where it is
            }
        )
        config.data.threads = max(config.data.threads, usable_cores())
    return resolve(config)


def _names(count: int) -> tuple[str, ...]:
    """ImageNet's, or numbers for a classifier of other classes."""
    names = imagenet_names()
    return names if count == len(names) else tuple(map(str, range(count)))


def _variables(method: Method, classifier: Classifier, config: Config) -> Variables:
    """The trunk's and the classifier's weights."""
    crop = config.data.crop
    variables = method.init(jax.random.key(0), jnp.zeros((1, crop, crop, 3), jnp.uint8))
    params = variables["params"]
    kernel = params["head"]["class_maps"]["kernel"]
    if np.shape(kernel)[-2:] != classifier.kernel.shape:
        raise UserError(
            f"{config.model.weights}: its classifier reads {classifier.kernel.shape[0]} features, "
            f"this {config.model.backbone} ends with {np.shape(kernel)[-2]}: it is another network."
        )
    own = {"kernel": classifier.kernel[None, None], "bias": classifier.bias}
    head = {**params["head"], "class_maps": jax.tree.map(jnp.asarray, own)}
    return {**variables, "params": {**params, "head": head}}
