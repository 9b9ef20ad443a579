"""MCOF (Wang et al. 2018): mining common object features, round after round.

    python -m wsol_jax.main --config=configs/mcof.py:embedded --workdir=runs/mcof_embedded
    python -m wsol_jax.main --config=configs/mcof.py:voc,root=VOC2012,backbone=mobilenet_v2 \
        --workdir=runs/mcof
    python -m wsol_jax.main --config=configs/mcof.py:voc,root=VOC2012,rounds=5 --workdir=W

A run in stages: ``superpixels`` and ``saliency`` of the photos, ``first`` trains a classifier,
``seeds`` cuts its maps by superpixels; then in each round k ``region_k`` trains RegionNet,
``objects_k`` writes what it says, ``refined_1`` completes that by saliency in the first round,
``pixel_k`` trains PixelNet, ``masks_k`` writes its masks, the next round's seeds; ``evaluate``
scores every round's PixelNet, and every stage's labels on the training list: the paper's table 3.

``rounds=N`` after the data set. ``variant=without_saliency`` (table 4), ``direct`` (figure 8:
PixelNet on its own masks, no RegionNet after the first round), ``one_round``.
``warm_start=false``: every network begins anew. ``saliency=FOLDER``: grey PNGs of any saliency
method, by image id. ``settled=0.01``: no further round once fewer of the training pixels change
their class. ``epochs``, ``batch`` and ``lr`` are the classifier's; the others' are
``--config.stage.region_1.train.epochs=`` and so on. docs/mcof.md has more.

Three rounds on 645 photos with MobileNetV2 take 34 minutes on two idle cores (docs/mcof.md) and
give a mean IoU of 46 over seven classes of 281 other photos (docs/results.md).
Embedded: just under 8 minutes, for the way through all stages; its mean IoU of 11 is no result.
"""

import ml_collections

from configs import common, keywords, recipes, two_phase
from wsol_jax.base.errors import UserError
from wsol_jax.networks.backbones import table

VARIANTS = {
    "full": {},
    "without_saliency": {"saliency": "none"},
    "direct": {"mining": False},
    "one_round": {"rounds": 1},
}
KEYS = {
    "rounds": "mcof.rounds",
    "variant": "mcof.variant",
    "saliency": "mcof.saliency",
    "settled": "mcof.settled",
    "warm_start": "mcof.warm_start",
    "mining": "mcof.mining",
    "pixel_backbone": "mcof.pixel_backbone",
    "pixel_weights": "mcof.pixel_weights",
}
LOOKS = {"objects": "region", "masks": "pixel"}  # a label stage's network


def get_config(arg: str = ""):
    config = common.base()
    config.method = "mcof"
    two_phase.sections(config)
    sections(config)
    name, pairs = recipes.begin(config, arg, KEYS, default="voc")
    two_phase.recipe(config, name, pairs)
    if name == "embedded":
        config.data.multi_label, config.mcof.rounds = True, 2
    keywords.apply(config, pairs, KEYS)
    choose_variant(config, pairs)
    config.eval.labels = name in ("voc", "embedded")  # which have masks of the training images
    stages(config, name, pairs)
    return common.finish(config)


def choose_variant(config, pairs: dict[str, str]) -> None:
    """Sets what a row of the paper does otherwise than the full method."""
    variant = config.mcof.variant
    keywords.check_name("variant", variant, VARIANTS)
    for field, value in VARIANTS[variant].items():
        if field in pairs:
            raise UserError(
                f"config: variant={variant} decides {field}, and {field}={pairs[field]} too."
            )
        config.mcof[field] = value


def sections(config) -> None:
    """The method's own fields."""
    own = config.mcof = ml_collections.ConfigDict()
    own.rounds = 5
    own.variant = "full"
    own.mining = True  # RegionNet in every round; False: in the first alone (figure 8)
    # "computed" is robust background detection; "none"; or a folder of grey PNGs by image id.
    own.saliency = "computed"
    # A round's PixelNet goes on from the last one's weights; in the recipe on small photos both do.
    own.warm_start = True
    own.settled = 0.0  # share of the training pixels; fewer changed in a round: the last one
    own.pixel_backbone = ""  # PixelNet's in the paper's recipe, resnet101; "": model.backbone
    own.pixel_weights = "imagenet"  # its file
    # Superpixels: Felzenszwalb and Huttenlocher's scale, smoothing and least size, in pixels.
    own.scale = 200.0
    own.sigma = 0.8
    own.min_size = 100
    own.regions = 256  # of a photo at most; the smallest are joined to their likest neighbours
    own.maps = "first"  # the stage whose class maps give the seeds
    own.share = 0.5  # of a class's highest region: a seed
    own.peak = 0.0  # a local maximum is one above this share
    own.sharpen = False  # PixelNet's masks through the CRF, which algorithm 1 does not (line 10)
    own.crf = ml_collections.ConfigDict()  # on the photo's pixels: weight, sxy, srgb; weight, sxy
    own.crf.bilateral = (5.0, 50.0, 10.0)
    own.crf.spatial = (3.0, 3.0)
    own.crf.iterations = 10
    own.network = own.objects = ""  # of a label stage: the stages that it reads
    config.region_net = ml_collections.ConfigDict()
    config.region_net.regions = own.get_oneway_ref("regions")
    config.region_net.cells = 160  # a side: how finely a photo's regions are sampled
    config.region_net.size = 7  # bins a side of a pooled region
    config.region_net.drawn = 64  # regions of a photo in a step
    config.region_net.channels = 4096  # of fc6 and fc7
    config.region_net.dropout = 0.5
    config.pixel_net = ml_collections.ConfigDict()
    config.pixel_net.cells = 41  # of the masks, a side
    config.pixel_net.channels = 1024  # of fc6 and fc7
    config.pixel_net.dilation = 12  # of fc6, in cells
    config.pixel_net.average = True  # a 3x3 mean before fc6
    config.pixel_net.dropout = 0.5
    config.early = (*config.early, *KEYS.values())
    # Labels' hashes tell whether they are others, not how they were asked for.
    config.free = (*config.free, "mcof")


def stages(config, name: str, pairs: dict[str, str]) -> None:
    """Adds the stages, round by round, and what their trainings have of their own."""
    own, saliency = config.mcof, config.mcof.saliency != "none"
    common.label_stage(config, "superpixels", "mcof", "superpixels")
    names = ["superpixels"]
    if saliency:
        common.label_stage(config, "saliency", "mcof", "saliency")
        names.append("saliency")
    names += two_phase.stages(config, 1)
    common.label_stage(config, "seeds", "mcof", "seeds")
    names.append("seeds")
    found = "seeds"
    for k in range(1, own.rounds + 1):
        begun = len(names)
        if k == 1 or own.mining:
            names += region_stages(config, k, found)
            found = f"objects_{k}"
        if k == 1 and saliency:
            labels(config, "refined_1", "refined", objects=found)
            names.append("refined_1")
            found = "refined_1"
        names += pixel_stages(config, k, found)
        found = f"masks_{k}"
        if own.settled and k > 2:
            for later in names[begun:]:
                config.stage[later].settled = (f"masks_{k - 1}", own.settled)
    recipe(config, name, pairs)
    config.stages = (*names, "evaluate")
    config.eval.stages = tuple(f"pixel_{k}" for k in range(1, own.rounds))


def labels(config, stage: str, labeller: str, **reads: str):
    """Adds a label stage of MCOF; ``reads``: the stages that it makes its labels of."""
    own = common.label_stage(config, stage, "mcof", labeller)
    own.mcof = ml_collections.ConfigDict(reads)
    return own


def training(config, stage: str, method: str, reads: str):
    """Adds a training of MCOF on the labels ``reads``, which is scored when all is done."""
    own = common.stage(config, stage)
    own.method, own.labels = method, reads
    own.model, own.data = ml_collections.ConfigDict(), ml_collections.ConfigDict()
    own.train.eval_epochs = 0.0
    return own


def region_stages(config, k: int, seeds: str) -> list[str]:
    """A round's RegionNet on ``seeds``, and the objects that it finds."""
    training(config, f"region_{k}", "region_net", f"regions=superpixels,classes={seeds}")
    labels(config, f"objects_{k}", "objects", network=f"region_{k}")
    return [f"region_{k}", f"objects_{k}"]


def pixel_stages(config, k: int, masks: str) -> list[str]:
    """A round's PixelNet on ``masks``, and those that it makes."""
    own = training(config, f"pixel_{k}", "pixel_net", f"masks={masks}")
    if k > 1 and config.mcof.warm_start:
        own.start = f"pixel_{k - 1}"
    made = labels(config, f"masks_{k}", "masks", network=f"pixel_{k}")
    if k > 1:
        made.before = f"masks_{k - 1}"
    return [f"pixel_{k}", f"masks_{k}"]


def recipe(config, name: str, pairs: dict[str, str]) -> None:
    """What the trainings differ in from the classifier's, on a data set."""
    small = recipes.is_small_photos(name, pairs)
    if config.mcof.pixel_backbone and (small or name == "embedded"):
        raise UserError(
            "config key pixel_backbone: only the paper's recipe has another backbone for PixelNet; "
            "--config.stage.pixel_1.model.backbone= sets it in any."
        )
    config.stage.seeds.eval = ml_collections.ConfigDict()
    config.stage.seeds.eval.size = config.data.get_oneway_ref("crop")
    for stage, own in config.stage.items():
        kind = stage.partition("_")[0]
        if kind in LOOKS:
            looks_as(config, own, f"{LOOKS[kind]}_{stage.partition('_')[2]}")
        if kind not in ("region", "pixel"):
            continue
        if small:
            small_photos(config, stage)
        elif name == "embedded":
            embedded(own, kind)
            own.start = own.get("start") or "first/backbone"
        else:
            published(config, own, kind, pairs.get("backbone", "vgg16"))
    if config.mcof.pixel_backbone:
        trunk_of_each(config)
    if small:
        config.mcof.share, config.mcof.sharpen = 0.3, True
        config.pixel_net.update({"channels": 256, "dilation": 4, "cells": 20})
        config.region_net.update({"channels": 256, "size": 3, "drawn": 32, "cells": 80})
    elif name == "embedded":
        config.pixel_net.update({"channels": 128, "dilation": 3, "cells": 12})
        config.region_net.update({"channels": 128, "size": 3, "drawn": 16, "cells": 48})
        config.mcof.update({"min_size": 20, "regions": 64, "share": 0.2})
    else:
        config.mcof.regions = 300  # 99 of 100 photos of 500 pixels have fewer
        if pairs.get("backbone", "vgg16") != "vgg16":  # no fully connected layers to begin as
            config.region_net.channels = 1024


def looks_as(config, own, training: str) -> None:
    """Shows a label stage's network photos of the size that it was trained on.

    ``eval.size`` is the test images': labels do not follow it.
    """
    its = config.stage[training].data
    if "crop" not in its:
        its.crop = config.data.get_oneway_ref("crop")
    own.eval = ml_collections.ConfigDict()
    own.eval.size = its.get_oneway_ref("crop")


def published(config, own, kind: str, backbone: str) -> None:
    """Fast R-CNN's and SEC's solvers, as far as the paper leaves them open."""
    own.data.update({"resize": config.data.get_oneway_ref("crop"), "resize_mode": "warp"})
    own.optimizer.backbone_lr = own.optimizer.head_lr = 1e-3
    own.optimizer.update({"bias_lr": 2.0, "decay_all": False})
    if kind == "region":
        own.data.flip = 0.5
        own.train.epochs = 10.0
        own.train.batch_size = 2  # photos, as Fast R-CNN's
        own.optimizer.decay_epochs = 7.0
        own.model.output_stride = 16
        if backbone == "vgg16":
            own.model.update({"final_endpoint": "conv5_3", "dense_layers": True})
        return
    own.optimizer.classifier_lr = 1e-2
    own.model.output_stride = 8
    if config.mcof.pixel_backbone:
        chosen = config.mcof.pixel_backbone
        keywords.check_name("backbone", chosen, table.BACKBONES, "config key pixel_backbone")
        own.model.update({"backbone": chosen, "weights": config.mcof.pixel_weights})
        own.model.final_endpoint = table.BACKBONES[chosen].model["final_endpoint"]
        backbone = chosen
    if backbone == "vgg16":
        own.model.update({"final_endpoint": "pool5", "dense_layers": True})
        trunk = {"ceil_mode": True, "relaxed_pools": "stride1", "pool_window": 3, "dilate": True}
        own.model.trunk = ml_collections.ConfigDict(trunk)


def trunk_of_each(config) -> None:
    """Gives the trunk's arguments to the stages of that backbone, as PixelNet's is another."""
    trunk = config.model.trunk.to_dict()
    config.model.trunk = ml_collections.ConfigDict()
    for stage, own in config.stage.items():
        if stage == "first" or stage.startswith("region_"):
            if "model" not in own:
                own.model = ml_collections.ConfigDict()
            own.model.trunk = ml_collections.ConfigDict(trunk)


def small_photos(config, stage: str) -> None:
    """MobileNetV2 with its trunk as it is, on 320 pixels.

    From the second round on both networks begin as the last round's ended, and learn for less long.
    """
    own, (kind, _, round_) = config.stage[stage], stage.partition("_")
    own.data.update({"crop": 320, "resize": 320, "resize_mode": "warp", "flip": 0.0})
    own.model.update({"final_endpoint": "block_16", "output_stride": 16})
    own.optimizer.update({"rule": "adam", "classifier_lr": 1e-3, "bias_lr": 1.0})
    own.optimizer.head_lr = 1e-3
    own.train.batch_size = 15
    own.train.epochs = 6.0
    if int(round_) > 1 and config.mcof.warm_start:
        own.start = f"{kind}_{int(round_) - 1}"
        own.train.epochs = {"region": 3.0, "pixel": 4.0}[kind]


def embedded(own, kind: str) -> None:
    """On the classifier's trunk, in minutes on two cores."""
    own.data.flip = 0.0
    own.optimizer.head_lr = 1e-3
    own.optimizer.classifier_lr = 1e-3
    own.train.epochs = 1.0 if kind == "region" else 2.0
