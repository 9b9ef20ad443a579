"""What is checked of a run in stages before anything is trained or written."""

import functools
import pathlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax import methods
from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.data.lists import Lists
from wsol_jax.data.pipeline import check_crop, check_readable, eval_size
from wsol_jax.data.pseudo_labels import LabelFolder
from wsol_jax.data.records import has_masks
from wsol_jax.evaluate import kinds
from wsol_jax.evaluate.label_scores import check_classes
from wsol_jax.methods import Labeller, LabelSpec, Method, Variables
from wsol_jax.runs import workdirs
from wsol_jax.runs.opened import Network, begun_config
from wsol_jax.runs.plan import Plan, resolve, without_weights
from wsol_jax.stages.make import compile_make
from wsol_jax.stages.product import own_network
from wsol_jax.stages.sections import (
    label_stages,
    only_module,
    stage_config,
    start_of,
    trainings,
)
from wsol_jax.stages.wanted import batch_labels, check_warm_up


def check_evaluation(config: Config, lists: Lists) -> None:
    """Raises UserError for an ``eval`` section by which this run cannot be scored."""
    kinds.check_options(config, lists.class_names)
    for source in filter(None, (lists.tune, *lists.tests.values())):
        check_readable(source, config.data.max_corrupt)
    names, options = trainings(config), config.eval
    if options.labels:
        if not label_stages(config):
            raise UserError("eval.labels: no stage of this run writes labels.")
        check_classes(len(lists.class_names))
        train = lists.train
        if not has_masks(train):
            raise UserError(f"eval.labels: list {train.name!r} has no masks to score them by.")
    for name in options.stages:
        if name not in names[:-1]:
            known = ", ".join(names[:-1]) or "none"
            raise UserError(
                f"eval.stages: {name!r} is no training before the last, which is scored anyway: "
                f"{known}."
            )
        if list(options.stages).count(name) > 1:
            raise UserError(f"eval.stages: {name!r} stands there twice.")


def open_labellers(config: Config, lists: Lists) -> dict[str, Labeller]:
    """The labellers of a run, by stage: each traced once, on shapes alone.

    Raises:
      UserError: one reads what is not before it, or what its networks cannot give.
    """
    found: dict[str, Labeller] = {}
    for name in label_stages(config):
        own = without_weights(stage_config(config, name))
        labeller = methods.build_labeller(own, len(lists.class_names))
        before = config.stages[: config.stages.index(name)]
        for role, read in labeller.reads.items():
            if read not in before:
                raise UserError(
                    f"stage {name!r} reads {role}={read!r}, which is no stage before it."
                )
        for wanted, spec in labeller.wants.items():
            _check_wanted(name, labeller, found, wanted, spec)
        if labeller.make is not None:
            _trace(config, name, own, labeller, len(lists.class_names))
        found[name] = labeller
    return found


def _check_wanted(
    name: str, labeller: Labeller, known: Mapping[str, Labeller], wanted: str, spec: LabelSpec
) -> None:
    """Raises UserError where the labels that a labeller wants in its batch are not such labels."""
    stage = labeller.reads[wanted]
    products = known[stage].products if stage in known else {}
    if len(products) != 1 or not all(own.fits(spec) for own in products.values()):
        raise UserError(
            f"stage {name!r} wants {wanted!r} as {np.dtype(spec.dtype).name} of {spec.shape}, and "
            f"stage {stage!r} leaves {[own.kind for own in products.values()] or 'no labels'}."
        )


def _trace(config: Config, name: str, own: Config, labeller: Labeller, classes: int) -> None:
    """Shapes through ``make``: a layer that is not there is told before the hours of training."""
    shaped, found = {}, {}
    names = trainings(config)
    for role, read in labeller.reads.items():
        if read in names:
            theirs = without_weights(stage_config(config, read))
            found[role], shaped[role] = _shaped(_ByText(theirs), classes)
    size = eval_size(own)
    batch = {
        "image": jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8),
        "labels": jax.ShapeDtypeStruct((1, classes), jnp.float32),
    }
    for wanted, spec in labeller.wants.items():
        batch[wanted] = jax.ShapeDtypeStruct((1, *spec.shape), spec.dtype)
    made = jax.eval_shape(compile_make(labeller, found), shaped, batch)
    if labeller.finish is None:  # what ``make`` gives is stored as it is
        _check_made(name, labeller, made)


def _check_made(name: str, labeller: Labeller, made: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Raises UserError where shapes and dtypes of one photo's arrays are not the products'."""
    if set(made) != set(labeller.products):
        raise UserError(
            f"labeller: stage {name!r} makes {sorted(made)}, but should leave "
            f"{sorted(labeller.products)}."
        )
    for product, own in labeller.products.items():
        shape, dtype = made[product].shape, made[product].dtype
        where = f"labeller: stage {name!r}, product {product!r}"
        if shape[:1] != (1,):
            raise UserError(f"{where}: expected a row for each photo, got {shape} for one photo.")
        try:  # a photo's own size is not known here
            own.check(np.zeros(shape[1:], dtype), shape[2:0:-1])
        except ValueError as error:
            raise UserError(f"{where}: {error}.") from None


def check_training(
    config: Config,
    name: str,
    workdir: pathlib.Path,
    lists: Lists,
    labellers: Mapping[str, Labeller],
) -> None:
    """Raises UserError for a training that cannot be run, or labels that are none for it."""
    own = without_weights(stage_config(config, name))
    names = trainings(config)
    earlier = names[: names.index(name)]
    for read in own.reads:
        if read not in earlier:
            known = ", ".join(earlier) or "none"
            raise UserError(f"stage.{name}.reads: {read!r} is no training before it: {known}.")
    check_crop(own.data)
    classes = lists.class_names
    method = methods.build(own, len(classes))
    if own.reads:  # it begins when others are trained, and has layers of its own to name
        _shaped(_ByText(own), len(classes))
    if own.start:
        _check_start(config, name, own, earlier, len(classes))
    if name == names[-1] or name in config.eval.stages:
        check_scoring(own, lists)
    check_length(own, method, lists, f"stage.{name}.")
    before = config.stages[: config.stages.index(name)]
    folders = {
        stage: LabelFolder(workdir / stage, labeller.products)
        for stage, labeller in labellers.items()
        if stage in before
    }
    batch_labels(own, method, folders, f"stage.{name}.")


def _check_start(
    config: Config, name: str, own: Config, earlier: Sequence[str], classes: int
) -> None:
    """Raises UserError where a training cannot go on from the network of the stage ``start``."""
    stage, module = start_of(own)
    if stage not in earlier:
        known = ", ".join(earlier) or "none"
        raise UserError(f"stage.{name}.start: {stage!r} is no training before it: {known}.")
    theirs = without_weights(stage_config(config, stage))
    given, wanted = (
        own_network(_shaped(_ByText(each), classes)[1], each.reads) for each in (theirs, own)
    )
    given, wanted = (
        jax.tree.map(np.shape, only_module(network, module)) for network in (given, wanted)
    )
    if not given:
        raise UserError(
            f"stage.{name}.start: the network of {stage!r} has no module called {module!r}."
        )
    if given != wanted:
        what = f"the {module} of {stage!r}" if module else f"the network of {stage!r}"
        needs = "model section" if module else "method and model section"
        raise UserError(
            f"stage.{name}.start: {what} has other shapes than this stage's: both need the same "
            f"{needs}."
        )


def check_length(config: Config, method: Method, lists: Lists, section: str = "") -> None:
    """Raises UserError for a training that ends before every part of its loss has had its turn."""
    plan = Plan.of(config.train, len(lists.train), sharding.data_mesh(config.train.devices))
    check_warm_up(config, method, plan, section)


def check_weights(config: Config, wanted: Sequence[str]) -> None:
    """Fetches the weight files of the trainings in ``wanted``: each may have one of its own.

    Raises:
      UserError: one is not there and cannot be fetched, as ``resolve`` says.
    """
    for name in trainings(config):
        if name in wanted:
            resolve(stage_config(config, name))


def check_single(config: Config, lists: Lists) -> None:
    """Raises UserError for a run of one training that cannot be trained or scored as asked."""
    check_scoring(config, lists)
    plain = without_weights(config)
    check_length(plain, _shaped(_ByText(plain), len(lists.class_names))[0], lists)


def check_scoring(config: Config, lists: Lists) -> None:
    """Raises UserError where what a network gives cannot be scored as its config asks."""
    config = without_weights(config)
    method, variables = _shaped(_ByText(config), len(lists.class_names))
    mesh = sharding.data_mesh(config.train.devices)
    kinds.of(Network(config, method, variables, mesh)).check(lists)


class _ByText:
    """A config that equals any other of the same text: the key of a cache."""

    def __init__(self, config: Config):
        self.config, self._text = config, config.to_json_best_effort()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByText) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@functools.lru_cache(maxsize=16)
def _shaped(key: _ByText, num_classes: int) -> tuple[Method, Variables]:
    """A method, and the shapes of its variables; traced once however many checks ask for it."""
    method, crop = methods.build(key.config, num_classes), key.config.data.crop
    images = jax.ShapeDtypeStruct((1, crop, crop, 3), jnp.uint8)
    return method, jax.eval_shape(method.init, jax.random.key(0), images)


def check_folders(config: Config, workdir: pathlib.Path, lists: Lists) -> None:
    """Raises UserError where a workdir holds another run, or stages of another config."""
    for name in trainings(config):
        if workdirs.has_checkpoint(workdir / name):
            begun_config(stage_config(config, name), workdir / name, lists.class_names)
    if workdirs.has_checkpoint(workdir):
        raise UserError(f"--workdir={workdir} holds a run of one stage: take another.")
