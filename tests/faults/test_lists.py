"""Training on VOC, CUB and ILSVRC: their lists, annotations and tables."""

import pickle

import numpy as np
import pytest

from faults.damage import (
    append,
    both,
    closed,
    copied,
    fifo,
    folder,
    line,
    link,
    remove,
    saved,
    swap,
    write,
)
from faults.kit import on, voc
from faults.rows import Row, check, table

pytestmark = pytest.mark.slow
XML, LIST = "voc/Annotations/03.xml", "voc/ImageSets/Segmentation/train.txt"
LABELS = voc("--config.data.labels=labels.npy")
CUB, ILSVRC = on("cub", "cub"), on("ilsvrc", "ilsvrc")
NOTE = "ilsvrc/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml"
LAUGHS = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


def xml(what, spoil, *expected, **more):
    return Row(f"an annotation that {what}", voc(), expected or ("03.xml",), spoil, **more)


def names(what, spoil, *expected, words=None, **more):
    return Row(f"VOC's list {what}", words or voc(), expected or ("train.txt",), spoil, **more)


def pickled(value):
    """``cls_labels.npy`` holding that."""
    array = np.empty((), object)
    array[()] = value
    return saved("labels.npy", array, pickled=True)


def labels(what, spoil, *expected):
    return Row(f"image labels: {what}", LABELS, expected or ("labels.npy",), spoil)


def size(text):
    return swap(XML, "<width>48</width>", f"<width>{text}</width>")


def corner(text):
    """Sets the first xmax."""

    def spoil(here):
        path = here / XML
        head, _, rest = path.read_text().partition("<xmax>")
        path.write_text(f"{head}<xmax>{text}</xmax>{rest.partition('</xmax>')[2]}")

    return spoil


class Evil:
    def __reduce__(self):
        return (print, ("a pickle ran",))


VOC_ROWS = [
    xml("is missing", remove(XML)),
    xml("is a folder", folder(XML)),
    xml("is a pipe", fifo(XML)),
    xml("is a device without end", link(XML, "/dev/zero")),
    xml("may not be read", closed(XML)),
    xml("links to itself", link(XML, "03.xml")),
    xml("is empty", write(XML)),
    xml("is text", write(XML, "no xml")),
    xml("is binary", write(XML, bytes(range(256)) * 9)),
    xml("ends early", write(XML, "<annotation><size><width>48")),
    xml(
        "has an encoding that is none",
        write(XML, '<?xml version="1.0" encoding="klingon"?><annotation/>'),
    ),
    xml(
        "claims a multi-byte encoding",
        write(XML, '<?xml version="1.0" encoding="utf-7"?><annotation/>'),
    ),
    xml(
        "claims UTF-16 and is not",
        write(XML, '<?xml version="1.0" encoding="UTF-16"?><annotation/>'),
    ),
    xml("is no UTF-8", swap(XML, b"<name>bird", b"<name>b\xffrd")),
    xml(
        "laughs a billion times",
        write(XML, f"{LAUGHS}]><annotation><object><name>&j;</name></object></annotation>"),
    ),
    xml(
        "reads another file",
        write(
            XML,
            '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation><object><name>&b;</name></object></annotation>',
        ),
    ),
    xml("is 100000 deep", write(XML, "<a>" * 100_000)),
    xml("has a size of words", size("wide")),
    xml("has a size of 400 digits", size("9" * 400)),
    xml("has a size of 6000 digits", size("9" * 6000)),
    xml("has no name", swap(XML, "<name>bird</name>", "")),
    xml("has no box", swap(XML, "bndbox", "box", 2)),
    xml("has a class of nowhere", swap(XML, "bird", "griffin"), "griffin"),
    xml("has an escape code for a class", swap(XML, "bird", "&#x9b;31m"), "03.xml"),
    xml("has a corner of NaN", corner("nan")),
    xml("has a corner of infinity", corner("inf")),
    xml("has a corner of 1e300", corner("1e300")),
    xml("has a corner of 400 digits", corner("9" * 400)),
    xml("has corners the wrong way", corner("-5")),
    names("is missing", remove(LIST), "train"),
    names("is a folder", folder(LIST), "train"),
    names("is a pipe", fifo(LIST), "train"),
    names("is a device without end", link(LIST, "/dev/zero"), "train"),
    names("may not be read", closed(LIST)),
    names("is empty", write(LIST)),
    names("is no UTF-8", write(LIST, b"0\xff\xfe\n03\n")),
    names("is UTF-16", write(LIST, "03\n04\n".encode("utf-16"))),
    names("has a NUL", line(LIST, "03\0", 2)),
    names("names a photo twice", append(LIST, "03\n"), "line 13"),
    names("names a photo that is not there", append(LIST, "99\n"), "line 13", "99"),
    names("leads out", append(LIST, "../../../etc/passwd\n"), "line 13"),
    names("has a line of a MB", append(LIST, "x" * 1_000_000 + "\n"), "line 13"),
    names("has an escape code", append(LIST, "\x1b[2J\n"), "line 13"),
    names("is of another name", None, "trian", words=voc("--config.data.train=trian")),
    names("leads out of ImageSets", None, "..", words=voc("--config.data.train=../../x")),
    names(
        "is a folder by a path",
        None,
        "voc.txt",
        words=voc("--config.data.train=voc.txt"),
        doubt="a list of the user's",
    ),
    Row("VOC without photos", voc(), ["JPEGImages"], remove("voc/JPEGImages")),
    Row("VOC without annotations", voc(), ["Annotations"], remove("voc/Annotations")),
    Row("VOC without lists", voc(), ["ImageSets"], remove("voc/ImageSets")),
    Row("VOC that is a file", voc(), ["voc"], both(remove("voc"), write("voc"))),
    Row("VOC photos that may not be listed", voc(), ["JPEGImages"], closed("voc/JPEGImages")),
    Row("VOC for one label", on("voc", "voc"), ["multi_label"]),
    Row("VOC without a root", [w.replace("root=voc,", "") for w in voc()], ["root"]),
    labels("missing", None),
    labels("a folder", lambda here: (here / "labels.npy").mkdir()),
    labels("a pipe", fifo("labels.npy")),
    labels("empty", write("labels.npy")),
    labels("a device without end", link("labels.npy", "/dev/zero")),
    labels("no pickle", write("labels.npy", b"\x93NUMPY\1\0" + bytes(90))),
    labels("a pickle that runs", pickled(Evil())),
    labels("a plain pickle that runs", write("labels.npy", pickle.dumps(Evil()))),
    labels("a list", pickled([1, 2])),
    labels("rows of other lengths", pickled({"03": np.zeros(7)})),
    labels("rows of NaN", pickled({"03": np.full(20, np.nan)})),
    labels("other images", pickled({"2007_000032": np.eye(20)[0]})),
    labels("a key of 400 digits", pickled({10**400: np.eye(20)[0]})),
]
CUB_FILES = ("images", "classes", "image_class_labels", "train_test_split", "bounding_boxes")


def cub(what, name, spoil, *expected, **more):
    path = f"cub/{name}.txt"
    return Row(f"CUB: {name} {what}", CUB, expected or (f"{name}.txt",), spoil(path), **more)


def _line(text, number=1):
    return lambda path: line(path, text, number)


CUB_ROWS = [
    *(cub("no UTF-8", name, _line(b"1 \xff\xfe")) for name in CUB_FILES),
    *(cub("missing", name, remove) for name in CUB_FILES[1:]),
    *(cub("empty", name, write) for name in CUB_FILES),
    *(cub("a folder", name, folder) for name in CUB_FILES[1:]),
    cub("a pipe", "classes", fifo),
    cub("may not be read", "classes", closed),
    cub("NaN", "bounding_boxes", _line("1 nan 2.0 20.0 20.0")),
    cub("1e300", "bounding_boxes", _line("1 1e300 2.0 1e300 20.0")),
    cub("negative", "bounding_boxes", _line("1 1.0 2.0 -20.0 20.0")),
    cub("words", "bounding_boxes", _line("1 a b c d")),
    cub("a number twice", "images", _line("2 001.Sooty_Tern/Sooty_Tern_0000.jpg")),
    cub("a number of 5000 digits", "images", _line("9" * 5000 + " a/b.jpg")),
    cub("a class of 5000 digits", "image_class_labels", _line("1 " + "9" * 5000)),
    cub("a class that is none", "image_class_labels", _line("1 9")),
    cub("a split that is none", "train_test_split", _line("1 2")),
    cub("leads out", "images", _line("1 ../../../etc/passwd"), "passwd"),
    cub("an absolute path", "images", _line("1 /etc/passwd"), "passwd"),
    Row(
        "CUB: a photo outside",
        CUB,
        ["out.jpg"],
        both(
            copied("cub/images/002.Crow/Crow_0003.jpg", "out.jpg"),
            line("cub/images.txt", "1 ../../out.jpg"),
        ),
    ),
    cub("a NUL", "images", _line("1 001.Sooty_Tern/\0.jpg"), "images"),
    Row(
        "CUB: a photo is missing",
        CUB,
        ["Crow_0003.jpg"],
        remove("cub/images/002.Crow/Crow_0003.jpg"),
    ),
    Row("CUB: a list of another name", on("cub", "cub", keys=",train=trian"), ["trian"]),
]
ILSVRC_ROWS = [
    Row("ILSVRC: no photos", ILSVRC, ["train"], remove("ilsvrc/Data/CLS-LOC/train")),
    Row("ILSVRC: no annotations", ILSVRC, ["Annotations"], remove("ilsvrc/Annotations")),
    Row("ILSVRC: an empty folder", ILSVRC, ["ilsvrc"], both(remove("ilsvrc"), folder("ilsvrc"))),
    Row(
        "ILSVRC: names that are no UTF-8",
        ILSVRC,
        ["LOC_synset"],
        line("ilsvrc/LOC_synset_mapping.txt", b"n01440764 \xff"),
    ),
    Row(
        "ILSVRC: no names in the file",
        ILSVRC,
        ["LOC_synset"],
        write("ilsvrc/LOC_synset_mapping.txt"),
    ),
    Row(
        "ILSVRC: an empty class",
        ILSVRC,
        ["n09999999"],
        lambda here: (here / "ilsvrc/Data/CLS-LOC/train/n09999999").mkdir(),
    ),
    Row("ILSVRC: an annotation is missing", ILSVRC, ["00000001.xml"], remove(NOTE)),
    Row("ILSVRC: an annotation is a folder", ILSVRC, ["00000001.xml"], folder(NOTE)),
    Row(
        "ILSVRC: an annotation of another class",
        ILSVRC,
        ["00000001.xml"],
        swap(NOTE, "<name>n", "<name>x"),
    ),
    Row(
        "ILSVRC: an annotation without objects",
        ILSVRC,
        ["00000001.xml"],
        write(NOTE, "<annotation/>"),
    ),
    Row(
        "ILSVRC: an annotation of a strange encoding",
        ILSVRC,
        ["00000001.xml"],
        write(NOTE, '<?xml version="1.0" encoding="klingon"?><annotation/>'),
    ),
]


@table(VOC_ROWS)
def test_a_training_on_a_bad_voc_is_refused(kit, here, row):
    check(kit, "main", row, here, ["voc"])


@table(CUB_ROWS)
def test_a_training_on_a_bad_cub_is_refused(kit, here, row):
    check(kit, "main", row, here, ["cub"])


@table(ILSVRC_ROWS)
def test_a_training_on_a_bad_ilsvrc_is_refused(kit, here, row):
    check(kit, "main", row, here, ["ilsvrc"])
