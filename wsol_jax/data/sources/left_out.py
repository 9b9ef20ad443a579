"""What a source passes over, counted by why: so that nothing vanishes without a word."""

import os
from collections.abc import Iterable

from wsol_jax.base.errors import UserError
from wsol_jax.data.records import LeftOut

_EXAMPLES = 12  # names that are kept of each reason


class PassedOver:
    """A tally of what is left out, or, where ``strict``, the end at the first of some faults."""

    def __init__(self, strict: bool = True):
        self.strict = strict
        self._found: dict[str, tuple[int, list[str]]] = {}
        self._faults: set[str] = set()

    def add(self, reason: str, name: str) -> None:
        """Counts one; ``reason`` follows a number in a sentence."""
        count, names = self._found.setdefault(reason, (0, []))
        if len(names) < _EXAMPLES:
            names.append(name)
        self._found[reason] = (count + 1, names)

    def refuse(self, reason: str, name: str, sentence: str) -> None:
        """Counts a fault. Raises UserError, with the sentence, where the source is strict."""
        if self.strict:
            raise UserError(f"{sentence} (strict=false after the data set skips such ones)")
        self._faults.add(reason)
        self.add(reason, name)

    def rows(self) -> tuple[LeftOut, ...]:
        """What was counted so far, the most first."""
        rows = [
            LeftOut(reason, n, tuple(names), reason in self._faults)
            for reason, (n, names) in self._found.items()
        ]
        return tuple(sorted(rows, key=lambda row: (-row.count, row.reason)))


def merged(tallies: Iterable[tuple[LeftOut, ...]]) -> tuple[LeftOut, ...]:
    """One tally of those of several lists.

    A later list's holds what an earlier one's of the same data set does, so the largest counts.
    """
    largest: dict[str, LeftOut] = {}
    for row in (row for tally in tallies for row in tally):
        if row.reason not in largest or row.count > largest[row.reason].count:
            largest[row.reason] = row
    return tuple(sorted(largest.values(), key=lambda row: (-row.count, row.reason)))


def suffix_of(name: str) -> str:
    """A file's suffix in lower case, as the reason of a file of another kind names it."""
    return os.path.splitext(name)[1].lower() or "without a suffix"
