"""The table of image labels of an own folder: labels.csv."""

import dataclasses
import difflib
import pathlib
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_inside, shorten
from wsol_jax.data.records import no_boxes
from wsol_jax.data.sources import csv_files
from wsol_jax.data.sources.coco_masks import CocoObject
from wsol_jax.data.sources.left_out import PassedOver

NAME = "labels.csv"
_HEADER = ("image", "labels")
_COLUMNS = f"{','.join(_HEADER)} with or without ,split"


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A photo and what is said of it, before its classes have numbers.

    Attributes:
      image_id: its path below the root, with "/".
      labels: names of its classes, each once.
      split: the list that it was put in; "" where nobody said.
      where: file and line, for errors.
      size: (width, height), where that was said.
      boxes: (N, 4) float32 as a Record's; ``box_labels``: the class of each, by name.
      objects: of a COCO file, for the mask; None where nobody outlined any.
    """

    image_id: str
    labels: tuple[str, ...]
    split: str = ""
    where: str = ""
    size: tuple[int, int] | None = None
    boxes: np.ndarray = dataclasses.field(default_factory=no_boxes)
    box_labels: tuple[str, ...] = ()
    objects: tuple[CocoObject, ...] | None = None


class Photos:
    """The photos of a folder by the names that a table or a COCO file may have for them.

    Args:
      found: their paths below the root.
      bases: folders below the root that a name may be meant from, "" for the root itself; the
        first that has the photo counts.
    """

    def __init__(self, found: Sequence[str], bases: Sequence[str]):
        self._found, self._bases = frozenset(found), tuple(bases)
        self._folded: dict[str, str] | None = None

    def find(self, name: str, where: str) -> str | None:
        """A photo's path below the root; None for none. Raises UserError for a name leading out.

        A letter with its accent may be written as one character or as two: macOS' disks change it.
        """
        check_inside(name, where)
        name = pathlib.PurePosixPath(name.replace("\\", "/")).as_posix()
        for base in self._bases:
            if base + name in self._found:
                return base + name
        if name.isascii():
            return None
        if self._folded is None:
            self._folded = {unicodedata.normalize("NFC", path): path for path in self._found}
        places = (unicodedata.normalize("NFC", base + name) for base in self._bases)
        return next((self._folded[p] for p in places if p in self._folded), None)


def read_table(
    path: pathlib.Path, photos: Photos, lists: Sequence[str], passed: PassedOver
) -> list[Labelled]:
    """The rows of a table, in its order; a photo of several rows has the labels of all.

    Args:
      lists: what may stand in the column split.

    Raises:
      UserError: with file and line, what was expected there. Where ``passed`` is not strict, a row
        without a photo and a second row of a photo are none.
    """
    rows: dict[str, Labelled] = {}
    for words, where in _rows(path):
        name, labels = words["image"].strip(), _labels(words["labels"])
        split = words.get("split", "").strip()
        if "split" in words and split not in lists:
            raise UserError(
                f"{where}: the split {shorten(split)} is no list; expected {', '.join(lists)} "
                "(train=, tune= and test= after the data set name others)"
            )
        image_id = photos.find(name, where)
        if image_id is None:
            passed.refuse(
                f"rows of {path.name} without a photo", name, f"{where}: there is no photo {name}"
            )
            continue
        if image_id in rows:
            before = rows[image_id]
            passed.refuse(
                f"further rows of {path.name} on a photo, whose labels are added",
                name,
                f"{where}: {name} is already on {before.where.rpartition(', ')[2]}",
            )
            if split != before.split:
                raise UserError(f"{where}: {name} is in the split {before.split!r} too")
            labels = tuple(dict.fromkeys([*before.labels, *labels]))
            rows[image_id] = dataclasses.replace(before, labels=labels)
            continue
        rows[image_id] = Labelled(image_id, labels, split, where)
    if not rows:
        raise UserError(f"table {path} names no photo: expected a line each, image,labels")
    return list(rows.values())


def _labels(text: str) -> tuple[str, ...]:
    names = (name.strip() for name in text.split(";"))
    return tuple(dict.fromkeys(name for name in names if name))


def _rows(path: pathlib.Path) -> Iterator[tuple[dict[str, str], str]]:
    """(values by column, file and line) of a table's lines."""
    with csv_files.reading(path, "table") as reader:
        header = [word.strip().lower() for word in next(reader, [])]
        if not set(_HEADER) <= set(header) or len(set(header)) < len(header):
            hint = ", and commas between columns" if ";" in "".join(header) else ""
            raise UserError(
                f"{path}, line 1: expected the header {_COLUMNS}{hint}, not "
                f"{shorten(','.join(header))}"
            )
        for words in reader:
            if not any(word.strip() for word in words):
                continue
            where = f"{path}, line {reader.line_num}"
            if len(words) != len(header):
                raise UserError(
                    f"{where}: expected {len(header)} values as in the header, not "
                    f"{len(words)}; labels of one photo are separated by ;"
                )
            yield dict(zip(header, words, strict=True)), where


def no_class(name: str, known: Sequence[str], train_list: str) -> str:
    """The end of a sentence on a label that no photo to train on has."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(known[:20])}"
    return f"no photo of the list {train_list} has the label {shorten(name)}; {hint}"
