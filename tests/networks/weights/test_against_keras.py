"""Trunks and readers against Keras' own networks (JAX backend), in the standard geometry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick

from wsol_jax.networks.backbones.inception import InceptionV3
from wsol_jax.networks.backbones.mobilenet import MobileNetV2
from wsol_jax.networks.backbones.resnet import ResNet50, ResNet101
from wsol_jax.networks.backbones.vgg import VGG16
from wsol_jax.networks.weights import conventions, load_pretrained

keras = pytest.importorskip("keras", minversion="3.12")


@pytest.fixture(autouse=True)
def no_initialisers(monkeypatch):
    """Zeros at first: every array is overwritten, and compiling Keras' initialisers takes 16 s."""
    zeros = lambda self, shape, dtype=None: np.zeros(shape, np.float32)
    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", zeros)


def randomise(model, gain=2.0):
    """Random normalisation, too: at Keras' own start (0, 1) a swapped mean and beta would pass."""
    rng = np.random.default_rng(0)
    draw = {
        "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
        "beta": lambda shape: rng.normal(0, 0.2, shape),
        "moving_mean": lambda shape: rng.normal(0, 0.2, shape),
        "moving_variance": lambda shape: rng.uniform(0.5, 1.5, shape),
        "bias": lambda shape: rng.normal(0, 0.2, shape),
    }
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name in draw:
                weight.assign(draw[weight.name](weight.shape))
            else:
                scale = np.sqrt(
                    gain / np.prod(weight.shape[: 2 if "depthwise" in layer.name else -1])
                )
                weight.assign(rng.normal(0, scale, weight.shape))


def save_npz(model, path):
    arrays = {f"{y.name}/{w.name}": np.asarray(w) for y in model.layers for w in y.weights}
    np.savez(path, **arrays)
    return path


def template(module, size):
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), images)


def keras_outputs(model, layers, images):
    """Outputs of named layers; one compilation instead of Keras' one per operation."""
    taps = keras.Model(model.input, [model.get_layer(name).output for name in layers])
    trained = [v.value for v in taps.trainable_variables]
    frozen = [v.value for v in taps.non_trainable_variables]
    run = quick(lambda t, f, x: taps.stateless_call(t, f, x, training=False)[0])
    return [np.asarray(output) for output in run(trained, frozen, images)]


def relative(ours, theirs):
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all() and np.abs(theirs).max() > 1e-3
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


def compare(module, model, pairs, size, path):
    """pairs: our endpoint -> Keras' layer."""
    variables = load_pretrained(path, module, template(module, size))
    images = np.random.default_rng(1).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    ours = quick(module.apply)(variables, images)
    theirs = keras_outputs(model, list(pairs.values()), images)
    for (endpoint, layer), reference in zip(pairs.items(), theirs, strict=True):
        assert relative(ours[endpoint], reference) < 1e-4, (endpoint, layer)


def test_vgg16(tmp_path):
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    randomise(model)
    pairs = {"conv1_2": "block1_conv2", "conv4_3": "block4_conv3", "pool5": "block5_pool"}
    compare(VGG16(), model, pairs, 32, save_npz(model, tmp_path / "vgg.npz"))


@pytest.mark.parametrize("size", [75, pytest.param(96, marks=pytest.mark.slow)])
def test_inception_v3(tmp_path, size):
    model = keras.applications.InceptionV3(
        weights=None, include_top=False, input_shape=(size, size, 3)
    )
    randomise(model)
    pairs = {"Mixed_5b": "mixed0", "Mixed_5d": "mixed2", "Mixed_6a": "mixed3", "Mixed_6b": "mixed4"}
    pairs |= {"Mixed_6e": "mixed7", "Mixed_7a": "mixed8", "Mixed_7c": "mixed10"}
    module = InceptionV3(geometry="standard", count_include_pad=False)
    compare(module, model, pairs, size, save_npz(model, tmp_path / "inception.npz"))


@pytest.mark.parametrize(
    ("width", "size"), [(0.35, 96), pytest.param(1.0, 64, marks=pytest.mark.slow)]
)
def test_mobilenet_v2(tmp_path, width, size):
    model = keras.applications.MobileNetV2(
        alpha=width, weights=None, include_top=False, input_shape=(size, size, 3)
    )
    # At gain 2 this network is chaotic: both implementations are 1e-5 from their float64 value.
    randomise(model, gain=1.0)
    pairs = {
        "Conv1": "Conv1_relu",
        "expanded_conv": "expanded_conv_project_BN",
        "block_2": "block_2_add",
        "block_13_expand": "block_13_expand_relu",
        "Conv_1": "out_relu",
    }
    compare(MobileNetV2(width), model, pairs, size, save_npz(model, tmp_path / "mobilenet.npz"))


@pytest.mark.parametrize(
    ("network", "ending", "units"),
    [
        (ResNet50, ".npz", ("conv2_block1", "conv2_block2", "conv3_block1")),
        *(
            pytest.param(
                *case,
                ("conv2_block3", "conv3_block4", "conv4_block6", "conv5_block1", "conv5_block3"),
                marks=pytest.mark.slow,
            )
            for case in ((ResNet50, ".weights.h5"), (ResNet101, ".npz"))
        ),
    ],
)
def test_resnet(tmp_path, network, ending, units):
    name = network.__name__
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(64, 64, 3)
    )
    randomise(model)
    path = tmp_path / f"resnet{ending}"
    save_npz(model, path) if ending == ".npz" else model.save_weights(path)
    found = conventions(path, name)
    assert (found.layout, found.preprocessing) == ("keras", "caffe")
    module = network(final_endpoint=units[-1], **found.fields)
    pairs = {"conv1": "conv1_relu", "pool1": "pool1_pool"}
    pairs |= {unit: f"{unit}_out" for unit in units}
    compare(module, model, pairs, 64, path)
    whole = template(network(**found.fields), 64)
    assert sum(leaf.size for leaf in jax.tree.leaves(whole)) == model.count_params()


@pytest.mark.slow
def test_vgg16_classifier_at_its_own_size(tmp_path):
    model = keras.applications.VGG16(weights=None, classes=10, classifier_activation=None)
    randomise(model)
    module = VGG16(num_classes=10)
    path = save_npz(model, tmp_path / "vgg.npz")
    compare(module, model, {"fc6": "fc1", "logits": "predictions"}, 224, path)


@pytest.mark.parametrize(
    "ending",
    [".weights.h5", *(pytest.param(e, marks=pytest.mark.slow) for e in (".h5", ".keras"))],
)
def test_keras_own_files(tmp_path, ending):
    # A second network of the session: its layers' numbers start above 0.
    keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization()
    model = keras.applications.InceptionV3(
        weights=None, include_top=True, classes=3, input_shape=(75, 75, 3)
    )
    randomise(model)
    path = tmp_path / f"inception{ending}"
    (model.save_weights if ending == ".weights.h5" else model.save)(path)
    module = InceptionV3(final_endpoint="Mixed_5b")
    variables = load_pretrained(path, module, template(module, 75))
    by_npz = load_pretrained(
        save_npz(model, tmp_path / "same.npz"), "inception_v3", template(module, 75)
    )
    jax.tree.map(np.testing.assert_array_equal, variables, by_npz)
    whole = InceptionV3(geometry="standard", num_classes=3)
    variables = load_pretrained(path, whole, template(whole, 75))
    last = model.get_layer("predictions").kernel
    np.testing.assert_array_equal(variables["params"]["fc"]["kernel"], last)
    assert (variables["params"]["Mixed_7c"]["branch1x1"]["bn"]["scale"] == 1).all()


def test_mobilenet_files_of_keras_3_name_depthwise_kernels_kernel(tmp_path):
    model = keras.applications.MobileNetV2(
        alpha=0.35, weights=None, classes=3, input_shape=(64, 64, 3)
    )
    randomise(model)
    model.save_weights(tmp_path / "mobilenet.weights.h5")
    module = MobileNetV2(0.35, num_classes=3)
    variables = load_pretrained(tmp_path / "mobilenet.weights.h5", module, template(module, 64))
    kernel = variables["params"]["block_5_depthwise"]["kernel"]
    theirs = np.asarray(model.get_layer("block_5_depthwise").kernel)
    np.testing.assert_array_equal(kernel[:, :, 0], theirs[..., 0])
