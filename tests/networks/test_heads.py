"""The heads against convolutions and sums by hand, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import vgg
from helpers.compiling import quick

from wsol_jax.networks import weights
from wsol_jax.networks.backbones.vgg import VGG16
from wsol_jax.networks.heads import CamHead, RegionHead, SpgBranches
from wsol_jax.networks.weights.dense import thinned_dense
from wsol_jax.ops.regions import masked_roi_max_pool

RNG = np.random.default_rng(0)


def conv(x, layer):
    """Convolution with zero padding to the same size, written as the sum it is."""
    kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
    reach = kernel.shape[0] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    out = np.zeros((*x.shape[:3], kernel.shape[3])) + bias
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            out += padded[:, i : i + x.shape[1], j : j + x.shape[2]] @ kernel[i, j]
    return out


def randomised(variables):
    """Biases and small first weights replaced, so that every term is seen."""
    draw = lambda x: jnp.asarray(RNG.normal(size=x.shape) * 0.4, jnp.float32)
    return jax.tree.map(draw, variables)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_cam_head_equals_its_definition(layers):
    x = RNG.normal(size=(2, 4, 5, 3))
    head = CamHead(num_classes=4, channels=6, layers=layers)
    variables = randomised(head.init(jax.random.key(0), jnp.asarray(x, jnp.float32)))
    logits, maps, features = head.apply(variables, jnp.asarray(x, jnp.float32))
    params = variables["params"]
    for layer in range(layers):
        x = np.maximum(conv(x, params[f"conv{layer + 1}"]), 0)
    expected = conv(x, params["class_maps"])
    np.testing.assert_allclose(features, x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, expected.mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_what_the_maps_share_moves_no_class_score():
    """map_mean adds the same brightness of the features to every map: the softmax is the same."""
    x = jnp.asarray(np.abs(RNG.normal(size=(2, 4, 5, 3))), jnp.float32)
    plain, shared = (CamHead(4, layers=0, map_mean=mean) for mean in (0.0, 0.5))
    (logits, maps, _), (other, brighter, _) = (
        head.apply(head.init(jax.random.key(0), x), x) for head in (plain, shared)
    )
    np.testing.assert_allclose(
        brighter - maps, np.broadcast_to(0.5 * x.sum(-1, keepdims=True), maps.shape), atol=1e-5
    )
    np.testing.assert_allclose(jax.nn.softmax(other), jax.nn.softmax(logits), atol=1e-6)


def test_cam_head_in_bfloat16_gives_float32():
    head = CamHead(3, 4, dtype=jnp.bfloat16)
    x = jnp.ones((1, 3, 3, 2))
    variables = head.init(jax.random.key(0), x)
    logits, maps, _ = head.apply(variables, x)
    assert logits.dtype == maps.dtype == jnp.float32
    assert {v.dtype for v in jax.tree.leaves(variables)} == {np.dtype("float32")}


@pytest.mark.parametrize("start", ["random", "non_negative"])
def test_branches_share_what_the_paper_shares(start):
    """Section 3.3: own 3x3 layers, then the same 3x3 and 1x1 for B1 and B2; C is apart."""
    b1, b2, c = (RNG.normal(size=(2, 4, 4, d)) for d in (3, 5, 6))
    branches = SpgBranches(channels=4, c_start=start)
    inputs = [jnp.asarray(x, jnp.float32) for x in (b1, b2, c)]
    variables = randomised(branches.init(jax.random.key(0), *inputs))
    found = branches.apply(variables, *inputs)
    p = variables["params"]
    relu = lambda x: np.maximum(x, 0)
    expected = {
        "c": conv(relu(conv(c, p["c_conv"])), p["c_out"]),
        **{
            name: conv(
                relu(conv(relu(conv(x, p[f"{name}_adapt"])), p["b_shared"])), p["b_shared_out"]
            )
            for name, x in (("b1", b1), ("b2", b2))
        },
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == jnp.float32
        np.testing.assert_allclose(found[name], value[..., 0], rtol=1e-3, atol=1e-4)


def test_a_non_negative_c_adds_its_features_up():
    """More activation anywhere in reach never lowers C's logit; no activation gives -2."""
    branches = SpgBranches(channels=4, c_start="non_negative")
    dark = jnp.zeros((1, 3, 3, 6))
    variables = branches.init(jax.random.key(0), dark, dark, dark)
    logits = lambda c: branches.apply(variables, dark, dark, c)["c"]
    np.testing.assert_array_equal(logits(dark), -2)
    gradient = jax.grad(lambda c: jnp.sum(logits(c)))(dark + 0.1)
    assert (np.asarray(gradient) > 0).all()


# ---------------------------------------------------------------- the head on regions


@pytest.mark.parametrize("size", [1, 3])
def test_region_head_sees_all_of_a_region_at_once(size):
    x = RNG.normal(size=(5, size, size, 4))
    head = RegionHead(num_classes=3, channels=6)
    variables = randomised(head.init(jax.random.key(0), jnp.asarray(x, jnp.float32)))
    scores = head.apply(variables, jnp.asarray(x, jnp.float32))
    p = jax.tree.map(lambda v: np.asarray(v, np.float64), variables["params"])
    assert p["fc6"]["kernel"].shape == (size, size, 4, 6)
    x = np.maximum(np.einsum("nijc,ijco->no", x, p["fc6"]["kernel"]) + p["fc6"]["bias"], 0)
    x = np.maximum(x @ p["fc7"]["kernel"][0, 0] + p["fc7"]["bias"], 0)
    expected = x @ p["fc8"]["kernel"][0, 0] + p["fc8"]["bias"]
    assert scores.shape == (5, 3)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_region_head_in_bfloat16_gives_float32():
    head = RegionHead(3, 4, dtype=jnp.bfloat16)
    x = jnp.ones((2, 3, 3, 2), jnp.bfloat16)
    variables = head.init(jax.random.key(0), x)
    assert head.apply(variables, x).dtype == jnp.float32
    assert {v.dtype for v in jax.tree.leaves(variables)} == {np.dtype("float32")}


def test_region_head_drops_while_it_trains_alone():
    head, x = RegionHead(3, 64, dropout=0.5), jnp.ones((2, 1, 1, 2))
    variables = head.init(jax.random.key(0), x)
    call = lambda key: head.apply(variables, x, train=True, rngs={"dropout": jax.random.key(key)})
    assert (call(0) != call(1)).any()
    np.testing.assert_array_equal(head.apply(variables, x), head.apply(variables, x))


@pytest.mark.parametrize("layout", vgg.ARRAYS)
def test_region_head_of_vggs_own_size_is_vggs_own_classifier(tmp_path, layout):
    """fc6 and fc7 from the file, whatever the publisher's order of axes."""
    arrays = vgg.ARRAYS[layout]()
    features = RNG.normal(size=(2, 7, 7, vgg.DEPTH)).astype(np.float32)
    head = RegionHead(num_classes=7, channels=vgg.HIDDEN)
    params = head.init(jax.random.key(0), jnp.asarray(features))["params"]
    params |= thinned_dense(vgg.save(tmp_path, arrays), "vgg16", params)
    found = head.apply({"params": params}, jnp.asarray(features))
    if layout == "keras":
        kernel, bias = arrays["fc2/kernel"], arrays["fc2/bias"]
    else:
        kernel, bias = arrays["classifier.3.weight"].T, arrays["classifier.3.bias"]
    last = {name: np.asarray(x, np.float64) for name, x in params["fc8"].items()}
    for n in range(2):
        x = np.maximum(vgg.fc6_of(arrays, features[n]), 0)
        x = np.maximum(x @ kernel + bias, 0)
        expected = x @ last["kernel"][0, 0] + last["bias"]
        np.testing.assert_allclose(found[n], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_region_that_is_the_whole_photo_has_vggs_own_logits(tmp_path):
    """The trunk, a 7x7 pool of one region, and the head, against VGG16 with its classifier."""
    path = vgg.save(tmp_path, vgg.keras_arrays())
    network = VGG16(width=vgg.WIDTH, num_classes=7)
    photo = jnp.asarray(RNG.normal(size=(1, 224, 224, 3)), jnp.float32)
    variables = quick(network.init)(jax.random.key(0), photo)
    variables = weights.load_pretrained(path, "vgg16", variables)
    found = quick(network.apply)(variables, photo)
    pooled = masked_roi_max_pool(found["pool5"][0], jnp.zeros((7, 7), jnp.int32), 1, 7)
    np.testing.assert_array_equal(pooled, found["pool5"])
    head = RegionHead(num_classes=7, channels=vgg.HIDDEN)
    params = head.init(jax.random.key(0), pooled)["params"]
    params |= thinned_dense(path, "vgg16", params)
    own = variables["params"]["fc8"]
    params["fc8"] = {"kernel": own["kernel"][None, None], "bias": own["bias"]}
    logits = head.apply({"params": params}, pooled)
    np.testing.assert_allclose(logits, found["logits"], rtol=1e-4, atol=1e-5)
