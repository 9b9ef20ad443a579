"""What CAM and SPG have in common on each data set, so that a comparison differs in one thing."""


def shared(config, name: str, pairs: dict[str, str]) -> None:
    """Budget, sizes and optimizer of a data set; the same for both methods."""
    if name == "embedded":
        embedded(config)
    elif pairs.get("backbone") == "mobilenet_v2":
        small_photos(config)
    if name == "ilsvrc":
        config.train.epochs = 3.0
    elif name == "cub":
        # 200 steps an epoch: the papers' fall after every epoch would end before it began.
        config.train.epochs, config.optimizer.decay_epochs = 30.0, 10.0


def embedded(config) -> None:
    """Ten minutes' worth of learning in two: a quarter-width MobileNetV2 from scratch."""
    config.data.resize, config.data.crop = 96, 96
    config.model.backbone, config.model.width = "mobilenet_v2", 0.5
    config.model.output_stride, config.model.final_endpoint = 8, "block_13"
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
