"""What is traced for another device has that device's forms, and is not taken for this one's."""

import jax
import jax.numpy as jnp

from wsol_jax.base import target
from wsol_jax.methods.shared import compute_dtype
from wsol_jax.networks.backbones.layers import depthwise_conv
from wsol_jax.networks.backbones.pooling import max_pool


def test_the_target_decides_the_dtype():
    assert target.platform() == jax.default_backend() == "cpu"
    assert compute_dtype("auto") == jnp.float32
    for platform in ("tpu", "gpu"):
        with target.traced_for(platform):
            assert target.platform() == platform
            assert compute_dtype("auto") == jnp.bfloat16
            assert compute_dtype("float32") == jnp.float32
    assert compute_dtype("auto") == jnp.float32


def test_a_compiled_function_is_not_found_again_for_another_target():
    """Forms written out on CPU are in the CPU's trace alone, however often either is asked for."""

    @jax.jit
    def layers(x, kernel):
        return max_pool(depthwise_conv(x, kernel), 2, 2)

    shapes = jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.float32), jnp.ones((3, 3, 1, 4))
    forms = []
    for platform in ("cpu", "tpu", "cpu", "tpu"):
        with target.traced_for(platform):
            text = str(layers.trace(*shapes).jaxpr)
        forms.append(("conv_general_dilated" in text, "reduce_window_max" in text))
    assert forms == 2 * [(False, False), (True, True)]
