"""Networks to explain: linen and nnx modules, plain functions, and what is refused of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import explained
from helpers.compiling import quick

from wsol_jax import explain
from wsol_jax.base.errors import UserError

IMAGES = np.float32(explained.images())
VARIABLES = explained.linen_variables()
FIRST = lambda found: found[0]


def linen(layer, **options):
    return explain.linen(explained.LinenNet(), VARIABLES, layer, outputs=FIRST, **options)


def test_a_layer_is_its_output_before_the_relu_and_its_input_behind_one():
    before, logits = linen("one")(IMAGES)
    behind, _ = linen("two:input")(IMAGES)
    kernel, bias = explained.weights()["one"]
    expected = explained.convolved(explained.images(), kernel, 2) + bias
    np.testing.assert_allclose(before, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(behind, np.maximum(expected, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, explained.scores(np.maximum(expected, 0)), rtol=1e-4)


@pytest.mark.parametrize(
    "network",
    [linen("two:input"), linen("one"), explain.nnx(explained.nnx_net(), "convs.0")],
    ids=["input", "output", "nnx"],
)
def test_a_bump_moves_what_follows(network):
    features, logits = network(IMAGES)
    bump = jnp.zeros(features.shape).at[:, 3, 3].set(0.7)
    bumped, moved = network(IMAGES, bump)
    np.testing.assert_allclose(bumped, features + bump, atol=1e-6)
    expected = explained.scores(np.maximum(np.float64(features + bump), 0))
    np.testing.assert_allclose(moved, expected, rtol=1e-4)
    assert np.abs(np.asarray(moved - logits)).max(axis=1).min() > 1e-4


def test_a_whole_pass_goes_through_a_cells_gradient():
    """In linen and in nnx the same, of the same layer."""
    target = explain.class_score(np.array([0, 3, 2]))
    one = quick(explain.grad_cam)(linen("one"), IMAGES, target)
    other = quick(explain.grad_cam)(explain.nnx(explained.nnx_net(), "convs.0"), IMAGES, target)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_an_nnx_module_stays_as_it_is():
    net = explained.nnx_net()
    before = jax.tree.map(np.array, nnx.state(net))
    quick(explain.ablation_cam)(explain.nnx(net, "convs.0"), IMAGES, explain.class_score(1))
    assert type(net.convs[0]) is nnx.Conv
    assert jax.tree.all(jax.tree.map(np.array_equal, before, nnx.state(net)))


class Named(nn.Module):
    """Two blocks whose layers have the same names."""

    @nn.compact
    def __call__(self, x):
        for block in ("a", "b"):
            x = Block(name=block)(x)
        return x.mean(axis=(1, 2))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(4, (3, 3), name="conv")(x))


def test_a_path_tells_layers_of_one_name_apart():
    variables = quick(Named().init)(jax.random.key(0), IMAGES)
    a, b = (explain.linen(Named(), variables, f"{name}/conv")(IMAGES)[0] for name in "ab")
    assert not np.allclose(a, b)
    message = r"2 layers named 'conv' .* did you mean '[ab]/conv'\?.*a/conv, a, b/conv, b"
    with pytest.raises(UserError, match=message):
        explain.linen(Named(), variables, "conv")(IMAGES)


@pytest.mark.parametrize(
    "network, sentence",
    [
        (linen("thre"), r"0 layers named 'thre' .*they are one, two"),
        (linen("scores"), r"0 layers named 'scores'"),  # no map
        (linen(""), r"0 layers named ''"),
        (linen("\x1b[31m"), r"named '[^\x1b]*' "),
        (explain.nnx(explained.nnx_net(), "convs.7"), r"did you mean 'convs\.\d'\?.*convs\.0"),
        (explain.nnx(explained.nnx_net(), "scores"), r"0 layers named 'scores'"),
        (explain.nnx(explained.nnx_net(), "nothing.at.all"), r"0 layers named 'nothing\.at\.all'"),
        (explain.nnx(explained.nnx_net(), ""), r"0 layers named ''"),
    ],
)
def test_a_layer_that_is_none_is_refused(network, sentence):
    with pytest.raises(UserError, match=sentence):
        explain.grad_cam(network, IMAGES, explain.class_score(0))


def test_options_reach_the_module():
    network = linen("two:input", train=True)
    with pytest.raises(Exception, match="dropout"):  # which has no key: it was switched on
        network(IMAGES)


class Twofold(nn.Module):
    """A module with a method of its own."""

    def setup(self):
        self.conv = nn.Conv(4, (3, 3))

    def __call__(self, x):
        return self.conv(x)

    def classify(self, x):
        return self.conv(x).mean(axis=(1, 2))


def test_another_method_of_a_module():
    variables = quick(Twofold().init)(jax.random.key(0), IMAGES)
    features, logits = explain.linen(Twofold(), variables, "conv", method="classify")(IMAGES)
    np.testing.assert_allclose(logits, features.mean(axis=(1, 2)), atol=1e-6)


@pytest.mark.parametrize("name", explain.METHODS)
def test_a_whole_function_gives_what_needs_no_bump(name):
    network = explain.function(lambda images: linen("two:input")(images)[::-1])
    explanation = getattr(explain, name)
    target = explain.class_score(1)
    if name in ("score_cam", "eigen_cam"):
        found = quick(explanation)(network, IMAGES, target)
        expected = quick(explanation)(linen("two:input"), IMAGES, target)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    else:
        with pytest.raises(UserError, match=r"no gradient of its features.*explain\.plain"):
            explanation(network, IMAGES, target)


@pytest.mark.parametrize(
    "target, sentence",
    [
        (explain.class_score(4), r"no class 4, the network has 0 to 3"),
        (explain.class_score(-1), r"no class -1"),
        (explain.class_score(0.5), r"whole numbers as class"),
        (explain.class_score(np.array([0, 1])), r"one class, or one for each of 3 images"),
        (explain.pixel(0, 1, 1), r"pixel: expected scores of cells \(B, h, w, C\)"),
        (explain.region(0, np.ones((2, 2))), r"region: expected scores of cells"),
        (explain.difference(0, 9), r"no class 9"),
    ],
)
def test_a_target_that_is_not_there_is_refused(target, sentence):
    with pytest.raises(UserError, match=sentence):
        explain.grad_cam(linen("two:input"), IMAGES, target)


def test_a_pixel_outside_and_another_mask_are_refused():
    network = explain.plain(lambda images: images, lambda maps: maps)
    for target, sentence in (
        (explain.pixel(0, 16, 0), "no row 16"),
        (explain.pixel(0, 0, -1), "no column -1"),
        (explain.region(0, np.ones((4, 4))), r"the mask has shape \(4, 4\)"),
        (explain.class_score(0), r"expected class scores \(B, C\)"),
    ):
        with pytest.raises(UserError, match=sentence):
            explain.grad_cam(network, IMAGES, target)


def test_numbers_that_make_no_sense_are_refused():
    network, target = linen("two:input"), explain.class_score(0)
    for call, sentence in (
        (lambda: explain.score_cam(network, IMAGES, target, channels=0), "channels: expected"),
        (lambda: explain.ablation_cam(network, IMAGES, target, chunk=True), "chunk: expected"),
        (lambda: explain.smooth(explain.grad_cam, samples=0), "samples: expected"),
        (lambda: explain.smooth(explain.grad_cam, noise=-1.0), "noise: expected"),
        (lambda: explain.smooth(explain.grad_cam, noise=float("nan")), "noise: expected"),
    ):
        with pytest.raises(UserError, match=sentence):
            call()


def test_features_that_are_no_map_are_refused():
    network = explain.plain(lambda images: images[:, 0, 0], lambda x: x)
    with pytest.raises(UserError, match=r"expected features \(B, h, w, channels\).*\(3, 3\)"):
        explain.eigen_cam(network, IMAGES)
