"""SEC: Seed, Expand and Constrain (Kolesnikov and Lampert 2016); two-phase learning's segmenter.

A classifier's maps are sure of a few pixels: those seed a segmentation network. Each class that the
image shows must fill a fair part of it and the others nothing: the seeds expand. And what the
network says must agree with a dense CRF over the photo's own edges, computed inside the step: that
constrains it. Two-phase learning (Kim et al. 2017, section 4) takes better seeds and the first and
last of the three.

The seeds are a label stage's (``cues``), one class a cell in ``batch["cues"]``.
"""

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.base.types import Config
from wsol_jax.losses import sec as losses
from wsol_jax.losses.classification import masked_mean
from wsol_jax.methods import Aux, Labeller, LabelSpec, Method, fov, shared
from wsol_jax.methods.confident import confident_cells
from wsol_jax.ops.crf import CrfSettings
from wsol_jax.ops.cues import nearest_cells


def sec(config: Config, num_classes: int) -> Method:
    """The method of Kolesnikov and Lampert 2016, from the sections ``model`` and ``sec``.

    Loss: seed + expand + constrain, weighted by ``sec.seed``, ``sec.expand``, ``sec.constrain``;
    one of weight 0 is not computed.
    """
    options = config.sec
    _check(config)
    crf = CrfSettings.of(options, "sec", "exact")
    segmenter = fov.build(config, options, num_classes)

    def loss(variables, batch, rng, step):
        del step
        (scores, _), updates = shared.forward(segmenter.network, variables, batch, rng)
        probs = losses.segmenter_probabilities(scores, options.floor)
        shown = jnp.pad(batch["labels"], ((0, 0), (1, 0)), constant_values=1)
        cues = nearest_cells(batch["cues"], probs.shape[1:3])
        parts = {}
        if options.seed:
            one_hot = jax.nn.one_hot(cues, 1 + num_classes)  # of UNLABELLED: zeros
            parts["seed"] = losses.seed_loss(probs, one_hot)
        if options.expand:
            decays = dict(foreground=options.foreground, background=options.background)
            parts["expand"] = losses.expand_loss(probs, shown, **decays)
        if options.constrain:
            target = shared.crf_target(scores, batch["image"], crf, options.floor)
            parts["constrain"] = losses.constrain_loss(probs, target)
        metrics = {name: masked_mean(x, batch["valid"]) for name, x in parts.items()}
        total = sum(options[name] * value for name, value in metrics.items())
        return total, Aux({"loss": total, **metrics}, dict(updates), {})

    return Method(
        init=segmenter.init,
        param_groups=segmenter.param_groups,
        loss=loss,
        localize=segmenter.localize,
        wants={"cues": LabelSpec((options.cells, options.cells), np.uint8, UNLABELLED)},
        tap=segmenter.tap,
        maps_layer="head/fc8:input",
    )


def cues(config: Config, num_classes: int) -> Labeller:
    """SEC's localization cues (section 3.1), from the section ``cues``."""
    return confident_cells(config, num_classes)


def _check(config: Config) -> None:
    options = config.sec
    if not any((options.seed, options.expand, options.constrain)):
        raise UserError("sec.seed, sec.expand, sec.constrain: expected one above 0, got 0 for all.")
