"""Recipes of each data set that all methods share, so that comparisons differ in one thing."""

from collections.abc import Mapping

from configs import keywords
from wsol_jax.base.errors import UserError

RECIPES = ("paper", "released")
_RELEASED = ("cam", "spg")  # SPG's code, and so its plain network's too


def begin(
    config, arg: str, keys: Mapping[str, str] | None = None, default: str = "cub"
) -> tuple[str, dict[str, str]]:
    """Reads what stands after a config's path and sets what all methods share on that data set.

    Args:
      keys, default: see ``keywords.parse``.

    Returns:
      The data set and the pairs, for the method's own recipe and ``keywords.apply``.
    """
    name, pairs = keywords.parse(arg, keys, default)
    config.data.name = name
    shared(config, name, pairs)
    return name, pairs


def shared(config, name: str, pairs: dict[str, str]) -> None:
    """Sets budget, sizes and optimizer of a data set, the same for all methods.

    Raises:
      UserError: an unknown recipe, or "released" where that is none.
    """
    recipe = pairs.get("recipe", config.recipe)
    keywords.check_name("recipe", recipe, RECIPES)
    if name == "embedded":
        embedded(config, pairs.get("backbone", "vgg16"))
    elif is_small_photos(name, pairs):
        small_photos(config)
    if name != "embedded":
        # Every paper here starts from ImageNet; weights= names another file, or "none".
        config.model.weights = "imagenet"
    if recipe == "paper" and name in ("cub", "ilsvrc"):
        # SPG, section 3.3, CAMs2i, section 3.4: class scores averaged over ten crops.
        config.eval.ten_crop = True
    if name == "ilsvrc":
        config.train.epochs = 3.0
        config.data.test = "val"  # the papers score all 50,000, val_tune's tenth among them
    elif name == "cub":
        # 200 steps an epoch: the papers' fall after every epoch would end before it began.
        config.train.epochs, config.optimizer.decay_epochs = 30.0, 10.0
    if recipe == "released":
        if config.method not in _RELEASED:
            raise UserError(
                f"config key recipe=released: {config.method} has one recipe, 'paper', which "
                "follows released code where the paper is silent."
            )
        if name == "embedded" or is_small_photos(name, pairs):
            raise UserError(
                "config key recipe=released: it trains a whole network from ImageNet's weights; "
                f"{name} has a recipe of its own on {pairs.get('backbone', config.model.backbone)}."
            )
        released(config, name, pairs.get("backbone", config.model.backbone))


def released(config, name: str, backbone: str) -> None:
    """Sets what SPG's released code trains and tests with, on ILSVRC; its defaults elsewhere.

    Constant rates, the same for added layers, twice for biases; batch statistics move. Inception-v3
    is shown pixels less ImageNet's mean, over its deviation, which its weights were not trained on
    (``transform_input`` is off). At test time it sees the middle of a photo, and its map is taken
    for the whole photo's. docs/spg.md has what of the code is not followed.
    """
    config.data.resize, config.data.resize_mode, config.data.crop = 356, "shorter", 321
    config.train.batch_size = 20
    config.train.epochs = 5.0 if name == "ilsvrc" else 21.0
    config.optimizer.schedule, config.optimizer.nesterov = "constant", True
    config.optimizer.backbone_lr = config.optimizer.head_lr = 1e-3
    config.optimizer.bias_lr = 2.0
    config.model.batch_norm = "batch"
    if backbone == "inception_v3":
        config.model.preprocessing = "torch"
    config.eval.view, config.eval.ten_crop = "center", False


def embedded(config, backbone: str = "vgg16") -> None:
    """Sets a narrow VGG16, half of it, with normalisation: from scratch in minutes on two cores."""
    config.data.resize, config.data.crop = 96, 96
    config.model.backbone, config.model.width = "vgg16", 0.25
    config.model.output_stride = 8
    if backbone == "vgg16":
        config.model.trunk = {"normalise": True, "stem_stride": 2}
        config.model.final_endpoint = "conv4_1"
    config.model.batch_norm = "batch"
    config.model.head_layers = 0
    config.model.map_mean, config.model.positive_maps = 0.3, True
    config.train.batch_size, config.train.epochs = 32, 8.0
    config.train.eval_epochs = 4.0
    config.optimizer.rule = "adam"
    config.optimizer.backbone_lr, config.optimizer.head_lr = 1e-3, 1e-2
    config.optimizer.schedule, config.optimizer.warmup_steps = "cosine", 30


def is_small_photos(name: str, pairs: dict[str, str]) -> bool:
    """Tells whether ``small_photos`` is the recipe: own photos on the small machines' network."""
    return name in ("voc", "folder") and pairs.get("backbone") == "mobilenet_v2"


def small_photos(config) -> None:
    """Sets MobileNetV2 for a few hundred photos: the trunk stays frozen, the head learns.

    Chosen by PxAP on a tune list (docs/results.md): a trunk that trains with a plain
    classifier learns to look at heads.
    """
    config.model.final_endpoint, config.model.freeze_until = "block_16", "all"
    config.model.head_channels = 256
    config.model.positive_maps = True
    config.train.epochs, config.train.eval_epochs = 8.0, 4.0
    config.optimizer.backbone_lr = config.optimizer.head_lr = 1e-2
    config.optimizer.schedule = "cosine"
