"""The stages that make a segmenter of a classifier's maps: for ``sec.py`` and ``two_phase.py``."""

import ml_collections

from configs import common, recipes


def sections(config) -> None:
    """The fields of the cues."""
    config.cues = ml_collections.ConfigDict()
    config.cues.maps = "first"  # the stage whose class maps give the foreground
    config.cues.saliency = "first"  # the stage whose gradients give the background
    config.cues.layer = "conv4_1"  # gradients of the class scores at this layer's output
    config.cues.size = 41  # cells a side
    config.cues.foreground = 0.2  # share of a map's maximum
    config.cues.background = 0.1  # share of the pixels, the least salient ones
    # Their hash tells whether they are others, not how they were asked for.
    config.free = (*config.free, "cues")


def decays(cells: int) -> tuple[float, float]:
    """The paper's decays by rank, .996 and .999 on 41x41 cells, for maps of cells x cells.

    A class that should fill a share of the image should fill it on any map.
    """
    ranks = 41**2 / cells**2
    return 0.996**ranks, 0.999**ranks


def losses() -> ml_collections.ConfigDict:
    """The fields of SEC's network and losses; the stage "segment" alone has them."""
    sec = ml_collections.ConfigDict()
    sec.seed = sec.expand = sec.constrain = 1.0  # weights of the losses
    sec.foreground, sec.background = decays(41)  # of the rank pooling: d+ and d_bg
    sec.cells = 41  # of the cues, a side
    sec.channels = 1024  # of fc6 and fc7
    sec.dilation = 12  # of fc6, in cells
    sec.average = True  # a 3x3 mean before fc6: pool5a
    sec.dropout = 0.5
    sec.floor = 1e-4  # added to every probability before the losses
    # The CRF inside the step, on the segmenter's cells: weight, sxy in cells, srgb; weight, sxy.
    sec.bilateral = (10.0, 80 / 12, 13.0)
    sec.spatial = (3.0, 3 / 12)
    sec.iterations = 10
    return sec


def stages(config, name: str, pairs: dict[str, str], trainings: tuple[str, ...]) -> None:
    """Adds cues and segmentation behind the classifiers' stages ``trainings``.

    Call it after ``common.apply``, whose keys decide sizes and rates.
    """
    config.cues.maps = trainings[-1]
    common.label_stage(config, "cues", config.method, "cues")
    own = common.stage(config, "segment")
    own.method, own.sec, own.labels = "sec", losses(), "cues=cues"
    own.sec.cells = config.cues.get_oneway_ref("size")
    for section, fields in {
        "data": {},
        "model": {},
        "optimizer": {"classifier_lr": 1e-2, "bias_lr": 2.0, "decay_all": False},
    }.items():
        if section not in own:
            own[section] = ml_collections.ConfigDict()
        own[section].update(fields)
    if recipes.is_small_photos(name, pairs):
        small_photos(config, own, len(trainings))
    elif name == "embedded":
        embedded(config, own)
    else:
        published(config, own, pairs.get("backbone", "vgg16"))
        if "background" in config.stage:
            trainings = (*trainings, "background")
    config.stages = (*trainings, "cues", "segment", "evaluate")


def published(config, own, backbone: str) -> None:
    """SEC's released network and solver: DeepLab-LargeFOV, and a plain VGG for the background."""
    own.optimizer.backbone_lr = own.optimizer.head_lr = 1e-3
    size = config.data.get_oneway_ref("crop")  # whole photos, whatever the classifiers see
    own.data.update({"resize": size, "resize_mode": "warp"})
    if backbone != "vgg16":  # no published recipe: the background from the first network
        config.cues.layer = ""
        return
    own.model.output_stride, own.model.final_endpoint = 8, "pool5"
    own.model.dense_layers = True
    own.model.trunk = ml_collections.ConfigDict(
        {"ceil_mode": True, "relaxed_pools": "stride1", "pool_window": 3, "dilate": True}
    )
    plain = common.stage(config, "background")
    plain.method = "two_phase"
    plain.two_phase = ml_collections.ConfigDict({"suppressors": ()})
    plain.model = ml_collections.ConfigDict({"output_stride": 32, "final_endpoint": "pool5"})
    config.cues.saliency = "background"


def small_photos(config, own, phases: int) -> None:
    """MobileNetV2 with its trunk as it is; sizes for a small machine.

    Voted maps are wider than one network's, and are cut higher. docs/results.md: what was tried.
    """
    config.cues.layer, config.cues.size = "block_12_project", 20
    config.cues.foreground = 0.2 if phases == 1 else 0.3
    own.data.update({"crop": 320, "resize": 320, "flip": 0.0})
    own.model.update({"final_endpoint": "block_16", "output_stride": 16})
    own.optimizer.update({"head_lr": 3e-2, "classifier_lr": 3e-2, "bias_lr": 1.0})
    own.train.epochs = 6.0
    own.train.update({"batch_size": 15, "eval_epochs": 0.0})
    own.sec.foreground, own.sec.background = decays(20)
    own.sec.channels, own.sec.dilation = 256, 4
    own.sec.bilateral, own.sec.spatial = (10.0, 80 / 16, 13.0), (3.0, 3 / 16)


def embedded(config, own) -> None:
    """From scratch in minutes on two cores."""
    config.cues.layer, config.cues.size = "conv3_1", 12
    own.data.update({"flip": 0.0})
    own.optimizer.update({"head_lr": 1e-3, "classifier_lr": 1e-2, "bias_lr": 1.0})
    own.sec.foreground, own.sec.background = decays(12)
    own.sec.channels, own.sec.dilation = 128, 3
    own.sec.bilateral, own.sec.spatial = (10.0, 80 / 8, 13.0), (3.0, 3 / 8)
