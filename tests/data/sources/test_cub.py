"""CUB-200-2011: a tiny tree of the true layout, and the community's boxes."""

import pickle

import cv2
import numpy as np
import pytest
from PIL import Image

from configs import cam
from wsol_jax.base.errors import UserError
from wsol_jax.data.lists import open_lists
from wsol_jax.data.sources import cub

WIDTH, HEIGHT, PER_CLASS = 40, 30, 13  # of the 13: 11 train, 2 test


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "CUB_200_2011"
    files = {name: [] for name in ("images", "image_class_labels", "train_test_split", "boxes")}
    number = 0
    for c, name in enumerate(("001.Sooty_Tern", "002.Crow"), start=1):
        (root / "images" / name).mkdir(parents=True)
        for i in range(PER_CLASS):
            number += 1
            photo = root / "images" / name / f"{name[4:]}_{i:04}.jpg"
            cv2.imwrite(str(photo), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
            files["images"].append(f"{number} {name}/{photo.name}")
            files["image_class_labels"].append(f"{number} {c}")
            files["train_test_split"].append(f"{number} {int(i < 11)}")
            files["boxes"].append(f"{number} {i}.0 2.0 30.0 20.0")
    files["bounding_boxes"] = files.pop("boxes")
    files["classes"] = ["1 001.Sooty_Tern", "2 002.Crow"]
    for name, lines in files.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def _ids(source):
    return [source[i].image_id for i in range(len(source))]


def test_lists_cut_the_images_without_overlap(root):
    lists = {name: _ids(cub.open_cub(root, name)) for name in cub.LISTS}
    assert {name: len(ids) for name, ids in lists.items()} == {
        "train": 22,
        "fit": 20,
        "tune": 2,
        "test": 4,
    }
    assert set(lists["fit"]) | set(lists["tune"]) == set(lists["train"])
    assert not set(lists["fit"]) & set(lists["tune"])
    assert not set(lists["train"]) & set(lists["test"])
    # The 10th of each class, so that every class is in it.
    assert lists["tune"] == ["001.Sooty_Tern/Sooty_Tern_0009.jpg", "002.Crow/Crow_0009.jpg"]


def test_records(root):
    source = cub.open_cub(root.parent, "test")  # the folder above serves too
    assert source.class_names == ("Sooty Tern", "Crow")
    record = source[3]
    assert record.image_id == "002.Crow/Crow_0012.jpg"
    assert record.labels == (1,)
    assert record.size == (WIDTH, HEIGHT)
    # 12 + 30 = 42 lies outside the 40 pixels.
    np.testing.assert_array_equal(record.boxes, [[12, 2, 39, 22]])
    np.testing.assert_array_equal(record.box_labels, [1])
    assert record.boxes.dtype == np.float32
    assert source.mask(3) is None
    assert _ids(pickle.loads(pickle.dumps(source))) == _ids(source)


def test_a_tune_list_that_is_trained_on_is_told(root, caplog):
    said = lambda keys: (open_lists(cam.get_config(f"cub,root={root}{keys}").data), caplog.text)
    lists, text = said("")
    assert lists.tune_in == {} and not text and lists.describe_tune() == "tune"
    lists, text = said(",train=train,tune=none")
    assert lists.tune is None and not text and lists.describe_tune() == ""
    lists, text = said(",train=train")
    assert lists.tune_in == {"train": 2}
    assert lists.describe_tune() == "tune (2 of its 2 images are in train too)"
    assert "data.tune=tune: 2 of its 2 images are trained on" in text and "tune=none" in text


@pytest.mark.parametrize("beside", [False, True])
def test_masks_are_the_majority_of_the_annotators(root, beside):
    place = (root.parent if beside else root) / "segmentations/002.Crow"
    place.mkdir(parents=True)
    votes = np.zeros((HEIGHT, WIDTH), np.uint8)
    votes.flat[:6] = np.arange(6) * 51
    Image.fromarray(votes).save(place / "Crow_0011.png")
    Image.fromarray(votes).convert("LA").save(place / "Crow_0012.png")
    source = cub.open_cub(root, "test")
    for index in (2, 3):
        np.testing.assert_array_equal(source.mask(index).flat[:7], [0, 0, 0, 2, 2, 2, 0])
        assert source.mask(index).shape == (HEIGHT, WIDTH)
        assert source.mask(index).dtype == np.uint8
    assert source.mask(0) is None
    (place / "Crow_0012.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"Crow_0012\.png cannot be read"):
        source.mask(3)


# The first five lines of the published bounding_boxes.txt, and whose they are.
PUBLISHED = {
    "Black_Footed_Albatross_0046_18": (60.0, 27.0, 325.0, 304.0),
    "Black_Footed_Albatross_0009_34": (139.0, 30.0, 153.0, 264.0),
    "Black_Footed_Albatross_0002_55": (14.0, 112.0, 388.0, 186.0),
    "Black_Footed_Albatross_0074_59": (112.0, 90.0, 255.0, 242.0),
    "Black_Footed_Albatross_0014_89": (70.0, 50.0, 134.0, 303.0),
}


@pytest.mark.shared
def test_boxes_agree_with_the_community(shared):
    theirs = {}
    for split in ("train", "test"):
        text = (shared / f"data/wsol_metadata/CUB/{split}/localization.txt").read_text()
        for line in text.splitlines():
            path, *box = line.split(",")
            theirs[path.split("/")[1].removesuffix(".jpg")] = [float(v) for v in box]
    ours = cub.corners(np.array(list(PUBLISHED.values()), np.float32))
    np.testing.assert_array_equal(ours, [theirs[name] for name in PUBLISHED])


def _says(root, words, list_name="train"):
    with pytest.raises(UserError, match=words) as error:
        cub.open_cub(root, list_name)
    assert "\n" not in str(error.value)


def _replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "file, old, new, words",
    [
        ("image_class_labels.txt", "26 2", "26 3", "image 26 has the value 3, expected 1 to 2"),
        ("image_class_labels.txt", "26 2", "26 0", "image 26 has the value 0, expected 1 to 2"),
        ("image_class_labels.txt", "26 2", "", "no line for image 26"),
        ("train_test_split.txt", "26 0", "26 x", "image 26 has the value x, expected 0 to 1"),
        ("bounding_boxes.txt", "30.0 20.0", "30.0", r"line 1: expected a number and 4 value"),
        ("bounding_boxes.txt", "30.0 20.0", "30.0 0", "image 1 has 0.0 2.0 30.0 0, expected"),
        ("bounding_boxes.txt", "30.0 20.0", "nan 5", "image 1 has .*, expected x y width height"),
        ("bounding_boxes.txt", "26 12.0", "26 a", "image 26 has"),
        ("images.txt", "\n2 ", "\n1 ", "images.txt, line 2: the number 1 stands there twice"),
        ("classes.txt", "2 002", "3 002", "class ids must run from 1 to 2"),
    ],
)
def test_a_bad_line_is_named(root, file, old, new, words):
    _replace(root / file, old, new)
    _says(root, words)


def test_what_is_missing_is_named(root):
    _says(root, "no list 'val': choose one of train, fit, tune, test", list_name="val")
    (root / "images/002.Crow/Crow_0003.jpg").unlink()
    _says(root, r"photo .*002\.Crow/Crow_0003\.jpg is missing: .*CUB_200_2011\.tgz")
    assert len(cub.open_cub(root, "test")) == 4
    (root / "bounding_boxes.txt").unlink()
    _says(root, r"bounding_boxes\.txt is missing: .*data\.caltech\.edu")
    _says(root / "nowhere", r"nowhere/images\.txt is missing")


def test_an_empty_list_is_named(root):
    split = root / "train_test_split.txt"
    split.write_text(split.read_text().replace(" 0\n", " 1\n"))
    _says(root, "list test is empty", list_name="test")


def test_a_damaged_photo_still_has_a_record(root):
    """Decoding names it and skips it; the source must not stop the run."""
    path = root / "images/001.Sooty_Tern/Sooty_Tern_0000.jpg"
    path.write_bytes(b"")
    assert cub.open_cub(root, "train")[0].size is None
