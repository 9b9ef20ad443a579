"""Products of label stages on disk: written, read again, shown, and damaged."""

import json
import pickle

import numpy as np
import pytest
from helpers.labels import write_labels
from PIL import Image

from wsol_jax.base.errors import UserError
from wsol_jax.data import label_pictures, pseudo_labels
from wsol_jax.data.index_png import voc_palette
from wsol_jax.data.label_formats import Format, LabelSpec
from wsol_jax.data.pseudo_labels import LabelFolder, parse_labels

RNG = np.random.default_rng(0)
IDS = np.iinfo(np.int32)
ARRAYS = {
    "cells": RNG.choice([0, 1, 7, 255], size=(5, 5)).astype(np.uint8),
    "mask": RNG.choice([0, 1, 20, 255], size=(7, 13)).astype(np.uint8),
    "regions": RNG.integers(IDS.min, IDS.max, (7, 13), np.int32, endpoint=True),
    "soft_maps": RNG.normal(size=(4, 6, 3)).astype(np.float16),
}
ARRAYS["soft_maps"][0, 0] = np.inf, -np.inf, np.nan
FORMATS = {name: Format(name, 5 if name == "cells" else 0) for name in ARRAYS}


@pytest.mark.parametrize("together", [True, False], ids=["together", "alone"])
@pytest.mark.parametrize("kind", list(ARRAYS))
def test_what_is_written_is_read_back_and_shown(tmp_path, kind, together):
    names = list(ARRAYS) if together else [kind]
    place = LabelFolder(tmp_path, {name: FORMATS[name] for name in names})
    write_labels(place, "a b/c.jpg", ARRAYS)
    found = pickle.loads(pickle.dumps(place)).read("a b/c.jpg", kind)
    assert found.dtype == ARRAYS[kind].dtype
    np.testing.assert_array_equal(found, ARRAYS[kind])
    folder = tmp_path / kind if together else tmp_path
    assert place.path("a b/c.jpg", kind).parent == folder / "a b"
    with Image.open(folder / "a b" / "c.jpg.png") as picture:
        assert picture.size == ARRAYS[kind].shape[1::-1]
        assert picture.mode == ("P" if kind in ("cells", "mask") else "RGB")
    assert place.has("a b/c.jpg") and not place.has("a b/d.jpg")


def test_the_same_arrays_are_the_same_files(tmp_path):
    place = LabelFolder(tmp_path, FORMATS)
    assert place.encode("a", ARRAYS) == place.encode("a", ARRAYS)
    # Values come last: an image that has them has its pictures.
    assert [path.suffix for path, _ in place.encode("a", ARRAYS)][2:] == 2 * [".png", ".npz"]


def test_regions_next_to_each_other_have_colours_far_apart():
    shown = label_pictures.regions_picture(np.arange(200, dtype=np.int32)[None])[0].astype(int)
    assert len({tuple(colour) for colour in shown}) == 200
    assert np.abs(np.diff(shown, axis=0)).max(axis=-1).min() > 20


def test_soft_maps_are_shown_in_the_highest_ones_colour():
    maps = np.zeros((1, 3, 2), np.float16)
    maps[0, 0, 1], maps[0, 1, 0] = 2.0, 1.0
    shown = label_pictures.maps_picture(maps)[0]
    np.testing.assert_array_equal(shown[0], voc_palette()[2])
    np.testing.assert_array_equal(shown[1], voc_palette()[1] // 2)
    assert not shown[2].any()


@pytest.mark.parametrize("kind", ["regions", "soft_maps"])
@pytest.mark.parametrize("kept", [0, 7, 0.3, 0.9, "no array", "a pickle", "another dtype"])
def test_a_damaged_array_is_named(tmp_path, kind, kept):
    place = LabelFolder(tmp_path / "stage", {kind: FORMATS[kind]})
    write_labels(place, "a", ARRAYS)
    path = place.path("a")
    if kept == "no array":
        np.savez(path, other=ARRAYS[kind])
    elif kept == "a pickle":
        np.savez(path, values=np.array([{}], object))
    elif kept == "another dtype":
        np.savez(path, values=ARRAYS[kind].astype(np.float64))
    else:
        content = path.read_bytes()
        path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(UserError, match=r"stage.a\.npz") as error:
        place.read("a")
    assert "\n" not in str(error.value)


def test_a_missing_array_names_its_stage(tmp_path):
    place = LabelFolder(tmp_path / "round_2", {"regions": FORMATS["regions"]})
    with pytest.raises(UserError, match=r"a\.npz is missing: run the stage.*--stages=round_2\."):
        place.read("a")


@pytest.mark.parametrize("damage", [None, "", "[]", "{}"])
def test_labels_that_are_not_all_made_are_not_opened(tmp_path, damage):
    folder = tmp_path / "stage"
    folder.mkdir()
    if damage is not None:
        (folder / "stage.json").write_text(damage)
    with pytest.raises(UserError, match=r"stage\.json is missing or damaged: .*--stages=stage"):
        pseudo_labels.open_labels(folder)


def test_a_folder_is_opened_by_what_its_summary_says(tmp_path):
    folder = tmp_path / "stage"
    place = LabelFolder(folder, FORMATS)
    write_labels(place, "a", ARRAYS)
    products = {name: {"kind": own.kind, "size": own.size} for name, own in FORMATS.items()}
    (folder / "stage.json").write_text(json.dumps({"sha256": "x", "products": products}))
    assert pseudo_labels.open_labels(folder) == place


@pytest.mark.parametrize(
    "kind, shape, dtype, fits",
    [
        ("cells", (3, 3), np.uint8, True),
        ("cells", (9, 4), np.int32, True),
        ("mask", (3, 3), np.uint8, True),
        ("mask", (3, 3), np.float32, False),
        ("regions", (3, 3), np.int32, True),
        ("regions", (3, 3), np.uint8, False),
        ("soft_maps", (3, 3, 2), np.float32, True),
        ("soft_maps", (3, 3, 2), np.float16, True),
        ("soft_maps", (3, 3), np.float32, False),
        ("soft_maps", (3, 3, 2), np.uint8, False),
    ],
)
def test_what_a_training_may_ask_for(kind, shape, dtype, fits):
    assert FORMATS[kind].fits(LabelSpec(shape, dtype)) is fits


def test_labels_are_named_in_a_string():
    assert parse_labels("") == {}
    assert parse_labels("cues=cues") == {"cues": ("cues", "")}
    several = parse_labels("a=x/mask,b=x/ids,c=y")
    assert several == {"a": ("x", "mask"), "b": ("x", "ids"), "c": ("y", "")}
    for wrong in ("a", "a=", "=x", "a=/x", "a=x,a=y"):
        with pytest.raises(UserError, match=r"labels: expected NAME=STAGE or NAME=STAGE/PRODUCT"):
            parse_labels(wrong)
