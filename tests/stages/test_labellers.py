"""What a labeller says of itself: told before any training where it is wrong, and acted upon."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from helpers import rounds
from helpers.labels import content, make

from wsol_jax.base.errors import UserError
from wsol_jax.data import label_formats
from wsol_jax.data.label_formats import LabelSpec
from wsol_jax.methods import Labeller, Method
from wsol_jax.stages import checks, made

CELLS = {"cues": label_formats.cells(4)}


def config_of():
    return rounds.get_config(f"folder,root={tiny.data()},size=32,batch=6")


@pytest.fixture
def opened(monkeypatch):
    """Opens the labellers of a run of two rounds, both of which are the one given."""

    def run(labeller):
        monkeypatch.setattr(checks.methods, "build_labeller", lambda config, classes: labeller)
        return checks.open_labellers(config_of(), types.SimpleNamespace(class_names=("a", "b")))

    return run


def of(product, shape, dtype):
    """A labeller that leaves zeros of a photo; ``shape`` with the batch."""
    return Labeller(
        {}, {"cues": product}, lambda networks, batch: {"cues": jnp.zeros(shape, dtype)}
    )


@pytest.mark.parametrize(
    "product, shape, dtype, sentence",
    [
        (label_formats.cells(4), (1, 4, 4), "int32", r"uint8 of shape \(4, 4\), got int32 of"),
        (label_formats.cells(4), (1, 4, 5), "uint8", r"shape \(4, 4\), got uint8 of \(4, 5\)"),
        (label_formats.cells(4), (4, 4), "uint8", r"a row for each photo, got \(4, 4\) for one"),
        (label_formats.cells(4), (), "uint8", r"a row for each photo, got \(\) for one"),
        (label_formats.mask(), (1, 8, 6), "float32", r"mask: expected uint8 of .*, got float32"),
        (
            label_formats.mask(),
            (1, 8, 6, 1),
            "uint8",
            r"mask: expected .*, got uint8 of \(8, 6, 1",
        ),
        (label_formats.regions(), (1, 8, 6), "uint8", r"regions: expected int32 .*, got uint8"),
        (label_formats.soft_maps(), (1, 4, 4, 2), "float32", r"soft_maps: expected float16 of"),
        (label_formats.soft_maps(), (1, 4, 4), "float16", r"soft_maps: expected float16 of"),
    ],
)
def test_arrays_that_cannot_be_stored_are_told_in_shapes(opened, product, shape, dtype, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        opened(of(product, shape, dtype))
    assert str(error.value).startswith("labeller: stage 'label_one', product 'cues': ")


@pytest.mark.parametrize(
    "product, shape, dtype",
    [
        (label_formats.cells(4), (1, 4, 4), "uint8"),
        (label_formats.mask(), (1, 8, 6), "uint8"),
        (label_formats.regions(), (1, 8, 6), "int32"),
        (label_formats.soft_maps(), (1, 4, 5, 2), "float16"),
    ],
)
def test_arrays_of_their_format_are_not_refused(opened, product, shape, dtype):
    assert set(opened(of(product, shape, dtype))) == {"label_one", "label_two"}


def test_what_finish_makes_of_them_is_not_known_before(opened):
    opened(Labeller({}, CELLS, lambda networks, batch: {"other": jnp.zeros(3)}, lambda *_: {}))


@pytest.mark.parametrize(
    "reads, sentence",
    [
        ({}, "needs a network for its 'net', but reads nothing."),
        ({"a": "one", "b": "one"}, "needs a network for its 'net', but reads a, b."),
    ],
)
def test_a_network_that_is_not_read(opened, reads, sentence):
    with pytest.raises(UserError) as error:
        opened(Labeller(reads, CELLS, lambda networks, batch: networks["net"].localize(0)))
    assert str(error.value).endswith(sentence)


def test_labels_read_as_a_network(monkeypatch):
    """The second stage takes the first one's labels for a network."""
    right = of(label_formats.cells(4), (1, 4, 4), "uint8")
    wrong = Labeller({"net": "label_one"}, CELLS, lambda networks, batch: networks["net"])
    given = iter((right, wrong))
    monkeypatch.setattr(checks.methods, "build_labeller", lambda *_: next(given))
    with pytest.raises(UserError, match="network for its 'net', which is a label stage"):
        checks.open_labellers(config_of(), types.SimpleNamespace(class_names=("a", "b")))


@pytest.mark.parametrize(
    "left, sentence",
    [
        ({}, r"is missing: got \[\]\."),
        ({"cue": np.zeros((4, 4), np.uint8)}, r"is missing: got \['cue'\]\."),
        ({"cues": np.zeros((4, 4), np.int32)}, r": cells: expected uint8 of shape \(4, 4\), got"),
        ({"cues": np.zeros((4, 5), np.uint8)}, r": cells: expected uint8 of shape \(4, 4\), got"),
    ],
)
def test_a_photo_that_is_left_without_its_product(tmp_path, left, sentence):
    labeller = Labeller({}, CELLS, None, lambda *_: left)
    with pytest.raises(UserError, match=sentence) as error:
        make(tmp_path / "stage", labeller=labeller)
    place = "labeller: stage 'stage', product 'cues' of 'part/id0'"
    assert str(error.value).startswith(place)
    assert not content(tmp_path)


@pytest.mark.parametrize("name", ["image", "labels", "valid", "index"])
def test_a_method_wants_nothing_that_a_batch_has_already(name):
    wants = {"cues": LabelSpec((4, 4), np.uint8), name: LabelSpec((4, 4), np.uint8)}
    with pytest.raises(ValueError, match=f"under the name '{name}'"):
        Method(None, None, None, None, wants)


# ---------------------------------------------------------------- the baseline of a segmenter


def seeds(name, one, two):
    """The stage whose network is a training's baseline, with the labellers of two rounds."""
    labellers = {"label_one": one, "label_two": two}
    opened = {(stage, "latest"): stage for stage in ("one", "two", "three")}
    return made.Made(config_of(), None, None, labellers, opened).seeds(name)


def reading(reads, **more):
    return Labeller(reads, CELLS, None, lambda *_: {}, **more)


def test_the_baseline_is_of_the_network_that_the_labels_grew_from():
    """Not of the first name that is read: a ConfigDict sorts its own."""
    maps = reading({"maps": "one"})
    nothing = reading({"a": "one"})
    assert seeds("one", maps, nothing) is None
    assert seeds("two", maps, nothing) == "one"
    assert seeds("two", reading({"a": "two", "z": "one"}, seeds="z"), nothing) == "one"


def test_a_network_that_was_trained_on_labels_grew_from_theirs():
    """The third trains on labels of the second, which trained on those of the first."""
    maps, both = reading({"maps": "one"}), reading({"a": "one", "maps": "two", "z": "one"})
    assert seeds("three", maps, both) == "one"
    other = reading({"a": "two", "net": "one"}, seeds="net")
    assert seeds("three", other, reading({"a": "one", "z": "two"}, seeds="z")) == "one"
    # Where those grew from no network there is no baseline.
    assert seeds("three", reading({"a": "one"}), both) is None


def test_labels_that_grew_from_labels_are_followed_back():
    first = reading({"net": "one"}, seeds="net")
    assert seeds("three", first, reading({"net": "two", "maps": "label_one"})) == "one"
    assert seeds("three", reading({"net": "one"}), reading({"maps": "label_one"})) is None


def test_labels_of_no_network_leave_a_segmenter_without_a_baseline():
    assert seeds("three", reading({}), reading({"net": "two"})) is None
