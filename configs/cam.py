"""CAM (Zhou et al. 2016): the baseline of every comparison here.

    python -m wsol_jax.main --config=configs/cam.py:embedded --workdir=runs/cam_embedded
    python -m wsol_jax.main --config=configs/cam.py:folder,root=photos --workdir=W

Bare (``configs/cam.py``) it is CUB-200-2011 on VGG16, pool5 gone, one 3x3x1024 layer before the
class maps: ImageNet weights, 256 pixels, random crop of 224, batch 30, learning rate 1e-3 (1e-2 on
the new layers), times 0.1 every 10 of 30 epochs. ``embedded`` takes under two minutes on two
cores; the README has the figures, also on real photos.
"""

from configs import common, recipes


def get_config(arg: str = ""):
    config = common.base()
    config.method = "cam"
    _, pairs = recipes.begin(config, arg)
    common.apply(config, pairs)
    return common.finish(config)
