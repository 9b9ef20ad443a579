"""The seam between a paper and the rest of the house: four pure functions."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Labels, Tree

Variables = Tree
Batch = Mapping[str, jax.Array]


class Segmentation(NamedTuple):
    """A segmentation where class maps could stand: what it is scored as, its type says.

    Attributes:
      probabilities: (B, h, w, C) float32 of each class in each cell; with background's they sum
        to 1.
    """

    probabilities: jax.Array


Maps = jax.Array | Segmentation


class Localization(NamedTuple):
    """What a network says of a batch of images.

    Attributes:
      logits: (B, C) float32, class scores before softmax.
      maps: (B, h, w, C) float32, raw class maps of any range, more is more object; or a
        ``Segmentation``.
      parts: what is scored beside the whole, by name, each like ``maps``: what they are put
        together from, as a rule.
    """

    logits: jax.Array
    maps: Maps
    parts: Mapping[str, Maps] = {}  # a pytree, so no read-only view


class Aux(NamedTuple):
    """What a loss gives beside its value.

    Attributes:
      metrics: name -> scalar, means over the batch, for the log.
      collections: updated variable collections, e.g. {"batch_stats": ...}; {} for none.
      pictures: name -> (B, H, W): float maps in [0, 1] or uint8 seed masks, for the report.
    """

    metrics: dict[str, jax.Array]
    collections: dict[str, Tree]
    pictures: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Method:
    """A paper as pure functions; the loop, the checkpoints and the report know nothing else.

    Attributes:
      init: (rng, images) -> variables, pretrained weights merged in. What an earlier stage makes
        stands under that stage's name; the stage's checkpoint replaces it (``wsol_jax.stages``).
      param_groups: params -> a tree of labels like params: "<part>/<kind>" with part "frozen"
        or one that has a learning rate ``optimizer.<part>_lr`` ("backbone", "head";
        SPG's "branch", "guide"), and kind "kernel", "bias" or "norm". The optimizer reads them.
      loss: (variables, batch, rng, step) -> (loss, Aux). Batch: "image" (B, H, W, 3) uint8,
        "labels" (B, C) multi-hot, "valid" (B,) bool, False at padded examples; with ``data.cues``
        "cues" (B, n, n) uint8 of 0 background, 1 + c class c, 255 unlabelled.
      localize: (variables, images uint8) -> Localization. No randomness, no guidance branches.
      saliency: (variables, images uint8, layer) -> (B, h, w), how much each cell of a layer moves
        the class scores (``methods.saliency``); None where there is no such thing.
    """

    init: Callable[[jax.Array, jax.Array], Variables]
    param_groups: Callable[[Tree], Labels]
    loss: Callable[[Variables, Batch, jax.Array, jax.Array], tuple[jax.Array, Aux]]
    localize: Callable[[Variables, jax.Array], Localization]
    saliency: Callable[[Variables, jax.Array, str], jax.Array] | None = None


def build(config: Any, num_classes: int) -> Method:
    """The method that ``config.method`` names: the function of that name in the file of that name.

    Raises:
      UserError: there is no such file in methods/.
    """
    name = config.method
    if not name.isidentifier() or importlib.util.find_spec(f"{__name__}.{name}") is None:
        raise UserError(f"method: no file wsol_jax/methods/{name}.py.")
    method = getattr(importlib.import_module(f"{__name__}.{name}"), name, None)
    if method is None:
        raise UserError(f"method: wsol_jax/methods/{name}.py is no method's file.")
    return method(config, num_classes)
