"""Two-phase learning on a tiny network: suppression and losses from the equations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from helpers.networks import BATCH, IMAGES, SIDE, assert_trees_equal
from helpers.two_phase import (
    MULTI,
    PHASES,
    PLAIN,
    built,
    network_of,
    outputs,
    sigmoid_loss,
    softmax,
    softmax_loss,
    spread,
    tiny,
    trained,
)

from wsol_jax.base.errors import UserError
from wsol_jax.methods import two_phase

# ---------------------------------------------------------------- suppression


class Tapped(nn.Module):
    """A trunk whose endpoint can be perturbed: the way to dL/dC (eq. 4)."""

    trunk: nn.Module
    endpoint: str

    @nn.compact
    def __call__(self, images, train=False, mask=None):
        found = dict(self.trunk(images, train=train, mask=mask))
        found[self.endpoint] = self.perturb("features", found[self.endpoint])
        return found


@pytest.mark.parametrize("head", ["fcn", pytest.param("cam", marks=pytest.mark.slow)])
def test_suppressed_pixels_get_neither_a_value_nor_a_gradient(head):
    """Eqs. 3 and 4: dL/dC is the mask times dL/dC', which the head alone gives."""
    config = tiny(**{"two_phase.head": head})
    backbone, top = two_phase._parts(config, 5)
    network = two_phase.TwoPhaseNetwork(Tapped(backbone, "conv2_1"), top, "conv2_1", "tf")
    rng = np.random.default_rng(0)
    keep = jnp.asarray(rng.integers(0, 2, (2, 8, 8)), jnp.float32)
    images = jnp.asarray(IMAGES[:2])
    weights = jnp.asarray(rng.normal(size=(2, 5)), jnp.float32)
    variables = quick(lambda: network.init(jax.random.key(0), images))()

    @quick
    def both(variables):
        def loss(taps, keep):
            logits, _ = network.apply({**variables, "perturbations": taps}, images, keep=keep)
            return jnp.sum(logits * weights)

        taps = variables["perturbations"]
        rest = {k: v for k, v in variables.items() if k != "perturbations"}
        x = backbone.apply(
            {k: v["backbone"]["trunk"] for k, v in rest.items() if "backbone" in v},
            two_phase.normalise(images, "tf"),
        )
        x = x["conv2_1"] * keep[..., None]
        below = lambda x: jnp.sum(top.apply({"params": rest["params"]["head"]}, x)[0] * weights)
        return jax.grad(loss)(taps, keep), jax.grad(loss)(taps, None), jax.grad(below)(x)

    with_mask, without, of_head = both(variables)
    (found,), (free,) = jax.tree.leaves(with_mask), jax.tree.leaves(without)
    hidden = np.asarray(keep) == 0
    np.testing.assert_array_equal(np.asarray(found)[hidden], 0)
    assert (np.abs(np.asarray(found)[~hidden]).max(axis=-1) > 0).all()
    assert (np.abs(np.asarray(free)[hidden]).max(axis=-1) > 0).all()
    expected = np.asarray(of_head) * ~hidden[..., None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)


def test_loss_hides_what_the_first_network_lights():
    """first.apply -> eqs. 1 and 2 in float64 -> the second on what is left -> cross-entropy."""
    made = built(**PLAIN)
    (loss, aux), _ = made()
    keep = made.mask(BATCH["labels"])
    valid = BATCH["valid"]
    hidden = (1 - keep).mean(axis=(1, 2))
    assert 0.01 < hidden[valid].mean() < 0.99
    np.testing.assert_allclose(aux.metrics["suppressed"], hidden[valid].mean(), rtol=1e-6)
    logits, _ = outputs(made.own, jnp.asarray(keep, jnp.float32))
    np.testing.assert_allclose(loss, softmax_loss(logits, BATCH), rtol=1e-5)
    free, _ = outputs(made.own)
    assert abs(softmax_loss(free, BATCH) - loss) > 1e-3
    times = SIDE // 8
    picture = np.asarray(aux.pictures["hidden"])
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, (1 - keep).repeat(times, 1).repeat(times, 2))


@pytest.mark.parametrize("layer", ["conv1_1", "conv1_2", "conv2_1:input"])
def test_hidden_at_an_earlier_layer(layer):
    """What lies under a hidden half is nothing to the network, from that layer on."""
    network = network_of(tiny(**{"two_phase.hide_at": layer}))
    variables = trained()["second"]
    keep = np.ones((len(IMAGES), 4, 4), np.float32)
    keep[:, :, 2:] = 0
    look = jax.jit(lambda images, keep: network.apply(variables, images, keep=keep)[0])
    other = {"hidden": IMAGES.copy(), "seen": IMAGES.copy()}
    other["hidden"][:, :, 24:] = 255 - other["hidden"][:, :, 24:]
    other["seen"][:, :, :8] = 255 - other["seen"][:, :, :8]
    expected = look(IMAGES, keep)
    np.testing.assert_array_equal(look(other["hidden"], keep), expected)
    assert np.abs(look(other["seen"], keep) - expected).max() > 1e-3
    assert np.abs(network.apply(variables, IMAGES)[0] - expected).max() > 1e-3
    # Not the same as at the trunk's end: there what is beside the half has seen it.
    at_end = network_of(tiny())
    assert np.abs(at_end.apply(variables, IMAGES, keep=keep)[0] - expected).max() > 1e-4


def test_a_layer_that_is_not_there_is_named():
    network = network_of(tiny(**{"two_phase.hide_at": "conv1_3"}))
    with pytest.raises(UserError, match=r"^two_phase.hide_at: .*0 layers named 'conv1_3'.*did"):
        network.apply(trained()["second"], IMAGES, keep=jnp.ones((len(IMAGES), 8, 8)))
    # The first phase hides nothing, but the others are only trained after it.
    with pytest.raises(UserError, match="0 layers named 'conv1_3'"):
        jax.eval_shape(network.init, jax.random.key(0), IMAGES)


def test_several_labels_hide_more_and_learn_by_the_sigmoid():
    made = built(**PLAIN, **{"data.multi_label": True})
    loss, aux = made.loss(made.variables, MULTI)
    keep = made.mask(MULTI["labels"])
    valid = MULTI["valid"]
    one = np.eye(5)[MULTI["labels"].argmax(axis=1)]
    assert keep[valid].sum() < made.mask(one)[valid].sum()
    expected = (1 - keep).mean(axis=(1, 2))[valid].mean()
    np.testing.assert_allclose(aux.metrics["suppressed"], expected, rtol=1e-6)
    logits, _ = outputs(made.own, jnp.asarray(keep, jnp.float32))
    np.testing.assert_allclose(loss, sigmoid_loss(logits, MULTI), rtol=1e-5)
    hit = MULTI["labels"][np.arange(4), logits.argmax(axis=1)]
    assert aux.metrics["accuracy"] == pytest.approx(hit[valid].mean())


def test_the_first_network_looks_as_in_inference():
    """While the second trains with dropout and moving statistics, the first has neither."""
    made = built(**{"model.dropout": 0.5, "model.batch_norm": "batch"})
    (_, aux), gradient = made()
    expected = (1 - made.mask(BATCH["labels"])).mean(axis=(1, 2))[BATCH["valid"]].mean()
    np.testing.assert_allclose(aux.metrics["suppressed"], expected, rtol=1e-6)
    assert set(aux.collections) == {"batch_stats"}
    moved = jax.tree.map(
        lambda a, b: (a != b).any(), aux.collections["batch_stats"], made.own["batch_stats"]
    )
    assert all(jax.tree.leaves(moved))
    # And even without the optimizer's leave nothing would move it.
    assert not any(x.any() for x in jax.tree.leaves(gradient["first"]))
    assert np.abs(gradient["params"]["head"]["class_maps"]["kernel"]).max() > 0


def test_padded_rows_change_nothing():
    """Garbage in an invalid row moves neither loss nor gradient, statistics nor figures."""
    made = built(**{"model.dropout": 0.5, "model.batch_norm": "batch"})
    other = dict(BATCH, image=IMAGES.copy(), labels=BATCH["labels"].copy())
    other["image"][3] = np.random.default_rng(1).integers(0, 2, (SIDE, SIDE, 3)) * 255
    for labels in (0.0, 1.0):
        other["labels"][3] = labels
        (loss, aux), gradient = made()
        (loss2, aux2), gradient2 = made(other)
        assert loss == loss2 and np.isfinite(loss)
        assert_trees_equal(gradient, gradient2)
        assert_trees_equal(aux.collections, aux2.collections)
        assert_trees_equal(aux.metrics, aux2.metrics)


@pytest.mark.parametrize(
    "case", ["nothing found", "all found", "negative", "saturated", "none valid"]
)
def test_degenerate_maps_have_finite_losses_and_gradients(case):
    made = built(**PLAIN)
    batch, first = BATCH, made.each["first"]
    hidden = None
    if case == "nothing found":
        first, hidden = spread(first, 0.0), 0.0
    elif case == "all found":  # a constant map: every pixel is its maximum
        first, hidden = spread(first, 0.0, bias=2.0), 1.0
    elif case == "negative":
        first, hidden = spread(first, 1.0, bias=-1e6), 0.0
    elif case == "saturated":
        first = spread(first, 1e6)
    elif case == "none valid":
        batch, hidden = dict(BATCH, valid=np.zeros(4, bool)), 0.0
    (loss, aux), gradient = made(batch, first=first)
    assert np.isfinite(loss)
    for tree in (gradient, aux.metrics, aux.pictures):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(tree))
    if hidden is not None:
        assert aux.metrics["suppressed"] == hidden
    if case == "all found":  # what is left says nothing of the image
        logits, _ = outputs(made.own, jnp.zeros((4, 8, 8)))
        np.testing.assert_allclose(loss, softmax_loss(logits, BATCH), rtol=1e-5)
        assert not any(x.any() for x in jax.tree.leaves(gradient["params"]["backbone"]))
    if case in ("nothing found", "negative"):
        logits, _ = outputs(made.own)
        np.testing.assert_allclose(loss, softmax_loss(logits, BATCH), rtol=1e-5)


def test_a_shared_trunk_is_the_first_networks_head_on_the_seconds_trunk():
    frozen = {"model.freeze_until": "all", **PLAIN}
    apart, shared = built(**frozen), built(**frozen, **{"two_phase.share_trunk": True})
    theirs = shared.variables["first"]["params"]
    alike = {"backbone": shared.variables["params"]["backbone"], "head": theirs["head"]}
    same = {**shared.variables["first"], "params": alike}
    if "batch_stats" in same:
        same["batch_stats"] = shared.variables["batch_stats"]
    (expected, _), _ = apart(first=same)
    (found, _), _ = shared()
    assert float(found) == float(expected)


def test_a_trunk_that_moves_is_not_shared():
    (expected, _), _ = built(**PLAIN)()
    (found, _), _ = built(**PLAIN, **{"two_phase.share_trunk": True})()
    assert float(found) == float(expected)


def test_phase_one_hides_nothing():
    made = built("first", **PLAIN)
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.uint8)
    variables = jax.eval_shape(made.method.init, jax.random.key(0), images)
    assert set(variables) == {"params", "batch_stats"}
    loss, aux = made.loss(made.variables, BATCH)
    assert set(aux.metrics) == {"loss", "accuracy"} and set(aux.pictures) == {"first map"}
    logits, _ = outputs(made.own)
    np.testing.assert_allclose(loss, softmax_loss(logits, BATCH), rtol=1e-5)


def test_phase_three_hides_what_either_of_two_found():
    """Section 3.5: the first at 60%, the second at the lower threshold of 40%."""
    made = built("third", **PLAIN)
    assert set(made.each) == {"first", "second"}
    (loss, aux), gradient = made()
    keep = made.mask(BATCH["labels"])
    valid = BATCH["valid"]
    expected = (1 - keep).mean(axis=(1, 2))[valid].mean()
    np.testing.assert_allclose(aux.metrics["suppressed"], expected, rtol=1e-6)
    for other in ((0.6,), (0.4, 0.6), (0.6, 0.6)):
        hidden = 1 - made.mask(BATCH["labels"], other)
        assert hidden.mean(axis=(1, 2))[valid].mean() != pytest.approx(expected)
    logits, _ = outputs(made.own, jnp.asarray(keep, jnp.float32))
    np.testing.assert_allclose(loss, softmax_loss(logits, BATCH), rtol=1e-5)
    assert not any(x.any() for n in ("first", "second") for x in jax.tree.leaves(gradient[n]))
    assert set(aux.pictures) == {"first map", "second map", "hidden", "third map", "vote"}
    # Each of the two has its say.
    for name in ("first", "second"):
        (_, other), _ = made(**{name: spread(made.each[name], 0.0)})
        assert other.metrics["suppressed"] < aux.metrics["suppressed"]
    found = quick(made.method.localize)(made.variables, IMAGES)
    assert set(found.parts) == set(PHASES)
    # Two voters of three, as the paper's figures: the third's maps are only shown.
    voted = [
        softmax(outputs(made.each[n])[0])[:, None, None] * outputs(made.each[n])[1]
        for n in ("first", "second")
    ]
    np.testing.assert_allclose(found.maps, np.maximum(*voted), rtol=1e-4, atol=1e-5)
