"""Pseudo-labels scored against the truth of the list that they were made of."""

from typing import Any

import numpy as np
from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data.pseudo_labels import LabelFolder
from wsol_jax.data.records import Source
from wsol_jax.data.transforms import WHOLE, cut_labels
from wsol_jax.metrics.segmentation import ConfusionMatrix


def check_classes(num_classes: int) -> None:
    """Raises UserError for more classes than ``score_labels`` can tell apart."""
    most = UNLABELLED - 2  # beside background and what has no label
    if num_classes > most:
        raise UserError(f"eval.labels: scores {most} classes at most, not {num_classes}.")


def score_labels(
    place: LabelFolder, source: Source, mean_classes: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Scores what a label stage wrote on the images of a list that have masks.

    Args:
      place: of products that hold no classes (region ids, soft maps) there is nothing to score.
      mean_classes: those that the mean IoU is taken over, and background; () for all.

    Returns:
      {"images", "miou", "labelled", "accuracy"}, or {PRODUCT: these} where a stage leaves several.
      miou: a pixel without a label counts as missed for its true class. labelled: the share of the
      pixels that have one. accuracy: of these. Pixels whose truth is 255 count for nothing. {}
      where nothing can be scored; figures are None where no image has a mask.
    """
    names = [name for name, own in place.products.items() if own.holds_classes]
    found = {name: _score(place, name, source, mean_classes) for name in names}
    return found[names[0]] if len(place.products) == 1 and names else found


def photo_iou(labels: np.ndarray, truth: np.ndarray, num_classes: int) -> float | None:
    """Mean IoU of one photo's labels, over the classes that it shows or is said to show.

    None where nothing of the truth counts, or there are more classes than can be told apart.

    Args:
      labels: (h, w) classes over the photo, 255 without a label: missed for their true class.
      truth: (H, W) classes, 255 ignored.
    """
    if num_classes > UNLABELLED - 2:
        return None
    confusion, classes = ConfusionMatrix(num_classes + 2), 1 + num_classes
    confusion.update("", truth, _at(labels, truth.shape, classes))
    miou = float(confusion.compute(classes=range(classes))["miou"])
    return miou if np.isfinite(miou) else None


def _score(
    place: LabelFolder, product: str, source: Source, mean_classes: tuple[str, ...]
) -> dict[str, Any]:
    classes = 1 + len(source.class_names)
    confusion = ConfusionMatrix(classes + 1)  # the last: no label
    for index in range(len(source)):
        image_id = source[index].image_id
        if not place.path(image_id, product).is_file():
            continue  # a photo that nobody could read
        truth = source.mask(index)
        if truth is None:
            continue
        confusion.update(image_id, truth, _at(place.read(image_id, product), truth.shape, classes))
    if not len(confusion):
        logging.warning("list %s has no masks: its labels are not scored", source.name)
        return {"images": 0, **dict.fromkeys(("miou", "labelled", "accuracy"))}
    wanted = range(classes)
    if mean_classes:
        wanted = (0, *(1 + list(source.class_names).index(name) for name in mean_classes))
    counts = confusion.counts[:classes]
    labelled, total = int(counts[:, :classes].sum()), int(counts.sum())
    miou = float(confusion.compute(classes=tuple(wanted))["miou"])
    return {
        "images": len(confusion),
        "miou": miou if np.isfinite(miou) else None,
        "labelled": labelled / total if total else None,
        "accuracy": int(np.trace(counts[:, :classes])) / labelled if labelled else None,
    }


def _at(labels: np.ndarray, shape: tuple[int, int], classes: int) -> np.ndarray:
    """Labels at the truth's pixels, each taking the cell that it lies in; ``classes``: none."""
    if labels.shape != shape:
        labels = cut_labels(labels, WHOLE, shape)
    return np.where(labels == UNLABELLED, classes, labels)
