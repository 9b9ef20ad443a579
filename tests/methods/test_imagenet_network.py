"""A published network as a method: its own logits, class maps of 1,000 classes, and a tap."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsol_jax import explain
from wsol_jax.base.errors import UserError
from wsol_jax.methods.imagenet import pretrained
from wsol_jax.networks.backbones.mobilenet import MobileNetV2
from wsol_jax.networks.weights import load_pretrained
from wsol_jax.networks.weights.classifier import imagenet_names


@pytest.fixture(scope="module")
def weights(shared):
    return shared / "weights" / "mobilenet_v2_imagenet_keras.npz"


@pytest.fixture(scope="module")
def photo(shared):
    """A cat of wsol_test's neighbours, as the network sees it."""
    path = shared / "data/voc_animals/JPEGImages/2008_000062.jpg"
    if not path.is_file():
        path = sorted(path.parent.glob("*.jpg"))[0]
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return cv2.resize(image, (160, 160))[None]


@pytest.mark.slow
@pytest.mark.shared
def test_logits_are_the_published_networks(weights, photo):
    network = pretrained("mobilenet_v2", weights, output_stride=32)
    found = jax.jit(network.method.localize)(network.variables, photo)
    module = MobileNetV2(num_classes=1000)
    shape = jax.ShapeDtypeStruct(photo.shape, jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), shape)
    variables = load_pretrained(weights, module, shapes)
    expected = module.apply(variables, photo / np.float32(127.5) - 1)["logits"]
    np.testing.assert_allclose(found.logits, expected, rtol=1e-3, atol=1e-3)
    assert found.maps.shape == (1, 5, 5, 1000)
    np.testing.assert_allclose(found.maps.mean(axis=(1, 2)), found.logits, atol=1e-4)
    assert len(imagenet_names()) == found.logits.shape[-1]


@pytest.mark.slow
@pytest.mark.shared
def test_it_is_explained_like_any_run(weights, photo):
    network = pretrained("mobilenet_v2", weights)
    own = explain.maps(network, photo, 281, "cam")
    found = explain.maps(network, photo, 281, "grad_cam")
    bias = network.variables["params"]["head"]["class_maps"]["bias"][281]
    expected = np.maximum(np.asarray(own) - float(bias), 0)
    np.testing.assert_allclose(found * own[0].size, expected, rtol=1e-3, atol=1e-3)


def test_a_network_of_several_dense_layers_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", **{"block1_conv1/kernel": np.zeros((3, 3, 3, 64), np.float32)})
    with pytest.raises(UserError, match="three fully connected layers"):
        pretrained("vgg16", tmp_path / "w.npz")
