"""CAM: Learning Deep Features for Discriminative Localization (Zhou et al. 2016).

A classifier whose last layer is convolutional, followed by a global average: the class's score is
the mean of its map, so the map says where the score came from. The baseline that every other method
here starts from, and what SPG calls its plain network.
"""

from typing import Any

import flax.linen as nn
import jax

from wsol_jax import backbones
from wsol_jax.methods import Aux, Method, networks
from wsol_jax.methods.saliency import gradient_saliency
from wsol_jax.ops.images import normalise


class CamNetwork(nn.Module):
    """A trunk and a class-map head on one of its endpoints."""

    backbone: nn.Module
    head: nn.Module
    endpoint: str
    preprocessing: str

    def __call__(self, images: jax.Array, train: bool = False, valid: jax.Array | None = None):
        """(B, H, W, 3) in 0..255 -> logits (B, C), maps (B, h, w, C), features."""
        mask = None if valid is None else valid[:, None, None, None]
        x = normalise(images, self.preprocessing)
        endpoints = self.backbone(x, train=train, mask=mask)
        return self.head(endpoints[self.endpoint], train=train)


def cam(config: Any, num_classes: int) -> Method:
    """The method of Zhou et al. 2016, from a config's ``model`` section."""
    model = config.model
    scores = networks.score_kind(config)
    dtype = networks.compute_dtype(config.dtype)
    backbone = backbones.build(model, dtype)
    network = CamNetwork(
        backbone=backbone,
        head=networks.cam_head(model, num_classes, dtype),
        endpoint=model.endpoint or model.final_endpoint,
        preprocessing=networks.preprocessing(model),
    )

    def loss(variables, batch, rng, step):
        del step
        (logits, _, _), updates = networks.forward(network, variables, batch, rng)
        ce, accuracy = networks.classification(logits, batch, scores)
        metrics = {"loss": ce, "accuracy": accuracy}
        return ce, Aux(metrics, dict(updates), {})

    def localize(variables, images):
        logits, maps, _ = network.apply(variables, images)
        return networks.localization(logits, maps, model)

    return Method(
        init=networks.initialiser(network, model),
        param_groups=networks.param_grouper(backbone, model.freeze_until),
        loss=loss,
        localize=localize,
        saliency=lambda variables, images, layer: gradient_saliency(
            network, layer, variables, images
        ),
    )
