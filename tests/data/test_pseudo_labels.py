"""Cues on disk: what is written is read back, and what is no cue is named."""

import re

import numpy as np
import pytest
from helpers.labels import write_labels
from PIL import Image

from wsol_jax.base.errors import UserError
from wsol_jax.data.index_png import read_index_png, voc_palette
from wsol_jax.data.label_formats import cells
from wsol_jax.data.label_pictures import encode_classes
from wsol_jax.data.pseudo_labels import LabelFolder

RNG = np.random.default_rng(0)


def random_cue(size=41, classes=20):
    return RNG.choice([*range(1 + classes), 255], size=(size, size)).astype(np.uint8)


def place(folder, size=6):
    return LabelFolder(folder, {"cues": cells(size)})


def write_cue(folder, name, cue):
    write_labels(place(folder, len(cue)), name, {"cues": cue})


def read_cue(folder, name, size):
    return place(folder, size).read(name)


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize(
    "cue",
    [
        random_cue(),
        random_cue(1),
        random_cue(8, 254),  # every value of a byte but one
        np.zeros((12, 12), np.uint8),
        np.full((12, 12), 255, np.uint8),
        np.arange(256, dtype=np.uint8).reshape(16, 16),
        np.eye(5, dtype=np.uint8),  # two values: an encoder may save a bit a pixel
    ],
    ids=["41", "1", "many classes", "background", "unlabelled", "all", "two"],
)
def test_what_is_written_is_read_back(tmp_path, cue):
    write_cue(tmp_path, "2007_000032", cue)
    found = read_cue(tmp_path, "2007_000032", len(cue))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, cue)
    assert [path.name for path in tmp_path.iterdir()] == ["2007_000032.png"]


def test_a_masks_shape_need_not_be_square(tmp_path):
    mask = RNG.integers(0, 21, (7, 13), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(encode_classes(mask))
    np.testing.assert_array_equal(read_index_png(tmp_path / "a.png"), mask)


def test_the_same_cue_is_the_same_file():
    cue = random_cue()
    assert encode_classes(cue) == encode_classes(cue.copy())
    assert encode_classes(cue) != encode_classes(np.roll(cue, 1))


def test_viewers_show_the_classes_in_voc_colours(tmp_path):
    cue = random_cue()
    write_cue(tmp_path, "a", cue)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG" and image.mode == "P" and image.size == (41, 41)
        shown = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(shown, voc_palette()[cue])


def test_ids_with_folders(tmp_path):
    """The folder data set's ids are paths; photos of one name and two suffixes are two photos."""
    made = {
        name: random_cue(6) for name in ("train/cat/a.jpg", "train/cat/a.png", "b c/\u00e9.jpg")
    }
    for name, cue in made.items():
        write_cue(tmp_path / "cues", name, cue)
    for name, cue in made.items():
        assert place(tmp_path / "cues").path(name) == tmp_path / "cues" / f"{name}.png"
        np.testing.assert_array_equal(read_cue(tmp_path / "cues", name, 6), cue)
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 3


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/etc/a", "", "a/", "C:/a", "..\\a", "a\0b", "a/.."]
)
def test_ids_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    folder = tmp_path / "deep" / "cues"
    for use in (
        lambda: place(folder).path(name),
        lambda: write_cue(folder, name, random_cue(6)),
        lambda: read_cue(folder, name, 6),
    ):
        with pytest.raises(UserError, match="refused") as error:
            use()
        assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- what is no cue


def test_a_missing_cue_names_the_stage_that_makes_it(tmp_path):
    with pytest.raises(UserError) as error:
        read_cue(tmp_path / "cues", "train/a", 6)
    path = tmp_path / "cues" / "train" / "a.png"
    assert str(error.value) == (
        f"labels {path} is missing: run the stage that makes it, --stages=cues."
    )


def test_a_cue_of_another_size_is_refused(tmp_path):
    folder = tmp_path / "cues"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode_classes(np.zeros((6, 9), np.uint8)))
    expected = r"a\.png is no cells: expected uint8 of shape \(6, 6\), got uint8 of \(6, 9\)"
    with pytest.raises(UserError, match=expected + ": remove .*--stages=cues"):
        read_cue(folder, "a", 6)
    write_cue(folder, "b", random_cue(8))
    with pytest.raises(UserError, match=r"b\.png is no cells: .*\(41, 41\), got uint8 of \(8, 8\)"):
        read_cue(folder, "b", 41)


def test_colours_are_no_cue(tmp_path):
    Image.fromarray(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png has the mode RGB"):
        read_cue(tmp_path, "a", 6)


@pytest.mark.parametrize("kept", [0, 7, 8, 20, 33, 0.3, 0.6, 0.9])
def test_a_truncated_cue_is_named(tmp_path, kept):
    write_cue(tmp_path, "a", random_cue())
    path = tmp_path / "a.png"
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(UserError, match=re.escape(str(path))):
        read_cue(tmp_path, "a", 41)


def test_a_damaged_cue_is_named_or_read_and_nothing_else(tmp_path):
    """A byte of the file changed: one sentence, or whatever the pixels say now."""
    path = tmp_path / "a.png"
    whole = encode_classes(random_cue(9))
    palette = whole.index(b"PLTE") + 4  # 768 bytes of one kind
    refused = 0
    end = palette + 768
    for place in (*range(palette), *range(palette, end, 31), *range(end, len(whole))):
        spoilt = bytearray(whole)
        spoilt[place] ^= int(RNG.integers(1, 256))
        path.write_bytes(spoilt)
        try:
            found = read_cue(tmp_path, "a", 9)
        except UserError as error:
            refused += 1
            assert str(path) in str(error)
        else:
            assert found.shape == (9, 9) and found.dtype == np.uint8
    assert refused > 50


# ---------------------------------------------------------------- the colours


def test_the_palette_by_its_published_values():
    palette = voc_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),  # aeroplane
        8: (64, 0, 0),  # cat
        15: (192, 128, 128),  # person
        20: (0, 64, 128),  # tvmonitor
        255: (224, 224, 192),  # what counts for nothing
    }
    assert {index: tuple(map(int, palette[index])) for index in known} == known
    assert len({tuple(colour) for colour in palette.tolist()}) == 256


@pytest.mark.shared
def test_the_palette_is_that_of_real_masks(shared):
    paths = sorted((shared / "data/voc_animals/SegmentationClassAug").glob("*.png"))[::20]
    own = voc_palette()
    seen = set()
    for path in paths:
        with Image.open(path) as image:
            real = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
            used = np.unique(np.array(image))
        np.testing.assert_array_equal(own[: len(real)], real)
        seen |= set(used.tolist())
    assert len(paths) > 30 and {0, 255} < seen and len(seen) > 8
