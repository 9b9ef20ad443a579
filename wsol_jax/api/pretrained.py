"""ImageNet's own classifier, looked at as a run is: nothing is trained."""

import os

from absl import logging

from wsol_jax.api.configs import read_config
from wsol_jax.api.model import Model
from wsol_jax.base import commands, fetched, sharding
from wsol_jax.base.errors import UserError
from wsol_jax.base.threads import usable_cores
from wsol_jax.evaluate.boxes import DEFAULT_THRESHOLD
from wsol_jax.methods import imagenet, shared
from wsol_jax.networks.weights import conventions
from wsol_jax.networks.weights.classifier import imagenet_names
from wsol_jax.networks.weights.published import ensure_weights
from wsol_jax.runs.opened import Network

_ENDS_IN_A_MEAN = ("mobilenet_v2", "resnet50", "resnet101", "inception_v3")
_KNOWN = ", ".join(_ENDS_IN_A_MEAN)
_FETCHED = ("mobilenet_v2",)


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
      weights: its file, with the classifier; "imagenet" fetches the public one of mobilenet_v2.
      output_stride: 32 is the network as it was published; 16 and 8 give finer maps.
      size: pixels a side that photos are warped to.
      dtype: "float32", "bfloat16", or "auto".

    Raises:
      UserError: no such backbone, no such file, or one without a classifier.
    """
    commands.no_flags()
    sharding.keep_compiled_programs()
    if backbone not in _ENDS_IN_A_MEAN:
        raise UserError(f"no backbone {backbone!r} that ends in a mean and one layer: {_KNOWN}.")
    if weights == "imagenet" and backbone not in _FETCHED:
        raise UserError(
            f"weights: the public file of {backbone} that is fetched has no classifier; name one "
            "with it, such as torchvision's as .safetensors."
        )
    given = weights != "imagenet"
    file = fetched.local(weights, f"weights={weights}") if given else ensure_weights(backbone)
    options = {"output_stride": output_stride, "dtype": dtype, "size": size, "positive": True}
    trained = imagenet.pretrained(backbone, file, **options)
    words = f"configs/cam.py:folder,root=.,backbone={backbone},weights=none"
    config = read_config(words, own=True)
    with config.unlocked():
        config.data.crop, config.eval.threshold = size, DEFAULT_THRESHOLD
        config.dtype = shared.compute_dtype(dtype).name  # what an export says of it
        config.model.preprocessing = conventions(file, backbone).preprocessing
        config.data.threads = max(config.data.threads, usable_cores())
    count = len(trained.variables["params"]["head"]["class_maps"]["bias"])
    mesh = sharding.data_mesh()
    variables = sharding.replicate(trained.variables, mesh)
    network, names = Network(config, trained.method, variables, mesh), _names(count)
    return Model(network, names, DEFAULT_THRESHOLD, 0, file)


def _names(count: int) -> tuple[str, ...]:
    """ImageNet's, or numbers: of other classes, or where nobody has its names."""
    numbers = tuple(map(str, range(count)))
    try:
        names = imagenet_names() if count == 1000 else numbers
    except UserError as error:
        logging.warning("%s", error)
        return numbers
    return names
