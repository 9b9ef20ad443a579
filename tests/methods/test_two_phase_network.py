"""Two-phase learning's published network, budget and rates, and the backbones it runs on."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import BATCH, IMAGES, KEY, SIDE
from helpers.two_phase import PHASES, PLAIN, tiny

from configs import two_phase as two_phase_config
from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.networks.heads import FcnHead
from wsol_jax.runs import plan as assemble
from wsol_jax.runs.state import learning_rate, optimizer
from wsol_jax.stages import recipe as stages

# ---------------------------------------------------------------- the published network


def published_shapes(words="voc,weights=none"):
    config = stages.stage_config(two_phase_config.get_config(words), "second")
    method = methods.build(config, 20)
    side = config.data.crop
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.uint8)
    variables = jax.eval_shape(method.init, jax.random.key(0), images)
    return method, variables, jax.eval_shape(method.localize, variables, images)


def test_published_network():
    """The papers': 321 -> 161 -> 81 -> 41; conv6, conv7 of 1024; FC-20, no bias."""
    method, variables, found = published_shapes()
    assert found.maps.shape == (2, 41, 41, 20) and found.logits.shape == (2, 20)
    assert {name: maps.shape for name, maps in found.parts.items()} == {
        "first": (2, 41, 41, 20),
        "second": (2, 41, 41, 20),
    }
    params = variables["params"]
    shapes = jax.tree.map(lambda x: x.shape, params["head"])
    assert shapes == {
        "conv6": {"kernel": (3, 3, 512, 1024), "bias": (1024,)},
        "conv7": {"kernel": (3, 3, 1024, 1024), "bias": (1024,)},
        "class_maps": {"kernel": (1, 1, 1024, 20)},
    }
    # The 13 layers of VGG16: kernels and biases.
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    trunk = sum(9 * a * b + b for a, b in itertools.pairwise(widths))
    head = (9 * 512 * 1024 + 1024) + (9 * 1024 * 1024 + 1024) + 1024 * 20
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    assert count(params) == trunk + head == 14_714_688 + 14_178_304
    assert count(variables) == 2 * count(params)  # and those of the first
    assert_trees_equal_shapes(variables["first"], {"params": params})
    labels = method.param_groups(params)
    assert labels["head"] == {
        "conv6": {"kernel": "head/kernel", "bias": "head/bias"},
        "conv7": {"kernel": "head/kernel", "bias": "head/bias"},
        "class_maps": {"kernel": "classifier/kernel"},
    }
    assert {x.split("/")[0] for x in jax.tree.leaves(labels["backbone"])} == {"backbone"}


def assert_trees_equal_shapes(one, other):
    assert jax.tree.map(lambda x: x.shape, one) == jax.tree.map(lambda x: x.shape, other)


def test_published_budget():
    """Sections 3.1, 3.3 to 3.5: 8,000 steps of 15 at 1e-3, a tenth of it every 2,000."""
    config = two_phase_config.get_config("voc,weights=none")
    assert config.data.train == "trainaug" and config.data.multi_label
    assert (config.data.resize, config.data.crop) == (321, 321)
    assert tuple(config.stages) == ("first", "second", "evaluate")
    assert tuple(config.two_phase.shares) == (0.6, 0.4)
    third = two_phase_config.get_config("voc,phases=3")
    assert tuple(third.stages) == (*PHASES, "evaluate")
    for index, name in enumerate(PHASES):
        own = stages.stage_config(third, name)
        assert tuple(own.reads) == tuple(own.two_phase.suppressors) == PHASES[:index]
    plan = assemble.Plan.of(config.train, 10582, jax.sharding.Mesh(jax.devices()[:1], "data"))
    assert (plan.batch_size, plan.num_steps) == (15, 8000)
    schedule = learning_rate(config.optimizer, plan.num_steps, plan.steps_per_epoch)
    found = [float(schedule(i)) for i in (0, 1999, 2000, 3999, 4000, 6000, 7999)]
    np.testing.assert_allclose(found, [1, 1, 0.1, 0.1, 0.01, 1e-3, 1e-3], rtol=1e-5)


def test_drawn_creatures_of_two_telling_parts_have_a_smaller_field_of_view():
    """A cell of the second phase must not see the hidden head: the trunk ends at 45 pixels."""
    two, one = (two_phase_config.get_config(f"embedded{words}") for words in (",parts=2", ""))
    assert [c.model.final_endpoint for c in (two, one)] == ["conv3_1", "conv4_1"]
    assert [tuple(c.two_phase.shares) for c in (two, one)] == [(0.3, 0.2), (0.6, 0.4)]
    for config in (two, one):  # nothing else sets them apart
        with config.unlocked():
            config.two_phase.shares, config.model.final_endpoint, config.data.parts = (), "", 1
            config.stage = {}
    assert two.to_dict() == one.to_dict()


def test_the_classifier_learns_at_its_own_rate():
    """Caffe's lr_mult of 10 on the FC layer, of 2 on the biases of all others."""
    config = stages.stage_config(two_phase_config.get_config("voc,weights=none"), "first")
    params = {
        "backbone": {"conv1_1": {"kernel": np.zeros((3, 3, 3, 4)), "bias": np.zeros(4)}},
        "head": {
            "conv6": {"kernel": np.zeros((3, 3, 4, 4)), "bias": np.zeros(4)},
            "class_maps": {"kernel": np.zeros((1, 1, 4, 5))},
        },
    }
    labels = methods.build(config, 5).param_groups(params)
    tx = optimizer(config.optimizer, labels, lambda step: 1.0)
    ones = jax.tree.map(lambda x: jnp.ones(x.shape), params)
    found, _ = tx.update(ones, tx.init(params), params)
    moved = jax.tree.map(lambda x: float(x.mean()), found)
    np.testing.assert_allclose(moved["head"]["class_maps"]["kernel"], -1e-2, rtol=1e-6)
    for layer in (moved["head"]["conv6"], moved["backbone"]["conv1_1"]):
        np.testing.assert_allclose(layer["kernel"], -1e-3, rtol=1e-6)
        np.testing.assert_allclose(layer["bias"], -2e-3, rtol=1e-6)


def convolved(x, kernel, bias):
    """3x3, zeros around, in float64."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return bias + sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    )


def test_head_equals_the_layers_by_hand():
    """conv6 with ReLU, conv7 without; the average of conv7 through an FC layer without bias."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 5, 4, 3))
    shapes = {"conv6": ((3, 3, 3, 6), (6,)), "conv7": ((3, 3, 6, 6), (6,))}
    params = {
        n: {"kernel": rng.normal(size=k), "bias": rng.normal(size=b)}
        for n, (k, b) in shapes.items()
    }
    fc = rng.normal(size=(6, 4))
    conv6 = np.maximum(convolved(x, **params["conv6"]), 0)
    conv7 = convolved(conv6, **params["conv7"])
    assert (conv7 < 0).any() and (conv6 == 0).any()
    params["class_maps"] = {"kernel": fc[None, None]}
    single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    logits, maps, features = FcnHead(4, 6, 0.5).apply(
        {"params": single}, jnp.asarray(x, jnp.float32)
    )
    np.testing.assert_allclose(features, conv7, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits, conv7.mean(axis=(1, 2)) @ fc, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(maps, conv7 @ fc, rtol=1e-4, atol=1e-4)  # raw and signed


def test_head_drops_behind_both_layers_in_training_alone():
    head = FcnHead(4, 64, 0.5)
    x = jnp.ones((1, 3, 3, 2))
    params = jax.eval_shape(head.init, jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda x: jnp.ones(x.shape), params)
    _, _, sure = head.apply({"params": params}, x)
    assert (sure > 0).all()
    _, _, features = head.apply(
        {"params": params}, x, train=True, rngs={"dropout": jax.random.key(1)}
    )
    zero = np.asarray(features == 0)
    assert 0.4 < zero.mean() < 0.6  # behind conv7
    # Behind conv6 as well: its dropped channels make the others' sums differ from place to place.
    assert len(np.unique(features[0, 1, 1][~zero[0, 1, 1]])) == 1
    assert not np.allclose(2 * sure[~zero], features[~zero])


@pytest.mark.parametrize("head", ["fcn", pytest.param("cam", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "backbone",
    ["mobilenet_v2", "inception_v3", pytest.param("resnet50", marks=pytest.mark.slow)],
)
def test_every_backbone_runs_by_config_alone(backbone, head):
    words = f"cub,backbone={backbone},weights=none,width=0.1,size=64"
    config = two_phase_config.get_config(words)
    with config.unlocked():
        config.two_phase.head, config.model.head_channels = head, 16
        config.model.batch_norm = "batch"
    config = stages.stage_config(config, "second")
    method = methods.build(config, 5)
    images = jax.ShapeDtypeStruct((4, 64, 64, 3), jnp.uint8)
    variables = jax.eval_shape(method.init, jax.random.key(0), images)
    found = jax.eval_shape(method.localize, variables, images)
    assert found.maps.shape == (4, 8, 8, 5) and set(found.parts) == {"first", "second"}
    batch = {
        k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in dict(BATCH, image=images).items()
    }
    loss, aux = jax.eval_shape(method.loss, variables, batch, jax.random.key(0), 0)
    assert loss.shape == () and set(aux.collections) == {"batch_stats"}
    assert_trees_equal_shapes(aux.collections["batch_stats"], variables["batch_stats"])
    assert aux.pictures["hidden"].shape == (4, 64, 64)
    method.param_groups(variables["params"])


@pytest.mark.parametrize("dataset", ["cub", "ilsvrc", "folder", "voc", "embedded"])
def test_every_data_set_trains_on_its_own_list(dataset):
    """Of all of them VOC alone has a list trainaug, and several labels an image."""
    config = two_phase_config.get_config(dataset)
    assert config.data.train == {"cub": "fit", "voc": "trainaug"}.get(dataset, "train")
    assert bool(config.data.multi_label) == (dataset == "voc")  # a folder's own labels decide


def test_bfloat16_keeps_float32_parameters_and_maps():
    config = tiny(**PLAIN, dtype="bfloat16")
    method = methods.build(config, 5)
    images = jax.ShapeDtypeStruct((4, SIDE, SIDE, 3), jnp.uint8)
    variables = jax.eval_shape(method.init, jax.random.key(0), images)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype("float32")}
    found = jax.eval_shape(method.localize, variables, images)
    assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype("float32")}
    loss, aux = jax.eval_shape(method.loss, variables, BATCH, KEY, 0)
    assert loss.dtype == aux.metrics["suppressed"].dtype == jnp.float32


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "phase, field, value, sentence",
    [
        ("second", "suppressors", ("second",), "suppressors: expected the earlier phases in order"),
        ("third", "suppressors", ("second", "first"), "suppressors: expected the earlier phases"),
        ("third", "suppressors", PHASES, "suppressors: expected the earlier phases"),
        ("second", "suppressors", ("first", "second"), "'second' is not among the stage's reads"),
        ("first", "suppressors", ("first",), "'first' is not among the stage's reads"),
        ("second", "shares", (), "shares: expected 1 or more numbers above 0 and below 1"),
        ("third", "shares", (0.6,), "shares: expected 2 or more numbers above 0 and below 1"),
        ("second", "shares", (0.0, 0.4), "shares: expected 1 or more .* got (0.0, 0.4)"),
        ("second", "shares", (0.6, 1.0), "shares: expected 1 or more .* got (0.6, 1.0)"),
        ("second", "shares", (float("nan"), 0.4), "shares=.* expected numbers"),
        ("second", "voters", (), "voters: expected some of"),
        ("second", "voters", ("first", "fourth"), "voters: expected some of .*'fourth'"),
        ("second", "voters", ("first", "third"), "voters: 'third' is not trained in phase 2"),
        ("second", "head", "fcnn", "head: 'fcnn' is not one of 'fcn', 'cam'"),
    ],
)
def test_mistakes_are_one_sentence(phase, field, value, sentence):
    config = tiny(phase)
    with config.unlocked():
        config.two_phase[field] = value
    pattern = sentence.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(
        UserError, match=rf"two_phase\.{pattern}" if "reads" not in sentence else pattern
    ) as e:
        methods.build(config, 5)
    assert str(e.value).endswith(".") and "\n" not in str(e.value)


def test_unknown_class_scores_are_refused():
    with pytest.raises(UserError, match=r"model\.scores: 'other' is not one of 'auto', 'softmax'"):
        methods.build(tiny(**{"model.scores": "other"}), 5)


def test_an_unknown_endpoint_is_refused():
    method = methods.build(tiny(**{"model.final_endpoint": "konv3"}), 5)
    with pytest.raises(UserError, match="konv3"):
        method.init(jax.random.key(0), jnp.asarray(IMAGES[:1]))
