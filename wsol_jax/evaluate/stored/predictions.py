"""Another classifier's answers on disk: probabilities, or classes by falling score."""

import os
import pathlib
import re
import zipfile
import zlib

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.evaluate.stored.layout import Metadata, lines, malformed
from wsol_jax.metrics.localization import rank_classes

# What numpy raises for a file that is no .npz, is damaged, or holds other arrays or pickles.
_UNREADABLE = (OSError, KeyError, ValueError, TypeError, AttributeError, EOFError)
_UNREADABLE += (zipfile.BadZipFile, zlib.error)
_BLOCK = 1024  # images ranked at once: ranking widens probabilities fourfold


def read_probabilities(path: str | os.PathLike, name: str) -> tuple[list[str], np.ndarray]:
    """Ids and probabilities of an .npz with image_ids (N,) and probabilities (N, C).

    Args:
      name: of the flag or field, for the error.
    Returns:
      N ids, each once; (N, C) float32, finite.
    Raises:
      UserError: anything else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            ids, values = [str(i) for i in file["image_ids"]], file["probabilities"]
        values = np.asarray(values, np.float32)
    except _UNREADABLE as error:
        raise UserError(
            f"{name}={path}: expected an .npz with image_ids (N,) and probabilities (N, C); {error}"
        ) from None
    if values.ndim != 2 or len(values) != len(ids) or not np.isfinite(values).all():
        raise UserError(
            f"{name}={path}: probabilities have shape {values.shape}, expected finite "
            f"({len(ids)}, C)."
        )
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise UserError(f"{name}={path}: {twice!r} has two rows.")
    return ids, values


def read_predictions(path: str | os.PathLike, metadata: Metadata) -> dict[str, np.ndarray]:
    """Each image's classes, the likeliest first.

    Args:
      path: ``.npz`` as for ``read_probabilities``, or text with a line ID,CLASS,CLASS,... an image.
    Returns:
      id -> (k,) int64, k = 5 where that many are known.
    Raises:
      UserError: another file, or no row for an image of the metadata.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"--predictions={path}: no such file.")
    with path.open("rb") as file:
        packed = file.read(4) == b"PK\x03\x04"
    if packed or path.suffix == ".npz":
        ids, values = read_probabilities(path, "--predictions")
        _check_labels(path, metadata, values.shape[1])
        ranked = {}
        for start in range(0, len(ids), _BLOCK):
            best = rank_classes(values[start : start + _BLOCK])
            ranked.update(zip(ids[start : start + _BLOCK], best, strict=True))
    else:
        ranked = _read_text(path)
    missing = [i for i in metadata.ids if i not in ranked]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"--predictions={path}: no row for {missing[0]!r}{more}.")
    return {i: ranked[i] for i in metadata.ids}


def _check_labels(path: pathlib.Path, metadata: Metadata, classes: int) -> None:
    for image_id, labels in (metadata.labels or {}).items():
        if max(labels) >= classes:
            raise UserError(
                f"--predictions={path}: it has {classes} classes, but {image_id!r} has class "
                f"{max(labels)} in {metadata.folder / 'class_labels.txt'}."
            )


def _read_text(path: pathlib.Path) -> dict[str, np.ndarray]:
    form = "ID,CLASS,CLASS,... with class indices from 0, the likeliest first"
    ranked: dict[str, np.ndarray] = {}
    for number, line in lines(path):
        if number == 1 and line.startswith("image_id,"):
            continue
        match = re.fullmatch(r"(.+?)((?:,\s*\d{1,9}\s*)+)", line)  # an id may hold commas
        classes = [int(c) for c in match[2].split(",")[1:]] if match else []
        if not classes or len(set(classes)) < len(classes):
            raise malformed(path, number, form, line)
        if match[1] in ranked:
            raise UserError(f"{path}, line {number}: {match[1]!r} has two rows.")
        ranked[match[1]] = np.array(classes[:5], np.int64)
    return ranked
