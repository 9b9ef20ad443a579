"""SEC's segmenter on a tiny network: its losses, its CRF, its maps, and gradient saliency."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_methods import IMAGES, KEY, SIDE, assert_trees_equal

from configs import sec as sec_config
from configs import two_phase as two_phase_config
from wsol_jax import methods
from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.losses import sec as losses
from wsol_jax.methods import sec, shared
from wsol_jax.methods.explain import gradient_saliency, tapper
from wsol_jax.networks.heads import LargeFovHead
from wsol_jax.ops.crf import dense_crf
from wsol_jax.runs import plan as assemble
from wsol_jax.stages import recipe as stages

RNG = np.random.default_rng(0)
CELLS = 8  # of 32 pixels, at this trunk's stride
# These networks take longer to compile than to run.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def tiny(**changes):
    """Three narrow layers of VGG16 and a narrow head: the config of the stage "segment"."""
    config = sec_config.get_config("cub,backbone=vgg16,weights=none,width=0.1,size=32")
    config = stages.stage_config(config, "segment")
    with config.unlocked():
        config.model.final_endpoint = "conv2_1"
        config.model.trunk = {"normalise": True, "stem_stride": 2}
        config.model.preprocessing, config.dtype = "tf", "float32"
        config.sec.cells = 2 * CELLS
        config.sec.channels, config.sec.dilation, config.sec.dropout = 16, 2, 0.0
        config.sec.bilateral, config.sec.spatial = (4.0, 3.0, 40.0), (2.0, 1.0)
        config.sec.iterations = 3
        config.update_from_flattened_dict(changes)
    return config


BATCH = {
    "image": IMAGES,
    "labels": np.array([[1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0] * 5, [1] * 5], np.float32),
    "valid": np.array([True, True, True, False]),
    "cues": RNG.choice([0, 1, 2, 3, 4, 5, 255], size=(4, 2 * CELLS, 2 * CELLS)).astype(np.uint8),
}
BATCH["cues"][2] = 255


def spread(variables):
    """Scores that differ between cells and classes: fresh ones are all but flat."""
    head = variables["params"]["head"]
    fc8 = {"kernel": head["fc8"]["kernel"] * 60, "bias": jnp.linspace(-1.0, 1.0, 6)}
    return {**variables, "params": {**variables["params"], "head": {**head, "fc8": fc8}}}


@functools.cache
def variables():
    method = methods.build(tiny(), 5)
    return spread(method.init(jax.random.key(1), jnp.asarray(IMAGES[:1])))


@functools.cache
def built(**changes):
    """(variables, batch) -> ((loss, aux), gradient of the parameters)."""
    method = methods.build(tiny(**changes), 5)

    def total(params, rest, batch, rng):
        return method.loss({"params": params, **rest}, batch, rng, jnp.asarray(3))

    call = quick(jax.value_and_grad(total, has_aux=True))

    def run(batch=BATCH, rng=KEY):
        rest = {k: v for k, v in variables().items() if k != "params"}
        return call(variables()["params"], rest, batch, rng)

    return run


@functools.cache
def network():
    config = tiny()
    from wsol_jax.networks import backbones

    head = LargeFovHead(num_classes=6, channels=16, dilation=2, dropout=0.0)
    trunk = backbones.build(config.model, jnp.float32)
    return shared.TrunkAndHead(trunk, head, "conv2_1", "tf")


@functools.cache
def scores():
    """Before softmax, of the whole batch."""
    return quick(network().apply)(variables(), jnp.asarray(IMAGES))


probabilities = quick(losses.segmenter_probabilities, static_argnums=1)
expand_loss = quick(losses.expand_loss, static_argnames=("foreground", "background"))


def mean_valid(values):
    return np.asarray(values, np.float64)[BATCH["valid"]].mean()


@functools.cache
def crf_target():
    """The CRF's answer on raw scores and shrunk photos, clipped and renormalised."""
    small = jax.image.resize(
        IMAGES.astype(np.float32), (4, CELLS, CELLS, 3), "bilinear", antialias=False
    )
    settings = dict(bilateral=(4.0, 3.0, 40.0), spatial=(2.0, 1.0), iterations=3)
    call = quick(lambda unary, photos: dense_crf(unary, photos, **settings))
    found = call(-scores(), jnp.round(small).astype(jnp.uint8))
    found = np.maximum(np.asarray(found, np.float64), 1e-4)
    return found / found.sum(axis=-1, keepdims=True)


# ---------------------------------------------------------------- the published network


@pytest.mark.parametrize("words", ["voc,weights=none", "voc,weights=none,width=0.1"])
def test_published_network(words):
    """facts/segmentation.md, 1: 321 -> 161 -> 81 -> 41; fc6, fc7 of 1024; 21 classes."""
    config = stages.stage_config(sec_config.get_config(words), "segment")
    method = methods.build(config, 20)
    images = jax.ShapeDtypeStruct((2, 321, 321, 3), jnp.uint8)
    shapes = jax.eval_shape(method.init, jax.random.key(0), images)
    found = jax.eval_shape(method.localize, shapes, images)
    assert found.maps.shape == (2, 41, 41, 20) and found.logits.shape == (2, 20)
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
    """facts/segmentation.md, 1, "SEC segmenter"; and two-phase learning's seed + constrain."""
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


# ---------------------------------------------------------------- the head


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
    x = RNG.normal(size=(2, 5, 7, 3))
    found, params = quick(head.init_with_output)(jax.random.key(0), jnp.asarray(x, jnp.float32))
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params["params"])
    mean = np.ones((3, 3, 1, 1)) / 9 * np.eye(3)
    y = conv_by_hand(x, mean, 0) if average else x
    y = np.maximum(conv_by_hand(y, *(params["fc6"][k] for k in ("kernel", "bias")), dilation), 0)
    y = np.maximum(conv_by_hand(y, *(params["fc7"][k] for k in ("kernel", "bias"))), 0)
    y = conv_by_hand(y, *(params["fc8"][k] for k in ("kernel", "bias")))
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-6)
    assert found.shape == (2, 5, 7, 4) and found.dtype == jnp.float32


def test_the_head_drops_in_training_alone():
    head = LargeFovHead(num_classes=4, channels=64, dilation=1, dropout=0.5)
    x = jnp.asarray(RNG.normal(size=(1, 4, 4, 3)), jnp.float32)
    plain, params = quick(head.init_with_output)(jax.random.key(0), x)
    np.testing.assert_array_equal(quick(head.apply)(params, x), plain)
    train = quick(lambda key: head.apply(params, x, train=True, rngs={"dropout": key}))
    one, other = (train(jax.random.key(i)) for i in range(2))
    assert (one != plain).any() and (one != other).any()


def test_bfloat16_keeps_float32_scores():
    head = LargeFovHead(num_classes=4, channels=6, dilation=1, dtype=jnp.bfloat16)
    x = jax.ShapeDtypeStruct((1, 4, 4, 3), jnp.float32)
    found, params = jax.eval_shape(head.init_with_output, jax.random.key(0), x)
    assert {a.dtype for a in jax.tree.leaves((found, params))} == {np.dtype("float32")}


# ---------------------------------------------------------------- the loss


def test_loss_is_the_sum_of_the_three():
    """From the network's scores: cues nearest to each cell, background shown by every image."""
    (loss, aux), gradient = built()()
    probs = probabilities(scores())
    assert probs.shape == (4, CELLS, CELLS, 6)
    # Twice as many cues as cells, each way: the nearest of a cell's centre is the second.
    cues = BATCH["cues"][:, 1::2, 1::2]
    one_hot = (cues[..., None] == np.arange(6)).astype(np.float32)
    shown = np.concatenate([np.ones((4, 1)), BATCH["labels"]], axis=1)
    expected = {
        "seed": mean_valid(quick(losses.seed_loss)(probs, one_hot)),
        "expand": mean_valid(expand_loss(probs, jnp.asarray(shown, jnp.float32))),
        "constrain": mean_valid(quick(losses.constrain_loss)(probs, jnp.asarray(crf_target()))),
    }
    assert set(aux.metrics) == {"loss", *expected}
    for name, value in expected.items():
        np.testing.assert_allclose(aux.metrics[name], value, rtol=1e-4, err_msg=name)
        assert value > 1e-3
    np.testing.assert_allclose(loss, sum(expected.values()), rtol=1e-4)
    assert aux.metrics["loss"] == loss
    assert all(np.isfinite(x).all() and np.any(x) for x in jax.tree.leaves(gradient))


def test_weights_multiply_the_losses():
    (_, plain), _ = built()()
    changes = {"sec.seed": 0.5, "sec.expand": 2.0, "sec.constrain": 3.0}
    method = methods.build(tiny(**changes), 5)
    loss, aux = quick(method.loss)(variables(), BATCH, KEY, 0)
    for name in ("seed", "expand", "constrain"):
        np.testing.assert_allclose(aux.metrics[name], plain.metrics[name], rtol=1e-5)
    expected = sum(changes[f"sec.{name}"] * plain.metrics[name] for name in ("seed", "expand"))
    np.testing.assert_allclose(loss, expected + 3 * plain.metrics["constrain"], rtol=1e-5)


def test_decays_and_floor_are_the_configs():
    changes = {"sec.foreground": 0.5, "sec.background": 0.9, "sec.floor": 0.01, "sec.constrain": 0}
    changes["sec.seed"] = 0
    loss, _ = quick(methods.build(tiny(**changes), 5).loss)(variables(), BATCH, KEY, 0)
    probs = probabilities(scores(), 0.01)
    shown = np.concatenate([np.ones((4, 1), np.float32), BATCH["labels"]], axis=1)
    value = expand_loss(probs, shown, foreground=0.5, background=0.9)
    np.testing.assert_allclose(loss, mean_valid(value), rtol=1e-4)


@pytest.mark.parametrize("name", ["seed", "expand", "constrain"])
def test_a_loss_of_weight_0_is_not_computed(monkeypatch, name):
    def fail(*args, **options):
        raise AssertionError(f"{name} was computed")

    monkeypatch.setattr(losses, f"{name}_loss", fail)
    if name == "constrain":
        monkeypatch.setattr(sec, "dense_crf", fail)
    method = methods.build(tiny(**{f"sec.{name}": 0.0}), 5)
    _, aux = jax.eval_shape(method.loss, variables(), BATCH, KEY, 0)
    assert set(aux.metrics) == {"loss", "seed", "expand", "constrain"} - {name}
    with pytest.raises(AssertionError, match=f"{name} was computed"):
        jax.eval_shape(methods.build(tiny(), 5).loss, variables(), BATCH, KEY, 0)


def test_the_constrain_loss_has_no_gradient_through_the_crf():
    """Its gradient is that of a target which somebody wrote down."""
    method = methods.build(tiny(**{"sec.seed": 0.0, "sec.expand": 0.0}), 5)
    given = jnp.asarray(crf_target(), jnp.float32)
    valid = jnp.asarray(BATCH["valid"])
    rest = {k: v for k, v in variables().items() if k != "params"}

    def constrain(head):
        params = {**variables()["params"], "head": head}
        return method.loss({"params": params, **rest}, BATCH, KEY, 0)

    head = variables()["params"]["head"]
    (_, aux), gradient = quick(jax.value_and_grad(constrain, has_aux=True))(head)

    def total(head, through):
        params = {**variables()["params"], "head": head}
        out = network().apply(
            {"params": params, **rest}, IMAGES, train=True, valid=valid, mutable=["batch_stats"]
        )[0]
        probs = losses.segmenter_probabilities(out)
        target = given
        if through:
            photos = jnp.asarray(IMAGES, jnp.float32)
            shape = (4, CELLS, CELLS, 3)
            small = jax.image.resize(photos, shape, "bilinear", antialias=False)
            target = dense_crf(
                -out,
                jnp.round(small).astype(jnp.uint8),
                bilateral=(4.0, 3.0, 40.0),
                spatial=(2.0, 1.0),
                iterations=3,
            )
        each = jnp.mean(jnp.sum(target * jnp.log(target / probs), axis=-1), axis=(1, 2))
        return jnp.sum(each * valid) / jnp.sum(valid)

    call = quick(jax.value_and_grad(total), static_argnums=1)
    value, expected = call(head, False)
    np.testing.assert_allclose(aux.metrics["constrain"], value, rtol=1e-4)
    close = lambda other: [
        np.allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())
        for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(other), strict=True)
    ]
    assert all(close(expected))
    # It would be another with the CRF in it.
    assert not any(close(call(head, True)[1]))


def test_padded_rows_change_nothing():
    """Whatever photo, labels and cues stand in a row that is not valid."""
    (loss, aux), gradient = built()()
    other = {name: value.copy() for name, value in BATCH.items()}
    other["image"][3] = RNG.integers(0, 2, (SIDE, SIDE, 3)) * 255
    other["labels"][3], other["cues"][3] = 0, 255
    (loss2, aux2), gradient2 = built()(other)
    assert loss == loss2 and np.isfinite(loss)
    assert_trees_equal(gradient, gradient2)
    assert_trees_equal(aux.metrics, aux2.metrics)


def test_a_batch_without_a_cue_is_finite():
    batch = dict(BATCH, cues=np.full_like(BATCH["cues"], 255))
    (_, aux), gradient = built()(batch)
    assert aux.metrics["seed"] == 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((aux.metrics, gradient)))


def test_cues_are_read_at_the_nearest_cell():
    cues = RNG.integers(0, 256, (2, 41, 41), dtype=np.uint8)
    for size in ((41, 41), (20, 20), (41, 30), (82, 41)):
        found = sec._at(jnp.asarray(cues), size)
        assert found.dtype == jnp.uint8
        rows, columns = (((np.arange(n) + 0.5) * 41 / n).astype(int) for n in size)
        np.testing.assert_array_equal(found, cues[:, rows][:, :, columns])


# ---------------------------------------------------------------- one device and eight


def test_eight_devices_equal_one():
    """Loss and gradient of a batch that is split, its cues and the CRF in it: the sums' order."""
    method = methods.build(tiny(**{"sec.dropout": 0.5}), 5)
    rows = np.tile(np.arange(4), 2)
    batch = {name: np.array(value[rows]) for name, value in BATCH.items()}
    batch["image"][4:] = 255 - batch["image"][4:]

    def total(params, rest, batch):
        return method.loss({"params": params, **rest}, batch, KEY, 0)

    call = quick(jax.value_and_grad(total, has_aux=True))
    found = []
    for devices in (1, 8):
        mesh = sharding.data_mesh(devices)
        given = sharding.to_devices(batch, mesh)
        assert len(given["cues"].sharding.device_set) == devices
        rest = sharding.replicate(dict(variables()), mesh)
        (_, aux), gradient = call(rest.pop("params"), rest, given)
        found.append((jax.tree.map(float, aux.metrics), jax.tree.map(np.asarray, gradient)))
    (metrics, gradient), (metrics8, gradient8) = found
    for name, value in metrics.items():
        np.testing.assert_allclose(metrics8[name], value, rtol=1e-4, err_msg=name)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(gradient8), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-4 * np.abs(a).max(), rtol=1e-4)
        assert np.abs(a).max() > 0


# ---------------------------------------------------------------- what it says of an image


def test_localize_gives_probabilities():
    method = methods.build(tiny(), 5)
    assert method.segments
    found = quick(method.localize)(variables(), IMAGES)
    raw = np.asarray(scores(), np.float64)
    probs = np.exp(raw - raw.max(axis=-1, keepdims=True))
    probs /= probs.sum(axis=-1, keepdims=True)
    assert found.maps.shape == (4, CELLS, CELLS, 5) and not found.parts
    np.testing.assert_allclose(found.maps, probs[..., 1:], rtol=1e-4, atol=1e-6)
    background = 1 - np.asarray(found.maps).sum(axis=-1)
    np.testing.assert_allclose(background, probs[..., 0], rtol=1e-3, atol=1e-5)
    peak = probs[..., 1:].max(axis=(1, 2))
    np.testing.assert_allclose(jax.nn.sigmoid(found.logits), peak, rtol=1e-4)


def test_localize_of_a_segmenter_that_is_sure():
    """A probability of 1, or of 0: a score that is a number."""
    params = variables()["params"]
    fc8 = {
        "kernel": jnp.zeros_like(params["head"]["fc8"]["kernel"]),
        "bias": jnp.array([0.0, 500.0, -500, 0, 0, 0]),
    }
    sure = {**variables(), "params": {**params, "head": {**params["head"], "fc8": fc8}}}
    method = methods.build(tiny(), 5)
    found = quick(method.localize)(sure, IMAGES)
    assert np.isfinite(found.logits).all()
    assert (found.maps[..., 0] == 1).all() and (found.maps[..., 1] == 0).all()
    assert (found.logits[:, 0] > 10).all() and (found.logits[:, 1] < -10).all()


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
        ({"sec.seed": -1.0}, r"sec\.seed.*expected weights of 0 or more.*\(-1\.0, 1\.0, 1\.0\)"),
        ({"sec.seed": 0.0, "sec.expand": 0.0, "sec.constrain": 0.0}, "one above 0"),
        ({"sec.expand": float("nan")}, "expected weights of 0 or more"),
        ({"sec.cells": 0}, r"sec\.cells: expected cells a side, got 0"),
        ({"sec.floor": 0.0}, r"sec\.floor: expected more than 0"),
        ({"sec.foreground": 1.5}, r"sec\.foreground: expected a decay in \[0, 1\], got 1\.5"),
        ({"sec.background": -0.1}, r"sec\.background: expected a decay in \[0, 1\], got -0\.1"),
    ],
)
def test_mistakes_are_one_sentence(changes, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        methods.build(tiny(**changes), 5)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


# ---------------------------------------------------------------- gradient saliency


class Small(nn.Module):
    """A layer, a ReLU, another layer with a stride, a ReLU, and scores of all cells."""

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(4, (3, 3), name="one")(images / 255))
        x = nn.relu(nn.Conv(6, (3, 3), strides=2, name="two")(x))
        return nn.Dense(3, name="scores")(x.reshape(len(x), -1)), x


PHOTOS = RNG.integers(0, 256, (3, 10, 8, 3)).astype(np.float32)


@functools.cache
def small_variables():
    return quick(Small().init)(jax.random.key(0), PHOTOS)


def explained(network, variables):
    """A network whose first output is its class scores, as an explanation sees it."""
    tap = tapper(lambda v, x: network.apply(v, x)[0])
    return methods.Trained(methods.Method(None, None, None, None, tap=tap), variables)


def convolved(x, layer, stride=1):
    out = jax.lax.conv_general_dilated(
        x, layer["kernel"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return out + layer["bias"]


def by_hand_saliency(layer):
    """The network written out behind ``layer``, its gradient there, and the median in NumPy."""
    params = small_variables()["params"]
    behind_two = lambda z: jnp.sum(
        nn.relu(z).reshape(len(z), -1) @ params["scores"]["kernel"] + params["scores"]["bias"]
    )
    one = convolved(PHOTOS / 255, params["one"])
    two = lambda z: convolved(nn.relu(z), params["two"], 2)
    if layer == "one":
        gradient = quick(jax.grad(lambda z: behind_two(two(z))))(one)
    else:
        gradient = quick(jax.grad(behind_two))(two(one))
    height = np.abs(np.asarray(gradient)).max(axis=-1)
    padded = np.pad(height, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.median(windows, axis=(-2, -1))


@pytest.mark.parametrize("layer, shape", [("one", (3, 10, 8)), ("two", (3, 5, 4))])
def test_saliency_is_the_gradient_before_the_relu(layer, shape):
    salient = lambda v, x: gradient_saliency(explained(Small(), v), x, layer)
    found = quick(salient)(small_variables(), PHOTOS)
    assert found.shape == shape and found.dtype == jnp.float32
    expected = by_hand_saliency(layer)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert expected.std() > 1e-4 and (np.asarray(found) >= 0).all()


def test_saliency_of_an_image_does_not_depend_on_its_batch():
    network = explained(Small(), small_variables())
    call = quick(lambda photos: gradient_saliency(network, photos, "one"))
    whole = call(PHOTOS)
    for n in range(3):
        np.testing.assert_allclose(call(PHOTOS[n : n + 1])[0], whole[n], rtol=1e-4, atol=1e-7)


def test_saliency_of_a_method_is_its_own_networks():
    """In phase two: of the network that is being trained, not of the one that hides."""
    config = two_phase_config.get_config("cub,backbone=vgg16,weights=none,width=0.1,size=32")
    config = stages.stage_config(config, "second")
    with config.unlocked():
        config.two_phase.head, config.model.final_endpoint = "cam", "conv2_1"
        config.model.trunk = {"normalise": True, "stem_stride": 2}
        config.model.preprocessing, config.model.head_channels = "tf", 8
    method = methods.build(config, 5)
    start = method.init(jax.random.key(0), jnp.asarray(IMAGES[:1]))
    call = quick(lambda v, x: gradient_saliency(methods.Trained(method, v), x, "conv1_2"))
    found = call(start, IMAGES)
    assert found.shape == (4, 16, 16)
    zero = jax.tree.map(jnp.zeros_like, start["first"])
    np.testing.assert_array_equal(call({**start, "first": zero}, IMAGES), found)
    changed = {**start, "params": jax.tree.map(lambda x: 1.1 * x, start["params"])}
    assert (call(changed, IMAGES) != found).any()


class Twice(nn.Module):
    """Two parts that name a layer alike, one that is used twice, and one that is no image."""

    @nn.compact
    def __call__(self, images):
        inner = lambda name: nn.Sequential([nn.Conv(3, (1, 1), name="same")], name=name)
        shared = nn.Conv(3, (1, 1), name="shared")
        x = shared(shared(Small(name="whole")(images)[1][..., :3]))
        return nn.Dense(2, name="flat")(x.mean(axis=(1, 2))), inner


@pytest.mark.parametrize(
    "network, layer, count",
    [
        (Small(), "conv9_9", 0),
        (Small(), "", 0),
        (Twice(), "shared", 2),
        (Small(), "scores", 0),  # the layer of the class scores has no cells
        (Twice(), "whole", 0),  # a part that gives several things
    ],
)
def test_a_layer_that_is_none_is_refused(network, layer, count):
    start = jax.eval_shape(network.init, jax.random.key(0), PHOTOS)
    with pytest.raises(UserError, match=rf"the network has {count} layers named '{layer}'"):
        jax.eval_shape(lambda v: gradient_saliency(explained(network, v), PHOTOS, layer), start)
