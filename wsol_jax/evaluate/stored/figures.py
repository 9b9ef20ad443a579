"""Stored score maps -> figures: one pass over the maps, on all cores."""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Sequence

import cv2
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.progress import Progress
from wsol_jax.base.threads import in_order, usable_cores
from wsol_jax.evaluate.stored.layout import BadFile, Metadata, find_maps, load_map, read_metadata
from wsol_jax.evaluate.stored.masks import MaskFiles, find_masks, load_masks
from wsol_jax.evaluate.stored.predictions import read_predictions
from wsol_jax.evaluate.stored.summary import (
    BOX_METRICS,
    CLASS_METRICS,
    METRICS,
    NEED_BOXES,
    NEED_CLASSES,
    TOP_LOC_METRICS,
    Entry,
    summarise,
)
from wsol_jax.metrics.boxes import THRESHOLDS, best_ious, nearest_threshold, resize_box
from wsol_jax.metrics.localization import BoxAccuracy, HitRates
from wsol_jax.metrics.maps import MAP_SIZE
from wsol_jax.metrics.masks import PixelAP, histogram

BEST = "best on these images"


@dataclasses.dataclass(frozen=True)
class Options:
    """What to score and how; the fields are the command's flags.

    Attributes:
      scoremaps, metadata: folders. masks: a folder, predictions: a file; "" for none.
      metrics: of ``summary.METRICS``; () for all that the other fields allow.
      threshold: of the boxes, on the grid of .001; None for the best on the images themselves.
      resize, normalise: as for ``layout.load_map``.
      skip_bad: leave out images whose map or mask is missing or bad, instead of raising.
      workers: threads; 0 for one a core. The figures do not depend on it.
    """

    scoremaps: str
    metadata: str
    masks: str = ""
    predictions: str = ""
    metrics: tuple[str, ...] = ()
    threshold: float | None = None
    resize: bool = False
    normalise: bool = False
    skip_bad: bool = False
    workers: int = 0


@dataclasses.dataclass(frozen=True)
class Result:
    """Attributes:
    metrics: as ``summary.summarise``, each also with "skipped", the number of bad images.
    images: how many were scored.
    bad: a sentence for each image that ``skip_bad`` left out.
    notes: what else the reader of the figures should know.
    """

    metrics: dict[str, Entry]
    images: int
    bad: list[str]
    notes: list[str]


def score_stored(options: Options) -> Result:
    """Scores a folder of maps.

    Raises:
      UserError: an input that is missing, malformed or refused, by name; without skip_bad, the
        first map or mask that is missing or bad.
    """
    metadata = read_metadata(options.metadata)
    metrics = options.metrics or _possible(options, metadata)
    _check_inputs(metrics, options, metadata)
    masks: dict[str, MaskFiles] = {}
    if "pxap" in metrics:
        masks = find_masks(options.masks, metadata, missing_ok=options.skip_bad)
    needs_classes = set(metrics) & {*NEED_CLASSES}
    ranked = read_predictions(options.predictions, metadata) if needs_classes else {}
    _check_ranks(metrics, options, metadata, ranked)
    paths = find_maps(options.scoremaps, metadata)
    bad = _missing(options, metadata, paths)
    notes = _unknown(metrics, metadata, masks)

    boxes, pixels = BoxAccuracy(), PixelAP()
    job = _Job(options, metadata, metrics, masks, pixels.edges)
    scored = []
    present = [i for i, path in enumerate(paths) if path is not None]
    cv2.setNumThreads(1)  # a thread an image already keeps every core busy
    workers = options.workers or usable_cores()
    with (
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
        Progress("score maps", len(present)) as bar,
    ):
        call = functools.partial(_outcome, job)
        work = in_order(pool, call, ((i, paths[i]) for i in present), ahead=4 * workers)
        for index, outcome in zip(present, work, strict=True):
            image_id = metadata.ids[index]
            if isinstance(outcome, BadFile):
                sentence = f"{outcome} ({metadata.where(index)})"
                if not options.skip_bad:
                    raise UserError(f"{sentence}; --skip_bad leaves such images out.")
                bad.append(sentence)
            else:
                scored.append(image_id)
                largest, every, counts = outcome
                if largest is not None:
                    boxes.update([image_id], largest[None], every[None])
                if counts is not None:
                    pixels.images.update([image_id], counts[None])
            bar.update()
    if not scored:
        raise UserError(f"--scoremaps={options.scoremaps}: every image is bad, first {bad[0]}.")
    if len(pixels) and not pixels.counts[1].any():
        raise UserError(
            f"--masks={options.masks}: no mask has foreground. In a plain folder 255 is ignored "
            "and 1 to 254 is foreground; masks of 0 and 255 need a localization.txt."
        )
    threshold = _threshold(metrics, options, boxes)
    hits = _class_hits(metadata, scored, ranked, boxes, threshold)
    found = summarise(metrics, boxes, pixels, hits, threshold)
    for entry in found.values():
        entry["skipped"] = len(bad)
    return Result(found, len(scored), bad, notes)


@dataclasses.dataclass(frozen=True)
class _Job:
    """One image's work: its map's IoUs at every threshold, its pixels' histogram."""

    options: Options
    metadata: Metadata
    metrics: Sequence[str]
    masks: dict[str, MaskFiles]
    edges: np.ndarray

    def __call__(self, index: int, path: str):
        image_id = self.metadata.ids[index]
        score_map = load_map(path, resize=self.options.resize, normalise=self.options.normalise)
        largest = every = counts = None
        if {*NEED_BOXES} & set(self.metrics) and image_id in self._boxes():
            size = self.metadata.sizes[image_id]
            truth = resize_box(self._boxes()[image_id], size, (MAP_SIZE, MAP_SIZE))
            largest = best_ious(score_map, truth, THRESHOLDS)
            every = np.zeros_like(largest)
            if "max_box_acc_v2" in self.metrics:
                every = best_ious(score_map, truth, THRESHOLDS, multi_contour=True)
        if image_id in self.masks:
            counts = histogram(score_map, *load_masks(self.masks[image_id]), self.edges)
        return largest, every, counts

    def _boxes(self) -> dict[str, np.ndarray]:
        return self.metadata.boxes or {}


def _outcome(job: _Job, item: tuple[int, str]):
    try:
        return job(*item)
    except BadFile as error:
        return error


def _possible(options: Options, metadata: Metadata) -> tuple[str, ...]:
    """The metrics whose inputs are there."""
    boxes = metadata.boxes is not None and metadata.sizes is not None
    classes = bool(options.predictions) and metadata.labels is not None
    there = dict.fromkeys(BOX_METRICS, boxes) | {"pxap": bool(options.masks)}
    there |= dict.fromkeys(CLASS_METRICS, classes)
    there |= dict.fromkeys(TOP_LOC_METRICS, classes and boxes)
    found = tuple(name for name in METRICS if there[name])
    if not found:
        raise UserError(
            f"--metadata={options.metadata} allows no metric: boxes need localization.txt and "
            "image_sizes.txt, pxap needs --masks=DIR."
        )
    return found


def _check_inputs(metrics: Sequence[str], options: Options, metadata: Metadata) -> None:
    """Raises UserError for a metric that lacks an input, naming the flag or file."""
    folder = metadata.folder
    for name in metrics:
        if name in NEED_BOXES:
            if metadata.boxes is None:
                raise UserError(
                    f"--metrics={name} needs boxes: {folder / 'localization.txt'} with "
                    "ID,X0,Y0,X1,Y1 a line"
                    + (" (it lists masks)." if metadata.masks is not None else ".")
                )
            if metadata.sizes is None:
                what = f"{folder / 'image_sizes.txt'} with ID,WIDTH,HEIGHT a line"
                raise UserError(f"--metrics={name} needs the images' sizes: {what}.")
            for image_id in metadata.boxes:
                if image_id not in metadata.sizes:
                    raise UserError(f"{folder / 'image_sizes.txt'}: no row for {image_id!r}.")
            if not metadata.boxes:
                what = f"{folder / 'localization.txt'} has no box of these images"
                raise UserError(f"--metrics={name}: {what}.")
        if name == "pxap" and not options.masks:
            listed = " that localization.txt's paths start from" if metadata.masks else ""
            raise UserError(f"--metrics=pxap needs masks: add --masks=DIR, the folder{listed}.")
        if name in NEED_CLASSES:
            if not options.predictions:
                raise UserError(f"--metrics={name} needs class scores: add --predictions=FILE.")
            if metadata.labels is None:
                what = f"{folder / 'class_labels.txt'} with ID,CLASS a line"
                raise UserError(f"--metrics={name} needs the images' classes: {what}.")
            for image_id in metadata.ids:
                if image_id not in metadata.labels:
                    raise UserError(f"{folder / 'class_labels.txt'}: no row for {image_id!r}.")


def _check_ranks(
    metrics: Sequence[str], options: Options, metadata: Metadata, ranked: dict[str, np.ndarray]
) -> None:
    """Raises UserError where Top-5 is asked of files that rank fewer classes."""
    if not ranked or not {"top5_acc", "top5_loc"} & set(metrics):
        return
    classes = 1 + max(max(labels) for labels in metadata.labels.values())
    for image_id, row in ranked.items():
        if len(row) < min(5, classes):
            raise UserError(
                f"--predictions={options.predictions}: {image_id!r} has {len(row)} ranked classes, "
                "Top-5 needs five; name other --metrics."
            )


def _missing(options: Options, metadata: Metadata, paths: Sequence[str | None]) -> list[str]:
    """A sentence for each image without a map."""
    missing = [i for i, path in enumerate(paths) if path is None]
    if not missing:
        return []
    looked = f"{options.scoremaps.rstrip('/')}/{metadata.ids[missing[0]]}.npy"
    first = f"{looked} ({metadata.where(missing[0])})"
    if len(missing) == len(paths):
        raise UserError(
            f"--scoremaps={options.scoremaps}: it has a map of none of the {len(paths)} images; "
            f"first looked for {first}."
        )
    if not options.skip_bad:
        raise UserError(
            f"--scoremaps={options.scoremaps}: {len(missing)} of {len(paths)} maps are missing, "
            f"first {first}; --skip_bad leaves such images out."
        )
    return [
        f"{options.scoremaps.rstrip('/')}/{metadata.ids[i]}.npy is missing ({metadata.where(i)})"
        for i in missing
    ]


def _unknown(metrics: Sequence[str], metadata: Metadata, masks: dict[str, MaskFiles]) -> list[str]:
    """What to say of images whose truth is not there."""
    notes = []
    for what, known, wanted in (
        ("box", metadata.boxes or {}, {*NEED_BOXES}),
        ("mask", masks, {"pxap"}),
    ):
        asked = [name for name in metrics if name in wanted]
        lacking = [i for i in metadata.ids if i not in known]
        if asked and lacking:
            notes.append(
                f"{len(lacking)} of {len(metadata.ids)} images have no {what} (first "
                f"{lacking[0]!r}) and do not count for {', '.join(asked)}"
            )
    return notes


def _threshold(
    metrics: Sequence[str], options: Options, boxes: BoxAccuracy
) -> tuple[float, str] | None:
    if not {"gt_known_loc", *TOP_LOC_METRICS} & set(metrics) or not len(boxes):
        return None
    if options.threshold is None:
        return boxes.best_threshold(), BEST
    return nearest_threshold(options.threshold), "--threshold"


def _class_hits(
    metadata: Metadata,
    scored: Sequence[str],
    ranked: dict[str, np.ndarray],
    boxes: BoxAccuracy,
    threshold: tuple[float, str] | None,
) -> HitRates:
    """Top-k results; a right class is located if the image's one map has a right box."""
    hits = HitRates(NEED_CLASSES)
    if not ranked:
        return hits
    located: dict[str, bool] = {}
    if threshold is not None:
        found = boxes.gt_known_hits(threshold[0])
        located = dict(zip(boxes.images.ids(), found.tolist(), strict=True))
    for image_id in scored:
        right = [int(c) in metadata.labels[image_id] for c in ranked[image_id][:5]]
        row = {"top1_acc": right[0], "top5_acc": any(right)}
        if image_id in located:
            row["top1_loc"] = right[0] and located[image_id]
            row["top5_loc"] = any(right) and located[image_id]
        hits.update(image_id, row)
    return hits
