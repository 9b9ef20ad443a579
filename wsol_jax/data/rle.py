"""Masks as COCO stores them: run lengths down the columns, as text."""

from typing import TypedDict

import numpy as np


class Rle(TypedDict):
    """A mask: (height, width), and its compressed run lengths."""

    size: list[int]
    counts: str


def encode_mask(mask: np.ndarray) -> Rle:
    """Run lengths of a mask, in COCO's compressed form, which pycocotools reads.

    The runs go down the columns, of 0 and 1 in turn, 0 first. From the fourth on each is written as
    what it is more than the one two before it, in groups of five bits, the lowest first; the sixth
    bit of a letter says that more follow (maskApi.c of cocoapi, rleToString).

    Args:
      mask: (H, W); anything but 0 is inside.
    """
    flat = (np.asarray(mask) != 0).ravel(order="F")
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, len(flat))
    runs = np.diff(ends, prepend=0).tolist()
    if len(flat) and flat[0]:
        runs.insert(0, 0)
    steps = [run - runs[i - 2] if i > 2 else run for i, run in enumerate(runs)]
    return {"size": [int(n) for n in np.shape(mask)], "counts": "".join(map(_letters, steps))}


def _letters(number: int) -> str:
    text = ""
    while True:
        bits, number = number & 31, number >> 5
        done = number == (-1 if bits & 16 else 0)  # the sign is the last group's highest bit
        text += chr(48 + bits + (0 if done else 32))
        if done:
            return text
