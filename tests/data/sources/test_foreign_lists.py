"""Lists and annotations of anyone: one sentence with the file, no path out, no time lost."""

import os
import pathlib
import time
import tracemalloc

import cv2
import numpy as np
import pytest

from wsol_jax.base.errors import UserError
from wsol_jax.data.sources import cub, folder, ilsvrc, voc
from wsol_jax.data.sources.annotations import read_annotation
from wsol_jax.data.sources.voc_labels import read_image_labels

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def annotation(width="20", height="10", box=(1, 2, 9, 8), head=""):
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(CORNERS, box, strict=True))
    return (
        f"{head}<annotation><size><width>{width}</width><height>{height}</height></size>"
        f"<object><name>cat</name><bndbox>{corners}</bndbox></object></annotation>"
    )


def photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((10, 20, 3), np.uint8))


def one_sentence(read, *arguments):
    start = time.process_time()
    with pytest.raises(UserError) as error:
        read(*arguments)
    assert time.process_time() - start < 2 and len(str(error.value)) < 600
    return str(error.value)


@pytest.mark.parametrize(
    "content, told",
    [
        (annotation(head='<?xml version="1.0" encoding="klingon"?>'), "is not readable XML"),
        (annotation(head='<?xml version="1.0" encoding="utf-7"?>'), "is not readable XML"),
        (annotation(head='<?xml version="1.0" encoding="idna"?>'), "is not readable XML"),
        (annotation(width="9" * 400), "whole numbers of at most 8 digits"),
        (annotation(width="9" * 5000), "whole numbers of at most 8 digits"),
        (annotation(width="1e3"), "whole numbers of at most 8 digits"),
        (annotation(box=(1, 2, "1e300", 8)), "of at most 16777216"),
        (annotation(box=("-1e300", 2, 9, 8)), "of at most 16777216"),
        (annotation(box=("9" * 400, 2, 9, 8)), "of at most 16777216"),
        (annotation(box=("nan", 2, 9, 8)), "of at most 16777216"),
        ("<a>" * 100_000, "is not readable XML"),
        (annotation() + " " * (1 << 20), "has more than 1048576 bytes"),
        ("\0" * 99, "is not readable XML"),
    ],
)
def test_annotations(tmp_path, content, told):
    (tmp_path / "a.xml").write_text(content)
    found = one_sentence(read_annotation, tmp_path / "a.xml")
    assert found.startswith(f"annotation {tmp_path / 'a.xml'}") and told in found


def test_entities_are_not_expanded_without_bounds(tmp_path):
    levels = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    head = f'<!DOCTYPE annotation [<!ENTITY a0 "{"a" * 100}">{levels}]>'
    text = annotation(head=head).replace("<name>cat", "<name>&a9;")
    (tmp_path / "a.xml").write_text(text)
    assert "is not readable XML" in one_sentence(read_annotation, tmp_path / "a.xml")
    secret = f'<!DOCTYPE annotation [<!ENTITY s SYSTEM "file://{tmp_path / "secret"}">]>'
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "a.xml").write_text(annotation(head=secret).replace("<name>cat", "<name>&s;"))
    assert "secret" not in one_sentence(read_annotation, tmp_path / "a.xml")


def test_annotations_that_are_no_files(tmp_path):
    (tmp_path / "folder.xml").mkdir()
    os.mkfifo(tmp_path / "pipe.xml")
    for name in ("folder.xml", "pipe.xml"):
        assert "is no file" in one_sentence(read_annotation, tmp_path / name)
    assert "null" in one_sentence(read_annotation, f"{tmp_path}/a\0.xml")


@pytest.fixture
def voc_root(tmp_path):
    photo(tmp_path / "JPEGImages/a.jpg")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/a.xml").write_text(annotation())
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\n")
    assert len(voc.open_voc(tmp_path, "train")) == 1
    return tmp_path


def test_voc_lists_of_other_bytes(voc_root):
    path = voc_root / "ImageSets/Main/train.txt"
    path.write_bytes(b"a\n\xff\xfe\n")
    assert one_sentence(voc.open_voc, voc_root, "train") == f"{path}, line 2: it is not UTF-8."
    path.write_bytes("a".encode("utf-16"))
    assert "line 1: it is not UTF-8" in one_sentence(voc.open_voc, voc_root, "train")
    path.write_bytes(b"a\0b\n")
    assert "is missing" in one_sentence(voc.open_voc, voc_root, "train")
    path.write_bytes(b"a" * (2 << 20))
    assert "line 1: it has more than" in one_sentence(voc.open_voc, voc_root, "train")


def test_a_voc_annotation_that_is_a_folder(voc_root):
    (voc_root / "Annotations/a.xml").unlink()
    (voc_root / "Annotations/a.xml").mkdir()
    assert "a.xml is no file" in one_sentence(voc.open_voc, voc_root, "train")


def test_a_mask_of_another_size_is_refused_before_it_is_decoded(voc_root, monkeypatch):
    place = voc_root / "SegmentationClass"
    place.mkdir()
    cv2.imwrite(str(place / "a.png"), np.zeros((3000, 3000), np.uint8))
    source = voc.open_voc(voc_root, "train")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)  # nothing is decoded
    assert "a.png is 3000x3000, its annotation says 20x10" in one_sentence(source.mask, 0)


def test_synsets_of_other_bytes(tmp_path):
    photo(tmp_path / "ILSVRC/Data/CLS-LOC/train/n01440764/a.JPEG.jpg")
    (tmp_path / "LOC_synset_mapping.txt").write_bytes(b"n01440764 t\xe9nch\n")
    assert "LOC_synset_mapping.txt, line 1: it is not UTF-8" in one_sentence(
        ilsvrc.open_ilsvrc, tmp_path, "train"
    )


def named_in_bytes(path):
    """A file whose name is no UTF-8, or a skipped test where a disk refuses that."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    except OSError:
        pytest.skip("this disk takes no such name")


def test_names_that_are_no_utf8_are_names(tmp_path):
    odd = os.fsdecode(b"caf\xe9.jpg")
    named_in_bytes(tmp_path / "photos/cat" / odd)
    for i in range(30):
        named_in_bytes(tmp_path / f"photos/cat/{i}.jpg")
    parts = (folder.open_folder(tmp_path / "photos", name) for name in ("train", "tune", "test"))
    assert f"cat/{odd}" in {record.image_id for part in parts for record in part.records}
    named_in_bytes(tmp_path / "ILSVRC/Data/CLS-LOC/train/n1" / os.fsdecode(b"caf\xe9.JPEG"))
    record = ilsvrc.open_ilsvrc(tmp_path, "train")[0]
    assert pathlib.Path(record.image).is_file()


@pytest.mark.parametrize(
    "row, told",
    [
        ("../outside.jpg,0,0,3,3", "'../outside.jpg' leads out of its folder"),
        ("..\\outside.jpg,0,0,3,3", "leads out of its folder"),
        ("{root}/cat/a.jpg,0,0,3,3", "is an absolute path"),
        ("C:\\a.jpg,0,0,3,3", "names a drive"),
        (",0,0,3,3", "is empty"),
        ("cat/a\0.jpg,0,0,3,3", "NUL"),
        ("cat/a.jpg,0,0,1e300,3", "at most 16777216"),
        ("cat/a.jpg,0,0,inf,3", "must be numbers"),
        (f"{'a/' * 3000}b.jpg,0,0,3,3", ""),
        (f"cat/a.jpg,0,0,{'9' * 400},3", "must be numbers"),
        ("x" * 200_000, ""),
    ],
)
def test_rows_of_boxes(tmp_path, row, told):
    root = tmp_path / "photos"
    for i in range(30):
        photo(root / f"cat/{i}.jpg")
    photo(root / "cat/a.jpg")
    photo(tmp_path / "outside.jpg")
    (root / "boxes.csv").write_text(f"image,x0,y0,x1,y1\n{row.format(root=root)}\n")
    with pytest.raises(UserError) as error:
        folder.open_folder(root, "train", boxes_csv=root / "boxes.csv")
    assert "boxes.csv" in str(error.value) and told in str(error.value)


@pytest.mark.parametrize(
    "file, text, told",
    [
        ("images", "1 ../../outside.jpg\n", "'../../outside.jpg' leads out of its folder"),
        ("images", "1 /etc/passwd\n", "is an absolute path"),
        ("images", "1 001.Crow/a\0.jpg\n", "holds a NUL"),
        ("images", f"{'9' * 5000} 001.Crow/a.jpg\n", "line 1: expected a number"),
        ("image_class_labels", f"1 {'9' * 5000}\n", "image 1 has the value 999"),
        ("bounding_boxes", "1 0 0 1e300 5\n", "with positive width and height"),
        ("bounding_boxes", "1 nan 0 4 5\n", "with positive width and height"),
        ("classes", "1 001.Cr\udcffow\n", "line 1: it is not UTF-8"),
    ],
)
def test_cub_lines(tmp_path, file, text, told):
    good = {
        "images": "1 001.Crow/a.jpg\n",
        "classes": "1 001.Crow\n",
        "image_class_labels": "1 1\n",
        "train_test_split": "1 1\n",
        "bounding_boxes": "1 0 0 4 5\n",
    }
    for name, content in (good | {file: text}).items():
        (tmp_path / f"{name}.txt").write_text(content, errors="surrogateescape")
    photo(tmp_path / "images/001.Crow/a.jpg")
    photo(tmp_path.parent / "outside.jpg")
    assert told in one_sentence(cub.open_cub, tmp_path, "train")


def test_image_labels_that_claim_to_remember_much(tmp_path):
    np.save(tmp_path / "a.npy", np.array({"a": 1}, object), allow_pickle=True)
    head = (tmp_path / "a.npy").read_bytes()[:128]
    # {} put into a memory of 100 million places, and a text of 100 MB that is not there.
    for pickle in (b"\x80\x02}r\xff\xff\xff\x05.", b"\x80\x04B\xff\xff\xff\x05abc."):
        (tmp_path / "b.npy").write_bytes(head + pickle)
        tracemalloc.start()
        try:
            read_image_labels(tmp_path / "b.npy")
        except UserError as error:
            assert "is no file of image labels" in str(error)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20e6
