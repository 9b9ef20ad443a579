"""Entries of COCO's layout, as pycocotools reads it."""

from collections.abc import Mapping, Sequence

import numpy as np

from wsol_jax.base.types import Json
from wsol_jax.data.rle import encode_mask

Content = dict[str, list[dict[str, Json]]]


def categories(class_names: Sequence[str]) -> list[dict[str, Json]]:
    """The classes, numbered from 1."""
    return [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)]


def image(
    name: str, size: tuple[int, int], scores: Mapping[str, float], first: int = 5
) -> dict[str, Json]:
    """A photo, with its ``first`` likeliest classes; ``size``: (width, height)."""
    likeliest = list(scores.items())[:first]
    return {
        "file_name": name,
        "width": size[0],
        "height": size[1],
        "classes": [{"name": name, "score": score} for name, score in likeliest],
    }


def annotation(index: int, box: np.ndarray, mask: np.ndarray, score: float) -> dict[str, Json]:
    """An object.

    Args:
      index: of its class.
      box: (4,) x0 y0 x1 y1, edges in pixels.
      mask: (H, W) bool, its pixels; they are the area.
    """
    x0, y0, x1, y1 = map(float, box)
    return {
        "category_id": int(index) + 1,
        "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)],
        "segmentation": encode_mask(mask),
        "area": int(np.count_nonzero(mask)),
        "iscrowd": 0,
        "score": float(score),
    }


def append(content: Content, photo: dict[str, Json], objects: Sequence[dict[str, Json]]) -> None:
    """Enters a photo and its objects, and numbers them from 1 on."""
    number = len(content["images"]) + 1
    content["images"].append({"id": number, **photo})
    for entry in objects:
        ids = {"id": len(content["annotations"]) + 1, "image_id": number}
        content["annotations"].append({**ids, **entry})
