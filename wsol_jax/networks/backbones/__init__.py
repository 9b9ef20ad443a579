"""Trunks: images -> a dict of named endpoints, each (B, H, W, C)."""

from typing import Any

import flax.linen as nn

from wsol_jax.base.errors import UserError


def build(model: Any, dtype: Any = None) -> nn.Module:
    """The trunk that a config's ``model`` section describes.

    Args:
      model: fields backbone, width, output_stride, final_endpoint, batch_norm, and ``trunk``: a
        dict of further arguments of the backbone's module (VGG's ceil pooling, say).
      dtype: of the computation.

    Raises:
      UserError: an unknown backbone, or an argument that its module does not take.
    """
    # Imported here, so that a run loads the one module that it uses.
    match model.backbone:
        case "mobilenet_v2":
            from wsol_jax.networks.backbones.mobilenet import MobileNetV2 as Module
        case "vgg16":
            from wsol_jax.networks.backbones.vgg import VGG16 as Module
        case "inception_v3":
            from wsol_jax.networks.backbones.inception import InceptionV3 as Module
        case "alexnet":
            from wsol_jax.networks.backbones.alexnet import AlexNet as Module
        case other:
            raise UserError(
                f"model.backbone: {other!r} is not one of 'vgg16', 'inception_v3', 'mobilenet_v2', "
                "'alexnet'."
            )
    if model.batch_norm not in ("inference", "batch"):
        raise UserError(
            f"model.batch_norm: {model.batch_norm!r} is not one of 'inference', 'batch'."
        )
    arguments = dict(
        width=model.width,
        output_stride=model.output_stride,
        final_endpoint=model.final_endpoint,
        batch_norm=model.batch_norm,
        dtype=dtype,
        **model.trunk,
    )
    fields = Module.__dataclass_fields__
    unknown = [name for name in model.trunk if name not in fields]
    if unknown:
        raise UserError(f"model.trunk: {model.backbone} takes no {unknown[0]!r}.")
    # VGG16 and AlexNet have no normalisation layers, so no batch_norm field either.
    return Module(**{name: value for name, value in arguments.items() if name in fields})
