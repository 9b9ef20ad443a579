"""Weight files that do not fit: one sentence that lists what, and nothing is unpickled."""

import io
import pathlib
import pickle
import sys
import zipfile

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from wsol_jax.base.errors import UserError
from wsol_jax.networks.backbones.alexnet import AlexNet
from wsol_jax.networks.backbones.inception import InceptionV3
from wsol_jax.networks.backbones.mobilenet import MobileNetV2
from wsol_jax.networks.backbones.vgg import VGG16
from wsol_jax.networks.weights import conventions, load_pretrained

VGG = VGG16(0.125, final_endpoint="conv2_2")  # four layers of 8, 8, 16, 16 channels
_SHAPES = {
    "block1_conv1": (3, 3, 3, 8),
    "block1_conv2": (3, 3, 8, 8),
    "block2_conv1": (3, 3, 8, 16),
    "block2_conv2": (3, 3, 16, 16),
}


def template(module, size=64):
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), images)


def vgg_arrays():
    rng = np.random.default_rng(0)
    arrays = {f"{name}/kernel": rng.normal(size=shape) for name, shape in _SHAPES.items()}
    arrays |= {f"{name}/bias": rng.normal(size=shape[-1]) for name, shape in _SHAPES.items()}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def load(path, arrays):
    np.savez(path, **arrays)
    return load_pretrained(path, VGG, template(VGG))


def check_same(variables, arrays):
    for layer, ours in zip(_SHAPES, ("conv1_1", "conv1_2", "conv2_1", "conv2_2"), strict=True):
        for weight in ("kernel", "bias"):
            np.testing.assert_array_equal(
                variables["params"][ours][weight], arrays[f"{layer}/{weight}"]
            )


def test_plain_npz_and_layers_behind_the_final_endpoint(tmp_path):
    arrays = vgg_arrays()
    later = {"block5_conv3/kernel": np.zeros((3, 3, 9, 9)), "predictions/bias": np.zeros(7)}
    check_same(load(tmp_path / "vgg.npz", arrays | later), arrays)
    check_same(load(tmp_path / "vgg.npz", {f"{k}:0": v for k, v in arrays.items()}), arrays)


def test_half_precision_files_give_float32_parameters(tmp_path):
    arrays = {name: array.astype(np.float16) for name, array in vgg_arrays().items()}
    variables = load(tmp_path / "vgg.npz", arrays)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    check_same(variables, arrays)


@pytest.mark.parametrize(
    "name",
    [
        "{layer}/{layer}/{kind}:0",  # Keras 2
        "model_weights/{layer}/{layer}/{kind}",  # a whole model, Keras 3's .h5
        "{layer}/{layer}_1/{kind}:0",  # a scope that TensorFlow numbered (published Inception-v3)
        "{layer}/{layer}_{letter}_1:0",  # Keras 1 (published VGG16)
        "vgg16/{layer}/{kind}:0",  # a network used as a layer
    ],
)
def test_legacy_keras_files(tmp_path, name):
    arrays = vgg_arrays()
    with h5py.File(tmp_path / "vgg.h5", "w") as file:
        for key, array in arrays.items():
            layer, kind = key.split("/")
            file[name.format(layer=layer, kind=kind, letter={"k": "W", "b": "b"}[kind[0]])] = array
        file.create_group("block1_pool")
    check_same(load_pretrained(tmp_path / "vgg.h5", VGG, template(VGG)), arrays)


def test_all_that_does_not_fit_is_listed_at_once(tmp_path):
    arrays = vgg_arrays()
    del arrays["block1_conv2/bias"]
    arrays["block1_conv1/kernel"] = np.zeros((3, 3, 1, 8), np.float32)
    arrays["block2_conv1/bias"][3] = np.nan
    arrays["block2_conv2/bias"][0] = np.inf
    arrays["block9_conv1/bias"] = np.zeros(3)
    with pytest.raises(UserError) as error:
        load(tmp_path / "odd.npz", arrays)
    text = str(error.value)
    assert str(tmp_path / "odd.npz") in text and "\n" not in text
    assert "1 missing: params/conv1_2/bias" in text
    assert "1 unexpected: block9_conv1/bias" in text
    shapes = "block1_conv1/kernel (3, 3, 1, 8) for params/conv1_1/kernel (3, 3, 3, 8)"
    assert f"1 misshapen: {shapes}" in text
    assert "2 not finite numbers: block2_conv1/bias, block2_conv2/bias" in text


def test_long_lists_are_cut_and_counted(tmp_path):
    arrays = vgg_arrays() | {f"dense_{i}/kernel": np.zeros(1) for i in range(40)}
    with pytest.raises(UserError, match=r"40 unexpected: .*, \.\.\.") as error:
        load(tmp_path / "odd.npz", arrays)
    assert str(error.value).count("dense_") == 10


def test_a_layer_in_the_middle_cannot_be_left_out(tmp_path):
    shapes = template(VGG)
    del shapes["params"]["conv1_2"]
    np.savez(tmp_path / "vgg.npz", **vgg_arrays())
    with pytest.raises(UserError, match="2 unexpected: block1_conv2/kernel, block1_conv2/bias"):
        load_pretrained(tmp_path / "vgg.npz", VGG, shapes)


def test_two_arrays_for_one_place(tmp_path):
    arrays = vgg_arrays()
    arrays["block1_conv1/depthwise_kernel"] = arrays["block1_conv1/kernel"]
    with pytest.raises(UserError, match="a second array for params/conv1_1/kernel"):
        load(tmp_path / "vgg.npz", arrays)


def test_integers_are_no_weights(tmp_path):
    arrays = vgg_arrays()
    arrays["block1_conv1/bias"] = np.zeros(8, np.int8)
    with pytest.raises(UserError, match="1 not finite numbers: block1_conv1/bias"):
        load(tmp_path / "vgg.npz", arrays)


def inception_arrays(module, first):
    """Keras' names for the stem: conv2d_N, batch_normalization_N, no gamma."""
    shapes = template(module)
    rng, arrays = np.random.default_rng(0), {}
    stem = ["1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3"]
    for index, layer in reversed(list(enumerate(stem, first))):
        suffix = f"_{index}" if index else ""
        kernel = shapes["params"][f"Conv2d_{layer}"]["conv"]["kernel"].shape
        arrays[f"conv2d{suffix}/kernel"] = rng.normal(size=kernel)
        for weight in ("beta", "moving_mean", "moving_variance"):
            arrays[f"batch_normalization{suffix}/{weight}"] = rng.normal(size=kernel[-1])
    return arrays


@pytest.mark.parametrize("first", [0, 1, 8, 97])
def test_keras_inception_is_read_by_number_from_any_start(tmp_path, first):
    module = InceptionV3(0.25, final_endpoint="Conv2d_4a_3x3")
    arrays = inception_arrays(module, first)
    np.savez(tmp_path / "inception.npz", **arrays)
    variables = load_pretrained(tmp_path / "inception.npz", module, template(module))
    second = f"_{first + 1}"
    np.testing.assert_array_equal(
        variables["params"]["Conv2d_2a_3x3"]["conv"]["kernel"],
        arrays[f"conv2d{second}/kernel"].astype(np.float32),
    )
    np.testing.assert_array_equal(
        variables["batch_stats"]["Conv2d_2a_3x3"]["bn"]["var"],
        arrays[f"batch_normalization{second}/moving_variance"].astype(np.float32),
    )
    assert (variables["params"]["Conv2d_2a_3x3"]["bn"]["scale"] == 1).all()


def test_a_gap_in_keras_numbers_is_a_missing_layer_and_shifts_none(tmp_path):
    module = InceptionV3(0.25, final_endpoint="Conv2d_4a_3x3")
    arrays = inception_arrays(module, 1)
    del arrays["conv2d_2/kernel"]
    np.savez(tmp_path / "inception.npz", **arrays)
    with pytest.raises(UserError, match=r"1 missing: params/Conv2d_2a_3x3/conv/kernel\.$"):
        load_pretrained(tmp_path / "inception.npz", module, template(module))


def test_gains_are_all_there_or_none(tmp_path):
    module = InceptionV3(0.25, final_endpoint="Conv2d_4a_3x3")
    arrays = inception_arrays(module, 1)
    arrays["batch_normalization_1/gamma"] = np.ones(8)
    np.savez(tmp_path / "inception.npz", **arrays)
    with pytest.raises(UserError, match="4 missing: params/Conv2d_2a_3x3/bn/scale"):
        load_pretrained(tmp_path / "inception.npz", module, template(module))


@pytest.mark.parametrize(
    "backbone", ["vgg16", "inception_v3", "mobilenet_v2", "alexnet", "googlenet"]
)
def test_missing_file_says_what_to_fetch_and_where_to_put_it(tmp_path, backbone):
    path = tmp_path / "weights.pth"
    with pytest.raises(UserError, match=r"does not exist\. Fetch https://.* put it there") as error:
        load_pretrained(path, backbone, {})
    assert str(path) in str(error.value) and backbone.split("_")[0] in str(error.value)


class Harmful:
    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path(sys.argv[0] + ".never"),))


@pytest.mark.parametrize(
    "ending", [".npz", ".h5", ".keras", ".safetensors", ".pth", ".pickle", ".hdf5", ""]
)
@pytest.mark.parametrize(
    "content", ["pickle", "noise", "empty", "npz of pickles", "keras of noise"]
)
def test_files_that_are_not_what_they_say(tmp_path, monkeypatch, ending, content):
    if ending == ".pth":
        pytest.importorskip("torch")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "touched")])
    buffer = io.BytesIO()
    if content == "pickle":
        buffer.write(pickle.dumps({"a": Harmful()}))
    elif content == "noise":
        buffer.write(np.random.default_rng(0).bytes(4096))
    elif content == "npz of pickles":
        np.savez(buffer, a=np.array([Harmful()], dtype=object), allow_pickle=True)
    elif content == "keras of noise":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("model.weights.h5", b"noise")
    path = tmp_path / f"weights{ending}"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="weights"):
        load_pretrained(path, VGG, template(VGG))
    assert not (tmp_path / "touched.never").exists()


def test_torch_files_where_torch_is_absent(tmp_path, monkeypatch):
    (tmp_path / "vgg.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"vgg\.pth: .*pip install torch, or convert"):
        load_pretrained(tmp_path / "vgg.pth", VGG, template(VGG))


def test_early_keras_3_files_without_layer_names_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 8))
    with pytest.raises(UserError, match="1 layers have no name"):
        load_pretrained(tmp_path / "a.weights.h5", VGG, template(VGG))


def test_unknown_backbone():
    with pytest.raises(UserError, match="no weight reader for backbone 'resnet18'"):
        load_pretrained("weights.npz", "resnet18", {})


def test_conventions_by_layout(tmp_path):
    save_file({"features.0.0.weight": np.zeros((1, 1), np.float32)}, tmp_path / "a.safetensors")
    found = conventions(tmp_path / "a.safetensors", MobileNetV2())
    assert found == ("torchvision", "torch", {"padding": "symmetric", "epsilon": 1e-5})
    np.savez(tmp_path / "a.npz", **{"conv2d_1/kernel": np.zeros(1)})
    assert conventions(tmp_path / "a.npz", "inception_v3").fields == {"count_include_pad": False}


def test_alexnet_has_no_keras_layout(tmp_path):
    np.savez(tmp_path / "a.npz", **{"conv1/kernel": np.zeros(1)})
    with pytest.raises(UserError, match=r"alexnet is read from torchvision's layout, not keras's"):
        conventions(tmp_path / "a.npz", "alexnet")
    with pytest.raises(UserError, match="1 unexpected: conv1/kernel"):
        module = AlexNet(0.125, final_endpoint="conv1")
        load_pretrained(tmp_path / "a.npz", module, template(module))


def test_a_module_of_other_conventions_is_warned_about(tmp_path, caplog):
    from absl import logging

    logging.get_absl_logger().propagate = True
    module = InceptionV3(0.25, final_endpoint="Conv2d_4a_3x3", count_include_pad=True)
    np.savez(tmp_path / "inception.npz", **inception_arrays(module, 1))
    with caplog.at_level("WARNING"):
        load_pretrained(tmp_path / "inception.npz", module, template(module))
    assert "count_include_pad=False" in caplog.text
