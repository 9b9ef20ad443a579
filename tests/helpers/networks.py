"""A tiny network of each method of localization, its batch, and arithmetic in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from configs import cam as cam_config
from configs import cams2i as cams2i_config
from configs import spg as spg_config
from wsol_jax import methods
from wsol_jax.runs.state import TrainState, learning_rate, optimizer

FILES = {"cam": cam_config, "spg": spg_config, "cams2i": cams2i_config}


def tiny(file, **changes):
    """Five narrow layers of VGG16 and its pools: what a compiler swallows in seconds."""
    config = FILES[file].get_config(
        "cub,backbone=vgg16,weights=none,width=0.1,size=32,output_stride=8"
    )
    with config.unlocked():
        config.model.final_endpoint, config.model.head_channels = "conv3_1", 16
        config.model.trunk = {"normalise": True}
        config.model.preprocessing = "tf"
        config.dtype = "float32"
        if file == "spg":
            config.spg.b1_endpoint, config.spg.b2_endpoint = "conv2_2", "conv3_1"
            config.spg.channels = 8
        if file == "cams2i":
            config.cams2i.endpoint_2, config.features.projection = "conv2_2", 8
            config.features.backbone, config.features.width = "vgg16", 0.1
            config.features.final_endpoint = "conv2_1"
        config.update_from_flattened_dict(changes)
    return config


SIDE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
BATCH = {
    "image": IMAGES,
    "labels": np.eye(5, dtype=np.float32)[[0, 3, 4, 3]],
    "valid": np.array([True, True, True, False]),
}
KEY = jax.random.key(7)


def made(file, **changes):
    method = methods.build(tiny(file, **changes), 5)
    return method, method.init(jax.random.key(1), jnp.zeros((1, SIDE, SIDE, 3), jnp.uint8))


def assert_trees_equal(one, other, atol=0.0):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def resized(maps, size):
    """Bilinear with half-pixel centres as a product of two matrices, float64."""
    out = maps
    for axis in (1, 2):
        n, m = maps.shape[axis], size
        place = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
        low = np.minimum(place.astype(int), max(n - 2, 0))
        matrix = np.zeros((m, n))
        matrix[np.arange(m), low] += 1 - (place - low)
        matrix[np.arange(m), np.minimum(low + 1, n - 1)] += place - low
        out = np.moveaxis(np.tensordot(matrix, np.moveaxis(out, axis, 0), 1), 0, axis)
    return out


def state_of(config, method, variables, rng):
    variables = dict(variables)
    params = variables.pop("params")
    labels = method.param_groups(params)
    tx = optimizer(config.optimizer, labels, learning_rate(config.optimizer, 10, 10))
    state = TrainState(jnp.zeros((), jnp.int32), params, variables, tx.init(params), rng)
    return state, tx, labels


FLAT_RATE = {"optimizer.schedule": "constant", "optimizer.warmup_steps": 0}
