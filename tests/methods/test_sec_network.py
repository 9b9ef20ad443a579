"""SEC's published network, solver and head, and the mistakes of its config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from helpers.sec import tiny, variables

from configs import sec as sec_config
from configs import two_phase as two_phase_config
from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.methods.taps import gradient_saliency
from wsol_jax.networks.heads import DenseHead, LargeFovHead
from wsol_jax.runs import plan as assemble
from wsol_jax.runs import workdirs
from wsol_jax.runs.state import optimizer
from wsol_jax.stages import recipe as stages

# ---------------------------------------------------------------- the published network


@pytest.mark.parametrize("words", ["voc,weights=none", "voc,weights=none,width=0.1"])
def test_published_network(words):
    """The papers': 321 -> 161 -> 81 -> 41; fc6, fc7 of 1024; 21 classes."""
    config = stages.stage_config(sec_config.get_config(words), "segment")
    method = methods.build(config, 20)
    images = jax.ShapeDtypeStruct((2, 321, 321, 3), jnp.uint8)
    shapes = jax.eval_shape(method.init, jax.random.key(0), images)
    found = jax.eval_shape(method.localize, shapes, images)
    assert found.maps.probabilities.shape == (2, 41, 41, 20) and found.logits.shape == (2, 20)
    assert {x.dtype for x in jax.tree.leaves((shapes, found))} == {np.dtype("float32")}
    depth = 512 if "width" not in words else 48
    assert jax.tree.map(lambda x: x.shape, shapes["params"]["head"]) == {
        "fc6": {"kernel": (3, 3, depth, 1024), "bias": (1024,)},
        "fc7": {"kernel": (1, 1, 1024, 1024), "bias": (1024,)},
        "fc8": {"kernel": (1, 1, 1024, 21), "bias": (21,)},
    }
    options = config.sec
    assert (options.dilation, options.average, options.dropout) == (12, True, 0.5)
    assert dict(config.model.trunk) == {
        "ceil_mode": True,
        "relaxed_pools": "stride1",
        "pool_window": 3,
        "dilate": True,
    }


def test_published_losses_and_solver():
    """SEC's released solver and decays; and two-phase learning's seed + constrain."""
    config = stages.stage_config(sec_config.get_config("voc,weights=none"), "segment")
    options = config.sec
    assert (options.seed, options.expand, options.constrain) == (1, 1, 1)
    assert (options.foreground, options.background, options.floor) == (0.996, 0.999, 1e-4)
    np.testing.assert_allclose(options.bilateral, (10, 80 / 12, 13))
    np.testing.assert_allclose(options.spatial, (3, 3 / 12))
    assert options.iterations == 10
    assert (config.data.crop, config.data.resize, config.data.flip) == (321, 321, 0)
    assert config.sec.cells == config.cues.size == 41
    assert config.labels == "cues=cues"
    assert (config.cues.foreground, config.cues.background) == (0.2, 0.1)
    assert config.cues.layer == "conv4_1"
    rates = config.optimizer
    assert (rates.backbone_lr, rates.head_lr, rates.classifier_lr) == (1e-3, 1e-3, 1e-2)
    assert (rates.bias_lr, rates.decay_all, rates.weight_decay) == (2, False, 5e-4)
    plan = assemble.Plan.of(config.train, 10582, jax.sharding.Mesh(jax.devices()[:1], "data"))
    assert (plan.batch_size, plan.num_steps) == (15, 8000)
    both = two_phase_config.get_config("voc,weights=none,segment=true")
    assert tuple(both.stages) == ("first", "second", "background", "cues", "segment", "evaluate")
    own = stages.stage_config(both, "segment").sec
    assert (own.seed, own.expand, own.constrain) == (1, 0, 1)
    assert both.cues.maps == "second" and both.cues.saliency == "background"


@pytest.mark.parametrize("words", ["embedded", "folder,root=x,backbone=mobilenet_v2"])
def test_decays_of_small_maps_weigh_shares_of_the_image_alike(words):
    """A rank on 41x41 cells and the ranks that cover as much of smaller maps have equal weights."""
    config = stages.stage_config(sec_config.get_config(words), "segment")
    cells = (config.data.crop // 8) ** 2 if words == "embedded" else 20**2
    for name, decay in (("foreground", 0.996), ("background", 0.999)):
        np.testing.assert_allclose(config.sec[name] ** (cells / 4), decay ** (1681 / 4), rtol=1e-6)


def test_the_network_of_the_background_cue_has_a_conv4_1_of_41_cells():
    config = sec_config.get_config("voc,weights=none,width=0.1")
    plain = stages.stage_config(config, "background")
    method = methods.build(plain, 20)
    images = jax.ShapeDtypeStruct((1, 321, 321, 3), jnp.uint8)
    shapes = jax.eval_shape(method.init, jax.random.key(0), images)
    salient = lambda v, x: gradient_saliency(methods.Trained(method, v), x, config.cues.layer)
    assert jax.eval_shape(salient, shapes, images).shape == (1, 41, 41)


def test_the_background_network_is_the_released_one():
    """VGG with pool4 and pool5, 321 -> 11x11 cells, and FC 1024-1024-20; one score an image."""
    config = stages.stage_config(sec_config.get_config("voc,weights=none"), "background")
    method = methods.build(config, 20)
    images = jax.ShapeDtypeStruct((2, 321, 321, 3), jnp.uint8)
    shapes = jax.eval_shape(method.init, jax.random.key(0), images)
    assert jax.tree.map(lambda x: x.shape, shapes["params"]["head"]) == {
        "fc6": {"kernel": (11 * 11 * 512, 1024), "bias": (1024,)},
        "fc7": {"kernel": (1024, 1024), "bias": (1024,)},
        "fc8": {"kernel": (1024, 20), "bias": (20,)},
    }
    found = jax.eval_shape(method.localize, shapes, images)
    assert found.logits.shape == (2, 20) and found.maps.shape == (2, 1, 1, 20)
    assert config.model.dropout == 0 and config.train.eval_epochs == 0


def test_a_background_network_of_earlier_days_is_told_from_this_one(tmp_path):
    """Its run is read as it was; to train on, one field at a time says what is another."""
    config = stages.stage_config(sec_config.get_config("voc,weights=none"), "background")
    old = config.copy_and_resolve_references()
    with old.unlocked():
        old.two_phase.head, old.model.dropout = "fcn", 0.5
    workdirs.write(tmp_path, old, ("a",))
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds a run with .*, but this config has .*: take"):
        workdirs.claim(tmp_path, config, ("a",))
    read, _ = workdirs.load(tmp_path)
    images = jax.ShapeDtypeStruct((1, 321, 321, 3), jnp.uint8)
    shapes = jax.eval_shape(methods.build(read, 20).init, jax.random.key(0), images)
    assert set(shapes["params"]["head"]) == {"conv6", "conv7", "class_maps"}


@pytest.mark.parametrize("name", ["first", "second", "background", "segment"])
def test_biases_learn_twice_as_fast_and_do_not_decay(name):
    """lr_mult 2 and decay_mult 0 in every layer of the released solvers, 10 and 20 in the last."""
    config = two_phase_config.get_config("voc,weights=none,width=0.1,segment=true")
    config = stages.stage_config(config, name)
    method = methods.build(config, 20)
    images = jax.ShapeDtypeStruct((1, 321, 321, 3), jnp.uint8)
    params = jax.eval_shape(method.init, jax.random.key(0), images)["params"]
    params = jax.tree.map(lambda x: np.broadcast_to(np.float32(2), x.shape), params)
    tx = optimizer(config.optimizer, method.param_groups(params), lambda step: 1.0)
    still = jax.tree.map(np.zeros_like, params)
    decayed, _ = tx.update(still, tx.init(params), params)
    pulled, _ = tx.update(params, tx.init(params), still)
    last = {"background": "fc8", "segment": "fc8"}.get(name, "class_maps")
    for path, moved in jax.tree_util.tree_leaves_with_path(decayed):
        layer, leaf = path[-2].key, path[-1].key
        rate = 1e-2 if layer == last else 1e-3
        decay = 0 if leaf == "bias" else rate * 5e-4 * 2
        np.testing.assert_allclose(moved, -decay, rtol=1e-5)
        step = pulled[path[0].key][layer][leaf]
        np.testing.assert_allclose(step, -2 * rate * (2 if leaf == "bias" else 1), rtol=1e-5)


# ---------------------------------------------------------------- the head


def test_dense_head_equals_the_layers_by_hand():
    """In float64: all cells at once, two layers with ReLU, one without; dropout in training."""
    head = DenseHead(num_classes=4, channels=6)
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 3))
    (logits, maps, last), variables = quick(head.init_with_output)(
        jax.random.key(0), jnp.asarray(x, jnp.float32)
    )
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["params"])
    y = x.reshape(2, -1)
    for layer in ("fc6", "fc7"):
        y = np.maximum(y @ params[layer]["kernel"] + params[layer]["bias"], 0)
    np.testing.assert_allclose(last[:, 0, 0], y, rtol=1e-4, atol=1e-7)
    y = y @ params["fc8"]["kernel"] + params["fc8"]["bias"]
    np.testing.assert_allclose(logits, y, rtol=1e-4, atol=1e-8)
    np.testing.assert_array_equal(maps[:, 0, 0], logits)
    dropping = DenseHead(num_classes=4, channels=6, dropout=0.5)
    call = lambda **how: dropping.apply(variables, x, **how)[0]
    np.testing.assert_allclose(call(), logits, rtol=1e-5)
    trained = call(train=True, rngs={"dropout": jax.random.key(1)})
    assert not np.allclose(trained, logits, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"eval.size": 64}, r"eval\.size=64: .* sees images of data\.crop=321 pixels alone"),
        ({"two_phase.head": "fc"}, r"two_phase\.head: 'fc' is not one of 'fcn', 'cam', 'dense'"),
        (
            {"two_phase.suppressors": ("first",), "reads": ("first",)},
            r"two_phase\.head: 'dense' has no class maps",
        ),
    ],
)
def test_what_does_not_go_with_a_dense_head(changes, sentence):
    config = stages.stage_config(sec_config.get_config("voc,weights=none"), "background")
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=sentence):
        methods.build(config, 20)


def conv_by_hand(x, kernel, bias, dilation=1):
    size = kernel.shape[0] // 2 * dilation
    padded = np.pad(x, ((0, 0), (size, size), (size, size), (0, 0)))
    height, width = x.shape[1:3]
    out = np.zeros((*x.shape[:3], kernel.shape[-1])) + bias
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            y, z = i * dilation, j * dilation
            out += padded[:, y : y + height, z : z + width] @ kernel[i, j]
    return out


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("dilation", [1, 2, 12])
def test_large_fov_head(average, dilation):
    """In float64: a mean of nine in which the border is zeros, a dilated layer, two of 1x1."""
    head = LargeFovHead(num_classes=4, channels=6, dilation=dilation, average=average)
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3))
    (found, last), params = quick(head.init_with_output)(
        jax.random.key(0), jnp.asarray(x, jnp.float32)
    )
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params["params"])
    mean = np.ones((3, 3, 1, 1)) / 9 * np.eye(3)
    y = conv_by_hand(x, mean, 0) if average else x
    y = np.maximum(conv_by_hand(y, *(params["fc6"][k] for k in ("kernel", "bias")), dilation), 0)
    y = np.maximum(conv_by_hand(y, *(params["fc7"][k] for k in ("kernel", "bias"))), 0)
    np.testing.assert_allclose(last, y, rtol=1e-4, atol=1e-6)
    y = conv_by_hand(y, *(params["fc8"][k] for k in ("kernel", "bias")))
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-6)
    assert found.shape == (2, 5, 7, 4) and found.dtype == jnp.float32


def test_the_head_drops_in_training_alone():
    head = LargeFovHead(num_classes=4, channels=64, dilation=1, dropout=0.5)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 3)), jnp.float32)
    (plain, _), params = quick(head.init_with_output)(jax.random.key(0), x)
    np.testing.assert_array_equal(quick(head.apply)(params, x)[0], plain)
    train = quick(lambda key: head.apply(params, x, train=True, rngs={"dropout": key})[0])
    one, other = (train(jax.random.key(i)) for i in range(2))
    assert (one != plain).any() and (one != other).any()


def test_bfloat16_keeps_float32_scores():
    head = LargeFovHead(num_classes=4, channels=6, dilation=1, dtype=jnp.bfloat16)
    x = jax.ShapeDtypeStruct((1, 4, 4, 3), jnp.float32)
    (found, _), params = jax.eval_shape(head.init_with_output, jax.random.key(0), x)
    assert {a.dtype for a in jax.tree.leaves((found, params))} == {np.dtype("float32")}


def test_param_groups():
    method = methods.build(tiny(), 5)
    labels = method.param_groups(variables()["params"])
    assert labels["head"] == {
        "fc6": {"kernel": "head/kernel", "bias": "head/bias"},
        "fc7": {"kernel": "head/kernel", "bias": "head/bias"},
        "fc8": {"kernel": "classifier/kernel", "bias": "classifier/bias"},
    }
    kinds = {"backbone/kernel", "backbone/bias", "backbone/norm"}
    assert set(jax.tree.leaves(labels["backbone"])) == kinds
    frozen = methods.build(tiny(**{"model.freeze_until": "conv1_2"}), 5)
    found = frozen.param_groups(variables()["params"])["backbone"]
    assert found["conv1_1"]["kernel"] == "frozen/kernel"
    assert found["conv2_1"]["kernel"] == "backbone/kernel"


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"sec.seed": -1.0}, r"sec\.seed=-1\.0: expected a number from 0 "),
        ({"sec.seed": 0.0, "sec.expand": 0.0, "sec.constrain": 0.0}, "one above 0"),
        ({"sec.expand": float("nan")}, r"sec\.expand=nan: expected a number from 0"),
        ({"sec.cells": 0}, r"sec\.cells=0: expected a whole number from 1"),
        ({"sec.floor": 0.0}, r"sec\.floor=0\.0: expected a number above 0"),
        ({"sec.foreground": 1.5}, r"sec\.foreground=1\.5: expected a number from 0 to 1"),
        ({"sec.background": -0.1}, r"sec\.background=-0\.1: expected a number from 0 to 1"),
    ],
)
def test_mistakes_are_one_sentence(changes, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        methods.build(tiny(**changes), 5)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
