"""ImageNet (ILSVRC CLS-LOC): train by class folder, val with the boxes of its XML files."""

import bisect
import dataclasses
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import shorten
from wsol_jax.base.text import lines
from wsol_jax.base.types import Config
from wsol_jax.data.records import Record, no_boxes
from wsol_jax.data.sources.annotations import clip_boxes, read_annotation

LISTS = ("train", "val", "val_tune", "val_rest")
_TUNE_EVERY = 10
_HINT = (
    "expected the ILSVRC CLS-LOC layout (ILSVRC/Data/CLS-LOC/train/nXXXXXXXX/*.JPEG, "
    "ILSVRC/Data/CLS-LOC/val/*.JPEG, ILSVRC/Annotations/CLS-LOC/val/*.xml), which "
    "https://www.kaggle.com/c/imagenet-object-localization-challenge gives to its members"
)


@dataclasses.dataclass(frozen=True)
class IlsvrcSource:
    """A list of ILSVRC as a Source; made by open_ilsvrc.

    Attributes:
      synsets: the WordNet id of each class, e.g. "n01440764".
      root: the ILSVRC folder.
      files: (N,) bytes, paths below Data/CLS-LOC; a fixed-width array, since 1.28 million strings
        would take 100 MB in each worker process.
      labels: (N,) int32, or None where the annotation tells (val).
      boxes: whether a record's annotation is read.
    """

    name: str
    class_names: tuple[str, ...]
    synsets: tuple[str, ...]
    root: str
    files: np.ndarray
    labels: np.ndarray | None
    boxes: bool

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Record:
        """Reads the annotation, if this list has boxes: 0.05 ms of parsing, hence not at opening.

        Raises UserError where it is missing (val) or names a synset that is no class.
        """
        file = os.fsdecode(self.files[index])
        stem = os.path.splitext(file)[0]
        boxes, box_labels, size = no_boxes(), np.zeros((0,), np.int32), None
        path = os.path.join(self.root, "Annotations", "CLS-LOC", f"{stem}.xml")
        # Two fifths of the training images have an annotation, all of val's have one.
        if self.boxes and (self.labels is None or os.path.exists(path)):
            annotation = read_annotation(path)
            size = annotation.size
            boxes = clip_boxes(annotation.boxes, size)
            box_labels = np.array([self._label(name, path) for name in annotation.names], np.int32)
        if self.labels is not None:
            labels = (int(self.labels[index]),)
        else:
            labels = tuple(sorted(set(box_labels.tolist())))
            if not labels:
                raise UserError(f"annotation {path} has no object: its image would have no label")
        return Record(
            image_id=file,
            image=os.path.join(self.root, "Data", "CLS-LOC", file),
            labels=labels,
            size=size,
            boxes=boxes,
            box_labels=box_labels,
        )

    @property
    def image_ids(self) -> Iterator[str]:
        """The records' ids, without their annotations."""
        return map(os.fsdecode, self.files)

    def mask(self, index: int) -> None:
        """None: ILSVRC has no masks."""
        return None

    def _label(self, synset: str, path: str) -> int:
        # Sorted, so that a search is enough where a dictionary would be pickled to every worker.
        c = bisect.bisect_left(self.synsets, synset)
        if c == len(self.synsets) or self.synsets[c] != synset:
            raise UserError(
                f"annotation {path}: {shorten(synset)} is none of the {len(self.synsets)} classes"
            )
        return c


def open_ilsvrc(
    root: str | os.PathLike, list_name: str, *, train_boxes: bool = False
) -> IlsvrcSource:
    """Opens a list of ILSVRC.

    Boxes stand in the XML files 0-based with both corners inside, as the community's metadata
    take them; they are clipped to the image. The classes are the synsets of LOC_synset_mapping.txt
    (beside or in ILSVRC), sorted; without that file the training folders, under their synset names.

    Args:
      root: the folder ILSVRC, or the one that holds it.
      list_name: "train"; "val" (50,000 images), "val_tune" (every 10th of val, for thresholds and
        hyper-parameters) or "val_rest" (val without val_tune, for the test).
      train_boxes: whether train records read their annotation, where they have one (42% do).

    Raises UserError naming what is missing, or the folder that is empty or no class.
    """
    root = pathlib.Path(root)
    if not (root / "Data").is_dir() and (root / "ILSVRC").is_dir():
        root = root / "ILSVRC"
    if list_name not in LISTS:
        raise UserError(f"ILSVRC has no list {list_name!r}: choose one of {', '.join(LISTS)}")
    data = root / "Data" / "CLS-LOC"
    part = "train" if list_name == "train" else "val"
    if not (data / part).is_dir():
        raise UserError(f"ILSVRC folder {data / part} is missing: {_HINT}")
    synsets, class_names = _classes(root)
    if part == "train":
        files, labels = _train_files(data, synsets)
    else:
        files, labels = _val_files(root, list_name), None
    return IlsvrcSource(
        name=list_name,
        class_names=class_names,
        synsets=synsets,
        root=str(root),
        files=files,
        labels=labels,
        boxes=train_boxes if part == "train" else True,
    )


def opener(data: Config, fetch: bool) -> Callable[[str], IlsvrcSource]:
    """ILSVRC's row in ``data.sources``: list name -> Source; nothing is ever fetched."""
    del fetch
    # The best fixed box is fit on the training list's boxes; batches never see them.
    return lambda name: open_ilsvrc(data.root, name, train_boxes=True)


def _classes(root: pathlib.Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(synsets, readable names), both in the order of the sorted synsets."""
    for place in (root, root.parent):
        path = place / "LOC_synset_mapping.txt"
        if path.is_file():
            return _read_mapping(path)
    train = root / "Data" / "CLS-LOC" / "train"
    synsets = tuple(sorted(entry.name for entry in train.glob("*") if _is_class(entry)))
    if not synsets:
        raise UserError(
            f"ILSVRC's classes are unknown: {root.parent / 'LOC_synset_mapping.txt'} is missing "
            f"and {train} has no class folders; {_HINT}"
        )
    return synsets, synsets


def _is_class(entry: pathlib.Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _read_mapping(path: pathlib.Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    words: dict[str, str] = {}
    for number, line in lines(path):
        synset, _, names = line.strip().partition(" ")
        if not names or synset in words:
            raise UserError(
                f"{path}, line {number}: expected a synset that occurs once and its names, as in "
                f"'n01440764 tench, Tinca tinca', not {line!r}"
            )
        words[synset] = names.strip()
    if not words:
        raise UserError(f"{path} is empty: expected lines as 'n01440764 tench, Tinca tinca'")
    # "crane" is a bird and a machine: where the first name is taken twice, all names stand.
    first = Counter(names.split(",")[0] for names in words.values())
    synsets = tuple(sorted(words))
    short = [words[synset].split(",")[0] for synset in synsets]
    return synsets, tuple(
        name if first[name] == 1 else words[synset]
        for synset, name in zip(synsets, short, strict=True)
    )


def _train_files(data: pathlib.Path, synsets: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    index = {synset: c for c, synset in enumerate(synsets)}
    files, labels = [], []
    for folder in sorted(entry for entry in (data / "train").iterdir() if _is_class(entry)):
        if folder.name not in index:
            raise UserError(
                f"{folder} is none of the {len(synsets)} classes of LOC_synset_mapping.txt"
            )
        names = _jpegs(folder)
        if not names:
            raise UserError(f"class folder {folder} holds no .JPEG: fill it or remove it")
        files += [os.fsencode(f"train/{folder.name}/{name}") for name in names]
        labels += [index[folder.name]] * len(names)
    if not files:
        raise UserError(f"ILSVRC folder {data / 'train'} has no class folders: {_HINT}")
    return np.array(files), np.array(labels, np.int32)


def _val_files(root: pathlib.Path, list_name: str) -> np.ndarray:
    folder = root / "Data" / "CLS-LOC" / "val"
    names = _jpegs(folder)
    if not names:
        raise UserError(f"ILSVRC folder {folder} holds no .JPEG (no sub-folders there): {_HINT}")
    xml = root / "Annotations" / "CLS-LOC" / "val"
    annotated = frozenset(os.listdir(xml)) if xml.is_dir() else frozenset()
    for name in names:
        if f"{os.path.splitext(name)[0]}.xml" not in annotated:
            raise UserError(
                f"annotation {xml / os.path.splitext(name)[0]}.xml is missing, where val's labels "
                f"and boxes stand: {_HINT}"
            )
    if list_name == "val_tune":
        names = names[_TUNE_EVERY - 1 :: _TUNE_EVERY]
    elif list_name == "val_rest":
        names = [name for i, name in enumerate(names, start=1) if i % _TUNE_EVERY]
    if not names:
        raise UserError(f"ILSVRC's list {list_name} is empty: val has too few images")
    return np.array([os.fsencode(f"val/{name}") for name in names])


def _jpegs(folder: pathlib.Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(
            e.name
            for e in entries
            if e.name.lower().endswith((".jpeg", ".jpg")) and not e.name.startswith(".")
        )
