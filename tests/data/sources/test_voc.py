"""VOC folders: a tiny one written here, and the real photos where they are at hand."""

import pathlib
import pickle
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from wsol_jax.base.errors import UserError
from wsol_jax.data.sources import voc

WIDTH, HEIGHT = 20, 10
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _object(name, box, extra=""):
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(CORNERS, box, strict=True))
    return f"<object>{extra}<name>{name}</name><bndbox>{corners}</bndbox></object>"


def _annotate(root, image_id, *objects):
    (root / "Annotations" / f"{image_id}.xml").write_text(
        f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
        + "".join(objects)
        + "</annotation>"
    )


def _list(root, name, text):
    path = root / "ImageSets" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path):
    """Three photos: a (cat), b (dog, cat, difficult), c (person with a head part)."""
    for folder in ("JPEGImages", "Annotations", "SegmentationClass"):
        (tmp_path / folder).mkdir()
    for image_id in "abc":
        cv2.imwrite(
            str(tmp_path / "JPEGImages" / f"{image_id}.jpg"), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        )
    _annotate(tmp_path, "a", _object("cat", (1, 1, WIDTH, HEIGHT)))
    _annotate(
        tmp_path,
        "b",
        _object("dog", (2, 3, 6, 7), "<difficult>1</difficult>"),
        _object("cat", (5.5, 4, 9, 9)),
    )
    # Real files have head and hand parts with boxes of their own, which are no objects.
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    _annotate(tmp_path, "c", _object("person", (0, 2, 30, 40), part))
    _list(tmp_path, "Segmentation/both", "a\nb\n\n")
    _list(tmp_path, "Segmentation/one", "a\n")
    _list(tmp_path, "Main/all", "a\nb\nc\n")
    _list(tmp_path, "Main/cat_all", "a  1\nb  1\nc -1\n")
    _list(tmp_path, "Main/dog_all", "a -1\nb  0\nc  1\n")
    _list(tmp_path, "Segmentation/paths", "/JPEGImages/a.jpg /SegmentationClassAug/a.png\n")
    return tmp_path


def _palette_png(path, codes):
    image = Image.fromarray(np.asarray(codes, np.uint8))
    # putpalette makes it mode P. Its colours differ from its indices: reading colours would show.
    image.putpalette([v for i in range(256) for v in (255 - i, (i * 7) % 256, 128)])
    path.parent.mkdir(exist_ok=True)
    image.save(path)


def _codes(*values):
    codes = np.zeros((HEIGHT, WIDTH), np.uint8)
    codes.flat[: len(values)] = values
    return codes


def test_boxes_become_zero_based_and_difficult_objects_stay(root):
    source = voc.open_voc(root, "both", multi_label=True)
    a, b = source[0], source[1]
    assert (a.image_id, a.labels, a.size) == ("a", (7,), (WIDTH, HEIGHT))
    np.testing.assert_array_equal(a.boxes, [[0, 0, WIDTH - 1, HEIGHT - 1]])
    assert b.labels == (7, 11)
    np.testing.assert_array_equal(b.boxes, [[1, 2, 5, 6], [4.5, 3, 8, 8]])
    np.testing.assert_array_equal(b.box_labels, [11, 7])
    assert (a.difficult.tolist(), b.difficult.tolist()) == ([False], [True, False])
    assert a.boxes.dtype == np.float32
    assert b.box_labels.dtype == np.int32
    assert tuple(source.class_names) == voc.VOC_CLASSES
    assert len(source) == 2


def test_parts_are_no_objects_and_boxes_are_clipped(root):
    person = voc.open_voc(root, "all", classes=["person"], multi_label=True)[2]
    np.testing.assert_array_equal(person.boxes, [[0, 1, WIDTH - 1, HEIGHT - 1]])


def test_chosen_classes_number_labels_boxes_and_masks(root):
    _palette_png(root / "SegmentationClass/b.png", _codes(0, 8, 12, 20, 255))
    source = voc.open_voc(root, "both", classes=["dog", "cat"], multi_label=True)
    assert source[1].labels == (0, 1)
    np.testing.assert_array_equal(source[1].box_labels, [0, 1])
    np.testing.assert_array_equal(source.mask(1).flat[:6], [0, 2, 1, 0, 255, 0])
    only_cat = voc.open_voc(root, "both", classes=["cat"])
    assert only_cat[1].difficult.tolist() == [False]  # the dog's mark went with the dog
    assert [r.labels for r in (only_cat[0], only_cat[1])] == [(0,), (0,)]
    np.testing.assert_array_equal(only_cat.mask(1).flat[:6], [0, 1, 0, 0, 255, 0])
    assert only_cat.mask(0) is None


def test_augmented_greyscale_masks_come_first(root):
    _palette_png(root / "SegmentationClass/a.png", _codes(8))
    aug = root / "SegmentationClassAug"
    aug.mkdir()
    Image.fromarray(_codes(0, 8, 255)).save(aug / "a.png")
    source = voc.open_voc(root, "one", classes=["cat"])
    np.testing.assert_array_equal(source.mask(0).flat[:3], [0, 1, 255])


def test_list_styles(root):
    ids = lambda name: [voc.open_voc(root, name, multi_label=True)[i].image_id for i in range(2)]
    assert ids("cat_all") == ["a", "b"]
    assert voc.open_voc(root, "dog_all")[0].image_id == "c"
    assert len(voc.open_voc(root, "dog_all")) == 1
    assert voc.open_voc(root, "paths")[0].image_id == "a"
    assert voc.open_voc(root, "Main/cat_all", classes=["cat"]).name == "Main/cat_all"


@pytest.mark.parametrize("line", ["{}", "/JPEGImages/{}.jpg /SegmentationClassAug/{}.png"])
def test_a_list_may_be_a_file_anywhere(root, tmp_path, line):
    """As the field hands them on: train_aug.txt beside cls_labels.npy."""
    path = tmp_path / "lists" / "train_aug.txt"
    path.parent.mkdir()
    path.write_text("".join(line.format(i, i) + "\n" for i in "ba"))
    source = voc.open_voc(root, str(path), multi_label=True)
    assert source.name == "train_aug"
    assert [record.image_id for record in source.records] == ["b", "a"]
    assert voc.voc_classes_in(root, str(path)) == ("cat", "dog")
    with pytest.raises(UserError) as error:
        voc.open_voc(root, str(path.with_name("other.txt")), multi_label=True)
    assert str(error.value).startswith(f"list {path.with_name('other.txt')}: there is no such file")


def test_image_labels_from_elsewhere(root):
    """They take the place of the objects' classes; boxes and masks stay the annotation's."""
    labels = {"a": (7, 14), "b": ()}
    source = voc.open_voc(root, "all", multi_label=True, labels=labels)
    assert [record.labels for record in source.records] == [(7, 14), (), (14,)]  # c: its objects
    plain = voc.open_voc(root, "all", multi_label=True)
    for one, other in zip(source.records, plain.records, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.box_labels, other.box_labels)
    # Of chosen classes alone, by their own numbers.
    chosen = voc.open_voc(root, "all", classes=["person", "cat"], multi_label=True, labels=labels)
    assert [record.labels for record in chosen.records] == [(0, 1), (), (0,)]
    with pytest.raises(UserError, match="image a shows cat and person, but single-label"):
        voc.open_voc(root, "one", labels=labels)


def test_an_image_with_labels_needs_no_annotation(root):
    """trainaug's images beyond VOC's own have none."""
    (root / "Annotations" / "a.xml").unlink()
    source = voc.open_voc(root, "both", multi_label=True, labels={"a": (3,)})
    record = source[0]
    assert (record.labels, record.size) == ((3,), None)
    assert record.boxes.shape == (0, 4)
    assert record.box_labels.shape == record.difficult.shape == (0,)
    with pytest.raises(UserError, match=r"annotation .*a\.xml is missing"):
        voc.open_voc(root, "both", multi_label=True, labels={"b": (3,)})
    # One that is there must be whole, as ever.
    (root / "Annotations" / "a.xml").write_text("<annotation>")
    with pytest.raises(UserError, match="not readable XML"):
        voc.open_voc(root, "both", multi_label=True, labels={"a": (3,)})


def test_classes_in_a_list_stand_in_vocs_order(root):
    assert voc.voc_classes_in(root, "both") == ("cat", "dog")
    assert voc.voc_classes_in(root, "all") == ("cat", "dog", "person")


def test_pickles(root):
    source = voc.open_voc(root, "both", multi_label=True)
    again = pickle.loads(pickle.dumps(source))
    assert again[1].image_id == "b"
    np.testing.assert_array_equal(again[1].boxes, source[1].boxes)


def _says(root, *words, list_name="both", **options):
    with pytest.raises(UserError) as error:
        voc.open_voc(root, list_name, **options)
    for word in words:
        assert re.search(word, str(error.value)), f"{word!r} not in: {error.value}"
    assert "\n" not in str(error.value)


def test_single_label_use_names_the_first_offender(root):
    _says(root, "image b", "cat and dog", "multi_label")
    _says(root, "image a", "none of the chosen", "multi_label", list_name="all", classes=["dog"])


def test_what_is_missing_is_named(root):
    _says(root / "nowhere", "nowhere has no JPEGImages", "VOCtrainval")
    _says(root, r"did you mean 'both'", list_name="bth")
    (root / "Annotations/b.xml").unlink()
    _says(root, "Annotations/b.xml is missing", multi_label=True)
    (root / "JPEGImages/b.jpg").unlink()
    _says(root, r"both.txt, line 2", "JPEGImages/b.jpg is missing", multi_label=True)


def test_bad_lists_and_classes(root):
    _list(root, "Segmentation/twice", "a\na\n")
    _says(root, "twice.txt, line 2", "already on line 1", list_name="twice")
    _list(root, "Segmentation/empty", "\n")
    _says(root, "empty.txt names no image", list_name="empty")
    _says(root, "did you mean 'cow'", classes=["cw"])
    _says(root, "different names", classes=["cow", "cow"])


@pytest.mark.parametrize(
    "text, words",
    [
        ("<annotation><object>", "not readable XML"),
        (_object("unicorn", (1, 1, 2, 2)), "'unicorn' is not one of VOC's 20"),
        (_object("cat", (5, 1, 2, 2)), r"object 1 \(cat\).*5, 1, 2, 2"),
        (_object("cat", (1, 1, 2, "x")), "object 1 needs"),
        (_object("cat", (1, 1, 2, "nan")), "object 1 needs"),
        ("<object><name>cat</name></object>", "object 1 needs"),
        (
            _object("cat", (1, 1, 2, 2), "<difficult>yes</difficult>"),
            r"object 1 \(cat\) has <difficult> 'yes': expected 0 or 1",
        ),
    ],
)
def test_bad_annotations(root, text, words):
    full = text if text.startswith("<annotation>") else f"<annotation>{text}</annotation>"
    (root / "Annotations/a.xml").write_text(full)
    _says(root, "Annotations/a.xml", words, list_name="one")


def test_bad_masks(root):
    source = lambda: voc.open_voc(root, "one")
    path = root / "SegmentationClass/a.png"
    _palette_png(path, _codes(8, 21))
    with pytest.raises(UserError, match="value 21: expected 0"):
        source().mask(0)
    _palette_png(path, np.zeros((WIDTH, HEIGHT)))
    with pytest.raises(UserError, match="is 10x20, its annotation says 20x10"):
        source().mask(0)
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    with pytest.raises(UserError, match="mode RGB"):
        source().mask(0)
    path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a\.png cannot be read"):
        source().mask(0)


COUNTS = {"wsol_train": 375, "wsol_tune": 75, "wsol_test": 158, "wsol_test_hard": 123}
MULTI = {"wsss_train": 645, "wsss_fit": 525, "wsss_tune": 120, "wsss_val": 281}


@pytest.mark.shared
def test_real_lists_have_the_stated_counts(shared):
    root = shared / "data/voc_animals"
    classes = voc.voc_classes_in(root, "wsol_train")
    assert classes == ("cat", "cow", "dog", "horse", "sheep")
    for name, count in COUNTS.items():
        assert len(voc.open_voc(root, name, classes=classes)) == count
    train = voc.open_voc(root, "wsol_train", classes=classes)
    assert np.bincount([train[i].labels[0] for i in range(375)]).tolist() == [75] * 5
    for name, count in MULTI.items():
        assert len(voc.open_voc(root, name, multi_label=True)) == count


@pytest.mark.shared
def test_real_masks_agree_with_labels_and_boxes(shared):
    """A box and a mask of one image are independent drawings of the same object."""
    root = shared / "data/voc_animals"
    source = voc.open_voc(root, "wsol_test", classes=voc.voc_classes_in(root, "wsol_train"))
    for i in range(0, len(source), 4):
        record, mask = source[i], source.mask(i)
        photo = cv2.imread(record.image)
        assert mask.shape == photo.shape[:2] == record.size[::-1]
        assert set(np.unique(mask)) - {0, 255} == {1 + record.labels[0]}
        text = (root / "Annotations" / f"{record.image_id}.xml").read_text()
        written = [[int(v) for v in re.findall(rf"<{k}>(\d+)<", text)] for k in CORNERS]
        np.testing.assert_array_equal(record.boxes + 1, np.array(written).T)
        y, x = np.nonzero(mask == 1 + record.labels[0])
        drawn = np.array([x.min(), y.min(), x.max(), y.max()])
        union = [*record.boxes[:, :2].min(0), *record.boxes[:, 2:].max(0)]
        assert np.abs(drawn - union).max() <= 12, (record.image_id, drawn, union)


@pytest.mark.shared
def test_multi_label_real_masks(shared):
    root = pathlib.Path(shared) / "data/voc_animals"
    source = voc.open_voc(root, "wsss_val", multi_label=True)
    assert len({source[i].image_id for i in range(len(source))}) == 281
    for i in range(0, len(source), 15):
        assert set(np.unique(source.mask(i))) - {0, 255} == {1 + c for c in source[i].labels}
