"""Which examples a gallery shows of each list, and in words how they were chosen."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from wsol_jax.evaluate.shown import select_examples
from wsol_jax.report.example import Example

DRAWN = "drawn at random"


class Shelf(NamedTuple):
    """Examples under one heading.

    Attributes:
      note: beside the heading: how many of how many, and why these.
      share: what its examples are of their list, for a sentence on their share: "drawn" or
        "shown"; "" for cases that were chosen, whose share says nothing of the list.
    """

    heading: str
    note: str
    examples: Sequence[Example]
    share: str = "shown"


def choose(
    examples: Sequence[Example],
    worst: int,
    sample: int,
    totals: Mapping[str, int],
    *,
    worst_first: bool,
    drawn: str = DRAWN,
) -> list[Shelf]:
    """The shelves of a run's gallery, list by list.

    Args:
      examples: the candidates; they may be chosen from more already.
      worst, sample: how many of the lowest IoUs and of the others are shown, over all lists.
      totals: how many images each list has, where known.
      worst_first: whether the lowest IoUs have a shelf of their own.
      drawn: how ``sample`` examples were drawn from their list, in words.
    """
    splits = list(dict.fromkeys(e.split for e in examples))
    found = []
    for split in splits:
        mine = [e for e in examples if e.split == split]
        few, many = (n // len(splits) for n in (worst, sample))
        few = max(few, 1) if worst else 0
        whole = totals.get(split)
        fit = len(mine) <= few + max(many, 1) and len(mine) >= (whole or 0)
        if not worst_first or fit:
            shelves = [_one(mine, whole, drawn)]
        else:
            shelves = _two(mine, few, max(many, 1), whole or len(mine), drawn)
        prefix = f"{split}: " if split else ""
        found += [shelf._replace(heading=prefix + shelf.heading) for shelf in shelves]
    return found


def _one(mine: Sequence[Example], whole: int | None, drawn: str) -> Shelf:
    """All examples of a list, the lowest IoU first."""
    scored = any(e.iou is not None for e in mine)
    order = sorted(mine, key=lambda e: (e.iou is None, e.iou or 0.0)) if scored else list(mine)
    notes = ["lowest IoU first"] if scored else []
    if whole is None:
        return Shelf(_counted(len(mine)), "; ".join(notes), order)
    if len(mine) >= whole:
        return Shelf(f"all {_counted(whole)}", "; ".join(notes), order)
    notes.insert(0, _of(len(mine), whole, drawn))
    return Shelf(drawn, "; ".join(notes), order, "drawn")


def _two(mine: Sequence[Example], few: int, many: int, whole: int, drawn: str) -> list[Shelf]:
    """The lowest IoUs, where some are known, and those that were drawn."""
    ids, ious = [e.image_id for e in mine], [e.iou for e in mine]
    low, some = select_examples(ids, ious, few, many)
    shelves = []
    if low:
        note = (
            f"the {len(low)} lowest IoUs of {whole:,} at the chosen threshold; "
            "they say what goes wrong, not how often"
        )
        shelves.append(Shelf("worst cases", note, [mine[i] for i in low], ""))
    chosen = [mine[i] for i in some] if drawn == DRAWN else list(mine[:many])
    shelves.append(Shelf(drawn, _of(len(chosen), whole, drawn), chosen, "drawn"))
    return shelves


def _of(count: int, whole: int, drawn: str) -> str:
    same = "; the same in every run on this list" if drawn == DRAWN else ""
    return f"{count:,} of {_counted(whole)}{same}"


def _counted(count: int) -> str:
    return f"{count:,} image" + "s" * (count != 1)


def counted(shown: Sequence[Example], totals: Mapping[str, int]) -> str:
    """How many images a page shows, and of how many, where that is known of all its lists."""
    words = _counted(len({(e.split, e.image_id) for e in shown}))
    lists = {e.split for e in shown}
    if not lists or not lists <= totals.keys():
        return words
    whole = sum(totals[name] for name in lists)
    number = words.partition(" ")[0]
    return words if whole <= len(shown) else f"{number} of {_counted(whole)}"
