"""The labeller of SEC and of two-phase learning: cells whose class a network's maps are sure of."""

import functools

import jax
import jax.numpy as jnp

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.data.label_formats import cells
from wsol_jax.data.pipeline import eval_size
from wsol_jax.methods import Labeller, Trained, plain_maps, shared
from wsol_jax.methods.taps import gradient_saliency
from wsol_jax.ops import cues as ops


def confident_cells(config: Config, num_classes: int) -> Labeller:
    """Localization cues (Kolesnikov and Lampert 2016, section 3.1) from the section ``cues``.

    Foreground where the class maps of the network of stage ``cues.maps`` come near their maximum,
    background where the gradients of that of ``cues.saliency`` are least; with
    ``cues.background`` at 0 there is none.

    Raises:
      UserError: a field that no cues can be made by.
    """
    options = config.cues
    _check(options, num_classes)
    side = options.size

    def make(networks, batch):
        images = batch["image"]
        at_size = functools.partial(jax.image.resize, method="bilinear", antialias=False)
        maps = plain_maps(networks["maps"].localize(images).maps)
        maps = at_size(maps, (len(maps), side, side, maps.shape[-1]))
        background = jnp.zeros(maps.shape[:3], bool)
        if options.background:
            salient = _saliency(networks["saliency"], images, options.layer)
            salient = at_size(salient, (len(salient), side, side)).astype(jnp.float32)
            background = ops.background_cue(salient, options.background, options.strict)
        foreground = ops.foreground_cues(maps, batch["labels"], options.foreground)
        return {"cues": ops.resolve_cues(foreground, background)}

    return Labeller(
        reads={"maps": options.maps, "saliency": options.saliency},
        products={"cues": cells(side)},
        make=make,
        settings=[*_settings(options), eval_size(config)],
    )


def _settings(options: Config) -> list[tuple[str, object]]:
    """The fields that the cues depend on; those of a time before ``strict`` are still theirs."""
    return [(name, value) for name, value in options.items() if name != "strict" or value]


def _saliency(network: Trained, images: jax.Array, layer: str) -> jax.Array:
    if network.method.tap is None:
        raise UserError("cues.saliency: that stage's method has no gradient saliency.")
    try:
        return gradient_saliency(network, images, layer)
    except UserError as error:
        raise UserError(f"cues.layer: {error}") from None


def _check(options: Config, num_classes: int) -> None:
    shared.check_classes(num_classes, "cues")
    if options.background and not options.layer:
        raise UserError("cues.layer is empty: name the layer whose gradients give the background.")
