"""ImageNet's own classifier, looked at as a run is: nothing is trained."""

import os
import pathlib

from wsol_jax.api.configs import read_config
from wsol_jax.api.model import Model
from wsol_jax.base import commands, sharding
from wsol_jax.base.errors import UserError
from wsol_jax.base.threads import usable_cores
from wsol_jax.evaluate.boxes import DEFAULT_THRESHOLD
from wsol_jax.methods import imagenet
from wsol_jax.networks.backbones.table import with_class_maps
from wsol_jax.networks.weights.classifier import imagenet_names
from wsol_jax.networks.weights.published import ensure_weights
from wsol_jax.runs.opened import Network


def pretrained(
    backbone: str,
    weights: str | os.PathLike = "imagenet",
    *,
    output_stride: int = 32,
    size: int = 224,
    dtype: str = "auto",
) -> Model:
    """Opens a published ImageNet classifier: its classes, and where it sees them.

    Args:
      backbone: one that ends in a mean and one layer: mobilenet_v2, resnet50, resnet101,
        inception_v3.
      weights: its file, with the classifier; "imagenet" fetches the public one.
      output_stride: 32 is the network as it was published; 16 and 8 give finer maps.
      size: pixels a side that photos are warped to.
      dtype: "float32", "bfloat16", or "auto".

    Raises:
      UserError: no such backbone, no such file, or one without a classifier.
    """
    commands.no_flags()
    sharding.keep_compiled_programs()
    if backbone not in with_class_maps():
        raise UserError(f"no backbone {backbone!r}; there are {', '.join(with_class_maps())}.")
    file = ensure_weights(backbone) if weights == "imagenet" else pathlib.Path(weights)
    options = {"output_stride": output_stride, "dtype": dtype, "size": size, "positive": True}
    trained = imagenet.pretrained(backbone, file, **options)
    config = read_config(f"configs/cam.py:folder,root=.,backbone={backbone},weights=none")
    with config.unlocked():
        config.data.crop, config.eval.threshold = size, DEFAULT_THRESHOLD
        config.data.threads = max(config.data.threads, usable_cores())
    names = imagenet_names()
    count = len(trained.variables["params"]["head"]["class_maps"]["bias"])
    if count != len(names):  # a classifier of other classes
        names = tuple(map(str, range(count)))
    network = Network(config, trained.method, trained.variables, sharding.data_mesh())
    return Model(network, names, DEFAULT_THRESHOLD, 0, file)
