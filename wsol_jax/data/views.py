"""What of a test photo a network is shown, as a config's ``eval`` section says."""

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.data.pipeline import eval_size


def eval_resize(config: Config) -> int:
    """Pixels of a test photo before its crops, whose share of it is that of the training's."""
    size = eval_size(config)
    return round(size * max(config.data.resize / config.data.crop, 1.0))


def eval_center(config: Config) -> int:
    """What ``transforms.view`` shows of a test photo by ``eval.view``: 0 for the whole.

    Raises:
      UserError: another view than "whole" and "center".
    """
    if config.eval.view not in ("whole", "center"):
        raise UserError(f"eval.view: {config.eval.view!r} is not one of 'whole', 'center'.")
    return eval_resize(config) if config.eval.view == "center" else 0
