"""Batches of P classes x K images: exactly so, and a pure function of seed and position."""

import collections
import dataclasses
import pickle

import ml_collections
import numpy as np
import pytest
from helpers.photos import Photos, assert_same, example

from wsol_jax.base.errors import UserError
from wsol_jax.data import orders, pipeline
from wsol_jax.data.records import Record


@dataclasses.dataclass
class Uneven(Photos):
    """A list whose classes have 1, 2, 3, 4, 5 and 6 images, in any order."""

    count: int = 21
    class_names: tuple[str, ...] = tuple("abcdef")

    def __getitem__(self, index):
        record = super().__getitem__(index)
        return dataclasses.replace(record, labels=(LABELS[index],))


LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(6), np.arange(1, 7))).tolist()


def options(p, k):
    return ml_collections.ConfigDict(dict(classes_per_batch=p, images_per_class=k))


def order_of(p, k, seed=3, source=None):
    source = source or Uneven()
    return orders.training_order(options(p, k), source, p * k, seed)


@pytest.mark.parametrize("p, k", [(2, 2), (4, 3), (6, 1), (5, 2), (1, 4), (6, 8)])
def test_each_batch_is_p_classes_of_k_images(p, k):
    order = order_of(p, k)
    for batch in range(60):
        rows = [order(batch * p * k + row) for row in range(p * k)]
        classes = [LABELS[row] for row in rows]
        assert classes == classes[:p] * k  # image by image
        assert len(set(classes)) == p
        for c in set(classes):
            images = [row for row, found in zip(rows, classes, strict=True) if found == c]
            # As many different ones as the class has.
            assert len(set(images)) == min(k, LABELS.count(c))


def test_micro_batches_keep_whole_classes():
    """A step splits a batch by r % accumulate: P = 4 in 2 parts is 2 classes x 3 images each."""
    order = order_of(4, 3)
    for batch in range(10):
        classes = [LABELS[order(batch * 12 + row)] for row in range(12)]
        for part in (classes[0::2], classes[1::2]):
            assert sorted(collections.Counter(part).values()) == [3, 3]


def test_every_image_is_seen_and_classes_equally_often():
    order = order_of(2, 2)
    seen = collections.Counter(order(position) for position in range(1200))
    assert set(seen) == set(range(21))
    by_class = collections.Counter()
    for index, times in seen.items():
        by_class[LABELS[index]] += times
    assert set(by_class.values()) == {200}


def test_a_position_decides_alone():
    """No state: any position first, in another process's copy, in any order."""
    order, copy = order_of(4, 3), pickle.loads(pickle.dumps(order_of(4, 3)))
    ahead = [order(position) for position in range(200)]
    assert [copy(position) for position in reversed(range(200))] == ahead[::-1]
    assert [order_of(4, 3, seed=4)(position) for position in range(200)] != ahead


def batches(p=2, k=2, *, padded=None, workers=0, **changes):
    source = Uneven()
    fields = dict(batch_size=p * k, padded_size=padded or p * k, num_steps=9)
    rows = pipeline.BatchRows(order=order_of(p, k), **{**fields, **changes})
    made = example(source, num_classes=6)
    return list(pipeline.train_batches(rows, made, workers=workers, threads=2))


@pytest.mark.parametrize("first_step", [1, 4, 8])
def test_resume_equals_unbroken(first_step):
    assert_same(batches(first_step=first_step), batches()[first_step:])


@pytest.mark.parametrize("padded, processes", [(4, 2), (6, 2), (6, 3)])
def test_processes_rows_make_one_process_batch(padded, processes):
    whole = batches(padded=padded)
    parts = [
        batches(padded=padded, process_index=p, process_count=processes) for p in range(processes)
    ]
    joined = [
        {name: np.concatenate([part[name] for part in step]) for name in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_same(joined, whole)
    for batch in whole:
        assert (batch["labels"].sum(axis=0) > 0).sum() == 2


@pytest.mark.slow
def test_worker_processes_do_not_change_the_batches():
    assert_same(batches(workers=2), batches())


def test_the_usual_order_is_the_default():
    source = Photos(count=7)
    order = orders.training_order(options(0, 0), source, 3, 5)
    expected = [orders.uniform_order(7, 5, position) for position in range(20)]
    assert [order(position) for position in range(20)] == expected


def test_one_of_the_two_decides_the_other():
    source = Uneven()
    for p, k in ((0, 3), (4, 0), (4, 3)):
        order = orders.training_order(options(p, k), source, 12, 5)
        assert (order.classes, order.images) == (4, 3)


@pytest.mark.parametrize(
    "p, k, batch, said",
    [
        (4, 3, 10, r"=4 x data\.images_per_class=3 is not train\.batch_size=10"),
        (0, 4, 10, r"is not train\.batch_size=10"),
        (0, 11, 10, r"is not train\.batch_size=10"),
        (7, 2, 14, r"=7, but list 'photos' has images of 6 classes"),
        (-1, 3, 10, "0 or more"),
    ],
)
def test_impossible_batches_are_refused_in_words(p, k, batch, said):
    with pytest.raises(UserError, match=said):
        orders.training_order(options(p, k), Uneven(), batch, 0)


def test_labels_held_as_an_array_are_not_read_record_by_record():
    class Large(Uneven):
        labels = np.asarray(LABELS, np.int32)

        def __getitem__(self, index):
            raise AssertionError("a record was read")

    np.testing.assert_array_equal(orders.first_labels(Large()), LABELS)
    np.testing.assert_array_equal(orders.first_labels(Uneven()), LABELS)


def test_images_without_a_label_are_left_out():
    class Some(Photos):
        def __getitem__(self, index):
            return Record(f"id{index}", b"", (index % 2,) if index < 4 else ())

    order = orders.training_order(options(2, 1), Some(), 2, 0)
    assert {order(position) for position in range(40)} == {0, 1, 2, 3}


@pytest.mark.parametrize("size, seed", [(1, 0), (7, 4), (50, 2**31)])
def test_each_epoch_is_another_permutation(size, seed):
    epochs = [
        [orders.uniform_order(size, seed, epoch * size + i) for i in range(size)]
        for epoch in range(3)
    ]
    for order in epochs:
        assert sorted(order) == list(range(size))
    if size > 2:
        assert len(set(map(tuple, epochs))) == 3


def test_seeds_give_other_orders():
    found = {tuple(orders.uniform_order(20, seed, i) for i in range(20)) for seed in range(5)}
    assert len(found) == 5
