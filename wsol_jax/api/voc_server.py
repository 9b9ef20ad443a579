"""Segmentations as PASCAL VOC's evaluation server takes them, and as its devkit reads them.

The server wants an archive of ``results/VOC2012/Segmentation/comp6_test_cls/ID.png``: a palette PNG
for each photo of ``ImageSets/Segmentation/test.txt``, of its own size, whose values are the classes
in VOC's order. comp5 is for networks that saw VOC's own training photos alone, comp6 for all
others: one that began with ImageNet's weights is of comp6.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from wsol_jax.api.photos import Photos
from wsol_jax.api.result import Result, write
from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data.label_pictures import encode_classes
from wsol_jax.data.records import Record
from wsol_jax.data.sources.voc import list_photos
from wsol_jax.data.sources.voc_labels import VOC_CLASSES

_NAME = re.compile(r"(comp[56])(?:_(\w+)_cls)?")


@dataclasses.dataclass(frozen=True)
class Submission:
    """What is handed in: where the masks lie, of which list, and what its classes are called there.

    Attributes:
      folder: below the one that is written to.
      list_name: below ``ImageSets/Segmentation``.
      codes: (256,) uint8, the run's value of a pixel (0 background, 1 + c class c) -> VOC's.
    """

    folder: str
    list_name: str
    codes: np.ndarray

    @classmethod
    def of(cls, name: str, class_names: Sequence[str]) -> "Submission":
        """Checks ``--voc_server=name`` and the classes of a run, in whatever order.

        Args:
          name: "comp5" or "comp6" for the list test; "comp6_LIST_cls", the folder's own name, for
            another, such as comp6_val_cls for the devkit.

        Raises:
          UserError: another name, or classes that are not VOC's 20.
        """
        found = _NAME.fullmatch(name)
        if not found:
            raise UserError(
                f"--voc_server={name}: expected comp5 or comp6, or a folder's name such as "
                "comp6_val_cls."
            )
        if set(class_names) != set(VOC_CLASSES):
            missing = [c for c in VOC_CLASSES if c not in class_names]
            other = [c for c in class_names if c not in VOC_CLASSES]
            wrong = f"lacks {missing[0]!r}" if missing else f"also has {other[0]!r}"
            raise UserError(
                f"--voc_server: the server takes VOC's {len(VOC_CLASSES)} classes, and this run of "
                f"{len(class_names)} {wrong}."
            )
        codes = np.full(256, UNLABELLED, np.uint8)
        codes[0] = 0
        for c, class_name in enumerate(class_names):
            codes[1 + c] = 1 + VOC_CLASSES.index(class_name)
        comp, list_name = found[1], found[2] or "test"
        return cls(f"results/VOC2012/Segmentation/{comp}_{list_name}_cls", list_name, codes)

    def photos(self, root: str | os.PathLike, class_names: Sequence[str]) -> Photos:
        """The list's photos of a VOC folder.

        Raises:
          UserError: it is no such folder, or lacks the list or one of its photos.
        """
        try:
            paths = list_photos(root, f"Segmentation/{self.list_name}", "VOC2012test.tar")
        except UserError as error:
            raise UserError(
                f"--voc_server reads the list {self.list_name!r} of --images={root} "
                f"(comp6_LIST_cls in its place reads LIST): {error}"
            ) from None
        records = [Record(f"{name}.jpg", path, labels=(0,)) for name, path in paths.items()]
        return Photos(tuple(records), tuple(class_names), self.list_name)

    def write(self, out: pathlib.Path, result: Result) -> None:
        """Writes a photo's mask below ``out``. Raises UserError where it cannot be written."""
        path = out / self.folder / f"{pathlib.PurePath(result.name).stem}.png"
        write(path, encode_classes(self.codes[result.mask]), "--out: ")
