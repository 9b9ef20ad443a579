"""fc6 and fc7 of a LargeFOV head from VGG's own, against the files' entries one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from helpers import vgg

from wsol_jax.base.errors import UserError
from wsol_jax.networks.heads import LargeFovHead
from wsol_jax.networks.weights import dense, read
from wsol_jax.networks.weights.dense import thinned_dense

LAYOUTS = pytest.mark.parametrize("layout", vgg.ARRAYS)


def shapes(channels, depth=vgg.DEPTH, side=3, dtype=jnp.float32):
    """Of a head's parameters; fc8 is there as well, and no file's business."""
    sizes = {"fc6": (side, side, depth), "fc7": (1, 1, channels), "fc8": (1, 1, channels)}
    kernel = lambda size: jax.ShapeDtypeStruct((*size, channels), dtype)
    bias = jax.ShapeDtypeStruct((channels,), dtype)
    return {layer: {"kernel": kernel(size), "bias": bias} for layer, size in sizes.items()}


@pytest.fixture
def warnings(caplog):
    logging.get_absl_logger().propagate = True
    with caplog.at_level("WARNING"):
        yield caplog


@LAYOUTS
@pytest.mark.parametrize("step", [4, 8])
def test_every_entry_is_the_files(tmp_path, layout, step):
    arrays = vgg.ARRAYS[layout]()
    found = thinned_dense(vgg.save(tmp_path, arrays), "vgg16", shapes(vgg.HIDDEN // step))
    assert found.keys() == {"fc6", "fc7"}
    for layer in found:
        kernel, bias = vgg.every(arrays, layer, step)
        np.testing.assert_array_equal(found[layer]["kernel"], kernel)
        np.testing.assert_array_equal(found[layer]["bias"], bias)
        assert found[layer].keys() == {"kernel", "bias"}


@LAYOUTS
def test_features_at_the_taps_alone_give_vggs_own_fc6(tmp_path, layout):
    """At a dilation of 3 the thinned window lies on VGG's 7x7; what it skips is zero here."""
    arrays = vgg.ARRAYS[layout]()
    features = np.zeros((7, 7, vgg.DEPTH), np.float32)
    features[::3, ::3] = np.random.default_rng(1).normal(size=(3, 3, vgg.DEPTH))
    head = LargeFovHead(num_classes=3, channels=vgg.HIDDEN // 4, dilation=3, average=False)
    x = jnp.asarray(features)[None]
    params = head.init(jax.random.key(0), x)["params"]
    params |= thinned_dense(vgg.save(tmp_path, arrays), "vgg16", params)
    _, state = head.apply({"params": params}, x, capture_intermediates=True)
    found = state["intermediates"]["fc6"]["__call__"][0][0, 3, 3]
    np.testing.assert_allclose(found, vgg.fc6_of(arrays, features)[::4], atol=1e-5)


@LAYOUTS
def test_a_head_of_vggs_own_size_has_vggs_own_layers(tmp_path, layout):
    """Nothing is thinned: the whole 7x7 window over any features is VGG's fc6."""
    arrays = vgg.ARRAYS[layout]()
    path = vgg.save(tmp_path, arrays)
    found = thinned_dense(path, "vgg16", shapes(vgg.HIDDEN, side=7))["fc6"]
    features = np.random.default_rng(1).normal(size=(7, 7, vgg.DEPTH))
    ours = np.einsum("ijc,ijco->o", features, found["kernel"]) + found["bias"]
    np.testing.assert_allclose(ours, vgg.fc6_of(arrays, features), atol=1e-5)


def test_arrays_at_hand_are_not_read_again_and_keep_the_heads_dtype(tmp_path):
    path = vgg.save(tmp_path, vgg.keras_arrays())
    arrays = read(path, "vgg16")
    path.unlink()
    found = thinned_dense(path, "vgg16", shapes(128, dtype=jnp.bfloat16), arrays)
    assert {x.dtype for x in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
    with pytest.raises(UserError, match="does not exist"):
        thinned_dense(path, "vgg16", shapes(128))


@LAYOUTS
def test_a_file_without_them_says_which_file_has_them(tmp_path, layout, warnings):
    path = vgg.save(tmp_path, vgg.ARRAYS[layout](dense=False))
    assert thinned_dense(path, "vgg16", shapes(128)) == {}
    (record,) = warnings.records
    text = record.getMessage()
    assert text.startswith(f"{path} holds no fully connected layers: ") and "at random" in text
    assert "tf_kernels.h5" in text and ".pth" in text and "notop" not in text


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "inception_v3"])
def test_a_backbone_without_such_layers_says_so(tmp_path, backbone, warnings):
    np.savez(tmp_path / "weights.npz", **{"Conv1/kernel": np.zeros((3, 3, 3, 8), np.float32)})
    assert thinned_dense(tmp_path / "weights.npz", backbone, shapes(128)) == {}
    (record,) = warnings.records
    assert record.getMessage().endswith(f"at random; {backbone} has no such layers.")


def without(name):
    return lambda arrays: arrays.pop(name)


def spoilt(name, value):
    return lambda arrays: arrays.update({name: value(arrays[name])})


@pytest.mark.parametrize(
    ("head", "change", "sentence"),
    [
        (shapes(100), None, r"fc6/kernel of .* \(3136, 512\), .* thin out to \(3, 3, 64, 100\)"),
        (shapes(1024), None, r"does not thin out to \(3, 3, 64, 1024\)"),
        (shapes(128, depth=32), None, r"does not thin out to \(3, 3, 32, 128\)"),
        (shapes(128, side=5), None, r"does not thin out to \(5, 5, 64, 128\)"),
        (shapes(128, side=1), None, r"does not thin out to \(1, 1, 64, 128\)"),
        (shapes(128, side=9), None, r"does not thin out to \(9, 9, 64, 128\)"),
        (shapes(128), without("fc2/bias"), r"fc7/bias of its fully connected layers is missing"),
        (shapes(128), without("fc1/kernel"), r"fc6/kernel of .* is missing"),
        (shapes(128), spoilt("fc2/kernel", lambda x: x[:, :500]), r"fc7/kernel of .*\(512, 500\)"),
        (shapes(128), spoilt("fc1/bias", lambda x: x[None]), r"fc6/bias of .*\(1, 512\)"),
        (shapes(128), spoilt("fc1/bias", lambda x: x * np.nan), r"fc6/bias .* not finite numbers"),
        (shapes(128), spoilt("fc2/bias", lambda x: x.astype(int)), r"fc7/bias .* not finite num"),
    ],
)
def test_layers_that_do_not_fit_are_one_sentence(tmp_path, head, change, sentence):
    arrays = vgg.keras_arrays()
    if change:
        change(arrays)
    path = vgg.save(tmp_path, arrays)
    with pytest.raises(UserError, match=sentence) as error:
        thinned_dense(path, "vgg16", head)
    text = str(error.value)
    assert str(path) in text and text.endswith(".") and "\n" not in text
    assert "model.dense_layers=False" in text


@pytest.mark.parametrize(
    ("whole", "wanted", "steps"),
    [
        ((7, 7, 512, 4096), (3, 3, 512, 1024), [3, 3, 1, 4]),  # fc6 of the published sizes
        ((1, 1, 4096, 4096), (1, 1, 1024, 1024), [1, 1, 4, 4]),
        ((4096,), (1024,), [4]),
        ((7, 7, 8, 8), (4, 4, 8, 8), [2, 2, 1, 1]),  # DeepLab's first fc6
        ((6, 6, 8, 8), (3, 3, 8, 8), None),  # its middle would move
    ],
)
def test_steps(whole, wanted, steps):
    assert dense._steps(whole, wanted) == steps
