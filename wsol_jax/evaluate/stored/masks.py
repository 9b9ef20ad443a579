"""Masks on disk for PxAP: wsolevaluation's OpenImages layout, or a plain folder of PNGs."""

import dataclasses
import os
import pathlib

import cv2
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import find_inside
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data.decode import CorruptImage, check_encoded, open_image, read_file
from wsol_jax.evaluate.stored.layout import BadFile, Metadata, read_mask_paths
from wsol_jax.metrics.maps import MAP_SIZE, resize_mask


@dataclasses.dataclass(frozen=True)
class MaskFiles:
    """An image's files.

    Attributes:
      objects: paths of its masks. In a plain folder one: 0 background, 255 ignore, the rest
        foreground; in OpenImages' layout one an object, anything but 0 being foreground.
      ignores: paths of what counts for nothing; a pixel in both is foreground.
      plain: which of the two.
    """

    objects: tuple[str, ...]
    ignores: tuple[str, ...]
    plain: bool


def find_masks(
    folder: str | os.PathLike, metadata: Metadata, missing_ok: bool = False
) -> dict[str, MaskFiles]:
    """Image id -> its mask files, for the images that have any.

    The paths are those of the metadata's localization.txt, if it lists masks, else of the one in
    the folder; without either the folder holds ID.png, or ID.png without the id's suffix.

    Args:
      missing_ok: leave it to ``load_masks`` to complain of a listed file that is missing.
    Raises:
      UserError: no such folder, no mask in it, a listed file that is missing, or a path that leads
        out of the folder.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise UserError(f"--masks={folder}: no such folder.")
    root, listed, source = os.path.realpath(folder), metadata.masks, metadata.folder
    if listed is None and (folder / "localization.txt").is_file():
        source = folder
        listed = read_mask_paths(folder / "localization.txt", dict.fromkeys(metadata.ids, 0))
    found: dict[str, MaskFiles] = {}
    if listed is not None:
        for image_id, rows in listed.items():
            paths: tuple[list[str], list[str]] = ([], [])
            for *names, number in rows:
                for kind, name in zip(paths, names, strict=True):
                    if name:
                        where = f"{source / 'localization.txt'}, line {number}"
                        path = find_inside(root, name, where)
                        if path is None and not missing_ok:
                            raise UserError(f"{where}: {folder / name} is missing.")
                        kind.append(path or str(folder / name))
            found[image_id] = MaskFiles(tuple(paths[0]), tuple(paths[1]), plain=False)
        if not found:
            raise UserError(f"{source / 'localization.txt'} lists no mask of these images.")
        return found
    for index, image_id in enumerate(metadata.ids):
        for name in (image_id, os.path.splitext(image_id)[0]):
            path = find_inside(root, f"{name}.png", metadata.where(index))
            if path is not None:
                found[image_id] = MaskFiles((path,), (), plain=True)
                break
    if not found:
        raise UserError(
            f"--masks={folder}: it has neither localization.txt (ID,MASK,IGNORE a line) nor a mask "
            f"of these images, such as {folder / metadata.ids[0]}.png."
        )
    return found


def load_masks(files: MaskFiles) -> tuple[np.ndarray, np.ndarray]:
    """Foreground and ignore, (224, 224) bool each.

    Raises:
      BadFile: a file that is no mask, with its path.
    """
    if files.plain:
        mask = resize_mask(_read_indices(files.objects[0]))
        return (mask > 0) & (mask < UNLABELLED), mask == UNLABELLED
    nothing = np.zeros((MAP_SIZE, MAP_SIZE), bool)
    foreground, ignore = nothing, nothing
    for path in files.objects:
        foreground = foreground | (resize_mask(_read_grey(path)) > 0)
    for path in files.ignores:
        ignore = ignore | (resize_mask(_read_grey(path)) > 0)
    return foreground, ignore & ~foreground


def _read_grey(path: str) -> np.ndarray:
    """(H, W) uint8 grey values, as the community reads masks."""
    try:
        data = read_file(path, path)
        check_encoded(data, path)
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except CorruptImage as error:
        raise BadFile(f"{path} cannot be read: {error.reason}") from None
    except cv2.error:
        grey = None
    if grey is None:
        raise BadFile(f"{path} is no image that can be read")
    return grey


def _read_indices(path: str) -> np.ndarray:
    """(H, W) uint8 values of a palette (its indices, not its colours) or greyscale PNG."""
    try:
        with open_image(path) as image:
            mode = image.mode
            values = np.array(image) if mode in ("P", "L", "1") else None
    except CorruptImage as error:
        raise BadFile(f"{path} cannot be read: {error.reason}") from None
    if values is None:
        raise BadFile(f"{path} has the mode {mode}, expected a palette or 8-bit greyscale PNG")
    return values.astype(np.uint8)
