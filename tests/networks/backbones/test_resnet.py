"""ResNets: published counts, dilation in place of strides, endpoints that freeze, LargeFOV."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick

from configs import sec as sec_config
from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.methods.shared import layers_until
from wsol_jax.methods.taps import gradient_saliency
from wsol_jax.networks.backbones.resnet import ResNet, ResNet50, ResNet101
from wsol_jax.networks.backbones.table import BACKBONES
from wsol_jax.stages.sections import stage_config


@functools.cache
def traced(module, size=64):
    """(endpoints, variables) by shape."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(module.init_with_output, jax.random.key(0), images)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def start(module, size, batch=1):
    """Random variables of every kind (NumPy: initialisers compile for long), and images."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            return rng.normal(0, (2 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape)
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape)
        return rng.normal(0, 0.2, leaf.shape)

    template = jax.eval_shape(
        module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    )
    variables = jax.tree_util.tree_map_with_path(draw, template)
    images = rng.uniform(-1, 1, (batch, size, size, 3))
    return jax.tree.map(lambda x: x.astype(np.float32), (variables, images))


@pytest.mark.parametrize(
    ("module", "trained", "statistics"),
    [
        # torchvision's documentation: 25,557,032 and 44,549,160, 1000 x 2049 of them in fc.
        (ResNet50(), 25_557_032 - 2_049_000, 53_120),
        (ResNet101(), 44_549_160 - 2_049_000, 105_344),
        (ResNet50(num_classes=1000), 25_557_032, 53_120),
        (ResNet101(num_classes=1000), 44_549_160, 105_344),
        # Keras' documentation of its layers: 23,587,712 and 42,658,176 with the statistics.
        (ResNet50(use_bias=True, strided_conv="1x1"), 23_587_712 - 53_120, 53_120),
        (ResNet101(use_bias=True, strided_conv="1x1"), 42_658_176 - 105_344, 105_344),
    ],
)
def test_published_parameter_counts(module, trained, statistics):
    variables = traced(module)[1]
    assert count(variables["params"]) == trained
    assert count(variables["batch_stats"]) == statistics


def test_endpoints_are_the_papers_stages_and_their_units():
    shapes = {name: x.shape[1:] for name, x in traced(ResNet50(), 224)[0].items()}
    depths = {2: 3, 3: 4, 4: 6, 5: 3}
    units = [f"conv{s}_block{u}" for s, depth in depths.items() for u in range(1, depth + 1)]
    assert shapes.keys() == {"conv1", "pool1", *units}
    assert shapes["conv1"] == (112, 112, 64) and shapes["pool1"] == (56, 56, 64)
    last = {2: (56, 256), 3: (28, 512), 4: (14, 1024), 5: (7, 2048)}  # table 1
    for unit in units:
        side, channels = last[int(unit[4])]
        assert shapes[unit] == (side, side, channels)
    assert {"conv4_block23", "conv5_block3"} <= traced(ResNet101())[0].keys()
    assert "conv4_block24" not in traced(ResNet101())[0]


SHORT = dict(width=0.125, depths=(1, 2, 2, 2))


@pytest.mark.parametrize("strided_conv", ["3x3", "1x1"])
@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize(
    ("module", "size"),
    [
        *((ResNet(**SHORT, final_endpoint="conv5_block2"), size) for size in (64, 75)),
        pytest.param(ResNet50(0.125), 96, marks=pytest.mark.slow),
        pytest.param(ResNet101(0.125), 81, marks=pytest.mark.slow),
    ],
)
def test_dilated_networks_compute_the_strided_one_in_between(
    module, size, output_stride, strided_conv
):
    """Strides turned into dilations: every k-th cell is the strided network's."""
    strided = module.clone(strided_conv=strided_conv)
    variables, images = start(strided, size)
    dense = strided.clone(output_stride=output_stride)
    coarse = quick(strided.apply)(variables, images)
    fine = quick(dense.apply)(variables, images)
    assert fine[module.final_endpoint].shape[1] == -(-size // output_stride)
    for name, expected in coarse.items():
        step = max({"4": 16, "5": 32}.get(name[4], 0) // output_stride, 1)
        error = np.abs(fine[name][:, ::step, ::step] - expected).max()
        assert error < 1e-5 * np.abs(expected).max(), name


@pytest.mark.parametrize("network", ["resnet50", "resnet101"])
def test_freezing_up_to_an_endpoint(network):
    module = getattr(BACKBONES[network].load(), BACKBONES[network].network)()
    stem = {"conv1", "bn1"}
    assert layers_until(module, "conv1") == layers_until(module, "pool1") == stem
    frozen = layers_until(module, "conv3_block2")
    units = ("conv2_block1", "conv2_block2", "conv2_block3", "conv3_block1", "conv3_block2")
    assert frozen == {*stem, *units}
    assert layers_until(module, "all") == traced(module)[1]["params"].keys()
    with pytest.raises(UserError, match="freeze_until: no endpoint 'conv6_block1'"):
        layers_until(module, "conv6_block1")


def segmenter(words, **trunk):
    """SEC's segmenter on ResNet-101, by config alone, for 20 classes."""
    config = sec_config.get_config(f"voc,backbone=resnet101,weights=none{words}")
    config = stage_config(config, "segment")
    with config.unlocked():
        config.model.trunk.update(trunk)
        config.model.freeze_until, config.dtype = "conv2_block1", "float32"
        config.sec.constrain = 0.0  # its CRF compiles for long, and is no part of the network
    return config, methods.build(config, 20)


def batch(config, side):
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    cues = np.random.default_rng(1).integers(0, 21, (2, config.sec.cells, config.sec.cells))
    labels = np.ones((2, 20), np.float32)
    return dict(image=images, labels=labels, valid=np.ones(2, bool), cues=cues.astype(np.uint8))


def test_largefov_on_resnet_101_has_41_cells_at_321_pixels():
    config, method = segmenter("")
    model = config.model
    assert (model.output_stride, model.final_endpoint) == (8, "conv5_block3")
    rows = batch(config, config.data.crop)
    assert rows["image"].shape[1:3] == (321, 321)
    variables = jax.eval_shape(method.init, jax.random.key(0), rows["image"])
    assert variables["params"]["head"]["fc6"]["kernel"].shape == (3, 3, 2048, 1024)
    found = jax.eval_shape(method.localize, variables, rows["image"])
    assert found.maps.probabilities.shape == (2, 41, 41, 20)
    loss, _ = jax.eval_shape(method.loss, variables, rows, jax.random.key(0), 0)
    assert loss.shape == ()
    groups = method.param_groups(variables["params"])["backbone"]
    parts = {name: {x.split("/")[0] for x in jax.tree.leaves(y)} for name, y in groups.items()}
    frozen = [name for name, part in parts.items() if part == {"frozen"}]
    assert sorted(frozen) == ["bn1", "conv1", "conv2_block1"]
    assert parts["conv2_block2"] == parts["conv5_block3"] == {"backbone"}


def test_the_background_cue_can_look_at_a_unit():
    config = sec_config.get_config("voc,backbone=resnet101,weights=none,width=0.125")
    method = methods.build(stage_config(config, "first"), 20)
    images = jax.ShapeDtypeStruct((1, 321, 321, 3), jnp.uint8)
    variables = jax.eval_shape(method.init, jax.random.key(0), images)
    salient = lambda v, x: gradient_saliency(methods.Trained(method, v), x, "conv3_block4")
    assert jax.eval_shape(salient, variables, images).shape == (1, 41, 41)


@pytest.mark.parametrize(
    "trunk",
    [
        {"depths": (1, 1, 1, 3)},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"strided_conv": "1x1", "use_bias": True}, marks=pytest.mark.slow),
    ],
)
def test_largefovs_gradient_reaches_every_layer_of_its_trunk(trunk):
    config, method = segmenter(",width=0.125,size=65", **trunk)
    rows = batch(config, 65)
    template = jax.eval_shape(method.init, jax.random.key(0), rows["image"])
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            return rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape).astype(np.float32)
        return np.full(leaf.shape, path[-1].key in ("scale", "var"), np.float32)

    variables = jax.tree_util.tree_map_with_path(draw, template)

    def loss(params):
        return method.loss({**variables, "params": params}, rows, jax.random.key(0), 0)[0]

    gradients = quick(jax.grad(loss))(variables["params"])
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, path
