"""Pseudo-labels on disk: what a label stage leaves of each photo, by image id.

A folder holds one file a photo and product. Classes (cells, masks) are FOLDER/ID.png, an 8-bit
palette image in the VOC colours: 0 background, 1 + c class c, 255 unlabelled. Region ids and soft
maps are FOLDER/ID.npz, the array "values", beside FOLDER/ID.png, a picture of them. Where a stage
has several products, each lies in FOLDER/PRODUCT. Any viewer shows the pictures, ``PIL.Image.open``
and ``numpy.load`` read the values, and so does ``open_labels(FOLDER).read(ID)``.
"""

import contextlib
import dataclasses
import functools
import io
import json
import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_inside
from wsol_jax.base.stored import read_arrays, reading
from wsol_jax.base.types import Json
from wsol_jax.data.decode import decode_rgb
from wsol_jax.data.index_png import read_index_png
from wsol_jax.data.label_formats import KINDS, Format, LabelSpec, cells
from wsol_jax.data.label_pictures import (
    encode_classes,
    encode_rgb,
    maps_picture,
    regions_picture,
)
from wsol_jax.data.records import Record
from wsol_jax.data.transforms import Window, cut_labels

Arrays = Mapping[str, np.ndarray]  # by product, of one photo


class Photo:
    """A photo of a list as a labeller sees it, its pixels decoded when they are asked for.

    Attributes:
      image_id: of the record.
      labels: indices of the image's classes.
      size: (width, height) in pixels, as stored.
    """

    def __init__(self, record: Record, size: tuple[int, int]):
        self.image_id, self.labels, self.size = record.image_id, record.labels, size
        self._image = record.image

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB.

        Raises:
          CorruptImage: the file cannot be decoded.
        """
        return decode_rgb(self._image, self.image_id)


@dataclasses.dataclass(frozen=True)
class LabelFolder:
    """The labels that a stage leaves in a folder, by product and image id. Pickles."""

    folder: pathlib.Path
    products: Mapping[str, Format]

    @property
    def stage(self) -> str:
        return self.folder.name

    def product(self, name: str = "") -> str:
        """A product's name; "" is the only one.

        Raises:
          UserError: there is no such product, or several where none is named.
        """
        if not name and len(self.products) == 1:
            return next(iter(self.products))
        if name not in self.products:
            known = ", ".join(self.products)
            raise UserError(f"the labels in {self.folder} have no product {name!r}, but {known}.")
        return name

    def path(self, image_id: str, product: str = "") -> pathlib.Path:
        """Where an image's values lie.

        Raises:
          UserError: an id that leads out of the folder, or no such product.
        """
        name = self.product(product)
        suffix = "png" if self.products[name].holds_classes else "npz"
        return self._place(image_id, name, suffix)

    def has(self, image_id: str) -> bool:
        """Whether all products of an image are there."""
        return all(self.path(image_id, name).is_file() for name in self.products)

    def encode(self, image_id: str, arrays: Arrays) -> list[tuple[pathlib.Path, bytes]]:
        """The files of an image, in the order to write them: each picture before its values."""
        files = []
        for name, own in self.products.items():
            path, values = self.path(image_id, name), arrays[name]
            if own.holds_classes:
                files.append((path, encode_classes(values)))
            else:
                picture = regions_picture if own.kind == "regions" else maps_picture
                shown = self._place(image_id, name, "png")
                files += [(shown, encode_rgb(picture(values))), (path, _encode_array(values))]
        return files

    def read(self, image_id: str, product: str = "") -> np.ndarray:
        """The values of an image: what ``Format`` says.

        Raises:
          UserError: the file is missing, damaged, or of another shape or dtype.
        """
        name = self.product(product)
        path, own = self.path(image_id, name), self.products[name]
        if not path.is_file():
            raise UserError(
                f"labels {path} is missing: run the stage that makes it, --stages={self.stage}."
            )
        again = f"remove it and run the stage that makes it, --stages={self.stage}"
        values = read_index_png(path) if own.holds_classes else _read_array(path, again)
        try:
            # Of the photo's own size: whoever knows the photo compares.
            return own.check(values, values.shape[1::-1])
        except ValueError as error:
            raise UserError(
                f"labels {path} is no {error}: remove {self.folder} and run the stage that makes "
                f"it, --stages={self.stage}."
            ) from None

    def _place(self, image_id: str, product: str, suffix: str) -> pathlib.Path:
        check_inside(image_id, "labels")
        folder = self.folder if len(self.products) == 1 else self.folder / product
        return folder / f"{image_id}.{suffix}"


@dataclasses.dataclass(frozen=True)
class BatchLabels:
    """Pseudo-labels as a batch carries them: whose they are, and what a training asks for."""

    folder: LabelFolder
    product: str
    spec: LabelSpec

    def missing(self) -> np.ndarray:
        """What stands where there are none."""
        return np.full(self.spec.shape, self.spec.fill, self.spec.dtype)

    def read(self, image_id: str, window: Window) -> np.ndarray:
        """A photo's labels over a window of it.

        Raises:
          UserError: they are missing or damaged, or have another number of maps.
        """
        values = self.folder.read(image_id, self.product)
        if values.shape[2:] != self.spec.shape[2:]:
            raise UserError(
                f"labels {self.folder.path(image_id, self.product)} have {values.shape[2:]} maps, "
                f"expected {self.spec.shape[2:]}."
            )
        values = values.astype(self.spec.dtype, copy=False)
        return cut_labels(values, window, self.spec.shape[:2])


class LabelsOf(NamedTuple):
    """Where a training's labels come from; ``product`` is "" for a stage's only one."""

    stage: str
    product: str


def parse_labels(text: str) -> dict[str, LabelsOf]:
    """The labels that a stage trains on, by their names in its batches.

    Args:
      text: a config's ``labels``: NAME=STAGE or NAME=STAGE/PRODUCT, joined by commas.

    Raises:
      UserError: a word that reads otherwise, or a name twice.
    """
    found: dict[str, LabelsOf] = {}
    for word in filter(None, text.split(",")):
        name, equals, place = word.partition("=")
        stage, _, product = place.partition("/")
        if not (name and equals and stage) or name in found:
            raise UserError(
                f"labels: expected NAME=STAGE or NAME=STAGE/PRODUCT,..., each name once, got "
                f"{text!r}."
            )
        found[name] = LabelsOf(stage, product)
    return found


def summary_path(folder: pathlib.Path) -> pathlib.Path:
    """Where a finished label stage says what it left: STAGE/STAGE.json."""
    return folder / f"{folder.name}.json"


_SUMMARY = {"sha256": str, "images": int, "unreadable": list}


def read_summary(folder: pathlib.Path) -> dict[str, Json] | None:
    """What a label stage left; None where it is not done, or the file is damaged."""
    path = summary_path(folder)
    if not path.is_file():  # a pipe would keep its reader waiting
        return None
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        found = json.loads(path.read_text())
        whole = {"sha256": "", "images": 0, "unreadable": [], **found}
        if "sha256" in found and all(isinstance(whole[n], kind) for n, kind in _SUMMARY.items()):
            return found
    return None


def open_labels(folder: str | os.PathLike) -> LabelFolder:
    """The labels of a finished label stage, WORKDIR/STAGE.

    Raises:
      UserError: the folder holds none, or they are not all made.
    """
    folder = pathlib.Path(folder)
    known = read_summary(folder)
    if known is None:
        raise UserError(
            f"{summary_path(folder)} is missing or damaged: run the stage that makes it, "
            f"--stages={folder.name}."
        )
    again = f"--stages={folder.name} makes it again, once it is removed"
    with reading(summary_path(folder), again):
        if "products" in known:
            products = {name: Format(**own) for name, own in known["products"].items()}
        else:  # of a time when cells were all that there was
            products = {folder.name: cells(known["size"])}
        if not all(x.kind in KINDS and isinstance(x.size, int) for x in products.values()):
            raise ValueError(f"products: expected {', '.join(KINDS)}, each with its size")
        return LabelFolder(folder, products)


def _encode_array(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, values=values)
    return buffer.getvalue()


def _read_array(path: pathlib.Path, again: str) -> np.ndarray:
    arrays = read_arrays(path, again)
    with reading(path, again):
        return arrays["values"]
