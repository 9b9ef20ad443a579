"""MCOF's two networks on a tiny trunk: their configs, batches and fresh variables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from configs import mcof as mcof_config
from helpers.networks import IMAGES
from wsol_jax import methods
from wsol_jax.stages.sections import stage_config

CELLS, COUNT, GRID = 8, 6, 16  # of the trunk; regions an image at most; cells of their ids
VALID = np.array([True, True, True, False])


def tiny(stage, **changes):
    """Three narrow layers of VGG16: the config of the stage ``region_1`` or ``pixel_1``."""
    words = "voc,root=x,backbone=vgg16,weights=none,width=0.1,size=32"
    config = stage_config(mcof_config.get_config(words), stage)
    with config.unlocked():
        config.model.final_endpoint, config.model.preprocessing = "conv2_1", "tf"
        config.model.trunk = {"normalise": True, "stem_stride": 2}
        config.dtype = "float32"
        config.region_net.update(
            {"regions": COUNT, "cells": GRID, "size": 3, "drawn": 4, "channels": 16, "dropout": 0.0}
        )
        config.pixel_net.update({"cells": CELLS, "channels": 16, "dilation": 2, "dropout": 0.0})
        config.update_from_flattened_dict(changes)
    return config


@functools.cache
def made(stage, **changes):
    """A method of five classes and variables whose scores differ: read them, do not write there."""
    method = methods.build(tiny(stage, **changes), 5)
    variables = method.init(jax.random.key(1), jnp.asarray(IMAGES[:1]))
    head = variables["params"]["head"]
    fc8 = {"kernel": head["fc8"]["kernel"] * 60, "bias": jnp.linspace(-1.0, 1.0, 6)}
    params = {**variables["params"], "head": {**head, "fc8": fc8}}
    return method, {**variables, "params": params}


def _regions():
    """Blobs, some of nobody, some ids without a pixel."""
    rng = np.random.default_rng(2)
    grid = np.stack(np.mgrid[:GRID, :GRID], axis=-1)
    found = []
    for n in range(4):
        points = rng.random((COUNT - n % 2, 2)) * GRID
        own = np.linalg.norm(grid[:, :, None] - points, axis=-1).argmin(axis=-1)
        own[:2, :3] = -1
        found.append(own)
    return np.stack(found).astype(np.int32)


REGIONS = _regions()


def _classes():
    """Each region mostly of one class, some of it of none; the last labelled photo has none."""
    rng = np.random.default_rng(3)
    of_region = np.array([[0, 0, 3, 0, 255, 5], [2, 0, 0, 255, 1, 0], [0] * 6, [1, 2, 3, 4, 5, 0]])
    out = np.take_along_axis(of_region, np.maximum(REGIONS, 0).reshape(4, -1), 1)
    out = out.reshape(REGIONS.shape)
    out = np.where(rng.random(out.shape) < 0.3, rng.choice([0, 4, 255], out.shape), out)
    out[2] = 255
    return out.astype(np.uint8)


REGION_BATCH = {
    "image": IMAGES,
    "labels": np.eye(5, dtype=np.float32)[[2, 0, 1, 4]],
    "valid": VALID,
    "regions": REGIONS,
    "classes": _classes(),
}


def pixel_batch(cells=CELLS):
    masks = np.random.default_rng(4).choice([0, 0, 1, 3, 5, 255], (4, cells, cells))
    masks[2] = 255
    masks[1, 1:] = 255  # so that the batch's mean is not that of the images' means
    rest = {name: REGION_BATCH[name] for name in ("image", "labels", "valid")}
    return {**rest, "masks": masks.astype(np.uint8)}
