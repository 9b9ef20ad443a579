"""RegionNet: what regions of a class have in common (MCOF, Wang et al. 2018, section 4.2).

Mask-based Fast R-CNN on superpixels. All regions of a photo are pooled from one pass of the trunk;
each learns the class that most of its pixels have in the labels at hand, however coarse these are.
What many photos agree on is learnt, what is one photo's mistake is not.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.base.types import Config
from wsol_jax.methods import Aux, LabelSpec, Method, shared
from wsol_jax.networks import backbones
from wsol_jax.networks.heads import RegionHead
from wsol_jax.ops.images import normalise
from wsol_jax.ops.regions import draw_balanced, masked_roi_max_pool, region_classes

REGIONS, CLASSES = "regions", "classes"  # labels in its batches: ids, and a class for each pixel


class RegionNetwork(nn.Module):
    """A trunk, and a classifier of regions of its features.

    Attributes:
      count: regions an image at most.
      size: bins a side that a region is pooled to.
    """

    backbone: nn.Module
    head: nn.Module
    endpoint: str
    preprocessing: str
    count: int
    size: int

    def __call__(
        self,
        images: jax.Array,
        regions: jax.Array | None = None,
        train: bool = False,
        valid: jax.Array | None = None,
        drawn: jax.Array | None = None,
    ) -> jax.Array:
        """(B, H, W, 3) in 0..255, region ids (B, n, n) -> class scores (B, S, 1 + C).

        Args:
          regions: None takes the image as one.
          drawn: (B, S) ids to classify, each once; None classifies all, S = count.
        """
        mask = None if valid is None else valid[:, None, None, None]
        x = self.backbone(normalise(images, self.preprocessing), train=train, mask=mask)
        count = self.count if drawn is None else drawn.shape[1]
        if regions is None:
            regions = jnp.zeros(x[self.endpoint].shape[:3], jnp.int32)
        elif drawn is not None:
            regions = jax.vmap(functools.partial(_renumbered, count=self.count))(regions, drawn)
        pool = functools.partial(masked_roi_max_pool, count=count, size=self.size)
        pooled = jax.vmap(pool)(x[self.endpoint], regions)
        scores = self.head(pooled.reshape(-1, *pooled.shape[2:]), train=train)
        return scores.reshape(len(images), count, -1)


def region_net(config: Config, num_classes: int) -> Method:
    """RegionNet from the sections ``model`` and ``region_net``.

    Loss (eq. 1, the mean for the sum): cross-entropy of ``region_net.drawn`` regions an image,
    those of each of its classes and of background alike.
    """
    model, options = config.model, config.region_net
    dtype = shared.compute_dtype(config.dtype)
    backbone = backbones.build(model, dtype)
    network = RegionNetwork(
        backbone=backbone,
        head=RegionHead(1 + num_classes, options.channels, options.dropout, dtype),
        endpoint=model.endpoint or model.final_endpoint,
        preprocessing=shared.preprocessing(model),
        count=options.regions,
        size=options.size,
    )
    majority = functools.partial(region_classes, count=options.regions, num_classes=1 + num_classes)

    def loss(variables, batch, rng, step):
        del step
        draws, dropout = jax.random.split(rng)
        classes = jax.vmap(majority)(batch[REGIONS], batch[CLASSES])
        keys = jax.random.split(draws, len(classes))
        draw = functools.partial(draw_balanced, size=options.drawn)
        drawn, real = jax.vmap(draw)(keys, classes)
        targets = jnp.where(real, jnp.take_along_axis(classes, drawn, axis=1), 0)
        given = dict(regions=batch[REGIONS], drawn=jnp.where(real, drawn, options.regions))
        scores, updates = shared.forward(network, variables, batch, dropout, **given)
        counted = real & batch["valid"][:, None]
        number = jnp.maximum(jnp.sum(counted), 1)
        nats = optax.softmax_cross_entropy_with_integer_labels(scores, targets)
        right = jnp.argmax(scores, axis=-1) == targets
        total = jnp.sum(nats, where=counted) / number
        metrics = {
            "loss": total,
            "accuracy": jnp.sum(right, where=counted) / number,
            "foreground": jnp.sum(targets > 0, where=counted) / number,
        }
        return total, Aux(metrics, dict(updates), {})

    def localize(variables, images):
        raise UserError(
            "region_net: RegionNet classifies regions that it is given, and is not scored by "
            "itself; --config.eval.labels=True scores what it says of the training list's."
        )

    def infer(variables, batch):
        scores = network.apply(variables, batch["image"], batch[REGIONS])
        return {"probabilities": jax.nn.softmax(scores)}

    cells = (options.cells, options.cells)
    return Method(
        init=shared.initialiser(network, model, dense=("head",)),
        param_groups=shared.param_grouper(backbone, model.freeze_until),
        loss=loss,
        localize=localize,
        wants={
            REGIONS: LabelSpec(cells, np.int32, -1),
            CLASSES: LabelSpec(cells, np.uint8, UNLABELLED),
        },
        infer=infer,
    )


def _renumbered(regions: jax.Array, drawn: jax.Array, count: int) -> jax.Array:
    """Region ids as places in ``drawn``; len(drawn) where that does not name them.

    ``drawn``: ids of ``count`` or more name none.
    """
    places = jnp.full(count + 1, len(drawn), jnp.int32)
    places = places.at[drawn].set(jnp.arange(len(drawn), dtype=jnp.int32), mode="drop")
    places = places.at[count].set(len(drawn))
    return places[jnp.where((regions >= 0) & (regions < count), regions, count)]
