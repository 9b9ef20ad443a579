"""Own folders with a table of labels: several an image, lists, and every way to be wrong."""

import unicodedata

import pytest
from helpers import own_data

from configs import cam, common
from wsol_jax.base.errors import UserError
from wsol_jax.data import lists, sources
from wsol_jax.data.sources import folder


def _labels(source):
    return {
        source[i].image_id: [source.class_names[c] for c in source[i].labels]
        for i in range(len(source))
    }


def _open(root, name="train", **options):
    return folder.open_folder(root, name, **{"multi_label": True, **options})


def test_several_labels(tmp_path):
    own_data.several_labels(tmp_path)
    found = {}
    for name in ("train", "tune", "test"):
        source = _open(tmp_path, name)
        assert source.class_names == ("cat", "dog") and "labels.csv" in source.about
        found |= _labels(source)
    wanted = (["cat"], ["dog"], ["cat", "dog"], ["cat", "dog"], [])
    assert found == {f"images/{i:02}.jpg": wanted[i % 5] for i in range(30)}


def test_a_config_finds_out(tmp_path):
    own_data.several_labels(tmp_path)
    data = cam.get_config(f"folder,root={tmp_path}").data
    assert data.multi_label is None and data.layout == "auto"
    assert sources.choices(data) == {"layout": "table", "multi_label": True}
    own_data.write_table(tmp_path, [[f"{i:02}.jpg", "cat" if i % 2 else "dog"] for i in range(30)])
    assert sources.choices(data) == {"layout": "table", "multi_label": False}
    opened = lists.open_lists(data)
    assert opened.class_names == ("cat", "dog")
    assert len(opened.train) + len(opened.tune) + len(opened.tests["test"]) == 30


def test_without_a_choice_several_labels_are_refused(tmp_path):
    own_data.several_labels(tmp_path)
    data = common.base().data
    data.name, data.root = "folder", str(tmp_path)
    data.train, data.tune, data.test = "train", "tune", "test"
    with pytest.raises(UserError, match=r"shows cat and dog, .* multi_label=true"):
        lists.open_lists(data)


def test_the_column_split(tmp_path):
    rows = [
        (f"{name}{i}.jpg", "cat;dog", name) for name in ("train", "tune", "test") for i in (1, 2)
    ]
    for name, *_ in rows:
        own_data.photo(tmp_path / name)
    own_data.write_table(tmp_path, rows, ("image", "labels", "split"))
    options = dict(lists=("train", "tune", "test"))
    source = folder._Folder(tmp_path, folder.Options(multi_label=True, **options)).open("tune")
    assert list(_labels(source)) == ["tune1.jpg", "tune2.jpg"]
    rows[0] = ("train1.jpg", "cat", "trian")
    own_data.write_table(tmp_path, rows, ("image", "labels", "split"))
    with pytest.raises(UserError, match=r"labels.csv, line 2: the split 'trian' is no list"):
        _open(tmp_path)


def test_lists_by_their_folders(tmp_path):
    rows = [(f"{name}/{i}.jpg", "cat") for name in ("train", "test", "old") for i in range(3)]
    for name, _ in rows:
        own_data.photo(tmp_path / name)
    own_data.write_table(tmp_path, rows)
    source = _open(tmp_path, "test")
    assert list(_labels(source)) == [f"test/{i}.jpg" for i in range(3)]
    left = {row.reason: row.count for row in source.left_out}
    assert left["in no list's folder"] == 3


def test_accents_of_another_system(tmp_path):
    name = "né.jpg"
    own_data.photo(tmp_path / unicodedata.normalize("NFD", name))
    own_data.write_table(tmp_path, [(unicodedata.normalize("NFC", name), "cat")])
    assert len(_open(tmp_path)) == 1


def test_photos_without_a_row_are_counted(tmp_path):
    own_data.several_labels(tmp_path)
    own_data.photo(tmp_path / "images/new.jpg")
    left = {row.reason: row.examples for row in _open(tmp_path).left_out}
    assert left["not in labels.csv"] == ("images/new.jpg",)


def test_what_strict_refuses_is_skipped_without(tmp_path):
    for i in range(4):
        own_data.photo(tmp_path / f"{i}.jpg")
    rows = [(f"{i}.jpg", "cat") for i in range(4)]
    rows += [("gone.jpg", "cat"), ("0.jpg", "dog"), ("", "")]
    own_data.write_table(tmp_path, rows)
    with pytest.raises(UserError, match=r"line 6: there is no photo gone.jpg .strict=false"):
        _open(tmp_path)
    source = _open(tmp_path, strict=False)
    assert source.class_names == ("cat", "dog")
    left = {row.reason: (row.count, row.fault) for row in source.left_out}
    assert left["rows of labels.csv without a photo"] == (1, True)
    assert left["further rows of labels.csv on a photo, whose labels are added"] == (1, True)


def test_a_photo_without_a_label_where_each_has_one(tmp_path):
    own_data.photo(tmp_path / "0.jpg")
    own_data.photo(tmp_path / "1.jpg")
    own_data.write_table(tmp_path, [("0.jpg", "cat"), ("1.jpg", " ; ")])
    names = [n for n in ("train", "test", "tune") for s in [_list(tmp_path, n)] if s]
    assert names
    with pytest.raises(
        UserError, match=r"labels.csv, line 3: 1.jpg has no label: .*multi_label=true"
    ):
        for name in ("train", "tune", "test"):
            folder.open_folder(tmp_path, name, multi_label=False)


def _list(root, name):
    try:
        return folder.open_folder(root, name, strict=False)
    except UserError:
        return None


def test_a_label_that_nobody_learns(tmp_path):
    for i in range(4):
        own_data.photo(tmp_path / f"{i}.jpg")
    rows = [("0.jpg", "cat", "train"), ("1.jpg", "dog", "train"), ("2.jpg", "dgo", "test")]
    own_data.write_table(tmp_path, [*rows, ("3.jpg", "dog", "test")], ("image", "labels", "split"))
    expected = r"line 4: no photo of the list train has the label 'dgo'; did you mean 'dog'"
    with pytest.raises(UserError, match=expected):
        _open(tmp_path, "test")
    assert _labels(_open(tmp_path, "test", strict=False)) == {"2.jpg": [], "3.jpg": ["dog"]}


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "line 1: expected the header image,labels with or without ,split"),
        ("image;labels\n0.jpg;cat\n", "line 1: expected the header .* and commas between"),
        ("image,label\n", "line 1: expected the header"),
        ("image,labels\n", "names no photo"),
        ("image,labels\n0.jpg\n", "line 2: expected 2 values as in the header, not 1"),
        ("image,labels\n0.jpg,cat,dog\n", "line 2: expected 2 values .* separated by ;"),
        ("image,labels\n../0.jpg,cat\n", "line 2: .* leads out of its folder"),
        ("image,labels\n/0.jpg,cat\n", "line 2: .* is an absolute path"),
        ("image,labels\n,cat\n", "line 2: '' is empty"),
        ("image,labels\n0.jpg,cat\n0.jpg,cat\n", "line 3: 0.jpg is already on line 2"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, words):
    own_data.photo(tmp_path / "0.jpg")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=rf"labels\.csv,? {words}") as error:
        _open(tmp_path)
    assert "\n" not in str(error.value)


def test_boxes_of_photos_with_several_labels_need_a_class(tmp_path):
    own_data.photo(tmp_path / "0.jpg")
    own_data.write_table(tmp_path, [("0.jpg", "cat;dog")])
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x0,y0,x1,y1\n0.jpg,0,0,3,3\n")
    with pytest.raises(UserError, match=r"line 2: 0.jpg has 2 labels, .*,x1,y1,class"):
        _open(tmp_path, boxes_csv=boxes)
    boxes.write_text("image,x0,y0,x1,y1,class\n0.jpg,0,0,3,3,dog\n")
    assert _open(tmp_path, boxes_csv=boxes)[0].box_labels.tolist() == [1]


def test_a_table_and_a_coco_file_are_one_too_many(tmp_path):
    own_data.photo(tmp_path / "0.jpg")
    with pytest.raises(UserError, match="two files of image labels; name one"):
        _open(tmp_path, table="a.csv", coco="b.json")
    with pytest.raises(UserError, match=r"data.layout: 'tree' is not one of auto, folders, table"):
        _open(tmp_path, layout="tree")
