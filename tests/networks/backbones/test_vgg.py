"""VGG16 against the textbook's order of its layers: convolution, bias, ReLU, pool."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsol_jax.networks.backbones.vgg import VGG16
from wsol_jax.networks.taps import LinenTap

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
KINDS = {
    "vgg16": {},
    "cam": {"output_stride": 16, "relaxed_pools": "absent"},
    "spg": {"output_stride": 8},
    "deeplab": {"output_stride": 8, "dilate": True, "pool_window": 3, "ceil_mode": True},
}


class Textbook(nn.Module):
    """The layers one by one, by Flax's own modules and windows."""

    kind: dict

    @nn.compact
    def __call__(self, x):
        relaxed = self.kind.get("output_stride", 32)
        window, dilation, stride = self.kind.get("pool_window", 2), 1, 1
        found = {}
        for block, (channels, depth) in enumerate(BLOCKS, 1):
            for index in range(depth):
                rate = dilation if self.kind.get("dilate") else 1
                name = f"conv{block}_{index + 1}"
                conv = nn.Conv(channels // 8, (3, 3), kernel_dilation=rate, name=name)
                x = found[name] = nn.relu(conv(x))
            if stride < relaxed:
                pads = [(window - 2, self._far(size, window)) for size in x.shape[1:3]]
                x = nn.max_pool(x, (window, window), (2, 2), padding=pads)
                stride *= 2
            else:
                dilation *= 2
                if self.kind.get("relaxed_pools", "stride1") == "stride1":
                    x = nn.max_pool(x, (3, 3), (1, 1), padding=((1, 1), (1, 1)))
            found[f"pool{block}"] = x
        return found

    def _far(self, size, window):
        """Padding behind: 3x3 windows have a pixel on both sides, and Caffe rounds sizes up."""
        near = window - 2
        cells = (size + 2 * near - window) / 2 + 1
        cells = int(np.ceil(cells) if self.kind.get("ceil_mode") else np.floor(cells))
        return max((cells - 1) * 2 + window - size - near, 0)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 45, 37, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_pooling_before_bias_and_relu_changes_nothing(kind, images):
    """max(y) + b = max(y + b) and relu(max(y)) = max(relu(y)), gradients too; names, starts too."""
    ours, textbook = VGG16(0.125, **KINDS[kind]), Textbook(KINDS[kind])
    variables = textbook.init(jax.random.key(0), images)
    started = ours.init(jax.random.key(0), images)
    assert jax.tree.structure(started) == jax.tree.structure(variables)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda x: (x + 0.1 * rng.normal(size=x.shape)).astype(np.float32), started
    )
    places = rng.normal(size=(1, 1, 1, 64)).astype(np.float32)

    def value(module, variables):
        found = module.apply(variables, images)
        # Of a layer that something else reads too, here conv2_2, both gradients come together.
        total = jnp.sum(found["pool5"] * places) + 0.1 * jnp.sum(found["conv2_2"])
        return total, found

    (a, b) = (
        jax.value_and_grad(lambda v, m=module: value(m, v), has_aux=True)(variables)
        for module in (ours, textbook)
    )
    (_, found), gradient = a
    (_, expected), reference = b
    assert list(found) == list(expected)
    for name in expected:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=2e-5 * scale)
    for leaf, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=0, atol=2e-4 * np.abs(other).max())


def test_what_is_kept_in_front_of_a_pool(images):
    """Of conv1_2 the gradient needs one array of the photo's size, not two."""
    module = VGG16(0.125, final_endpoint="pool1")
    variables = module.init(jax.random.key(0), images)
    _, pull = jax.vjp(lambda v: module.apply(v, images)["pool1"], variables)
    kept = [x for x in jax.tree.leaves(pull) if getattr(x, "shape", ()) == (2, 45, 37, 8)]
    # conv1_1's output, before or after ReLU, and its mask; of conv1_2 nothing of this size.
    assert len(kept) <= 3


@pytest.mark.parametrize("layer", ["conv1_1", "conv1_2", "conv2_1:input"])
def test_a_tap_sees_the_textbooks_layers(layer, images):
    """Bias and all, also in front of a pool; a bump there moves what comes behind as much."""
    ours, textbook = VGG16(0.125, final_endpoint="conv2_1"), Textbook({})
    variables = textbook.init(jax.random.key(0), images)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape), variables)
    kept = {name: variables["params"][name] for name in ("conv1_1", "conv1_2", "conv2_1")}
    last = lambda found: found["conv2_1"]
    tap, reference = LinenTap(ours, last), LinenTap(textbook, last)
    features, _ = reference(variables, images, layer)
    bump = rng.normal(size=features.shape).astype(np.float32)
    for more in (None, bump):
        found = tap({"params": kept}, images, layer, more)
        expected = reference(variables, images, layer, more)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())
