"""Gradient saliency at a layer: by hand, image by image, and of the network meant."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from helpers.networks import IMAGES, made

from configs import two_phase as two_phase_config
from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.methods.taps import gradient_saliency, tapper
from wsol_jax.stages import recipe as stages


class Small(nn.Module):
    """A layer, a ReLU, another layer with a stride, a ReLU, and scores of all cells."""

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(4, (3, 3), name="one")(images / 255))
        x = nn.relu(nn.Conv(6, (3, 3), strides=2, name="two")(x))
        return nn.Dense(3, name="scores")(x.reshape(len(x), -1)), x


PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 10, 8, 3)).astype(np.float32)


@functools.cache
def small_variables():
    return quick(Small().init)(jax.random.key(0), PHOTOS)


def explained(network, variables):
    """A network whose first output is its class scores, as an explanation sees it."""
    tap = tapper(lambda v, x: network.apply(v, x)[0])
    return methods.Trained(methods.Method(None, None, None, None, tap=tap), variables)


def convolved(x, layer, stride=1):
    out = jax.lax.conv_general_dilated(
        x, layer["kernel"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return out + layer["bias"]


def by_hand_saliency(layer):
    """The network written out behind ``layer``, its gradient there, and the median in NumPy."""
    params = small_variables()["params"]
    behind_two = lambda z: jnp.sum(
        nn.relu(z).reshape(len(z), -1) @ params["scores"]["kernel"] + params["scores"]["bias"]
    )
    one = convolved(PHOTOS / 255, params["one"])
    two = lambda z: convolved(nn.relu(z), params["two"], 2)
    if layer == "one":
        gradient = quick(jax.grad(lambda z: behind_two(two(z))))(one)
    else:
        gradient = quick(jax.grad(behind_two))(two(one))
    height = np.abs(np.asarray(gradient)).max(axis=-1)
    padded = np.pad(height, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.median(windows, axis=(-2, -1))


@pytest.mark.parametrize("layer, shape", [("one", (3, 10, 8)), ("two", (3, 5, 4))])
def test_saliency_is_the_gradient_before_the_relu(layer, shape):
    salient = lambda v, x: gradient_saliency(explained(Small(), v), x, layer)
    found = quick(salient)(small_variables(), PHOTOS)
    assert found.shape == shape and found.dtype == jnp.float32
    expected = by_hand_saliency(layer)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert expected.std() > 1e-4 and (np.asarray(found) >= 0).all()


def test_saliency_of_an_image_does_not_depend_on_its_batch():
    network = explained(Small(), small_variables())
    call = quick(lambda photos: gradient_saliency(network, photos, "one"))
    whole = call(PHOTOS)
    for n in range(3):
        np.testing.assert_allclose(call(PHOTOS[n : n + 1])[0], whole[n], rtol=1e-4, atol=1e-7)


def test_saliency_of_a_method_is_its_own_networks():
    """In phase two: of the network that is being trained, not of the one that hides."""
    config = two_phase_config.get_config("cub,backbone=vgg16,weights=none,width=0.1,size=32")
    config = stages.stage_config(config, "second")
    with config.unlocked():
        config.two_phase.head, config.model.final_endpoint = "cam", "conv2_1"
        config.model.trunk = {"normalise": True, "stem_stride": 2}
        config.model.preprocessing, config.model.head_channels = "tf", 8
    method = methods.build(config, 5)
    start = method.init(jax.random.key(0), jnp.asarray(IMAGES[:1]))
    call = quick(lambda v, x: gradient_saliency(methods.Trained(method, v), x, "conv1_2"))
    found = call(start, IMAGES)
    assert found.shape == (4, 16, 16)
    zero = jax.tree.map(jnp.zeros_like, start["first"])
    np.testing.assert_array_equal(call({**start, "first": zero}, IMAGES), found)
    changed = {**start, "params": jax.tree.map(lambda x: 1.1 * x, start["params"])}
    assert (call(changed, IMAGES) != found).any()


class Twice(nn.Module):
    """Two parts that name a layer alike, one that is used twice, and one that is no image."""

    @nn.compact
    def __call__(self, images):
        inner = lambda name: nn.Sequential([nn.Conv(3, (1, 1), name="same")], name=name)
        shared = nn.Conv(3, (1, 1), name="shared")
        x = shared(shared(Small(name="whole")(images)[1][..., :3]))
        return nn.Dense(2, name="flat")(x.mean(axis=(1, 2))), inner


@pytest.mark.parametrize(
    "network, layer, count",
    [
        (Small(), "conv9_9", 0),
        (Small(), "", 0),
        (Twice(), "shared", 2),
        (Small(), "scores", 0),  # the layer of the class scores has no cells
        (Twice(), "whole", 0),  # a part that gives several things
    ],
)
def test_a_layer_that_is_none_is_refused(network, layer, count):
    start = jax.eval_shape(network.init, jax.random.key(0), PHOTOS)
    with pytest.raises(UserError, match=rf"the network has {count} layers named '{layer}'"):
        jax.eval_shape(lambda v: gradient_saliency(explained(network, v), PHOTOS, layer), start)


# ---------------------------------------------------------------- taps of the methods


@pytest.mark.parametrize("file", ["cam", "spg", "cams2i"])
def test_a_methods_tap_gives_its_class_scores_and_what_the_layer_gave(file):
    """A bump of the layer's output moves the scores as much as the output itself would."""
    method, start = made(file)
    network = methods.Trained(method, start)
    features, logits = quick(lambda x: network.tap(x, "conv2_2"))(IMAGES)
    assert features.ndim == 4 and features.shape[1:3] == (16, 16)
    np.testing.assert_allclose(logits, quick(network.localize)(IMAGES).logits, atol=1e-6)
    bump = jnp.zeros(features.shape).at[:, 3, 4].set(1.0)
    bumped, moved = quick(lambda x, bump: network.tap(x, "conv2_2", bump))(IMAGES, bump)
    np.testing.assert_allclose(bumped, features + bump, atol=1e-6)
    assert (np.abs(np.asarray(moved - logits)).max(axis=1) > 0).all()


def test_grad_cam_is_built_from_outside():
    """Of CAM at its last features: the classifier's own weights (Selvaraju et al. 2017)."""
    method, start = made("cam", **{"model.head_layers": 0, "model.dropout": 0.0})
    network = methods.Trained(method, start)

    def grad_cam(images, label):
        features, _ = network.tap(images, "conv3_1")
        score = lambda bump: jnp.sum(network.tap(images, "conv3_1", bump)[1][:, label])
        gradient = jax.grad(score)(jnp.zeros_like(features))
        return jnp.sum(features * jnp.mean(gradient, axis=(1, 2), keepdims=True), axis=-1), gradient

    found, gradient = quick(grad_cam, static_argnums=1)(IMAGES, 3)
    assert found.shape == (4, 8, 8) and np.asarray(found).std() > 0
    # Scores are means over the 64 cells of a linear layer: behind a ReLU that is on, its weights.
    kernel = np.asarray(start["params"]["head"]["class_maps"]["kernel"])[0, 0, :, 3]
    on = np.asarray(gradient) != 0
    kernel = kernel / np.sqrt(1.001)  # a normalisation between them that has seen nothing yet
    expected = np.broadcast_to(kernel / 64, gradient.shape)
    np.testing.assert_allclose(np.asarray(gradient)[on], expected[on], rtol=1e-4)
