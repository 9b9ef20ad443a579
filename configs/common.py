"""Fields that every method's config has.

``get_config(arg)`` of a method's file starts from ``base()``, adds the method's own section and
recipes, writes what stands after its path into the fields (``configs/keywords.py``), and ends with
``finish``, which fills fields left as None: a size or an endpoint that depends on the data set or
the backbone.
"""

from collections.abc import Sequence

import ml_collections

from configs import keywords
from wsol_jax.data import sources
from wsol_jax.networks.backbones import table


def base() -> ml_collections.ConfigDict:
    """Makes the fields of every run. Units and meaning stand beside each."""
    c = ml_collections.ConfigDict()
    c.method = "cam"
    # A run in stages (``wsol_jax.stages.recipe``): their names in order; how each differs from the
    # fields below stands in ``stage.NAME``. Empty: one training.
    c.stages = ()
    c.stage = ml_collections.ConfigDict()
    c.reads = ()  # of a stage: the earlier stages whose networks it needs
    # Of a stage: the earlier training whose network it goes on from, or STAGE/MODULE, such as
    # first/backbone: whose trunk.
    c.start = ""
    # Of a stage that trains on pseudo-labels: NAME=STAGE,..., each name in its batches and the
    # label stage that makes them; STAGE/PRODUCT where that leaves several.
    c.labels = ""
    # Of a stage: (LABEL_STAGE, SHARE), left out where fewer of its pixels changed their class since
    # the one ``before`` it.
    c.settled = ()
    c.before = ""  # of a label stage: the earlier one that its labels are compared with
    c.labeller = ""  # of a label stage: the function beside ``method`` that makes them
    c.recipe = "paper"  # a method's named set of choices; see its config file
    # Fields that others follow from: too late in --config.FIELD=, so they have a key of their last
    # name, to write after the config's path.
    c.early = ("recipe", "model.backbone")
    # A method's fields or sections that may differ when a run goes on: no network depends on them.
    c.free = ()
    c.seed = 0  # decides a run: order, crops, initial values, dropout
    c.dtype = "auto"  # of the computation: bfloat16 on accelerators, float32 on CPU

    c.data = ml_collections.ConfigDict()
    c.data.name = "cub"
    c.data.root = ""  # the data set's folder; "" where it needs none or has a usual place
    c.data.train = ""  # list names; several test lists joined by "+"
    c.data.tune = ""  # chooses thresholds; the key's "none" leaves it "": 0.2 for the boxes
    c.data.test = ""
    c.data.boxes = ""  # folder: a CSV of boxes
    c.data.labels = ""  # voc: a file of image labels (cls_labels.npy). folder: a table (labels.csv)
    c.data.coco = ""  # folder: a COCO JSON of labels, boxes and outlines
    c.data.masks = ""  # folder: a folder of mask PNGs by image id
    # folder: "folders" (one a class), "table" (labels.csv), "coco"; "auto": what is found there.
    c.data.layout = "auto"
    c.data.strict = True  # folder: False skips rows without a photo, boxes outside, empty classes
    c.data.parts = 1  # embedded: of a creature that tell its class, the head, or 2: the tail's tip
    # Several of the classes in one image. A folder's labels decide it where nobody does.
    c.data.multi_label = ml_collections.config_dict.placeholder(bool)
    # A batch is P classes x K images of each; one of the two decides the other, both 0: shuffled.
    c.data.classes_per_batch = 0  # P
    c.data.images_per_class = 0  # K
    c.data.resize = 256  # before the crop, pixels
    c.data.resize_mode = "warp"  # to resize x resize; "shorter" side to resize; "none": as stored
    c.data.crop = 224  # what the network sees, pixels
    c.data.flip = 0.5  # probability of mirroring
    c.data.workers = 0  # worker processes; 0 reads in this process's threads
    c.data.threads = 4  # readers per process
    c.data.max_corrupt = 10  # unreadable images to skip before the run stops

    c.model = ml_collections.ConfigDict()
    c.model.backbone = "vgg16"
    c.model.width = 1.0  # multiplies the trunk's channels
    c.model.output_stride = ml_collections.config_dict.placeholder(int)  # pixels per map cell
    c.model.final_endpoint = ml_collections.config_dict.placeholder(str)  # the trunk ends here
    c.model.endpoint = ""  # the class-map head hangs here; "" is final_endpoint
    c.model.trunk = ml_collections.ConfigDict()  # further arguments of the backbone's module
    c.model.weights = ""  # a file, "imagenet" to fetch public ones, "" or "none" for none
    # A segmenter's fc6 and fc7 from the fully connected layers of that file, which VGG16's has.
    c.model.dense_layers = False
    c.model.preprocessing = "auto"  # what the weights' publisher did: "tf", "torch", "caffe"
    c.model.batch_norm = "inference"  # "batch" lets the statistics move
    c.model.freeze_until = ""  # layers up to this endpoint do not train; "all" is the whole trunk
    c.model.head_layers = ml_collections.config_dict.placeholder(int)  # 3x3 layers before the maps
    c.model.head_channels = 1024  # their width
    c.model.dropout = 0.0  # before the class-map layer
    c.model.map_mean = 0.0  # of the class-map layer's first weights: see heads.py
    c.model.scores = "auto"  # of the classes: "softmax", or "sigmoid" for several an image
    c.model.positive_maps = False  # clip the class maps at zero, as Grad-CAM does

    c.train = ml_collections.ConfigDict()
    c.train.batch_size = 30  # over all devices
    c.train.accumulate = 1  # micro-batches per step
    c.train.epochs = 10.0
    c.train.devices = 0  # 0 is all
    c.train.log_every = 10  # steps
    c.train.eval_epochs = 1.0  # epochs between evaluations on the tune list; 0 for none
    c.train.checkpoint_steps = 500  # between saves, beside those at evaluations
    c.train.keep = 2  # latest checkpoints to keep, beside the best
    c.train.checksum = True  # of each checkpoint, verified when it is read; a GB takes a second

    c.optimizer = ml_collections.ConfigDict()
    c.optimizer.rule = "sgd"  # or "adam" (with decoupled decay), for training from scratch
    c.optimizer.backbone_lr = 1e-3
    c.optimizer.head_lr = 1e-2  # of all added layers
    c.optimizer.bias_lr = 1.0  # factor on the learning rate of biases
    c.optimizer.momentum = 0.9
    c.optimizer.nesterov = False
    c.optimizer.weight_decay = 5e-4
    c.optimizer.decay_all = True  # biases and normalisation too, as the papers' solvers do
    c.optimizer.schedule = "step"  # "constant", "cosine", "step"
    c.optimizer.decay_epochs = 1.0  # schedule "step": epochs between the falls
    c.optimizer.decay_factor = 0.1
    c.optimizer.warmup_steps = 0

    c.eval = ml_collections.ConfigDict()
    c.eval.batch_size = 32
    c.eval.size = 0  # pixels of the warped test image; 0 is data.crop
    c.eval.view = "whole"  # photo, warped; "center": its middle, at the training's resize and crop
    c.eval.ten_crop = False  # class scores averaged over ten crops
    c.eval.class_scores = ""  # an .npz of another classifier's probabilities (SPG's table 3)
    # Score an explanation of the class scores in place of class maps: "grad_cam", "layer_cam", ...
    # (wsol_jax/explain), at a layer; "" is the one that the class maps come from.
    c.eval.explain = ""
    c.eval.explain_layer = ""
    c.eval.checkpoint = "latest"  # or "best"
    c.eval.best_metric = "pxap"  # on the tune list; if unknown there, evaluate/figures.py's next
    # Segmentations: the classes that the mean IoU is taken over beside background; none named: all.
    c.eval.mean_classes = ()
    # How class maps alone become a segmentation, to compare with: share of the maximum, least class
    # score. None given: the best on the tune list.
    c.eval.map_thresholds = ()
    # The CRF at test time, on the photo's own pixels.
    c.eval.crf = ml_collections.ConfigDict()
    c.eval.crf.bilateral = (10.0, 80.0, 13.0)
    c.eval.crf.spatial = (3.0, 3.0)
    c.eval.crf.iterations = 10
    c.eval.crf.clip = 1e-5  # least probability
    # Several labels: boxes of all classes, around what is above a share of a class map's maximum.
    c.eval.detection = ml_collections.ConfigDict()
    c.eval.detection.threshold = 0.6
    c.eval.detection.nms_iou = 0.3  # of two boxes of a class that overlap more, one goes
    c.eval.tolerance = 18.0  # several labels: pixels around a box in which a peak still counts
    c.eval.threshold = -1.0  # of the boxes, in [0, 1); negative: chosen on the tune list
    c.eval.gallery = 24  # images per list in the report; 0 keeps no maps for comparisons either
    c.eval.stages = ()  # further trained stages to score, beside the last
    c.eval.labels = False  # score what label stages wrote against the training list's masks
    return c


def stage(
    config: ml_collections.ConfigDict, name: str, reads: Sequence[str] = ()
) -> ml_collections.ConfigDict:
    """Adds the fields in which a stage may differ from the run's; those left at None do not.

    Args:
      reads: the earlier stages whose networks it needs.
    """
    fields = {
        "train": {"epochs": float},
        "optimizer": {"backbone_lr": float, "head_lr": float},
    }
    own = ml_collections.ConfigDict({"reads": tuple(reads)})
    for section, kinds in fields.items():
        own[section] = ml_collections.ConfigDict()
        for field, kind in kinds.items():
            own[section][field] = ml_collections.config_dict.placeholder(kind)
    config.stage[name] = own
    return own


def label_stage(
    config: ml_collections.ConfigDict, name: str, method: str, labeller: str
) -> ml_collections.ConfigDict:
    """Adds a stage that writes pseudo-labels: by the function ``labeller`` beside ``method``."""
    own = ml_collections.ConfigDict({"method": method, "labeller": labeller})
    config.stage[name] = own
    return own


def fill(section: ml_collections.ConfigDict, values: dict) -> None:
    """Gives ``values`` to the fields that nobody has set."""
    for name, value in values.items():
        if section[name] in (None, ""):
            section[name] = value


def finish(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Fills what depends on the backbone and the data set, and locks the fields.

    Raises:
      UserError: an unknown backbone.
    """
    name = config.model.backbone
    keywords.check_name("backbone", name, table.BACKBONES)
    fill(config.model, table.BACKBONES[name].model)
    row = sources.DATASETS[config.data.name]
    fill(config.data, row.lists)
    if config.data.tune == "none":
        config.data.tune = ""
    if not row.decides:
        fill(config.data, {"multi_label": False})
    return config.lock()
