"""Batches for training and for evaluation, on grain.

The order of a run is a pure function of a position: example ``i`` of the run is decided by the seed
and ``i`` alone, whichever process or worker makes it. So the iterator's state is the number of
steps done, a resumed run sees the very batches that the unbroken one would have, and a global batch
holds the same rows on one process as on eight.
"""

import dataclasses
import signal
from collections.abc import Iterator, Mapping
from typing import Protocol, get_args

import grain
import numpy as np
from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.data import transforms
from wsol_jax.data.decode import CorruptImage, decode_rgb
from wsol_jax.data.orders import Order
from wsol_jax.data.pseudo_labels import BatchLabels
from wsol_jax.data.records import Source

PADDING = -1  # the record index of a row that only fills up a batch


@dataclasses.dataclass(frozen=True)
class BatchRows:
    """This process's rows of every global batch, as (record index, position in the run).

    A batch of ``batch_size`` is padded to ``padded_size`` rows, which split evenly into contiguous
    blocks, one a process; rows past ``batch_size`` are PADDING. ``order`` says which record stands
    at a position (``data.orders``).
    """

    order: Order
    batch_size: int
    padded_size: int
    num_steps: int
    first_step: int = 0
    process_index: int = 0
    process_count: int = 1

    @property
    def local_size(self) -> int:
        return self.padded_size // self.process_count

    def __len__(self) -> int:
        return max(self.num_steps - self.first_step, 0) * self.local_size

    def __getitem__(self, index: int) -> tuple[int, int]:
        step, row = divmod(index, self.local_size)
        row += self.process_index * self.local_size
        if row >= self.batch_size:
            return PADDING, 0
        position = (self.first_step + step) * self.batch_size + row
        return self.order(position), position


class _Crop(Protocol):
    """A config's ``data`` section, or what has the same fields."""

    crop: int
    resize: int
    resize_mode: str


def check_crop(data: _Crop) -> None:
    """Raises UserError for a config's ``data`` section that no training row can be cut by."""
    modes = get_args(transforms.ResizeMode)
    if data.resize_mode not in modes:
        known = ", ".join(map(repr, modes))
        raise UserError(f"data.resize_mode: {data.resize_mode!r} is not one of {known}.")
    if data.resize_mode != "none" and data.crop > data.resize:
        raise UserError(f"data.resize: expected at least data.crop={data.crop}, got {data.resize}.")


@dataclasses.dataclass(frozen=True)
class TrainExample:
    """(record index, position) -> one row of a training batch. Reads image and labels alone.

    Ground truth boxes and masks stop here: the row is built key by key from the pixels, the image
    labels, and the pseudo-labels that networks made of these.

    ``labels``: those, by their names in the batch.

    Raises:
      UserError: a crop larger than the resized image, or an unknown ``resize_mode``.
    """

    source: Source
    num_classes: int
    crop: int
    resize: int
    resize_mode: str
    flip: float
    seed: int
    labels: Mapping[str, BatchLabels] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_crop(self)

    def __call__(self, item: tuple[int, int]) -> dict[str, np.ndarray]:
        index, position = item
        row = {
            "image": np.zeros((self.crop, self.crop, 3), np.uint8),
            "labels": np.zeros((self.num_classes,), np.float32),
            "valid": np.asarray(False),
            "index": np.asarray(index, np.int32),
        }
        row |= {name: labels.missing() for name, labels in self.labels.items()}
        if index == PADDING:
            return row
        record = self.source[index]
        try:
            image = decode_rgb(record.image, record.image_id)
        except CorruptImage:
            return row  # the loop names it and counts it: index set, valid not
        draws = np.random.Generator(np.random.Philox(key=[self.seed + 1, position]))
        image = transforms.resize_for_crop(image, self.resize, self.resize_mode, self.crop)
        window = transforms.random_window(*image.shape[:2], self.crop, draws, self.flip)
        row["image"] = transforms.cut(image, window)
        row |= {name: x.read(record.image_id, window) for name, x in self.labels.items()}
        row["labels"][list(record.labels)] = 1.0
        row["valid"] = np.asarray(True)
        return row


def eval_size(config: Config) -> int:
    """Pixels a side of the warped photos that a network is shown outside of its training."""
    return config.eval.size or config.data.crop


@dataclasses.dataclass(frozen=True)
class EvalExample:
    """Record index -> one row of an evaluation batch: the image as ``transforms.view`` has it."""

    source: Source
    size: int
    ten_crop_resize: int = 0  # 0: no crops
    exif: bool = False  # turn photos as their camera says
    center: int = 0  # see transforms.view

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        row = {
            "image": np.zeros((self.size, self.size, 3), np.uint8),
            "valid": np.asarray(False),
            "index": np.asarray(index, np.int32),
            "size": np.ones((2,), np.int32),  # width and height as stored
        }
        if self.ten_crop_resize:
            row["crops"] = np.zeros((10, self.size, self.size, 3), np.uint8)
        if index == PADDING:
            return row
        record = self.source[index]
        try:
            image = decode_rgb(record.image, record.image_id, exif=self.exif)
        except CorruptImage:
            return row
        row["size"] = np.asarray(image.shape[1::-1], np.int32)
        row["image"] = transforms.view(image, self.size, self.center)
        if self.ten_crop_resize:
            large = transforms.resize(image, self.ten_crop_resize, self.ten_crop_resize)
            row["crops"] = transforms.ten_crops(large, self.size)
        row["valid"] = np.asarray(True)
        return row


def check_readable(source: Source, limit: int) -> None:
    """Raises UserError where no image of a list can be read: there is nothing to learn or score.

    ``limit``: after so many unreadable ones ``CorruptCounter`` stops whoever reads the list.
    """
    for index in range(min(len(source), limit + 1)):
        record = source[index]
        try:
            decode_rgb(record.image, record.image_id)
            return
        except CorruptImage as error:
            reason = str(error)
    if len(source):
        every = index + 1 == len(source)
        which = f"all {index + 1}" if every else f"the first {index + 1}"
        allowed = "" if every else f", more than data.max_corrupt={limit} allows"
        raise UserError(
            f"{which} images of list {source.name!r} cannot be read{allowed}; the last: {reason}"
        )


class CorruptCounter:
    """Names each unreadable image once, and stops the run past the config's limit."""

    def __init__(self, source: Source, limit: int):
        self._source, self._limit = source, limit
        self._seen: set[int] = set()

    def check_some(self) -> None:
        """Raises UserError where every image of the list was found to be unreadable."""
        if len(self._seen) == len(self._source):
            check_readable(self._source, len(self._source))

    def check(self, batch: Mapping[str, np.ndarray]) -> None:
        """Reads "index" and "valid" of a host batch.

        Raises:
          UserError: more than ``limit`` different images could not be read.
        """
        bad = batch["index"][(batch["index"] != PADDING) & ~batch["valid"]]
        for index in map(int, bad):
            if index in self._seen:
                continue
            self._seen.add(index)
            record = self._source[index]
            try:
                decode_rgb(record.image, record.image_id)
                reason = "unreadable a moment ago"
            except CorruptImage as error:
                reason = str(error)
            logging.warning("skipped: %s", reason)
            if len(self._seen) > self._limit:
                raise UserError(
                    f"{len(self._seen)} images of list {self._source.name!r} cannot be read, more "
                    f"than data.max_corrupt={self._limit} allows; the last: {reason}"
                )


def _leave_ctrl_c(worker: int, workers: int) -> None:
    """A terminal sends SIGINT to the readers too: it is the training loop's to act upon."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _host_batches(
    rows: "BatchRows | _EvalRows",
    example: TrainExample | EvalExample,
    batch_size: int,
    workers: int,
    threads: int,
) -> Iterator[dict[str, np.ndarray]]:
    """grain's part: rows -> examples -> host batches, in order, in threads or worker processes."""
    dataset = grain.MapDataset.source(rows).map(example)
    if workers:
        # grain deals a data set's elements out to the workers in turn: batched first, so that a
        # batch holds the same rows, and none is dropped, whatever the number of workers.
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(threads, 2))
        batches = dataset.batch(batch_size, drop_remainder=True).to_iter_dataset(options)
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=_leave_ctrl_c
        )
    else:
        options = grain.ReadOptions(
            num_threads=threads, prefetch_buffer_size=max(2 * batch_size, 32)
        )
        batches = dataset.to_iter_dataset(options).batch(batch_size, drop_remainder=True)
    return iter(batches)


def train_batches(
    rows: BatchRows, example: TrainExample, *, workers: int, threads: int
) -> Iterator[dict[str, np.ndarray]]:
    """Host batches of ``rows.local_size`` rows from ``rows.first_step`` to the last step."""
    return _host_batches(rows, example, rows.local_size, workers, threads)


@dataclasses.dataclass(frozen=True)
class _EvalRows:
    """This process's share of a list in order, padded to whole batches, equally many each."""

    num_records: int
    local_size: int
    process_index: int
    process_count: int

    def __len__(self) -> int:
        per_step = self.local_size * self.process_count
        return -(-self.num_records // per_step) * self.local_size

    def __getitem__(self, index: int) -> int:
        step, row = divmod(index, self.local_size)
        step = step * self.process_count + self.process_index
        index = step * self.local_size + row
        return index if index < self.num_records else PADDING


def eval_batches(
    example: EvalExample,
    local_size: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    threads: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
    """Host batches of ``local_size`` rows that cover a list once; equally many on each process."""
    rows = _EvalRows(len(example.source), local_size, process_index, process_count)
    return _host_batches(rows, example, local_size, workers, threads)
