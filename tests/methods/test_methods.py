"""The methods on a tiny network: SPG's loss in float64, and what may not move what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from helpers.networks import (
    BATCH,
    FILES,
    FLAT_RATE,
    IMAGES,
    KEY,
    SIDE,
    assert_trees_equal,
    made,
    resized,
    sigmoid,
    state_of,
    tiny,
)

from configs import spg as spg_config
from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.methods import spg
from wsol_jax.runs.state import train_step


@pytest.fixture(scope="module")
def built():
    """Methods, variables and compiled value-and-gradients, made once."""
    found = {}

    def get(file, gradient=True, **changes):
        name = (file, gradient, *sorted(changes.items()))
        if name not in found:
            method, variables = made(file, **changes)

            def total(params, rest, batch, rng, step):
                return method.loss({"params": params, **rest}, batch, rng, step)

            step = quick(jax.value_and_grad(total, has_aux=True) if gradient else total)

            def call(batch, variables=variables, rng=KEY, step_index=0, f=step):
                rest = {k: v for k, v in variables.items() if k != "params"}
                return f(variables["params"], rest, batch, rng, jnp.asarray(step_index))

            found[name] = method, variables, call
        return found[name]

    return get


@pytest.mark.parametrize("file", FILES)
def test_padded_rows_change_nothing(built, file):
    """Garbage in an invalid row moves neither loss nor gradient nor batch statistics."""
    _, variables, call = built(file, **{"model.dropout": 0.5, "model.batch_norm": "batch"})
    other = dict(BATCH, image=IMAGES.copy(), labels=BATCH["labels"].copy())
    other["image"][3] = np.random.default_rng(1).integers(0, 2, (SIDE, SIDE, 3)) * 255
    other["labels"][3] = 1.0
    (loss, aux), gradient = call(BATCH)
    (loss2, aux2), gradient2 = call(other)
    assert loss == loss2 and np.isfinite(loss)
    assert_trees_equal(gradient, gradient2)
    assert_trees_equal(aux.collections, aux2.collections)
    assert_trees_equal(aux.metrics, aux2.metrics)
    moved = jax.tree.map(
        lambda a, b: (a != b).any(), aux.collections["batch_stats"], variables["batch_stats"]
    )
    assert all(jax.tree.leaves(moved))


def seeds(maps, high, low):
    mask = np.full(maps.shape, 255)
    for one, out in zip(maps, mask, strict=True):
        threshold = high if (one > high).sum() >= 30 else 0.7 * one.max()
        out[one > threshold] = 1
        out[one < low] = 0
    return mask


def spg_by_hand(logits, maps, branches, labels, valid, thresholds):
    """Algorithm 1 and section 3.2 in float64, from the network's outputs."""
    y = labels.argmax(1)
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    ce = -log_p[np.arange(len(y)), y][valid].mean()
    class_map = resized(np.stack([m[:, :, c] for m, c in zip(maps, y, strict=True)]), SIDE)
    low = class_map.min((1, 2), keepdims=True)
    class_map = (class_map - low) / (class_map.max((1, 2), keepdims=True) - low)
    big = {name: resized(x, SIDE) for name, x in branches.items()}
    f1, f2 = sigmoid(big["b1"]), sigmoid(big["b2"])
    masks = {
        "b2": seeds(class_map, *thresholds.b2),
        "b1": seeds(f2, *thresholds.b1),
        "c": seeds((f1 + f2) / 2, *thresholds.c),
    }
    total, parts = ce, {}
    for name, mask in masks.items():
        labelled = (mask != 255) & valid[:, None, None]
        p = sigmoid(big[name])
        values = -np.log(np.where(mask == 1, p, 1 - p))[labelled]
        parts[name] = values.mean() if len(values) else 0.0
        total += parts[name]
    return total, parts, masks


@pytest.mark.parametrize("preset", ["released", pytest.param("paper", marks=pytest.mark.slow)])
def test_spg_loss_equals_algorithm_1_by_hand(built, preset):
    changes = {"model.dropout": 0.0, "model.batch_norm": "inference", "spg.thresholds": preset}
    _, variables, call = built("spg", gradient=False, **changes)
    # Branches that say something: fresh ones are all near one half.
    rng = np.random.default_rng(5)
    grow = lambda x: x if x.ndim == 1 else x * 3
    params = {**variables["params"]}
    params["branches"] = jax.tree.map(grow, params["branches"])
    params["branches"]["b_shared_out"]["bias"] = jnp.asarray(rng.normal(size=1), jnp.float32)
    variables = {**variables, "params": params}
    config = tiny("spg", **changes)
    loss, aux = call(BATCH, variables)

    from wsol_jax.methods import shared
    from wsol_jax.networks import backbones
    from wsol_jax.networks.heads import SpgBranches

    network = spg.SpgNetwork(
        backbones.build(config.model, jnp.float32),
        shared.cam_head(config.model, 5, jnp.float32),
        SpgBranches(config.spg.channels, c_layers=config.spg.c_layers),
        config.model.endpoint or config.model.final_endpoint,
        config.spg.b1_endpoint,
        config.spg.b2_endpoint,
        config.model.preprocessing,
    )
    outputs = network.apply(variables, jnp.asarray(IMAGES))
    logits, maps, branches = jax.tree.map(lambda x: np.asarray(x, np.float64), outputs)
    expected, parts, masks = spg_by_hand(
        logits, maps, branches, BATCH["labels"], BATCH["valid"], spg.PRESETS[preset]
    )
    differing = [
        np.mean(np.asarray(aux.pictures[f"mask {name}"]) != mask) for name, mask in masks.items()
    ]
    assert max(differing) < 1e-3  # a pixel on the threshold may round either way
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    for name, value in parts.items():
        np.testing.assert_allclose(aux.metrics[f"bce_{name}"], value, rtol=1e-3)
    assert any(1 in mask for mask in masks.values()) and all(
        0 in m or 1 in m for m in masks.values()
    )


def test_presets_are_the_published_numbers():
    """Paper: B1 .5/.05, B2 .7/.1; code A->B2 .7/.05, B2->B1, fused."""
    assert spg.thresholds_of(spg_config.get_config().spg) == spg.PRESETS["paper"]
    assert spg.PRESETS["released"] == ((0.7, 0.05), (0.5, 0.05), (0.7, 0.1))
    assert spg.PRESETS["paper"] == ((0.7, 0.1), (0.5, 0.05), (0.7, 0.1))
    assert spg.Thresholds._fields == ("b2", "b1", "c")
    options = spg_config.get_config("cub,recipe=released").spg
    assert options.min_foreground == 30
    assert spg.thresholds_of(options) == spg.PRESETS["released"]
    with options.unlocked():
        options.thresholds, options.seeds_b1 = "custom", (0.6, 0.2)
    assert spg.thresholds_of(options).b1 == (0.6, 0.2)
    with options.unlocked():
        options.thresholds = "relesed"
    with pytest.raises(UserError, match=r"spg\.thresholds.*'released', 'paper', 'custom'"):
        spg.thresholds_of(options)


def test_guidance_follows_algorithm_1():
    rng = np.random.default_rng(2)
    a, b1, b2 = (jnp.asarray(rng.random((2, 16, 16)), jnp.float32) for _ in range(3))
    thresholds = spg.Thresholds(b2=(0.9, 0.1), b1=(0.6, 0.3), c=(0.7, 0.4))
    found = spg.guidance(a, b1, b2, thresholds)
    sources = {"b2": a, "b1": b2, "c": (np.asarray(b1) + np.asarray(b2)) / 2}
    for name, maps in sources.items():
        expected = seeds(np.asarray(maps), *(np.float32(getattr(thresholds, name))))
        np.testing.assert_array_equal(getattr(found, name), expected, err_msg=name)


def test_no_gradient_passes_through_the_guidance():
    def use(maps):
        masks = spg.guidance(*maps, spg.PRESETS["released"])
        return sum(jnp.sum(m.astype(jnp.float32)) for m in masks)

    rng = np.random.default_rng(3)
    maps = [jnp.asarray(rng.random((1, 8, 8)), jnp.float32) for _ in range(3)]
    assert_trees_equal(jax.grad(use)(maps), [0.0] * 3)


@pytest.mark.slow
def test_each_branch_learns_from_its_own_loss_alone(built):
    """With B1 and C weighted 0, only B2's layers and the trunk below it get a gradient."""
    changes = {"spg.weight_b1": 0.0, "spg.weight_c": 0.0, "model.dropout": 0.0}
    _, _, call = built("spg", **changes)
    _, gradient = call(BATCH)
    branches = gradient["branches"]
    for name in ("b1_adapt", "c_conv", "c_out"):
        assert_trees_equal(branches[name], jax.tree.map(jnp.zeros_like, branches[name]))
    for name in ("b2_adapt", "b_shared", "b_shared_out"):
        assert np.abs(branches[name]["kernel"]).max() > 0


def test_ramp_fades_the_guidance_in(built):
    _, _, call = built("spg", gradient=False, **{"spg.ramp_steps": 4, "model.dropout": 0.0})
    losses = {}
    for step in (0, 1, 3, 9):
        loss, aux = call(BATCH, step_index=step)
        guided = sum(float(aux.metrics[f"bce_{n}"]) for n in ("b1", "b2", "c"))
        losses[step] = (float(loss) - float(aux.metrics["classification"])) / guided
    np.testing.assert_allclose(list(losses.values()), [0.25, 0.5, 1, 1], rtol=1e-4)


def test_guidance_waits_for_start_step(built):
    changes = {"spg.start_step": 3, "spg.ramp_steps": 2, "model.dropout": 0.0}
    _, _, call = built("spg", gradient=False, **changes)
    shares = []
    for step in (0, 2, 3, 4, 9):
        loss, aux = call(BATCH, step_index=step)
        guided = sum(float(aux.metrics[f"bce_{n}"]) for n in ("b1", "b2", "c"))
        shares.append((float(loss) - float(aux.metrics["classification"])) / guided)
    np.testing.assert_allclose(shares, [0, 0, 0.5, 1, 1], rtol=1e-4, atol=1e-6)


def test_seeds_of_stretched_branches_and_of_maps_against_their_mean(built):
    """Fresh branches say one half everywhere; stretched, each has its object and background."""
    on = {"spg.stretch": True, "spg.against_mean": True, "model.dropout": 0.0}
    on["spg.min_foreground"] = 30  # which ``seeds`` has
    plain = built("spg", gradient=False, **{"model.dropout": 0.0})[2](BATCH)[1].pictures
    found = built("spg", gradient=False, **on)[2](BATCH)[1].pictures
    valid = BATCH["valid"]
    mask = np.asarray(found["mask b1"])[valid]
    assert ((mask == 1).any((1, 2)) & (mask == 0).any((1, 2))).all()
    assert not (np.asarray(plain["mask b1"]) == 0).any()
    maps = np.asarray(found["class map"], np.float64)
    maps = maps / (maps + maps.mean((1, 2), keepdims=True))
    high, low = spg.PRESETS["paper"].b2
    near = (np.abs(maps - high) < 1e-6) | (np.abs(maps - low) < 1e-6)  # rounding may decide
    assert ((np.asarray(found["mask b2"]) == seeds(maps, high, low)) | near).all()


@pytest.mark.parametrize("file", FILES)
def test_dropout_acts_in_training_alone(built, file):
    method, variables, call = built(file, **{"model.dropout": 0.5, "model.batch_norm": "batch"})
    (one, _), _ = call(BATCH, rng=jax.random.key(1))
    (other, _), _ = call(BATCH, rng=jax.random.key(2))
    (again, _), _ = call(BATCH, rng=jax.random.key(1))
    assert one != other and one == again
    localize = quick(method.localize)  # takes no key at all
    assert_trees_equal(localize(variables, IMAGES), localize(variables, IMAGES))


def test_spg_localizes_without_its_branches(built):
    method, variables, _ = built("spg", **{"model.dropout": 0.5, "model.batch_norm": "batch"})
    params = {k: v for k, v in variables["params"].items() if k != "branches"}
    bare = quick(method.localize)(dict(variables, params=params), IMAGES)
    assert_trees_equal(bare, quick(method.localize)(variables, IMAGES))
    np.testing.assert_allclose(bare.logits, bare.maps.mean(axis=(1, 2)), atol=1e-5)


@pytest.mark.parametrize("file", [pytest.param("cam", marks=pytest.mark.slow), "spg", "cams2i"])
def test_bfloat16_keeps_float32_parameters_and_a_finite_loss(built, file):
    changes = {"dtype": "bfloat16", "model.dropout": 0.0}
    method, variables, call = built(file, **changes)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype("float32")}
    (loss, _), gradient = call(BATCH)
    assert loss.dtype == jnp.float32 and np.isfinite(loss)
    assert all(x.dtype == jnp.float32 and np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    found = jax.eval_shape(method.localize, variables, jnp.asarray(IMAGES))
    assert found.logits.dtype == found.maps.dtype == jnp.float32
    exact, _ = built(file, gradient=False, **{**changes, "dtype": "float32"})[2](BATCH)
    np.testing.assert_allclose(loss, exact, rtol=0.1)


def steps(config, method, variables, batch, accumulate=1):
    state, tx, labels = state_of(config, method, variables, jax.random.key(3))
    return quick(train_step(method, tx, labels, accumulate))(state, batch)


def test_accumulation_equals_the_whole_batch_for_a_mean_loss():
    changes = {"model.dropout": 0.0, "model.batch_norm": "inference", **FLAT_RATE}
    method, variables = made("cam", **changes)
    config = tiny("cam", **changes)
    whole, metrics = steps(config, method, variables, BATCH)
    parts, found = steps(config, method, variables, BATCH, accumulate=2)
    np.testing.assert_allclose(found["loss"], metrics["loss"], rtol=1e-6)
    assert_trees_equal(whole.params, parts.params, atol=1e-6)


def test_freeze_until_keeps_layers_bitwise_and_moves_the_rest():
    changes = {"model.freeze_until": "conv2_1", "model.dropout": 0.0, **FLAT_RATE}
    method, variables = made("spg", **changes)
    labels = method.param_groups(variables["params"])
    trunk = labels["backbone"]
    frozen = {name for name, tree in trunk.items() if "frozen" in str(jax.tree.leaves(tree))}
    assert {"conv1_1", "conv1_2", "conv2_1"} <= frozen
    assert not any(name.startswith(("conv2_2", "conv3_1")) for name in frozen)
    state, _ = steps(tiny("spg", **changes), method, variables, BATCH)
    for name, before in variables["params"]["backbone"].items():
        same = [
            np.array_equal(a, b)
            for a, b in zip(
                jax.tree.leaves(before),
                jax.tree.leaves(state.params["backbone"][name]),
                strict=True,
            )
        ]
        assert all(same) if name in frozen else not any(same), name


@pytest.mark.parametrize(
    "backbone, endpoint, after",
    [
        ("vgg16", "conv3_3", "conv5_3"),
        ("inception_v3", "Mixed_5c", "Mixed_6a"),
        ("resnet50", "conv3_block2", "conv3_block3"),
    ],
)
def test_param_groups_of_the_other_backbones(backbone, endpoint, after):
    config = spg_config.get_config(f"cub,backbone={backbone},weights=none,width=0.1")
    with config.unlocked():
        config.model.freeze_until = endpoint
    method = methods.build(config, 5)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)
    params = jax.eval_shape(method.init, jax.random.key(0), images)["params"]
    labels = method.param_groups(params)
    parts = {
        name: {label.split("/")[0] for label in jax.tree.leaves(tree)}
        for name, tree in labels["backbone"].items()
    }
    assert parts[endpoint] == {"frozen"}
    assert parts[after] == {"backbone"}
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    for (path, leaf), label in zip(leaves, jax.tree.leaves(labels), strict=True):
        kind = label.split("/")[1]
        names = [key.key for key in path]
        assert (kind == "kernel") == (len(leaf.shape) == 4), path
        assert (kind == "norm") == ("bn" in names[-2]), path


def test_the_whole_trunk_can_be_frozen_and_an_unknown_endpoint_is_refused():
    method, variables = made("cam", **{"model.freeze_until": "all"})
    labels = method.param_groups(variables["params"])
    assert {x.split("/")[0] for x in jax.tree.leaves(labels["backbone"])} == {"frozen"}
    assert {x.split("/")[0] for x in jax.tree.leaves(labels["head"])} == {"head"}
    with pytest.raises(UserError, match=r"freeze_until.*konv3"):
        made("cam", **{"model.freeze_until": "konv3"})
