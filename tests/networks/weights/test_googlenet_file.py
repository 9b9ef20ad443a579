"""GoogLeNet and its reader against the paper's table 1, through a file in torchvision's names.

The file is made up, of the names and shapes of torchvision's googlenet-1378be20.pth: 3x3 kernels
where the paper has 5x5, batch normalisation behind each convolution, two auxiliary classifiers. The
network is written out in float64, channels first, by NumPy and by PyTorch's layers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from numpy.lib.stride_tricks import sliding_window_view

from wsol_jax.base.errors import UserError
from wsol_jax.networks.backbones.googlenet import GoogLeNet
from wsol_jax.networks.weights import conventions, load_pretrained

SIDE = 64
# Table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj.
TABLE = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def convolutions():
    """(torchvision's name, channels in, out, side of the kernel) of all 57."""
    yield from (("conv1", 3, 64, 7), ("conv2", 64, 64, 1), ("conv3", 64, 192, 3))
    before = 192
    for block, (one, reduce_3, three, reduce_5, five, pooled) in TABLE.items():
        name = f"inception{block}"
        yield f"{name}.branch1", before, one, 1
        yield f"{name}.branch2.0", before, reduce_3, 1
        yield f"{name}.branch2.1", reduce_3, three, 3
        yield f"{name}.branch3.0", before, reduce_5, 1
        yield f"{name}.branch3.1", reduce_5, five, 3
        yield f"{name}.branch4.1", before, pooled, 1
        before = one + three + five + pooled


@pytest.fixture(scope="module")
def arrays():
    rng, found = np.random.default_rng(0), {}
    for name, before, after, side in convolutions():
        kernel = rng.normal(size=(after, before, side, side))
        found[f"{name}.conv.weight"] = kernel * (2 / kernel[0].size) ** 0.5
        found[f"{name}.bn.weight"], found[f"{name}.bn.running_var"] = rng.uniform(
            0.5, 1.5, (2, after)
        )
        found[f"{name}.bn.bias"], found[f"{name}.bn.running_mean"] = 0.2 * rng.normal(
            size=(2, after)
        )
        found[f"{name}.bn.num_batches_tracked"] = np.array(0.0)
    for aux, channels in (("aux1", 512), ("aux2", 528)):
        found[f"{aux}.conv.conv.weight"] = np.zeros((128, channels, 1, 1))
        found[f"{aux}.fc2.weight"] = np.zeros((1000, 1024))
    found["fc.weight"], found["fc.bias"] = rng.normal(size=(1000, 1024)) / 32, rng.normal(size=1000)
    return {name: array.astype(np.float32) for name, array in found.items()}


@pytest.fixture(scope="module")
def path(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "googlenet.npz"
    np.savez(path, **arrays)
    return path


def windows(x, side, stride, before, after, fill):
    """(C, H, W) -> (C, H', W', side, side), with so many cells of ``fill`` on each side."""
    pads = ((0, 0), (before, after), (before, after))
    x = np.pad(x, pads, constant_values=fill)
    return sliding_window_view(x, (side, side), (1, 2))[:, ::stride, ::stride]


def pool(x, side, stride, pad=0):
    """Caffe's and PyTorch's ceil mode: what a window lacks at the far edge it does without."""
    after = pad + -(x.shape[1] + 2 * pad - side) % stride
    return windows(x, side, stride, pad, after, -np.inf).max((3, 4))


def conv(x, kernel, norm, stride):
    """Convolution, normalisation by the stored statistics, ReLU."""
    pad = kernel.shape[2] // 2
    x = windows(x, kernel.shape[2], stride, pad, pad, 0)
    x = np.einsum("chwij,ocij->ohw", x, kernel, optimize=True)
    scale = norm["weight"] / np.sqrt(norm["running_var"] + 1e-3)
    bias = norm["bias"] - norm["running_mean"] * scale
    return np.maximum(x * scale[:, None, None] + bias[:, None, None], 0)


def by_hand(arrays, image, final="5b", conv=conv, pool=pool, join=np.concatenate):
    """Endpoints (C, H, W) of an image (3, H, W), as the paper's figure 3 draws them."""
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}

    def chain(x, *names, stride=1):
        for name in names:
            leaves = ("weight", "bias", "running_mean", "running_var")
            norm = {leaf: wide[f"{name}.bn.{leaf}"] for leaf in leaves}
            x = conv(x, wide[f"{name}.conv.weight"], norm, stride)
        return x

    found = {"conv1": chain(image, "conv1", stride=2)}
    found["conv2"] = chain(pool(found["conv1"], 3, 2), "conv2")
    found["conv3"] = chain(found["conv2"], "conv3")
    x = pool(found["conv3"], 3, 2)
    for block in TABLE:
        if block in ("4a", "5a"):
            x = pool(x, 3 if block == "4a" else 2, 2)
        name = f"inception{block}"
        branches = (
            chain(x, f"{name}.branch1"),
            chain(x, f"{name}.branch2.0", f"{name}.branch2.1"),
            chain(x, f"{name}.branch3.0", f"{name}.branch3.1"),
            chain(pool(x, 3, 1, 1), f"{name}.branch4.1"),
        )
        x = found[name] = join(branches)
        if block == final:
            break
    if final == "5b":
        found["logits"] = arrays["fc.weight"] @ np.asarray(x).mean((1, 2)) + arrays["fc.bias"]
    return found


IMAGE = np.random.default_rng(1).uniform(-1, 1, (SIDE, SIDE, 3)).astype(np.float32)
CHANNELS_FIRST = IMAGE.transpose(2, 0, 1).astype(np.float64)


def test_pytorchs_layers_compute_what_is_computed_by_hand(arrays):
    torch = pytest.importorskip("torch")
    from torch.nn import functional

    def conv(x, kernel, norm, stride):
        norm = {leaf: torch.from_numpy(array) for leaf, array in norm.items()}
        padding = kernel.shape[2] // 2
        x = functional.conv2d(x[None], torch.from_numpy(kernel), stride=stride, padding=padding)
        return functional.batch_norm(x, **norm, eps=1e-3)[0].relu()

    pool = lambda x, side, stride, pad=0: functional.max_pool2d(
        x, side, stride, pad, ceil_mode=True
    )
    image = torch.from_numpy(CHANNELS_FIRST)
    theirs = by_hand(arrays, image, conv=conv, pool=pool, join=torch.cat)
    for name, expected in by_hand(arrays, CHANNELS_FIRST).items():
        np.testing.assert_allclose(theirs[name], expected, atol=1e-9 * np.abs(expected).max())


def loaded(path, module):
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    return load_pretrained(path, module, jax.eval_shape(module.init, jax.random.key(0), images))


@pytest.mark.parametrize("final", ["4a", pytest.param("5b", marks=pytest.mark.slow)])
def test_its_features_and_scores_are_those_by_hand(arrays, path, final):
    classes = 1000 if final == "5b" else None
    module = GoogLeNet(final_endpoint=f"inception{final}", num_classes=classes)
    ours = quick(module.apply)(loaded(path, module), IMAGE[None])
    theirs = by_hand(arrays, CHANNELS_FIRST, final)
    assert {name for name in ours if "pool" not in name} == set(theirs)
    for name, expected in theirs.items():
        expected = expected.transpose(1, 2, 0) if expected.ndim == 3 else expected
        assert ours[name][0].shape == expected.shape
        largest = np.abs(expected).max()
        assert largest > 1e-2
        np.testing.assert_allclose(ours[name][0], expected, atol=1e-4 * largest, err_msg=name)


def test_the_trunk_of_googlenet_gap_reads_the_whole_published_file(path):
    variables = loaded(path, GoogLeNet(output_stride=16, final_endpoint="inception4e"))
    assert "inception4e" in variables["params"] and "inception5a" not in variables["params"]
    assert conventions(path, "googlenet") == ("torchvision", "tf", {})


def test_what_does_not_fit_is_named(arrays, tmp_path):
    path, wrong = tmp_path / "wrong.npz", dict(arrays)
    del wrong["inception3a.branch4.1.bn.bias"]
    # The paper's own kernel, which torchvision's file has not.
    wrong["inception3a.branch3.1.conv.weight"] = np.zeros((32, 16, 5, 5), np.float32)
    np.savez(path, aux3=np.zeros(1, np.float32), **wrong)
    with pytest.raises(UserError) as error:
        loaded(path, GoogLeNet(final_endpoint="inception3b"))
    for said in (
        "1 missing: params/inception3a/branch4_1/bn/bias",
        "1 unexpected: aux3",
        "(5, 5, 16, 32)",
    ):
        assert said in str(error.value)
