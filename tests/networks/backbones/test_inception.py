"""Inception-v3's blocks against their branches one by one, as the paper draws them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsol_jax.networks.backbones.inception_blocks import BLOCKS
from wsol_jax.networks.backbones.inception_modules import Mixed
from wsol_jax.networks.taps import tapped


def one_by_one(block, variables, x, count_include_pad):
    """Every convolution by itself, the mean before the 1x1 convolution."""

    def conv(layer, x):
        name, _, _, reduces = layer
        assert not reduces
        kernel = variables["params"][name]["conv"]["kernel"]
        norm, stats = variables["params"][name]["bn"], variables["batch_stats"][name]["bn"]
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        y = (y - stats["mean"]) / jnp.sqrt(stats["var"] + 1e-3)
        return nn.relu(y * norm["scale"] + norm["bias"])

    outputs = []
    for branch in BLOCKS[block]:
        y = x
        for layer in branch:
            if layer == "average":
                y = nn.avg_pool(y, (3, 3), padding="SAME", count_include_pad=count_include_pad)
            elif isinstance(layer[0], str):
                y = conv(layer, y)
            else:
                y = jnp.concatenate([conv(fork, y) for fork in layer], axis=-1)
        outputs.append(y)
    return jnp.concatenate(outputs, axis=-1)


def mixed(block, count_include_pad=True):
    return Mixed(
        BLOCKS[block],
        0.25,
        stride=1,
        reduction_padding=((1, 1), (1, 1)),
        count_include_pad=count_include_pad,
        batch_norm="inference",
        dtype=None,
    )


@pytest.mark.parametrize(
    ("block", "inside"),
    [("Mixed_5b", True), ("Mixed_6b", True), ("Mixed_6b", False), ("Mixed_7b", True)],
)
def test_the_first_convolutions_as_one_change_nothing(block, inside):
    module, rng = mixed(block, inside), np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 5, 24)).astype(np.float32)
    variables = module.init(jax.random.key(0), x, False, None)
    variables = jax.tree.map(
        lambda leaf: (leaf + rng.uniform(0, 0.3, leaf.shape)).astype(np.float32), variables
    )
    expected = one_by_one(block, variables, x, inside)
    weights = rng.normal(size=expected.shape).astype(np.float32)

    def values(apply):
        value = lambda v, x: jnp.sum(apply(v, x) * weights)
        return jax.jit(jax.grad(value, argnums=(0, 1)))(variables, x)

    found = module.apply(variables, x, False, None)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    ours = values(lambda v, x: module.apply(v, x, False, None))
    theirs = values(lambda v, x: one_by_one(block, v, x, inside))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(np.abs(b).max(), 1e-6))


@pytest.mark.parametrize(("block", "reads"), [("Mixed_5b", 1), ("Mixed_6e", 1), ("Mixed_6a", 3)])
def test_how_often_the_input_is_read(block, reads):
    """Once; of Mixed_6a by a strided 3x3 convolution, a 1x1 one and a pool."""
    module, x = mixed(block), jnp.zeros((1, 8, 8, 16))
    variables = module.init(jax.random.key(0), x, False, None)
    # Normalisation and ReLU are functions of their own; what reads the input stands outside.
    jaxpr = jax.make_jaxpr(lambda x: module.apply(variables, x, False, None))(x).jaxpr
    assert sum(jaxpr.invars[0] in equation.invars for equation in jaxpr.eqns) == reads


def test_a_tap_sees_layers_and_no_kernels():
    module, x = mixed("Mixed_5b"), jnp.ones((1, 8, 8, 16))
    variables = module.init(jax.random.key(0), x, False, None)
    with tapped("branch1x1") as seen:
        whole = module.apply(variables, x, False, None)
    np.testing.assert_array_equal(seen.only(), whole[..., :16])
    layers = {name.rpartition("/")[2] for name in seen.names}
    assert {"branch1x1", "branch_pool", "branch3x3dbl_3"} <= layers and "conv" not in layers
