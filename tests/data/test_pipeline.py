"""Batches: no ground truth, no lost or doubled image, the same rows on any number of processes."""

import io
import itertools
import threading
import time

import numpy as np
import pytest
from helpers.labels import write_labels
from helpers.photos import Photos, assert_same, example
from PIL import Image

from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data import orders, pipeline, prefetch
from wsol_jax.data.decode import decode_rgb
from wsol_jax.data.label_formats import LabelSpec, cells
from wsol_jax.data.pseudo_labels import BatchLabels, LabelFolder
from wsol_jax.data.records import Record


def rows_of(source, **changes):
    order = orders.Uniform(len(source), seed=4)
    fields = dict(order=order, batch_size=3, padded_size=3, num_steps=8)
    return pipeline.BatchRows(**{**fields, **changes})


def batches(source, *, threads=2, workers=0, **changes):
    made = pipeline.train_batches(
        rows_of(source, **changes), example(source), workers=workers, threads=threads
    )
    return list(made)


# ---------------------------------------------------------------- ground truth


def test_ground_truth_never_reaches_a_training_batch():
    for batch in batches(Photos(sealed=True)):
        assert set(batch) == {"image", "labels", "valid", "index"}


def write_cues(folder, count=7, size=6):
    """Cues that tell an image and a column: of which photo, and mirrored or not."""
    for index in range(count):
        cue = np.full((size, size), index, np.uint8) + 20 * np.arange(size, dtype=np.uint8)
        write_labels(cue_folder(folder, size), f"id{index}", {"cues": cue})


def cue_folder(folder, size=6):
    return LabelFolder(folder, {"cues": cells(size)})


def cued(source, folder, size=6, **changes):
    spec = LabelSpec((size, size), np.uint8, UNLABELLED)
    labels = {"cues": BatchLabels(cue_folder(folder, size), "cues", spec)}
    return example(source, **{**dict(crop=12, resize=12, labels=labels), **changes})


def test_ground_truth_never_reaches_a_batch_with_cues(tmp_path):
    """Of the record, its pixels and image labels; of the folder, what a network made of those."""
    write_cues(tmp_path)
    rows = rows_of(Photos(sealed=True))
    found = pipeline.train_batches(rows, cued(Photos(sealed=True), tmp_path), workers=0, threads=2)
    for batch in found:
        assert set(batch) == {"image", "labels", "valid", "index", "cues"}
        assert batch["valid"].all()
    assert set(batches(Photos())[0]) == {"image", "labels", "valid", "index"}


class Ramps(Photos):
    """Photos that grow brighter from left to right: a mirrored one is known by its pixels."""

    def __getitem__(self, index):
        ramp = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None] * 10, (12, 12, 3))
        buffer = io.BytesIO()
        Image.fromarray(ramp).save(buffer, "PNG")
        return Record(f"id{index}", buffer.getvalue(), (index % 3,))


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [6, 5, 12])
def test_cues_are_mirrored_with_their_photo(tmp_path, flip, size):
    write_cues(tmp_path, size=size)
    make = cued(Ramps(), tmp_path, size, flip=flip)
    seen = set()
    for position in range(40):
        row = make((position % 7, position))
        assert row["cues"].shape == (size, size) and row["cues"].dtype == np.uint8
        mirrored = bool(row["image"][0, 0, 0] > row["image"][0, -1, 0])
        seen.add(mirrored)
        expected = position % 7 + 20 * np.arange(size)
        expected = expected[::-1] if mirrored else expected
        np.testing.assert_array_equal(row["cues"], np.tile(expected, (size, 1)))
    assert seen == {0.0: {False}, 0.5: {False, True}, 1.0: {True}}[flip]


def test_cues_do_not_move_the_photos_draws(tmp_path):
    """The same photos are mirrored with cues as without."""
    write_cues(tmp_path)
    make, plain = cued(Ramps(), tmp_path), example(Ramps(), crop=12, resize=12)
    for position in range(20):
        one, other = make((0, position)), plain((0, position))
        np.testing.assert_array_equal(one["image"], other["image"])


@pytest.mark.parametrize("mode", ["warp", "shorter", "none"])
@pytest.mark.parametrize("size", [6, 4])
def test_cues_of_a_part_of_a_photo_are_those_under_its_cells(tmp_path, mode, size):
    """Each cell of a crop by a loop: where its centre lies in the photo, mirrored as the photo."""
    cues = np.random.default_rng(3).permutation(36).astype(np.uint8).reshape(6, 6)
    write_labels(cue_folder(tmp_path), "id1", {"cues": cues})
    spec = LabelSpec((size, size), np.uint8, UNLABELLED)
    labels = {"cues": BatchLabels(cue_folder(tmp_path), "cues", spec)}
    settings = dict(crop=10, resize=16, resize_mode=mode)
    make, plain = cued(Wide(), tmp_path, labels=labels, **settings), example(Wide(), **settings)
    height, width = {"warp": (16, 16), "shorter": (16, 32), "none": (32, 64)}[mode]
    seen = set()
    for position in range(40):
        row = make((1, position))
        np.testing.assert_array_equal(row["image"], plain((1, position))["image"])
        # The photo's red tells the column of each pixel, its green the row.
        columns, rows = row["image"][5, :, 0], row["image"][:, 5, 1]
        mirrored = bool(columns[0] > columns[-1])
        left = round(int(columns.min()) * width / 256)
        top = round(int(rows.min()) * height / 256)
        seen.add((mirrored, left > 0, top > 0))
        for i in range(size):
            for j in range(size):
                y = top + (i + 0.5) * 10 / size
                x = left + (size - 1 - j if mirrored else j) * 10 / size + 0.5 * 10 / size
                expected = cues[int(y / height * 6), int(x / width * 6)]
                assert row["cues"][i, j] == expected, (position, i, j)
    assert len(seen) > 3


class Wide(Photos):
    """Photos of 64x32 pixels that tell where each of them stood."""

    def __getitem__(self, index):
        pixels = np.zeros((32, 64, 3), np.uint8)
        pixels[..., 0], pixels[..., 1] = 4 * np.arange(64), 8 * np.arange(32)[:, None]
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return Record(f"id{index}", buffer.getvalue(), (index % 3,))


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_crop_of_the_photo_as_it_is_stored(flip):
    """Pixel by pixel, wherever it lies, and larger than ``data.resize``, which means nothing."""
    make = example(Wide(), crop=20, resize=16, resize_mode="none", flip=flip)
    stored = decode_rgb(Wide()[0].image, "id0")
    places = set()
    for position in range(60):
        found = make((0, position))["image"][:, :: -1 if flip else 1]
        left, top = int(found[0, 0, 0]) // 4, int(found[0, 0, 1]) // 8
        np.testing.assert_array_equal(found, stored[top : top + 20, left : left + 20])
        places.add((top, left))
    assert len(places) > 40


def test_cues_of_a_photo_smaller_than_the_crop(tmp_path):
    """The photo is enlarged to 48x96 pixels; the cues are those under the crop's cells still."""
    cues = np.random.default_rng(3).permutation(36).astype(np.uint8).reshape(6, 6)
    write_labels(cue_folder(tmp_path), "id1", {"cues": cues})
    make = cued(Wide(), tmp_path, crop=48, resize=16, resize_mode="none", flip=0.0)
    lefts = set()
    for position in range(20):
        row = make((1, position))
        assert row["image"].shape == (48, 48, 3)
        centre = (row["image"][0, :, 0].mean() / 4 + 0.5) * 96 / 64  # red tells the column
        left = round(centre - 24)
        lefts.add(left)
        columns = [int((left + (j + 0.5) * 8) / 96 * 6) for j in range(6)]
        np.testing.assert_array_equal(row["cues"], cues[:, columns])
    assert len(lefts) > 8


def test_padding_and_unreadable_photos_have_no_cue(tmp_path):
    write_cues(tmp_path)
    (tmp_path / "id2.png").unlink()  # nor does the cue of an unreadable photo need to be there
    make = cued(Photos(broken=(2,)), tmp_path)
    for index in (pipeline.PADDING, 2):
        row = make((index, 0))
        assert not row["valid"] and (row["cues"] == UNLABELLED).all()
        assert row["cues"].shape == (6, 6) and row["cues"].dtype == np.uint8
    assert make((3, 0))["valid"]


@pytest.mark.parametrize("damage", ["missing", "cut", "size"])
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_damaged_cue_stops_the_batches_by_name(tmp_path, damage, workers):
    write_cues(tmp_path)
    path = tmp_path / "id4.png"
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:60])
    else:
        write_labels(cue_folder(tmp_path, 5), "id4", {"cues": np.zeros((5, 5), np.uint8)})
    made = pipeline.train_batches(
        rows_of(Photos()), cued(Photos(), tmp_path), workers=workers, threads=2
    )
    with pytest.raises(UserError, match=r"id4\.png"):
        list(prefetch.DevicePrefetch(made, lambda x: x))


def test_rows_hold_pixels_and_image_labels():
    for batch in batches(Photos()):
        assert batch["image"].dtype == np.uint8 and batch["image"].shape == (3, 12, 12, 3)
        assert batch["valid"].all()
        for image, labels, index in zip(
            batch["image"], batch["labels"], batch["index"], strict=True
        ):
            assert (image == 10 * index + 5).all()
            np.testing.assert_array_equal(labels, np.eye(3)[index % 3])


# ---------------------------------------------------------------- order


def test_batches_follow_the_order_across_epochs():
    """Seven images in threes: epochs end inside a batch, no image is left out."""
    found = np.concatenate([b["index"] for b in batches(Photos(), num_steps=7)])
    for epoch in range(3):
        assert sorted(found[7 * epoch : 7 * epoch + 7]) == list(range(7))


def test_one_image_gets_other_crops_in_other_epochs():
    source = Photos(count=1)
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    source.__class__ = type(
        "Noise", (Photos,), {"__getitem__": lambda s, i: Record("noise", buffer.getvalue(), (0,))}
    )
    make = example(source)
    crops = {make((0, position))["image"].tobytes() for position in range(20)}
    assert len(crops) > 10
    np.testing.assert_array_equal(make((0, 5))["image"], make((0, 5))["image"])


# ---------------------------------------------------------------- resume, processes


@pytest.mark.parametrize("first_step", [1, 3, 7, 8])
def test_resume_gives_bitwise_the_same_batches(first_step):
    whole = batches(Photos())
    assert len(whole) == 8
    assert_same(batches(Photos(), first_step=first_step, threads=3), whole[first_step:])


def test_threads_do_not_change_the_batches():
    assert_same(batches(Photos(), threads=5), batches(Photos(), threads=1))


def test_worker_processes_do_not_change_the_batches():
    """Two workers and an odd number of steps: none is lost, none holds another's rows."""
    whole = batches(Photos(), num_steps=5)
    assert_same(batches(Photos(), num_steps=5, workers=2), whole)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_resume_with_worker_processes(workers):
    assert_same(batches(Photos(), workers=workers, first_step=3), batches(Photos())[3:])


@pytest.mark.slow
def test_worker_processes_lose_no_image_of_an_evaluation():
    example = pipeline.EvalExample(Photos(count=7), 8)
    found = list(pipeline.eval_batches(example, 3, workers=2))
    rows = np.concatenate([batch["index"][batch["valid"]] for batch in found])
    assert rows.tolist() == list(range(7))


@pytest.mark.parametrize("padded, processes", [(6, 2), (6, 3), (8, 2), (8, 4)])
def test_processes_rows_make_one_process_batch(padded, processes):
    """Five examples a batch, padded: process p has the p-th block of the global batch."""
    shape = dict(batch_size=5, padded_size=padded, num_steps=4)
    whole = batches(Photos(), **shape)
    parts = [
        batches(Photos(), **shape, process_index=p, process_count=processes)
        for p in range(processes)
    ]
    joined = [
        {name: np.concatenate([part[name] for part in step]) for name in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_same(joined, whole)
    for batch in whole:
        assert batch["valid"].tolist() == [True] * 5 + [False] * (padded - 5)
        assert not batch["image"][5:].any() and not batch["labels"][5:].any()
        assert (batch["index"][5:] == pipeline.PADDING).all()


def test_padding_does_not_move_the_order():
    plain = batches(Photos(), batch_size=5, padded_size=5)
    padded = batches(Photos(), batch_size=5, padded_size=8)
    for one, other in zip(plain, padded, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"][:5])


def test_a_crop_larger_than_the_resized_image_is_refused_in_words():
    with pytest.raises(UserError, match=r"data\.resize"):
        example(Photos(), crop=20, resize=16)
    with pytest.raises(UserError, match=r"'wrap' is not one of 'warp', 'shorter', 'none'"):
        example(Photos(), resize_mode="wrap")


# ---------------------------------------------------------------- corrupt images


def test_a_corrupt_image_is_an_invalid_row_with_its_index():
    seen = set()
    for batch in batches(Photos(broken=(2,))):
        bad = ~batch["valid"]
        seen |= set(batch["index"][bad].tolist())
        assert not batch["labels"][bad].any() and not batch["image"][bad].any()
        assert batch["labels"][~bad].sum(axis=1).tolist() == [1] * int((~bad).sum())
    assert seen == {2}


def test_corrupt_images_are_named_once_and_counted_up_to_the_limit(caplog):
    source = Photos(broken=(2, 5))
    counter = pipeline.CorruptCounter(source, limit=2)
    with caplog.at_level("WARNING", logger="absl"):
        for batch in batches(source, num_steps=14):
            counter.check(batch)
    named = [r.getMessage() for r in caplog.records]
    assert len(named) == 2
    assert all(any(f"id{i}" in text for text in named) for i in (2, 5))


def test_more_corrupt_images_than_the_limit_stop_the_run():
    source = Photos(broken=(2, 5))
    counter = pipeline.CorruptCounter(source, limit=1)
    with pytest.raises(UserError, match=r"2 images of list 'photos'.*max_corrupt=1"):
        for batch in batches(source):
            counter.check(batch)


def test_a_list_without_a_readable_image_is_refused():
    """Whatever data.max_corrupt allows: there is nothing to learn."""
    whole = tuple(range(len(Photos())))
    pipeline.check_readable(Photos(), 0)
    pipeline.check_readable(Photos(broken=whole[:-1]), 100)
    with pytest.raises(UserError, match=rf"^all {len(whole)} images of list 'photos' cannot be "):
        pipeline.check_readable(Photos(broken=whole), 100)
    with pytest.raises(UserError, match=r"^the first 2 images .*more than data\.max_corrupt=1"):
        pipeline.check_readable(Photos(broken=(0, 1)), 1)


def test_images_that_all_go_within_a_training_stop_it():
    source = Photos(broken=tuple(range(len(Photos()))))
    counter = pipeline.CorruptCounter(source, limit=100)
    with pytest.raises(UserError, match=r"^all \d+ images of list 'photos' cannot be read"):
        for batch in batches(source, num_steps=14):
            counter.check(batch)
            counter.check_some()


def test_padding_is_not_counted_as_corrupt():
    counter = pipeline.CorruptCounter(Photos(), limit=0)
    for batch in batches(Photos(), batch_size=5, padded_size=8):
        counter.check(batch)


# ---------------------------------------------------------------- evaluation


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("count, local", [(7, 2), (8, 4), (1, 3)])
def test_evaluation_covers_each_image_once(processes, count, local):
    source = Photos(count=count)
    example = pipeline.EvalExample(source, 8)
    parts = [
        list(
            pipeline.eval_batches(
                example, local, process_index=p, process_count=processes, threads=2
            )
        )
        for p in range(processes)
    ]
    assert len({len(part) for part in parts}) == 1
    rows = [b["index"][b["valid"]] for step in zip(*parts, strict=True) for b in step]
    assert np.concatenate(rows).tolist() == list(range(count))  # in order, too
    for batch in itertools.chain(*parts):
        assert len(batch["index"]) == local
        np.testing.assert_array_equal(batch["valid"], batch["index"] != pipeline.PADDING)


def test_evaluation_rows_know_the_stored_size():
    (batch,) = pipeline.eval_batches(pipeline.EvalExample(Photos(count=2), 8), 3)
    assert batch["size"][:2].tolist() == [[24, 20]] * 2
    assert batch["image"].shape == (3, 8, 8, 3)


def test_ten_crops_of_an_evaluation_batch():
    (batch,) = pipeline.eval_batches(pipeline.EvalExample(Photos(count=2), 8, 10), 2)
    assert batch["crops"].shape == (2, 10, 8, 8, 3)
    assert (batch["crops"][1] == 15).all()


def test_an_evaluation_batch_of_the_photos_middle():
    (batch,) = pipeline.eval_batches(pipeline.EvalExample(Photos(count=2), 8, center=10), 2)
    assert batch["image"].shape == (2, 8, 8, 3) and (batch["image"][1] == 15).all()


def test_a_corrupt_evaluation_image_is_an_invalid_row():
    source = Photos(count=3, broken=(1,))
    (batch,) = pipeline.eval_batches(pipeline.EvalExample(source, 8, 10), 3)
    assert batch["valid"].tolist() == [True, False, True]
    assert batch["index"].tolist() == [0, 1, 2]


# ---------------------------------------------------------------- prefetch


def test_prefetch_keeps_order_and_puts_each_batch():
    ahead = prefetch.DevicePrefetch(iter(range(20)), lambda x: x * x)
    assert list(ahead) == [x * x for x in range(20)]
    ahead.close()


def test_prefetch_measures_waiting():
    def slow():
        for x in range(4):
            time.sleep(0.05)
            yield x

    ahead = prefetch.DevicePrefetch(slow(), lambda x: x)
    assert list(ahead) == [0, 1, 2, 3]
    assert 0.1 < ahead.take_waited() < 5
    assert ahead.take_waited() == 0

    fast = prefetch.DevicePrefetch(iter(range(3)), lambda x: x)
    time.sleep(0.3)
    next(fast)
    assert fast.take_waited() < 0.1
    fast.close()


@pytest.mark.parametrize("where", ["batches", "put"])
def test_prefetch_passes_errors_on(where):
    def broken():
        yield 1
        if where == "batches":
            raise UserError("the disk is gone")
        yield 2

    def put(x):
        if x == 2:
            raise UserError("the disk is gone")
        return x

    ahead = prefetch.DevicePrefetch(broken(), put)
    assert next(ahead) == 1
    with pytest.raises(UserError, match="the disk is gone"):
        next(ahead)
    ahead.close()


def within(seconds, function):
    """Runs a function that may hang; fails rather than hanging the suite."""
    done = threading.Event()
    result = []

    def work():
        try:
            result.append(function())
        except BaseException as error:
            result.append(error)
        done.set()

    threading.Thread(target=work, daemon=True).start()
    assert done.wait(seconds), "hangs"
    return result[0]


def test_prefetch_ends_again_and_again():
    """An iterator that is spent stays spent; it does not wait for a thread that has gone."""
    ahead = prefetch.DevicePrefetch(iter([1]), lambda x: x)
    assert list(ahead) == [1]
    assert within(3, lambda: next(ahead, "end")) == "end"


def test_close_does_not_hang_on_a_full_queue():
    ahead = prefetch.DevicePrefetch(itertools.count(), lambda x: x)
    next(ahead)
    within(5, ahead.close)
    assert not ahead._thread.is_alive()


def test_next_after_close_does_not_hang():
    ahead = prefetch.DevicePrefetch(itertools.count(), lambda x: x)
    next(ahead)
    within(5, ahead.close)
    within(3, lambda: [next(ahead) for _ in range(5)])
