"""Own folders as people have them: tidy ones in each layout, and a messy one."""

import csv
import json

import numpy as np
from PIL import Image


def photo(path, size=(40, 32), seed=0, **options):
    """A JPEG or PNG of coarse noise, by its suffix; the folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).save(path, **options)
    return path


def write_table(root, rows, header=("image", "labels")):
    """root/labels.csv."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return root / "labels.csv"


def several_labels(root, count=30):
    """Photos of a cat, a dog, both or none, and the table of them."""
    rows = []
    for i in range(count):
        photo(root / f"images/{i:02}.jpg", seed=i)
        rows.append([f"{i:02}.jpg", ("cat", "dog", "cat; dog", "dog;cat", "")[i % 5]])
    return write_table(root, rows)


def coco(images, annotations, categories=("cat", "dog")):
    """The content of a COCO file: images as (file, width, height), ids from 1."""
    return {
        "images": [
            {"id": i, "file_name": name, "width": width, "height": height}
            for i, (name, width, height) in enumerate(images, start=1)
        ],
        "annotations": [{"id": i, **one} for i, one in enumerate(annotations, start=1)],
        "categories": [{"id": 10 * i, "name": n} for i, n in enumerate(categories, start=1)],
    }


def write_coco(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


# What is odd with each photo of the messy folder, by the key of its finding.
ODDITIES = {
    "trāin/dog/ünïcode näme 犬.jpg": (),
    "trāin/dog/with spaces/deep/er/1.jpg": (),
    "trāin/dog/empty.jpg": ("empty",),
    "trāin/dog/cut.jpg": ("unreadable",),
    "trāin/dog/text.png": ("unreadable",),
    "trāin/dog/is_png.jpg": ("suffix",),
    "trāin/cat/a.webp": (),
    "trāin/cat/moving.gif": ("moving",),
    "trāin/cat/grey.jpg": ("grey",),
    "trāin/cat/sixteen.png": ("deep", "grey"),
    "trāin/cat/print.jpg": ("cmyk",),
    "trāin/cat/clear.png": ("alpha",),
    "trāin/cat/dot.png": ("tiny",),
    "trāin/cat/large.jpg": ("large",),
    **{f"trāin/cat/turned{n}.jpg": ("turned",) if n > 1 else () for n in range(1, 9)},
}


def write_messy(root):
    """A folder of all that people's folders hold; the training list is called trāin.

    Each photo has its own pixels, but for one in two lists and one twice in a list.
    """
    dog, cat = root / "trāin/dog", root / "trāin/cat"
    for number, name in enumerate(ODDITIES):
        path = root / name
        if path.suffix in (".jpg", ".webp"):
            photo(path, seed=number)
    (dog / "empty.jpg").write_bytes(b"")
    (dog / "cut.jpg").write_bytes((dog / "cut.jpg").read_bytes()[:300])
    (dog / "text.png").write_text("no picture")
    photo(dog / "is.png", seed=100)
    (dog / "is.png").rename(dog / "is_png.jpg")
    rng = np.random.default_rng(7)
    frames = [Image.fromarray(rng.integers(0, 255, (32, 40, 3), dtype=np.uint8)) for _ in "123"]
    frames[0].save(cat / "moving.gif", save_all=True, append_images=frames[1:])
    frames[1].convert("L").save(cat / "grey.jpg")
    deep = rng.integers(0, 65535, (32, 40), dtype=np.uint16)
    Image.fromarray(deep).save(cat / "sixteen.png")
    with Image.open(cat / "print.jpg") as opened:
        printed = opened.convert("CMYK")
    printed.save(cat / "print.jpg")
    frames[2].convert("RGBA").save(cat / "clear.png")
    Image.fromarray(np.array([[[9, 8, 7]]], np.uint8)).save(cat / "dot.png")
    photo(cat / "large.jpg", size=(6000, 4000), seed=101)
    for n in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = n
        photo(cat / f"turned{n}.jpg", seed=20 + n, exif=exif)
    photo(root / "test/cat/1.jpg", seed=200)
    photo(root / "test/dog/1.jpg", seed=201)
    (root / "test/dog/copy of 犬.jpg").write_bytes((dog / "ünïcode näme 犬.jpg").read_bytes())
    (root / "test/cat/again.jpg").write_bytes((root / "test/cat/1.jpg").read_bytes())
    for name in ("trāin/cat/IMG_1.HEIC", "trāin/cat/notes.txt", "trāin/.hidden/1.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    photo(root / "trāin/stray.jpg", seed=202)
    photo(root / "old/cat/1.jpg", seed=203)
    return root
