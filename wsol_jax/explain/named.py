"""Explanations by name: what a config and a notebook write, and the maps of any trained network.

"grad_cam"; "grad_cam+flips" and "grad_cam+smooth" are averages of it (``averages``), and so is
"grad_cam+smooth+flips". "cam" is what the method itself calls its class maps.
"""

import functools
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.text import printable
from wsol_jax.base.types import Tree
from wsol_jax.explain import averages, tried, weighted
from wsol_jax.explain.averages import Explanation
from wsol_jax.explain.network import of_method
from wsol_jax.explain.targets import ClassScore
from wsol_jax.methods import Method, Segmentation

CAM = "cam"
METHODS: dict[str, Explanation] = {
    "grad_cam": weighted.grad_cam,
    "grad_cam_pp": weighted.grad_cam_pp,
    "xgrad_cam": weighted.xgrad_cam,
    "layer_cam": weighted.layer_cam,
    # Photos of this package are 0..255, noisy ones too.
    "score_cam": functools.partial(tried.score_cam, baseline=127.5),
    "eigen_cam": tried.eigen_cam,
    "ablation_cam": tried.ablation_cam,
}
_TOGETHER = 8  # classes of each image
AVERAGES = {"smooth": averages.smooth, "flips": averages.flips}


class HasNetwork(Protocol):
    """A method and its variables, such as ``methods.Trained`` or an opened run."""

    method: Method
    variables: Tree


@functools.lru_cache(maxsize=64)
def named(name: str) -> Explanation | None:
    """The explanation of a name; None is "cam", the method's own class maps.

    Raises:
      UserError: there is no such.
    """
    base, *over = name.split("+")
    unknown = [word for word in over if word not in AVERAGES]
    if (base != CAM and base not in METHODS) or unknown or (base == CAM and over):
        known = ", ".join((CAM, *METHODS))
        raise UserError(
            f"explain: {printable(name)!r} is not one of {known}; behind all but cam may stand "
            f"{' or '.join(f'+{word}' for word in AVERAGES)}."
        )
    if base == CAM:
        return None
    explanation = METHODS[base]
    for word in over:
        explanation = AVERAGES[word](explanation)
    return explanation


def class_maps(
    method: Method,
    variables: Tree,
    images: jax.Array,
    classes: jax.Array,
    name: str,
    layer: str = "",
) -> jax.Array:
    """Explains several classes of each image. Pure, to be compiled.

    Args:
      images: (B, H, W, 3) uint8.
      classes: (B, K).
      name, layer: as for ``maps``.

    Returns:
      (B, K, h, w) float32.
    """
    explanation = named(name)
    if explanation is None:
        return _own_maps(method, variables, images, classes, layer)
    network = of_method(method, variables, layer)
    one = lambda classes: explanation(network, images, ClassScore(classes))
    # Side by side, classes share the passes that depend on none of them: all of Score-CAM's.
    found = jax.lax.map(one, classes.T, batch_size=min(_TOGETHER, classes.shape[1]))
    return jnp.moveaxis(found, 0, 1)


def maps(
    network: HasNetwork | tuple[Method, Tree],
    images: np.ndarray | jax.Array,
    classes: np.ndarray | jax.Array | int,
    name: str = "grad_cam",
    layer: str = "",
) -> jax.Array:
    """Explains one class of each image by any explanation: (B, h, w) float32, more is more object.

    Compiled, once for each method, name, layer and shape.

    Args:
      network: a run that was opened, ``methods.Trained``, or a method and its variables.
      images: (B, H, W, 3) uint8, of the size that the network shall see.
      classes: (B,), or one for all.
      name: "grad_cam", say; see the module.
      layer: as ``methods.Tap`` takes it; "" for the one that the class maps come from.

    Raises:
      UserError: no such explanation, layer or class, or images of another kind; a method that
        cannot be explained.
    """
    method, variables = network if isinstance(network, tuple) else _parts(network)
    shape, dtype = np.shape(images), getattr(images, "dtype", None)
    if len(shape) != 4 or shape[-1] != 3 or dtype != np.uint8:
        raise UserError(f"explain: expected images (B, H, W, 3) of uint8, got {shape} of {dtype}.")
    classes = np.asarray(classes)
    if classes.shape not in ((), shape[:1]):
        raise UserError(
            f"explain: expected one class, or one for each of {shape[0]} images, got "
            f"{classes.shape}."
        )
    classes = np.broadcast_to(classes, shape[:1])
    count = check(method, variables, name, layer, shape[1])
    if classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= count:
        raise UserError(f"explain: expected classes 0 to {count - 1}, got {classes.tolist()[:5]}.")
    return _compiled(method, name, layer, variables, images, classes.astype(np.int32)[:, None])[
        :, 0
    ]


_compiled = jax.jit(
    lambda method, name, layer, variables, images, classes: class_maps(
        method, variables, images, classes, name, layer
    ),
    static_argnums=(0, 1, 2),
)


def check(method: Method, variables: Tree, name: str, layer: str, size: int) -> int:
    """Checks by shapes alone that a network can be explained so: the number of its classes.

    Args:
      variables: arrays or their shapes.
      size: of the square images.

    Raises:
      UserError: no such explanation or layer, or a method that cannot be explained.
    """
    leaves, tree = jax.tree.flatten(variables)
    shapes = tuple((np.shape(leaf), str(leaf.dtype)) for leaf in leaves)
    return _checked(method, name, layer, size, tree, shapes)


@functools.lru_cache(maxsize=64)
def _checked(
    method: Method,
    name: str,
    layer: str,
    size: int,
    tree: jax.tree_util.PyTreeDef,
    shapes: tuple,
) -> int:
    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    variables = jax.tree.unflatten(tree, leaves)
    images = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
    one = jax.ShapeDtypeStruct((1, 1), np.int32)

    def shaped(variables, images, classes):
        made = class_maps(method, variables, images, classes, name, layer)
        if named(name) is None:
            return made, method.localize(variables, images).logits
        return made, of_method(method, variables, layer)(images)[1]

    _, logits = jax.eval_shape(shaped, variables, images, one)
    return logits.shape[-1]


def _own_maps(
    method: Method, variables: Tree, images: jax.Array, classes: jax.Array, layer: str
) -> jax.Array:
    """The method's own class maps, (B, K, h, w)."""
    if layer:
        raise UserError(f"explain: cam is the method's own class maps, of no layer {layer!r}.")
    found = method.localize(variables, images).maps
    if isinstance(found, Segmentation):
        raise UserError("explain: cam: this run's method segments, it has no class maps.")
    picked = jnp.take_along_axis(found, classes[:, None, None, :], axis=-1)
    return jnp.moveaxis(picked, -1, 1)


def _parts(network: HasNetwork) -> tuple[Method, Tree]:
    try:
        network = getattr(network, "network", network)  # of what ``wsol_jax.load`` gives
        return network.method, network.variables
    except AttributeError:
        raise UserError(
            "explain: expected a run that was opened, or (method, variables), got a "
            f"{type(network).__name__}; explain.linen and its like take other networks."
        ) from None
