"""Targets: the one number of an image that an explanation explains, of what a network gives.

A target is any function from a network's outputs to (B,) numbers. These are trees whose leaves are
their arrays, so that a compiled function takes them as arguments: another class, no compilation.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Tree

Target = Callable[[jax.Array | Tree], jax.Array]
Classes = int | np.ndarray | jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassScore:
    """The score of a class before softmax: of (B, C) logits, (B,)."""

    classes: Classes

    def __call__(self, logits: jax.Array) -> jax.Array:
        _check(logits, 2, "class_score")
        return _of_class(logits, self.classes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Probability:
    """The probability of a class: of (B, C) logits, (B,) in 0..1, by softmax."""

    classes: Classes

    def __call__(self, logits: jax.Array) -> jax.Array:
        _check(logits, 2, "probability")
        return _of_class(jax.nn.softmax(logits.astype(jnp.float32)), self.classes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Difference:
    """How much more a class scores than another: what tells the two apart."""

    classes: Classes
    others: Classes

    def __call__(self, logits: jax.Array) -> jax.Array:
        _check(logits, 2, "difference")
        return _of_class(logits, self.classes) - _of_class(logits, self.others)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pixel:
    """The score of a class in one cell of a segmentation's scores (B, h, w, C)."""

    classes: Classes
    rows: Classes
    columns: Classes

    def __call__(self, scores: jax.Array) -> jax.Array:
        _check(scores, 4, "pixel")
        _check_range(self.rows, scores.shape[1], "row")
        _check_range(self.columns, scores.shape[2], "column")
        own = _of_class(scores, self.classes)
        return own[jnp.arange(len(own)), self.rows, self.columns]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Region:
    """The sum of a class's scores where a mask says, of a segmentation's scores (B, h, w, C)."""

    classes: Classes
    mask: np.ndarray | jax.Array  # (h, w), or (B, h, w)

    def __call__(self, scores: jax.Array) -> jax.Array:
        _check(scores, 4, "region")
        mask = jnp.asarray(self.mask, jnp.float32)
        if mask.shape[-2:] != scores.shape[1:3]:
            raise UserError(
                f"region: the mask has shape {mask.shape}, expected the scores' "
                f"{scores.shape[1:3]}."
            )
        return jnp.sum(_of_class(scores, self.classes) * mask, axis=(1, 2))


# As a user writes them.
class_score, probability, difference = ClassScore, Probability, Difference
pixel, region = Pixel, Region


def mirrored(target: Target) -> Target:
    """The same target for a network that was shown its images mirrored: maps are turned back."""

    def back(outputs: jax.Array | Tree) -> jax.Array:
        turn = lambda x: x[:, :, ::-1] if x.ndim == 4 else x
        return target(jax.tree.map(turn, outputs))

    return back


def _of_class(scores: jax.Array, classes: Classes) -> jax.Array:
    """(B, ..., C), a class or one an image -> (B, ...) float32."""
    _check_range(classes, scores.shape[-1], "class")
    if jnp.shape(classes) not in ((), scores.shape[:1]):
        raise UserError(
            f"target: expected one class, or one for each of {len(scores)} images, got "
            f"{jnp.shape(classes)}."
        )
    classes = jnp.broadcast_to(jnp.asarray(classes), scores.shape[:1])
    classes = classes.reshape(-1, *(1,) * (scores.ndim - 1))
    return jnp.take_along_axis(scores, classes, axis=-1)[..., 0].astype(jnp.float32)


def _check(outputs: jax.Array | Tree, rank: int, name: str) -> None:
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) != rank:
        wanted = {2: "class scores (B, C)", 4: "scores of cells (B, h, w, C)"}[rank]
        got = f"an array {shape}" if shape is not None else f"a {type(outputs).__name__}"
        raise UserError(f"target {name}: expected {wanted} from the network, got {got}.")


def _check_range(values: Classes, size: int, name: str) -> None:
    """Raises UserError for a class that is not there; of traced ones nobody knows."""
    if isinstance(values, jax.core.Tracer):
        return
    known = np.asarray(values)
    if known.dtype.kind not in "iu":
        raise UserError(f"target: expected whole numbers as {name}, got {known.dtype}.")
    if known.size and (known.min() < 0 or known.max() >= size):
        wrong = known.min() if known.min() < 0 else known.max()
        raise UserError(f"target: there is no {name} {wrong}, the network has 0 to {size - 1}.")
