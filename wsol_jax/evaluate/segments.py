"""Segments: a segmentation against the masks, with a dense CRF on the photo and without it."""

from collections.abc import Sequence

import ml_collections
import numpy as np
from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data.lists import Lists
from wsol_jax.data.records import Source, has_masks
from wsol_jax.evaluate.kind import Baseline, Kind, Row, Task, Truth
from wsol_jax.evaluate.localize import LocalizedImage
from wsol_jax.evaluate.photo_size import apply_crf, segment_probabilities
from wsol_jax.evaluate.results import Results
from wsol_jax.evaluate.segment_scores import SegmentationScores
from wsol_jax.evaluate.shown import Card
from wsol_jax.evaluate.thresholded import CAM, Thresholded
from wsol_jax.ops.crf_settings import CrfSettings
from wsol_jax.runs.opened import Network, OpenedRun

BEFORE_CRF = "before_crf"  # a part: what the figures without a name are compared with
# What the parts are called on a page.
WORDS = {BEFORE_CRF: "before the CRF", CAM: "thresholded class maps"}
_WHOLE = "segmentation"


class Segments(Kind):
    """A segmentation: the whole brought to the photos' edges by a CRF, and before that a part.

    What is itself a part is scored as it is, without a CRF.
    """

    name = "segments"
    results = SegmentationScores
    ahead = 4  # photos under a CRF
    draws = True
    whole = "with CRF"
    tune_part = BEFORE_CRF

    def empty(self, class_names: Sequence[str]) -> SegmentationScores:
        """Results of no image, over the config's classes."""
        return SegmentationScores(class_names, tuple(self.config.eval.mean_classes))

    def score(self, image: LocalizedImage, truth: Truth, task: Task, part: str) -> dict[str, Row]:
        """One image's labels; without a mask there is nothing to score."""
        if truth.mask is None:
            return {}
        probabilities = segment_probabilities(image.maps, truth.mask.shape[::-1])
        plain = probabilities.argmax(axis=-1).astype(np.uint8)
        labels = {part: plain}
        if task.crf and not part:
            sharp = apply_crf(probabilities, truth.photo, self.config.eval.crf)
            labels = {"": sharp.argmax(axis=-1).astype(np.uint8), BEFORE_CRF: plain}
        keep = image.index in task.shown
        one = {"id": truth.record.image_id, "truth": truth.mask, "keep": keep}
        return {name: {**one, "labels": found} for name, found in labels.items()}

    def add(self, results: SegmentationScores, image: LocalizedImage, row: Row) -> None:
        """Enters one image's labels."""
        results.update(row["id"], row["truth"], row["labels"])
        results.true_maps[image.index] = image.true_map
        if row["keep"]:
            results.labels[image.index] = row["labels"]

    def check(self, lists: Lists) -> None:
        """A list needs masks; one without is told and goes unscored."""
        super().check(lists)
        for name, source in lists.tests.items():
            if not has_masks(source):
                logging.warning("list %s has no masks: no segmentation is scored on it", name)

    def choose_threshold(self, tune: Results | None, where: str) -> tuple[float, str]:
        """The heat on a page is a probability: its boxes stand where it is a half."""
        del tune, where
        return 0.5, "probability"

    def baseline(self, run: OpenedRun, maps: Network) -> Baseline | None:
        """The class maps that the segmentation grew from, thresholded."""
        return Thresholded(run, maps)

    def cards(self, source: Source, results: Results, threshold: float) -> list[Card]:
        """Each segmentation of the images that were drawn, beside the truth."""
        del threshold
        ious = dict(results.ious.items())
        named = {"": results, **results.parts}
        named = {n: one for n, one in named.items() if isinstance(one, SegmentationScores)}
        cards = []
        for index in results.labels:
            layers = {"truth": source.mask(index)}
            layers |= {WORDS.get(n, n) or _WHOLE: x.labels[index] for n, x in named.items()}
            iou = float(ious[source[index].image_id])
            heat = results.true_maps[index]
            cards.append(segment_card(source, index, layers, heat, iou, source.name))
        return cards


def segment_card(
    source: Source,
    index: int,
    layers: dict[str, np.ndarray],
    heat: np.ndarray,
    iou: float | None,
    split: str,
) -> Card:
    """A card of an image's segmentations; ``heat``: (h, w) in 0..1, ``split``: its shelf."""
    painted = {int(c) for layer in layers.values() for c in np.unique(layer)}
    return Card(
        index=index,
        score_map=np.clip(np.asarray(heat, np.float32), 0, 1),
        predicted=tuple(source.class_names[c - 1] for c in sorted(painted - {0, UNLABELLED})),
        true_boxes=np.zeros((0, 4)),
        iou=iou,
        layers=layers,
        split=split,
    )


def check_options(options: ml_collections.ConfigDict, class_names: Sequence[str]) -> None:
    """Raises UserError for what a segmentation could not be scored by."""
    unknown = [name for name in options.mean_classes if name not in class_names]
    if unknown:
        raise UserError(
            f"eval.mean_classes: {unknown[0]!r} is not one of the data's: {', '.join(class_names)}."
        )
    fixed = options.map_thresholds
    if len(fixed) not in (0, 2):
        raise UserError(f"eval.map_thresholds: expected a share and a class score, got {fixed}.")
    CrfSettings.of(options.crf, "eval.crf", "lattice")
