"""Earlier labels that a labeller reads in its batch: the right rows, and the wrong kinds."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from helpers import rounds
from helpers.labels import SIZE, Painted, cue_folder, label_stage, make, opened, write_labels

from wsol_jax.base.errors import UserError
from wsol_jax.data import label_formats
from wsol_jax.data.label_formats import LabelSpec
from wsol_jax.data.pseudo_labels import BatchLabels, open_labels
from wsol_jax.methods import Labeller
from wsol_jax.stages import checks, label

SPEC = LabelSpec((4, 4), np.int32, -1)


@pytest.fixture
def cues(tmp_path):
    """Cues of another number in each photo; of the third one nobody made any."""
    folder = tmp_path / "cues"
    for index in (0, 1, 3, 4, 5, 6):
        values = np.full((SIZE, SIZE), index, np.uint8)
        values[0, :2] = (100 + index, 200)
        write_labels(cue_folder(folder), f"part/id{index}", {"cues": values})
    return folder


def wanting(product=None, **more):
    """A labeller that leaves what it sees in the batch, times the photo's brightest red."""

    def make(networks, batch):
        assert batch["cues"].shape[1:] == (4, 4) and batch["cues"].dtype == jnp.int32
        red = networks["net"].localize(batch["image"]).maps[..., 0]
        return {"seen": batch["cues"].astype(jnp.uint8), "red": jnp.max(red, axis=(1, 2))}

    def finish(photo, made, earlier):
        np.testing.assert_array_equal(earlier["cues"]["cues"][1::2, 1::2], made["seen"])
        assert made["red"] == photo.pixels[..., 0].max()
        return {"seen": made["seen"]}

    reads = {"net": "first", "cues": "cues"}
    products = {"seen": product or label_formats.cells(4)}
    return Labeller(reads, products, make, finish, {"cues": SPEC}, **more)


def test_each_photo_sees_its_own_rows(cues, tmp_path):
    """Seven photos in batches of four, the third unreadable and without cues."""
    found = make(
        tmp_path / "seen",
        Painted(broken=(2,)),
        labeller=wanting(),
        networks={"net": opened()},
        earlier={"cues": cue_folder(cues)},
    )
    assert found["images"] == 6 and found["unreadable"] == ["part/id2"]
    for index in (0, 1, 3, 4, 5, 6):
        seen = open_labels(tmp_path / "seen").read(f"part/id{index}")
        np.testing.assert_array_equal(seen, index)  # of each two cells the second's centre


def test_labels_that_are_missing_are_named(cues, tmp_path):
    stage = dict(labeller=wanting(), networks={"net": opened()})
    with pytest.raises(UserError, match=r"cues.part.id2\.png is missing: .* --stages=cues"):
        make(tmp_path / "seen", **stage, earlier={"cues": cue_folder(cues)})


def test_padding_and_unreadable_photos_have_the_fill(cues):
    host = {
        "index": np.array([4, -1, 2, 0, -1]),
        "valid": np.array([True, False, False, True, False]),
    }
    wanted = BatchLabels(cue_folder(cues), "cues", SPEC)
    rows = label._rows_of(wanted, Painted(), host)
    assert rows.shape == (5, 4, 4) and rows.dtype == np.int32
    np.testing.assert_array_equal(rows[:, 0, 0], [4, -1, -1, 0, -1])
    np.testing.assert_array_equal(rows[[1, 2, 4]], -1)


def test_a_stage_that_is_gone_on_with_reads_the_rows_that_are_left(cues, tmp_path):
    """The batch is of the photos that have no label yet, not of the whole list."""
    stage = dict(labeller=wanting(), networks={"net": opened()})
    stage["earlier"] = {"cues": cue_folder(cues)}
    folder, source = tmp_path / "seen", Painted(broken=(2,))
    before = make(folder, source, **stage)
    for index in (1, 5, 6):
        (folder / f"part/id{index}.png").unlink()
    assert make(folder, source, **stage) == before


def test_no_mask_is_read(cues, tmp_path):
    """``Painted.mask`` raises; the inputs are networks, labels and settings."""
    stage = label_stage(
        tmp_path / "seen",
        labeller=wanting(),
        networks={"net": opened()},
        earlier={"cues": cue_folder(cues)},
    )
    assert set(stage.inputs()) == {"net", "cues", "settings", "labels"}


def test_what_is_wanted_must_be_read():
    with pytest.raises(ValueError, match="wants 'cues', which it does not read"):
        Labeller({}, {"a": label_formats.mask()}, None, print, {"cues": SPEC})


# ---------------------------------------------------------------- told before any training


def opened_labellers(monkeypatch, *labellers):
    """Opens the labellers of a run of two rounds."""
    given = iter(labellers)
    monkeypatch.setattr(checks.methods, "build_labeller", lambda *_: next(given))
    config = rounds.get_config(f"folder,root={tiny.data()},size=32,batch=6")
    return checks.open_labellers(config, types.SimpleNamespace(class_names=("a", "b")))


def first_of(**products):
    return Labeller({}, products, None, lambda *_: {})


def second(spec=SPEC, reads="label_one"):
    make = lambda networks, batch: {"a": jnp.zeros((len(batch["cues"]), 4, 4), jnp.uint8)}
    return Labeller({"cues": reads}, {"a": label_formats.cells(4)}, make, None, {"cues": spec})


@pytest.mark.parametrize(
    "product, spec",
    [
        (label_formats.cells(9), LabelSpec((4, 4), np.uint8)),
        (label_formats.mask(), SPEC),
        (label_formats.regions(), SPEC),
        (label_formats.soft_maps(), LabelSpec((4, 4, 2), np.float32)),
    ],
)
def test_labels_of_the_wanted_kind(monkeypatch, product, spec):
    found = opened_labellers(monkeypatch, first_of(x=product), second(spec))
    assert set(found) == {"label_one", "label_two"}


@pytest.mark.parametrize(
    "first, spec, sentence",
    [
        (
            first_of(x=label_formats.soft_maps()),
            SPEC,
            "wants 'cues' as int32 of (4, 4), and stage 'label_one' leaves ['soft_maps'].",
        ),
        (
            first_of(x=label_formats.regions()),
            LabelSpec((4, 4), np.uint8),
            "wants 'cues' as uint8 of (4, 4), and stage 'label_one' leaves ['regions'].",
        ),
        (
            first_of(x=label_formats.mask()),
            LabelSpec((4, 4, 1), np.float32),
            "wants 'cues' as float32 of (4, 4, 1), and stage 'label_one' leaves ['mask'].",
        ),
        (
            first_of(x=label_formats.mask(), y=label_formats.mask()),
            SPEC,
            "wants 'cues' as int32 of (4, 4), and stage 'label_one' leaves ['mask', 'mask'].",
        ),
    ],
)
def test_labels_of_another_kind(monkeypatch, first, spec, sentence):
    with pytest.raises(UserError) as error:
        opened_labellers(monkeypatch, first, second(spec))
    assert str(error.value) == f"stage 'label_two' {sentence}"


def test_a_network_is_no_labels(monkeypatch):
    with pytest.raises(UserError) as error:
        opened_labellers(monkeypatch, first_of(x=label_formats.mask()), second(reads="two"))
    assert str(error.value) == (
        "stage 'label_two' wants 'cues' as int32 of (4, 4), and stage 'two' leaves no labels."
    )


def test_a_method_that_infers_nothing(monkeypatch):
    """Told in shapes, before the network is trained."""
    infers = lambda networks, batch: networks["net"].infer(batch)
    wrong = Labeller({"net": "one"}, {"a": label_formats.mask()}, infers, lambda *_: {})
    with pytest.raises(UserError, match="the network that it reads infers nothing"):
        opened_labellers(monkeypatch, wrong, wrong)
