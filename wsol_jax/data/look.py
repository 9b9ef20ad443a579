"""One photo of a list, and all that is said of it, looked at: what is odd, and what is wrong."""

import dataclasses
import hashlib
import os

import numpy as np
from PIL import Image

from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import BACKGROUND, UNLABELLED
from wsol_jax.data import decode
from wsol_jax.data.decode import CorruptImage
from wsol_jax.data.records import Record, Source

# What a photo may have, and how the finding is called that counts those that do.
WRONG = {
    "empty": "photos of 0 bytes",
    "unreadable": "photos that cannot be read, which a run skips",
    "truth": "boxes, masks or labels that cannot be read",
    "size": "photos of another size than their annotation says: do boxes belong to them?",
    "outside": "photos with boxes that reach outside",
    "no_area": "photos with boxes without a pixel",
    "mask_size": "masks of another size than their photo",
    "mask_label": "masks that show a class which the image's labels lack",
    "box_label": "boxes of a class which the image's labels lack",
}
ODD = {
    "suffix": "photos of another kind than their name says; the content decides",
    "turned": "photos that EXIF turns: boxes and masks count the pixels as stored",
    "deep": "photos of 16 bits a value, of which the upper 8 are kept",
    "cmyk": "photos in CMYK, read as RGB",
    "alpha": "photos with an alpha channel, which is dropped",
    "grey": "grey photos, read as RGB",
    "moving": "animations and files of several pages, of which the first picture is read",
    "tiny": "photos of less than 32 pixels a side",
    "large": "photos of more than 20 megapixels, which take long to read",
}
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
_TINY, _LARGE = 32, 20_000_000
_ORIENTATION = 0x0112


@dataclasses.dataclass
class Look:
    """What was seen of one record.

    Attributes:
      image_id: its id, or its place where it cannot be read.
      labels: of the image; ``boxes``: the class of each box; ``mask``: the classes in its mask,
        None without one.
      pixels: a hash of its decoded pixels; 0 where there are none.
      found: {key of WRONG or ODD: what in particular, "" for nothing to add}.
    """

    image_id: str
    labels: tuple[int, ...] = ()
    boxes: tuple[int, ...] = ()
    mask: tuple[int, ...] | None = None
    pixels: int = 0
    found: dict[str, str] = dataclasses.field(default_factory=dict)


def look(source: Source, index: int) -> Look:
    """Reads a record, its photo and its mask. Raises nothing for what is wrong with them."""
    try:
        record = source[index]
    except UserError as error:
        return Look(f"{source.name}, image {index}", found={"truth": str(error)})
    seen = Look(record.image_id, tuple(record.labels), tuple(map(int, record.box_labels)))
    size = _photo(record, seen)
    _boxes(record, size, seen)
    _mask(source, index, size, seen)
    return seen


def _photo(record: Record, seen: Look) -> tuple[int, int] | None:
    """Decodes the photo: its (width, height), None where it cannot be read."""
    try:
        data = decode.read_file(record.image, record.image_id)
        with decode.open_image(data, record.image_id) as opened:
            header = _header(opened)
        pixels = decode.decode_rgb(data, record.image_id)
    except CorruptImage as error:
        empty = error.reason == "the file is empty"
        seen.found["empty" if empty else "unreadable"] = "" if empty else error.reason
        return None
    seen.found |= header
    if data[:4] == b"\x89PNG" and data[24] == 16:  # Pillow's mode does not tell, of colours
        seen.found["deep"] = ""
    height, width = pixels.shape[:2]
    kind = seen.found.pop("kind")
    if isinstance(record.image, str):
        suffix = os.path.splitext(record.image)[1].lower()
        if suffix not in _SUFFIXES.get(kind, (suffix,)):
            seen.found["suffix"] = f"a {'JPEG' if kind == 'MPO' else kind}"
    if min(width, height) < _TINY:
        seen.found["tiny"] = f"{width}x{height}"
    if width * height > _LARGE:
        seen.found["large"] = f"{width}x{height}"
    if record.size is not None and tuple(record.size) != (width, height):
        turned = tuple(record.size) == (height, width) and "turned" in seen.found
        why = ", which is that of the turned one" if turned else ""
        seen.found["size"] = f"{width}x{height}, said to be {record.size[0]}x{record.size[1]}{why}"
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(pixels))
    seen.pixels = int.from_bytes(digest.digest(), "big") or 1
    return width, height


def _header(opened: Image.Image) -> dict[str, str]:
    """What the header tells of a picture; "kind" is its format."""
    found = {"kind": opened.format or ""}
    mode = opened.mode
    if mode.startswith("I") or mode == "F":
        found["deep"] = ""
    if mode == "CMYK":
        found["cmyk"] = ""
    if mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        found["alpha"] = ""
    if mode in ("1", "L", "LA", "F") or mode.startswith("I"):
        found["grey"] = ""
    if getattr(opened, "is_animated", False) and found["kind"] != "MPO":
        found["moving"] = ""
    try:
        turn = opened.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged tag hurts no pixel, and raises whatever it led to
        turn = 1
    if turn in range(2, 9):
        found["turned"] = f"orientation {turn}"
    return found


def _boxes(record: Record, size: tuple[int, int] | None, seen: Look) -> None:
    """Boxes against the photo and its labels."""
    strange = set(map(int, record.box_labels)) - set(record.labels)
    if strange:
        seen.found["box_label"] = _numbers(strange)
    for box in np.asarray(record.boxes, np.float64).reshape(-1, 4):
        x0, y0, x1, y1 = box
        said = " ".join(f"{value:g}" for value in box)
        if x1 < x0 or y1 < y0:
            seen.found["no_area"] = said
        elif size and (x0 < 0 or y0 < 0 or x1 > size[0] - 1 or y1 > size[1] - 1):
            seen.found["outside"] = f"{said} in {size[0]}x{size[1]}"


def _mask(source: Source, index: int, size: tuple[int, int] | None, seen: Look) -> None:
    """The mask against the photo and its labels."""
    try:
        mask = source.mask(index)
    except UserError as error:
        seen.found["truth"] = str(error)
        return
    if mask is None:
        return
    codes = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    seen.mask = tuple(int(c) - 1 for c in codes if c not in (BACKGROUND, UNLABELLED))
    if size is not None and mask.shape[::-1] != size:
        seen.found["mask_size"] = f"{mask.shape[1]}x{mask.shape[0]} for {size[0]}x{size[1]}"
    strange = set(seen.mask) - set(seen.labels)
    if strange:
        seen.found["mask_label"] = _numbers(strange)


def _numbers(classes: set[int]) -> str:
    """Class indices as text, which whoever knows the names replaces."""
    return " ".join(map(str, sorted(classes)))
