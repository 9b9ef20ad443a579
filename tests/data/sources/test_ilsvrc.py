"""ILSVRC: a tiny tree of the true layout."""

import pickle

import cv2
import numpy as np
import pytest

from configs import cam
from wsol_jax.base.errors import UserError
from wsol_jax.data.lists import open_lists
from wsol_jax.data.sources import ilsvrc

WIDTH, HEIGHT = 20, 16
SYNSETS = {"n02012849": "crane", "n01440764": "tench, Tinca tinca", "n03126707": "crane, hoist"}


def _xml(root, file, *objects):
    path = root / "Annotations/CLS-LOC" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
        f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for name, b in objects
    )
    path.write_text(
        f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>{text}"
        "</annotation>"
    )


def _photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path.with_suffix(".jpg")), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    path.with_suffix(".jpg").rename(path)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "ILSVRC"
    lines = [f"{synset} {names}" for synset, names in SYNSETS.items()]
    (tmp_path / "LOC_synset_mapping.txt").write_text("\n".join(lines) + "\n")
    for synset in SYNSETS:
        for i in (10, 9):
            _photo(root / f"Data/CLS-LOC/train/{synset}/{synset}_{i}.JPEG")
    _xml(root, "train/n01440764/n01440764_9.xml", ("n01440764", (0, 1, 5, 6)))
    for i in range(1, 21):
        name = f"ILSVRC2012_val_{i:08}"
        _photo(root / f"Data/CLS-LOC/val/{name}.JPEG")
        synset = sorted(SYNSETS)[i % 3]
        _xml(root, f"val/{name}.xml", (synset, (0, 2, 9, WIDTH)), (synset, (1, 1, 4, 4)))
    return root


def _ids(source):
    return [source[i].image_id for i in range(len(source))]


def test_the_papers_lists_score_all_of_val_and_say_what_chose_the_threshold(root):
    lists = open_lists(cam.get_config(f"ilsvrc,root={root}").data)
    assert {name: len(source) for name, source in lists.tests.items()} == {"val": 20}
    assert lists.describe_tune() == "val_tune (2 of its 2 images are in val too)"
    lists = open_lists(cam.get_config(f"ilsvrc,root={root},test=val_rest").data)
    assert lists.describe_tune() == "val_tune"


def test_train(root):
    source = ilsvrc.open_ilsvrc(root.parent, "train")
    assert len(source) == 6
    # In the order of the synsets; both cranes keep what tells them apart.
    assert source.class_names == ("tench", "crane", "crane, hoist")
    first = source[0]
    assert first.image_id == "train/n01440764/n01440764_10.JPEG"
    assert first.image == str(root / "Data/CLS-LOC" / first.image_id)
    assert [source[i].labels for i in range(6)] == [(0,), (0,), (1,), (1,), (2,), (2,)]
    assert source[1].boxes.shape == (0, 4)
    assert source.mask(0) is None


def test_train_boxes_on_request(root):
    source = ilsvrc.open_ilsvrc(root, "train", train_boxes=True)
    assert _ids(source)[1] == "train/n01440764/n01440764_9.JPEG"
    np.testing.assert_array_equal(source[1].boxes, [[0, 1, 5, 6]])
    np.testing.assert_array_equal(source[1].box_labels, [0])
    assert source[0].boxes.shape == (0, 4)
    assert source[0].labels == (0,)


def test_val_boxes_are_zero_based_and_clipped(root):
    record = ilsvrc.open_ilsvrc(root, "val")[0]
    assert record.image_id == "val/ILSVRC2012_val_00000001.JPEG"
    assert record.labels == (1,)
    assert record.size == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(record.boxes, [[0, 2, 9, HEIGHT - 1], [1, 1, 4, 4]])
    np.testing.assert_array_equal(record.box_labels, [1, 1])
    assert record.boxes.dtype == np.float32


def test_val_is_cut_without_overlap(root):
    ids = {name: _ids(ilsvrc.open_ilsvrc(root, name)) for name in ("val", "val_tune", "val_rest")}
    assert ids["val_tune"] == [f"val/ILSVRC2012_val_000000{i}.JPEG" for i in (10, 20)]
    assert sorted(ids["val_tune"] + ids["val_rest"]) == ids["val"]
    assert len(ids["val"]) == 20


def test_pickles(root):
    source = ilsvrc.open_ilsvrc(root, "val_tune")
    assert _ids(pickle.loads(pickle.dumps(source))) == _ids(source)


def test_without_the_mapping_the_folders_name_the_classes(root):
    (root.parent / "LOC_synset_mapping.txt").unlink()
    source = ilsvrc.open_ilsvrc(root, "val")
    assert source.class_names == tuple(sorted(SYNSETS))
    assert source[0].labels == (1,)


def _says(root, list_name, words):
    with pytest.raises(UserError, match=words) as error:
        source = ilsvrc.open_ilsvrc(root, list_name)
        source[0]
    assert "\n" not in str(error.value)


def test_labels_out_of_range(root):
    _photo(root / "Data/CLS-LOC/train/n09999999/a.JPEG")
    _says(root, "train", "n09999999 is none of the 3 classes")
    for synset in ("n09999999", "n00000000", "n02012850"):  # behind, before and between the known
        _xml(root, "val/ILSVRC2012_val_00000001.xml", (synset, (0, 0, 3, 3)))
        _says(root, "val", f"_00000001.xml: '{synset}' is none of the 3 classes")
    _xml(root, "val/ILSVRC2012_val_00000001.xml")
    _says(root, "val", "_00000001.xml has no object")


def test_what_is_missing_is_named(root):
    _says(root, "test", "no list 'test': choose one of train, val, val_tune, val_rest")
    (root / "Annotations/CLS-LOC/val/ILSVRC2012_val_00000007.xml").unlink()
    _says(root, "val", "ILSVRC2012_val_00000007.xml is missing, where val's labels .*kaggle")
    for path in (root / "Data/CLS-LOC/train/n01440764").iterdir():
        path.unlink()
    _says(root, "train", "class folder .*n01440764 holds no .JPEG")
    _says(root / "nowhere", "val", "nowhere/Data/CLS-LOC/val is missing: expected the ILSVRC")


def test_nothing_says_what_the_classes_are(root):
    (root.parent / "LOC_synset_mapping.txt").unlink()
    (root / "Data/CLS-LOC/train").rename(root / "Data/CLS-LOC/elsewhere")
    _says(root, "val", "LOC_synset_mapping.txt is missing and .*train has no class folders")


@pytest.mark.parametrize("line", ["n01440764", "n02012849 crane again"])
def test_a_bad_mapping_line_is_named(root, line):
    path = root.parent / "LOC_synset_mapping.txt"
    path.write_text("n02012849 crane\n" + line + "\n")
    _says(root, "val", "LOC_synset_mapping.txt, line 2: expected a synset that occurs once")
