"""Photos as people have them (files, folders, arrays, Pillow images), as a source of records."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import logging
from PIL import Image

from wsol_jax.base.errors import UserError
from wsol_jax.data import summary
from wsol_jax.data.decode import CorruptImage, decode_rgb, pillow_rgb
from wsol_jax.data.records import Record
from wsol_jax.data.sources.folder_files import EXTENSIONS, photos_below
from wsol_jax.data.sources.left_out import PassedOver

Photo = str | os.PathLike | bytes | np.ndarray | Image.Image
"""A path, an encoded file's bytes, (H, W, 3) uint8 RGB, or a Pillow image."""


@dataclasses.dataclass(frozen=True)
class Photos:
    """Some photos as a source: no labels, no truth."""

    records: tuple[Record, ...]
    class_names: tuple[str, ...]
    name: str = "photos"

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def mask(self, index: int) -> None:
        """None: nobody knows the truth."""
        return None


def find(place: str | os.PathLike, class_names: Sequence[str], what: str = "") -> Photos:
    """A folder of photos, searched with its sub-folders, or one photo.

    Args:
      what: names the place in an error, e.g. "--images=photos"; "" is the place itself.

    Raises:
      UserError: no such place, or no photo in it.
    """
    place, what = pathlib.Path(place), what or str(place)
    try:
        is_file, is_folder = place.is_file(), place.is_dir()
    except (OSError, ValueError):  # ValueError: a NUL in the path
        is_file = is_folder = False
    if is_file:
        root, names = place.parent, [place.name]
    elif is_folder:
        root, passed = place, PassedOver(strict=False)
        names = photos_below(place, "", passed)
        if names and (left_out := summary.describe_left_out(passed.rows(), more="")):
            logging.info("%s: %s", what, left_out)
    else:
        raise UserError(f"{what}: no such folder or file.")
    if not names:
        raise UserError(f"{what}: no photo in it ({', '.join(EXTENSIONS)}).")
    return Photos(tuple(_record(name, str(root / name)) for name in names), tuple(class_names))


def given(photos: Sequence[Photo], class_names: Sequence[str]) -> Photos:
    """Photos at hand, in their order, by their files' names or else photo0, photo1, ...

    Raises:
      UserError: something that is no photo, such as an array of floats.
    """
    records = [_given(photo, f"photo{i}") for i, photo in enumerate(photos)]
    while True:
        often = collections.Counter(record.image_id for record in records)
        twice = [i for i, record in enumerate(records) if often[record.image_id] > 1]
        if not twice:
            break
        for i in twice:  # of two folders: what is saved of one is not the other's
            name = f"{i}_{records[i].image_id}"
            records[i] = dataclasses.replace(records[i], image_id=name)
    return Photos(tuple(records), tuple(class_names))


def _given(photo: Photo, name: str) -> Record:
    if isinstance(photo, str | os.PathLike):
        return _record(os.path.basename(photo) or str(photo), os.fspath(photo))
    if isinstance(photo, Image.Image):
        if 0 in photo.size:
            raise UserError(f"{name}: a Pillow image of no pixel.")
        try:
            name = os.path.basename(getattr(photo, "filename", "")) or name
            return _record(name, pillow_rgb(photo, exif=True))
        except (OSError, ValueError) as error:
            raise UserError(f"{name}: a Pillow image that cannot be read: {error}.") from None
    if isinstance(photo, bytes | bytearray | memoryview):
        return _record(name, bytes(photo))
    return _record(name, _pixels(photo, name))


def _pixels(photo: np.ndarray, name: str) -> np.ndarray:
    """An array as (H, W, 3) uint8; grey becomes RGB, an alpha channel is dropped."""
    if not hasattr(photo, "__array__"):
        raise UserError(
            f"{name}: expected a path, bytes, a Pillow image or an array (H, W, 3) of uint8, got "
            f"{type(photo).__name__}."
        )
    pixels = np.asarray(photo)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    fits = pixels.ndim == 3 and pixels.shape[-1] in (3, 4) and 0 not in pixels.shape
    if not fits or pixels.dtype != np.uint8:
        more = (
            "; floats in [0, 1] are made so by (255 * x).astype('uint8')"
            if fits and pixels.dtype.kind == "f"
            else ""
        )
        raise UserError(
            f"{name}: expected (H, W, 3) uint8 RGB, got {pixels.shape} {pixels.dtype}{more}."
        )
    return np.ascontiguousarray(pixels[..., :3])


def _record(name: str, image: str | bytes | np.ndarray) -> Record:
    return Record(image_id=name, image=image, labels=(0,))


def pixels(record: Record) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as the camera says. Raises UserError where it cannot be read."""
    try:
        return decode_rgb(record.image, record.image_id, exif=True)
    except CorruptImage as error:
        raise UserError(f"{error}.") from None
