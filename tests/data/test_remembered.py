"""A run's memory of its photos: what was swapped is named, what is the same goes on."""

import dataclasses
import json
import os

import pytest

from wsol_jax.base.errors import UserError
from wsol_jax.data import remembered
from wsol_jax.data.lists import Lists
from wsol_jax.data.records import Record


@dataclasses.dataclass
class Photos:
    images: list
    name: str = "train"
    class_names: tuple = ("a",)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return Record(f"photo{index}", self.images[index], (0,))


@pytest.fixture
def photos(tmp_path):
    paths = [tmp_path / f"{index}.jpg" for index in range(8)]
    for index, path in enumerate(paths):
        path.write_bytes(bytes([index]) * (100 + index))
    return Photos([str(path) for path in paths])


def test_the_same_photos_go_on(photos, tmp_path):
    remembered.check_photos(tmp_path / "w", photos, begun=False)
    os.utime(photos.images[0], (0, 0))  # a copy of the photos has other times
    remembered.check_photos(tmp_path / "w", photos, begun=True)


def test_two_swapped_photos_are_named(photos, tmp_path):
    remembered.check_photos(tmp_path / "w", photos, begun=False)
    os.rename(photos.images[2], tmp_path / "x")
    os.rename(photos.images[5], photos.images[2])
    os.rename(tmp_path / "x", photos.images[5])
    expected = r"photo 'photo2' of list 'train' .*102 bytes then, 105 bytes now.*another workdir"
    with pytest.raises(UserError, match=expected):
        remembered.check_photos(tmp_path / "w", photos, begun=True)


def test_other_content_of_the_same_size(photos, tmp_path):
    remembered.check_photos(tmp_path / "w", photos, begun=False)
    with open(photos.images[3], "r+b") as file:
        file.write(b"!")
    with pytest.raises(UserError, match=r"'photo3'.*other content of the same size"):
        remembered.check_photos(tmp_path / "w", photos, begun=True)


def test_a_photo_that_is_gone(photos, tmp_path):
    remembered.check_photos(tmp_path / "w", photos, begun=False)
    os.remove(photos.images[7])
    with pytest.raises(UserError, match=r"'photo7'.*107 bytes then, none now"):
        remembered.check_photos(tmp_path / "w", photos, begun=True)


def test_a_folder_that_has_not_begun_takes_other_photos(photos, tmp_path):
    remembered.check_photos(tmp_path / "w", photos, begun=False)
    remembered.check_photos(tmp_path / "w", Photos([b"x"]), begun=False)
    assert json.loads((tmp_path / "w/.photos.json").read_text())["records"] == 1


def test_encoded_photos_and_an_empty_list(tmp_path):
    source = Photos([b"one", b"two"])
    remembered.check_photos(tmp_path / "w", source, begun=False)
    source.images[1] = b"owt"
    with pytest.raises(UserError, match=r"'photo1'"):
        remembered.check_photos(tmp_path / "w", source, begun=True)
    remembered.check_photos(tmp_path / "v", Photos([]), begun=False)
    remembered.check_photos(tmp_path / "v", Photos([]), begun=True)


@pytest.mark.parametrize("content", ["{", "[]", '{"bytes": 3, "sha256": {}}'])
def test_a_damaged_memory_is_named(photos, tmp_path, content):
    (tmp_path / remembered.NAME).write_text(content)
    with pytest.raises(UserError, match=r"photos\.json is damaged .*: remove it"):
        remembered.check_photos(tmp_path, photos, begun=True)


def test_a_long_list_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "SIZES", 10)
    monkeypatch.setattr(remembered, "CONTENTS", 3)
    remembered.check_photos(tmp_path, Photos([b"x"] * 1000), begun=False)
    found = json.loads((tmp_path / remembered.NAME).read_text())
    assert len(found["bytes"]) == 10 and len(found["sha256"]) == 3
    assert {"photo0", "photo999"} <= set(found["sha256"])


@dataclasses.dataclass
class Held:
    """Records in memory."""

    records: tuple
    name: str = "train"
    class_names: tuple = ("a", "b")

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        return self.records[index]


def _held(labels, name="train"):
    return Held(tuple(Record(f"{i}", b"x", (c,)) for i, c in enumerate(labels)), name)


def test_other_labels_of_the_same_photos_are_told(tmp_path):
    lists = Lists(_held([0, 1, 1]), None, {})
    remembered.check_lists(tmp_path, lists, begun=False)
    remembered.check_lists(tmp_path, lists, begun=True)
    with pytest.raises(UserError, match="list 'train' has other images, or other labels"):
        remembered.check_lists(tmp_path, Lists(_held([0, 1, 0]), None, {}), begun=True)
    # A checkpoint refuses another length in its own words; a run that saved nothing takes any.
    remembered.check_lists(tmp_path, Lists(_held([0, 1]), None, {}), begun=True)
    remembered.check_lists(tmp_path, Lists(_held([0, 1, 0]), None, {}), begun=False)


def test_a_list_to_score_may_grow_but_not_in_silence(tmp_path, caplog):
    tests = {"test": _held([0, 1], "test")}
    remembered.check_lists(tmp_path, Lists(_held([0]), None, tests), begun=False)
    grown = Lists(_held([0]), None, {"test": _held([0, 1, 1], "test")})
    for again in (
        lambda: remembered.check_lists(tmp_path, grown, begun=True),
        lambda: remembered.warn_of_lists(tmp_path, grown),
    ):
        caplog.clear()
        again()
        assert (
            "list test is not what it was" in caplog.text and "2 images then, 3 now" in caplog.text
        )
    caplog.clear()
    swapped = Lists(_held([0]), None, {"test": _held([1, 1], "test"), "new": _held([0], "new")})
    remembered.check_lists(tmp_path, swapped, begun=True)
    assert "others or with other labels" in caplog.text and "list new" not in caplog.text


def test_a_damaged_memory_of_lists_is_named(tmp_path):
    (tmp_path / remembered.LISTS).write_text('{"train": 3}')
    with pytest.raises(UserError, match=r"lists\.json is damaged .*: remove it"):
        remembered.check_lists(tmp_path, Lists(_held([0]), None, {}), begun=True)
