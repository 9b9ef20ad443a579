"""Cues on disk: what an earlier network is sure of, one small picture a training image.

FOLDER/ID.png is an 8-bit palette image in the VOC colours, n x n over the whole photo: 0
background, 1 + c class c, 255 unlabelled. Any picture viewer shows it, and ``PIL.Image.open`` reads
it.
"""

import functools
import io
import os
import pathlib

import numpy as np
from PIL import Image

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_inside, write_whole
from wsol_jax.base.labels import UNLABELLED as UNLABELLED
from wsol_jax.data.index_png import read_index_png, voc_palette


@functools.cache
def _palette() -> bytes:
    return voc_palette().tobytes()


def encode_classes(classes: np.ndarray) -> bytes:
    """(H, W) uint8 as a palette PNG in the VOC colours."""
    image = Image.fromarray(classes)  # uint8: grey, until it has a palette
    image.putpalette(_palette())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def cue_path(folder: str | os.PathLike, image_id: str) -> pathlib.Path:
    """Where an image's cues lie.

    Raises:
      UserError: an id that leads out of the folder.
    """
    check_inside(image_id, "cues")
    return pathlib.Path(folder) / f"{image_id}.png"


def write_cue(folder: str | os.PathLike, image_id: str, cue: np.ndarray) -> None:
    """Writes (n, n) uint8, whole or not at all."""
    write_whole(cue_path(folder, image_id), encode_classes(cue))


def read_cue(folder: str | os.PathLike, image_id: str, size: int) -> np.ndarray:
    """(size, size) uint8 of 0 background, 1 + c class c, 255 unlabelled.

    Raises:
      UserError: the file is missing, damaged, or of another size.
    """
    path = cue_path(folder, image_id)
    if not path.is_file():
        raise UserError(f"cues {path} is missing: run the stage that makes it, --stages=cues.")
    cue = read_index_png(path)
    if cue.shape != (size, size):
        raise UserError(
            f"cues {path} is {cue.shape[1]}x{cue.shape[0]}, expected {size}x{size}: remove "
            f"{folder} and run the stage that makes it, --stages=cues."
        )
    return cue
