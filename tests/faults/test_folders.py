"""Training on a folder of photos: its files, its lists, its boxes."""

import json
import os

import pytest

from faults.damage import (
    append,
    both,
    closed,
    copied,
    cut,
    encoded,
    fifo,
    folder,
    huge_png,
    line,
    link,
    remove,
    write,
)
from faults.kit import train
from faults.rows import Row, check, table

pytestmark = pytest.mark.slow
STRICT = train("--config.data.max_corrupt=0")
PHOTO, BOXES = "data/train/ball/00.jpg", "data/boxes.csv"
HEAD = "image,x0,y0,x1,y1\n"
TABLE, COCO, LABELS = "data/labels.csv", "data/annotations.json", "image,labels\n"


def photo(what, spoil, *expected, **more):
    """A row whose first photo to train on is none."""
    return Row(f"a photo that {what}", STRICT, expected or ("00.jpg",), spoil, **more)


def boxes(what, spoil, *expected, **more):
    """A row whose CSV of boxes is none."""
    return Row(f"boxes: {what}", train(), expected or ("boxes.csv",), spoil, **more)


def labels(what, content, *expected, **more):
    """A row whose table of labels is none."""
    return Row(f"labels: {what}", train(), ("labels.csv", *expected), write(TABLE, content), **more)


def coco(what, content, *expected):
    """A row whose COCO file is none."""
    text = content if isinstance(content, str) else json.dumps(content)
    return Row(f"coco: {what}", train(), ("annotations.json", *expected), write(COCO, text))


def one_object(**fields):
    """A COCO file of one photo and one object."""
    return {
        "images": [{"id": 1, "file_name": "train/ball/00.jpg", "width": 48, "height": 48}],
        "annotations": [{"image_id": 1, "category_id": 1, **fields}],
        "categories": [{"id": 1, "name": "ball"}],
    }


def row(what, spoil, *expected, words=None, **more):
    return Row(what, words or train(), expected, spoil, **more)


def every(pattern, spoil):
    """Spoils each file of a pattern."""
    return lambda here: [spoil(str(p.relative_to(here)))(here) for p in here.glob(pattern)]


def loop(here):
    (here / "data/train/ball/loop").symlink_to("..")


def deep(here):
    os.makedirs(here / "data/train/ball" / "/".join("d" * 200 for _ in range(10)))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n%%EndComments\nshowpage\n%%EOF\n"
ROWS = [
    photo("is empty", write(PHOTO), "00.jpg", "empty"),
    photo("is text", write(PHOTO, "no picture"), "00.jpg"),
    photo("is cut", cut(PHOTO), "00.jpg", "truncated"),
    photo("is cut within its header", cut(PHOTO, 0.05), "00.jpg", "truncated"),
    photo("is a folder", folder(PHOTO), "00.jpg"),
    photo("is a pipe", fifo(PHOTO), "00.jpg"),
    photo("is a device without end", link(PHOTO, "/dev/zero"), "00.jpg"),
    photo("links to nothing", link(PHOTO, "nothing.jpg"), "00.jpg"),
    photo("links to itself", link(PHOTO, "00.jpg"), "00.jpg"),
    photo("may not be read", closed(PHOTO), "00.jpg"),
    photo("is an EPS file", write(PHOTO, EPS), "00.jpg"),
    photo("is a PDF", write(PHOTO, b"%PDF-1.4\n" + b"\n" * 200), "00.jpg"),
    photo("is an SVG", write(PHOTO, "<svg xmlns='http://www.w3.org/2000/svg'/>"), "00.jpg"),
    photo("is a PSD", write(PHOTO, b"8BPS\0\1" + bytes(60)), "00.jpg"),
    photo(
        "is a FITS file", write(PHOTO, b"SIMPLE  =                    T" + b" " * 3000), "00.jpg"
    ),
    photo("is an ICO", encoded(PHOTO, "ICO"), "00.jpg", doubt="README lists no ICO"),
    photo("is a PCX", encoded(PHOTO, "PCX"), "00.jpg", doubt="README lists no PCX"),
    photo("is a huge PNG", lambda h: write(PHOTO, huge_png())(h), "00.jpg", "30000"),
    photo("is zeros", write(PHOTO, bytes(5000)), "00.jpg"),
    photo("is a JPEG's first bytes alone", write(PHOTO, b"\xff\xd8\xff"), "00.jpg"),
    photo("is a PNG's first bytes alone", write(PHOTO, b"\x89PNG\r\n\x1a\n"), "00.jpg"),
    photo("is a TIFF of loops", write(PHOTO, b"II*\0\x08\0\0\0" + b"\xff" * 40), "00.jpg"),
    photo("is a GIF cut short", write(PHOTO, b"GIF89a\x30\0\x30\0\xf0\0\0"), "00.jpg"),
    photo("is a WebP cut short", write(PHOTO, b"RIFF\x99\0\0\0WEBPVP8 \x10\0\0\0"), "00.jpg"),
    photo(
        "is a BMP of 2 GP",
        write(
            PHOTO,
            b"BM" + bytes(12) + b"\x28\0\0\0" + b"\xff\xff\0\0" * 2 + b"\1\0\x18\0" + bytes(24),
        ),
        "00.jpg",
    ),
    row("all photos to train on are empty", every("data/train/*/*.jpg", write), "train"),
    row(
        "all photos to test on are empty",
        every("data/test/*/*.jpg", write),
        "test",
        words=train("--config.data.max_corrupt=99"),
    ),
    row(
        "all photos to tune on are empty",
        every("data/tune/*/*.jpg", write),
        "tune",
        words=train("--config.data.max_corrupt=99"),
    ),
    row(
        "all training photos unreadable, all forgiven",
        every("data/train/*/*.jpg", write),
        "train",
        words=train("--config.data.max_corrupt=99"),
    ),
    row("no data folder", remove("data"), "data", "missing"),
    row("a data folder that is a file", both(remove("data"), write("data")), "data"),
    row("a data folder that may not be read", closed("data"), "data"),
    row("a list that may not be read", closed("data/train"), "train"),
    row("a class that may not be read", closed("data/train/ball"), "ball"),
    row("a data folder that links to itself", both(remove("data"), link("data", "data")), "data"),
    row("an empty class", lambda h: (h / "data/train/zebra").mkdir(), "zebra"),
    row(
        "a class that training lacks",
        lambda h: (h / "data/test/ball").rename(h / "data/test/bal"),
        "'ball'",
    ),
    row(
        "a list without classes",
        both(remove("data/train/ball"), remove("data/train/bar"), remove("data/train/cross")),
        "train",
    ),
    row(
        "a class with a line end in its name",
        lambda h: (h / "data/train/a\nerror: b").mkdir(),
        "error: b",
        "no photo",
    ),
    row(
        "a class with an escape code in its name",
        lambda h: (h / "data/train/\x1b[31mred").mkdir(),
        "no photo",
    ),
    row(
        "a class whose name is no UTF-8",
        lambda h: os.mkdir(os.fsencode(h) + b"/data/train/\xff\xfe"),
        "no photo",
    ),
    row("a folder of folders without end", loop, "", status=0),
    row("a folder 2000 characters deep", deep, "", status=0),
    row("a root of 6000 characters", None, "long", words=train(root="d" * 6000)),
    row("no test list", None, "test", words=train("--config.data.test=")),
    row(
        "a list that leads out",
        None,
        "..",
        words=train("--config.data.train=../../etc"),
        doubt="the words",
    ),
    boxes("none such", remove(BOXES)),
    boxes("a folder", folder(BOXES)),
    boxes("a pipe", fifo(BOXES)),
    boxes("may not be read", closed(BOXES)),
    boxes("empty", write(BOXES)),
    boxes("no header", write(BOXES, "train/ball/00.jpg,1,2,3,4\n"), "boxes.csv", "image,x0"),
    boxes("no UTF-8", line(BOXES, b"train/ball/\xff.jpg,1,2,3,4", 2)),
    boxes(
        "UTF-16", lambda h: write(BOXES, (HEAD + "train/ball/00.jpg,1,2,3,4\n").encode("utf-16"))(h)
    ),
    boxes("a NUL", line(BOXES, "train/ball/00.jpg\0,1,2,3,4", 2)),
    boxes("too few values", line(BOXES, "train/ball/00.jpg,1,2,3", 2), "line 2"),
    boxes("too many values", line(BOXES, "train/ball/00.jpg,1,2,3,4,5,6", 2), "line 2"),
    boxes("words for numbers", line(BOXES, "train/ball/00.jpg,a,b,c,d", 2), "line 2"),
    boxes("NaN", line(BOXES, "train/ball/00.jpg,nan,2,3,4", 2), "line 2"),
    boxes("infinity", line(BOXES, "train/ball/00.jpg,1,2,inf,4", 2), "line 2"),
    boxes("1e300", line(BOXES, "train/ball/00.jpg,1,2,1e300,1e300", 2), "line 2"),
    boxes("outside of the photo", line(BOXES, "train/ball/00.jpg,1,2,999,4", 2), "line 2", "48x48"),
    boxes("corners the wrong way", line(BOXES, "train/ball/00.jpg,9,9,3,3", 2), "line 2"),
    boxes("a photo that is not there", line(BOXES, "train/ball/99.jpg,1,2,3,4", 2), "line 2"),
    boxes(
        "outside of the folder",
        both(copied(PHOTO, "out.jpg"), line(BOXES, "../out.jpg,1,2,3,4", 2)),
        "line 2",
    ),
    boxes("an absolute path", line(BOXES, "/etc/passwd,1,2,3,4", 2), "line 2"),
    boxes("a field of 400 kB", line(BOXES, "x" * 400_000 + ",1,2,3,4", 2)),
    boxes("an open quote", line(BOXES, '"train/ball/00.jpg,1,2,3,4', 2)),
    boxes(
        "a class that is none",
        write(BOXES, "image,x0,y0,x1,y1,class\ntrain/ball/00.jpg,1,2,3,4,7\n"),
        "line 2",
        "'7'",
    ),
    boxes(
        "a number of 400 digits", line(BOXES, f"train/ball/00.jpg,1,2,{'9' * 400},4", 2), "line 2"
    ),
    boxes("a device without end", link(BOXES, "/dev/zero")),
    boxes("an escape code", append(BOXES, "train/\x1b[31m.jpg,1,2,3,4\n")),
    boxes(
        "a line end of a Mac",
        write(BOXES, "image,x0,y0,x1,y1\rtrain/ball/00.jpg,1,2,99,4\r"),
        "boxes.csv",
    ),
    labels("empty", "", "line 1"),
    labels("no header", "train/ball/00.jpg,ball\n", "line 1", "image,labels"),
    labels("columns between semicolons", "image;labels\n", "line 1", "commas"),
    labels("no UTF-8", b"image,labels\ntrain/ball/\xff.jpg,ball\n"),
    labels("no rows", LABELS, "names no photo"),
    labels("a photo that is not there", LABELS + "train/ball/99.jpg,ball\n", "line 2", "99.jpg"),
    labels("outside of the folder", LABELS + "../out.jpg,ball\n", "line 2"),
    labels("a pipe's name", LABELS + "/dev/stdin,ball\n", "line 2"),
    labels("too many values", LABELS + "train/ball/00.jpg,ball,bar\n", "line 2", ";"),
    labels("a photo twice", LABELS + 2 * "train/ball/00.jpg,ball\n", "line 3", "line 2"),
    labels("an open quote", LABELS + '"train/ball/00.jpg,ball\n'),
    labels(
        "a list that is none",
        "image,labels,split\ntrain/ball/00.jpg,ball,trian\n",
        "line 2",
        "'trian'",
        "train, tune, test",
    ),
    labels(
        "a label that is not learnt",
        LABELS + "train/ball/00.jpg,ball\ntune/ball/00.jpg,ball\ntest/ball/00.jpg,bal\n",
        "line 4",
        "'bal'",
        "'ball'",
    ),
    labels(
        "a photo without a label",
        LABELS + "train/ball/00.jpg,\ntune/ball/00.jpg,ball\ntest/ball/00.jpg,ball\n",
    ),
    row(
        "labels: an escape code",
        write(TABLE, LABELS + "train/ball/00.jpg,\x1b[31mball\n"),
        "list test",
    ),
    coco("empty", "", "no JSON"),
    coco("cut", json.dumps(one_object())[:90], "no JSON"),
    coco("nested without end", "[" * 200_000, "no JSON"),
    coco("a list", [], "expected images"),
    coco("no categories", {"images": [], "annotations": []}, "categories"),
    coco("no images", {"images": [], "annotations": [], "categories": []}, "names no photo"),
    coco("another category", one_object(category_id=2), "annotations[0].category_id"),
    coco("a box of NaN", one_object(bbox=[0, 0, float("nan"), 1]), "annotations[0].bbox"),
    coco("a box outside", one_object(bbox=[0, 0, 90, 1]), "annotations[0].bbox", "48x48"),
    coco(
        "half a corner", one_object(segmentation=[[1, 2, 3, 4, 5]]), "annotations[0].segmentation"
    ),
    coco(
        "runs without end",
        one_object(segmentation={"counts": [2**60, 2**60], "size": [48, 48]}),
        "annotations[0].segmentation.counts",
    ),
    coco(
        "a packed text that is none",
        one_object(segmentation={"counts": "\x1b[31m", "size": [48, 48]}),
        "annotations[0].segmentation.counts",
    ),
    row("no folder of masks", None, "data.masks", words=train("--config.data.masks=nowhere")),
    row("a layout that is none", None, "data.layout", words=train("--config.data.layout=tree")),
    row(
        "a table that is a pipe",
        fifo("t.csv"),
        "t.csv",
        words=train("--config.data.labels=t.csv"),
    ),
    row(
        "a table that is not there", None, "none.csv", words=train("--config.data.labels=none.csv")
    ),
    row(
        "a COCO file that is not there",
        None,
        "none.json",
        words=train("--config.data.coco=none.json"),
    ),
    row(
        "two files of labels",
        None,
        "data.labels",
        "data.coco",
        words=train("--config.data.coco=a.json", "--config.data.labels=b.csv"),
    ),
]


@table(ROWS)
def test_a_training_on_a_bad_folder_is_refused(kit, here, row):
    check(kit, "main", row, here, ["data"])
