"""Annotation files of PASCAL VOC and ILSVRC: an XML file an image, with its objects' boxes."""

import dataclasses
import os
import re
import stat
import xml.etree.ElementTree as ET

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import shorten
from wsol_jax.base.limits import MAX_COORDINATE, MAX_XML


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One XML file as it stands.

    Attributes:
      size: (width, height), or None.
      names: of its N objects.
      boxes: (N, 4) as written.
      difficult: (N,) bool, which objects are marked so.
    """

    size: tuple[int, int] | None
    names: tuple[str, ...]
    boxes: np.ndarray
    difficult: np.ndarray


def read_annotation(path: str | os.PathLike) -> Annotation:
    """Reads a VOC or ILSVRC annotation file.

    Boxes are xmin ymin xmax ymax, float32, exactly as in the file (VOC counts from 1, ILSVRC from
    0). Only an <object>'s own box is read, not those of its <part>s. Objects marked ``difficult``
    are kept: that flag is for scoring detectors, the object is in the photo all the same.

    Raises UserError where the file is absent, no XML, too large, or has an object without a name or
    box, or whose <difficult> is neither 0 nor 1.
    """
    root = _parse(path)
    size = []
    for key in ("width", "height"):
        text = root.findtext(f"size/{key}", "0").strip()
        if not re.fullmatch(r"-?\d{1,8}", text):
            raise UserError(
                f"annotation {path}: <size> must hold whole numbers of at most 8 digits"
            )
        size.append(int(text))
    names, boxes, difficult = [], [], []
    for number, obj in enumerate(root.findall("object"), start=1):
        name = (obj.findtext("name") or "").strip()
        corners = [obj.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        try:
            box = [float(c) for c in corners]  # VOC 2011 has corners such as 45.70000076293945
        except (TypeError, ValueError):
            box = []
        # Not so for NaN either.
        if not name or not box or not all(abs(corner) <= MAX_COORDINATE for corner in box):
            raise UserError(
                f"annotation {path}: object {number} needs a <name> and a <bndbox> with the "
                f"numbers xmin, ymin, xmax, ymax, of at most {MAX_COORDINATE}"
            )
        if box[2] < box[0] or box[3] < box[1]:
            raise UserError(
                f"annotation {path}: object {number} ({name[:80]}) has xmin, ymin, xmax, ymax = "
                f"{', '.join(f'{v:g}' for v in box)}: the maxima must not lie below the minima"
            )
        mark = (obj.findtext("difficult") or "0").strip()
        if mark not in ("0", "1"):
            raise UserError(
                f"annotation {path}: object {number} ({name[:80]}) has <difficult> "
                f"{shorten(mark)}: expected 0 or 1"
            )
        names.append(name)
        boxes.append(box)
        difficult.append(mark == "1")
    known = (size[0], size[1]) if min(size) > 0 else None
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    return Annotation(known, tuple(names), corners, np.array(difficult, bool))


def _parse(path: str | os.PathLike) -> ET.Element:
    """The file's root. Entities that expand to much are refused by expat itself."""
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):  # a pipe would let us wait for ever
            raise UserError(f"annotation {path} is no file")
        if about.st_size > MAX_XML:
            raise UserError(f"annotation {path} has more than {MAX_XML} bytes, expected some KB")
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise UserError(
            f"annotation {path} is missing: every image of a list needs one, for its labels"
        ) from None
    except (OSError, ValueError) as e:  # ValueError: a NUL in the path
        why = getattr(e, "strerror", None) or e
        raise UserError(f"annotation {path} cannot be read: {why}") from None
    try:
        return ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError) as e:  # the last two: an unknown encoding
        raise UserError(f"annotation {path} is not readable XML: {e}") from None


def clip_boxes(boxes: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Moves (N, 4) 0-based inclusive corners inside an image of (width, height), if known."""
    boxes = np.maximum(boxes, 0)
    if size is not None:
        width, height = size
        boxes = np.minimum(boxes, np.array([width, height, width, height], np.float32) - 1)
    return boxes.astype(np.float32)
