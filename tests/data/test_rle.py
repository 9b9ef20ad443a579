"""Masks in COCO's run lengths, read back by an independent reader."""

import numpy as np
import pytest

from wsol_jax.data.rle import encode_mask


def decode(rle):
    """(H, W) bool, letter by letter (rleFrString of cocoapi)."""
    numbers, at = [], 0
    text = rle["counts"].encode()
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = text[at] - 48
            value |= (bits & 31) << shift
            shift, more, at = shift + 5, bool(bits & 32), at + 1
            if not more and bits & 16:
                value -= 1 << shift
        numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
    values = np.repeat(np.arange(len(numbers)) % 2, numbers)
    height, width = rle["size"]
    return values.reshape(width, height).T.astype(bool)


MASKS = {
    "nothing": np.zeros((3, 4)),
    "all": np.ones((3, 4)),
    "one pixel": np.eye(1, 12).reshape(3, 4),
    "last pixel": np.eye(1, 12, 11).reshape(3, 4),
    "noise": np.random.default_rng(0).integers(0, 2, (37, 23)),
    "large": np.pad(np.ones((700, 800)), 150),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_comes_back(name):
    rle = encode_mask(MASKS[name])
    np.testing.assert_array_equal(decode(rle), MASKS[name] != 0)
    assert rle["size"] == list(MASKS[name].shape)


@pytest.mark.parametrize("name", MASKS)
def test_pycocotools_reads_and_writes_the_same(name):
    coco = pytest.importorskip("pycocotools.mask")
    rle = encode_mask(MASKS[name])
    np.testing.assert_array_equal(coco.decode(dict(rle)) != 0, MASKS[name] != 0)
    theirs = coco.encode(np.asfortranarray(MASKS[name].astype(np.uint8)))
    assert theirs["counts"].decode() == rle["counts"]


def test_by_hand():
    # Down the columns: 0 1 | 1 1 | 0 0 -> runs 1, 3, 2; each one letter, 48 + its number.
    assert encode_mask(np.array([[0, 1, 0], [1, 1, 0]])) == {"size": [2, 3], "counts": "132"}
