"""Reads published ImageNet weights into a backbone, checked name by name, shape by shape.

What a file's weights were trained on is a matter of who published it. ``backbones.table`` holds the
conventions: the pixels ("tf": x / 127.5 - 1; "torch": x / 255 minus the ImageNet mean, over its
deviation; "caffe": BGR minus 103.939, 116.779, 123.68) and arguments of the module. ``conventions``
finds those of a file.
"""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
from absl import logging

from wsol_jax.base import fetched
from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Tree
from wsol_jax.networks.backbones.table import BACKBONES, Fields, Layout
from wsol_jax.networks.weights import files, names

_SHOWN = 10


class Conventions(NamedTuple):
    """What the publisher of a weight file assumes.

    ``layout``: "keras" or "torchvision"; ``preprocessing``: "tf", "torch" or "caffe"; ``fields``:
    arguments of the backbone's module that reproduce the publisher's network.
    """

    layout: Layout
    preprocessing: str
    fields: Fields


def conventions(path: str | pathlib.Path, backbone: str | nn.Module) -> Conventions:
    """Finds how images must be prepared, and the module built, for the weights in a file.

    Args:
      path: the weight file.
      backbone: a name of ``backbones.table``, or such a module.

    Raises:
      UserError: no such file, not a readable one, or one in a layout that the network has not.
    """
    path, backbone = _here(path), _name(backbone)
    publishers = BACKBONES[backbone].weights
    layout = files.LAYOUTS.get(path.suffix.lower())
    if layout is None or not path.is_file():
        layout = files.layout_of(read(path, backbone))
    if layout not in publishers:
        known = "'s or ".join(publishers)
        raise UserError(f"{path}: {backbone} is read from {known}'s layout, not {layout}'s.")
    return Conventions(layout, publishers[layout].preprocessing, dict(publishers[layout].fields))


def read(path: str | pathlib.Path, backbone: str | nn.Module) -> dict[str, np.ndarray]:
    """Reads a backbone's weight file: name -> array, as ``files.read_arrays`` gives them.

    Raises:
      UserError: no such file (the sentence says which to fetch), or not a readable one.
    """
    path = _here(path)
    if not path.is_file():
        there = "is a folder" if path.is_dir() else "does not exist"
        publishers = BACKBONES[_name(backbone)].weights.values()
        urls = " or ".join(known.remote.url for known in publishers if known.remote)
        raise UserError(
            f"{path}: the weight file {there}. Fetch {urls}, keep its "
            f"ending, put it there (or name it where it is), or train without weights."
        )
    return files.read_arrays(path)


def _here(path: str | pathlib.Path) -> pathlib.Path:
    """A weight file on this machine; one at a URL is fetched."""
    return fetched.local(path, f"weights={path}")


def load_pretrained(
    path: str | pathlib.Path,
    backbone: str | nn.Module,
    variables: Tree,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> Tree:
    """Fills a backbone's variables with the arrays of a published weight file.

    Every array that the backbone has must be in the file with its shape and with finite values, and
    every array of the file must be known: one that the backbone has, or one of a later layer of the
    published network (a classifier, blocks behind the final endpoint), which is left out. Keras'
    Inception-v3 has no normalisation gains: they become 1.

    Args:
      path: .npz, .h5, .keras (Keras' names), .safetensors, .pth or .pt (torchvision's names).
      backbone: a name of ``backbones.table``, or such a module; one whose
        paddings or constants are not those of the file's publisher is warned about.
      variables: {"params": ..., "batch_stats": ...} of the backbone alone; arrays or
        ShapeDtypeStructs, only shapes and dtypes are used.
      arrays: what ``read`` gives of the file, where that is at hand.

    Returns:
      A tree of the same structure and dtypes.

    Raises:
      UserError: no such file, not a readable one, or one whose arrays do not fit; all that do not
        are counted, the first ten of each kind listed.
    """
    name = _name(backbone)
    arrays = read(path, name) if arrays is None else arrays
    layout = files.layout_of(arrays)
    published = BACKBONES[name].published()
    known, unexpected, _ = names.targets(arrays, published, layout)

    leaves, treedef = jax.tree_util.tree_flatten_with_path(variables)
    template = {tuple(str(key.key) for key in keys): leaf for keys, leaf in leaves}
    present = [index for index, layer in enumerate(published.layers) if _has(template, layer)]
    left_out = set(published.layers[max(present, default=-1) + 1 :])

    found: dict[names.Path, np.ndarray] = {}
    misshapen, not_finite = [], []
    for entry, (place, array) in known.items():
        if place not in template:
            if place[1:-1] not in left_out:
                unexpected.append(entry)
        elif place in found:
            unexpected.append(f"{entry} (a second array for {'/'.join(place)})")
        else:
            found[place] = array
            if array.shape != template[place].shape:
                misshapen.append(
                    f"{entry} {array.shape} for {'/'.join(place)} {template[place].shape}"
                )
            elif array.dtype.kind != "f" or not _is_finite(array, template[place].dtype):
                not_finite.append(entry)
    publisher = BACKBONES[name].weights.get(layout)
    if publisher and publisher.no_gains and not any(p[-1] == "scale" for p in found):
        for place, leaf in template.items():
            if place[-1] == "scale":
                found[place] = np.ones(leaf.shape, leaf.dtype)
    missing = ["/".join(place) for place in template if place not in found]

    problems = [
        f"{len(entries)} {what}: {', '.join(entries[:_SHOWN])}"
        + (", ..." if len(entries) > _SHOWN else "")
        for what, entries in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("misshapen", misshapen),
            ("not finite numbers", not_finite),
        )
        if entries
    ]
    if problems:
        raise UserError(
            f"{path}: its {len(arrays)} arrays ({layout} names) do not fit this {name}: "
            f"{'; '.join(problems)}."
        )
    if publisher:
        _warn_of_other_conventions(path, backbone, name, publisher.fields)
    new = [
        jax.numpy.asarray(found[tuple(str(key.key) for key in keys)], dtype=leaf.dtype)
        for keys, leaf in leaves
    ]
    return jax.tree_util.tree_unflatten(treedef, new)


def _has(template: Mapping[names.Path, jax.ShapeDtypeStruct], layer: names.Path) -> bool:
    return any(place[1:-1] == layer for place in template)


def _name(backbone: str | nn.Module) -> str:
    """The backbone's name, of a name or of a module."""
    text = backbone if isinstance(backbone, str) else type(backbone).__name__
    for name, row in BACKBONES.items():
        if text == row.network or text.lower().replace("_", "") == name.replace("_", ""):
            return name
    raise UserError(f"no weight reader for backbone {text!r}; there are {', '.join(BACKBONES)}.")


def _warn_of_other_conventions(
    path: str | pathlib.Path, backbone: str | nn.Module, name: str, fields: Fields
) -> None:
    for field, value in fields.items():
        if getattr(backbone, field, value) != value:
            logging.warning(
                "%s holds weights of a network with %s=%r; this %s has %r, so its features differ.",
                *(path, field, value, name, getattr(backbone, field)),
            )


def _is_finite(array: np.ndarray, dtype: np.dtype) -> bool:
    """Whether all numbers are finite, in the type that they will have too."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(array.astype(dtype)).all())
