"""Rounds that change nothing any more: label stages compared, and what is left out after them."""

import concurrent.futures

import numpy as np
from absl import logging

from wsol_jax.base import threads
from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.data.pseudo_labels import LabelFolder
from wsol_jax.data.records import Source
from wsol_jax.stages import product
from wsol_jax.stages.sections import label_stages

CHANGED = "changed"  # among a label stage's figures


def changed_share(now: LabelFolder, before: LabelFolder, source: Source) -> float | None:
    """The share of a list's pixels whose class differs between two label stages.

    Photos that one of them has no labels of count for nothing; None where there is no other.
    """

    def compare(index: int) -> tuple[int, int]:
        name = source[index].image_id
        if not (now.has(name) and before.has(name)):
            return 0, 0
        one, other = now.read(name), before.read(name)
        return int(np.count_nonzero(one != other)), one.size

    with concurrent.futures.ThreadPoolExecutor(threads.usable_cores()) as pool:
        found = list(threads.in_order(pool, compare, range(len(source))))
    total = sum(x for _, x in found)
    return sum(x for x, _ in found) / total if total else None


def is_left_out(config: Config, name: str, folders: dict[str, LabelFolder]) -> bool:
    """Whether a stage is one of a round that the labels before it made needless.

    What a round that is left out would have settled is left out too.

    Args:
      config: the run's.
      folders: of the label stages, done or not.
    """
    rule = tuple(config.stage[name].get("settled", ()))
    if not rule:
        return False
    stage, least = rule
    if is_left_out(config, stage, folders):
        return True
    changed = product.read_figures(folders[stage].folder).get(CHANGED)
    if changed is None or changed >= least:
        return False
    logging.info(
        "stage %s is left out: %.2f %% of the pixels of %s changed, fewer than %.2f %%",
        name,
        100 * changed,
        stage,
        100 * least,
    )
    return True


def check_rules(config: Config) -> None:
    """Raises UserError for ``before`` or ``settled`` of a stage that name no label stage before."""
    for place, name in enumerate(config.stages):
        own = config.stage.get(name, {})
        rule = tuple(own.get("settled", ()))
        if rule and (len(rule) != 2 or not 0 <= float(rule[1]) < 1):
            raise UserError(
                f"stage.{name}.settled: expected (LABEL_STAGE, SHARE in [0, 1)), got {rule}."
            )
        known = set(label_stages(config)) & set(config.stages[:place])
        for field, stage in {"before": own.get("before"), "settled": (rule or [""])[0]}.items():
            if stage and stage not in known:
                raise UserError(f"stage.{name}.{field}: {stage!r} is no label stage before it.")
        if rule and not config.stage[rule[0]].get("before"):
            raise UserError(
                f"stage.{name}.settled: {rule[0]!r} is compared with nothing: set its before."
            )
