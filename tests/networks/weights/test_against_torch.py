"""Trunks and readers against PyTorch, through files in torchvision's layout written here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick

from wsol_jax.networks.backbones.alexnet import AlexNet
from wsol_jax.networks.backbones.inception import InceptionV3
from wsol_jax.networks.backbones.mobilenet import MobileNetV2
from wsol_jax.networks.backbones.vgg import VGG16
from wsol_jax.networks.weights import conventions, load_pretrained

torch = pytest.importorskip("torch")
import torch_networks  # noqa: E402
from safetensors.torch import save_file  # noqa: E402


def template(module, size):
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), images)


def compare(module, network, pairs, size, path):
    """pairs: our endpoint -> the reference's output; ``path`` gets the reference's state dict."""
    network = torch_networks.randomise(network)
    save = save_file if path.suffix == ".safetensors" else torch.save
    save(network.state_dict(), path)
    variables = load_pretrained(path, module, template(module, size))
    images = np.random.default_rng(1).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = network(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    ours = quick(module.apply)(variables, images)
    for endpoint, name in pairs.items():
        reference = theirs[name].numpy()
        reference = reference.transpose(0, 2, 3, 1) if reference.ndim == 4 else reference
        assert ours[endpoint].shape == reference.shape, endpoint
        largest = np.abs(reference).max()
        assert largest > 1e-3
        assert np.abs(ours[endpoint] - reference).max() / largest < 1e-4, endpoint


def test_vgg16_with_its_classifier(tmp_path):
    pairs = {"conv1_1": "features.1", "pool3": "features.16", "conv5_3": "features.29"}
    compare(
        VGG16(0.125, num_classes=5),
        torch_networks.VGG16(0.125, 5),
        {**pairs, "logits": "logits"},
        224,
        tmp_path / "vgg16.safetensors",
    )


@pytest.mark.parametrize("size", [96, 224])
@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_alexnet_with_its_classifier(tmp_path, size, ending):
    """224 gives the classifier its 6x6 cells as they are; 96 leaves 2x2 to be averaged to 6x6."""
    pairs = {"conv1": "features.1", "pool2": "features.5", "conv3": "features.7"}
    pairs |= {"conv5": "features.11", "pool5": "features.12"}
    pairs |= {"fc6": "classifier.2", "fc7": "classifier.5", "logits": "classifier.6"}
    compare(
        AlexNet(0.125, num_classes=5),
        torch_networks.AlexNet(0.125, 5),
        pairs,
        size,
        tmp_path / f"alexnet{ending}",
    )


def test_an_alexnet_that_ends_early_reads_the_whole_published_network(tmp_path):
    network = torch_networks.randomise(torch_networks.AlexNet(0.125))
    save_file(network.state_dict(), tmp_path / "alexnet.safetensors")
    module = AlexNet(0.125, final_endpoint="conv5")
    variables = load_pretrained(tmp_path / "alexnet.safetensors", module, template(module, 64))
    assert set(variables["params"]) == {"conv1", "conv2", "conv3", "conv4", "conv5"}
    assert conventions(tmp_path / "alexnet.safetensors", "alexnet").preprocessing == "torch"


@pytest.mark.parametrize("size", [75, pytest.param(64, marks=pytest.mark.slow)])
def test_mobilenet_v2(tmp_path, size):
    pairs = {f"block_{i}": f"features.{i + 1}" for i in (1, 6, 16)}
    pairs |= {"Conv1": "features.0", "expanded_conv": "features.1", "Conv_1": "features.18"}
    network = torch_networks.MobileNetV2(classes=5)
    path = tmp_path / "mobilenet.pth"
    torch.save(network.state_dict(), path)
    module = MobileNetV2(num_classes=5, **conventions(path, "mobilenet_v2").fields)
    compare(module, network, {**pairs, "logits": "logits"}, size, path)


def test_inception_v3(tmp_path):
    pairs = {name: name for name in ("Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c", "logits")}
    module = InceptionV3(0.5, geometry="standard", num_classes=5)
    network = torch_networks.InceptionV3(0.5, classes=5)
    compare(module, network, pairs, 96, tmp_path / "inception.safetensors")


@pytest.mark.parametrize("size", [75, pytest.param(64, marks=pytest.mark.slow)])
def test_inception_v3_in_spgs_geometry(tmp_path, size):
    pairs = {name: name for name in ("Conv2d_1a_3x3", "Mixed_5b", "Mixed_6a", "Mixed_6e")}
    network = torch_networks.InceptionV3(0.5, spg=True)
    compare(InceptionV3(0.5), network, pairs, size, tmp_path / "inception.pth")


def test_spgs_trunk_reads_the_whole_published_network(tmp_path):
    network = torch_networks.randomise(torch_networks.InceptionV3(0.5, classes=5))
    # As a training script saves it: a dict around the state, DataParallel's prefix on the names.
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "checkpoint.pth")
    module = InceptionV3(0.5)
    variables = load_pretrained(tmp_path / "checkpoint.pth", module, template(module, 64))
    np.testing.assert_array_equal(
        variables["params"]["Mixed_6e"]["branch7x7_2"]["conv"]["kernel"],
        network.Mixed_6e.branch7x7_2.conv.weight.detach().numpy().transpose(2, 3, 1, 0),
    )
    assert "Mixed_7a" not in variables["params"]
