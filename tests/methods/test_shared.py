"""The papers' networks by shape alone: counts, map sizes, shared layers, cost at test time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cam as cam_config
from configs import cams2i as cams2i_config
from configs import spg as spg_config
from wsol_jax import methods
from wsol_jax.base import target
from wsol_jax.methods import cams2i
from wsol_jax.networks.backbones import table

FILES = {"cam": cam_config, "spg": spg_config, "cams2i": cams2i_config}


def shapes_of(file, arg, num_classes):
    config = FILES[file].get_config(f"{arg or 'cub'},weights=none")
    method = methods.build(config, num_classes)
    images = jax.ShapeDtypeStruct((1, config.data.crop, config.data.crop, 3), jnp.uint8)
    return method, jax.eval_shape(method.init, jax.random.key(0), images), images


def count(tree):
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


# ---------------------------------------------------------------- the papers' networks, by shape


@pytest.mark.parametrize(
    "file, arg, classes, parameters",
    [
        ("spg", "cub,recipe=released", 200, 37_634_986),
        ("spg", "ilsvrc,recipe=released", 1000, 38_454_986),
        # The paper's SPG-C has a second layer of 3x3x512x512, and 512 biases.
        ("spg", "", 200, 37_634_986 + 2_359_808),
        ("cam", "cub,backbone=inception_v3", 200, 25_687_976),
        ("cam", "ilsvrc,backbone=inception_v3", 1000, 26_507_976),
    ],
)
def test_parameter_counts(file, arg, classes, parameters):
    _, variables, _ = shapes_of(file, arg, classes)
    assert count(variables["params"]) == parameters


@pytest.mark.parametrize("pixels, cells", [(224, 28), (299, 37), (321, 40)])
def test_map_sizes_of_spgs_network(pixels, cells):
    method, variables, _ = shapes_of("spg", "", 200)
    images = jax.ShapeDtypeStruct((2, pixels, pixels, 3), jnp.uint8)
    found = jax.eval_shape(method.localize, variables, images)
    assert found.maps.shape == (2, cells, cells, 200) and found.logits.shape == (2, 200)
    assert found.maps.dtype == found.logits.dtype == jnp.float32


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("backbone", table.BACKBONES)
@pytest.mark.parametrize("dataset", ["cub", "embedded"])
def test_every_method_runs_on_every_backbone_by_config_alone(file, backbone, dataset):
    arg = f"{dataset},backbone={backbone},width=0.1,size=64"
    method, variables, _ = shapes_of(file, arg, 5)
    batch = {
        "image": jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.uint8),
        "labels": jax.ShapeDtypeStruct((2, 5), jnp.float32),
        "valid": jax.ShapeDtypeStruct((2,), jnp.bool_),
    }
    value, aux = jax.eval_shape(
        method.loss, variables, batch, jax.random.key(0), jnp.zeros((), jnp.int32)
    )
    assert value.shape == () and value.dtype == jnp.float32
    assert all(x.shape == () for x in aux.metrics.values())
    found = jax.eval_shape(method.localize, variables, batch["image"])
    assert found.logits.shape == (2, 5) and found.maps.shape[3] == 5
    groups = set(jax.tree.leaves(method.param_groups(variables["params"])))
    assert {"backbone/kernel", "head/kernel", "head/bias"} <= groups


@pytest.mark.parametrize("dataset", ["cub", pytest.param("ilsvrc", marks=pytest.mark.slow)])
@pytest.mark.parametrize("backbone", table.BACKBONES)
def test_cams2i_has_two_maps_of_28_cells_at_224_pixels(dataset, backbone):
    """VGG16's pool4 and pool5 at stride 1; the other trunks by their output stride.

    AlexNet's and SqueezeNet's first layers have no border, so they have 27.
    """
    cells = 27 if backbone in ("alexnet", "squeezenet") else 28
    config = cams2i_config.get_config(f"{dataset},backbone={backbone},weights=none")
    network = cams2i._network(config, 5)
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    make = lambda x: network.init_with_output(jax.random.key(0), x, method=network.taps)[0]
    assert [x.shape[:3] for x in jax.eval_shape(make, images)] == [(2, cells, cells)] * 2
    outputs, features = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x)[0], images
    )
    assert [maps.shape for _, maps in outputs] == [(2, cells, cells, 5)] * 2
    assert features.shape == (2, 2048)


def test_cams2is_parameters():
    """VGG16's convolutions, two heads of 1x1x1024 twice (section 3.4), and AlexNet to 2048."""
    _, variables, _ = shapes_of("cams2i", "", 200)
    parts = {name: count(tree) for name, tree in variables["params"].items()}
    conv = lambda before, after: before * after + after
    head = conv(512, 1024) + conv(1024, 1024) + conv(1024, 200)
    assert parts == {
        "backbone": 14_714_688,  # torchvision's VGG16 without its classifier
        "head_1": head,
        "head_2": head,
        "feature_trunk": 61_100_840 - conv(4096, 1000),
        "projection": 4096 * 2048,
    }


def test_b_layers_are_shared():
    _, variables, _ = shapes_of("spg", "", 200)
    branches = variables["params"]["branches"]
    assert {name: layer["kernel"].shape for name, layer in branches.items()} == {
        "b1_adapt": (3, 3, 288, 512),
        "b2_adapt": (3, 3, 768, 512),
        "b_shared": (3, 3, 512, 512),
        "b_shared_out": (1, 1, 512, 1),
        "c_conv": (3, 3, 1024, 512),
        "c_conv2": (3, 3, 512, 512),
        "c_out": (1, 1, 512, 1),
    }


def flops(function, *shapes):
    """Multiply-adds of the convolutions in a function's jaxpr."""

    def walk(jaxpr):
        total = 0
        for equation in jaxpr.eqns:
            for value in equation.params.values():
                for item in value if isinstance(value, (tuple, list)) else (value,):
                    inner = getattr(item, "jaxpr", item)
                    total += walk(inner) if hasattr(inner, "eqns") else 0
            if equation.primitive.name == "conv_general_dilated":
                kernel = equation.invars[1].aval.shape
                out = equation.outvars[0].aval.shape
                total += int(np.prod(kernel)) * int(np.prod(out)) // out[-1]
        return total

    with target.traced_for("tpu"):  # where convolutions stay as they are written
        return walk(jax.make_jaxpr(function)(*shapes).jaxpr)


def test_spg_costs_nothing_at_test_time():
    """localize needs neither the branches' parameters nor their operations."""
    method, variables, images = shapes_of("spg", "", 200)
    plain, plain_variables, _ = shapes_of("cam", "cub,backbone=inception_v3", 200)
    bare = {**variables, "params": {k: v for k, v in variables["params"].items()}}
    del bare["params"]["branches"]
    assert count(bare["params"]) == count(plain_variables["params"])
    cost = flops(method.localize, bare, images)
    assert cost == flops(plain.localize, plain_variables, images) > 10**9
