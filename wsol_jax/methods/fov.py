"""DeepLab-LargeFOV on a trunk: the segmentation network of SEC, two-phase learning and MCOF."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsol_jax.base.types import Config, Groups, Tree
from wsol_jax.methods import Localization, Segmentation, Tap, Variables, shared
from wsol_jax.methods.taps import tapper
from wsol_jax.networks import backbones


class Fov(NamedTuple):
    """The network, and what of a ``Method`` follows from it."""

    network: nn.Module
    init: Callable[[jax.Array, jax.Array], Variables]
    param_groups: Callable[[Tree], Groups]
    localize: Callable[[Variables, jax.Array], Localization]
    tap: Tap


def build(config: Config, options: Config, num_classes: int, window: int = 3) -> Fov:
    """The segmenter that the sections ``model`` and ``options`` describe.

    ``options``: the method's own section, with the fields of ``shared.fov_head``; ``window``: a
    side of fc6's kernel. fc8 learns at ``optimizer.classifier_lr``.
    """
    model, dtype = config.model, shared.compute_dtype(config.dtype)
    backbone = backbones.build(model, dtype)
    network = shared.TrunkAndHead(
        backbone=backbone,
        head=shared.fov_head(options, num_classes, dtype, window=window),
        endpoint=model.endpoint or model.final_endpoint,
        preprocessing=shared.preprocessing(model),
    )

    def localize(variables: Variables, images: jax.Array) -> Localization:
        scores, _ = network.apply(variables, images)
        probs = jax.nn.softmax(scores)[..., 1:]
        # A sigmoid of these is the class's surest pixel.
        peak = jnp.clip(jnp.max(probs, axis=(1, 2)), 1e-7, 1 - 1e-7)
        return Localization(jnp.log(peak) - jnp.log1p(-peak), Segmentation(probs))

    return Fov(
        network=network,
        init=shared.initialiser(network, model, dense=("head",)),
        param_groups=shared.param_grouper(
            backbone,
            model.freeze_until,
            lambda names: "classifier" if names[1] == "fc8" else "head",
        ),
        localize=localize,
        tap=tapper(lambda variables, images: localize(variables, images).logits),
    )
