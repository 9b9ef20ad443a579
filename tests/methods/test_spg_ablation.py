"""SPG's ablations (section 4.3): who teaches whom, and which layers there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from helpers.networks import BATCH, IMAGES, KEY, SIDE, made, resized, sigmoid, tiny

from configs import spg as spg_config
from wsol_jax import methods
from wsol_jax.methods import spg
from wsol_jax.networks import backbones
from wsol_jax.networks.heads import SpgBranches
from wsol_jax.ops.images import normalise

ON = {"model.dropout": 0.0, "model.batch_norm": "inference"}


@pytest.fixture(scope="module")
def built():
    """(variables, compiled loss of the parameters), of a config's changes."""
    found = {}

    def get(**changes):
        key = tuple(sorted(changes.items()))
        if key not in found:
            method, variables = made("spg", **ON, **changes)

            def loss(params):
                state = {**variables, "params": params}
                return method.loss(state, BATCH, KEY, jnp.asarray(0))

            found[key] = variables, quick(loss)
        return found[key]

    return get


def masks(aux):
    return {name: np.asarray(aux.pictures[f"mask {name}"]) for name in ("b1", "b2")}


def test_without_the_cascade_the_initial_seeds_teach_both():
    rng = np.random.default_rng(2)
    a, b1, b2 = (jnp.asarray(rng.random((2, 16, 16)), jnp.float32) for _ in range(3))
    thresholds = spg.Thresholds(b2=(0.7, 0.1), b1=(0.6, 0.3), c=(0.7, 0.4))
    with_it = spg.guidance(a, b1, b2, thresholds)
    without = spg.guidance(a, b1, b2, thresholds, cascade=False)
    expected = np.where(a < np.float32(0.1), 0, np.where(a > np.float32(0.7), 1, 255))
    np.testing.assert_array_equal(without.b1, expected)
    np.testing.assert_array_equal(without.b2, expected)
    np.testing.assert_array_equal(without.c, with_it.c)
    assert (with_it.b1 != expected).any()


@pytest.mark.parametrize("cascade", [True, False])
def test_what_b2_says_teaches_b1_with_the_cascade_alone(built, cascade):
    """Where B2's layers change, B1's mask does with the cascade, and A's own never."""
    variables, loss = built(**{"spg.cascade": cascade})
    params = variables["params"]
    before = masks(loss(params)[1])

    def changed(**parts):
        after = masks(loss({**params, **parts})[1])
        return {name: bool((before[name] != after[name]).any()) for name in before}

    branches = dict(params["branches"])
    for name in ("b2_adapt", "b_shared", "b_shared_out"):
        branches[name] = jax.tree.map(lambda x: x * 8.0, branches[name])
    assert changed(branches=branches) == {"b1": cascade, "b2": False}
    maps = jax.tree.map(lambda x: -x, params["head"]["class_maps"])
    found = changed(head={**params["head"], "class_maps": maps})
    assert found == {"b1": not cascade, "b2": True}


def branches_by_hand(variables):
    """The logits of B1 and B2, (B, h, w), from the trunk's features, layer by layer."""
    config, params = tiny("spg", **ON), variables["params"]
    trunk = backbones.build(config.model, jnp.float32)
    stats = {"batch_stats": variables["batch_stats"]["backbone"]}
    images = normalise(jnp.asarray(IMAGES), config.model.preprocessing)
    endpoints = trunk.apply({"params": params["backbone"], **stats}, images)
    layers, numbers = params["branches"], ("NHWC", "HWIO", "NHWC")
    conv = lambda x, layer: (
        layer["bias"]
        + jax.lax.conv_general_dilated(
            x, layer["kernel"], (1, 1), "SAME", dimension_numbers=numbers
        )
    )
    found = {}
    for name, endpoint in (("b1", config.spg.b1_endpoint), ("b2", config.spg.b2_endpoint)):
        x = jax.nn.relu(conv(endpoints[endpoint], layers[f"{name}_adapt"]))
        x = conv(jax.nn.relu(conv(x, layers["b_shared"])), layers["b_shared_out"])
        found[name] = np.asarray(x[..., 0], np.float64)
    return found


def test_the_loss_without_the_cascade_has_the_initial_seeds_twice(built):
    variables, loss = built(**{"spg.cascade": False})
    value, aux = loss(variables["params"])
    mask = masks(aux)["b2"]
    labelled = (mask != 255) & BATCH["valid"][:, None, None]
    total = float(aux.metrics["classification"] + aux.metrics["bce_c"])
    for name, logits in branches_by_hand(variables).items():
        p = sigmoid(resized(logits, SIDE))
        bce = -np.log(np.where(mask == 1, p, 1 - p))[labelled].mean()
        np.testing.assert_allclose(aux.metrics[f"bce_{name}"], bce, rtol=1e-4)
        total += bce
    np.testing.assert_allclose(value, total, rtol=1e-5)


FEATURES = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (1, 9, 9, 3)), jnp.float32)


@pytest.mark.parametrize("share", [True, False])
def test_shared_layers_learn_from_both_branches_and_own_ones_from_one(share):
    module = SpgBranches(channels=4, share_b=share)
    params = module.init(jax.random.key(0), *[FEATURES] * 3)["params"]

    def learning(name):
        value = lambda p: jnp.sum(module.apply({"params": p}, *[FEATURES] * 3)[name])
        gradient = quick(jax.grad(value))(params)
        return {layer for layer, g in gradient.items() if np.abs(g["kernel"]).max() > 0}

    for name in ("b1", "b2"):
        rest = ("b_shared", "b_shared_out") if share else (f"{name}_conv", f"{name}_out")
        assert learning(name) == {f"{name}_adapt", *rest}
    assert learning("c") == {"c_conv", "c_out"}


@pytest.mark.parametrize("layers", [1, 2])
def test_how_far_spg_c_sees(layers):
    """A cell of C is decided by 3x3 cells of the features, by 5x5 with the paper's second layer."""
    module = SpgBranches(channels=4, c_layers=layers)
    variables = module.init(jax.random.key(0), *[FEATURES] * 3)
    middle = lambda c: module.apply(variables, FEATURES, FEATURES, c)["c"][0, 4, 4]
    reached = np.nonzero(np.abs(quick(jax.grad(middle))(FEATURES))[0].max(-1))
    assert [(int(x.min()), int(x.max())) for x in reached] == [(4 - layers, 4 + layers)] * 2


def test_without_spg_c_nothing_else_changes():
    """The loss, and what the head learns, are those of an SPG-C that weighs nothing."""

    def learned(**changes):
        method, variables = made("spg", **ON, **changes)

        def loss(head):
            state = {**variables, "params": {**variables["params"], "head": head}}
            return method.loss(state, BATCH, KEY, jnp.asarray(0))

        found = quick(jax.value_and_grad(loss, has_aux=True))(variables["params"]["head"])
        return found, variables["params"]["branches"]

    ((value, aux), gradient), branches = learned(**{"spg.c_layers": 0})
    assert not any(name.startswith("c_") for name in branches)
    parts = ("classification", "bce_b1", "bce_b2")
    np.testing.assert_allclose(value, sum(aux.metrics[name] for name in parts), rtol=1e-6)
    assert "bce_c" not in aux.metrics and "mask c" not in aux.pictures
    ((expected, _), theirs), branches = learned(**{"spg.weight_c": 0.0})
    assert {"c_conv", "c_conv2", "c_out"} < branches.keys()
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    "switch, more",
    [
        ("spg.share_b=false", 9 * 512 * 512 + 512 + 512 + 1),
        ("spg.c_layers=1", -(9 * 512 * 512 + 512)),
        ("spg.c_layers=0", -(9 * 1024 * 512 + 512) - (9 * 512 * 512 + 512) - (512 + 1)),
        ("spg.cascade=false", 0),
    ],
)
def test_parameters_of_each_row_on_inception_v3(switch, more):
    def count(*changes):
        config = spg_config.get_config("ilsvrc,weights=none")
        with config.unlocked():
            config.update_from_flattened_dict(dict(changes))
        init = methods.build(config, 1000).init
        images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)
        shapes = jax.eval_shape(init, jax.random.key(0), images)
        return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))

    path, _, text = switch.partition("=")
    assert count((path, text != "false" and int(text))) - count() == more


def test_seeds_at_a_size_of_their_own():
    """The maps are enlarged to it, not to the image's 32 pixels, before they are cut."""
    method, variables = made("spg", **ON, **{"spg.seed_size": 24})
    _, aux = jax.eval_shape(method.loss, variables, BATCH, KEY, jnp.asarray(0))
    assert {picture.shape for picture in aux.pictures.values()} == {(4, 24, 24)}
