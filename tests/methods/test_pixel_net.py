"""PixelNet on a tiny network: eq. 3 from its own scores, on masks of any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import mcof
from helpers.by_hand import log_shares
from helpers.mcof import CELLS, VALID
from helpers.networks import IMAGES, KEY, assert_trees_equal, resized

from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.methods import Segmentation, shared
from wsol_jax.networks import backbones
from wsol_jax.networks.heads import LargeFovHead


@pytest.fixture(scope="module")
def scores():
    """(4, CELLS, CELLS, 6), before softmax, of the network put together here."""
    config = mcof.tiny("pixel_1")
    head = LargeFovHead(num_classes=6, channels=16, dilation=2, dropout=0.0)
    trunk = backbones.build(config.model, jnp.float32)
    network = shared.TrunkAndHead(trunk, head, "conv2_1", "tf")
    found = jax.jit(network.apply)(mcof.made("pixel_1")[1], jnp.asarray(IMAGES))[0]
    assert found.shape == (4, CELLS, CELLS, 6)
    return np.asarray(found, np.float64)


def loss_of(batch, **changes):
    method, variables = mcof.made("pixel_1", **changes)
    return jax.jit(method.loss)(variables, batch, KEY, 0)


@pytest.mark.parametrize("cells", [CELLS, 2 * CELLS, 5])
def test_loss_is_the_mean_over_the_batchs_labelled_cells(scores, cells):
    """Eq. 3: not over images, of which one has 3 to 16 labelled cells here and another all."""
    batch = mcof.pixel_batch(cells)
    loss, aux = loss_of(batch, **{"pixel_net.cells": cells})
    at = resized(scores, cells)
    places = [p for p in np.argwhere(batch["masks"] != UNLABELLED).tolist() if VALID[p[0]]]
    own = [(at[tuple(p)], batch["masks"][tuple(p)]) for p in places]
    nats = [-log_shares(s[None], c)[0][0] for s, c in own]
    np.testing.assert_allclose(loss, np.mean(nats), rtol=1e-4)
    assert loss == aux.metrics["loss"]
    np.testing.assert_allclose(aux.metrics["foreground"], np.mean([c > 0 for _, c in own]), 1e-6)
    right = np.mean([s.argmax() == c for s, c in own])
    np.testing.assert_allclose(aux.metrics["accuracy"], right, atol=1.01 / len(own))


def test_padded_rows_and_photos_without_a_label_change_nothing():
    method, variables = mcof.made("pixel_1")
    rest = {k: v for k, v in variables.items() if k != "params"}
    total = lambda params, batch: method.loss({"params": params, **rest}, batch, KEY, 0)
    call = jax.jit(jax.value_and_grad(total, has_aux=True))
    batch = mcof.pixel_batch()
    (loss, aux), gradient = call(variables["params"], batch)
    assert all(np.isfinite(x).all() and np.any(x) for x in jax.tree.leaves(gradient))
    other = {name: value.copy() for name, value in batch.items()}
    other["image"][2:], other["masks"][3], other["labels"][3] = 9, 2, 1
    (loss2, aux2), gradient2 = call(variables["params"], other)
    assert loss == loss2
    assert_trees_equal(aux.metrics, aux2.metrics)
    assert_trees_equal(gradient, gradient2)
    other["masks"][:] = UNLABELLED
    (loss, aux), gradient = call(variables["params"], other)
    assert loss == 0 and all(np.isfinite(float(x)) for x in aux.metrics.values())
    assert not any(np.any(x) for x in jax.tree.leaves(gradient))


def test_localize_gives_a_segmentation(scores):
    method, variables = mcof.made("pixel_1")
    found = jax.jit(method.localize)(variables, IMAGES)
    assert isinstance(found.maps, Segmentation)
    expected = np.exp(scores - scores.max(axis=-1, keepdims=True))
    expected /= expected.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found.maps.probabilities, expected[..., 1:], rtol=1e-3, atol=1e-6)
    peak = expected[..., 1:].max(axis=(1, 2))
    np.testing.assert_allclose(jax.nn.sigmoid(found.logits), peak, rtol=1e-3)


def test_what_it_wants_and_learns_at():
    method, variables = mcof.made("pixel_1")
    spec = method.wants["masks"]
    assert (spec.shape, np.dtype(spec.dtype), spec.fill) == ((CELLS, CELLS), np.uint8, UNLABELLED)
    assert list(method.wants) == ["masks"]
    groups = method.param_groups(variables["params"])
    assert groups["head"]["fc8"]["kernel"] == "classifier/kernel"
    assert groups["head"]["fc6"]["bias"] == "head/bias"


@pytest.mark.parametrize("cells", [0, -4])
def test_options_are_checked(cells):
    with pytest.raises(
        UserError, match=rf"pixel_net\.cells={cells}: expected a whole number from 1"
    ):
        methods.build(mcof.tiny("pixel_1", **{"pixel_net.cells": cells}), 5)
