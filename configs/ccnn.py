"""CCNN (Pathak et al. 2015), a segmenter from bounds on how much of an image its classes fill.

    python -m wsol_jax.main --config=configs/ccnn.py:embedded --workdir=runs/ccnn_embedded
    python -m wsol_jax.main --config=configs/ccnn.py:voc,root=VOC2012,backbone=mobilenet_v2 \
        --workdir=runs/ccnn
    python -m wsol_jax.main --config=configs/ccnn.py:voc,root=VOC2012,variant=plain --workdir=W

Two-phase learning (Kim et al. 2017) tries its class maps on it in section 4.6; ``variant=`` is a
row of that, with its mean IoU in % on VOC 2012 val:

- ``plain``: CCNN by image labels alone, one training: 34.5 as they reproduced it, 35.3 published
- ``first``: with the class maps of the first network
- ``two_phase``: with the maps that both networks vote for: 35.7, the default

A run in stages, as ``configs/two_phase.py`` with ``segment=true``: ``first``, ``second``, ``cues``,
``segment``, ``evaluate``. How the maps enter is not said there. Here ``cues`` writes the cells
above 20% of a map's maximum, and in these a class must have a mean probability of ``ccnn.cued``.

``voc`` alone is CCNN's released network, bounds and solver: VGG16 at 8 pixels a cell, fc6 of 4x4
cells and fc7, 4096 wide, from VGG's own; batch 1, 35,000 steps at 1e-6, momentum .99; at test time
its CRF. Not as released: photos are warped to 321x321, as two-phase learning's, where CCNN trains
on them as they are; where its own weights begin is in a file that we have not seen. Neither time
nor figures have been measured there.

``voc`` on MobileNetV2 and ``embedded`` have two-phase learning's classifiers and SEC's segmenter,
as small. On 645 photos that takes 12 minutes on one core, ``plain`` 6; expect a mean IoU of 41.3
(40.2-42.0), ``plain`` 30.0 (29.1-31.1), mean of three seeds on the 281 photos of docs/results.md,
whose table names the classes. ``embedded`` has not been measured.
"""

import ml_collections

from configs import common, keywords, recipes, segmentation, two_phase

VARIANTS = {"plain": 0, "first": 1, "two_phase": 2}  # how many networks' maps vote
KEYS = {"variant": "ccnn.variant"}


def get_config(arg: str = ""):
    config = common.base()
    config.method = "ccnn"
    two_phase.sections(config)
    segmentation.sections(config)
    config.ccnn = ml_collections.ConfigDict({"variant": "two_phase"})
    config.early = (*config.early, "ccnn.variant")
    config.free = (*config.free, "ccnn.variant")
    name, pairs = recipes.begin(config, arg, KEYS, default="voc")
    two_phase.recipe(config, name, pairs)
    keywords.apply(config, pairs, KEYS)
    stages(config, name, pairs)
    return common.finish(config)


def bounds() -> ml_collections.ConfigDict:
    """The fields of CCNN's network and constraints; the stage "segment" alone has them."""
    own = segmentation.network()
    own.window = 3  # a side of fc6's kernel, in cells
    # Least and most share of the cells, of each class that the image shows and of background.
    own.foreground = (0.05, 1.0)
    own.background = (0.3, 0.7)
    own.slack = 2.0  # what a class short of its least costs; background's bounds are hard
    own.cued = 0.7  # least mean probability of a class in the cells that its map gives; 0: no maps
    own.iterations = 50  # of the dual ascent, in each step
    return own


def stages(config, name: str, pairs: dict[str, str]) -> None:
    """Adds the classifiers whose maps are read, their cues, and the segmenter."""
    variant = config.ccnn.variant
    keywords.check_name("variant", variant, VARIANTS)
    phases, names = VARIANTS[variant], ()
    if phases:
        names = (*two_phase.stages(config, phases), "cues")
        segmentation.cues(config, names[:-1])
    own = segmentation.segmenter(config, "ccnn", bounds(), labels="cues=cues" if phases else "")
    if not phases:
        own.ccnn.cued = 0.0
    segmentation.recipe(config, own, name, pairs, phases)
    config.cues.background = 0.0  # the class maps say where a class is, and nothing of background
    small = recipes.is_small_photos(name, pairs)
    if not small and name != "embedded" and pairs.get("backbone", "vgg16") == "vgg16":
        released(config, own)
    config.stages = (*names, "segment", "evaluate")


def released(config, own) -> None:
    """CCNN's released network and solver, and its CRF at test time."""
    own.ccnn.update({"channels": 4096, "window": 4, "dilation": 4, "average": False})
    own.train.update({"batch_size": 1, "eval_epochs": 0.0})
    own.train.epochs = 35_000 / two_phase.TRAINAUG
    own.optimizer.update({"classifier_lr": 1e-6, "momentum": 0.99, "weight_decay": 5e-7})
    own.optimizer.backbone_lr = own.optimizer.head_lr = 1e-6
    own.optimizer.schedule = "constant"
    config.eval.crf.bilateral, config.eval.crf.spatial = (35.0, 61.0, 10.0), (15.0, 19.0)
