"""Every photo looked at: what is odd is named once, what stands twice is found."""

import dataclasses
import io

import numpy as np
import pytest
from helpers import own_data
from PIL import Image

from wsol_jax.base.errors import UserError
from wsol_jax.data import inspect, look
from wsol_jax.data.decode import decode_rgb
from wsol_jax.data.lists import Lists
from wsol_jax.data.records import Record
from wsol_jax.data.sources import folder


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    root = own_data.write_messy(tmp_path_factory.mktemp("messy"))
    options = folder.Options(train="trāin", lists=("trāin", "test"))
    opened = folder._Folder(root, options)
    return inspect.inspect(Lists(opened.open("trāin"), None, {"test": opened.open("test")}))


def _by_text(found):
    return {finding.text: finding for finding in found.findings}


def test_each_oddity_is_named_once(messy):
    findings = _by_text(messy)
    for key, text in {**look.WRONG, **look.ODD}.items():
        wanted = {name for name, keys in own_data.ODDITIES.items() if key in keys}
        names = [name for name, _ in findings[text].examples] if text in findings else []
        assert sorted(names) == sorted(wanted), text


def test_what_is_said_of_them(messy):
    details = {name: detail for f in messy.findings for name, detail in f.examples}
    assert details["trāin/dog/is_png.jpg"] == "a PNG"
    assert details["trāin/cat/dot.png"] == "1x1"
    assert details["trāin/cat/large.jpg"] == "6000x4000"
    assert details["trāin/cat/turned6.jpg"] == "orientation 6"
    assert "truncated" in details["trāin/dog/cut.jpg"]


def test_the_same_picture_in_two_places(messy):
    findings = _by_text(messy)
    across = findings["pictures that stand in several lists, so that figures are too good"]
    assert across.wrong and across.count == 1
    name = "trāin: trāin/dog/ünïcode näme 犬.jpg = test: test/dog/copy of 犬.jpg"
    assert across.examples[0][0] == name
    twice = findings["pictures that stand in a list twice"]
    assert [name for name, _ in twice.examples] == [
        "test: test/cat/1.jpg = test: test/cat/again.jpg"
    ]


def test_counts_and_what_is_left_out(messy):
    train, test = messy.lists
    assert train.class_names == ("cat", "dog") and test.images.tolist() == [2, 2]
    assert train.images.tolist() == [
        sum(f"/{c}/" in n for n in own_data.ODDITIES) for c in ("cat", "dog")
    ]
    left = {row.reason: row.examples for row in messy.left_out}
    assert left == {
        ".heic (not read)": ("trāin/cat/IMG_1.HEIC",),
        ".txt": ("trāin/cat/notes.txt",),
        "folders of no list": ("old",),
        "hidden": ("trāin/.hidden",),
        "in no class's folder": ("trāin/stray.jpg",),
    }
    few = _by_text(messy)["classes with fewer than 10 photos to train on"]
    assert few.examples == [("dog", str(train.images[1]))]
    assert all(len(shown) <= inspect.SHOWN for shown in train.shown.values())


def test_turned_photos_count_as_stored():
    """Boxes are drawn on what ``decode_rgb`` gives: the stored pixels, whatever EXIF says."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[2:8, 3:12] = 255
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
        record = Record(
            "a", buffer.getvalue(), (0,), (30, 20), np.float32([[3, 2, 11, 7]]), np.int32([0])
        )
        stored = decode_rgb(record.image, "a")
        x0, y0, x1, y1 = record.boxes[0].astype(int)
        assert stored[y0 : y1 + 1, x0 : x1 + 1].min() == 255
        assert stored.sum() == stored[y0 : y1 + 1, x0 : x1 + 1].sum()
        seen = look.look(Few([record]), 0)
        assert seen.found == (
            {"tiny": "30x20"}
            | ({"turned": f"orientation {orientation}"} if orientation > 1 else {})
        )


@dataclasses.dataclass
class Few:
    """Records and masks as a source; an error among them is raised."""

    items: list
    masks: list = dataclasses.field(default_factory=list)
    name: str = "train"
    class_names: tuple = ("cat", "dog")

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self._give(self.items[index])

    def mask(self, index):
        return self._give(self.masks[index]) if self.masks else None

    @staticmethod
    def _give(item):
        if isinstance(item, Exception):
            raise item
        return item


def _png(value, size=(40, 32)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def _record(value, **fields):
    return Record(**{"image_id": f"{value}", "image": _png(value), "labels": (0,), **fields})


BOX = dict(box_labels=np.int32([0]))
MASK = np.zeros((32, 40), np.uint8)
CASES = {
    "outside": _record(1, boxes=np.float32([[0, 0, 40, 3]]), **BOX),
    "no_area": _record(1, boxes=np.float32([[5, 5, 4, 8]]), **BOX),
    "box_label": _record(1, boxes=np.float32([[0, 0, 3, 3]]), box_labels=np.int32([1])),
    "size": _record(1, size=(32, 40)),
    "truth": UserError("the annotation of 1 is missing"),
    "": _record(1, size=(40, 32), boxes=np.float32([[0, 0, 39, 31]]), **BOX),
}


@pytest.mark.parametrize("key", CASES)
def test_boxes_and_sizes(key):
    assert set(look.look(Few([CASES[key]]), 0).found) == ({key} if key else set())


@pytest.mark.parametrize(
    "mask, key, classes",
    [
        (np.where(MASK == 0, 255, MASK).astype(np.uint8), "", ()),
        (MASK + 1, "", (0,)),
        (MASK + 2, "mask_label", (1,)),
        (MASK[1:], "mask_size", ()),
        (UserError("the mask of 1 cannot be read"), "truth", None),
    ],
)
def test_masks(mask, key, classes):
    seen = look.look(Few([_record(1)], [mask]), 0)
    assert set(seen.found) == ({key} if key else set()) and seen.mask == classes


def test_the_same_picture_under_two_labels():
    records = [_record(1), _record(1, image_id="again", labels=(1,)), _record(2)]
    found = inspect.inspect(Lists(Few(records), None, {}))
    (finding,) = [f for f in found.findings if "different labels" in f.text]
    assert finding.examples == [("train: 1 = train: again", "")]


def test_a_record_that_cannot_be_read_is_a_finding():
    found = inspect.inspect(Lists(Few([UserError("no annotation"), _record(1)]), None, {}))
    (finding,) = [f for f in found.findings if f.text == look.WRONG["truth"]]
    assert finding.examples == [("train, image 0", "no annotation")]
    assert found.lists[0].bare == 0
