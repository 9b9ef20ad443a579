"""CAM: Learning Deep Features for Discriminative Localization (Zhou et al. 2016).

A classifier whose last layer is convolutional, followed by a global average: the class's score is
the mean of its map, so the map says where the score came from. The baseline that every other method
here starts from, and what SPG calls its plain network.
"""

from wsol_jax.base.types import Config
from wsol_jax.methods import Aux, Method, shared
from wsol_jax.methods.taps import tapper
from wsol_jax.networks import backbones


def cam(config: Config, num_classes: int) -> Method:
    """The method of Zhou et al. 2016, from a config's ``model`` section."""
    model = config.model
    scores = shared.score_kind(config)
    dtype = shared.compute_dtype(config.dtype)
    backbone = backbones.build(model, dtype)
    network = shared.TrunkAndHead(
        backbone=backbone,
        head=shared.cam_head(model, num_classes, dtype),
        endpoint=model.endpoint or model.final_endpoint,
        preprocessing=shared.preprocessing(model),
    )

    def loss(variables, batch, rng, step):
        del step
        (logits, _, _), updates = shared.forward(network, variables, batch, rng)
        ce, accuracy = shared.classification(logits, batch, scores)
        metrics = {"loss": ce, "accuracy": accuracy}
        return ce, Aux(metrics, dict(updates), {})

    def localize(variables, images):
        logits, maps, _ = network.apply(variables, images)
        return shared.localization(logits, maps, model)

    return Method(
        init=shared.initialiser(network, model),
        param_groups=shared.param_grouper(backbone, model.freeze_until),
        loss=loss,
        localize=localize,
        tap=tapper(lambda variables, images: network.apply(variables, images)[0]),
        maps_layer="head/class_maps:input",
    )
