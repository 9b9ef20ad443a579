"""CCNN's segmenter on a tiny network: its loss, what it reads, and the published network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import vgg
from helpers.compiling import quick
from helpers.networks import IMAGES, KEY
from helpers.sec import BATCH, CELLS, assert_padding_changes_nothing, mean_valid, spread

from configs import ccnn as ccnn_config
from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.losses import ccnn as losses
from wsol_jax.networks.weights.dense import thinned_dense
from wsol_jax.stages.sections import stage_config


def tiny(words="", **changes):
    """Three narrow layers of VGG16 and a narrow head: the config of the stage "segment"."""
    config = ccnn_config.get_config(f"cub,weights=none,width=0.1,size=32{words}")
    config = stage_config(config, "segment")
    with config.unlocked():
        config.model.final_endpoint = "conv2_1"
        config.model.trunk = {"normalise": True, "stem_stride": 2}
        config.model.preprocessing, config.dtype = "tf", "float32"
        config.ccnn.update({"cells": 2 * CELLS, "channels": 16, "window": 3, "dilation": 2})
        config.ccnn.dropout = 0.0
        config.update_from_flattened_dict(changes)
    return config


@functools.cache
def variables():
    method = methods.build(tiny(), 5)
    return spread(method.init(jax.random.key(1), jnp.asarray(IMAGES[:1])))


@functools.cache
def built(words=""):
    """batch -> ((loss, aux), gradient of the parameters)."""
    method = methods.build(tiny(words), 5)
    rest = {k: v for k, v in variables().items() if k != "params"}

    def total(params, batch):
        return method.loss({"params": params, **rest}, batch, KEY, jnp.asarray(3))

    call = quick(jax.value_and_grad(total, has_aux=True))
    return lambda batch=BATCH: call(variables()["params"], batch)


@functools.cache
def scores():
    """Before softmax, less what a softmax does not see: logarithms of what ``localize`` gives."""
    probs = quick(methods.build(tiny(), 5).localize)(variables(), IMAGES).maps.probabilities
    probs = np.asarray(probs, np.float64)
    background = 1 - probs.sum(axis=-1, keepdims=True)
    return np.log(np.concatenate([background, probs], axis=-1))


def shown():
    return np.concatenate([np.ones((4, 1)), BATCH["labels"]], axis=1)


@pytest.mark.parametrize("words", ["", ",variant=plain"])
def test_loss_is_the_divergence_from_the_latent_distribution(words):
    """Of the network's own scores; with heat maps also from the nearest cues."""
    (loss, aux), gradient = built(words)()
    cues = BATCH["cues"][:, 1::2, 1::2]  # twice as many as cells, each way
    one_hot = (cues[..., None] == np.arange(6)).astype(np.float32)
    given = (one_hot, 0.7) if not words else (None, 0.0)
    latent = quick(losses.latent_distribution, static_argnames="cued")(
        jnp.asarray(scores(), jnp.float32), shown(), given[0], cued=given[1]
    )
    latent = np.asarray(latent, np.float64)
    terms = np.where(latent > 0, latent * (np.log(np.maximum(latent, 1e-300)) - scores()), 0)
    expected = mean_valid(terms.sum(axis=-1).mean(axis=(1, 2)))
    np.testing.assert_allclose(loss, expected, rtol=1e-3)
    assert loss > 0.05
    assert set(aux.metrics) == {"loss", "foreground", "latent_foreground"}
    network = mean_valid(1 - np.exp(scores())[..., 0].mean(axis=(1, 2)))
    np.testing.assert_allclose(aux.metrics["foreground"], network, rtol=1e-3)
    found = mean_valid(1 - latent[..., 0].mean(axis=(1, 2)))
    np.testing.assert_allclose(aux.metrics["latent_foreground"], found, rtol=1e-3)
    assert all(np.isfinite(x).all() and np.any(x) for x in jax.tree.leaves(gradient))


def test_heat_maps_are_read_unless_they_count_for_nothing():
    heat, plain = (methods.build(tiny(words), 5) for words in ("", ",variant=plain"))
    assert heat.wants["cues"].shape == (2 * CELLS, 2 * CELLS) and not plain.wants
    assert built()()[0][0] != built(",variant=plain")()[0][0]


def test_padded_rows_change_nothing():
    assert_padding_changes_nothing(built())


def test_a_few_steps_lower_the_loss():
    """Plain descent along the gradient that the step gives."""
    call, params = built(), variables()["params"]
    method = methods.build(tiny(), 5)
    rest = {k: v for k, v in variables().items() if k != "params"}
    value = quick(
        jax.value_and_grad(lambda p: method.loss({"params": p, **rest}, BATCH, KEY, 0)[0])
    )
    before = call()[0][0]
    for _ in range(10):
        _, gradient = value(params)
        params = jax.tree.map(lambda p, g: p - 0.02 * g, params, gradient)
    assert value(params)[0] < 0.8 * before


# ---------------------------------------------------------------- the published network


def test_published_network():
    """CCNN's released 8-stride VGG16: fc6 of 4x4 cells at every fourth, fc7, fc8; 41x41 cells."""
    config = stage_config(ccnn_config.get_config("voc,weights=none"), "segment")
    method = methods.build(config, 20)
    images = jax.ShapeDtypeStruct((2, 321, 321, 3), jnp.uint8)
    variables = jax.eval_shape(method.init, jax.random.key(0), images)
    assert jax.tree.map(lambda x: x.shape, variables["params"]["head"]) == {
        "fc6": {"kernel": (4, 4, 512, 4096), "bias": (4096,)},
        "fc7": {"kernel": (1, 1, 4096, 4096), "bias": (4096,)},
        "fc8": {"kernel": (1, 1, 4096, 21), "bias": (21,)},
    }
    found = jax.eval_shape(method.localize, variables, images)
    assert found.maps.probabilities.shape == (2, 41, 41, 20)
    batch = {
        "image": images,
        "labels": jax.ShapeDtypeStruct((2, 20), jnp.float32),
        "valid": jax.ShapeDtypeStruct((2,), bool),
        "cues": jax.ShapeDtypeStruct((2, 41, 41), jnp.uint8),
    }
    loss, _ = jax.eval_shape(method.loss, variables, batch, KEY, 0)
    assert loss.shape == () and loss.dtype == jnp.float32
    labels = method.param_groups(variables["params"])["head"]
    assert labels["fc8"]["kernel"] == "classifier/kernel" and labels["fc6"]["bias"] == "head/bias"


def test_fc6_of_4x4_cells_is_vggs_thinned_out(tmp_path):
    """Every second row and column of 7x7, all channels: DeepLab's first network."""
    arrays = vgg.keras_arrays()
    head = {
        "fc6": {
            "kernel": jax.ShapeDtypeStruct((4, 4, vgg.DEPTH, vgg.HIDDEN), jnp.float32),
            "bias": jax.ShapeDtypeStruct((vgg.HIDDEN,), jnp.float32),
        },
        "fc7": {
            "kernel": jax.ShapeDtypeStruct((1, 1, vgg.HIDDEN, vgg.HIDDEN), jnp.float32),
            "bias": jax.ShapeDtypeStruct((vgg.HIDDEN,), jnp.float32),
        },
    }
    found = thinned_dense(vgg.save(tmp_path, arrays), "vgg16", head)
    whole = arrays["fc1/kernel"].reshape(7, 7, vgg.DEPTH, vgg.HIDDEN)
    np.testing.assert_array_equal(found["fc6"]["kernel"], whole[::2, ::2])
    np.testing.assert_array_equal(found["fc7"]["kernel"][0, 0], arrays["fc2/kernel"])


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"ccnn.cued": 1.5}, r"ccnn\.cued=1\.5: expected a number from 0 to 1"),
        ({"ccnn.background": (0.3, 1.7)}, r"ccnn\.background=.*expected"),
        ({"ccnn.background": (0.7, 0.3)}, r"ccnn\.background: expected \(least, most\)"),
        ({"ccnn.foreground": (0.1,)}, r"ccnn\.foreground: expected \(least, most\)"),
        ({"ccnn.slack": -1.0}, r"ccnn\.slack=-1\.0: expected a number from 0"),
        ({"ccnn.iterations": -1}, r"ccnn\.iterations=-1: expected a whole number from 0"),
        ({"ccnn.window": 0}, r"ccnn\.window=0: expected a whole number from 1"),
    ],
)
def test_mistakes_are_one_sentence(changes, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        methods.build(tiny(**changes), 5)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
