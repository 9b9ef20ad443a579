"""The published MobileNetV2 weights: Keras' own logits, and cats and dogs recognised in photos."""

import xml.etree.ElementTree as ET

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsol_jax.networks.backbones.mobilenet import MobileNetV2
from wsol_jax.networks.weights import conventions, load_pretrained

pytestmark = pytest.mark.shared

# ImageNet's domestic dogs (Chihuahua ... Mexican hairless) and cats (tabby ... Egyptian).
CLASSES = {"dog": range(151, 269), "cat": range(281, 286)}


@pytest.fixture(scope="module")
def weights(shared):
    path = shared / "weights" / "mobilenet_v2_imagenet_keras.npz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return path


@pytest.fixture(scope="module")
def photos(shared):
    """All cats and dogs of wsol_train as (150, 224, 224, 3) in [-1, 1], and their names."""
    root = shared / "data" / "voc_animals"
    images, labels = [], []
    for name in (root / "ImageSets/Segmentation/wsol_train.txt").read_text().split():
        tree = ET.parse(root / "Annotations" / f"{name}.xml")
        found = {item.findtext("name") for item in tree.iter("object")} & CLASSES.keys()
        if found:
            image = cv2.cvtColor(
                cv2.imread(str(root / "JPEGImages" / f"{name}.jpg")), cv2.COLOR_BGR2RGB
            )
            images.append(cv2.resize(image, (224, 224)).astype(np.float32) / 127.5 - 1)
            labels.append(found.pop())
    assert len(labels) == 150
    return np.stack(images), labels


@pytest.fixture(scope="module")
def logits_of(weights):
    module = MobileNetV2(num_classes=1000)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = load_pretrained(
        weights, module, jax.eval_shape(module.init, jax.random.key(0), images)
    )
    return jax.jit(lambda images: module.apply(variables, images)["logits"])


def test_logits_are_keras_own(weights, photos, logits_of, monkeypatch):
    keras = pytest.importorskip("keras", minversion="3.12")
    # Every array is overwritten: compiling Keras' initialisers would take most of this test's time.
    zeros = lambda self, shape, dtype=None: np.zeros(shape, np.float32)
    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", zeros)
    model = keras.applications.MobileNetV2(weights=None, classifier_activation=None)
    with np.load(weights) as arrays:
        for layer in model.layers:
            for weight in layer.weights:
                name = f"{layer.name}/{weight.name}"
                if name not in arrays.files:  # Keras 2 called them so
                    name = f"{layer.name}/depthwise_{weight.name}"
                weight.assign(arrays[name])
    images = photos[0][:2]
    trained = [v.value for v in model.trainable_variables]
    frozen = [v.value for v in model.non_trainable_variables]
    run = jax.jit(lambda t, f, x: model.stateless_call(t, f, x, training=False)[0])
    theirs = np.asarray(run(trained, frozen, images))
    ours = np.asarray(logits_of(images))
    assert np.abs(ours - theirs).max() / np.abs(theirs).max() < 1e-4


def test_cats_and_dogs_are_named(photos, logits_of):
    images, labels = photos
    top1 = np.concatenate([logits_of(images[i : i + 25]).argmax(-1) for i in range(0, 150, 25)])
    right = np.mean([top in CLASSES[label] for top, label in zip(top1, labels, strict=True)])
    print(f"top-1 names a cat or a dog rightly on {right:.1%} of {len(labels)} photos")
    assert right >= 0.75


def test_conventions_of_the_file(weights):
    found = conventions(weights, "mobilenet_v2")
    assert (found.layout, found.preprocessing) == ("keras", "tf")
