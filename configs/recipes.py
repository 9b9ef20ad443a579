"""What CAM and SPG have in common on each data set, so that a comparison differs in one thing."""

from configs import common
from wsol_jax.errors import UserError

RECIPES = ("paper", "released")


def shared(config, name: str, pairs: dict[str, str]) -> None:
    """Budget, sizes and optimizer of a data set; the same for both methods.

    Raises:
      UserError: an unknown recipe.
    """
    recipe = pairs.get("recipe", config.recipe)
    if recipe not in RECIPES:
        raise UserError(f"config: no recipe {recipe!r}{common.nearest(recipe, RECIPES)}")
    if name == "embedded":
        embedded(config, pairs.get("backbone", "mobilenet_v2"))
    elif pairs.get("backbone") == "mobilenet_v2":
        small_photos(config)
    if name == "ilsvrc":
        config.train.epochs = 3.0
    elif name == "cub":
        # 200 steps an epoch: the papers' fall after every epoch would end before it began.
        config.train.epochs, config.optimizer.decay_epochs = 30.0, 10.0
    if recipe == "released":
        # SPG's released code, and so for its plain network too.
        config.data.resize, config.data.resize_mode, config.data.crop = 356, "shorter", 321
        config.optimizer.nesterov = True


def embedded(config, backbone: str = "mobilenet_v2") -> None:
    """Ten minutes' worth of learning in two: a quarter-width MobileNetV2 from scratch."""
    config.data.resize, config.data.crop = 96, 96
    config.model.backbone, config.model.width = "mobilenet_v2", 0.5
    config.model.output_stride = 8
    if backbone == "mobilenet_v2":
        config.model.final_endpoint = "block_13"
    config.model.batch_norm = "batch"
    config.model.head_channels = 128
    config.train.batch_size, config.train.epochs = 32, 4.0
    config.optimizer.backbone_lr = config.optimizer.head_lr = 0.05
    config.optimizer.schedule, config.optimizer.warmup_steps = "cosine", 30


def small_photos(config) -> None:
    """Fine-tuning on a few hundred photos."""
    config.train.epochs = 5.0
    config.optimizer.backbone_lr, config.optimizer.head_lr = 3e-4, 2e-2
    config.optimizer.schedule = "cosine"
