"""How much of a list a folder of pseudo-labels labels, and a hash of every value."""

import concurrent.futures
import hashlib

import numpy as np

from wsol_jax.base import threads
from wsol_jax.base.labels import BACKGROUND, UNLABELLED
from wsol_jax.base.types import Json
from wsol_jax.data.label_formats import Format
from wsol_jax.data.pseudo_labels import Arrays, LabelFolder
from wsol_jax.data.records import Source


def summarise(place: LabelFolder, source: Source) -> dict[str, Json]:
    """Figures of the labels of a list, in its order.

    Returns:
      {"images", "unreadable": ids without labels, figures of the only product or
      {PRODUCT: figures}, "sha256"}.

    Raises:
      UserError: a file is damaged.
    """
    digest, unreadable, images = hashlib.sha256(), [], 0
    tallies = {name: _TALLIES[own.kind](own) for name, own in place.products.items()}

    def read(index: int) -> tuple[str, Arrays | None]:
        name = source[index].image_id
        if not place.has(name):
            return name, None
        return name, {product: place.read(name, product) for product in place.products}

    with concurrent.futures.ThreadPoolExecutor(threads.usable_cores()) as pool:
        for name, arrays in threads.in_order(pool, read, range(len(source))):
            if arrays is None:
                unreadable.append(name)
                continue
            images += 1
            for product, values in arrays.items():
                digest.update(_title(name, product, place.products[product], values))
                digest.update(values.tobytes())
                tallies[product].add(values)
    figures = {name: tally.figures(source.class_names) for name, tally in tallies.items()}
    if len(figures) == 1:
        (figures,) = figures.values()
    return {
        "images": images,
        "unreadable": unreadable,
        **figures,
        "sha256": digest.hexdigest(),
    }


def _title(image_id: str, product: str, own: Format, values: np.ndarray) -> bytes:
    if own.kind == "cells":  # all of one shape
        return f"{image_id}\n".encode()
    return f"{image_id} {product} {values.shape}\n".encode()


class _Classes:
    """Shares of the pixels (cells) by class."""

    def __init__(self, own: Format):
        self.size = {"size": own.size} if own.size else {}
        self.counts = np.zeros(256, np.int64)

    def add(self, values: np.ndarray) -> None:
        self.counts += np.bincount(values.ravel(), minlength=256)

    def figures(self, class_names) -> dict[str, Json]:
        counts = self.counts
        total = max(int(counts.sum()), 1)
        of_class = zip(class_names, counts[1:UNLABELLED], strict=False)
        return {
            **self.size,
            "foreground": int(counts[1:UNLABELLED].sum()) / total,
            "background": int(counts[BACKGROUND]) / total,
            "unlabelled": int(counts[UNLABELLED]) / total,
            "by_class": {name: int(count) / total for name, count in of_class if count},
        }


class _Regions:
    """How many regions a photo has, on average."""

    def __init__(self, own: Format):
        self.images = self.found = 0

    def add(self, values: np.ndarray) -> None:
        self.images += 1
        self.found += len(np.unique(values))

    def figures(self, class_names) -> dict[str, Json]:
        return {"regions": self.found / max(self.images, 1)}


class _SoftMaps:
    """The mean of the maps, by channel."""

    def __init__(self, own: Format):
        self.images, self.means = 0, 0.0

    def add(self, values: np.ndarray) -> None:
        self.images += 1
        self.means = self.means + values.mean(axis=(0, 1), dtype=np.float64)

    def figures(self, class_names) -> dict[str, Json]:
        return {"means": np.ravel(self.means / max(self.images, 1)).tolist()}


_TALLIES = {"cells": _Classes, "mask": _Classes, "regions": _Regions, "soft_maps": _SoftMaps}
