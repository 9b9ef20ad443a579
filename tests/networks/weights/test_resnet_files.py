"""ResNets in torchvision's layout: against its own, and a network written out from its names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from safetensors.numpy import save_file

from wsol_jax.base.errors import UserError
from wsol_jax.networks.backbones.resnet import ResNet50, ResNet101
from wsol_jax.networks.weights import conventions, load_pretrained

DEPTHS = {"ResNet50": (3, 4, 6, 3), "ResNet101": (3, 4, 23, 3)}
SIZE = 64


def state_shapes(depths, width=1.0, classes=5):
    """Names and shapes of torchvision's state dict, channels multiplied by ``width``."""
    found = {}

    def layer(conv, bn, before, after, kernel):
        found[f"{conv}.weight"] = (after, before, kernel, kernel)
        for name in ("weight", "bias", "running_mean", "running_var"):
            found[f"{bn}.{name}"] = (after,)
        found[f"{bn}.num_batches_tracked"] = ()

    before = int(64 * width)
    layer("conv1", "bn1", 3, before, 7)
    for stage, (channels, depth) in enumerate(zip((64, 128, 256, 512), depths, strict=True), 1):
        channels = int(channels * width)
        for unit in range(depth):
            place = f"layer{stage}.{unit}"
            layer(f"{place}.conv1", f"{place}.bn1", before, channels, 1)
            layer(f"{place}.conv2", f"{place}.bn2", channels, channels, 3)
            layer(f"{place}.conv3", f"{place}.bn3", channels, 4 * channels, 1)
            if unit == 0:
                layer(f"{place}.downsample.0", f"{place}.downsample.1", before, 4 * channels, 1)
            before = 4 * channels
    return found | {"fc.weight": (classes, before), "fc.bias": (classes,)}


def draw(shapes):
    """Random weights, gains, biases and statistics; scales that keep the features' size."""
    rng = np.random.default_rng(0)
    state = {}
    for name, shape in shapes.items():
        if not shape:
            state[name] = np.array(7, np.int64)
        elif len(shape) > 1:
            state[name] = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        elif name.endswith("running_var") or name.endswith("weight"):
            state[name] = rng.uniform(0.5, 1.5, shape)
        else:
            state[name] = rng.normal(0, 0.2, shape)
    return {name: x.astype(np.float32) if x.ndim else x for name, x in state.items()}


def written_out(state, images, depths):
    """The network on (B, 3, H, W) images: endpoints by torchvision's names of layers."""

    def conv_bn(x, conv, bn, stride=1):
        kernel = state[f"{conv}.weight"]
        pads = [(side // 2, side // 2) for side in kernel.shape[2:]]
        x = jax.lax.conv_general_dilated(x, kernel, (stride, stride), pads)
        gain, offset, mean, var = (
            state[f"{bn}.{name}"][:, None, None]
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / jnp.sqrt(var + 1e-5) * gain + offset

    relu = lambda x: jnp.maximum(x, 0)
    x = relu(conv_bn(images, "conv1", "bn1", 2))
    outputs = {"relu": x}
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    size = x.shape[2] // 2
    shifts = [padded[:, :, i:, j:][:, :, ::2, ::2] for i in range(3) for j in range(3)]
    x = outputs["maxpool"] = jnp.max(jnp.stack([y[:, :, :size, :size] for y in shifts]), axis=0)
    for stage, depth in enumerate(depths, 1):
        for unit in range(depth):
            place = f"layer{stage}.{unit}"
            stride = 2 if stage > 1 and unit == 0 else 1
            y = relu(conv_bn(x, f"{place}.conv1", f"{place}.bn1"))
            y = relu(conv_bn(y, f"{place}.conv2", f"{place}.bn2", stride))
            y = conv_bn(y, f"{place}.conv3", f"{place}.bn3")
            if unit == 0:
                x = conv_bn(x, f"{place}.downsample.0", f"{place}.downsample.1", stride)
            x = outputs[place] = relu(x + y)
    outputs["fc"] = x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    return outputs


def template(module):
    images = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), images)


def pixels():
    return np.random.default_rng(1).uniform(-2, 2, (2, SIZE, SIZE, 3)).astype(np.float32)


def check(ours, theirs, pairs):
    """pairs: our endpoint -> torchvision's layer, (B, C, H, W) or (B, C)."""
    for endpoint, layer in pairs.items():
        reference = np.asarray(theirs[layer])
        reference = reference.transpose(0, 2, 3, 1) if reference.ndim == 4 else reference
        assert ours[endpoint].shape == reference.shape, endpoint
        largest = np.abs(reference).max()
        assert 1e-3 < largest < np.inf
        assert np.abs(ours[endpoint] - reference).max() / largest < 1e-4, endpoint


FIRST = {
    "conv1": "relu",
    "pool1": "maxpool",
    "conv2_block1": "layer1.0",
    "conv2_block3": "layer1.2",
}
LATER = {"conv3_block1": "layer2.0", "conv4_block6": "layer3.5", "conv5_block3": "layer4.2"}


@pytest.mark.parametrize(
    ("network", "pairs"),
    [
        (ResNet50, FIRST | {"conv3_block1": "layer2.0"}),
        *(
            pytest.param(network, FIRST | LATER | {"logits": "fc"}, marks=pytest.mark.slow)
            for network in (ResNet50, ResNet101)
        ),
    ],
)
def test_a_network_written_out_from_the_names(tmp_path, network, pairs):
    name, path = network.__name__, tmp_path / "resnet.safetensors"
    state = draw(state_shapes(DEPTHS[name], 0.25))
    save_file(state, path)
    found = conventions(path, name)
    assert (found.layout, found.preprocessing) == ("torchvision", "torch")
    last = [endpoint for endpoint in pairs if endpoint != "logits"][-1]
    classes = 5 if "logits" in pairs else None
    module = network(0.25, final_endpoint=last, num_classes=classes, **found.fields)
    variables = load_pretrained(path, module, template(module))
    depths = DEPTHS[name] if classes else (3, 1, 0, 0)
    if not classes:
        state |= {"fc.weight": np.zeros((5, 128)), "fc.bias": np.zeros(5)}
    theirs = quick(lambda state, x: written_out(state, x, depths))(
        state, pixels().transpose(0, 3, 1, 2)
    )
    check(quick(module.apply)(variables, pixels()), theirs, pairs)


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize("network", [ResNet50, ResNet101])
def test_torchvisions_own(tmp_path, network, output_stride):
    """Its names and shapes too, and its dilated network where it has one."""
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision").models
    dilated = [False, output_stride < 16, output_stride < 32]
    theirs = getattr(models, network.__name__.lower())(
        weights=None, num_classes=5, replace_stride_with_dilation=dilated
    )
    shapes = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    assert shapes == state_shapes(DEPTHS[network.__name__])
    theirs.load_state_dict({name: torch.from_numpy(x) for name, x in draw(shapes).items()})
    path = tmp_path / "resnet.pth"
    torch.save(theirs.state_dict(), path)
    found = conventions(path, network.__name__)
    assert (found.layout, found.preprocessing) == ("torchvision", "torch")
    module = network(output_stride=output_stride, num_classes=5, **found.fields)
    variables = load_pretrained(path, module, template(module))
    outputs = {}
    pairs = FIRST | LATER | {"logits": "fc"}
    for layer in pairs.values():
        note = lambda _, inputs, output, layer=layer: outputs.update({layer: output})
        theirs.get_submodule(layer).register_forward_hook(note)
    with torch.no_grad():
        theirs.eval()(torch.from_numpy(pixels().transpose(0, 3, 1, 2)))
    # One ReLU module serves the whole stem: it is called once, before the pool.
    check(quick(module.apply)(variables, pixels()), outputs, pairs)


@pytest.mark.parametrize(
    ("file", "module", "said"),
    [
        ("ResNet50", ResNet101(0.125), "missing: .*conv4_block"),
        ("ResNet101", ResNet50(0.125), "255 unexpected: layer3.10.bn1.bias"),
        ("ResNet50", ResNet50(0.125, use_bias=True), "53 missing: .*bias"),
        ("ResNet50", ResNet50(0.25), "misshapen: "),
    ],
)
def test_a_file_of_another_network_is_refused(tmp_path, file, module, said):
    save_file(draw(state_shapes(DEPTHS[file], 0.125)), tmp_path / "resnet.safetensors")
    with pytest.raises(UserError, match=said):
        load_pretrained(tmp_path / "resnet.safetensors", module, template(module))


def test_a_network_that_ends_early_reads_the_whole_file(tmp_path):
    state = draw(state_shapes(DEPTHS["ResNet101"], 0.125))
    save_file(state, tmp_path / "resnet.safetensors")
    module = ResNet101(0.125, final_endpoint="conv4_block2")
    variables = load_pretrained(tmp_path / "resnet.safetensors", module, template(module))
    assert list(variables["params"])[-1] == "conv4_block2"
    np.testing.assert_array_equal(
        variables["params"]["conv4_block1"]["conv_0"]["kernel"][0, 0],
        state["layer3.0.downsample.0.weight"][:, :, 0, 0].T,
    )
    np.testing.assert_array_equal(
        variables["batch_stats"]["conv3_block2"]["bn_3"]["mean"], state["layer2.1.bn3.running_mean"]
    )


def test_a_module_of_the_other_publisher_is_warned_about(tmp_path, caplog):
    from absl import logging

    logging.get_absl_logger().propagate = True
    save_file(draw(state_shapes(DEPTHS["ResNet50"], 0.125)), tmp_path / "resnet.safetensors")
    module = ResNet50(0.125, strided_conv="1x1", final_endpoint="conv2_block1")
    with caplog.at_level("WARNING"):
        load_pretrained(tmp_path / "resnet.safetensors", module, template(module))
    assert "strided_conv='3x3'" in caplog.text and "epsilon" not in caplog.text
