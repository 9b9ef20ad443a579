"""CAM (Zhou et al. 2016): class activation maps, the baseline of every comparison here.

    python -m wsol_jax.main --config=configs/cam.py:embedded --workdir=runs/cam_embedded
    python -m wsol_jax.main --config=configs/cam.py:folder,root=photos,backbone=mobilenet_v2 \
        --workdir=runs/cam

``embedded``: under two minutes on two CPU cores. Expect GT-known 9.5 (6.8-12.0) and PxAP 39.3
(37.2-41.7) in %, mean of three seeds: a CAM is meant to fail there. With ``embedded,parts=2`` an
easy and a hard part tell the class: 7.0 (6.8-7.3) of its map lies on the easy one, which has 1.5 of
the image, and 0.4 (0.3-0.5) on the hard one, which has 0.65.

Own photos on MobileNetV2: 135 to 148 s for 375 VOC photos on two cores. Expect PxAP 67.5
(67.4-67.7) and GT-known 64.1 (63.3-64.6) on the 158 test photos of docs/results.md.

Bare (``configs/cam.py``) it is CUB-200-2011 on VGG16: pool5 is gone, and one 3x3x1024 layer comes
before the class maps. ImageNet weights, 256 pixels, random crop of 224, batch 30, learning rate
1e-3 (1e-2 on the new layers), times 0.1 every 10 of 30 epochs, no dropout; class scores averaged
over ten crops at test time (docs/scoring.md has what these cost). That is SPG's plain network and
its training, on any backbone (``recipe=released``: those of SPG's code). Neither time nor figures
have been measured on CUB, ILSVRC or VGG16: that needs an accelerator.

The rows of SPG's tables 1 and 4, with their Top-1 and GT-known errors in % on ILSVRC:

    python -m wsol_jax.main --config=configs/cam.py:ilsvrc,root=ILSVRC,backbone=alexnet --workdir=W
    python -m wsol_jax.main --config=configs/cam.py:ilsvrc,root=ILSVRC,backbone=vgg16 --workdir=W
    python -m wsol_jax.main --config=configs/cam.py:ilsvrc,root=ILSVRC,backbone=googlenet \
        --workdir=W

AlexNet-GAP (67.19, 45.01), VGGnet-GAP (57.20), GoogLeNet-GAP (56.40, 41.34), and with
``backbone=inception_v3`` SPG-plain (53.71, 37.32). The first three are Zhou et al.'s own: theirs
had another solver, two groups in the 3x3 layer, dropout of 0.5 behind it on VGG16 and AlexNet
(``--config.model.dropout=0.5``), and a GoogLeNet without batch normalisation. AlexNet's and
GoogLeNet's weights are torchvision's, whose .pth files are read with PyTorch.
"""

from configs import common, keywords, recipes


def get_config(arg: str = ""):
    config = common.base()
    config.method = "cam"
    _, pairs = recipes.begin(config, arg)
    keywords.apply(config, pairs)
    return common.finish(config)
