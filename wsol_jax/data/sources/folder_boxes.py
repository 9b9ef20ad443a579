"""The CSV file of boxes of an own folder of photos."""

import dataclasses
import difflib
import math
import pathlib

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_inside, shorten
from wsol_jax.base.limits import MAX_COORDINATE
from wsol_jax.data import decode
from wsol_jax.data.sources import csv_files
from wsol_jax.data.sources.left_out import PassedOver

_HEADER = ("image", "x0", "y0", "x1", "y1")


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the file: a box, the class that it names, its place for errors."""

    box: tuple[float, float, float, float]
    label: int | None  # None: the label of the photo's folder
    where: str  # file and line, for errors


def read_boxes(
    path: pathlib.Path,
    root: pathlib.Path,
    class_names: tuple[str, ...],
    passed: PassedOver | None = None,
) -> dict[str, list[Row]]:
    """{image id: its rows}, every line checked whether or not its photo is in the list.

    A row without a photo is left out where ``passed`` is not strict.
    """
    passed = passed or PassedOver()
    boxes: dict[str, list[Row]] = {}
    known: set[str] = set()
    with csv_files.reading(path, "boxes file") as reader:
        header = tuple(word.strip().lower() for word in next(reader, []))
        if header not in (_HEADER, (*_HEADER, "class")):
            raise UserError(
                f"{path}, line 1: expected the header image,x0,y0,x1,y1 with or without "
                f",class, not {shorten(','.join(header))}"
            )
        for words in reader:
            if not words:
                continue
            row, image_id = _parse(words, len(header), f"{path}, line {reader.line_num}")
            if image_id not in known and not (root / image_id).is_file():
                passed.refuse(
                    f"rows of {path.name} without a photo",
                    image_id,
                    f"{row.where}: there is no photo {root / image_id}; the first column is "
                    f"the path below {root}",
                )
                continue
            known.add(image_id)
            boxes.setdefault(image_id, []).append(_with_label(row, words, header, class_names))
    return boxes


def _parse(words: list[str], columns: int, where: str) -> tuple[Row, str]:
    if len(words) != columns:
        raise UserError(f"{where}: expected {columns} values as in the header, not {len(words)}")
    try:
        box = tuple(float(word) for word in words[1:5])
    except ValueError:
        box = (math.nan,) * 4
    found = ", ".join(words[1:5])[:80]
    if not all(abs(v) <= MAX_COORDINATE for v in box):  # NaN is not
        raise UserError(
            f"{where}: x0, y0, x1, y1 must be numbers, not {found}, and at most {MAX_COORDINATE}"
        )
    x0, y0, x1, y1 = box
    if x1 < x0 or y1 < y0 or x0 < 0 or y0 < 0:
        raise UserError(
            f"{where}: expected 0 <= x0 <= x1 and 0 <= y0 <= y1 (pixels from 0, both corners "
            f"inside the object), not {found}"
        )
    check_inside(words[0].strip(), where)
    image_id = pathlib.PurePosixPath(words[0].strip().replace("\\", "/")).as_posix()
    return Row(box, None, where), image_id


def _with_label(
    row: Row, words: list[str], header: tuple[str, ...], class_names: tuple[str, ...]
) -> Row:
    if len(header) == len(_HEADER):
        return row
    name = words[5].strip()
    if name not in class_names:
        near = difflib.get_close_matches(name, class_names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(class_names[:20])}"
        raise UserError(f"{row.where}: {shorten(name)} is no class; {hint}")
    return dataclasses.replace(row, label=class_names.index(name))


def check_boxes(
    image: str, rows: list[Row], passed: PassedOver
) -> tuple[tuple[int, int] | None, list[Row]]:
    """The photo's (width, height), None where it cannot be read, and the boxes that lie in it."""
    try:
        width, height = decode.image_size(image)
    except decode.CorruptImage:
        return None, rows  # decoding names and skips it
    inside = []
    for row in rows:
        if row.box[2] <= width - 1 and row.box[3] <= height - 1:
            inside.append(row)
            continue
        passed.refuse(
            "boxes outside of their photo",
            row.where,
            f"{row.where}: the box ends at {row.box[2]:g}, {row.box[3]:g}, but {image} is "
            f"{width}x{height}, so x1 is at most {width - 1} and y1 at most {height - 1}",
        )
    return (width, height), inside
