"""Counts what a compiled program moves, what its chips say to each other, and calls of the host.

A compiled program is a list of kernels. What a kernel reads and writes are its operands and its
result, as far as they lie in the chip's main memory; what happens inside a fusion stays on the
chip. Loops whose number of turns is known count that often.
"""

import collections
import re
from collections.abc import Iterator

from wsol_jax.stages.ahead.hlo import CALLED, Computation, Instruction, Program, walk

COLLECTIVES = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"
)  # fmt: skip
# Names alone: nothing moves. What is done in the background is counted where it starts.
_FREE = frozenset(
    ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "domain",
     "opt-barrier", "partition-id", "replica-id", "add-dependency")
)  # fmt: skip
_UPDATES = {"dynamic-update-slice": 1, "scatter": 2}  # in place, and which operand says with what
_SLICES = ("slice", "dynamic-slice", "gather")
_HOST = ("infeed", "outfeed", "send", "recv", "send-done", "recv-done")
_HOST_TARGET = re.compile(r"callback|MoveToHost|MoveToDevice|PythonCallback|host", re.I)


def traffic(program: Program) -> int:
    """Bytes between the chip and its main memory while the program runs once.

    Each kernel reads its operands and writes its result, of which it may need a slice alone. Every
    branch of a conditional counts, and a loop of unknown length once.
    """
    return sum(times * _moved(program, kernel, known) for kernel, known, times in walk(program))


def _moved(program: Program, kernel: Instruction, known: Computation) -> int:
    operation = kernel.operation
    if operation in _FREE or operation.endswith("-done"):
        return 0
    if operation == "slice-start":  # its result: (the whole, the slice, a semaphore)
        return max(array.bytes for array in kernel.arrays[1:])
    if operation in _SLICES:
        return 2 * kernel.bytes
    if operation in _UPDATES:
        return 2 * known[kernel.operands[_UPDATES[operation]]].bytes
    if operation.endswith("-start") and len(kernel.arrays) > 1:
        # A tuple of operands, results and flags, or results alone, as the operation has it.
        written = max(kernel.bytes - sum(known[name].bytes for name in kernel.operands), 0)
        return written + sum(known[name].bytes for name in kernel.operands)
    if operation != "fusion":
        return kernel.bytes + sum(known[name].bytes for name in kernel.operands)
    inside = program.computations[CALLED.search(kernel.rest)[1]]
    read = zip(kernel.operands, _parameters(inside), strict=True)
    moved = sum(_read(inside, parameter, known[name].bytes) for name, parameter in read)
    return moved + _written(inside, kernel)


def _parameters(inside: Computation) -> list[str]:
    """Names of a computation's parameters, by number."""
    found = [x for x in inside.values() if x.operation == "parameter"]
    return [x.name for x in sorted(found, key=lambda x: int(x.operands[0]))]


def _read(inside: Computation, parameter: str, whole: int) -> int:
    """What a fusion reads of a parameter of ``whole`` bytes: slices of it, or all."""
    read = 0
    for user in _users(inside, parameter):
        first = user.operands[0] == parameter
        if user.operation in _SLICES and first:
            read += sum(array.bytes for array in user.arrays)
        elif user.operation not in _UPDATES or not first:
            return whole
    return min(read, whole)


def _users(inside: Computation, name: str) -> Iterator[Instruction]:
    for user in inside.values():
        if name in user.operands:
            if user.operation == "bitcast":
                yield from _users(inside, user.name)
            else:
                yield user


def _written(inside: Computation, kernel: Instruction) -> int:
    """What a fusion writes: its result, or the part that it updates in place."""
    root = next(x for x in inside.values() if x.is_root)
    parts = [inside[name] for name in root.operands] if root.operation == "tuple" else [root]
    if len(parts) != len(kernel.arrays):  # a tuple that another kernel's root makes
        return kernel.bytes
    written = 0
    for array, part in zip(kernel.arrays, parts, strict=True):
        if part.operation == "bitcast":
            part = inside[part.operands[0]]
        if part.operation in _UPDATES:
            update = inside[part.operands[_UPDATES[part.operation]]]
            written += sum(x.bytes for x in update.arrays) if array.is_main else 0
        else:
            written += array.bytes if array.is_main else 0
    return written


def collectives(program: Program) -> dict[str, tuple[int, int]]:
    """{operation: (how often, bytes of the operands)} of what chips say to each other in a run.

    Bytes are those that one chip puts in, padding left out.
    """
    found = collections.defaultdict(lambda: (0, 0))
    for kernel, known, times in walk(program):
        operation = kernel.operation.removesuffix("-start")
        if operation in COLLECTIVES:
            count, size = found[operation]
            given = sum(known[name].numbers for name in kernel.operands)
            found[operation] = (count + times, size + times * given)
    return dict(found)


def host_calls(program: Program) -> list[str]:
    """Names of the instructions by which a step waits for the host: none, in a good one."""
    found = []
    for computation in program.computations.values():
        for x in computation.values():
            called = x.operation == "custom-call" and _HOST_TARGET.search(_target(x))
            if x.operation in _HOST or called:
                found.append(f"{x.name} ({_target(x) or x.operation})")
    return found


def _target(instruction: Instruction) -> str:
    found = re.search(r'custom_call_target="([^"]*)"', instruction.rest)
    return found[1] if found else ""
