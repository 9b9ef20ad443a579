"""Pools and depthwise convolutions against PyTorch, and both forms of the latter alike."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick

from wsol_jax.base import target
from wsol_jax.networks.backbones.layers import depthwise_conv
from wsol_jax.networks.backbones.pooling import max_pool
from wsol_jax.networks.backbones.vgg import VGG16


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("window", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0)]
)
def test_max_pool_is_torchs(window, stride, padding, ceil_mode):
    torch = pytest.importorskip("torch")
    for height in range(5, 13):
        x = noise(2, height, 9, 3) - 5  # all negative: a zero that pads would win
        reference = torch.nn.functional.max_pool2d(
            torch.from_numpy(x.transpose(0, 3, 1, 2)), window, stride, padding, ceil_mode=ceil_mode
        )
        ours = max_pool(x, window, stride, padding=padding, ceil_mode=ceil_mode)
        np.testing.assert_array_equal(ours, reference.numpy().transpose(0, 2, 3, 1))


@pytest.mark.parametrize("window", [2, 3])
def test_caffes_map_sizes(window):
    trunk = VGG16(0.125, output_stride=8, ceil_mode=True, pool_window=window)
    outputs = jax.eval_shape(
        lambda x: trunk.init_with_output(jax.random.key(0), x)[0], noise(1, 321, 321, 3)
    )
    sizes = [outputs[f"pool{i}"].shape[1] for i in range(1, 6)]
    assert sizes == [161, 81, 41, 41, 41]


def vgg_kernels(trunk, images):
    """Variables by NumPy; compiling flax's initialisers takes longer than all tests here."""
    rng = np.random.default_rng(0)
    template = jax.eval_shape(trunk.init, jax.random.key(0), images)
    draw = lambda leaf: rng.normal(0, np.sqrt(2 / max(np.prod(leaf.shape[:-1]), 1)), leaf.shape)
    return jax.tree.map(lambda leaf: draw(leaf).astype(np.float32), template)


def test_absent_pools_hand_their_input_on():
    trunk, images = VGG16(0.125, output_stride=16, relaxed_pools="absent"), noise(1, 32, 32, 3)
    variables = vgg_kernels(trunk, images)
    absent = quick(trunk.apply)(variables, images)
    np.testing.assert_array_equal(absent["pool5"], absent["conv5_3"])
    kept = quick(trunk.clone(relaxed_pools="stride1").apply)(variables, images)
    assert (kept["pool5"] >= absent["pool5"]).all() and (kept["pool5"] > absent["pool5"]).any()


def test_dilated_vgg_is_torchs():
    """DeepLab's conv5 behind pool4 at stride 1: the same kernels, two cells apart."""
    torch = pytest.importorskip("torch")
    trunk = VGG16(0.125, output_stride=8, dilate=True, pool_window=3, ceil_mode=True)
    images = noise(1, 65, 65, 3)
    variables = vgg_kernels(trunk, images)
    outputs = quick(trunk.apply)(variables, images)
    layer = variables["params"]["conv5_1"]
    pool4 = torch.from_numpy(np.asarray(outputs["pool4"]).transpose(0, 3, 1, 2).copy())
    reference = torch.nn.functional.conv2d(
        pool4,
        torch.from_numpy(layer["kernel"].transpose(3, 2, 0, 1).copy()),
        torch.from_numpy(layer["bias"]),
        padding=2,
        dilation=2,
    ).relu()
    ours = np.asarray(outputs["conv5_1"]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours, reference.numpy(), atol=1e-4 * float(reference.max()))


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize(
    ("stride", "dilation", "padding"),
    [(1, 1, "SAME"), (2, 1, "SAME"), (1, 2, "SAME"), (1, 1, 1), (2, 1, 1), (1, 4, 4), (2, 2, 1)],
)
def test_depthwise_forms_agree_with_each_other_and_torch(size, stride, dilation, padding):
    x, kernel = noise(2, *size, 5), noise(3, 3, 1, 5)
    arguments = dict(stride=stride, dilation=dilation, padding=padding)

    def both(name):
        run = lambda x, k: depthwise_conv(x, k, implementation=name, **arguments)
        gradients = jax.grad(lambda x, k: jnp.sin(run(x, k)).sum(), argnums=(0, 1))
        return quick(lambda x, k: (run(x, k), gradients(x, k)))(x, kernel)

    shifted, grouped = both("shifted"), both("grouped")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), shifted, grouped)
    if padding != "SAME":
        torch = pytest.importorskip("torch")
        reference = torch.nn.functional.conv2d(
            torch.from_numpy(x.transpose(0, 3, 1, 2)),
            torch.from_numpy(kernel.transpose(3, 2, 0, 1)),
            stride=stride,
            dilation=dilation,
            padding=padding,
            groups=5,
        )
        np.testing.assert_allclose(shifted[0], reference.numpy().transpose(0, 2, 3, 1), atol=1e-5)


def test_shifted_depthwise_rounds_bfloat16_once():
    x, kernel = noise(2, 9, 9, 5).astype("bfloat16"), noise(3, 3, 1, 5).astype("bfloat16")
    exact = depthwise_conv(
        x.astype(np.float32), kernel.astype(np.float32), implementation="grouped"
    )
    ours = depthwise_conv(x, kernel, implementation="shifted")
    assert ours.dtype == x.dtype
    np.testing.assert_allclose(np.asarray(ours, np.float32), exact, rtol=2**-8, atol=1e-6)


def test_one_program_for_every_platform_has_each_ones_depthwise_form():
    shapes = [jax.ShapeDtypeStruct(s, np.float32) for s in ((2, 8, 8, 5), (3, 3, 1, 5))]

    def lowered(*platforms):
        with target.traced_for(target.EVERY):
            run = jax.jit(lambda x, k: depthwise_conv(x, k))
            return jax.export.export(run, platforms=platforms)(*shapes).mlir_module()

    grouped = "feature_group_count = 5"
    assert grouped in lowered("tpu") and grouped in lowered("cuda")
    assert grouped not in lowered("cpu")
    assert grouped in lowered("cpu", "tpu") and "stablehlo.case" in lowered("cpu", "tpu")
