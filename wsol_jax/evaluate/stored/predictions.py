"""Another classifier's answers on disk: probabilities, or classes by falling score."""

import os
import pathlib
import re
from collections import Counter

import numpy as np

from wsol_jax.base.arrays import Header, Unreadable, read_npz
from wsol_jax.base.errors import UserError
from wsol_jax.base.text import lines
from wsol_jax.evaluate.stored.layout import Metadata, malformed
from wsol_jax.metrics.localization import rank_classes

_CLASS = re.compile(r"\s*\d{1,9}\s*")
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
        arrays = read_npz(path, ("image_ids", "probabilities"), _check_rows)
    except (Unreadable, OSError) as error:
        raise UserError(
            f"{name}={path}: expected an .npz with image_ids (N,) and probabilities (N, C); it "
            f"{getattr(error, 'strerror', None) or error}"
        ) from None
    try:
        ids = [str(i) for i in arrays["image_ids"]]
    except (ValueError, UnicodeError):  # numbers beyond Unicode
        raise UserError(f"{name}={path}: image_ids are no text.") from None
    with np.errstate(over="ignore"):  # what overflows is infinity, which is refused
        values = arrays["probabilities"].astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise UserError(f"{name}={path}: probabilities hold NaN or infinity, expected finite.")
    twice, rows = next(iter(Counter(ids).most_common(1)), ("", 0))
    if rows > 1:
        raise UserError(f"{name}={path}: {twice!r} has two rows.")
    return ids, values


def _check_rows(headers: dict[str, Header]) -> None:
    """Raises Unreadable for arrays of other kinds or shapes, before they are read."""
    ids, values = headers["image_ids"], headers["probabilities"]
    if len(ids.shape) != 1:
        raise Unreadable(f"has image_ids of shape {ids.shape}")
    if values.dtype.kind not in "fiub":
        raise Unreadable(f"has probabilities of {values.dtype}")
    if len(values.shape) != 2 or values.shape[0] != ids.shape[0] or not values.shape[1]:
        raise Unreadable(f"has {ids.shape[0]} image_ids and probabilities of shape {values.shape}")


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
        image_id, classes = _split(line)
        if not classes or not image_id or len(set(classes)) < len(classes):
            raise malformed(path, number, form, line)
        if image_id in ranked:
            raise UserError(f"{path}, line {number}: {image_id!r} has two rows.")
        ranked[image_id] = np.array(classes[:5], np.int64)
    return ranked


def _split(line: str) -> tuple[str, list[int]]:
    """The id, which may hold commas, and the class indices that the line ends in."""
    words = line.split(",")
    first = len(words)
    while first > 1 and _CLASS.fullmatch(words[first - 1]):
        first -= 1
    return ",".join(words[:first]), [int(word) for word in words[first:]]
