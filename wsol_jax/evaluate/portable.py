"""A trained network as one pure function for any platform: photos in; scores, maps, heat out.

What ``--mode=export`` writes: nothing in it asks what this machine is, and any number of photos may
come at once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wsol_jax.base.types import Config, Tree
from wsol_jax.explain import named
from wsol_jax.methods import Method, Segmentation, Variables, shared
from wsol_jax.metrics.maps import MAP_SIZE
from wsol_jax.ops.cam import min_max
from wsol_jax.ops.images import enlarge_cubic

HEATS = 5  # classes whose maps are prepared; ``localize_list`` keeps as many
Weights = Mapping[str, jax.Array]
"""Arrays by their path in the variables: "params/head/class_maps/kernel"."""


class Outputs(NamedTuple):
    """What is said of B photos, of C classes.

    Attributes:
      probabilities: (B, C) float32 in [0, 1].
      maps: (B, h, w, C) float32: raw class maps of any range, more is more object; of a segmenter
        the probability of each class in each cell, where background has what is left to 1.
      ranked: (B, K) int32, the K likeliest classes, the likeliest first; K is at most ``HEATS``.
      heat: (B, K, MAP_SIZE, MAP_SIZE) float32 in [0, 1]: the maps of ``ranked``, as
        ``metrics.maps.prepare_map`` makes them.
    """

    probabilities: jax.Array
    maps: jax.Array
    ranked: jax.Array
    heat: jax.Array


def look(
    method: Method,
    config: Config,
    shapes: Mapping[str, jax.ShapeDtypeStruct],
    explained: Sequence[str] | None = None,
) -> Callable[[Weights, jax.Array], dict[str, jax.Array]]:
    """Makes the function (weights, (B, H, W, 3) uint8 RGB) -> ``Outputs`` by name.

    Args:
      method: built for float32 or bfloat16, not for "auto".
      config: the run's, which says what its class scores are.
      shapes: of all variables. Those that no output depends on (``used``) may be absent from the
        weights; a module that is made of them still finds zeros.
      explained: name and layer of the explanation that the run's maps are (``explain.named``);
        None for its own class maps.
    """
    scores = shared.score_kind(config)

    def call(weights, images):
        absent = {name: x for name, x in shapes.items() if name not in weights}
        zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in absent.items()}
        variables = unflatten({**weights, **zeros})
        logits, maps, _ = method.localize(variables, images)
        probabilities = shared.probabilities(logits, scores)
        if explained is not None:
            maps = _explained(method, variables, images, logits, explained)
        maps = maps.probabilities if isinstance(maps, Segmentation) else maps
        _, ranked = jax.lax.top_k(probabilities, min(HEATS, probabilities.shape[-1]))
        picked = jnp.take_along_axis(maps, ranked[:, None, None, :], axis=-1)
        heat = _prepared(jnp.moveaxis(picked, -1, 1))
        return Outputs(probabilities, maps, ranked, heat)._asdict()

    return call


def _explained(
    method: Method,
    variables: Variables,
    images: jax.Array,
    logits: jax.Array,
    explained: Sequence[str],
) -> jax.Array:
    """(B, h, w, C), the maps of all classes by an explanation."""
    every = jnp.broadcast_to(jnp.arange(logits.shape[-1]), logits.shape)
    found = named.class_maps(method, variables, images, every, *explained)
    return jnp.moveaxis(found, 1, -1)


def _prepared(raw: jax.Array) -> jax.Array:
    """(B, K, h, w) -> (B, K, MAP_SIZE, MAP_SIZE): see ``metrics.maps.prepare_map``."""
    large = enlarge_cubic(raw, (MAP_SIZE, MAP_SIZE))
    # Bicubic weights sum to one only up to rounding: a flat map stays one.
    flat = jnp.max(raw, axis=(2, 3), keepdims=True) == jnp.min(raw, axis=(2, 3), keepdims=True)
    return jnp.where(flat, 0.0, min_max(jnp.moveaxis(large, 1, -1)).transpose(0, 3, 1, 2))


def flatten(variables: Variables) -> dict[str, jax.Array]:
    """The arrays of a tree by their paths, "/" between the names."""
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {"/".join(str(key.key) for key in path): leaf for path, leaf in leaves}


def unflatten(weights: Weights) -> dict[str, Tree]:
    """The tree of arrays that ``flatten`` gives."""
    tree: dict[str, Tree] = {}
    for path, leaf in weights.items():
        *folders, name = path.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = leaf
    return tree


def used(call: Callable, weights: Weights, images: jax.ShapeDtypeStruct) -> list[str]:
    """The names of the weights that the outputs depend on: of SPG no branch's, say."""
    jaxpr = jax.make_jaxpr(call)(weights, images).jaxpr
    is_variable = lambda atom: not hasattr(atom, "val")  # a literal has its value
    live = set(filter(is_variable, jaxpr.outvars))
    for equation in reversed(jaxpr.eqns):
        if live & set(equation.outvars):
            live |= set(filter(is_variable, equation.invars))
    inputs = jaxpr.invars[: len(weights)]
    return [name for name, x in zip(sorted(weights), inputs, strict=True) if x in live]


def shape_of(leaf: jax.Array | np.ndarray) -> jax.ShapeDtypeStruct:
    """An array's shape and dtype, on no device."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
