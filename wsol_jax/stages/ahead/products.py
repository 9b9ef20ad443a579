"""Counts the products and sums of a traced function: its convolutions and matrix products."""

import math
from collections.abc import Iterator

import numpy as np
from jax.extend import core


def count_flops(jaxpr: core.Jaxpr) -> float:
    """Products and sums (a pair is 2) of all convolutions and matrix products.

    As they are written, whatever a compiler makes of them; a scan's as often as it turns, a
    while's once, a conditional's dearest branch. All else (activations, norms, losses) is little
    beside them, and is left out.
    """
    return float(sum(_equation(equation) for equation in jaxpr.eqns))


def _equation(equation: core.JaxprEqn) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _dot(equation)
    if name == "conv_general_dilated":
        return _convolution(equation)
    inner = [count_flops(jaxpr) for jaxpr in _inner(params)]
    if name == "cond":
        return max(inner)
    if name == "scan":
        return params["length"] * sum(inner)
    return sum(inner)


def _dot(equation: core.JaxprEqn) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)


def _convolution(equation: core.JaxprEqn) -> float:
    """2 for each number that an output sums over; zeros of padding and dilation are none."""
    params = equation.params
    (_, in_channels, *window), (_, _, *places) = (
        [x.aval.shape[axis] for axis in spec]
        for x, spec in zip(
            (equation.invars[1], equation.invars[0]),
            (params["dimension_numbers"].rhs_spec, params["dimension_numbers"].lhs_spec),
            strict=True,
        )
    )
    outputs = [equation.outvars[0].aval.shape[i] for i in params["dimension_numbers"].out_spec]
    sides = zip(
        *(places, window, outputs[2:], params["window_strides"], params["padding"]),
        *(params["lhs_dilation"], params["rhs_dilation"]),
        strict=True,
    )
    met = math.prod(_meetings(*side) for side in sides)
    return 2 * math.prod(outputs[:2]) * in_channels * met


def _meetings(size, window, outputs, stride, padding, spread, dilation) -> int:
    """How many pairs of an output and a kernel place along a side meet one of ``size`` inputs."""
    first = np.arange(outputs)[:, None] * stride - padding[0]
    place = first + np.arange(window) * dilation
    return int(np.sum((place >= 0) & (place <= (size - 1) * spread) & (place % spread == 0)))


def _inner(params) -> Iterator[core.Jaxpr]:
    for value in params.values():
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, core.ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, core.Jaxpr):
                yield one
