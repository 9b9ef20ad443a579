"""ImageNet's classifier from weight files of both publishers, and its class names."""

import numpy as np
import pytest

from wsol_jax.base.errors import UserError
from wsol_jax.networks.weights.classifier import imagenet_names, read_classifier

RNG = np.random.default_rng(0)
KERNEL, BIAS = RNG.normal(size=(5, 7)).astype(np.float32), RNG.normal(size=7).astype(np.float32)
# Names of the layer in each publisher's file; torchvision keeps a kernel the other way round.
FILES = {
    ("mobilenet_v2", "predictions"): "keras",
    ("mobilenet_v2", "Logits"): "keras",
    ("resnet50", "predictions"): "keras",
    ("resnet101", "probs"): "keras",
    ("inception_v3", "predictions"): "keras",
    ("mobilenet_v2", "classifier.1"): "torchvision",
    ("resnet50", "fc"): "torchvision",
    ("inception_v3", "fc"): "torchvision",
}


def save(path, layer, layout, kernel=KERNEL, bias=BIAS):
    if layout == "keras":
        arrays = {f"{layer}/kernel": kernel, f"{layer}/bias": bias}
    else:
        arrays = {f"{layer}.weight": kernel.T, f"{layer}.bias": bias}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize("backbone, layer", FILES)
def test_the_classifier_of_every_file(tmp_path, backbone, layer):
    path = save(tmp_path / "w.npz", layer, FILES[backbone, layer])
    found = read_classifier(path, backbone)
    np.testing.assert_array_equal(found.kernel, KERNEL)
    np.testing.assert_array_equal(found.bias, BIAS)
    assert found.kernel.dtype == found.bias.dtype == np.float32


def test_a_classifier_that_is_a_convolution(tmp_path):
    path = save(tmp_path / "w.npz", "predictions", "keras", KERNEL[None, None])
    np.testing.assert_array_equal(read_classifier(path, "mobilenet_v2").kernel, KERNEL)


def test_arrays_at_hand_are_not_read_again(tmp_path):
    arrays = {"predictions/kernel": KERNEL, "predictions/bias": BIAS}
    found = read_classifier(tmp_path / "nothing.npz", "mobilenet_v2", arrays)
    np.testing.assert_array_equal(found.kernel, KERNEL)


@pytest.mark.parametrize(
    "backbone, changes, sentence",
    [
        ("vgg16", {}, r"vgg16 has three fully connected layers"),
        ("alexnet", {}, r"alexnet has three fully connected layers"),
        ("vgg61", {}, r"no backbone 'vgg61'"),
        ("mobilenet_v2", {"layer": "Conv1"}, r"w\.npz: it holds no classifier \(predictions\)"),
        ("mobilenet_v2", {"bias": None}, r"holds no classifier"),
        ("mobilenet_v2", {"bias": BIAS[1:]}, r"has shapes \(5, 7\) and \(6,\)"),
        ("mobilenet_v2", {"kernel": KERNEL[0]}, r"has shapes \(7,\) and \(7,\)"),
        ("mobilenet_v2", {"kernel": KERNEL * np.nan}, r"no finite numbers"),
        ("mobilenet_v2", {"bias": BIAS.astype(np.int32)}, r"no finite numbers"),
    ],
)
def test_what_is_no_classifier_is_refused(tmp_path, backbone, changes, sentence):
    given = {"layer": "predictions", "layout": "keras", **changes}
    path = save(tmp_path / "w.npz", **given)
    with pytest.raises(UserError, match=sentence):
        read_classifier(path, backbone)


def test_imagenets_names():
    """By numbers that every classifier of it agrees on."""
    names = imagenet_names()
    assert len(names) == len(set(names)) == 1000
    known = {0: "tench", 207: "golden retriever", 281: "tabby", 340: "zebra", 999: "toilet tissue"}
    assert {number: names[number] for number in known} == known
    assert names[134] != names[517] and {names[134][:5], names[517][:5]} == {"crane"}
    assert all(name and name == name.strip() for name in names)


@pytest.mark.shared
def test_the_published_file(shared):
    found = read_classifier(shared / "weights" / "mobilenet_v2_imagenet_keras.npz", "mobilenet_v2")
    assert found.kernel.shape == (1280, 1000) and found.bias.shape == (1000,)
