"""What Hide-and-Seek says of an image, and a teacher that does not learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import by_hand
from helpers.compiling import quick
from helpers.hide_and_seek import (
    BATCH,
    CELLS,
    GRID,
    LATE,
    PLAIN,
    at_cam_size,
    covered,
    hidden_in,
    localize_of,
    made,
    masks_of,
    network,
    scaled,
    tiny,
    variables,
)
from helpers.networks import IMAGES, KEY, assert_trees_equal, sigmoid

from wsol_jax import methods

# ---------------------------------------------------------------- what is said of an image


@functools.cache
def filtered():
    """What each filter, each number of networks and clipped maps make of the same network."""
    cases = {name: dict(PLAIN, filter=name) for name in ("none", "weigh", "released")}
    cases["three"] = dict(PLAIN, cams=3)
    cases["clipped"] = {**PLAIN, "model.positive_maps": True}
    each = {name: methods.build(tiny(**c), 5).localize for name, c in cases.items()}
    call = quick(lambda v, x: {name: localize(v, x) for name, localize in each.items()})
    return call(_sharp(), IMAGES)


def _sharp():
    """Classes of which some are thought absent, and scores that are not flat."""
    params = variables()["params"]
    head = {**params["head"], "fc8": dict(params["head"]["fc8"])}
    head["fc8"]["kernel"] = 5 * head["fc8"]["kernel"]
    return {**variables(), "params": {**params, "head": head}}


def views(cams=2):
    """The photo, and the photo under the two colours of a checkerboard."""
    odd = np.add.outer(np.arange(GRID), np.arange(GRID)) % 2 == 1
    boards = [np.tile(x, (4, 1, 1)) for x in (odd, ~odd)]
    shown = [at_cam_size(IMAGES), *(covered(IMAGES, x) for x in boards)]
    return [np.asarray(network()[1](_sharp(), x).maps, np.float64) for x in shown[:cams]]


def test_localize_filters_the_segmentation_by_class_scores():
    scores = np.asarray(network()[0](_sharp(), IMAGES).scores, np.float64)
    maps, probabilities = views(), by_hand.softmax(scores)
    logits = maps[0].sum(axis=(1, 2))
    zeroed, sure = scores.copy(), sigmoid(logits)
    assert (sure < 0.1).any() and (sure > 0.1).any()
    for n, c in np.argwhere(sure < 0.1):
        zeroed[n, ..., 1 + c] = 0
    expected = {
        "none": probabilities,
        "weigh": by_hand.weighed(probabilities, sure),
        "released": by_hand.softmax(zeroed),
    }
    for name, value in expected.items():
        found = filtered()[name]
        assert isinstance(found.maps, methods.Segmentation)
        assert found.maps.probabilities.shape == (4, CELLS, CELLS, 5)
        np.testing.assert_allclose(found.maps.probabilities, value[..., 1:], atol=2e-4)
        assert (found.maps.probabilities.sum(axis=-1) <= 1 + 1e-6).all()
        np.testing.assert_allclose(found.logits, logits, rtol=1e-3, atol=1e-3)
        assert set(found.parts) == {"class_maps"}
        np.testing.assert_allclose(found.parts["class_maps"], sum(maps), atol=1e-4)


def test_localize_adds_every_networks_maps():
    """The third sees what is hidden from the second; clipped ones are clipped before."""
    np.testing.assert_allclose(filtered()["three"].parts["class_maps"], sum(views(3)), atol=1e-4)
    clipped = sum(np.maximum(x, 0) for x in views())
    np.testing.assert_allclose(filtered()["clipped"].parts["class_maps"], clipped, atol=1e-4)
    np.testing.assert_allclose(filtered()["clipped"].logits, filtered()["none"].logits, atol=1e-4)


def test_localize_is_the_same_wherever_an_image_stands_in_the_batch():
    call = localize_of(**PLAIN)
    one, again = call(variables(), IMAGES), call(variables(), IMAGES)
    assert_trees_equal(one, again)
    turned = call(variables(), IMAGES[::-1])
    assert_trees_equal(jax.tree.map(lambda x: x[::-1], turned), one, atol=1e-5)
    assert np.abs(one.maps.probabilities[0] - one.maps.probabilities[1]).max() > 1e-3


def test_a_network_without_a_segmenter_gives_class_maps():
    method = methods.build(tiny(segmentation=0.0), 5)
    found = jax.eval_shape(method.localize, variables(), IMAGES)
    assert found.maps.shape == (4, 6, 6, 5) and found.logits.shape == (4, 5) and not found.parts


def test_the_class_scores_are_explained_by_the_first_network():
    """Three passes, one of which gives the scores: a layer is asked for there."""
    method = methods.build(tiny(**PLAIN), 5)
    call = quick(lambda v, x, bump: method.tap(v, x, "conv2_1", bump))
    features, logits = call(variables(), IMAGES, jnp.zeros((4, 6, 6, 16)))
    assert features.shape == (4, 6, 6, 16)
    expected = localize_of(**PLAIN)(variables(), IMAGES).logits
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    _, other = call(variables(), IMAGES, jnp.ones((4, 6, 6, 16)))
    assert np.abs(other - logits).min() > 1e-3


# ---------------------------------------------------------------- a teacher


def with_teacher():
    """A segmenter, and class-map networks of other weights under the stage's name."""
    method, fresh = made(teacher="cams", **PLAIN)
    assert jax.tree.structure(fresh["cams"]) == jax.tree.structure(variables())
    return method, {**fresh, "cams": scaled(variables(), "backbone", "conv1_2")}


@pytest.mark.slow
def test_a_teacher_makes_the_masks_and_learns_nothing():
    method, both = with_teacher()
    call = quick(jax.value_and_grad(method.loss, has_aux=True))
    (loss, aux), gradient = call(both, BATCH, KEY, LATE)
    assert set(aux.metrics) == {"loss", "segmentation", "weak_share", "mask_share"}
    assert set(aux.collections) == {"batch_stats"}  # the teacher stays as it was
    assert not any(np.any(x) for x in jax.tree.leaves(gradient["cams"]))
    assert np.any(gradient["params"]["head"]["fc6"]["kernel"])
    assert not np.any(gradient["params"]["class_maps"]["kernel"])  # of the segmenter's own
    segment, attend = network()
    shown = at_cam_size(IMAGES), covered(IMAGES, hidden_in(aux))
    seen = [attend(both["cams"], x) for x in shown]
    response = segment(both["cams"], IMAGES).response
    masks = masks_of(seen, response, BATCH, "none")
    np.testing.assert_array_equal(aux.pictures["mask"].labels, masks)
    own = {kind: tree for kind, tree in both.items() if kind != "cams"}
    each = by_hand.pixel_cross_entropy(segment(own, IMAGES).scores, masks)
    np.testing.assert_allclose(loss, each[:3].mean(), rtol=1e-4)


def test_a_teacher_filters_the_segmentation():
    method, both = with_teacher()
    found = quick(method.localize)(both, IMAGES)
    taught = network()[1](both["cams"], at_cam_size(IMAGES)).maps.sum(axis=(1, 2))
    np.testing.assert_allclose(found.logits, taught, rtol=1e-4, atol=1e-4)
