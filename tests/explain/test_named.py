"""Explanations by name of the methods of this package: where they agree with the class maps."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from helpers.networks import FILES, IMAGES, made, resized

from configs import two_phase as two_phase_config
from wsol_jax import explain, methods
from wsol_jax.base.errors import UserError
from wsol_jax.explain import named

CLASS_OF = np.array([0, 3, 4, 3])


@functools.cache
def trained(file, **changes):
    return methods.Trained(*made(file, **changes))


def own_maps(network, classes=CLASS_OF):
    """The class maps that the method itself gives, and their classes' biases."""
    maps = np.asarray(quick(network.method.localize)(network.variables, IMAGES).maps, np.float64)
    return np.take_along_axis(maps, classes[:, None, None, None], axis=-1)[..., 0]


def biases(network, head="head"):
    return np.asarray(network.variables["params"][head]["class_maps"]["bias"], np.float64)


@pytest.mark.parametrize("file", ["cam", "spg"])
@pytest.mark.parametrize("layers", [0, 1])
def test_grad_cam_of_a_cam_head_is_its_cam_up_to_scale(file, layers):
    """The gradient of a mean of cells is the classifier's weight over their number."""
    changes = {"model.dropout": 0.0, "model.head_layers": layers}
    network = trained(file, **changes)
    found = np.asarray(explain.maps(network, IMAGES, CLASS_OF, "grad_cam"), np.float64)
    own = own_maps(network) - biases(network)[CLASS_OF][:, None, None]
    cells = own.shape[1] * own.shape[2]
    assert found.std() > 0
    scale = np.abs(own).max()
    np.testing.assert_allclose(found * cells, np.maximum(own, 0), atol=2e-5 * scale, rtol=1e-3)


def test_of_two_classifiers_the_first_is_explained():
    network = trained("cams2i", **{"cams2i.inter": False, "cams2i.scores": "first"})
    tapped = explain.of_method(network.method, network.variables)
    raw = quick(lambda *given: explain.grad_cam(*given, positive=False))
    found = np.asarray(raw(tapped, IMAGES, explain.class_score(CLASS_OF)), np.float64)
    parts = quick(network.method.localize)(network.variables, IMAGES).parts
    own = np.asarray(parts["map 1"], np.float64)[np.arange(4), :, :, CLASS_OF]
    # The parts are as large as the finer of the two.
    own -= biases(network, "head_1")[CLASS_OF][:, None, None]
    large = resized(found * found.shape[1] * found.shape[2], own.shape[1])
    np.testing.assert_allclose(large, own, atol=2e-5 * np.abs(own).max(), rtol=1e-3)


def test_two_phase_learning_is_explained_by_its_own_phase():
    config = two_phase_config.get_config(
        "voc,backbone=vgg16,weights=none,width=0.1,size=32,output_stride=8"
    )
    with config.unlocked():
        config.model.final_endpoint, config.model.head_channels = "conv3_1", 16
        config.model.preprocessing, config.dtype = "tf", "float32"
        config.two_phase.head = "cam"
    method = methods.build(config, 5)
    variables = quick(method.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3), jnp.uint8))
    found = explain.maps((method, variables), IMAGES, CLASS_OF, "layer_cam")
    assert found.shape == (4, *own_maps(methods.Trained(method, variables)).shape[1:])
    assert np.asarray(found).std() > 0


@pytest.mark.parametrize("name", ["cam", *named.METHODS, "grad_cam+flips", "layer_cam+smooth"])
def test_every_name_gives_a_map_of_each_image(name):
    network = trained("cam")
    found = explain.maps(network, IMAGES, CLASS_OF, name)
    assert found.shape == (4, 8, 8) and found.dtype == jnp.float32
    assert np.isfinite(found).all() and np.asarray(found).std() > 0
    if name == "cam":
        np.testing.assert_allclose(found, own_maps(network), atol=1e-6)


def test_another_layer_and_one_class_for_all():
    found = explain.maps(trained("cam"), IMAGES, 3, "layer_cam", "conv2_2")
    assert found.shape == (4, 16, 16)
    each = explain.maps(trained("cam"), IMAGES, np.full(4, 3), "layer_cam", "conv2_2")
    np.testing.assert_array_equal(found, each)


def test_maps_are_compiled_once():
    network = trained("cam")
    explain.maps(network, IMAGES, CLASS_OF, "xgrad_cam")
    before = named._compiled._cache_size()
    explain.maps(network, IMAGES, CLASS_OF[::-1], "xgrad_cam")
    assert named._compiled._cache_size() == before


def test_several_classes_of_an_image_are_each_as_alone():
    network = trained("cam")
    classes = np.array([[0, 1, 4], [3, 3, 2], [4, 0, 1], [2, 1, 0]])
    found = quick(
        lambda variables, images: named.class_maps(
            network.method, variables, images, classes, "grad_cam_pp"
        )
    )(network.variables, IMAGES)
    assert found.shape == (4, 3, 8, 8)
    for k in range(3):
        one = explain.maps(network, IMAGES, classes[:, k], "grad_cam_pp")
        np.testing.assert_allclose(found[:, k], one, atol=1e-6)


def test_score_cam_shuts_its_windows_to_grey_whoever_asks():
    """Noise makes floats of photos; grey is grey all the same."""
    network = trained("cam")
    own = explain.maps(network, IMAGES, CLASS_OF, "score_cam")
    still = explain.smooth(named.METHODS["score_cam"], samples=1, noise=0.0)
    tapped = explain.of_method(network.method, network.variables)
    found = quick(still)(tapped, IMAGES, explain.class_score(CLASS_OF))
    np.testing.assert_allclose(found, own, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"name": "gradcam"}, r"'gradcam' is not one of cam, grad_cam, .*\+smooth or \+flips"),
        ({"name": "cam+flips"}, r"'cam\+flips' is not one of"),
        ({"name": "grad_cam+noise"}, r"is not one of"),
        ({"name": "cam", "layer": "conv2_2"}, r"of no layer 'conv2_2'"),
        ({"layer": "conv9"}, r"0 layers named 'conv9' .*did you mean"),
        ({"classes": 5}, r"classes 0 to 4, got \[5"),
        ({"classes": np.array([-1, 0, 0, 0])}, r"classes 0 to 4"),
        ({"classes": 0.5}, r"classes 0 to 4"),
        ({"classes": [0, 1]}, r"one class, or one for each of 4 images, got \(2,\)"),
        ({"images": IMAGES[0]}, r"images \(B, H, W, 3\) of uint8, got \(32, 32, 3\)"),
        ({"images": IMAGES.astype(np.float32)}, r"of uint8, got .* float32"),
        ({"images": [[1]]}, r"images \(B, H, W, 3\)"),
        ({"network": 3}, r"expected a run that was opened.*got a int"),
    ],
)
def test_what_is_no_question_is_refused(given, sentence):
    asked = {"network": trained("cam"), "images": IMAGES, "classes": CLASS_OF, **given}
    with pytest.raises(UserError, match=sentence):
        explain.maps(**asked)


@pytest.mark.parametrize(
    "changes, sentence", [({"tap": None}, "it has no tap"), ({"maps_layer": ""}, "names no layer")]
)
def test_a_method_that_cannot_be_explained_says_so(changes, sentence):
    network = trained("cam")
    method = dataclasses.replace(network.method, **changes)
    with pytest.raises(UserError, match=sentence):
        explain.maps((method, network.variables), IMAGES, CLASS_OF)


@pytest.mark.parametrize("file", FILES)
def test_a_methods_own_layer_is_one(file):
    network = trained(file)
    features, logits = explain.of_method(*network)(IMAGES)
    assert features.ndim == 4 and logits.shape == (4, 5)
