"""CAMs2i (Kou et al. 2019): two class maps that regulate each other, and the images of a class.

    python -m wsol_jax.main --config=configs/cams2i.py:embedded --workdir=runs/cams2i_embedded
    python -m wsol_jax.main --config=configs/cams2i.py:folder,root=photos,backbone=mobilenet_v2 \
        --workdir=runs/cams2i

``embedded``: its time has not been measured; it sees the same 500 batches as CAM. Expect PxAP 63.7
(59.3-66.7) and GT-known 72.4 (71.2-74.0) in %, mean of three seeds; with
``--config.cams2i.inter=false`` 65.9 (64.1-68.1) and 73.0 (69.2-75.0).

Own photos on MobileNetV2 (the intra part alone): 160 to 199 s for 375 VOC photos on one core.
Expect PxAP 78.5 (78.4-78.7) and GT-known 77.6 (77.2-78.5) on the 158 test photos of
docs/results.md, 11.0 and 13.5 above CAM; with ``--config.cams2i.inter=true`` 79.3 (79.0-79.4) and
79.7 (79.1-80.4).

Bare (``configs/cams2i.py``) it is CUB-200-2011 with the paper's recipe: VGG16 whose pool4 and pool5
do not stride (two maps of 28x28 at 224 pixels), learning rate 1e-3, times .95 every epoch, SGD with
momentum .9 and decay 5e-4. The paper gives no batch, epochs, sizes or rate of the new layers: those
of the other methods here, with batches of 10 classes x 3 images, since 30 images drawn at random
hold two pairs of one class on CUB, and hardly one on ILSVRC. On ILSVRC that is 3 epochs of 42,706
batches, at 1e-3, 9.5e-4 and 9.025e-4 (1e-2 and so on in the new layers); on CUB's 5,400 images 30
of 180, the last at 2.26e-4. It names no dropout, so there is none. Neither time nor figures have
been measured there: that needs an accelerator.

The images are compared by AlexNet (torchvision's weights, which are read with PyTorch; the key
``features=squeezenet`` after the data set takes another backbone, ``--config.features.weights``
its file): a linear layer of 2,048 on its fc7, which the paper says no more of. It is random, and
both stay as they are, since features that may scale themselves lower L_inter without bound;
``--config.features.freeze=false`` trains both.

The boxes are cut at the paper's thresholds, .6 on CUB and .7 on ILSVRC (``threshold=paper``, the
default there). They are the best of three on the very lists that are scored (table 6; on ILSVRC its
own figures say .6). ``threshold=tune`` takes the tune list's, as the other methods do, and any
number is one: ``configs/cams2i.py:cub,threshold=0.5``. With the paper's no image need be held out:

    python -m wsol_jax.main --config=configs/cams2i.py:cub,train=train,tune=none --workdir=W

Where the paper contradicts itself or is silent: eqs. 3 to 5 take maps squashed by eq. 8's sigmoid,
since raw ones leave L_int no least value; eq. 7's 1 / w0, infinite at the first step, is w0 as its
text says, from 0 to 1 in 1,000 steps; eq. 10 is a mean over a batch's pairs of one class, which are
30 in batches of 10 x 3 (``--config.cams2i.weight_inter=30`` is its sum); S2 teaches S1, and y1
teaches y2, without a gradient back; the class scores are y1's; at test time the two maps are
stretched to 0..1 and averaged; eq. 9's c is the features' dimension.

Fewer than 300 photos are fewer than 75 steps, after which the maps teach each other in full: give
``--config.cams2i.start_step`` a quarter of the steps and ``--config.cams2i.ramp_steps`` a half
(docs/results.md: 10 and 20 gain 2 to 11 points there).

On small data (``embedded``, ``small_photos``) eq. 4 runs both ways and without the uncertain
pixels, and the maps are squashed otherwise: see ``guided``. The paper's there are
``--config.cams2i.mutual=false --config.cams2i.explore=1 --config.cams2i.squash=sigmoid``.

The inter-sample criterion takes a training step on MobileNetV2 to 2.4 times the intra part's: f
sees each image through four maps, and its gradient is what teaches the maps, so nothing of it can
be left out. Cheaper, and not the paper's (benchmarks/README.md has the times):
``--config.features.size=112`` shows f smaller images; ``--config.cams2i.compare=features`` shows it
whole images, once, whose features the maps weigh; ``--config.cams2i.compare=trunk`` takes the
classifiers' own features in their place, without a network f; ``--config.cams2i.compared=12``
compares a batch's first 12 images alone. Small photos take ``trunk``, and fade the criterion in
(``ramp_inter``): from the first step on it drove the maps of fresh heads apart.

The ablation's rows (tables 1 to 5): ``--config.cams2i.intra=false --config.cams2i.inter=false`` is
VGG16-base, ``--config.cams2i.inter=false`` VGG16-CAMsIntra, neither VGG16-CAMs2i.
"""

import ml_collections

from configs import common, keywords, recipes
from wsol_jax.base.errors import UserError
from wsol_jax.networks.backbones import table

KEYS = {"threshold": "eval.threshold", "features": "features.backbone"}
# The paper's threshold of the boxes (table 6), by data set.
_THRESHOLDS = {"cub": 0.6, "ilsvrc": 0.7}


def get_config(arg: str = ""):
    config = common.base()
    config.method = "cams2i"

    config.cams2i = ml_collections.ConfigDict()
    config.cams2i.intra = True  # the second classifier, L_int and L_adn (eqs. 3 to 7)
    config.cams2i.inter = True  # the inter-sample criterion (eqs. 8 to 10)
    config.cams2i.endpoint_2 = ""  # the second classifier hangs here; the first at model.endpoint
    config.cams2i.head_kernel = 1  # of the layers before the class maps (section 3.4)
    config.cams2i.squash = "sigmoid"  # maps to 0..1 in eqs. 3 to 8; "min_max", "against_mean"
    config.cams2i.stop_gradient = True  # S2 teaches S1 (eq. 4), y1 teaches y2 (eq. 6), not back
    config.cams2i.mutual = False  # eq. 4 the other way round as well: S1 and its mask teach S2
    config.cams2i.explore = 1.0  # factor on eq. 3's mask where it is negative; 0: SPG's ignoring
    config.cams2i.start_step = 0  # eqs. 4 and 6 count from here
    config.cams2i.ramp_steps = 1000  # from there until w0 of eq. 7 is 1
    config.cams2i.ramp_inter = False  # w0 on the inter-sample criterion too, which eq. 7 leaves out
    config.cams2i.weight_int = 1.0
    config.cams2i.weight_adn = 1.0
    config.cams2i.weight_inter = 1.0
    # What the maps weigh: "images" (eq. 8; f sees each four times), f's "features" of whole images
    # (once), the classifiers' own features of the "trunk" (not at all).
    config.cams2i.compare = "images"
    config.cams2i.compared = 0  # so many of a batch's images, its first; 0: all
    config.cams2i.fuse = "mean"  # of the two stretched maps at test time; or "max", "product"
    config.cams2i.scores = "first"  # whose class scores count: y1's, or the "mean" of both

    config.features = ml_collections.ConfigDict()  # f of eq. 9
    config.features.backbone = "alexnet"
    config.features.width = 1.0
    config.features.output_stride = ml_collections.config_dict.placeholder(int)
    config.features.final_endpoint = ml_collections.config_dict.placeholder(str)
    config.features.trunk = ml_collections.ConfigDict()  # further arguments of its module
    config.features.weights = ml_collections.config_dict.placeholder(str)
    config.features.preprocessing = "auto"
    config.features.batch_norm = "inference"
    config.features.size = 0  # pixels at which it sees an image; 0: as the classifiers do
    config.features.projection = 2048  # dimension of the features after a random layer; 0: none
    config.features.freeze = True  # otherwise it learns at features_lr, and can inflate its scale
    config.optimizer.features_lr = 1e-4

    name, pairs = recipes.begin(config, arg, KEYS)
    if name == "embedded":
        embedded(config, pairs.get("backbone", "vgg16"))
    elif recipes.is_small_photos(name, pairs):
        small_photos(config)
    else:
        published(config, name)
    keywords.apply(config, threshold(name, pairs), KEYS)
    fill(config)
    return common.finish(config)


def fill(config) -> None:
    """Fills what follows from the two backbones: endpoints, and whose weights the features have."""
    features, model = config.features, config.model
    common.fill(config.cams2i, table.taps(model.backbone, "cams2i"))
    keywords.check_name("backbone", features.backbone, table.BACKBONES)
    row = table.BACKBONES[features.backbone]
    own = {"final_endpoint": row.compares, "output_stride": row.compares_stride}
    common.fill(features, own)
    if features.weights is None:
        same = features.backbone == model.backbone or model.weights in ("", "none")
        features.weights = model.weights if same else "imagenet"


def published(config, name: str) -> None:
    """Sets the recipe of section 3.4, and what it leaves open."""
    config.optimizer.decay_epochs, config.optimizer.decay_factor = 1.0, 0.95
    config.model.output_stride = 8  # pool4 and pool5 at stride 1; 28x28 maps on any backbone
    config.model.head_layers = 2  # "two convolutional layers with 1024 1x1 filters"
    if name in _THRESHOLDS:
        config.data.images_per_class = 3
        config.eval.threshold = _THRESHOLDS[name]


def threshold(name: str, pairs: dict[str, str]) -> dict[str, str]:
    """The pairs, ``threshold=paper`` and ``threshold=tune`` in them as numbers.

    Raises:
      UserError: the paper has no threshold for that data set.
    """
    given = pairs.get("threshold", "")
    if given == "paper" and name not in _THRESHOLDS:
        raise UserError(
            f"config key threshold=paper: the paper has one for {' and '.join(_THRESHOLDS)}, none "
            f"for {name}; expected tune or a number from 0 to below 1."
        )
    numbers = {"tune": "-1", "paper": str(_THRESHOLDS.get(name))}
    return {**pairs, "threshold": numbers.get(given, given)} if "threshold" in pairs else pairs


def guided(config) -> None:
    """Few steps on few images: the two maps teach each other, and nothing else pushes them.

    Away from the paper in three fields, by PxAP on the tune lists. Both ways (``mutual``) decides:
    an early S2 cannot tell the classes, but learns from S1's sure pixels how an object looks from
    near, and finds the rest of the body; taught by S2 alone, S1 falls below CAM on the photos (.61,
    CAM .70, both ways .80). Without the uncertain pixels' repulsion (``explore``; with it .77).
    Maps against their mean: a peak does not decide what is sure (min_max .77).
    """
    config.cams2i.squash, config.cams2i.mutual = "against_mean", True
    config.cams2i.explore, config.cams2i.weight_int = 0.0, 3.0


def embedded(config, backbone: str = "vgg16") -> None:
    """From scratch: first the classes, then the maps' interaction; S2 looks at early layers.

    Nothing is pretrained, so the images are compared by random filters' colours.
    """
    guided(config)
    if backbone == "vgg16":
        config.cams2i.endpoint_2 = "conv2_2"
    config.cams2i.start_step, config.cams2i.ramp_steps = 150, 50
    config.features.width, config.features.final_endpoint = 0.25, "conv2"
    config.features.projection = 0


def small_photos(config) -> None:
    """A few hundred photos of a few classes: the whole trunk frozen, as CAM has it, and its head.

    S2 looks at block_10, whose cells see less of the photo than those of block_12 or block_15.
    Without the inter-sample criterion; ``--config.cams2i.inter=true`` adds it by the classifiers'
    own features, which takes no longer. The paper's, by masked images and the same file of weights,
    is ``--config.cams2i.compare=images`` beside it: 9 times the step.
    """
    guided(config)
    config.cams2i.inter, config.cams2i.compare, config.cams2i.ramp_inter = False, "trunk", True
    config.cams2i.weight_inter = 4.0
    config.cams2i.head_kernel = 3
    config.cams2i.endpoint_2 = "block_10"
    config.cams2i.start_step, config.cams2i.ramp_steps = 25, 50
    config.features.backbone, config.features.projection = "mobilenet_v2", 0
