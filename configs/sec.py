"""SEC (Kolesnikov and Lampert 2016): a segmenter from image labels alone.

    python -m wsol_jax.main --config=configs/sec.py:embedded --workdir=runs/sec_embedded
    python -m wsol_jax.main --config=configs/sec.py:voc,root=VOC2012,backbone=mobilenet_v2 \
        --workdir=runs/sec

A run in stages: ``first`` trains a classifier, ``cues`` writes what its maps are sure of,
``segment`` trains the segmenter on them, ``evaluate`` scores it with and without a dense CRF beside
the thresholded class maps.

``embedded``: 4 to 8 minutes on two CPU cores; its figures have not been measured over seeds.

``voc`` on MobileNetV2: 12 minutes on one core for 645 photos. Expect mean IoU 44.6 (44.0-45.0) in
%, 42.2 (41.4-42.9) before the CRF, and 32.2 (31.0-33.9) of the thresholded class maps, mean of
three seeds on the 281 photos of docs/results.md, whose command names the classes.

``voc`` alone is the paper's recipe on VOC 2012 trainaug, as its released code has it: VGG16,
321x321, maps and cues of 41x41, batch 15, 8,000 steps a training; for the background cue a network
of its own (``background``), VGG with pool4 and pool5 and fully connected layers of 1024, 1024 and
20; the segmenter's fc6 and fc7 from VGG's own. Neither time nor figures have been measured there:
that needs an accelerator.
``configs/two_phase.py:voc,segment=true`` is two-phase learning's.
"""

from configs import common, keywords, recipes, segmentation, two_phase


def get_config(arg: str = ""):
    config = common.base()
    config.method = "sec"
    two_phase.sections(config)
    segmentation.sections(config)
    name, pairs = recipes.begin(config, arg, default="voc")
    two_phase.recipe(config, name, pairs)
    keywords.apply(config, pairs)
    names = two_phase.stages(config, 1)
    segmentation.stages(config, name, pairs, names)
    return common.finish(config)
