"""COCO JSON of an own folder: several labels an image, boxes, outlines."""

import functools
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import shorten
from wsol_jax.base.limits import MAX_COORDINATE, MAX_JSON, MAX_PIXELS
from wsol_jax.data.rle import unpack_runs
from wsol_jax.data.sources.coco_masks import CocoObject
from wsol_jax.data.sources.folder_table import Labelled, Photos
from wsol_jax.data.sources.left_out import PassedOver

NAME = "annotations.json"
_SLACK = 1.0  # pixels that a box may reach over its photo's edge: tools round
_EDGES = ("x", "y", "width", "height")


def find_file(root: pathlib.Path, list_name: str) -> pathlib.Path | None:
    """The file of one list: where exporters, Roboflow and COCO itself put it; None for none."""
    if not list_name:
        return None
    places = (
        f"{list_name}/{NAME}",
        f"{list_name}/_annotations.coco.json",
        f"annotations/{list_name}.json",
        f"annotations/instances_{list_name}.json",
    )
    return next((root / place for place in places if (root / place).is_file()), None)


def read_coco(
    path: pathlib.Path, photos: Photos, passed: PassedOver
) -> tuple[tuple[str, ...], list[Labelled]]:
    """(names of the categories that have an object, by their ids; the images in the file's order).

    Boxes become inclusive corners. An image without an object has no label.

    Raises:
      UserError: with file, entry and field, what was expected there. Where ``passed`` is not
        strict, images without a photo, objects of an unknown image and boxes outside are none.
    """
    content = _read(path)
    names = _categories(content["categories"], path)
    images: dict[Any, dict[str, Any]] = {}
    for number, image in enumerate(content["images"]):
        where = f"{path}: images[{number}]"
        name, size = _image(image, where)
        if image["id"] in images:
            raise UserError(f"{where}.id: {shorten(str(image['id']))} is there twice")
        image_id = photos.find(name, f"{where}.file_name")
        if image_id is None:
            passed.refuse(
                f"images of {path.name} without a photo",
                name,
                f"{where}.file_name: there is no photo {name}",
            )
        images[image["id"]] = {"id": image_id, "size": size, "objects": [], "where": where}
    seen: set[int] = set()
    for number, entry in enumerate(content["annotations"]):
        where = f"{path}: annotations[{number}]"
        image, category = _places(entry, images, names, where)
        if image is None:
            passed.refuse(
                f"objects of {path.name} of no image",
                str(number),
                f"{where}.image_id: {shorten(str(entry.get('image_id')))} is none of its images",
            )
            continue
        if image["id"] is None:
            continue
        seen.add(category)
        image["objects"].append(_object(entry, names[category], image["size"], passed, where))
    outlined = any(one.outlined for image in images.values() for one in image["objects"])
    found: dict[str, Labelled] = {}
    for image in images.values():
        if image["id"] is None:
            continue
        if image["id"] in found:
            raise UserError(f"{image['where']}.file_name: {image['id']} is there twice")
        found[image["id"]] = _labelled(image, outlined)
    if not found:
        raise UserError(f"{path} names no photo of its folder: expected images[].file_name")
    return tuple(name for key, name in sorted(names.items()) if key in seen), list(found.values())


def _labelled(image: Mapping[str, Any], outlined: bool) -> Labelled:
    """An image with its objects; ``outlined``: whether the file has any outline at all."""
    objects = tuple(image["objects"])
    boxed = [one for one in objects if one.box is not None and not one.crowd]
    known = not objects or any(one.outlined for one in objects)
    return Labelled(
        image_id=image["id"],
        labels=tuple(dict.fromkeys(one.label for one in objects)),
        where=image["where"],
        size=image["size"],
        boxes=np.array([one.box for one in boxed], np.float32).reshape(-1, 4),
        box_labels=tuple(one.label for one in boxed),
        objects=objects if outlined and known else None,
    )


def _read(path: pathlib.Path) -> dict[str, list[Any]]:
    try:
        about = os.stat(path)
    except OSError as error:
        raise UserError(f"COCO file {path} cannot be read: {error.strerror}.") from None
    return _parse(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=2)  # several lists are read of one file, and asked for its labels
def _parse(path: pathlib.Path, stamp: int, size: int) -> dict[str, list[Any]]:
    if size > MAX_JSON:
        raise UserError(f"COCO file {path} has {size} bytes, the limit is {MAX_JSON} bytes.")
    try:
        if not path.is_file():
            raise ValueError("it is no file")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"COCO file {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"COCO file {path} is no JSON: {str(error)[:200]}.") from None
    if not isinstance(content, dict):
        raise UserError(f"COCO file {path}: expected images, annotations and categories.")
    for key in ("images", "annotations", "categories"):
        entries = content.get(key)
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise UserError(f"COCO file {path}: {key}: expected a list of entries.")
    return content


def _categories(entries: Sequence[Mapping[str, Any]], path: pathlib.Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, entry in enumerate(entries):
        where, key, name = f"{path}: categories[{number}]", entry.get("id"), entry.get("name")
        if not _is_whole(key) or key in names:
            raise UserError(f"{where}.id: expected a whole number of its own, not {_short(key)}")
        if not isinstance(name, str) or not name.strip() or name in names.values():
            raise UserError(f"{where}.name: expected a name of its own, not {_short(name)}")
        names[key] = name
    return names


def _image(image: Mapping[str, Any], where: str) -> tuple[str, tuple[int, int] | None]:
    """An image's file and (width, height), None where the file does not say."""
    name = image.get("file_name")
    if not isinstance(name, str):
        raise UserError(f"{where}.file_name: expected a photo's path, not {_short(name)}")
    if not isinstance(image.get("id"), int | str):
        raise UserError(f"{where}.id: expected a number or a text, not {_short(image.get('id'))}")
    sides = [image.get(key) for key in ("width", "height")]
    if sides == [None, None]:
        return name, None
    if not all(_is_whole(side) and side > 0 for side in sides) or math.prod(sides) > MAX_PIXELS:
        raise UserError(f"{where}: expected width and height in pixels, not {_short(sides)}")
    return name, (sides[0], sides[1])


def _places(
    entry: Mapping[str, Any], images: Mapping[Any, Any], names: Mapping[int, str], where: str
) -> tuple[Any, int]:
    """The image of an object, None for none, and its category."""
    category, image_id = entry.get("category_id"), entry.get("image_id")
    if not _is_whole(category) or category not in names:
        raise UserError(
            f"{where}.category_id: {_short(category)} is none of its {len(names)} categories"
        )
    if not isinstance(image_id, int | str):
        raise UserError(f"{where}.image_id: expected an image's id, not {_short(image_id)}")
    return images.get(image_id), category


def _object(
    entry: Mapping[str, Any],
    label: str,
    size: tuple[int, int] | None,
    passed: PassedOver,
    where: str,
) -> CocoObject:
    polygons, runs = _outline(entry.get("segmentation"), size, where)
    return CocoObject(
        label=label,
        polygons=polygons,
        runs=runs,
        box=_box(entry.get("bbox"), size, passed, where),
        crowd=bool(entry.get("iscrowd", 0)),
    )


def _box(
    box: Any, size: tuple[int, int] | None, passed: PassedOver, where: str
) -> tuple[float, float, float, float] | None:
    """x, y, width, height as x0 y0 x1 y1 with both corners inside; None for none."""
    if box is None or box == []:
        return None
    if not _are_numbers(box) or len(box) != 4:
        raise UserError(f"{where}.bbox: expected {', '.join(_EDGES)} in pixels, not {_short(box)}")
    x, y, width, height = map(float, box)
    if width <= 0 or height <= 0:
        passed.refuse(
            "boxes without a pixel",
            f"{where}.bbox",
            f"{where}.bbox: expected a width and a height above 0, not {width:g}, {height:g}",
        )
        return None
    right, bottom = (x + width, y + height) if size is None else size
    over = max(-x, -y, x + width - right, y + height - bottom)
    if over > _SLACK:
        passed.refuse(
            "boxes outside of their photo",
            f"{where}.bbox",
            f"{where}.bbox: it reaches {over:g} pixels over the edge of its photo of "
            f"{right:g}x{bottom:g}",
        )
        return None
    x0, y0 = max(x, 0.0), max(y, 0.0)
    x1, y1 = min(x + width, right) - 1, min(y + height, bottom) - 1
    return x0, y0, max(x0, x1), max(y0, y1)


def _outline(
    outline: Any, size: tuple[int, int] | None, where: str
) -> tuple[tuple[np.ndarray, ...], np.ndarray | None]:
    """(polygons, run lengths) of an object, one of them; neither where it has no outline."""
    where = f"{where}.segmentation"
    if outline is None or outline == []:
        return (), None
    if isinstance(outline, list):
        for polygon in outline:
            if not _are_numbers(polygon) or len(polygon) < 6 or len(polygon) % 2:
                raise UserError(
                    f"{where}: expected polygons of three corners and more, x, y, x, y, ..., not "
                    f"{_short(polygon)}"
                )
        return tuple(np.array(polygon, np.float64) for polygon in outline), None
    counts = outline.get("counts") if isinstance(outline, dict) else None
    if not isinstance(counts, str | list) or size is None:
        raise UserError(
            f"{where}: expected polygons, or counts and size, and the image's width and height"
        )
    if outline.get("size") != [size[1], size[0]]:
        raise UserError(
            f"{where}.size: expected its image's height and width, {[size[1], size[0]]}, not "
            f"{_short(outline.get('size'))}"
        )
    try:
        if isinstance(counts, str):
            runs = unpack_runs(counts)
        elif all(_is_whole(count) for count in counts):
            runs = np.array(counts, np.int64)
        else:
            raise ValueError("a run's length is no whole number")
        pixels = size[0] * size[1]
        if ((runs < 0) | (runs > pixels)).any() or int(runs.sum()) != pixels:
            raise ValueError(f"its runs do not add up to {size[0]}x{size[1]} pixels")
    except (ValueError, OverflowError) as error:
        raise UserError(f"{where}.counts: {error}") from None
    return (), runs.astype(np.uint32)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _are_numbers(values: Any) -> bool:
    """Whether this is a list of numbers that a photo may have, NaN none of them."""
    return isinstance(values, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= MAX_COORDINATE
        for v in values
    )


def _short(value: Any) -> str:
    return shorten(value if isinstance(value, str) else repr(value)[:100])
