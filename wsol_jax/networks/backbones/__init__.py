"""Trunks: images -> a dict of named endpoints, each (B, H, W, C). ``table``: what there is."""

from typing import TYPE_CHECKING

from wsol_jax.base.errors import UserError
from wsol_jax.networks.backbones.table import BACKBONES

if TYPE_CHECKING:  # configs import the table, which lies beside this, and need no Flax
    import flax.linen as nn
    import ml_collections
    from jax.typing import DTypeLike


def build(model: "ml_collections.ConfigDict", dtype: "DTypeLike | None" = None) -> "nn.Module":
    """The trunk that a config's ``model`` section describes.

    Args:
      model: fields backbone, width, output_stride, final_endpoint, batch_norm, and ``trunk``: a
        dict of further arguments of the backbone's module (VGG's ceil pooling, say).
      dtype: of the computation.

    Raises:
      UserError: an unknown backbone, or an argument that its module does not take.
    """
    if model.backbone not in BACKBONES:
        known = ", ".join(map(repr, BACKBONES))
        raise UserError(f"model.backbone: {model.backbone!r} is not one of {known}.")
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
    row = BACKBONES[model.backbone]
    module = getattr(row.load(), row.network)
    fields = module.__dataclass_fields__
    unknown = [name for name in model.trunk if name not in fields]
    if unknown:
        raise UserError(f"model.trunk: {model.backbone} takes no {unknown[0]!r}.")
    # VGG16 and AlexNet have no normalisation layers, so no batch_norm field either.
    return module(**{name: value for name, value in arguments.items() if name in fields})
