"""Mean field's iteration on the host in numba: blur, slice, softmax and splat of float32 vectors.

Values are rows of vectors of 4 or 8 lanes, classes last, and pixels go in order: what a pixel
reads and adds to lies where the pixel before it did. ``like`` is a tuple with one number a lane,
whose type says to the compiler how long vectors are.

All kernels that use vectors live in this file: numba keeps compiled code until the caller's own
file changes.
"""

import functools

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import make_array

from wsol_jax.ops.crf.host_lattice import compiled

_BLOCK = 64  # pixels whose rows fit the nearest cache
_inline = numba.njit(forceinline=True)


class _Vector(types.Type):
    def __init__(self, lanes: int):
        self.lanes = lanes
        super().__init__(name=f"Vector({lanes})")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.VectorType(ir.FloatType(), kind.lanes))


def _pointer(context, builder, kind, array, start, lanes):
    first = builder.gep(make_array(kind)(context, builder, array).data, [start])
    return builder.bitcast(first, ir.VectorType(ir.FloatType(), lanes).as_pointer())


@intrinsic
def _load(_, like, array, start):
    """The lanes of a flat float32 array from ``start`` on."""

    def code(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[1], *arguments[1:], len(like))
        return builder.load(pointer, align=4)

    return _Vector(len(like))(like, array, start), code


@intrinsic
def _store(_, array, start, vector):
    """Writes the lanes to a flat float32 array from ``start`` on."""

    def code(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2], vector.lanes)
        builder.store(arguments[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, start, vector), code


@intrinsic
def _spread(_, like, number):
    """One float32 in all lanes."""

    def code(context, builder, signature, arguments):
        return _constant(builder, arguments[1], len(like))

    return _Vector(len(like))(like, types.float32), code


def _constant(builder, scalar, lanes):
    vector = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    for lane in range(lanes):
        vector = builder.insert_element(vector, scalar, ir.IntType(32)(lane))
    return vector


def _folded(builder, vector, combine):
    """All lanes combined into one: eights first, then halves."""
    index = lambda part: ir.Constant(ir.VectorType(ir.IntType(32), len(part)), list(part))
    lanes = vector.type.count
    while lanes > 1:
        step = 8 if lanes > 8 else lanes // 2
        parts = [range(start, start + step) for start in range(0, lanes, step)]
        vectors = [builder.shuffle_vector(vector, vector, index(part)) for part in parts]
        vector, lanes = functools.reduce(combine, vectors), step
    return builder.extract_element(vector, ir.IntType(32)(0))


@intrinsic
def _greatest(_, vector):
    """The greatest lane."""

    def code(context, builder, signature, arguments):
        combine = lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b)
        return _folded(builder, arguments[0], combine)

    return types.float32(vector), code


@intrinsic
def _total(_, vector):
    """The sum of the lanes."""

    def code(context, builder, signature, arguments):
        return _folded(builder, arguments[0], builder.fadd)

    return types.float32(vector), code


def _fused(builder, kind):
    """LLVM's a b + c of vectors, one instruction where the processor has it."""
    function = ir.FunctionType(kind, [kind] * 3)
    return cgutils.get_or_insert_function(
        builder.module, function, f"llvm.fmuladd.v{kind.count}f32"
    )


@intrinsic
def _multiply_add(_, a, b, c):
    """a b + c."""

    def code(context, builder, signature, arguments):
        return builder.call(_fused(builder, arguments[0].type), arguments)

    return a(a, b, c), code


@intrinsic
def _greater(_, a, b):
    """The greater in each lane; b where either is NaN."""

    def code(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return a(a, b), code


@intrinsic
def _exponential(_, x, least):
    """exp(x) of x <= 0, within 2 units in the last place; 0 below ``least`` (>= -87), NaN of NaN.

    2^n exp(r) with x = n log 2 + r, |r| <= log(2) / 2, and Taylor's first terms of exp(r).
    """

    def code(context, builder, signature, arguments):
        x, least = arguments
        kind = x.type
        number = lambda value: ir.Constant(kind, [value] * kind.count)
        whole = ir.VectorType(ir.IntType(32), kind.count)
        fused = _fused(builder, kind)
        magic = number(1.5 * 2**23)  # a float32 plus this is rounded, n in its last bits
        shifted = builder.call(fused, [x, number(_single(1 / np.log(2))), magic])
        n = builder.fsub(shifted, magic)
        r = builder.call(fused, [n, number(-0.693359375), x])  # log 2 in two parts
        r = builder.call(fused, [n, number(_single(0.693359375 - np.log(2))), r])
        series = number(_single(1 / 5040))
        for factorial in (720, 120, 24, 6, 2, 1, 1):
            series = builder.call(fused, [series, r, number(_single(1 / factorial))])
        bits = builder.shl(builder.bitcast(shifted, whole), ir.Constant(whole, [23] * kind.count))
        bits = builder.add(bits, ir.Constant(whole, [127 << 23] * kind.count))
        value = builder.fmul(series, builder.bitcast(bits, kind))
        return builder.select(builder.fcmp_ordered("<", x, least), number(0.0), value)

    return x(x, x), code


def _single(value: float) -> float:
    return float(np.float32(value))


@compiled
def pad_scores(unary, width):
    """(N, C) float32 unaries -> (N * width,) scores, -inf in the lanes that are of no class."""
    count, classes = unary.shape
    scores = np.full(count * width, -np.inf, np.float32)
    for p in range(count):
        for c in range(classes):
            scores[p * width + c] = -unary[p, c]
    return scores


@_inline
def _gather(like, corners, scores, places, weights, fields, block, first, last):
    """Scores plus what pixels read at their vertices, into ``block``."""
    lanes, width = len(like), len(scores) // len(places)
    for p in range(first, last):
        for b in range(0, width, lanes):
            score = _load(like, scores, p * width + b)
            if len(fields):
                for k in range(len(corners)):
                    weight = _spread(like, weights[p, k])
                    score = _multiply_add(weight, _load(like, fields, places[p, k] + b), score)
            _store(block, (p - first) * width + b, score)


@_inline
def _softmax(like, block, start, width, least):
    """Softmax over a pixel's row of ``block``, in place."""
    lanes, most = len(like), _spread(like, np.float32(-np.inf))
    one, minus = _spread(like, np.float32(1)), _spread(like, np.float32(-1))
    nothing = _spread(like, np.float32(0))
    for at in range(start, start + width, lanes):
        most = _greater(_load(like, block, at), most)
    most, total = _spread(like, _greatest(most)), nothing
    for at in range(start, start + width, lanes):
        value = _exponential(_multiply_add(minus, most, _load(like, block, at)), least)
        _store(block, at, value)
        total = _multiply_add(one, total, value)
    share = _spread(like, np.float32(1) / _total(total))
    for at in range(start, start + width, lanes):
        _store(block, at, _multiply_add(share, _load(like, block, at), nothing))


@_inline
def _splat(like, corners, block, places, weights, sums, width, first, last):
    """Adds the rows of ``block`` to the pixels' vertices."""
    for p in range(first, last):
        for b in range(0, width, len(like)):
            value = _load(like, block, (p - first) * width + b)
            for k in range(len(corners)):
                at, weight = places[p, k] + b, _spread(like, weights[p, k])
                _store(sums, at, _multiply_add(weight, value, _load(like, sums, at)))


@compiled
def sweep(like, corners, scores, places, weights, fields, sums, found, span, least):
    """From blurred vertices to the probabilities of a span of pixels, and to their splat.

    Blocks of pixels go through the steps, so that a step's work on one does not wait for another's.

    Args:
      corners: a tuple of K numbers.
      scores: (N * width,). places: (N, K) int32, where a vertex's row begins. weights: (N, K).
      fields: (rows * width,) what is read at the vertices; empty: nothing.
      sums: (rows * width,) what the probabilities are added to; empty: nothing.
      found: (N, C) where the probabilities go; empty: nowhere.
      least: exp of what is less counts as 0.
    """
    width, size = len(scores) // len(places), _BLOCK
    block, least = np.empty(width * size, np.float32), _spread(like, np.float32(least))
    for first in range(span[0], span[1], size):
        last = min(first + size, span[1])
        _gather(like, corners, scores, places, weights, fields, block, first, last)
        for q in range(last - first):
            _softmax(like, block, q * width, width, least)
        if len(sums):
            _splat(like, corners, block, places, weights, sums, width, first, last)
        if len(found):
            for p in range(first, last):
                for c in range(found.shape[1]):
                    found[p, c] = block[(p - first) * width + c]


@compiled
def collect(like, sums, target, copied, base, size, originals, width):
    """Adds the stand-ins' rows to those that they stand for, into ``target``, a copy or not."""
    one = _spread(like, np.float32(1))
    if copied:
        for i in range(base * width, (base + size) * width):
            target[i] = sums[i]
    for i in range(len(originals)):
        at, stand_in = (base + originals[i]) * width, (base + size + 1 + i) * width
        for b in range(0, width, len(like)):
            value = _load(like, target, at + b)
            _store(target, at + b, _multiply_add(one, value, _load(like, sums, stand_in + b)))


@compiled
def hand_out(like, fields, base, size, originals, width):
    """Copies rows to their stand-ins."""
    for i in range(len(originals)):
        at, stand_in = (base + originals[i]) * width, (base + size + 1 + i) * width
        for b in range(0, width, len(like)):
            _store(fields, stand_in + b, _load(like, fields, at + b))


@compiled
def blur_axis(like, source, target, sides, base, width, span):
    """[1/2, 1, 1/2] along an axis, for a span of a lattice's rows; the row of nothing is 0.

    sides: (M, 2). base: the row of all lattices' that is this one's first.
    """
    half, one = _spread(like, np.float32(0.5)), _spread(like, np.float32(1))
    for row in range(span[0], span[1]):
        at = (base + row) * width
        ahead, behind = (base + sides[row, 0]) * width, (base + sides[row, 1]) * width
        for b in range(0, width, len(like)):
            both = _load(like, source, ahead + b)
            both = _multiply_add(one, both, _load(like, source, behind + b))
            _store(target, at + b, _multiply_add(half, both, _load(like, source, at + b)))
