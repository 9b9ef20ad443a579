"""Metadata and score maps on disk, in the layout of wsolevaluation (Choe et al. 2020).

METADATA/image_ids.txt      ID
METADATA/class_labels.txt   ID,CLASS          several lines an image: it has several classes
METADATA/image_sizes.txt    ID,WIDTH,HEIGHT
METADATA/localization.txt   ID,X0,Y0,X1,Y1    several lines an image: several boxes
                       or   ID,MASK,IGNORE    paths below a folder of masks; see stored_masks
SCOREMAPS/ID.npy            (224, 224), in [0, 1]

Files come from anywhere: an id that would lead out of its folder is refused, and no pickle is ever
loaded.
"""

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from wsol_jax.base.arrays import Header, Unreadable, read_npy
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_inside, find_inside, shorten
from wsol_jax.base.limits import MAX_COORDINATE, MAX_PIXELS
from wsol_jax.base.text import lines
from wsol_jax.metrics.maps import MAP_SIZE, min_max, prepare_map

# Of a map: float32 has room for its range, and for what bicubic weights make of it.
_LARGEST = float(np.finfo(np.float32).max) / 16


class BadFile(Exception):
    """A map or mask that cannot be used; the text names the file and what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """A metadata folder, as far as it is there.

    Attributes:
      folder: where it was read from.
      ids: the images, in the order of image_ids.txt. lines: for each, its line there, from 1.
      labels: id -> its classes; None without class_labels.txt.
      sizes: id -> (width, height) in pixels; None without image_sizes.txt.
      boxes: id -> (N, 4) float64 x0 y0 x1 y1, inclusive, in the image's pixels; None where
        localization.txt is absent or lists masks.
      masks: id -> [(mask path, ignore path or "", line)]; None where it is absent or lists boxes.
    """

    folder: pathlib.Path
    ids: tuple[str, ...]
    lines: tuple[int, ...]
    labels: dict[str, tuple[int, ...]] | None
    sizes: dict[str, tuple[int, int]] | None
    boxes: dict[str, np.ndarray] | None
    masks: dict[str, list[tuple[str, str, int]]] | None

    def where(self, index: int) -> str:
        """The file and line that name an image."""
        return f"{self.folder / 'image_ids.txt'}, line {self.lines[index]}"


def read_metadata(folder: str | os.PathLike) -> Metadata:
    """Reads and checks a metadata folder; rows of images not in image_ids.txt are passed over.

    Raises:
      UserError: no image_ids.txt; a malformed line, an id twice or one that leads out of its
        folder, each with file and line.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise UserError(f"--metadata={folder}: no such folder.")
    ids: dict[str, int] = {}
    path = folder / "image_ids.txt"
    if not path.is_file():
        raise UserError(f"--metadata={folder}: it has no image_ids.txt (one image id a line).")
    for number, line in lines(path):
        check_inside(line, f"{path}, line {number}")
        if line in ids:
            raise UserError(f"{path}, line {number}: {line!r} is already on line {ids[line]}.")
        ids[line] = number
    if not ids:
        raise UserError(f"{path} names no image: expected one image id a line.")
    boxes, masks = _read_localization(folder / "localization.txt", ids)
    return Metadata(
        folder=folder,
        ids=tuple(ids),
        lines=tuple(ids.values()),
        labels=_read_labels(folder / "class_labels.txt", ids),
        sizes=_read_sizes(folder / "image_sizes.txt", ids),
        boxes=boxes,
        masks=masks,
    )


def find_maps(folder: str | os.PathLike, metadata: Metadata) -> list[str | None]:
    """For each image the path of its map, ID.npy or ID without its suffix, or None.

    Raises:
      UserError: no such folder, a link that leads out of it, or one file for two images.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise UserError(f"--scoremaps={folder}: no such folder.")
    root = os.path.realpath(folder)
    found: list[str | None] = []
    taken: dict[str, int] = {}
    for index, image_id in enumerate(metadata.ids):
        where = metadata.where(index)
        path = find_inside(root, f"{image_id}.npy", where)
        stem = os.path.splitext(image_id)[0]
        if path is None and stem != image_id:
            path = find_inside(root, f"{stem}.npy", where)
        if path is not None:
            if path in taken:
                other = metadata.ids[taken[path]]
                raise UserError(
                    f"{where}: {path} would serve {other!r} and {image_id!r}; name the maps "
                    "ID.npy, with the id's suffix."
                )
            taken[path] = index
            path = os.path.join(folder, os.path.relpath(path, root))  # as the user wrote it
        found.append(path)
    return found


def load_map(path: str, *, resize: bool = False, normalise: bool = False) -> np.ndarray:
    """Reads one score map and checks it.

    Args:
      resize: take any size and range: bicubic to 224x224, then min-max, by the definition.
      normalise: take any range: min-max.
    Returns:
      (224, 224) float32 or float64 in [0, 1].
    Raises:
      BadFile: what is wrong, with the path: no .npy, a pickle, truncated, another shape, NaN,
        infinity, or outside [0, 1].
    """
    raw = _read_map(path, None if resize else (MAP_SIZE, MAP_SIZE))
    low, high = raw.min(), raw.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BadFile(f"{path} holds {'NaN' if np.isnan(raw).any() else 'infinity'}")
    if max(abs(low), abs(high)) > _LARGEST:
        raise BadFile(
            f"{path} lies in [{low:g}, {high:g}], expected numbers within {_LARGEST:g} of 0"
        )
    if resize:
        return prepare_map(raw)
    if normalise:
        return min_max(raw)
    if low < 0 or high > 1:
        raise BadFile(
            f"{path} lies in [{low:g}, {high:g}], expected [0, 1]; --normalise scales each map by "
            "its own minimum and maximum"
        )
    return raw


def _read_map(path: str, shape: tuple[int, int] | None) -> np.ndarray:
    """Numbers of an .npy file as float32 or float64; the header is checked before any is read."""
    try:
        raw = read_npy(path, functools.partial(_check_header, shape))
    except Unreadable as error:
        raise BadFile(f"{path} {error}") from None
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror or error}") from None
    wide = np.float64 if raw.dtype.kind == "f" and raw.dtype.itemsize == 8 else np.float32
    with np.errstate(over="ignore"):  # what overflows is infinity, which is refused
        return np.ascontiguousarray(raw, wide)


def _check_header(shape: tuple[int, int] | None, header: Header) -> None:
    found = header.shape
    if header.dtype.kind not in "fiub":
        raise Unreadable(f"holds {header.dtype}, expected real numbers")
    if shape is not None and found != shape:
        hint = "; --resize takes maps of any size" if len(found) == 2 else ""
        raise Unreadable(f"has shape {found}, expected {shape}{hint}")
    if len(found) != 2 or 0 in found:
        raise Unreadable(f"has shape {found}, expected (height, width)")
    if found[0] * found[1] > MAX_PIXELS:
        raise Unreadable(f"has shape {found}, the limit is {MAX_PIXELS} pixels")


def _rows(path: pathlib.Path, form: str, known: dict[str, int]) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of a file's rows; the id may itself hold commas."""
    for number, line in lines(path):
        fields = line.rsplit(",", form.count(","))
        if len(fields) != form.count(",") + 1:
            raise malformed(path, number, form, line)
        if fields[0] in known:
            yield number, fields


def malformed(path: pathlib.Path, number: int, form: str, line: str) -> UserError:
    """The error for a line of another form than it should have."""
    return UserError(f"{path}, line {number}: expected {form}, got {shorten(line)}.")


def _read_labels(path: pathlib.Path, ids: dict[str, int]) -> dict[str, tuple[int, ...]] | None:
    if not path.is_file():
        return None
    form = "ID,CLASS"
    labels: dict[str, tuple[int, ...]] = {}
    for number, fields in _rows(path, form, ids):
        if not re.fullmatch(r"\s*\d{1,9}\s*", fields[1]):
            raise malformed(path, number, f"{form} with a class index from 0", ",".join(fields))
        label = int(fields[1])
        if label not in labels.setdefault(fields[0], ()):
            labels[fields[0]] += (label,)
    return labels


def _read_sizes(path: pathlib.Path, ids: dict[str, int]) -> dict[str, tuple[int, int]] | None:
    if not path.is_file():
        return None
    form = "ID,WIDTH,HEIGHT"
    sizes: dict[str, tuple[int, int]] = {}
    for number, fields in _rows(path, form, ids):
        if not all(re.fullmatch(r"\s*0*[1-9]\d{0,8}\s*", x) for x in fields[1:]):
            raise malformed(path, number, f"{form} in whole pixels from 1", ",".join(fields))
        size = (int(fields[1]), int(fields[2]))
        if sizes.setdefault(fields[0], size) != size:
            raise UserError(f"{path}, line {number}: {fields[0]!r} already has another size.")
    return sizes


def _numbers(texts: Sequence[str]) -> list[float] | None:
    """Numbers, NaN and infinity among them."""
    try:
        return [float(x) for x in texts]
    except ValueError:
        return None


def _read_localization(path: pathlib.Path, ids: dict[str, int]):
    """Boxes or None, masks or None."""
    if not path.is_file():
        return None, None
    for _, line in lines(path):  # the first row tells the kind
        fields = line.rsplit(",", 4)
        if len(fields) == 5 and _numbers(fields[1:]) is not None:
            return _read_boxes(path, ids), None
        return None, read_mask_paths(path, ids)
    return None, None


def _read_boxes(path: pathlib.Path, ids: dict[str, int]) -> dict[str, np.ndarray]:
    form = "ID,X0,Y0,X1,Y1"
    boxes: dict[str, list[list[float]]] = {}
    for number, fields in _rows(path, form, ids):
        box = _numbers(fields[1:])
        if box is None or not all(abs(value) <= MAX_COORDINATE for value in box):
            what = f"{form} with numbers of at most {MAX_COORDINATE}"
            raise malformed(path, number, what, ",".join(fields))
        if box[0] > box[2] or box[1] > box[3]:
            what = f"{form} with X0 <= X1 and Y0 <= Y1"
            raise malformed(path, number, what, ",".join(fields))
        boxes.setdefault(fields[0], []).append(box)
    return {image_id: np.array(found, np.float64) for image_id, found in boxes.items()}


def read_mask_paths(
    path: pathlib.Path, ids: dict[str, int]
) -> dict[str, list[tuple[str, str, int]]]:
    """Image id -> [(mask path, ignore path or "", line)], for the ids that are known."""
    form = "ID,X0,Y0,X1,Y1 or ID,MASK,IGNORE"
    masks: dict[str, list[tuple[str, str, int]]] = {}
    for number, line in lines(path):
        fields = line.rsplit(",", 2)
        if len(fields) != 3 or not fields[1]:
            raise malformed(path, number, form, line)
        if fields[0] not in ids:
            continue
        for name in filter(None, fields[1:]):
            check_inside(name, f"{path}, line {number}")
        masks.setdefault(fields[0], []).append((fields[1], fields[2], number))
    return masks
