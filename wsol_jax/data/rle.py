"""Masks as COCO stores them: run lengths down the columns, plain or packed into a text."""

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


def fill_runs(runs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of run lengths that add up to the image's pixels."""
    width, height = size
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T


def unpack_runs(text: str) -> np.ndarray:
    """(N,) int64 run lengths of COCO's packed text.

    Five bits a letter, the lowest first, the sixth for "goes on", signed; from the fourth on each
    is the difference to the length before the last one.

    Raises:
      ValueError: it is no such text.
    """
    runs: list[int] = []
    value = place = 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or place > 30:
            raise ValueError(f"the letter {letter[:1]!r} is none of a packed mask")
        value |= (code & 0x1F) << place
        place += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << place
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = place = 0
    if place:
        raise ValueError("the packed mask ends within a number")
    return np.array(runs, np.int64)
