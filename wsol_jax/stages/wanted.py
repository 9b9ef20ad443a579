"""What a method asks of its training: labels, with the folders of those that make them; steps."""

from collections.abc import Mapping

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.data.pseudo_labels import BatchLabels, LabelFolder, parse_labels
from wsol_jax.methods import Method
from wsol_jax.runs.plan import Plan


def batch_labels(
    config: Config, method: Method, folders: Mapping[str, LabelFolder], section: str = ""
) -> dict[str, BatchLabels]:
    """What a training's batches carry beside photos and image labels, by name.

    Args:
      config: the stage's.
      folders: of the label stages before it, by stage.
      section: of the config where ``labels`` stands, for the errors: "stage.segment.".

    Raises:
      UserError: labels that the method asks for and nobody makes, others that it does not ask for,
        or some of another kind.
    """
    places, field = parse_labels(config.labels), f"{section}labels"
    for name in method.wants:
        if name not in places:
            raise UserError(
                f"{field}: {config.method} trains on labels called {name!r}: name the stage that "
                f"makes them, {name}=STAGE."
            )
    found = {}
    for name, (stage, product) in places.items():
        if name not in method.wants:
            raise UserError(f"{field}: {config.method} asks for no labels called {name!r}.")
        if stage not in folders:
            raise UserError(f"{field}: {stage!r}, for {name!r}, is no label stage before it.")
        folder, spec = folders[stage], method.wants[name]
        product = folder.product(product)
        if not folder.products[product].fits(spec):
            raise UserError(
                f"{field}: {name!r} is asked for as {np.dtype(spec.dtype).name} of {spec.shape}, "
                f"and stage {stage!r} leaves {folder.products[product].kind}."
            )
        found[name] = BatchLabels(folder, product, spec)
    return found


def check_warm_up(config: Config, method: Method, plan: Plan, section: str = "") -> None:
    """Raises UserError for a training that ends before every part of the loss has had its turn.

    ``config`` and ``section``: as for ``batch_labels``.
    """
    steps, field = method.warm_up
    if plan.num_steps <= steps:
        raise UserError(
            f"{section}train.epochs={config.train.epochs:g}: the run has {plan.num_steps} steps, "
            f"and the first {steps} only warm up ({field}): train longer or warm up less."
        )
