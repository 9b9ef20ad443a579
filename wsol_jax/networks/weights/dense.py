"""DeepLab's LargeFOV layers from VGG's own fully connected ones, thinned out.

Of VGG's fc6, 7x7 cells to 4096 channels, every fourth channel and the rows and columns 0, 3 and 6
stay: 3x3 cells to 1024. Of fc7, every fourth channel in and out. So did DeepLab make vgg16_20M, the
network that it starts from (Chen 2015), and SSD the one that it starts from (Liu 2016).
"""

import math
import pathlib
from collections.abc import Mapping

import jax
import numpy as np
from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Tree
from wsol_jax.networks import weights
from wsol_jax.networks.backbones.table import BACKBONES
from wsol_jax.networks.weights import files, names

LAYERS = ("fc6", "fc7")


def thinned_dense(
    path: str | pathlib.Path,
    backbone: str,
    head: Tree,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Tree]:
    """Makes fc6 and fc7 of a LargeFovHead of the fully connected layers of a weight file.

    Args:
      path: a file as ``weights.load_pretrained`` reads it.
      backbone: a name of ``backbones.table``.
      head: the head's parameters, of which shapes and dtypes are used: fc6 has a kernel of
        (k, k, D, C), fc7 one of (1, 1, C, C), each a bias of (C,). k rows reach from the first of
        the file's to its last at one distance, and C divides the file's channels.
      arrays: what ``weights.read`` gives of the file, where that is at hand.

    Returns:
      {"fc6": {"kernel", "bias"}, "fc7": ...}, of the shapes and dtypes in ``head``; empty, with a
      warning, where the backbone has no such layers or the file is one without them ("notop").

    Raises:
      UserError: as ``weights.read`` does; or the layers do not thin out to these shapes, one of
        their arrays is missing or not of finite numbers.
    """
    arrays = weights.read(path, backbone) if arrays is None else arrays
    published = BACKBONES[backbone].published()
    known, _, _ = names.targets(arrays, published, files.layout_of(arrays))
    dense = {place[1:]: array for place, array in known.values() if place[1] in LAYERS}
    if not dense:
        _warn(path, backbone, (LAYERS[0],) in published.layers)
        return {}
    found: dict[str, Tree] = {}
    for layer in LAYERS:
        found[layer] = {}
        for leaf in ("kernel", "bias"):
            like = head[layer][leaf]
            try:
                thinned = _thinned(dense.get((layer, leaf)), like.shape, layer == "fc6")
            except ValueError as error:
                raise UserError(
                    f"{path}: {layer}/{leaf} of its fully connected layers {error}; "
                    "model.dense_layers=False starts the segmenter's at random."
                ) from None
            found[layer][leaf] = jax.numpy.asarray(thinned, dtype=like.dtype)
    return found


def _thinned(array: np.ndarray | None, shape: tuple[int, ...], spatial: bool) -> np.ndarray:
    """What is left of an array at the shape of the head's; ValueError says why nothing is.

    ``spatial``: whether a kernel's inputs are cells by channels, (H * W * C, out), or channels.
    """
    if array is None:
        raise ValueError("is missing")
    whole = array.shape
    if len(shape) == 4 and array.ndim == 2:
        side = math.isqrt(len(array) // shape[2]) if spatial else 1
        whole = (side, side, shape[2] if spatial else len(array), array.shape[1])
    steps = _steps(whole, shape) if len(whole) == len(shape) else None
    if steps is None or math.prod(whole) != array.size:
        raise ValueError(f"has shape {array.shape}, which does not thin out to {shape}")
    thinned = array.reshape(whole)[tuple(slice(None, None, step) for step in steps)]
    if array.dtype.kind != "f" or not np.isfinite(thinned).all():
        raise ValueError("has values that are not finite numbers")
    return thinned


def _steps(whole: tuple[int, ...], wanted: tuple[int, ...]) -> list[int] | None:
    """Along each axis the distance of the entries that stay, None where there is no such."""
    steps = []
    for axis, (size, left) in enumerate(zip(whole, wanted, strict=True)):
        # The last two axes are channels in and out. A window's ends both stay: its middle does too.
        ends = int(axis < len(whole) - 2)
        step, rest = (1, 0) if size == left else divmod(size - ends, max(left - ends, 1))
        if rest or not step or len(range(0, size, step)) != left:
            return None
        steps.append(step)
    return steps


def _warn(path: str | pathlib.Path, backbone: str, published: bool) -> None:
    """Says that nothing was found, and which files have it if any do."""
    urls = [(known.dense or known.remote).url for known in BACKBONES[backbone].weights.values()]
    logging.warning(
        "%s holds no fully connected layers: the segmenter's fc6 and fc7 start at random; %s.",
        path,
        f"{' or '.join(urls)} has them" if published else f"{backbone} has no such layers",
    )
