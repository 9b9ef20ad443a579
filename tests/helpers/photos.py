"""A source of tiny photos that tell which they are, and examples and batches of it."""

import dataclasses
import io

import numpy as np
from PIL import Image

from wsol_jax.data import pipeline
from wsol_jax.data.records import Record


def png(index: int, size: int = 20) -> bytes:
    """An image whose every pixel says which it is."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size + 4, 3), 10 * index + 5, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Sealed:
    """A record whose ground truth must not be touched."""

    def __init__(self, index, image, labels):
        self.image_id, self.image, self.labels, self.size = f"id{index}", image, labels, None

    @property
    def boxes(self):
        raise AssertionError("boxes were read for a training batch")

    @property
    def box_labels(self):
        raise AssertionError("box labels were read for a training batch")

    @property
    def difficult(self):
        raise AssertionError("which boxes are difficult was read for a training batch")


@dataclasses.dataclass
class Photos:
    """Tiny picklable source; ``broken`` images do not decode."""

    count: int = 7
    broken: tuple[int, ...] = ()
    sealed: bool = False
    name: str = "photos"
    class_names: tuple[str, ...] = ("a", "b", "c")

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = b"no image at all" if index in self.broken else png(index)
        labels = (index % 3,)
        if self.sealed:
            return Sealed(index, image, labels)
        return Record(f"id{index}", image, labels)

    def mask(self, index):
        raise AssertionError("a mask was read")

    def part_mask(self, index):
        raise AssertionError("a part mask was read")


def example(source, **changes):
    fields = dict(num_classes=3, crop=12, resize=16, resize_mode="warp", flip=0.5, seed=4)
    return pipeline.TrainExample(source, **{**fields, **changes})


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
