"""Own folders with COCO files: one, or one a list; labels, boxes, masks, and what is refused."""

import json
import pickle

import numpy as np
import pytest
from helpers import own_data

from wsol_jax.base.errors import UserError
from wsol_jax.data.sources import folder

SQUARE = [[4, 4, 12, 4, 12, 12, 4, 12]]


def _open(root, name="train", **options):
    return folder.open_folder(root, name, **{"multi_label": True, **options})


def _one(**fields):
    return {"image_id": 1, "category_id": 10, **fields}


@pytest.fixture
def single(tmp_path):
    """One file over photos in three folders."""
    names = [f"{name}/{i}.jpg" for name in ("train", "tune", "test") for i in range(2)]
    for name in names:
        own_data.photo(tmp_path / "images" / name)
    objects = [{"image_id": i, "category_id": 20, "bbox": [4, 4, 8, 8]} for i in range(1, 7)]
    objects.append(_one(bbox=[10.5, 0, 20.25, 31.5], segmentation=SQUARE))
    content = own_data.coco([(name, 40, 32) for name in names], objects)
    own_data.write_coco(tmp_path / "annotations.json", content)
    return tmp_path


def test_one_file(single):
    train = _open(single)
    assert train.class_names == ("cat", "dog") and "annotations.json" in train.about
    assert [train[i].image_id for i in range(2)] == ["images/train/0.jpg", "images/train/1.jpg"]
    assert [train[i].labels for i in range(2)] == [(0, 1), (1,)]
    np.testing.assert_array_equal(train[0].boxes, [[4, 4, 11, 11], [10.5, 0, 29.75, 30.5]])
    assert train[0].box_labels.tolist() == [1, 0] and train[0].size == (40, 32)
    assert len(_open(single, "tune")) == len(_open(single, "test")) == 2
    assert pickle.loads(pickle.dumps(train))[0].image_id == train[0].image_id


def test_masks(single):
    train = _open(single)
    wanted = np.zeros((32, 40), np.uint8)
    wanted[4:12, 4:12] = 1  # over the box of the dog, whose outline nobody gave
    np.testing.assert_array_equal(train.mask(0), wanted)
    assert train.mask(1) is None


def test_a_file_a_list(tmp_path):
    """As Roboflow exports: beside the photos; as COCO itself does: in a folder of their own."""
    categories = ("animals", "dog", "cat")  # the first, Roboflow's own, has no object
    for name, path in (("train", "{}/_annotations.coco.json"), ("val", "annotations/{}.json")):
        own_data.photo(tmp_path / name / "a.jpg")
        own_data.photo(tmp_path / name / "b.jpg")
        objects = [_one(category_id=30), {"image_id": 2, "category_id": 20}]
        content = own_data.coco([("a.jpg", 40, 32), ("b.jpg", 40, 32)], objects, categories)
        own_data.write_coco(tmp_path / path.format(name), content)
    own_data.photo(tmp_path / "train" / "c.jpg")
    train, val = _open(tmp_path), _open(tmp_path, "val")
    assert train.class_names == val.class_names == ("dog", "cat")
    assert [val[i].image_id for i in range(2)] == ["val/a.jpg", "val/b.jpg"]
    assert [val[i].labels for i in range(2)] == [(1,), (0,)]
    left = {row.reason: row.examples for row in train.left_out}
    assert left["not in _annotations.coco.json"] == ("train/c.jpg",)
    with pytest.raises(UserError, match=r"list tune of .* has no COCO file: expected tune/annot"):
        _open(tmp_path, "tune")


def test_run_lengths(tmp_path):
    own_data.photo(tmp_path / "a.jpg", size=(3, 3))
    for counts in ("414", [4, 1, 4]):
        one = _one(segmentation={"counts": counts, "size": [3, 3]})
        own_data.write_coco(tmp_path / "annotations.json", own_data.coco([("a.jpg", 3, 3)], [one]))
        np.testing.assert_array_equal(_open(tmp_path).mask(0), [[0, 0, 0], [0, 1, 0], [0, 0, 0]])


def test_an_image_without_an_object_has_no_label(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        own_data.photo(tmp_path / name)
    images = [("a.jpg", 40, 32), ("b.jpg", 40, 32)]
    content = own_data.coco(images, [_one(segmentation=SQUARE)])
    own_data.write_coco(tmp_path / "annotations.json", content)
    for name in ("train", "tune", "test"):
        try:
            source = _open(tmp_path, name)
        except UserError:
            continue
        for i in range(len(source)):
            if source[i].image_id == "b.jpg":
                assert source[i].labels == () and not source.mask(i).any()
                return
    raise AssertionError("b.jpg is in no list")


def test_what_strict_refuses_is_skipped_without(tmp_path):
    own_data.photo(tmp_path / "a.jpg")
    objects = [
        _one(bbox=[0, 0, 50, 5]),
        _one(bbox=[0, 0, 0, 5]),
        _one(bbox=[-0.4, 0, 40.4, 5]),
        {"image_id": 7, "category_id": 10},
        {"image_id": 2, "category_id": 10},
    ]
    path = tmp_path / "annotations.json"
    images = [("a.jpg", 40, 32), ("gone.jpg", 40, 32)]
    own_data.write_coco(path, own_data.coco(images, objects))
    with pytest.raises(UserError, match=r"images\[1\].file_name: there is no photo gone.jpg"):
        _open(tmp_path)
    source = _open(tmp_path, strict=False)
    np.testing.assert_allclose(source[0].boxes, [[0, 0, 39, 4]])
    left = {row.reason: row.count for row in source.left_out if row.fault}
    assert left == {
        "images of annotations.json without a photo": 1,
        "objects of annotations.json of no image": 1,
        "boxes outside of their photo": 1,
        "boxes without a pixel": 1,
    }


BAD = {
    "not JSON": ("{", "is no JSON"),
    "a list": ("[]", "expected images, annotations and categories"),
    "no images": ({"annotations": [], "categories": []}, "images: expected a list"),
    "numbers for entries": (
        {"images": [1], "annotations": [], "categories": []},
        "images: expected a list of entries",
    ),
    "no photo": (own_data.coco([], []), "names no photo"),
}
FIELDS = {
    "category": (_one(category_id=11), r"annotations\[0\].category_id: '11' is none of its 2"),
    "bool category": (_one(category_id=True), r"annotations\[0\].category_id: 'True' is none"),
    "bbox of three": (_one(bbox=[1, 2, 3]), r"annotations\[0\].bbox: expected x, y, width, height"),
    "bbox of words": (_one(bbox=["a"] * 4), r"annotations\[0\].bbox: expected x, y"),
    "bbox of NaN": (_one(bbox=[0, 0, float("nan"), 1]), r"annotations\[0\].bbox: expected x, y"),
    "bbox without area": (_one(bbox=[1, 2, 0, 4]), r"annotations\[0\].bbox: .* above 0"),
    "bbox outside": (_one(bbox=[30, 2, 20, 4]), r"annotations\[0\].bbox: .* 10 pixels over"),
    "image": (_one(image_id=9), r"annotations\[0\].image_id: '9' is none of its images"),
    "image of lists": (_one(image_id=[]), r"annotations\[0\].image_id: expected an image's id"),
    "short polygon": (_one(segmentation=[[1, 2, 3, 4]]), r"segmentation: expected polygons"),
    "odd polygon": (_one(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), r"segmentation: expected polygons"),
    "text": (_one(segmentation="abc"), r"segmentation: expected polygons, or counts"),
    "wrong size": (
        _one(segmentation={"counts": [9], "size": [3, 3]}),
        r"segmentation.size: expected its image's height and width, \[32, 40\]",
    ),
    "runs too few": (
        _one(segmentation={"counts": [9], "size": [32, 40]}),
        r"segmentation.counts: its runs do not add up to 40x32 pixels",
    ),
    "runs below 0": (
        _one(segmentation={"counts": [1281, -1], "size": [32, 40]}),
        r"segmentation.counts: its runs do not add up",
    ),
    "runs of halves": (
        _one(segmentation={"counts": [0.5], "size": [32, 40]}),
        r"segmentation.counts: a run's length is no whole number",
    ),
    "packed nonsense": (
        _one(segmentation={"counts": "\u00e9", "size": [32, 40]}),
        r"segmentation.counts: the letter",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named(tmp_path, name):
    own_data.photo(tmp_path / "a.jpg")
    content, words = BAD[name]
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "annotations.json").write_text(text)
    with pytest.raises(UserError, match=rf"annotations\.json.* {words}|annotations\.json {words}"):
        _open(tmp_path)


@pytest.mark.parametrize("name", FIELDS)
def test_a_bad_field_is_named(tmp_path, name):
    own_data.photo(tmp_path / "a.jpg")
    one, words = FIELDS[name]
    own_data.write_coco(tmp_path / "annotations.json", own_data.coco([("a.jpg", 40, 32)], [one]))
    with pytest.raises(UserError, match=rf"annotations\.json: .*{words}") as error:
        _open(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "image, words",
    [
        ({"file_name": "../a.jpg"}, r"images\[0\].file_name: .* leads out"),
        ({"file_name": 3}, r"images\[0\].file_name: expected a photo's path"),
        ({"width": 0}, r"images\[0\]: expected width and height"),
        ({"width": 10**9}, r"images\[0\]: expected width and height"),
        ({"id": None}, r"images\[0\].id: expected a number or a text"),
    ],
)
def test_a_bad_image_is_named(tmp_path, image, words):
    own_data.photo(tmp_path / "a.jpg")
    content = own_data.coco([("a.jpg", 40, 32)], [_one()])
    content["images"][0] |= image
    own_data.write_coco(tmp_path / "annotations.json", content)
    with pytest.raises(UserError, match=rf"annotations\.json: {words}"):
        _open(tmp_path)


def test_categories_have_names_and_numbers_of_their_own(tmp_path):
    own_data.photo(tmp_path / "a.jpg")
    content = own_data.coco([("a.jpg", 40, 32)], [_one()], ("cat", "cat"))
    own_data.write_coco(tmp_path / "annotations.json", content)
    with pytest.raises(UserError, match=r"categories\[1\].name: expected a name of its own"):
        _open(tmp_path)


def test_a_photo_of_another_size_than_the_file_says(tmp_path):
    """As of a tool that drew on the photo as EXIF turns it."""
    own_data.photo(tmp_path / "a.jpg", size=(32, 40))
    one = _one(bbox=[4, 4, 8, 8], segmentation=SQUARE)
    own_data.write_coco(tmp_path / "annotations.json", own_data.coco([("a.jpg", 40, 32)], [one]))
    expected = r"images\[0\]: the photo a.jpg is 32x40 as it is stored, not 40x32; .* EXIF"
    with pytest.raises(UserError, match=expected):
        _open(tmp_path)
    source = _open(tmp_path, strict=False)
    assert source[0].labels == (0,) and not len(source[0].boxes) and source.mask(0) is None
    assert any("another size" in row.reason and row.fault for row in source.left_out)
    own_data.photo(tmp_path / "a.jpg", size=(40, 32))
    source = _open(tmp_path)
    own_data.photo(tmp_path / "a.jpg", size=(32, 40))  # one that was not compared
    with pytest.raises(UserError, match=r"the photo a.jpg is 32x40"):
        source.mask(0)
