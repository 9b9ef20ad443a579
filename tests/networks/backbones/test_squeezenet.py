"""SqueezeNet 1.0 against the paper's table 1, NumPy in float64, and photos it has never seen."""

import xml.etree.ElementTree as ET

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from configs import cam
from wsol_jax import methods
from wsol_jax.data.decode import decode_rgb
from wsol_jax.networks.backbones.squeezenet import SqueezeNet
from wsol_jax.networks.weights import conventions, load_pretrained
from wsol_jax.ops.images import normalise

# Table 1: squeeze, each expansion; a pool of 3x3 at stride 2 comes before fire2, fire5 and fire9.
FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192)}
FIRES |= {8: (64, 256), 9: (64, 256)}
TORCH = dict(zip(FIRES, (3, 4, 5, 7, 8, 9, 10, 12), strict=True))
PARTS = {"squeeze": "conv1x1_1", "expand1x1": "conv1x1_2", "expand3x3": "conv3x3_2"}
CLASSES = 7


@pytest.fixture(scope="module")
def kernels():
    """(module names) -> kernel (k, k, in, out) and bias."""
    rng, before = np.random.default_rng(0), 96
    shapes = {("conv1",): (7, 7, 3, 96)}
    for fire, (squeeze, expand) in FIRES.items():
        shapes[f"fire{fire}", "squeeze"] = (1, 1, before, squeeze)
        shapes[f"fire{fire}", "expand1x1"] = (1, 1, squeeze, expand)
        shapes[f"fire{fire}", "expand3x3"] = (3, 3, squeeze, expand)
        before = 2 * expand
    shapes[("conv10",)] = (1, 1, before, CLASSES)
    scale = lambda shape: (2 / np.prod(shape[:3])) ** 0.5
    return {
        name: (rng.normal(size=shape) * scale(shape), 0.1 * rng.normal(size=shape[-1]))
        for name, shape in shapes.items()
    }


def convolved(x, kernel, bias, stride=1):
    side = kernel.shape[0]
    pad = 0 if side == 7 else side // 2
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    windows = sliding_window_view(x, (side, side), axis=(0, 1))[::stride, ::stride]
    return np.maximum(np.einsum("hwcij,ijcd->hwd", windows, kernel) + bias, 0)


def pooled(x):
    """3x3 at stride 2, the last window hanging over the edge where it must."""
    more = [(0, (size - 3) % 2) for size in x.shape[:2]]
    x = np.pad(x, (*more, (0, 0)), constant_values=-np.inf)
    return sliding_window_view(x, (3, 3), axis=(0, 1))[::2, ::2].max(axis=(-1, -2))


def by_numpy(x, kernels):
    found = {"conv1": convolved(x, *kernels["conv1",], stride=2)}
    x = found["conv1"]
    for fire in FIRES:
        if fire in (2, 5, 9):
            x = found[f"pool{1 if fire == 2 else fire - 1}"] = pooled(x)
        small = convolved(x, *kernels[f"fire{fire}", "squeeze"])
        large = (convolved(small, *kernels[f"fire{fire}", part]) for part in list(PARTS)[1:])
        x = found[f"fire{fire}"] = np.concatenate([*large], axis=-1)
    return {**found, "logits": convolved(x, *kernels["conv10",]).mean(axis=(0, 1))}


def flat_file(path, kernels):
    """Keras' layers, underscores where Keras has slashes."""
    names = {("conv1",): "conv1", ("conv10",): "conv_final"}
    names |= {(f"fire{f}", part): f"fire{f}_{own}" for f in FIRES for part, own in PARTS.items()}
    arrays = {f"{names[name]}_kernel": kernel for name, (kernel, _) in kernels.items()}
    biases = {f"{names[name]}_bias": bias for name, (_, bias) in kernels.items()}
    np.savez(path, **{k: v.astype(np.float32) for k, v in (arrays | biases).items()})


def torch_file(path, kernels):
    """torchvision's names and axes."""
    names = {("conv1",): "features.0", ("conv10",): "classifier.1"}
    names |= {
        (f"fire{f}", part): f"features.{i}.{part}" for f, i in TORCH.items() for part in PARTS
    }
    arrays = {f"{names[n]}.weight": k.transpose(3, 2, 0, 1) for n, (k, _) in kernels.items()}
    biases = {f"{names[n]}.bias": b for n, (_, b) in kernels.items()}
    np.savez(path, **{k: v.astype(np.float32) for k, v in (arrays | biases).items()})


@pytest.mark.parametrize(
    ("write", "layout", "preprocessing"),
    [(flat_file, "keras", "caffe"), (torch_file, "torchvision", "torch")],
)
def test_every_endpoint_equals_numpy_s(tmp_path, kernels, write, layout, preprocessing):
    path, network = tmp_path / "file.npz", SqueezeNet(num_classes=CLASSES)
    write(path, kernels)
    kept = conventions(path, "squeezenet")
    assert (kept.layout, kept.preprocessing) == (layout, preprocessing)
    image = np.random.default_rng(1).normal(size=(52, 47, 3))
    expected = by_numpy(image, kernels)
    images = jnp.asarray(image[None], jnp.float32)
    empty = jax.eval_shape(network.init, jax.random.key(0), images)
    variables = load_pretrained(path, network, jax.tree.map(lambda x: jnp.zeros(x.shape), empty))
    found = network.apply(variables, images)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name][0], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_parameters_and_cells():
    """1,248,424 of the published network; 13x13 cells at 224 pixels, 27x27 and 54x54 relaxed."""
    shapes = lambda network: jax.eval_shape(
        network.init_with_output, jax.random.key(0), jnp.zeros((1, 224, 224, 3))
    )
    _, variables = shapes(SqueezeNet(num_classes=1000))
    assert sum(x.size for x in jax.tree.leaves(variables)) == 1_248_424
    for stride, cells in ((16, 13), (8, 27), (4, 54)):
        found, _ = shapes(SqueezeNet(output_stride=stride))
        assert found["fire9"].shape == (1, cells, cells, 512)
    for wrong in (SqueezeNet(output_stride=32), SqueezeNet(final_endpoint="fire1")):
        with pytest.raises(ValueError, match=r"output_stride|no endpoint"):
            shapes(wrong)


def test_cam_by_config_alone():
    config = cam.get_config("cub,backbone=squeezenet,weights=none,width=0.25,size=64")
    method = methods.build(config, 3)
    found = jax.eval_shape(
        lambda key, x: method.localize(method.init(key, x), x),
        *(jax.random.key(0), jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.uint8)),
    )
    assert found.logits.shape == (2, 3) and found.maps.shape[0] == 2


def test_it_knows_dogs_by_imagenet_s_weights(shared):
    """Of 20 photos of dogs 14 or more are one of ImageNet's 118 breeds (chance: 2)."""
    root, file = shared / "data/voc_animals", shared / "weights/squeezenet_v1.0_imagenet.npz"
    network = SqueezeNet(num_classes=1000)
    empty = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 227, 227, 3)))
    variables = load_pretrained(file, network, jax.tree.map(lambda x: jnp.zeros(x.shape), empty))
    ids = (root / "ImageSets/Segmentation/wsol_train.txt").read_text().split()
    kind = lambda i: ET.parse(root / f"Annotations/{i}.xml").findtext("object/name")
    dogs = [i for i in ids if kind(i) == "dog"][:20]
    photos = [decode_rgb((root / f"JPEGImages/{i}.jpg").read_bytes(), i) for i in dogs]
    images = np.stack([cv2.resize(x, (227, 227), interpolation=cv2.INTER_AREA) for x in photos])
    logits = jax.jit(network.apply)(variables, normalise(jnp.asarray(images), "caffe"))["logits"]
    best = np.asarray(logits.argmax(axis=-1))
    assert len(dogs) == 20 and np.sum((best >= 151) & (best < 269)) >= 14
