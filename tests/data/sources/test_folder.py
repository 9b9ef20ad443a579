"""Own folders: with list folders, without, and with a CSV of boxes."""

import pickle

import cv2
import numpy as np
import pytest

from wsol_jax.api.configs import read_config
from wsol_jax.base.errors import UserError
from wsol_jax.data.sources import folder, folder_split

WIDTH, HEIGHT = 12, 8


def _photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def _ids(source):
    return [source[i].image_id for i in range(len(source))]


@pytest.fixture
def split(tmp_path):
    for path in (
        "train/dog/1.jpg",
        "train/dog/2.PNG",
        "train/cat/1.jpeg",
        "test/dog/9.jpg",
        "test/dog/10.jpg",
    ):
        _photo(tmp_path / path)
    for path in ("train/dog/notes.txt", "train/dog/.hidden.jpg", "train/.git/1.jpg"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("")
    return tmp_path


@pytest.fixture
def plain(tmp_path):
    for i in range(60):
        for name in ("train", "zebra"):  # a class may be called like a list
            _photo(tmp_path / name / f"{i}.jpg")
    return tmp_path


def test_list_folders(split):
    train = folder.open_folder(split, "train")
    assert train.class_names == ("cat", "dog")
    assert _ids(train) == ["train/cat/1.jpeg", "train/dog/1.jpg", "train/dog/2.PNG"]
    assert [train[i].labels for i in range(3)] == [(0,), (1,), (1,)]
    test = folder.open_folder(split, "test")
    # The test list lacks cats; dog must stay class 1 all the same.
    assert test.class_names == ("cat", "dog")
    assert [test[i].labels for i in range(2)] == [(1,), (1,)]
    assert test[0].boxes.shape == (0, 4)
    assert test.mask(0) is None
    assert cv2.imread(test[0].image) is not None
    assert _ids(pickle.loads(pickle.dumps(test))) == _ids(test)


def test_another_training_list_numbers_the_classes(split):
    (split / "train").rename(split / "fit")
    assert folder.open_folder(split, "test", train_list="fit")[0].labels == (1,)


def test_cut_by_hash(plain):
    lists = {name: _ids(folder.open_folder(plain, name)) for name in folder_split.SHARES}
    everything = sorted(image_id for ids in lists.values() for image_id in ids)
    assert everything == sorted(f"{c}/{i}.jpg" for c in ("train", "zebra") for i in range(60))
    # Binomial counts of 120 photos, five standard deviations either way.
    assert 75 <= len(lists["train"]) <= 117
    assert 1 <= len(lists["tune"]) <= 28
    _photo(plain / "zebra/new.jpg")
    _photo(plain / "ant/0.jpg")
    _photo(plain / "ant/1.jpg")
    for name, ids in lists.items():
        assert set(ids) <= set(_ids(folder.open_folder(plain, name)))


def test_the_cut_is_the_same_on_every_machine():
    # sha256("zebra/0.jpg")[:8] mod 100, by sha256sum and bc.
    assert folder_split.percentile("zebra/0.jpg") == 78


def _csv(root, text):
    path = root / "boxes.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_boxes(split):
    path = _csv(
        split,
        "\ufeffimage,x0,y0,x1,y1\n"
        "test/dog/9.jpg,0,1,11,7\n\n"
        "test\\dog\\9.jpg,2,2.5,3,3\n"
        "train/dog/1.jpg,0,0,0,0\n",
    )
    test = folder.open_folder(split, "test", boxes_csv=path)
    by_id = {test[i].image_id: test[i] for i in range(2)}
    nine = by_id["test/dog/9.jpg"]
    np.testing.assert_array_equal(nine.boxes, [[0, 1, 11, 7], [2, 2.5, 3, 3]])
    assert nine.boxes.dtype == np.float32
    np.testing.assert_array_equal(nine.box_labels, [1, 1])
    assert nine.size == (WIDTH, HEIGHT)
    assert by_id["test/dog/10.jpg"].boxes.shape == (0, 4)


def test_boxes_of_another_class(split):
    path = _csv(split, "image,x0,y0,x1,y1,class\ntest/dog/9.jpg,0,0,3,3,cat\n")
    test = folder.open_folder(split, "test", boxes_csv=path)
    nine = test[_ids(test).index("test/dog/9.jpg")]
    np.testing.assert_array_equal(nine.box_labels, [0])
    assert nine.labels == (1,)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "line 1: expected the header"),
        ("image;x0;y0;x1;y1\n", "line 1: expected the header"),
        ("test/dog/9.jpg,0,0,3,3\n", "line 1: expected the header"),
        ("H\ntest/dog/9.jpg,0,0,3\n", "line 2: expected 6 values"),
        ("H\ntest/dog/9.jpg,0,0,3,x,dog\n", "line 2: x0, y0, x1, y1 must be numbers, not 0, 0, 3"),
        ("H\ntest/dog/9.jpg,0,0,3,inf,dog\n", "line 2: x0, y0, x1, y1 must be numbers"),
        ("H\n\ntest/dog/9.jpg,4,0,3,3,dog\n", "line 3: expected 0 <= x0 <= x1"),
        ("H\ntest/dog/9.jpg,-1,0,3,3,dog\n", "line 2: expected 0 <= x0 <= x1"),
        ("H\ntest/dog/9.jpg,0,0,12,3,dog\n", "line 2: the box ends at 12, 3, .* x1 is at most 11"),
        ("H\ntest/dog/8.jpg,0,0,3,3,dog\n", "line 2: there is no photo .*test/dog/8.jpg"),
        ("H\n9.jpg,0,0,3,3,dog\n", "line 2: there is no photo .*/9.jpg; the first column"),
        ("H\ntest/dog/9.jpg,0,0,3,3,dgo\n", "line 2: 'dgo' is no class; did you mean 'dog'"),
        ("H\ntest/dog/9.jpg,0,0,3,3,\n", "line 2: '' is no class; expected cat, dog"),
    ],
)
def test_a_bad_csv_line_is_named(split, text, words):
    path = _csv(split, text.replace("H\n", "image,x0,y0,x1,y1,class\n"))
    with pytest.raises(UserError, match=rf"boxes\.csv, {words}") as error:
        folder.open_folder(split, "test", boxes_csv=path)
    assert "\n" not in str(error.value)


def test_an_unreadable_csv_is_named(split):
    with pytest.raises(UserError, match=r"gone\.csv cannot be read: No such file"):
        folder.open_folder(split, "test", boxes_csv=split / "gone.csv")
    (split / "latin.csv").write_bytes(b"image,x0,y0,x1,y1\n\xff,0,0,1,1\n")
    with pytest.raises(UserError, match=r"latin\.csv, line 2 is no UTF-8"):
        folder.open_folder(split, "test", boxes_csv=split / "latin.csv")


def _says(root, list_name, words):
    with pytest.raises(UserError, match=words) as error:
        folder.open_folder(root, list_name)
    assert "\n" not in str(error.value)


def test_what_is_missing_is_named(split, tmp_path):
    _says(split / "nowhere", "train", "nowhere is missing: expected a folder with a sub-folder")
    _says(split, "tset", "tset is missing .*did you mean 'test'")
    (split / "tune").mkdir()
    _says(split, "tune", "tune is missing or has no class sub-folders; there are test, train")


def test_an_empty_class_is_named(split):
    (split / "train/emu/deeper").mkdir(parents=True)
    _says(split, "train", "train/emu holds no photo")
    lenient = folder.open_folder(split, "train", strict=False)
    assert lenient.class_names == ("cat", "dog")
    assert ("empty classes", 1) in [(row.reason, row.count) for row in lenient.left_out]


def test_sub_folders_of_a_class_are_read(split):
    _photo(split / "train/dog/2025/a b/1.jpg")
    _photo(split / "train/dog/.trash/1.jpg")
    (split / "train/dog/again").symlink_to(split / "train")
    train = folder.open_folder(split, "train")
    assert _ids(train)[1:] == ["train/dog/1.jpg", "train/dog/2.PNG", "train/dog/2025/a b/1.jpg"]
    left = {row.reason: row.examples for row in train.left_out}
    assert left["links to folders"] == ("train/dog/again",)
    assert set(left["hidden"]) == {"train/dog/.hidden.jpg", "train/dog/.trash", "train/.git"}
    assert left[".txt"] == ("train/dog/notes.txt",)
    flat = folder.open_folder(split, "train", layout="flat")
    assert _ids(flat) == ["train/cat/1.jpeg", "train/dog/1.jpg", "train/dog/2.PNG"]


def test_what_is_in_no_list_is_counted(split):
    _photo(split / "val/dog/1.jpg")
    _photo(split / "stray.jpg")
    _photo(split / "test/stray.jpg")
    for name in ("train/dog/1.heic", "train/dog/2.HEIC", "Thumbs.db"):
        (split / name).write_text("")
    left = {row.reason: row for row in folder.open_folder(split, "test").left_out}
    assert left["folders of no list"].examples == ("val",)
    assert set(left["in no class's folder"].examples) == {"stray.jpg", "test/stray.jpg"}
    assert left["hidden"].examples == ("Thumbs.db",)
    left = {row.reason: row for row in folder.open_folder(split, "train").left_out}
    assert left[".heic (not read)"].count == 2


def test_a_test_class_that_training_lacks_is_named(split):
    _photo(split / "test/dogs/1.jpg")
    _says(split, "test", "test/dogs is a class that .*train lacks, did you mean 'dog'")


def test_a_folder_without_classes_or_with_too_few_photos(tmp_path):
    _photo(tmp_path / "a.jpg")
    _says(tmp_path, "train", "has no sub-folders: expected one for each class")
    image_id = next(f"x/{i}.jpg" for i in range(99) if folder_split.percentile(f"x/{i}.jpg") >= 90)
    _photo(tmp_path / image_id)
    assert _ids(folder.open_folder(tmp_path, "train")) == [image_id]  # a class must be learnt
    _says(tmp_path, "tune", "list tune of .* is empty, 1 photos are too few")
    _says(tmp_path, "val", "no list 'val': make .*val with class sub-folders, or take train, tune")
    flat = dict(layout="flat")
    assert len(folder.open_folder(tmp_path, "test", **flat)) == 1
    with pytest.raises(UserError, match=r"list train of .* is empty, 1 photos are too few"):
        folder.open_folder(tmp_path, "train", **flat)


def test_a_damaged_photo_with_boxes_still_has_a_record(split):
    (split / "test/dog/9.jpg").write_bytes(b"")
    path = _csv(split, "image,x0,y0,x1,y1\ntest/dog/9.jpg,0,0,3,3\n")
    test = folder.open_folder(split, "test", boxes_csv=path)
    assert test[_ids(test).index("test/dog/9.jpg")].size is None


def test_a_box_outside_and_a_row_without_a_photo_may_be_skipped(split):
    rows = ["test/dog/8.jpg,0,0,3,3", "test/dog/9.jpg,0,0,12,3", "test/dog/9.jpg,0,0,11,3"]
    path = _csv(split, "\n".join(["image,x0,y0,x1,y1", *rows]))
    with pytest.raises(UserError, match=r"there is no photo .*strict=false"):
        folder.open_folder(split, "test", boxes_csv=path)
    test = folder.open_folder(split, "test", boxes_csv=path, strict=False)
    np.testing.assert_array_equal(test[_ids(test).index("test/dog/9.jpg")].boxes, [[0, 0, 11, 3]])
    left = {row.reason: (row.count, row.fault) for row in test.left_out}
    assert left["boxes outside of their photo"] == left["rows of boxes.csv without a photo"]
    assert left["boxes outside of their photo"] == (1, True)


def test_a_class_that_training_lacks_may_be_skipped(split):
    _photo(split / "test/dogs/1.jpg")
    test = folder.open_folder(split, "test", strict=False)
    assert {test.class_names[test[i].labels[0]] for i in range(len(test))} == {"dog"}
    assert "folders of a class that train lacks" in {row.reason for row in test.left_out}


def test_masks_by_image_id(split):
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[2:4] = 2
    values[0, 0] = 255
    for name in ("test/dog/9.png", "test/dog/10.jpg.png"):
        (split / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(split / "masks" / name), values)
    test = folder.open_folder(split, "test")
    assert len(test) == 2 and "masks of" in test.about
    for index in range(2):
        np.testing.assert_array_equal(test.mask(index), values)
    assert folder.open_folder(split, "train").mask(0) is None
    cv2.imwrite(str(split / "masks/test/dog/9.png"), np.full((HEIGHT, WIDTH), 3, np.uint8))
    with pytest.raises(UserError, match=r"dog/9.png holds the value 3: .* 1 cat, 2 dog"):
        test.mask(_ids(test).index("test/dog/9.jpg"))
    cv2.imwrite(str(split / "masks/test/dog/9.png"), values[1:])
    with pytest.raises(UserError, match=r"dog/9.png is 12x7, its photo 12x8"):
        test.mask(_ids(test).index("test/dog/9.jpg"))


def test_a_class_may_be_called_masks(plain):
    (plain / "zebra").rename(plain / "masks")
    train = folder.open_folder(plain, "train")
    assert train.class_names == ("masks", "train") and "masks of" not in train.about


@pytest.mark.parametrize("lists", [("train/", "test/"), ("",)], ids=["lists", "cut"])
def test_masks_within_class_folders_are_no_photos(tmp_path, lists):
    """The truth would be trained on."""
    for place in lists:
        for name in ("cat", "dog"):
            for i in range(30 if not place else 3):
                _photo(tmp_path / f"{place}{name}/{i}.jpg")
                _photo(tmp_path / f"{place}{name}/masks/{i}.png")
    names = ("train", "test")
    found = [i for n in names for i in _ids(folder.open_folder(tmp_path, n))]
    assert found and not [i for i in found if "masks" in i]


def test_a_named_folder_of_masks_is_no_class(tmp_path):
    for name in ("cat", "dog", "truth"):
        for i in range(3):
            _photo(tmp_path / f"train/{name}/{i}.png")
            _photo(tmp_path / f"test/{name}/{i}.png")
    (tmp_path / "test" / "truth").rename(tmp_path / "elsewhere")
    options = {"masks": str(tmp_path / "train" / "truth")}
    for name in ("train", "test"):
        source = folder.open_folder(tmp_path, name, **options)
        assert source.class_names == ("cat", "dog")
        assert len(source) == 6


def test_a_photo_without_a_label_makes_it_several(tmp_path):
    for name in "abcd":
        _photo(tmp_path / f"{name}.jpg")
    rows = "image,labels,split\na.jpg,cat,train\nb.jpg,,train\nc.jpg,dog,train\nd.jpg,cat,test\n"
    (tmp_path / "labels.csv").write_text(rows)
    config = read_config(f"configs/cam.py:folder,root={tmp_path},backbone=mobilenet_v2")
    assert folder.choices(config.data)["multi_label"] is True
