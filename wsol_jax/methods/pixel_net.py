"""PixelNet: DeepLab-LargeFOV on masks as if people had drawn them (MCOF, Wang et al. 2018, sec. 5).

The masks name no class that the image does not have, so the loss needs no image labels and the
network may be any that full supervision knows.
"""

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.base.labels import UNLABELLED
from wsol_jax.base.types import Config
from wsol_jax.losses.pixels import labelled_cross_entropy
from wsol_jax.methods import Aux, LabelSpec, Method, fov, shared

MASKS = "masks"  # labels in its batches: a class for each cell


def pixel_net(config: Config, num_classes: int) -> Method:
    """PixelNet from the sections ``model`` and ``pixel_net``.

    Loss (eq. 3): cross-entropy, the mean over all labelled cells of the batch.
    """
    options = config.pixel_net
    segmenter = fov.build(config, options, num_classes)

    def loss(variables, batch, rng, step):
        del step
        (scores, _), updates = shared.forward(segmenter.network, variables, batch, rng)
        masks = jnp.where(batch["valid"][:, None, None], batch[MASKS], UNLABELLED)
        size = masks.shape[1:3]
        if scores.shape[1:3] != size:
            shape = (len(scores), *size, scores.shape[-1])
            scores = jax.image.resize(scores, shape, "bilinear", antialias=False)
        sums, counts = labelled_cross_entropy(scores, masks)
        number = jnp.maximum(jnp.sum(counts), 1)
        total = jnp.sum(sums) / number
        known = masks != UNLABELLED
        right = jnp.sum(known & (jnp.argmax(scores, axis=-1) == masks)) / number
        foreground = jnp.sum(known & (masks > 0)) / number
        metrics = {"loss": total, "accuracy": right, "foreground": foreground}
        return total, Aux(metrics, dict(updates), {})

    return Method(
        init=segmenter.init,
        param_groups=segmenter.param_groups,
        loss=loss,
        localize=segmenter.localize,
        wants={MASKS: LabelSpec((options.cells, options.cells), np.uint8, UNLABELLED)},
        tap=segmenter.tap,
        maps_layer="head/fc8:input",
    )
