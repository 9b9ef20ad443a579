"""A layer inside a Flax module, tapped: what it gives, and something else given in its place."""

import contextlib
import dataclasses
import difflib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import flax.linen as nn
import jax

from wsol_jax.base.errors import UserError
from wsol_jax.base.text import printable
from wsol_jax.base.types import Tree

LinenModule = nn.Module
if TYPE_CHECKING:  # linen needs no half second of nnx
    from flax import nnx

    NnxModule = nnx.Module

Change = Callable[[jax.Array], jax.Array]

# Behind a layer's name: not what it gives but what goes into it, such as the features under a
# classifier, behind their ReLU.
INPUT = ":input"
_SHOWN = 12


class Unbiased(NamedTuple):
    """What a layer gives whose bias is added later on; the layer's map is their sum."""

    map: jax.Array
    bias: jax.Array


@dataclasses.dataclass
class Seen:
    """What a pass through a module saw of a layer.

    Attributes:
      layer: its name as the user wrote it.
      change: of what it gives; None for none.
      found: its maps, in the order of the calls.
      names: of all layers that gave maps, for the sentence.
    """

    layer: str
    change: Change | None = None
    found: list[jax.Array] = dataclasses.field(default_factory=list)
    names: list[str] = dataclasses.field(default_factory=list)

    @property
    def inward(self) -> bool:
        """Whether the layer's input is meant."""
        return self.layer.endswith(INPUT)

    @property
    def wanted(self) -> str:
        """The layer's name or path, without ``INPUT``."""
        return self.layer.removesuffix(INPUT)

    def call(
        self, layer: Callable[..., jax.Array], arguments: tuple, options: dict
    ) -> jax.Array | Tree:
        """Calls the layer that is meant: its map, or its input's, is changed and kept."""
        if self.inward and arguments:
            arguments = (self._changed(arguments[0]), *arguments[1:])
        value = layer(*arguments, **options)
        return value if self.inward else self._changed(value)

    def _changed(self, value: jax.Array) -> jax.Array:
        if isinstance(value, Unbiased):
            return Unbiased(self._changed(value.map + value.bias) - value.bias, value.bias)
        if not is_map(value):
            return value
        self.found.append(value if self.change is None else self.change(value))
        return self.found[-1]

    def only(self) -> jax.Array:
        """The map of the one call of the layer.

        Raises:
          UserError: there was none, or several; the sentence names layers that there are.
        """
        if len(self.found) == 1:
            return self.found[0]
        raise UserError(
            f"the network has {len(self.found)} layers named {printable(self.layer)!r} that give a "
            f"map, expected one{_known(self.wanted, self.names)}"
        )


def is_map(value: jax.Array | Tree) -> bool:
    """Whether this is an array (B, h, w, D)."""
    return isinstance(value, jax.Array) and value.ndim == 4


def _known(wanted: str, names: list[str]) -> str:
    """The end of a sentence that refuses a layer: the nearest name, and the last ones."""
    distinct = [name for name in dict.fromkeys(names) if name]
    if not distinct:
        return "."
    near = difflib.get_close_matches(wanted, distinct, n=1, cutoff=0.0)[0]
    which = "they are" if len(distinct) <= _SHOWN else f"the last of {len(distinct)} are"
    return f"; did you mean {near!r}? By path {which} {', '.join(distinct[-_SHOWN:])}."


def adding(bump: jax.Array | None) -> Change | None:
    """The change that adds (B, h, w, D); none for None."""
    return None if bump is None else lambda value: value + bump.astype(value.dtype)


@contextlib.contextmanager
def tapped(layer: str, change: Change | None = None) -> Iterator[Seen]:
    """Within it, passes of linen modules tell what one layer gives, and may have it changed.

    Args:
      layer: a module's name ("conv4_1"), or its path from the root where several have the name
        ("head_1/class_maps"); with ``INPUT`` behind it, what goes into it.
      change: of the layer's map (B, h, w, D), to one of the same shape.
    """
    seen = Seen(layer, change)

    def intercept(call, arguments, options, context):
        if context.method_name != "__call__":
            return call(*arguments, **options)
        path = "/".join(context.module.path)
        if seen.wanted and seen.wanted in (context.module.name, path):
            value = seen.call(call, arguments, options)
        else:
            value = call(*arguments, **options)
        if is_map(value) or isinstance(value, Unbiased):
            seen.names.append(path)
        return value

    with nn.intercept_methods(intercept):
        yield seen


@dataclasses.dataclass(frozen=True)
class LinenTap:
    """The tap of any linen module.

    Attributes:
      module: called with images.
      outputs: what of the module's result is explained: the class scores, as a rule.
      method: of the module, where it is not its ``__call__``.
      options: further arguments of ``apply``, such as (("train", False),).
    """

    module: LinenModule
    outputs: Callable[[Tree], jax.Array] | None = None
    method: str | None = None
    options: tuple[tuple[str, bool | int | float | str | None], ...] = ()

    def __call__(
        self, variables: Tree, images: jax.Array, layer: str, bump: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Images -> the layer's map (B, h, w, D), what is explained."""
        with tapped(layer, adding(bump)) as seen:
            found = self.module.apply(variables, images, method=self.method, **dict(self.options))
        return seen.only(), found if self.outputs is None else self.outputs(found)


@dataclasses.dataclass(frozen=True)
class NnxTap:
    """The tap of any nnx module, taken apart: its state stands for the variables.

    Attributes:
      graph: of the module, from ``nnx.split``.
      outputs: as ``LinenTap``'s.
    """

    graph: "nnx.GraphDef"
    outputs: Callable[[Tree], jax.Array] | None = None

    def __call__(
        self, state: Tree, images: jax.Array, layer: str, bump: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Images -> the layer's map (B, h, w, D), what is explained.

        ``layer``: its path, such as "layers.3" or "block2.conv".
        """
        from flax import nnx

        module = nnx.merge(self.graph, state)  # a copy: it may be changed
        seen = Seen(layer, adding(bump))
        seen.names += [".".join(map(str, path)) for path, _ in nnx.iter_modules(module)]
        _replace(module, seen)
        found = module(images)
        return seen.only(), found if self.outputs is None else self.outputs(found)


def split(module: "nnx.Module") -> tuple["nnx.GraphDef", Tree]:
    """An nnx module as its graph and its state."""
    from flax import nnx

    return nnx.split(module)


class _Watched:
    """A layer of an nnx module whose calls are seen; all else is the layer's own."""

    def __init__(self, layer: Callable[..., jax.Array], seen: Seen):
        self._layer, self._seen = layer, seen

    def __call__(self, *arguments, **options):
        return self._seen.call(self._layer, arguments, options)

    def __getattr__(self, name: str):
        return getattr(self._layer, name)


def _replace(module: "nnx.Module", seen: Seen) -> None:
    """Puts a watched layer in the place of the one that is meant; leaves a module without it."""
    *parents, last = seen.wanted.split(".")
    try:
        for name in parents:
            module = _part(module, name)
        watched = _Watched(_part(module, last), seen)
        if isinstance(module, list):
            module[int(last)] = watched
        elif isinstance(module, dict):
            module[last] = watched
        else:  # past nnx, which takes no layers that are not its own
            object.__setattr__(module, last, watched)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return  # ``only`` says so


def _part(module: "nnx.Module | list | dict", name: str):
    if isinstance(module, list | tuple):
        return module[int(name)]
    return module[name] if isinstance(module, dict) else getattr(module, name)
