"""PASCAL VOC folders: labels and boxes from Annotations, masks from SegmentationClass(Aug)."""

import dataclasses
import difflib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import shorten
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.base.text import lines
from wsol_jax.base.types import Config
from wsol_jax.data.index_png import read_index_png
from wsol_jax.data.records import Record, no_boxes
from wsol_jax.data.sources.annotations import Annotation, clip_boxes, read_annotation
from wsol_jax.data.sources.voc_labels import VOC_CLASSES, read_image_labels

_DOWNLOAD = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
_MASK_FOLDERS = ("SegmentationClassAug", "SegmentationClass")


@dataclasses.dataclass(frozen=True)
class VocSource:
    """A list of a VOC folder as a Source; made by open_voc.

    ``labelled``: how many of its images a file of image labels named.
    """

    name: str
    class_names: tuple[str, ...]
    records: tuple[Record, ...]
    mask_paths: tuple[str | None, ...]
    labelled: int = 0

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def mask(self, index: int) -> np.ndarray | None:
        """(H, W) uint8: 0 background, 1 + c class c, 255 ignore; None where no PNG exists.

        Pixels of VOC classes outside class_names are background. Raises UserError for a file that
        holds colours, an index beyond VOC's 20, or another size than the annotation's.
        """
        path = self.mask_paths[index]
        if path is None:
            return None
        codes = read_index_png(path, self.records[index].size)
        bad = (codes > len(VOC_CLASSES)) & (codes != UNLABELLED)
        if bad.any():
            raise UserError(
                f"mask {path} holds the value {int(codes[bad][0])}: expected 0 (background), "
                f"1 to {len(VOC_CLASSES)} (VOC's classes) or {UNLABELLED} (ignore)"
            )
        table = np.zeros(256, np.uint8)
        table[UNLABELLED] = UNLABELLED
        for c, name in enumerate(self.class_names):
            table[1 + VOC_CLASSES.index(name)] = 1 + c
        return table[codes]


def open_voc(
    root: str | os.PathLike,
    list_name: str,
    *,
    classes: Sequence[str] | None = None,
    multi_label: bool = False,
    labels: Mapping[str, Sequence[int]] | None = None,
) -> VocSource:
    """Opens ImageSets/{Segmentation,Main}/LIST.txt of a VOC folder.

    Args:
      root: the folder that holds JPEGImages, Annotations and ImageSets (VOC2012).
      list_name: LIST, looked for in Segmentation, then Main; "Main/train" names the folder too.
        Of lines "ID -1/0/1" (CLASS_train.txt) those with 1 are taken. Or the path of such a file.
      classes: names that get the indices 0, 1, ...; None is all 20 in VOC's order. Objects of
        other classes are left out of labels, boxes and masks.
      labels: image id -> indices of VOC's classes, instead of those of the objects; see
        ``voc_labels``. An image of the list that it lacks takes its objects'.
      multi_label: whether images may show several or none of the classes. If not, such an image
        is an error, since single-label training and scoring would be wrong without a word.

    Boxes: VOC's are 1-based with both corners inside, so 1 is subtracted; then clipped to the
    image. Objects marked difficult are kept, and told by ``Record.difficult``. Labels are the
    classes of all objects, whether or not the mask shows them.

    Raises UserError naming what is missing, unreadable, unknown or against multi_label.
    """
    root = pathlib.Path(root)
    names = _checked_classes(classes)
    index = {name: c for c, name in enumerate(names)}
    ids, annotations = _read_list(root, list_name, labels or {})
    folders = [(root / folder, _files(root / folder)) for folder in _MASK_FOLDERS]
    records, masks = [], []
    for image_id, annotation in zip(ids, annotations, strict=True):
        kept = [i for i, name in enumerate(annotation.names) if name in index]
        box_labels = np.array([index[annotation.names[i]] for i in kept], np.int32)
        shown_classes = set(box_labels.tolist())
        if labels is not None and image_id in labels:
            named = (VOC_CLASSES[c] for c in labels[image_id])
            shown_classes = {index[name] for name in named if name in index}
        own = tuple(sorted(shown_classes))
        if not multi_label and len(own) != 1:
            shown = " and ".join(names[c] for c in own) or "none of the chosen classes"
            cure = "pass classes that contain one of its objects" if not own else "fewer classes"
            raise UserError(
                f"list {list_name}: image {image_id} shows {shown}, but single-label use needs "
                f"exactly one: set multi_label, take another list, or {cure}"
            )
        records.append(
            Record(
                image_id=image_id,
                image=_photo(root, image_id),
                labels=own,
                size=annotation.size,
                boxes=clip_boxes(annotation.boxes[kept] - 1, annotation.size),
                box_labels=box_labels,
                difficult=annotation.difficult[kept],
            )
        )
        png = f"{image_id}.png"
        masks.append(next((str(folder / png) for folder, files in folders if png in files), None))
    name = pathlib.PurePath(list_name)
    name = name.stem if name.suffix == ".txt" else list_name
    known = sum(image_id in (labels or {}) for image_id in ids)
    return VocSource(name, names, tuple(records), tuple(masks), known)


def opener(data: Config, fetch: bool) -> Callable[[str], VocSource]:
    """VOC's row in ``data.sources``: list name -> Source; nothing is ever fetched."""
    del fetch
    classes = None if data.multi_label else voc_classes_in(data.root, data.train)
    labels = read_image_labels(data.labels) if data.labels else None
    settings = dict(classes=classes, multi_label=data.multi_label, labels=labels)
    return lambda name: open_voc(data.root, name, **settings)


def voc_classes_in(root: str | os.PathLike, list_name: str) -> tuple[str, ...]:
    """Finds the classes with at least one object in a list, in VOC's order.

    For single-label use take the train list's classes for all lists, so that indices agree.
    """
    _, annotations = _read_list(pathlib.Path(root), list_name, {})
    present = {name for annotation in annotations for name in annotation.names}
    return tuple(name for name in VOC_CLASSES if name in present)


def _checked_classes(classes: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(VOC_CLASSES if classes is None else classes)
    for name in names:
        if name not in VOC_CLASSES:
            near = difflib.get_close_matches(name, VOC_CLASSES, n=1)
            hint = f", did you mean {near[0]!r}?" if near else f": {', '.join(VOC_CLASSES)}"
            raise UserError(f"class {name!r} is not one of VOC's {len(VOC_CLASSES)}{hint}")
    if not names or len(set(names)) != len(names):
        raise UserError(f"classes must be one or more different names, not {list(names)}")
    return names


def _files(folder: pathlib.Path) -> frozenset[str]:
    return frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()


def list_photos(root: str | os.PathLike, list_name: str, archive: str) -> dict[str, str]:
    """Finds the photos of a list: image id -> path. Nothing is asked of their annotations.

    Args:
      root, list_name: as for ``open_voc``.
      archive: where such a folder comes from.

    Raises UserError naming what is missing or wrong.
    """
    root = pathlib.Path(root)
    _check_folders(root, ("JPEGImages", "ImageSets"), archive)
    ids = _read_ids(root, _list_path(root, list_name))
    return {image_id: _photo(root, image_id) for image_id in ids}


def _photo(root: pathlib.Path, image_id: str) -> str:
    return str(root / "JPEGImages" / f"{image_id}.jpg")


def _check_folders(root: pathlib.Path, folders: Sequence[str], archive: str) -> None:
    """Raises UserError, which says how to get it, where one is missing."""
    for folder in folders:
        if not (root / folder).is_dir():
            raise UserError(
                f"VOC folder {root} has no {folder}: expected the VOC2012 layout (JPEGImages, "
                f"Annotations, ImageSets); unpack {archive} and give .../VOCdevkit/VOC2012"
            )


def _list_path(root: pathlib.Path, list_name: str) -> pathlib.Path:
    """The list's file, or a UserError that says what is there instead."""
    sets = root / "ImageSets"
    if list_name.endswith(".txt"):
        if pathlib.Path(list_name).is_file():
            return pathlib.Path(list_name)
        raise UserError(
            f"list {list_name}: there is no such file; those of {sets} are named without .txt"
        )
    # Segmentation first: its lists are the ones with masks, and Main repeats their names.
    places = [sets] if "/" in list_name else [sets / "Segmentation", sets / "Main"]
    for place in places:
        if (place / f"{list_name}.txt").is_file():
            return place / f"{list_name}.txt"
    folders = [(place / list_name).parent for place in places]
    known = sorted({path.stem for folder in folders for path in folder.glob("*.txt")})
    near = difflib.get_close_matches(pathlib.PurePath(list_name).name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
    where = " or ".join(map(str, places))
    raise UserError(f"list {list_name}.txt is not in {where}; {hint}")


def _read_ids(root: pathlib.Path, path: pathlib.Path) -> list[str]:
    """The image ids of a list's file, whose photos are there."""
    ids: dict[str, int] = {}
    for number, line in lines(path):
        columns = line.split()
        if len(columns) == 2 and columns[1] in ("-1", "0"):
            continue  # CLASS_train.txt: absent, or seen only in a difficult object
        image_id = pathlib.PurePath(columns[0]).stem  # also "/JPEGImages/ID.jpg /.../ID.png"
        if image_id in ids:
            raise UserError(
                f"{path}, line {number}: image {image_id} is already on line {ids[image_id]}"
            )
        ids[image_id] = number
    if not ids:
        raise UserError(f"list {path} names no image: expected one image id a line")
    photos = _files(root / "JPEGImages")
    for image_id, number in ids.items():
        if f"{image_id}.jpg" not in photos:
            raise UserError(f"{path}, line {number}: the photo {_photo(root, image_id)} is missing")
    return list(ids)


def _read_list(
    root: pathlib.Path, list_name: str, labels: Mapping[str, Sequence[int]]
) -> tuple[list[str], list[Annotation]]:
    """Ids and annotations; one that is missing is empty where ``labels`` has the image."""
    _check_folders(root, ("JPEGImages", "Annotations", "ImageSets"), _DOWNLOAD)
    ids = _read_ids(root, _list_path(root, list_name))
    annotations = []
    for image_id in ids:
        annotation_path = root / "Annotations" / f"{image_id}.xml"
        if image_id in labels and not annotation_path.is_file():
            annotations.append(Annotation(None, (), no_boxes(), np.zeros(0, bool)))
            continue
        annotation = read_annotation(annotation_path)
        for name in annotation.names:
            if name not in VOC_CLASSES:
                raise UserError(
                    f"annotation {annotation_path}: {shorten(name)} is not one of VOC's "
                    f"{len(VOC_CLASSES)} classes; for classes of your own use the folder source"
                )
        annotations.append(annotation)
    return ids, annotations
