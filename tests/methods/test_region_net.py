"""RegionNet on a tiny network: its loss from its own scores, which regions it learns and sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import mcof
from helpers.by_hand import log_shares
from helpers.mcof import COUNT, REGION_BATCH, REGIONS, VALID
from helpers.networks import FLAT_RATE, IMAGES, KEY, assert_trees_equal, state_of
from helpers.regions import looped_pool

from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.methods import region_net
from wsol_jax.networks import backbones
from wsol_jax.runs.state import train_step

BATCH = REGION_BATCH
EVERY = {"region_net.drawn": 9}  # more than there are: all that have a class


def majorities():
    """(B, COUNT): each region's most frequent class; of equals UNLABELLED comes last."""
    found = np.full((4, COUNT), UNLABELLED)
    for n, region in np.ndindex(found.shape):
        inside = BATCH["classes"][n][REGIONS[n] == region].tolist()
        if inside:
            found[n, region] = min(set(inside), key=lambda c: (-inside.count(c), c))
    return found


CLASSES = majorities()


@pytest.fixture(scope="module")
def scores():
    """(B, COUNT, 6): of every region of the batch, by hand from the trunk's features."""
    config, variables = mcof.tiny("region_1"), mcof.made("region_1")[1]
    trunk = backbones.build(config.model, jnp.float32)
    own = {kind: tree["backbone"] for kind, tree in variables.items() if "backbone" in tree}
    features = jax.jit(trunk.apply)(own, IMAGES / np.float32(127.5) - 1)["conv2_1"]
    features = np.asarray(features, np.float64)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"]["head"])
    found = []
    for n in range(4):
        x = looped_pool(features[n], REGIONS[n], COUNT, 3)
        x = np.maximum(np.einsum("nijc,ijco->no", x, p["fc6"]["kernel"]) + p["fc6"]["bias"], 0)
        x = np.maximum(x @ p["fc7"]["kernel"][0, 0] + p["fc7"]["bias"], 0)
        found.append(x @ p["fc8"]["kernel"][0, 0] + p["fc8"]["bias"])
    return np.stack(found)


@pytest.fixture(scope="module")
def every():
    """batch -> ((loss, aux), gradient), where all regions are drawn that have a class."""
    method, variables = mcof.made("region_1", **EVERY)
    rest = {k: v for k, v in variables.items() if k != "params"}

    def total(params, batch):
        return method.loss({"params": params, **rest}, batch, KEY, 0)

    call = jax.jit(jax.value_and_grad(total, has_aux=True))
    return lambda batch: call(variables["params"], batch)


def expected_of(scores, pairs):
    """(loss, accuracy, foreground): means over (image, region) pairs."""
    nats = [-log_shares(scores[n, r][None], CLASSES[n, r])[0][0] for n, r in pairs]
    right = [scores[n, r].argmax() == CLASSES[n, r] for n, r in pairs]
    return np.mean(nats), np.mean(right), np.mean([CLASSES[n, r] > 0 for n, r in pairs])


def test_the_batch_has_regions_of_every_sort():
    assert set(np.unique(CLASSES).tolist()) >= {0, 1, 2, 3, UNLABELLED}
    assert (CLASSES[2] == UNLABELLED).all() and CLASSES[1, 5] == UNLABELLED  # has no pixel
    assert (REGIONS == -1).any() and not (REGIONS[1] == 5).any()


def test_loss_is_the_mean_over_the_regions_that_have_a_class(every, scores):
    """Of valid photos; from scores pooled and classified by hand."""
    (loss, aux), _ = every(BATCH)
    pairs = [(n, r) for n, r in np.argwhere(CLASSES != UNLABELLED).tolist() if VALID[n]]
    assert 4 < len(pairs) < 3 * COUNT
    found = [aux.metrics[name] for name in ("loss", "accuracy", "foreground")]
    np.testing.assert_allclose(found, expected_of(scores, pairs), rtol=1e-4)
    assert loss == aux.metrics["loss"] and set(aux.collections) == {"batch_stats"}


def test_loss_of_given_regions(monkeypatch, scores):
    """What was drawn counts, each once; what stands for nothing drawn does not."""
    drawn = jnp.array([2, 1, 0, 4])
    real = jnp.array([True, True, True, False])
    monkeypatch.setattr(region_net, "draw_balanced", lambda key, classes, size: (drawn, real))
    method = methods.build(mcof.tiny("region_1"), 5)
    batch = {**BATCH, "classes": BATCH["classes"].copy()}
    batch["classes"][2] = 0  # so that all that is drawn has a class
    loss, _ = jax.jit(method.loss)(mcof.made("region_1")[1], batch, KEY, 0)
    nats = []
    for n in range(3):
        for r in (2, 1, 0):
            c = 0 if n == 2 else CLASSES[n, r]
            assert c != UNLABELLED
            nats.append(-log_shares(scores[n, r][None], c)[0][0])
    np.testing.assert_allclose(loss, np.mean(nats), rtol=1e-4)


def test_the_key_alone_decides_the_draw():
    method, variables = mcof.made("region_1", **{"region_net.drawn": 1})
    call = jax.jit(method.loss)
    losses = {float(call(variables, BATCH, jax.random.key(k), 0)[0]) for k in range(12)}
    assert len(losses) > 4
    one, other = (call(variables, BATCH, jax.random.key(0), step)[0] for step in (0, 7))
    assert one == other


def test_padded_rows_change_nothing(every):
    (loss, aux), gradient = every(BATCH)
    other = {name: value.copy() for name, value in BATCH.items()}
    other["image"][3], other["regions"][3], other["classes"][3] = 255, 2, 4
    (loss2, aux2), gradient2 = every(other)
    assert loss == loss2
    assert_trees_equal(gradient, gradient2)
    assert_trees_equal(aux.metrics, aux2.metrics)


def test_unlabelled_regions_are_not_learnt(every):
    """A photo of none, whatever it shows; a batch of none, whose loss and gradient are zero."""
    (_, _), gradient = every(BATCH)
    other = {**BATCH, "image": BATCH["image"].copy()}
    other["image"][2] = 255 - other["image"][2]
    assert_trees_equal(gradient, every(other)[1])
    nothing = {**BATCH, "classes": np.full_like(BATCH["classes"], UNLABELLED)}
    (loss, aux), gradient = every(nothing)
    assert loss == 0 and all(np.isfinite(float(x)) for x in aux.metrics.values())
    assert not any(np.any(x) for x in jax.tree.leaves(gradient))


def test_all_of_the_network_learns(every):
    _, gradient = every(BATCH)
    assert all(np.isfinite(x).all() and np.any(x) for x in jax.tree.leaves(gradient))


def test_a_frozen_trunk_keeps_its_values():
    config = mcof.tiny("region_1", **{"model.freeze_until": "all", **FLAT_RATE})
    method, variables = methods.build(config, 5), mcof.made("region_1")[1]
    state, tx, labels = state_of(config, method, variables, KEY)
    assert {x.partition("/")[0] for x in jax.tree.leaves(labels["backbone"])} == {"frozen"}
    assert set(jax.tree.leaves(labels["head"])) == {"head/kernel", "head/bias"}
    after, _ = jax.jit(train_step(method, tx, labels))(state, BATCH)
    assert_trees_equal(after.params["backbone"], state.params["backbone"])
    pairs = zip(*map(jax.tree.leaves, (after.params["head"], state.params["head"])), strict=True)
    assert all(np.any(a != b) for a, b in pairs)


# ---------------------------------------------------------------- what it says of regions


def test_infer_says_of_all_what_it_says_of_each_alone(scores):
    method, variables = mcof.made("region_1")
    infer = jax.jit(method.infer)
    found = infer(variables, {"image": IMAGES, "regions": REGIONS})["probabilities"]
    expected = np.exp(scores - scores.max(axis=-1, keepdims=True))
    expected /= expected.sum(axis=-1, keepdims=True)
    assert found.shape == (4, COUNT, 6) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    for region in range(COUNT):  # nothing but it is there
        alone = np.where(region == REGIONS, region, -1)
        one = infer(variables, {"image": IMAGES, "regions": alone})["probabilities"]
        np.testing.assert_allclose(one[:, region], found[:, region], rtol=1e-5)


def test_no_regions_are_the_whole_photo():
    config, variables = mcof.tiny("region_1"), mcof.made("region_1")[1]
    network = region_net.RegionNetwork(
        backbones.build(config.model, jnp.float32),
        region_net.RegionHead(6, 16, 0.0, jnp.float32),
        "conv2_1",
        "tf",
        COUNT,
        3,
    )
    call = jax.jit(network.apply)
    whole = call(variables, IMAGES, np.zeros((4, mcof.CELLS, mcof.CELLS), np.int32))
    np.testing.assert_allclose(call(variables, IMAGES)[:, 0], whole[:, 0], rtol=1e-5)


def test_renumbered_are_the_places_in_what_was_drawn():
    regions = np.array([[0, 1, 2], [5, -1, 9], [3, 6, 2]], np.int32)
    found = region_net._renumbered(jnp.asarray(regions), jnp.array([2, 5, 6, 0]), 6)
    # 6 is ``count``: it names none, and neither do -1 and 9.
    np.testing.assert_array_equal(found, [[3, 4, 0], [1, 4, 4], [4, 4, 0]])
    none = region_net._renumbered(jnp.asarray(regions), jnp.array([6, 6]), 6)
    np.testing.assert_array_equal(none, 2)


def test_it_localizes_nothing():
    method, variables = mcof.made("region_1")
    with pytest.raises(UserError, match=r"region_net: .*--config\.eval\.labels=True"):
        method.localize(variables, IMAGES)


def test_what_it_wants_is_regions_and_a_class_for_each_pixel():
    wants = mcof.made("region_1")[0].wants
    assert {n: (s.shape, np.dtype(s.dtype), s.fill) for n, s in wants.items()} == {
        "regions": ((16, 16), np.dtype("int32"), -1),
        "classes": ((16, 16), np.dtype("uint8"), UNLABELLED),
    }


@pytest.mark.parametrize(
    "field, value",
    [("regions", 0), ("size", 0), ("drawn", -1), ("cells", 0), ("channels", 0)]
    + [("dropout", 1.0), ("dropout", -0.1)],
)
def test_options_are_checked(field, value):
    with pytest.raises(UserError, match=rf"region_net\.{field}={value}: expected a"):
        methods.build(mcof.tiny("region_1", **{f"region_net.{field}": value}), 5)
