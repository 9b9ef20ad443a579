"""CUB-200-2011: birds with one box each, and masks where the segmentations were fetched."""

import dataclasses
import os
import pathlib
from collections.abc import Callable

import numpy as np
from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_inside, shorten
from wsol_jax.base.limits import MAX_COORDINATE
from wsol_jax.base.text import lines
from wsol_jax.base.types import Config
from wsol_jax.data import decode
from wsol_jax.data.records import Record
from wsol_jax.data.sources import cub_files
from wsol_jax.data.sources.annotations import clip_boxes

LISTS = ("train", "fit", "tune", "test")
_TUNE_EVERY = 10
_HINT = (
    "expected the unpacked CUB_200_2011.tgz from https://data.caltech.edu/records/65de6-vp158 "
    "(images, images.txt, bounding_boxes.txt, ...)"
)


@dataclasses.dataclass(frozen=True)
class CubSource:
    """A list of CUB as a Source; made by open_cub.

    Attributes:
      root: the CUB_200_2011 folder.
      image_ids: paths below root/images, the ids that the wsolevaluation metadata uses too.
      labels: (N,) int32 class indices.
      boxes: (N, 4) float32 as in bounding_boxes.txt: x, y, width, height.
      mask_root: the folder of the segmentations, or None.
    """

    name: str
    class_names: tuple[str, ...]
    root: str
    image_ids: tuple[str, ...]
    labels: np.ndarray
    boxes: np.ndarray
    mask_root: str | None

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Record:
        """Reads the image's header, since the box is clipped to the image."""
        image = os.path.join(self.root, "images", self.image_ids[index])
        try:
            size = decode.image_size(image)
        except decode.CorruptImage:
            size = None  # decoding names it
        label = int(self.labels[index])
        return Record(
            image_id=self.image_ids[index],
            image=image,
            labels=(label,),
            size=size,
            boxes=clip_boxes(corners(self.boxes[index : index + 1]), size),
            box_labels=np.array([label], np.int32),
        )

    def mask(self, index: int) -> np.ndarray | None:
        """(H, W) uint8: 0 background, 1 + c the bird; None where no segmentation exists.

        The files hold how many of five annotators took a pixel for bird, times 51: more than 127
        is a majority.
        """
        if self.mask_root is None:
            return None
        stem = os.path.splitext(self.image_ids[index])[0]
        path = os.path.join(self.mask_root, f"{stem}.png")
        if not os.path.exists(path):
            return None
        try:
            with decode.open_image(path) as image:
                votes = np.asarray(image.convert("L"))  # a few files have an alpha channel
        except decode.CorruptImage as e:
            raise UserError(f"CUB mask {path} cannot be read: {e.reason}") from None
        return np.where(votes > 127, 1 + self.labels[index], 0).astype(np.uint8)


def corners(boxes: np.ndarray) -> np.ndarray:
    """Converts CUB's (N, 4) x, y, width, height to x0 y0 x1 y1, before clipping to the image.

    The community's rule, as the wsolevaluation metadata have it: x and y count from 0 as they
    stand (the smallest is 0), x1 = min(x + width, W - 1) although an inclusive corner would be
    one pixel less, fractions are dropped.
    """
    boxes = np.floor(boxes)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)


def open_cub(root: str | os.PathLike, list_name: str) -> CubSource:
    """Opens a list of CUB-200-2011.

    Args:
      root: CUB_200_2011, or the folder that holds it. The segmentations (an archive of their own)
        may lie in it or beside it.
      list_name: "train" (5,994 images), "test" (5,794), "tune" (every 10th image of each class of
        train, 594) or "fit" (train without tune).

    Raises UserError naming the missing file, or the line that is not as expected.
    """
    root = pathlib.Path(root)
    if not (root / "images.txt").is_file() and (root / "CUB_200_2011").is_dir():
        root = root / "CUB_200_2011"
    if list_name not in LISTS:
        raise UserError(f"CUB has no list {list_name!r}: choose one of {', '.join(LISTS)}")
    paths = {key: words[0] for key, words in _table(root, "images.txt", 1).items()}
    names = {key: words[0] for key, words in _table(root, "classes.txt", 1).items()}
    if sorted(names) != list(range(1, len(names) + 1)):
        raise UserError(f"{root / 'classes.txt'}: class ids must run from 1 to {len(names)}")
    labels = _column(root, "image_class_labels.txt", paths, 1, len(names))
    split = _column(root, "train_test_split.txt", paths, 0, 1)
    boxes = _boxes(root, paths)

    wanted = _choose(list_name, sorted(paths), labels, split)
    _check_photos(root, [paths[key] for key in wanted])
    masks = [place for place in (root, root.parent) if (place / "segmentations").is_dir()]
    return CubSource(
        name=list_name,
        class_names=tuple(names[key].split(".", 1)[-1].replace("_", " ") for key in sorted(names)),
        root=str(root),
        image_ids=tuple(paths[key] for key in wanted),
        labels=np.array([labels[key] - 1 for key in wanted], np.int32),
        boxes=np.array([boxes[key] for key in wanted], np.float32).reshape(-1, 4),
        mask_root=str(masks[0] / "segmentations") if masks else None,
    )


def opener(data: Config, fetch: bool) -> Callable[[str], CubSource]:
    """CUB's row in ``data.sources``: list name -> Source; ``fetch``: it may be downloaded now."""
    root = cub_files.ensure_cub(data.root) if fetch else cub_files.find_cub(data.root)
    if root is None:
        raise UserError("CUB_200_2011 is not on this machine.")
    if fetch and not data.root:  # the cache is ours to complete; a folder of the user's is not
        try:
            cub_files.ensure_cub_masks(root)
        except UserError as error:  # boxes are enough to go on with
            logging.warning("no segmentations, so no PxAP: %s", error)
    return lambda name: open_cub(root, name)


def _choose(
    list_name: str, keys: list[int], labels: dict[int, int], split: dict[int, int]
) -> list[int]:
    """The image numbers of a list, ascending."""
    seen: dict[int, int] = {}
    chosen = []
    for key in keys:
        if not split[key]:
            if list_name == "test":
                chosen.append(key)
            continue
        seen[labels[key]] = seen.get(labels[key], 0) + 1
        in_tune = seen[labels[key]] % _TUNE_EVERY == 0
        if list_name == "train" or list_name == ("tune" if in_tune else "fit"):
            chosen.append(key)
    if not chosen:
        raise UserError(
            f"CUB's list {list_name} is empty: train_test_split.txt gives it no image "
            f"(tune takes every {_TUNE_EVERY}th training image of a class)"
        )
    return chosen


def _table(root: pathlib.Path, file: str, columns: int) -> dict[int, list[str]]:
    """{number: the words behind it} of a file of lines "NUMBER WORD ..."."""
    path = root / file
    if not path.is_file():
        raise UserError(f"CUB file {path} is missing: {_HINT}")
    table: dict[int, list[str]] = {}
    for number, line in lines(path):
        words = line.split()
        if len(words) != 1 + columns or not _whole(words[0]):
            raise UserError(
                f"{path}, line {number}: expected a number and {columns} value(s), not "
                f"{shorten(line)}"
            )
        if int(words[0]) in table:
            raise UserError(f"{path}, line {number}: the number {words[0]} stands there twice")
        table[int(words[0])] = words[1:]
    if not table:
        raise UserError(f"CUB file {path} is empty: {_HINT}")
    return table


def _column(
    root: pathlib.Path, file: str, images: dict[int, str], low: int, high: int
) -> dict[int, int]:
    """{image number: a whole number from low to high}, complete for all images."""
    table = _table(root, file, 1)
    for key, (word,) in table.items():
        if not _whole(word) or not low <= int(word) <= high:
            raise UserError(
                f"{root / file}: image {key} has the value {word[:80]}, expected {low} to {high}"
            )
    _check_complete(root / file, table, images)
    return {key: int(word) for key, (word,) in table.items()}


def _boxes(root: pathlib.Path, images: dict[int, str]) -> dict[int, list[float]]:
    table = _table(root, "bounding_boxes.txt", 4)
    _check_complete(root / "bounding_boxes.txt", table, images)
    boxes = {}
    for key, words in table.items():
        try:
            box = [float(word) for word in words]
        except ValueError:
            box = []
        # Not so for NaN either.
        known = box and all(abs(value) <= MAX_COORDINATE for value in box)
        if not known or min(box[2:]) <= 0:
            raise UserError(
                f"{root / 'bounding_boxes.txt'}: image {key} has {' '.join(words)[:80]}, "
                "expected x y width height with positive width and height"
            )
        boxes[key] = box
    return boxes


def _whole(word: str) -> bool:
    """Whether a word is a whole number of at most 9 digits."""
    return word.isdecimal() and len(word) <= 9


def _check_complete(path: pathlib.Path, table: dict, images: dict) -> None:
    missing = sorted(images.keys() - table.keys())
    if missing:
        raise UserError(f"{path} has no line for image {missing[0]} of images.txt")


def _check_photos(root: pathlib.Path, paths: list[str]) -> None:
    """Lists each class folder once: asking for each photo is slow on a network disk."""
    listed: dict[str, frozenset[str]] = {}
    for path in paths:
        check_inside(path, str(root / "images.txt"))
        folder, file = os.path.split(path)
        if folder not in listed:
            place = root / "images" / folder
            listed[folder] = frozenset(os.listdir(place)) if place.is_dir() else frozenset()
        if file not in listed[folder]:
            raise UserError(f"CUB photo {root / 'images' / path} is missing: {_HINT}")
