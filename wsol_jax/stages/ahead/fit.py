"""The largest batch a chip that its memory holds, found with few compilations."""

from collections.abc import Callable

# Two sizes an octave: what lies between is seldom worth a compilation.
_SIZES = [1, 2, 3, *(int(2**k * part) for k in range(2, 13) for part in (1, 1.5))]


def largest(memory_of: Callable[[int], float | None], limit: float, start: int) -> int:
    """The largest batch a chip whose step needs at most ``limit`` bytes; 0 where none does.

    Bisection over 1, 2, 3, 4, 6, 8, 12, 16, ... 6144, begun where a straight line through what is
    known crosses the limit: memory is close to affine in the batch, so two to four calls do.

    Args:
      memory_of: the bytes of a step of so many images a chip, None for more than there is. It
        takes minutes, and is called once for a size.
      limit: bytes.
      start: a size to begin with, such as the recipe's; the next on the list is taken.
    """
    known: dict[int, float | None] = {}
    fits, fails = -1, len(_SIZES)  # indices: the largest that does, the smallest that does not
    index = min(range(len(_SIZES)), key=lambda i: (_SIZES[i] < start, abs(_SIZES[i] - start)))
    while fails - fits > 1:
        size = _SIZES[index]
        used = known[size] = memory_of(size)
        if used is not None and used <= limit:
            fits = index
        else:
            fails = index
        index = _next(known, limit, fits, fails)
    return _SIZES[fits] if fits >= 0 else 0


def _next(known: dict[int, float | None], limit: float, fits: int, fails: int) -> int:
    """The index to try: just inside of where the line crosses, or else the middle."""
    points = sorted((size, used) for size, used in known.items() if used is not None)
    if len(points) == 1:  # through the origin: too steep, so that the step up is careful
        points = [(0, 0.0), *points]
    middle = (fits + fails) // 2
    if len(points) >= 2:
        (a, low), (b, high) = points[-2:]
        slope = (high - low) / (b - a)
        if slope > 0:
            crossing = a + (limit - low) / slope
            inside = [i for i in range(fits + 1, fails) if _SIZES[i] <= crossing]
            middle = inside[-1] if inside else fits + 1
    return min(max(middle, fits + 1), fails - 1)
