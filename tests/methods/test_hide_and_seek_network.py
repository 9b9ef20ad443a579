"""Hide-and-Seek's networks: which weights they share, what their class maps read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from helpers.hide_and_seek import (
    BATCH,
    CELLS,
    PLAIN,
    at_cam_size,
    localize_of,
    made,
    scaled,
    tiny,
    variables,
)
from helpers.networks import IMAGES, KEY, assert_trees_equal

from wsol_jax import methods
from wsol_jax.methods import siamese
from wsol_jax.methods.siamese import OWN


def _leaves(one, other):
    return zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)


def moved(variables, path, **changes):
    """Whether a layer has a say in the segmentation, and in the class maps."""
    call = localize_of(**PLAIN, **changes)
    before, after = (call(v, IMAGES) for v in (variables, scaled(variables, *path)))
    segmentation = np.any(before.maps.probabilities != after.maps.probabilities)
    return segmentation, np.any(before.parts["class_maps"] != after.parts["class_maps"])


# ---------------------------------------------------------------- shared weights


def test_all_weights_are_shared():
    """One tree; a change of any layer but the last two moves segmentation and class maps."""
    params = variables()["params"]
    assert set(params) == {"backbone", "head", "class_maps"}
    for path in (("backbone", "conv1_1"), ("backbone", "conv2_1"), ("head", "fc7")):
        assert moved(variables(), path) == (True, True), path
    assert moved(variables(), ("head", "fc8")) == (True, False)
    assert moved(variables(), ("class_maps",)) == (False, True)


def test_layers_behind_the_shared_ones_are_separate():
    changes = {"share_until": "conv1_1", "extra": 7}
    _, both = made(**changes)
    own = both["params"][OWN]
    assert set(both["params"]["backbone"]) == set(variables()["params"]["backbone"])
    assert set(own["backbone"]) == {"conv1_2", "norm1_2", "conv2_1", "norm2_1"}
    assert {"head", "class_maps", "extra"} <= set(own) and "extra" not in both["params"]
    cases = {
        ("backbone", "conv1_1"): (True, True),
        ("backbone", "conv1_2"): (True, False),
        ("head", "fc6"): (True, False),
        (OWN, "backbone", "conv1_2"): (False, True),
        (OWN, "head", "fc6"): (False, True),
        (OWN, "extra"): (False, True),
        (OWN, "class_maps"): (False, True),
    }
    for path, expected in cases.items():
        assert moved(both, path, **changes) == expected, path
    one, other = (tree["backbone"]["conv1_2"]["kernel"] for tree in (both["params"], own))
    assert np.any(one != other)  # they do not even start alike


@pytest.mark.parametrize("share_until", ["", "conv1_1"])
def test_a_step_leaves_the_variables_tree_as_it_was(share_until):
    """Else the second step would be compiled anew, and a checkpoint would not fit."""
    changes = {"share_until": share_until, "model.batch_norm": "batch", **PLAIN}
    method = methods.build(tiny(**changes), 5)
    images = jnp.asarray(IMAGES)
    shapes = jax.eval_shape(method.init, jax.random.key(0), images)
    _, aux = jax.eval_shape(method.loss, shapes, BATCH, KEY, 0)
    before = {"batch_stats": shapes["batch_stats"]}
    assert jax.tree.map(jnp.shape, aux.collections) == jax.tree.map(jnp.shape, before)


@pytest.mark.slow
def test_shared_layers_keep_the_segmenters_statistics():
    """Of the photo as it is; those of hidden patches move the class-map networks' own alone."""
    changes = {"share_until": "conv1_1", "model.batch_norm": "batch"}
    method, both = made(**changes, **PLAIN)
    _, aux = quick(method.loss)(both, BATCH, KEY, 0)
    networks = siamese.build(tiny(**changes), 5)
    training = siamese.Training(KEY, jnp.asarray(BATCH["valid"]))
    once = quick(lambda v: networks.segment(v, jnp.asarray(IMAGES), training)[1])(both)
    found, before = aux.collections["batch_stats"], both["batch_stats"]
    alone = once["batch_stats"]["backbone"]
    assert_trees_equal(found["backbone"], alone, atol=1e-5)
    assert all(np.any(a != b) for a, b in _leaves(alone["norm1_1"], before["backbone"]["norm1_1"]))
    own, own_before = found[OWN]["backbone"], before[OWN]["backbone"]
    assert all(np.any(a != b) for a, b in _leaves(own, own_before))


def test_every_share_has_a_learning_rate():
    config = tiny(share_until="conv1_1", extra=7, **{"model.freeze_until": "conv1_1"})
    method = methods.build(config, 5)
    shapes = jax.eval_shape(method.init, jax.random.key(0), jnp.asarray(IMAGES))["params"]
    groups = method.param_groups(shapes)
    assert groups["backbone"]["conv1_1"]["kernel"] == "frozen/kernel"
    assert groups[OWN]["backbone"]["conv1_2"]["bias"] == "backbone/bias"
    assert groups[OWN]["backbone"]["norm1_2"]["scale"] == "backbone/norm"
    assert groups["head"]["fc8"] == {"kernel": "classifier/kernel", "bias": "classifier/bias"}
    assert groups[OWN]["class_maps"] == {"kernel": "classifier/kernel"}
    assert groups[OWN]["extra"] == {"kernel": "head/kernel", "bias": "head/bias"}
    assert groups[OWN]["head"]["fc7"] == {"kernel": "head/kernel", "bias": "head/bias"}


@pytest.mark.parametrize(
    "changes, channels", [({"gap": "conv5"}, 16), ({"extra": 7}, 7), ({}, 24)], ids=str
)
def test_what_the_class_maps_read(changes, channels):
    """Bias-free, of fc7, of the trunk's last layer, or of another 3x3 layer between."""
    method = methods.build(tiny(**changes, **PLAIN), 5)
    images = jnp.asarray(IMAGES)
    shapes = jax.eval_shape(method.init, jax.random.key(0), images)
    kernel = {"kernel": (1, 1, channels, 5)}
    assert jax.tree.map(jnp.shape, shapes["params"]["class_maps"]) == kernel
    loss, _ = jax.eval_shape(method.loss, shapes, BATCH, KEY, 0)
    assert loss.shape == () and loss.dtype == jnp.float32


def test_class_maps_of_conv5_are_its_channels_weighed():
    """Eq. 2: their gradient with respect to the classifier's weights is the features' sum."""
    networks = siamese.build(tiny(gap="conv5"), 5)
    _, given = made(gap="conv5")
    trunk = networks.classifier.backbone.clone(parent=None)
    features = quick(lambda v, x: trunk.apply(v, x)["conv2_1"])(
        {kind: tree["backbone"] for kind, tree in given.items() if "backbone" in tree},
        at_cam_size(IMAGES) / 127.5 - 1,
    )
    seen = quick(lambda v, x: networks.attend(v, x)[0])(given, at_cam_size(IMAGES))
    weights = np.asarray(given["params"]["class_maps"]["kernel"], np.float64)[0, 0]
    expected = np.asarray(features, np.float64) @ weights
    np.testing.assert_allclose(seen.maps, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(seen.response, np.asarray(features).mean(axis=-1), rtol=1e-4)


def test_foreground_may_be_finer_than_the_scores():
    """An endpoint of another stride than the head's: masks are as large as the scores."""
    method = methods.build(tiny(conv5="conv1_2", **PLAIN), 5)
    _, aux = jax.eval_shape(method.loss, variables(), BATCH, KEY, 0)
    assert aux.pictures["mask"].labels.shape == (4, CELLS, CELLS)
