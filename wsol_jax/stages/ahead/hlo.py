"""Parses a compiled program (XLA's HLO text) into computations, and walks the kernels that run."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

_BITS = {
    "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32,
    "s64": 64, "u64": 64, "f16": 16, "bf16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128,
}  # fmt: skip
_LEAF = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_TILED = re.compile(r"([\d,]*):T\(([\d,]+)\)")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
CALLED = re.compile(r"(?:to_apply|calls|body|condition)=%?([\w.\-]+)")
_BRANCHES = re.compile(
    r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+))"
)


@dataclasses.dataclass(frozen=True)
class Array:
    """An array of a shape.

    Attributes:
      bytes: what it takes, padding included.
      numbers: the bytes of its numbers alone.
      is_main: whether it lies in the chip's main memory.
    """

    bytes: int
    numbers: int
    is_main: bool


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation: its result's arrays, operation, operands' names, the rest of it."""

    name: str
    arrays: tuple[Array, ...]
    operation: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool

    @property
    def bytes(self) -> int:
        """Of the result, in main memory."""
        return sum(array.bytes for array in self.arrays if array.is_main)

    @property
    def numbers(self) -> int:
        """Bytes of the result's numbers, wherever it lies."""
        return sum(array.numbers for array in self.arrays)


Computation = Mapping[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Program:
    """Computations by name; ``entry`` is the one that runs."""

    computations: Mapping[str, Computation]
    entry: str


def arrays_of(shape: str) -> tuple[Array, ...]:
    """The arrays of a shape as HLO writes it: ``f32[8,3]{1,0:T(8,128)S(1)}`` or a tuple of such.

    A TPU keeps an array in tiles, T(8,128) of its last two sides in the layout's order: what does
    not fill them is padded, and takes memory and traffic as if it were there. S(1) is a TPU's
    memory on the core.
    """
    found = []
    for kind, sides, layout in _LEAF.findall(shape):
        if kind not in _BITS:  # of tokens and of whatever is no number
            continue
        sides = [int(side) for side in sides.split(",") if side]
        numbers = -(-math.prod(sides) * _BITS[kind] // 8)
        tiled = _TILED.match(layout)
        if tiled:
            order = [int(axis) for axis in tiled[1].split(",") if axis]
            tile = [int(side) for side in tiled[2].split(",")]
            for axis, side in zip(order, reversed(tile), strict=False):
                sides[axis] = -(-sides[axis] // side) * side
        bits = math.prod(sides) * _BITS[kind]
        found.append(Array(-(-bits // 8), numbers, not (tiled and "S(" in layout)))
    return tuple(found)


def parse(text: str) -> Program:
    """The program of a compiled module's text (``jax.stages.Compiled.as_text()``)."""
    computations, entry, current = {}, "", {}
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head:
            current = computations[head[2]] = {}
            entry = head[2] if head[1] else entry
            continue
        start = _LINE.match(line)
        if start:
            instruction = _instruction(start[2], line[start.end() :], bool(start[1]))
            current[instruction.name] = instruction
    return Program(computations, entry)


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    end = _closing(text, 0) if text[0] == "(" else text.index(" ") - 1
    shape, rest = text[: end + 1], text[end + 2 :]
    operation, _, _ = rest.partition("(")
    last = _closing(rest, len(operation))
    given = rest[len(operation) + 1 : last]
    operands = (
        (given,) if operation in ("parameter", "constant") else re.findall(r"%([\w.\-]+)", given)
    )
    return Instruction(name, arrays_of(shape), operation, operands, rest[last + 1 :], is_root)


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at ``start`` is closed."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if not depth:
            return i
    return len(text) - 1


def walk(program: Program) -> Iterator[tuple[Instruction, Computation, int]]:
    """Every kernel with its computation, and how often it runs."""
    yield from _walk(program, program.entry, 1)


def _walk(program: Program, name: str, times: int):
    computation = program.computations[name]
    for instruction in computation.values():
        operation = instruction.operation
        if operation == "while":
            turns = times * _turns(program, instruction, computation)
            for called in CALLED.findall(instruction.rest):
                yield from _walk(program, called, turns)
        elif operation in ("call", "async-start"):
            for called in CALLED.findall(instruction.rest):
                yield from _walk(program, called, times)
        elif operation == "conditional":
            for several, single in _BRANCHES.findall(instruction.rest):
                for called in re.findall(r"[\w.\-]+", several or single):
                    yield from _walk(program, called, times)
        else:
            yield instruction, computation, times


def _turns(program: Program, loop: Instruction, known: Computation) -> int:
    """How often a loop turns: as XLA notes it, or as its condition counts; 1 where neither says."""
    noted = _TRIPS.search(loop.rest)
    if noted:
        return int(noted[1])
    condition = program.computations[re.search(r"condition=%?([\w.\-]+)", loop.rest)[1]]
    root = next(x for x in condition.values() if x.is_root)
    if root.operation != "compare" or "direction=LT" not in root.rest:
        return 1
    counter, end = (condition[name] for name in root.operands)
    place = re.search(r"index=(\d+)", counter.rest)
    if end.operation != "constant" or place is None:
        return 1
    start = known[known[loop.operands[0]].operands[int(place[1])]]
    while start.operation in ("copy", "bitcast", "copy-done", "copy-start"):
        start = known[start.operands[0]]
    first = int(start.operands[0]) if start.operation == "constant" else 0
    return max(int(end.operands[0]) - first, 1)
