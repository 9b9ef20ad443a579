"""Every explanation against its paper's formula at float64, and what all of them have in common."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import explained
from helpers.compiling import quick
from helpers.explained import BATCH, CHANNELS, CLASSES, by_hand

from wsol_jax import explain
from wsol_jax.base.errors import UserError
from wsol_jax.explain import named

NAMES = tuple(named.METHODS)
BY_GRADIENTS = ("grad_cam", "grad_cam_pp", "xgrad_cam", "layer_cam")
CLASS_OF = np.array([0, 3, 2])
IMAGES = np.float32(explained.images())


def behind(params, maps):
    hidden = jax.lax.conv_general_dilated(
        maps, params["two"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    hidden = jax.nn.relu(hidden + params["two"]["bias"])
    return hidden.mean(axis=(1, 2)) @ params["scores"]["kernel"] + params["scores"]["bias"]


def front(images):
    params = explained.linen_variables()["params"]
    found = jax.lax.conv_general_dilated(
        images, params["one"]["kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.relu(found + params["one"]["bias"])


def first(found):
    return found[0]


PARAMS = explained.linen_variables()["params"]
NETWORKS = {
    "linen": lambda: explain.linen(
        explained.LinenNet(), explained.linen_variables(), "two:input", outputs=first
    ),
    "nnx": lambda: explain.nnx(explained.nnx_net(), "convs.1:input"),
    "plain": lambda: explain.plain(front, lambda maps: behind(PARAMS, maps)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


@pytest.mark.parametrize("name", NAMES)
def test_an_explanation_is_its_papers_formula(network, name):
    explanation = getattr(explain, name)
    found = quick(explanation)(network, IMAGES, explain.class_score(CLASS_OF))
    expected = by_hand(name, CLASS_OF)
    assert found.dtype == jnp.float32 and found.shape == (BATCH, 8, 8)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5 * expected.max())


def test_cam_is_the_features_by_the_weights_of_a_linear_layer():
    network = NETWORKS["linen"]()
    kernel = np.random.default_rng(0).normal(size=(CHANNELS, CLASSES))
    maps = explained.features(explained.images())
    expected = np.einsum("bhwd,bd->bhw", maps, kernel.T[CLASS_OF])
    cam = quick(explain.cam, static_argnames="positive")
    raw = cam(network, IMAGES, CLASS_OF, kernel, positive=False)
    np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-4)
    found = cam(network, IMAGES, CLASS_OF, kernel)
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match=r"cam: expected a kernel of \(6, classes\), got \(5, 4\)"):
        explain.cam(network, IMAGES, CLASS_OF, kernel[1:])


def test_a_difference_of_classes_is_a_difference_of_gradients():
    others = np.array([1, 1, 0])
    target = explain.difference(CLASS_OF, others)
    raw = quick(lambda *given: explain.grad_cam(*given, positive=False))
    found = raw(NETWORKS["linen"](), IMAGES, target)
    maps = explained.features(explained.images())
    slopes = [explained.gradient(maps, classes) for classes in (CLASS_OF, others)]
    weights = (slopes[0] - slopes[1]).mean(axis=(1, 2))
    np.testing.assert_allclose(found, np.einsum("bhwd,bd->bhw", maps, weights), atol=1e-5)


def test_a_probability_is_the_softmax():
    logits = np.random.default_rng(0).normal(size=(BATCH, CLASSES))
    found = explain.probability(CLASS_OF)(jnp.asarray(logits))
    expected = explained.softmax(logits)[np.arange(BATCH), CLASS_OF]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("mask", [False, True])
def test_a_segmentations_pixel_and_region_have_their_own_gradients(mask):
    """The head gives a score of each class in each cell; the rest is by finite differences."""
    kernel = np.random.default_rng(1).normal(size=(CHANNELS, CLASSES))
    segment = lambda maps: jnp.square(maps) @ jnp.float32(kernel)
    network = explain.plain(front, segment)
    maps = explained.features(explained.images())
    if mask:
        inside = np.zeros((8, 8))
        inside[2:5, 1:4] = 1
        target = explain.region(2, inside)
        expected = 2 * maps * kernel[:, 2] * inside[..., None]
    else:
        rows, columns = np.array([0, 4, 7]), np.array([1, 5, 2])
        target = explain.pixel(CLASS_OF, rows, columns)
        expected = np.zeros_like(maps)
        for b, (c, y, x) in enumerate(zip(CLASS_OF, rows, columns, strict=True)):
            expected[b, y, x] = 2 * maps[b, y, x] * kernel[:, c]
    raw = quick(lambda *given: explain.grad_cam(*given, positive=False))
    found = raw(network, IMAGES, target)
    expected = np.einsum("bhwd,bd->bhw", maps, expected.mean(axis=(1, 2)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["score_cam", "ablation_cam"])
def test_of_some_channels_those_that_vary_most_are_tried(name):
    explanation = lambda *given: getattr(explain, name)(*given, channels=2, chunk=3)
    found = quick(explanation)(NETWORKS["linen"](), IMAGES, explain.class_score(CLASS_OF))
    maps = explained.features(explained.images())
    chosen = np.argsort(-maps.var(axis=(1, 2)), axis=1)[:, :2]
    rows = np.arange(BATCH)[:, None]
    weights = np.zeros((BATCH, CHANNELS))
    if name == "score_cam":
        tried = explained.window_scores(maps, CLASS_OF)[rows, chosen]
        weights[rows, chosen] = explained.softmax(tried)
    else:
        own = explained.scores(maps)[np.arange(BATCH), CLASS_OF][:, None]
        without = explained.without_each(maps, CLASS_OF)[rows, chosen]
        weights[rows, chosen] = (own - without) / own
    np.testing.assert_allclose(found, explained.weighed(maps, weights), rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_how_many_channels_go_side_by_side_changes_nothing(chunk):
    network, target = NETWORKS["linen"](), explain.class_score(1)
    for name in ("score_cam", "ablation_cam"):
        explanation = getattr(explain, name)
        found = quick(lambda *given, f=explanation: f(*given, chunk=chunk))(network, IMAGES, target)
        whole = quick(lambda *given, f=explanation: f(*given, chunk=6))(network, IMAGES, target)
        # Batches of another size add up in another order, which differs from CPU to CPU.
        np.testing.assert_allclose(found, whole, atol=3e-6)


@pytest.mark.parametrize(
    "kind, options, shut",
    [(np.uint8, {}, 127.5), (np.float32, {}, 0.0), (np.uint8, {"baseline": 7.0}, 7.0)],
)
def test_a_closed_window_shows_the_baseline(kind, options, shut):
    """Of uint8 photos grey, of others 0; a number of one's own is taken as it is."""
    seen = []

    def call(images):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), images.astype(jnp.float32))
        return images.mean(axis=(1, 2))[:, :2], jnp.tile(images[..., :1], (1, 1, 1, 2))

    photos = np.full((1, 4, 4, 3), 200, kind)
    photos[0, :, :2] = 180  # where the channel is least the window is shut
    explain.score_cam(explain.function(call), photos, explain.class_score(0), **options)
    jax.effects_barrier()
    assert {float(x.min()) for x in seen} == {180.0, shut}  # the photo itself, and the windows


@pytest.mark.parametrize("cells, channels", [(3, 12), (8, 2)])
def test_eigen_cam_of_few_cells_and_of_few_channels(cells, channels):
    maps = np.abs(np.random.default_rng(5).normal(size=(2, cells, cells, channels)))
    network = explain.plain(lambda images: jnp.float32(maps), lambda maps: maps.mean(axis=(1, 2)))
    found = explain.eigen_cam(network, jnp.zeros((2, 4, 4, 3)))
    np.testing.assert_allclose(found, explained.eigen(maps), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_features_that_say_nothing_give_zeros(name):
    network = explain.plain(lambda images: jnp.zeros((2, 4, 4, 3)), lambda x: x.mean(axis=(1, 2)))
    explanation = getattr(explain, name)
    found = quick(explanation)(network, jnp.zeros((2, 8, 8, 3)), explain.class_score(1))
    np.testing.assert_array_equal(found, np.zeros((2, 4, 4)))


@pytest.mark.parametrize("name", NAMES)
def test_an_image_does_not_depend_on_its_batch(name):
    network, explanation = NETWORKS["linen"](), quick(getattr(explain, name))
    whole = explanation(network, IMAGES, explain.class_score(CLASS_OF))
    one = explanation(network, IMAGES[1:2], explain.class_score(CLASS_OF[1:2]))
    np.testing.assert_allclose(one[0], whole[1], rtol=1e-4, atol=1e-6)


def test_other_classes_and_weights_are_not_compiled_again():
    traced = []

    def explanation(network, images, target):
        traced.append(1)
        return explain.grad_cam(network, images, target)

    call = quick(explanation)
    first = call(NETWORKS["linen"](), IMAGES, explain.class_score(np.array([0, 1, 2])))
    second = call(NETWORKS["linen"](), IMAGES, explain.class_score(np.array([3, 3, 0])))
    other = jax.tree.map(lambda x: 2 * x, NETWORKS["linen"]())
    call(other, IMAGES, explain.class_score(np.array([3, 3, 0])))
    assert not np.allclose(first, second)
    assert len(traced) == 1


def test_a_network_is_told_apart_by_what_it_is_made_of():
    one, other = (
        explain.linen(explained.LinenNet(), explained.linen_variables(), "two:input")
        for _ in range(2)
    )
    assert jax.tree.structure(one) == jax.tree.structure(other)
    layer = explain.linen(explained.LinenNet(), explained.linen_variables(), "one")
    assert jax.tree.structure(one) != jax.tree.structure(layer)


# ---------------------------------------------------------------- averages


def grey(network, images, target):
    """An explanation that one can add up in one's head."""
    del network, target
    return jnp.mean(images.astype(jnp.float32), axis=-1)


def test_noise_has_the_deviation_that_was_asked_for():
    photos = np.zeros((2, 40, 40, 3), np.uint8)
    photos[0, 0, 0], photos[1, 0, 0] = 100, 200
    noisy = quick(lambda photos: explain.smooth(grey, samples=5, noise=0.1)(None, photos, None))
    found = noisy(photos)
    deviation = np.std(np.asarray(found - photos.mean(axis=-1)), axis=(1, 2))
    # A share of each photo's range, over a mean of 5 copies and 3 channels.
    np.testing.assert_allclose(deviation, np.array([10, 20]) / np.sqrt(15), rtol=0.06)
    np.testing.assert_array_equal(found, noisy(photos))


def test_no_noise_is_the_explanation_itself():
    target = explain.class_score(CLASS_OF)
    own = quick(explain.grad_cam)(NETWORKS["linen"](), IMAGES, target)
    averaged = quick(explain.smooth(explain.grad_cam, samples=3, noise=0.0))
    np.testing.assert_allclose(averaged(NETWORKS["linen"](), IMAGES, target), own, atol=1e-6)


def test_flips_are_the_mean_with_the_mirror_image_turned_back():
    network, target = NETWORKS["linen"](), explain.class_score(CLASS_OF)
    own = explain.layer_cam(network, IMAGES, target)
    other = explain.layer_cam(network, IMAGES[:, :, ::-1], target)[:, :, ::-1]
    found = quick(explain.flips(explain.layer_cam))(network, IMAGES, target)
    np.testing.assert_allclose(found, (own + other) / 2, rtol=1e-4, atol=1e-6)


def test_a_pixel_stays_where_it_is_in_the_mirror():
    """A head that looks at each cell alone: in the mirror too only the target's cell is moved."""
    segment = lambda maps: maps[..., :CLASSES]
    network = explain.plain(lambda images: jax.nn.relu(images @ jnp.ones((3, 5))), segment)
    target = explain.pixel(2, 3, 1)
    found = np.asarray(explain.flips(explain.layer_cam)(network, IMAGES, target))
    expected = np.zeros_like(found)
    expected[:, 3, 1] = np.maximum(IMAGES.sum(axis=-1)[:, 3, 1], 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
