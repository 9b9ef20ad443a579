"""The strip of a photo in a run with several label stages: what each made of it, in their order."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from wsol_jax.base.labels import BACKGROUND, UNLABELLED
from wsol_jax.data import transforms
from wsol_jax.data.decode import decode_rgb
from wsol_jax.data.pipeline import eval_size
from wsol_jax.data.pseudo_labels import LabelFolder
from wsol_jax.data.records import Record, Source
from wsol_jax.evaluate.label_scores import photo_iou
from wsol_jax.evaluate.shown import drawn
from wsol_jax.methods import plain_maps
from wsol_jax.report import encode, overlays, tables
from wsol_jax.report.example import PHOTO_SIDE, Example
from wsol_jax.runs.opened import Network

MAPS = "class maps"  # the heat that the labels grew from


def strips(
    source: Source, folders: Mapping[str, LabelFolder], network: Network | None, wanted: int
) -> list[Example]:
    """Some training images with all their labels, and the class maps that these grew from.

    Photos that nobody could read have no labels, and are no examples; a stage that has none of a
    photo is left out of its strip. The truth stands at the end, where the list has masks.

    Args:
      source: the training list.
      folders: of the label stages by name, in their order.
      network: whose class maps the labels grew from; None shows none.
      wanted: photos of a gallery; a third of them is shown.
    """
    chosen = sorted(drawn(source, wanted))[: wanted // 3]
    chosen = [i for i in chosen if _places(folders, source[i].image_id)]
    heats = dict(zip(chosen, class_heats(network, source, chosen), strict=True)) if network else {}
    return [_strip(source, index, folders, heats.get(index)) for index in chosen]


def class_heats(network: Network, source: Source, indices: Sequence[int]) -> list[np.ndarray]:
    """(h, w) floats in 0..1 of some images: the highest of their classes' maps.

    Each map is counted from 0 to its maximum. One process computes them alone, as it writes them.
    """
    config, method = network.config, network.method
    size, rows = eval_size(config), config.eval.batch_size
    variables = jax.tree.map(np.asarray, network.variables)
    localize, found = jax.jit(lambda variables, x: method.localize(variables, x).maps), []
    for start in range(0, len(indices), rows):
        records = [source[index] for index in indices[start : start + rows]]
        photos = [decode_rgb(record.image, record.image_id) for record in records]
        images = np.stack([transforms.resize(photo, size, size) for photo in photos])
        maps = localize(variables, images)
        maps = np.asarray(plain_maps(maps))
        for record, own in zip(records, maps, strict=True):
            own = np.maximum(own[..., list(record.labels)], 0).astype(np.float32)
            top = np.maximum(own.max(axis=(0, 1)), 1e-12)
            found.append((own / top).max(axis=-1, initial=0))
    return found


def _places(folders: Mapping[str, LabelFolder], image_id: str) -> list[tuple[str, str]]:
    """The stages and products that have labels of an image."""
    every = [(stage, product) for stage, own in folders.items() for product in own.products]
    return [(s, p) for s, p in every if folders[s].path(image_id, p).is_file()]


def _strip(
    source: Source, index: int, folders: Mapping[str, LabelFolder], heat: np.ndarray | None
) -> Example:
    """A training image with its pictures in the order of the stages, the truth at the end."""
    record, names = source[index], source.class_names
    image = encode.shrink(decode_rgb(record.image, record.image_id), PHOTO_SIDE)
    truth, iou = source.mask(index), None
    pictures: dict[str, np.ndarray] = {}
    painted: set[int] = set()
    rest = heat
    for stage, product in _places(folders, record.image_id):
        folder = folders[stage]
        caption = stage if len(folder.products) == 1 else f"{stage}/{product}"
        values = folder.read(record.image_id, product)
        if not folder.products[product].holds_classes:
            picture = _picture(folder.products[product].kind, values, image, record, names)
            if picture is not None:
                pictures[caption] = picture
            continue
        if rest is not None:  # before the first classes, which were cut of it
            pictures[MAPS], rest = rest, None
        if truth is not None:
            iou = photo_iou(values, truth, len(names))
            caption += "" if iou is None else f" {tables.percent(iou)}"
        pictures[caption] = overlays.paint_classes(image, values)
        painted |= set(map(int, np.unique(values)))
    if rest is not None:
        pictures[MAPS] = rest
    if truth is not None:
        pictures["truth"] = overlays.paint_classes(image, truth)
        painted |= set(map(int, np.unique(truth)))
    return Example(
        image_id=record.image_id,
        image=image,
        score_map=np.zeros((1, 1), np.float32) if heat is None else heat,
        true_boxes=np.zeros((0, 4)),
        box=None,
        iou=iou,  # of the last stage
        label=", ".join(names[c] for c in record.labels),
        labels=tuple(names[c] for c in record.labels),
        predicted=", ".join(names[c - 1] for c in sorted(painted - {BACKGROUND, UNLABELLED})),
        pictures=pictures,
        split=f"{source.name}, stage by stage",
    )


def _picture(
    kind: str, values: np.ndarray, image: np.ndarray, record: Record, names: Sequence[str]
) -> np.ndarray | None:
    """Regions outlined on the photo; of soft maps the highest; None of a map of one cell."""
    if kind == "regions":
        return overlays.outline_regions(image, values)
    if values.shape[:2] == (1, 1):  # stands for a photo that has none
        return None
    if values.shape[-1] == len(names) > 1:  # a map a class
        values = values[..., list(record.labels)]
    return values.astype(np.float32).max(axis=-1, initial=0)
