"""The seam between a paper and the rest of the house.

A paper's network is a ``Method``, a few pure functions; what it makes of trained networks for later
ones to learn from is a ``Labeller``.
"""

import dataclasses
import importlib
import importlib.util
import types
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import jax
import numpy as np

from wsol_jax.base import fields
from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config, Groups, Tree
from wsol_jax.data.label_formats import Format, LabelSpec
from wsol_jax.data.pseudo_labels import Arrays, Photo

Variables = Tree
Batch = Mapping[str, jax.Array]
_OF_EVERY_BATCH = frozenset({"image", "labels", "valid", "index"})


class Segmentation(NamedTuple):
    """A segmentation where class maps could stand: what it is scored as, its type says.

    Attributes:
      probabilities: (B, h, w, C) float32 of each class in each cell; with background's they sum
        to 1.
    """

    probabilities: jax.Array


Maps = jax.Array | Segmentation


def plain_maps(maps: Maps) -> jax.Array:
    """The (B, h, w, C) values of class maps, a segmentation's probabilities too."""
    return maps.probabilities if isinstance(maps, Segmentation) else maps


class Localization(NamedTuple):
    """What a network says of a batch of images.

    Attributes:
      logits: (B, C) float32, class scores before softmax.
      maps: (B, h, w, C) float32, raw class maps of any range, more is more object; or a
        ``Segmentation``.
      parts: what is scored beside the whole, by name, each like ``maps``: what they are put
        together from, as a rule.
    """

    logits: jax.Array
    maps: Maps
    parts: Mapping[str, Maps] = {}  # a pytree, so no read-only view


class Classes(NamedTuple):
    """A picture of classes: a report paints it over the photo, in the colours of a segmentation.

    Attributes:
      labels: (B, H, W) uint8, or (H, W) of one image: 0 background, 1 + c class c, 255 none.
    """

    labels: jax.Array


Picture = jax.Array | Classes


class Aux(NamedTuple):
    """What a loss gives beside its value.

    Attributes:
      metrics: name -> scalar, means over the batch, for the log.
      collections: updated variable collections, e.g. {"batch_stats": ...}; {} for none.
      pictures: name -> a picture of each whole image at any size, for the report, in this order:
        (B, H, W) float maps in [0, 1], or uint8 seed masks with 0 background, 255 ignored and
        anything else object; (B, H, W, 3) uint8 photos; ``Classes``.
    """

    metrics: dict[str, jax.Array]
    collections: dict[str, Tree]
    pictures: dict[str, Picture]


class Tap(Protocol):
    """Features at a layer, and the class scores that come of them.

    What any explanation by gradients is built on (``wsol_jax.explain``): the gradient of the scores
    with respect to ``bump`` at zero is that with respect to the layer's own output.
    """

    def __call__(
        self, variables: Variables, images: jax.Array, layer: str, bump: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """(B, H, W, 3) uint8 -> the layer's output (B, h, w, D), logits (B, C) float32.

        Args:
          layer: the name of a module in the network, e.g. "conv4_1" or "block_12_project", or its
            path where several have the name ("head_1/class_maps"); its output is taken before what
            follows it (the ReLU behind conv4_1, say). With ":input" behind it, what goes into it.
          bump: (B, h, w, D), added to the layer's output.

        Raises:
          UserError: the network has no such layer, or several; one that gives no cells is none.
        """
        ...


class WarmUp(NamedTuple):
    """The steps before every part of a loss has its turn, and the config's field that says so."""

    steps: int = 0
    field: str = ""


@dataclasses.dataclass(frozen=True)
class Method:
    """A paper as pure functions; the loop, the checkpoints and the report know nothing else.

    Attributes:
      init: (rng, images) -> variables, pretrained weights merged in. What an earlier stage makes
        stands under that stage's name; the stage's checkpoint replaces it (``wsol_jax.stages``).
      param_groups: params -> a tree of labels like params: "<part>/<kind>" with part "frozen"
        or one that has a learning rate ``optimizer.<part>_lr`` ("backbone", "head";
        SPG's "branch", "guide"), and kind "kernel", "bias" or "norm". The optimizer reads them.
      loss: (variables, batch, rng, step) -> (loss, Aux). Batch: "image" (B, H, W, 3) uint8,
        "labels" (B, C) multi-hot, "valid" (B,) bool, False at padded examples; and what the method
        ``wants``.
      localize: (variables, images uint8) -> Localization. No randomness, no guidance branches.
      wants: the pseudo-labels that the loss reads, by their names in the batch: an array's shape
        and dtype for one image, and the value where there is no label.
      tap: see ``Tap``; None for a network that nobody explains.
      infer: (variables, batch) -> arrays (B, ...) by name, for label stages, from photos and other
        labels of them; None where ``localize`` says all. Batch: "image", and what the method says.
      warm_up: steps before every part of the loss has its turn, and the field that sets them, e.g.
        "hide_and_seek.early_steps"; a run of no more steps is refused before training.
      maps_layer: the layer, as ``tap`` names it, whose cells the class maps are weighted sums of:
        where an explanation looks unless it is told where.

    Raises:
      ValueError: a name in ``wants`` that every batch has already.
    """

    init: Callable[[jax.Array, jax.Array], Variables]
    param_groups: Callable[[Tree], Groups]
    loss: Callable[[Variables, Batch, jax.Array, jax.Array], tuple[jax.Array, Aux]]
    localize: Callable[[Variables, jax.Array], Localization]
    wants: Mapping[str, LabelSpec] = dataclasses.field(default_factory=dict, hash=False)
    tap: Tap | None = None
    infer: Callable[[Variables, Batch], Mapping[str, jax.Array]] | None = None
    warm_up: WarmUp = dataclasses.field(default_factory=WarmUp)
    maps_layer: str = ""

    def __post_init__(self) -> None:
        if taken := sorted(_OF_EVERY_BATCH & set(self.wants)):
            raise ValueError(f"a method wants no labels under the name {taken[0]!r}")


class Trained(NamedTuple):
    """A method with the variables of a finished stage, as a labeller reads it."""

    method: Method
    variables: Variables

    def localize(self, images: jax.Array) -> Localization:
        """``Method.localize`` of a batch of uint8 images."""
        return self.method.localize(self.variables, images)

    def tap(
        self, images: jax.Array, layer: str, bump: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """``Method.tap`` of a batch of uint8 images."""
        return self.method.tap(self.variables, images, layer, bump)

    def infer(self, batch: Batch) -> Mapping[str, jax.Array]:
        """``Method.infer`` of a batch.

        Raises:
          UserError: the method has no such answer.
        """
        if self.method.infer is None:
            raise UserError("labeller: the method of the network that it reads infers nothing.")
        return self.method.infer(self.variables, batch)


@dataclasses.dataclass(frozen=True)
class Labeller:
    """What makes pseudo-labels of trained networks, of earlier labels, or of the photo alone.

    Attributes:
      reads: the earlier stages that it needs, trainings and label stages, by the names it has for
        them: {"maps": "second", "saliency": "first"}.
      products: what it leaves of each photo, by name, and how that is stored.
      make: (networks by name in ``reads``, batch) -> arrays (B, ...) by name. Pure; compiled, and
        run on whole warped photos over the mesh. Batch: "image" (B, H, W, 3) uint8 of
        ``eval.size`` or ``data.crop`` pixels a side, "labels" (B, C) multi-hot, float32, and what
        it ``wants``. None where no network is asked.
      finish: (photo, what ``make`` gave of it, the photo's earlier labels by name in ``reads`` and
        product) -> arrays to store, by product. NumPy, on the host, in threads. None: what ``make``
        gave is stored as it is.
      wants: earlier labels that ``make`` reads in its batch, by names in ``reads``: an array's
        shape and dtype for one photo, and the value in padding. Each is a stage's only product.
      settings: what the labels depend on beside networks, earlier labels and image labels; its
        ``repr`` tells whether a folder holds labels of other settings.
      seeds: the name in ``reads`` of the network whose class maps the labels grew from; under it
        may stand a label stage, whose own ``seeds`` is meant then; a network that was itself
        trained on labels is followed back to theirs. The class maps of that network
        are the baseline of a segmenter that trains on the labels; a name that is not in ``reads``
        leaves it without.

    Raises:
      ValueError: neither ``make`` nor ``finish``, a name that a folder's inputs have already, or
        wanted labels that are not read.
    """

    reads: Mapping[str, str]
    products: Mapping[str, Format]
    make: Callable[[Mapping[str, Trained], Batch], Mapping[str, jax.Array]] | None = None
    finish: Callable[[Photo, Arrays, Mapping[str, Arrays]], Mapping[str, np.ndarray]] | None = None
    wants: Mapping[str, LabelSpec] = dataclasses.field(default_factory=dict)
    settings: object = ()
    seeds: str = "maps"

    def __post_init__(self) -> None:
        if self.make is None and self.finish is None:
            raise ValueError("a labeller needs make, finish or both")
        if taken := {"settings", "labels"} & set(self.reads):
            raise ValueError(f"a labeller reads nothing under the name {taken.pop()!r}")
        if unread := sorted(set(self.wants) - set(self.reads)):
            raise ValueError(f"a labeller wants {unread[0]!r}, which it does not read")
        if not self.products:
            raise ValueError("a labeller without products leaves nothing")


def build(config: Config, num_classes: int) -> Method:
    """The method that ``config.method`` names.

    "sec" is the function sec of wsol_jax/methods/sec.py; "mine.twice" the function twice of the
    module mine, wherever Python finds that.

    Raises:
      UserError: there is no such file or function; a field that is out of its range.
    """
    fields.check_values(config)
    module, name = _module(config.method)
    method = getattr(module, name, None)
    if method is None:
        raise UserError(f"method: {_file(module)} is no method's file.")
    return _made(method, config, num_classes)


def build_labeller(config: Config, num_classes: int) -> Labeller:
    """The labeller of a label stage: the function ``config.labeller`` beside ``config.method``.

    Args:
      config: the stage's.

    Raises:
      UserError: there is no such file or function; a field that is out of its range.
    """
    fields.check_values(config)
    module, _ = _module(config.method)
    name = config.labeller
    labeller = getattr(module, name, None) if name.isidentifier() else None
    if labeller is None:
        raise UserError(f"labeller: {_file(module)} has no function {name!r}.")
    return _made(labeller, config, num_classes)


def _made(maker: Callable, config: Config, num_classes: int) -> "Method | Labeller":
    """What a method's function makes of a config; a field that it asks for in vain is named."""
    try:
        return maker(config, num_classes)
    except AttributeError as error:
        if not isinstance(error.args[0], KeyError):  # no section's, whose message names the field
            raise
        field = str(error.args[0].args[0]).partition("\n")[0]
        raise UserError(f"method {config.method!r}: the config lacks a field: {field}.") from error


def _module(method: str) -> tuple[types.ModuleType, str]:
    """The file that a method's name means, and the name of its function there."""
    module, _, name = method.rpartition(".")
    if module:
        try:
            return importlib.import_module(module), name
        except (ImportError, ValueError, TypeError) as error:  # "..x" is no name of a module
            raise UserError(
                f"method: {method!r} names a function of a module that cannot be imported: {error}."
            ) from None
    if not name.isidentifier() or importlib.util.find_spec(f"{__name__}.{name}") is None:
        raise UserError(f"method: no file wsol_jax/methods/{name}.py.")
    return importlib.import_module(f"{__name__}.{name}"), name


def _file(module: types.ModuleType) -> str:
    package = f"{__name__}."
    if module.__name__.startswith(package):
        return f"wsol_jax/methods/{module.__name__.removeprefix(package)}.py"
    return f"the module {module.__name__}"
