"""Hide-and-Seek segmentation (Redondo-Cabrera et al. 2018): classify and segment, end to end.

    python -m wsol_jax.main --config=configs/hide_and_seek.py:embedded \
        --workdir=runs/hide_and_seek_embedded
    python -m wsol_jax.main \
        --config=configs/hide_and_seek.py:voc,root=VOC2012,backbone=mobilenet_v2 \
        --workdir=runs/hide_and_seek
    python -m wsol_jax.main --config=configs/hide_and_seek.py:voc,root=VOC2012,variant=two_cams \
        --workdir=runs/two_cams

One training; ``variant=not_end_to_end`` is a run in stages: ``cams``, ``segment``, ``evaluate``.

``embedded``: several labels an image; nine CPU minutes, not timed on idle cores; 500 batches. One
seed gave mean IoU 22 before the CRF, 16 after it, and class mAP 84.

``voc`` on MobileNetV2: 12 minutes on one core for 645 photos. Expect mean IoU 40.4 (39.8-40.8) in
%, 37.9 (37.4-38.3) before the CRF, and 36.1 (36.0-36.2) before it of ``variant=one_cam``, mean of
three seeds on the 281 photos of docs/results.md, whose command names the classes.

``voc`` alone is the paper's recipe on VOC 2012 trainaug: VGG16 as DeepLab-LargeFOV, fc6 and fc7
from its own fully connected layers, crops of 321x321 of the photos as they are, class maps at 224
pixels, 80,000 steps of one photo at 1e-4 and then 1e-5; whole photos warped to 321x321 at test
time, of which the paper says nothing. Neither time nor figures have been measured there: that needs
an accelerator.

``variant=`` is a row of the paper's tables; its mean IoU in % on VOC 2012 val, before the CRF at
test time / after it:

- ``gap_conv5`` (table I): 26.3 / 27.7, class maps from conv5 (those of ``embedded`` always are)
- ``two_cams`` (I to IV): 34.0 / 36.5, no CRF in training, no filter, no switching
- ``one_cam`` (II): 33.0 / 35.5, the same without hidden patches; ``three_cams``: 33.8 / 36.0
- ``patches_4``, ``patches_5``, ``patches_6`` (III): 33.1 / 35.8, 33.3 / 36.2, 33.2 / 35.9
- ``crf`` (IV, V): 38.3 / 40.0, two_cams and the CRF in training
- ``filter`` (V, VI): 38.6 / 40.5, and the filter at test time
- ``fixed_1000``, ``fixed_5000`` (VI): 38.6, 39.4 before the CRF, and labels alone in the first
  steps: a fifth of the recipe's early steps, or all of them
- ``full`` (VI, VII): 40.4 / 41.9, and adaptive switching: the default
- ``not_end_to_end`` (VII): 34.0 / 36.9, class-map networks first, then frozen

``benchmarks/ablation.py`` runs a list of them and prints the paper's tables beside ours.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import ml_collections

from configs import common, keywords, recipes
from wsol_jax.networks.backbones import table

_BASE = {"crf": "none", "filter": "none", "switching": "none"}  # "our architecture" of table IV


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the paper's ablation tables.

    Attributes:
      text: what it is called there.
      fields: of ``hide_and_seek`` that differ from the full method.
      early: share of the full method's early steps that this row has.
      end_to_end: False: the class-map networks are trained first, and frozen.
    """

    text: str
    fields: Mapping[str, object] = dataclasses.field(default_factory=dict)
    early: float = 1.0
    end_to_end: bool = True


VARIANTS = {
    "full": Variant("adaptive switching: H&S"),
    "gap_conv5": Variant("GAP from conv5", {**_BASE, "gap": "conv5"}),
    "one_cam": Variant("without hide-and-seek (1 CAM)", {**_BASE, "cams": 1}),
    "two_cams": Variant("2 CAMs, GAP from conv7, random patches", _BASE),
    "three_cams": Variant("3 CAMs", {**_BASE, "cams": 3}),
    "patches_4": Variant("4 patches hidden", {**_BASE, "number": 4}),
    "patches_5": Variant("5 patches hidden", {**_BASE, "number": 5}),
    "patches_6": Variant("6 patches hidden", {**_BASE, "number": 6}),
    "crf": Variant("+ CRF", {"filter": "none", "switching": "none"}),
    "filter": Variant("+ test filter; without switching", {"switching": "none"}),
    "fixed_1000": Variant("fixed switching (1000 iterations)", {"switching": "fixed"}, 0.2),
    "fixed_5000": Variant("fixed switching (5000 iterations)", {"switching": "fixed"}),
    "not_end_to_end": Variant("H&S, not end to end", end_to_end=False),
}


class Row(NamedTuple):
    """A row of a table: a variant, and the paper's figures in % on VOC 2012 val.

    ``before``, ``after`` the CRF at test time: pixel accuracy, mean IoU; None where not given.
    """

    variant: str
    before: tuple[float, float]
    after: tuple[float, float] | None


# Rows that several tables have are one variant. Table VII also cites another paper's.
_TWO_CAMS = Row("two_cams", (72.92, 34.03), (75.98, 36.50))
_CRF = Row("crf", (77.93, 38.29), (79.76, 40.04))
_FILTER = Row("filter", (78.04, 38.55), (79.79, 40.45))
_FULL = Row("full", (80.55, 40.44), (80.56, 41.89))
TABLES = {
    "I": (
        Row("gap_conv5", (70.92, 26.27), (73.60, 27.65)),
        _TWO_CAMS,
    ),
    "II": (
        Row("one_cam", (69.80, 33.04), (72.47, 35.47)),
        _TWO_CAMS,
        Row("three_cams", (72.03, 33.79), (75.76, 36.04)),
    ),
    "III": (
        Row("patches_4", (72.64, 33.13), (75.63, 35.80)),
        Row("patches_5", (73.03, 33.34), (76.09, 36.18)),
        Row("patches_6", (72.59, 33.18), (75.60, 35.90)),
        _TWO_CAMS,
    ),
    "IV": (
        _TWO_CAMS,
        _CRF,
    ),
    "V": (
        _CRF,
        _FILTER,
    ),
    "VI": (
        _FILTER._replace(after=None),
        Row("fixed_1000", (78.93, 38.55), None),
        Row("fixed_5000", (79.47, 39.36), None),
        _FULL,
    ),
    "VII": (
        Row("not_end_to_end", (75.90, 34.00), (77.08, 36.90)),
        _FULL,
    ),
}

KEYS = {"variant": "hide_and_seek.variant", "crf": "hide_and_seek.crf"}
_TRAINAUG = 10582  # images: the paper counts in steps, a config in epochs


def get_config(arg: str = ""):
    config = common.base()
    config.method = "hide_and_seek"
    sections(config)
    name, pairs = recipes.begin(config, arg, KEYS, default="voc")
    if recipes.is_small_photos(name, pairs):
        small_photos(config)
    elif name == "embedded":
        embedded(config, pairs.get("backbone", "vgg16"))
    else:
        published(config, pairs.get("backbone", "vgg16"))
    keywords.apply(config, pairs, KEYS)
    choose_variant(config, config.hide_and_seek.variant)  # a row without a CRF stays without
    common.fill(config.hide_and_seek, table.taps(config.model.backbone, "hide_and_seek"))
    return common.finish(config)


def sections(config) -> None:
    """The method's own fields."""
    own = config.hide_and_seek = ml_collections.ConfigDict()
    own.variant = "full"  # a row of the paper's tables: VARIANTS
    # The class-map networks.
    own.cams = 2  # 1 to 3; the first sees the whole photo, the others hidden patches
    own.grid = 4  # patches a side
    own.probability = 0.5  # that a patch is hidden
    own.number = -1  # hide exactly so many patches instead; negative: each by chance
    own.fill = (123.675, 116.28, 103.53)  # RGB of hidden patches: ImageNet's mean
    own.cam_size = 224  # pixels that they see
    own.cam_stride = 16  # pixels a cell of theirs
    own.cam_dilation = 6  # of fc6, in their cells: as many pixels as the segmenter's
    own.gap = "conv7"  # the features of the class maps: fc7 of the head, or "conv5"
    own.extra = 0  # channels of another 3x3 layer before their classifier; 1024 as released
    own.share_until = ""  # layers up to this endpoint are shared with the segmenter; "": all
    own.pool = "sum"  # of a class map to its score, or "mean"
    own.classification = "squared"  # squared label loss, or "logistic"
    # The masks.
    own.conv5 = ""  # the endpoint whose response is foreground; "": the backbone's last
    # "image": on the photo's pixels, by the lattice; "cells": on the mask's cells, by all pairs of
    # them; "none".
    own.crf = "image"
    own.bilateral = (5.0, 50.0, 10.0)  # weight, sxy in pixels, srgb
    own.spatial = (3.0, 3.0)  # weight, sxy in pixels
    own.iterations = 10
    own.cells = ml_collections.ConfigDict()  # the same on cells: sxy in cells
    own.cells.bilateral = (5.0, 50 / 8, 10.0)
    own.cells.spatial = (3.0, 3 / 8)
    own.cells.iterations = 10
    own.floor = 1e-5  # least probability
    own.sure_masks = False  # from passes of their own, without dropout
    # The segmenter.
    own.segmentation = 1.0  # weight of its loss; 0 trains the class-map networks alone
    own.switching = "adaptive"  # which images learn from labels alone; "fixed", "none"
    own.early_steps = 5000  # n_i: all of the first steps'
    own.tau = 0  # later, adaptively, those whose mask has no more cells of an object
    own.teacher = ""  # the stage whose network makes the masks; "": this one's own
    own.channels = 1024  # of fc6 and fc7
    own.dilation = 12  # of fc6, in cells
    own.average = True  # a 3x3 mean before fc6
    own.dropout = 0.5
    own.deviation = 0.1  # of the last layers' first weights
    own.filter = "weigh"  # test: class scores weigh the classes; "released": below .1 none; "none"
    config.optimizer.classifier_lr = 1e-3  # of the last layers
    # At test time the CRF of the masks.
    config.eval.crf.bilateral, config.eval.crf.spatial = (5.0, 50.0, 10.0), (3.0, 3.0)
    config.early = (*config.early, "hide_and_seek.variant")
    config.free = (*config.free, "hide_and_seek.variant", "hide_and_seek.filter")


def choose_variant(config, name: str) -> None:
    """Sets what a row of the paper's tables does otherwise than the full method."""
    keywords.check_name("variant", name, VARIANTS)
    variant, own = VARIANTS[name], config.hide_and_seek
    for field, value in variant.fields.items():
        own[field] = value
    own.early_steps = round(variant.early * own.early_steps)
    if variant.end_to_end:
        return
    cams = common.stage(config, "cams")
    cams.hide_and_seek = ml_collections.ConfigDict({"segmentation": 0.0})
    segment = common.stage(config, "segment", reads=("cams",))
    segment.hide_and_seek = ml_collections.ConfigDict({"teacher": "cams"})
    config.stages = ("cams", "segment", "evaluate")


def published(config, backbone: str) -> None:
    """Section IV-A: 321x321 cut from the photos, a batch of one, 40,000 steps at each rate."""
    if config.data.name == "voc":
        config.data.train, config.data.multi_label = "trainaug", True
    config.data.resize_mode, config.data.flip = "none", 0.0
    config.data.resize = config.data.crop = 321
    config.model.output_stride = 8
    if backbone == "vgg16":
        config.model.final_endpoint, config.model.dense_layers = "pool5", True
        config.model.trunk = {"relaxed_pools": "stride1", "pool_window": 3, "dilate": True}
    config.train.batch_size = 1
    config.train.epochs = 80_000 / _TRAINAUG
    config.train.eval_epochs = 0.0
    config.optimizer.decay_epochs = 40_000 / _TRAINAUG
    config.optimizer.backbone_lr = config.optimizer.head_lr = 1e-4
    config.optimizer.bias_lr, config.optimizer.decay_all = 2.0, False


def small_photos(config) -> None:
    """MobileNetV2 with its trunk as it is; 224 pixels for all three, whose trunk runs twice a step.

    Dropout tears holes into the class maps, so masks come of passes without. Chosen on a tune list,
    docs/results.md: what was tried.
    """
    own = config.hide_and_seek
    if config.data.name == "voc":
        config.data.multi_label = True
    config.data.crop = config.data.resize = 224
    own.cam_size = config.data.get_oneway_ref("crop")
    config.model.output_stride = 16
    own.channels, own.dilation, own.cam_dilation, own.dropout = 128, 4, 4, 0.3
    own.sure_masks = True
    own.crf = "cells"
    own.cells.bilateral, own.cells.spatial = (5.0, 50 / 16, 10.0), (3.0, 3 / 16)
    own.pool, own.classification, own.deviation = "mean", "logistic", 1e-2
    own.early_steps = 60
    config.train.batch_size, config.train.epochs = 5, 6.0
    config.train.eval_epochs = 0.0
    config.optimizer.rule = "adam"
    config.optimizer.head_lr = config.optimizer.classifier_lr = 1e-3
    config.optimizer.backbone_lr = 1e-4  # for those who let it train


def embedded(config, backbone: str) -> None:
    """From scratch in minutes on two cores; several classes an image.

    The class maps hang on the trunk, as those of the other methods do here: two new layers before
    them learn the small heads too slowly.
    """
    own = config.hide_and_seek
    own.gap = "conv5"
    config.data.multi_label, config.data.flip = True, 0.0
    own.cam_size = config.data.get_oneway_ref("crop")
    own.cam_stride, own.cam_dilation = 8, 3
    if backbone == "vgg16":  # which ends there
        own.conv5 = "conv4_1"
    own.channels, own.dilation, own.dropout = 128, 3, 0.0
    own.crf = "cells"
    own.cells.bilateral, own.cells.spatial = (5.0, 50 / 8, 10.0), (3.0, 3 / 8)
    own.pool, own.classification, own.deviation = "mean", "logistic", 1e-2
    own.early_steps = 150
    config.optimizer.head_lr, config.optimizer.classifier_lr = 1e-3, 1e-2
