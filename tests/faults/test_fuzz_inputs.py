"""Damaged files of every kind that a stranger hands in: one of the package's errors, never more.

Small valid files are mutated from a seed and read by the package's own readers, in this process.
"""

import io
import json
import pathlib
import resource
import signal
import time
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from wsol_jax.base.errors import UserError
from wsol_jax.data.decode import CorruptImage, decode_rgb, image_size
from wsol_jax.data.index_png import read_index_png
from wsol_jax.data.label_formats import regions
from wsol_jax.data.pseudo_labels import LabelFolder
from wsol_jax.data.sources.annotations import read_annotation
from wsol_jax.data.sources.coco_masks import paint
from wsol_jax.data.sources.cub import open_cub
from wsol_jax.data.sources.folder_boxes import read_boxes
from wsol_jax.data.sources.folder_coco import read_coco
from wsol_jax.data.sources.folder_table import Photos, read_table
from wsol_jax.data.sources.left_out import PassedOver
from wsol_jax.data.sources.voc import open_voc
from wsol_jax.data.sources.voc_labels import read_image_labels
from wsol_jax.evaluate.stored.layout import BadFile, load_map, read_metadata
from wsol_jax.evaluate.stored.masks import MaskFiles, load_masks
from wsol_jax.evaluate.stored.predictions import read_predictions, read_probabilities
from wsol_jax.networks.backbones.table import BACKBONES
from wsol_jax.networks.weights import files, names

DECLARED = (UserError, CorruptImage, BadFile)
SECONDS = 20
RNG = np.random.default_rng(0)
IDS = ("a/one.jpg", "two, three.png")


class Kind(NamedTuple):
    """A kind of file. ``place``: below the folder that ``read`` gets."""

    place: str
    valid: bytes
    read: Callable[[pathlib.Path], object]


def bytes_of(write: Callable, *arguments, **options) -> bytes:
    buffer = io.BytesIO()
    write(buffer, *arguments, **options)
    return buffer.getvalue()


def picture(kind: str, mode: str = "RGB") -> bytes:
    image = Image.fromarray(RNG.integers(0, 5, (12, 16, 3), np.uint8) * 40)
    return bytes_of(image.convert(mode).save, format=kind)


def weights() -> dict[str, np.ndarray]:
    return {
        f"block{i}_conv1/{kind}": RNG.random(shape, np.float32)
        for i in (1, 2)
        for kind, shape in (("kernel", (3, 3, 4, 4)), ("bias", (4,)))
    }


def legacy_h5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in weights().items():
            layer, kind = name.split("/")
            packed = "gzip" if kind == "kernel" else None
            file.create_dataset(f"{layer}/{layer}/{kind}:0", data=array, compression=packed)
    return buffer.getvalue()


def keras_3_h5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for number, (name, array) in enumerate(weights().items()):
            group = file.create_group(f"layers/conv2d_{number}/vars")
            group.attrs["name"] = name.split("/")[0]
            group["0"] = array
    return buffer.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def read_weights(path: pathlib.Path) -> None:
    arrays = files.read_arrays(path)
    names.targets(arrays, BACKBONES["vgg16"].published(), files.layout_of(arrays))


def read_folder_labels(folder: pathlib.Path) -> None:
    LabelFolder(folder, {"parts": regions()}).read("one")


def read_photo(path: pathlib.Path) -> None:
    assert decode_rgb(str(path), "photo").shape[1::-1] == image_size(str(path))


def photos() -> Photos:
    return Photos([name for name in EXTRA if name.endswith(".jpg")], ("",))


def read_objects(path: pathlib.Path) -> None:
    names, found = read_coco(path, photos(), PassedOver())
    for photo in found:
        if photo.size is not None and photo.objects is not None:
            paint(photo.objects, names, photo.size)


def read_map(path: pathlib.Path) -> None:
    assert np.isfinite(load_map(str(path), resize=True)).all()


PROBABILITIES = dict(image_ids=np.array(IDS), probabilities=RNG.random((2, 7)))
DICTIONARY = np.array({"2007_000032": np.eye(20)[3], "2007_000033": np.eye(20)[7]}, object)
ANNOTATION = b"""<?xml version="1.0" encoding="UTF-8"?>
<annotation><filename>a.jpg</filename><size><width>16</width><height>12</height></size>
<object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>10</ymax></bndbox>
</object></annotation>"""
META = {"image_ids": "\n".join(IDS), "localization": f"{IDS[0]},1,2,3,4\n{IDS[1]},0,0,9.5,8\n"}
META |= {"image_sizes": f"{IDS[0]},16,12\n{IDS[1]},20,30\n", "class_labels": f"{IDS[0]},1\n"}
CUB = {
    "images": "1 001.Crow/a.jpg\n2 001.Crow/b.jpg\n",
    "classes": "1 001.Crow\n",
    "image_class_labels": "1 1\n2 1\n",
    "train_test_split": "1 1\n2 0\n",
    "bounding_boxes": "1 1.0 2.0 9.0 8.0\n2 1.0 2.0 9.0 8.0\n",
}
OBJECT = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 5.5, 6]}
RUNS = {"counts": [20, 30, 142], "size": [12, 16]}
COCO = {
    "images": [
        {"id": 1, "file_name": "cub/images/001.Crow/a.jpg", "width": 16, "height": 12},
        {"id": 2, "file_name": "cub/images/001.Crow/b.jpg", "width": 16, "height": 12},
    ],
    "annotations": [
        {**OBJECT, "segmentation": [[1, 2, 6.5, 2, 6.5, 8, 1, 8]]},
        {**OBJECT, "segmentation": RUNS, "iscrowd": 1},
        {**OBJECT, "segmentation": {**RUNS, "counts": "d0n0^4"}, "image_id": 2},
    ],
    "categories": [{"id": 3, "name": "crow"}],
}
EXTRA = {
    **{f"metadata/{name}.txt": text.encode() for name, text in META.items()},
    **{f"cub/{name}.txt": text.encode() for name, text in CUB.items()},
    "cub/images/001.Crow/a.jpg": picture("JPEG"),
    "cub/images/001.Crow/b.jpg": picture("JPEG"),
    "voc/JPEGImages/a.jpg": picture("JPEG"),
    "voc/Annotations/a.xml": ANNOTATION,
    "voc/ImageSets/Main/train.txt": b"a\n",
}


def kinds() -> dict[str, Kind]:
    found = {
        "predictions.npz": Kind(
            "p.npz",
            bytes_of(np.savez_compressed, **PROBABILITIES),
            lambda root: read_probabilities(root / "p.npz", "--predictions"),
        ),
        "predictions.txt": Kind(
            "p.txt",
            f"{IDS[0]},3,2,1\n{IDS[1]},5,4,0\n".encode(),
            lambda root: read_predictions(root / "p.txt", read_metadata(root / "metadata")),
        ),
        "map.npy": Kind(
            "m.npy",
            bytes_of(np.save, RNG.random((9, 7))),
            lambda root: read_map(root / "m.npy"),
        ),
        "cls_labels.npy": Kind(
            "c.npy",
            bytes_of(np.save, DICTIONARY, allow_pickle=True),
            lambda root: read_image_labels(root / "c.npy"),
        ),
        "labels.npz": Kind(
            "one.npz",
            bytes_of(np.savez_compressed, values=np.arange(12, dtype=np.int32).reshape(3, 4)),
            read_folder_labels,
        ),
        "annotation": Kind("a.xml", ANNOTATION, lambda root: read_annotation(root / "a.xml")),
        "boxes.csv": Kind(
            "b.csv",
            b"image,x0,y0,x1,y1,class\ncub/images/001.Crow/a.jpg,1,2,3,4,crow\n",
            lambda root: read_boxes(root / "b.csv", root, ("crow",)),
        ),
        "table of labels": Kind(
            "t.csv",
            b"image,labels,split\ncub/images/001.Crow/a.jpg,crow;wren,train\n",
            lambda root: read_table(root / "t.csv", photos(), ("train", "test"), PassedOver()),
        ),
        "coco": Kind(
            "c.json", json.dumps(COCO).encode(), lambda root: read_objects(root / "c.json")
        ),
        "index png": Kind(
            "i.png", picture("PNG", "P"), lambda root: read_index_png(root / "i.png")
        ),
        "mask png": Kind(
            "k.png",
            picture("PNG", "L"),
            lambda root: load_masks(MaskFiles((str(root / "k.png"),), (), plain=False)),
        ),
        "voc list": Kind(
            "voc/ImageSets/Main/train.txt", b"a\n", lambda root: open_voc(root / "voc", "train")
        ),
    }
    weight_files = {
        "w.npz": bytes_of(np.savez, **weights()),
        "w.h5": legacy_h5(),
        "w3.h5": keras_3_h5(),
        "w.keras": zipped("model.weights.h5", keras_3_h5()),
        "w.safetensors": save({name.replace("/", "."): a for name, a in weights().items()}),
        "w.pth": zipped("archive/data.pkl", b"\x80\x02}q\x00."),
    }
    for place, valid in weight_files.items():
        found[place] = Kind(place, valid, lambda root, place=place: read_weights(root / place))
    for name in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "PPM", "WEBP"):
        found[name] = Kind("photo.jpg", picture(name), lambda root: read_photo(root / "photo.jpg"))
    for name, text in META.items():
        found[name] = Kind(
            f"metadata/{name}.txt", text.encode(), lambda root: read_metadata(root / "metadata")
        )
    for name, text in CUB.items():
        found[f"cub {name}"] = Kind(
            f"cub/{name}.txt", text.encode(), lambda root: open_cub(root / "cub", "train")[0]
        )
    return found


KINDS = kinds()


def mutated(valid: bytes, rng: np.random.Generator) -> bytes:
    """The file with some bytes flipped, cut off, put elsewhere, put in or set to extremes."""
    data = bytearray(valid)
    for _ in range(int(rng.integers(1, 4))):
        at, much = int(rng.integers(0, len(data) + 1)), int(rng.integers(1, 17))
        match int(rng.integers(0, 6)):
            case 0:
                for place in rng.integers(0, max(len(data), 1), much):
                    if data:
                        data[int(place)] ^= 1 << int(rng.integers(0, 8))
            case 1:
                del data[at:]
            case 2:
                start = int(rng.integers(0, len(data) + 1))
                data[at : at + much] = data[start : start + 4 * much]
            case 3:
                data[at:at] = rng.bytes(much)
            case 4:
                data[at : at + 8] = [b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7][at % 3]
            case 5:
                data[at : at + 1] = [b"9" * 400, b"-", b"1e300", b"nan", b"\n", b"../", b"<"][
                    much % 7
                ]
    return bytes(data)


def write(root: pathlib.Path, place: str, data: bytes) -> None:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def root(tmp_path):
    for place, data in EXTRA.items():
        write(tmp_path, place, data)
    return tmp_path


@pytest.fixture
def alarm():
    def ring(*_):
        raise TimeoutError("a reader waits")

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def outcome(kind: Kind, root: pathlib.Path, data: bytes) -> str:
    """Reads a damaged file: "read", or the declared error's text; anything else comes out."""
    write(root, kind.place, data)
    signal.alarm(3 * SECONDS)  # of the clock: a busy machine may stop us for a while
    start = time.process_time()
    try:
        kind.read(root)
        return "read"
    except DECLARED as error:
        assert str(error)
        return str(error)
    finally:
        signal.alarm(0)
        write(root, kind.place, EXTRA.get(kind.place, kind.valid))
        assert time.process_time() - start < SECONDS


def fuzz(root: pathlib.Path, seeds: range) -> None:
    """One mutation a seed, the kinds in turn; memory grows by less than 1 GB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in seeds:
        name, kind = list(KINDS.items())[seed % len(KINDS)]
        data = mutated(kind.valid, np.random.default_rng(seed))
        try:
            outcome(kind, root, data)
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed}: {error!r} of {data[:300]!r}") from error
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KB


@pytest.mark.parametrize("name", KINDS)
def test_the_files_are_valid_before_they_are_damaged(root, alarm, name):
    told = outcome(KINDS[name], root, KINDS[name].valid)
    assert told == "read" or name == "w.pth"  # which needs PyTorch


def test_damaged_files_are_refused_in_a_sentence(root, alarm):
    fuzz(root, range(40))


@pytest.mark.slow
def test_many_damaged_files_are_refused_in_a_sentence(root, alarm):
    fuzz(root, range(1000, 1500))
