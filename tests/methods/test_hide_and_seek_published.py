"""Hide-and-Seek's published network and solver, other backbones, and the mistakes of a config."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.hide_and_seek import tiny
from helpers.networks import IMAGES

from configs import hide_and_seek as hide_and_seek_config
from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.methods import siamese
from wsol_jax.runs import plan as assemble
from wsol_jax.runs.state import learning_rate, optimizer


def images(side, count=1):
    return jax.ShapeDtypeStruct((count, side, side, 3), jnp.uint8)


def batch(side, classes):
    shapes = {"image": images(side), "labels": jax.ShapeDtypeStruct((1, classes), jnp.float32)}
    return shapes | {"valid": jax.ShapeDtypeStruct((1,), bool)}


# ---------------------------------------------------------------- the published network


def test_published_network():
    """Section IV-A: 321 -> 41x41 for 21 classes, 224 -> 14x14 for 20; one set of weights."""
    config = hide_and_seek_config.get_config("voc,weights=none")
    networks = siamese.build(config, 20)
    shapes = jax.eval_shape(networks.init, jax.random.key(0), images(321))
    own = jax.eval_shape(lambda v, x: networks.segment(v, x)[0], shapes, images(321))
    seen = jax.eval_shape(lambda v, x: networks.attend(v, x)[0], shapes, images(224))
    assert own.scores.shape == (1, 41, 41, 21) and own.response.shape == (1, 41, 41)
    assert seen.maps.shape == (1, 14, 14, 20) and seen.response.shape == (1, 14, 14)
    assert networks.segmenter.head.dilation == 12
    params = shapes["params"]
    assert jax.tree.map(jnp.shape, {**params["head"], "class_maps": params["class_maps"]}) == {
        "fc6": {"kernel": (3, 3, 512, 1024), "bias": (1024,)},
        "fc7": {"kernel": (1, 1, 1024, 1024), "bias": (1024,)},
        "fc8": {"kernel": (1, 1, 1024, 21), "bias": (21,)},
        "class_maps": {"kernel": (1, 1, 1024, 20)},
    }
    # DeepLab-LargeFOV: the 13 layers of VGG16, fc6 to fc8; and the class maps' weights, no bias.
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    trunk = sum(9 * a * b + b for a, b in itertools.pairwise(widths))
    head = (9 * 512 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 21 + 21)
    count = sum(x.size for x in jax.tree.leaves(shapes))
    assert trunk + head == 20_505_429
    assert count == trunk + head + 20 * 1024 == 20_525_909


def test_published_method():
    method = methods.build(hide_and_seek_config.get_config("voc,weights=none"), 20)
    shapes = jax.eval_shape(method.init, jax.random.key(0), images(321))
    found = jax.eval_shape(method.localize, shapes, images(321))
    assert found.logits.shape == (1, 20) and found.maps.probabilities.shape == (1, 41, 41, 20)
    assert found.parts["class_maps"].shape == (1, 14, 14, 20)
    loss, aux = jax.eval_shape(method.loss, shapes, batch(321, 20), jax.random.key(0), 0)
    assert loss.shape == () and not aux.collections
    assert aux.pictures["mask"].labels.shape == aux.pictures["foreground"].shape == (1, 41, 41)
    assert aux.pictures["seen by CAM2"].shape == (1, 320, 320, 3)
    assert method.warm_up == (5000, "hide_and_seek.early_steps")


def test_published_solver():
    """A batch of one, 40,000 steps at 1e-4 and 40,000 at 1e-5; N(0, .1) for the last layers."""
    config = hide_and_seek_config.get_config("voc,weights=none")
    plan = assemble.Plan.of(config.train, 10582, jax.sharding.Mesh(jax.devices()[:1], "data"))
    assert (plan.batch_size, plan.num_steps) == (1, 80_000)
    schedule = learning_rate(config.optimizer, plan.num_steps, plan.steps_per_epoch)
    found = [float(schedule(i)) for i in (0, 39_999, 40_000, 79_999)]
    np.testing.assert_allclose(found, [1, 1, 0.1, 0.1], rtol=1e-5)
    rates = config.optimizer
    assert (rates.backbone_lr, rates.head_lr) == (1e-4, 1e-4)
    assert (rates.momentum, rates.weight_decay) == (0.9, 5e-4)
    own = config.hide_and_seek
    assert (own.deviation, own.probability, own.grid, own.tau) == (0.1, 0.5, 4, 0)
    assert (own.bilateral, own.spatial) == ((5, 50, 10), (3, 3))
    assert (config.data.resize_mode, config.data.crop, config.data.train) == (
        "none",
        321,
        "trainaug",
    )


def test_the_last_layers_have_a_learning_rate_of_their_own():
    config = tiny(**{"optimizer.classifier_lr": 1.0, "optimizer.head_lr": 1e-3})
    with config.unlocked():
        config.optimizer.backbone_lr, config.optimizer.weight_decay = 1e-4, 0.0
    layer = lambda: {"kernel": np.ones((1, 1, 4, 4), np.float32)}
    ones = {
        "backbone": {"conv1_1": layer()},
        "head": {"fc7": layer(), "fc8": layer()},
        "class_maps": layer(),
    }
    groups = methods.build(config, 5).param_groups(ones)
    tx = optimizer(config.optimizer, groups, lambda step: 1.0)
    moved, _ = tx.update(ones, tx.init(ones), ones)
    speed = lambda tree: -float(np.mean(tree["kernel"]))
    assert speed(moved["class_maps"]) == pytest.approx(1.0, rel=1e-4)
    assert speed(moved["head"]["fc8"]) == pytest.approx(1.0, rel=1e-4)
    assert speed(moved["head"]["fc7"]) == pytest.approx(1e-3, rel=1e-4)
    assert speed(moved["backbone"]["conv1_1"]) == pytest.approx(1e-4, rel=1e-4)


# ---------------------------------------------------------------- other backbones


@pytest.mark.parametrize(
    "words, cells",
    [
        ("voc,backbone=inception_v3", 40),
        ("voc,backbone=mobilenet_v2", 14),
        pytest.param("voc,backbone=resnet50", 41, marks=pytest.mark.slow),
        pytest.param("cub,backbone=mobilenet_v2", 41, marks=pytest.mark.slow),
        pytest.param("embedded,backbone=mobilenet_v2", 12, marks=pytest.mark.slow),
    ],
)
def test_any_backbone_by_config_alone(words, cells):
    """Shapes of init, loss and localize."""
    config = hide_and_seek_config.get_config(f"{words},weights=none,width=0.1,variant=one_cam")
    method, side = methods.build(config, 3), config.data.crop
    shapes = jax.eval_shape(method.init, jax.random.key(0), images(side))
    found = jax.eval_shape(method.localize, shapes, images(side))
    assert found.maps.probabilities.shape == (1, cells, cells, 3)
    loss, aux = jax.eval_shape(method.loss, shapes, batch(side, 3), jax.random.key(0), 0)
    assert loss.shape == () and aux.pictures["mask"].labels.shape == (1, cells, cells)
    stats = {"batch_stats": shapes["batch_stats"]}
    assert jax.tree.map(jnp.shape, aux.collections) == jax.tree.map(jnp.shape, stats)


# ---------------------------------------------------------------- mistakes

MISTAKES = [
    ({"grid": 5}, r"grid: 5 patches a side do not divide the 24 pixels of hide_and_seek\.cam_size"),
    ({"grid": 0}, "grid=0: expected a whole number from 1 "),
    ({"grid": 48}, "grid: 48 patches a side do not divide the 24 pixels"),
    ({"probability": 1.5}, "probability=1.5: expected a number from 0 to 1"),
    ({"probability": -0.1}, "probability=-0.1: expected a number from 0 to 1"),
    ({"probability": float("nan")}, "probability=nan: expected a number from 0 to 1"),
    ({"number": 17}, "number: expected 16 at most, the patches of a photo, got 17"),
    ({"cams": 0}, "cams=0: expected a whole number from 1 to 3"),
    ({"cams": 4}, "cams=4: expected a whole number from 1 to 3"),
    ({"cam_stride": 12}, "cam_stride: 12 is not one of 8, 16, 32"),
    ({"gap": "conv6"}, "gap: 'conv6' is not one of 'conv5', 'conv7'"),
    ({"pool": "max"}, "pool: 'max' is not one of 'sum', 'mean'"),
    ({"classification": "softmax"}, "classification: 'softmax' is not one of 'squared', 'logisti"),
    ({"crf": "lattice"}, "crf: 'lattice' is not one of 'image', 'cells', 'none'"),
    ({"switching": "always"}, "switching: 'always' is not one of 'none', 'fixed', 'adaptive'"),
    ({"filter": "zero"}, "filter: 'zero' is not one of 'none', 'weigh', 'released'"),
    ({"floor": 0.0}, "floor=0.0: expected a number above 0 to below 1"),
    ({"floor": 1.0}, "floor=1.0: expected a number above 0 to below 1"),
    ({"tau": -1}, "tau=-1: expected a whole number from 0 "),
    ({"early_steps": -1}, "early_steps=-1: expected a whole number from 0 "),
    ({"segmentation": -1.0}, "segmentation=-1.0: expected a number from 0 "),
    ({"segmentation": 0.0, "teacher": "cams"}, "segmentation: 0, and a teacher, leave nothing to"),
    ({"share_until": "conv9_9"}, "share_until: .*conv9_9"),
    ({"conv5": "conv5_3"}, "conv5: .*conv5_3"),
]


@pytest.mark.parametrize(
    "changes, sentence", MISTAKES, ids=[" ".join(map(str, changes)) for changes, _ in MISTAKES]
)
def test_mistakes_are_one_sentence_that_names_the_field(changes, sentence):
    with pytest.raises(UserError, match=rf"^hide_and_seek\.{sentence}") as error:
        method = methods.build(tiny(**changes), 5)
        jax.eval_shape(method.init, jax.random.key(0), jnp.asarray(IMAGES))
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize("section, crf", [("", "image"), (".cells", "cells")])
@pytest.mark.parametrize(
    "field, value, sentence",
    [
        ("bilateral", (5.0, 50.0), r"bilateral is \(weight, sxy, srgb\)"),
        ("spatial", (3.0, 0.0), "a weight >= 0"),
    ],
)
def test_mistakes_of_the_crf_name_its_section(section, crf, field, value, sentence):
    """Those of the CRF that is used: the other's numbers do not matter."""
    changes = {"crf": crf, f"hide_and_seek{section}.{field}": value}
    with pytest.raises(UserError, match=rf"^hide_and_seek{section}: .*{sentence}") as error:
        methods.build(tiny(**changes), 5)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
    methods.build(tiny(**{**changes, "crf": "none"}), 5)


@pytest.mark.parametrize("classes", [0, 1])
def test_a_single_class_is_refused(classes):
    with pytest.raises(
        UserError, match=f"^hide_and_seek: expected two classes.*{classes}"
    ) as error:
        methods.build(tiny(), classes)
    assert str(error.value).endswith(".")
