"""A backbone is its file and a row: this file is one, and the row stands in a test."""

import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cam, cams2i, spg
from wsol_jax import methods
from wsol_jax.base.download import Remote
from wsol_jax.base.errors import UserError
from wsol_jax.networks import backbones, weights
from wsol_jax.networks.backbones import table
from wsol_jax.networks.backbones.published import PublishedNames, single
from wsol_jax.runs.plan import resolve

NAMES = PublishedNames(
    layers=(("first",), ("second",), ("fc",)),
    torch=single({"features.0": "first", "features.3": "second", "classifier": "fc"}),
)


class Toy(nn.Module):
    """Two convolutions at stride 2."""

    width: float = 1.0
    output_stride: int = 4
    final_endpoint: str = "second"
    padding: str = "SAME"
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, images, train=False, mask=None):
        endpoints, x = {}, images
        for name in ("first", "second"):
            options = dict(padding=self.padding, dtype=self.dtype, name=name)
            x = nn.relu(nn.Conv(round(8 * self.width), (3, 3), 2, **options)(x))
            endpoints[name] = x
            if name == self.final_endpoint:
                break
        return endpoints


@pytest.fixture
def toy(monkeypatch):
    published = table.Weights(
        Remote("https://example.org/toy.safetensors"), "torch", {"padding": "VALID"}
    )
    row = table.Backbone(
        module=__name__,
        network="Toy",
        weights={"torchvision": published},
        imagenet="torchvision",
        model=dict(output_stride=4, final_endpoint="second", head_layers=0),
        taps={
            "spg": dict(b1_endpoint="first", b2_endpoint="second"),
            "cams2i": dict(endpoint_2="first"),
        },
        compares="second",
    )
    monkeypatch.setitem(table.BACKBONES, "toy", row)
    return row


def test_cam_on_a_new_backbone_by_config_alone(toy):
    config = cam.get_config("cub,backbone=toy,weights=none")
    assert (config.model.final_endpoint, config.model.head_layers) == ("second", 0)
    method = methods.build(config, 3)
    images = jnp.zeros((2, 32, 32, 3), jnp.uint8)
    variables = method.init(jax.random.key(0), images)
    assert set(variables["params"]["backbone"]) == {"first", "second"}
    found = method.localize(variables, images)
    assert found.maps.shape == (2, 8, 8, 3) and found.logits.shape == (2, 3)
    labels = method.param_groups(variables["params"])
    assert labels["backbone"]["first"]["kernel"] == "backbone/kernel"


def test_each_method_finds_its_taps(toy):
    config = spg.get_config("cub,backbone=toy")
    assert (config.spg.b1_endpoint, config.spg.b2_endpoint) == ("first", "second")
    assert cams2i.get_config("cub,backbone=toy").cams2i.endpoint_2 == "first"


def test_its_weights_are_read_by_the_names_of_its_file(toy, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "features.0.weight": rng.normal(size=(4, 3, 3, 3)),
        "features.0.bias": rng.normal(size=4),
        "features.3.weight": rng.normal(size=(4, 4, 3, 3)),
        "features.3.bias": rng.normal(size=4),
        "classifier.weight": rng.normal(size=(7, 4)),
    }
    path = tmp_path / "toy.npz"
    np.savez(path, **arrays)
    config = resolve(cam.get_config(f"cub,backbone=toy,width=0.5,weights={path}"))
    assert config.model.preprocessing == "torch" and config.model.trunk.padding == "VALID"
    module = backbones.build(config.model)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    found = weights.load_pretrained(path, module, shapes)
    kernel = arrays["features.3.weight"].transpose(2, 3, 1, 0).astype(np.float32)
    np.testing.assert_array_equal(found["params"]["second"]["kernel"], kernel)
    with pytest.raises(UserError, match=r"Fetch https://example\.org/toy\.safetensors, keep"):
        weights.load_pretrained(tmp_path / "absent.npz", "toy", shapes)


def test_the_sentences_name_the_rows():
    config = cam.get_config("cub,weights=none")
    with config.unlocked():
        config.model.backbone = "resnet18"
    known = "'mobilenet_v2', 'resnet50', 'resnet101', 'alexnet', 'googlenet'"
    with pytest.raises(UserError, match=known):
        backbones.build(config.model)
    with pytest.raises(UserError, match="no backbone 'alexnett'; did you mean 'alexnet'"):
        cam.get_config("cub,backbone=alexnett")


@pytest.mark.parametrize(
    ("backbone", "last", "cells", "before"),
    [
        ("alexnet", "conv5", 13, 256),
        ("vgg16", "conv5_3", 14, 512),
        ("googlenet", "inception4e", 14, 832),
    ],
)
def test_the_gap_networks_of_zhou(backbone, last, cells, before):
    """Section 3.1: the trunk's end and the maps at 224 pixels, one 3x3 layer of 1024 channels."""
    config = cam.get_config(f"ilsvrc,backbone={backbone},weights=none")
    assert config.model.final_endpoint == last
    method = methods.build(config, 1000)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.uint8)
    variables = jax.eval_shape(method.init, jax.random.key(0), images)
    assert {n: layer["kernel"].shape for n, layer in variables["params"]["head"].items()} == {
        "conv1": (3, 3, before, 1024),
        "class_maps": (1, 1, 1024, 1000),
    }
    found = jax.eval_shape(method.localize, variables, images)
    assert found.maps.shape == (1, cells, cells, 1000)


@pytest.mark.parametrize("name", table.BACKBONES)
def test_every_row_has_its_file(name):
    row = table.BACKBONES[name]
    names = row.published()
    assert issubclass(getattr(row.load(), row.network), nn.Module)
    assert names.layers and (row.imagenet is None or row.imagenet in row.weights)
    modules = set(names.layers)
    assert set(names.torch.values()) <= modules
    assert set(names.keras(()).values()) <= modules


def test_configs_read_the_table_without_jax():
    code = "import sys; from configs import cams2i, spg; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
