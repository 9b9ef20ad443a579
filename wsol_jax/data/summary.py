"""What the lists of a run hold, in the few lines that stand at its start. No photo is opened."""

from collections.abc import Sequence

import jax
import numpy as np
from absl import logging

from wsol_jax.base.typed import as_typed
from wsol_jax.data.lists import Lists
from wsol_jax.data.records import LeftOut, Source
from wsol_jax.data.sources.left_out import merged

FEW = 10
"""Photos of a class to train on, below which it is told."""

_SHOWN = 6  # reasons, or classes, of a line
_ONE = {"boxes": "box", "classes": "class"}
_ONE |= {
    f"{noun}s": noun for noun in ("folder", "image", "label", "link", "object", "photo", "row")
}
_ONE["sub-folders"] = "sub-folder"


def say_lists(lists: Lists) -> None:
    """Logs ``lines``, in one process."""
    if jax.process_index() == 0:
        for line in lines(lists):
            logging.info("%s", line)


def lines(lists: Lists) -> list[str]:
    """At most three: where labels, boxes and masks come from; the lists; what is missing there."""
    found = []
    if about := getattr(lists.train, "about", ""):
        found.append(as_typed(about))
    sources = (lists.train, lists.tune, *lists.tests.values())
    found.append("; ".join(describe(source) for source in sources if source is not None))
    notes = [few_photos(lists.train), describe_left_out(left_out(lists))]
    if any(notes):
        found.append("; ".join(filter(None, notes)))
    return found


def describe(source: Source) -> str:
    """A list's photos and classes: "train: 75 photos of 5 classes (12 to 18 each)"."""
    counts, classes = class_counts(source), len(source.class_names)
    text = f"{source.name}: {count(len(source), 'photo')} of "
    if counts is None:
        return text + count(classes, "class")
    there = counts[counts > 0]
    every = len(there) == classes
    text += count(classes, "class") if every else f"{len(there)} of the {classes} classes"
    if not len(there):
        return text
    low, high = int(there.min()), int(there.max())
    return f"{text} ({low} each)" if low == high else f"{text} ({low} to {high} each)"


def class_counts(source: Source) -> np.ndarray | None:
    """(C,) images of each class; None where each record would have to be read from a file."""
    classes = len(source.class_names)
    records, labels = getattr(source, "records", None), getattr(source, "labels", None)
    if records is not None:
        labels = np.array([c for record in records for c in record.labels], np.int64)
    elif labels is None:
        return None
    labels = np.asarray(labels)
    return np.bincount(labels[labels >= 0], minlength=classes)


def few_photos(train: Source) -> str:
    """Names the classes that have few photos to train on; "" where there are none."""
    counts = class_counts(train)
    if counts is None:
        return ""
    few = [(int(n), train.class_names[c]) for c, n in enumerate(counts) if n < FEW]
    if not few:
        return ""
    shown = ", ".join(f"{name} {n}" for n, name in sorted(few)[:_SHOWN])
    return f"fewer than {FEW} photos to train on: {shown}{_rest(few)}"


def left_out(lists: Lists) -> tuple[LeftOut, ...]:
    """What the lists' sources passed over, together."""
    sources = filter(None, (lists.train, lists.tune, *lists.tests.values()))
    return merged(getattr(source, "left_out", ()) for source in sources)


def describe_left_out(
    rows: Sequence[LeftOut], more: str = " (--mode=check_data names them)"
) -> str:
    """What is in no list, and why: "left out: 3 .heic (not read), 2 hidden"; "" for nothing.

    ``more``: where it is told at length.
    """
    if not rows:
        return ""
    shown = ", ".join(phrase(row) for row in rows[:_SHOWN])
    return f"left out: {shown}{_rest(rows)}{more}"


def phrase(row: LeftOut) -> str:
    """How many were left out, and why: "1 box outside of their photo"."""
    words = row.reason.split(" ")
    for place, word in enumerate(words if row.count == 1 else ()):
        if word in _ONE:
            words[place] = _ONE[word]
            break
    return f"{row.count} {' '.join(words)}"


def count(number: int, what: str) -> str:
    """A number and its noun: "1 photo", "3 classes"."""
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"


def _rest(rows: Sequence) -> str:
    return f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
