"""CCNN, constrained networks (Pathak et al. 2015), with two-phase learning's heat maps.

Image labels say that a class fills some of the image, that background fills some but not all, and
that the others fill nothing. Among all distributions over classes and cells that agree with this,
the one nearest to what the segmenter says is what it learns next. Two-phase learning (Kim et al.
2017, section 4.6) adds what its class maps say: the cells near a map's maximum are that class's,
most of them.

These cells are a label stage's (``cues``), one class a cell in ``batch["cues"]``.
"""

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.base.types import Config
from wsol_jax.losses.ccnn import latent_distribution, latent_divergence
from wsol_jax.losses.classification import masked_mean
from wsol_jax.methods import Aux, Labeller, LabelSpec, Method, fov, shared
from wsol_jax.methods.confident import confident_cells
from wsol_jax.ops.cues import nearest_cells


def ccnn(config: Config, num_classes: int) -> Method:
    """The method of Pathak et al. 2015, from the sections ``model`` and ``ccnn``.

    Loss: the divergence from the latent distribution, mean over the images; ``ccnn.cued`` at 0
    leaves the heat maps out.

    Raises:
      UserError: bounds that are no (least, most).
    """
    options = config.ccnn
    _check(options)
    segmenter = fov.build(config, options, num_classes, window=options.window)
    bounds = {name: options[name] for name in ("foreground", "background", "cued", "slack")}

    def loss(variables, batch, rng, step):
        del step
        (scores, _), updates = shared.forward(segmenter.network, variables, batch, rng)
        shown = jnp.pad(batch["labels"], ((0, 0), (1, 0)), constant_values=1)
        cues = None
        if options.cued:
            cells = nearest_cells(batch["cues"], scores.shape[1:3])
            cues = jax.nn.one_hot(cells, 1 + num_classes)  # of UNLABELLED: zeros
        latent = latent_distribution(scores, shown, cues, iterations=options.iterations, **bounds)
        total = masked_mean(latent_divergence(scores, latent), batch["valid"])
        foreground = lambda probs: masked_mean(
            1 - jnp.mean(probs[..., 0], axis=(1, 2)), batch["valid"]
        )
        metrics = {
            "loss": total,
            "foreground": foreground(jax.nn.softmax(scores)),
            "latent_foreground": foreground(latent),
        }
        return total, Aux(metrics, dict(updates), {})

    cells = LabelSpec((options.cells, options.cells), np.uint8, UNLABELLED)
    return Method(
        init=segmenter.init,
        param_groups=segmenter.param_groups,
        loss=loss,
        localize=segmenter.localize,
        wants={"cues": cells} if options.cued else {},
        tap=segmenter.tap,
        maps_layer="head/fc8:input",
    )


def _check(options: Config) -> None:
    for name in ("foreground", "background"):
        bounds = tuple(options[name])
        if len(bounds) != 2 or bounds[0] > bounds[1]:
            raise UserError(f"ccnn.{name}: expected (least, most), got {bounds}.")


def cues(config: Config, num_classes: int) -> Labeller:
    """The cells that the class maps are sure of, by SEC's rule (Kim et al. 2017, section 4.2)."""
    return confident_cells(config, num_classes)
