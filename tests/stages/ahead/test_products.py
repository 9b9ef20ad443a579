"""Counted operations against loops that do them, and against XLA's own count."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from wsol_jax.stages.ahead.products import count_flops


def counted(function, *shapes):
    given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    traced = jax.jit(function).trace(*given)
    return count_flops(traced.jaxpr.jaxpr), traced.lower().cost_analysis()["flops"]


def conv(x, kernel, stride=1, padding="SAME", dilation=1, groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def met(size, window, stride, dilation, low, high):
    """A loop: outputs and kernel places along a side that meet a pixel."""
    span = (window - 1) * dilation + 1
    outputs = (size + low + high - span) // stride + 1
    pairs = itertools.product(range(outputs), range(window))
    return sum(0 <= o * stride + k * dilation - low < size for o, k in pairs)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("pads", [((0, 0), (0, 0)), ((1, 1), (2, 1))])
def test_a_convolution(stride, dilation, groups, pads):
    function = lambda x, kernel: conv(x, kernel, stride, pads, dilation, groups)
    found, xla = counted(function, (2, 9, 11, 8), (3, 3, 8 // groups, 16))
    rows, columns = (
        met(size, 3, stride, dilation, *pair) for size, pair in zip((9, 11), pads, strict=True)
    )
    assert found == 2 * 2 * rows * columns * (8 // groups) * 16
    assert found == xla


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 4), (2, 8)])
def test_a_gradient_is_two_more_convolutions(stride, groups):
    shapes = (2, 9, 9, 8), (3, 3, 8 // groups, 16)
    function = lambda x, kernel: conv(x, kernel, stride, groups=groups)
    forward, _ = counted(function, *shapes)

    def step(x, kernel):
        y, back = jax.vjp(function, x, kernel)
        return back(y)

    found, _ = counted(step, *shapes)
    # A gradient's kernel place meets the same pixels as the forward's.
    assert found == pytest.approx(3 * forward)


def test_a_matrix_product_in_loops_and_branches():
    """Seven turns of a scan count seven times, as XLA's own count of a compiled loop does not."""
    product = 2 * 3 * 4 * 4

    def scan(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, length=7)[0]

    assert counted(scan, (3, 4), (4, 4))[0] == 7 * product
    fori = lambda x, w: jax.lax.fori_loop(0, 5, lambda i, x: x @ w, x)
    assert counted(fori, (3, 4), (4, 4))[0] == 5 * product
    branch = lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda x: x @ w, lambda x: x @ w @ w, x)
    assert counted(branch, (3, 4), (4, 4))[0] == 2 * product
    again = lambda x, w: jax.grad(jax.checkpoint(lambda x: jnp.sum(jnp.sin(x @ w) @ w)))(x)
    assert counted(again, (3, 4), (4, 4))[0] >= 3 * product
    batched = jax.vmap(lambda x, w: x @ w, in_axes=(0, None))
    assert counted(batched, (6, 3, 4), (4, 4))[0] == 6 * product
