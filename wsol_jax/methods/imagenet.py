"""A trunk with its publisher's own ImageNet classifier: class maps of 1,000 classes.

The classifier is linear and stands behind the mean of the trunk's last features; before it, it
gives class maps (Zhou et al. 2016), whose mean is the class score.
"""

import pathlib

import jax
import jax.numpy as jnp

from wsol_jax.methods import Localization, Method, Trained, shared
from wsol_jax.methods.taps import tapper
from wsol_jax.networks import weights
from wsol_jax.networks.backbones.table import BACKBONES
from wsol_jax.networks.heads import CamHead
from wsol_jax.networks.weights.classifier import read_classifier

_WHOLE = {"inception_v3": {"geometry": "standard", "final_endpoint": "Mixed_7c"}}


def pretrained(
    backbone: str,
    path: str | pathlib.Path,
    *,
    output_stride: int = 16,
    dtype: str = "auto",
    size: int = 224,
    positive: bool = False,
) -> Trained:
    """Builds a published network to localize and to explain.

    Args:
      backbone: "mobilenet_v2", "resnet50", "resnet101" or "inception_v3".
      path: its weight file, classifier included.
      output_stride: pixels a cell of the class maps; below 32 the others are dilated, and
        Inception-v3 is not, so that its features differ.
      dtype: as a config's.
      size: of the images that shapes are found by; any other works too.
      positive: whether the class maps are clipped at zero, as those of Grad-CAM are.

    Raises:
      UserError: as ``read_classifier`` and ``weights.load_pretrained`` do.
    """
    arrays = weights.read(path, backbone)
    kernel, bias = read_classifier(path, backbone, arrays)
    known = weights.conventions(path, backbone)
    row = BACKBONES[backbone]
    # The trunk up to the classifier, which may be longer than the one that methods take.
    fields = {"final_endpoint": row.model["final_endpoint"], **_WHOLE.get(backbone, {})}
    fields |= {"output_stride": output_stride, **known.fields}
    module = getattr(row.load(), row.network)
    trunk = module(dtype=shared.compute_dtype(dtype), **fields)
    network = shared.TrunkAndHead(
        backbone=trunk,
        head=CamHead(len(bias), layers=0, dtype=shared.compute_dtype(dtype)),
        endpoint=fields["final_endpoint"],
        preprocessing=known.preprocessing,
    )
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    own = {kind: tree["backbone"] for kind, tree in shapes.items() if "backbone" in tree}
    own = weights.load_pretrained(path, trunk, own, arrays)
    variables = {kind: {"backbone": tree} for kind, tree in own.items()}
    head = {"kernel": jnp.asarray(kernel)[None, None], "bias": jnp.asarray(bias)}
    variables["params"]["head"] = {"class_maps": head}
    return Trained(_method(network, positive), variables)


def _method(network: shared.TrunkAndHead, positive: bool) -> Method:
    def localize(variables, images):
        logits, maps, _ = network.apply(variables, images)
        return Localization(logits, jax.nn.relu(maps) if positive else maps)

    def refuse(*_):
        raise NotImplementedError("a published network is not trained on here")

    return Method(
        init=refuse,
        param_groups=refuse,
        loss=refuse,
        localize=localize,
        tap=tapper(lambda variables, images: network.apply(variables, images)[0]),
        maps_layer="head/class_maps:input",
    )
