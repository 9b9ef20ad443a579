"""The stage that writes pseudo-labels: whole, killed, gone on with, and what it refuses."""

import hashlib
import io
import json
import shutil

import numpy as np
import pytest
from helpers.labels import (
    INPUTS,
    SIZE,
    Painted,
    check,
    config_of,
    content,
    cue_folder,
    label_stage,
    make,
    opened,
    write_labels,
)
from PIL import Image

from wsol_jax.base import fields
from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data import label_formats
from wsol_jax.data.pseudo_labels import open_labels, read_summary
from wsol_jax.methods import Labeller
from wsol_jax.methods.confident import confident_cells
from wsol_jax.runs.state import fingerprint
from wsol_jax.stages import label


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Cues that nothing disturbed; read them, do not write there."""
    folder = tmp_path_factory.mktemp("made") / "cues"
    return folder, make(folder)


@pytest.fixture
def copied(made, tmp_path):
    """A copy of them to write in."""
    return shutil.copytree(made[0], tmp_path / "cues")


def median(values):
    padded = np.pad(values, 1, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return np.median(windows, axis=(-2, -1))


def test_cues_are_what_the_maps_are_sure_of(made):
    folder, found = made
    assert set(content(folder)) == {f"part/id{i}.png" for i in range(7)}
    counts = np.zeros(256, int)
    for index in range(7):
        record = Painted()[index]
        pixels = np.array(Image.open(io.BytesIO(record.image))).astype(float)
        # From 16 to 8 cells bilinearly: the mean of each four pixels.
        at_size = lambda x: x.reshape(8, 2, 8, 2).mean(axis=(1, 3))
        own, total = at_size(pixels[..., index % 2]), at_size(median(pixels.sum(axis=-1)))
        expected = np.full((8, 8), UNLABELLED)
        expected[total <= np.sort(total.ravel())[16]] = 0
        expected[own > 0.5 * own.max()] = 1 + index % 2
        cue = cue_folder(folder).read(record.image_id)
        np.testing.assert_array_equal(cue, expected)
        assert set(np.unique(cue).tolist()) == {0, 1 + index % 2, UNLABELLED}
        counts += np.bincount(cue.ravel(), minlength=256)
    total = counts.sum()
    assert (found["images"], found["size"]) == (7, SIZE)
    assert found["foreground"] == pytest.approx((counts[1] + counts[2]) / total)
    assert found["background"] == pytest.approx(counts[0] / total)
    assert found["unlabelled"] == pytest.approx(counts[255] / total)
    assert found["by_class"] == {"red": counts[1] / total, "green": counts[2] / total}
    assert json.loads((folder / "cues.json").read_text()) == found == read_summary(folder)
    assert found["inputs"] == json.loads((folder / "inputs.json").read_text()) == INPUTS


def test_the_hash_is_of_every_pixel_in_the_lists_order(made):
    folder, found = made
    digest = hashlib.sha256()
    for index in range(7):
        cue = cue_folder(folder).read(f"part/id{index}")
        digest.update(f"part/id{index}\n".encode() + cue.tobytes())
    assert found["sha256"] == digest.hexdigest()


def test_the_inputs_are_networks_settings_and_image_labels(tmp_path):
    """By the hashes that runs of earlier days wrote, so that their cues are known again."""
    found = label_stage(tmp_path / "cues").inputs()
    # As of a time before cues.strict: those labels are still what this config makes.
    settings = repr([*(x for x in config_of().cues.items() if x[0] != "strict"), 16])
    labels = repr([(f"part/id{i}", (i % 2,)) for i in range(7)])
    network = fingerprint(opened().variables)
    assert list(found.items()) == [
        ("maps", network),
        ("saliency", network),
        ("settings", hashlib.sha256(settings.encode()).hexdigest()),
        ("labels", hashlib.sha256(labels.encode()).hexdigest()),
    ]
    for other in ({"foreground": 0.4}, {"strict": True}):
        assert label_stage(tmp_path / "cues", **other).inputs()["settings"] != found["settings"]


def test_a_summary_of_the_time_of_cues_alone_is_read(copied):
    known = json.loads((copied / "cues.json").read_text())
    del known["products"]
    (copied / "cues.json").write_text(json.dumps(known))
    assert open_labels(copied).read("part/id3").shape == (SIZE, SIZE)
    assert check(copied)["sha256"] == known["sha256"]


class Stop(BaseException):
    """Ends a process as a signal would: nothing tidies up."""


def test_a_stage_that_stopped_goes_on_with_what_is_missing(made, tmp_path, monkeypatch):
    folder, whole = made
    written, write_whole = [], label.write_whole

    def dies(path, data):
        if len(written) == 4:
            raise Stop
        written.append(path.name)
        write_whole(path, data)

    tmp_path = tmp_path / "cues"
    monkeypatch.setattr(label, "write_whole", dies)
    with pytest.raises(Stop):
        make(tmp_path)
    assert len(content(tmp_path)) == 4 and read_summary(tmp_path) is None
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")}
    again = []
    write = lambda path, data: (again.append(path.name), write_whole(path, data))
    monkeypatch.setattr(label, "write_whole", write)
    assert make(tmp_path) == whole
    assert sorted(again + written) == ["cues.json", *(f"id{i}.png" for i in range(7))]
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert content(tmp_path) == content(folder)
    again.clear()
    assert make(tmp_path) == whole and not again  # and all of it is done


def test_a_process_killed_in_its_first_write_leaves_no_claim(made, tmp_path):
    """What write_whole had not renamed yet is nobody's cue."""
    (tmp_path / "cues").mkdir()
    (tmp_path / "cues" / ".host.17.18.tmp").write_text('{"maps": "ot')
    assert make(tmp_path / "cues") == made[1]


def test_a_summary_that_was_cut_is_made_again(made, copied):
    before = content(copied)
    for damage in ("", '{"images": 7, "sha', "null", "[]", "{}"):
        (copied / "cues.json").write_text(damage)
        assert read_summary(copied) is None, damage
        assert make(copied) == made[1]
    assert content(copied) == before


@pytest.mark.parametrize("name", list(INPUTS))
@pytest.mark.parametrize("done", [True, False])
def test_cues_of_other_inputs_are_refused(copied, name, done):
    if not done:
        (copied / "cues.json").unlink()
        (copied / "part/id3.png").unlink()
    before = content(copied)
    with pytest.raises(UserError) as error:
        make(copied, inputs={**INPUTS, name: "other"})
    assert str(error.value) == (
        f"{copied} holds labels that were made of other networks, labels or settings than this "
        "config's: remove it to make them again, or put those back."
    )
    assert content(copied) == before


@pytest.mark.parametrize("damage", ["missing", "cut", "no object"])
def test_cues_that_nobody_knows_the_inputs_of_are_refused(copied, damage):
    record = copied / "inputs.json"
    if damage == "missing":
        record.unlink()
    else:
        record.write_text({"cut": '{"maps": "a', "no object": "[]"}[damage])
    other = "made of other networks, labels or settings"
    sentence = other if damage == "missing" else r"inputs\.json is damaged.* remove .*cues and run"
    with pytest.raises(UserError, match=sentence):
        make(copied)


@pytest.mark.parametrize("damage", ["cut", "size", "colours"])
def test_a_damaged_cue_is_named_when_they_are_summed_up(made, copied, damage):
    (copied / "cues.json").unlink()
    path = copied / "part" / "id5.png"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:50])
    elif damage == "size":
        write_labels(cue_folder(copied, 3), "part/id5", {"cues": np.zeros((3, 3), np.uint8)})
    else:
        Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(path)
    with pytest.raises(UserError, match=r"part.id5\.png"):
        make(copied)
    assert read_summary(copied) is None
    path.unlink()  # the cure
    assert make(copied) == made[1]


def test_an_unreadable_photo_has_no_cue(made, tmp_path, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        found = make(tmp_path / "cues", Painted(broken=(2, 4)))
    assert found["images"] == 5 and "part/id2" in caplog.text
    expected = {
        k: v for k, v in content(made[0]).items() if k not in ("part/id2.png", "part/id4.png")
    }
    assert content(tmp_path / "cues") == expected
    with pytest.raises(UserError, match=r"cannot be read, more than data\.max_corrupt=2"):
        make(tmp_path / "more", Painted(broken=(1, 2, 4)))


def test_a_list_without_a_readable_photo_has_no_labels(tmp_path):
    with pytest.raises(UserError, match=r"'cues': none of the 2 images of list 'train' can be"):
        make(tmp_path / "cues", Painted(count=2, broken=(0, 1)))
    assert read_summary(tmp_path / "cues") is None


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"size": 0}, r"cues\.size=0: expected a whole number"),
        ({"size": -3}, r"cues\.size"),
        ({"foreground": 1.0}, r"cues\.foreground=1\.0: expected a number from 0 to below 1"),
        ({"foreground": float("nan")}, r"cues\.foreground"),
        ({"background": -0.1}, r"cues\.background=-0\.1: expected a number"),
    ],
)
def test_options_are_checked(changes, sentence):
    confident_cells(config_of(), 254)
    with pytest.raises(UserError, match=sentence):
        fields.check_values(config_of(**changes))  # as methods.build_labeller does


def test_more_classes_than_a_cue_holds_are_refused():
    with pytest.raises(UserError, match="cues hold 254 classes at most, not 255"):
        confident_cells(config_of(), 255)


def test_cues_that_went_missing_are_made_again(made, copied):
    (copied / "part" / "id3.png").unlink()
    with pytest.raises(UserError, match=r"id3\.png and 0 more are missing: --stages=cues makes"):
        check(copied)
    assert make(copied) == made[1]
    assert content(copied) == content(made[0])
    assert check(copied) == made[1]


def test_cues_that_were_changed_are_refused(copied):
    other = (copied / "part" / "id2.png").read_bytes()
    (copied / "part" / "id3.png").write_bytes(other)
    for ask in (make, check):
        with pytest.raises(UserError, match="were changed since they were made: remove it"):
            ask(copied)


def test_cues_of_other_inputs_are_no_ones_to_use(made):
    with pytest.raises(UserError, match="made of other networks, labels or settings"):
        check(made[0], inputs={**INPUTS, "maps": "another"})


def test_an_unreadable_photo_is_not_missing(tmp_path):
    source = Painted(broken=(2,))
    found = make(tmp_path / "cues", source)
    assert found["unreadable"] == ["part/id2"]
    assert check(tmp_path / "cues", source) == found


# ---------------------------------------------------------------- several products, earlier labels


def everything(maker=True):
    """A labeller of every kind of product, of the photo, earlier cues and, perhaps, a network."""

    def bright(networks, batch):
        return {"bright": networks["net"].localize(batch["image"]).maps}

    def finish(photo, made, earlier):
        assert photo.size == (16, 16) and photo.pixels.shape == (16, 16, 3)
        cue = earlier["cues"]["cues"]
        soft = made["bright"] / 255 if maker else photo.pixels[..., :2] / 255.0
        return {
            "small": cue[::2, ::2],
            "mask": np.kron(cue, np.ones((2, 2), np.uint8)),
            "ids": photo.pixels[..., 0].astype(np.int32) * 1000 - int(photo.image_id[-1]),
            "soft": np.asarray(soft, np.float16),
        }

    products = {
        "small": label_formats.cells(4),
        "mask": label_formats.mask(),
        "ids": label_formats.regions(),
        "soft": label_formats.soft_maps(),
    }
    reads = {"net": "first", "cues": "cues"} if maker else {"cues": "cues"}
    return Labeller(reads, products, bright if maker else None, finish)


@pytest.mark.parametrize("maker", [True, False], ids=["network", "photo alone"])
def test_a_labeller_of_several_products(made, tmp_path, maker):
    """On threads, of the photo, the cues of an earlier stage and what a network made."""
    networks = {"net": opened()} if maker else {}
    stage = dict(networks=networks, earlier={"cues": cue_folder(made[0])})
    build = lambda folder, source=None: make(folder, source, labeller=everything(maker), **stage)
    folder = tmp_path / "several"
    found = build(folder, Painted(broken=(2,)))
    assert found["images"] == 6 and found["unreadable"] == ["part/id2"]
    kinds = {"small": "cells", "mask": "mask", "ids": "regions", "soft": "soft_maps"}
    assert {name: x["kind"] for name, x in found["products"].items()} == kinds
    assert found["small"]["size"] == 4 and "size" not in found["mask"]
    opened_again = open_labels(folder)
    for index in (0, 1, 3, 4, 5, 6):
        name, cue = f"part/id{index}", cue_folder(made[0]).read(f"part/id{index}")
        pixels = np.array(Image.open(io.BytesIO(Painted()[index].image)))
        expected = {
            "small": cue[::2, ::2],
            "mask": cue.repeat(2, axis=0).repeat(2, axis=1),
            "ids": pixels[..., 0].astype(np.int32) * 1000 - index,
            "soft": (pixels[..., :2].astype(np.float32) / 255).astype(np.float16),
        }
        for product, values in expected.items():
            read = opened_again.read(name, product)
            assert read.dtype == values.dtype
            np.testing.assert_array_equal(read, values)
            with Image.open(folder / product / f"{name}.png") as picture:
                assert picture.size == values.shape[1::-1]
    (folder / "ids" / "part" / "id4.npz").unlink()
    before = content(folder)
    assert build(folder, Painted(broken=(2,))) == found and content(folder) == before
    with pytest.raises(UserError, match="have no product '', but small, mask, ids, soft"):
        opened_again.read("part/id0")


@pytest.mark.parametrize(
    "values", [np.zeros((8, 8), np.int32), np.zeros((8, 7), np.uint8), np.zeros(8, np.uint8)]
)
def test_arrays_of_another_format_are_not_stored(tmp_path, values):
    labeller = Labeller({}, {"cues": label_formats.cells(8)}, None, lambda *_: {"cues": values})
    with pytest.raises(UserError, match=r"cells: expected uint8 of shape \(8, 8\)"):
        make(tmp_path / "cues", labeller=labeller)
    assert not content(tmp_path)


def test_a_labeller_that_makes_nothing_is_none():
    products = {"cues": label_formats.cells(8)}
    for wrong in (({}, products), ({"labels": "a"}, products, None, print), ({}, {}, print)):
        with pytest.raises(ValueError):
            Labeller(*wrong)
