"""The choice of a kind of evaluation: the one place that asks what a network gives."""

import functools
import pathlib
from collections.abc import Callable, Sequence

import jax
import ml_collections
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.stored import read_arrays, reading
from wsol_jax.data.pipeline import eval_size
from wsol_jax.data.views import eval_center
from wsol_jax.evaluate import figures, segments
from wsol_jax.evaluate.boxes import Boxes, BoxScores
from wsol_jax.evaluate.kind import Kind
from wsol_jax.evaluate.multi_label import MultiLabel, MultiLabelScores
from wsol_jax.evaluate.results import Results
from wsol_jax.evaluate.segment_scores import SegmentationScores
from wsol_jax.evaluate.segments import Segments
from wsol_jax.explain import named
from wsol_jax.methods import Localization, Maps, Segmentation
from wsol_jax.runs.checkpoint import check_choice
from wsol_jax.runs.figures import AGAIN
from wsol_jax.runs.opened import Network


def of(network: Network) -> Kind:
    """The kind by which a network's whole is measured, with those of its parts.

    A segmentation is measured as such; class maps by the labels that an image may have.
    """
    config, size = network.config, eval_size(network.config)
    leaves, tree = jax.tree.flatten(network.variables)
    shapes = tuple((np.shape(leaf), str(leaf.dtype)) for leaf in leaves)
    found = _given(network.method.localize, size, tree, shapes)
    explained = _explained(network, found, size)
    parts = {} if explained else found.parts
    kinds = {name: _kind(maps, config) for name, maps in parts.items()}
    whole = _kind(found.maps, config)(config, {n: kind(config) for n, kind in kinds.items()})
    # One pass gives every part its maps.
    whole.every_map = whole.every_map or any(kind.every_map for kind in kinds.values())
    return whole


def _explained(network: Network, found: Localization, size: int) -> bool:
    """Whether an explanation is scored in place of class maps.

    Raises:
      UserError: it cannot be had of this network.
    """
    options = network.config.eval
    if not options.explain:
        return False
    if isinstance(found.maps, Segmentation):
        raise UserError(
            "eval.explain: this run is measured by its segmentation, not by class maps that an "
            "explanation could stand for."
        )
    try:
        own = (network.method, network.variables, options.explain, options.explain_layer)
        named.check(*own, size)
    except UserError as error:
        raise _of_field(error) from None
    return options.explain != named.CAM


def _of_field(error: UserError) -> UserError:
    return UserError(f"eval.explain: {str(error).removeprefix('explain: ')}")


def _kind(maps: Maps, config: ml_collections.ConfigDict) -> type[Kind]:
    if isinstance(maps, Segmentation):
        return Segments
    return MultiLabel if config.data.multi_label else Boxes


@functools.lru_cache(maxsize=32)
def _given(
    localize: Callable, size: int, tree: jax.tree_util.PyTreeDef, shapes: tuple
) -> Localization:
    """What a network gives, in shapes."""
    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    images = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
    return jax.eval_shape(localize, jax.tree.unflatten(tree, leaves), images)


def load(path: pathlib.Path) -> Results:
    """The per-image rows of a list, of whichever kind the file is.

    Raises:
      UserError: no such file, a damaged one, or one of something else.
    """
    arrays = read_arrays(path, AGAIN)
    owners = {name.partition("/")[0] for name in arrays}
    for kind in (MultiLabelScores, SegmentationScores, BoxScores):
        if kind.MARK in owners:
            with reading(path, AGAIN):
                return kind.from_arrays(arrays)
    raise UserError(f"{path} holds no per-image results of any kind: {AGAIN}.")


def check_options(config: ml_collections.ConfigDict, class_names: Sequence[str]) -> None:
    """Raises UserError for an ``eval`` section that could not be scored by, before any work.

    The fields' types and ranges are ``fields.check``'s.
    """
    options = config.eval
    if options.best_metric not in figures.WATCHED:
        known = ", ".join(map(repr, figures.WATCHED))
        raise UserError(f"eval.best_metric: {options.best_metric!r} is not one of {known}.")
    check_choice(options.checkpoint)
    eval_center(config)
    if options.explain_layer and not options.explain:
        raise UserError("eval.explain_layer: goes with eval.explain, which is empty.")
    if options.explain:
        try:
            named.named(options.explain)
        except UserError as error:
            raise _of_field(error) from None
    segments.check_options(options, class_names)
