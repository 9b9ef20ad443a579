"""The stages that make a segmenter of a classifier's maps: for sec, two_phase and ccnn."""

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
    config.cues.background = 0.1  # share of the pixels, the least salient ones; 0: no background
    config.cues.strict = False  # without the pixels that equal the last one of them
    # Their hash tells whether they are others, not how they were asked for.
    config.free = (*config.free, "cues")


def decays(cells: int) -> tuple[float, float]:
    """The paper's decays by rank, .996 and .999 on 41x41 cells, for maps of cells x cells.

    A class that should fill a share of the image should fill it on any map.
    """
    ranks = 41**2 / cells**2
    return 0.996**ranks, 0.999**ranks


def network() -> ml_collections.ConfigDict:
    """The fields of DeepLab-LargeFOV, in the section of a segmenter's method."""
    fov = ml_collections.ConfigDict()
    fov.cells = 41  # of the cues, a side
    fov.channels = 1024  # of fc6 and fc7
    fov.dilation = 12  # of fc6, in cells
    fov.average = True  # a 3x3 mean before fc6: pool5a
    fov.dropout = 0.5
    return fov


def losses() -> ml_collections.ConfigDict:
    """The fields of SEC's network and losses; the stage "segment" alone has them."""
    sec = network()
    sec.seed = sec.expand = sec.constrain = 1.0  # weights of the losses
    sec.foreground, sec.background = decays(41)  # of the rank pooling: d+ and d_bg
    sec.floor = 1e-4  # added to every probability before the losses
    # The CRF inside the step, on the segmenter's cells: weight, sxy in cells, srgb; weight, sxy.
    sec.bilateral = (10.0, 80 / 12, 13.0)
    sec.spatial = (3.0, 3 / 12)
    sec.iterations = 10
    return sec


def at_cells(sec, cells: int, stride: int) -> None:
    """Fits SEC's losses to maps of cells x cells, of ``stride`` pixels each."""
    sec.foreground, sec.background = decays(cells)
    sec.bilateral, sec.spatial = (10.0, 80 / stride, 13.0), (3.0, 3 / stride)


def stages(config, name: str, pairs: dict[str, str], trainings: tuple[str, ...]) -> None:
    """Adds SEC's cues and segmentation behind the classifiers' stages ``trainings``.

    Call it after ``keywords.apply``, whose keys decide sizes and rates.
    """
    cues(config, trainings)
    own = segmenter(config, "sec", losses(), labels="cues=cues")
    recipe(config, own, name, pairs, len(trainings))
    if recipes.is_small_photos(name, pairs):
        at_cells(own.sec, 20, 16)
    elif name == "embedded":
        at_cells(own.sec, 12, 8)
    elif pairs.get("backbone", "vgg16") == "vgg16":
        background(config)
        trainings = (*trainings, "background")
    else:  # no published recipe: the background from the first network
        config.cues.layer = ""
    config.stages = (*trainings, "cues", "segment", "evaluate")


def cues(config, trainings: tuple[str, ...]) -> None:
    """Adds the label stage "cues", of the last of the classifiers' stages ``trainings``."""
    config.cues.maps = trainings[-1]
    common.label_stage(config, "cues", config.method, "cues")


def segmenter(config, method: str, fields: ml_collections.ConfigDict, labels: str):
    """Adds the stage "segment" of a method with these ``fields``; returns its section."""
    own = common.stage(config, "segment")
    own.method, own[method], own.labels = method, fields, labels
    fields.cells = config.cues.get_oneway_ref("size")
    for section, values in {
        "data": {},
        "model": {},
        "optimizer": {"classifier_lr": 1e-2, "bias_lr": 2.0, "decay_all": False},
    }.items():
        if section not in own:
            own[section] = ml_collections.ConfigDict()
        own[section].update(values)
    return own


def recipe(config, own, name: str, pairs: dict[str, str], phases: int) -> None:
    """Sets what the segmenter ``own`` has in common with SEC's on a data set.

    ``phases``: how many classifiers vote for the cues.
    """
    if recipes.is_small_photos(name, pairs):
        small_photos(config, own, phases)
    elif name == "embedded":
        embedded(config, own)
    else:
        published(config, own, pairs.get("backbone", "vgg16"))


def published(config, own, backbone: str) -> None:
    """SEC's released network and solver: DeepLab-LargeFOV, fc6 and fc7 from VGG's own."""
    config.cues.strict = True
    own.optimizer.backbone_lr = own.optimizer.head_lr = 1e-3
    size = config.data.get_oneway_ref("crop")  # whole photos, whatever the classifiers see
    own.data.update({"resize": size, "resize_mode": "warp"})
    if backbone != "vgg16":
        return
    own.model.output_stride, own.model.final_endpoint = 8, "pool5"
    own.model.dense_layers = True
    own.model.trunk = ml_collections.ConfigDict(
        {"ceil_mode": True, "relaxed_pools": "stride1", "pool_window": 3, "dilate": True}
    )


def background(config) -> None:
    """Adds SEC's released network for the background cue: VGG, and FC 1024-1024-20 on its pool5."""
    own = common.stage(config, "background")
    own.method = "two_phase"
    own.two_phase = ml_collections.ConfigDict({"suppressors": (), "head": "dense"})
    own.model = ml_collections.ConfigDict(
        {"output_stride": 32, "final_endpoint": "pool5", "dropout": 0.0}
    )
    own.train.eval_epochs = 0.0  # it has no class maps to score
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
    own[own.method].update({"channels": 256, "dilation": 4})


def embedded(config, own) -> None:
    """From scratch in minutes on two cores."""
    config.cues.layer, config.cues.size = "conv3_1", 12
    own.data.update({"flip": 0.0})
    own.optimizer.update({"head_lr": 1e-3, "classifier_lr": 1e-2, "bias_lr": 1.0})
    own[own.method].update({"channels": 128, "dilation": 3})
