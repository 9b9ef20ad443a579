"""CAMs2i on a tiny network: the whole loss in float64, its switches, its frozen features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from helpers.networks import (
    BATCH,
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
from safetensors.numpy import save_file

from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.methods import cams2i
from wsol_jax.runs import plan as assemble
from wsol_jax.runs.state import train_step

# Two images of one class that are both valid, and a third of it that is not.
PAIR = dict(BATCH, labels=np.eye(5, dtype=np.float32)[[0, 3, 3, 3]])
WEIGHTS = {"cams2i.squash": "sigmoid", "cams2i.weight_int": 0.5, "cams2i.weight_inter": 3.0}
PLAIN = {"model.dropout": 0.0, "cams2i.ramp_steps": 4}
BASE = {"cams2i.intra": False, "cams2i.inter": False}
FEATURES = ("feature_trunk", "projection")


def spread(variables, scale=300):
    """Class maps that differ: fresh ones are all but flat."""
    params = dict(variables["params"])
    for name in ("head_1", "head_2"):
        if name in params:
            layer = params[name]["class_maps"]
            params[name] = {**params[name], "class_maps": {**layer, "kernel": layer["kernel"]}}
            params[name]["class_maps"]["kernel"] = layer["kernel"] * scale
    return {**variables, "params": params}


@pytest.fixture(scope="module")
def built():
    """Methods, variables and compiled value-and-gradients, made once."""
    found = {}

    def get(**changes):
        changes = {**PLAIN, **changes}
        name = tuple(sorted(changes.items()))
        if name not in found:
            method, variables = made("cams2i", **changes)
            variables = spread(variables)

            def total(params, rest, batch, step):
                return method.loss({"params": params, **rest}, batch, KEY, step)

            f = quick(jax.value_and_grad(total, has_aux=True))

            def call(batch, variables=variables, step=9):
                rest = {k: v for k, v in variables.items() if k != "params"}
                return f(variables["params"], rest, batch, jnp.asarray(step))

            found[name] = method, variables, call
        return found[name]

    return get


def min_max(maps):
    low = maps.min(axis=(1, 2), keepdims=True)
    return (maps - low) / (maps.max(axis=(1, 2), keepdims=True) - low)


def softmax(y):
    e = np.exp(y - y.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def against_mean(maps):
    """m / (m + mean) of the map clipped at zero."""
    maps = np.maximum(maps, 0)
    total = maps + maps.mean(axis=(1, 2), keepdims=True)
    return np.divide(maps, total, out=np.zeros_like(maps), where=total > 0)


def interaction_by_hand(s1, s2, explore):
    """Eqs. 3 and 4, (B,)."""
    mu0 = s2.mean(axis=(1, 2), keepdims=True)
    mask = np.abs(s2 - mu0)
    mu1 = mask.mean(axis=(1, 2), keepdims=True)
    return ((s1 - s2) ** 2 * np.where(mu1 > mask, -explore * mask, mask)).sum(axis=(1, 2))


def parts_by_hand(network, variables, batch, squash=sigmoid, mutual=False, explore=1.0):
    """Every term of eqs. 3 to 10 in float64, from the networks' outputs."""
    apply = lambda method, x: jax.tree.map(
        lambda x: np.asarray(x, np.float64), network.apply(variables, x, method=method)
    )
    outputs = apply("classify", jnp.asarray(batch["image"]))
    y, valid = batch["labels"].argmax(1), batch["valid"]
    logits = [one for one, _ in outputs]
    maps = [m for _, m in outputs]
    chosen = [squash(np.stack([m[i, :, :, c] for i, c in enumerate(y)])) for m in maps]
    ce = [-np.log(softmax(z)[np.arange(len(y)), y])[valid].mean() for z in logits]
    s1, s2 = chosen
    l_int = interaction_by_hand(s1, s2, explore)
    if mutual:
        l_int += interaction_by_hand(s2, s1, explore)
    l_int = l_int[valid].mean()
    l_adn = ((softmax(logits[0]) - softmax(logits[1])) ** 2).sum(axis=1)[valid].mean()
    l_inter, embed = 0.0, lambda x: apply("embed", jnp.asarray(x, jnp.float32))
    for t in range(2):
        background = 1 - squash(maps[t].max(axis=-1))
        f, b = (
            embed(batch["image"] * resized(weights, SIDE)[..., None])
            for weights in (chosen[t], background)
        )
        c, losses = f.shape[1], []
        for i in range(len(y)):
            for j in range(i + 1, len(y)):
                if y[i] == y[j] and valid[i] and valid[j]:
                    plus = (((f[i] - f[j]) ** 2).sum() + ((b[i] - b[j]) ** 2).sum()) / (2 * c)
                    minus = (((f[i] - b[i]) ** 2).sum() + ((f[j] - b[j]) ** 2).sum()) / (2 * c)
                    losses.append(np.log1p(np.exp(plus - minus)))
        l_inter += np.mean(losses)
    return dict(
        classification=ce[0],
        classification_2=ce[1],
        interaction=l_int,
        agreement=l_adn,
        inter_sample=l_inter,
        pairs=len(losses),
    )


SQUASH = {"sigmoid": sigmoid, "min_max": min_max, "against_mean": against_mean}


@pytest.mark.parametrize("squash", ["sigmoid", pytest.param("min_max", marks=pytest.mark.slow)])
def test_loss_equals_the_paper_by_hand(built, squash):
    changes = {**WEIGHTS, "cams2i.squash": squash}
    _, variables, call = built(**changes)
    network = cams2i._network(tiny("cams2i", **PLAIN, **changes), 5)
    expected = parts_by_hand(network, variables, PAIR, SQUASH[squash])
    for step, w0 in ((0, 0.0), (1, 0.25), (9, 1.0)):
        (loss, aux), _ = call(PAIR, step=step)
        for name, value in expected.items():
            np.testing.assert_allclose(aux.metrics[name], value, rtol=2e-4, err_msg=name)
        ce = expected["classification"] + expected["classification_2"]
        regulated = 0.5 * expected["interaction"] + expected["agreement"]
        np.testing.assert_allclose(loss, ce + w0 * regulated + 3 * expected["inter_sample"], 2e-4)
    assert expected["pairs"] == 1 and abs(expected["interaction"]) > 1e-3


def test_what_the_small_recipes_add_to_the_paper_by_hand(built):
    """Maps against their mean, both teach, uncertain pixels count less, and all that later."""
    options = {"squash": "against_mean", "mutual": True, "explore": 0.25, "start_step": 2}
    changes = {**WEIGHTS, **{f"cams2i.{name}": value for name, value in options.items()}}
    _, variables, call = built(**changes)
    network = cams2i._network(tiny("cams2i", **PLAIN, **changes), 5)
    expected = parts_by_hand(network, variables, PAIR, against_mean, mutual=True, explore=0.25)
    for step, w0 in ((0, 0.0), (2, 0.0), (3, 0.25), (9, 1.0)):
        (loss, aux), gradient = call(PAIR, step=step)
        for name, value in expected.items():
            np.testing.assert_allclose(aux.metrics[name], value, rtol=2e-4, err_msg=name)
        ce = expected["classification"] + expected["classification_2"]
        regulated = 0.5 * expected["interaction"] + expected["agreement"]
        np.testing.assert_allclose(loss, ce + w0 * regulated + 3 * expected["inter_sample"], 2e-4)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    # A map that is clipped whole teaches nothing, and leaves no NaN behind.
    (_, aux), gradient = call(PAIR, spread(variables, 0.0))
    assert aux.metrics["interaction"] == 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def test_pictures_show_both_maps_the_mask_and_the_fusion(built):
    _, variables, call = built()
    (_, aux), _ = call(PAIR)
    assert set(aux.pictures) == {"map 1", "interaction mask", "map 2", "fusion"}
    one, two, fusion = (np.asarray(aux.pictures[k]) for k in ("map 1", "map 2", "fusion"))
    for picture in (one, two):
        assert picture.shape == (4, SIDE, SIDE)
        np.testing.assert_allclose((picture.min(), picture.max()), (0, 1), atol=1e-6)
    np.testing.assert_allclose(fusion, (one + two) / 2, atol=1e-6)
    mask = np.asarray(aux.pictures["interaction mask"])
    assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1, 255}
    # Eq. 5: 1 above mu0 + mu1 of S2, 0 below mu0 - mu1.
    network = cams2i._network(tiny("cams2i", **PLAIN), 5)
    (_, (_, maps)) = network.apply(variables, jnp.asarray(IMAGES), method="classify")
    s2 = sigmoid(np.stack([maps[i, :, :, c] for i, c in enumerate(PAIR["labels"].argmax(1))]))
    mu0 = s2.mean(axis=(1, 2), keepdims=True)
    mu1 = np.abs(s2 - mu0).mean(axis=(1, 2), keepdims=True)
    cells = np.where(s2 >= mu0 + mu1, 1, np.where(s2 <= mu0 - mu1, 0, 255))
    times = SIDE // cells.shape[1]
    np.testing.assert_array_equal(mask, cells.repeat(times, 1).repeat(times, 2))


# ---------------------------------------------------------------- the ablation's rows


def test_base_is_cam_with_another_head():
    """Neither switch: one classifier, cross-entropy alone, no parameter more."""
    method, variables = made("cams2i", **PLAIN, **BASE)
    assert set(variables["params"]) == {"backbone", "head_1"}
    loss, aux = quick(method.loss)(variables, PAIR, KEY, 9)
    assert loss == aux.metrics["classification"]
    assert set(aux.metrics) == {"loss", "classification", "accuracy"}
    assert set(aux.pictures) == {"map 1"}
    # The class-map layers of both are alike; a 1x1 layer is a 3x3 one with zeros around.
    head = {
        name: {**layer, "kernel": np.pad(layer["kernel"], ((1, 1), (1, 1), (0, 0), (0, 0)))}
        if name != "class_maps"
        else layer
        for name, layer in variables["params"]["head_1"].items()
    }
    params = {"backbone": variables["params"]["backbone"], "head": head}
    cam = methods.build(tiny("cam", **{"model.dropout": 0.0, "model.head_layers": 2}), 5)
    other = cam.localize({**variables, "params": params}, IMAGES)
    for one, two in zip(method.localize(variables, IMAGES)[:2], other[:2], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)


def test_intra_alone_has_no_second_network(built):
    _, variables, call = built(**{"cams2i.inter": False})
    assert set(variables["params"]) == {"backbone", "head_1", "head_2"}
    (loss, aux), _ = call(PAIR)
    m = aux.metrics
    assert "inter_sample" not in m
    expected = m["classification"] + m["classification_2"] + m["interaction"] + m["agreement"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.slow
def test_inter_alone_regulates_the_one_classifier(built):
    _, variables, call = built(**{"cams2i.intra": False})
    assert set(variables["params"]) == {"backbone", "head_1", *FEATURES}
    (loss, aux), gradient = call(PAIR)
    expected = aux.metrics["classification"] + aux.metrics["inter_sample"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", ["squash", "fuse", "scores", "compare"])
def test_unknown_choices_are_refused(name):
    with pytest.raises(UserError, match=rf"cams2i\.{name}: 'other' is not one of '"):
        made("cams2i", **{f"cams2i.{name}": "other"})


# ---------------------------------------------------------------- the frozen network


@pytest.mark.parametrize("freeze", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_network_that_compares_does_not_move(freeze):
    changes = {**PLAIN, **FLAT_RATE, "features.freeze": freeze}
    method, variables = made("cams2i", **changes)
    variables = spread(variables)
    state, tx, labels = state_of(tiny("cams2i", **changes), method, variables, KEY)
    for name in FEATURES:
        parts = {x.split("/")[0] for x in jax.tree.leaves(labels[name])}
        assert parts == {"frozen" if freeze else "features"}
    after, metrics = quick(train_step(method, tx, labels))(state, PAIR)
    assert metrics["pairs"] == 1
    for name, tree in variables["params"].items():
        same = [
            np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(after.params[name]), strict=True)
        ]
        assert all(same) if freeze and name in FEATURES else not any(same), name


def test_gradients_pass_through_the_frozen_network_and_stop_at_its_parameters(built):
    """Even without the optimizer's groups: L_inter moves both heads, and not what compares."""
    # At step 0 the other terms weigh nothing yet.
    _, gradient = built(**WEIGHTS)[2](PAIR, step=0)
    _, plain = built()[2](PAIR, step=0)
    for name in FEATURES:
        assert not any(x.any() for x in jax.tree.leaves(gradient[name]))
    for name in ("head_1", "head_2"):
        more, less = (g[name]["class_maps"]["kernel"] for g in (gradient, plain))
        assert np.abs(more - less).max() > 1e-6


def test_published_weights_reach_the_second_trunk(tmp_path):
    """A torchvision file named in features.weights; its publisher decides the preprocessing."""
    rng = np.random.default_rng(0)
    arrays, before = {}, 3
    for index, after, size in ((0, 8, 11), (3, 24, 5)):
        shape = (after, before, size, size)
        arrays[f"features.{index}.weight"] = rng.normal(size=shape).astype(np.float32)
        arrays[f"features.{index}.bias"] = rng.normal(size=after).astype(np.float32)
        before = after
    save_file(arrays, tmp_path / "alexnet.safetensors")
    config = tiny(
        "cams2i",
        **{
            "features.backbone": "alexnet",
            "features.width": 0.125,
            "features.final_endpoint": "conv2",
            "features.weights": str(tmp_path / "alexnet.safetensors"),
        },
    )
    config = assemble.resolve(config)
    assert config.features.preprocessing == "torch" and config.model.preprocessing == "tf"
    method = methods.build(config, 5)
    params = method.init(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3), jnp.uint8))["params"]
    np.testing.assert_array_equal(
        params["feature_trunk"]["conv2"]["kernel"],
        arrays["features.3.weight"].transpose(2, 3, 1, 0),
    )
    bare = assemble.without_weights(config)
    assert bare.features.weights == "" and config.features.weights


def test_any_endpoint_of_any_backbone_compares():
    for backbone, endpoint, dimension in (
        ("mobilenet_v2", "block_2", 24),
        ("inception_v3", "Mixed_5b", 40),
        ("alexnet", "fc6", 2048),
    ):
        config = tiny("cams2i")
        with config.unlocked():
            config.features.backbone, config.features.final_endpoint = backbone, endpoint
            config.features.width = {"mobilenet_v2": 1.0, "inception_v3": 0.125}.get(backbone, 0.5)
            config.features.projection = 0
        network = cams2i._network(config, 5)
        images = jax.ShapeDtypeStruct((2, 96, 96, 3), jnp.uint8)
        _, features = jax.eval_shape(
            lambda x, n=network: n.init_with_output(jax.random.key(0), x)[0], images
        )
        assert features.shape == (2, dimension) and features.dtype == jnp.float32


# ---------------------------------------------------------------- degenerate batches


@pytest.mark.parametrize(
    "case", ["one a class", "one class", "none valid", "constant maps", "black", "saturated"]
)
def test_degenerate_batches_have_finite_losses_and_gradients(built, case):
    _, variables, call = built()
    batch, pairs = dict(PAIR), 1
    if case == "one a class":
        batch["labels"], pairs = np.eye(5, dtype=np.float32)[[0, 1, 2, 3]], 0
    elif case == "one class":
        batch["labels"], pairs = np.eye(5, dtype=np.float32)[[2, 2, 2, 2]], 3
    elif case == "none valid":
        batch["valid"], pairs = np.zeros(4, bool), 0
    elif case == "constant maps":
        variables = spread(variables, 0.0)
    elif case == "black":
        batch["image"] = np.zeros_like(IMAGES)
    elif case == "saturated":
        variables = spread(variables, 1e6)
    (loss, aux), gradient = call(batch, variables)
    assert np.isfinite(loss) and aux.metrics["pairs"] == pairs
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(aux.metrics))
    if not pairs:
        assert aux.metrics["inter_sample"] == 0
    if case == "constant maps":
        assert aux.metrics["interaction"] == 0
    if case == "none valid":
        assert loss == 0


@pytest.mark.slow
def test_a_single_class_problem(built):
    """C = 1: the softmax knows no other class, the maps still regulate each other."""
    method = methods.build(tiny("cams2i", **PLAIN), 1)
    variables = method.init(KEY, jnp.zeros((1, SIDE, SIDE, 3), jnp.uint8))
    batch = dict(PAIR, labels=np.ones((4, 1), np.float32))
    grad = lambda params: method.loss({**variables, "params": params}, batch, KEY, 9)[0]
    value, gradient = quick(jax.value_and_grad(grad))(variables["params"])
    assert np.isfinite(value)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


# ---------------------------------------------------------------- test time


@pytest.mark.parametrize("fuse", ["mean", "max", "product"])
@pytest.mark.parametrize("scores", ["first", "mean"])
@pytest.mark.parametrize("positive", [False, True])
def test_localization_fuses_stretched_maps(fuse, scores, positive):
    changes = {"cams2i.fuse": fuse, "cams2i.scores": scores, "model.positive_maps": positive}
    config = tiny("cams2i", **PLAIN, **changes, **{"cams2i.inter": False})
    method = methods.build(config, 5)
    variables = shared_variables()
    network = cams2i._network(config, 5)
    outputs = network.apply(variables, jnp.asarray(IMAGES), method="classify")
    (y1, s1), (y2, s2) = jax.tree.map(lambda x: np.asarray(x, np.float64), outputs)
    if positive:
        s1, s2 = np.maximum(s1, 0), np.maximum(s2, 0)
    with np.errstate(invalid="ignore"):  # a clipped map may be all zeros, and stays so
        one, two = (np.nan_to_num(min_max(s)) for s in (s1, s2))
    combine = {"mean": (one + two) / 2, "max": np.maximum(one, two), "product": one * two}
    found = method.localize(variables, jnp.asarray(IMAGES))
    np.testing.assert_allclose(found.maps, combine[fuse], atol=1e-5)
    expected = softmax(y1) if scores == "first" else (softmax(y1) + softmax(y2)) / 2
    np.testing.assert_allclose(jax.nn.softmax(found.logits), expected, atol=1e-5)


def shared_variables(found=[]):  # noqa: B006, made once
    if not found:
        _, variables = made("cams2i", **PLAIN, **{"cams2i.inter": False})
        found.append(spread(variables))
    return found[0]


def test_localization_needs_no_network_that_compares(built):
    method, variables, _ = built()
    params = {k: v for k, v in variables["params"].items() if k not in FEATURES}
    bare = quick(method.localize)({**variables, "params": params}, IMAGES)
    assert_trees_equal(bare, quick(method.localize)(variables, IMAGES))


def test_maps_of_two_sizes_meet_at_the_finer_one():
    config = tiny("cams2i", **PLAIN, **{"cams2i.inter": False})
    network = cams2i._network(config, 5)
    images = jax.ShapeDtypeStruct((2, SIDE, SIDE, 3), jnp.uint8)
    taps = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, method="taps")[0], images
    )
    outputs, _ = jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x)[0], images)
    assert [x.shape[1] for x in taps] == [8, 16]
    assert [maps.shape[1] for _, maps in outputs] == [16, 16]
