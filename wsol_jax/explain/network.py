"""What is explained: a network with a layer tapped, and the ways to make one of what a user has."""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import jax

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Tree
from wsol_jax.methods import Method, Tap
from wsol_jax.networks.taps import LinenModule, LinenTap, NnxTap, split

if TYPE_CHECKING:
    from wsol_jax.networks.taps import NnxModule


class Network(Protocol):
    """What every explanation takes: images to features and outputs, the features bumped or not."""

    def __call__(
        self, images: jax.Array, bump: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """(B, H, W, 3) -> the layer's features (B, h, w, D); what a target reads, e.g. (B, C).

        ``bump``: (B, h, w, D), added to the features before what follows them is computed.
        """
        ...


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["variables"], meta_fields=["tap", "layer"]
)
@dataclasses.dataclass(frozen=True)
class Tapped:
    """A ``Network`` of a tap, its variables and a layer; a tree whose leaves are the variables.

    A compiled function takes it as an argument.
    """

    variables: Tree
    tap: Tap
    layer: str

    def __call__(
        self, images: jax.Array, bump: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        return self.tap(self.variables, images, self.layer, bump)


def linen(
    module: LinenModule,
    variables: Tree,
    layer: str,
    *,
    outputs: Callable[[Tree], jax.Array] | None = None,
    method: str | None = None,
    **options: bool | int | float | str | None,
) -> Tapped:
    """A linen module at one of its layers.

    Args:
      module: called with images; what it gives, or what ``outputs`` makes of that, are the class
        scores (B, C) or whatever the target reads.
      variables: as ``module.apply`` takes them.
      layer: the name of a module within ("Conv_3"), or its path ("block2/Conv_0") where several
        have the name; with ":input" behind it, what goes into that. It must be called once.
      outputs: a function of what the module gives, e.g. ``lambda found: found[0]``.
      method: of the module, where it is not its ``__call__``.
      options: further arguments of ``apply``, such as ``train=False``.
    """
    return Tapped(variables, LinenTap(module, outputs, method, tuple(options.items())), layer)


def nnx(
    module: "NnxModule", layer: str, *, outputs: Callable[[Tree], jax.Array] | None = None
) -> Tapped:
    """An nnx module at one of its layers; it stays as it is.

    Args:
      module: as it shall be asked: after ``module.eval()`` where it has dropout.
      layer: the path of a module within: "conv2", "blocks.3.conv"; ":input" as for ``linen``.
      outputs: as for ``linen``.
    """
    graph, state = split(module)
    return Tapped(state, NnxTap(graph, outputs), layer)


@dataclasses.dataclass(frozen=True)
class _Halves:
    features: Callable[[jax.Array], jax.Array]
    head: Callable[[jax.Array], jax.Array]

    def __call__(self, variables, images, layer, bump=None):
        del variables, layer
        found = self.features(images)
        found = found if bump is None else found + bump.astype(found.dtype)
        return found, self.head(found)


def plain(
    features: Callable[[jax.Array], jax.Array], head: Callable[[jax.Array], jax.Array]
) -> Tapped:
    """A network as two functions: images -> features (B, h, w, D), features -> class scores."""
    return Tapped({}, _Halves(features, head), "")


@dataclasses.dataclass(frozen=True)
class _Whole:
    call: Callable[[jax.Array], tuple[jax.Array, jax.Array]]

    def __call__(self, variables, images, layer, bump=None):
        del variables, layer
        if bump is not None:
            raise UserError(
                "a plain function images -> (logits, features) tells no gradient of its features: "
                "cam, score_cam and eigen_cam work on it; for the others give its two halves, "
                "explain.plain(features, head), or the module, explain.linen or explain.nnx."
            )
        logits, features = self.call(images)
        return features, logits


def function(call: Callable[[jax.Array], tuple[jax.Array, jax.Array]]) -> Tapped:
    """A network as one function: images -> (class scores (B, C), features (B, h, w, D)).

    Enough for cam, score_cam and eigen_cam; the others need ``plain``.
    """
    return Tapped({}, _Whole(call), "")


def of_method(method: Method, variables: Tree, layer: str = "") -> Tapped:
    """The network of a method of this package.

    Args:
      layer: see ``methods.Tap``; "" for the one that its class maps come from.

    Raises:
      UserError: the method has no tap, or no such layer of its own.
    """
    if method.tap is None:
        raise UserError(
            "explain: this run's method gives no features (it has no tap), so there is nothing to "
            "explain its class scores by."
        )
    if not (layer or method.maps_layer):
        raise UserError("explain: this run's method names no layer of its class maps: name one.")
    return Tapped(variables, method.tap, layer or method.maps_layer)
