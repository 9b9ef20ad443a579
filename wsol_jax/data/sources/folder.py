"""An own folder of photos: class folders, a table of labels, or a COCO file; boxes and masks."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.base.types import Config
from wsol_jax.data import decode
from wsol_jax.data.records import LeftOut, Record, no_boxes
from wsol_jax.data.sources import folder_masks, folder_table
from wsol_jax.data.sources.coco_masks import CocoObject, paint
from wsol_jax.data.sources.folder_boxes import Row, check_boxes, read_boxes
from wsol_jax.data.sources.folder_files import EXTENSIONS
from wsol_jax.data.sources.folder_layout import Layout, Options
from wsol_jax.data.sources.folder_layouts import find_layout, open_layout
from wsol_jax.data.sources.folder_table import Labelled
from wsol_jax.data.sources.left_out import PassedOver

__all__ = ["EXTENSIONS", "FolderSource", "choices", "open_folder", "opener"]

_CHECKED = 4096  # photos of a list, spread over it, whose size is compared with what was said


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """A list of a folder of photos as a Source; made by open_folder.

    Attributes:
      masks: of each record: a PNG's path, the objects of a COCO file, or None.
      left_out: what of the folder is in no list, and why.
      about: where labels, boxes and masks come from, a sentence.
    """

    name: str
    class_names: tuple[str, ...]
    records: tuple[Record, ...]
    masks: tuple[str | tuple[CocoObject, ...] | None, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    about: str = ""

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def mask(self, index: int) -> np.ndarray | None:
        """(H, W) uint8: 0 background, 1 + c class c, 255 ignore; None where the photo has none.

        Raises UserError for a PNG of another kind, size or classes.
        """
        mask, record = self.masks[index], self.records[index]
        if mask is None:
            return None
        try:
            size = decode.image_size(record.image, record.image_id)
        except decode.CorruptImage:
            return None  # decoding names and skips it
        if record.size not in (None, size):
            raise UserError(_other_size(record.image_id, record.size, size))
        if isinstance(mask, str):
            return folder_masks.read_mask(mask, size, self.class_names)
        return paint(mask, self.class_names, size)


def open_folder(
    root: str | os.PathLike,
    list_name: str,
    *,
    boxes_csv: str | os.PathLike | None = None,
    train_list: str = "train",
    **options,
) -> FolderSource:
    """Opens a list of an own folder.

    The layouts (``folder_layout.LAYOUTS``): root/LIST/CLASS/*.jpg; root/CLASS/*.jpg, which is cut
    into the lists "train" (80%), "tune" and "test" (10% each); a table labels.csv; a COCO file.

    Args:
      root: the folder of lists, of classes, or of the photos that the table or COCO file names.
      list_name: the list's folder or split, or one of those that are cut.
      boxes_csv: a file with the header image,x0,y0,x1,y1 or image,x0,y0,x1,y1,class and a line a
        box: the photo's path below root with "/" (its image_id), corners in pixels from 0, both
        inside the object; without a class, that of the photo. A line may concern another list.
        Boxes do not change a photo's label.
      train_list: the list that says which classes there are, and their order.
      options: further fields of ``folder_layout.Options``.

    Raises UserError naming the folder that is missing or empty, the class that the training list
    lacks, or the line or entry of a file and what was expected there.
    """
    lists = tuple(dict.fromkeys((train_list, list_name)))
    boxes = os.fspath(boxes_csv) if boxes_csv else ""
    settings = Options(train=train_list, lists=lists, boxes=boxes, **options)
    return _Folder(pathlib.Path(root), settings).open(list_name)


def opener(data: Config, fetch: bool) -> Callable[[str], FolderSource]:
    """A folder's row in ``data.sources``: list name -> Source; nothing is ever fetched."""
    del fetch
    return _Folder(pathlib.Path(data.root), _options(data)).open


def choices(data: Config) -> dict[str, str | bool]:
    """Fields of a config's ``data`` section that its folder decides: layout, and several labels."""
    layout = find_layout(pathlib.Path(data.root), _options(data))
    found: dict[str, str | bool] = {"layout": layout, "multi_label": False}
    if layout in ("table", "coco"):
        found["multi_label"] = _Folder(pathlib.Path(data.root), _options(data)).has_several()
    return found


def _options(data: Config) -> Options:
    lists = [name for name in (data.train, data.tune, *data.test.split("+")) if name]
    return Options(
        train=data.train,
        lists=tuple(dict.fromkeys(lists)),
        layout=data.layout,
        table=data.labels,
        coco=data.coco,
        masks=data.masks,
        boxes=data.boxes,
        multi_label=bool(data.multi_label),
        strict=data.strict,
    )


class _Folder:
    """A folder whose files are read once for all of its lists."""

    def __init__(self, root: pathlib.Path, options: Options):
        if not root.is_dir():
            raise UserError(
                f"folder {root} is missing: expected a folder with a sub-folder of photos for each "
                "class, or with such folders below train, tune and test"
            )
        self._root, self._options = root, options
        self._passed = PassedOver(options.strict)
        self._opened: dict[str, FolderSource] = {}

    @functools.cached_property
    def _layout(self) -> Layout:
        return open_layout(self._root, self._options, self._passed)

    @functools.cached_property
    def _boxes(self) -> dict[str, list[Row]]:
        if not self._options.boxes:
            return {}
        path = pathlib.Path(self._options.boxes)
        return read_boxes(path, self._root, self._layout.class_names, self._passed)

    @functools.cached_property
    def _masks(self) -> dict[str, str]:
        folder = self._layout.masks
        return {} if folder is None else folder_masks.mask_files(folder)

    def has_several(self) -> bool:
        """Whether some photo has several labels, or none: it shows no class then."""
        return any(len(photo.labels) != 1 for photo in self._layout.known())

    def open(self, name: str) -> FolderSource:
        """A list as a source."""
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def _open(self, name: str) -> FolderSource:
        photos, classes = self._layout.photos(name), self._layout.class_names
        index = {name: c for c, name in enumerate(classes)}
        records, masks = [], []
        sized = [place for place, photo in enumerate(photos) if photo.size is not None]
        checked = frozenset(sized[:: 1 + len(sized) // _CHECKED])
        for place, photo in enumerate(photos):
            if place in checked:
                photo = self._sized(photo)
            labels = self._labels(photo, index)
            if labels is None:
                continue
            records.append(self._record(photo, labels, index))
            png = folder_masks.mask_of(photo.image_id, self._masks) if self._masks else None
            masks.append(png or photo.objects)
        if self._options.boxes and not any(len(record.boxes) for record in records):
            logging.warning("%s has no box for the list %s.", self._options.boxes, name)
        if self._options.masks and not any(masks):
            logging.warning("%s has no mask for the list %s.", self._options.masks, name)
        if len(classes) >= UNLABELLED and any(isinstance(mask, tuple) for mask in masks):
            logging.warning(
                "%s: masks name %d classes at most, and there are %d: its outlines are not read.",
                *(name, UNLABELLED - 1, len(classes)),
            )
            masks = [None if isinstance(mask, tuple) else mask for mask in masks]
        left_out, about = self._passed.rows(), self._layout.about
        return FolderSource(name, classes, tuple(records), tuple(masks), left_out, about)

    def _sized(self, photo: Labelled) -> Labelled:
        """A photo whose file has the size that was said, or one without boxes and masks."""
        try:
            size = decode.image_size(str(self._root / photo.image_id), photo.image_id)
        except decode.CorruptImage:
            return photo  # decoding names and skips it
        if size == photo.size:
            return photo
        self._passed.refuse(
            "photos of another size than was said, whose boxes and masks are left out",
            photo.image_id,
            f"{photo.where}: {_other_size(photo.image_id, photo.size, size)}",
        )
        return dataclasses.replace(photo, size=None, boxes=no_boxes(), box_labels=(), objects=None)

    def _labels(self, photo: Labelled, index: dict[str, int]) -> tuple[int, ...] | None:
        """A photo's labels as numbers; None where it is left out."""
        where = photo.where or str(self._root / photo.image_id)
        for name in photo.labels:
            if name not in index:
                self._passed.refuse(
                    "labels that the training list lacks",
                    f"{photo.image_id} ({name})",
                    f"{where}: {folder_table.no_class(name, tuple(index), self._options.train)}",
                )
        labels = tuple(sorted(index[name] for name in photo.labels if name in index))
        if self._options.multi_label:
            return labels
        if len(labels) > 1:
            shown = " and ".join(self._layout.class_names[c] for c in labels)
            raise UserError(
                f"{where}: {photo.image_id} shows {shown[:200]}, but data.multi_label=False needs "
                "one label an image: write multi_label=true after the data set"
            )
        if not labels:
            self._passed.refuse(
                "photos without a label",
                photo.image_id,
                f"{where}: {photo.image_id} has no label: name its class, or write "
                "multi_label=true after the data set, where photos may show none",
            )
            return None
        return labels

    def _record(self, photo: Labelled, labels: tuple[int, ...], index: dict[str, int]) -> Record:
        image = str(self._root / photo.image_id)
        rows = self._boxes.get(photo.image_id, [])
        if not rows:
            kept = [i for i, name in enumerate(photo.box_labels) if name in index]
            own = [index[photo.box_labels[i]] for i in kept]
            boxes, size = photo.boxes[kept], photo.size
            return Record(photo.image_id, image, labels, size, boxes, np.array(own, np.int32))
        size, rows = check_boxes(image, rows, self._passed)
        own = [_box_label(row, photo, labels) for row in rows]
        boxes = np.array([row.box for row in rows], np.float32) if rows else no_boxes()
        return Record(
            photo.image_id, image, labels, size or photo.size, boxes, np.array(own, np.int32)
        )


def _other_size(image_id: str, said: tuple[int, int], size: tuple[int, int]) -> str:
    turned = "; its boxes seem to count the photo as EXIF turns it" if said == size[::-1] else ""
    stored = f"{size[0]}x{size[1]} as it is stored"
    return f"the photo {image_id} is {stored}, not {said[0]}x{said[1]}{turned}"


def _box_label(row: Row, photo: Labelled, labels: Sequence[int]) -> int:
    if row.label is not None:
        return row.label
    if len(labels) != 1:
        raise UserError(
            f"{row.where}: {photo.image_id} has {len(labels)} labels, so that its boxes need a "
            "class: expected the header image,x0,y0,x1,y1,class"
        )
    return labels[0]
