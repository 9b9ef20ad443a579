"""SEC (Kolesnikov and Lampert 2016): a segmenter from image labels alone.

    python -m wsol_jax.main --config=configs/sec.py:voc,root=VOCdevkit/VOC2012 --workdir=W
    python -m wsol_jax.main --config=configs/sec.py:embedded --workdir=runs/sec

A run in stages: ``first`` trains a classifier, ``cues`` writes what its maps are sure of,
``segment`` trains the segmenter on them, ``evaluate`` scores it with and without a dense CRF beside
the thresholded class maps. ``voc`` is the paper's recipe on VOC 2012 trainaug: VGG16, 321x321, maps
and cues of 41x41, batch 15, 8,000 steps a training, a plain VGG (``background``) for the background
cue.
``configs/two_phase.py:voc,segment=true`` is two-phase learning's. README: figures and times.
"""

from configs import common, recipes, segmentation, two_phase


def get_config(arg: str = ""):
    config = common.base()
    config.method = "sec"
    two_phase.sections(config)
    segmentation.sections(config)
    name, pairs = recipes.begin(config, arg, default="voc")
    two_phase.recipe(config, name, pairs)
    common.apply(config, pairs)
    names = two_phase.stages(config, 1)
    segmentation.stages(config, name, pairs, names)
    return common.finish(config)
