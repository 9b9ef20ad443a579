"""Masks of an own folder: PNGs by image id."""

import os
import pathlib

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data.index_png import read_index_png


def mask_files(folder: pathlib.Path) -> dict[str, str]:
    """{path below the folder without its suffix: the PNG's path}; hidden ones are left out."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = pathlib.PurePath(place).relative_to(folder)
        for name in names:
            if name.lower().endswith(".png") and not name.startswith("."):
                found[(below / name[:-4]).as_posix()] = os.path.join(place, name)
    return found


def mask_of(image_id: str, files: dict[str, str]) -> str | None:
    """The PNG of a photo: by its id (dog/1.jpg.png), or that without its suffix (dog/1.png)."""
    return files.get(image_id) or files.get(os.path.splitext(image_id)[0])


def read_mask(path: str, size: tuple[int, int] | None, class_names: tuple[str, ...]) -> np.ndarray:
    """(H, W) uint8: 0 background, 1 + c class c, 255 ignored.

    Args:
      size: (width, height) of the photo, where it is known.

    Raises:
      UserError: no grey or palette PNG, another size than the photo's, or a value of no class.
    """
    codes = read_index_png(path)
    if size not in (None, codes.shape[::-1]):
        height, width = codes.shape
        raise UserError(f"mask {path} is {width}x{height}, its photo {size[0]}x{size[1]}.")
    bad = (codes > len(class_names)) & (codes != UNLABELLED)
    if bad.any():
        numbered = ", ".join(f"{c} {name}" for c, name in enumerate(class_names[:20], start=1))
        raise UserError(
            f"mask {path} holds the value {int(codes[bad][0])}: expected 0 (background), "
            f"{UNLABELLED} (ignored), or a class: {numbered}"
        )
    return codes
