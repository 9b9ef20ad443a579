"""What all trunks promise: endpoints of the stated shapes, gradients, dtypes, frozen statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick

from wsol_jax.networks.backbones.alexnet import AlexNet
from wsol_jax.networks.backbones.googlenet import GoogLeNet
from wsol_jax.networks.backbones.inception import InceptionV3
from wsol_jax.networks.backbones.mobilenet import MobileNetV2
from wsol_jax.networks.backbones.resnet import ResNet, ResNet50, ResNet101
from wsol_jax.networks.backbones.vgg import VGG16

TRUNKS = {
    "vgg16": (VGG16(0.125), "pool5"),
    "inception_v3": (InceptionV3(0.125), "Mixed_6e"),
    "inception_v3 standard": (InceptionV3(0.125, geometry="standard"), "Mixed_7c"),
    "mobilenet_v2": (MobileNetV2(0.25), "Conv_1"),
    "resnet50": (ResNet50(0.125), "conv5_block3"),
    "resnet101": (ResNet101(0.125), "conv5_block3"),
    "alexnet": (AlexNet(0.125), "fc7"),
    "googlenet": (GoogLeNet(0.125), "inception5b"),
}
# One block of each kind: the blocks after it are built by the same lines, and compile for long.
NORMALISED = [
    (InceptionV3(0.125, final_endpoint="Mixed_5b"), "Mixed_5b"),
    (GoogLeNet(0.125, final_endpoint="inception3a"), "inception3a"),
    (MobileNetV2(0.25, final_endpoint="block_2"), "block_2"),
    (ResNet(0.125, (2, 1, 0, 0), final_endpoint="conv3_block1"), "conv3_block1"),
    (VGG16(0.125, final_endpoint="conv2_1", normalise=True), "conv2_1"),
]
SHORT = [*NORMALISED, (VGG16(0.125, final_endpoint="conv2_1"), "conv2_1")]
named = lambda cases: pytest.mark.parametrize(
    ("module", "last"), cases, ids=[type(module).__name__ for module, _ in cases]
)


@functools.cache
def shapes(module, size):
    """Endpoints' shapes without computing them, and the number of parameters; traced once."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    found = {}

    def start_and_note(key, images):
        outputs, variables = module.init_with_output(key, images)
        # Inside the trace: a dict that leaves it comes back sorted by name.
        found.update({name: output.shape[1:] for name, output in outputs.items()})
        return variables["params"]

    params = jax.eval_shape(start_and_note, jax.random.key(0), images)
    return found, sum(leaf.size for leaf in jax.tree.leaves(params))


def start(module, size=75, batch=2):
    """Random variables by NumPy (compiling a hundred initialisers takes a minute), and images."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return rng.normal(0, scale, leaf.shape).astype(np.float32)
        return np.full(leaf.shape, path[-1].key in ("scale", "var"), np.float32)

    template = jax.eval_shape(module.init, jax.random.key(0), images)
    return jax.tree_util.tree_map_with_path(draw, template), images


@pytest.mark.parametrize(("size", "cells"), [(224, 28), (299, 37), (321, 40)])
def test_spgs_map_sizes(size, cells):
    found, _ = shapes(InceptionV3(), size)
    assert found["Mixed_5d"] == (cells, cells, 288)
    assert found["Mixed_6a"] == found["Mixed_6d"] == found["Mixed_6e"] == (cells, cells, 768)
    assert next(iter(found)) == "Conv2d_1a_3x3" and list(found)[-1] == "Mixed_6e"


@pytest.mark.parametrize("classes", [200, 1000])
def test_spgs_parameter_counts(classes):
    _, trunk = shapes(InceptionV3(), 224)
    conv = lambda kernel, before, after: kernel**2 * before * after + after
    plain = trunk + conv(3, 768, 1024) + conv(3, 1024, 1024) + conv(1, 1024, classes)
    assert plain == {200: 25_687_976, 1000: 26_507_976}[classes]
    b = conv(3, 288, 512) + conv(3, 768, 512) + conv(3, 512, 512) + conv(1, 512, 1)
    c = conv(3, 1024, 512) + conv(1, 512, 1)
    assert plain + b + c == {200: 37_634_986, 1000: 38_454_986}[classes]


def test_published_parameter_counts():
    # torchvision's documentation; its Inception-v3 has 27,161,264 with the auxiliary classifier.
    assert shapes(VGG16(num_classes=1000), 224)[1] == 138_357_544
    assert shapes(MobileNetV2(num_classes=1000), 224)[1] == 3_504_872
    assert shapes(AlexNet(num_classes=1000), 224)[1] == 61_100_840
    assert shapes(GoogLeNet(num_classes=1000), 224)[1] == 6_624_904
    whole = InceptionV3(geometry="standard", num_classes=1000)
    assert shapes(whole, 299)[1] == 27_161_264 - 3_326_696


def test_standard_inception_sizes():
    found, _ = shapes(InceptionV3(geometry="standard"), 299)
    assert found["Conv2d_2b_3x3"] == (147, 147, 64)
    assert found["Mixed_5d"] == (35, 35, 288)
    assert found["Mixed_6e"] == (17, 17, 768)
    assert found["Mixed_7c"] == (8, 8, 2048)


@pytest.mark.parametrize(
    ("module", "cells"),
    [
        (InceptionV3(0.125, output_stride=16), 14),
        (InceptionV3(0.125, output_stride=8, final_endpoint="Mixed_7a"), 28),
        (InceptionV3(0.125, geometry="standard", output_stride=16), 12),
        (InceptionV3(0.125, geometry="standard", output_stride=8), 25),
        (VGG16(0.125), 7),
        (VGG16(0.125, output_stride=16), 14),
        (VGG16(0.125, output_stride=16, relaxed_pools="absent"), 14),
        (VGG16(0.125, output_stride=8), 28),
        (VGG16(0.125, output_stride=8, stem_stride=2), 28),
        (VGG16(0.125, stem_stride=2), 7),
        (VGG16(0.125, output_stride=8, dilate=True, pool_window=3, ceil_mode=True), 29),
        (MobileNetV2(0.25), 7),
        (MobileNetV2(0.25, output_stride=16), 14),
        (MobileNetV2(0.25, output_stride=8), 28),
        (MobileNetV2(0.25, output_stride=16, padding="symmetric"), 14),
        (ResNet50(0.125), 7),
        (ResNet50(0.125, output_stride=16), 14),
        (ResNet50(0.125, output_stride=16, strided_conv="1x1"), 14),
        (ResNet101(0.125, output_stride=8), 28),
        (GoogLeNet(0.125), 7),
        (GoogLeNet(0.125, output_stride=16), 14),
        (GoogLeNet(0.125, output_stride=8), 28),
        (GoogLeNet(0.125, output_stride=8, final_endpoint="inception4e"), 28),
        # 11x11 at stride 4 leaves 55 cells, and 3x3 pools without a border 27, 13 and 6.
        (AlexNet(0.125, final_endpoint="pool5"), 6),
        (AlexNet(0.125, output_stride=16, final_endpoint="pool5"), 13),
        (AlexNet(0.125, output_stride=16, final_endpoint="conv5"), 13),
        (AlexNet(0.125, output_stride=8, final_endpoint="conv5"), 27),
    ],
)
def test_output_strides_at_224(module, cells):
    found, _ = shapes(module, 224)
    assert list(found.values())[-1][:2] == (cells, cells)


@pytest.mark.parametrize("width", [0.125, 0.5, 1.0, 1.5])
def test_widths_multiply_channels(width):
    assert shapes(VGG16(width), 64)[0]["conv4_1"][-1] == 512 * width
    assert shapes(InceptionV3(width), 75)[0]["Mixed_6b"][-1] == 768 * width
    assert shapes(MobileNetV2(2 * width), 64)[0]["block_12"][-1] == 192 * width
    assert shapes(ResNet50(width), 64)[0]["conv4_block6"][-1] == 1024 * width
    assert shapes(GoogLeNet(2 * width), 64)[0]["inception4e"][-1] == 2 * 832 * width


@pytest.mark.parametrize(
    ("module", "last"),
    [
        (VGG16(final_endpoint="conv4_3"), "conv4_3"),
        (VGG16(final_endpoint="pool2"), "pool2"),
        (InceptionV3(final_endpoint="Mixed_5d"), "Mixed_5d"),
        (InceptionV3(final_endpoint="Conv2d_2a_3x3"), "Conv2d_2a_3x3"),
        (InceptionV3(final_endpoint="Mixed_7c"), "Mixed_7c"),
        (MobileNetV2(final_endpoint="block_6_expand"), "block_6_expand"),
        (ResNet50(final_endpoint="conv1"), "conv1"),
        (ResNet50(final_endpoint="pool1"), "pool1"),
        (ResNet101(final_endpoint="conv4_block22"), "conv4_block22"),
        (AlexNet(final_endpoint="conv5"), "conv5"),
        (AlexNet(final_endpoint="pool1"), "pool1"),
        (AlexNet(final_endpoint="fc6"), "fc6"),
        (GoogLeNet(final_endpoint="maxpool1"), "maxpool1"),
        (GoogLeNet(final_endpoint="inception4e"), "inception4e"),
    ],
)
def test_final_endpoints(module, last):
    assert list(shapes(module, 96)[0])[-1] == last


@pytest.mark.parametrize(
    "module",
    [
        VGG16(final_endpoint="conv6_1"),
        VGG16(output_stride=4),
        VGG16(relaxed_pools="gone"),
        VGG16(pool_window=4),
        VGG16(stem_stride=4),
        VGG16(final_endpoint="conv5_3", num_classes=2),
        InceptionV3(final_endpoint="Mixed_8a"),
        InceptionV3(geometry="caffe"),
        InceptionV3(output_stride=12),
        InceptionV3(num_classes=2),
        MobileNetV2(final_endpoint="block_17"),
        MobileNetV2(output_stride=4),
        ResNet50(final_endpoint="conv4_block7"),
        ResNet50(output_stride=4),
        ResNet50(strided_conv="2x2"),
        ResNet50(final_endpoint="conv4_block6", num_classes=2),
        AlexNet(final_endpoint="fc9"),
        AlexNet(final_endpoint="fc6", num_classes=2),
        AlexNet(output_stride=4),
        GoogLeNet(final_endpoint="inception4f"),
        GoogLeNet(output_stride=64),
        GoogLeNet(final_endpoint="inception4e", num_classes=2),
    ],
)
def test_impossible_arguments_are_refused(module):
    with pytest.raises(ValueError, match=r"endpoint|stride|pool|geometry"):
        shapes(module, 96)


@pytest.mark.parametrize(
    ("module", "last"),
    [*SHORT, *(pytest.param(*case, marks=pytest.mark.slow) for case in TRUNKS.values())],
)
def test_gradients_reach_every_kernel(module, last):
    variables, images = start(module)

    def loss(params):
        return jnp.sum(module.apply({**variables, "params": params}, images)[last] ** 2)

    gradients = quick(jax.grad(loss))(variables["params"])
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        if path[-1].key == "kernel":
            assert np.abs(gradient).max() > 0, path


@pytest.mark.parametrize("name", TRUNKS)
def test_parameters_and_endpoints_of_a_bfloat16_trunk(name):
    half = TRUNKS[name][0].clone(dtype=jnp.bfloat16)
    images = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
    outputs, stored = jax.eval_shape(half.init_with_output, jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(stored)} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in outputs.values()} == {jnp.dtype(jnp.bfloat16)}


@named(SHORT)
def test_bfloat16_is_close_to_float32(module, last):
    variables, images = start(module)
    exact = quick(module.apply)(variables, images)[last]
    rough = quick(module.clone(dtype=jnp.bfloat16).apply)(variables, images)[last]
    error = np.abs(np.asarray(rough, np.float32) - exact).max() / np.abs(exact).max()
    assert 0 < error < 0.05


@named(NORMALISED)
def test_inference_mode_leaves_statistics_alone_and_batch_mode_moves_them(module, last):
    variables, images = start(module)
    run = lambda module: quick(
        lambda v: module.apply(v, images, train=True, mutable=["batch_stats"])
    )(variables)
    frozen, updated = run(module)
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])
    outputs, updated = run(module.clone(batch_norm="batch"))
    moved = jax.tree.map(
        lambda new, old: bool((new != old).any()), updated["batch_stats"], variables["batch_stats"]
    )
    assert all(jax.tree.leaves(moved))
    assert not np.allclose(outputs[last], frozen[last])
    evaluated = quick(module.clone(batch_norm="batch").apply)(variables, images)
    np.testing.assert_allclose(evaluated[last], frozen[last], rtol=1e-5, atol=1e-6)


@named(NORMALISED)
def test_padded_examples_stay_out_of_the_statistics(module, last):
    module = module.clone(batch_norm="batch")
    variables, images = start(module, batch=3)
    run = quick(lambda v, x, m: module.apply(v, x, True, m, mutable=["batch_stats"]))
    mask = np.array([True, True, False]).reshape(3, 1, 1, 1)
    one, noise = run(variables, images, mask)
    two, zeros = run(variables, np.where(mask, images, 0), mask)
    jax.tree.map(np.testing.assert_array_equal, noise, zeros)
    np.testing.assert_array_equal(one[last][:2], two[last][:2])


@pytest.mark.parametrize(
    ("padding", "offset", "output_stride"),
    [
        ("SAME", 1, 16),
        pytest.param("SAME", 1, 8, marks=pytest.mark.slow),
        pytest.param("symmetric", 0, 8, marks=pytest.mark.slow),
    ],
)
def test_dilated_mobilenet_computes_the_strided_one_in_between(padding, offset, output_stride):
    """Strides turned into dilations: every k-th cell is the strided network's, on even maps."""
    strided = MobileNetV2(0.25, padding=padding)
    variables, images = start(strided, size=96, batch=1)
    dense = strided.clone(output_stride=output_stride)
    step = 32 // output_stride
    start_cell = offset * (step - 1)
    coarse = quick(strided.apply)(variables, images)["Conv_1"]
    fine = quick(dense.apply)(variables, images)["Conv_1"]
    np.testing.assert_allclose(
        fine[:, start_cell::step, start_cell::step], coarse, atol=1e-5 * np.abs(coarse).max()
    )
