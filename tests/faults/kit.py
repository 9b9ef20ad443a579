"""What the rows damage: small data sets, two finished runs, weight files, maps; made once."""

import contextlib
import functools
import os
import pathlib
import shutil

import cv2
import h5py
import numpy as np
import tiny
from helpers import sec_runs
from helpers.stored import IDS, write_masks, write_tree
from helpers.voc import write_voc
from safetensors.numpy import save_file

from faults.server import Done, Server

_GS = '#!/bin/sh\necho "$0 $@" >> "$WSOL_FAULTS_GS"\nexit 1\n'
_PROGRAMS = ("gs", "gswin32c", "gswin64c", "djpeg", "dvips", "xdg-open")
# Of the staged run: SEC behind one small classifier, on VOC's layout.
_STAGED = {**sec_runs.FIELDS, "stage.segment.train.epochs": 1.0}
_VGG = {
    "block1_conv1": (3, 3, 3, 8),
    "block1_conv2": (3, 3, 8, 8),
    "block2_conv1": (3, 3, 8, 16),
    "block2_conv2": (3, 3, 16, 16),
}


def train(*more: str, workdir: str = "w", root: str = "data", **options) -> list[str]:
    """Flags of a short training on the kit's folder of photos; paths are the row's own."""
    return tiny.flags(root, workdir, *more, **{"epochs": 2, **options})


def field(name: str, value: object) -> list[str]:
    """A training with one field set otherwise."""
    return train(f"--config.{name}={value}")


def staged(*more: str, workdir: str = "staged", root: str = "voc") -> list[str]:
    """Flags of the kit's run in stages."""
    fields = [f"--config.{name}={value}" for name, value in _STAGED.items()]
    return on("voc", root, *fields, *more, workdir=workdir, method="sec")


def on(data: str, root: str, *more: str, keys: str = "", **options) -> list[str]:
    """A training on another data set."""
    words = train(*more, **options)
    place = ":folder,root=data,boxes=data/boxes.csv"
    assert words[0].count(place) == 1
    return [words[0].replace(place, f":{data},root={root}{keys}"), *words[1:]]


def voc(*more: str, **options) -> list[str]:
    """A training on the kit's VOC folder, several labels an image."""
    return on("voc", "voc", "--config.data.multi_label=true", *more, **options)


def pretrained(file: str, *more: str) -> list[str]:
    """A training of two blocks of VGG16 from a weight file."""
    fields = {"model.weights": file, "model.final_endpoint": "conv2_2"}
    words = train(*(f"--config.{k}={v}" for k, v in fields.items()), *more)
    config = words[0].replace("mobilenet_v2", "vgg16").replace("width=0.25", "width=0.125")
    return [config, *words[1:]]


def vgg_arrays() -> dict[str, np.ndarray]:
    """The weights of that network, by Keras' names."""
    rng = np.random.default_rng(0)
    kernels = {f"{name}/kernel": rng.normal(size=shape) for name, shape in _VGG.items()}
    biases = {f"{name}/bias": rng.normal(size=shape[-1]) for name, shape in _VGG.items()}
    return {name: x.astype(np.float32) for name, x in (kernels | biases).items()}


class Kit:
    """A folder of things to damage, each made when a row first needs it."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.server = Server()
        self._makers = {
            "data": tiny.write_folder,
            "photos": _write_photos,
            "voc": write_voc,
            "cub": _write_cub,
            "ilsvrc": _write_ilsvrc,
            "weights": _write_weights,
            "stored": _write_stored,
            "crf": _write_crf,
            "run": self._write_run,
            "other": functools.partial(self._write_run, more=["--config.seed=1"]),
            "staged": self._write_staged,
        }
        (folder / "bin").mkdir()
        for name in _PROGRAMS:
            (folder / "bin" / name).write_text(_GS)
            (folder / "bin" / name).chmod(0o755)

    def get(self, name: str) -> pathlib.Path:
        """One of the things; read it, do not write there."""
        place = self.folder / name
        if not place.exists():
            self._makers[name](place)
        return place

    def copy(self, name: str, here: pathlib.Path) -> None:
        """A copy of one of the things, times and all, below a row's folder."""
        if not (here / name).exists():
            shutil.copytree(self.get(name), here / name, symlinks=True)

    def run(self, command: str, words, here: pathlib.Path, **options) -> Done:
        """Runs a command in a row's folder."""
        env = {
            "WSOL_JAX_CACHE": str(self.folder / "cache"),
            "WSOL_FAULTS_GS": str(_mark(here)),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        return self.server.run(command, words, here, env, **options)

    def started_gs(self, here: pathlib.Path) -> bool:
        """Whether a row's command started a program that it should not."""
        return _mark(here).exists()

    def _finish(self, words) -> None:
        done = self.run("main", words, self.folder, seconds=400)
        assert done.status == 0 and not done.killed, (done.status, done.killed, done.stderr)

    def _write_run(self, place: pathlib.Path, more=()) -> None:
        self.get("data")
        self._finish(train(*more, workdir=place.name))

    def _write_staged(self, place: pathlib.Path) -> None:
        self.get("voc")
        self._finish(staged(workdir=place.name))


def _mark(here: pathlib.Path) -> pathlib.Path:
    return here.with_name(f"{here.name}.gs")


def _write_photos(root: pathlib.Path) -> None:
    rng = np.random.default_rng(3)
    root.mkdir()
    for name in ("a.jpg", "b.png", "c.jpg"):
        photo = cv2.resize(rng.integers(0, 255, (4, 5, 3), dtype=np.uint8), (60, 44))
        cv2.imwrite(str(root / name), photo)


def _write_cub(root: pathlib.Path) -> None:
    """Three classes of 13 photos, of which 11 are to train on, in CUB-200-2011's layout."""
    rng = np.random.default_rng(1)
    files = {name: [] for name in ("images", "image_class_labels", "train_test_split")}
    files["bounding_boxes"] = []
    names, number = ("001.Sooty_Tern", "002.Crow", "003.Wren"), 0
    for c, name in enumerate(names, start=1):
        (root / "images" / name).mkdir(parents=True)
        for i in range(13):
            number += 1
            photo = root / "images" / name / f"{name[4:]}_{i:04}.jpg"
            cv2.imwrite(str(photo), rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
            files["images"].append(f"{number} {name}/{photo.name}")
            files["image_class_labels"].append(f"{number} {c}")
            files["train_test_split"].append(f"{number} {int(i < 11)}")
            files["bounding_boxes"].append(f"{number} {i}.0 2.0 20.0 20.0")
    files["classes"] = [f"{c} {name}" for c, name in enumerate(names, start=1)]
    for name, rows in files.items():
        (root / f"{name}.txt").write_text("\n".join(rows) + "\n")


def _write_ilsvrc(root: pathlib.Path) -> None:
    """Three synsets in ILSVRC's layout: 2 photos each to train on, 20 to score."""
    rng = np.random.default_rng(2)
    synsets = {"n01440764": "tench", "n02012849": "crane", "n03126707": "crane, hoist"}
    root.mkdir()
    text = "".join(f"{synset} {names}\n" for synset, names in synsets.items())
    (root / "LOC_synset_mapping.txt").write_text(text)
    data, notes = root / "Data/CLS-LOC", root / "Annotations/CLS-LOC/val"
    notes.mkdir(parents=True)
    files = [f"train/{synset}/{synset}_{i}.JPEG" for synset in synsets for i in (9, 10)]
    names = [f"ILSVRC2012_val_{i:08}" for i in range(1, 21)]
    for file in (*files, *(f"val/{name}.JPEG" for name in names)):
        (data / file).parent.mkdir(parents=True, exist_ok=True)
        photo = cv2.imencode(".jpg", rng.integers(0, 255, (40, 48, 3), dtype=np.uint8))[1]
        (data / file).write_bytes(photo.tobytes())
    for i, name in enumerate(names):
        (notes / f"{name}.xml").write_text(
            "<annotation><size><width>48</width><height>40</height></size><object><name>"
            f"{sorted(synsets)[i % 3]}</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>30</xmax>"
            "<ymax>30</ymax></bndbox></object></annotation>"
        )


def _write_weights(root: pathlib.Path) -> None:
    root.mkdir()
    arrays = vgg_arrays()
    np.savez(root / "vgg.npz", **arrays)
    with h5py.File(root / "vgg.h5", "w") as file:
        for name, array in arrays.items():
            layer, kind = name.split("/")
            file[f"{layer}/{layer}/{kind}:0"] = array
    torch = {}  # torchvision's numbers of these layers, and its order of axes
    for number, layer in zip((0, 2, 5, 7), _VGG, strict=True):
        kernel = arrays[f"{layer}/kernel"].transpose(3, 2, 0, 1)
        torch[f"features.{number}.weight"] = np.ascontiguousarray(kernel)
        torch[f"features.{number}.bias"] = arrays[f"{layer}/bias"]
    save_file(torch, root / "vgg.safetensors")


def _write_stored(root: pathlib.Path) -> None:
    """Score maps, metadata, plain masks, OpenImages' masks, predictions of both kinds."""
    write_tree(root)
    write_masks(root, plain=True)
    (root / "open").mkdir()
    rows, _ = write_masks(root / "open", plain=False)
    (root / "open/masks/localization.txt").write_text("\n".join(rows))
    rng = np.random.default_rng(5)
    probabilities = rng.dirichlet(np.ones(7), len(IDS)).astype(np.float32)
    np.savez(root / "p.npz", image_ids=np.array(IDS), probabilities=probabilities)
    order = np.argsort(-probabilities, axis=1)[:, :5]
    lines = [f"{i},{','.join(map(str, row))}" for i, row in zip(IDS, order, strict=True)]
    (root / "p.txt").write_text("\n".join(lines))


def _write_crf(root: pathlib.Path) -> None:
    rng = np.random.default_rng(7)
    root.mkdir()
    cv2.imwrite(str(root / "photo.png"), rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    np.save(root / "p.npy", rng.dirichlet(np.ones(3), (24, 32)).astype(np.float32))


@contextlib.contextmanager
def opened(folder: pathlib.Path):
    """A kit for a session."""
    kit = Kit(folder)
    try:
        yield kit
    finally:
        kit.server.close()
