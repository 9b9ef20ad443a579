"""An own folder of photos, one sub-folder a class, with boxes from an optional CSV."""

import dataclasses
import difflib
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable

import numpy as np
from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.data.records import Record, no_boxes
from wsol_jax.data.sources.folder_boxes import check_boxes, read_boxes

EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip
"""What counts as an image, in any case; other files and hidden ones are passed over."""

HASHED_LISTS = {"train": (0, 80), "tune": (80, 90), "test": (90, 100)}
"""The shares in percent, where the folder itself does not say which image is for what."""


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """A list of a folder of photos as a Source; made by open_folder."""

    name: str
    class_names: tuple[str, ...]
    records: tuple[Record, ...]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def mask(self, index: int) -> None:
        """None: folders carry no masks."""
        return None


def open_folder(
    root: str | os.PathLike,
    list_name: str,
    *,
    boxes_csv: str | os.PathLike | None = None,
    train_list: str = "train",
) -> FolderSource:
    """Opens root/LIST/CLASS/*.jpg, or cuts root/CLASS/*.jpg into lists.

    Without list folders the lists "train" (80%), "tune" (10%) and "test" (10%) are cut by a hash
    of the image's id: adding a photo moves no other one.

    Args:
      root: the folder of lists, or of classes.
      list_name: the list's folder, or one of HASHED_LISTS.
      boxes_csv: a file with the header image,x0,y0,x1,y1 or image,x0,y0,x1,y1,class and a line a
        box: the photo's path below root with "/" (its image_id), corners in pixels from 0, both
        inside the object; without a class, that of the photo's folder. A line may concern another
        list. Boxes do not change a photo's label.
      train_list: the list whose class folders, sorted by name, number the classes of all lists.

    Raises UserError naming the folder that is missing or empty, the class that the training list
    lacks, or the line of the CSV and what was expected there.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise UserError(
            f"folder {root} is missing: expected a folder with a sub-folder of photos for each "
            "class, or with such folders below train, tune and test"
        )
    if any(_folders(root / name) for name in (list_name, train_list)):
        class_names, found = _read_split(root, list_name, train_list)
    else:
        class_names, found = _cut_by_hash(root, list_name)
    boxes = {} if not boxes_csv else read_boxes(pathlib.Path(boxes_csv), root, class_names)
    records = []
    for image_id, label in found:
        rows = boxes.get(image_id, [])
        image = str(root / image_id)
        labels = [label if row.label is None else row.label for row in rows]
        records.append(
            Record(
                image_id=image_id,
                image=image,
                labels=(label,),
                size=check_boxes(image, rows) if rows else None,
                boxes=np.array([row.box for row in rows], np.float32) if rows else no_boxes(),
                box_labels=np.array(labels, np.int32),
            )
        )
    if boxes_csv and not any(len(record.boxes) for record in records):
        logging.warning("%s has no box for the list %s.", boxes_csv, list_name)
    return FolderSource(list_name, class_names, tuple(records))


def opener(data: Config, fetch: bool) -> Callable[[str], FolderSource]:
    """A folder's row in ``data.sources``: list name -> Source; nothing is ever fetched."""
    del fetch
    settings = dict(boxes_csv=data.boxes or None, train_list=data.train)
    return lambda name: open_folder(data.root, name, **settings)


def _folders(folder: pathlib.Path) -> list[str]:
    """Names of the sub-folders, sorted; hidden ones are left out. Empty where folder is absent."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _images(folder: pathlib.Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not e.name.startswith(".")]
    images = sorted(name for name in names if name.lower().endswith(EXTENSIONS))
    if not images:
        raise UserError(
            f"class folder {folder} holds no photo ({', '.join(EXTENSIONS)}; sub-folders are not "
            "searched): fill it or remove it"
        )
    return images


def _read_split(
    root: pathlib.Path, list_name: str, train_list: str
) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    """(class names, [(image id, label)]) where each list has a folder."""
    folders = _folders(root / list_name)
    if not folders:
        there = [name for name in _folders(root) if _folders(root / name)]
        near = difflib.get_close_matches(list_name, there, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(there)}"
        raise UserError(f"{root / list_name} is missing or has no class sub-folders; {hint}")
    # A folder of test photos alone can be scored too: then it numbers the classes itself.
    class_names = _folders(root / train_list) or folders
    index = {name: c for c, name in enumerate(class_names)}
    for name in folders:
        if name not in index:
            near = difflib.get_close_matches(name, class_names, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise UserError(
                f"{root / list_name / name} is a class that {root / train_list} lacks{hint}"
            )
    found = [
        (f"{list_name}/{name}/{file}", index[name])
        for name in folders
        for file in _images(root / list_name / name)
    ]
    return tuple(class_names), found


def _cut_by_hash(
    root: pathlib.Path, list_name: str
) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    """(class names, [(image id, label)]) where root holds the classes themselves."""
    class_names = _folders(root)
    if not class_names:
        raise UserError(
            f"folder {root} has no sub-folders: expected one for each class, or such folders below "
            "train, tune and test"
        )
    if list_name not in HASHED_LISTS:
        raise UserError(
            f"folder {root} has no list {list_name!r}: make {root / list_name} with class "
            f"sub-folders, or take {', '.join(HASHED_LISTS)}, which are cut from {root} itself"
        )
    low, high = HASHED_LISTS[list_name]
    found, total = [], 0
    for label, name in enumerate(class_names):
        ids = [f"{name}/{file}" for file in _images(root / name)]
        chosen = [image_id for image_id in ids if low <= _percentile(image_id) < high]
        if list_name == "train" and not chosen:
            raise UserError(
                f"class folder {root / name} has {len(ids)} photo(s), too few to cut lists from: "
                "add photos, or make the folders train, tune and test yourself"
            )
        found += [(image_id, label) for image_id in chosen]
        total += len(ids)
    if not found:
        raise UserError(
            f"list {list_name} of {root} is empty, {total} photos are too few to cut it from: add "
            "photos, or make the folders train, tune and test yourself"
        )
    _say_cut(str(root))
    return tuple(class_names), found


def _percentile(image_id: str) -> int:
    """0 to 99, the same for an id on every machine and in every run."""
    # A name that is no UTF-8 comes as surrogates.
    digest = hashlib.sha256(image_id.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % 100


@functools.cache
def _say_cut(root: str) -> None:
    logging.info(
        "%s has no train, tune and test folders: photos are assigned 80/10/10 by a hash of "
        "their path, the same in every run.",
        root,
    )
