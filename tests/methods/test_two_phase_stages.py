"""Two-phase learning over its stages: what training leaves as it was, and how networks vote."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from helpers.networks import BATCH, FLAT_RATE, IMAGES, SIDE, assert_trees_equal, sigmoid
from helpers.two_phase import PLAIN, built, outputs, softmax, tiny, trained

from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.runs import plan as assemble
from wsol_jax.stages.product import own_network

# ---------------------------------------------------------------- training


def test_training_the_second_leaves_the_first_as_it_was():
    """Through the state and the step of a run: bit for bit, statistics included."""
    changes = {**FLAT_RATE, "model.batch_norm": "batch", "model.dropout": 0.5}
    second = methods.build(tiny(**changes), 5)
    config, given = tiny(**changes), trained()["first"]
    plan = assemble.Plan(12, 4, 4, 10, 0, 3)
    state, step, _ = assemble.create_state(config, second, plan, None, {"first": given})
    before = jax.tree.map(np.array, (state.params, state.collections))
    assert_trees_equal(before[1]["first"], given)
    # Nor does it carry momentum for it.
    leaves = jax.tree.leaves(state.params)
    momentum = [x for x in jax.tree.leaves(state.opt_state) if np.ndim(x)]
    assert len(momentum) == len(leaves)
    step = quick(step, donate_argnums=0)
    for _ in range(4):
        state, metrics = step(state, BATCH)
        assert np.isfinite(metrics["loss"]) and 0 < metrics["suppressed"] < 1
    assert_trees_equal(state.collections["first"], given)
    assert state.collections["first"].keys() == given.keys()
    own = (state.params, {"batch_stats": state.collections["batch_stats"]})
    was = (before[0], {"batch_stats": before[1]["batch_stats"]})
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(own), jax.tree.leaves(was), strict=True
    ):
        assert (np.asarray(a) != b).any(), jax.tree_util.keystr(path)


def test_an_earlier_network_of_other_shapes_is_refused():
    config = tiny("second")
    wide = methods.build(tiny("first", **{"model.head_channels": 24}), 5)
    images = jnp.asarray(IMAGES[:1])
    network = jax.eval_shape(wide.init, jax.random.key(0), images)
    network = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), network)
    plan = assemble.Plan(12, 4, 4, 10, 0, 3)
    with pytest.raises(UserError, match=r"stage 'first' has .*24.*16.*same model section"):
        assemble.create_state(config, methods.build(config, 5), plan, None, {"first": network})


def test_a_network_that_hid_another_is_handed_on_without_it():
    """What phase two's checkpoint holds of phase one is no part of the second network."""
    config, first = tiny("third"), trained()["first"]
    method = methods.build(config, 5)
    plan = assemble.Plan(12, 4, 4, 10, 0, 3)
    checkpoint = {**trained()["second"], "first": first}
    handed = own_network(checkpoint, tiny("second").reads)
    assert handed is not checkpoint and handed.keys() == first.keys()
    start = lambda **given: assemble.create_state(config, method, plan, None, given)[0]
    shapes = jax.eval_shape(functools.partial(start, first=first, second=handed))
    assert shapes.collections.keys() == {"batch_stats", "first", "second"}
    with pytest.raises(UserError, match="network of stage 'second' has"):
        jax.eval_shape(functools.partial(start, first=first, second=checkpoint))


def test_fresh_second_networks_start_from_the_same_values_as_the_first():
    """The start weights of the first are the natural reading for the second's."""
    one, two = (methods.build(tiny(name), 5) for name in ("first", "second"))
    images = jnp.asarray(IMAGES[:1])
    start = one.init(jax.random.key(5), images)
    variables = two.init(jax.random.key(5), images)
    assert_trees_equal(variables["params"], start["params"])
    assert_trees_equal(variables["first"], start)


# ---------------------------------------------------------------- test time


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize("positive", [False, True])
def test_localization_votes(scores, positive):
    """Eq. 5, from the maps and class scores of two networks that see the whole image."""
    made = built(**PLAIN)
    changes = {**PLAIN, "model.scores": scores, "model.positive_maps": positive}
    method = methods.build(tiny(**changes), 5)
    found = quick(method.localize)(made.variables, IMAGES)
    sure = softmax if scores == "softmax" else sigmoid
    weighted = []
    for name, variables in (("first", made.each["first"]), ("second", made.own)):
        logits, maps = outputs(variables)
        maps = np.maximum(maps, 0) if positive else maps
        np.testing.assert_allclose(found.parts[name], maps, rtol=1e-4, atol=1e-5)
        weighted.append(sure(logits)[:, None, None, :] * maps)
    np.testing.assert_allclose(found.maps, np.maximum(*weighted), rtol=1e-4, atol=1e-5)
    assert (weighted[0] > weighted[1]).any() and (weighted[0] < weighted[1]).any()
    np.testing.assert_allclose(found.logits, outputs(made.each["first"])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("voters", [("first",), ("second",), ("second", "first")])
def test_voters_are_a_choice(voters):
    made = built(**PLAIN)
    method = methods.build(tiny(**PLAIN, **{"two_phase.voters": voters}), 5)
    found = quick(method.localize)(made.variables, IMAGES)
    each = {"first": outputs(made.each["first"]), "second": outputs(made.own)}
    weighted = [softmax(each[n][0])[:, None, None] * each[n][1] for n in voters]
    np.testing.assert_allclose(found.maps, np.max(weighted, axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.logits, each[voters[0]][0], rtol=1e-4, atol=1e-5)
    assert set(found.parts) == {"first", "second"}


def test_pictures_show_both_maps_the_mask_and_the_vote():
    made = built(**PLAIN)
    (_, aux), _ = made()
    assert set(aux.pictures) == {"first map", "hidden", "second map", "vote"}
    for name in ("first map", "second map", "vote"):
        picture = np.asarray(aux.pictures[name])
        assert picture.shape == (4, SIDE, SIDE)
        np.testing.assert_allclose(picture.min(axis=(1, 2)), 0, atol=1e-6)
        np.testing.assert_allclose(picture.max(axis=(1, 2)), 1, atol=1e-6)
    # Each the map of the image's class: its highest cell is where the picture is 1.
    label = BATCH["labels"].argmax(axis=1)
    _, maps = outputs(made.each["first"])
    for n, c in enumerate(label):
        y, x = np.unravel_index(np.asarray(aux.pictures["first map"][n]).argmax(), (SIDE, SIDE))
        row, column = np.unravel_index(maps[n, :, :, c].argmax(), (8, 8))
        assert abs(y / 4 - row - 0.5) <= 1 and abs(x / 4 - column - 0.5) <= 1
