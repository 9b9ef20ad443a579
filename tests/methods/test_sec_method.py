"""SEC's segmenter on a tiny network: its losses, its CRF, its maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from helpers.networks import IMAGES, KEY
from helpers.sec import (
    BATCH,
    CELLS,
    assert_padding_changes_nothing,
    built,
    crf_target,
    expand_loss,
    mean_valid,
    network,
    probabilities,
    scores,
    tiny,
    variables,
)

from wsol_jax import methods
from wsol_jax.base import sharding
from wsol_jax.losses import sec as losses
from wsol_jax.methods import shared
from wsol_jax.ops.crf import dense_crf

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
        monkeypatch.setattr(shared, "crf_target", fail)
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
        (out, _), _ = network().apply(
            {"params": params, **rest}, IMAGES, train=True, valid=valid, mutable=["batch_stats"]
        )
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
    assert_padding_changes_nothing(built())


def test_a_batch_without_a_cue_is_finite():
    batch = dict(BATCH, cues=np.full_like(BATCH["cues"], 255))
    (_, aux), gradient = built()(batch)
    assert aux.metrics["seed"] == 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((aux.metrics, gradient)))


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
    found = quick(method.localize)(variables(), IMAGES)
    maps = found.maps.probabilities
    raw = np.asarray(scores(), np.float64)
    probs = np.exp(raw - raw.max(axis=-1, keepdims=True))
    probs /= probs.sum(axis=-1, keepdims=True)
    assert isinstance(found.maps, methods.Segmentation)
    assert maps.shape == (4, CELLS, CELLS, 5) and not found.parts
    np.testing.assert_allclose(maps, probs[..., 1:], rtol=1e-4, atol=1e-6)
    background = 1 - np.asarray(maps).sum(axis=-1)
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
    assert (found.maps.probabilities[..., 0] == 1).all() and (
        found.maps.probabilities[..., 1] == 0
    ).all()
    assert (found.logits[:, 0] > 10).all() and (found.logits[:, 1] < -10).all()
